package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/check"
)

func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		walk(sub, visit)
	}
}

// TestExamplesRun holds every example of the help texts to a script that runs
// it just so.
func TestExamplesRun(t *testing.T) {
	paths, err := filepath.Glob("../../test/script/testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("found %d scripts: %v", len(paths), err)
	}
	ran := map[string]bool{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if command, ok := strings.CutPrefix(strings.TrimSpace(line), "exec "); ok {
				ran[command] = true
			}
		}
	}
	walk(newRoot(), func(cmd *cobra.Command) {
		if strings.TrimSpace(cmd.Example) == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Example) {
			// A script has no shell: what the shell would do with the output
			// is left out there.
			command, _, _ := strings.Cut(strings.TrimSpace(line), " > ")
			if !ran[command] {
				t.Errorf("%s: no script runs %q", cmd.CommandPath(), command)
			}
		}
	})
}

// TestCDKCLIVersion: the command that synth suggests is the CDK CLI that the
// tests run.
func TestCDKCLIVersion(t *testing.T) {
	data, err := os.ReadFile("../../package.json")
	if err != nil {
		t.Fatal(err)
	}
	var packages struct {
		DevDependencies map[string]string `json:"devDependencies"`
	}
	if err := json.Unmarshal(data, &packages); err != nil {
		t.Fatal(err)
	}
	if want := "aws-cdk@" + packages.DevDependencies["aws-cdk"]; cdkCLI != want {
		t.Errorf("synth suggests %s, package.json has %s", cdkCLI, want)
	}
}

// TestReadmeNamesCommands: README names every command of the groups.
func TestReadmeNamesCommands(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range newRoot().Commands() {
		if cmd.GroupID != "" && !strings.Contains(string(readme), "`"+cmd.CommandPath()+"`") {
			t.Errorf("README does not name %s", cmd.CommandPath())
		}
	}
	if n := fmt.Sprintf(": %d checks", len(check.Rules())); !strings.Contains(string(readme), n) {
		t.Errorf("README does not say %q", n)
	}
}
