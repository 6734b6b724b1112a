package cli

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/files"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/synth"
	"github.com/ekskms/ekskms/internal/tfplan"
)

func newCheck() *cobra.Command {
	var flags checkFlags
	cmd := &cobra.Command{
		Use:   "check [PATH]",
		Short: "Find what is wrong with a cluster's secrets encryption in a template",
		Long: "Check a CloudFormation template (JSON or YAML), a cloud assembly or its folder, no matter who wrote it:\n" +
			"the EKS clusters, the keys of their secrets with their policies, the trail, the alarms, and the\n" +
			"Kubernetes objects in it. Neither AWS credentials nor the network is used.\n" +
			"\n" +
			"PATH is also a Terraform plan or state as 'terraform show -json' prints it, or what 'terraform test\n" +
			"-json -verbose' prints of the test of 'ekskms generate tftest'; docs/howto/terraform-plan.md says more.\n" +
			"\n" +
			"Where PATH is an ekskms.yaml, it is synthesized and the result is checked, which needs Node; so\n" +
			"is the one in the working directory without PATH. - is a template on standard input.\n" +
			"\n" +
			"The exit code is 1 if something is found at or above --fail-on that is not suppressed. What can't\n" +
			"be judged from the template is a note. docs/reference/checks.md lists all checks.",
		Example: "  ekskms check --fail-on high cdk.out\n" +
			"  ekskms check --account 111122223333 --region eu-central-1 --output sarif --fail-on never template.yaml > checks.sarif",
		Args: upToOne,
		RunE: flags.run,
	}
	set := cmd.Flags()
	flags.addFile(set, "check what this configuration `file` makes, or - for standard input; of several, later ones merge over earlier ones")
	flags.addCommon(set)
	return cmd
}

type checkFlags struct {
	configuration
	failOn, output    string
	parameters        []string
	organizationFiles []string
	organization      []iampolicy.NamedDocument
	environment       cfn.Environment
	plan              string
	least             finding.Severity
	// named are the places of the configuration. Nil for templates.
	named *places
}

// addCommon adds the flags that all commands have that report findings.
func (f *checkFlags) addCommon(set *pflag.FlagSet) {
	f.failOn = "medium"
	choiceOrNone(set, &f.failOn, "fail-on", "least `severity` that makes the exit code 1", "low", "medium", "high", "critical", "never")
	choice(set, &f.output, "output", "`format` of the report", "text", "json", "sarif", "junit")
	set.StringVar(&f.environment.Account, "account", "", "account `number` that the template is for. Default: that of the cloud assembly, or an example")
	set.StringVar(&f.environment.Region, "region", "", "`Region` that the template is for. Default: that of the cloud assembly, or an example")
	f.addOrganization(set)
	set.StringArrayVar(&f.parameters, "parameter", nil, "value of a template's parameter, as `name=value`; can be repeated. Default: the parameter's own default")
}

// addOrganization adds the flag of all commands that judge policies.
func (f *checkFlags) addOrganization(set *pflag.FlagSet) {
	set.StringVar(&f.plan, "plan", "", "Terraform plan of which PATH is the test, a JSON `file`: its configuration says which documents policies come from")
	set.StringArrayVar(&f.organizationFiles, "organization-policy", nil, "service control policy or resource control policy that applies to the account, a JSON `file`; can be repeated. Not for the management account, which they don't limit")
}

// readOrganization reads the policies of the organization.
func (f *checkFlags) readOrganization(cmd *cobra.Command) error {
	for _, name := range f.organizationFiles {
		data, err := readInput(cmd, name)
		if err != nil {
			return err
		}
		doc, err := iampolicy.Parse(data)
		if err != nil {
			return hint.Usage(name+": "+err.Error(), "")
		}
		policy, err := iampolicy.NamedDocument{Name: name, Document: doc}.OfOrganization()
		if err != nil {
			return hint.Usage(err.Error(), "")
		}
		f.organization = append(f.organization, policy)
	}
	return nil
}

// parse reads the flags of addCommon, and takes PATH for --file where it is an
// ekskms.yaml.
func (f *checkFlags) parse(cmd *cobra.Command, args []string) ([]string, error) {
	f.least = finding.Critical + 1 // never
	if f.failOn != "never" {
		if err := f.least.UnmarshalText([]byte(f.failOn)); err != nil {
			return nil, err
		}
	}
	parameters, err := parseParameters(f.parameters)
	if err != nil {
		return nil, hint.Usage(err.Error(), helpHint(cmd))
	}
	f.environment.Parameters = parameters
	return f.path(cmd, args)
}

// path takes PATH for --file where it is an ekskms.yaml.
func (f *checkFlags) path(cmd *cobra.Command, args []string) ([]string, error) {
	switch {
	case len(args) == 0:
		return nil, nil
	case len(f.files) > 0:
		return nil, hint.Usage("--file and PATH are both given, must be one of them", helpHint(cmd))
	case isConfiguration(args[0]):
		f.files = args[:1]
		return nil, nil
	case len(f.only) > 0:
		return nil, hint.Usage("--only is for the clusters of an ekskms.yaml, and PATH is "+args[0], "name stacks to the CDK CLI, or leave --only out")
	}
	return args, nil
}

// finish writes the report. The error says that something was found.
func (f *checkFlags) finish(cmd *cobra.Command, report *finding.Report) error {
	if f.named != nil {
		f.named.name(report)
	}
	out, err := cmd.OutOrStdout(), error(nil)
	switch f.output {
	case "json":
		err = report.WriteJSON(out)
	case "sarif":
		err = report.WriteSARIF(out)
	case "junit":
		err = report.WriteJUnit(out)
	default:
		err = report.WriteText(out, styleOf(cmd, out), sourceLine())
	}
	if err != nil {
		return err
	}
	if report.Count(f.least) > 0 {
		return errFindings
	}
	return nil
}

func (f *checkFlags) run(cmd *cobra.Command, args []string) error {
	args, err := f.parse(cmd, args)
	if err != nil {
		return err
	}
	if err := f.readOrganization(cmd); err != nil {
		return err
	}
	var opts check.Options
	var assembly *cfn.Assembly
	if len(args) == 0 {
		assembly, opts.Suppressions, err = f.synthesize(cmd)
	} else {
		assembly, err = f.templates(cmd, args[0])
	}
	if err != nil {
		return err
	}
	opts.Organization = f.organization
	done := progress(cmd, "checking")
	there := estate.FromTemplates(assembly)
	report, err := check.Run(there, opts)
	done()
	if err != nil {
		return err
	}
	if there.Planned {
		report.Reword(wordsOfPlan.Replace)
	}
	if f.output == "text" {
		if err := writeFleet(cmd.OutOrStdout(), styleOf(cmd, cmd.OutOrStdout()), there, report); err != nil {
			return err
		}
	}
	return f.finish(cmd, report)
}

func parseParameters(given []string) (map[string]string, error) {
	parameters := map[string]string{}
	for _, p := range given {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--parameter is %q, must be name=value", p)
		}
		parameters[name] = value
	}
	return parameters, nil
}

// source reads templates for an environment.
type source func(cfn.Environment) (*cfn.Assembly, error)

// from is the source of a template, a cloud assembly or its folder, or - for
// standard input.
func (f *checkFlags) from(cmd *cobra.Command, name string) (source, error) {
	if name == "-" {
		data, err := io.ReadAll(cmd.InOrStdin())
		if err != nil {
			return nil, fmt.Errorf("can't read standard input: %w", err)
		}
		return func(env cfn.Environment) (*cfn.Assembly, error) {
			if config.Is(data) {
				return nil, hint.Usage("standard input is an ekskms.yaml, and is read as a template", "name it with --file -")
			}
			if tfplan.Is(data) {
				plan, err := tfplan.Parse("<stdin>", data)
				if err != nil {
					return nil, unreadable(err)
				}
				return afterPlan("<stdin>", plan)(env)
			}
			assembly, err := cfn.Parse("<stdin>", data, env)
			return assembly, unreadable(err)
		}, nil
	}
	if plan, err := f.readPlan(name); err != nil || plan != nil {
		return afterPlan(name, plan), err
	}
	return func(env cfn.Environment) (*cfn.Assembly, error) {
		assembly, err := cfn.Load(name, env)
		if errors.Is(err, os.ErrNotExist) {
			return nil, hint.Usage(fmt.Sprintf("there is no %s", name), "name a template, a cloud assembly or its folder, or a Terraform plan in JSON; 'ekskms synth' writes cdk.out")
		}
		return assembly, unreadable(err)
	}, nil
}

// unreadable is the error of input that can't be read, which is not a finding.
func unreadable(err error) error {
	if err == nil {
		return nil
	}
	return hint.Usage(err.Error(), "")
}

func (f *checkFlags) templates(cmd *cobra.Command, name string) (*cfn.Assembly, error) {
	read, err := f.from(cmd, name)
	if err != nil {
		return nil, err
	}
	done := progress(cmd, "reading "+name)
	defer done()
	return f.placed(cmd, read)
}

// placed reads for the account and the Region that are evident, if nothing says another.
func (f *checkFlags) placed(cmd *cobra.Command, read source) (*cfn.Assembly, error) {
	assembly, err := read(f.environment)
	if err != nil || !assumed(assembly) {
		return assembly, err
	}
	return read(f.place(cmd, assembly))
}

func assumed(assembly *cfn.Assembly) bool {
	return slices.ContainsFunc(assembly.Templates, func(t *cfn.Template) bool { return t.Assumed })
}

// place is the environment of an assembly with the account and the Region that it
// names itself, where nobody else says which they are.
func (f *checkFlags) place(cmd *cobra.Command, assembly *cfn.Assembly) cfn.Environment {
	env, evident := f.environment, cfn.Evident(assembly)
	var read []string
	if env.Account == "" && evident.Account != "" {
		env.ElseAccount = evident.Account
		read = append(read, "account "+evident.Account)
	}
	if env.Region == "" && evident.Region != "" {
		env.ElseRegion = evident.Region
		read = append(read, "Region "+evident.Region)
	}
	if len(read) > 0 {
		notice(cmd, "read as for "+strings.Join(read, " and ")+", the only one that is named there", "--account and --region name others")
	}
	return env
}

// synthesized makes the cloud assembly of the configuration in a temporary
// folder, which remove removes, and returns its source with what the configuration
// accepts. Findings name the templates as 'ekskms synth' would name them.
func (f *checkFlags) synthesized(cmd *cobra.Command) (read source, remove func(), err error) {
	clusters, err := f.load(cmd)
	if err != nil {
		return nil, nil, err
	}
	read, _, remove, err = f.synthesizedFile(cmd, clusters)
	return read, remove, err
}

// synthesizedFile is synthesized for a configuration that was read already.
func (f *checkFlags) synthesizedFile(cmd *cobra.Command, clusters *config.File) (read source, suppressions []finding.Suppression, remove func(), err error) {
	if suppressions, err = accepted(clusters); err != nil {
		return nil, nil, nil, err
	}
	f.named = placesOf(f.configuration)
	outdir, remove, err := synthesizeAside(cmd, clusters, synth.Options{})
	if err != nil {
		return nil, nil, nil, err
	}
	return func(env cfn.Environment) (*cfn.Assembly, error) {
		assembly, err := cfn.Load(outdir, env)
		if err != nil {
			return nil, err
		}
		for _, t := range assembly.Templates {
			if name, err := filepath.Rel(outdir, t.File); err == nil {
				t.File = path.Join("cdk.out", filepath.ToSlash(name))
			}
		}
		return assembly, nil
	}, suppressions, remove, nil
}

// synthesizeAside makes the cloud assembly of a configuration in a temporary folder,
// which remove removes.
func synthesizeAside(cmd *cobra.Command, clusters *config.File, opts synth.Options) (outdir string, remove func(), err error) {
	outdir = filepath.Join(os.TempDir(), "ekskms-"+cmd.Name()+"-"+rand.Text())
	work := files.Begin(func() { _ = os.RemoveAll(outdir) })
	remove = work.End
	done := progress(cmd, "synthesizing")
	opts.Outdir = outdir
	_, err = synth.Run(cmd.Context(), clusters, opts)
	done()
	if err != nil {
		remove()
	}
	return outdir, remove, err
}

func (f *checkFlags) synthesize(cmd *cobra.Command) (*cfn.Assembly, []finding.Suppression, error) {
	clusters, err := f.load(cmd)
	if err != nil {
		return nil, nil, err
	}
	return f.synthesizeFile(cmd, clusters)
}

func (f *checkFlags) synthesizeFile(cmd *cobra.Command, clusters *config.File) (*cfn.Assembly, []finding.Suppression, error) {
	read, suppressions, remove, err := f.synthesizedFile(cmd, clusters)
	if err != nil {
		return nil, nil, err
	}
	defer remove()
	assembly, err := read(f.environment)
	return assembly, suppressions, err
}

// accepted returns the suppressions of a configuration. Those that name no
// resource are for the cluster's stack.
func accepted(clusters *config.File) ([]finding.Suppression, error) {
	var all []finding.Suppression
	for _, c := range clusters.Clusters {
		for _, s := range c.Checks.Suppress {
			suppression := finding.Suppression{ID: s.ID, Resource: cmp.Or(s.Resource, place.Stack(c.Name)), Reason: s.Reason}
			if err := check.Validate(suppression); err != nil {
				return nil, fmt.Errorf("cluster %s: %w", c.Name, err)
			}
			all = append(all, suppression)
		}
	}
	return all, nil
}
