package finding

import (
	"fmt"
	"io"
	"strings"
)

// WriteText writes the report for people. Suppressed findings come last, in one
// line each.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Findings {
		if f.Suppressed == "" {
			fmt.Fprintf(&b, "%s: %s\n", f.Severity, f.Rule)
			fmt.Fprintf(&b, "  at:       %s, %s\n", f.Resource, f.where())
			fmt.Fprintf(&b, "  found:    %s\n", f.Message)
			fmt.Fprintf(&b, "  why:      %s\n", f.Why)
			fmt.Fprintf(&b, "  fix:      %s\n", f.Fix)
			if len(f.Controls) > 0 {
				fmt.Fprintf(&b, "  controls: %s\n", controlText(f.Controls))
			}
			b.WriteByte('\n')
		}
	}
	for _, f := range r.Findings {
		if f.Suppressed != "" {
			fmt.Fprintf(&b, "suppressed: %s at %s: %s (%s)\n", f.Rule, f.Resource, f.Message, f.Suppressed)
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	if len(r.Notes) > 0 || r.Count(0) < len(r.Findings) {
		b.WriteByte('\n')
	}
	b.WriteString(r.Summary())
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
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
		text = fmt.Sprintf("%d finding(s): %s", n, strings.Join(parts, ", "))
	}
	if suppressed > 0 {
		text += fmt.Sprintf(", and %d suppressed", suppressed)
	}
	return fmt.Sprintf("%s. Looked at %d cluster(s), %d key(s), %d trail(s), %d Kubernetes object(s).",
		text, len(r.Checked.Clusters), len(r.Checked.Keys), len(r.Checked.Trails), r.Checked.Manifests)
}
