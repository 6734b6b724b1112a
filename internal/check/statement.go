package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/place"
)

// useActions are the cryptographic actions of a symmetric key.
var useActions = []string{
	"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyPair", "kms:GenerateDataKeyPairWithoutPlaintext",
	"kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo",
}

const (
	actionGrant    = "kms:CreateGrant"
	actionDescribe = "kms:DescribeKey"
	actionPut      = "kms:PutKeyPolicy"
)

// keyActions are all actions that a key policy can give on a symmetric key.
var keyActions = slices.Concat(useActions, []string{actionGrant}, keypolicy.Administration(true))

// statement is a statement of a key policy, as far as the rules look at its
// text: what it means together with the others, package iampolicy decides.
type statement struct {
	// position from 1, as in iampolicy.Source.
	position int
	sid      string
	allow    bool
	// anybody tells that it is for everybody, or for everybody but some.
	anybody bool
	// principals are ARNs; an account's number stands as that of its root.
	principals, services []string
	federated            bool
	actions, notActions  []string
	conditions           []iampolicy.Requirement
}

// namesAccount tells whether a condition says of which account everybody is meant.
func (s statement) namesAccount() bool {
	return slices.ContainsFunc(s.conditions, func(r iampolicy.Requirement) bool {
		return isKey(r, "kms:CallerAccount", "aws:PrincipalAccount") && pins(r)
	})
}

func (s statement) String() string {
	if s.sid != "" {
		return "statement " + s.sid
	}
	return fmt.Sprintf("statement %d", s.position)
}

func (s statement) covers(action string) bool {
	match := func(pattern string) bool { return wild(pattern, action) }
	if s.notActions != nil {
		return !slices.ContainsFunc(s.notActions, match)
	}
	return slices.ContainsFunc(s.actions, match)
}

func (s statement) coversAll() bool {
	return !slices.ContainsFunc(keyActions, func(a string) bool { return !s.covers(a) })
}

// actionText writes the actions as the policy has them.
func (s statement) actionText() string {
	if s.notActions != nil {
		return "all but " + strings.Join(s.notActions, ", ")
	}
	return strings.Join(s.actions, ", ")
}

func readStatements(policy any, partition string) []statement {
	var all []statement
	for i, raw := range list(at(policy, "Statement")) {
		s := statement{position: i + 1, sid: text(at(raw, "Sid")), allow: text(at(raw, "Effect")) == "Allow", actions: texts(at(raw, "Action"))}
		if not := at(raw, "NotAction"); not != nil {
			s.notActions = texts(not)
		}
		principal := at(raw, "Principal")
		s.anybody = principal == "*" || at(raw, "NotPrincipal") != nil
		s.services, s.federated = texts(at(principal, "Service")), at(principal, "Federated") != nil
		for _, p := range texts(at(principal, "AWS")) {
			switch {
			case p == "*":
				s.anybody = true
			case place.IsAccount(p):
				s.principals = append(s.principals, "arn:"+partition+":iam::"+p+":root")
			default:
				s.principals = append(s.principals, p)
			}
		}
		condition, _ := at(raw, "Condition").(map[string]any)
		for _, operator := range sortedKeys(condition) {
			keys, _ := condition[operator].(map[string]any)
			for _, key := range sortedKeys(keys) {
				s.conditions = append(s.conditions, iampolicy.Requirement{Operator: operator, Key: key, Values: texts(keys[key])})
			}
		}
		all = append(all, s)
	}
	return all
}

// document turns a resolved policy into a typed one. What is not in the
// template stands as a name that nothing else has, and is returned too. Where the policy
// depends on conditions, it is all that one of them allows, less what is denied in every
// case.
func document(policy any, t *cfn.Template) (doc iampolicy.Document, resolved any, missing []string, err error) {
	if s, ok := policy.(string); ok {
		// Key policies may be given as text.
		if err := json.Unmarshal([]byte(s), &policy); err != nil {
			return doc, nil, nil, err
		}
	}
	w := &standIn{account: t.Account, role: "arn:" + t.Partition + ":iam::" + t.Account + ":role/"}
	cases := cfn.Alternatives(policy)
	in := map[string]int{}
	var statements []any
	for _, one := range cases {
		if u, ok := one.(cfn.Unknown); ok {
			return doc, nil, []string{u.Expression}, nil
		}
		known := withoutUnknown(one, w)
		if known == nil {
			return doc, nil, w.missing, nil
		}
		resolved = w.replace(known, "")
		for _, s := range list(at(resolved, "Statement")) {
			id := show(s)
			if in[id]++; in[id] == 1 {
				statements = append(statements, s)
			}
		}
	}
	if m, ok := resolved.(map[string]any); ok && len(cases) > 1 {
		statements = slices.DeleteFunc(statements, func(s any) bool { return at(s, "Effect") == "Deny" && in[show(s)] < len(cases) })
		resolved = maps.Clone(m)
		resolved.(map[string]any)["Statement"] = statements
	}
	data, err := json.Marshal(resolved)
	if err != nil {
		return doc, nil, nil, err
	}
	doc, err = iampolicy.Parse(data)
	return doc, resolved, w.missing, err
}

// withoutUnknown leaves out the statements of which the template does not say the whole or
// the effect, and conditions of which it does not say which they are: an Allow is judged
// without them, a Deny is left out. It is nil if the statements are not known at all.
func withoutUnknown(policy any, w *standIn) any {
	m, ok := policy.(map[string]any)
	if !ok {
		return policy
	}
	if u, is := m["Statement"].(cfn.Unknown); is {
		w.name(u.Expression)
		return nil
	}
	m = maps.Clone(m)
	if u, is := m["Version"].(cfn.Unknown); is {
		w.name(u.Expression)
		m["Version"] = iampolicy.Version
	}
	var statements []any
	for _, s := range list(m["Statement"]) {
		if u, is := s.(cfn.Unknown); is {
			w.name(u.Expression)
			continue
		}
		if u, is := at(s, "Effect").(cfn.Unknown); is {
			w.name(u.Expression)
			continue
		}
		fields, _ := s.(map[string]any)
		condition, there := fields["Condition"]
		if there {
			left := known(condition, w)
			if !reflect.DeepEqual(left, condition) {
				if text(fields["Effect"]) == "Deny" {
					continue
				}
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
	if len(statements) == 0 && len(w.missing) > 0 {
		return nil
	}
	m["Statement"] = statements
	return m
}

// known is what of the operators and keys of a condition the template says.
func known(condition any, w *standIn) any {
	switch c := condition.(type) {
	case cfn.Unknown:
		w.name(c.Expression)
		return nil
	case map[string]any:
		left := map[string]any{}
		for operator, keys := range c {
			if u, is := keys.(cfn.Unknown); is {
				w.name(u.Expression)
				continue
			}
			if m, is := keys.(map[string]any); is && slices.Contains([]string{"Bool", "Null"}, base(operator)) {
				m = maps.Clone(m)
				for key, values := range m {
					for _, v := range list(values) {
						if u, is := v.(cfn.Unknown); is {
							w.name(u.Expression)
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
			return left
		}
		return nil
	}
	return condition
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
	missing       []string
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
	case cfn.Unknown:
		if key == "Principal" || key == "NotPrincipal" {
			return map[string]any{"AWS": w.value(v.Expression, "AWS")}
		}
		return w.value(v.Expression, key)
	case string:
		m := placeholder.FindStringSubmatchIndex(v)
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

// pins tells whether a requirement limits its key to values that somebody chose:
// a key that is absent must not meet it, nor any value, nor the lack of a
// property.
func pins(r iampolicy.Requirement) bool {
	operator, all := strings.CutPrefix(r.Operator, "ForAllValues:")
	// Every CreateGrant names its operations, so here ForAllValues limits.
	if all && !isKey(r, "kms:GrantOperations") {
		return false
	}
	operator = strings.TrimPrefix(operator, "ForAnyValue:")
	if strings.HasSuffix(operator, "IfExists") || strings.Contains(operator, "Not") || operator == "Null" {
		return false
	}
	if operator == "Bool" && slices.ContainsFunc(r.Values, func(v string) bool { return strings.EqualFold(v, "false") }) {
		return false
	}
	return !slices.ContainsFunc(r.Values, anything)
}

// excludes tells whether a requirement of a Deny is met by requests that do not
// have one of some values, so that the Deny asks for them.
func excludes(r iampolicy.Requirement) bool {
	operator := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(r.Operator, "ForAllValues:"), "ForAnyValue:"), "IfExists")
	switch operator {
	case "Null":
		// With that a context must be there, but any will do.
		return slices.Equal(r.Values, []string{"true"}) && !isKey(r, contextKeys...)
	case "Bool":
		return slices.Equal(r.Values, []string{"false"})
	}
	return strings.Contains(operator, "Not") && !strings.HasPrefix(r.Operator, "ForAnyValue:") && !slices.ContainsFunc(r.Values, anything)
}

// anything tells whether a pattern matches every value.
func anything(pattern string) bool { return strings.Trim(pattern, "*?") == "" }

func isKey(r iampolicy.Requirement, keys ...string) bool {
	return slices.ContainsFunc(keys, func(k string) bool {
		if prefix, ok := strings.CutSuffix(k, "*"); ok {
			return len(r.Key) >= len(prefix) && strings.EqualFold(r.Key[:len(prefix)], prefix)
		}
		return strings.EqualFold(r.Key, k)
	})
}

// The condition keys that say something on a matter.
var (
	contextKeys = []string{"kms:EncryptionContext:*", "kms:EncryptionContextKeys"}
	sourceKeys  = []string{"aws:SourceArn", "aws:SourceAccount", "aws:SourceOrgID", "aws:SourceOrgPaths"}
	grantKeys   = []string{
		"kms:GrantIsForAWSResource", "kms:GrantConstraintType", "kms:GrantOperations", "kms:GranteePrincipal", "kms:ViaService", "kms:EncryptionContext:*",
	}
	// delegateKeys say who of the account is meant, or through which service. An
	// encryption context does not: whoever IAM allows may send it.
	delegateKeys = []string{"aws:PrincipalArn", "aws:userid", "kms:ViaService", "aws:SourceArn", "aws:SourceAccount", "aws:SourceOrgID", "aws:SourceOrgPaths"}
	// durableKeys are met by some administrator of the account for ever.
	durableKeys = []string{"kms:CallerAccount", "aws:PrincipalAccount", "aws:PrincipalOrgID", "aws:PrincipalOrgPaths", "aws:PrincipalType", "aws:SecureTransport", "aws:MultiFactorAuthPresent", "aws:MultiFactorAuthAge"}
)
