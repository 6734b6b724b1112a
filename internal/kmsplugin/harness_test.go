package kmsplugin

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

const region = "eu-central-1"

// contextValue must never show up in a log.
const contextValue = "context-value-of-this-cluster"

var clusterContext = map[string]string{"ekskms-cluster": contextValue}

// awsEnv points the real SDK at a fake KMS.
func awsEnv(t testing.TB, fake *kmsfake.Server) *httptest.Server {
	t.Helper()
	web := httptest.NewServer(fake)
	t.Cleanup(web.Close)
	t.Setenv("AWS_ENDPOINT_URL_KMS", web.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_MAX_ATTEMPTS", "1") // or the retries of the failure tests would wait
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return web
}

// fixture is a plugin whose probes the test runs by hand.
type fixture struct {
	t    *testing.T
	fake *kmsfake.Server
	key  *kmsfake.Key
	p    *Plugin
	logs *syncBuffer
}

func newFixture(t *testing.T, change ...func(*Config)) *fixture {
	t.Helper()
	fake := kmsfake.New(region)
	awsEnv(t, fake)
	f := &fixture{t: t, fake: fake, key: fake.NewKey(), logs: &syncBuffer{}}
	f.p = f.plugin(change...)
	return f
}

// plugin makes another plugin against the same KMS: a restart, or a neighbour.
func (f *fixture) plugin(change ...func(*Config)) *Plugin {
	f.t.Helper()
	client, err := NewKMS(f.t.Context(), region)
	if err != nil {
		f.t.Fatal(err)
	}
	cfg := Config{
		KeyARN:            f.key.ARN,
		EncryptionContext: clusterContext,
		KMS:               client,
		Logger:            slog.New(slog.NewJSONHandler(f.logs, nil)),
		CallTimeout:       time.Minute, // a loaded machine must not turn an answer into a time-out
	}
	for _, c := range change {
		c(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	close(p.probed) // nobody runs the loop, so nobody else closes it
	return p
}

func (f *fixture) probe() *fixture {
	f.p.probe(f.t.Context())
	return f
}

func (f *fixture) status() *kmsapi.StatusResponse {
	f.t.Helper()
	s, err := f.p.Status(f.t.Context(), &kmsapi.StatusRequest{})
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fixture) encrypt(plaintext string) (*kmsapi.EncryptResponse, error) {
	return f.p.Encrypt(f.t.Context(), &kmsapi.EncryptRequest{Plaintext: []byte(plaintext), Uid: "uid-encrypt"})
}

func (f *fixture) mustEncrypt(plaintext string) *kmsapi.EncryptResponse {
	f.t.Helper()
	e, err := f.encrypt(plaintext)
	if err != nil {
		f.t.Fatal(err)
	}
	return e
}

func decryptRequest(e *kmsapi.EncryptResponse) *kmsapi.DecryptRequest {
	return &kmsapi.DecryptRequest{Ciphertext: bytes.Clone(e.Ciphertext), KeyId: e.KeyId, Annotations: e.Annotations, Uid: "uid-decrypt"}
}

// running is a plugin behind Serve on a real socket, with a clock that stands
// still until the test moves it.
type running struct {
	*fixture
	client kmsapi.KeyManagementServiceClient
	socket string
	health string
	clock  *fakeClock
	stop   func()
	done   chan error
}

func start(t *testing.T, change ...func(*Config)) *running {
	t.Helper()
	clock := &fakeClock{fire: make(chan time.Time)}
	f := newFixture(t, append([]func(*Config){func(c *Config) { c.Clock = clock }}, change...)...)
	f.p.probed = make(chan struct{}) // the loop does it here
	socket := filepath.Join(shortDir(t), "s.sock")
	l, err := Listen(socket, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	h, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{fixture: f, client: dial(t, socket), socket: socket, health: "http://" + h.Addr().String(),
		clock: clock, stop: stop, done: make(chan error, 1)}
	go func() { r.done <- Serve(ctx, f.p, Listeners{Plugin: l, Health: h}) }()
	t.Cleanup(func() {
		stop()
		for {
			select {
			case <-r.done:
				return
			case clock.fire <- time.Time{}:
			}
		}
	})
	return r
}

func dial(t testing.TB, socket string) kmsapi.KeyManagementServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return kmsapi.NewKeyManagementServiceClient(conn)
}

// shortDir is a t.TempDir whose path leaves room for a socket's name.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// fakeClock: every After waits until the test sends on fire.
type fakeClock struct{ fire chan time.Time }

func (*fakeClock) Now() time.Time                         { return time.Unix(1_800_000_000, 0) }
func (c *fakeClock) After(time.Duration) <-chan time.Time { return c.fire }

// poll makes the probe loop take one more turn.
func (c *fakeClock) poll() { c.fire <- c.Now() }

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// eventually waits for something that another goroutine is about to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 6000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never happened: %s", what)
}
