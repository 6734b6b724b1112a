package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ekskms/ekskms/internal/buildcontext"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/files"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/scaffold"
	"github.com/ekskms/ekskms/internal/synth"
	"github.com/ekskms/ekskms/internal/terraform"
)

const (
	// nextVersion is what a project asks for that a build without a version makes.
	nextVersion = "v0.1.0"
	// leastGo is that of go.mod.
	leastGo = "1.26.0"
)

// initFlags are the flags of ekskms init.
type initFlags struct {
	project               scaffold.Project
	terraform, configOnly bool
	force                 bool
	pipeline              string
}

func newInit() *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:   "init [FOLDER]",
		Short: "Make a new project: a Go CDK app, a Terraform module, or an ekskms.yaml",
		Long: "Make a project in FOLDER, or in the working directory: a CDK app in Go with its go.mod, a\n" +
			"snapshot test and a GitHub Actions workflow that synthesizes, checks and guards. With\n" +
			"--terraform it has the module of 'ekskms generate terraform' instead, with --config-only an\n" +
			"ekskms.yaml alone.\n" +
			"\n" +
			"With --pipeline it has a workflow too that guards what main has and deploys it wave by wave, each in\n" +
			"an environment of its own, which can ask for approval. In a project that is there already, in Go and\n" +
			"with an ekskms.yaml, only that is written.\n" +
			"\n" +
			"On a terminal it asks for what no flag says, and checks each answer; elsewhere it takes the\n" +
			"defaults. No file is replaced without --force, and all files are written or none.",
		Example: "  ekskms init payments --name payments --cluster-admin arn:aws:iam::111122223333:role/ClusterAdmin\n" +
			"  ekskms init payments-terraform --terraform --name payments --account 111122223333 --region eu-central-1\n" +
			"  ekskms init payments-config --config-only --name payments\n" +
			"  ekskms init payments --pipeline github",
		Args: upToOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			folder := "."
			if len(args) > 0 {
				folder = args[0]
			}
			return f.run(cmd, folder)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.terraform, "terraform", false, "make a Terraform project")
	flags.BoolVar(&f.configOnly, "config-only", false, "make an ekskms.yaml alone")
	flags.StringVar(&f.project.Name, "name", "", "`name` of the cluster (default that of the folder)")
	flags.StringVar(&f.project.Account, "account", "", "AWS `account` to deploy to, with --region (default that of the credentials that deploy)")
	flags.StringVar(&f.project.Region, "region", "", "AWS `Region` to deploy to, with --account")
	flags.StringVar(&f.project.ClusterAdmin, "cluster-admin", "", "`ARN` of a principal that administers the cluster through the Kubernetes API (default nobody)")
	flags.StringVar(&f.project.Email, "email", "", "`address` that gets the alarms on the key and the trail (default nobody)")
	flags.StringVar(&f.project.Module, "module", "", "`path` of the Go module (default example.com/ and the name)")
	flags.StringVar(&f.project.Version, "ekskms-version", "", "`version` of ekskms that the project uses (default that of this command)")
	flags.StringVar(&f.project.Replace, "replace", "", "`folder` with a checkout of ekskms to use in place of a released version")
	choiceOrNone(flags, &f.pipeline, "pipeline", "write a workflow that deploys, too, for this `service`", "github")
	flags.BoolVar(&f.force, "force", false, "replace files that are there already")
	return cmd
}

var modulePath = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~-]*(/[A-Za-z0-9._~-]+)*$`)

func (f *initFlags) run(cmd *cobra.Command, folder string) error {
	p := &f.project
	if f.terraform && f.configOnly {
		return hint.Usage("--terraform and --config-only are two kinds of projects", "give one of them")
	}
	if f.pipeline != "" {
		if f.terraform || f.configOnly {
			return hint.Usage("--pipeline is for a Go project", "leave it out, or --terraform and --config-only")
		}
		if path := filepath.Join(folder, config.FileName); isConfiguration(path) {
			return f.addPipeline(cmd, folder, path)
		}
	}
	p.Kind = scaffold.CDK
	switch {
	case f.terraform:
		p.Kind = scaffold.Terraform
	case f.configOnly:
		p.Kind = scaffold.ConfigOnly
	}
	fallback, err := nameOf(folder)
	if err != nil {
		return err
	}
	q := f.questions(cmd, folder, fallback)
	if f.pipeline != "" {
		if err := f.refuse(cmd, folder, []string{scaffold.PipelinePath}); err != nil {
			return err
		}
	}
	// Before anything is asked: what is wrong already, and what is in the way.
	paths := p.Paths()
	if q.asks("kind") {
		paths = []string{config.FileName} // which all kinds have
	}
	if err := f.refuse(cmd, folder, paths); err != nil {
		return err
	}
	if err := q.ask(); err != nil {
		return err
	}
	if p.Name == "" {
		p.Name = fallback
	}
	file, err := f.configuration()
	if err != nil {
		return err
	}
	if err := f.versions(cmd, folder); err != nil {
		return err
	}
	all, err := p.Files()
	if err != nil {
		return err
	}
	more, err := f.generated(cmd, file)
	if err != nil {
		return err
	}
	if f.pipeline != "" {
		pipeline, err := pipelineOf(file)
		if err != nil {
			return err
		}
		more = append(more, pipeline)
	}
	if err := write(cmd, folder, append(all, more...), f.force); err != nil {
		return err
	}
	return f.next(cmd, folder)
}

// addPipeline writes the pipeline of a project that is there.
func (f *initFlags) addPipeline(cmd *cobra.Command, folder, path string) error {
	for _, name := range []string{"name", "account", "region", "cluster-admin", "email", "module", "ekskms-version", "replace"} {
		if cmd.Flags().Changed(name) {
			return hint.Usage(fmt.Sprintf("--%s is for a new project, and %s is there", name, path), "leave it out: the pipeline is made of what that says")
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "go.mod")); err != nil {
		return hint.Usage(fmt.Sprintf("there is no go.mod beside %s, and the pipeline runs 'go tool ekskms'", path), "make a Go project in a new folder with 'ekskms init', and put the file there")
	}
	file, err := config.Load(path)
	if err != nil {
		return err
	}
	pipeline, err := pipelineOf(file)
	if err != nil {
		return err
	}
	return write(cmd, folder, []files.File{pipeline}, f.force)
}

// pipelineOf is the pipeline that deploys the stacks of a file in their order.
func pipelineOf(file *config.File) (files.File, error) {
	var steps []scaffold.Step
	for _, s := range file.Rollout() {
		steps = append(steps, scaffold.Step(s))
	}
	return scaffold.Pipeline(steps, cdkCLI)
}

// configuration is the ekskms.yaml as far as it is known.
func (f *initFlags) configuration() (*config.File, error) {
	p := f.project
	if (p.Account == "") != (p.Region == "") {
		return nil, hint.Usage("--account and --region belong together", "give both, or neither for the account and the Region of the credentials that deploy")
	}
	p.Name = cmp.Or(p.Name, "ekskms")
	text, err := p.Config()
	if err != nil {
		return nil, err
	}
	return config.Parse(config.Source{Name: "ekskms.yaml as the flags make it", Data: text})
}

// refuse says what is wrong with the flags, and which files are in the way.
func (f *initFlags) refuse(cmd *cobra.Command, folder string, paths []string) error {
	for _, name := range []string{"module", "replace"} {
		if cmd.Flags().Changed(name) && f.project.Kind != scaffold.CDK {
			return hint.Usage(fmt.Sprintf("--%s is for a Go project", name), "leave it out, or --terraform and --config-only")
		}
	}
	if _, err := f.configuration(); err != nil {
		return err
	}
	if f.force {
		return nil
	}
	if err := files.Existing(folder, paths...); err != nil {
		return &hint.Error{What: err.Error(), Hint: "look at it, and give --force to replace it, or another folder"}
	}
	return nil
}

// nameOf makes a cluster's name of that of the folder.
func nameOf(folder string) (string, error) {
	path, err := filepath.Abs(folder)
	if err != nil {
		return "", err
	}
	name := regexp.MustCompile(`[^0-9A-Za-z_-]+`).ReplaceAllString(filepath.Base(path), "-")
	name = strings.TrimLeft(name, "-_")
	if name == "" {
		return "ekskms", nil
	}
	return name[:min(len(name), 100)], nil
}

// question asks for what no flag says. An empty answer is the default.
type question struct {
	flag, text, def string
	// take takes the answer, or says what is wrong with it.
	take func(answer string) error
}

// questionnaire asks on a terminal, and nowhere else.
type questionnaire struct {
	cmd       *cobra.Command
	questions []question
}

func (f *initFlags) questions(cmd *cobra.Command, folder, name string) questionnaire {
	p := &f.project
	// field takes an answer that the configuration judges.
	field := func(value *string) func(string) error {
		return func(answer string) error {
			*value = answer
			var faults config.Faults
			if _, err := f.configuration(); errors.As(err, &faults) {
				*value = ""
				return fmt.Errorf("%q: %s", answer, faults[0].Message)
			} else if err != nil {
				*value = ""
				return err
			}
			return nil
		}
	}
	all := []question{
		{"name", "Name of the cluster", name, field(&p.Name)},
		{"account", "AWS account to deploy to, 12 digits", "that of the credentials that deploy", func(answer string) error {
			if !place.IsAccount(answer) {
				return fmt.Errorf("%q: must be 12 digits", answer)
			}
			p.Account = answer
			return nil
		}},
		{"region", "AWS Region to deploy to", "", field(&p.Region)},
		{"cluster-admin", "ARN of the role that administers the cluster", "nobody", field(&p.ClusterAdmin)},
		{"email", "E-mail address that gets the alarms", "nobody", field(&p.Email)},
	}
	if !cmd.Flags().Changed("terraform") && !cmd.Flags().Changed("config-only") {
		all = slices.Insert(all, 0, question{"kind", "What to make: go, terraform or config", "go", func(answer string) error {
			kinds := map[string]scaffold.Kind{"go": scaffold.CDK, "terraform": scaffold.Terraform, "config": scaffold.ConfigOnly}
			if kinds[answer] == "" {
				return fmt.Errorf("%q: must be go, terraform or config", answer)
			}
			p.Kind = kinds[answer]
			return f.refuse(cmd, folder, p.Paths())
		}})
	}
	return questionnaire{cmd, all}
}

// terminal is the input, if it is one.
func (q questionnaire) terminal() *os.File {
	if in, ok := q.cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		return in
	}
	return nil
}

// asks tells whether there is a question, and somebody to answer.
func (q questionnaire) asks(flag string) bool {
	return q.terminal() != nil && slices.ContainsFunc(q.questions, func(o question) bool { return o.flag == flag })
}

func (q questionnaire) ask() error {
	in := q.terminal()
	if in == nil {
		return nil
	}
	stderr, lines := q.cmd.ErrOrStderr(), bufio.NewReader(in)
	account := q.cmd.Flags().Changed("account")
	for _, question := range q.questions {
		flag := q.cmd.Flags().Lookup(question.flag)
		if flag != nil && flag.Changed || question.flag == "region" && !account {
			continue // the Region goes with the account
		}
		prompt := question.text
		if question.def != "" {
			prompt += " [" + question.def + "]"
		}
		for {
			_, _ = fmt.Fprint(stderr, prompt+": ")
			line, err := lines.ReadString('\n')
			answer := strings.TrimSpace(line)
			if errors.Is(err, io.EOF) && answer == "" {
				_, _ = fmt.Fprintln(stderr)
				return hint.New("ended before the last question was answered, and nothing was written", "")
			} else if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if answer == "" && question.flag == "kind" {
				answer = question.def
			}
			if answer == "" && (question.flag != "region" || !account) {
				break
			}
			if answer == "" {
				fail(q.cmd, "an account needs a Region", "")
				continue
			}
			fault := question.take(answer)
			if hinted := (*hint.Error)(nil); errors.As(fault, &hinted) {
				return fault // a file in the way: no other answer would help
			} else if fault == nil {
				account = account || question.flag == "account"
				break
			}
			fail(q.cmd, fault.Error(), "")
		}
	}
	return nil
}

// versions fills in what go.mod and cdk.json need.
func (f *initFlags) versions(cmd *cobra.Command, folder string) error {
	p := &f.project
	checkout := ""
	if p.Version == "" && p.Replace == "" {
		checkout = builtFrom()
	}
	if p.Version == "" {
		p.Version = builtVersion()
	}
	switch {
	case p.Kind == scaffold.CDK && checkout != "":
		p.Replace = checkout
		notice(cmd, "the project uses the checkout of ekskms in "+checkout+", which this command was built from", "a release takes its place: remove the line 'replace' from go.mod, or name one with --ekskms-version")
	case p.Kind != scaffold.ConfigOnly && p.Version == nextVersion && p.Replace == "":
		notice(cmd, "this ekskms was not built from a release, so the project asks for "+nextVersion+", which may not be there yet", "until it is, a Go project can take ekskms from a checkout: --replace FOLDER")
	}
	p.Schema = "https://raw.githubusercontent.com/ekskms/ekskms/" + p.Version + "/" + schemaPath
	if checkout != "" {
		p.Schema = filepath.ToSlash(filepath.Join(checkout, schemaPath))
	}
	if !regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`).MatchString(p.Version) {
		return hint.Usage(fmt.Sprintf("--ekskms-version is %q, must be a version of a Go module", p.Version), "such as "+nextVersion)
	}
	if p.Module == "" {
		p.Module = "example.com/" + strings.ToLower(p.Name)
	}
	if !modulePath.MatchString(p.Module) {
		return hint.Usage(fmt.Sprintf("--module is %q, must be the path of a Go module", p.Module), "such as github.com/acme/payments")
	}
	if p.Replace != "" {
		replace, err := checkoutFrom(p.Replace, folder)
		if err != nil {
			return err
		}
		p.Replace = replace
	}
	p.Go, p.CDKCLI, p.Context = leastGo, cdkCLI, synth.Context()
	p.CDK = buildcontext.Require("github.com/aws/aws-cdk-go/awscdk/v2")
	p.JSII = buildcontext.Require("github.com/aws/jsii-runtime-go")
	return nil
}

// builtVersion is the version of this command, if it was built from a release.
func builtVersion() string {
	v := version
	if info, ok := debug.ReadBuildInfo(); ok && v == "" && !strings.Contains(info.Main.Version, "+dirty") {
		v = info.Main.Version
	}
	if !strings.HasPrefix(v, "v") {
		return nextVersion
	}
	return v
}

// schemaPath is where the JSON Schema is in a checkout of this module.
const schemaPath = "internal/config/ekskms.schema.json"

// builtFrom is the checkout that this command was built from, if it was built from
// one and that is still there.
func builtFrom() string {
	_, source, _, ok := runtime.Caller(0)
	if !ok || version != "" || !filepath.IsAbs(source) {
		return "" // a release, or -trimpath
	}
	root := filepath.Dir(filepath.Dir(filepath.Dir(source)))
	if _, err := checkoutFrom(root, "."); err != nil || strings.Contains(filepath.Base(root), "@") {
		return "" // gone, or the module cache
	}
	return root
}

// checkoutFrom returns the path of a checkout of this module as a go.mod in the
// folder has it.
func checkoutFrom(checkout, folder string) (string, error) {
	data, err := os.ReadFile(filepath.Join(checkout, "go.mod"))
	if err != nil || !bytes.HasPrefix(data, []byte("module github.com/ekskms/ekskms\n")) {
		return "", hint.Usage(fmt.Sprintf("--replace is %q, which is no checkout of github.com/ekskms/ekskms", checkout), "it has a go.mod with that module")
	}
	if filepath.IsAbs(checkout) {
		return checkout, nil
	}
	from, err := filepath.Abs(folder)
	if err != nil {
		return "", err
	}
	to, err := filepath.Abs(checkout)
	if err != nil {
		return "", err
	}
	path, err := filepath.Rel(from, to)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(path, ".") {
		path = "./" + path
	}
	return filepath.ToSlash(path), nil
}

// generated are the files that the other renderers write: the snapshot of a CDK
// app, the module of a Terraform project.
func (f *initFlags) generated(cmd *cobra.Command, file *config.File) ([]files.File, error) {
	switch f.project.Kind {
	case scaffold.Terraform:
		module, err := terraform.Generate(file.Clusters[0].Blueprint())
		if err != nil {
			return nil, err
		}
		var all []files.File
		for _, a := range terraformArtifacts("cluster "+file.Clusters[0].Name, module) {
			all = append(all, files.File{Path: "terraform/" + a.name, Content: []byte(a.content())})
		}
		return append(all, files.File{Path: "terraform/terraform.tfvars.example", Content: terraform.Example(module)}), nil
	case scaffold.CDK:
		snapshot, err := snapshotOf(cmd, file)
		if err != nil {
			warn(cmd, "the snapshot of the template is missing: "+err.Error(), "go test -update makes it")
			return nil, nil
		}
		name := place.Stack(file.Clusters[0].Name) + ".template.json"
		return []files.File{{Path: "testdata/" + name, Content: snapshot}}, nil
	}
	return nil, nil
}

// assetHash is the pattern of the project's own test.
var assetHash = regexp.MustCompile(`[0-9a-f]{64}`)

// snapshotOf synthesizes a file, and returns the template as the project's test
// writes it.
func snapshotOf(cmd *cobra.Command, file *config.File) ([]byte, error) {
	out, remove, err := synthesizeAside(cmd, file, synth.Options{Context: synth.Context()})
	if err != nil {
		return nil, err
	}
	defer remove()
	data, err := os.ReadFile(filepath.Join(out, place.Stack(file.Clusters[0].Name)+".template.json"))
	if err != nil {
		return nil, err
	}
	var template any
	if err := json.Unmarshal(data, &template); err != nil {
		return nil, err
	}
	if data, err = json.MarshalIndent(template, "", "  "); err != nil {
		return nil, err
	}
	return append(assetHash.ReplaceAll(data, []byte("HASH")), '\n'), nil
}

// next says what is left to do.
func (f *initFlags) next(cmd *cobra.Command, folder string) error {
	var lines []string
	if folder != "." {
		lines = append(lines, "cd "+folder)
	}
	switch f.project.Kind {
	case scaffold.CDK:
		lines = append(lines, "go mod tidy", "go test ./...", "npx "+cdkCLI+" synth")
	case scaffold.Terraform:
		lines = append(lines, "cp terraform/terraform.tfvars.example terraform/terraform.tfvars", "terraform -chdir=terraform init", "terraform -chdir=terraform plan")
	case scaffold.ConfigOnly:
		lines = append(lines, "ekskms synth")
	}
	if quiet(cmd) {
		return nil
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "\nNext:\n  %s\n", strings.Join(lines, "\n  "))
	return err
}
