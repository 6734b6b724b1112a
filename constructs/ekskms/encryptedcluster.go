package ekskms

import (
	"net/netip"
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

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/eksversion"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/kubectllayer"
	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/internal/place"
)

// AccessEntry gives an IAM principal access to the Kubernetes API.
type AccessEntry struct {
	// Principal is the ARN of an IAM role or user. Required.
	Principal *string
	// AccessPolicies say what the principal may do, and where: see
	// awseksv2.AccessPolicy_FromAccessPolicyName.
	// Default: none, and then Groups must be given.
	AccessPolicies *[]awseksv2.IAccessPolicy
	// Groups are Kubernetes groups that the principal is in, beside what the policies
	// give: see [SecretReader].
	// Default: none.
	Groups *[]*string
}

// SupportPolicy says what EKS does when the standard support of a Kubernetes version
// ends. Source: Amazon EKS User Guide, "View current cluster upgrade policy".
type SupportPolicy string

const (
	// SupportPolicyStandard has EKS upgrade the cluster to the next version.
	SupportPolicyStandard SupportPolicy = "STANDARD"
	// SupportPolicyExtended leaves it as it is, at the price of extended support.
	SupportPolicyExtended SupportPolicy = "EXTENDED"
)

// NodePools are built-in node pools of EKS Auto Mode.
type NodePools string

const (
	// NodePoolsBoth are general-purpose and system.
	NodePoolsBoth NodePools = blueprint.BothPools
	// NodePoolsGeneralPurpose is the one for workloads.
	NodePoolsGeneralPurpose NodePools = "general-purpose"
	// NodePoolsSystem is the one for critical add-ons: other pods do not tolerate its taint.
	NodePoolsSystem NodePools = "system"
	// NodePoolsNone leaves both out: pods wait for node pools of your own.
	NodePoolsNone NodePools = blueprint.NoPools
)

// Nodegroup is one of several managed node groups.
type Nodegroup struct {
	// Id tells it apart from the others, as a part of the ID of its construct: another Id
	// is another node group. Required.
	Id *string
	// Options of the group. What they leave open is as with EncryptedClusterProps.Nodegroup.
	// Default: those.
	Options *awseksv2.NodegroupOptions
	// KubernetesVersion of the nodes.
	// Default: that of the cluster, which the nodes follow.
	KubernetesVersion awseksv2.KubernetesVersion
}

// FargateProfile says which pods AWS Fargate runs.
type FargateProfile struct {
	// Id tells it apart from the others, as a part of the ID of its construct. Required.
	Id *string
	// Selectors choose the pods: 1 to 5. Required.
	Selectors *[]*awseksv2.Selector
}

// AddOn is an EKS add-on.
type AddOn struct {
	// Name of the add-on, such as coredns. Required.
	Name *string
	// Version of the add-on.
	// Default: the one that EKS takes for the version of Kubernetes.
	Version *string
	// ConfigurationValues are its settings.
	// Default: none.
	ConfigurationValues *map[string]interface{}
	// ServiceAccount of its pods that gets the Role by Pod Identity. Given with Role.
	// Default: none.
	ServiceAccount *string
	// Role is the ARN of the IAM role of the ServiceAccount.
	// Default: none.
	Role *string
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
	// SupportPolicy says what EKS does when the version's standard support ends.
	// Default: that of EKS, SupportPolicyExtended.
	SupportPolicy SupportPolicy
	// Vpc of the cluster. Its subnets must reach AWS's APIs: through a NAT
	// gateway or VPC endpoints.
	// Default: a new VPC with two Availability Zones and one NAT gateway.
	Vpc awsec2.IVpc
	// VpcSubnets for the network interfaces of the control plane, the nodes and
	// the kubectl handler.
	// Default: the private subnets with egress.
	VpcSubnets *awsec2.SubnetSelection
	// SecurityGroups of the network interfaces of the control plane, beside the one that
	// EKS makes: at most 4.
	// Default: a new one without rules.
	SecurityGroups *[]awsec2.ISecurityGroup
	// PublicAccessCidrs opens the Kubernetes API to these address ranges
	// besides the VPC. 0.0.0.0/0 is refused.
	// Default: the API can be reached from the VPC only.
	PublicAccessCidrs *[]*string
	// Nodegroup is a managed node group that carries the workloads. What it leaves
	// open: instances m7i.large, Amazon Linux 2023 for their architecture, 2 to 4
	// nodes, the VpcSubnets.
	// Default: EKS Auto Mode.
	Nodegroup *awseksv2.NodegroupOptions
	// Nodegroups are several managed node groups, with one role unless their options name
	// others. An empty list makes none: Karpenter, Fargate or nodes of your own come later.
	// Not beside Nodegroup.
	// Default: that of Nodegroup.
	Nodegroups *[]*Nodegroup
	// NodePools are the built-in ones of Auto Mode. Not beside Nodegroup or Nodegroups.
	// Default: NodePoolsBoth.
	NodePools NodePools
	// FargateProfiles say which pods AWS Fargate runs. Fargate has no Pod Identity: the
	// plugin can't run there.
	// Default: none.
	FargateProfiles *[]*FargateProfile
	// NodeRoles are the ARNs of the IAM roles of nodes that come later. Each gets the
	// access entry with which its nodes join the cluster: of type EC2 with Auto Mode, and
	// EC2_LINUX otherwise. Source: Amazon EKS User Guide, "Create access entries".
	// Default: none.
	NodeRoles *[]*string
	// AddOns are EKS add-ons. One of those that nodes of one's own get in any case, the
	// Pod Identity agent and the VPC CNI, is added to what that has.
	// Default: no others.
	AddOns *[]*AddOn
	// Volumes puts the disks of the nodes, and the volumes of pods with the storage class
	// encrypted, under a key. With Auto Mode NodePools must be NodePoolsNone: the nodes are
	// of a node class and a node pool named encrypted, which the KubectlHandler applies. On
	// node groups, volumes of pods need the add-on aws-ebs-csi-driver with a Role, which
	// gets access to the key.
	// Default: the disks are under the default key for EBS of the account.
	Volumes *VolumesOptions
	// SecretsKey encrypts the secrets. Make one with [NewSecretsKey] to choose
	// its props; its ClusterName must be that of this cluster.
	// Default: a new key with default props.
	SecretsKey ISecretsKey
	// AuditTrail records the use of the key. Make one with [NewAuditTrail] to
	// choose its props; its SecretsKey must be that of this cluster.
	// Default: a new trail and alarms with default props.
	AuditTrail IAuditTrail
	// ControlPlaneLogRetention is how long the logs of the control plane are
	// retained.
	// Default: one year.
	ControlPlaneLogRetention awslogs.RetentionDays
	// AccessEntries give principals access to the Kubernetes API. Nobody has
	// access without one, not even the principal that creates the cluster; only the
	// kubectl handler of this stack is an administrator. AddAccessEntry adds others.
	// Default: none.
	AccessEntries *[]*AccessEntry
	// KubectlLayer is the Lambda layer with kubectl and Helm for the handler
	// that applies Kubernetes objects.
	// Default: a layer with kubectl 1.34.
	KubectlLayer awslambda.ILayerVersion
	// KubectlHandler makes the Lambda function with which the CDK applies Kubernetes
	// objects. Any principal that may invoke it is an administrator of the cluster, past the private
	// endpoint: see docs/explanation/security-model.md. Cluster().AddManifest and [NewSecretsRbac] need
	// it.
	// Default: made where the Plugin applies objects, Volumes or a KubectlLayer is given, and
	// not otherwise.
	KubectlHandler *bool
	// Plugin says how the KMS plugin is deployed. [KmsPluginOptions_NONE] leaves it
	// out: the secrets of EKS's own API server are encrypted all the same.
	// Default: the plugin with default options.
	Plugin *KmsPluginOptions
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
	c          blueprint.Cluster
	cluster    awseksv2.Cluster
	vpc        awsec2.IVpc
	role       awsiam.Role
	nodeRole   awsiam.Role // of several node groups
	secretsKey ISecretsKey
	auditTrail IAuditTrail
	plugin     *KmsPlugin
	volumesKey awskms.IKey
	logGroup   awslogs.LogGroup
	logKey     awskms.Key
	entries    int
}

const encryptedClusterType = "EncryptedCluster"

// NewEncryptedCluster makes the cluster and all that is around it.
//
// It panics with a [*PropError] when ClusterName is missing or not a name that
// EKS takes, when the SecretsKey is for another cluster, when PublicAccessCidrs
// is empty or open to much of the world, when the SecretsKey is in another
// account or Region, when an access entry, a node group, a Fargate profile or an add-on
// is incomplete or stands twice, and when the Architecture of the Plugin is that of no
// node group.
func NewEncryptedCluster(scope constructs.Construct, id *string, props *EncryptedClusterProps) *EncryptedCluster {
	if props == nil {
		props = &EncryptedClusterProps{}
	}
	props.check()

	c := &EncryptedCluster{secretsKey: props.SecretsKey, auditTrail: props.AuditTrail, vpc: props.Vpc}
	constructs.NewConstruct_Override(c, scope, id)
	at := siteOf(c)
	groups := props.nodegroups()

	if c.vpc == nil {
		c.vpc = NewClusterVpc(c, jsii.String("Vpc"), nil)
	}
	if c.secretsKey == nil {
		c.secretsKey = NewSecretsKey(c, jsii.String("SecretsKey"), &SecretsKeyProps{ClusterName: props.ClusterName})
	}
	key := c.secretsKey.secretsKey()
	if !at.sameEnvironment(key.site) {
		reject(encryptedClusterType, "SecretsKey", "is in a stack of another account or Region, must be where the cluster is")
	}
	c.c = key.c
	c.c.At = at.Place
	c.c.Capacity, c.c.MoreAddOns = props.capacity(groups), props.addOns()
	c.role = newRole(key.roleScope(c, at), "ClusterRole", c.c.ClusterRole())
	attach(c.role, c.c.ClusterRole().Managed[0])
	key.GrantClusterRole(c.role)
	options := orDefault(props.Plugin, KmsPluginOptions{})
	c.c.KubectlHandler = *orDefault(props.KubectlHandler, props.KubectlLayer != nil || props.Volumes != nil || !options.none && *orDefault(options.ApplyObjects, true))
	c.createLogGroup(props.ControlPlaneLogRetention)
	c.createCluster(props)
	for _, entry := range *orDefault(props.AccessEntries, nil) {
		c.addAccess(entry)
	}
	c.addVolumes(props, groups)
	c.addNodes(groups, props)
	if c.auditTrail == nil {
		c.auditTrail = NewAuditTrail(c, jsii.String("AuditTrail"), &AuditTrailProps{SecretsKey: c.secretsKey})
	}
	c.c.Refs.LogsKey = token(*c.logKey.KeyArn())
	c.auditTrail.raise(c, c.c.ClusterAlarms())
	if c.c.KubectlHandler {
		c.pinHandler()
	}
	if !options.none {
		c.addPlugin(options)
	}
	c.Node().SetDefaultChild(c.cluster)
	return c
}

func (props *EncryptedClusterProps) check() {
	const typ = encryptedClusterType
	checkClusterName(typ, props.ClusterName)
	name := *props.ClusterName
	var key *SecretsKey
	if props.SecretsKey != nil {
		key = props.SecretsKey.secretsKey()
		if key.c.Name != name {
			reject(typ, "SecretsKey", "is the key of cluster %q, must be that of %q", key.c.Name, name)
		}
	}
	if props.AuditTrail != nil && !props.AuditTrail.watches(key) {
		reject(typ, "AuditTrail", "watches another key, must watch the SecretsKey of this cluster: pass that too")
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
	if groups := *orDefault(props.SecurityGroups, nil); len(groups) > blueprint.MaxSecurityGroups {
		reject(typ, "SecurityGroups", "has %d elements, must have at most %d", len(groups), blueprint.MaxSecurityGroups)
	} else {
		for i, g := range groups {
			require(typ, "SecurityGroups["+strconv.Itoa(i)+"]", g != nil)
		}
	}
	if p := props.SupportPolicy; !slices.Contains([]SupportPolicy{"", SupportPolicyStandard, SupportPolicyExtended}, p) {
		reject(typ, "SupportPolicy", "is %q, must be STANDARD or EXTENDED", p)
	}
	for i, entry := range *orDefault(props.AccessEntries, nil) {
		entry.check("AccessEntries[" + strconv.Itoa(i) + "]")
	}
	props.checkCapacity()
}

func (entry *AccessEntry) check(at string) {
	const typ = encryptedClusterType
	require(typ, at, entry != nil)
	require(typ, at+".Principal", entry.Principal != nil)
	policies, groups := *orDefault(entry.AccessPolicies, nil), *orDefault(entry.Groups, nil)
	if len(policies)+len(groups) == 0 {
		reject(typ, at, "has neither AccessPolicies nor Groups: say what the principal may do")
	}
	for i, policy := range policies {
		require(typ, at+".AccessPolicies["+strconv.Itoa(i)+"]", policy != nil)
	}
	for i, group := range groups {
		prop := at + ".Groups[" + strconv.Itoa(i) + "]"
		require(typ, prop, group != nil)
		if problem := manifest.GroupProblem(*group); problem != "" {
			reject(typ, prop, "is %q: %s", *group, problem)
		}
	}
}

func (props *EncryptedClusterProps) subnets() *awsec2.SubnetSelection {
	if props.VpcSubnets != nil {
		return props.VpcSubnets
	}
	return &awsec2.SubnetSelection{SubnetType: awsec2.SubnetType_PRIVATE_WITH_EGRESS}
}

// createLogGroup makes the log group to which EKS writes. It has a fixed name: if it
// stayed behind when the first deployment failed, no other could succeed. Its key is of
// no use without it.
func (c *EncryptedCluster) createLogGroup(retention awslogs.RetentionDays) {
	if retention == "" {
		retention = awslogs.RetentionDays_ONE_YEAR
	}
	c.logKey = newSupportKey(c, "LogsKey", c.c.LogsKey())
	c.logGroup = awslogs.NewLogGroup(c, jsii.String("Logs"), &awslogs.LogGroupProps{
		LogGroupName:  jsii.String(c.c.ControlPlaneLogs().Name),
		Retention:     retention,
		EncryptionKey: c.logKey,
		RemovalPolicy: awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE,
	})
}

func (c *EncryptedCluster) createCluster(props *EncryptedClusterProps) {
	version := props.KubernetesVersion
	if version == nil {
		version = awseksv2.KubernetesVersion_Of(jsii.String(eksversion.Default()))
	}
	c.c.KubernetesVersion = *version.Version()
	if s := eksversion.At(c.c.KubernetesVersion, eksversion.Now()); s.Phase == eksversion.Unconfirmed {
		warn(c, "kubernetes-unconfirmed", s.Warning()+".")
	}
	layer := props.KubectlLayer
	if layer == nil && c.c.KubectlHandler {
		layer = kubectllayer.New(c, jsii.String("KubectlLayer"))
		if v := c.c.KubernetesVersion; !slices.Contains(kubectllayer.Supports(), v) {
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
	var compute *awseksv2.ComputeConfig
	if !c.c.AutoMode() {
		// The node groups are made by this construct, with all their settings.
		capacity, instances = awseksv2.DefaultCapacityType_NODEGROUP, jsii.Number(0)
	} else if pools := c.c.Capacity.Pools(); len(pools) < len(blueprint.NodePools) {
		compute = &awseksv2.ComputeConfig{NodePools: jsii.Strings(pools...)}
	}
	var handler *awseksv2.KubectlProviderOptions
	if c.c.KubectlHandler {
		handler = &awseksv2.KubectlProviderOptions{KubectlLayer: layer}
	}
	groups := *orDefault(props.SecurityGroups, nil)
	var first awsec2.ISecurityGroup
	if len(groups) > 0 {
		first = groups[0]
	}
	c.cluster = awseksv2.NewCluster(c, jsii.String("Cluster"), &awseksv2.ClusterProps{
		ClusterName:         props.ClusterName,
		SecurityGroup:       first,
		Version:             version,
		Vpc:                 c.vpc,
		VpcSubnets:          &[]*awsec2.SubnetSelection{props.subnets()},
		EndpointAccess:      endpoint,
		Role:                c.role,
		DefaultCapacityType: capacity,
		DefaultCapacity:     instances,
		Compute:             compute,
		ClusterLogging: &[]awseksv2.ClusterLoggingTypes{
			awseksv2.ClusterLoggingTypes_API,
			awseksv2.ClusterLoggingTypes_AUDIT,
			awseksv2.ClusterLoggingTypes_AUTHENTICATOR,
			awseksv2.ClusterLoggingTypes_CONTROLLER_MANAGER,
			awseksv2.ClusterLoggingTypes_SCHEDULER,
		},
		SecretsEncryptionKey:                    c.secretsKey.Key(),
		BootstrapClusterCreatorAdminPermissions: jsii.Bool(false),
		OutputConfigCommand:                     jsii.Bool(false),
		KubectlProviderOptions:                  handler,
	})
	resource := c.cluster.Node().DefaultChild().(awseksv2.CfnCluster)
	resource.SetDeletionProtection(jsii.Bool(true))
	if len(groups) > 1 { // of which the CDK takes one
		ids := []*string{}
		for _, g := range groups {
			ids = append(ids, g.SecurityGroupId())
		}
		resource.AddPropertyOverride(jsii.String("ResourcesVpcConfig.SecurityGroupIds"), &ids)
	}
	if props.SupportPolicy != "" {
		resource.SetUpgradePolicy(&awseksv2.CfnCluster_UpgradePolicyProperty{SupportType: jsii.String(string(props.SupportPolicy))})
	}
	resource.Node().AddDependency(c.logGroup, c.role)
}

// AddAccessEntry gives a further principal access to the Kubernetes API. A principal
// can have one entry.
//
// It panics with a [*PropError] when the entry is incomplete.
func (c *EncryptedCluster) AddAccessEntry(entry *AccessEntry) {
	entry.check("AddAccessEntry")
	c.addAccess(entry)
}

func (c *EncryptedCluster) addAccess(entry *AccessEntry) {
	id := jsii.String("Access" + strconv.Itoa(c.entries))
	c.entries++
	c.cluster.GrantAccess(id, entry.Principal, orDefault(entry.AccessPolicies, []awseksv2.IAccessPolicy{}), nil)
	if entry.Groups != nil {
		resource := c.cluster.Node().FindChild(id).Node().DefaultChild().(awseksv2.CfnAccessEntry)
		resource.SetKubernetesGroups(entry.Groups)
	}
}

// pinHandler gives the functions of the kubectl handler fixed names, which alarms and the
// trail know, a log group under the key of the logs, and roles for functions of this
// account alone.
func (c *EncryptedCluster) pinHandler() {
	spec := c.c.Kubectl()
	logs := awslogs.NewLogGroup(c, jsii.String("KubectlLogs"), &awslogs.LogGroupProps{
		LogGroupName:  jsii.String(spec.Logs.Name),
		Retention:     awslogs.RetentionDays(place.LogRetention(spec.Logs.Days)),
		EncryptionKey: c.logKey,
		RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
	})
	provider := c.cluster.Node().FindChild(jsii.String("KubectlProvider"))
	framework := provider.Node().FindChild(jsii.String("Provider")).Node().FindChild(jsii.String("framework-onEvent"))
	for i, function := range []constructs.IConstruct{provider.Node().FindChild(jsii.String("Handler")), framework} {
		resource := function.Node().DefaultChild().(awslambda.CfnFunction)
		resource.SetFunctionName(jsii.String(spec.Functions[i]))
		// A feature flag of the app has the CDK make one without a key, for two years.
		function.Node().TryRemoveChild(jsii.String("LogGroup"))
		resource.SetLoggingConfig(&awslambda.CfnFunction_LoggingConfigProperty{LogGroup: logs.LogGroupName()})
		role := function.Node().FindChild(jsii.String("ServiceRole")).Node().DefaultChild().(awsiam.CfnRole)
		role.SetAssumeRolePolicyDocument(policyDocument([]iampolicy.Statement{spec.Trust}))
	}
	c.auditTrail.recordFunctions(c.c.KubectlARNs())
}

func (c *EncryptedCluster) addPlugin(options *KmsPluginOptions) {
	architecture := options.Architecture
	if groups := c.c.Capacity.NodeGroups; len(groups) > 0 { // the nodes of Auto Mode are of any
		switch first := PluginArchitecture(groups[0].Architecture()); {
		case architecture == "":
			architecture = first
		case !slices.ContainsFunc(groups, func(g blueprint.NodeGroup) bool { return PluginArchitecture(g.Architecture()) == architecture }):
			reject(encryptedClusterType, "Plugin.Architecture", "is %q, must be %q as the instance types of Nodegroup are", architecture, first)
		}
	}
	c.plugin = NewKmsPlugin(c, jsii.String("KmsPlugin"), &KmsPluginProps{
		Cluster:      c.cluster,
		SecretsKey:   c.secretsKey,
		Image:        options.Image,
		Architecture: architecture,
		Mode:         options.Mode,
		Tenants:      options.Tenants,
		HostPaths:    options.HostPaths,
		ApplyObjects: options.ApplyObjects,
	})
	if c.c.AutoMode() && c.plugin.manifest != nil {
		enabled := newManifest(c, encryptedClusterType, "NetworkPolicies", c.cluster, blueprint.NetworkPolicies())
		c.plugin.manifest.Node().AddDependency(enabled)
	}
}

// Cluster returns the EKS cluster.
func (c *EncryptedCluster) Cluster() awseksv2.Cluster { return c.cluster }

// Connections returns the network connections of the cluster: those of its control
// plane's security group.
func (c *EncryptedCluster) Connections() awsec2.Connections { return c.cluster.Connections() }

// Vpc returns the VPC of the cluster.
func (c *EncryptedCluster) Vpc() awsec2.IVpc { return c.vpc }

// Role returns the IAM role with which EKS runs the cluster.
func (c *EncryptedCluster) Role() awsiam.IRole { return c.role }

// SecretsKey returns the key that encrypts the secrets.
func (c *EncryptedCluster) SecretsKey() ISecretsKey { return c.secretsKey }

// AuditTrail returns the record of the key's use and the alarms.
func (c *EncryptedCluster) AuditTrail() IAuditTrail { return c.auditTrail }

// KmsPlugin returns the plugin, or nil if it was left out.
func (c *EncryptedCluster) KmsPlugin() *KmsPlugin { return c.plugin }

// VolumesKey returns the key of the volumes, or nil without one.
func (c *EncryptedCluster) VolumesKey() awskms.IKey { return c.volumesKey }

// RequiredVolumesKeyPolicyStatements returns what the owner of an existing key of the
// volumes must add to its policy, as a JSON list, or nil.
func (c *EncryptedCluster) RequiredVolumesKeyPolicyStatements() *string {
	statements := c.c.VolumeStatements()
	if len(statements) == 0 {
		return nil
	}
	return awscdk.Stack_Of(c).ToJsonString(statementMaps(statements), nil)
}

// LogGroup returns the log group of the control plane.
func (c *EncryptedCluster) LogGroup() awslogs.ILogGroup { return c.logGroup }

// LogsKey returns the key that encrypts the log group.
func (c *EncryptedCluster) LogsKey() awskms.IKey { return c.logKey }

// UpdateKubeconfigCommand returns the command with which a principal that has
// an access entry makes kubectl talk to the cluster.
func (c *EncryptedCluster) UpdateKubeconfigCommand() *string {
	return jsii.String(blueprint.UpdateKubeconfig(*c.cluster.ClusterName(), c.c.At.Region.Text()))
}

// TestAlarmCommand returns a command that raises an alarm and changes nothing, to see one
// arrive, or nil for an existing key.
func (c *EncryptedCluster) TestAlarmCommand() *string {
	alias := c.c.Alias()
	if c.c.Key.ARN != "" || alias == "" {
		return nil
	}
	return jsii.String(blueprint.TestAlarm(alias, c.c.KeyARN(), c.c.At.Region.Text()))
}
