// Package encryption_test sees what etcd really holds, through the life of a
// key, behind a real API server.
package encryption_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kmstypes "k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2/v2"
	"k8s.io/client-go/util/retry"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/ekskms/ekskms/internal/kmsfake"
	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/test/e2e/cluster"
)

const (
	// stored is what etcd's value begins with when the plugin has encrypted it.
	stored = "k8s:enc:kms:v2:" + manifest.DefaultProvider + ":"
	// clear is what it begins with when nobody has.
	clear = "k8s\x00"

	secrets = "/registry/secrets/default/"
)

// quick makes the plugin look at its key every second: a test that waits for a
// minute learns nothing by it.
var quick = []string{"--poll-interval", "1s", "--vouch-for", "3s"}

// world is a cluster whose plugin uses a key of a fake AWS KMS.
type world struct {
	*cluster.Cluster
	t      *testing.T
	kms    *cluster.KMS
	key    *kmsfake.Key
	plugin *cluster.Plugin

	snapshots int
}

// newWorld makes a world. The plugin and etcd run, the API server does not.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Cluster: cluster.New(t), t: t, kms: cluster.NewKMS(t)}
	w.key = w.kms.NewKey()
	w.plugin = w.NewPlugin(w.kms, append(pluginArgs("a"), append([]string{"--key", w.key.ARN}, quick...)...)...)
	w.plugin.Start()
	return w
}

func pluginArgs(cluster string) []string {
	return []string{"--encryption-context", "ekskms:cluster-arn=arn:aws:eks:eu-central-1:111122223333:cluster/" + cluster}
}

// secret returns a secret whose value appears nowhere else.
func secret(name string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Data:       map[string][]byte{"password": password(name)},
	}
}

func password(name string) []byte { return []byte("correct-horse-battery-staple-" + name) }

func (w *world) create(names ...string) {
	w.t.Helper()
	for _, name := range names {
		if err := w.tryCreate(w.t.Context(), name); err != nil {
			w.t.Fatalf("create %s: %v", name, err)
		}
	}
}

func (w *world) tryCreate(ctx context.Context, name string) error {
	_, err := w.Kubernetes().CoreV1().Secrets("default").Create(ctx, secret(name), metav1.CreateOptions{})
	return err
}

// read finds the secret with the right value, read from etcd and not from a
// cache of the API server.
func (w *world) read(name string) error {
	got, err := w.Kubernetes().CoreV1().Secrets("default").Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if !bytes.Equal(got.Data["password"], password(name)) {
		return fmt.Errorf("secret %s has another value than was written", name)
	}
	return nil
}

func (w *world) reads(names ...string) {
	w.t.Helper()
	for _, name := range names {
		if err := w.read(name); err != nil {
			w.t.Errorf("read %s: %v", name, err)
		}
	}
}

// rewrite writes every secret again as it is, as a migration of stored objects
// does.
func (w *world) rewrite() {
	w.t.Helper()
	client := w.Kubernetes().CoreV1().Secrets("default")
	list, err := client.List(w.t.Context(), metav1.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, item := range list.Items {
		err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
			_, err := client.Update(w.t.Context(), &item, metav1.UpdateOptions{})
			return err
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// leaks tells which form of a plaintext stands in the bytes.
func leaks(value []byte, plaintext string) error {
	if bytes.Contains(value, []byte(plaintext)) {
		return errors.New("the plaintext stands in it")
	}
	// Within a longer text, base64 takes one of three forms, by where it begins.
	// What its first and last characters share with their neighbours is left out.
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		for skip := range 3 {
			whole := encoding.EncodeToString([]byte(plaintext[skip : skip+(len(plaintext)-skip)/3*3]))
			if bytes.Contains(value, []byte(whole)) {
				return errors.New("the base64 of the plaintext stands in it")
			}
		}
	}
	return nil
}

// envelope reads what the plugin's provider has stored.
func envelope(value []byte) (*kmstypes.EncryptedObject, error) {
	body, ok := bytes.CutPrefix(value, []byte(stored))
	if !ok {
		return nil, fmt.Errorf("begins with %q, must with %q", value[:min(len(value), len(stored))], stored)
	}
	object := &kmstypes.EncryptedObject{}
	if err := proto.Unmarshal(body, object); err != nil {
		return nil, err
	}
	if len(object.EncryptedDEKSource) == 0 || len(object.EncryptedData) == 0 {
		return nil, errors.New("has no encrypted DEK source or no data")
	}
	return object, nil
}

// seed asks the plugin for the seed of an object.
func (w *world) seed(object *kmstypes.EncryptedObject) []byte {
	w.t.Helper()
	conn, err := grpc.NewClient("unix://"+w.plugin.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	d, err := kmsapi.NewKeyManagementServiceClient(conn).Decrypt(w.t.Context(), &kmsapi.DecryptRequest{
		Ciphertext: object.EncryptedDEKSource, KeyId: object.KeyID, Annotations: object.Annotations, Uid: "the-test",
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return d.GetPlaintext()
}

// keyIDs counts the secrets in etcd by their key_id, and fails on any that is
// not encrypted.
func (w *world) keyIDs() map[string]int {
	w.t.Helper()
	count := map[string]int{}
	for key, value := range w.Stored(secrets) {
		object, err := envelope(value)
		if err != nil {
			w.t.Errorf("%s %v", key, err)
			continue
		}
		count[object.KeyID]++
	}
	return count
}

// keyID returns that of one secret.
func (w *world) keyID(name string) string {
	w.t.Helper()
	object, err := envelope(w.Stored(secrets + name)[secrets+name])
	if err != nil {
		w.t.Fatalf("%s %v", name, err)
	}
	return object.KeyID
}

// checkPlugin has the API server look at the plugin, which it does again when its
// last look is 20 seconds old; by itself it does so every minute.
func (w *world) checkPlugin() error {
	_, err := w.Get("/healthz/kms-providers")
	return err
}
