package iampolicy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// Caller is who sends a request.
type Caller struct {
	// ARN of an account root, a user, a role, a role session
	// (arn:aws:sts::111122223333:assumed-role/Name/session) or a federated user,
	// or the name of a service principal, such as eks.amazonaws.com. A role
	// stands for any session of it.
	ARN string
	// RoleARN is the role of a session, which the session's ARN gives only if the
	// role has no path. Default: the role without a path.
	RoleARN string
	// Provider is the identity provider of a web identity or SAML session.
	// Default: none.
	Provider string
}

// Context holds the condition keys of a request and their values. Names are
// compared without regard to case. A key that is not there is absent.
type Context map[string]Values

// Request is one call of an AWS API.
type Request struct {
	Caller Caller
	// Action, such as kms:Decrypt, without wildcards. Of other services than AWS KMS it
	// is decided by the policies alone, as what an AWS service may do with a bucket, a
	// topic or a role is.
	Action string
	// Resource is the ARN of the key, or of what else the action is about.
	Resource string
	Context  Context
}

// NamedDocument is a policy with a name for messages, such as the path of the
// resource in a template.
type NamedDocument struct {
	Name string
	Document
	// checked tells that there is nothing wrong with it.
	checked bool
}

// Checked finds what IAM would not take in a policy of a resource, or of an identity, or
// what is not understood, also in statements that are not about a request. What it returns
// is not checked again by each question.
func (d NamedDocument) Checked(ofResource bool) (NamedDocument, error) {
	if d.checked {
		return d, nil
	}
	d.checked = true
	return d, checkPolicy(d, ofResource)
}

// Grant is a grant of AWS KMS.
type Grant struct {
	Name string
	// Grantee and Retiring are ARNs, or service principals.
	Grantee, Retiring string
	// Operations, as in the KMS API: Decrypt, without "kms:".
	Operations []string
	// EncryptionContextEquals and EncryptionContextSubset are the constraints.
	// At most one of them is set.
	EncryptionContextEquals, EncryptionContextSubset map[string]string
}

// Policies are those that decide on a request.
type Policies struct {
	// Resource is the policy of the key.
	Resource NamedDocument
	// Identity are the policies of the caller, in its own account.
	Identity []NamedDocument
	Grants   []Grant
	// Organization are the service control policies and the resource control policies that
	// apply to the account of the key, which is not the organization's management account.
	// Their Allow statements are taken together, as those of one level; without any, all is
	// allowed. Other accounts' own are not known.
	Organization []NamedDocument
}

// Source is what decides: a statement of a policy, or a grant.
type Source struct {
	// Policy is the name of the document, or "grant".
	Policy string
	// Statement is the statement's position, from 1. 0 for a grant.
	Statement int
	// Sid of the statement, or the name of the grant.
	Sid string
}

// Decision is the answer to a request.
type Decision struct {
	Allowed bool
	// Explicit tells that a Deny decided. A request that nothing allows is denied
	// too, with By empty.
	Explicit bool
	// By is what decides: the Deny; or what allows: one statement of the key
	// policy, or its delegation and the identity policy's statement, or a grant.
	By []Source
	// Reason is one sentence for people.
	Reason string
}

// Requirement is one condition that a request must meet.
type Requirement struct {
	// Operator and Key are as the policy writes them. Without a Key, the operator is
	// OperatorResource or OperatorNotResource, and the values are ARNs with policy
	// variables, that must or must not name the key of the request.
	Operator, Key string
	// Values are sorted. Policy variables in them are not replaced.
	Values Values
	Source Source
}

// The operators of a Requirement that is about the resource, not about a condition.
const (
	OperatorResource    = "Resource"
	OperatorNotResource = "NotResource"
)

// Path is one way in which statements match a request whose context is open.
type Path struct {
	By []Source
	// Conditions are what is left to be met, all of them.
	Conditions []Requirement
}

// Outcome is what is known of a request whose context is open.
type Outcome struct {
	// Allow are the ways to be allowed. A way without conditions allows always,
	// as far as Deny lets it.
	Allow []Path
	// Deny are the ways to be denied, which win. One without conditions denies
	// always; Allow is empty then.
	Deny []Path
}

// Evaluate decides on a request: a condition key that its context does not have,
// and that does not follow from its caller, is absent. The error says what in the
// request or the policies is malformed or not known; nothing is decided then.
//
// Sources: AWS KMS Developer Guide, "Troubleshooting AWS KMS permissions", "Allows
// access to the AWS account and enables IAM policies" and "Allowing users in other
// accounts to use a KMS key"; IAM User Guide, "Policy evaluation logic".
func Evaluate(r Request, p Policies) (Decision, error) {
	j, err := newJudge(r, p)
	if err != nil {
		return Decision{}, err
	}
	j.facts.everything = true
	outcome, err := j.outcome()
	if err != nil {
		return Decision{}, err
	}
	about := fmt.Sprintf("%s is %%s to %s: ", j.action.Name, r.Caller.ARN)
	switch {
	case len(outcome.Deny) > 0:
		by := outcome.Deny[0].By
		return Decision{Explicit: true, By: by, Reason: fmt.Sprintf(about, "denied") + describe(by)}, nil
	case len(outcome.Allow) > 0:
		by := outcome.Allow[0].By
		return Decision{Allowed: true, By: by, Reason: fmt.Sprintf(about, "allowed") + describe(by)}, nil
	}
	return Decision{Reason: fmt.Sprintf(about, "denied") + j.shortfall}, nil
}

// Explain decides on a request as far as its context is given: a condition on a
// key that the context does not have is left open, unless it follows from the
// caller or the action carries no such key. Of the encryption context, a context
// that has one pair, or kms:EncryptionContextKeys, counts as complete.
func Explain(r Request, p Policies) (Outcome, error) {
	j, err := newJudge(r, p)
	if err != nil {
		return Outcome{}, err
	}
	return j.outcome()
}

// Met tells whether a request meets the requirement. It takes the whole context
// of the request, as Evaluate does.
func (q Requirement) Met(r Request) (bool, error) {
	j, err := newJudge(r, Policies{})
	if err != nil {
		return false, err
	}
	j.facts.everything = true
	var met truth
	switch q.Operator {
	case OperatorResource:
		met, err = j.resource(q.Values, true)
	case OperatorNotResource:
		met, err = j.resource(q.Values, true)
		met = met.not()
	default:
		met, err = j.facts.meets(q.Operator, q.Key, q.Values, true)
	}
	return met == yes, err
}

var keyARN = regexp.MustCompile(`^arn:(aws[a-z-]*):kms:[^:]*:(\d{12}):key/.+$`)

// judge decides on one request.
type judge struct {
	caller             who
	action             KMSAction
	key                string
	partition, account string
	facts              *facts
	policies           Policies
	// shortfall says what was missing, if nothing allows the request.
	shortfall string
}

func newJudge(r Request, p Policies) (*judge, error) {
	caller, err := parseCaller(r.Caller)
	if err != nil {
		return nil, err
	}
	action, known := kmsAction(r.Action)
	if !known && (strings.HasPrefix(strings.ToLower(r.Action), "kms:") || !actionPattern.MatchString(r.Action) || strings.ContainsAny(r.Action, "*?")) {
		return nil, fmt.Errorf("%q is no action of AWS KMS on a key, such as kms:Decrypt", r.Action)
	}
	key := keyARN.FindStringSubmatch(r.Resource)
	switch {
	case !known && key != nil:
		return nil, fmt.Errorf("%q is no action of AWS KMS on a key, such as kms:Decrypt", r.Action)
	case !known: // of another service, whose keys are all known to be possible
		action = KMSAction{Name: r.Action, CrossAccount: true}
		key = []string{r.Resource, "", ""}
		if a, err := arn.Parse(r.Resource); err == nil {
			key[1], key[2] = a.Partition, a.AccountID
		}
	case key == nil:
		return nil, fmt.Errorf("%q is not the ARN of a KMS key", r.Resource)
	}
	facts, err := newFacts(r.Context, caller, action)
	if err != nil {
		return nil, err
	}
	if p.Resource.Name == "" {
		p.Resource.Name = "key policy"
	}
	if p.Resource, err = p.Resource.Checked(true); err != nil {
		return nil, err
	}
	for i, d := range p.Identity {
		if d.checked && d.Name != "" {
			continue
		}
		p.Identity = slices.Clone(p.Identity)
		d.Name = cmp.Or(d.Name, fmt.Sprintf("identity policy %d", i+1))
		if p.Identity[i], err = d.Checked(false); err != nil {
			return nil, err
		}
	}
	for i, d := range p.Organization {
		if !d.checked {
			p.Organization = slices.Clone(p.Organization)
			if p.Organization[i], err = d.OfOrganization(); err != nil {
				return nil, err
			}
		}
	}
	// A request to a key is one to the endpoint of its Region.
	if _, given := facts.context[requestedRegion]; !given && known {
		facts.context[requestedRegion] = Values{regionOf(r.Resource)}
	}
	return &judge{
		caller: caller, action: action, key: r.Resource, partition: key[1], account: key[2], facts: facts, policies: p,
	}, nil
}

const requestedRegion = "aws:requestedregion"

func regionOf(key string) string { return strings.Split(key, ":")[3] }

func checkPolicy(d NamedDocument, ofResource bool) error {
	err := d.wellFormed()
	for i, s := range d.Statement {
		if err != nil {
			break
		}
		if err = checkStatement(s, ofResource, d.Version == Version); err != nil {
			err = fmt.Errorf("statement %d: %w", i+1, err)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.Name, err)
	}
	return nil
}

var actionPattern = regexp.MustCompile(`^(\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+)$`)

func checkStatement(s Statement, ofResource, variables bool) error {
	named := !s.Principal.none() || !s.NotPrincipal.none()
	switch {
	case ofResource && !named:
		return errors.New("has no Principal, which a key policy must have")
	case !ofResource && named:
		return errors.New("has a Principal, which an identity policy can't have")
	case s.Resource == nil && s.NotResource == nil:
		return errors.New("has no Resource")
	case s.NotPrincipal.Federated != nil:
		return errors.New("NotPrincipal names an identity provider, which is not documented")
	}
	for _, p := range []Principal{s.Principal, s.NotPrincipal} {
		if err := checkPrincipal(p); err != nil {
			return err
		}
	}
	for _, a := range slices.Concat(s.Action, s.NotAction) {
		if !actionPattern.MatchString(a) {
			return fmt.Errorf("%q is no action, such as kms:Decrypt", a)
		}
	}
	for _, r := range slices.Concat(s.Resource, s.NotResource) {
		if r != "*" && !strings.HasPrefix(r, "arn:") {
			return fmt.Errorf("resource %q is neither an ARN nor \"*\"", r)
		}
		if _, _, err := (&facts{everything: true}).text(r, variables); err != nil {
			return fmt.Errorf("resource: %w", err)
		}
		if before, _, found := strings.Cut(r, "${"); variables && found && strings.Count(before, ":") < 5 {
			return fmt.Errorf("resource %q has a policy variable before its fifth colon", r)
		}
	}
	return checkCondition(s.Condition, variables)
}

const retireGrant = "kms:RetireGrant"

// match is a statement that is about the request.
type match struct {
	how naming
	// grant tells that it is a grant, which needs no IAM policy beside it.
	grant bool
	Path
}

// matches finds the statements with the effect that are about the request, and
// what of their conditions is left open.
func (j *judge) matches(d NamedDocument, effect Effect) ([]match, error) {
	var found []match
	for i, s := range d.Statement {
		if s.Effect != effect || !s.CoversAction(j.action.Name) {
			continue
		}
		how := byName
		switch {
		case !s.Principal.none():
			how = j.caller.in(s.Principal)
		case !s.NotPrincipal.none() && j.caller.exempt(s.NotPrincipal):
			how = unnamed
		}
		if how == unnamed {
			continue
		}
		by := Source{Policy: d.Name, Statement: i + 1, Sid: s.Sid}
		left, met, err := j.conditions(s, by, d.Version == Version)
		if err != nil {
			return nil, err
		}
		if met {
			found = append(found, match{how: how, Path: Path{By: []Source{by}, Conditions: left}})
		}
	}
	return found, nil
}

// conditions decides on a statement's resource and conditions. It returns what is
// left open, or false if one is not met.
func (j *judge) conditions(s Statement, by Source, variables bool) (left []Requirement, met bool, err error) {
	leave := func(operator, key string, values Values) {
		values = slices.Clone(values)
		if !variables {
			for i := range values {
				values[i] = withoutVariables(values[i])
			}
		}
		slices.Sort(values)
		left = append(left, Requirement{Operator: operator, Key: key, Values: slices.Compact(values), Source: by})
	}
	about, operator, patterns := yes, OperatorResource, s.Resource
	if s.NotResource != nil {
		operator, patterns = OperatorNotResource, s.NotResource
	}
	if about, err = j.resource(patterns, variables); err != nil {
		return nil, false, err
	}
	if s.NotResource != nil {
		about = about.not()
	}
	switch about {
	case no:
		return nil, false, nil
	case open:
		leave(operator, "", patterns)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Condition)) {
		for _, key := range slices.Sorted(maps.Keys(s.Condition[name])) {
			values := s.Condition[name][key]
			met, err := j.facts.meets(name, key, values, variables)
			if err != nil || met == no {
				return nil, false, err
			}
			if met == open {
				leave(name, key, values)
			}
		}
	}
	return left, true, nil
}

// resource tells whether one of the patterns names the key. In a key policy "*"
// means the key itself.
func (j *judge) resource(patterns Values, variables bool) (truth, error) {
	about := no
	for _, want := range patterns {
		p, known, err := j.facts.text(want, variables)
		if err != nil {
			return no, err
		}
		if known == yes {
			known = truthOf(p.matches(j.key))
		}
		about = max(about, known)
	}
	return about, nil
}

// outcome finds all ways to be denied and to be allowed.
func (j *judge) outcome() (Outcome, error) {
	var out Outcome
	var identity []match
	resource := j.policies.Resource
	if j.action.Name == retireGrant {
		resource.Statement = nil // "not effective in a key policy"
	}
	for _, d := range append([]NamedDocument{resource}, j.policies.Identity...) {
		denies, err := j.matches(d, Deny)
		if err != nil {
			return Outcome{}, err
		}
		for _, m := range denies {
			out.Deny = append(out.Deny, m.Path)
		}
	}
	denied, within, listed, err := j.limits()
	if err != nil {
		return Outcome{}, err
	}
	for _, m := range denied {
		out.Deny = append(out.Deny, m.Path)
	}
	out.Deny = distinct(out.Deny)
	for _, d := range j.policies.Identity {
		allows, err := j.matches(d, Allow)
		if err != nil {
			return Outcome{}, err
		}
		identity = append(identity, allows...)
	}
	key, err := j.matches(resource, Allow)
	if err != nil {
		return Outcome{}, err
	}
	granted, err := j.granted()
	if err != nil {
		return Outcome{}, err
	}
	out.Allow = j.allowed(append(key, granted...), identity)
	if listed {
		out.Allow = j.within(out.Allow, within)
	}
	// One statement that says it is a better answer than two that say it together.
	slices.SortStableFunc(out.Allow, func(a, b Path) int { return len(a.By) - len(b.By) })
	out.Allow = distinct(out.Allow)
	if slices.ContainsFunc(out.Deny, func(p Path) bool { return len(p.Conditions) == 0 }) {
		out.Allow = nil
	}
	return out, nil
}

// allowed are the ways to be allowed: what the key policy or a grant says to the
// caller itself, in its own account; otherwise that and what the caller's account
// says in its IAM policies.
func (j *judge) allowed(key, identity []match) []Path {
	sameAccount := j.sameAccount()
	switch {
	case len(key) == 0 && j.action.Name == retireGrant:
		j.shortfall = "no grant allows it, and a key policy can't"
		return nil
	case len(key) == 0:
		j.shortfall = "no statement of the key policy and no grant allows it"
		return nil
	case !sameAccount && j.caller.kind != service && !j.action.CrossAccount:
		j.shortfall = "AWS KMS does not take this action from another account"
		return nil
	}
	var paths []Path
	for _, k := range key {
		if j.caller.kind == service || j.caller.kind == accountRoot || k.how == byName && (sameAccount || k.grant) {
			paths = append(paths, k.Path)
			continue
		}
		j.shortfall = fmt.Sprintf("%s leaves it to the IAM policies of account %s, and none allows it", k.By[0], j.caller.account)
		for _, i := range identity {
			paths = append(paths, both(k.Path, i.Path))
		}
	}
	return paths
}

// within are the ways that a list of the organization has too.
func (j *judge) within(ways []Path, list []match) (left []Path) {
	for _, way := range ways {
		for _, m := range list {
			left = append(left, Path{By: way.By, Conditions: slices.Concat(way.Conditions, m.Conditions)})
		}
	}
	if len(ways) > 0 && len(left) == 0 {
		j.shortfall = "no service control policy allows it"
	}
	return left
}

// sameAccount tells that the caller is of the key's account.
func (j *judge) sameAccount() bool {
	return j.caller.account == j.account && j.caller.partition == j.partition
}

// both is the way that needs two statements.
func both(a, b Path) Path {
	return Path{By: slices.Concat(a.By, b.By), Conditions: slices.Concat(a.Conditions, b.Conditions)}
}

// granted are the grants that allow the request.
//
// Sources: AWS KMS Developer Guide, "Grants in AWS KMS" and "Retiring and revoking
// grants", by which only a grant lets somebody retire it; AWS KMS API Reference,
// GrantConstraints: the constraints are for cryptographic operations, and their
// keys are compared without regard to case. That a grant to an account needs an
// IAM policy beside it, as a statement for an account does, is inferred.
func (j *judge) granted() ([]match, error) {
	operation := strings.TrimPrefix(j.action.Name, "kms:")
	var found []match
	for _, g := range j.policies.Grants {
		for _, p := range []string{g.Grantee, g.Retiring} {
			if p == "" || serviceName.MatchString(p) || uniqueID.MatchString(p) { // the last is nobody any more
				continue
			}
			if _, err := parseEntity(p); err != nil {
				return nil, fmt.Errorf("grant %s: %w", g.Name, err)
			}
		}
		by := Source{Policy: "grant", Sid: g.Name}
		how := unnamed
		if slices.Contains(g.Operations, operation) {
			how = j.caller.named(g.Grantee)
		}
		if j.action.Name == retireGrant {
			how = max(how, j.caller.named(g.Retiring))
			if how == unnamed && j.sameAccount() {
				how = byAccount // the key's account may retire any grant
			}
		}
		if how == unnamed {
			continue
		}
		constraint := Statement{Resource: Values{"*"}}
		if j.action.Class == Cryptographic && j.action.Carries(encryptionContext) {
			constraint.Condition = g.condition()
		}
		left, met, err := j.conditions(constraint, by, false)
		if err != nil {
			return nil, err
		}
		if met {
			found = append(found, match{how, true, Path{By: []Source{by}, Conditions: left}})
		}
	}
	return found, nil
}

// condition says in the policy language what the grant's constraints mean.
func (g Grant) condition() Condition {
	pairs := g.EncryptionContextSubset
	if g.EncryptionContextEquals != nil {
		pairs = g.EncryptionContextEquals
	}
	if pairs == nil {
		return nil
	}
	c := Condition{"StringEquals": {}}
	for key, value := range pairs {
		c["StringEquals"][encryptionContext+key] = Values{value}
	}
	if g.EncryptionContextEquals != nil {
		c["ForAllValues:StringEqualsIgnoreCase"] = map[string]Values{
			"kms:EncryptionContextKeys": slices.Sorted(maps.Keys(pairs)),
		}
	}
	return c
}

// distinct leaves out paths that ask for the same as an earlier one, and from each
// path the conditions that it has twice.
func distinct(paths []Path) []Path {
	var kept []Path
	seen := map[string]bool{}
	for _, p := range paths {
		slices.SortStableFunc(p.Conditions, func(a, b Requirement) int { return strings.Compare(a.text(), b.text()) })
		p.Conditions = slices.CompactFunc(p.Conditions, func(a, b Requirement) bool { return a.text() == b.text() })
		if id := p.text(); !seen[id] {
			seen[id] = true
			kept = append(kept, p)
		}
	}
	return kept
}

// text is the same for paths that ask for the same, once they are sorted.
func (p Path) text() string {
	var b strings.Builder
	for _, c := range p.Conditions {
		b.WriteString(c.text() + "\n")
	}
	return b.String()
}

// text is the same for requirements that ask for the same.
func (q Requirement) text() string {
	return fmt.Sprintf("%q %s %q", strings.ToLower(q.Key), q.Operator, q.Values)
}

// String names the source for people.
func (s Source) String() string {
	name := fmt.Sprintf("statement %d of %s", s.Statement, s.Policy)
	if s.Statement == 0 {
		name = s.Policy
	}
	if s.Sid != "" {
		name += " (" + s.Sid + ")"
	}
	return name
}

func describe(by []Source) string {
	names := make([]string, len(by))
	for i, s := range by {
		names[i] = s.String()
	}
	return strings.Join(names, " and ")
}
