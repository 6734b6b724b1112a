package monitoring

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// interval is how often the imagined Prometheus scrapes and evaluates rules.
const interval = 30 * time.Second

// timeline is what that Prometheus has stored: the scrapes of real processes,
// stretched over hours. It is a storage.Queryable.
type timeline struct {
	begin  time.Time
	end    time.Time // of the last scrape
	extra  []string  // labels of the scraper besides job and instance
	series map[string]*series
	byName map[string][]*series
}

type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

func newTimeline(extra ...string) *timeline {
	begin := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	return &timeline{begin: begin, end: begin, extra: extra, series: map[string]*series{}, byName: map[string][]*series{}}
}

// kubernetes are the labels of the usual scraper.
var kubernetes = []string{"namespace", "kube-system", "pod", "kms-plugin-0"}

// track is one process in a timeline.
type track struct {
	*timeline
	instance string
	now      time.Time
	last     *scrape
	level    map[string]float64       // of counters
	open     map[string]labels.Labels // series that had a value in the last scrape
}

func (t *timeline) track(instance string) *track {
	return &track{timeline: t, instance: instance, now: t.begin, level: map[string]float64{}}
}

// stretch lasts n intervals. A counter grows in each of them as it did between
// the two scrapes, or only once; gauges stay as in the second scrape, except that
// time goes on for those that are about time.
func (t *track) stretch(a, b *scrape, n int, once bool) *track {
	begin := t.now
	for key, p := range a.samples {
		if p.counter {
			before := 0.0
			if t.last != nil {
				before = t.last.samples[key].value
			}
			t.level[key] += p.value - before
		}
	}
	for i := range n {
		open := map[string]labels.Labels{}
		for key, p := range b.samples {
			old, before := a.samples[key]
			switch {
			case p.counter:
				if i == 0 && !before {
					continue // its first event is still to come
				}
				if i == 1 || i > 1 && !once {
					t.level[key] += p.value - old.value
				}
				p.value = t.level[key]
			case strings.HasSuffix(p.name(), "_timestamp_seconds"):
				age := b.at.Sub(unix(p.value))
				from := t.now // it moves with time
				if before && old.value == p.value {
					age, from = a.at.Sub(unix(p.value)), begin
				}
				p.value = float64(from.Add(-age).UnixMilli()) / 1e3
			case strings.HasSuffix(p.name(), "_age_seconds"):
				p.value += float64(i) * interval.Seconds()
			}
			t.add(p.labels, p.value)
			open[key] = p.labels
		}
		t.close(open)
		t.next()
	}
	t.last = b
	return t
}

// restart makes what comes another process on the same address.
func (t *track) restart() *track {
	t.last, t.level = nil, map[string]float64{}
	return t
}

// gone lasts n intervals without an answer to the scraper.
func (t *track) gone(n int) *track {
	for range n {
		t.close(nil)
		t.next()
	}
	return t
}

func unix(seconds float64) time.Time { return time.UnixMilli(int64(seconds * 1e3)) }

// close marks the series stale that have ended, as Prometheus does.
func (t *track) close(open map[string]labels.Labels) {
	for key, l := range t.open {
		if _, still := open[key]; !still {
			t.add(l, math.Float64frombits(value.StaleNaN))
		}
	}
	t.open = open
}

func (t *track) next() {
	if t.now.After(t.end) {
		t.end = t.now
	}
	t.now = t.now.Add(interval)
}

func (t *track) add(l labels.Labels, v float64) {
	b := labels.NewBuilder(l).Set("job", "kms-plugin").Set("instance", t.instance)
	for i := 0; i < len(t.extra); i += 2 {
		b.Set(t.extra[i], t.extra[i+1])
	}
	l = b.Labels()
	s := t.series[l.String()]
	if s == nil {
		s = &series{labels: l}
		t.series[l.String()] = s
		name := l.Get(model.MetricNameLabel)
		t.byName[name] = append(t.byName[name], s)
	}
	s.samples = append(s.samples, point{t.now.UnixMilli(), v})
}

// point is a chunks.Sample.
type point struct {
	t int64
	v float64
}

func (p point) T() int64                      { return p.t }
func (p point) ST() int64                     { return 0 }
func (p point) F() float64                    { return p.v }
func (p point) H() *histogram.Histogram       { return nil }
func (p point) FH() *histogram.FloatHistogram { return nil }
func (p point) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (p point) Copy() chunks.Sample           { return p }

// Querier is that of storage.Queryable.
func (t *timeline) Querier(mint, maxt int64) (storage.Querier, error) {
	return querier{t, mint, maxt}, nil
}

type querier struct {
	t          *timeline
	mint, maxt int64
}

func (q querier) Select(_ context.Context, _ bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	mint, maxt := q.mint, q.maxt
	if hints != nil {
		mint, maxt = hints.Start, hints.End
	}
	set := &seriesSet{at: -1}
	var candidates []*series
	for _, m := range matchers {
		if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual {
			candidates = q.t.byName[m.Value]
		}
	}
	for _, s := range candidates {
		match := true
		for _, m := range matchers {
			match = match && m.Matches(s.labels.Get(m.Name))
		}
		from, _ := slices.BinarySearchFunc(s.samples, mint, func(c chunks.Sample, t int64) int { return int(c.T() - t) })
		to, _ := slices.BinarySearchFunc(s.samples, maxt+1, func(c chunks.Sample, t int64) int { return int(c.T() - t) })
		if match && from < to {
			set.all = append(set.all, storage.NewListSeries(s.labels, s.samples[from:to]))
		}
	}
	slices.SortFunc(set.all, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return set
}

func (querier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (querier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (querier) Close() error { return nil }

type seriesSet struct {
	all []storage.Series
	at  int
}

func (s *seriesSet) Next() bool                        { s.at++; return s.at < len(s.all) }
func (s *seriesSet) At() storage.Series                { return s.all[s.at] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

var engine = promql.NewEngine(promql.EngineOpts{
	MaxSamples: 50_000_000, Timeout: patience, LookbackDelta: 5 * time.Minute,
	EnableAtModifier: true, EnableNegativeOffset: true,
})

// query evaluates an expression at every interval from a time to the end.
func (t *timeline) query(ctx context.Context, expr string, from time.Time) (promql.Matrix, error) {
	q, err := engine.NewRangeQuery(ctx, t, nil, expr, from, t.end, interval)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	result := q.Exec(ctx)
	if result.Err != nil {
		return nil, result.Err
	}
	if len(result.Warnings) > 0 {
		return nil, fmt.Errorf("warnings: %v", result.Warnings)
	}
	matrix, err := result.Matrix()
	if err != nil {
		return nil, err
	}
	// The engine takes its memory back with Close.
	var own promql.Matrix
	for _, s := range matrix {
		own = append(own, promql.Series{Metric: s.Metric.Copy(), Floats: slices.Clone(s.Floats)})
	}
	return own, nil
}
