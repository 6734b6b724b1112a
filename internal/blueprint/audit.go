package blueprint

import (
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

// Alarms are raised by tampering with the key or the record.
func (c Cluster) Alarms() []tamper.Rule {
	in := tamper.Input{
		ClusterName: c.Name,
		KeyARN:      c.KeyARN(),
		CreatorARNs: c.Creators,
		AuditKeyARN: text(c.Refs.AuditKey),
		TrailName:   c.Trail().Name,
		TrailARN:    c.Trail().ARN,
	}
	if alias := c.Alias(); alias != "" {
		in.AliasARN = c.At.ARN("kms", alias)
	}
	return tamper.Rules(in)
}
