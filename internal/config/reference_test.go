package config_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/ekskms/ekskms/internal/config"
)

// node is a part of the JSON Schema, whose order of fields is kept.
type node struct {
	Ref         string    `yaml:"$ref"`
	Description string    `yaml:"description"`
	Properties  yaml.Node `yaml:"properties"`
	Items       *node     `yaml:"items"`
	Enum        []any     `yaml:"enum"`
}

// TestReference holds docs/reference/configuration.md to the JSON Schema, which is made of the
// comments in this package.
func TestReference(t *testing.T) {
	const file = "../../docs/reference/configuration.md"
	var schema struct {
		node `yaml:",inline"`
		Defs map[string]node `yaml:"$defs"`
	}
	if err := yaml.Unmarshal(config.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(`# Configuration: ekskms.yaml

Written from the comments in internal/config by ` + "`make goldens`" + `, and held fresh by a test.

The file is read strictly. An unknown field, a wrong type or a value outside AWS's limits is an error with file, line, field and what is allowed, and all faults of a file are reported at once. YAML anchors, aliases, tags and merge keys are refused. Numbers such as account IDs and Kubernetes versions must be quoted. What lies between fields is checked too: ARNs of another Region or partition than the cluster's, zones of another Region, sizes that contradict each other.

` + "`ekskms schema > ekskms.schema.json`" + ` gives an editor all of this; a file that ` + "`ekskms init`" + ` makes names the schema.

Without a file, this is what is built:

` + "```yaml\n" + string(config.DefaultYAML()) + "```\n" + `
| Field | Meaning, limits and default |
| --- | --- |
`)
	var walk func(n node, path string)
	rows := 0
	walk = func(n node, path string) {
		if name, ok := strings.CutPrefix(n.Ref, "#/$defs/"); ok {
			n = schema.Defs[name]
		}
		for i := 0; i+1 < len(n.Properties.Content); i += 2 {
			var field node
			if err := n.Properties.Content[i+1].Decode(&field); err != nil {
				t.Fatal(err)
			}
			name := path + n.Properties.Content[i].Value
			text := field.Description
			if len(field.Enum) > 0 && len(field.Enum) < 10 {
				values := make([]string, len(field.Enum))
				for i, v := range field.Enum {
					data, err := json.Marshal(v)
					if err != nil {
						t.Fatal(err)
					}
					values[i] = "`" + string(data) + "`"
				}
				text += " One of " + strings.Join(values, ", ") + "."
			}
			fmt.Fprintf(&b, "| `%s` | %s |\n", strings.TrimPrefix(name, "clusters[]."), strings.ReplaceAll(text, "|", `\|`))
			rows++
			switch {
			case name == "defaults": // which has the fields of a cluster
			case field.Items != nil:
				walk(*field.Items, name+"[].")
			default:
				walk(field, name+".")
			}
		}
	}
	walk(schema.node, "")
	b.WriteString("\nPaths without `shared` or `waves` before them are those below a cluster. A cluster needs its `name` alone.\n")
	if rows < 70 {
		t.Errorf("only %d fields", rows)
	}
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.String(), string(got)); diff != "" {
		t.Errorf("run `make goldens` (-want +got):\n%s", diff)
	}
}
