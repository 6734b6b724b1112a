package manifest

import (
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// Encrypted is the name of what puts volumes under a key: the storage class, the node
// class and the node pool.
const Encrypted = "encrypted"

// EncryptedStorage returns the storage class for volumes of pods under a key, by the driver
// of Auto Mode or by the EBS CSI driver. Sources: Amazon EKS User Guide, "Create a storage
// class"; aws-ebs-csi-driver, docs/parameters.md.
func EncryptedStorage(keyARN string, autoMode bool) runtime.Object {
	driver := "ebs.csi.aws.com"
	if autoMode {
		driver = "ebs.csi.eks.amazonaws.com"
	}
	return &storagev1.StorageClass{
		TypeMeta:             typeMeta("storage.k8s.io/v1", "StorageClass"),
		ObjectMeta:           metav1.ObjectMeta{Name: Encrypted},
		Provisioner:          driver,
		Parameters:           map[string]string{"type": "gp3", "encrypted": "true", "kmsKeyId": keyARN},
		VolumeBindingMode:    ptr(storagev1.VolumeBindingWaitForFirstConsumer),
		AllowVolumeExpansion: ptr(true),
	}
}

// EncryptedNodes is what Auto Mode needs to know of nodes whose disks are under a key.
type EncryptedNodes struct {
	ClusterName, KeyARN string
	// RoleName is the name of the nodes' role.
	RoleName     string
	SubnetIDs    []string
	Architecture string
}

// Objects returns the node class and the node pool. Sources: Amazon EKS User Guide, "Create
// a Node Class for Amazon EKS" and "Create a Node Pool for EKS Auto Mode". EKS tags the
// cluster's security group with the name of the cluster.
func (n EncryptedNodes) Objects() []runtime.Object {
	subnets := []any{}
	for _, id := range n.SubnetIDs {
		subnets = append(subnets, map[string]any{"id": id})
	}
	class := map[string]any{
		"apiVersion": "eks.amazonaws.com/v1", "kind": "NodeClass", "metadata": map[string]any{"name": Encrypted},
		"spec": map[string]any{
			"role":                       n.RoleName,
			"subnetSelectorTerms":        subnets,
			"securityGroupSelectorTerms": []any{map[string]any{"tags": map[string]any{"aws:eks:cluster-name": n.ClusterName}}},
			"ephemeralStorage":           map[string]any{"kmsKeyID": n.KeyARN},
		},
	}
	in := func(key string, values ...any) any {
		return map[string]any{"key": key, "operator": "In", "values": values}
	}
	pool := map[string]any{
		"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": map[string]any{"name": Encrypted},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
			"nodeClassRef": map[string]any{"group": "eks.amazonaws.com", "kind": "NodeClass", "name": Encrypted},
			"requirements": []any{
				in("karpenter.sh/capacity-type", "on-demand"),
				in("eks.amazonaws.com/instance-category", "c", "m", "r"),
				map[string]any{"key": "eks.amazonaws.com/instance-generation", "operator": "Gt", "values": []any{"4"}},
				in("kubernetes.io/arch", n.Architecture),
				in("kubernetes.io/os", "linux"),
			},
		}}},
	}
	return []runtime.Object{&unstructured.Unstructured{Object: class}, &unstructured.Unstructured{Object: pool}}
}
