// Package blueprint is an encrypted EKS cluster as data: its keys and who may do what
// with them, roles, trail, alarms, log groups, access and Kubernetes objects.
//
// Each renderer fills a [Cluster] with what it knows, and asks it: the CDK constructs
// with CloudFormation's references, Terraform with Terraform's, what is printed with
// plain values. A fact stands here once.
//
// Texts may hold a renderer's tokens: nothing here looks inside one that a
// [place.Value] does not call known.
package blueprint

import (
	"cmp"
	"strings"

	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/internal/place"
)

// Cluster is a cluster and all that is around it. A renderer that makes a part of it
// alone fills in what that part needs.
type Cluster struct {
	Name string
	At   place.Place
	// Shared tells that this is no cluster, but the record and the alarms that the
	// clusters of an account and Region share: see [Shared].
	Shared bool

	KubernetesVersion string
	// SupportType is STANDARD, EXTENDED, or empty for the default of EKS. Source: AWS
	// CloudFormation Template Reference, AWS::EKS::Cluster UpgradePolicy.
	SupportType string
	Network     Network
	// PublicCIDRs are who reaches the API besides the VPC. Nobody, if it is empty.
	PublicCIDRs []string
	Capacity    Capacity
	// MoreAddOns are those of the user's: see [Cluster.AddOns].
	MoreAddOns []AddOn
	// Volumes is nil if no key is chosen for them.
	Volumes *Volumes
	// Overrides are properties of the CloudFormation resource, by their paths.
	Overrides map[string]string

	Key Key
	// Administrators and Creators are the ARNs of roles: see package keypolicy.
	Administrators, Creators []string
	Audit                    Audit
	AccessEntries            []AccessEntry
	// Plugin is nil if none is deployed.
	Plugin  *Plugin
	Secrets Secrets
	// Applied tells that the Kubernetes objects are applied by the renderer, and not by a
	// pipeline of the user's.
	Applied bool
	// KubectlHandler tells that there is one: the CDK has it, where it has objects to apply.
	KubectlHandler bool
	Tags           map[string]string
	CDK            CDK

	Refs Refs
}

// CDK says how the CDK deploys, where that is not its default: names of roles may have its
// placeholders.
type CDK struct {
	Qualifier, PermissionsBoundary                                                 string
	ExecutionRole, DeployRole, LookupRole, FilePublishingRole, ImagePublishingRole string
}

// OwnRoles tells whether a role or the qualifier is another than by default.
func (c CDK) OwnRoles() bool {
	c.PermissionsBoundary = ""
	return c != CDK{}
}

// RoleARN is the ARN of a role by its name, with the placeholders of the CDK.
func (CDK) RoleARN(name string) string {
	return "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/" + name
}

// Creator is the ARN of the role with which CloudFormation works in a place, or "" where
// only the CDK knows it.
func (c CDK) Creator(at place.Place) string {
	switch {
	case c.ExecutionRole != "":
		return c.Role(at, c.ExecutionRole)
	case c.Qualifier != "":
		return at.ExecutionRole(c.Qualifier)
	}
	return ""
}

// Role is the ARN of a role by its name, in a place.
func (c CDK) Role(at place.Place, name string) string {
	return at.IAM("role/" + strings.NewReplacer("${AWS::AccountId}", at.Account.Text(), "${AWS::Region}", at.Region.Text(),
		"${Qualifier}", cmp.Or(c.Qualifier, place.BootstrapQualifier)).Replace(name))
}

// Refs are what is known once a renderer has made it. What is nil is not made, or not
// yet: the statements that would name it are left out.
type Refs struct {
	Key, AuditKey     place.Value
	TopicKey, LogsKey place.Value
	// Bucket is the name of the new trail's bucket.
	Bucket                  place.Value
	ClusterRole, PluginRole place.Value
	// Role is that of the cluster where a policy may name it in any case.
	Role, VolumesKey place.Value
	// NodeRoleName is the name of the nodes' role, and SubnetIDs are those of the nodes.
	NodeRoleName place.Value
	SubnetIDs    []string
	// TrailName is that of an existing trail whose ARN does not tell it.
	TrailName place.Value
	// TenantRole returns the role of a tenant's plugin.
	TenantRole func(tenant string) place.Value
}

func text(v place.Value) string {
	if v == nil {
		return ""
	}
	return v.Text()
}

// Network is an existing VPC, one of several clusters, or a new one.
type Network struct {
	// Shared is in a stack of its own.
	Shared            bool
	ID                string
	SubnetIDs         []string
	CIDR              string
	AvailabilityZones []string
	NATGateways       int
	// Isolated has no way to the internet: see [Endpoints].
	Isolated bool
	// SecurityGroupIDs are further ones of the control plane.
	SecurityGroupIDs []string
}

// Zones is the number of Availability Zones of a new VPC.
func (n Network) Zones() int {
	if zones := len(n.AvailabilityZones); zones > 0 {
		return zones
	}
	return DefaultZones
}

// Key is an existing key, or a new one.
type Key struct {
	ARN                string
	Alias              string
	RotationPeriodDays int
	PendingWindowDays  int
	MultiRegion        bool
	StrictGrants       bool
	// BreakGlass are the ARNs of roles for an emergency.
	BreakGlass []string
	// Account is that of the key, where that is another than the cluster's. ByPath tells
	// that its policy names the roles of the cluster by their IAM paths, before they are
	// there.
	Account string
	ByPath  bool
}

// Audit is how use of the key and tampering with it are recorded and reported.
type Audit struct {
	TrailARN                     string
	RetentionDays                int
	CloudWatchLogsRetentionDays  int
	ControlPlaneLogRetentionDays int
	Emails                       []string
	TopicARN                     string
	Readers                      []string
}

// Plugin is the KMS plugin on the cluster.
type Plugin struct {
	Image        string
	Mode         manifest.Mode
	Architecture string
	Tenants      []Tenant
	HostPaths    []string
}

// Tenant is a hosted control plane on the cluster.
type Tenant struct{ Name, Namespace, ServiceAccount string }

// AccessEntry lets an IAM principal use the Kubernetes API.
type AccessEntry struct {
	PrincipalARN string
	// Policy is the name of an access policy. Empty for an entry that has groups alone.
	Policy string
	// Namespaces in which the policy holds. Everywhere, if it is empty.
	Namespaces []string
	Groups     []string
}

// Secrets is who may read which Kubernetes secrets.
type Secrets struct {
	Readers         []Reader
	Guard           manifest.Guard
	GuardExemptions []string
}

// Reader is a reader of secrets, and the principals that are put in its groups.
type Reader struct {
	manifest.SecretReader
	PrincipalARNs []string
}
