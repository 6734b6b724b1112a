package livetest_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	cfns "github.com/aws/aws-sdk-go-v2/service/cloudformation/schemas"
	cws "github.com/aws/aws-sdk-go-v2/service/cloudwatch/schemas"
	logs "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/schemas"
	events "github.com/aws/aws-sdk-go-v2/service/eventbridge/schemas"
	iams "github.com/aws/aws-sdk-go-v2/service/iam/schemas"
	kmss "github.com/aws/aws-sdk-go-v2/service/kms/schemas"
	snss "github.com/aws/aws-sdk-go-v2/service/sns/schemas"
	sqss "github.com/aws/aws-sdk-go-v2/service/sqs/schemas"
	stss "github.com/aws/aws-sdk-go-v2/service/sts/schemas"
	"github.com/aws/smithy-go"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/live/livetest"
	"github.com/ekskms/ekskms/internal/verify"
)

// answers are the schemas of AWS for what the fake answers. EKS, CloudTrail and S3 have none in
// the SDK.
var answers = map[string]*smithy.Schema{
	"sts:GetCallerIdentity": stss.GetCallerIdentityResponse,
	"kms:DescribeKey":       kmss.DescribeKeyResponse, "kms:GetKeyRotationStatus": kmss.GetKeyRotationStatusResponse, "kms:GetKeyPolicy": kmss.GetKeyPolicyResponse,
	"kms:ListGrants": kmss.ListGrantsResponse, "kms:ListAliases": kmss.ListAliasesResponse,
	"events:ListRules": events.ListRulesResponse, "events:ListTargetsByRule": events.ListTargetsByRuleResponse,
	"sns:GetTopicAttributes": snss.GetTopicAttributesResponse, "sns:ListSubscriptionsByTopic": snss.ListSubscriptionsByTopicResponse, "sns:GetSubscriptionAttributes": snss.GetSubscriptionAttributesResponse,
	"sqs:GetQueueUrl": sqss.GetQueueUrlResult, "sqs:GetQueueAttributes": sqss.GetQueueAttributesResult,
	"logs:DescribeLogGroups": logs.DescribeLogGroupsResponse, "logs:DescribeMetricFilters": logs.DescribeMetricFiltersResponse,
	"monitoring:DescribeAlarms":          cws.DescribeAlarmsOutput,
	"iam:GetAccountAuthorizationDetails": iams.GetAccountAuthorizationDetailsResponse,
	"cloudformation:DescribeStacks":      cfns.DescribeStacksOutput, "cloudformation:ListStackResources": cfns.ListStackResourcesOutput, "cloudformation:DescribeStackResourceDrifts": cfns.DescribeStackResourceDriftsOutput,
}

// faults are those of an answer, by AWS's schema.
func faults(s *smithy.Schema, v any, at string) (all []string) {
	of := reflect.ValueOf(v)
	wrong := func(want string) []string { return []string{fmt.Sprintf("%s is %T, must be %s", at, v, want)} }
	switch s.Type() {
	case smithy.ShapeTypeStructure:
		if of.Kind() != reflect.Map {
			return wrong("an object")
		}
		for _, key := range of.MapKeys() {
			member, value := s.Member(key.String()), of.MapIndex(key).Interface()
			switch {
			case member == nil:
				all = append(all, at+"."+key.String()+" is no member of "+s.TargetID().String())
			case value != nil:
				all = append(all, faults(member, value, at+"."+key.String())...)
			}
		}
	case smithy.ShapeTypeList:
		if of.Kind() != reflect.Slice {
			return wrong("a list")
		}
		for i := range of.Len() {
			all = append(all, faults(s.ListMember(), of.Index(i).Interface(), fmt.Sprintf("%s[%d]", at, i))...)
		}
	case smithy.ShapeTypeMap:
		if of.Kind() != reflect.Map {
			return wrong("a map")
		}
		for _, key := range of.MapKeys() {
			all = append(all, faults(s.MapValue(), of.MapIndex(key).Interface(), at+"."+key.String())...)
		}
	case smithy.ShapeTypeString, smithy.ShapeTypeEnum, smithy.ShapeTypeBlob:
		if of.Kind() != reflect.String {
			return wrong("a text")
		}
	case smithy.ShapeTypeBoolean:
		if of.Kind() != reflect.Bool {
			return wrong("true or false")
		}
	case smithy.ShapeTypeTimestamp:
		if !of.CanFloat() && !of.CanInt() && of.Kind() != reflect.String {
			return wrong("a time")
		}
	default:
		if !of.CanFloat() && !of.CanInt() {
			return wrong("a number")
		}
	}
	return all
}

// TestAnswers holds what the fake answers to AWS's own schemas, which the SDK carries: an SDK
// leaves out in silence what it does not know.
func TestAnswers(t *testing.T) {
	a, err := cfn.Load("../../../test/snapshot/testdata/08_node_groups.golden.json", cfn.Environment{Account: "111122223333", Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	fake := &livetest.AWS{Account: "111122223333"}
	fake.Deploy(a)
	fake.Stacks[0].Drift, fake.Stacks[0].Drifted = "DRIFTED", map[string][]string{"SecretsKeyE4821A66": {"/Enabled"}}
	judged := map[string]bool{}
	fake.Judge = func(service, operation string, answer any) {
		name := service + ":" + operation
		schema := answers[name]
		if schema == nil {
			if !slices.Contains([]string{"eks", "cloudtrail", "s3"}, service) {
				t.Errorf("%s is judged by no schema", name)
			}
			return
		}
		judged[name] = true
		for _, fault := range faults(schema, answer, operation) {
			t.Error(fault)
		}
	}
	server := fake.Start()
	defer server.Close()
	for _, v := range livetest.Environment(server.URL) {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	aws, err := live.New(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify.Run(t.Context(), aws, verify.Options{Wanted: a, Stacks: true}); err != nil {
		t.Fatal(err)
	}
	for name := range answers {
		if !judged[name] && name != "sns:GetSubscriptionAttributes" {
			t.Errorf("%s was not answered", name)
		}
	}
	// The judge sees faults.
	for want, answer := range map[string]any{
		"KeyMetadata.Keyid is no member":           map[string]any{"KeyMetadata": map[string]any{"Keyid": "x"}},
		"KeyMetadata.Enabled is string":            map[string]any{"KeyMetadata": map[string]any{"Enabled": "true"}},
		"KeyMetadata is []interface {}":            map[string]any{"KeyMetadata": []any{}},
		"KeyMetadata.EncryptionAlgorithms is bool": map[string]any{"KeyMetadata": map[string]any{"EncryptionAlgorithms": true}},
	} {
		if found := strings.Join(faults(kmss.DescribeKeyResponse, answer, "DescribeKey"), "\n"); !strings.Contains(found, want) {
			t.Errorf("of %v it says %q", answer, found)
		}
	}
}
