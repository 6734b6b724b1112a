package check

import (
	"fmt"
	"slices"
	"strings"

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
	// without is what is not known of its conditions, without which it is judged.
	without    string
	conditions []iampolicy.Requirement
}

// namesAccount tells whether a condition says of which account everybody is meant.
func (s statement) namesAccount() bool {
	return slices.ContainsFunc(s.conditions, func(r iampolicy.Requirement) bool {
		return isKey(r, "kms:CallerAccount", "aws:PrincipalAccount") && namesExactly(r)
	})
}

func (s statement) String() string {
	name := fmt.Sprintf("statement %d", s.position)
	if s.sid != "" {
		name = "statement " + s.sid
	}
	if s.without != "" {
		name += fmt.Sprintf(", unless its condition ${%s} says otherwise,", s.without)
	}
	return name
}

func (s statement) covers(action string) bool {
	return iampolicy.Statement{Action: s.actions, NotAction: s.notActions}.CoversAction(action)
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

// namesExactly tells whether a requirement limits its key to values that somebody chose:
// a key that is absent must not meet it, nor any value, nor the lack of a
// property.
func namesExactly(r iampolicy.Requirement) bool {
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
	// encryption context does not: any principal that IAM allows may send it.
	delegateKeys = []string{"aws:PrincipalArn", "aws:userid", "kms:ViaService", "aws:SourceArn", "aws:SourceAccount", "aws:SourceOrgID", "aws:SourceOrgPaths"}
	// durableKeys are met by some administrator of the account forever.
	durableKeys = []string{"kms:CallerAccount", "aws:PrincipalAccount", "aws:PrincipalOrgID", "aws:PrincipalOrgPaths", "aws:PrincipalType", "aws:SecureTransport", "aws:MultiFactorAuthPresent", "aws:MultiFactorAuthAge"}
)
