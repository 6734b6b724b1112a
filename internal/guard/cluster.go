package guard

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/eksversion"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/value"
)

// immutable are the properties of a cluster whose change replaces it, beside
// EncryptionConfig.
//
// Source: AWS CloudFormation Template Reference, AWS::EKS::Cluster and its
// property types, "Update requires: Replacement". For CDK's older custom resource its
// handler (aws-eks of aws-cdk-lib 2.192 and 2.276, cluster-resource-handler): it replaces
// for these, and updates subnets and security groups in place.
var immutable = []string{
	"Name", "RoleArn", "OutpostConfig", "BootstrapSelfManagedAddons", "KubernetesNetworkConfig.IpFamily",
	"KubernetesNetworkConfig.ServiceIpv4Cidr", "AccessConfig.BootstrapClusterCreatorAdminPermissions",
}

var immutableOfCDK = []string{"Name", "RoleArn", "AccessConfig.BootstrapClusterCreatorAdminPermissions"}

// clusters compares the clusters. It returns the keys of those that go on.
func (c *comparison) clusters() (keys map[string]bool) {
	keys = map[string]bool{}
	for _, before := range c.before.Clusters {
		now := c.now(before.Thing)
		if now == nil {
			c.find("cluster-deleted", before.Thing, "%s", c.gone(before.Thing))
			continue
		}
		keys[value.Text(before.KeyARN)] = true
		if now.Replaced != "" {
			c.find("cluster-replaced", now, "%s", now.Replaced)
		}
		names := immutable
		if before.Type != "AWS::EKS::Cluster" {
			names = immutableOfCDK
		}
		for _, name := range names {
			old, new := value.At(before.Settings, strings.Split(name, ".")...), value.At(now.Settings, strings.Split(name, ".")...)
			if !reflect.DeepEqual(old, new) {
				c.find("cluster-replaced", now, "%s changes from %s to %s", name, value.Show(old), value.Show(new))
			}
		}
		if old, new := before.Settings["EncryptionConfig"], now.Settings["EncryptionConfig"]; !reflect.DeepEqual(old, new) {
			c.find("encryption-config-changed", now, "EncryptionConfig changes from %s to %s", encryption(old), encryption(new))
		}
		if key := before.Key; key != nil {
			// A key is known by the ID that its template tells of it.
			if same := c.now(key.Thing); same != nil {
				old, new := key.Metadata[place.KeyIDMetadata], same.Metadata[place.KeyIDMetadata]
				if old != nil && new != nil && !reflect.DeepEqual(old, new) {
					c.find("encryption-config-changed", now, "the key of the secrets is said to be %s, it was %s", value.Show(new), value.Show(old))
				}
			}
		}
		c.subnets(before.Thing, now)
		c.versions(before.Thing, now)
		c.addOns(before.Thing, now)
		c.protection(before.Settings, now.Settings, now)
		c.logging(before.Settings, now.Settings, now)
		c.endpoint(before.Settings, now.Settings, now)
	}
	return keys
}

// subnets notes that a cluster gets others altogether. Source: Amazon EKS API Reference,
// UpdateClusterConfig: they must be in the VPC in which the cluster was made.
func (c *comparison) subnets(before, after *estate.Thing) {
	old, now := value.List(value.At(before.Settings, "ResourcesVpcConfig", "SubnetIds")), value.List(value.At(after.Settings, "ResourcesVpcConfig", "SubnetIds"))
	stays := func(v any) bool { return slices.ContainsFunc(now, func(w any) bool { return reflect.DeepEqual(v, w) }) }
	if len(old) > 0 && len(now) > 0 && !slices.ContainsFunc(old, stays) {
		c.note(after.Resource, "the cluster gets other subnets altogether: EKS takes only those of the VPC that it was made in and refuses others; whether these are was not judged")
	}
}

// versions judges a change of the Kubernetes version of a control plane, or of the managed
// nodes under it.
//
// Sources: Amazon EKS User Guide, "Update existing cluster to new Kubernetes version" and
// "Roll back a cluster to a previous Kubernetes version"; Kubernetes, "Version Skew Policy".
func (c *comparison) versions(before, after *estate.Thing) {
	old, now := before.Settings["Version"], after.Settings["Version"]
	changed := !reflect.DeepEqual(old, now)
	from, to := minor(old), minor(now)
	switch {
	case changed && value.IsOpen(now):
		c.note(after.Resource, "Version changes from %s to %s, which is not in the template: whether it skips one was not judged", value.Show(old), value.Show(now))
	case from == 0 || to == 0:
	case to > from+1:
		c.find("version-skipped", after, "Version changes from %s to %s, and EKS takes one minor version at a time", value.Text(old), value.Text(now))
	case to < from-1:
		c.find("version-skipped", after, "Version changes from %s to %s, and EKS goes back by one minor version only", value.Text(old), value.Text(now))
	case to < from:
		c.note(after.Resource, "Version goes back from %s to %s: EKS does that for a cluster that was upgraded in the last 7 days, by UpdateClusterVersion; whether it will was not judged", value.Text(old), value.Text(now))
	}
	newer := map[*estate.Thing]bool{} // nodes, when the control plane goes back
	for _, group := range c.before.Of(estate.KindNodeGroup) {
		if nodes := minor(group.Settings["Version"]); to > 0 && to < from && nodes > to && c.before.LookupOf(group, group.Settings["ClusterName"], estate.KindCluster) == before {
			at := cmp.Or(c.now(group), group)
			newer[at] = true
			c.find("nodes-version-refused", at, "the nodes have version %s when the control plane goes back to %s: they go back first, in a deployment of their own", value.Text(group.Settings["Version"]), value.Text(now))
		}
	}
	for _, group := range c.after.Of(estate.KindNodeGroup) {
		version, earlier := group.Settings["Version"], c.earlier(group)
		if c.after.LookupOf(group, group.Settings["ClusterName"], estate.KindCluster) != after || newer[group] ||
			!changed && (version == nil || earlier != nil && reflect.DeepEqual(earlier.Settings["Version"], version)) {
			continue
		}
		nodes := minor(version)
		switch {
		case version == nil:
			c.note(group.Resource, "the node group names no version and keeps the one it has: whether that fits the control plane's %s was not judged", value.Show(now))
		case to == 0 || nodes == 0:
			c.note(group.Resource, "the node group has version %s under a control plane of %s: whether they fit was not judged", value.Show(version), value.Show(now))
		case nodes > to:
			c.find("nodes-version-refused", group, "the nodes have version %s, newer than the control plane's %s", value.Text(version), value.Text(now))
		case nodes < to-eksversion.NodeSkew:
			c.find("nodes-version-refused", group, "the nodes have version %s, %d minor versions behind the control plane's %s, and %d is the most", value.Text(version), to-nodes, value.Text(now), eksversion.NodeSkew)
		}
	}
}

// addOns judges a change of the versions of add-ons, or of the control plane above them.
//
// Sources: Amazon EKS User Guide, "AWS add-ons", "Amazon VPC CNI plugin for Kubernetes",
// "Update information", and "Manage kube-proxy"; EKS' error "Updating VPC-CNI can only go up
// or down 1 minor version at a time" (Stack Overflow 76493050).
func (c *comparison) addOns(before, after *estate.Thing) {
	plane := after.Settings["Version"]
	upgrade := !reflect.DeepEqual(before.Settings["Version"], plane)
	var stay []string
	for _, addOn := range c.after.Of(estate.KindAddOn) {
		if c.after.LookupOf(addOn, addOn.Settings["ClusterName"], estate.KindCluster) != after {
			continue
		}
		var old any
		earlier := c.earlier(addOn)
		if earlier != nil {
			old = earlier.Settings["AddonVersion"]
		}
		name, now := value.Text(addOn.Settings["AddonName"]), addOn.Settings["AddonVersion"]
		changed := earlier == nil || !reflect.DeepEqual(old, now)
		v, known := eksversion.ParseAddOn(value.Text(now))
		switch {
		case !changed && !upgrade:
		case name == "kube-proxy" && known && minor(plane) > 0:
			if v.Minor > minor(plane) || v.Minor < minor(plane)-eksversion.NodeSkew {
				c.find("add-on-version-refused", addOn, "kube-proxy has version %s under a control plane of %s: it is never newer, and at most %d minor versions older", value.Text(now), value.Text(plane), eksversion.NodeSkew)
			}
		case changed && earlier != nil && name == "vpc-cni":
			was, before := eksversion.ParseAddOn(value.Text(old))
			switch {
			case !known || !before:
				c.note(addOn.Resource, "AddonVersion of vpc-cni changes from %s to %s: whether it skips a minor version was not judged", value.Show(old), value.Show(now))
			case v.Major != was.Major || v.Minor > was.Minor+1 || v.Minor < was.Minor-1:
				c.find("add-on-version-refused", addOn, "AddonVersion of vpc-cni changes from %s to %s, and EKS goes one minor version at a time", value.Text(old), value.Text(now))
			}
		case upgrade && !changed:
			stay = append(stay, strings.TrimSpace(cmp.Or(name, addOn.LogicalID)+" "+value.Text(now)))
		}
	}
	if stay != nil {
		c.note(after.Resource, "Version changes from %s to %s, and add-ons keep the versions that they have (%s): whether EKS has these for it was not judged", value.Show(before.Settings["Version"]), value.Show(plane), strings.Join(stay, ", "))
	}
}

// minor is the minor version of a Kubernetes version, or 0 if it is none.
func minor(version any) int {
	if n, ok := eksversion.Minor(value.Text(version)); ok {
		return n
	}
	return 0
}

// encryption writes an EncryptionConfig for a message.
func encryption(v any) string {
	configs := value.List(v)
	if len(configs) == 0 {
		return "none"
	}
	var all []string
	for _, config := range configs {
		all = append(all, fmt.Sprintf("%s under %s", value.Show(value.At(config, "Resources")), value.Show(value.At(config, "Provider", "KeyArn"))))
	}
	return strings.Join(all, ", ")
}

func (c *comparison) protection(old, now map[string]any, r *estate.Thing) {
	if value.IsTrue(old["DeletionProtection"], false) && !value.IsTrue(now["DeletionProtection"], false) {
		c.find("retention-weakened", r, "DeletionProtection changes from true to %s", value.Show(now["DeletionProtection"]))
	}
}

func (c *comparison) logging(old, after map[string]any, r *estate.Thing) {
	if unknown := unknownIn(after["Logging"]); unknown != nil && !reflect.DeepEqual(old["Logging"], after["Logging"]) {
		c.find("control-plane-log-weakened", r, "Logging changes, and has %s, which is not in the template", value.Show(unknown))
		return
	}
	types := func(spec map[string]any) (all []string) {
		for _, t := range value.List(value.At(spec, "Logging", "ClusterLogging", "EnabledTypes")) {
			all = append(all, value.Text(value.At(t, "Type")))
		}
		if groups := value.List(value.At(spec, "Logging", "ClusterLogging")); len(groups) > 0 && len(all) == 0 {
			for _, g := range groups { // the form of EKS' API, in CDK's older custom resource
				if value.IsTrue(value.At(g, "Enabled"), false) {
					all = append(all, value.Texts(value.At(g, "Types"))...)
				}
			}
		}
		return all
	}
	now := types(after)
	lost := slices.DeleteFunc(types(old), func(t string) bool { return slices.Contains(now, t) })
	if len(lost) > 0 {
		c.find("control-plane-log-weakened", r, "the logs %s are switched off", strings.Join(lost, ", "))
	}
}

func (c *comparison) endpoint(old, now map[string]any, r *estate.Thing) {
	open := func(spec map[string]any) []string {
		vpc := value.At(spec, "ResourcesVpcConfig")
		if !value.IsTrue(value.At(vpc, "EndpointPublicAccess"), true) {
			return nil
		}
		if networks := value.Texts(value.At(vpc, "PublicAccessCidrs")); len(networks) > 0 {
			return networks
		}
		return []string{"0.0.0.0/0"}
	}
	for _, name := range []string{"EndpointPublicAccess", "PublicAccessCidrs"} {
		if c.lost("endpoint-opened", r, name, value.At(old, "ResourcesVpcConfig", name), value.At(now, "ResourcesVpcConfig", name)) {
			return
		}
	}
	before := open(old)
	var more []string
	for _, network := range open(now) {
		if !slices.ContainsFunc(before, func(b string) bool { return within(network, b) }) {
			more = append(more, network)
		}
	}
	if len(more) > 0 {
		c.find("endpoint-opened", r, "%s can reach the API server, which could not", strings.Join(more, ", "))
	}
}

// within tells whether a network is part of another. What is no network is part
// of what is written the same.
func within(inner, outer string) bool {
	if inner == outer {
		return true
	}
	i, err := netip.ParsePrefix(inner)
	if err != nil {
		return false
	}
	o, err := netip.ParsePrefix(outer)
	return err == nil && o.Bits() <= i.Bits() && o.Contains(i.Addr())
}
