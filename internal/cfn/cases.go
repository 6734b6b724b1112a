package cfn

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/value"
)

// facts are what is taken for granted of values that are not known: by the text of the
// value, what it is, or what it is not.
type facts struct {
	is    map[string]string
	isNot map[string][]string
}

// with returns the facts with one more.
func (f facts) with(q question, same bool) facts {
	n := facts{maps.Clone(f.is), maps.Clone(f.isNot)}
	if n.is == nil {
		n.is, n.isNot = map[string]string{}, map[string][]string{}
	}
	if same {
		n.is[q.value] = q.other
	} else {
		n.isNot[q.value] = append(slices.Clone(n.isNot[q.value]), q.other)
	}
	return n
}

// question is whether a value that is not known is another.
type question struct{ value, other string }

// words says what the answer is.
func (q question) words(same bool) string {
	name, other := strings.TrimSuffix(strings.TrimPrefix(q.value, "${"), "}"), q.other
	if strings.ContainsAny(name, "{}") {
		name = q.value
	}
	if other == "" || strings.Contains(other, " ") {
		other = fmt.Sprintf("%q", other)
	}
	if same {
		return name + " is " + other
	}
	return name + " is not " + other
}

// equal decides whether two values are the same. A question that is open is kept.
func (r *resolver) equal(a, b any) truth {
	x, y := str(a), str(b)
	switch unknown := r.template.unknownIn(a) != ""; {
	case x == y:
		return always
	case !unknown && r.template.unknownIn(b) == "":
		return never
	case !unknown:
		x, y = y, x
	}
	f := r.loader.facts
	if now, known := f.is[x]; known {
		return truthOf(now == y)
	}
	isNot := f.isNot[x]
	if slices.Contains(isNot, y) {
		return never
	}
	if allowed := r.allowed(x); allowed != nil {
		left := slices.DeleteFunc(allowed, func(v string) bool { return slices.Contains(isNot, v) })
		if !slices.Contains(left, y) {
			return never
		}
		if len(left) == 1 {
			return always
		}
	}
	r.loader.asking.Lock()
	defer r.loader.asking.Unlock()
	r.loader.open, r.loader.undecided = append(r.loader.open, question{x, y}), true
	return undecided
}

// allowed are the values that a parameter can have, if a value is one and they are named.
func (r *resolver) allowed(value string) (all []string) {
	name, _ := strings.CutPrefix(value, "${")
	values, _ := r.raw.parameters[strings.TrimSuffix(name, "}")]["AllowedValues"].([]any)
	for _, v := range values {
		all = append(all, str(v))
	}
	return all
}

// Case is what assemblies are where something that they do not know is decided.
type Case struct {
	Assemblies []*Assembly
	// Left says in words what is not decided even so, if there were too many questions.
	Left    string
	answers map[question]bool
}

// mostQuestions bounds the cases: two for each question, of those that come after it.
const mostQuestions = 4

// CasesOf are all that some assemblies can be together, by the conditions on which
// resources of the given types depend and which are not decided: the types in the order of
// their weight. The same value is the same in all assemblies. What depends on more than a
// few questions stays unknown. Assemblies that are a case already are one.
func CasesOf(types []string, all ...*Assembly) ([]Case, error) {
	if all[0].decided {
		return []Case{{Assemblies: all}}, nil
	}
	var cases []Case
	var visit func(f facts, answers map[question]bool, all []*Assembly) error
	visit = func(f facts, answers map[question]bool, all []*Assembly) error {
		q, open := firstOpen(types, all)
		if !open || len(answers) == mostQuestions {
			if len(answers) > 0 {
				for _, a := range all {
					a.decided = true
				}
			}
			left := ""
			if open {
				left = "whether " + q.words(true)
			}
			cases = append(cases, Case{all, left, answers})
			return nil
		}
		for _, same := range []bool{true, false} {
			f, answers := f.with(q, same), maps.Clone(answers)
			answers[q] = same
			var next []*Assembly
			for _, a := range all {
				a, err := a.loader.given(f)
				if err != nil {
					return err
				}
				next = append(next, a)
			}
			if err := visit(f, answers, next); err != nil {
				return err
			}
		}
		return nil
	}
	return cases, visit(facts{}, map[question]bool{}, all)
}

// firstOpen is the first question on which a resource of the types depends.
func firstOpen(types []string, all []*Assembly) (question, bool) {
	for _, kind := range types {
		for _, a := range all {
			if a.loader == nil || !a.loader.undecided {
				continue
			}
			for _, resource := range a.OfType(kind) {
				for _, condition := range conditionsOf(resource) {
					r := a.loader.resolvers[slices.Index(a.Templates, resource.Template)]
					a.loader.open = nil
					if r.condition(condition) == undecided && len(a.loader.open) > 0 {
						return a.loader.open[0], true
					}
				}
			}
		}
	}
	return question{}, false
}

// conditionsOf are the conditions on which a resource depends that were not decided.
func conditionsOf(r *Resource) []string {
	all := value.Conditions([]any{r.Properties, r.DeletionPolicy, r.UpdateReplacePolicy})
	if r.condition != "" {
		all = append([]string{r.condition}, all...)
	}
	return all
}

// When says in words in which of some cases something holds, and nothing if it is all.
func When(cases []Case, holds func(i int) bool) string {
	in, out := []map[question]bool{}, []map[question]bool{}
	for i, c := range cases {
		if holds(i) {
			in = append(in, c.answers)
		} else {
			out = append(out, c.answers)
		}
	}
	if len(out) == 0 {
		return ""
	}
	var matter []question // those whose other answer can make a difference
	for _, q := range questions(cases) {
		if slices.ContainsFunc(in, func(a map[question]bool) bool {
			return slices.ContainsFunc(out, func(b map[question]bool) bool { return differIn(q, a, b) })
		}) {
			matter = append(matter, q)
		}
	}
	var ways []string
	for _, answers := range in {
		var words []string
		for _, q := range matter {
			// What it is says also what it is not.
			now := func(other question) bool { return other.value == q.value && answers[other] }
			if same, requested := answers[q]; requested && (same || !slices.ContainsFunc(matter, now)) {
				words = append(words, q.words(same))
			}
		}
		if way := strings.Join(words, " and "); !slices.Contains(ways, way) {
			ways = append(ways, way)
		}
	}
	return "where " + strings.Join(ways, ", or ")
}

// differIn tells whether two cases differ in one question, and else in nothing but what is
// asked after one of its answers.
func differIn(q question, a, b map[question]bool) bool {
	x, requested := a[q]
	y, also := b[q]
	if !requested || !also || x == y {
		return false
	}
	for other, same := range a {
		if answer, requested := b[other]; other != q && requested && answer != same {
			return false
		}
	}
	return true
}

func questions(cases []Case) (all []question) {
	for _, c := range cases {
		for q := range c.answers {
			if !slices.Contains(all, q) {
				all = append(all, q)
			}
		}
	}
	slices.SortFunc(all, func(a, b question) int { return strings.Compare(a.value+a.other, b.value+b.other) })
	return all
}
