package config

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/internal/place"
)

// cluster checks what lies between the fields of a cluster, and fills in the
// defaults that depend on other fields.
func (d *decoder) cluster(c *Cluster, path string) {
	d.location(c, path)
	d.zones(c, path)
	d.capacity(c, path)
	d.addOns(c, path)
	d.tenants(c.Plugin, path+".plugin")
	d.hostPaths(c.Plugin, path+".plugin")
	d.secrets(c, path)
	d.checks(c.Checks, path+".checks")
	first := map[string]*yaml.Node{}
	for i, arn := range c.Capacity.NodeRoles {
		if at := fmt.Sprintf("%s.capacity.nodeRoles[%d]", path, i); d.ok(at) {
			first[arn] = d.nodes[at]
		}
	}
	for i, e := range c.AccessEntries {
		at := fmt.Sprintf("%s.accessEntries[%d].principalArn", path, i)
		if !d.ok(at) {
			continue
		}
		if other := first[e.PrincipalARN]; other != nil {
			d.faultAt(at, "has an entry already, on %s: a principal can have one", d.line(other))
			continue
		}
		first[e.PrincipalARN] = d.nodes[at]
	}
	for _, other := range []string{place.AuditAlias(c.Name), place.AlarmsAlias(c.Name), place.LogsAlias(c.Name), place.VolumesAlias(c.Name)} {
		if at := path + ".key.alias"; c.Key.Alias == other && d.ok(at) {
			d.faultAt(at, "is the alias of another key of this cluster, must be a different one")
		}
	}
	d.roleText(path+".administrators", c.Administrators, blueprint.MaxRoleText)
	d.roleText(path+".creators", c.Creators, blueprint.MaxRoleText)
	d.roleText(path+".key.breakGlass", c.Key.BreakGlass, blueprint.MaxBreakGlassText)
	if c.Key.ARN == "" && c.Key.Alias == "" {
		c.Key.Alias = place.SecretsAlias(c.Name)
	}
}

func (d *decoder) roleText(at string, names []string, most int) {
	if n := blueprint.RoleText(names); n > most && d.ok(at) {
		d.faultAt(at, "has ARNs of %d characters in all, must have at most %d, or the key policy would be too long", n, most)
	}
}

// ok reports whether a path stands in the file without a fault.
func (d *decoder) ok(path string) bool { return d.nodes[path] != nil && !d.bad[path] }

// faultAt records a fault of a value that stands in the file, or whose nearest
// ancestor does.
func (d *decoder) faultAt(path, format string, args ...any) {
	value, at := "", path
	var n *yaml.Node
	for n = d.nodes[at]; n == nil; n = d.nodes[at] {
		at = parent(at)
	}
	if at == path {
		value = show(n)
	}
	d.fault(n, path, value, format, args...)
}

// location checks that everything regional is where the cluster is, and that
// everything is in one partition.
func (d *decoder) location(c *Cluster, path string) {
	type ref struct {
		path, value, region, partition string
	}
	var refs []ref
	add := func(field, value string, regional bool) {
		at := path + "." + field
		if !d.ok(at) {
			return
		}
		p, ok := place.ParseARN(value) // which the rule of the field has looked at
		if !ok {
			return // a permission set is of no partition
		}
		r := ref{path: at, value: value, partition: p.Partition}
		if regional {
			r.region = p.Region
		}
		refs = append(refs, r)
	}
	list := func(field string, values []string) {
		for i, v := range values {
			add(fmt.Sprintf("%s[%d]", field, i), v, false)
		}
	}
	add("key.arn", c.Key.ARN, true)
	if c.Volumes != nil {
		add("volumes.keyArn", c.Volumes.KeyARN, true)
	}
	add("audit.topicArn", c.Audit.TopicARN, true)
	// A multi-Region trail serves the cluster from whichever Region is its home.
	add("audit.trailArn", c.Audit.TrailARN, false)
	list("administrators", c.Administrators)
	list("creators", c.Creators)
	list("key.breakGlass", c.Key.BreakGlass)
	list("audit.readers", c.Audit.Readers)
	for i, e := range c.AccessEntries {
		add(fmt.Sprintf("accessEntries[%d].principalArn", i), e.PrincipalARN, false)
	}
	list("capacity.nodeRoles", c.Capacity.NodeRoles)
	for i, a := range c.AddOns {
		if a.PodIdentity != nil {
			add(fmt.Sprintf("addOns[%d].podIdentity.roleArn", i), a.PodIdentity.RoleARN, false)
		}
	}
	for i, r := range c.Secrets.Readers {
		list(fmt.Sprintf("secrets.readers[%d].principalArns", i), r.PrincipalARNs)
	}

	// Without a Region of its own, the cluster has to go where the first of its
	// resources is.
	region, partition, from := "", "", ""
	switch {
	case d.ok(path + ".region"):
		region, from = c.Region, "the cluster"
	case d.nodes[path+".region"] != nil:
		return
	default:
		for _, r := range refs {
			if r.region != "" {
				region, from = r.region, strings.TrimPrefix(r.path, path+".")
				break
			}
		}
	}
	if region != "" {
		partition = place.Partition(region)
	} else if len(refs) > 0 {
		partition, from = refs[0].partition, strings.TrimPrefix(refs[0].path, path+".")
	}
	for _, r := range refs {
		switch {
		case r.region != "" && r.region != region:
			d.faultAt(r.path, "is in %s, must be in %s like %s", r.region, region, from)
		case r.partition != partition:
			d.faultAt(r.path, "is in the partition %s, must be in %s like %s", r.partition, partition, from)
		}
	}
	if region == "" {
		return
	}
	for i, zone := range c.VPC.AvailabilityZones {
		at := fmt.Sprintf("%s.vpc.availabilityZones[%d]", path, i)
		if d.ok(at) && zone[:len(zone)-1] != region {
			d.faultAt(at, "must be a zone of %s like %s", region, from)
		}
	}
}

func (d *decoder) zones(c *Cluster, path string) {
	switch at := path + ".vpc.isolated"; {
	case c.VPC.Isolated && d.ok(path+".region") && place.Partition(c.Region) == "aws-cn":
		d.faultAt(at, "is not supported in China, where the names of endpoint services follow no rule: make the VPC with its endpoints yourself, and give id and subnetIds")
	case !c.VPC.Shared && d.ok(path+".vpc.shared") && c.VPC.ID == "" && c.VPC.CIDR == "":
		c.VPC.CIDR, c.VPC.NATGateways = blueprint.DefaultCIDR, blueprint.NATGateways.Default // which shared takes away
	case !c.VPC.Isolated && d.ok(at) && c.VPC.ID == "":
		c.VPC.NATGateways = blueprint.NATGateways.Default // which isolated takes away
	}
	v, at := c.VPC, path+".vpc.availabilityZones"
	if c.Region == "" && d.ok(at) {
		for i, zone := range v.AvailabilityZones[1:] {
			if first := v.AvailabilityZones[0]; zone[:len(zone)-1] != first[:len(first)-1] {
				d.faultAt(fmt.Sprintf("%s[%d]", at, i+1), "must be a zone of the same Region as %s", first)
			}
		}
	}
	if n := path + ".vpc.natGateways"; d.ok(n) && !d.bad[at] && v.NATGateways > blueprint.Network(v).Zones() {
		d.faultAt(n, "must be at most one for each of the %d Availability Zones", blueprint.Network(v).Zones())
	}
}

// tenants checks that no two share what tells them apart.
func (d *decoder) tenants(p Plugin, path string) {
	if at := path + ".tenants"; !p.Enabled && d.ok(path+".enabled") && len(p.Tenants) > 0 {
		d.faultAt(at, "can't stand beside enabled: false (%s): remove one of them", d.line(d.nodes[path+".enabled"]))
	}
	pods := map[[2]string]string{{manifest.DefaultNamespace, manifest.DefaultServiceAccount}: "the plugin itself"}
	names, text := map[string]*yaml.Node{}, 0
	for i, t := range p.Tenants {
		at := fmt.Sprintf("%s.tenants[%d]", path, i)
		text += len(t.Name) + len(t.Namespace) + len(t.ServiceAccount)
		if name := at + ".name"; d.ok(name) {
			if other := names[t.Name]; other != nil {
				d.faultAt(name, "is the name of another tenant, on %s: give each its own", d.line(other))
			} else {
				names[t.Name] = d.nodes[name]
			}
		}
		account := at + ".serviceAccount"
		if !d.ok(account) || !d.ok(at+".namespace") {
			continue
		}
		pod := [2]string{t.Namespace, t.ServiceAccount}
		if other := pods[pod]; other != "" {
			d.faultAt(account, "is in namespace %s that of %s: give each tenant its own", t.Namespace, other)
			continue
		}
		pods[pod] = "another tenant, on " + d.line(d.nodes[account])
	}
	if at := path + ".tenants"; d.ok(at) && text > blueprint.MaxTenantText {
		d.faultAt(at, "has names, namespaces and service accounts of %d characters in all, must be at most %d: shorten them", text, blueprint.MaxTenantText)
	}
}

// hostPaths checks the folders that pods may mount beside a socket on the node.
func (d *decoder) hostPaths(p Plugin, path string) {
	if at := path + ".hostPaths"; len(p.HostPaths) > 0 && p.Mode != PluginDaemonSet && !d.bad[path+".mode"] {
		d.faultAt(at, "is only for mode daemonset, which has a socket on the nodes: remove it")
	}
	for i, folder := range p.HostPaths {
		if at := fmt.Sprintf("%s.hostPaths[%d]", path, i); d.ok(at) {
			if problem := manifest.HostPathProblem(folder); problem != "" {
				d.faultAt(at, "%s", problem)
			}
		}
	}
}

// secrets checks the readers, and fills in the namespaces of service accounts.
func (d *decoder) secrets(c *Cluster, path string) {
	entries := map[string]*yaml.Node{}
	for i, e := range c.AccessEntries {
		if at := fmt.Sprintf("%s.accessEntries[%d].principalArn", path, i); d.ok(at) {
			entries[e.PrincipalARN] = d.nodes[at]
		}
	}
	path += ".secrets"
	if at := path + ".guardExemptions"; c.Secrets.Guard == GuardOff && !d.bad[path+".guard"] && len(c.Secrets.GuardExemptions) > 0 {
		d.faultAt(at, "means nothing with guard: off: set guard to warn or deny, or remove this")
	}
	names := map[string]*yaml.Node{}
	for i, r := range c.Secrets.Readers {
		at := fmt.Sprintf("%s.readers[%d]", path, i)
		if name := at + ".name"; d.ok(name) {
			if other := names[r.Name]; other != nil {
				d.faultAt(name, "is the name of another reader, on %s: give each its own", d.line(other))
			} else {
				names[r.Name] = d.nodes[name]
			}
		}
		if len(r.Groups)+len(r.ServiceAccounts) == 0 && !d.bad[at] {
			d.fault(d.nodes[at], at, "", "needs groups or serviceAccounts: name who may read")
		}
		for j, arn := range r.PrincipalARNs {
			principal := fmt.Sprintf("%s.principalArns[%d]", at, j)
			if other := entries[arn]; other != nil && d.ok(principal) {
				d.faultAt(principal, "has an access entry already, on %s: a principal can have one, so write the groups there and remove this", d.line(other))
			}
		}
		accounts := map[ServiceAccount]*yaml.Node{}
		for j := range r.ServiceAccounts {
			account, where := &r.ServiceAccounts[j], fmt.Sprintf("%s.serviceAccounts[%d]", at, j)
			if d.nodes[where+".namespace"] == nil {
				account.Namespace = r.Namespace
			}
			if !d.ok(where) || d.bad[at+".namespace"] {
				continue
			}
			if other := accounts[*account]; other != nil {
				d.faultAt(where+".name", "stands here twice, first on %s", d.line(other))
				continue
			}
			accounts[*account] = d.nodes[where]
		}
	}
}

// checks refuses a suppression that stands twice: one of the two reasons would
// never be read.
func (d *decoder) checks(c Checks, path string) {
	type place struct{ id, resource string }
	first := map[place]*yaml.Node{}
	for i, s := range c.Suppress {
		at := fmt.Sprintf("%s.suppress[%d]", path, i)
		if !d.ok(at+".id") || d.bad[at+".resource"] {
			continue
		}
		if other := first[place{s.ID, s.Resource}]; other != nil {
			d.faultAt(at+".id", "is suppressed there already, on %s: remove one of them", d.line(other))
			continue
		}
		first[place{s.ID, s.Resource}] = d.nodes[at+".id"]
	}
}
