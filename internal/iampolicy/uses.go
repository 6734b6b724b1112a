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

// Uses finds who may do some of the actions: of each caller that the policies name, and
// of each kind of principals, each way, with an example that [Evaluate] allows. Requests
// that meet one of the requirements in without are not looked at, nor those of a principal
// that carry what only the calls of services carry, such as aws:SourceArn. What the policies do
// not name has kms:* in IAM, unless its policies are given. The notes say what was not
// decided.
func (a Access) Uses(actions []string, without ...Requirement) (uses []Use, notes []string, err error) {
	if a, err = a.checked(); err != nil {
		return nil, nil, err
	}
	d := newDecider(a.Key)
	holders, err := templates(d, a)
	if err != nil {
		return nil, nil, err
	}
	var avoid, ofServices []Path
	for _, q := range without {
		avoid = append(avoid, Path{Conditions: []Requirement{q}})
	}
	for _, key := range []string{"aws:SourceArn", "aws:SourceAccount", "aws:SourceOrgID", "aws:SourceOrgPaths"} {
		ofServices = append(ofServices, Path{Conditions: []Requirement{{Operator: "Null", Key: key, Values: Values{"false"}}}})
	}
	var kinds [][]string
	for _, kind := range kindsOfActions(a) {
		if kind = slices.DeleteFunc(kind, func(action string) bool { return !slices.Contains(actions, action) }); len(kind) > 0 {
			kinds = append(kinds, kind)
		}
	}
	for _, h := range holders {
		avoid := avoid
		if h.Account != "" {
			avoid = slices.Concat(avoid, ofServices)
		}
		iam := administrators
		if own, is := a.Identity[h.ARN]; is {
			iam = own
		}
		for _, kind := range kinds {
			outcome, err := h.explain(Request{Caller: h.Caller, Action: kind[0], Resource: d.key}, a.policies(iam))
			if err != nil {
				return nil, nil, err
			}
			for _, way := range outcome.Allow {
				context := d.find(h, nil, []Path{way}, slices.Concat(outcome.Deny, avoid), nil)
				if context == nil {
					continue
				}
				is := h.caller(context)
				uses = append(uses, Use{Holder: is, Actions: kind, Way: way, Example: Request{Caller: is.Caller, Action: kind[0], Resource: d.key, Context: context}})
			}
		}
	}
	return uses, d.notes(), nil
}

func (d *decider) notes() []string {
	if len(d.incomplete) == 0 {
		return nil
	}
	return []string{"not decided to the end: " + strings.Join(slices.Sorted(maps.Keys(d.incomplete)), "; ")}
}

// Limits are the conditions of the policies by which somebody names who is meant though
// the account is open: an organization, a VPC or its endpoint, the unique ID of a role.
// One with a wildcard in that place names nobody, nor does a network.
func (a Access) Limits() (limits []Requirement) {
	for _, s := range a.Policy.Statement {
		for operator, keys := range s.Condition {
			for key, values := range keys {
				named := Values{}
				for _, v := range values {
					if names(strings.ToLower(key), v) {
						named = append(named, v)
					}
				}
				t, err := parseOperator(operator)
				if err != nil || t.null || t.negated || len(named) == 0 {
					continue
				}
				// Met only by a request that has such a value.
				operator = strings.TrimSuffix(strings.Replace(operator, "ForAllValues:", "ForAnyValue:", 1), "IfExists")
				limits = append(limits, Requirement{Operator: operator, Key: key, Values: named})
			}
		}
	}
	slices.SortFunc(limits, func(a, b Requirement) int { return strings.Compare(a.text(), b.text()) })
	return slices.CompactFunc(limits, func(a, b Requirement) bool { return a.text() == b.text() })
}

// names tells whether a value of a condition key says who is meant.
//
// Source: Amazon S3 User Guide, "The meaning of public", for which conditions with fixed
// values are limits. A network is one there too: here it is not, for who is in it is not
// said.
func names(key, value string) bool {
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
