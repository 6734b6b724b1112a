package ekskms

import (
	"regexp"
	"slices"
	"strconv"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseksv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/kubectllayer"
	"github.com/ekskms/ekskms/internal/manifest"
)

// NodeGroup is a managed node group as the capacity of a cluster.
type NodeGroup struct {
	// InstanceTypes are EC2 instance types of one CPU architecture.
	// Default: m7i.large.
	InstanceTypes *[]*string
	// MinSize is the least number of nodes.
	// Default: 2.
	MinSize *float64
	// MaxSize is the largest number of nodes.
	// Default: 4.
	MaxSize *float64
	// DesiredSize is the number of nodes at first.
	// Default: MinSize.
	DesiredSize *float64
}

// AccessEntry gives an IAM principal access to the Kubernetes API.
type AccessEntry struct {
	// PrincipalArn is the ARN of an IAM role or user. Required.
	PrincipalArn *string
	// Policy is the name of an EKS access policy, such as AmazonEKSViewPolicy.
	// Required.
	Policy *string
	// Namespaces to which the policy applies.
	// Default: the whole cluster.
	Namespaces *[]*string
}

// EncryptedClusterProps configures an [EncryptedCluster].
type EncryptedClusterProps struct {
	// ClusterName names the cluster. It is part of the names and ARNs that the
	// key policy and the encryption context hold, and can't be changed later.
	// Required.
	ClusterName *string
	// KubernetesVersion of the control plane. The kubectl layer that is bundled
	// holds kubectl 1.34, which supports one minor version more and less: pass
	// a KubectlLayer for others.
	// Default: 1.35.
	KubernetesVersion awseksv2.KubernetesVersion
	// Vpc of the cluster. Its subnets must reach AWS's APIs: through a NAT
	// gateway or VPC endpoints.
	// Default: a new VPC with two Availability Zones and one NAT gateway.
	Vpc awsec2.IVpc
	// VpcSubnets for the network interfaces of the control plane, the nodes and
	// the kubectl handler.
	// Default: the private subnets with egress.
	VpcSubnets *awsec2.SubnetSelection
	// PublicAccessCidrs opens the Kubernetes API to these address ranges
	// besides the VPC. 0.0.0.0/0 is refused.
	// Default: the API can be reached from the VPC only.
	PublicAccessCidrs *[]*string
	// NodeGroup is a managed node group that carries the workloads.
	// Default: EKS Auto Mode.
	NodeGroup *NodeGroup
	// SecretsKey encrypts the secrets. Make one with [NewSecretsKey] to choose
	// its props; its ClusterName must be that of this cluster.
	// Default: a new key with default props.
	SecretsKey *SecretsKey
	// AuditTrail records the use of the key. Make one with [NewAuditTrail] to
	// choose its props; its SecretsKey must be that of this cluster.
	// Default: a new trail and alarms with default props.
	AuditTrail *AuditTrail
	// ControlPlaneLogRetention is how long the logs of the control plane are
	// kept.
	// Default: one year.
	ControlPlaneLogRetention awslogs.RetentionDays
	// AccessEntries give principals access to the Kubernetes API. Nobody has
	// access without one, whoever creates the cluster included; only the
	// kubectl handler of this stack is an administrator.
	// Default: none.
	AccessEntries *[]*AccessEntry
	// KubectlLayer is the Lambda layer with kubectl and Helm for the handler
	// that applies Kubernetes objects.
	// Default: a layer with kubectl 1.34.
	KubectlLayer awslambda.ILayerVersion
	// WithoutPlugin leaves the KMS plugin out. The secrets of EKS's own API
	// server are encrypted all the same.
	// Default: false.
	WithoutPlugin *bool
	// PluginImage, PluginArchitecture and PluginMode are those of
	// [KmsPluginProps].
	// Default: as there.
	PluginImage        *string
	PluginArchitecture PluginArchitecture
	PluginMode         PluginMode
}

// EncryptedCluster is an EKS cluster whose secrets are encrypted under a
// [SecretsKey], with its [AuditTrail] and its [KmsPlugin].
//
// The API endpoint is private, all five kinds of control-plane logs go to an
// encrypted log group, access is by access entries only, the cluster is
// protected against deletion, and EKS can assume the cluster role for this
// cluster alone.
type EncryptedCluster struct {
	constructs.Construct
	cluster    awseksv2.Cluster
	vpc        awsec2.IVpc
	role       awsiam.Role
	secretsKey *SecretsKey
	auditTrail *AuditTrail
	plugin     *KmsPlugin
	logGroup   awslogs.LogGroup
	logKey     awskms.Key
	region     string
}

const encryptedClusterType = "EncryptedCluster"

// clusterName is the pattern of CreateCluster in the Amazon EKS API Reference.
var clusterName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_-]{0,99}$`)

// NewEncryptedCluster makes the cluster and all that is around it.
//
// It panics with a [*PropError] when ClusterName is missing or not a name that
// EKS takes, when the SecretsKey is for another cluster, when PublicAccessCidrs
// is empty or open to the world, and when an access entry is incomplete.
func NewEncryptedCluster(scope constructs.Construct, id *string, props *EncryptedClusterProps) *EncryptedCluster {
	if props == nil {
		props = &EncryptedClusterProps{}
	}
	props.check()

	c := &EncryptedCluster{secretsKey: props.SecretsKey, auditTrail: props.AuditTrail, vpc: props.Vpc}
	constructs.NewConstruct_Override(c, scope, id)
	name := *props.ClusterName
	at := placeOf(c)
	c.region = at.region
	autoMode := props.NodeGroup == nil

	if c.vpc == nil {
		c.vpc = NewClusterVpc(c, jsii.String("Vpc"), nil)
	}
	if c.secretsKey == nil {
		c.secretsKey = NewSecretsKey(c, jsii.String("SecretsKey"), &SecretsKeyProps{ClusterName: props.ClusterName})
	}
	c.role = newRole(c, "ClusterRole", &awsiam.RoleProps{
		Description:     jsii.String("Role of EKS cluster " + name),
		Path:            c.secretsKey.ClusterRolePath(),
		ManagedPolicies: &[]awsiam.IManagedPolicy{awsiam.ManagedPolicy_FromAwsManagedPolicyName(jsii.String("AmazonEKSClusterPolicy"))},
	}, keypolicy.ClusterTrust(at.account, at.arn("eks", "cluster/"+name), autoMode))
	c.secretsKey.GrantClusterRole(c.role)
	c.createLogGroup(at, name, props.ControlPlaneLogRetention)
	c.createCluster(props, autoMode)
	c.addAccess(props.AccessEntries)
	if props.NodeGroup != nil {
		c.addNodeGroup(props.NodeGroup, props.subnets())
	}
	if c.auditTrail == nil {
		c.auditTrail = NewAuditTrail(c, jsii.String("AuditTrail"), &AuditTrailProps{SecretsKey: c.secretsKey})
	}
	if !*orDefault(props.WithoutPlugin, false) {
		c.addPlugin(props, autoMode)
	}
	return c
}

func (props *EncryptedClusterProps) check() {
	const typ = encryptedClusterType
	require(typ, "ClusterName", props.ClusterName != nil)
	name := *props.ClusterName
	switch {
	case *awscdk.Token_IsUnresolved(props.ClusterName):
		reject(typ, "ClusterName", "is not known at synthesis, but the names of the key and the trail are made of it: pass a literal")
	case !clusterName.MatchString(name):
		reject(typ, "ClusterName", "is %q, must be 1 to 100 letters, digits, hyphens and underscores, and begin with a letter or digit", name)
	case props.SecretsKey != nil && props.SecretsKey.clusterName != name:
		reject(typ, "SecretsKey", "is the key of cluster %q, must be that of %q", props.SecretsKey.clusterName, name)
	case props.AuditTrail != nil && props.AuditTrail.secretsKey != props.SecretsKey:
		reject(typ, "AuditTrail", "watches another key, must watch the SecretsKey of this cluster: pass that too")
	}
	if cidrs := props.PublicAccessCidrs; cidrs != nil {
		if len(*cidrs) == 0 {
			reject(typ, "PublicAccessCidrs", "is an empty list: leave it out, or name who may reach the API")
		}
		for _, cidr := range *cidrs {
			if *cidr == "0.0.0.0/0" || *cidr == "::/0" {
				reject(typ, "PublicAccessCidrs", "holds %s, which opens the API to the world: name the ranges that need it", *cidr)
			}
		}
	}
	if props.AccessEntries != nil {
		for i, entry := range *props.AccessEntries {
			require(typ, "AccessEntries["+strconv.Itoa(i)+"].PrincipalArn", entry.PrincipalArn != nil)
			require(typ, "AccessEntries["+strconv.Itoa(i)+"].Policy", entry.Policy != nil)
		}
	}
}

func (props *EncryptedClusterProps) subnets() *awsec2.SubnetSelection {
	if props.VpcSubnets != nil {
		return props.VpcSubnets
	}
	return &awsec2.SubnetSelection{SubnetType: awsec2.SubnetType_PRIVATE_WITH_EGRESS}
}

// createLogGroup makes the log group to which EKS writes by its name. If it
// were not there, EKS would make one that is neither encrypted with a CMK nor
// ever cleared.
func (c *EncryptedCluster) createLogGroup(at place, name string, retention awslogs.RetentionDays) {
	if retention == "" {
		retention = awslogs.RetentionDays_ONE_YEAR
	}
	logs := "/aws/eks/" + name + "/cluster"
	c.logKey = newSupportKey(c, "LogsKey", "alias/eks/"+name+"/logs",
		"Encrypts the control-plane logs of EKS cluster "+name, keypolicy.LogGroupKey{
			Partition:   at.partition,
			Account:     at.account,
			LogsService: at.service("logs"),
			LogGroupARN: at.arn("logs", "log-group:"+logs),
		}.Statements())
	c.logGroup = awslogs.NewLogGroup(c, jsii.String("Logs"), &awslogs.LogGroupProps{
		LogGroupName:  jsii.String(logs),
		Retention:     retention,
		EncryptionKey: c.logKey,
		RemovalPolicy: awscdk.RemovalPolicy_RETAIN,
	})
}

func (c *EncryptedCluster) createCluster(props *EncryptedClusterProps, autoMode bool) {
	version := props.KubernetesVersion
	if version == nil {
		version = awseksv2.KubernetesVersion_V1_35()
	}
	layer := props.KubectlLayer
	if layer == nil {
		layer = kubectllayer.New(c, jsii.String("KubectlLayer"))
		if v := *version.Version(); !slices.Contains(kubectllayer.Supports(), v) {
			awscdk.Annotations_Of(c).AddWarningV2(jsii.String("ekskms:kubectl-skew"), jsii.String(
				"Kubernetes "+v+" is outside the version skew of the bundled kubectl "+kubectllayer.Version+
					": pass a KubectlLayer with a newer kubectl, or expect 'kubectl apply' to fail on new kinds of objects."))
		}
	}
	endpoint := awseksv2.EndpointAccess_PRIVATE()
	if props.PublicAccessCidrs != nil {
		endpoint = awseksv2.EndpointAccess_PUBLIC_AND_PRIVATE().OnlyFrom(*props.PublicAccessCidrs...)
	}
	capacity, instances := awseksv2.DefaultCapacityType_AUTOMODE, (*float64)(nil)
	if !autoMode {
		// The node group is made by this construct, with all its settings.
		capacity, instances = awseksv2.DefaultCapacityType_NODEGROUP, jsii.Number(0)
	}
	c.cluster = awseksv2.NewCluster(c, jsii.String("Cluster"), &awseksv2.ClusterProps{
		ClusterName:         props.ClusterName,
		Version:             version,
		Vpc:                 c.vpc,
		VpcSubnets:          &[]*awsec2.SubnetSelection{props.subnets()},
		EndpointAccess:      endpoint,
		Role:                c.role,
		DefaultCapacityType: capacity,
		DefaultCapacity:     instances,
		ClusterLogging: &[]awseksv2.ClusterLoggingTypes{
			awseksv2.ClusterLoggingTypes_API,
			awseksv2.ClusterLoggingTypes_AUDIT,
			awseksv2.ClusterLoggingTypes_AUTHENTICATOR,
			awseksv2.ClusterLoggingTypes_CONTROLLER_MANAGER,
			awseksv2.ClusterLoggingTypes_SCHEDULER,
		},
		SecretsEncryptionKey:                    c.secretsKey.key,
		BootstrapClusterCreatorAdminPermissions: jsii.Bool(false),
		OutputConfigCommand:                     jsii.Bool(false),
		KubectlProviderOptions:                  &awseksv2.KubectlProviderOptions{KubectlLayer: layer},
	})
	resource := c.cluster.Node().DefaultChild().(awseksv2.CfnCluster)
	resource.SetDeletionProtection(jsii.Bool(true))
	resource.Node().AddDependency(c.logGroup, c.role)
}

func (c *EncryptedCluster) addAccess(entries *[]*AccessEntry) {
	if entries == nil {
		return
	}
	for i, entry := range *entries {
		scope := &awseksv2.AccessPolicyNameOptions{AccessScopeType: awseksv2.AccessScopeType_CLUSTER}
		if entry.Namespaces != nil {
			scope = &awseksv2.AccessPolicyNameOptions{
				AccessScopeType: awseksv2.AccessScopeType_NAMESPACE,
				Namespaces:      entry.Namespaces,
			}
		}
		c.cluster.GrantAccess(jsii.String("Access"+strconv.Itoa(i)), entry.PrincipalArn,
			&[]awseksv2.IAccessPolicy{awseksv2.AccessPolicy_FromAccessPolicyName(entry.Policy, scope)}, nil)
	}
}

// addNodeGroup adds the nodes, and the two add-ons that Auto Mode has built in:
// the Pod Identity agent, and network policies in the VPC CNI.
func (c *EncryptedCluster) addNodeGroup(group *NodeGroup, subnets *awsec2.SubnetSelection) {
	least := orDefault(group.MinSize, 2)
	types := group.InstanceTypes
	if types == nil {
		types = jsii.Strings("m7i.large")
	}
	instances := make([]awsec2.InstanceType, len(*types))
	for i, name := range *types {
		instances[i] = awsec2.NewInstanceType(name)
	}
	nodes := c.cluster.AddNodegroupCapacity(jsii.String("Nodes"), &awseksv2.NodegroupOptions{
		InstanceTypes: &instances,
		MinSize:       least,
		MaxSize:       orDefault(group.MaxSize, max(4, *least)),
		DesiredSize:   orDefault(group.DesiredSize, *least),
		Subnets:       subnets,
	})
	awseksv2.NewAddon(c, jsii.String("PodIdentityAgent"), &awseksv2.AddonProps{
		Cluster:   c.cluster,
		AddonName: jsii.String("eks-pod-identity-agent"),
	})
	cni := awseksv2.NewAddon(c, jsii.String("VpcCni"), &awseksv2.AddonProps{
		Cluster:             c.cluster,
		AddonName:           jsii.String("vpc-cni"),
		ConfigurationValues: &map[string]any{"enableNetworkPolicy": "true"},
	})
	// The add-on takes over from the copy with which EKS starts a cluster.
	cni.Node().DefaultChild().(awseksv2.CfnAddon).SetResolveConflicts(jsii.String("OVERWRITE"))
	nodes.Node().AddDependency(cni)
}

func (c *EncryptedCluster) addPlugin(props *EncryptedClusterProps, autoMode bool) {
	c.plugin = NewKmsPlugin(c, jsii.String("KmsPlugin"), &KmsPluginProps{
		Cluster:      c.cluster,
		SecretsKey:   c.secretsKey,
		Image:        props.PluginImage,
		Architecture: props.PluginArchitecture,
		Mode:         props.PluginMode,
	})
	if autoMode {
		// Auto Mode enforces network policies only where this says so. Source:
		// Amazon EKS User Guide, "Use Network Policies with EKS Auto Mode".
		enabled := newManifest(c, "NetworkPolicies", c.cluster, []runtime.Object{manifest.EnableNetworkPolicies()})
		c.plugin.manifest.Node().AddDependency(enabled)
	}
}

// Cluster returns the EKS cluster.
func (c *EncryptedCluster) Cluster() awseksv2.Cluster { return c.cluster }

// Vpc returns the VPC of the cluster.
func (c *EncryptedCluster) Vpc() awsec2.IVpc { return c.vpc }

// Role returns the IAM role with which EKS runs the cluster.
func (c *EncryptedCluster) Role() awsiam.IRole { return c.role }

// SecretsKey returns the key that encrypts the secrets.
func (c *EncryptedCluster) SecretsKey() *SecretsKey { return c.secretsKey }

// AuditTrail returns the record of the key's use and the alarms.
func (c *EncryptedCluster) AuditTrail() *AuditTrail { return c.auditTrail }

// KmsPlugin returns the plugin, or nil if it was left out.
func (c *EncryptedCluster) KmsPlugin() *KmsPlugin { return c.plugin }

// LogGroup returns the log group of the control plane.
func (c *EncryptedCluster) LogGroup() awslogs.ILogGroup { return c.logGroup }

// LogsKey returns the key that encrypts the log group.
func (c *EncryptedCluster) LogsKey() awskms.IKey { return c.logKey }

// UpdateKubeconfigCommand returns the command with which a principal that has
// an access entry makes kubectl talk to the cluster.
func (c *EncryptedCluster) UpdateKubeconfigCommand() *string {
	return jsii.String("aws eks update-kubeconfig --name " + *c.cluster.ClusterName() + " --region " + c.region)
}
