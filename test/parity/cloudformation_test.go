package parity

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/estate/estatetest"
)

// tester is a [testing.T], or what stands for it where a fault is hoped for.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// facts are what a renderer says of a cluster, by names that both renderers share.
// The values are as encoding/json reads them.
type facts map[string]any

// template is a golden of the constructs.
type template struct {
	t        tester
	assembly *cfn.Assembly
}

func readTemplate(t tester, golden estatetest.Template) template {
	data, err := json.Marshal(golden)
	if err != nil {
		t.Fatal(err)
	}
	assembly, err := cfn.Parse("template.json", data, cfn.Environment{Account: "111122223333", Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	return template{t, assembly}
}

// at returns the resource with a construct path below the stack, or nil.
func (c template) at(below string) *cfn.Resource {
	for _, r := range c.assembly.Templates[0].Resources {
		if _, rest, ok := strings.Cut(r.Path, "/"); ok && (rest == below || rest == below+"/Resource") {
			return r
		}
	}
	return nil
}

// arnOf returns what a reference to a resource stands for.
func arnOf(r *cfn.Resource) string {
	const at = ":eu-central-1:111122223333:"
	text := func(property string) string { return fmt.Sprint(r.Properties[property]) }
	switch r.Type {
	case "AWS::S3::Bucket":
		return "arn:aws:s3:::" + r.ID
	case "AWS::SNS::Topic":
		return "arn:aws:sns" + at + text("TopicName")
	case "AWS::SQS::Queue":
		return "arn:aws:sqs" + at + text("QueueName")
	case "AWS::Logs::LogGroup":
		return "arn:aws:logs" + at + "log-group:" + text("LogGroupName")
	}
	return "arn:aws:kms" + at + "key/" + r.ID
}

func (c template) facts() facts {
	f := facts{"Kubernetes objects": c.objects(), "inputs that must be given": []any{}}
	for _, p := range c.table() {
		f[p.fact] = c.get(p.cloudFormation)
	}
	if v, ok := c.assembly.Templates[0].Outputs["ExistingKeyPolicyStatements"].(string); ok {
		f["keys: what the owner of an existing one must add"] = map[string]any{"Statement": decode(v)}
	}
	return f
}

// get returns a property of a resource, or nil: see [pair].
func (c template) get(where string) any {
	address, property, _ := strings.Cut(where, " ")
	if kind, ok := strings.CutSuffix(address, "[*]"); ok {
		var list []any
		for _, r := range c.assembly.OfType(kind) {
			list = append(list, r.Properties[property])
		}
		return sorted(list)
	}
	r := c.at(address)
	if r == nil {
		return nil
	}
	if property == "kept" {
		return strings.HasPrefix(r.DeletionPolicy, "Retain") && r.UpdateReplacePolicy == "Retain"
	}
	property, otherwise, _ := strings.Cut(property, "|")
	return or(decode(dig(r.Properties, strings.Split(property, "."))), otherwise)
}

func dig(v any, path []string) any {
	if len(path) == 0 {
		return v
	}
	switch v := v.(type) {
	case map[string]any:
		return dig(v[path[0]], path[1:])
	case []any:
		if i, err := strconv.Atoi(path[0]); err == nil && i < len(v) {
			return dig(v[i], path[1:])
		}
		if path[0] == "*" {
			var all []any
			for _, e := range v {
				all = append(all, dig(e, path[1:]))
			}
			return all
		}
	}
	return nil
}

// or is a value, or what it is by default.
func or(v any, otherwise string) any {
	switch {
	case v != nil || otherwise == "":
		return v
	case otherwise == "false":
		return false
	}
	return otherwise
}

// decode reads a text that is JSON.
func decode(v any) any {
	if text, ok := v.(string); ok && (strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[")) {
		var read any
		if json.Unmarshal([]byte(text), &read) == nil {
			return read
		}
	}
	return v
}

func sorted(v any) any {
	list, _ := v.([]any)
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return list
}

// objects returns the Kubernetes objects by kind, namespace and name.
func (c template) objects() any {
	var list []map[string]any
	for _, r := range estate.FromTemplates(c.assembly).Of(estate.KindKubernetes) {
		objects, err := r.Objects()
		if err != nil {
			c.t.Fatal(err)
		}
		list = append(list, objects...)
	}
	return byName(list)
}

func byName(objects []map[string]any) map[string]any {
	all := map[string]any{}
	for _, o := range objects {
		m := o["metadata"].(map[string]any)
		if labels, ok := m["labels"].(map[string]any); ok {
			// With this label of CDK's, its handler finds what to remove.
			maps.DeleteFunc(labels, func(key string, _ any) bool { return strings.HasPrefix(key, "aws.cdk.eks/prune-") })
			if len(labels) == 0 {
				delete(m, "labels")
			}
		}
		all[fmt.Sprint(o["kind"], " ", m["namespace"], "/", m["name"])] = o
	}
	return all
}
