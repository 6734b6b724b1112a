package finding

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/ekskms/ekskms/internal/terminal"
)

// colors are those of the severities.
var colors = map[Severity]terminal.Color{Low: terminal.Bold, Medium: terminal.Magenta, High: terminal.Red, Critical: terminal.Alarm}

// WriteText writes the report for people. source returns a line of a file, or "" for
// one that is not at hand. Suppressed findings come last, in one line each.
func (r *Report) WriteText(w io.Writer, style terminal.Style, source func(file string, line int) string) error {
	var b strings.Builder
	for _, f := range r.Findings {
		if f.Suppressed != "" {
			continue
		}
		color := colors[f.Severity]
		fmt.Fprintf(&b, "%s %s\n", style.Paint(color, f.Severity.String()+":"), style.Paint(terminal.Bold, f.Rule))
		field := func(name, text string) {
			b.WriteString(style.Wrap("  "+style.Paint(terminal.Dim, fmt.Sprintf("%-10s", name+":")), strings.Repeat(" ", 12), text) + "\n")
		}
		field("at", f.Resource+", "+f.where())
		b.WriteString(excerpt(style, color, f.Line, source(f.File, f.Line)))
		field("found", f.Message)
		field("why", f.Why)
		field("fix", f.Fix)
		if len(f.Controls) > 0 {
			field("controls", controlText(f.Controls))
		}
		b.WriteByte('\n')
	}
	for _, f := range r.Findings {
		if f.Suppressed != "" {
			b.WriteString(style.Wrap("suppressed: ", "  ", fmt.Sprintf("%s at %s: %s (%s)", f.Rule, f.Resource, f.Message, f.Suppressed)) + "\n")
		}
	}
	for _, n := range r.Notes {
		b.WriteString(style.Wrap("note: ", "  ", n.String()) + "\n")
	}
	if len(r.Notes) > 0 || r.Count(0) < len(r.Findings) {
		b.WriteByte('\n')
	}
	color := terminal.Green
	if r.Count(0) > 0 {
		color = terminal.Bold
	}
	verdict, looked, _ := strings.Cut(r.Summary(), ". ")
	b.WriteString(style.Wrap("", "", style.Paint(color, verdict+".")+" "+looked) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// excerpt is the line of a file that a finding is about, with carets under it.
func excerpt(style terminal.Style, color terminal.Color, number int, line string) string {
	text := strings.TrimLeft(strings.TrimRight(line, " \t\r"), " \t")
	if text == "" {
		return ""
	}
	gutter := fmt.Sprintf("  %6d | ", number)
	indent := min(len(line)-len(strings.TrimLeft(line, " \t")), 24)
	width := style.Width
	if width == 0 {
		width = 120 // of a line that can be a whole template
	}
	if room := max(width-len(gutter)-indent, 10); utf8.RuneCountInString(text) > room {
		text = string([]rune(text)[:room-3]) + "..."
	}
	pad := strings.Repeat(" ", indent)
	return style.Paint(terminal.Dim, gutter) + pad + text + "\n" +
		style.Paint(terminal.Dim, strings.Repeat(" ", len(gutter)-2)+"| ") +
		pad + style.Paint(color, strings.Repeat("^", utf8.RuneCountInString(text))) + "\n"
}

// String returns the note with its resource before it.
func (n Note) String() string {
	if n.Resource == "" {
		return n.Message
	}
	return n.Resource + ": " + n.Message
}

func (f Finding) where() string {
	where := f.File
	if f.Line > 0 {
		where = fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	if f.Field != "" {
		where += " " + f.Field
	}
	return where
}

func controlText(controls []Control) string {
	var names []string
	framework := ""
	for _, c := range controls {
		name := c.ID
		if c.Framework != framework {
			framework = c.Framework
			name = framework + " " + name
		}
		if c.Inferred {
			name += " (inferred)"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// Summary is one line on what was found and what was looked at.
func (r *Report) Summary() string {
	bySeverity := map[Severity]int{}
	suppressed := 0
	for _, f := range r.Findings {
		if f.Suppressed != "" {
			suppressed++
		} else {
			bySeverity[f.Severity]++
		}
	}
	var parts []string
	for s := Critical; s >= Low; s-- {
		if bySeverity[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", bySeverity[s], s))
		}
	}
	text := "No findings"
	if n := r.Count(0); n > 0 {
		text = fmt.Sprintf("%s: %s", count(n, "finding"), strings.Join(parts, ", "))
	}
	if suppressed > 0 {
		text += fmt.Sprintf(", and %d suppressed", suppressed)
	}
	return fmt.Sprintf("%s. Looked at %s, %s, %s, %s.", text, count(len(r.Checked.Clusters), "cluster"), count(len(r.Checked.Keys), "key"),
		count(len(r.Checked.Trails), "trail"), count(r.Checked.Manifests, "Kubernetes object"))
}

// count is a number of things.
func count(n int, of string) string {
	if n != 1 {
		of += "s"
	}
	return fmt.Sprintf("%d %s", n, of)
}
