package encryption_test

import (
	"bytes"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/ekskms/ekskms/test/e2e/cluster"
)

var (
	definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	vaults      = schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "vaults"}
)

// defineVaults makes a custom resource with a field that nobody may read.
func (w *world) defineVaults() {
	w.t.Helper()
	crd := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "vaults.example.com"},
		"spec": map[string]any{
			"group": "example.com", "scope": "Namespaced",
			"names": map[string]any{"plural": "vaults", "singular": "vault", "kind": "Vault"},
			"versions": []any{map[string]any{
				"name": "v1", "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type":       "object",
					"properties": map[string]any{"combination": map[string]any{"type": "string"}},
				}},
			}},
		},
	}}
	if _, err := w.Dynamic().Resource(definitions).Create(w.t.Context(), crd, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	cluster.Eventually(w.t, "the custom resource is served", func() error {
		_, err := w.Dynamic().Resource(vaults).List(w.t.Context(), metav1.ListOptions{})
		return err
	})
}

func (w *world) createVault(name string) {
	w.t.Helper()
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Vault",
		"metadata": map[string]any{"name": name}, "combination": string(password(name)),
	}}
	if _, err := w.Dynamic().Resource(vaults).Namespace("default").Create(w.t.Context(), object, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) createConfigMap(name string) {
	w.t.Helper()
	object := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Data:       map[string]string{"password": string(password(name))},
	}
	if _, err := w.Kubernetes().CoreV1().ConfigMaps("default").Create(w.t.Context(), object, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// TestAtRest: what is configured lies encrypted in etcd, and what is not lies
// there in the clear, as it did before.
func TestAtRest(t *testing.T) {
	t.Parallel()
	const configMaps, customs = "/registry/configmaps/default/", "/registry/example.com/vaults/default/"
	w := newWorld(t)
	w.Encrypt(cluster.Encryption{})
	w.StartAPIServer()
	w.defineVaults()
	w.create("before")
	w.createConfigMap("before")
	w.createVault("before")
	// The control: whatever finds nothing below has to find this.
	for _, key := range []string{secrets, configMaps, customs} {
		value := w.Stored(key + "before")[key+"before"]
		if leaks(value, string(password("before"))) == nil {
			t.Fatalf("%sbefore is not in the clear with encryption off: %q", key, value)
		}
	}
	if !bytes.HasPrefix(w.Stored(secrets + "before")[secrets+"before"], []byte(clear)) {
		t.Error("a secret in the clear does not begin as the tests believe")
	}

	w.APIServer.Stop()
	w.Encrypt(cluster.Encryption{Resources: []string{"secrets", "vaults.example.com"}, Plugin: w.plugin, UnencryptedReads: true})
	w.StartAPIServer()
	w.create("after")
	w.createVault("after")
	w.createConfigMap("after")
	w.reads("before", "after")
	for _, key := range []string{secrets, customs} {
		value := w.Stored(key + "after")[key+"after"]
		object, err := envelope(value)
		if err != nil {
			t.Fatalf("%safter: %v", key, err)
		}
		if err := leaks(value, string(password("after"))); err != nil {
			t.Errorf("%safter: %v", key, err)
		}
		for _, word := range []string{w.key.ARN, w.key.ID(), "111122223333", "cluster/a"} {
			if bytes.Contains(value, []byte(word)) {
				t.Errorf("%safter: %q stands in it", key, word)
			}
		}
		if object.KeyID == "" {
			t.Errorf("%safter has no key_id", key)
		}
	}
	if value := w.Stored(configMaps + "after")[configMaps+"after"]; leaks(value, string(password("after"))) == nil {
		t.Error("a ConfigMap is not in the clear, though no provider is configured for it")
	}

	// The seed that all of it is encrypted under must not lie beside it, nor the
	// data key under which the seed is.
	keys := w.kms.DataKeys()
	if len(keys) == 0 {
		t.Error("AWS KMS was not asked for a data key")
	}
	object, err := envelope(w.Stored(secrets + "after")[secrets+"after"])
	if err != nil {
		t.Fatal(err)
	}
	keys = append(keys, w.seed(object))
	for key, value := range w.Stored("/") {
		for _, secret := range keys {
			if bytes.Contains(value, secret) || leaks(value, string(secret)) != nil {
				t.Errorf("%s: a data key or a seed stands in it", key)
			}
		}
	}

	// Configured, but not written since: still in the clear until it is.
	if envelopeErr(w.Stored(secrets + "before")[secrets+"before"]) == nil {
		t.Error("an old secret is encrypted without having been written")
	}
	w.rewrite()
	for key, value := range w.Stored(secrets) {
		name := strings.TrimPrefix(key, secrets)
		if err := envelopeErr(value); err != nil {
			t.Errorf("%s after the migration: %v", key, err)
		}
		if err := leaks(value, string(password(name))); err != nil {
			t.Errorf("%s after the migration: %v", key, err)
		}
	}

	// From now on what is in the clear is refused: an attacker who can write to
	// etcd can't slip secrets in.
	w.APIServer.Stop()
	w.Encrypt(cluster.Encryption{Resources: []string{"secrets", "configmaps"}, Plugin: w.plugin})
	w.LaunchAPIServer()
	w.APIServerServes()
	w.reads("before", "after")
	if _, err := w.Kubernetes().CoreV1().ConfigMaps("default").Get(t.Context(), "after", metav1.GetOptions{}); err == nil {
		t.Error("without identity, an object in the clear can still be read")
	}
	w.createConfigMap("encrypted")
	if err := envelopeErr(w.Stored(configMaps + "encrypted")[configMaps+"encrypted"]); err != nil {
		t.Errorf("a ConfigMap: %v", err)
	}
}

func envelopeErr(value []byte) error {
	_, err := envelope(value)
	return err
}

// TestWrongCluster: the plugin of another cluster, with its encryption context,
// can't read what this one has written, on the same etcd and under the same key.
func TestWrongCluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Encrypt(cluster.Encryption{Plugin: w.plugin})
	w.StartAPIServer()
	w.create("mine")
	w.APIServer.Stop()

	other := w.NewPlugin(w.kms, append(pluginArgs("b"), append([]string{"--key", w.key.ARN}, quick...)...)...)
	other.Start()
	w.Encrypt(cluster.Encryption{Plugin: other, UnencryptedReads: true})
	w.LaunchAPIServer()
	w.APIServerServes()
	if err := w.read("mine"); err == nil || !strings.Contains(err.Error(), "another encryption context") {
		t.Fatalf("a plugin with another cluster's encryption context: %v, want an error of it", err)
	}
	w.create("theirs")
	w.reads("theirs")
	w.APIServer.Stop()

	w.Encrypt(cluster.Encryption{Plugin: w.plugin})
	w.LaunchAPIServer()
	w.APIServerServes()
	w.reads("mine")
	if err := w.read("theirs"); err == nil || !strings.Contains(err.Error(), "another encryption context") {
		t.Errorf("the secret of the other cluster: %v, want an error of its encryption context", err)
	}
}
