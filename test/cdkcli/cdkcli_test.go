//go:build !race

// Package cdkcli runs the real CDK CLI on this repository, as `npx cdk` does, and on
// what init and eject write, and wants of it what `ekskms synth` gives.
package cdkcli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/scratch"
	"github.com/ekskms/ekskms/internal/synth"
)

// root is that of the repository, and built are the programs that the tests run.
var (
	root  string
	built struct{ ekskms, cdkapp, checked string }
)

func TestMain(m *testing.M) {
	// Support of Kubernetes versions is judged as of 2026-11-27.
	_ = os.Setenv("SOURCE_DATE_EPOCH", "1795737600")
	dir, err := build()
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func build() (dir string, err error) {
	if root, err = filepath.Abs("../.."); err != nil {
		return "", err
	}
	if dir, err = scratch.Dir(""); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir, "./cmd/ekskms", "./cmd/cdkapp", "./test/cdkcli/checked")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%w\n%s", err, out)
	}
	built.ekskms, built.cdkapp, built.checked = filepath.Join(dir, "ekskms"), filepath.Join(dir, "cdkapp"), filepath.Join(dir, "checked")
	return dir, nil
}

// cdk runs the CDK CLI in a folder.
func cdk(t *testing.T, dir string, args ...string) (stderr string, err error) {
	t.Helper()
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

// assetHash is what a golden has in place of hashes.
var assetHash = regexp.MustCompile(`[0-9a-f]{64}`)

// TestSameTemplates: `npx cdk synth` writes the templates that `ekskms synth` writes, whose
// goldens are in test/snapshot; that of the default byte for byte.
func TestSameTemplates(t *testing.T) {
	for _, test := range []struct{ name, config, stack string }{
		{"default", "", "ekskms-ekskms"},
		{"01_minimal", "examples/01_minimal/ekskms.yaml", "ekskms-minimal"},
		{"02_existing_vpc_and_key", "examples/02_existing_vpc_and_key/ekskms.yaml", "ekskms-payments"},
		{"03_node_group", "examples/03_node_group/ekskms.yaml", "ekskms-hosted-control-planes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := t.TempDir()
			args := []string{"synth", "--quiet", "--no-notices", "--output", out}
			if test.config != "" {
				args = append(args, "--context", "config="+test.config)
			}
			if stderr, err := cdk(t, root, args...); err != nil {
				t.Fatalf("%v\n%s", err, stderr)
			}
			name := test.stack + ".template.json"
			got := read(t, filepath.Join(out, name))
			if test.name == "default" {
				run(t, t.TempDir(), nil, built.ekskms, "synth", "--out", out+".ekskms")
				if want := read(t, filepath.Join(out+".ekskms", name)); !bytes.Equal(got, want) {
					t.Errorf("the CDK CLI gives another template (-ekskms synth +cdk synth):\n%s", cmp.Diff(string(want), string(got)))
				}
			}
			var template any
			if err := json.Unmarshal(assetHash.ReplaceAll(got, []byte("<asset-hash>")), &template); err != nil {
				t.Fatal(err)
			}
			var want any
			if err := json.Unmarshal(read(t, filepath.Join(root, "test/snapshot/testdata", test.name+".golden.json")), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, template); diff != "" {
				t.Errorf("the CDK CLI gives another template (-golden +cdk synth):\n%s", diff)
			}
		})
	}
}

// TestFleet: the CDK CLI lists the stacks of many clusters and synthesizes them, with the
// templates that 'ekskms synth' writes.
func TestFleet(t *testing.T) {
	const fleet = "examples/06_fleet/fleet.yaml"
	out, own := t.TempDir(), t.TempDir()
	if stderr, err := cdk(t, root, "synth", "**", "--quiet", "--no-notices", "--output", out, "--context", "config="+fleet); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	run(t, t.TempDir(), nil, built.ekskms, "synth", filepath.Join(root, fleet), "--out", own)
	templates, err := filepath.Glob(filepath.Join(own, "*.template.json"))
	if err != nil || len(templates) != 30 {
		t.Fatalf("%d templates: %v", len(templates), err)
	}
	for _, path := range templates {
		if want, got := read(t, path), read(t, filepath.Join(out, filepath.Base(path))); !bytes.Equal(want, got) {
			t.Errorf("%s (-ekskms +cdk):\n%s", filepath.Base(path), cmp.Diff(string(want), string(got)))
		}
	}
	list := exec.Command(filepath.Join(root, "node_modules", ".bin", "cdk"), "ls", "--app", out, "--no-notices")
	list.Dir, list.Env = root, append(os.Environ(), "CDK_DISABLE_VERSION_CHECK=1", "CDK_DISABLE_CLI_TELEMETRY=true", "CI=true")
	names, err := list.Output()
	if err != nil || len(strings.Fields(string(names))) != 30 || !strings.Contains(string(names), "ekskms-payments-eu\n") {
		t.Errorf("cdk ls: %v\n%s", err, names)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestBadConfiguration: a fault in the file reaches the user of the CDK CLI.
func TestBadConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(path, []byte("clusters:\n  - name: demo\n    key:\n      rotationPeriodDays: 30\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stderr, err := cdk(t, root, "synth", "--quiet", "--no-notices", "--output", t.TempDir(), "--context", "config="+path)
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
	flags, err := os.ReadFile(filepath.Join(root, "cdk.json"))
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
	if stderr, err := cdk(t, dir, "synth", "--quiet", "--no-notices", "--app", built.cdkapp); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "cdk.out", "ekskms-here.template.json")); err != nil {
		t.Error(err)
	}
}

// TestFeatureFlags: the context is that of a new app, as the CDK CLI makes it,
// but for one partition more.
func TestFeatureFlags(t *testing.T) {
	path := filepath.Join(root, "node_modules", "aws-cdk", "lib", "init-templates", ".recommended-feature-flags.json")
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
