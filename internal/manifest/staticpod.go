package manifest

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// HostEncryptionDir is the folder of [EncryptionFile] on a node of kubeadm.
	HostEncryptionDir = "/etc/kubernetes/ekskms"

	loopback = "127.0.0.1"
)

// StaticPodInput is what differs from cluster to cluster.
type StaticPodInput struct {
	ClusterName       string
	KeyARN            string
	Image             string
	EncryptionContext map[string]string
	Region            string // Default: the plugin reads it from the key's ARN
	// HealthPort is free on the node's loopback address.
	// Default: DefaultSidecarHealthPort.
	HealthPort int32
}

// StaticPods returns the pod that the kubelet of a control plane's node runs from
// its manifest folder, /etc/kubernetes/manifests under kubeadm, without any API
// server. Its credentials are those of the instance's role.
//
// It is on the network of the node, as the API server itself: the instance's
// metadata service counts network hops, and no pod network is needed to start.
func StaticPods(in StaticPodInput) (*corev1.Pod, error) {
	if in.HealthPort == 0 {
		in.HealthPort = DefaultSidecarHealthPort
	}
	if err := in.check(); err != nil {
		return nil, fmt.Errorf("manifest.StaticPods: %w", err)
	}
	p := process{
		image: in.Image, keyARN: in.KeyARN, region: in.Region, context: in.EncryptionContext,
		socket: "socket", healthHost: loopback, healthPort: in.HealthPort,
		user: 0, group: 0, // as for a DaemonSet: see hostSocket
		ready: true,
	}
	return &corev1.Pod{
		TypeMeta: typeMeta("v1", "Pod"),
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "kube-system",
			Labels:      standardLabels(name),
			Annotations: map[string]string{clusterKey: in.ClusterName},
		},
		Spec: corev1.PodSpec{
			PriorityClassName:             "system-node-critical",
			HostNetwork:                   true,
			DNSPolicy:                     corev1.DNSDefault, // the cluster's own DNS starts later
			AutomountServiceAccountToken:  ptr(false),
			EnableServiceLinks:            ptr(false),
			TerminationGracePeriodSeconds: ptr(gracePeriod),
			SecurityContext: &corev1.PodSecurityContext{
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{p.container()},
			Volumes:    []corev1.Volume{hostSocket()},
		},
	}, nil
}

func (in StaticPodInput) check() error {
	var errs []error
	for field, value := range map[string]string{"ClusterName": in.ClusterName, "KeyARN": in.KeyARN, "Image": in.Image} {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s is required", field))
		}
	}
	errs = append(errs, checkContext(in.EncryptionContext)...)
	if in.HealthPort < 1 || in.HealthPort > 65535 {
		errs = append(errs, fmt.Errorf("HealthPort is %d, must be 1 to 65535", in.HealthPort))
	}
	return join(errs)
}

// Kubeadm returns the part of kubeadm's ClusterConfiguration that gives the API server
// the socket and the EncryptionConfiguration. Folders, not single files: a file that is
// mounted alone never changes, and the socket comes and goes. Source: k8s.io/kubernetes
// v1.36.1, cmd/kubeadm/app/apis/kubeadm/v1beta4.
func Kubeadm() map[string]any {
	var args []fields
	for _, f := range APIServerFlags() {
		args = append(args, fields{"name": f.Name, "value": f.Value})
	}
	volume := func(name, host, mount string, kind corev1.HostPathType) fields {
		return fields{"name": name, "hostPath": host, "mountPath": mount, "readOnly": true, "pathType": kind}
	}
	return fields{"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration", "apiServer": fields{
		"extraArgs": args,
		"extraVolumes": []fields{
			volume("kms-plugin", HostSocketDir, socketDir, corev1.HostPathDirectoryOrCreate),
			// If the folder is not there, the API server must not start without it.
			volume("ekskms", HostEncryptionDir, EncryptionDir, corev1.HostPathDirectory),
		},
	}}
}
