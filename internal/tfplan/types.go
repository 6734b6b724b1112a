package tfplan

import (
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/cfn"
)

// types are the resources that are read, as CloudFormation names them.
var types = map[string]string{
	"aws_eks_cluster":                    "AWS::EKS::Cluster",
	"aws_eks_access_entry":               "AWS::EKS::AccessEntry",
	"aws_eks_addon":                      "AWS::EKS::Addon",
	"aws_eks_identity_provider_config":   "AWS::EKS::IdentityProviderConfig",
	"aws_eks_node_group":                 "AWS::EKS::Nodegroup",
	"aws_eks_pod_identity_association":   "AWS::EKS::PodIdentityAssociation",
	"aws_kms_key":                        "AWS::KMS::Key",
	"aws_kms_external_key":               "AWS::KMS::Key",
	"aws_kms_replica_key":                "AWS::KMS::ReplicaKey",
	"aws_kms_alias":                      "AWS::KMS::Alias",
	"aws_cloudtrail":                     "AWS::CloudTrail::Trail",
	"aws_iam_role":                       "AWS::IAM::Role",
	"aws_iam_role_policy":                "AWS::IAM::RolePolicy",
	"aws_iam_policy":                     "AWS::IAM::ManagedPolicy",
	"aws_iam_user":                       "AWS::IAM::User",
	"aws_iam_user_policy":                "AWS::IAM::UserPolicy",
	"aws_iam_group":                      "AWS::IAM::Group",
	"aws_iam_group_policy":               "AWS::IAM::GroupPolicy",
	"aws_s3_bucket":                      "AWS::S3::Bucket",
	"aws_s3_bucket_policy":               "AWS::S3::BucketPolicy",
	"aws_cloudwatch_event_rule":          "AWS::Events::Rule",
	"aws_sns_topic":                      "AWS::SNS::Topic",
	"aws_sns_topic_policy":               "AWS::SNS::TopicPolicy",
	"aws_sns_topic_subscription":         "AWS::SNS::Subscription",
	"aws_sqs_queue":                      "AWS::SQS::Queue",
	"aws_sqs_queue_policy":               "AWS::SQS::QueuePolicy",
	"aws_lambda_function":                "AWS::Lambda::Function",
	"aws_lambda_permission":              "AWS::Lambda::Permission",
	"aws_cloudwatch_log_metric_filter":   "AWS::Logs::MetricFilter",
	"aws_cloudwatch_metric_alarm":        "AWS::CloudWatch::Alarm",
	"aws_cloudwatch_log_group":           "AWS::Logs::LogGroup",
	"aws_cloudwatch_log_resource_policy": "AWS::Logs::ResourcePolicy",
	"aws_launch_template":                "AWS::EC2::LaunchTemplate",
}

// names are the attributes, beside the ARN, by which others name a resource and that are not
// its name.
var names = map[string]string{
	"aws_kms_key": "key_id", "aws_kms_external_key": "key_id", "aws_kms_replica_key": "key_id", "aws_sqs_queue": "url", "aws_launch_template": "id",
	"aws_s3_bucket": "id",
}

// parts are those of EKS and KMS that are read with another, of which they are a part in
// CloudFormation.
var parts = []string{"aws_eks_access_policy_association", "aws_kms_key_policy", "aws_kms_grant"}

// unread are resources that can let somebody use a key or change what guards it, and that are
// not read: where there is one, that is said.
var unread = []string{
	"aws_iam_user_group_membership", "aws_iam_group_membership", "aws_iam_policy_attachment", "aws_lambda_function_url",
	"kubernetes_manifest", "kubectl_manifest", "helm_release", "kubernetes_cluster_role_binding", "kubernetes_cluster_role_binding_v1", "kubernetes_role_binding", "kubernetes_role_binding_v1",
	"kubernetes_cluster_role", "kubernetes_cluster_role_v1", "aws_cloudformation_stack", "awscc_eks_cluster", "awscc_kms_key", "awscc_iam_role",
}

// properties are those of a resource in a template.
type properties map[string]any

// put sets a property, if there is something. An empty text is what states have for what is
// not set; a filter that is empty takes everything.
func (p properties) put(name string, n node, read func(node) any) {
	if !n.none() {
		if v := read(n); v != nil && (v != "" || name == "FilterPattern") {
			p[name] = v
		}
	}
}

func plain(n node) any  { return n.value() }
func linked(n node) any { return n.link() }

// object is a block with some of its fields.
func (n node) object(fields map[string]string, read func(node) any) map[string]any {
	all := properties{}
	for name, key := range fields {
		all.put(name, n.at(key), read)
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

func (t *translation) run() {
	t.region = t.mainRegion()
	t.resources[t.region] = map[string]any{}
	for _, one := range t.order {
		if one.mode != "managed" {
			continue
		}
		kind := types[one.kind]
		if kind == "" {
			ofClusters := strings.HasPrefix(one.kind, "aws_eks_") || strings.HasPrefix(one.kind, "aws_kms_")
			if slices.Contains(unread, one.kind) || ofClusters && !slices.Contains(parts, one.kind) {
				t.note("%s is not read: what it allows or applies was not judged", one.address)
			}
			continue
		}
		n := t.node(one)
		p := properties{}
		t.fill(one, n, p)
		resource := map[string]any{"Type": kind, "Properties": p, "Metadata": map[string]any{"aws:cdk:path": one.address}}
		metadata := resource["Metadata"].(map[string]any)
		// A log group has its name, and its ARN is written with and without an end.
		if arn := n.at("arn").text(); arn != "" && one.kind != "aws_cloudwatch_log_group" {
			metadata[cfn.ARNMetadata] = arn
		}
		if key := names[one.kind]; key != "" && n.at(key).text() != "" {
			metadata[cfn.NamesMetadata] = []string{n.at(key).text()}
		}
		// What Terraform does with what is taken out of the configuration no plan says: only
		// prevent_destroy keeps it, which is not in a plan.
		const prevent = "lifecycle.prevent_destroy"
		keep := map[string]any{"Ref": prevent}
		t.parameters[prevent] = map[string]any{"Type": "String"}
		if one.kind == "aws_kms_key" || one.kind == "aws_eks_cluster" || one.kind == "aws_s3_bucket" || one.kind == "aws_cloudtrail" || one.kind == "aws_cloudwatch_log_group" || one.kind == "aws_kms_external_key" {
			resource["DeletionPolicy"], resource["UpdateReplacePolicy"] = keep, keep
		}
		if one.kept {
			resource["DeletionPolicy"] = "Retain"
		}
		if one.replaced != "" {
			metadata[cfn.ReplacedMetadata] = one.replaced
		}
		region := t.regionOf(one)
		if t.resources[region] == nil {
			t.resources[region] = map[string]any{}
		}
		t.resources[region][one.id()] = resource
	}
	t.join()
}

// fill fills in the properties of a resource.
func (t *translation) fill(one *thing, n node, p properties) {
	put := func(name, key string) { p.put(name, n.at(strings.Split(key, ".")...), plain) }
	link := func(name, key string) { p.put(name, n.at(strings.Split(key, ".")...), linked) }
	policy := func(name, key string) { p.put(name, n.at(key), node.policy) }
	switch one.kind {
	case "aws_eks_cluster":
		put("Name", "name")
		put("Version", "version")
		link("RoleArn", "role_arn")
		put("DeletionProtection", "deletion_protection")
		if old := (node{t: t, of: one, v: one.before}).at("encryption_config", "provider", "key_arn"); old.text() != "" && old.text() != n.at("encryption_config", "provider", "key_arn").text() {
			t.note("%s gets another key by an update: the AWS provider reports that and does nothing, so EKS keeps the old key while all else moves to the new one (terraform-provider-aws, issue 34883)", one.address)
		}
		if config := n.at("encryption_config"); !config.none() && (config.open() || len(config.items()) > 0) {
			p["EncryptionConfig"] = config.asUnknownUnlessBlocks(func(c node) any {
				return map[string]any{"Provider": map[string]any{"KeyArn": c.at("provider", "key_arn").link()}, "Resources": c.at("resources").value()}
			})
		}
		if vpc := n.at("vpc_config"); !vpc.none() {
			p["ResourcesVpcConfig"] = vpc.object(map[string]string{
				"EndpointPrivateAccess": "endpoint_private_access", "EndpointPublicAccess": "endpoint_public_access", "PublicAccessCidrs": "public_access_cidrs",
				"SubnetIds": "subnet_ids", "SecurityGroupIds": "security_group_ids",
			}, plain)
		}
		if logs := n.at("enabled_cluster_log_types"); !logs.none() {
			var enabled []any
			for _, kind := range logs.items() {
				enabled = append(enabled, map[string]any{"Type": kind.value()})
			}
			p["Logging"] = map[string]any{"ClusterLogging": map[string]any{"EnabledTypes": enabled}}
			if logs.open() {
				p["Logging"] = logs.value()
			}
		}
		access := n.at("access_config").object(map[string]string{
			"AuthenticationMode": "authentication_mode", "BootstrapClusterCreatorAdminPermissions": "bootstrap_cluster_creator_admin_permissions",
		}, plain)
		if access != nil {
			p["AccessConfig"] = access
		}
		if compute := n.at("compute_config").object(map[string]string{"Enabled": "enabled", "NodePools": "node_pools", "NodeRoleArn": "node_role_arn"}, linked); compute != nil {
			p["ComputeConfig"] = compute
		}
	case "aws_eks_access_entry":
		link("ClusterName", "cluster_name")
		link("PrincipalArn", "principal_arn")
		put("KubernetesGroups", "kubernetes_groups")
		put("Type", "type")
	case "aws_eks_addon":
		link("ClusterName", "cluster_name")
		put("AddonName", "addon_name")
		put("AddonVersion", "addon_version")
	case "aws_eks_identity_provider_config":
		link("ClusterName", "cluster_name")
		if oidc := n.at("oidc").object(map[string]string{"IssuerUrl": "issuer_url", "ClientId": "client_id", "GroupsClaim": "groups_claim", "UsernameClaim": "username_claim"}, plain); oidc != nil {
			p["Type"], p["Oidc"] = "oidc", oidc
		}
	case "aws_eks_node_group":
		link("ClusterName", "cluster_name")
		put("NodegroupName", "node_group_name")
		link("NodeRole", "node_role_arn")
		put("Version", "version")
		if template := n.at("launch_template").object(map[string]string{"Id": "id", "Name": "name"}, linked); template != nil {
			p["LaunchTemplate"] = template
		}
	case "aws_eks_pod_identity_association":
		link("ClusterName", "cluster_name")
		put("Namespace", "namespace")
		put("ServiceAccount", "service_account")
		link("RoleArn", "role_arn")
	case "aws_kms_key", "aws_kms_external_key":
		policy("KeyPolicy", "policy") // without one it is the default of KMS
		put("EnableKeyRotation", "enable_key_rotation")
		if n.at("rotation_period_in_days").v != 0.0 { // which a test makes up
			put("RotationPeriodInDays", "rotation_period_in_days")
		}
		put("PendingWindowInDays", "deletion_window_in_days")
		put("KeySpec", "customer_master_key_spec")
		put("KeyUsage", "key_usage")
		put("MultiRegion", "multi_region")
		put("Enabled", "is_enabled")
		put("BypassPolicyLockoutSafetyCheck", "bypass_policy_lockout_safety_check")
		if one.kind == "aws_kms_external_key" {
			p["Origin"] = "EXTERNAL"
			put("Enabled", "enabled")
		}
	case "aws_kms_replica_key":
		policy("KeyPolicy", "policy")
		link("PrimaryKeyArn", "primary_key_arn")
		put("PendingWindowInDays", "deletion_window_in_days")
		put("Enabled", "enabled")
	case "aws_kms_alias":
		put("AliasName", "name")
		link("TargetKeyId", "target_key_id")
	case "aws_cloudtrail":
		t.trail(n, p)
	case "aws_iam_role":
		put("RoleName", "name")
		put("Path", "path")
		policy("AssumeRolePolicyDocument", "assume_role_policy")
		link("PermissionsBoundary", "permissions_boundary")
		p.put("ManagedPolicyArns", n.at("managed_policy_arns"), node.links)
		if inline := n.at("inline_policy"); !inline.none() {
			var all []any
			for _, one := range inline.items() {
				if document := one.at("policy").policy(); document != nil {
					all = append(all, map[string]any{"PolicyName": one.at("name").value(), "PolicyDocument": document})
				}
			}
			if inline.open() {
				p["Policies"] = inline.value()
			} else if all != nil {
				p["Policies"] = all
			}
		}
	case "aws_iam_role_policy":
		link("RoleName", "role")
		put("PolicyName", "name")
		policy("PolicyDocument", "policy")
	case "aws_iam_user_policy":
		link("UserName", "user")
		put("PolicyName", "name")
		policy("PolicyDocument", "policy")
	case "aws_iam_group_policy":
		link("GroupName", "group")
		put("PolicyName", "name")
		policy("PolicyDocument", "policy")
	case "aws_iam_policy":
		put("ManagedPolicyName", "name")
		put("Path", "path")
		policy("PolicyDocument", "policy")
	case "aws_iam_user":
		put("UserName", "name")
		put("Path", "path")
		link("PermissionsBoundary", "permissions_boundary")
	case "aws_iam_group":
		put("GroupName", "name")
		put("Path", "path")
	case "aws_s3_bucket":
		put("BucketName", "bucket")
		put("ObjectLockEnabled", "object_lock_enabled")
	case "aws_s3_bucket_policy":
		link("Bucket", "bucket")
		policy("PolicyDocument", "policy")
	case "aws_cloudwatch_event_rule":
		put("Name", "name")
		put("EventBusName", "event_bus_name")
		policy("EventPattern", "event_pattern")
		put("State", "state")
		if n.at("is_enabled").v == false {
			p["State"] = "DISABLED"
		}
	case "aws_sns_topic":
		put("TopicName", "name")
		link("KmsMasterKeyId", "kms_master_key_id")
	case "aws_sns_topic_policy":
		p.put("Topics", n.at("arn"), func(n node) any { return []any{n.link()} })
		policy("PolicyDocument", "policy")
	case "aws_sns_topic_subscription":
		link("TopicArn", "topic_arn")
		put("Protocol", "protocol")
		link("Endpoint", "endpoint")
		policy("FilterPolicy", "filter_policy")
	case "aws_sqs_queue":
		put("QueueName", "name")
		link("KmsMasterKeyId", "kms_master_key_id")
		put("SqsManagedSseEnabled", "sqs_managed_sse_enabled")
	case "aws_sqs_queue_policy":
		p.put("Queues", n.at("queue_url"), func(n node) any { return []any{n.link()} })
		policy("PolicyDocument", "policy")
	case "aws_lambda_function":
		put("FunctionName", "function_name")
		link("Role", "role")
	case "aws_lambda_permission":
		link("FunctionName", "function_name")
		put("Action", "action")
		put("Principal", "principal")
		link("SourceArn", "source_arn")
		put("SourceAccount", "source_account")
	case "aws_cloudwatch_log_metric_filter":
		link("LogGroupName", "log_group_name")
		put("FilterPattern", "pattern")
		p.put("MetricTransformations", n.at("metric_transformation"), func(n node) any {
			return []any{n.object(map[string]string{"MetricName": "name", "MetricNamespace": "namespace", "MetricValue": "value"}, plain)}
		})
	case "aws_cloudwatch_metric_alarm":
		put("AlarmName", "alarm_name")
		put("MetricName", "metric_name")
		put("Namespace", "namespace")
		put("ComparisonOperator", "comparison_operator")
		put("Threshold", "threshold")
		put("Statistic", "statistic")
		put("EvaluationPeriods", "evaluation_periods")
		put("Period", "period")
		put("TreatMissingData", "treat_missing_data")
		put("ActionsEnabled", "actions_enabled")
		p.put("AlarmActions", n.at("alarm_actions"), node.links)
	case "aws_cloudwatch_log_group":
		put("LogGroupName", "name")
		if n.at("retention_in_days").v != 0.0 { // which keeps them always
			put("RetentionInDays", "retention_in_days")
		}
		link("KmsKeyId", "kms_key_id")
	case "aws_cloudwatch_log_resource_policy":
		put("PolicyName", "policy_name")
		policy("PolicyDocument", "policy_document")
	case "aws_launch_template":
		put("LaunchTemplateName", "name")
		var mappings []any
		for _, m := range n.at("block_device_mappings").items() {
			mapping := properties{}
			mapping.put("DeviceName", m.at("device_name"), plain)
			if ebs := m.at("ebs").object(map[string]string{"KmsKeyId": "kms_key_id", "Encrypted": "encrypted"}, linked); ebs != nil {
				mapping["Ebs"] = ebs
			}
			mappings = append(mappings, mapping)
		}
		p["LaunchTemplateData"] = map[string]any{"BlockDeviceMappings": mappings}
	}
}

// asUnknownUnlessBlocks reads a list of blocks, or takes it for one value that is not known.
func (n node) asUnknownUnlessBlocks(read func(node) any) any {
	if n.open() {
		return n.value()
	}
	all := []any{}
	for _, item := range n.items() {
		all = append(all, read(item))
	}
	return all
}

func (t *translation) trail(n node, p properties) {
	put := func(name, key string) { p.put(name, n.at(key), plain) }
	put("TrailName", "name")
	p.put("S3BucketName", n.at("s3_bucket_name"), linked)
	put("S3KeyPrefix", "s3_key_prefix")
	p.put("KMSKeyId", n.at("kms_key_id"), linked)
	put("IsMultiRegionTrail", "is_multi_region_trail")
	put("IncludeGlobalServiceEvents", "include_global_service_events")
	put("EnableLogFileValidation", "enable_log_file_validation")
	put("IsOrganizationTrail", "is_organization_trail")
	p.put("CloudWatchLogsLogGroupArn", n.at("cloud_watch_logs_group_arn"), linked)
	p.put("CloudWatchLogsRoleArn", n.at("cloud_watch_logs_role_arn"), linked)
	p["IsLogging"] = true
	put("IsLogging", "enable_logging")
	if selectors := n.at("event_selector"); !selectors.none() && len(selectors.items()) > 0 {
		p["EventSelectors"] = selectors.asUnknownUnlessBlocks(func(s node) any {
			return s.object(map[string]string{
				"ReadWriteType": "read_write_type", "IncludeManagementEvents": "include_management_events", "ExcludeManagementEventSources": "exclude_management_event_sources",
			}, plain)
		})
	}
	if selectors := n.at("advanced_event_selector"); !selectors.none() && len(selectors.items()) > 0 {
		p["AdvancedEventSelectors"] = selectors.asUnknownUnlessBlocks(func(s node) any {
			return map[string]any{"FieldSelectors": s.at("field_selector").asUnknownUnlessBlocks(func(f node) any {
				return f.object(map[string]string{
					"Field": "field", "Equals": "equals", "NotEquals": "not_equals", "StartsWith": "starts_with", "NotStartsWith": "not_starts_with",
					"EndsWith": "ends_with", "NotEndsWith": "not_ends_with",
				}, plain)
			})}
		})
	}
}
