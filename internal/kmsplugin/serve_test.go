package kmsplugin

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

func listenHandler(t *testing.T, h http.Handler) string {
	t.Helper()
	web := httptest.NewServer(h)
	t.Cleanup(web.Close)
	return web.URL
}

// scrape reads the plugin's own metrics, without a listener.
func scrape(t testing.TB, p *Plugin) string {
	t.Helper()
	w := httptest.NewRecorder()
	healthHandler(p, new(atomic.Bool), false).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("metrics answer %d: %s", w.Code, w.Body)
	}
	var own strings.Builder
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, namespace+"_") {
			own.WriteString(line)
		}
	}
	return own.String()
}

func TestRoundTripOverTheSocket(t *testing.T) {
	r := start(t)
	r.fake.RequireContext(clusterContext)
	s, err := r.client.Status(t.Context(), &kmsapi.StatusRequest{})
	if err != nil || s.Healthz != "ok" || s.Version != "v2" {
		t.Fatalf("status right after start: %v %v", s, err)
	}
	if want := r.currentKeyID(); s.KeyId != want {
		t.Errorf("key_id %q, want %q", s.KeyId, want)
	}
	e, err := r.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: []byte(seed), Uid: "u"})
	mustf(t, err, "encrypt")
	if e.KeyId != s.KeyId || len(e.Ciphertext) > 1024 || bytes.Contains(e.Ciphertext, []byte(seed)) {
		t.Errorf("bad answer to Encrypt: %v", e)
	}
	d, err := r.client.Decrypt(t.Context(), decryptRequest(e))
	if err != nil || string(d.Plaintext) != seed {
		t.Fatalf("decrypt: %v %v", d, err)
	}
	for _, c := range r.fake.Calls() {
		if c.Op == "" {
			continue // warming up
		}
		if c.KeyID != r.key.ARN {
			t.Errorf("%s without the key pinned: %q", c.Op, c.KeyID)
		}
		if c.Op != "DescribeKey" && c.Context["ekskms-cluster"] != contextValue {
			t.Errorf("%s without the encryption context: %v", c.Op, c.Context)
		}
	}
}

func TestMessagesAreLimited(t *testing.T) {
	r := start(t)
	_, err := r.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: make([]byte, maxMessage+1)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("error %v", err)
	}
}

func TestHealthEndpoints(t *testing.T) {
	r := start(t)
	eventually(t, "ready", func() bool { code, _ := r.get("/readyz"); return code == 200 })
	r.fake.Fail("*", &kmsfake.Error{Status: 500, Code: "KMSInternalException"})
	eventually(t, "degraded and ready", func() bool {
		code, body := r.get("/readyz")
		return code == 200 && strings.HasPrefix(body, "degraded: ")
	})
	r.fake.Fail("*", nil)
	r.key.SetState(kmsfake.Disabled)
	eventually(t, "not ready", func() bool { code, _ := r.get("/readyz"); return code == 503 })
	if _, body := r.get("/readyz"); !strings.Contains(body, "kms:EnableKey") {
		t.Errorf("readyz says %q", body)
	}
	if code, body := r.get("/livez"); code != 200 || body != "ok\n" {
		t.Errorf("livez with a disabled key: %d %q", code, body)
	}
	for path, want := range map[string]int{"/debug/pprof/": 404, "/debug/pprof/heap": 404, "/": 404, "/metrics": 200} {
		if code, _ := r.get(path); code != want {
			t.Errorf("%s answers %d, want %d", path, code, want)
		}
	}
}

func TestPprofOnDemand(t *testing.T) {
	fake := kmsfake.New(region)
	r := startWith(t, fake, fake.NewKey(), Listeners{Pprof: true})
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap"} {
		if code, _ := r.get(path); code != 200 {
			t.Errorf("%s answers %d", path, code)
		}
	}
}

func TestDrain(t *testing.T) {
	r := start(t, rarely)
	e, err := r.client.Encrypt(t.Context(), encryptRequest())
	mustf(t, err, "encrypt")
	arrived, release := r.holdDecrypt()
	answer := r.decrypting(e)
	<-arrived
	r.stop()
	eventually(t, "no new connections", func() bool {
		_, err := dial(t, r.socket).Status(t.Context(), &kmsapi.StatusRequest{})
		return status.Code(err) == codes.Unavailable
	})
	select {
	case err := <-r.done:
		t.Fatalf("stopped with a call in flight: %v", err)
	default:
	}
	release()
	mustf(t, <-answer, "the call in flight was cut")
	mustf(t, <-r.done, "Serve")
	r.done <- nil // for the clean-up
}

func TestDrainIsBounded(t *testing.T) {
	fake := kmsfake.New(region)
	r := startWith(t, fake, fake.NewKey(), Listeners{Drain: 10 * time.Millisecond})
	e, err := r.client.Encrypt(t.Context(), encryptRequest())
	mustf(t, err, "encrypt")
	r.fake.Hang("*", kmsfake.Always)
	answer := r.decrypting(e)
	eventually(t, "a call in flight", func() bool { return len(r.p.slots) == 1 })
	r.stop()
	mustf(t, <-r.done, "Serve")
	r.done <- nil
	if err := <-answer; status.Code(err) != codes.Unavailable {
		t.Errorf("the call that was cut got %v", err)
	}
}

// Serve leaves nothing behind: no goroutine, no connection, no seed.
func TestServeLeavesNothingBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("run", func(t *testing.T) {
		r := start(t, func(_ *fixture, c *Config) { c.SeedCache = 10 })
		e, err := r.client.Encrypt(t.Context(), encryptRequest())
		mustf(t, err, "encrypt")
		for range 100 {
			r.wantOpens(r.p, e)
		}
		r.fake.Hang("Decrypt", kmsfake.Always)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, _ = r.client.Decrypt(ctx, &kmsapi.DecryptRequest{Ciphertext: []byte("a flight whose caller is gone"), KeyId: e.KeyId})
		r.stop()
		mustf(t, <-r.done, "Serve")
		r.done <- nil
		if n := r.p.cache.lru.Len(); n != 0 {
			t.Errorf("%d seeds are still in memory", n)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	goleak.VerifyNone(t, before)
}

// A full run, good and bad, then a search of everything that was logged, said
// or shown.
func TestNothingSecretIsLogged(t *testing.T) {
	r := start(t, func(_ *fixture, c *Config) { c.SeedCache = 10 })
	plaintext := []byte("plaintext-that-nobody-may-see-00")
	e, err := r.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: plaintext, Uid: "uid-one"})
	mustf(t, err, "encrypt")
	_, err = r.client.Decrypt(t.Context(), &kmsapi.DecryptRequest{Ciphertext: e.Ciphertext, KeyId: e.KeyId, Uid: "uid-two"})
	mustf(t, err, "decrypt")
	calls := r.fake.Calls()
	var said []any
	bad := decryptRequest(e)
	bad.Ciphertext[40] ^= 1
	_, err = r.client.Decrypt(t.Context(), bad)
	said = append(said, err)
	bad = decryptRequest(e)
	bad.KeyId = "foreign " + string(plaintext)
	_, err = r.client.Decrypt(t.Context(), bad)
	said = append(said, err)
	bad = decryptRequest(e)
	bad.Annotations = map[string][]byte{string(plaintext): plaintext}
	_, err = r.client.Decrypt(t.Context(), bad)
	said = append(said, err)
	for _, code := range []string{"AccessDeniedException", "ThrottlingException", "InvalidCiphertextException", "KMSInvalidStateException", "SomethingNewException"} {
		r.fake.Fail("*", &kmsfake.Error{Code: code, Message: "context " + contextValue + " plaintext " + string(plaintext)})
		_, err = r.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: plaintext})
		said = append(said, err)
		bad = decryptRequest(e)
		bad.Ciphertext = append(bad.Ciphertext, 0) // not from the cache
		_, err = r.client.Decrypt(t.Context(), bad)
		said = append(said, err, r.status())
	}
	r.fake.Fail("*", &kmsfake.Error{Code: "AccessDeniedException", Message: contextValue})
	eventually(t, "an unhealthy status", func() bool { return r.status().Healthz != "ok" })
	_, metrics := r.get("/metrics")
	_, ready := r.get("/readyz")
	r.stop()
	<-r.done
	r.done <- nil

	out := r.logs.String() + fmt.Sprint(said...) + metrics + ready
	secrets := map[string]string{"context value": contextValue}
	for name, b := range map[string][]byte{"plaintext": plaintext, "ciphertext": e.Ciphertext} {
		secrets[name] = string(b)
		secrets[name+" in hex"] = hex.EncodeToString(b)
		secrets[name+" in base64"] = base64.StdEncoding.EncodeToString(b)
		secrets[name+" as numbers"] = strings.Trim(fmt.Sprintf("%d", b), "[]")
		secrets[name+" in quotes"] = strings.Trim(strconv.Quote(string(b)), `"`)
		escaped, err := json.Marshal(string(b))
		mustf(t, err, "escape")
		secrets[name+" in JSON"] = strings.Trim(string(escaped), `"`)
	}
	for name, secret := range secrets {
		if strings.Contains(out, secret) {
			t.Errorf("the output holds the %s:\n%s", name, out)
		}
	}
	if strings.Contains(metrics, r.key.ARN) || strings.Contains(metrics, "111122223333") {
		t.Error("metrics name the account")
	}

	// UID and KMS's request IDs stand in one line: the way to CloudTrail.
	known := map[string]bool{}
	for _, c := range calls {
		known[c.RequestID] = true
	}
	found := 0
	for line := range strings.Lines(r.logs.String()) {
		var l struct {
			UID string   `json:"uid"`
			IDs []string `json:"kms_request_ids"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Errorf("not a JSON line: %s", line)
		}
		if (l.UID == "uid-one" && len(l.IDs) >= 1 || l.UID == "uid-two" && len(l.IDs) == 1) && known[l.IDs[0]] {
			found++
		}
	}
	if found != 2 {
		t.Errorf("%d of 2 calls can be followed to KMS:\n%s", found, r.logs.String())
	}
}

// The API server's histogram of its plugin and ours can be laid over each other
// (apiserver/pkg/storage/value/encrypt/envelope/metrics).
func TestBucketsAreTheAPIServers(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.fake.Latency(10 * time.Millisecond)
		f.probe().mustEncrypt(seed)
		all := scrape(t, f.p)
		bound := 0.0001
		for range 20 {
			want := fmt.Sprintf(`ekskms_plugin_operation_duration_seconds_bucket{operation="encrypt",le="%s"}`, strconv.FormatFloat(bound, 'g', -1, 64))
			if !strings.Contains(all, want) {
				t.Errorf("no %s", want)
			}
			bound *= 2
		}
		if !strings.Contains(all, `ekskms_plugin_operation_duration_seconds_sum{operation="encrypt"} 0.01`) {
			t.Error("a KMS call of 10 ms is not 0.01 seconds")
		}
	})
}

// While calls are finished, nobody should send new ones.
func TestNotReadyWhileDraining(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe()
		for draining, want := range map[bool]int{false: 200, true: 503} {
			var d atomic.Bool
			d.Store(draining)
			w := httptest.NewRecorder()
			healthHandler(f.p, &d, false).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
			if w.Code != want {
				t.Errorf("draining %t: %d, want %d", draining, w.Code, want)
			}
		}
	})
}
