package manifest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Mode is the kind of workload that the plugin runs as.
type Mode string

const (
	// Deployment watches over the key and serves no API server.
	Deployment Mode = "deployment"
	// DaemonSet offers the socket on every node.
	DaemonSet Mode = "daemonset"
)

const (
	// DefaultNamespace is one half of what a Pod Identity association has to name.
	DefaultNamespace = "ekskms-system"
	// DefaultServiceAccount is the other half.
	DefaultServiceAccount = "kms-plugin"

	// SocketAddress is where the plugin listens inside its container.
	SocketAddress = "unix://" + socketDir + "/socket.sock"
	// HostSocketDir is the node's folder that holds the socket in DaemonSet mode.
	HostSocketDir = "/var/run/kms-plugin"

	name            = "kms-plugin"
	socketDir       = "/run/kms-plugin"
	healthPort      = 8080
	nonRoot         = int64(65532) // the image's user
	defaultReplicas = int32(2)
	clusterKey      = "ekskms.github.io/cluster"

	// The Pod Identity agent listens on the node's link-local addresses (EKS
	// user guide, EKS Pod Identity considerations).
	podIdentityIPv4 = "169.254.170.23/32"
	podIdentityIPv6 = "fd00:ec2::23/128"
)

// PluginInput is what differs from cluster to cluster.
type PluginInput struct {
	ClusterName       string
	KeyARN            string
	Image             string
	EncryptionContext map[string]string

	Mode           Mode   // Default: Deployment
	Region         string // Default: the plugin reads it from the key's ARN
	Architecture   string // as in kubernetes.io/arch. Default: any
	Replicas       int32  // of a Deployment. Default: 2
	Namespace      string // Default: DefaultNamespace
	ServiceAccount string // Default: DefaultServiceAccount
}

// Plugin returns the plugin's objects in the order in which to apply them.
func Plugin(in PluginInput) ([]runtime.Object, error) {
	if in.Mode == "" {
		in.Mode = Deployment
	}
	if in.Replicas == 0 {
		in.Replicas = defaultReplicas
	}
	if in.Namespace == "" {
		in.Namespace = DefaultNamespace
	}
	if in.ServiceAccount == "" {
		in.ServiceAccount = DefaultServiceAccount
	}
	if err := in.check(); err != nil {
		return nil, fmt.Errorf("manifest.Plugin: %w", err)
	}
	objs := []runtime.Object{in.namespace(), in.serviceAccount(), in.networkPolicy()}
	if in.Mode == DaemonSet {
		// No PodDisruptionBudget: a drain passes a DaemonSet's pods by.
		return append(objs, in.daemonSet()), nil
	}
	return append(objs, in.deployment(), in.disruptionBudget()), nil
}

func (in PluginInput) check() error {
	var errs []error
	for field, value := range map[string]string{"ClusterName": in.ClusterName, "KeyARN": in.KeyARN, "Image": in.Image} {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s is required", field))
		}
	}
	if len(in.EncryptionContext) == 0 {
		errs = append(errs, errors.New("EncryptionContext is required: the key policy allows nothing without it"))
	}
	for k := range in.EncryptionContext {
		if k == "" || strings.Contains(k, "=") {
			errs = append(errs, fmt.Errorf("EncryptionContext key %q must not be empty or hold '='", k))
		}
	}
	if in.Mode != Deployment && in.Mode != DaemonSet {
		errs = append(errs, fmt.Errorf("Mode is %q, must be %q or %q", in.Mode, Deployment, DaemonSet))
	}
	if in.Replicas < 2 {
		// One replica and a budget of one would block every node drain.
		errs = append(errs, fmt.Errorf("replicas is %d, must be 2 or more", in.Replicas))
	}
	for field, value := range map[string]string{"Namespace": in.Namespace, "ServiceAccount": in.ServiceAccount} {
		if problems := validation.IsDNS1123Label(value); len(problems) > 0 {
			errs = append(errs, fmt.Errorf("%s is %q: %s", field, value, problems[0]))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func (in PluginInput) namespace() *corev1.Namespace {
	level := "restricted"
	if in.Mode == DaemonSet {
		// Both lower levels forbid hostPath volumes, and a socket on the node
		// is what this mode is for. The container keeps to everything else of
		// the restricted level but the user.
		level = "privileged"
	}
	labels := standardLabels()
	for _, use := range []string{"enforce", "warn", "audit"} {
		labels["pod-security.kubernetes.io/"+use] = level
	}
	m := in.meta("")
	m.Name, m.Labels = in.Namespace, labels
	return &corev1.Namespace{TypeMeta: typeMeta("v1", "Namespace"), ObjectMeta: m}
}

func (in PluginInput) serviceAccount() *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		TypeMeta:   typeMeta("v1", "ServiceAccount"),
		ObjectMeta: in.meta(in.ServiceAccount),
		// The plugin never talks to the Kubernetes API. Pod Identity is not
		// touched by this: EKS's webhook adds a projected token volume of its
		// own, with the audience pods.eks.amazonaws.com (EKS user guide, how
		// EKS Pod Identity works), while this switches off the default mount
		// of the API's token.
		AutomountServiceAccountToken: ptr(false),
	}
}

// networkPolicy lets nobody in and the plugin out to three places. A network
// plugin that knows no policies ignores it, and one that judges traffic to the
// node by identity and not by address (Cilium) needs a policy of its own kind
// for the Pod Identity agent.
func (in PluginInput) networkPolicy() *networkingv1.NetworkPolicy {
	port := func(protocol corev1.Protocol, number int) networkingv1.NetworkPolicyPort {
		return networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: ptr(intstr.FromInt(number))}
	}
	cidr := func(c string) networkingv1.NetworkPolicyPeer {
		return networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: c}}
	}
	return &networkingv1.NetworkPolicy{
		TypeMeta:   typeMeta("networking.k8s.io/v1", "NetworkPolicy"),
		ObjectMeta: in.meta(name),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: selector()},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
			// No ingress. The kubelet's probes come from the pod's own node,
			// which policies can't shut out (Kubernetes documentation, network
			// policies), so /livez stays in reach.
			Egress: []networkingv1.NetworkPolicyEgressRule{
				// DNS, wherever it is: pods of CoreDNS, a node-local cache, or
				// the node itself under EKS Auto Mode.
				{Ports: []networkingv1.NetworkPolicyPort{port(corev1.ProtocolUDP, 53), port(corev1.ProtocolTCP, 53)}},
				// AWS KMS: neither its public addresses nor those of a VPC
				// endpoint can be known here.
				{Ports: []networkingv1.NetworkPolicyPort{port(corev1.ProtocolTCP, 443)}},
				// The Pod Identity agent of the node.
				{
					To:    []networkingv1.NetworkPolicyPeer{cidr(podIdentityIPv4), cidr(podIdentityIPv6)},
					Ports: []networkingv1.NetworkPolicyPort{port(corev1.ProtocolTCP, 80)},
				},
			},
		},
	}
}

func (in PluginInput) deployment() *appsv1.Deployment {
	pod := in.pod()
	pod.Spec.SecurityContext.RunAsNonRoot = ptr(true)
	pod.Spec.SecurityContext.RunAsUser = ptr(nonRoot)
	pod.Spec.SecurityContext.RunAsGroup = ptr(nonRoot)
	pod.Spec.SecurityContext.FSGroup = ptr(nonRoot)
	// In memory: a socket needs no disk, and the root file system is read-only.
	pod.Spec.Volumes[0].EmptyDir = &corev1.EmptyDirVolumeSource{
		Medium:    corev1.StorageMediumMemory,
		SizeLimit: ptr(resource.MustParse("1Mi")),
	}
	// No priority class: nothing depends on these pods, so they should never
	// push others off a node.
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelHostname} {
		pod.Spec.TopologySpreadConstraints = append(pod.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
			MaxSkew:           1,
			TopologyKey:       key,
			WhenUnsatisfiable: corev1.ScheduleAnyway, // a cluster of one node may still be watched
			LabelSelector:     &metav1.LabelSelector{MatchLabels: selector()},
			MatchLabelKeys:    []string{appsv1.DefaultDeploymentUniqueLabelKey},
		})
	}
	return &appsv1.Deployment{
		TypeMeta:   typeMeta("apps/v1", "Deployment"),
		ObjectMeta: in.meta(name),
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr(in.Replicas),
			Selector: &metav1.LabelSelector{MatchLabels: selector()},
			Template: pod,
			// A new version has to prove itself against the key before an old
			// pod goes.
			Strategy: appsv1.DeploymentStrategy{
				Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{
					MaxUnavailable: ptr(intstr.FromInt32(0)),
					MaxSurge:       ptr(intstr.FromInt32(1)),
				},
			},
			RevisionHistoryLimit: ptr(int32(3)),
		},
	}
}

func (in PluginInput) disruptionBudget() *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		TypeMeta:   typeMeta("policy/v1", "PodDisruptionBudget"),
		ObjectMeta: in.meta(name),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: ptr(intstr.FromInt32(1)),
			Selector:     &metav1.LabelSelector{MatchLabels: selector()},
			// A disabled key makes every pod unready, and must not block node
			// drains on top of that.
			UnhealthyPodEvictionPolicy: ptr(policyv1.AlwaysAllow),
		},
	}
}

func (in PluginInput) daemonSet() *appsv1.DaemonSet {
	pod := in.pod()
	// The kubelet makes the host's folder owned by root, and hostPath volumes
	// know no fsGroup, so only uid 0 can put a socket there. It has no
	// capability, so it is the owner of its files and nothing more.
	pod.Spec.SecurityContext.RunAsNonRoot = ptr(false)
	pod.Spec.SecurityContext.RunAsUser = ptr(int64(0))
	pod.Spec.SecurityContext.RunAsGroup = ptr(int64(0))
	pod.Spec.Volumes[0].HostPath = &corev1.HostPathVolumeSource{
		Path: HostSocketDir,
		Type: ptr(corev1.HostPathDirectoryOrCreate),
	}
	// API servers on this node can't start without the plugin. The class is
	// open to every namespace unless a quota restricts it.
	pod.Spec.PriorityClassName = "system-node-critical"
	// Wherever an API server runs, tainted nodes included.
	pod.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	return &appsv1.DaemonSet{
		TypeMeta:   typeMeta("apps/v1", "DaemonSet"),
		ObjectMeta: in.meta(name),
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: selector()},
			Template: pod,
			// No surge: the new pod would find the old one answering on the
			// socket and refuse to take it away.
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
				Type: appsv1.RollingUpdateDaemonSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDaemonSet{
					MaxUnavailable: ptr(intstr.FromInt32(1)),
					MaxSurge:       ptr(intstr.FromInt32(0)),
				},
			},
			// So that a bad version stops after one node.
			MinReadySeconds:      30,
			RevisionHistoryLimit: ptr(int32(3)),
		},
	}
}

// pod is what both modes share. Its one volume has no source yet.
func (in PluginInput) pod() corev1.PodTemplateSpec {
	args := []string{"serve", "--key", in.KeyARN}
	for _, k := range slices.Sorted(maps.Keys(in.EncryptionContext)) {
		args = append(args, "--encryption-context", k+"="+in.EncryptionContext[k])
	}
	if in.Region != "" {
		args = append(args, "--region", in.Region)
	}
	args = append(args,
		"--listen", SocketAddress,
		// Every address of the pod, as the kubelet asks the pod's IP, which is
		// IPv4 or IPv6.
		"--health-listen", fmt.Sprintf(":%d", healthPort),
	)
	if in.Mode == Deployment {
		// It serves no API server that would be better off with an old ok: its
		// readiness is what people look at.
		args = append(args, "--vouch-for", "5m")
	}
	for i, a := range args {
		// Kubernetes expands $(NAME) in arguments; none is meant here.
		args[i] = strings.ReplaceAll(a, "$(", "$$(")
	}

	nodes := map[string]string{corev1.LabelOSStable: "linux"} // Pod Identity is on no other
	if in.Architecture != "" {
		nodes[corev1.LabelArchStable] = in.Architecture
	}
	livez := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/livez", Port: intstr.FromString("health")}}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels:      standardLabels(),
			Annotations: map[string]string{clusterKey: in.ClusterName},
		},
		Spec: corev1.PodSpec{
			ServiceAccountName:            in.ServiceAccount,
			AutomountServiceAccountToken:  ptr(false),
			EnableServiceLinks:            ptr(false),
			NodeSelector:                  nodes,
			TerminationGracePeriodSeconds: ptr(int64(15)), // the plugin drains for 5 s at most
			SecurityContext: &corev1.PodSecurityContext{
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Volumes: []corev1.Volume{{Name: "socket"}},
			Containers: []corev1.Container{{
				Name:  name,
				Image: in.Image,
				Args:  args,
				// Below the memory limit, so that Go collects before the kernel
				// kills. The rest is for `kms-plugin probe`, a second process.
				Env:          []corev1.EnvVar{{Name: "GOMEMLIMIT", Value: "64MiB"}},
				Ports:        []corev1.ContainerPort{{Name: "health", ContainerPort: healthPort, Protocol: corev1.ProtocolTCP}},
				VolumeMounts: []corev1.VolumeMount{{Name: "socket", MountPath: socketDir}},
				// No CPU limit: a throttled plugin turns into time-outs of the
				// API server.
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{
						corev1.ResourceCPU:    resource.MustParse("10m"),
						corev1.ResourceMemory: resource.MustParse("48Mi"),
					},
					Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")},
				},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: ptr(false),
					Privileged:               ptr(false),
					ReadOnlyRootFilesystem:   ptr(true),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
					SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
				},
				StartupProbe:  &corev1.Probe{ProbeHandler: livez, PeriodSeconds: 1, TimeoutSeconds: 2, FailureThreshold: 60},
				LivenessProbe: &corev1.Probe{ProbeHandler: livez, PeriodSeconds: 10, TimeoutSeconds: 5, FailureThreshold: 6},
				// Says what the plugin's own probe found, which makes the whole way
				// to the key and back once a minute. Asking costs no KMS call.
				ReadinessProbe: &corev1.Probe{
					ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromString("health")}},
					PeriodSeconds:    10,
					TimeoutSeconds:   5,
					FailureThreshold: 2,
				},
			}},
		},
	}
}

func (in PluginInput) meta(objectName string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{
		Name:   objectName,
		Labels: standardLabels(),
		// An annotation: cluster names may be longer than a label's 63 bytes.
		Annotations: map[string]string{clusterKey: in.ClusterName},
	}
	if objectName != "" {
		m.Namespace = in.Namespace
	}
	return m
}

func standardLabels() map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":       name,
		"app.kubernetes.io/component":  "encryption",
		"app.kubernetes.io/part-of":    "ekskms",
		"app.kubernetes.io/managed-by": "ekskms",
	}
}

// selector can't be changed on a live workload: it has what never changes.
func selector() map[string]string {
	return map[string]string{"app.kubernetes.io/name": name}
}

func typeMeta(apiVersion, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}
}

func ptr[T any](v T) *T { return &v }
