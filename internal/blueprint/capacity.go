package blueprint

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// CapacityMode says who brings the nodes.
type CapacityMode string

const (
	// Auto is EKS Auto Mode. So is the zero value.
	Auto CapacityMode = "auto"
	// NodeGroups are managed ones.
	NodeGroups CapacityMode = "nodeGroup"
	// NoNodes come with the cluster: Karpenter or nodes of the user's come later.
	NoNodes CapacityMode = "none"
)

// Capacity is what the pods run on.
type Capacity struct {
	Mode CapacityMode
	// NodePools says which of the built-in ones of Auto Mode there are: see [Capacity.Pools].
	NodePools string
	// NodeGroups of mode NodeGroups. One without a name is the only one.
	NodeGroups []NodeGroup
	// FargateProfiles are in any mode.
	FargateProfiles []FargateProfile
	// NodeRoles are the ARNs of the roles of nodes that come later.
	NodeRoles []string
}

// NodeGroup is a managed node group.
type NodeGroup struct {
	Name                          string
	InstanceTypes                 []string
	MinSize, MaxSize, DesiredSize int
	// CapacityType is ON_DEMAND, SPOT, or empty for that of EKS, on demand.
	CapacityType string
	// AMIType is one of [AMITypes]. Empty is that of the instance types.
	AMIType string
	// DiskSizeGiB is 0 for that of EKS.
	DiskSizeGiB int
	Labels      map[string]string
	Taints      []Taint
	// KubernetesVersion of the nodes. Empty for a group without a name, which keeps the
	// version with which it was made.
	KubernetesVersion string
}

// Taint keeps pods off a node that do not tolerate it. Effect is as EKS names it.
type Taint struct{ Key, Value, Effect string }

// FargateProfile says which pods Fargate runs.
type FargateProfile struct {
	Name      string
	Selectors []FargateSelector
}

// FargateSelector chooses pods.
type FargateSelector struct {
	Namespace string
	Labels    map[string]string
}

// Words for the built-in node pools of Auto Mode.
const (
	BothPools = "both"
	NoPools   = "none"
)

// NodePools are the built-in ones of Auto Mode.
var NodePools = []string{"general-purpose", "system"}

// Pools are the built-in node pools of Auto Mode that are chosen.
func (c Capacity) Pools() []string {
	switch c.NodePools {
	case "", BothPools:
		return NodePools
	case NoPools:
		return nil
	}
	return []string{c.NodePools}
}

// AutoMode tells whether EKS runs the nodes.
func (c Cluster) AutoMode() bool { return c.Capacity.Mode == "" || c.Capacity.Mode == Auto }

// HasNodeRole tells whether the cluster comes with a role for its nodes.
func (c Cluster) HasNodeRole() bool {
	return c.AutoMode() && len(c.Capacity.Pools()) > 0 || len(c.Capacity.NodeGroups) > 0 || c.NewNodes()
}

// NodeEntry is the access entry of nodes that come later: its type, and the name of the
// access policy that it needs. Source: Amazon EKS User Guide, "Create access entries" and
// "Create a Node Class for Amazon EKS".
func (c Cluster) NodeEntry() (entryType, policy string) {
	if c.AutoMode() {
		return "EC2", "AmazonEKSAutoNodePolicy"
	}
	return "EC2_LINUX", ""
}

// AddOn is an add-on of EKS.
type AddOn struct {
	// ID tells it apart in a template.
	ID, Name string
	// Version is empty for the one that EKS takes for the cluster's.
	Version  string
	Settings map[string]any
	// Overwrite has it take over from the copy with which EKS starts a cluster.
	Overwrite bool
	// ServiceAccount gets the role by Pod Identity, if there is one.
	ServiceAccount, RoleARN string
}

// OnNodes tells whether it needs nodes to be complete. What is left is on each node, or
// there before the first.
func (a AddOn) OnNodes() bool {
	return !slices.Contains([]string{"eks-pod-identity-agent", "vpc-cni", "kube-proxy"}, a.Name)
}

// BuiltIn are the add-ons that Auto Mode does without. Source: Amazon EKS User Guide,
// "Amazon EKS add-ons", "Considerations" on Auto Mode.
var BuiltIn = []string{"aws-ebs-csi-driver", "coredns", "eks-pod-identity-agent", "kube-proxy", "vpc-cni"}

// NetworkPolicySetting has the VPC CNI enforce network policies.
const NetworkPolicySetting = "enableNetworkPolicy"

// AddOns are those that Auto Mode has built in and nodes of one's own need, the Pod
// Identity agent, and network policies in the VPC CNI; and the user's. What the user says
// of one of the former is added to it.
func (c Cluster) AddOns() (all []AddOn) {
	if !c.AutoMode() {
		all = []AddOn{
			{ID: "PodIdentityAgent", Name: "eks-pod-identity-agent"},
			{ID: "VpcCni", Name: "vpc-cni", Settings: map[string]any{NetworkPolicySetting: "true"}, Overwrite: true},
		}
	}
	for _, more := range c.MoreAddOns {
		i := slices.IndexFunc(all, func(a AddOn) bool { return a.Name == more.Name })
		if i < 0 {
			more.ID, more.Overwrite = "AddOn-"+more.Name, more.Name == "coredns" || more.Name == "kube-proxy"
			all = append(all, more)
			continue
		}
		a := &all[i]
		settings := map[string]any{}
		maps.Copy(settings, more.Settings)
		maps.Copy(settings, a.Settings)
		if len(settings) > 0 {
			a.Settings = settings
		}
		a.Version, a.ServiceAccount, a.RoleARN = more.Version, more.ServiceAccount, more.RoleARN
	}
	return all
}

// Graviton families have a g behind their generation: m7g, c8gn, im4gn. a1 is the one
// older family.
var graviton = regexp.MustCompile(`^(a1|[a-z]+[0-9]+g[a-z]*)\.`)

// The processor architectures, as Kubernetes names them.
const (
	AMD64 = "amd64"
	ARM64 = "arm64"
)

// ArchitectureOf is that of an instance type.
func ArchitectureOf(instanceType string) string {
	if graviton.MatchString(instanceType) {
		return ARM64
	}
	return AMD64
}

// Architecture is that of the group's instance types.
func (g NodeGroup) Architecture() string { return ArchitectureOf(g.InstanceTypes[0]) }

// AMITypes are the images that EKS has for the nodes of a group. Left out are Amazon Linux 2,
// of which there is none for these versions of Kubernetes, Windows, which no pod of this
// project runs on, and CUSTOM, which is for a launch template. Source: Amazon EKS API
// Reference, CreateNodegroup.
var AMITypes = []string{
	"AL2023_x86_64_STANDARD", "AL2023_ARM_64_STANDARD", "AL2023_x86_64_NEURON", "AL2023_x86_64_NVIDIA", "AL2023_ARM_64_NVIDIA",
	"BOTTLEROCKET_x86_64", "BOTTLEROCKET_ARM_64", "BOTTLEROCKET_x86_64_NVIDIA", "BOTTLEROCKET_ARM_64_NVIDIA",
	"BOTTLEROCKET_x86_64_FIPS", "BOTTLEROCKET_ARM_64_FIPS",
}

// AMIArchitecture is that of an image.
func AMIArchitecture(amiType string) string {
	if strings.Contains(amiType, "_ARM_64") {
		return ARM64
	}
	return AMD64
}

// AMI is the image of the group's nodes.
func (g NodeGroup) AMI() string {
	if g.AMIType != "" {
		return g.AMIType
	}
	return AMIType(g.Architecture())
}

// AMIType is the Amazon Linux 2023 of an architecture. There is no image of Amazon
// Linux 2, which the CDK takes by default, for these versions of Kubernetes.
func AMIType(architecture string) string {
	if architecture == ARM64 {
		return "AL2023_ARM_64_STANDARD"
	}
	return "AL2023_x86_64_STANDARD"
}

// Effects of taints, by Kubernetes' names.
var Effects = map[string]string{"NoSchedule": "NO_SCHEDULE", "NoExecute": "NO_EXECUTE", "PreferNoSchedule": "PREFER_NO_SCHEDULE"}

// Open tells whether a pod that tolerates no taint may run on the nodes of the group, of
// which there is always one.
func (g NodeGroup) Open() bool {
	return g.MinSize > 0 && !slices.ContainsFunc(g.Taints, func(t Taint) bool { return t.Effect != Effects["PreferNoSchedule"] })
}

// Matches tells whether the profile could choose a pod of a namespace.
func (p FargateProfile) Matches(namespace string) bool {
	return slices.ContainsFunc(p.Selectors, func(s FargateSelector) bool {
		pattern := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(s.Namespace))
		return regexp.MustCompile("^" + pattern + "$").MatchString(namespace)
	})
}

// OverrideValue is the value of a property of which the text is JSON, or else the text.
func OverrideValue(text string) (value any) {
	if json.Unmarshal([]byte(text), &value) != nil {
		return text
	}
	return value
}
