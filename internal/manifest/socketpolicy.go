package manifest

import (
	"fmt"

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
// parts and no ".", as the kernel reads it, with a slash at its end. So one folder
// lies in another if the one begins with the other.
const (
	celFolders = `variables.paths.map(p, p.split('/').filter(c, c != '' && c != '.').map(c, '/' + c).join('') + '/')`

	// celReaches: the folder of the socket, what is in it, and each folder above
	// it. /var/run is a link to /run on most nodes. The links of /proc/<pid>, and
	// /dev/fd, which is one of them, lead anywhere; the kubelet follows them as
	// root. So does a container with a folder of the node's /proc that holds such
	// links, if it runs as root: the kernel lets it take those of the plugin, which
	// is the same user and has no capability more. The API server refuses ".." in
	// these paths on its own.
	celReaches = `variables.folders.filter(f,
  ['/var/run/kms-plugin/', '/run/kms-plugin/'].exists(s, s.startsWith(f) || f.startsWith(s)) ||
  f.matches('^/proc/(.+/)?(root|cwd|fd)/') || f.matches('^/proc/((self|thread-self|[0-9]+)/(task/([0-9]+/)?)?)?$') ||
  f.startsWith('/dev/fd/') || f.contains('/../'))`

	celPodPaths    = `has(%[1]s.spec.volumes) ? %[1]s.spec.volumes.filter(v, has(v.hostPath)).map(v, v.hostPath.path) : []`
	celVolumePaths = `(has(%[1]s.spec.hostPath) ? [%[1]s.spec.hostPath.path] : []) + (has(%[1]s.spec.local) ? [%[1]s.spec.local.path] : [])`

	// celBefore: a mount can't be changed. What a pod had when the policy came says
	// nothing of an update, and to refuse one would only keep pods with finalizers
	// from being deleted.
	celBefore  = `request.operation == 'UPDATE' ? %s : []`
	celAdded   = `(%s).filter(p, !(p in variables.before))`
	celAllowed = `variables.reaches.size() == 0`
	celMessage = `'the node folder ' + variables.reaches[0] + ' leads to the socket of kms-plugin, with which all data of API servers can be decrypted'`

	// celOwnProcesses: with the node's processes in sight, the /proc of the
	// container's own is as good as a mount of the node's. A pod can't change this
	// later.
	celOwnProcesses = `request.operation == 'UPDATE' || !(has(object.spec.hostPID) && object.spec.hostPID)`
	hostPIDMessage  = "hostPID shows all processes of the node, and the root folder of each leads to the socket of kms-plugin, with which all data of API servers can be decrypted"
)

// socketPolicies forbid to mount the node's folder of the socket, or whatever leads
// to it, and to see the node's processes, to all pods but the plugin's own and
// those of namespaces with [SocketLabel]. They forbid persistent volumes with such
// folders altogether. They fail closed.
//
// What they can't see is said in docs/hosted-control-planes.md. A pod that has the
// folder mounted already keeps it.
func (in PluginInput) socketPolicies() []runtime.Object {
	pods := in.socketPolicy(socketPolicyPods, "pods", celPodPaths)
	pods.Spec.MatchConstraints.NamespaceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: SocketLabel, Operator: metav1.LabelSelectorOpNotIn, Values: []string{SocketAllowed}},
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
				{Name: "reaches", Expression: celReaches},
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
