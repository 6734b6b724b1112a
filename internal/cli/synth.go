package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/synth"
	"github.com/ekskms/ekskms/internal/terminal"
)

// cdkCLI is the release of the CDK CLI that deploys what this library
// synthesizes: package.json pins the same. The release tagged latest does not
// read these assemblies.
const cdkCLI = "aws-cdk@2.1148.1"

func newSynth() *cobra.Command {
	var from configuration
	var output string
	var resources, details bool
	var opts synth.Options
	cmd := &cobra.Command{
		Use:   "synth",
		Short: "Write the CloudFormation template and all that is deployed with it",
		Long: "Synthesize ekskms.yaml into a cloud assembly: the CloudFormation template, and the assets\n" +
			"that are deployed with it. Needs Node 22 or 24, and neither the CDK CLI nor AWS credentials.\n" +
			"\n" +
			"Without --file, ekskms.yaml in the working directory is read; if there is none, a built-in\n" +
			"default: one cluster in the account and the Region of the credentials that deploy.",
		Example: "  ekskms synth --file ekskms.yaml --out cdk.out --validate",
		RunE: func(cmd *cobra.Command, _ []string) error {
			clusters, err := from.load(cmd)
			if err != nil {
				return err
			}
			done := progress(cmd, "synthesizing")
			result, err := synth.Run(cmd.Context(), clusters, opts)
			done()
			if err != nil {
				return err
			}
			return printReport(cmd, result, output, resources, details || len(clusters.Clusters) == 1, clusters)
		},
	}
	flags := cmd.Flags()
	from.add(cmd)
	flags.StringVarP(&opts.Outdir, "out", "o", "cdk.out", "`folder` of the cloud assembly")
	flags.BoolVar(&resources, "resources", false, "list in the report what resources there are")
	flags.BoolVar(&details, "details", false, "report on each of several clusters as on one")
	flags.BoolVar(&opts.Validate, "validate", false, "judge the template with CDK's validator, which takes some seconds; an error makes the exit code 1")
	choice(flags, &output, "output", "`format` of the report", "text", "json")
	return cmd
}

func printReport(cmd *cobra.Command, r *synth.Report, output string, resources, details bool, clusters *config.File) error {
	stdout := cmd.OutOrStdout()
	switch {
	case output == "json":
		if err := printJSON(stdout, r); err != nil {
			return err
		}
	case !quiet(cmd):
		w := &strings.Builder{}
		style := styleOf(cmd, stdout)
		if !details {
			printSummary(w, style, r)
			printNext(w, style, r)
		} else {
			printText(w, style, r, resources)
			printNext(w, style, r)
			for _, c := range clusters.Clusters {
				if !c.Waits() {
					printPlugin(w, style, c.Plugin)
				}
			}
		}
		if _, err := io.WriteString(stdout, w.String()); err != nil {
			return err
		}
	}
	failed := false
	for _, f := range r.Findings {
		failed = failed || f.IsError()
		if output == "text" {
			print := warn
			if f.IsError() {
				print = fail
			}
			print(cmd, fmt.Sprintf("%s: %s (%s at %s)", f.Severity, f.Message, f.Rule, strings.Join(f.Where, ", ")), "")
		}
	}
	if failed {
		return errFindings
	}
	return nil
}

// printText writes the key first: what is in the template beside it is a file away.
func printText(w io.Writer, style terminal.Style, r *synth.Report, resources bool) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	title := func(text string) { p("\n%s\n", style.Paint(terminal.Bold, text)) }
	for i, s := range r.Stacks {
		if i > 0 {
			p("\n")
		}
		p("%s, for %s\n", style.Paint(terminal.Bold, s.Name), environment(s.Environment))
		switch {
		case s.Kind != synth.KindCluster:
		case s.ExistingKey && len(s.KeyPolicy) == 0:
			title("The key of the secrets")
			p("%s\n", style.Wrap("  ", "  ", "It is in a central account, and its policy names the roles of this cluster by their IAM paths."))
		case s.ExistingKey:
			title("What the owner of the existing key must add to its policy")
			p("%s\n", style.Wrap("  ", "  ", "As JSON in the output "+blueprint.Outputs.ExistingKey.ID+". Add what names a role of this stack after the deployment, which makes that role, and all else before it."))
		default:
			title("Who may do what with the key of the secrets")
			p("%s\n", style.Wrap("  ", "  ", fmt.Sprintf("%s, which rotates every %d days", s.KeyPath, s.RotationDays)))
		}
		if len(s.Creators) > 0 {
			p("%s", style.Table("  ", policyRows(s.KeyPolicy)))
			title("Who may create the cluster")
			for _, creator := range s.Creators {
				p("  %s\n", creator)
			}
			p("%s\n", style.Wrap("  ", "  ", "Deployed by any other principal, the stack fails at the cluster, with access denied on kms:CreateGrant. Name others under 'creators' in ekskms.yaml."))
		}
		if !resources {
			p("\n%d resources; --resources lists them.\n", s.Total())
			continue
		}
		title(fmt.Sprintf("%d resources", s.Total()))
		var rows [][]string
		for _, kind := range slices.Sorted(maps.Keys(s.Resources)) {
			rows = append(rows, []string{kind, strconv.Itoa(s.Resources[kind])})
		}
		p("%s", style.Table("  ", rows))
	}
}

// printSummary is the report on several clusters.
func printSummary(w io.Writer, style terminal.Style, r *synth.Report) {
	rows := [][]string{headings(style, "Stack", "For", "Key", "Resources")}
	inOrder := slices.Clone(r.Stacks)
	deployed := []string{synth.KindNetwork, synth.KindRecord, synth.KindKeys, synth.KindCluster, synth.KindAlarms}
	slices.SortStableFunc(inOrder, func(a, b synth.StackReport) int {
		return cmp.Or(strings.Compare(a.Environment, b.Environment), cmp.Compare(slices.Index(deployed, a.Kind), slices.Index(deployed, b.Kind)))
	})
	for _, s := range inOrder {
		key := "-"
		switch {
		case s.Kind != synth.KindCluster:
		case s.ExistingKey:
			key = "existing"
		default:
			key = fmt.Sprintf("new, rotates every %d days", s.RotationDays)
		}
		rows = append(rows, []string{s.Name, environment(s.Environment), key, strconv.Itoa(s.Total())})
	}
	_, _ = io.WriteString(w, style.Table("", rows)+"\nThe key policy of each is in its template; --details prints them, --only chooses clusters.\n")
}

// printNext says what was written, and what to do with it.
func printNext(w io.Writer, style terminal.Style, r *synth.Report) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	names := make([]string, len(r.Stacks))
	docker := false
	for i, s := range r.Stacks {
		names[i] = s.Name
		docker = docker || s.NeedsDocker
	}
	if len(names) > 1 {
		names = []string{"'**'"}
	}
	p("\nWrote %s\n", r.Outdir)
	p("%s npx %s deploy --app %s %s\n", style.Paint(terminal.Bold, "Next:"), cdkCLI, r.Outdir, strings.Join(names, " "))
	if docker {
		p("%s\n", style.Wrap("      ", "      ", "It builds the plugin's image, for which it needs Docker; or name an image under 'plugin' in ekskms.yaml."))
	}
}

// printPlugin says what is to be done for API servers that the plugin could serve.
func printPlugin(w io.Writer, style terminal.Style, plugin config.Plugin) {
	p := func(first, text string) { _, _ = fmt.Fprintln(w, style.Wrap(first, "      ", text)) }
	switch {
	case !plugin.Enabled:
	case plugin.Mode == config.PluginSidecar:
		names := make([]string, len(plugin.Tenants))
		for i, t := range plugin.Tenants {
			names[i] = t.Name
		}
		_, _ = fmt.Fprintf(w, "Then, for each tenant: ekskms generate manifests --mode sidecar --for vcluster --tenant %s\n", names[0])
		p("      ", "It writes the plugin's sidecar for the tenant's API server; --help lists what else than vcluster there is.")
		p("      ", "Tenants: "+strings.Join(names, ", ")+".")
	case plugin.Mode == config.PluginDeployment:
		p("", "The plugin serves no API server by itself: it watches the key. To serve hosted control planes, set 'plugin.mode: sidecar' and 'plugin.tenants' in ekskms.yaml.")
	}
}

func environment(env string) string {
	if env == "aws://unknown-account/unknown-region" {
		return "any account, any Region"
	}
	return strings.ReplaceAll(strings.TrimPrefix(env, "aws://"), "/", ", ")
}

// policyRows writes a key policy as a row for each principal.
func policyRows(permissions []synth.Permission) [][]string {
	var rows [][]string
	for _, p := range permissions {
		name := cmp.Or(p.Path, p.Principal)
		i := slices.IndexFunc(rows, func(row []string) bool { return row[0] == name })
		if i < 0 {
			rows = append(rows, []string{name, grantText(p)})
			continue
		}
		rows[i][1] += "; " + grantText(p)
	}
	return rows
}

func grantText(p synth.Permission) string {
	text := strings.Join(p.Actions, ", ")
	if n := len(keypolicy.Administration(false)); len(p.Actions) >= n && slices.Contains(p.Actions, "PutKeyPolicy") {
		text = fmt.Sprintf("administration (%d actions), no cryptographic use", len(p.Actions))
	}
	if len(p.Conditions) > 0 {
		var on []string
		for _, c := range p.Conditions {
			name := c.Key
			switch {
			case strings.HasPrefix(name, "aws:PrincipalTag/"):
				name = "the session's tags"
			case strings.HasPrefix(name, "kms:EncryptionContext"):
				name = "the encryption context"
			}
			if !slices.Contains(on, name) {
				on = append(on, name)
			}
		}
		text += " (conditions on " + strings.Join(on, ", ") + ")"
	}
	return text
}
