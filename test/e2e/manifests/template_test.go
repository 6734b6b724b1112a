// Package manifests_test applies what the constructs deploy to a real API
// server, and has it judge the policies among it.
package manifests_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ekskms/ekskms/test/e2e/cluster"
)

const keyARN = "arn:aws:kms:" + cluster.Region + ":" + cluster.Account + ":key/1234abcd-12ab-34cd-56ef-1234567890ab"

// apiserver is a cluster without encryption.
type apiserver struct {
	*cluster.Cluster
	t *testing.T
}

func newAPIServer(t *testing.T) *apiserver {
	t.Helper()
	a := &apiserver{Cluster: cluster.New(t), t: t}
	a.StartAPIServer()
	return a
}

// configurations are those whose template is tried: the default, every example,
// and what no example has.
func configurations(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	files, err := filepath.Glob("../../../examples/*/ekskms.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, file := range files {
		found[filepath.Base(filepath.Dir(file))] = file
	}
	for name, plugin := range map[string]string{
		"default":   "{}",
		"daemonset": "{mode: daemonset}",
		"sidecar":   "{mode: sidecar, tenants: [{name: team-a, namespace: vcluster-a, serviceAccount: vc-a}, {name: team-b, namespace: vcluster-b, serviceAccount: vc-b}]}",
	} {
		file := filepath.Join(t.TempDir(), "ekskms.yaml")
		text := fmt.Sprintf("clusters:\n  - name: %s\n    plugin: %s\n", name, plugin)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		found[name] = file
	}
	return found
}

// TestTemplates: every Kubernetes object in every template is accepted, says the
// same when it is applied again, and would not be with a field misspelt.
func TestTemplates(t *testing.T) {
	all := configurations(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		objects := slices.DeleteFunc(cluster.Synthesize(t, all[name], keyARN), ofAutoMode)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPIServer(t)
			if len(objects) == 0 {
				t.Fatal("the template has no Kubernetes object")
			}
			kinds := map[string]int{}
			for _, o := range objects {
				a.need(o.GetNamespace(), objects)
				kinds[o.GetKind()]++
				id := fmt.Sprintf("%s %s/%s", o.GetKind(), o.GetNamespace(), o.GetName())
				for _, misspelt := range misspellings(o) {
					if _, err := a.Apply(t.Context(), misspelt); err == nil || !strings.Contains(err.Error(), "unknown field") && !strings.Contains(err.Error(), "field not declared") {
						t.Errorf("%s with a misspelt field: %v, want an error that names it", id, err)
					}
				}
				first, err := a.Apply(t.Context(), o)
				if err != nil {
					t.Errorf("%s: %v", id, err)
					continue
				}
				second, err := a.Apply(t.Context(), o)
				if err != nil {
					t.Errorf("%s again: %v", id, err)
					continue
				}
				if first.GetResourceVersion() != second.GetResourceVersion() {
					t.Errorf("%s is changed by being applied a second time", id)
				}
			}
			t.Logf("accepted twice: %v", kinds)
			a.admitsPods(objects)
		})
	}
}

// ofAutoMode tells whether only EKS Auto Mode knows the kind of an object: its definition is
// AWS's, and nothing here can judge it.
func ofAutoMode(o *unstructured.Unstructured) bool {
	return slices.Contains([]string{"eks.amazonaws.com", "karpenter.sh"}, o.GroupVersionKind().Group)
}

// need makes a namespace that is not of the template: a team's own, which has to be
// there for the roles that the template puts into it.
func (a *apiserver) need(namespace string, objects []*unstructured.Unstructured) {
	a.t.Helper()
	for _, o := range objects {
		if namespace == "" || o.GetKind() == "Namespace" && o.GetName() == namespace {
			return
		}
	}
	_, err := a.Kubernetes().CoreV1().Namespaces().Create(a.t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		a.t.Fatal(err)
	}
}

// misspellings are copies of an object, each with one field more that does not exist
// not: at the top, and one level down.
func misspellings(o *unstructured.Unstructured) []*unstructured.Unstructured {
	top := o.DeepCopy()
	top.Object["specs"] = map[string]any{}
	copies := []*unstructured.Unstructured{top}
	for key, value := range o.Object {
		if _, ok := value.(map[string]any); ok && (key == "spec" || key == "metadata") {
			deep := o.DeepCopy()
			deep.Object[key].(map[string]any)["lables"] = map[string]any{}
			copies = append(copies, deep)
		}
	}
	return copies
}

// admitsPods: the pods of the workloads pass admission, Pod Security of their
// namespace's labels included; and it is in force there, as a privileged pod
// finds out where the level is not privileged itself.
func (a *apiserver) admitsPods(objects []*unstructured.Unstructured) {
	t := a.t
	t.Helper()
	pods := 0
	for _, o := range objects {
		template, found, err := unstructured.NestedMap(o.Object, "spec", "template")
		if err != nil || !found {
			continue
		}
		pods++
		var pod corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(template, &pod); err != nil {
			t.Fatal(err)
		}
		pod.Name, pod.Namespace = "of-"+o.GetName(), o.GetNamespace()
		dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
		client := a.Kubernetes().CoreV1().Pods(o.GetNamespace())
		if _, err := client.Create(t.Context(), &pod, dry); err != nil {
			t.Errorf("a pod of %s %s is refused: %v", o.GetKind(), o.GetName(), err)
		}
		namespace, err := a.Kubernetes().CoreV1().Namespaces().Get(t.Context(), o.GetNamespace(), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		level := namespace.Labels["pod-security.kubernetes.io/enforce"]
		if level == "privileged" {
			continue
		}
		privileged := true
		pod.Spec.Containers[0].SecurityContext.Privileged = &privileged
		pod.Spec.Containers[0].SecurityContext.AllowPrivilegeEscalation = nil
		if _, err := client.Create(t.Context(), &pod, dry); err == nil || !strings.Contains(err.Error(), "PodSecurity") {
			t.Errorf("a privileged pod in namespace %s, level %q: %v, want a refusal by PodSecurity", namespace.Name, level, err)
		}
	}
	if pods == 0 {
		t.Error("no object has pods: nothing would run")
	}
}
