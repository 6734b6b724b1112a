package kmsv2_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	kmsservice "k8s.io/kms/pkg/service"

	"github.com/ekskms/ekskms/internal/kmsplugin"
)

// counting tells how many Decrypts an API server has begun.
type counting struct {
	kmsservice.Service
	begun  atomic.Int64
	all    int64
	onceAt chan struct{}
}

func (c *counting) Decrypt(ctx context.Context, uid string, req *kmsservice.DecryptRequest) ([]byte, error) {
	if c.begun.Add(1) == c.all {
		close(c.onceAt)
	}
	return c.Service.Decrypt(ctx, uid, req)
}

// TestBurst: an API server that starts asks for the same seed once for each
// object that it reads at that moment, because it holds back no second request
// while the first is under way. The plugin makes few KMS calls of them.
func TestBurst(t *testing.T) {
	const readers = 200
	cloud := newCloud(t)
	plugin := cloud.serve(t, socketPath(t), func(c *kmsplugin.Config) { c.PollInterval = time.Hour }) // its probes would count
	plugin.vouches("")
	writer := startAPIServer(t.Context(), t, plugin.socket, options{})
	var stored [][]byte
	for i := range readers {
		stored = append(stored, writer.mustWrite(fmt.Sprint("object ", i)))
	}
	writer.stop()

	service := &counting{all: readers, onceAt: make(chan struct{})}
	reader := startAPIServer(withConnect(t.Context(), func(ctx context.Context, endpoint, name string, timeout time.Duration) (_ kmsservice.Service, err error) {
		service.Service, err = kmsv2.NewGRPCService(ctx, endpoint, name, timeout)
		return service, err
	}), t, plugin.socket, options{})

	cloud.Before(func(op string) {
		if op == "Decrypt" {
			<-service.onceAt // the first KMS call answers when the last reader has asked
		}
	})
	before := cloud.Count("*")
	var all sync.WaitGroup
	for i := range readers {
		all.Go(func() {
			got, stale, err := reader.TransformFromStorage(t.Context(), stored[i], secret)
			if want := fmt.Sprint("object ", i); err != nil || stale || string(got) != want {
				t.Errorf("%s: error %v, stale %v, same %v", want, err, stale, string(got) == want)
			}
		})
	}
	all.Wait()
	if n := service.begun.Load(); n != readers {
		t.Errorf("the API server asked %d times, want %d: its readers were not there at once", n, readers)
	}
	// Readers whose requests arrive when the first call has returned share another
	// one; how many those are depends on the machine.
	if n := cloud.Count("*") - before; n < 1 || n > readers/4 {
		t.Errorf("%d readers cost %d KMS calls", readers, n)
	} else {
		t.Logf("%d readers cost %d KMS calls", readers, n)
	}
}
