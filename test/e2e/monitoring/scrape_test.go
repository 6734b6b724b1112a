package monitoring

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

const prefix = "ekskms_plugin_"

// sample is one line of a scrape.
type sample struct {
	labels  labels.Labels // with the name
	value   float64
	counter bool // only grows: counters, and the parts of histograms and summaries
}

func (s sample) name() string { return s.labels.Get(model.MetricNameLabel) }

// scrape is one answer of /metrics.
type scrape struct {
	at       time.Time
	text     string
	families []string
	samples  map[string]sample // by labels
}

func parseScrape(at time.Time, text []byte) (*scrape, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("/metrics: %w", err)
	}
	s := &scrape{at: at, text: string(text), families: slices.Sorted(maps.Keys(families)), samples: map[string]sample{}}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			s.addMetric(name, f.GetType(), m)
		}
	}
	return s, nil
}

func (s *scrape) addMetric(name string, kind dto.MetricType, m *dto.Metric) {
	add := func(name string, value float64, counter bool, more ...string) {
		b := labels.NewBuilder(labels.FromStrings(more...)) // an empty value is no label
		for _, l := range m.GetLabel() {
			b.Set(l.GetName(), l.GetValue())
		}
		s.set(sample{labels: b.Set(model.MetricNameLabel, name).Labels(), value: value, counter: counter})
	}
	switch kind {
	case dto.MetricType_COUNTER:
		add(name, m.GetCounter().GetValue(), true)
	case dto.MetricType_GAUGE:
		add(name, m.GetGauge().GetValue(), false)
	case dto.MetricType_HISTOGRAM:
		h := m.GetHistogram()
		for _, b := range h.GetBucket() {
			add(name+"_bucket", float64(b.GetCumulativeCount()), true, labels.BucketLabel, number(b.GetUpperBound()))
		}
		add(name+"_sum", h.GetSampleSum(), true)
		add(name+"_count", float64(h.GetSampleCount()), true)
	case dto.MetricType_SUMMARY:
		sum := m.GetSummary()
		for _, q := range sum.GetQuantile() {
			add(name, q.GetValue(), false, "quantile", number(q.GetQuantile()))
		}
		add(name+"_sum", sum.GetSampleSum(), true)
		add(name+"_count", float64(sum.GetSampleCount()), true)
	default:
		add(name, m.GetUntyped().GetValue(), false)
	}
}

func number(f float64) string {
	if math.IsInf(f, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

func (s *scrape) set(p sample) { s.samples[p.labels.String()] = p }

// own is the part of the scrape that is about the plugin.
func (s *scrape) own() string {
	var own strings.Builder
	for line := range strings.Lines(s.text) {
		if strings.HasPrefix(line, prefix) && !strings.Contains(line, "_bucket{") {
			own.WriteString(line)
		}
	}
	return own.String()
}

// find returns the samples of a name with these labels, given as name, value.
func (s *scrape) find(name string, pairs ...string) (all []sample) {
	for _, p := range s.samples {
		if p.name() != name {
			continue
		}
		match := true
		for i := 0; i < len(pairs); i += 2 {
			match = match && p.labels.Get(pairs[i]) == pairs[i+1]
		}
		if match {
			all = append(all, p)
		}
	}
	return all
}

// sum adds up what find returns.
func (s *scrape) sum(name string, pairs ...string) (total float64) {
	for _, p := range s.find(name, pairs...) {
		total += p.value
	}
	return total
}

// inState tells whether all keys of a role are in a state.
func (s *scrape) inState(role, state string) bool {
	all := s.find(prefix+"key_state", "role", role, "state", state)
	return !slices.ContainsFunc(all, func(p sample) bool { return p.value != 1 })
}

// edited is a copy with other values for the samples of a name; the function
// may also refuse them, by ok, and so take them out.
func (s *scrape) edited(name string, change func(sample) (value float64, ok bool)) *scrape {
	c := *s
	c.samples = maps.Clone(s.samples)
	for key, p := range s.samples {
		if p.name() != name {
			continue
		}
		var ok bool
		if p.value, ok = change(p); ok {
			c.samples[key] = p
		} else {
			delete(c.samples, key)
		}
	}
	return &c
}

// quick is a copy in which nothing took long: how long it took in truth depends
// on what else this machine does.
func (s *scrape) quick() *scrape {
	const bound = 0.02
	c := *s
	c.samples = maps.Clone(s.samples)
	for key, p := range s.samples {
		family, isBucket := strings.CutSuffix(p.name(), "_bucket")
		le, err := strconv.ParseFloat(p.labels.Get(labels.BucketLabel), 64)
		if !isBucket || err != nil || le < bound {
			continue
		}
		count := labels.NewBuilder(p.labels).Del(labels.BucketLabel).Set(model.MetricNameLabel, family+"_count").Labels()
		p.value = s.samples[count.String()].value
		c.samples[key] = p
	}
	return &c
}
