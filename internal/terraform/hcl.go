package terraform

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// reference is an expression as a value of the blueprint.
//
// In a text it stands between two marks that this run of the program alone has: it goes
// through every package that takes texts, and nothing that a configuration says can be
// taken for one.
type reference string

var (
	mark     = rand.Text()
	refBegin = "${" + mark + ":"
	refEnd   = ":" + mark + "}"
)

// Text returns what stands for the expression.
func (r reference) Text() string { return refBegin + string(r) + refEnd }

// Known is false: Terraform knows the value, and nobody here does.
func (r reference) Known() bool { return false }

// ref is a reference within a text.
func ref(expression string) string { return reference(expression).Text() }

// raw is an expression that is written as it is.
type raw string

// tokens parses the expression. It was written by this package: one that does not
// parse is a fault of the program.
func (r raw) tokens() hclwrite.Tokens {
	file, diags := hclwrite.ParseConfig([]byte("x = "+string(r)+"\n"), "", hcl2.InitialPos)
	if diags.HasErrors() {
		panic(fmt.Sprintf("terraform: %s: %v", r, diags))
	}
	return file.Body().GetAttribute("x").Expr().BuildTokens(nil)
}

// plain makes maps, lists, strings, numbers and booleans of a value.
func plain(v any) any {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("terraform: %v", err))
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		panic(fmt.Sprintf("terraform: %v", err))
	}
	return out
}

// hcl is a value as an expression. What is text in it becomes no expression, but for
// references.
func hcl(v any) string { return string(tokensOf(v).Bytes()) }

func tokensOf(v any) hclwrite.Tokens {
	switch v := v.(type) {
	case nil:
		return raw("null").tokens()
	case raw:
		return v.tokens()
	case string:
		return stringTokens(v)
	case bool:
		return hclwrite.TokensForValue(cty.BoolVal(v))
	case int:
		return hclwrite.TokensForValue(cty.NumberIntVal(int64(v)))
	case float64:
		return hclwrite.TokensForValue(cty.NumberVal(big.NewFloat(v)))
	case []string:
		list := make([]any, len(v))
		for i := range v {
			list[i] = v[i]
		}
		return listTokens(list)
	case []any:
		return listTokens(v)
	case map[string]any:
		return mapTokens(v)
	}
	return tokensOf(plain(v))
}

func stringTokens(s string) hclwrite.Tokens {
	if strings.Contains(strings.TrimSuffix(s, "\n"), "\n") {
		lines := strings.Split(s, "\n")
		list := make([]any, len(lines))
		for i := range lines {
			list[i] = lines[i]
		}
		return hclwrite.TokensForFunctionCall("join", tokensOf("\n"), listTokens(list))
	}
	if !strings.Contains(s, refBegin) {
		return hclwrite.TokensForValue(cty.StringVal(s))
	}
	if expression, ok := wholeRef(s); ok {
		return raw(strings.TrimPrefix(expression, listMark)).tokens()
	}
	tokens := hclwrite.Tokens{{Type: hclsyntax.TokenOQuote, Bytes: []byte(`"`)}}
	for s != "" {
		literal, rest, found := strings.Cut(s, refBegin)
		if literal != "" {
			quoted := hclwrite.TokensForValue(cty.StringVal(literal))
			tokens = append(tokens, quoted[1:len(quoted)-1]...)
		}
		if !found {
			break
		}
		var expression string
		expression, s, _ = strings.Cut(rest, refEnd)
		tokens = append(tokens, &hclwrite.Token{Type: hclsyntax.TokenTemplateInterp, Bytes: []byte("${")})
		tokens = append(tokens, raw(expression).tokens()...)
		tokens = append(tokens, &hclwrite.Token{Type: hclsyntax.TokenTemplateSeqEnd, Bytes: []byte("}")})
	}
	return append(tokens, &hclwrite.Token{Type: hclsyntax.TokenCQuote, Bytes: []byte(`"`)})
}

// wholeRef returns the expression of a string that is one token and nothing else.
func wholeRef(s string) (string, bool) {
	inner, ok := strings.CutPrefix(s, refBegin)
	if !ok {
		return "", false
	}
	inner, ok = strings.CutSuffix(inner, refEnd)
	return inner, ok && !strings.Contains(inner, refBegin)
}

// listRef is a reference to a list of strings. It must be the only element of a list,
// which is then the list that the expression gives.
func listRef(expression string) string { return ref(listMark + expression) }

const listMark = "list:"

func listTokens(list []any) hclwrite.Tokens {
	if len(list) == 1 {
		if s, ok := list[0].(string); ok && strings.HasPrefix(s, refBegin+listMark) {
			return stringTokens(s)
		}
	}
	elements := make([]hclwrite.Tokens, len(list))
	width, lines := 0, false
	for i, v := range list {
		elements[i] = tokensOf(v)
		for _, t := range elements[i] {
			width += len(t.Bytes)
			lines = lines || t.Type == hclsyntax.TokenNewline
		}
	}
	if len(list) < 2 || width < 100 && !lines {
		return hclwrite.TokensForTuple(elements)
	}
	tokens := hclwrite.Tokens{
		{Type: hclsyntax.TokenOBrack, Bytes: []byte("[")},
		{Type: hclsyntax.TokenNewline, Bytes: []byte("\n")},
	}
	for _, e := range elements {
		tokens = append(tokens, e...)
		tokens = append(tokens,
			&hclwrite.Token{Type: hclsyntax.TokenComma, Bytes: []byte(",")},
			&hclwrite.Token{Type: hclsyntax.TokenNewline, Bytes: []byte("\n")})
	}
	return append(tokens, &hclwrite.Token{Type: hclsyntax.TokenCBrack, Bytes: []byte("]")})
}

func mapTokens(m map[string]any) hclwrite.Tokens {
	var attrs []hclwrite.ObjectAttrTokens
	for _, key := range slices.Sorted(maps.Keys(m)) {
		name := stringTokens(key)
		if hclsyntax.ValidIdentifier(key) {
			name = hclwrite.TokensForIdentifier(key)
		}
		attrs = append(attrs, hclwrite.ObjectAttrTokens{Name: name, Value: tokensOf(m[key])})
	}
	return hclwrite.TokensForObject(attrs)
}

var (
	blank = regexp.MustCompile(`\n[ \t\n]*\n`)
	inner = regexp.MustCompile(`\{\n\n|\n\n( *[})])`)
)

// format lays out what a template gave: one empty line where there are several, and
// none at the ends of a block. No text of HCL holds a line's end.
func format(text string) []byte {
	text = blank.ReplaceAllString(text, "\n\n")
	text = inner.ReplaceAllStringFunc(text, func(s string) string { return strings.Replace(s, "\n\n", "\n", 1) })
	if text = strings.TrimSpace(text); text == "" {
		return nil
	}
	return hclwrite.Format([]byte(text + "\n"))
}
