// Package watch_test has the plugin that the constructs deploy watch over the key
// of a cluster, and looks where people look: at the Deployment, its Events, the
// log and the metrics.
package watch_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/ekskms/ekskms/internal/kmsfake"
	"github.com/ekskms/ekskms/test/e2e/cluster"
)

const (
	namespace = "ekskms-system"
	name      = "kms-plugin"
	condition = "ekskms.github.io/KeyUsable"
	eks       = "payments" // the cluster that is watched
)

// world is a cluster with the default bundle on it, and both of its plugin pods.
type world struct {
	*cluster.Cluster
	t        *testing.T
	kms      *cluster.KMS
	key      *kmsfake.Key
	replicas []*cluster.Plugin
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Cluster: cluster.New(t), t: t, kms: cluster.NewKMS(t)}
	w.key = w.kms.NewKey()
	config := filepath.Join(t.TempDir(), "ekskms.yaml")
	if err := os.WriteFile(config, []byte("clusters:\n  - name: "+eks+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.StartAPIServer()
	w.StartController()
	for _, o := range cluster.Synthesize(t, config, w.key.ARN) {
		if _, err := w.Apply(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		// The arguments are those that the Deployment has, but for what this
		// machine can't give and for the pace.
		args := w.deployment().Spec.Template.Spec.Containers[0].Args
		args = without(without(args, "--listen"), "--health-listen")
		args = append(slices.Clone(args[1:]), "--poll-interval", "1s")
		plugin := w.NewPlugin(w.kms, args...)
		plugin.InPod(w.Cluster, namespace, name)
		w.replicas = append(w.replicas, plugin)
	}
	return w
}

// without takes a flag and its value out.
func without(args []string, flag string) []string {
	i := slices.Index(args, flag)
	return slices.Concat(args[:i], args[i+2:])
}

func (w *world) deployment() *appsv1.Deployment {
	w.t.Helper()
	d, err := w.Kubernetes().AppsV1().Deployments(namespace).Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// says waits for the condition.
func (w *world) says(status corev1.ConditionStatus, reason string) appsv1.DeploymentCondition {
	w.t.Helper()
	var found appsv1.DeploymentCondition
	cluster.Eventually(w.t, fmt.Sprintf("the condition is %s, %s", status, reason), func() error {
		for _, c := range w.deployment().Status.Conditions {
			if c.Type == condition {
				found = c
			}
		}
		if found.Status != status || found.Reason != reason {
			return fmt.Errorf("it is %s, %s: %s", found.Status, found.Reason, found.Message)
		}
		return nil
	})
	return found
}

// event waits for one of a reason.
func (w *world) event(kind, reason string) corev1.Event {
	w.t.Helper()
	var found *corev1.Event
	cluster.Eventually(w.t, fmt.Sprintf("there is an Event %s %s", kind, reason), func() error {
		events, err := w.Kubernetes().CoreV1().Events(namespace).List(w.t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Type == kind && e.Reason == reason && e.InvolvedObject.Kind == "Deployment" {
				found = &e
				return nil
			}
		}
		return errors.New("there is none")
	})
	if found.InvolvedObject.UID != w.deployment().UID {
		w.t.Errorf("the Event is not of the Deployment %s", name)
	}
	return *found
}

// metric returns the lines of a metric of a replica.
func metric(t *testing.T, p *cluster.Plugin, name string) string {
	t.Helper()
	answer, err := http.Get("http://" + p.Health + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, name) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}

func (w *world) kubectl(args ...string) string {
	w.t.Helper()
	out, err := exec.CommandContext(w.t.Context(), cluster.Binary(w.t, "kubectl"), append([]string{"--kubeconfig", w.Kubeconfig()}, args...)...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestWatch: whatever happens to the key of the EKS cluster is said within a few
// polls, wherever somebody may look, with the cluster's name and the way back.
func TestWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	grant := w.key.Grant(kmsfake.Grant{
		Name: "eks-grant-" + eks, GranteePrincipal: "eks." + cluster.Region + ".amazonaws.com", Service: true,
		Operations: []string{"Decrypt", "Encrypt"},
	})
	for _, p := range w.replicas {
		p.Start()
	}
	w.says(corev1.ConditionTrue, "KeyUsable")
	for _, p := range w.replicas {
		if got := metric(t, p, "ekskms_plugin_cluster_in_danger"); !strings.HasSuffix(got, "} 0") {
			t.Errorf("metric %q, want 0", got)
		}
	}

	restore := func() {
		t.Helper()
		w.says(corev1.ConditionTrue, "KeyUsable")
		w.event("Normal", "KeyUsable")
		if err := w.Kubernetes().CoreV1().Events(namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		reason, wayBack string
		harm, fix       func()
	}{
		{"KeyDisabled", "aws kms enable-key",
			func() { w.key.SetState(kmsfake.Disabled) }, func() { w.key.SetState(kmsfake.Enabled) }},
		{"KeyPendingDeletion", "aws kms cancel-key-deletion",
			func() { w.key.SetState(kmsfake.PendingDeletion) }, func() { w.key.SetState(kmsfake.Enabled) }},
		{"AccessDenied", "deploy the stack again",
			func() { w.kms.Deny("GenerateDataKey", w.key) }, func() { w.kms.Allow("GenerateDataKey", w.key) }},
		{"EKSGrantMissing", "back up all objects",
			func() { w.key.Revoke(grant) }, func() {
				w.key.Grant(kmsfake.Grant{Name: "eks-grant-" + eks, GranteePrincipal: "eks." + cluster.Region + ".amazonaws.com",
					Service: true, Operations: []string{"Decrypt", "Encrypt"}})
			}},
	} {
		c.harm()
		said := w.says(corev1.ConditionFalse, c.reason)
		for where, text := range map[string]string{
			"the condition":    said.Message,
			"the Event":        w.event("Warning", c.reason).Message,
			"kubectl describe": w.kubectl("-n", namespace, "describe", "deployment", name),
			"kubectl events":   w.kubectl("-n", namespace, "get", "events"),
			"the log":          errorLine(t, w.replicas, c.reason),
		} {
			for _, word := range []string{eks, c.wayBack} {
				if !strings.Contains(text, word) {
					t.Errorf("%s: %s does not say %q:\n%s", c.reason, where, word, text)
				}
			}
		}
		for _, p := range w.replicas {
			cluster.Eventually(t, "each replica's metric says it", func() error {
				if got := metric(t, p, "ekskms_plugin_cluster_in_danger"); !strings.HasSuffix(got, "} 1") {
					return errors.New(got)
				}
				return nil
			})
		}
		w.kubectl("-n", namespace, "wait", "--for=condition="+condition+"=false", "--timeout=5s", "deployment/"+name)
		c.fix()
		restore()
	}

	// The Deployment controller writes the same status, and leaves the condition
	// in it.
	generation := w.deployment().Status.ObservedGeneration
	w.kubectl("-n", namespace, "scale", "--replicas=3", "deployment/"+name)
	cluster.Eventually(t, "the Deployment controller has seen the change", func() error {
		if w.deployment().Status.ObservedGeneration == generation {
			return errors.New("not yet")
		}
		return nil
	})
	found := false
	for _, c := range w.deployment().Status.Conditions {
		found = found || c.Type == condition && c.Status == corev1.ConditionTrue
	}
	if !found {
		t.Errorf("the Deployment controller has dropped the condition: %v", w.deployment().Status.Conditions)
	}

	for _, p := range w.replicas {
		if strings.Contains(p.Output(), ":cluster/"+eks) {
			t.Error("the log has the value of the encryption context in it")
		}
		if got := metric(t, p, "ekskms_plugin_report_failures_total"); !strings.HasSuffix(got, " 0") {
			t.Errorf("failures to report: %s", got)
		}
	}
}

// errorLine waits for a log line of level error with the reason.
func errorLine(t *testing.T, replicas []*cluster.Plugin, reason string) string {
	t.Helper()
	var found string
	cluster.Eventually(t, "a log line of level error says "+reason, func() error {
		for _, p := range replicas {
			for line := range strings.Lines(p.Output()) {
				var entry struct{ Level, Reason string }
				if json.Unmarshal([]byte(line), &entry) == nil && entry.Level == "ERROR" && entry.Reason == reason {
					found = line
					return nil
				}
			}
		}
		return errors.New("there is none")
	})
	return found
}

// TestRights: with the plugin's service account one can report, and nothing more.
func TestRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	config := w.Config()
	config.Impersonate.UserName = "system:serviceaccount:" + namespace + ":" + name
	config.Impersonate.Groups = []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	other := w.deployment().DeepCopy()
	other.ObjectMeta = metav1.ObjectMeta{Name: "other", Namespace: namespace}
	if _, err := w.Kubernetes().AppsV1().Deployments(namespace).Create(ctx, other, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	status := []byte(`{"status":{"conditions":[{"type":"x","status":"True"}]}}`)
	replicas := []byte(`{"spec":{"replicas":0}}`)
	dry := metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}
	event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{GenerateName: "e", Namespace: namespace},
		InvolvedObject: corev1.ObjectReference{Kind: "Deployment", Namespace: namespace, Name: name}, Reason: "Test"}
	deployments := client.AppsV1().Deployments(namespace)
	// What RBAC itself says is the whole: more than everybody has anyway.
	rules := func(client *kubernetes.Clientset) []authorizationv1.ResourceRule {
		review := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace}}
		got, err := client.AuthorizationV1().SelfSubjectRulesReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return got.Status.ResourceRules
	}
	stranger := w.Config()
	stranger.Impersonate.UserName = "system:serviceaccount:" + namespace + ":stranger"
	stranger.Impersonate.Groups = config.Impersonate.Groups
	anybody, err := kubernetes.NewForConfig(stranger)
	if err != nil {
		t.Fatal(err)
	}
	everybody := rules(anybody)
	var own []string
	for _, r := range rules(client) {
		if !slices.ContainsFunc(everybody, func(e authorizationv1.ResourceRule) bool { return reflect.DeepEqual(e, r) }) {
			own = append(own, fmt.Sprint(r.Verbs, r.APIGroups, r.Resources, r.ResourceNames))
		}
	}
	slices.Sort(own)
	want := []string{"[create] [] [events] []", "[get] [apps] [deployments] [kms-plugin]", "[patch] [apps] [deployments/status] [kms-plugin]"}
	if !slices.Equal(own, want) {
		t.Errorf("the service account has the rules\n%q, want\n%q", own, want)
	}
	for what, c := range map[string]struct {
		may bool
		try func() error
	}{
		"get its Deployment": {true, func() error { _, err := deployments.Get(ctx, name, metav1.GetOptions{}); return err }},
		"patch its status": {true, func() error {
			_, err := deployments.Patch(ctx, name, types.StrategicMergePatchType, status, dry, "status")
			return err
		}},
		"create Events": {true, func() error {
			_, err := client.CoreV1().Events(namespace).Create(ctx, event, metav1.CreateOptions{DryRun: dry.DryRun})
			return err
		}},
		"patch its spec": {false, func() error {
			_, err := deployments.Patch(ctx, name, types.StrategicMergePatchType, replicas, dry)
			return err
		}},
		"get another Deployment": {false, func() error { _, err := deployments.Get(ctx, "other", metav1.GetOptions{}); return err }},
		"patch another status": {false, func() error {
			_, err := deployments.Patch(ctx, "other", types.StrategicMergePatchType, status, dry, "status")
			return err
		}},
		"list Deployments": {false, func() error { _, err := deployments.List(ctx, metav1.ListOptions{}); return err }},
		"list Events":      {false, func() error { _, err := client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{}); return err }},
		"create Events elsewhere": {false, func() error {
			e := event.DeepCopy()
			e.Namespace, e.InvolvedObject.Namespace = "default", "default"
			_, err := client.CoreV1().Events("default").Create(ctx, e, metav1.CreateOptions{DryRun: dry.DryRun})
			return err
		}},
		"get secrets": {false, func() error { _, err := client.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{}); return err }},
		"list pods":   {false, func() error { _, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{}); return err }},
		"create tokens": {false, func() error {
			_, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			return err
		}},
	} {
		err := c.try()
		if c.may && err != nil {
			t.Errorf("%s: %v, want it allowed", what, err)
		}
		if !c.may && !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v, want it forbidden", what, err)
		}
	}
}
