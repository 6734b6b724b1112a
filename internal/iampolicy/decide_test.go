package iampolicy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// dice makes random policies over few names and short texts, so that all requests that
// matter can be tried one by one.
type dice struct{ *rand.Rand }

func (d dice) one(of ...string) string { return of[d.IntN(len(of))] }

// text is a text, or a pattern, over a small alphabet.
func (d dice) text(letters string) string {
	var b strings.Builder
	for range d.IntN(4) {
		b.WriteByte(letters[d.IntN(len(letters))])
	}
	return b.String()
}

func (d dice) condition() (operator, key string, values Values) {
	some := func(value func() string) {
		for range 1 + d.IntN(2) {
			values = append(values, value())
		}
	}
	switch d.IntN(8) {
	case 0, 1, 2:
		key = "kms:EncryptionContext:" + d.one("x", "y")
		operator = d.one("StringEquals", "StringNotEquals", "StringLike", "StringNotLike", "StringEqualsIgnoreCase", "StringEqualsIfExists", "StringNotLikeIfExists", "StringLikeIfExists")
		some(func() string { return d.text("ab*?") })
	case 3:
		key, operator = "kms:EncryptionContextKeys", d.one("ForAllValues:StringEquals", "ForAnyValue:StringEquals", "ForAllValues:StringNotEquals", "ForAnyValue:StringNotLike", "ForAllValues:StringEqualsIgnoreCase", "ForAllValues:StringLike")
		some(func() string { return d.one("x", "y", "z", "X", "*", "?y") })
	case 4:
		key, operator = d.one("kms:EncryptionContext:x", "kms:EncryptionContextKeys", "aws:SourceVpce", "kms:ViaService"), "Null"
		values = Values{d.one("true", "false")}
	case 5:
		key, operator = "aws:PrincipalArn", d.one("ArnLike", "StringLike", "ArnNotLike", "StringNotLike", "ArnEquals")
		some(func() string {
			return "arn:aws:iam::" + d.one("111122223333", "444455556666", "*", "1*") + ":" + d.one("role/", "*", "role/*/", "user/") + d.text("ab*?")
		})
	case 6:
		key, operator = d.one("kms:CallerAccount", "aws:PrincipalAccount"), d.one("StringEquals", "StringLike", "StringNotEquals", "StringNotLike")
		some(func() string { return d.one("111122223333", "444455556666", "4*", "*3") })
	case 7:
		key, operator = "kms:EncryptionContext:x", d.one("StringEquals", "StringNotEquals")
		values = Values{d.one("${aws:PrincipalTag/t}", "${kms:EncryptionContext:y}", "${aws:PrincipalAccount}")}
	}
	return operator, key, values
}

func (d dice) statement() Statement {
	s := Statement{Effect: Allow, Action: Values{"kms:Decrypt"}, Resource: Values{"*"}}
	if d.IntN(3) == 0 {
		s.Effect = Deny
	}
	s.Principal.AWS = Values{d.one("*", "*", "arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:role/a", "arn:aws:iam::444455556666:role/ab", "444455556666")}
	s.Condition = Condition{}
	for range d.IntN(3) {
		operator, key, values := d.condition()
		if slices.Contains(values, "") && strings.Contains(operator, "Arn") {
			continue
		}
		s.Condition[operator] = map[string]Values{key: values}
	}
	return s
}

func (d dice) access() Access {
	var all []Statement
	for range 1 + d.IntN(4) {
		all = append(all, d.statement())
	}
	a := Access{Key: keyOfTests, Policy: NamedDocument{Name: "key policy", Document: NewDocument(all...)}}
	for range max(0, d.IntN(6)-3) {
		a.Organization = append(a.Organization, d.ofOrganization())
	}
	return a
}

// ofOrganization is a service control policy or a resource control policy.
func (d dice) ofOrganization() NamedDocument {
	s := d.statement()
	s.Effect, s.Principal.AWS = Deny, Values{"*"}
	if d.IntN(2) == 0 {
		return NamedDocument{Name: "RCP", Document: NewDocument(s)}
	}
	s.Principal = Principal{}
	if d.IntN(2) == 0 {
		s.Effect = Allow
	}
	return NamedDocument{Name: "SCP", Document: NewDocument(s)}
}

// allRequests are those of the small world of [dice].
func allRequests() (all []Request) {
	texts := []Values{nil}
	for _, t := range []string{"a", "b", "c", "A", "aa", "ab", "ba", "bb", "aab", "abc", "bca", "abab"} {
		texts = append(texts, Values{t})
	}
	var contexts []Context
	for _, x := range texts {
		for _, y := range texts[:5] {
			for _, z := range []bool{false, true} {
				c := Context{}
				if x != nil {
					c["kms:EncryptionContext:x"] = x
				}
				if y != nil {
					c["kms:EncryptionContext:y"] = y
				}
				if z {
					c["kms:EncryptionContext:z"] = Values{"a"}
				}
				contexts = append(contexts, c)
			}
		}
	}
	contexts = append(contexts, Context{"aws:SourceVpce": {"vpce-1"}}, Context{"kms:ViaService": {"a"}},
		Context{"aws:PrincipalTag/t": {"a"}, "kms:EncryptionContext:x": {"a"}}, Context{"aws:PrincipalTag/t": {"b"}, "kms:EncryptionContext:x": {"a"}},
		Context{"kms:EncryptionContext:x": {"111122223333"}})
	for _, account := range []string{"111122223333", "444455556666", "123456789012", "999999999993"} {
		for _, who := range []string{"role/a", "role/b", "role/ab", "role/a/b", "role/b/a", "role/c", "role/aws-service-role/a", "role/aws-service-role/b/a", "user/a", "user/b", "root"} {
			for _, c := range contexts {
				all = append(all, Request{Caller: Caller{ARN: "arn:aws:iam::" + account + ":" + who}, Action: "kms:Decrypt", Resource: keyOfTests, Context: c})
			}
		}
	}
	return all
}

// TestAgainstAllRequests holds what is decided to what comes out when every request is
// tried: nothing that one of them shows is missed, and each example holds. One that no
// policy allows to anybody whom it does not name is among them.
func TestAgainstAllRequests(t *testing.T) {
	requests := allRequests()
	rounds := 80
	if testing.Short() || race {
		rounds = 20
	}
	wider, same := 0, 0
	for seed := range rounds {
		d := dice{rand.New(rand.NewPCG(uint64(seed), 16))}
		before, after := d.access(), d.access()
		switch seed % 4 { // one statement apart
		case 0:
			after.Policy.Statement = append(slices.Clone(before.Policy.Statement), d.statement())
		case 1:
			more := d.statement()
			more.Effect = Deny
			before.Policy.Statement = append(slices.Clone(after.Policy.Statement), more)
		}
		changes, notes, err := Widenings(before, after)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, c := range changes {
			confirm(t, before, after, c)
			listed, there := c.Example.Context[contextKeys]
			for key := range c.Example.Context {
				if pair, ok := strings.CutPrefix(key, contextPrefix); ok && there && !lists(listed, pair) {
					t.Errorf("seed %d: no request has the context %v", seed, c.Example.Context)
				}
			}
		}
		shown := ""
		ask := func(a Access, r Request) bool {
			decision, err := Evaluate(r, a.policies(Holder{Caller: r.Caller}.assumed()))
			if err != nil {
				t.Fatal(err)
			}
			return decision.Allowed
		}
		for _, r := range requests {
			if ask(after, r) && !ask(before, r) {
				shown = fmt.Sprintf("%s %v", r.Caller.ARN, r.Context)
				break
			}
		}
		if shown == "" {
			same++
			continue
		}
		wider++
		if len(changes) == 0 && len(notes) == 0 {
			t.Errorf("seed %d: no change is found, and %s shows one:\nbefore %+v\nafter  %+v", seed, shown, before.Policy.Statement, after.Policy.Statement)
		}
	}
	if wider < rounds/5 || same < rounds/10 {
		t.Errorf("%d of %d are wider, and %d are not", wider, rounds, same)
	}
}

// TestMinterms: each class of texts is there once, with its shortest.
func TestMinterms(t *testing.T) {
	classes, complete := minterms(newLanguage(`[a-z]+`), []*language{newLanguage(`a.*`), newLanguage(`.*b`), newLanguage(`ab`)})
	var got []string
	for _, c := range classes {
		got = append(got, c.text)
	}
	if want := []string{"a", "b", "c", "ab", "aab"}; !complete || !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzPatterns holds the languages to the comparison of texts by which [Evaluate]
// decides.
func FuzzPatterns(f *testing.F) {
	for _, seed := range [][2]string{{"a*b?c", "axxbyc"}, {"arn:aws:iam::*:role/x*", "arn:aws:iam::111122223333:role/xy"}, {"*", ""}, {"ſ", "S"}, {"[.", "[."}, {"a\nb*", "a\nbc"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, want, have string) {
		for name, o := range operators {
			if o.like == nil || o.negated || !utf8.ValidString(want) || !utf8.ValidString(have) {
				continue
			}
			p := plain(want)
			if o.check != nil && o.check(p) != nil {
				continue
			}
			expression, _ := test{operator: o}.expression(p)
			if got, want := newLanguage(expression).has(have), o.like(p, have); got != want {
				t.Errorf("%s %q %q: in the language %v, by comparison %v", name, p, have, got, want)
			}
		}
	})
}
