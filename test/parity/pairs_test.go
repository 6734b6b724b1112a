package parity

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// pair is a fact, and where each renderer says it: a resource and the way to a property
// of it. In CloudFormation the resource is a construct's path below the stack, in
// Terraform an address. After a | stands what a property is by default, and kept is
// whether the resource outlives its stack.
type pair struct{ fact, cloudFormation, terraform string }

// with is the same pair for one of several resources, which it names in parentheses.
func (p pair) with(name, inTemplate, inModule string) pair {
	return pair{p.fact + " (" + name + ")", strings.ReplaceAll(p.cloudFormation, "%", inTemplate), strings.ReplaceAll(p.terraform, "%", inModule)}
}

// sets are facts whose order is of no matter.
var sets = []string{"cluster: Auto Mode's node pools", "roles: AWS's policies"}

var (
	single = []pair{
		{"cluster: name", "EncryptedCluster/Cluster Name", "aws_eks_cluster.this name"},
		{"cluster: version", "EncryptedCluster/Cluster Version", "aws_eks_cluster.this version"},
		{"cluster: support", "EncryptedCluster/Cluster UpgradePolicy.SupportType", "aws_eks_cluster.this upgrade_policy.support_type"},
		{"cluster: key", "EncryptedCluster/Cluster EncryptionConfig.0.Provider.KeyArn", "aws_eks_cluster.this encryption_config.provider.key_arn"},
		{"cluster: what is encrypted", "EncryptedCluster/Cluster EncryptionConfig.0.Resources", "aws_eks_cluster.this encryption_config.resources"},
		{"cluster: private endpoint", "EncryptedCluster/Cluster ResourcesVpcConfig.EndpointPrivateAccess", "aws_eks_cluster.this vpc_config.endpoint_private_access"},
		{"cluster: public endpoint", "EncryptedCluster/Cluster ResourcesVpcConfig.EndpointPublicAccess", "aws_eks_cluster.this vpc_config.endpoint_public_access"},
		{"cluster: public ranges", "EncryptedCluster/Cluster ResourcesVpcConfig.PublicAccessCidrs", "aws_eks_cluster.this vpc_config.public_access_cidrs"},
		{"cluster: security groups of its own", "EncryptedCluster/Cluster ResourcesVpcConfig.SecurityGroupIds", "aws_eks_cluster.this vpc_config.security_group_ids"},
		{"cluster: logs", "EncryptedCluster/Cluster Logging.ClusterLogging.EnabledTypes.*.Type", "aws_eks_cluster.this enabled_cluster_log_types"},
		{"cluster: authentication", "EncryptedCluster/Cluster AccessConfig.AuthenticationMode", "aws_eks_cluster.this access_config.authentication_mode"},
		{"cluster: its creator is administrator", "EncryptedCluster/Cluster AccessConfig.BootstrapClusterCreatorAdminPermissions", "aws_eks_cluster.this access_config.bootstrap_cluster_creator_admin_permissions"},
		{"cluster: Auto Mode", "EncryptedCluster/Cluster ComputeConfig.Enabled", "aws_eks_cluster.this compute_config.enabled"},
		{"cluster: Auto Mode's node pools", "EncryptedCluster/Cluster ComputeConfig.NodePools", "aws_eks_cluster.this compute_config.node_pools"},
		{"cluster: Auto Mode's load balancing", "EncryptedCluster/Cluster KubernetesNetworkConfig.ElasticLoadBalancing.Enabled", "aws_eks_cluster.this kubernetes_network_config.elastic_load_balancing.enabled"},
		{"cluster: Auto Mode's storage", "EncryptedCluster/Cluster StorageConfig.BlockStorage.Enabled", "aws_eks_cluster.this storage_config.block_storage.enabled"},
		{"cluster: addresses", "EncryptedCluster/Cluster KubernetesNetworkConfig.IpFamily", "aws_eks_cluster.this kubernetes_network_config.ip_family"},
		{"cluster: deletion protection", "EncryptedCluster/Cluster DeletionProtection", "aws_eks_cluster.this deletion_protection"},
		{"cluster: kept", "EncryptedCluster/Cluster kept", "aws_eks_cluster.this kept"},
		{"topic: name", "AuditTrail/Alarms TopicName", "aws_sns_topic.alarms name"},
		{"topic: display name", "AuditTrail/Alarms DisplayName", "aws_sns_topic.alarms display_name"},
		{"topic: key", "AuditTrail/Alarms KmsMasterKeyId", "aws_sns_topic.alarms kms_master_key_id"},
		{"topic: policy", "AuditTrail/AlarmsPolicy PolicyDocument", "aws_sns_topic_policy.alarms policy"},
		{"topic: whose policy", "AuditTrail/AlarmsPolicy Topics.0", "aws_sns_topic_policy.alarms arn"},
		{"lost alarms: topic's name", "AuditTrail/Undelivered TopicName", "aws_sns_topic.undelivered name"},
		{"lost alarms: topic's display name", "AuditTrail/Undelivered DisplayName", "aws_sns_topic.undelivered display_name"},
		{"lost alarms: topic's key", "AuditTrail/Undelivered KmsMasterKeyId", "aws_sns_topic.undelivered kms_master_key_id"},
		{"lost alarms: topic's policy", "AuditTrail/UndeliveredPolicy PolicyDocument", "aws_sns_topic_policy.undelivered policy"},
		{"lost alarms: whose topic's policy", "AuditTrail/UndeliveredPolicy Topics.0", "aws_sns_topic_policy.undelivered arn"},
		{"lost alarms: queue's name", "AuditTrail/UndeliveredQueue QueueName", "aws_sqs_queue.undelivered name"},
		{"lost alarms: queue's retention", "AuditTrail/UndeliveredQueue MessageRetentionPeriod", "aws_sqs_queue.undelivered message_retention_seconds"},
		{"lost alarms: queue's encryption", "AuditTrail/UndeliveredQueue SqsManagedSseEnabled", "aws_sqs_queue.undelivered sqs_managed_sse_enabled"},
		{"lost alarms: queue's key", "AuditTrail/UndeliveredQueue KmsMasterKeyId", "aws_sqs_queue.undelivered kms_master_key_id"},
		{"lost alarms: queue's policy", "AuditTrail/UndeliveredQueuePolicy PolicyDocument", "aws_sqs_queue_policy.undelivered policy"},
		{"lost alarms: whose queue's policy", "AuditTrail/UndeliveredQueuePolicy Queues.0", "aws_sqs_queue_policy.undelivered queue_url"},
		{"lost alarms: alarm's name", "AuditTrail/UndeliveredAlarm AlarmName", "aws_cloudwatch_metric_alarm.undelivered alarm_name"},
		{"lost alarms: alarm's description", "AuditTrail/UndeliveredAlarm AlarmDescription", "aws_cloudwatch_metric_alarm.undelivered alarm_description"},
		{"lost alarms: metric's namespace", "AuditTrail/UndeliveredAlarm Namespace", "aws_cloudwatch_metric_alarm.undelivered namespace"},
		{"lost alarms: metric", "AuditTrail/UndeliveredAlarm MetricName", "aws_cloudwatch_metric_alarm.undelivered metric_name"},
		{"lost alarms: dimension", "AuditTrail/UndeliveredAlarm Dimensions.0.Value", "aws_cloudwatch_metric_alarm.undelivered dimensions.QueueName"},
		{"lost alarms: statistic", "AuditTrail/UndeliveredAlarm Statistic", "aws_cloudwatch_metric_alarm.undelivered statistic"},
		{"lost alarms: period", "AuditTrail/UndeliveredAlarm Period", "aws_cloudwatch_metric_alarm.undelivered period"},
		{"lost alarms: periods", "AuditTrail/UndeliveredAlarm EvaluationPeriods", "aws_cloudwatch_metric_alarm.undelivered evaluation_periods"},
		{"lost alarms: comparison", "AuditTrail/UndeliveredAlarm ComparisonOperator", "aws_cloudwatch_metric_alarm.undelivered comparison_operator"},
		{"lost alarms: threshold", "AuditTrail/UndeliveredAlarm Threshold", "aws_cloudwatch_metric_alarm.undelivered threshold"},
		{"lost alarms: without data", "AuditTrail/UndeliveredAlarm TreatMissingData", "aws_cloudwatch_metric_alarm.undelivered treat_missing_data"},
		{"lost alarms: alarm is on", "AuditTrail/UndeliveredAlarm ActionsEnabled", "aws_cloudwatch_metric_alarm.undelivered actions_enabled"},
		{"lost alarms: whom it tells", "AuditTrail/UndeliveredAlarm AlarmActions", "aws_cloudwatch_metric_alarm.undelivered alarm_actions"},
		{"log of alarms: policy's name", "AuditTrail/AlarmLogPolicy/ResourcePolicy PolicyName", "aws_cloudwatch_log_resource_policy.alarms policy_name"},
		{"log of alarms: policy", "AuditTrail/AlarmLogPolicy/ResourcePolicy PolicyDocument", "aws_cloudwatch_log_resource_policy.alarms policy_document"},
		{"trail: name", "AuditTrail/Trail TrailName", "aws_cloudtrail.this name"},
		{"trail: key", "AuditTrail/Trail KMSKeyId", "aws_cloudtrail.this kms_key_id"},
		{"trail: bucket", "AuditTrail/Trail S3BucketName", "aws_cloudtrail.this s3_bucket_name"},
		{"trail: on", "AuditTrail/Trail IsLogging", "aws_cloudtrail.this enable_logging"},
		{"trail: files are validated", "AuditTrail/Trail EnableLogFileValidation", "aws_cloudtrail.this enable_log_file_validation"},
		{"trail: all Regions", "AuditTrail/Trail IsMultiRegionTrail", "aws_cloudtrail.this is_multi_region_trail"},
		{"trail: global services", "AuditTrail/Trail IncludeGlobalServiceEvents", "aws_cloudtrail.this include_global_service_events"},
		{"trail: copy", "AuditTrail/Trail CloudWatchLogsLogGroupArn", "aws_cloudtrail.this cloud_watch_logs_group_arn"},
		{"trail: management events", "AuditTrail/Trail EventSelectors.0.IncludeManagementEvents", "aws_cloudtrail.this event_selector.include_management_events"},
		{"trail: reads and writes", "AuditTrail/Trail EventSelectors.0.ReadWriteType", "aws_cloudtrail.this event_selector.read_write_type"},
		{"trail: data events", "AuditTrail/Trail EventSelectors.1", "aws_cloudtrail.this event_selector.data_resource"},
		{"bucket: kept", "AuditTrail/Logs kept", "aws_s3_bucket.trail kept"},
		{"bucket: encryption", "AuditTrail/Logs BucketEncryption.ServerSideEncryptionConfiguration.0.ServerSideEncryptionByDefault.SSEAlgorithm", "aws_s3_bucket_server_side_encryption_configuration.trail rule.apply_server_side_encryption_by_default.sse_algorithm"},
		{"bucket: versions", "AuditTrail/Logs VersioningConfiguration.Status", "aws_s3_bucket_versioning.trail versioning_configuration.status"},
		{"bucket: ownership", "AuditTrail/Logs OwnershipControls.Rules.0.ObjectOwnership", "aws_s3_bucket_ownership_controls.trail rule.object_ownership"},
		{"bucket: public ACLs are blocked", "AuditTrail/Logs PublicAccessBlockConfiguration.BlockPublicAcls", "aws_s3_bucket_public_access_block.trail block_public_acls"},
		{"bucket: public policies are blocked", "AuditTrail/Logs PublicAccessBlockConfiguration.BlockPublicPolicy", "aws_s3_bucket_public_access_block.trail block_public_policy"},
		{"bucket: public ACLs are ignored", "AuditTrail/Logs PublicAccessBlockConfiguration.IgnorePublicAcls", "aws_s3_bucket_public_access_block.trail ignore_public_acls"},
		{"bucket: public access is restricted", "AuditTrail/Logs PublicAccessBlockConfiguration.RestrictPublicBuckets", "aws_s3_bucket_public_access_block.trail restrict_public_buckets"},
		{"bucket: retention's name", "AuditTrail/Logs LifecycleConfiguration.Rules.0.Id", "aws_s3_bucket_lifecycle_configuration.trail rule.id"},
		{"bucket: retention's status", "AuditTrail/Logs LifecycleConfiguration.Rules.0.Status", "aws_s3_bucket_lifecycle_configuration.trail rule.status"},
		{"bucket: days", "AuditTrail/Logs LifecycleConfiguration.Rules.0.ExpirationInDays", "aws_s3_bucket_lifecycle_configuration.trail rule.expiration.days"},
		{"bucket: days of old versions", "AuditTrail/Logs LifecycleConfiguration.Rules.0.NoncurrentVersionExpiration.NoncurrentDays", "aws_s3_bucket_lifecycle_configuration.trail rule.noncurrent_version_expiration.noncurrent_days"},
		{"bucket: days of half uploads", "AuditTrail/Logs LifecycleConfiguration.Rules.0.AbortIncompleteMultipartUpload.DaysAfterInitiation", "aws_s3_bucket_lifecycle_configuration.trail rule.abort_incomplete_multipart_upload.days_after_initiation"},
		{"bucket: policy", "AuditTrail/Logs/Policy PolicyDocument", "aws_s3_bucket_policy.trail policy"},
		{"bucket: policy kept", "AuditTrail/Logs/Policy kept", "aws_s3_bucket_policy.trail kept"},
	}

	ofKey = []pair{
		{"keys: description", "% Description", "aws_kms_key.% description"},
		{"keys: policy", "% KeyPolicy", "aws_kms_key.% policy"},
		{"keys: rotation", "% EnableKeyRotation", "aws_kms_key.% enable_key_rotation"},
		{"keys: days of rotation", "% RotationPeriodInDays", "aws_kms_key.% rotation_period_in_days"},
		{"keys: pending window", "% PendingWindowInDays", "aws_kms_key.% deletion_window_in_days"},
		{"keys: multi-Region", "% MultiRegion|false", "aws_kms_key.% multi_region"},
		{"keys: kept", "% kept", "aws_kms_key.% kept"},
	}
	ofAlias = []pair{
		{"keys: alias", "% AliasName", "aws_kms_alias.% name"},
		{"keys: what the alias stands for", "% TargetKeyId", "aws_kms_alias.% target_key_id"},
	}
	ofLogGroup = []pair{
		{"log groups: name", "% LogGroupName", "aws_cloudwatch_log_group.% name"},
		{"log groups: days", "% RetentionInDays", "aws_cloudwatch_log_group.% retention_in_days"},
		{"log groups: key", "% KmsKeyId", "aws_cloudwatch_log_group.% kms_key_id"},
		{"log groups: kept", "% kept", "aws_cloudwatch_log_group.% kept"},
	}
	ofNodeGroup = []pair{
		{"node groups: instance types", "% InstanceTypes", "aws_eks_node_group.% instance_types"},
		{"node groups: image", "% AmiType", "aws_eks_node_group.% ami_type"},
		{"node groups: version", "% Version", "aws_eks_node_group.% version"},
		{"node groups: spot", "% CapacityType", "aws_eks_node_group.% capacity_type"},
		{"node groups: disk", "% DiskSize", "aws_eks_node_group.% disk_size"},
		{"node groups: labels", "% Labels", "aws_eks_node_group.% labels"},
		{"node groups: taint's key", "% Taints.0.Key", "aws_eks_node_group.% taint.key"},
		{"node groups: taint's value", "% Taints.0.Value", "aws_eks_node_group.% taint.value"},
		{"node groups: taint's effect", "% Taints.0.Effect", "aws_eks_node_group.% taint.effect"},
		{"node groups: update by force", "% ForceUpdateEnabled", "aws_eks_node_group.% force_update_version"},
		{"node groups: least size", "% ScalingConfig.MinSize", "aws_eks_node_group.% scaling_config.min_size"},
		{"node groups: greatest size", "% ScalingConfig.MaxSize", "aws_eks_node_group.% scaling_config.max_size"},
		{"node groups: size at first", "% ScalingConfig.DesiredSize", "aws_eks_node_group.% scaling_config.desired_size"},
	}
	ofLaunchTemplate = []pair{
		{"launch templates: first disk", "% LaunchTemplateData.BlockDeviceMappings.0.DeviceName", "aws_launch_template.% block_device_mappings.0.device_name"},
		{"launch templates: first disk's encryption", "% LaunchTemplateData.BlockDeviceMappings.0.Ebs.Encrypted", "aws_launch_template.% block_device_mappings.0.ebs.encrypted"},
		{"launch templates: first disk's key", "% LaunchTemplateData.BlockDeviceMappings.0.Ebs.KmsKeyId", "aws_launch_template.% block_device_mappings.0.ebs.kms_key_id"},
		{"launch templates: first disk's size", "% LaunchTemplateData.BlockDeviceMappings.0.Ebs.VolumeSize", "aws_launch_template.% block_device_mappings.0.ebs.volume_size"},
		{"launch templates: first disk's type", "% LaunchTemplateData.BlockDeviceMappings.0.Ebs.VolumeType", "aws_launch_template.% block_device_mappings.0.ebs.volume_type"},
		{"launch templates: first disk's end", "% LaunchTemplateData.BlockDeviceMappings.0.Ebs.DeleteOnTermination", "aws_launch_template.% block_device_mappings.0.ebs.delete_on_termination"},
		{"launch templates: second disk", "% LaunchTemplateData.BlockDeviceMappings.1.DeviceName", "aws_launch_template.% block_device_mappings.1.device_name"},
		{"launch templates: second disk's encryption", "% LaunchTemplateData.BlockDeviceMappings.1.Ebs.Encrypted", "aws_launch_template.% block_device_mappings.1.ebs.encrypted"},
		{"launch templates: second disk's key", "% LaunchTemplateData.BlockDeviceMappings.1.Ebs.KmsKeyId", "aws_launch_template.% block_device_mappings.1.ebs.kms_key_id"},
		{"launch templates: second disk's size", "% LaunchTemplateData.BlockDeviceMappings.1.Ebs.VolumeSize", "aws_launch_template.% block_device_mappings.1.ebs.volume_size"},
		{"launch templates: second disk's type", "% LaunchTemplateData.BlockDeviceMappings.1.Ebs.VolumeType", "aws_launch_template.% block_device_mappings.1.ebs.volume_type"},
		{"launch templates: second disk's end", "% LaunchTemplateData.BlockDeviceMappings.1.Ebs.DeleteOnTermination", "aws_launch_template.% block_device_mappings.1.ebs.delete_on_termination"},
		{"launch templates: metadata's tokens", "% LaunchTemplateData.MetadataOptions.HttpTokens", "aws_launch_template.% metadata_options.http_tokens"},
		{"launch templates: metadata's hops", "% LaunchTemplateData.MetadataOptions.HttpPutResponseHopLimit", "aws_launch_template.% metadata_options.http_put_response_hop_limit"},
	}
	ofFargate = []pair{
		{"Fargate profiles: namespace", "% Selectors.0.Namespace", "aws_eks_fargate_profile.% selector.namespace"},
		{"Fargate profiles: label", "% Selectors.0.Labels.0.Value", "aws_eks_fargate_profile.% selector.labels.runs-on"},
	}
	ofNodes = []pair{
		{"access of nodes: type", "% Type", "aws_eks_access_entry.% type"},
		{"access of nodes: policy", "% AccessPolicies.0.PolicyArn", "aws_eks_access_policy_association.% policy_arn"},
	}
	ofAddOn = []pair{
		{"add-ons: version", "% AddonVersion", "aws_eks_addon.% addon_version"},
		{"add-ons: role", "% PodIdentityAssociations.0.RoleArn", "aws_eks_addon.% pod_identity_association.role_arn"},
		{"add-ons: service account", "% PodIdentityAssociations.0.ServiceAccount", "aws_eks_addon.% pod_identity_association.service_account"},
		{"add-ons: name", "% AddonName", "aws_eks_addon.% addon_name"},
		{"add-ons: configuration", "% ConfigurationValues", "aws_eks_addon.% configuration_values"},
		{"add-ons: conflicts at first", "% ResolveConflicts", "aws_eks_addon.% resolve_conflicts_on_create"},
		{"add-ons: conflicts later", "% ResolveConflicts", "aws_eks_addon.% resolve_conflicts_on_update"},
	}
	ofEntry = []pair{
		{"access entries: type", "% Type|STANDARD", "aws_eks_access_entry.% type"},
		{"access entries: groups", "% KubernetesGroups", "aws_eks_access_entry.% kubernetes_groups"},
		{"access entries: policy", "% AccessPolicies.0.PolicyArn", "aws_eks_access_policy_association.% policy_arn"},
		{"access entries: scope", "% AccessPolicies.0.AccessScope.Type", "aws_eks_access_policy_association.% access_scope.type"},
		{"access entries: namespaces", "% AccessPolicies.0.AccessScope.Namespaces", "aws_eks_access_policy_association.% access_scope.namespaces"},
		{"access entries: more policies", "% AccessPolicies.1", "aws_eks_access_policy_association.% none"},
	}
	ofAlarm = []pair{
		{"alarms: description", "% Description", "aws_cloudwatch_event_rule.% description"},
		{"alarms: pattern", "% EventPattern", "aws_cloudwatch_event_rule.% event_pattern"},
		{"alarms: state", "% State", "aws_cloudwatch_event_rule.% state"},
		{"alarms: topic", "% Targets.0.Arn", "aws_cloudwatch_event_target.% arn"},
		{"alarms: what is taken from the event", "% Targets.0.InputTransformer.InputPathsMap", "aws_cloudwatch_event_target.% input_transformer.input_paths"},
		{"alarms: what is said", "% Targets.0.InputTransformer.InputTemplate", "aws_cloudwatch_event_target.% input_transformer.input_template"},
		{"alarms: name", "% Name", "aws_cloudwatch_event_rule.% name"},
		{"alarms: queue behind the topic", "% Targets.0.DeadLetterConfig.Arn", "aws_cloudwatch_event_target.% dead_letter_config.arn"},
		{"alarms: seconds of delivery to the topic", "% Targets.0.RetryPolicy.MaximumEventAgeInSeconds", "aws_cloudwatch_event_target.% retry_policy.maximum_event_age_in_seconds"},
		{"alarms: attempts of delivery to the topic", "% Targets.0.RetryPolicy.MaximumRetryAttempts", "aws_cloudwatch_event_target.% retry_policy.maximum_retry_attempts"},
		{"alarms: more targets", "% Targets.2", "aws_cloudwatch_event_target.% none"},
	}
	ofAlarmLog = []pair{
		{"alarms: log", "% Targets.1.Arn", "aws_cloudwatch_event_target.% arn"},
		{"alarms: queue behind the log", "% Targets.1.DeadLetterConfig.Arn", "aws_cloudwatch_event_target.% dead_letter_config.arn"},
		{"alarms: seconds of delivery to the log", "% Targets.1.RetryPolicy.MaximumEventAgeInSeconds", "aws_cloudwatch_event_target.% retry_policy.maximum_event_age_in_seconds"},
		{"alarms: attempts of delivery to the log", "% Targets.1.RetryPolicy.MaximumRetryAttempts", "aws_cloudwatch_event_target.% retry_policy.maximum_retry_attempts"},
	}
	ofRole = []pair{
		{"roles: description", "% Description", "aws_iam_role.% description"},
		{"roles: trust", "% AssumeRolePolicyDocument", "aws_iam_role.% assume_role_policy"},
		{"roles: path", "% Path|/", "aws_iam_role.% path|/"},
		{"roles: policy of its own", "%/DefaultPolicy PolicyDocument", "aws_iam_role_policy.% policy"},
		{"roles: further policies", "%/DefaultPolicy Roles.1", "aws_iam_role_policy.% none"},
	}
	ofManaged     = pair{"roles: AWS's policies", "% ManagedPolicyArns", "aws_iam_role_policy_attachment.%[*] policy_arn"}
	ofAssociation = []pair{
		{"Pod Identity associations: namespace", "% Namespace", "aws_eks_pod_identity_association.% namespace"},
		{"Pod Identity associations: service account", "% ServiceAccount", "aws_eks_pod_identity_association.% service_account"},
		{"Pod Identity associations: role", "% RoleArn", "aws_eks_pod_identity_association.% role_arn"},
	}

	// all are lists of resources: that neither side has one more.
	all = []pair{
		{"access entries: whose", "AWS::EKS::AccessEntry[*] PrincipalArn", "aws_eks_access_entry[*] principal_arn"},
		{"node groups: which", "AWS::EKS::Nodegroup[*] InstanceTypes", "aws_eks_node_group[*] instance_types"},
		{"Fargate profiles: whose", "AWS::EKS::FargateProfile[*] PodExecutionRoleArn", "aws_eks_fargate_profile[*] pod_execution_role_arn"},
		{"alarms: what there are", "AWS::Events::Rule[*] Description", "aws_cloudwatch_event_rule.alarm[*] description"},
		{"topic: subscriptions", "AWS::SNS::Subscription[*] Endpoint", "aws_sns_topic_subscription[*] endpoint"},
		{"topic: protocol", "AWS::SNS::Subscription[*] Protocol", "aws_sns_topic_subscription[*] protocol"},
		{"add-ons: which", "AWS::EKS::Addon[*] AddonName", "aws_eks_addon[*] addon_name"},
		{"Pod Identity associations: whose", "AWS::EKS::PodIdentityAssociation[*] ServiceAccount", "aws_eks_pod_identity_association[*] service_account"},
		{"keys: which", "AWS::KMS::Key[*] Description", "aws_kms_key[*] description"},
	}
)

// roles are those that both renderers make, by the construct path below the stack and
// the name in Terraform.
var roles = map[string]string{
	"EncryptedCluster/ClusterRole":                          "cluster",
	"EncryptedCluster/KmsPlugin/Role":                       "plugin",
	"AuditTrail/Trail/LogsRole":                             "trail",
	"EncryptedCluster/Cluster/ClusternodePoolRole":          "nodes",
	"EncryptedCluster/Cluster/NodegroupNodes/NodeGroupRole": "nodes",
	"EncryptedCluster/NodeRole":                             "nodes",
	"EncryptedCluster/FargateRole":                          "fargate",
}

// table is all pairs of a template.
func (c template) table() []pair {
	table := slices.Concat(single, all)
	of := func(rows []pair, name, inTemplate, inModule string) {
		for _, p := range rows {
			table = append(table, p.with(name, inTemplate, inModule))
		}
	}
	for name, where := range map[string]string{"secrets": "SecretsKey", "audit": "AuditTrail/Key", "alarms": "AuditTrail/AlarmsKey", "logs": "EncryptedCluster/LogsKey", "volumes": "EncryptedCluster/VolumesKey"} {
		of(ofKey, name, strings.Replace(where, "SecretsKey", "SecretsKey/Resource", 1), name)
		of(ofAlias, name, where+"/Alias", name)
	}
	of(ofLogGroup, "control plane", "EncryptedCluster/Logs", "control_plane")
	of(ofLogGroup, "trail", "AuditTrail/TrailCopy", "trail")
	of(ofLogGroup, "alarms", "AuditTrail/AlarmLog", "alarms")
	of(ofNodeGroup, "nodes", "EncryptedCluster/Cluster/NodegroupNodes", "this")
	of(ofAddOn, "pod identity", "EncryptedCluster/PodIdentityAgent", "pod_identity_agent")
	of(ofAddOn, "network", "EncryptedCluster/VpcCni", "vpc_cni")
	of(ofAssociation, "plugin", "EncryptedCluster/KmsPlugin/PodIdentity", "plugin")
	for where, name := range roles {
		if c.at(where) == nil {
			continue
		}
		rows := ofRole
		if name == "nodes" || name == "trail" {
			rows = ofRole[1:] // the CDK makes these, without a description
		}
		of(rows, name, where, name)
		of([]pair{ofManaged}, name, where, name)
	}
	for _, r := range c.assembly.Templates[0].Resources {
		_, below, _ := strings.Cut(r.Path, "/")
		parent, base := path.Split(below)
		if id, ok := strings.CutPrefix(base, "Alarm"); ok && r.Type == "AWS::Events::Rule" && id != "HandlerChanged" {
			of(ofAlarm, id, below, fmt.Sprintf("alarm[%q]", id))
			of(ofAlarmLog, id, below, fmt.Sprintf("log[%q]", id))
		}
		if tenant, ok := strings.CutPrefix(base, "TenantRole-"); ok && r.Type == "AWS::IAM::Role" {
			key := fmt.Sprintf("tenant[%q]", tenant)
			of(ofRole, tenant, below, key)
			of(ofAssociation, tenant, parent+"TenantPodIdentity-"+tenant, key)
		}
		if name, ok := strings.CutPrefix(base, "NodegroupNodes-"); ok {
			of(ofNodeGroup, name, below, name)
		}
		if name, ok := strings.CutPrefix(base, "NodesTemplate-"); ok {
			of(ofLaunchTemplate, name, below, name)
		}
		if name, ok := strings.CutPrefix(base, "Fargate-"); ok {
			of(ofFargate, name, below, name)
		}
		if name, ok := strings.CutPrefix(base, "AddOn-"); ok {
			of(ofAddOn, name, below, name)
		}
		if base == "NodeAccess" {
			of(ofNodes, base, below, "encrypted")
			continue
		}
		if strings.HasPrefix(base, "NodeAccess-") {
			of(ofNodes, "later", below, "nodes")
			continue
		}
		if arn, ok := r.Properties["PrincipalArn"].(string); ok && !strings.Contains(below, handlersEntry) {
			of(ofEntry, arn, below, fmt.Sprintf("this[%q]", arn))
		}
	}
	return table
}

// handlersEntry is the access entry that only the CDK has: see differences.
const handlersEntry = "ClusterAdminRoleAccess"
