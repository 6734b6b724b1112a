package explain_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/estate/estatetest"
	"github.com/ekskms/ekskms/internal/explain"
	"github.com/ekskms/ekskms/internal/terminal"
)

// TestSummary: keys that are made alike for other clusters, accounts and Regions are as one,
// and whatever is different with one of them is told.
func TestSummary(t *testing.T) {
	const role = "arn:aws:iam::111122223333:role/"
	condition := func(operator string, change func(map[string]any)) func(estatetest.Template) {
		return func(t estatetest.Template) {
			policy := t.Resource(secretsKey)["Properties"].(map[string]any)["KeyPolicy"].(map[string]any)
			for _, s := range policy["Statement"].([]any) {
				if c, ok := s.(map[string]any)["Condition"].(map[string]any); ok && c[operator] != nil {
					change(s.(map[string]any))
				}
			}
		}
	}
	for name, tt := range map[string]struct {
		change func(estatetest.Template)
		want   []string
	}{
		"alike":              {func(estatetest.Template) {}, nil},
		"somebody decrypts":  {withStatement(decrypts("App")), []string{"App may also: kms:Decrypt"}},
		"somebody is denied": {withStatement(map[string]any{"Effect": "Deny", "Principal": map[string]any{"AWS": role + "App"}, "Action": "kms:Decrypt", "Resource": "*"}), []string{"App is denied: kms:Decrypt"}},
		"anybody decrypts": {withStatement(map[string]any{"Effect": "Allow", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"}), []string{
			"anybody in another account may also: kms:Decrypt", "anybody else in the account may also: kms:Decrypt",
		}},
		"no encryption context": {condition("StringEquals", func(s map[string]any) { delete(s, "Condition") }), []string{"EncryptedCluster/KmsPlugin/Role under another condition: "}},
		"nobody makes grants": {func(t estatetest.Template) {
			policy := t.Resource(secretsKey)["Properties"].(map[string]any)["KeyPolicy"].(map[string]any)
			var left []any
			for _, s := range policy["Statement"].([]any) {
				if actions, _ := s.(map[string]any)["Action"].([]any); len(actions) == 0 || actions[0] != "kms:CreateGrant" {
					if s.(map[string]any)["Action"] != "kms:CreateGrant" {
						left = append(left, s)
					}
				}
			}
			policy["Statement"] = left
		}, []string{"may not: kms:CreateGrant"}},
	} {
		t.Run(name, func(t *testing.T) {
			template := estatetest.Golden(t, "default")
			tt.change(template)
			inputs, err := explain.FromEstate(estatetest.BesideAnother(t, template), "")
			if err != nil {
				t.Fatal(err)
			}
			all, err := explain.Matrices(inputs, false)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := explain.WriteSummary(&b, terminal.Style{}, all); err != nil {
				t.Fatal(err)
			}
			text := b.String()
			if alike := strings.Contains(text, "\nA, 2 keys\n"); alike != (tt.want == nil) || strings.Contains(text, "\nB, 1 key\n") == alike {
				t.Errorf("alike is %t:\n%s", alike, text)
			}
			// The one that is first may be either of two that differ.
			mirrored := strings.NewReplacer("may also", "may not", "may not", "may also", "is denied", "may not")
			for _, want := range tt.want {
				if !strings.Contains(text, want) && !strings.Contains(text, mirrored.Replace(want)) {
					t.Errorf("does not say %q:\n%s", want, text)
				}
			}
			for _, account := range []string{"111122223333  eu-central-1", "444455556666  eu-central-1"} {
				if !strings.Contains(text, account) {
					t.Errorf("does not name %s", account)
				}
			}
		})
	}
}
