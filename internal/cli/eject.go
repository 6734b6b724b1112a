package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/scaffold"
)

func newEject() *cobra.Command {
	var file, out string
	var force bool
	cmd := &cobra.Command{
		Use:   "eject",
		Short: "Print the Go program that makes the same stack without ekskms.yaml",
		Long: "Print a CDK app in Go that makes the stack of ekskms.yaml with the constructs alone, every value\n" +
			"spelled out, for whoever outgrows the file. It synthesizes to the same template, byte for byte:\n" +
			"deploying it changes nothing.\n" +
			"\n" +
			"In a project of 'ekskms init' it takes the place of main.go: the test, cdk.json and go.mod stay.",
		Example: "  ekskms eject --file ekskms.yaml --out .",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := notEmpty(cmd); err != nil {
				return err
			}
			configuration, err := loadConfig(cmd, file)
			if err != nil {
				return err
			}
			code, err := scaffold.Eject(configuration.Clusters[0].Blueprint())
			if err != nil {
				return err
			}
			if out == "" {
				_, err := cmd.OutOrStdout().Write(code)
				return err
			}
			if err := writeProject(cmd, out, []scaffold.File{{Path: "main.go", Content: code}}, force); err != nil {
				return err
			}
			if _, err := os.Stat(filepath.Join(out, config.FileName)); err == nil {
				printError(cmd.ErrOrStderr(), "main.go does not read "+config.FileName+" any more", "remove it once the snapshot test has passed, and name cdk.out to 'ekskms check' and 'ekskms guard'")
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&file, "file", "f", "", "configuration `file`, or - for standard input (default ekskms.yaml here, if there is one)")
	flags.StringVarP(&out, "out", "o", "", "`folder` to write main.go to, instead of standard output")
	flags.BoolVar(&force, "force", false, "replace main.go if there is one")
	return cmd
}

// writeProject writes all files or none.
func writeProject(cmd *cobra.Command, folder string, files []scaffold.File, force bool) error {
	err := scaffold.Write(folder, files, force)
	var exists *scaffold.ExistsError
	switch {
	case errors.As(err, &exists):
		return &hint.Error{What: err.Error(), Hint: "look at it, and give --force to replace it, or another folder"}
	case err != nil:
		return err
	}
	for _, f := range files {
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), "Wrote", filepath.Join(folder, filepath.FromSlash(f.Path))); err != nil {
			return err
		}
	}
	return nil
}
