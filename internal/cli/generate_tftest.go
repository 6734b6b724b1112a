package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/hint"
)

func newGenerateTFTest() *cobra.Command {
	var from, account, region string
	cmd := &cobra.Command{
		Use:   "tftest --plan FILE",
		Short: "Print a Terraform test that makes known what a plan does not know yet",
		Long: "Print a file for 'terraform test' in which each resource of a plan that AWS gives an ARN or an ID\n" +
			"has one that is made up, and the variables have the values of the plan. The plan of that test has\n" +
			"the policies, patterns and keys that the plan itself knows after the apply only, and 'ekskms check',\n" +
			"'explain' and 'guard' read what it prints. It makes nothing. Needs Terraform 1.11 or later; OpenTofu\n" +
			"refuses it.\n" +
			"\n" +
			"  ekskms generate tftest --plan plan.json > tests/ekskms.tftest.hcl\n" +
			"  terraform test -filter=tests/ekskms.tftest.hcl -json -verbose > tests.json\n" +
			"  ekskms check tests.json\n" +
			"\n" +
			"Values of sensitive variables are left out, and must be given to 'terraform test'.",
		Example: "  ekskms generate tftest --plan plan.json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" {
				return hint.Usage("--plan is missing", writesPlan)
			}
			plan, err := readPlan(from)
			if err != nil {
				return err
			}
			if plan == nil || plan.IsState() {
				return hint.Usage(from+" is no Terraform plan in JSON", writesPlan)
			}
			f := checkFlags{environment: cfn.Environment{Account: account, Region: region}}
			assembly, err := f.placed(cmd, afterPlan(from, plan))
			if err != nil {
				return err
			}
			at := estate.FromTemplates(assembly).Stacks[0]
			text, left := plan.Test(at.Account, at.Region)
			if len(left) > 0 {
				notice(cmd, "the values of "+listed(left)+" are sensitive and were left out", "give them to 'terraform test' with -var or TF_VAR_"+left[0])
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), strings.TrimSuffix(string(text), "\n")+"\n")
			return err
		},
	}
	cmd.Flags().StringVar(&from, "plan", "", "plan as 'terraform show -json' prints it, a `file`")
	cmd.Flags().StringVar(&account, "account", "", "account `number` for the made-up ARNs. Default: that of the plan, or an example")
	cmd.Flags().StringVar(&region, "region", "", "`Region` for the made-up ARNs. Default: that of the plan, or an example")
	must(cmd.MarkFlagFilename("plan", "json"))
	return cmd
}
