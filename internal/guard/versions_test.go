package guard_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/estate/estatetest"
	"github.com/ekskms/ekskms/internal/finding"
)

// judge wants these findings in the report, and these words in a finding or in a note about the
// versions. No words: nothing is said of them.
func judge(t *testing.T, report *finding.Report, want []string, says string, about func(note string) bool) {
	t.Helper()
	if ids := found(report); !slices.Equal(ids, want) {
		t.Errorf("found %q, want %q", ids, want)
	}
	var said []string
	for _, f := range report.Findings {
		said = append(said, f.Message)
	}
	for _, n := range report.Notes {
		if about(n.Message) {
			said = append(said, n.Message)
		}
	}
	if says == "" && len(said) > 0 || !strings.Contains(strings.Join(said, "\n"), says) {
		t.Errorf("said %q, want %q", said, says)
	}
}

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
			judge(t, compare(t, before, after), tt.want, tt.says, func(note string) bool {
				return strings.Contains(note, "ersion") && !strings.Contains(note, "add-ons keep")
			})
		})
	}
}

// TestAddOns compares versions of add-ons with that of the control plane, and with those
// before.
func TestAddOns(t *testing.T) {
	addOn := func(name string, version any) estatetest.Change {
		settings := map[string]any{"ClusterName": map[string]any{"Ref": cluster}, "AddonName": name, "AddonVersion": version}
		if version == nil {
			delete(settings, "AddonVersion")
		}
		return estatetest.Add("AddOn", "AWS::EKS::Addon", settings)
	}
	cni := func(version any) estatetest.Change { return addOn("vpc-cni", version) }
	plane := func(version string, and estatetest.Change) estatetest.Change {
		return estatetest.All(estatetest.Property(cluster, "Version", version), and)
	}
	nothing := estatetest.All()
	const refused = "add-on-version-refused"
	for _, tt := range []struct {
		name          string
		before, after estatetest.Change
		want          []string
		says          string
	}{
		{"nothing", cni("v1.19.0-eksbuild.1"), cni("v1.19.0-eksbuild.1"), nil, ""},
		{"new", nothing, cni("v1.19.0-eksbuild.1"), nil, ""},
		{"a step", cni("v1.19.0-eksbuild.1"), cni("v1.20.3-eksbuild.2"), nil, ""},
		{"a step back", cni("v1.20.3-eksbuild.1"), cni("v1.19.0-eksbuild.2"), nil, ""},
		{"two steps", cni("v1.19.0-eksbuild.1"), cni("v1.21.0-eksbuild.1"), one(refused), "from v1.19.0-eksbuild.1 to v1.21.0-eksbuild.1, and EKS goes one minor version"},
		{"two steps back", cni("v1.21.0-eksbuild.1"), cni("v1.19.0-eksbuild.1"), one(refused), "one minor version at a time"},
		{"from the default", cni(nil), cni("v1.21.0-eksbuild.1"), nil, "whether it skips a minor version was not judged"},
		{"to a parameter", cni("v1.19.0-eksbuild.1"), cni(map[string]any{"Ref": "AddOnVersion"}), nil, "whether it skips a minor version was not judged"},
		{"another add-on", addOn("coredns", "v1.9.0-eksbuild.1"), addOn("coredns", "v1.13.0-eksbuild.1"), nil, ""},
		{"kept in an upgrade", plane("1.35", addOn("coredns", "v1.9.0-eksbuild.1")), plane("1.36", addOn("coredns", "v1.9.0-eksbuild.1")), nil, "(coredns v1.9.0-eksbuild.1): whether EKS has these for it"},
		{"no version in an upgrade", plane("1.35", addOn("coredns", nil)), plane("1.36", addOn("coredns", nil)), nil, "(coredns): whether EKS has these for it"},
		{"changed in an upgrade", plane("1.35", addOn("coredns", "v1.9.0-eksbuild.1")), plane("1.36", addOn("coredns", "v1.13.0-eksbuild.1")), nil, ""},
		{"kube-proxy goes along", plane("1.35", addOn("kube-proxy", "v1.35.0-eksbuild.2")), plane("1.36", addOn("kube-proxy", "v1.36.0-eksbuild.2")), nil, ""},
		{"kube-proxy stays", plane("1.35", addOn("kube-proxy", "v1.33.0-eksbuild.2")), plane("1.36", addOn("kube-proxy", "v1.33.0-eksbuild.2")), nil, ""},
		{"kube-proxy stays too long", plane("1.35", addOn("kube-proxy", "v1.32.0-eksbuild.2")), plane("1.36", addOn("kube-proxy", "v1.32.0-eksbuild.2")), one(refused), "v1.32.0-eksbuild.2 under a control plane of 1.36"},
		{"kube-proxy goes first", plane("1.35", addOn("kube-proxy", "v1.35.0-eksbuild.2")), plane("1.35", addOn("kube-proxy", "v1.36.0-eksbuild.2")), one(refused), "never newer"},
		{"kube-proxy that was too new", plane("1.35", addOn("kube-proxy", "v1.36.0-eksbuild.2")), plane("1.35", addOn("kube-proxy", "v1.36.0-eksbuild.2")), nil, ""},
		{"of another cluster", nothing, estatetest.All(addOn("kube-proxy", "v1.36.0-eksbuild.2"), estatetest.Property("AddOn", "ClusterName", "elsewhere")), nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, after := estatetest.Golden(t, "01_minimal"), estatetest.Golden(t, "01_minimal")
			for _, template := range []estatetest.Template{before, after} {
				template["Parameters"].(map[string]any)["AddOnVersion"] = map[string]any{"Type": "String"}
			}
			tt.before(before)
			tt.after(after)
			judge(t, compare(t, before, after), tt.want, tt.says, func(note string) bool {
				return strings.Contains(note, "vpc-cni") || strings.Contains(note, "add-ons")
			})
		})
	}
}

// TestSubnets: that a cluster can't go to another VPC is said where all its subnets change.
func TestSubnets(t *testing.T) {
	subnets := func(all ...any) estatetest.Change {
		return estatetest.Property(cluster, "ResourcesVpcConfig.SubnetIds", all)
	}
	shared := map[string]any{"Fn::ImportValue": "ekskms-network-SubnetId1"}
	for _, tt := range []struct {
		name          string
		before, after estatetest.Change
		want          bool
	}{
		{"the same", subnets("subnet-a", "subnet-b"), subnets("subnet-a", "subnet-b"), false},
		{"another order", subnets("subnet-a", "subnet-b"), subnets("subnet-b", "subnet-a"), false},
		{"one more", subnets("subnet-a", "subnet-b"), subnets("subnet-c", "subnet-a", "subnet-b"), false},
		{"others", subnets("subnet-a", "subnet-b"), subnets("subnet-c", "subnet-d"), true},
		{"a shared VPC", subnets(map[string]any{"Ref": "VpcPrivateSubnet1Subnet536B997A"}), subnets(shared), true},
		{"imports that stay", subnets(shared), subnets(shared), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, after := estatetest.Golden(t, "01_minimal"), estatetest.Golden(t, "01_minimal")
			tt.before(before)
			tt.after(after)
			said := slices.ContainsFunc(compare(t, before, after).Notes, func(n finding.Note) bool { return strings.Contains(n.Message, "other subnets altogether") })
			if said != tt.want {
				t.Errorf("said: %t", said)
			}
		})
	}
}
