package config

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ekskms/ekskms/internal/config/internal/rules"
)

// A decoder fills the model from YAML nodes, as the tags of the model tell it. It
// goes on after a fault, so that one run finds them all.
type decoder struct {
	sources []Source
	origins origins
	faults  Faults
	seen    map[string]int        // indexes of faults, by their texts
	nodes   map[string]*yaml.Node // what stands in the file, by path
	bad     map[string]bool       // paths with a fault at or below them
	// names are those of the clusters, where there are several.
	names []string
	// partial is set while the defaults are decoded, which are parts of clusters.
	partial bool
}

// fault records what is wrong with the value n at path. What several clusters take
// from one place is one fault.
func (d *decoder) fault(n *yaml.Node, path, value, format string, args ...any) {
	for p := path; p != ""; p = parent(p) {
		d.bad[p] = true
	}
	at := d.place(n, path)
	f := Fault{File: at.File, Line: max(1, at.Line), Column: at.Column, Path: at.Path, Value: value, Message: fmt.Sprintf(format, args...)}
	cluster, same := d.clusterOf(path), fmt.Sprint(f.Column, " ", f)
	if i, found := d.seen[same]; found {
		if have := &d.faults[i]; len(have.Clusters) > 0 && !slices.Contains(have.Clusters, cluster) {
			have.Clusters = append(have.Clusters, cluster)
		}
		return
	}
	d.seen[same] = len(d.faults)
	if cluster != "" {
		f.Clusters = []string{cluster}
	}
	d.faults = append(d.faults, f)
}

// clusterOf is the name of the cluster to which a path belongs, where there are
// several.
func (d *decoder) clusterOf(path string) string {
	var i int
	if n, _ := fmt.Sscanf(path, "clusters[%d]", &i); n == 1 && i < len(d.names) {
		return d.names[i]
	}
	return ""
}

// place is where a node stands that is taken for the value, or the key, at path.
func (d *decoder) place(n *yaml.Node, path string) Place {
	o, found := d.origins[n]
	if !found {
		o.Place = Place{File: d.sources[len(d.sources)-1].Name, Line: n.Line, Column: n.Column}
	}
	step := func(p string) string { return strings.TrimLeft(p[len(parent(p)):], ".[") }
	if n.Kind == yaml.ScalarNode && step(o.Path) == step(path) {
		return o.Place
	}
	// Otherwise it is for what is not there, below something that is.
	for at := path; ; at = parent(at) {
		if above, ok := d.origins[d.nodes[at]]; ok || at == "" {
			o.Path = strings.TrimPrefix(above.Path+path[len(at):], ".")
			return o.Place
		}
	}
}

// line says where a node stands, for a message about another.
func (d *decoder) line(n *yaml.Node) string {
	text := fmt.Sprintf("line %d", n.Line)
	if o := d.origins[n]; len(d.sources) > 1 && o.File != "" {
		text += " of " + o.File
	}
	return text
}

// parent cuts the last step off a path.
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// value decodes n into v. It reports whether v can be used.
func (d *decoder) value(n *yaml.Node, path string, v reflect.Value, f *rules.Field) bool {
	d.nodes[path] = n
	if !d.plain(n, path) {
		return false
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	want := map[reflect.Kind]yaml.Kind{reflect.Struct: yaml.MappingNode, reflect.Map: yaml.MappingNode, reflect.Slice: yaml.SequenceNode}[v.Kind()]
	if want == 0 {
		want = yaml.ScalarNode
	}
	if n.Kind != want {
		d.fault(n, path, show(n), "must be %s", kindName(v))
		return false
	}
	switch v.Kind() {
	case reflect.Struct:
		d.object(n, path, v)
	case reflect.Map:
		d.dict(n, path, v, f)
	case reflect.Slice:
		d.list(n, path, v, f)
	default:
		return d.scalar(n, path, v, f)
	}
	return !d.bad[path]
}

func kindName(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Struct, reflect.Map:
		return "a mapping"
	case reflect.Slice:
		return "a list"
	case reflect.Int:
		return "a whole number"
	case reflect.Bool:
		return "true or false"
	}
	return "text"
}

// plain refuses the parts of YAML that make a file mean something else than it says.
func (d *decoder) plain(n *yaml.Node, path string) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		d.fault(n, path, show(n), "aliases are not supported: write the value out")
	case n.Anchor != "":
		d.fault(n, path, "&"+printable(n.Anchor), "anchors are not supported: write the value out where it is needed")
	case n.Style&yaml.TaggedStyle != 0:
		d.fault(n, path, printable(n.Tag), "tags are not supported: text is quoted, everything else is not")
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		d.fault(n, path, show(n), "has no value: give one or remove the field")
	default:
		return true
	}
	return false
}

// key returns the text of a mapping's key.
func (d *decoder) key(n *yaml.Node, path string) (string, bool) {
	switch {
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!merge":
		d.fault(n, path, show(n), "merge keys are not supported: write the fields out")
	case n.Kind != yaml.ScalarNode && n.Kind != yaml.AliasNode:
		d.fault(n, path, show(n), "can't be the name of a field")
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" && n.Style&yaml.TaggedStyle == 0:
		d.fault(n, path, show(n), "a field must have a name")
	case !d.plain(n, path):
	case n.ShortTag() != "!!str":
		d.fault(n, path, show(n), "the name of a field must be text: quote it, %q", n.Value)
	default:
		return n.Value, true
	}
	return "", false
}

// entries calls f for each entry of a mapping, duplicates excepted.
func (d *decoder) entries(n *yaml.Node, path string, f func(name string, key, value *yaml.Node)) {
	first := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name, ok := d.key(key, path)
		if !ok {
			continue
		}
		if other := first[name]; other != nil {
			d.fault(key, join(path, name), show(value), "stands here twice, first on %s", d.line(other))
			continue
		}
		first[name] = key
		f(name, key, value)
	}
}

// object decodes a mapping into a struct and fills in the defaults. The mapping may
// be one that does not stand in the file.
func (d *decoder) object(n *yaml.Node, path string, v reflect.Value) {
	fields := rules.Fields(v.Type())
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	given := map[string]*yaml.Node{}
	d.entries(n, path, func(name string, key, value *yaml.Node) {
		i := slices.Index(names, name)
		if i < 0 {
			// The kind is all that can be said about a value without a meaning.
			hint := "allowed here: " + strings.Join(names, ", ")
			if near := nearest(name, names); near != "" {
				hint = fmt.Sprintf("did you mean %s?", near)
			}
			d.fault(key, join(path, name), show(value), "unknown field, %s", hint)
			return
		}
		given[name] = key
		if fields[i].Part {
			return // it is merged into the others already
		}
		d.value(value, join(path, name), v.Field(fields[i].Index), &fields[i])
	})
	if d.partial {
		return // what is missing is in the clusters
	}
	// Fields that choose between others stand before them in the model, so their
	// defaults are set when those are looked at.
	for i := range fields {
		f := &fields[i]
		d.absent(n, path, v, f, given)
		d.between(n, path, v, f, given)
	}
}

// absent fills in the default of a field that was not given.
func (d *decoder) absent(n *yaml.Node, path string, v reflect.Value, f *rules.Field, given map[string]*yaml.Node) {
	if f.Part || f.Optional || given[f.Name] != nil || beside(f, given) != "" || f.When != "" && !holds(v, f) {
		return
	}
	at := join(path, f.Name)
	if f.Required {
		d.fault(n, at, "", "is required")
		return
	}
	fv := v.Field(f.Index)
	empty := d.origins.like(&yaml.Node{Kind: yaml.MappingNode}, n)
	switch fv.Kind() {
	case reflect.Struct:
		d.object(empty, at, fv)
	case reflect.Pointer:
		fv.Set(reflect.New(fv.Type().Elem()))
		d.object(empty, at, fv.Elem())
	case reflect.Slice:
		if len(f.Default) > 0 {
			fv.Set(reflect.ValueOf(slices.Clone(f.Default)))
		}
	default:
		if len(f.Default) > 0 {
			setDefault(fv, f.Default[0])
		}
	}
}

// beside is the sibling that is given and that a field can't stand beside, or empty.
func beside(f *rules.Field, given map[string]*yaml.Node) string {
	for _, name := range f.Unless {
		if given[name] != nil {
			return name
		}
	}
	return ""
}

// setDefault panics on a default that does not fit its field: a test reads them all.
func setDefault(v reflect.Value, text string) {
	var err error
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Int:
		var n int
		n, err = strconv.Atoi(text)
		v.SetInt(int64(n))
	case reflect.Bool:
		var b bool
		b, err = strconv.ParseBool(text)
		v.SetBool(b)
	default:
		err = fmt.Errorf("no default for a %v", v.Kind())
	}
	if err != nil {
		panic(fmt.Errorf("config: default %q: %w", text, err))
	}
}

// between checks a field against its siblings, as its tags say.
func (d *decoder) between(n *yaml.Node, path string, v reflect.Value, f *rules.Field, given map[string]*yaml.Node) {
	key, at := given[f.Name], join(path, f.Name)
	if f.When != "" && !d.bad[join(path, f.When)] {
		switch met := holds(v, f); {
		case key != nil && !met:
			d.fault(key, at, show(d.nodes[at]), "is only allowed with %s: %s", f.When, f.WhenValue)
		case key == nil && met && f.RequiredWhen:
			d.fault(n, at, "", "is required with %s: %s", f.When, f.WhenValue)
		}
	}
	if key == nil {
		return
	}
	if other := beside(f, given); other != "" {
		d.fault(key, at, show(d.nodes[at]), "can't stand beside %s (%s): remove one of them", other, d.line(given[other]))
	}
	if f.Needs != "" && given[f.Needs] == nil {
		d.fault(key, at, show(d.nodes[at]), "needs %s beside it: give both or neither", f.Needs)
	}
}

// holds tells whether the field beside it has the value that f depends on.
func holds(v reflect.Value, f *rules.Field) bool {
	for _, s := range rules.Fields(v.Type()) {
		if s.Name == f.When {
			return v.Field(s.Index).String() == f.WhenValue
		}
	}
	return false
}

func (d *decoder) dict(n *yaml.Node, path string, v reflect.Value, f *rules.Field) {
	m := map[string]string{}
	d.entries(n, path, func(name string, key, value *yaml.Node) {
		at := join(path, name)
		if msg := f.KeyRule.String(name); msg != "" {
			d.fault(key, at, show(key), "%s", msg)
		}
		item := reflect.New(v.Type().Elem()).Elem()
		if d.value(value, at, item, f) {
			m[name] = item.String()
		}
	})
	if count := len(n.Content) / 2; f.MaxProperties > 0 && count > f.MaxProperties {
		d.fault(n.Content[2*f.MaxProperties], path, fmt.Sprintf("%d entries", count), "must be at most %d", f.MaxProperties)
	}
	if len(m) > 0 {
		v.Set(reflect.ValueOf(m))
	}
}

func items(n int) string {
	if n == 1 {
		return "1 item"
	}
	return strconv.Itoa(n) + " items"
}

func (d *decoder) list(n *yaml.Node, path string, v reflect.Value, f *rules.Field) {
	count := len(n.Content)
	switch {
	case count < f.MinItems:
		d.fault(n, path, items(count), "must have at least %d", f.MinItems)
	case f.MaxItems > 0 && count > f.MaxItems:
		d.fault(n.Content[f.MaxItems], path, items(count), "must have at most %d", f.MaxItems)
	}
	if count == 0 {
		return
	}
	// Places matter to the paths of later faults, so a bad item keeps its own.
	v.Set(reflect.MakeSlice(v.Type(), count, count))
	defer func(partial bool) { d.partial = partial }(d.partial)
	d.partial = false // a list is taken whole
	first := map[string]*yaml.Node{}
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		ok := d.value(item, at, v.Index(i), f)
		if !ok || !f.UniqueItems {
			continue
		}
		if other := first[item.Value]; other != nil {
			d.fault(item, at, show(item), "stands here twice, first on %s", d.line(other))
		} else {
			first[item.Value] = item
		}
	}
}

// YAML has many ways to write a number. Only the one that everybody reads the same
// way is taken: 0x5a, 1_000 and 010 are faults.
var decimalRE = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

func (d *decoder) scalar(n *yaml.Node, path string, v reflect.Value, f *rules.Field) bool {
	tag, msg := n.ShortTag(), ""
	switch v.Kind() {
	case reflect.String:
		if tag != "!!str" {
			msg = fmt.Sprintf("must be text: quote it, %q", n.Value)
			break
		}
		v.SetString(n.Value)
		msg = checkText(n.Value, f)
	case reflect.Int:
		msg = d.number(n, v, f)
	case reflect.Bool:
		if tag != "!!bool" || n.Value != "true" && n.Value != "false" {
			msg = "must be true or false"
			if n.Value == "true" || n.Value == "false" {
				msg += ", without quotes"
			}
			break
		}
		v.SetBool(n.Value == "true")
	default:
		panic(fmt.Errorf("config: %s: no scalar is a %v", path, v.Kind()))
	}
	if msg != "" {
		d.fault(n, path, show(n), "%s", msg)
	}
	return msg == ""
}

func checkText(text string, f *rules.Field) string {
	if len(f.Enum) > 0 && !slices.Contains(f.Enum, text) {
		msg := "must be " + strings.Join(f.Enum, " or ")
		if near := nearest(text, f.Enum); near != "" {
			msg += fmt.Sprintf(": did you mean %s?", near)
		}
		return msg
	}
	if f.Rule != nil {
		return f.Rule.String(text)
	}
	return ""
}

func (d *decoder) number(n *yaml.Node, v reflect.Value, f *rules.Field) string {
	limits := "must be a whole number"
	if f.Minimum != nil && f.Maximum != nil {
		limits = fmt.Sprintf("must be %d to %d %s", *f.Minimum, *f.Maximum, f.Unit)
	}
	limits = strings.TrimSpace(limits)
	decimal := decimalRE.MatchString(n.Value)
	switch tag := n.ShortTag(); {
	case tag == "!!str" && decimal:
		return limits + ", without quotes"
	case tag == "!!int" && !decimal:
		return limits + ", in plain decimal digits"
	case tag != "!!int":
		if strings.HasSuffix(limits, "whole number") {
			return limits
		}
		return limits + ", a whole number"
	}
	i, err := strconv.Atoi(n.Value)
	if err != nil || f.Minimum != nil && i < *f.Minimum || f.Maximum != nil && i > *f.Maximum {
		return limits
	}
	v.SetInt(int64(i))
	if f.Rule != nil {
		return f.Rule.Int(i)
	}
	return ""
}
