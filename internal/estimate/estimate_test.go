package estimate_test

import (
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/estimate"
)

func about(a, b float64) bool { return math.Abs(a-b) < 0.005 }

// The worked examples of AWS's price pages.
func TestWorkedExamples(t *testing.T) {
	p := estimate.ReadPrices()

	// https://aws.amazon.com/cloudtrail/pricing/: management events go to two trails,
	// 150,000 of them in the month; the second copy is 3 USD.
	if got := p.CopyCharge(150000, 2); !about(got, 3) {
		t.Errorf("CloudTrail's example is %v", got)
	}
	if got := p.CopyCharge(150000, 1); got != 0 {
		t.Errorf("the first copy is %v", got)
	}

	// https://aws.amazon.com/kms/pricing/, the example of Amazon S3, from memory of
	// the page, which could not be looked up again: one key, 10,000 objects encrypted
	// and decrypted 2,000,000 times are 1 + 6.03 USD, the free tier not counted.
	withoutFree := p
	withoutFree.KMS.FreeRequests = 0
	if got := p.KMS.KeyMonth + withoutFree.RequestCharge(2010000); !about(got, 7.03) {
		t.Errorf("KMS's example is %v", got)
	}
	// The free tier is 20,000 requests: 0.06 USD.
	if got := withoutFree.RequestCharge(2010000) - p.RequestCharge(2010000); !about(got, 0.06) {
		t.Errorf("the free tier is worth %v", got)
	}
	if got := p.RequestCharge(20000); got != 0 {
		t.Errorf("the free requests cost %v", got)
	}

	// The same page: each of the first two rotations adds the price of a key.
	for rotations, want := range []float64{0, 1, 2, 2, 2} {
		if got := p.RotationCharge(rotations); got != want {
			t.Errorf("%d rotations add %v, want %v", rotations, got, want)
		}
	}
}

func example(t *testing.T, name string) blueprint.Cluster {
	t.Helper()
	file, err := config.Load(filepath.Join("../../examples", name, "ekskms.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return file.Clusters[0].Blueprint()
}

func lines(r estimate.Report, prefix string) (n int, usd float64) {
	for _, l := range r.Lines {
		if strings.HasPrefix(l.Item, prefix) {
			n, usd = n+1, usd+l.USD
		}
	}
	return n, usd
}

func requests(r estimate.Report, of string) float64 {
	for _, q := range r.Requests {
		if q.Of == of {
			return q.Number
		}
	}
	return -1
}

func TestKeys(t *testing.T) {
	load := estimate.DefaultLoad()
	for _, c := range []struct {
		example string
		age     int
		keys    int
		usd     float64
	}{
		{"01_minimal", 0, 4, 4},
		{"01_minimal", 4, 4, 8},  // after 90 days
		{"01_minimal", 6, 4, 12}, // after 180
		{"01_minimal", 60, 4, 12},
		{"02_existing_vpc_and_key", 12, 1, 3}, // key, trail and topic exist
		{"03_node_group", 4, 4, 7},            // the secrets key rotates every 180 days
	} {
		load.Age = c.age
		r := estimate.Make(example(t, c.example), load, estimate.ReadPrices())
		if n, usd := lines(r, "CMK"); n != c.keys || usd != c.usd {
			t.Errorf("%s after %d months: %d keys for %v, want %d for %v", c.example, c.age, n, usd, c.keys, c.usd)
		}
	}
}

func TestRequests(t *testing.T) {
	load := estimate.DefaultLoad()
	r := estimate.Make(example(t, "01_minimal"), load, estimate.ReadPrices())
	if got := requests(r, "plugin, watching the key"); got != 345600 {
		t.Errorf("the plugin makes %v requests", got)
	}
	// 2 servers with a seed at first and one for each of 24 restarts; each of 4 starts
	// a month reads all of them and makes one.
	if r.Start.Seeds != 50 || requests(r, "API servers, starting") != 4*51 || r.Start.Latency != 510*time.Millisecond {
		t.Errorf("%+v, %v requests", r.Start, requests(r, "API servers, starting"))
	}
	if requests(r, "writes") != 0 {
		t.Error("a write is a request")
	}
	// No more seeds than objects.
	load.Secrets = 7
	if r := estimate.Make(example(t, "01_minimal"), load, estimate.ReadPrices()); r.Start.Seeds != 7 {
		t.Errorf("%d seeds of 7 secrets", r.Start.Seeds)
	}
	if r := estimate.Make(example(t, "03_node_group"), load, estimate.ReadPrices()); requests(r, "plugin, on the nodes") != 3*3*43200 {
		t.Errorf("the nodes make %v", requests(r, "plugin, on the nodes"))
	}
	if r := estimate.Make(example(t, "04_tenants_and_secrets"), load, estimate.ReadPrices()); requests(r, "plugins of the tenants") != 2*2*3*43200 {
		t.Errorf("the tenants' make %v", requests(r, "plugins of the tenants"))
	}
	without := example(t, "01_minimal")
	without.Plugin = nil
	if r := estimate.Make(without, load, estimate.ReadPrices()); requests(r, "plugin, watching the key") != -1 {
		t.Error("a plugin that is not deployed makes requests")
	}
}

func TestTrail(t *testing.T) {
	load := estimate.DefaultLoad()
	load.Events = 1e6
	for _, c := range []struct {
		example          string
		clusters, trails int
		free             bool
	}{
		{"01_minimal", 1, 0, true},
		{"01_minimal", 1, 1, false},
		{"01_minimal", 2, 0, false},
		{"02_existing_vpc_and_key", 3, 1, true},
		{"02_existing_vpc_and_key", 1, 2, false}, // whose second copy has the plugin's requests too
	} {
		load.Clusters, load.Trails = c.clusters, c.trails
		r := estimate.Make(example(t, c.example), load, estimate.ReadPrices())
		if _, usd := lines(r, "CloudTrail"); (usd == 0) != c.free {
			t.Errorf("%+v: %v", c, usd)
		}
	}
	load.Clusters, load.Trails = 1, 1
	r := estimate.Make(example(t, "01_minimal"), load, estimate.ReadPrices())
	if _, usd := lines(r, "CloudTrail"); !about(usd, (1e6+345600+204+8640)/1e5*2) {
		t.Errorf("a second copy is %v", usd)
	}
}

func TestQuotas(t *testing.T) {
	suffices := func(r estimate.Report, name string) bool {
		for _, q := range r.Quotas {
			if strings.HasPrefix(q.Name, name) {
				return q.Suffices
			}
		}
		t.Fatalf("no quota %s", name)
		return false
	}
	for _, c := range []struct {
		change func(*estimate.Load)
		quota  string
	}{
		{func(l *estimate.Load) { l.Clusters = 6 }, "trails"},
		{func(l *estimate.Load) { l.Trails = 5 }, "trails"},
		{func(l *estimate.Load) { l.Clusters = 18 }, "EventBridge"},
		{func(l *estimate.Load) { l.APIServers, l.Latency = 200, time.Millisecond }, "KMS"},
	} {
		load := estimate.DefaultLoad()
		cluster := example(t, "03_node_group") // in eu-central-1, which has the small quota
		if !suffices(estimate.Make(cluster, load, estimate.ReadPrices()), c.quota) {
			t.Errorf("%s does not suffice for the default", c.quota)
		}
		c.change(&load)
		if suffices(estimate.Make(cluster, load, estimate.ReadPrices()), c.quota) {
			t.Errorf("%s suffices for %+v", c.quota, load)
		}
	}
}

// More of anything never costs less.
func TestMonotonic(t *testing.T) {
	for _, name := range []string{"01_minimal", "02_existing_vpc_and_key", "03_node_group", "04_tenants_and_secrets"} {
		base := estimate.Make(example(t, name), estimate.DefaultLoad(), estimate.ReadPrices())
		sum := 0.0
		for _, l := range base.Lines {
			sum += l.USD
			if l.Source == "" || l.Arithmetic == "" || l.USD < 0 {
				t.Errorf("%s: %+v", name, l)
			}
		}
		if !about(sum, base.USD) {
			t.Errorf("%s: the lines are %v, in all %v", name, sum, base.USD)
		}
		for i, more := range []func(*estimate.Load){
			func(l *estimate.Load) { l.Clusters *= 2 }, func(l *estimate.Load) { l.APIServers *= 2 }, func(l *estimate.Load) { l.Secrets *= 2 },
			func(l *estimate.Load) { l.Writes *= 2 }, func(l *estimate.Load) { l.Restarts *= 2 }, func(l *estimate.Load) { l.Age *= 2 },
			func(l *estimate.Load) { l.Nodes *= 2 }, func(l *estimate.Load) { l.Trails++ }, func(l *estimate.Load) { l.Events *= 2 },
			func(l *estimate.Load) { l.LogGB *= 2 }, func(l *estimate.Load) { l.Alarms *= 1000 },
		} {
			load := estimate.DefaultLoad()
			more(&load)
			if r := estimate.Make(example(t, name), load, estimate.ReadPrices()); r.USD < base.USD {
				t.Errorf("%s, change %d: %v, less than %v", name, i, r.USD, base.USD)
			}
		}
	}
}

// The answer in the docs has the numbers of the formula.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/explanation/questions.md")
	if err != nil {
		t.Fatal(err)
	}
	p := estimate.ReadPrices()
	load := estimate.DefaultLoad()
	r := estimate.Make(example(t, "01_minimal"), load, p)
	if watch := requests(r, "plugin, watching the key"); math.Round(watch/1000) != 346 || !about(p.RequestCharge(watch), 0.98) || !about(watch/1e5*2, 6.91) {
		t.Errorf("the plugin makes %v requests for %v", watch, p.RequestCharge(watch))
	}
	for _, want := range []string{"4 USD a month at first, 12 after two rotations of each", "about 346,000 KMS requests in 30 days, 0.98 USD", "at 2 USD for 100,000", "with 50 seeds and 10 ms a call, half a second"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("questions.md does not say %q", want)
		}
	}
}

// The price file says when it is from and where each price is from.
func TestPrices(t *testing.T) {
	p := estimate.ReadPrices()
	if !regexp.MustCompile(`^20[0-9]{2}-[0-9]{2}-[0-9]{2}$`).MatchString(p.Date) {
		t.Errorf("the date is %q", p.Date)
	}
	for _, source := range []string{p.KMS.Source, p.CloudTrail.Source, p.CloudWatchLogs.Source, p.S3.Source, p.SNS.Source, p.Quotas.KMSSource, p.Quotas.TrailSource, p.Quotas.RuleSource} {
		if !strings.HasPrefix(source, "https://") {
			t.Errorf("a source is %q", source)
		}
	}
}
