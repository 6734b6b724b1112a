package terraform_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/terraform"
	"github.com/ekskms/ekskms/internal/terraform/terraformtest"
)

var update = flag.Bool("update", false, "rewrite the golden files, and where Terraform is, the schema")

// alignment is what Terraform's formatter puts before an equals sign.
var alignment = regexp.MustCompile(` +=(?: )`)

// modules returns the module of the default, of every example, and of the keys of
// two of them.
func modules(t *testing.T) map[string][]terraform.File {
	t.Helper()
	all := map[string][]terraform.File{}
	add := func(name string, generate func(blueprint.Cluster) ([]terraform.File, error), file *config.File) {
		files, err := generate(file.Clusters[0].Blueprint())
		if err != nil {
			t.Fatal(err)
		}
		all[name] = files
	}
	add("default", terraform.Generate, config.Default())
	add("default.key", terraform.GenerateKey, config.Default())
	add("default.adopted", func(c blueprint.Cluster) ([]terraform.File, error) {
		c.Plugin, c.Creators = nil, []string{"arn:aws:iam::111122223333:role/Admin"}
		c.Refs.ClusterRole = place.Literal("arn:aws:iam::111122223333:role/eksctl-payments-ServiceRole")
		return terraform.GenerateAdopted(c)
	}, config.Default())
	paths, err := filepath.Glob("../../examples/*/ekskms.yaml")
	if err != nil || len(paths) < 4 {
		t.Fatalf("found %d examples: %v", len(paths), err)
	}
	for _, path := range paths {
		file, err := config.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(filepath.Dir(path))
		if name == "01_minimal" {
			continue // the default with a name
		}
		add(name, terraform.Generate, file)
		if strings.HasPrefix(name, "04") {
			add(name+".key", terraform.GenerateKey, file)
		}
	}
	return all
}

func TestGolden(t *testing.T) {
	for name, files := range modules(t) {
		dir := filepath.Join("testdata", "golden", name)
		if *update {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			write(t, dir, files)
		}
		golden, err := os.ReadDir(dir)
		if err != nil || len(golden) != len(files) {
			t.Errorf("%s has %d files, and %d are written: %v; run `make goldens`", dir, len(golden), len(files), err)
		}
		for _, f := range files {
			want, err := os.ReadFile(filepath.Join(dir, f.Name))
			if err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(string(want), string(f.Content)); diff != "" {
				t.Errorf("%s/%s changed; if it should, run `make goldens` (-want +got):\n%s", name, f.Name, diff)
			}
		}
	}
}

func write(t *testing.T, dir string, files []terraform.File) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// An existing key is no module.
func TestKeyModuleNeedsANewKey(t *testing.T) {
	cluster := config.Default().Clusters[0].Blueprint()
	cluster.Key = blueprint.Key{ARN: "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}
	if _, err := terraform.GenerateKey(cluster); err == nil || !strings.Contains(err.Error(), cluster.Key.ARN) {
		t.Errorf("got %v", err)
	}
}

// Anyone who reads the module finds out what each variable and output is.
func TestDescribed(t *testing.T) {
	parser := hclparse.NewParser()
	for name, files := range modules(t) {
		n := 0
		for _, f := range files {
			parsed, diags := parser.ParseHCL(f.Content, name+"/"+f.Name)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			for _, b := range parsed.Body.(*hclsyntax.Body).Blocks {
				if b.Type != "variable" && b.Type != "output" {
					continue
				}
				n++
				if b.Body.Attributes["description"] == nil || b.Type == "variable" && b.Body.Attributes["type"] == nil {
					t.Errorf("%s: %s %s has no description or no type", name, b.Type, b.Labels[0])
				}
			}
		}
		if n < 6 && (n < 2 || !strings.HasSuffix(name, ".adopted")) {
			t.Errorf("%s has %d variables and outputs", name, n)
		}
	}
}

// What a configuration says is data: none of it becomes an expression.
func TestTextIsNoTemplate(t *testing.T) {
	cluster := config.Default().Clusters[0].Blueprint()
	cluster.Tags = map[string]string{"a": `${file("/etc/passwd")}`, "b": `%{ if true }"`, "${c}": "d"}
	files, err := terraform.Generate(cluster)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name != "versions.tf" {
			continue
		}
		for _, want := range []string{`"$${file(\"/etc/passwd\")}"`, `"%%{ if true }\""`, `"$${c}"`} {
			if !strings.Contains(string(f.Content), want) {
				t.Errorf("no %s in\n%s", want, f.Content)
			}
		}
	}
}

// provider keeps the AWS provider away from AWS.
const provider = `provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "a"
  secret_key                  = "b"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
  allowed_account_ids         = null
}
`

// values are those of variables that have no default, and of those whose default
// asks AWS.
var values = map[string]string{
	"creator_arns":       `["arn:aws:iam::111122223333:role/Deployer"]`,
	"plugin_image":       "registry.example.com/kms-plugin:v1",
	"account_id":         "111122223333",
	"availability_zones": `["eu-central-1a", "eu-central-1b"]`,
	"apply_manifests":    "true",
}

// cli is Terraform with a folder of providers, so that it asks no registry.
type cli struct {
	binary, plugins string
	env             []string // beside that of the test
}

// find looks for Terraform and a mirror with the AWS provider. Neither can be had
// from the registries that the tests may use; without them, TestSchema stands.
func find(t *testing.T) cli {
	t.Helper()
	binary, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("no terraform here: TestSchema holds the modules against the provider's schema")
	}
	plugins := terraformtest.Mirror()
	if plugins == "" {
		t.Skip("no mirror with the AWS provider here: TestSchema holds the modules against its schema")
	}
	return cli{binary: binary, plugins: plugins}
}

func (c cli) run(t *testing.T, dir string, args ...string) ([]byte, error) {
	t.Helper()
	cmd := exec.Command(c.binary, args...)
	cmd.Dir = dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TF_") && !strings.HasPrefix(v, "AWS_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, "CHECKPOINT_DISABLE=1", "AWS_EC2_METADATA_DISABLED=true"), c.env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Logf("terraform %s: %v\n%s%s", strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
		return append(stdout.Bytes(), stderr.Bytes()...), err
	}
	return stdout.Bytes(), nil
}

func (c cli) must(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	out, err := c.run(t, dir, args...)
	if err != nil {
		t.FailNow()
	}
	return out
}

// open writes a module to a folder and initializes it there.
func (c cli) open(t *testing.T, files []terraform.File) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write(t, dir, files)
	c.must(t, dir, "fmt", "-check", "-diff")
	name := "provider.tf"
	for _, f := range files {
		if bytes.Contains(f.Content, []byte(`provider "aws"`)) {
			name = "provider_override.tf"
		}
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(provider), 0o644); err != nil {
		t.Fatal(err)
	}
	c.must(t, dir, "init", "-input=false", "-backend=false", "-plugin-dir="+c.plugins)
	return dir
}

// plan plans a module, and returns the actions that are planned, by address. A warning is a
// fault. It is one run of Terraform: each loads the provider, which takes seconds.
func (c cli) plan(t *testing.T, dir string, files []terraform.File) map[string]string {
	t.Helper()
	args := []string{"plan", "-input=false", "-json"}
	for name, value := range values {
		for _, f := range files {
			if bytes.Contains(f.Content, []byte(`variable "`+name+`"`)) {
				args = append(args, "-var", name+"="+value)
			}
		}
	}
	planned := map[string]string{}
	for line := range bytes.Lines(c.must(t, dir, args...)) {
		var event struct {
			Type   string
			Change struct {
				Resource struct{ Addr string }
				Action   string
			}
			Diagnostic struct{ Severity, Summary, Detail string }
		}
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		switch event.Type {
		case "planned_change":
			planned[event.Change.Resource.Addr] = event.Change.Action
		case "diagnostic":
			t.Errorf("%+v", event.Diagnostic)
		}
	}
	return planned
}

// TestTerraform has Terraform and the provider themselves judge every module.
func TestTerraform(t *testing.T) {
	c := find(t)
	for name, files := range modules(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := c.open(t, files)
			made := map[string]bool{}
			planned := c.plan(t, dir, files)
			for address, action := range planned {
				if made[address] = true; action != "create" && action != "read" {
					t.Errorf("%s: %s", address, action)
				}
			}
			want := []string{"aws_kms_key.secrets", "aws_kms_alias.secrets", "aws_eks_cluster.this", "aws_cloudtrail.this", `aws_cloudwatch_event_rule.alarm["KeyDeletionScheduled"]`, "terraform_data.kubernetes_objects[0]"}
			switch {
			case strings.HasSuffix(name, ".adopted"):
				want = []string{"aws_kms_key.secrets", "aws_kms_alias.secrets", "aws_cloudtrail.this", `aws_cloudwatch_event_rule.alarm["KeyDeletionScheduled"]`}
				if made["aws_eks_cluster.this"] {
					t.Error("a cluster is made")
				}
			case strings.HasSuffix(name, ".key"):
				want = []string{"aws_kms_key.secrets", "aws_kms_alias.secrets", "aws_iam_role.plugin"}
			case strings.HasPrefix(name, "02"):
				want = []string{"aws_eks_cluster.this", `aws_cloudwatch_event_rule.alarm["KeyDeletionScheduled"]`, "aws_iam_role.plugin"}
			case strings.HasPrefix(name, "04"):
				want = append(want, `aws_iam_role.tenant["acme"]`, `aws_eks_access_entry.this["arn:aws:iam::111122223333:role/ShopOperator"]`)
			}
			for _, address := range want {
				if !made[address] {
					t.Errorf("no %s in the plan of %d resources", address, len(made))
				}
			}
		})
	}
}

// The schema that stands where Terraform does not is the provider's own.
func TestSchemaIsTheProviders(t *testing.T) {
	c := find(t)
	dir := c.open(t, modules(t)["default"])
	got, err := reduce(c.must(t, dir, "providers", "schema", "-json"), used(t))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(schemaFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("run `go test ./internal/terraform -update` where Terraform is (-want +got):\n%s", diff)
	}
}

// The variables refuse what AWS would, before it is asked.
func TestVariablesRefuse(t *testing.T) {
	c := find(t)
	files := modules(t)["default"]
	dir := c.open(t, files)
	for name, bad := range map[string]string{
		"creator_arns":       `["arn:aws:sts::111122223333:assumed-role/Deployer/me"]`,
		"plugin_image":       "kms-plugin",
		"availability_zones": `["eu-central-1a", "eu-central-1a"]`,
	} {
		args := []string{"plan", "-input=false"}
		for n, v := range values {
			if n == name {
				v = bad
			}
			args = append(args, "-var", n+"="+v)
		}
		if out, err := c.run(t, dir, args...); err == nil {
			t.Errorf("%s = %s is accepted: %s", name, bad, out)
		}
	}
}
