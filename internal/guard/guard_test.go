package guard_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/estate/estatetest"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/guard"
)

const (
	cluster      = "EncryptedClusterA9297881"
	clusterRole  = "EncryptedClusterClusterRoleB274515C"
	pluginRole   = "EncryptedClusterKmsPluginRoleC6DF9AF0"
	pluginIAM    = "EncryptedClusterKmsPluginRoleDefaultPolicy60C5EF40"
	secretsKey   = "SecretsKeyE4821A66"
	auditKey     = "AuditTrailKeyA4D56A7A"
	controlLogs  = "EncryptedClusterLogs1DFCF358"
	trail        = "AuditTrail49D399D8"
	bucket       = "AuditTrailLogsD47DB5AF"
	keyDisabled  = "AuditTrailAlarmKeyDisabledBD270554"
	bucketPolicy = "AuditTrailLogsPolicyB59BDBF3"
	topic        = "AuditTrailAlarms62214698"
)

var goldens = []string{"default", "01_minimal", "02_existing_vpc_and_key", "03_node_group", "04_tenants_and_secrets"}

func compare(t *testing.T, before, after estatetest.Template, accepted ...finding.Suppression) *finding.Report {
	t.Helper()
	report, err := guard.Compare(estatetest.Estate(t, before), estatetest.Estate(t, after), guard.Options{Accepted: accepted})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// found lists the rules of a report, each once.
func found(r *finding.Report) (ids []string) {
	for _, f := range r.Findings {
		ids = append(ids, f.Rule)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// The statements of the secrets key, in the template's order.
const (
	account = iota
	creatorsDescribe
	creatorsGrant
	clusterRoleStatement
	pluginDescribe
	pluginUse
)

func statements(t estatetest.Template) []any {
	return t.Resource(secretsKey)["Properties"].(map[string]any)["KeyPolicy"].(map[string]any)["Statement"].([]any)
}

func setStatements(s func([]any) []any) estatetest.Change {
	return func(t estatetest.Template) {
		estatetest.Set(t.Resource(secretsKey), "Properties.KeyPolicy.Statement", s(statements(t)))
	}
}

func without(i int) estatetest.Change {
	return setStatements(func(s []any) []any { return slices.Delete(s, i, i+1) })
}

func statement(i int, path string, value any) estatetest.Change {
	return func(t estatetest.Template) { estatetest.Set(statements(t)[i], path, value) }
}

func add(effect string, principal, action any, condition map[string]any) estatetest.Change {
	return setStatements(func(s []any) []any {
		added := map[string]any{"Sid": "Added", "Effect": effect, "Principal": principal, "Action": action, "Resource": "*"}
		if condition != nil {
			added["Condition"] = condition
		}
		return append(s, added)
	})
}

func renamed(id string) estatetest.Change {
	return func(t estatetest.Template) {
		r := t.Resource(id)
		estatetest.Drop(id)(t)
		t["Resources"].(map[string]any)["New"+id] = r
	}
}

func one(id string) []string { return []string{id} }

var (
	root     = map[string]any{"AWS": "arn:aws:iam::111122223333:root"}
	admin    = map[string]any{"AWS": "arn:aws:iam::111122223333:role/Admin"}
	plugin   = map[string]any{"AWS": map[string]any{"Fn::GetAtt": []any{pluginRole, "Arn"}}}
	onlyFrom = map[string]any{"StringEquals": map[string]any{"kms:CallerAccount": "111122223333"}}
)

// mutations of the default template, each with exactly what guard must find.
var mutations = []struct {
	name  string
	apply estatetest.Change
	want  []string
	// says is part of a message.
	says string
}{
	// The cluster.
	{"cluster renamed", estatetest.Property(cluster, "Name", "other"), []string{"cluster-replaced", "trust-never-matches"}, "Name changes from ekskms to other"},
	{"cluster under another role", estatetest.Property(cluster, "RoleArn", "arn:aws:iam::111122223333:role/Other"), one("cluster-replaced"), "RoleArn changes"},
	{"cluster for IPv6", estatetest.Property(cluster, "KubernetesNetworkConfig.IpFamily", "ipv6"), one("cluster-replaced"), "IpFamily"},
	{"creator becomes admin", estatetest.Property(cluster, "AccessConfig.BootstrapClusterCreatorAdminPermissions", true), one("cluster-replaced"), "BootstrapClusterCreatorAdminPermissions"},
	{"cluster's logical ID", renamed(cluster), one("cluster-deleted"), "its logical ID " + cluster + " is gone"},
	{"cluster dropped", estatetest.Drop(cluster), one("cluster-deleted"), "is gone"},
	{"encryption dropped", estatetest.Property(cluster, "EncryptionConfig", nil), one("encryption-config-changed"), "to none"},
	{"encryption under another key", estatetest.Property(cluster, "EncryptionConfig.0.Provider.KeyArn", "arn:aws:kms:eu-central-1:111122223333:key/other"), []string{"alarm-removed", "encryption-config-changed"}, "key/other"},
	{"encrypted resources", estatetest.Property(cluster, "EncryptionConfig.0.Resources", []any{"secrets", "configmaps"}), one("encryption-config-changed"), "configmaps"},
	{"deletion protection off", estatetest.Property(cluster, "DeletionProtection", false), one("retention-weakened"), "DeletionProtection"},
	{"audit log off", estatetest.Property(cluster, "Logging.ClusterLogging.EnabledTypes", []any{map[string]any{"Type": "api"}}), one("control-plane-log-weakened"), "audit"},
	{"all logs off", estatetest.Property(cluster, "Logging", nil), one("control-plane-log-weakened"), "scheduler"},
	{"endpoint public", estatetest.Property(cluster, "ResourcesVpcConfig.EndpointPublicAccess", true), one("endpoint-opened"), "0.0.0.0/0"},
	{"endpoint for one network", estatetest.All(estatetest.Property(cluster, "ResourcesVpcConfig.EndpointPublicAccess", true), estatetest.Property(cluster, "ResourcesVpcConfig.PublicAccessCidrs", []any{"203.0.113.0/24"})), one("endpoint-opened"), "203.0.113.0/24"},

	{"nodes that are newer", estatetest.Add("Nodes", "AWS::EKS::Nodegroup", map[string]any{"ClusterName": map[string]any{"Ref": cluster}, "Version": "1.36"}), one("nodes-version-refused"), "version 1.36, newer"},

	{"kube-proxy that is newer", estatetest.Add("Proxy", "AWS::EKS::Addon", map[string]any{"ClusterName": map[string]any{"Ref": cluster}, "AddonName": "kube-proxy", "AddonVersion": "v1.36.0-eksbuild.2"}), one("add-on-version-refused"), "version v1.36.0-eksbuild.2 under a control plane of 1.35"},

	// The key.
	{"key's logical ID", estatetest.All(renamed(secretsKey), estatetest.Property(cluster, "EncryptionConfig.0.Provider.KeyArn", "arn:aws:kms:eu-central-1:111122223333:key/New"+secretsKey)), []string{"alarm-removed", "alias-moved", "encryption-config-changed", "key-deleted"}, "the secrets of a running cluster are under it"},
	{"key's spec", estatetest.Property(secretsKey, "KeySpec", "RSA_4096"), one("key-replaced"), "KeySpec changes from SYMMETRIC_DEFAULT to RSA_4096"},
	{"key for all Regions", estatetest.Property(secretsKey, "MultiRegion", true), one("key-replaced"), "MultiRegion"},
	{"key disabled", estatetest.Property(secretsKey, "Enabled", false), one("key-replaced"), "can't be used"},
	{"rotation off", estatetest.Property(secretsKey, "EnableKeyRotation", false), one("rotation-weakened"), "from true to false"},
	{"rotation not set", estatetest.Property(secretsKey, "EnableKeyRotation", nil), one("rotation-weakened"), "not set"},
	{"rotation once a year", estatetest.Property(secretsKey, "RotationPeriodInDays", 365), one("rotation-weakened"), "every 365 days, it was every 90"},
	{"rotation by default", estatetest.Property(secretsKey, "RotationPeriodInDays", nil), one("rotation-weakened"), "365"},
	{"rotation of the audit key off", estatetest.Property(auditKey, "EnableKeyRotation", false), one("rotation-weakened"), ""},
	{"window of a week", estatetest.Property(secretsKey, "PendingWindowInDays", 7), one("retention-weakened"), "7 days, it was 30"},
	{"key not retained", estatetest.Attribute(secretsKey, "DeletionPolicy", "Delete"), one("retention-weakened"), "DeletionPolicy"},
	{"key not retained when replaced", estatetest.Attribute(secretsKey, "UpdateReplacePolicy", nil), one("retention-weakened"), "UpdateReplacePolicy"},

	// Who may do what.
	{"decrypt for the account", add("Allow", root, "kms:Decrypt", nil), one("policy-widened"), "every principal of account 111122223333 that IAM allows it may do kms:Decrypt"},
	{"decrypt for everybody", add("Allow", "*", "kms:Decrypt", nil), one("policy-widened"), "everybody, of any account, may do kms:Decrypt"},
	{"decrypt for another account", add("Allow", map[string]any{"AWS": "444455556666"}, "kms:Decrypt", nil), one("policy-widened"), "account 444455556666"},
	{"everything for an administrator", add("Allow", admin, "kms:*", onlyFrom), one("policy-widened"), "role/Admin"},
	{"a service", add("Allow", map[string]any{"Service": "logs.eu-central-1.amazonaws.com"}, "kms:Decrypt", nil), one("policy-widened"), "logs.eu-central-1.amazonaws.com may do kms:Decrypt"},
	{"everything for the account", statement(account, "Action", "kms:*"), one("policy-widened"), "kms:"},
	{"all but", estatetest.All(statement(account, "Action", nil), statement(account, "NotAction", "kms:Decrypt")), one("policy-widened"), "kms:Encrypt"},
	{"encryption for the plugin", statement(pluginUse, "Action", []any{"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"}), one("policy-widened"), pluginRole + " may do kms:Encrypt"},
	{"any context for the plugin", statement(pluginUse, "Condition", nil), one("policy-widened"), pluginRole + " may do kms:Decrypt, kms:GenerateDataKey"},
	{"any pod for the plugin's role", func(t estatetest.Template) {
		delete(statements(t)[pluginUse].(map[string]any)["Condition"].(map[string]any)["StringEquals"].(map[string]any), "aws:PrincipalTag/kubernetes-namespace")
	}, one("policy-widened"), pluginRole + " may do kms:Decrypt, kms:GenerateDataKey"},
	{"IfExists", func(t estatetest.Template) {
		c := statements(t)[pluginUse].(map[string]any)["Condition"].(map[string]any)
		c["StringEqualsIfExists"] = c["StringEquals"]
		delete(c, "StringEquals")
	}, one("policy-widened"), ""},
	{"grants by the cluster's role", statement(clusterRoleStatement, "Action", []any{"kms:DescribeKey", "kms:ListGrants", "kms:CreateGrant"}), one("policy-widened"), "kms:CreateGrant"},
	{"a policy that is not understood", statement(pluginUse, "Condition", map[string]any{"StringSounds": map[string]any{"a:b": "c"}}), one("policy-not-understood"), "StringSounds"},
	{"creators dropped", without(creatorsGrant), one("principal-dropped"), "may no longer do kms:CreateGrant"},
	{"cluster's role dropped", without(clusterRoleStatement), one("principal-dropped"), clusterRole + " may no longer do"},
	{"plugin dropped", without(pluginUse), one("principal-dropped"), pluginRole + " may no longer do kms:Decrypt, kms:GenerateDataKey"},
	{"plugin's context changed", statement(pluginUse, "Condition.StringEquals.kms:EncryptionContext:ekskms:cluster-arn", "other"), []string{"policy-widened", "principal-dropped"}, "kms:encryptioncontext:ekskms:cluster-arn"},
	{"EKS locked out by a perimeter", add("Deny", "*", []any{"kms:Encrypt", "kms:Decrypt"}, map[string]any{"StringNotEquals": map[string]any{"aws:SourceVpce": "vpce-0123456789abcdef0"}}), one("cluster-locked-out"), "under its grant"},
	{"deployer without PutKeyPolicy", statement(account, "Principal", map[string]any{"AWS": "arn:aws:iam::111122223333:role/KeyAdmin"}), []string{"key-creation-refused", "policy-widened", "principal-dropped"}, "kms:PutKeyPolicy"},
	{"lockout check bypassed", estatetest.Property(secretsKey, "BypassPolicyLockoutSafetyCheck", true), one("key-lockout-check-bypassed"), "is true"},
	{"topic without a policy", estatetest.Drop("AuditTrailAlarmsPolicy9CBECA05"), []string{"alarm-removed", "alarm-undeliverable"}, "no policy"},
	{"an access entry", estatetest.Add("More", "AWS::EKS::AccessEntry", map[string]any{"ClusterName": "ekskms", "PrincipalArn": "arn:aws:iam::111122223333:role/Mallory"}), one("access-widened"), "role/Mallory gets an access entry"},
	{"trail with a prefix", estatetest.Property(trail, "S3KeyPrefix", "eks"), one("trail-undeliverable"), "eks/AWSLogs/"},
	{"trust of another source", estatetest.Property(pluginRole, "AssumeRolePolicyDocument.Statement.0.Condition", map[string]any{"ArnLike": map[string]any{"aws:SourceArn": "arn:aws:eks:eu-central-1:111122223333:podidentityassociation/ekskms/*"}}), []string{"policy-widened", "trust-never-matches"}, "Pod Identity"},
	{"plugin denied", add("Deny", plugin, "kms:Decrypt", nil), one("principal-dropped"), "may no longer do kms:Decrypt"},
	{"account's administration dropped", without(account), []string{"key-creation-refused", "principal-dropped"}, ":root may no longer do"},

	// The record.
	{"trail dropped", estatetest.Drop(trail), one("trail-weakened"), "is gone"},
	{"trail off", estatetest.Property(trail, "IsLogging", false), one("trail-weakened"), "IsLogging"},
	{"trail unvalidated", estatetest.Property(trail, "EnableLogFileValidation", false), one("trail-weakened"), "EnableLogFileValidation"},
	{"trail of one Region", estatetest.Property(trail, "IsMultiRegionTrail", false), one("trail-weakened"), "IsMultiRegionTrail"},
	{"trail in the clear", estatetest.Property(trail, "KMSKeyId", nil), one("trail-weakened"), "KMSKeyId"},
	{"trail without KMS", estatetest.Property(trail, "EventSelectors.0.ExcludeManagementEventSources", []any{"kms.amazonaws.com"}), one("trail-weakened"), "selector 1"},
	{"trail elsewhere", estatetest.Property(trail, "S3BucketName", "other"), one("trail-weakened"), "the log goes to other"},
	{"log files for a week", estatetest.Property(bucket, "LifecycleConfiguration.Rules.0.ExpirationInDays", 7), one("retention-weakened"), "7 days"},
	{"bucket unversioned", estatetest.Property(bucket, "VersioningConfiguration.Status", "Suspended"), one("retention-weakened"), "versioning"},
	{"bucket dropped", estatetest.All(estatetest.Drop(bucket), estatetest.Property(trail, "S3BucketName", "other")), []string{"alarm-removed", "retention-weakened", "trail-weakened"}, "the bucket of the trail goes"},
	{"control-plane logs for a week", estatetest.Property(controlLogs, "RetentionInDays", 7), one("retention-weakened"), "7 days, it was 365"},
	{"control-plane logs in the clear", estatetest.Property(controlLogs, "KmsKeyId", nil), one("trail-weakened"), "KmsKeyId"},
	{"alarm dropped", estatetest.Drop(keyDisabled), one("alarm-removed"), "the rule goes"},
	{"alarm disabled", estatetest.Property(keyDisabled, "State", "DISABLED"), one("alarm-removed"), "disabled"},
	{"alarm to nobody", estatetest.Property(keyDisabled, "Targets", nil), one("alarm-removed"), "target"},
	{"alarm for one Region", estatetest.Property(keyDisabled, "EventPattern.detail.awsRegion", []any{"eu-west-1"}), one("alarm-removed"), "awsRegion is asked for"},
	{"alarm for one account", estatetest.Property(keyDisabled, "EventPattern.account", []any{"444455556666"}), one("alarm-removed"), "hears less"},
	{"alarm for one kind of key", estatetest.Property(keyDisabled, "EventPattern.detail.resources.type", []any{"AWS::KMS::ReplicaKey"}), one("alarm-removed"), "hears less"},
	{"alarm under another ID that tells nobody it told", estatetest.All(estatetest.Drop(keyDisabled), estatetest.Add("Other", "AWS::Events::Rule", map[string]any{
		"Name": "other", "State": "ENABLED", "Targets": []any{map[string]any{"Id": "Q", "Arn": "arn:aws:sqs:eu-central-1:111122223333:nobody-reads"}},
		"EventPattern": map[string]any{
			"source": []any{"aws.kms"}, "detail-type": []any{"AWS API Call via CloudTrail"},
			"detail": map[string]any{
				"eventSource": []any{"kms.amazonaws.com"}, "eventName": []any{"DisableKey"},
				"resources": map[string]any{"ARN": []any{map[string]any{"Fn::GetAtt": []any{"SecretsKeyE4821A66", "Arn"}}}},
			},
		},
	})), one("alarm-removed"), "the rule goes"},
	{"alarm for another event", estatetest.Property(keyDisabled, "EventPattern.detail.eventName", []any{"EnableKey"}), one("alarm-removed"), "no longer has DisableKey"},
	{"a finding accepted", estatetest.Attribute(cluster, "Metadata", map[string]any{"ekskms:checks": map[string]any{"suppress": []any{map[string]any{"id": "endpoint-public", "reason": "soon"}}}}), one("check-suppressed"), "endpoint-public is accepted: soon"},
	{"a secret in a manifest", estatetest.Add("Leak", "Custom::AWSCDK-EKS-KubernetesResource", map[string]any{"Manifest": `[{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"data":{"b":"cGFzc3dvcmQ="}}]`}), one("check-regressed"), "secret-in-template"},

	{"trail renamed", estatetest.Property(trail, "TrailName", "other"), []string{"alarm-removed", "trail-undeliverable", "trail-weakened"}, "TrailName changes"},
	{"control-plane logs elsewhere", estatetest.Property(controlLogs, "LogGroupName", "/other"), one("trail-weakened"), "LogGroupName changes"},
	{"bucket public", estatetest.Property(bucket, "PublicAccessBlockConfiguration.BlockPublicPolicy", false), one("trail-weakened"), "BlockPublicPolicy"},
	{"bucket renamed", estatetest.Property(bucket, "BucketName", "other"), []string{"alarm-removed", "retention-weakened", "trail-weakened"}, "BucketName changes"},
	{"bucket for everybody", func(t estatetest.Template) {
		policy := t.Resource(bucketPolicy)["Properties"].(map[string]any)["PolicyDocument"].(map[string]any)
		policy["Statement"] = append(policy["Statement"].([]any), map[string]any{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"})
	}, one("policy-widened"), "allows s3:GetObject to *"},
	{"bucket without TLS", func(t estatetest.Template) {
		policy := t.Resource(bucketPolicy)["Properties"].(map[string]any)["PolicyDocument"].(map[string]any)
		policy["Statement"] = slices.DeleteFunc(policy["Statement"].([]any), func(s any) bool { return s.(map[string]any)["Effect"] == "Deny" })
	}, one("policy-widened"), "denied s3:*"},
	{"topic dropped", estatetest.Drop(topic), one("alarm-removed"), "the topic goes"},
	{"topic renamed", estatetest.Property(topic, "TopicName", "other"), []string{"alarm-removed", "alarm-undeliverable"}, "TopicName"},
	{"topic in the clear", estatetest.Property(topic, "KmsMasterKeyId", nil), one("trail-weakened"), "KmsMasterKeyId"},
	{"alias to another key", estatetest.Property("SecretsKeyAliasF590BEF1", "TargetKeyId", "other"), one("alias-moved"), "TargetKeyId"},
	{"anybody becomes the plugin", func(t estatetest.Template) {
		policy := t.Resource(pluginRole)["Properties"].(map[string]any)["AssumeRolePolicyDocument"].(map[string]any)
		policy["Statement"] = append(policy["Statement"].([]any), map[string]any{"Effect": "Allow", "Principal": admin, "Action": "sts:AssumeRole"})
	}, one("policy-widened"), "trust policy changes: a new statement allows sts:AssumeRole to arn:aws:iam::111122223333:role/Admin"},

	// What may change.
	{"nothing", func(estatetest.Template) {}, nil, ""},
	{"a tag", estatetest.Property(cluster, "Tags", []any{map[string]any{"Key": "team", "Value": "platform"}}), nil, ""},
	{"a Kubernetes two versions newer", estatetest.Property(cluster, "Version", "1.37"), one("version-skipped"), "1.35 to 1.37"},
	{"a Kubernetes two versions older", estatetest.Property(cluster, "Version", "1.33"), one("version-skipped"), "1.35 to 1.33, and EKS goes back by one"},
	{"a newer Kubernetes", estatetest.Property(cluster, "Version", "1.36"), nil, ""},
	{"rotation sooner is allowed", estatetest.Property(auditKey, "RotationPeriodInDays", 90), nil, ""},
	{"logs for longer", estatetest.Property(controlLogs, "RetentionInDays", 731), nil, ""},
	{"policy in another order", setStatements(func(s []any) []any { slices.Reverse(s); return s }), nil, ""},
	{"statements without names", statement(pluginUse, "Sid", nil), nil, ""},
	{"a Deny that hurts nobody", add("Deny", "*", "kms:*", map[string]any{"Bool": map[string]any{"aws:SecureTransport": "false"}}), nil, ""},
	{"grants through EKS only", statement(creatorsGrant, "Condition.StringEquals", map[string]any{"kms:GrantConstraintType": []any{"EncryptionContextEquals", "EncryptionContextSubset"}, "kms:ViaService": "eks.eu-central-1.amazonaws.com"}), nil, ""},
	{"grants for tenants too", statement(creatorsGrant, "Condition.ForAllValues:StringNotEqualsIgnoreCase", nil), one("policy-widened"), "kms:CreateGrant"},
	{"grants for anything", statement(creatorsGrant, "Condition.StringEquals", nil), one("policy-widened"), "kms:CreateGrant"},
	{"a statement said twice", add("Allow", plugin, "kms:DescribeKey", map[string]any{"StringEquals": map[string]any{
		"aws:PrincipalTag/eks-cluster-arn": "arn:aws:eks:eu-central-1:111122223333:cluster/ekskms", "aws:PrincipalTag/kubernetes-namespace": "ekskms-system", "aws:PrincipalTag/kubernetes-service-account": "kms-plugin"}}), nil, ""},
	{"another alarm", estatetest.Add("More", "AWS::Events::Rule", map[string]any{"EventPattern": map[string]any{"source": []any{"aws.kms"}}, "Targets": []any{map[string]any{"Arn": "a", "Id": "b"}}}), nil, ""},
	{"an alarm for more", estatetest.Property(keyDisabled, "EventPattern.detail.eventName", []any{"DisableKey", "ImportKeyMaterial"}), nil, ""},
	{"the plugin and its statements", estatetest.All(estatetest.Drop(pluginRole, pluginIAM, "EncryptedClusterKmsPluginPodIdentity6ACD28A4"), setStatements(func(s []any) []any { return s[:pluginDescribe] })), nil, ""},
}

func TestMutations(t *testing.T) {
	reached, names := map[string]bool{}, map[string]bool{}
	good := estatetest.Golden(t, "default")
	alone, beside, with := estatetest.Estate(t, good), estatetest.BesideAnother(t, good), estatetest.WithAnother(t, good)
	compare := func(t *testing.T, before, after *estate.Estate) *finding.Report {
		t.Helper()
		report, err := guard.Compare(before, after, guard.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	for i, m := range mutations {
		if names[m.name] {
			t.Errorf("two mutations are called %q", m.name)
		}
		names[m.name] = true
		for _, id := range m.want {
			reached[id] = true
		}
		if estatetest.Race && i%5 > 0 {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			after := estatetest.Golden(t, "default")
			m.apply(after)
			report := compare(t, alone, estatetest.Estate(t, after))
			var messages []string
			for _, f := range report.Findings {
				messages = append(messages, f.Rule+" "+f.Resource+": "+f.Message)
			}
			text := strings.Join(messages, "\n")
			if diff := cmp.Diff(m.want, found(report)); diff != "" {
				t.Errorf("- want, + found\n%s%s", diff, text)
			}
			if !strings.Contains(text, m.says) {
				t.Errorf("nothing says %q:\n%s", m.says, text)
			}
			if estatetest.Race {
				return
			}
			if diff := cmp.Diff(m.want, found(compare(t, beside, estatetest.BesideAnother(t, after)))); diff != "" {
				t.Errorf("beside another stack: - want, + found\n%s", diff)
			}
			if diff := cmp.Diff(m.want, found(compare(t, with, estatetest.WithAnother(t, after)))); diff != "" {
				t.Errorf("with another cluster: - want, + found\n%s", diff)
			}
		})
	}
	for _, rule := range guard.Rules() {
		// Those two are of several stacks: test/snapshot, TestGuardOfFleets.
		if !reached[rule.ID] && rule.ID != "cluster-moved" && rule.ID != "record-moved" {
			t.Errorf("no mutation reaches %s", rule.ID)
		}
	}
}

// TestGoldens: no example differs from itself, in either way that it is written.
func TestGoldens(t *testing.T) {
	for _, name := range goldens {
		if report := compare(t, estatetest.Golden(t, name), estatetest.Golden(t, name)); len(report.Findings) > 0 {
			t.Errorf("%s: %+v", name, report.Findings)
		}
	}
}

// TestSelf: no template that can be read differs from itself, whatever is wrong with it.
func TestSelf(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../check/testdata/foreign/*.*", "../cli/testdata/cases/*.*"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) < 10 {
			t.Fatalf("%d files like %s, %v", len(found), pattern, err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		if base := filepath.Base(file); base == "expected.yaml" || base == "cases.json" {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			var sides []*estate.Estate
			for range 2 {
				a, err := cfn.Load(file, cfn.Environment{Account: "111122223333", Region: "eu-central-1"})
				if err != nil {
					t.Fatal(err)
				}
				sides = append(sides, estate.FromTemplates(a))
			}
			report, err := guard.Compare(sides[0], sides[1], guard.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range report.Findings {
				t.Errorf("%s %s: %s", f.Rule, f.Resource, f.Message)
			}
		})
	}
}

// TestNarrowed: taking a statement away widens nothing, though 'ekskms check' may have
// more to say on what is left.
func TestNarrowed(t *testing.T) {
	before, after := estatetest.Golden(t, "default"), estatetest.Golden(t, "default")
	estatetest.All(statement(account, "Action", "kms:*"), add("Allow", "*", "kms:*", nil))(before)
	statement(account, "Action", "kms:*")(after)
	if ids := found(compare(t, before, after)); slices.Contains(ids, "policy-widened") || slices.Contains(ids, "check-regressed") {
		t.Errorf("found %q", ids)
	}
	// A key that is new is judged, though there is nothing to compare it with.
	after = estatetest.Golden(t, "default")
	statements := []any{map[string]any{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}}
	estatetest.All(
		estatetest.Add("OtherKey", "AWS::KMS::Key", map[string]any{"EnableKeyRotation": true, "KeyPolicy": map[string]any{"Version": "2012-10-17", "Statement": statements}}),
		estatetest.Add("Other", "AWS::EKS::Cluster", map[string]any{
			"RoleArn": "arn:aws:iam::111122223333:role/Other", "EncryptionConfig": []any{map[string]any{"Resources": []any{"secrets"}, "Provider": map[string]any{"KeyArn": map[string]any{"Fn::GetAtt": []any{"OtherKey", "Arn"}}}}},
		}))(after)
	if report := compare(t, estatetest.Golden(t, "default"), after); !slices.ContainsFunc(report.Findings, func(f finding.Finding) bool {
		return f.Rule == "check-regressed" && strings.HasPrefix(f.Message, "key-policy-any-principal")
	}) {
		t.Errorf("found %+v", report.Findings)
	}
}

func TestAccepted(t *testing.T) {
	before, after := estatetest.Golden(t, "default"), estatetest.Golden(t, "default")
	estatetest.All(estatetest.Property(secretsKey, "RotationPeriodInDays", 365), estatetest.Property(auditKey, "EnableKeyRotation", false))(after)
	report := compare(t, before, after,
		finding.Suppression{ID: "rotation-weakened", Resource: "ekskms-ekskms/SecretsKey", Reason: "agreed"},
		finding.Suppression{ID: "trail-weakened", Reason: "agreed"})
	if n := report.Count(finding.Low); n != 1 || len(report.Findings) != 2 {
		t.Errorf("%d of %+v are left", n, report.Findings)
	}
	if len(report.Notes) == 0 || !strings.Contains(report.Notes[len(report.Notes)-1].Message, "trail-weakened") {
		t.Errorf("that nothing was found of what is accepted is not said: %+v", report.Notes)
	}
	for _, bad := range []finding.Suppression{{ID: "nothing", Reason: "a"}, {ID: "key-deleted"}} {
		if _, err := guard.Compare(estatetest.Estate(t, before), estatetest.Estate(t, after), guard.Options{Accepted: []finding.Suppression{bad}}); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// TestNoValues: a message names the keys of an encryption context, not the values.
func TestNoValues(t *testing.T) {
	before, after := estatetest.Golden(t, "default"), estatetest.Golden(t, "default")
	statement(pluginUse, "Condition.StringEquals.kms:EncryptionContext:ekskms:cluster-arn", "a-value-of-the-context")(after)
	for _, f := range compare(t, before, after).Findings {
		if strings.Contains(f.Message, "a-value-of-the-context") {
			t.Errorf("%s", f.Message)
		}
	}
}

// TestOlderModule: clusters of CDK's older module are compared too.
func TestOlderModule(t *testing.T) {
	read := func() (template estatetest.Template, id string) {
		data, err := os.ReadFile("../check/testdata/foreign/05-cdk-eks-blueprints.json")
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &template); err != nil {
			t.Fatal(err)
		}
		for id, r := range template["Resources"].(map[string]any) {
			if r.(map[string]any)["Type"] == "Custom::AWSCDK-EKS-Cluster" {
				return template, id
			}
		}
		t.Fatal("there is no such cluster")
		return nil, ""
	}
	for want, change := range map[string]func(id string) estatetest.Change{
		"":                           func(string) estatetest.Change { return estatetest.All() },
		"cluster-deleted":            func(id string) estatetest.Change { return estatetest.Drop(id) },
		"cluster-replaced":           func(id string) estatetest.Change { return estatetest.Property(id, "Config.name", "other") },
		"encryption-config-changed":  func(id string) estatetest.Change { return estatetest.Property(id, "Config.encryptionConfig", []any{}) },
		"control-plane-log-weakened": func(id string) estatetest.Change { return estatetest.Property(id, "Config.logging", nil) },
	} {
		before, _ := read()
		after, id := read()
		logging := estatetest.Property(id, "Config.logging", map[string]any{"clusterLogging": []any{map[string]any{"enabled": true, "types": []any{"audit"}}}})
		logging(before)
		estatetest.All(logging, change(id))(after)
		ids := found(compare(t, before, after))
		if want == "" && len(ids) > 0 || want != "" && !slices.Contains(ids, want) {
			t.Errorf("found %q, want %q", ids, want)
		}
	}
}

// TestStacks: stacks are compared by name, and one that is gone is said.
func TestStacks(t *testing.T) {
	folder := func(stacks ...string) *estate.Estate {
		dir := t.TempDir()
		artifacts := map[string]any{}
		for _, name := range stacks {
			data, err := json.Marshal(estatetest.Golden(t, "default"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name+".template.json"), data, 0o600); err != nil {
				t.Fatal(err)
			}
			artifacts[name] = map[string]any{"type": "aws:cloudformation:stack", "environment": "aws://111122223333/eu-central-1", "properties": map[string]any{"templateFile": name + ".template.json"}}
		}
		data, err := json.Marshal(map[string]any{"version": "54.0.0", "artifacts": artifacts})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "manifest.json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := cfn.Load(dir, cfn.Environment{})
		if err != nil {
			t.Fatal(err)
		}
		return estate.FromTemplates(a)
	}
	report, err := guard.Compare(folder("One", "Two"), folder("Two", "Three"), guard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if ids := found(report); !slices.Contains(ids, "cluster-deleted") || !slices.Contains(ids, "key-deleted") {
		t.Errorf("found %q", ids)
	}
	for _, f := range report.Findings {
		if f.Severity < finding.Critical {
			t.Errorf("%s is not said with the cluster: %s", f.Rule, f.Message)
		}
		if f.Stack != "One" {
			t.Errorf("%s in stack %s: %s", f.Rule, f.Stack, f.Message)
		}
	}
	if len(report.Notes) == 0 || !strings.Contains(report.Notes[0].Message, "stack One is not among the new templates") {
		t.Errorf("%+v", report.Notes)
	}
}

// TestNothingWasWeakened: what is new, with faults, was not weakened, removed or opened.
func TestNothingWasWeakened(t *testing.T) {
	bare := estatetest.Template{"Resources": map[string]any{}}
	plain := estatetest.Golden(t, "default")
	for id, r := range plain["Resources"].(map[string]any) {
		if kind := r.(map[string]any)["Type"].(string); strings.HasPrefix(kind, "AWS::EKS::") || strings.HasPrefix(kind, "AWS::EC2::") {
			bare["Resources"].(map[string]any)[id] = r
		}
	}
	data, err := json.Marshal(bare)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		before func(estatetest.Template)
		after  estatetest.Change
	}{
		{"a trail that does not log, where there was none", nil, estatetest.Property(trail, "IsLogging", false)},
		{"a key that does not rotate, where there was none", nil, estatetest.Property(auditKey, "EnableKeyRotation", false)},
		{"encryption without a trail", nil, estatetest.Drop(trail)},
		{"encryption without an alarm", nil, estatetest.Drop(keyDisabled)},
		{"a cluster open to all", estatetest.Drop(cluster), estatetest.Property(cluster, "ResourcesVpcConfig.EndpointPublicAccess", true)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before estatetest.Template
			if err := json.Unmarshal(data, &before); err != nil {
				t.Fatal(err)
			}
			if c.before != nil {
				c.before(before)
			} else {
				estatetest.Property(cluster, "EncryptionConfig", nil)(before)
			}
			after := estatetest.Golden(t, "default")
			c.after(after)
			ids := found(compare(t, before, after))
			for _, id := range ids {
				if strings.HasSuffix(id, "-weakened") || strings.HasSuffix(id, "-removed") || strings.HasSuffix(id, "-opened") || strings.HasSuffix(id, "-dropped") {
					t.Errorf("found %q", ids)
				}
			}
			if !slices.Contains(ids, "check-regressed") {
				t.Errorf("found %q, of which none is the fault", ids)
			}
		})
	}
}

// TestRename: another name of the cluster is one finding, and hides nothing else.
func TestRename(t *testing.T) {
	renamed := func(changes ...estatetest.Change) estatetest.Template {
		data, err := json.Marshal(estatetest.Golden(t, "default"))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer(
			":cluster/ekskms", ":cluster/payments", `"Name":"ekskms"`, `"Name":"payments"`, "ekskms-ekskms", "ekskms-payments", "eks/ekskms", "eks/payments",
		).Replace(string(data))
		var after estatetest.Template
		if err := json.Unmarshal([]byte(text), &after); err != nil {
			t.Fatal(err)
		}
		estatetest.All(changes...)(after)
		return after
	}
	deployer := func(name string) estatetest.Change {
		return add("Allow", map[string]any{"AWS": "arn:aws:iam::111122223333:role/" + name + "-deployer"}, "kms:Decrypt", nil)
	}
	for _, c := range []struct {
		name   string
		before estatetest.Change
		after  []estatetest.Change
		want   []string
	}{
		{"alone", nil, nil, one("cluster-replaced")},
		{"and rotation", nil, []estatetest.Change{estatetest.Property(auditKey, "EnableKeyRotation", false)}, []string{"cluster-replaced", "rotation-weakened"}},
		{"and a role", nil, []estatetest.Change{deployer("Other")}, []string{"cluster-replaced", "policy-widened"}},
		{"and a role elsewhere that is named after it", deployer("ekskms"), []estatetest.Change{deployer("payments")}, []string{"cluster-replaced", "policy-widened", "principal-dropped"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := estatetest.Golden(t, "default")
			if c.before != nil {
				c.before(before)
			}
			report := compare(t, before, renamed(c.after...))
			var all strings.Builder
			for _, f := range report.Findings {
				fmt.Fprintf(&all, "%s %s: %s\n", f.Rule, f.Resource, f.Message)
			}
			if diff := cmp.Diff(c.want, found(report)); diff != "" {
				t.Errorf("- want, + found\n%s%s", diff, all.String())
			}
			if !strings.Contains(all.String(), "Name changes from ekskms to payments; what is named after it changes with it") {
				t.Error(all.String())
			}
		})
	}
}
