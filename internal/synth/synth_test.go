package synth

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"

	"github.com/ekskms/ekskms/constructs/ekskms"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/place"
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
		if got, want := place.LogRetention(int(v.(float64))), retentionDays[int(v.(float64))]; got == "" || got != string(want) {
			t.Errorf("%v days are %q, and %q in CDK", v, got, want)
		}
	}
}

var retentionDays = map[int]awslogs.RetentionDays{
	1:    awslogs.RetentionDays_ONE_DAY,
	3:    awslogs.RetentionDays_THREE_DAYS,
	5:    awslogs.RetentionDays_FIVE_DAYS,
	7:    awslogs.RetentionDays_ONE_WEEK,
	14:   awslogs.RetentionDays_TWO_WEEKS,
	30:   awslogs.RetentionDays_ONE_MONTH,
	60:   awslogs.RetentionDays_TWO_MONTHS,
	90:   awslogs.RetentionDays_THREE_MONTHS,
	120:  awslogs.RetentionDays_FOUR_MONTHS,
	150:  awslogs.RetentionDays_FIVE_MONTHS,
	180:  awslogs.RetentionDays_SIX_MONTHS,
	365:  awslogs.RetentionDays_ONE_YEAR,
	400:  awslogs.RetentionDays_THIRTEEN_MONTHS,
	545:  awslogs.RetentionDays_EIGHTEEN_MONTHS,
	731:  awslogs.RetentionDays_TWO_YEARS,
	1096: awslogs.RetentionDays_THREE_YEARS,
	1827: awslogs.RetentionDays_FIVE_YEARS,
	2192: awslogs.RetentionDays_SIX_YEARS,
	2557: awslogs.RetentionDays_SEVEN_YEARS,
	2922: awslogs.RetentionDays_EIGHT_YEARS,
	3288: awslogs.RetentionDays_NINE_YEARS,
	3653: awslogs.RetentionDays_TEN_YEARS,
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
