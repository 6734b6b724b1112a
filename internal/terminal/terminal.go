// Package terminal knows how text looks where it goes: whether it has colour, and
// how many columns there are.
package terminal

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Modes are the values of --color.
var Modes = []string{"auto", "always", "never"}

// Style is how text looks. The zero value is plain text without a limit.
type Style struct {
	Color bool
	// Width is the number of columns. 0 is no limit.
	Width int
}

// Of returns the style of an output that is a terminal or not: colour on a terminal,
// unless NO_COLOR is set, or where CLICOLOR_FORCE is. mode is auto, always or never.
// columns is the width of the terminal, for which COLUMNS stands if it is set. Sources:
// no-color.org, bixense.com/clicolors.
func Of(isTerminal bool, columns int, mode string, getenv func(string) string) Style {
	s := Style{Width: columns}
	switch {
	case mode == "always" || mode == "never":
		s.Color = mode == "always"
	case getenv("NO_COLOR") != "":
	case getenv("CLICOLOR_FORCE") != "":
		s.Color = getenv("CLICOLOR_FORCE") != "0"
	default:
		s.Color = isTerminal && getenv("TERM") != "dumb" && getenv("CLICOLOR") != "0"
	}
	if n, err := strconv.Atoi(getenv("COLUMNS")); err == nil && n > 0 {
		s.Width = n
	}
	return s
}

// Color is one of the colours that can be read on light and on dark ground.
type Color string

// The colours.
const (
	Bold    Color = "1"
	Dim     Color = "2"
	Red     Color = "31"
	Green   Color = "32"
	Magenta Color = "35"
	Alarm   Color = "1;31"
)

// Paint returns the text in a colour, if there are colours.
func (s Style) Paint(c Color, text string) string {
	if !s.Color || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// Wrap breaks a text between words, and puts first before its first line and rest
// before the others. A word that is wider than a line stays whole: it may be copied.
func (s Style) Wrap(first, rest, text string) string {
	if s.Width == 0 {
		return first + text
	}
	b := &strings.Builder{}
	b.WriteString(first)
	at, begun := width(first), false
	for word := range strings.FieldsSeq(text) {
		n := width(word)
		switch {
		case !begun:
		case at+1+n > s.Width:
			b.WriteString("\n" + rest)
			at = width(rest)
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at, begun = at+n, true
	}
	return b.String()
}

// Text sets paragraphs, whose lines are joined and broken again. Lines that begin with
// a space stay as they are.
func (s Style) Text(text string) string {
	if s.Width == 0 {
		return text
	}
	var lines, paragraph []string
	flush := func() {
		if len(paragraph) > 0 {
			lines = append(lines, s.Wrap("", "", strings.Join(paragraph, " ")))
		}
		paragraph = nil
	}
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" || line[0] == ' ' {
			flush()
			lines = append(lines, line)
			continue
		}
		paragraph = append(paragraph, line)
	}
	flush()
	return strings.Join(lines, "\n")
}

// Table writes rows of cells in columns, two spaces apart. What does not fit wraps
// in the last column.
func (s Style) Table(indent string, rows [][]string) string {
	var wide []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(wide) {
				wide = append(wide, 0)
			}
			// A cell that takes too much has its line to itself.
			if n := width(cell); s.Width == 0 || n <= s.Width/3 {
				wide[i] = max(wide[i], n)
			}
		}
	}
	b := &strings.Builder{}
	for _, row := range rows {
		line := indent
		for i, cell := range row {
			if i == len(row)-1 {
				// Where little room is left, the last column has a line of its own.
				at := width(line)
				full := s.Width > 0 && i > 0 && width(row[i-1]) > wide[i-1]
				if full || s.Width > 0 && s.Width-at < 24 && at+width(cell) > s.Width {
					line = strings.TrimRight(line, " ") + "\n"
					at = width(indent) + 4
					b.WriteString(line)
					line = strings.Repeat(" ", at)
				}
				line = s.Wrap(line, strings.Repeat(" ", at), cell)
				continue
			}
			line += cell + strings.Repeat(" ", max(wide[i]-width(cell), 0)+2)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// width is the number of columns of a text, in which colours take none.
func width(text string) int {
	n := utf8.RuneCountInString(text)
	for {
		_, after, ok := strings.Cut(text, "\x1b[")
		if !ok {
			return n
		}
		code, rest, _ := strings.Cut(after, "m")
		n -= len(code) + 3
		text = rest
	}
}
