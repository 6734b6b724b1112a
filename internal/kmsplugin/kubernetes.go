package kmsplugin

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ekskms/ekskms/internal/hint"
)

// serviceAccountDir is where the kubelet puts what a pod needs to talk to the
// API server. A test may build the binary with another folder
// (-ldflags -X); a relative one is that of the process's working directory.
var serviceAccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

const (
	kubeTimeout = 10 * time.Second // for one request, from dialing to the last byte
	// kubeMaxBody is above what etcd takes of one object (1.5 MiB by default).
	kubeMaxBody  = 2 << 20
	kubeMaxToken = 64 << 10
)

// kubernetes is the API server of the cluster that the plugin's pod runs in, as
// far as the report needs it: three requests about one Deployment. It is written
// out because client-go would double the binary: 15.7 MB become 32.6 MB with its
// typed clients and 19.4 MB with its dynamic one (v0.35.10, the Dockerfile's
// flags), where the target is 19 MB.
//
// It is for one goroutine.
type kubernetes struct {
	url        string // of the API server
	dir        string // of the service account's files
	namespace  string // the pod's own
	deployment string
	instance   string // the pod's name

	// client is made when it is first needed, and again after a failure: the CA
	// may have been replaced.
	client    *http.Client
	transport func() (http.RoundTripper, error)
}

// inCluster finds the API server as client-go does, by what every pod has.
func inCluster(deployment string) (*kubernetes, error) {
	k := &kubernetes{dir: serviceAccountDir, deployment: deployment}
	k.transport = func() (http.RoundTripper, error) { return k.dialer() }
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, hint.New("--report-on: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set, as they are in a pod",
			"run the plugin in a pod of the cluster, or leave --report-on out")
	}
	k.url = "https://" + net.JoinHostPort(host, port)
	const advice = "the pod needs automountServiceAccountToken: true, or a projected volume with token, ca.crt and namespace there"
	for _, name := range []string{"namespace", "token", "ca.crt"} {
		if _, err := k.read(name); err != nil {
			return nil, hint.New("--report-on: "+err.Error(), advice)
		}
	}
	namespace, err := k.read("namespace")
	if err != nil {
		return nil, err
	}
	k.namespace = string(namespace)
	if _, err := k.dialer(); err != nil {
		return nil, hint.New("--report-on: "+err.Error(), advice)
	}
	if k.instance, err = os.Hostname(); err != nil {
		return nil, fmt.Errorf("--report-on: %w", err)
	}
	return k, nil
}

// read takes one of the service account's files. Its content is not in errors.
func (k *kubernetes) read(name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(k.dir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, kubeMaxBody))
	if err != nil {
		return nil, err
	}
	if b = bytes.TrimSpace(b); len(b) == 0 {
		return nil, fmt.Errorf("%s is empty", f.Name())
	}
	return b, nil
}

// dialer trusts the cluster's own CA only, and uses no proxy.
func (k *kubernetes) dialer() (*http.Transport, error) {
	ca, err := k.read("ca.crt")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no PEM certificate", filepath.Join(k.dir, "ca.crt"))
	}
	return &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: kubeTimeout,
		MaxIdleConns:        1,
		IdleConnTimeout:     idleTimeout,
	}, nil
}

// kubeError is an answer of the API server that is no success, in our words: its
// own are not needed, since the three requests are known.
type kubeError struct {
	status int
	text   string
}

func (e *kubeError) Error() string { return e.text }

// isConflict tells that the object has changed since it was read.
func isConflict(err error) bool {
	var e *kubeError
	return errors.As(err, &e) && e.status == http.StatusConflict
}

// request sends one request and decodes the answer into out, unless that is nil.
func (k *kubernetes) request(ctx context.Context, what, method, path, contentType string, in, out any) error {
	if err := k.send(ctx, method, path, contentType, in, out); err != nil {
		var answered *kubeError
		if !errors.As(err, &answered) {
			k.hangUp()
			var u *url.Error
			if errors.As(err, &u) {
				err = u.Err // without the URL, which is no news
			}
			return fmt.Errorf("%s: no answer of the Kubernetes API: %w", what, err)
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (k *kubernetes) send(ctx context.Context, method, path, contentType string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, k.url+path, body)
	if err != nil {
		return err
	}
	// The kubelet replaces the token before it expires: it is read each time.
	token, err := k.read("token")
	if err != nil {
		return err
	}
	if len(token) > kubeMaxToken {
		return errors.New("the service account's token is over 64 KiB")
	}
	req.Header.Set("Authorization", "Bearer "+string(token))
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "ekskms-kms-plugin/"+Version().Version)
	if in != nil {
		req.Header.Set("Content-Type", contentType)
	}
	client, err := k.connect()
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, kubeMaxBody+1))
	switch {
	case err != nil:
		return err
	case resp.StatusCode >= http.StatusMultipleChoices: // a redirect is no success either
		return k.refused(resp.StatusCode)
	case len(b) > kubeMaxBody:
		return errors.New("the answer is over 2 MiB")
	case out != nil:
		return json.Unmarshal(b, out)
	}
	return nil
}

func (k *kubernetes) connect() (*http.Client, error) {
	if k.client != nil {
		return k.client, nil
	}
	t, err := k.transport()
	if err != nil {
		return nil, err
	}
	k.client = &http.Client{
		Transport: t,
		Timeout:   kubeTimeout,
		// The API server does not redirect these, and the token is not taken
		// where somebody else points to.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return k.client, nil
}

// hangUp forgets connections and CA.
func (k *kubernetes) hangUp() {
	if k.client != nil {
		k.client.CloseIdleConnections()
		k.client = nil
	}
}

func (k *kubernetes) refused(status int) error {
	text := fmt.Sprintf("the Kubernetes API answers %d", status)
	switch status {
	case http.StatusUnauthorized:
		text += ": it does not take the service account's token"
	case http.StatusForbidden:
		text += ": the plugin's service account needs a Role in namespace " + k.namespace + " with create on events (core), " +
			"and get on deployments and patch on deployments/status (apps) of " + k.deployment
	case http.StatusNotFound:
		text += ": there is no Deployment " + k.deployment + " in namespace " + k.namespace
	case http.StatusConflict:
		text += ": the Deployment has changed meanwhile"
	}
	return &kubeError{status, text}
}

// deployment is the part of apps/v1 Deployment that the report needs.
type deployment struct {
	Metadata struct {
		UID             string `json:"uid"`
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Status struct {
		Conditions []kubeCondition `json:"conditions"`
	} `json:"status"`
}

// kubeCondition is apps/v1 DeploymentCondition. Kubernetes keeps its times in
// whole seconds.
type kubeCondition struct {
	Type               string    `json:"type"`
	Status             usable    `json:"status"`
	LastUpdateTime     time.Time `json:"lastUpdateTime"`
	LastTransitionTime time.Time `json:"lastTransitionTime"`
	Reason             string    `json:"reason"`
	Message            string    `json:"message"`
}

func (k *kubernetes) deploymentPath() string {
	return "/apis/apps/v1/namespaces/" + url.PathEscape(k.namespace) + "/deployments/" + url.PathEscape(k.deployment)
}

func (k *kubernetes) get(ctx context.Context) (d deployment, err error) {
	err = k.request(ctx, "read the Deployment", http.MethodGet, k.deploymentPath(), "", nil, &d)
	return d, err
}

// setCondition writes one condition of the Deployment's status, and leaves the
// others alone: the merge key of conditions is their type. The resource version
// makes it fail with a conflict if anybody has changed the object since d was
// read.
func (k *kubernetes) setCondition(ctx context.Context, d deployment, c kubeCondition) error {
	return k.request(ctx, "write the condition", http.MethodPatch, k.deploymentPath()+"/status?fieldManager=kms-plugin",
		"application/strategic-merge-patch+json", map[string]any{
			"metadata": map[string]any{"resourceVersion": d.Metadata.ResourceVersion},
			"status":   map[string]any{"conditions": []kubeCondition{c}},
		}, nil)
}

// event makes a core/v1 Event. Those of events.k8s.io/v1 are the same objects,
// but must leave lastTimestamp, count and source empty: kubectl get events
// --sort-by=.lastTimestamp would put them last, and an older kubectl describe
// would not say where they are from.
func (k *kubernetes) event(ctx context.Context, d deployment, kind, reason, message string, at time.Time) error {
	seen := at.UTC().Format(time.RFC3339)
	return k.request(ctx, "create an Event", http.MethodPost, "/api/v1/namespaces/"+url.PathEscape(k.namespace)+"/events", "application/json",
		map[string]any{
			"apiVersion": "v1",
			"kind":       "Event",
			"metadata":   map[string]any{"generateName": k.deployment + ".", "namespace": k.namespace},
			"involvedObject": map[string]any{
				"apiVersion": "apps/v1", "kind": "Deployment", "namespace": k.namespace, "name": k.deployment, "uid": d.Metadata.UID,
			},
			"type": kind, "reason": reason, "message": message,
			"firstTimestamp": seen, "lastTimestamp": seen, "count": 1,
			"source":             map[string]any{"component": "kms-plugin"},
			"reportingComponent": "ekskms.github.io/kms-plugin", "reportingInstance": strings.ToValidUTF8(k.instance, "?"),
		}, nil)
}
