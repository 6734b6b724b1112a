// Package main is an EKS cluster made with plain CDK, and one of CDK's older module, each
// with the parts of ekskms around it: key, trail and alarms; on the first also the
// plugin, and who may read which secrets.
package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseks"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseksv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/constructs/ekskms"
)

func main() {
	defer jsii.Close()
	app := awscdk.NewApp(nil)
	newPlain(app)
	newOlder(app)
	app.Synth(nil)
}

// layer is a Lambda layer with kubectl, for the handler that applies Kubernetes objects.
// One that is published to your account; CDK's packages for other languages make one.
func layer(stack awscdk.Stack) awslambda.ILayerVersion {
	return awslambda.LayerVersion_FromLayerVersionArn(stack, jsii.String("Kubectl"),
		jsii.String("arn:aws:lambda:eu-central-1:111122223333:layer:kubectl-v34:1"))
}

// newPlain is a cluster of awseksv2, CDK's current module.
func newPlain(app awscdk.App) awscdk.Stack {
	stack := awscdk.NewStack(app, jsii.String("plain"), nil)
	key := ekskms.NewSecretsKey(stack, jsii.String("Key"), &ekskms.SecretsKeyProps{ClusterName: jsii.String("plain")})
	cluster := awseksv2.NewCluster(stack, jsii.String("Cluster"), &awseksv2.ClusterProps{
		ClusterName:            key.ClusterName(),
		Version:                awseksv2.KubernetesVersion_V1_35(),
		EndpointAccess:         awseksv2.EndpointAccess_PRIVATE(),
		SecretsEncryptionKey:   key.Key(),
		KubectlProviderOptions: &awseksv2.KubectlProviderOptions{KubectlLayer: layer(stack)},
	})
	// EKS tells the health of the key with this.
	key.GrantClusterRole(cluster.Role())

	ekskms.NewAuditTrail(stack, jsii.String("Audit"), &ekskms.AuditTrailProps{SecretsKey: key})
	ekskms.NewKmsPlugin(stack, jsii.String("Plugin"), &ekskms.KmsPluginProps{
		Cluster: cluster, SecretsKey: key, Image: jsii.String("registry.example.com/kms-plugin:v1"),
	})
	ekskms.NewSecretsRbac(stack, jsii.String("Secrets"), &ekskms.SecretsRbacProps{
		Cluster: cluster,
		Readers: &[]*ekskms.SecretReader{{
			Name: jsii.String("database"), Namespace: jsii.String("shop"),
			SecretNames: jsii.Strings("database"), Groups: jsii.Strings("shop-developers"),
		}},
	})
	return stack
}

// newOlder is a cluster of awseks, whose handler creates it under a role of its own.
func newOlder(app awscdk.App) awscdk.Stack {
	stack := awscdk.NewStack(app, jsii.String("older"), nil)
	key := ekskms.NewSecretsKey(stack, jsii.String("Key"), &ekskms.SecretsKeyProps{ClusterName: jsii.String("older")})
	cluster := awseks.NewCluster(stack, jsii.String("Cluster"), &awseks.ClusterProps{
		ClusterName:          key.ClusterName(),
		Version:              awseks.KubernetesVersion_Of(jsii.String("1.35")),
		EndpointAccess:       awseks.EndpointAccess_PRIVATE(),
		Vpc:                  awsec2.NewVpc(stack, jsii.String("Vpc"), &awsec2.VpcProps{MaxAzs: jsii.Number(2)}),
		SecretsEncryptionKey: key.Key(),
		KubectlLayer:         layer(stack),
	})
	key.GrantClusterRole(cluster.Role())
	key.GrantClusterCreation(cluster.AdminRole())
	ekskms.NewAuditTrail(stack, jsii.String("Audit"), &ekskms.AuditTrailProps{SecretsKey: key})
	return stack
}
