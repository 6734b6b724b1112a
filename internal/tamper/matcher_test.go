package tamper

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// matches says whether EventBridge would send the event to the rule. It knows
// the part of the pattern language that this package writes, and fails on the
// rest. Source: Amazon EventBridge User Guide, "Event patterns" and "Comparison
// operators", and for what they leave open the README of Event Ruler, the
// library that EventBridge matches with:
//
//   - all fields of a pattern must match, and of a field any of its values;
//   - arrays in the event are crushed out: a field has the values that any of
//     the elements give it;
//   - {"exists": false} holds when the event has no value at that path, also when
//     a parent is missing;
//   - {"anything-but": ...} needs a value, and one that is not in the list.
//
// Left out: Event Ruler does not match two fields in different elements of the
// same array. No pattern here has two fields below an array.
func matches(pattern, event map[string]any) (bool, error) {
	return matchesAll(pattern, []any{event})
}

func matchesAll(pattern map[string]any, nodes []any) (bool, error) {
	if len(pattern) == 0 {
		return false, fmt.Errorf("empty pattern")
	}
	for field, want := range pattern {
		if field == "$or" {
			ok, err := matchesEither(want, nodes)
			if !ok || err != nil {
				return false, err
			}
			continue
		}
		ok, err := matchesField(want, values(nodes, field))
		if err != nil {
			return false, fmt.Errorf("%s: %w", field, err)
		}
		if !ok {
			return false, nil
		}
	}
	return true, nil
}

// matchesEither is for the list under $or, which Event Ruler takes from two on.
func matchesEither(want any, nodes []any) (bool, error) {
	list, ok := want.([]any)
	if !ok || len(list) < 2 {
		return false, fmt.Errorf("$or takes two patterns or more: %v", want)
	}
	matched := false
	for _, one := range list {
		pattern, ok := one.(map[string]any)
		if !ok {
			return false, fmt.Errorf("no pattern under $or: %v", one)
		}
		ok, err := matchesAll(pattern, nodes)
		if err != nil {
			return false, err
		}
		matched = matched || ok
	}
	return matched, nil
}

func matchesField(want any, found []any) (bool, error) {
	switch want := want.(type) {
	case map[string]any:
		return matchesAll(want, found)
	case []any:
		if len(want) == 0 {
			return false, fmt.Errorf("empty list")
		}
		matched := false
		for _, alternative := range want {
			ok, err := matchesValue(alternative, leaves(found))
			if err != nil {
				return false, err
			}
			matched = matched || ok
		}
		return matched, nil
	}
	return false, fmt.Errorf("a value outside a list: %v", want)
}

func matchesValue(want any, found []any) (bool, error) {
	operator, ok := want.(map[string]any)
	if !ok {
		return slices.Contains(found, want), nil
	}
	if exists, ok := operator["exists"].(bool); ok && len(operator) == 1 {
		return exists == (len(found) > 0), nil
	}
	if but, ok := operator["anything-but"]; ok && len(operator) == 1 {
		list, ok := but.([]any)
		if !ok {
			list = []any{but}
		}
		if len(list) == 0 || slices.ContainsFunc(list, func(v any) bool { _, ok := v.(string); return !ok }) {
			return false, fmt.Errorf("anything-but takes strings, at least one: %v", but)
		}
		return slices.ContainsFunc(found, func(v any) bool { return !slices.Contains(list, v) }), nil
	}
	for name, matches := range map[string]func(s, part string) bool{"prefix": strings.HasPrefix, "suffix": strings.HasSuffix} {
		if part, ok := operator[name].(string); ok && len(operator) == 1 && part != "" {
			return slices.ContainsFunc(found, func(v any) bool { s, ok := v.(string); return ok && matches(s, part) }), nil
		}
	}
	return false, fmt.Errorf("unknown operator %v", operator)
}

// values collects what the field holds in each of the nodes, arrays opened.
func values(nodes []any, field string) (found []any) {
	for _, n := range nodes {
		switch n := n.(type) {
		case []any:
			found = append(found, values(n, field)...)
		case map[string]any:
			if v, there := n[field]; there {
				found = append(found, v)
			}
		}
	}
	return found
}

// leaves are the plain values among the nodes. An object is no leaf.
func leaves(nodes []any) (found []any) {
	for _, n := range nodes {
		switch n := n.(type) {
		case []any:
			found = append(found, leaves(n)...)
		case map[string]any:
		default:
			found = append(found, n)
		}
	}
	return found
}

func TestMatcher(t *testing.T) {
	for _, tc := range []struct {
		name, pattern, event string
		want                 bool
	}{
		{"value", `{"a":["x"]}`, `{"a":"x"}`, true},
		{"other value", `{"a":["x"]}`, `{"a":"y"}`, false},
		{"case matters", `{"a":["x"]}`, `{"a":"X"}`, false},
		{"one of several values", `{"a":["x","y"]}`, `{"a":"y"}`, true},
		{"field missing", `{"a":["x"]}`, `{"b":"x"}`, false},
		{"all fields", `{"a":["x"],"b":["y"]}`, `{"a":"x","b":"y","c":"z"}`, true},
		{"not all fields", `{"a":["x"],"b":["y"]}`, `{"a":"x","b":"z"}`, false},
		{"number is no string", `{"a":["1"]}`, `{"a":1}`, false},
		{"nested", `{"a":{"b":["x"]}}`, `{"a":{"b":"x"}}`, true},
		{"nested elsewhere", `{"a":{"b":["x"]}}`, `{"b":"x"}`, false},
		{"parent is a plain value", `{"a":{"b":["x"]}}`, `{"a":"x"}`, false},
		{"array in the event", `{"a":["x"]}`, `{"a":["y","x"]}`, true},
		{"array without the value", `{"a":["x"]}`, `{"a":["y"]}`, false},
		{"array of objects", `{"r":{"ARN":["x"]}}`, `{"r":[{"ARN":"y"},{"ARN":"x"}]}`, true},
		{"array of objects without the value", `{"r":{"ARN":["x"]}}`, `{"r":[{"ARN":"y"},{}]}`, false},
		{"array of arrays", `{"r":{"ARN":["x"]}}`, `{"r":[[{"ARN":"y"}],[{"ARN":"x"}]]}`, true},
		{"exists", `{"a":[{"exists":true}]}`, `{"a":"x"}`, true},
		{"exists, missing", `{"a":[{"exists":true}]}`, `{}`, false},
		{"absent", `{"a":[{"exists":false}]}`, `{"b":"x"}`, true},
		{"absent, there", `{"a":[{"exists":false}]}`, `{"a":"x"}`, false},
		{"absent, empty string is there", `{"a":[{"exists":false}]}`, `{"a":""}`, false},
		{"absent with its parent", `{"a":{"b":[{"exists":false}]}}`, `{}`, true},
		{"absent in an empty parent", `{"a":{"b":[{"exists":false}]}}`, `{"a":{}}`, true},
		{"absent: an object is no leaf", `{"a":[{"exists":false}]}`, `{"a":{"b":"x"}}`, true},
		{"absent in a null parent", `{"a":{"b":[{"exists":false}]}}`, `{"a":null}`, true},
		{"anything but", `{"a":[{"anything-but":["x","y"]}]}`, `{"a":"z"}`, true},
		{"anything but, listed", `{"a":[{"anything-but":["x","y"]}]}`, `{"a":"y"}`, false},
		{"anything but one", `{"a":[{"anything-but":"x"}]}`, `{"a":"y"}`, true},
		{"anything but needs a value", `{"a":[{"anything-but":["x"]}]}`, `{}`, false},
		{"anything but or absent", `{"a":{"b":[{"anything-but":["x"]},{"exists":false}]}}`, `{}`, true},
		{"prefix", `{"a":[{"prefix":"x-"}]}`, `{"a":"x-y"}`, true},
		{"prefix, elsewhere", `{"a":[{"prefix":"x-"}]}`, `{"a":"y-x-"}`, false},
		{"prefix of nothing", `{"a":[{"prefix":"x-"}]}`, `{}`, false},
		{"suffix", `{"a":[{"suffix":"-x"}]}`, `{"a":"y-x"}`, true},
		{"suffix, elsewhere", `{"a":[{"suffix":"-x"}]}`, `{"a":"-x-y"}`, false},
		{"either field", `{"$or":[{"a":["x"]},{"b":["y"]}]}`, `{"b":"y"}`, true},
		{"neither field", `{"$or":[{"a":["x"]},{"b":["y"]}]}`, `{"a":"y","b":"x"}`, false},
		{"either field below, beside another", `{"c":{"$or":[{"a":["x"]},{"b":["y"]}]},"d":["z"]}`, `{"c":{"a":"x"},"d":"z"}`, true},
		{"either field below, without the other", `{"c":{"$or":[{"a":["x"]},{"b":["y"]}]},"d":["z"]}`, `{"c":{"a":"x"}}`, false},
		{"anything but or absent, listed", `{"a":{"b":[{"anything-but":["x"]},{"exists":false}]}}`, `{"a":{"b":"x"}}`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := matches(object(t, []byte(tc.pattern)), object(t, []byte(tc.event)))
			if err != nil || got != tc.want {
				t.Errorf("%s on %s: %t, %v", tc.pattern, tc.event, got, err)
			}
		})
	}
	for _, pattern := range []string{
		`{"a":"x"}`, `{"a":[]}`, `{"a":{}}`, `{"a":[{"cidr":"10.0.0.0/8"}]}`, `{"a":[{"anything-but":[]}]}`, `{"$or":[{"a":["x"]}]}`, `{"$or":["a","b"]}`, `{"a":[{"prefix":""}]}`,
		`{"a":[{"anything-but":null}]}`, `{"a":[{"anything-but":{"prefix":"x"}}]}`,
	} {
		if _, err := matches(object(t, []byte(pattern)), map[string]any{"a": "x"}); err == nil {
			t.Errorf("%s: no error", pattern)
		}
	}
}

func object(t *testing.T, data []byte) (m map[string]any) {
	t.Helper()
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return m
}
