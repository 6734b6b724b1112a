package manifests_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/ekskms/ekskms/test/e2e/cluster"
)

// as returns a client of somebody else, and the warnings that it gets.
func (a *apiserver) as(user string, groups ...string) (*kubernetes.Clientset, *warnings) {
	a.t.Helper()
	config := a.Config()
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
	w := &warnings{}
	config.WarningHandler = w
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		a.t.Fatal(err)
	}
	return client, w
}

type warnings struct {
	sync.Mutex
	texts []string
}

func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.Lock()
	defer w.Unlock()
	w.texts = append(w.texts, text)
}

func (w *warnings) take() string {
	w.Lock()
	defer w.Unlock()
	all := strings.Join(w.texts, "\n")
	w.texts = nil
	return all
}

const rbacConfig = `clusters:
  - name: rbac
    plugin: {enabled: false}
    secrets:
      readers:
        - name: payments
          namespace: payments
          secretNames: [database, queue]
          groups: [payments-oncall]
          principalArns: [arn:aws:iam::111122223333:role/PaymentsOnCall]
        - name: reporter
          namespace: payments
          secretNames: [database]
          serviceAccounts: [{name: reporter}, {name: nightly, namespace: batch}]
          allowList: true
          allowWatch: true
      guard: `

func rbacFile(t *testing.T, guard string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ekskms.yaml")
	text := rbacConfig + guard + "\n"
	if guard != "off" {
		text += "      guardExemptions: [monitoring, shop/operator]\n"
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// attempts are all that one can try with the secrets of a namespace.
func attempts(client kubernetes.Interface, t *testing.T, namespace string) map[string]func(name string) error {
	ctx := t.Context()
	secrets := client.CoreV1().Secrets(namespace)
	named := func(name string) metav1.ListOptions {
		return metav1.ListOptions{FieldSelector: "metadata.name=" + name}
	}
	object := func(name string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	dry := []string{metav1.DryRunAll}
	return map[string]func(name string) error{
		"get":  func(name string) error { _, err := secrets.Get(ctx, name, metav1.GetOptions{}); return err },
		"list": func(string) error { _, err := secrets.List(ctx, metav1.ListOptions{}); return err },
		"list in all namespaces": func(string) error {
			_, err := client.CoreV1().Secrets("").List(ctx, metav1.ListOptions{})
			return err
		},
		"list by name": func(name string) error { _, err := secrets.List(ctx, named(name)); return err },
		"watch": func(string) error {
			w, err := secrets.Watch(ctx, metav1.ListOptions{})
			if err == nil {
				w.Stop()
			}
			return err
		},
		"watch by name": func(name string) error {
			w, err := secrets.Watch(ctx, named(name))
			if err == nil {
				w.Stop()
			}
			return err
		},
		"create": func(string) error {
			_, err := secrets.Create(ctx, object("new"), metav1.CreateOptions{DryRun: dry})
			return err
		},
		"update": func(name string) error {
			_, err := secrets.Update(ctx, object(name), metav1.UpdateOptions{DryRun: dry})
			return err
		},
		"patch": func(name string) error {
			_, err := secrets.Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{DryRun: dry})
			return err
		},
		"apply": func(name string) error {
			_, err := secrets.Patch(ctx, name, types.ApplyPatchType, fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Secret","metadata":{"name":%q}}`, name),
				metav1.PatchOptions{DryRun: dry, FieldManager: "test"})
			return err
		},
		"delete": func(name string) error { return secrets.Delete(ctx, name, metav1.DeleteOptions{DryRun: dry}) },
		"deletecollection": func(string) error {
			return secrets.DeleteCollection(ctx, metav1.DeleteOptions{DryRun: dry}, metav1.ListOptions{})
		},
	}
}

// TestSecretsRBAC: each reader can do what docs/howto/secrets-rbac.md says, and nothing
// more, with each verb, on each secret, in each namespace.
func TestSecretsRBAC(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := newAPIServer(t)
	a.applyAll(rbacFile(t, "off"))
	admin := a.Kubernetes()
	if _, err := admin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "batch"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	all := []string{"database", "queue", "signing-key"}
	for _, namespace := range []string{"payments", "batch"} {
		for _, name := range all {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string][]byte{"password": []byte("of " + name)}}
			if _, err := admin.CoreV1().Secrets(namespace).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	account := func(namespace, name string) (string, []string) {
		return "system:serviceaccount:" + namespace + ":" + name, []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace}
	}
	reporter, reporterGroups := account("payments", "reporter")
	nightly, nightlyGroups := account("batch", "nightly")
	stranger, strangerGroups := account("payments", "default")
	impostor, impostorGroups := account("batch", "reporter")
	get := map[string]bool{"get": true}
	read := map[string]bool{"get": true, "list by name": true, "watch by name": true}
	for _, c := range []struct {
		who     string
		user    string
		groups  []string
		may     map[string]bool
		secrets []string
	}{
		{"somebody of the readers' group", "alice", []string{"payments-oncall"}, get, []string{"database", "queue"}},
		{"the readers' service account", reporter, reporterGroups, read, []string{"database"}},
		{"their service account in another namespace", nightly, nightlyGroups, read, []string{"database"}},
		{"another service account", stranger, strangerGroups, nil, nil},
		{"a service account of the same name elsewhere", impostor, impostorGroups, nil, nil},
		{"somebody of another group", "bob", []string{"payments"}, nil, nil},
	} {
		client, _ := a.as(c.user, c.groups...)
		granted := 0
		for _, namespace := range []string{"payments", "batch", "kube-system"} {
			for verb, try := range attempts(client, t, namespace) {
				for _, name := range all {
					want := namespace == "payments" && c.may[verb] && slices.Contains(c.secrets, name)
					err := try(name)
					switch {
					case want && err != nil:
						t.Errorf("%s: %s %s/%s: %v, want it allowed", c.who, verb, namespace, name, err)
					case want:
						granted++
					case !apierrors.IsForbidden(err):
						t.Errorf("%s: %s %s/%s: %v, want it forbidden", c.who, verb, namespace, name, err)
					}
				}
			}
		}
		if want := len(c.may) * len(c.secrets); granted != want {
			t.Errorf("%s: %d attempts granted, want %d", c.who, granted, want)
		}
		for what, try := range map[string]func() error{
			"ConfigMaps": func() error {
				_, err := client.CoreV1().ConfigMaps("payments").List(ctx, metav1.ListOptions{})
				return err
			},
			"Roles": func() error { _, err := client.RbacV1().Roles("payments").List(ctx, metav1.ListOptions{}); return err },
			"a pod that mounts a secret": func() error {
				_, err := client.CoreV1().Pods("payments").Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}}, metav1.CreateOptions{})
				return err
			},
			"a token of a service account": func() error {
				_, err := client.CoreV1().ServiceAccounts("payments").CreateToken(ctx, "reporter", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
				return err
			},
		} {
			if err := try(); !apierrors.IsForbidden(err) {
				t.Errorf("%s: %s: %v, want it forbidden", c.who, what, err)
			}
		}
	}

	// Any principal that may get it has it: encryption at rest is against others.
	alice, _ := a.as("alice", "payments-oncall")
	secret, err := alice.CoreV1().Secrets("payments").Get(ctx, "database", metav1.GetOptions{})
	if err != nil || string(secret.Data["password"]) != "of database" {
		t.Errorf("get: %v, %s", err, base64.StdEncoding.EncodeToString(secret.Data["password"]))
	}
}

// guardCase is one of guard_cases.yaml, whose comments say what it means.
type guardCase struct {
	Name, Kind, Namespace, Role string
	Labels                      map[string]string
	Before, Rules               []rbacv1.PolicyRule
	ControlPlane, Denied        bool
}

// role returns it with some rules.
func (c guardCase) role(rules []rbacv1.PolicyRule, labels map[string]string) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: c.Role, Labels: labels}, Rules: rules}
}

// write makes the role, or changes the one that is there.
func (c guardCase) write(ctx context.Context, client kubernetes.Interface, r *rbacv1.ClusterRole, change bool, dry []string) (err error) {
	rbac := client.RbacV1()
	switch {
	case c.Kind == "ClusterRole" && change:
		_, err = rbac.ClusterRoles().Update(ctx, r, metav1.UpdateOptions{DryRun: dry})
	case c.Kind == "ClusterRole":
		_, err = rbac.ClusterRoles().Create(ctx, r, metav1.CreateOptions{DryRun: dry})
	case change:
		_, err = rbac.Roles(c.Namespace).Update(ctx, &rbacv1.Role{ObjectMeta: r.ObjectMeta, Rules: r.Rules}, metav1.UpdateOptions{DryRun: dry})
	default:
		_, err = rbac.Roles(c.Namespace).Create(ctx, &rbacv1.Role{ObjectMeta: r.ObjectMeta, Rules: r.Rules}, metav1.CreateOptions{DryRun: dry})
	}
	return err
}

// TestGuard: a role that gives access to secrets without naming them is refused,
// or warned of, and no other.
func TestGuard(t *testing.T) {
	t.Parallel()
	var cases []guardCase
	readTable(t, "guard_cases.yaml", &cases)
	for i := range cases {
		c := &cases[i]
		if c.Namespace == "" {
			c.Namespace = "payments"
		}
		if c.Role == "" {
			c.Role = fmt.Sprintf("case-%d", i)
		}
	}
	for _, guard := range []string{"deny", "warn"} {
		t.Run(guard, func(t *testing.T) {
			t.Parallel()
			const mark = "without naming them"
			ctx := t.Context()
			a := newAPIServer(t)
			for _, name := range []string{"payments", "shop"} {
				if _, err := a.Kubernetes().CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range cases {
				if c.Before == nil {
					continue
				}
				err := c.write(ctx, a.Kubernetes(), c.role(c.Before, nil), false, nil)
				if err != nil && !apierrors.IsAlreadyExists(err) { // the built-in ones are there
					t.Fatal(err)
				}
			}
			a.applyAll(rbacFile(t, guard))
			// An administrator without system:masters, which is the API server's.
			binding := &rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: "administrators"},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
				Subjects:   []rbacv1.Subject{{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: "administrators"}},
			}
			if _, err := a.Kubernetes().RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			client, warned := a.as("admin", "administrators")
			master, warnedMaster := a.as("master", "system:masters")
			objects := func(c guardCase) (bool, error) {
				who, warnings := client, warned
				if c.ControlPlane {
					who, warnings = master, warnedMaster
				}
				err := c.write(ctx, who, c.role(c.Rules, c.Labels), c.Before != nil, dryRun.DryRun)
				text := warnings.take()
				if guard == "deny" && err != nil && strings.Contains(err.Error(), mark) && strings.Contains(err.Error(), "list the secrets under resourceNames") {
					return true, nil
				}
				return strings.Contains(text, mark), err
			}
			everything := guardCase{Kind: "ClusterRole", Role: "probe", Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}},
			}}
			cluster.Eventually(t, "the guard is in force", func() error {
				if seen, err := objects(everything); !seen || err != nil {
					return errors.Join(errors.New("not yet"), err)
				}
				return nil
			})
			for _, c := range cases {
				if got, err := objects(c); err != nil {
					t.Errorf("%s: %v", c.Name, err)
				} else if got != c.Denied {
					t.Errorf("%s: the guard objects: %v, want %v", c.Name, got, c.Denied)
				}
			}
			if len(cases) < 30 {
				t.Errorf("%d cases: is the table still read rightly?", len(cases))
			}

			// The API server makes its own roles again when it starts.
			const own = "system:controller:expand-controller"
			if err := a.Kubernetes().RbacV1().ClusterRoles().Delete(ctx, own, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			a.APIServer.Stop()
			a.StartAPIServer()
			cluster.Eventually(t, "the API server makes its roles under the guard", func() error {
				_, err := a.Kubernetes().RbacV1().ClusterRoles().Get(ctx, own, metav1.GetOptions{})
				return err
			})
		})
	}
}
