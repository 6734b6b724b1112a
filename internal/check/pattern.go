package check

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// matcher tells whether an event, or a part of one, is matched.
type matcher func(event any) bool

// compilePattern reads an EventBridge event pattern. Whatever is not understood
// is an error: a rule that may never fire must not count as an alarm. Source:
// Amazon EventBridge User Guide, "Amazon EventBridge event patterns" and
// "Comparison operators for use in event patterns".
func compilePattern(pattern any) (matcher, error) {
	object, ok := pattern.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("a pattern is an object, not %s", show(pattern))
	}
	var all []matcher
	for _, field := range sortedKeys(object) {
		m, err := compileField(field, object[field])
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return func(event any) bool {
		return !slices.ContainsFunc(all, func(m matcher) bool { return !m(event) })
	}, nil
}

func compileField(field string, want any) (matcher, error) {
	switch want := want.(type) {
	case map[string]any:
		below, err := compilePattern(want)
		return func(event any) bool {
			got := fieldValues(event, field)
			if len(got) == 0 {
				// A part that is not there can still be one without some field.
				return below(nil)
			}
			// Of a list of objects one must match as a whole.
			return slices.ContainsFunc(got, below)
		}, err
	case []any:
		if field == "$or" {
			return compileOr(want)
		}
		leaf, err := compileLeaf(want)
		return func(event any) bool { return leaf(fieldValues(event, field)) }, err
	}
	return nil, fmt.Errorf("the value of %s must be a list, not %s", field, show(want))
}

func compileOr(patterns []any) (matcher, error) {
	var either []matcher
	for _, p := range patterns {
		m, err := compilePattern(p)
		if err != nil {
			return nil, err
		}
		either = append(either, m)
	}
	return func(event any) bool {
		return slices.ContainsFunc(either, func(m matcher) bool { return m(event) })
	}, nil
}

// fieldValues are the values of a field, those of a list one by one.
func fieldValues(event any, field string) []any {
	object, _ := event.(map[string]any)
	value, there := object[field]
	if !there {
		return nil
	}
	if many, ok := value.([]any); ok {
		return many
	}
	return []any{value}
}

// compileLeaf reads a list of values and comparisons, of which one must match.
func compileLeaf(wanted []any) (func(got []any) bool, error) {
	var either []func(got []any) bool
	for _, want := range wanted {
		object, ok := want.(map[string]any)
		if !ok {
			either = append(either, func(got []any) bool {
				return slices.ContainsFunc(got, func(v any) bool { return (v == nil) == (want == nil) && show(v) == show(want) })
			})
			continue
		}
		if len(object) != 1 {
			return nil, fmt.Errorf("a comparison has one operator, not %s", show(want))
		}
		for operator, operand := range object {
			if operator == "exists" {
				either = append(either, func(got []any) bool { return (len(got) > 0) == isTrue(operand, true) })
				continue
			}
			one, err := comparison(operator, operand)
			if err != nil {
				return nil, err
			}
			either = append(either, func(got []any) bool {
				return slices.ContainsFunc(got, func(v any) bool { return one(show(v)) })
			})
		}
	}
	return func(got []any) bool {
		return slices.ContainsFunc(either, func(m func([]any) bool) bool { return m(got) })
	}, nil
}

func comparison(operator string, operand any) (func(string) bool, error) {
	// Prefix and suffix take {"equals-ignore-case": text} too.
	fold := func(s string) string { return s }
	if folded := at(operand, "equals-ignore-case"); folded != nil && operator != "anything-but" {
		operand, fold = folded, strings.ToLower
	}
	want := fold(show(operand))
	switch operator {
	case "prefix":
		return func(s string) bool { return strings.HasPrefix(fold(s), want) }, nil
	case "suffix":
		return func(s string) bool { return strings.HasSuffix(fold(s), want) }, nil
	case "equals-ignore-case":
		return func(s string) bool { return strings.EqualFold(s, want) }, nil
	case "wildcard":
		return func(s string) bool { return glob(want, s) }, nil
	case "cidr":
		prefix, err := netip.ParsePrefix(want)
		return func(s string) bool {
			addr, err := netip.ParseAddr(s)
			return err == nil && prefix.Contains(addr)
		}, err
	case "anything-but":
		return anythingBut(operand)
	}
	return nil, fmt.Errorf("unknown operator %q", operator)
}

func anythingBut(operand any) (func(string) bool, error) {
	var excluded []func(string) bool
	if object, ok := operand.(map[string]any); ok {
		for operator, operands := range object {
			for _, o := range list(operands) {
				f, err := comparison(operator, o)
				if err != nil {
					return nil, err
				}
				excluded = append(excluded, f)
			}
		}
	} else {
		for _, o := range list(operand) {
			want := show(o)
			excluded = append(excluded, func(s string) bool { return s == want })
		}
	}
	return func(s string) bool {
		return !slices.ContainsFunc(excluded, func(f func(string) bool) bool { return f(s) })
	}, nil
}
