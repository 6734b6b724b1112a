package config

import (
	"fmt"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/ekskms/ekskms/internal/config/internal/rules"
)

// Source is a file. Later ones merge over earlier ones.
type Source struct {
	// Name is for messages.
	Name string
	Data []byte
}

// Place is where a value stands.
type Place struct {
	File string
	// Line and Column count from 1.
	Line, Column int
	// Path in the file, such as defaults.key.alias.
	Path string
}

// origin is the place of a node, and the line of the field whose value it is.
type origin struct {
	Place
	field int
}

// origins are those of all nodes of the sources. A value that several clusters take from
// the defaults is one node.
type origins map[*yaml.Node]origin

// add notes the places of all that is below a node.
func (o origins) add(file string, n *yaml.Node, path string, field int) {
	o[n] = origin{Place{file, n.Line, n.Column, path}, field}
	switch n.Kind {
	case yaml.SequenceNode:
		for i, c := range n.Content {
			o.add(file, c, fmt.Sprintf("%s[%d]", path, i), c.Line)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, at := n.Content[i], join(path, n.Content[i].Value)
			o[key] = origin{Place{file, key.Line, key.Column, at}, key.Line}
			o.add(file, n.Content[i+1], at, key.Line)
		}
	}
}

// like gives a node that stands in no file the place of one that does.
func (o origins) like(n, of *yaml.Node) *yaml.Node {
	n.Line, n.Column = of.Line, of.Column
	o[n] = o[of]
	return n
}

// entry returns the value of a mapping's entry, and nil if there is none.
func entry(n *yaml.Node, name string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

// overlay puts one node over another of the same type: a mapping field by field, all
// else whole. A field below gives way to a field above that can't stand beside it.
func (o origins) overlay(t reflect.Type, below, above *yaml.Node) *yaml.Node {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	fits := func(n *yaml.Node) bool {
		return n.Kind == yaml.MappingNode && n.Anchor == "" && n.Style&yaml.TaggedStyle == 0
	}
	switch {
	case above == nil:
		return below
	case below == nil || !fits(below) || !fits(above) || t.Kind() != reflect.Struct && t.Kind() != reflect.Map:
		return above
	}
	field := map[string]reflect.Type{}
	var fields []rules.Field
	if t.Kind() == reflect.Struct {
		fields = rules.Fields(t)
		for _, f := range fields {
			field[f.Name] = t.Field(f.Index).Type
		}
	}
	merged := o.like(&yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}, above)
	for i := 0; i+1 < len(above.Content); i += 2 {
		key, value := above.Content[i], above.Content[i+1]
		if ft := field[key.Value]; ft != nil {
			value = o.overlay(ft, entry(below, key.Value), value)
		}
		merged.Content = append(merged.Content, key, value)
	}
	gone := givesWay(fields, below, above)
	for i := 0; i+1 < len(below.Content); i += 2 {
		if name := below.Content[i].Value; entry(above, name) == nil && !gone[name] {
			merged.Content = append(merged.Content, below.Content[i], below.Content[i+1])
		}
	}
	return merged
}

// givesWay are the fields below that can't stand beside one above: those of another
// kind of key where the cluster names its own, of another mode than the cluster's.
func givesWay(fields []rules.Field, below, above *yaml.Node) map[string]bool {
	gone := map[string]bool{}
	has := func(n *yaml.Node, name string) bool { return entry(n, name) != nil }
	for range fields { // until what needs a field that has gone is gone too
		for _, f := range fields {
			if !has(below, f.Name) || has(above, f.Name) {
				continue
			}
			choice := entry(above, f.When)
			if slices.ContainsFunc(f.Unless, func(name string) bool { return has(above, name) }) || choice != nil && choice.Value != f.WhenValue || gone[f.Needs] ||
				slices.ContainsFunc(fields, func(g rules.Field) bool { return slices.Contains(g.Unless, f.Name) && has(above, g.Name) }) {
				gone[f.Name] = true
			}
		}
	}
	return gone
}

// merge puts the sources over each other, each over those before it, and the defaults
// below each cluster. Clusters are the same if they have the same name.
func (d *decoder) merge(roots []*yaml.Node) *yaml.Node {
	var root *yaml.Node
	for _, next := range roots {
		root = d.origins.overlayFile(root, next)
	}
	defaults, clusters := entry(root, "defaults"), entry(root, "clusters")
	if defaults != nil {
		// On their own first, for what no cluster takes over.
		d.partial = true
		d.value(defaults, "defaults", reflect.New(reflect.TypeFor[Cluster]()).Elem(), nil)
		if name := entry(defaults, "name"); name != nil {
			d.fault(name, "defaults.name", show(name), "is each cluster's own: remove it from the defaults")
		}
		d.partial = false
	}
	if defaults == nil || clusters == nil || clusters.Kind != yaml.SequenceNode {
		return root
	}
	defaults = d.origins.edited(defaults, func(name string, value *yaml.Node) *yaml.Node {
		if name == "name" {
			return nil
		}
		return value
	})
	all := make([]*yaml.Node, len(clusters.Content))
	for i, c := range clusters.Content {
		all[i] = c
		if c.Kind == yaml.MappingNode {
			all[i] = d.origins.overlay(reflect.TypeFor[Cluster](), defaults, c)
		}
	}
	return d.origins.withClusters(root, all)
}

// overlayFile is overlay for whole files.
func (o origins) overlayFile(below, above *yaml.Node) *yaml.Node {
	merged := o.overlay(reflect.TypeFor[File](), below, above)
	old, changed := entry(below, "clusters"), entry(above, "clusters")
	if old == nil || changed == nil || old.Kind != yaml.SequenceNode || changed.Kind != yaml.SequenceNode {
		return merged
	}
	all := slices.Clone(old.Content)
	for _, c := range changed.Content {
		i := slices.IndexFunc(all[:len(old.Content)], func(have *yaml.Node) bool {
			a, b := entry(have, "name"), entry(c, "name")
			return a != nil && b != nil && a.Kind == yaml.ScalarNode && a.Value == b.Value
		})
		if i < 0 {
			all = append(all, c)
			continue
		}
		all[i] = o.overlay(reflect.TypeFor[Cluster](), all[i], c)
	}
	return o.withClusters(merged, all)
}

// withClusters is a file with other clusters.
func (o origins) withClusters(root *yaml.Node, clusters []*yaml.Node) *yaml.Node {
	return o.edited(root, func(name string, value *yaml.Node) *yaml.Node {
		if name != "clusters" {
			return value
		}
		list := *value
		list.Content = clusters
		o[&list] = o[value]
		return &list
	})
}

// edited is a mapping with what is made of the values of its entries, of which those
// without one go.
func (o origins) edited(n *yaml.Node, edit func(name string, value *yaml.Node) *yaml.Node) *yaml.Node {
	changed := *n
	changed.Content = nil
	for i := 0; i+1 < len(n.Content); i += 2 {
		if value := edit(n.Content[i].Value, n.Content[i+1]); value != nil {
			changed.Content = append(changed.Content, n.Content[i], value)
		}
	}
	o[&changed] = o[n]
	return &changed
}
