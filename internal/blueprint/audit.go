package blueprint

import (
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/tamper"
)

// LogGroup is a log group of CloudWatch Logs under a key.
type LogGroup struct {
	Name string
	Days int
}

// LogTypes are all kinds of logs that a control plane writes.
var LogTypes = []string{"api", "audit", "authenticator", "controllerManager", "scheduler"}

// ControlPlaneLogs is the log group to which EKS writes by its name. If it were not
// there, EKS would make one that is neither encrypted under a CMK nor ever cleared.
func (c Cluster) ControlPlaneLogs() LogGroup {
	return LogGroup{place.ControlPlaneLogGroup(c.Name), c.Audit.ControlPlaneLogRetentionDays}
}

// TrailCopy is the log group with a copy of the trail. The second result is false if
// there is none.
func (c Cluster) TrailCopy() (LogGroup, bool) {
	days := c.Audit.CloudWatchLogsRetentionDays
	return LogGroup{place.TrailLogGroup(c.Name), days}, c.NewTrail() && days != 0
}

// NewTrail and NewTopic tell whether a trail and a topic are made.
func (c Cluster) NewTrail() bool { return c.Audit.TrailARN == "" }

// NewTopic tells whether a topic is made.
func (c Cluster) NewTopic() bool { return c.Audit.TopicARN == "" }

// Trail is a trail that records all management events, of all Regions, and lets its
// files be validated.
type Trail struct{ Name, ARN string }

// Trail is the new trail, or the existing one. The name of a new one is fixed, so that
// the key's policy can hold its ARN before it is there.
func (c Cluster) Trail() Trail {
	if c.Refs.TrailName != nil {
		return Trail{c.Refs.TrailName.Text(), c.Audit.TrailARN}
	}
	if !c.NewTrail() {
		return Trail{c.Audit.TrailARN[strings.LastIndex(c.Audit.TrailARN, "/")+1:], c.Audit.TrailARN}
	}
	name := place.Trail(c.Name, c.At.Region.Text())
	return Trail{name, c.At.ARN("cloudtrail", "trail/"+name)}
}

// Bucket is how the logs of the trail are stored: closed to the public, owned by its
// account, with versions, each of which expires.
type Bucket struct {
	// RuleID names the lifecycle rule.
	RuleID string
	// Days until a log expires, and as many until its version does.
	Days int
	// UploadDays until an upload that was not finished is removed.
	UploadDays int
	// TLS is the least version.
	TLS float64
}

// TrailBucket is the bucket of the new trail.
//
// It has no default key: CloudTrail asks for its own with every object, and a default
// key would apply to what arrives without, whose encryption context the key's policy
// does not allow.
func (c Cluster) TrailBucket() Bucket {
	return Bucket{RuleID: "Retention", Days: c.Audit.RetentionDays, UploadDays: 7, TLS: 1.2}
}

// TrailStatements let CloudTrail write the logs to the bucket.
func (c Cluster) TrailStatements(bucketARN string) []iampolicy.Statement {
	return keypolicy.LogBucket(bucketARN, c.At.Account.Text(), c.Trail().ARN)
}

// Topic is a topic of SNS.
type Topic struct{ Name, ARN, Display string }

// Topic is the topic of the alarms, new or existing.
func (c Cluster) Topic() Topic {
	if !c.NewTopic() {
		return Topic{ARN: c.Audit.TopicARN}
	}
	name := place.Topic(c.Name)
	return Topic{name, c.At.ARN("sns", name), place.TopicDisplay(c.Name)}
}

// TopicStatements let the alarms reach the topic.
func (c Cluster) TopicStatements(topicARN string) []iampolicy.Statement {
	return keypolicy.AlarmTopic(topicARN)
}

// FallbackTopic tells of alarms that did not arrive. It has no customer key: it is to work
// when a key does not.
func (c Cluster) FallbackTopic() Topic {
	name := place.FallbackTopic(c.Name)
	return Topic{name, c.At.ARN("sns", name), place.FallbackDisplay(c.Name)}
}

// FallbackStatements let the CloudWatch alarm reach that topic.
func (c Cluster) FallbackStatements(topicARN string) []iampolicy.Statement {
	return keypolicy.FallbackTopic(topicARN, c.At.ARN("cloudwatch", "alarm:"+c.Undelivered().Name), c.At.Account.Text())
}

// Queue is a queue of SQS, under a key of that service.
type Queue struct {
	Name string
	// Days that a message stays.
	Days int
}

// AlarmQueue takes the alarms that EventBridge could not deliver.
func (c Cluster) AlarmQueue() Queue { return Queue{place.AlarmQueue(c.Name), 14} }

// QueueStatements let the rules of the alarms send to the queue.
func (c Cluster) QueueStatements(queueARN string) []iampolicy.Statement {
	return keypolicy.AlarmQueue(queueARN, c.ruleARNs())
}

func (c Cluster) ruleARNs() string { return c.At.ARN("events", "rule/"+place.AlarmPrefix(c.Name)+"*") }

// DeliveryMinutes is how long, and DeliveryAttempts how often EventBridge tries to deliver
// an alarm before it goes to the queue. After an error that a new try does not fix it goes
// there at once.
const (
	DeliveryMinutes  = 60
	DeliveryAttempts = 185
)

// MetricAlarm is an alarm of CloudWatch on a metric of a queue.
type MetricAlarm struct {
	Name, Description, Metric string
	Seconds                   int
}

// Undelivered is on messages in the queue of alarms.
func (c Cluster) Undelivered() MetricAlarm {
	return MetricAlarm{
		place.UndeliveredAlarm(c.Name),
		c.subject() + ": an alarm did not arrive. Read it with 'aws sqs receive-message', or in the log group " + c.AlarmLog().Name + ", and find out why.",
		"ApproximateNumberOfMessagesVisible", 60,
	}
}

// AlarmLog is the log group that has a copy of every alarm. It has no customer key: it is
// to have the alarms on keys.
func (c Cluster) AlarmLog() LogGroup {
	return LogGroup{place.AlarmLogGroup(c.Name), LogDays.Default}
}

// AlarmLogPolicy is the name of the resource policy by which EventBridge writes to it, and
// its statements.
func (c Cluster) AlarmLogPolicy() (name string, statements []iampolicy.Statement) {
	return place.AlarmLogPolicy(c.Name), keypolicy.AlarmLogGroup(c.logGroupARN(c.AlarmLog().Name), c.ruleARNs())
}

// Alarms are raised by tampering with the key, the record or the alarms, and when the
// cluster is opened to others.
func (c Cluster) Alarms() []tamper.Rule {
	in := tamper.Input{
		ClusterName: c.Name,
		KeyARN:      c.KeyARN(),
		TrailName:   c.Trail().Name,
		TrailARN:    c.Trail().ARN,
		BucketName:  text(c.Refs.Bucket),
		LogGroups:   []string{c.ControlPlaneLogs().Name, c.AlarmLog().Name},
		TopicARNs:   []string{c.Topic().ARN},
		MetricAlarm: c.Undelivered().Name,
		RulePrefix:  place.AlarmPrefix(c.Name),
	}
	if c.Shared {
		in.Shared, in.LogGroups = true, in.LogGroups[1:]
		if !c.trailIsHere() {
			in.TrailName, in.TrailARN = "", ""
		}
	}
	if group, copied := c.TrailCopy(); copied {
		in.LogGroups = append(in.LogGroups, group.Name)
	}
	if c.NewTopic() {
		in.TopicARNs = append(in.TopicARNs, c.FallbackTopic().ARN)
	}
	for _, key := range []place.Value{c.Refs.AuditKey, c.Refs.TopicKey} {
		if key != nil {
			in.AuditKeyARNs = append(in.AuditKeyARNs, key.Text())
		}
	}
	if alias := c.Alias(); alias != "" && !c.Shared {
		in.AliasARN = c.At.ARN("kms", alias)
	}
	return tamper.Rules(in)
}

// ClusterAlarms are raised by tampering with what is made with the cluster itself: the key
// of its logs, and the function that applies its objects.
func (c Cluster) ClusterAlarms() []tamper.Rule {
	in := tamper.Input{ClusterName: c.Name, LogsKeyARN: text(c.Refs.LogsKey), RulePrefix: place.AlarmPrefix(c.Name)}
	if c.KubectlHandler {
		in.HandlerNames = c.Kubectl().Functions
	}
	return tamper.Rules(in)
}

// trailIsHere tells whether the calls on a shared trail are events of this account and
// Region, as far as that is known.
func (c Cluster) trailIsHere() bool {
	trail, ok := place.ParseARN(c.Audit.TrailARN)
	return c.NewTrail() || !ok || trail.Region == c.At.Region.Text() && trail.AccountID == c.At.Account.Text()
}

// FleetAlarms are the alarms on clusters whose record and alarms are shared: on their keys,
// their logs, and the functions that apply their objects. They belong to the shared ones
// of [Cluster.Alarms].
func (c Cluster) FleetAlarms(clusters []Cluster) []tamper.Rule {
	shared := tamper.Input{ClusterName: c.Name, RulePrefix: place.AlarmPrefix(c.Name)}
	var all []tamper.Input
	for _, o := range clusters {
		in := tamper.Input{
			ClusterName: o.Name, KeyARN: o.KeyARN(), LogsKeyARN: text(o.Refs.LogsKey),
		}
		if in.LogsKeyARN != "" { // else it is in another account
			in.LogGroups = []string{o.ControlPlaneLogs().Name}
		} else {
			in.KeyAlone = true
		}
		if alias := o.Alias(); alias != "" {
			in.AliasARN = c.At.ARN("kms", alias)
		}
		if o.KubectlHandler {
			in.HandlerNames = o.Kubectl().Functions
		}
		all = append(all, in)
	}
	return tamper.FleetRules(shared, all)
}

// subject is what texts speak of.
func (c Cluster) subject() string {
	if c.Shared {
		return "the EKS clusters of this account and Region"
	}
	return "EKS cluster " + c.Name
}

// RolesTopic is the topic of the alarms on roles, in the Region that has the events of IAM.
// It has no customer key: that would be one more to pay for there.
func (c Cluster) RolesTopic() Topic {
	name := place.RolesTopic(c.Name)
	return Topic{Name: name, Display: place.TopicDisplay(c.Name)}
}

// RoleAlarms are raised by changes of the roles that may use or administer the key, use the
// cluster or read the record: those that the configuration names, those of the cluster's
// stack, by the beginning of their names, and the given ones, where a * at the end stands for
// any text. They are for a stack of their own: see [tamper.RoleRules].
func (c Cluster) RoleAlarms(others []string) []tamper.Rule {
	in := tamper.Input{ClusterName: c.Name, RulePrefix: place.AlarmPrefix(c.Name), RolePrefixes: []string{place.RolePrefix(c.Name)}}
	seen := map[string]bool{}
	name := func(role string) {
		if !seen[role] {
			seen[role] = true
			in.RoleNames = append(in.RoleNames, role)
		}
	}
	arns := slices.Concat(c.Creators, c.Administrators, c.Key.BreakGlass, c.Audit.Readers)
	for _, e := range c.AllAccessEntries() {
		arns = append(arns, e.PrincipalARN)
	}
	for _, arn := range arns {
		if _, role, ok := strings.Cut(arn, ":role/"); ok {
			name(role[strings.LastIndex(role, "/")+1:])
		}
	}
	for _, role := range others {
		if prefix, ok := strings.CutSuffix(role, "*"); ok {
			in.RolePrefixes = append(in.RolePrefixes, prefix)
		} else {
			name(role)
		}
	}
	return tamper.RoleRules(in)
}

// RoleAlarmPaths are the placeholders in their messages, and the fields of the event that
// stand for them.
func RoleAlarmPaths() map[string]string {
	paths := tamper.Paths()
	paths["role"] = tamper.RolePath
	return paths
}
