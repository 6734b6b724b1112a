package kmsplugin

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

const seed = "0123456789abcdef0123456789abcdef"

func TestRoundTripOverTheSocket(t *testing.T) {
	r := start(t)
	r.fake.RequireContext(clusterContext)
	s, err := r.client.Status(t.Context(), &kmsapi.StatusRequest{})
	if err != nil || s.Healthz != "ok" || s.Version != "v2" {
		t.Fatalf("status right after start: %v %v", s, err)
	}
	if want := keyID(r.key.ARN, r.key.MaterialID()); s.KeyId != want {
		t.Errorf("key_id %q, want %q", s.KeyId, want)
	}
	e, err := r.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: []byte(seed), Uid: "u"})
	if err != nil {
		t.Fatal(err)
	}
	if e.KeyId != s.KeyId || len(e.Ciphertext) > 1024 || bytes.Contains(e.Ciphertext, []byte(seed)) {
		t.Errorf("bad answer to Encrypt: %v", e)
	}
	d, err := r.client.Decrypt(t.Context(), decryptRequest(e))
	if err != nil || string(d.Plaintext) != seed {
		t.Fatalf("decrypt: %v %v", d, err)
	}
	for _, c := range r.fake.Calls() {
		if c.KeyID != r.key.ARN {
			t.Errorf("%s without the key pinned: %q", c.Op, c.KeyID)
		}
		if c.Op != "DescribeKey" && c.Context["ekskms-cluster"] != contextValue {
			t.Errorf("%s without the encryption context: %v", c.Op, c.Context)
		}
	}
}

// The role in the key policy may call these three and nothing else.
func TestStatusNeverCallsKMS(t *testing.T) {
	f := newFixture(t).probe()
	before := len(f.fake.Calls())
	for range 100 {
		f.status()
	}
	if n := len(f.fake.Calls()); n != before {
		t.Errorf("100 Status calls made %d KMS calls", n-before)
	}
}

func TestPollSeesRotation(t *testing.T) {
	r := start(t)
	first, err := r.client.Status(t.Context(), &kmsapi.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	r.key.Rotate()
	r.clock.poll()
	eventually(t, "a new key_id", func() bool { return r.status().KeyId != first.KeyId })
	if s := r.status(); s.Healthz != "ok" || s.KeyId != keyID(r.key.ARN, r.key.MaterialID()) {
		t.Errorf("after rotation: %v", s)
	}
}

// An Encrypt that finds the key rotated asks for a probe, so that the API
// server's next attempt succeeds without waiting for the poll.
func TestEncryptKicksTheProbe(t *testing.T) {
	r := start(t)
	if _, err := r.client.Status(t.Context(), &kmsapi.StatusRequest{}); err != nil { // the first probe is over
		t.Fatal(err)
	}
	r.key.Rotate()
	_, err := r.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: []byte(seed)})
	if status.Code(err) != codes.Unavailable {
		t.Fatalf("encrypt under unseen material: %v", err)
	}
	eventually(t, "the probe that Encrypt asked for", func() bool {
		return r.status().KeyId == keyID(r.key.ARN, r.key.MaterialID())
	})
	if _, err := r.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: []byte(seed)}); err != nil {
		t.Errorf("encrypt after the probe: %v", err)
	}
}

// The key rotates ahead of the i-th and of the j-th KMS call that a probe, an
// Encrypt, and so on make. Whatever the moment: no ciphertext is labelled with
// a material that did not seal it, or with a key_id that Status does not give.
func TestRotationAtEveryPoint(t *testing.T) {
	f := newFixture(t).probe()
	const calls = 14 // probe (3, more while unsettled) and Encrypt (2), three times
	for i := range calls {
		for j := i; j < calls; j++ {
			p := f.plugin()
			n := 0
			f.fake.Before(func(string) {
				if n == i || n == j {
					f.key.Rotate()
				}
				n++
			})
			good := 0
			var stored []*kmsapi.EncryptResponse
			for n < calls+8 {
				p.probe(t.Context())
				e, err := p.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: []byte(seed)})
				if err != nil {
					if status.Code(err) != codes.Unavailable {
						t.Fatalf("rotations at %d and %d: %v", i, j, err)
					}
					continue
				}
				good++
				sealedBy := hex.EncodeToString(e.Ciphertext[:32]) // kmsfake's format
				if e.KeyId != keyID(f.key.ARN, sealedBy) {
					t.Fatalf("rotations at %d and %d: wrong label", i, j)
				}
				if s := p.state.Load(); s.keyID != e.KeyId {
					t.Fatalf("rotations at %d and %d: Status gives another key_id", i, j)
				}
				stored = append(stored, e)
			}
			if good == 0 {
				t.Fatalf("rotations at %d and %d: Encrypt never recovered", i, j)
			}
			for _, e := range stored {
				if d, err := p.Decrypt(t.Context(), decryptRequest(e)); err != nil || string(d.Plaintext) != seed {
					t.Fatalf("rotations at %d and %d: data lost: %v", i, j, err)
				}
			}
			if t.Failed() {
				return
			}
		}
	}
}

// DescribeKey may lag behind a rotation. The probe then keeps the key_id that it
// can vouch for.
func TestUnsettledMaterialKeepsTheOldKeyID(t *testing.T) {
	f := newFixture(t).probe()
	old := f.status().KeyId
	f.fake.Before(func(op string) {
		if op == "Encrypt" {
			f.key.Rotate() // always after DescribeKey: the two never agree
		}
	})
	if s := f.probe().status(); s.Healthz != "ok" || s.KeyId != old {
		t.Errorf("status %v, want ok under the old key_id", s)
	}
	fresh := f.plugin()
	fresh.probe(t.Context())
	if ok, msg := fresh.Ready(); ok || !strings.Contains(msg, "rotating") {
		t.Errorf("a plugin that never saw agreement says %q", msg)
	}
	f.fake.Before(nil)
	if s := f.probe().status(); s.Healthz != "ok" || s.KeyId != keyID(f.key.ARN, f.key.MaterialID()) {
		t.Errorf("after agreement: %v", s)
	}
}

func TestKMSWithoutMaterialIDs(t *testing.T) {
	f := newFixture(t)
	f.fake.HideMaterialIDs("DescribeKey", "Decrypt")
	f.probe()
	if s := f.status(); s.Healthz != "ok" || s.KeyId != keyID(f.key.ARN, "") {
		t.Fatalf("status %v", s)
	}
	e := f.mustEncrypt(seed)
	f.fake.HideMaterialIDs() // KMS is updated: old data must stay readable
	f.probe()
	if s := f.status(); s.KeyId != keyID(f.key.ARN, f.key.MaterialID()) {
		t.Errorf("material stays unseen: %v", s)
	}
	if d, err := f.p.Decrypt(t.Context(), decryptRequest(e)); err != nil || string(d.Plaintext) != seed {
		t.Errorf("decrypt: %v", err)
	}
}

// What Decrypt names counts: it is what Encrypt can be checked against.
func TestKMSWithHalfTheMaterialIDs(t *testing.T) {
	f := newFixture(t)
	for hidden, want := range map[string]string{
		"DescribeKey": keyID(f.key.ARN, f.key.MaterialID()),
		"Decrypt":     keyID(f.key.ARN, ""),
	} {
		f.fake.HideMaterialIDs(hidden)
		if s := f.probe().status(); s.Healthz != "ok" || s.KeyId != want {
			t.Errorf("%s is silent: status %v, want key_id %s", hidden, s, want)
		}
		if e := f.mustEncrypt(seed); e.KeyId != want {
			t.Errorf("%s is silent: label %s", hidden, e.KeyId)
		}
	}
}

func TestOldDataAfterRotationAndRestart(t *testing.T) {
	f := newFixture(t).probe()
	e := f.mustEncrypt(seed)
	f.key.Rotate()
	f.key.Rotate()
	restarted := f.plugin() // before its first probe, even
	d, err := restarted.Decrypt(t.Context(), decryptRequest(e))
	if err != nil || string(d.Plaintext) != seed {
		t.Fatalf("decrypt after restart: %v", err)
	}
	// A label that names another material of the same key: readable, and noted.
	req := decryptRequest(e)
	req.KeyId = keyID(f.key.ARN, "another material")
	if d, err := restarted.Decrypt(t.Context(), req); err != nil || string(d.Plaintext) != seed {
		t.Fatalf("decrypt under a changed label: %v", err)
	}
	if !strings.Contains(f.logs.String(), "names another material") {
		t.Error("a changed label goes unnoticed")
	}
}

func TestDecryptRefuses(t *testing.T) {
	f := newFixture(t).probe()
	e := f.mustEncrypt(seed)
	other := f.fake.NewKey()
	foreign := f.plugin(func(c *Config) { c.KeyARN = other.ARN })
	foreign.probe(t.Context())
	foreignData, err := foreign.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: []byte(seed)})
	if err != nil {
		t.Fatal(err)
	}

	for name, c := range map[string]struct {
		change func(*kmsapi.DecryptRequest)
		code   codes.Code
		calls  int // to KMS
	}{
		"key_id of another key":       {func(r *kmsapi.DecryptRequest) { r.KeyId = foreignData.KeyId }, codes.FailedPrecondition, 0},
		"raw ARN as key_id":           {func(r *kmsapi.DecryptRequest) { r.KeyId = f.key.ARN }, codes.FailedPrecondition, 0},
		"no key_id":                   {func(r *kmsapi.DecryptRequest) { r.KeyId = "" }, codes.FailedPrecondition, 0},
		"key_id with a tail":          {func(r *kmsapi.DecryptRequest) { r.KeyId += "0" }, codes.FailedPrecondition, 0},
		"key_id without its material": {func(r *kmsapi.DecryptRequest) { r.KeyId = r.KeyId[:len(r.KeyId)-keyIDHashLen] }, codes.FailedPrecondition, 0},
		"key_id over 1 KiB":           {func(r *kmsapi.DecryptRequest) { r.KeyId += strings.Repeat("0", 2000) }, codes.FailedPrecondition, 0},
		"annotations": {func(r *kmsapi.DecryptRequest) {
			r.Annotations = map[string][]byte{"encryption.example.com": []byte("1")}
		}, codes.FailedPrecondition, 0},
		"no ciphertext":             {func(r *kmsapi.DecryptRequest) { r.Ciphertext = nil }, codes.InvalidArgument, 0},
		"ciphertext too long":       {func(r *kmsapi.DecryptRequest) { r.Ciphertext = make([]byte, 1025) }, codes.InvalidArgument, 0},
		"ciphertext cut":            {func(r *kmsapi.DecryptRequest) { r.Ciphertext = r.Ciphertext[:len(r.Ciphertext)-1] }, codes.InvalidArgument, 1},
		"ciphertext of another key": {func(r *kmsapi.DecryptRequest) { r.Ciphertext = foreignData.Ciphertext }, codes.InvalidArgument, 1},
	} {
		t.Run(name, func(t *testing.T) {
			req := decryptRequest(e)
			c.change(req)
			before := len(f.fake.Calls())
			d, err := f.p.Decrypt(t.Context(), req)
			if status.Code(err) != c.code || d != nil {
				t.Errorf("answer %v, error %v, want code %s", d, err, c.code)
			}
			if n := len(f.fake.Calls()) - before; n != c.calls {
				t.Errorf("%d KMS calls, want %d", n, c.calls)
			}
		})
	}

	t.Run("every altered byte", func(t *testing.T) {
		for i := range e.Ciphertext {
			req := decryptRequest(e)
			req.Ciphertext[i] ^= 1
			if _, err := f.p.Decrypt(t.Context(), req); status.Code(err) != codes.InvalidArgument {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
	})
	t.Run("another encryption context", func(t *testing.T) {
		neighbour := f.plugin(func(c *Config) { c.EncryptionContext = map[string]string{"ekskms-cluster": "other"} })
		if _, err := neighbour.Decrypt(t.Context(), decryptRequest(e)); status.Code(err) != codes.InvalidArgument {
			t.Errorf("error %v", err)
		}
		f.fake.RequireContext(clusterContext)
		defer f.fake.RequireContext(nil)
		if _, err := neighbour.Decrypt(t.Context(), decryptRequest(e)); status.Code(err) != codes.PermissionDenied {
			t.Errorf("under a key policy with conditions: %v", err)
		}
	})
}

func TestEncryptRefusesSizes(t *testing.T) {
	f := newFixture(t).probe()
	for _, n := range []int{0, 1000, 1025} { // 1000 bytes fit, their ciphertext does not
		if _, err := f.encrypt(strings.Repeat("x", n)); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// Each failure class by name: what Status says, which code Encrypt and Decrypt
// answer with, that the last key_id is kept, and that a good probe ends it.
func TestFailureClasses(t *testing.T) {
	kmsError := func(code string) func(*fixture) {
		return func(f *fixture) {
			f.fake.Fail("*", &kmsfake.Error{Code: code, Message: "secret words of KMS " + contextValue})
		}
	}
	serverError := func(code string) func(*fixture) {
		return func(f *fixture) { f.fake.Fail("*", &kmsfake.Error{Status: 500, Code: code}) }
	}
	for name, c := range map[string]struct {
		breakIt func(*fixture)
		class   string
		says    string
		code    codes.Code
	}{
		"disabled":         {func(f *fixture) { f.key.SetState(kmsfake.Disabled) }, "disabled", "kms:EnableKey", codes.FailedPrecondition},
		"pending deletion": {func(f *fixture) { f.key.SetState(kmsfake.PendingDeletion) }, "pending-deletion", "kms:CancelKeyDeletion", codes.FailedPrecondition},
		"pending import":   {func(f *fixture) { f.key.SetState("PendingImport") }, "invalid-state", "PendingImport", codes.FailedPrecondition},
		"no permission":    {kmsError("AccessDeniedException"), "permission-denied", "key policy", codes.PermissionDenied},
		"throttled":        {kmsError("ThrottlingException"), "throttled", "quotas", codes.ResourceExhausted},
		"expired token":    {kmsError("ExpiredTokenException"), "bad-credentials", "credentials", codes.Unauthenticated},
		"clock skew":       {kmsError("InvalidSignatureException"), "bad-signature", "clock", codes.Unauthenticated},
		"not found":        {kmsError("NotFoundException"), "not-found", "Region", codes.NotFound},
		"wrong usage":      {kmsError("InvalidKeyUsageException"), "wrong-key-type", "SYMMETRIC_DEFAULT", codes.FailedPrecondition},
		"key unavailable":  {serverError("KeyUnavailableException"), "unreachable", "key store", codes.Unavailable},
		"internal fault":   {serverError("KMSInternalException"), "unreachable", "internal fault", codes.Unavailable},
		"unknown code":     {kmsError("SomethingNewException"), "refused", "CloudTrail", codes.Internal},
		"unknown 5xx":      {serverError("SomethingNewException"), "unreachable", "internal fault", codes.Unavailable},
		"encrypt not allowed": {func(f *fixture) {
			f.fake.Fail("Encrypt", &kmsfake.Error{Code: "AccessDeniedException"})
			f.fake.Fail("Decrypt", &kmsfake.Error{Code: "AccessDeniedException"})
		}, "permission-denied", "kms:Encrypt", codes.PermissionDenied},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t).probe()
			good := f.status()
			e := f.mustEncrypt(seed)
			c.breakIt(f)
			f.probe()
			s := f.status()
			if s.Healthz == "ok" || !strings.Contains(s.Healthz, c.says) {
				t.Errorf("healthz %q does not say %q", s.Healthz, c.says)
			}
			if s.KeyId != good.KeyId {
				t.Errorf("key_id went from %q to %q", good.KeyId, s.KeyId)
			}
			if got := class(f.p.state.Load().fail); got != c.class {
				t.Errorf("class %s, want %s", got, c.class)
			}
			_, err := f.encrypt(seed)
			if status.Code(err) != c.code {
				t.Errorf("Encrypt: %v, want %s", err, c.code)
			}
			_, err = f.p.Decrypt(t.Context(), decryptRequest(e))
			if status.Code(err) != c.code || !strings.Contains(err.Error(), "KMS request ID") {
				t.Errorf("Decrypt: %v, want %s and a request ID", err, c.code)
			}
			if all := f.logs.String() + err.Error() + s.Healthz; strings.Contains(all, contextValue) {
				t.Error("words of KMS's message are passed on")
			}

			f.key.SetState(kmsfake.Enabled)
			for _, op := range []string{"*", "Encrypt", "Decrypt"} {
				f.fake.Fail(op, nil)
			}
			if s := f.probe().status(); s.Healthz != "ok" || s.KeyId != good.KeyId {
				t.Errorf("after repair: %v", s)
			}
		})
	}
}

// lyingKMS changes answers behind the SDK's back.
type lyingKMS struct {
	KMS
	plaintext, arn string // instead of the right ones, if set
}

func (l lyingKMS) Decrypt(ctx context.Context, in *kms.DecryptInput, o ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	out, err := l.KMS.Decrypt(ctx, in, o...)
	if err == nil && l.plaintext != "" {
		out.Plaintext = []byte(l.plaintext)
	}
	return out, err
}

func (l lyingKMS) DescribeKey(ctx context.Context, in *kms.DescribeKeyInput, o ...func(*kms.Options)) (*kms.DescribeKeyOutput, error) {
	out, err := l.KMS.DescribeKey(ctx, in, o...)
	if err == nil && l.arn != "" {
		out.KeyMetadata.Arn = &l.arn
	}
	return out, err
}

// What can't be read back is never handed out.
func TestCorruptRoundTrip(t *testing.T) {
	f := newFixture(t).probe()
	f.p.cfg.KMS = lyingKMS{KMS: f.p.cfg.KMS, plaintext: "something else"}
	if _, err := f.encrypt(seed); status.Code(err) != codes.DataLoss {
		t.Errorf("encrypt: %v", err)
	}
	if s := f.probe().status(); !strings.Contains(s.Healthz, "do not trust this endpoint") {
		t.Errorf("status %v", s)
	}
}

func TestAnotherKeyDescribed(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.KMS = lyingKMS{KMS: c.KMS, arn: c.KeyARN + "0"} })
	if s := f.probe().status(); !strings.Contains(s.Healthz, "described another key") || s.KeyId != "" {
		t.Errorf("status %v", s)
	}
}

func TestUnreachable(t *testing.T) {
	f := newFixture(t)
	t.Setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1")
	f.p = f.plugin()
	f.probe()
	if s := f.status(); !strings.Contains(s.Healthz, "can't be reached") || s.KeyId != "" {
		t.Errorf("status %v", s)
	}
	before := len(f.fake.Calls())
	if _, err := f.encrypt(seed); status.Code(err) != codes.Unavailable {
		t.Errorf("encrypt: %v", err)
	}
	if len(f.fake.Calls()) != before {
		t.Error("Encrypt called KMS before any key_id was known")
	}
}

func TestNoCredentials(t *testing.T) {
	f := newFixture(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	f.p = f.plugin()
	f.probe()
	if s := f.status(); !strings.Contains(s.Healthz, "Pod Identity") {
		t.Errorf("status %v", s)
	}
}

// Who gave up decides whom the answer blames, and a caller's impatience is no
// failure of KMS.
func TestTimeouts(t *testing.T) {
	f := newFixture(t).probe()
	e := f.mustEncrypt(seed)
	hold := make(chan struct{})
	f.fake.Before(func(string) { <-hold })
	defer close(hold)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.p.Decrypt(ctx, decryptRequest(e)); status.Code(err) != codes.Canceled {
		t.Errorf("canceled caller: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if _, err := f.p.Decrypt(ctx, decryptRequest(e)); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("impatient caller: %v", err)
	}
	if s := f.status(); s.Healthz != "ok" {
		t.Errorf("a caller's time-out counts against KMS: %v", s)
	}
	f.p.cfg.CallTimeout = time.Millisecond
	if _, err := f.p.Decrypt(t.Context(), decryptRequest(e)); status.Code(err) != codes.Unavailable {
		t.Errorf("slow KMS: %v", err)
	}
}

func TestCallTimeoutIsUnderTheAPIServers(t *testing.T) {
	p := newFixture(t, func(c *Config) { c.CallTimeout = 0 }).p
	if p.cfg.CallTimeout <= 0 || p.cfg.CallTimeout >= 3*time.Second {
		t.Errorf("default is %s", p.cfg.CallTimeout)
	}
}

func TestCallsInFlightAreCapped(t *testing.T) {
	f := newFixture(t).probe()
	e := f.mustEncrypt(seed)
	hold := make(chan struct{})
	f.fake.Before(func(string) { <-hold })
	var waiting sync.WaitGroup
	for range maxInFlight {
		waiting.Go(func() {
			if _, err := f.p.Decrypt(t.Context(), decryptRequest(e)); err != nil {
				t.Errorf("a call within the cap: %v", err)
			}
		})
	}
	eventually(t, "all places taken", func() bool { return len(f.p.slots) == maxInFlight })
	if _, err := f.p.Decrypt(t.Context(), decryptRequest(e)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one call too many: %v", err)
	}
	close(hold)
	waiting.Wait()
	if _, err := f.p.Decrypt(t.Context(), decryptRequest(e)); err != nil {
		t.Errorf("places are not given back: %v", err)
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
	get := func(path string) (int, string) {
		resp, err := http.Get(r.health + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	eventually(t, "ready", func() bool { code, _ := get("/readyz"); return code == 200 })
	r.key.SetState(kmsfake.Disabled)
	r.clock.poll()
	eventually(t, "not ready", func() bool { code, _ := get("/readyz"); return code == 503 })
	if _, body := get("/readyz"); !strings.Contains(body, "kms:EnableKey") {
		t.Errorf("readyz says %q", body)
	}
	if code, body := get("/livez"); code != 200 || body != "ok\n" {
		t.Errorf("livez with a disabled key: %d %q", code, body)
	}
	if code, _ := get("/debug/pprof/"); code != 404 {
		t.Errorf("pprof answers %d", code)
	}
}

func TestDrain(t *testing.T) {
	r := start(t)
	e, err := r.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: []byte(seed)})
	if err != nil {
		t.Fatal(err)
	}
	hold, arrived := make(chan struct{}), make(chan struct{}, 1)
	r.fake.Before(func(string) { arrived <- struct{}{}; <-hold })
	answer := make(chan error, 1)
	go func() {
		_, err := r.client.Decrypt(context.Background(), decryptRequest(e))
		answer <- err
	}()
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
	close(hold)
	if err := <-answer; err != nil {
		t.Errorf("the call in flight was cut: %v", err)
	}
	if err := <-r.done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	r.done <- nil // for the clean-up
}

func TestDrainIsBounded(t *testing.T) {
	r := start(t)
	e, err := r.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: []byte(seed)})
	if err != nil {
		t.Fatal(err)
	}
	hold, arrived := make(chan struct{}), make(chan struct{}, 1)
	r.fake.Before(func(string) {
		select {
		case arrived <- struct{}{}:
		default:
		}
		<-hold
	})
	defer close(hold)
	answer := make(chan error, 1)
	go func() {
		_, err := r.client.Decrypt(context.Background(), decryptRequest(e))
		answer <- err
	}()
	<-arrived
	r.stop()
	for { // the drain time, and any poll that waits on the same clock
		select {
		case r.clock.fire <- time.Time{}:
		case err := <-r.done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
			r.done <- nil
			if err := <-answer; status.Code(err) != codes.Unavailable {
				t.Errorf("the call that was cut got %v", err)
			}
			return
		}
	}
}

// A full run, good and bad, then a search of everything that was logged.
func TestNothingSecretIsLogged(t *testing.T) {
	r := start(t)
	plaintext := []byte("plaintext-that-nobody-may-see-00")
	e, err := r.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: plaintext, Uid: "uid-one"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Decrypt(t.Context(), &kmsapi.DecryptRequest{Ciphertext: e.Ciphertext, KeyId: e.KeyId, Uid: "uid-two"}); err != nil {
		t.Fatal(err)
	}
	bad := decryptRequest(e)
	bad.Ciphertext[40] ^= 1
	_, errCiphertext := r.client.Decrypt(t.Context(), bad)
	bad = decryptRequest(e)
	bad.KeyId = "foreign " + string(plaintext)
	_, errKeyID := r.client.Decrypt(t.Context(), bad)
	r.fake.Fail("*", &kmsfake.Error{Code: "AccessDeniedException", Message: "context " + contextValue})
	_, errDenied := r.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: plaintext})
	r.clock.poll()
	eventually(t, "an unhealthy status", func() bool { return r.status().Healthz != "ok" })
	r.stop()
	<-r.done
	r.done <- nil

	out := r.logs.String() + fmt.Sprint(errCiphertext, errKeyID, errDenied, r.status())
	secrets := map[string]string{"context value": contextValue}
	for name, b := range map[string][]byte{"plaintext": plaintext, "ciphertext": e.Ciphertext} {
		secrets[name] = string(b)
		secrets[name+" in hex"] = hex.EncodeToString(b)
		secrets[name+" in base64"] = base64.StdEncoding.EncodeToString(b)
		secrets[name+" as numbers"] = strings.Trim(fmt.Sprintf("%d", b), "[]")
	}
	for name, secret := range secrets {
		if strings.Contains(out, secret) {
			t.Errorf("the output holds the %s:\n%s", name, out)
		}
	}

	// UID and KMS's request IDs stand in one line: the way to CloudTrail.
	known := map[string]bool{}
	for _, c := range r.fake.Calls() {
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
		if (l.UID == "uid-one" && len(l.IDs) == 2 || l.UID == "uid-two" && len(l.IDs) == 1) && known[l.IDs[0]] {
			found++
		}
	}
	if found != 2 {
		t.Errorf("%d of 2 calls can be followed to KMS:\n%s", found, r.logs.String())
	}
}

func TestKeyID(t *testing.T) {
	const arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	// Pinned: a change makes every stored object stale, and needs a new version.
	const pinned = "v1:7169bc93f36f352c6de802758de9ed3c:f7e518520a480c92f848c6c775ce0451"
	if got := keyID(arn, "material"); got != pinned {
		t.Errorf("key_id %q, want %q", got, pinned)
	}
	for id, own := range map[string]bool{
		keyID(arn, "a"):                  true,
		keyID(arn, ""):                   true,
		keyID(arn, "") + ":":             false,
		keyID(arn, "a") + ":":            false,
		strings.ToUpper(keyID(arn, "a")): false,
		keyID(arn+"x", "a"):              false,
		"v2" + keyID(arn, "a")[2:]:       false,
		"":                               false,
	} {
		if ownKeyID(arn, id) != own {
			t.Errorf("ownKeyID(%q) = %t", id, !own)
		}
	}
}

// FuzzDecrypt: nothing that an API server could send crashes the plugin, and
// nothing but what it made itself decrypts.
func FuzzDecrypt(f *testing.F) {
	fake := kmsfake.New(region)
	awsEnv(f, fake)
	key := fake.NewKey()
	client, err := NewKMS(f.Context(), region)
	if err != nil {
		f.Fatal(err)
	}
	p, err := New(Config{KeyARN: key.ARN, EncryptionContext: clusterContext, KMS: client})
	if err != nil {
		f.Fatal(err)
	}
	p.probe(f.Context())
	close(p.probed)
	e, err := p.Encrypt(f.Context(), &kmsapi.EncryptRequest{Plaintext: []byte(seed)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e.Ciphertext, e.KeyId, "", []byte(nil), "uid")
	f.Add(e.Ciphertext, e.KeyId, "encryption.example.com", []byte("1"), "uid")
	f.Add([]byte{}, "v1:", "", []byte(nil), "\xff")
	f.Fuzz(func(t *testing.T, ciphertext []byte, id, name string, value []byte, uid string) {
		req := &kmsapi.DecryptRequest{Ciphertext: ciphertext, KeyId: id, Uid: uid}
		if name != "" {
			req.Annotations = map[string][]byte{name: value}
		}
		d, err := p.Decrypt(t.Context(), req)
		if err == nil && (!bytes.Equal(ciphertext, e.Ciphertext) || !ownKeyID(key.ARN, id) || string(d.Plaintext) != seed) {
			t.Errorf("decrypted what it never made: %x under %q", ciphertext, id)
		}
		if err != nil && status.Code(err) == codes.Unknown {
			t.Errorf("an error without a code: %v", err)
		}
	})
}
