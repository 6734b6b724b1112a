package kmsplugin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

// inPod serves the fake over TLS and sets the process up as a pod of its
// cluster.
func inPod(t *testing.T, h http.Handler) (web *httptest.Server, dir string) {
	t.Helper()
	web = httptest.NewUnstartedServer(h)
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.StartTLS()
	t.Cleanup(web.Close)
	return web, setPod(t, web, certificate(web))
}

func certificate(web *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
}

func setPod(t *testing.T, web *httptest.Server, ca []byte) (dir string) {
	t.Helper()
	u, err := url.Parse(web.URL)
	mustf(t, err, "parse")
	t.Setenv("KUBERNETES_SERVICE_HOST", u.Hostname())
	t.Setenv("KUBERNETES_SERVICE_PORT", u.Port())
	dir = serviceAccount(t, kubeToken, ca)
	old := serviceAccountDir
	serviceAccountDir = dir
	t.Cleanup(func() { serviceAccountDir = old })
	return dir
}

func mustInCluster(t *testing.T) *kubernetes {
	t.Helper()
	k, err := inCluster(kubeDeployment)
	mustf(t, err, "in cluster")
	t.Cleanup(k.hangUp)
	return k
}

func TestInCluster(t *testing.T) {
	fake := newKubeFake()
	_, dir := inPod(t, fake)
	k := mustInCluster(t)
	d, err := k.get(t.Context())
	mustf(t, err, "get")
	if d.Metadata.UID != fake.uid || d.Metadata.ResourceVersion != "1" || len(d.Status.Conditions) != 2 || k.namespace != kubeNamespace || k.instance == "" {
		t.Errorf("%+v, %+v", d, k)
	}
	at := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	mustf(t, k.setCondition(t.Context(), d, kubeCondition{Type: conditionType, Status: usableTrue, Reason: "KeyUsable", LastUpdateTime: at, LastTransitionTime: at}), "set condition")
	mustf(t, k.event(t.Context(), d, eventNormal, "KeyUsable", "all is well", at), "event")
	if c := fake.usable(); c.Reason != "KeyUsable" || !c.LastUpdateTime.Equal(at) || len(fake.seen()) != 1 {
		t.Errorf("condition %+v, events %v", c, fake.seen())
	}
	if err := k.setCondition(t.Context(), d, kubeCondition{Type: conditionType}); !isConflict(err) {
		t.Errorf("an old resource version: %v", err)
	}

	// The kubelet replaces the token.
	fake.change(func(k *kubeFake) { k.token = "next" })
	if _, err = k.get(t.Context()); err == nil || !strings.Contains(err.Error(), "token") || strings.Contains(err.Error(), kubeToken) {
		t.Errorf("an old token: %v", err)
	}
	writeFile(t, dir, "token", "next\n")
	_, err = k.get(t.Context())
	mustf(t, err, "the next token")
}

// The CA is read again once a connection fails.
func TestCAIsReadAgain(t *testing.T) {
	fake := newKubeFake()
	web, dir := inPod(t, fake)
	writeFile(t, dir, "ca.crt", string(anotherCA(t)))
	k := mustInCluster(t)
	_, err := k.get(t.Context())
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Fatalf("another CA: %v", err)
	}
	if n := fake.count("get deployments"); n != 0 {
		t.Fatal("the token was sent to whom the CA does not vouch for")
	}
	writeFile(t, dir, "ca.crt", string(certificate(web)))
	_, err = k.get(t.Context())
	mustf(t, err, "the right CA")
}

// anotherCA is the certificate of nobody here.
func anotherCA(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	mustf(t, err, "generate a key")
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)},
		&x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
	mustf(t, err, "make a certificate")
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// Neither a redirect nor a proxy gets to see the token, and what comes back is
// limited.
func TestWhereTheTokenGoes(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s arrives elsewhere, with %q", r.Method, r.URL, r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, "answers 307"},
		"too much": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, endless{}) // until the client hangs up
		}, "over 2 MiB"},
		"no JSON": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, "invalid character"},
		"an error with words": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, r.Header.Get("Authorization"))
		}, "answers 400"},
		"cut off": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		inPod(t, c.answer)
		k := mustInCluster(t)
		dialer, err := k.dialer()
		mustf(t, err, "dialer")
		if dialer.Proxy != nil { // the API server is on loopback here, for which no proxy is asked
			t.Error("a proxy may be used")
		}
		_, err = k.get(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), kubeToken) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// A server that never answers is given up.
func TestKubernetesTimeOut(t *testing.T) {
	bubble(t, func(t *testing.T, _ *fixture) {
		k := newKubeFake().api(t)
		k.transport = func() (http.RoundTripper, error) { return silent{}, nil }
		began := time.Now()
		_, err := k.get(t.Context())
		if err == nil || time.Since(began) != kubeTimeout {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if _, err = k.get(ctx); err == nil || time.Since(began) != time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, context.Cause(r.Context())
}

// Outside of a pod, or in one without a service account, serve says what is
// missing.
func TestReportOnOutsideAPod(t *testing.T) {
	fake := kmsfake.New(region)
	serveFake(t, fake)
	key := fake.NewKey().ARN
	run := func() (int, string) {
		code, _, stderr := runCommand(t.Context(), "serve", "--key", key, "--encryption-context", "a=b", "--listen", "unix://"+filepath.Join(shortDir(t), "s"),
			"--health-listen", "", "--watch-cluster", demoARN, "--report-on", "deployment/kms-plugin")
		return code, stderr
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if code, stderr := run(); code != exitFailed || !strings.Contains(stderr, "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set") || !strings.Contains(stderr, "hint: run the plugin in a pod") {
		t.Errorf("no pod: exit %d, %s", code, stderr)
	}
	for _, name := range []string{"token", "ca.crt", "namespace"} {
		_, dir := inPod(t, newKubeFake())
		mustf(t, os.Remove(filepath.Join(dir, name)), "remove")
		if code, stderr := run(); code != exitFailed || !strings.Contains(stderr, filepath.Join(dir, name)+": no such file") || !strings.Contains(stderr, "hint: the pod needs automountServiceAccountToken: true, or a projected volume") {
			t.Errorf("no %s: exit %d, %s", name, code, stderr)
		}
		writeFile(t, dir, name, "\n")
		if code, stderr := run(); code != exitFailed || !strings.Contains(stderr, name+" is empty") {
			t.Errorf("empty %s: exit %d, %s", name, code, stderr)
		}
	}
	_, dir := inPod(t, newKubeFake())
	writeFile(t, dir, "ca.crt", "no certificate")
	if code, stderr := run(); code != exitFailed || !strings.Contains(stderr, "ca.crt holds no PEM certificate") {
		t.Errorf("a bad CA: exit %d, %s", code, stderr)
	}
}

// An IPv6 address of the API server makes a URL too.
func TestKubernetesURL(t *testing.T) {
	inPod(t, newKubeFake())
	for host, want := range map[string]string{"10.0.0.1": "https://10.0.0.1:443", "fd00::1": "https://[fd00::1]:443"} {
		t.Setenv("KUBERNETES_SERVICE_HOST", host)
		t.Setenv("KUBERNETES_SERVICE_PORT", "443")
		if k := mustInCluster(t); k.url != want {
			t.Errorf("%s: %s", host, k.url)
		}
	}
}

// The whole way, as a user starts it: serve, a Kubernetes API over TLS, a key
// that is disabled and enabled again.
func TestServeReports(t *testing.T) {
	kube := newKubeFake()
	inPod(t, kube)
	fake := kmsfake.New(region)
	serveFake(t, fake)
	key := fake.NewKey()
	key.Grant(eksGrant())
	ctx, stop := context.WithCancel(t.Context())
	logs, done := &syncBuffer{}, make(chan int)
	go func() {
		done <- Run(ctx, []string{"serve", "--key", key.ARN, "--encryption-context", "ekskms:cluster-arn=" + demoARN, "--poll-interval", "1s",
			"--listen", "unix://" + filepath.Join(shortDir(t), "s"), "--health-listen", "", "--watch-cluster", demoARN, "--report-on", "deployment/kms-plugin"},
			strings.NewReader(""), io.Discard, logs)
	}()
	condition := func(want usable) func() bool { return func() bool { return kube.usable().Status == want } }
	eventually(t, "the condition is True", condition(usableTrue))
	key.SetState(kmsfake.Disabled)
	eventually(t, "the condition is False", condition(usableFalse))
	eventually(t, "a Warning", func() bool { return len(kube.told()) == 1 })
	key.SetState(kmsfake.Enabled)
	eventually(t, "the condition is True again", condition(usableTrue))
	eventually(t, "a Normal Event", func() bool { return len(kube.told()) == 2 })
	stop()
	if code := <-done; code != 0 {
		t.Errorf("exit %d", code)
	}
	if all := logs.String(); strings.Contains(all, kubeToken) || strings.Contains(all, demoARN) || !strings.Contains(all, "cluster in danger") {
		t.Errorf("the log:\n%s", all)
	}
}
