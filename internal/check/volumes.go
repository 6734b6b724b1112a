package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/calls"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
)

// volume is a disk of nodes under a key.
type volume struct {
	// on says the key, and by has EC2 start the nodes as the role, whose IAM policies are
	// identity. The role is empty if it is not known.
	on       *estate.Thing
	key      any
	by, role string
	identity []iampolicy.NamedDocument
}

// findVolumes finds the disks of node groups with a launch template, and of node classes of
// Auto Mode, once for each key.
func (c *checker) findVolumes() {
	add := func(v volume) {
		if v.key != nil && !slices.ContainsFunc(c.volumes, func(other volume) bool { return other.on == v.on && text(other.key) == text(v.key) }) {
			c.volumes = append(c.volumes, v)
		}
	}
	byDefault := map[*estate.Thing]bool{} // clusters with nodes for whose disks no key is named
	for _, cluster := range c.estate.Clusters {
		byDefault[cluster.Thing] = len(list(at(cluster.Settings, "ComputeConfig", "NodePools"))) > 0
	}
	for _, g := range c.estate.Of(estate.KindNodeGroup) {
		cluster := c.estate.LookupOf(g, g.Settings["ClusterName"], estate.KindCluster)
		if g.Settings["LaunchTemplate"] == nil {
			byDefault[cluster] = true
			continue
		}
		template := c.estate.LookupOf(g, at(g.Settings, "LaunchTemplate", "Id"), estate.KindLaunchTemplate)
		if template == nil {
			template = c.estate.LookupOf(g, at(g.Settings, "LaunchTemplate", "Name"), estate.KindLaunchTemplate)
		}
		if template == nil || template.Kind != estate.KindLaunchTemplate {
			c.noteAt(g.Resource, "the launch template of the node group is not in the templates: under which key the disks of its nodes are was not judged")
			continue
		}
		named := false
		for _, d := range list(at(template.Settings, "LaunchTemplateData", "BlockDeviceMappings")) {
			key := at(d, "Ebs", "KmsKeyId")
			named = named || key != nil
			add(volume{on: template, key: key, by: "Auto Scaling", role: placeOf(g.In).IAM(keypolicy.AutoScalingRole)})
		}
		byDefault[cluster] = byDefault[cluster] || !named
	}
	c.noteDefaultKey(byDefault)
	for _, r := range c.estate.Of(estate.KindKubernetes) {
		objects, err := r.Objects()
		if err != nil {
			continue // said elsewhere
		}
		cluster := c.estate.LookupOf(r, r.Settings["ClusterName"], estate.KindCluster)
		for _, o := range objects {
			if o["kind"] != "NodeClass" || cluster == nil {
				continue
			}
			v := volume{on: r, key: at(o, "spec", "ephemeralStorage", "kmsKeyID"), by: "the cluster's role"}
			if role := c.estate.Principal(cluster.Settings["RoleArn"]); role != nil {
				v.role, v.identity = role.ARN, role.Documents()
			}
			add(v)
		}
	}
}

// noteDefaultKey says what a template can't show of the disks of nodes. Sources: issues 3401
// of terraform-aws-eks, 2525 of containers-roadmap and 1407 of karpenter.
func (c *checker) noteDefaultKey(of map[*estate.Thing]bool) {
	var names []string
	for _, cluster := range c.estate.Clusters {
		if of[cluster.Thing] {
			names = append(names, show(cluster.Name()))
		}
	}
	if most := 12; len(names) > most {
		names = append(names[:most:most], fmt.Sprintf("%d more", len(names)-most))
	}
	if names != nil {
		c.noteAt("", "no key is named for the disks of nodes of %s: they are under the account's default key for EBS, which is in no template. If that is a key of yours whose policy does not let the cluster's role (Auto Mode) or Auto Scaling's service-linked role (node groups) use it, nodes end right after their start, with Client.InternalError: 'aws ec2 get-ebs-default-kms-key-id' prints it", strings.Join(names, ", "))
	}
}

// checkVolumes asks the calls with which nodes get their disks.
func (c *checker) checkVolumes() {
	for _, v := range c.volumes {
		key := c.estate.Key(v.key)
		switch {
		case key == nil && ofAWS(text(v.key)):
		case v.role == "":
			c.noteAt(v.on.Resource, "%s is not in the templates: whether it may start nodes whose disks are under %s was not judged", v.by, show(v.key))
		case key == nil:
			c.noteAt(v.on.Resource, "the key %s is not in the templates: whether nodes can start with disks under it was not judged", show(v.key))
		default:
			if known := c.known(c.estate.PolicyOf(key.Thing)); len(known) > 0 {
				c.refused([]*estate.Thing{key.Thing}, "volumes-key-refused", v.on, known, calls.OfVolumes(calls.Volumes{
					KeyARN: key.ARN, RoleARN: v.role, By: v.by, EC2Service: placeOf(key.In).Service("ec2"),
				}), v.identity...)
			}
		}
	}
}
