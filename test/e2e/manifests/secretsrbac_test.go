package manifests_test

import (
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

// as returns a client of somebody else, and the warnings that he gets.
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
		text += "      guardExemptions: [vault-agent, payments/vault-agent]\n"
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

// TestSecretsRBAC: each reader can do what docs/secrets-rbac.md says, and nothing
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

	// Whoever may get it has it: encryption at rest is against others.
	alice, _ := a.as("alice", "payments-oncall")
	secret, err := alice.CoreV1().Secrets("payments").Get(ctx, "database", metav1.GetOptions{})
	if err != nil || string(secret.Data["password"]) != "of database" {
		t.Errorf("get: %v, %s", err, base64.StdEncoding.EncodeToString(secret.Data["password"]))
	}
}

// TestGuard: a role that gives access to secrets without naming them is refused,
// or warned of, and no other.
func TestGuard(t *testing.T) {
	t.Parallel()
	for _, guard := range []string{"deny", "warn"} {
		t.Run(guard, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			a := newAPIServer(t)
			before := role("before", rule("", "secrets", "get"))
			if _, err := a.Kubernetes().RbacV1().ClusterRoles().Create(ctx, before, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
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
			if _, err := a.Kubernetes().CoreV1().Namespaces().Get(ctx, "payments", metav1.GetOptions{}); err != nil {
				t.Fatal(err)
			}
			client, warned := a.as("admin", "administrators")
			// judge makes a role, as a ClusterRole and as a Role, and says
			// whether the guard took offence.
			offended := func(err error) (bool, error) {
				const mark = "without naming them"
				text := warned.take()
				if err != nil && (guard != "deny" || !strings.Contains(err.Error(), mark)) {
					return false, err
				}
				if guard == "deny" {
					return err != nil, nil
				}
				return strings.Contains(text, mark), nil
			}
			judge := func(r *rbacv1.ClusterRole) (clusterRole, namespaced bool, err error) {
				_, err = client.RbacV1().ClusterRoles().Create(ctx, r, dryRun)
				if clusterRole, err = offended(err); err != nil {
					return
				}
				_, err = client.RbacV1().Roles("payments").Create(ctx, &rbacv1.Role{ObjectMeta: r.ObjectMeta, Rules: r.Rules}, dryRun)
				namespaced, err = offended(err)
				return
			}
			cluster.Eventually(t, "the guard is in force", func() error {
				if one, two, err := judge(role("probe", rule("*", "*", "*"))); !one || !two || err != nil {
					return errors.Join(errors.New("not yet"), err)
				}
				return nil
			})
			for name, c := range map[string]struct {
				role *rbacv1.ClusterRole
				want bool
			}{
				"everything":                      {role("r", rule("*", "*", "*")), true},
				"everything of the core":          {role("r", rule("", "*", "get")), true},
				"get":                             {role("r", rule("", "secrets", "get")), true},
				"list":                            {role("r", rule("", "secrets", "list")), true},
				"watch":                           {role("r", rule("", "secrets", "watch")), true},
				"patch, which answers with it":    {role("r", rule("", "secrets", "patch")), true},
				"deletecollection":                {role("r", rule("", "secrets", "deletecollection")), true},
				"every verb":                      {role("r", rule("", "secrets", "*")), true},
				"every group":                     {role("r", rule("*", "secrets", "get")), true},
				"among others":                    {role("r", rule("apps", "deployments", "get"), rule("", "secrets", "get")), true},
				"the empty name":                  {role("r", rule("", "secrets", "list", "")), true},
				"a name like those of the system": {role("system:mine", rule("", "secrets", "get")), true},
				"named":                           {role("r", rule("", "secrets", "get", "database")), false},
				"create only":                     {role("r", rule("", "secrets", "create")), false},
				"other resources":                 {role("r", rule("", "configmaps", "*")), false},
				"secrets of another group":        {role("r", rule("example.com", "secrets", "get")), false},
				"no rules":                        {role("r"), false},
				"exempt":                          {role("vault-agent", rule("", "secrets", "get")), false},
			} {
				clusterRole, namespaced, err := judge(c.role)
				if err != nil {
					t.Errorf("%s: %v", name, err)
				} else if clusterRole != c.want || namespaced != c.want {
					t.Errorf("%s: ClusterRole %v, Role %v, want %v", name, clusterRole, namespaced, c.want)
				}
			}

			// A role that was there before can be labelled, but not widened.
			label := []byte(`{"metadata":{"labels":{"a":"b"}}}`)
			_, err := client.RbacV1().ClusterRoles().Patch(ctx, "before", types.MergePatchType, label, metav1.PatchOptions{})
			if got, err := offended(err); got || err != nil {
				t.Errorf("a label on an old role: offended %v, error %v", got, err)
			}
			widened := before.DeepCopy()
			widened.Rules = append(widened.Rules, rule("", "secrets", "list"))
			_, err = client.RbacV1().ClusterRoles().Update(ctx, widened, metav1.UpdateOptions{DryRun: dryRun.DryRun})
			if got, err := offended(err); !got || err != nil {
				t.Errorf("an old role that is widened: offended %v, error %v", got, err)
			}
			// The roles of Kubernetes itself are made anew at every start.
			a.APIServer.Stop()
			a.StartAPIServer()
			for _, name := range []string{"cluster-admin", "admin", "edit", "system:controller:expand-controller"} {
				if _, err := a.Kubernetes().RbacV1().ClusterRoles().Get(ctx, name, metav1.GetOptions{}); err != nil {
					t.Error(err)
				}
			}
			if err := a.Kubernetes().RbacV1().ClusterRoles().Delete(ctx, "system:controller:expand-controller", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			a.APIServer.Stop()
			a.StartAPIServer()
			cluster.Eventually(t, "the API server makes its roles under the guard", func() error {
				_, err := a.Kubernetes().RbacV1().ClusterRoles().Get(ctx, "system:controller:expand-controller", metav1.GetOptions{})
				return err
			})
		})
	}
}

func role(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
}

func rule(group, resource, verb string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: []string{verb}, ResourceNames: names}
}
