package kmsplugin

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

// Each failure class by name: what the state is after one probe and after two,
// which code Encrypt and Decrypt answer with, what the words say, and that a
// good probe ends it.
func TestFailureClasses(t *testing.T) {
	kmsError := func(code string) func(*fixture) {
		return func(f *fixture) {
			f.fake.Fail("*", &kmsfake.Error{Code: code, Message: "secret words of KMS " + contextValue})
		}
	}
	serverError := func(code string) func(*fixture) {
		return func(f *fixture) { f.fake.Fail("*", &kmsfake.Error{Status: 500, Code: code}) }
	}
	state := func(s string) func(*fixture) { return func(f *fixture) { f.key.SetState(s) } }
	for name, c := range map[string]struct {
		breakIt func(*fixture)
		class   string
		says    string
		code    codes.Code
		refusal bool // KMS's word on the key: Status stops to vouch
	}{
		"disabled key":       {state(kmsfake.Disabled), "disabled", "kms:EnableKey", codes.FailedPrecondition, true},
		"pending deletion":   {state(kmsfake.PendingDeletion), "pending-deletion", "kms:CancelKeyDeletion", codes.FailedPrecondition, true},
		"pending import":     {state("PendingImport"), "invalid-state", "PendingImport", codes.FailedPrecondition, true},
		"missing permission": {kmsError("AccessDeniedException"), "permission-denied", "key policy", codes.PermissionDenied, true},
		"no Encrypt":         {func(f *fixture) { f.fake.Deny("GenerateDataKey", f.key); f.fake.Deny("Decrypt", f.key) }, "permission-denied", "kms:GenerateDataKey", codes.PermissionDenied, true},
		"deleted key":        {kmsError("NotFoundException"), "not-found", "Region", codes.NotFound, true},
		"wrong usage":        {kmsError("InvalidKeyUsageException"), "wrong-key-type", "SYMMETRIC_DEFAULT", codes.FailedPrecondition, true},

		"throttling":          {func(f *fixture) { f.fake.Throttle(1); f.fake.Latency(time.Millisecond) }, "throttled", "quotas", codes.ResourceExhausted, false},
		"expired credentials": {func(f *fixture) { f.fake.Credentials("test", "", time.Now().Add(-time.Hour)) }, "expired-credentials", "expired", codes.Unauthenticated, false},
		"unknown credentials": {func(f *fixture) { f.fake.Credentials("other", "", time.Time{}) }, "bad-credentials", "role still exists", codes.Unauthenticated, false},
		"wrong secret":        {kmsError("InvalidSignatureException"), "bad-credentials", "secret access key", codes.Unauthenticated, false},
		"clock skew": {func(f *fixture) {
			f.fake.Fail("*", &kmsfake.Error{Code: "InvalidSignatureException", Message: "Signature expired: 20260101T000000Z is now earlier than 20260101T010000Z"})
		}, "clock-skew", "clock", codes.Unauthenticated, false},
		"no network":        {func(f *fixture) { f.fake.Cut("*", kmsfake.Always) }, "unreachable", "DNS", codes.Unavailable, false},
		"silence":           {func(f *fixture) { f.fake.Hang("*", kmsfake.Always) }, "timeout", "security groups", codes.Unavailable, false},
		"key store is away": {serverError("KeyUnavailableException"), "key-store", "key store", codes.Unavailable, false},
		"store unconnected": {state("Unavailable"), "key-store", "kms:ConnectCustomKeyStore", codes.FailedPrecondition, false},
		"internal fault":    {serverError("KMSInternalException"), "kms-fault", "internal fault", codes.Unavailable, false},
		"unknown 5xx":       {serverError("SomethingNewException"), "kms-fault", "internal fault", codes.Unavailable, false},
		"unknown code":      {kmsError("SomethingNewException"), "refused", "CloudTrail", codes.Internal, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fixture) {
				good := f.probe().status().KeyId
				e := f.mustEncrypt(seed)
				c.breakIt(f)
				time.Sleep(time.Minute)
				f.probe().wantOK(good) // one failure, of whatever kind, is no proof
				if got := f.condition(); got != conditionDegraded {
					t.Errorf("after one probe the state is %s", got)
				}
				time.Sleep(confirmPoll)
				f.probe()
				if got := f.state().fail.class; got != c.class {
					t.Errorf("class %s, want %s", got, c.class)
				}
				words := f.state().fail.text
				if !strings.Contains(words, c.says) {
					t.Errorf("%q does not say %q", words, c.says)
				}
				if c.refusal {
					f.wantNotOK()
					if s := f.status(); s.Healthz != words {
						t.Errorf("healthz %q, want %q", s.Healthz, words)
					}
				} else {
					f.wantOK(good)
				}
				if _, err := f.encrypt(seed); status.Code(err) != c.code {
					t.Errorf("Encrypt: %v, want %s", err, c.code)
				}
				_, err := f.p.Decrypt(t.Context(), decryptRequest(e))
				if status.Code(err) != c.code {
					t.Errorf("Decrypt: %v, want %s", err, c.code)
				}
				if c.code == codes.PermissionDenied && !strings.Contains(err.Error(), "KMS request ID") {
					t.Errorf("Decrypt: %v names no request ID", err)
				}
				if all := f.logs.String() + status.Convert(err).Message() + f.status().Healthz; strings.Contains(all, contextValue) || strings.Contains(all, "secret words") {
					t.Error("words of KMS's message are passed on")
				}
				if !strings.Contains(f.logs.String(), `"class":"`+c.class+`"`) {
					t.Errorf("the class is not in the log:\n%s", f.logs)
				}

				f.key.SetState(kmsfake.Enabled)
				f.fake.Fail("*", nil)
				for _, op := range []string{"DescribeKey", "GenerateDataKey", "Decrypt"} {
					f.fake.Allow(op, f.key)
				}
				f.fake.Throttle(0)
				f.fake.Cut("*", 0)
				f.fake.Hang("*", 0)
				f.fake.Credentials("test", "", time.Time{})
				f.probe().wantOK(good)
				f.wantOpens(f.p, e)
			})
		})
	}
}

func TestNoCredentials(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		f.p = f.plugin()
		f.probe().wantNotOK()
		if s := f.status(); !strings.Contains(s.Healthz, "Pod Identity") {
			t.Errorf("status %v", s)
		}
		if _, err := f.encrypt(seed); status.Code(err) != codes.Unauthenticated {
			t.Errorf("encrypt: %v", err)
		}
	})
}

// A clock that is wrong is put right by the SDK from the Date of AWS's answers;
// what remains is a number to alert on.
func TestWrongClockIsCorrectedAndShown(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.fake.Clock(20 * time.Minute)
		f.probe().wantOK(f.currentKeyID())
		f.probe()
		_, shown, _ := strings.Cut(scrape(t, f.p), `ekskms_plugin_clock_skew_seconds{region="eu-central-1"} `)
		shown, _, _ = strings.Cut(shown, "\n")
		if skew, err := strconv.ParseFloat(shown, 64); err != nil || skew < 1198 || skew > 1201 {
			t.Errorf("the skew of 20 minutes is shown as %q", shown)
		}
	})
}

// The rule of what Status says, and its edges. outage and refusal are what the
// probes see, good is a good probe.
func TestStatusRule(t *testing.T) {
	type step struct {
		after time.Duration
		probe string
		want  condition
	}
	for name, steps := range map[string][]step{
		"nothing is vouched for before a good probe": {{0, "outage", conditionFailed}, {0, "refusal", conditionFailed}, {0, "good", conditionOK}},
		"an outage is ridden out for an hour":        {{0, "good", conditionOK}, {time.Minute, "outage", conditionDegraded}, {58*time.Minute + 59*time.Second, "outage", conditionDegraded}, {time.Second, "", conditionDegraded}, {time.Nanosecond, "", conditionFailed}, {0, "outage", conditionFailed}, {0, "good", conditionOK}},
		"a good probe begins the hour again":         {{0, "good", conditionOK}, {59 * time.Minute, "outage", conditionDegraded}, {0, "good", conditionOK}, {59 * time.Minute, "outage", conditionDegraded}},
		"one refusal is not believed":                {{0, "good", conditionOK}, {0, "refusal", conditionDegraded}, {0, "good", conditionOK}, {0, "refusal", conditionDegraded}},
		"two refusals in a row are":                  {{0, "good", conditionOK}, {0, "refusal", conditionDegraded}, {0, "refusal", conditionFailed}},
		"an outage between them takes nothing back":  {{0, "good", conditionOK}, {0, "refusal", conditionDegraded}, {0, "outage", conditionDegraded}, {0, "refusal", conditionFailed}},
		"a good probe between them does":             {{0, "good", conditionOK}, {0, "refusal", conditionDegraded}, {0, "good", conditionOK}, {0, "refusal", conditionDegraded}},
		"silence after a refusal takes nothing back": {{0, "good", conditionOK}, {0, "refusal", conditionDegraded}, {0, "refusal", conditionFailed}, {0, "outage", conditionFailed}, {time.Minute, "outage", conditionFailed}, {0, "good", conditionOK}},
		"a probe loop that stands still":             {{0, "good", conditionOK}, {time.Hour, "", conditionOK}, {time.Nanosecond, "", conditionFailed}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fixture) {
				for i, s := range steps {
					time.Sleep(s.after)
					f.fake.Fail("*", map[string]*kmsfake.Error{
						"outage":  {Status: 503, Code: "ServiceUnavailable"},
						"refusal": {Code: "DisabledException"},
					}[s.probe])
					f.p.sealing().endpoints[0].kms = withoutRetries{f.p.cfg.Keys[0].Clients[0].KMS} // they would take time
					if s.probe != "" {
						f.probe()
					}
					if got := f.condition(); got != s.want {
						t.Fatalf("step %d (%s): %s, want %s", i, s.probe, got, s.want)
					}
					if st := f.status(); st.Version != VersionV2 {
						t.Errorf("step %d: version %q, which may never change", i, st.Version)
					}
					if s.want.vouched() {
						f.wantOK(f.currentKeyID())
					} else {
						f.wantNotOK()
					}
					ready, words := f.p.Ready()
					if ready != s.want.vouched() || s.want == conditionDegraded && !strings.HasPrefix(words, "degraded: ") {
						t.Errorf("step %d: ready %t, %q", i, ready, words)
					}
				}
			})
		})
	}
}

type withoutRetries struct{ KMS }

func once(o *kms.Options) { o.RetryMaxAttempts = 1 }

func (k withoutRetries) DescribeKey(ctx context.Context, in *kms.DescribeKeyInput, _ ...func(*kms.Options)) (*kms.DescribeKeyOutput, error) {
	return k.KMS.DescribeKey(ctx, in, once)
}

func (k withoutRetries) GenerateDataKey(ctx context.Context, in *kms.GenerateDataKeyInput, _ ...func(*kms.Options)) (*kms.GenerateDataKeyOutput, error) {
	return k.KMS.GenerateDataKey(ctx, in, once)
}

// Status before the first probe waits for it, and not forever.
func TestStatusRightAfterStart(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.p.sealing().probed = make(chan struct{})
		began := time.Now()
		s := f.status()
		if s.Healthz == "ok" || !strings.Contains(s.Healthz, "first look") || time.Since(began) != defaultCallTimeout {
			t.Errorf("after %s: %q", time.Since(began), s.Healthz)
		}
		f.fake.Latency(100 * time.Millisecond)
		stop := f.loop()
		defer stop()
		began = time.Now()
		f.wantOK(f.currentKeyID())
		if took := time.Since(began); took != 300*time.Millisecond {
			t.Errorf("the first Status took %s, want that of three KMS calls", took)
		}
	})
}

// A decrypt-only key that fails is on show, and does not stop writes under the
// key that seals.
func TestADecryptOnlyKeyDoesNotFailStatus(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		old := f.fake.NewKey()
		f.p = f.plugin(func(_ *fixture, c *Config) {
			c.Keys = append(c.Keys, Key{ID: old.ARN, Clients: c.Keys[0].Clients})
		})
		f.probe().wantOK(f.currentKeyID())
		old.SetState(kmsfake.Disabled)
		f.probe().probe().wantOK(f.currentKeyID())
		label := f.p.keys[1].label
		for _, want := range []string{
			`ekskms_plugin_key_state{key="` + label + `",role="open",state="failed"} 1`,
			`ekskms_plugin_key_failure{class="disabled",key="` + label + `",role="open"} 1`,
		} {
			if !strings.Contains(scrape(t, f.p), want) {
				t.Errorf("metrics lack %s", want)
			}
		}
		for _, c := range f.fake.Calls() {
			if c.KeyID == old.ARN && c.Op != "DescribeKey" {
				t.Errorf("%s with a decrypt-only key", c.Op)
			}
		}
	})
}

// A caller's impatience is no failure of KMS.
func TestTimeouts(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe()
		e := f.mustEncrypt(seed)
		f.fake.Hang("*", kmsfake.Always)
		for range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			if _, err := f.p.Decrypt(ctx, decryptRequest(e)); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("impatient caller: %v", err)
			}
			cancel()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := f.p.Decrypt(ctx, decryptRequest(e)); status.Code(err) != codes.Canceled {
			t.Errorf("canceled caller: %v", err)
		}
		if _, err := f.p.Encrypt(ctx, encryptRequest()); status.Code(err) != codes.Canceled {
			t.Errorf("canceled caller: %v", err)
		}
		if got := f.condition(); got != conditionOK {
			t.Errorf("callers' time-outs count against KMS: %s", got)
		}
		began := time.Now()
		_, err := f.p.Decrypt(t.Context(), decryptRequest(e))
		if status.Code(err) != codes.Unavailable || time.Since(began) > defaultCallTimeout {
			t.Errorf("silent KMS: %v after %s", err, time.Since(began))
		}
	})
}

// All that an RPC does fits into one budget: waiting for the first probe of an
// alias, for a place, and for KMS.
func TestOneBudgetForAll(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe()
		e := f.mustEncrypt(seed)
		f.p = f.plugin(func(f *fixture, c *Config) { c.Keys[0].ID = f.fake.Alias("alias/secrets", f.key) })
		k := f.p.sealing()
		k.probed = make(chan struct{})
		go func() {
			time.Sleep(2 * time.Second)
			k.probe(t.Context())
			f.fake.Hang("*", kmsfake.Always)
			close(k.probed)
		}()
		began := time.Now()
		if _, err := f.p.Decrypt(t.Context(), decryptRequest(e)); status.Code(err) != codes.Unavailable {
			t.Errorf("decrypt: %v", err)
		}
		if took := time.Since(began); took > defaultCallTimeout {
			t.Errorf("it took %s", took)
		}
	})
}

func TestCallTimeoutIsUnderTheAPIServers(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		if d := f.p.cfg.CallTimeout; d <= 0 || d >= 3*time.Second {
			t.Errorf("default is %s", d)
		}
	})
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
