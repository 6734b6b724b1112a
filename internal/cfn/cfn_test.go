package cfn

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/value"
)

// property resolves one property of a resource in a template of little else.
func property(t *testing.T, value string, more string) any {
	t.Helper()
	a, err := Parse("t.json", []byte(`{`+more+`"Resources":{
		"Role":{"Type":"AWS::IAM::Role","Properties":{"Path":"/team/"}},
		"Named":{"Type":"AWS::IAM::Role","Properties":{"RoleName":"admin"}},
		"Key":{"Type":"AWS::KMS::Key"},
		"Topic":{"Type":"AWS::SNS::Topic"},
		"X":{"Type":"T","Properties":{"P":`+value+`}}}}`), Environment{})
	if err != nil {
		t.Fatal(err)
	}
	return a.Templates[0].Resources["X"].Properties["P"]
}

// Source of every row: AWS CloudFormation Template Reference, "Intrinsic function
// reference", the page of the function, and "Pseudo parameters reference".
func TestIntrinsics(t *testing.T) {
	const more = `"Parameters":{"Given":{"Type":"String","Default":"d"},"List":{"Type":"CommaDelimitedList","Default":"a, b"},
		"None":{"Type":"String"},"Image":{"Type":"AWS::SSM::Parameter::Value<String>","Default":"/name"}},
		"Mappings":{"M":{"us-east-1":{"v":"mapped"}}},
		"Conditions":{"Yes":{"Fn::Equals":[{"Ref":"Given"},"d"]},"No":{"Fn::Not":[{"Condition":"Yes"}]},"Who":{"Fn::Equals":[{"Ref":"None"},"x"]},
		"Both":{"Fn::And":[{"Condition":"Who"},{"Condition":"No"}]},"Either":{"Fn::Or":[{"Condition":"Who"},{"Condition":"Yes"}]},
		"Circle":{"Condition":"Circle"}},`
	for _, tc := range []struct {
		name, in string
		want     any
	}{
		{"account", `{"Ref":"AWS::AccountId"}`, ExampleAccount},
		{"role by Ref", `{"Ref":"Role"}`, "Role"},
		{"role by ARN, with its path", `{"Fn::GetAtt":["Role","Arn"]}`, "arn:aws:iam::123456789012:role/team/Role"},
		{"role with a name", `{"Fn::GetAtt":"Named.Arn"}`, "arn:aws:iam::123456789012:role/admin"},
		{"key", `{"Fn::GetAtt":["Key","Arn"]}`, "arn:aws:kms:us-east-1:123456789012:key/Key"},
		{"topic by Ref is its ARN", `{"Ref":"Topic"}`, "arn:aws:sns:us-east-1:123456789012:Topic"},
		{"what the service makes up", `{"Fn::GetAtt":["X","Whatever"]}`, value.Unknown{Expression: "X.Whatever"}},
		{"join", `{"Fn::Join":["-",["a",{"Ref":"Given"},{"Ref":"AWS::Region"}]]}`, "a-d-us-east-1"},
		{"join with what is not known", `{"Fn::Join":["",["a",{"Ref":"None"}]]}`, "a${None}"},
		{"sub", `{"Fn::Sub":"${AWS::Partition}/${Key.Arn}/${Given}/${!aws:username}"}`, "aws/arn:aws:kms:us-east-1:123456789012:key/Key/d/${aws:username}"},
		{"sub with its own", `{"Fn::Sub":["${a}",{"a":{"Ref":"Given"}}]}`, "d"},
		{"select", `{"Fn::Select":["1",{"Ref":"List"}]}`, "b"},
		{"split", `{"Fn::Split":["/","a/b"]}`, []any{"a", "b"}},
		{"map", `{"Fn::FindInMap":["M",{"Ref":"AWS::Region"},"v"]}`, "mapped"},
		{"condition that holds", `{"Fn::If":["Yes","a","b"]}`, "a"},
		{"condition that does not", `{"Fn::If":["No","a","b"]}`, "b"},
		{"condition that nobody knows", `{"Fn::If":["Who","a","b"]}`, value.Unknown{Expression: "Fn::If Who", If: &value.Choice{Condition: "Who", Then: "a", Else: "b"}}},
		{"and with one that is false", `{"Fn::If":["Both","a","b"]}`, "b"},
		{"or with one that is true", `{"Fn::If":["Either","a","b"]}`, "a"},
		{"condition in a circle", `{"Fn::If":["Circle","a","b"]}`, value.Unknown{Expression: "Fn::If Circle", If: &value.Choice{Condition: "Circle", Then: "a", Else: "b"}}},
		{"parameter without a value", `{"Ref":"None"}`, value.Unknown{Expression: "None"}},
		{"parameter whose default is a name", `{"Ref":"Image"}`, value.Unknown{Expression: "Image"}},
		{"no value", `[1,{"Ref":"AWS::NoValue"}]`, []any{1.0}},
		{"import from elsewhere", `{"Fn::ImportValue":"x"}`, value.Unknown{Expression: "Fn::ImportValue x"}},
		{"base64", `{"Fn::Base64":"a"}`, "YQ=="},
		{"length", `{"Fn::Length":{"Ref":"List"}}`, 2.0},
		{"to JSON", `{"Fn::ToJsonString":{"a":{"Ref":"Given"}}}`, `{"a":"d"}`},
		{"resource that is not there", `{"Fn::GetAtt":["Gone","Arn"]}`, value.Unknown{Expression: "Gone.Arn"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := property(t, tc.in, more); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %#v, want %#v", got, tc.want)
			}
		})
	}
}

const yamlTemplate = `Parameters:
  Name: {Type: String, Default: demo}
Conditions:
  Never: !Equals [a, b]
Resources:
  Key:
    Type: AWS::KMS::Key
    DeletionPolicy: Retain
    Properties:
      EnableKeyRotation: true
      KeyPolicy:
        Version: 2012-10-17
        Statement:
          - Effect: Allow
            Principal: {AWS: !Sub "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}
            Action: kms:*
            Resource: "*"
  Alias:
    Type: AWS::KMS::Alias
    Properties: {AliasName: !Join [/, [alias, !Ref Name]], TargetKeyId: !GetAtt Key.Arn}
  Gone:
    Type: AWS::SNS::Topic
    Condition: Never
`

const jsonTemplate = `{"Parameters":{"Name":{"Type":"String","Default":"demo"}},"Conditions":{"Never":{"Fn::Equals":["a","b"]}},"Resources":{
 "Key":{"Type":"AWS::KMS::Key","DeletionPolicy":"Retain","Properties":{"EnableKeyRotation":true,"KeyPolicy":{"Version":"2012-10-17","Statement":[
  {"Effect":"Allow","Principal":{"AWS":{"Fn::Sub":"arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}},"Action":"kms:*","Resource":"*"}]}}},
 "Alias":{"Type":"AWS::KMS::Alias","Properties":{"AliasName":{"Fn::Join":["/",["alias",{"Ref":"Name"}]]},"TargetKeyId":{"Fn::GetAtt":["Key","Arn"]}}},
 "Gone":{"Type":"AWS::SNS::Topic","Condition":"Never"}}}`

func TestYAMLIsJSON(t *testing.T) {
	fromYAML, err := Parse("t", []byte(yamlTemplate), Environment{})
	if err != nil {
		t.Fatal(err)
	}
	fromJSON, err := Parse("t", []byte(jsonTemplate), Environment{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []*Assembly{fromYAML, fromJSON} {
		key := a.Lookup("alias/demo")
		if key == nil || key.ID != "Key" || a.Lookup("arn:aws:kms:us-east-1:123456789012:alias/demo") != key || a.Lookup("Key") != key {
			t.Errorf("the key is not found by its names: %v", key)
		}
		if len(a.Templates[0].Resources) != 2 {
			t.Error("a resource whose condition is false is there")
		}
	}
	for id, r := range fromYAML.Templates[0].Resources {
		other := fromJSON.Templates[0].Resources[id]
		if !reflect.DeepEqual(r.Properties, other.Properties) || r.DeletionPolicy != other.DeletionPolicy {
			t.Errorf("%s: YAML gives %v, JSON %v", id, r.Properties, other.Properties)
		}
	}
	if y, j := fromYAML.Lookup("Key").Line, fromJSON.Lookup("Key").Line; y != 6 || j != 2 {
		t.Errorf("the key is in lines %d of YAML and %d of JSON, want 6 and 2", y, j)
	}
}

func TestParseRefuses(t *testing.T) {
	deep := strings.Repeat(`[`, 300) + strings.Repeat(`]`, 300)
	for _, tc := range []struct{ name, in, want string }{
		{"empty", "", "no object"},
		{"no resources", `{"Foo":{}}`, "no Resources"},
		{"manifest of Kubernetes", "apiVersion: v1\nkind: Secret\n", "no Resources"},
		{"Terraform", "resource \"aws_kms_key\" \"k\" {\n}\n", "no object"},
		{"cut off", `{"Resources":{`, "not valid JSON"},
		{"text after the end", `{"Resources":{"A":{"Type":"T"}}} x`, "after the end"},
		{"resource without a type", `{"Resources":{"A":{}}}`, "Resources.A has no Type"},
		{"loop", `{"Resources":{"Fn::ForEach::X":[]}}`, "expand it first"},
		{"alias of YAML", "Resources: {A: &a {Type: T}, B: *a}", "alias"},
		{"too deep", `{"Resources":{"A":{"Type":"T","Properties":{"P":` + deep + `}}}}`, "deep"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse("t", []byte(tc.in), Environment{})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
	if _, err := Load(t.TempDir(), Environment{}); err == nil || !strings.Contains(err.Error(), "synth' first") {
		t.Errorf("a folder that is no assembly: %v", err)
	}
}

// TestAssembly reads two stacks, of which one is in a stage and imports from the
// other, and a nested stack, whose parameter and output go through its parent.
func TestAssembly(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("manifest.json", `{"artifacts":{"A":{"type":"aws:cloudformation:stack","environment":"aws://111122223333/cn-north-1","properties":{"templateFile":"A.json"}},
		"S":{"type":"cdk:cloud-assembly","properties":{"directoryName":"assembly-S"}}}}`)
	write("A.json", `{"Resources":{"Key":{"Type":"AWS::KMS::Key"},
		"Nest":{"Type":"AWS::CloudFormation::Stack","Metadata":{"aws:asset:path":"N.json"},"Properties":{"Parameters":{"P":{"Fn::GetAtt":["Key","Arn"]}}}},
		"U":{"Type":"T","Properties":{"P":{"Fn::GetAtt":["Nest","Outputs.O"]}}}},
		"Outputs":{"K":{"Value":{"Fn::GetAtt":["Key","Arn"]},"Export":{"Name":{"Fn::Join":["",["key-",{"Ref":"AWS::Region"}]]}}}}}`)
	write("N.json", `{"Parameters":{"P":{"Type":"String"}},"Resources":{"Key":{"Type":"AWS::KMS::Key"}},"Outputs":{"O":{"Value":{"Ref":"P"}}}}`)
	write("assembly-S/manifest.json", `{"artifacts":{"B":{"type":"aws:cloudformation:stack","environment":"aws://unknown-account/unknown-region","properties":{"templateFile":"B.json"}}}}`)
	write("assembly-S/B.json", `{"Resources":{"Y":{"Type":"T","Properties":{"P":{"Fn::ImportValue":"key-cn-north-1"}}}}}`)
	a, err := Load(dir, Environment{})
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, template := range a.Templates {
		names = append(names, template.Name)
	}
	if !reflect.DeepEqual(names, []string{"A", "A/Nest", "B"}) {
		t.Fatalf("got the templates %v", names)
	}
	const key = "arn:aws-cn:kms:cn-north-1:111122223333:key/A-Key"
	for stack, id := range map[int]string{0: "U", 2: "Y"} {
		if got := a.Templates[stack].Resources[id].Properties["P"]; got != key {
			t.Errorf("%s: got %v, want %s", id, got, key)
		}
	}
	if a.Lookup(key) != a.Templates[0].Resources["Key"] {
		t.Error("two keys with one logical ID are taken for each other")
	}
	if a.Templates[0].Assumed || !a.Templates[2].Assumed {
		t.Error("Assumed does not say whose environment is made up")
	}
}

// TestExportsOfPlaces: stacks of several accounts and Regions may export under one name,
// and each imports that of its own.
func TestExportsOfPlaces(t *testing.T) {
	dir := t.TempDir()
	artifacts := map[string]any{}
	write := func(name, environment, text string) {
		artifacts[name] = map[string]any{"type": "aws:cloudformation:stack", "environment": "aws://" + environment, "properties": map[string]any{"templateFile": name + ".json"}}
		if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const (
		exports = `{"Resources":{"Key":{"Type":"AWS::KMS::Key"}},"Outputs":{"K":{"Value":{"Fn::GetAtt":["Key","Arn"]},"Export":{"Name":"key"}}}}`
		imports = `{"Resources":{"Y":{"Type":"T","Properties":{"P":{"Fn::ImportValue":"key"}}}}}`
	)
	for i, place := range []string{"111122223333/eu-central-1", "111122223333/us-east-1", "444455556666/us-east-1"} {
		write(fmt.Sprint("E", i), place, exports)
		write(fmt.Sprint("I", i), place, imports)
	}
	write("I8", "444455556666/eu-west-1", imports)
	write("I9", "unknown-account/unknown-region", imports)
	manifest, err := json.Marshal(map[string]any{"artifacts": artifacts})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := Load(dir, Environment{})
	if err != nil {
		t.Fatal(err)
	}
	unknown := value.Unknown{Expression: "Fn::ImportValue key"}
	want := map[string]any{
		"I0": "arn:aws:kms:eu-central-1:111122223333:key/E0-Key", "I1": "arn:aws:kms:us-east-1:111122223333:key/E1-Key",
		"I2": "arn:aws:kms:us-east-1:444455556666:key/E2-Key", "I8": unknown, "I9": unknown,
	}
	for _, template := range a.Templates {
		if r := template.Resources["Y"]; r != nil && !reflect.DeepEqual(r.Properties["P"], want[template.Name]) {
			t.Errorf("%s imports %v, want %v", template.Name, r.Properties["P"], want[template.Name])
		}
	}
}

// FuzzParse: whatever the file, an error or a template, in bounded time.
func FuzzParse(f *testing.F) {
	f.Add([]byte(yamlTemplate))
	f.Add([]byte(jsonTemplate))
	f.Add([]byte(`{"Resources":{"A":{"Type":"T","Properties":{"RoleName":{"Ref":"A"}}}}}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		if a, err := Parse("t", data, Environment{}); err == nil {
			for _, t := range a.Templates {
				_, _ = json.Marshal(t.Outputs)
			}
		}
	})
}

// TestTwice: of a name that is given twice the last one counts, and that is said.
func TestTwice(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		says []string
	}{
		"JSON": {`{"Resources":{
			"A":{"Type":"T","Properties":{"P":1,
			"P":2,"Text":"a \" : b"}},
			"B":{"Type":"T"},
			"B":{"Type":"U"}}}`, []string{`line 3: "P"`, `line 5: "B"`}},
		"YAML": {"Resources:\n  A:\n    Type: T\n    Properties:\n      P: 1\n      P: 2\n  B: {Type: T}\n  B: {Type: U}\n", []string{`line 6: "P"`, `line 8: "B"`}},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := Parse("t", []byte(c.text), Environment{})
			if err != nil {
				t.Fatal(err)
			}
			one := a.Templates[0]
			if got := one.Resources["A"].Properties["P"]; got != 2.0 {
				t.Errorf("P is %v", got)
			}
			if got := one.Resources["B"].Type; got != "U" {
				t.Errorf("B is a %s", got)
			}
			var want []string
			for _, s := range c.says {
				want = append(want, "t, "+s+" is given twice, of which CloudFormation takes the last")
			}
			if got := one.Caveats(); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestKnownKey: a key that says in its metadata which it is, is the one that others name by
// its ARN, and that is said. What is no ID of a key, or of something else, is nothing.
func TestKnownKey(t *testing.T) {
	const id = "1234abcd-12ab-34cd-56ef-1234567890ab"
	text := func(kind, id string) string {
		return `{"Resources":{"K":{"Type":"` + kind + `","Metadata":{"ekskms:keyId":"` + id + `"}},` +
			`"C":{"Type":"AWS::EKS::Cluster","Properties":{"Key":"arn:aws:kms:eu-central-1:111122223333:key/` + id + `","Own":{"Fn::GetAtt":["K","Arn"]}}}}}`
	}
	for _, c := range []struct {
		kind, id string
		known    bool
	}{{"AWS::KMS::Key", id, true}, {"AWS::KMS::Key", "K2", false}, {"AWS::KMS::ReplicaKey", id, false}} {
		a, err := Parse("t", []byte(text(c.kind, c.id)), Environment{Account: "111122223333", Region: "eu-central-1"})
		if err != nil {
			t.Fatal(err)
		}
		p := a.Templates[0].Resources["C"].Properties
		if same := p["Key"] == p["Own"]; same != c.known {
			t.Errorf("%v: the key is %v, and named %v", c, p["Own"], p["Key"])
		}
		want := 0
		if c.known {
			want = 1
		}
		if got := a.Templates[0].Caveats(); len(got) != want {
			t.Errorf("%v: caveats %q", c, got)
		}
	}
}
