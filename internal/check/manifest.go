package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/reveal"
)

// checkManifest looks at the Kubernetes objects that a template deploys.
func (c *checker) checkManifest(r *estate.Thing) {
	objects, err := r.Objects()
	if err != nil {
		c.noteAt(r.Resource, "the Kubernetes manifest could not be read, and was not judged: %v", err)
		return
	}
	for _, object := range flatten(objects) {
		c.report.Checked.Manifests++
		kind := text(object["kind"])
		switch {
		case isRBAC(object) && (kind == "Role" || kind == "ClusterRole"):
			c.checkRole(r, kind, object)
		case isRBAC(object) && (kind == "RoleBinding" || kind == "ClusterRoleBinding"):
			c.checkBinding(r, kind, object)
		case object["apiVersion"] == "v1" && kind == "Secret":
			c.checkSecret(r, object)
		}
	}
}

func isRBAC(object map[string]any) bool {
	group, _, _ := strings.Cut(text(object["apiVersion"]), "/")
	return group == "rbac.authorization.k8s.io"
}

// flatten takes Kubernetes' lists apart.
func flatten(objects []map[string]any) []map[string]any {
	var all []map[string]any
	for _, o := range objects {
		if !strings.HasSuffix(text(o["kind"]), "List") || o["items"] == nil {
			all = append(all, o)
			continue
		}
		for _, item := range list(o["items"]) {
			if m, ok := item.(map[string]any); ok {
				all = append(all, flatten([]map[string]any{m})...)
			}
		}
	}
	return all
}

func objectName(kind string, object map[string]any) string {
	name := text(at(object, "metadata", "name"))
	if ns := text(at(object, "metadata", "namespace")); ns != "" {
		name = ns + "/" + name
	}
	return kind + " " + name
}

// roleOf names a role of a cluster.
type roleOf struct{ cluster, kind, namespace, name string }

func ruleOf(rule any) reveal.Rule {
	return reveal.Rule{Groups: texts(at(rule, "apiGroups")), Resources: texts(at(rule, "resources")), Names: texts(at(rule, "resourceNames")), Verbs: texts(at(rule, "verbs"))}
}

// checkRole: a Role that names the resource secrets is limited to its namespace, on
// purpose; who is bound to it is found. Source: Kubernetes documentation, "Role Based
// Access Control Good Practices".
func (c *checker) checkRole(r *estate.Thing, kind string, object map[string]any) {
	for _, one := range list(object["rules"]) {
		rule := ruleOf(one)
		if rule.ReadsSecrets() {
			if kind == "ClusterRole" || rule.Everything() {
				c.find("secrets-readable-by-wildcard", r, "%s allows [%s] on [%s] of API groups [%s] without resourceNames",
					objectName(kind, object), strings.Join(rule.Verbs, ", "), strings.Join(rule.Resources, ", "), quoted(rule.Groups))
			}
			continue
		}
		for _, road := range rule.Roads() {
			c.find("secrets-reachable", r, "%s allows [%s] on [%s] and so %s",
				objectName(kind, object), strings.Join(rule.Verbs, ", "), strings.Join(rule.Resources, ", "), road.How)
		}
	}
}

// findReaders finds the roles in manifests that read secrets which they do not name.
func (c *checker) findReaders() {
	c.readers = map[roleOf]bool{}
	for _, r := range c.estate.Of(estate.KindKubernetes) {
		// Most have no role, and are read by the one job that judges them.
		if !strings.Contains(text(r.Settings["Manifest"]), "rbac.authorization.k8s.io") {
			continue
		}
		objects, _ := r.Objects() // an error is told where they are judged
		for _, o := range flatten(objects) {
			if isRBAC(o) && slices.ContainsFunc(list(o["rules"]), func(rule any) bool { return ruleOf(rule).ReadsSecrets() }) {
				c.readers[roleOf{show(r.Settings["ClusterName"]), text(o["kind"]), text(at(o, "metadata", "namespace")), text(at(o, "metadata", "name"))}] = true
			}
		}
	}
}

// checkBinding finds who gets a role that reads secrets.
func (c *checker) checkBinding(r *estate.Thing, kind string, object map[string]any) {
	role := roleOf{cluster: show(r.Settings["ClusterName"]), kind: text(at(object, "roleRef", "kind")), name: text(at(object, "roleRef", "name"))}
	if role.kind == "Role" {
		role.namespace = text(at(object, "metadata", "namespace"))
	}
	if unknown(role.name) {
		c.noteAt(r.Resource, "%s is for the %s %s, which is not in the template: whether it reads secrets was not judged", objectName(kind, object), role.kind, role.name)
		return
	}
	if !c.readers[role] && (role.kind != "ClusterRole" || !slices.Contains(reveal.BuiltIn(), role.name)) {
		return
	}
	var who []string
	for _, subject := range list(object["subjects"]) {
		name := text(at(subject, "name"))
		if ns := text(at(subject, "namespace")); ns != "" {
			name = ns + "/" + name
		}
		who = append(who, text(at(subject, "kind"))+" "+name)
	}
	if len(who) == 0 {
		return
	}
	where := "in every namespace"
	if kind == "RoleBinding" {
		where = "in namespace " + text(at(object, "metadata", "namespace"))
	}
	c.find("secrets-role-bound", r, "%s gives %s the %s %s, which reads every secret %s", objectName(kind, object), strings.Join(who, ", "), role.kind, role.name, where)
}

func quoted(values []string) string {
	q := make([]string, len(values))
	for i, v := range values {
		q[i] = fmt.Sprintf("%q", v)
	}
	return strings.Join(q, ", ")
}

// checkSecret reports the names, never the values.
func (c *checker) checkSecret(r *estate.Thing, object map[string]any) {
	var clear []string
	for _, field := range []string{"data", "stringData"} {
		entries, _ := object[field].(map[string]any)
		for _, key := range sortedKeys(entries) {
			// What CloudFormation fills in is not in the template.
			if value := text(entries[key]); value != "" && !strings.Contains(value, "{{resolve:") && !strings.Contains(value, "${") {
				clear = append(clear, field+"."+key)
			}
		}
	}
	if len(clear) > 0 {
		c.find("secret-in-template", r, "%s has its values in the template: %s", objectName("Secret", object), strings.Join(clear, ", "))
	}
}
