package iampolicy

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// choice is the values of a condition key in one request, or nil where it is absent.
type choice = Values

// span is a condition key of the requests, as the requirements on it divide its values.
// Texts are sets of texts, of which one is only looked for once it is known what it must
// be. Other values are chosen beforehand: one of each kind that is told apart.
type span struct {
	key string // in small letters
	// met says of each requirement, by its text, with which choices it is met.
	choices []choice
	met     map[string][]bool
	// texts says so of texts, all of which are of the format.
	format *language
	texts  map[string]textual
}

// textual is what a requirement says of a key with one text.
type textual struct {
	absent bool // whether it is met without the key
	in     *language
	// negated is met by what is not in the language.
	negated bool
}

// decider answers questions about requests for one key whose context is open. What it has
// found out about the values of a condition key it keeps.
type decider struct {
	key       string
	spans     map[string]*span
	languages map[string]*language
	words     map[string]string // by what is in and out; those without a text are empty
	// incomplete says what was not decided whole.
	incomplete map[string]bool
}

func newDecider(key string) *decider {
	return &decider{key: key, spans: map[string]*span{}, languages: map[string]*language{}, words: map[string]string{}, incomplete: map[string]bool{}}
}

func (d *decider) language(expression string) *language {
	l, known := d.languages[expression]
	if !known {
		l = newLanguage(expression)
		d.languages[expression] = l
	}
	return l
}

// Bounds, far above what policies come to: the sets of values of one key, the steps of
// one search, and what is chosen before one.
const (
	mostSets    = 2048
	mostSteps   = 50_000
	mostChoices = 4096
)

// find returns the context of a request that one of the ways allows, that none of the
// denials is met by, and that others refuse: none of their ways allows it, or one of
// their denials is met. Without others all is refused. Nil if there is no such request.
// Of the keys in fixed the request has the values that stand there.
func (d *decider) find(h template, fixed Context, ways, denials []Path, others *Outcome) (found Context) {
	all := slices.Concat(ways, denials)
	if others != nil {
		all = slices.Concat(all, others.Allow, others.Deny)
	}
	d.each(h, fixed, all, func(s *search) bool {
		all, some := s.all()
		for _, way := range ways {
			within, possible := s.within(all, way)
			switch {
			case !some || !possible:
			case others == nil:
				found = s.avoiding(within, denials)
			default:
				found = s.avoiding(within, slices.Concat(denials, others.Allow))
				for _, deny := range others.Deny {
					if denied, possible := s.within(within, deny); possible && found == nil {
						found = s.avoiding(denied, denials)
					}
				}
			}
			if found != nil {
				return true
			}
		}
		return false
	})
	return found
}

// each makes a search for each choice of the keys to which others refer: those that
// policy variables name, and the list of the encryption context's keys.
func (d *decider) each(h template, fixed Context, paths []Path, do func(*search) bool) {
	byKey := map[string][]Requirement{}
	refers := map[string][]string{} // what variables name, and the keys that are compared with it
	seen := map[string]bool{}
	for _, p := range paths {
		for _, q := range p.Conditions {
			if seen[q.text()] {
				continue
			}
			seen[q.text()] = true
			key := h.spanOf(q.Key)
			byKey[key] = append(byKey[key], q)
			for _, name := range q.variables() {
				name = h.spanOf(name)
				refers[name] = append(refers[name], key)
			}
		}
	}
	if len(byKey[contextKeys]) > 0 {
		refers[contextKeys] = append(refers[contextKeys], contextKeys)
	}
	keys := map[string]bool{}
	for key := range byKey {
		keys[key] = true
	}
	given := maps.Clone(fixed)
	if given == nil {
		given = Context{}
	}
	for name := range refers {
		keys[name] = true
		if values, ok := h.known(name); ok {
			given[name] = values
		}
	}
	var first []*span
	product := 1
	for _, name := range slices.Sorted(maps.Keys(refers)) {
		if _, ok := given[name]; ok {
			continue
		}
		// A value that the other key is compared with is a value of its own here.
		more := Values{}
		for _, key := range refers[name] {
			for _, q := range byKey[key] {
				if q.Key != "" && key != contextKeys && len(q.variables()) == 0 {
					more = append(more, q.Values...)
				}
				d.note(slices.ContainsFunc(q.Values, func(v string) bool {
					return variableInText.MatchString(v) && !wholeVariable.MatchString(v) && len(q.variables()) > 0
				}), "a policy variable within a longer text")
			}
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if pair, ok := strings.CutPrefix(key, contextPrefix); ok && name == contextKeys {
				more = append(more, pair)
			}
		}
		s := d.span(h, name, byKey[name], more, nil)
		product *= len(s.choices)
		first = append(first, s)
	}
	d.note(product > mostChoices, "the values of "+strings.Join(slices.Sorted(maps.Keys(refers)), ", "))
	steps, tries := 0, 0
	var choose func(i int) bool
	choose = func(i int) bool {
		if i < len(first) {
			key := first[i].key
			defer delete(given, key)
			return slices.ContainsFunc(first[i].choices, func(c choice) bool {
				given[key] = c
				if key == callerText {
					h.derive(given)
				}
				return choose(i + 1)
			})
		}
		if tries++; tries > mostChoices {
			return true
		}
		if !consistent(given) {
			return false
		}
		s := &search{decider: d, of: h, steps: &steps, given: given, at: map[string]int{}, constant: map[string]bool{}}
		for _, key := range slices.Sorted(maps.Keys(byKey)) {
			if key == "" {
				for _, q := range byKey[key] {
					s.constant[q.text()] = d.meets(q, given)
				}
				continue
			}
			s.at[key] = len(s.spans)
			s.spans = append(s.spans, d.span(h, key, byKey[key], nil, given))
		}
		return do(s)
	}
	choose(0)
}

// consistent tells whether a request can have what is given: the list of the keys of the
// encryption context names those that are there.
func consistent(given Context) bool {
	listed, ok := given[contextKeys]
	for key, values := range given {
		if pair, ofContext := strings.CutPrefix(key, contextPrefix); ok && ofContext && lists(listed, pair) != (values != nil) {
			return false
		}
	}
	return true
}

// lists tells whether a list of keys of an encryption context has one, in whatever case.
func lists(keys Values, key string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, key) })
}

func (d *decider) note(ok bool, what string) {
	if ok {
		d.incomplete[what] = true
	}
}

var (
	variableInText = regexp.MustCompile(`\$\{([^}]*)\}`)
	wholeVariable  = regexp.MustCompile(`^\$\{[^}]*\}$`)
)

// variables are the condition keys to which the values refer, in small letters.
func (q Requirement) variables() (names []string) {
	for _, v := range q.Values {
		for _, m := range variableInText.FindAllStringSubmatch(v, -1) {
			if name, _, _ := strings.Cut(m[1], ","); strings.Contains(name, ":") {
				names = append(names, strings.ToLower(strings.TrimSpace(name)))
			}
		}
	}
	return names
}

// everyKey stands for an action that carries all condition keys.
var everyKey = func() (a KMSAction) {
	for _, action := range KMSActions {
		a.Keys = append(a.Keys, action.Keys...)
	}
	return a
}()

// meets tells whether a request with a context meets a requirement, which Explain has
// read and left open.
func (d *decider) meets(q Requirement, context Context) bool {
	f := &facts{context: context, action: everyKey, everything: true}
	met, err := no, error(nil)
	if q.Key == "" {
		j := judge{facts: f, key: d.key}
		if met, err = j.resource(q.Values, true); q.Operator == OperatorNotResource {
			met = met.not()
		}
	} else {
		met, err = f.meets(q.Operator, q.Key, q.Values, true)
	}
	return err == nil && met == yes
}

// span divides the values of a key by the requirements. given are the values of other
// keys, to which variables may refer. With further texts, even none, others refer to the
// key, and its values are chosen beforehand.
func (d *decider) span(h template, key string, of []Requirement, more Values, given Context) *span {
	id := fmt.Sprintf("%s %s %v %q", key, h.format, more == nil, more)
	for _, q := range of {
		id += "\n" + q.text()
		for _, name := range q.variables() {
			id += fmt.Sprintf("%q", given[name])
		}
	}
	values, isGiven := given[key]
	if s, known := d.spans[id]; known && !isGiven {
		return s
	}
	s := &span{key: key, met: map[string][]bool{}}
	switch {
	case isGiven:
		s.choices = []choice{values}
	case more == nil && d.textual(h, s, of, given):
		d.spans[id] = s
		return s
	default:
		s.choices = d.choices(h, key, of, more, given)
	}
	context := maps.Clone(given)
	if context == nil {
		context = Context{}
	}
	signs := make([]string, len(s.choices))
	for i, c := range s.choices {
		if strings.HasPrefix(key, contextPrefix) { // whether it is there is told by the list of keys too
			signs[i] = strconv.FormatBool(c == nil)
		}
	}
	for _, q := range of {
		met := make([]bool, len(s.choices))
		for i, c := range s.choices {
			context[key] = c
			if key == callerText {
				h.derive(context)
			}
			met[i] = d.meets(q, context)
			signs[i] += strconv.FormatBool(met[i])
		}
		s.met[q.text()] = met
	}
	if !isGiven {
		if more == nil {
			s.reduce(signs)
		}
		d.spans[id] = s
	}
	return s
}

// textual makes a span of texts, if all requirements compare one text.
func (d *decider) textual(h template, s *span, of []Requirement, given Context) bool {
	if slices.Contains(multiValued, s.key) {
		return false
	}
	texts := map[string]textual{}
	for _, q := range of {
		t, err := parseOperator(q.Operator)
		if err != nil || t.set != "" && !slices.Contains(singleValued, s.key) || t.name == "" && !t.null {
			return false
		}
		if t.null {
			// "true" is that the key is not there.
			texts[q.text()] = textual{absent: slices.Contains(q.Values, "true"), in: d.language(noText), negated: slices.Contains(q.Values, "false")}
			continue
		}
		expression, ok := d.expression(h, q, t, given)
		if !ok {
			return false
		}
		context := maps.Clone(given)
		delete(context, s.key)
		texts[q.text()] = textual{absent: d.meets(q, context), in: d.language(expression), negated: t.negated}
	}
	s.texts, s.format = texts, d.language(h.formatOf(s.key))
	return true
}

// expression is the set of texts that equal one of the values, or false where the
// operator compares no texts.
func (d *decider) expression(h template, q Requirement, t test, given Context) (string, bool) {
	var either []string
	for _, v := range q.Values {
		p, known, err := (&facts{context: given, action: everyKey, everything: true}).text(v, true)
		if err != nil || known != yes {
			continue // a variable without a value: nothing equals it
		}
		expression, ok := t.expression(p)
		if !ok {
			return "", false
		}
		either = append(either, h.ofCaller(strings.ToLower(q.Key), expression))
	}
	return `(?:` + strings.Join(append(either, noText), `|`) + `)`, true
}

// reduce keeps the first of the choices that meet the same.
func (s *span) reduce(signs []string) {
	seen, kept := map[string]bool{}, make([]bool, len(signs))
	for i, sign := range signs {
		kept[i] = !seen[sign]
		seen[sign] = true
	}
	s.choices = only(s.choices, kept)
	for text := range s.met {
		s.met[text] = only(s.met[text], kept)
	}
}

func only[T any](list []T, kept []bool) (left []T) {
	for i, v := range list {
		if kept[i] {
			left = append(left, v)
		}
	}
	return left
}

// choices are the absence of a key, and values of which there is one of each kind that
// the requirements, and further texts, can tell from the others.
func (d *decider) choices(h template, key string, of []Requirement, more Values, given Context) []choice {
	var languages []*language
	var values Values
	several := slices.Contains(multiValued, key)
	for _, q := range of {
		t, err := parseOperator(q.Operator)
		if err != nil || t.null {
			continue // Explain has refused what it does not know
		}
		several = several || t.set != "" && !slices.Contains(singleValued, key)
		for _, v := range q.Values {
			if t.read != nil {
				values = append(values, t.around(v, q.Values)...)
				continue
			}
			q.Values = Values{v}
			if expression, ok := d.expression(h, q, t, given); ok {
				languages = append(languages, d.language(expression))
			}
		}
	}
	for _, v := range more {
		languages = append(languages, d.language(`(?i:`+regexp.QuoteMeta(v)+`)`), d.language(regexp.QuoteMeta(v)))
	}
	if len(languages) > 0 || len(values) == 0 {
		classes, complete := minterms(d.language(h.formatOf(key)), languages)
		d.note(!complete, "the patterns of "+key)
		for _, c := range classes {
			values = append(values, c.text)
		}
	}
	all := []choice{nil}
	if key == callerText {
		all = nil
	}
	for _, v := range values {
		all = append(all, Values{v})
	}
	if several {
		all = append(all, d.sets(key, values)...)
	}
	return all
}

// sets are those of at least two values, the smaller first.
func (d *decider) sets(key string, values Values) (all []choice) {
	var add func(set Values, from, size int)
	add = func(set Values, from, size int) {
		if size == 0 {
			if len(all) < mostSets {
				all = append(all, slices.Clone(set))
			}
			return
		}
		for i := from; i <= len(values)-size; i++ {
			twice := func(v string) bool { return key == contextKeys && strings.EqualFold(v, values[i]) }
			if !slices.ContainsFunc(set, twice) {
				add(append(set, values[i]), i+1, size-1)
			}
		}
	}
	for size := 2; size <= len(values) && len(all) < mostSets; size++ {
		add(nil, 0, size)
	}
	d.note(len(all) >= mostSets, "the sets of values of "+key)
	return all
}

// multiValued and singleValued are condition keys of which it is documented whether a
// request has several values of them. Of others, one that is compared by a set operator
// may.
//
// Sources: IAM User Guide, "AWS global condition context keys"; AWS KMS Developer
// Guide, "AWS KMS condition keys".
var (
	multiValued = []string{
		contextKeys, "kms:grantoperations", "kms:resourcealiases", "aws:calledvia", "aws:principalorgpaths", "aws:principalservicenameslist",
		"aws:resourceorgpaths", "aws:sourceorgpaths", "aws:tagkeys",
	}
	singleValued = []string{
		"aws:currenttime", "aws:epochtime", "aws:principalaccount", "aws:principalarn", "aws:principalorgid", "aws:principaltype", "aws:requestedregion",
		"aws:securetransport", "aws:sourceaccount", "aws:sourcearn", "aws:sourceip", "aws:sourcevpc", "aws:sourcevpce", "aws:userid", "aws:username",
		"aws:viaawsservice", "kms:calleraccount", "kms:viaservice",
	}
)

// formatOf is what values of a key look like: a value of another kind is in no request.
func formatOf(key string) string {
	switch key {
	case "aws:principalorgid", "aws:sourceorgid", "aws:resourceorgid":
		return `o-[a-z0-9]+`
	case "aws:sourcevpc":
		return `vpc-[0-9a-z]+`
	case "aws:sourcevpce":
		return `vpce-[0-9a-z]+`
	case "aws:sourceaccount", "aws:principalaccount", "kms:calleraccount", "aws:resourceaccount":
		return `[0-9]{12}`
	case "aws:sourcearn":
		return `arn:[a-z-]+:[a-z0-9-]+:[a-z0-9-]*:[0-9]*:(?s:.)+`
	case "aws:principaltype":
		return `Account|User|FederatedUser|AssumedRole|Anonymous`
	}
	return `(?s:.)+`
}

// search looks for a request among choices of its keys.
type search struct {
	*decider
	of    template
	steps *int
	given Context
	spans []*span
	at    map[string]int // of each key among the spans
	// constant are requirements on nothing but what is given.
	constant map[string]bool
}

// side is what is left of the values of a span: some of its choices; or its absence, and
// the texts that are in all of the one and in none of the other.
type side struct {
	choices []bool
	absent  bool
	in, out []*language
}

// domain has a side for each span.
type domain []side

// all is what a request can have together with what is given: the list of the keys of
// the encryption context names those that are there.
func (s *search) all() (d domain, some bool) {
	listed, ok := s.given[contextKeys]
	d, some = make(domain, len(s.spans)), true
	for i, span := range s.spans {
		pair, ofContext := strings.CutPrefix(span.key, contextPrefix)
		in := lists(listed, pair)
		may := func(absent bool) bool { return !ok || !ofContext || in != absent }
		if span.texts == nil {
			for _, c := range span.choices {
				d[i].choices = append(d[i].choices, may(c == nil))
			}
			some = some && slices.Contains(d[i].choices, true)
			continue
		}
		d[i] = side{absent: may(true) && span.key != callerText, in: []*language{span.format}}
		if !may(false) {
			d[i].in = append(d[i].in, s.language(noText))
		}
		if span.key == callerText {
			d[i].out = append(d[i].out, s.language(s.of.others))
		}
		_, text := s.word(d[i])
		some = some && (d[i].absent || text)
	}
	return d, some
}

// within leaves what meets all conditions of a path, and tells whether that is anything.
func (s *search) within(d domain, p Path) (domain, bool) {
	for _, q := range p.Conditions {
		some := s.constant[q.text()]
		if q.Key != "" {
			d, some = s.narrowed(d, q, true)
		}
		if !some {
			return nil, false
		}
	}
	return d, true
}

// narrowed leaves what meets a requirement, or what does not.
func (s *search) narrowed(d domain, q Requirement, want bool) (left domain, some bool) {
	i := s.at[s.of.spanOf(q.Key)]
	to, id := side{}, q.text()
	if t, ok := s.spans[i].texts[id]; ok {
		to = d[i]
		to.absent = to.absent && t.absent == want
		if want != t.negated {
			to.in = append(slices.Clip(to.in), t.in)
		} else {
			to.out = append(slices.Clip(to.out), t.in)
		}
		some = to.absent
		if !some {
			_, some = s.word(to)
		}
	} else {
		for k, met := range s.spans[i].met[id] {
			left := d[i].choices[k] && met == want
			to.choices = append(to.choices, left)
			some = some || left
		}
	}
	left = slices.Clone(d)
	left[i] = to
	return left, some
}

// word is the shortest text of a side.
func (d *decider) word(of side) (string, bool) {
	unique := func(list []*language) []*language {
		list = slices.Clone(list)
		slices.SortFunc(list, func(a, b *language) int { return strings.Compare(a.expression, b.expression) })
		return slices.Compact(list)
	}
	in, out := unique(of.in), unique(of.out)
	var id strings.Builder
	for _, l := range in {
		id.WriteString(l.expression + "\n")
	}
	for _, l := range out {
		id.WriteString("\x00" + l.expression + "\n")
	}
	if text, known := d.words[id.String()]; known {
		return text, text != ""
	}
	text, found, complete := word(in, out)
	d.note(!complete, "very many patterns")
	d.words[id.String()] = text
	return text, found
}

// avoiding returns the context of a request in the domain that is in none of the boxes.
// A box that the domain meets is left by one of its sides: by the first, or within that
// by the second, and so on.
func (s *search) avoiding(d domain, boxes []Path) Context {
	if *s.steps++; *s.steps > mostSteps {
		s.note(true, "very many statements with conditions")
		return nil
	}
	for i, box := range boxes {
		if _, meet := s.within(d, box); !meet {
			continue
		}
		for _, q := range box.Conditions {
			if q.Key == "" {
				continue
			}
			if outside, some := s.narrowed(d, q, false); some {
				if found := s.avoiding(outside, boxes[i+1:]); found != nil {
					return found
				}
			}
			d, _ = s.narrowed(d, q, true)
		}
		return nil
	}
	return s.example(d)
}

// example is the simplest request of a domain.
func (s *search) example(d domain) Context {
	context := Context{}
	for key, values := range s.given {
		if values != nil {
			context[key] = values
		}
	}
	for i, span := range s.spans {
		switch {
		case span.texts == nil:
			if c := span.choices[slices.Index(d[i].choices, true)]; c != nil {
				context[span.key] = c
			}
		case !d[i].absent:
			text, _ := s.word(d[i])
			if span.key == callerText {
				text = s.of.readable(text, d[i])
			}
			context[span.key] = Values{text}
		}
	}
	return context
}

// around are values of a request at which what an operator says of a value can change.
func (t test) around(want string, all Values) (values Values) {
	if _, err := parseNumber(want); err == nil && strings.HasPrefix(t.name, "Numeric") {
		return aroundNumbers(all)
	}
	if at, err := parseDate(want); err == nil && strings.HasPrefix(t.name, "Date") {
		for _, d := range []time.Duration{-time.Second, 0, time.Second} {
			values = append(values, at.Add(d).UTC().Format(time.RFC3339))
		}
		return values
	}
	if t.name == "IpAddress" {
		return aroundNetwork(want)
	}
	if t.name == "Bool" {
		return Values{"true", "false"}
	}
	return Values{want, "none"}
}

func aroundNumbers(wants Values) (values Values) {
	var numbers []float64
	for _, w := range wants {
		if n, err := parseNumber(w); err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		points := []float64{n - 1, n, n + 1}
		if i > 0 {
			points = append(points, (numbers[i-1]+n)/2)
		}
		for _, p := range points {
			values = append(values, strconv.FormatFloat(p, 'f', -1, 64))
		}
	}
	return values
}

// aroundNetwork are the first and the last address of a network, their neighbours, and
// the first of all, so that there is one in each part into which networks divide them.
func aroundNetwork(want string) (values Values) {
	network, err := netip.ParsePrefix(want)
	if err != nil {
		address, err := netip.ParseAddr(want)
		if err != nil {
			return nil
		}
		network = netip.PrefixFrom(address, address.BitLen())
	}
	first := network.Masked().Addr()
	bytes := first.AsSlice()
	for bit := network.Bits(); bit < first.BitLen(); bit++ {
		bytes[bit/8] |= 1 << (7 - bit%8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	for _, a := range []netip.Addr{first.Prev(), first, last, last.Next(), netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if a.IsValid() {
			values = append(values, a.String())
		}
	}
	return values
}
