package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ekskms/ekskms/internal/hint"
)

// generatedBy begins every file that is written here and can hold a comment.
const generatedBy = "# Made by ekskms generate"

func newGenerate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Print the same model in other forms: Terraform, Kubernetes objects, encryption configurations",
		Long: "Print files for other tools from the same model as the CloudFormation template. Where the form\n" +
			"has comments, they say where the values come from and what to do next. A value that is\n" +
			"missing is an error that names its flag.",
		Example: "  ekskms generate encryption-config",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGenerateManifests(), newGenerateEncryptionConfig(), newGenerateMigration(), newGenerateTerraform(),
		newGenerateKeyPolicy(), newGenerateIAMPolicy(), newGenerateOrganizationPolicy(), newGenerateRoleWatch(), newGenerateEksctl(), newGenerateDocs())
	return cmd
}

// artifact is a file, or a part of what goes to standard output.
type artifact struct {
	name     string
	comments []string // lines at its top, without the #
	body     []byte
}

// content is the whole text. JSON has no comments.
func (o artifact) content() string {
	if filepath.Ext(o.name) == ".json" {
		return string(o.body)
	}
	b := &strings.Builder{}
	for i, c := range o.comments {
		line := "# " + c
		if i == 0 {
			line = generatedBy + " " + c
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	b.Write(o.body)
	return b.String()
}

// emit prints the artifacts as one stream of YAML documents, or as one file of
// Terraform, or writes them into a folder.
func emit(cmd *cobra.Command, artifacts []artifact, folder string, force bool) error {
	if folder != "" {
		return writeFolder(cmd, artifacts, folder, force)
	}
	texts := make([]string, len(artifacts))
	for i, o := range artifacts {
		texts[i] = o.content()
	}
	between := "---\n"
	if len(artifacts) > 0 && filepath.Ext(artifacts[0].name) == ".tf" {
		between = "\n"
	}
	_, err := io.WriteString(cmd.OutOrStdout(), strings.Join(texts, between))
	return err
}

// writeFolder replaces no file that has another content, unless it is told to: such
// a file may have been edited. It looks at all of them before it writes the first.
func writeFolder(cmd *cobra.Command, artifacts []artifact, folder string, force bool) error {
	written := map[string]bool{}
	for _, o := range artifacts {
		written[o.name] = true
		if err := mayWrite(filepath.Join(folder, o.name), o.content(), force); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, o := range artifacts {
		path := filepath.Join(folder, o.name)
		if err := os.WriteFile(path, []byte(o.content()), 0o644); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), "Wrote", path); err != nil {
			return err
		}
	}
	return warnOfOthers(cmd.ErrOrStderr(), folder, written)
}

// mayWrite refuses to replace a file that has another content, unless it is told to.
func mayWrite(path, content string, force bool) error {
	old, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case string(old) != content && !force:
		return &hint.Error{What: path + " exists with another content, and nothing was written", Hint: "look at it, and give --force to replace it, or another --out"}
	}
	return nil
}

// warnOfOthers names what another mode has left in the folder: kubectl apply -f
// would apply it too.
func warnOfOthers(stderr io.Writer, folder string, written map[string]bool) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if written[e.Name()] || !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(folder, e.Name())
		if text, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(text), generatedBy) {
			apply := "kubectl apply -f " + folder
			if filepath.Ext(path) == ".tf" {
				apply = "terraform apply"
			}
			printError(stderr, path+" is of an earlier run, and not of this one", "remove it, if '"+apply+"' is not to apply it")
		}
	}
	return nil
}

// notEmpty refuses flags that are given as empty: a variable that is not set in a
// script must not mean the default.
func notEmpty(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if value := flag.Value.String(); err == nil && (value == "" || value == "[]") {
			err = wrongInput(fmt.Errorf("--%s is empty", flag.Name), cmd)
		}
	})
	return err
}

// missing is a value that only a flag can bring.
func missing(flag, what, advice string) error {
	return hint.Usage(fmt.Sprintf("--%s is required: %s", flag, what), advice)
}
