package iampolicy

import (
	"fmt"
	"regexp"
	"strings"
)

// truth is what is known of a statement about a request. Open is between the two:
// it depends on what the request's context does not say.
type truth int8

const (
	no truth = iota - 1
	open
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

func (t truth) not() truth { return -t }

// glyph is one character of a pattern, or a wildcard.
type glyph struct {
	r    rune
	wild bool
}

type pattern []glyph

// plain is a text in which * and ? are wildcards, and nothing else is special.
func plain(text string) pattern {
	p := make(pattern, 0, len(text))
	for _, r := range text {
		p = append(p, glyph{r, r == '*' || r == '?'})
	}
	return p
}

// String is the pattern as plain text.
func (p pattern) String() string {
	var b strings.Builder
	for _, g := range p {
		b.WriteRune(g.r)
	}
	return b.String()
}

// matches compares with wildcards: * stands for any characters, also none and
// also colons and slashes, ? for one.
func (p pattern) matches(text string) bool {
	t := []rune(text)
	// star is the position behind the last *, and from where its run ends so far.
	i, j, star, from := 0, 0, -1, 0
	for j < len(t) {
		switch {
		case i < len(p) && p[i] == glyph{'*', true}:
			i++
			star, from = i, j
		case i < len(p) && (p[i] == glyph{'?', true} || p[i] == glyph{t[j], false}):
			i++
			j++
		case star >= 0:
			from++
			i, j = star, from
		default:
			return false
		}
	}
	for i < len(p) && p[i] == (glyph{'*', true}) {
		i++
	}
	return i == len(p)
}

// segments splits at the first colons, into at most n parts.
func (p pattern) segments(n int) []pattern {
	var parts []pattern
	for len(parts) < n-1 {
		i := 0
		for i < len(p) && p[i] != (glyph{':', false}) {
			i++
		}
		if i == len(p) {
			break
		}
		parts, p = append(parts, p[:i]), p[i+1:]
	}
	return append(parts, p)
}

// variable is what stands between ${ and }: the name of a condition key and
// perhaps a default.
var variable = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9_.:/=+@-]*)(?:\s*,\s*'([^']*)')?$`)

// expand reads a text with policy variables, whose values value looks up: it says
// yes with the value, no if the key is absent, open if that is not known. The
// result is a pattern if the truth is yes; it is no if a variable has no value.
//
// Source: IAM User Guide, "IAM policy elements: Variables and tags".
func expand(text string, value func(key string) (string, truth)) (pattern, truth, error) {
	var p pattern
	known := yes
	for text != "" {
		before, rest, special := strings.Cut(text, "${")
		p = append(p, plain(before)...)
		if !special {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, no, fmt.Errorf("policy variable %q has no closing brace", "${"+rest)
		}
		text = after
		if name == "*" || name == "?" || name == "$" {
			p = append(p, glyph{rune(name[0]), false})
			continue
		}
		parts := variable.FindStringSubmatch(name)
		if parts == nil {
			return nil, no, fmt.Errorf("${%s} is no policy variable", name)
		}
		v, t := value(parts[1])
		if t == no && strings.Contains(name, "'") {
			v, t = parts[2], yes
		}
		known = min(known, t)
		for _, r := range v {
			p = append(p, glyph{r, false})
		}
	}
	return p, known, nil
}

// withoutVariables writes a text so that expand gives it back as it is.
func withoutVariables(text string) string { return strings.ReplaceAll(text, "${", "${$}{") }
