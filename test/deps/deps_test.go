// Package deps holds the rule of who may import whom.
package deps

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ekskms/ekskms"

// pure packages never reach CDK: their tests run without Node, and the image of
// the daemon has none.
var pure = []string{
	"internal/config", "internal/iampolicy", "internal/keypolicy", "internal/tamper", "internal/manifest",
	"internal/kmsplugin", "internal/kmsfake", "internal/inspect", "internal/cfn", "internal/check", "internal/explain", "internal/guard", "internal/names", "internal/model", "internal/terraform", "internal/scaffold", "internal/estimate", "cmd/kms-plugin",
}

// allowed are the packages of this module that a package may import directly.
var allowed = map[string][]string{
	".":                                  {},
	"cmd/ekskms":                         {"internal/cli"},
	"cmd/cdkapp":                         {"internal/config", "internal/synth", "internal/tempdir", "stacks"},
	"cmd/kms-plugin":                     {"internal/kmsplugin"},
	"constructs/ekskms":                  {".", "internal/cfn", "internal/check", "internal/iampolicy", "internal/kubectllayer", "internal/keypolicy", "internal/manifest", "internal/names", "internal/tamper"},
	"stacks":                             {"constructs/ekskms", "internal/config", "internal/names"},
	"internal/cfn":                       {},
	"internal/cfn/value":                 {"internal/cfn"},
	"internal/cfn/cfntest":               {"internal/cfn"},
	"internal/explain":                   {"internal/cfn", "internal/check", "internal/iampolicy"},
	"internal/estimate":                  {"internal/config"},
	"internal/guard":                     {"internal/cfn", "internal/cfn/value", "internal/check", "internal/iampolicy"},
	"internal/check":                     {"internal/cfn", "internal/cfn/value", "internal/iampolicy", "internal/keypolicy", "internal/tamper"},
	"internal/check/gen":                 {"internal/check/internal/docgen"},
	"internal/check/internal/docgen":     {"internal/check"},
	"internal/cli":                       {".", "constructs/ekskms", "internal/cfn", "internal/check", "internal/config", "internal/estimate", "internal/explain", "internal/guard", "internal/iampolicy", "internal/inspect", "internal/keypolicy", "internal/manifest", "internal/model", "internal/names", "internal/scaffold", "internal/synth", "internal/tempdir", "internal/terraform"},
	"internal/config":                    {"internal/config/internal/rules"},
	"internal/config/gen":                {"internal/config/internal/schemagen"},
	"internal/config/internal/rules":     {},
	"internal/config/internal/schemagen": {"internal/config", "internal/config/internal/rules"},
	"internal/iampolicy":                 {},
	"internal/inspect":                   {},
	"internal/keypolicy":                 {"internal/iampolicy"},
	"internal/kmsfake":                   {},
	"internal/kmsplugin":                 {},
	"internal/kubectllayer":              {},
	"internal/manifest":                  {},
	"internal/model":                     {"internal/cfn", "internal/config", "internal/iampolicy", "internal/keypolicy", "internal/manifest", "internal/names", "internal/tamper"},
	"internal/names":                     {},
	"internal/scaffold":                  {"internal/config", "internal/names"},
	"internal/synth":                     {"constructs/ekskms", "internal/config", "stacks"},
	"internal/tempdir":                   {},
	"internal/terraform":                 {"internal/config", "internal/iampolicy", "internal/keypolicy", "internal/manifest", "internal/model", "internal/names", "internal/tamper"},
	"internal/tamper":                    {},
}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, args...)...)
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
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
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

func TestPurePackagesNeverReachCDK(t *testing.T) {
	for _, name := range pure {
		for _, p := range list(t, "./"+name) {
			for _, dep := range p.Deps {
				if strings.Contains(dep, "aws-cdk-go") || strings.Contains(dep, "jsii") || strings.Contains(dep, "constructs-go") {
					t.Errorf("%s reaches %s", name, dep)
				}
			}
		}
	}
}

func TestCDKIsSeen(t *testing.T) {
	p := list(t, "./stacks")[0]
	if !slices.ContainsFunc(p.Deps, func(dep string) bool { return strings.Contains(dep, "aws-cdk-go") }) {
		t.Error("the check above can't fail: it does not see CDK where it is")
	}
}

func TestWhoMayImportWhom(t *testing.T) {
	for _, p := range list(t, "./...") {
		name := short(p.ImportPath)
		rule, known := allowed[name]
		if !known {
			if strings.HasPrefix(name, "test/") || strings.HasPrefix(name, "examples/") {
				continue // tests and examples may import anything
			}
			t.Errorf("%s is not in the table: say whom it may import", name)
			continue
		}
		for _, dep := range p.Imports {
			if dep != module && !strings.HasPrefix(dep, module+"/") {
				continue
			}
			if !slices.Contains(rule, short(dep)) {
				t.Errorf("%s imports %s, which the design does not allow", name, short(dep))
			}
		}
	}
}
