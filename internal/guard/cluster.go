package guard

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/ekskms/ekskms/internal/estate"
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
		if v := now.Settings["Version"]; value.IsOpen(v) && !reflect.DeepEqual(before.Settings["Version"], v) {
			c.note(now.Resource, "Version changes from %s to %s, which is not in the template: whether it skips one was not judged", value.Show(before.Settings["Version"]), value.Show(v))
		}
		if old, new := value.Text(before.Settings["Version"]), value.Text(now.Settings["Version"]); minor(new) > minor(old)+1 && minor(old) > 0 {
			c.find("version-skipped", now, "Version changes from %s to %s, and EKS takes one minor version at a time", old, new)
		}
		c.protection(before.Settings, now.Settings, now)
		c.logging(before.Settings, now.Settings, now)
		c.endpoint(before.Settings, now.Settings, now)
	}
	return keys
}

// minor is the minor version of a Kubernetes version, or 0 if it is none.
func minor(version string) int {
	text, ok := strings.CutPrefix(version, "1.")
	n, err := strconv.Atoi(text)
	if !ok || err != nil {
		return 0
	}
	return n
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
