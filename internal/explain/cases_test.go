package explain_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/estate/estatetest"
	"github.com/ekskms/ekskms/internal/explain"
)

const secretsKey = "SecretsKeyE4821A66"

// staged is the default template where a parameter decides who may decrypt, and change is
// what else differs.
func staged(t *testing.T, change func(estatetest.Template)) estatetest.Template {
	t.Helper()
	template := estatetest.Golden(t, "default")
	template["Parameters"] = map[string]any{"Stage": map[string]any{"Type": "String", "AllowedValues": []any{"production", "test"}}}
	template["Conditions"] = map[string]any{
		"Production": map[string]any{"Fn::Equals": []any{map[string]any{"Ref": "Stage"}, "production"}},
		"Test":       map[string]any{"Fn::Equals": []any{map[string]any{"Ref": "Stage"}, "test"}},
	}
	change(template)
	return template
}

func decrypts(role string) map[string]any {
	return map[string]any{"Effect": "Allow", "Principal": map[string]any{"AWS": "arn:aws:iam::111122223333:role/" + role}, "Action": "kms:Decrypt", "Resource": "*"}
}

func withStatement(s any) func(estatetest.Template) {
	return func(t estatetest.Template) {
		policy := t.Resource(secretsKey)["Properties"].(map[string]any)["KeyPolicy"].(map[string]any)
		policy["Statement"] = append(policy["Statement"].([]any), s)
	}
}

func either(condition string, then, otherwise any) map[string]any {
	return map[string]any{"Fn::If": []any{condition, then, otherwise}}
}

// TestCases shows that a key has a matrix for each case in which the answers differ, and
// that a request on which they differ is neither allowed nor denied.
func TestCases(t *testing.T) {
	noValue := map[string]any{"Ref": "AWS::NoValue"}
	for name, tc := range map[string]struct {
		change  func(estatetest.Template)
		in      []string // of the matrices
		verdict string   // on Decrypt by A
		reason  string
	}{
		"nothing differs":       {change: func(estatetest.Template) {}, in: []string{""}, verdict: "denied"},
		"one case":              {change: withStatement(either("Production", decrypts("A"), noValue)), in: []string{"where Stage is production", "where Stage is not production"}, verdict: "depends", reason: "allowed where Stage is production; denied where Stage is not production"},
		"two of the same":       {change: withStatement(either("Production", decrypts("A"), decrypts("A"))), in: []string{""}, verdict: "allowed"},
		"one or the other":      {change: withStatement(either("Production", decrypts("A"), either("Test", decrypts("A"), noValue))), in: []string{""}, verdict: "allowed"},
		"another":               {change: withStatement(either("Test", decrypts("A"), decrypts("B"))), in: []string{"where Stage is not test", "where Stage is test"}, verdict: "depends"},
		"the key itself":        {change: estatetest.Attribute(secretsKey, "Condition", "Production"), in: []string{"where Stage is production"}, verdict: "denied"},
		"what is not of policy": {change: estatetest.Property(secretsKey, "EnableKeyRotation", either("Production", true, false)), in: []string{""}, verdict: "denied"},
	} {
		t.Run(name, func(t *testing.T) {
			inputs, err := explain.FromEstate(estatetest.Estate(t, staged(t, tc.change)), secretsKey)
			if err != nil {
				t.Fatal(err)
			}
			matrices, err := explain.Matrices(inputs, false)
			if err != nil {
				t.Fatal(err)
			}
			var in []string
			for _, m := range matrices {
				in = append(in, m.In)
			}
			if diff := cmp.Diff(tc.in, in, cmp.Transformer("set", func(s []string) map[string]bool {
				set := map[string]bool{}
				for _, e := range s {
					set[e] = true
				}
				return set
			})); diff != "" || len(in) != len(tc.in) {
				t.Errorf("- want, + got\n%s", diff)
			}
			for i := range inputs {
				inputs[i].Identity["arn:aws:iam::111122223333:role/A"] = nil // it has no IAM policy
			}
			reply, err := explain.Ask(inputs, "arn:aws:iam::111122223333:role/A", "kms:Decrypt", nil)
			if err != nil {
				t.Fatal(err)
			}
			if reply.Verdict != tc.verdict || reply.Allowed != (tc.verdict == "allowed") || !strings.Contains(reply.Reason, tc.reason) {
				t.Errorf("%s: %s, want %s", reply.Verdict, reply.Reason, tc.verdict)
			}
		})
	}
}

// TestUnreadable shows that a key whose policy is not in the template leaves the others, and
// is named.
func TestUnreadable(t *testing.T) {
	template := staged(t, func(t estatetest.Template) {
		estatetest.Property("AuditTrailKeyA4D56A7A", "KeyPolicy", map[string]any{"Ref": "Stage"})(t)
		estatetest.Property("EncryptedClusterA9297881", "EncryptionConfig", nil)(t) // so that all keys are shown
	})
	inputs, err := explain.FromEstate(estatetest.Estate(t, template), "")
	if err != nil {
		t.Fatal(err)
	}
	notes := ""
	for _, in := range inputs {
		notes += strings.Join(in.Notes, "\n")
	}
	if len(inputs) != 3 || !strings.Contains(notes, "AuditTrail/Key is left out: KeyPolicy is ${Stage}") {
		t.Errorf("%d keys, notes:\n%s", len(inputs), notes)
	}
}
