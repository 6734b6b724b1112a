package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCases holds check and guard to small inputs from the field with the right answers.
func TestCases(t *testing.T) {
	const folder = "testdata/cases"
	data, err := os.ReadFile(filepath.Join(folder, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Case, Title, Command, New, Old string
		Exit                           *int
		// Finding is a pattern for the rules of findings, at Resource; nothing of the findings
		// and messages may match Never, of which "." allows no finding at all.
		Finding, Resource, Never string
	}
	if err := json.Unmarshal(data, &cases); err != nil || len(cases) < 43 {
		t.Fatalf("%d cases: %v", len(cases), err)
	}
	for _, c := range cases {
		t.Run(c.Case+" "+c.Command, func(t *testing.T) {
			args := []string{c.Command, "--account", "111122223333", "--region", "eu-central-1", "--output", "json"}
			if c.Old != "" {
				args = append(args, "--against", filepath.Join(folder, c.Old))
			}
			code, stdout, stderr := run(t, "", append(args, filepath.Join(folder, c.New))...)
			var report struct {
				Findings []map[string]any
				Notes    []any
			}
			if err := json.Unmarshal([]byte(stdout), &report); err != nil {
				t.Fatalf("%v: %s", err, stderr)
			}
			if code > 1 || c.Exit != nil && code != *c.Exit {
				t.Errorf("%s: exit code %d", c.Title, code)
			}
			text := func(v any) string {
				data, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				return string(data)
			}
			found := false
			for _, f := range report.Findings {
				found = found || regexp.MustCompile(c.Finding).MatchString(f["rule"].(string)) && regexp.MustCompile(c.Resource).MatchString(text(f))
			}
			if c.Finding != "" && !found && !regexp.MustCompile(c.Finding).MatchString(text(report.Notes)) {
				t.Errorf("%s: %q at %q is not found: %s", c.Title, c.Finding, c.Resource, text(report.Findings))
			}
			switch {
			case c.Never == ".":
				if diff := cmp.Diff([]map[string]any{}, report.Findings); diff != "" {
					t.Errorf("%s: must be silent: %s", c.Title, diff)
				}
			case c.Never != "" && regexp.MustCompile(c.Never).MatchString(text(report.Findings)+stderr):
				t.Errorf("%s: says %q: %s", c.Title, c.Never, text(report.Findings))
			}
		})
	}
}
