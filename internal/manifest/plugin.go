package manifest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Mode is the kind of workload that the plugin runs as.
type Mode string

const (
	// Deployment watches over the key and serves no API server. It runs in every
	// mode on an EKS cluster.
	Deployment Mode = "deployment"
	// Sidecar is a plugin in the pod of each hosted API server: see [Sidecars].
	Sidecar Mode = "sidecar"
	// DaemonSet offers a socket on every node.
	DaemonSet Mode = "daemonset"
	// StaticPod runs beside an API server that the kubelet of a control plane's
	// node runs itself: see [StaticPods].
	StaticPod Mode = "static-pod"
)

const (
	// DefaultNamespace is one half of what a Pod Identity association has to name.
	DefaultNamespace = "ekskms-system"
	// DefaultServiceAccount is the other half.
	DefaultServiceAccount = "kms-plugin"

	// SocketAddress is where the plugin listens inside its container, and where
	// an API server's container has the socket too.
	SocketAddress = "unix://" + socketDir + "/socket.sock"
	// Replicas is the number of pods of a Deployment that is given none.
	Replicas = 2

	// HostSocketDir is the node's folder that holds the socket of a DaemonSet or a
	// static pod.
	HostSocketDir = "/var/run/kms-plugin"

	name       = "kms-plugin"
	nodeName   = "kms-plugin-node" // what the DaemonSet is called
	clusterKey = "ekskms.github.io/cluster"

	// apiTokenDir is where client libraries look for the API's token.
	apiTokenDir = "/var/run/secrets/kubernetes.io/serviceaccount" //nolint:gosec // a folder

	// The Pod Identity agent listens on the node's link-local addresses (EKS
	// user guide, EKS Pod Identity considerations).
	podIdentityIPv4 = "169.254.170.23/32"
	podIdentityIPv6 = "fd00:ec2::23/128"
)

// PluginInput is what differs from cluster to cluster.
type PluginInput struct {
	ClusterName       string
	ClusterARN        string // of the EKS cluster whose key is watched
	KeyARN            string
	Image             string
	EncryptionContext map[string]string

	Mode           Mode   // Default: Deployment
	Region         string // Default: the plugin reads it from the key's ARN
	Architecture   string // as in kubernetes.io/arch. Default: any
	Replicas       int32  // of a Deployment. Default: 2
	Namespace      string // Default: DefaultNamespace
	ServiceAccount string // Default: DefaultServiceAccount
	// HostPaths are the folders of the nodes that pods may mount beside a socket on the
	// node, each as it is written or, with a slash at its end, with all below it: who can
	// write there can plant a link to the socket. At most 50, only in mode DaemonSet.
	// Default: none.
	HostPaths []string
}

// Plugin returns the plugin's objects in the order in which to apply them. Modes
// Deployment and Sidecar have the same: what a sidecar is made of goes to the
// tenants.
func Plugin(in PluginInput) ([]runtime.Object, error) {
	everywhere, node, err := PluginParts(in)
	return slices.Concat(everywhere, node), err
}

// PluginParts returns the objects of [Plugin] in two parts: what every mode has,
// and what only mode DaemonSet has, for after it. A cluster that leaves that mode
// must lose the second part, whose policies would go on to refuse pods.
func PluginParts(in PluginInput) (everywhere, node []runtime.Object, err error) {
	if in.Mode == "" {
		in.Mode = Deployment
	}
	if in.Replicas == 0 {
		in.Replicas = Replicas
	}
	if in.Namespace == "" {
		in.Namespace = DefaultNamespace
	}
	if in.ServiceAccount == "" {
		in.ServiceAccount = DefaultServiceAccount
	}
	if err := in.check(); err != nil {
		return nil, nil, fmt.Errorf("manifest.Plugin: %w", err)
	}
	everywhere = []runtime.Object{
		in.namespace(), in.serviceAccount(), in.reporter(), in.reporterBinding(),
		in.networkPolicy(name), in.deployment(), in.disruptionBudget(),
	}
	if in.Mode == DaemonSet {
		// The policies first: they take a moment to be in force. No
		// PodDisruptionBudget: a drain passes a DaemonSet's pods by.
		node = append(in.socketPolicies(), in.networkPolicy(nodeName), in.daemonSet())
	}
	return everywhere, node, nil
}

func (in PluginInput) check() error {
	var errs []error
	for field, value := range map[string]string{"ClusterName": in.ClusterName, "ClusterARN": in.ClusterARN, "KeyARN": in.KeyARN, "Image": in.Image} {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s is required", field))
		}
	}
	errs = append(errs, checkContext(in.EncryptionContext)...)
	if in.Mode != Deployment && in.Mode != Sidecar && in.Mode != DaemonSet {
		errs = append(errs, fmt.Errorf("Mode is %q, must be %q, %q or %q", in.Mode, Deployment, Sidecar, DaemonSet))
	}
	if len(in.HostPaths) > 0 && in.Mode != DaemonSet {
		errs = append(errs, fmt.Errorf("HostPaths is set in mode %s, must be left out: only mode %s has a policy for them", in.Mode, DaemonSet))
	}
	if n := len(in.HostPaths); n > MaxHostPaths {
		errs = append(errs, fmt.Errorf("HostPaths has %d items, must have at most %d", n, MaxHostPaths))
	}
	for i, path := range in.HostPaths {
		if problem := HostPathProblem(path); problem != "" {
			errs = append(errs, fmt.Errorf("HostPaths[%d] is %q: %s", i, path, problem))
		}
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
	return join(errs)
}

func checkContext(context map[string]string) (errs []error) {
	if len(context) == 0 {
		errs = append(errs, errors.New("EncryptionContext is required: the key policy allows nothing without it"))
	}
	for k := range context {
		if k == "" || strings.Contains(k, "=") {
			errs = append(errs, fmt.Errorf("EncryptionContext key %q must not be empty or hold '='", k))
		}
	}
	return errs
}

// join puts the errors into an order that does not change from run to run.
func join(errs []error) error {
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func (in PluginInput) namespace() *corev1.Namespace {
	level := "restricted"
	if in.Mode == DaemonSet {
		// Both lower levels forbid hostPath volumes, and a socket on the node
		// is what this mode is for. The DaemonSet's container keeps to everything
		// else of the restricted level but the user, the Deployment's to all of it.
		level = "privileged"
	}
	labels := standardLabels(name)
	for _, use := range []string{"enforce", "warn", "audit"} {
		labels["pod-security.kubernetes.io/"+use] = level
	}
	m := in.clusterMeta(in.Namespace)
	m.Labels = labels
	return &corev1.Namespace{TypeMeta: typeMeta("v1", "Namespace"), ObjectMeta: m}
}

func (in PluginInput) serviceAccount() *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		TypeMeta:   typeMeta("v1", "ServiceAccount"),
		ObjectMeta: in.meta(in.ServiceAccount),
		// The Deployment's pods, which report what they find, mount a token of
		// their own that expires soon; nothing else needs one. Pod Identity is not
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
func (in PluginInput) networkPolicy(app string) *networkingv1.NetworkPolicy {
	port := func(protocol corev1.Protocol, number int) networkingv1.NetworkPolicyPort {
		return networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: ptr(intstr.FromInt(number))}
	}
	cidr := func(c string) networkingv1.NetworkPolicyPeer {
		return networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: c}}
	}
	return &networkingv1.NetworkPolicy{
		TypeMeta:   typeMeta("networking.k8s.io/v1", "NetworkPolicy"),
		ObjectMeta: in.meta(app),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: selector(app)},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
			// No ingress. The kubelet's probes come from the pod's own node,
			// which policies can't shut out (Kubernetes documentation, network
			// policies), so /livez stays in reach.
			Egress: []networkingv1.NetworkPolicyEgressRule{
				// DNS, wherever it is: pods of CoreDNS, a node-local cache, or
				// the node itself under EKS Auto Mode.
				{Ports: []networkingv1.NetworkPolicyPort{port(corev1.ProtocolUDP, 53), port(corev1.ProtocolTCP, 53)}},
				// AWS KMS: neither its public addresses nor those of a VPC
				// endpoint can be known here. The Kubernetes API too: EKS's
				// endpoints listen on 443, behind the service's 443.
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

// reporter is all that the Deployment's pods may do on the Kubernetes API: say in
// an Event what happened, and keep a condition on their own Deployment.
func (in PluginInput) reporter() *rbacv1.Role {
	return &rbacv1.Role{
		TypeMeta:   typeMeta("rbac.authorization.k8s.io/v1", "Role"),
		ObjectMeta: in.meta(name),
		Rules: []rbacv1.PolicyRule{
			// RBAC can't restrict a creation to a name.
			{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create"}},
			{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, ResourceNames: []string{name}, Verbs: []string{"get"}},
			{APIGroups: []string{"apps"}, Resources: []string{"deployments/status"}, ResourceNames: []string{name}, Verbs: []string{"patch"}},
		},
	}
}

func (in PluginInput) reporterBinding() *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		TypeMeta:   typeMeta("rbac.authorization.k8s.io/v1", "RoleBinding"),
		ObjectMeta: in.meta(name),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: in.ServiceAccount, Namespace: in.Namespace}},
	}
}

func (in PluginInput) deployment() *appsv1.Deployment {
	p := in.process()
	// It serves no API server that would be better off with an old ok: its
	// readiness is what people look at.
	p.args = []string{"--vouch-for", "5m", "--watch-cluster", in.ClusterARN, "--report-on", "deployment/" + name}
	p.mounts = []corev1.VolumeMount{{Name: "api-token", MountPath: apiTokenDir, ReadOnly: true}}

	pod := in.pod(name, p)
	pod.Spec.SecurityContext.FSGroup = ptr(nonRoot)
	pod.Spec.Volumes = []corev1.Volume{inMemory("socket"), apiToken()}
	// No priority class: nothing depends on these pods, so they should never
	// push others off a node.
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelHostname} {
		pod.Spec.TopologySpreadConstraints = append(pod.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
			MaxSkew:           1,
			TopologyKey:       key,
			WhenUnsatisfiable: corev1.ScheduleAnyway, // a cluster of one node may still be watched
			LabelSelector:     &metav1.LabelSelector{MatchLabels: selector(name)},
			MatchLabelKeys:    []string{appsv1.DefaultDeploymentUniqueLabelKey},
		})
	}
	return &appsv1.Deployment{
		TypeMeta:   typeMeta("apps/v1", "Deployment"),
		ObjectMeta: in.meta(name),
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr(in.Replicas),
			Selector: &metav1.LabelSelector{MatchLabels: selector(name)},
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

// apiToken is the token of the Kubernetes API, with what a client needs beside
// it, as the API server would mount it by itself, but for ten minutes and not for
// an hour: that is the shortest it makes (TokenRequest's expirationSeconds). The
// kubelet renews it, so a reader must read it again.
func apiToken() corev1.Volume {
	return corev1.Volume{Name: "api-token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr(int64(600))}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}},
			}}},
		},
	}}}
}

// inMemory is a folder that is on no disk and goes with the pod.
func inMemory(volume string) corev1.Volume {
	return corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
		Medium:    corev1.StorageMediumMemory,
		SizeLimit: ptr(resource.MustParse("1Mi")),
	}}}
}

func (in PluginInput) disruptionBudget() *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		TypeMeta:   typeMeta("policy/v1", "PodDisruptionBudget"),
		ObjectMeta: in.meta(name),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: ptr(intstr.FromInt32(1)),
			Selector:     &metav1.LabelSelector{MatchLabels: selector(name)},
			// A disabled key makes every pod unready, and must not block node
			// drains on top of that.
			UnhealthyPodEvictionPolicy: ptr(policyv1.AlwaysAllow),
		},
	}
}

func (in PluginInput) daemonSet() *appsv1.DaemonSet {
	p := in.process()
	p.user, p.group = 0, 0
	pod := in.pod(nodeName, p)
	pod.Spec.Volumes = []corev1.Volume{hostSocket()}
	// API servers on this node can't start without the plugin. The class is
	// open to every namespace unless a quota restricts it.
	pod.Spec.PriorityClassName = "system-node-critical"
	// Wherever an API server runs, tainted nodes included.
	pod.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	return &appsv1.DaemonSet{
		TypeMeta:   typeMeta("apps/v1", "DaemonSet"),
		ObjectMeta: in.meta(nodeName),
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: selector(nodeName)},
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

// hostSocket is the node's folder for the socket. The kubelet makes it, owned by
// root, and hostPath volumes know no fsGroup, so only uid 0 can put a socket
// there. The plugin's container has no capability, so as uid 0 it is the owner of
// its files and nothing more.
func hostSocket() corev1.Volume {
	return corev1.Volume{Name: "socket", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{
		Path: HostSocketDir,
		Type: ptr(corev1.HostPathDirectoryOrCreate),
	}}}
}

// process is the plugin as both workloads run it.
func (in PluginInput) process() process {
	return process{
		image: in.Image, keyARN: in.KeyARN, region: in.Region, context: in.EncryptionContext,
		socket: "socket", healthPort: podHealthPort, ready: true, user: nonRoot, group: nonRoot,
	}
}

// pod is what both workloads share. It has no volumes yet.
func (in PluginInput) pod(app string, p process) corev1.PodTemplateSpec {
	nodes := map[string]string{corev1.LabelOSStable: "linux"} // Pod Identity is on no other
	if in.Architecture != "" {
		nodes[corev1.LabelArchStable] = in.Architecture
	}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels:      standardLabels(app),
			Annotations: map[string]string{clusterKey: in.ClusterName},
		},
		Spec: corev1.PodSpec{
			ServiceAccountName:            in.ServiceAccount,
			AutomountServiceAccountToken:  ptr(false),
			EnableServiceLinks:            ptr(false),
			NodeSelector:                  nodes,
			TerminationGracePeriodSeconds: ptr(gracePeriod),
			SecurityContext: &corev1.PodSecurityContext{
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{p.container()},
		},
	}
}

func (in PluginInput) meta(objectName string) metav1.ObjectMeta {
	m := in.clusterMeta(objectName)
	m.Namespace = in.Namespace
	if objectName == nodeName {
		m.Labels = standardLabels(nodeName)
	}
	return m
}

// clusterMeta is meta for objects that are in no namespace.
func (in PluginInput) clusterMeta(objectName string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:   objectName,
		Labels: standardLabels(name),
		// An annotation: cluster names may be longer than a label's 63 bytes.
		Annotations: map[string]string{clusterKey: in.ClusterName},
	}
}

func standardLabels(app string) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":       app,
		"app.kubernetes.io/component":  "encryption",
		"app.kubernetes.io/part-of":    "ekskms",
		"app.kubernetes.io/managed-by": "ekskms",
	}
}

// selector can't be changed on a live workload: it has what never changes.
func selector(app string) map[string]string {
	return map[string]string{"app.kubernetes.io/name": app}
}

func typeMeta(apiVersion, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}
}

func ptr[T any](v T) *T { return &v }
