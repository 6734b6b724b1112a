package value

import (
	"maps"
	"regexp"
	"slices"
)

// Unknown is a value that is not in what was read: an import from elsewhere, a
// parameter without a default. In a longer string it stands as ${Expression}.
type Unknown struct {
	Expression string
	// If is the condition that is not decided, for a value that depends on one.
	If *Choice
}

// Choice is a value that depends on a condition.
type Choice struct {
	Condition  string
	Then, Else any
}

// Nothing is a value that is not there after all.
type Nothing struct{}

func (u Unknown) String() string { return "${" + u.Expression + "}" }

// ifIn matches a value that depends on a condition within a longer one.
var ifIn = regexp.MustCompile(`\$\{Fn::If ([^}]+)\}`)

// Conditions are the conditions in a value that were not decided.
func Conditions(v any) (all []string) {
	var find func(v any)
	add := func(condition string) {
		if !slices.Contains(all, condition) {
			all = append(all, condition)
		}
	}
	find = func(v any) {
		switch v := v.(type) {
		case string:
			for _, m := range ifIn.FindAllStringSubmatch(v, -1) {
				add(m[1])
			}
		case Unknown:
			if v.If != nil {
				add(v.If.Condition)
				find(v.If.Then)
				find(v.If.Else)
			}
		case []any:
			for _, e := range v {
				find(e)
			}
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(v)) {
				find(v[key])
			}
		}
	}
	find(v)
	return all
}

// mostConditions bounds the alternatives of a value: two for each condition.
const mostConditions = 5

// Alternatives are all that a value can be, by the conditions in it that are not decided.
// What depends on more than a few stays unknown.
func Alternatives(v any) (all []any) {
	conditions := Conditions(v)
	conditions = conditions[:min(len(conditions), mostConditions)]
	for n := range 1 << len(conditions) {
		now := map[string]bool{}
		for i, c := range conditions {
			now[c] = n>>i&1 == 0
		}
		all = append(all, decided(v, now))
	}
	return all
}

// decided puts in what conditions decide.
func decided(v any, now map[string]bool) any {
	switch v := v.(type) {
	case Unknown:
		if v.If != nil {
			if then, known := now[v.If.Condition]; known && then {
				return decided(v.If.Then, now)
			} else if known {
				return decided(v.If.Else, now)
			}
		}
	case []any:
		list := make([]any, 0, len(v))
		for _, e := range v {
			if e = decided(e, now); !isNothing(e) {
				list = append(list, e)
			}
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for key, e := range v {
			if e = decided(e, now); !isNothing(e) {
				m[key] = e
			}
		}
		return m
	}
	return v
}

func isNothing(v any) bool {
	_, ok := v.(Nothing)
	return ok
}
