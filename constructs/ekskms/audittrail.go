package ekskms

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudtrail"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssnssubscriptions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/aws-cdk-go/awscdk/v2/interfaces/interfacesawscloudtrail"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/tamper"
)

// IAuditTrail is an [AuditTrail], made in this app or elsewhere. No other type
// implements it.
type IAuditTrail interface {
	constructs.IConstruct
	// TrailArn is the ARN of the trail.
	TrailArn() *string
	// Topic receives the alarms.
	Topic() awssns.ITopic
	// GrantRead lets a principal read and decrypt the trail's logs.
	GrantRead(grantee awsiam.IGrantable) awsiam.Grant

	// watches tells whether it watches over the key, as far as that is known.
	watches(key *SecretsKey) bool
	// raise makes the rules of further alarms in a scope.
	raise(scope constructs.Construct, specs []tamper.Rule)
	// recordFunctions has a new trail record each invocation of Lambda functions.
	recordFunctions(arns []string)
}

// AuditTrailProps configures an [AuditTrail].
type AuditTrailProps struct {
	// SecretsKey is the key whose use is recorded and whose tampering raises an
	// alarm. Required.
	SecretsKey ISecretsKey
	// ExistingTrail records the use of the key instead of a new trail. It must
	// record management events, read and write, without excluding
	// kms.amazonaws.com, in the Region of the key: that can't be checked from
	// here. Of an awscloudtrail.Trail, pass Node().DefaultChild() as a
	// CfnTrail; of an ARN, CfnTrail_FromTrailArn.
	// Default: a new multi-Region trail.
	ExistingTrail interfacesawscloudtrail.ITrailRef
	// Retention is how long the new trail's logs are retained, in whole days.
	// Default: 365 days.
	Retention awscdk.Duration
	// CloudWatchLogs sends a copy of the new trail to a log group, encrypted under
	// the key of the trail, that retains it for this time. CloudWatch Logs decrypts for
	// any principal that IAM lets read the group: Readers does not limit them. It
	// costs the ingestion of every management event of the account.
	// Default: no copy.
	CloudWatchLogs awslogs.RetentionDays
	// Readers may decrypt the new trail's logs. Nobody else can, the account
	// root included; but see CloudWatchLogs. They need s3:GetObject on the bucket
	// besides. Roles or users, also by their ARNs as awsiam.ArnPrincipal.
	// Default: nobody.
	Readers *[]awsiam.IGrantable
	// ExistingTopic receives the alarms instead of the new topics. Its policy must
	// let events.amazonaws.com and cloudwatch.amazonaws.com publish, and so must the
	// policy of its key.
	// Default: a new, encrypted topic.
	ExistingTopic awssns.ITopic
	// Emails are subscribed to the new topics. Each address must confirm both
	// subscriptions by mail.
	// Default: none.
	Emails *[]*string
}

// AuditTrail puts every use of a [SecretsKey] on record, and raises an alarm
// when somebody tampers with the key or with the record.
//
// A new trail covers all Regions and all management events, read and write,
// with nothing excluded, and validates its log files. Its logs are encrypted
// under a key of their own and lie in a bucket that is versioned, closed to
// the public and retained when the stack is deleted.
//
// The alarms are EventBridge rules on API calls that CloudTrail reports, to one
// SNS topic under a key of its own, and to a log group without a customer key. What can't
// be delivered goes to a queue, of which a second topic tells. OnTampering adds further
// targets.
type AuditTrail struct {
	constructs.Construct
	c        blueprint.Cluster
	watch    *SecretsKey
	trail    awscloudtrail.Trail // nil for an existing one
	bucket   awss3.Bucket        // nil for an existing trail
	key      awskms.Key          // nil for an existing trail
	topic    awssns.ITopic
	topicKey awskms.Key    // nil for an existing topic
	fallback awssns.ITopic // tells of alarms that did not arrive
	queue    awssqs.Queue
	log      awslogs.LogGroup
	alarms   alarms
	others   []target
}

// alarm is a rule with its targets.
type alarm struct {
	rule    awsevents.CfnRule
	targets []any // *awsevents.CfnRule_TargetProperty
}

type alarms []*alarm

// target is one beside those that every alarm has.
type target struct {
	id string
	to awsevents.IRuleTarget
}

const auditTrailType = "AuditTrail"

// NewAuditTrail makes the trail and the alarms.
//
// It panics with a [*PropError] when SecretsKey is missing or in another account
// or Region, when Retention is not a whole number of days, when a Reader is not one
// IAM principal, and when a prop of a new trail or topic is set beside an existing one.
func NewAuditTrail(scope constructs.Construct, id *string, props *AuditTrailProps) *AuditTrail {
	if props == nil {
		props = &AuditTrailProps{}
	}
	require(auditTrailType, "SecretsKey", props.SecretsKey != nil)
	props.check(auditTrailType)
	key := props.SecretsKey.secretsKey()
	a := &AuditTrail{watch: key, c: key.c, topic: props.ExistingTopic}
	constructs.NewConstruct_Override(a, scope, id)
	at := siteOf(a)
	if !at.sameEnvironment(key.site) {
		reject(auditTrailType, "SecretsKey", "is in a stack of another account or Region: what is done to the key is an event there, so make the AuditTrail there")
	}
	a.c.At = at.Place
	a.make(props)
	a.raise(a, a.c.Alarms())
	if a.trail != nil {
		a.Node().SetDefaultChild(a.trail)
	} else {
		a.Node().SetDefaultChild(a.alarms[0].rule)
	}
	return a
}

// make makes all but the alarms.
func (a *AuditTrail) make(props *AuditTrailProps) {
	a.c.Audit = blueprint.Audit{Readers: principalARNs(auditTrailType, "Readers", props.Readers)}
	if props.CloudWatchLogs != "" {
		a.c.Audit.CloudWatchLogsRetentionDays = place.LogDays(string(props.CloudWatchLogs))
	}
	if a.topic != nil {
		a.c.Audit.TopicARN = *a.topic.TopicArn()
	}
	if props.ExistingTrail != nil {
		ref := props.ExistingTrail.TrailRef()
		a.c.Refs.TrailName = token(*ref.TrailName)
		a.c.Audit.TrailARN = *orDefault(ref.TrailArn, a.c.At.ARN("cloudtrail", "trail/"+*ref.TrailName))
		a.warnOfHomeRegion()
	}

	if spec, needed := a.c.AuditKey(); needed {
		a.key = newSupportKey(a, "Key", spec)
		a.c.Refs.AuditKey = token(*a.key.KeyArn())
		a.createTrail(props)
		a.c.Refs.Bucket = token(*a.bucket.BucketName())
	}
	if spec, needed := a.c.TopicKey(); needed {
		a.topicKey = newSupportKey(a, "AlarmsKey", spec)
		a.c.Refs.TopicKey = token(*a.topicKey.KeyArn())
		a.createTopics(props.Emails)
	} else {
		a.fallback = a.topic
		warn(a, "existing-topic-policy",
			"The policy of the existing alarm topic can't be changed from here. It must allow sns:Publish to "+
				"events.amazonaws.com and to cloudwatch.amazonaws.com; if the topic is encrypted, its key must allow kms:Decrypt and "+
				"kms:GenerateDataKey* to both. Without that no alarm arrives.")
	}
	a.createWaysOut()
}

// check refuses what belongs to the owner of an existing trail or topic.
func (props *AuditTrailProps) check(typ string) {
	if props.ExistingTrail != nil && (props.Retention != nil || props.Readers != nil || props.CloudWatchLogs != "") {
		reject(typ, "Retention, Readers or CloudWatchLogs", "is set beside ExistingTrail, but belongs to its owner: remove it")
	}
	if props.ExistingTopic != nil && props.Emails != nil {
		reject(typ, "Emails", "is set beside ExistingTopic, but belongs to its owner: remove it")
	}
}

// warnOfHomeRegion says when nobody will see that the trail is tampered with: the
// calls are events of the trail's home Region, the rules are in this one.
func (a *AuditTrail) warnOfHomeRegion() {
	arn, ok := place.ParseARN(a.c.Audit.TrailARN)
	here := a.c.At.Region
	if home := token(arn.Region); !ok || !home.Known() || !here.Known() || arn.Region == here.Text() {
		return
	}
	if there := (blueprint.Cluster{Name: a.c.Name, At: a.c.At}); a.c.Shared {
		there.At.Region = token(arn.Region)
		if there.Trail().ARN == a.c.Audit.TrailARN {
			return // that of the shared one there, which has the rules
		}
	}
	warn(a, "trail-home-region",
		"The existing trail has its home in "+arn.Region+". Alarms on the trail itself need rules there: those of this stack, in "+
			here.Text()+", do not see them.")
}

// newSupportKey makes a key for what surrounds the cluster.
func newSupportKey(scope constructs.Construct, id string, spec blueprint.KeySpec) awskms.Key {
	removal := awscdk.RemovalPolicy_RETAIN
	if spec.DeleteUnused {
		removal = awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE
	}
	return awskms.NewKey(scope, jsii.String(id), &awskms.KeyProps{
		Alias:             jsii.String(spec.Alias),
		Description:       jsii.String(spec.Description),
		EnableKeyRotation: jsii.Bool(true),
		RotationPeriod:    awscdk.Duration_Days(jsii.Number(spec.RotationDays)),
		PendingWindow:     awscdk.Duration_Days(jsii.Number(spec.PendingDays)),
		RemovalPolicy:     removal,
		Policy:            policyDocument(spec.Statements),
	})
}

func (a *AuditTrail) createTrail(props *AuditTrailProps) {
	retention := days(auditTrailType, "Retention", props.Retention, blueprint.TrailDays)
	spec := a.c.TrailBucket()
	a.bucket = awss3.NewBucket(a, jsii.String("Logs"), &awss3.BucketProps{
		BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(),
		EnforceSSL:        jsii.Bool(true),
		MinimumTLSVersion: jsii.Number(spec.TLS),
		ObjectOwnership:   awss3.ObjectOwnership_BUCKET_OWNER_ENFORCED,
		Versioned:         jsii.Bool(true),
		RemovalPolicy:     awscdk.RemovalPolicy_RETAIN,
		Encryption:        awss3.BucketEncryption_S3_MANAGED,
		LifecycleRules: &[]*awss3.LifecycleRule{{
			Id:                                  jsii.String(spec.RuleID),
			Enabled:                             jsii.Bool(true),
			Expiration:                          retention,
			NoncurrentVersionExpiration:         retention,
			AbortIncompleteMultipartUploadAfter: awscdk.Duration_Days(jsii.Number(spec.UploadDays)),
		}},
	})
	policy := a.bucket.Policy()
	policy.Document().AddStatements(policyStatements(a.c.TrailStatements(*a.bucket.BucketArn()))...)
	// The policy goes on guarding the bucket when the stack is gone.
	policy.ApplyRemovalPolicy(awscdk.RemovalPolicy_RETAIN)

	trail := &awscloudtrail.TrailProps{
		TrailName: jsii.String(a.c.Trail().Name),
		// The trail gets the bucket as an imported one, or it would add
		// statements of its own to the policy, without aws:SourceArn.
		Bucket:                     awss3.Bucket_FromBucketName(a, jsii.String("LogsByName"), a.bucket.BucketName()),
		EncryptionKey:              a.key,
		EnableFileValidation:       jsii.Bool(true),
		IsMultiRegionTrail:         jsii.Bool(true),
		IncludeGlobalServiceEvents: jsii.Bool(true),
		ManagementEvents:           awscloudtrail.ReadWriteType_ALL,
	}
	if group, copied := a.c.TrailCopy(); copied {
		trail.SendToCloudWatchLogs = jsii.Bool(true)
		trail.CloudWatchLogGroup = awslogs.NewLogGroup(a, jsii.String("TrailCopy"), &awslogs.LogGroupProps{
			LogGroupName:  jsii.String(group.Name),
			Retention:     props.CloudWatchLogs,
			EncryptionKey: a.key,
			RemovalPolicy: awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE,
		})
	}
	a.trail = awscloudtrail.NewTrail(a, jsii.String("Trail"), trail)
	a.trail.Node().AddDependency(policy)
}

// createTopics makes the topic of the alarms, and that of the alarms that did not arrive.
func (a *AuditTrail) createTopics(emails *[]*string) {
	create := func(id string, spec blueprint.Topic, key awskms.IKey, statements []iampolicy.Statement) awssns.ITopic {
		topic := awssns.NewTopic(a, jsii.String(id), &awssns.TopicProps{
			TopicName:   jsii.String(spec.Name),
			DisplayName: jsii.String(spec.Display),
			MasterKey:   key,
		})
		policy := awssns.NewTopicPolicy(a, jsii.String(id+"Policy"), &awssns.TopicPolicyProps{
			Topics: &[]awssns.ITopic{topic},
		})
		policy.Document().AddStatements(policyStatements(statements)...)
		for _, address := range *orDefault(emails, nil) {
			topic.AddSubscription(awssnssubscriptions.NewEmailSubscription(address, nil))
		}
		return topic
	}
	topic, fallback := a.c.Topic(), a.c.FallbackTopic()
	a.topic = create("Alarms", topic, a.topicKey, a.c.TopicStatements(topic.ARN))
	a.fallback = create("Undelivered", fallback, nil, a.c.FallbackStatements(fallback.ARN))
}

// createWaysOut makes what an alarm has beside the topic: a log group, and a queue for
// what could not be delivered, with a CloudWatch alarm on it. None needs a customer key.
func (a *AuditTrail) createWaysOut() {
	spec := a.c.AlarmQueue()
	a.queue = awssqs.NewQueue(a, jsii.String("UndeliveredQueue"), &awssqs.QueueProps{
		QueueName:       jsii.String(spec.Name),
		Encryption:      awssqs.QueueEncryption_SQS_MANAGED,
		RetentionPeriod: awscdk.Duration_Days(jsii.Number(spec.Days)),
	})
	policy := awssqs.NewQueuePolicy(a, jsii.String("UndeliveredQueuePolicy"), &awssqs.QueuePolicyProps{Queues: &[]awssqs.IQueue{a.queue}})
	policy.Document().AddStatements(policyStatements(a.c.QueueStatements(*a.queue.QueueArn()))...)

	undelivered := a.c.Undelivered()
	awscloudwatch.NewCfnAlarm(a, jsii.String("UndeliveredAlarm"), &awscloudwatch.CfnAlarmProps{
		AlarmName:          jsii.String(undelivered.Name),
		AlarmDescription:   jsii.String(undelivered.Description),
		Namespace:          jsii.String("AWS/SQS"),
		MetricName:         jsii.String(undelivered.Metric),
		Dimensions:         []any{&awscloudwatch.CfnAlarm_DimensionProperty{Name: jsii.String("QueueName"), Value: a.queue.QueueName()}},
		Statistic:          jsii.String("Maximum"),
		Period:             jsii.Number(undelivered.Seconds),
		EvaluationPeriods:  jsii.Number(1),
		ComparisonOperator: jsii.String("GreaterThanThreshold"),
		Threshold:          jsii.Number(0),
		TreatMissingData:   jsii.String("notBreaching"),
		ActionsEnabled:     jsii.Bool(true),
		AlarmActions:       &[]any{a.fallback.TopicArn()},
	})

	group := a.c.AlarmLog()
	a.log = awslogs.NewLogGroup(a, jsii.String("AlarmLog"), &awslogs.LogGroupProps{
		LogGroupName:  jsii.String(group.Name),
		Retention:     awslogs.RetentionDays(place.LogRetention(group.Days)),
		RemovalPolicy: awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE,
	})
	name, statements := a.c.AlarmLogPolicy()
	document := policyStatements(statements)
	awslogs.NewResourcePolicy(a, jsii.String("AlarmLogPolicy"), &awslogs.ResourcePolicyProps{
		ResourcePolicyName: jsii.String(name),
		PolicyStatements:   &document,
	})
}

// raise makes the rules of alarms, with all targets that the others have.
func (a *AuditTrail) raise(scope constructs.Construct, specs []tamper.Rule) {
	topic, log := alarmTargets(a.topic.TopicArn(), a.c.At.ARN("logs", "log-group:"+*a.log.LogGroupName()), a.queue.QueueArn())
	for _, rule := range newAlarms(scope, specs, topic, log) {
		for _, other := range a.others {
			rule.add(auditTrailType+".OnTampering", other)
		}
		a.alarms = append(a.alarms, rule)
	}
}

// alarmTargets are the topic and the log group of alarms, with the queue for what does not
// reach them.
func alarmTargets(topicARN *string, logARN string, queueARN *string) (topic, log *awsevents.CfnRule_TargetProperty) {
	topic, log = topicTarget(topicARN), &awsevents.CfnRule_TargetProperty{Id: jsii.String("Log"), Arn: jsii.String(logARN)}
	for _, to := range []*awsevents.CfnRule_TargetProperty{topic, log} {
		to.DeadLetterConfig = &awsevents.CfnRule_DeadLetterConfigProperty{Arn: queueARN}
		to.RetryPolicy = &awsevents.CfnRule_RetryPolicyProperty{
			MaximumEventAgeInSeconds: jsii.Number(60 * blueprint.DeliveryMinutes),
			MaximumRetryAttempts:     jsii.Number(blueprint.DeliveryAttempts),
		}
	}
	return topic, log
}

// recordFunctions records what is a data event, and in no trail otherwise.
func (a *AuditTrail) recordFunctions(arns []string) {
	if a.trail == nil {
		return
	}
	values := make([]*string, len(arns))
	for i := range arns {
		values[i] = &arns[i]
	}
	a.trail.AddEventSelector(awscloudtrail.DataResourceType_LAMBDA_FUNCTION, &values, &awscloudtrail.AddEventSelectorOptions{
		IncludeManagementEvents: jsii.Bool(false),
		ReadWriteType:           awscloudtrail.ReadWriteType_ALL,
	})
}

func topicTarget(arn *string) *awsevents.CfnRule_TargetProperty {
	return &awsevents.CfnRule_TargetProperty{Id: jsii.String("Topic"), Arn: arn}
}

func newAlarms(scope constructs.Construct, specs []tamper.Rule, topic *awsevents.CfnRule_TargetProperty, others ...*awsevents.CfnRule_TargetProperty) (made alarms) {
	for _, spec := range specs {
		paths := stringMap(spec.Paths)
		if spec.Paths == nil {
			paths = stringMap(tamper.Paths())
		}
		to := *topic
		to.InputTransformer = &awsevents.CfnRule_InputTransformerProperty{
			InputPathsMap: paths,
			InputTemplate: jsii.String(spec.Template),
		}
		targets := []any{&to}
		for _, other := range others {
			targets = append(targets, other)
		}
		rule := awsevents.NewCfnRule(scope, jsii.String("Alarm"+spec.ID), &awsevents.CfnRuleProps{
			Name:         jsii.String(spec.Name),
			Description:  jsii.String(spec.Description),
			State:        jsii.String("ENABLED"),
			EventPattern: spec.Pattern,
			Targets:      &targets,
		})
		made = append(made, &alarm{rule, targets})
	}
	return made
}

// OnTampering has every alarm go to a further target, such as a Lambda function or a
// queue, beside the topic and the log group. What it gets is the event, unless the target
// says otherwise. EventBridge takes five targets for each rule: three of these.
//
// It panics with a [*PropError] when the target or its ID is missing, or the ID is that
// of another target.
func (a *AuditTrail) OnTampering(id *string, to awsevents.IRuleTarget) {
	a.others = append(a.others, a.alarms.add(auditTrailType, id, to))
}

// add adds a target to all rules.
func (all alarms) add(typ string, id *string, to awsevents.IRuleTarget) target {
	typ += ".OnTampering"
	require(typ, "id", id != nil && *id != "")
	require(typ, "target", to != nil)
	another := target{*id, to}
	for _, rule := range all {
		rule.add(typ, another)
	}
	return another
}

// add adds a target to a rule.
func (a *alarm) add(typ string, another target) {
	const most = 5
	for _, other := range a.targets {
		if *other.(*awsevents.CfnRule_TargetProperty).Id == another.id {
			reject(typ, "id", "is %q, which is that of another target: give it one of its own", another.id)
		}
	}
	if len(a.targets) == most {
		reject(typ, "target", "is one too many: EventBridge takes %d for each rule, the topic and the log group among them", most)
	}
	a.targets = append(a.targets, targetProperty(another.id, another.to.Bind(a.rule, &another.id), a.rule))
	a.rule.SetTargets(&a.targets)
}

// targetProperty is what a target has to say to a rule, in CloudFormation's form.
func targetProperty(id string, c *awsevents.RuleTargetConfig, rule awsevents.CfnRule) *awsevents.CfnRule_TargetProperty {
	p := &awsevents.CfnRule_TargetProperty{Id: jsii.String(id), Arn: c.Arn}
	// A pointer that is nil is no nil interface.
	set := func(to *any, given bool, value any) {
		if given {
			*to = value
		}
	}
	set(&p.AppSyncParameters, c.AppSyncParameters != nil, c.AppSyncParameters)
	set(&p.BatchParameters, c.BatchParameters != nil, c.BatchParameters)
	set(&p.DeadLetterConfig, c.DeadLetterConfig != nil, c.DeadLetterConfig)
	set(&p.EcsParameters, c.EcsParameters != nil, c.EcsParameters)
	set(&p.HttpParameters, c.HttpParameters != nil, c.HttpParameters)
	set(&p.KinesisParameters, c.KinesisParameters != nil, c.KinesisParameters)
	set(&p.RedshiftDataParameters, c.RedshiftDataParameters != nil, c.RedshiftDataParameters)
	set(&p.RetryPolicy, c.RetryPolicy != nil, c.RetryPolicy)
	set(&p.RunCommandParameters, c.RunCommandParameters != nil, c.RunCommandParameters)
	set(&p.SqsParameters, c.SqsParameters != nil, c.SqsParameters)
	if c.Role != nil {
		p.RoleArn = c.Role.RoleArn()
	}
	if c.Input != nil {
		input := c.Input.Bind(rule)
		p.Input, p.InputPath = input.Input, input.InputPath
		if input.InputTemplate != nil {
			p.InputTransformer = &awsevents.CfnRule_InputTransformerProperty{InputPathsMap: input.InputPathsMap, InputTemplate: input.InputTemplate}
		}
	}
	return p
}

// GrantRead lets a principal read and decrypt the new trail's logs. For an
// existing trail it gives nothing, and a warning says so: its owner grants that.
func (a *AuditTrail) GrantRead(grantee awsiam.IGrantable) awsiam.Grant {
	if a.bucket == nil {
		return cannotRead(a, grantee)
	}
	given := a.bucket.GrantRead(grantee, nil)
	for _, read := range keypolicy.LogReaders([]string{principalARN(auditTrailType+".GrantRead", "grantee", grantee)}) {
		read.Sid = "" // there may be many, and a Sid is unique
		a.key.AddToResourcePolicy(policyStatement(read), jsii.Bool(false))
	}
	return given
}

func cannotRead(trail constructs.Construct, grantee awsiam.IGrantable) awsiam.Grant {
	warn(trail, "existing-trail-read", "GrantRead gave nothing: the trail was made elsewhere, and its bucket and key are its owner's to open.")
	return awsiam.Grant_Drop(grantee, jsii.String("read the logs of an existing trail"))
}

// TrailArn returns the ARN of the trail.
func (a *AuditTrail) TrailArn() *string { return jsii.String(a.c.Trail().ARN) }

// Trail returns the new trail, or nil if an existing one is used.
func (a *AuditTrail) Trail() awscloudtrail.Trail { return a.trail }

// Bucket returns the bucket of the new trail's logs, or nil if an existing
// trail is used.
func (a *AuditTrail) Bucket() awss3.IBucket {
	if a.bucket == nil {
		return nil
	}
	return a.bucket
}

// Key returns the key that encrypts the logs, or nil if an existing trail is used.
func (a *AuditTrail) Key() awskms.IKey {
	if a.key == nil {
		return nil
	}
	return a.key
}

// TopicKey returns the key that encrypts the alarms, or nil if an existing topic is used.
func (a *AuditTrail) TopicKey() awskms.IKey {
	if a.topicKey == nil {
		return nil
	}
	return a.topicKey
}

// Topic returns the topic that receives the alarms.
func (a *AuditTrail) Topic() awssns.ITopic { return a.topic }

// watches is false for a shared one: the alarms on a cluster are in another stack.
func (a *AuditTrail) watches(key *SecretsKey) bool { return a.watch == key && !a.c.Shared }

// AuditTrailAttributes describe an [AuditTrail] that was made elsewhere.
type AuditTrailAttributes struct {
	// TrailArn is the ARN of the trail. Required.
	TrailArn *string
	// TopicArn is the ARN of the topic that receives the alarms. Required.
	TopicArn *string
}

// AuditTrail_FromAuditTrailAttributes refers to an [AuditTrail] that was made elsewhere,
// where it watches over the key: nothing is made here.
//
// It panics with a [*PropError] when an attribute is missing.
func AuditTrail_FromAuditTrailAttributes(scope constructs.Construct, id *string, attrs *AuditTrailAttributes) IAuditTrail {
	if attrs == nil {
		attrs = &AuditTrailAttributes{}
	}
	require(auditTrailType, "TrailArn", attrs.TrailArn != nil)
	require(auditTrailType, "TopicArn", attrs.TopicArn != nil)
	t := &importedTrail{trailARN: attrs.TrailArn}
	constructs.NewConstruct_Override(t, scope, id)
	t.topic = awssns.Topic_FromTopicArn(t, jsii.String("Topic"), attrs.TopicArn)
	return t
}

type importedTrail struct {
	constructs.Construct
	trailARN *string
	topic    awssns.ITopic
	// shared tells that a [SharedAlarms] has the alarms of the cluster too.
	shared bool
}

func (t *importedTrail) TrailArn() *string    { return t.trailARN }
func (t *importedTrail) Topic() awssns.ITopic { return t.topic }

func (t *importedTrail) GrantRead(grantee awsiam.IGrantable) awsiam.Grant {
	return cannotRead(t, grantee)
}

func (t *importedTrail) watches(*SecretsKey) bool { return true }

func (t *importedTrail) raise(scope constructs.Construct, specs []tamper.Rule) {
	if !t.shared {
		newAlarms(scope, specs, topicTarget(t.topic.TopicArn()))
	}
}

func (t *importedTrail) recordFunctions([]string) {}
