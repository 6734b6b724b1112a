//go:build !race

package stacks_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
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
	reader := func(change func(*ekskms.SecretReader)) *[]*ekskms.SecretReader {
		r := &ekskms.SecretReader{Name: name, Namespace: name, SecretNames: jsii.Strings("db"), Groups: jsii.Strings("g")}
		change(r)
		return &[]*ekskms.SecretReader{r}
	}
	cluster := func() *ekskms.EncryptedClusterProps {
		return &ekskms.EncryptedClusterProps{
			ClusterName: name, Plugin: ekskms.KmsPluginOptions_NONE(),
			AccessEntries: &[]*ekskms.AccessEntry{{Principal: jsii.String("arn:aws:iam::111122223333:role/b"), Groups: jsii.Strings("g")}},
		}
	}
	elsewhere := func(t *testing.T) ekskms.ISecretsKey {
		return ekskms.NewSecretsKey(awscdk.NewStack(newApp(t), jsii.String("Elsewhere"), nil), jsii.String("Key"), &ekskms.SecretsKeyProps{ClusterName: name})
	}
	for want, props := range map[string]func(t *testing.T) *stacks.EncryptedClusterStackProps{
		"ekskms.EncryptedClusterStack: Cluster.ClusterName is missing, it has no default": func(*testing.T) *stacks.EncryptedClusterStackProps { return nil },
		`ekskms.EncryptedClusterStack: Secrets.Readers[0].PrincipalArns[1] is "arn:aws:iam::111122223333:role/b", which has the access entry AccessEntries[0] already: a principal can have one, so give that the Groups and remove this`: func(*testing.T) *stacks.EncryptedClusterStackProps {
			return &stacks.EncryptedClusterStackProps{Cluster: cluster(), Secrets: &ekskms.SecretsRbacProps{Readers: reader(func(r *ekskms.SecretReader) {
				r.PrincipalArns = jsii.Strings("arn:aws:iam::111122223333:role/a", "arn:aws:iam::111122223333:role/b")
			})}}
		},
		`ekskms.SecretsRbac: GuardExemptions is set, but Guard is "off": set that to "warn" or "deny", or leave this out`: func(*testing.T) *stacks.EncryptedClusterStackProps {
			return &stacks.EncryptedClusterStackProps{Cluster: cluster(), Secrets: &ekskms.SecretsRbacProps{
				Readers: reader(func(*ekskms.SecretReader) {}), GuardExemptions: jsii.Strings("monitoring")}}
		},
		"ekskms.EncryptedClusterStack: Key is set beside Cluster.SecretsKey: give one of them": func(t *testing.T) *stacks.EncryptedClusterStackProps {
			c := cluster()
			c.SecretsKey = elsewhere(t)
			return &stacks.EncryptedClusterStackProps{Cluster: c, Key: &ekskms.SecretsKeyProps{}}
		},
		"ekskms.EncryptedClusterStack: Audit is set beside Cluster.AuditTrail: give one of them": func(t *testing.T) *stacks.EncryptedClusterStackProps {
			c := cluster()
			c.SecretsKey = elsewhere(t)
			c.AuditTrail = ekskms.NewAuditTrail(awscdk.Stack_Of(c.SecretsKey), jsii.String("Audit"), &ekskms.AuditTrailProps{SecretsKey: c.SecretsKey})
			return &stacks.EncryptedClusterStackProps{Cluster: c, Audit: &ekskms.AuditTrailProps{}}
		},
	} {
		t.Run(want, func(t *testing.T) {
			defer func() {
				var prop *ekskms.PropError
				if err, ok := recover().(error); !ok || !errors.As(err, &prop) || prop.Error() != want {
					t.Errorf("got %v, want %s", err, want)
				}
			}()
			stacks.NewEncryptedClusterStack(newApp(t), jsii.String("Stack"), props(t))
		})
	}
}

// TestAvailabilityZones: no look-up is asked for, and none is made up.
func TestAvailabilityZones(t *testing.T) {
	env := &awscdk.Environment{Account: jsii.String("111122223333"), Region: jsii.String("eu-central-1")}
	fromFile := func(app awscdk.App) {
		path := filepath.Join(t.TempDir(), "ekskms.yaml")
		text := "clusters: [{name: demo, account: '111122223333', region: eu-central-1, plugin: {enabled: false}, vpc: {availabilityZones: [eu-central-1b, eu-central-1c]}}]"
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if made, err := stacks.FromFile(app, path); err != nil || len(made) != 1 {
			t.Fatalf("%d stacks: %v", len(made), err)
		}
	}
	fromGo := func(app awscdk.App) {
		stacks.NewEncryptedClusterStack(app, jsii.String("Stack"), &stacks.EncryptedClusterStackProps{
			Stack:   &awscdk.StackProps{Env: env, TerminationProtection: jsii.Bool(false)},
			Cluster: &ekskms.EncryptedClusterProps{ClusterName: jsii.String("demo"), Plugin: ekskms.KmsPluginOptions_NONE()},
		})
	}
	for want, build := range map[string]func(awscdk.App){`"Fn::GetAZs": ""`: fromGo, `"eu-central-1c"`: fromFile} {
		app := newApp(t)
		build(app)
		assembly := app.Synth(nil)
		stack := (*assembly.Stacks())[0]
		if !*stack.TerminationProtection() {
			t.Error("the stack is not protected")
		}
		template, err := os.ReadFile(*stack.TemplateFullPath())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(template), want) || strings.Contains(string(template), "dummy1a") {
			t.Errorf("the subnets are not in %s", want)
		}
		// Not CloudAssembly.Manifest, at which jsii panics with awscdk 2.276.
		data, err := os.ReadFile(filepath.Join(*assembly.Directory(), "manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		var manifest struct {
			Artifacts map[string]any
			Missing   []any
		}
		if err := json.Unmarshal(data, &manifest); err != nil || len(manifest.Artifacts) == 0 {
			t.Fatalf("the manifest is %s: %v", data, err)
		}
		if len(manifest.Missing) > 0 {
			t.Errorf("CDK would look up %v", manifest.Missing)
		}
	}
}
