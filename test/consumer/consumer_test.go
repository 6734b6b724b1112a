// Package consumer is somebody else's CDK app: a module of its own that imports
// the constructs, and tests its template as CDK users do.
package consumer

import (
	"os"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseksv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/constructs/ekskms"
	"github.com/ekskms/ekskms/stacks"
)

func TestMain(m *testing.M) {
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}

func newStack(t *testing.T, build func(stack awscdk.Stack)) assertions.Template {
	t.Helper()
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir())})
	stack := awscdk.NewStack(app, jsii.String("Platform"), nil)
	build(stack)
	return assertions.Template_FromStack(stack, nil)
}

// TestBundle is the shortest use: one line makes the whole bundle.
func TestBundle(t *testing.T) {
	template := newStack(t, func(stack awscdk.Stack) {
		ekskms.NewEncryptedCluster(stack, jsii.String("Prod"), &ekskms.EncryptedClusterProps{ClusterName: jsii.String("prod")})
	})
	template.ResourceCountIs(jsii.String("AWS::EKS::Cluster"), jsii.Number(1))
	template.ResourceCountIs(jsii.String("AWS::CloudTrail::Trail"), jsii.Number(1))
	template.HasResourceProperties(jsii.String("AWS::EKS::Cluster"), map[string]any{
		"Name":               "prod",
		"DeletionProtection": true,
		"EncryptionConfig": []any{map[string]any{
			"Provider":  map[string]any{"KeyArn": assertions.Match_AnyValue()},
			"Resources": []any{"secrets"},
		}},
	})
	template.HasResource(jsii.String("AWS::KMS::Key"), map[string]any{
		"DeletionPolicy": "Retain",
		"Properties":     map[string]any{"EnableKeyRotation": true, "RotationPeriodInDays": 90},
	})
}

// platform is a construct of the consumer's own that goes on with plain CDK
// where the accessors lead.
func platform(scope constructs.Construct) *ekskms.EncryptedCluster {
	deployer := awsiam.Role_FromRoleArn(scope, jsii.String("Deployer"), jsii.String("arn:aws:iam::111122223333:role/Deployer"), nil)
	key := ekskms.NewSecretsKey(scope, jsii.String("Key"), &ekskms.SecretsKeyProps{
		ClusterName:    jsii.String("prod"),
		RotationPeriod: awscdk.Duration_Days(jsii.Number(365)),
		Creators:       &[]awsiam.IGrantable{deployer},
		StrictGrants:   jsii.Bool(true),
	})
	cluster := ekskms.NewEncryptedCluster(scope, jsii.String("Prod"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("prod"),
		SecretsKey:  key,
		Nodegroup:   &awseksv2.NodegroupOptions{InstanceTypes: &[]awsec2.InstanceType{awsec2.NewInstanceType(jsii.String("m7g.large"))}},
		Plugin:      &ekskms.KmsPluginOptions{Image: jsii.String("registry.example/kms-plugin:v1"), Mode: ekskms.PluginModeDaemonSet},
		AccessEntries: &[]*ekskms.AccessEntry{{Principal: jsii.String("arn:aws:iam::111122223333:role/Ops"), AccessPolicies: &[]awseksv2.IAccessPolicy{awseksv2.AccessPolicy_FromAccessPolicyName(jsii.String("AmazonEKSViewPolicy"),
			&awseksv2.AccessPolicyNameOptions{AccessScopeType: awseksv2.AccessScopeType_CLUSTER})}}},
	})
	auditor := awsiam.NewRole(scope, jsii.String("Auditor"), &awsiam.RoleProps{AssumedBy: awsiam.NewAccountRootPrincipal()})
	cluster.AuditTrail().GrantRead(auditor)
	awscdk.Tags_Of(cluster).Add(jsii.String("team"), jsii.String("platform"), nil)
	return cluster
}

func TestComposition(t *testing.T) {
	template := newStack(t, func(stack awscdk.Stack) {
		cluster := platform(stack)
		if got := *cluster.SecretsKey().AliasName(); got != "alias/eks/prod" {
			t.Errorf("the alias is %s", got)
		}
		if cluster.Vpc() == nil || cluster.KmsPlugin() == nil || cluster.LogGroup() == nil || cluster.Role() == nil {
			t.Error("an accessor returns nil")
		}
	})
	template.ResourceCountIs(jsii.String("AWS::EKS::Nodegroup"), jsii.Number(1))
	template.HasResourceProperties(jsii.String("AWS::KMS::Key"), map[string]any{
		"RotationPeriodInDays": 365,
		"KeyPolicy": map[string]any{"Statement": assertions.Match_ArrayWith(&[]any{
			assertions.Match_ObjectLike(&map[string]any{
				"Action":    "kms:CreateGrant",
				"Principal": map[string]any{"AWS": "arn:aws:iam::111122223333:role/Deployer"},
				"Condition": assertions.Match_ObjectLike(&map[string]any{"StringEquals": assertions.Match_ObjectLike(&map[string]any{
					"kms:GrantConstraintType": "EncryptionContextEquals",
				})}),
			}),
		})},
	})
	template.HasResourceProperties(jsii.String("AWS::KMS::Key"), map[string]any{
		"KeyPolicy": map[string]any{"Statement": assertions.Match_ArrayWith(&[]any{
			assertions.Match_ObjectLike(&map[string]any{"Action": "kms:Decrypt", "Principal": map[string]any{"AWS": map[string]any{
				"Fn::GetAtt": []any{assertions.Match_StringLikeRegexp(jsii.String("^Auditor")), "Arn"},
			}}}),
		})},
	})
}

// TestSecretsKeyAlone uses the key for a cluster that is made elsewhere.
func TestSecretsKeyAlone(t *testing.T) {
	template := newStack(t, func(stack awscdk.Stack) {
		key := ekskms.NewSecretsKey(stack, jsii.String("Key"), &ekskms.SecretsKeyProps{ClusterName: jsii.String("elsewhere")})
		var _ awskms.IKey = key.Key()
		ekskms.NewAuditTrail(stack, jsii.String("Audit"), &ekskms.AuditTrailProps{SecretsKey: key})
	})
	template.ResourceCountIs(jsii.String("AWS::EKS::Cluster"), jsii.Number(0))
	template.ResourceCountIs(jsii.String("AWS::Events::Rule"), jsii.Number(15))
}

func TestStack(t *testing.T) {
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir())})
	stack := stacks.NewEncryptedClusterStack(app, jsii.String("Prod"), &stacks.EncryptedClusterStackProps{
		Stack:   &awscdk.StackProps{Env: &awscdk.Environment{Account: jsii.String("111122223333"), Region: jsii.String("eu-central-1")}},
		Cluster: &ekskms.EncryptedClusterProps{ClusterName: jsii.String("prod")},
	})
	if !*stack.TerminationProtection() {
		t.Error("the stack is not protected")
	}
	template := assertions.Template_FromStack(stack, nil)
	for _, output := range []string{"ClusterName", "UpdateKubeconfig", "KeyArn", "TrailArn", "TopicArn", "PluginRoleArn"} {
		template.HasOutput(jsii.String(output), map[string]any{"Value": assertions.Match_AnyValue()})
	}
	if stack.EncryptedCluster().Cluster() == nil {
		t.Error("an accessor returns nil")
	}
}

// TestChecks: with AddChecks, what a consumer builds of the library passes, and what
// it builds beside it is judged.
func TestChecks(t *testing.T) {
	synth := func(build func(stack awscdk.Stack)) (failed bool) {
		app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir())})
		ekskms.AddChecks(app, nil)
		build(awscdk.NewStack(app, jsii.String("Platform"), nil))
		defer func() {
			if r := recover(); r != nil {
				t.Log(r)
				failed = true
			}
		}()
		app.Synth(nil)
		return false
	}
	if synth(func(stack awscdk.Stack) { platform(stack) }) {
		t.Error("the platform has findings")
	}
	if !synth(func(stack awscdk.Stack) {
		platform(stack)
		awseksv2.NewCfnCluster(stack, jsii.String("Other"), &awseksv2.CfnClusterProps{
			RoleArn:            jsii.String("arn:aws:iam::111122223333:role/other"),
			ResourcesVpcConfig: map[string]any{"subnetIds": []any{"subnet-1", "subnet-2"}},
		})
	}) {
		t.Error("a cluster without a key passes")
	}
}

// TestFromFile is an app that describes its clusters in a file, beside constructs of
// its own.
func TestFromFile(t *testing.T) {
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir())})
	all, err := stacks.FromFile(app, "../../examples/01_minimal/ekskms.yaml")
	if err != nil || len(all) != 1 {
		t.Fatalf("%d stacks: %v", len(all), err)
	}
	stack := all[0]
	if *stack.StackName() != "ekskms-minimal" || *stack.EncryptedCluster().SecretsKey().ClusterName() != "minimal" {
		t.Errorf("the stack is %s", *stack.StackName())
	}
	assertions.Template_FromStack(stack.Stack, nil).ResourceCountIs(jsii.String("AWS::EKS::Cluster"), jsii.Number(1))
	if _, err := stacks.FromFile(app, "missing.yaml"); err == nil {
		t.Error("a file that is missing describes a cluster")
	}
}
