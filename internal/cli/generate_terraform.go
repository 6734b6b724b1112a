package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/terraform"
)

func newGenerateTerraform() *cobra.Command {
	var from configuration
	var out string
	var keyOnly, force bool
	cmd := &cobra.Command{
		Use:   "terraform",
		Short: "Print the cluster, or its key alone, as a Terraform module",
		Long: "Print a complete Terraform root module of the cluster in ekskms.yaml: network, key and key\n" +
			"policy, cluster, access entries, trail, alarms, the plugin's identity and its Kubernetes\n" +
			"objects. It needs Terraform 1.5 and the provider hashicorp/aws, 5.100 or 6, and no module.\n" +
			"What the configuration leaves open is a variable. docs/reference/parity.md says in what the module\n" +
			"differs from the CloudFormation template.\n" +
			"\n" +
			"With --key-only it is a module of the key and the plugin's role, to use beside\n" +
			"terraform-aws-eks: its outputs have the names of that module's inputs.",
		Example: "  ekskms generate terraform --out terraform\n" +
			"  ekskms generate terraform --file ekskms.yaml --key-only --out key",
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := from.loadAlone(cmd)
			if err != nil {
				return err
			}
			cluster := from.Blueprint()
			generate, what := terraform.Generate, "cluster "+cluster.Name
			if keyOnly {
				generate, what = terraform.GenerateKey, "the key of cluster "+cluster.Name
			}
			files, err := generate(cluster)
			if err != nil {
				return &hint.Error{What: err.Error(), Hint: "leave --key-only out, or give the configuration a key of its own"}
			}
			return emit(cmd, terraformArtifacts(what, files), out, force)
		},
	}
	flags := cmd.Flags()
	from.add(cmd)
	flags.BoolVar(&keyOnly, "key-only", false, "print a module of the key and the plugin's role, without a cluster")
	flags.StringVarP(&out, "out", "o", "", "`folder` to write files to, instead of one file to standard output")
	flags.BoolVar(&force, "force", false, "replace files in the folder that have another content")
	return cmd
}

func terraformArtifacts(what string, files []terraform.File) []artifact {
	artifacts := make([]artifact, len(files))
	for i, f := range files {
		artifacts[i] = artifact{f.Name, []string{fmt.Sprintf("terraform: %s, %s.", what, f.Name), ""}, f.Content}
	}
	return artifacts
}
