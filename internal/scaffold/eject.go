// Package scaffold writes Go source and the files of new projects.
package scaffold

import (
	"bytes"
	_ "embed" // for the template of an ejected program
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/place"
)

// The packages that ejected code may import, by their names in it.
var packages = map[string]string{
	"fmt": "fmt", "os": "os",
	"awscdk":        "github.com/aws/aws-cdk-go/awscdk/v2",
	"awscloudtrail": "github.com/aws/aws-cdk-go/awscdk/v2/awscloudtrail",
	"awsec2":        "github.com/aws/aws-cdk-go/awscdk/v2/awsec2",
	"awseksv2":      "github.com/aws/aws-cdk-go/awscdk/v2/awseksv2",
	"awsiam":        "github.com/aws/aws-cdk-go/awscdk/v2/awsiam",
	"awskms":        "github.com/aws/aws-cdk-go/awscdk/v2/awskms",
	"awslogs":       "github.com/aws/aws-cdk-go/awscdk/v2/awslogs",
	"awssns":        "github.com/aws/aws-cdk-go/awscdk/v2/awssns",
	"jsii":          "github.com/aws/jsii-runtime-go",
	"ekskms":        "github.com/ekskms/ekskms/constructs/ekskms",
}

//go:embed eject.go.tmpl
var ejectTemplate string

// ejected are the functions of the template. Whatever a configuration says is quoted.
var ejected = template.FuncMap{
	"quote":     strconv.Quote,
	"str":       str,
	"days":      func(n int) string { return fmt.Sprintf("awscdk.Duration_Days(jsii.Number(%d))", n) },
	"retention": func(n int) string { return "awslogs.RetentionDays_" + place.LogRetention(n) },
	"list": func(values []string) string {
		return "jsii.Strings(" + each(values, strconv.Quote, ", ") + ")"
	},
	"principals": func(arns []string) string {
		return "&[]awsiam.IGrantable{\n" + each(arns, func(arn string) string { return "awsiam.NewArnPrincipal(" + ofStack.Replace(str(arn)) + "),\n" }, "") + "}"
	},
	"constant": func(kind string, value any) string {
		v := fmt.Sprint(value)
		if v == "daemonset" {
			v = "daemonSet"
		}
		return "ekskms." + kind + strings.ToUpper(v[:1]) + v[1:]
	},
	"upper":    strings.ToUpper,
	"literal":  func(v any) string { return fmt.Sprintf("%#v", v) },
	"override": blueprint.OverrideValue,
	"texts": func(m map[string]string) string {
		return "&map[string]*string{" + each(slices.Sorted(maps.Keys(m)), func(key string) string { return strconv.Quote(key) + ": " + str(m[key]) }, ", ") + "}"
	},
	"outputs": func() any { return blueprint.Outputs },
	"output": func(o blueprint.Output, value string) string {
		return fmt.Sprintf("{%q, %q, %s},", o.ID, o.Description, value)
	},
}

// anywhere is the place of a stack that may be deployed anywhere, and ofStack what the
// program has for it: no value of a configuration has such a text.
var (
	anywhere = place.Place{Partition: place.Literal("${AWS::Partition}"), Account: place.Literal("${AWS::AccountId}"), Region: place.Literal("${AWS::Region}")}
	ofStack  = strings.NewReplacer("${AWS::Partition}", `" + *stack.Partition() + "`, "${AWS::AccountId}", `" + *stack.Account() + "`, "${AWS::Region}", `" + *stack.Region() + "`)
)

func str(v string) string { return "jsii.String(" + strconv.Quote(v) + ")" }

func each(values []string, to func(string) string, between string) string {
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = to(v)
	}
	return strings.Join(all, between)
}

// Eject returns a Go program that makes the stack of a cluster with the constructs
// alone, every value spelled out. Its template is that of the configuration, byte
// for byte: the constructs have the IDs that package stacks gives them.
func Eject(cluster blueprint.Cluster) ([]byte, error) {
	if len(cluster.Creators) == 0 {
		at := cluster.At
		if at.Region == nil {
			at = anywhere
		}
		if creator := cluster.CDK.Creator(at); creator != "" {
			cluster.Creators = []string{creator}
		}
	}
	t, err := template.New("eject").Funcs(ejected).Parse(ejectTemplate)
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	if err := t.Execute(&body, cluster); err != nil {
		return nil, err
	}
	used, err := selected(body.String())
	if err != nil {
		return nil, fmt.Errorf("scaffold: the program does not parse: %w", err)
	}

	b := &bytes.Buffer{}
	fmt.Fprintf(b, "// Package main makes the stack of EKS cluster %s.\n//\n", cluster.Name)
	b.WriteString("// It was written by ekskms eject, and is yours to change. The IDs of the constructs\n" +
		"// are the identity of what is deployed: to change that of the key or the cluster is to\n" +
		"// replace it.\npackage main\n\nimport (\n")
	for i, group := range [][]string{{"fmt", "os"}, {"awscdk", "awscloudtrail", "awsec2", "awseksv2", "awsiam", "awskms", "awslogs", "awssns", "jsii"}, {"ekskms"}} {
		if i > 0 {
			b.WriteString("\n")
		}
		for _, name := range group {
			if used[name] {
				fmt.Fprintf(b, "\t%q\n", packages[name])
			}
		}
	}
	b.WriteString(")\n\n")
	b.Write(body.Bytes())
	return format.Source(b.Bytes())
}

// selected returns the names before a dot in a program without its imports.
func selected(body string) (map[string]bool, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "", "package main\n"+body, 0)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok {
				names[x.Name] = true
			}
		}
		return true
	})
	return names, nil
}
