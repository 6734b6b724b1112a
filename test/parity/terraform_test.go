package parity

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/terraform"
)

// root is a Terraform root module, evaluated by HCL's own evaluator. A reference to
// a resource stands for what the template has in its place.
type root struct {
	t         tester
	blocks    []*hclsyntax.Block
	table     []pair
	variables map[string]cty.Value
}

// addresses are the resources that policies and alarms refer to, and where the
// template has them.
var addresses = map[string]string{
	"aws_kms_key.secrets":             "SecretsKey/Resource",
	"aws_kms_key.audit":               "AuditTrail/Key",
	"aws_kms_key.alarms":              "AuditTrail/AlarmsKey",
	"aws_kms_key.logs":                "EncryptedCluster/LogsKey",
	"aws_kms_key.volumes":             "EncryptedCluster/VolumesKey",
	"aws_s3_bucket.trail":             "AuditTrail/Logs",
	"aws_sns_topic.alarms":            "AuditTrail/Alarms",
	"aws_sns_topic.undelivered":       "AuditTrail/Undelivered",
	"aws_sqs_queue.undelivered":       "AuditTrail/UndeliveredQueue",
	"aws_cloudwatch_log_group.trail":  "AuditTrail/TrailCopy",
	"aws_cloudwatch_log_group.alarms": "AuditTrail/AlarmLog",
}

func moduleOf(t *testing.T, cluster config.Cluster) []terraform.File {
	t.Helper()
	files, err := terraform.Generate(cluster.Blueprint())
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// parsed are files that were parsed before, by where they lie.
var parsed = map[*byte]*hclsyntax.Body{}

func readModule(t tester, files []terraform.File, c template) root {
	t.Helper()
	r := root{t: t, table: c.table()}
	for _, f := range files {
		body, known := parsed[&f.Content[0]]
		if !known {
			file, diags := hclsyntax.ParseConfig(f.Content, f.Name, hcl.InitialPos)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			body = file.Body.(*hclsyntax.Body)
		}
		if t != (hoped{}) { // those are read once
			parsed[&f.Content[0]] = body
		}
		r.blocks = append(r.blocks, body.Blocks...)
	}
	text := cty.StringVal
	// What the CDK calls the image that it builds.
	image := dig(c.objects(), []string{"Deployment ekskms-system/kms-plugin", "spec", "template", "spec", "containers", "0", "image"}).(string)
	r.variables = map[string]cty.Value{
		"data": cty.ObjectVal(map[string]cty.Value{
			"aws_partition": cty.ObjectVal(map[string]cty.Value{"current": cty.ObjectVal(map[string]cty.Value{"partition": text("aws"), "dns_suffix": text("amazonaws.com")})}),
			"aws_region":    cty.ObjectVal(map[string]cty.Value{"current": cty.ObjectVal(map[string]cty.Value{"id": text("eu-central-1")})}),
		}),
		"var": cty.ObjectVal(map[string]cty.Value{
			"account_id":         text("111122223333"),
			"creator_arns":       cty.ListVal([]cty.Value{text("arn:aws:iam::111122223333:role/cdk-hnb659fds-cfn-exec-role-111122223333-eu-central-1")}),
			"plugin_image":       text(image),
			"availability_zones": cty.ListVal([]cty.Value{text("eu-central-1a"), text("eu-central-1b")}),
		}),
	}
	r.resources(c)
	r.locals()
	return r
}

var privateSubnet = regexp.MustCompile(`/Vpc/(?:Private|Isolated)Subnet([0-9]+)/Subnet`)

func (r *root) resources(c template) {
	types := map[string]map[string]cty.Value{}
	add := func(typ, name string, value cty.Value) {
		if types[typ] == nil {
			types[typ] = map[string]cty.Value{}
		}
		types[typ][name] = value
	}
	for address, where := range addresses {
		resource := c.at(where)
		if resource == nil {
			continue
		}
		typ, name, _ := strings.Cut(address, ".")
		arn := arnOf(resource)
		id := strings.TrimPrefix(arn, "arn:aws:s3:::")
		if typ == "aws_sqs_queue" { // whose URL ends with its name
			id = arn[strings.LastIndex(arn, ":")+1:]
		}
		add(typ, name, cty.ObjectVal(map[string]cty.Value{"arn": cty.StringVal(arn), "id": cty.StringVal(id), "name": cty.StringVal(arn[strings.LastIndex(arn, ":")+1:]), "key_id": cty.StringVal(id)}))
	}
	tenants := map[string]cty.Value{}
	for _, resource := range c.assembly.OfType("AWS::IAM::Role") {
		path, _ := or(resource.Properties["Path"], "/").(string)
		role := cty.ObjectVal(map[string]cty.Value{"arn": cty.StringVal("arn:aws:iam::111122223333:role" + path + resource.ID), "name": cty.StringVal(resource.ID)})
		_, below, _ := strings.Cut(resource.Path, "/")
		if _, tenant, ok := strings.Cut(below, "/TenantRole-"); ok {
			tenants[tenant] = role
		} else if name, ok := roles[below]; ok {
			add("aws_iam_role", name, role)
		}
	}
	subnets := map[string]cty.Value{}
	for _, resource := range c.assembly.OfType("AWS::EC2::Subnet") {
		if m := privateSubnet.FindStringSubmatch(resource.Path); m != nil {
			subnets[m[1]] = cty.ObjectVal(map[string]cty.Value{"id": cty.StringVal(resource.ID)})
		}
	}
	if len(subnets) > 0 {
		add("aws_subnet", "private", cty.ObjectVal(subnets))
	}
	if len(tenants) > 0 {
		add("aws_iam_role", "tenant", cty.ObjectVal(tenants))
	}
	for typ, named := range types {
		r.variables[typ] = cty.ObjectVal(named)
	}
}

func (r *root) context(extra map[string]cty.Value) *hcl.EvalContext {
	all := maps.Clone(r.variables)
	maps.Copy(all, extra)
	identity := function.New(&function.Spec{
		Params: []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}},
		Type:   func(args []cty.Value) (cty.Type, error) { return args[0].Type(), nil },
		Impl:   func(args []cty.Value, _ cty.Type) (cty.Value, error) { return args[0], nil },
	})
	return &hcl.EvalContext{Variables: all, Functions: map[string]function.Function{
		"jsonencode": stdlib.JSONEncodeFunc, "join": stdlib.JoinFunc, "toset": identity,
	}}
}

// locals evaluates the locals, each once what it refers to is there. Those that
// need functions of Terraform itself are of no interest here.
func (r *root) locals() {
	values := map[string]cty.Value{}
	for changed := true; changed; {
		changed = false
		for _, b := range r.blocks {
			if b.Type != "locals" {
				continue
			}
			for name, a := range b.Body.Attributes {
				if _, done := values[name]; done {
					continue
				}
				if v, diags := a.Expr.Value(r.context(nil)); !diags.HasErrors() {
					values[name], changed = v, true
					r.variables["local"] = cty.ObjectVal(values)
				}
			}
		}
	}
}

// plain makes of a value what encoding/json would read.
func (r root) plain(v cty.Value) any {
	data, err := ctyjson.Marshal(v, v.Type())
	if err != nil {
		r.t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		r.t.Fatal(err)
	}
	return out
}

// resource is a resource that is evaluated on demand.
type resource struct {
	r    root
	body *hclsyntax.Body
	each map[string]cty.Value
}

// at returns a resource by its type and name, or nil.
func (r root) at(typ, name string) *resource {
	for _, b := range r.blocks {
		if b.Type == "resource" && b.Labels[0] == typ && b.Labels[1] == name {
			return &resource{r: r, body: b.Body}
		}
	}
	return nil
}

// instances returns the instances of a resource with for_each, by their keys.
func (x *resource) instances() map[string]*resource {
	all := map[string]*resource{}
	if x == nil {
		return all
	}
	forEach := x.body.Attributes["for_each"]
	if forEach == nil {
		return map[string]*resource{"": x}
	}
	v, diags := forEach.Expr.Value(x.r.context(nil))
	if diags.HasErrors() {
		x.r.t.Fatal(diags)
	}
	for it := v.ElementIterator(); it.Next(); {
		name, value := it.Element()
		if v.Type().IsTupleType() { // a set, whose keys are its values
			name = value
		}
		all[name.AsString()] = &resource{x.r, x.body, map[string]cty.Value{"each": cty.ObjectVal(map[string]cty.Value{"key": name, "value": value})}}
	}
	return all
}

// get returns an argument, at a path through blocks, the first of each kind if no number
// behind it says which; nil if it is not there.
func (x *resource) get(path ...string) any {
	body := x.body
	for i := 0; i < len(path)-1; i++ {
		name := path[i]
		if a := body.Attributes[name]; a != nil { // a map
			return dig(x.value(a), path[i+1:])
		}
		blocks := slices.DeleteFunc(slices.Clone(body.Blocks), func(b *hclsyntax.Block) bool { return b.Type != name })
		n, err := strconv.Atoi(path[i+1])
		if err == nil {
			i++ // it says which of several
		}
		if n >= len(blocks) {
			return nil
		}
		body = blocks[n].Body
	}
	a := body.Attributes[path[len(path)-1]]
	if a == nil {
		return nil
	}
	return x.value(a)
}

func (x *resource) value(a *hclsyntax.Attribute) any {
	v, diags := a.Expr.Value(x.r.context(x.each))
	if diags.HasErrors() {
		x.r.t.Fatal(diags)
	}
	return x.r.plain(v)
}

func (r root) facts() facts {
	f := facts{}
	for _, p := range r.table {
		f[p.fact] = r.get(p.terraform)
	}
	objects, ok := r.plain(r.variables["local"].GetAttr("kubernetes_objects")).([]any)
	if !ok {
		r.t.Fatal("no objects")
	}
	list := make([]map[string]any, len(objects))
	for i, o := range objects {
		list[i] = o.(map[string]any)
	}
	f["Kubernetes objects"] = byName(list)
	inputs := []any{}
	for _, b := range r.blocks {
		if b.Type == "variable" && b.Body.Attributes["default"] == nil {
			inputs = append(inputs, b.Labels[0])
		}
		if b.Type == "output" && b.Labels[0] == "existing_key_policy_statements" {
			out := resource{r: r, body: b.Body}
			f["keys: what the owner of an existing one must add"] = map[string]any{"Statement": decode(out.get("value"))}
		}
	}
	f["inputs that must be given"] = inputs
	return f
}

// get returns an argument of a resource, or nil: see [pair].
func (r root) get(where string) any {
	address, argument, _ := strings.Cut(where, " ")
	argument, otherwise, _ := strings.Cut(argument, "|")
	if argument == "kept" {
		argument = "lifecycle.prevent_destroy"
	}
	path := strings.Split(argument, ".")
	if of, ok := strings.CutSuffix(address, "[*]"); ok {
		typ, name, _ := strings.Cut(of, ".")
		var list []any
		for _, b := range r.blocks {
			if b.Type == "resource" && b.Labels[0] == typ && (name == "" || b.Labels[1] == name) {
				for _, x := range (&resource{r: r, body: b.Body}).instances() {
					list = append(list, x.get(path...))
				}
			}
		}
		return sorted(list)
	}
	typ, name, _ := strings.Cut(address, ".")
	name, key, several := strings.Cut(name, "[")
	x := r.at(typ, name)
	if several {
		x = x.instances()[strings.Trim(key, `"]`)]
	}
	if x == nil {
		return nil
	}
	v := decode(x.get(path...))
	if argument == "lifecycle.prevent_destroy" {
		return v == true
	}
	return or(v, otherwise)
}
