package explain

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/terminal"
)

// Reply is the answer to one request.
type Reply struct {
	Key       string `json:"key"`
	Principal string `json:"principal"`
	Action    string `json:"action"`
	Allowed   bool   `json:"allowed"`
	// Verdict is allowed or denied; or depends, for which Allowed is false: an IAM policy that
	// was not given could allow it, or one path of the session's role and not another.
	Verdict string `json:"verdict"`
	// By are the statements or grants that decide. Empty if nothing allows it.
	By     []string `json:"by"`
	Reason string   `json:"reason"`
	// Notes say what was assumed, and what it would take to be allowed.
	Notes []string `json:"notes,omitempty"`

	// on is what the verdict depends on.
	on string
}

// Depends is the verdict on a request where something that decides was not given.
const Depends = "depends"

var verdicts = map[bool]string{true: "allowed", false: "denied"}

// Ask decides on a request to a key, which is given in each of its cases. It depends where
// the verdict is not the same in all.
func Ask(inputs []Input, principal, action string, context iampolicy.Context) (*Reply, error) {
	var replies []*Reply
	var differ bool
	for _, in := range inputs {
		r, err := in.Ask(principal, action, context)
		if err != nil {
			return nil, err
		}
		replies = append(replies, r)
		differ = differ || r.Verdict != replies[0].Verdict
	}
	first := replies[0]
	if !differ {
		return first, nil
	}
	reply := &Reply{Key: first.Key, Principal: principal, Action: action, Verdict: Depends, on: "what the templates leave open", By: []string{}, Notes: first.Notes}
	var reasons []string
	for _, verdict := range []string{"allowed", "denied", Depends} {
		var in []int
		for i, r := range replies {
			if r.Verdict == verdict {
				in = append(in, inputs[i].in)
			}
		}
		if len(in) > 0 {
			reasons = append(reasons, verdict+" "+estate.When(inputs[0].cases, func(i int) bool { return slices.Contains(in, i) }))
		}
	}
	reply.Reason = strings.Join(reasons, "; ")
	return reply, nil
}

// Ask decides on a request to a key. Of a session, the role's path is not known: it is
// that of a role of its name that the policies name; otherwise each path counts by which
// the answer can differ.
func (in Input) Ask(principal, action string, context iampolicy.Context) (*Reply, error) {
	in.Policy.Name = keyPolicy
	var reply *Reply
	answers := map[string][]string{}
	roles := in.rolesOf(principal, action)
	for _, role := range roles {
		r, err := in.ask(iampolicy.Caller{ARN: principal, RoleARN: role}, action, context)
		if err != nil {
			return nil, err
		}
		answers[r.Verdict] = append(answers[r.Verdict], role)
		if reply == nil {
			reply = r
		}
	}
	switch {
	case len(answers) > 1:
		reply = &Reply{Key: in.Key, Principal: principal, Action: action, Verdict: Depends, on: "the path of the session's role", By: []string{}, Notes: in.Notes}
		reply.Reason = "a session's ARN does not say it"
		for _, verdict := range slices.Sorted(maps.Keys(answers)) {
			reply.Reason += fmt.Sprintf("; %s, if the role is %s", verdict, strings.Join(answers[verdict], " or "))
		}
	case roles[0] != "":
		reply.Notes = append(reply.Notes, "the session is taken to be of "+strings.Join(roles, " or "))
	}
	return reply, nil
}

// rolesOf are the roles of which a session can be. There is one in an account with the
// name, whatever its path. For others it is the empty text alone.
//
// Sources: IAM User Guide, "IAM and AWS STS quotas" (names are unique within an account);
// IAM Identity Center User Guide, "Referencing permission sets in resource policies", for
// the paths of its roles.
func (in Input) rolesOf(principal, action string) []string {
	session := sessionARN.FindStringSubmatch(principal)
	if session == nil {
		return []string{""}
	}
	prefix, name := "arn:"+session[1]+":iam::"+session[2]+":role/", session[3]
	of := func(arn string) bool {
		return strings.HasPrefix(arn, prefix) && arn[strings.LastIndex(arn, "/")+1:] == name
	}
	named := map[string]bool{}
	all := slices.Concat(in.named(), slices.Collect(maps.Keys(in.Identity)))
	for _, g := range in.Grants {
		all = append(all, g.Grantee, g.Retiring)
	}
	for _, arn := range all {
		if of(arn) {
			named[arn] = true
		}
	}
	if len(named) > 0 {
		return slices.Sorted(maps.Keys(named))
	}
	roles := []string{prefix + name}
	const identityCenter = "aws-reserved/sso.amazonaws.com/"
	ofIdentityCenter := strings.HasPrefix(name, "AWSReservedSSO_")
	if ofIdentityCenter {
		region := strings.Split(in.Key, ":")[3]
		roles = []string{prefix + identityCenter + name, prefix + identityCenter + region + "/" + name}
	}
	// And a path for each way in which the policies let such a session do it.
	access := in.Access
	access.Identity = maps.Clone(access.Identity)
	if access.Identity == nil {
		access.Identity = map[string][]iampolicy.NamedDocument{}
	}
	access.Identity[principal] = Administrator()
	survey, err := access.Survey()
	if err != nil {
		return roles // which Evaluate will say
	}
	uses, _ := survey.Uses([]string{action}, nil, nil)
	for _, use := range uses {
		possible := !strings.HasPrefix(use.RoleARN, prefix+"aws-reserved/") // where nobody else makes roles
		if ofIdentityCenter {
			possible = regionalPath.MatchString(strings.TrimPrefix(use.RoleARN, prefix+identityCenter))
		}
		if use.ARN == principal && use.RoleARN != "" && possible && !slices.Contains(roles, use.RoleARN) {
			roles = append(roles, use.RoleARN)
		}
	}
	return roles
}

var (
	sessionARN   = regexp.MustCompile(`^arn:(aws[a-z-]*):sts::(\d{12}):assumed-role/([^/]+)/[^/]+$`)
	regionalPath = regexp.MustCompile(`^[a-z]+(-[a-z]+)+-\d/[^/]+$`)
)

// ask decides on a request of one caller.
func (in Input) ask(caller iampolicy.Caller, action string, context iampolicy.Context) (*Reply, error) {
	request := iampolicy.Request{Caller: caller, Action: action, Resource: in.Key, Context: context}
	identity, known := in.Identity[caller.ARN]
	if ofRole, ok := in.Identity[caller.RoleARN]; ok {
		identity, known = slices.Concat(identity, ofRole), true
	}
	policies := iampolicy.Policies{Resource: in.Policy, Identity: identity, Grants: in.Grants, Organization: in.Organization}
	d, err := iampolicy.Evaluate(request, policies)
	if err != nil {
		return nil, err
	}
	r := &Reply{Key: in.Key, Principal: caller.ARN, Action: action, Allowed: d.Allowed, Verdict: verdicts[d.Allowed], By: []string{}, Reason: d.Reason, Notes: in.Notes}
	for _, s := range d.By {
		r.By = append(r.By, s.String())
	}
	if !known && strings.HasPrefix(caller.ARN, "arn:") && !strings.HasSuffix(caller.ARN, ":root") && !d.Allowed && !d.Explicit {
		policies.Identity = Administrator()
		other, err := iampolicy.Evaluate(request, policies)
		if err != nil {
			return nil, err
		}
		if other.Allowed {
			r.Verdict, r.on = Depends, "IAM policies not given"
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
		if c := cell(Principal{ARN: caller.ARN}, o); c.Answer == Conditional {
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
func (r *Reply) WriteText(w io.Writer, style terminal.Style) error {
	var b strings.Builder
	verdict := r.Verdict
	if r.on != "" {
		verdict += " on " + r.on
	}
	b.WriteString(style.Wrap("", "  ", style.Paint(terminal.Bold, verdict+":")+" "+r.Reason) + "\n")
	for _, n := range r.Notes {
		b.WriteString(style.Wrap("note: ", "  ", n) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
