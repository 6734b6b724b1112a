package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/place"
)

// principalPattern is the ARN of a role or a user, with * and ? in what comes after the
// account. bucketName is what S3 takes, and * and ? for a part that is not known.
var (
	principalPattern = regexp.MustCompile(`^arn:aws[a-z-]*:iam::(\d{12}|\*):(role|user)/[\w+=,.@/*?-]+$`)
	bucketName       = regexp.MustCompile(`^[a-z0-9*?][a-z0-9.*?-]{1,61}[a-z0-9*?]$`)
)

func newGenerateOrganizationPolicy() *cobra.Command {
	var at placeFlags
	var except, roles []string
	var bucket, statement string
	cmd := &cobra.Command{
		Use:   "organization-policy",
		Short: "Print a service control policy that protects key, record, alarms and access of the cluster",
		Long: "Print a service control policy (SCP) for the organizational unit or the account of the cluster.\n" +
			"It refuses to everybody but the creators and those that --except names, the root user included,\n" +
			"what takes the protection away: the policy, the deletion, the rotation and the grants of the\n" +
			"keys, their aliases, the trail and its log groups, the alarms and their topics, the cluster's\n" +
			"access entries, add-ons and associations, the functions that apply Kubernetes objects and\n" +
			"their invocation, and the roles of the stack.\n" +
			"\n" +
			"Name a role for emergencies with --except. For a creator that is CDK's execution role, CDK's\n" +
			"deployment role is excepted too, since it passes the other to CloudFormation. Who may assume\n" +
			"an excepted role decides what the policy is worth: their trust policies are yours to look at.\n" +
			"\n" +
			"An SCP does not hold in the management account of the organization, nor for roles that AWS\n" +
			"links to its services. It was tried with an IAM simulator, and on no organization.",
		Example: "  ekskms generate organization-policy --file ekskms.yaml --account 111122223333 --region eu-central-1 --except arn:aws:iam::111122223333:role/break-glass",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := at.cluster(cmd)
			if err == nil {
				err = at.alone(cmd)
			}
			if err != nil {
				return err
			}
			for _, e := range except {
				if !principalPattern.MatchString(e) {
					return hint.Usage(fmt.Sprintf("--except is %q, which is not the ARN of a role or a user", e), "arn:aws:iam::<account>:role/<name>, where * and ? may stand for any text")
				}
			}
			if bucket != "" && !bucketName.MatchString(bucket) {
				return hint.Usage(fmt.Sprintf("--bucket is %q, which is not the name of a bucket", bucket), "the name alone, without s3:// or an ARN")
			}
			if err := roleNames(roles); err != nil {
				return err
			}
			if err := nameCreators(cmd, &c); err != nil {
				return err
			}
			return organizationPolicy(cmd, c, except, roles, bucket, statement)
		},
	}
	flags := cmd.Flags()
	at.register(cmd)
	flags.StringSliceVar(&except, "except", nil, "`ARN` of a role or user that may do it all beside the creators; can be repeated")
	flags.StringSliceVar(&roles, "role", nil, "`name` of a role that is protected beside those of the stack, such as those of Terraform: * at its end stands for any text; can be repeated")
	flags.StringVar(&statement, "statement", "", "`name` of the only statement to print, where all of them are too long for one policy: Keys, Changes or Invocations")
	flags.StringVar(&bucket, "bucket", "", "`name` of the trail's bucket, which is protected too: * may stand for a part of it")
	return cmd
}

// roleName is the name of a role, perhaps with its path, and a * at its end.
var roleName = regexp.MustCompile(`^[\w+=,.@/-]+\*?$`)

func roleNames(roles []string) error {
	for _, role := range roles {
		if !roleName.MatchString(role) {
			return hint.Usage(fmt.Sprintf("--role is %q, which is not the name of a role", role), "the name alone, not the ARN; * may stand at its end")
		}
	}
	return nil
}

func organizationPolicy(cmd *cobra.Command, c blueprint.Cluster, except, roles []string, bucket, statement string) error {
	var all []string
	for _, role := range append(slices.Clone(c.Creators), except...) {
		role = c.At.Role(role)
		if patterns := place.RolePatterns(role); patterns != nil {
			all = append(all, patterns...)
			continue
		}
		if strings.Contains(role, ":role/cdk-") && strings.Contains(role, "-cfn-exec-role-") {
			all = append(all, strings.Replace(role, "-cfn-exec-role-", "-deploy-role-", 1))
		}
		all = append(all, role)
	}
	if name := c.CDK.DeployRole; name != "" {
		all = append(all, c.CDK.Role(c.At, name))
	}
	slices.Sort(all)
	all = slices.Compact(all)
	policy := c.OrganizationPolicy(all, roles, bucket)
	var sids []string
	for _, s := range policy.Statement {
		sids = append(sids, s.Sid)
	}
	if statement != "" {
		i := slices.Index(sids, statement)
		if i < 0 {
			return hint.Usage(fmt.Sprintf("--statement is %q, must be one of %q", statement, sids), "")
		}
		policy.Statement = policy.Statement[i : i+1]
	}
	text := &bytes.Buffer{}
	encoder := json.NewEncoder(text) // Organizations counts white space too
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(policy); err != nil {
		return err
	}
	if size := text.Len() - 1; size > blueprint.MaxOrganizationPolicy {
		return &hint.Error{
			What: fmt.Sprintf("the policy has %d characters, and AWS Organizations takes %d: there are %d exceptions", size, blueprint.MaxOrganizationPolicy, len(all)),
			Hint: fmt.Sprintf("print each of %q as a policy of its own with --statement, or name several roles by one pattern with *", sids),
		}
	}
	if len(except) == 0 {
		warn(cmd, fmt.Sprintf("only %s are excepted: if they are lost, nobody in the account can change the key's policy", strings.Join(all, ", ")), "name a role for emergencies with --except")
	}
	if c.NewTrail() && bucket == "" {
		warn(cmd, "the bucket of the trail is not protected: its name is known once it is deployed", "give it with --bucket: 'aws cloudtrail get-trail' says it")
	}
	warn(cmd, "everybody else loses these calls: access entries, add-ons, subscriptions to the alarms, roles whose names begin like the stack's, and every deployment by another role", "")
	_, err := cmd.OutOrStdout().Write(text.Bytes())
	return err
}
