package kmsplugin

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/kmsfake"
	"github.com/ekskms/ekskms/internal/scratch"
)

const (
	region      = "eu-central-1"
	otherRegion = "eu-west-1"
	seed        = "0123456789abcdef0123456789abcdef"
)

// contextValue must never show up in a log.
const contextValue = "context-value-of-this-cluster"

var clusterContext = map[string]string{"ekskms-cluster": contextValue}

// awsEnv keeps the SDK away from the machine's own AWS settings.
func awsEnv(t testing.TB) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test-secret-access-key") // as long as FIPS mode asks for
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// serveFake puts a fake KMS behind HTTP, where the environment points the SDK.
func serveFake(t testing.TB, fake *kmsfake.Server) *httptest.Server {
	t.Helper()
	awsEnv(t)
	web := listenFake(t, fake)
	t.Setenv("AWS_ENDPOINT_URL_KMS", web.URL)
	return web
}

func listenFake(t testing.TB, fake *kmsfake.Server) *httptest.Server {
	t.Helper()
	web := httptest.NewUnstartedServer(fake)
	web.Config.ConnState = fake.ConnState
	web.Start()
	t.Cleanup(web.Close)
	return web
}

// fixture is a plugin whose probes the test runs by hand, on the real SDK with
// the fake KMS in process.
type fixture struct {
	t    *testing.T
	fake *kmsfake.Server
	key  *kmsfake.Key
	p    *Plugin
	logs *syncBuffer
}

// bubble runs a test under fake time: retries, polls and hours take none.
func bubble(t *testing.T, test func(t *testing.T, f *fixture), change ...func(*fixture, *Config)) {
	t.Helper()
	awsEnv(t)
	synctest.Test(t, func(t *testing.T) {
		fake := kmsfake.New(region)
		f := &fixture{t: t, fake: fake, key: fake.NewKey(), logs: &syncBuffer{}}
		f.p = f.plugin(change...)
		test(t, f)
	})
}

// plugin makes another plugin against the same KMS: a restart, or a neighbour.
func (f *fixture) plugin(change ...func(*fixture, *Config)) *Plugin {
	f.t.Helper()
	cfg := Config{
		Keys:              []Key{{ID: f.key.ARN, Clients: []*Client{f.client(f.fake, region)}}},
		EncryptionContext: clusterContext,
		Logger:            slog.New(slog.NewJSONHandler(f.logs, nil)),
	}
	for _, c := range change {
		c(f, &cfg)
	}
	p, err := New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, k := range p.keys {
		close(k.probed) // nobody runs the loop, so nobody else closes it
	}
	return p
}

func (f *fixture) client(fake *kmsfake.Server, region string) *Client {
	f.t.Helper()
	c, err := NewClient(f.t.Context(), ClientOptions{Region: region, Replica: region != "eu-central-1", Transport: fake.RoundTripper()})
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// probe looks at all keys once.
func (f *fixture) probe() *fixture {
	for _, k := range f.p.keys {
		k.probe(f.t.Context())
	}
	return f
}

func (f *fixture) state() *snapshot { return f.p.sealing().state.Load() }

func (f *fixture) condition() condition {
	_, now := f.p.sealing().now()
	return now
}

func (f *fixture) currentKeyID() string { return keyID(f.key.ARN, f.key.MaterialID()) }

func (f *fixture) status() *kmsapi.StatusResponse { return statusOf(f.t, f.p) }

func statusOf(t *testing.T, p *Plugin) *kmsapi.StatusResponse {
	t.Helper()
	s, err := p.Status(t.Context(), &kmsapi.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantOK fails unless Status vouches for the key_id.
func (f *fixture) wantOK(keyID string) {
	f.t.Helper()
	if s := f.status(); s.Healthz != "ok" || s.KeyId != keyID {
		f.t.Errorf("status %q under key_id %q, want ok under %q", s.Healthz, s.KeyId, keyID)
	}
}

// wantNotOK fails unless Status refuses to vouch for anything.
func (f *fixture) wantNotOK() {
	f.t.Helper()
	if s := f.status(); s.Healthz == "ok" || s.Healthz == "" || s.KeyId != "" {
		f.t.Errorf("status %q under key_id %q, want a reason and no key_id", s.Healthz, s.KeyId)
	}
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

// wantOpens fails unless p reads what was encrypted.
func (f *fixture) wantOpens(p *Plugin, e *kmsapi.EncryptResponse) {
	f.t.Helper()
	d, err := p.Decrypt(f.t.Context(), decryptRequest(e))
	if err != nil || string(d.GetPlaintext()) != seed {
		f.t.Errorf("decrypt: %q, %v", d.GetPlaintext(), err)
	}
}

func decryptRequest(e *kmsapi.EncryptResponse) *kmsapi.DecryptRequest {
	return &kmsapi.DecryptRequest{Ciphertext: bytes.Clone(e.Ciphertext), KeyId: e.KeyId, Annotations: e.Annotations, Uid: "uid-decrypt"}
}

// running is a plugin behind Serve on a real socket, with KMS over HTTP and a
// poll of a few milliseconds.
type running struct {
	*fixture
	web    *httptest.Server
	client kmsapi.KeyManagementServiceClient
	socket string
	health string
	stop   func()
	done   chan error
}

func start(t *testing.T, change ...func(*fixture, *Config)) *running {
	t.Helper()
	fake := kmsfake.New(region)
	return startWith(t, fake, fake.NewKey(), Listeners{}, change...)
}

func startWith(t *testing.T, fake *kmsfake.Server, key *kmsfake.Key, l Listeners, change ...func(*fixture, *Config)) *running {
	t.Helper()
	r := &running{
		fixture: &fixture{t: t, fake: fake, key: key, logs: &syncBuffer{}},
		web:     serveFake(t, fake), socket: filepath.Join(shortDir(t), "s.sock"), done: make(chan error, 1),
	}
	m := newMetrics()
	// A loaded machine must not turn an answer into a time-out.
	const patience = time.Minute
	client, err := NewClient(t.Context(), ClientOptions{Region: region, metrics: m, attemptTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Keys:              []Key{{ID: key.ARN, Clients: []*Client{client}}},
		EncryptionContext: clusterContext,
		Logger:            slog.New(slog.NewJSONHandler(r.logs, nil)),
		PollInterval:      5 * time.Millisecond,
		CallTimeout:       patience,
		metrics:           m,
	}
	for _, c := range change {
		c(r.fixture, &cfg)
	}
	if r.p, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	if l.Plugin, err = Listen(r.socket, Owner{Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	if l.Health, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	r.health = "http://" + l.Health.Addr().String()
	r.client = dial(t, r.socket)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.done <- Serve(ctx, r.p, l) }()
	t.Cleanup(func() {
		stop()
		<-r.done
	})
	return r
}

// decrypting makes a call that goes on while the test does.
func (r *running) decrypting(e *kmsapi.EncryptResponse) (answer <-chan error) {
	c := make(chan error, 1)
	go func() {
		_, err := r.client.Decrypt(context.Background(), decryptRequest(e))
		c <- err
	}()
	return c
}

// holdDecrypt keeps the next Decrypt at KMS until it is released.
func (r *running) holdDecrypt() (arrived <-chan struct{}, release func()) {
	come, hold := make(chan struct{}), make(chan struct{})
	var held atomic.Bool
	r.fake.Before(func(op string) {
		if op == "Decrypt" && held.CompareAndSwap(false, true) {
			close(come)
			<-hold
		}
	})
	return come, func() { close(hold) }
}

// rarely has the plugin look at its key once, and no more.
func rarely(_ *fixture, c *Config) { c.PollInterval = time.Hour }

// get asks the health listener.
func (r *running) get(path string) (int, string) {
	r.t.Helper()
	resp, err := http.Get(r.health + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, body.String()
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
	dir, err := scratch.Dir("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

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

func mustf(t testing.TB, err error, format string, args ...any) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", fmt.Sprintf(format, args...), err)
	}
}

// sealedBy is the material that wrapped an envelope's key, by kmsfake's format.
func sealedBy(e *kmsapi.EncryptResponse) string {
	wrapped, _, ok := splitEnvelope(e.GetCiphertext())
	if !ok {
		return "no envelope"
	}
	return hex.EncodeToString(wrapped[:32])
}

// ownKeyID tells whether a plugin for the key can have issued a key_id.
func ownKeyID(keyARN, id string) bool {
	_, name, _, ok := parseKeyID(id)
	return ok && name == keyName(keyARN)
}

func slogTo(w io.Writer) *slog.Logger { return slog.New(slog.NewJSONHandler(w, nil)) }

// hintOf is the advice that goes with an error.
func hintOf(err error) string {
	var h *hint.Error
	if errors.As(err, &h) {
		return h.Hint
	}
	return ""
}
