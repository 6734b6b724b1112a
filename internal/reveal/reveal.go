// Package reveal says, as data, what leads to the contents of Kubernetes Secrets
// through the API, where encryption at rest does not help: the verbs whose answers
// hold them, the other rights with which they can be had, and the roles of
// Kubernetes' own that have such rights.
//
// Each verb and each built-in role was tried on a real API server: see test/e2e.
package reveal

import (
	"slices"
	"strings"
)

// Verb is a verb whose answer says what is in a Secret.
type Verb struct {
	Name string
	// How it does, for the documentation.
	How string
}

// Verbs are all of them. The one other verb that Secrets have is create, whose answer
// holds what was sent.
//
// In a dry run, as in any, the answer is the object: to DELETE when the deletion is not
// the last step, since the garbage collector has to act on the dependents first. Source:
// k8s.io/apiserver, registry/generic/registry, Store.Delete.
func Verbs() []Verb {
	return []Verb{
		{"get", "answers with the secret"},
		{"list", "answers with all secrets of the namespace, or of the cluster"},
		{"watch", "begins with all secrets of the namespace, or of the cluster"},
		{"delete", "with `propagationPolicy=Foreground` or `Orphan`, answers with the secret; with `dryRun=All` it deletes nothing"},
		{"deletecollection", "answers with all secrets of the namespace; with `dryRun=All` it deletes nothing"},
		{"patch", "answers with the whole secret, also to a patch that changes nothing, or in a dry run"},
		{"update", "answers with what was sent, and its `managedFields` tell in a dry run whether a guessed value is right"},
	}
}

// Names are the names of the verbs, in the order of [Verbs].
func Names() []string {
	var names []string
	for _, v := range Verbs() {
		names = append(names, v.Name)
	}
	return names
}

// Rule is a rule of a Role or ClusterRole. Source of how RBAC matches: "Using RBAC
// Authorization" in the Kubernetes documentation.
type Rule struct{ Groups, Resources, Names, Verbs []string }

// ReadsSecrets tells whether the rule shows secrets that it does not name. A rule with
// the empty name does: it allows the requests that have no name, such as a list.
func (r Rule) ReadsSecrets() bool {
	return r.gives([]string{""}, []string{"secrets"}, Names()) && (len(r.Names) == 0 || slices.Contains(r.Names, ""))
}

// Everything tells whether a wildcard is what makes the rule reach secrets.
func (r Rule) Everything() bool {
	return slices.Contains(r.Groups, "*") || slices.Contains(r.Resources, "*") || slices.Contains(r.Verbs, "*")
}

// gives tells whether the rule has one of the verbs on one of the resources.
func (r Rule) gives(groups, resources, verbs []string) bool {
	return has(r.Groups, groups) && has(r.Verbs, verbs) && slices.ContainsFunc(resources, func(resource string) bool {
		_, sub, ok := strings.Cut(resource, "/")
		return slices.Contains(r.Resources, "*") || slices.Contains(r.Resources, resource) || ok && slices.Contains(r.Resources, "*/"+sub)
	})
}

func has(list, some []string) bool {
	return slices.ContainsFunc(list, func(v string) bool { return v == "*" || slices.Contains(some, v) })
}

// Road is a right with which secrets can be had without a verb on them.
type Road struct {
	Groups, Resources, Verbs []string
	// How it leads there, for a sentence that begins with "it".
	How string
}

// Roads are those that a rule can be checked for. What many have to have, the right to
// create pods and what creates pods, is not among them: it gives the secrets of its
// namespace too. Source: Kubernetes documentation, "Role Based Access Control Good
// Practices", for all but pods/ephemeralcontainers.
func Roads() []Road {
	const rbac, core = "rbac.authorization.k8s.io", ""
	return []Road{
		{[]string{core, "authentication.k8s.io"}, []string{"users", "groups", "serviceaccounts", "userextras", "uids"}, []string{"impersonate"}, "acts as somebody who reads secrets"},
		{[]string{core}, []string{"serviceaccounts/token"}, []string{"create"}, "gets a token of a service account that reads secrets"},
		{[]string{core}, []string{"nodes/proxy"}, []string{"get", "create"}, "runs commands in every pod of a node, through the kubelet"},
		{[]string{core}, []string{"pods/exec", "pods/attach"}, []string{"get", "create"}, "runs commands in pods, where their secrets and tokens are"},
		{[]string{core}, []string{"pods/ephemeralcontainers"}, []string{"patch", "update"}, "adds a container to a running pod, with its secrets and token"},
		{[]string{rbac}, []string{"roles", "clusterroles"}, []string{"escalate"}, "writes rights into a role that its holder does not have"},
		{[]string{rbac}, []string{"roles", "clusterroles"}, []string{"bind"}, "binds its holder to a role with more rights"},
		{[]string{"admissionregistration.k8s.io"}, []string{"mutatingwebhookconfigurations", "validatingwebhookconfigurations"}, []string{"create", "patch", "update"}, "has every secret that is written sent to a webhook"},
	}
}

// Roads are those that the rule opens. A rule that names what it is for, such as the one
// group that may be impersonated, is taken for one that was thought about.
func (r Rule) Roads() []Road {
	if len(r.Names) > 0 {
		return nil
	}
	return slices.DeleteFunc(Roads(), func(road Road) bool { return !r.gives(road.Groups, road.Resources, road.Verbs) })
}

// BuiltIn are the ClusterRoles of Kubernetes that read secrets, or open a road to them,
// beside those of its own components, whose names begin with "system:". edit and admin do
// so in their namespace, if a RoleBinding gives them.
func BuiltIn() []string { return []string{"admin", "cluster-admin", "edit"} }
