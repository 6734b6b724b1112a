// Package stacks holds stacks that are made of the constructs of package
// ekskms: those of a file such as ekskms.yaml, and the same from Go.
package stacks

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/constructs/ekskms"
	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/place"
)

// EncryptedClusterStackProps configures an [EncryptedClusterStack]: the props of the
// stack and of what it is made of.
type EncryptedClusterStackProps struct {
	// Stack are the props of the stack itself. It is protected against termination
	// whatever they say.
	// Default: those of a stack for any account and Region, with a description that
	// names the cluster.
	Stack *awscdk.StackProps
	// Cluster are the props of the cluster. Its SecretsKey and AuditTrail are made by
	// the stack unless they are given, its Vpc without a look-up of the Availability
	// Zones: CloudFormation chooses the first two. Required.
	Cluster *ekskms.EncryptedClusterProps
	// Key are the props of the SecretsKey, whose ClusterName is that of the Cluster.
	// Default: those of [ekskms.SecretsKeyProps].
	Key *ekskms.SecretsKeyProps
	// Audit are the props of the AuditTrail, whose SecretsKey is that of the Cluster.
	// Default: those of [ekskms.AuditTrailProps].
	Audit *ekskms.AuditTrailProps
	// Secrets are the props of a SecretsRbac, whose Cluster is this one.
	// Default: none is made.
	Secrets *ekskms.SecretsRbacProps
}

// EncryptedClusterStack is one EKS cluster with encrypted secrets, complete:
// VPC, key, cluster, audit trail and plugin. The stack is protected against
// termination, and tells by its outputs what was made.
type EncryptedClusterStack struct {
	awscdk.Stack
	name    string // of the cluster
	cluster *ekskms.EncryptedCluster
	// shares tells that the record is shared, and exports what its alarms need.
	shares bool
}

const stackType = "EncryptedClusterStack"

// NewEncryptedClusterStack makes the stack. It panics with a [*ekskms.PropError] when
// ClusterName is missing, when a part of it is given twice, and as the constructs do.
func NewEncryptedClusterStack(scope constructs.Construct, id *string, props *EncryptedClusterStackProps) *EncryptedClusterStack {
	if props == nil || props.Cluster == nil || props.Cluster.ClusterName == nil {
		reject("Cluster.ClusterName", "is missing, it has no default")
	}
	s := newStack(scope, id, *props.Cluster.ClusterName, props.Stack)
	s.build(props)
	return s
}

func reject(prop, format string, args ...any) {
	panic(&ekskms.PropError{Type: stackType, Prop: prop, Reason: fmt.Sprintf(format, args...)})
}

func newStack(scope constructs.Construct, id *string, cluster string, given *awscdk.StackProps) *EncryptedClusterStack {
	var props awscdk.StackProps
	if given != nil {
		props = *given
	}
	if props.Description == nil {
		props.Description = jsii.String(blueprint.Cluster{Name: cluster}.StackDescription())
	}
	props.TerminationProtection = jsii.Bool(true)
	s := &EncryptedClusterStack{name: cluster}
	awscdk.NewStack_Override(s, scope, id, &props)
	return s
}

// copied is a copy of props that may be changed, or of none.
func copied[T any](props *T) T {
	if props == nil {
		var zero T
		return zero
	}
	return *props
}

// build fills the stack. The IDs of what is in it are a contract.
func (s *EncryptedClusterStack) build(props *EncryptedClusterStackProps) {
	cluster, key, audit := copied(props.Cluster), copied(props.Key), copied(props.Audit)
	if cluster.Vpc == nil {
		chooseAvailabilityZones(s, nil)
		cluster.Vpc = ekskms.NewClusterVpc(s, jsii.String("Vpc"), nil)
	}
	switch {
	case cluster.SecretsKey == nil:
		key.ClusterName = cluster.ClusterName
		cluster.SecretsKey = ekskms.NewSecretsKey(s, jsii.String("SecretsKey"), &key)
	case props.Key != nil:
		reject("Key", "is set beside Cluster.SecretsKey: give one of them")
	}
	switch {
	case cluster.AuditTrail == nil:
		audit.SecretsKey = cluster.SecretsKey
		cluster.AuditTrail = ekskms.NewAuditTrail(s, jsii.String("AuditTrail"), &audit)
	case props.Audit != nil:
		reject("Audit", "is set beside Cluster.AuditTrail: give one of them")
	}
	if s := props.Secrets; s != nil && cluster.KubectlHandler == nil && (s.ApplyObjects == nil || *s.ApplyObjects) {
		cluster.KubectlHandler = jsii.Bool(true)
	}
	s.cluster = ekskms.NewEncryptedCluster(s, jsii.String("EncryptedCluster"), &cluster)
	if props.Secrets != nil {
		secrets := *props.Secrets
		secrets.Cluster = s.cluster.Cluster()
		checkPrincipals(cluster.AccessEntries, secrets.Readers)
		ekskms.NewSecretsRbac(s, jsii.String("SecretsRbac"), &secrets)
	}
	s.outputs()
}

// checkPrincipals refuses a second access entry of one principal, which EKS would.
func checkPrincipals(entries *[]*ekskms.AccessEntry, readers *[]*ekskms.SecretReader) {
	if entries == nil || readers == nil {
		return
	}
	for i, reader := range *readers {
		if reader == nil || reader.PrincipalArns == nil {
			continue // NewSecretsRbac looks closer
		}
		for j, arn := range *reader.PrincipalArns {
			for k, entry := range *entries {
				if arn != nil && *arn == *entry.Principal {
					reject(fmt.Sprintf("Secrets.Readers[%d].PrincipalArns[%d]", i, j),
						"is %q, which has the access entry AccessEntries[%d] already: a principal can have one, so give that the Groups and remove this", *arn, k)
				}
			}
		}
	}
}

// chooseAvailabilityZones answers CDK's question for the Availability Zones of a
// known account and Region before it is asked. CDK would look them up with
// credentials and, until it has done so, synthesize with made-up names.
func chooseAvailabilityZones(s awscdk.Stack, zones *[]*string) {
	if *awscdk.Token_IsUnresolved(s.Account()) || *awscdk.Token_IsUnresolved(s.Region()) {
		return
	}
	key := "availability-zones:account=" + *s.Account() + ":region=" + *s.Region()
	if s.Node().TryGetContext(jsii.String(key)) != nil {
		return
	}
	if zones == nil {
		zones = firstZones(blueprint.DefaultZones)
	}
	s.Node().SetContext(jsii.String(key), *zones)
}

// firstZones are the first zones of the Region, as CloudFormation knows them.
func firstZones(n int) *[]*string {
	zones := make([]*string, n)
	for i := range zones {
		zones[i] = awscdk.Fn_Select(jsii.Number(i), awscdk.Fn_GetAzs(nil))
	}
	return &zones
}

// existingVpc is a VPC that is there, with its subnets for the cluster. CDK wants to know
// the zone of each subnet, but nothing here depends on it.
func (s *EncryptedClusterStack) existingVpc(id *string, subnets *[]*string) (awsec2.IVpc, *awsec2.SubnetSelection) {
	vpc := awsec2.Vpc_FromVpcAttributes(s, jsii.String("Vpc"), &awsec2.VpcAttributes{
		VpcId:             id,
		AvailabilityZones: firstZones(len(*subnets)),
		PrivateSubnetIds:  subnets,
	})
	awscdk.Annotations_Of(vpc).AcknowledgeWarning(jsii.String("@aws-cdk/aws-ec2:noSubnetRouteTableId"),
		jsii.String("No route is added to the existing subnets."))
	return vpc, &awsec2.SubnetSelection{Subnets: vpc.PrivateSubnets()}
}

func (s *EncryptedClusterStack) outputs() {
	output := func(o blueprint.Output, value *string, export ...string) {
		props := &awscdk.CfnOutputProps{Value: value, Description: jsii.String(o.Description)}
		if s.shares && len(export) > 0 {
			props.ExportName = &export[0]
		}
		awscdk.NewCfnOutput(s, jsii.String(o.ID), props)
	}
	if required := s.cluster.SecretsKey().RequiredKeyPolicyStatements(); required != nil {
		output(blueprint.Outputs.ExistingKey, required)
	}
	if required := s.cluster.RequiredVolumesKeyPolicyStatements(); required != nil {
		output(blueprint.Outputs.VolumesKey, required)
	}
	output(blueprint.Outputs.ClusterName, s.cluster.Cluster().ClusterName())
	output(blueprint.Outputs.UpdateKubeconfig, s.cluster.UpdateKubeconfigCommand())
	output(blueprint.Outputs.KeyARN, s.cluster.SecretsKey().KeyArn(), place.KeyExport(s.name))
	if s.shares {
		output(blueprint.Outputs.LogsKeyARN, s.cluster.LogsKey().KeyArn(), place.LogsKeyExport(s.name))
	}
	output(blueprint.Outputs.TrailARN, s.cluster.AuditTrail().TrailArn())
	output(blueprint.Outputs.TopicARN, s.cluster.AuditTrail().Topic().TopicArn())
	if command := s.cluster.TestAlarmCommand(); command != nil {
		output(blueprint.Outputs.TestAlarm, command)
	}
	if plugin := s.cluster.KmsPlugin(); plugin != nil {
		output(blueprint.Outputs.PluginRoleARN, plugin.Role().RoleArn())
	}
}

// EncryptedCluster returns the cluster and all that is around it.
func (s *EncryptedClusterStack) EncryptedCluster() *ekskms.EncryptedCluster { return s.cluster }
