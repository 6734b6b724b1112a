package place

import (
	"crypto/sha256"
	"encoding/hex"
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

// SecretsAlias is the alias of a new secrets key that is given none.
func SecretsAlias(cluster string) string { return "alias/eks/" + cluster }

// AuditAlias is the alias of the key of the audit trail and the alarms.
func AuditAlias(cluster string) string { return "alias/eks/" + cluster + "/audit" }

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
