package manifest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/ekskms/ekskms/internal/reveal"
)

// Guard is what happens to a Role or ClusterRole that gives access to secrets
// without naming them.
type Guard string

const (
	// GuardOff lets it be made.
	GuardOff Guard = "off"
	// GuardWarn lets it be made, warns anyone who makes it, and leaves a mark in the
	// audit log.
	GuardWarn Guard = "warn"
	// GuardDeny refuses it, and leaves a mark in the audit log.
	GuardDeny Guard = "deny"
)

// GuardName is the name of the guard's ValidatingAdmissionPolicy and of its
// binding.
const GuardName = "secrets-rbac.ekskms.github.io"

// How much there may be of each. They keep what kubectl applies, and the guard's
// expressions, small.
const (
	MaxReaders    = 50
	MaxPerReader  = 20 // secrets, groups, principals, service accounts
	MaxExemptions = 100
)

// SecretsRBACInput says who may read which secrets.
type SecretsRBACInput struct {
	Readers []SecretReader // at most 50
	Guard   Guard          // Default: GuardOff
	// GuardExemptions are the ClusterRoles that the guard passes by, by their
	// names, and Roles as namespace/name: at most 100. Only with a Guard.
	GuardExemptions []string
}

// SecretReader is somebody who may read some secrets of one namespace.
type SecretReader struct {
	Name            string   // a DNS label, unique among the readers
	Namespace       string   // must be there
	SecretNames     []string // 1 to 20
	Groups          []string // of Kubernetes, at most 20
	ServiceAccounts []ServiceAccount
	// AllowList and AllowWatch let a reader list and watch each of the secrets by
	// its name: kubectl get secrets --field-selector metadata.name=<name>. Never
	// more than these, since RBAC judges a list by that selector and refuses one
	// without it. Source: "Using RBAC Authorization" in the Kubernetes
	// documentation, referring to resources.
	AllowList, AllowWatch bool
}

// ServiceAccount is a service account that may be of any namespace.
type ServiceAccount struct {
	Namespace string // Default: that of the reader
	Name      string
}

// FieldError is what [SecretsRBAC] has against a field of its input.
type FieldError struct {
	Field  string // such as Readers[0].SecretNames[1]
	Reason string // what is wrong with the value, and what is allowed
}

func (e *FieldError) Error() string { return "manifest.SecretsRBAC: " + e.Field + " " + e.Reason }

// SecretsRBAC returns the Roles and RoleBindings of the readers, and the guard, in
// the order in which to apply them. An error is always a [*FieldError].
func SecretsRBAC(in SecretsRBACInput) ([]runtime.Object, error) {
	if in.Guard == "" {
		in.Guard = GuardOff
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	// No namespaces: to apply one is to take the labels off it that anyone who owns it
	// applied, those of Pod Security among them.
	var objs []runtime.Object
	for _, r := range in.Readers {
		objs = append(objs, r.role(), r.binding())
	}
	if in.Guard != GuardOff {
		objs = append(objs, in.guard(), in.guardBinding())
	}
	return objs, nil
}

func (in SecretsRBACInput) check() error {
	fault := func(field, reason string, args ...any) error {
		return &FieldError{Field: field, Reason: fmt.Sprintf(reason, args...)}
	}
	switch {
	case !slices.Contains([]Guard{GuardOff, GuardWarn, GuardDeny}, in.Guard):
		return fault("Guard", "is %q, must be %q, %q or %q", in.Guard, GuardOff, GuardWarn, GuardDeny)
	case in.Guard == GuardOff && len(in.GuardExemptions) > 0:
		return fault("GuardExemptions", "is set, but Guard is %q: set that to %q or %q, or leave this out", in.Guard, GuardWarn, GuardDeny)
	case len(in.Readers) == 0 && in.Guard == GuardOff:
		return fault("Readers", "is empty and Guard is %q: there is nothing to make", in.Guard)
	}
	if err := names("Readers", len(in.Readers), MaxReaders, func(int) string { return "" }, nil); err != nil {
		return err
	}
	if err := names("GuardExemptions", len(in.GuardExemptions), MaxExemptions, func(i int) string { return in.GuardExemptions[i] }, exemptProblem); err != nil {
		return err
	}
	first := map[string]int{}
	for i, r := range in.Readers {
		at := "Readers[" + strconv.Itoa(i) + "]."
		if p := dnsLabel(r.Name); p != "" {
			return fault(at+"Name", "is %q: %s", r.Name, p)
		}
		if other, twice := first[r.Name]; twice {
			return fault(at+"Name", "is %q, which is the name of Readers[%d]: give it another", r.Name, other)
		}
		first[r.Name] = i
		if p := dnsLabel(r.Namespace); p != "" {
			return fault(at+"Namespace", "is %q: %s", r.Namespace, p)
		}
		switch {
		case len(r.SecretNames) == 0:
			return fault(at+"SecretNames", "is empty: name the secrets")
		case len(r.Groups)+len(r.ServiceAccounts) == 0:
			return fault(at+"Groups", "is empty, and so is ServiceAccounts: name who may read")
		}
		if err := names(at+"SecretNames", len(r.SecretNames), MaxPerReader, func(i int) string { return r.SecretNames[i] }, secretProblem); err != nil {
			return err
		}
		if err := names(at+"Groups", len(r.Groups), MaxPerReader, func(i int) string { return r.Groups[i] }, GroupProblem); err != nil {
			return err
		}
		account := func(i int) string { return r.account(i).Namespace + "/" + r.account(i).Name }
		if err := names(at+"ServiceAccounts", len(r.ServiceAccounts), MaxPerReader, account, accountProblem); err != nil {
			return err
		}
	}
	return nil
}

// names checks a list: how many there are, each of them, and that none is there
// twice.
func names(field string, n, most int, name func(int) string, problem func(string) string) error {
	if n > most {
		return &FieldError{field, fmt.Sprintf("has %d items, must have at most %d", n, most)}
	}
	first := map[string]int{}
	for i := 0; problem != nil && i < n; i++ {
		at, value := field+"["+strconv.Itoa(i)+"]", name(i)
		if p := problem(value); p != "" {
			return &FieldError{at, fmt.Sprintf("is %q: %s", value, p)}
		}
		if other, twice := first[value]; twice {
			return &FieldError{at, fmt.Sprintf("is %q, as is item %d: remove one of them", value, other)}
		}
		first[value] = i
	}
	return nil
}

func dnsLabel(name string) string { return strings.Join(validation.IsDNS1123Label(name), "; ") }

func secretProblem(name string) string {
	if strings.Contains(name, "*") {
		return "RBAC knows no wildcards in names: name each secret"
	}
	return strings.Join(validation.IsDNS1123Subdomain(name), "; ")
}

func accountProblem(account string) string {
	namespace, name, _ := strings.Cut(account, "/")
	if p := dnsLabel(namespace); p != "" {
		return p
	}
	return strings.Join(validation.IsDNS1123Subdomain(name), "; ")
}

// GroupProblem says what is wrong with the name of a Kubernetes group, or "". It
// refuses what would let in far more than a team, such as system:authenticated,
// and what else EKS takes in no access entry. Sources: an error of
// CreateAccessEntry in terraform-aws-eks, issue 2915, for system:, and
// open-cluster-management ocm, pull request 735, for the others.
func GroupProblem(group string) string {
	prefix, _, _ := strings.Cut(group, ":")
	switch {
	case group == "" || len(group) > 128 || strings.ContainsFunc(group, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '*' }):
		return "must be 1 to 128 letters, digits and signs, without spaces and *"
	case slices.Contains([]string{"system", "eks", "aws", "amazon", "iam"}, prefix) && prefix != group:
		return "the prefix " + prefix + ": is reserved, give a group of your own"
	}
	return ""
}

var exemptName = regexp.MustCompile(`^[A-Za-z0-9:._@-]{1,253}$`)

// exemptProblem also keeps the quotes out with which the names stand in CEL.
func exemptProblem(role string) string {
	namespace, name, namespaced := strings.Cut(role, "/")
	if !namespaced {
		name = role
	} else if p := dnsLabel(namespace); p != "" {
		return "the namespace: " + p
	}
	if !exemptName.MatchString(name) {
		return "must be the name of a ClusterRole, or the namespace and name of a Role with a slash between them, of letters, digits and :._@-"
	}
	return ""
}

func (r SecretReader) account(i int) ServiceAccount {
	a := r.ServiceAccounts[i]
	if a.Namespace == "" {
		a.Namespace = r.Namespace
	}
	return a
}

// meta is that of the reader's Role and RoleBinding.
func (r SecretReader) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: "secret-reader-" + r.Name, Namespace: r.Namespace, Labels: rbacLabels()}
}

func (r SecretReader) role() *rbacv1.Role {
	verbs := []string{"get"}
	if r.AllowList {
		verbs = append(verbs, "list")
	}
	if r.AllowWatch {
		verbs = append(verbs, "watch")
	}
	return &rbacv1.Role{
		TypeMeta:   typeMeta("rbac.authorization.k8s.io/v1", "Role"),
		ObjectMeta: r.meta(),
		Rules: []rbacv1.PolicyRule{{
			APIGroups:     []string{""},
			Resources:     []string{"secrets"},
			ResourceNames: r.SecretNames,
			Verbs:         verbs,
		}},
	}
}

func (r SecretReader) binding() *rbacv1.RoleBinding {
	b := &rbacv1.RoleBinding{
		TypeMeta:   typeMeta("rbac.authorization.k8s.io/v1", "RoleBinding"),
		ObjectMeta: r.meta(),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: r.meta().Name},
	}
	for _, g := range r.Groups {
		b.Subjects = append(b.Subjects, rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: g})
	}
	for i := range r.ServiceAccounts {
		a := r.account(i)
		b.Subjects = append(b.Subjects, rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: a.Namespace, Name: a.Name})
	}
	return b
}

// The guard's expressions, in CEL. Rules can be null, where a role has none, so
// has() alone is not enough; dyn() lets the type checker take the comparison.
var (
	// A rule without names, or with the empty name, reaches every secret: RBAC
	// compares names with the name of the request, and that of a list is empty.
	// An empty list of names is not there when this is evaluated, and what has
	// groups has resources: both were seen to first.
	// RBAC itself reads secrets/* and */* as nothing. They are here because who
	// writes them means more.
	guardUnnamed = `(has(object.rules) && dyn(object.rules) != null ? object.rules : []).filter(r,
  has(r.apiGroups) && r.apiGroups.exists(g, g in ['', '*']) &&
  r.resources.exists(s, s in ['*', '*/*', 'secrets', 'secrets/*']) &&
  r.verbs.exists(v, v in ['*', '` + strings.Join(reveal.Names(), "', '") + `']) &&
  (!has(r.resourceNames) || '' in r.resourceNames))`

	// What was there before the guard stays: its owner can still label it, reorder
	// it, or take a part of it away.
	guardBefore = `dyn(oldObject) != null && has(oldObject.rules) && dyn(oldObject.rules) != null ? oldObject.rules : []`

	// A rule is new unless one that was there before gives all of it, in all four
	// parts and with RBAC's own wildcards. Without names one gives every name, and
	// nothing else does.
	guardAdded = `variables.unnamed.filter(r, !variables.before.exists(b, has(b.apiGroups) &&
  r.apiGroups.all(g, g in b.apiGroups || '*' in b.apiGroups) &&
  r.resources.all(s, s in b.resources || '*' in b.resources) &&
  r.verbs.all(v, v in b.verbs || '*' in b.verbs) &&
  (!has(b.resourceNames) || has(r.resourceNames) && r.resourceNames.all(n, n in b.resourceNames))))`

	guardMessage = `request.kind.kind + ' ' + object.metadata.name + ' gives ' + variables.added[0].verbs.join(', ') + ` +
		`' on secrets without naming them, and so the contents of all of them: list the secrets under resourceNames, or exempt this role'`

	// The API server makes the roles of the control plane itself, as a member of
	// this group, which EKS gives to nobody. Anybody could make a role whose name
	// begins like theirs.
	guardNotControlPlane = `!(object.metadata.name.startsWith('system:') && has(request.userInfo.groups) && 'system:masters' in request.userInfo.groups)`

	// clusterrole-aggregation-controller writes the rules of admin and edit. What
	// it writes into other roles is judged like everything else: a role that
	// aggregates the rules of these two would have them in its own name.
	guardNotBuiltIn = `!(request.resource.resource == 'clusterroles' && object.metadata.name in ['admin', 'cluster-admin', 'edit'])`
)

func (in SecretsRBACInput) guard() *admissionv1.ValidatingAdmissionPolicy {
	conditions := []admissionv1.MatchCondition{
		{Name: "not-control-plane", Expression: guardNotControlPlane},
		{Name: "not-built-in", Expression: guardNotBuiltIn},
	}
	if len(in.GuardExemptions) > 0 {
		conditions = append(conditions, admissionv1.MatchCondition{
			Name: "not-exempt",
			Expression: `!((request.resource.resource == 'roles' ? object.metadata.namespace + '/' : '') + object.metadata.name in ['` +
				strings.Join(in.GuardExemptions, `', '`) + `'])`,
		})
	}
	return &admissionv1.ValidatingAdmissionPolicy{
		TypeMeta:   typeMeta("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
		ObjectMeta: metav1.ObjectMeta{Name: GuardName, Labels: rbacLabels()},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			// The binding's actions decide what a failure does, that of an
			// expression too.
			FailurePolicy: ptr(admissionv1.Fail),
			MatchConstraints: &admissionv1.MatchResources{
				ResourceRules: []admissionv1.NamedRuleWithOperations{{
					RuleWithOperations: admissionv1.RuleWithOperations{
						Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
						Rule: admissionv1.Rule{
							APIGroups:   []string{rbacv1.GroupName},
							APIVersions: []string{"v1"},
							Resources:   []string{"roles", "clusterroles"},
						},
					},
				}},
			},
			MatchConditions: conditions,
			Variables: []admissionv1.Variable{
				{Name: "unnamed", Expression: guardUnnamed},
				{Name: "before", Expression: guardBefore},
				{Name: "added", Expression: guardAdded},
			},
			Validations: []admissionv1.Validation{{
				Expression:        `size(variables.added) == 0`,
				Message:           "gives access to secrets without naming them",
				MessageExpression: guardMessage,
				Reason:            ptr(metav1.StatusReasonForbidden),
			}},
		},
	}
}

func (in SecretsRBACInput) guardBinding() *admissionv1.ValidatingAdmissionPolicyBinding {
	action := admissionv1.Warn
	if in.Guard == GuardDeny {
		action = admissionv1.Deny
	}
	return &admissionv1.ValidatingAdmissionPolicyBinding{
		TypeMeta:   typeMeta("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"),
		ObjectMeta: metav1.ObjectMeta{Name: GuardName, Labels: rbacLabels()},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName:        GuardName,
			ValidationActions: []admissionv1.ValidationAction{action, admissionv1.Audit},
		},
	}
}

func rbacLabels() map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":       "secrets-rbac",
		"app.kubernetes.io/part-of":    "ekskms",
		"app.kubernetes.io/managed-by": "ekskms",
	}
}
