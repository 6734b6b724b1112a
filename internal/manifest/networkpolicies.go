package manifest

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// EnableNetworkPolicies returns the object that makes EKS Auto Mode enforce
// network policies, which it does not by default. Source: Amazon EKS User Guide,
// "Use Network Policies with EKS Auto Mode".
func EnableNetworkPolicies() runtime.Object {
	return &corev1.ConfigMap{
		TypeMeta:   typeMeta("v1", "ConfigMap"),
		ObjectMeta: metav1.ObjectMeta{Name: "amazon-vpc-cni", Namespace: "kube-system"},
		Data:       map[string]string{"enable-network-policy-controller": "true"},
	}
}
