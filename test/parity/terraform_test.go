package parity

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/terraform"
)

// root is a Terraform root module, evaluated by HCL's own evaluator. A reference to
// a resource stands for what the template has in its place.
type root struct {
	t         tester
	blocks    []*hclsyntax.Block
	variables map[string]cty.Value
}

// addresses are the resources that policies and alarms refer to, and where the
// template has them.
var addresses = map[string]string{
	"aws_kms_key.secrets":            "SecretsKey/Resource",
	"aws_kms_key.audit":              "AuditTrail/Key",
	"aws_kms_key.logs":               "EncryptedCluster/LogsKey",
	"aws_s3_bucket.trail":            "AuditTrail/Logs",
	"aws_sns_topic.alarms":           "AuditTrail/Alarms",
	"aws_cloudwatch_log_group.trail": "AuditTrail/TrailCopy",
}

func moduleOf(t *testing.T, cluster config.Cluster) []terraform.File {
	t.Helper()
	files, err := terraform.Generate(cluster.Blueprint())
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func readModule(t tester, files []terraform.File, c template) root {
	t.Helper()
	r := root{t: t}
	parser := hclparse.NewParser()
	for _, f := range files {
		parsed, diags := parser.ParseHCL(f.Content, f.Name)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		r.blocks = append(r.blocks, parsed.Body.(*hclsyntax.Body).Blocks...)
	}
	text := cty.StringVal
	r.variables = map[string]cty.Value{
		"data": cty.ObjectVal(map[string]cty.Value{
			"aws_partition": cty.ObjectVal(map[string]cty.Value{"current": cty.ObjectVal(map[string]cty.Value{"partition": text("aws"), "dns_suffix": text("amazonaws.com")})}),
			"aws_region":    cty.ObjectVal(map[string]cty.Value{"current": cty.ObjectVal(map[string]cty.Value{"id": text("eu-central-1")})}),
		}),
		"var": cty.ObjectVal(map[string]cty.Value{
			"account_id":         text("111122223333"),
			"creator_arns":       cty.ListVal([]cty.Value{text(c.creator())}),
			"plugin_image":       text(c.image()),
			"availability_zones": cty.ListVal([]cty.Value{text("eu-central-1a"), text("eu-central-1b")}),
		}),
	}
	r.resources(c)
	r.locals()
	return r
}

// creator is the role that may create the cluster if the configuration names none.
func (c template) creator() string {
	return "arn:aws:iam::111122223333:role/cdk-hnb659fds-cfn-exec-role-111122223333-eu-central-1"
}

// image is what the CDK calls the image that it builds.
func (c template) image() string {
	for _, o := range c.objects().(map[string]any) {
		if spec, ok := o.(map[string]any)["spec"].(map[string]any); ok && spec["template"] != nil {
			pod := spec["template"].(map[string]any)["spec"].(map[string]any)
			return pod["containers"].([]any)[0].(map[string]any)["image"].(string)
		}
	}
	c.t.Fatal("no plugin in the template")
	return ""
}

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
		arn := c.arnOf(resource)
		id := arn
		if resource.Type == "AWS::S3::Bucket" {
			id = strings.TrimPrefix(arn, "arn:aws:s3:::")
		}
		// Terraform leaves the end off that CloudFormation gives log groups.
		arn = strings.TrimSuffix(arn, ":*")
		add(typ, name, cty.ObjectVal(map[string]cty.Value{"arn": cty.StringVal(arn), "id": cty.StringVal(id)}))
	}
	tenants := map[string]cty.Value{}
	for where, name := range roles {
		resource := c.at(where)
		if resource == nil {
			continue
		}
		arn := cty.ObjectVal(map[string]cty.Value{"arn": cty.StringVal("arn:aws:iam::111122223333:role" + pathOf(resource) + resource.ID)})
		if tenant, ok := strings.CutPrefix(name, `tenant["`); ok {
			tenants[strings.TrimSuffix(tenant, `"]`)] = arn
			continue
		}
		add("aws_iam_role", name, arn)
	}
	if len(tenants) > 0 {
		add("aws_iam_role", "tenant", cty.ObjectVal(tenants))
	}
	for typ, named := range types {
		r.variables[typ] = cty.ObjectVal(named)
	}
}

func pathOf(r *cfn.Resource) string {
	if path, ok := r.Properties["Path"].(string); ok {
		return path
	}
	return "/"
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
	v, diags := x.body.Attributes["for_each"].Expr.Value(x.r.context(nil))
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

// get returns an argument, at a path through blocks of which there is one; nil if
// it is not there.
func (x *resource) get(path ...string) any {
	body := x.body
	for _, name := range path[:len(path)-1] {
		i := slices.IndexFunc(body.Blocks, func(b *hclsyntax.Block) bool { return b.Type == name })
		if i < 0 {
			return nil
		}
		body = body.Blocks[i].Body
	}
	a := body.Attributes[path[len(path)-1]]
	if a == nil {
		return nil
	}
	v, diags := a.Expr.Value(x.r.context(x.each))
	if diags.HasErrors() {
		x.r.t.Fatal(diags)
	}
	return x.r.plain(v)
}

// document returns the statements of a policy.
func (x *resource) document(name string) any { return statements(x.json(name)) }

func (x *resource) json(name string) any {
	var v any
	if err := json.Unmarshal([]byte(x.get(name).(string)), &v); err != nil {
		x.r.t.Fatal(err)
	}
	return v
}

func (x *resource) kept() bool { return x.get("lifecycle", "prevent_destroy") == true }

func (r root) facts() facts {
	f := facts{}
	for _, name := range []string{"secrets", "audit", "logs"} {
		k := r.at("aws_kms_key", name)
		if k == nil {
			continue
		}
		f[name+" key: description"] = k.get("description")
		f[name+" key: policy"] = k.document("policy")
		f[name+" key: rotation"] = map[string]any{"enabled": k.get("enable_key_rotation"), "days": k.get("rotation_period_in_days")}
		f[name+" key: pending window"] = k.get("deletion_window_in_days")
		f[name+" key: multi-Region"] = k.get("multi_region")
		f[name+" key: kept"] = k.kept()
		f[name+" key: alias"] = r.at("aws_kms_alias", name).get("name")
	}
	r.cluster(f)
	r.audit(f)
	r.identities(f)
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
			f["secrets key: what its owner must add"] = out.json("value")
		}
	}
	f["inputs that must be given"] = inputs
	return f
}

func (r root) cluster(f facts) {
	c := r.at("aws_eks_cluster", "this")
	f["cluster: name and version"] = []any{c.get("name"), c.get("version")}
	f["cluster: encryption"] = map[string]any{"key": c.get("encryption_config", "provider", "key_arn"), "resources": c.get("encryption_config", "resources")}
	f["cluster: endpoint"] = map[string]any{
		"private": c.get("vpc_config", "endpoint_private_access"), "public": c.get("vpc_config", "endpoint_public_access"), "cidrs": c.get("vpc_config", "public_access_cidrs"),
	}
	f["cluster: logs"] = c.get("enabled_cluster_log_types")
	f["cluster: authentication"] = map[string]any{
		"mode": c.get("access_config", "authentication_mode"), "creator is admin": c.get("access_config", "bootstrap_cluster_creator_admin_permissions"),
	}
	f["cluster: Auto Mode"] = map[string]any{
		"compute": c.get("compute_config", "enabled"), "pools": sorted(c.get("compute_config", "node_pools")),
		"load balancing": c.get("kubernetes_network_config", "elastic_load_balancing", "enabled"), "storage": c.get("storage_config", "block_storage", "enabled"),
	}
	f["cluster: addresses"] = c.get("kubernetes_network_config", "ip_family")
	f["cluster: deletion protection"] = c.get("deletion_protection")
	f["cluster: kept"] = c.kept()
	groups, _ := c.get("vpc_config", "security_group_ids").([]any)
	f["cluster: security groups of its own"] = len(groups)
	r.logGroup(f, "control plane", "control_plane")
	if g := r.at("aws_eks_node_group", "this"); g != nil {
		f["node group"] = map[string]any{
			"types": g.get("instance_types"), "image": g.get("ami_type"), "force": g.get("force_update_version"),
			"min": g.get("scaling_config", "min_size"), "max": g.get("scaling_config", "max_size"), "desired": g.get("scaling_config", "desired_size"),
		}
	}
	addons := map[string]any{}
	for _, name := range []string{"pod_identity_agent", "vpc_cni"} {
		a := r.at("aws_eks_addon", name)
		if a == nil {
			continue
		}
		var configuration any
		if a.get("configuration_values") != nil {
			configuration = a.json("configuration_values")
		}
		if a.get("resolve_conflicts_on_create") != a.get("resolve_conflicts_on_update") {
			r.t.Errorf("%s: conflicts are resolved in two ways", name)
		}
		addons[a.get("addon_name").(string)] = map[string]any{"there": true, "configuration": configuration, "conflicts": a.get("resolve_conflicts_on_create")}
	}
	f["add-ons"] = addons
	entries := map[string]any{}
	for arn, e := range r.at("aws_eks_access_entry", "this").instances() {
		groups := e.get("kubernetes_groups")
		if list, ok := groups.([]any); ok && len(list) == 0 {
			groups = nil
		}
		entries[arn] = map[string]any{"type": e.get("type"), "groups": groups, "policies": []any{}}
	}
	for arn, a := range r.at("aws_eks_access_policy_association", "this").instances() {
		entries[arn].(map[string]any)["policies"] = []any{map[string]any{
			"arn": a.get("policy_arn"), "scope": a.get("access_scope", "type"), "namespaces": a.get("access_scope", "namespaces"),
		}}
	}
	f["access entries"] = entries
}

func (r root) logGroup(f facts, name, resource string) {
	if g := r.at("aws_cloudwatch_log_group", resource); g != nil {
		f["log group of the "+name] = map[string]any{"name": g.get("name"), "days": g.get("retention_in_days"), "key": g.get("kms_key_id"), "kept": g.kept()}
	}
}

func (r root) audit(f facts) {
	alarms := map[string]any{}
	targets := r.at("aws_cloudwatch_event_target", "alarm").instances()
	for id, a := range r.at("aws_cloudwatch_event_rule", "alarm").instances() {
		target := targets[id]
		alarms[id] = map[string]any{
			"description": a.get("description"), "pattern": a.json("event_pattern"), "state": a.get("state"), "topic": target.get("arn"),
			"paths": target.get("input_transformer", "input_paths"), "template": target.get("input_transformer", "input_template"),
		}
	}
	f["alarms"] = alarms
	if topic := r.at("aws_sns_topic", "alarms"); topic != nil {
		f["topic"] = map[string]any{"name": topic.get("name"), "display": topic.get("display_name"), "key": topic.get("kms_master_key_id")}
		f["topic: policy"] = r.at("aws_sns_topic_policy", "alarms").document("policy")
	}
	var subscriptions []any
	for _, s := range r.at("aws_sns_topic_subscription", "emails").instances() {
		subscriptions = append(subscriptions, s.get("protocol"), s.get("endpoint"))
	}
	f["topic: subscriptions"] = subscriptions
	trail := r.at("aws_cloudtrail", "this")
	if trail == nil {
		return
	}
	f["trail"] = map[string]any{
		"name": trail.get("name"), "key": trail.get("kms_key_id"), "bucket": trail.get("s3_bucket_name"), "on": trail.get("enable_logging"), "validated": trail.get("enable_log_file_validation"),
		"all Regions": trail.get("is_multi_region_trail"), "global services": trail.get("include_global_service_events"), "log group": trail.get("cloud_watch_logs_group_arn"),
		"management events": trail.get("event_selector", "include_management_events"), "read and write": trail.get("event_selector", "read_write_type"),
	}
	r.logGroup(f, "trail", "trail")
	public := r.at("aws_s3_bucket_public_access_block", "trail")
	f["bucket: settings"] = map[string]any{
		"encryption": r.at("aws_s3_bucket_server_side_encryption_configuration", "trail").get("rule", "apply_server_side_encryption_by_default", "sse_algorithm"),
		"versioning": r.at("aws_s3_bucket_versioning", "trail").get("versioning_configuration", "status"),
		"ownership":  r.at("aws_s3_bucket_ownership_controls", "trail").get("rule", "object_ownership"),
		"public": map[string]any{
			"BlockPublicAcls": public.get("block_public_acls"), "BlockPublicPolicy": public.get("block_public_policy"),
			"IgnorePublicAcls": public.get("ignore_public_acls"), "RestrictPublicBuckets": public.get("restrict_public_buckets"),
		},
		"kept": r.at("aws_s3_bucket", "trail").kept(),
	}
	rules := r.at("aws_s3_bucket_lifecycle_configuration", "trail")
	f["bucket: retention"] = map[string]any{
		"id": rules.get("rule", "id"), "status": rules.get("rule", "status"), "days": rules.get("rule", "expiration", "days"),
		"old versions": rules.get("rule", "noncurrent_version_expiration", "noncurrent_days"), "uploads": rules.get("rule", "abort_incomplete_multipart_upload", "days_after_initiation"),
	}
	policy := r.at("aws_s3_bucket_policy", "trail")
	f["bucket: policy"] = policy.document("policy")
	f["bucket: policy kept"] = policy.kept()
}

func (r root) identities(f facts) {
	role := func(name, resource string, x, policy *resource) {
		path := x.get("path")
		if path == nil {
			path = "/"
		}
		var managed []any
		if a := r.at("aws_iam_role_policy_attachment", resource); a != nil {
			for _, i := range a.instances() {
				managed = append(managed, i.get("policy_arn"))
			}
		}
		var own any = []any(nil)
		if policy != nil {
			own = policy.document("policy")
		}
		f["role: "+name] = map[string]any{"description": description(name, x.get("description")), "trust": x.document("assume_role_policy"), "managed": sorted(managed), "path": path, "statements": own}
	}
	for _, name := range []string{"cluster", "plugin", "trail", "nodes"} {
		if x := r.at("aws_iam_role", name); x != nil {
			role(name, name, x, r.at("aws_iam_role_policy", name))
		}
	}
	policies := r.at("aws_iam_role_policy", "tenant").instances()
	for key, x := range r.at("aws_iam_role", "tenant").instances() {
		role(fmt.Sprintf("tenant[%q]", key), "tenant", x, policies[key])
	}
	associations := map[string]any{}
	add := func(a *resource) {
		associations[fmt.Sprint(a.get("namespace"), "/", a.get("service_account"))] = a.get("role_arn")
	}
	if a := r.at("aws_eks_pod_identity_association", "plugin"); a != nil {
		add(a)
	}
	for _, a := range r.at("aws_eks_pod_identity_association", "tenant").instances() {
		add(a)
	}
	f["Pod Identity associations"] = associations
}
