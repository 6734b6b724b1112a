package iampolicy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The pages that rows come from. IAM is the IAM User Guide, KMS the AWS KMS
// Developer Guide.
const (
	docLogic       = "IAM: Policy evaluation logic"
	docPrincipal   = "IAM: AWS JSON policy elements: Principal"
	docNotPrin     = "IAM: AWS JSON policy elements: NotPrincipal"
	docNotAction   = "IAM: IAM JSON policy elements: NotAction"
	docNotResource = "IAM: IAM JSON policy elements: NotResource"
	docAction      = "IAM: IAM JSON policy elements: Action"
	docOperators   = "IAM: IAM JSON policy elements: Condition operators"
	docSets        = "IAM: Set operators for multi-valued context keys"
	docMulti       = "IAM: Conditions with multiple context keys or values"
	docVariables   = "IAM: IAM policy elements: Variables and tags"
	docGlobal      = "IAM: AWS global condition context keys"
	docDefault     = "KMS: Default key policy"
	docCross       = "KMS: Allowing users in other accounts to use a KMS key"
	docKeys        = "KMS: AWS KMS condition keys"
	docContext     = "KMS: kms:EncryptionContext:context-key"
	docGrants      = "KMS: Grants in AWS KMS"
	docRetire      = "KMS: Retiring and revoking grants"
	docConstraints = "AWS KMS API Reference: GrantConstraints"
	docPermissions = "KMS: AWS KMS permissions"
)

const (
	app       = "arn:aws:iam::111122223333:role/App"
	appInPath = "arn:aws:iam::111122223333:role/team/App"
	session1  = "arn:aws:sts::111122223333:assumed-role/App/one"
	session2  = "arn:aws:sts::111122223333:assumed-role/App/two"
	alice     = "arn:aws:iam::111122223333:user/alice"
	foreign   = "arn:aws:iam::444455556666:role/Partner"
	ekservice = "eks.amazonaws.com"
)

func toWhom(kind, value string) string { return fmt.Sprintf(`{%q:%q}`, kind, value) }

func effect(effect, principal, rest string) string {
	return fmt.Sprintf(`{"Effect":%q,"Principal":%s,%s}`, effect, principal, rest)
}

// onDecrypt is a statement on kms:Decrypt for the role App with a condition.
func onDecrypt(condition string) string {
	return effect("Allow", toWhom("AWS", app), `"Action":"kms:Decrypt","Resource":"*","Condition":`+condition)
}

const (
	decryptOnKey = `"Action":"kms:Decrypt","Resource":"*"`
	iamDecrypt   = `{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}`
)

// decision is a request and what the documentation says of it. The action is
// kms:Decrypt, the caller the role App, unless the row says otherwise.
type decision struct {
	name, doc string
	key       []string
	iam       []string
	grants    []Grant
	caller    Caller
	action    string
	context   Context
	allowed   bool
	// by is part of the reason.
	by string
}

var decisions = []decision{
	// Who decides.
	{name: "nothing says anything", doc: docLogic, key: []string{effect("Allow", toWhom("AWS", alice), decryptOnKey)}, by: "no statement of the key policy"},
	{name: "the key policy names the role", doc: docLogic, key: []string{effect("Allow", toWhom("AWS", app), decryptOnKey)}, allowed: true, by: "statement 1 of key policy"},
	{name: "an explicit Deny wins", doc: docLogic, key: []string{effect("Allow", toWhom("AWS", app), decryptOnKey), effect("Deny", `"*"`, decryptOnKey)}, by: "statement 2 of key policy"},
	{name: "an explicit Deny in IAM wins", doc: docLogic, key: []string{effect("Allow", toWhom("AWS", app), decryptOnKey)}, iam: []string{`{"Effect":"Deny","Action":"kms:*","Resource":"*"}`}, by: "statement 1 of identity policy 1"},
	{name: "IAM alone is not enough", doc: docDefault, key: []string{effect("Allow", toWhom("AWS", alice), decryptOnKey)}, iam: []string{iamDecrypt}},
	{name: "the account enables IAM policies", doc: docDefault, key: []string{effect("Allow", toWhom("AWS", rootOfIt), `"Action":"kms:*","Resource":"*"`)}, iam: []string{iamDecrypt}, allowed: true, by: "statement 1 of key policy and statement 1 of identity policy 1"},
	{name: "the account without IAM", doc: docDefault, key: []string{effect("Allow", toWhom("AWS", rootOfIt), `"Action":"kms:*","Resource":"*"`)}, by: "leaves it to the IAM policies of account 111122223333"},
	{name: "the account's number is its root", doc: docPrincipal, key: []string{effect("Allow", toWhom("AWS", "111122223333"), decryptOnKey)}, iam: []string{iamDecrypt}, allowed: true},
	{name: "the root user itself", doc: docDefault, key: []string{effect("Allow", toWhom("AWS", rootOfIt), decryptOnKey)}, caller: Caller{ARN: rootOfIt}, allowed: true},
	{name: "the account enables what it lists", doc: docDefault, key: []string{effect("Allow", toWhom("AWS", rootOfIt), `"Action":"kms:Describe*","Resource":"*"`)}, iam: []string{iamDecrypt}},

	// Principals.
	{name: "a session of the role", doc: docPrincipal, key: []string{effect("Allow", toWhom("AWS", app), decryptOnKey)}, caller: Caller{ARN: session1}, allowed: true},
	{name: "one session", doc: docPrincipal, key: []string{effect("Allow", toWhom("AWS", session1), decryptOnKey)}, caller: Caller{ARN: session1}, allowed: true},
	{name: "another session", doc: docPrincipal, key: []string{effect("Allow", toWhom("AWS", session1), decryptOnKey)}, caller: Caller{ARN: session2}},
	{name: "a session of a role with a path", doc: docPrincipal, key: []string{effect("Allow", toWhom("AWS", appInPath), decryptOnKey)}, caller: Caller{ARN: session1, RoleARN: appInPath}, allowed: true},
	{name: "a role of the same name elsewhere", doc: docPrincipal, key: []string{effect("Allow", toWhom("AWS", appInPath), decryptOnKey)}, caller: Caller{ARN: session1}},
	{name: "a user", doc: docPrincipal, key: []string{effect("Allow", toWhom("AWS", alice), decryptOnKey)}, caller: Caller{ARN: alice}, allowed: true},
	{name: "everybody", doc: docPrincipal, key: []string{effect("Allow", `"*"`, decryptOnKey)}, allowed: true},
	{name: "everybody, written otherwise", doc: docPrincipal, key: []string{effect("Allow", toWhom("AWS", "*"), decryptOnKey)}, allowed: true},
	{name: "a service", doc: docPrincipal, key: []string{effect("Allow", toWhom("Service", ekservice), decryptOnKey)}, caller: Caller{ARN: ekservice}, allowed: true},
	{name: "another service", doc: docPrincipal, key: []string{effect("Allow", toWhom("Service", ekservice), decryptOnKey)}, caller: Caller{ARN: "logs.amazonaws.com"}},
	{name: "a service is no principal of the account", doc: docPrincipal, key: []string{effect("Allow", toWhom("AWS", rootOfIt), decryptOnKey)}, caller: Caller{ARN: ekservice}},
	{name: "a web identity", doc: docPrincipal, key: []string{effect("Allow", toWhom("Federated", "cognito-identity.amazonaws.com"), decryptOnKey)}, caller: Caller{ARN: session1, Provider: "cognito-identity.amazonaws.com"}, allowed: true},
	{name: "another provider", doc: docPrincipal, key: []string{effect("Allow", toWhom("Federated", "cognito-identity.amazonaws.com"), decryptOnKey)}, caller: Caller{ARN: session1, Provider: "accounts.google.com"}},

	// Other accounts.
	{name: "another account, by IAM too", doc: docCross, key: []string{effect("Allow", toWhom("AWS", "arn:aws:iam::444455556666:root"), decryptOnKey)}, iam: []string{iamDecrypt}, caller: Caller{ARN: foreign}, allowed: true},
	{name: "another account, without IAM", doc: docCross, key: []string{effect("Allow", toWhom("AWS", foreign), decryptOnKey)}, caller: Caller{ARN: foreign}, by: "leaves it to the IAM policies of account 444455556666"},
	{name: "another account, by IAM alone", doc: docCross, key: []string{effect("Allow", toWhom("AWS", rootOfIt), decryptOnKey)}, iam: []string{iamDecrypt}, caller: Caller{ARN: foreign}},
	{name: "everybody is another account too", doc: docCross, key: []string{effect("Allow", `"*"`, decryptOnKey)}, iam: []string{iamDecrypt}, caller: Caller{ARN: foreign}, allowed: true},
	{name: "what KMS takes from no other account", doc: docPermissions, key: []string{effect("Allow", toWhom("AWS", foreign), `"Action":"kms:*","Resource":"*"`)}, iam: []string{`{"Effect":"Allow","Action":"kms:*","Resource":"*"}`}, caller: Caller{ARN: foreign}, action: "kms:PutKeyPolicy", by: "does not take this action from another account"},
	{name: "the same account number in another partition", doc: docPrincipal, key: []string{effect("Allow", toWhom("AWS", "arn:aws-cn:iam::111122223333:root"), decryptOnKey)}, iam: []string{iamDecrypt}},

	// Actions.
	{name: "case of actions", doc: docAction, key: []string{effect("Allow", toWhom("AWS", app), `"Action":"KMS:decrypt","Resource":"*"`)}, allowed: true},
	{name: "a wildcard", doc: docAction, key: []string{effect("Allow", toWhom("AWS", app), `"Action":"kms:De*t","Resource":"*"`)}, allowed: true},
	{name: "a question mark", doc: docAction, key: []string{effect("Allow", toWhom("AWS", app), `"Action":"kms:Decryp?","Resource":"*"`)}, allowed: true},
	{name: "a wildcard that ends too early", doc: docAction, key: []string{effect("Allow", toWhom("AWS", app), `"Action":"kms:Decryp","Resource":"*"`)}},
	{name: "everything", doc: docAction, key: []string{effect("Allow", toWhom("AWS", app), `"Action":"*","Resource":"*"`)}, allowed: true},
	{name: "NotAction allows the rest", doc: docNotAction, key: []string{effect("Allow", toWhom("AWS", app), `"NotAction":"kms:Encrypt","Resource":"*"`)}, allowed: true},
	{name: "NotAction leaves out", doc: docNotAction, key: []string{effect("Allow", toWhom("AWS", app), `"NotAction":"kms:De*","Resource":"*"`)}},
	{name: "NotAction with Deny", doc: docNotAction, key: []string{effect("Allow", `"*"`, decryptOnKey), effect("Deny", `"*"`, `"NotAction":"kms:Describe*","Resource":"*"`)}},

	// Resources.
	{name: "the key's own ARN", doc: docDefault, key: []string{effect("Allow", toWhom("AWS", app), `"Action":"kms:Decrypt","Resource":"`+keyOfTests+`"`)}, allowed: true},
	{name: "another key's ARN", doc: docDefault, key: []string{effect("Allow", toWhom("AWS", app), `"Action":"kms:Decrypt","Resource":"arn:aws:kms:eu-central-1:111122223333:key/other"`)}},
	{name: "keys of a Region in IAM", doc: docDefault, key: []string{effect("Allow", toWhom("AWS", rootOfIt), decryptOnKey)}, iam: []string{`{"Effect":"Allow","Action":"kms:Decrypt","Resource":"arn:aws:kms:eu-central-1:111122223333:key/*"}`}, allowed: true},
	{name: "keys of another Region in IAM", doc: docDefault, key: []string{effect("Allow", toWhom("AWS", rootOfIt), decryptOnKey)}, iam: []string{`{"Effect":"Allow","Action":"kms:Decrypt","Resource":"arn:aws:kms:us-*:111122223333:key/*"}`}},
	{name: "NotResource", doc: docNotResource, key: []string{effect("Allow", toWhom("AWS", rootOfIt), decryptOnKey)}, iam: []string{`{"Effect":"Allow","Action":"kms:Decrypt","NotResource":"arn:aws:kms:*:*:key/other"}`}, allowed: true},
	{name: "NotResource leaves out", doc: docNotResource, key: []string{effect("Allow", toWhom("AWS", rootOfIt), decryptOnKey)}, iam: []string{`{"Effect":"Allow","Action":"kms:Decrypt","NotResource":"` + keyOfTests + `"}`}},

	// NotPrincipal, which is for Deny.
	{name: "NotPrincipal denies the others", doc: docNotPrin, key: []string{effect("Allow", `"*"`, decryptOnKey), `{"Effect":"Deny","NotPrincipal":{"AWS":"` + alice + `"},` + decryptOnKey + `}`}},
	{name: "NotPrincipal lets a user through with its account", doc: docNotPrin, key: []string{effect("Allow", `"*"`, decryptOnKey), `{"Effect":"Deny","NotPrincipal":{"AWS":["` + alice + `","` + rootOfIt + `"]},` + decryptOnKey + `}`}, caller: Caller{ARN: alice}, allowed: true},
	{name: "NotPrincipal wants session, role and account", doc: docNotPrin, key: []string{effect("Allow", `"*"`, decryptOnKey), `{"Effect":"Deny","NotPrincipal":{"AWS":["` + session1 + `","` + app + `","` + rootOfIt + `"]},` + decryptOnKey + `}`}, caller: Caller{ARN: session1}, allowed: true},
	{name: "NotPrincipal without the session", doc: docNotPrin, key: []string{effect("Allow", `"*"`, decryptOnKey), `{"Effect":"Deny","NotPrincipal":{"AWS":["` + app + `","` + rootOfIt + `"]},` + decryptOnKey + `}`}, caller: Caller{ARN: session1}},

	// Condition operators.
	{name: "StringEquals", doc: docOperators, key: []string{onDecrypt(`{"StringEquals":{"aws:PrincipalTag/team":"Red"}}`)}, context: Context{"aws:PrincipalTag/team": {"Red"}}, allowed: true},
	{name: "StringEquals minds case", doc: docOperators, key: []string{onDecrypt(`{"StringEquals":{"aws:PrincipalTag/team":"Red"}}`)}, context: Context{"aws:PrincipalTag/team": {"red"}}},
	{name: "StringEqualsIgnoreCase", doc: docOperators, key: []string{onDecrypt(`{"StringEqualsIgnoreCase":{"aws:PrincipalTag/team":"Red"}}`)}, context: Context{"aws:PrincipalTag/team": {"red"}}, allowed: true},
	{name: "StringEquals takes no wildcard", doc: docOperators, key: []string{onDecrypt(`{"StringEquals":{"aws:PrincipalTag/team":"R*"}}`)}, context: Context{"aws:PrincipalTag/team": {"Red"}}},
	{name: "StringLike", doc: docOperators, key: []string{onDecrypt(`{"StringLike":{"aws:PrincipalTag/team":"R?d*"}}`)}, context: Context{"aws:PrincipalTag/team": {"Redder"}}, allowed: true},
	{name: "StringLike minds case", doc: docOperators, key: []string{onDecrypt(`{"StringLike":{"aws:PrincipalTag/team":"r*"}}`)}, context: Context{"aws:PrincipalTag/team": {"Red"}}},
	{name: "StringNotEquals", doc: docOperators, key: []string{onDecrypt(`{"StringNotEquals":{"aws:PrincipalTag/team":"Red"}}`)}, context: Context{"aws:PrincipalTag/team": {"Blue"}}, allowed: true},
	{name: "StringNotEquals of several is none of them", doc: docMulti, key: []string{onDecrypt(`{"StringNotEquals":{"aws:PrincipalTag/team":["Red","Blue"]}}`)}, context: Context{"aws:PrincipalTag/team": {"Blue"}}},
	{name: "StringNotEquals and an absent key", doc: docOperators, key: []string{onDecrypt(`{"StringNotEquals":{"aws:PrincipalTag/team":"Red"}}`)}, allowed: true},
	{name: "StringEquals and an absent key", doc: docOperators, key: []string{onDecrypt(`{"StringEquals":{"aws:PrincipalTag/team":"Red"}}`)}},
	{name: "IfExists and an absent key", doc: docOperators, key: []string{onDecrypt(`{"StringEqualsIfExists":{"aws:PrincipalTag/team":"Red"}}`)}, allowed: true},
	{name: "IfExists and another value", doc: docOperators, key: []string{onDecrypt(`{"StringEqualsIfExists":{"aws:PrincipalTag/team":"Red"}}`)}, context: Context{"aws:PrincipalTag/team": {"Blue"}}},
	{name: "one of several values", doc: docMulti, key: []string{onDecrypt(`{"StringEquals":{"aws:PrincipalTag/team":["Red","Blue"]}}`)}, context: Context{"aws:PrincipalTag/team": {"Blue"}}, allowed: true},
	{name: "all of several keys", doc: docMulti, key: []string{onDecrypt(`{"StringEquals":{"aws:PrincipalTag/team":"Red","aws:PrincipalTag/stage":"prod"}}`)}, context: Context{"aws:PrincipalTag/team": {"Red"}, "aws:PrincipalTag/stage": {"dev"}}},
	{name: "all of several operators", doc: docMulti, key: []string{onDecrypt(`{"StringEquals":{"aws:PrincipalTag/team":"Red"},"Bool":{"aws:SecureTransport":"true"}}`)}, context: Context{"aws:PrincipalTag/team": {"Red"}, "aws:SecureTransport": {"false"}}},
	{name: "names of keys mind no case", doc: docOperators, key: []string{onDecrypt(`{"StringEquals":{"AWS:principaltag/TEAM":"Red"}}`)}, context: Context{"aws:PrincipalTag/team": {"Red"}}, allowed: true},
	{name: "NumericLessThan", doc: docOperators, key: []string{onDecrypt(`{"NumericLessThan":{"aws:MultiFactorAuthAge":"3600"}}`)}, context: Context{"aws:MultiFactorAuthAge": {"3599"}}, allowed: true},
	{name: "NumericLessThan is less", doc: docOperators, key: []string{onDecrypt(`{"NumericLessThan":{"aws:MultiFactorAuthAge":"3600"}}`)}, context: Context{"aws:MultiFactorAuthAge": {"3600"}}},
	{name: "NumericGreaterThanEquals", doc: docOperators, key: []string{onDecrypt(`{"NumericGreaterThanEquals":{"aws:MultiFactorAuthAge":"10"}}`)}, context: Context{"aws:MultiFactorAuthAge": {"10.0"}}, allowed: true},
	{name: "DateGreaterThan", doc: docOperators, key: []string{onDecrypt(`{"DateGreaterThan":{"aws:CurrentTime":"2026-01-01T00:00:00Z"}}`)}, context: Context{"aws:CurrentTime": {"2026-06-01T00:00:00Z"}}, allowed: true},
	{name: "dates as seconds", doc: docOperators, key: []string{onDecrypt(`{"DateGreaterThan":{"aws:EpochTime":"1767225600"}}`)}, context: Context{"aws:EpochTime": {"2026-06-01T00:00:00Z"}}, allowed: true},
	{name: "Bool", doc: docOperators, key: []string{onDecrypt(`{"Bool":{"aws:SecureTransport":"true"}}`)}, context: Context{"aws:SecureTransport": {"true"}}, allowed: true},
	{name: "Bool and an absent key", doc: docOperators, key: []string{onDecrypt(`{"Bool":{"aws:MultiFactorAuthPresent":"false"}}`)}},
	{name: "IpAddress", doc: docOperators, key: []string{onDecrypt(`{"IpAddress":{"aws:SourceIp":"203.0.113.0/24"}}`)}, context: Context{"aws:SourceIp": {"203.0.113.7"}}, allowed: true},
	{name: "NotIpAddress", doc: docOperators, key: []string{onDecrypt(`{"NotIpAddress":{"aws:SourceIp":"203.0.113.0/24"}}`)}, context: Context{"aws:SourceIp": {"203.0.113.7"}}},
	{name: "an IPv6 range", doc: docOperators, key: []string{onDecrypt(`{"IpAddress":{"aws:SourceIp":"2001:db8::/32"}}`)}, context: Context{"aws:SourceIp": {"2001:db8::1"}}, allowed: true},
	{name: "ArnLike", doc: docOperators, key: []string{onDecrypt(`{"ArnLike":{"aws:SourceArn":"arn:aws:cloudtrail:*:111122223333:trail/*"}}`)}, context: Context{"aws:SourceArn": {"arn:aws:cloudtrail:eu-central-1:111122223333:trail/a"}}, allowed: true},
	{name: "an ARN's wildcard does not cross a colon", doc: docOperators, key: []string{onDecrypt(`{"ArnLike":{"aws:SourceArn":"arn:aws:cloudtrail:*:trail/a"}}`)}, by: "six parts"},
	{name: "ArnEquals takes wildcards", doc: docOperators, key: []string{onDecrypt(`{"ArnEquals":{"aws:SourceArn":"arn:aws:s3:::bucket*"}}`)}, context: Context{"aws:SourceArn": {"arn:aws:s3:::bucket-1"}}, allowed: true},
	{name: "ArnNotLike", doc: docOperators, key: []string{onDecrypt(`{"ArnNotLike":{"aws:SourceArn":"arn:aws:s3:::bucket*"}}`)}, context: Context{"aws:SourceArn": {"arn:aws:s3:::bucket-1"}}},
	{name: "Null true wants absence", doc: docOperators, key: []string{onDecrypt(`{"Null":{"aws:TokenIssueTime":"true"}}`)}, allowed: true},
	{name: "Null true and a key", doc: docOperators, key: []string{onDecrypt(`{"Null":{"aws:TokenIssueTime":"true"}}`)}, context: Context{"aws:TokenIssueTime": {"2026-01-01T00:00:00Z"}}},
	{name: "Null false wants a key", doc: docOperators, key: []string{onDecrypt(`{"Null":{"aws:TokenIssueTime":"false"}}`)}},
	{name: "BinaryEquals", doc: docOperators, key: []string{onDecrypt(`{"BinaryEquals":{"aws:PrincipalTag/b":"QmluYXJ5"}}`)}, context: Context{"aws:PrincipalTag/b": {"QmluYXJ5"}}, allowed: true},

	// Keys with several values.
	{name: "ForAllValues", doc: docSets, key: []string{onDecrypt(`{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["a","b"]}}`)}, context: Context{"kms:EncryptionContextKeys": {"a"}}, allowed: true},
	{name: "ForAllValues and one more", doc: docSets, key: []string{onDecrypt(`{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["a","b"]}}`)}, context: Context{"kms:EncryptionContextKeys": {"a", "c"}}},
	{name: "ForAllValues of nothing is met", doc: docSets, key: []string{onDecrypt(`{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["a"]}}`)}, allowed: true},
	{name: "ForAnyValue", doc: docSets, key: []string{onDecrypt(`{"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":["a"]}}`)}, context: Context{"kms:EncryptionContextKeys": {"c", "a"}}, allowed: true},
	{name: "ForAnyValue of nothing is not met", doc: docSets, key: []string{onDecrypt(`{"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":["a"]}}`)}},
	{name: "ForAnyValue with a negated operator", doc: docSets, key: []string{onDecrypt(`{"ForAnyValue:StringNotEquals":{"kms:EncryptionContextKeys":["a"]}}`)}, context: Context{"kms:EncryptionContextKeys": {"a", "b"}}, allowed: true},

	// Variables.
	{name: "a variable", doc: docVariables, key: []string{onDecrypt(`{"StringEquals":{"kms:EncryptionContext:team":"${aws:PrincipalTag/team}"}}`)}, context: Context{"aws:PrincipalTag/team": {"Red"}, "kms:EncryptionContext:team": {"Red"}}, allowed: true},
	{name: "a variable with another value", doc: docVariables, key: []string{onDecrypt(`{"StringEquals":{"kms:EncryptionContext:team":"${aws:PrincipalTag/team}"}}`)}, context: Context{"aws:PrincipalTag/team": {"Red"}, "kms:EncryptionContext:team": {"Blue"}}},
	{name: "a variable without a value", doc: docVariables, key: []string{onDecrypt(`{"StringEquals":{"kms:EncryptionContext:team":"${aws:PrincipalTag/team}"}}`)}, context: Context{"kms:EncryptionContext:team": {""}}},
	{name: "a variable's default", doc: docVariables, key: []string{onDecrypt(`{"StringEquals":{"kms:EncryptionContext:team":"${aws:PrincipalTag/team, 'none'}"}}`)}, context: Context{"kms:EncryptionContext:team": {"none"}}, allowed: true},
	{name: "a wildcard that stands for itself", doc: docVariables, key: []string{onDecrypt(`{"StringLike":{"kms:EncryptionContext:team":"a${*}"}}`)}, context: Context{"kms:EncryptionContext:team": {"ab"}}},
	{name: "a wildcard within a variable's value does not match", doc: docVariables, key: []string{onDecrypt(`{"StringLike":{"kms:EncryptionContext:team":"${aws:PrincipalTag/team}"}}`)}, context: Context{"aws:PrincipalTag/team": {"*"}, "kms:EncryptionContext:team": {"Red"}}},

	// The condition keys of KMS, and those that follow from the caller.
	{name: "the encryption context", doc: docContext, key: []string{onDecrypt(`{"StringEquals":{"kms:EncryptionContext:AppName":"ExampleApp"}}`)}, context: Context{"kms:EncryptionContext:AppName": {"ExampleApp"}}, allowed: true},
	{name: "the values of a context mind case", doc: docContext, key: []string{onDecrypt(`{"StringEquals":{"kms:EncryptionContext:AppName":"ExampleApp"}}`)}, context: Context{"kms:EncryptionContext:AppName": {"exampleapp"}}},
	{name: "one pair of a larger context", doc: docContext, key: []string{onDecrypt(`{"StringEquals":{"kms:EncryptionContext:a":"1"}}`)}, context: Context{"kms:EncryptionContext:a": {"1"}, "kms:EncryptionContext:b": {"2"}}, allowed: true},
	{name: "exactly one pair", doc: docKeys, key: []string{onDecrypt(`{"StringEquals":{"kms:EncryptionContext:a":"1"},"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":"a"}}`)}, context: Context{"kms:EncryptionContext:a": {"1"}, "kms:EncryptionContext:b": {"2"}}},
	{name: "DescribeKey has no encryption context", doc: docContext, key: []string{effect("Allow", toWhom("AWS", app), `"Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:a":"1"}}`)}, action: "kms:DescribeKey", context: Context{"kms:EncryptionContext:a": {"1"}}},
	{name: "kms:ViaService", doc: docKeys, key: []string{onDecrypt(`{"StringEquals":{"kms:ViaService":"eks.eu-central-1.amazonaws.com"}}`)}, context: Context{"kms:ViaService": {"eks.eu-central-1.amazonaws.com"}}, allowed: true},
	{name: "kms:ViaService of a direct call", doc: docKeys, key: []string{onDecrypt(`{"StringEquals":{"kms:ViaService":"eks.eu-central-1.amazonaws.com"}}`)}},
	{name: "kms:CallerAccount", doc: docKeys, key: []string{effect("Allow", toWhom("AWS", "*"), decryptOnKey+`,"Condition":{"StringEquals":{"kms:CallerAccount":"111122223333"}}`)}, allowed: true},
	{name: "kms:CallerAccount of another account", doc: docKeys, key: []string{effect("Allow", toWhom("AWS", "*"), decryptOnKey+`,"Condition":{"StringEquals":{"kms:CallerAccount":"111122223333"}}`)}, iam: []string{iamDecrypt}, caller: Caller{ARN: foreign}},
	{name: "aws:PrincipalArn of a session is its role", doc: docGlobal, key: []string{effect("Allow", `"*"`, decryptOnKey+`,"Condition":{"ArnEquals":{"aws:PrincipalArn":"`+app+`"}}`)}, caller: Caller{ARN: session1}, allowed: true},
	{name: "kms:GrantIsForAWSResource", doc: docKeys, key: []string{effect("Allow", toWhom("AWS", app), `"Action":"kms:CreateGrant","Resource":"*","Condition":{"Bool":{"kms:GrantIsForAWSResource":"true"}}`)}, action: "kms:CreateGrant", context: Context{"kms:GrantIsForAWSResource": {"true"}}, allowed: true},
	{name: "kms:GrantIsForAWSResource that is not sent", doc: docKeys, key: []string{effect("Allow", toWhom("AWS", app), `"Action":"kms:CreateGrant","Resource":"*","Condition":{"Bool":{"kms:GrantIsForAWSResource":"true"}}`)}, action: "kms:CreateGrant"},
	{name: "kms:GrantOperations", doc: docKeys, key: []string{effect("Allow", toWhom("AWS", app), `"Action":"kms:CreateGrant","Resource":"*","Condition":{"ForAllValues:StringEquals":{"kms:GrantOperations":["Encrypt","Decrypt"]}}`)}, action: "kms:CreateGrant", context: Context{"kms:GrantOperations": {"Decrypt"}}, allowed: true},
	{name: "kms:GrantOperations and one more", doc: docKeys, key: []string{effect("Allow", toWhom("AWS", app), `"Action":"kms:CreateGrant","Resource":"*","Condition":{"ForAllValues:StringEquals":{"kms:GrantOperations":["Encrypt","Decrypt"]}}`)}, action: "kms:CreateGrant", context: Context{"kms:GrantOperations": {"Decrypt", "CreateGrant"}}},
	{name: "kms:GrantConstraintType", doc: docKeys, key: []string{effect("Allow", toWhom("AWS", app), `"Action":"kms:CreateGrant","Resource":"*","Condition":{"StringEquals":{"kms:GrantConstraintType":"EncryptionContextEquals"}}`)}, action: "kms:CreateGrant", context: Context{"kms:GrantConstraintType": {"EncryptionContextSubset"}}},
	{name: "aws:SourceArn and aws:SourceAccount of a service", doc: docGlobal, key: []string{effect("Allow", toWhom("Service", "cloudtrail.amazonaws.com"), decryptOnKey+`,"Condition":{"StringEquals":{"aws:SourceArn":"arn:aws:cloudtrail:eu-central-1:111122223333:trail/a","aws:SourceAccount":"111122223333"}}`)}, caller: Caller{ARN: "cloudtrail.amazonaws.com"}, context: Context{"aws:SourceArn": {"arn:aws:cloudtrail:eu-central-1:111122223333:trail/a"}, "aws:SourceAccount": {"111122223333"}}, allowed: true},
	{name: "a service for somebody else's resource", doc: docGlobal, key: []string{effect("Allow", toWhom("Service", "cloudtrail.amazonaws.com"), decryptOnKey+`,"Condition":{"StringEquals":{"aws:SourceAccount":"111122223333"}}`)}, caller: Caller{ARN: "cloudtrail.amazonaws.com"}, context: Context{"aws:SourceAccount": {"444455556666"}}},

	// Grants.
	{name: "a grant", doc: docGrants, grants: []Grant{{Name: "g", Grantee: app, Operations: []string{"Decrypt"}}}, allowed: true, by: "grant (g)"},
	{name: "a grant for another operation", doc: docGrants, grants: []Grant{{Name: "g", Grantee: app, Operations: []string{"Encrypt"}}}},
	{name: "a grant for somebody else", doc: docGrants, grants: []Grant{{Name: "g", Grantee: alice, Operations: []string{"Decrypt"}}}},
	{name: "a grant to another account needs no IAM", doc: docGrants, grants: []Grant{{Name: "g", Grantee: foreign, Operations: []string{"Decrypt"}}}, caller: Caller{ARN: foreign}, allowed: true},
	{name: "a Deny wins over a grant", doc: docLogic, key: []string{effect("Deny", `"*"`, decryptOnKey)}, grants: []Grant{{Name: "g", Grantee: app, Operations: []string{"Decrypt"}}}},
	{name: "a constraint on all of the context", doc: docConstraints, grants: []Grant{{Name: "g", Grantee: app, Operations: []string{"Decrypt"}, EncryptionContextEquals: map[string]string{"a": "1"}}}, context: Context{"kms:EncryptionContext:a": {"1"}}, allowed: true},
	{name: "a constraint on all, and one pair more", doc: docConstraints, grants: []Grant{{Name: "g", Grantee: app, Operations: []string{"Decrypt"}, EncryptionContextEquals: map[string]string{"a": "1"}}}, context: Context{"kms:EncryptionContext:a": {"1"}, "kms:EncryptionContext:b": {"2"}}},
	{name: "a constraint on a part", doc: docConstraints, grants: []Grant{{Name: "g", Grantee: app, Operations: []string{"Decrypt"}, EncryptionContextSubset: map[string]string{"a": "1"}}}, context: Context{"kms:EncryptionContext:a": {"1"}, "kms:EncryptionContext:b": {"2"}}, allowed: true},
	{name: "a constraint that is not met", doc: docConstraints, grants: []Grant{{Name: "g", Grantee: app, Operations: []string{"Decrypt"}, EncryptionContextSubset: map[string]string{"a": "1"}}}, context: Context{"kms:EncryptionContext:a": {"2"}}},
	{name: "a constraint does not bind DescribeKey", doc: docConstraints, grants: []Grant{{Name: "g", Grantee: app, Operations: []string{"DescribeKey"}, EncryptionContextEquals: map[string]string{"a": "1"}}}, action: "kms:DescribeKey", allowed: true},
	{name: "a service's grant", doc: docGrants, grants: []Grant{{Name: "g", Grantee: "eks.eu-central-1.amazonaws.com", Operations: []string{"Decrypt"}}}, caller: Caller{ARN: "eks.eu-central-1.amazonaws.com"}, allowed: true},
	{name: "retiring by the retiring principal", doc: docRetire, grants: []Grant{{Name: "g", Grantee: alice, Retiring: app, Operations: []string{"Decrypt"}}}, action: "kms:RetireGrant", allowed: true},
	{name: "retiring by a key policy", doc: docRetire, key: []string{effect("Allow", toWhom("AWS", app), `"Action":"kms:*","Resource":"*"`)}, action: "kms:RetireGrant", by: "a key policy can't"},
}

func TestEvaluate(t *testing.T) {
	names := map[string]bool{}
	for _, d := range decisions {
		if names[d.name] || d.doc == "" {
			t.Errorf("%q is there twice, or has no source", d.name)
		}
		names[d.name] = true
		t.Run(d.name, func(t *testing.T) {
			request, policies := d.request(t)
			decision, err := Evaluate(request, policies)
			if err != nil {
				if d.allowed || d.by == "" || !strings.Contains(err.Error(), d.by) {
					t.Fatal(err)
				}
				return
			}
			if decision.Allowed != d.allowed || !strings.Contains(decision.Reason, d.by) {
				t.Errorf("%s\nallowed: %v, want %v by %q; source: %s", decision.Reason, decision.Allowed, d.allowed, d.by, d.doc)
			}
			if decision.Allowed && len(decision.By) == 0 || decision.Explicit && decision.Allowed {
				t.Errorf("%+v", decision)
			}
			agrees(t, request, policies, decision)
		})
	}
}

func (d decision) request(t testing.TB) (Request, Policies) {
	t.Helper()
	r := Request{Caller: d.caller, Action: d.action, Resource: keyOfTests, Context: d.context}
	if r.Caller.ARN == "" {
		r.Caller.ARN = app
	}
	if r.Action == "" {
		r.Action = "kms:Decrypt"
	}
	read := func(statements []string) Document {
		doc, err := Parse([]byte(`{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		return doc
	}
	key := d.key
	if key == nil {
		key = []string{effect("Allow", toWhom("AWS", "arn:aws:iam::111122223333:role/Unrelated"), decryptOnKey)}
	}
	p := Policies{Resource: NamedDocument{Document: read(key)}, Grants: d.grants}
	if d.iam != nil {
		p.Identity = []NamedDocument{{Document: read(d.iam)}}
	}
	return r, p
}

// agrees holds Explain to Evaluate: where a request is allowed, one of the ways
// to be allowed is met and none to be denied, and the other way round.
func agrees(t *testing.T, r Request, p Policies, d Decision) {
	t.Helper()
	open := r
	open.Context = nil
	for _, requested := range []Request{r, open} {
		o, err := Explain(requested, p)
		if err != nil {
			t.Fatal(err)
		}
		met := func(paths []Path) bool {
			return slices.ContainsFunc(paths, func(path Path) bool {
				return !slices.ContainsFunc(path.Conditions, func(q Requirement) bool {
					ok, err := q.Met(r)
					if err != nil {
						t.Fatal(err)
					}
					return !ok
				})
			})
		}
		if got := met(o.Allow) && !met(o.Deny); got != d.Allowed {
			t.Errorf("Explain with context %v says %v, Evaluate %v: %+v", requested.Context, got, d.Allowed, o)
		}
	}
}

// TestEvaluateProperties: on every row, a Deny never widens, an Allow never
// narrows, and neither the order of statements nor their names matter.
func TestEvaluateProperties(t *testing.T) {
	for _, d := range decisions {
		request, policies := d.request(t)
		old, err := Evaluate(request, policies)
		if err != nil {
			continue
		}
		now := func(what string, change func(Statements) Statements) bool {
			p := policies
			p.Resource.Statement = change(slices.Clone(p.Resource.Statement))
			got, err := Evaluate(request, p)
			if err != nil {
				t.Fatalf("%s, %s: %v", d.name, what, err)
			}
			return got.Allowed
		}
		everybody := Statement{Principal: Principal{AWS: Values{"*"}}, Action: Values{"kms:*"}, Resource: Values{"*"}}
		for _, other := range decisions {
			_, more := other.request(t)
			if checkPolicy(NamedDocument{Document: more.Resource.Document}, true) != nil {
				continue
			}
			for _, s := range more.Resource.Statement {
				got := now("with "+other.name, func(all Statements) Statements { return append(all, s) })
				if s.Effect == Deny && got && !old.Allowed || s.Effect == Allow && !got && old.Allowed {
					t.Errorf("%s: adding the %s of %q changes %v to %v", d.name, s.Effect, other.name, old.Allowed, got)
				}
			}
		}
		// No statement of a key policy is about kms:RetireGrant.
		if d.action != retireGrant && now("denied to everybody", func(all Statements) Statements {
			everybody.Effect = Deny
			return append(all, everybody)
		}) {
			t.Errorf("%s: a Deny to everybody lets it through", d.name)
		}
		if now("turned round", func(all Statements) Statements { slices.Reverse(all); return all }) != old.Allowed {
			t.Errorf("%s: the order of statements matters", d.name)
		}
		if now("twice", func(all Statements) Statements { return append(all, all...) }) != old.Allowed {
			t.Errorf("%s: a statement said twice matters", d.name)
		}
		if now("without names", func(all Statements) Statements {
			for i := range all {
				all[i].Sid = fmt.Sprint("Other", i)
			}
			return all
		}) != old.Allowed {
			t.Errorf("%s: the names of statements matter", d.name)
		}
		if d.grants == nil && now("no Allow", func(all Statements) Statements {
			return slices.DeleteFunc(all, func(s Statement) bool { return s.Effect == Allow })
		}) {
			t.Errorf("%s: allowed without an Allow", d.name)
		}
	}
}

// TestEvaluateRefuses: what is not known is an error, never an answer.
func TestEvaluateRefuses(t *testing.T) {
	good := effect("Allow", toWhom("AWS", app), decryptOnKey)
	for name, row := range map[string]struct {
		d    decision
		want string
	}{
		"an operator":                {decision{key: []string{onDecrypt(`{"StringSounds":{"a:b":"c"}}`)}}, "StringSounds"},
		"an operator beside":         {decision{key: []string{good, effect("Allow", toWhom("AWS", alice), decryptOnKey+`,"Condition":{"StringLikes":{"a:b":"c"}}`)}}, "StringLikes"},
		"a set of no operator":       {decision{key: []string{onDecrypt(`{"ForSomeValues:StringEquals":{"a:b":"c"}}`)}}, "ForSomeValues"},
		"IfExists of Null":           {decision{key: []string{onDecrypt(`{"NullIfExists":{"a:b":"true"}}`)}}, "NullIfExists"},
		"a date that is none":        {decision{key: []string{onDecrypt(`{"DateLessThan":{"aws:CurrentTime":"tomorrow"}}`)}}, "tomorrow"},
		"a number that is none":      {decision{key: []string{onDecrypt(`{"NumericEquals":{"a:b":"many"}}`)}}, "many"},
		"a Bool that is none":        {decision{key: []string{onDecrypt(`{"Bool":{"a:b":"perhaps"}}`)}}, "perhaps"},
		"an address that is none":    {decision{key: []string{onDecrypt(`{"IpAddress":{"aws:SourceIp":"10.0.0.0/99"}}`)}}, "10.0.0.0/99"},
		"an ARN that is none":        {decision{key: []string{onDecrypt(`{"ArnLike":{"aws:SourceArn":"trail"}}`)}}, "six parts"},
		"a principal with a star":    {decision{key: []string{effect("Allow", toWhom("AWS", "arn:aws:iam::111122223333:role/*"), decryptOnKey)}}, "wildcard"},
		"a principal that is none":   {decision{key: []string{effect("Allow", toWhom("AWS", "App"), decryptOnKey)}}, "App"},
		"an action that is none":     {decision{key: []string{effect("Allow", toWhom("AWS", app), `"Action":"kms Decrypt","Resource":"*"`)}}, "kms Decrypt"},
		"a resource that is none":    {decision{key: []string{effect("Allow", toWhom("AWS", app), `"Action":"kms:Decrypt","Resource":"key"`)}}, "neither an ARN"},
		"a variable that is none":    {decision{key: []string{onDecrypt(`{"StringEquals":{"a:b":"${"}}`)}}, "${"},
		"an action of another":       {decision{key: []string{good}, action: "s3:GetObject"}, "s3:GetObject"},
		"an action with a star":      {decision{key: []string{good}, action: "kms:*"}, "kms:*"},
		"a caller that is none":      {decision{key: []string{good}, caller: Caller{ARN: "somebody"}}, "somebody"},
		"a session of another role":  {decision{key: []string{good}, caller: Caller{ARN: session1, RoleARN: "arn:aws:iam::111122223333:role/Other"}}, "no session"},
		"an identity with principal": {decision{key: []string{good}, iam: []string{good}}, "has a Principal"},
		"a grant to nobody known":    {decision{key: []string{good}, grants: []Grant{{Name: "g", Grantee: "somebody"}}}, "somebody"},
		"a key given twice":          {decision{key: []string{good}, context: Context{"aws:SourceIp": {"10.0.0.1"}, "AWS:sourceip": {"10.0.0.2"}}}, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			request, policies := row.d.request(t)
			if d, err := Evaluate(request, policies); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("answers %+v, error %v; want one with %q", d, err, row.want)
			}
			if o, err := Explain(request, policies); err == nil {
				t.Errorf("explains %+v", o)
			}
		})
	}
}

// FuzzEvaluate: whatever the policy and the request, an answer or an error, the two
// ways to ask agree, and a Deny of everything leaves nothing allowed.
func FuzzEvaluate(f *testing.F) {
	for _, d := range decisions {
		key := ""
		if d.key != nil {
			key = strings.Join(d.key, ",")
		}
		arn, action := d.caller.ARN, d.action
		if arn == "" {
			arn = app
		}
		if action == "" {
			action = "kms:Decrypt"
		}
		for name, values := range d.context {
			f.Add(key, strings.Join(d.iam, ","), arn, action, name, strings.Join(values, "\n"))
		}
		f.Add(key, strings.Join(d.iam, ","), arn, action, "", "")
	}
	f.Fuzz(func(t *testing.T, key, iam, arn, action, name, values string) {
		doc, err := Parse([]byte(`{"Version":"2012-10-17","Statement":[` + key + `]}`))
		if err != nil {
			return
		}
		p := Policies{Resource: NamedDocument{Document: doc}}
		if own, err := Parse([]byte(`{"Version":"2012-10-17","Statement":[` + iam + `]}`)); err == nil {
			p.Identity = []NamedDocument{{Document: own}}
		}
		r := Request{Caller: Caller{ARN: arn}, Action: action, Resource: keyOfTests}
		if name != "" {
			r.Context = Context{name: strings.Split(values, "\n")}
		}
		d, err := Evaluate(r, p)
		if err != nil {
			return
		}
		agrees(t, r, p, d)
		p.Resource.Statement = append(slices.Clone(p.Resource.Statement), Statement{
			Effect: Deny, Principal: Principal{AWS: Values{"*"}}, Action: Values{"*"}, Resource: Values{"*"},
		})
		if d, err := Evaluate(r, p); err != nil || d.Allowed && action != retireGrant {
			t.Errorf("allowed past a Deny of everything: %+v, %v", d, err)
		}
	})
}

func BenchmarkEvaluate(b *testing.B) {
	d := decisions[len(decisions)-1]
	request, policies := d.request(b)
	for b.Loop() {
		if _, err := Evaluate(request, policies); err != nil {
			b.Fatal(err)
		}
	}
}
