package blueprint_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/internal/place"
)

func TestZones(t *testing.T) {
	for want, n := range map[int]blueprint.Network{2: {}, 3: {AvailabilityZones: []string{"a", "b", "c"}}} {
		if got := n.Zones(); got != want {
			t.Errorf("got %d zones, want %d", got, want)
		}
	}
}

func TestArchitecture(t *testing.T) {
	for typ, want := range map[string]string{
		"m7i.large": "amd64", "g5.xlarge": "amd64", "t3.medium": "amd64", "c7a.large": "amd64", "u-6tb1.56xlarge": "amd64", "i4i.large": "amd64",
		"m7g.large": "arm64", "g5g.xlarge": "arm64", "c7gn.large": "arm64", "im4gn.large": "arm64", "is4gen.large": "arm64", "x2gd.large": "arm64", "a1.large": "arm64",
	} {
		if got := (blueprint.NodeGroup{InstanceTypes: []string{typ}}).Architecture(); got != want {
			t.Errorf("%s: got %s, want %s", typ, got, want)
		}
	}
}

// A principal has one entry, with the groups of all that it reads for, and what was
// given is left as it is.
func TestAllAccessEntries(t *testing.T) {
	reader := func(principals, groups []string) blueprint.Reader {
		return blueprint.Reader{PrincipalARNs: principals, SecretReader: manifest.SecretReader{Groups: groups}}
	}
	c := blueprint.Cluster{
		AccessEntries: []blueprint.AccessEntry{{PrincipalARN: "admin", Policy: "A"}},
		Secrets: blueprint.Secrets{Readers: []blueprint.Reader{
			reader([]string{"a", "b"}, []string{"x", "y"}), reader([]string{"b"}, []string{"y", "z"}),
		}},
	}
	want := []blueprint.AccessEntry{
		{PrincipalARN: "admin", Policy: "A"},
		{PrincipalARN: "a", Groups: []string{"x", "y"}},
		{PrincipalARN: "b", Groups: []string{"x", "y", "z"}},
	}
	for range 2 {
		if diff := cmp.Diff(want, c.AllAccessEntries()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if len(c.AccessEntries) != 1 || len(c.Secrets.Readers[0].Groups) != 2 {
		t.Error("what was given is changed")
	}
}

func sids(c blueprint.Cluster) (all []string) {
	for _, s := range c.KeyStatements() {
		all = append(all, s.Sid)
	}
	return all
}

// What a policy has no role for, it leaves out; the role of the cluster is then named by
// its path.
func TestKeyStatements(t *testing.T) {
	c := config.Default().Clusters[0].Blueprint()
	c.At = place.In("111122223333", "eu-central-1")
	existing := c
	existing.Key.ARN = "arn:aws:kms:eu-central-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	if diff := cmp.Diff([]string{"AccountAdministration", "ClusterRole"}, sids(existing)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	statements := existing.KeyStatements()
	if got := statements[0].Principal.AWS[0]; got != "arn:aws:iam::444455556666:root" {
		t.Errorf("the key's owner is %s", got)
	}
	if got := statements[1].Condition["ArnLike"]["aws:PrincipalArn"]; !slices.Equal(got, []string{"arn:aws:iam::111122223333:role/ekskms/ekskms/*"}) {
		t.Errorf("the cluster's role is %s", got)
	}
	c.Creators = []string{"c"}
	c.Refs.ClusterRole, c.Refs.PluginRole = place.Literal("r"), place.Literal("p")
	want := []string{"AccountAdministration", "ClusterCreatorsDescribe", "ClusterCreatorsGrant", "ClusterRole", "PluginDescribe", "PluginUse"}
	if diff := cmp.Diff(want, sids(c)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The keys of the trail and the alarms encrypt what is made, and nothing else.
func TestAuditKeys(t *testing.T) {
	c := blueprint.Cluster{Name: "demo", At: place.In("111122223333", "eu-central-1")}
	for _, row := range []struct {
		trail, topic  string
		copied        int
		audit, alarms []string
	}{
		{"", "", 0, []string{"AccountAdministration", "TrailDescribe", "TrailEncryptsLogs"}, []string{"AccountAdministration", "AlarmsThroughTopic"}},
		{"", "topic", 365, []string{"AccountAdministration", "TrailDescribe", "TrailEncryptsLogs", "TrailLogGroup"}, nil},
		{"trail/x", "", 0, nil, []string{"AccountAdministration", "AlarmsThroughTopic"}},
		{"trail/x", "topic", 0, nil, nil},
	} {
		c.Audit = blueprint.Audit{TrailARN: row.trail, TopicARN: row.topic, CloudWatchLogsRetentionDays: row.copied}
		for _, key := range []struct {
			of   func() (blueprint.KeySpec, bool)
			want []string
		}{{c.AuditKey, row.audit}, {c.TopicKey, row.alarms}} {
			spec, needed := key.of()
			var got []string
			for _, s := range spec.Statements {
				got = append(got, s.Sid)
			}
			if needed != (key.want != nil) || !slices.Equal(got, key.want) {
				t.Errorf("%+v: needed is %v, got %q", row, needed, got)
			}
		}
	}
}

// What the plugin asks of KMS to watch the key depends on the mode.
func TestKMSCalls(t *testing.T) {
	c := blueprint.Cluster{}
	if watching, nodes, tenants := c.KMSCalls(3, 2); watching+nodes+tenants != 0 {
		t.Errorf("without a plugin: %d, %d, %d calls", watching, nodes, tenants)
	}
	c.Plugin = &blueprint.Plugin{Mode: manifest.DaemonSet, Tenants: make([]blueprint.Tenant, 5)}
	if watching, nodes, tenants := c.KMSCalls(3, 2); watching != 8 || nodes != 9 || tenants != 30 {
		t.Errorf("%d, %d, %d calls", watching, nodes, tenants)
	}
}
