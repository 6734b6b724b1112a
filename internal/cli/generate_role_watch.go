package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/place"
)

func newGenerateRoleWatch() *cobra.Command {
	var at placeFlags
	var roles []string
	cmd := &cobra.Command{
		Use:   "role-watch",
		Short: "Print a CloudFormation template with alarms on the roles that may use the key or the cluster",
		Long: "Print a CloudFormation template, in JSON, of a second stack: alarms on the trust policies, the\n" +
			"policies, the tags and the deletion of the roles that may use or administer the key, use the\n" +
			"cluster or read its record. IAM is global, and its events are in one Region of a partition, in\n" +
			"aws us-east-1: the stack belongs there, wherever the cluster is.\n" +
			"\n" +
			"Watched are the roles that ekskms.yaml names, and those whose names begin like the cluster's\n" +
			"stack; others with --role, such as those of Terraform. IAM users are not. The alarms go to a\n" +
			"topic of their own, which has no customer key and mails to audit.emails.",
		Example: "  ekskms generate role-watch --file ekskms.yaml --account 111122223333 --region eu-central-1 > role-watch.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := at.cluster(cmd)
			if err != nil {
				return err
			}
			if err := roleNames(roles); err != nil {
				return err
			}
			for _, role := range roles {
				if strings.Contains(role, "/") {
					return hint.Usage(fmt.Sprintf("--role is %q, must be the name alone: the events of IAM do not have the path", role), role[strings.LastIndex(role, "/")+1:])
				}
			}
			partition := c.At.Partition.Text()
			region := place.GlobalRegion(partition)
			if region == "" {
				return hint.Usage(fmt.Sprintf("it is not known here which Region of the partition %s has the events of IAM", partition), "")
			}
			if err := nameCreators(cmd, &c); err != nil {
				return err
			}
			if len(c.Audit.Emails) == 0 {
				warn(cmd, "nobody is told: audit.emails is empty", "subscribe to the topic "+c.RolesTopic().Name+" in "+region)
			}
			notice(cmd, "the stack belongs to "+region+", which has the events of IAM",
				fmt.Sprintf("aws cloudformation deploy --region %s --stack-name %s --template-file FILE", region, place.RolesStack(c.Name)))
			return printJSON(cmd.OutOrStdout(), roleWatch(c, region, roles))
		},
	}
	flags := cmd.Flags()
	at.register(cmd)
	flags.StringSliceVar(&roles, "role", nil, "`name` of another role to watch: * at its end stands for any text; can be repeated")
	return cmd
}

// roleWatch is the template. Its logical IDs are those of the alarms.
func roleWatch(c blueprint.Cluster, region string, others []string) map[string]any {
	topic := c.RolesTopic()
	ref := map[string]any{"Ref": "Topic"}
	var statements []any
	for _, s := range keypolicy.AlarmTopic(topic.Name) {
		statement := s.Map()
		statement["Resource"] = ref
		statements = append(statements, statement)
	}
	resources := map[string]any{
		"Topic": map[string]any{
			"Type":       "AWS::SNS::Topic",
			"Properties": map[string]any{"TopicName": topic.Name, "DisplayName": topic.Display},
		},
		"TopicPolicy": map[string]any{
			"Type": "AWS::SNS::TopicPolicy",
			"Properties": map[string]any{
				"Topics": []any{ref}, "PolicyDocument": map[string]any{"Version": iampolicy.Version, "Statement": statements},
			},
		},
	}
	for i, address := range c.Audit.Emails {
		resources[fmt.Sprintf("Email%d", i+1)] = map[string]any{
			"Type":       "AWS::SNS::Subscription",
			"Properties": map[string]any{"TopicArn": ref, "Protocol": "email", "Endpoint": address},
		}
	}
	for _, rule := range c.RoleAlarms(others) {
		resources[rule.ID] = map[string]any{
			"Type":      "AWS::Events::Rule",
			"DependsOn": "TopicPolicy",
			"Properties": map[string]any{
				"Name": rule.Name, "Description": rule.Description, "State": "ENABLED", "EventPattern": rule.Pattern,
				"Targets": []any{map[string]any{
					"Id": "Topic", "Arn": ref,
					"InputTransformer": map[string]any{"InputPathsMap": blueprint.RoleAlarmPaths(), "InputTemplate": rule.Template},
				}},
			},
		}
	}
	return map[string]any{
		"AWSTemplateFormatVersion": "2010-09-09",
		"Description":              fmt.Sprintf("Alarms on the roles of EKS cluster %s. For %s, which has the events of IAM.", c.Name, region),
		"Resources":                resources,
		"Outputs":                  map[string]any{"TopicArn": map[string]any{"Description": "ARN of the topic that receives the alarms on roles", "Value": ref}},
	}
}
