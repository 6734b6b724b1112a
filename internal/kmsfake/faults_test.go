package kmsfake

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func TestFail(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k := s.NewKey()
		s.Fail("Encrypt", &Error{Status: 500, Code: "KMSInternalException", Message: "words"})
		for range 3 {
			_, err := encrypt(t.Context(), c, k.ARN)
			var response *awshttp.ResponseError
			if !is[*types.KMSInternalException](err) || !errors.As(err, &response) || response.HTTPStatusCode() != 500 ||
				!strings.Contains(err.Error(), "words") {
				t.Errorf("the error that was set: %v", err)
			}
		}
		mustDescribe(t, c, k.ARN)
		s.Fail("*", &Error{Code: "KeyUnavailableException"})
		_, err := describe(t.Context(), c, k.ARN)
		wantCode(t, "every operation", err, "KeyUnavailableException")
		_, err = encrypt(t.Context(), c, k.ARN)
		wantCode(t, "the operation's own error", err, "KMSInternalException")
		s.Fail("Encrypt", nil)
		s.Fail("*", nil)
		mustEncrypt(t, c, k.ARN)
	})
}

// How many requests the knobs with a count meet.
func TestCounts(t *testing.T) {
	for name, turn := range map[string]func(s *Server, op string, n int){
		"FailNext": func(s *Server, op string, n int) { s.FailNext(op, n, &Error{Code: "DependencyTimeoutException"}) },
		"Cut":      (*Server).Cut,
		"CutAfter": (*Server).CutAfter,
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
				k := s.NewKey()
				failures := func(n int) (failed int) {
					for range n {
						if _, err := describe(t.Context(), c, k.ARN); err != nil {
							failed++
						}
					}
					return failed
				}
				for _, op := range []string{"DescribeKey", "*"} {
					turn(s, op, 2)
					if op != "*" {
						mustEncrypt(t, c, k.ARN)
					}
					if n := failures(5); n != 2 {
						t.Errorf("2 for %s meet %d", op, n)
					}
					turn(s, op, Always)
					if n := failures(5); n != 5 {
						t.Errorf("all for %s meet %d of 5", op, n)
					}
					turn(s, op, 0)
					if n := failures(5); n != 0 {
						t.Errorf("0 for %s meet %d", op, n)
					}
				}
			})
		})
	}
}

func TestFailNextAnswersWithItsError(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k := s.NewKey()
		s.FailNext("Encrypt", 1, &Error{Status: 503, Code: "DependencyTimeoutException"})
		_, err := encrypt(t.Context(), c, k.ARN)
		var response *awshttp.ResponseError
		if !is[*types.DependencyTimeoutException](err) || !errors.As(err, &response) || response.HTTPStatusCode() != 503 {
			t.Errorf("the error that was set: %v", err)
		}
	})
}

// A cut ahead of the work leaves no trace, one after it leaves the work done,
// and neither leaves an answer of the service.
func TestCut(t *testing.T) {
	for name, tt := range map[string]struct {
		cut     func(*Server, string, int)
		rotates bool
	}{
		"before": {(*Server).Cut, false},
		"after":  {(*Server).CutAfter, true},
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
				k := s.NewKey()
				mustDescribe(t, c, k.ARN) // a connection that is in use already
				old := k.MaterialID()
				tt.cut(s, "RotateKeyOnDemand", 1)
				_, err := c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &k.ARN})
				if err == nil || codeOf(err) != "" {
					t.Fatalf("a cut gives %v", err)
				}
				var op *net.OpError
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &op) {
					t.Errorf("no error of a connection: %v", err)
				}
				if rotated := k.MaterialID() != old; rotated != tt.rotates {
					t.Errorf("rotated: %t", rotated)
				}
				if n := s.Count("RotateKeyOnDemand"); n != 1 {
					t.Errorf("%d requests", n)
				}
			})
		})
	}
}

// The SDK takes a cut for what it is and tries again.
func TestSDKRetriesCuts(t *testing.T) {
	for _, cut := range []func(*Server, string, int){(*Server).Cut, (*Server).CutAfter} {
		s := New(region)
		k := s.NewKey()
		cut(s, "Encrypt", 2)
		mustEncrypt(t, overHTTP(t, s, impatient), k.ARN)
		cut(s, "Encrypt", 2)
		mustEncrypt(t, inProcess(s, impatient), k.ARN)
		if n := s.Count("Encrypt"); n != 6 {
			t.Errorf("%d requests, want 3 and 3", n)
		}
	}
}

// impatient retries as the SDK does, without its pauses.
func impatient(o *kms.Options) {
	o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
		o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
	})
}

func TestHang(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k := s.NewKey()
		old := k.MaterialID()
		s.Hang("RotateKeyOnDemand", 1)
		ctx, cancel := context.WithCancel(t.Context())
		arrived := make(chan struct{})
		s.Before(func(string) { close(arrived) })
		done := make(chan error)
		go func() {
			_, err := c.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: &k.ARN})
			done <- err
		}()
		<-arrived
		s.Before(nil)
		mustDescribe(t, c, k.ARN) // others get their answers meanwhile
		select {
		case err := <-done:
			t.Fatalf("it does not hang: %v", err)
		default:
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("a client that gives up gets %v", err)
		}
		until(t, "the request's end", func() bool { now, _ := s.InFlight(); return now == 0 })
		if k.MaterialID() != old {
			t.Error("the request had an effect")
		}
		if _, err := c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &k.ARN}); err != nil {
			t.Errorf("the next one: %v", err)
		}
	})
}

func TestHangLastsForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(region)
		c, k := inProcess(s), s.NewKey()
		s.Hang("*", Always)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 1000*time.Hour)
		defer cancel()
		_, err := describe(ctx, c, k.ARN)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 1000*time.Hour {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
	})
}

func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(region)
		c, k := inProcess(s), s.NewKey()
		s.Latency(time.Hour)
		start := time.Now()
		mustEncrypt(t, c, k.ARN)
		if d := time.Since(start); d != time.Hour {
			t.Errorf("one request takes %s", d)
		}
		// Side by side.
		start = time.Now()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if _, err := encrypt(t.Context(), c, k.ARN); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		k.Rotate() // nobody holds a lock while waiting
		if now, _ := s.InFlight(); now != 50 {
			t.Errorf("%d in flight, want 50", now)
		}
		all.Wait()
		if d := time.Since(start); d != time.Hour {
			t.Errorf("50 requests take %s", d)
		}
		// Errors wait as well.
		s.Fail("DescribeKey", &Error{Code: "KMSInternalException", Status: 500})
		start = time.Now()
		_, err := describe(t.Context(), c, k.ARN)
		wantCode(t, "DescribeKey", err, "KMSInternalException")
		if d := time.Since(start); d != time.Hour {
			t.Errorf("an error takes %s", d)
		}
		s.Latency(0)
		start = time.Now()
		mustEncrypt(t, c, k.ARN)
		if d := time.Since(start); d != 0 {
			t.Errorf("without latency it takes %s", d)
		}
	})
}

func TestLatencyEndsWithTheClient(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k := s.NewKey()
		old := k.MaterialID()
		s.Latency(time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := c.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: &k.ARN})
			done <- err
		}()
		until(t, "the request's arrival", func() bool { return s.Count("RotateKeyOnDemand") == 1 })
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("a client that gives up gets %v", err)
		}
		until(t, "the request's end", func() bool { now, _ := s.InFlight(); return now == 0 })
		if k.MaterialID() != old {
			t.Error("the request had an effect")
		}
	})
}

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(region)
		c, k := inProcess(s), s.NewKey()
		s.Throttle(3)
		for range 4 {
			throttled := 0
			for range 5 {
				_, err := encrypt(t.Context(), c, k.ARN)
				var response *awshttp.ResponseError
				if codeOf(err) == "ThrottlingException" && errors.As(err, &response) && response.HTTPStatusCode() == 400 {
					throttled++
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if throttled != 2 {
				t.Errorf("%d of 5 requests throttled, want 2", throttled)
			}
			time.Sleep(time.Second)
		}
		// The SDK's pauses are fake here too.
		patient := inProcess(s, func(o *kms.Options) {
			o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = 20 })
		})
		for range 4 {
			mustEncrypt(t, patient, k.ARN)
		}
		s.Throttle(0)
		for range 100 {
			mustEncrypt(t, c, k.ARN)
		}
	})
}

func TestThrottleOverHTTP(t *testing.T) {
	s := New(region)
	c, k := overHTTP(t, s), s.NewKey()
	s.Throttle(1)
	throttled := false
	for range 10_000 { // within one second on any machine, at least two of them
		_, err := describe(t.Context(), c, k.ARN)
		if throttled = codeOf(err) == "ThrottlingException"; throttled {
			break
		}
	}
	if !throttled {
		t.Error("nothing is throttled")
	}
}

// A wrong clock on the server, which the client sees as its own being wrong.
func TestClock(t *testing.T) {
	for name, tt := range map[string]struct {
		offset time.Duration
		words  string
	}{
		"fast":            {6 * time.Minute, "Signature expired: "},
		"days fast":       {96 * time.Hour, "is now earlier than "},
		"slow":            {-6 * time.Minute, "Signature not yet current: "},
		"within the rule": {4 * time.Minute, ""},
		"right":           {0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
				k := s.NewKey()
				s.Clock(tt.offset)
				_, err := describe(t.Context(), c, k.ARN)
				if tt.words == "" {
					wantCode(t, "DescribeKey", err, "")
					return
				}
				wantCode(t, "DescribeKey", err, "InvalidSignatureException")
				if !strings.Contains(err.Error(), tt.words) || !strings.Contains(err.Error(), "5 min.)") {
					t.Errorf("wording: %v", err)
				}
			})
		})
	}
}

func TestClockWording(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // from midnight UTC on 2000-01-01
		for offset, want := range map[time.Duration]string{
			time.Hour:  "Signature expired: 20000101T000000Z is now earlier than 20000101T005500Z (20000101T010000Z - 5 min.)",
			-time.Hour: "Signature not yet current: 20000101T000000Z is still later than 19991231T230500Z (19991231T230000Z + 5 min.)",
		} {
			s := New(region)
			s.Clock(offset)
			if _, err := describe(t.Context(), inProcess(s), s.NewKey().ARN); !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		}
	})
}

// The SDK finds the server's time in the Date header, and signs again with it.
func TestSDKCorrectsItsClock(t *testing.T) {
	for _, offset := range []time.Duration{time.Hour, -time.Hour, 1000 * time.Hour} {
		s := New(region)
		k := s.NewKey()
		s.Clock(offset)
		for _, c := range []*kms.Client{overHTTP(t, s, impatient), inProcess(s, impatient)} {
			before := s.Count("DescribeKey")
			mustDescribe(t, c, k.ARN)
			if n := s.Count("DescribeKey") - before; n != 2 {
				t.Errorf("offset %s: %d requests, want one more than one", offset, n)
			}
			mustDescribe(t, c, k.ARN)
			if n := s.Count("DescribeKey") - before; n != 3 {
				t.Errorf("offset %s: the SDK forgets the offset", offset)
			}
			s.Clock(0)
			mustDescribe(t, c, k.ARN)
			s.Clock(offset)
		}
	}
}

func TestStale(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k := s.NewKey()
		seals := map[string]func() string{
			"DescribeKey": func() string { return *mustDescribe(t, c, k.ARN).CurrentKeyMaterialId },
			"Encrypt": func() string {
				d, err := decrypt(t.Context(), c, k.ARN, mustEncrypt(t, c, k.ARN))
				if err != nil {
					t.Fatal(err)
				}
				return *d.KeyMaterialId
			},
			"GenerateDataKey": func() string {
				d, err := dataKey(t.Context(), c, k.ARN)
				if err != nil {
					t.Fatal(err)
				}
				return *d.KeyMaterialId
			},
		}
		k.Rotate()
		for op, seal := range seals {
			old := k.MaterialID()
			k.Rotate()
			s.Stale(op, 2)
			for other, seal := range seals {
				if other != op && seal() != k.MaterialID() {
					t.Errorf("%s is stale with %s", other, op)
				}
			}
			for i, want := range []string{old, old, k.MaterialID()} {
				if seal() != want {
					t.Errorf("%s %d after a rotation: the wrong material", op, i)
				}
			}
		}
		old := k.MaterialID()
		k.Rotate()
		s.Stale("*", Always)
		for op, seal := range seals {
			if seal() != old {
				t.Errorf("%s is not stale", op)
			}
		}
	})
}

func TestStaleWaitsForARotation(t *testing.T) {
	s := New(region)
	c, k := inProcess(s), s.NewKey()
	s.Stale("DescribeKey", 1)
	mustDescribe(t, c, k.ARN)
	old := k.MaterialID()
	k.Rotate()
	for i, want := range []string{old, k.MaterialID()} {
		if got := *mustDescribe(t, c, k.ARN).CurrentKeyMaterialId; got != want {
			t.Errorf("answer %d after the rotation: %s, want %s", i, got, want)
		}
	}
}

func TestHideMaterialIDs(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k := s.NewKey()
		blob := mustEncrypt(t, c, k.ARN)
		ids := map[string]func() *string{
			"DescribeKey": func() *string { return mustDescribe(t, c, k.ARN).CurrentKeyMaterialId },
			"Decrypt": func() *string {
				d, err := decrypt(t.Context(), c, k.ARN, blob)
				if err != nil {
					t.Fatal(err)
				}
				return d.KeyMaterialId
			},
			"GenerateDataKey": func() *string {
				d, err := dataKey(t.Context(), c, k.ARN)
				if err != nil {
					t.Fatal(err)
				}
				return d.KeyMaterialId
			},
		}
		for hidden := range ids {
			s.HideMaterialIDs(hidden)
			for op, id := range ids {
				if got := id(); (got == nil) != (op == hidden) {
					t.Errorf("%s hidden: %s names %v", hidden, op, aws.ToString(got))
				}
			}
		}
		s.HideMaterialIDs()
		if ids["Decrypt"]() == nil {
			t.Error("still hidden")
		}
	})
}

// Before may do to the server what a test does.
func TestBefore(t *testing.T) {
	overBoth(t, func(t *testing.T, s *Server, c *kms.Client) {
		k := s.NewKey()
		old := k.MaterialID()
		var ops []string
		s.Before(func(op string) {
			ops = append(ops, op)
			k.Rotate()
			s.Fail("GenerateDataKey", &Error{Code: "AccessDeniedException"})
		})
		if m := mustDescribe(t, c, k.ARN); *m.CurrentKeyMaterialId == old {
			t.Error("Before comes too late")
		}
		_, err := dataKey(t.Context(), c, k.ARN)
		wantCode(t, "GenerateDataKey", err, "AccessDeniedException")
		if strings.Join(ops, " ") != "DescribeKey GenerateDataKey" {
			t.Errorf("called for %v", ops)
		}
		s.Before(nil)
		mustDescribe(t, c, k.ARN)
		if len(ops) != 2 {
			t.Error("called after it was taken away")
		}
	})
}

func TestNotARequestOfKMS(t *testing.T) {
	s := New(region)
	web := listen(t, s)
	for name, r := range map[string]func() *http.Request{
		"no operation":      func() *http.Request { return post(t, web.URL, "", "{}") },
		"another service's": func() *http.Request { return post(t, web.URL, "DynamoDB_20120810.GetItem", "{}") },
		"no JSON":           func() *http.Request { return post(t, web.URL, "TrentService.Encrypt", "{") },
	} {
		res, err := web.Client().Do(r())
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "SerializationException") {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
	}
}

func post(t testing.TB, url, target, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", target)
	return r
}
