package iampolicy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

const (
	keyOfTests = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	rootOfIt   = "arn:aws:iam::111122223333:root"
)

func accessOf(t *testing.T, statements ...string) Access {
	t.Helper()
	doc, err := Parse([]byte(`{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	return Access{Key: keyOfTests, Policy: NamedDocument{Name: "key policy", Document: doc}}
}

func allow(principal, action, condition string) string {
	return fmt.Sprintf(`{"Effect":"Allow","Principal":%s,"Action":%q,"Resource":"*","Condition":%s}`, principal, action, condition)
}

func deny(action, condition string) string {
	return fmt.Sprintf(`{"Effect":"Deny","Principal":"*","Action":%q,"Resource":"*","Condition":%s}`, action, condition)
}

const (
	byRole    = `{"AWS":"arn:aws:iam::111122223333:role/App"}`
	byAnyRoot = `{"AWS":"` + rootOfIt + `"}`
)

// TestWidenings: the text of a policy may change in any way, what counts is what it
// allows. Each row is judged both ways, so that a Loss is a Widening backwards.
func TestWidenings(t *testing.T) {
	decrypt := func(condition string) string { return allow(byRole, "kms:Decrypt", condition) }
	context := func(operator, values string) string {
		return fmt.Sprintf(`{%q:{"kms:EncryptionContext:app":%s}}`, operator, values)
	}
	for name, row := range map[string]struct {
		before, after []string
		// what is wider, as "caller's name: actions"; forth from before to after.
		forth, back string
	}{
		"nothing": {[]string{decrypt(`{}`)}, []string{decrypt(`{}`)}, "", ""},
		"order, lists and wildcards for the same": {
			[]string{allow(byRole, "kms:ReEncryptFrom", `{}`), allow(byRole, "kms:ReEncryptTo", `{}`)},
			[]string{allow(byRole, "kms:reencrypt*", `{}`)}, "", ""},
		"an action":            {[]string{decrypt(`{}`)}, []string{decrypt(`{}`), allow(byRole, "kms:Encrypt", `{}`)}, "App: kms:Encrypt", ""},
		"an action by pattern": {[]string{decrypt(`{}`)}, []string{allow(byRole, "kms:*crypt", `{}`)}, "App: kms:Encrypt", ""},
		"a principal":          {[]string{decrypt(`{}`)}, []string{decrypt(`{}`), allow(`{"AWS":"arn:aws:iam::111122223333:role/Other"}`, "kms:Decrypt", `{}`)}, "Other: kms:Decrypt", ""},
		"everybody":            {[]string{decrypt(`{}`)}, []string{allow(`"*"`, "kms:Decrypt", `{}`)}, "any-service.amazonaws.com: kms:Decrypt; anybody of 111122223333: kms:Decrypt; anybody of 999999999999: kms:Decrypt; root: kms:Decrypt", ""},
		"the account":          {[]string{decrypt(`{}`)}, []string{decrypt(`{}`), allow(byAnyRoot, "kms:Decrypt", `{}`)}, "anybody of 111122223333: kms:Decrypt; root: kms:Decrypt", ""},
		"another account":      {[]string{decrypt(`{}`)}, []string{decrypt(`{}`), allow(`{"AWS":"444455556666"}`, "kms:Decrypt", `{}`)}, "anybody of 444455556666: kms:Decrypt", ""},
		"a service":            {[]string{decrypt(`{}`)}, []string{decrypt(`{}`), allow(`{"Service":"logs.eu-central-1.amazonaws.com"}`, "kms:Decrypt", `{}`)}, "logs.eu-central-1.amazonaws.com: kms:Decrypt", ""},
		"a condition less":     {[]string{decrypt(context("StringEquals", `"a"`))}, []string{decrypt(`{}`)}, "App: kms:Decrypt", ""},
		"a value more":         {[]string{decrypt(context("StringEquals", `"a"`))}, []string{decrypt(context("StringEquals", `["a","b"]`))}, "App: kms:Decrypt", ""},
		"another value":        {[]string{decrypt(context("StringEquals", `"a"`))}, []string{decrypt(context("StringEquals", `"b"`))}, "App: kms:Decrypt", "App: kms:Decrypt"},
		"a pattern":            {[]string{decrypt(context("StringLike", `"a*"`))}, []string{decrypt(context("StringLike", `"*"`))}, "App: kms:Decrypt", ""},
		"a narrower pattern":   {[]string{decrypt(context("StringLike", `"ab*"`))}, []string{decrypt(context("StringLike", `"a*"`))}, "App: kms:Decrypt", ""},
		"without regard to case": {[]string{decrypt(context("StringEquals", `"a"`))},
			[]string{decrypt(context("StringEqualsIgnoreCase", `"a"`))}, "App: kms:Decrypt", ""},
		"IfExists":     {[]string{decrypt(context("StringEquals", `"a"`))}, []string{decrypt(context("StringEqualsIfExists", `"a"`))}, "App: kms:Decrypt", ""},
		"ForAllValues": {[]string{decrypt(`{"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":["a"]}}`)}, []string{decrypt(`{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["a"]}}`)}, "App: kms:Decrypt", "App: kms:Decrypt"},
		"a Deny less":  {[]string{decrypt(`{}`), deny("kms:Decrypt", context("StringEquals", `"a"`))}, []string{decrypt(`{}`)}, "App: kms:Decrypt", ""},
		"a Deny of everything but less": {[]string{decrypt(`{}`), deny("kms:*", context("StringNotEquals", `"a"`))},
			[]string{decrypt(`{}`), deny("kms:*", context("StringNotEquals", `["a","b"]`))}, "App: kms:Decrypt", ""},
		"two conditions for one": {[]string{decrypt(`{"StringEquals":{"kms:EncryptionContext:app":"a","kms:ViaService":"s3.eu-central-1.amazonaws.com"}}`)},
			[]string{decrypt(context("StringEquals", `"a"`))}, "App: kms:Decrypt", ""},
		"a number":  {[]string{allow(byRole, "kms:ScheduleKeyDeletion", `{"NumericGreaterThanEquals":{"kms:ScheduleKeyDeletionPendingWindowInDays":"30"}}`)}, []string{allow(byRole, "kms:ScheduleKeyDeletion", `{"NumericGreaterThanEquals":{"kms:ScheduleKeyDeletionPendingWindowInDays":"29"}}`)}, "App: kms:ScheduleKeyDeletion", ""},
		"a network": {[]string{decrypt(`{"IpAddress":{"aws:SourceIp":"10.0.0.0/9"}}`)}, []string{decrypt(`{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`)}, "App: kms:Decrypt", ""},
		"two networks for the same one": {[]string{decrypt(`{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`)},
			[]string{decrypt(`{"IpAddress":{"aws:SourceIp":["10.0.0.0/9","10.128.0.0/9"]}}`)}, "", ""},
		"a date": {[]string{decrypt(`{"DateLessThan":{"aws:CurrentTime":"2026-01-01T00:00:00Z"}}`)},
			[]string{decrypt(`{"DateLessThan":{"aws:CurrentTime":"2027-01-01T00:00:00Z"}}`)}, "App: kms:Decrypt", ""},
		"a variable": {[]string{decrypt(context("StringEquals", `"${aws:PrincipalTag/app}"`))},
			[]string{decrypt(context("StringLike", `"*"`))}, "App: kms:Decrypt", ""},
		"a principal by condition": {[]string{allow(`"*"`, "kms:Decrypt", `{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/App"}}`)},
			[]string{allow(`"*"`, "kms:Decrypt", `{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/App*"}}`)}, "Appa: kms:Decrypt", ""},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := accessOf(t, row.before...), accessOf(t, row.after...)
			for _, way := range []struct {
				from, to Access
				want     string
			}{{before, after, row.forth}, {after, before, row.back}} {
				changes, _, err := Widenings(way.from, way.to)
				if err != nil {
					t.Fatal(err)
				}
				if got := summary(changes); got != way.want {
					t.Errorf("wider: %q, want %q", got, way.want)
				}
				for _, c := range changes {
					confirm(t, way.from, way.to, c)
				}
			}
		})
	}
}

// confirm asks the evaluator about the example of a change, as somebody would who
// does not believe it.
func confirm(t *testing.T, before, after Access, c Change) {
	t.Helper()
	for _, identity := range [][]NamedDocument{nil, administrators} {
		ask := func(a Access) bool {
			d, err := Evaluate(c.Example, a.policies(identity))
			if err != nil {
				t.Fatal(err)
			}
			return d.Allowed
		}
		if !ask(before) && ask(after) {
			return
		}
	}
	t.Errorf("nothing is wider for the example %+v", c.Example)
}

func summary(changes []Change) string {
	var all []string
	for _, c := range changes {
		parts := strings.Split(cmp.Or(c.Provider, c.ARN), ":")
		name := parts[len(parts)-1]
		name = name[strings.LastIndex(name, "/")+1:]
		if name == "anybody" {
			name += " of " + parts[4]
		}
		all = append(all, name+": "+strings.Join(c.Actions, " "))
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// TestLosses: what is only limited further is no loss, what can't be done any more
// in some way is.
func TestLosses(t *testing.T) {
	decrypt := func(condition string) string { return allow(byRole, "kms:Decrypt", condition) }
	context := func(values string) string { return `{"StringEquals":{"kms:EncryptionContext:app":` + values + `}}` }
	for name, row := range map[string]struct {
		before, after, want string
	}{
		"nothing":           {decrypt(`{}`), decrypt(`{}`), ""},
		"a condition more":  {decrypt(`{}`), decrypt(context(`"a"`)), ""},
		"a condition less":  {decrypt(context(`"a"`)), decrypt(`{}`), ""},
		"the principal":     {decrypt(`{}`), allow(byAnyRoot, "kms:DescribeKey", `{}`), "App: kms:Decrypt"},
		"another value":     {decrypt(context(`"a"`)), decrypt(context(`"b"`)), "App: kms:Decrypt"},
		"one of two values": {decrypt(context(`["a","b"]`)), decrypt(context(`"a"`)), "App: kms:Decrypt"},
		"a value more":      {decrypt(context(`"a"`)), decrypt(context(`["a","b"]`)), ""},
		"a Deny more":       {decrypt(`{}`), decrypt(`{}`) + "," + deny("kms:Decrypt", `{}`), "App: kms:Decrypt"},
		"a Deny with a way": {decrypt(`{}`), decrypt(`{}`) + "," + deny("kms:Decrypt", `{"Bool":{"aws:SecureTransport":"false"}}`), ""},
	} {
		t.Run(name, func(t *testing.T) {
			changes, _, err := Losses(accessOf(t, row.before), accessOf(t, row.after))
			if err != nil {
				t.Fatal(err)
			}
			changes = slices.DeleteFunc(changes, func(c Change) bool { return !c.Named })
			if got := summary(changes); got != row.want {
				t.Errorf("lost: %q, want %q", got, row.want)
			}
		})
	}
}

// TestIdentityWidens: what IAM policies in the template say counts too.
func TestIdentityWidens(t *testing.T) {
	const role = "arn:aws:iam::111122223333:role/App"
	iam := func(action string) map[string][]NamedDocument {
		return map[string][]NamedDocument{role: {{Name: "IAM", Document: NewDocument(Statement{Effect: Allow, Action: Values{action}, Resource: Values{"*"}})}}}
	}
	before, after := accessOf(t, allow(byAnyRoot, "kms:*", `{}`)), accessOf(t, allow(byAnyRoot, "kms:*", `{}`))
	before.Identity, after.Identity = iam("kms:Encrypt"), iam("kms:*crypt")
	changes, _, err := Widenings(before, after)
	if err != nil {
		t.Fatal(err)
	}
	if got := summary(changes); got != "App: kms:Decrypt" {
		t.Errorf("wider: %q", got)
	}
	before.Identity = nil
	if changes, _, err = Widenings(before, after); err != nil || len(changes) != 1 || !slices.Equal(changes[0].Actions, []string{"kms:Decrypt", "kms:Encrypt"}) {
		t.Errorf("of a role that is new: %+v, %v", changes, err)
	}
}

// TestCompareRefuses what the evaluator does not understand, on either side.
func TestCompareRefuses(t *testing.T) {
	good, bad := accessOf(t, allow(byRole, "kms:Decrypt", `{}`)), accessOf(t, allow(byRole, "kms:Decrypt", `{"StringSounds":{"a:b":"c"}}`))
	for _, pair := range [][2]Access{{good, bad}, {bad, good}} {
		if changes, _, err := Widenings(pair[0], pair[1]); err == nil || !strings.Contains(err.Error(), "StringSounds") {
			t.Errorf("%+v, %v", changes, err)
		}
	}
}

// TestKeyPolicies compares the key policies that the constructs write with
// themselves, in another order, and with each of their statements taken out.
func TestKeyPolicies(t *testing.T) {
	for _, name := range []string{"secrets_key", "audit_key", "log_group_key"} {
		data, err := os.ReadFile("../keypolicy/testdata/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var doc Document
		if err := json.Unmarshal(data, &doc.Statement); err != nil {
			if err := json.Unmarshal(data, &doc); err != nil {
				t.Fatal(err)
			}
		}
		doc.Version = Version
		whole := Access{Key: keyOfTests, Policy: NamedDocument{Name: name, Document: doc}}
		turned := whole
		turned.Policy.Statement = slices.Clone(doc.Statement)
		slices.Reverse(turned.Policy.Statement)
		if changes, _, err := Widenings(whole, turned); err != nil || len(changes) != 0 {
			t.Errorf("%s turned round: %v, %v", name, changes, err)
		}
		for i, s := range doc.Statement {
			less := whole
			less.Policy.Statement = slices.Delete(slices.Clone(doc.Statement), i, i+1)
			wider, _, err := Widenings(less, whole)
			if err != nil {
				t.Fatal(err)
			}
			if (s.Effect == Allow) != (len(wider) > 0) {
				t.Errorf("%s: adding the %s %q: wider is %q", name, s.Effect, s.Sid, summary(wider))
			}
			for _, c := range wider {
				confirm(t, less, whole, c)
			}
		}
	}
}

// TestWideningsMissNothing compares the policies of the decisions with one another:
// where a request of the one is allowed by it and denied by the other, the action is
// among what is found.
func TestWideningsMissNothing(t *testing.T) {
	type side struct {
		name    string
		request Request
		access  Access
	}
	var all []side
	for _, d := range decisions {
		r, p := d.request(t)
		if p.Identity != nil || p.Grants != nil || checkPolicy(NamedDocument{Document: p.Resource.Document}, true) != nil {
			continue
		}
		all = append(all, side{d.name, r, Access{Key: keyOfTests, Policy: p.Resource}})
	}
	compared := 0
	for i, before := range all {
		for _, after := range all[i%7:] {
			ask := func(a Access) bool {
				d, err := Evaluate(after.request, Policies{Resource: a.Policy})
				if err != nil {
					t.Fatal(err)
				}
				return d.Allowed
			}
			if (compared+i)%5 != 0 || !ask(after.access) || ask(before.access) {
				compared++
				continue
			}
			compared++
			changes, _, err := Widenings(before.access, after.access)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(changes, func(c Change) bool { return slices.Contains(c.Actions, after.request.Action) }) {
				t.Errorf("from %q to %q: %s is not found: %s", before.name, after.name, after.request.Action, summary(changes))
			}
		}
	}
	if compared < 1000 {
		t.Errorf("%d comparisons", compared)
	}
}
