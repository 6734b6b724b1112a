package parity

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/estate/estatetest"
)

var update = flag.Bool("update", false, "rewrite the table in docs/reference/parity.md")

// difference is a fact in which the renderers differ, and must.
type difference struct {
	fact string
	// cloudFormation and terraform say what each has.
	cloudFormation, terraform, why string
	// only says in which cases, if not in all.
	only []string
}

// differences is the one list of what differs. Everything else is equal.
var differences = []difference{
	{
		fact: "cluster: deletion protection", cloudFormation: "`DeletionProtection: true`", terraform: "not set",
		why: "The provider has the argument from 6.9 on (its pull request 43779), and the module works with 5.100. `prevent_destroy` stands in for it: it stops Terraform, but nobody else.",
	},
	{
		fact: "cluster: kept", cloudFormation: "deletion protection, no `DeletionPolicy`", terraform: "`prevent_destroy`",
		why: "See above. To remove a cluster, take the lifecycle block out, as you would switch deletion protection off.",
	},
	{
		fact: "access entries: whose", cloudFormation: "one more, `AmazonEKSClusterAdminPolicy` for the handler that applies Kubernetes objects", terraform: "those of the configuration",
		why: "Terraform has no such handler. Who applies the objects needs an access entry.",
	},
	{
		fact: "alarms: what there are", cloudFormation: "one more, `HandlerChanged`", terraform: "those of the key, the record and the alarms",
		why: "The handler is a Lambda function that only the CDK has. Its invocations are data events of the new trail there.",
	},
	{
		fact: "trail: data events", cloudFormation: "a new trail has the invocations of the handler", terraform: "none",
		why:  "See above.",
		only: []string{"default", "01_minimal", "03_node_group", "04_tenants_and_secrets", "08_node_groups", "09_isolated"},
	},
	{
		fact: "keys: policy (logs)", cloudFormation: "for the log group of the handler too", terraform: "for that of the control plane",
		why: "See above.",
	},
	{
		fact: "inputs that must be given", cloudFormation: "none", terraform: "`creator_arns` where `creators` is empty; `plugin_image` where `plugin.image` is",
		why:  "The CDK has a role of its own that creates the cluster, and builds the image from this module's sources. Terraform has neither.",
		only: []string{"default", "01_minimal", "02_existing_vpc_and_key", "03_node_group", "04_tenants_and_secrets", "08_node_groups", "09_isolated"},
	},
	{
		fact: "cluster: security groups of its own", cloudFormation: "one without inbound rules, made by the CDK", terraform: "none",
		why: "EKS makes the group that lets the nodes and the control plane talk. The one of the CDK lets nothing in.",
	},
}

// unseen are differences that no fact shows.
var unseen = []difference{
	{
		fact: "who applies the Kubernetes objects", cloudFormation: "a Lambda function in the VPC, at every deployment", terraform: "you, with the output `kubernetes_manifests`; or Terraform, with `apply_manifests = true`, from a machine that reaches the Kubernetes API",
		why: "The API can be reached from the VPC only, and the provider has no way into it.",
	},
	{
		fact: "names of roles and the bucket", cloudFormation: "made up by CloudFormation", terraform: "made up by the provider, with a prefix",
		why: "No policy needs them in advance, and fixed names would collide between Regions.",
	},
	{
		fact: "tags", cloudFormation: "on the stack, which passes them on", terraform: "`default_tags` of the provider", why: "Each tool has its own way.",
	},
	{
		fact: "state", cloudFormation: "held by AWS", terraform: "a file with ARNs and policies in it, but no key material and no secret: keep it where you keep state", why: "That is how Terraform works.",
	},
}

func cases(t *testing.T) map[string]config.Cluster {
	t.Helper()
	all := map[string]config.Cluster{"default": config.Default().Clusters[0]}
	paths, err := filepath.Glob("../../examples/*/ekskms.yaml")
	if err != nil || len(paths) < 4 {
		t.Fatalf("found %d examples: %v", len(paths), err)
	}
	for _, path := range paths {
		file, err := config.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(filepath.Dir(path))] = file.Clusters[0]
	}
	return all
}

// compare returns the facts that differ, with how.
func compare(a, b facts) map[string]string {
	out := map[string]string{}
	both := maps.Clone(a)
	maps.Copy(both, b)
	for name := range both {
		if reflect.DeepEqual(a[name], b[name]) {
			continue
		}
		if diff := cmp.Diff(normal(name, a[name]), normal(name, b[name])); diff != "" {
			out[name] = diff
		}
	}
	return out
}

// normal brings a fact into one form: empty is nothing, and in a policy a list is
// a set that may stand without brackets, and a number is text.
func normal(name string, v any) any {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var plain any
	if err := json.Unmarshal(data, &plain); err != nil {
		panic(err)
	}
	if slices.ContainsFunc(sets, func(set string) bool { return strings.HasPrefix(name, set) }) {
		plain = sorted(plain)
	}
	return reduce(plain, false)
}

func reduce(v any, inPolicy bool) any {
	switch v := v.(type) {
	case []any:
		list := []any{}
		for _, e := range v {
			list = append(list, reduce(e, inPolicy))
		}
		if len(list) == 0 {
			return nil
		}
		if _, text := list[0].(string); inPolicy && text {
			if len(list) == 1 {
				return list[0]
			}
			return sorted(list)
		}
		return list
	case map[string]any:
		inPolicy = inPolicy || v["Statement"] != nil
		out := map[string]any{}
		for key, value := range v {
			if r := reduce(value, inPolicy); r != nil {
				out[key] = r
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case float64:
		if inPolicy {
			return fmt.Sprint(v)
		}
	}
	return v
}

// TestTerraform holds the module to the template, fact by fact.
func TestTerraform(t *testing.T) {
	seen := map[string][]string{}
	for name, cluster := range cases(t) {
		c := readTemplate(t, estatetest.Golden(t, name))
		r := readModule(t, moduleOf(t, cluster), c)
		a, b := c.facts(), r.facts()
		if len(a) < 100 || a["keys: policy (secrets)"] == nil && a["keys: what the owner of an existing one must add"] == nil {
			t.Errorf("%s: only %d facts", name, len(a))
		}
		for fact, diff := range compare(a, b) {
			kind, _, _ := strings.Cut(fact, " (")
			i := slices.IndexFunc(differences, func(d difference) bool { return d.fact == fact || d.fact == kind })
			if i < 0 {
				t.Errorf("%s: %s (-CloudFormation +Terraform):\n%s", name, fact, diff)
				continue
			}
			seen[differences[i].fact] = append(seen[differences[i].fact], name)
		}
	}
	for _, d := range differences {
		want := d.only
		if want == nil {
			want = slices.Collect(maps.Keys(cases(t)))
		}
		if got := slices.Sorted(slices.Values(seen[d.fact])); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("%s differs in %v, and the table says in %v", d.fact, got, want)
		}
	}
}

const docs = "../../docs/reference/parity.md"

// TestDocs holds docs/reference/parity.md to the tables above.
func TestDocs(t *testing.T) {
	const begin, end = "<!-- parity: written by test/parity -->\n", "<!-- end -->"
	text, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(text), begin)
	_, tail, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no %q and %q", docs, begin, end)
	}
	b := &strings.Builder{}
	b.WriteString("\n| What | CloudFormation | Terraform | Why |\n| --- | --- | --- | --- |\n")
	for _, d := range append(slices.Clone(differences), unseen...) {
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", d.fact, d.cloudFormation, d.terraform, d.why)
	}
	equal := map[string][]string{}
	for name := range cases(t) {
		for fact, v := range readTemplate(t, estatetest.Golden(t, name)).facts() {
			fact, _, _ := strings.Cut(fact, " (")
			of, what, _ := strings.Cut(fact, ": ")
			if v == nil || slices.Contains(equal[of], what) || slices.ContainsFunc(differences, func(d difference) bool { return d.fact == fact }) {
				continue
			}
			equal[of] = append(equal[of], what)
		}
	}
	b.WriteString("\nEqual, in the default and in every example:\n\n")
	for _, of := range slices.Sorted(maps.Keys(equal)) {
		slices.Sort(equal[of])
		fmt.Fprintf(b, "- %s\n", strings.TrimSuffix(of+": "+strings.Join(equal[of], ", "), ": "))
	}
	b.WriteString("\n")
	want := head + begin + b.String() + end + tail
	if *update {
		if err := os.WriteFile(docs, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("run `make goldens` (-want +got):\n%s", diff)
	}
}
