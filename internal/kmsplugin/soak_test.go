package kmsplugin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

// soakEnv is how long TestSoak runs: `make soak` says ten minutes.
const soakEnv = "KMS_PLUGIN_SOAK"

// Callers go on while KMS throttles, hangs, cuts connections, lags, rotates and
// refuses, while something between answers in its place, and while the socket and
// the health port are crowded. Calls may fail; no answer may be wrong, and memory stays flat.
func TestSoak(t *testing.T) {
	length := 3 * time.Second
	if s := os.Getenv(soakEnv); s != "" {
		var err error
		length, err = time.ParseDuration(s)
		mustf(t, err, "%s", soakEnv)
	}
	const callers = 16
	answers := &replies{}
	fake := kmsfake.New(region)
	r := startWith(t, fake, fake.NewKey(), Listeners{}, func(_ *fixture, c *Config) {
		// The plugin's own limits, so that hangs end.
		transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
		transport.MaxIdleConnsPerHost, transport.MaxConnsPerHost = maxConns, maxConns
		t.Cleanup(transport.CloseIdleConnections)
		answers.RoundTripper = transport
		client, err := NewClient(t.Context(), ClientOptions{Region: region, metrics: c.metrics, Transport: answers, attemptTimeout: 100 * time.Millisecond})
		mustf(t, err, "client")
		c.Keys[0].Clients[0] = client
		c.PollInterval, c.CallTimeout, c.Logger = 20*time.Millisecond, 500*time.Millisecond, nil
	})
	eventually(t, "a good status", func() bool { return r.status().Healthz == "ok" })

	s := &soak{running: r, answers: answers, byCode: map[string]int{}}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var all sync.WaitGroup
	for range callers {
		all.Go(func() { s.call(ctx) })
	}
	all.Go(func() { s.inject(ctx) })
	all.Go(func() { s.watchMemory(ctx, length) })
	all.Wait()

	r.fake.Fail("*", nil)
	eventually(t, "a good status when all is over", func() bool { return r.status().Healthz == "ok" })
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.stored {
		d, err := r.client.Decrypt(t.Context(), decryptRequest(e.answer))
		if err != nil || !bytes.Equal(d.Plaintext, e.plaintext) {
			t.Fatalf("data is lost: %v", err)
		}
	}
	if s.encrypts.Load() == 0 || s.decrypts.Load() == 0 || s.faults.Load() == 0 || len(s.byCode) == 0 {
		t.Error("nothing happened")
	}
	t.Logf("%s: %d encrypts and %d decrypts right, %d faults injected, %d rotations, failures %v",
		length, s.encrypts.Load(), s.decrypts.Load(), s.faults.Load(), s.rotations.Load(), s.byCode)
}

type soak struct {
	*running
	answers                               *replies
	idle                                  []net.Conn
	encrypts, decrypts, faults, rotations atomic.Int64

	mu     sync.Mutex
	stored []soakEntry // a bounded sample of what was encrypted
	byCode map[string]int
}

type soakEntry struct {
	plaintext []byte
	answer    *kmsapi.EncryptResponse
}

func (s *soak) call(ctx context.Context) {
	for ctx.Err() == nil {
		switch rand.N(10) {
		case 0:
			st, err := s.client.Status(s.t.Context(), &kmsapi.StatusRequest{})
			if err != nil || (st.Healthz == "ok") != (st.KeyId != "") {
				s.t.Errorf("status %v, %v", st, err)
			}
		case 1, 2:
			s.encryptOne(ctx)
		default:
			s.decryptOne(ctx)
		}
	}
}

// encryptOne checks that the label is that of the material that sealed.
func (s *soak) encryptOne(ctx context.Context) {
	plaintext := fmt.Appendf(nil, "%032x", rand.Uint64())
	// Some callers are impatient.
	ctx, cancel := context.WithTimeout(ctx, time.Duration(1+rand.N(400))*time.Millisecond)
	defer cancel()
	e, err := s.client.Encrypt(ctx, &kmsapi.EncryptRequest{Plaintext: plaintext, Uid: "soak"})
	if err != nil {
		s.failed(err)
		return
	}
	if e.KeyId != keyID(s.key.ARN, sealedBy(e)) {
		s.t.Error("a ciphertext is labelled with a key_id that did not encrypt it")
	}
	s.encrypts.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if entry := (soakEntry{plaintext, e}); len(s.stored) < 300 {
		s.stored = append(s.stored, entry)
	} else {
		s.stored[rand.N(len(s.stored))] = entry
	}
}

func (s *soak) decryptOne(ctx context.Context) {
	s.mu.Lock()
	if len(s.stored) == 0 {
		s.mu.Unlock()
		s.encryptOne(ctx)
		return
	}
	entry := s.stored[rand.N(len(s.stored))]
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(1+rand.N(400))*time.Millisecond)
	defer cancel()
	req := decryptRequest(entry.answer)
	altered := rand.N(20) == 0
	if altered {
		req.Ciphertext[rand.N(len(req.Ciphertext))] ^= 1 << rand.N(8)
	}
	d, err := s.client.Decrypt(ctx, req)
	switch {
	case err != nil:
		s.failed(err)
	case altered:
		s.t.Error("an altered ciphertext was decrypted")
	case !bytes.Equal(d.Plaintext, entry.plaintext):
		s.t.Error("a wrong plaintext")
	default:
		s.decrypts.Add(1)
	}
}

// failed takes only errors that say something.
func (s *soak) failed(err error) {
	code := status.Code(err)
	switch code {
	case codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Canceled, codes.FailedPrecondition,
		codes.PermissionDenied, codes.InvalidArgument, codes.Unauthenticated, codes.DataLoss:
	default:
		s.t.Errorf("an answer that says nothing: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byCode[code.String()]++
}

// inject turns one knob after the other, and back.
func (s *soak) inject(ctx context.Context) {
	fault := &kmsfake.Error{Status: 500, Code: "KMSInternalException"}
	knobs := []func(on bool){
		func(on bool) { s.fake.Fail("*", map[bool]*kmsfake.Error{true: fault}[on]) },
		func(on bool) { s.fake.Throttle(map[bool]int{true: 50}[on]) },
		func(on bool) { s.fake.Latency(map[bool]time.Duration{true: 20 * time.Millisecond}[on]) },
		func(on bool) { s.fake.Hang("*", map[bool]int{true: 30}[on]) },
		func(on bool) { s.fake.Cut("*", map[bool]int{true: 30}[on]) },
		func(on bool) { s.fake.CutAfter("*", map[bool]int{true: 30}[on]) },
		func(on bool) { s.fake.Stale("*", map[bool]int{true: 100}[on]) },
		func(on bool) { s.key.SetState(map[bool]string{true: kmsfake.Disabled, false: kmsfake.Enabled}[on]) },
		func(on bool) {
			if on {
				s.fake.Deny("Decrypt", s.key)
			} else {
				s.fake.Allow("Decrypt", s.key)
			}
		},
		func(on bool) { s.rotate(on) },
		func(on bool) { s.rotate(on) },
		func(on bool) {
			if on {
				s.fake.Deny("DescribeKey", s.key)
			} else {
				s.fake.Allow("DescribeKey", s.key)
			}
		},
		func(on bool) {
			s.fake.Fail("*", map[bool]*kmsfake.Error{true: {Code: "ExpiredTokenException"}}[on])
		},
		// What an adversary between the plugin and KMS answers.
		s.answer("Decrypt", 200, "{}", nil),
		s.answer("GenerateDataKey", 200, "{}", nil),
		s.answer("DescribeKey", 200, "{}", nil),
		s.answer("Decrypt", 200, "", nil),
		s.answer("Decrypt", 200, `{"KeyId":"arn`+cutHere, nil),
		s.answer("GenerateDataKey", 500, "<html>", nil),
		s.answer("GenerateDataKey", 429, "<html>", nil),
		s.answer("Decrypt", 403, "<html>", nil),
		s.answer("Decrypt", 200, strings.Repeat("x", 2*maxAnswer), nil),
		s.answer("Decrypt", 200, "", func(a map[string]any) { a["KeyId"] = exampleARN }),
		s.answer("Decrypt", 200, "", func(a map[string]any) { a["Plaintext"] = []byte(seed) }),
		s.answer("GenerateDataKey", 200, "", func(a map[string]any) { a["KeyId"] = exampleARN }),
		s.answer("GenerateDataKey", 200, "", func(a map[string]any) { delete(a, "Plaintext") }),
		// And what one at the plugin's own doors does.
		func(on bool) { s.crowd(on, "unix", s.socket) },
		func(on bool) { s.crowd(on, "tcp", strings.TrimPrefix(s.health, "http://")) },
		func(on bool) {
			if on {
				for range 32 {
					go func() {
						if resp, err := http.Get(s.health + "/metrics"); err == nil {
							_, _ = io.Copy(io.Discard, resp.Body)
							_ = resp.Body.Close()
						}
					}()
				}
			}
		},
	}
	for ctx.Err() == nil {
		knob := knobs[rand.N(len(knobs))]
		knob(true)
		s.faults.Add(1)
		sleep(ctx, time.Duration(10+rand.N(90))*time.Millisecond, nil)
		knob(false)
		sleep(ctx, time.Duration(10+rand.N(190))*time.Millisecond, nil)
	}
}

// answer is a knob for what comes back in place of KMS's answer.
func (s *soak) answer(op string, status int, body string, change func(map[string]any)) func(bool) {
	return func(on bool) {
		if on {
			s.answers.set(op, status, body, change)
		} else {
			s.answers.set("", 0, "", nil)
		}
	}
}

// crowd opens more connections than there is room for.
func (s *soak) crowd(on bool, network, address string) {
	for _, c := range s.idle {
		_ = c.Close()
	}
	s.idle = nil
	for i := 0; on && i < 2*maxConnections; i++ {
		if c, err := net.Dial(network, address); err == nil {
			s.idle = append(s.idle, c)
		}
	}
}

func (s *soak) rotate(on bool) {
	if on {
		s.key.Rotate()
		s.rotations.Add(1)
	}
}

// watchMemory compares the heap and the goroutines of the last quarter with
// those of the second: the first is warming up.
func (s *soak) watchMemory(ctx context.Context, length time.Duration) {
	measure := func() (heap uint64, goroutines int) {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, runtime.NumGoroutine()
	}
	sleep(ctx, length/3, nil)
	heap, goroutines := measure()
	sleep(ctx, length/2, nil)
	heapLater, goroutinesLater := measure()
	// Rotations add key materials to the fake, and calls in flight come and go.
	if heapLater > heap+heap/2+8<<20 {
		s.t.Errorf("the heap grew from %d to %d bytes", heap, heapLater)
	}
	if goroutinesLater > goroutines+200 {
		s.t.Errorf("goroutines grew from %d to %d", goroutines, goroutinesLater)
	}
	s.t.Logf("heap %.1f, later %.1f MB; goroutines %d, later %d", float64(heap)/1e6, float64(heapLater)/1e6, goroutines, goroutinesLater)
}
