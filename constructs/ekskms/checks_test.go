//go:build !race

package ekskms_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseksv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/constructs/ekskms"
)

// checked synthesizes an app with checks. It returns what the validation report
// has, as "severity rule construct", and what Synth panicked with.
func checked(t *testing.T, props *ekskms.ChecksProps, build func(app awscdk.App)) (found []string, failure string) {
	t.Helper()
	out := t.TempDir()
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(out)})
	ekskms.AddChecks(app, props)
	build(app)
	func() {
		defer func() {
			if r := recover(); r != nil {
				failure = fmt.Sprint(r)
			}
		}()
		app.Synth(nil)
	}()
	data, err := os.ReadFile(filepath.Join(out, "validation-report.json"))
	if err != nil {
		return nil, failure
	}
	var report struct {
		PluginReports []struct {
			PluginName string
			Violations []struct {
				RuleName, Severity, Description string
				ViolatingConstructs             []struct{ ConstructPath string }
			}
		}
	}
	if err := json.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	for _, p := range report.PluginReports {
		if p.PluginName != "ekskms" {
			continue
		}
		for _, v := range p.Violations {
			where := ""
			if len(v.ViolatingConstructs) > 0 {
				where = " " + v.ViolatingConstructs[0].ConstructPath
			}
			found = append(found, v.Severity+" "+v.RuleName+where)
		}
	}
	slices.Sort(found)
	return found, failure
}

func env() *awscdk.Environment {
	return &awscdk.Environment{Account: jsii.String("111122223333"), Region: jsii.String("eu-central-1")}
}

// plainCluster is a cluster without a key, as plain CDK makes it.
func plainCluster(scope constructs.Construct, stack string) awseksv2.CfnCluster {
	s := awscdk.NewStack(scope, jsii.String(stack), &awscdk.StackProps{Env: env()})
	return awseksv2.NewCfnCluster(s, jsii.String("Cluster"), &awseksv2.CfnClusterProps{
		RoleArn: jsii.String("arn:aws:iam::111122223333:role/cluster"),
		Logging: map[string]any{"clusterLogging": map[string]any{"enabledTypes": []any{map[string]any{"type": "audit"}}}},
		ResourcesVpcConfig: map[string]any{
			"subnetIds": []any{"subnet-1", "subnet-2"}, "endpointPublicAccess": false, "endpointPrivateAccess": true,
		},
	})
}

func TestChecksFailSynthesis(t *testing.T) {
	found, failure := checked(t, nil, func(app awscdk.App) { plainCluster(app, "Plain") })
	if !slices.Contains(found, "error secrets-not-encrypted Plain/Cluster") {
		t.Errorf("found %q", found)
	}
	if failure == "" {
		t.Error("the synthesis did not fail")
	}
}

func TestChecksPassOurs(t *testing.T) {
	found, failure := checked(t, nil, func(app awscdk.App) {
		s := awscdk.NewStack(app, jsii.String("Ours"), &awscdk.StackProps{Env: env()})
		ekskms.NewEncryptedCluster(s, jsii.String("Prod"), &ekskms.EncryptedClusterProps{ClusterName: jsii.String("prod")})
	})
	// What can't be told from a template, such as the account's default key for disks, is a note.
	found = slices.DeleteFunc(found, func(f string) bool { return f == "info note" })
	if len(found) > 0 || failure != "" {
		t.Errorf("found %q, failed with %q", found, failure)
	}
}

// TestChecksBelowFailOn: what is less severe is a warning.
func TestChecksBelowFailOn(t *testing.T) {
	found, failure := checked(t, &ekskms.ChecksProps{FailOn: jsii.String("critical")}, func(app awscdk.App) { plainCluster(app, "Plain") })
	if !slices.Contains(found, "warning secrets-not-encrypted Plain/Cluster") || failure != "" {
		t.Errorf("found %q, failed with %q", found, failure)
	}
}

// TestChecksOfStages: an app's checks see its stages, a stage's checks that stage.
func TestChecksOfStages(t *testing.T) {
	found, _ := checked(t, nil, func(app awscdk.App) {
		for _, name := range []string{"Dev", "Prod"} {
			plainCluster(awscdk.NewStage(app, jsii.String(name), &awscdk.StageProps{Env: env()}), "Plain")
		}
	})
	for _, want := range []string{"error secrets-not-encrypted Dev/Plain/Cluster", "error secrets-not-encrypted Prod/Plain/Cluster"} {
		if !slices.Contains(found, want) {
			t.Errorf("%q is not among %q", want, found)
		}
	}
}

func TestSuppressCheck(t *testing.T) {
	found, failure := checked(t, nil, func(app awscdk.App) {
		ekskms.SuppressCheck(plainCluster(app, "Plain"), jsii.String("secrets-not-encrypted"), jsii.String("thrown away tonight"))
	})
	if len(found) > 0 || failure != "" {
		t.Errorf("found %q, failed with %q", found, failure)
	}
	found, _ = checked(t, &ekskms.ChecksProps{Suppress: &[]*ekskms.CheckSuppression{{
		Id: jsii.String("secrets-not-encrypted"), Resource: jsii.String("One"), Reason: jsii.String("thrown away tonight")}}},
		func(app awscdk.App) { plainCluster(app, "One"); plainCluster(app, "Two") })
	if slices.Contains(found, "error secrets-not-encrypted One/Cluster") || !slices.Contains(found, "error secrets-not-encrypted Two/Cluster") {
		t.Errorf("found %q", found)
	}
}

// TestSuppressCheckOnLevelTwo reaches the resource below, and keeps what stands
// there.
func TestSuppressCheckOnLevelTwo(t *testing.T) {
	stack := newStack(t)
	key := awskms.NewKey(stack, jsii.String("Key"), nil)
	ekskms.SuppressCheck(key, jsii.String("key-rotation-off"), jsii.String("one"))
	ekskms.SuppressCheck(key, jsii.String("key-deletable"), jsii.String("two"))
	metadata, _ := json.Marshal(key.Node().DefaultChild().(awskms.CfnKey).GetMetadata(jsii.String("ekskms:checks")))
	if want := `{"suppress":[{"id":"key-rotation-off","reason":"one"},{"id":"key-deletable","reason":"two"}]}`; string(metadata) != want {
		t.Errorf("%s, want %s", metadata, want)
	}
}

// TestChecksRefuse: what is misspelt is said at once.
func TestChecksRefuse(t *testing.T) {
	for want, build := range map[string]func(stack awscdk.Stack){
		"ekskms.AddChecks: scope is no app and no stage": func(s awscdk.Stack) { ekskms.AddChecks(s, nil) },
		`ekskms.AddChecks: FailOn is "hgih", must be low, medium, high or critical`: func(awscdk.Stack) {
			ekskms.AddChecks(awscdk.NewApp(nil), &ekskms.ChecksProps{FailOn: jsii.String("hgih")})
		},
		`ekskms.AddChecks: Suppress can't be taken: suppression of "endpoint-pubic"`: func(awscdk.Stack) {
			ekskms.AddChecks(awscdk.NewApp(nil), &ekskms.ChecksProps{Suppress: &[]*ekskms.CheckSuppression{{Id: jsii.String("endpoint-pubic"), Reason: jsii.String("a")}}})
		},
		`ekskms.SuppressCheck: id or reason can't be taken: suppression of "key-del`: func(s awscdk.Stack) {
			ekskms.SuppressCheck(awssns.NewTopic(s, jsii.String("T"), nil), jsii.String("key-deletable"), nil)
		},
		"ekskms.SuppressCheck: construct is Test, which is not a single resource": func(s awscdk.Stack) { ekskms.SuppressCheck(s, jsii.String("key-deletable"), jsii.String("a")) },
	} {
		t.Run(want, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
					t.Errorf("panicked with %q", got)
				}
			}()
			build(newStack(t))
		})
	}
}

// TestCDKsOwnWays: what docs/reference/scanners.md says on CDK's acknowledgements and on its
// context key.
func TestCDKsOwnWays(t *testing.T) {
	found, failure := checked(t, nil, func(app awscdk.App) {
		awscdk.Validations_Of(plainCluster(app, "One")).Acknowledge(&awscdk.Acknowledgment{
			Id: jsii.String("ekskms::secrets-not-encrypted"), Reason: jsii.String("thrown away tonight"),
		})
		plainCluster(app, "Two")
	})
	if !slices.Equal(found, []string{"error secrets-not-encrypted Two/Cluster"}) || failure == "" {
		t.Errorf("acknowledged at one cluster, and found %q, failed with %q", found, failure)
	}
	found, failure = checked(t, nil, func(app awscdk.App) {
		app.Node().SetContext(jsii.String("@aws-cdk/core:failSynthOnValidationErrors"), false)
		plainCluster(app, "Plain")
	})
	if !slices.Contains(found, "error secrets-not-encrypted Plain/Cluster") || failure != "" {
		t.Errorf("found %q, failed with %q", found, failure)
	}
}
