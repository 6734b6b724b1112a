package kmsv2_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	kmstypes "k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2/v2"
	kmsservice "k8s.io/kms/pkg/service"
)

const (
	provider      = "ekskms" // the name in the encryption configuration
	storagePrefix = "k8s:enc:kms:v2:" + provider + ":"

	// The API server's own times (k8s.io/apiserver, encryptionconfig).
	probeInterval   = time.Minute
	reprobeInterval = 10 * time.Second
	seedLife        = 3 * time.Minute
)

var secrets = schema.GroupResource{Resource: "secrets"}

// secret is where the object of a test lies in etcd.
var secret = value.DefaultContext("/registry/secrets/default/test")

// apiServer is what the API server makes of an encryption configuration.
type apiServer struct {
	value.Transformer // of secrets
	t                 testing.TB
	ctx               context.Context
	config            *encryptionconfig.EncryptionConfiguration
	health            healthz.HealthChecker
	stop              context.CancelFunc
}

// options of startAPIServer.
type options struct {
	reload  bool
	timeout time.Duration // of a call to the plugin, in real time. Default: one minute, so that a busy machine fails no test
}

// startAPIServer loads an encryption configuration as the API server does when
// it starts.
func startAPIServer(ctx context.Context, t testing.TB, socket string, o options) *apiServer {
	t.Helper()
	if o.timeout == 0 {
		o.timeout = time.Minute
	}
	text := fmt.Sprintf(`
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers:
      - kms:
          apiVersion: v2
          name: %s
          endpoint: unix://%s
          timeout: %s
      - identity: {}
`, provider, socket, o.timeout)
	s, err := loadConfiguration(ctx, t, text, o.reload)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func loadConfiguration(ctx context.Context, t testing.TB, text string, reload bool) (*apiServer, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "encryption.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(ctx)
	c, err := encryptionconfig.LoadEncryptionConfig(ctx, file, reload, "apiserver-of-a-test")
	if err != nil {
		stop()
		return nil, err
	}
	t.Cleanup(stop)
	if len(c.HealthChecks) != 1 {
		t.Fatalf("the API server has %d health checks for KMS, want 1", len(c.HealthChecks))
	}
	return &apiServer{
		Transformer: encryptionconfig.StaticTransformers(c.Transformers).TransformerForResource(secrets),
		t:           t, ctx: ctx, config: c, health: c.HealthChecks[0], stop: stop,
	}, nil
}

// check is /healthz/kms-providers.
func (s *apiServer) check() error {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, "/healthz/"+s.health.Name(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.health.Check(req)
}

func (s *apiServer) mustBeHealthy() {
	s.t.Helper()
	if err := s.check(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *apiServer) write(plaintext string) (stored []byte, err error) {
	return s.TransformToStorage(s.ctx, []byte(plaintext), secret)
}

func (s *apiServer) mustWrite(plaintext string) (stored []byte) {
	s.t.Helper()
	stored, err := s.write(plaintext)
	if err != nil {
		s.t.Fatal(err)
	}
	if bytes.Contains(stored, []byte(plaintext)) {
		s.t.Fatal("the plaintext is in the stored bytes")
	}
	return stored
}

// mustRead wants plaintext back, and the API server's word on whether it would
// rewrite the object.
func (s *apiServer) mustRead(stored []byte, plaintext string, stale bool) {
	s.t.Helper()
	got, isStale, err := s.TransformFromStorage(s.ctx, stored, secret)
	if err != nil {
		s.t.Fatal(err)
	}
	if string(got) != plaintext {
		s.t.Fatalf("read %d other bytes than were written", len(got))
	}
	if isStale != stale {
		s.t.Fatalf("stale is %v, want %v", isStale, stale)
	}
}

// parse takes the API server's envelope out of stored bytes.
func parse(t testing.TB, stored []byte) *kmstypes.EncryptedObject {
	t.Helper()
	rest, ok := bytes.CutPrefix(stored, []byte(storagePrefix))
	if !ok {
		t.Fatalf("stored bytes don't begin with %s", storagePrefix)
	}
	o := &kmstypes.EncryptedObject{}
	if err := proto.Unmarshal(rest, o); err != nil {
		t.Fatal(err)
	}
	if err := kmsv2.ValidateEncryptedObject(o); err != nil {
		t.Fatal(err)
	}
	return o
}

// mustShareSeed wants two objects to be written under one key_id and seed.
func mustShareSeed(t testing.TB, stored, other []byte) {
	t.Helper()
	a, b := parse(t, stored), parse(t, other)
	if a.KeyID != b.KeyID || !bytes.Equal(a.EncryptedDEKSource, b.EncryptedDEKSource) {
		t.Fatal("the API server did not go on under the same key_id and seed")
	}
}

// onFakeClock runs f, the API server's side of a test, in a bubble in which time
// is faked: hours of the API server's own probes, time-outs and expiries pass
// while nothing waits for the plugin. The plugin stays outside, in real time,
// and so must all that touches its socket: f does that with outside.do.
func onFakeClock(t *testing.T, f func(t *testing.T, out *outside)) {
	t.Helper()
	out := newOutside(t)
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		f(t, out)
	})
}

// outside runs functions on goroutines of real time. To wait for one of them is
// not idleness, so fake time stands still meanwhile.
type outside struct {
	idle chan *worker
	real context.Context // ends with the test
}

type worker struct {
	jobs chan func()
	done chan struct{}
}

func newOutside(t testing.TB) *outside {
	ctx, cancel := context.WithCancel(context.Background())
	out := &outside{idle: make(chan *worker, 8), real: ctx}
	for range cap(out.idle) {
		w := &worker{make(chan func()), make(chan struct{})}
		go w.run()
		out.idle <- w
	}
	t.Cleanup(func() {
		cancel()
		for range cap(out.idle) {
			close((<-out.idle).jobs)
		}
	})
	return out
}

func (w *worker) run() {
	for job := range w.jobs {
		done := make(chan struct{})
		go func() { // a job that calls t.FailNow takes only this one with it
			defer close(done)
			job()
		}()
		<-done
		w.done <- struct{}{}
	}
}

func (o *outside) do(job func()) {
	w := <-o.idle
	w.jobs <- job
	<-w.done
	o.idle <- w
}

// context makes API servers that are started under it reach their plugin from
// outside.
func (o *outside) context(ctx context.Context) context.Context {
	return withConnect(ctx, func(_ context.Context, endpoint, name string, timeout time.Duration) (s kmsservice.Service, err error) {
		o.do(func() { s, err = kmsv2.NewGRPCService(o.real, endpoint, name, timeout) })
		return bridge{s, o}, err
	})
}

// connect is how an API server reaches a plugin: kmsv2.NewGRPCService, or what
// wraps it.
type connect func(ctx context.Context, endpoint, name string, timeout time.Duration) (kmsservice.Service, error)

type connectKey struct{}

func withConnect(ctx context.Context, c connect) context.Context {
	return context.WithValue(ctx, connectKey{}, c)
}

func init() {
	encryptionconfig.EnvelopeKMSv2ServiceFactory = func(ctx context.Context, endpoint, name string, timeout time.Duration) (kmsservice.Service, error) {
		c, ok := ctx.Value(connectKey{}).(connect)
		if !ok {
			c = kmsv2.NewGRPCService
		}
		return c(ctx, endpoint, name, timeout)
	}
}

// bridge makes the calls of a service from outside. What they are given must
// have no channel of the bubble in it, hence context.WithoutCancel.
type bridge struct {
	service kmsservice.Service
	out     *outside
}

func (b bridge) Status(ctx context.Context) (r *kmsservice.StatusResponse, err error) {
	b.out.do(func() { r, err = b.service.Status(context.WithoutCancel(ctx)) })
	return r, err
}

func (b bridge) Encrypt(ctx context.Context, uid string, data []byte) (r *kmsservice.EncryptResponse, err error) {
	b.out.do(func() { r, err = b.service.Encrypt(context.WithoutCancel(ctx), uid, data) })
	return r, err
}

func (b bridge) Decrypt(ctx context.Context, uid string, req *kmsservice.DecryptRequest) (plaintext []byte, err error) {
	b.out.do(func() { plaintext, err = b.service.Decrypt(context.WithoutCancel(ctx), uid, req) })
	return plaintext, err
}
