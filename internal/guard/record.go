package guard

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/value"
)

// record compares what keeps the evidence: trails, logs, their retention, alarms.
func (c *comparison) record() {
	c.retention()
	c.trails()
	c.groups()
	c.buckets()
	c.resourcePolicies()
	c.alarms()
}

// kept are the types whose loss loses keys, clusters or evidence.
var kept = []estate.Kind{estate.KindKey, estate.KindCluster, estate.KindBucket, estate.KindLogGroup, estate.KindTrail}

func (c *comparison) retention() {
	for _, kind := range kept {
		for _, before := range c.before.Of(kind) {
			now := c.now(before)
			if now == nil {
				continue
			}
			for _, policy := range []struct{ name, old, new string }{
				{"DeletionPolicy", before.Deletion, now.Deletion},
				{"UpdateReplacePolicy", before.Replacement, now.Replacement},
			} {
				if strings.HasPrefix(policy.old, "Retain") && !strings.HasPrefix(policy.new, "Retain") {
					c.find("retention-weakened", now, "%s changes from %s to %s", policy.name, policy.old, orDelete(policy.new))
				}
			}
		}
	}
}

func orDelete(policy string) string {
	if policy == "" {
		return "nothing, which is Delete"
	}
	return policy
}

func (c *comparison) trails() {
	for _, before := range c.before.Of(estate.KindTrail) {
		now := c.now(before)
		if now == nil {
			c.find("trail-weakened", before, "%s", c.gone(before))
			continue
		}
		for _, p := range []struct {
			name      string
			byDefault bool
		}{{"IsLogging", true}, {"EnableLogFileValidation", false}, {"IsMultiRegionTrail", false}, {"IncludeGlobalServiceEvents", true}, {"IsOrganizationTrail", false}} {
			old, new := before.Settings[p.name], now.Settings[p.name]
			if value.IsTrue(old, p.byDefault) && !c.lost("trail-weakened", now, p.name, old, new) && !value.IsTrue(new, p.byDefault) {
				c.find("trail-weakened", now, "%s changes from true to %s", p.name, value.Show(new))
			}
		}
		for _, name := range []string{"KMSKeyId", "CloudWatchLogsLogGroupArn", "SnsTopicName"} {
			if before.Settings[name] != nil && now.Settings[name] == nil {
				c.find("trail-weakened", now, "%s is taken away", name)
			}
		}
		for _, name := range []string{"EventSelectors", "AdvancedEventSelectors"} {
			if old, new := before.Settings[name], now.Settings[name]; !c.lost("trail-weakened", now, name, old, new) && !reflect.DeepEqual(old, new) {
				c.selectors(name, value.List(old), value.List(new), now)
			}
		}
		if old, new := before.Settings["TrailName"], now.Settings["TrailName"]; !reflect.DeepEqual(old, new) {
			c.find("trail-weakened", now, "TrailName changes from %s to %s: the trail is replaced, and key policies and alarms that name the old one no longer fit", value.Show(old), value.Show(new))
		}
		if old, new := before.Settings["S3BucketName"], now.Settings["S3BucketName"]; !reflect.DeepEqual(old, new) {
			c.find("trail-weakened", now, "the log goes to %s, it went to %s", value.Show(new), value.Show(old))
		}
	}
}

// selectors finds selectors that go or change, unless events are only added: no
// selectors at all records all management events.
func (c *comparison) selectors(name string, before, now []any, trail *estate.Thing) {
	if len(now) == 0 && name == "EventSelectors" {
		return
	}
	if len(before) == 0 {
		c.find("trail-weakened", trail, "%s are set where the trail recorded all management events", name)
		return
	}
	for i, old := range before {
		if !slices.ContainsFunc(now, func(new any) bool { return reflect.DeepEqual(old, new) }) {
			c.find("trail-weakened", trail, "%s no longer has its selector %d as it was", name, i+1)
		}
	}
}

func (c *comparison) groups() {
	for _, before := range c.before.Of(estate.KindLogGroup) {
		now := c.now(before)
		if now == nil {
			if !strings.HasPrefix(before.Deletion, "Retain") {
				c.find("retention-weakened", before, "the log group goes: %s", c.gone(before))
			}
			continue
		}
		if old, new := before.Settings["LogGroupName"], now.Settings["LogGroupName"]; !reflect.DeepEqual(old, new) {
			c.find("trail-weakened", now, "LogGroupName changes from %s to %s: what logs to the old name makes a group without retention and without your key", value.Show(old), value.Show(new))
		}
		old, limited := value.Number(before.Settings["RetentionInDays"])
		new, limits := value.Number(now.Settings["RetentionInDays"])
		switch {
		case c.lost("retention-weakened", now, "RetentionInDays", before.Settings["RetentionInDays"], now.Settings["RetentionInDays"]):
		case limits && !limited:
			c.find("retention-weakened", now, "the log is kept for %g days, and was kept without end before", new)
		case limits && new < old:
			c.find("retention-weakened", now, "the log is kept for %g days, it was %g", new, old)
		}
		if before.Settings["KmsKeyId"] != nil && now.Settings["KmsKeyId"] == nil {
			c.find("trail-weakened", now, "KmsKeyId is taken away: what is logged from now on is not under a key of yours")
		}
	}
}

func (c *comparison) buckets() {
	for _, before := range c.before.Of(estate.KindBucket) {
		if !c.holdsTrail(before) {
			continue
		}
		now := c.now(before)
		if now == nil {
			c.find("retention-weakened", before, "the bucket of the trail goes: %s", c.gone(before))
			continue
		}
		if value.Text(value.At(before.Settings, "VersioningConfiguration", "Status")) == "Enabled" && value.Text(value.At(now.Settings, "VersioningConfiguration", "Status")) != "Enabled" {
			c.find("retention-weakened", now, "versioning of the bucket is suspended: a log file that is overwritten is lost")
		}
		if value.IsTrue(before.Settings["ObjectLockEnabled"], false) && !value.IsTrue(now.Settings["ObjectLockEnabled"], false) {
			c.find("retention-weakened", now, "ObjectLockEnabled changes to %s", value.Show(now.Settings["ObjectLockEnabled"]))
		}
		for _, name := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
			block := func(r *estate.Thing) bool {
				return value.IsTrue(value.At(r.Settings, "PublicAccessBlockConfiguration", name), false)
			}
			if block(before) && !block(now) {
				c.find("trail-weakened", now, "%s of the trail's bucket is switched off", name)
			}
		}
		if old, new := before.Settings["BucketName"], now.Settings["BucketName"]; !reflect.DeepEqual(old, new) {
			c.find("retention-weakened", now, "BucketName changes from %s to %s: the bucket is replaced", value.Show(old), value.Show(new))
		}
		if unknown := unknownIn(now.Settings["LifecycleConfiguration"]); unknown != nil && !reflect.DeepEqual(before.Settings["LifecycleConfiguration"], now.Settings["LifecycleConfiguration"]) {
			c.find("retention-weakened", now, "LifecycleConfiguration changes, and has %s, which is not in the template", value.Show(unknown))
			continue
		}
		for _, name := range []string{"ExpirationInDays", "NoncurrentVersionExpiration.NoncurrentDays"} {
			old, expired := expiry(before, name)
			new, expires := expiry(now, name)
			switch {
			case expires && !expired:
				c.find("retention-weakened", now, "log files expire after %g days (%s), they did not", new, name)
			case expires && new < old:
				c.find("retention-weakened", now, "log files expire after %g days (%s), it was %g", new, name, old)
			}
		}
	}
}

// resourcePolicies compares the policies of the trail's bucket, of topics, queues and log
// groups by their text: the evaluator is for keys. Who loses what a policy allowed may be
// CloudTrail, or the alarms.
func (c *comparison) resourcePolicies() {
	for _, kind := range []struct {
		is             estate.Kind
		property, rule string
	}{
		{estate.KindBucketPolicy, "Bucket", "trail-weakened"}, {estate.KindTopicPolicy, "Topics", "alarm-removed"},
		{estate.KindQueuePolicy, "Queues", "alarm-removed"}, {estate.KindLogPolicy, "PolicyName", "alarm-removed"},
	} {
		for _, before := range c.before.Of(kind.is) {
			if kind.property == "Bucket" {
				if bucket := c.before.LookupOf(before, before.Settings["Bucket"], estate.KindBucket); bucket == nil || !c.holdsTrail(bucket) {
					continue
				}
			}
			now := c.now(before)
			if now == nil {
				if !strings.HasPrefix(before.Deletion, "Retain") {
					c.find(kind.rule, before, "the policy goes: %s", c.gone(before))
				}
				continue
			}
			if c.lost(kind.rule, now, kind.property, before.Settings[kind.property], now.Settings[kind.property]) || !reflect.DeepEqual(before.Settings[kind.property], now.Settings[kind.property]) {
				continue // it is for another one, which was told already
			}
			old, new := document(before), document(now)
			if text := moreStatements(old, new); text != "" {
				c.find("policy-widened", now, "%s", text)
			}
			if text := fewerStatements(old, new); text != "" && unknownIn(new) == nil { // which is told already
				c.find(kind.rule, now, "%s", text)
			}
		}
	}
}

// document is a policy, which log groups have as text.
func document(t *estate.Thing) any { return parsed(t.Settings["PolicyDocument"]) }

// parsed is a value that may be written as JSON in a text.
func parsed(v any) any {
	if text, ok := v.(string); ok {
		var read any
		if json.Unmarshal([]byte(text), &read) == nil {
			return read
		}
	}
	return v
}

// fewerStatements says which Allow a policy has lost, or which Deny it has gained.
func fewerStatements(old, now any) string {
	var texts []string
	for _, s := range missing(statements(old, "Allow"), statements(now, "Allow")) {
		texts = append(texts, fmt.Sprintf("the statement is gone that allowed %s to %s", value.Show(value.At(s, "Action")), principalText(value.At(s, "Principal"))))
	}
	for _, s := range missing(statements(now, "Deny"), statements(old, "Deny")) {
		texts = append(texts, fmt.Sprintf("a new statement denies %s to %s", value.Show(value.At(s, "Action")), principalText(value.At(s, "Principal"))))
	}
	return strings.Join(texts, "; ")
}

// statements are those of an effect.
func statements(policy any, effect string) (all []any) {
	for _, s := range value.List(value.At(policy, "Statement")) {
		if value.Text(value.At(s, "Effect")) == effect {
			all = append(all, s)
		}
	}
	return all
}

// missing are those of some statements that others do not have.
func missing(some, others []any) []any {
	return slices.DeleteFunc(slices.Clone(some), func(s any) bool {
		return slices.ContainsFunc(others, func(o any) bool { return sameStatement(s, o) })
	})
}

// moreStatements says which Allow a policy has that it did not have, or which Deny
// it has lost. A statement that changes counts as another one.
func moreStatements(old, now any) string {
	var texts []string
	for _, s := range append([]any{now}, value.List(value.At(now, "Statement"))...) {
		known := slices.ContainsFunc(append([]any{old}, value.List(value.At(old, "Statement"))...), func(o any) bool { return reflect.DeepEqual(s, o) })
		for _, v := range []any{s, value.At(s, "Effect")} {
			if value.IsOpen(v) && !known {
				texts = append(texts, fmt.Sprintf("what %s says is not in the template", value.Show(v)))
				break
			}
		}
	}
	for _, s := range missing(statements(now, "Allow"), statements(old, "Allow")) {
		texts = append(texts, fmt.Sprintf("a new statement allows %s to %s", value.Show(value.At(s, "Action")), principalText(value.At(s, "Principal"))))
	}
	for _, s := range missing(statements(old, "Deny"), statements(now, "Deny")) {
		texts = append(texts, fmt.Sprintf("the statement is gone that denied %s to %s", value.Show(value.At(s, "Action")), principalText(value.At(s, "Principal"))))
	}
	return strings.Join(texts, "; ")
}

// sameStatement compares two statements without their names.
func sameStatement(a, b any) bool {
	nameless := func(s any) map[string]any {
		m, _ := s.(map[string]any)
		m = maps.Clone(m)
		delete(m, "Sid")
		return m
	}
	return reflect.DeepEqual(nameless(a), nameless(b))
}

func principalText(p any) string {
	m, ok := p.(map[string]any)
	if !ok {
		return value.Show(p)
	}
	var all []string
	for _, kind := range sortedKeys(m) {
		all = append(all, value.Texts(m[kind])...)
	}
	return strings.Join(all, ", ")
}

func (c *comparison) holdsTrail(bucket *estate.Thing) bool {
	return slices.ContainsFunc(c.before.Of(estate.KindTrail), func(t *estate.Thing) bool {
		return c.before.LookupOf(t, t.Settings["S3BucketName"], estate.KindBucket) == bucket
	})
}

// unknownIn is something in a value that is not known, or nil.
func unknownIn(v any) any {
	switch v := v.(type) {
	case value.Unknown:
		return v
	case string:
		if value.IsOpen(v) {
			return v
		}
	case []any:
		for _, e := range v {
			if u := unknownIn(e); u != nil {
				return u
			}
		}
	case map[string]any:
		for _, key := range sortedKeys(v) {
			if u := unknownIn(v[key]); u != nil {
				return u
			}
		}
	}
	return nil
}

// expiry is the shortest period of the lifecycle rules that are on.
func expiry(bucket *estate.Thing, name string) (days float64, expires bool) {
	for _, rule := range value.List(value.At(bucket.Settings, "LifecycleConfiguration", "Rules")) {
		if value.Text(value.At(rule, "Status")) != "Enabled" {
			continue
		}
		if n, ok := value.Number(value.At(rule, strings.Split(name, ".")...)); ok && (!expires || n < days) {
			days, expires = n, true
		}
	}
	return days, expires
}

// alarms compares EventBridge rules, CloudWatch alarms with their metric filters,
// and subscriptions.
func (c *comparison) alarms() {
	for _, old := range c.before.Of(estate.KindRule) {
		if disabled(old) || len(value.List(old.Settings["Targets"])) == 0 || old.Settings["EventPattern"] == nil {
			continue
		}
		now := c.now(old)
		switch {
		case now == nil:
			c.find("alarm-removed", old, "the rule goes: %s", c.gone(old))
			continue
		case disabled(now):
			c.find("alarm-removed", now, "the rule is disabled")
			continue
		case c.lost("alarm-removed", now, "State", old.Settings["State"], now.Settings["State"]):
			continue
		}
		for _, target := range value.List(old.Settings["Targets"]) {
			arn := value.At(target, "Arn")
			if !slices.ContainsFunc(value.List(now.Settings["Targets"]), func(t any) bool { return reflect.DeepEqual(value.At(t, "Arn"), arn) }) {
				c.find("alarm-removed", now, "the target %s is taken away", value.Show(arn))
			}
		}
		if value.IsOpen(now.Settings["EventPattern"]) && !reflect.DeepEqual(old.Settings["EventPattern"], now.Settings["EventPattern"]) {
			c.find("alarm-removed", now, "EventPattern changes to %s, which is not in the template", value.Show(now.Settings["EventPattern"]))
			continue
		}
		if path := narrowed(pattern(old), pattern(now), "EventPattern"); path != "" {
			c.find("alarm-removed", now, "the rule hears less: %s", path)
		}
	}
	for _, old := range c.before.Of(estate.KindMetricAlarm) {
		now := c.now(old)
		switch {
		case len(value.List(old.Settings["AlarmActions"])) == 0, !value.IsTrue(old.Settings["ActionsEnabled"], true): // it told nobody
		case now == nil:
			c.find("alarm-removed", old, "the alarm goes: %s", c.gone(old))
		case c.lost("alarm-removed", now, "ActionsEnabled", old.Settings["ActionsEnabled"], now.Settings["ActionsEnabled"]):
		case !value.IsTrue(now.Settings["ActionsEnabled"], true), len(value.List(now.Settings["AlarmActions"])) == 0:
			c.find("alarm-removed", now, "the alarm has no action any more")
		}
	}
	for _, old := range c.before.Of(estate.KindTopic) {
		switch now := c.now(old); {
		case now == nil:
			c.find("alarm-removed", old, "the topic goes, with its subscriptions: %s", c.gone(old))
		case !reflect.DeepEqual(old.Settings["TopicName"], now.Settings["TopicName"]):
			c.find("alarm-removed", now, "TopicName changes: the topic is replaced, and subscriptions that are not in the template are lost")
		case old.Settings["KmsMasterKeyId"] != nil && now.Settings["KmsMasterKeyId"] == nil:
			c.find("trail-weakened", now, "KmsMasterKeyId is taken away: alarms are no longer encrypted under a key of yours")
		}
	}
	for _, kind := range []estate.Kind{estate.KindMetricFilter, estate.KindSubscription} {
		for _, before := range c.before.Of(kind) {
			now := c.now(before)
			if now == nil {
				c.find("alarm-removed", before, "the %s goes: %s", kind, c.gone(before))
				continue
			}
			for _, name := range []string{"FilterPattern", "LogGroupName", "Endpoint", "Protocol", "TopicArn"} {
				if old, new := before.Settings[name], now.Settings[name]; !reflect.DeepEqual(old, new) {
					c.find("alarm-removed", now, "%s changes: who was told before may no longer be told", name)
				}
			}
			if now.Settings["FilterPolicy"] != nil && !reflect.DeepEqual(before.Settings["FilterPolicy"], now.Settings["FilterPolicy"]) {
				c.find("alarm-removed", now, "FilterPolicy changes: who was told before may no longer be told")
			}
		}
	}
}

func disabled(rule *estate.Thing) bool {
	return strings.HasPrefix(value.Text(rule.Settings["State"]), "DISABLED")
}

func pattern(rule *estate.Thing) any { return parsed(rule.Settings["EventPattern"]) }

// narrowed says where an event pattern takes fewer events than before, or is
// empty. A field that is new asks for more; a list that lost a value takes less. A
// list with other changed operators counts as narrower.
func narrowed(before, now any, path string) string {
	switch new := now.(type) {
	case map[string]any:
		old, ok := before.(map[string]any)
		if !ok {
			return path
		}
		for _, key := range sortedKeys(new) {
			if _, had := old[key]; !had {
				return fmt.Sprintf("%s.%s is asked for", path, key)
			}
			if p := narrowed(old[key], new[key], path+"."+key); p != "" {
				return p
			}
		}
		return ""
	case []any:
		for _, v := range value.List(before) {
			if !slices.ContainsFunc(new, func(n any) bool { return reflect.DeepEqual(n, v) }) {
				return fmt.Sprintf("%s no longer has %s", path, value.Show(v))
			}
		}
		return ""
	}
	if reflect.DeepEqual(before, now) {
		return ""
	}
	return path
}
