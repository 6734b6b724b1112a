package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/estate"
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
		group, _, _ := strings.Cut(text(object["apiVersion"]), "/")
		switch {
		case group == "rbac.authorization.k8s.io" && (kind == "Role" || kind == "ClusterRole"):
			c.checkRBAC(r, kind, object)
		case group == "v1" && kind == "Secret":
			c.checkSecret(r, object)
		}
	}
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

// checkRBAC: get, list and watch all give the contents. A Role that names the
// resource secrets is limited to its namespace, on purpose. Source: Kubernetes
// documentation, "Role Based Access Control Good Practices".
func (c *checker) checkRBAC(r *estate.Thing, kind string, object map[string]any) {
	for _, rule := range list(object["rules"]) {
		groups, resources, verbs := texts(at(rule, "apiGroups")), texts(at(rule, "resources")), texts(at(rule, "verbs"))
		anyGroup, anyResource, anyVerb := slices.Contains(groups, "*"), slices.Contains(resources, "*"), slices.Contains(verbs, "*")
		core, secrets := anyGroup || slices.Contains(groups, ""), anyResource || slices.Contains(resources, "secrets")
		reads := slices.ContainsFunc(verbs, func(v string) bool { return v == "*" || v == "get" || v == "list" || v == "watch" })
		if !core || !secrets || !reads {
			continue
		}
		// An empty name lets list and watch through without a name.
		if names := texts(at(rule, "resourceNames")); len(names) > 0 && !slices.Contains(names, "") {
			continue
		}
		if kind == "ClusterRole" || anyGroup || anyResource || anyVerb {
			c.find("secrets-readable-by-wildcard", r, "%s allows [%s] on [%s] of API groups [%s] without resourceNames",
				objectName(kind, object), strings.Join(verbs, ", "), strings.Join(resources, ", "), quoted(groups))
		}
	}
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
