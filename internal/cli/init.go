package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ekskms/ekskms/internal/buildcontext"
	"github.com/ekskms/ekskms/internal/config"
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
			"On a terminal it asks for what no flag says. No file is replaced without --force, and what\n" +
			"can't be finished is not begun.",
		Example: "  ekskms init payments --name payments --cluster-admin arn:aws:iam::111122223333:role/ClusterAdmin\n" +
			"  ekskms init payments-terraform --terraform --name payments --account 111122223333 --region eu-central-1\n" +
			"  ekskms init payments-config --config-only --name payments",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := notEmpty(cmd); err != nil {
				return err
			}
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
	flags.StringVar(&f.project.Account, "account", "", "AWS `account` to deploy to, with --region (default that of whoever deploys)")
	flags.StringVar(&f.project.Region, "region", "", "AWS `Region` to deploy to, with --account")
	flags.StringVar(&f.project.ClusterAdmin, "cluster-admin", "", "`ARN` of a principal that administers the cluster through the Kubernetes API (default nobody)")
	flags.StringVar(&f.project.Email, "email", "", "`address` that gets the alarms on the key and the trail (default nobody)")
	flags.StringVar(&f.project.Module, "module", "", "`path` of the Go module (default example.com/ and the name)")
	flags.StringVar(&f.project.Version, "ekskms-version", "", "`version` of ekskms that the project uses (default that of this command)")
	flags.StringVar(&f.project.Replace, "replace", "", "`folder` with a checkout of ekskms to use in place of a released version")
	flags.BoolVar(&f.force, "force", false, "replace files that are there already")
	return cmd
}

var modulePath = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~-]*(/[A-Za-z0-9._~-]+)*$`)

func (f *initFlags) run(cmd *cobra.Command, folder string) error {
	p := &f.project
	switch {
	case f.terraform && f.configOnly:
		return hint.Usage("--terraform and --config-only are two kinds of projects", "give one of them")
	case f.terraform:
		p.Kind = scaffold.Terraform
	case f.configOnly:
		p.Kind = scaffold.ConfigOnly
	default:
		p.Kind = scaffold.CDK
	}
	for _, name := range []string{"module", "replace"} {
		if cmd.Flags().Changed(name) && p.Kind != scaffold.CDK {
			return hint.Usage(fmt.Sprintf("--%s is for a Go project", name), "leave it out, or --terraform and --config-only")
		}
	}
	fallback, err := nameOf(folder)
	if err != nil {
		return err
	}
	if err := f.ask(cmd, fallback); err != nil {
		return err
	}
	if p.Name == "" {
		p.Name = fallback
	}
	if (p.Account == "") != (p.Region == "") {
		return hint.Usage("--account and --region belong together", "give both, or neither for the account and the Region of whoever deploys")
	}
	text, err := p.Config()
	if err != nil {
		return err
	}
	file, err := config.Read("ekskms.yaml as the flags make it", bytes.NewReader(text))
	if err != nil {
		return err
	}
	if err := f.versions(cmd, folder); err != nil {
		return err
	}
	files, err := p.Files()
	if err != nil {
		return err
	}
	more, err := f.generated(cmd, file)
	if err != nil {
		return err
	}
	if err := writeProject(cmd, folder, append(files, more...), f.force); err != nil {
		return err
	}
	return f.next(cmd, folder)
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

// ask asks, on a terminal, for what no flag says. An empty answer is the default.
func (f *initFlags) ask(cmd *cobra.Command, name string) error {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil
	}
	questions := []struct {
		flag, text, def string
		value           *string
	}{
		{"name", "Name of the cluster", name, &f.project.Name},
		{"account", "AWS account to deploy to, 12 digits", "that of whoever deploys", &f.project.Account},
		{"region", "AWS Region to deploy to", "", &f.project.Region},
		{"cluster-admin", "ARN of the role that administers the cluster", "nobody", &f.project.ClusterAdmin},
		{"email", "E-mail address that gets the alarms", "nobody", &f.project.Email},
	}
	lines := bufio.NewReader(in)
	for _, q := range questions {
		// The Region goes with the account.
		if cmd.Flags().Changed(q.flag) || q.flag == "region" && f.project.Account == "" {
			continue
		}
		prompt := q.text
		if q.def != "" {
			prompt += " [" + q.def + "]"
		}
		if _, err := fmt.Fprint(cmd.ErrOrStderr(), prompt+": "); err != nil {
			return err
		}
		line, err := lines.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		*q.value = strings.TrimSpace(line)
	}
	return nil
}

// versions fills in what go.mod and cdk.json need.
func (f *initFlags) versions(cmd *cobra.Command, folder string) error {
	p := &f.project
	if p.Version == "" {
		p.Version = builtVersion()
		if p.Version == nextVersion && p.Replace == "" && p.Kind != scaffold.ConfigOnly {
			printError(cmd.ErrOrStderr(), "this ekskms was not built from a release, so the project asks for "+nextVersion, "with --replace it takes ekskms from a checkout")
		}
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
func (f *initFlags) generated(cmd *cobra.Command, file *config.File) ([]scaffold.File, error) {
	switch f.project.Kind {
	case scaffold.Terraform:
		module, err := terraform.Generate(file.Clusters[0].Blueprint())
		if err != nil {
			return nil, err
		}
		var files []scaffold.File
		for _, a := range terraformArtifacts("cluster "+file.Clusters[0].Name, module) {
			files = append(files, scaffold.File{Path: "terraform/" + a.name, Content: []byte(a.content())})
		}
		return files, nil
	case scaffold.CDK:
		snapshot, err := snapshotOf(cmd, file)
		if err != nil {
			printError(cmd.ErrOrStderr(), "the snapshot of the template is missing: "+err.Error(), "go test -update makes it")
			return nil, nil
		}
		name := place.Stack(file.Clusters[0].Name) + ".template.json"
		return []scaffold.File{{Path: "testdata/" + name, Content: snapshot}}, nil
	}
	return nil, nil
}

// assetHash is the pattern of the project's own test.
var assetHash = regexp.MustCompile(`[0-9a-f]{64}`)

// snapshotOf synthesizes a file, and returns the template as the project's test
// writes it.
func snapshotOf(cmd *cobra.Command, file *config.File) ([]byte, error) {
	out, remove, err := synthesizeAside(cmd, file)
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
		lines = append(lines, "terraform -chdir=terraform init", "terraform -chdir=terraform plan")
	case scaffold.ConfigOnly:
		lines = append(lines, "ekskms synth")
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "\nNext:\n  %s\n", strings.Join(lines, "\n  "))
	return err
}
