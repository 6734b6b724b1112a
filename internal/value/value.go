// Package value reads values of templates: known, unknown, or one of a few by a condition,
// and in each of the forms that CloudFormation takes.
package value

import (
	"fmt"
	"strconv"
	"strings"
)

// At follows a path of keys. Nil if something on the way is not there; a value on the way
// that is not known, or not in full, is the result.
func At(v any, path ...string) any {
	for _, key := range path {
		if IsOpen(v) {
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

// IsOpen tells that a value is not in what was read, or a text of which a part is not.
func IsOpen(v any) bool {
	text, _ := v.(string)
	return IsUnknown(v) || strings.Contains(text, "${")
}

// IsUnknown tells that a value is not in what was read.
func IsUnknown(v any) bool {
	_, ok := v.(Unknown)
	return ok
}

// IsTrue reads a boolean as CloudFormation does, which takes strings too. A
// value that is not there, or not known, gives the default.
func IsTrue(v any, byDefault bool) bool {
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

// Number reads a number as CloudFormation does.
func Number(v any) (float64, bool) {
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

// Text is a string, or empty.
func Text(v any) string {
	s, _ := v.(string)
	return s
}

// List reads one value or a list of values as a list.
func List(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

// Texts reads one string or a list as strings. What is no string is written as
// it would be shown.
func Texts(v any) []string {
	var all []string
	for _, e := range List(v) {
		all = append(all, Show(e))
	}
	return all
}

// Words writes a value for a page.
func Words(v any) string {
	switch v := v.(type) {
	case nil:
		return "not set"
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case []any:
		var all []string
		for _, e := range v {
			all = append(all, Words(e))
		}
		return strings.Join(all, ", ")
	}
	return fmt.Sprint(v)
}

// Show writes a value for a message.
func Show(v any) string {
	switch v := v.(type) {
	case nil:
		return "not set"
	case string:
		return v
	case Unknown:
		return v.String()
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []any:
		return "[" + strings.Join(Texts(v), ", ") + "]"
	}
	return fmt.Sprint(v)
}

// Glob matches with * for any characters, also none, as EventBridge and metric filters do. Case
// counts.
func Glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	first, last := parts[0], parts[len(parts)-1]
	if !strings.HasPrefix(s, first) || len(s) < len(first)+len(last) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return true
}
