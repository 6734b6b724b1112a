package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/ekskms/ekskms/internal/scratch"
)

// Cluster is a control plane.
type Cluster struct {
	t testing.TB
	// Dir is a folder for files of the test. Its path is short, since that of a
	// unix socket may have 107 bytes at most.
	Dir string

	Etcd       *Process
	APIServer  *APIServer
	Controller *Process // kube-controller-manager, not started by itself

	pki      *authority
	etcdPort int
	etcd     *clientv3.Client
	plugins  int
	mapper   *restmapper.DeferredDiscoveryRESTMapper
}

// APIServer is kube-apiserver. What is set here counts from its next start on.
type APIServer struct {
	Process
	port int
	// EncryptionConfig is the path of an EncryptionConfiguration. Default: no
	// encryption.
	EncryptionConfig string
	// Flags are further flags, as --name=value.
	Flags []string

	base []string
}

// New makes a cluster and starts etcd, but not the API server.
func New(t testing.TB) *Cluster {
	t.Helper()
	dir, err := scratch.Dir("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := &Cluster{t: t, Dir: dir, etcdPort: freePort(t)}
	c.pki = newAuthority(t, c.Path("pki"))
	c.pki.server(t)
	c.pki.client(t, "admin", "system:masters")
	c.pki.client(t, "system:kube-controller-manager")
	c.pki.client(t, "service-accounts") // only its key is used, to sign tokens

	peer := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	c.Etcd = &Process{t: t, name: "etcd", args: []string{
		"--name=default", "--data-dir=" + c.Path("etcd"),
		"--listen-client-urls=" + c.EtcdEndpoint(), "--advertise-client-urls=" + c.EtcdEndpoint(),
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer,
		// A test kills processes, never the machine: what was written is in the
		// kernel's cache.
		"--unsafe-no-fsync", "--log-level=warn",
	}}
	c.APIServer = &APIServer{Process: Process{t: t, name: "kube-apiserver"}, port: freePort(t)}
	c.APIServer.base = []string{
		"--etcd-servers=" + c.EtcdEndpoint(),
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", c.APIServer.port),
		"--advertise-address=192.0.2.1", // or it looks for a default route
		"--endpoint-reconciler-type=none",
		"--tls-cert-file=" + c.pki.file("server.crt"), "--tls-private-key-file=" + c.pki.file("server.key"),
		"--client-ca-file=" + c.pki.file("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.pki.file("service-accounts.key"),
		"--service-account-signing-key-file=" + c.pki.file("service-accounts.key"),
		"--service-cluster-ip-range=10.96.0.0/24",
		"--authorization-mode=RBAC",
		"--profiling=false", "--allow-privileged=true",
	}
	// Only what the tests need: service accounts for namespaces, workloads,
	// migrations of stored objects.
	c.Controller = &Process{t: t, name: "kube-controller-manager", args: []string{
		"--kubeconfig=" + c.kubeconfig("system:kube-controller-manager"),
		"--leader-elect=false", "--secure-port=0", "--use-service-account-credentials=true",
		"--service-account-private-key-file=" + c.pki.file("service-accounts.key"),
		"--root-ca-file=" + c.pki.file("ca.crt"),
		"--controllers=" + strings.Join([]string{
			"serviceaccount-controller", "namespace-controller", "garbage-collector-controller",
			"deployment-controller", "replicaset-controller", "daemonset-controller",
			"storage-version-migrator-controller",
		}, ","),
	}}
	c.StartEtcd()
	return c
}

// Path returns a path in the cluster's folder, and makes the folders above it.
func (c *Cluster) Path(elements ...string) string {
	c.t.Helper()
	path := filepath.Join(append([]string{c.Dir}, elements...)...)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		c.t.Fatal(err)
	}
	if len(elements) == 1 && elements[0] == "pki" {
		if err := os.MkdirAll(path, 0o700); err != nil {
			c.t.Fatal(err)
		}
	}
	return path
}

// EtcdEndpoint is the address of etcd.
func (c *Cluster) EtcdEndpoint() string { return fmt.Sprintf("http://127.0.0.1:%d", c.etcdPort) }

// StartEtcd starts etcd and waits until it answers.
func (c *Cluster) StartEtcd() {
	c.t.Helper()
	c.Etcd.start()
	if c.etcd == nil {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{c.EtcdEndpoint()}, DialTimeout: time.Second})
		if err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(func() { _ = client.Close() })
		c.etcd = client
	}
	Eventually(c.t, "etcd answers", func() error {
		if err := c.Etcd.ended(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
		defer cancel()
		_, err := c.etcd.Get(ctx, "health")
		return err
	})
}

// StartAPIServer starts the API server and waits until it is ready.
func (c *Cluster) StartAPIServer() {
	c.t.Helper()
	c.LaunchAPIServer()
	c.APIServerReady()
}

// LaunchAPIServer starts the API server and does not wait.
func (c *Cluster) LaunchAPIServer() {
	c.t.Helper()
	a := c.APIServer
	a.args = append([]string{}, a.base...)
	if a.EncryptionConfig != "" {
		a.args = append(a.args, "--encryption-provider-config="+a.EncryptionConfig)
	}
	a.args = append(a.args, a.Flags...)
	a.start()
}

// APIServerReady waits until the API server is ready.
func (c *Cluster) APIServerReady() {
	c.t.Helper()
	Eventually(c.t, "the API server is ready", func() error {
		if err := c.APIServer.ended(); err != nil {
			return err
		}
		_, err := c.Get("/readyz")
		return err
	})
}

// APIServerServes waits until the API server answers requests. It may do so
// without getting ready, such as when it can't read one of the secrets.
func (c *Cluster) APIServerServes() {
	c.t.Helper()
	Eventually(c.t, "the API server serves", func() error {
		if err := c.APIServer.ended(); err != nil {
			return err
		}
		_, err := c.Get("/api/v1/namespaces/default")
		return err
	})
}

// StartController starts kube-controller-manager, with further flags.
func (c *Cluster) StartController(flags ...string) {
	c.t.Helper()
	c.Controller.args = append(c.Controller.args, flags...)
	c.Controller.start()
}

// Get asks the API server for a path, as the administrator.
func (c *Cluster) Get(path string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	b, err := c.Kubernetes().Discovery().RESTClient().Get().AbsPath(path).DoRaw(ctx)
	return string(b), err
}

// Config is that of a client with the rights of the administrator.
func (c *Cluster) Config() *rest.Config {
	return &rest.Config{
		Host: fmt.Sprintf("https://127.0.0.1:%d", c.APIServer.port),
		TLSClientConfig: rest.TLSClientConfig{
			CAFile: c.pki.file("ca.crt"), CertFile: c.pki.file("admin.crt"), KeyFile: c.pki.file("admin.key"),
		},
		QPS: -1, // no limit
	}
}

// ConfigOf is that of a client with a certificate of its own.
func (c *Cluster) ConfigOf(user string, groups ...string) *rest.Config {
	c.t.Helper()
	c.pki.client(c.t, user, groups...)
	config := c.Config()
	config.CertFile, config.KeyFile = c.pki.file(user+".crt"), c.pki.file(user+".key")
	return config
}

// ConfigWithToken is that of a client with a token.
func (c *Cluster) ConfigWithToken(token string) *rest.Config {
	config := c.Config()
	config.CertFile, config.KeyFile, config.BearerToken = "", "", token
	return config
}

// Kubernetes returns a client with the rights of the administrator.
func (c *Cluster) Kubernetes() *kubernetes.Clientset {
	c.t.Helper()
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}

// Dynamic returns a client for objects of any kind.
func (c *Cluster) Dynamic() *dynamic.DynamicClient {
	c.t.Helper()
	client, err := dynamic.NewForConfig(c.Config())
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.kubeconfig("admin") }

func (c *Cluster) kubeconfig(user string) string {
	c.t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["cluster"] = &clientcmdapi.Cluster{Server: c.Config().Host, CertificateAuthority: c.pki.file("ca.crt")}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificate: c.pki.file(user + ".crt"), ClientKey: c.pki.file(user + ".key")}
	config.Contexts["context"] = &clientcmdapi.Context{Cluster: "cluster", AuthInfo: user}
	config.CurrentContext = "context"
	path := c.Path("kubeconfig-" + user)
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// Stored returns what etcd holds under a prefix of keys, as raw bytes.
func (c *Cluster) Stored(prefix string) map[string][]byte {
	c.t.Helper()
	got, err := c.etcd.Get(c.t.Context(), prefix, clientv3.WithPrefix())
	if err != nil {
		c.t.Fatal(err)
	}
	values := map[string][]byte{}
	for _, kv := range got.Kvs {
		values[string(kv.Key)] = kv.Value
	}
	return values
}

// History returns every value that a key ever had and that etcd still knows.
func (c *Cluster) History(key string) [][]byte {
	c.t.Helper()
	var values [][]byte
	got, err := c.etcd.Get(c.t.Context(), key)
	for err == nil && len(got.Kvs) == 1 {
		kv := got.Kvs[0]
		values = append(values, kv.Value)
		if kv.Version == 1 {
			break
		}
		got, err = c.etcd.Get(c.t.Context(), key, clientv3.WithRev(kv.ModRevision-1))
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return values
}
