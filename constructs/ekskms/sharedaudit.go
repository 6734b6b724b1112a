package ekskms

import (
	"strconv"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/interfaces/interfacesawscloudtrail"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/place"
)

// SharedAuditTrailProps configures an [AuditTrail] of [NewSharedAuditTrail].
type SharedAuditTrailProps struct {
	// Name is what the names of the trail, the topics and the rules are made of, as
	// those of an [AuditTrail] are of a cluster's name. No cluster of the account may
	// have it.
	// Default: shared.
	Name *string
	// ExistingTrail records instead of a new trail: that of another Region of the
	// account, or one of the organization. See [AuditTrailProps].
	// Default: a new multi-Region trail.
	ExistingTrail interfacesawscloudtrail.ITrailRef
	// Retention is how long the new trail's logs are retained, in whole days.
	// Default: 365 days.
	Retention awscdk.Duration
	// CloudWatchLogs sends a copy of the new trail to a log group: see
	// [AuditTrailProps].
	// Default: no copy.
	CloudWatchLogs awslogs.RetentionDays
	// Readers may decrypt the new trail's logs: see [AuditTrailProps].
	// Default: nobody.
	Readers *[]awsiam.IGrantable
	// ExistingTopic receives the alarms instead of the new topics: see
	// [AuditTrailProps].
	// Default: a new, encrypted topic.
	ExistingTopic awssns.ITopic
	// Emails are subscribed to the new topics. Each address must confirm both
	// subscriptions by mail.
	// Default: none.
	Emails *[]*string
	// Functions are the ARNs of the kubectl handlers of the clusters, of all Regions,
	// each invocation of which a new trail records. With more than 250, all functions of the
	// account are recorded, and a warning says so. Source: AWS CloudTrail User Guide,
	// "Quotas in AWS CloudTrail".
	// Default: none.
	Functions *[]*string
}

const sharedAuditTrailType = "SharedAuditTrail"

// mostFunctions is how many data resources the selectors of a trail can name.
const mostFunctions = 250

// NewSharedAuditTrail makes for several clusters of one account and Region what
// [NewAuditTrail] makes for one: the trail, the topics, and the alarms on these. It needs
// none of the clusters, so it can be deployed before them; they refer to it with
// [AuditTrail_FromSharedAuditTrailAttributes], and the alarms on them are those of a
// [SharedAlarms].
//
// One trail is enough for all Regions of an account: in the others, pass it as the
// ExistingTrail.
//
// It panics with a [*PropError] when the Name is none that a cluster could have, when
// Retention is not a whole number of days, when a Reader is not one IAM principal, and
// when a prop of a new trail or topic is set beside an existing one.
func NewSharedAuditTrail(scope constructs.Construct, id *string, props *SharedAuditTrailProps) *AuditTrail {
	p := *orDefault(props, SharedAuditTrailProps{})
	audit := &AuditTrailProps{
		ExistingTrail: p.ExistingTrail, Retention: p.Retention, CloudWatchLogs: p.CloudWatchLogs, Readers: p.Readers,
		ExistingTopic: p.ExistingTopic, Emails: p.Emails,
	}
	audit.check(sharedAuditTrailType)
	a := &AuditTrail{topic: p.ExistingTopic}
	constructs.NewConstruct_Override(a, scope, id)
	a.c = sharedBlueprint(sharedAuditTrailType, p.Name, a)
	a.make(audit)
	a.raise(a, a.c.Alarms())
	if functions := *orDefault(p.Functions, nil); len(functions) > 0 {
		arns := make([]string, len(functions))
		for i, arn := range functions {
			require(sharedAuditTrailType, "Functions["+strconv.Itoa(i)+"]", arn != nil)
			arns[i] = *arn
		}
		if len(arns) > mostFunctions {
			arns = []string{"arn:" + a.c.At.Partition.Text() + ":lambda"}
			warn(a, "all-functions", "The trail records the invocations of all Lambda functions of the account, since CloudTrail takes "+
				strconv.Itoa(mostFunctions)+" by their names: more data events are recorded, and billed.")
		}
		a.recordFunctions(arns)
	}
	a.Node().SetDefaultChild(a.alarms[0].rule)
	if a.trail != nil {
		a.Node().SetDefaultChild(a.trail)
	}
	return a
}

func sharedBlueprint(typ string, name *string, scope constructs.Construct) blueprint.Cluster {
	name = orDefault(name, place.Shared)
	if *awscdk.Token_IsUnresolved(name) || !place.IsClusterName(*name) {
		reject(typ, "Name", "is %q, must be 1 to 100 letters, digits, hyphens and underscores, and begin with a letter or digit", *name)
	}
	return blueprint.Cluster{Name: *name, Shared: true, At: siteOf(scope).Place}
}

// SharedAuditTrailAttributes describe an [AuditTrail] of [NewSharedAuditTrail].
type SharedAuditTrailAttributes struct {
	// Name is that of the shared AuditTrail.
	// Default: shared.
	Name *string
	// HomeRegion is that of its trail.
	// Default: the Region of the scope.
	HomeRegion *string
	// TrailArn is the ARN of its ExistingTrail.
	// Default: that of the trail that it made in the HomeRegion.
	TrailArn *string
	// TopicArn is the ARN of its ExistingTopic.
	// Default: that of the topic that it made.
	TopicArn *string
}

// AuditTrail_FromSharedAuditTrailAttributes refers to the shared [AuditTrail] of the
// account and Region of the scope, for a cluster that a [SharedAlarms] watches: nothing is
// made here, and no stack depends on another.
//
// It panics with a [*PropError] when the Name is none that a cluster could have.
func AuditTrail_FromSharedAuditTrailAttributes(scope constructs.Construct, id *string, attrs *SharedAuditTrailAttributes) IAuditTrail {
	given := *orDefault(attrs, SharedAuditTrailAttributes{})
	t := &importedTrail{shared: true}
	constructs.NewConstruct_Override(t, scope, id)
	c := sharedBlueprint(sharedAuditTrailType, given.Name, t)
	home := c
	if given.HomeRegion != nil {
		home.At.Region = token(*given.HomeRegion)
	}
	t.trailARN = orDefault(given.TrailArn, home.Trail().ARN)
	t.topic = awssns.Topic_FromTopicArn(t, jsii.String("Topic"), orDefault(given.TopicArn, c.Topic().ARN))
	return t
}

// WatchedCluster is a cluster that a [SharedAlarms] watches.
type WatchedCluster struct {
	// ClusterName is its name. Required.
	ClusterName *string
	// KeyArn is the ARN of the key of its secrets. Required.
	KeyArn *string
	// KeyAlias is the alias of that key.
	// Default: alias/eks/ and the cluster's name. An empty text is none.
	KeyAlias *string
	// LogsKeyArn is the ARN of the key of its logs. Required without ClusterAccount.
	LogsKeyArn *string
	// ClusterAccount is the account of the cluster, where that is another: its key alone is
	// watched here, and the rest there.
	// Default: that of the stack.
	ClusterAccount *string
	// KubectlHandler tells that it has the Lambda function with which the CDK applies
	// Kubernetes objects.
	// Default: true.
	KubectlHandler *bool
}

// SharedAlarmsProps configures [SharedAlarms].
type SharedAlarmsProps struct {
	// Name is that of the shared [AuditTrail] to whose topic, log group and queue the
	// alarms go.
	// Default: shared.
	Name *string
	// TopicArn is the ARN of the ExistingTopic of the shared AuditTrail.
	// Default: that of the topic that it made.
	TopicArn *string
	// Clusters are what is watched, all of one account and Region. Required.
	Clusters *[]*WatchedCluster
}

// SharedAlarms are the alarms on the keys, the logs and the functions of several
// clusters: one set of rules, in which each is for as many clusters as EventBridge takes
// in a pattern. It names the keys, so it is deployed after the clusters, and a cluster
// that comes later changes nothing but this.
type SharedAlarms struct {
	constructs.Construct
	alarms alarms
}

const sharedAlarmsType = "SharedAlarms"

// NewSharedAlarms makes the rules.
//
// It panics with a [*PropError] when there is no cluster, and when the name or an ARN of
// one is missing.
func NewSharedAlarms(scope constructs.Construct, id *string, props *SharedAlarmsProps) *SharedAlarms {
	p := *orDefault(props, SharedAlarmsProps{})
	clusters := *orDefault(p.Clusters, nil)
	require(sharedAlarmsType, "Clusters", len(clusters) > 0)
	s := &SharedAlarms{}
	constructs.NewConstruct_Override(s, scope, id)
	c := sharedBlueprint(sharedAlarmsType, p.Name, s)
	var watched []blueprint.Cluster
	for i, w := range clusters {
		at := "Clusters[" + strconv.Itoa(i) + "]"
		require(sharedAlarmsType, at, w != nil)
		checkClusterName(sharedAlarmsType+"."+at, w.ClusterName)
		require(sharedAlarmsType, at+".KeyArn", w.KeyArn != nil)
		b := blueprint.Cluster{Name: *w.ClusterName, At: c.At}
		b.Refs.Key = token(*w.KeyArn)
		if w.ClusterAccount == nil {
			require(sharedAlarmsType, at+".LogsKeyArn", w.LogsKeyArn != nil)
			b.Refs.LogsKey, b.KubectlHandler = token(*w.LogsKeyArn), *orDefault(w.KubectlHandler, true)
		}
		b.Key.Alias = *orDefault(w.KeyAlias, place.SecretsAlias(b.Name))
		if b.Key.Alias == "" {
			b.Key.ARN = *w.KeyArn // an existing key, whose alias nobody knows
		}
		watched = append(watched, b)
	}
	queue := c.At.ARN("sqs", c.AlarmQueue().Name)
	topic, log := alarmTargets(orDefault(p.TopicArn, c.Topic().ARN), c.At.ARN("logs", "log-group:"+c.AlarmLog().Name), &queue)
	s.alarms = newAlarms(s, c.FleetAlarms(watched), topic, log)
	s.Node().SetDefaultChild(s.alarms[0].rule)
	return s
}

// OnTampering has every alarm go to a further target, as [AuditTrail.OnTampering].
func (s *SharedAlarms) OnTampering(id *string, to awsevents.IRuleTarget) {
	s.alarms.add(sharedAlarmsType, id, to)
}
