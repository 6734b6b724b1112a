package parity

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/ekskms/ekskms/internal/estate/estatetest"
	"github.com/ekskms/ekskms/internal/terraform"
)

// hoped stands for a testing.T where a fault is what is hoped for.
type hoped struct{}

func (hoped) Helper()               {}
func (hoped) Fatal(args ...any)     { panic(fmt.Sprint(args...)) }
func (hoped) Fatalf(string, ...any) { panic("fatal") }
func (hoped) Errorf(string, ...any) { panic("error") }

// factsOf are the facts of what may be broken, and whether they can be had at all.
func factsOf(read func() facts) (f facts, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return read(), true
}

// mutated are the examples whose sources are broken: together they have all that the
// renderers write.
var mutated = []string{"03_node_group", "04_tenants_and_secrets", "08_node_groups"}

// TestBrokenModule breaks the generated HCL, one string, number or truth value of its
// resources and locals at a time: each break is another fact than the template's, or
// stands in the list of what no fact is made of.
func TestBrokenModule(t *testing.T) {
	if estatetest.Race {
		return // it is many templates, one after the other
	}
	all := cases(t)
	n, passed, done := 0, map[string]bool{}, map[string]bool{}
	for _, name := range mutated {
		c := readTemplate(t, estatetest.Golden(t, name))
		files := moduleOf(t, all[name])
		want := readModule(t, files, c).facts()
		for i, f := range files {
			for _, l := range spread(literals(t, f), done) {
				n++
				broken := slices.Clone(files)
				broken[i].Content = slices.Concat(f.Content[:l.at.Start.Byte], []byte(l.changed), f.Content[l.at.End.Byte:])
				got, ok := factsOf(func() facts { return readModule(hoped{}, broken, c).facts() })
				if ok && len(compare(want, got)) == 0 {
					if !slices.ContainsFunc(unwatchedHCL, func(prefix string) bool { return strings.HasPrefix(l.path, prefix) }) {
						t.Errorf("%s: %s:%d: %s: %q is not missed", name, f.Name, l.at.Start.Line, l.path, l.changed)
					}
					passed[l.path] = true
				}
			}
		}
	}
	stale(t, unwatchedHCL, passed)
	if n < 300 {
		t.Errorf("only %d breaks", n)
	}
}

// ofEachTool is what each tool lays out, names or hands on in its own way: it is not
// compared, and docs/reference/parity.md says what matters of it.
var ofEachTool = []string{
	"aws_vpc.", "aws_default_security_group.", "aws_subnet.", "aws_internet_gateway.", "aws_eip.", "aws_nat_gateway.", "aws_route",
	"locals.availability_zones", "locals.zones", "locals.nat_gateway", "terraform_data.", "locals.kubernetes_manifests",
}

// unwatchedHCL are arguments of which no fact is made.
var unwatchedHCL = []string{
	// The provider makes names of these, and so does CloudFormation.
	"aws_iam_role.cluster.name_prefix", "aws_iam_role.nodes.name_prefix", "aws_iam_role.plugin.name_prefix", "aws_iam_role.tenant.name_prefix", "aws_iam_role.trail.name_prefix",
	"aws_s3_bucket.trail.bucket_prefix", "aws_eks_node_group.this.node_group_name_prefix", "aws_eks_node_group.general.node_group_name_prefix",
	"aws_eks_node_group.batch.node_group_name_prefix", "aws_iam_role.fargate.name_prefix", "aws_eks_fargate_profile.jobs.fargate_profile_name",
	"aws_launch_template.general.name_prefix", "aws_launch_template.batch.name_prefix",
	// What CloudFormation does by itself.
	"aws_eks_node_group.general.lifecycle", "aws_eks_node_group.batch.lifecycle",
	"aws_iam_role_policy.plugin.name", "aws_iam_role_policy.tenant.name", "aws_iam_role_policy.trail.name", "aws_cloudwatch_event_target.alarm.target_id", "aws_cloudwatch_event_target.log.target_id",
	// Roles that the CDK makes, without a description.
	"aws_iam_role.nodes.description", "aws_iam_role.trail.description",
	// Auto Mode has add-ons of its own, and the CDK says so by itself.
	"aws_eks_cluster.this.bootstrap_self_managed_addons",
}

// most is how many breaks there are of one argument. They are spread over it.
const most = 25

// literal is a string, number or truth value in HCL, and what it is changed to.
type literal struct {
	path    string // type, name and argument
	at      hcl.Range
	changed string
}

// spread chooses [most] of each argument that another example did not have.
func spread(all []literal, done map[string]bool) []literal {
	var chosen []literal
	byPath := map[string][]literal{}
	for _, l := range all {
		if !slices.ContainsFunc(ofEachTool, func(prefix string) bool { return strings.HasPrefix(l.path, prefix) }) {
			byPath[l.path] = append(byPath[l.path], l)
		}
	}
	for path, list := range byPath {
		if done[path] {
			continue
		}
		done[path] = true
		for i := range min(most, len(list)) {
			chosen = append(chosen, list[i*len(list)/min(most, len(list))])
		}
	}
	return chosen
}

func literals(t *testing.T, f terraform.File) []literal {
	t.Helper()
	parsed, diags := hclsyntax.ParseConfig(f.Content, f.Name, hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var all []literal
	var walk func(path string, body *hclsyntax.Body)
	walk = func(path string, body *hclsyntax.Body) {
		for name, a := range body.Attributes {
			_ = hclsyntax.VisitAll(a.Expr, func(n hclsyntax.Node) hcl.Diagnostics {
				if v, ok := n.(*hclsyntax.LiteralValueExpr); ok {
					if changed := change(v.Val, string(v.SrcRange.SliceBytes(f.Content))); changed != "" {
						all = append(all, literal{path + "." + name, v.SrcRange, changed})
					}
				}
				return nil
			})
		}
		for _, b := range body.Blocks {
			walk(path+"."+b.Type, b.Body)
		}
	}
	for _, b := range parsed.Body.(*hclsyntax.Body).Blocks {
		switch b.Type {
		case "resource":
			walk(strings.Join(b.Labels, "."), b.Body)
		case "locals":
			walk("locals", b.Body)
		}
	}
	return all
}

func change(v cty.Value, text string) string {
	switch {
	case v.IsNull():
		return ""
	case v.Type() == cty.Bool:
		return fmt.Sprint(v.False())
	case v.Type() == cty.Number:
		return text + "1"
	}
	return text + "x"
}

// TestBrokenTemplate does the same to the template: one leaf of the properties of the
// resources that Terraform makes too.
func TestBrokenTemplate(t *testing.T) {
	if estatetest.Race {
		return // it is many templates, one after the other
	}
	n, passed := 0, map[string]bool{}
	for _, name := range mutated {
		golden := estatetest.Golden(t, name)
		want := readTemplate(t, golden).facts()
		for id, r := range golden["Resources"].(map[string]any) {
			resource := r.(map[string]any)
			kind := resource["Type"].(string)
			if slices.ContainsFunc(ofCDK, func(prefix string) bool { return strings.HasPrefix(kind, prefix) || strings.Contains(id, prefix) }) {
				continue
			}
			for _, l := range leaves(kind, resource["Properties"]) {
				n++
				estatetest.Set(resource["Properties"], l.path, l.changed)
				got, ok := factsOf(func() facts { return readTemplate(hoped{}, golden).facts() })
				estatetest.Set(resource["Properties"], l.path, l.was)
				if ok && len(compare(want, got)) == 0 {
					if !slices.ContainsFunc(unwatchedTemplate, func(prefix string) bool { return strings.HasPrefix(l.name, prefix) }) {
						t.Errorf("%s: %s %s: %v is not missed", name, id, l.name, l.changed)
					}
					passed[l.name] = true
				}
			}
		}
	}
	stale(t, unwatchedTemplate, passed)
	if n < 500 {
		t.Errorf("only %d breaks", n)
	}
}

// ofCDK are the resources that only the CDK makes, or that each tool lays out, by type or
// a part of their ID: the handler that applies Kubernetes objects above all.
var ofCDK = []string{
	"KubectlProvider", "KubectlReadyBarrier", "KubectlLogs", "AlarmHandlerChanged", "ClusterAdminRoleAccess",
	"AWS::CDK::", "AWS::CloudFormation::", "AWS::EC2::", "AWS::Lambda::", "Custom::S3", "Custom::Vpc", "AWS::IAM::Role", "AWS::IAM::Policy", "Custom::AWSCDK-EKS-KubernetesResource",
}

// unwatchedTemplate are properties of which no fact is made.
var unwatchedTemplate = []string{"AWS::Events::Rule.Targets.Id", "AWS::CloudWatch::Alarm.Dimensions.Name", "AWS::EKS::FargateProfile.Selectors.Labels.Key"}

// stale refuses an exception that nothing needs.
func stale(t *testing.T, exceptions []string, passed map[string]bool) {
	t.Helper()
	for _, prefix := range exceptions {
		used := false
		for path := range passed {
			used = used || strings.HasPrefix(path, prefix)
		}
		if !used {
			t.Errorf("%s is watched: take it out of the list", prefix)
		}
	}
}

type leaf struct {
	path, name   string
	was, changed any
}

// leaves are the strings, numbers and truth values of properties. References are left
// out: a template that refers to nothing can't be read.
func leaves(kind string, properties any) []leaf {
	var all []leaf
	var walk func(path, name string, v any)
	walk = func(path, name string, v any) {
		add := func(changed any) {
			all = append(all, leaf{strings.TrimPrefix(path, "."), kind + name, v, changed})
		}
		switch v := v.(type) {
		case map[string]any:
			for key, value := range v {
				if key == "Ref" || strings.HasPrefix(key, "Fn::") || strings.Contains(key, ".") {
					continue
				}
				walk(path+"."+key, name+"."+key, value)
			}
		case []any:
			for i, value := range v {
				walk(fmt.Sprint(path, ".", i), name, value)
			}
		case string:
			add(v + "x")
		case bool:
			add(!v)
		case float64:
			add(v + 1)
		}
	}
	walk("", "", properties)
	return all
}
