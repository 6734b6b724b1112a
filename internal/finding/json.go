package finding

import (
	"encoding/json"
	"io"
)

// WriteJSON writes the report for programs. The names of its fields are a public
// contract; lists are never null.
func (r *Report) WriteJSON(w io.Writer) error {
	report := *r
	report.Findings = append([]Finding{}, r.Findings...)
	report.Notes = append([]Note{}, r.Notes...)
	c := &report.Checked
	c.Clusters, c.Keys, c.Trails = append([]string{}, c.Clusters...), append([]string{}, c.Keys...), append([]string{}, c.Trails...)
	return writeJSON(w, report)
}

func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}
