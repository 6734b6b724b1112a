package guard

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/reveal"
	"github.com/ekskms/ekskms/internal/value"
)

// reach compares who gets at the secrets without the key: through the Kubernetes API, as
// the plugin, or as the function that applies objects.
func (c *comparison) reach() {
	c.entries()
	c.roles()
	c.functions()
	c.kubernetes()
}

// added are the things of a kind that are new, or that have changed in a setting.
func (c *comparison) added(kind estate.Kind, settings ...string) map[*estate.Thing]*estate.Thing {
	all := map[*estate.Thing]*estate.Thing{}
	for _, now := range c.after.Of(kind) {
		if cluster := clusterOf(c.after, now); cluster != nil && c.earlier(cluster) == nil {
			continue // what comes with a new cluster opens none
		}
		old := c.earlier(now)
		if old == nil || !c.sameCluster(old, now) || slices.ContainsFunc(settings, func(name string) bool { return !reflect.DeepEqual(old.Settings[name], now.Settings[name]) }) {
			all[now] = old
		}
	}
	return all
}

// clusterOf is the cluster that something is on, first of those of its own stack. Nil if it
// is not in the templates.
func clusterOf(e *estate.Estate, t *estate.Thing) *estate.Thing {
	name := t.Settings["ClusterName"]
	for _, cluster := range e.Clusters {
		if cluster.In == t.In && value.Text(name) != "" && value.Text(cluster.Settings["Name"]) == value.Text(name) {
			return cluster.Thing
		}
	}
	return e.Lookup(name)
}

// sameCluster tells whether something is on the cluster that it was on, which may have
// another name, or be gone: that is told of the cluster.
func (c *comparison) sameCluster(before, now *estate.Thing) bool {
	if old := clusterOf(c.before, before); old != nil {
		new := c.now(old)
		return new == nil || new == clusterOf(c.after, now)
	}
	return reflect.DeepEqual(before.Settings["ClusterName"], now.Settings["ClusterName"])
}

func (c *comparison) entries() {
	const rule = "access-widened"
	for now, before := range c.added(estate.KindAccessEntry, "PrincipalArn", "AccessPolicies", "KubernetesGroups", "Username") {
		who := value.Show(now.Settings["PrincipalArn"])
		if before == nil || !reflect.DeepEqual(before.Settings["PrincipalArn"], now.Settings["PrincipalArn"]) || !c.sameCluster(before, now) {
			c.find(rule, now, "%s gets an access entry on the cluster: %s", who, rights(now))
			continue
		}
		for _, name := range []string{"AccessPolicies", "KubernetesGroups", "Username"} {
			old, new := before.Settings[name], now.Settings[name]
			if c.lost(rule, now, name, old, new) {
				continue
			}
			for _, one := range value.List(new) {
				if !slices.ContainsFunc(value.List(old), func(o any) bool { return covers(o, one) }) {
					c.find(rule, now, "%s gets more of the cluster: %s %s", who, name, compact(one))
				}
			}
		}
	}
	for now, old := range c.added(estate.KindIdentities, "Oidc", "Type") {
		if old == nil {
			c.find(rule, now, "the users of an identity provider may use the cluster's API: %s", compact(now.Settings["Oidc"]))
		} else {
			c.find(rule, now, "the identity provider of the cluster's users changes from %s to %s", compact(old.Settings["Oidc"]), compact(now.Settings["Oidc"]))
		}
	}
	for now, old := range c.added(estate.KindAssociation, "RoleArn", "TargetRoleArn", "Namespace", "ServiceAccount") {
		role := now.Settings["RoleArn"]
		if !c.mayUseKey(role) {
			continue
		}
		what := "gets"
		if old != nil {
			what = "newly gets"
		}
		c.find(rule, now, "the service account %s/%s %s the role %s", value.Show(now.Settings["Namespace"]), value.Show(now.Settings["ServiceAccount"]), what, value.Show(role))
	}
}

// covers tells whether an access policy, or a group, gives all that another gives.
func covers(old, new any) bool {
	if reflect.DeepEqual(old, new) {
		return true
	}
	if value.Text(value.At(old, "PolicyArn")) == "" || !reflect.DeepEqual(value.At(old, "PolicyArn"), value.At(new, "PolicyArn")) {
		return false
	}
	if value.Text(value.At(old, "AccessScope", "Type")) == "cluster" {
		return true
	}
	in := value.Texts(value.At(old, "AccessScope", "Namespaces"))
	return value.Text(value.At(new, "AccessScope", "Type")) == "namespace" &&
		!slices.ContainsFunc(value.List(value.At(new, "AccessScope", "Namespaces")), func(n any) bool { return !slices.Contains(in, value.Text(n)) })
}

func rights(entry *estate.Thing) string {
	var all []string
	for _, p := range value.List(entry.Settings["AccessPolicies"]) {
		arn := value.Show(value.At(p, "PolicyArn"))
		all = append(all, arn[strings.LastIndex(arn, "/")+1:])
	}
	for _, g := range value.List(entry.Settings["KubernetesGroups"]) {
		all = append(all, "group "+value.Show(g))
	}
	if len(all) == 0 {
		return "without a policy and without groups"
	}
	return strings.Join(all, ", ")
}

func compact(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	data, err := json.Marshal(v)
	if err != nil || value.IsUnknown(v) {
		return value.Show(v)
	}
	return string(data)
}

// mayUseKey tells whether a role may use a key, or is not in the templates.
func (c *comparison) mayUseKey(role any) bool {
	t := c.after.Lookup(role)
	return t == nil || c.usesKey(t.ARN)
}

// principalTag finds the tags of principals that a policy asks for.
var principalTag = regexp.MustCompile(`aws:PrincipalTag/([^"]+)`)

// roles compares the trust policies of the roles that have an access entry, and the tags of
// those that may use a key.
func (c *comparison) roles() {
	tags := map[string]bool{}
	for _, key := range c.after.Keys {
		for _, m := range principalTag.FindAllStringSubmatch(compact(key.Settings["KeyPolicy"]), -1) {
			tags[m[1]] = true
		}
	}
	entered := map[*estate.Thing]bool{}
	for _, entry := range c.after.Of(estate.KindAccessEntry) {
		entered[c.after.Lookup(entry.Settings["PrincipalArn"])] = true
	}
	for now, old := range c.added(estate.KindRole, "AssumeRolePolicyDocument", "Tags") {
		if old == nil {
			continue // a new role gets in by an entry, a statement or an association
		}
		uses := c.usesKey(now.ARN) // of which the comparison of keys tells
		if text := moreStatements(old.Settings["AssumeRolePolicyDocument"], now.Settings["AssumeRolePolicyDocument"]); text != "" && entered[now] && !uses {
			c.find("access-widened", now, "the role has an access entry, and its trust policy changes: %s", text)
		}
		if !uses {
			continue
		}
		had := value.List(old.Settings["Tags"])
		for _, tag := range value.List(now.Settings["Tags"]) {
			name := value.Text(value.At(tag, "Key"))
			if (tags[name] || value.IsOpen(tag) || value.IsOpen(value.At(tag, "Key"))) && !slices.ContainsFunc(had, func(t any) bool { return reflect.DeepEqual(t, tag) }) {
				c.find("access-widened", now, "the role gets the tag %s, which the policy of a key asks for: any session of the role has it", cmpShow(name, tag))
			}
		}
	}
}

func cmpShow(name string, tag any) string {
	if name == "" {
		return value.Show(tag)
	}
	return name
}

// functions looks at who may invoke, or change, a function whose role has an access entry.
func (c *comparison) functions() {
	administrators := map[*estate.Thing]bool{}
	for _, entry := range c.after.Of(estate.KindAccessEntry) {
		role := c.after.Lookup(entry.Settings["PrincipalArn"])
		for _, f := range c.after.Of(estate.KindFunction) {
			if role != nil && c.after.Lookup(f.Settings["Role"]) == role {
				administrators[f] = true
			}
		}
	}
	for f, old := range c.added(estate.KindFunction, "Role") {
		if administrators[f] && c.earlier(c.after.Lookup(f.Settings["Role"])) != nil {
			what := "a new function has"
			if old != nil {
				what = "the function gets"
			}
			c.find("access-widened", f, "%s the role %s, which has an access entry on the cluster", what, value.Show(f.Settings["Role"]))
		}
	}
	for _, kind := range []struct {
		is   estate.Kind
		of   string
		what string
	}{{estate.KindPermission, "FunctionName", "may invoke it"}, {estate.KindFunctionURL, "TargetFunctionArn", "has a URL"}} {
		for now := range c.added(kind.is, kind.of, "Principal", "SourceArn", "SourceAccount", "AuthType", "Action") {
			f := c.after.LookupOf(now, now.Settings[kind.of], estate.KindFunction)
			switch {
			case f == nil && !value.IsOpen(now.Settings[kind.of]), f != nil && !administrators[f]:
			case kind.is == estate.KindPermission:
				c.find("access-widened", now, "%s may invoke the function %s, whose role has an access entry on the cluster", value.Show(now.Settings["Principal"]), value.Show(now.Settings[kind.of]))
			default:
				c.find("access-widened", now, "the function %s, whose role has an access entry on the cluster, gets a URL with AuthType %s", value.Show(now.Settings[kind.of]), value.Show(now.Settings["AuthType"]))
			}
		}
	}
}

// object is one Kubernetes object, and the resource that applies it.
type object struct {
	by   *estate.Thing
	data map[string]any
}

// objects are the Kubernetes objects of an estate, by cluster, kind, namespace and name.
func objects(e *estate.Estate) map[string]object {
	all := map[string]object{}
	for _, t := range e.Of(estate.KindKubernetes) {
		list, _ := t.Objects() // what can't be read is told by package check
		for _, o := range list {
			items := []any{o}
			if strings.HasSuffix(value.Text(o["kind"]), "List") && o["items"] != nil {
				items = value.List(o["items"])
			}
			for _, item := range items {
				if data, ok := item.(map[string]any); ok {
					id := []string{value.Show(t.Settings["ClusterName"]), value.Text(data["kind"]), value.Text(value.At(data, "metadata", "namespace")), value.Text(value.At(data, "metadata", "name"))}
					all[strings.Join(id, " ")] = object{t, data}
				}
			}
		}
	}
	return all
}

// kubernetes compares who may read which secrets by what the templates apply, and the
// admission policies in it.
func (c *comparison) kubernetes() {
	for _, old := range c.before.Of(estate.KindKubernetes) {
		if now := c.now(old); now != nil {
			_, err := old.Objects()
			if _, fails := now.Objects(); err == nil && fails != nil {
				c.find("access-widened", now, "Manifest changes, and can't be read: what it gives to whom was not compared")
			}
		}
	}
	before, after := objects(c.before), objects(c.after)
	had := readers(before)
	for who, by := range readers(after) {
		if had[who] == nil && had[reader{who.cluster, who.subject, who.namespace, "*"}] == nil && had[reader{who.cluster, who.subject, "", "*"}] == nil {
			c.find("access-widened", by, "%s may read %s", who.subject, who.secrets())
		}
	}
	for id, old := range before {
		now, there := after[id]
		kind := value.Text(old.data["kind"])
		if kind != "ValidatingAdmissionPolicy" && kind != "ValidatingAdmissionPolicyBinding" {
			continue
		}
		name := kind + " " + value.Text(value.At(old.data, "metadata", "name"))
		switch {
		case !there && c.now(old.by) == nil:
			c.find("access-widened", old.by, "%s goes: %s", name, c.gone(old.by))
		case !there:
			c.find("access-widened", c.now(old.by), "%s goes", name)
		case kind == "ValidatingAdmissionPolicyBinding":
			c.binding(name, old.data, now)
		default:
			c.policy(name, old.data, now)
		}
	}
	for id, now := range after {
		earlier := before[id].data
		if value.Text(now.data["kind"]) != "Namespace" {
			continue
		}
		for _, label := range []string{"pod-security.kubernetes.io/enforce", "ekskms.github.io/kms-socket"} {
			old, new := value.At(earlier, "metadata", "labels", label), value.At(now.data, "metadata", "labels", label)
			loosened := earlier != nil && label == "pod-security.kubernetes.io/enforce" && levels[value.Text(new)] < levels[value.Text(old)]
			if loosened || label == "ekskms.github.io/kms-socket" && value.Text(new) == "allowed" && value.Text(old) != "allowed" {
				c.find("access-widened", now.by, "the label %s of namespace %s changes from %s to %s", label, value.Text(value.At(now.data, "metadata", "name")), value.Show(old), value.Show(new))
			}
		}
	}
}

// levels of Pod Security. None is as good as privileged.
var levels = map[string]int{"baseline": 1, "restricted": 2}

func (c *comparison) binding(name string, before map[string]any, after object) {
	now := value.Texts(value.At(after.data, "spec", "validationActions"))
	for _, action := range value.Texts(value.At(before, "spec", "validationActions")) {
		if !slices.Contains(now, action) && (action != "Warn" || !slices.Contains(now, "Deny")) {
			c.find("access-widened", after.by, "%s no longer does %s", name, action)
		}
	}
	for _, part := range []string{"policyName", "matchResources", "paramRef"} {
		if old, new := value.At(before, "spec", part), value.At(after.data, "spec", part); !reflect.DeepEqual(old, new) {
			c.find("access-widened", after.by, "%s changes in %s: whether it judges less can't be told", name, part)
		}
	}
}

// quoted finds lists of texts in an expression of CEL, quotedName one text.
var (
	quoted     = regexp.MustCompile(`'[^']*'(, '[^']*')*`)
	quotedName = regexp.MustCompile(`'([^']*)'`)
)

// policy compares two admission policies. Whether an expression refuses less can't be
// decided, but for one that differs only in a list of names that are let pass.
func (c *comparison) policy(name string, earlier map[string]any, now object) {
	find := func(format string, args ...any) {
		c.find("access-widened", now.by, "%s "+format, append([]any{name}, args...)...)
	}
	if value.Text(value.At(earlier, "spec", "failurePolicy")) != "Ignore" && value.Text(value.At(now.data, "spec", "failurePolicy")) == "Ignore" {
		find("lets everything pass when it fails")
	}
	named := func(o map[string]any, part, key string) map[string]string {
		all := map[string]string{}
		for _, e := range value.List(value.At(o, "spec", part)) {
			all[value.Text(value.At(e, key))] = value.Text(value.At(e, "expression"))
		}
		return all
	}
	old := named(earlier, "matchConditions", "name")
	for condition, expression := range named(now.data, "matchConditions", "name") {
		had, there := old[condition]
		switch {
		case !there:
			find("judges only what %s lets it: %s", condition, expression)
		case had == expression:
		case quoted.ReplaceAllString(had, "") == quoted.ReplaceAllString(expression, ""):
			for _, more := range missingNames(had, expression) {
				find("lets %s pass by %s", more, condition)
			}
		default:
			find("changes its condition %s: whether it judges less can't be told", condition)
		}
	}
	for _, part := range []string{"matchConstraints", "validations", "variables"} {
		before, after := value.At(earlier, "spec", part), value.At(now.data, "spec", part)
		if reflect.DeepEqual(before, after) {
			continue
		}
		lists, _ := after.([]any)
		kept := part == "validations" && !slices.ContainsFunc(value.List(before), func(v any) bool {
			return !slices.ContainsFunc(lists, func(n any) bool { return reflect.DeepEqual(v, n) })
		})
		if !kept { // a validation more refuses more
			find("changes its %s: whether it judges less can't be told", part)
		}
	}
}

// missingNames are the quoted names of one expression that another does not have.
func missingNames(old, now string) (more []string) {
	for _, m := range quotedName.FindAllStringSubmatch(now, -1) {
		if !strings.Contains(old, m[0]) {
			more = append(more, m[1])
		}
	}
	return more
}

// reader is somebody who may read a secret: one of a namespace, all of it, or, without a
// namespace, all.
type reader struct{ cluster, subject, namespace, secret string }

func (r reader) secrets() string {
	switch {
	case r.namespace == "" && r.secret == "*":
		return "every secret of the cluster"
	case r.secret == "*":
		return "every secret of namespace " + r.namespace
	case r.namespace == "":
		return "the secret " + r.secret + " of every namespace"
	}
	return "the secret " + r.namespace + "/" + r.secret
}

// readers are who may read secrets by the bindings of the templates, and by which resource.
// A right that leads to secrets counts as reading all of them, and so does a role that is
// not known; one that the templates do not have, and that is not Kubernetes' own, counts for
// nothing.
func readers(all map[string]object) map[reader]*estate.Thing {
	found := map[reader]*estate.Thing{}
	for _, o := range all {
		kind := value.Text(o.data["kind"])
		if kind != "RoleBinding" && kind != "ClusterRoleBinding" {
			continue
		}
		cluster, namespace := value.Show(o.by.Settings["ClusterName"]), value.Text(value.At(o.data, "metadata", "namespace"))
		roleKind, roleName := value.Text(value.At(o.data, "roleRef", "kind")), value.Text(value.At(o.data, "roleRef", "name"))
		in := namespace
		if roleKind == "ClusterRole" {
			in = ""
		}
		var secrets []string
		rules := value.At(all[strings.Join([]string{cluster, roleKind, in, roleName}, " ")].data, "rules")
		if roleKind == "ClusterRole" && slices.Contains(reveal.BuiltIn(), roleName) || value.IsOpen(roleName) || unknownIn(rules) != nil {
			secrets = []string{"*"}
		}
		for _, r := range value.List(rules) {
			rule := reveal.Rule{Groups: value.Texts(value.At(r, "apiGroups")), Resources: value.Texts(value.At(r, "resources")), Verbs: value.Texts(value.At(r, "verbs"))}
			names := value.Texts(value.At(r, "resourceNames"))
			switch {
			case rule.ReadsSecrets() && len(names) > 0 && !slices.Contains(names, ""):
				secrets = append(secrets, names...)
			case rule.ReadsSecrets(), len(names) == 0 && len(rule.Roads()) > 0:
				secrets = append(secrets, "*")
			}
		}
		if kind == "ClusterRoleBinding" {
			namespace = ""
		}
		for _, subject := range value.List(value.At(o.data, "subjects")) {
			who := value.Text(value.At(subject, "name"))
			if ns := value.Text(value.At(subject, "namespace")); ns != "" {
				who = ns + "/" + who
			}
			for _, secret := range secrets {
				found[reader{cluster, fmt.Sprintf("%s %s", value.Text(value.At(subject, "kind")), who), namespace, secret}] = o.by
			}
		}
	}
	return found
}
