package encryption_test

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ekskms/ekskms/internal/inspect"
	"github.com/ekskms/ekskms/test/e2e/cluster"
)

// manyVariable says how many secrets there are: 5,000 in make test, and 100,000 in
// make test-many.
const manyVariable = "EKSKMS_E2E_SECRETS"

// TestManySecrets: AWS KMS is requests once for a seed, not once for a secret,
// whether they are written, read, listed, found at the start of an API server that
// knows no seed, or written again after a rotation. Then nothing old is left.
func TestManySecrets(t *testing.T) {
	t.Parallel()
	const writers = 16
	secretsInAll := 5_000
	if text := os.Getenv(manyVariable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("%s is %q, must be a number above 0", manyVariable, text)
		}
		secretsInAll = n
	}
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
	measure(fmt.Sprintf("create %d secrets", secretsInAll), func() {
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
	last := fmt.Sprintf("s-%d", secretsInAll-1)
	w.reads("s-0", last)

	first := w.keyID("s-0")
	w.plugin.Stop() // and quick from now on: nobody learns by waiting for minutes
	w.plugin.Args = append(w.plugin.Args, quick...)
	w.plugin.Start()
	w.key.Rotate()
	try := 0
	cluster.Eventually(t, "new secrets carry a new key_id", func() error {
		_ = w.checkPlugin()
		w.command("kubectl", "annotate", "--overwrite", "secret", last, fmt.Sprintf("try=%d", try))
		try++
		if w.keyID(last) == first {
			return errors.New("still the old one")
		}
		return nil
	})
	// By default it makes 20 requests a second: an hour and more for 100,000.
	w.StartController("--kube-api-qps=10000", "--kube-api-burst=10000")
	before, begin := w.kms.Count("GenerateDataKey")+w.kms.Count("Decrypt"), time.Now()
	w.migrate()
	requests, took := w.kms.Count("GenerateDataKey")+w.kms.Count("Decrypt")-before, time.Since(begin)
	t.Logf("write them all again after a rotation: %s, %d requests to AWS KMS, of which the plugin's own probes are two a second", took.Round(time.Millisecond), requests)
	if most := 16 + 3*int(took/time.Second); requests > most {
		t.Errorf("the migration made %d requests to AWS KMS, want at most %d", requests, most)
	}
	if ids := w.keyIDs(); len(ids) != 1 || ids[first] != 0 {
		t.Errorf("key_ids %v, want the new one alone", ids)
	}
	if found := w.snapshot(inspect.Options{ExpectKeyID: w.keyID(last)}).Findings; len(found) > 0 {
		t.Errorf("after the migration: %v", found)
	}
	w.reads("s-0", last)
	w.Controller.Stop() // an API server that is to end waits a minute for watches
}
