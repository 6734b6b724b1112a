package monitoring

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/template"
)

const rulesFile = root + "/docs/reference/kms-plugin-alerts.yaml"

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parseRules(content []byte) (rules []rulefmt.Rule, errs []error) {
	groups, errs := rulefmt.Parse(content, false, model.UTF8Validation)
	if len(errs) > 0 {
		return nil, errs
	}
	for _, g := range groups.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules, nil
}

func alertRules(t testing.TB) []rulefmt.Rule {
	t.Helper()
	rules, errs := parseRules(readFile(t, rulesFile))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return rules
}

func alertNames(rules []rulefmt.Rule) (names []string) {
	for _, r := range rules {
		names = append(names, r.Alert)
	}
	return names
}

// firing is one alert that fired.
type firing struct {
	alert  string
	labels labels.Labels
	value  float64
	first  time.Time // when it fired first
	last   time.Time // when it fired last
}

// evaluate does what Prometheus does with a rule: it evaluates the expression at
// every interval, and fires what held for long enough. (Its own code for that,
// package rules, would bring half of all cloud SDKs into this module.)
func (t *timeline) evaluate(ctx context.Context, r rulefmt.Rule, from time.Time) (fired []firing, err error) {
	matrix, err := t.query(ctx, r.Expr, from)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Alert, err)
	}
	// An alert has no name of a metric: two series may be one alert.
	points := map[string]map[int64]float64{}
	sets := map[string]labels.Labels{}
	for _, s := range matrix {
		l := labels.NewBuilder(s.Metric).Del(model.MetricNameLabel).Labels()
		key := l.String()
		if points[key] == nil {
			points[key], sets[key] = map[int64]float64{}, l
		}
		for _, p := range s.Floats {
			if _, twice := points[key][p.T]; twice {
				return nil, fmt.Errorf("%s: two alerts with the labels %s at once", r.Alert, l)
			}
			points[key][p.T] = p.F
		}
	}
	for _, key := range slices.Sorted(maps.Keys(points)) {
		var active time.Time
		f := firing{alert: r.Alert, labels: sets[key]}
		for at := from; !at.After(t.end); at = at.Add(interval) {
			v, ok := points[key][timestamp.FromTime(at)]
			switch {
			case !ok:
				active = time.Time{}
				continue
			case active.IsZero():
				active = at
			}
			if at.Sub(active) < time.Duration(r.For) {
				continue
			}
			if f.first.IsZero() {
				f.first, f.value = at, v
			}
			f.last = at
		}
		if !f.first.IsZero() {
			fired = append(fired, f)
		}
	}
	return fired, nil
}

// alerts evaluates all rules of the file.
func (t *timeline) alerts(tb testing.TB, from time.Time) (fired []firing) {
	tb.Helper()
	for _, r := range alertRules(tb) {
		f, err := t.evaluate(context.Background(), r, from)
		if err != nil {
			tb.Fatal(err)
		}
		fired = append(fired, f...)
	}
	return fired
}

// names of the alerts that fired, each one once.
func names(fired []firing) []string {
	all := []string{}
	for _, f := range fired {
		all = append(all, f.alert)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// everFired collects what fired in any test, for the last one of them.
var everFired = map[string]bool{}

// finished says which of them have run.
var finished = map[string]bool{}

func wantAlerts(t *testing.T, tl *timeline, from time.Time, want ...string) []firing {
	t.Helper()
	fired := tl.alerts(t, from)
	got := names(fired)
	want = append([]string{}, want...)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("fired %v, want %v", got, want)
		for _, f := range fired {
			t.Logf("%s %s = %v at %s", f.alert, f.labels, f.value, f.first.Sub(tl.begin))
		}
	}
	for _, name := range got {
		everFired[name] = true
	}
	checkWords(t, fired)
	return fired
}

var labelReference = regexp.MustCompile(`\$labels\.([a-z_]+)`)

// checkWords expands what an alert says, and wants no holes in it.
func checkWords(t *testing.T, fired []firing) {
	t.Helper()
	rules := alertRules(t)
	for _, f := range fired {
		r := rules[slices.IndexFunc(rules, func(r rulefmt.Rule) bool { return r.Alert == f.alert })]
		for name, text := range r.Annotations {
			for _, m := range labelReference.FindAllStringSubmatch(text, -1) {
				if f.labels.Get(m[1]) == "" {
					t.Errorf("%s: %s names the label %s, which %s does not have", f.alert, name, m[1], f.labels)
				}
			}
			data := template.AlertTemplateData(f.labels.Map(), nil, "", promql.Sample{Metric: f.labels, F: f.value})
			said, err := template.NewTemplateExpander(context.Background(),
				"{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}"+text,
				"__alert_"+f.alert, data, model.Time(timestamp.FromTime(f.first)), nil, &url.URL{}, nil).Expand()
			if err != nil || strings.Contains(said, "no value") || strings.Contains(said, "NaN") || strings.Contains(said, "{{") {
				t.Errorf("%s: %s becomes %q, %v", f.alert, name, said, err)
			}
		}
	}
}

// Of a state only that counts which lasts for longer than any rule waits.
const (
	intervalsBefore = 40
	intervalsIn     = 70
	overAnHour      = 140 // for what looks back an hour
)

// timeline puts the scenario on it: all is well for a while, then comes the fault.
func (rec *recording) timeline(extra ...string) (tl *timeline, fault time.Time) {
	tl = newTimeline(extra...)
	steady := func(s *scrape) *scrape {
		if rec.slow {
			return s
		}
		return s.quick()
	}
	for i := range rec.in {
		tr := tl.track(fmt.Sprintf("10.0.0.%d:8080", i+1))
		if len(rec.before) > 0 {
			tr.stretch(rec.before[i][0].quick(), rec.before[i][1].quick(), intervalsBefore, false)
		}
		fault = tr.now
		tr.stretch(steady(rec.in[i][0]), steady(rec.in[i][1]), intervalsIn, rec.once)
	}
	return tl, fault
}

func TestAlertsOfEachState(t *testing.T) {
	defer func() { finished["states"] = true }()
	for name, rec := range recordings(t) {
		t.Run(name, func(t *testing.T) {
			for scraper, extra := range map[string][]string{"Kubernetes": kubernetes, "a static list": nil} {
				tl, fault := rec.timeline(extra...)
				for _, f := range wantAlerts(t, tl, tl.begin, rec.want...) {
					switch ended := f.last.Before(tl.end); {
					case f.first.Before(fault):
						t.Errorf("%s fired before the fault (%s)", f.alert, scraper)
					case rec.once && f.alert != "KMSPluginKeyDegraded" && !ended:
						t.Errorf("%s still fires long after it was over", f.alert)
					case !rec.once && ended:
						t.Errorf("%s ended while the fault went on", f.alert)
					}
					if f.alert == "KMSPluginKeyPendingDeletion" && !f.first.Equal(fault) {
						t.Errorf("%s took %s", f.alert, f.first.Sub(fault))
					}
				}
			}
		})
	}
	t.Run("and then all is well again", func(t *testing.T) {
		rec := recordings(t)["disabled"]
		tl := newTimeline(kubernetes...)
		tr := tl.track("10.0.0.1:8080")
		for range 2 {
			tr.stretch(rec.in[0][0].quick(), rec.in[0][1].quick(), intervalsIn, false)
			tr.restart().stretch(rec.before[0][0].quick(), rec.before[0][1].quick(), 40, false)
			wantAlerts(t, tl, tr.now.Add(-20*interval)) // what looks back has forgotten by then
			tr.restart()
		}
	})
}

// What the binary can't be made to show in a test is written into its scrapes.
func TestAlertsOfEditedScrapes(t *testing.T) {
	defer func() { finished["edited"] = true }()
	rec := recordings(t)["healthy"]
	a, b := rec.in[0][0].quick(), rec.in[0][1].quick()
	withCredentials := recordings(t)["credentials not renewed"].in[0]
	fixed := func(v float64) func(sample) (float64, bool) {
		return func(sample) (float64, bool) { return v, true }
	}
	// ago is a time of the scrape that does not move.
	ago := func(pair [2]*scrape, name string, age time.Duration) [2]*scrape {
		v := float64(pair[0].at.Add(-age).Unix())
		return [2]*scrape{pair[0].edited(name, fixed(v)), pair[1].edited(name, fixed(v))}
	}
	gauge := func(name string, v float64) [2]*scrape {
		return [2]*scrape{a.edited(name, fixed(v)), b.edited(name, fixed(v))}
	}
	polled := func(seconds float64) [2]*scrape { return gauge(prefix+"poll_interval_seconds", seconds) }
	const (
		dropped = prefix + "log_lines_dropped_total"
		skew    = prefix + "clock_skew_seconds"
		age     = prefix + "key_id_age_seconds"
		good    = prefix + "key_last_good_probe_timestamp_seconds"
		expires = prefix + "credentials_expiration_timestamp_seconds"
		day     = 86400
	)
	// again is what was over at once, in every interval.
	again := func(name string) [2]*scrape {
		pair := recordings(t)[name].in[0]
		for i := range pair { // connections depend on how many calls came together
			pair[i] = pair[i].edited(prefix+"kms_connections_opened_total", fixed(1))
		}
		return pair
	}
	for name, c := range map[string]struct {
		pair [2]*scrape
		n    int
		want []string
	}{
		"a foreign key_id again and again":     {again("foreign key_id"), intervalsIn, []string{"KMSPluginForeignKeyID"}},
		"foreign annotations again and again":  {again("foreign annotations"), intervalsIn, []string{"KMSPluginForeignKeyID"}},
		"tampered ciphertexts again and again": {again("tampered ciphertext"), intervalsIn, []string{"KMSPluginInvalidCiphertext"}},
		"too many calls again and again":       {again("too many calls"), intervalsIn, []string{"KMSPluginOverloaded"}},

		"clock a minute ahead":                  {gauge(skew, 60), intervalsIn, nil},
		"clock over a minute ahead":             {gauge(skew, 61), intervalsIn, []string{"KMSPluginClockSkew"}},
		"clock over a minute behind":            {gauge(skew, -61), intervalsIn, []string{"KMSPluginClockSkew"}},
		"key_id of last year":                   {gauge(age, 370*day), intervalsIn * 3, nil},
		"key_id older than 400 days":            {gauge(age, 401*day), intervalsIn * 3, []string{"KMSPluginKeyIDOld"}},
		"credentials to be renewed in an hour":  {ago(withCredentials, expires, -time.Hour), intervalsIn, nil},
		"credentials renewed one poll late":     {ago(withCredentials, expires, 0), 4, nil},
		"credentials not renewed for 4 minutes": {ago(withCredentials, expires, 0), 8, []string{"KMSPluginCredentialsNotRenewed"}},
		"lines of the log are dropped":          {[2]*scrape{a.edited(dropped, fixed(0)), b.edited(dropped, fixed(3))}, intervalsIn, []string{"KMSPluginLogLinesDropped"}},
		"a poll of five minutes":                {ago(polled(300), good, 0), 12, nil},
		"a poll of five minutes, missed thrice": {ago(polled(300), good, 0), 40, []string{"KMSPluginNoGoodProbe"}},
		"no probe for three polls":              {ago([2]*scrape{a, b}, good, 0), 6, nil},
		"no probe for six polls":                {ago([2]*scrape{a, b}, good, 0), 12, []string{"KMSPluginNoGoodProbe"}},
	} {
		t.Run(name, func(t *testing.T) {
			tl := newTimeline(kubernetes...)
			tl.track("10.0.0.1:8080").stretch(c.pair[0].quick(), c.pair[1].quick(), c.n, false)
			wantAlerts(t, tl, tl.begin, c.want...)
		})
	}

	// Processes that come and go.
	processes := func(gone ...bool) *timeline {
		tl := newTimeline(kubernetes...)
		for i, isGone := range gone {
			tr := tl.track(fmt.Sprintf("10.0.0.%d:8080", i+1))
			if isGone {
				tr.stretch(a, b, overAnHour, false).gone(intervalsIn)
			} else {
				tr.stretch(a, b, overAnHour+intervalsIn, false)
			}
		}
		return tl
	}
	from := func(tl *timeline) time.Time { return tl.begin.Add(overAnHour * interval) }
	t.Run("three stay", func(t *testing.T) {
		tl := processes(false, false, false)
		wantAlerts(t, tl, from(tl))
	})
	t.Run("one of three ends", func(t *testing.T) {
		tl := processes(false, true, false)
		wantAlerts(t, tl, from(tl), "KMSPluginReplicaMissing")
	})
	t.Run("all end", func(t *testing.T) {
		tl := processes(true, true)
		wantAlerts(t, tl, from(tl), "KMSPluginReplicaMissing", "KMSPluginAbsent")
	})
	t.Run("none ever was", func(t *testing.T) {
		tl := newTimeline()
		tl.track("").gone(intervalsIn)
		wantAlerts(t, tl, tl.begin, "KMSPluginAbsent")
	})
}

// TestEveryAlertFires wants each alert of the file in one of the tests above.
func TestEveryAlertFires(t *testing.T) {
	for name, test := range map[string]func(*testing.T){"states": TestAlertsOfEachState, "edited": TestAlertsOfEditedScrapes} {
		if !finished[name] { // with -run or -shuffle
			t.Run(name, test)
		}
	}
	for _, name := range alertNames(alertRules(t)) {
		if !everFired[name] {
			t.Errorf("%s fired in no test", name)
		}
	}
}
