package synth

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/constructs/ekskms"
	"github.com/ekskms/ekskms/internal/config"
)

// TestContextIsThatOfTheCLI: the CDK CLI reads cdk.json, this package its own
// copy, since neither can read the other's.
func TestContextIsThatOfTheCLI(t *testing.T) {
	data, err := os.ReadFile("../../cdk.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Context map[string]any `json:"context"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(file.Context, Context()) {
		t.Error("the context of cdk.json is not that of internal/synth/context.json: make them the same")
	}
	if Context()["@aws-cdk/core:validateAgainstDefaultRules"] != true {
		t.Error("findings of CDK's validator would be warnings")
	}
}

// TestLogRetention: every number that config allows has a name in CDK.
func TestLogRetention(t *testing.T) {
	var schema any
	if err := json.Unmarshal(config.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	values := enumOf(schema, "controlPlaneLogRetentionDays")
	if len(values) < 20 {
		t.Fatalf("found %d values in the schema", len(values))
	}
	for _, v := range values {
		if logRetention(int(v.(float64))) == "" {
			t.Errorf("%v days have no name in CDK", v)
		}
	}
}

func enumOf(schema any, property string) []any {
	m, ok := schema.(map[string]any)
	if !ok {
		return nil
	}
	if properties, ok := m["properties"].(map[string]any); ok {
		if p, ok := properties[property].(map[string]any); ok {
			values, _ := p["enum"].([]any)
			return values
		}
	}
	for _, e := range m {
		if values := enumOf(e, property); values != nil {
			return values
		}
	}
	return nil
}

func TestRecover(t *testing.T) {
	prop := &ekskms.PropError{Type: "SecretsKey", Prop: "RotationPeriod", Reason: "is 30 days, must be 90 to 2560"}
	var got *ekskms.PropError
	if err := Recover(func() error { panic(prop) }); !errors.As(err, &got) || got != prop {
		t.Errorf("a prop error becomes %v", err)
	}
	err := Recover(func() error { panic("Error: no such thing\n    at Object.<anonymous> (/x.js:1:2)\n    at y") })
	if err == nil || err.Error() != "Error: no such thing" {
		t.Errorf("a message of jsii becomes %v", err)
	}
	if err := Recover(func() error { return nil }); err != nil {
		t.Errorf("nothing becomes %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a fault of the program was taken for an error of the user")
		}
	}()
	_ = Recover(func() error {
		var key *ekskms.SecretsKey
		_ = key.CreatorArns()
		return nil
	})
}

func TestStackName(t *testing.T) {
	if got := StackName("team-prod"); got != "ekskms-team-prod" {
		t.Errorf("the stack is named %s", got)
	}
	a, b := StackName("team_a-prod"), StackName("team-a_prod")
	if strings.Contains(a, "_") || strings.Contains(b, "_") {
		t.Errorf("the stacks are named %s and %s, which CloudFormation refuses", a, b)
	}
	if a == b || a == StackName("team-a-prod") {
		t.Errorf("two clusters have one stack, %s", a)
	}
}
