// Package finding is what the commands that judge have in common: rules, findings with
// their places, suppressions, and the report with its forms.
package finding

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says how much a finding matters.
type Severity int

// The severities, in rising order.
const (
	Low Severity = iota + 1
	Medium
	High
	Critical
)

var severityNames = map[Severity]string{Low: "low", Medium: "medium", High: "high", Critical: "critical"}

// String returns low, medium, high or critical.
func (s Severity) String() string { return severityNames[s] }

// MarshalText writes the severity as [Severity.String] does.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *Severity) UnmarshalText(text []byte) error {
	for severity, name := range severityNames {
		if name == string(text) {
			*s = severity
			return nil
		}
	}
	return fmt.Errorf("severity is %q, must be low, medium, high or critical", text)
}

// Control is a requirement of a published framework.
type Control struct {
	// Framework and its version, such as "NIST SP 800-53 Rev. 5".
	Framework string `json:"framework"`
	ID        string `json:"id"`
	Title     string `json:"title"`
	// Source is the address of the page that publishes the control.
	Source string `json:"source"`
	// Inferred tells that the framework does not name this fault: that the
	// control covers it is our reading.
	Inferred bool `json:"inferred,omitempty"`
}

// Rule is one thing that can be wrong. Its ID is a public contract: suppressions
// name it.
type Rule struct {
	ID, Title string
	Severity  Severity
	// Why says what can happen, and Fix what to change.
	Why, Fix string
	Controls []Control
}

// Place is where something stands.
type Place struct {
	// Resource is the construct path of CDK without a last "/Resource", or else
	// the logical ID.
	Resource  string `json:"resource"`
	LogicalID string `json:"logicalId"`
	Type      string `json:"type"`
	// Stack is the name of the stack, or of the template's file.
	Stack string `json:"stack"`
	// File is the template, or the configuration of which it is made. Line is that of the
	// resource, or of the field, from 1; 0 if it is not known.
	File string `json:"file"`
	Line int    `json:"line,omitempty"`
	// Field of the configuration. Empty for a template.
	Field string `json:"field,omitempty"`
}

// Finding is a fault.
type Finding struct {
	// Rule is the rule's ID.
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	Place
	// Message names the value that is wrong.
	Message  string    `json:"message"`
	Why      string    `json:"why"`
	Fix      string    `json:"fix"`
	Controls []Control `json:"controls"`
	// Suppressed is the reason of the suppression that covers the finding. Empty
	// if none does.
	Suppressed string `json:"suppressed,omitempty"`
}

func (f Finding) same(o Finding) bool {
	return o.Rule == f.Rule && o.Resource == f.Resource && o.Stack == f.Stack && o.Message == f.Message
}

// Note says what could not be judged, or what a reader must know to judge the
// report.
type Note struct {
	// Resource is the path of the resource. Empty if the note is of the whole.
	Resource string `json:"resource,omitempty"`
	Message  string `json:"message"`
}

// Checked lists what was looked at, by path.
type Checked struct {
	// Clusters are all EKS clusters. Keys are those keys of the template that
	// encrypt a cluster's secrets, its logs or a trail.
	Clusters []string `json:"clusters"`
	Keys     []string `json:"keys"`
	Trails   []string `json:"trails"`
	// Manifests counts the Kubernetes objects in the templates.
	Manifests int `json:"manifests"`
}

func (c *Checked) add(o Checked) {
	for _, list := range []struct {
		to   *[]string
		from []string
	}{{&c.Clusters, o.Clusters}, {&c.Keys, o.Keys}, {&c.Trails, o.Trails}} {
		for _, path := range list.from {
			if !slices.Contains(*list.to, path) {
				*list.to = append(*list.to, path)
			}
		}
	}
}

// Report is what [Run] found.
type Report struct {
	// Tool is the name of the program for the reader, and Rules are all that it
	// could have found.
	Tool  string `json:"-"`
	Rules []Rule `json:"-"`
	// Findings, the worst first, then by resource, rule and message.
	Findings []Finding `json:"findings"`
	Notes    []Note    `json:"notes"`
	Checked  Checked   `json:"checked"`
}

// Count returns the number of findings that are not suppressed, of a severity or
// worse.
func (r *Report) Count(atLeast Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Suppressed == "" && f.Severity >= atLeast {
			n++
		}
	}
	return n
}

// Add reports a finding once.
func (r *Report) Add(rule Rule, at Place, format string, args ...any) {
	f := Finding{
		Rule: rule.ID, Severity: rule.Severity, Place: at, Message: fmt.Sprintf(format, args...), Why: rule.Why, Fix: rule.Fix, Controls: rule.Controls,
	}
	r.add(f)
}

func (r *Report) add(f Finding) {
	if !slices.ContainsFunc(r.Findings, f.same) {
		r.Findings = append(r.Findings, f)
	}
}

// NoteAt notes something once.
func (r *Report) NoteAt(resource, format string, args ...any) {
	r.note(Note{resource, fmt.Sprintf(format, args...)})
}

func (r *Report) note(n Note) {
	if !slices.Contains(r.Notes, n) {
		r.Notes = append(r.Notes, n)
	}
}

// Reword changes the messages of all findings and notes.
func (r *Report) Reword(change func(string) string) {
	for i := range r.Findings {
		r.Findings[i].Message = change(r.Findings[i].Message)
	}
	for i := range r.Notes {
		r.Notes[i].Message = change(r.Notes[i].Message)
	}
}

// Append adds the reports on parts of the same thing.
func (r *Report) Append(parts []*Report) {
	for _, part := range parts {
		for _, f := range part.Findings {
			r.add(f)
		}
		for _, n := range part.Notes {
			r.note(n)
		}
		r.Checked.add(part.Checked)
		r.Checked.Manifests += part.Checked.Manifests
	}
}

// Merge joins the reports on several cases of the same thing. When says in words in which of
// them something holds, and nothing if it is all.
func Merge(reports []*Report, when func(holds func(i int) bool) string) *Report {
	merged := *reports[0]
	if len(reports) == 1 {
		return &merged
	}
	merged.Findings, merged.Notes, merged.Checked = nil, nil, Checked{}
	words := func(message string, holds func(i int) bool) string {
		if in := when(holds); in != "" {
			return message + " (" + in + ")"
		}
		return message
	}
	for n, r := range reports {
		for _, f := range r.Findings {
			if slices.ContainsFunc(reports[:n], func(r *Report) bool { return slices.ContainsFunc(r.Findings, f.same) }) {
				continue
			}
			of := f
			f.Message = words(f.Message, func(i int) bool { return slices.ContainsFunc(reports[i].Findings, of.same) })
			merged.Findings = append(merged.Findings, f)
		}
		for _, note := range r.Notes {
			if slices.ContainsFunc(reports[:n], func(r *Report) bool { return slices.Contains(r.Notes, note) }) {
				continue
			}
			of := note
			note.Message = words(note.Message, func(i int) bool { return slices.Contains(reports[i].Notes, of) })
			merged.Notes = append(merged.Notes, note)
		}
		merged.Checked.add(r.Checked)
		merged.Checked.Manifests = max(merged.Checked.Manifests, r.Checked.Manifests)
	}
	return &merged
}

// Sort brings the findings in their order.
func (r *Report) Sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(b.Severity, a.Severity), cmp.Compare(a.Stack, b.Stack), cmp.Compare(a.Resource, b.Resource),
			cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message))
	})
}

// Suppression accepts findings, for a reason.
type Suppression struct {
	// ID of the rule.
	ID string
	// Resource is a path, or the start of one up to a slash, a logical ID, or a stack.
	// Default: every resource.
	Resource string
	// Reason is for the reader of the report. Required.
	Reason string
	// On is the resource that carries the suppression, for which alone it is then.
	On *Place
}

// covers tells whether the suppression is for the finding.
func (s Suppression) covers(f Finding) bool {
	if s.On != nil && (s.On.LogicalID != f.LogicalID || s.On.Stack != f.Stack) {
		return false
	}
	// Paths of CDK often end so; those of findings do not.
	at := strings.TrimSuffix(strings.TrimSuffix(s.Resource, "/"), "/Resource")
	return s.ID == f.Rule && (at == "" || at == f.Resource || at == f.LogicalID || at == f.Stack || strings.HasPrefix(f.Resource, at+"/"))
}

// Suppress marks what is accepted, with the reason of the first suppression that covers
// it. It returns those that cover nothing.
func (r *Report) Suppress(all []Suppression) (unused []Suppression) {
	for _, s := range all {
		used := false
		for i := range r.Findings {
			if f := &r.Findings[i]; s.covers(*f) {
				used = true
				f.Suppressed = cmp.Or(f.Suppressed, s.Reason)
			}
		}
		if !used {
			unused = append(unused, s)
		}
	}
	return unused
}
