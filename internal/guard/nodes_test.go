package guard_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/estate/estatetest"
)

// TestNodes compares versions of node groups with that of the control plane.
func TestNodes(t *testing.T) {
	const general, batch = "EncryptedClusterNodegroupNodesgeneralA3678841", "EncryptedClusterNodegroupNodesbatch283676A4"
	version := func(id string, v any) estatetest.Change { return estatetest.Property(id, "Version", v) }
	all := func(v any) estatetest.Change {
		return estatetest.All(version(cluster, v), version(general, v), version(batch, v))
	}
	for _, tt := range []struct {
		name          string
		before, after estatetest.Change
		want          []string
		// says is part of the only finding, or of the only note.
		says string
	}{
		{"nothing", all("1.35"), all("1.35"), nil, ""},
		{"all together", all("1.35"), all("1.36"), nil, ""},
		{"nodes wait", all("1.35"), version(cluster, "1.36"), nil, ""},
		{"nodes go first", all("1.35"), version(batch, "1.36"), one("nodes-version-refused"), "version 1.36, newer than the control plane's 1.35"},
		{"nodes stay behind", estatetest.All(all("1.33"), version(cluster, "1.35"), version(general, "1.35"), version(batch, "1.32")), estatetest.All(all("1.36"), version(batch, "1.32")), one("nodes-version-refused"), "4 minor versions behind the control plane's 1.36"},
		{"three versions behind", estatetest.All(all("1.35"), version(batch, "1.33")), estatetest.All(all("1.36"), version(batch, "1.33")), nil, ""},
		{"nodes that were too new", version(batch, "1.36"), version(batch, "1.36"), nil, ""},
		{"back", estatetest.All(all("1.35"), version(cluster, "1.36")), all("1.35"), nil, "upgraded in the last 7 days"},
		{"back with the nodes", all("1.36"), all("1.35"), one("nodes-version-refused"), "version 1.36 when the control plane goes back to 1.35"},
		{"back without the nodes", all("1.36"), estatetest.All(all("1.36"), version(cluster, "1.35")), one("nodes-version-refused"), "they go back first"},
		{"back, and nodes that go", all("1.36"), estatetest.All(all("1.35"), estatetest.Drop(batch, general)), one("nodes-version-refused"), "they go back first"},
		{"nodes go back", all("1.36"), estatetest.All(all("1.35"), version(cluster, "1.36")), nil, ""},
		{"no version, and an upgrade", version(batch, nil), estatetest.All(all("1.36"), version(batch, nil)), nil, "keeps the one it has"},
		{"no version", version(batch, nil), version(batch, nil), nil, ""},
		{"a version that is not known", all("1.35"), version(batch, map[string]any{"Ref": "NodeVersion"}), nil, "whether they fit was not judged"},
		{"of another cluster", all("1.35"), estatetest.All(version(batch, "1.36"), estatetest.Property(batch, "ClusterName", "elsewhere")), nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, after := estatetest.Golden(t, "08_node_groups"), estatetest.Golden(t, "08_node_groups")
			for _, template := range []estatetest.Template{before, after} {
				template["Parameters"].(map[string]any)["NodeVersion"] = map[string]any{"Type": "String"}
			}
			tt.before(before)
			tt.after(after)
			report := compare(t, before, after)
			if ids := found(report); !slices.Equal(ids, tt.want) {
				t.Errorf("found %q, want %q", ids, tt.want)
			}
			var said []string
			for _, f := range report.Findings {
				said = append(said, f.Message)
			}
			for _, n := range report.Notes {
				if strings.Contains(n.Message, "ersion") {
					said = append(said, n.Message)
				}
			}
			switch {
			case tt.says == "" && len(said) > 0:
				t.Errorf("said %q", said)
			case tt.says != "" && !strings.Contains(strings.Join(said, "\n"), tt.says):
				t.Errorf("said %q, want %q", said, tt.says)
			}
		})
	}
}
