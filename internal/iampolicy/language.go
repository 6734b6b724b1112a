package iampolicy

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
)

// language is a set of texts: a regular expression without anchors, which a text
// matches as a whole. It is an automaton that is built as far as it is walked.
type language struct {
	expression string
	prog       *syntax.Prog
	edges      []rune // where a class of characters begins that it does not tell apart
	states     []state
	index      map[string]int32
}

type state struct {
	at     []uint32 // instructions, sorted
	accept bool
	next   []int32 // by class; 0 while not known
}

// The states of every language: out of dead, nothing is in it; start is that before the
// first character. None leads back to it.
const (
	dead  = int32(1)
	start = int32(2)
)

func newLanguage(expression string) *language {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		panic(fmt.Sprintf("iampolicy: %s: %v", expression, err)) // made here, with what is foreign quoted
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		panic(fmt.Sprintf("iampolicy: %s: %v", expression, err))
	}
	l := &language{expression: expression, prog: prog, index: map[string]int32{}, states: make([]state, 1), edges: edgesOf(prog)}
	l.state(nil)
	l.index[" "] = start
	at := l.follow(nil, uint32(prog.Start)) //nolint:gosec // an index
	l.states = append(l.states, l.newState(at))
	return l
}

// state is the number of a set of instructions.
func (l *language) state(at []uint32) int32 {
	slices.Sort(at)
	at = slices.Compact(at)
	id := make([]byte, 0, 4*len(at))
	for _, pc := range at {
		id = binary.LittleEndian.AppendUint32(id, pc)
	}
	if n, known := l.index[string(id)]; known {
		return n
	}
	n := int32(len(l.states)) //nolint:gosec // bounded by those who walk
	l.states = append(l.states, l.newState(at))
	l.index[string(id)] = n
	return n
}

func (l *language) newState(at []uint32) state {
	accept := slices.ContainsFunc(at, func(pc uint32) bool { return l.prog.Inst[pc].Op == syntax.InstMatch })
	return state{at: at, accept: accept, next: make([]int32, len(l.edges))}
}

// follow adds an instruction and what follows it without a character.
func (l *language) follow(at []uint32, pc uint32) []uint32 {
	if slices.Contains(at, pc) {
		return at
	}
	at = append(at, pc)
	switch i := l.prog.Inst[pc]; i.Op {
	case syntax.InstAlt, syntax.InstAltMatch:
		return l.follow(l.follow(at, i.Out), i.Arg)
	case syntax.InstCapture, syntax.InstNop, syntax.InstEmptyWidth:
		return l.follow(at, i.Out)
	}
	return at
}

// class is the number of the class that a character is in.
func (l *language) class(r rune) int {
	i, ok := slices.BinarySearch(l.edges, r)
	if !ok {
		i--
	}
	return i
}

func (l *language) step(from int32, class int) int32 {
	if to := l.states[from].next[class]; to != 0 {
		return to
	}
	var at []uint32
	for _, pc := range l.states[from].at {
		if i := &l.prog.Inst[pc]; isRune(i.Op) && i.MatchRune(l.edges[class]) {
			at = l.follow(at, i.Out)
		}
	}
	to := l.state(at)
	l.states[from].next[class] = to
	return to
}

func isRune(op syntax.InstOp) bool {
	return op == syntax.InstRune || op == syntax.InstRune1 || op == syntax.InstRuneAny || op == syntax.InstRuneAnyNotNL
}

// edgesOf are the characters at which instructions begin or cease to take them.
func edgesOf(prog *syntax.Prog) []rune {
	edges := map[rune]bool{0: true, '\n': true, '\n' + 1: true}
	from := func(first, last rune) { edges[first], edges[last+1] = true, true }
	for _, i := range prog.Inst {
		if !isRune(i.Op) {
			continue
		}
		if len(i.Rune) == 1 {
			from(i.Rune[0], i.Rune[0])
			for r := unicode.SimpleFold(i.Rune[0]); r != i.Rune[0]; r = unicode.SimpleFold(r) {
				from(r, r)
			}
		}
		for k := 0; k+1 < len(i.Rune); k += 2 {
			from(i.Rune[k], i.Rune[k+1])
		}
	}
	delete(edges, unicode.MaxRune+1)
	return slices.Sorted(maps.Keys(edges))
}

// product walks several languages at once.
type product struct {
	all     []*language
	letters []rune  // one of each class that no language tells apart, those that read best first
	classes [][]int // of each letter, the class in each language
	nodes   []node
	states  []int32 // of each node, a state for each language
	seen    map[string]bool
	id      []byte
}

type node struct {
	parent int32
	letter rune
}

func newProduct(all []*language) *product {
	p := &product{all: all, seen: map[string]bool{}, id: make([]byte, 4*len(all))}
	edges := map[rune]bool{}
	for _, l := range all {
		for _, r := range l.edges {
			edges[r] = true
		}
	}
	for _, r := range "a{A[0: ~" { // so that a class that has such characters is stood for by one of them
		edges[r] = true
	}
	rank := func(r rune) int {
		switch {
		case r >= 'a' && r <= 'z':
			return 0
		case r >= '0' && r <= '9':
			return 1
		case r >= 'A' && r <= 'Z':
			return 2
		case r > ' ' && r <= '~':
			return 3
		}
		return 4
	}
	p.letters = slices.SortedFunc(maps.Keys(edges), func(a, b rune) int { return cmp.Or(rank(a)-rank(b), int(a-b)) })
	for _, r := range p.letters {
		classes := make([]int, len(all))
		for i, l := range all {
			classes[i] = l.class(r)
		}
		p.classes = append(p.classes, classes)
	}
	first := make([]int32, len(all))
	for i := range first {
		first[i] = start
	}
	p.add(-1, 0, first)
	return p
}

func (p *product) add(parent int32, letter rune, states []int32) {
	for i, s := range states {
		binary.LittleEndian.PutUint32(p.id[4*i:], uint32(s)) //nolint:gosec // not negative
	}
	if !p.seen[string(p.id)] {
		p.seen[string(p.id)] = true
		p.nodes, p.states = append(p.nodes, node{parent, letter}), append(p.states, states...)
	}
}

// walk visits the nodes, those of the shortest texts first, until it is told to end, and
// is false if there are too many. Where one of the languages that must hold the text
// can't any more, it goes no further.
func (p *product) walk(must int, most int, visit func(n int, states []int32) (end bool)) bool {
	width := len(p.all)
	next := make([]int32, width)
	for n := 0; n < len(p.nodes); n++ {
		if n > most {
			return false
		}
		if visit(n, p.states[n*width:(n+1)*width]) {
			return true
		}
	letters:
		for k, r := range p.letters {
			at := p.states[n*width : (n+1)*width]
			for i, l := range p.all {
				if next[i] = l.step(at[i], p.classes[k][i]); next[i] == dead && i < must {
					continue letters
				}
			}
			p.add(int32(n), r, next)
		}
	}
	return true
}

// text is that which leads to a node.
func (p *product) text(n int) string {
	var text []rune
	for at := p.nodes[n]; at.parent >= 0; at = p.nodes[at.parent] {
		text = append(text, at.letter)
	}
	slices.Reverse(text)
	return string(text)
}

// mostStates bounds the work on one question: far more than a policy of 32 KB takes.
const mostStates = 100_000

// word returns the shortest text that is in all of the one and in none of the other. It
// is not complete if it gave up.
func word(in, out []*language) (text string, found, complete bool) {
	p := newProduct(slices.Concat(in, out))
	complete = p.walk(len(in), mostStates, func(n int, states []int32) bool {
		for i, s := range states {
			if p.all[i].states[s].accept != (i < len(in)) {
				return false
			}
		}
		text, found = p.text(n), true
		return true
	})
	return text, found, complete
}

// minterm is a class of texts that some languages do not tell apart.
type minterm struct {
	text string // the shortest
	in   []bool // by language
}

// minterms divides the texts of a format by the languages that they are in: each
// class that has a text is there once, with its shortest. It is not complete if there
// are too many states to look at.
func minterms(format *language, of []*language) (classes []minterm, complete bool) {
	p := newProduct(append([]*language{format}, of...))
	found := map[string]bool{}
	complete = p.walk(1, mostStates/10, func(n int, states []int32) bool {
		if !format.states[states[0]].accept {
			return false
		}
		in := make([]bool, len(of))
		for i, l := range of {
			in[i] = l.states[states[i+1]].accept
		}
		if sign := fmt.Sprint(in); !found[sign] {
			found[sign] = true
			classes = append(classes, minterm{p.text(n), in})
		}
		return false
	})
	return classes, complete
}

// has tells whether a text is in the language.
func (l *language) has(text string) bool {
	at := start
	for _, r := range text {
		at = l.step(at, l.class(r))
	}
	return l.states[at].accept
}

// expression is the regular expression of a pattern, in which a wildcard stands for
// what the class says.
func (p pattern) expression(class string) string {
	var b strings.Builder
	for _, g := range p {
		switch {
		case g.wild && g.r == '*':
			b.WriteString(class + "*")
		case g.wild:
			b.WriteString(class)
		default:
			b.WriteString(regexp.QuoteMeta(string(g.r)))
		}
	}
	return b.String()
}

const (
	anyCharacter = `(?s:.)`
	inSegment    = `[^:]`
	noText       = `[^\x00-\x{10FFFF}]`
)

// expression is the set of texts that meet an operator's value, or false for an
// operator that does not compare texts.
func (t test) expression(want pattern) (string, bool) {
	switch t.name {
	case "StringEquals":
		return regexp.QuoteMeta(want.String()), true
	case "StringEqualsIgnoreCase":
		return `(?i:` + regexp.QuoteMeta(want.String()) + `)`, true
	case "StringLike":
		return want.expression(anyCharacter), true
	case "ArnLike":
		parts := want.segments(6)
		if len(parts) < 6 {
			return noText, true
		}
		var all []string
		for i, p := range parts {
			class := inSegment
			if i == 5 {
				class = anyCharacter
			}
			all = append(all, p.expression(class))
		}
		return strings.Join(all, ":"), true
	}
	return "", false
}
