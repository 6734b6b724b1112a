//go:build !race

package snapshot

import (
	"cmp"
	"slices"
	"strings"
	"testing"
)

// mutation breaks one thing in a good template.
type mutation struct {
	name string
	// property is the one that must notice.
	property string
	apply    func(template)
}

func onlyResource(kind, path string, to any) func(template) {
	return func(t template) { set(t.only(kind), path, to) }
}

func onStatement(sid, path string, to any) func(template) {
	return func(t template) {
		for _, s := range t.keyStatements() {
			if s["Sid"] == sid {
				set(s, path, to)
				return
			}
		}
		panic("no statement " + sid)
	}
}

func addStatement(statement map[string]any) func(template) {
	return func(t template) {
		policy := at(t.secretsKey(), "Properties.KeyPolicy").(map[string]any)
		policy["Statement"] = append(list(policy["Statement"]), statement)
	}
}

func dropStatement(sid string) func(template) {
	return func(t template) {
		policy := at(t.secretsKey(), "Properties.KeyPolicy").(map[string]any)
		policy["Statement"] = slices.DeleteFunc(list(policy["Statement"]), func(s any) bool { return at(s, "Sid") == sid })
	}
}

func inManifest(old, replacement string) func(template) { return inManifestOf("", old, replacement) }

// inManifestOf changes the first manifest that also has the name.
func inManifestOf(name, old, replacement string) func(template) {
	return func(t template) {
		for _, id := range t.ofType("Custom::AWSCDK-EKS-KubernetesResource") {
			r := t.resources()[id]
			flat := text(at(r, "Properties.Manifest"))
			if strings.Contains(flat, old) && strings.Contains(flat, name) {
				set(r, "Properties.Manifest", strings.Replace(flat, old, replacement, 1))
				return
			}
		}
		panic("no manifest has " + old)
	}
}

func logGroup(t template) resource {
	for _, id := range t.ofType("AWS::Logs::LogGroup") {
		if g := t.resources()[id]; strings.HasPrefix(text(at(g, "Properties.LogGroupName")), "/aws/eks/") {
			return g
		}
	}
	panic("no log group")
}

const accountRoot = "arn:aws:iam::111122223333:root"

var mutations = []mutation{
	{"set that another begins with", "permission sets are told apart by all of their names",
		onStatement("AdministratorsBySet", "Condition.ArnLike.aws:PrincipalArn.0", "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_KeyAdmin_*")},
	{"set of any account", "permission sets are told apart by all of their names",
		onStatement("ClusterCreatorsGrantBySet", "Condition.ArnLike.aws:PrincipalArn.1", "arn:aws:iam::*:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_PlatformDeploy_????????????????")},
	{"creators by any role", "IAM policies alone give no use of the secrets key",
		onStatement("ClusterCreatorsGrant", "Principal.AWS", "arn:aws:iam::111122223333:root")},
	{"endpoint without a private name", "a VPC without a way to the internet has endpoints", func(t template) {
		set(t.resources()["VpcKms28ADD6F7"], "Properties.PrivateDnsEnabled", false)
	}},
	{"no endpoint for Pod Identity", "a VPC without a way to the internet has endpoints", func(t template) {
		delete(t["Resources"].(map[string]any), "VpcEksAuth5E0CFE62")
	}},
	{"disk that is not encrypted", "disks of nodes are under the key of the volumes", func(t template) {
		set(t.resources()[t.ofType("AWS::EC2::LaunchTemplate")[0]], "Properties.LaunchTemplateData.BlockDeviceMappings.0.Ebs.Encrypted", false)
	}},
	{"disk under another key", "disks of nodes are under the key of the volumes", func(t template) {
		set(t.resources()[t.ofType("AWS::EC2::LaunchTemplate")[1]], "Properties.LaunchTemplateData.BlockDeviceMappings.0.Ebs.KmsKeyId", "alias/aws/ebs")
	}},
	{"node group without the template", "disks of nodes are under the key of the volumes", func(t template) {
		delete(t.resources()[t.ofType("AWS::EKS::Nodegroup")[0]]["Properties"].(map[string]any), "LaunchTemplate")
	}},
	{"volumes' key by any service", "disks of nodes are under the key of the volumes", func(t template) {
		set(t.resources()["EncryptedClusterVolumesKey2D8BC16E"], "Properties.KeyPolicy.Statement.2.Condition", map[string]any{})
	}},
	{"volumes' key for any grant", "disks of nodes are under the key of the volumes", func(t template) {
		set(t.resources()["EncryptedClusterVolumesKey2D8BC16E"], "Properties.KeyPolicy.Statement.3.Condition.Bool", map[string]any{})
	}},
	{"all node groups tainted", "one node group always has nodes that take any pod", func(t template) {
		for _, id := range t.ofType("AWS::EKS::Nodegroup") {
			set(t.resources()[id], "Properties.Taints", []any{map[string]any{"Key": "a", "Effect": "NO_SCHEDULE"}})
		}
	}},
	{"nodes left behind", "nodes are those of the cluster's version", func(t template) {
		set(t.resources()[t.ofType("AWS::EKS::Nodegroup")[0]], "Properties.Version", "1.34")
	}},
	{"encryptionConfig removed", "the cluster's secrets are encrypted under a CMK",
		func(t template) {
			delete(t.only("AWS::EKS::Cluster")["Properties"].(map[string]any), "EncryptionConfig")
		}},
	{"encrypted resources emptied", "the cluster's secrets are encrypted under a CMK",
		onlyResource("AWS::EKS::Cluster", "Properties.EncryptionConfig.0.Resources", []any{})},
	{"rotation off", "keys rotate",
		func(t template) { set(t.secretsKey(), "Properties.EnableKeyRotation", false) }},
	{"rotation period gone", "keys rotate",
		func(t template) { set(t.secretsKey(), "Properties.RotationPeriodInDays", nil) }},
	{"key deleted with the stack", "keys outlive the stack",
		func(t template) { set(t.secretsKey(), "DeletionPolicy", "Delete") }},
	{"key deleted when the first deployment fails", "the secrets key outlives even a failed first deployment",
		func(t template) { set(t.secretsKey(), "DeletionPolicy", "RetainExceptOnCreate") }},
	{"log group left behind by a failed deployment", "the control plane logs to an encrypted group that is there first",
		func(t template) { set(logGroup(t), "DeletionPolicy", "Retain") }},
	{"key deleted on replacement", "keys outlive the stack",
		func(t template) { set(t.secretsKey(), "UpdateReplacePolicy", "Delete") }},
	{"kms:* to root", "no key policy has a wildcard principal or kms:*",
		onStatement("AccountAdministration", "Action", "kms:*")},
	{"kms:* to root, seen as delegation", "IAM policies alone give no use of the secrets key",
		onStatement("AccountAdministration", "Action", "kms:*")},
	{"everybody may use the key", "no key policy has a wildcard principal or kms:*",
		onStatement("PluginUse", "Principal", "*")},
	{"GenerateDataKey* for the plugin", "the secrets key's policy spells out its actions",
		onStatement("PluginUse", "Action", []any{"kms:GenerateDataKey*", "kms:Decrypt"})},
	{"Decrypt delegated to IAM", "IAM policies alone give no use of the secrets key",
		addStatement(map[string]any{"Sid": "X", "Effect": "Allow", "Principal": map[string]any{"AWS": accountRoot}, "Action": "kms:Decrypt", "Resource": "*"})},
	{"administration taken from the account", "the account can't be locked out of its key",
		dropStatement("AccountAdministration")},
	{"administration of the account under a condition", "the account can't be locked out of its key",
		onStatement("AccountAdministration", "Condition", map[string]any{"Bool": map[string]any{"aws:MultiFactorAuthPresent": "true"}})},
	{"plugin without the context condition", "the secrets key is used only under the cluster's encryption context",
		onStatement("PluginUse", "Condition", nil)},
	{"plugin with further context keys", "the secrets key is used only under the cluster's encryption context",
		func(t template) {
			for _, s := range t.keyStatements() {
				if s["Sid"] == "PluginUse" {
					delete(s["Condition"].(map[string]any), "ForAllValues:StringEquals")
				}
			}
		}},
	{"the cluster role may decrypt", "the secrets key is used only under the cluster's encryption context",
		onStatement("ClusterRole", "Action", []any{"kms:Decrypt", "kms:DescribeKey", "kms:ListGrants"})},
	{"an unconditioned CreateGrant more", "grants are made by the creators alone",
		addStatement(map[string]any{"Sid": "X", "Effect": "Allow", "Principal": map[string]any{"AWS": "arn:aws:iam::111122223333:role/Other"}, "Action": "kms:CreateGrant", "Resource": "*"})},
	{"the account may make grants", "grants are made by the creators alone",
		onStatement("ClusterCreatorsGrant", "Principal", map[string]any{"AWS": accountRoot})},
	{"the creators forgotten", "grants are made by the creators alone", dropStatement("ClusterCreatorsGrant")},
	{"the cluster role forgotten", "the cluster role sees the key", dropStatement("ClusterRole")},
	{"the plugin's role may read S3", "the plugin's role can do nothing else",
		func(t template) {
			set(t.resources()[t.pluginRole()], "Properties.ManagedPolicyArns", []any{"arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"})
		}},
	{"the plugin's role under any context", "the plugin's role can do nothing else",
		func(t template) {
			for _, id := range t.ofType("AWS::IAM::Policy") {
				for _, s := range list(at(t.resources()[id], "Properties.PolicyDocument.Statement")) {
					if at(s, "Sid") == "PluginUse" {
						set(s, "Condition", nil)
					}
				}
			}
		}},
	{"any pod gets the plugin's role", "only the pods of an association get its role, and each has its own",
		func(t template) {
			set(t.resources()[t.pluginRole()], "Properties.AssumeRolePolicyDocument.Statement.0.Condition", nil)
		}},
	{"pods before their association", "the plugin's pods wait for their association",
		func(t template) {
			for _, id := range t.ofType("Custom::AWSCDK-EKS-KubernetesResource") {
				r := t.resources()[id]
				r["DependsOn"] = slices.DeleteFunc(list(r["DependsOn"]), func(on any) bool { return strings.Contains(text(on), "PodIdentity") })
			}
		}},
	{"ListGrants forgotten", "the plugin sees EKS's grant", onStatement("PluginDescribe", "Action", "kms:DescribeKey")},
	{"ListGrants from any pod", "the plugin sees EKS's grant", onStatement("PluginDescribe", "Condition", nil)},
	{"a tenant's condition gone", "tenants are kept apart", onStatement("TenantUse", "Condition", nil)},
	{"a tenant without its pair", "tenants are kept apart",
		onStatement("TenantUse", "Condition.StringEquals.kms:EncryptionContext:ekskms:tenant", nil)},
	{"the names of two tenants swapped", "tenants are kept apart",
		func(t template) {
			onStatement("TenantUse", "Condition.StringEquals.kms:EncryptionContext:ekskms:tenant", "globex")(t)
			onStatement("TenantUse2", "Condition.StringEquals.kms:EncryptionContext:ekskms:tenant", "acme")(t)
		}},
	{"a tenant under another's name too", "tenants are kept apart",
		onStatement("TenantUse", "Condition.StringEquals.kms:EncryptionContext:ekskms:tenant", []any{"acme", "globex"})},
	{"a tenant with further context keys", "tenants are kept apart",
		onStatement("TenantUse2", "Condition.ForAllValues:StringEquals", nil)},
	{"a tenant's key from another pod", "tenants are kept apart",
		onStatement("TenantUse", "Condition.StringEquals.aws:PrincipalTag/kubernetes-namespace", "vcluster-globex")},
	{"a tenant that sees grants", "tenants are kept apart",
		onStatement("TenantDescribe", "Action", []any{"kms:DescribeKey", "kms:ListGrants"})},
	{"a tenant in another's statement", "tenants are kept apart",
		func(t template) {
			var other any
			for _, s := range t.keyStatements() {
				if s["Sid"] == "TenantUse2" {
					other = at(s, "Principal")
				}
			}
			onStatement("TenantUse", "Principal", other)(t)
		}},
	{"a tenant with the cluster's context", "tenants are kept apart",
		func(t template) {
			onStatement("TenantUse", "Condition.StringEquals.kms:EncryptionContext:ekskms:tenant", nil)(t)
			onStatement("TenantUse", "Condition.ForAllValues:StringEquals.kms:EncryptionContextKeys", "ekskms:cluster-arn")(t)
		}},
	{"a reader without names", "roles of secret readers name secrets", inManifestOf("secret-reader-database", `"resourceNames":["database"],`, ``)},
	{"a reader of the empty name", "roles of secret readers name secrets", inManifestOf("secret-reader-database", `"resourceNames":["database"]`, `"resourceNames":[""]`)},
	{"a reader who may do everything", "roles of secret readers name secrets", inManifestOf("secret-reader-database", `"verbs":["get"]`, `"verbs":["*"]`)},
	{"a reader who may write", "roles of secret readers name secrets", inManifestOf("secret-reader-database", `"verbs":["get"]`, `"verbs":["get","update"]`)},
	{"a reader of every resource", "roles of secret readers name secrets", inManifestOf("secret-reader-database", `"resources":["secrets"]`, `"resources":["*"]`)},
	{"a reader in every namespace", "roles of secret readers name secrets", inManifestOf("secret-reader-database", `"kind":"Role"`, `"kind":"ClusterRole"`)},
	{"everybody is a reader", "roles of secret readers name secrets", inManifestOf("secret-reader-database", `"name":"shop-developers"`, `"name":"system:authenticated"`)},
	{"a reader with an access policy", "readers get groups and no access policy",
		func(t template) {
			for _, id := range t.ofType("AWS::EKS::AccessEntry") {
				if strings.HasPrefix(id, "SecretsRbac") {
					set(t.resources()[id], "Properties.AccessPolicies", []any{map[string]any{"PolicyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"}})
				}
			}
		}},
	{"a reader among the masters", "readers get groups and no access policy",
		func(t template) {
			for _, id := range t.ofType("AWS::EKS::AccessEntry") {
				if entry := t.resources()[id]; at(entry, "Properties.KubernetesGroups") != nil {
					set(entry, "Properties.KubernetesGroups", []any{"system:masters"})
				}
			}
		}},
	{"a guard of creation alone", "the guard judges every new rule", inManifest(`["CREATE","UPDATE"]`, `["CREATE"]`)},
	{"a guard that gives way", "the guard judges every new rule", inManifest(`"failurePolicy":"Fail"`, `"failurePolicy":"Ignore"`)},
	{"a guard of roles alone", "the guard judges every new rule", inManifest(`["roles","clusterroles"]`, `["roles"]`)},
	{"a guard that only logs", "the guard judges every new rule", inManifest(`["Warn","Audit"]`, `["Audit"]`)},
	{"any cluster gets the cluster role", "only this cluster gets the cluster role",
		func(t template) {
			id := at(t.only("AWS::EKS::Cluster"), "Properties.RoleArn.Fn::GetAtt.0").(string)
			set(t.resources()[id], "Properties.AssumeRolePolicyDocument.Statement.0.Condition", nil)
		}},
	{"public endpoint", "the API endpoint is not open to the world",
		onlyResource("AWS::EKS::Cluster", "Properties.ResourcesVpcConfig.EndpointPublicAccess", true)},
	{"audit log off", "the control plane logs to an encrypted group that is there first",
		onlyResource("AWS::EKS::Cluster", "Properties.Logging.ClusterLogging.EnabledTypes", []any{map[string]any{"Type": "api"}})},
	{"log group without a key", "the control plane logs to an encrypted group that is there first",
		func(t template) { set(logGroup(t), "Properties.KmsKeyId", nil) }},
	{"cluster before its log group", "the control plane logs to an encrypted group that is there first",
		onlyResource("AWS::EKS::Cluster", "DependsOn", []any{})},
	{"creator is cluster admin", "access is by access entries only",
		onlyResource("AWS::EKS::Cluster", "Properties.AccessConfig.BootstrapClusterCreatorAdminPermissions", true)},
	{"aws-auth again", "access is by access entries only",
		onlyResource("AWS::EKS::Cluster", "Properties.AccessConfig.AuthenticationMode", "API_AND_CONFIG_MAP")},
	{"deletion protection off", "the cluster is protected against deletion",
		onlyResource("AWS::EKS::Cluster", "Properties.DeletionProtection", false)},
	{"log validation off", "the trail records everything",
		onlyResource("AWS::CloudTrail::Trail", "Properties.EnableLogFileValidation", false)},
	{"trail stopped", "the trail records everything",
		onlyResource("AWS::CloudTrail::Trail", "Properties.IsLogging", false)},
	{"trail excludes KMS", "the trail records everything",
		onlyResource("AWS::CloudTrail::Trail", "Properties.EventSelectors.0.ExcludeManagementEventSources", []any{"kms.amazonaws.com"})},
	{"trail records writes only", "the trail records everything",
		onlyResource("AWS::CloudTrail::Trail", "Properties.EventSelectors.0.ReadWriteType", "WriteOnly")},
	{"trail under the secrets key", "the trail's logs are under a key of their own",
		func(t template) {
			set(t.only("AWS::CloudTrail::Trail"), "Properties.KMSKeyId", at(t.only("AWS::EKS::Cluster"), "Properties.EncryptionConfig.0.Provider.KeyArn"))
		}},
	{"public bucket", "the trail's bucket is closed, versioned and kept",
		onlyResource("AWS::S3::Bucket", "Properties.PublicAccessBlockConfiguration.BlockPublicPolicy", false)},
	{"bucket without TLS", "the trail's bucket is closed, versioned and kept",
		onlyResource("AWS::S3::BucketPolicy", "Properties.PolicyDocument.Statement", []any{})},
	{"bucket deleted with the stack", "the trail's bucket is closed, versioned and kept",
		onlyResource("AWS::S3::Bucket", "DeletionPolicy", "Delete")},
	{"an alarm disabled", "every tampering raises an alarm",
		func(t template) {
			set(t.resources()[t.ofType("AWS::Events::Rule")[3]], "Properties.State", "DISABLED")
		}},
	{"an alarm without a target", "every tampering raises an alarm",
		func(t template) {
			set(t.resources()[t.ofType("AWS::Events::Rule")[5]], "Properties.Targets", []any{})
		}},
	{"an alarm gone", "every tampering raises an alarm", dropAlarm("ClusterOpened")},
	{"the watcher of alarms gone", "every tampering raises an alarm", dropAlarm("WatcherTampered")},
	{"topic in the clear", "the alarms' topic is encrypted under a key of its own", ofTopic("-alarms", "Properties.KmsMasterKeyId", nil)},
	{"topic under the key of the trail", "the alarms' topic is encrypted under a key of its own",
		func(t template) {
			ofTopic("-alarms", "Properties.KmsMasterKeyId", at(t.only("AWS::CloudTrail::Trail"), "Properties.KMSKeyId"))(t)
		}},
	{"topic's key for any topic", "the alarms' topic is encrypted under a key of its own",
		func(t template) {
			for _, id := range t.ofType("AWS::KMS::Key") {
				if strings.Contains(id, "AlarmsKey") {
					set(t.resources()[id], "Properties.KeyPolicy.Statement.1.Condition", nil)
				}
			}
		}},
	{"queue under a key", "what an alarm has beside its topic needs no customer key",
		onlyResource("AWS::SQS::Queue", "Properties.KmsMasterKeyId", "alias/a")},
	{"no queue", "what an alarm has beside its topic needs no customer key",
		func(t template) {
			set(t.resources()[t.ofType("AWS::Events::Rule")[2]], "Properties.Targets.0.DeadLetterConfig", nil)
		}},
	{"topic of lost alarms under a key", "what an alarm has beside its topic needs no customer key", ofTopic("-undelivered", "Properties.KmsMasterKeyId", "alias/a")},
	{"nobody hears of lost alarms", "what an alarm has beside its topic needs no customer key",
		onlyResource("AWS::CloudWatch::Alarm", "Properties.AlarmActions", []any{})},
	{"log of alarms under a key", "what an alarm has beside its topic needs no customer key",
		func(t template) {
			for _, id := range t.ofType("AWS::Logs::LogGroup") {
				if strings.Contains(id, "AlarmLog") {
					set(t.resources()[id], "Properties.KmsKeyId", "alias/a")
				}
			}
		}},
	{"handler's log in the clear", "the kubectl handler is closed and recorded",
		func(t template) {
			for _, id := range t.ofType("AWS::Logs::LogGroup") {
				if strings.Contains(id, "KubectlLogs") {
					set(t.resources()[id], "Properties.KmsKeyId", nil)
				}
			}
		}},
	{"handler's role for other accounts", "the kubectl handler is closed and recorded",
		func(t template) {
			for _, id := range t.ofType("AWS::IAM::Role") {
				if strings.Contains(id, "KubectlProviderHandler") {
					set(t.resources()[id], "Properties.AssumeRolePolicyDocument.Statement.0.Condition", nil)
				}
			}
		}},
	{"handler off the record", "the kubectl handler is closed and recorded",
		func(t template) {
			trail := t.only("AWS::CloudTrail::Trail")
			set(trail, "Properties.EventSelectors", list(at(trail, "Properties.EventSelectors"))[:1])
		}},
	{"handler without an alarm", "the kubectl handler is closed and recorded", dropAlarm("HandlerChanged")},
	{"handler open to another account", "the kubectl handler is closed and recorded",
		func(t template) {
			t["Resources"].(map[string]any)["Open"] = map[string]any{"Type": "AWS::Lambda::Permission", "Properties": map[string]any{"Principal": "444455556666"}}
		}},
	{"writable root file system", "the plugin's pods are confined",
		inManifest(`"readOnlyRootFilesystem":true`, `"readOnlyRootFilesystem":false`)},
	{"capabilities kept", "the plugin's pods are confined",
		inManifest(`"drop":["ALL"]`, `"drop":["NET_RAW"]`)},
	{"host network", "the plugin's pods are confined",
		inManifest(`"automountServiceAccountToken":false,"containers"`, `"hostNetwork":true,"containers"`)},
}

// dropAlarm takes a rule out.
func dropAlarm(id string) func(template) {
	return func(t template) {
		for _, rule := range t.ofType("AWS::Events::Rule") {
			if strings.Contains(rule, "Alarm"+id) {
				delete(t["Resources"].(map[string]any), rule)
			}
		}
	}
}

// ofTopic sets a property of the topic whose name ends so.
func ofTopic(suffix, path string, value any) func(template) {
	return func(t template) {
		for _, id := range t.ofType("AWS::SNS::Topic") {
			if topic := t.resources()[id]; strings.HasSuffix(text(at(topic, "Properties.TopicName")), suffix) {
				set(topic, path, value)
			}
		}
	}
}

// exampleOf is the example that has what a property is about and the default has not.
var exampleOf = map[string]string{
	"tenants are kept apart":                               "04_tenants_and_secrets",
	"roles of secret readers name secrets":                 "04_tenants_and_secrets",
	"readers get groups and no access policy":              "04_tenants_and_secrets",
	"the guard judges every new rule":                      "04_tenants_and_secrets",
	"one node group always has nodes that take any pod":    "08_node_groups",
	"disks of nodes are under the key of the volumes":      "08_node_groups",
	"nodes are those of the cluster's version":             "08_node_groups",
	"permission sets are told apart by all of their names": "09_isolated",
	"a VPC without a way to the internet has endpoints":    "09_isolated",
}

// TestMutations shows that the properties can fail: each mutation of a template
// is noticed by the property that it breaks.
func TestMutations(t *testing.T) {
	guarded := map[string]bool{}
	for _, m := range mutations {
		guarded[m.property] = true
		t.Run(m.name, func(t *testing.T) {
			check, ok := properties[m.property]
			if !ok {
				t.Fatalf("there is no property %q", m.property)
			}
			broken := templates[cmp.Or(exampleOf[m.property], "default")].clone()
			m.apply(broken)
			if err := check(broken); err == nil {
				t.Errorf("nobody noticed: %q still holds", m.property)
			}
		})
	}
	for property := range properties {
		if !guarded[property] {
			t.Errorf("no mutation shows that %q can fail", property)
		}
	}
}
