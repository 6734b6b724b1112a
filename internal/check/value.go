package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ekskms/ekskms/internal/cfn"
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// at follows a path of keys. Nil if something on the way is not there; an
// unknown value on the way is the result.
func at(v any, path ...string) any {
	for _, key := range path {
		if unknown(v) {
			return v
		}
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

func unknown(v any) bool {
	_, ok := v.(cfn.Unknown)
	return ok
}

// isTrue reads a boolean as CloudFormation does, which takes strings too. A
// value that is not there, or not known, gives the default.
func isTrue(v any, byDefault bool) bool {
	switch v := v.(type) {
	case bool:
		return v
	case string:
		if b, err := strconv.ParseBool(strings.ToLower(v)); err == nil {
			return b
		}
	}
	return byDefault
}

// number reads a number as CloudFormation does.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case int:
		return float64(v), true
	case string:
		n, err := strconv.ParseFloat(v, 64)
		return n, err == nil
	}
	return 0, false
}

// text is a string, or empty.
func text(v any) string {
	s, _ := v.(string)
	return s
}

// list reads one value or a list of values as a list.
func list(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

// texts reads one string or a list as strings. What is no string is written as
// it would be shown.
func texts(v any) []string {
	var all []string
	for _, e := range list(v) {
		all = append(all, show(e))
	}
	return all
}

// show writes a value for a message.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "not set"
	case string:
		return v
	case cfn.Unknown:
		return "${" + v.Expression + "}"
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []any:
		return "[" + strings.Join(texts(v), ", ") + "]"
	}
	return fmt.Sprint(v)
}

// wild reports whether a pattern with * and ? matches a text, without regard to
// case, as IAM compares actions.
func wild(pattern, s string) bool {
	pattern, s = strings.ToLower(pattern), strings.ToLower(s)
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			p = star + 1
			mark++
			i = mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// arnPart returns a part of an ARN: 1 is the partition, 2 the service, 3 the
// Region, 4 the account, 5 the resource. Empty if it is no ARN.
func arnPart(arn string, n int) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 || parts[0] != "arn" {
		return ""
	}
	return parts[n]
}

// retained tells that CloudFormation keeps a resource when its stack is deleted,
// and when it is replaced.
func retained(r *cfn.Resource) bool {
	return (r.DeletionPolicy == "Retain" || r.DeletionPolicy == "RetainExceptOnCreate") && r.UpdateReplacePolicy == "Retain"
}

func orNotSet(s string) string {
	if s == "" {
		return "not set"
	}
	return s
}
