package encryption_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ekskms/ekskms/internal/kmsfake"
	"github.com/ekskms/ekskms/test/e2e/cluster"
)

// writesUnderAnother waits until what is written carries another key_id than old.
func (w *world) writesUnderAnother(old string) {
	w.t.Helper()
	n := 0
	cluster.Eventually(w.t, "a new secret carries a new key_id", func() error {
		_ = w.checkPlugin()
		name := fmt.Sprintf("new-%d", n)
		n++
		if err := w.tryCreate(w.t.Context(), name); err != nil {
			return err
		}
		if w.keyID(name) == old {
			return errors.New("still the old one")
		}
		return nil
	})
}

// TestRotation: new material gives a new key_id, without a restart of anything.
// What was written before can be read all the time, and once everything was
// written again, nothing needs the old material.
func TestRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Encrypt(cluster.Encryption{Plugin: w.plugin})
	w.StartAPIServer()
	w.create("one", "two")
	old := w.keyID("one")

	w.key.Rotate()
	w.writesUnderAnother(old)
	w.reads("one", "two")
	if w.keyID("one") != old {
		t.Error("a secret has a new key_id without having been written")
	}
	w.rewrite()
	if ids := w.keyIDs(); len(ids) != 1 || ids[old] > 0 {
		t.Errorf("after the migration there are the key_ids %v, must be one, and not %s", ids, old)
	}
	w.reads("one", "two")
}

// TestMoveToAnotherKey: the new key is put before the old one, everything is
// written again, and the old key is no longer needed.
func TestMoveToAnotherKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Encrypt(cluster.Encryption{Plugin: w.plugin})
	w.StartAPIServer()
	w.create("one", "two")
	old := w.keyID("one")

	key := w.kms.NewKey()
	w.plugin.Stop()
	w.plugin.Args = append([]string{"--key", key.ARN}, w.plugin.Args...)
	w.plugin.Start()
	w.writesUnderAnother(old)
	w.reads("one", "two")
	w.rewrite()
	if ids := w.keyIDs(); len(ids) != 1 || ids[old] > 0 {
		t.Errorf("after the migration there are the key_ids %v, must be one, and not %s", ids, old)
	}

	w.APIServer.Stop()
	w.plugin.Stop()
	w.key.SetState(kmsfake.Disabled)
	w.plugin.Args = append(pluginArgs("a"), append([]string{"--key", key.ARN}, quick...)...)
	w.plugin.Start()
	w.StartAPIServer()
	w.reads("one", "two")
	w.create("three")
}

// TestDisabledKey: while the key is disabled, a running API server goes on to
// read, and to write for as long as its DEK seed lives: three minutes after the
// last Status that it liked. Then writes fail, as one that starts again can read
// nothing. Nothing has to be restarted once the key is back.
func TestDisabledKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Encrypt(cluster.Encryption{Plugin: w.plugin})
	w.StartAPIServer()
	w.create("one")

	w.key.SetState(kmsfake.Disabled)
	disabled := time.Now()
	cluster.Eventually(t, "the API server sees it", func() error {
		if err := w.checkPlugin(); err == nil {
			return errors.New("healthy")
		}
		return nil
	})
	w.reads("one")
	n := 0
	var refusal error
	cluster.Eventually(t, "writes fail", func() error {
		if err := w.read("one"); err != nil {
			t.Fatalf("a read fails while the API server runs: %v", err)
		}
		name := fmt.Sprintf("late-%d", n)
		if refusal = w.tryCreate(t.Context(), name); refusal != nil {
			return nil
		}
		n++
		time.Sleep(time.Second)
		return errors.New("they do not")
	})
	t.Logf("the first write failed %s after the key was disabled, %d went well before: %v", time.Since(disabled).Round(time.Second), n, refusal)
	if !strings.Contains(refusal.Error(), "encryptedDEKSource") && !strings.Contains(refusal.Error(), "expired") {
		t.Errorf("the error does not say what is expired: %v", refusal)
	}
	w.reads("one")
	if _, err := w.Kubernetes().CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("a list fails while the API server runs: %v", err)
	}
	if n == 0 {
		t.Error("no write went well on the seed that the API server still had")
	}
	for i := range n {
		w.reads(fmt.Sprintf("late-%d", i))
	}
	w.keyIDs() // all of them are encrypted

	w.APIServer.Kill()
	w.LaunchAPIServer()
	w.APIServerServes()
	if err := w.read("one"); err == nil {
		t.Error("an API server that started with the key disabled can read")
	}
	if err := w.tryCreate(t.Context(), "never"); err == nil {
		t.Error("an API server that started with the key disabled can write")
	}

	w.key.SetState(kmsfake.Enabled)
	w.APIServerReady()
	cluster.Eventually(t, "writes go well again", func() error { return w.tryCreate(t.Context(), "healed") })
	w.reads("one", "healed")
}
