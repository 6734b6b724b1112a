//go:build !race

package ekskms_test

import (
	"fmt"
	"os"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudtrail"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseksv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseventstargets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/constructs/ekskms"
)

// assemblies is where the examples write, until TestMain ends.
var assemblies string

// exampleStack is a stack of the reader's own.
func exampleStack() awscdk.Stack {
	dir, err := os.MkdirTemp(assemblies, "cdk.out-")
	if err != nil {
		panic(err)
	}
	return awscdk.NewStack(awscdk.NewApp(&awscdk.AppProps{Outdir: &dir}), jsii.String("payments"), nil)
}

// layer is a Lambda layer with kubectl, which was published before.
func layer(stack awscdk.Stack) awslambda.ILayerVersion {
	return awslambda.LayerVersion_FromLayerVersionArn(stack, jsii.String("Kubectl"),
		jsii.String("arn:aws:lambda:eu-central-1:111122223333:layer:kubectl-v34:1"))
}

// The bundle: one construct makes the VPC, the key, the cluster, trail, alarms and the
// plugin.
func Example() {
	stack := exampleStack()
	cluster := ekskms.NewEncryptedCluster(stack, jsii.String("EncryptedCluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("payments"),
		AccessEntries: &[]*ekskms.AccessEntry{{
			Principal: jsii.String("arn:aws:iam::111122223333:role/ClusterAdmin"),
			AccessPolicies: &[]awseksv2.IAccessPolicy{
				awseksv2.AccessPolicy_FromAccessPolicyName(jsii.String("AmazonEKSClusterAdminPolicy"),
					&awseksv2.AccessPolicyNameOptions{AccessScopeType: awseksv2.AccessScopeType_CLUSTER}),
			},
		}},
	})
	// From here on it is plain CDK.
	cluster.Cluster().AddManifest(jsii.String("Namespace"), &map[string]any{
		"apiVersion": "v1",
		"kind":       "Namespace",
		"metadata":   map[string]any{"name": "payments"},
	})
	fmt.Println(*cluster.SecretsKey().AliasName())
	// Output: alias/eks/payments
}

// Make a part first and pass it on to choose its props.
func ExampleNewEncryptedCluster() {
	stack := exampleStack()
	key := ekskms.NewSecretsKey(stack, jsii.String("SecretsKey"), &ekskms.SecretsKeyProps{
		ClusterName:    jsii.String("payments"),
		RotationPeriod: awscdk.Duration_Days(jsii.Number(180)),
	})
	trail := ekskms.NewAuditTrail(stack, jsii.String("AuditTrail"), &ekskms.AuditTrailProps{
		SecretsKey: key,
		Retention:  awscdk.Duration_Days(jsii.Number(730)),
		Emails:     jsii.Strings("security@example.com"),
	})
	cluster := ekskms.NewEncryptedCluster(stack, jsii.String("EncryptedCluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("payments"),
		SecretsKey:  key,
		AuditTrail:  trail,
		Nodegroup:   &awseksv2.NodegroupOptions{MinSize: jsii.Number(3), CapacityType: awseksv2.CapacityType_SPOT},
		Plugin:      ekskms.KmsPluginOptions_NONE(),
	})
	fmt.Println(cluster.SecretsKey() == ekskms.ISecretsKey(key), cluster.KmsPlugin() == nil)
	// Output: true true
}

// A VPC of your own needs private subnets from which AWS's APIs can be reached, in two
// Availability Zones or more.
func ExampleNewEncryptedCluster_existingVpc() {
	stack := exampleStack()
	vpc := awsec2.Vpc_FromVpcAttributes(stack, jsii.String("Vpc"), &awsec2.VpcAttributes{
		VpcId:             jsii.String("vpc-0123456789abcdef0"),
		AvailabilityZones: jsii.Strings("eu-central-1a", "eu-central-1b"),
		PrivateSubnetIds:  jsii.Strings("subnet-0123456789abcdef0", "subnet-0123456789abcdef1"),
	})
	cluster := ekskms.NewEncryptedCluster(stack, jsii.String("EncryptedCluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("payments"),
		Vpc:         vpc,
	})
	fmt.Println(*cluster.Vpc().VpcId())
	// Output: vpc-0123456789abcdef0
}

// Roles that deploy with other credentials than those of the CDK's bootstrap roles must be
// named. Naming any replaces the default.
func ExampleNewSecretsKey() {
	stack := exampleStack()
	key := ekskms.NewSecretsKey(stack, jsii.String("SecretsKey"), &ekskms.SecretsKeyProps{
		ClusterName: jsii.String("payments"),
		Creators: &[]awsiam.IGrantable{
			awsiam.NewArnPrincipal(jsii.String("arn:aws:iam::111122223333:role/Deployer")),
		},
	})
	fmt.Println(*(*key.CreatorArns())[0])
	// Output: arn:aws:iam::111122223333:role/Deployer
}

// The policy of a key that exists can't be changed from here: its owner is told what to
// add.
func ExampleNewSecretsKey_existingKey() {
	stack := exampleStack()
	key := ekskms.NewSecretsKey(stack, jsii.String("SecretsKey"), &ekskms.SecretsKeyProps{
		ClusterName: jsii.String("payments"),
		ExistingKey: awskms.Key_FromKeyArn(stack, jsii.String("ExistingKey"),
			jsii.String("arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab")),
	})
	awscdk.NewCfnOutput(stack, jsii.String("ForTheOwnerOfTheKey"), &awscdk.CfnOutputProps{
		Value: key.RequiredKeyPolicyStatements(),
	})
	fmt.Println(*key.ClusterRolePath())
	// Output: /ekskms/payments/
}

// A plain cluster of CDK's own under the key. examples/05_own_cluster has the rest, and
// the same for CDK's older module.
func ExampleSecretsKey_GrantClusterRole() {
	stack := exampleStack()
	key := ekskms.NewSecretsKey(stack, jsii.String("SecretsKey"), &ekskms.SecretsKeyProps{ClusterName: jsii.String("payments")})
	cluster := awseksv2.NewCluster(stack, jsii.String("Cluster"), &awseksv2.ClusterProps{
		ClusterName:          key.ClusterName(),
		Version:              awseksv2.KubernetesVersion_V1_35(),
		SecretsEncryptionKey: key.Key(),
	})
	grant := key.GrantClusterRole(cluster.Role())
	// The key's policy has what the role needs: nothing is added to the role's own.
	fmt.Println(*grant.Success())
	// Output: false
}

// A key that another app or stack set makes.
func ExampleISecretsKey_imported() {
	key := ekskms.SecretsKey_FromSecretsKeyAttributes(exampleStack(), jsii.String("SecretsKey"), &ekskms.SecretsKeyAttributes{
		KeyArn:      jsii.String("arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"),
		ClusterName: jsii.String("payments"),
	})
	fmt.Println(*key.KeyArn())
	// Output: arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab
}

// Alarms go to a topic, and to whatever else is added.
func ExampleAuditTrail_OnTampering() {
	stack := exampleStack()
	key := ekskms.NewSecretsKey(stack, jsii.String("SecretsKey"), &ekskms.SecretsKeyProps{ClusterName: jsii.String("payments")})
	trail := ekskms.NewAuditTrail(stack, jsii.String("AuditTrail"), &ekskms.AuditTrailProps{SecretsKey: key})
	queue := awssqs.NewQueue(stack, jsii.String("Responses"), nil)
	trail.OnTampering(jsii.String("Responses"), awseventstargets.NewSqsQueue(queue, nil))
	fmt.Println(*trail.Trail().Node().Id())
	// Output: Trail
}

// An existing trail must record management events, read and write, KMS included. The
// alarms on the trail itself are rules in the cluster's Region, so they see tampering only
// if that is the trail's home Region. An existing topic, and the key of that topic, must
// let EventBridge publish.
func ExampleNewAuditTrail_existingTrail() {
	stack := exampleStack()
	key := ekskms.NewSecretsKey(stack, jsii.String("SecretsKey"), &ekskms.SecretsKeyProps{ClusterName: jsii.String("payments")})
	trail := ekskms.NewAuditTrail(stack, jsii.String("AuditTrail"), &ekskms.AuditTrailProps{
		SecretsKey: key,
		ExistingTrail: awscloudtrail.CfnTrail_FromTrailArn(stack, jsii.String("ExistingTrail"),
			jsii.String("arn:aws:cloudtrail:eu-central-1:111122223333:trail/management")),
		ExistingTopic: awssns.Topic_FromTopicArn(stack, jsii.String("ExistingTopic"),
			jsii.String("arn:aws:sns:eu-central-1:111122223333:security-alarms")),
	})
	fmt.Println(trail.Bucket() == nil)
	// Output: true
}

// Several clusters of one account and Region: the record first, then the clusters, each of
// which refers to it by its name, then the alarms on all of them.
func ExampleNewSharedAlarms() {
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: &assemblies})
	shared := awscdk.NewStack(app, jsii.String("shared"), nil)
	ekskms.NewSharedAuditTrail(shared, jsii.String("AuditTrail"), nil)

	alarms := awscdk.NewStack(app, jsii.String("alarms"), nil)
	watched := []*ekskms.WatchedCluster{}
	for _, name := range []string{"payments", "orders"} {
		stack := awscdk.NewStack(app, jsii.String(name), nil)
		stack.AddStackDependency(shared, nil)
		cluster := ekskms.NewEncryptedCluster(stack, jsii.String("EncryptedCluster"), &ekskms.EncryptedClusterProps{
			ClusterName: jsii.String(name),
			SecretsKey:  ekskms.NewSecretsKey(stack, jsii.String("SecretsKey"), &ekskms.SecretsKeyProps{ClusterName: jsii.String(name)}),
			AuditTrail:  ekskms.AuditTrail_FromSharedAuditTrailAttributes(stack, jsii.String("AuditTrail"), nil),
		})
		watched = append(watched, &ekskms.WatchedCluster{
			ClusterName: jsii.String(name), KeyArn: cluster.SecretsKey().KeyArn(), LogsKeyArn: cluster.LogsKey().KeyArn(),
		})
	}
	ekskms.NewSharedAlarms(alarms, jsii.String("Alarms"), &ekskms.SharedAlarmsProps{Clusters: &watched})
	fmt.Println(len(*assertions.Template_FromStack(alarms, nil).FindResources(jsii.String("AWS::Events::Rule"), nil)), "rules")
	// Output: 12 rules
}

// Hosted control planes on the cluster: the plugin of each is a sidecar in the pods of its
// API server, with an identity and an encryption context of its own.
func ExampleKmsPlugin_AddTenant() {
	stack := exampleStack()
	cluster := ekskms.NewEncryptedCluster(stack, jsii.String("EncryptedCluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("payments"),
		Plugin: &ekskms.KmsPluginOptions{
			Image: jsii.String("registry.example.com/kms-plugin:v1.0.0"),
			Tenants: &[]*ekskms.PluginTenant{{
				Name:           jsii.String("acme"),
				Namespace:      jsii.String("vcluster-acme"),
				ServiceAccount: jsii.String("vc-acme"),
			}},
		},
	})
	role := cluster.KmsPlugin().AddTenant(&ekskms.PluginTenant{
		Name:           jsii.String("globex"),
		Namespace:      jsii.String("vcluster-globex"),
		ServiceAccount: jsii.String("vc-globex"),
	})
	fmt.Println(*role.Node().Id())
	// Output: TenantRole-globex
}

// On a cluster that was made elsewhere, the plugin needs a kubectl provider, EKS Pod
// Identity, and network policies that are enforced. The key must be made for a cluster of
// that name.
func ExampleNewKmsPlugin() {
	stack := exampleStack()
	key := ekskms.NewSecretsKey(stack, jsii.String("SecretsKey"), &ekskms.SecretsKeyProps{ClusterName: jsii.String("payments")})
	existing := awseksv2.NewCluster(stack, jsii.String("Cluster"), &awseksv2.ClusterProps{
		ClusterName: jsii.String("payments"), Version: awseksv2.KubernetesVersion_V1_35(), SecretsEncryptionKey: key.Key(),
		KubectlProviderOptions: &awseksv2.KubectlProviderOptions{KubectlLayer: layer(stack)},
	})
	plugin := ekskms.NewKmsPlugin(stack, jsii.String("KmsPlugin"), &ekskms.KmsPluginProps{
		Cluster:    existing,
		SecretsKey: key,
		Mode:       ekskms.PluginModeDaemonSet,
		Image:      jsii.String("registry.example.com/kms-plugin:v1.0.0"),
	})
	fmt.Println(plugin.NodeManifest() != nil)
	// Output: true
}

// Named readers get named secrets, and a guard keeps others from being given all.
func ExampleNewSecretsRbac() {
	stack := exampleStack()
	cluster := ekskms.NewEncryptedCluster(stack, jsii.String("EncryptedCluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("payments"), Plugin: ekskms.KmsPluginOptions_NONE(), KubectlHandler: jsii.Bool(true),
	})
	rbac := ekskms.NewSecretsRbac(stack, jsii.String("SecretsRbac"), &ekskms.SecretsRbacProps{
		Cluster: cluster.Cluster(),
		Guard:   ekskms.SecretsGuardWarn,
	})
	rbac.AddReader(&ekskms.SecretReader{
		Name:          jsii.String("database"),
		Namespace:     jsii.String("shop"),
		SecretNames:   jsii.Strings("database"),
		Groups:        jsii.Strings("shop-developers"),
		PrincipalArns: jsii.Strings("arn:aws:iam::111122223333:role/ShopDeveloper"),
	})
	fmt.Println(rbac.Guard() != nil)
	// Output: true
}

// The checks of 'ekskms check' on every synthesis of an app.
func ExampleAddChecks() {
	app := awscdk.NewApp(nil)
	ekskms.AddChecks(app, &ekskms.ChecksProps{FailOn: jsii.String("high")})
}
