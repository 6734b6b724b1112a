package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/files"
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
		Args:    noArgs,
		RunE:    runHelp,
	}
	cmd.AddCommand(newGenerateManifests(), newGenerateEncryptionConfig(), newGenerateMigration(), newGenerateTerraform(), newGenerateTFTest(),
		newGenerateKeyPolicy(), newGenerateIAMPolicy(), newGenerateOrganizationPolicy(), newGenerateRoleWatch(), newGenerateEksctl())
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
// a file may have been edited.
func writeFolder(cmd *cobra.Command, artifacts []artifact, folder string, force bool) error {
	written := map[string]bool{}
	var all []files.File
	for _, o := range artifacts {
		written[o.name] = true
		all = append(all, files.File{Path: o.name, Content: []byte(o.content())})
	}
	if err := write(cmd, folder, all, force); err != nil {
		return err
	}
	return warnOfOthers(cmd, folder, written)
}

// write writes all files or none, and names them.
func write(cmd *cobra.Command, folder string, all []files.File, force bool) error {
	err := files.Write(folder, all, force)
	var exists *files.ExistsError
	switch {
	case errors.As(err, &exists):
		return &hint.Error{What: err.Error(), Hint: "look at it, and give --force to replace it, or write to another place"}
	case err != nil:
		return err
	}
	if quiet(cmd) {
		return nil
	}
	for _, f := range all {
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), "Wrote", filepath.Join(folder, filepath.FromSlash(f.Path))); err != nil {
			return err
		}
	}
	return nil
}

// writeFile is [write] for one file.
func writeFile(cmd *cobra.Command, path string, content []byte, force bool) error {
	return write(cmd, filepath.Dir(path), []files.File{{Path: filepath.Base(path), Content: content}}, force)
}

// warnOfOthers names what another mode has left in the folder: kubectl apply -f
// would apply it too.
func warnOfOthers(cmd *cobra.Command, folder string, written map[string]bool) error {
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
			warn(cmd, path+" is of an earlier run, and not of this one", "remove it, if '"+apply+"' is not to apply it")
		}
	}
	return nil
}

// missing is a value that only a flag can bring.
func missing(flag, what, advice string) error {
	return hint.Usage(fmt.Sprintf("--%s is required: %s", flag, what), advice)
}
