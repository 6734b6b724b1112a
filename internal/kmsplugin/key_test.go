package kmsplugin

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

// Status is a look at memory.
func TestStatusNeverCallsKMS(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe()
		before := f.fake.Count("*")
		for range 100 {
			f.wantOK(f.currentKeyID())
		}
		if n := f.fake.Count("*"); n != before {
			t.Errorf("100 Status calls made %d KMS calls", n-before)
		}
	})
}

// loop runs the plugin's own probe loops in the bubble, until the test ends.
func (f *fixture) loop() (stop func()) {
	f.p = f.plugin()
	for _, k := range f.p.keys {
		k.probed = make(chan struct{})
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan struct{})
	go func() { f.p.run(ctx); close(done) }()
	return func() { cancel(); <-done }
}

// Whatever the moment of a rotation: two polls later Status has the new key_id.
func TestRotationIsSeenWithinTwoPolls(t *testing.T) {
	for _, how := range []string{"on schedule", "on demand"} {
		t.Run(how, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fixture) {
				stop := f.loop()
				defer stop()
				f.wantOK(f.currentKeyID()) // waits for the first probe
				for i := range 120 {
					time.Sleep(time.Duration(i) * time.Second) // every moment between two polls
					synctest.Wait()
					f.key.Rotate()
					time.Sleep(2 * defaultPollInterval)
					synctest.Wait()
					f.wantOK(f.currentKeyID())
					if t.Failed() {
						return
					}
				}
			})
		})
	}
}

// A healthy key is looked at once a minute and no more: each look is three KMS
// calls, which cost.
func TestProbesAreAPollApart(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		stop := f.loop()
		defer stop()
		f.wantOK(f.currentKeyID())
		time.Sleep(defaultPollInterval) // the second look, soon after the first, is over
		synctest.Wait()
		before := f.fake.Count("*")
		time.Sleep(10 * defaultPollInterval)
		synctest.Wait()
		if n := f.fake.Count("*") - before; n != 30 {
			t.Errorf("10 polls made %d KMS calls, want 30", n)
		}
	})
}

// One sight of a new key_id moves nothing, two do.
func TestNewKeyIDNeedsTwoProbes(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe()
		old := f.currentKeyID()
		f.key.Rotate()
		f.probe().wantOK(old)
		f.probe().wantOK(f.currentKeyID())
		if !strings.Contains(scrape(t, f.p), `ekskms_plugin_key_id_changes_total{key="`+f.p.sealing().label+`"} 1`) {
			t.Error("the rotation is not counted")
		}
	})
}

// Sights in a row: what is seen, forgotten and seen again is not seen twice.
func TestAFlappingKeyIDIsNotActivated(t *testing.T) {
	bubble(t, func(_ *testing.T, f *fixture) {
		f.probe()
		old := f.currentKeyID()
		f.key.Rotate()
		for range 5 {
			f.probe().wantOK(old)
			f.fake.Stale("*", kmsfake.Always)
			f.probe().wantOK(old)
			f.fake.Stale("*", 0)
		}
		f.probe().probe().wantOK(f.currentKeyID())
	})
}

// A probe that fails in between begins the row again.
func TestAFailureBetweenIsNoSight(t *testing.T) {
	bubble(t, func(_ *testing.T, f *fixture) {
		f.probe()
		old := f.currentKeyID()
		f.key.Rotate()
		f.probe().wantOK(old)
		f.fake.Fail("*", &kmsfake.Error{Status: 500, Code: "KMSInternalException"})
		f.probe()
		f.fake.Fail("*", nil)
		f.probe().wantOK(old)
		f.probe().wantOK(f.currentKeyID())
	})
}

// Status may have moved on while KMS worked for an Encrypt.
func TestEncryptLabelsWithWhatStatusSaysAtItsEnd(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe()
		f.fake.Before(func(op string) {
			if op == "GenerateDataKey" {
				moved := *f.state()
				moved.keyID = keyID(f.key.ARN, "newer")
				f.p.sealing().state.Store(&moved)
			}
		})
		if _, err := f.encrypt(seed); status.Code(err) != codes.Unavailable {
			t.Errorf("a seed under a key_id that Status does not give any more: %v", err)
		}
	})
}

// Hosts of KMS that have not heard of a rotation do not bring the old key_id
// back, however many they are.
func TestStaleAnswersNeverGoBack(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe().probe()
		f.key.Rotate()
		f.probe().probe()
		active := f.currentKeyID()
		f.wantOK(active)
		f.fake.Stale("*", kmsfake.Always)
		for range 50 { // twice as dense as a poll would be
			f.probe().wantOK(active)
			time.Sleep(staleFor / 51)
		}
		if _, err := f.encrypt(seed); status.Code(err) != codes.Unavailable {
			t.Errorf("what a stale host sealed was handed out: %v", err)
		}
		f.fake.Stale("*", 0)
		f.probe().wantOK(active)
		f.wantOpens(f.p, f.mustEncrypt(seed))
	})
}

// If the answer that was believed was the wrong one, writes are not blocked for
// good.
func TestTheOnlyKeyIDSeenForLongIsBelieved(t *testing.T) {
	bubble(t, func(_ *testing.T, f *fixture) {
		f.probe().probe()
		old := f.currentKeyID()
		f.key.Rotate()
		f.probe().probe()
		f.fake.Stale("*", kmsfake.Always)
		for range 13 {
			f.probe()
			time.Sleep(time.Minute)
		}
		f.wantOK(old)
		f.mustEncrypt(seed)
	})
}

// What was stale is seen at times between: that is no unanimous view.
func TestAStaleKeyIDSeenNowAndThenIsNotBelieved(t *testing.T) {
	bubble(t, func(_ *testing.T, f *fixture) {
		f.probe().probe()
		f.key.Rotate()
		f.probe().probe()
		for i := range 60 {
			f.fake.Stale("*", map[bool]int{true: kmsfake.Always}[i%3 != 0])
			f.probe().wantOK(f.currentKeyID())
			time.Sleep(confirmPoll)
		}
	})
}

// A plugin that starts just after a rotation and meets fresh and stale hosts in
// any order: labels are right, and writes are never blocked for longer than KMS
// takes to agree with itself.
func TestStartAmongStaleHosts(t *testing.T) {
	const looks = 6
	bubble(t, func(t *testing.T, f *fixture) {
		for pattern := range 1 << looks {
			f.key.Rotate()
			f.p = f.plugin()
			for i := range looks + 20 {
				f.fake.Stale("*", map[bool]int{true: kmsfake.Always}[pattern>>i&1 == 1])
				f.probe()
				e, err := f.encrypt(seed)
				if err == nil {
					if want := keyID(f.key.ARN, sealedBy(e)); e.KeyId != want || f.status().KeyId != want {
						t.Fatalf("pattern %06b: wrong label", pattern)
					}
				} else if i >= looks+int(staleFor/confirmPoll)+confirmations {
					t.Fatalf("pattern %06b: no Encrypt although all hosts agree for %s", pattern, staleFor)
				}
				time.Sleep(confirmPoll)
			}
			f.wantOK(f.currentKeyID())
		}
	})
}

// DescribeKey may lag behind a rotation. The probe then keeps the key_id that it
// can vouch for.
func TestUnsettledMaterialKeepsTheOldKeyID(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		old := f.probe().status().KeyId
		f.fake.Before(func(op string) {
			if op == "GenerateDataKey" {
				f.key.Rotate() // always after DescribeKey: the two never agree
			}
		})
		f.probe().wantOK(old)
		fresh := f.plugin()
		fresh.sealing().probe(t.Context())
		if ok, msg := fresh.Ready(); ok || !strings.Contains(msg, "rotating") {
			t.Errorf("a plugin that never saw agreement says %q", msg)
		}
		f.fake.Before(nil)
		f.probe().probe().wantOK(f.currentKeyID())
	})
}

// The key rotates ahead of the i-th and of the j-th KMS call that probes and
// Encrypts make. Whatever the moment: no ciphertext is labelled with a material
// that did not seal it, or with a key_id that Status does not give.
func TestRotationAtEveryPoint(t *testing.T) {
	const calls = 15 // probe (3, more while unsettled) and Encrypt (2), three times
	bubble(t, func(t *testing.T, f *fixture) {
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
				for n < calls+12 {
					p.sealing().probe(t.Context())
					e, err := p.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: []byte(seed)})
					if err != nil {
						if status.Code(err) != codes.Unavailable {
							t.Fatalf("rotations at %d and %d: %v", i, j, err)
						}
						continue
					}
					good++
					if e.KeyId != keyID(f.key.ARN, sealedBy(e)) {
						t.Fatalf("rotations at %d and %d: wrong label", i, j)
					}
					if s := statusOf(t, p); s.KeyId != e.KeyId {
						t.Fatalf("rotations at %d and %d: Status gives another key_id", i, j)
					}
					stored = append(stored, e)
				}
				if good == 0 {
					t.Fatalf("rotations at %d and %d: Encrypt never recovered", i, j)
				}
				for _, e := range stored {
					f.wantOpens(p, e)
				}
				if t.Failed() {
					return
				}
			}
		}
	})
}

// The same with hosts of KMS that lag: any of the calls may be answered from
// before the rotation.
func TestStaleHostsAtEveryPoint(t *testing.T) {
	const calls = 12
	bubble(t, func(t *testing.T, f *fixture) {
		for mask := range 1 << 6 {
			p := f.plugin()
			p.sealing().probe(t.Context())
			f.key.Rotate()
			n := 0
			f.fake.Before(func(string) {
				f.fake.Stale("*", mask>>(n%6)&1)
				n++
			})
			for n < calls {
				p.sealing().probe(t.Context())
				e, err := p.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: []byte(seed)})
				if err != nil {
					continue
				}
				if e.KeyId != keyID(f.key.ARN, sealedBy(e)) || e.KeyId != statusOf(t, p).KeyId {
					t.Fatalf("pattern %06b: wrong label", mask)
				}
			}
			f.fake.Before(nil)
			f.fake.Stale("*", 0)
		}
	})
}

// An Encrypt that finds the key rotated asks for a probe, so that an API server
// that starts just then does not wait for two polls.
func TestEncryptKicksTheProbe(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		stop := f.loop()
		defer stop()
		f.status()
		time.Sleep(2 * time.Second)
		f.key.Rotate()
		if _, err := f.encrypt(seed); status.Code(err) != codes.Unavailable {
			t.Fatalf("encrypt under unseen material: %v", err)
		}
		time.Sleep(confirmPoll / 2) // the API server asks again after twice that time
		synctest.Wait()
		f.wantOK(f.currentKeyID())
		f.mustEncrypt(seed)
	})
}

// However many calls fail: no more than one probe a second.
func TestKicksAreLimited(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		stop := f.loop()
		defer stop()
		f.status()
		f.fake.Fail("GenerateDataKey", &kmsfake.Error{Code: "AccessDeniedException"})
		before := f.fake.Count("DescribeKey")
		for range 1000 {
			if _, err := f.encrypt(seed); err == nil {
				t.Fatal("encrypted")
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := f.fake.Count("DescribeKey") - before; n > 11 {
			t.Errorf("%d probes in 10 seconds", n)
		}
	})
}

func TestKMSWithoutMaterialIDs(t *testing.T) {
	bubble(t, func(_ *testing.T, f *fixture) {
		f.fake.HideMaterialIDs("DescribeKey", "GenerateDataKey", "Decrypt")
		f.probe().wantOK(keyID(f.key.ARN, ""))
		e := f.mustEncrypt(seed)
		f.fake.HideMaterialIDs() // KMS is updated: old data must stay readable
		f.probe().probe().wantOK(f.currentKeyID())
		f.wantOpens(f.p, e)
	})
}

// One that names the material is enough; what DescribeKey alone says of it is not,
// since nothing was sealed by that.
func TestKMSWithHalfTheMaterialIDs(t *testing.T) {
	all := []string{"DescribeKey", "GenerateDataKey", "Decrypt"}
	for mask := range 1 << len(all) {
		var hidden []string
		for i, op := range all {
			if mask>>i&1 == 1 {
				hidden = append(hidden, op)
			}
		}
		bubble(t, func(t *testing.T, f *fixture) {
			f.fake.HideMaterialIDs(hidden...)
			want := keyID(f.key.ARN, f.key.MaterialID())
			if mask&0b110 == 0b110 {
				want = keyID(f.key.ARN, "")
			}
			f.probe().wantOK(want)
			e := f.mustEncrypt(seed)
			if e.KeyId != want {
				t.Errorf("%q are silent: label %s", hidden, e.KeyId)
			}
			f.wantOpens(f.p, e)
		})
	}
}

// An alias that moves is seen like a rotation; data under the earlier key stays
// readable to this process, and to a later one that is told of the key.
func TestAliasMoves(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		second := f.fake.NewKey()
		alias := f.fake.Alias("alias/secrets", f.key)
		named := func(_ *fixture, c *Config) { c.Keys[0].ID = alias }
		f.p = f.plugin(named)
		if _, err := f.p.Decrypt(t.Context(), &kmsapi.DecryptRequest{Ciphertext: []byte("x"), KeyId: f.currentKeyID()}); status.Code(err) != codes.Unavailable {
			t.Errorf("decrypt before the alias is known: %v", err)
		}
		f.probe().wantOK(f.currentKeyID())
		e := f.mustEncrypt(seed)

		f.fake.Alias("alias/secrets", second)
		f.probe().wantOK(f.currentKeyID())
		f.probe().wantOK(keyID(second.ARN, second.MaterialID()))
		f.wantOpens(f.p, e)
		f.wantOpens(f.p, f.mustEncrypt(seed))

		restarted := f.plugin(named)
		restarted.sealing().probe(t.Context())
		if _, err := restarted.Decrypt(t.Context(), decryptRequest(e)); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "add it as a further key") {
			t.Errorf("the earlier key's data after a restart: %v", err)
		}
		told := f.plugin(named, func(f *fixture, c *Config) {
			c.Keys = append(c.Keys, Key{ID: f.key.ARN, Clients: c.Keys[0].Clients})
		})
		told.sealing().probe(t.Context())
		f.wantOpens(told, e)

		// An alias may be moved back: that is no stale answer.
		f.fake.Alias("alias/secrets", f.key)
		f.probe().probe().wantOK(f.currentKeyID())
		f.wantOpens(f.p, f.mustEncrypt(seed))
	})
}

// No call is made under the alias but the look-up: between two calls it could
// mean another key.
func TestAliasIsResolvedOnce(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		alias := f.fake.Alias("alias/secrets", f.key)
		f.p = f.plugin(func(_ *fixture, c *Config) { c.Keys[0].ID = alias })
		f.probe()
		f.wantOpens(f.p, f.mustEncrypt(seed))
		for _, c := range f.fake.Calls() {
			if want := map[bool]string{true: alias, false: f.key.ARN}[c.Op == "DescribeKey"]; c.KeyID != want {
				t.Errorf("%s of %s, want %s", c.Op, c.KeyID, want)
			}
		}
	})
}

func TestAnotherKeyDescribed(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		c := *f.p.cfg.Keys[0].Clients[0]
		c.KMS = lyingKMS{KMS: c.KMS, arn: f.key.ARN + "0"}
		f.p = f.plugin(func(_ *fixture, cfg *Config) { cfg.Keys[0].Clients[0] = &c })
		if s := f.probe().status(); !strings.Contains(s.Healthz, "kms:DescribeKey for another key") || s.KeyId != "" {
			t.Errorf("status %v", s)
		}
	})
}

// What can't be read back is never handed out.
func TestCorruptRoundTrip(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe()
		e := f.p.sealing().endpoints[0]
		e.kms = lyingKMS{KMS: e.kms, plaintext: strings.Repeat("?", dataKeySize)}
		time.Sleep(defaultPollInterval + 1) // the probe's proof is too old
		if _, err := f.encrypt(seed); status.Code(err) != codes.DataLoss {
			t.Errorf("encrypt: %v", err)
		}
		f.probe().probe().wantNotOK()
		if s := f.status(); !strings.Contains(s.Healthz, "do not trust this endpoint") {
			t.Errorf("status %v", s)
		}
	})
}

// A refusal may be a policy that is being spread: calls that fail by it do not
// hasten the second look, which makes it final.
func TestKicksDoNotHastenARefusal(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		stop := f.loop()
		defer stop()
		f.status()
		time.Sleep(confirmPoll + time.Second)
		f.fake.Deny("GenerateDataKey", f.key)
		for range 90 {
			if _, err := f.encrypt(seed); status.Code(err) != codes.PermissionDenied {
				t.Fatalf("encrypt: %v", err)
			}
			time.Sleep(confirmPoll / 100)
		}
		f.wantOK(f.currentKeyID())
		time.Sleep(confirmPoll)
		f.wantNotOK()
	})
}

// The age counts from when this process activated the key_id.
func TestKeyIDAge(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe()
		time.Sleep(time.Hour)
		f.probe()
		if all := scrape(t, f.p); !strings.Contains(all, `_key_id_age_seconds{key="`+f.p.sealing().label+`",role="seal"} 3600`) {
			t.Errorf("after an hour:\n%s", all)
		}
		f.key.SetState(kmsfake.Disabled)
		f.probe().probe()
		if all := scrape(t, f.p); strings.Contains(all, "_key_id_age_seconds") || strings.Contains(all, "_key_info") {
			t.Error("a key_id is shown that is not vouched for")
		}
	})
}
