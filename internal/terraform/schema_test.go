package terraform_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/ekskms/ekskms/internal/terraform"
)

// schema is what a provider says of the resources used here, in the form of
// `terraform providers schema -json`. Source of testdata/schema.json: the provider
// hashicorp/aws 5.100.0, less descriptions and what is not used.
type schema struct {
	Resources map[string]blockType `json:"resource_schemas"`
	Data      map[string]blockType `json:"data_source_schemas"`
}

type blockType struct {
	Block block `json:"block"`
}

type block struct {
	Attributes map[string]attribute `json:"attributes,omitempty"`
	Blocks     map[string]nested    `json:"block_types,omitempty"`
}

type attribute struct {
	Required   bool `json:"required,omitempty"`
	Optional   bool `json:"optional,omitempty"`
	Deprecated bool `json:"deprecated,omitempty"`
}

type nested struct {
	Block    block `json:"block"`
	MinItems int   `json:"min_items,omitempty"`
	MaxItems int   `json:"max_items,omitempty"`
}

const schemaFile = "testdata/schema.json"

func readSchema(t *testing.T) schema {
	t.Helper()
	data, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// meta are the arguments and blocks that Terraform gives every resource.
var meta = []string{"count", "for_each", "depends_on", "lifecycle", "provider", "provisioner"}

// judge returns what is wrong with the resources and data sources of a module.
func (s schema) judge(files []terraform.File) []string {
	var faults []string
	parser := hclparse.NewParser()
	for _, f := range files {
		parsed, diags := parser.ParseHCL(f.Content, f.Name)
		if diags.HasErrors() {
			faults = append(faults, diags.Error())
			continue
		}
		for _, b := range parsed.Body.(*hclsyntax.Body).Blocks {
			kinds := map[string]map[string]blockType{"resource": s.Resources, "data": s.Data}[b.Type]
			if kinds == nil || b.Labels[0] == "terraform_data" {
				continue // of Terraform itself, which has no schema to ask for
			}
			typ, known := kinds[b.Labels[0]]
			if !known {
				faults = append(faults, fmt.Sprintf("%s: no %s %s", b.TypeRange, b.Type, b.Labels[0]))
				continue
			}
			faults = append(faults, typ.Block.judge(b.Body, strings.Join(b.Labels, "."), true)...)
		}
	}
	return faults
}

func (s block) judge(body *hclsyntax.Body, path string, top bool) []string {
	var faults []string
	fault := func(at hcl.Range, format string, args ...any) {
		faults = append(faults, fmt.Sprintf("%s: %s: ", at, path)+fmt.Sprintf(format, args...))
	}
	for name, a := range body.Attributes {
		schema, known := s.Attributes[name]
		switch {
		case top && slices.Contains(meta, name):
		case !known:
			fault(a.NameRange, "no argument %s", name)
		case !schema.Required && !schema.Optional:
			fault(a.NameRange, "%s is computed", name)
		case schema.Deprecated:
			fault(a.NameRange, "%s is deprecated", name)
		}
	}
	for name, a := range s.Attributes {
		if a.Required && body.Attributes[name] == nil {
			fault(body.SrcRange, "%s is required", name)
		}
	}
	count := map[string]int{}
	for _, b := range body.Blocks {
		if top && slices.Contains(meta, b.Type) {
			continue
		}
		typ, known := s.Blocks[b.Type]
		if !known {
			fault(b.TypeRange, "no block %s", b.Type)
			continue
		}
		count[b.Type]++
		faults = append(faults, typ.Block.judge(b.Body, path+"."+b.Type, false)...)
	}
	for name, b := range s.Blocks {
		if count[name] < b.MinItems || b.MaxItems > 0 && count[name] > b.MaxItems {
			fault(body.SrcRange, "%d blocks %s, must be %d to %d", count[name], name, b.MinItems, b.MaxItems)
		}
	}
	return faults
}

// TestSchema holds every resource against what the provider takes, without the
// provider.
func TestSchema(t *testing.T) {
	s := readSchema(t)
	for name, files := range modules(t) {
		for _, fault := range s.judge(files) {
			t.Errorf("%s: %s", name, fault)
		}
	}
}

// The check sees what it is there for.
func TestSchemaMutations(t *testing.T) {
	s := readSchema(t)
	good := modules(t)["03_node_group"]
	for _, c := range []struct{ old, new, want string }{
		{"enable_key_rotation", "enable_rotation", "no argument enable_rotation"},
		{"encryption_config {", "encryption {", "no block encryption"},
		{"  role_arn = aws_iam_role.cluster.arn\n", "", "role_arn is required"},
		{`resource "aws_cloudtrail" "this"`, `resource "aws_trail" "this"`, "no resource aws_trail"},
		{"lifecycle {\n    prevent_destroy", "key_arn = \"a\"\n  lifecycle {\n    prevent_destroy", "no argument key_arn"},
		{"sse_algorithm", "sse", "no argument sse"},
		{"description             = \"Encrypts the Kubernetes", "arn = \"a\"\n  description             = \"Encrypts the Kubernetes", "arn is computed"},
		{"  input_transformer {", "  input_transformer {\n    input_template = \"a\"\n  }\n\n  input_transformer {", "2 blocks input_transformer"},
		{"  policy = jsonencode", "  policy = jsonencode(", "Missing"},
	} {
		files, changed := slices.Clone(good), false
		for i, f := range files {
			text := strings.Replace(alignment.ReplaceAllString(string(f.Content), " = "), c.old, c.new, 1)
			if text == alignment.ReplaceAllString(string(f.Content), " = ") {
				text = strings.Replace(string(f.Content), c.old, c.new, 1)
			}
			changed = changed || text != string(f.Content) && strings.Contains(text, c.new)
			files[i].Content = []byte(text)
		}
		if faults := s.judge(files); !changed || !strings.Contains(strings.Join(faults, "\n"), c.want) {
			t.Errorf("%q: changed: %v, found %q, want %q", c.old, changed, faults, c.want)
		}
	}
}

// reduce keeps of the provider's schema what the modules use.
func reduce(full []byte, used map[string][]string) ([]byte, error) {
	var all struct {
		Providers map[string]schema `json:"provider_schemas"`
	}
	if err := json.Unmarshal(full, &all); err != nil {
		return nil, err
	}
	if len(all.Providers) == 0 {
		return nil, fmt.Errorf("no provider in the schema")
	}
	out := schema{map[string]blockType{}, map[string]blockType{}}
	for name, p := range all.Providers {
		if !strings.HasSuffix(name, "hashicorp/aws") {
			continue
		}
		for _, typ := range used["resource"] {
			out.Resources[typ] = p.Resources[typ]
		}
		for _, typ := range used["data"] {
			out.Data[typ] = p.Data[typ]
		}
	}
	data, err := json.MarshalIndent(out, "", " ")
	return append(data, '\n'), err
}

// used lists the types of resources and data sources in the modules.
func used(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string]map[string]bool{"resource": {}, "data": {}}
	parser := hclparse.NewParser()
	for name, files := range modules(t) {
		for _, f := range files {
			parsed, diags := parser.ParseHCL(f.Content, filepath.Join(name, f.Name))
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			for _, b := range parsed.Body.(*hclsyntax.Body).Blocks {
				if all[b.Type] != nil && b.Labels[0] != "terraform_data" {
					all[b.Type][b.Labels[0]] = true
				}
			}
		}
	}
	return map[string][]string{"resource": slices.Sorted(maps.Keys(all["resource"])), "data": slices.Sorted(maps.Keys(all["data"]))}
}
