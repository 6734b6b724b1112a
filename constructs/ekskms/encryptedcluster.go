package ekskms

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

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
	"github.com/ekskms/ekskms/internal/names"
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
	// Groups are Kubernetes groups that the principal is in, beside what Policy
	// gives: see [SecretReader].
	// Default: none.
	Groups *[]*string
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
	// PluginImage, PluginArchitecture, PluginMode and PluginTenants are those of
	// [KmsPluginProps].
	// Default: as there; the architecture is that of the NodeGroup.
	PluginImage        *string
	PluginArchitecture PluginArchitecture
	PluginMode         PluginMode
	PluginTenants      *[]*PluginTenant
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

// NewEncryptedCluster makes the cluster and all that is around it.
//
// It panics with a [*PropError] when ClusterName is missing or not a name that
// EKS takes, when the SecretsKey is for another cluster, when PublicAccessCidrs
// is empty or open to much of the world, when the SecretsKey is in another
// account or Region, when an access entry is incomplete, and when
// PluginArchitecture is not that of the NodeGroup.
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
	if !at.sameEnvironment(c.secretsKey.at) {
		reject(encryptedClusterType, "SecretsKey", "is in a stack of another account or Region, must be where the cluster is")
	}
	c.role = newRole(c.secretsKey.roleScope(c, at), "ClusterRole", &awsiam.RoleProps{
		Description:     jsii.String("Role of EKS cluster " + name),
		Path:            c.secretsKey.ClusterRolePath(),
		ManagedPolicies: &[]awsiam.IManagedPolicy{awsiam.ManagedPolicy_FromAwsManagedPolicyName(jsii.String("AmazonEKSClusterPolicy"))},
	}, keypolicy.ClusterTrust(at.account, at.arn("eks", "cluster/"+name), autoMode))
	c.secretsKey.GrantClusterRole(c.role)
	c.createLogGroup(at, name, props.ControlPlaneLogRetention)
	c.createCluster(props, autoMode)
	c.addAccess(props.AccessEntries)
	var nodes PluginArchitecture // any, in Auto Mode
	if props.NodeGroup != nil {
		nodes = c.addNodeGroup(props.NodeGroup, props.subnets())
	}
	if c.auditTrail == nil {
		c.auditTrail = NewAuditTrail(c, jsii.String("AuditTrail"), &AuditTrailProps{SecretsKey: c.secretsKey})
	}
	if !*orDefault(props.WithoutPlugin, false) {
		c.addPlugin(props, nodes, autoMode)
	}
	return c
}

func (props *EncryptedClusterProps) check() {
	const typ = encryptedClusterType
	checkClusterName(typ, props.ClusterName)
	name := *props.ClusterName
	switch {
	case props.SecretsKey != nil && props.SecretsKey.clusterName != name:
		reject(typ, "SecretsKey", "is the key of cluster %q, must be that of %q", props.SecretsKey.clusterName, name)
	case props.AuditTrail != nil && props.AuditTrail.secretsKey != props.SecretsKey:
		reject(typ, "AuditTrail", "watches another key, must watch the SecretsKey of this cluster: pass that too")
	case props.PluginTenants != nil && *orDefault(props.WithoutPlugin, false):
		reject(typ, "PluginTenants", "is set beside WithoutPlugin, which leaves their identities out too: remove one of them")
	}
	if cidrs := props.PublicAccessCidrs; cidrs != nil {
		if len(*cidrs) == 0 {
			reject(typ, "PublicAccessCidrs", "is an empty list: leave it out, or name who may reach the API")
		}
		for i, cidr := range *cidrs {
			require(typ, "PublicAccessCidrs["+strconv.Itoa(i)+"]", cidr != nil)
			if *awscdk.Token_IsUnresolved(cidr) || *awscdk.Token_IsUnresolved(*cidrs) {
				continue
			}
			prefix, err := netip.ParsePrefix(*cidr)
			switch {
			case err != nil || !prefix.Addr().Is4():
				reject(typ, "PublicAccessCidrs", "holds %q, must be IPv4 ranges such as 203.0.113.0/24", *cidr)
			case prefix.Bits() < 8:
				reject(typ, "PublicAccessCidrs", "holds %s, which opens the API to much of the world: name the ranges that need it, none larger than a /8", *cidr)
			}
		}
	}
	if props.AccessEntries != nil {
		for i, entry := range *props.AccessEntries {
			require(typ, "AccessEntries["+strconv.Itoa(i)+"]", entry != nil)
			require(typ, "AccessEntries["+strconv.Itoa(i)+"].PrincipalArn", entry.PrincipalArn != nil)
			require(typ, "AccessEntries["+strconv.Itoa(i)+"].Policy", entry.Policy != nil)
			if strings.Contains(*entry.Policy, ":") {
				reject(typ, "AccessEntries["+strconv.Itoa(i)+"].Policy", "is %q, must be the name of an access policy, such as AmazonEKSViewPolicy", *entry.Policy)
			}
			for j, group := range *orDefault(entry.Groups, nil) {
				at := "AccessEntries[" + strconv.Itoa(i) + "].Groups[" + strconv.Itoa(j) + "]"
				require(typ, at, group != nil)
				if problem := manifest.GroupProblem(*group); problem != "" {
					reject(typ, at, "is %q: %s", *group, problem)
				}
			}
			if entry.Namespaces != nil && len(*entry.Namespaces) == 0 {
				reject(typ, "AccessEntries["+strconv.Itoa(i)+"].Namespaces", "is an empty list: leave it out, or name namespaces")
			}
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
	// The group has a fixed name: if it stayed behind when the first deployment
	// failed, no other could succeed. Its key is of no use without it.
	removal := awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE
	logs := names.ControlPlaneLogGroup(name)
	c.logKey = newSupportKey(c, "LogsKey", names.LogsAlias(name), removal,
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
		RemovalPolicy: removal,
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
			warn(c, "kubectl-skew",
				"Kubernetes "+v+" is outside the version skew of the bundled kubectl "+kubectllayer.Version+
					": pass a KubectlLayer with a newer kubectl, or expect 'kubectl apply' to fail on new kinds of objects.")
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
		id := jsii.String("Access" + strconv.Itoa(i))
		c.cluster.GrantAccess(id, entry.PrincipalArn,
			&[]awseksv2.IAccessPolicy{awseksv2.AccessPolicy_FromAccessPolicyName(entry.Policy, scope)}, nil)
		if entry.Groups != nil {
			resource := c.cluster.Node().FindChild(id).Node().DefaultChild().(awseksv2.CfnAccessEntry)
			resource.SetKubernetesGroups(entry.Groups)
		}
	}
}

// addNodeGroup adds the nodes, and the two add-ons that Auto Mode has built in:
// the Pod Identity agent, and network policies in the VPC CNI. It returns the
// architecture of the nodes.
func (c *EncryptedCluster) addNodeGroup(group *NodeGroup, subnets *awsec2.SubnetSelection) PluginArchitecture {
	least := orDefault(group.MinSize, 2)
	types, architecture := group.instances()
	// Not left to a feature flag of the app: without it CDK takes Amazon Linux 2,
	// of which there is no image for these versions of Kubernetes.
	ami := awseksv2.NodegroupAmiType_AL2023_X86_64_STANDARD
	if architecture == PluginArchitectureArm64 {
		ami = awseksv2.NodegroupAmiType_AL2023_ARM_64_STANDARD
	}
	nodes := c.cluster.AddNodegroupCapacity(jsii.String("Nodes"), &awseksv2.NodegroupOptions{
		InstanceTypes: &types,
		AmiType:       ami,
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
	return architecture
}

// instances returns the instance types of the group, and their architecture.
func (group *NodeGroup) instances() ([]awsec2.InstanceType, PluginArchitecture) {
	names := group.InstanceTypes
	if names == nil || len(*names) == 0 {
		names = jsii.Strings("m7i.large")
	}
	types := make([]awsec2.InstanceType, len(*names))
	for i, name := range *names {
		require(encryptedClusterType, "NodeGroup.InstanceTypes["+strconv.Itoa(i)+"]", name != nil)
		types[i] = awsec2.NewInstanceType(name)
	}
	if types[0].Architecture() == awsec2.InstanceArchitecture_ARM_64 {
		return types, PluginArchitectureArm64
	}
	return types, PluginArchitectureAmd64
}

func (c *EncryptedCluster) addPlugin(props *EncryptedClusterProps, nodes PluginArchitecture, autoMode bool) {
	architecture := props.PluginArchitecture
	switch {
	case architecture == "":
		architecture = nodes
	case nodes != "" && architecture != nodes:
		reject(encryptedClusterType, "PluginArchitecture", "is %q, must be %q as the instance types of NodeGroup are", architecture, nodes)
	}
	c.plugin = NewKmsPlugin(c, jsii.String("KmsPlugin"), &KmsPluginProps{
		Cluster:      c.cluster,
		SecretsKey:   c.secretsKey,
		Image:        props.PluginImage,
		Architecture: architecture,
		Mode:         props.PluginMode,
		Tenants:      props.PluginTenants,
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
