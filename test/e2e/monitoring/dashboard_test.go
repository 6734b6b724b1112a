package monitoring

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

const dashboardFile = root + "/docs/reference/kms-plugin-dashboard.json"

// The part of Grafana's dashboard model that the file may use. Any other field
// is an error, so that a misspelt one is seen.
type (
	dashboard struct {
		Title         string     `json:"title"`
		UID           string     `json:"uid"`
		Description   string     `json:"description"`
		Tags          []string   `json:"tags"`
		SchemaVersion int        `json:"schemaVersion"`
		Version       int        `json:"version"`
		Editable      bool       `json:"editable"`
		GraphTooltip  int        `json:"graphTooltip"`
		Refresh       string     `json:"refresh"`
		Time          timeRange  `json:"time"`
		Timezone      string     `json:"timezone"`
		Templating    templating `json:"templating"`
		Annotations   struct {
			List []any `json:"list"`
		} `json:"annotations"`
		Links  []any   `json:"links"`
		Panels []panel `json:"panels"`
	}
	timeRange  struct{ From, To string }
	templating struct {
		List []variable `json:"list"`
	}
	variable struct {
		Name       string          `json:"name"`
		Label      string          `json:"label"`
		Type       string          `json:"type"`
		Datasource *datasource     `json:"datasource"`
		Query      json.RawMessage `json:"query"` // a string, or an object with query and refId
		Definition string          `json:"definition"`
		Refresh    int             `json:"refresh"`
		Sort       int             `json:"sort"`
		Hide       int             `json:"hide"`
		Multi      bool            `json:"multi"`
		IncludeAll bool            `json:"includeAll"`
		Current    any             `json:"current"`
	}
	datasource struct {
		Type string `json:"type"`
		UID  string `json:"uid"`
	}
	panel struct {
		ID              int              `json:"id"`
		Type            string           `json:"type"`
		Title           string           `json:"title"`
		Description     string           `json:"description"`
		Datasource      *datasource      `json:"datasource"`
		GridPos         gridPos          `json:"gridPos"`
		Collapsed       bool             `json:"collapsed"`
		Panels          []panel          `json:"panels"`
		FieldConfig     *fieldConfig     `json:"fieldConfig"`
		Options         json.RawMessage  `json:"options"`
		Transformations []transformation `json:"transformations"`
		Targets         []target         `json:"targets"`
	}
	gridPos     struct{ H, W, X, Y int }
	fieldConfig struct {
		Defaults struct {
			Unit       string          `json:"unit"`
			Min        *float64        `json:"min"`
			Color      json.RawMessage `json:"color"`
			Custom     json.RawMessage `json:"custom"`
			Thresholds json.RawMessage `json:"thresholds"`
			Mappings   json.RawMessage `json:"mappings"`
		} `json:"defaults"`
		Overrides []any `json:"overrides"`
	}
	transformation struct {
		ID      string `json:"id"`
		Options struct {
			ExcludeByName map[string]bool   `json:"excludeByName"`
			IndexByName   map[string]int    `json:"indexByName"`
			RenameByName  map[string]string `json:"renameByName"`
		} `json:"options"`
	}
	target struct {
		RefID        string      `json:"refId"`
		Datasource   *datasource `json:"datasource"`
		Expr         string      `json:"expr"`
		LegendFormat string      `json:"legendFormat"`
		Format       string      `json:"format"`
		Instant      bool        `json:"instant"`
	}
)

func parseDashboard(content []byte) (d dashboard, err error) {
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return d, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return d, errors.New("something follows the dashboard")
	}
	return d, nil
}

func parsedDashboard(t testing.TB) dashboard {
	t.Helper()
	d, err := parseDashboard(readFile(t, dashboardFile))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// units are those of Grafana that are in use. A misspelt one would show as a
// suffix of each number.
var units = []string{"none", "short", "s", "bytes", "percentunit", "reqps", "cpm"}

var fromVariable = datasource{Type: "prometheus", UID: "${datasource}"}

// problems lists what is wrong with the structure of a dashboard.
func (d dashboard) problems() (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if d.SchemaVersion != 39 || d.UID == "" || len(d.UID) > 40 || d.Title == "" || d.Time.From == "" || d.Time.To == "" {
		bad("schemaVersion, uid, title and time are needed: %d %q %q %v", d.SchemaVersion, d.UID, d.Title, d.Time)
	}
	d.checkVariables(bad)
	ids, titles := map[int]bool{}, map[string]bool{}
	var before []panel
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID <= 0 {
			bad("panel %q: the id %d is taken or not positive", p.Title, p.ID)
		}
		if titles[p.Title] || p.Title == "" {
			bad("panel %d: the title %q is taken or empty", p.ID, p.Title)
		}
		ids[p.ID], titles[p.Title] = true, true
		g := p.GridPos
		if g.X < 0 || g.Y < 0 || g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			bad("panel %q: it is not on the grid: %+v", p.Title, g)
		}
		for _, other := range before {
			if o := other.GridPos; g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H {
				bad("panels %q and %q overlap", other.Title, p.Title)
			}
		}
		before = append(before, p)
		if p.Type == "row" {
			if len(p.Panels) > 0 || p.Collapsed || g.W != 24 || g.H != 1 {
				bad("row %q: it must be open, empty, 24 wide and 1 high", p.Title)
			}
			continue
		}
		p.check(bad)
	}
	if len(before) == 0 || before[0].Type != "row" {
		bad("the first panel must be a row")
	}
	return problems
}

func (d dashboard) checkVariables(bad func(string, ...any)) {
	wanted := []string{"datasource", "job", "instance"}
	for i, v := range d.Templating.List {
		if i >= len(wanted) || v.Name != wanted[i] || v.Label == "" {
			bad("variable %d is %q, want %v, each with a label", i, v.Name, wanted)
			continue
		}
		if v.Name == "datasource" {
			if v.Type != "datasource" || string(v.Query) != `"prometheus"` {
				bad("variable datasource: it must be of type datasource, for prometheus")
			}
			continue
		}
		var query struct{ Query, RefID string }
		if err := json.Unmarshal(v.Query, &query); err != nil || query.Query != v.Definition || query.RefID == "" {
			bad("variable %s: query %s, definition %q, %v", v.Name, v.Query, v.Definition, err)
		}
		if v.Type != "query" || v.Datasource == nil || *v.Datasource != fromVariable || !v.Multi || !v.IncludeAll {
			bad("variable %s: it must be a query to ${datasource}, for several values and all", v.Name)
		}
		if !regexp.MustCompile(`^label_values\(ekskms_plugin_build_info(\{job=~"\$job"\})?, ` + v.Name + `\)$`).MatchString(v.Definition) {
			bad("variable %s: %s", v.Name, v.Definition)
		}
	}
	if len(d.Templating.List) != len(wanted) {
		bad("there are %d variables, want %v", len(d.Templating.List), wanted)
	}
}

func (p panel) check(bad func(string, ...any)) {
	if !slices.Contains([]string{"timeseries", "state-timeline", "table"}, p.Type) {
		bad("panel %q: unknown type %q", p.Title, p.Type)
	}
	if len(p.Description) < 20 || !strings.HasSuffix(p.Description, ".") {
		bad("panel %q: the description must be a sentence: %q", p.Title, p.Description)
	}
	if p.Datasource == nil || *p.Datasource != fromVariable {
		bad("panel %q: the data source must be ${datasource}", p.Title)
	}
	if p.FieldConfig == nil || !slices.Contains(units, p.FieldConfig.Defaults.Unit) {
		bad("panel %q: it needs a unit out of %v", p.Title, units)
	}
	if len(p.Options) == 0 || len(p.Targets) == 0 {
		bad("panel %q: it needs options and targets", p.Title)
	}
	refs := map[string]bool{}
	for _, target := range p.Targets {
		if refs[target.RefID] || target.RefID == "" {
			bad("panel %q: refId %q is taken or empty", p.Title, target.RefID)
		}
		refs[target.RefID] = true
		if target.Datasource == nil || *target.Datasource != fromVariable {
			bad("panel %q %s: the data source must be ${datasource}", p.Title, target.RefID)
		}
		if target.Expr == "" || target.LegendFormat == "" {
			bad("panel %q %s: it needs expr and legendFormat", p.Title, target.RefID)
		}
		if isTable := p.Type == "table"; target.Instant != isTable || (target.Format == "table") != isTable {
			bad("panel %q %s: a table asks for an instant, as a table; others do not", p.Title, target.RefID)
		}
		// What the variables leave out must not be shown.
		for _, selector := range regexp.MustCompile(`[a-z0-9_]+\{[^}]*\}`).FindAllString(target.Expr, -1) {
			if !strings.Contains(selector, `{job=~"$job", instance=~"$instance"`) {
				bad("panel %q %s: %s is not for $job and $instance", p.Title, target.RefID, selector)
			}
		}
		if parsed, err := parser.ParseExpr(dashboardVariables.Replace(target.Expr)); err != nil {
			bad("panel %q %s: %v", p.Title, target.RefID, err)
		} else if n := len(selectors(parsed)); n != strings.Count(target.Expr, `{job=~"$job", instance=~"$instance"`) {
			bad("panel %q %s: not every one of its %d selectors is for $job and $instance", p.Title, target.RefID, n)
		}
		if strings.Contains(target.Expr, "[") && strings.Count(target.Expr, "[") != strings.Count(target.Expr, "[$__rate_interval]") {
			bad("panel %q %s: a range that is not $__rate_interval", p.Title, target.RefID)
		}
	}
}

func TestDashboardStructure(t *testing.T) {
	for _, problem := range parsedDashboard(t).problems() {
		t.Error(problem)
	}
}

func TestBadDashboardsAreSeen(t *testing.T) {
	good := string(readFile(t, dashboardFile))
	first := func(old, replacement string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the dashboard has no %s to break", old)
		}
		return strings.Replace(good, old, replacement, 1)
	}
	for name, content := range map[string]string{
		"no JSON":                  good[:len(good)-4],
		"something behind it":      good + "{}",
		"an unknown field":         first(`"legendFormat"`, `"legendFromat"`),
		"an id twice":              first(`"id": 3,`, `"id": 2,`),
		"overlap":                  first(`"x": 12,`, `"x": 11,`),
		"off the grid":             first(`"x": 12,`, `"x": 13,`),
		"a fixed data source":      first(`"uid": "${datasource}"`, `"uid": "prometheus"`),
		"no description":           first(`"description": "Resident memory of the process."`, `"description": ""`),
		"no unit":                  first(`"unit": "bytes"`, `"unit": ""`),
		"an unknown unit":          first(`"unit": "bytes"`, `"unit": "byte"`),
		"no variable":              first(`"name": "instance"`, `"name": "node"`),
		"a selector of all jobs":   first(`job=~\"$job\", instance=~\"$instance\"`, `instance=~\"$instance\"`),
		"a selector without {}":    first(`process_resident_memory_bytes{job=~\"$job\", instance=~\"$instance\"}`, `process_resident_memory_bytes`),
		"a fixed range":            first(`[$__rate_interval]`, `[5m]`),
		"no legend":                first(`"legendFormat": "{{instance}}"`, `"legendFormat": ""`),
		"a table that is no table": first(`"format": "table"`, `"format": "time_series"`),
		"an old schema":            first(`"schemaVersion": 39`, `"schemaVersion": 12`),
		"a title twice":            first(`"title": "Goroutines"`, `"title": "Memory"`),
		"an unknown kind of panel": first(`"type": "timeseries"`, `"type": "graph"`),
		"a refId twice":            first(`"refId": "B"`, `"refId": "A"`),
	} {
		d, err := parseDashboard([]byte(content))
		if err == nil && len(d.problems()) == 0 {
			t.Errorf("not seen: %s", name)
		}
	}
}

// TestPanelsShowData evaluates every query over all scenarios, as if each were
// one instance, and wants numbers, with all labels that legend and columns name.
func TestPanelsShowData(t *testing.T) {
	tl := newTimeline(kubernetes...)
	for name, rec := range recordings(t) {
		for i := range rec.in {
			tr := tl.track(fmt.Sprint(name, " ", i))
			if len(rec.before) > 0 {
				tr.stretch(rec.before[i][0], rec.before[i][1], 12, false)
			}
			tr.stretch(rec.in[i][0], rec.in[i][1], 12, rec.once)
		}
	}
	legendLabel := regexp.MustCompile(`\{\{(\w+)\}\}`)
	for _, p := range parsedDashboard(t).Panels {
		for _, target := range p.Targets {
			matrix, err := tl.query(context.Background(), dashboardVariables.Replace(target.Expr), tl.begin)
			if err != nil && !strings.Contains(err.Error(), "monotonicity") {
				t.Errorf("panel %q %s: %v", p.Title, target.RefID, err)
				continue
			}
			numbers := 0
			for _, s := range matrix {
				if !slices.ContainsFunc(s.Floats, func(f promql.FPoint) bool { return !math.IsNaN(f.F) && !math.IsInf(f.F, 0) }) {
					continue
				}
				numbers++
				for _, m := range legendLabel.FindAllStringSubmatch(target.LegendFormat, -1) {
					if s.Metric.Get(m[1]) == "" {
						t.Errorf("panel %q %s: the legend names %s, which %s does not have", p.Title, target.RefID, m[1], s.Metric)
					}
				}
				for _, tr := range p.Transformations {
					for column := range tr.Options.IndexByName {
						if s.Metric.Get(column) == "" {
							t.Errorf("panel %q: the column %s is not in %s", p.Title, column, s.Metric)
						}
					}
					for column := range tr.Options.RenameByName {
						if _, ok := tr.Options.IndexByName[column]; !ok {
							t.Errorf("panel %q: the column %s is renamed and not placed", p.Title, column)
						}
					}
				}
			}
			if numbers == 0 {
				t.Errorf("panel %q %s shows nothing", p.Title, target.RefID)
			}
		}
	}
}
