package manifest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

const (
	// SocketLabel on a namespace, with the value [SocketAllowed], lets its pods
	// mount the node's folder of the socket, as a hosted API server must. Who may
	// set it is a question of RBAC on namespaces.
	SocketLabel = "ekskms.github.io/kms-socket"
	// SocketAllowed is the one value of [SocketLabel] that has a meaning.
	SocketAllowed = "allowed"

	socketPolicyPods    = "ekskms-kms-socket-pods"
	socketPolicyVolumes = "ekskms-kms-socket-volumes"
)

// The policies' CEL. A folder is a path of the node in one spelling: no empty
// parts and no ".", as the kernel reads it, with a slash at its end.
const (
	celFolders = `variables.paths.map(p, p.split('/').filter(c, c != '' && c != '.').map(c, '/' + c).join('') + '/')`

	celPodPaths    = `has(%[1]s.spec.volumes) ? %[1]s.spec.volumes.filter(v, has(v.hostPath)).map(v, v.hostPath.path) : []`
	celVolumePaths = `(has(%[1]s.spec.hostPath) ? [%[1]s.spec.hostPath.path] : []) + (has(%[1]s.spec.local) ? [%[1]s.spec.local.path] : [])`

	// celBefore: a mount can't be changed. What a pod had when the policy came says
	// nothing of an update, and to refuse one would only keep pods with finalizers
	// from being deleted.
	celBefore  = `request.operation == 'UPDATE' ? %s : []`
	celAdded   = `(%s).filter(p, !(p in variables.before))`
	celAllowed = `variables.refused.size() == 0`
	celMessage = `'the node folder ' + variables.refused[0] + ' is not among those that may be mounted here: a link in it can lead to the socket of kms-plugin, with which all data of API servers can be decrypted'`

	// celOwnProcesses: with the node's processes in sight, the /proc of the
	// container's own is as good as a mount of the node's. A pod can't change this
	// later.
	celOwnProcesses = `request.operation == 'UPDATE' || !(has(object.spec.hostPID) && object.spec.hostPID)`
	hostPIDMessage  = "hostPID shows all processes of the node, and the root folder of each leads to the socket of kms-plugin, with which all data of API servers can be decrypted"
)

// MaxHostPaths is how many [PluginInput.HostPaths] there may be.
const MaxHostPaths = 50

// podFolders has the emptyDirs of all pods.
const podFolders = "/var/lib/kubelet/pods/"

var (
	hostPath = regexp.MustCompile(`^(/[A-Za-z0-9._@+-]+)+/?$`)
	// The links of /proc/<pid>, and /dev/fd, which is one of them, lead anywhere; the
	// kubelet follows them as root. So does a root container that sees a folder with them.
	procLinks = regexp.MustCompile(`^/proc/((.+/)?(root|cwd|fd)/|((self|thread-self|[0-9]+)/(task/([0-9]+/)?)?)?$)`)
)

// HostPathProblem says what is wrong with a folder of the node that pods may mount, or "".
func HostPathProblem(path string) string {
	folder := strings.TrimSuffix(path, "/") + "/"
	switch {
	case !hostPath.MatchString(path) || strings.Contains(folder, "/../") || strings.Contains(folder, "/./"):
		return "must be an absolute path of letters, digits and ._@+-, without a part that is . or .."
	case slices.ContainsFunc([]string{"/var/run/kms-plugin/", "/run/kms-plugin/"}, func(socket string) bool {
		return strings.HasPrefix(socket, folder) || strings.HasPrefix(folder, socket)
	}), procLinks.MatchString(folder), strings.HasPrefix(folder, "/dev/fd/"):
		return "leads to the socket of kms-plugin: set the label " + SocketLabel + "=" + SocketAllowed + " on the namespaces that must mount it"
	case strings.HasPrefix(folder, podFolders), strings.HasSuffix(path, "/") && strings.HasPrefix(podFolders, folder):
		return "takes in the emptyDirs of pods, below " + podFolders + ", where any pod can plant a link: name what is needed beside them, without a slash at the end"
	}
	return ""
}

// celRefused are the folders that are not allowed: an allowed one is taken as it is
// written, or, with a slash at its end, with all that lies in it.
func (in PluginInput) celRefused() string {
	var exactly, below []string
	for _, path := range in.HostPaths {
		folder := "'" + strings.TrimSuffix(path, "/") + "/'"
		exactly = append(exactly, folder)
		if strings.HasSuffix(path, "/") {
			below = append(below, folder)
		}
	}
	list := func(folders []string) string { return "[" + strings.Join(folders, ", ") + "]" }
	return fmt.Sprintf(`variables.folders.filter(f, f.contains('/../') || !(f in %s || %s.exists(a, f.startsWith(a))))`, list(exactly), list(below))
}

// socketPolicies forbid pods to mount folders of the node that are not in
// [PluginInput.HostPaths], and to see the node's processes, but for the plugin's own, those
// of namespaces with [SocketLabel], and those of kube-system, whose pods are the node's
// own. They forbid persistent volumes with such folders altogether. They fail closed.
//
// A list of what is forbidden would not do: the container runtime follows links when it
// mounts, so a link in any folder that somebody can write to, such as an emptyDir, whose
// path on the node is known, is another name of the socket's.
//
// What they can't see is said in docs/howto/hosted-control-planes.md. A pod that has the
// folder mounted already keeps it.
func (in PluginInput) socketPolicies() []runtime.Object {
	pods := in.socketPolicy(socketPolicyPods, "pods", celPodPaths)
	pods.Spec.MatchConstraints.NamespaceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: SocketLabel, Operator: metav1.LabelSelectorOpNotIn, Values: []string{SocketAllowed}},
		{Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"kube-system"}},
	}}
	pods.Spec.MatchConditions = []admissionv1.MatchCondition{{
		Name: "not-the-plugin-itself",
		Expression: fmt.Sprintf(`!(request.namespace == '%s' && has(object.spec.serviceAccountName) && object.spec.serviceAccountName == '%s')`,
			in.Namespace, in.ServiceAccount),
	}}
	pods.Spec.Validations = append(pods.Spec.Validations, admissionv1.Validation{
		Expression: celOwnProcesses,
		Message:    hostPIDMessage,
		Reason:     ptr(metav1.StatusReasonForbidden),
	})
	volumes := in.socketPolicy(socketPolicyVolumes, "persistentvolumes", celVolumePaths)
	return []runtime.Object{pods, in.socketBinding(pods.Name), volumes, in.socketBinding(volumes.Name)}
}

func (in PluginInput) socketPolicy(policy, resource, paths string) *admissionv1.ValidatingAdmissionPolicy {
	return &admissionv1.ValidatingAdmissionPolicy{
		TypeMeta:   typeMeta("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
		ObjectMeta: in.clusterMeta(policy),
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: ptr(admissionv1.Fail),
			MatchConstraints: &admissionv1.MatchResources{
				ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
					Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{resource}},
				}}},
			},
			Variables: []admissionv1.Variable{
				{Name: "before", Expression: fmt.Sprintf(celBefore, fmt.Sprintf("("+paths+")", "oldObject"))},
				{Name: "paths", Expression: fmt.Sprintf(celAdded, fmt.Sprintf(paths, "object"))},
				{Name: "folders", Expression: celFolders},
				{Name: "refused", Expression: in.celRefused()},
			},
			Validations: []admissionv1.Validation{{
				Expression:        celAllowed,
				MessageExpression: celMessage,
				Reason:            ptr(metav1.StatusReasonForbidden),
			}},
		},
	}
}

func (in PluginInput) socketBinding(policy string) *admissionv1.ValidatingAdmissionPolicyBinding {
	return &admissionv1.ValidatingAdmissionPolicyBinding{
		TypeMeta:   typeMeta("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"),
		ObjectMeta: in.clusterMeta(policy),
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName:        policy,
			ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
		},
	}
}
