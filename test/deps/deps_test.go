// Package deps holds the rule of who may import whom.
package deps

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/blueprint"
)

var update = flag.Bool("update", false, "rewrite the tables in the documents")

const module = "github.com/ekskms/ekskms"

// The halves of the house, and what both stand on.
const (
	public = "public"
	makes  = "make"
	proves = "prove"
	plugin = "plugin"
	ground = "ground"
	top    = "cli" // where the halves meet
)

// room is a package, and whom of this module it may import. A room whose name ends in /*
// stands for all below it.
type room struct {
	name, half, what string
	imports          []string
	// cdk tells that it may reach awscdk and jsii. What may not is tested without Node
	// and with the race detector.
	cdk bool
}

// rooms are all packages. CONTRIBUTING.md shows them.
var rooms = []room{
	{".", public, "what the module is; it embeds the sources of the plugin's image", []string{"internal/buildcontext"}, false},
	{"constructs/ekskms", public, "the CDK library: a construct fills the blueprint with CDK tokens, and asks it", []string{
		".", "internal/blueprint", "internal/buildcontext", "internal/cfn", "internal/check", "internal/eksversion", "internal/estate", "internal/finding", "internal/iampolicy",
		"internal/kubectllayer", "internal/keypolicy", "internal/manifest", "internal/place", "internal/tamper"}, true},
	{"stacks", public, "finished stacks, and those of an ekskms.yaml", []string{"constructs/ekskms", "internal/blueprint", "internal/config", "internal/place"}, true},
	{"cmd/ekskms", top, "a few lines", []string{"internal/cli"}, true},
	{"cmd/cdkapp", top, "the app behind cdk.json", []string{"internal/config", "internal/synth", "internal/tempdir", "stacks"}, true},
	{"cmd/kms-plugin", plugin, "a few lines", []string{"internal/kmsplugin"}, false},
	{"internal/cli", top, "one file for each subcommand", []string{
		"internal/adopt", "internal/blueprint", "internal/buildcontext", "internal/cfn", "internal/value", "internal/check", "internal/config", "internal/estate", "internal/estimate",
		"internal/evidence", "internal/explain", "internal/files", "internal/finding", "internal/guard", "internal/hint", "internal/iampolicy", "internal/inspect", "internal/keypolicy", "internal/live", "internal/manifest",
		"internal/place", "internal/report", "internal/scaffold", "internal/synth", "internal/tempdir", "internal/terminal", "internal/terraform", "internal/tfplan", "internal/verify"}, true},

	{"internal/config", makes, "ekskms.yaml to a plain model, and that to a blueprint", []string{"internal/blueprint", "internal/config/internal/rules", "internal/eksversion", "internal/manifest", "internal/place"}, false},
	{"internal/config/gen", makes, "writes the JSON Schema", []string{"internal/config/internal/schemagen"}, false},
	{"internal/config/internal/rules", makes, "the limits of the fields", []string{"internal/blueprint", "internal/eksversion", "internal/place"}, false},
	{"internal/config/internal/schemagen", makes, "makes the JSON Schema", []string{"internal/config", "internal/config/internal/rules"}, false},
	{"internal/blueprint", makes, "a cluster and all around it as data: what every renderer asks", []string{"internal/iampolicy", "internal/keypolicy", "internal/manifest", "internal/place", "internal/tamper"}, false},
	{"internal/manifest", makes, "Kubernetes objects as typed values", []string{"internal/eksversion", "internal/reveal"}, false},
	{"internal/terraform", makes, "the blueprint as HCL", []string{"internal/blueprint", "internal/iampolicy", "internal/keypolicy", "internal/manifest", "internal/place", "internal/tamper"}, false},
	{"internal/terraform/terraformtest", makes, "finds Terraform's providers, for tests", nil, false},
	{"internal/scaffold", makes, "new projects, and ejected Go source", []string{"internal/blueprint", "internal/files", "internal/place"}, false},
	{"internal/estimate", makes, "prices and the sums", []string{"internal/blueprint", "internal/place"}, false},
	{"internal/synth", makes, "runs the CDK app in this process; recovers jsii's panics, nobody else does", []string{"internal/blueprint", "internal/config", "internal/eksversion", "internal/files", "internal/hint", "internal/iampolicy", "internal/place", "stacks"}, true},
	{"internal/kubectllayer", makes, "the Lambda layer with kubectl", nil, true},

	{"internal/calls", proves, "the call book: the calls that AWS makes around a cluster, with their context", []string{"internal/iampolicy"}, false},
	{"internal/cfn", proves, "CloudFormation templates and cloud assemblies, read and resolved", []string{"internal/finding", "internal/hint", "internal/place", "internal/value"}, false},
	{"internal/tfplan", proves, "Terraform plans and states, as templates", []string{"internal/cfn", "internal/place"}, false},
	{"internal/value", proves, "values that are known, unknown, or one of a few", nil, false},
	{"internal/estate", proves, "what there is: clusters, keys, principals, trails, alarms, with their policies", []string{"internal/cfn", "internal/finding", "internal/hint", "internal/iampolicy", "internal/place", "internal/value"}, false},
	{"internal/estate/estatetest", proves, "templates for tests", []string{"internal/cfn", "internal/estate"}, false},
	{"internal/check", proves, "the rules of ekskms check", []string{"internal/calls", "internal/eksversion", "internal/estate", "internal/finding", "internal/hint", "internal/iampolicy", "internal/keypolicy", "internal/place", "internal/reveal", "internal/value"}, false},
	{"internal/check/gen", proves, "writes docs/reference/checks.md", []string{"internal/check/internal/docgen"}, false},
	{"internal/check/internal/docgen", proves, "makes docs/reference/checks.md", []string{"internal/check"}, false},
	{"internal/explain", proves, "who may do what with a key", []string{"internal/estate", "internal/hint", "internal/iampolicy", "internal/place", "internal/terminal", "internal/value"}, false},
	{"internal/finding", proves, "rules, findings with their places, suppressions, the report and its forms", []string{"internal/terminal"}, false},
	{"internal/guard", proves, "the comparison of two estates", []string{"internal/check", "internal/eksversion", "internal/estate", "internal/finding", "internal/iampolicy", "internal/place", "internal/reveal", "internal/value"}, false},
	{"internal/inspect", proves, "etcd snapshots", []string{"internal/hint"}, false},

	{"internal/live", proves, "asks AWS, and only reads", []string{"internal/eksversion", "internal/place"}, false},
	{"internal/live/livetest", proves, "a fake of the APIs that live asks, for tests", []string{"internal/cfn", "internal/place", "internal/value"}, false},
	{"internal/adopt", proves, "brings a running cluster under a key", []string{"internal/finding", "internal/live", "internal/place", "internal/value", "internal/verify"}, false},
	{"internal/evidence", proves, "what CloudTrail recorded of keys, and whether that can be trusted", []string{"internal/estate", "internal/explain", "internal/iampolicy", "internal/keypolicy", "internal/place", "internal/terminal", "internal/value"}, false},
	{"internal/evidence/evidencetest", proves, "log and digest files as CloudTrail delivers them, for tests", nil, false},
	{"internal/report", proves, "the page for people, as HTML and Markdown", []string{"internal/check", "internal/estate", "internal/evidence", "internal/explain", "internal/finding", "internal/guard", "internal/iampolicy", "internal/value"}, false},
	{"internal/verify", proves, "what runs, against what is written and by the rules", []string{"internal/cfn", "internal/check", "internal/estate", "internal/finding", "internal/guard", "internal/iampolicy", "internal/live", "internal/place", "internal/value"}, false},

	{"internal/kmsplugin", plugin, "the daemon", []string{"internal/hint"}, false},
	{"internal/kmsfake", plugin, "a fake of AWS KMS for tests", []string{"internal/place"}, false},

	{"internal/place", ground, "partitions, Regions, ARNs and the fixed names around a cluster", nil, false},
	{"internal/hint", ground, "the one error with advice", nil, false},
	{"internal/eksversion", ground, "the Kubernetes versions of EKS and their support", nil, false},
	{"internal/iampolicy", ground, "IAM policies, and an evaluator of them with IAM's semantics", nil, false},
	{"internal/keypolicy", ground, "who may do what with the keys, as data", []string{"internal/iampolicy", "internal/place"}, false},
	{"internal/tamper", ground, "which calls raise an alarm, as data", nil, false},
	{"internal/reveal", ground, "which verbs and rights of Kubernetes lead to the contents of secrets", nil, false},
	{"internal/buildcontext", ground, "the sources of the plugin's image", nil, false},
	{"internal/scratch", ground, "temporary folders of tests, and those that killed ones have left", nil, false},
	{"internal/files", ground, "writes several files as one, all or none", nil, false},
	{"internal/terminal", ground, "colour, width and tables", nil, false},
	{"internal/tempdir", ground, "one clear line where there is no folder for temporary files", nil, false},

	{"test/*", "", "tests of the whole, and tools for them", nil, true},
	{"examples/*", "", "examples, each with a test", nil, true},
}

func roomOf(name string) *room {
	for i, r := range rooms {
		if prefix, all := strings.CutSuffix(r.name, "*"); r.name == name || all && strings.HasPrefix(name, prefix) {
			return &rooms[i]
		}
	}
	return nil
}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var all []pkg
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := decoder.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func short(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

func reachesCDK(p pkg) string {
	for _, dep := range p.Deps {
		if strings.Contains(dep, "aws-cdk-go") || strings.Contains(dep, "jsii") || strings.Contains(dep, "constructs-go") {
			return dep
		}
	}
	return ""
}

func TestWhoMayImportWhom(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range list(t) {
		name := short(p.ImportPath)
		r := roomOf(name)
		if r == nil {
			t.Errorf("%s is not in the table: say what it is and whom it may import", name)
			continue
		}
		seen[r.name] = true
		if dep := reachesCDK(p); dep != "" && !r.cdk {
			t.Errorf("%s reaches %s", name, dep)
		}
		if r.half == "" {
			continue // tests and examples may import anything
		}
		for _, dep := range p.Imports {
			if (dep == module || strings.HasPrefix(dep, module+"/")) && !slices.Contains(r.imports, short(dep)) {
				t.Errorf("%s imports %s, which the design does not allow", name, short(dep))
			}
		}
		for _, dep := range r.imports {
			if !slices.Contains(p.Imports, strings.TrimSuffix(module+"/"+dep, "/.")) {
				t.Errorf("%s does not import %s: take it out of the table", name, dep)
			}
		}
	}
	for _, r := range rooms {
		if !seen[r.name] && !strings.HasPrefix(r.name, "examples/") {
			t.Errorf("there is no %s: take it out of the table", r.name)
		}
	}
}

// The check above can fail: it sees CDK where it is.
func TestCDKIsSeen(t *testing.T) {
	for _, p := range list(t) {
		if short(p.ImportPath) == "stacks" && reachesCDK(p) == "" {
			t.Error("CDK is not seen in stacks")
		}
	}
}

// TestHalves: what makes and what proves meet in the command alone, the ground knows
// neither, and the blueprint does not know where it comes from.
func TestHalves(t *testing.T) {
	allowed := map[string][]string{
		public: {public, makes, ground},
		makes:  {makes, ground, public}, // synth runs the stacks
		proves: {proves, ground},
		plugin: {plugin, ground},
		ground: {ground},
		top:    {public, makes, proves, plugin, ground, top},
	}
	for _, r := range rooms {
		for _, name := range r.imports {
			to := roomOf(name)
			if to == nil {
				t.Errorf("%s may import %s, which is not in the table", r.name, name)
				continue
			}
			// AddChecks runs the checks in the user's app.
			checks := r.name == "constructs/ekskms" && (name == "internal/check" || name == "internal/cfn" || name == "internal/estate" || name == "internal/finding")
			if !checks && !slices.Contains(allowed[r.half], to.half) {
				t.Errorf("%s (%s) may not import %s (%s)", r.name, r.half, name, to.half)
			}
		}
	}
	if slices.Contains(roomOf("internal/blueprint").imports, "internal/config") {
		t.Error("the blueprint may not know the configuration")
	}
}

// TestTables holds the tables in the documents to what they are made of.
func TestTables(t *testing.T) {
	table := &strings.Builder{}
	table.WriteString("| Package | Half | What is in it | Reaches CDK |\n| --- | --- | --- | --- |\n")
	for _, r := range rooms {
		cdk := "no"
		if r.cdk {
			cdk = "yes"
		}
		fmt.Fprintf(table, "| `%s` | %s | %s | %s |\n", r.name, r.half, r.what, cdk)
	}
	holdTable(t, "../../CONTRIBUTING.md", "rooms", table.String())

	table.Reset()
	table.WriteString("| Endpoint | Kind | For |\n| --- | --- | --- |\n")
	for _, e := range blueprint.Endpoints(true) {
		kind := "interface"
		if e.Gateway {
			kind = "gateway"
		}
		fmt.Fprintf(table, "| `%s` | %s | %s |\n", e.Service, kind, e.Why)
	}
	holdTable(t, "../../docs/howto/no-internet.md", "endpoints", table.String())
}

func holdTable(t *testing.T, path, name, table string) {
	t.Helper()
	begin, end := "<!-- "+name+": written by test/deps -->\n", "<!-- end of "+name+" -->"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), begin)
	old, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the table", path)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(table, old); diff != "" {
		t.Errorf("the table in %s is stale, `make goldens` rewrites it (-want +got):\n%s", path, diff)
	}
}
