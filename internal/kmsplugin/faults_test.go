package kmsplugin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

// A fault of this file is one that an adversary found. Each stands for its kind.

// stuck is a reader that takes nothing until it is let go.
type stuck struct {
	syncBuffer
	gate chan struct{}
}

func (s *stuck) Write(b []byte) (int, error) {
	<-s.gate
	return s.syncBuffer.Write(b)
}

func TestALogReaderThatStops(t *testing.T) {
	m := newMetrics()
	reader := &stuck{gate: make(chan struct{})}
	w := newLogWriter(reader, m.unlogged)
	log := slogTo(w)
	const lines = 10_000
	for i := range lines {
		log.Info("line", "n", i) // this returns, or the test never ends
	}
	p, err := New(Config{Keys: []Key{{ID: exampleARN, Clients: []*Client{{}}}}, EncryptionContext: clusterContext, metrics: m})
	mustf(t, err, "plugin")
	if all := scrape(t, p); strings.Contains(all, "ekskms_plugin_log_lines_dropped_total 0\n") {
		t.Error("what was dropped is not counted")
	}
	close(reader.gate)
	eventually(t, "the log says what it has lost", func() bool { return strings.Contains(reader.String(), `"dropped":`) })
	log.Info("the last line")
	w.close()
	kept, dropped := 0, 0
	for line := range strings.Lines(reader.String()) {
		var l struct {
			N       *int
			Dropped int
		}
		mustf(t, json.Unmarshal([]byte(line), &l), "%s", line)
		if l.N != nil {
			kept++
		}
		dropped += l.Dropped
	}
	if kept+dropped != lines || kept == 0 || dropped == 0 {
		t.Errorf("%d lines kept and %d dropped of %d", kept, dropped, lines)
	}
	if !strings.HasSuffix(strings.TrimSpace(reader.String()), `"msg":"the last line"}`) {
		t.Error("the last line is missing")
	}
}

// A reader that never comes back, or has gone, does not hold up the end.
func TestTheEndDoesNotWaitForALogReader(t *testing.T) {
	m := newMetrics()
	reader := &stuck{gate: make(chan struct{})}
	w := newLogWriter(reader, m.unlogged)
	slogTo(w).Info("line")
	w.close() // returns
	close(reader.gate)

	r, gone, err := os.Pipe()
	mustf(t, err, "pipe")
	mustf(t, r.Close(), "close")
	w = newLogWriter(onlyWriter{gone}, m.unlogged)
	slogTo(w).Info("line")
	slogTo(w).Info("line")
	w.close()
	if n := counted(t, m, "log_lines_dropped_total"); n != 2 {
		t.Errorf("%v lines counted as lost, want 2", n)
	}
}

// onlyWriter keeps the Go runtime from treating a file as a standard stream.
type onlyWriter struct{ w io.Writer }

func (o onlyWriter) Write(b []byte) (int, error) { return o.w.Write(b) }

func counted(t *testing.T, m *metrics, name string) float64 {
	t.Helper()
	families, err := m.registry.Gather()
	mustf(t, err, "gather")
	for _, f := range families {
		if f.GetName() == namespace+"_"+name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// cutHere at the end of a reply's body has the connection end there.
const cutHere = "(cut here)"

// replies has AWS KMS answer an operation with this body and status.
type replies struct {
	http.RoundTripper
	mu     sync.Mutex
	op     string
	status int
	body   string
	tries  int
	change func(map[string]any) // of the right answer, in place of body
}

func (r *replies) set(op string, status int, body string, change func(map[string]any)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.op, r.status, r.body, r.change, r.tries = op, status, body, change, 0
}

func (r *replies) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	op, code, body, change := r.op, r.status, r.body, r.change
	if op == "" || !strings.HasSuffix(req.Header.Get("X-Amz-Target"), "."+op) {
		r.mu.Unlock()
		return r.RoundTripper.RoundTrip(req)
	}
	r.tries++
	r.mu.Unlock()
	resp, err := r.RoundTripper.RoundTrip(req)
	if err != nil {
		return resp, err
	}
	right, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	if change != nil {
		var answer map[string]any
		if err := json.Unmarshal(right, &answer); err != nil {
			return nil, err
		}
		change(answer)
		b, err := json.Marshal(answer)
		if err != nil {
			return nil, err
		}
		body = string(b)
	}
	var content io.Reader = strings.NewReader(body)
	if head, cut := strings.CutSuffix(body, cutHere); cut {
		content = io.MultiReader(strings.NewReader(head), iotest.ErrReader(io.ErrUnexpectedEOF)) // as net/http has it
	}
	resp.StatusCode, resp.Body, resp.ContentLength = code, io.NopCloser(content), int64(len(body))
	resp.Header.Set("Content-Length", fmt.Sprint(len(body)))
	return resp, nil
}

func repliesOf(f *fixture) (*replies, func(*fixture, *Config)) {
	r := &replies{RoundTripper: f.fake.RoundTripper()}
	return r, func(f *fixture, c *Config) {
		client, err := NewClient(f.t.Context(), ClientOptions{Region: region, Transport: r})
		mustf(f.t, err, "client")
		c.Keys[0].Clients = []*Client{client}
		c.SeedCache = 10
	}
}

// What says success and is not what was asked for is never passed on, nor kept.
func TestWrongAnswersOfKMS(t *testing.T) {
	drop := func(field string) func(map[string]any) { return func(a map[string]any) { delete(a, field) } }
	set := func(field string, v any) func(map[string]any) { return func(a map[string]any) { a[field] = v } }
	for name, c := range map[string]struct {
		op     string
		body   string
		change func(map[string]any)
		class  string
	}{
		"nothing of GenerateDataKey":           {"GenerateDataKey", "", nil, classKMSFault},
		"an empty object of GenerateDataKey":   {"GenerateDataKey", "{}", nil, classKMSFault},
		"GenerateDataKey without a plaintext":  {"GenerateDataKey", "", drop("Plaintext"), classKMSFault},
		"GenerateDataKey without a ciphertext": {"GenerateDataKey", "", drop("CiphertextBlob"), classKMSFault},
		"GenerateDataKey without a key":        {"GenerateDataKey", "", drop("KeyId"), classKMSFault},
		"GenerateDataKey of another key":       {"GenerateDataKey", "", set("KeyId", exampleARN), classWrongKey},
		"a data key of 16 bytes":               {"GenerateDataKey", "", set("Plaintext", []byte("0123456789abcdef")), classKMSFault},
		"a data key of 33 bytes":               {"GenerateDataKey", "", set("Plaintext", []byte(seed+"0")), classKMSFault},
		"a wrapped key of 449 bytes":           {"GenerateDataKey", "", set("CiphertextBlob", make([]byte, 449)), classKMSFault},
		"nothing of Decrypt":                   {"Decrypt", "", nil, classKMSFault},
		"an empty object of Decrypt":           {"Decrypt", "{}", nil, classKMSFault},
		"Decrypt without a plaintext":          {"Decrypt", "", drop("Plaintext"), classKMSFault},
		"Decrypt with an empty plaintext":      {"Decrypt", "", set("Plaintext", ""), classKMSFault},
		"Decrypt without a key":                {"Decrypt", "", drop("KeyId"), classKMSFault},
		"Decrypt of another key":               {"Decrypt", "", set("KeyId", exampleARN), classWrongKey},
		"Decrypt by the key's ID":              {"Decrypt", "", set("KeyId", "1234abcd-12ab-34cd-56ef-1234567890ab"), classWrongKey},
		"another data key of Decrypt":          {"Decrypt", "", set("Plaintext", []byte(seed)), classInvalidCiphertext},
		"half a data key of Decrypt":           {"Decrypt", "", set("Plaintext", []byte("0123456789abcdef")), classInvalidCiphertext},
		"JSON that ends":                       {"Decrypt", `{"KeyId":`, nil, classKMSFault},
		"no JSON":                              {"Decrypt", "<html>a proxy</html>", nil, classKMSFault},
		"another type":                         {"Decrypt", `{"Plaintext": 7}`, nil, classKMSFault},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fixture) {
				kmsAnswers, through := repliesOf(f)
				f.p = f.plugin(through)
				e := f.probe().mustEncrypt(seed)
				kmsAnswers.set(c.op, 200, c.body, c.change)
				var err error
				if c.op == "Decrypt" {
					var d *kmsapi.DecryptResponse
					d, err = f.p.Decrypt(t.Context(), decryptRequest(e))
					if d != nil {
						t.Errorf("an answer of %d bytes", len(d.Plaintext))
					}
					if n := f.p.cache.lru.Len(); n != 0 {
						t.Errorf("%d answers are kept", n)
					}
				} else {
					_, err = f.encrypt(seed)
				}
				if err == nil || !strings.Contains(f.logs.String(), `"class":"`+c.class+`"`) {
					t.Errorf("error %v, want the class %s:\n%s", err, c.class, f.logs)
				}
				kmsAnswers.set("", 0, "", nil)
				f.wantOpens(f.p, e)
				f.wantOpens(f.p, f.mustEncrypt(seed))
			})
		})
	}
	// Of the earlier format, the plaintext is KMS's own.
	bubble(t, func(t *testing.T, f *fixture) {
		kmsAnswers, through := repliesOf(f)
		f.p = f.plugin(through)
		earlier := directData(f.probe(), f.key.MaterialID())
		for _, body := range []string{"", "{}"} {
			kmsAnswers.set("Decrypt", 200, body, nil)
			if d, err := f.p.Decrypt(t.Context(), decryptRequest(earlier)); err == nil || d != nil {
				t.Errorf("%q became %v", body, d)
			}
		}
	})
}

// DescribeKey too: its silence is no key.
func TestAnEmptyDescription(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		kmsAnswers, through := repliesOf(f)
		f.p = f.plugin(through)
		kmsAnswers.set("DescribeKey", 200, "{}", nil)
		f.probe()
		// It says nothing against the key, which works.
		if now := f.condition(); now != conditionDegraded || f.state().fail.class != classKMSFault {
			t.Errorf("%s, %v", now, f.state().fail)
		}
	})
}

// What is no answer of KMS's is judged by its status, and retried as that asks.
func TestAnswersThatAreNotOfKMS(t *testing.T) {
	const html = "<html><body>a balancer</body></html>"
	for name, c := range map[string]struct {
		status int
		body   string
		class  string
		tries  int
	}{
		"500 with HTML": {500, html, classKMSFault, maxAttempts},
		"502 with HTML": {502, html, classKMSFault, maxAttempts},
		"503 empty":     {503, "", classKMSFault, maxAttempts},
		"429 with HTML": {429, html, classThrottled, maxAttempts},
		"403 with HTML": {403, html, classUnreachable, 1},
		"407 empty":     {407, "", classUnreachable, 1},
		"302":           {302, html, classUnreachable, 1},
		"an answer cut": {200, `{"KeyId":"arn:aws:kms:` + cutHere, classUnreachable, maxAttempts},
		"an error cut":  {400, `{"__type":"Thro` + cutHere, classUnreachable, maxAttempts},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fixture) {
				kmsAnswers, through := repliesOf(f)
				f.p = f.plugin(through)
				e := f.probe().mustEncrypt(seed)
				kmsAnswers.set("Decrypt", c.status, c.body, nil)
				_, err := f.p.Decrypt(t.Context(), decryptRequest(e))
				if err == nil || !strings.Contains(f.logs.String(), `"class":"`+c.class+`"`) {
					t.Errorf("%v, want class %s\n%s", err, c.class, f.logs)
				}
				if kmsAnswers.tries != c.tries {
					t.Errorf("%d tries, want %d", kmsAnswers.tries, c.tries)
				}
			})
		})
	}
}

// An answer without an end is given up, and so are headers without one.
func TestEndlessAnswers(t *testing.T) {
	awsEnv(t)
	var mu sync.Mutex
	sent := 0
	url := listenHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		if r.Header.Get("X-Amz-Target") == "TrentService.DescribeKey" {
			for i := range 1000 {
				w.Header().Set(fmt.Sprintf("X-Long-%d", i), strings.Repeat("x", 1000))
			}
		}
		_, _ = io.WriteString(w, `{"Plaintext":"`)
		chunk := bytes.Repeat([]byte("A"), 32<<10)
		for r.Context().Err() == nil {
			n, err := w.Write(chunk)
			mu.Lock()
			sent += n
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}))
	client, err := NewClient(t.Context(), ClientOptions{Region: region, EndpointURL: url})
	mustf(t, err, "client")
	id := exampleARN
	_, err = client.Decrypt(t.Context(), &kms.DecryptInput{KeyId: &id, CiphertextBlob: []byte("x")})
	if f := classify(t.Context(), "Decrypt", err); f.class != classKMSFault {
		t.Errorf("class %s: %v", f.class, err)
	}
	mu.Lock()
	if sent > 16<<20 { // what sockets hold, and not gigabytes
		t.Errorf("%d bytes were sent", sent)
	}
	mu.Unlock()
	_, err = client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
	if f := classify(t.Context(), "DescribeKey", err); err == nil || f.refusal() {
		t.Errorf("headers without end: %v", err)
	}
}

// Slow but well: each attempt but the last is given up after a second, and the
// last has what is left.
func TestSlowKMS(t *testing.T) {
	for _, latency := range []time.Duration{900 * time.Millisecond, 1300 * time.Millisecond, 1400 * time.Millisecond} {
		bubble(t, func(t *testing.T, f *fixture) {
			e := f.probe().mustEncrypt(seed)
			f.fake.Latency(latency)
			f.probe().wantOK(f.currentKeyID())
			if now := f.condition(); now != conditionOK {
				t.Errorf("%s: the key is %s", latency, now)
			}
			for range 100 { // more than a client's purse of retries would last
				f.wantOpens(f.p, e)
			}
			f.probe()
			f.wantOpens(f.p, f.mustEncrypt(seed))
		})
	}
}

// Callers that have gone hold no place, and no call to KMS.
func TestCancelledDecryptsGiveTheirPlacesBack(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe()
		reqs := distinct(f, maxInFlight)
		last := decryptRequest(f.mustEncrypt(seed))
		f.fake.Hang("Decrypt", maxInFlight)
		ctx, cancel := context.WithCancel(t.Context())
		var gone sync.WaitGroup
		for _, req := range reqs {
			gone.Go(func() {
				if _, err := f.p.Decrypt(ctx, req); status.Code(err) != codes.Canceled {
					t.Errorf("a call that was canceled: %v", err)
				}
			})
		}
		synctest.Wait()
		left := time.Now()
		cancel()
		gone.Wait()
		if took := time.Since(left); took != 0 {
			t.Errorf("the work went on for %s after its last caller had left", took)
		}
		synctest.Wait()
		if n := len(f.p.slots); n != 0 {
			t.Errorf("%d places are taken by nobody", n)
		}
		began := time.Now()
		if _, err := f.p.Decrypt(t.Context(), last); err != nil || time.Since(began) != 0 {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		if f.p.sealing().endpoints[0].suspect.Load() || f.condition() != conditionOK {
			t.Error("callers that went count against KMS")
		}
	})
}

// One that stays keeps the flight, led by it or not.
func TestAFlightGoesOnForItsLastCaller(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		req := decryptRequest(f.probe().mustEncrypt(seed))
		f.fake.Latency(time.Second / 2)
		before := f.fake.Count("Decrypt")
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*10*time.Millisecond)
				defer cancel()
				if i == 9 {
					ctx = t.Context()
				}
				_, err := f.p.Decrypt(ctx, req)
				if want := map[bool]codes.Code{true: codes.OK, false: codes.DeadlineExceeded}[i == 9]; status.Code(err) != want {
					t.Errorf("caller %d: %v", i, err)
				}
			})
		}
		all.Wait()
		if n := f.fake.Count("Decrypt") - before; n != 1 {
			t.Errorf("%d KMS calls", n)
		}
	})
}

// A burst waits as long as its budget lasts.
func TestALargeBurstPasses(t *testing.T) {
	bubble(t, func(_ *testing.T, f *fixture) {
		f.probe()
		reqs := distinct(f, 1500)
		f.fake.Latency(50 * time.Millisecond) // 24 rounds of 64: 1.2 seconds
		f.wantBurst(reqs)
	})
}

// DescribeKey and the round trip disagree: Encrypt fails, so the key is not ok.
func TestADisagreementShows(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe().probe()
		f.key.Rotate()
		f.fake.Stale("DescribeKey", kmsfake.Always)
		f.probe()
		if _, err := f.encrypt(seed); status.Code(err) != codes.Unavailable {
			t.Fatalf("encrypt: %v", err)
		}
		if now := f.condition(); now != conditionDegraded {
			t.Errorf("the key is %s", now)
		}
		if _, words := f.p.Ready(); !strings.Contains(words, "rotating") {
			t.Errorf("readyz says %q", words)
		}
		if all := scrape(t, f.p); !strings.Contains(all, `state="degraded"} 1`) || !strings.Contains(all, `class="rotating",`) {
			t.Error("the metrics do not show it")
		}
		if !strings.Contains(f.logs.String(), `"key state: the KMS key is rotating`) {
			t.Error("the log does not say it")
		}
		f.fake.Stale("DescribeKey", 0)
		f.probe().probe()
		if now := f.condition(); now != conditionOK {
			t.Errorf("after the end the key is %s", now)
		}
	})
}

// Probes are good, calls are not: what callers meet counts, until one is served
// or none has failed for a while.
func TestWhatCallsMeetCounts(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		e := f.probe().mustEncrypt(seed)
		fails := func(n int) {
			for range n {
				f.fake.FailNext("Decrypt", 1, &kmsfake.Error{Code: "AccessDeniedException"})
				if _, err := f.p.Decrypt(t.Context(), decryptRequest(e)); err == nil {
					t.Fatal("decrypted")
				}
			}
		}
		fails(troubled - 1)
		if now := f.condition(); now != conditionOK {
			t.Errorf("after %d failures the key is %s", troubled-1, now)
		}
		fails(1)
		f.probe() // good
		if now := f.condition(); now != conditionDegraded {
			t.Errorf("after %d failures the key is %s", troubled, now)
		}
		f.wantOK(f.currentKeyID()) // what is written can be read back, as the probe shows
		if _, words := f.p.Ready(); !strings.Contains(words, "kms:Decrypt") {
			t.Errorf("readyz says %q", words)
		}
		if !strings.Contains(f.logs.String(), "calls fail whatever probes find") {
			t.Error("the log does not say it")
		}
		f.mustEncrypt(seed) // says nothing of Decrypt
		if now := f.condition(); now != conditionDegraded {
			t.Error("an Encrypt takes back what Decrypts meet")
		}
		f.wantOpens(f.p, e)
		if now := f.condition(); now != conditionOK || !strings.Contains(f.logs.String(), "calls work again") {
			t.Errorf("after one that was served the key is %s", now)
		}
		fails(troubled)
		time.Sleep(troubleFor)
		f.probe()
		if now := f.condition(); now != conditionDegraded {
			t.Error("forgotten too soon")
		}
		time.Sleep(time.Nanosecond)
		if now := f.condition(); now != conditionOK {
			t.Error("never forgotten")
		}
		for range 10 * troubled { // callers' own faults
			bad := decryptRequest(e)
			bad.Ciphertext[100] ^= 1
			_, _ = f.p.Decrypt(t.Context(), bad)
			_, _ = f.encrypt("")
		}
		if now := f.condition(); now != conditionOK {
			t.Errorf("what callers do wrong makes the key %s", now)
		}
	})
}

// Without kms:DescribeKey the key can be used, and its rotations are seen.
func TestWithoutDescribeKey(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.fake.Deny("DescribeKey", f.key)
		for range 3 {
			f.probe().wantOK(f.currentKeyID())
			if now := f.condition(); now != conditionDegraded || f.state().fail.class != classPermissionDenied {
				t.Errorf("%s, %v", now, f.state().fail)
			}
			f.wantOpens(f.p, f.mustEncrypt(seed))
			time.Sleep(2 * defaultVouchFor)
			f.key.Rotate()
			f.probe()
		}
		// As long as the material is proven otherwise.
		f.fake.HideMaterialIDs("GenerateDataKey", "Decrypt")
		f.p = f.plugin()
		f.probe().wantNotOK()
		f.fake.HideMaterialIDs()
		f.probe().wantOK(f.currentKeyID())
		f.fake.Allow("DescribeKey", f.key)
		f.probe()
		if now := f.condition(); now != conditionOK {
			t.Errorf("after all: %s", now)
		}
		// An alias must be looked up.
		f.fake.Deny("DescribeKey", f.key)
		f.p = f.plugin(func(f *fixture, c *Config) { c.Keys[0].ID = f.fake.Alias("alias/secrets", f.key) })
		f.probe().wantNotOK()
	})
}

// What answers as KMS chooses request IDs and error codes.
func TestLongWordsOfKMS(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	err := &awshttp.ResponseError{RequestID: long + "\n", ResponseError: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: http.StatusBadRequest}},
		Err:      &smithy.GenericAPIError{Code: "Some\n" + long, Message: contextValue},
	}}
	f := classify(t.Context(), "Decrypt", err)
	if len(f.awsCode) > maxWord || len(f.requestID) > maxWord || len(f.GRPCStatus().Message()) > 1000 || strings.Contains(f.awsCode, "\n") {
		t.Errorf("a code of %d bytes, a request ID of %d", len(f.awsCode), len(f.requestID))
	}
	for word, want := range map[string]string{
		"8f1b6f5e-0000-4000-8000-000000000000": "8f1b6f5e-0000-4000-8000-000000000000",
		"ThrottlingException":                  "ThrottlingException",
		"a b\x00c<d>\"é":                       "abcd",
		"":                                     "",
	} {
		if got := bare(word); got != want {
			t.Errorf("%q becomes %q", word, got)
		}
	}
}

// No file descriptor is left: that is what is said, and not DNS.
func TestNoFileDescriptorIsLeft(t *testing.T) {
	for _, err := range []error{
		&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)},
		&net.DNSError{Err: "dial udp: too many open files", UnwrapErr: os.NewSyscallError("socket", syscall.EMFILE)},
		&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.ENFILE)},
	} {
		if f := unreachable(err); !strings.Contains(f.text, "file descriptor") {
			t.Errorf("%v: %s", err, f.text)
		}
	}
}

func TestSocketIsRemovedIfItIsOurs(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	first, err := Listen(path, Owner{Mode: 0o600})
	mustf(t, err, "listen")
	mustf(t, os.Remove(path), "remove") // by hand, as to get rid of a hung one
	second, err := Listen(path, Owner{Mode: 0o600})
	mustf(t, err, "the path is free")
	mustf(t, first.Close(), "close")
	if _, err := net.Dial("unix", path); err != nil {
		t.Errorf("the other instance's socket is gone: %v", err)
	}
	mustf(t, second.Close(), "close")
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("its own socket is left: %v", err)
	}

	// Not even a file that took its place.
	third, err := Listen(path, Owner{Mode: 0o600})
	mustf(t, err, "listen")
	mustf(t, os.Remove(path), "remove")
	mustf(t, os.WriteFile(path, []byte("precious"), 0o600), "write")
	mustf(t, third.Close(), "close")
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file is gone: %v", err)
	}
}

func TestAForeignLockOnTheFolder(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	unlock, err := lockFolder(path)
	mustf(t, err, "lock")
	_, err = Listen(path, Owner{Mode: 0o600})
	if err == nil || !strings.Contains(err.Error(), filepath.Dir(path)) || !strings.Contains(hintOf(err), "lslocks") {
		t.Errorf("error %v, hint %q", err, hintOf(err))
	}
	unlock()
	l, err := Listen(path, Owner{Mode: 0o600})
	mustf(t, err, "after it")
	_ = l.Close()
}

// The same with a limit that is really used up, in a process of its own.
func TestTheFileLimit(t *testing.T) {
	const variable = "KMS_PLUGIN_TEST_FILES"
	if os.Getenv(variable) == "" {
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTheFileLimit$", "-test.v")
		c.Env = append(os.Environ(), variable+"=1")
		if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	awsEnv(t)
	limit := syscall.Rlimit{Cur: 32, Max: 32}
	mustf(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit), "limit")
	for _, endpoint := range []string{"http://127.0.0.1:1", "https://kms.eu-central-1.amazonaws.com"} {
		client, err := NewClient(t.Context(), ClientOptions{Region: region, EndpointURL: endpoint})
		mustf(t, err, "client")
		var used []*os.File
		for {
			f, err := os.Open(os.DevNull)
			if err != nil {
				break
			}
			used = append(used, f)
		}
		id := exampleARN
		_, err = client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
		if f := classify(t.Context(), "DescribeKey", err); f.class != classUnreachable || !strings.Contains(f.text, "file descriptor") {
			t.Errorf("%s: %s: %v", endpoint, f.text, err)
		}
		for _, f := range used {
			_ = f.Close()
		}
	}
}
