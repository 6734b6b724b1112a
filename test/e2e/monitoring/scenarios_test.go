package monitoring

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/ekskms/ekskms/internal/kmsfake"
	"github.com/ekskms/ekskms/internal/scratch"
)

const (
	region      = "eu-central-1"
	otherRegion = "eu-west-1"
	seed        = "0123456789abcdef0123456789abcdef"
)

// rig is a fake AWS KMS and the processes before it.
type rig struct {
	binary     string
	dir        string
	fake       *kmsfake.Server
	key        *kmsfake.Key // that seals
	old        *kmsfake.Key // that only decrypts
	replica    *kmsfake.Server
	replicaKey *kmsfake.Key
	agent      string // URL of the credentials
	other      string // URL of the replica
	mislead    atomic.Bool
	grant      string // ID of EKS's grant on the key
	kubernetes *httptest.Server
	forbidden  atomic.Bool // by Kubernetes
	procs      []*process
}

// serve puts a fake behind HTTP on loopback.
func (r *rig) serve(fake *kmsfake.Server) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if r.mislead.Load() {
			// Somebody in between asks for another key.
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			body = bytes.ReplaceAll(body, []byte(r.key.ARN), []byte(r.old.ARN))
			req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		}
		fake.ServeHTTP(w, req)
	}))
}

func (r *rig) encrypt(ctx context.Context) (*kmsapi.EncryptResponse, error) {
	return r.procs[0].api.Encrypt(ctx, &kmsapi.EncryptRequest{Plaintext: []byte(seed), Uid: "uid"})
}

func (r *rig) decrypt(ctx context.Context, ciphertext []byte, keyID string, annotations map[string][]byte) error {
	_, err := r.procs[0].api.Decrypt(ctx, &kmsapi.DecryptRequest{Ciphertext: ciphertext, KeyId: keyID, Annotations: annotations, Uid: "uid"})
	return err
}

// use does what an API server does, twice each.
func (r *rig) use(ctx context.Context) error {
	for _, p := range r.procs {
		if _, err := p.api.Status(ctx, &kmsapi.StatusRequest{}); err != nil {
			return err
		}
	}
	e, err := r.encrypt(ctx)
	if err != nil {
		return err
	}
	for range 2 {
		if err := r.decrypt(ctx, e.Ciphertext, e.KeyId, nil); err != nil {
			return err
		}
	}
	return nil
}

// refused wants calls to fail.
func refused(errs ...error) error {
	if slices.Contains(errs, nil) {
		return errors.New("a call succeeded that had to fail")
	}
	return nil
}

func (r *rig) encryptRefused(ctx context.Context) error {
	_, err := r.encrypt(ctx)
	_, again := r.encrypt(ctx)
	return refused(err, again)
}

// keyID is one that the plugin of a key can have issued: the label key of the
// metrics is its first part.
func (r *rig) keyID(role string) (string, error) {
	s, err := r.procs[0].scrape()
	if err != nil {
		return "", err
	}
	for _, p := range s.find(prefix+"key_state", "role", role) {
		return "v1:" + p.labels.Get("key"), nil // beside it, any ciphertext goes to KMS
	}
	return "", errors.New("no key of role " + role)
}

// scenario is a state of the world, and the alerts that it must raise.
type scenario struct {
	args   func(*rig) []string // besides those of every process
	env    func(*rig) []string
	second func(*rig) (endpoint string, args []string) // of another process
	cold   bool                                        // nothing is well at first
	fault  func(*rig)
	until  func(*scrape) bool                // what the fault leads to
	during func(context.Context, *rig) error // what API servers do then
	once   bool                              // and then it is over
	slow   bool                              // how long it takes matters
	want   []string
}

func failing(code string) func(*rig) {
	return func(r *rig) { r.fake.Fail("*", &kmsfake.Error{Status: 400, Code: code}) }
}

func down(r *rig) {
	r.fake.Fail("*", &kmsfake.Error{Status: 500, Code: "KMSInternalException"})
}

func state(state string) func(*rig) { return func(r *rig) { r.key.SetState(state) } }

func inState(role, state string) func(*scrape) bool {
	return func(s *scrape) bool { return s.inState(role, state) }
}

func failureOf(class string) func(*scrape) bool {
	return func(s *scrape) bool { return len(s.find(prefix+"key_failure", "class", class)) > 0 }
}

func both(a, b func(*scrape) bool) func(*scrape) bool {
	return func(s *scrape) bool { return a(s) && b(s) }
}

// cluster is the EKS cluster that is watched.
const cluster = "arn:aws:eks:" + region + ":111122223333:cluster/demo"

// watch has a cluster watched.
func watch(*rig) []string { return []string{"--watch-cluster", cluster} }

// report has Kubernetes told, too.
func report(r *rig) []string { return append(watch(r), "--report-on", "deployment/kms-plugin") }

// inDanger tells whether the plugin says so of the cluster.
func inDanger(s *scrape) bool { return s.sum(prefix+"cluster_in_danger") == 1 }

// serveKubernetes is an API server with one Deployment. What is written there is
// taken and forgotten.
func (r *rig) serveKubernetes(w http.ResponseWriter, req *http.Request) {
	switch {
	case r.forbidden.Load():
		w.WriteHeader(http.StatusForbidden)
	case req.Method == http.MethodGet:
		_, _ = io.WriteString(w, `{"metadata":{"uid":"1","resourceVersion":"1"},"status":{}}`)
	}
}

// pod makes a process's folder one with a service account, and returns the
// environment of its pod.
func (r *rig) pod(dir string) (env []string, err error) {
	files := map[string][]byte{
		"token": []byte("t"), "namespace": []byte("kms"),
		"ca.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.kubernetes.Certificate().Raw}),
	}
	dir = filepath.Join(dir, serviceAccount)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, err
		}
	}
	host, port, err := net.SplitHostPort(r.kubernetes.Listener.Addr().String())
	return []string{"KUBERNETES_SERVICE_HOST=" + host, "KUBERNETES_SERVICE_PORT=" + port}, err
}

// twoKeys adds a key that only decrypts.
func twoKeys(r *rig) []string { return []string{"--key", r.old.ARN} }

var scenarios = map[string]scenario{
	"healthy": {
		args:   func(r *rig) []string { return append(twoKeys(r), "--seed-cache", "10") },
		until:  both(inState("seal", "ok"), inState("open", "ok")),
		during: func(ctx context.Context, r *rig) error { return r.use(ctx) },
	},
	"disabled": {
		fault: state(kmsfake.Disabled), until: inState("seal", "failed"),
		during: func(ctx context.Context, r *rig) error { return r.encryptRefused(ctx) },
		want:   []string{"KMSPluginKeyFailed", "KMSPluginKeyDisabled", "KMSPluginCallsFail"},
	},
	"pending deletion": {
		fault: state(kmsfake.PendingDeletion), until: inState("seal", "failed"),
		want: []string{"KMSPluginKeyFailed", "KMSPluginKeyPendingDeletion"},
	},
	"permission denied": {
		fault: func(r *rig) { r.fake.Deny("GenerateDataKey", r.key) }, until: inState("seal", "failed"),
		want: []string{"KMSPluginKeyFailed", "KMSPluginPermissionDenied"},
	},
	"creating": {
		fault: state(kmsfake.Creating), until: inState("seal", "failed"),
		want: []string{"KMSPluginKeyFailed", "KMSPluginKeyRefused"},
	},
	"another key described": {
		args: twoKeys, fault: func(r *rig) { r.mislead.Store(true) }, until: inState("seal", "failed"),
		want: []string{"KMSPluginKeyFailed", "KMSPluginEndpointUntrusted"},
	},
	"unknown credentials": {
		fault: func(r *rig) { r.fake.Credentials("another", "", time.Time{}) }, until: failureOf("bad-credentials"),
		want: []string{"KMSPluginKeyDegraded", "KMSPluginNoGoodProbe", "KMSPluginNotAuthenticated"},
	},
	"throttled": {
		fault: failing("ThrottlingException"), until: failureOf("throttled"),
		during: func(ctx context.Context, r *rig) error { return r.encryptRefused(ctx) },
		want:   []string{"KMSPluginKeyDegraded", "KMSPluginNoGoodProbe", "KMSPluginThrottled"},
	},
	"KMS down": {
		fault: down, until: failureOf("kms-fault"),
		during: func(ctx context.Context, r *rig) error { return r.encryptRefused(ctx) },
		want:   []string{"KMSPluginKeyDegraded", "KMSPluginNoGoodProbe", "KMSPluginCallsFail"},
	},
	"KMS down for too long": {
		args:  func(*rig) []string { return []string{"--vouch-for", "3s"} },
		fault: down, until: inState("seal", "failed"),
		want: []string{"KMSPluginKeyFailed"},
	},
	"connections cut": {
		fault: func(r *rig) { r.fake.Cut("*", kmsfake.Always) }, until: failureOf("unreachable"),
		want: []string{"KMSPluginKeyDegraded", "KMSPluginNoGoodProbe", "KMSPluginConnectionChurn"},
	},
	"old key disabled": {
		args:  twoKeys,
		fault: func(r *rig) { r.old.SetState(kmsfake.Disabled) }, until: inState("open", "failed"),
		want: []string{"KMSPluginDecryptOnlyKeyFailed", "KMSPluginKeyDisabled"},
	},
	"old key not to be used": {
		args:  twoKeys,
		fault: func(r *rig) { r.fake.Deny("Decrypt", r.old) }, until: inState("open", "ok"),
		during: func(ctx context.Context, r *rig) error {
			id, err := r.keyID("open")
			if err != nil {
				return err
			}
			return refused(r.decrypt(ctx, []byte("a"), id, nil), r.decrypt(ctx, []byte("b"), id, nil))
		},
		want: []string{"KMSPluginCallsFail"},
	},
	"foreign key_id": {
		until: inState("seal", "ok"), once: true,
		during: func(ctx context.Context, r *rig) error {
			return refused(r.decrypt(ctx, []byte("x"), "v1:00112233445566778899aabbccddeeff", nil))
		},
		want: []string{"KMSPluginForeignKeyID"},
	},
	"foreign annotations": {
		until: inState("seal", "ok"), once: true,
		during: func(ctx context.Context, r *rig) error {
			id, err := r.keyID("seal")
			if err != nil {
				return err
			}
			return refused(r.decrypt(ctx, []byte("x"), id, map[string][]byte{"another.example.com": []byte("x")}))
		},
		want: []string{"KMSPluginForeignKeyID"},
	},
	"tampered ciphertext": {
		until: inState("seal", "ok"), once: true,
		during: func(ctx context.Context, r *rig) error {
			e, err := r.encrypt(ctx)
			if err != nil {
				return err
			}
			e.Ciphertext[len(e.Ciphertext)-1] ^= 1
			return refused(r.decrypt(ctx, e.Ciphertext, e.KeyId, nil))
		},
		want: []string{"KMSPluginInvalidCiphertext"},
	},
	"credentials not renewed": {
		cold: true,
		env: func(r *rig) []string {
			return []string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_CONTAINER_CREDENTIALS_FULL_URI=" + r.agent + "/credentials"}
		},
		until: inState("seal", "ok"),
		want:  []string{"KMSPluginCredentialsNotRenewed"},
	},
	"clock wrong": {
		fault: func(r *rig) { r.fake.Clock(90 * time.Second) },
		until: func(s *scrape) bool { return s.sum(prefix+"clock_skew_seconds") > 60 },
		want:  []string{"KMSPluginClockSkew"},
	},
	"too many calls": {
		until: inState("seal", "ok"), once: true,
		during: func(ctx context.Context, r *rig) error {
			// Three rounds of calls find a place before the others' patience ends.
			// Few calls, and an end with the first refusal: a busy machine must not
			// make late ones time out, which another alert is about.
			r.fake.Latency(700 * time.Millisecond)
			defer r.fake.Latency(0)
			_, err := r.procs[0].scrapeUntil("a call was refused", func(s *scrape) bool {
				ctx, refused := context.WithCancel(ctx)
				defer refused()
				var burst sync.WaitGroup
				for range 256 {
					burst.Go(func() {
						if _, err := r.encrypt(ctx); status.Code(err) == codes.ResourceExhausted {
							refused()
						}
					})
				}
				burst.Wait()
				return s.sum(prefix+"operations_total", "result", "overloaded") > 0
			})
			return err
		},
		want: []string{"KMSPluginOverloaded"},
	},
	"slow KMS": {
		cold:  true,
		fault: func(r *rig) { r.fake.Latency(600 * time.Millisecond) }, until: inState("seal", "ok"), slow: true,
		during: func(ctx context.Context, r *rig) error { return r.use(ctx) },
		want:   []string{"KMSPluginSlowOperations", "KMSPluginSlowKMS"},
	},
	"own Region down": {
		args: func(r *rig) []string {
			config := filepath.Join(r.dir, "config.yaml")
			if err := os.WriteFile(config, []byte("endpoints: {"+otherRegion+": "+r.other+"}\n"), 0o600); err != nil {
				panic(err)
			}
			return []string{"--config", config, "--replica-region", otherRegion}
		},
		fault: down, until: inState("seal", "degraded"), once: true,
		during: func(ctx context.Context, r *rig) error { return r.use(ctx) },
		want:   []string{"KMSPluginKeyDegraded", "KMSPluginFailover"},
	},
	"watched": {
		args: report, until: func(s *scrape) bool { return s.sum(prefix+"eks_grant", "state", "present") == 1 },
		during: func(ctx context.Context, r *rig) error { return r.use(ctx) },
	},
	"watched and disabled": {
		args: report, fault: state(kmsfake.Disabled), until: inDanger,
		want: []string{"KMSPluginKeyFailed", "KMSPluginKeyDisabled", "KMSPluginClusterInDanger"},
	},
	"EKS's grant revoked": {
		args: watch, fault: func(r *rig) { r.key.Revoke(r.grant) }, until: inDanger,
		want: []string{"KMSPluginClusterInDanger"},
	},
	"ListGrants refused": {
		args: watch, fault: func(r *rig) { r.fake.Deny("ListGrants", r.key) },
		until: func(s *scrape) bool { return s.sum(prefix+"eks_grant", "state", "unknown") == 1 },
	},
	"Kubernetes refuses": {
		args: report, fault: func(r *rig) { r.forbidden.Store(true) },
		until: func(s *scrape) bool { return s.sum(prefix+"report_failures_total") > 0 },
		want:  []string{"KMSPluginCannotReport"},
	},
	"rotation seen by one": {
		// The other asks a Region that has not heard of it.
		second: func(r *rig) (string, []string) {
			return r.other, []string{"--key", r.replicaKey.ARN}
		},
		fault: func(r *rig) {
			r.replicaKey.DelayReplication(true)
			r.key.Rotate()
		},
		until: func(s *scrape) bool { return s.sum(prefix+"key_id_changes_total") > 0 },
		want:  []string{"KMSPluginKeyIDDiffers"},
	},
}

// recording is what a scenario's processes showed: before the fault and in it,
// two scrapes each.
type recording struct {
	scenario
	before, in [][2]*scrape // by process; before is empty where it was cold
}

// probed waits for n more probes than a scrape shows.
func probed(since *scrape, n float64) func(*scrape) bool {
	return func(s *scrape) bool { return s.sum(prefix+"probes_total") >= since.sum(prefix+"probes_total")+n }
}

func (sc scenario) record(ctx context.Context, binary string) (rec *recording, err error) {
	r := &rig{binary: binary, fake: kmsfake.New(region), replica: kmsfake.New(otherRegion)}
	r.key, r.old = r.fake.NewMultiRegionKey(), r.fake.NewKey()
	r.replicaKey = r.key.Replicate(r.replica)
	if r.dir, err = scratch.Dir(""); err != nil {
		return nil, err
	}
	defer os.RemoveAll(r.dir)
	kms := r.serve(r.fake)
	defer kms.Close()
	replica := r.serve(r.replica)
	defer replica.Close()
	// Pod Identity's agent, which hands out the same credentials forever.
	credentials := fmt.Sprintf(`{"AccessKeyId":"A","SecretAccessKey":"s","Token":"t","Expiration":%q}`,
		time.Now().Add(2*time.Minute).UTC().Format(time.RFC3339))
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, credentials)
	}))
	defer agent.Close()
	r.agent, r.other = agent.URL, replica.URL
	r.kubernetes = httptest.NewTLSServer(http.HandlerFunc(r.serveKubernetes))
	defer r.kubernetes.Close()
	eks := "eks." + region + ".amazonaws.com"
	r.grant = r.key.Grant(kmsfake.Grant{Name: "eks-grant-demo", GranteePrincipal: eks, RetiringPrincipal: eks, Operations: []string{"Decrypt", "Encrypt"}})

	type start struct{ env, args []string }
	first := start{environment(kms.URL), []string{"--key", r.key.ARN}}
	if sc.args != nil {
		first.args = append(first.args, sc.args(r)...)
	}
	if sc.env != nil {
		first.env = append(first.env, sc.env(r)...)
	}
	starts := []start{first}
	if sc.second != nil {
		endpoint, args := sc.second(r)
		starts = append(starts, start{environment(endpoint), args})
	}
	defer func() {
		for _, p := range r.procs {
			err = errors.Join(err, p.stop())
		}
	}()
	for i, start := range starts {
		dir := filepath.Join(r.dir, fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
		pod, err := r.pod(dir)
		if err != nil {
			return nil, err
		}
		p, err := startProcess(binary, dir, append(start.env, pod...), append(start.args, "--encryption-context", "a=b", "--poll-interval", "1s"))
		if err != nil {
			return nil, err
		}
		r.procs = append(r.procs, p)
	}

	rec = &recording{scenario: sc}
	if !sc.cold {
		well := func(s *scrape) bool {
			return s.inState("seal", "ok") && s.inState("open", "ok") && s.sum(prefix+"probes_total") >= 2
		}
		// What is done for the first time makes connections and series.
		if err := r.use(ctx); err != nil {
			return nil, err
		}
		if rec.before, err = r.twice(ctx, well, r.use); err != nil {
			return nil, err
		}
	}
	if sc.fault != nil {
		sc.fault(r)
	}
	during := func(context.Context) error { return nil }
	if sc.during != nil {
		during = func(ctx context.Context) error { return sc.during(ctx, r) }
	}
	if rec.in, err = r.twice(ctx, sc.until, during); err != nil {
		return nil, err
	}
	// Its probes were quick, so that the test is. In the timeline they are a
	// minute apart, as they are by default.
	for _, pairs := range [][][2]*scrape{rec.before, rec.in} {
		for i := range pairs {
			for j, s := range pairs[i] {
				pairs[i][j] = s.edited(prefix+"poll_interval_seconds", func(sample) (float64, bool) { return 60, true })
			}
		}
	}
	return rec, nil
}

// twice scrapes every process once it is as wanted, and again after something
// was done and the next probes are over.
func (r *rig) twice(ctx context.Context, ok func(*scrape) bool, do func(context.Context) error) (pairs [][2]*scrape, err error) {
	for i, p := range r.procs {
		want := ok
		if i > 0 { // the fault is not its own
			want = inState("seal", "ok")
		}
		a, err := p.scrapeUntil("the state that the scenario wants", want)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, [2]*scrape{a, nil})
	}
	if err := do(ctx); err != nil {
		return nil, err
	}
	for i, p := range r.procs {
		if pairs[i][1], err = p.scrapeUntil("three more probes", probed(pairs[i][0], 3)); err != nil {
			return nil, err
		}
	}
	return pairs, nil
}

// serveHelp is what the binary says about its flags; record reads it.
var serveHelp string

// record runs all scenarios, at once and once for all tests.
var record = sync.OnceValues(func() (map[string]*recording, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	dir, err := scratch.Dir("")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary, err := build(ctx, dir)
	if err != nil {
		return nil, err
	}
	help, err := exec.CommandContext(ctx, binary, "serve", "--help").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("serve --help: %w\n%s", err, help)
	}
	serveHelp = string(help)
	var (
		all     sync.WaitGroup
		mu      sync.Mutex
		errs    []error
		results = map[string]*recording{}
	)
	for name, sc := range scenarios {
		all.Go(func() {
			rec, err := sc.record(ctx, binary)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("scenario %q: %w", name, err))
			}
			results[name] = rec
		})
	}
	all.Wait()
	return results, errors.Join(errs...)
})

func recordings(t *testing.T) map[string]*recording {
	t.Helper()
	all, err := record()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// scrapes are all scrapes of all scenarios.
func scrapes(t *testing.T) (all []*scrape) {
	t.Helper()
	for _, rec := range recordings(t) {
		for _, pair := range slices.Concat(rec.before, rec.in) {
			all = append(all, pair[0], pair[1])
		}
	}
	return all
}
