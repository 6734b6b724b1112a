package stacks

import (
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudtrail"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseksv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/constructs/ekskms"
	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/place"
)

// FromFile adds a stack for each cluster that a file such as ekskms.yaml describes,
// under the name ekskms-<name of the cluster>, and returns them. They are the
// stacks of `ekskms synth`. Those of a wave depend on those of the wave before it. With
// several clusters, each account and Region has two more: ekskms-shared with the record,
// on which those of the clusters depend, and ekskms-alarms, which depends on them. A VPC
// that clusters share is in a stack ekskms-network. Keys in
// a central account are in stacks ekskms-keys, and a cluster whose key is not known yet has
// no stack.
//
// The error names every fault of the file, with its line. With a file that can be
// read, it panics as [NewEncryptedClusterStack] does.
func FromFile(scope constructs.Construct, path string) ([]*EncryptedClusterStack, error) {
	file, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	return FromConfig(scope, file), nil
}

// FromConfig is [FromFile] for a file that was read already, which only this module
// can do.
func FromConfig(scope constructs.Construct, file *config.File) []*EncryptedClusterStack {
	f, all := partOf(scope, file, func(string) bool { return true })
	for _, need := range file.Needs() {
		f.made[need.Stack].AddStackDependency(f.made[need.On], jsii.String(need.Why))
	}
	return all
}

// PartOfConfig is [FromConfig] for some of the stacks, by their names, without their
// dependencies, which [config.File.Needs] has.
func PartOfConfig(scope constructs.Construct, file *config.File, mine func(stack string) bool) {
	partOf(scope, file, mine)
}

func partOf(scope constructs.Construct, file *config.File, mine func(stack string) bool) (f *fleet, all []*EncryptedClusterStack) {
	f = &fleet{file: file, mine: mine, places: file.Places(), made: map[string]awscdk.Stack{}}
	f.record(scope)
	f.network(scope)
	f.centralKeys(scope)
	for _, cluster := range file.Clusters {
		if name := place.Stack(cluster.Name); !cluster.Waits() && mine(name) {
			s := f.configured(scope, cluster)
			f.made[name] = s
			all = append(all, s)
		}
	}
	f.alarms(scope)
	return f, all
}

// ForAdoption adds a stack with the key, the trail and the alarms for a cluster that exists and
// stays out of it, and whose role has an ARN.
func ForAdoption(scope constructs.Construct, cluster config.Cluster, roleARN string) {
	c := cluster.Blueprint()
	props := stackProps(cluster, c.Tags)
	props.Description = jsii.String("The key and the alarms of EKS cluster " + c.Name + ", which is made elsewhere")
	s := newStack(scope, jsii.String(place.AdoptionStack(c.Name)), c.Name, props)
	made := s.configuredKey(c)
	made.ClusterName = &c.Name
	key := ekskms.NewSecretsKey(s, jsii.String("SecretsKey"), made)
	key.GrantClusterRole(awsiam.Role_FromRoleArn(s, jsii.String("ClusterRole"), &roleARN, nil))
	audit := s.configuredAudit(c)
	audit.SecretsKey = key
	ekskms.NewAuditTrail(s, jsii.String("AuditTrail"), audit)
	o := blueprint.Outputs.KeyARN
	awscdk.NewCfnOutput(s, jsii.String(o.ID), &awscdk.CfnOutputProps{Value: key.KeyArn(), Description: jsii.String(o.Description)})
}

// configured is the stack of a cluster whose every default is filled in.
func (f *fleet) configured(scope constructs.Construct, cluster config.Cluster) *EncryptedClusterStack {
	c := cluster.Blueprint()
	s := newStack(scope, jsii.String(c.StackName()), c.Name, stackProps(cluster, c.Tags))
	if creator := c.CDK.Creator(placeOf(s)); creator != "" && len(c.Creators) == 0 {
		c.Creators = []string{creator}
	}
	props := &EncryptedClusterStackProps{Cluster: s.configuredCluster(c), Key: s.configuredKey(c), Secrets: configuredSecrets(c.Secrets, c.Applied)}
	if e := f.environment(cluster.Account, cluster.Region); e != nil {
		s.shares = true
		props.Cluster.AuditTrail = ekskms.AuditTrail_FromSharedAuditTrailAttributes(s, jsii.String("AuditTrail"), &ekskms.SharedAuditTrailAttributes{
			HomeRegion: text(e.HomeRegion), TrailArn: text(f.file.Shared.Audit.TrailARN),
		})
	} else {
		props.Audit = s.configuredAudit(c)
	}
	s.build(props)
	if c.Network.Shared {
		awscdk.Annotations_Of(s.cluster.Cluster()).AcknowledgeWarning(jsii.String("@aws-cdk/aws-eks:clusterMustManuallyTagSubnet"),
			jsii.String("They have their tags in the stack of the VPC."))
	}
	if c.Network.Isolated {
		awscdk.Annotations_Of(s.cluster.Cluster()).AcknowledgeWarning(jsii.String("@aws-cdk/aws-eks:isolatedSubnetsForKubectlPrivateSubnets"),
			jsii.String("The VPC has endpoints for what the handler calls."))
	}
	s.override(c.Overrides)
	return s
}

// override sets properties of the cluster's resource that no field has.
func (s *EncryptedClusterStack) override(properties map[string]string) {
	resource := s.cluster.Cluster().Node().DefaultChild().(awseksv2.CfnCluster)
	for _, path := range slices.Sorted(maps.Keys(properties)) {
		resource.AddPropertyOverride(jsii.String(path), blueprint.OverrideValue(properties[path]))
	}
}

// stackProps are those of a stack in the place of a cluster, and deployed as it is.
func stackProps(c config.Cluster, tags map[string]string) *awscdk.StackProps {
	props := &awscdk.StackProps{}
	if c.Region != "" {
		props.Env = &awscdk.Environment{Account: jsii.String(c.Account), Region: jsii.String(c.Region)}
	}
	if d := blueprint.CDK(c.CDK); d.OwnRoles() {
		role := func(name string) *string {
			if name == "" {
				return nil
			}
			return jsii.String(d.RoleARN(name))
		}
		props.Synthesizer = awscdk.NewDefaultStackSynthesizer(&awscdk.DefaultStackSynthesizerProps{
			Qualifier: text(d.Qualifier), CloudFormationExecutionRole: role(d.ExecutionRole), DeployRoleArn: role(d.DeployRole),
			LookupRoleArn: role(d.LookupRole), FileAssetPublishingRoleArn: role(d.FilePublishingRole), ImageAssetPublishingRoleArn: role(d.ImagePublishingRole),
		})
	}
	if name := c.CDK.PermissionsBoundary; name != "" {
		props.PermissionsBoundary = awscdk.PermissionsBoundary_FromName(jsii.String(name))
	}
	props.Tags = texts(tags)
	return props
}

func (s *EncryptedClusterStack) configuredCluster(c blueprint.Cluster) *ekskms.EncryptedClusterProps {
	props := &ekskms.EncryptedClusterProps{
		ClusterName:              jsii.String(c.Name),
		KubernetesVersion:        awseksv2.KubernetesVersion_Of(jsii.String(c.KubernetesVersion)),
		SupportPolicy:            ekskms.SupportPolicy(c.SupportType),
		PublicAccessCidrs:        list(c.PublicCIDRs),
		ControlPlaneLogRetention: retention(c.Audit.ControlPlaneLogRetentionDays),
		KubectlHandler:           jsii.Bool(c.KubectlHandler),
	}
	if n := c.Network; n.Shared {
		props.Vpc, props.VpcSubnets = s.sharedVPC()
	} else if n.ID != "" {
		props.Vpc, props.VpcSubnets = s.existingVpc(text(n.ID), list(n.SubnetIDs))
		props.SecurityGroups = s.existingGroups(n.SecurityGroupIDs)
	} else {
		chooseAvailabilityZones(s, list(n.AvailabilityZones))
		vpc := &ekskms.ClusterVpcProps{Cidr: text(n.CIDR), AvailabilityZones: list(n.AvailabilityZones)}
		if n.Isolated {
			vpc.Isolated = jsii.Bool(true)
			props.VpcSubnets = &awsec2.SubnetSelection{SubnetType: awsec2.SubnetType_PRIVATE_ISOLATED}
		} else {
			vpc.NatGateways = jsii.Number(n.NATGateways)
		}
		props.Vpc = ekskms.NewClusterVpc(s, jsii.String("Vpc"), vpc)
	}
	configuredCapacity(props, c.Capacity)
	if v := c.Volumes; v != nil {
		props.Volumes = &ekskms.VolumesOptions{}
		if v.KeyARN != "" {
			props.Volumes.Key = awskms.Key_FromKeyArn(s, jsii.String("ExistingVolumesKey"), text(v.KeyARN))
		}
	}
	props.AddOns = each(c.MoreAddOns, func(a blueprint.AddOn) *ekskms.AddOn {
		addOn := &ekskms.AddOn{Name: text(a.Name), Version: text(a.Version), ServiceAccount: text(a.ServiceAccount), Role: text(a.RoleARN)}
		if a.Settings != nil {
			addOn.ConfigurationValues = &a.Settings
		}
		return addOn
	})
	props.Plugin = pluginOptions(c)
	props.AccessEntries = each(c.AccessEntries, func(e blueprint.AccessEntry) *ekskms.AccessEntry {
		scope := &awseksv2.AccessPolicyNameOptions{AccessScopeType: awseksv2.AccessScopeType_CLUSTER}
		if len(e.Namespaces) > 0 {
			scope = &awseksv2.AccessPolicyNameOptions{AccessScopeType: awseksv2.AccessScopeType_NAMESPACE, Namespaces: list(e.Namespaces)}
		}
		return &ekskms.AccessEntry{
			Principal:      text(e.PrincipalARN),
			AccessPolicies: &[]awseksv2.IAccessPolicy{awseksv2.AccessPolicy_FromAccessPolicyName(text(e.Policy), scope)},
			Groups:         list(e.Groups),
		}
	})
	return props
}

// existingGroups are security groups to which nothing is added.
func (s *EncryptedClusterStack) existingGroups(ids []string) *[]awsec2.ISecurityGroup {
	return each(ids, func(id string) awsec2.ISecurityGroup {
		return awsec2.SecurityGroup_FromSecurityGroupId(s, jsii.String("SecurityGroup-"+id), text(id), &awsec2.SecurityGroupImportOptions{Mutable: jsii.Bool(false)})
	})
}

func pluginOptions(c blueprint.Cluster) *ekskms.KmsPluginOptions {
	p := c.Plugin
	if p == nil {
		return ekskms.KmsPluginOptions_NONE()
	}
	return &ekskms.KmsPluginOptions{
		Image: text(p.Image), Architecture: ekskms.PluginArchitecture(p.Architecture), Mode: ekskms.PluginMode(p.Mode),
		Tenants: each(p.Tenants, func(t blueprint.Tenant) *ekskms.PluginTenant {
			return &ekskms.PluginTenant{Name: text(t.Name), Namespace: text(t.Namespace), ServiceAccount: text(t.ServiceAccount)}
		}),
		HostPaths: list(p.HostPaths), ApplyObjects: jsii.Bool(c.Applied),
	}
}

func configuredCapacity(props *ekskms.EncryptedClusterProps, c blueprint.Capacity) {
	if c.NodePools != "" && c.NodePools != blueprint.BothPools {
		props.NodePools = ekskms.NodePools(c.NodePools)
	}
	props.NodeRoles = list(c.NodeRoles)
	props.FargateProfiles = each(c.FargateProfiles, func(p blueprint.FargateProfile) *ekskms.FargateProfile {
		return &ekskms.FargateProfile{Id: text(p.Name), Selectors: each(p.Selectors, func(s blueprint.FargateSelector) *awseksv2.Selector {
			return &awseksv2.Selector{Namespace: text(s.Namespace), Labels: texts(s.Labels)}
		})}
	})
	groups := []*ekskms.Nodegroup{}
	for _, g := range c.NodeGroups {
		if g.Name == "" {
			props.Nodegroup = nodegroupOptions(g)
			return
		}
		groups = append(groups, &ekskms.Nodegroup{
			Id: text(g.Name), Options: nodegroupOptions(g), KubernetesVersion: awseksv2.KubernetesVersion_Of(text(g.KubernetesVersion)),
		})
	}
	if c.Mode == blueprint.NodeGroups || c.Mode == blueprint.NoNodes {
		props.Nodegroups = &groups
	}
}

func nodegroupOptions(g blueprint.NodeGroup) *awseksv2.NodegroupOptions {
	options := &awseksv2.NodegroupOptions{
		MinSize: jsii.Number(g.MinSize), MaxSize: jsii.Number(g.MaxSize), DesiredSize: jsii.Number(g.DesiredSize),
		InstanceTypes: each(g.InstanceTypes, func(name string) awsec2.InstanceType { return awsec2.NewInstanceType(text(name)) }),
		CapacityType:  awseksv2.CapacityType(g.CapacityType),
		AmiType:       awseksv2.NodegroupAmiType(strings.ToUpper(g.AMIType)), // as jsii spells it
		Labels:        texts(g.Labels),
		Taints: each(g.Taints, func(t blueprint.Taint) *awseksv2.TaintSpec {
			return &awseksv2.TaintSpec{Key: text(t.Key), Value: text(t.Value), Effect: awseksv2.TaintEffect(t.Effect)}
		}),
	}
	if g.DiskSizeGiB > 0 {
		options.DiskSize = jsii.Number(g.DiskSizeGiB)
	}
	return options
}

func (s *EncryptedClusterStack) configuredKey(c blueprint.Cluster) *ekskms.SecretsKeyProps {
	if c.Key.ARN == "" {
		props := keyProps(s, c)
		props.BreakGlass = principals(s, c.Key.BreakGlass)
		return props
	}
	props := &ekskms.SecretsKeyProps{
		Administrators: principals(s, c.Administrators), Creators: principals(s, c.Creators), StrictGrants: jsii.Bool(c.Key.StrictGrants),
		ExistingKey: awskms.Key_FromKeyArn(s, jsii.String("ExistingKey"), text(c.Key.ARN)),
	}
	if c.Key.ByPath {
		props.RolesByPath = jsii.Bool(true)
	}
	return props
}

// keyProps are those of a new key.
func keyProps(s awscdk.Stack, c blueprint.Cluster) *ekskms.SecretsKeyProps {
	return &ekskms.SecretsKeyProps{
		Administrators: principals(s, c.Administrators),
		Creators:       principals(s, c.Creators),
		StrictGrants:   jsii.Bool(c.Key.StrictGrants),
		Alias:          text(c.Key.Alias),
		RotationPeriod: awscdk.Duration_Days(jsii.Number(c.Key.RotationPeriodDays)),
		PendingWindow:  awscdk.Duration_Days(jsii.Number(c.Key.PendingWindowDays)),
		MultiRegion:    jsii.Bool(c.Key.MultiRegion),
	}
}

func (s *EncryptedClusterStack) configuredAudit(c blueprint.Cluster) *ekskms.AuditTrailProps {
	props := &ekskms.AuditTrailProps{Readers: principals(s, c.Audit.Readers), Emails: list(c.Audit.Emails)}
	if c.NewTrail() {
		props.Retention = awscdk.Duration_Days(jsii.Number(c.Audit.RetentionDays))
		props.CloudWatchLogs = retention(c.Audit.CloudWatchLogsRetentionDays)
	} else {
		props.ExistingTrail = awscloudtrail.CfnTrail_FromTrailArn(s, jsii.String("ExistingTrail"), text(c.Audit.TrailARN))
	}
	if !c.NewTopic() {
		props.ExistingTopic = awssns.Topic_FromTopicArn(s, jsii.String("ExistingTopic"), text(c.Audit.TopicARN))
	}
	return props
}

func configuredSecrets(secrets blueprint.Secrets, applied bool) *ekskms.SecretsRbacProps {
	if !secrets.Makes() {
		return nil
	}
	return &ekskms.SecretsRbacProps{
		Guard:           ekskms.SecretsGuard(secrets.Guard),
		GuardExemptions: list(secrets.GuardExemptions),
		ApplyObjects:    jsii.Bool(applied),
		Readers: each(secrets.Readers, func(r blueprint.Reader) *ekskms.SecretReader {
			reader := &ekskms.SecretReader{
				Name: text(r.Name), Namespace: text(r.Namespace), SecretNames: list(r.SecretNames), Groups: list(r.Groups),
				PrincipalArns: list(r.PrincipalARNs), AllowList: jsii.Bool(r.AllowList), AllowWatch: jsii.Bool(r.AllowWatch),
			}
			accounts := []*ekskms.SecretReaderServiceAccount{}
			for _, a := range r.ServiceAccounts {
				accounts = append(accounts, &ekskms.SecretReaderServiceAccount{Name: text(a.Name), Namespace: text(a.Namespace)})
			}
			reader.ServiceAccounts = &accounts
			return reader
		}),
	}
}

// placeOf is where a stack is.
func placeOf(s awscdk.Stack) place.Place {
	return place.Place{Partition: place.Literal(*s.Partition()), Account: place.Literal(*s.Account()), Region: place.Literal(*s.Region()), DNSSuffix: place.Literal(*s.UrlSuffix())}
}

// each makes a list of props, or nil of nothing.
func each[F, T any](from []F, to func(F) T) *[]T {
	if len(from) == 0 {
		return nil
	}
	all := make([]T, len(from))
	for i := range from {
		all[i] = to(from[i])
	}
	return &all
}

// principals takes roles by their ARNs, or permission sets. They may belong to other accounts, and none is
// changed from here.
func principals(s awscdk.Stack, arns []string) *[]awsiam.IGrantable {
	return principalsAt(placeOf(s), arns)
}

// principalsAt are those of a place, which is where permission sets are meant.
func principalsAt(at place.Place, arns []string) *[]awsiam.IGrantable {
	return each(arns, func(arn string) awsiam.IGrantable { return awsiam.NewArnPrincipal(text(at.Role(arn))) })
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return jsii.String(s)
}

// texts are those of a map, or nil of nothing.
func texts(values map[string]string) *map[string]*string {
	if len(values) == 0 {
		return nil
	}
	all := map[string]*string{}
	for key, value := range values {
		all[key] = jsii.String(value)
	}
	return &all
}

func list(values []string) *[]*string { return each(values, text) }

// retention is a period of CloudWatch Logs, of which package config has checked that it
// is one.
func retention(days int) awslogs.RetentionDays {
	return awslogs.RetentionDays(place.LogRetention(days))
}
