package kmsplugin

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

// What is worth a second try gets one, and nothing else does; whatever happens
// stays under the time limit of a call.
func TestRetries(t *testing.T) {
	for name, c := range map[string]struct {
		breakIt func(*fixture)
		tries   int
		good    bool
	}{
		"throttled once":  {func(f *fixture) { f.fake.FailNext("Decrypt", 1, &kmsfake.Error{Code: "ThrottlingException"}) }, 2, true},
		"throttled twice": {func(f *fixture) { f.fake.FailNext("Decrypt", 2, &kmsfake.Error{Code: "ThrottlingException"}) }, 3, true},
		"throttled on":    {func(f *fixture) { f.fake.Fail("Decrypt", &kmsfake.Error{Code: "ThrottlingException"}) }, 3, false},
		"one internal fault": {func(f *fixture) {
			f.fake.FailNext("Decrypt", 1, &kmsfake.Error{Status: 500, Code: "KMSInternalException"})
		}, 2, true},
		"a cut connection":      {func(f *fixture) { f.fake.Cut("Decrypt", 1) }, 2, true},
		"cut after the work":    {func(f *fixture) { f.fake.CutAfter("Decrypt", 1) }, 2, true},
		"silence once":          {func(f *fixture) { f.fake.Hang("Decrypt", 1) }, 2, true},
		"silence":               {func(f *fixture) { f.fake.Hang("Decrypt", kmsfake.Always) }, 2, false}, // the second has all that is left
		"not allowed":           {func(f *fixture) { f.fake.Deny("Decrypt", f.key) }, 1, false},
		"disabled":              {func(f *fixture) { f.key.SetState(kmsfake.Disabled) }, 1, false},
		"unreadable ciphertext": {func(f *fixture) { f.fake.Fail("Decrypt", &kmsfake.Error{Code: "InvalidCiphertextException"}) }, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fixture) {
				e := f.probe().mustEncrypt(seed)
				c.breakIt(f)
				before, began := f.fake.Count("Decrypt"), time.Now()
				_, err := f.p.Decrypt(t.Context(), decryptRequest(e))
				if (err == nil) != c.good {
					t.Errorf("error %v", err)
				}
				if n := f.fake.Count("Decrypt") - before; n != c.tries {
					t.Errorf("%d tries, want %d", n, c.tries)
				}
				if took := time.Since(began); took > defaultCallTimeout {
					t.Errorf("it took %s, over the limit", took)
				}
			})
		})
	}
}

// Waits differ, or all plugins of a fleet would come back at once.
func TestRetriesAreJittered(t *testing.T) {
	waits := map[time.Duration]bool{}
	r := retryer()
	for range 50 {
		d, err := r.RetryDelay(1, nil)
		if err != nil || d <= 0 || d > maxBackoff {
			t.Fatalf("wait %s, %v", d, err)
		}
		waits[d] = true
	}
	if len(waits) < 10 {
		t.Errorf("only %d different waits of 50", len(waits))
	}
}

// distinct makes ciphertexts that share no KMS call.
func distinct(f *fixture, n int) (all []*kmsapi.DecryptRequest) {
	f.t.Helper()
	for range n {
		all = append(all, decryptRequest(f.mustEncrypt(seed)))
	}
	return all
}

func TestCallsInFlightAreCapped(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe()
		reqs := distinct(f, maxInFlight+1)
		f.fake.Hang("*", kmsfake.Always)
		var waiting sync.WaitGroup
		for _, req := range reqs[:maxInFlight] {
			waiting.Go(func() {
				if _, err := f.p.Decrypt(t.Context(), req); status.Code(err) != codes.Unavailable {
					t.Errorf("a call within the cap: %v", err)
				}
			})
		}
		synctest.Wait()
		if !strings.Contains(scrape(t, f.p), fmt.Sprintf("ekskms_plugin_in_flight %d", maxInFlight)) {
			t.Error("the calls in flight are not shown")
		}
		waiting.Go(func() {
			if _, err := f.p.Decrypt(t.Context(), reqs[maxInFlight]); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("one call too many: %v", err)
			}
		})
		if _, err := f.encrypt(seed); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("one Encrypt too many: %v", err)
		}
		waiting.Wait()
		f.fake.Hang("*", 0)
		if _, err := f.p.Decrypt(t.Context(), reqs[maxInFlight]); err != nil {
			t.Errorf("places are not given back: %v", err)
		}
	})
}

// wantBurst fails unless all that come at once are served.
func (f *fixture) wantBurst(reqs []*kmsapi.DecryptRequest) {
	f.t.Helper()
	var all sync.WaitGroup
	for _, req := range reqs {
		all.Go(func() {
			if _, err := f.p.Decrypt(f.t.Context(), req); err != nil {
				f.t.Errorf("a call of the burst: %v", err)
			}
		})
	}
	all.Wait()
}

// More calls at once than there are places, as when an API server reads what
// many of its starts have sealed: at KMS's usual speed all are served.
func TestABurstPasses(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe()
		reqs := distinct(f, 5*maxInFlight)
		f.fake.Latency(20 * time.Millisecond)
		f.wantBurst(reqs)
		if _, peak := f.fake.InFlight(); peak > maxInFlight {
			t.Errorf("%d KMS calls at once", peak)
		}
	})
}

// An API server that starts asks for the same seed many times at once.
func TestIdenticalDecryptsShareOneCall(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		req := decryptRequest(f.probe().mustEncrypt(seed))
		f.fake.Latency(time.Second / 2)
		before := f.fake.Count("Decrypt")
		var all sync.WaitGroup
		const callers = 500 // many more than may wait for KMS
		for range callers {
			all.Go(func() {
				d, err := f.p.Decrypt(t.Context(), req)
				if err != nil || string(d.Plaintext) != seed {
					t.Errorf("decrypt: %v", err)
				}
			})
		}
		all.Wait()
		if n := f.fake.Count("Decrypt") - before; n != 1 {
			t.Errorf("%d callers made %d KMS calls", callers, n)
		}
		if want := fmt.Sprintf("ekskms_plugin_coalesced_decrypts_total %d", callers-1); !strings.Contains(scrape(t, f.p), want) {
			t.Errorf("metrics lack %s", want)
		}
		// Each caller's log line leads to the one KMS call.
		calls := f.fake.Calls()
		if n := strings.Count(f.logs.String(), calls[len(calls)-1].RequestID); n != callers {
			t.Errorf("%d of %d callers can be followed to the KMS call", n, callers)
		}
	})
}

// The first caller's patience is not the others'.
func TestACallerThatGivesUpTakesNothingFromOthers(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		req := decryptRequest(f.probe().mustEncrypt(seed))
		f.fake.Latency(time.Second / 2)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := f.p.Decrypt(ctx, req); status.Code(err) != codes.Canceled {
				t.Errorf("the one that gave up: %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() {
			if _, err := f.p.Decrypt(t.Context(), req); err != nil {
				t.Errorf("the other: %v", err)
			}
		})
		synctest.Wait()
		cancel()
		all.Wait()
	})
}

// Different ciphertexts, and the same one as another provider's, are different
// work.
func TestDifferentDecryptsAreNotShared(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe()
		ours := decryptRequest(f.mustEncrypt(seed))
		theirs := legacyData(f, f.key.ARN, clusterContext)
		f.fake.Latency(time.Second / 2)
		var all sync.WaitGroup
		other := f.fake.NewKey()
		f.p = f.plugin(func(_ *fixture, c *Config) { c.Keys = append(c.Keys, Key{ID: other.ARN, Clients: c.Keys[0].Clients}) })
		f.probe()
		third := decryptRequest(f.mustEncrypt(seed))
		before := f.fake.Count("Decrypt")
		mislabelled := &kmsapi.DecryptRequest{Ciphertext: ours.Ciphertext, KeyId: keyID(other.ARN, "m")}
		all.Go(func() {
			if _, err := f.p.Decrypt(t.Context(), mislabelled); status.Code(err) != codes.InvalidArgument {
				t.Errorf("one key's ciphertext under another key's key_id: %v", err)
			}
		})
		for _, req := range []*kmsapi.DecryptRequest{ours, decryptRequest(theirs), third} {
			all.Go(func() {
				if _, err := f.p.Decrypt(t.Context(), req); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := f.fake.Count("Decrypt") - before; n != 4 {
			t.Errorf("%d KMS calls, want 4", n)
		}
	})
}

func TestSeedCache(t *testing.T) {
	with := func(_ *fixture, c *Config) { c.SeedCache, c.SeedTTL = 2, time.Hour }
	decrypts := func(f *fixture, req *kmsapi.DecryptRequest) int {
		f.t.Helper()
		before := f.fake.Count("Decrypt")
		d, err := f.p.Decrypt(f.t.Context(), req)
		if err != nil || string(d.Plaintext) != seed {
			f.t.Errorf("decrypt: %v", err)
		}
		clear(d.Plaintext) // the answer is the caller's own
		return f.fake.Count("Decrypt") - before
	}
	t.Run("off by default", func(t *testing.T) {
		bubble(t, func(t *testing.T, f *fixture) {
			req := distinct(f.probe(), 1)[0]
			for range 3 {
				if decrypts(f, req) != 1 {
					t.Error("answered from memory")
				}
			}
		})
	})
	t.Run("keeps seeds, a bounded number and time", func(t *testing.T) {
		bubble(t, func(t *testing.T, f *fixture) {
			reqs := distinct(f.probe(), 3)
			for i, want := range []int{1, 0, 0} {
				if got := decrypts(f, reqs[0]); got != want {
					t.Errorf("look-up %d made %d KMS calls", i, got)
				}
			}
			decrypts(f, reqs[1])
			decrypts(f, reqs[2]) // the third puts the first out
			if decrypts(f, reqs[0]) != 1 {
				t.Error("more seeds are kept than asked for")
			}
			if decrypts(f, reqs[2]) != 0 {
				t.Error("the newest was put out")
			}
			time.Sleep(time.Hour + time.Second)
			if decrypts(f, reqs[2]) != 1 {
				t.Error("a seed outlives its time")
			}
			if all := scrape(t, f.p); !strings.Contains(all, `seed_cache_lookups_total{result="hit"} 3`) {
				t.Errorf("hits are not counted:\n%s", all)
			}
		}, with)
	})
	t.Run("judges the request all the same", func(t *testing.T) {
		bubble(t, func(t *testing.T, f *fixture) {
			req := distinct(f.probe(), 1)[0]
			decrypts(f, req)
			req.KeyId = keyID(f.fake.NewKey().ARN, "m")
			if _, err := f.p.Decrypt(t.Context(), req); status.Code(err) != codes.FailedPrecondition {
				t.Errorf("a foreign key_id: %v", err)
			}
		}, with)
	})
	t.Run("forgets when KMS refuses the key", func(t *testing.T) {
		bubble(t, func(t *testing.T, f *fixture) {
			req := distinct(f.probe(), 1)[0]
			decrypts(f, req)
			f.key.SetState(kmsfake.Disabled)
			f.probe()
			if decrypts(f, req) != 0 {
				t.Error("one refusal is believed")
			}
			f.probe()
			if _, err := f.p.Decrypt(t.Context(), req); status.Code(err) != codes.FailedPrecondition {
				t.Errorf("a disabled key still decrypts: %v", err)
			}
			if n := f.p.cache.lru.Len(); n != 0 {
				t.Errorf("%d seeds are still in memory", n)
			}
		}, with)
	})
	t.Run("wipes what it forgets", func(t *testing.T) {
		c := newSeedCache(1, time.Hour)
		c.put(flightID{ciphertext: "a"}, []byte(seed))
		v, _ := c.lru.Get(cacheKey(flightID{ciphertext: "a"}))
		kept := v.(seedEntry).seed
		c.purge()
		if strings.Trim(string(kept), "\x00") != "" {
			t.Error("the seed is still in memory")
		}
	})
}

// 64 callers need no more connections than they are, and the probe's. (net/http
// gives some up where a machine is so loaded that a write takes longer to be
// noticed than its answer; the benchmark counts exactly.)
func TestConnectionsAreReused(t *testing.T) {
	r := start(t)
	if _, err := r.client.Status(t.Context(), &kmsapi.StatusRequest{}); err != nil {
		t.Fatal(err)
	}
	reqs := distinct(r.fixture, maxInFlight)
	r.fake.Latency(2 * time.Millisecond)
	var all sync.WaitGroup
	for _, req := range reqs {
		all.Go(func() {
			for range 30 {
				if _, err := r.client.Decrypt(t.Context(), req); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if n := r.fake.Connections(); n > 2*maxConns {
		t.Errorf("%d connections for %d calls of %d callers", n, 30*maxInFlight, maxInFlight)
	}
	if _, body := r.get("/metrics"); !strings.Contains(body, fmt.Sprintf("\nekskms_plugin_kms_connections_opened_total %d\n", r.fake.Connections())) {
		t.Error("the metric does not agree with KMS on the number of connections")
	}
}

// One caller keeps its connection (without plainBodies it loses one in some
// tens of calls).
func TestConnectionsAreKept(t *testing.T) {
	r := start(t, func(_ *fixture, c *Config) { c.PollInterval = time.Hour })
	if _, err := r.client.Status(t.Context(), &kmsapi.StatusRequest{}); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		r.mustEncrypt(seed)
	}
	if n := r.fake.Connections(); n > 2*warmConns {
		t.Errorf("%d connections for 1000 KMS calls of one caller", n)
	}
}

// Connections are there before anybody asks for them.
func TestConnectionsAreWarmed(t *testing.T) {
	r := start(t, func(_ *fixture, c *Config) { c.PollInterval = time.Hour })
	if _, err := r.client.Status(t.Context(), &kmsapi.StatusRequest{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "warm connections", func() bool { return r.fake.Connections() >= warmConns })
	for _, c := range r.fake.Calls() {
		if c.Op != "DescribeKey" && c.Op != "GenerateDataKey" && c.Op != "Decrypt" {
			t.Errorf("warming up called %q", c.Op)
		}
	}
}

// What is in memory for one key is not for another, though the ciphertext is
// the same.
func TestSeedCacheIsPerKey(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		other := f.fake.NewKey()
		f.p = f.plugin(func(_ *fixture, c *Config) {
			c.SeedCache = 10
			c.Keys = append(c.Keys, Key{ID: other.ARN, Clients: c.Keys[0].Clients})
		})
		e := f.probe().mustEncrypt(seed)
		f.wantOpens(f.p, e)
		f.wantOpens(f.p, e)
		req := decryptRequest(e)
		req.KeyId = keyID(other.ARN, other.MaterialID())
		if _, err := f.p.Decrypt(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("under the other key's key_id: %v", err)
		}
	})
}

// Whether a decrypt-only key may still decrypt is not known, so its seeds are not
// kept.
func TestSeedsOfDecryptOnlyKeysAreNotKept(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		e := f.probe().mustEncrypt(seed)
		f.p = f.plugin(func(f *fixture, c *Config) {
			c.SeedCache = 10
			c.Keys = append([]Key{{ID: f.fake.NewKey().ARN, Clients: c.Keys[0].Clients}}, c.Keys...)
		})
		f.probe()
		f.wantOpens(f.p, e)
		f.fake.Deny("Decrypt", f.key)
		if _, err := f.p.Decrypt(t.Context(), decryptRequest(e)); status.Code(err) != codes.PermissionDenied {
			t.Errorf("decrypt after its permission was taken away: %v", err)
		}
	})
}

// An outage that gets too old to vouch for the key is logged, and wipes the
// cache, though no probe brings anything new.
func TestTheEndOfVouchingIsReported(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		e := f.probe().mustEncrypt(seed)
		f.wantOpens(f.p, e)
		f.fake.Fail("*", &kmsfake.Error{Status: 500, Code: "KMSInternalException"})
		for range 65 {
			f.probe()
			time.Sleep(time.Minute)
		}
		f.probe().wantNotOK()
		if n := f.p.cache.lru.Len(); n != 0 {
			t.Errorf("%d seeds are still in memory", n)
		}
		if !strings.Contains(f.logs.String(), `"state":"failed","was":"degraded"`) {
			t.Errorf("the log does not say so:\n%s", f.logs)
		}
	}, func(_ *fixture, c *Config) { c.SeedCache = 10 })
}

// A caller that comes late to a call which then fails for want of time has time
// of its own.
func TestALateCallerTriesAgain(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		req := decryptRequest(f.probe().mustEncrypt(seed))
		f.fake.Hang("Decrypt", kmsfake.Always)
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := f.p.Decrypt(t.Context(), req); status.Code(err) != codes.Unavailable {
				t.Errorf("the first: %v", err)
			}
		})
		time.Sleep(2200 * time.Millisecond)
		all.Go(func() {
			if _, err := f.p.Decrypt(t.Context(), req); err != nil {
				t.Errorf("the late one: %v", err)
			}
		})
		time.Sleep(400 * time.Millisecond)
		f.fake.Hang("Decrypt", 0) // KMS is well again, too late for the first
		all.Wait()
	})
}

// Encrypts that wait for the first probe leave the places to Decrypts.
func TestWaitingForTheFirstProbeTakesNoPlace(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		req := decryptRequest(f.probe().mustEncrypt(seed))
		f.p = f.plugin()
		f.p.sealing().probed = make(chan struct{})
		var all sync.WaitGroup
		for range maxInFlight {
			all.Go(func() { _, _ = f.encrypt(seed) })
		}
		synctest.Wait()
		if _, err := f.p.Decrypt(t.Context(), req); err != nil {
			t.Errorf("decrypt: %v", err)
		}
		all.Wait()
	})
}
