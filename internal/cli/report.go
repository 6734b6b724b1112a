package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/estimate"
	"github.com/ekskms/ekskms/internal/evidence"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/report"
	"github.com/ekskms/ekskms/internal/verify"
)

func newReport() *cobra.Command {
	var f reportFlags
	cmd := &cobra.Command{
		Use:   "report [PATH | --cluster NAME]",
		Short: "Make a page for people of what holds: one HTML file, or Markdown",
		Long: "Write one HTML file: whether secrets are encrypted, under whose key, who can decrypt, whether it\n" +
			"rotates and whether anybody would notice, each with its proof; who reaches the key, as a picture and\n" +
			"as a matrix; findings with their fixes and controls; alarms from the event to the inbox; the cost;\n" +
			"and what was not judged. It asks for nothing from anywhere, and can be printed.\n" +
			"\n" +
			"PATH is a template, a cloud assembly or its folder, a Terraform plan or state in JSON, or an\n" +
			"ekskms.yaml. Without it, ekskms.yaml or the built-in default is taken. --cluster reads a running\n" +
			"cluster, as 'ekskms verify' does. --against shows what changes, and --evidence what CloudTrail\n" +
			"recorded, from what 'ekskms evidence use --output json' printed.\n" +
			"\n" +
			"The exit code is 0 whatever the page says: 'ekskms check' is for CI.",
		Example: "  ekskms report --out report.html\n" +
			"  ekskms report cdk.out --against deployed.json --out report.html",
		Args: upToOne,
		RunE: f.run,
	}
	set := cmd.Flags()
	f.addFile(set, "report on what this configuration `file` makes, or - for standard input; of several, later ones merge over earlier ones")
	choice(set, &f.format, "format", "`format` of the page", "html", "markdown")
	set.StringVarP(&f.out, "out", "o", "", "`file` to write. Default: standard output for Markdown; required for HTML")
	set.BoolVar(&f.force, "force", false, "replace the file if it has another content")
	set.StringVar(&f.against, "against", "", "template, cloud assembly, plan or configuration with which it is compared, a `path`")
	set.StringVar(&f.evidence, "evidence", "", "`file` with what 'ekskms evidence use --output json' printed")
	set.StringVar(&f.cluster, "cluster", "", "`name` of a running cluster to read")
	set.StringVar(&f.role, "role-name", "", "IAM role to assume in another account than that of the credentials: a `name`, with its path. Default: none")
	set.StringVar(&f.environment.Account, "account", "", "account `number` that the page is for, where what is read has none")
	set.StringVar(&f.environment.Region, "region", "", "`Region` that the page is for, where what is read has none")
	f.addOrganization(set)
	return cmd
}

type reportFlags struct {
	checkFlags
	format, out, against, evidence, cluster, role string
	force                                         bool
}

func (f *reportFlags) run(cmd *cobra.Command, args []string) error {
	args, err := f.path(cmd, args)
	if err != nil {
		return err
	}
	switch {
	case f.format == "html" && f.out == "":
		return missing("out", "the page is a file", "such as --out report.html")
	case f.cluster != "" && (len(args) > 0 || len(f.files) > 0):
		return hint.Usage("--cluster reads a running cluster, and PATH or --file is given too", "leave one of them out")
	case f.format == "markdown" && (f.against != "" || f.evidence != "" || f.cluster != ""):
		return hint.Usage("--against, --evidence and --cluster are for --format html", "")
	}
	if err := f.readOrganization(cmd); err != nil {
		return err
	}
	if f.format == "markdown" {
		page, err := f.markdown(cmd, args)
		if err != nil || f.out == "" {
			if err == nil {
				_, err = cmd.OutOrStdout().Write(page)
			}
			return err
		}
		return writeFile(cmd, f.out, page, f.force)
	}
	in, err := f.input(cmd, args)
	if err != nil {
		return err
	}
	if f.evidence != "" {
		data, err := readInput(cmd, f.evidence)
		if err != nil {
			return err
		}
		in.Evidence = &evidence.Report{}
		if err := json.Unmarshal(data, in.Evidence); err != nil || in.Evidence.Key == "" {
			return hint.Usage(f.evidence+" is not what 'ekskms evidence use --output json' prints", "")
		}
	}
	if in.Now.Planned {
		in.Words = wordsOfPlan.Replace
	}
	done := progress(cmd, "making the page")
	page, err := report.Make(*in)
	done()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := page.WriteHTML(&b); err != nil {
		return err
	}
	return writeFile(cmd, f.out, b.Bytes(), f.force)
}

// input is what the page is about.
func (f *reportFlags) input(cmd *cobra.Command, args []string) (*report.Input, error) {
	in := &report.Input{Version: versionLine(), Organization: f.organization}
	if f.cluster != "" {
		return in, f.running(cmd, in)
	}
	var now source
	remove := func() {}
	var err error
	if len(args) > 0 {
		in.Source = args[0]
		now, err = f.from(cmd, args[0])
	} else {
		var file *config.File
		if file, err = f.load(cmd); err != nil {
			return nil, err
		}
		in.Source = "the built-in default"
		if len(f.files) > 0 {
			in.Source = strings.Join(f.files, ", ")
		}
		f.cost(in, file)
		now, in.Suppressions, remove, err = f.synthesizedFile(cmd, file)
	}
	if err != nil {
		return nil, err
	}
	defer remove()
	if f.against == "" {
		assembly, err := f.placed(cmd, now)
		if err != nil {
			return nil, err
		}
		in.Now = estate.FromTemplates(assembly)
		return in, nil
	}
	g := guardFlags{checkFlags: f.checkFlags, against: f.against}
	before, removed, err := g.deployed(cmd, args)
	if err != nil {
		return nil, err
	}
	defer removed()
	old, changed, err := g.both(cmd, before, now)
	if err != nil {
		return nil, err
	}
	in.Against, in.Before, in.Now = f.against, estate.FromTemplates(old), estate.FromTemplates(changed)
	return in, nil
}

// cost estimates that of a cluster alone, or of an account.
func (f *reportFlags) cost(in *report.Input, file *config.File) {
	if len(file.Clusters) != 1 || file.Shared != nil {
		in.CostNote = "of each account: 'ekskms estimate'"
		return
	}
	made := estimate.Make(file.Clusters[0].Blueprint(), estimate.DefaultLoad(), estimate.ReadPrices())
	for _, line := range made.Lines {
		in.Cost = append(in.Cost, report.Cost{Item: line.Item, USD: line.USD})
	}
	in.Total, in.CostNote = made.USD, fmt.Sprintf("What encryption, record and alarms cost, with the prices of %s in %s and a usual load; 'ekskms estimate' has the arithmetic.", made.Prices, made.Region)
}

// running reads a cluster that runs.
func (f *reportFlags) running(cmd *cobra.Command, in *report.Input) error {
	aws, err := live.New(cmd.Context(), f.role)
	if err != nil {
		return err
	}
	done := progress(cmd, "reading AWS")
	defer done()
	assembly, found, err := verify.Now(cmd.Context(), aws, verify.Options{Account: f.environment.Account, Region: f.environment.Region, Clusters: []string{f.cluster}, Organization: f.organization})
	if err != nil {
		return namesOther(err)
	}
	in.Source, in.Now, in.Findings = "AWS, as it runs", estate.FromTemplates(assembly), found
	return nil
}

// markdown are the pages of all clusters, one after the other.
func (f *reportFlags) markdown(cmd *cobra.Command, args []string) ([]byte, error) {
	if len(args) > 0 {
		assembly, err := f.templates(cmd, args[0])
		if err != nil {
			return nil, err
		}
		return report.Markdown(estate.FromTemplates(assembly), nil)
	}
	file, err := f.load(cmd)
	if err != nil {
		return nil, err
	}
	var all [][]byte
	for _, c := range file.Clusters {
		one, err := f.whole.Only(c.Name)
		if err != nil {
			return nil, err
		}
		var assembly *cfn.Assembly
		var suppressions []finding.Suppression
		if assembly, suppressions, err = f.synthesizeFile(cmd, one); err != nil {
			return nil, err
		}
		page, err := report.Markdown(estate.FromTemplates(assembly), suppressions)
		if err != nil {
			return nil, err
		}
		all = append(all, page)
	}
	return bytes.Join(all, []byte("\n")), nil
}
