package guard_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/guard"
)

// TestDocs holds the table of docs/reference/guard.md to the rules.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile("../../docs/reference/guard.md")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, r := range guard.Rules() {
		fmt.Fprintf(&table, "| `%s`: %s | %s | %s |\n", r.ID, r.Title, r.Severity, r.Why)
	}
	const head = "| --- | --- | --- |\n"
	if !strings.Contains(string(data), "What happens to the running cluster |\n"+head+table.String()+"\n") {
		t.Errorf("docs/reference/guard.md must have this table:\n%s", table.String())
	}
}
