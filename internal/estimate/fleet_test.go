package estimate_test

import (
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/estimate"
)

// account makes the sites of an account of a file.
func account(t *testing.T, file *config.File, number string) (sites []estimate.Site, alone []blueprint.Cluster) {
	t.Helper()
	for _, e := range file.Environments() {
		if e.Account != number {
			continue
		}
		site := estimate.Site{Shared: e.Shared(file.Shared)}
		for _, c := range e.Clusters {
			site.Clusters = append(site.Clusters, c.Blueprint())
			c.Audit.RetentionDays = file.Shared.Audit.RetentionDays
			c.Audit.Emails = file.Shared.Audit.Emails
			alone = append(alone, c.Blueprint())
		}
		sites = append(sites, site)
	}
	return sites, alone
}

// TestAccount: what clusters share is counted once, and a fleet costs less than its
// clusters alone.
func TestAccount(t *testing.T) {
	file, err := config.Load("../../examples/06_fleet/fleet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	load := estimate.DefaultLoad()
	sites, alone := account(t, file, "333344445555")
	r := estimate.MakeAccount(sites, load, estimate.ReadPrices())
	sum := 0.0
	for _, c := range alone {
		sum += estimate.Make(c, load, estimate.ReadPrices()).USD
	}
	if r.USD >= sum || r.Load.Clusters != 5 {
		t.Errorf("%d clusters cost %v, alone %v", r.Load.Clusters, r.USD, sum)
	}
	// A key of the secrets and one of the logs for each of 5 clusters, one of the alarms for each of 3 Regions, one of the
	// trail; each has rotated twice or more in 12 months.
	if _, usd := lines(r, "CMK"); usd != 3*(5+5+3+1) {
		t.Errorf("the keys cost %v", usd)
	}
	if got := requests(r, "plugin, watching the key"); got != 5*345600 {
		t.Errorf("the plugins make %v requests", got)
	}
	if _, usd := lines(r, "CloudTrail"); usd != 0 {
		t.Errorf("the first copy costs %v", usd)
	}
	for _, want := range []string{"trails in the Region", "EventBridge rules on the default bus in us-east-1", "KMS requests a second, all API servers starting at once in ap-southeast-2"} {
		found := false
		for _, q := range r.Quotas {
			found = found || q.Name == want && q.Suffices
		}
		if !found {
			t.Errorf("no quota %q that suffices: %+v", want, r.Quotas)
		}
	}

	// The same clusters cost the same, whichever way they are written.
	one, err := config.Parse(config.Source{Name: "f.yaml", Data: []byte("clusters: [{name: a, account: \"111122223333\", region: us-east-1}]\nshared: {}\n")})
	if err != nil {
		t.Fatal(err)
	}
	sites, alone = account(t, one, "111122223333")
	if shared, own := estimate.MakeAccount(sites, load, estimate.ReadPrices()), estimate.Make(alone[0], load, estimate.ReadPrices()); !about(shared.USD, own.USD) {
		t.Errorf("a cluster with shared costs %v, without %v", shared.USD, own.USD)
	}
}

// TestShapes: clusters that cost otherwise are told apart, and none is left out.
func TestShapes(t *testing.T) {
	text := "clusters:\n- {name: a}\n- {name: b, key: {rotationPeriodDays: 365}}\n- {name: c}\n- {name: d, plugin: {enabled: false}}\n"
	file, err := config.Parse(config.Source{Name: "f.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	sites, _ := account(t, file, "")
	r := estimate.MakeAccount(sites, estimate.DefaultLoad(), estimate.ReadPrices())
	var items []string
	for _, l := range r.Lines {
		if strings.HasPrefix(l.Item, "CMK") {
			items = append(items, l.Item+": "+strings.SplitN(l.Arithmetic, " ×", 2)[0])
		}
	}
	want := "CMK of the secrets of a, c: 2 clusters\nCMK of the secrets of b: 1 cluster\nCMK of the secrets of d: 1 cluster\n" +
		"CMK of the audit: 1 Region\nCMK of the alarms: 1 Region\nCMK of the logs of a, c: 2 clusters\nCMK of the logs of b: 1 cluster\nCMK of the logs of d: 1 cluster"
	if got := strings.Join(items, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
