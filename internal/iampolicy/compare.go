package iampolicy

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Access is everything that decides on the use of one key.
type Access struct {
	// Key is the ARN of the key.
	Key    string
	Policy NamedDocument
	// Identity are the IAM policies of those principals of which all are known, by
	// ARN. Any other principal is judged twice: as if it had none, and as if it had
	// kms:* on all keys.
	Identity map[string][]NamedDocument
	Grants   []Grant
	// Organization are the policies of the organization: see [Policies].
	Organization []NamedDocument
}

// Change is what a principal may do by one set of policies and not by another.
type Change struct {
	// Holder is the principal, or an example of all like it, which then have kms:* in
	// IAM.
	Holder
	// Actions, sorted.
	Actions []string
	// Example is a request among them, and By is what allows it.
	Example Request
	By      []Source
	// Entirely tells that the other policies do not allow the actions at all;
	// otherwise they do, but not for the example.
	Entirely bool
}

// Widenings finds what is allowed after and was not before. Each change has an
// example that [Evaluate] decides differently by the two, so none is false; and all are
// found, but for what the notes say was not decided.
func Widenings(before, after Access) (changes []Change, notes []string, err error) {
	return compare(before, after, func(d *decider, h template, old, now Outcome, way Path) Context {
		return d.find(h, nil, []Path{way}, now.Deny, &old)
	})
}

// Losses finds what was allowed before and is not after, whatever else the
// request says. A condition that is added is no loss: with it the request is
// still allowed.
func Losses(before, after Access) (changes []Change, notes []string, err error) {
	return compare(after, before, func(d *decider, h template, has, had Outcome, way Path) (lost Context) {
		d.chosen(h, way, had, has, func(fixed Context) bool {
			if example := d.find(h, fixed, []Path{way}, had.Deny, nil); example != nil && d.find(h, fixed, has.Allow, has.Deny, nil) == nil {
				lost = example
			}
			return lost != nil
		})
		return lost
	})
}

// chosen visits the texts that a way asks for by name: a principal that has lost one of
// them has lost something. Negations, dates and the like are left open.
func (d *decider) chosen(h template, way Path, had, has Outcome, visit func(Context) bool) {
	of := map[string][]Requirement{}
	for _, p := range slices.Concat(had.Allow, had.Deny, has.Allow, has.Deny) {
		for _, q := range p.Conditions {
			of[h.spanOf(q.Key)] = append(of[h.spanOf(q.Key)], q)
		}
	}
	var spans []*span
	var wanted [][]bool
	for _, q := range way.Conditions {
		t, err := parseOperator(q.Operator)
		key := h.spanOf(q.Key)
		if q.Key == "" || err != nil || t.null || t.negated || t.like == nil || len(q.variables()) > 0 ||
			slices.ContainsFunc(spans, func(s *span) bool { return s.key == key }) {
			continue
		}
		s := d.span(h, key, slices.DeleteFunc(slices.Clone(of[key]), func(q Requirement) bool { return len(q.variables()) > 0 }), Values{}, nil)
		spans, wanted = append(spans, s), append(wanted, s.met[q.text()])
	}
	fixed, tries := Context{}, 0
	var choose func(i int) bool
	choose = func(i int) bool {
		if i == len(spans) {
			tries++
			d.note(tries > mostChoices, "the values of "+strings.Join(slices.Sorted(maps.Keys(of)), ", "))
			return tries > mostChoices || visit(fixed)
		}
		for k, c := range spans[i].choices {
			if wanted[i][k] && c != nil {
				fixed[spans[i].key] = c
				if choose(i + 1) {
					return true
				}
			}
		}
		delete(fixed, spans[i].key)
		return false
	}
	choose(0)
}

// compare asks for each caller and action, and each way in which it is allowed after,
// whether find has an example.
func compare(before, after Access, find func(d *decider, h template, old, now Outcome, way Path) Context) (changes []Change, notes []string, err error) {
	concerned := before.concerned()
	maps.Copy(concerned, after.concerned())
	for _, side := range []*Access{&before, &after} {
		if *side, err = side.of(concerned).checked(); err != nil {
			return nil, nil, err
		}
	}
	if reflect.DeepEqual([]any{before.Policy.Document, before.Identity, before.Grants, before.Organization}, []any{after.Policy.Document, after.Identity, after.Grants, after.Organization}) {
		return nil, nil, nil
	}
	d := newDecider(after.Key)
	holders, err := templates(d, before, after)
	if err != nil {
		return nil, nil, err
	}
	kinds := kindsOfActions(before, after)
	for _, h := range holders {
		for _, iam := range identities(h.Holder, before, after) {
			for _, actions := range kinds {
				if err := d.changes(h, actions, before.policies(iam[0]), after.policies(iam[1]), find, func(c Change) { changes = merge(changes, c) }); err != nil {
					return nil, nil, err
				}
			}
		}
	}
	return changes, d.notes(), nil
}

func (d *decider) changes(h template, actions []string, before, after Policies, find func(d *decider, h template, old, now Outcome, way Path) Context, add func(Change)) error {
	request := Request{Caller: h.Caller, Action: actions[0], Resource: d.key}
	now, err := h.explain(request, after)
	if err != nil || len(now.Allow) == 0 {
		return err
	}
	old, err := h.explain(request, before)
	if err != nil || subset(now.Allow, old.Allow) && subset(old.Deny, now.Deny) {
		return err
	}
	for _, way := range now.Allow {
		context := find(d, h, old, now, way)
		if context == nil {
			continue
		}
		current := h.caller(context)
		request := Request{Caller: current.Caller, Action: actions[0], Resource: d.key, Context: context}
		decision, err := Evaluate(request, after)
		if err != nil {
			return err
		}
		add(Change{Holder: current, Actions: slices.Clone(actions), Example: request, By: decision.By, Entirely: len(old.Allow) == 0})
		if h.format == "" {
			break // of one caller an action is one change
		}
	}
	return nil
}

// explain is [Explain] for all callers of a template.
func (h template) explain(r Request, p Policies) (Outcome, error) {
	j, err := newJudge(r, p)
	if err != nil {
		return Outcome{}, err
	}
	j.facts.open = h.open
	return j.outcome()
}

// checked finds what is not understood, once for all questions.
func (a Access) checked() (Access, error) {
	var err error
	if a.Policy, err = a.Policy.Checked(true); err != nil {
		return a, err
	}
	a.Identity = maps.Clone(a.Identity)
	for _, arn := range slices.Sorted(maps.Keys(a.Identity)) {
		documents := slices.Clone(a.Identity[arn])
		for i, d := range documents {
			if documents[i], err = d.Checked(false); err != nil {
				return a, err
			}
		}
		a.Identity[arn] = documents
	}
	a.Organization = slices.Clone(a.Organization)
	for i, d := range a.Organization {
		if a.Organization[i], err = d.OfOrganization(); err != nil {
			return a, err
		}
	}
	return a, nil
}

// others are the documents beside the key policy.
func (a Access) others() (all []NamedDocument) {
	for _, arn := range slices.Sorted(maps.Keys(a.Identity)) {
		all = append(all, a.Identity[arn]...)
	}
	return append(all, a.Organization...)
}

// of is the access with the IAM policies of some alone.
func (a Access) of(concerned map[string]bool) Access {
	a.Identity = maps.Clone(a.Identity)
	maps.DeleteFunc(a.Identity, func(arn string, _ []NamedDocument) bool { return !concerned[arn] })
	return a
}

// concerned are those whose IAM policies are known and can allow something on the key, or
// whom its policy or a grant names. To the others happens what happens to everybody.
func (a Access) concerned() map[string]bool {
	named := map[string]bool{}
	for _, g := range a.Grants {
		named[g.Grantee], named[g.Retiring] = true, true
	}
	for _, s := range a.Policy.Statement {
		for _, who := range slices.Concat(s.Principal.AWS, s.NotPrincipal.AWS) {
			named[who] = true
		}
		for _, keys := range s.Condition {
			for _, values := range keys {
				for _, v := range values {
					named[v] = true
				}
			}
		}
	}
	concerned := map[string]bool{}
	for arn, identity := range a.Identity {
		if named[arn] || Concerns(identity, a.Key) {
			concerned[arn] = true
		}
	}
	return concerned
}

// Concerns tells whether IAM policies can allow something on a key, or one of some actions.
// It may be wrong about those that can't.
func Concerns(identity []NamedDocument, key string, actions ...string) bool {
	return slices.ContainsFunc(identity, func(d NamedDocument) bool {
		return slices.ContainsFunc(d.Statement, func(s Statement) bool {
			return s.Effect == Allow &&
				(s.NotResource != nil || slices.ContainsFunc(s.Resource, func(p string) bool { return begins(key, p) })) &&
				(s.NotAction != nil || slices.ContainsFunc(s.Action, func(p string) bool { return begins("kms:", p) })) &&
				(actions == nil || slices.ContainsFunc(actions, s.CoversAction))
		})
	})
}

// begins tells whether a text can begin as a pattern does up to its first wildcard or
// variable, or the pattern as the text. Case does not matter.
func begins(text, pattern string) bool {
	if i := strings.IndexAny(pattern, "*?$"); i >= 0 {
		pattern = pattern[:i]
	} else if len(pattern) < len(text) {
		return false
	}
	n := min(len(text), len(pattern))
	return strings.EqualFold(text[:n], pattern[:n])
}

func (a Access) policies(identity []NamedDocument) Policies {
	return Policies{Resource: a.Policy, Identity: identity, Grants: a.Grants, Organization: a.Organization}
}

// identities are what IAM may say of a holder, before and after: what is given, or else
// nothing, and everything. Of an example only the second is of interest.
func identities(h Holder, before, after Access) [][2][]NamedDocument {
	old, inBefore := before.Identity[h.ARN]
	now, inAfter := after.Identity[h.ARN]
	everything := [2][]NamedDocument{h.assumed(), h.assumed()}
	switch {
	case inBefore || inAfter:
		return [][2][]NamedDocument{{old, now}} // who comes or goes has nothing on the other side
	case h.Named && h.Provider == "":
		return [][2][]NamedDocument{{}, everything}
	case h.Provider != "":
		return [][2][]NamedDocument{{}}
	}
	return [][2][]NamedDocument{everything}
}

// subset tells whether each path of some is among the others.
func subset(some, others []Path) bool {
	return !slices.ContainsFunc(some, func(p Path) bool {
		return !slices.ContainsFunc(others, func(o Path) bool { return p.text() == o.text() })
	})
}

// kindsOfActions are the actions, together with those that the policies do not tell from
// them: what holds of the one holds of all.
func kindsOfActions(accesses ...Access) (kinds [][]string) {
	var statements []Statement
	mentioned := map[string]bool{}
	for _, a := range accesses {
		statements = append(statements, a.Policy.Statement...)
		for _, g := range a.Grants {
			statements = append(statements, Statement{Action: g.actions(), Condition: g.condition()})
		}
		for _, d := range a.others() {
			statements = append(statements, d.Statement...)
		}
	}
	for _, s := range statements {
		for _, keys := range s.Condition {
			for key, values := range keys {
				mentioned[strings.ToLower(key)] = true
				for _, name := range (Requirement{Values: values}).variables() {
					mentioned[name] = true
				}
			}
		}
	}
	at := map[string]int{}
	for _, a := range KMSActions {
		sign := fmt.Sprint(a.CrossAccount, a.Class == Cryptographic && a.Carries(encryptionContext), a.Name == retireGrant)
		for _, key := range slices.Sorted(maps.Keys(mentioned)) {
			sign += fmt.Sprint(a.Carries(key))
		}
		for _, s := range statements {
			sign += fmt.Sprint(s.CoversAction(a.Name))
		}
		i, known := at[sign]
		if !known {
			i = len(kinds)
			at[sign], kinds = i, append(kinds, nil)
		}
		kinds[i] = append(kinds[i], a.Name)
	}
	return kinds
}

// actions are the operations of a grant as a policy would name them.
func (g Grant) actions() Values {
	all := Values{"grant:none"}
	for _, o := range g.Operations {
		all = append(all, "kms:"+o)
	}
	return all
}

// merge adds a change to another that differs in the action only, or leaves it out where
// a statement was told to allow the same already.
func merge(all []Change, one Change) []Change {
	for i, c := range all {
		if c.ARN != one.ARN || c.RoleARN != one.RoleARN || c.Provider != one.Provider {
			continue
		}
		if one.Actions = slices.DeleteFunc(one.Actions, func(a string) bool { return slices.Contains(c.Actions, a) }); len(one.Actions) == 0 {
			return all
		}
		if slices.Equal(c.By, one.By) && c.Entirely == one.Entirely {
			all[i].Actions = append(all[i].Actions, one.Actions...)
			slices.Sort(all[i].Actions)
			return all
		}
	}
	return append(all, one)
}

// assumed are the IAM policies of somebody of whom they are not given: kms:* on all keys,
// but for a service-linked role, to which nobody can attach a policy.
func (h Holder) assumed() []NamedDocument {
	if strings.Contains(h.ARN, ":role/aws-service-role/") {
		return nil
	}
	return administrators
}

// administrators are the IAM policies of somebody whom they allow everything on all keys.
var administrators = []NamedDocument{{Name: "IAM (kms:* assumed)", checked: true, Document: NewDocument(Statement{
	Effect: Allow, Action: Values{"kms:*"}, Resource: Values{"*"},
})}}
