package encryption_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/ekskms/ekskms/internal/inspect"
	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/test/e2e/cluster"
)

// command runs a program of the cluster's, with its kubeconfig and etcd, and
// returns what it prints.
func (w *world) command(program string, args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), cluster.Binary(w.t, program), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+w.Kubeconfig(), "ETCDCTL_ENDPOINTS="+w.EtcdEndpoint())
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		w.t.Fatalf("%s %s: %v", program, strings.Join(args, " "), err)
	}
	return string(out)
}

// snapshot takes one with etcdctl and reads it.
func (w *world) snapshot(opts inspect.Options) *inspect.Report {
	w.t.Helper()
	w.snapshots++
	file := w.Path(fmt.Sprintf("snapshot%d.db", w.snapshots))
	w.command("etcdctl", "snapshot", "save", file)
	opts.Resources = []string{"secrets"}
	report, err := inspect.Snapshot(file, opts)
	if err != nil {
		w.t.Fatal(err)
	}
	if !report.ChecksumVerified {
		w.t.Error("the snapshot's checksum was not found")
	}
	return report
}

var storageVersionMigrations = schema.GroupVersionResource{Group: "storagemigration.k8s.io", Version: "v1", Resource: "storageversionmigrations"}

// migrate creates the StorageVersionMigration that ekskms generates, and waits
// until Kubernetes has worked it off.
func (w *world) migrate() {
	w.t.Helper()
	objects, err := manifest.Migrations(nil, "")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, o := range objects {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			w.t.Fatal(err)
		}
		delete(content, "status")
		client := w.Dynamic().Resource(storageVersionMigrations)
		made, err := client.Create(w.t.Context(), &unstructured.Unstructured{Object: content}, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
		if err != nil {
			w.t.Fatal(err)
		}
		w.command("kubectl", "wait", "--for=condition=Succeeded", "--timeout=30m", "storageversionmigration/"+made.GetName())
	}
}

// TestMigration takes a cluster from secrets in the clear to encrypted ones, and
// from one key material to the next, by both ways that the docs name, and proves
// each step with what ekskms evidence etcd sees in etcd's own snapshots.
func TestMigration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.StartAPIServer()
	const count = 30
	var names []string
	for i := range count {
		names = append(names, fmt.Sprintf("s-%d", i))
	}
	w.create(names...)

	live := func(r *inspect.Report) []inspect.Group {
		t.Helper()
		if len(r.Resources) != 1 || inspect.Count(r.Resources[0].Live) != count {
			t.Fatalf("the report does not have the %d secrets: %+v", count, r.Resources)
		}
		return r.Resources[0].Live
	}
	before := w.snapshot(inspect.Options{ExpectEncrypted: true})
	if groups := live(before); len(groups) != 1 || groups[0].Kind != inspect.Clear || len(before.Findings) == 0 {
		t.Fatalf("with encryption off: %+v, findings %v", groups, before.Findings)
	}

	w.APIServer.Stop()
	w.Encrypt(cluster.Encryption{Plugin: w.plugin, UnencryptedReads: true})
	w.StartAPIServer()
	if groups := live(w.snapshot(inspect.Options{})); len(groups) != 1 || groups[0].Kind != inspect.Clear {
		t.Fatalf("before the migration: %+v", groups)
	}
	w.StartController()
	w.migrate()
	w.Controller.Stop() // an API server that is to end waits a minute for watches
	first := w.keyID("s-0")
	migrated := w.snapshot(inspect.Options{ExpectKeyID: first})
	if len(migrated.Findings) > 0 {
		t.Errorf("after the StorageVersionMigration: %v", migrated.Findings)
	}
	// What it does not say by itself: the plaintext is still in the file.
	older := migrated.Resources[0].Older
	if inspect.Count(older) == 0 {
		t.Error("no older revisions are seen, though nothing was compacted")
	}
	strict := inspect.Options{ExpectKeyID: first, WholeFile: true}
	if len(w.snapshot(strict).Findings) == 0 {
		t.Error("older revisions in the clear are no finding")
	}
	w.command("etcdctl", "compact", "--physical", fmt.Sprint(migrated.Revision))
	w.command("etcdctl", "defrag")
	if found := w.snapshot(strict).Findings; len(found) > 0 {
		t.Errorf("after compaction and defragmentation: %v", found)
	}
	w.grepsNothing(names)

	w.APIServer.Stop()
	w.Encrypt(cluster.Encryption{Plugin: w.plugin})
	w.StartAPIServer()
	w.reads(names...)

	w.key.Rotate()
	n := 0
	cluster.Eventually(t, "new secrets carry a new key_id", func() error {
		_ = w.checkPlugin()
		w.command("kubectl", "annotate", "--overwrite", "secret", "s-0", fmt.Sprintf("try=%d", n))
		n++
		if w.keyID("s-0") == first {
			return errors.New("still the old one")
		}
		return nil
	})
	second := w.keyID("s-0")
	if found := w.snapshot(inspect.Options{ExpectKeyID: second}).Findings; len(found) == 0 {
		t.Error("secrets under the old key_id are no finding")
	}
	// Through a file here, for want of a shell.
	list := w.Path("secrets.json")
	if err := os.WriteFile(list, []byte(w.command("kubectl", "get", "secrets", "--all-namespaces", "-o", "json")), 0o600); err != nil {
		t.Fatal(err)
	}
	w.command("kubectl", "replace", "-f", list)
	if found := w.snapshot(inspect.Options{ExpectKeyID: second}).Findings; len(found) > 0 {
		t.Errorf("after kubectl replace: %v", found)
	}
	w.reads(names...)
}

// grepsNothing looks for the plaintext in the raw file of etcd's database, and in
// nothing that could be wrong about it.
func (w *world) grepsNothing(names []string) {
	w.t.Helper()
	file := w.Path("etcd", "member", "snap", "db")
	data, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, name := range names {
		if err := leaks(data, string(password(name))); err != nil {
			w.t.Errorf("secret %s, in the database after compaction and defragmentation: %v", name, err)
			return
		}
	}
}

// TestDamagedSnapshot: no byte of a real snapshot can be changed unseen, and no
// part of it passes for the whole.
func TestDamagedSnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Encrypt(cluster.Encryption{Plugin: w.plugin})
	w.StartAPIServer()
	w.create("one", "two")
	whole := w.snapshot(inspect.Options{ExpectEncrypted: true})
	if len(whole.Findings) > 0 {
		t.Fatal(whole.Findings)
	}
	good, err := os.ReadFile(whole.File)
	if err != nil {
		t.Fatal(err)
	}
	file := w.Path("damaged.db")
	for at := 0; at < len(good); at += len(good)/50 + 1 {
		bad := append([]byte{}, good...)
		bad[at] ^= 0x40
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := inspect.Snapshot(file, inspect.Options{}); err == nil {
			t.Errorf("byte %d changed: no error", at)
		}
		if err := os.WriteFile(file, good[:at], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := inspect.Snapshot(file, inspect.Options{}); err == nil {
			t.Errorf("only the first %d bytes: no error", at)
		}
	}
}
