package cdkcli

// What ekskms init and ekskms eject write is taken at its word: it is built, tested and
// synthesized, with this checkout in place of a release.

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	out, err := try(dir, env, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func try(dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), append([]string{"GOWORK=off", "GOFLAGS=-mod=mod", "CDK_VALIDATION=false"}, env...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// project is a project as init makes it, whose dependencies are those of this module.
func project(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "payments")
	run(t, filepath.Dir(dir), nil, built.ekskms, "init", "payments", "--replace", root, "--cluster-admin", "arn:aws:iam::111122223333:role/ClusterAdmin")
	// So that no sum is asked for that this module knows already.
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, dir, nil, "go", "mod", "tidy")
	return dir
}

// TestInit does what the project's README and its workflow say.
func TestInit(t *testing.T) {
	dir := project(t)
	if out := run(t, dir, nil, "gofmt", "-l", "."); out != "" {
		t.Errorf("not formatted: %s", out)
	}
	run(t, dir, nil, "go", "vet", "./...")
	run(t, dir, nil, "go", "test", "./...")
	run(t, dir, nil, "git", "init", "--quiet")
	run(t, dir, nil, "git", "add", ".")
	run(t, dir, nil, "git", "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "--message", "new")
	run(t, dir, nil, "go", "tool", "ekskms", "synth", "--validate")
	run(t, dir, nil, "go", "tool", "ekskms", "check", "cdk.out")
	run(t, dir, nil, "go", "tool", "ekskms", "guard", "--base", "HEAD")
	for _, file := range []string{".github/workflows/ekskms.yaml", "README.md"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range []string{"go test ./...", "go tool ekskms check", "go tool ekskms guard --base"} {
			if !strings.Contains(string(text), command) {
				t.Errorf("%s does not say %s, and this test tries it", file, command)
			}
		}
	}

	cdk := filepath.Join(root, "node_modules", ".bin", "cdk")
	run(t, dir, nil, cdk, "synth", "--quiet", "--output", "cdk.cli")
	template := filepath.Join("cdk.cli", "ekskms-payments.template.json")
	if diff, err := try(dir, nil, "cmp", template, filepath.Join("cdk.out", "ekskms-payments.template.json")); err != nil {
		t.Errorf("cdk synth and ekskms synth differ: %s", diff)
	}

	// Ejected, the project passes its own tests, and says what is left to do.
	fromFile, err := os.ReadFile(filepath.Join(dir, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	if out := run(t, dir, nil, "go", "tool", "ekskms", "eject", "--out", ".", "--force"); !strings.Contains(out, "main.go does not read ekskms.yaml any more") {
		t.Errorf("eject says %s", out)
	}
	run(t, dir, nil, "go", "vet", "./...")
	run(t, dir, nil, "go", "test", "./...")
	if err := os.WriteFile(filepath.Join(dir, "main.go"), fromFile, 0o644); err != nil {
		t.Fatal(err)
	}

	// The test of the project can fail, and its -update is the remedy.
	edit(t, filepath.Join(dir, "ekskms.yaml"), "name: payments", "name: payments\n    key:\n      rotationPeriodDays: 180")
	if out, err := try(dir, nil, "go", "test", "./..."); err == nil || !strings.Contains(out, "the template differs") {
		t.Errorf("a changed rotation passes the snapshot test: %s", out)
	}
	run(t, dir, nil, "go", "test", ".", "-update")
	run(t, dir, nil, "go", "test", "./...")
	edit(t, filepath.Join(dir, "ekskms.yaml"), "180", "30")
	if out, err := try(dir, nil, "go", "run", "."); err == nil || !strings.Contains(out, "ekskms.yaml:7: clusters[0].key.rotationPeriodDays: 30: must be 90 to 2560 days") {
		t.Errorf("a fault of ekskms.yaml is told as %v: %s", err, out)
	}
}

func edit(t *testing.T, path, old, changed string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), old, changed, 1)
	if text == string(data) {
		t.Fatalf("%s has no %q", path, old)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestEject builds the program of every example, and holds its template to that of
// the configuration, byte for byte.
func TestEject(t *testing.T) {
	dir := project(t)
	if err := os.Remove(filepath.Join(dir, "main_test.go")); err != nil {
		t.Fatal(err)
	}
	var cdk struct{ Context map[string]any }
	data, err := os.ReadFile(filepath.Join(dir, "cdk.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &cdk); err != nil {
		t.Fatal(err)
	}
	// As the CDK CLI starts an app.
	cdk.Context["aws:cdk:enable-path-metadata"] = true
	cdk.Context["aws:cdk:version-reporting"] = false
	given, err := json.Marshal(cdk.Context)
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Glob(filepath.Join(root, "examples", "*", "ekskms.yaml"))
	if err != nil || len(examples) < 4 {
		t.Fatalf("found %d examples: %v", len(examples), err)
	}
	for _, example := range append(examples, filepath.Join(root, "test/cdkcli/testdata/everything.yaml")) {
		name := filepath.Base(filepath.Dir(example))
		t.Run(name, func(t *testing.T) {
			file := example
			run(t, dir, nil, built.ekskms, "eject", "--file", file, "--out", ".", "--force")
			if out := run(t, dir, nil, "gofmt", "-l", "main.go"); out != "" {
				t.Errorf("not formatted")
			}
			run(t, dir, nil, "go", "vet", ".")
			ejected, synthesized := t.TempDir(), t.TempDir()
			run(t, dir, []string{"CDK_OUTDIR=" + ejected, "CDK_CONTEXT_JSON=" + string(given)}, "go", "run", ".")
			run(t, dir, nil, built.ekskms, "synth", "--file", file, "--out", synthesized)
			templates, err := filepath.Glob(filepath.Join(synthesized, "*.template.json"))
			if err != nil || len(templates) != 1 {
				t.Fatalf("%d templates: %v", len(templates), err)
			}
			want, err := os.ReadFile(templates[0])
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(ejected, filepath.Base(templates[0])))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the ejected program has another template: diff %s/*.template.json %s/*.template.json", synthesized, ejected)
			}
		})
	}
}
