package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ekskms/ekskms/internal/evidence"
)

var (
	//go:embed page.html.tmpl
	pageText string
	//go:embed page.css
	style string
	//go:embed page.js
	script string
)

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"picture": picture, "useByDay": useByDay, "timeLine": timeLine,
	"time":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04Z") },
	"class": func(v Verdict) string { return strings.ReplaceAll(string(v), " ", "-") },
}).Parse(pageText))

// section is one of the page, for its list of contents.
type section struct{ ID, Title string }

type htmlPage struct {
	*Page
	Title    string
	Policy   string
	Style    template.CSS
	Script   template.JS
	Sections []section
}

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(s[:]) + "'"
}

// WriteHTML writes the page as one file, which asks for nothing from anywhere: its policy lets
// the browser run the one script and style that are in it.
func (p *Page) WriteHTML(w io.Writer) error {
	h := htmlPage{Page: p, Title: p.Source, Style: template.CSS(style), Script: template.JS(script)} //nolint:gosec // they are our own
	h.Policy = "default-src 'none'; style-src " + sum(style) + "; script-src " + sum(script) + "; base-uri 'none'; form-action 'none'"
	if len(p.Clusters) == 1 {
		h.Title = "cluster " + p.Clusters[0].Name
	}
	add := func(when bool, id, title string) {
		if when {
			h.Sections = append(h.Sections, section{id, title})
		}
	}
	add(len(p.Clusters) > 1, "fleet", "Clusters")
	add(true, "answers", "In short")
	add(p.Changes != nil, "changes", "What changes")
	add(true, "keys", "Who reaches the key")
	add(true, "findings", "Findings")
	add(true, "alarms", "Alarms")
	add(p.Evidence != nil, "evidence", "The record")
	add(len(p.Cost) > 0, "cost", "Cost")
	add(true, "not-judged", "Not judged")
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, h); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// esc is a text within SVG.
func esc(s string) string { return template.HTMLEscapeString(s) }

// picture draws who reaches a key.
func picture(k Key) template.HTML {
	const most, row, left, right, height = 14, 34, 380, 560, 56
	var people []Person
	more := 0
	for _, who := range k.People {
		if who.Reach == "nothing" {
			continue
		}
		if len(people) == most {
			more++
			continue
		}
		people = append(people, who)
	}
	tall := max(len(people)+min(more, 1), 2)*row + 20
	middle := tall / 2
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 760 %d" width="760" role="img" aria-label="%s">`, tall, esc(fmt.Sprintf("%d principals reach the key; the table below names them", len(people)+more)))
	for i, who := range people {
		y := 20 + i*row
		name := []rune(who.What)
		if len(name) > 48 {
			name = append(name[:47], '…')
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, left-12, y+4, esc(who.Letter+"  "+string(name)))
		when := ""
		if who.Conditional {
			when = " when"
		}
		fmt.Fprintf(&b, `<path class="%s%s" d="M%d %dC%d %d %d %d %d %d"><title>%s</title></path>`, who.Reach, when, left, y, left+90, y, right-90, middle, right, middle, esc(who.What+": "+who.Reach))
	}
	if more > 0 {
		fmt.Fprintf(&b, `<text class="dim" x="%d" y="%d" text-anchor="end">and %d more</text>`, left-12, 24+len(people)*row, more)
	}
	fmt.Fprintf(&b, `<rect class="box" x="%d" y="%d" width="190" height="%d" rx="8"/><text x="%d" y="%d" text-anchor="middle">the key</text>`, right, middle-height/2, height, right+95, middle-4)
	id := k.Layout.Key[strings.LastIndex(k.Layout.Key, "/")+1:]
	if len(id) > 28 {
		id = "…" + id[len(id)-27:]
	}
	fmt.Fprintf(&b, `<text class="dim" x="%d" y="%d" text-anchor="middle">%s</text></svg>`, right+95, middle+14, esc(id))
	return template.HTML(b.String()) //nolint:gosec // what is not ours is escaped
}

const plotWide, plotTall = 760, 130

// useByDay draws how often the key was used on each day.
func useByDay(r *evidence.Report) template.HTML {
	days := r.ByDay()
	if len(days) == 0 {
		return ""
	}
	names := slices.Sorted(maps.Keys(days))
	first, err := time.Parse(time.DateOnly, names[0])
	last, err2 := time.Parse(time.DateOnly, names[len(names)-1])
	if err != nil || err2 != nil {
		return ""
	}
	n := int(last.Sub(first).Hours()/24) + 1
	most := slices.Max(slices.Collect(maps.Values(days)))
	wide := float64(plotWide-20) / float64(n)
	var b strings.Builder
	fmt.Fprintf(&b, `<h3>Use by day</h3><svg viewBox="0 0 %d %d" width="%d" role="img" aria-label="Uses of the key from %s to %s, at most %d a day">`, plotWide, plotTall, plotWide, names[0], names[len(names)-1], most)
	for _, day := range names {
		at, err := time.Parse(time.DateOnly, day)
		if err != nil {
			continue
		}
		tall := float64(days[day]) / float64(most) * (plotTall - 30)
		fmt.Fprintf(&b, `<rect class="bar" x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>%s: %d</title></rect>`, 10+at.Sub(first).Hours()/24*wide, plotTall-20-tall, max(wide-1, 1), tall, day, days[day])
	}
	fmt.Fprintf(&b, `<text class="dim" x="10" y="%d">%s</text><text class="dim" x="%d" y="%d" text-anchor="end">%s</text><text class="dim" x="10" y="10">%d a day</text></svg>`, plotTall-4, names[0], plotWide-10, plotTall-4, names[len(names)-1], most)
	return template.HTML(b.String()) //nolint:gosec // days and numbers
}

// timeLine draws the rotations, and from when to when each key material was seen.
func timeLine(r *evidence.Report) template.HTML {
	if r.Rotation == nil || r.From.IsZero() || len(r.Rotation.Rotations)+len(r.Rotation.Materials) == 0 {
		return ""
	}
	from, to := r.From, r.To
	for _, o := range r.Rotation.Rotations {
		if o.Time.Before(from) {
			from = o.Time
		}
		if o.Time.After(to) {
			to = o.Time
		}
	}
	span := to.Sub(from).Seconds()
	if span <= 0 {
		span = 1
	}
	x := func(t time.Time) float64 { return 150 + t.Sub(from).Seconds()/span*(plotWide-170) }
	tall := 40 + 24*len(r.Rotation.Materials)
	var b strings.Builder
	fmt.Fprintf(&b, `<h3>Rotations and key materials</h3><svg viewBox="0 0 %d %d" width="%d" role="img" aria-label="%d rotations, %d key materials in use; the list below says the same">`, plotWide, tall, plotWide, len(r.Rotation.Rotations), len(r.Rotation.Materials))
	for i, m := range r.Rotation.Materials {
		y := 20 + 24*i
		id := m.ID
		if len(id) > 14 {
			id = id[:13] + "…"
		}
		fmt.Fprintf(&b, `<text x="140" y="%d" text-anchor="end">%s</text>`, y+4, esc(id))
		seen := m.Seen()
		if seen.Count > 0 {
			fmt.Fprintf(&b, `<rect class="bar" x="%.1f" y="%d" width="%.1f" height="10"><title>%s</title></rect>`, x(seen.First), y-5, max(x(seen.Last)-x(seen.First), 3), esc(fmt.Sprintf("decrypted %d times, last at %s", seen.Count, seen.Last.UTC().Format(time.RFC3339))))
		}
	}
	for _, o := range r.Rotation.Rotations {
		fmt.Fprintf(&b, `<path class="axis" d="M%.1f 6V%d"/><circle class="mark" cx="%.1f" cy="8" r="4"><title>%s</title></circle>`, x(o.Time), tall-18, x(o.Time), esc("rotation at "+o.Time.UTC().Format(time.RFC3339)))
	}
	fmt.Fprintf(&b, `<text class="dim" x="150" y="%d">%s</text><text class="dim" x="%d" y="%d" text-anchor="end">%s</text></svg>`, tall-4, from.UTC().Format(time.DateOnly), plotWide-10, tall-4, to.UTC().Format(time.DateOnly))
	return template.HTML(b.String()) //nolint:gosec // what is not ours is escaped
}
