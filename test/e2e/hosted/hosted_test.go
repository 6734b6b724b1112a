// Package hosted_test runs what ekskms generate manifests prints for API servers
// that one hosts oneself: the plugin with the arguments of its container, and a
// real kube-apiserver with the flags and the configuration that go with it. The
// test does what the kubelet would: it maps the paths of mounts to folders.
package hosted_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/ekskms/ekskms/internal/kmsfake"
	"github.com/ekskms/ekskms/test/e2e/cluster"
)

const config = `clusters:
  - name: host
    account: "111122223333"
    region: eu-central-1
    plugin:
      mode: sidecar
      image: registry.example.com/kms-plugin:v1
      tenants:
        - {name: team-a, namespace: control-plane-a, serviceAccount: default}
        - {name: team-b, namespace: control-plane-b, serviceAccount: default}
`

// generated is what ekskms generate manifests has printed, as far as the kubelet
// and an API server need it.
type generated struct {
	text       string
	args       []string // of the plugin's container
	flags      []string // of the API server
	encryption string   // the EncryptionConfiguration
}

// generate runs the command in a folder, and reads standard output or, where that
// goes to files, those.
func generate(t *testing.T, args ...string) generated {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ekskms.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(cluster.Binary(t, "ekskms"), append([]string{"generate", "manifests"}, args...)...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ekskms generate manifests %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	files, err := filepath.Glob(filepath.Join(dir, "node", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) > 0 {
		out = nil // it only names them
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out = append(append(out, "\n---\n"...), b...)
	}
	g := generated{text: string(out)}
	g.read(t, string(out))
	return g
}

// read finds the parts in a stream of YAML documents, wherever the product at hand
// has its fields for them.
func (g *generated) read(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		// Where a list of flags can't be merged, they are in a comment.
		if flag, ok := strings.CutPrefix(strings.TrimSpace(strings.TrimPrefix(line, "#")), "--encryption-"); ok && strings.HasPrefix(line, "#  ") {
			g.flags = append(g.flags, "--encryption-"+flag)
		}
	}
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		var document map[string]any
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		g.walk(t, document)
	}
}

func (g *generated) walk(t *testing.T, value any) {
	switch v := value.(type) {
	case []any:
		for _, e := range v {
			g.walk(t, e)
		}
	case map[string]any:
		if v["kind"] == "EncryptionConfiguration" {
			b, err := json.Marshal(v) // which is YAML, too
			if err != nil {
				t.Fatal(err)
			}
			g.encryption = string(b)
			return
		}
		if text, ok := v["encryption.yaml"].(string); ok {
			g.encryption = text
		}
		if text, ok := v["manifests"].(string); ok {
			g.read(t, text)
		}
		if args, ok := v["args"].([]any); ok && strings.HasPrefix(fmt.Sprint(v["name"]), "kms-plugin") && !slices.Contains(strs(args), "--watch-cluster") {
			g.args = strs(args)
		}
		switch flags := v["extraArgs"].(type) {
		case []any:
			for _, f := range flags {
				switch f := f.(type) {
				case string:
					g.flags = append(g.flags, f)
				case map[string]any:
					g.flags = append(g.flags, fmt.Sprintf("--%s=%s", f["name"], f["value"]))
				}
			}
		case map[string]any:
			for name, value := range flags {
				switch value := value.(type) {
				case string:
					g.flags = append(g.flags, "--"+name+"="+value)
				case []any: // for each component of its own
					g.flags = append(g.flags, strs(value)...)
				}
			}
		}
		for _, e := range v {
			g.walk(t, e)
		}
	}
}

func strs(list []any) []string {
	out := make([]string, len(list))
	for i, e := range list {
		out[i], _ = e.(string)
	}
	return out
}

// take takes the value of a flag out of the arguments.
func take(t *testing.T, args []string, flag string) (value string, rest []string) {
	t.Helper()
	i := slices.Index(args, flag)
	if i < 0 {
		t.Fatalf("no %s among %q", flag, args)
	}
	return args[i+1], slices.Concat(args[:i], args[i+2:])
}

// world is a hosted control plane, with the key that its plugin uses.
type world struct {
	*cluster.Cluster
	t   *testing.T
	kms *cluster.KMS
	key *kmsfake.Key
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Cluster: cluster.New(t), t: t, kms: cluster.NewKMS(t)}
	w.key = w.kms.NewKey()
	return w
}

// host starts the plugin of what was generated, and configures the API server. The
// mounts of the pod are folders below dir.
func (w *world) host(g generated, dir string) *cluster.Plugin {
	w.t.Helper()
	if len(g.args) == 0 || len(g.flags) == 0 || g.encryption == "" {
		w.t.Fatalf("not all is there: args %q, flags %q, configuration %q, of\n%s", g.args, g.flags, g.encryption, g.text)
	}
	listen, args := take(w.t, g.args[1:], "--listen")
	_, args = take(w.t, args, "--health-listen")
	plugin := w.NewPlugin(w.kms, append(args, "--poll-interval", "1s")...)
	socket := strings.TrimPrefix(listen, "unix://")
	plugin.Socket = w.Path(dir, "socket", filepath.Base(socket))
	plugin.Start()

	// The API server may see the socket's folder somewhere else than the plugin.
	text := g.encryption
	if !strings.Contains(text, "unix:///") || !strings.Contains(text, "/socket.sock") {
		w.t.Fatalf("the configuration names no socket:\n%s", text)
	}
	endpoint := text[strings.Index(text, "unix:///"):]
	endpoint = endpoint[:strings.Index(endpoint, "socket.sock")+len("socket.sock")]
	text = strings.ReplaceAll(text, endpoint, "unix://"+plugin.Socket)
	file := w.Path(dir, "encryption.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.APIServer.Flags = nil
	for _, f := range g.flags {
		w.APIServer.Flags = append(w.APIServer.Flags, strings.ReplaceAll(f, "/etc/ekskms/encryption.yaml", file))
	}
	return plugin
}

func (w *world) write(name string) {
	w.t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string][]byte{"password": []byte("plaintext of " + name)}}
	if _, err := w.Kubernetes().CoreV1().Secrets("default").Create(w.t.Context(), secret, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	stored := w.Stored("/registry/secrets/default/" + name)["/registry/secrets/default/"+name]
	if !bytes.HasPrefix(stored, []byte("k8s:enc:kms:v2:ekskms:")) || bytes.Contains(stored, []byte("plaintext of")) {
		w.t.Errorf("etcd holds %q", stored)
	}
}

func (w *world) read(name string) error {
	secret, err := w.Kubernetes().CoreV1().Secrets("default").Get(w.t.Context(), name, metav1.GetOptions{})
	if err == nil && string(secret.Data["password"]) != "plaintext of "+name {
		err = errors.New("another value than was written")
	}
	return err
}

// TestModes: for every product and mode, an API server with what was generated
// encrypts and reads its secrets.
func TestModes(t *testing.T) {
	for name, args := range map[string][]string{
		"vcluster":   {"--for", "vcluster", "--tenant", "team-a"},
		"kamaji":     {"--for", "kamaji", "--tenant", "team-a"},
		"karmada":    {"--for", "karmada", "--tenant", "team-a"},
		"generic":    {"--for", "generic", "--tenant", "team-a", "--workload", "deployment/kube-apiserver"},
		"static pod": {"--mode", "static-pod", "--cluster-name", "onprem", "--role-arn", "arn:aws:iam::111122223333:role/control-plane", "--out", "node"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.host(generate(t, append(args, "--key", w.key.ARN)...), "pod")
			w.StartAPIServer()
			w.write("one")
			if err := w.read("one"); err != nil {
				t.Error(err)
			}
			// What it looked like to AWS KMS.
			for _, call := range w.kms.Calls() {
				if call.Op != "GenerateDataKey" && call.Op != "Decrypt" {
					continue
				}
				want := map[string]string{"ekskms:cluster-arn": "arn:aws:eks:eu-central-1:111122223333:cluster/host", "ekskms:tenant": "team-a"}
				if name == "static pod" {
					want = map[string]string{"ekskms:cluster-arn": "arn:aws:eks:eu-central-1:111122223333:cluster/onprem"}
				}
				if fmt.Sprint(call.Context) != fmt.Sprint(want) {
					t.Fatalf("%s under the encryption context %v, want %v", call.Op, call.Context, want)
				}
			}
		})
	}
}

// TestTenants: the plugin of one tenant can't decrypt what that of another has
// encrypted, though both use the same key.
func TestTenants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tenant := func(name string) generated {
		return generate(t, "--for", "generic", "--tenant", name, "--workload", "deployment/kube-apiserver", "--key", w.key.ARN)
	}
	w.host(tenant("team-a"), "a")
	w.StartAPIServer()
	w.write("one")
	w.APIServer.Stop()

	w.host(tenant("team-b"), "b") // on the etcd of team-a, stolen or restored
	w.LaunchAPIServer()
	w.APIServerServes()
	if err := w.read("one"); err == nil || !strings.Contains(err.Error(), "another encryption context") {
		t.Errorf("the other tenant's API server: %v, want an error of the encryption context", err)
	}
}
