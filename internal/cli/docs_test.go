package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ekskms/ekskms/internal/terminal"
)

const cliDocs = "../../docs/reference/commands.md"

// reference is docs/reference/commands.md: every command, as its help has it.
func reference(t *testing.T) string {
	t.Helper()
	b := &strings.Builder{}
	b.WriteString("# The commands of ekskms\n\n" +
		"Written from the commands themselves by `make goldens`, and held fresh by a test.\n\n" +
		"Results go to stdout, everything else to stderr, as `ekskms: <what>` and, where a fix is known, `hint: <what to do>`. The exit code is 0 when the work was done, " +
		"1 when it failed or found something, 2 when the command line or an input is wrong, and 128 and the number of a signal that ended it; then nothing was written. " +
		"Colour and width follow the terminal: `NO_COLOR`, `CLICOLOR_FORCE`, `COLUMNS`. `JSII_NODE` names a Node other than that of the `PATH`.\n")
	root := newRoot()
	var all []*cobra.Command
	walk(root, func(cmd *cobra.Command) {
		if cmd.Name() != "help" && (!cmd.HasParent() || cmd.Parent().Name() != "completion") {
			all = append(all, cmd)
		}
	})
	for _, cmd := range all {
		fmt.Fprintf(b, "\n## %s\n\n```\n%s```\n", cmd.CommandPath(), helpText(cmd, terminal.Style{Width: helpWidth}, cmd == root))
	}
	return b.String()
}

func TestReference(t *testing.T) {
	want := reference(t)
	if *update {
		if err := os.WriteFile(cliDocs, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(cliDocs)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("run `make goldens` (-want +got):\n%s", diff)
	}
	walk(newRoot(), func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if cmd.HasParent() && cmd.Parent().Name() == "completion" {
				return
			}
			if !strings.Contains(want, "--"+f.Name) {
				t.Errorf("%s --%s is missing", cmd.CommandPath(), f.Name)
			}
		})
	})
}

// TestPrices holds docs/reference/prices.md to what estimate reckons with.
func TestPrices(t *testing.T) {
	const file = "../../docs/reference/prices.md"
	prices, err := os.ReadFile("../estimate/prices.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := "# Prices and quotas\n\nWritten by `make goldens`, and held fresh by a test. What `ekskms estimate` reckons with, of which it prints the arithmetic:\n\n```yaml\n" + string(prices) + "```\n"
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("run `make goldens` (-want +got):\n%s", diff)
	}
}

// A new project asks for the Go that this module asks for.
func TestLeastGo(t *testing.T) {
	data, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), "\ngo "+leastGo+"\n") {
		t.Errorf("go.mod does not say go %s", leastGo)
	}
}

// complete asks as the scripts of the shells do.
func complete(t *testing.T, args ...string) []string {
	t.Helper()
	code, stdout, stderr := run(t, "", append([]string{cobra.ShellCompRequestCmd}, args...)...)
	if code != 0 {
		t.Fatalf("%v: exit code %d: %s", args, code, stderr)
	}
	var words []string
	for line := range strings.Lines(stdout) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
		words = append(words, word)
	}
	return words
}

func TestCompletion(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"gen"}, []string{"generate"}},
		{[]string{"generate", "iam-policy", "--for", ""}, []string{"creator", "plugin", "admin", ":4"}},
		{[]string{"generate", "manifests", "--mode", "s"}, []string{"sidecar", "static-pod"}},
		{[]string{"check", "--output", ""}, []string{"sarif", "junit"}},
		{[]string{"guard", "--fail-on", "c"}, []string{"critical"}},
		{[]string{"completion", ""}, []string{"bash", "fish", "powershell", "zsh"}},
		{[]string{"synth", "--color", ""}, []string{"auto", "never"}},
		{[]string{"synth", "--file", ""}, []string{"yaml", ":8"}},
		{[]string{"generate", "terraform", "--out", ""}, []string{":16"}},
	} {
		got := complete(t, c.args...)
		for _, word := range c.want {
			if !slices.Contains(got, word) {
				t.Errorf("%q: %q is not in %q", c.args, word, got)
			}
		}
	}
	// Every flag of these names takes one of a few words, and offers them.
	walk(newRoot(), func(cmd *cobra.Command) {
		for _, name := range []string{"output", "fail-on", "expect", "mode", "for"} {
			if f := cmd.Flags().Lookup(name); f != nil && (name != "expect" || !strings.Contains(cmd.CommandPath(), "evidence")) { // which is a file
				if _, ok := f.Value.(*choiceValue); !ok {
					t.Errorf("%s --%s takes any word", cmd.CommandPath(), name)
				}
			}
		}
	})
}
