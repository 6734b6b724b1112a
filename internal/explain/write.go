package explain

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/ekskms/ekskms/internal/terminal"
)

// WriteJSON writes the matrices with every action on its own.
func WriteJSON(w io.Writer, all []*Matrix) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(struct {
		Keys []*Matrix `json:"keys"`
	}{all})
}

// Layout is a matrix as people read it: principals have letters, conditions have
// numbers, and actions with the same answers share a line.
type Layout struct {
	*Matrix
	Lines      []Line
	Conditions []string
	by         [][]string
}

// Line is one of a layout. A cell is yes, -, deny, or the number of a condition.
type Line struct {
	Class   string
	Actions []string
	Cells   []string
}

// Layout lays the matrix out.
func (m *Matrix) Layout() *Layout {
	l := &Layout{Matrix: m, by: make([][]string, len(m.Principals))}
	for _, class := range []string{"cryptographic", "grants", "administration", "read"} {
		first := len(l.Lines)
		for _, row := range m.Rows {
			if string(row.Class) != class {
				continue
			}
			var cells []string
			for i, c := range row.Cells {
				cells = append(cells, l.mark(c))
				for _, by := range c.By {
					if !slices.Contains(l.by[i], by) {
						l.by[i] = append(l.by[i], by)
					}
				}
			}
			same := slices.IndexFunc(l.Lines[first:], func(o Line) bool { return slices.Equal(o.Cells, cells) })
			if same < 0 {
				l.Lines = append(l.Lines, Line{Class: class, Cells: cells})
				same = len(l.Lines) - 1 - first
			}
			l.Lines[first+same].Actions = append(l.Lines[first+same].Actions, row.Action)
		}
	}
	return l
}

func (l *Layout) mark(c Cell) string {
	switch c.Answer {
	case Yes:
		return "yes"
	case No:
		return "-"
	case Denied:
		return "deny"
	}
	text := c.text()
	i := slices.Index(l.Conditions, text)
	if i < 0 {
		i = len(l.Conditions)
		l.Conditions = append(l.Conditions, text)
	}
	return strconv.Itoa(i + 1)
}

// text says under which condition a cell is allowed.
func (c Cell) text() string {
	text := "always"
	if len(c.When) > 0 {
		text = "if " + ways(c.When)
	}
	if len(c.Unless) > 0 {
		text += "; unless " + ways(c.Unless)
	}
	return text
}

func ways(all [][]Condition) string {
	var either []string
	for _, way := range all {
		var each []string
		for _, c := range way {
			each = append(each, c.String())
		}
		either = append(either, strings.Join(each, " and "))
	}
	return strings.Join(either, "; or ")
}

// String writes a condition for people.
func (c Condition) String() string {
	values := strings.Join(c.Values, " or ")
	if c.Key == "" {
		return fmt.Sprintf("the key is %s %s", map[string]string{"Resource": "among", "NotResource": "not among"}[c.Operator], values)
	}
	return fmt.Sprintf("%s %s %s", c.Key, c.Operator, values)
}

// Letter names a principal by its position.
func Letter(i int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	if i < len(letters) {
		return letters[i : i+1]
	}
	return Letter(i/len(letters)-1) + Letter(i%len(letters))
}

// WriteText writes a matrix as a table, in several parts where it is too wide.
func (m *Matrix) WriteText(w io.Writer, style terminal.Style) error {
	l := m.Layout()
	var b strings.Builder
	line := func(first, rest, text string) { b.WriteString(style.Wrap(first, rest, text) + "\n") }
	b.WriteString(style.Paint(terminal.Bold, m.Title()) + "\n")
	b.WriteString("\n" + style.Paint(terminal.Bold, "Principals") + "\n")
	for i, p := range m.Principals {
		line(fmt.Sprintf("  %-3s ", Letter(i)), "      ", fmt.Sprintf("%s: %s%s", p.What, p.ARN, p.Others()))
		line("      ", "      ", fmt.Sprintf("IAM: %s. Decided by: %s", p.IAM, l.Decided(i)))
	}
	if m.left > 0 {
		line("  ", "  ", m.Others())
	}
	const column = 5
	actions, part := 58, len(m.Principals)
	if style.Width > 0 {
		actions = min(actions, max(style.Width-column*part, 40))
		part = max((style.Width-actions)/column, 1)
	}
	for from := 0; from < len(m.Principals); from += part {
		to := min(from+part, len(m.Principals))
		b.WriteString("\n" + l.table(style, actions, from, to))
	}
	b.WriteByte('\n')
	line("", "", "yes: allowed; -: not allowed; deny: denied whatever else allows it; a number: allowed under that condition")
	for i, c := range l.Conditions {
		line(fmt.Sprintf("  %-3d ", i+1), "      ", c)
	}
	for _, n := range m.Notes {
		line("note: ", "  ", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// table is the table of some of the principals.
func (l *Layout) table(style terminal.Style, wide, from, to int) string {
	var b strings.Builder
	row := func(first string, cells []string) {
		line := fmt.Sprintf("%-*s", wide, first)
		for _, c := range cells {
			line += fmt.Sprintf(" %-4s", c)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	var letters []string
	for i := range to - from {
		letters = append(letters, Letter(from+i))
	}
	row("Actions", letters)
	class := ""
	for _, line := range l.Lines {
		if line.Class != class {
			class = line.Class
			b.WriteString(style.Paint(terminal.Bold, class) + "\n")
		}
		text := wrap(line.Actions, wide-4)
		row("  "+text[0], line.Cells[from:to])
		for _, more := range text[1:] {
			b.WriteString("  " + more + "\n")
		}
	}
	return b.String()
}

// Others are those whom a brief matrix leaves out.
func (m *Matrix) Others() string {
	if m.left == 1 {
		return "and 1 principal that may do nothing (--all shows it)"
	}
	return fmt.Sprintf("and %d principals that may do nothing (--all shows them)", m.left)
}

// Others says that some who may do the same are left out.
func (p Principal) Others() string {
	if p.alike == 0 {
		return ""
	}
	return fmt.Sprintf(", and %d more that may do the same (--all shows them)", p.alike)
}

// Title names the key, and the case.
func (m *Matrix) Title() string {
	title := m.Key
	if m.Path != "" {
		title = m.Path + ", " + title
	}
	if m.In != "" {
		title += ", " + m.In
	}
	return title
}

// Decided says what decides on a principal.
func (l *Layout) Decided(i int) string {
	if len(l.by[i]) == 0 {
		return "nothing: no statement or grant allows it anything"
	}
	return strings.Join(l.by[i], ", ")
}

func wrap(words []string, wide int) []string {
	lines := []string{""}
	for i, w := range words {
		if i < len(words)-1 {
			w += ","
		}
		switch now := lines[len(lines)-1]; {
		case now == "":
			lines[len(lines)-1] = w
		case len(now)+1+len(w) > wide:
			lines = append(lines, w)
		default:
			lines[len(lines)-1] += " " + w
		}
	}
	return lines
}

// WriteMarkdown writes a matrix as a Markdown section.
func (m *Matrix) WriteMarkdown(w io.Writer) error {
	l := m.Layout()
	var b strings.Builder
	fmt.Fprintf(&b, "## Who may use %s\n\n", escape(m.Title()))
	b.WriteString("| | Principal | IAM policies | Decided by |\n| --- | --- | --- | --- |\n")
	for i, p := range m.Principals {
		fmt.Fprintf(&b, "| %s | %s: `%s`%s | %s | %s |\n", Letter(i), escape(p.What), p.ARN, p.Others(), escape(p.IAM), escape(l.Decided(i)))
	}
	if m.left > 0 {
		fmt.Fprintf(&b, "\n%s\n", m.Others())
	}
	b.WriteString("\n| Actions |")
	for i := range m.Principals {
		fmt.Fprintf(&b, " %s |", Letter(i))
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(m.Principals)) + "\n")
	for _, line := range l.Lines {
		fmt.Fprintf(&b, "| %s: `%s` | %s |\n", line.Class, strings.Join(line.Actions, "`, `"), strings.Join(line.Cells, " | "))
	}
	b.WriteString("\nyes: allowed; -: not allowed; deny: denied whatever else allows it; a number: allowed under that condition.\n")
	if len(l.Conditions) > 0 {
		b.WriteByte('\n')
	}
	for i, c := range l.Conditions {
		fmt.Fprintf(&b, "%d. %s\n", i+1, escape(c))
	}
	for _, n := range m.Notes {
		fmt.Fprintf(&b, "\nNote: %s\n", escape(n))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// escape keeps a text from being read as Markdown.
func escape(s string) string {
	return strings.NewReplacer("|", "\\|", "*", "\\*", "_", "\\_", "<", "&lt;", "`", "\\`", "\n", " ").Replace(s)
}
