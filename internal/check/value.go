package check

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/value"
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

var (
	at      = value.At
	unknown = value.IsOpen
	isTrue  = value.IsTrue
	number  = value.Number
	text    = value.Text
	list    = value.List
	texts   = value.Texts
	show    = value.Show
	glob    = value.Glob
)

// wild reports whether a pattern with * and ? matches a text, without regard to
// case.
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

// accountOf returns the account in an ARN, or "" if there is none.
func accountOf(text string) string {
	parts, _ := place.ParseARN(text)
	return parts.AccountID
}

func orNotSet(s string) string {
	if s == "" {
		return "not set"
	}
	return s
}
