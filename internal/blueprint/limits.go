package blueprint

import (
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/manifest"
)

// Number is what a number is if nothing is said, and its range.
type Number struct {
	Default, Least, Most int
	Unit                 string
}

// Of the keys. Source: AWS KMS API Reference, EnableKeyRotation and
// ScheduleKeyDeletion. The default of a period is the shortest, that of the window the
// longest that KMS takes.
var (
	RotationDays = Number{90, 90, 2560, "days"}
	PendingDays  = Number{30, 7, 30, "days"}
)

// Of the logs. Those of the trail lie in S3, whose lifecycle rules have no least
// period; ours is a day. The others have the periods of [place.LogRetentions].
var (
	TrailDays = Number{365, 1, 36500, "days"}
	LogDays   = Number{Default: 365, Unit: "days"}
)

// KubectlLogDays is how long the logs of the kubectl handler are retained.
const KubectlLogDays = 7

// Of the network. EKS wants subnets in two zones. Source: Amazon EKS User Guide, "EKS
// networking requirements".
const (
	DefaultCIDR  = "10.0.0.0/16"
	DefaultZones = 2
)

// NATGateways of a new VPC.
var NATGateways = Number{1, 1, 6, ""}

// DefaultInstanceType is that of a node group.
const DefaultInstanceType = "m7i.large"

// Sizes of a node group, and of the disks of its nodes. The images need 20 GiB, which are
// the default of EKS; a gp3 volume has at most 16,384 everywhere.
var (
	MinNodes = Number{2, 0, 100000, "nodes"}
	MaxNodes = Number{4, 1, 100000, "nodes"}
	DiskSize = Number{0, 20, 16384, "GiB"}
)

// Quotas of EKS. Source: Amazon EKS User Guide, "View and manage Amazon EKS and Fargate
// service quotas".
const (
	MaxNodeGroups       = 30
	MaxSecurityGroups   = 4
	MaxFargateProfiles  = 10
	MaxFargateSelectors = 5
)

// MetadataHops is how far the answers of an instance's metadata service go: not to pods, which
// would get the rights of the node. EKS has 2 by default. Source: Amazon EKS Best Practices
// Guide, "Restrict access to the instance profile assigned to the worker node".
const MetadataHops = 1

// What may be listed. Administrators, creators and tenants share the 32 KB of a key
// policy: see package keypolicy.
const (
	MaxRoles    = keypolicy.MaxRoles
	MaxRoleText = keypolicy.MaxRoleText

	MaxBreakGlass     = keypolicy.MaxBreakGlass
	MaxBreakGlassText = keypolicy.MaxBreakGlassText

	MaxTenants    = keypolicy.MaxTenants
	MaxTenantText = keypolicy.MaxTenantText
	MaxReaders    = manifest.MaxReaders
	MaxPerReader  = manifest.MaxPerReader
	MaxExemptions = manifest.MaxExemptions
	MaxHostPaths  = manifest.MaxHostPaths
)

// Quotas that AWS has by default. Sources: AWS CloudTrail User Guide, "Quotas in AWS
// CloudTrail"; Amazon EventBridge User Guide, "Amazon EventBridge quotas".
const (
	TrailsInRegion = 5
	RulesOnBus     = 300
)

// KMS calls that the plugin makes to watch a key, each minute and pod. Source:
// internal/kmsplugin, where a test counts them.
const (
	// ProbeCalls are DescribeKey, GenerateDataKey and Decrypt.
	ProbeCalls = 3
	// WatchCalls are ListGrants, by the pods of the Deployment.
	WatchCalls = 1
)

// Replicas is the number of pods of the plugin's Deployment.
const Replicas = manifest.Replicas
