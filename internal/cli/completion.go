package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ekskms/ekskms/internal/manifest"
)

// shells are those that a completion script can be written for.
var shells = []string{"bash", "fish", "powershell", "zsh"}

func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print the script with which a shell completes commands and flags",
		Long: "Print the completion script of a shell: bash, fish, powershell or zsh.\n" +
			"\n" +
			"  bash        source <(ekskms completion bash), in ~/.bashrc; needs the package bash-completion\n" +
			"  zsh         ekskms completion zsh > \"${fpath[1]}/_ekskms\"\n" +
			"  fish        ekskms completion fish > ~/.config/fish/completions/ekskms.fish\n" +
			"  powershell  ekskms completion powershell | Out-String | Invoke-Expression",
		Example:   "  ekskms completion bash",
		ValidArgs: shells,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(shells, args[0]) {
				return fmt.Errorf("completion is for one of %q, and got %q", shells, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return root.GenZshCompletion(out)
		},
	}
}

// flagValues are the values of flags that take one of a few words, by command and
// flag.
func flagValues() map[string][]string {
	hosts := []string{hyperShift}
	for _, h := range manifest.Hosts() {
		hosts = append(hosts, string(h))
	}
	severities := []string{"critical", "high", "medium", "low"}
	return map[string][]string{
		"synth output":            {"text", "json"},
		"check output":            {"text", "json", "sarif", "junit"},
		"check fail-on":           severities,
		"guard output":            {"text", "json", "sarif", "junit"},
		"guard fail-on":           severities,
		"explain output":          {"table", "json", "markdown"},
		"explain expect":          {"allowed", "denied"},
		"estimate output":         {"text", "json"},
		"inspect output":          {"text", "json"},
		"generate manifests mode": {"deployment", "sidecar", "daemonset", "static-pod"},
		"generate manifests for":  hosts,
		"generate iam-policy for": {forCreator, forPlugin, forAdmin},
	}
}

// completeFlags makes flags complete: those that take one of a few words to these,
// a configuration to files of YAML, a folder to folders.
func completeFlags(root *cobra.Command) {
	values := flagValues()
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
		path := cmd.CommandPath()
		if cmd.HasParent() {
			path = path[len(root.Name())+1:]
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if words, ok := values[path+" "+f.Name]; ok {
				must(cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)))
			}
		})
		if cmd.Flags().Lookup("file") != nil {
			must(cmd.MarkFlagFilename("file", "yaml", "yml"))
		}
		if f := cmd.Flags().Lookup("out"); f != nil && path != "generate docs" {
			must(cmd.MarkFlagDirname("out"))
		}
	}
	visit(root)
}

// must is for what can only be a fault of the program.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
