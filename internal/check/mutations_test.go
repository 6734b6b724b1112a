package check_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/estate/estatetest"
)

// The resources of the golden templates that the mutations change.
const (
	cluster      = "EncryptedClusterA9297881"
	clusterRole  = "EncryptedClusterClusterRoleB274515C"
	nodeRole     = "EncryptedClusterClusternodePoolRole33EC5368"
	pluginRole   = "EncryptedClusterKmsPluginRoleC6DF9AF0"
	pluginIAM    = "EncryptedClusterKmsPluginRoleDefaultPolicy60C5EF40"
	secretsKey   = "SecretsKeyE4821A66"
	logsKey      = "EncryptedClusterLogsKeyAC9FB688"
	trailKey     = "AuditTrailKeyA4D56A7A"
	trail        = "AuditTrail49D399D8"
	trailBucket  = "AuditTrailLogsD47DB5AF"
	bucketPolicy = "AuditTrailLogsPolicyB59BDBF3"
	topic        = "AuditTrailAlarms62214698"
	topicPolicy  = "AuditTrailAlarmsPolicy9CBECA05"
	// The alarms.
	aliasChanged   = "AuditTrailAlarmAliasChangedED68609A"
	grantRemoved   = "AuditTrailAlarmGrantRemoved97CB553B"
	keyDeleted     = "AuditTrailAlarmKeyDeletionScheduled7B4081F1"
	keyDisabled    = "AuditTrailAlarmKeyDisabledBD270554"
	policyChanged  = "AuditTrailAlarmKeyPolicyChangedB219E021"
	rotationOff    = "AuditTrailAlarmRotationChanged6FE682B9"
	trailBlinded   = "AuditTrailAlarmTrailBlinded13D346ED"
	trailTampered  = "AuditTrailAlarmTrailTampered3C000A02"
	unexpected     = "AuditTrailAlarmUnexpectedGrantB6D6E507"
	auditKeyAlarm  = "AuditTrailAlarmAuditKeyTampered0716FDD1"
	readerManifest = "SecretsRbacshopsecretreaderdatabaseCE9836D5"

	// The goldens that are not the default one.
	existingKey = "02_existing_vpc_and_key"
	nodeGroup   = "03_node_group"
	tenants     = "04_tenants_and_secrets"
	nodeGroups  = "08_node_groups"
	isolated    = "09_isolated"

	volumesKey     = "EncryptedClusterVolumesKey2D8BC16E"
	launchTemplate = "EncryptedClusterNodesTemplategeneral1840A592"

	contextKey = "kms:EncryptionContext:ekskms:cluster-arn"
)

var (
	home     = map[string]any{"AWS": "arn:aws:iam::111122223333:root"}
	outsider = map[string]any{"AWS": "arn:aws:iam::111122223333:role/Other"}
	stranger = map[string]any{"AWS": "arn:aws:iam::444455556666:role/Partner"}
	creator  = map[string]any{"AWS": "arn:aws:iam::111122223333:role/cdk-hnb659fds-cfn-exec-role-111122223333-eu-central-1"}
)

type (
	template = estatetest.Template
	change   = estatetest.Change
)

var (
	set          = estatetest.Set
	all          = estatetest.All
	property     = estatetest.Property
	attribute    = estatetest.Attribute
	addResource  = estatetest.Add
	dropResource = estatetest.Drop
)

func statements(t template) []any {
	return t.Resource(secretsKey)["Properties"].(map[string]any)["KeyPolicy"].(map[string]any)["Statement"].([]any)
}

func setStatements(t template, s []any) {
	set(t.Resource(secretsKey), "Properties.KeyPolicy.Statement", s)
}

func statementOf(t template, sid string) map[string]any {
	for _, s := range statements(t) {
		if s := s.(map[string]any); s["Sid"] == sid {
			return s
		}
	}
	panic("no statement " + sid)
}

// statement changes the statement of the secrets key's policy with the Sid.
func statement(sid, path string, value any) change {
	return func(t template) { set(statementOf(t, sid), path, value) }
}

func dropStatement(sid string) change {
	return func(t template) {
		statementOf(t, sid)
		setStatements(t, slices.DeleteFunc(statements(t), func(s any) bool { return s.(map[string]any)["Sid"] == sid }))
	}
}

// allow and deny add a statement to the policy of the secrets key. A condition of
// nil is none.
func allow(principal, action any, condition map[string]any) change {
	return addStatement("Allow", "Principal", principal, action, condition)
}

func deny(principal, action any, condition map[string]any) change {
	return addStatement("Deny", "Principal", principal, action, condition)
}

func addStatement(effect, principalElement string, principal, action any, condition map[string]any) change {
	return func(t template) {
		s := map[string]any{"Sid": "Added", "Effect": effect, principalElement: principal, "Action": action, "Resource": "*"}
		if condition != nil {
			s["Condition"] = condition
		}
		setStatements(t, append(statements(t), s))
	}
}

// accountMayNot takes an action from the statement of the account.
func accountMayNot(action string) change {
	return func(t template) {
		s := statementOf(t, "AccountAdministration")
		left := slices.DeleteFunc(s["Action"].([]any), func(a any) bool { return a == action })
		s["Action"] = left
	}
}

// retype writes a statement's condition under another operator.
func retype(sid, key, from, to string) change {
	return func(t template) {
		condition := statementOf(t, sid)["Condition"].(map[string]any)
		value := condition[from].(map[string]any)[key]
		delete(condition[from].(map[string]any), key)
		if condition[to] == nil {
			condition[to] = map[string]any{}
		}
		condition[to].(map[string]any)[key] = value
	}
}

func when(operator, key string, values any) map[string]any {
	return map[string]any{operator: map[string]any{key: values}}
}

func role(id string) map[string]any {
	return map[string]any{"AWS": map[string]any{"Fn::GetAtt": []any{id, "Arn"}}}
}

// inManifest changes the text of a manifest.
func inManifest(id, from, to string) change {
	return func(t template) {
		properties := t.Resource(id)["Properties"].(map[string]any)
		text := properties["Manifest"].(string)
		if !strings.Contains(text, from) {
			panic(id + " has no " + from)
		}
		properties["Manifest"] = strings.Replace(text, from, to, 1)
	}
}

// addManifest adds Kubernetes objects, as CDK's addManifest does.
func addManifest(objects string) change {
	return addResource("AddedManifest", "Custom::AWSCDK-EKS-KubernetesResource", map[string]any{
		"ServiceToken": "arn:aws:lambda:eu-central-1:111122223333:function:kubectl",
		"ClusterName":  map[string]any{"Ref": cluster},
		"Manifest":     objects,
	})
}

// clusterRoleOf is a manifest with a ClusterRole of one rule.
func clusterRoleOf(rule string) change {
	return addManifest(`[{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"added"},"rules":[` + rule + `]}]`)
}

// bindingOf is a manifest with a binding of one group.
func bindingOf(kind, roleKind, role string) change {
	return addManifest(`[{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"` + kind + `","metadata":{"name":"added","namespace":"shop"},"roleRef":{"kind":"` + roleKind + `","name":"` + role + `"},"subjects":[{"kind":"Group","name":"team"}]}]`)
}

// identityPolicy adds a policy to the nodes' role.
func identityPolicy(statement map[string]any) change {
	statement["Effect"] = "Allow"
	return addResource("AddedPolicy", "AWS::IAM::Policy", map[string]any{
		"PolicyName": "added", "Roles": []any{map[string]any{"Ref": nodeRole}},
		"PolicyDocument": map[string]any{"Version": "2012-10-17", "Statement": statement},
	})
}

func advanced(fields ...any) change {
	return all(property(trail, "EventSelectors", nil),
		property(trail, "AdvancedEventSelectors", []any{map[string]any{"FieldSelectors": fields}}))
}

func field(name, operator string, values ...any) map[string]any {
	return map[string]any{"Field": name, operator: values}
}

// metricAlarm gives the trail a log group, and puts an alarm with these actions on
// DisableKey in the records of a log group of that name.
func metricAlarm(logGroup string, actions ...any) change {
	return all(
		addResource("TrailLogs", "AWS::Logs::LogGroup", map[string]any{"LogGroupName": "trail-logs"}),
		addResource("AppLogs", "AWS::Logs::LogGroup", map[string]any{"LogGroupName": "application"}),
		property(trail, "CloudWatchLogsLogGroupArn", map[string]any{"Fn::GetAtt": []any{"TrailLogs", "Arn"}}),
		property(trail, "CloudWatchLogsRoleArn", "arn:aws:iam::111122223333:role/CloudTrailToLogs"),
		addResource("Filter", "AWS::Logs::MetricFilter", map[string]any{
			"LogGroupName":  logGroup,
			"FilterPattern": `{ ($.eventSource = "kms.amazonaws.com") && (($.eventName = "DisableKey") || ($.eventName = "ScheduleKeyDeletion")) }`,
			"MetricTransformations": []any{map[string]any{
				"MetricNamespace": "Audit", "MetricName": "KeyDisabled", "MetricValue": "1"}},
		}),
		addResource("Alarm", "AWS::CloudWatch::Alarm", map[string]any{
			"Namespace": "Audit", "MetricName": "KeyDisabled", "Statistic": "Sum", "Period": 300,
			"EvaluationPeriods": 1, "Threshold": 1, "ComparisonOperator": "GreaterThanOrEqualToThreshold",
			"AlarmActions": append([]any{}, actions...),
		}))
}

// alarmTo sends the alarm on a disabled key to something else.
func alarmTo(id string) change {
	return property(keyDisabled, "Targets", []any{map[string]any{"Id": "other", "Arn": map[string]any{"Fn::GetAtt": []any{id, "Arn"}}}})
}

func queuePolicy(service string) change {
	return addResource("QueuePolicy", "AWS::SQS::QueuePolicy", map[string]any{"Queues": []any{map[string]any{"Ref": "Queue"}}, "PolicyDocument": map[string]any{
		"Version": "2012-10-17", "Statement": []any{map[string]any{
			"Effect": "Allow", "Principal": map[string]any{"Service": service}, "Action": "sqs:SendMessage", "Resource": map[string]any{"Fn::GetAtt": []any{"Queue", "Arn"}},
		}},
	}})
}

func permission(rule any) change {
	return addResource("Permission", "AWS::Lambda::Permission", map[string]any{
		"FunctionName": map[string]any{"Ref": "Function"}, "Action": "lambda:InvokeFunction", "Principal": "events.amazonaws.com", "SourceArn": rule,
	})
}

// elsewhere replaces a text in the whole template.
func elsewhere(from, to string) change {
	return func(t template) {
		data, err := json.Marshal(t)
		if err != nil {
			panic(err)
		}
		clear(t)
		if err := json.Unmarshal(bytes.ReplaceAll(data, []byte(from), []byte(to)), &t); err != nil {
			panic(err)
		}
	}
}

// mutation breaks one thing in a good template, or, without a rule in want, only
// changes how it is written.
type mutation struct {
	name string
	// golden is the template. Default: default.
	golden string
	apply  change
	// want are the rules that must find something. No other may.
	want []string
	// why says why more than one rule is right, or why none is.
	why string
	// alone tells that it names resources as they are called in a template by itself.
	alone bool
}

func one(rule string) []string { return []string{rule} }

var mutations = []mutation{
	// Who administers the key.
	{name: "the account is forgotten", apply: dropStatement("AccountAdministration"), why: "who makes the key could not write its next policy either", want: []string{"key-creation-refused", "key-no-durable-admin"}},
	{name: "the account may not change the policy", apply: accountMayNot("kms:PutKeyPolicy"), why: "who makes the key could not write its next policy either", want: []string{"key-creation-refused", "key-no-durable-admin"}},
	{name: "the account administers until a date", apply: statement("AccountAdministration", "Condition", when("DateLessThan", "aws:CurrentTime", "2027-01-01T00:00:00Z")), want: one("key-no-durable-admin")},
	{name: "the account administers from an address", apply: statement("AccountAdministration", "Condition", when("IpAddress", "aws:SourceIp", "203.0.113.0/24")), want: one("key-no-durable-admin")},
	{name: "the account administers through an endpoint", apply: statement("AccountAdministration", "Condition", when("StringEquals", "aws:SourceVpce", "vpce-0123456789abcdef0")), want: one("key-no-durable-admin")},
	{name: "only a role of the stack administers", apply: statement("AccountAdministration", "Principal", role(pluginRole)), why: "who makes the key could not write its next policy either", want: []string{"key-creation-refused", "key-no-durable-admin"}},
	{name: "nobody may change the policy", apply: deny("*", "kms:PutKeyPolicy", nil), why: "who makes the key could not write its next policy either", want: []string{"key-creation-refused", "key-no-durable-admin"}},
	{name: "nobody but a role of the stack may change the policy", apply: addStatement("Deny", "NotPrincipal", role(pluginRole), "kms:Put*", nil), why: "who makes the key could not write its next policy either", want: []string{"key-creation-refused", "key-no-durable-admin"}},
	{name: "a role outside the stack administers", apply: statement("AccountAdministration", "Principal", map[string]any{"AWS": "arn:aws:iam::111122223333:role/KeyAdmin"}), want: one("key-creation-refused")},

	// Calls that AWS makes.
	{name: "a perimeter by address", apply: deny("*", []any{"kms:Encrypt", "kms:Decrypt"}, map[string]any{"NotIpAddress": map[string]any{"aws:SourceIp": "203.0.113.0/24"}}), want: one("cluster-locked-out")},
	{name: "a perimeter by VPC", apply: deny("*", "kms:Decrypt", map[string]any{"StringNotEquals": map[string]any{"aws:SourceVpc": "vpc-0123456789abcdef0"}}), want: one("cluster-locked-out")},
	{name: "a perimeter by organization", apply: deny("*", []any{"kms:Encrypt", "kms:Decrypt"}, map[string]any{"StringNotEquals": map[string]any{"aws:PrincipalOrgID": "o-abcdefghij"}}), want: one("cluster-locked-out")},
	{name: "MFA for every use", apply: deny("*", []any{"kms:Encrypt", "kms:Decrypt"}, map[string]any{"BoolIfExists": map[string]any{"aws:MultiFactorAuthPresent": "false"}}), want: one("cluster-locked-out")},
	{name: "a perimeter that excepts services only", apply: deny("*", []any{"kms:Encrypt", "kms:Decrypt"}, map[string]any{
		"StringNotEquals": map[string]any{"aws:SourceVpce": "vpce-0123456789abcdef0"}, "Bool": map[string]any{"aws:PrincipalIsAWSService": "false"}})},
	{name: "a perimeter around the creators", apply: deny("*", "kms:CreateGrant", map[string]any{"StringNotEquals": map[string]any{"aws:SourceVpce": "vpce-0123456789abcdef0"}}), want: one("cluster-creator-missing")},
	{name: "creators through an endpoint", apply: statement("ClusterCreatorsGrant", "Condition", map[string]any{"StringEquals": map[string]any{"aws:SourceVpce": "vpce-0123456789abcdef0"}}), want: one("cluster-creator-missing")},
	{name: "creators with MFA", apply: statement("ClusterCreatorsGrant", "Condition", map[string]any{"Bool": map[string]any{"aws:MultiFactorAuthPresent": "true"}}), want: one("cluster-creator-missing")},
	{name: "the check against lock-outs is off", apply: property(secretsKey, "BypassPolicyLockoutSafetyCheck", true), want: one("key-lockout-check-bypassed")},
	{name: "the check against lock-outs is off, a string", apply: property(secretsKey, "BypassPolicyLockoutSafetyCheck", "true"), want: one("key-lockout-check-bypassed")},
	{name: "disks' key without Auto Scaling", golden: nodeGroups, apply: property(volumesKey, "KeyPolicy.Statement.2.Principal.AWS", "arn:aws:iam::111122223333:role/EbsCsiDriver"), want: one("volumes-key-refused")},
	{name: "disks' key through EC2 of another Region", golden: nodeGroups, apply: property(volumesKey, "KeyPolicy.Statement.2.Condition.StringEquals.kms:ViaService", "ec2.eu-west-1.amazonaws.com"), want: one("volumes-key-refused")},
	{name: "disks' key without grants", golden: nodeGroups, apply: property(volumesKey, "KeyPolicy.Statement.3.Effect", "Deny"), want: one("volumes-key-refused")},
	{name: "disks' key without Auto Mode", golden: isolated, apply: property(volumesKey, "KeyPolicy.Statement.2.Principal.AWS", "arn:aws:iam::111122223333:role/Other"), want: one("volumes-key-refused")},
	{name: "disks' key left to IAM, which a service-linked role has nothing of", golden: nodeGroups, apply: all(
		property(volumesKey, "KeyPolicy.Statement.2.Principal.AWS", "arn:aws:iam::111122223333:root"), property(volumesKey, "KeyPolicy.Statement.2.Condition", nil)), want: one("volumes-key-refused")},
	{name: "disks' key to Auto Scaling for anything", golden: nodeGroups, apply: all(
		property(volumesKey, "KeyPolicy.Statement.2.Condition", nil), property(volumesKey, "KeyPolicy.Statement.3.Condition", nil)), why: "it starts the nodes"},
	{name: "disks under the key of EBS", golden: nodeGroups, apply: property(launchTemplate, "LaunchTemplateData.BlockDeviceMappings.0.Ebs.KmsKeyId", "alias/aws/ebs"), why: "its policy lets all work with volumes"},
	{name: "disks under the secrets' key", golden: nodeGroups, apply: property(launchTemplate, "LaunchTemplateData.BlockDeviceMappings.0.Ebs.KmsKeyId", map[string]any{"Fn::GetAtt": []any{secretsKey, "Arn"}}), want: one("volumes-key-refused")},
	{name: "no topic policy", apply: dropResource(topicPolicy), want: one("alarm-undeliverable")},
	{name: "a topic policy for another service", apply: property(topicPolicy, "PolicyDocument.Statement.0.Principal", map[string]any{"Service": "cloudwatch.amazonaws.com"}), want: one("alarm-undeliverable")},
	{name: "a topic policy for another rule", apply: property(topicPolicy, "PolicyDocument.Statement.0.Condition", map[string]any{"ArnEquals": map[string]any{"aws:SourceArn": "arn:aws:events:eu-central-1:111122223333:rule/other"}}), want: one("alarm-undeliverable")},
	{name: "a topic policy for the account's rules", apply: property(topicPolicy, "PolicyDocument.Statement.0.Condition", map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": "111122223333"}})},
	{name: "the topic under a key of SNS", apply: property(topic, "KmsMasterKeyId", "alias/aws/sns"), want: one("alarm-undeliverable")},
	{name: "an alarm to a queue without a policy", apply: all(alarmTo("Queue"), addResource("Queue", "AWS::SQS::Queue", map[string]any{})), want: one("alarm-undeliverable")},
	{name: "an alarm to a queue", apply: all(alarmTo("Queue"), addResource("Queue", "AWS::SQS::Queue", map[string]any{}), queuePolicy("events.amazonaws.com"))},
	{name: "an alarm to a queue for another service", apply: all(alarmTo("Queue"), addResource("Queue", "AWS::SQS::Queue", map[string]any{}), queuePolicy("sns.amazonaws.com")), want: one("alarm-undeliverable")},
	{name: "an alarm to a queue under a key of SQS", apply: all(alarmTo("Queue"), addResource("Queue", "AWS::SQS::Queue", map[string]any{"KmsMasterKeyId": "alias/aws/sqs"}), queuePolicy("events.amazonaws.com")), want: one("alarm-undeliverable")},
	{name: "an alarm to a queue under a key that refuses it", apply: all(alarmTo("Queue"), addResource("Queue", "AWS::SQS::Queue", map[string]any{"KmsMasterKeyId": map[string]any{"Fn::GetAtt": []any{logsKey, "Arn"}}}), queuePolicy("events.amazonaws.com")), want: one("alarm-undeliverable")},
	{name: "an alarm to a function without a permission", apply: all(alarmTo("Function"), addResource("Function", "AWS::Lambda::Function", map[string]any{})), want: one("alarm-undeliverable")},
	{name: "an alarm to a function", apply: all(alarmTo("Function"), addResource("Function", "AWS::Lambda::Function", map[string]any{}), permission(map[string]any{"Fn::GetAtt": []any{keyDisabled, "Arn"}}))},
	{name: "an alarm to a function for another rule", apply: all(alarmTo("Function"), addResource("Function", "AWS::Lambda::Function", map[string]any{}), permission("arn:aws:events:eu-central-1:111122223333:rule/other")), want: one("alarm-undeliverable")},
	{name: "an alarm to a function for each of two rules", apply: all(alarmTo("Function"), addResource("Function", "AWS::Lambda::Function", map[string]any{}), permission("arn:aws:events:eu-central-1:111122223333:rule/other"),
		func(t template) { t["Resources"].(map[string]any)["Other"] = t.Resource("Permission") }, permission(map[string]any{"Fn::GetAtt": []any{keyDisabled, "Arn"}}))},
	{name: "an alarm to a topic as a role", apply: all(dropResource(topicPolicy), func(t template) {
		for _, r := range t["Resources"].(map[string]any) {
			if r := r.(map[string]any); r["Type"] == "AWS::Events::Rule" {
				set(r, "Properties.Targets.0.RoleArn", "arn:aws:iam::111122223333:role/Publisher")
			}
		}
	})},
	{name: "a metric alarm to a topic for EventBridge", apply: all(dropResource(keyDisabled), metricAlarm("trail-logs", map[string]any{"Ref": topic})), want: one("alarm-undeliverable")},
	{name: "a metric alarm to a topic without a policy", apply: all(dropResource(keyDisabled), addResource("Topic", "AWS::SNS::Topic", map[string]any{}), metricAlarm("trail-logs", map[string]any{"Ref": "Topic"}))},
	{name: "a metric alarm to a topic under a key of SNS", apply: all(dropResource(keyDisabled), addResource("Topic", "AWS::SNS::Topic", map[string]any{"KmsMasterKeyId": "alias/aws/sns"}), metricAlarm("trail-logs", map[string]any{"Ref": "Topic"})), want: one("alarm-undeliverable")},
	{name: "the trail under a prefix", apply: property(trail, "S3KeyPrefix", "eks"), want: one("trail-undeliverable")},
	{name: "no bucket policy", apply: dropResource(bucketPolicy), want: one("trail-undeliverable")},
	{name: "a bucket policy for another trail", apply: property(bucketPolicy, "PolicyDocument.Statement.3.Condition.StringEquals.aws:SourceArn", "arn:aws:cloudtrail:eu-central-1:111122223333:trail/other"), want: one("trail-undeliverable")},
	{name: "a bucket policy for another account", apply: property(bucketPolicy, "PolicyDocument.Statement.3.Resource", "arn:aws:s3:::AuditTrailLogsD47DB5AF/AWSLogs/444455556666/*"), want: one("trail-undeliverable")},
	{name: "a Deny on the bucket", apply: property(bucketPolicy, "PolicyDocument.Statement.0.Condition", map[string]any{"StringNotEquals": map[string]any{"aws:SourceVpce": "vpce-0123456789abcdef0"}}), want: one("trail-undeliverable")},
	{name: "a role for another namespace", apply: property(pluginRole, "AssumeRolePolicyDocument.Statement.0.Condition.StringEquals.aws:RequestTag/kubernetes-namespace", "other"), want: one("trust-never-matches")},
	{name: "a role for another cluster", apply: property(pluginRole, "AssumeRolePolicyDocument.Statement.0.Condition.StringEquals.aws:RequestTag/eks-cluster-arn", "arn:aws:eks:eu-central-1:111122223333:cluster/other"), want: one("trust-never-matches")},
	{name: "a role for an association", apply: property(pluginRole, "AssumeRolePolicyDocument.Statement.0.Condition", map[string]any{"ArnLike": map[string]any{"aws:SourceArn": "arn:aws:eks:*:*:podidentityassociation/*"}}), want: one("trust-never-matches")},
	{name: "a role for nodes", apply: property(pluginRole, "AssumeRolePolicyDocument.Statement.0.Principal", map[string]any{"Service": "ec2.amazonaws.com"}), want: one("trust-never-matches")},

	// Principals that a condition names.
	{name: "everybody with a role of a name", apply: allow("*", "kms:Decrypt", map[string]any{"ArnLike": map[string]any{"aws:PrincipalArn": "arn:aws:iam::*:role/deploy-*"}}), want: one("key-policy-any-principal")},
	{name: "everybody but those of a name", apply: allow("*", "kms:Decrypt", map[string]any{"ArnNotLike": map[string]any{"aws:PrincipalArn": "arn:aws:iam::*:role/deploy-*"}}), want: one("key-policy-any-principal")},
	{name: "everybody of an account by a pattern", apply: allow("*", "kms:Decrypt", map[string]any{"StringLike": map[string]any{"aws:PrincipalAccount": "1*"}}), want: one("key-policy-any-principal")},
	{name: "everybody whose session has a name", apply: allow("*", "kms:Decrypt", map[string]any{"StringLike": map[string]any{"aws:userid": "*:jane"}}), want: one("key-policy-any-principal")},
	{name: "any organization", apply: allow("*", "kms:Decrypt", map[string]any{"StringLike": map[string]any{"aws:PrincipalOrgID": "o-*"}}), want: one("key-policy-any-principal")},
	{name: "everybody through S3", apply: allow("*", "kms:Decrypt", map[string]any{"StringEquals": map[string]any{"kms:ViaService": "s3.eu-central-1.amazonaws.com"}}), want: one("key-policy-any-principal")},
	{name: "an organization's roles of a name", apply: allow("*", "kms:Decrypt", map[string]any{"StringEquals": map[string]any{"aws:PrincipalOrgID": "o-abcdefghij"}, "ArnLike": map[string]any{"aws:PrincipalArn": "arn:aws:iam::*:role/deploy-*"}}), why: "roles of the account are among them", want: []string{"key-policy-cross-account", "use-without-context"}},
	{name: "another account's roles of a name", apply: allow("*", "kms:Decrypt", map[string]any{"ArnLike": map[string]any{"aws:PrincipalArn": "arn:aws:iam::444455556666:role/deploy-*"}}), want: one("key-policy-cross-account")},
	{name: "the account's roles of a name", apply: allow("*", "kms:Decrypt", map[string]any{"ArnLike": map[string]any{"aws:PrincipalArn": "arn:aws:iam::111122223333:role/deploy-*"}}), want: one("use-without-context")},
	{name: "a permission set through the account", apply: allow(home, "kms:Decrypt", map[string]any{"ArnLike": map[string]any{"aws:PrincipalArn": "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/*/AWSReservedSSO_Admin_*"}}), want: one("use-without-context")},
	{name: "a permission set administers", apply: statement("AccountAdministration", "Condition", map[string]any{"ArnLike": map[string]any{"aws:PrincipalArn": "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/*/AWSReservedSSO_Admin_*"}}), want: one("key-creation-refused")},
	{name: "creators by a pattern", apply: all(statement("ClusterCreatorsGrant", "Principal", home), statement("ClusterCreatorsDescribe", "Principal", home),
		statement("ClusterCreatorsGrant", "Condition", map[string]any{"ArnLike": map[string]any{"aws:PrincipalArn": "arn:aws:iam::111122223333:role/cdk-*-cfn-exec-role-*"}}),
		statement("ClusterCreatorsDescribe", "Condition", map[string]any{"ArnLike": map[string]any{"aws:PrincipalArn": "arn:aws:iam::111122223333:role/cdk-*-cfn-exec-role-*"}}))},

	// What IAM alone decides.
	{name: "kms:* for the account", apply: statement("AccountAdministration", "Action", "kms:*"), want: one("crypto-delegated-to-iam")},
	{name: "* for the account", apply: statement("AccountAdministration", "Action", "*"), want: one("crypto-delegated-to-iam")},
	{name: "no key policy", apply: property(secretsKey, "KeyPolicy", nil), want: one("crypto-delegated-to-iam")},
	{name: "Decrypt for the account", apply: allow(home, "kms:Decrypt", nil), want: one("crypto-delegated-to-iam")},
	{name: "Decrypt for the account, written otherwise", apply: allow(home, []any{"KMS:decrypt"}, nil), want: one("crypto-delegated-to-iam")},
	{name: "Decrypt for the account by a wildcard", apply: allow(home, []any{"kms:Describe*", "kms:De*"}, nil), want: one("crypto-delegated-to-iam")},
	{name: "Decrypt for the account's number", apply: allow(map[string]any{"AWS": "111122223333"}, "kms:Decrypt", nil), want: one("crypto-delegated-to-iam")},
	{name: "Decrypt for everybody of the account", apply: allow("*", "kms:Decrypt", when("StringEquals", "kms:CallerAccount", "111122223333")), want: one("crypto-delegated-to-iam")},
	{name: "everything but deletion for the account", apply: all(
		statement("AccountAdministration", "Action", nil), statement("AccountAdministration", "NotAction", "kms:ScheduleKeyDeletion")), want: one("crypto-delegated-to-iam")},
	{name: "grants for the account", apply: statement("ClusterCreatorsGrant", "Principal", home), want: one("crypto-delegated-to-iam")},

	// Everything, and everybody.
	{name: "kms:* for a role", apply: allow(outsider, "kms:*", nil), want: one("key-policy-all-actions")},
	{name: "* for the cluster role", apply: statement("ClusterRole", "Action", []any{"*"}), want: one("key-policy-all-actions")},
	{name: "k?s:* for a role, which no service is called", apply: allow(outsider, "k?s:*", nil), want: one("policy-not-understood")},
	{name: "NotAction of another service for a role", apply: all(
		statement("ClusterRole", "Action", nil), statement("ClusterRole", "NotAction", "s3:*")), want: one("key-policy-all-actions")},
	{name: "everybody decrypts", apply: allow("*", "kms:Decrypt", nil), want: one("key-policy-any-principal")},
	{name: "everybody decrypts, in a list", apply: allow(map[string]any{"AWS": []any{"*"}}, []any{"kms:Decrypt"}, nil), want: one("key-policy-any-principal")},
	{name: "everybody with the plugin's tags decrypts", apply: statement("PluginUse", "Principal", "*"), want: one("key-policy-any-principal")},
	{name: "everybody of any account through EKS", apply: allow("*", "kms:Decrypt", when("StringEquals", "kms:ViaService", "eks.eu-central-1.amazonaws.com")), want: one("key-policy-any-principal")},
	{name: "everybody whose ARN is anything", apply: allow("*", "kms:Decrypt", when("StringLike", "aws:PrincipalArn", "*")), want: one("key-policy-any-principal")},
	{name: "everybody without an organization", apply: allow("*", "kms:Decrypt", when("StringEqualsIfExists", "aws:PrincipalOrgID", "o-a1b2c3d4e5")), want: one("key-policy-any-principal")},
	{name: "everybody whose absent key is in the list", apply: allow("*", "kms:Decrypt", when("ForAllValues:StringLike", "aws:PrincipalOrgPaths", "o-a1b2c3d4e5/*")), want: one("key-policy-any-principal")},
	{name: "everybody but one account", apply: allow("*", "kms:Decrypt", when("StringNotEquals", "aws:PrincipalAccount", "444455556666")), want: one("key-policy-any-principal")},
	{name: "everybody but one role", apply: addStatement("Allow", "NotPrincipal", outsider, "kms:Decrypt", nil), want: one("key-policy-any-principal")},
	{name: "everybody of the account through EKS", apply: allow("*", "kms:Decrypt", map[string]any{"StringEquals": map[string]any{"kms:ViaService": "eks.eu-central-1.amazonaws.com", "kms:CallerAccount": "111122223333"}}),
		why: "only EKS can use it, for people of this account"},

	// Other accounts.
	{name: "another account's role under the context", apply: statement("PluginUse", "Principal", stranger), want: one("key-policy-cross-account")},
	{name: "another account under the context", apply: statement("PluginUse", "Principal", map[string]any{"AWS": []any{"444455556666"}}), want: one("key-policy-cross-account")},
	{name: "another account makes grants", apply: allow(stranger, "kms:CreateGrant", nil), want: []string{"grants-unrestricted", "key-policy-cross-account"},
		why: "the grants have no limit, and the account is another one"},
	{name: "another account sees the key", apply: allow(stranger, "kms:DescribeKey", nil), why: "it can neither use the key nor make grants"},

	// Who creates the cluster.
	{name: "the creators' grant is forgotten", apply: dropStatement("ClusterCreatorsGrant"), want: one("cluster-creator-missing")},
	{name: "the creator is denied", apply: deny(creator, "kms:CreateGrant", nil), want: one("cluster-creator-missing")},
	{name: "everybody but the plugin is denied grants", apply: addStatement("Deny", "NotPrincipal", role(pluginRole), "kms:*Grant", nil), want: one("cluster-creator-missing")},
	{name: "grants for AWS resources only", apply: statement("ClusterCreatorsGrant", "Condition", when("Bool", "kms:GrantIsForAWSResource", "true")), want: one("grant-for-aws-resource")},
	{name: "grants for AWS resources only, a bool in a list", apply: statement("ClusterCreatorsGrant", "Condition", when("Bool", "kms:GrantIsForAWSResource", []any{true})), want: one("grant-for-aws-resource")},
	{name: "the Deny of Control Tower's CT.KMS.PR.3", apply: deny("*", "kms:CreateGrant", when("Bool", "kms:GrantIsForAWSResource", "false")), want: one("grant-for-aws-resource")},
	{name: "grants under the name of the cluster", apply: statement("ClusterCreatorsGrant", "Condition", when("StringEquals", "kms:EncryptionContext:aws:eks:cluster-name", "ekskms")),
		want: []string{"cluster-creator-missing", "condition-never-matches"}, why: "the condition is the cause, and the cluster can't be created"},

	// The cluster role.
	{name: "the cluster role is forgotten", apply: dropStatement("ClusterRole"), why: "AmazonEKSClusterPolicy has kms:DescribeKey, and the key policy lets IAM decide on it"},
	{name: "nobody lets the cluster role describe the key", apply: all(dropStatement("ClusterRole"), accountMayNot("kms:DescribeKey")), want: one("cluster-role-missing")},
	{name: "the cluster role has no policy for it", apply: all(dropStatement("ClusterRole"), property(clusterRole, "ManagedPolicyArns", nil)), want: one("cluster-role-missing")},
	{name: "the cluster role is denied", apply: deny(role(clusterRole), "kms:Describe*", nil), why: "the call is missing, and it is refused", want: []string{"cluster-locked-out", "cluster-role-missing"}},
	{name: "the cluster role under the cluster's ARN", apply: statement("ClusterRole", "Condition", when("ArnLike", "kms:EncryptionContext:aws:eks:arn", "arn:*:eks:*:*:cluster/*")), want: one("condition-never-matches")},

	// Use without the encryption context.
	{name: "the plugin without conditions", apply: statement("PluginUse", "Condition", nil), want: one("use-without-context")},
	{name: "the plugin without its context", apply: statement("PluginUse", "Condition.StringEquals."+contextKey, nil), want: one("use-without-context")},
	{name: "the plugin with its context, if any", apply: retype("PluginUse", contextKey, "StringEquals", "StringEqualsIfExists"), want: one("use-without-context")},
	{name: "the plugin with any context", apply: all(retype("PluginUse", contextKey, "StringEquals", "StringLike"), statement("PluginUse", "Condition.StringLike."+contextKey, "*")), want: one("use-without-context")},
	{name: "the plugin with all contexts in a list", apply: all(statement("PluginUse", "Condition.StringEquals."+contextKey, nil),
		statement("PluginUse", "Condition.ForAllValues:StringLike", map[string]any{contextKey: "arn:aws:eks:*"})), want: one("use-without-context")},
	{name: "the cluster role decrypts", apply: statement("ClusterRole", "Action", []any{"kms:DescribeKey", "kms:Decrypt"}), want: one("use-without-context")},
	{name: "the nodes make data keys", apply: allow(role(nodeRole), "kms:GenerateDataKey*", nil), want: one("use-without-context")},
	{name: "a role re-encrypts", apply: allow(outsider, "kms:ReEncryptFrom", nil), want: one("use-without-context")},
	{name: "a session encrypts", apply: allow(map[string]any{"AWS": "arn:aws:sts::111122223333:assumed-role/Other/me"}, "kms:Encrypt", nil), want: one("use-without-context")},
	{name: "the creator decrypts", apply: statement("ClusterCreatorsDescribe", "Action", []any{"kms:DescribeKey", "kms:Decrypt"}), want: one("use-without-context")},
	{name: "a tenant without its context", golden: tenants, apply: statement("TenantUse", "Condition", nil), want: one("use-without-context")},
	{name: "a service without a source", apply: allow(map[string]any{"Service": "ec2.amazonaws.com"}, "kms:Decrypt", nil), want: one("use-without-context")},
	{name: "a service with a source", apply: allow(map[string]any{"Service": "logs.eu-central-1.amazonaws.com"}, "kms:Decrypt", when("ArnLike", "aws:SourceArn", "arn:aws:logs:eu-central-1:111122223333:*")),
		why: "services with aws:SourceArn are not meant"},
	{name: "a context that a Deny asks for", apply: all(allow(outsider, "kms:Decrypt", nil), deny(outsider, "kms:*", when("StringNotEquals", contextKey, "arn:aws:eks:eu-central-1:111122223333:cluster/ekskms"))),
		why: "StringNotEquals holds without the key too, so nothing is decrypted without the context"},
	{name: "an identity policy without conditions", apply: property(pluginIAM, "PolicyDocument.Statement.1.Condition", nil),
		why: "the key policy does not let IAM decide on use"},

	// Conditions that are never met.
	{name: "the plugin under the name of the cluster", apply: statement("PluginUse", "Condition.StringEquals.kms:EncryptionContext:aws:eks:cluster-name", "ekskms"), want: one("condition-never-matches")},

	// Grants.
	{name: "somebody makes grants", apply: allow(outsider, "kms:CreateGrant", nil), want: one("grants-unrestricted")},
	{name: "the cluster role makes grants", apply: statement("ClusterRole", "Action", []any{"kms:DescribeKey", "kms:Create*"}), want: one("grants-unrestricted")},
	{name: "the plugin makes grants", apply: statement("PluginDescribe", "Action", []any{"kms:DescribeKey", "kms:CreateGrant"}), want: one("grants-unrestricted")},
	{name: "the nodes make grants", golden: tenants, apply: allow(role(nodeRole), []any{"kms:DescribeKey", "kms:CreateGrant"}, nil), want: one("grants-unrestricted")},
	{name: "somebody makes grants for AWS resources", apply: allow(outsider, "kms:CreateGrant", when("Bool", "kms:GrantIsForAWSResource", "true")), why: "only AWS services make them"},

	// The key itself.
	{name: "rotation off", apply: property(secretsKey, "EnableKeyRotation", false), want: one("key-rotation-off")},
	{name: "rotation off, a string", apply: property(secretsKey, "EnableKeyRotation", "false"), want: one("key-rotation-off")},
	{name: "rotation not mentioned", apply: property(secretsKey, "EnableKeyRotation", nil), want: one("key-rotation-off")},
	{name: "rotation of the trail's key off", apply: property(trailKey, "EnableKeyRotation", false), want: one("key-rotation-off")},
	{name: "rotation of the logs' key off", golden: existingKey, apply: property(logsKey, "EnableKeyRotation", nil), want: one("key-rotation-off")},
	{name: "rotation every two years", apply: property(secretsKey, "RotationPeriodInDays", 730), want: one("key-rotation-slow")},
	{name: "rotation after 366 days, a string", golden: nodeGroup, apply: property(secretsKey, "RotationPeriodInDays", "366"), want: one("key-rotation-slow")},
	{name: "rotation on, a string", apply: property(secretsKey, "EnableKeyRotation", "true")},
	{name: "rotation after 365 days", apply: property(secretsKey, "RotationPeriodInDays", 365)},
	{name: "rotation period not mentioned", apply: property(secretsKey, "RotationPeriodInDays", nil), why: "the default is 365"},
	{name: "key deleted with the stack", apply: attribute(secretsKey, "DeletionPolicy", "Delete"), want: one("key-deletable")},
	{name: "key's retention not mentioned", golden: tenants, apply: attribute(secretsKey, "DeletionPolicy", nil), want: one("key-deletable")},
	{name: "key deleted when replaced", apply: attribute(secretsKey, "UpdateReplacePolicy", nil), want: one("key-deletable")},
	{name: "trail's key deleted with the stack", golden: nodeGroup, apply: attribute(trailKey, "DeletionPolicy", "Delete"), want: one("key-deletable")},
	{name: "key kept unless its creation fails", apply: attribute(secretsKey, "DeletionPolicy", "RetainExceptOnCreate")},
	{name: "seven days to change one's mind", apply: property(secretsKey, "PendingWindowInDays", 7), want: one("key-deletion-window-short")},
	{name: "29 days, a string", apply: property(secretsKey, "PendingWindowInDays", "29"), want: one("key-deletion-window-short")},
	{name: "waiting period not mentioned", apply: property(secretsKey, "PendingWindowInDays", nil), why: "the default is 30"},
	{name: "RSA key", apply: property(secretsKey, "KeySpec", "RSA_4096"), want: one("secrets-key-unsuitable")},
	{name: "HMAC key", apply: all(property(secretsKey, "KeySpec", "HMAC_256"), property(secretsKey, "KeyUsage", "GENERATE_VERIFY_MAC")), want: one("secrets-key-unsuitable")},
	{name: "disabled key", apply: property(secretsKey, "Enabled", false), want: one("secrets-key-unsuitable")},
	{name: "disabled key, a string", apply: property(secretsKey, "Enabled", "false"), want: one("secrets-key-unsuitable")},
	{name: "imported key material", apply: property(secretsKey, "Origin", "EXTERNAL"), want: one("secrets-key-unsuitable")},
	{name: "key of another Region", golden: existingKey, apply: elsewhere("arn:aws:kms:eu-central-1:", "arn:aws:kms:eu-west-1:"), want: one("secrets-key-unsuitable")},
	{name: "symmetric key, said in full", apply: all(property(secretsKey, "KeySpec", "SYMMETRIC_DEFAULT"), property(secretsKey, "Origin", "AWS_KMS"), property(secretsKey, "Enabled", "true"))},

	// The cluster.
	{name: "no EncryptionConfig", apply: property(cluster, "EncryptionConfig", nil), want: one("secrets-not-encrypted")},
	{name: "empty EncryptionConfig", golden: existingKey, apply: property(cluster, "EncryptionConfig", []any{}), want: one("secrets-not-encrypted")},
	{name: "EncryptionConfig without a key", apply: property(cluster, "EncryptionConfig.0.Provider", nil), want: one("secrets-not-encrypted")},
	{name: "no encrypted resources", apply: property(cluster, "EncryptionConfig.0.Resources", []any{})},
	{name: "encrypted resources not mentioned", apply: property(cluster, "EncryptionConfig.0.Resources", nil)},
	{name: "other encrypted resources", golden: nodeGroup, apply: property(cluster, "EncryptionConfig.0.Resources", []any{"secrets", "configmaps"}), want: one("encrypted-resources-wrong")},
	{name: "public endpoint", apply: property(cluster, "ResourcesVpcConfig.EndpointPublicAccess", true), want: one("endpoint-public")},
	{name: "public endpoint, a string", apply: property(cluster, "ResourcesVpcConfig.EndpointPublicAccess", "true"), want: one("endpoint-public")},
	{name: "endpoint not mentioned", apply: property(cluster, "ResourcesVpcConfig.EndpointPublicAccess", nil), want: one("endpoint-public")},
	{name: "endpoint for all addresses", golden: existingKey, apply: property(cluster, "ResourcesVpcConfig.PublicAccessCidrs", []any{"203.0.113.0/24", "0.0.0.0/0"}), want: one("endpoint-public")},
	{name: "endpoint for all IPv6 addresses", golden: existingKey, apply: property(cluster, "ResourcesVpcConfig.PublicAccessCidrs", []any{"::/0"}), want: one("endpoint-public")},
	{name: "endpoint for both halves of all addresses", golden: existingKey, apply: property(cluster, "ResourcesVpcConfig.PublicAccessCidrs", []any{"0.0.0.0/1", "128.0.0.0/1"}), want: one("endpoint-public")},
	{name: "endpoint for one address more", golden: existingKey, apply: property(cluster, "ResourcesVpcConfig.PublicAccessCidrs", []any{"203.0.113.0/24", "198.51.100.7/32"})},
	{name: "a version past extended support", apply: property(cluster, "Version", "1.31"), want: one("kubernetes-version-ended")},
	{name: "a version older than all that are known", apply: property(cluster, "Version", "1.19"), want: one("kubernetes-version-ended")},
	{name: "a version in extended support", apply: property(cluster, "Version", "1.32")},
	{name: "a version that only the CDK knows", apply: property(cluster, "Version", "1.37")},
	{name: "the default version", apply: property(cluster, "Version", nil)},
	{name: "no logs", apply: property(cluster, "Logging", nil), want: one("audit-log-off")},
	{name: "logs without audit", golden: nodeGroup, apply: property(cluster, "Logging.ClusterLogging.EnabledTypes", []any{map[string]any{"Type": "api"}}), want: one("audit-log-off")},
	{name: "audit log only", apply: property(cluster, "Logging.ClusterLogging.EnabledTypes", []any{map[string]any{"Type": "audit"}})},

	// The trail.
	{name: "no trail, and no alarm on one", apply: dropResource(trail, trailBlinded, trailTampered), want: one("trail-missing")},
	{name: "trail off", apply: property(trail, "IsLogging", false), want: one("trail-not-logging")},
	{name: "trail off, a string", golden: tenants, apply: property(trail, "IsLogging", "false"), want: one("trail-not-logging")},
	{name: "trail without KMS", apply: property(trail, "EventSelectors.0.ExcludeManagementEventSources", []any{"kms.amazonaws.com"}), want: one("trail-excludes-kms")},
	{name: "trail without management events", apply: property(trail, "EventSelectors.0.IncludeManagementEvents", "false"), want: one("trail-excludes-kms")},
	{name: "trail of writes only", golden: nodeGroup, apply: property(trail, "EventSelectors.0.ReadWriteType", "WriteOnly"), want: one("trail-excludes-kms")},
	{name: "trail of reads only", apply: property(trail, "EventSelectors.0.ReadWriteType", "ReadOnly"), want: one("trail-excludes-kms")},
	{name: "advanced selectors of data events", apply: advanced(field("eventCategory", "Equals", "Data"), field("resources.type", "Equals", "AWS::S3::Object")), want: one("trail-excludes-kms")},
	{name: "advanced selectors without KMS", apply: advanced(field("eventCategory", "Equals", "Management"), field("eventSource", "NotEquals", "kms.amazonaws.com", "rdsdata.amazonaws.com")), want: one("trail-excludes-kms")},
	{name: "advanced selectors of writes", apply: advanced(field("eventCategory", "Equals", "Management"), field("readOnly", "Equals", "false")), want: one("trail-excludes-kms")},
	{name: "advanced selectors of all management events", apply: advanced(field("eventCategory", "Equals", "Management"))},
	{name: "advanced selectors without another service", apply: advanced(field("eventCategory", "Equals", "Management"), field("eventSource", "NotEquals", "rdsdata.amazonaws.com"))},
	{name: "selectors not mentioned", apply: property(trail, "EventSelectors", nil), why: "the default is all management events"},
	{name: "no validation of log files", apply: property(trail, "EnableLogFileValidation", false), want: one("trail-no-validation")},
	{name: "validation of log files not mentioned", golden: tenants, apply: property(trail, "EnableLogFileValidation", nil), want: one("trail-no-validation")},
	{name: "trail without a key", apply: property(trail, "KMSKeyId", nil), want: one("trail-not-encrypted")},
	{name: "log files deleted with the stack", apply: attribute(trailBucket, "DeletionPolicy", "Delete"), want: one("trail-logs-deletable")},
	{name: "log files' retention not mentioned", golden: nodeGroup, apply: attribute(trailBucket, "DeletionPolicy", nil), want: one("trail-logs-deletable")},

	// Alarms.
	{name: "alarm off", apply: property(keyDisabled, "State", "DISABLED"), want: one("tamper-alarm-missing")},
	{name: "alarm without targets", apply: property(keyDeleted, "Targets", []any{}), want: one("tamper-alarm-missing")},
	{name: "alarm's targets not mentioned", golden: existingKey, apply: property(policyChanged, "Targets", nil), want: one("tamper-alarm-missing")},
	{name: "no alarm", golden: existingKey, apply: dropResource(keyDisabled), want: one("tamper-alarm-missing")},
	{name: "alarm on another key", apply: property(policyChanged, "EventPattern.detail.resources.ARN", []any{map[string]any{"Fn::GetAtt": []any{trailKey, "Arn"}}}), want: one("tamper-alarm-missing")},
	{name: "alarm on another event", apply: property(grantRemoved, "EventPattern.detail.eventName", []any{"RetireGrant"}), want: one("tamper-alarm-missing")},
	{name: "alarm on rotation off", golden: nodeGroup, apply: property(rotationOff, "State", "DISABLED"), want: one("tamper-alarm-missing")},
	{name: "alarm on another service", apply: property(keyDisabled, "EventPattern.detail.eventSource", []any{"cloudtrail.amazonaws.com"}), want: one("tamper-alarm-missing")},
	{name: "alarm on another kind of event", apply: property(keyDisabled, "EventPattern.detail-type", []any{"AWS Service Event via CloudTrail"}), want: one("tamper-alarm-missing")},
	{name: "alarm on failures only", apply: property(keyDeleted, "EventPattern.detail.errorCode", []any{map[string]any{"exists": true}}), want: one("tamper-alarm-missing")},
	{name: "alarm on root only", apply: property(keyDeleted, "EventPattern.detail.userIdentity", map[string]any{"type": []any{"Root"}}), want: one("tamper-alarm-missing")},
	{name: "alarm on another bus", apply: property(keyDisabled, "EventBusName", "custom"), want: one("tamper-alarm-missing")},
	{name: "alarm on the trail off", apply: property(trailTampered, "State", "DISABLED"), want: one("trail-tamper-alarm-missing")},
	{name: "alarm on the selectors without targets", golden: nodeGroup, apply: property(trailBlinded, "Targets", []any{}), want: one("trail-tamper-alarm-missing")},
	{name: "alarm on another trail", apply: property(trailTampered, "EventPattern.detail.requestParameters.name", []any{"other"}), want: one("trail-tamper-alarm-missing")},
	{name: "alarm's state not mentioned", apply: property(keyDisabled, "State", nil), why: "the default is ENABLED"},
	{name: "alarm on all keys", apply: property(keyDisabled, "EventPattern.detail.resources", nil)},
	{name: "alarm on all trails", apply: property(trailTampered, "EventPattern.detail.requestParameters", nil)},
	{name: "alarm on a prefix", apply: property(keyDisabled, "EventPattern.detail.eventName", []any{map[string]any{"prefix": "Disable"}})},
	{name: "other alarms off", apply: all(property(aliasChanged, "State", "DISABLED"), property(unexpected, "State", "DISABLED"), dropResource(auditKeyAlarm)), why: "no rule asks for them"},

	// Kubernetes objects.
	{name: "cluster-wide reader of everything", apply: clusterRoleOf(`{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}`), want: one("secrets-readable-by-wildcard")},
	{name: "cluster-wide reader of the core group", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["*"],"verbs":["get","list"]}`), want: one("secrets-readable-by-wildcard")},
	{name: "cluster-wide lister", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["pods","secrets"],"verbs":["list"]}`), want: one("secrets-readable-by-wildcard")},
	{name: "cluster-wide watcher by any verb", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["secrets"],"verbs":["*"]}`), want: one("secrets-readable-by-wildcard")},
	{name: "reader in a list", apply: addManifest(`[{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"added"},"rules":[{"apiGroups":[""],"resources":["secrets"],"verbs":["get"]}]}]}]`), want: one("secrets-readable-by-wildcard")},
	{name: "reader of everything in a namespace", golden: tenants, apply: all(inManifest(readerManifest, `"resourceNames":["database"],`, ``), inManifest(readerManifest, `"resources":["secrets"]`, `"resources":["*"]`)), why: "the role is wrong, and somebody has it", want: []string{"secrets-readable-by-wildcard", "secrets-role-bound"}},
	{name: "reader in every namespace", golden: tenants, apply: all(inManifest(readerManifest, `"resourceNames":["database"],`, ``), inManifest(readerManifest, `"kind":"Role"`, `"kind":"ClusterRole"`)), want: one("secrets-readable-by-wildcard")},
	{name: "cluster-wide reader of other groups", apply: clusterRoleOf(`{"apiGroups":["apps","batch"],"resources":["*"],"verbs":["*"]}`)},
	{name: "cluster-wide reader of one name", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["secrets"],"resourceNames":["tls"],"verbs":["get"]}`)},
	{name: "cluster-wide writer", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["secrets"],"verbs":["create"]}`), why: "it can't read"},
	{name: "cluster-wide deleter", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["secrets"],"verbs":["delete"]}`), want: one("secrets-readable-by-wildcard")},
	{name: "cluster-wide deleter of all", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["secrets"],"verbs":["deletecollection"]}`), want: one("secrets-readable-by-wildcard")},
	{name: "cluster-wide patcher", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["secrets"],"verbs":["patch"]}`), want: one("secrets-readable-by-wildcard")},
	{name: "cluster-wide updater", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["secrets"],"verbs":["update"]}`), want: one("secrets-readable-by-wildcard")},
	{name: "binding to cluster-admin", apply: bindingOf("ClusterRoleBinding", "ClusterRole", "cluster-admin"), want: one("secrets-role-bound")},
	{name: "binding to edit in a namespace", apply: bindingOf("RoleBinding", "ClusterRole", "edit"), want: one("secrets-role-bound")},
	{name: "binding to admin everywhere", apply: bindingOf("ClusterRoleBinding", "ClusterRole", "admin"), want: one("secrets-role-bound")},
	{name: "binding to view", apply: bindingOf("ClusterRoleBinding", "ClusterRole", "view"), why: "it reads no secrets"},
	{name: "binding to a Role called edit", apply: bindingOf("RoleBinding", "Role", "edit"), why: "that is not the built-in one"},
	{name: "binding to edit of nobody", apply: addManifest(`[{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"added"},"roleRef":{"kind":"ClusterRole","name":"edit"},"subjects":[]}]`)},
	{name: "a reader of its namespace that nobody is bound to", golden: tenants, apply: all(inManifest(readerManifest, `"resourceNames":["database"],`, ``), inManifest(readerManifest, `"kind":"RoleBinding"`, `"kind":"ConfigMap"`)), why: "a Role that says secrets is limited to its namespace, on purpose"},
	{name: "a reader of its namespace", golden: tenants, apply: inManifest(readerManifest, `"resourceNames":["database"],`, ``), want: one("secrets-role-bound")},
	{name: "impersonator", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["users","groups"],"verbs":["impersonate"]}`), want: one("secrets-reachable")},
	{name: "impersonator of one group", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["groups"],"resourceNames":["viewers"],"verbs":["impersonate"]}`)},
	{name: "maker of tokens", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["serviceaccounts/token"],"verbs":["create"]}`), want: one("secrets-reachable")},
	{name: "maker of tokens of all that have any", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["*/token"],"verbs":["create"]}`), want: one("secrets-reachable")},
	{name: "reader of tokens' accounts", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["serviceaccounts"],"verbs":["get","list","create"]}`)},
	{name: "proxy to nodes", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["nodes/proxy"],"verbs":["get"]}`), want: one("secrets-reachable")},
	{name: "commands in pods", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["pods","pods/exec"],"verbs":["get","list"]}`), want: one("secrets-reachable")},
	{name: "containers in pods", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["pods/ephemeralcontainers"],"verbs":["patch"]}`), want: one("secrets-reachable")},
	{name: "escalation", apply: clusterRoleOf(`{"apiGroups":["rbac.authorization.k8s.io"],"resources":["clusterroles"],"verbs":["escalate"]}`), want: one("secrets-reachable")},
	{name: "bind in every verb", apply: clusterRoleOf(`{"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles"],"verbs":["*"]}`), want: one("secrets-reachable")},
	{name: "bind to one role", apply: clusterRoleOf(`{"apiGroups":["rbac.authorization.k8s.io"],"resources":["clusterroles"],"resourceNames":["view"],"verbs":["bind"]}`)},
	{name: "reader of roles", apply: clusterRoleOf(`{"apiGroups":["rbac.authorization.k8s.io"],"resources":["*"],"verbs":["get","list","watch"]}`)},
	{name: "webhooks", apply: clusterRoleOf(`{"apiGroups":["admissionregistration.k8s.io"],"resources":["mutatingwebhookconfigurations"],"verbs":["update"]}`), want: one("secrets-reachable")},
	{name: "secret in the template", apply: addManifest(`[{"apiVersion":"v1","kind":"Secret","metadata":{"name":"db"},"data":{"password":"aHVudGVyMg=="}}]`), want: one("secret-in-template")},
	{name: "secret in the template, as text", apply: addManifest(`[{"apiVersion":"v1","kind":"Secret","metadata":{"name":"db"},"stringData":{"password":"hunter2"}}]`), want: one("secret-in-template")},
	{name: "secret without data", apply: addManifest(`[{"apiVersion":"v1","kind":"Secret","metadata":{"name":"db"},"type":"Opaque","data":{}}]`)},

	// IAM policies.
	{name: "IAM: Decrypt on all keys", apply: identityPolicy(map[string]any{"Action": "kms:Decrypt", "Resource": "*"}), want: one("iam-decrypt-any-key")},
	{name: "IAM: ReEncryptFrom on all keys of the account", apply: identityPolicy(map[string]any{"Action": []any{"kms:ReEncryptFrom"}, "Resource": []any{"arn:aws:kms:*:111122223333:key/*"}}), want: one("iam-decrypt-any-key")},
	{name: "IAM: everything", apply: identityPolicy(map[string]any{"Action": "*", "Resource": "*"}), want: one("iam-decrypt-any-key")},
	{name: "IAM: all but S3", apply: identityPolicy(map[string]any{"NotAction": "s3:*", "Resource": "*"}), want: one("iam-decrypt-any-key")},
	{name: "IAM: all keys but one", apply: identityPolicy(map[string]any{"Action": "kms:*", "NotResource": map[string]any{"Fn::GetAtt": []any{secretsKey, "Arn"}}}), want: one("iam-decrypt-any-key")},
	{name: "IAM: Decrypt on all keys, inline", apply: property(nodeRole, "Policies", []any{map[string]any{"PolicyName": "added", "PolicyDocument": map[string]any{
		"Version": "2012-10-17", "Statement": []any{map[string]any{"Effect": "Allow", "Action": "kms:Dec*", "Resource": "*"}}}}}), want: one("iam-decrypt-any-key")},
	{name: "IAM: Decrypt on all keys, managed", apply: addResource("AddedPolicy", "AWS::IAM::ManagedPolicy", map[string]any{"PolicyDocument": map[string]any{
		"Version": "2012-10-17", "Statement": map[string]any{"Effect": "Allow", "Action": []any{"kms:Decrypt"}, "Resource": []any{"*"}}}}), want: one("iam-decrypt-any-key")},
	{name: "IAM: Decrypt on one key", apply: identityPolicy(map[string]any{"Action": "kms:Decrypt", "Resource": "arn:aws:kms:eu-central-1:111122223333:key/0d8b1f6e-5d0c-4f13-9b2a-2f4f2ab7c9de"})},
	{name: "IAM: all keys, but no decryption", apply: identityPolicy(map[string]any{"Action": []any{"kms:Describe*", "kms:List*"}, "Resource": "*"})},

	// What nobody knows.
	{name: "unknown operator", apply: statement("PluginUse", "Condition.StringAlmostEquals", map[string]any{"aws:PrincipalTag/team": "a"}), want: one("policy-not-understood")},
	{name: "misspelt element", apply: statement("PluginUse", "Conditions", map[string]any{}), want: one("policy-not-understood")},
	{name: "misspelt effect", apply: statement("PluginUse", "Effect", "allow"), want: one("policy-not-understood")},

	// What a first version of the rules might take for the same, or for another.
	{name: "the account administers from its own account", apply: statement("AccountAdministration", "Condition", when("StringEquals", "kms:CallerAccount", "111122223333")), why: "that never lapses"},
	{name: "the account administers another key", apply: statement("AccountAdministration", "Resource", "arn:aws:kms:eu-central-1:111122223333:key/0d8b1f6e-5d0c-4f13-9b2a-2f4f2ab7c9de"), why: "who makes the key could not write its next policy either", want: []string{"key-creation-refused", "key-no-durable-admin"}},
	{name: "the account may not change the policy from a date on", apply: deny("*", "kms:PutKeyPolicy", when("DateGreaterThan", "aws:CurrentTime", "2027-01-01T00:00:00Z")), want: one("key-no-durable-admin")},
	{name: "Decrypt for the account from an address", apply: allow(home, "kms:Decrypt", when("IpAddress", "aws:SourceIp", "203.0.113.0/24")), want: one("crypto-delegated-to-iam")},
	{name: "Decrypt for the account, but only one role", apply: all(
		allow(home, "kms:Decrypt", when("StringEquals", "aws:PrincipalArn", role(nodeRole)["AWS"])),
		identityPolicy(map[string]any{"Action": "kms:Decrypt", "Resource": map[string]any{"Fn::GetAtt": []any{secretsKey, "Arn"}}})), want: one("use-without-context")},
	{name: "everybody whose ARN is a role's", apply: allow("*", "kms:Decrypt", when("ArnLike", "aws:PrincipalArn", "arn:aws:iam::*:role/*")), want: one("key-policy-any-principal")},
	{name: "a context that a Deny asks for, whatever it is", apply: all(allow(outsider, "kms:Decrypt", nil), deny(outsider, "kms:Decrypt", when("StringNotLike", contextKey, "*"))), want: one("use-without-context")},
	{name: "Decrypt for the account under the context", apply: allow(home, "kms:Decrypt", when("StringEquals", contextKey, "arn:aws:eks:eu-central-1:111122223333:cluster/ekskms")), want: one("crypto-delegated-to-iam")},
	{name: "everybody whose ARN is one role's", apply: allow("*", "kms:Decrypt", when("StringEquals", "aws:PrincipalArn", outsider["AWS"])), want: one("use-without-context")},
	{name: "everybody from an address", apply: allow("*", "kms:Decrypt", when("IpAddress", "aws:SourceIp", "203.0.113.0/24")), want: one("key-policy-any-principal")},
	{name: "everybody sees the key", apply: allow("*", "kms:DescribeKey", nil), want: one("key-policy-any-principal")},
	{name: "everybody of the organization", apply: allow("*", "kms:Decrypt", when("StringEquals", "aws:PrincipalOrgID", "o-a1b2c3d4e5")), want: one("key-policy-cross-account")},
	{name: "a trail on behalf of everybody", apply: allow("*", "kms:GenerateDataKey*", when("StringEquals", "aws:SourceArn", "arn:aws:cloudtrail:eu-central-1:111122223333:trail/x")), why: "only services send aws:SourceArn"},
	{name: "everybody administers", apply: allow("*", "kms:PutKeyPolicy", nil), want: one("key-policy-any-principal")},
	{name: "everybody in the account administers", apply: allow("*", "kms:PutKeyPolicy", when("StringEquals", "kms:CallerAccount", "111122223333")), want: one("crypto-delegated-to-iam")},
	{name: "everybody in the account looks", apply: allow("*", "kms:DescribeKey", when("StringEquals", "kms:CallerAccount", "111122223333"))},
	{name: "a service makes grants", apply: allow(map[string]any{"Service": "lambda.amazonaws.com"}, "kms:CreateGrant", nil), want: one("grants-unrestricted")},
	{name: "a service makes grants for AWS resources", apply: allow(map[string]any{"Service": "lambda.amazonaws.com"}, "kms:CreateGrant", when("Bool", "kms:GrantIsForAWSResource", "true"))},
	{name: "a role sees the key", apply: allow(outsider, []any{"kms:DescribeKey", "kms:ListGrants", "kms:GetKeyRotationStatus"}, nil)},
	{name: "a role re-encrypts to the key", apply: allow(outsider, "kms:ReEncryptTo", nil), want: one("use-without-context")},
	{name: "the plugin with some context", apply: all(statement("PluginUse", "Condition.StringEquals."+contextKey, nil), statement("PluginUse", "Condition.Null", map[string]any{contextKey: "false"})), want: one("use-without-context")},
	{name: "the plugin with another context", apply: retype("PluginUse", contextKey, "StringEquals", "StringNotEquals"), want: one("use-without-context")},
	{name: "the plugin's context as an ARN", apply: retype("PluginUse", contextKey, "StringEquals", "ArnLike")},
	{name: "never the name of another cluster", apply: statement("PluginUse", "Condition.StringNotEquals", map[string]any{"kms:EncryptionContext:aws:eks:cluster-name": "x"}), why: "StringNotEquals holds without the key"},
	{name: "the name of the cluster, if any", apply: statement("PluginUse", "Condition.StringEqualsIfExists", map[string]any{"kms:EncryptionContext:aws:eks:cluster-name": "x"}), why: "IfExists holds without the key"},
	{name: "Control Tower's Deny, but for services", apply: deny("*", "kms:CreateGrant", map[string]any{"Bool": map[string]any{"kms:GrantIsForAWSResource": "false"}, "BoolIfExists": map[string]any{"aws:PrincipalIsAWSService": "false"}}), want: one("grant-for-aws-resource")},
	{name: "all but the creator are denied", apply: deny("*", "kms:CreateGrant", when("ArnNotLike", "aws:PrincipalArn", creator["AWS"]))},
	{name: "all but another are denied", apply: deny("*", "kms:CreateGrant", when("ArnNotLike", "aws:PrincipalArn", outsider["AWS"])), want: one("cluster-creator-missing")},
	{name: "grants over TLS", apply: allow(outsider, "kms:CreateGrant", when("Bool", "aws:SecureTransport", "true")), want: one("grants-unrestricted")},
	{name: "grants for people only", apply: allow(outsider, "kms:CreateGrant", when("Bool", "kms:GrantIsForAWSResource", "false")), want: one("grants-unrestricted")},
	{name: "a role of that name may describe the key", alone: true, apply: all(dropStatement("ClusterRole"), accountMayNot("kms:DescribeKey"), allow(home, "kms:DescribeKey", when("ArnLike", "aws:PrincipalArn", "arn:aws:iam::111122223333:role/EncryptedClusterClusterRole*"))),
		why: "the key policy leaves it to IAM for the cluster role, and AmazonEKSClusterPolicy has it"},
	{name: "a role of another name may describe the key", apply: all(dropStatement("ClusterRole"), accountMayNot("kms:DescribeKey"), allow(home, "kms:DescribeKey", when("ArnLike", "aws:PrincipalArn", "arn:aws:iam::111122223333:role/eks-*"))), want: one("cluster-role-missing")},
	{name: "the key of another account", apply: property(cluster, "EncryptionConfig.0.Provider.KeyArn", "arn:aws:kms:eu-central-1:444455556666:key/00000000-0000-4000-8000-000000000001"),
		alone: true, why: "what is done to it is an event of the other account"},
	{name: "the key by its alias", apply: property(cluster, "EncryptionConfig.0.Provider.KeyArn", "arn:aws:kms:eu-central-1:111122223333:alias/eks/ekskms")},
	{name: "public endpoint for an empty list", apply: all(property(cluster, "ResourcesVpcConfig.EndpointPublicAccess", true), property(cluster, "ResourcesVpcConfig.PublicAccessCidrs", []any{})), want: one("endpoint-public")},
	{name: "trail without RDS", apply: property(trail, "EventSelectors.0.ExcludeManagementEventSources", []any{"rdsdata.amazonaws.com"})},
	{name: "alarm on all but Decrypt", apply: property(keyDisabled, "EventPattern.detail.eventName", []any{map[string]any{"anything-but": []any{"Decrypt"}}})},
	{name: "alarm by a metric filter", apply: all(dropResource(keyDisabled), metricAlarm("trail-logs", "arn:aws:sns:eu-central-1:111122223333:alarms"))},
	{name: "alarm by a metric filter, without action", apply: all(dropResource(keyDisabled), metricAlarm("trail-logs")), want: one("tamper-alarm-missing")},
	{name: "alarm by a metric filter of another log group", apply: all(dropResource(keyDisabled), metricAlarm("application", "arn:aws:sns:eu-central-1:111122223333:alarms")), want: one("tamper-alarm-missing")},
	{name: "cluster-wide lister of the empty name", apply: clusterRoleOf(`{"apiGroups":[""],"resources":["secrets"],"resourceNames":[""],"verbs":["list"]}`), want: one("secrets-readable-by-wildcard")},
	{name: "IAM: Decrypt on all keys, of a user", apply: addResource("User", "AWS::IAM::User", map[string]any{"Policies": []any{map[string]any{"PolicyName": "added", "PolicyDocument": map[string]any{
		"Version": "2012-10-17", "Statement": map[string]any{"Effect": "Allow", "Action": "kms:*", "Resource": "arn:aws:kms:*:*:*"}}}}}), want: one("iam-decrypt-any-key")},
	{name: "IAM: Decrypt on all keys, of a RolePolicy", apply: addResource("AddedPolicy", "AWS::IAM::RolePolicy", map[string]any{"PolicyName": "added", "RoleName": map[string]any{"Ref": nodeRole}, "PolicyDocument": map[string]any{
		"Version": "2012-10-17", "Statement": map[string]any{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}}}), want: one("iam-decrypt-any-key")},
	{name: "IAM: Decrypt denied", apply: all(identityPolicy(map[string]any{"Action": "kms:Decrypt", "Resource": "*"}), property("AddedPolicy", "PolicyDocument.Statement.Effect", "Deny"))},
	{name: "IAM: unknown operator for the plugin", apply: property(pluginIAM, "PolicyDocument.Statement.1.Condition.StringAlmostEquals", map[string]any{"aws:PrincipalTag/team": "a"}), want: one("policy-not-understood")},

	// What only looks different.
	{name: "nothing changed", apply: func(template) {}},
	{name: "statements in another order", apply: func(t template) { slices.Reverse(statements(t)) }},
	{name: "a Sid renamed", apply: statement("PluginUse", "Sid", "X")},
	{name: "no Sid", apply: statement("AccountAdministration", "Sid", nil)},
	{name: "an unrelated bucket", apply: addResource("Bucket", "AWS::S3::Bucket", map[string]any{})},
	{name: "an unrelated key", apply: addResource("OtherKey", "AWS::KMS::Key", map[string]any{"KeyPolicy": map[string]any{"Version": "2012-10-17",
		"Statement": []any{map[string]any{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}}}}), why: "no cluster and no log uses it"},
	{name: "another description", apply: property(secretsKey, "Description", "x")},
	{name: "a list of one action", apply: statement("ClusterCreatorsGrant", "Action", []any{"kms:CreateGrant"})},
	{name: "a list of one principal", apply: statement("ClusterRole", "Principal", map[string]any{"AWS": []any{map[string]any{"Fn::GetAtt": []any{clusterRole, "Arn"}}}})},
	{name: "actions in another case", apply: statement("PluginUse", "Action", []any{"KMS:DECRYPT", "kms:generatedatakey"})},
	{name: "a condition key in another case", apply: func(t template) {
		set(statementOf(t, "PluginUse"), "Condition.StringEquals.KMS:encryptioncontext:ekskms:cluster-arn", statementOf(t, "PluginUse")["Condition"].(map[string]any)["StringEquals"].(map[string]any)[contextKey])
		set(statementOf(t, "PluginUse"), "Condition.StringEquals."+contextKey, nil)
	}},
	{name: "the plugin's statement in two", apply: func(t template) {
		second := maps.Clone(statementOf(t, "PluginUse"))
		second["Sid"], second["Action"] = "PluginGenerate", "kms:GenerateDataKey"
		set(statementOf(t, "PluginUse"), "Action", "kms:Decrypt")
		setStatements(t, append(statements(t), second))
	}},
	{name: "a Deny more", apply: deny("*", "kms:Decrypt", when("Bool", "aws:SecureTransport", "false"))},
	{name: "further context keys allowed", apply: statement("PluginUse", "Condition.ForAllValues:StringEquals", nil), why: "the cluster's pair is still asked for"},
}

// TestGoldens shows that nothing is found in what ekskms itself makes.
func TestGoldens(t *testing.T) {
	for _, name := range []string{"default", "01_minimal", existingKey, nodeGroup, tenants, nodeGroups, isolated} {
		t.Run(name, func(t *testing.T) {
			data, err := json.Marshal(estatetest.Golden(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if found, report := run(t, name+".json", data); len(found) > 0 {
				t.Errorf("found in a good template:\n%s", details(report))
			}
			for with, e := range map[string]*estate.Estate{"another stack": estatetest.BesideAnother(t, estatetest.Golden(t, name)), "another cluster": estatetest.WithAnother(t, estatetest.Golden(t, name))} {
				report, err := check.Run(e, check.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if len(report.Findings) > 0 {
					t.Errorf("found in a good template with %s:\n%s", with, details(report))
				}
			}
		})
	}
}

// TestMutations shows that the rules can fail, each for its own reason: one thing
// is broken in a good template, and exactly the rule for it finds something.
// Changes that break nothing give no finding.
func TestMutations(t *testing.T) {
	names, reached := map[string]bool{}, map[string]bool{}
	for i, m := range mutations {
		if names[m.name] {
			t.Errorf("two mutations are called %q", m.name)
		}
		names[m.name] = true
		if len(m.want) > 1 && m.why == "" {
			t.Errorf("%s: the table does not say why two rules are right", m.name)
		}
		for _, id := range m.want {
			reached[id] = true
		}
		if estatetest.Race && i%5 > 0 {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			name := m.golden
			if name == "" {
				name = "default"
			}
			changed := estatetest.Golden(t, name)
			m.apply(changed)
			data, err := json.Marshal(changed)
			if err != nil {
				t.Fatal(err)
			}
			found, report := run(t, name+".json", data)
			var ids []string
			for _, f := range found {
				ids = append(ids, f.Rule)
			}
			slices.Sort(ids)
			if diff := cmp.Diff(m.want, slices.Compact(ids)); diff != "" {
				t.Errorf("- want, + found\n%s%s", diff, details(report))
			}
			if m.alone || estatetest.Race {
				return
			}
			both, err := check.Run(estatetest.BesideAnother(t, changed), check.Options{})
			if err != nil {
				t.Fatal(err)
			}
			ids = nil
			for _, f := range both.Findings {
				if ids = append(ids, f.Rule); f.Stack != "first" {
					t.Errorf("%s is found in the other stack, at %s", f.Rule, f.Resource)
				}
			}
			slices.Sort(ids)
			if diff := cmp.Diff(m.want, slices.Compact(ids)); diff != "" {
				t.Errorf("beside another stack: - want, + found\n%s%s", diff, details(both))
			}
			together, err := check.Run(estatetest.WithAnother(t, changed), check.Options{})
			if err != nil {
				t.Fatal(err)
			}
			ids = nil
			for _, f := range together.Findings {
				if ids = append(ids, f.Rule); strings.HasSuffix(f.LogicalID, estatetest.Another) {
					t.Errorf("%s is found of the other cluster, at %s", f.Rule, f.Resource)
				}
			}
			slices.Sort(ids)
			want := slices.DeleteFunc(slices.Clone(m.want), func(id string) bool {
				return id == "trail-missing" || id == "trail-excludes-kms" // the other trail records the account too
			})
			if diff := cmp.Diff(want, slices.Compact(ids), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("with another cluster: - want, + found\n%s%s", diff, details(together))
			}
		})
	}
	for _, rule := range check.Rules() {
		if !reached[rule.ID] && rule.ID != "known-after-apply" { // which is of plans: see internal/tfplan
			t.Errorf("no mutation reaches %s", rule.ID)
		}
	}
}
