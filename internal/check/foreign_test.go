package check_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/finding"
)

// environment is where all templates of the tests are deployed to.
var environment = cfn.Environment{Account: "111122223333", Region: "eu-central-1"}

// fault is a finding as the tables name it: the rule, and the logical ID.
type fault struct{ Rule, Resource string }

// run checks one template, and returns what was found: sorted, each once.
func run(t *testing.T, name string, template []byte) ([]fault, *finding.Report) {
	t.Helper()
	return runAt(t, name, template, time.Time{})
}

// runAt is [run] on another day than that of the tests.
func runAt(t *testing.T, name string, template []byte, now time.Time) ([]fault, *finding.Report) {
	t.Helper()
	assembly, err := cfn.Parse(name, template, environment)
	if err != nil {
		t.Fatal(err)
	}
	report, err := check.Run(estate.FromTemplates(assembly), check.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	var found []fault
	for _, f := range report.Findings {
		found = append(found, fault{f.Rule, f.LogicalID})
	}
	return sorted(found), report
}

func sorted(faults []fault) []fault {
	faults = slices.SortedFunc(slices.Values(faults), func(a, b fault) int {
		if a.Resource != b.Resource {
			return strings.Compare(a.Resource, b.Resource)
		}
		return strings.Compare(a.Rule, b.Rule)
	})
	return slices.Compact(faults)
}

// foreign is an entry of testdata/foreign/expected.yaml.
type foreign struct {
	File, Style, Title, Source, Remarks string
	Findings                            []struct {
		ID, Resource, Why string
	}
	// Notes tells that the report must say what it could not judge.
	Notes bool
}

// TestForeignTemplates holds the rules to an expert's judgement of templates that
// other tools write, which was made without the rules: nothing is missed, and
// nothing is found beside it.
func TestForeignTemplates(t *testing.T) {
	data, err := os.ReadFile("testdata/foreign/expected.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var table []foreign
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&table); err != nil {
		t.Fatal(err)
	}
	listed := []string{"expected.yaml"}
	for _, tc := range table {
		listed = append(listed, tc.File)
		t.Run(tc.File, func(t *testing.T) {
			template, err := os.ReadFile(filepath.Join("testdata/foreign", tc.File))
			if err != nil {
				t.Fatal(err)
			}
			var want []fault
			for _, f := range tc.Findings {
				if f.Why == "" {
					t.Errorf("%s on %s: the table does not say why", f.ID, f.Resource)
				}
				want = append(want, fault{f.ID, f.Resource})
			}
			found, report := runAt(t, tc.File, template, time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)) // when these were in use
			if diff := cmp.Diff(sorted(want), found); diff != "" {
				t.Errorf("- the expert, + check\n%s%s", diff, details(report))
			}
			if tc.Notes && len(report.Notes) == 0 {
				t.Error("no note says what could not be judged")
			}
		})
	}
	files, err := os.ReadDir("testdata/foreign")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !slices.Contains(listed, f.Name()) {
			t.Errorf("%s is not in expected.yaml", f.Name())
		}
	}
}

// details are the findings with their messages, for a failed test.
func details(report *finding.Report) string {
	var b strings.Builder
	for _, f := range report.Findings {
		fmt.Fprintf(&b, "%s %s: %s\n", f.Rule, f.LogicalID, f.Message)
	}
	for _, n := range report.Notes {
		fmt.Fprintf(&b, "note: %+v\n", n)
	}
	return b.String()
}
