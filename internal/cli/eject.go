package cli

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/files"
	"github.com/ekskms/ekskms/internal/scaffold"
)

func newEject() *cobra.Command {
	var from configuration
	var out string
	var force bool
	cmd := &cobra.Command{
		Use:   "eject",
		Short: "Print the Go program that makes the same stack without ekskms.yaml",
		Long: "Print a CDK app in Go that makes the stack of ekskms.yaml with the constructs alone, every value\n" +
			"spelled out, for those who outgrow the file. It synthesizes to the same template, byte for byte:\n" +
			"deploying it changes nothing.\n" +
			"\n" +
			"In a project of 'ekskms init' it takes the place of main.go: the test, cdk.json and go.mod stay.",
		Example: "  ekskms eject --file ekskms.yaml --out .",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cluster, err := from.loadAlone(cmd)
			if err != nil {
				return err
			}
			code, err := scaffold.Eject(cluster.Blueprint())
			if err != nil {
				return err
			}
			if out == "" {
				_, err := cmd.OutOrStdout().Write(code)
				return err
			}
			if err := write(cmd, out, []files.File{{Path: "main.go", Content: code}}, force); err != nil {
				return err
			}
			if _, err := os.Stat(filepath.Join(out, config.FileName)); err == nil {
				warn(cmd, "main.go does not read "+config.FileName+" any more", "remove it once the snapshot test has passed, and name cdk.out to 'ekskms check' and 'ekskms guard'")
			}
			return nil
		},
	}
	flags := cmd.Flags()
	from.add(cmd)
	flags.StringVarP(&out, "out", "o", "", "`folder` to write main.go to, instead of standard output")
	flags.BoolVar(&force, "force", false, "replace main.go if there is one")
	return cmd
}
