package explain

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/ekskms/ekskms/internal/iampolicy"
)

// Reply is the answer to one request.
type Reply struct {
	Key       string `json:"key"`
	Principal string `json:"principal"`
	Action    string `json:"action"`
	Allowed   bool   `json:"allowed"`
	// Verdict is allowed or denied; or depends, where an IAM policy that was not given could
	// allow it, for which Allowed is false.
	Verdict string `json:"verdict"`
	// By are the statements or grants that decide. Empty if nothing allows it.
	By     []string `json:"by"`
	Reason string   `json:"reason"`
	// Notes say what was assumed, and what it would take to be allowed.
	Notes []string `json:"notes,omitempty"`
}

// Depends is the verdict on a request that an IAM policy which was not given could allow.
const Depends = "depends"

var verdicts = map[bool]string{true: "allowed", false: "denied"}

// Ask decides on a request to a key.
func Ask(in Input, principal, action string, context iampolicy.Context) (*Reply, error) {
	in.Policy.Name = keyPolicy
	request := iampolicy.Request{Caller: iampolicy.Caller{ARN: principal}, Action: action, Resource: in.Key, Context: context}
	identity, known := in.Identity[principal]
	policies := iampolicy.Policies{Resource: in.Policy, Identity: identity, Grants: in.Grants}
	d, err := iampolicy.Evaluate(request, policies)
	if err != nil {
		return nil, err
	}
	r := &Reply{Key: in.Key, Principal: principal, Action: action, Allowed: d.Allowed, Verdict: verdicts[d.Allowed], By: []string{}, Reason: d.Reason, Notes: in.Notes}
	for _, s := range d.By {
		r.By = append(r.By, s.String())
	}
	if !known && strings.HasPrefix(principal, "arn:") && !strings.HasSuffix(principal, ":root") && !d.Allowed && !d.Explicit {
		policies.Identity = Administrator()
		other, err := iampolicy.Evaluate(request, policies)
		if err != nil {
			return nil, err
		}
		if other.Allowed {
			r.Verdict = Depends
		}
		r.Notes = append(r.Notes, map[bool]string{
			true:  "its IAM policies are not known: one that allows the action would be enough, by " + describe(other.By),
			false: "its IAM policies are not known, and none of them could allow it",
		}[other.Allowed])
	}
	if !d.Allowed && !d.Explicit {
		request.Context = nil
		o, err := iampolicy.Explain(request, policies)
		if err != nil {
			return nil, err
		}
		if c := cell(Principal{ARN: principal}, o); c.Answer == Conditional {
			r.Notes = append(r.Notes, "allowed "+c.text())
		}
	}
	return r, nil
}

func describe(by []iampolicy.Source) string {
	var names []string
	for _, s := range by {
		if s.Policy != "IAM" {
			names = append(names, s.String())
		}
	}
	return strings.Join(names, " and ")
}

// WriteJSON writes the reply for programs.
func (r *Reply) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// WriteText writes the reply for people.
func (r *Reply) WriteText(w io.Writer) error {
	var b strings.Builder
	verdict := r.Verdict
	if verdict == Depends {
		verdict = "depends on IAM policies not given"
	}
	fmt.Fprintf(&b, "%s: %s\n", verdict, r.Reason)
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
