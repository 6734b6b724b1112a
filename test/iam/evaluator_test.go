package iam

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/iampolicy"
)

// TestEvaluator gives each row and each mutation to the project's own evaluator,
// and to the simulator, which shares no code with it: the two must agree on every
// action, kms:RetireGrant apart.
func TestEvaluator(t *testing.T) {
	policies := documents()
	type asking struct {
		name, policy string
		row          row
	}
	var all []asking
	for _, r := range rows {
		all = append(all, asking{r.policy + "/" + r.name, r.policy, r})
	}
	for _, m := range mutations {
		r := rows[slices.IndexFunc(rows, func(r row) bool { return r.name == m.row })]
		mutant := documents()[r.policy]
		m.mutate(&mutant)
		policies[m.name] = mutant
		all = append(all, asking{"mutation/" + m.name, m.name, r})
	}
	var questions []question
	for _, a := range all {
		questions = append(questions, a.row.questions(a.policy)...)
	}
	answers := simulate(t, policies, questions)
	for _, a := range all {
		theirs := answers[:len(judgedActions)]
		answers = answers[len(judgedActions):]
		t.Run(a.name, func(t *testing.T) {
			for i, action := range judgedActions {
				ours, err := evaluate(policies[a.policy], a.row, action)
				if err != nil {
					t.Fatal(err)
				}
				want := theirs[i].Result == "Allowed"
				if action == "kms:RetireGrant" {
					// The simulator takes it for an action like the others. It is
					// "not effective in a key policy" (AWS KMS Developer Guide,
					// "Retiring and revoking grants"), and there are no grants here.
					want = false
				}
				if ours.Allowed != want {
					t.Errorf("the simulator says %s; %s", theirs[i].Result, ours.Reason)
				}
			}
		})
	}
}

// evaluate asks the project's evaluator. It derives what follows from the caller
// by itself, so the request has the row's own context only.
func evaluate(policy iampolicy.Document, r row, action string, organization ...iampolicy.NamedDocument) (iampolicy.Decision, error) {
	context := iampolicy.Context{}
	for key, value := range r.context {
		switch v := value.(type) {
		case string:
			context[key] = iampolicy.Values{v}
		case []string:
			// Derived by the evaluator from the pairs.
			if !strings.EqualFold(key, "kms:EncryptionContextKeys") {
				context[key] = v
			}
		default:
			return iampolicy.Decision{}, fmt.Errorf("context key %s: want a string or strings, got %T", key, value)
		}
	}
	request := iampolicy.Request{
		Caller:   iampolicy.Caller{ARN: r.who.arn, RoleARN: r.who.roleARN},
		Action:   action,
		Resource: keyARN,
		Context:  context,
	}
	held := iampolicy.Policies{Resource: iampolicy.NamedDocument{Name: r.policy, Document: policy}, Organization: organization}
	if r.who.identity != "" {
		held.Identity = []iampolicy.NamedDocument{{Name: r.who.identity, Document: identities[r.who.identity]}}
	}
	return iampolicy.Evaluate(request, held)
}
