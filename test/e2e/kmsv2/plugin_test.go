// Package kmsv2_test drives the plugin with the API server's own code: its gRPC
// client, its envelope transformer, its health check with the rotation of seeds,
// and its loader of encryption configurations. The plugin is the one that
// kms-plugin serve runs, on a real unix socket, before a fake AWS KMS.
package kmsv2_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"google.golang.org/grpc"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	kmsapi "k8s.io/kms/apis/v2"
	kmsservice "k8s.io/kms/pkg/service"

	"github.com/ekskms/ekskms/internal/kmsfake"
	"github.com/ekskms/ekskms/internal/kmsplugin"
	"github.com/ekskms/ekskms/internal/scratch"
)

const region = "eu-central-1"

var clusterContext = map[string]string{"ekskms-cluster": "the-cluster-of-this-test"}

func TestMain(m *testing.M) {
	for name, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		if err := os.Setenv(name, v); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// cloud is a fake AWS KMS in one Region, with one key.
type cloud struct {
	*kmsfake.Server
	key    *kmsfake.Key
	client *kmsplugin.Client
}

func newCloud(t testing.TB) *cloud {
	t.Helper()
	c := inRegion(t, region)
	c.key = c.NewKey()
	return c
}

func inRegion(t testing.TB, region string) *cloud {
	t.Helper()
	fake := kmsfake.New(region)
	web := httptest.NewServer(fake)
	t.Cleanup(web.Close)
	client, err := kmsplugin.NewClient(t.Context(), kmsplugin.ClientOptions{Region: region, EndpointURL: web.URL})
	if err != nil {
		t.Fatal(err)
	}
	return &cloud{Server: fake, client: client}
}

// outage begins or ends a time in which AWS KMS does nothing for anybody.
func (c *cloud) outage(on bool) {
	var e *kmsfake.Error
	if on {
		e = &kmsfake.Error{Status: 500, Code: "KMSInternalException"}
	}
	c.Fail("*", e)
}

const outageReason = "AWS KMS has an internal fault"

// running is a plugin on its socket.
type running struct {
	*kmsplugin.Plugin
	t      testing.TB
	socket string
	health string
	direct kmsservice.Service
	stop   func()
}

// serve runs a plugin for a cloud's key until the test ends or stop is called.
func (c *cloud) serve(t testing.TB, socket string, change ...func(*kmsplugin.Config)) *running {
	t.Helper()
	cfg := kmsplugin.Config{
		Keys:              []kmsplugin.Key{{ID: c.key.ARN, Clients: []*kmsplugin.Client{c.client}}},
		EncryptionContext: clusterContext,
		PollInterval:      20 * time.Millisecond,
		CallTimeout:       50 * time.Second, // below the API servers' of these tests
	}
	for _, f := range change {
		f(&cfg)
	}
	p, err := kmsplugin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := kmsplugin.Listen(socket, kmsplugin.Owner{Mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	h, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- kmsplugin.Serve(ctx, p, kmsplugin.Listeners{Plugin: l, Health: h}) }()
	direct, err := kmsv2.NewGRPCService(ctx, "unix://"+socket, "direct", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Plugin: p, t: t, socket: socket, health: "http://" + h.Addr().String(), direct: direct}
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// status asks over the socket, as an API server would.
func (r *running) status() *kmsservice.StatusResponse {
	r.t.Helper()
	s, err := r.direct.Status(context.Background())
	if err != nil {
		r.t.Error(err) // not Fatal: it may be another goroutine's
		return &kmsservice.StatusResponse{}
	}
	return s
}

// vouches waits until Status says ok under a key_id other than the given one.
func (r *running) vouches(not string) (keyID string) {
	r.t.Helper()
	r.eventually("Status says ok", func() bool {
		s := r.status()
		keyID = s.KeyID
		return s.Healthz == "ok" && keyID != not
	})
	return keyID
}

// fails waits until Status says nothing but why.
func (r *running) fails(reason string) {
	r.t.Helper()
	r.eventually("Status says: "+reason, func() bool {
		s := r.status()
		return s.KeyID == "" && strings.Contains(s.Healthz, reason)
	})
}

// degrades waits until a probe has failed and Status still says ok.
func (r *running) degrades(reason string) {
	r.t.Helper()
	r.eventually("the plugin is degraded: "+reason, func() bool {
		ok, message := r.Ready()
		return ok && strings.HasPrefix(message, "degraded: ") && strings.Contains(message, reason)
	})
}

// eventually waits in real time for what the plugin is about to do.
func (r *running) eventually(what string, ok func() bool) {
	r.t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s := r.status()
	r.t.Errorf("never happened: %s (healthz %q, key_id %q)", what, s.Healthz, s.KeyID)
}

// socketPath is in a folder whose path leaves room for it, unlike t.TempDir.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := scratch.Dir("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "kms.sock")
}

// serveOther runs somebody else's KMS v2 plugin on a socket.
func serveOther(t testing.TB, socket string, p kmsapi.KeyManagementServiceServer) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	kmsapi.RegisterKeyManagementServiceServer(server, p)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	stop = sync.OnceFunc(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Errorf("serve %s: %v", socket, err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// chattyPlugin is a plugin that says what ails it and sends its key_id all the
// same, as most do.
type chattyPlugin struct {
	kmsapi.UnimplementedKeyManagementServiceServer
	mu      sync.Mutex
	healthz string
	seeds   map[string][]byte
}

func newChattyPlugin() *chattyPlugin {
	return &chattyPlugin{healthz: "ok", seeds: map[string][]byte{}}
}

func (p *chattyPlugin) say(healthz string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.healthz = healthz
}

func (p *chattyPlugin) Status(context.Context, *kmsapi.StatusRequest) (*kmsapi.StatusResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &kmsapi.StatusResponse{Version: "v2", Healthz: p.healthz, KeyId: "the-key"}, nil
}

func (p *chattyPlugin) Encrypt(_ context.Context, req *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	handle := rand.Text()
	p.seeds[handle] = req.Plaintext
	return &kmsapi.EncryptResponse{Ciphertext: []byte(handle), KeyId: "the-key"}, nil
}

func (p *chattyPlugin) Decrypt(_ context.Context, req *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seed, ok := p.seeds[string(req.Ciphertext)]
	if !ok {
		return nil, errors.New("no such seed")
	}
	return &kmsapi.DecryptResponse{Plaintext: seed}, nil
}

// legacyPlugin does what the KMS v2 service of kubernetes-sigs/aws-encryption-provider
// does (pkg/plugin/plugin_v2.go): the key_id is the --key flag as it stands, the
// ciphertext that of KMS behind a version byte, Decrypt pins no key, and Status
// says v2beta1.
type legacyPlugin struct {
	kmsapi.UnimplementedKeyManagementServiceServer
	kms     *kms.Client
	key     string
	context map[string]string
}

func (p *legacyPlugin) Status(context.Context, *kmsapi.StatusRequest) (*kmsapi.StatusResponse, error) {
	return &kmsapi.StatusResponse{Version: "v2beta1", Healthz: "ok", KeyId: p.key}, nil
}

func (p *legacyPlugin) Encrypt(ctx context.Context, req *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	out, err := p.kms.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(p.key), Plaintext: req.Plaintext, EncryptionContext: p.context})
	if err != nil {
		return nil, err
	}
	return &kmsapi.EncryptResponse{Ciphertext: append([]byte("1"), out.CiphertextBlob...), KeyId: p.key}, nil
}

func (p *legacyPlugin) Decrypt(ctx context.Context, req *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	if req.Ciphertext[0] != '1' {
		return nil, errors.New("not the ciphertext of this plugin")
	}
	out, err := p.kms.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: req.Ciphertext[1:], EncryptionContext: p.context})
	if err != nil {
		return nil, err
	}
	return &kmsapi.DecryptResponse{Plaintext: out.Plaintext}, nil
}
