package cli

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// generated are the outputs of `ekskms generate` and `ekskms estimate` for an example, by the names of
// their goldens. Terraform's are in internal/terraform.
func generated(t *testing.T) map[string]string {
	t.Helper()
	const roles = " --cluster-role-arn arn:aws:iam::111122223333:role/cluster --plugin-role-arn arn:aws:iam::111122223333:role/plugin"
	const place = " --account 111122223333 --region eu-central-1"
	out := map[string]string{}
	for example, args := range map[string]struct{ place, key, roles string }{
		"01_minimal":              {place, " --key " + testKey, roles},
		"02_existing_vpc_and_key": {"", "", roles},
		"03_node_group":           {"", " --key " + testKey, roles},
		"04_tenants_and_secrets": {"", " --key " + testKey, roles +
			" --tenant-role-arn acme=arn:aws:iam::111122223333:role/acme --tenant-role-arn globex=arn:aws:iam::111122223333:role/globex"},
	} {
		for name, command := range map[string]string{
			"key-policy.json":          "key-policy" + args.place + args.roles,
			"key-policy-before.json":   "key-policy --statements" + args.place,
			"iam-policy-creator.json":  "iam-policy --for creator" + args.place + args.key,
			"iam-policy-plugin.json":   "iam-policy --for plugin" + args.place + args.key,
			"iam-policy-admin.json":    "iam-policy --for admin" + args.place + args.key,
			"organization-policy.json": "organization-policy --bucket logs-* --except arn:aws:iam::111122223333:role/break-glass" + args.place,
			"role-watch.json":          "role-watch" + args.place,
			"eksctl.yaml":              "eksctl" + args.place + args.key,
			"manifests.yaml":           "manifests --mode deployment --image registry.example.com/kms-plugin:v1" + args.key,
			"encryption-config.yaml":   "encryption-config",
			"estimate.txt":             "estimate",
			"docs.md":                  "report --format markdown" + args.place,
			"estimate.json":            "estimate --output json --clusters 2 --trails 1",
			"iam-policy-acme.json":     "iam-policy --for plugin --tenant acme" + args.place + args.key,
			"encryption-migrate.yaml":  "migration",
			"manifests-daemonset.yaml": "manifests --mode daemonset --image registry.example.com/kms-plugin:v1" + args.key,
		} {
			words := append([]string{"generate"}, strings.Fields(command)...)
			if strings.HasPrefix(name, "estimate") || name == "docs.md" {
				words = words[1:]
			}
			switch name {
			case "docs.md", "estimate.json", "role-watch.json", "organization-policy.json", "manifests-daemonset.yaml":
				if example == "03_node_group" || example == "01_minimal" && name != "organization-policy.json" {
					continue // much as the other two; test/iam has the policy of the first judged
				}
				words = append(words, "--file", filepath.Join("../../examples", example, "ekskms.yaml"))
			case "encryption-config.yaml", "encryption-migrate.yaml":
				if example != "01_minimal" {
					continue // they have nothing of the configuration
				}
			case "iam-policy-acme.json":
				if !strings.HasPrefix(example, "04") {
					continue
				}
				fallthrough
			default:
				words = append(words, "--file", filepath.Join("../../examples", example, "ekskms.yaml"))
			}
			code, stdout, stderr := run(t, "", words...)
			if code != 0 {
				t.Fatalf("%v: exit code %d: %s", words, code, stderr)
			}
			out[filepath.Join(example, name)] = stdout
		}
	}
	return out
}

func TestGenerateGoldens(t *testing.T) {
	const dir = "testdata/generated"
	all := generated(t)
	if *update {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	for name, got := range all {
		path := filepath.Join(dir, name)
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("%v; run `make goldens`", err)
			continue
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s changed; if it should, run `make goldens` (-want +got):\n%s", path, diff)
		}
	}
}

// eksctlSchema is that of eksctl 0.215.0, pkg/apis/eksctl.io/v1alpha5/assets, less
// its descriptions and what a ClusterConfig does not refer to.
func eksctlSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile("testdata/eksctl.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func TestEksctl(t *testing.T) {
	schema := eksctlSchema(t)
	judge := func(text string) error {
		var value any
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			t.Fatal(err)
		}
		return schema.Validate(value)
	}
	n := 0
	for name, text := range generated(t) {
		if !strings.HasSuffix(name, "eksctl.yaml") {
			continue
		}
		n++
		if err := judge(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.HasPrefix(name, "01") {
			continue
		}
		// The schema sees what it is there for.
		for _, c := range [][2]string{
			{"secretsEncryption:", "secretEncryption:"}, {"keyARN:", "keyArn:"}, {"privateAccess: true", "privateAccess: yes please"},
			{"logRetentionInDays", "retention"}, {"serviceAccountName:", "serviceAccount:"},
		} {
			if broken := strings.Replace(text, c[0], c[1], 1); broken == text || judge(broken) == nil {
				t.Errorf("%s for %s passes", c[1], c[0])
			}
		}
	}
	if n != 4 {
		t.Errorf("%d files of eksctl", n)
	}
}
