package cli

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/synth"
)

// cdkCLI is the release of the CDK CLI that deploys what this library
// synthesizes: package.json pins the same. The release tagged latest does not
// read these assemblies.
const cdkCLI = "aws-cdk@2.1148.1"

func newSynth() *cobra.Command {
	var file, output string
	var opts synth.Options
	cmd := &cobra.Command{
		Use:   "synth",
		Short: "Write the CloudFormation template and all that is deployed with it",
		Long: "Synthesize ekskms.yaml into a cloud assembly: the CloudFormation template, and the assets\n" +
			"that are deployed with it. Needs Node 22 or 24, and neither the CDK CLI nor AWS credentials.\n" +
			"\n" +
			"Without --file, ekskms.yaml in the working directory is read; if there is none, a built-in\n" +
			"default: one cluster in the account and the Region of whoever deploys.",
		Example: "  ekskms synth --file ekskms.yaml --out cdk.out --validate",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return hint.Usage(fmt.Sprintf("--output is %q, must be text or json", output), "run 'ekskms synth --help'")
			}
			if opts.Outdir == "" {
				return hint.Usage("--out is empty, must name a folder", "run 'ekskms synth --help'")
			}
			clusters, err := loadConfig(cmd, file)
			if err != nil {
				return err
			}
			done := progress(cmd.ErrOrStderr(), "ekskms: synthesizing")
			result, err := synth.Run(cmd.Context(), clusters, opts)
			done()
			if err != nil {
				return err
			}
			return printReport(cmd, result, output, clusters)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&file, "file", "f", "", "configuration `file`, or - for standard input")
	flags.StringVarP(&opts.Outdir, "out", "o", "cdk.out", "`folder` of the cloud assembly")
	flags.BoolVar(&opts.Validate, "validate", false, "judge the template with CDK's validator, which takes some seconds; an error makes the exit code 1")
	flags.StringVar(&output, "output", "text", "`format` of the report: text or json")
	return cmd
}

func loadConfig(cmd *cobra.Command, path string) (*config.File, error) {
	if path == "-" {
		return config.Read("<stdin>", cmd.InOrStdin())
	}
	file, builtIn, err := config.LoadOrDefault(path)
	if builtIn {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "ekskms: there is no %s here, so this is the built-in default\n", config.FileName)
	}
	return file, err
}

// progress says that work is going on, where somebody is watching.
func progress(stderr io.Writer, text string) (done func()) {
	file, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return func() {}
	}
	_, _ = fmt.Fprint(file, text, " ...")
	return func() { clearLine(file) }
}

// clearLine removes what progress wrote.
func clearLine(file *os.File) {
	if term.IsTerminal(int(file.Fd())) {
		_, _ = fmt.Fprint(file, "\r\x1b[K")
	}
}

func printReport(cmd *cobra.Command, r *synth.Report, output string, clusters *config.File) error {
	stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	if output == "json" {
		if err := printJSON(stdout, r); err != nil {
			return err
		}
	} else {
		w := &strings.Builder{}
		printText(w, r)
		for _, c := range clusters.Clusters {
			printPlugin(w, c.Plugin)
		}
		if _, err := io.WriteString(stdout, w.String()); err != nil {
			return err
		}
	}
	failed := false
	for _, f := range r.Findings {
		failed = failed || f.IsError()
		if output == "text" {
			_, _ = fmt.Fprintf(stderr, "ekskms: %s: %s (%s at %s)\n", f.Severity, f.Message, f.Rule, strings.Join(f.Where, ", "))
		}
	}
	if failed {
		return errFindings
	}
	return nil
}

func printText(w io.Writer, r *synth.Report) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	p("Wrote %d stack(s) to %s\n", len(r.Stacks), r.Outdir)
	for _, s := range r.Stacks {
		p("\n%s (%s)\n", s.Name, environment(s.Environment))
		p("  template: %s\n", s.Template)
		total := 0
		for _, n := range s.Resources {
			total += n
		}
		p("  resources: %d\n", total)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, kind := range slices.Sorted(maps.Keys(s.Resources)) {
			_, _ = fmt.Fprintf(table, "    %s\t%d\n", kind, s.Resources[kind])
		}
		_ = table.Flush()
		if s.ExistingKey {
			p("  what the owner of the existing key must add to its policy, as JSON in the output %s:\n", blueprint.Outputs.ExistingKey.ID)
		} else {
			p("  who may do what with the key of the secrets:\n")
		}
		for _, line := range policyLines(s.KeyPolicy) {
			p("    %s\n", line)
		}
		if s.ExistingKey {
			p("    Add what names a role in ${} after the deployment, which makes that role, and all else before it.\n")
		}
		p("  who may create the cluster:\n")
		for _, creator := range s.Creators {
			p("    %s\n", creator)
		}
		p("    Whoever else deploys this template fails at the cluster, with access denied on kms:CreateGrant.\n" +
			"    Name other roles under 'creators' in ekskms.yaml.\n")
	}
	names := make([]string, len(r.Stacks))
	docker := false
	for i, s := range r.Stacks {
		names[i] = s.Name
		docker = docker || s.NeedsDocker
	}
	p("\nNext: npx %s deploy --app %s %s\n", cdkCLI, r.Outdir, strings.Join(names, " "))
	if docker {
		p("      It builds the plugin's image, for which it needs Docker; or name an image under 'plugin' in ekskms.yaml.\n")
	}
}

// printPlugin says what is to be done for API servers that the plugin could serve.
func printPlugin(w io.Writer, plugin config.Plugin) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	switch {
	case !plugin.Enabled:
	case plugin.Mode == config.PluginSidecar:
		names := make([]string, len(plugin.Tenants))
		for i, t := range plugin.Tenants {
			names[i] = t.Name
		}
		p("Then, for each tenant: ekskms generate manifests --mode sidecar --for vcluster --tenant %s\n"+
			"      It writes the plugin's sidecar for the tenant's API server; --help lists what else than vcluster there is.\n"+
			"      Tenants: %s.\n", names[0], strings.Join(names, ", "))
	case plugin.Mode == config.PluginDeployment:
		p("The plugin serves no API server by itself: it watches the key. To serve hosted control planes, set 'plugin.mode: sidecar' and 'plugin.tenants' in ekskms.yaml.\n")
	}
}

func environment(env string) string {
	if env == "aws://unknown-account/unknown-region" {
		return "any account, any Region"
	}
	return strings.ReplaceAll(strings.TrimPrefix(env, "aws://"), "/", ", ")
}

// policyLines writes a key policy as a line for each principal.
func policyLines(permissions []synth.Permission) []string {
	var order []string
	grants := map[string][]string{}
	for _, permission := range permissions {
		if _, seen := grants[permission.Principal]; !seen {
			order = append(order, permission.Principal)
		}
		grants[permission.Principal] = append(grants[permission.Principal], grantText(permission))
	}
	lines := make([]string, len(order))
	for i, principal := range order {
		lines[i] = principal + ": " + strings.Join(grants[principal], "; ")
	}
	return lines
}

func grantText(p synth.Permission) string {
	text := strings.Join(p.Actions, ", ")
	if n := len(keypolicy.Administration(false)); len(p.Actions) >= n && slices.Contains(p.Actions, "PutKeyPolicy") {
		text = fmt.Sprintf("administration (%d actions), no cryptographic use", len(p.Actions))
	}
	if len(p.Conditions) > 0 {
		keys := make([]string, len(p.Conditions))
		for i, c := range p.Conditions {
			keys[i] = c.Key
		}
		text += " (conditions on " + strings.Join(keys, ", ") + ")"
	}
	return text
}
