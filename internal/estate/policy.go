package estate

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/value"
)

// Policy is a policy, as far as it is known and understood.
type Policy struct {
	iampolicy.NamedDocument
	// On is where it stands.
	On *Thing
	// Resolved is the document as plain values. What is not known stands as a name that
	// nothing else has; a statement that is not known, or not understood, as one that says
	// nothing. Nil if the statements are not known at all.
	Resolved any
	// Missing are the expressions of what is not known.
	Missing []string
	// Broken says what is not understood. Nil if all is. Silenced are the statements of which
	// it is one.
	Broken   error
	Silenced []any
	// Partial tells that a statement is left out that could allow something.
	Partial bool
	// Loosened are the statements, by their positions from 1, that are judged without a
	// condition that is not known, with what is not known in it.
	Loosened map[int]string
	// openings are the statements that could allow more than is known.
	openings []opening
}

// opening is a statement that could allow more than is known: some actions, or any. whom
// tells that only whom is not known, for whom a role that is not in the estate stands.
type opening struct {
	any, whom bool
	statement iampolicy.Statement
}

// MayAllow tells whether what is not known of the policy could allow an action: also to
// somebody whom it names and who is not known, if that counts.
func (p *Policy) MayAllow(action string, whom bool) bool {
	return slices.ContainsFunc(p.openings, func(o opening) bool {
		return (whom || !o.whom) && (o.any || o.statement.CoversAction(action))
	})
}

// openingOf is what a statement could allow more than is known. Nil if nothing.
func (e *Estate) openingOf(s any) *opening {
	now := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return e.hasUnknown(value.At(s, name)) })
	}
	if effect := value.At(s, "Effect"); effect == "Deny" {
		return nil
	} else if value.IsUnknown(s) || e.hasUnknown(effect) || now("Action", "NotAction") {
		return &opening{any: true}
	}
	o := &opening{statement: iampolicy.Statement{Action: value.Texts(value.At(s, "Action"))}}
	if not := value.At(s, "NotAction"); not != nil {
		o.statement.NotAction = value.Texts(not)
	}
	principal := value.At(s, "Principal")
	switch {
	case now("Resource", "NotResource", "Condition", "NotPrincipal"), value.IsOpen(principal), e.hasUnknown(value.At(principal, "Service")), e.hasUnknown(value.At(principal, "Federated")):
		return o
	case e.hasUnknown(value.At(principal, "AWS")):
		o.whom = true
		return o
	}
	return nil
}

// hasUnknown tells whether something in a value of a policy is not known. A policy variable
// of IAM is.
func (e *Estate) hasUnknown(v any) bool {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, e.hasUnknown)
	case map[string]any:
		for _, below := range v {
			if e.hasUnknown(below) {
				return true
			}
		}
		return false
	}
	return expressionIn(v) != "" && e.Lookup(v) == nil
}

// Unknown lists what is not known of the policy, as it stands in a text.
func (p *Policy) Unknown() string { return "${" + strings.Join(p.Missing, "}, ${") + "}" }

// Err says why the policy can't be taken as a whole. Nil if it can.
func (p *Policy) Err() error {
	if p.Broken == nil && p.Resolved == nil {
		return fmt.Errorf("KeyPolicy is %s, which is not in the template", p.Unknown())
	}
	return p.Broken
}

// use says what a policy is for.
type use int

const (
	ofKey use = iota
	ofResource
	ofIdentity
)

// defaultKeyPolicy is the policy that KMS gives a key that is made without one.
//
// Source: AWS KMS Developer Guide, "Default key policy".
func defaultKeyPolicy(s *Stack) any {
	return map[string]any{"Version": iampolicy.Version, "Statement": []any{map[string]any{
		"Sid": "default key policy", "Effect": "Allow",
		"Principal": map[string]any{"AWS": s.Root()}, "Action": "kms:*", "Resource": "*",
	}}}
}

// readPolicy reads a resolved policy. Where it depends on conditions, it is all that one of
// them allows, less what is denied in every case.
func (e *Estate) readPolicy(on *Thing, name string, policy any, use use) *Policy {
	p := &Policy{NamedDocument: iampolicy.NamedDocument{Name: name}, On: on}
	if policy == nil {
		p.Broken = errors.New("is not set")
		return p
	}
	w := &standIn{estate: e, account: on.In.Account, role: strings.TrimSuffix(on.In.Root(), "root") + "role/", silent: silent(on.In, use)}
	if s, ok := policy.(string); ok { // key policies may be given as text
		if err := json.Unmarshal([]byte(s), &policy); err != nil {
			if w.unknown(s) {
				p.Missing = w.missing
				return p
			}
			p.Broken = errors.New(hint.Plain(err))
			return p
		}
	}
	var resolved any
	statements := []any{}
	cases := value.Alternatives(policy)
	in := map[string]int{}
	for _, one := range cases {
		if w.unknown(one) {
			p.Missing = w.missing
			return p
		}
		for _, s := range value.List(value.At(one, "Statement")) {
			if o := e.openingOf(s); o != nil {
				p.openings = append(p.openings, *o)
			}
		}
		known := withoutUnknown(one, w)
		if known == nil {
			p.Missing = w.missing
			return p
		}
		resolved = w.replace(known, "")
		for _, s := range value.List(value.At(resolved, "Statement")) {
			id := value.Show(s)
			if in[id]++; in[id] == 1 || len(cases) == 1 {
				statements = append(statements, s)
			}
		}
	}
	p.Missing, p.Partial = w.missing, w.partial
	if len(cases) == 1 {
		p.Loosened = w.loosened
	}
	m, ok := resolved.(map[string]any)
	if ok {
		m = maps.Clone(m)
		m["Statement"] = slices.DeleteFunc(statements, func(s any) bool {
			return len(cases) > 1 && value.At(s, "Effect") == "Deny" && in[value.Show(s)] < len(cases)
		})
		resolved = m
	}
	p.NamedDocument, p.Broken = understood(name, resolved, use)
	if p.Broken != nil {
		if !ok {
			return p
		}
		// One statement that is not understood takes nothing from the others.
		p.Partial = true
		statements = value.List(m["Statement"])
		for i, s := range statements {
			alone := maps.Clone(m)
			alone["Statement"] = []any{s}
			if _, err := understood(name, alone, use); err != nil {
				p.Silenced = append(p.Silenced, s)
				if value.At(s, "Effect") != "Deny" {
					p.openings = append(p.openings, opening{any: true})
				}
				statements[i] = w.silent
			}
		}
		m["Statement"] = statements
		var err error
		if p.NamedDocument, err = understood(name, m, use); err != nil {
			p.Silenced = statements
			return p
		}
	}
	p.Resolved = resolved
	return p
}

// Replaced is the policy with another text in each place of one.
func (p *Policy) Replaced(text, by string) *Policy {
	data, err := json.Marshal(p.Resolved)
	n := *p
	if err == nil {
		n.Resolved = nil
		err = json.Unmarshal(bytes.ReplaceAll(data, []byte(text), []byte(by)), &n.Resolved)
	}
	if err == nil {
		n.NamedDocument, err = understood(p.Name, n.Resolved, ofKey)
	}
	n.Broken = cmp.Or(n.Broken, err)
	return &n
}

// understood reads a document and checks it.
func understood(name string, resolved any, use use) (iampolicy.NamedDocument, error) {
	d := iampolicy.NamedDocument{Name: name}
	data, err := json.Marshal(resolved)
	if err != nil {
		return d, err
	}
	if d.Document, err = iampolicy.Parse(data); err != nil {
		return d, err
	}
	for i, s := range d.Statement {
		if use == ofResource && s.Resource == nil && s.NotResource == nil {
			d.Statement[i].Resource = iampolicy.Values{"*"} // of a trust policy: the role itself
		}
	}
	return d.Checked(use != ofIdentity)
}

// silent is a statement that says nothing.
func silent(s *Stack, use use) any {
	statement := map[string]any{"Effect": "Deny", "Action": "unknown:nothing", "Resource": "*"}
	if use != ofIdentity {
		statement["Principal"] = map[string]any{"AWS": s.Root()}
	}
	return statement
}

// withoutUnknown silences the statements of which the template does not say the whole or the
// effect, and leaves out conditions of which it does not say which they are: an Allow is judged
// without them, a Deny is silenced. It is nil if the statements are not known at all.
func withoutUnknown(policy any, w *standIn) any {
	m, ok := policy.(map[string]any)
	if !ok {
		return policy
	}
	if w.unknown(m["Statement"]) {
		return nil
	}
	m = maps.Clone(m)
	if w.unknown(m["Version"]) {
		m["Version"] = iampolicy.Version
	}
	w.loosened = map[int]string{}
	var statements []any
	for i, s := range value.List(m["Statement"]) {
		if w.unknown(s) || w.unknown(value.At(s, "Effect")) {
			w.partial = true
			statements = append(statements, w.silent)
			continue
		}
		fields, _ := s.(map[string]any)
		condition, there := fields["Condition"]
		if there {
			if left, without := known(condition, w); without != "" {
				if value.Text(fields["Effect"]) == "Deny" {
					statements = append(statements, w.silent)
					continue
				}
				w.loosened[i+1] = without
				fields = maps.Clone(fields)
				delete(fields, "Condition")
				if left != nil {
					fields["Condition"] = left
				}
				s = fields
			}
		}
		statements = append(statements, s)
	}
	m["Statement"] = statements
	return m
}

// known is what of the operators and keys of a condition the template says, and one thing
// that it does not.
func known(condition any, w *standIn) (left any, without string) {
	unknown := func(v any) bool {
		ok := w.unknown(v)
		if ok {
			without = expressionIn(v)
		}
		return ok
	}
	if unknown(condition) {
		return nil, without
	}
	if c, ok := condition.(map[string]any); ok {
		left := map[string]any{}
		for operator, keys := range c {
			if unknown(keys) {
				continue
			}
			if m, ok := keys.(map[string]any); ok && slices.Contains([]string{"Bool", "Null"}, base(operator)) {
				m = maps.Clone(m)
				for key, values := range m {
					for _, v := range value.List(values) {
						if unknown(v) {
							delete(m, key)
						}
					}
				}
				if keys = m; len(m) == 0 {
					continue
				}
			}
			left[operator] = keys
		}
		if len(left) > 0 {
			return left, without
		}
		return nil, without
	}
	return condition, ""
}

// base is an operator without what stands around it.
func base(operator string) string {
	return strings.TrimSuffix(operator[strings.Index(operator, ":")+1:], "IfExists")
}

// What the values of some operators look like.
const (
	formatAddress = "address"
	formatDate    = "date"
	formatNumber  = "number"
)

func format(operator string) string {
	switch operator = base(operator); {
	case operator == "IpAddress" || operator == "NotIpAddress":
		return formatAddress
	case strings.HasPrefix(operator, "Date"):
		return formatDate
	case strings.HasPrefix(operator, "Numeric"):
		return formatNumber
	}
	return ""
}

// standIn replaces what a template leaves open. A principal becomes a role of the
// account, a resource one that nothing else is, and a value of a condition one that its
// key can have.
type standIn struct {
	account, role string
	// silent is what stands for a statement that is not known.
	silent   any
	partial  bool
	loosened map[int]string
	missing  []string
	estate   *Estate
}

// unknown tells that a value is not known, or a text of which a part is not, and keeps what.
func (w *standIn) unknown(v any) bool {
	expression := expressionIn(v)
	if expression != "" {
		w.name(expression)
	}
	return expression != ""
}

// expressionIn is what is not known of a value, or of a text. Empty if all is: a policy
// variable of IAM is known.
func expressionIn(v any) string {
	switch v := v.(type) {
	case value.Unknown:
		return v.Expression
	case string:
		if !strings.Contains(v, "${") {
			return ""
		}
		for _, m := range placeholder.FindAllStringSubmatch(v, -1) {
			if !policyVariable.MatchString(m[1]) {
				return m[1]
			}
		}
	}
	return ""
}

// nowhere begins the ARN of a resource that is not known.
const nowhere = "arn:aws:unknown:::"

var placeholder = regexp.MustCompile(`\$\{([^}]*)\}`)

func (w *standIn) name(expression string) string {
	if !slices.Contains(w.missing, expression) {
		w.missing = append(w.missing, expression)
	}
	return "unknown-" + strings.Map(func(r rune) rune {
		if r < 128 && (r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z') {
			return r
		}
		return '-'
	}, expression)
}

// value stands for a text under a key of a policy, or of a condition.
func (w *standIn) value(expression, key string) string {
	name := w.name(expression)
	plain := strings.ToLower(strings.ReplaceAll(name, "-", ""))
	switch strings.ToLower(key) {
	case formatAddress:
		return fmt.Sprintf("192.0.2.%d/32", slices.Index(w.missing, expression)%256) // of RFC 5737
	case formatDate:
		return "2099-12-31T23:59:59Z"
	case formatNumber:
		return "1234567890"
	case "service":
		return "unknown-" + plain + ".amazonaws.com"
	case "federated":
		return strings.TrimSuffix(w.role, "role/") + "oidc-provider/" + name
	case "aws", "aws:principalarn":
		return w.role + name
	case "resource", "notresource", "aws:sourcearn":
		return nowhere + name
	case "action", "notaction":
		return "unknown:" + plain
	case "aws:principalaccount", "kms:calleraccount", "aws:sourceaccount":
		return w.account
	case "aws:principalorgid", "aws:sourceorgid":
		return "o-" + plain
	case "aws:principalorgpaths", "aws:sourceorgpaths":
		return "o-" + plain + "/r-" + plain + "/*"
	case "aws:sourcevpc":
		return "vpc-" + plain
	case "aws:sourcevpce":
		return "vpce-" + plain
	}
	return name
}

func (w *standIn) replace(v any, key string) any {
	switch v := v.(type) {
	case value.Unknown:
		if key == "Principal" || key == "NotPrincipal" {
			return map[string]any{"AWS": w.value(v.Expression, "AWS")}
		}
		return w.value(v.Expression, key)
	case string:
		m := placeholder.FindStringSubmatchIndex(v)
		if m != nil && (key == "Principal" || key == "NotPrincipal") && w.unknown(v) {
			return map[string]any{"AWS": w.value(v[m[2]:m[3]], "AWS")}
		}
		if named := w.estate.Lookup(v); m != nil && named != nil && named.ARN != "" {
			return named.ARN // of which the name is not known
		}
		switch {
		case m != nil && (key == "AWS" || strings.EqualFold(key, "aws:PrincipalArn")) && !policyVariable.MatchString(v[m[2]:m[3]]):
			if key != "AWS" && strings.Count(v[:m[0]], ":") == 4 { // the account, before a name that may be a pattern
				return strings.Replace(v, v[m[0]:m[1]], w.value(v[m[2]:m[3]], "aws:PrincipalAccount"), 1)
			}
			return w.value(v[m[2]:m[3]], key) // the whole, or its account, or its name
		case m != nil && slices.Contains([]string{"Action", "NotAction", "Service", "Federated", formatAddress, formatDate, formatNumber}, key):
			return w.value(v[m[2]:m[3]], key)
		}
		known := placeholder.ReplaceAllStringFunc(v, func(p string) string {
			// IAM's own variables have a colon, or are one of ${*}, ${?}, ${$}.
			if name := p[2 : len(p)-1]; !policyVariable.MatchString(name) {
				return w.name(name)
			}
			return p
		})
		if (key == "Resource" || key == "NotResource") && known != v && !strings.HasPrefix(known, "arn:") {
			known = nowhere + known
		}
		return known
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = w.replace(e, key)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = w.replace(e, cmp.Or(format(key), k))
		}
		return out
	}
	return v
}

var policyVariable = regexp.MustCompile(`^([*?$]|(aws|kms|sts|iam|saml|s3|ec2|sns|accounts\.google\.com|graph\.facebook\.com|www\.amazon\.com|cognito-identity\.amazonaws\.com):.*)$`)
