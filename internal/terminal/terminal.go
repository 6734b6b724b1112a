// Package terminal knows how text looks where it goes: whether it has colour, and
// how many columns there are.
package terminal

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// Modes are the values of --color.
var Modes = []string{"auto", "always", "never"}

// Style is how text looks. The zero value is plain text without a limit.
type Style struct {
	Color bool
	// Width is the number of columns. 0 is no limit.
	Width int
}

// Of returns the style of what is written to w: colour on a terminal, unless
// NO_COLOR is set, or where CLICOLOR_FORCE is; the width of the terminal, or
// COLUMNS. mode is auto, always or never. Sources: no-color.org,
// bixense.com/clicolors.
func Of(w io.Writer, mode string, getenv func(string) string) Style {
	var s Style
	file, ok := w.(*os.File)
	on := ok && term.IsTerminal(int(file.Fd()))
	switch {
	case mode == "always" || mode == "never":
		s.Color = mode == "always"
	case getenv("NO_COLOR") != "":
	case getenv("CLICOLOR_FORCE") != "":
		s.Color = getenv("CLICOLOR_FORCE") != "0"
	default:
		s.Color = on && getenv("TERM") != "dumb" && getenv("CLICOLOR") != "0"
	}
	if n, err := strconv.Atoi(getenv("COLUMNS")); err == nil && n > 0 {
		s.Width = n
	} else if on {
		s.Width, _, _ = term.GetSize(int(file.Fd()))
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
			wide[i] = max(wide[i], width(cell))
		}
	}
	b := &strings.Builder{}
	for _, row := range rows {
		line := indent
		for i, cell := range row {
			if i == len(row)-1 {
				// Where little room is left, the last column has a line of its own.
				at := width(line)
				if s.Width > 0 && s.Width-at < 24 && at+width(cell) > s.Width {
					line = strings.TrimRight(line, " ") + "\n"
					at = width(indent) + 4
					b.WriteString(line)
					line = strings.Repeat(" ", at)
				}
				line = s.Wrap(line, strings.Repeat(" ", at), cell)
				continue
			}
			line += cell + strings.Repeat(" ", wide[i]-width(cell)+2)
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
