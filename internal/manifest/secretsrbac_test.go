package manifest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/ekskms/ekskms/internal/reveal"
)

func rbacInput() SecretsRBACInput {
	return SecretsRBACInput{
		Readers: []SecretReader{
			{Name: "api", Namespace: "shop", SecretNames: []string{"db", "tls.example.com"}, Groups: []string{"shop-developers"}},
			{
				Name: "gateway", Namespace: "shop", SecretNames: []string{"tls"},
				ServiceAccounts: []ServiceAccount{{Name: "gateway"}, {Namespace: "edge", Name: "gateway"}},
				AllowList:       true, AllowWatch: true,
			},
			{Name: "system", Namespace: "kube-system", SecretNames: []string{"sh"}, Groups: []string{"ops"}},
		},
		Guard:           GuardDeny,
		GuardExemptions: []string{"monitoring", "shop/operator"},
	}
}

func rbacObjects(t *testing.T, in SecretsRBACInput) []runtime.Object {
	t.Helper()
	objs, err := SecretsRBAC(in)
	if err != nil {
		t.Fatal(err)
	}
	return objs
}

func TestSecretsRBACGolden(t *testing.T) {
	golden(t, "secretsrbac", rbacObjects(t, rbacInput()))
}

// Whatever a reader is allowed, it stays with the secrets that are named.
func TestReadersNameSecrets(t *testing.T) {
	for i := range 4 {
		r := SecretReader{Name: "r", Namespace: "n", SecretNames: []string{"db"}, Groups: []string{"g"}, AllowList: i&1 > 0, AllowWatch: i&2 > 0}
		rule := find[*rbacv1.Role](t, rbacObjects(t, SecretsRBACInput{Readers: []SecretReader{r}})).Rules
		want := []string{"get"}
		if r.AllowList {
			want = append(want, "list")
		}
		if r.AllowWatch {
			want = append(want, "watch")
		}
		if len(rule) != 1 || !slices.Equal(rule[0].Verbs, want) || !slices.Equal(rule[0].ResourceNames, r.SecretNames) ||
			!slices.Equal(rule[0].Resources, []string{"secrets"}) || !slices.Equal(rule[0].APIGroups, []string{""}) {
			t.Errorf("list %t, watch %t: %+v", r.AllowList, r.AllowWatch, rule)
		}
	}
}

// No namespace is made: it would lose the labels that its owner applied. The guard
// comes last, and only where it is asked for.
func TestSecretsRBACObjects(t *testing.T) {
	kinds := func(in SecretsRBACInput) (kinds []string) {
		for _, o := range rbacObjects(t, in) {
			kinds = append(kinds, strings.TrimPrefix(fmt.Sprintf("%T", o), "*v1."))
		}
		return kinds
	}
	in := rbacInput()
	want := []string{"Role", "RoleBinding", "Role", "RoleBinding", "Role", "RoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
	if got := kinds(in); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	in.Guard, in.GuardExemptions = "", nil
	if got := kinds(in); !slices.Equal(got, want[:6]) {
		t.Errorf("without a guard %v", got)
	}
	if got := kinds(SecretsRBACInput{Guard: GuardWarn}); !slices.Equal(got, want[6:]) {
		t.Errorf("without readers %v", got)
	}
	for guard, want := range map[Guard]admissionv1.ValidationAction{GuardWarn: admissionv1.Warn, GuardDeny: admissionv1.Deny} {
		spec := find[*admissionv1.ValidatingAdmissionPolicyBinding](t, rbacObjects(t, SecretsRBACInput{Guard: guard})).Spec
		if spec.PolicyName != GuardName || !slices.Equal(spec.ValidationActions, []admissionv1.ValidationAction{want, admissionv1.Audit}) {
			t.Errorf("%s: %+v", guard, spec)
		}
	}
}

func TestSecretsRBACRefuses(t *testing.T) {
	long := func(n int) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprint("n", i)
		}
		return list
	}
	first := func(change func(*SecretReader)) func(*SecretsRBACInput) {
		return func(in *SecretsRBACInput) { change(&in.Readers[0]) }
	}
	for want, change := range map[string]func(*SecretsRBACInput){
		`Readers is empty and Guard is "off": there is nothing to make`: func(in *SecretsRBACInput) { *in = SecretsRBACInput{} },
		`Guard is "no", must be "off", "warn" or "deny"`:                func(in *SecretsRBACInput) { in.Guard = "no" },
		`GuardExemptions is set, but Guard is "off"`:                    func(in *SecretsRBACInput) { in.Guard = "" },
		`GuardExemptions has 101 items, must have at most 100`:          func(in *SecretsRBACInput) { in.GuardExemptions = long(101) },
		`GuardExemptions[1] is "a", as is item 0: remove one of them`:   func(in *SecretsRBACInput) { in.GuardExemptions = []string{"a", "a"} },
		`GuardExemptions[0] is "a'b": must be the name of a Cluster`:    func(in *SecretsRBACInput) { in.GuardExemptions = []string{"a'b"} },
		`GuardExemptions[0] is "*": must be the name of a ClusterRole`:  func(in *SecretsRBACInput) { in.GuardExemptions = []string{"*"} },
		`GuardExemptions[0] is "a\\": must be the name of a Cluster`:    func(in *SecretsRBACInput) { in.GuardExemptions = []string{`a\`} },
		`GuardExemptions[0] is "N/a": the namespace: `:                  func(in *SecretsRBACInput) { in.GuardExemptions = []string{"N/a"} },
		`GuardExemptions[0] is "n/": must be the name of a ClusterRole`: func(in *SecretsRBACInput) { in.GuardExemptions = []string{"n/"} },
		`Readers has 51 items, must have at most 50`:                    func(in *SecretsRBACInput) { in.Readers = make([]SecretReader, 51) },
		`Readers[1].Name is "api", which is the name of Readers[0]`:     func(in *SecretsRBACInput) { in.Readers[1].Name = "api" },
		`Readers[0].Name is "": `:                                       first(func(r *SecretReader) { r.Name = "" }),
		`Readers[0].Name is "a.b": `:                                    first(func(r *SecretReader) { r.Name = "a.b" }),
		`Readers[0].Namespace is "*": `:                                 first(func(r *SecretReader) { r.Namespace = "*" }),
		`Readers[0].SecretNames is empty: name the secrets`:             first(func(r *SecretReader) { r.SecretNames = nil }),
		`Readers[0].SecretNames has 21 items, must have at most 20`:     first(func(r *SecretReader) { r.SecretNames = long(21) }),
		`Readers[0].SecretNames[0] is "*": RBAC knows no wildcards`:     first(func(r *SecretReader) { r.SecretNames = []string{"*"} }),
		`Readers[0].SecretNames[1] is "": `:                             first(func(r *SecretReader) { r.SecretNames = []string{"a", ""} }),
		`Readers[0].SecretNames[1] is "a", as is item 0`:                first(func(r *SecretReader) { r.SecretNames = []string{"a", "a"} }),
		`Readers[0].Groups is empty, and so is ServiceAccounts`:         first(func(r *SecretReader) { r.Groups = nil }),
		`Readers[0].Groups[0] is "system:authenticated": the prefix sy`: first(func(r *SecretReader) { r.Groups = []string{"system:authenticated"} }),
		`Readers[0].Groups[0] is "a b": must be 1 to 128 letters`:       first(func(r *SecretReader) { r.Groups = []string{"a b"} }),
		`Readers[0].Groups[0] is "": must be 1 to 128 letters`:          first(func(r *SecretReader) { r.Groups = []string{""} }),
		`Readers[0].ServiceAccounts[0] is "shop/": `:                    first(func(r *SecretReader) { r.ServiceAccounts = []ServiceAccount{{}} }),
		`Readers[1].ServiceAccounts[1] is "shop/gateway", as is item 0`: func(in *SecretsRBACInput) { in.Readers[1].ServiceAccounts[1].Namespace = "shop" },
		`Readers[0].ServiceAccounts has 21 items, must have at most 20`: first(func(r *SecretReader) { r.ServiceAccounts = make([]ServiceAccount, 21) }),
	} {
		t.Run(want, func(t *testing.T) {
			in := rbacInput()
			change(&in)
			objs, err := SecretsRBAC(in)
			if fault := (*FieldError)(nil); !errors.As(err, &fault) || objs != nil {
				t.Fatalf("got %v and %d objects", err, len(objs))
			}
			if got := strings.TrimPrefix(err.Error(), "manifest.SecretsRBAC: "); !strings.HasPrefix(got, want) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestGroupProblem(t *testing.T) {
	for group, ok := range map[string]bool{
		"team": true, "oidc:team": true, "system": true, "systems:a": true, "team@example.com": true, strings.Repeat("g", 128): true,
		"system:masters": false, "system:": false, "eks:a": false, "aws:a": false, "amazon:a": false, "iam:a": false,
		"": false, "a*": false, "a\n": false, "ü": false, strings.Repeat("g", 129): false,
	} {
		if problem := GroupProblem(group); (problem == "") != ok {
			t.Errorf("%q: %s", group, problem)
		}
	}
}

// The cases that a real API server judges (see test/e2e) are read here as what
// they are, so that none is misspelt and passes for that.
func TestGuardCases(t *testing.T) {
	data, err := os.ReadFile("testdata/guard_cases.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name, Kind, Role, Namespace string
		Labels                      map[string]string
		ControlPlane, Denied        bool
		Before, Rules               []rbacv1.PolicyRule
	}
	if err := yaml.UnmarshalStrict(data, &cases); err != nil {
		t.Fatal(err)
	}
	denied := 0
	names, verbs := map[string]bool{}, map[string]bool{}
	for _, c := range cases {
		if c.Name == "" || names[c.Name] || !slices.Contains([]string{"", "Role", "ClusterRole"}, c.Kind) {
			t.Errorf("%+v", c)
		}
		names[c.Name] = true
		if len(c.Rules) == 1 && c.Before == nil && c.Denied {
			for _, v := range c.Rules[0].Verbs {
				verbs[v] = true
			}
		}
		if c.Denied {
			denied++
		}
	}
	for _, v := range reveal.Names() {
		if !verbs[v] {
			t.Errorf("no case has a rule with the verb %s denied", v)
		}
	}
	if denied < 20 || len(cases)-denied < 15 {
		t.Errorf("%d cases, %d of them denied", len(cases), denied)
	}
}
