package check_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/estate"
)

// bigTemplate is a template of at least size bytes: the default one again and
// again, each time under other logical IDs and names.
func bigTemplate(b *testing.B, size int) []byte {
	b.Helper()
	data, err := os.ReadFile("../../test/snapshot/testdata/default.golden.json")
	if err != nil {
		b.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		b.Fatal(err)
	}
	var one struct{ Resources map[string]json.RawMessage }
	if err := json.Unmarshal(compact.Bytes(), &one); err != nil {
		b.Fatal(err)
	}
	all := map[string]json.RawMessage{}
	for n, total := 0, 0; total < size; n++ {
		var renames []string
		for id := range one.Resources {
			renames = append(renames, `"`+id+`"`, fmt.Sprintf(`"%sN%d"`, id, n))
		}
		rename := strings.NewReplacer(append(renames, "ekskms", fmt.Sprintf("ekskms%d", n))...)
		for id, resource := range one.Resources {
			text := rename.Replace(string(resource))
			all[fmt.Sprintf("%sN%d", id, n)] = json.RawMessage(text)
			total += len(text)
		}
	}
	out, err := json.Marshal(map[string]any{"Resources": all})
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// BenchmarkCheck5MB reads and checks a template of 5 MB. The ratio to
// json.Unmarshal of the same bytes is measured beside it, since it depends less
// on the machine.
func BenchmarkCheck5MB(b *testing.B) {
	data := bigTemplate(b, 5<<20)
	measure(b, 20, func() (*cfn.Assembly, error) { return cfn.Parse("big.json", data, environment) }, data)
}

// BenchmarkCheck250 is the same for an assembly of 250 stacks, with a cluster each.
func BenchmarkCheck250(b *testing.B) {
	const stacks = 250
	one, err := os.ReadFile("../../test/snapshot/testdata/default.golden.json")
	if err != nil {
		b.Fatal(err)
	}
	dir, artifacts := b.TempDir(), map[string]any{}
	var all [][]byte
	for n := range stacks {
		name := fmt.Sprintf("stack%d", n)
		data := bytes.ReplaceAll(one, []byte("ekskms"), fmt.Appendf(nil, "ekskms%d", n))
		if err := os.WriteFile(filepath.Join(dir, name+".json"), data, 0o600); err != nil {
			b.Fatal(err)
		}
		artifacts[name] = map[string]any{
			"type": "aws:cloudformation:stack", "environment": "aws://111122223333/eu-central-1", "properties": map[string]any{"templateFile": name + ".json"},
		}
		all = append(all, data)
	}
	manifest, err := json.Marshal(map[string]any{"artifacts": artifacts})
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), manifest, 0o600); err != nil {
		b.Fatal(err)
	}
	measure(b, stacks, func() (*cfn.Assembly, error) { return cfn.Load(dir, cfn.Environment{}) }, all...)
}

func measure(b *testing.B, clusters int, read func() (*cfn.Assembly, error), texts ...[]byte) {
	var size int
	for _, data := range texts {
		size += len(data)
	}
	b.SetBytes(int64(size))
	var checking, unmarshalling time.Duration
	for b.Loop() {
		start := time.Now()
		assembly, err := read()
		if err != nil {
			b.Fatal(err)
		}
		report, err := check.Run(estate.FromTemplates(assembly), check.Options{})
		if err != nil {
			b.Fatal(err)
		}
		checking += time.Since(start)
		if len(report.Checked.Clusters) < clusters {
			b.Fatalf("looked at %d clusters", len(report.Checked.Clusters))
		}
		start = time.Now()
		for _, data := range texts {
			var plain any
			if err := json.Unmarshal(data, &plain); err != nil {
				b.Fatal(err)
			}
		}
		unmarshalling += time.Since(start)
	}
	b.ReportMetric(checking.Seconds()/float64(b.N), "s/check")
	b.ReportMetric(float64(checking)/float64(unmarshalling), "x-unmarshal")
}
