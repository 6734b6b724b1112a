package manifest

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	socketDir     = "/run/kms-plugin"
	podHealthPort = int32(8080)
	// DefaultSidecarHealthPort is the health port where the plugin shares the
	// network of an API server's pod or of a node. 8080 is taken there: kine, with
	// which some hosted control planes store their data, has its metrics on it.
	DefaultSidecarHealthPort = int32(10270)

	nonRoot     = int64(65532) // the image's user
	gracePeriod = int64(15)    // seconds; the plugin drains for 5 s at most
)

// process is one kms-plugin: in what its command line and its container differ
// from mode to mode.
type process struct {
	image, keyARN, region string
	context               map[string]string

	socket     string               // name of the volume that holds the socket
	mounts     []corev1.VolumeMount // beside the socket's
	args       []string             // beside those of every mode
	healthHost string               // Default: all addresses of the pod
	healthPort int32
	ready      bool // whether the pod is to be ready only while the key can be used
	user       int64
	group      int64
}

// container is the one place where the plugin's container is made, for all modes.
func (p process) container() corev1.Container {
	probe := func(path string) corev1.ProbeHandler {
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Host: p.healthHost, Path: path, Port: intstr.FromString("health")}}
	}
	c := corev1.Container{
		Name:  name,
		Image: p.image,
		Args:  p.commandLine(),
		// Below the memory limit, so that Go collects before the kernel
		// kills. The rest is for `kms-plugin probe`, a second process.
		Env:          []corev1.EnvVar{{Name: "GOMEMLIMIT", Value: "64MiB"}},
		Ports:        []corev1.ContainerPort{{Name: "health", ContainerPort: p.healthPort, Protocol: corev1.ProtocolTCP}},
		VolumeMounts: append([]corev1.VolumeMount{{Name: p.socket, MountPath: socketDir}}, p.mounts...),
		// No CPU limit: a throttled plugin turns into time-outs of the
		// API server.
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("10m"),
				corev1.ResourceMemory: resource.MustParse("48Mi"),
			},
			Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")},
		},
		// All of it here and nothing left to the pod, which may be another's.
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr(false),
			Privileged:               ptr(false),
			ReadOnlyRootFilesystem:   ptr(true),
			RunAsNonRoot:             ptr(p.user != 0),
			RunAsUser:                ptr(p.user),
			RunAsGroup:               ptr(p.group),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		StartupProbe:  &corev1.Probe{ProbeHandler: probe("/livez"), PeriodSeconds: 1, TimeoutSeconds: 2, FailureThreshold: 60},
		LivenessProbe: &corev1.Probe{ProbeHandler: probe("/livez"), PeriodSeconds: 10, TimeoutSeconds: 5, FailureThreshold: 6},
	}
	if p.ready {
		// Says what the plugin's own probe found, which makes the whole way
		// to the key and back once a minute. Asking costs no KMS call.
		c.ReadinessProbe = &corev1.Probe{ProbeHandler: probe("/readyz"), PeriodSeconds: 10, TimeoutSeconds: 5, FailureThreshold: 2}
	}
	return c
}

func (p process) commandLine() []string {
	args := []string{"serve", "--key", p.keyARN}
	for _, k := range slices.Sorted(maps.Keys(p.context)) {
		args = append(args, "--encryption-context", k+"="+p.context[k])
	}
	if p.region != "" {
		args = append(args, "--region", p.region)
	}
	args = append(args,
		"--listen", SocketAddress,
		// With no host, every address of the pod: the kubelet asks the pod's IP,
		// which is IPv4 or IPv6.
		"--health-listen", net.JoinHostPort(p.healthHost, strconv.Itoa(int(p.healthPort))),
	)
	args = append(args, p.args...)
	for i, a := range args {
		// Kubernetes expands $(NAME) in arguments; none is meant here.
		args[i] = strings.ReplaceAll(a, "$(", "$$(")
	}
	return args
}
