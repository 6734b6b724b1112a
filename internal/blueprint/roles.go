package blueprint

import (
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/place"
)

// Role is an IAM role.
type Role struct {
	Description string
	// Path is the IAM path, where one matters.
	Path  string
	Trust iampolicy.Statement
	// Managed are the names of policies that AWS manages.
	Managed []string
	// Policy is what its own policy has.
	Policy []iampolicy.Statement
}

// ClusterRole is the role with which EKS runs the cluster. Source of what Auto Mode
// needs: Amazon EKS User Guide, "Amazon EKS Auto Mode cluster IAM role".
func (c Cluster) ClusterRole() Role {
	r := Role{
		Description: "Role of EKS cluster " + c.Name,
		Path:        "/",
		Trust:       keypolicy.ClusterTrust(c.At.Account.Text(), c.ARN(), c.AutoMode()),
		Managed:     []string{"AmazonEKSClusterPolicy"},
	}
	if c.AutoMode() {
		r.Managed = append(r.Managed, "AmazonEKSComputePolicy", "AmazonEKSBlockStoragePolicy", "AmazonEKSLoadBalancingPolicy", "AmazonEKSNetworkingPolicy")
	}
	if c.Key.ARN != "" {
		// The policy of the existing key names it by its path, and lets it in only if
		// its own policy does so too.
		r.Path = place.ClusterRolePath(c.Name)
		r.Policy = []iampolicy.Statement{keypolicy.ClusterRole("").OnResource(c.Key.ARN)}
	}
	return r
}

// byPath is the path of a role where the policy of the key names it by that.
func (c Cluster) byPath(path string) string {
	if c.Key.ByPath {
		return path
	}
	return ""
}

// PluginRole is the role of the plugin's own pods.
func (c Cluster) PluginRole() Role {
	return Role{
		Path:        c.byPath(place.PluginRolePath(c.Name)),
		Description: "Lets the KMS plugin on EKS cluster " + c.Name + " use the key of its secrets",
		Trust:       keypolicy.PluginTrust(c.Session()),
		Policy:      iampolicy.OnResource(c.PluginStatements(), c.KeyARN()),
	}
}

// TenantRole is the role of a tenant's plugin.
func (c Cluster) TenantRole(t Tenant) Role {
	c.Refs.TenantRole = nil // its own policy names no role
	return Role{
		Path:        c.byPath(place.TenantRolePath(c.Name, t.Name)),
		Description: "Lets the KMS plugin of tenant " + t.Name + " on EKS cluster " + c.Name + " use the key of the cluster",
		Trust:       keypolicy.PluginTrust(c.TenantSession(t)),
		Policy:      iampolicy.OnResource(keypolicy.TenantUse(c.tenants([]Tenant{t})), c.KeyARN()),
	}
}

// NodeRole is the role of the nodes. Source: Amazon EKS User Guide, "Amazon EKS node
// IAM role" and "Amazon EKS Auto Mode node IAM role".
func (c Cluster) NodeRole() Role {
	r := Role{
		Description: "Role of the nodes of EKS cluster " + c.Name,
		Trust:       trust("ec2.amazonaws.com"),
		Managed:     []string{"AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryReadOnly"},
	}
	if !c.AutoMode() {
		r.Managed = []string{"AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryReadOnly"}
	}
	return r
}

// FargateRole is the role with which Fargate runs pods. Source: Amazon EKS User Guide,
// "Amazon EKS Pod execution IAM role".
func (c Cluster) FargateRole() Role {
	t := trust("eks-fargate-pods.amazonaws.com")
	t.Condition = iampolicy.Condition{"ArnLike": {"aws:SourceArn": {c.At.ARN("eks", "fargateprofile/"+c.Name+"/*")}}}
	return Role{
		Description: "Runs the Fargate pods of EKS cluster " + c.Name,
		Trust:       t,
		Managed:     []string{"AmazonEKSFargatePodExecutionRolePolicy"},
	}
}

// TrailRole lets CloudTrail write the copy of the trail to its log group.
func (c Cluster) TrailRole(logGroupARN string) Role {
	return Role{
		Description: "Lets CloudTrail write to the log group of EKS cluster " + c.Name,
		Trust:       trust("cloudtrail.amazonaws.com"),
		Policy: []iampolicy.Statement{{
			Effect:   iampolicy.Allow,
			Action:   iampolicy.Values{"logs:CreateLogStream", "logs:PutLogEvents"},
			Resource: iampolicy.Values{logGroupARN + ":*"},
		}},
	}
}

// trust is a role's trust in an AWS service, without conditions.
func trust(service string) iampolicy.Statement {
	return iampolicy.Statement{
		Effect:    iampolicy.Allow,
		Principal: iampolicy.Principal{Service: iampolicy.Values{service}},
		Action:    iampolicy.Values{"sts:AssumeRole"},
	}
}
