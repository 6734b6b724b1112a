package blueprint

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/internal/place"
)

// AuthenticationMode of the API: access entries alone.
const AuthenticationMode = "API"

// Kubectl is the handler with which the CDK applies Kubernetes objects: an administrator
// of the cluster, as which any principal that may invoke it acts. EKS has no narrower access policy
// with which namespaces and admission policies can be made, and a role of Kubernetes' own
// would have to be made by an administrator first.
type Kubectl struct {
	// Functions are the handler and the one through which CloudFormation calls it.
	Functions []string
	// Logs of both: the objects that are applied, and what is read.
	Logs  LogGroup
	Trust iampolicy.Statement
}

// Kubectl is the handler, where there is one.
func (c Cluster) Kubectl() Kubectl {
	return Kubectl{
		Functions: []string{place.KubectlHandler(c.Name), place.KubectlFramework(c.Name)},
		Logs:      LogGroup{place.KubectlLogGroup(c.Name), KubectlLogDays},
		Trust:     keypolicy.FunctionTrust(c.At.Account.Text()),
	}
}

// KubectlARNs are those of its functions.
func (c Cluster) KubectlARNs() (arns []string) {
	for _, name := range c.Kubectl().Functions {
		arns = append(arns, c.At.ARN("lambda", "function:"+name))
	}
	return arns
}

// AllAccessEntries are those that are given, and after them those of the principals
// that read secrets, which have groups and no policy.
func (c Cluster) AllAccessEntries() []AccessEntry {
	entries := slices.Clone(c.AccessEntries)
	for _, r := range c.Secrets.Readers {
		for _, arn := range r.PrincipalARNs {
			i := slices.IndexFunc(entries, func(e AccessEntry) bool { return e.PrincipalARN == arn })
			if i < 0 {
				i = len(entries)
				entries = append(entries, AccessEntry{PrincipalARN: arn})
			}
			for _, group := range r.Groups {
				if !slices.Contains(entries[i].Groups, group) {
					entries[i].Groups = append(slices.Clip(entries[i].Groups), group)
				}
			}
		}
	}
	return entries
}

// Objects are the Kubernetes objects of the cluster. Each list is for after the one
// before it.
type Objects struct {
	// Network has network policies enforced.
	Network []runtime.Object
	// Plugin is what the plugin has in every mode, Nodes what mode daemonset has
	// beside it: a cluster that leaves that mode must lose the second part, whose
	// policies would go on to refuse pods.
	Plugin, Nodes []runtime.Object
	// Secrets are roles and bindings of who may read secrets, and the guard.
	Secrets []runtime.Object
	// Volumes puts volumes of pods, and nodes of Auto Mode, under a key.
	Volumes []runtime.Object
}

// All are all objects in the order in which to apply them.
func (o Objects) All() []runtime.Object {
	return slices.Concat(o.Volumes, o.Network, o.Plugin, o.Nodes, o.Secrets)
}

// Objects are the Kubernetes objects of the cluster, with the plugin's image.
func (c Cluster) Objects(image string) (o Objects, err error) {
	o.Volumes = c.VolumeObjects()
	if c.Plugin != nil {
		if c.AutoMode() {
			o.Network = NetworkPolicies()
		}
		if o.Plugin, o.Nodes, err = manifest.PluginParts(c.PluginInput(image)); err != nil {
			return o, err
		}
	}
	if c.Secrets.Makes() {
		o.Secrets, err = manifest.SecretsRBAC(c.Secrets.Input())
	}
	return o, err
}

// NetworkPolicies has Auto Mode enforce network policies, which it does only where it
// is told so. Source: Amazon EKS User Guide, "Use Network Policies with EKS Auto Mode".
func NetworkPolicies() []runtime.Object { return []runtime.Object{manifest.EnableNetworkPolicies()} }

// PluginInput is what the plugin's objects are made of.
func (c Cluster) PluginInput(image string) manifest.PluginInput {
	return manifest.PluginInput{
		ClusterName:       c.Name,
		ClusterARN:        c.ARN(),
		KeyARN:            c.KeyARN(),
		Image:             image,
		EncryptionContext: keypolicy.ClusterContext(c.ARN()),
		Mode:              c.Plugin.Mode,
		Architecture:      c.Plugin.Architecture,
		HostPaths:         c.Plugin.HostPaths,
	}
}

// Makes tells whether there is anything to make of it.
func (s Secrets) Makes() bool {
	return len(s.Readers) > 0 || s.Guard != "" && s.Guard != manifest.GuardOff
}

// Input is what the objects are made of.
func (s Secrets) Input() manifest.SecretsRBACInput {
	in := manifest.SecretsRBACInput{Guard: s.Guard, GuardExemptions: s.GuardExemptions}
	for _, r := range s.Readers {
		in.Readers = append(in.Readers, r.SecretReader)
	}
	return in
}

// Output is a value that a deployment tells.
type Output struct{ ID, Description string }

// Outputs are those of a finished stack or module.
var Outputs = struct {
	ClusterName, UpdateKubeconfig, KeyARN, LogsKeyARN, TrailARN, TopicARN, TestAlarm, PluginRoleARN, ExistingKey, VolumesKey Output
}{
	Output{"ClusterName", "Name of the EKS cluster"},
	Output{"UpdateKubeconfig", "Command that makes kubectl talk to the cluster"},
	Output{"KeyArn", "ARN of the key that encrypts the secrets"},
	Output{"LogsKeyArn", "ARN of the key that encrypts the logs of the control plane"},
	Output{"TrailArn", "ARN of the trail that records every use of the key"},
	Output{"TopicArn", "ARN of the topic that receives the alarms"},
	Output{"TestAlarm", "Command that changes nothing and raises the alarm AliasChanged, to see one arrive"},
	Output{"PluginRoleArn", "ARN of the KMS plugin's IAM role"},
	Output{"ExistingKeyPolicyStatements", "What the owner of the existing key must add to its policy, as a JSON list of statements."},
	Output{"VolumesKeyPolicyStatements", "What the owner of the existing key of the volumes must add to its policy, as a JSON list of statements."},
}

// StackDescription is that of a stack with the cluster.
func (c Cluster) StackDescription() string {
	return "EKS cluster " + c.Name + " with secrets encrypted under a customer-managed key (ekskms)"
}

// SharedDescription is that of the stack with the record of several clusters, and
// AlarmsDescription that of the one with their alarms.
const (
	SharedDescription  = "Audit trail and alarm topic of the EKS clusters in this account and Region (ekskms)"
	NetworkDescription = "VPC of EKS clusters in this account and Region (ekskms)"
	KeysDescription    = "Keys of EKS clusters of other accounts in this Region (ekskms)"
	AlarmsDescription  = "Alarms on the keys of the EKS clusters in this account and Region (ekskms)"
)

// StackName is that of the stack.
func (c Cluster) StackName() string { return place.Stack(c.Name) }

// UpdateKubeconfig is the command that makes kubectl talk to the cluster.
func UpdateKubeconfig(name, region string) string {
	return "aws eks update-kubeconfig --name " + name + " --region " + region
}

// TestAlarm is a command that raises an alarm and changes nothing: it points the alias to the
// key that it stands for. That KMS takes that is inferred.
func TestAlarm(alias, keyARN, region string) string {
	return "aws kms update-alias --alias-name " + alias + " --target-key-id " + keyARN + " --region " + region
}

// KMSCalls are the requests to KMS of the plugins that watch the key, by who makes
// them, each minute.
func (c Cluster) KMSCalls(nodes, apiServers int) (watching, onNodes, tenants int) {
	if c.Plugin == nil {
		return 0, 0, 0
	}
	if c.Plugin.Mode == manifest.DaemonSet {
		onNodes = nodes * ProbeCalls
	}
	return Replicas * (ProbeCalls + WatchCalls), onNodes, len(c.Plugin.Tenants) * apiServers * ProbeCalls
}
