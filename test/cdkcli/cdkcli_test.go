//go:build !race

// Package cdkcli runs the real CDK CLI on this repository, as `npx cdk` does,
// and wants of it what `ekskms synth` gives.
package cdkcli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/synth"
)

func TestMain(m *testing.M) {
	// Support of Kubernetes versions is judged as of 2026-11-27.
	_ = os.Setenv("SOURCE_DATE_EPOCH", "1795737600")
	code := m.Run()
	synth.Close()
	os.Exit(code)
}

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// cdk runs the CDK CLI in a folder.
func cdk(t *testing.T, dir string, args ...string) (stderr string, err error) {
	t.Helper()
	root := repository(t)
	binary := filepath.Join(root, "node_modules", ".bin", "cdk")
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("the CDK CLI is not installed: run `npm ci` (%v)", err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Dir = dir
	// No look-ups of versions, notices or credentials.
	cmd.Env = append(os.Environ(), "CDK_DISABLE_VERSION_CHECK=1", "CDK_DISABLE_CLI_TELEMETRY=true", "CI=true",
		"AWS_EC2_METADATA_DISABLED=true", "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION=20")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	err = cmd.Run()
	return errs.String(), err
}

// TestSameTemplates: `npx cdk synth` writes byte for byte the template that
// `ekskms synth` writes.
func TestSameTemplates(t *testing.T) {
	for _, test := range []struct{ name, config, stack string }{
		{"default", "", "ekskms-ekskms"},
		{"01_minimal", "examples/01_minimal/ekskms.yaml", "ekskms-minimal"},
		{"02_existing_vpc_and_key", "examples/02_existing_vpc_and_key/ekskms.yaml", "ekskms-payments"},
		{"03_node_group", "examples/03_node_group/ekskms.yaml", "ekskms-hosted-control-planes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			theirs, ours := t.TempDir(), t.TempDir()
			args := []string{"synth", "--quiet", "--no-notices", "--output", theirs}
			file := config.Default()
			if test.config != "" {
				args = append(args, "--context", "config="+test.config)
				var err error
				if file, err = config.Load(filepath.Join(repository(t), test.config)); err != nil {
					t.Fatal(err)
				}
			}
			if stderr, err := cdk(t, repository(t), args...); err != nil {
				t.Fatalf("%v\n%s", err, stderr)
			}
			if _, err := synth.Run(context.Background(), file, synth.Options{Outdir: ours}); err != nil {
				t.Fatal(err)
			}
			name := test.stack + ".template.json"
			want, err := os.ReadFile(filepath.Join(ours, name))
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(theirs, name))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the CDK CLI gives another template (-ekskms synth +cdk synth):\n%s", cmp.Diff(string(want), string(got)))
			}
		})
	}
}

// TestBadConfiguration: a fault in the file reaches whoever runs the CDK CLI.
func TestBadConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(path, []byte("clusters:\n  - name: demo\n    key:\n      rotationPeriodDays: 30\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stderr, err := cdk(t, repository(t), "synth", "--quiet", "--no-notices", "--output", t.TempDir(), "--context", "config="+path)
	if err == nil {
		t.Fatal("the CDK CLI is content with a rotation period of 30 days")
	}
	if want := "clusters[0].key.rotationPeriodDays: 30: must be 90 to 2560 days"; !bytes.Contains([]byte(stderr), []byte(want)) {
		t.Errorf("stderr does not say %q:\n%s", want, stderr)
	}
}

// TestWorkingDirectory: without -c config, the app reads ekskms.yaml where the
// CDK CLI is run.
func TestWorkingDirectory(t *testing.T) {
	dir := t.TempDir()
	app := filepath.Join(dir, "cdkapp")
	build := exec.Command("go", "build", "-o", app, "./cmd/cdkapp")
	build.Dir = repository(t)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	flags, err := os.ReadFile(filepath.Join(repository(t), "cdk.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"cdk.json":    flags,
		"ekskms.yaml": []byte("clusters:\n  - name: here\n    plugin:\n      enabled: false\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if stderr, err := cdk(t, dir, "synth", "--quiet", "--no-notices", "--app", app); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "cdk.out", "ekskms-here.template.json")); err != nil {
		t.Error(err)
	}
}

// TestFeatureFlags: the context is that of a new app, as the CDK CLI makes it,
// but for one partition more.
func TestFeatureFlags(t *testing.T) {
	path := filepath.Join(repository(t), "node_modules", "aws-cdk", "lib", "init-templates", ".recommended-feature-flags.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("the CDK CLI is not installed: run `npm ci` (%v)", err)
	}
	var want map[string]any
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	const partitions = "@aws-cdk/core:target-partitions"
	want[partitions] = append(want[partitions].([]any), "aws-us-gov")
	if diff := cmp.Diff(want, synth.Context()); diff != "" {
		t.Errorf("internal/synth/context.json has other flags than a new app (-want +got):\n%s", diff)
	}
}
