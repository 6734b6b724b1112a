package kmsfake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// The whole SDK runs on fake time: its retries, its time-outs, its signatures.
func TestInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(region)
		k := s.NewKey()
		s.Clock(0) // signatures are dated in the bubble's time
		s.Latency(time.Hour)
		start := time.Now()
		blob := mustEncrypt(t, inProcess(s), k.ARN)
		if _, err := decrypt(t.Context(), inProcess(s), k.ARN, blob); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 2*time.Hour {
			t.Errorf("two requests take %s", d)
		}

		start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := describe(ctx, inProcess(s), k.ARN); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a context that ends first: %v", err)
		}
		hasty := inProcess(s, func(o *kms.Options) {
			o.HTTPClient = &http.Client{Transport: s.RoundTripper(), Timeout: time.Minute}
		})
		var timeout interface{ Timeout() bool }
		if _, err := describe(t.Context(), hasty, k.ARN); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("an HTTP client that gives up first: %v", err)
		}
		if d := time.Since(start); d != 2*time.Minute {
			t.Errorf("two time-outs take %s", d)
		}

		s.Latency(0)
		s.FailNext("Encrypt", 2, &Error{Status: 500, Code: "KMSInternalException"})
		before := s.Count("Encrypt")
		patient := inProcess(s, func(o *kms.Options) { o.Retryer = retry.NewStandard() })
		mustEncrypt(t, patient, k.ARN)
		if n := s.Count("Encrypt") - before; n != 3 {
			t.Errorf("%d requests, want 3", n)
		}
	})
}

func TestRoundTripper(t *testing.T) {
	s := New(region)
	k := s.NewKey()
	body := &closer{}
	r := post(t, "http://kms.test", "TrentService.DescribeKey", "")
	body.Reader = io.LimitReader(io.MultiReader(), 0)
	r.Body = body
	res, err := s.RoundTripper().RoundTrip(r)
	if err != nil || !body.closed {
		t.Fatalf("%v, body closed: %t", err, body.closed)
	}
	got, err := io.ReadAll(res.Body)
	if err != nil || res.ContentLength != int64(len(got)) || res.Header.Get("Content-Length") != fmt.Sprint(len(got)) ||
		res.StatusCode != http.StatusBadRequest || res.Request != r || res.Header.Get("Content-Type") != contentType {
		t.Errorf("response %+v, body %q, %v", res, got, err)
	}
	_ = res.Body.Close()
	if _, err := http.ParseTime(res.Header.Get("Date")); err != nil {
		t.Error(err)
	}

	// A client that gave up gets no answer, whenever it did.
	ctx, cancel := context.WithCancelCause(t.Context())
	because := errors.New("because")
	s.Before(func(string) { cancel(because) })
	c := inProcess(s)
	if _, err := describe(ctx, c, k.ARN); !errors.Is(err, context.Canceled) {
		t.Errorf("given up meanwhile: %v", err)
	}
	n := s.Count("*")
	//nolint:bodyclose // there is no response
	if _, err := s.RoundTripper().RoundTrip(r.WithContext(ctx)); !errors.Is(err, because) || s.Count("*") != n {
		t.Errorf("given up before: %v", err)
	}
}

type closer struct {
	io.Reader
	closed bool
}

func (c *closer) Close() error { c.closed = true; return nil }

func TestCounters(t *testing.T) {
	s := New(region)
	k := s.NewKey()
	const clients, requests = 8, 5
	hold, arrived := make(chan struct{}), make(chan struct{}, clients)
	s.Before(func(op string) {
		if op == "DescribeKey" {
			arrived <- struct{}{}
			<-hold
		}
	})
	c := overHTTP(t, s)
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			if _, err := describe(t.Context(), c, k.ARN); err != nil {
				t.Error(err)
			}
		})
	}
	for range clients {
		<-arrived
	}
	if now, peak := s.InFlight(); now != clients || peak != clients {
		t.Errorf("in flight %d, at most %d, want %d", now, peak, clients)
	}
	if n := s.Connections(); n != clients {
		t.Errorf("%d connections, want %d", n, clients)
	}
	close(hold)
	all.Wait()
	for range requests {
		mustEncrypt(t, c, k.ARN)
	}
	until(t, "their end", func() bool { now, _ := s.InFlight(); return now == 0 })
	if _, peak := s.InFlight(); peak != clients {
		t.Errorf("at most %d", peak)
	}
	for op, want := range map[string]int{"DescribeKey": clients, "Encrypt": requests, "Decrypt": 0, "*": clients + requests} {
		if n := s.Count(op); n != want {
			t.Errorf("Count(%q) is %d, want %d", op, n, want)
		}
	}
	if n := s.Connections(); n > clients+1 {
		t.Errorf("%d connections: none was used twice", n)
	}
}

// One connection for everything, or one for each request. (The SDK loses a
// connection now and then: see plainBodies in internal/kmsplugin.)
func TestConnections(t *testing.T) {
	for _, reuse := range []bool{true, false} {
		s := New(region)
		c := overHTTP(t, s, func(o *kms.Options) {
			o.HTTPClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: !reuse}}
		})
		k := s.NewKey()
		for range 4 {
			mustDescribe(t, c, k.ARN)
		}
		if n := s.Connections(); reuse && n == 4 || !reuse && n != 4 {
			t.Errorf("reuse %t: %d connections", reuse, n)
		}
	}
}

func TestCalls(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k := s.NewKey()
		s.Fail("Encrypt", &Error{Code: "KMSInternalException"})
		_, err := encrypt(t.Context(), c, k.ARN, "a", "1")
		var withID interface{ ServiceRequestID() string }
		if !errors.As(err, &withID) {
			t.Fatal(err)
		}
		_, _ = c.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/x"), TargetKeyId: aws.String(k.ID())})
		calls := s.Calls()
		if len(calls) != 2 || calls[0].Op != "Encrypt" || calls[0].KeyID != k.ARN || calls[0].Context["a"] != "1" ||
			calls[0].RequestID != withID.ServiceRequestID() || calls[1].Op != "CreateAlias" || calls[1].KeyID != k.ID() {
			t.Errorf("calls %+v", calls)
		}
	})
}

func TestCallsAreBounded(t *testing.T) {
	var l callLog
	l.counts = map[string]int{}
	s := &Server{}
	const n = 5*keptCalls + 7
	for i := range n {
		l.add(Call{Op: "Encrypt", RequestID: fmt.Sprint(i)})
	}
	s.calls = l
	calls := s.Calls()
	if len(calls) != keptCalls || calls[keptCalls-1].RequestID != fmt.Sprint(n-1) || calls[0].RequestID != fmt.Sprint(n-keptCalls) {
		t.Errorf("%d calls, from %s to %s", len(calls), calls[0].RequestID, calls[len(calls)-1].RequestID)
	}
	if s.Count("Encrypt") != n || s.Count("*") != n || cap(l.recent) > 3*keptCalls {
		t.Errorf("counted %d, room for %d", s.Count("*"), cap(l.recent))
	}
}

// Every knob is turned while requests are on their way.
func TestEverythingAtOnce(t *testing.T) {
	s, there := New(region), New("eu-west-1")
	Connect(s, there)
	k := s.NewMultiRegionKey()
	r := k.Replicate(there)
	clients := []*kms.Client{overHTTP(t, s), inProcess(s)}
	remote := inProcess(there)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 8 {
		c := clients[i%2]
		all.Go(func() {
			for ctx.Err() == nil {
				blob, err := encrypt(ctx, c, k.ID())
				if err == nil {
					_, _ = decrypt(ctx, c, "alias/x", blob)
					_, _ = decrypt(ctx, remote, r.ARN, blob)
				}
				_, _ = describe(ctx, c, k.ARN)
				_, _ = describe(ctx, remote, r.ARN)
				_, _ = dataKey(ctx, c, k.ARN)
			}
		})
	}
	e := &Error{Code: "KMSInternalException"}
	for range 100 {
		s.Alias("alias/x", k)
		k.Rotate()
		_, _ = clients[1].RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: &k.ARN})
		r.DelayReplication(true)
		k.SetState(Disabled)
		k.SetState(Enabled)
		r.RequireContext(map[string]string{})
		r.RequireContext(nil)
		s.RequireContext(nil)
		s.Before(func(string) {})
		s.Before(nil)
		s.Fail("*", e)
		s.Fail("*", nil)
		s.FailNext("Encrypt", 1, e)
		s.Cut("Encrypt", 1)
		s.CutAfter("Decrypt", 1)
		s.Stale("*", 1)
		s.Latency(time.Microsecond)
		s.Throttle(1_000_000)
		s.Clock(time.Second)
		s.Credentials("AKTEST", "", time.Time{})
		s.Deny("Encrypt", k)
		s.Allow("Encrypt", k)
		s.HideMaterialIDs("Decrypt")
		s.HideMaterialIDs()
		r.DelayReplication(false)
		_, _ = s.InFlight()
		_ = s.Calls()
		_ = s.Count("*")
		_ = s.Connections()
	}
	s.Hang("*", 2)
	cancel()
	all.Wait()
	s.Hang("*", 0)
	s.Cut("*", 0)
	s.FailNext("Encrypt", 0, nil)
	s.Cut("Encrypt", 0)
	s.CutAfter("Decrypt", 0)
	blob := mustEncrypt(t, clients[0], k.ARN)
	if _, err := decrypt(t.Context(), remote, r.ARN, blob); err != nil {
		t.Errorf("when it is quiet again: %v", err)
	}
}

func BenchmarkEncrypt(b *testing.B) {
	s := New(region)
	k := s.NewKey()
	body := `{"KeyId":"` + k.ARN + `","Plaintext":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=","EncryptionContext":{"a":"1"}}`
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			res, err := s.RoundTripper().RoundTrip(post(b, "http://kms.test", "TrentService.Encrypt", body))
			if err != nil || res.StatusCode != http.StatusOK {
				b.Errorf("%v %v", res, err)
				return
			}
			_ = res.Body.Close()
		}
	})
}
