package iampolicy

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

const roleARN = "arn:aws:iam::111122223333:role/Admin"

func TestMarshal(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   any
		want string
	}{
		{"one value is a string", Values{"a"}, `"a"`},
		{"several values are a list", Values{"a", "b"}, `["a","b"]`},
		{"principal of one kind", Principal{AWS: Values{roleARN}}, `{"AWS":"` + roleARN + `"}`},
		{"everybody", Principal{AWS: Values{"*"}}, `{"AWS":"*"}`},
		{
			"principals of several kinds",
			Principal{AWS: Values{"a", "b"}, Service: Values{"c"}, Federated: Values{"d"}},
			`{"AWS":["a","b"],"Service":"c","Federated":"d"}`,
		},
		{
			"a statement of an identity policy has no principal, and no empty element",
			Statement{Effect: Allow, Action: Values{"kms:Decrypt"}, Resource: Values{"*"}},
			`{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}`,
		},
		{
			"a whole document",
			NewDocument(Statement{
				Sid: "S", Effect: Deny, Principal: Principal{Service: Values{"x.amazonaws.com"}},
				Action: Values{"a:B", "a:C"}, Condition: Condition{"Bool": {"aws:SecureTransport": {"false"}}},
			}),
			`{"Version":"2012-10-17","Statement":[{"Sid":"S","Effect":"Deny","Principal":{"Service":"x.amazonaws.com"},` +
				`"Action":["a:B","a:C"],"Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := json.Marshal(tc.in)
			if err != nil || string(got) != tc.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, tc.want)
			}
		})
	}
}

// statement puts elements beside those that every statement must have.
func statement(elements string) string {
	if elements != "" {
		elements = "," + elements
	}
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:Decrypt"` + elements + `}]}`
}

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     Statement
	}{
		{"the least", statement(""), Statement{}},
		{"everybody, short form", statement(`"Principal":"*"`), Statement{Principal: Principal{AWS: Values{"*"}}}},
		{"everybody, long form", statement(`"Principal":{"AWS":"*"}`), Statement{Principal: Principal{AWS: Values{"*"}}}},
		{
			"principals", statement(`"Principal":{"AWS":["a","b"],"Service":"c","Federated":"d"}`),
			Statement{Principal: Principal{AWS: Values{"a", "b"}, Service: Values{"c"}, Federated: Values{"d"}}},
		},
		{
			"condition", statement(`"Condition":{"StringEquals":{"aws:SourceArn":["a","b"],"aws:SourceAccount":"c"}}`),
			Statement{Condition: Condition{"StringEquals": {"aws:SourceArn": {"a", "b"}, "aws:SourceAccount": {"c"}}}},
		},
		{
			// Source: IAM User Guide, "Grammar of the IAM JSON policy language", condition_value.
			"booleans and numbers in a condition",
			statement(`"Condition":{"Bool":{"aws:SecureTransport":false},"NumericLessThan":{"k":[12,1.5,"3"]}}`),
			Statement{Condition: Condition{"Bool": {"aws:SecureTransport": {"false"}}, "NumericLessThan": {"k": {"12", "1.5", "3"}}}},
		},
		{"NotPrincipal and NotResource", statement(`"NotPrincipal":"*","NotResource":"*"`), Statement{NotPrincipal: Principal{AWS: Values{"*"}}, NotResource: Values{"*"}}},
		{
			"one statement that is not in a list", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:Decrypt"}}`, Statement{},
		},
		{"space around", "\n " + statement(`"Resource":["*"]`) + "\n", Statement{Resource: Values{"*"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.want.Effect, tc.want.Action = Allow, Values{"kms:Decrypt"}
			got, err := Parse([]byte(tc.in))
			if err != nil || !reflect.DeepEqual(got, NewDocument(tc.want)) {
				t.Errorf("got %+v, %v, want %+v", got, err, tc.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	good := statement("")
	for _, tc := range []struct{ name, in, want string }{
		{"Action and NotAction", statement(`"NotAction":"kms:Decrypt"`), "Action and NotAction"},
		{"Principal and NotPrincipal", statement(`"Principal":"*","NotPrincipal":{"AWS":"*"}`), "Principal and NotPrincipal"},
		{"Resource and NotResource", statement(`"Resource":"*","NotResource":"*"`), "Resource and NotResource"},
		{"unknown element of a statement", statement(`"Notaction2":"kms:Decrypt"`), "Notaction2"},
		{"unknown element of a statement that is not in a list", `{"Statement":{"Effect":"Allow","Action":"a:B","Conditions":{}}}`, "Conditions"},
		{"version that is none", strings.Replace(good, Version, "2012-10-18", 1), `the version is "2012-10-18"`},
		{"unknown kind of principal", statement(`"Principal":{"CanonicalUser":"x"}`), "CanonicalUser"},
		{"unknown element of a document", strings.Replace(good, `"Version"`, `"Vresion"`, 1), "Vresion"},
		{"principal as a plain ARN", statement(`"Principal":"` + roleARN + `"`), "Principal"},
		{"principal that names nobody", statement(`"Principal":{}`), "names a principal"},
		{"number for a string", statement(`"Resource":1`), "want a string"},
		{"list of numbers", statement(`"Resource":[1]`), "want a string"},
		{"empty list", statement(`"Resource":[]`), "want a string"},
		{"object for a list", statement(`"Resource":{"a":"b"}`), "want a string"},
		{"object for a condition value", statement(`"Condition":{"Bool":{"aws:SecureTransport":{}}}`), "want strings, booleans or numbers"},
		{"list in a list of condition values", statement(`"Condition":{"Bool":{"aws:SecureTransport":[["true"]]}}`), "want strings, booleans or numbers"},
		{"empty list of condition values", statement(`"Condition":{"Bool":{"aws:SecureTransport":[]}}`), "at least one value"},
		{"boolean for an action", `{"Statement":[{"Effect":"Allow","Action":true}]}`, "want a string"},
		{"null for a list", statement(`"Resource":null`), "null"},
		{"null in a list", statement(`"Resource":["*",null]`), "null"},
		{"null for a condition", statement(`"Condition":null`), "null"},
		{"null for a policy", `null`, "policy"},
		{"statement that is neither", `{"Version":"2012-10-17","Statement":"x"}`, "is a JSON string"},
		{"statement that is empty", `{"Version":"2012-10-17","Statement":{}}`, "must be Allow or Deny"},
		{"no statement", `{"Version":"2012-10-17","Statement":[]}`, "no statement"},
		{"empty policy", `{}`, "no statement"},
		{"no action", `{"Statement":[{"Effect":"Allow"}]}`, "statement 1: has no Action"},
		{"no effect", `{"Statement":[{"Action":"kms:Decrypt"}]}`, "must be Allow or Deny"},
		{"effect in small letters", strings.Replace(good, "Allow", "allow", 1), "must be Allow or Deny"},
		{"element given twice", statement(`"Action":"kms:*"`), `"Action" is given twice`},
		{"element given twice, in other letters", statement(`"ACTION":"kms:*"`), `"ACTION" is given twice`},
		{"condition key given twice", statement(`"Condition":{"StringEquals":{"aws:SourceArn":"a","aws:SourceArn":"b"}}`), "given twice"},
		{"second document", good + good, "after the policy"},
		{"word after the end", good + " x", "after the policy"},
		{"brace after the end", good + "}", "after the policy"},
		{"bracket after the end", good + "]", "after the policy"},
		{"cut off", good[:len(good)-1], "ends too early"},
		{"nothing", "", "ends too early"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Parse([]byte(tc.in))
			if err == nil {
				t.Fatalf("accepted as %+v", got)
			}
			if !strings.HasPrefix(err.Error(), "policy: ") || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q, want one with %q", err, tc.want)
			}
		})
	}
}

func TestStatementMap(t *testing.T) {
	got := Statement{
		Sid: "S", Effect: Allow, Principal: Principal{AWS: Values{roleARN}}, Action: Values{"kms:Decrypt", "kms:Encrypt"},
		Resource: Values{"*"}, Condition: Condition{"StringEquals": {"k": {"v"}}},
	}.Map()
	want := map[string]any{
		"Sid": "S", "Effect": "Allow", "Principal": map[string]any{"AWS": roleARN},
		"Action": []any{"kms:Decrypt", "kms:Encrypt"}, "Resource": "*",
		"Condition": map[string]any{"StringEquals": map[string]any{"k": "v"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOnResource(t *testing.T) {
	key := Statement{
		Sid: "S", Effect: Allow, Principal: Principal{AWS: Values{roleARN}}, Action: Values{"kms:Decrypt"},
		Resource: Values{"*"}, Condition: Condition{"StringEquals": {"k": {"v"}}},
	}
	identity := key.OnResource("arn:aws:kms:eu-central-1:111122223333:key/k")
	want := key
	want.Principal, want.Resource = Principal{}, Values{"arn:aws:kms:eu-central-1:111122223333:key/k"}
	if !reflect.DeepEqual(identity, want) {
		t.Errorf("got %+v, want %+v", identity, want)
	}
	if key.Principal.AWS == nil || key.Resource[0] != "*" {
		t.Errorf("the statement itself was changed: %+v", key)
	}
}

// What Parse accepts it has understood in full: written out and read again it
// is the same document.
func FuzzParse(f *testing.F) {
	f.Add([]byte(statement("")))
	f.Add([]byte(statement(`"Principal":"*","Resource":["a","b"],"Sid":"S"`)))
	f.Add([]byte(statement(`"Principal":{"AWS":["a","b"],"Service":"c"},"Condition":{"Null":{"k":"false"},"Bool":{}}`)))
	f.Add([]byte(statement(`"Condition":{"Bool":{"a":true},"NumericEquals":{"b":[1,1e3]}}`)))
	f.Add([]byte(`{"Statement":{"Effect":"Deny","NotAction":"a:B","NotPrincipal":"*","NotResource":"c"}}`))
	f.Add([]byte(statement(`"Action":null`)))
	f.Add([]byte(`{"Id":"","Statement":[]}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := Parse(data)
		if err != nil {
			return
		}
		once, err := json.Marshal(doc)
		if err != nil {
			t.Fatalf("accepted, but does not marshal: %v", err)
		}
		again, err := Parse(once)
		if err != nil {
			t.Fatalf("%s is written by Marshal and refused by Parse: %v", once, err)
		}
		twice, err := json.Marshal(again)
		if err != nil || string(once) != string(twice) {
			t.Fatalf("changes on the way: %s, then %s, %v", once, twice, err)
		}
	})
}
