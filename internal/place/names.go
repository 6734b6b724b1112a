package place

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// The names here are fixed: a policy must hold them before the resource is there, and
// every renderer must give them alike. A Region may be a token of the renderer; the
// name of the cluster may not.

// Stack is the name of a cluster's stack. It is part of the contract:
// under another name a deployment would make a second cluster.
//
// CloudFormation takes letters, digits and hyphens. A name with underscores gets
// a hash behind it, or the clusters a_b and a-b would have one stack.
func Stack(cluster string) string {
	if !strings.Contains(cluster, "_") {
		return "ekskms-" + cluster
	}
	return "ekskms-" + strings.ReplaceAll(cluster, "_", "-") + "-" + ShortHash(cluster)
}

// Shared is what stands in place of a cluster's name in the names of what several
// clusters share.
const Shared = "shared"

// AdoptionStack is the stack with what a cluster needs that exists elsewhere.
func AdoptionStack(cluster string) string { return Stack("adoption-" + cluster) }

// SharedStack is the stack with the record of the clusters in an account and Region, and
// AlarmsStack that with the alarms on them.
func SharedStack(account, region string) string { return ofPlace("ekskms-shared", account, region) }

// AlarmsStack is described at [SharedStack].
func AlarmsStack(account, region string) string { return ofPlace("ekskms-alarms", account, region) }

// KeysStack is the stack with the keys of clusters of other accounts.
func KeysStack(account, region string) string { return ofPlace("ekskms-keys", account, region) }

// NetworkStack is the stack with the VPC of several clusters.
func NetworkStack(account, region string) string { return ofPlace("ekskms-network", account, region) }

// VPCExport is the name under which that exports the VPC's ID, and SubnetExport that of one
// of its subnets for nodes, counted from 1.
const VPCExport = "ekskms-network-VpcId"

// SubnetExport is described at [VPCExport].
func SubnetExport(n int) string { return fmt.Sprintf("ekskms-network-SubnetId%d", n) }

// KeyIDMetadata is the metadata of a key of KMS with its ID, which only a deployment can tell:
// a cluster in another account has it in its template. Who reads it says that it was taken
// for true.
const KeyIDMetadata = "ekskms:keyId"

// KeyOutput is the ID of the output with the ARN of a cluster's key there.
func KeyOutput(cluster string) string { return "KeyArn" + ShortHash(cluster) }

// PluginRolePath is the IAM path of the roles of plugins where the policy of a key must name
// them before they are there.
func PluginRolePath(cluster string) string { return ClusterRolePath(cluster) + "plugin/" }

// TenantRolePath is that of the roles of a tenant.
func TenantRolePath(cluster, tenant string) string {
	return ClusterRolePath(cluster) + "tenants/" + tenant + "/"
}

func ofPlace(name, account, region string) string {
	if account == "" {
		return name
	}
	return name + "-" + account + "-" + region
}

// KeyExport is the name under which the stack of a cluster that shares its record exports
// the ARN of its key, and LogsKeyExport that of the key of its logs.
func KeyExport(cluster string) string { return Stack(cluster) + "-KeyArn" }

// LogsKeyExport is described at [KeyExport].
func LogsKeyExport(cluster string) string { return Stack(cluster) + "-LogsKeyArn" }

// SecretsAlias is the alias of a new secrets key that is given none.
func SecretsAlias(cluster string) string { return "alias/eks/" + cluster }

// AuditAlias is the alias of the key of the audit trail and the alarms.
func AuditAlias(cluster string) string { return "alias/eks/" + cluster + "/audit" }

// VolumesAlias is the alias of the key of the volumes.
func VolumesAlias(cluster string) string { return "alias/eks/" + cluster + "/volumes" }

// LogsAlias is the alias of the key of the control plane's logs.
func LogsAlias(cluster string) string { return "alias/eks/" + cluster + "/logs" }

// ControlPlaneLogGroup is the log group to which EKS writes. Source: Amazon EKS
// User Guide, "Send control plane logs to CloudWatch Logs".
func ControlPlaneLogGroup(cluster string) string { return "/aws/eks/" + cluster + "/cluster" }

// TrailLogGroup is the log group that has a copy of a cluster's trail.
func TrailLogGroup(cluster string) string { return "/ekskms/" + cluster + "/trail" }

// Topic is the topic of the alarms.
func Topic(cluster string) string { return "ekskms-" + cluster + "-alarms" }

// TopicDisplay is what the subscribers of the topic see. SNS takes 100 characters.
func TopicDisplay(cluster string) string {
	return "EKS key alarms " + cluster[:min(len(cluster), 85)]
}

// AlarmsAlias is the alias of the key of the alarms' topic.
func AlarmsAlias(cluster string) string { return "alias/eks/" + cluster + "/alarms" }

// FallbackTopic is the topic that tells of alarms that did not arrive.
func FallbackTopic(cluster string) string { return "ekskms-" + cluster + "-undelivered" }

// FallbackDisplay is what its subscribers see.
func FallbackDisplay(cluster string) string {
	return "EKS lost alarms " + cluster[:min(len(cluster), 84)]
}

// AlarmPrefix is how the names of the rules, and of what else belongs to the alarms, begin.
// EventBridge and Lambda take 64 characters, of which 26 are left.
func AlarmPrefix(cluster string) string {
	if len(cluster) > 30 {
		cluster = strings.TrimRight(cluster[:21], "-_") + "-" + ShortHash(cluster)
	}
	return "ekskms-" + cluster + "-"
}

// AlarmQueue is the queue of the alarms that did not arrive.
func AlarmQueue(cluster string) string { return AlarmPrefix(cluster) + "undelivered" }

// UndeliveredAlarm is the CloudWatch alarm on that queue.
func UndeliveredAlarm(cluster string) string { return AlarmPrefix(cluster) + "undelivered" }

// AlarmLogGroup is the log group of the alarms. EventBridge writes only to groups under
// /aws/events/. Source: Amazon EventBridge User Guide, "Amazon CloudWatch Logs
// permissions".
func AlarmLogGroup(cluster string) string { return "/aws/events/ekskms/" + cluster + "/alarms" }

// AlarmLogPolicy is the resource policy by which EventBridge writes to it.
func AlarmLogPolicy(cluster string) string { return AlarmPrefix(cluster) + "alarms" }

// RolesTopic is the topic of the alarms on roles, and RolesStack the stack that makes it, in
// the Region that has the events of IAM.
func RolesTopic(cluster string) string { return "ekskms-" + cluster + "-roles" }

// RolesStack is described at [RolesTopic].
func RolesStack(cluster string) string { return Stack(cluster) + "-roles" }

// RolePrefix is how the names of the roles begin that CloudFormation makes in the stack of a
// cluster. It shortens a long name; that it keeps so much is inferred.
func RolePrefix(cluster string) string {
	prefix := Stack(cluster) + "-"
	return prefix[:min(len(prefix), 24)]
}

// KubectlHandler is the Lambda function that applies Kubernetes objects, KubectlFramework
// the one through which CloudFormation calls it, and KubectlLogGroup the log group of both.
func KubectlHandler(cluster string) string { return AlarmPrefix(cluster) + "kubectl" }

// KubectlFramework is described at [KubectlHandler].
func KubectlFramework(cluster string) string { return AlarmPrefix(cluster) + "kubectl-framework" }

// KubectlLogGroup is described at [KubectlHandler].
func KubectlLogGroup(cluster string) string { return "/ekskms/" + cluster + "/kubectl" }

// ClusterRolePath is the IAM path of the cluster's role where the policy of an
// existing key must name the role before it is made.
func ClusterRolePath(cluster string) string { return "/ekskms/" + cluster + "/" }

// unclean is what CloudTrail refuses in the name of a trail: hyphens and
// underscores next to each other. Source: AWS CloudTrail User Guide, "Naming
// requirements".
var unclean = regexp.MustCompile(`[-_]{2,}|[-_]+$`)

// Trail names the trail of a cluster. The Region is part of it, because a
// multi-Region trail shows up under its name in the other Regions too.
func Trail(cluster, region string) string {
	if unclean.MatchString(cluster) {
		hash := ShortHash(cluster)
		cluster = unclean.ReplaceAllString(cluster, "-")
		cluster = strings.TrimRight(cluster[:min(len(cluster), 90)], "-_") + "-" + hash
	}
	return "ekskms-" + cluster + "-" + region
}

// ShortHash tells names apart that look alike once they are cleaned or cut.
func ShortHash(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:4])
}
