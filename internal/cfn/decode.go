package cfn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ekskms/ekskms/internal/hint"
)

// document is a template as it was written.
type document struct {
	resources, parameters, mappings, outputs map[string]map[string]any
	rawConditions                            map[string]any
	lines                                    map[string]int
	// transforms are the macros that may change the template before it is deployed.
	transforms []string
	// imports tells that it may take values from other templates.
	imports bool
	// twice are the places where a name is given twice: the last one counts.
	twice []string
}

// decode reads a template in JSON or YAML.
func decode(data []byte) (*document, error) {
	sections := map[string]map[string]any{}
	lines := map[string]int{}
	var twice []string
	var err error
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' {
		twice, err = decodeJSON(data, sections, lines)
	} else {
		twice, err = decodeYAML(data, sections, lines)
	}
	if err != nil {
		return nil, err
	}
	if len(sections["Resources"]) == 0 {
		return nil, errors.New("is no CloudFormation template, for it has no Resources")
	}
	loops := bytes.Contains(data, []byte("Fn::ForEach"))
	for _, name := range []string{"Conditions", "Resources", "Outputs"} {
		if !loops {
			break
		}
		if expanded, ok := forEach(sections[name], parameterLists(sections["Parameters"]), func(made, by string) { lines[made] = lines[by] }).(map[string]any); ok {
			sections[name] = expanded
		}
	}
	d := &document{lines: lines, rawConditions: sections["Conditions"], transforms: transforms(sections), twice: twice, imports: bytes.Contains(data, []byte("ImportValue"))}
	for name, into := range map[string]*map[string]map[string]any{
		"Resources": &d.resources, "Parameters": &d.parameters, "Mappings": &d.mappings, "Outputs": &d.outputs,
	} {
		*into = map[string]map[string]any{}
		for id, value := range sections[name] {
			m, ok := value.(map[string]any)
			if !ok {
				if name == "Resources" && strings.HasPrefix(id, "Fn::") {
					return nil, fmt.Errorf("%s in Resources can't be expanded, for what it repeats is not known: expand it first", id)
				}
				return nil, fmt.Errorf("%s.%s is no object", name, id)
			}
			if name == "Resources" {
				if _, ok := m["Type"].(string); !ok {
					return nil, fmt.Errorf("%s.%s has no Type", name, id)
				}
			}
			(*into)[id] = m
		}
	}
	return d, nil
}

// decodeJSON reads the sections of a template one by one, to learn the lines of the
// resources. Of a name that is given twice the last one counts, as for CloudFormation
// (aws-cloudformation/cfn-language-discussion, issue 96).
func decodeJSON(data []byte, sections map[string]map[string]any, lines map[string]int) (twice []string, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	line, counted := 1, 0
	at := func() int {
		offset := int(d.InputOffset())
		line += bytes.Count(data[counted:offset], []byte("\n"))
		counted = offset
		return line
	}
	object := func(each func(key string) error) error {
		token, err := d.Token()
		if err != nil {
			return err
		}
		if token != json.Delim('{') {
			return fmt.Errorf("line %d: want an object, got %v", at(), token)
		}
		seen := map[string]bool{}
		for d.More() {
			token, err := d.Token()
			if err != nil {
				return err
			}
			key := token.(string)
			if seen[key] {
				twice = append(twice, givenTwice(at(), key))
			}
			seen[key] = true
			if err := each(key); err != nil {
				return err
			}
		}
		_, err = d.Token()
		return err
	}
	value := func() (v any, err error) {
		from := at()
		start := counted
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		text := data[start:d.InputOffset()]
		of := bytes.TrimLeft(text, ": \t\r\n") // what comes before belongs to the name
		if pairs(of) > keys(v) {
			twice = append(twice, twiceIn(of, from+bytes.Count(text[:len(text)-len(of)], []byte("\n")))...)
		}
		return v, nil
	}
	err = object(func(section string) (err error) {
		sections[section] = map[string]any{}
		switch section {
		case "Resources", "Parameters", "Conditions", "Mappings", "Outputs":
		default:
			sections[section][""], err = value()
			return err
		}
		return object(func(id string) (err error) {
			if section == "Resources" {
				lines[id] = at()
			}
			sections[section][id], err = value()
			return err
		})
	})
	if err != nil {
		return nil, errors.New(hint.Plain(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("has text after the end of the template")
	}
	return twice, nil
}

func givenTwice(line int, name string) string {
	return fmt.Sprintf("line %d: %q is given twice, of which CloudFormation takes the last", line, name)
}

// pairs counts the names that a text of JSON gives to values: each has a colon outside of
// strings, after it.
func pairs(text []byte) (n int) {
	for i, in := 0, false; i < len(text); i++ {
		switch {
		case text[i] == '"':
			in = !in
		case in && text[i] == '\\':
			i++
		case !in && text[i] == ':':
			n++
		}
	}
	return n
}

// keys counts the names in a value.
func keys(v any) (n int) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			n += keys(e)
		}
	case map[string]any:
		n = len(v)
		for _, e := range v {
			n += keys(e)
		}
	}
	return n
}

// twiceIn finds names that are given twice in a text of JSON, which begins in a line.
func twiceIn(text []byte, line int) (twice []string) {
	d := json.NewDecoder(bytes.NewReader(text))
	var value func(token json.Token)
	value = func(token json.Token) {
		seen := map[string]bool{}
		for token == json.Delim('{') || token == json.Delim('[') {
			next, err := d.Token()
			if err != nil || next == json.Delim('}') || next == json.Delim(']') {
				return
			}
			if name, ok := next.(string); ok && token == json.Delim('{') {
				if seen[name] {
					twice = append(twice, givenTwice(line+bytes.Count(text[:d.InputOffset()], []byte("\n")), name))
				}
				seen[name] = true
				next, _ = d.Token()
			}
			value(next)
		}
	}
	first, _ := d.Token()
	value(first)
	return twice
}

// maxNesting bounds how deep a value may be.
const maxNesting = 200

func decodeYAML(data []byte, sections map[string]map[string]any, lines map[string]int) (twice []string, err error) {
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return nil, errors.New(hint.Plain(err))
	}
	if len(root.Content) != 1 || root.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("is no CloudFormation template, for it is no object")
	}
	top := root.Content[0]
	r := &yamlReader{}
	for i := 0; i+1 < len(top.Content); i += 2 {
		name, section := top.Content[i].Value, top.Content[i+1]
		if sections[name] != nil {
			r.twice = append(r.twice, givenTwice(top.Content[i].Line, name))
		}
		value, err := r.value(section, 0)
		if err != nil {
			return nil, err
		}
		m, ok := value.(map[string]any)
		if !ok {
			m = map[string]any{"": value}
		}
		sections[name] = m
		if name == "Resources" {
			for j := 0; j+1 < len(section.Content); j += 2 {
				lines[section.Content[j].Value] = section.Content[j].Line
			}
		}
	}
	return r.twice, nil
}

type yamlReader struct{ twice []string }

// value gives a node the form that it has in JSON: short tags become the
// functions that they stand for, and all numbers float64.
func (r *yamlReader) value(n *yaml.Node, depth int) (any, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("line %d: is nested more than %d deep", n.Line, maxNesting)
	}
	var value any
	switch n.Kind {
	case yaml.AliasNode:
		// Source: AWS CloudFormation User Guide, "CloudFormation template format".
		return nil, fmt.Errorf("line %d: is an alias, which CloudFormation does not take", n.Line)
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if _, twice := m[key]; twice {
				r.twice = append(r.twice, givenTwice(n.Content[i].Line, key))
			}
			e, err := r.value(n.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			m[key] = e
		}
		value = m
	case yaml.SequenceNode:
		l := make([]any, 0, len(n.Content))
		for _, c := range n.Content {
			e, err := r.value(c, depth+1)
			if err != nil {
				return nil, err
			}
			l = append(l, e)
		}
		value = l
	case yaml.ScalarNode:
		value = scalar(n)
	}
	if !strings.HasPrefix(n.Tag, "!") || strings.HasPrefix(n.Tag, "!!") {
		return value, nil
	}
	return shortTag(n.Tag[1:], value), nil
}

// boolean11 are the booleans that YAML 1.1 has, which CloudFormation reads, beside those
// of YAML 1.2. Source: yaml.org/type/bool.html.
var boolean11 = map[string]bool{"yes": true, "on": true, "no": false, "off": false}

func scalar(n *yaml.Node) any {
	if b, ok := boolean11[strings.ToLower(n.Value)]; ok && n.Style == 0 && n.Tag == "!!str" {
		return b
	}
	switch n.Tag {
	case "!!null":
		return nil
	case "!!bool":
		var b bool
		if n.Decode(&b) == nil {
			return b
		}
	case "!!int", "!!float":
		var f float64
		if n.Decode(&f) == nil {
			return f
		}
	}
	return n.Value // a date too is text: a policy's Version
}

func shortTag(name string, value any) any {
	switch name {
	case "Ref", "Condition":
		return map[string]any{name: value}
	case "GetAtt":
		if text, ok := value.(string); ok {
			id, attribute, _ := strings.Cut(text, ".")
			value = []any{id, attribute}
		}
	}
	return map[string]any{"Fn::" + name: value}
}

// transforms lists the macros of a template, but for that of which [forEach] is a part.
func transforms(sections map[string]map[string]any) (names []string) {
	add := func(v any) {
		if name, ok := v.(string); ok && name != "AWS::LanguageExtensions" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	top := sections["Transform"][""]
	add(top)
	if list, ok := top.([]any); ok {
		for _, v := range list {
			add(v)
		}
	}
	var find func(v any)
	find = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				find(e)
			}
		case map[string]any:
			if macro, ok := v["Fn::Transform"].(map[string]any); ok {
				add(macro["Name"])
			}
			for _, e := range v {
				find(e)
			}
		}
	}
	find(sections["Resources"])
	slices.Sort(names)
	return names
}

// parameterLists are the lists that parameters have by default.
func parameterLists(parameters map[string]any) map[string][]any {
	lists := map[string][]any{}
	for name, p := range parameters {
		p, _ := p.(map[string]any)
		if text, ok := p["Default"].(string); ok && (p["Type"] == "CommaDelimitedList" || strings.HasPrefix(fmt.Sprint(p["Type"]), "List<")) {
			for _, part := range strings.Split(text, ",") {
				lists[name] = append(lists[name], strings.TrimSpace(part))
			}
		}
	}
	return lists
}

const forEachPrefix = "Fn::ForEach::"

var notAlphanumeric = regexp.MustCompile(`[^A-Za-z0-9]+`)

// forEach expands the loops in a value. One over a list that is not known stays.
//
// Source: AWS CloudFormation Template Reference, "Fn::ForEach".
func forEach(v any, lists map[string][]any, made func(key, by string)) any {
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = forEach(e, lists, func(string, string) {})
		}
		return list
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			loop, _ := value.([]any)
			if !strings.HasPrefix(key, forEachPrefix) || len(loop) != 3 {
				out[key] = forEach(value, lists, func(string, string) {})
				continue
			}
			name, _ := loop[0].(string)
			items, known := loop[1].([]any)
			if ref, ok := loop[1].(map[string]any); ok {
				id, _ := ref["Ref"].(string)
				items, known = lists[id]
			}
			body, ok := loop[2].(map[string]any)
			if !known || !ok || name == "" {
				out[key] = value
				continue
			}
			for _, item := range items {
				text := str(item)
				each, _ := forEach(substituted(body, name, text), lists, func(string, string) {}).(map[string]any)
				for k, e := range each {
					out[k] = e
					made(k, key)
				}
			}
		}
		return out
	}
	return v
}

// substituted puts the value of a loop's variable in its place.
func substituted(v any, name, value string) any {
	text := strings.NewReplacer("${"+name+"}", value, "&{"+name+"}", notAlphanumeric.ReplaceAllString(value, "")).Replace
	switch v := v.(type) {
	case string:
		return text(v)
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = substituted(e, name, value)
		}
		return list
	case map[string]any:
		if v["Ref"] == name && len(v) == 1 {
			return value
		}
		out := make(map[string]any, len(v))
		for key, e := range v {
			out[text(key)] = substituted(e, name, value)
		}
		return out
	}
	return v
}
