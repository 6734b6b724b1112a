package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// Fault is one thing that is wrong with a file.
type Fault struct {
	File string
	// Line and Column count from 1. Column is 0 where only the line is known.
	Line, Column int
	// Path of the field, such as clusters[0].key.arn. Empty for the file as a whole.
	Path string
	// Value as it stands in the file, shortened. Empty where there is none.
	Value string
	// Message says what is allowed instead.
	Message string
	// Clusters are the names of those that have the fault, where there are others.
	Clusters []string
}

func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.File + ":" + strconv.Itoa(f.Line) + ": ")
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	if f.Value != "" {
		b.WriteString(f.Value + ": ")
	}
	b.WriteString(f.Message)
	switch n := len(f.Clusters); {
	case n == 1:
		b.WriteString(" (cluster " + printable(f.Clusters[0]) + ")")
	case n > 1:
		b.WriteString(" (" + strconv.Itoa(n) + " clusters, " + printable(f.Clusters[0]) + " first)")
	}
	return b.String()
}

// Faults is everything that is wrong with a file, or with files that merge, in the
// order of their lines.
type Faults []Fault

// Error gives each fault a line of its own.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

func (fs Faults) sort(sources []Source) {
	file := func(f Fault) int {
		return slices.IndexFunc(sources, func(s Source) bool { return s.Name == f.File })
	}
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(file(a), file(b)), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// show renders a value for a message, on one line whatever is in it.
func show(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "*" + printable(n.Value)
	}
	if n.Value == "" && n.ShortTag() == "!!str" {
		return `""`
	}
	return printable(n.Value)
}

func shorten(s string) string {
	const limit = 100
	n := 0
	for i := range s {
		if n++; n > limit {
			return s[:i] + "..."
		}
	}
	return s
}

func printable(s string) string {
	s = shorten(s)
	if strings.TrimSpace(s) != s || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// join appends a field to a path. Only the keys of a map can need quotes.
func join(path, name string) string {
	name = shorten(name)
	for _, r := range name {
		if r != '_' && r != '-' && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r)) {
			return path + "[" + strconv.Quote(name) + "]"
		}
	}
	switch {
	case name == "":
		return path + `[""]`
	case path == "":
		return name
	}
	return path + "." + name
}

// nearest returns the name that a misspelt one was probably meant to be, or "".
func nearest(name string, names []string) string {
	best, limit := "", max(1, min(3, len(name)/3))
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return n
		}
		// Names of very different lengths can't be near, and a name in a
		// hostile file may be a megabyte long.
		if len(name)-len(n) > limit || len(n)-len(name) > limit {
			continue
		}
		if d := distance(name, n); d <= limit {
			best, limit = n, d-1
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with their
// neighbour to get from a to b.
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
