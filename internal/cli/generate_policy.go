package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/synth"
)

// placeFlags say where a cluster is, where its configuration does not.
type placeFlags struct {
	configuration
	account, region string
}

func (f *placeFlags) register(cmd *cobra.Command) {
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.account, "account", "", "AWS `account` of the cluster, where the configuration does not say it")
	flags.StringVar(&f.region, "region", "", "AWS `Region` of the cluster, where the configuration does not say it")
}

// where returns the account and the Region of a cluster, as far as its configuration
// says them.
func where(c blueprint.Cluster) (account, region string) {
	if c.At.Region == nil {
		return "", ""
	}
	return c.At.Account.Text(), c.At.Region.Text()
}

// cluster reads the configuration and puts the cluster in its place.
func (f *placeFlags) cluster(cmd *cobra.Command) (blueprint.Cluster, error) {
	cluster, err := f.loadOne(cmd)
	if err != nil {
		return blueprint.Cluster{}, err
	}
	return f.place(cluster.Blueprint())
}

func (f *placeFlags) place(c blueprint.Cluster) (blueprint.Cluster, error) {
	account, region := where(c)
	if key, ok := place.ParseARN(c.Key.ARN); ok && region == "" {
		region = key.Region // a cluster's key is in its own Region
	}
	for _, v := range []struct {
		flag, given string
		value       *string
		valid       func(string) bool
		want, what  string
	}{
		{"account", f.account, &account, place.IsAccount, "12 digits", "in which AWS account the cluster is"},
		{"region", f.region, &region, place.IsRegion, "an AWS Region, such as eu-central-1", "in which Region the cluster is"},
	} {
		switch {
		case v.given != "" && *v.value != "" && v.given != *v.value:
			return blueprint.Cluster{}, hint.Usage(fmt.Sprintf("--%s is %s, and the configuration has %s", v.flag, v.given, *v.value), "leave --"+v.flag+" out")
		case v.given != "" && !v.valid(v.given):
			return blueprint.Cluster{}, hint.Usage(fmt.Sprintf("--%s is %q, must be %s", v.flag, v.given, v.want), "")
		case v.given != "":
			*v.value = v.given
		case *v.value == "":
			return blueprint.Cluster{}, missing(v.flag, "the configuration does not say "+v.what, "give the flag, or write account and region into the configuration")
		}
	}
	c.At = place.In(account, region)
	return c, nil
}

// roleFlag refuses what is not the ARN of a role.
func roleFlag(flag, value string) error {
	if value != "" && !place.IsRole(value) {
		return hint.Usage(fmt.Sprintf("--%s is %q, which is not the ARN of an IAM role", flag, value), "arn:aws:iam::<account>:role/<name>")
	}
	return nil
}

func newGenerateKeyPolicy() *cobra.Command {
	var at placeFlags
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
			"only if their ARNs are given: before the deployment the policy is printed without them, and the\n" +
			"cluster's role is named by its path.",
		Example: "  ekskms generate key-policy --file ekskms.yaml --account 111122223333 --region eu-central-1\n" +
			"  ekskms generate key-policy --file ekskms.yaml --account 111122223333 --region eu-central-1 --plugin-role-arn arn:aws:iam::111122223333:role/plugin --statements",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := at.cluster(cmd)
			if err != nil {
				return err
			}
			if err := keyRoles(cmd, &c, clusterRole, pluginRole, tenantRoles); err != nil {
				return err
			}
			if statements {
				return printJSON(cmd.OutOrStdout(), c.AddedStatements())
			}
			return printJSON(cmd.OutOrStdout(), iampolicy.NewDocument(c.KeyStatements()...))
		},
	}
	flags := cmd.Flags()
	at.register(cmd)
	flags.StringVar(&clusterRole, "cluster-role-arn", "", "`ARN` of the cluster's role (default: roles under the path that the deployment gives it)")
	flags.StringVar(&pluginRole, "plugin-role-arn", "", "`ARN` of the plugin's role: the stack's output PluginRoleArn")
	flags.StringToStringVar(&tenantRoles, "tenant-role-arn", nil, "`name=ARN` of the role of each tenant's plugin; can be repeated")
	flags.BoolVar(&statements, "statements", false, "print the statements to add to a policy, without that of the account")
	return cmd
}

// keyRoles puts the roles that the flags name into the cluster, and CDK's own where the
// configuration names no creators. It says what is left out without them.
func keyRoles(cmd *cobra.Command, c *blueprint.Cluster, cluster, plugin string, tenants map[string]string) error {
	for _, f := range []struct {
		flag, value string
		ref         *place.Value
	}{{"cluster-role-arn", cluster, &c.Refs.ClusterRole}, {"plugin-role-arn", plugin, &c.Refs.PluginRole}} {
		if err := roleFlag(f.flag, f.value); err != nil {
			return err
		}
		if f.value != "" {
			*f.ref = place.Literal(f.value)
		}
	}
	names := tenantNames(*c)
	for name, role := range tenants {
		if !slices.Contains(names, name) {
			return hint.Usage(fmt.Sprintf("--tenant-role-arn is for %q, and plugin.tenants of the configuration has %q", name, names), "name=ARN")
		}
		if err := roleFlag("tenant-role-arn", role); err != nil {
			return err
		}
	}
	if c.Plugin == nil && plugin != "" {
		return hint.Usage("--plugin-role-arn is given, and the configuration has plugin.enabled: false", "leave --plugin-role-arn out")
	}
	if err := nameCreators(cmd, c); err != nil {
		return err
	}
	if c.Key.ByPath && plugin == "" && len(tenants) == 0 {
		return nil // the policy names their paths
	}
	if c.Plugin != nil && plugin == "" {
		warn(cmd, "the policy is printed without the plugin's role, which the deployment makes", "deploy, and add what --plugin-role-arn with the stack's output PluginRoleArn prints")
	}
	switch {
	case len(tenants) == len(names) && len(names) > 0:
		c.Refs.TenantRole = func(name string) place.Value { return place.Literal(tenants[name]) }
	case len(tenants) > 0:
		return hint.Usage(fmt.Sprintf("--tenant-role-arn is given for %d of %d tenants", len(tenants), len(names)), fmt.Sprintf("give it for each of %q", names))
	case len(names) > 0:
		warn(cmd, "the policy is printed without the roles of the tenants, which the deployment makes", "deploy, and give each with --tenant-role-arn name=ARN")
	}
	return nil
}

// nameCreators takes CDK's own role where the configuration names no creators.
func nameCreators(cmd *cobra.Command, c *blueprint.Cluster) error {
	if len(c.Creators) == 0 {
		qualifier, err := synth.Qualifier()
		if err != nil {
			return err
		}
		c.CDK.Qualifier = cmp.Or(c.CDK.Qualifier, qualifier)
		c.Creators = []string{c.CDK.Creator(c.At)}
		notice(cmd, "the configuration names no creators, so the one who may create the cluster is CDK's own role, "+c.Creators[0], "")
	}
	return nil
}

// tenantNames are the names of the tenants, in their order.
func tenantNames(c blueprint.Cluster) []string {
	var names []string
	if c.Plugin != nil {
		for _, t := range c.Plugin.Tenants {
			names = append(names, t.Name)
		}
	}
	return names
}

// The kinds of principals that a key's policy and their own IAM policies speak of.
const (
	forCreator = "creator"
	forPlugin  = "plugin"
	forAdmin   = "admin"
	// forVerifier needs no cluster: it reads whatever there is.
	forVerifier = "verifier"
)

func newGenerateIAMPolicy() *cobra.Command {
	var at placeFlags
	var who, key, tenant string
	cmd := &cobra.Command{
		Use:   "iam-policy",
		Short: "Print the IAM policy of a principal that works with the secrets key",
		Long: "Print an IAM policy with what a principal may do with the key, and nothing else:\n" +
			"\n" +
			"  creator  creates the cluster: kms:DescribeKey and kms:CreateGrant\n" +
			"  plugin   is the role of the KMS plugin, or of a tenant's with --tenant\n" +
			"  admin    administers the key, and can't encrypt or decrypt with it\n" +
			"  verifier runs 'ekskms verify': it reads settings, and nothing that they protect\n" +
			"\n" +
			"The key policy decides. An IAM policy is needed beside it by principals of another account\n" +
			"than the key's, and by administrators that the key policy does not name.",
		Example: "  ekskms generate iam-policy --for admin --key arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab\n" +
			"  ekskms generate iam-policy --for plugin --file ekskms.yaml --account 111122223333 --key arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case who == "":
				return missing("for", "the policy is that of one kind of principal", "it is creator, plugin, admin or verifier")
			case tenant != "" && who != forPlugin:
				return hint.Usage("--tenant is for --for plugin", "leave --tenant out")
			case who == forVerifier:
				return printJSON(cmd.OutOrStdout(), iampolicy.NewDocument(iampolicy.Statement{
					Sid: "Read", Effect: iampolicy.Allow, Action: live.Permissions(), Resource: iampolicy.Values{"*"},
				}))
			}
			c, k, err := at.withKey(cmd, key)
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
	at.register(cmd)
	choiceOrNone(flags, &who, "for", "`kind` of principal", forCreator, forPlugin, forAdmin, forVerifier)
	flags.StringVar(&key, "key", "", "`ARN` of the key, which a new one has only once it is deployed: the stack's output KeyArn")
	flags.StringVar(&tenant, "tenant", "", "`name` of a tenant in plugin.tenants of the configuration")
	return cmd
}

// withKey is [placeFlags.cluster] for a command with a flag --key, whose ARN says
// where the cluster is too: a new key is in the account of its cluster.
func (f *placeFlags) withKey(cmd *cobra.Command, key string) (blueprint.Cluster, arn.ARN, error) {
	cluster, err := f.loadOne(cmd)
	if err != nil {
		return blueprint.Cluster{}, arn.ARN{}, err
	}
	return f.atKey(cluster.Blueprint(), key)
}

func (f *placeFlags) atKey(c blueprint.Cluster, key string) (blueprint.Cluster, arn.ARN, error) {
	account, region := where(c)
	k, err := keyOf(c, key, cmp.Or(region, f.region))
	if err != nil {
		return c, k, err
	}
	if c.Key.ARN == "" && account == "" && f.account == "" {
		f.account = k.AccountID
	}
	if region == "" && f.region == "" {
		f.region = k.Region
	}
	c.Refs.Key = place.Literal(k.String())
	if c, err = f.place(c); err == nil && c.Key.ARN == "" && k.AccountID != c.At.Account.Text() {
		err = hint.Usage(fmt.Sprintf("the key %s is in account %s, and the cluster in %s", k, k.AccountID, c.At.Account.Text()), "a new key is in the cluster's own account")
	}
	return c, k, err
}

// keyOf returns the ARN of the key, from the configuration or the flag --key.
func keyOf(c blueprint.Cluster, flag, region string) (k arn.ARN, err error) {
	key := flag
	switch {
	case c.Key.ARN != "" && flag != "" && flag != c.Key.ARN:
		return k, hint.Usage(fmt.Sprintf("--key is %s, and key.arn of the configuration is %s", flag, c.Key.ARN), "give one of them, or the same ARN in both")
	case c.Key.ARN != "":
		key = c.Key.ARN
	case flag == "":
		return k, missing("key", "the configuration makes a new key, whose ARN is known once it is deployed",
			"it is the output KeyArn: aws cloudformation describe-stacks --stack-name "+place.Stack(c.Name))
	}
	k, err = arn.Parse(key)
	switch {
	case err != nil || k.Service != "kms" || !strings.HasPrefix(k.Resource, "key/") || k.Region == "" || k.AccountID == "":
		return k, hint.Usage(fmt.Sprintf("--key is %q, which is not the ARN of a KMS key", key), "arn:aws:kms:<region>:<account>:key/<id>")
	case region != "" && k.Region != region:
		return k, hint.Usage(fmt.Sprintf("the key %s is in %s, and the cluster in %s", key, k.Region, region), "a cluster's key is in its own Region")
	}
	return k, nil
}

func iamStatements(c blueprint.Cluster, who, tenant string) ([]iampolicy.Statement, error) {
	switch {
	case who == forAdmin:
		return keypolicy.Administrators(nil, c.Key.MultiRegion), nil
	case who == forCreator:
		return c.CreatorStatements(), nil
	case c.Plugin == nil:
		return nil, hint.Usage("the configuration has plugin.enabled: false", "there is no plugin to make a policy for")
	case tenant == "":
		return c.PluginStatements(), nil
	}
	names := tenantNames(c)
	if i := slices.Index(names, tenant); i >= 0 {
		return c.TenantRole(c.Plugin.Tenants[i]).Policy, nil
	}
	return nil, hint.Usage(fmt.Sprintf("--tenant is %q, and plugin.tenants of the configuration has %q", tenant, names), "add it there and deploy")
}
