package check

import (
	"fmt"
	"regexp"
	"strings"
)

// parseFilter reads a filter pattern of CloudWatch Logs for JSON, such as
//
//	{ ($.eventSource = kms.amazonaws.com) && ($.eventName = DisableKey) }
//
// It knows what patterns on CloudTrail's events use: comparisons of strings with
// *, EXISTS, &&, || and parentheses. Source: Amazon CloudWatch Logs User Guide,
// "Filter pattern syntax for metric filters".
func parseFilter(pattern string) (func(event any) bool, error) {
	inner, ok := strings.CutPrefix(strings.TrimSpace(pattern), "{")
	inner, ok2 := strings.CutSuffix(inner, "}")
	if !ok || !ok2 {
		return nil, fmt.Errorf("%q is no pattern for JSON", pattern)
	}
	p := &filterParser{}
	for rest := strings.TrimSpace(inner); rest != ""; rest = strings.TrimSpace(rest) {
		token := filterToken.FindString(rest)
		if token == "" {
			return nil, fmt.Errorf("can't read %q", rest)
		}
		p.tokens = append(p.tokens, token)
		rest = rest[len(token):]
	}
	match, err := p.any()
	if err != nil {
		return nil, err
	}
	if len(p.tokens) > 0 {
		return nil, fmt.Errorf("can't read %q", strings.Join(p.tokens, " "))
	}
	return match, nil
}

var filterToken = regexp.MustCompile(`^(&&|\|\||!=|=|\(|\)|"[^"]*"|\$\.[A-Za-z0-9_.\-]+|[^\s()="&|!<>]+)`)

type filterParser struct{ tokens []string }

func (p *filterParser) next() string {
	if len(p.tokens) == 0 {
		return ""
	}
	token := p.tokens[0]
	p.tokens = p.tokens[1:]
	return token
}

func (p *filterParser) take(token string) bool {
	if len(p.tokens) > 0 && strings.EqualFold(p.tokens[0], token) {
		p.tokens = p.tokens[1:]
		return true
	}
	return false
}

func (p *filterParser) any() (func(any) bool, error) {
	left, err := p.all()
	for err == nil && p.take("||") {
		var right func(any) bool
		before := left
		right, err = p.all()
		left = func(e any) bool { return before(e) || right(e) }
	}
	return left, err
}

func (p *filterParser) all() (func(any) bool, error) {
	left, err := p.term()
	for err == nil && p.take("&&") {
		var right func(any) bool
		before := left
		right, err = p.term()
		left = func(e any) bool { return before(e) && right(e) }
	}
	return left, err
}

func (p *filterParser) term() (func(any) bool, error) {
	if p.take("(") {
		inner, err := p.any()
		if err == nil && !p.take(")") {
			err = fmt.Errorf("a parenthesis is open")
		}
		return inner, err
	}
	field := p.next()
	path, ok := strings.CutPrefix(field, "$.")
	if !ok {
		return nil, fmt.Errorf("want a field such as $.eventName, got %q", field)
	}
	value := func(e any) any { return at(e, strings.Split(path, ".")...) }
	switch {
	case p.take("="):
		want := strings.Trim(p.next(), `"`)
		return func(e any) bool { v := value(e); return v != nil && glob(want, show(v)) }, nil
	case p.take("!="):
		want := strings.Trim(p.next(), `"`)
		return func(e any) bool { v := value(e); return v != nil && !glob(want, show(v)) }, nil
	case p.take("EXISTS"):
		return func(e any) bool { return value(e) != nil }, nil
	case p.take("NOT"):
		if p.take("EXISTS") {
			return func(e any) bool { return value(e) == nil }, nil
		}
	}
	return nil, fmt.Errorf("can't read what is asked of %s", field)
}
