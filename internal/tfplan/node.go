package tfplan

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// node is a value of a resource, with what the plan says of it beside the value.
type node struct {
	t    *translation
	of   *thing
	path string
	v    any
	// unknown and sensitive are true, or have the form of the value.
	unknown, sensitive any
	expression         any
	// unset tells that the configuration says nothing here: what there will be is a default.
	unset bool
}

func (t *translation) node(one *thing) node {
	var expressions any
	if e := t.plan.Config.expressions(one); e != nil {
		expressions = e
	}
	return node{t: t, of: one, v: one.values, unknown: one.unknown, sensitive: one.sensitive, expression: expressions}
}

// open tells that the value is known after the apply only, or must not be shown.
func (n node) open() bool { return n.unknown == true || n.sensitive == true }

// none tells that there is no value.
func (n node) none() bool {
	return n.v == nil && (n.unset && n.sensitive != true || !n.open() && !n.partly())
}

// partly tells that something below is known after the apply only.
func (n node) partly() bool {
	var find func(v any) bool
	find = func(v any) bool {
		switch v := v.(type) {
		case bool:
			return v
		case []any:
			return slices.ContainsFunc(v, find)
		case map[string]any:
			return slices.ContainsFunc(slices.Collect(maps.Values(v)), find)
		}
		return false
	}
	return find(n.unknown)
}

// at goes down by keys. A block that is there once is its own content.
func (n node) at(keys ...string) node {
	for _, key := range keys {
		n = n.only()
		m, _ := n.v.(map[string]any)
		u, _ := n.unknown.(map[string]any)
		s, _ := n.sensitive.(map[string]any)
		e, _ := n.expression.(map[string]any)
		if n.open() {
			return n
		}
		n = node{n.t, n.of, strings.TrimPrefix(n.path+"."+key, "."), m[key], u[key], s[key], e[key], e != nil && e[key] == nil}
	}
	return n
}

// only is the one item of a list of blocks.
func (n node) only() node {
	if items := n.items(); len(items) == 1 {
		return items[0]
	}
	return n
}

// items are those of a list.
func (n node) items() (all []node) {
	list, _ := n.v.([]any)
	u, _ := n.unknown.([]any)
	s, _ := n.sensitive.([]any)
	e, _ := n.expression.([]any)
	pick := func(from []any, i int) any {
		if i < len(from) {
			return from[i]
		}
		return nil
	}
	for i := range max(len(list), len(u)) {
		expression := pick(e, i)
		if e == nil && max(len(list), len(u)) == 1 {
			expression = n.expression // of a list of one value, which is written as a whole
		}
		if len(e) == 1 && len(list) > 1 {
			expression = nil // a dynamic block, or several of one
		}
		all = append(all, node{n.t, n.of, n.path + "[" + strconv.Itoa(i) + "]", pick(list, i), pick(u, i), pick(s, i), expression, false})
	}
	return all
}

// value is what a template says: null for nothing, a parameter for what is not known.
func (n node) value() any {
	if n.open() {
		return n.parameter()
	}
	switch v := n.v.(type) {
	case []any:
		all := []any{}
		for _, item := range n.items() {
			all = append(all, item.value())
		}
		return all
	case map[string]any:
		all := map[string]any{}
		for key := range v {
			if below := n.at(key); !below.none() {
				all[key] = below.value()
			}
		}
		return all
	case string:
		return literal(v)
	}
	if u, ok := n.unknown.([]any); ok && n.v == nil && len(u) > 0 {
		all := []any{}
		for _, item := range n.items() {
			all = append(all, item.value())
		}
		return all
	}
	return n.v
}

// literal is a text that no reader of templates takes for more. A text in which ${ stands is
// for IAM, which has such variables too, and stays.
func literal(text string) string { return strings.ReplaceAll(text, "{{resolve:", "{{ resolve:") }

// text is the value if it is a known text.
func (n node) text() string {
	s, _ := n.v.(string)
	if n.open() {
		return ""
	}
	return s
}

// parameter is a value that is not known, under a name that says where it is.
func (n node) parameter() any {
	name := n.of.address + "." + n.path
	if n.sensitive == true {
		name += " (sensitive)"
	}
	// Braces would end the name where it stands in a longer text.
	name = strings.NewReplacer("{", "(", "}", ")").Replace(name)
	n.t.parameters[name] = map[string]any{"Type": "String"}
	return map[string]any{"Ref": name}
}

// link is a value that names another resource: where it is not known, the one to which the
// configuration refers.
func (n node) link() any {
	if n.unknown != true {
		return n.value()
	}
	if from, ok := n.t.follow(n.expression, n.of.module, 0); ok {
		if v := n.t.attribute(from, n.of); v != nil {
			return v
		}
	}
	return n.value()
}

// links is a list of such values.
func (n node) links() any {
	if n.open() {
		if v := n.link(); n.unknown == true && v != nil {
			return []any{v}
		}
		return n.value()
	}
	all := []any{}
	for _, item := range n.items() {
		all = append(all, item.link())
	}
	return all
}

// policy is a document: read, if it is known, or put together of the data from which it
// comes.
func (n node) policy() any {
	if n.none() {
		return nil
	}
	if n.open() {
		if from, ok := n.t.follow(n.expression, n.of.module, 0); ok && n.sensitive != true {
			if data := n.t.things[from.address]; data.kind == "aws_iam_policy_document" && strings.HasSuffix(from.attribute, "json") {
				return n.t.document(n.t.node(data))
			}
		}
		return n.value()
	}
	v := parsed(n.text())
	if _, isText := v.(string); isText && n.t.plan.TestVersion != "" {
		return n.asUnknown() // a test makes up what nobody said
	}
	return v
}

// parsed is what a JSON text says, or the text.
func parsed(text string) any {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	return v
}

// document is the policy that a data source of statements makes. Source: documentation of the
// AWS provider, aws_iam_policy_document.
func (t *translation) document(n node) any {
	if !n.at("json").open() && n.at("json").text() != "" {
		return parsed(n.at("json").text())
	}
	var statements []any
	for _, kind := range []string{"source_policy_documents", "override_policy_documents", "source_json", "override_json"} {
		if more := n.at(kind); !more.none() && (more.open() || more.partly() || len(more.items()) > 0 || more.text() != "") {
			// Other documents come in between, which may replace statements by their Sid.
			return n.at("json").asUnknown()
		}
	}
	for _, s := range n.at("statement").items() {
		out := map[string]any{"Effect": "Allow"}
		put := func(name string, v any) {
			if v != nil {
				out[name] = v
			}
		}
		list := func(key string) any {
			of := s.at(key)
			if of.none() || !of.open() && len(of.items()) == 0 {
				return nil
			}
			return of.value() // which is often made of a reference: a bucket's ARN and /*
		}
		if effect := s.at("effect"); !effect.none() {
			put("Effect", effect.value())
		}
		if sid := s.at("sid").text(); sid != "" {
			put("Sid", sid)
		}
		put("Action", list("actions"))
		put("NotAction", list("not_actions"))
		put("Resource", list("resources"))
		put("NotResource", list("not_resources"))
		put("Principal", s.principals("principals"))
		put("NotPrincipal", s.principals("not_principals"))
		if conditions := s.at("condition"); !conditions.none() {
			put("Condition", conditions.conditions())
		}
		statements = append(statements, out)
	}
	return map[string]any{"Version": "2012-10-17", "Statement": statements}
}

// asUnknown is the value as one that is not known, whatever is said of it.
func (n node) asUnknown() any {
	n.unknown = true
	return n.value()
}

func (n node) principals(key string) any {
	of := n.at(key)
	if of.none() {
		return nil
	}
	if of.open() {
		return of.value()
	}
	all := map[string]any{}
	for _, p := range of.items() {
		kind := p.at("type").text()
		ids, _ := p.at("identifiers").links().([]any)
		if ids == nil {
			ids = []any{p.at("identifiers").value()}
		}
		if kind == "*" {
			return "*"
		}
		had, _ := all[kind].([]any)
		all[kind] = append(had, ids...)
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

func (n node) conditions() any {
	if n.open() {
		return n.value()
	}
	all := map[string]any{}
	for _, c := range n.items() {
		test, variable := c.at("test"), c.at("variable")
		if test.open() || variable.open() {
			return c.asUnknown()
		}
		keys, _ := all[test.text()].(map[string]any)
		if keys == nil {
			keys = map[string]any{}
			all[test.text()] = keys
		}
		keys[variable.text()] = c.at("values").value()
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// attribute is a value of a resource to which another refers.
func (t *translation) attribute(from source, to *thing) any {
	one := t.things[from.address]
	if one == nil {
		return nil
	}
	attribute, _, _ := strings.Cut(from.attribute, "[")
	n := t.node(one).at(attribute)
	if !n.open() && n.v != nil {
		return n.value()
	}
	if one.mode == "data" {
		return nil
	}
	switch one.kind {
	case "aws_kms_alias":
		if attribute == "target_key_arn" || attribute == "target_key_id" {
			return t.node(one).at("target_key_id").link()
		}
	case "aws_sns_topic":
		if attribute == "id" {
			attribute = "arn"
		}
	}
	if types[one.kind] == "" {
		return nil
	}
	if t.regionOf(one) != t.regionOf(to) {
		return t.elsewhere(one, attribute)
	}
	switch attribute {
	case "arn":
		return map[string]any{"Fn::GetAtt": []any{one.id(), "Arn"}}
	case "id", "name", "key_id", "bucket", "url", "unique_id":
		return map[string]any{"Ref": one.id()}
	}
	return nil
}

// elsewhere is the value of a resource of another Region, which is in another template: of
// those that are of all Regions.
func (t *translation) elsewhere(one *thing, attribute string) any {
	name := one.id()
	if given := t.node(one).at("name").text(); given != "" {
		name = given
	}
	if given := t.node(one).at("bucket").text(); given != "" {
		name = given
	}
	path := t.node(one).at("path").text()
	if path == "" {
		path = "/"
	}
	arn := map[string]string{
		"aws_iam_role": "arn:${AWS::Partition}:iam::${AWS::AccountId}:role" + path, "aws_iam_user": "arn:${AWS::Partition}:iam::${AWS::AccountId}:user" + path,
		"aws_iam_policy": "arn:${AWS::Partition}:iam::${AWS::AccountId}:policy" + path, "aws_s3_bucket": "arn:${AWS::Partition}:s3:::",
	}[one.kind]
	switch {
	case arn == "":
	case attribute == "arn":
		return map[string]any{"Fn::Sub": arn + name}
	case attribute == "id" || attribute == "name" || attribute == "bucket":
		return name
	}
	return nil
}

// id is the logical ID of a resource: its address, without what has a meaning in ARNs.
func (one *thing) id() string {
	return strings.NewReplacer("*", "_", "?", "_", "$", "_", "{", "_", "}", "_", `"`, "").Replace(one.address)
}
