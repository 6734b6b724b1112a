// Command checked is a CDK app of somebody else with the checks of this library:
// a cluster without a key, in a stage. With the argument "accepted" the findings are
// accepted.
package main

import (
	"os"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseksv2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/constructs/ekskms"
	_ "github.com/ekskms/ekskms/internal/tempdir" // before jsii makes its own
)

func main() {
	defer jsii.Close()
	app := awscdk.NewApp(nil)
	ekskms.AddChecks(app, nil)
	stage := awscdk.NewStage(app, jsii.String("Prod"), &awscdk.StageProps{
		Env: &awscdk.Environment{Account: jsii.String("111122223333"), Region: jsii.String("eu-central-1")},
	})
	stack := awscdk.NewStack(stage, jsii.String("Platform"), nil)
	cluster := awseksv2.NewCfnCluster(stack, jsii.String("Cluster"), &awseksv2.CfnClusterProps{
		RoleArn:            jsii.String("arn:aws:iam::111122223333:role/cluster"),
		ResourcesVpcConfig: map[string]any{"subnetIds": []any{"subnet-1", "subnet-2"}},
	})
	if len(os.Args) > 1 && os.Args[1] == "accepted" {
		for _, id := range []string{"secrets-not-encrypted", "endpoint-public", "audit-log-off"} {
			ekskms.SuppressCheck(cluster, jsii.String(id), jsii.String("thrown away tonight"))
		}
	}
	app.Synth(nil)
}
