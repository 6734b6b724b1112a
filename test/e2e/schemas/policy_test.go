package schemas

import (
	"context"
	"os"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/environment"
	"sigs.k8s.io/yaml"

	"github.com/ekskms/ekskms/internal/manifest"
)

// nodePath is one line of the table of paths.
type nodePath struct {
	Path    string `json:"path"`
	Reaches bool   `json:"reaches"`
	Why     string `json:"why"`
}

func paths(t *testing.T) (list []nodePath) {
	t.Helper()
	data, err := os.ReadFile("../../../internal/manifest/testdata/socket_paths.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(data, &list); err != nil || len(list) < 20 {
		t.Fatalf("%d paths: %v", len(list), err)
	}
	return list
}

func policies(t *testing.T) (pods, volumes *admissionv1.ValidatingAdmissionPolicy) {
	t.Helper()
	in := manifest.PluginInput{
		ClusterName: "demo", ClusterARN: "a", KeyARN: "b", Image: "c", EncryptionContext: map[string]string{"d": "e"}, Mode: manifest.DaemonSet,
		HostPaths: []string{"/opt/harmless", "/opt/csi/"},
	}
	for _, p := range paths(t) {
		if !p.Reaches {
			in.HostPaths = append(in.HostPaths, p.Path)
		}
	}
	objects, err := manifest.Plugin(in)
	if err != nil {
		t.Fatal(err)
	}
	now := func(resource string) func(*admissionv1.ValidatingAdmissionPolicy) bool {
		return func(p *admissionv1.ValidatingAdmissionPolicy) bool {
			return p.Spec.MatchConstraints.ResourceRules[0].Resources[0] == resource
		}
	}
	return find(t, objects, now("pods")), find(t, objects, now("persistentvolumes"))
}

// judge asks the API server's own evaluation of a policy. It returns why an object
// is refused, and "" if it is not. Which requests the rules and selectors catch is
// not looked at here.
func judge(t *testing.T, policy *admissionv1.ValidatingAdmissionPolicy, object, old runtime.Object) string {
	t.Helper()
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	if err != nil {
		t.Fatal(err)
	}
	options := cel.OptionalVariableDeclarations{HasAuthorizer: true}
	var variables []cel.NamedExpressionAccessor
	for _, v := range policy.Spec.Variables {
		variables = append(variables, &validating.Variable{Name: v.Name, Expression: v.Expression})
	}
	compiler.CompileAndStoreVariables(variables, options, environment.NewExpressions)
	var conditions, validations, messages []cel.ExpressionAccessor
	for i := range policy.Spec.MatchConditions {
		conditions = append(conditions, (*matchconditions.MatchCondition)(&policy.Spec.MatchConditions[i]))
	}
	for _, v := range policy.Spec.Validations {
		validations = append(validations, &validating.ValidationCondition{Expression: v.Expression, Message: v.Message, Reason: v.Reason})
		var message cel.ExpressionAccessor
		if v.MessageExpression != "" {
			message = &validating.MessageExpressionCondition{MessageExpression: v.MessageExpression}
		}
		messages = append(messages, message)
	}
	compile := func(e []cel.ExpressionAccessor, authorizer bool) cel.ConditionEvaluator {
		c := compiler.CompileCondition(e, cel.OptionalVariableDeclarations{HasAuthorizer: authorizer}, environment.NewExpressions)
		for _, err := range c.CompilationErrors() {
			t.Fatal(err)
		}
		return c
	}
	matcher := matchconditions.NewMatcher(compile(conditions, true), policy.Spec.FailurePolicy, "policy", "validate", policy.Name)
	validator := validating.NewValidator(compile(validations, true), matcher, compile(nil, true), compile(messages, false), policy.Spec.FailurePolicy, nil)

	operation := admission.Create
	if old != nil {
		operation = admission.Update
	}
	kind := object.GetObjectKind().GroupVersionKind()
	resource := schema.GroupVersionResource{Version: "v1", Resource: policy.Spec.MatchConstraints.ResourceRules[0].Resources[0]}
	meta := object.(metav1.Object)
	attributes := &admission.VersionedAttributes{
		Attributes: admission.NewAttributesRecord(object, old, kind, meta.GetNamespace(), meta.GetName(), resource, "", operation,
			nil, false, &user.DefaultInfo{Name: "somebody"}),
		VersionedKind: kind, VersionedObject: admission.NewLazyObject(object), VersionedOldObject: admission.NewLazyObject(old),
	}
	result := validator.Validate(context.Background(), resource, attributes, nil, nil, celconfig.RuntimeCELCostBudget, nil)
	for _, d := range result.Decisions {
		if d.Action != validating.ActionAdmit {
			return d.Message
		}
	}
	return ""
}

func pod(namespace, account string, paths ...string) *corev1.Pod {
	p := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: namespace},
		Spec: corev1.PodSpec{ServiceAccountName: account, Volumes: []corev1.Volume{
			{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		}},
	}
	for _, path := range paths {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}}})
	}
	return p
}

// withHostPID lets a pod see the processes of its node.
func withHostPID(p *corev1.Pod) *corev1.Pod {
	p.Spec.HostPID = true
	return p
}

func volume(source corev1.PersistentVolumeSource) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolume"},
		ObjectMeta: metav1.ObjectMeta{Name: "a"},
		Spec:       corev1.PersistentVolumeSpec{PersistentVolumeSource: source},
	}
}

// TestPaths: each path of the table, in a pod, as a hostPath volume and as a local
// volume. Those that do not reach the socket are allowed by name, and nothing else is: not
// what lies in them, and not a link that a pod has planted in its emptyDir.
func TestPaths(t *testing.T) {
	pods, volumes := policies(t)
	for _, p := range append(paths(t), []nodePath{
		{"/opt/csi/a/b", false, "below a folder that is allowed with all in it"},
		{"/opt/csi", false, "the folder itself"},
		{"/opt/csi-2", true, "begins with the same letters"},
		{"/var/log/pods", true, "below a folder that is allowed as it is"},
		{"/opt/other", true, "not allowed"},
		{"/var/lib/kubelet/pods/1/volumes/kubernetes.io~empty-dir/tmp/link", true, "a link in an emptyDir"},
	}...) {
		for how, refused := range map[string]string{
			"pod":      judge(t, pods, pod("default", "", "/opt/harmless", p.Path), nil),
			"hostPath": judge(t, volumes, volume(corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: p.Path}}), nil),
			"local":    judge(t, volumes, volume(corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: p.Path}}), nil),
		} {
			if (refused != "") != p.Reaches || p.Reaches && !strings.Contains(refused, "the socket of kms-plugin") {
				t.Errorf("%s as %s (%s): refused with %q, want %v", p.Path, how, p.Why, refused, p.Reaches)
			}
		}
	}
}

// TestWhoMayMount: the plugin's own pods, and what was mounted before. The same goes
// for the processes of the node.
func TestWhoMayMount(t *testing.T) {
	const socket = "/var/run/kms-plugin"
	pods, volumes := policies(t)
	mounted := volume(corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: socket}})
	for what, c := range map[string]struct {
		policy      *admissionv1.ValidatingAdmissionPolicy
		object, old runtime.Object
		allowed     bool
	}{
		"nothing of the node":             {pods, pod("default", "default"), nil, true},
		"anybody":                         {pods, pod("default", "default", socket), nil, false},
		"the plugin":                      {pods, pod("ekskms-system", "kms-plugin", socket), nil, true},
		"its account elsewhere":           {pods, pod("default", "kms-plugin", socket), nil, false},
		"another account beside it":       {pods, pod("ekskms-system", "default", socket), nil, false},
		"no account beside it":            {pods, pod("ekskms-system", "", socket), nil, false},
		"a change of a pod that has it":   {pods, pod("default", "", socket), pod("default", "", socket), true},
		"a change that brings it":         {pods, pod("default", "", socket), pod("default", ""), false},
		"a change that brings more":       {pods, pod("default", "", socket, "/"), pod("default", "", socket), false},
		"the node's processes":            {pods, withHostPID(pod("default", "")), nil, false},
		"the plugin, with them":           {pods, withHostPID(pod("ekskms-system", "kms-plugin")), nil, true},
		"a change of a pod that has them": {pods, withHostPID(pod("default", "")), withHostPID(pod("default", "")), true},
		"a change of a pod with /proc":    {pods, pod("default", "", "/proc"), pod("default", "", "/proc"), true},
		"a change of a volume that is it": {volumes, mounted, mounted, true},
		"a volume of another kind": {volumes, volume(corev1.PersistentVolumeSource{
			CSI: &corev1.CSIPersistentVolumeSource{Driver: "ebs.csi.aws.com"}}), nil, true},
	} {
		if refused := judge(t, c.policy, c.object, c.old); (refused == "") != c.allowed || !c.allowed && !strings.Contains(refused, "the socket of kms-plugin") {
			t.Errorf("%s: refused with %q, want allowed: %v", what, refused, c.allowed)
		}
	}
}

// TestPolicyMutations: without one of its parts the policy judges a path otherwise, so each
// part is needed.
func TestPolicyMutations(t *testing.T) {
	for old, c := range map[string]struct {
		new, path string
		allowed   bool // by the whole policy
	}{
		"c != '.'":                   {"true", "/./var/log", true},
		"c != '' &&":                 {"", "//var/log", true},
		"exists(a, f.startsWith(a))": {"exists(a, false)", "/opt/csi/a", true},
		"f.contains('/../') ||":      {"", "/opt/csi/../run", false},
		"!(f in ":                    {"(f in ", "/opt/other", false},
		"'/opt/csi/'].exists":        {"'/opt/csi/', '/opt/'].exists", "/opt/other", false},
	} {
		pods, _ := policies(t)
		if refused := judge(t, pods, pod("default", "", c.path), nil); (refused == "") != c.allowed {
			t.Errorf("%s: refused with %q, want allowed: %v", c.path, refused, c.allowed)
		}
		n := 0
		for i := range pods.Spec.Variables {
			v := &pods.Spec.Variables[i]
			n += strings.Count(v.Expression, old)
			v.Expression = strings.Replace(v.Expression, old, c.new, 1)
		}
		if n != 1 {
			t.Errorf("%q stands %d times in the policy", old, n)
			continue
		}
		if refused := judge(t, pods, pod("default", "", c.path), nil); (refused == "") == c.allowed {
			t.Errorf("with %q for %q, %s is judged as before: %q", c.new, old, c.path, refused)
		}
	}
}
