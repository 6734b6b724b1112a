package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/verify"
)

func newVerify() *cobra.Command {
	var flags verifyFlags
	cmd := &cobra.Command{
		Use:   "verify [PATH | --cluster NAME]",
		Short: "Compare a running account with what is written, and judge what runs",
		Long: "Read clusters, their keys, grants, roles, trails and alarms from AWS, and report how they differ\n" +
			"from what is written, what 'ekskms check' finds of what runs, and what AWS itself says is wrong.\n" +
			"Nothing is changed, and nothing secret is read or printed.\n" +
			"\n" +
			"PATH is a template, a cloud assembly or its folder, or a Terraform plan or state as\n" +
			"'terraform show -json' prints it. Without it, ekskms.yaml or --file is synthesized. With --cluster,\n" +
			"nothing is compared: the rules alone are asked of a cluster, however it was made.\n" +
			"\n" +
			"It takes the credentials of the environment, as the AWS CLI does. Clusters in other accounts are\n" +
			"left out, unless --fleet asks for all, under a role that --role-name names. 'ekskms generate\n" +
			"iam-policy --for verifier' prints what they need. What may not be read is a line 'not judged:\n" +
			"needs ...', and takes nothing from the rest. A dry run of Decrypt says whether the caller may\n" +
			"decrypt; it needs no permission for that, and decrypts nothing.\n" +
			"\n" +
			"The exit code is 1 if something is found at or above --fail-on that is not accepted.\n" +
			"docs/reference/verify.md lists all findings.",
		Example: "  ekskms verify --file ekskms.yaml --region eu-central-1\n" +
			"  ekskms verify --cluster payments --region eu-central-1 --fail-on high",
		Args: upToOne,
		RunE: flags.run,
	}
	set := cmd.Flags()
	flags.addFile(set, "compare with what this configuration `file` makes; of several, later ones merge over earlier ones")
	set.StringVar(&flags.cluster, "cluster", "", "`name` of a cluster to judge by the rules alone")
	set.StringVar(&flags.stack, "stack", "", "`name` of the stack of which PATH is the template. Required for a template, which does not say it")
	set.BoolVar(&flags.fleet, "fleet", false, "verify the clusters in all accounts, not only in that of the credentials")
	set.StringVar(&flags.role, "role-name", "", "IAM role to assume in accounts other than that of the credentials: a `name`, with its path. Default: none, and such accounts can't be read")
	set.StringArrayVar(&flags.accepted, "accept", nil, "finding that is meant, as `id[@resource]=reason`; can be repeated")
	flags.addCommon(set)
	set.Lookup("account").Usage = "account `number` of what is verified. Default: that which is written, or that of the credentials"
	set.Lookup("region").Usage = "`Region` of what is verified. Default: that which is written, or that of the environment"
	return cmd
}

type verifyFlags struct {
	checkFlags
	cluster, stack, role string
	fleet                bool
	accepted             []string
}

func (f *verifyFlags) run(cmd *cobra.Command, args []string) error {
	if f.cluster != "" && (len(args) > 0 || len(f.files) > 0) {
		return hint.Usage("--cluster is given with a file to compare with", "leave one of them out: --cluster judges by the rules alone")
	}
	args, err := f.parse(cmd, args)
	if err != nil {
		return err
	}
	for _, v := range []struct {
		flag, given string
		valid       func(string) bool
		want        string
	}{
		{"cluster", f.cluster, place.IsClusterName, "the name of an EKS cluster"},
		{"account", f.environment.Account, place.IsAccount, "12 digits"},
		{"region", f.environment.Region, place.IsRegion, "an AWS Region, such as eu-central-1"},
	} {
		if v.given != "" && !v.valid(v.given) {
			return hint.Usage(fmt.Sprintf("--%s is %q, must be %s", v.flag, v.given, v.want), "")
		}
	}
	opts := verify.Options{Region: f.environment.Region}
	if opts.Accepted, err = parseAccepted(f.accepted, verify.Validate); err != nil {
		return hint.Usage(err.Error(), helpHint(cmd))
	}
	if err := f.readOrganization(cmd); err != nil {
		return err
	}
	opts.Organization = f.organization
	aws, err := live.New(cmd.Context(), f.role)
	if err != nil {
		return err
	}
	if f.cluster != "" {
		opts.Clusters, opts.Account = []string{f.cluster}, f.environment.Account
	} else if err := f.want(cmd, args, aws, &opts); err != nil {
		return err
	}
	done := progress(cmd, "reading AWS")
	report, err := verify.Run(cmd.Context(), aws, opts)
	done()
	if err != nil {
		return namesOther(err)
	}
	return f.finish(cmd, report)
}

// want reads what is wanted, in the account and Region in which it is.
func (f *verifyFlags) want(cmd *cobra.Command, args []string, aws *live.AWS, opts *verify.Options) error {
	var read source
	var err error
	opts.Stacks = true
	if len(args) == 0 {
		clusters, err := f.load(cmd)
		if err != nil {
			return err
		}
		var remove func()
		var accepted []finding.Suppression
		if read, accepted, remove, err = f.synthesizedFile(cmd, clusters); err != nil {
			return err
		}
		defer remove()
		opts.Suppressions = accepted
	} else {
		plan, err := f.readPlan(args[0])
		if err != nil {
			return err
		}
		if plan != nil && plan.Half() != "" {
			return hint.Usage(args[0]+" is half a plan: "+plan.Half(), "make a whole one: what is not in it would be said to be missing")
		}
		opts.Stacks = plan == nil
		if read, err = f.from(cmd, args[0]); err != nil {
			return err
		}
	}
	wanted, err := read(f.environment)
	if err != nil {
		return err
	}
	if assumed(wanted) {
		// What is for any account and Region is for those of the credentials.
		env := f.environment
		if env.ElseAccount, env.ElseRegion, err = aws.Here(cmd.Context(), env.Region); err != nil {
			return err
		}
		if wanted, err = read(env); err != nil {
			return err
		}
	}
	if opts.Stacks && len(args) > 0 {
		if err := f.nameStack(args[0], wanted); err != nil {
			return err
		}
	} else if f.stack != "" {
		return hint.Usage("--stack is given, and PATH is no template", "leave --stack out")
	}
	if !f.fleet {
		if opts.Account, _, err = aws.Here(cmd.Context(), wanted.Templates[0].Region); err != nil {
			return err
		}
		if !slices.ContainsFunc(wanted.Templates, func(t *cfn.Template) bool { return t.Account == opts.Account }) {
			return hint.Usage(fmt.Sprintf("the credentials are of account %s, and what is wanted is for %s", opts.Account, wanted.Templates[0].Account),
				"use credentials of that account, or name a role to assume there with --fleet --role-name")
		}
	}
	opts.Wanted = wanted
	return nil
}

// nameStack gives the template of a file the name of its stack, which stands in no template.
func (f *verifyFlags) nameStack(name string, wanted *cfn.Assembly) error {
	alone := name == "-" || wanted.Templates[0].Name == filepath.Base(name)
	switch {
	case alone && f.stack == "":
		return hint.Usage(name+" is a template, and which stack it is of does not stand in it", "name the stack with --stack, or give the cloud assembly")
	case !alone && f.stack != "":
		return hint.Usage("--stack is given, and "+name+" has the names of its stacks", "leave --stack out")
	case alone:
		wanted.Templates[0].Name = f.stack
	}
	return nil
}

// namesOther adds to the error that there is no cluster of a name how to find another.
func namesOther(err error) error {
	var none verify.ErrNoCluster
	if errors.As(err, &none) {
		return hint.Usage(err.Error(), "name another with --cluster and --region: 'aws eks list-clusters' prints those that there are")
	}
	return err
}
