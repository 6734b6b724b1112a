// Package stacks holds stacks that are made of the constructs of package
// ekskms. Their props are plain values, so that a stack can be described by a
// file or a few lines of Go.
package stacks

import (
	"fmt"
	"strconv"

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
)

// EncryptedClusterStackProps configures an [EncryptedClusterStack].
type EncryptedClusterStackProps struct {
	// Env is the account and Region.
	// Default: environment-agnostic, the ones of whoever deploys.
	Env *awscdk.Environment
	// Synthesizer of the stack.
	// Default: that of the app.
	Synthesizer awscdk.IStackSynthesizer
	// Description of the stack.
	// Default: a sentence with the name of the cluster.
	Description *string
	// Tags of the stack and, through CloudFormation, of its resources.
	// Default: none.
	Tags *map[string]*string

	// ClusterName names the cluster. Required.
	ClusterName *string
	// KubernetesVersion of the control plane, such as "1.35".
	// Default: that of [ekskms.EncryptedClusterProps].
	KubernetesVersion *string

	// VpcId is an existing VPC; SubnetIds are its subnets for the cluster.
	// Default: a new VPC.
	VpcId     *string
	SubnetIds *[]*string
	// NewVpc configures the new VPC.
	// Default: that of [ekskms.ClusterVpcProps], but without a look-up of the
	// Availability Zones: CloudFormation chooses the first two.
	NewVpc *ekskms.ClusterVpcProps
	// PublicAccessCidrs opens the Kubernetes API to these address ranges.
	// Default: private.
	PublicAccessCidrs *[]*string
	// NodeGroup is a managed node group as capacity.
	// Default: EKS Auto Mode.
	NodeGroup *ekskms.NodeGroup
	// AccessEntries give principals access to the Kubernetes API.
	// Default: none.
	AccessEntries *[]*ekskms.AccessEntry
	// SecretReaders may read secrets. SecretsGuard and SecretsGuardExemptions are
	// the guard: see [ekskms.SecretsRbacProps].
	// Default: none; no guard.
	SecretReaders          *[]*ekskms.SecretReader
	SecretsGuard           ekskms.SecretsGuard
	SecretsGuardExemptions *[]*string

	// KeyArn is an existing CMK.
	// Default: a new key.
	KeyArn *string
	// KeyAlias, KeyRotationDays, KeyPendingWindowDays and KeyMultiRegion
	// configure the new key.
	// Default: those of [ekskms.SecretsKeyProps].
	KeyAlias             *string
	KeyRotationDays      *float64
	KeyPendingWindowDays *float64
	KeyMultiRegion       *bool
	// AdministratorArns and CreatorArns are IAM roles: see
	// [ekskms.SecretsKeyProps].
	// Default: the account root; CDK's execution role.
	AdministratorArns *[]*string
	CreatorArns       *[]*string
	// StrictGrants: see [ekskms.SecretsKeyProps].
	// Default: false.
	StrictGrants *bool

	// TrailArn is an existing CloudTrail trail.
	// Default: a new trail.
	TrailArn *string
	// LogRetentionDays is how long the new trail's logs are kept.
	// Default: 365.
	LogRetentionDays *float64
	// TrailCopy sends a copy of the new trail to CloudWatch Logs, and is how long it
	// is kept there. See ekskms.AuditTrailProps.CloudWatchLogs.
	// Default: no copy.
	TrailCopy awslogs.RetentionDays
	// LogReaderArns are IAM roles that may decrypt the new trail's logs.
	// Default: none.
	LogReaderArns *[]*string
	// ControlPlaneLogRetention is how long the control plane's logs are kept.
	// Default: one year.
	ControlPlaneLogRetention awslogs.RetentionDays
	// TopicArn is an existing SNS topic for the alarms.
	// Default: a new topic.
	TopicArn *string
	// AlarmEmails are subscribed to the new topic.
	// Default: none.
	AlarmEmails *[]*string

	// WithoutPlugin, PluginImage, PluginArchitecture, PluginMode and
	// PluginTenants: see [ekskms.EncryptedClusterProps].
	// Default: as there.
	WithoutPlugin      *bool
	PluginImage        *string
	PluginArchitecture ekskms.PluginArchitecture
	PluginMode         ekskms.PluginMode
	PluginTenants      *[]*ekskms.PluginTenant
}

// EncryptedClusterStack is one EKS cluster with encrypted secrets, complete:
// VPC, key, cluster, audit trail and plugin. The stack is protected against
// termination.
type EncryptedClusterStack struct {
	awscdk.Stack
	cluster *ekskms.EncryptedCluster
}

// NewEncryptedClusterStack makes the stack. It panics as the constructs do.
func NewEncryptedClusterStack(scope constructs.Construct, id *string, props *EncryptedClusterStackProps) *EncryptedClusterStack {
	if props == nil {
		props = &EncryptedClusterStackProps{}
	}
	if props.ClusterName == nil {
		panic(&ekskms.PropError{Type: "EncryptedClusterStack", Prop: "ClusterName", Reason: "is missing, it has no default"})
	}
	description := props.Description
	if description == nil {
		description = jsii.String("EKS cluster " + *props.ClusterName + " with secrets encrypted under a customer-managed key (ekskms)")
	}
	s := &EncryptedClusterStack{}
	awscdk.NewStack_Override(s, scope, id, &awscdk.StackProps{
		Env:                   props.Env,
		Synthesizer:           props.Synthesizer,
		Description:           description,
		Tags:                  props.Tags,
		TerminationProtection: jsii.Bool(true),
	})
	vpc, subnets := s.network(props)
	key := s.secretsKey(props)
	trail := s.auditTrail(props, key)
	s.cluster = ekskms.NewEncryptedCluster(s, jsii.String("EncryptedCluster"), &ekskms.EncryptedClusterProps{
		ClusterName:              props.ClusterName,
		KubernetesVersion:        kubernetesVersion(props.KubernetesVersion),
		Vpc:                      vpc,
		VpcSubnets:               subnets,
		PublicAccessCidrs:        props.PublicAccessCidrs,
		NodeGroup:                props.NodeGroup,
		SecretsKey:               key,
		AuditTrail:               trail,
		ControlPlaneLogRetention: props.ControlPlaneLogRetention,
		AccessEntries:            props.AccessEntries,
		WithoutPlugin:            props.WithoutPlugin,
		PluginImage:              props.PluginImage,
		PluginArchitecture:       props.PluginArchitecture,
		PluginMode:               props.PluginMode,
		PluginTenants:            props.PluginTenants,
	})
	s.secretsRbac(props)
	s.outputs()
	return s
}

func (s *EncryptedClusterStack) secretsRbac(props *EncryptedClusterStackProps) {
	hasReaders := props.SecretReaders != nil && len(*props.SecretReaders) > 0
	hasGuard := props.SecretsGuard != "" && props.SecretsGuard != ekskms.SecretsGuardOff
	if !hasReaders && !hasGuard && props.SecretsGuardExemptions == nil {
		return
	}
	props.checkPrincipals()
	ekskms.NewSecretsRbac(s, jsii.String("SecretsRbac"), &ekskms.SecretsRbacProps{
		Cluster:         s.cluster.Cluster(),
		Readers:         props.SecretReaders,
		Guard:           props.SecretsGuard,
		GuardExemptions: props.SecretsGuardExemptions,
	})
}

// checkPrincipals refuses a second access entry of one principal, which EKS would.
func (props *EncryptedClusterStackProps) checkPrincipals() {
	if props.AccessEntries == nil || props.SecretReaders == nil {
		return
	}
	for i, reader := range *props.SecretReaders {
		if reader == nil || reader.PrincipalArns == nil {
			continue // NewSecretsRbac looks closer
		}
		for j, arn := range *reader.PrincipalArns {
			for k, entry := range *props.AccessEntries {
				if arn != nil && *arn == *entry.PrincipalArn {
					panic(&ekskms.PropError{
						Type:   "EncryptedClusterStack",
						Prop:   fmt.Sprintf("SecretReaders[%d].PrincipalArns[%d]", i, j),
						Reason: fmt.Sprintf("is %q, which has the access entry AccessEntries[%d] already: a principal can have one, so give that the Groups and remove this", *arn, k),
					})
				}
			}
		}
	}
}

func kubernetesVersion(version *string) awseksv2.KubernetesVersion {
	if version == nil {
		return nil
	}
	return awseksv2.KubernetesVersion_Of(version)
}

func (s *EncryptedClusterStack) network(props *EncryptedClusterStackProps) (awsec2.IVpc, *awsec2.SubnetSelection) {
	if props.VpcId == nil && props.SubnetIds != nil {
		panic(&ekskms.PropError{Type: "EncryptedClusterStack", Prop: "SubnetIds", Reason: "is set without VpcId: give both or neither"})
	}
	if props.VpcId == nil {
		s.chooseAvailabilityZones(props.NewVpc)
		return ekskms.NewClusterVpc(s, jsii.String("Vpc"), props.NewVpc), nil
	}
	if props.SubnetIds == nil || len(*props.SubnetIds) < 2 {
		panic(&ekskms.PropError{Type: "EncryptedClusterStack", Prop: "SubnetIds",
			Reason: "must name at least 2 subnets of VpcId, in different Availability Zones"})
	}
	// CDK wants to know the zone of each subnet, but nothing here depends on it.
	zones := make([]*string, len(*props.SubnetIds))
	for i := range zones {
		zones[i] = awscdk.Fn_Select(jsii.Number(i), awscdk.Fn_GetAzs(nil))
	}
	vpc := awsec2.Vpc_FromVpcAttributes(s, jsii.String("Vpc"), &awsec2.VpcAttributes{
		VpcId:             props.VpcId,
		AvailabilityZones: &zones,
		PrivateSubnetIds:  props.SubnetIds,
	})
	awscdk.Annotations_Of(vpc).AcknowledgeWarning(jsii.String("@aws-cdk/aws-ec2:noSubnetRouteTableId"),
		jsii.String("No route is added to the existing subnets."))
	return vpc, &awsec2.SubnetSelection{Subnets: vpc.PrivateSubnets()}
}

// chooseAvailabilityZones answers CDK's question for the Availability Zones of a
// known account and Region before it is asked. CDK would look them up with
// credentials and, until it has done so, synthesize with made-up names.
func (s *EncryptedClusterStack) chooseAvailabilityZones(vpc *ekskms.ClusterVpcProps) {
	if *awscdk.Token_IsUnresolved(s.Account()) || *awscdk.Token_IsUnresolved(s.Region()) {
		return
	}
	key := "availability-zones:account=" + *s.Account() + ":region=" + *s.Region()
	if s.Node().TryGetContext(jsii.String(key)) != nil {
		return
	}
	zones := []*string{
		awscdk.Fn_Select(jsii.Number(0), awscdk.Fn_GetAzs(nil)),
		awscdk.Fn_Select(jsii.Number(1), awscdk.Fn_GetAzs(nil)),
	}
	if vpc != nil && vpc.AvailabilityZones != nil {
		zones = *vpc.AvailabilityZones
	}
	s.Node().SetContext(jsii.String(key), zones)
}

func (s *EncryptedClusterStack) secretsKey(props *EncryptedClusterStackProps) *ekskms.SecretsKey {
	keyProps := &ekskms.SecretsKeyProps{
		ClusterName:    props.ClusterName,
		Alias:          props.KeyAlias,
		RotationPeriod: duration(props.KeyRotationDays),
		PendingWindow:  duration(props.KeyPendingWindowDays),
		MultiRegion:    props.KeyMultiRegion,
		Administrators: s.roles("Administrator", props.AdministratorArns),
		Creators:       s.roles("Creator", props.CreatorArns),
		StrictGrants:   props.StrictGrants,
	}
	if props.KeyArn != nil {
		keyProps.ExistingKey = awskms.Key_FromKeyArn(s, jsii.String("ExistingKey"), props.KeyArn)
	}
	return ekskms.NewSecretsKey(s, jsii.String("SecretsKey"), keyProps)
}

func (s *EncryptedClusterStack) auditTrail(props *EncryptedClusterStackProps, key *ekskms.SecretsKey) *ekskms.AuditTrail {
	trailProps := &ekskms.AuditTrailProps{
		SecretsKey:     key,
		Retention:      duration(props.LogRetentionDays),
		CloudWatchLogs: props.TrailCopy,
		Readers:        s.roles("LogReader", props.LogReaderArns),
		Emails:         props.AlarmEmails,
	}
	if props.TrailArn != nil {
		trailProps.ExistingTrail = awscloudtrail.CfnTrail_FromTrailArn(s, jsii.String("ExistingTrail"), props.TrailArn)
	}
	if props.TopicArn != nil {
		trailProps.ExistingTopic = awssns.Topic_FromTopicArn(s, jsii.String("ExistingTopic"), props.TopicArn)
	}
	return ekskms.NewAuditTrail(s, jsii.String("AuditTrail"), trailProps)
}

func duration(days *float64) awscdk.Duration {
	if days == nil {
		return nil
	}
	return awscdk.Duration_Days(days)
}

// roles takes roles by their ARNs. They may belong to other accounts, and none
// is changed from here.
func (s *EncryptedClusterStack) roles(id string, arns *[]*string) *[]awsiam.IRole {
	if arns == nil || len(*arns) == 0 {
		return nil
	}
	roles := make([]awsiam.IRole, len(*arns))
	for i, arn := range *arns {
		roles[i] = awsiam.Role_FromRoleArn(s, jsii.String(id+strconv.Itoa(i)), arn, &awsiam.FromRoleArnOptions{Mutable: jsii.Bool(false)})
	}
	return &roles
}

func (s *EncryptedClusterStack) outputs() {
	type output struct {
		id, description string
		value           *string
	}
	outputs := []output{
		{"ClusterName", "Name of the EKS cluster", s.cluster.Cluster().ClusterName()},
		{"UpdateKubeconfig", "Command that makes kubectl talk to the cluster", s.cluster.UpdateKubeconfigCommand()},
		{"KeyArn", "ARN of the key that encrypts the secrets", s.cluster.SecretsKey().KeyArn()},
		{"TrailArn", "ARN of the trail that records every use of the key", s.cluster.AuditTrail().TrailArn()},
		{"TopicArn", "ARN of the topic that receives the alarms", s.cluster.AuditTrail().Topic().TopicArn()},
	}
	if plugin := s.cluster.KmsPlugin(); plugin != nil {
		outputs = append(outputs, output{"PluginRoleArn", "ARN of the KMS plugin's IAM role", plugin.Role().RoleArn()})
	}
	for _, o := range outputs {
		awscdk.NewCfnOutput(s, jsii.String(o.id), &awscdk.CfnOutputProps{Value: o.value, Description: jsii.String(o.description)})
	}
}

// EncryptedCluster returns the cluster and all that is around it.
func (s *EncryptedClusterStack) EncryptedCluster() *ekskms.EncryptedCluster { return s.cluster }
