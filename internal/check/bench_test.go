package check_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
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
	b.SetBytes(int64(len(data)))
	var checking, unmarshalling time.Duration
	for b.Loop() {
		start := time.Now()
		assembly, err := cfn.Parse("big.json", data, environment)
		if err != nil {
			b.Fatal(err)
		}
		report, err := check.Run(estate.FromTemplates(assembly), check.Options{})
		if err != nil {
			b.Fatal(err)
		}
		checking += time.Since(start)
		if len(report.Checked.Clusters) < 20 {
			b.Fatalf("looked at %d clusters", len(report.Checked.Clusters))
		}
		start = time.Now()
		var plain any
		if err := json.Unmarshal(data, &plain); err != nil {
			b.Fatal(err)
		}
		unmarshalling += time.Since(start)
	}
	b.ReportMetric(checking.Seconds()/float64(b.N), "s/check")
	b.ReportMetric(float64(checking)/float64(unmarshalling), "x-unmarshal")
}
