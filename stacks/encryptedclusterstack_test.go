//go:build !race

package stacks_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/constructs/ekskms"
	"github.com/ekskms/ekskms/stacks"
)

func TestMain(m *testing.M) {
	// Before the first call of jsii, so that Node gets it.
	_ = os.Setenv("CDK_VALIDATION", "false")
	jsii.Close()
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}

func newApp(t *testing.T) awscdk.App {
	t.Helper()
	return awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir())})
}

func TestBadProps(t *testing.T) {
	name := jsii.String("demo")
	for want, props := range map[string]*stacks.EncryptedClusterStackProps{
		"ekskms.EncryptedClusterStack: ClusterName is missing, it has no default": nil,
		"ekskms.EncryptedClusterStack: SubnetIds is set without VpcId: give both or neither": {
			ClusterName: name, SubnetIds: jsii.Strings("subnet-1", "subnet-2")},
		"ekskms.EncryptedClusterStack: SubnetIds must name at least 2 subnets of VpcId, in different Availability Zones": {
			ClusterName: name, VpcId: jsii.String("vpc-1"), SubnetIds: jsii.Strings("subnet-1")},
		`ekskms.EncryptedClusterStack: SecretReaders[0].PrincipalArns[1] is "arn:aws:iam::111122223333:role/b", which has the access entry AccessEntries[0] already: a principal can have one, so give that the Groups and remove this`: {
			ClusterName: name, WithoutPlugin: jsii.Bool(true),
			AccessEntries: &[]*ekskms.AccessEntry{{PrincipalArn: jsii.String("arn:aws:iam::111122223333:role/b"), Policy: jsii.String("AmazonEKSViewPolicy")}},
			SecretReaders: &[]*ekskms.SecretReader{{
				Name: name, Namespace: name, SecretNames: jsii.Strings("db"), Groups: jsii.Strings("g"),
				PrincipalArns: jsii.Strings("arn:aws:iam::111122223333:role/a", "arn:aws:iam::111122223333:role/b"),
			}}},
		`ekskms.SecretsRbac: GuardExemptions is set, but Guard is "off": set that to "warn" or "deny", or leave this out`: {
			ClusterName: name, WithoutPlugin: jsii.Bool(true), SecretReaders: &[]*ekskms.SecretReader{{
				Name: name, Namespace: name, SecretNames: jsii.Strings("db"), Groups: jsii.Strings("g")}}, SecretsGuardExemptions: jsii.Strings("monitoring")},
	} {
		t.Run(want, func(t *testing.T) {
			defer func() {
				var prop *ekskms.PropError
				if err, ok := recover().(error); !ok || !errors.As(err, &prop) || prop.Error() != want {
					t.Errorf("got %v, want %s", err, want)
				}
			}()
			stacks.NewEncryptedClusterStack(newApp(t), jsii.String("Stack"), props)
		})
	}
}

// TestAvailabilityZones: no look-up is asked for, and none is made up.
func TestAvailabilityZones(t *testing.T) {
	env := &awscdk.Environment{Account: jsii.String("111122223333"), Region: jsii.String("eu-central-1")}
	for want, zones := range map[string]*[]*string{
		`"Fn::GetAZs":""`: nil,
		`"eu-central-1c"`: jsii.Strings("eu-central-1b", "eu-central-1c"),
	} {
		app := newApp(t)
		stack := stacks.NewEncryptedClusterStack(app, jsii.String("Stack"), &stacks.EncryptedClusterStackProps{
			ClusterName: jsii.String("demo"), Env: env, NewVpc: &ekskms.ClusterVpcProps{AvailabilityZones: zones}, WithoutPlugin: jsii.Bool(true)})
		template, err := json.Marshal(assertions.Template_FromStack(stack, nil).ToJSON())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(template), want) || strings.Contains(string(template), "dummy1a") {
			t.Errorf("the subnets are not in %s", want)
		}
		if missing := app.Synth(nil).Manifest().Missing; missing != nil && len(*missing) > 0 {
			t.Errorf("CDK would look up %d things", len(*missing))
		}
	}
}
