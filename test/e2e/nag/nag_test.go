// Package nag has cdk-nag judge the default and every example: its rule packs
// AWS Solutions and NIST 800-53 revision 5. It is in a module of its own, so that
// nobody who imports the library gets cdk-nag.
package nag

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/synth"
	"github.com/ekskms/ekskms/stacks"
)

var update = flag.Bool("update", false, "rewrite the table in docs/reference/scanners.md")

func TestMain(m *testing.M) {
	flag.Parse()
	code := 1
	if err := synth.StartKernel(false); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	synth.Close()
	os.Exit(code)
}

// packs are the beginnings of the rules' names.
var packs = []string{"AwsSolutions-", "NIST.800.53.R5-"}

// verdict is what cdk-nag says of an app.
type verdict struct {
	found []finding
	// compliant counts the rules and resources that are as they should be.
	compliant int
	// assembly is the folder of the templates.
	assembly string
}

// finding is one of cdk-nag. The rule has what was found behind it where cdk-nag
// says so: AwsSolutions-IAM4[Policy::...].
type finding struct{ rule, path string }

func (v verdict) has(rule string) bool {
	return slices.ContainsFunc(v.found, func(f finding) bool { return f.rule == rule })
}

// judge synthesizes an app under both packs.
func judge(t *testing.T, build func(awscdk.App)) verdict {
	t.Helper()
	context := synth.Context()
	context["aws:cdk:enable-path-metadata"] = true
	// cdk-nag's findings are annotations, which CDK would now fail for.
	context["@aws-cdk/core:failSynthOnValidationErrors"] = false
	v := verdict{assembly: t.TempDir()}
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(v.assembly), Context: &context})
	build(app)
	props := &cdknag.NagPackProps{ReportFormats: &[]cdknag.NagReportFormat{cdknag.NagReportFormat_JSON}}
	awscdk.Aspects_Of(app).Add(cdknag.NewAwsSolutionsChecks(props), nil)
	awscdk.Aspects_Of(app).Add(cdknag.NewNIST80053R5Checks(props), nil)
	if err := synth.Recover(func() error { app.Synth(nil); return nil }); err != nil {
		t.Fatal(err)
	}
	// The annotations name what was found, which cdk-nag's own reports do not.
	report, err := synth.ReadReport(v.assembly)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		rule, _, _ := strings.Cut(f.Message, ": ")
		switch {
		case slices.ContainsFunc(packs, func(pack string) bool { return strings.HasPrefix(rule, pack) }):
			for _, path := range f.Where {
				v.found = append(v.found, finding{rule, path})
			}
		case strings.HasPrefix(rule, "CdkNag"):
			t.Errorf("a rule of cdk-nag can't judge, which is no pass: %s", f.Message)
		}
	}
	v.compliant = compliant(t, v)
	return v
}

// compliant counts in cdk-nag's reports. What these call non-compliant must be
// what the annotations said.
func compliant(t *testing.T, v verdict) int {
	t.Helper()
	reports, err := filepath.Glob(filepath.Join(v.assembly, "*-NagReport.json"))
	if err != nil || len(reports) != len(packs) {
		t.Fatalf("%d reports: %v", len(reports), err)
	}
	n := 0
	for _, path := range reports {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var report struct {
			Lines []struct{ RuleID, ResourceID, Compliance string }
		}
		if err := json.Unmarshal(data, &report); err != nil {
			t.Fatal(err)
		}
		for _, line := range report.Lines {
			switch {
			case line.Compliance == "Compliant":
				n++
			case line.Compliance == "Non-Compliant" && slices.ContainsFunc(v.found, func(f finding) bool {
				rule, _, _ := strings.Cut(f.rule, "[")
				return rule == line.RuleID && f.path == line.ResourceID
			}):
			default:
				t.Errorf("%s of %s is %s, but no annotation says so", line.RuleID, line.ResourceID, line.Compliance)
			}
		}
	}
	return n
}

func configurations(t *testing.T) map[string]*config.File {
	t.Helper()
	files := map[string]*config.File{"default": config.Default()}
	paths, err := filepath.Glob("../../../examples/*/ekskms.yaml")
	if err != nil || len(paths) < 4 {
		t.Fatalf("found %d examples: %v", len(paths), err)
	}
	for _, path := range paths {
		file, err := config.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(filepath.Dir(path))] = file
	}
	return files
}

// TestFindings: whatever cdk-nag finds in a template of this project stands in
// the table with a reason, and the table has nothing that is not found.
func TestFindings(t *testing.T) {
	used := map[finding]bool{}
	for name, file := range configurations(t) {
		t.Run(name, func(t *testing.T) {
			nag := judge(t, func(app awscdk.App) { stacks.FromConfig(app, file) })
			if nag.compliant < 30 {
				t.Errorf("cdk-nag finds only %d things compliant: does it see the stack?", nag.compliant)
			}
			for _, f := range nag.found {
				_, f.path, _ = strings.Cut(f.path, "/") // below the stack
				if !explained(f) {
					t.Errorf("%s at %s is neither fixed nor explained", f.rule, f.path)
				}
				used[f] = true
			}
		})
	}
	for _, s := range suppressions {
		for _, path := range s.paths {
			if !used[finding{s.rule, path}] {
				t.Errorf("nothing is found of %s at %s: remove the suppression", s.rule, path)
			}
		}
	}
}

func explained(f finding) bool {
	return slices.ContainsFunc(suppressions, func(s suppression) bool {
		return s.rule == f.rule && slices.Contains(s.paths, f.path) && len(s.reason) >= 10
	})
}

// TestNagFinds is the control: the same set-up finds what is wrong with a key,
// and nothing explains it.
func TestNagFinds(t *testing.T) {
	nag := judge(t, func(app awscdk.App) {
		awskms.NewKey(awscdk.NewStack(app, jsii.String("Foreign"), nil), jsii.String("Key"), nil)
	})
	for _, rule := range []string{"AwsSolutions-KMS5", "NIST.800.53.R5-KMSBackingKeyRotationEnabled"} {
		if !nag.has(rule) {
			t.Errorf("%s is silent on a key that does not rotate: %v", rule, nag.found)
		}
	}
	for _, f := range nag.found {
		_, f.path, _ = strings.Cut(f.path, "/")
		if explained(f) {
			t.Errorf("%s at %s is explained", f.rule, f.path)
		}
	}
}

// TestDocs holds the table in docs/reference/scanners.md to the one here.
func TestDocs(t *testing.T) {
	const file = "../../../docs/reference/scanners.md"
	var b strings.Builder
	b.WriteString("| Rule | Where | Why |\n|---|---|---|\n")
	for _, s := range suppressions {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", s.rule, strings.Join(s.paths, "`, `"), s.reason)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- cdk-nag: written by test/e2e/nag -->\n", "<!-- /cdk-nag -->"
	before, rest, found := strings.Cut(string(data), begin)
	old, after, found2 := strings.Cut(rest, end)
	if !found || !found2 {
		t.Fatalf("%s lacks the marks %q and %q", file, begin, end)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+b.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if old != b.String() {
		t.Errorf("%s is not what the table says: run `go test . -update` in test/e2e/nag", file)
	}
}
