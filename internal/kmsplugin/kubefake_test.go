package kmsplugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	kubeNamespace  = "kms"
	kubeDeployment = "kms-plugin"
	kubeToken      = "token-that-nobody-may-see"
)

// kubeFake is a Kubernetes API server with one Deployment: what the report needs
// of one, and the answers that a real one gives where that matters.
type kubeFake struct {
	mu         sync.Mutex
	token      string
	uid        string
	version    int // the resource version
	conditions []kubeCondition
	events     []kubeEvent
	gone       bool           // the Deployment
	down       bool           // nobody answers
	answer     map[string]int // a status in place of the right answer, by verb and resource
	requests   []string       // verb and resource
	meanwhile  func(*kubeFake)
}

type kubeEvent struct {
	Metadata struct {
		GenerateName string
		Namespace    string
	}
	InvolvedObject struct{ APIVersion, Kind, Namespace, Name, UID string }
	Type           string
	Reason         string
	Message        string
	FirstTimestamp time.Time
	LastTimestamp  time.Time
	Count          int
	Source         struct{ Component string }
	at             time.Time
}

func newKubeFake() *kubeFake {
	return &kubeFake{token: kubeToken, uid: "0b0f5e8e-0000-4000-8000-000000000001", version: 1, answer: map[string]int{}, conditions: []kubeCondition{
		{Type: "Available", Status: usableTrue, Reason: "MinimumReplicasAvailable"},
		{Type: "Progressing", Status: usableTrue, Reason: "NewReplicaSetAvailable"},
	}}
}

func (k *kubeFake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+k.token {
		k.refuse(w, http.StatusUnauthorized, "Unauthorized")
		return
	}
	const base = "/apis/apps/v1/namespaces/" + kubeNamespace + "/deployments/" + kubeDeployment
	var do func() (status int, answer any)
	var what string
	switch r.Method + " " + r.URL.Path {
	case "GET " + base:
		what, do = "get deployments", func() (int, any) { return http.StatusOK, k.object() }
	case "PATCH " + base + "/status":
		what, do = "patch deployments/status", func() (int, any) { return k.patch(r.Header.Get("Content-Type"), body) }
	case "POST /api/v1/namespaces/" + kubeNamespace + "/events":
		what, do = "create events", func() (int, any) { return k.create(body) }
	default:
		k.refuse(w, http.StatusNotFound, r.Method+" "+r.URL.Path)
		return
	}
	k.requests = append(k.requests, what)
	if status := k.answer[what]; status != 0 {
		k.refuse(w, status, `User "system:serviceaccount:kms:kms-plugin" `+what)
		return
	}
	if k.gone && what != "create events" {
		k.refuse(w, http.StatusNotFound, "deployments.apps not found")
		return
	}
	status, answer := do()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
	if what == "get deployments" && k.meanwhile != nil {
		k.meanwhile(k)
	}
}

func (k *kubeFake) refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "status": "Failure", "code": status, "message": message})
}

func (k *kubeFake) object() any {
	return map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"name": kubeDeployment, "namespace": kubeNamespace, "uid": k.uid, "resourceVersion": fmt.Sprint(k.version)},
		"spec":     map[string]any{"replicas": 2},
		"status":   map[string]any{"replicas": 2, "conditions": k.conditions},
	}
}

// patch merges conditions by their type, as the status subresource of a
// Deployment does, and wants the resource version to be the present one if it is
// named.
func (k *kubeFake) patch(contentType string, body []byte) (int, any) {
	if contentType != "application/strategic-merge-patch+json" {
		return http.StatusUnsupportedMediaType, nil
	}
	var p struct {
		Metadata struct{ ResourceVersion string }
		Status   struct{ Conditions []kubeCondition }
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if decoder.Decode(&p) != nil {
		return http.StatusBadRequest, nil
	}
	if v := p.Metadata.ResourceVersion; v != "" && v != fmt.Sprint(k.version) {
		return http.StatusConflict, nil
	}
	for _, c := range p.Status.Conditions {
		k.set(c)
	}
	return http.StatusOK, k.object()
}

func (k *kubeFake) set(c kubeCondition) {
	c.LastUpdateTime, c.LastTransitionTime = c.LastUpdateTime.Truncate(time.Second), c.LastTransitionTime.Truncate(time.Second)
	k.version++
	for i, old := range k.conditions {
		if old.Type == c.Type {
			k.conditions[i] = c
			return
		}
	}
	k.conditions = append(k.conditions, c)
}

func (k *kubeFake) create(body []byte) (int, any) {
	var e kubeEvent
	if json.Unmarshal(body, &e) != nil || e.InvolvedObject.Namespace != kubeNamespace || e.Metadata.Namespace != kubeNamespace ||
		e.Type != eventNormal && e.Type != eventWarning || e.FirstTimestamp.IsZero() {
		return http.StatusUnprocessableEntity, nil
	}
	e.at = time.Now()
	k.events = append(k.events, e)
	return http.StatusCreated, e
}

// change turns the knobs.
func (k *kubeFake) change(f func(*kubeFake)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(k)
}

// usable is our condition; its zero value says that there is none.
func (k *kubeFake) usable() kubeCondition {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.conditions {
		if c.Type == conditionType {
			return c
		}
	}
	return kubeCondition{}
}

func (k *kubeFake) count(what string) (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.requests {
		if r == what {
			n++
		}
	}
	return n
}

// seen are the Events.
func (k *kubeFake) seen() []kubeEvent {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.events)
}

// types are those of the conditions.
func (k *kubeFake) types() (all []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.conditions {
		all = append(all, c.Type)
	}
	return all
}

// told are the Events, by type and reason.
func (k *kubeFake) told() (all []string) {
	for _, e := range k.seen() {
		all = append(all, e.Type+" "+e.Reason)
	}
	return all
}

// RoundTrip answers in process.
func (k *kubeFake) RoundTrip(r *http.Request) (*http.Response, error) {
	k.mu.Lock()
	down := k.down
	k.mu.Unlock()
	if down {
		return nil, errors.New("connection refused")
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	k.ServeHTTP(w, r)
	return w.Result(), nil
}

// api is a client of it, in process.
func (k *kubeFake) api(t testing.TB) *kubernetes {
	t.Helper()
	return &kubernetes{
		url: "https://kubernetes.test", dir: serviceAccount(t, kubeToken, nil), namespace: kubeNamespace, deployment: kubeDeployment, instance: "pod",
		transport: func() (http.RoundTripper, error) { return k, nil },
	}
}

// serviceAccount is a folder as the kubelet mounts it.
func serviceAccount(t testing.TB, token string, ca []byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range map[string]string{"token": token + "\n", "namespace": kubeNamespace, "ca.crt": string(ca)} {
		writeFile(t, dir, name, content)
	}
	return dir
}

func writeFile(t testing.TB, dir, name, content string) {
	t.Helper()
	mustf(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600), "write %s", name)
}

// wantIn wants words in a text.
func wantIn(t testing.TB, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s does not say %q: %s", what, w, text)
		}
	}
}
