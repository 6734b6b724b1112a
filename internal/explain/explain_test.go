package explain_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/estate/estatetest"
	"github.com/ekskms/ekskms/internal/explain"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/terminal"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var examples = []string{"default", "01_minimal", "02_existing_vpc_and_key", "03_node_group", "04_tenants_and_secrets"}

func matrix(t testing.TB, template any, key string) *explain.Matrix {
	t.Helper()
	inputs, err := explain.FromEstate(estatetest.Estate(t, template), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(inputs) != 1 {
		t.Fatalf("%d keys", len(inputs))
	}
	m, err := explain.Explain(inputs[0])
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// may lists who may do an action, by the last part of the ARN, as "name" or
// "name (conditional)".
func may(m *explain.Matrix, action string) (who []string) {
	for _, row := range m.Rows {
		if row.Action != action {
			continue
		}
		for _, c := range row.Cells {
			name := c.Principal[strings.LastIndexAny(c.Principal, ":/")+1:]
			switch c.Answer {
			case explain.Yes:
				who = append(who, name)
			case explain.Conditional:
				who = append(who, name+" (conditional)")
			}
		}
	}
	slices.Sort(who)
	return who
}

// TestGoldens writes down who may use the key of each example, and says what must
// be seen there: only the plugin's roles encrypt and decrypt, under conditions,
// and only the creators make grants.
func TestGoldens(t *testing.T) {
	for _, name := range examples {
		t.Run(name, func(t *testing.T) {
			m := matrix(t, estatetest.Golden(t, name), "")
			var text, markdown bytes.Buffer
			if err := m.WriteText(&text, terminal.Style{}); err != nil {
				t.Fatal(err)
			}
			if err := m.WriteMarkdown(&markdown); err != nil {
				t.Fatal(err)
			}
			golden(t, name+".txt", text.Bytes())
			if strings.HasPrefix(name, "04") {
				golden(t, name+".md", markdown.Bytes()) // the others are in those of 'generate docs'
			}

			for _, row := range m.Rows {
				for i, c := range row.Cells {
					p := m.Principals[i]
					plugin := strings.Contains(p.ARN, "KmsPluginRole") || strings.Contains(p.ARN, "KmsPluginTenantRole")
					creator := strings.Contains(p.ARN, "cfn-exec-role") || strings.HasSuffix(p.ARN, "role/Deployer")
					switch {
					case c.Answer == explain.No:
					case row.Class == iampolicy.Cryptographic:
						if !plugin || c.Answer != explain.Conditional || !slices.Contains([]string{"kms:Decrypt", "kms:GenerateDataKey"}, row.Action) {
							t.Errorf("%s may do %s: %s", p.ARN, row.Action, c.Answer)
						}
					case row.Action == "kms:CreateGrant":
						if !creator {
							t.Errorf("%s may make grants", p.ARN)
						}
					case p.What == "anybody in another account":
						t.Errorf("%s may do %s", p.ARN, row.Action)
					}
				}
			}
			if len(may(m, "kms:Decrypt")) == 0 || len(may(m, "kms:CreateGrant")) == 0 || len(may(m, "kms:PutKeyPolicy")) == 0 {
				t.Errorf("nobody decrypts, makes grants or administers: %q %q %q", may(m, "kms:Decrypt"), may(m, "kms:CreateGrant"), may(m, "kms:PutKeyPolicy"))
			}
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: - golden, + now (make goldens)\n%s", path, diff)
	}
}

// TestMatrixSees: each way to open a key shows in the matrix.
func TestMatrixSees(t *testing.T) {
	add := func(statement map[string]any) estatetest.Change {
		return func(t estatetest.Template) {
			policy := t.Resource("SecretsKeyE4821A66")["Properties"].(map[string]any)["KeyPolicy"].(map[string]any)
			statement["Resource"] = "*"
			policy["Statement"] = append(policy["Statement"].([]any), statement)
		}
	}
	const plugin = "EncryptedClusterKmsPluginRoleC6DF9AF0 (conditional)"
	for name, row := range map[string]struct {
		change estatetest.Change
		want   []string
	}{
		"as it is": {func(estatetest.Template) {}, []string{plugin}},
		"the account": {add(map[string]any{"Effect": "Allow", "Principal": map[string]any{"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:Decrypt"}),
			[]string{plugin, "anybody", "root"}},
		"everybody": {add(map[string]any{"Effect": "Allow", "Principal": "*", "Action": "kms:De*"}),
			[]string{"EncryptedClusterClusterRoleB274515C", "EncryptedClusterClusternodePoolRole33EC5368", "EncryptedClusterKmsPluginRoleC6DF9AF0",
				"CustomVpcRestrictDefaultSGCustomResourceProviderRole26592FE0", "EncryptedClusterKubectlProviderHandlerServiceRole9B149D9D", "EncryptedClusterKubectlProviderframeworkonEventServiceRoleB7AAED18",
				"any-service.amazonaws.com", "anybody", "anybody", "cdk-hnb659fds-cfn-exec-role-111122223333-eu-central-1", "root"}},
		"another account": {add(map[string]any{"Effect": "Allow", "Principal": map[string]any{"AWS": "444455556666"}, "Action": "kms:Decrypt"}),
			[]string{plugin, "444455556666"}},
		"a service": {add(map[string]any{"Effect": "Allow", "Principal": map[string]any{"Service": "logs.amazonaws.com"}, "Action": "kms:Decrypt"}),
			[]string{plugin, "logs.amazonaws.com"}},
		"a role by condition": {add(map[string]any{"Effect": "Allow", "Principal": "*", "Action": "kms:Decrypt",
			"Condition": map[string]any{"ArnEquals": map[string]any{"aws:PrincipalArn": "arn:aws:iam::111122223333:role/App"}}}),
			[]string{plugin, "App"}},
		"a role by condition, of the account": {add(map[string]any{"Effect": "Allow", "Principal": map[string]any{"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:Decrypt",
			"Condition": map[string]any{"ArnEquals": map[string]any{"aws:PrincipalArn": "arn:aws:iam::111122223333:role/App"}}}),
			[]string{plugin, "App"}},
		"a provider": {add(map[string]any{"Effect": "Allow", "Principal": map[string]any{"Federated": "cognito-identity.amazonaws.com"}, "Action": "kms:Decrypt"}),
			[]string{plugin, "cognito-identity.amazonaws.com"}},
		"a Deny": {add(map[string]any{"Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt"}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			template := estatetest.Golden(t, "default")
			row.change(template)
			slices.Sort(row.want)
			if diff := cmp.Diff(row.want, may(matrix(t, template, ""), "kms:Decrypt")); diff != "" {
				t.Errorf("- want, + may decrypt\n%s", diff)
			}
			for with, e := range map[string]*estate.Estate{"another stack": estatetest.BesideAnother(t, template), "another cluster": estatetest.WithAnother(t, template)} {
				inputs, err := explain.FromEstate(e, "SecretsKeyE4821A66")
				if err != nil {
					t.Fatal(err)
				}
				m, err := explain.Explain(inputs[0])
				if err != nil {
					t.Fatal(err)
				}
				var who []string
				for _, name := range may(m, "kms:Decrypt") {
					if name := strings.TrimPrefix(name, "first-"); !strings.Contains(name, estatetest.Another) && !strings.HasPrefix(name, "second-") {
						who = append(who, name)
					}
				}
				slices.Sort(who)
				if diff := cmp.Diff(row.want, who); diff != "" {
					t.Errorf("with %s: - want, + may decrypt\n%s", with, diff)
				}
			}
		})
	}
}

// TestJSON: programs get every action of every principal.
func TestJSON(t *testing.T) {
	var out bytes.Buffer
	if err := explain.WriteJSON(&out, []*explain.Matrix{matrix(t, estatetest.Golden(t, "default"), "SecretsKeyE4821A66")}); err != nil {
		t.Fatal(err)
	}
	var read struct {
		Keys []struct {
			Principals []struct{ ARN string }
			Rows       []struct {
				Action string
				Cells  []struct {
					Principal, Answer string
					By                []string
				}
			}
		}
	}
	if err := json.Unmarshal(out.Bytes(), &read); err != nil {
		t.Fatal(err)
	}
	if len(read.Keys) != 1 || len(read.Keys[0].Rows) != len(iampolicy.KMSActions) {
		t.Fatalf("%d keys", len(read.Keys))
	}
	for _, row := range read.Keys[0].Rows {
		if len(row.Cells) != len(read.Keys[0].Principals) {
			t.Errorf("%s has %d cells", row.Action, len(row.Cells))
		}
		for _, c := range row.Cells {
			if (c.Answer == "no") != (len(c.By) == 0) {
				t.Errorf("%s for %s: %s by %q", row.Action, c.Principal, c.Answer, c.By)
			}
		}
	}
}

func TestFromAssemblyRefuses(t *testing.T) {
	if _, err := explain.FromEstate(estatetest.Estate(t, estatetest.Golden(t, "default")), "Nothing"); err == nil || !strings.Contains(err.Error(), `"Nothing"`) || !strings.Contains(err.Error(), "ekskms-ekskms/SecretsKey") {
		t.Errorf("%v", err)
	}
	if _, err := explain.FromEstate(estatetest.Estate(t, map[string]any{"Resources": map[string]any{"A": map[string]any{"Type": "AWS::SNS::Topic"}}}), ""); err == nil || !strings.Contains(err.Error(), "no KMS key") {
		t.Errorf("%v", err)
	}
	template := estatetest.Golden(t, "default")
	estatetest.Property("SecretsKeyE4821A66", "KeyPolicy.Statement.0.Condition", map[string]any{"StringSounds": map[string]any{"a:b": "c"}})(template)
	inputs, err := explain.FromEstate(estatetest.Estate(t, template), "")
	if err == nil {
		_, err = explain.Explain(inputs[0])
	}
	if err == nil || !strings.Contains(err.Error(), "StringSounds") {
		t.Errorf("%v", err)
	}
}

// BenchmarkExplain is one matrix of the largest example, beside reading its
// template as plain JSON.
func BenchmarkExplain(b *testing.B) {
	data, err := os.ReadFile("../../test/snapshot/testdata/04_tenants_and_secrets.golden.json")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("unmarshal", func(b *testing.B) {
		for b.Loop() {
			var v any
			if err := json.Unmarshal(data, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("explain", func(b *testing.B) {
		for b.Loop() {
			a, err := cfn.Parse("t.json", data, cfn.Environment{Account: "111122223333", Region: "eu-central-1"})
			if err != nil {
				b.Fatal(err)
			}
			inputs, err := explain.FromEstate(estate.FromTemplates(a), "")
			if err != nil {
				b.Fatal(err)
			}
			for _, in := range inputs {
				if _, err := explain.Explain(in); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// TestGroups: users have the policies of their groups, and NotPrincipal lets through
// whom it names.
func TestGroups(t *testing.T) {
	statement := func(effect, element string, principal any, action string) map[string]any {
		return map[string]any{"Effect": effect, element: map[string]any{"AWS": principal}, "Action": action, "Resource": "*"}
	}
	root := "arn:aws:iam::111122223333:root"
	get := func(id string) any { return map[string]any{"Fn::GetAtt": []any{id, "Arn"}} }
	ref := func(id string) any { return map[string]any{"Ref": id} }
	resource := func(kind string, properties map[string]any) map[string]any {
		return map[string]any{"Type": kind, "Properties": properties}
	}
	m := matrix(t, map[string]any{"Resources": map[string]any{
		"Key": resource("AWS::KMS::Key", map[string]any{"KeyPolicy": map[string]any{"Version": "2012-10-17", "Statement": []any{
			statement("Allow", "Principal", root, "kms:*"),
			statement("Deny", "NotPrincipal", []any{get("One"), root}, "kms:Encrypt"),
		}}}),
		"Group": resource("AWS::IAM::Group", map[string]any{}),
		"Policy": resource("AWS::IAM::Policy", map[string]any{"PolicyName": "p", "Groups": []any{ref("Group")}, "PolicyDocument": map[string]any{
			"Version": "2012-10-17", "Statement": []any{map[string]any{"Effect": "Allow", "Action": "kms:*crypt", "Resource": "*"}},
		}}),
		"One":   resource("AWS::IAM::User", map[string]any{"Groups": []any{ref("Group")}}),
		"Two":   resource("AWS::IAM::User", map[string]any{}),
		"Three": resource("AWS::IAM::User", map[string]any{}),
		"Add":   resource("AWS::IAM::UserToGroupAddition", map[string]any{"GroupName": ref("Group"), "Users": []any{ref("Two")}}),
	}}, "")
	if diff := cmp.Diff([]string{"One", "Two", "anybody", "root"}, may(m, "kms:Decrypt")); diff != "" {
		t.Errorf("- want, + may decrypt\n%s", diff)
	}
	if diff := cmp.Diff([]string{"One", "root"}, may(m, "kms:Encrypt")); diff != "" {
		t.Errorf("- want, + may encrypt\n%s", diff)
	}
}
