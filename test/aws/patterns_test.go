//go:build aws

package aws

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"

	"github.com/ekskms/ekskms/internal/tamper"
)

// alarmOf is the one alarm that each sample of an event raises. What is not here raises none.
var alarmOf = map[string]string{
	"DisableKey": "KeyDisabled", "ScheduleKeyDeletion": "KeyDeletionScheduled", "PutKeyPolicy": "KeyPolicyChanged", "DisableKeyRotation": "RotationChanged",
	"EnableKeyRotation": "RotationChanged", "ReplicateKey": "KeyReplicated", "UpdatePrimaryRegion": "KeyReplicated", "CreateGrant": "UnexpectedGrant",
	"RevokeGrant": "GrantRemoved", "RetireGrant": "GrantRemoved", "CreateAlias": "AliasChanged", "UpdateAlias": "AliasChanged", "DeleteAlias": "AliasChanged",
	"StopLogging": "TrailTampered", "DeleteTrail": "TrailTampered", "UpdateTrail": "TrailTampered", "PutEventSelectors": "TrailBlinded",
}

// TestPatterns has the TestEventPattern of ministack judge the alarms on the key and the trail:
// each sample of an event raises the one that it should, and no other.
func TestPatterns(t *testing.T) {
	address := ministack.start(t)
	t.Setenv("AWS_ENDPOINT_URL", address)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_REGION", region)
	c, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client := eventbridge.NewFromConfig(c)
	const prefix = "arn:aws:kms:eu-central-1:111122223333:"
	rules := tamper.Rules(tamper.Input{
		ClusterName: "demo", KeyARN: prefix + "key/1234abcd-12ab-34cd-56ef-1234567890ab", AliasARN: prefix + "alias/eks/demo",
		TrailName: "ekskms-demo", TrailARN: "arn:aws:cloudtrail:eu-central-1:111122223333:trail/ekskms-demo",
	})
	files, err := filepath.Glob("../../internal/tamper/testdata/events/*.json")
	if err != nil || len(files) < 20 {
		t.Fatal(files, err)
	}
	raised := 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var detail map[string]any
		if err := json.Unmarshal(data, &detail); err != nil {
			t.Fatal(err)
		}
		source, _, _ := strings.Cut(detail["eventSource"].(string), ".")
		if source != "kms" && source != "cloudtrail" {
			continue
		}
		event, err := json.Marshal(map[string]any{
			"version": "0", "id": "2c26b46b-68ff-4bd1-a1a1-000000000000", "detail-type": "AWS API Call via CloudTrail", "source": "aws." + source,
			"account": "111122223333", "time": detail["eventTime"], "region": region, "resources": []any{}, "detail": detail,
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, rule := range rules {
			pattern, err := json.Marshal(rule.Pattern)
			if err != nil {
				t.Fatal(err)
			}
			p, e := string(pattern), string(event)
			out, err := client.TestEventPattern(t.Context(), &eventbridge.TestEventPatternInput{EventPattern: &p, Event: &e})
			if err != nil {
				t.Fatalf("%s: %v", rule.ID, err)
			}
			if out.Result {
				got = append(got, rule.ID)
			}
		}
		var want []string
		if id := alarmOf[name]; id != "" {
			want = []string{id}
			raised++
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s raises %v, want %v", name, got, want)
		}
	}
	if raised != len(alarmOf) {
		t.Errorf("%d of %d alarms were tried", raised, len(alarmOf))
	}
}
