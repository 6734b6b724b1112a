package blueprint

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/internal/place"
)

// Volumes are the disks of nodes and the volumes of pods, under a key.
type Volumes struct {
	// KeyARN is that of an existing key. Empty for a new one.
	KeyARN string
	// Architecture of the nodes of Auto Mode.
	Architecture string
}

// CSIDriver is the add-on that makes volumes for pods on node groups.
const CSIDriver = "aws-ebs-csi-driver"

// volumesKey is the key with who may use it.
func (c Cluster) volumesKey() keypolicy.VolumesKey {
	k := keypolicy.VolumesKey{RootARN: c.At.IAM("root"), EC2Service: c.At.Service("ec2")}
	if len(c.Capacity.NodeGroups) > 0 {
		k.RoleARNs = append(k.RoleARNs, c.At.IAM(keypolicy.AutoScalingRole))
	}
	if c.AutoMode() && c.Refs.Role != nil {
		k.RoleARNs = append(k.RoleARNs, c.Refs.Role.Text())
	}
	if i := slices.IndexFunc(c.MoreAddOns, func(a AddOn) bool { return a.Name == CSIDriver && a.RoleARN != "" }); i >= 0 {
		k.RoleARNs = append(k.RoleARNs, c.MoreAddOns[i].RoleARN)
	}
	return k
}

// VolumesKey is the new key of the volumes. The second result is false if there is none.
func (c Cluster) VolumesKey() (KeySpec, bool) {
	if c.Volumes == nil || c.Volumes.KeyARN != "" {
		return KeySpec{}, false
	}
	key := supportKey(place.VolumesAlias(c.Name), "Encrypts the volumes of EKS cluster "+c.Name, c.volumesKey().Statements())
	key.DeleteUnused = true
	return key, true
}

// VolumeStatements are what the policy of an existing key of the volumes needs.
func (c Cluster) VolumeStatements() []iampolicy.Statement {
	if c.Volumes == nil || c.Volumes.KeyARN == "" {
		return nil
	}
	return c.volumesKey().Use()
}

// VolumesKeyARN is that of the key of the volumes, or "".
func (c Cluster) VolumesKeyARN() string {
	if c.Volumes != nil && c.Volumes.KeyARN != "" {
		return c.Volumes.KeyARN
	}
	return text(c.Refs.VolumesKey)
}

// NewNodes tells that Auto Mode has nodes of a class of their own, whose disks are under
// the key: those of the built-in pools are not.
func (c Cluster) NewNodes() bool { return c.Volumes != nil && c.AutoMode() }

// VolumeObjects put the volumes of pods, and the nodes of Auto Mode, under the key.
func (c Cluster) VolumeObjects() []runtime.Object {
	if c.Volumes == nil {
		return nil
	}
	var all []runtime.Object
	if c.NewNodes() {
		all = manifest.EncryptedNodes{
			ClusterName: c.Name, KeyARN: c.VolumesKeyARN(), RoleName: text(c.Refs.NodeRoleName), SubnetIDs: c.Refs.SubnetIDs, Architecture: c.Volumes.Architecture,
		}.Objects()
	}
	return append(all, manifest.EncryptedStorage(c.VolumesKeyARN(), c.AutoMode()))
}

// Device is a disk of a node.
type Device struct {
	Name    string
	SizeGiB int
}

// Devices are the disks of the group's nodes, of which the last holds images and pods.
// Source: Bottlerocket, "Default Volumes"; Amazon Linux 2023 on EKS has one.
func (g NodeGroup) Devices() []Device {
	size := g.DiskSizeGiB
	if size == 0 {
		size = DiskSize.Least
	}
	if strings.HasPrefix(g.AMI(), "BOTTLEROCKET") {
		return []Device{{"/dev/xvda", 0}, {"/dev/xvdb", size}}
	}
	return []Device{{"/dev/xvda", size}}
}
