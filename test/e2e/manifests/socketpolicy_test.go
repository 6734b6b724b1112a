package manifests_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ekskms/ekskms/test/e2e/cluster"
)

// applyAll applies the objects of a template, in their order.
func (a *apiserver) applyAll(config string) {
	a.t.Helper()
	for _, o := range cluster.Synthesize(a.t, config, keyARN) {
		if _, err := a.Apply(a.t.Context(), o); err != nil {
			a.t.Fatal(err)
		}
	}
}

var dryRun = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}

// mount tries to make a pod that mounts a path of the node.
func (a *apiserver) mount(ctx context.Context, namespace, serviceAccount, path string) error {
	_, err := a.Kubernetes().CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pod"},
		Spec: corev1.PodSpec{
			ServiceAccountName: serviceAccount,
			Containers:         []corev1.Container{{Name: "c", Image: "example.com/c:1"}},
			Volumes: []corev1.Volume{
				{Name: "harmless", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
				{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}}},
			},
		},
	}, dryRun)
	return err
}

// volume tries to make a persistent volume from its source.
func (a *apiserver) volume(ctx context.Context, source corev1.PersistentVolumeSource) error {
	_, err := a.Kubernetes().CoreV1().PersistentVolumes().Create(ctx, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "volume"},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:               corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
			AccessModes:            []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			StorageClassName:       "c",
			PersistentVolumeSource: source,
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpExists}},
			}}}},
		},
	}, dryRun)
	return err
}

// refused tells whether the policy refused, and not something else.
func refused(err error) bool {
	return err != nil && strings.Contains(err.Error(), "leads to the socket of kms-plugin")
}

// TestSocketPolicy: nobody but the plugin, and who was allowed to, may mount the
// folder of the socket that daemonset mode has on every node.
func TestSocketPolicy(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := newAPIServer(t)
	for _, namespace := range []*corev1.Namespace{
		{ObjectMeta: metav1.ObjectMeta{Name: "others"}},
		{ObjectMeta: metav1.ObjectMeta{Name: "hosted", Labels: map[string]string{"ekskms.github.io/kms-socket": "allowed"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "mistaken", Labels: map[string]string{"ekskms.github.io/kms-socket": "true"}}},
	} {
		if _, err := a.Kubernetes().CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"default", "kms-plugin"} {
			account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
			if _, err := a.Kubernetes().CoreV1().ServiceAccounts(namespace.Name).Create(ctx, account, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := a.mount(ctx, "others", "default", "/var/run/kms-plugin"); err != nil {
		t.Fatalf("the control, without the policy: %v", err)
	}
	a.applyAll(configurations(t)["daemonset"])
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := a.Kubernetes().CoreV1().ServiceAccounts("ekskms-system").Create(ctx, account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	cluster.Eventually(t, "the policies are in force", func() error {
		inForce := refused(a.mount(ctx, "others", "default", "/var/run/kms-plugin")) &&
			refused(a.volume(ctx, corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/var/run/kms-plugin"}}))
		if !inForce {
			return errors.New("not yet")
		}
		return nil
	})

	for _, path := range []string{
		"/var/run/kms-plugin", "/var/run/kms-plugin/", "/var/run/kms-plugin/socket.sock", "/var/run/kms-plugin/below",
		"/run/kms-plugin", "//var//run///kms-plugin", "/./var/./run/kms-plugin/.",
		"/var/run", "/run", "/run/", "/var", "/", "//", "/.",
		"/proc/1/root", "/proc/1/root/var/run/kms-plugin", "/proc/self/cwd", "/proc/1/task/1/root", "/proc/1/fd/3", "/dev/fd/3",
	} {
		if err := a.mount(ctx, "others", "default", path); !refused(err) {
			t.Errorf("a pod with %s: %v, want a refusal by the policy", path, err)
		}
		for kind, source := range map[string]corev1.PersistentVolumeSource{
			"hostPath": {HostPath: &corev1.HostPathVolumeSource{Path: path}},
			"local":    {Local: &corev1.LocalVolumeSource{Path: path}},
		} {
			if err := a.volume(ctx, source); !refused(err) {
				t.Errorf("a persistent volume of kind %s with %s: %v, want a refusal by the policy", kind, path, err)
			}
		}
		if err := a.mount(ctx, "hosted", "default", path); err != nil {
			t.Errorf("a pod with %s in a namespace that may: %v", path, err)
		}
		if err := a.mount(ctx, "ekskms-system", "kms-plugin", path); err != nil {
			t.Errorf("the plugin itself with %s: %v", path, err)
		}
	}
	for _, path := range []string{
		"/var/log", "/etc/kubernetes", "/var/run/aws-node", "/run/containerd/containerd.sock", "/var/run/kms-plugin-of-another",
		"/var/lib/kubelet", "/proc", "/sys", "/dev", "/opt/var/run/kms-plugin", "/home/proc/1/root",
	} {
		if err := a.mount(ctx, "others", "default", path); err != nil {
			t.Errorf("a pod with %s: %v, want it admitted", path, err)
		}
	}
	for what, err := range map[string]error{
		"a service account of the plugin's name elsewhere":  a.mount(ctx, "others", "kms-plugin", "/var/run/kms-plugin"),
		"another service account in the plugin's namespace": a.mount(ctx, "ekskms-system", "default", "/var/run/kms-plugin"),
		"a namespace whose label has another value":         a.mount(ctx, "mistaken", "default", "/var/run/kms-plugin"),
	} {
		if !refused(err) {
			t.Errorf("%s: %v, want a refusal by the policy", what, err)
		}
	}
}
