package iampolicy

import (
	"maps"
	"slices"
	"strings"
)

// Use is something that a caller, or somebody of its kind, may do, by one way.
type Use struct {
	Holder
	// Actions that the policies do not tell apart, in the order of [KMSActions].
	Actions []string
	// Way is what allows it, with the conditions that are left.
	Way Path
	// Example is a request with the first of the actions.
	Example Request
}

// Bound tells of a value that a policy asks of a condition key, in small letters, whether
// it binds the request to what somebody chose.
type Bound func(key, value string) bool

// Survey is everybody whom the policies of a key can tell apart, to ask several questions
// about.
type Survey struct {
	access  Access
	decider *decider
	callers []template
	kinds   [][]string
	// outcomes are by caller and kind.
	outcomes map[[2]int]Outcome
}

// Survey reads the policies. The error is something in them that is not understood.
func (a Access) Survey() (*Survey, error) {
	a, err := a.of(a.concerned()).checked()
	if err != nil {
		return nil, err
	}
	s := &Survey{access: a, decider: newDecider(a.Key), kinds: kindsOfActions(a), outcomes: map[[2]int]Outcome{}}
	s.callers, err = templates(s.decider, a)
	return s, err
}

// Uses finds who may do some of the actions, by requests that are not bound: of each
// caller that the policies name, and of each kind of principals, each way, with an example
// that [Evaluate] allows. A nil bound leaves none out. Requests of a principal that carry
// what only the calls of services carry, such as aws:SourceArn, are not looked at. What the
// policies do not name has kms:* in IAM, unless its policies are given or it is a
// service-linked role, to which nobody can attach one. Callers that are not of interest
// are left out; nil is all.
func (s *Survey) Uses(actions []string, bound Bound, ofInterest func(Holder) bool) (uses []Use, err error) {
	d := s.decider
	for i, h := range s.callers {
		if ofInterest != nil && !ofInterest(h.Holder) {
			continue
		}
		var avoid []Path
		if h.Account != "" {
			avoid = ofServices
		}
		for k, kind := range s.kinds {
			kind = slices.DeleteFunc(slices.Clone(kind), func(action string) bool { return !slices.Contains(actions, action) })
			if len(kind) == 0 {
				continue
			}
			outcome, err := s.outcome(i, k)
			if err != nil {
				return nil, err
			}
			for _, way := range outcome.Allow {
				context := d.find(h, nil, []Path{way}, slices.Concat(outcome.Deny, avoid, bound.of(way, outcome.Deny)), nil)
				if context == nil {
					continue
				}
				now := h.caller(context)
				uses = append(uses, Use{Holder: now, Actions: kind, Way: way, Example: Request{Caller: now.Caller, Action: kind[0], Resource: d.key, Context: context}})
			}
		}
	}
	return uses, nil
}

// outcome is what a caller may do with a kind of actions.
func (s *Survey) outcome(caller, kind int) (Outcome, error) {
	if known, ok := s.outcomes[[2]int{caller, kind}]; ok {
		return known, nil
	}
	h := s.callers[caller]
	iam := h.assumed()
	if own, ok := s.access.Identity[h.ARN]; ok {
		iam = own
	}
	outcome, err := h.explain(Request{Caller: h.Caller, Action: s.kinds[kind][0], Resource: s.decider.key}, s.access.policies(iam))
	s.outcomes[[2]int{caller, kind}] = outcome
	return outcome, err
}

// Notes say what was not decided.
func (s *Survey) Notes() []string { return s.decider.notes() }

// ofServices are the requests that only services send.
var ofServices = func() (all []Path) {
	for _, key := range []string{"aws:SourceArn", "aws:SourceAccount", "aws:SourceOrgID", "aws:SourceOrgPaths"} {
		all = append(all, Path{Conditions: []Requirement{{Operator: "Null", Key: key, Values: Values{"false"}}}})
	}
	return all
}()

// of are the conditions that a bound request meets, one of them: those of the way, and
// those without which a denial is met. That a key is there, or not, binds to nothing.
func (b Bound) of(way Path, denials []Path) (limits []Path) {
	if b == nil {
		return nil
	}
	add := func(q Requirement, denied bool) {
		t, err := parseOperator(q.Operator)
		falsehood := t.name == "Bool" && !t.null && slices.ContainsFunc(q.Values, func(v string) bool { return strings.EqualFold(v, "false") })
		if err != nil || t.null || denied != (t.negated || falsehood) {
			return
		}
		ofGrants := strings.EqualFold(q.Key, "kms:GrantOperations") // of which a request has at least one
		if !ofGrants && t.set == map[bool]string{false: "ForAllValues", true: "ForAnyValue"}[denied] {
			return // without a value it is met, or no denial
		}
		values := Values{}
		for _, v := range q.Values {
			if falsehood {
				v = "true" // denied unless it is true
			}
			if b(strings.ToLower(q.Key), v) {
				values = append(values, v)
			}
		}
		if len(values) == 0 {
			return
		}
		// Met only by a request that has such a value.
		operator := strings.TrimSuffix(strings.Replace(strings.Replace(q.Operator, "ForAllValues:", "ForAnyValue:", 1), "Not", "", 1), "IfExists")
		limits = append(limits, Path{Conditions: []Requirement{{Operator: operator, Key: q.Key, Values: values}}})
		if ofGrants {
			limits = append(limits, Path{Conditions: []Requirement{{Operator: "Null", Key: q.Key, Values: Values{"true"}}}})
		}
	}
	for _, q := range way.Conditions {
		add(q, false)
	}
	for _, deny := range denials {
		for _, q := range deny.Conditions {
			add(q, true)
		}
	}
	return limits
}

// Named is the bound by which somebody says who is meant though the account is open: an
// organization, a VPC or its endpoint, the unique ID of a role. One with a wildcard in that
// place names nobody, nor does a network.
//
// Source: Amazon S3 User Guide, "The meaning of public", for which conditions with fixed
// values are limits. A network is one there too: here it is not, for who is in it is not
// said.
func Named(key, value string) bool {
	fixed, _, open := strings.Cut(value, "*")
	open = open || strings.Contains(value, "?")
	switch key {
	case "aws:principalorgid", "aws:sourcevpc", "aws:sourcevpce":
		return !open && !strings.Contains(value, "${")
	case "aws:principalorgpaths":
		return strings.Contains(fixed, "/") && !strings.ContainsAny(fixed, "?$")
	case "aws:userid":
		return len(fixed) > 20 && !strings.ContainsAny(fixed, "?$")
	}
	return false
}

func (d *decider) notes() []string {
	if len(d.incomplete) == 0 {
		return nil
	}
	return []string{"not decided to the end: " + strings.Join(slices.Sorted(maps.Keys(d.incomplete)), "; ")}
}
