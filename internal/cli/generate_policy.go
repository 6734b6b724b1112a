package cli

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/model"
	"github.com/ekskms/ekskms/internal/names"
)

// placeFlags say where a cluster is, where its configuration does not.
type placeFlags struct{ file, account, region string }

func (f *placeFlags) register(flags *pflag.FlagSet) {
	flags.StringVarP(&f.file, "file", "f", "", "configuration `file`, or - for standard input (default ekskms.yaml here, if there is one)")
	flags.StringVar(&f.account, "account", "", "AWS `account` of the cluster, where the configuration does not say it")
	flags.StringVar(&f.region, "region", "", "AWS `Region` of the cluster, where the configuration does not say it")
}

var regionName = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]+$`)

// cluster reads the configuration and puts the cluster in its place.
func (f *placeFlags) cluster(cmd *cobra.Command) (model.Cluster, error) {
	if err := notEmpty(cmd); err != nil {
		return model.Cluster{}, err
	}
	file, err := loadConfig(cmd, f.file)
	if err != nil {
		return model.Cluster{}, err
	}
	return f.place(file.Clusters[0])
}

func (f *placeFlags) place(c config.Cluster) (model.Cluster, error) {
	account, region := c.Account, c.Region
	if key, err := arn.Parse(c.Key.ARN); err == nil && region == "" {
		region = key.Region // a cluster's key is in its own Region
	}
	for _, v := range []struct {
		flag, given string
		value       *string
		valid       *regexp.Regexp
		want, what  string
	}{
		{"account", f.account, &account, accountID, "12 digits", "in which AWS account the cluster is"},
		{"region", f.region, &region, regionName, "an AWS Region, such as eu-central-1", "in which Region the cluster is"},
	} {
		switch {
		case v.given != "" && *v.value != "" && v.given != *v.value:
			return model.Cluster{}, usageError{fmt.Sprintf("--%s is %s, and the configuration has %s", v.flag, v.given, *v.value), "leave --" + v.flag + " out"}
		case v.given != "" && !v.valid.MatchString(v.given):
			return model.Cluster{}, usageError{fmt.Sprintf("--%s is %q, must be %s", v.flag, v.given, v.want), ""}
		case v.given != "":
			*v.value = v.given
		case *v.value == "":
			return model.Cluster{}, missing(v.flag, "the configuration does not say "+v.what, "give the flag, or write account and region into the configuration")
		}
	}
	return model.Cluster{Cluster: c, Place: model.In(account, region)}, nil
}

// roleFlag refuses what is not the ARN of a role.
func roleFlag(flag, value string) error {
	if value != "" && !roleARN.MatchString(value) {
		return usageError{fmt.Sprintf("--%s is %q, which is not the ARN of an IAM role", flag, value), "arn:aws:iam::<account>:role/<name>"}
	}
	return nil
}

func newGenerateKeyPolicy() *cobra.Command {
	var place placeFlags
	var clusterRole, pluginRole string
	var tenantRoles map[string]string
	var statements bool
	cmd := &cobra.Command{
		Use:   "key-policy",
		Short: "Print the policy of the secrets key, for the owner of an existing key",
		Long: "Print the key policy that the cluster of ekskms.yaml needs, as 'aws kms put-key-policy' takes\n" +
			"it. That replaces a policy: with --statements it is the list of statements to add to one.\n" +
			"\n" +
			"KMS refuses a principal that does not exist. The roles that the deployment makes are named\n" +
			"only if their ARNs are given: before the deployment the policy goes without them, and the\n" +
			"cluster's role is named by its path.",
		Example: "  ekskms generate key-policy --file ekskms.yaml --account 111122223333 --region eu-central-1\n" +
			"  ekskms generate key-policy --file ekskms.yaml --account 111122223333 --region eu-central-1 --plugin-role-arn arn:aws:iam::111122223333:role/plugin --statements",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := place.cluster(cmd)
			if err != nil {
				return err
			}
			roles, err := keyRoles(cmd, &c, clusterRole, pluginRole, tenantRoles)
			if err != nil {
				return err
			}
			if statements {
				return printJSON(cmd.OutOrStdout(), c.AddedStatements(roles))
			}
			return printJSON(cmd.OutOrStdout(), iampolicy.NewDocument(c.KeyStatements(roles)...))
		},
	}
	flags := cmd.Flags()
	place.register(flags)
	flags.StringVar(&clusterRole, "cluster-role-arn", "", "`ARN` of the cluster's role (default: roles under the path that the deployment gives it)")
	flags.StringVar(&pluginRole, "plugin-role-arn", "", "`ARN` of the plugin's role: the stack's output PluginRoleArn")
	flags.StringToStringVar(&tenantRoles, "tenant-role-arn", nil, "`name=ARN` of the role of each tenant's plugin; can be repeated")
	flags.BoolVar(&statements, "statements", false, "print the statements to add to a policy, without that of the account")
	return cmd
}

// keyRoles are the roles that the flags name. It says what is left out without them,
// and puts CDK's own role where the configuration names no creators.
func keyRoles(cmd *cobra.Command, c *model.Cluster, cluster, plugin string, tenants map[string]string) (model.KeyRoles, error) {
	roles := model.KeyRoles{Cluster: cluster, Plugin: plugin}
	for flag, value := range map[string]string{"cluster-role-arn": cluster, "plugin-role-arn": plugin} {
		if err := roleFlag(flag, value); err != nil {
			return roles, err
		}
	}
	var names []string
	for _, t := range c.Plugin.Tenants {
		names = append(names, t.Name)
	}
	for name, role := range tenants {
		if !slices.Contains(names, name) {
			return roles, usageError{fmt.Sprintf("--tenant-role-arn is for %q, and plugin.tenants of the configuration has %q", name, names), "name=ARN"}
		}
		if err := roleFlag("tenant-role-arn", role); err != nil {
			return roles, err
		}
	}
	if !c.Plugin.Enabled && plugin != "" {
		return roles, usageError{"--plugin-role-arn is given, and the configuration has plugin.enabled: false", "leave --plugin-role-arn out"}
	}
	if len(c.Creators) == 0 {
		c.Creators = []string{c.Place.BootstrapRole()}
		printError(cmd.ErrOrStderr(), "the configuration names no creators, so the one who may create the cluster is CDK's own role, "+c.Creators[0], "")
	}
	if c.Plugin.Enabled && plugin == "" {
		printError(cmd.ErrOrStderr(), "the policy goes without the plugin's role, which the deployment makes", "deploy, and add what --plugin-role-arn with the stack's output PluginRoleArn prints")
	}
	switch {
	case len(tenants) == len(names) && len(names) > 0:
		roles.Tenant = func(name string) string { return tenants[name] }
	case len(tenants) > 0:
		return roles, usageError{fmt.Sprintf("--tenant-role-arn is given for %d of %d tenants", len(tenants), len(names)), fmt.Sprintf("give it for each of %q", names)}
	case len(names) > 0:
		printError(cmd.ErrOrStderr(), "the policy goes without the roles of the tenants, which the deployment makes", "deploy, and give each with --tenant-role-arn name=ARN")
	}
	return roles, nil
}

// The kinds of principals that a key's policy and their own IAM policies speak of.
const (
	forCreator = "creator"
	forPlugin  = "plugin"
	forAdmin   = "admin"
)

func newGenerateIAMPolicy() *cobra.Command {
	var place placeFlags
	var who, key, tenant string
	cmd := &cobra.Command{
		Use:   "iam-policy",
		Short: "Print the IAM policy of a principal that works with the secrets key",
		Long: "Print an IAM policy with what a principal may do with the key, and nothing else:\n" +
			"\n" +
			"  creator  creates the cluster: kms:DescribeKey and kms:CreateGrant\n" +
			"  plugin   is the role of the KMS plugin, or of a tenant's with --tenant\n" +
			"  admin    administers the key, and can't encrypt or decrypt with it\n" +
			"\n" +
			"The key policy decides. An IAM policy is needed beside it by principals of another account\n" +
			"than the key's, and by administrators that the key policy does not name.",
		Example: "  ekskms generate iam-policy --for admin --key arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab\n" +
			"  ekskms generate iam-policy --for plugin --file ekskms.yaml --account 111122223333 --key arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kinds := []string{forCreator, forPlugin, forAdmin}
			switch {
			case who == "":
				return missing("for", "the policy is that of one kind of principal", fmt.Sprintf("one of %q", kinds))
			case !slices.Contains(kinds, who):
				return usageError{fmt.Sprintf("--for is %q, must be one of %q", who, kinds), ""}
			case tenant != "" && who != forPlugin:
				return usageError{"--tenant is for --for plugin", "leave --tenant out"}
			}
			c, k, err := place.withKey(cmd, key)
			if err != nil {
				return err
			}
			statements, err := iamStatements(c, who, tenant)
			if err != nil {
				return err
			}
			statements = iampolicy.OnResource(statements, k.String())
			if alias := c.Alias(); who == forAdmin && alias != "" {
				k.Resource = alias
				// Source: AWS KMS Developer Guide, "Controlling access to aliases".
				statements = append(statements, iampolicy.Statement{
					Sid:      "Alias",
					Effect:   iampolicy.Allow,
					Action:   iampolicy.Values{"kms:CreateAlias", "kms:DeleteAlias", "kms:UpdateAlias"},
					Resource: iampolicy.Values{k.String()},
				})
			}
			return printJSON(cmd.OutOrStdout(), iampolicy.NewDocument(statements...))
		},
	}
	flags := cmd.Flags()
	place.register(flags)
	flags.StringVar(&who, "for", "", "`kind` of principal: creator, plugin or admin")
	flags.StringVar(&key, "key", "", "`ARN` of the key, which a new one has only once it is deployed: the stack's output KeyArn")
	flags.StringVar(&tenant, "tenant", "", "`name` of a tenant in plugin.tenants of the configuration")
	return cmd
}

// withKey is [placeFlags.cluster] for a command with a flag --key, whose ARN says
// where the cluster is too: a new key is in the account of its cluster.
func (f *placeFlags) withKey(cmd *cobra.Command, key string) (model.Cluster, arn.ARN, error) {
	if err := notEmpty(cmd); err != nil {
		return model.Cluster{}, arn.ARN{}, err
	}
	file, err := loadConfig(cmd, f.file)
	if err != nil {
		return model.Cluster{}, arn.ARN{}, err
	}
	c := file.Clusters[0]
	k, err := keyOf(c, key, cmp.Or(c.Region, f.region))
	if err != nil {
		return model.Cluster{}, arn.ARN{}, err
	}
	if c.Key.ARN == "" && c.Account == "" && f.account == "" {
		f.account = k.AccountID
	}
	if c.Region == "" && f.region == "" {
		f.region = k.Region
	}
	placed, err := f.place(c)
	return placed, k, err
}

// keyOf returns the ARN of the key, from the configuration or the flag --key.
func keyOf(c config.Cluster, flag, region string) (k arn.ARN, err error) {
	key := flag
	switch {
	case c.Key.ARN != "" && flag != "" && flag != c.Key.ARN:
		return k, usageError{fmt.Sprintf("--key is %s, and key.arn of the configuration is %s", flag, c.Key.ARN), "give one of the two, or twice the same"}
	case c.Key.ARN != "":
		key = c.Key.ARN
	case flag == "":
		return k, missing("key", "the configuration makes a new key, whose ARN is known once it is deployed",
			"it is the output KeyArn: aws cloudformation describe-stacks --stack-name "+names.Stack(c.Name))
	}
	k, err = arn.Parse(key)
	switch {
	case err != nil || k.Service != "kms" || !strings.HasPrefix(k.Resource, "key/") || k.Region == "" || k.AccountID == "":
		return k, usageError{fmt.Sprintf("--key is %q, which is not the ARN of a KMS key", key), "arn:aws:kms:<region>:<account>:key/<id>"}
	case region != "" && k.Region != region:
		return k, usageError{fmt.Sprintf("the key %s is in %s, and the cluster in %s", key, k.Region, region), "a cluster's key is in its own Region"}
	}
	return k, nil
}

func iamStatements(c model.Cluster, who, tenant string) ([]iampolicy.Statement, error) {
	switch {
	case who == forAdmin:
		return []iampolicy.Statement{keypolicy.Administrators(nil, c.Key.MultiRegion)}, nil
	case who == forCreator:
		return c.CreatorStatements(), nil
	case !c.Plugin.Enabled:
		return nil, usageError{"the configuration has plugin.enabled: false", "there is no plugin to make a policy for"}
	case tenant == "":
		session := c.Session()
		return keypolicy.PluginUse("", keypolicy.ClusterContext(session.ClusterARN), &session), nil
	}
	var names []string
	for _, t := range c.Tenants(func(string) string { return "" }) {
		if t.Name == tenant {
			return keypolicy.TenantUse([]keypolicy.Tenant{t}), nil
		}
		names = append(names, t.Name)
	}
	return nil, usageError{fmt.Sprintf("--tenant is %q, and plugin.tenants of the configuration has %q", tenant, names), "add it there and deploy"}
}
