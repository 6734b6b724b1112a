package config

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/eksversion"
	"github.com/ekskms/ekskms/internal/manifest"
)

// capacity checks what the pods run on, and that what has to run can.
func (d *decoder) capacity(c *Cluster, path string) {
	at := path + ".capacity"
	if g := c.Capacity.NodeGroup; g != nil {
		d.nodeGroup(c, g, at+".nodeGroup")
		for _, field := range []string{"name", "kubernetesVersion"} {
			if field := at + ".nodeGroup." + field; d.ok(field) {
				d.faultAt(field, "is for one of several groups: write the group in nodeGroups, which replaces it, or remove this")
			}
		}
	}
	d.distinct(at+".nodeGroups", len(c.Capacity.NodeGroups), "group", func(i int) string { return c.Capacity.NodeGroups[i].Name })
	for i := range c.Capacity.NodeGroups {
		d.nodeGroup(c, &c.Capacity.NodeGroups[i], fmt.Sprintf("%s.nodeGroups[%d]", at, i))
	}
	d.fargate(c, path)
	d.volumes(c, path)
	if !d.bad[at] && !d.bad[path+".plugin"] {
		d.runs(c, path)
	}
}

// distinct checks that each of several things has a name, and its own.
func (d *decoder) distinct(path string, n int, what string, name func(i int) string) {
	first := map[string]*yaml.Node{}
	for i := range n {
		at := fmt.Sprintf("%s[%d]", path, i)
		if d.nodes[at] == nil || d.bad[at+".name"] {
			continue
		}
		switch other := first[name(i)]; {
		case name(i) == "":
			d.fault(d.nodes[at], at+".name", "", "is required")
		case other != nil:
			d.faultAt(at+".name", "is the name of another %s, on %s: give each its own", what, d.line(other))
		default:
			first[name(i)] = d.nodes[at+".name"]
		}
	}
}

func (d *decoder) nodeGroup(c *Cluster, g *NodeGroup, at string) {
	sizes := !d.bad[at+".minSize"] && !d.bad[at+".maxSize"]
	if sizes && g.MinSize > g.MaxSize {
		sizes = false
		if d.nodes[at+".minSize"] != nil {
			d.faultAt(at+".minSize", "must be at most maxSize, which is %d", g.MaxSize)
		} else {
			d.faultAt(at+".maxSize", "must be at least minSize, which is %d", g.MinSize)
		}
	}
	switch desired := at + ".desiredSize"; {
	case d.nodes[desired] == nil:
		g.DesiredSize = g.MinSize
	case sizes && d.ok(desired) && (g.DesiredSize < g.MinSize || g.DesiredSize > g.MaxSize):
		d.faultAt(desired, "must be from minSize to maxSize, %d to %d", g.MinSize, g.MaxSize)
	}
	d.nodeVersion(c, g, at)
	if d.bad[at+".instanceTypes"] || len(g.InstanceTypes) == 0 {
		return
	}
	architecture := blueprint.ArchitectureOf(g.InstanceTypes[0])
	for i, t := range g.InstanceTypes {
		if blueprint.ArchitectureOf(t) != architecture {
			d.faultAt(fmt.Sprintf("%s.instanceTypes[%d]", at, i), "must be of one processor architecture with %s, which is %s", g.InstanceTypes[0], architecture)
			return
		}
	}
	if ami := at + ".amiType"; d.ok(ami) && blueprint.AMIArchitecture(g.AMIType) != architecture {
		d.faultAt(ami, "must be an image for %s, the architecture of %s", architecture, g.InstanceTypes[0])
	}
}

// nodeVersion checks that the nodes are not newer than the control plane, and not too old
// for it.
func (d *decoder) nodeVersion(c *Cluster, g *NodeGroup, at string) {
	at += ".kubernetesVersion"
	plane, known := eksversion.Minor(c.KubernetesVersion)
	nodes, given := eksversion.Minor(g.KubernetesVersion)
	if !d.ok(at) || !known || !given {
		return
	}
	switch behind := plane - nodes; {
	case behind < 0:
		d.faultAt(at, "is newer than the cluster, which is %s: upgrade that first", c.KubernetesVersion)
	case behind > eksversion.NodeSkew:
		d.faultAt(at, "is %d minor versions behind the cluster, which is %s: must be at most %d", behind, c.KubernetesVersion, eksversion.NodeSkew)
	}
}

// fargate checks that no profile chooses pods that Fargate can't run.
func (d *decoder) fargate(c *Cluster, path string) {
	at := path + ".capacity.fargateProfiles"
	d.distinct(at, len(c.Capacity.FargateProfiles), "profile", func(i int) string { return c.Capacity.FargateProfiles[i].Name })
	if !c.Plugin.Enabled || d.bad[path+".plugin"] {
		return
	}
	for i, p := range c.Capacity.FargateProfiles {
		for j, s := range p.Selectors {
			selector := fmt.Sprintf("%s[%d].selectors[%d].namespace", at, i, j)
			if !d.ok(selector) {
				continue
			}
			one := blueprint.FargateProfile{Selectors: []blueprint.FargateSelector{{Namespace: s.Namespace}}}
			who := ""
			if one.Matches(manifest.DefaultNamespace) {
				who = "the plugin"
			}
			for _, t := range c.Plugin.Tenants {
				if one.Matches(t.Namespace) {
					who = "tenant " + t.Name
				}
			}
			if who != "" && len(s.Labels) == 0 {
				d.faultAt(selector, "chooses the pods of %s, which need Pod Identity, and Fargate has none: choose other namespaces, or labels", who)
			}
		}
	}
}

// runs checks that the pods of the cluster itself and of the plugin have nodes.
func (d *decoder) runs(c *Cluster, path string) {
	at := path + ".capacity"
	b := c.capacity()
	if b.Mode == blueprint.NodeGroups {
		where := at + ".nodeGroups"
		if c.Capacity.NodeGroup != nil {
			where = at + ".nodeGroup"
		}
		if !slices.ContainsFunc(b.NodeGroups, blueprint.NodeGroup.Open) {
			d.faultAt(where, "has no node for the pods of the cluster itself: a group needs minSize of 1 or more, and no taints of NoSchedule or NoExecute")
			return
		}
		if i := slices.IndexFunc(b.NodeGroups, func(g blueprint.NodeGroup) bool {
			return g.Open() && g.Architecture() == c.Plugin.Architecture
		}); c.Plugin.Enabled && i < 0 {
			// The plugin would be deployed and never start.
			d.faultAt(path+".plugin.architecture", "must be %s, the architecture of the node group's %s", b.NodeGroups[0].Architecture(), b.NodeGroups[0].InstanceTypes[0])
		}
	}
}

// volumes checks that the nodes can be under the key.
func (d *decoder) volumes(c *Cluster, path string) {
	at := path + ".volumes"
	if c.Volumes == nil || d.bad[path+".capacity"] || d.bad[path+".plugin"] {
		return
	}
	switch {
	case c.Capacity.Mode == CapacityAuto && c.Capacity.NodePools != blueprint.NoPools:
		d.faultAt(at, "needs capacity.nodePools: none, since the disks of the built-in pools are under the account's default key: the pool named encrypted takes their place")
	case c.Capacity.Mode == CapacityAuto && c.Plugin.Apply == ApplyNone:
		d.faultAt(at, "needs plugin.apply: handler with Auto Mode, to apply the node class and the node pool")
	case c.Capacity.Mode == CapacityNone:
		d.faultAt(at, "is for nodes that come with the cluster, and capacity.mode: none has none: give your nodes the key yourself")
	}
}

// addOns checks that each add-on stands once, and takes nothing away that the plugin needs.
func (d *decoder) addOns(c *Cluster, path string) {
	d.distinct(path+".addOns", len(c.AddOns), "add-on", func(i int) string { return c.AddOns[i].Name })
	for i, a := range c.AddOns {
		at := fmt.Sprintf("%s.addOns[%d]", path, i)
		if !d.ok(at) {
			continue
		}
		if c.Capacity.Mode == CapacityAuto && len(c.Capacity.NodeRoles) == 0 && slices.Contains(blueprint.BuiltIn, a.Name) && !d.bad[path+".capacity"] {
			d.faultAt(at+".name", "is built into Auto Mode: remove it")
			continue
		}
		version, known := eksversion.ParseAddOn(a.Version)
		plane, fits := eksversion.Minor(c.KubernetesVersion)
		if a.Name == "kube-proxy" && known && fits && (version.Minor > plane || version.Minor < plane-eksversion.NodeSkew) && !d.bad[path+".kubernetesVersion"] {
			d.faultAt(at+".version", "does not go with Kubernetes %s: kube-proxy must be of that minor version, or at most %d older", c.KubernetesVersion, eksversion.NodeSkew)
		}
		if v, found := a.settings()[blueprint.NetworkPolicySetting]; a.Name == "vpc-cni" && found && fmt.Sprint(v) != "true" {
			d.faultAt(at+".configuration", "must not switch %s off: the network policies of the plugin would mean nothing", blueprint.NetworkPolicySetting)
		}
	}
}

// settings are the configuration of the add-on, which a rule has looked at.
func (a AddOn) settings() (m map[string]any) {
	if yaml.Unmarshal([]byte(a.Configuration), &m) != nil {
		return nil
	}
	return m
}

// capacity is that of the blueprint.
func (c Cluster) capacity() blueprint.Capacity {
	groups := c.Capacity.NodeGroups
	if g := c.Capacity.NodeGroup; g != nil {
		groups = []NodeGroup{*g}
	}
	b := blueprint.Capacity{Mode: blueprint.CapacityMode(c.Capacity.Mode), NodePools: c.Capacity.NodePools, NodeRoles: c.Capacity.NodeRoles}
	for _, g := range groups {
		group := blueprint.NodeGroup{
			Name: g.Name, InstanceTypes: g.InstanceTypes, MinSize: g.MinSize, MaxSize: g.MaxSize, DesiredSize: g.DesiredSize,
			CapacityType: map[string]string{"spot": "SPOT", "onDemand": "ON_DEMAND"}[g.CapacityType],
			AMIType:      g.AMIType, DiskSizeGiB: g.DiskSizeGiB, Labels: g.Labels, KubernetesVersion: g.KubernetesVersion,
		}
		if g.Name != "" && g.KubernetesVersion == "" {
			group.KubernetesVersion = c.KubernetesVersion
		}
		for _, t := range g.Taints {
			group.Taints = append(group.Taints, blueprint.Taint{Key: t.Key, Value: t.Value, Effect: blueprint.Effects[t.Effect]})
		}
		b.NodeGroups = append(b.NodeGroups, group)
	}
	for _, p := range c.Capacity.FargateProfiles {
		profile := blueprint.FargateProfile{Name: p.Name}
		for _, s := range p.Selectors {
			profile.Selectors = append(profile.Selectors, blueprint.FargateSelector(s))
		}
		b.FargateProfiles = append(b.FargateProfiles, profile)
	}
	return b
}

// addOns are those of the blueprint.
func (c Cluster) addOns() (all []blueprint.AddOn) {
	for _, a := range c.AddOns {
		more := blueprint.AddOn{Name: a.Name, Version: a.Version, Settings: a.settings()}
		if p := a.PodIdentity; p != nil {
			more.ServiceAccount, more.RoleARN = p.ServiceAccount, p.RoleARN
		}
		all = append(all, more)
	}
	return all
}
