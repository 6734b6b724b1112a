package tamper

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	keyARN      = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	otherKeyARN = "arn:aws:kms:eu-central-1:111122223333:key/0987dcba-09fe-87dc-65ba-ab0987654321"
	auditKeyARN = "arn:aws:kms:eu-central-1:111122223333:key/5555aaaa-12ab-34cd-56ef-1234567890ab"
	topicKeyARN = "arn:aws:kms:eu-central-1:111122223333:key/6666aaaa-12ab-34cd-56ef-1234567890ab"
	logsKeyARN  = "arn:aws:kms:eu-central-1:111122223333:key/7777aaaa-12ab-34cd-56ef-1234567890ab"
	topicARN    = "arn:aws:sns:eu-central-1:111122223333:ekskms-demo-alarms"
	aliasARN    = "arn:aws:kms:eu-central-1:111122223333:alias/eks/demo"
	trailARN    = "arn:aws:cloudtrail:eu-central-1:111122223333:trail/ekskms-demo"
)

func input() Input {
	return Input{
		ClusterName: "demo", KeyARN: keyARN, AliasARN: aliasARN, TrailName: "ekskms-demo", TrailARN: trailARN,
		BucketName: "demo-logs", LogGroups: []string{"/aws/eks/demo/cluster", "/aws/events/ekskms/demo/alarms"},
		AuditKeyARNs: []string{auditKeyARN, topicKeyARN}, LogsKeyARN: logsKeyARN,
		TopicARNs: []string{topicARN, topicARN + "-lost"}, MetricAlarm: "ekskms-demo-undelivered",
		RulePrefix: "ekskms-demo-", HandlerNames: []string{"ekskms-demo-kubectl", "ekskms-demo-kubectl-framework"},
	}
}

// event reads a sample record of CloudTrail and puts it into the envelope of
// EventBridge. The records have the shapes of the AWS KMS Developer Guide,
// "Examples of AWS KMS log entries", and of the AWS CloudTrail User Guide, with
// values of their own.
func event(t *testing.T, name string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "events", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	detail := object(t, data)
	source, _, _ := strings.Cut(detail["eventSource"].(string), ".")
	return map[string]any{
		"version": "0", "id": "2c26b46b-68ff-4bd1-a1a1-000000000000", "detail-type": "AWS API Call via CloudTrail",
		"source": "aws." + source, "account": "111122223333", "time": detail["eventTime"], "region": "eu-central-1",
		"resources": []any{}, "detail": detail,
	}
}

// identity reads one of the kinds of caller in the AWS CloudTrail User Guide,
// "CloudTrail userIdentity element".
func identity(t *testing.T, name string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "identities.json"))
	if err != nil {
		t.Fatal(err)
	}
	found, ok := object(t, data)[name].(map[string]any)
	if !ok {
		t.Fatalf("no identity %q", name)
	}
	return found
}

// A change makes another event of a sample.
type change func(t *testing.T, detail map[string]any)

func by(name string) change {
	return func(t *testing.T, detail map[string]any) { detail["userIdentity"] = identity(t, name) }
}

func about(arns ...string) change {
	return func(_ *testing.T, detail map[string]any) {
		var resources []any
		for _, arn := range arns {
			resources = append(resources, map[string]any{"accountId": "111122223333", "type": "AWS::KMS::Key", "ARN": arn})
		}
		detail["resources"] = resources
	}
}

func asking(parameter string, value any) change {
	return func(t *testing.T, detail map[string]any) {
		parameters := detail["requestParameters"].(map[string]any)
		if _, there := parameters[parameter]; !there {
			t.Fatalf("the sample has no parameter %s", parameter)
		}
		parameters[parameter] = value
	}
}

// refused is the answer to a call without permission.
func refused(_ *testing.T, detail map[string]any) {
	detail["errorCode"], detail["errorMessage"], detail["responseElements"] = "AccessDenied", "not authorized", nil
}

// raised are the alarms that an event raises, matched as EventBridge does it:
// from the pattern in JSON.
func raised(t *testing.T, rules []Rule, e map[string]any) []string {
	t.Helper()
	var ids []string
	for _, r := range rules {
		data, err := json.Marshal(r.Pattern)
		if err != nil {
			t.Fatal(err)
		}
		ok, err := matches(object(t, data), e)
		if err != nil {
			t.Fatalf("%s: %v", r.ID, err)
		}
		if ok {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func TestAlarms(t *testing.T) {
	for _, tc := range []struct {
		name    string
		event   string
		changes []change
		want    string // empty for no alarm
	}{
		// Each watched call raises its alarm and no other.
		{"key disabled", "DisableKey", nil, "KeyDisabled"},
		{"key deleted", "ScheduleKeyDeletion", nil, "KeyDeletionScheduled"},
		{"policy changed", "PutKeyPolicy", nil, "KeyPolicyChanged"},
		{"rotation off", "DisableKeyRotation", nil, "RotationChanged"},
		{"rotation every seven years", "EnableKeyRotation", nil, "RotationChanged"},
		{"key copied to another Region", "ReplicateKey", nil, "KeyReplicated"},
		{"primary moved to another Region", "UpdatePrimaryRegion", nil, "KeyReplicated"},
		{"grant", "CreateGrant", nil, "UnexpectedGrant"},
		{"grant revoked", "RevokeGrant", nil, "GrantRemoved"},
		{"grant retired, with no parameters in the record", "RetireGrant", nil, "GrantRemoved"},
		{"another alias for the key", "CreateAlias", nil, "AliasChanged"},
		{"alias moved away: the record names the new key", "UpdateAlias", nil, "AliasChanged"},
		{"another alias moved to the key", "UpdateAlias", []change{about(aliasARN+"2", keyARN)}, "AliasChanged"},
		{"alias deleted", "DeleteAlias", nil, "AliasChanged"},
		{"trail stopped, by ARN", "StopLogging", nil, "TrailTampered"},
		{"trail stopped, by name", "StopLogging", []change{asking("name", "ekskms-demo")}, "TrailTampered"},
		{"trail deleted", "DeleteTrail", nil, "TrailTampered"},
		{"trail changed, by name", "UpdateTrail", nil, "TrailTampered"},
		{"trail changed, by ARN", "UpdateTrail", []change{asking("name", trailARN)}, "TrailTampered"},
		{"trail blinded, by name", "PutEventSelectors", nil, "TrailBlinded"},
		{"trail blinded, by ARN", "PutEventSelectors", []change{asking("trailName", trailARN)}, "TrailBlinded"},
		{"audit key disabled", "DisableKey", []change{about(auditKeyARN)}, "AuditKeyTampered"},
		{"audit key deleted", "ScheduleKeyDeletion", []change{about(auditKeyARN)}, "AuditKeyTampered"},
		{"audit key's policy changed", "PutKeyPolicy", []change{about(auditKeyARN)}, "AuditKeyTampered"},
		{"grant on the audit key", "CreateGrant", []change{about(auditKeyARN)}, "AuditKeyTampered"},
		{"topic's key disabled", "DisableKey", []change{about(topicKeyARN)}, "AuditKeyTampered"},
		{"logs key disabled", "DisableKey", []change{about(logsKeyARN)}, "LogsKeyTampered"},
		{"logs key deleted", "ScheduleKeyDeletion", []change{about(logsKeyARN)}, "LogsKeyTampered"},
		{"logs key's policy changed", "PutKeyPolicy", []change{about(logsKeyARN)}, "LogsKeyTampered"},
		{"grant on the logs key", "CreateGrant", []change{about(logsKeyARN)}, "LogsKeyTampered"},

		// An attempt is worth an alarm too, and so is a deployment.
		{"refused attempt", "ScheduleKeyDeletion", []change{refused, by("other role")}, "KeyDeletionScheduled"},
		{"policy changed by a deployment", "PutKeyPolicy", []change{by("creator through CloudFormation")}, "KeyPolicyChanged"},
		{"key disabled by root", "DisableKey", []change{by("root")}, "KeyDisabled"},

		// Who makes a grant.
		{"grant by a user in the console", "CreateGrant", []change{by("user in the console")}, "UnexpectedGrant"},
		{"grant by a user through EC2", "CreateGrant", []change{by("user through EC2")}, "UnexpectedGrant"},
		{"grant by root", "CreateGrant", []change{by("root")}, "UnexpectedGrant"},
		{"grant by another role", "CreateGrant", []change{by("other role")}, "UnexpectedGrant"},
		{"grant by a role with a creator's name and another path", "CreateGrant", []change{by("other role named like a creator")}, "UnexpectedGrant"},
		{"grant by another account", "CreateGrant", []change{by("other account")}, "UnexpectedGrant"},
		{"grant by a service", "CreateGrant", []change{by("service")}, "UnexpectedGrant"},
		{"grant by a creator, by hand", "CreateGrant", []change{by("creator")}, "UnexpectedGrant"},
		{"grant by a creator in a deployment", "CreateGrant", []change{by("creator through CloudFormation")}, "UnexpectedGrant"},
		{"grant by the second creator", "CreateGrant", []change{by("second creator")}, "UnexpectedGrant"},
		{"grant by a creator through EKS", "CreateGrant", []change{by("creator through EKS")}, ""},
		{"grant by a user through EKS", "CreateGrant", []change{by("user through EKS")}, ""},
		{"grant by another role through EKS", "CreateGrant", []change{by("other role through EKS")}, ""},
		{"grant by EKS", "CreateGrant", []change{by("EKS")}, ""},

		// Other keys, other trails.
		{"another key disabled", "DisableKey", []change{about(otherKeyARN)}, ""},
		{"another key deleted", "ScheduleKeyDeletion", []change{about(otherKeyARN)}, ""},
		{"another key's policy", "PutKeyPolicy", []change{about(otherKeyARN)}, ""},
		{"another key's rotation", "DisableKeyRotation", []change{about(otherKeyARN)}, ""},
		{"another key's period", "EnableKeyRotation", []change{about(otherKeyARN)}, ""},
		{"another key copied", "ReplicateKey", []change{about(otherKeyARN)}, ""},
		{"another key's primary", "UpdatePrimaryRegion", []change{about(otherKeyARN)}, ""},
		{"another key's grant", "CreateGrant", []change{about(otherKeyARN)}, ""},
		{"another key's grant revoked", "RevokeGrant", []change{about(otherKeyARN)}, ""},
		{"another key's grant retired", "RetireGrant", []change{about(otherKeyARN)}, ""},
		{"another key's alias", "CreateAlias", []change{about(otherKeyARN, aliasARN+"2")}, ""},
		{"another key's alias moved", "UpdateAlias", []change{about(aliasARN+"2", otherKeyARN)}, ""},
		{"another key's alias deleted", "DeleteAlias", []change{about(aliasARN+"2", otherKeyARN)}, ""},
		{"audit key's rotation", "DisableKeyRotation", []change{about(auditKeyARN)}, ""},
		{"another trail stopped", "StopLogging", []change{asking("name", "other")}, ""},
		{"another trail stopped, by ARN", "StopLogging", []change{asking("name", trailARN+"-2")}, ""},
		{"another trail deleted", "DeleteTrail", []change{asking("name", "other")}, ""},
		{"another trail changed", "UpdateTrail", []change{asking("name", "ekskms-demo-2")}, ""},
		{"another trail blinded", "PutEventSelectors", []change{asking("trailName", "other")}, ""},

		// Everyday use.
		{"encryption", "Encrypt", nil, ""},
		{"decryption", "Decrypt", nil, ""},
		{"data key", "GenerateDataKey", nil, ""},
		{"description", "DescribeKey", nil, ""},
		{"key enabled", "EnableKey", nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := event(t, tc.event)
			for _, c := range tc.changes {
				c(t, e["detail"].(map[string]any))
			}
			if got := strings.Join(raised(t, Rules(input()), e), " "); got != tc.want {
				t.Errorf("raises %q, want %q", got, tc.want)
			}
		})
	}
}

// TestRoleRules: each call on a role raises its alarm, in whatever rule its name is, and no
// call on another does. No pattern is too long.
func TestRoleRules(t *testing.T) {
	in := Input{ClusterName: "demo", RulePrefix: "ekskms-demo-", RolePrefixes: []string{"ekskms-demo-"}}
	for i := range 60 {
		in.RoleNames = append(in.RoleNames, fmt.Sprintf("role-%059d", i))
	}
	rules := RoleRules(in)
	if len(rules) != 4 || rules[0].Name != "ekskms-demo-RolesChanged" || rules[3].ID != "RolesChanged4" {
		t.Errorf("%d rules", len(rules))
	}
	for _, r := range rules {
		if data, err := json.Marshal(r.Pattern); err != nil || len(data) > MaxPattern {
			t.Errorf("%s has %d characters: %v", r.ID, len(data), err)
		}
	}
	for _, name := range roleEvents {
		for role, want := range map[string]int{in.RoleNames[0]: 1, in.RoleNames[59]: 1, "ekskms-demo-PluginRole-1": 1, "ekskms-demo2-Role": 0, "role": 0, "my-ekskms-demo-x": 0} {
			e := call(t, "iam", name, map[string]any{"roleName": role})
			if got := raised(t, rules, e); len(got) != want {
				t.Errorf("%s of %s raises %v", name, role, got)
			}
			refused(t, e["detail"].(map[string]any))
			if got := raised(t, rules, e); len(got) != want {
				t.Errorf("refused: %s of %s raises %v", name, role, got)
			}
		}
	}
	if got := raised(t, rules, call(t, "iam", "GetRole", map[string]any{"roleName": in.RoleNames[0]})); got != nil {
		t.Errorf("a call that only reads raises %v", got)
	}
	if got := RoleRules(Input{ClusterName: "demo"}); got != nil {
		t.Errorf("nothing to watch: %v", got)
	}
}

// The security model names each alarm with all of its events, in full: an auditor searches
// the trail for them.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile("../../docs/reference/alarms.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if cells := strings.Split(line, "|"); len(cells) == 6 {
			id := strings.Trim(strings.Split(cells[1], ",")[0], " `")
			if cells[2] = strings.TrimSpace(cells[2]); cells[2] == "the same" {
				cells[2] = rows["AuditKeyTampered"] // the row before it
			}
			rows[id] = cells[2]
		}
	}
	roles := RoleRules(Input{ClusterName: "demo", RoleNames: []string{"a"}})
	for _, r := range append(Rules(input()), roles...) {
		var events []string
		for _, name := range r.Pattern["detail"].(map[string]any)["eventName"].([]string) {
			events = append(events, "`"+name+"`")
		}
		if want := strings.Join(events, ", "); rows[r.ID] != want {
			t.Errorf("docs/reference/alarms.md has for %s\n%s\nwant\n%s", r.ID, rows[r.ID], want)
		}
	}
}

// The same call through another door is another event: EventBridge's native
// ones, and those of services that only look alike.
func TestAlarmsWantCloudTrail(t *testing.T) {
	for field, value := range map[string]any{"detail-type": "KMS CMK Deletion", "source": "com.example.kms"} {
		e := event(t, "DisableKey")
		e[field] = value
		if got := raised(t, Rules(input()), e); got != nil {
			t.Errorf("%s %v raises %v", field, value, got)
		}
	}
	e := event(t, "DisableKey")
	e["detail"].(map[string]any)["eventSource"] = "example.amazonaws.com"
	if got := raised(t, Rules(input()), e); got != nil {
		t.Errorf("another event source raises %v", got)
	}
}

// call is an event of a call that has no sample of its own, in the form of the others.
func call(t *testing.T, service, name string, parameters map[string]any) map[string]any {
	t.Helper()
	e := event(t, "StopLogging")
	e["source"] = "aws." + service
	detail := e["detail"].(map[string]any)
	detail["eventSource"], detail["eventName"], detail["requestParameters"] = service+".amazonaws.com", name, parameters
	return e
}

// TestCalls: each call that an alarm names raises it, in each way to name what it is about,
// also when it is refused, and none that is about something else.
func TestCalls(t *testing.T) {
	type parameters = map[string]any
	one := func(name string, values ...string) (all []parameters) {
		for _, v := range values {
			all = append(all, parameters{name: v})
		}
		return all
	}
	const function = "ekskms-demo-kubectl"
	functionARN := "arn:aws:lambda:eu-central-1:111122223333:function:" + function
	groupARN := "arn:aws:logs:eu-central-1:111122223333:log-group:/aws/eks/demo/cluster"
	sub := ":5be8f5b8-a4f1-4f6f-a9b4-111111111111"
	tried := map[string]bool{} // rule and event
	for _, c := range []struct {
		service string
		events  []string
		about   []parameters
		want    string
		near    []parameters // which raise nothing
	}{
		{"eks", accessEvents, append(one("name", "demo"), one("clusterName", "demo")...), "ClusterOpened", one("name", "demo-2", "Demo", "")},
		{"s3", recordEvents[:14], one("bucketName", "demo-logs"), "RecordWeakened", one("bucketName", "demo-logs-2", "other-demo-logs")},
		{
			"logs", []string{"DeleteLogGroup", "DeleteLogStream", "PutRetentionPolicy", "DeleteRetentionPolicy", "PutSubscriptionFilter"},
			one("logGroupName", "/aws/eks/demo/cluster", "/aws/events/ekskms/demo/alarms"), "RecordWeakened", one("logGroupName", "/aws/eks/demo-2/cluster", "/aws/eks/demo/cluster2"),
		},
		{
			"logs", []string{"AssociateKmsKey", "DisassociateKmsKey"},
			append(one("logGroupName", "/aws/eks/demo/cluster"), one("resourceIdentifier", groupARN)...), "RecordWeakened", one("resourceIdentifier", groupARN+"2", "arn:aws:logs:eu-central-1:111122223333:query-definition:*"),
		},
		{"events", []string{"DeleteRule", "DisableRule", "PutRule"}, one("name", "ekskms-demo-KeyDisabled", "ekskms-demo-WatcherTampered"), "AlarmsTampered", one("name", "ekskms-demo2-KeyDisabled", "my-ekskms-demo-KeyDisabled")},
		{"events", []string{"PutTargets", "RemoveTargets"}, one("rule", "ekskms-demo-KeyDisabled"), "AlarmsTampered", one("rule", "other")},
		{"events", []string{"DeleteRule", "DisableRule", "PutRule"}, one("name", "ekskms-demo-AlarmsTampered"), "AlarmsTampered WatcherTampered", nil},
		{"events", []string{"PutTargets", "RemoveTargets"}, one("rule", "ekskms-demo-AlarmsTampered"), "AlarmsTampered WatcherTampered", nil},
		{"sns", []string{"SetTopicAttributes", "DeleteTopic", "AddPermission", "RemovePermission", "Subscribe"}, one("topicArn", topicARN, topicARN+"-lost"), "AlarmsTampered", one("topicArn", topicARN+"-2")},
		{"sns", []string{"Unsubscribe", "SetSubscriptionAttributes"}, one("subscriptionArn", topicARN+sub, topicARN+"-lost"+sub), "AlarmsTampered", one("subscriptionArn", topicARN+"-2"+sub)},
		{"monitoring", []string{"PutMetricAlarm"}, one("alarmName", "ekskms-demo-undelivered"), "AlarmsTampered", one("alarmName", "other")},
		{"monitoring", []string{"DeleteAlarms", "DisableAlarmActions"}, []parameters{{"alarmNames": []any{"other", "ekskms-demo-undelivered"}}}, "AlarmsTampered", []parameters{{"alarmNames": []any{"other"}}}},
		{
			"lambda", handlerEvents,
			one("functionName", function, functionARN, "111122223333:function:"+function, function+"-framework", functionARN+"-framework"), "HandlerChanged",
			one("functionName", function+"-2", functionARN+"-2", "my-"+function),
		},
	} {
		for _, name := range c.events {
			for _, about := range c.about {
				for _, refusal := range []bool{false, true} {
					e := call(t, c.service, name, about)
					if refusal {
						refused(t, e["detail"].(map[string]any))
					}
					if got := strings.Join(raised(t, Rules(input()), e), " "); got != c.want {
						t.Errorf("%s %v, refused: %v: raises %q, want %q", name, about, refusal, got, c.want)
					}
				}
				for rule := range strings.SplitSeq(c.want, " ") {
					tried[rule+" "+name] = true
				}
				other := call(t, c.service+"x", name, about)
				if got := raised(t, Rules(input()), other); got != nil {
					t.Errorf("%s of another service raises %v", name, got)
				}
			}
			for _, about := range c.near {
				if got := raised(t, Rules(input()), call(t, c.service, name, about)); got != nil {
					t.Errorf("%s %v raises %v", name, about, got)
				}
			}
			if got := raised(t, Rules(input()), call(t, c.service, "Describe"+name, c.about[0])); got != nil {
				t.Errorf("a call that only reads raises %v", got)
			}
		}
	}
	in := input()
	in.KeyARN, in.LogsKeyARN, in.AuditKeyARNs, in.TrailName = keyARN, "", nil, ""
	for _, r := range Rules(in)[len(keySpecs(in)):] {
		for _, name := range r.Pattern["detail"].(map[string]any)["eventName"].([]string) {
			if !tried[r.ID+" "+name] {
				t.Errorf("%s is not tried with %s", r.ID, name)
			}
		}
	}
}

// Without the optional parts the rest is watched as before.
func TestOptionalParts(t *testing.T) {
	ids := func(change func(*Input)) (ids []string) {
		in := input()
		change(&in)
		for _, r := range Rules(in) {
			ids = append(ids, r.ID)
		}
		return ids
	}
	all := ids(func(*Input) {})
	for missing, change := range map[string]func(*Input){
		"AuditKeyTampered": func(in *Input) { in.AuditKeyARNs = nil },
		"LogsKeyTampered":  func(in *Input) { in.LogsKeyARN = "" },
		"RecordWeakened":   func(in *Input) { in.BucketName, in.LogGroups = "", nil },
		"HandlerChanged":   func(in *Input) { in.HandlerNames = nil },
		"":                 func(in *Input) { in.BucketName, in.AliasARN, in.TopicARNs, in.MetricAlarm = "", "", nil, "" },
	} {
		want := slices.DeleteFunc(slices.Clone(all), func(id string) bool { return id == missing })
		if got := ids(change); !slices.Equal(got, want) {
			t.Errorf("without what %s needs: %v", missing, got)
		}
	}
	// What is made with the cluster has alarms of its own.
	got := ids(func(in *Input) {
		*in = Input{ClusterName: "demo", LogsKeyARN: logsKeyARN, RulePrefix: in.RulePrefix, HandlerNames: in.HandlerNames}
	})
	if want := []string{"LogsKeyTampered", "HandlerChanged"}; !slices.Equal(got, want) {
		t.Errorf("of the cluster: %v", got)
	}
	in := input()
	in.AliasARN = ""
	if got := raised(t, Rules(in), event(t, "UpdateAlias")); got != nil { // the record names the new key
		t.Errorf("an alias that is not known, moved away, raises %v", got)
	}
}

// The IDs are the construct IDs of the rules: to change one replaces an alarm.
func TestIDs(t *testing.T) {
	want := []string{
		"KeyDisabled", "KeyDeletionScheduled", "KeyPolicyChanged", "RotationChanged", "KeyReplicated",
		"UnexpectedGrant", "GrantRemoved", "AliasChanged", "TrailTampered", "TrailBlinded",
		"ClusterOpened", "AuditKeyTampered", "LogsKeyTampered", "RecordWeakened", "AlarmsTampered", "WatcherTampered", "HandlerChanged",
	}
	var got []string
	for _, r := range Rules(input()) {
		got = append(got, r.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Every alarm has been raised by a sample, and every sample is a call of one.
func TestEverySampleIsUsed(t *testing.T) {
	source, err := os.ReadFile("tamper_test.go")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/events/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no samples", err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".json")
		if !strings.Contains(string(source), `"`+name+`"`) {
			t.Errorf("%s is not used", f)
		}
		if got := event(t, name)["detail"].(map[string]any)["eventName"]; got != name {
			t.Errorf("%s holds %v", f, got)
		}
	}
}

var placeholder = regexp.MustCompile(`<([^<>]*)>`)

func TestTemplates(t *testing.T) {
	paths := Paths()
	used := map[string]bool{}
	for _, r := range Rules(input()) {
		for line := range strings.SplitSeq(r.Template, "\n") {
			inner, ok := strings.CutPrefix(line, `"`)
			inner, ok2 := strings.CutSuffix(inner, `"`)
			if !ok || !ok2 || strings.ContainsAny(inner, `"\`) || inner == "" {
				t.Errorf("%s: a line must be within double quotes and hold none: %s", r.ID, line)
			}
			for _, m := range placeholder.FindAllStringSubmatch(inner, -1) {
				used[m[1]] = true
				if _, known := paths[m[1]]; !known {
					t.Errorf("%s: no path for <%s>", r.ID, m[1])
				}
			}
			// EventBridge has no way to write these two but as placeholders.
			if rest := placeholder.ReplaceAllString(inner, ""); strings.ContainsAny(rest, "<>") {
				t.Errorf("%s: lone angle bracket: %s", r.ID, line)
			}
		}
	}
	for name, path := range paths {
		if !used[name] {
			t.Errorf("no template uses <%s>", name)
		}
		if !regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`).MatchString(name) || !regexp.MustCompile(`^\$(\.[A-Za-z]+)+$`).MatchString(path) {
			t.Errorf("EventBridge takes no placeholder %s: %s", name, path)
		}
	}
}

// render fills a template in as EventBridge does it, a missing field with
// nothing.
func render(template string, e map[string]any) string {
	text := placeholder.ReplaceAllStringFunc(template, func(p string) string {
		node := []any{e}
		for field := range strings.SplitSeq(strings.TrimPrefix(Paths()[p[1:len(p)-1]], "$."), ".") {
			node = values(node, field)
		}
		if len(node) == 1 {
			if s, ok := node[0].(string); ok {
				return s
			}
		}
		return ""
	})
	return strings.ReplaceAll(text, `"`, "")
}

// A message says what happened to which cluster, who did it, when, what it
// means, and what to do.
func TestMessages(t *testing.T) {
	calls := map[string]string{
		"KeyDisabled": "DisableKey", "KeyDeletionScheduled": "ScheduleKeyDeletion", "KeyPolicyChanged": "PutKeyPolicy",
		"RotationChanged": "EnableKeyRotation", "KeyReplicated": "ReplicateKey", "UnexpectedGrant": "CreateGrant", "GrantRemoved": "RevokeGrant",
		"AliasChanged": "UpdateAlias", "TrailTampered": "StopLogging", "TrailBlinded": "PutEventSelectors",
		"AuditKeyTampered": "DisableKey", "LogsKeyTampered": "DisableKey", "ClusterOpened": "StopLogging", "RecordWeakened": "StopLogging",
		"AlarmsTampered": "StopLogging", "WatcherTampered": "StopLogging", "HandlerChanged": "StopLogging",
	}
	for _, r := range Rules(input()) {
		e := event(t, calls[r.ID])
		detail := e["detail"].(map[string]any)
		refused(t, detail)
		message := render(r.Template, e)
		for what, want := range map[string]string{
			"cluster":    "EKS cluster demo is in danger: " + calls[r.ID],
			"who":        "Who: arn:aws:iam::111122223333:user/Alice",
			"from where": "from 192.0.2.17",
			"when":       "When: " + detail["eventTime"].(string),
			"account":    "in account 111122223333, Region eu-central-1",
			"record":     "CloudTrail event " + detail["eventID"].(string),
			"outcome":    "refused: AccessDenied",
			"meaning":    "What it means: ",
			"advice":     "What to do: ",
		} {
			if !strings.Contains(message, want) {
				t.Errorf("%s: no %s (%q) in\n%s", r.ID, what, want, message)
			}
		}
		if placeholder.MatchString(message) {
			t.Errorf("%s: placeholders left in\n%s", r.ID, message)
		}
	}
	through := event(t, "CreateGrant")
	by("user through EC2")(t, through["detail"].(map[string]any))
	// All templates name the service alike.
	if m := render(Rules(input())[0].Template, through); !strings.Contains(m, "user/Alice AWS Internal (principal AIDAEXAMPLEALICE00000 of account 111122223333) from") {
		t.Errorf("the service in between is missing:\n%s", m)
	}
}

// The limits of EventBridge. Sources: Amazon EventBridge API Reference, Rule
// (name 64, description 512) and InputTransformer (template 8192, paths 100); Amazon
// EventBridge User Guide, "Amazon EventBridge quotas" (pattern 2048 unless the account has
// a higher quota).
func TestLimits(t *testing.T) {
	const description, pattern, template = 512, 2048, 8192
	// The longest names: a cluster has 100 characters at most.
	name := strings.Repeat("c", 100)
	in := input()
	in.ClusterName, in.TrailName, in.BucketName = name, "ekskms-"+name, strings.Repeat("b", 63)
	in.KeyARN = strings.Replace(keyARN, "aws", "aws-us-gov", 1)
	in.AliasARN += name
	in.TrailARN += name
	in.LogGroups = []string{"/aws/eks/" + name + "/cluster", "/aws/events/ekskms/" + name + "/alarms", "/ekskms/" + name + "/trail"}
	in.TopicARNs = []string{"arn:aws-us-gov:sns:us-gov-west-1:111122223333:ekskms-" + name + "-alarms", "arn:aws-us-gov:sns:us-gov-west-1:111122223333:ekskms-" + name + "-undelivered"}
	in.RulePrefix = "ekskms-" + name[:30] + "-"
	in.MetricAlarm = in.RulePrefix + "undelivered"
	in.HandlerNames = []string{in.RulePrefix + "kubectl", in.RulePrefix + "kubectl-framework"}
	for _, r := range Rules(in) {
		data, err := json.Marshal(r.Pattern)
		if err != nil || len(data) > pattern {
			t.Errorf("%s: the pattern has %d characters, at most %d, %v", r.ID, len(data), pattern, err)
		}
		if len(r.Description) > description {
			t.Errorf("%s: the description has %d characters", r.ID, len(r.Description))
		}
		if len(r.Template) > template {
			t.Errorf("%s: the template has %d characters", r.ID, len(r.Template))
		}
		if len(r.Name) > 64 || !regexp.MustCompile(`^[.\-_A-Za-z0-9]+$`).MatchString(r.Name) {
			t.Errorf("%s: EventBridge takes no rule named %s", r.ID, r.Name)
		}
	}
	if len(Paths()) > 100 {
		t.Errorf("%d paths", len(Paths()))
	}
}

// Rules must not share anything that a caller could change under another.
func TestRulesAreIndependent(t *testing.T) {
	first, second := Rules(input()), Rules(input())
	maps.Copy(first[0].Pattern, map[string]any{"source": "changed"})
	first[0].Pattern["detail"].(map[string]any)["resources"] = "changed"
	for i, r := range second {
		if data, _ := json.Marshal(r.Pattern); strings.Contains(string(data), "changed") {
			t.Errorf("rule %d changed with another", i)
		}
	}
	if first[1].Pattern["detail"].(map[string]any)["resources"] == "changed" {
		t.Error("two rules share their detail")
	}
}
