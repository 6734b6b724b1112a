package encryption_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ekskms/ekskms/test/e2e/cluster"
)

// TestTenThousandSecrets: AWS KMS is asked once for a seed, not once for a
// secret, whether they are written, read, listed, or found at the start of an
// API server that knows no seed.
func TestTenThousandSecrets(t *testing.T) {
	t.Parallel()
	const secretsInAll, writers = 10_000, 16
	w := newWorld(t)
	w.plugin.Stop()
	// Once a minute, as it is by default, or the plugin's own probes would be
	// most of what is counted.
	w.plugin.Args = append(pluginArgs("a"), "--key", w.key.ARN)
	w.plugin.Start()
	w.Encrypt(cluster.Encryption{Plugin: w.plugin})
	w.StartAPIServer()

	measure := func(what string, do func()) {
		t.Helper()
		encrypts, decrypts := w.kms.Count("GenerateDataKey"), w.kms.Count("Decrypt")
		begin := time.Now()
		do()
		took := time.Since(begin)
		encrypts, decrypts = w.kms.Count("GenerateDataKey")-encrypts, w.kms.Count("Decrypt")-decrypts
		t.Logf("%s: %s, %d GenerateDataKey and %d Decrypt at AWS KMS, the plugin's own probes included", what, took.Round(time.Millisecond), encrypts, decrypts)
		// A handful, and a probe a minute.
		if most := 8 + 2*int(took/time.Minute); encrypts > most || decrypts > most {
			t.Errorf("%s: %d GenerateDataKey and %d Decrypt, want at most %d of each", what, encrypts, decrypts, most)
		}
	}
	measure("create 10,000 secrets", func() {
		var all sync.WaitGroup
		failures := make([]error, writers)
		for i := range writers {
			all.Go(func() {
				client := w.Kubernetes().CoreV1().Secrets("default")
				for n := i; n < secretsInAll && failures[i] == nil; n += writers {
					_, failures[i] = client.Create(t.Context(), secret(fmt.Sprintf("s-%d", n)), metav1.CreateOptions{})
				}
			})
		}
		all.Wait()
		if err := errors.Join(failures...); err != nil {
			t.Fatal(err)
		}
	})
	list := func() {
		t.Helper()
		got, err := w.Kubernetes().CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Items) != secretsInAll {
			t.Errorf("%d secrets listed, %d created", len(got.Items), secretsInAll)
		}
	}
	measure("list them all", list)
	w.APIServer.Stop()
	w.plugin.Stop()
	measure("start of plugin and API server", func() {
		w.plugin.Start()
		w.StartAPIServer()
	})
	measure("list them all after the start", list)
	if ids := w.keyIDs(); len(ids) != 1 {
		t.Errorf("key_ids %v, want one", ids)
	}
	w.reads("s-0", "s-9999")
}
