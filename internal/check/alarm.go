package check

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/place"
)

// The calls that somebody must be told of. Those on a key can take a cluster
// down, or open its secrets; those on a trail can hide it.
var (
	keyEvents   = []string{"DisableKey", "ScheduleKeyDeletion", "PutKeyPolicy", "RevokeGrant", "DisableKeyRotation"}
	trailEvents = []string{"StopLogging", "DeleteTrail", "UpdateTrail", "PutEventSelectors"}
)

// alarm is a rule or a metric filter that tells somebody.
type alarm struct {
	of      *estate.Stack
	matches matcher
	// names of the calls that it can be about. Nil if it names none.
	names []string
}

// namesIn are the calls that a pattern names, if it names them plainly.
func namesIn(pattern any) (names []string) {
	for _, v := range list(at(pattern, "detail", "eventName")) {
		name, plain := v.(string)
		if !plain {
			return nil
		}
		names = append(names, name)
	}
	return names
}

// findAlarms reads the EventBridge rules and the metric filters that can tell
// somebody: those that are on and have a target.
func (c *checker) findAlarms() {
	for _, r := range c.estate.Of(estate.KindRule) {
		p := r.Settings
		if strings.HasPrefix(text(p["State"]), "DISABLED") || len(list(p["Targets"])) == 0 || p["EventPattern"] == nil {
			continue
		}
		// Events of AWS services come on the default bus only.
		if bus := text(p["EventBusName"]); bus != "" && bus != "default" && !strings.HasSuffix(bus, ":event-bus/default") {
			continue
		}
		pattern := p["EventPattern"]
		if s, ok := pattern.(string); ok {
			if err := json.Unmarshal([]byte(s), &pattern); err != nil {
				c.noteAt(r.Resource, "EventPattern is no JSON: the rule counts for no alarm: %v", err)
				continue
			}
		}
		matches, err := compilePattern(pattern)
		if err != nil {
			c.noteAt(r.Resource, "EventPattern could not be read: the rule counts for no alarm: %v", err)
			continue
		}
		c.alarms = append(c.alarms, alarm{r.In, matches, namesIn(pattern)})
		c.rules = append(c.rules, r)
	}
	alarmed := map[string][]*estate.Thing{}
	for _, r := range c.estate.Of(estate.KindMetricAlarm) {
		p := r.Settings
		if isTrue(p["ActionsEnabled"], true) && len(list(p["AlarmActions"])) > 0 {
			of := r.In.Account + r.In.Region + text(p["Namespace"]) + "\x00" + text(p["MetricName"])
			alarmed[of] = append(alarmed[of], r)
		}
	}
	for _, r := range c.estate.Of(estate.KindMetricFilter) {
		// Where the templates have no trail, the log group may be that of another.
		if len(c.trails) > 0 && !c.estate.IsTrailGroup(text(r.Settings["LogGroupName"])) {
			continue
		}
		var by []*estate.Thing
		for _, m := range list(r.Settings["MetricTransformations"]) {
			by = append(by, alarmed[r.In.Account+r.In.Region+text(at(m, "MetricNamespace"))+"\x00"+text(at(m, "MetricName"))]...)
		}
		if len(by) == 0 {
			continue
		}
		filter, err := parseFilter(text(r.Settings["FilterPattern"]))
		if err != nil {
			c.noteAt(r.Resource, "FilterPattern could not be read: the filter counts for no alarm: %v", err)
			continue
		}
		// A metric filter sees the record of CloudTrail, not EventBridge's event.
		c.metricAlarms = append(c.metricAlarms, by...)
		c.alarms = append(c.alarms, alarm{r.In, func(event any) bool { return filter(at(event, "detail")) }, nil})
	}
}

// missing lists the events that no alarm tells of.
func (c *checker) missing(of *estate.Stack, names []string, samples func(name string) []map[string]any) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		events := samples(name)
		told := func(own bool) bool {
			return slices.ContainsFunc(c.alarms, func(a alarm) bool {
				return (a.of == of) == own && (a.names == nil || slices.Contains(a.names, name)) && a.of.Account == of.Account && a.of.Region == of.Region && slices.ContainsFunc(events, func(e map[string]any) bool { return a.matches(e) })
			})
		}
		return told(true) || told(false) // of many stacks, mostly the own one
	})
}

// checkKeyAlarms reports on the key, or on the cluster if the key is elsewhere. What is done
// to a key is an event of its own account and Region.
func (c *checker) checkKeyAlarms(r *estate.Thing, keyARN string) {
	of := r.In
	if key, is := place.ParseARN(keyARN); is && !of.Assumed && (key.AccountID != of.Account || key.Region != of.Region) {
		i := slices.IndexFunc(c.estate.Stacks, func(t *estate.Stack) bool { return t.Account == key.AccountID && t.Region == key.Region })
		if i < 0 {
			c.noteAt(r.Resource, "what is done to the key %s is an event of account %s in %s, of which there is no stack: whether an alarm tells of it was not judged", keyARN, key.AccountID, key.Region)
			return
		}
		of = c.estate.Stacks[i]
	}
	silent := c.missing(of, keyEvents, func(name string) []map[string]any {
		return sampleEvents(of, "kms", name, "keyId", []string{keyARN, keyARN[strings.LastIndex(keyARN, "/")+1:]}, keyARN)
	})
	if len(silent) > 0 {
		c.find("tamper-alarm-missing", r, "no alarm tells of %s", strings.Join(silent, ", "))
	}
}

func (c *checker) checkTrailAlarms(t *estate.Thing) {
	arn := t.ARN
	name := arn[strings.LastIndex(arn, "/")+1:]
	silent := c.missing(t.In, trailEvents, func(event string) []map[string]any {
		parameter := "name"
		if event == "PutEventSelectors" {
			parameter = "trailName"
		}
		return sampleEvents(t.In, "cloudtrail", event, parameter, []string{name, arn}, arn)
	})
	if len(silent) > 0 {
		c.find("trail-tamper-alarm-missing", t, "no alarm tells of %s", strings.Join(silent, ", "))
	}
}

// sampleEvents are the events that EventBridge gets when a role that nobody
// knows makes a call, one for each way to name what it is about. Source: AWS KMS
// Developer Guide, "Logging AWS KMS API calls with AWS CloudTrail".
func sampleEvents(t *estate.Stack, service, name, parameter string, values []string, resourceARN string) []map[string]any {
	var events []map[string]any
	for _, value := range values {
		events = append(events, map[string]any{
			"version": "0", "id": "00000000-0000-0000-0000-000000000000", "detail-type": "AWS API Call via CloudTrail", "source": "aws." + service,
			"account": t.Account, "region": t.Region, "time": "2026-01-01T00:00:00Z", "resources": []any{},
			"detail": map[string]any{
				"eventVersion": "1.11", "eventType": "AwsApiCall", "eventCategory": "Management", "managementEvent": true, "readOnly": false,
				"eventSource": service + ".amazonaws.com", "eventName": name, "awsRegion": t.Region, "recipientAccountId": t.Account,
				"sourceIPAddress": "192.0.2.1", "userAgent": "aws-cli/2",
				"userIdentity": map[string]any{
					"type": "AssumedRole", "accountId": t.Account, "principalId": "AROAEXAMPLEEXAMPLE000:stranger",
					"arn": "arn:" + t.Partition + ":sts::" + t.Account + ":assumed-role/Stranger/stranger",
					"sessionContext": map[string]any{"sessionIssuer": map[string]any{
						"type": "Role", "userName": "Stranger", "accountId": t.Account, "principalId": "AROAEXAMPLEEXAMPLE000",
						"arn": "arn:" + t.Partition + ":iam::" + t.Account + ":role/Stranger",
					}},
				},
				"requestParameters": map[string]any{parameter: value},
				"resources":         []any{map[string]any{"ARN": resourceARN, "accountId": t.Account, "type": "AWS::KMS::Key"}},
			},
		})
	}
	return events
}
