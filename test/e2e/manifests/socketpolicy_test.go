package manifests_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/ekskms/ekskms/test/e2e/cluster"
)

// applyAll applies the objects of a template, in their order.
func (a *apiserver) applyAll(config string) {
	a.t.Helper()
	objects := cluster.Synthesize(a.t, config, keyARN)
	for _, o := range objects {
		a.need(o.GetNamespace(), objects)
		if _, err := a.Apply(a.t.Context(), o); err != nil {
			a.t.Fatal(err)
		}
	}
}

var dryRun = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}

// readTable reads a table of cases of package manifest.
func readTable(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile("../../../internal/manifest/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(data, into); err != nil {
		t.Fatal(err)
	}
}

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
	return err != nil && strings.Contains(err.Error(), "can lead to the socket of kms-plugin")
}

// TestSocketPolicy: nobody but the plugin, and who was allowed to, may mount a folder of
// the node that is not allowed: each can have a link to that of the socket in it, which
// daemonset mode has on every node.
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
	if _, err := a.Kubernetes().CoreV1().ServiceAccounts("kube-system").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := a.mount(ctx, "others", "default", "/var/run/kms-plugin"); err != nil {
		t.Fatalf("the control, without the policy: %v", err)
	}
	// A link that somebody planted in a folder of its own, and in an emptyDir: the paths tell
	// nothing of where they lead.
	planted := []string{"/opt/mine/link", "/var/lib/kubelet/pods/0a1b2c3d/volumes/kubernetes.io~empty-dir/scratch/link"}
	for _, path := range planted {
		if err := a.mount(ctx, "others", "default", path); err != nil {
			t.Fatalf("the control, without the policy: %s: %v", path, err)
		}
	}
	config := filepath.Join(t.TempDir(), "ekskms.yaml")
	text := "clusters:\n  - name: daemonset\n    plugin: {mode: daemonset, hostPaths: [/var/log, /opt/csi/]}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a.applyAll(config)
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

	var paths []struct {
		Path, Why string
		Reaches   bool
	}
	readTable(t, "socket_paths.yaml", &paths)
	for _, path := range planted {
		paths = append(paths, struct {
			Path, Why string
			Reaches   bool
		}{path, "a link", true})
	}
	for _, path := range []string{"/var/log", "/var/log/", "//var/./log", "/opt/csi", "/opt/csi/driver/socket"} {
		if err := errors.Join(a.mount(ctx, "others", "default", path), a.volume(ctx, corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}})); err != nil {
			t.Errorf("%s, which is allowed: %v", path, err)
		}
	}
	for _, path := range []string{"/var/log/pods", "/var/logs", "/opt", "/opt/csi-2", "/opt/mine"} {
		if err := a.mount(ctx, "others", "default", path); !refused(err) {
			t.Errorf("%s, which is not allowed: %v", path, err)
		}
	}
	reached := 0
	for _, p := range paths {
		if !strings.HasPrefix(p.Path, "/") || strings.Contains(p.Path, "..") {
			continue // the API server refuses these by itself, at least for some volumes
		}
		tries := map[string]error{
			"a pod":                                a.mount(ctx, "others", "default", p.Path),
			"a persistent volume of kind hostPath": a.volume(ctx, corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: p.Path}}),
			"a persistent volume of kind local":    a.volume(ctx, corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: p.Path}}),
		}
		for what, err := range tries {
			if allowed := p.Path == "/var/log"; allowed == refused(err) || allowed && err != nil {
				t.Errorf("%s with %s: %v, want it refused by the policy: %v", what, p.Path, err, !allowed)
			}
		}
		reached++
		if err := a.mount(ctx, "hosted", "default", p.Path); err != nil {
			t.Errorf("a pod with %s in a namespace that may: %v", p.Path, err)
		}
		if err := a.mount(ctx, "kube-system", "default", p.Path); err != nil {
			t.Errorf("a pod of the node with %s: %v", p.Path, err)
		}
		if err := a.mount(ctx, "ekskms-system", "kms-plugin", p.Path); err != nil {
			t.Errorf("the plugin itself with %s: %v", p.Path, err)
		}
	}
	if reached < 20 {
		t.Errorf("%d paths that lead to the socket were tried: is the table still read rightly?", reached)
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
