package live

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eb "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ekskms/ekskms/internal/place"
)

// rules reads the rules of the default event bus, and returns where they send events.
func (r *reading) rules() (targets []string) {
	client := eventbridge.NewFromConfig(r.cfg)
	var all []eb.Rule
	r.ask("events:ListRules", "the default event bus", func() error {
		in := &eventbridge.ListRulesInput{}
		for {
			page, err := client.ListRules(r.ctx, in)
			if err != nil {
				return err
			}
			all = append(all, page.Rules...)
			if in.NextToken = page.NextToken; in.NextToken == nil {
				return nil
			}
		}
	})
	for _, rule := range all {
		if rule.EventPattern == nil || aws.ToString(rule.ManagedBy) != "" {
			continue
		}
		one := &Resource{Type: "AWS::Events::Rule", ID: aws.ToString(rule.Name), ARN: aws.ToString(rule.Arn), Properties: settings(map[string]any{
			"Name": rule.Name, "State": string(rule.State), "EventPattern": document(rule.EventPattern),
		})}
		r.set(one, "events:ListTargetsByRule", "rule "+one.ID, []string{"Targets"}, func() error {
			var to []any
			in := &eventbridge.ListTargetsByRuleInput{Rule: rule.Name}
			for {
				page, err := client.ListTargetsByRule(r.ctx, in)
				if err != nil {
					return err
				}
				for _, t := range page.Targets {
					targets = append(targets, aws.ToString(t.Arn))
					target := map[string]any{"Id": t.Id, "Arn": t.Arn, "RoleArn": t.RoleArn, "Input": t.Input, "InputPath": t.InputPath}
					if i := t.InputTransformer; i != nil {
						target["InputTransformer"] = object(map[string]any{"InputPathsMap": textMap(i.InputPathsMap), "InputTemplate": i.InputTemplate})
					}
					if p := t.RetryPolicy; p != nil {
						target["RetryPolicy"] = object(map[string]any{"MaximumEventAgeInSeconds": p.MaximumEventAgeInSeconds, "MaximumRetryAttempts": p.MaximumRetryAttempts})
					}
					if t.DeadLetterConfig != nil && t.DeadLetterConfig.Arn != nil {
						target["DeadLetterConfig"] = map[string]any{"Arn": *t.DeadLetterConfig.Arn}
						targets = append(targets, *t.DeadLetterConfig.Arn)
					}
					to = append(to, object(target))
				}
				if in.NextToken = page.NextToken; in.NextToken == nil {
					break
				}
			}
			if to != nil {
				one.Properties["Targets"] = to
			}
			return nil
		})
		r.add(one)
	}
	return targets
}

// topic reads a topic with its policy and its subscriptions, and returns its key.
func (r *reading) topic(arn string) (key string) {
	if !r.first("AWS::SNS::Topic", arn) {
		return ""
	}
	at, _ := place.ParseARN(arn)
	cfg := r.in(at.Region)
	client := sns.NewFromConfig(cfg)
	on := "topic " + arn
	one := &Resource{Type: "AWS::SNS::Topic", ID: arn, ARN: arn, Region: cfg.Region, Properties: map[string]any{"TopicName": at.Resource}}
	policy := &Resource{Type: "AWS::SNS::TopicPolicy", Region: cfg.Region, ID: arn, Properties: map[string]any{"Topics": []any{arn}}}
	read := func(attributes map[string]string) {
		one.Properties["KmsMasterKeyId"] = plain(attributes["KmsMasterKeyId"])
		key = attributes["KmsMasterKeyId"]
		text := attributes["Policy"]
		policy.Properties["PolicyDocument"] = document(&text)
	}
	what, why := r.ask("sns:GetTopicAttributes", on, func() error {
		out, err := client.GetTopicAttributes(r.ctx, &sns.GetTopicAttributesInput{TopicArn: &arn})
		if err == nil {
			read(out.Attributes)
		}
		return err
	})
	switch what {
	case missing:
		return ""
	case unread:
		one.Properties["KmsMasterKeyId"], policy.Properties["PolicyDocument"] = *why, *why
	}
	r.add(one)
	r.add(policy)
	pages := sns.NewListSubscriptionsByTopicPaginator(client, &sns.ListSubscriptionsByTopicInput{TopicArn: &arn})
	r.pages("sns:ListSubscriptionsByTopic", on, pages.HasMorePages, func() error {
		page, err := pages.NextPage(r.ctx)
		if err != nil {
			return err
		}
		for _, s := range page.Subscriptions {
			id := aws.ToString(s.SubscriptionArn)
			sub := r.add(&Resource{Type: "AWS::SNS::Subscription", Region: cfg.Region, ID: id, Properties: settings(map[string]any{
				"TopicArn": arn, "Protocol": s.Protocol, "Endpoint": s.Endpoint,
			})})
			if sub.State.Pending = !strings.HasPrefix(id, "arn:"); sub.State.Pending {
				sub.ID = ""
				continue
			}
			sub.ARN = id
			r.set(sub, "sns:GetSubscriptionAttributes", "a subscription of "+on, []string{"FilterPolicy"}, func() error {
				out, err := client.GetSubscriptionAttributes(r.ctx, &sns.GetSubscriptionAttributesInput{SubscriptionArn: &id})
				if err == nil {
					text := out.Attributes["FilterPolicy"]
					sub.Properties["FilterPolicy"] = document(&text)
					sub.State.Pending = out.Attributes["PendingConfirmation"] == "true"
				}
				return err
			})
		}
		return nil
	})
	return key
}

// queue reads a queue, by its ARN or URL, and returns its key.
func (r *reading) queue(name string) (key string) {
	cfg := r.in("")
	queue := name[strings.LastIndexAny(name, ":/")+1:]
	in := &sqs.GetQueueUrlInput{QueueName: &queue}
	if arn, ok := place.ParseARN(name); ok {
		cfg = r.in(arn.Region)
		if arn.AccountID != r.at.ID {
			in.QueueOwnerAWSAccountId = &arn.AccountID
		}
	}
	if !r.first("AWS::SQS::Queue", cfg.Region+" "+queue) {
		return ""
	}
	client := sqs.NewFromConfig(cfg)
	var url *string
	if what, _ := r.ask("sqs:GetQueueUrl", "queue "+queue, func() error {
		out, err := client.GetQueueUrl(r.ctx, in)
		if err == nil {
			url = out.QueueUrl
		}
		return err
	}); what != answered || url == nil {
		return ""
	}
	r.ask("sqs:GetQueueAttributes", "queue "+queue, func() error {
		out, err := client.GetQueueAttributes(r.ctx, &sqs.GetQueueAttributesInput{QueueUrl: url, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll}})
		if err != nil {
			return err
		}
		key = out.Attributes["KmsMasterKeyId"]
		r.add(&Resource{Type: "AWS::SQS::Queue", Region: cfg.Region, ID: *url, ARN: out.Attributes["QueueArn"], Properties: settings(map[string]any{
			"QueueName": queue, "KmsMasterKeyId": key, "SqsManagedSseEnabled": out.Attributes["SqsManagedSseEnabled"] == "true",
		})})
		if text := out.Attributes["Policy"]; text != "" {
			r.add(&Resource{Type: "AWS::SQS::QueuePolicy", Region: cfg.Region, ID: *url, Properties: map[string]any{"Queues": []any{*url}, "PolicyDocument": document(&text)}})
		}
		return nil
	})
	return key
}

// filters reads the metric filters of log groups with their alarms, and returns the topics of
// these.
func (r *reading) filters(groups []string) (topics []string) {
	client := cloudwatchlogs.NewFromConfig(r.cfg)
	found := false
	for _, group := range groups {
		if !r.first("AWS::Logs::MetricFilter", group) {
			continue
		}
		pages := cloudwatchlogs.NewDescribeMetricFiltersPaginator(client, &cloudwatchlogs.DescribeMetricFiltersInput{LogGroupName: &group})
		r.pages("logs:DescribeMetricFilters", "log group "+group, pages.HasMorePages, func() error {
			page, err := pages.NextPage(r.ctx)
			if err != nil {
				return err
			}
			for _, f := range page.MetricFilters {
				var to []any
				for _, t := range f.MetricTransformations {
					to = append(to, object(map[string]any{"MetricName": t.MetricName, "MetricNamespace": t.MetricNamespace, "MetricValue": t.MetricValue}))
				}
				r.add(&Resource{Type: "AWS::Logs::MetricFilter", ID: aws.ToString(f.FilterName), Properties: settings(map[string]any{
					"LogGroupName": group, "FilterPattern": aws.ToString(f.FilterPattern), "MetricTransformations": to,
				})})
				found = true
			}
			return nil
		})
	}
	pages := cloudwatch.NewDescribeAlarmsPaginator(cloudwatch.NewFromConfig(r.cfg), &cloudwatch.DescribeAlarmsInput{})
	r.pages("cloudwatch:DescribeAlarms", "the alarms of "+r.at.Region, pages.HasMorePages, func() error {
		page, err := pages.NextPage(r.ctx)
		if err != nil {
			return err
		}
		for _, a := range page.MetricAlarms {
			r.add(&Resource{Type: "AWS::CloudWatch::Alarm", ID: aws.ToString(a.AlarmName), ARN: aws.ToString(a.AlarmArn), Properties: settings(map[string]any{
				"AlarmName": a.AlarmName, "MetricName": a.MetricName, "Namespace": a.Namespace, "ComparisonOperator": string(a.ComparisonOperator), "Threshold": a.Threshold,
				"Statistic": string(a.Statistic), "EvaluationPeriods": a.EvaluationPeriods, "Period": a.Period, "ActionsEnabled": a.ActionsEnabled, "AlarmActions": texts(a.AlarmActions),
			})})
			for _, to := range a.AlarmActions {
				if arn, _ := place.ParseARN(to); arn.Service == "sns" && found {
					topics = append(topics, to)
				}
			}
		}
		return nil
	})
	return topics
}
