package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

// Region is that of the fake AWS KMS.
const Region = "eu-central-1"

// KMS is a fake AWS KMS over HTTP. Its keys survive Stop and Start.
type KMS struct {
	*kmsfake.Server
	t       testing.TB
	address string
	web     *http.Server

	mu       sync.Mutex
	dataKeys [][]byte
}

// NewKMS starts a fake AWS KMS.
func NewKMS(t testing.TB) *KMS {
	t.Helper()
	k := &KMS{Server: kmsfake.New(Region), t: t, address: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	k.Start()
	t.Cleanup(k.Stop)
	return k
}

// Start listens, at the address that it had before.
func (k *KMS) Start() {
	k.t.Helper()
	var l net.Listener
	Eventually(k.t, "the address is free", func() (err error) { // some client may have it for a moment
		l, err = net.Listen("tcp", k.address)
		return err
	})
	k.address, k.web = l.Addr().String(), &http.Server{Handler: k}
	go func(web *http.Server) {
		if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			k.t.Errorf("the fake AWS KMS: %v", err)
		}
	}(k.web)
}

// ServeHTTP answers as the fake does, and remembers the data keys that it makes.
func (k *KMS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".GenerateDataKey") {
		k.Server.ServeHTTP(w, r)
		return
	}
	var body bytes.Buffer
	k.Server.ServeHTTP(tee{w, io.MultiWriter(w, &body)}, r)
	var made struct{ Plaintext []byte }
	if err := json.Unmarshal(body.Bytes(), &made); err != nil {
		k.t.Errorf("the fake AWS KMS: %v", err)
	}
	if len(made.Plaintext) > 0 { // no refusal
		k.mu.Lock()
		k.dataKeys = append(k.dataKeys, made.Plaintext)
		k.mu.Unlock()
	}
}

type tee struct {
	http.ResponseWriter
	to io.Writer
}

func (t tee) Write(b []byte) (int, error) { return t.to.Write(b) }

// DataKeys are all that it has made, in the clear. They must be nowhere else.
func (k *KMS) DataKeys() [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.dataKeys)
}

// Stop cuts all connections.
func (k *KMS) Stop() { _ = k.web.Close() }

// Environment leads the AWS SDK to the fake, and away from everything that the
// machine may have.
func (k *KMS) Environment() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull,
		"AWS_ENDPOINT_URL_KMS=http://" + k.address,
	}
}

// Plugin is kms-plugin serve as a process. What is set here counts from its
// next start on.
type Plugin struct {
	Process
	// Args are those of serve, but for the addresses of its listeners.
	Args   []string
	Socket string
	Health string // host:port of /livez, /readyz and /metrics
}

// NewPlugin makes a plugin that uses this KMS, without starting it. Each has a
// socket of its own.
func (c *Cluster) NewPlugin(kms *KMS, args ...string) *Plugin {
	c.plugins++
	return &Plugin{
		Process: Process{t: c.t, name: "kms-plugin", env: kms.Environment()},
		Args:    args,
		Socket:  c.Path("plugin"+strconv.Itoa(c.plugins), "socket.sock"),
		Health:  fmt.Sprintf("127.0.0.1:%d", freePort(c.t)),
	}
}

// InPod puts the plugin into a pod of the cluster, as far as it can tell: with the
// files of a service account and the address of the API server.
func (p *Plugin) InPod(c *Cluster, namespace, serviceAccount string) {
	p.t.Helper()
	token, err := c.Kubernetes().CoreV1().ServiceAccounts(namespace).CreateToken(p.t.Context(), serviceAccount, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	ca, err := os.ReadFile(c.pki.file("ca.crt"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.name, p.dir = "kms-plugin-in-pod", filepath.Dir(p.Socket)
	for file, content := range map[string]string{"token": token.Status.Token, "namespace": namespace, "ca.crt": string(ca)} {
		if err := os.WriteFile(c.Path(filepath.Base(p.dir), serviceAccountDir, file), []byte(content), 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	p.env = append(p.env, "KUBERNETES_SERVICE_HOST=127.0.0.1", fmt.Sprintf("KUBERNETES_SERVICE_PORT=%d", c.APIServer.port))
}

// Start starts the plugin and waits until its socket is there.
func (p *Plugin) Start() {
	p.t.Helper()
	p.args = append([]string{"serve", "--listen", "unix://" + p.Socket, "--health-listen", p.Health}, p.Args...)
	p.start()
	Eventually(p.t, "the plugin listens", func() error {
		if err := p.ended(); err != nil {
			return err
		}
		_, err := os.Stat(p.Socket)
		return err
	})
}
