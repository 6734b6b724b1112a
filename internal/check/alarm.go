package check

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/hint"
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
	// without is what is not known of it, without which it is taken. Empty if all is known.
	without string
}

// loosened is a pattern without what is not known of it, and one thing that is not.
func loosened(pattern any) (left any, without string) {
	fields, ok := pattern.(map[string]any)
	if !ok {
		if unknown(pattern) {
			return map[string]any{}, show(pattern)
		}
		return pattern, ""
	}
	loose := map[string]any{}
	for _, name := range sortedKeys(fields) {
		v := fields[name]
		if i := slices.IndexFunc(list(v), unknown); i >= 0 {
			without = show(list(v)[i])
			continue
		}
		below, more := loosened(v)
		loose[name], without = below, cmp.Or(without, more)
	}
	return loose, without
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
		if s, ok := pattern.(string); ok && !unknown(s) {
			if err := json.Unmarshal([]byte(s), &pattern); err != nil {
				c.noteAt(r.Resource, "EventPattern %s: the rule counts for no alarm", hint.Plain(err))
				continue
			}
		}
		pattern, without := loosened(pattern)
		if unknown(p["State"]) {
			without = show(p["State"])
		}
		matches, err := compilePattern(pattern)
		if err != nil {
			c.noteAt(r.Resource, "EventPattern could not be read: the rule counts for no alarm: %v", err)
			continue
		}
		c.alarms = append(c.alarms, alarm{r.In, matches, namesIn(pattern), without})
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
		if len(c.estate.Of(estate.KindTrail)) > 0 && !c.estate.IsTrailGroup(text(r.Settings["LogGroupName"])) {
			continue
		}
		var by []*estate.Thing
		for _, m := range list(r.Settings["MetricTransformations"]) {
			by = append(by, alarmed[r.In.Account+r.In.Region+text(at(m, "MetricNamespace"))+"\x00"+text(at(m, "MetricName"))]...)
		}
		if len(by) == 0 {
			continue
		}
		of := r.Settings["FilterPattern"]
		if unknown(of) {
			c.metricAlarms = append(c.metricAlarms, by...)
			c.alarms = append(c.alarms, alarm{r.In, func(any) bool { return true }, nil, show(of)})
			continue
		}
		filter, err := parseFilter(text(of))
		if err != nil {
			c.noteAt(r.Resource, "FilterPattern could not be read: the filter counts for no alarm: %v", err)
			continue
		}
		// A metric filter sees the record of CloudTrail, not EventBridge's event.
		c.metricAlarms = append(c.metricAlarms, by...)
		c.alarms = append(c.alarms, alarm{r.In, func(event any) bool { return filter(at(event, "detail")) }, nil, ""})
	}
}

// checkAlarms finds the events of which no alarm tells, and notes those of which one may, by
// what is not known of it, or of the name that it is to know.
func (c *checker) checkAlarms(rule string, on *estate.Thing, of *estate.Stack, names []string, unknownName string, samples func(name string) []map[string]any) {
	var silent, open []string
	without := unknownName
	for _, name := range names {
		events := samples(name)
		told := func(own, known bool) *alarm { // of many stacks, mostly in the own one
			i := slices.IndexFunc(c.alarms, func(a alarm) bool {
				return (a.of == of) == own && (a.without == "") == known && (a.names == nil || slices.Contains(a.names, name)) &&
					a.of.Account == of.Account && a.of.Region == of.Region && slices.ContainsFunc(events, func(e map[string]any) bool { return a.matches(e) })
			})
			if i < 0 {
				return nil
			}
			return &c.alarms[i]
		}
		if told(true, true) != nil || told(false, true) != nil {
			continue
		}
		switch maybe := cmp.Or(told(true, false), told(false, false)); {
		case maybe != nil:
			open, without = append(open, name), cmp.Or(without, maybe.without)
		case unknownName != "":
			open = append(open, name)
		default:
			silent = append(silent, name)
		}
	}
	if len(silent) > 0 {
		c.find(rule, on, "no alarm tells of %s", strings.Join(silent, ", "))
	}
	if len(open) > 0 {
		c.open(on, "whether an alarm tells of %s depends on %s, which is not in the template", strings.Join(open, ", "), without)
	}
}

// checkKeyAlarms reports on the key, or on the cluster if the key is elsewhere. What is done
// to a key is an event of its own account and Region.
func (c *checker) checkKeyAlarms(r *estate.Thing, keyARN string) {
	of := r.In
	if key, ok := place.ParseARN(keyARN); ok && !of.Assumed && (key.AccountID != of.Account || key.Region != of.Region) {
		i := slices.IndexFunc(c.estate.Stacks, func(t *estate.Stack) bool { return t.Account == key.AccountID && t.Region == key.Region })
		if i < 0 {
			c.noteAt(r.Resource, "what is done to the key %s is an event of account %s in %s, of which there is no stack: whether an alarm tells of it was not judged", keyARN, key.AccountID, key.Region)
			return
		}
		of = c.estate.Stacks[i]
	}
	c.checkAlarms("tamper-alarm-missing", r, of, keyEvents, "", func(name string) []map[string]any {
		return sampleEvents(of, "kms", name, "keyId", []string{keyARN, keyARN[strings.LastIndex(keyARN, "/")+1:]}, keyARN)
	})
}

func (c *checker) checkTrailAlarms(t *estate.Thing) {
	arn := t.ARN
	name := arn[strings.LastIndex(arn, "/")+1:]
	unknownName := ""
	if v := t.Settings["TrailName"]; unknown(v) {
		unknownName = show(v)
	}
	c.checkAlarms("trail-tamper-alarm-missing", t, t.In, trailEvents, unknownName, func(event string) []map[string]any {
		parameter := "name"
		if event == "PutEventSelectors" {
			parameter = "trailName"
		}
		return sampleEvents(t.In, "cloudtrail", event, parameter, []string{name, arn}, arn)
	})
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
