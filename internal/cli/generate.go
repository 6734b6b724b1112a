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
)

// generatedBy begins every file that is written here and can hold a comment.
const generatedBy = "# Made by ekskms generate"

func newGenerate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Print what is deployed beside the stack: Kubernetes objects, encryption configurations",
		Long: "Print files for Kubernetes from the same model as the CloudFormation template. Each begins\n" +
			"with comments that say where its values come from and what to do next. A value that is\n" +
			"missing is an error that names its flag.",
		Example: "  ekskms generate encryption-config",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGenerateManifests(), newGenerateEncryptionConfig(), newGenerateMigration())
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

// emit prints the artifacts as one stream of YAML documents, or writes them into a
// folder.
func emit(cmd *cobra.Command, artifacts []artifact, folder string) error {
	if folder != "" {
		return writeFolder(cmd.OutOrStdout(), artifacts, folder)
	}
	texts := make([]string, len(artifacts))
	for i, o := range artifacts {
		texts[i] = o.content()
	}
	_, err := io.WriteString(cmd.OutOrStdout(), strings.Join(texts, "---\n"))
	return err
}

// writeFolder replaces files that were made here before and no others. It looks at
// all of them before it writes the first.
func writeFolder(stdout io.Writer, artifacts []artifact, folder string) error {
	for _, o := range artifacts {
		path := filepath.Join(folder, o.name)
		old, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case string(old) != o.content() && !strings.HasPrefix(string(old), generatedBy):
			return fmt.Errorf("%s exists with another content, and was not made by ekskms generate: move it away, or choose another --out", path)
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
		if _, err := fmt.Fprintln(stdout, "Wrote", path); err != nil {
			return err
		}
	}
	return nil
}

// missing is a value that only a flag can bring.
func missing(flag, what, hint string) error {
	return usageError{fmt.Sprintf("--%s is required: %s", flag, what), hint}
}
