package ekskms

import (
	"cmp"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseksv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/internal/blueprint"
)

// VolumesOptions is the key of the disks of the nodes and of the volumes of pods.
type VolumesOptions struct {
	// Key is an existing symmetric key. Its policy is not changed: its owner must add what
	// RequiredVolumesKeyPolicyStatements returns.
	// Default: a new key, which rotates every 90 days.
	Key awskms.IKey
}

func (props *EncryptedClusterProps) checkVolumes() {
	const typ = encryptedClusterType
	if props.Volumes == nil {
		return
	}
	auto := props.Nodegroup == nil && props.Nodegroups == nil
	switch {
	case auto && props.NodePools != NodePoolsNone:
		reject(typ, "Volumes", "needs NodePools: NodePoolsNone, since the disks of the built-in pools are under the account's default key")
	case auto && !*orDefault(props.KubectlHandler, true):
		reject(typ, "Volumes", "needs the KubectlHandler with Auto Mode, to apply the node class and the node pool")
	case props.Nodegroups != nil && len(*props.Nodegroups) == 0:
		reject(typ, "Volumes", "is for nodes that come with the cluster, and there are none: give your nodes the key yourself")
	}
	for _, g := range props.nodegroups() {
		if g.Options.LaunchTemplateSpec != nil {
			reject(typ, "Volumes", "is set beside a LaunchTemplateSpec: name the key in the devices of that template, and leave Volumes out")
		}
	}
}

// addVolumes makes the key, and has the nodes use it.
func (c *EncryptedCluster) addVolumes(props *EncryptedClusterProps, groups []Nodegroup) {
	if props.Volumes == nil {
		return
	}
	architecture := orDefault(props.Plugin, KmsPluginOptions{}).Architecture
	c.c.Volumes = &blueprint.Volumes{Architecture: cmp.Or(string(architecture), blueprint.AMD64)}
	c.c.Refs.Role = token(*c.role.RoleArn())
	if c.volumesKey = props.Volumes.Key; c.volumesKey != nil {
		c.c.Volumes.KeyARN = *c.volumesKey.KeyArn()
	} else {
		spec, _ := c.c.VolumesKey()
		c.volumesKey = newSupportKey(c, "VolumesKey", spec)
	}
	c.c.Refs.VolumesKey = token(*c.volumesKey.KeyArn())
	for i := range groups {
		c.useLaunchTemplate(&groups[i], c.c.Capacity.NodeGroups[i])
	}
	if c.c.NewNodes() {
		role := c.nodesRole()
		c.c.Refs.NodeRoleName = token(*role.RoleName())
		for _, id := range *c.vpc.SelectSubnets(props.subnets()).SubnetIds {
			c.c.Refs.SubnetIDs = append(c.c.Refs.SubnetIDs, *id)
		}
		c.addNodeEntry("NodeAccess", *role.RoleArn())
	}
	if c.c.KubectlHandler {
		newManifest(c, encryptedClusterType, "Volumes", c.cluster, c.c.VolumeObjects())
	}
}

// useLaunchTemplate has a node group start instances whose disks are under the key, and
// whose metadata service answers the node alone.
func (c *EncryptedCluster) useLaunchTemplate(g *Nodegroup, spec blueprint.NodeGroup) {
	devices := []any{}
	for _, d := range spec.Devices() {
		ebs := &awsec2.CfnLaunchTemplate_EbsProperty{
			Encrypted: jsii.Bool(true), KmsKeyId: c.volumesKey.KeyArn(), VolumeType: jsii.String("gp3"), DeleteOnTermination: jsii.Bool(true),
		}
		if d.SizeGiB > 0 {
			ebs.VolumeSize = jsii.Number(d.SizeGiB)
		}
		devices = append(devices, &awsec2.CfnLaunchTemplate_BlockDeviceMappingProperty{DeviceName: jsii.String(d.Name), Ebs: ebs})
	}
	id := "NodesTemplate"
	if g.Id != nil {
		id += "-" + *g.Id
	}
	template := awsec2.NewCfnLaunchTemplate(c, jsii.String(id), &awsec2.CfnLaunchTemplateProps{
		LaunchTemplateData: &awsec2.CfnLaunchTemplate_LaunchTemplateDataProperty{
			BlockDeviceMappings: &devices,
			MetadataOptions:     &awsec2.CfnLaunchTemplate_MetadataOptionsProperty{HttpTokens: jsii.String("required"), HttpPutResponseHopLimit: jsii.Number(blueprint.MetadataHops)},
		},
	})
	g.Options.DiskSize = nil
	g.Options.LaunchTemplateSpec = &awseksv2.LaunchTemplateSpec{Id: template.Ref(), Version: template.AttrLatestVersionNumber()}
}
