package manifests_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/ekskms/ekskms/internal/reveal"
	"github.com/ekskms/ekskms/test/e2e/cluster"
)

const hidden = "correct-horse-battery"

// vault is a namespace with a secret, on an API server without a guard.
func vault(t *testing.T) *apiserver {
	t.Helper()
	a := newAPIServer(t)
	must(t, a.Kubernetes().CoreV1().Namespaces().Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "vault"}})
	must(t, a.Kubernetes().CoreV1().Secrets("vault").Create, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "database"}, Data: map[string][]byte{"password": []byte(hidden)},
	})
	return a
}

func must[T any](t *testing.T, create func(context.Context, T, metav1.CreateOptions) (T, error), object T) {
	t.Helper()
	if _, err := create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// give binds a user to one rule, everywhere.
func (a *apiserver) give(user string, rule rbacv1.PolicyRule) {
	a.t.Helper()
	must(a.t, a.Kubernetes().RbacV1().ClusterRoles().Create, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: user}, Rules: []rbacv1.PolicyRule{rule}})
	must(a.t, a.Kubernetes().RbacV1().ClusterRoleBindings().Create, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
	})
}

// request is one to the secrets of the namespace, which nothing but its answer is read of.
func request(ctx context.Context, client *kubernetes.Clientset, method, name, query, body string) (string, error) {
	path := "/api/v1/namespaces/vault/secrets"
	if name != "" {
		path += "/" + name
	}
	r := client.CoreV1().RESTClient().Verb(method).RequestURI(path + "?" + query)
	if body != "" {
		kind := "application/json"
		if method == http.MethodPatch {
			kind = "application/merge-patch+json"
		}
		r = r.Body([]byte(body)).SetHeader("Content-Type", kind)
	}
	answer, err := r.SetHeader("Accept", "application/json").Do(ctx).Raw()
	return string(answer), err
}

// TestRevealingVerbs: with each of the verbs alone somebody learns what is in a secret,
// without a trace in it; with the one other that secrets have, nobody does.
func TestRevealingVerbs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := vault(t)
	resources, err := a.Kubernetes().Discovery().ServerResourcesForGroupVersion("v1")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(resources.APIResources, func(r metav1.APIResource) bool { return r.Name == "secrets" })
	if want := slices.Sorted(slices.Values(append(reveal.Names(), "create"))); !slices.Equal(slices.Sorted(slices.Values([]string(resources.APIResources[i].Verbs))), want) {
		t.Errorf("secrets have the verbs %v, want %v", resources.APIResources[i].Verbs, want)
	}
	encoded := base64.StdEncoding.EncodeToString([]byte(hidden))
	guess := func(value string) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"database"},"data":{"password":%q}}`, base64.StdEncoding.EncodeToString([]byte(value)))
	}
	type try struct{ method, name, query, body string }
	attacks := map[string][]try{
		"get":   {{http.MethodGet, "database", "", ""}},
		"list":  {{http.MethodGet, "", "", ""}},
		"watch": {{http.MethodGet, "", "watch=true&timeoutSeconds=1", ""}},
		"delete": {
			{http.MethodDelete, "database", "dryRun=All&propagationPolicy=Foreground", ""},
			{http.MethodDelete, "database", "dryRun=All&propagationPolicy=Orphan", ""},
		},
		"deletecollection": {{http.MethodDelete, "", "dryRun=All", ""}},
		"patch":            {{http.MethodPatch, "database", "dryRun=All", `{}`}},
	}
	for _, verb := range append(reveal.Names(), "create") {
		user := verb + "-alone"
		a.give(user, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{verb}})
		client, _ := a.as(user)
		cluster.Eventually(t, "the right is there", func() error {
			attributes := &authorizationv1.ResourceAttributes{Namespace: "vault", Verb: verb, Resource: "secrets"}
			review, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
				Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: attributes},
			}, metav1.CreateOptions{})
			if err == nil && !review.Status.Allowed {
				err = errors.New(review.Status.Reason)
			}
			return err
		})
		for _, try := range attacks[verb] {
			answer, err := request(ctx, client, try.method, try.name, try.query, try.body)
			if err != nil || !strings.Contains(answer, encoded) {
				t.Errorf("%s: %s %s does not show the secret: %v, %s", verb, try.method, try.query, err, answer)
			}
		}
		if verb == "update" {
			right, err := request(ctx, client, http.MethodPut, "database", "dryRun=All&fieldManager=guess", guess(hidden))
			wrong, err2 := request(ctx, client, http.MethodPut, "database", "dryRun=All&fieldManager=guess", guess("wrong"))
			if err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			if strings.Contains(right, `"manager":"guess"`) || !strings.Contains(wrong, `"manager":"guess"`) {
				t.Errorf("update: a right guess does not differ from a wrong one:\n%s\n%s", right, wrong)
			}
		}
		if verb == "create" {
			answer, err := request(ctx, client, http.MethodPost, "", "dryRun=All", guess("other"))
			if !apierrors.IsAlreadyExists(err) || strings.Contains(answer, encoded) {
				t.Errorf("create: %v, %s", err, answer)
			}
		}
		// Each of the others is refused: it is this verb that shows it.
		for other, tries := range attacks {
			if other == verb {
				continue
			}
			for _, try := range tries {
				if answer, err := request(ctx, client, try.method, try.name, try.query, try.body); !apierrors.IsForbidden(err) || strings.Contains(answer, encoded) {
					t.Errorf("%s alone: %s: %v", verb, other, err)
				}
			}
		}
	}
	secret, err := a.Kubernetes().CoreV1().Secrets("vault").Get(ctx, "database", metav1.GetOptions{})
	if err != nil || string(secret.Data["password"]) != hidden {
		t.Errorf("an attack has left a trace: %v", err)
	}
}

// TestRoads: what can be tried without nodes of the rights that lead to secrets.
func TestRoads(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := vault(t)
	must(t, a.Kubernetes().CoreV1().ServiceAccounts("vault").Create, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "reader"}})
	must(t, a.Kubernetes().RbacV1().RoleBindings("vault").Create, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "vault", Name: "reader"}},
	})
	all := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"}
	read := func(client kubernetes.Interface) error {
		secret, err := client.CoreV1().Secrets("vault").Get(ctx, "database", metav1.GetOptions{})
		if err == nil && string(secret.Data["password"]) != hidden {
			return fmt.Errorf("it is empty")
		}
		return err
	}
	tried := map[string]bool{}
	for name, c := range map[string]struct {
		rule rbacv1.PolicyRule
		road func(client *kubernetes.Clientset, user string) (kubernetes.Interface, error)
	}{
		"impersonate": {
			rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"serviceaccounts"}, Verbs: []string{"impersonate"}},
			func(_ *kubernetes.Clientset, user string) (kubernetes.Interface, error) {
				config := a.ConfigOf(user)
				config.Impersonate.UserName = "system:serviceaccount:vault:reader"
				client, err := kubernetes.NewForConfig(config)
				if err != nil {
					return nil, err
				}
				return client, read(client)
			},
		},
		"serviceaccounts/token": {
			rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"}, Verbs: []string{"create"}},
			func(client *kubernetes.Clientset, _ string) (kubernetes.Interface, error) {
				token, err := client.CoreV1().ServiceAccounts("vault").CreateToken(ctx, "reader", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
				if err != nil {
					return nil, err
				}
				return kubernetes.NewForConfig(a.ConfigWithToken(token.Status.Token))
			},
		},
		"escalate": {
			rbacv1.PolicyRule{APIGroups: []string{rbacv1.GroupName}, Resources: []string{"clusterroles"}, Verbs: []string{"escalate", "update", "get"}},
			func(client *kubernetes.Clientset, user string) (kubernetes.Interface, error) {
				role, err := client.RbacV1().ClusterRoles().Get(ctx, user, metav1.GetOptions{})
				if err != nil {
					return nil, err
				}
				role.Rules = append(role.Rules, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"}})
				_, err = client.RbacV1().ClusterRoles().Update(ctx, role, metav1.UpdateOptions{})
				return client, err
			},
		},
		"bind": {
			rbacv1.PolicyRule{APIGroups: []string{rbacv1.GroupName}, Resources: []string{"rolebindings", "clusterroles"}, Verbs: []string{"bind", "create"}},
			func(client *kubernetes.Clientset, user string) (kubernetes.Interface, error) {
				_, err := client.RbacV1().RoleBindings("vault").Create(ctx, &rbacv1.RoleBinding{
					ObjectMeta: metav1.ObjectMeta{Name: user}, RoleRef: all,
					Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
				}, metav1.CreateOptions{})
				if apierrors.IsAlreadyExists(err) { // it was made, and did not count yet
					err = nil
				}
				return client, err
			},
		},
	} {
		user := strings.ReplaceAll(name, "/", "-") + "-road"
		client, _ := a.as(user)
		if err := read(client); !apierrors.IsForbidden(err) {
			t.Errorf("%s: before: %v", name, err)
		}
		if _, err := c.road(client, user); err == nil {
			t.Errorf("%s: the road is open without the right", name)
		}
		a.give(user, c.rule)
		cluster.Eventually(t, name, func() error {
			through, err := c.road(client, user)
			if err != nil {
				return err
			}
			return read(through)
		})
		rule := reveal.Rule{Groups: c.rule.APIGroups, Resources: c.rule.Resources, Verbs: c.rule.Verbs}
		if rule.ReadsSecrets() || len(rule.Roads()) != 1 {
			t.Errorf("%s: reads secrets: %v, roads %+v", name, rule.ReadsSecrets(), rule.Roads())
		}
		tried[name] = true
	}
	if len(tried) != 4 {
		t.Errorf("tried %v", tried)
	}
}

// TestBuiltInRoles: the ClusterRoles that Kubernetes makes and that read secrets, or open
// a road to them, are those that are known, or of its own components.
func TestBuiltInRoles(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	roles, err := a.Kubernetes().RbacV1().ClusterRoles().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, role := range roles.Items {
		reads := slices.ContainsFunc(role.Rules, func(r rbacv1.PolicyRule) bool {
			rule := reveal.Rule{Groups: r.APIGroups, Resources: r.Resources, Names: r.ResourceNames, Verbs: r.Verbs}
			return rule.ReadsSecrets() || len(rule.Roads()) > 0
		})
		// edit and admin get their rules from a controller that does not run here.
		aggregated := role.AggregationRule != nil && slices.ContainsFunc(role.AggregationRule.ClusterRoleSelectors, func(s metav1.LabelSelector) bool {
			return s.MatchLabels["rbac.authorization.k8s.io/aggregate-to-admin"] != "" || s.MatchLabels["rbac.authorization.k8s.io/aggregate-to-edit"] != ""
		})
		if (reads || aggregated) && !strings.HasPrefix(role.Name, "system:") {
			found = append(found, role.Name)
		}
	}
	if slices.Sort(found); !slices.Equal(found, reveal.BuiltIn()) {
		t.Errorf("found %v, want %v", found, reveal.BuiltIn())
	}
}
