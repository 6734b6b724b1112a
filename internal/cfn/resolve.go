package cfn

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ekskms/ekskms/internal/value"
)

// resolver resolves one template.
type resolver struct {
	template *Template
	raw      *document
	loader   *loader
	parent   *nesting
	nested   map[string]*resolver // by the logical ID of the nested stack
	shared   map[string]bool      // logical IDs that stand in several templates

	busy  map[string]bool // what is being resolved, against circles
	depth int
	err   error
}

func newResolver(t *Template, raw *document, l *loader, parent *nesting) *resolver {
	return &resolver{template: t, raw: raw, loader: l, parent: parent, nested: map[string]*resolver{}, busy: map[string]bool{}}
}

func (r *resolver) run() error {
	t := r.template
	t.Resources, t.Outputs, t.transforms, t.twice = map[string]*Resource{}, map[string]any{}, r.raw.transforms, r.raw.twice
	for _, id := range slices.Sorted(maps.Keys(r.raw.resources)) {
		raw := r.raw.resources[id]
		resource := &Resource{ID: id, Path: id, Line: r.raw.lines[id], Template: t}
		if name, ok := raw["Condition"].(string); ok {
			switch r.condition(name) {
			case never:
				continue
			case undecided:
				resource.condition = name
			}
		}
		resource.Type, _ = raw["Type"].(string)
		resource.DeletionPolicy, resource.UpdateReplacePolicy = str(r.value(raw["DeletionPolicy"])), str(r.value(raw["UpdateReplacePolicy"]))
		resource.Metadata, _ = raw["Metadata"].(map[string]any)
		if path, ok := resource.Metadata["aws:cdk:path"].(string); ok {
			resource.Path = strings.TrimSuffix(path, "/Resource")
		}
		switch depends := raw["DependsOn"].(type) {
		case string:
			resource.DependsOn = []string{depends}
		case []any:
			for _, d := range depends {
				if s, ok := d.(string); ok {
					resource.DependsOn = append(resource.DependsOn, s)
				}
			}
		}
		resource.Raw, _ = raw["Properties"].(map[string]any)
		resource.Properties, _ = r.value(resource.Raw).(map[string]any)
		resource.ARN = r.arn(id)
		t.Resources[id] = resource
	}
	for name, output := range r.raw.outputs {
		if condition, ok := output["Condition"].(string); ok && r.condition(condition) == never {
			continue
		}
		t.Outputs[name] = r.value(output["Value"])
	}
	return r.err
}

// unknown notes that an expression has no value here.
func (r *resolver) unknown(expression string) value.Unknown {
	r.template.unknowns[expression] = true
	return value.Unknown{Expression: expression}
}

// from takes a value of another template.
func (r *resolver) from(v any) any {
	if u, ok := v.(value.Unknown); ok {
		r.template.unknowns[u.Expression] = true
	}
	return v
}

// guarded resolves something that could refer to itself.
func (r *resolver) guarded(name string, resolve func() any) any {
	if r.busy[name] {
		return r.unknown(name)
	}
	r.busy[name] = true
	defer delete(r.busy, name)
	return resolve()
}

// value resolves a value as it was written.
func (r *resolver) value(v any) any {
	if r.depth++; r.depth > maxNesting {
		r.depth--
		if r.err == nil {
			r.err = fmt.Errorf("a value is nested more than %d deep", maxNesting)
		}
		return value.Unknown{Expression: "too deep"}
	}
	defer func() { r.depth-- }()
	switch v := v.(type) {
	case []any:
		list := make([]any, 0, len(v))
		for _, e := range v {
			if e = r.value(e); !isRemoved(e) {
				list = append(list, e)
			}
		}
		return list
	case map[string]any:
		if len(v) == 1 {
			for name, argument := range v {
				if name == "Ref" || strings.HasPrefix(name, "Fn::") {
					return r.function(name, argument)
				}
			}
		}
		m := make(map[string]any, len(v))
		for key, e := range v {
			if e = r.value(e); !isRemoved(e) {
				m[key] = e
			}
		}
		return m
	case string:
		if r.loader.names != nil {
			v = r.loader.names.Replace(v)
		}
		if !strings.Contains(v, "{{resolve:") {
			return v
		}
		// A dynamic reference is a value from elsewhere, which the deployment puts in.
		if m := dynamic.FindStringSubmatch(v); m != nil && m[0] == v {
			return r.unknown(m[1])
		}
		return dynamic.ReplaceAllStringFunc(v, func(s string) string { return r.unknown(s[2 : len(s)-2]).String() })
	}
	return v
}

// dynamic matches a dynamic reference. Source: AWS CloudFormation User Guide, "Get values
// stored in other services using dynamic references".
var dynamic = regexp.MustCompile(`\{\{(resolve:[^{}]+)\}\}`)

// isRemoved tells that a value is what Ref AWS::NoValue gives: the property is not there.
func isRemoved(v any) bool {
	_, ok := v.(value.Nothing)
	return ok
}

// function resolves an intrinsic function. Source: AWS CloudFormation Template
// Reference, "Intrinsic function reference".
func (r *resolver) function(name string, argument any) any {
	arguments, _ := argument.([]any)
	wrong := func() any { return r.unknown(name + " of " + brief(argument)) }
	switch name {
	case "Ref":
		if id, ok := argument.(string); ok {
			return r.ref(id)
		}
	case "Fn::GetAtt":
		if dotted, ok := argument.(string); ok {
			id, attribute, _ := strings.Cut(dotted, ".")
			return r.attribute(id, attribute)
		}
		if len(arguments) == 2 {
			if id, ok := arguments[0].(string); ok {
				return r.attribute(id, str(r.value(arguments[1])))
			}
		}
	case "Fn::Sub":
		return r.sub(argument)
	case "Fn::Join":
		if len(arguments) == 2 {
			parts, ok := r.value(arguments[1]).([]any)
			if !ok {
				return r.unknown("Fn::Join of " + brief(arguments[1]))
			}
			texts := make([]string, len(parts))
			for i, p := range parts {
				texts[i] = str(p)
			}
			return strings.Join(texts, str(arguments[0]))
		}
	case "Fn::Select":
		if len(arguments) == 2 {
			i, err := strconv.Atoi(str(r.value(arguments[0])))
			list, ok := r.value(arguments[1]).([]any)
			if err == nil && ok && i >= 0 && i < len(list) {
				return list[i]
			}
		}
	case "Fn::Split":
		if len(arguments) == 2 {
			text, ok := r.value(arguments[1]).(string)
			separator := str(arguments[0])
			if ok && separator != "" && r.template.unknownIn(text) == "" {
				var parts []any
				for _, p := range strings.Split(text, separator) {
					parts = append(parts, p)
				}
				return parts
			}
		}
	case "Fn::If":
		if len(arguments) == 3 {
			condition, _ := arguments[0].(string)
			switch r.condition(condition) {
			case always:
				return r.value(arguments[1])
			case never:
				return r.value(arguments[2])
			}
			u := r.unknown("Fn::If " + condition)
			u.If = &value.Choice{Condition: condition, Then: r.value(arguments[1]), Else: r.value(arguments[2])}
			return u
		}
	case "Fn::FindInMap":
		if len(arguments) >= 3 {
			m, ok := r.raw.mappings[str(r.value(arguments[0]))]
			second, _ := m[str(r.value(arguments[1]))].(map[string]any)
			if found, there := second[str(r.value(arguments[2]))]; ok && there {
				return found
			}
			if len(arguments) == 4 {
				if fallback, ok := arguments[3].(map[string]any); ok {
					return r.value(fallback["DefaultValue"])
				}
			}
		}
	case "Fn::ImportValue":
		export := str(r.value(argument))
		if value, ok := r.loader.export(r, export); ok {
			return value
		}
		return r.unknown("Fn::ImportValue " + export)
	case "Fn::Base64":
		if text, ok := r.value(argument).(string); ok && r.template.unknownIn(text) == "" {
			return base64.StdEncoding.EncodeToString([]byte(text))
		}
	case "Fn::Length":
		if list, ok := r.value(argument).([]any); ok {
			return float64(len(list))
		}
	case "Fn::ToJsonString":
		value := r.value(argument)
		if r.template.unknownIn(value) == "" {
			if data, err := json.Marshal(value); err == nil {
				return string(data)
			}
		}
	}
	return wrong()
}

// brief is an argument in an expression, cut where it is long.
func brief(argument any) string {
	const most = 60
	data, _ := json.Marshal(argument)
	if len(data) > most {
		return string(data[:most]) + "..."
	}
	return string(data)
}

// str writes a value as CloudFormation does in a longer string.
func str(v any) string {
	switch v := v.(type) {
	case nil, value.Nothing:
		return ""
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case value.Unknown:
		return v.String()
	}
	data, _ := json.Marshal(v)
	return string(data)
}

var subVariable = regexp.MustCompile(`\$\{(!?)([^}]*)\}`)

func (r *resolver) sub(argument any) any {
	text, ok := argument.(string)
	own := map[string]any{}
	if arguments, isList := argument.([]any); isList && len(arguments) == 2 {
		text, ok = arguments[0].(string)
		own, _ = arguments[1].(map[string]any)
	}
	if !ok {
		return r.unknown("Fn::Sub of " + brief(argument))
	}
	return subVariable.ReplaceAllStringFunc(text, func(variable string) string {
		match := subVariable.FindStringSubmatch(variable)
		name := strings.TrimSpace(match[2])
		if match[1] == "!" {
			return "${" + match[2] + "}" // written so to mean the text itself, as in a policy variable
		}
		if value, ok := own[name]; ok {
			return str(r.value(value))
		}
		if id, attribute, dotted := strings.Cut(name, "."); dotted {
			return str(r.attribute(id, attribute))
		}
		return str(r.ref(name))
	})
}

// exported is an output that its stack exports.
type exported struct {
	from *resolver
	id   string
}

// export returns what a stack of the assembly exports under a name, in the account and
// the Region of the stack that imports it: a name is one of those. Where one of the two
// does not say where it is, the export counts if it is the only one.
func (l *loader) export(to *resolver, name string) (any, bool) {
	if l.exports == nil {
		l.exports = map[string][]exported{} // and no name of an export imports one
		all := map[string][]exported{}
		for _, r := range l.resolvers {
			for _, id := range slices.Sorted(maps.Keys(r.raw.outputs)) {
				if export, _ := r.raw.outputs[id]["Export"].(map[string]any); export != nil {
					name := str(r.value(export["Name"]))
					all[name] = append(all[name], exported{r, id})
				}
			}
		}
		l.exports = all
	}
	var here, perhaps []exported
	for _, e := range l.exports[name] {
		switch t := e.from.template; {
		case e.from.busy["export "+e.id]:
		case t.Account == to.template.Account && t.Region == to.template.Region:
			here = append(here, e)
		case t.Assumed || to.template.Assumed:
			perhaps = append(perhaps, e)
		}
	}
	if len(here) == 0 && len(perhaps) == 1 {
		here = perhaps
	}
	if len(here) == 0 {
		return nil, false
	}
	r, at := here[0].from, "export "+here[0].id
	r.busy[at] = true
	defer delete(r.busy, at)
	return r.value(r.raw.outputs[here[0].id]["Value"]), true
}

// truth is the value of a condition.
type truth int

const (
	undecided truth = iota
	always
	never
)

func truthOf(b bool) truth {
	if b {
		return always
	}
	return never
}

// condition decides a condition by its name. One that depends on what is not known
// is undecided.
func (r *resolver) condition(name string) truth {
	if r.busy["condition "+name] {
		return undecided
	}
	r.busy["condition "+name] = true
	defer delete(r.busy, "condition "+name)
	if _, own := r.raw.rawConditions[name]; !own && r.parent != nil {
		return r.parent.resolver.condition(name) // a value of the parent depends on it
	}
	return r.decide(r.raw.rawConditions[name])
}

func (r *resolver) decide(v any) truth {
	if r.depth++; r.depth > maxNesting {
		r.depth--
		return undecided
	}
	defer func() { r.depth-- }()
	m, _ := v.(map[string]any)
	if len(m) != 1 {
		return undecided
	}
	for name, argument := range m {
		arguments, _ := argument.([]any)
		switch {
		case name == "Condition":
			return r.condition(str(argument))
		case name == "Fn::Equals" && len(arguments) == 2:
			return r.equal(r.value(arguments[0]), r.value(arguments[1]))
		case name == "Fn::Not" && len(arguments) == 1:
			switch r.decide(arguments[0]) {
			case always:
				return never
			case never:
				return always
			}
		case name == "Fn::And" || name == "Fn::Or":
			// One that is false decides And, one that is true decides Or.
			decisive, otherwise := never, always
			if name == "Fn::Or" {
				decisive, otherwise = always, never
			}
			for _, a := range arguments {
				switch r.decide(a) {
				case decisive:
					return decisive
				case undecided:
					otherwise = undecided
				}
			}
			return otherwise
		}
	}
	return undecided
}

// parameter resolves a parameter of the template.
func (r *resolver) parameter(name string) any {
	declared := r.raw.parameters[name]
	kind, _ := declared["Type"].(string)
	v, given := declared["Default"], false
	if r.parent != nil {
		raw, _ := r.parent.resolver.raw.resources[r.parent.id]["Properties"].(map[string]any)
		passed, _ := raw["Parameters"].(map[string]any)
		if argument, ok := passed[name]; ok {
			v, given = r.guarded("parameter "+name, func() any { return r.parent.resolver.value(argument) }), true
			if value.IsUnknown(v) {
				return r.from(v)
			}
		}
	} else if own, ok := r.loader.env.Parameters[name]; ok {
		v, given = own, true
	}
	// The Default of these is the name of the value.
	if v == nil || (!given && strings.HasPrefix(kind, "AWS::SSM::Parameter::Value")) {
		return r.unknown(name)
	}
	text := str(v)
	switch {
	case kind == "CommaDelimitedList" || strings.HasPrefix(kind, "List<"):
		var list []any
		for _, part := range strings.Split(text, ",") {
			list = append(list, strings.TrimSpace(part))
		}
		return list
	case kind == "Number":
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return f
		}
	}
	return text
}
