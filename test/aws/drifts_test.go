//go:build aws

package aws

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	ct "github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	ekstypes "github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eb "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/ekskms/ekskms/internal/adopt"
	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/live"
)

// world is a fake as its users have it: with the clients of the SDK.
type world struct {
	t      *testing.T
	ctx    context.Context
	kms    *kms.Client
	trail  *cloudtrail.Client
	events *eventbridge.Client
	sns    *sns.Client
	logs   *cloudwatchlogs.Client
	eks    *eks.Client
	iam    *iam.Client
	s3     *s3.Client
	// key is that of the secrets, by its ID, other one that is none; bucket, topic and rule are
	// names.
	key, other, trailName, bucket, topic, rule, clusterRole string
}

func connect(t *testing.T, address string, state *cfn.Assembly) *world {
	t.Helper()
	t.Setenv("AWS_ENDPOINT_URL", address)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_REGION", region)
	c, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, ctx: t.Context(), kms: kms.NewFromConfig(c), trail: cloudtrail.NewFromConfig(c), events: eventbridge.NewFromConfig(c), sns: sns.NewFromConfig(c),
		logs: cloudwatchlogs.NewFromConfig(c), eks: eks.NewFromConfig(c), iam: iam.NewFromConfig(c), s3: s3.NewFromConfig(c, func(o *s3.Options) { o.UsePathStyle = true }),
	}
	arn := func(address string) string {
		for _, template := range state.Templates {
			for _, r := range template.Resources {
				if arn, _ := r.Metadata[cfn.ARNMetadata].(string); r.Path == address && arn != "" {
					return arn
				}
			}
		}
		t.Fatalf("%s has no ARN", address)
		return ""
	}
	last := func(arn string) string { return arn[strings.LastIndexAny(arn, "/:")+1:] }
	w.key, w.other = last(arn("aws_kms_key.secrets")), last(arn("aws_kms_key.logs"))
	w.trailName, w.bucket, w.topic = last(arn("aws_cloudtrail.this")), last(arn("aws_s3_bucket.trail")), arn("aws_sns_topic.alarms")
	w.rule, w.clusterRole = last(arn(`aws_cloudwatch_event_rule.alarm["KeyDisabled"]`)), last(arn("aws_iam_role.cluster"))
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// grant is that which EKS makes, and neither of the fakes.
func (w *world) grant() string {
	out, err := w.kms.CreateGrant(w.ctx, &kms.CreateGrantInput{
		KeyId: &w.key, Name: aws.String("eks-grant-ekskms"), GranteePrincipal: aws.String("eks." + region + ".amazonaws.com"),
		Operations: []kmstypes.GrantOperation{kmstypes.GrantOperationDecrypt, kmstypes.GrantOperationEncrypt},
	})
	w.must(err)
	return *out.GrantId
}

func (w *world) subscribe() string {
	out, err := w.sns.Subscribe(w.ctx, &sns.SubscribeInput{TopicArn: &w.topic, Protocol: aws.String("email"), Endpoint: aws.String("somebody@example.com"), ReturnSubscriptionArn: true})
	w.must(err)
	return *out.SubscriptionArn
}

// drift is something that somebody does, and how it is undone.
type drift struct {
	name string
	// finds is the rule by which verify finds it.
	finds string
	do    func(*world) (undo func())
	// not are the fakes that can't do it, with the reason.
	not map[string]string
}

// policy changes the policy of the secrets key, and returns how to put it back.
func (w *world) policy(change func(map[string]any)) func() {
	before, err := w.kms.GetKeyPolicy(w.ctx, &kms.GetKeyPolicyInput{KeyId: &w.key, PolicyName: aws.String("default")})
	w.must(err)
	put := func(text string) {
		_, err := w.kms.PutKeyPolicy(w.ctx, &kms.PutKeyPolicyInput{KeyId: &w.key, PolicyName: aws.String("default"), Policy: &text})
		w.must(err)
	}
	var document map[string]any
	w.must(json.Unmarshal([]byte(*before.Policy), &document))
	change(document)
	text, err := json.Marshal(document)
	w.must(err)
	put(string(text))
	return func() { put(*before.Policy) }
}

func (w *world) selectors(selector ct.EventSelector) func() {
	put := func(s ct.EventSelector) {
		_, err := w.trail.PutEventSelectors(w.ctx, &cloudtrail.PutEventSelectorsInput{TrailName: &w.trailName, EventSelectors: []ct.EventSelector{s}})
		w.must(err)
	}
	put(selector)
	return func() {
		put(ct.EventSelector{ReadWriteType: ct.ReadWriteTypeAll, IncludeManagementEvents: aws.Bool(true)})
	}
}

var drifts = []drift{
	{"rotation is off", "rotation-weakened", func(w *world) func() {
		_, err := w.kms.DisableKeyRotation(w.ctx, &kms.DisableKeyRotationInput{KeyId: &w.key})
		w.must(err)
		return func() {
			_, err := w.kms.EnableKeyRotation(w.ctx, &kms.EnableKeyRotationInput{KeyId: &w.key, RotationPeriodInDays: aws.Int32(90)})
			w.must(err)
		}
	}, nil},
	{"anybody may decrypt", "policy-widened", func(w *world) func() {
		return w.policy(func(p map[string]any) {
			p["Statement"] = append(p["Statement"].([]any), map[string]any{"Effect": "Allow", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"})
		})
	}, nil},
	{"the policy lacks statements", "principal-dropped", func(w *world) func() {
		return w.policy(func(p map[string]any) { p["Statement"] = p["Statement"].([]any)[:1] })
	}, nil},
	{"the key is disabled", "key-replaced", func(w *world) func() {
		_, err := w.kms.DisableKey(w.ctx, &kms.DisableKeyInput{KeyId: &w.key})
		w.must(err)
		return func() {
			_, err := w.kms.EnableKey(w.ctx, &kms.EnableKeyInput{KeyId: &w.key})
			w.must(err)
		}
	}, nil},
	{"the key is to be deleted", "key-pending-deletion", func(w *world) func() {
		_, err := w.kms.ScheduleKeyDeletion(w.ctx, &kms.ScheduleKeyDeletionInput{KeyId: &w.key, PendingWindowInDays: aws.Int32(30)})
		w.must(err)
		return func() {
			_, err := w.kms.CancelKeyDeletion(w.ctx, &kms.CancelKeyDeletionInput{KeyId: &w.key})
			w.must(err)
			_, err = w.kms.EnableKey(w.ctx, &kms.EnableKeyInput{KeyId: &w.key})
			w.must(err)
		}
	}, nil},
	{"an alias leads elsewhere", "alias-moved", func(w *world) func() {
		to := func(key string) {
			_, err := w.kms.UpdateAlias(w.ctx, &kms.UpdateAliasInput{AliasName: aws.String("alias/eks/ekskms"), TargetKeyId: &key})
			w.must(err)
		}
		to(w.other)
		return func() { to(w.key) }
	}, nil},
	{"somebody has a grant", "grant-unexpected", func(w *world) func() {
		out, err := w.kms.CreateGrant(w.ctx, &kms.CreateGrantInput{KeyId: &w.key, GranteePrincipal: aws.String("arn:aws:iam::999988887777:role/Stranger"), Operations: []kmstypes.GrantOperation{kmstypes.GrantOperationDecrypt}})
		w.must(err)
		return func() {
			_, err := w.kms.RevokeGrant(w.ctx, &kms.RevokeGrantInput{KeyId: &w.key, GrantId: out.GrantId})
			w.must(err)
		}
	}, map[string]string{"ministack": "it has no ListGrants"}},
	{"the trail is stopped", "trail-weakened", func(w *world) func() {
		_, err := w.trail.StopLogging(w.ctx, &cloudtrail.StopLoggingInput{Name: &w.trailName})
		w.must(err)
		return func() {
			_, err := w.trail.StartLogging(w.ctx, &cloudtrail.StartLoggingInput{Name: &w.trailName})
			w.must(err)
		}
	}, nil},
	{"a selector leaves out KMS", "trail-excludes-kms", func(w *world) func() {
		return w.selectors(ct.EventSelector{ReadWriteType: ct.ReadWriteTypeAll, IncludeManagementEvents: aws.Bool(true), ExcludeManagementEventSources: []string{"kms.amazonaws.com"}})
	}, nil},
	{"a selector takes writes alone", "trail-excludes-kms", func(w *world) func() {
		return w.selectors(ct.EventSelector{ReadWriteType: ct.ReadWriteTypeWriteOnly, IncludeManagementEvents: aws.Bool(true)})
	}, nil},
	{"a rule is off", "alarm-removed", func(w *world) func() {
		_, err := w.events.DisableRule(w.ctx, &eventbridge.DisableRuleInput{Name: &w.rule})
		w.must(err)
		return func() {
			_, err := w.events.EnableRule(w.ctx, &eventbridge.EnableRuleInput{Name: &w.rule})
			w.must(err)
		}
	}, nil},
	{"a target is removed", "alarm-removed", func(w *world) func() {
		targets, err := w.events.ListTargetsByRule(w.ctx, &eventbridge.ListTargetsByRuleInput{Rule: &w.rule})
		w.must(err)
		var ids []string
		for _, t := range targets.Targets {
			ids = append(ids, *t.Id)
		}
		_, err = w.events.RemoveTargets(w.ctx, &eventbridge.RemoveTargetsInput{Rule: &w.rule, Ids: ids})
		w.must(err)
		return func() {
			_, err := w.events.PutTargets(w.ctx, &eventbridge.PutTargetsInput{Rule: &w.rule, Targets: targets.Targets})
			w.must(err)
		}
	}, nil},
	{"a rule hears of another key", "tamper-alarm-missing", func(w *world) func() {
		rule, err := w.events.DescribeRule(w.ctx, &eventbridge.DescribeRuleInput{Name: &w.rule})
		w.must(err)
		put := func(pattern string) {
			_, err := w.events.PutRule(w.ctx, &eventbridge.PutRuleInput{Name: &w.rule, EventPattern: &pattern, State: eb.RuleStateEnabled, Description: rule.Description})
			w.must(err)
		}
		put(strings.ReplaceAll(*rule.EventPattern, w.key, w.other))
		return func() { put(*rule.EventPattern) }
	}, nil},
	{"the topic's policy is gone", "alarm-undeliverable", func(w *world) func() {
		before, err := w.sns.GetTopicAttributes(w.ctx, &sns.GetTopicAttributesInput{TopicArn: &w.topic})
		w.must(err)
		put := func(policy string) {
			_, err := w.sns.SetTopicAttributes(w.ctx, &sns.SetTopicAttributesInput{TopicArn: &w.topic, AttributeName: aws.String("Policy"), AttributeValue: &policy})
			w.must(err)
		}
		put(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"sns:Publish","Resource":"*"}]}`)
		return func() { put(before.Attributes["Policy"]) }
	}, nil},
	{"the bucket's policy refuses CloudTrail", "trail-undeliverable", func(w *world) func() {
		before, err := w.s3.GetBucketPolicy(w.ctx, &s3.GetBucketPolicyInput{Bucket: &w.bucket})
		w.must(err)
		put := func(policy string) {
			_, err := w.s3.PutBucketPolicy(w.ctx, &s3.PutBucketPolicyInput{Bucket: &w.bucket, Policy: &policy})
			w.must(err)
		}
		put(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::` + w.bucket + `/*"}]}`)
		return func() { put(*before.Policy) }
	}, nil},
	{"versioning of the bucket is off", "retention-weakened", func(w *world) func() {
		put := func(status s3types.BucketVersioningStatus) {
			_, err := w.s3.PutBucketVersioning(w.ctx, &s3.PutBucketVersioningInput{Bucket: &w.bucket, VersioningConfiguration: &s3types.VersioningConfiguration{Status: status}})
			w.must(err)
		}
		put(s3types.BucketVersioningStatusSuspended)
		return func() { put(s3types.BucketVersioningStatusEnabled) }
	}, nil},
	{"a log group forgets sooner", "retention-weakened", func(w *world) func() {
		put := func(days int32) {
			_, err := w.logs.PutRetentionPolicy(w.ctx, &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: aws.String("/aws/eks/ekskms/cluster"), RetentionInDays: &days})
			w.must(err)
		}
		before, err := w.logs.DescribeLogGroups(w.ctx, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: aws.String("/aws/eks/ekskms/cluster")})
		w.must(err)
		put(1)
		return func() { put(*before.LogGroups[0].RetentionInDays) }
	}, nil},
	{"a role trusts somebody else", "policy-widened", func(w *world) func() {
		role, err := w.iam.GetRole(w.ctx, &iam.GetRoleInput{RoleName: &w.clusterRole})
		w.must(err)
		put := func(policy string) {
			_, err := w.iam.UpdateAssumeRolePolicy(w.ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: &w.clusterRole, PolicyDocument: &policy})
			w.must(err)
		}
		put(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::999988887777:root"},"Action":"sts:AssumeRole"}]}`)
		before := *role.Role.AssumeRolePolicyDocument
		return func() { put(unescaped(before)) }
	}, nil},
	{"the audit log is off", "control-plane-log-weakened", func(w *world) func() {
		put := func(on bool) {
			_, err := w.eks.UpdateClusterConfig(w.ctx, &eks.UpdateClusterConfigInput{Name: aws.String("ekskms"), Logging: &ekstypes.Logging{ClusterLogging: []ekstypes.LogSetup{{Types: []ekstypes.LogType{ekstypes.LogTypeAudit}, Enabled: &on}}}})
			w.must(err)
		}
		put(false)
		return func() { put(true) }
	}, map[string]string{"moto": "it has no UpdateClusterConfig", "ministack": "it has no UpdateClusterConfig"}},
	{"an access entry was made", "access-widened", func(w *world) func() {
		who := aws.String("arn:aws:iam::000000000000:role/Somebody")
		_, err := w.eks.CreateAccessEntry(w.ctx, &eks.CreateAccessEntryInput{ClusterName: aws.String("ekskms"), PrincipalArn: who, KubernetesGroups: []string{"admins"}})
		w.must(err)
		return func() {
			_, err := w.eks.DeleteAccessEntry(w.ctx, &eks.DeleteAccessEntryInput{ClusterName: aws.String("ekskms"), PrincipalArn: who})
			w.must(err)
		}
	}, map[string]string{"moto": "it has no access entries"}},
}

// underAnotherKey makes the cluster again under another key, which no call of EKS does.
func (w *world) underAnotherKey() { w.again(true) }

// again makes the cluster again, under another key or none.
func (w *world) again(encrypted bool) {
	name := aws.String("ekskms")
	before, err := w.eks.DescribeCluster(w.ctx, &eks.DescribeClusterInput{Name: name})
	w.must(err)
	_, err = w.eks.DeleteCluster(w.ctx, &eks.DeleteClusterInput{Name: name})
	w.must(err)
	in := &eks.CreateClusterInput{
		Name: name, RoleArn: before.Cluster.RoleArn, Version: before.Cluster.Version, ResourcesVpcConfig: &ekstypes.VpcConfigRequest{SubnetIds: before.Cluster.ResourcesVpcConfig.SubnetIds},
	}
	if encrypted {
		arn := strings.ReplaceAll(*before.Cluster.EncryptionConfig[0].Provider.KeyArn, w.key, w.other)
		in.EncryptionConfig = []ekstypes.EncryptionConfig{{Resources: []string{"secrets"}, Provider: &ekstypes.Provider{KeyArn: &arn}}}
	}
	_, err = w.eks.CreateCluster(w.ctx, in)
	w.must(err)
}

// adopt brings the cluster, made again without a key, under that of the secrets.
func (w *world) adopt(account string) {
	w.again(false)
	aws, err := live.New(w.ctx, "")
	w.must(err)
	target := adopt.Target{Region: region, Cluster: "ekskms", Key: "arn:aws:kms:" + region + ":" + account + ":key/" + w.key}
	looked, err := adopt.Look(w.ctx, aws, target)
	w.must(err)
	if looked.Key != "" {
		w.t.Fatalf("before, the cluster is under %s", looked.Key)
	}
	// ministack has no DescribeUpdate: that is all that may be in the way.
	if err := adopt.Apply(w.ctx, aws, target, func(live.Update) {}, func(context.Context) error { return nil }); err != nil && !strings.Contains(err.Error(), "eks:DescribeUpdate") {
		w.t.Fatal(err)
	}
	if looked, err = adopt.Look(w.ctx, aws, target); err != nil || looked.Key != target.Key {
		w.t.Errorf("afterwards, the cluster is under %q: %v", looked.Key, err)
	}
}
