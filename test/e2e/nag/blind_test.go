package nag

import (
	"slices"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseks"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseksv2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/estate"
)

// TestBlindToEKSv2 shows why ekskms check is needed beside cdk-nag, which finds
// nothing at a cluster that the whole internet reaches, without a log and without
// a key: its rules for EKS know the older module only, and the NIST pack has none.
func TestBlindToEKSv2(t *testing.T) {
	rules := []string{"AwsSolutions-EKS1", "AwsSolutions-EKS2[LogExport::audit]"}
	old := judge(t, func(app awscdk.App) {
		stack := awscdk.NewStack(app, jsii.String("Old"), nil)
		awseks.NewCfnCluster(stack, jsii.String("Cluster"), &awseks.CfnClusterProps{
			RoleArn:            jsii.String("arn:aws:iam::111122223333:role/cluster"),
			ResourcesVpcConfig: &awseks.CfnCluster_ResourcesVpcConfigProperty{SubnetIds: jsii.Strings("subnet-1", "subnet-2")},
		})
	})
	for _, rule := range rules {
		if !old.has(rule) {
			t.Errorf("%s does not see a cluster of the older module either: %v", rule, old.found)
		}
	}

	nag := judge(t, func(app awscdk.App) { publicCluster(app) })
	const cluster = "New/Cluster"
	for _, f := range nag.found {
		if f.path == cluster+"/Resource" {
			t.Errorf("cdk-nag sees clusters of awseksv2 by now: %s. Say so in docs/reference/scanners.md", f.rule)
		}
	}
	templates, err := cfn.Load(nag.assembly, cfn.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	report, err := check.Run(estate.FromTemplates(templates), check.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range report.Findings {
		found = append(found, f.Rule+" "+f.Resource)
	}
	for _, id := range []string{"endpoint-public", "audit-log-off", "secrets-not-encrypted"} {
		if !slices.Contains(found, id+" "+cluster) {
			t.Errorf("ekskms check does not find %s: %q", id, found)
		}
	}
}

func publicCluster(scope constructs.Construct) {
	stack := awscdk.NewStack(scope, jsii.String("New"), nil)
	awseksv2.NewCluster(stack, jsii.String("Cluster"), &awseksv2.ClusterProps{
		Version:        awseksv2.KubernetesVersion_V1_34(),
		EndpointAccess: awseksv2.EndpointAccess_PUBLIC(),
		Vpc: awsec2.Vpc_FromVpcAttributes(stack, jsii.String("Vpc"), &awsec2.VpcAttributes{
			VpcId:             jsii.String("vpc-1"),
			AvailabilityZones: jsii.Strings("eu-central-1a", "eu-central-1b"),
			PrivateSubnetIds:  jsii.Strings("subnet-1", "subnet-2"),
		}),
		VpcSubnets: &[]*awsec2.SubnetSelection{{SubnetType: awsec2.SubnetType_PRIVATE_WITH_EGRESS}},
	})
}
