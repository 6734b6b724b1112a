package encryption_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ekskms/ekskms/internal/adopt"
	"github.com/ekskms/ekskms/internal/inspect"
	"github.com/ekskms/ekskms/test/e2e/cluster"
)

// TestRewrite brings secrets in the clear under a key through the API alone, as adopt does on
// EKS: while others write and delete, ended in the middle and taken up again. What etcd holds
// afterwards is the judge: nothing is left in the clear, nothing is lost, and nothing but the
// write has changed.
func TestRewrite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.StartAPIServer()
	const count, written, deleted = 120, 15, 5
	var names []string
	for i := range count {
		names = append(names, fmt.Sprintf("s-%d", i))
	}
	w.create(names...)
	w.APIServer.Stop()
	w.Encrypt(cluster.Encryption{Plugin: w.plugin, UnencryptedReads: true})
	w.StartAPIServer()

	before := map[string]metav1.ObjectMeta{}
	list, err := w.Kubernetes().CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != count {
		t.Fatal(len(list.Items), err)
	}
	for _, s := range list.Items {
		before[s.Name] = s.ObjectMeta
	}

	// Others write the first ones again and again, and delete the last.
	writing, stop := context.WithCancel(t.Context())
	defer stop()
	var others sync.WaitGroup
	last := make([]int, written)
	for i := range written {
		others.Go(func() {
			for n := 1; writing.Err() == nil; n++ {
				s, err := w.Kubernetes().CoreV1().Secrets("default").Get(t.Context(), names[i], metav1.GetOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				s.Data["n"] = fmt.Append(nil, n)
				if _, err = w.Kubernetes().CoreV1().Secrets("default").Update(t.Context(), s, metav1.UpdateOptions{}); err == nil {
					last[i] = n
				}
			}
		})
	}
	for _, name := range names[count-deleted:] {
		if err := w.Kubernetes().CoreV1().Secrets("default").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}

	rewrite := adopt.Rewrite{Client: w.Dynamic(), Rate: 200, PageSize: 20}
	interrupted, interrupt := context.WithCancel(t.Context())
	first := rewrite
	first.Progress = func(done adopt.Rewritten) {
		if done.Seen() >= 40 {
			interrupt()
		}
	}
	some, err := first.Run(interrupted)
	if !errors.Is(err, context.Canceled) || some.Stored == 0 || some.Seen() > 80 {
		t.Fatalf("interrupted: %+v, %v", some, err)
	}
	if report := w.snapshot(inspect.Options{ExpectEncrypted: true}); len(report.Findings) == 0 {
		t.Error("in the middle nothing is in the clear: the interrupt came too late")
	}
	all, err := rewrite.Run(t.Context())
	if err != nil || len(all.Failed) > 0 {
		t.Fatalf("taken up again: %+v, %v", all, err)
	}
	stop()
	others.Wait()
	if all.Seen() != count-deleted || all.Current == 0 || all.Stored == 0 || all.Stored > count-deleted-some.Stored+written {
		t.Errorf("taken up again: %+v, after %+v", all, some)
	}
	if report := w.snapshot(inspect.Options{ExpectKeyID: w.keyID(names[written])}); len(report.Findings) > 0 || inspect.Count(report.Resources[0].Live) != count-deleted {
		t.Errorf("after the rewriting: %v, %+v", report.Findings, report.Resources)
	}

	// Nothing but the write.
	list, err = w.Kubernetes().CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list.Items {
		old := before[s.Name]
		if string(s.Data["password"]) != string(password(s.Name)) {
			t.Errorf("%s has lost its value", s.Name)
		}
		var i int
		if _, err := fmt.Sscanf(s.Name, "s-%d", &i); err != nil {
			t.Fatal(err)
		}
		if i < written {
			if got := string(s.Data["n"]); got != fmt.Sprint(last[i]) {
				t.Errorf("%s has %s of a writer, who wrote %d last", s.Name, got, last[i])
			}
			continue
		}
		if s.UID != old.UID || !maps.Equal(s.Annotations, old.Annotations) || !maps.Equal(s.Labels, old.Labels) || len(s.ManagedFields) != len(old.ManagedFields) || len(s.Data) != 1 {
			t.Errorf("%s changed: %+v, it had %+v", s.Name, s.ObjectMeta, old)
		}
		if s.ResourceVersion == old.ResourceVersion {
			t.Errorf("%s was not written", s.Name)
		}
	}

	// Once more there is nothing to do, until the key rotates.
	again, err := rewrite.Run(t.Context())
	if err != nil || again.Stored != 0 || again.Current != count-deleted {
		t.Errorf("once more: %+v, %v", again, err)
	}
	earlier := w.keyID(names[written])
	w.key.Rotate()
	cluster.Eventually(t, "secrets are stored under the new material", func() error {
		_ = w.checkPlugin()
		if done, err := rewrite.Run(t.Context()); err != nil || len(done.Failed) > 0 {
			return fmt.Errorf("%+v, %w", done, err)
		}
		if w.keyID(names[written]) == earlier {
			return errors.New("still the old one")
		}
		return nil
	})
	if _, err := rewrite.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if report := w.snapshot(inspect.Options{ExpectKeyID: w.keyID(names[written])}); len(report.Findings) > 0 {
		t.Errorf("after the rotation: %v", report.Findings)
	}
}
