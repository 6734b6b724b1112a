package cli

import (
	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/config"
)

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of ekskms.yaml",
		Long: "Print the JSON Schema of ekskms.yaml, for editors that complete and check as you type,\n" +
			"and as the reference of all settings with their limits and defaults.",
		Example: "  ekskms schema > ekskms.schema.json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(config.Schema())
			return err
		},
	}
}
