// Package schemagen generates the JSON Schema of ekskms.yaml from the Go types of
// package config: structure and descriptions from the types and their comments,
// limits from the same tags and rules that the decoder reads.
package schemagen

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/config/internal/rules"
)

// Generate returns the schema. The working directory must be that of package
// config, because the descriptions are read from its source.
func Generate() ([]byte, error) {
	r := &jsonschema.Reflector{
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		ExpandedStruct:             true,
	}
	if err := r.AddGoComments("github.com/ekskms/ekskms/internal/config", ".", jsonschema.WithFullComment()); err != nil {
		return nil, fmt.Errorf("reading the comments: %w", err)
	}
	for name, text := range r.CommentMap {
		r.CommentMap[name] = strings.ReplaceAll(text, "\n", " ")
	}
	file := reflect.TypeFor[config.File]()
	root := r.ReflectFromType(file)
	if root.Description == "" {
		return nil, fmt.Errorf("found no comments: run this in the directory of package config")
	}
	root.ID = "https://github.com/ekskms/ekskms/ekskms.schema.json"
	root.Title = "ekskms.yaml"
	limit(root, file)
	addDefinitions(root.Definitions, file)
	addParts(root)
	out, err := json.MarshalIndent(root, "", "  ")
	// The escapes are for HTML, and only make the patterns hard to read.
	text := strings.NewReplacer(`\u0026`, "&", `\u003c`, "<", `\u003e`, ">").Replace(string(out))
	return []byte(text + "\n"), err
}

// addDefinitions puts the limits into the definition of every struct below t.
func addDefinitions(defs jsonschema.Definitions, t reflect.Type) {
	for _, f := range rules.Fields(t) {
		ft := t.Field(f.Index).Type
		if f.Part {
			continue
		}
		for ft.Kind() == reflect.Slice || ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct {
			limit(defs[ft.Name()], ft)
			addDefinitions(defs, ft)
		}
	}
}

// addParts lets the defaults have parts of what a cluster has and, with defaults, a
// cluster too: what is missing in one may be in the other. Without defaults a cluster is
// looked at as a whole.
func addParts(root *jsonschema.Schema) {
	const prefix = "#/$defs/"
	defs := root.Definitions
	var part func(name string) string
	part = func(name string) string {
		whole := *defs[name]
		changed := whole.Required != nil || whole.AllOf != nil || whole.DependentRequired != nil || whole.DependentSchemas != nil
		whole.Required, whole.AllOf, whole.DependentRequired, whole.DependentSchemas = nil, nil, nil, nil
		properties := jsonschema.NewProperties()
		for p := whole.Properties.Oldest(); p != nil; p = p.Next() {
			value := *p.Value
			if below, ok := strings.CutPrefix(value.Ref, prefix); ok {
				value.Ref = prefix + part(below)
				changed = changed || value.Ref != p.Value.Ref
			}
			properties.Set(p.Key, &value)
		}
		if !changed {
			return name
		}
		whole.Properties = properties
		defs[name+"Part"] = &whole
		return name + "Part"
	}
	name := part("Cluster")
	defaults := *defs[name]
	defaults.Properties = jsonschema.NewProperties()
	for p := defs[name].Properties.Oldest(); p != nil; p = p.Next() {
		if p.Key != "name" {
			defaults.Properties.Set(p.Key, p.Value)
		}
	}
	defs["Defaults"] = &defaults
	defs[name].Required = []string{"name"}

	d, _ := root.Properties.Get("defaults")
	d.Ref = prefix + "Defaults"
	clusters, _ := root.Properties.Get("clusters")
	whole := clusters.Items
	clusters.Items = &jsonschema.Schema{Ref: prefix + name}
	alone := jsonschema.NewProperties()
	alone.Set("clusters", &jsonschema.Schema{Items: whole})
	root.If = &jsonschema.Schema{Required: []string{"defaults"}}
	root.Else = &jsonschema.Schema{Properties: alone}
}

// limit adds what the reflector does not know: the rules, and what holds between
// the fields of one struct.
func limit(s *jsonschema.Schema, t reflect.Type) {
	for _, f := range rules.Fields(t) {
		p, _ := s.Properties.Get(f.Name)
		fact(p, t.Field(f.Index).Type.Kind(), f)
		switch ft := t.Field(f.Index).Type; ft.Kind() {
		case reflect.Slice:
			apply(p.Items, f.Rule)
		case reflect.Map:
			p.PropertyNames = &jsonschema.Schema{}
			apply(p.PropertyNames, f.KeyRule)
			apply(p.AdditionalProperties, f.Rule)
			p.MaxProperties = number(f.MaxProperties)
		default:
			apply(p, f.Rule)
		}
		if f.Needs != "" {
			if s.DependentRequired == nil {
				s.DependentRequired = map[string][]string{}
			}
			s.DependentRequired[f.Name] = append(s.DependentRequired[f.Name], f.Needs)
		}
		for _, other := range f.Unless {
			if s.DependentSchemas == nil {
				s.DependentSchemas = map[string]*jsonschema.Schema{}
			}
			if s.DependentSchemas[other] == nil {
				s.DependentSchemas[other] = &jsonschema.Schema{Properties: jsonschema.NewProperties()}
			}
			s.DependentSchemas[other].Properties.Set(f.Name, jsonschema.FalseSchema)
		}
		if f.When != "" {
			branch := when(s, t, f)
			branch.Else.Properties.Set(f.Name, jsonschema.FalseSchema)
			if f.RequiredWhen {
				branch.Then = &jsonschema.Schema{Required: []string{f.Name}}
			}
		}
	}
}

// when is the branch of a schema for the fields that depend on a sibling's value. Where
// that is the sibling's default, a file that leaves the sibling out takes it too.
func when(s *jsonschema.Schema, t reflect.Type, f rules.Field) *jsonschema.Schema {
	for _, b := range s.AllOf {
		if p, ok := b.If.Properties.Get(f.When); ok && p.Const == f.WhenValue {
			return b
		}
	}
	now := jsonschema.NewProperties()
	now.Set(f.When, &jsonschema.Schema{Const: f.WhenValue})
	b := &jsonschema.Schema{If: &jsonschema.Schema{Properties: now}, Else: &jsonschema.Schema{Properties: jsonschema.NewProperties()}}
	for _, sibling := range rules.Fields(t) {
		if sibling.Name == f.When && !slices.Contains(sibling.Default, f.WhenValue) {
			b.If.Required = []string{f.When}
		}
	}
	s.AllOf = append(s.AllOf, b)
	return b
}

// fact adds what the reflector can't read in the tags: what the blueprint says of a
// field.
func fact(s *jsonschema.Schema, kind reflect.Kind, f rules.Field) {
	if f.Minimum != nil {
		s.Minimum, s.Maximum = json.Number(strconv.Itoa(*f.Minimum)), json.Number(strconv.Itoa(*f.Maximum))
	}
	if kind == reflect.Slice {
		s.MaxItems = number(f.MaxItems)
	}
	if len(f.Default) == 0 {
		return
	}
	switch kind {
	case reflect.Slice:
		s.Default = f.Default
	case reflect.Int:
		s.Default = json.Number(f.Default[0])
	case reflect.String:
		s.Default = f.Default[0]
	}
}

func apply(s *jsonschema.Schema, r *rules.Rule) {
	if r == nil {
		return
	}
	s.Pattern = r.Pattern
	if r.NotPattern != "" {
		s.Not = &jsonschema.Schema{Pattern: r.NotPattern}
	}
	s.MinLength, s.MaxLength = number(r.MinLength), number(r.MaxLength)
	for _, v := range r.Strings {
		s.Enum = append(s.Enum, v)
	}
	for _, v := range r.Ints {
		s.Enum = append(s.Enum, v)
	}
}

func number(n int) *uint64 {
	if n == 0 {
		return nil
	}
	u := uint64(n) //nolint:gosec // lengths, from the struct tags
	return &u
}
