package cfn

import (
	"maps"

	"github.com/ekskms/ekskms/internal/value"
)

// Rewrite returns a copy of an assembly in which each text of the resources and outputs is
// replaced: also their ARNs, and the names by which Lookup finds them. Logical IDs, paths
// and the names of stacks stay.
func (a *Assembly) Rewrite(replace func(string) string) *Assembly {
	b := &Assembly{Shared: a.Shared, loader: a.loader, decided: true, index: map[string][]*Resource{}}
	now := map[*Resource]*Resource{}
	for _, t := range a.Templates {
		n := *t
		n.Resources = map[string]*Resource{}
		n.Outputs = rewritten(t.Outputs, replace).(map[string]any)
		for id, r := range t.Resources {
			c := *r
			c.Template, c.ARN = &n, replace(r.ARN)
			c.Properties, c.Raw = rewritten(r.Properties, replace).(map[string]any), rewritten(r.Raw, replace).(map[string]any)
			n.Resources[id], now[r] = &c, &c
		}
		b.Templates = append(b.Templates, &n)
	}
	for name, all := range a.index {
		for _, r := range all {
			b.index[replace(name)] = append(b.index[replace(name)], now[r])
		}
	}
	return b
}

func rewritten(v any, replace func(string) string) any {
	switch v := v.(type) {
	case string:
		return replace(v)
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = rewritten(e, replace)
		}
		return list
	case map[string]any:
		m := maps.Clone(v)
		for key, e := range m {
			m[key] = rewritten(e, replace)
		}
		return m
	case value.Unknown:
		if v.If != nil {
			v.If = &value.Choice{Condition: v.If.Condition, Then: rewritten(v.If.Then, replace), Else: rewritten(v.If.Else, replace)}
		}
		return v
	}
	return v
}
