//go:build !race

package snapshot

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// template is a CloudFormation template.
type template map[string]any

// resource is one resource of a template.
type resource map[string]any

func (t template) resources() map[string]resource {
	all := map[string]resource{}
	m, _ := t["Resources"].(map[string]any)
	for id, r := range m {
		all[id] = r.(map[string]any)
	}
	return all
}

// ofType returns the logical IDs of all resources of a type, sorted.
func (t template) ofType(kind string) []string {
	var ids []string
	for id, r := range t.resources() {
		if r["Type"] == kind {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// only returns the one resource of a type, or nil.
func (t template) only(kind string) resource {
	ids := t.ofType(kind)
	if len(ids) != 1 {
		return nil
	}
	return t.resources()[ids[0]]
}

// at follows a path such as "Properties.EncryptionConfig.0.Provider.KeyArn".
func at(value any, path string) any {
	for _, step := range strings.Split(path, ".") {
		switch v := value.(type) {
		case resource:
			value = v[step]
		case map[string]any:
			value = v[step]
		case []any:
			var i int
			if _, err := fmt.Sscan(step, &i); err != nil || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}

// set is the counterpart of at, for mutations.
func set(value any, path string, to any) {
	head, last := "", path
	if i := strings.LastIndex(path, "."); i >= 0 {
		head, last = path[:i], path[i+1:]
		value = at(value, head)
	}
	switch v := value.(type) {
	case resource:
		v[last] = to
	case map[string]any:
		v[last] = to
	case []any:
		var i int
		if _, err := fmt.Sscan(last, &i); err != nil {
			panic(err)
		}
		v[i] = to
	default:
		panic("no such place: " + path)
	}
}

func (t template) clone() template {
	data, err := json.Marshal(t)
	if err != nil {
		panic(err)
	}
	var c template
	if err := json.Unmarshal(data, &c); err != nil {
		panic(err)
	}
	return c
}

func list(value any) []any {
	switch v := value.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{value}
}

// text flattens a value to a string: Ref and GetAtt as ${...}, Join and Sub
// joined.
func text(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case map[string]any:
		if ref, ok := v["Ref"].(string); ok {
			return "${" + ref + "}"
		}
		if names, ok := v["Fn::GetAtt"].([]any); ok {
			return "${" + text(names[0]) + "." + text(names[1]) + "}"
		}
		if sub, ok := v["Fn::Sub"].(string); ok {
			return sub
		}
		if join, ok := v["Fn::Join"].([]any); ok {
			var parts []string
			for _, p := range list(join[1]) {
				parts = append(parts, text(p))
			}
			return strings.Join(parts, text(join[0]))
		}
	}
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// secretsKey returns the key that the cluster names, or nil if it is not in the
// template.
func (t template) secretsKey() resource {
	id, _ := at(t.only("AWS::EKS::Cluster"), "Properties.EncryptionConfig.0.Provider.KeyArn.Fn::GetAtt.0").(string)
	return t.resources()[id]
}

// keyStatements returns the statements of the secrets key's policy; for an
// existing key those that its owner must add.
func (t template) keyStatements() []map[string]any {
	statements := list(at(t.secretsKey(), "Properties.KeyPolicy.Statement"))
	if output := at(map[string]any(t), "Outputs.ExistingKeyPolicyStatements.Value"); output != nil {
		if err := json.Unmarshal([]byte(text(output)), &statements); err != nil {
			panic(err)
		}
	}
	var all []map[string]any
	for _, s := range statements {
		all = append(all, s.(map[string]any))
	}
	return all
}

func actionsOf(statement map[string]any) []string {
	var actions []string
	for _, a := range list(statement["Action"]) {
		actions = append(actions, a.(string))
	}
	return actions
}

// principalsOf returns the principals of a statement as text.
func principalsOf(statement map[string]any) []string {
	var all []string
	if p, ok := statement["Principal"].(string); ok {
		return []string{p}
	}
	kinds, _ := statement["Principal"].(map[string]any)
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		for _, p := range list(kinds[kind]) {
			all = append(all, text(p))
		}
	}
	return all
}

var assetHash = regexp.MustCompile(`[0-9a-f]{64}`)

// golden writes a template as its golden holds it: without the hashes of
// assets, which change with every line of the plugin.
func (t template) golden() []byte {
	data, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		panic(err)
	}
	return append(assetHash.ReplaceAll(data, []byte("<asset-hash>")), '\n')
}
