package monitoring

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/model"
)

const docsFile = root + "/docs/reference/metrics.md"

// ownFamilies are the metrics that are the plugin's own.
func (c *catalog) ownFamilies() (own []string) {
	for _, f := range slices.Sorted(maps.Keys(c.families)) {
		if strings.HasPrefix(f, prefix) {
			own = append(own, f)
		}
	}
	return own
}

func TestScenariosShowEveryMetric(t *testing.T) {
	// A metric with labels is there after its first event only. If the plugin
	// has one that no scenario brings about, the tests here do not see it.
	sources, err := os.ReadFile(root + "/internal/kmsplugin/metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	c := newCatalog(t, scrapes(t))
	declared := regexp.MustCompile(`(?:counter\(|histogram\(|Name: |namespace\+)"_?([a-z_]+)"`).FindAllStringSubmatch(string(sources), -1)
	for _, m := range declared {
		if !c.families[prefix+m[1]] {
			t.Errorf("no scenario shows %s", prefix+m[1])
		}
	}
	if own := c.ownFamilies(); len(own) != len(declared) {
		t.Errorf("metrics.go seems to declare %d metrics, the scrapes have %d: %v", len(declared), len(own), own)
	}
}

func TestEveryMetricIsOnTheDashboardAndInTheDocs(t *testing.T) {
	c := newCatalog(t, scrapes(t))
	shown := ""
	for _, p := range parsedDashboard(t).Panels {
		for _, target := range p.Targets {
			shown += target.Expr + "\n"
		}
	}
	docs := string(readFile(t, docsFile))
	for _, family := range c.ownFamilies() {
		whole := regexp.MustCompile(`\b` + family + `(_bucket|_sum|_count)?\b`)
		if !whole.MatchString(shown) {
			t.Errorf("%s is on no panel", family)
		}
		if !whole.MatchString(docs) {
			t.Errorf("%s is not in docs/reference/metrics.md", family)
		}
	}
}

// TestTextsNameWhatExists: metrics, alerts and flags that are named in prose.
func TestTextsNameWhatExists(t *testing.T) {
	c := newCatalog(t, scrapes(t))
	alerts := alertNames(alertRules(t))
	for _, name := range []string{rulesFile, dashboardFile, docsFile} {
		text := string(readFile(t, name))
		for _, m := range regexp.MustCompile(`\b`+prefix+`[a-z_]+[a-z]\b`).FindAllString(text, -1) {
			if c.metrics[m] == nil && !c.families[m] {
				t.Errorf("%s names the metric %s, which the binary does not have", name, m)
			}
		}
		for _, m := range regexp.MustCompile(`\bKMSPlugin[A-Za-z]+`).FindAllString(text, -1) {
			if !slices.Contains(alerts, m) {
				t.Errorf("%s names the alert %s, which does not exist", name, m)
			}
		}
		if name == docsFile {
			continue // it has flags of other commands and programs
		}
		for _, m := range regexp.MustCompile(` (--[a-z][a-z-]+)`).FindAllStringSubmatch(text, -1) {
			if !strings.Contains(serveHelp, m[1]+" ") {
				t.Errorf("%s names the flag %s, which serve does not have", name, m[1])
			}
		}
	}
}

func TestScrapesPassTheLinter(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range scrapes(t) {
		problems, err := promlint.New(strings.NewReader(s.text)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			if !seen[p.Metric+p.Text] {
				seen[p.Metric+p.Text] = true
				t.Errorf("promlint: %s: %s", p.Metric, p.Text)
			}
		}
	}
}

// ruleProblems lists what is wrong with a rules file, besides its queries.
func ruleProblems(content []byte) (problems []string) {
	rules, errs := parseRules(content)
	for _, err := range errs {
		problems = append(problems, err.Error())
	}
	seen := map[string]bool{}
	for _, r := range rules {
		bad := func(what string) { problems = append(problems, r.Alert+": "+what) }
		if r.Record != "" || !strings.HasPrefix(r.Alert, "KMSPlugin") || seen[r.Alert] {
			bad("the name is taken, or does not begin with KMSPlugin")
		}
		seen[r.Alert] = true
		if s := r.Labels["severity"]; len(r.Labels) != 1 || s != "critical" && s != "warning" && s != "info" {
			bad("the only label must be severity: critical, warning or info")
		}
		if s := r.Annotations["summary"]; s == "" || len(s) > 130 || strings.HasSuffix(s, ".") || strings.Contains(s, "\n") {
			bad("the summary must be one short line without a full stop")
		}
		d := r.Annotations["description"]
		if len(d) < 100 || !strings.HasSuffix(d, ".") || strings.Contains(d, "\n") || len(r.Annotations) != 2 {
			bad("the description must say what to do, in sentences")
		}
		for _, sentence := range regexp.MustCompile(`[.:?] `).Split(d, -1) {
			if n := len(strings.Fields(sentence)); n > 30 {
				bad("a sentence of " + sentence)
			}
		}
		if model.Duration(0) > r.For || r.KeepFiringFor != 0 {
			bad("for is negative, or keep_firing_for is set")
		}
	}
	return problems
}

func TestRulesFile(t *testing.T) {
	for _, problem := range ruleProblems(readFile(t, rulesFile)) {
		t.Error(problem)
	}
}

func TestBadRulesFilesAreSeen(t *testing.T) {
	good := string(readFile(t, rulesFile))
	for name, change := range map[string][2]string{
		"an unknown field":    {"        for: 1m\n", "        fro: 1m\n"},
		"a bad expression":    {`state="failed"} == 1`, `state="failed" == 1`},
		"a bad template":      {"{{ $labels.instance }}", "{{ $labels.instance }"},
		"a severity":          {"severity: critical", "severity: page"},
		"no severity":         {"severity: critical", "team: x"},
		"a name twice":        {"alert: KMSPluginKeyDisabled", "alert: KMSPluginKeyFailed"},
		"another name":        {"alert: KMSPluginKeyDisabled", "alert: KeyDisabled"},
		"a bad duration":      {"for: 1m", "for: 1 minute"},
		"a record":            {"alert: KMSPluginKeyFailed", "record: x"},
		"a group twice":       {"name: kms-plugin-process", "name: kms-plugin-key"},
		"no summary":          {"          summary:", "          heading:"},
		"no description":      {"          description:", "          text:"},
		"a field of a group":  {"    rules:\n", "    rules:\n    intervall: 1m\n"},
		"no list of groups":   {"groups:", "group:"},
		"an empty expression": {`expr: absent(ekskms_plugin_build_info)`, `expr: ""`},
	} {
		if !strings.Contains(good, change[0]) {
			t.Errorf("%s: the rules file has no %s to break", name, change[0])
			continue
		}
		if len(ruleProblems([]byte(strings.Replace(good, change[0], change[1], 1)))) == 0 {
			t.Errorf("not seen: %s", name)
		}
	}
}
