package monitoring

import (
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// scraperLabels are those that the scraper adds, no matter which.
var scraperLabels = []string{"job", "instance", "namespace", "pod"}

// metric is what the scrapes have shown of one name.
type metric struct {
	counter bool
	labels  map[string]map[string]bool // the values of each label
}

// catalog is everything that the binary exposes.
type catalog struct {
	metrics  map[string]*metric
	families map[string]bool
}

// impossible are the classes that a metric can't have, for a reason that is in
// the plugin's code. All others of failure.go are taken for possible, whether a
// scenario provokes them or not.
var impossible = map[string][]string{
	prefix + "kms_requests_total": {"starting", "rotating", "overloaded", "stopping", "internal",
		"invalid-argument", "foreign-key-id", "foreign-annotations"},
	// The probe has no caller who could err or give up.
	prefix + "probes_total": {"starting", "overloaded", "stopping", "internal",
		"invalid-argument", "invalid-ciphertext", "foreign-key-id", "foreign-annotations", "canceled", "deadline"},
	prefix + "key_failure": {"overloaded", "stopping", "internal",
		"invalid-argument", "invalid-ciphertext", "foreign-key-id", "foreign-annotations", "canceled", "deadline"},
}

// failureClasses reads the constants of the plugin.
func failureClasses(t testing.TB) (classes []string) {
	t.Helper()
	file, err := goparser.ParseFile(token.NewFileSet(), root+"/internal/kmsplugin/failure.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "class") || len(spec.Values) != 1 {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			class, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			classes = append(classes, class)
		}
		return true
	})
	if len(classes) < 20 {
		t.Fatalf("failure.go has the classes %v only", classes)
	}
	return classes
}

func newCatalog(t testing.TB, all []*scrape) *catalog {
	t.Helper()
	c := &catalog{metrics: map[string]*metric{}, families: map[string]bool{}}
	for _, s := range all {
		for _, f := range s.families {
			c.families[f] = true
		}
		for _, p := range s.samples {
			m := c.metrics[p.name()]
			if m == nil {
				m = &metric{counter: p.counter, labels: map[string]map[string]bool{}}
				c.metrics[p.name()] = m
			}
			p.labels.Range(func(l labels.Label) {
				if m.labels[l.Name] == nil {
					m.labels[l.Name] = map[string]bool{}
				}
				m.labels[l.Name][l.Value] = true
			})
		}
	}
	classes := failureClasses(t)
	for name, m := range c.metrics {
		family := familyOf(name)
		values := m.labels["class"]
		if values == nil && m.labels["result"]["ok"] {
			values = m.labels["result"]
		}
		if values == nil {
			continue // no metric with classes
		}
		for value := range values {
			if value != "ok" && !slices.Contains(classes, value) {
				t.Errorf("%s has the class %q, which failure.go does not know", name, value)
			}
			if slices.Contains(impossible[family], value) {
				t.Errorf("%s has the class %q, which this test took for impossible", name, value)
			}
		}
		for _, class := range classes {
			if !slices.Contains(impossible[family], class) {
				values[class] = true
			}
		}
	}
	for family, list := range impossible {
		if !c.families[family] {
			t.Errorf("impossible names %s, which does not exist", family)
		}
		for _, class := range list {
			if !slices.Contains(classes, class) {
				t.Errorf("impossible names the class %s, which failure.go does not know", class)
			}
		}
	}
	return c
}

var histogramPart = regexp.MustCompile(`_(bucket|sum|count)$`)

func familyOf(name string) string { return histogramPart.ReplaceAllString(name, "") }

// dashboardVariables stand for what Grafana puts in their place.
var dashboardVariables = strings.NewReplacer("$__rate_interval", "5m", "$job", ".+", "$instance", ".+")

// check lists what is wrong with an expression.
func (c *catalog) check(expr string) (problems []string) {
	parsed, err := parser.ParseExpr(dashboardVariables.Replace(expr))
	if err != nil {
		return []string{err.Error()}
	}
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			c.checkSelector(n, bad)
		case *parser.AggregateExpr:
			for _, label := range n.Grouping {
				if !c.onAll(n.Expr, label) {
					bad("%s: not all metrics have the label %s", n, label)
				}
			}
		case *parser.BinaryExpr:
			if n.VectorMatching == nil {
				return nil
			}
			for _, label := range n.VectorMatching.MatchingLabels {
				left, right := c.onAll(n.LHS, label), c.onAll(n.RHS, label)
				if n.VectorMatching.On && left != right || !left && !right {
					bad("%s: no such label to match by: %s", n, label)
				}
			}
			for _, label := range n.VectorMatching.Include {
				if !c.onAll(n.LHS, label) && !c.onAll(n.RHS, label) {
					bad("%s: no such label to include: %s", n, label)
				}
			}
		case *parser.Call:
			if slices.Contains([]string{"rate", "irate", "increase"}, n.Func.Name) {
				for _, s := range selectors(n) {
					if m := c.metrics[s.Name]; m != nil && !m.counter {
						bad("%s: %s is no counter", n, s.Name)
					}
				}
			}
			if n.Func.Name == "histogram_quantile" {
				for _, s := range selectors(n) {
					if !strings.HasSuffix(s.Name, "_bucket") {
						bad("%s: %s is no bucket", n, s.Name)
					}
				}
			}
		}
		return nil
	})
	return problems
}

func selectors(node parser.Node) (all []*parser.VectorSelector) {
	parser.Inspect(node, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			all = append(all, s)
		}
		return nil
	})
	return all
}

// onAll tells whether all metrics of an expression have a label.
func (c *catalog) onAll(node parser.Node, label string) bool {
	if slices.Contains(scraperLabels, label) {
		return true
	}
	all := selectors(node)
	for _, s := range all {
		if m := c.metrics[s.Name]; m == nil || m.labels[label] == nil {
			return false
		}
	}
	return len(all) > 0
}

func (c *catalog) checkSelector(n *parser.VectorSelector, bad func(string, ...any)) {
	m := c.metrics[n.Name]
	if m == nil {
		bad("%s: the binary has no metric %q", n, n.Name)
		return
	}
	for _, match := range n.LabelMatchers {
		values := m.labels[match.Name]
		switch {
		case match.Name == model.MetricNameLabel || slices.Contains(scraperLabels, match.Name):
		case values == nil:
			bad("%s: %s has no label %s", n, n.Name, match.Name)
		default:
			for _, value := range alternatives(match) {
				if value != "" && !values[value] {
					bad("%s: %s is never %q: %v", n, match.Name, value, slices.Sorted(maps.Keys(values)))
				}
			}
		}
	}
}

// alternatives are the values that a matcher names. A regular expression may
// only be a list of them, so that each one can be looked up.
func alternatives(m *labels.Matcher) []string {
	if m.Type == labels.MatchEqual || m.Type == labels.MatchNotEqual {
		return []string{m.Value}
	}
	return strings.Split(m.Value, "|")
}

// queries are all expressions of both files, by where they stand.
func queries(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, r := range alertRules(t) {
		all["alert "+r.Alert] = r.Expr
	}
	for _, p := range parsedDashboard(t).Panels {
		for _, target := range p.Targets {
			all["panel "+p.Title+" "+target.RefID] = target.Expr
		}
	}
	return all
}

func TestQueriesNameWhatTheBinaryExposes(t *testing.T) {
	c := newCatalog(t, scrapes(t))
	for where, expr := range queries(t) {
		for _, problem := range c.check(expr) {
			t.Errorf("%s: %s", where, problem)
		}
	}
}

// Every name in every expression is misspelt once, and that must be seen.
func TestMisspeltQueriesAreSeen(t *testing.T) {
	c := newCatalog(t, scrapes(t))
	mutants := 0
	for where, expr := range queries(t) {
		expr = dashboardVariables.Replace(expr)
		for i := 0; ; i++ {
			parsed, err := parser.ParseExpr(expr)
			if err != nil {
				t.Fatal(err)
			}
			what := misspell(parsed, i)
			if what == "" {
				break
			}
			mutants++
			if len(c.check(parsed.String())) == 0 {
				t.Errorf("%s: not seen: misspelt %s in %s", where, what, parsed)
			}
		}
	}
	if mutants < 250 {
		t.Errorf("only %d misspellings were tried", mutants)
	}
}

// misspell changes the i-th name in an expression, and says which one; "" says
// that there are no more.
func misspell(expr parser.Expr, i int) (what string) {
	hit := func(kind, name string) bool {
		if i--; i == -1 {
			what = kind + " " + name
		}
		return i == -1
	}
	list := func(kind string, names []string) {
		for j, name := range names {
			if hit(kind, name) {
				names[j] = name + "x"
			}
		}
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			for j, m := range n.LabelMatchers {
				if m.Name == model.MetricNameLabel {
					if hit("metric", n.Name) {
						n.Name += "x"
						n.LabelMatchers[j] = labels.MustNewMatcher(m.Type, m.Name, n.Name)
					}
					continue
				}
				if hit("label", m.Name) {
					n.LabelMatchers[j] = labels.MustNewMatcher(m.Type, m.Name+"x", m.Value)
				}
				if slices.Contains(scraperLabels, m.Name) {
					continue // anything may be its value
				}
				values := alternatives(m)
				for k, value := range values {
					if value != "" && hit("value", value) {
						values[k] = value + "x"
						n.LabelMatchers[j] = labels.MustNewMatcher(m.Type, m.Name, strings.Join(values, "|"))
					}
				}
			}
		case *parser.AggregateExpr:
			list("label", n.Grouping)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				list("label", n.VectorMatching.MatchingLabels)
				list("label", n.VectorMatching.Include)
			}
		}
		return nil
	})
	return what
}

func TestWrongQueriesAreSeen(t *testing.T) {
	c := newCatalog(t, scrapes(t))
	for _, expr := range []string{
		`sum(`,
		`rate(ekskms_plugin_in_flight[5m])`,
		`ekskms_plugin_operation_duration_seconds > 1`,
		`ekskms_plugin_key_state{state=~"failed|degraded.*"}`,
		`ekskms_plugin_key_failure{class="overloaded"}`,
		`ekskms_plugin_kms_requests_total{result="foreign-key-id"}`,
		`ekskms_plugin_seed_cache_lookups_total{result="throttled"}`,
		`histogram_quantile(0.9, rate(ekskms_plugin_operation_duration_seconds_count[5m]))`,
		`ekskms_plugin_in_flight / on (role) ekskms_plugin_in_flight_limit`,
		`ekskms_plugin_in_flight * on (instance) group_left (wersion) ekskms_plugin_build_info`,
		`{__name__=~"ekskms_plugin_.*"}`,
	} {
		if len(c.check(expr)) == 0 {
			t.Errorf("not seen: %s", expr)
		}
	}
	for _, expr := range []string{
		`ekskms_plugin_key_failure{class="key-store"}`,
		`ekskms_plugin_in_flight * on (instance) group_left (version) ekskms_plugin_build_info`,
	} {
		if problems := c.check(expr); len(problems) > 0 {
			t.Errorf("seen where nothing is: %v", problems)
		}
	}
}
