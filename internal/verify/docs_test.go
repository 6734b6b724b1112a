package verify_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/verify"
)

var update = flag.Bool("update", false, "rewrite the tables in the documents")

// TestDocs holds the tables of docs/reference/verify.md to the rules and the actions.
func TestDocs(t *testing.T) {
	const file = "../../docs/reference/verify.md"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var rules, actions strings.Builder
	rules.WriteString("| Finding | Severity | What it means | What to do |\n| --- | --- | --- | --- |\n")
	for _, r := range verify.Own() {
		fmt.Fprintf(&rules, "| `%s`: %s | %s | %s | %s |\n", r.ID, r.Title, r.Severity, r.Why, r.Fix)
	}
	of := map[string][]string{}
	var services []string
	for _, action := range live.Permissions() {
		service, name, _ := strings.Cut(action, ":")
		if of[service] == nil {
			services = append(services, service)
		}
		of[service] = append(of[service], "`"+name+"`")
	}
	actions.WriteString("| Service | Actions |\n| --- | --- |\n")
	for _, service := range services {
		fmt.Fprintf(&actions, "| %s | %s |\n", service, strings.Join(of[service], ", "))
	}
	want := between(t, between(t, string(data), "rules", rules.String()), "actions", actions.String())
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(data) != want {
		t.Error("docs/reference/verify.md is not fresh: run `make goldens`")
	}
}

// between puts a text between two comments.
func between(t *testing.T, in, name, text string) string {
	t.Helper()
	begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	before, rest, ok := strings.Cut(in, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("there are no comments %s", name)
	}
	return before + begin + "\n" + text + "\n" + end + after
}
