package ekskms

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudtrail"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssnssubscriptions"
	"github.com/aws/aws-cdk-go/awscdk/v2/interfaces/interfacesawscloudtrail"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/names"
	"github.com/ekskms/ekskms/internal/tamper"
)

// AuditTrailProps configures an [AuditTrail].
type AuditTrailProps struct {
	// SecretsKey is the key whose use is recorded and whose tampering raises an
	// alarm. Required.
	SecretsKey *SecretsKey
	// ExistingTrail records the use of the key instead of a new trail. It must
	// record management events, read and write, without excluding
	// kms.amazonaws.com, in the Region of the key: that can't be checked from
	// here. Of an awscloudtrail.Trail, pass Node().DefaultChild() as a
	// CfnTrail; of an ARN, CfnTrail_FromTrailArn.
	// Default: a new multi-Region trail.
	ExistingTrail interfacesawscloudtrail.ITrailRef
	// Retention is how long the new trail's logs are kept, in whole days.
	// Default: 365 days.
	Retention awscdk.Duration
	// CloudWatchLogs sends a copy of the new trail to a log group, encrypted under
	// the key of the trail, and keeps it for so long. CloudWatch Logs decrypts for
	// whoever IAM lets read the group: Readers does not limit them. It costs the
	// ingestion of every management event of the account.
	// Default: no copy.
	CloudWatchLogs awslogs.RetentionDays
	// Readers may decrypt the new trail's logs. Nobody else can, the account
	// root included; but see CloudWatchLogs. They need s3:GetObject on the bucket
	// besides.
	// Default: nobody.
	Readers *[]awsiam.IRole
	// ExistingTopic receives the alarms instead of a new topic. Its policy must
	// let events.amazonaws.com publish, and so must the policy of its key.
	// Default: a new, encrypted topic.
	ExistingTopic awssns.ITopic
	// Emails are subscribed to the new topic. Each address must confirm the
	// subscription by mail.
	// Default: none.
	Emails *[]*string
}

// AuditTrail puts every use of a [SecretsKey] on record, and raises an alarm
// when somebody tampers with the key or with the record.
//
// A new trail covers all Regions and all management events, read and write,
// with nothing excluded, and validates its log files. Its logs are encrypted
// under a key of their own and kept in a bucket that is versioned, closed to
// the public and retained when the stack is deleted.
//
// The alarms are EventBridge rules on API calls that CloudTrail reports, to one
// encrypted SNS topic.
type AuditTrail struct {
	constructs.Construct
	secretsKey          *SecretsKey
	trailARN, trailName string
	trail               awscloudtrail.Trail // nil for an existing one
	bucket              awss3.Bucket        // nil for an existing trail
	key                 awskms.Key          // nil if there is nothing to encrypt
	topic               awssns.ITopic
}

const auditTrailType = "AuditTrail"

// NewAuditTrail makes the trail and the alarms.
//
// It panics with a [*PropError] when SecretsKey is missing or in another account
// or Region, when Retention is not a whole number of days, and when a prop of a
// new trail or topic is set beside an existing one.
func NewAuditTrail(scope constructs.Construct, id *string, props *AuditTrailProps) *AuditTrail {
	if props == nil {
		props = &AuditTrailProps{}
	}
	require(auditTrailType, "SecretsKey", props.SecretsKey != nil)
	if props.ExistingTrail != nil && (props.Retention != nil || props.Readers != nil || props.CloudWatchLogs != "") {
		reject(auditTrailType, "Retention, Readers or CloudWatchLogs", "is set beside ExistingTrail, but belongs to its owner: remove it")
	}
	if props.ExistingTopic != nil && props.Emails != nil {
		reject(auditTrailType, "Emails", "is set beside ExistingTopic, but belongs to its owner: remove it")
	}

	a := &AuditTrail{secretsKey: props.SecretsKey}
	constructs.NewConstruct_Override(a, scope, id)
	cluster := props.SecretsKey.clusterName
	at := placeOf(a)
	if !at.sameEnvironment(props.SecretsKey.at) {
		reject(auditTrailType, "SecretsKey", "is in a stack of another account or Region: what is done to the key is an event there, so make the AuditTrail there")
	}

	keyPolicy := keypolicy.AuditKey{Partition: at.partition, Account: at.account, ReaderARNs: roleARNs(auditTrailType, "Readers", props.Readers)}
	if props.ExistingTrail != nil {
		ref := props.ExistingTrail.TrailRef()
		a.trailName = *ref.TrailName
		a.trailARN = at.arn("cloudtrail", "trail/"+a.trailName)
		if ref.TrailArn != nil {
			a.trailARN = *ref.TrailArn
		}
		a.warnOfHomeRegion(at)
	} else {
		// The names are fixed so that the key's policy can name the ARNs before
		// the trail and the topic, which need the key, are made.
		a.trailName = names.Trail(cluster, at.region)
		a.trailARN = at.arn("cloudtrail", "trail/"+a.trailName)
		keyPolicy.TrailARN = a.trailARN
		if props.CloudWatchLogs != "" {
			keyPolicy.LogsService = at.service("logs")
			keyPolicy.LogGroupARN = at.arn("logs", "log-group:"+names.TrailLogGroup(cluster))
		}
	}
	topicName := names.Topic(cluster)
	if props.ExistingTopic == nil {
		keyPolicy.TopicARN = at.arn("sns", topicName)
	}
	if keyPolicy.TrailARN != "" || keyPolicy.TopicARN != "" {
		a.key = newSupportKey(a, "Key", names.AuditAlias(cluster), awscdk.RemovalPolicy_RETAIN,
			"Encrypts the audit trail and the alarms of EKS cluster "+cluster, keyPolicy.Statements())
	}
	if props.ExistingTrail == nil {
		a.createTrail(at, props.Retention, props.CloudWatchLogs)
	}
	a.topic = props.ExistingTopic
	if a.topic == nil {
		a.createTopic(cluster, topicName, keyPolicy.TopicARN, props.Emails)
	} else {
		warn(a, "existing-topic-policy",
			"The policy of the existing alarm topic can't be changed from here. It must allow sns:Publish to "+
				"events.amazonaws.com; if the topic is encrypted, its key must allow kms:Decrypt and kms:GenerateDataKey* to it. "+
				"Without that no alarm arrives.")
	}
	a.createAlarms(cluster, props.SecretsKey)
	return a
}

// warnOfHomeRegion says when nobody will see that the trail is tampered with: the
// calls are events of the trail's home Region, the rules are in this one.
func (a *AuditTrail) warnOfHomeRegion(at place) {
	home := *at.stack.SplitArn(jsii.String(a.trailARN), awscdk.ArnFormat_SLASH_RESOURCE_NAME).Region
	if *awscdk.Token_IsUnresolved(jsii.String(home)) || *awscdk.Token_IsUnresolved(jsii.String(at.region)) || home == at.region {
		return
	}
	warn(a, "trail-home-region",
		"The existing trail has its home in "+home+". Alarms on the trail itself need rules there: those of this stack, in "+
			at.region+", do not see them.")
}

// newSupportKey makes a key for what surrounds the cluster, with the defaults of
// the secrets key.
func newSupportKey(scope constructs.Construct, id, alias string, removal awscdk.RemovalPolicy, description string, policy []iampolicy.Statement) awskms.Key {
	return awskms.NewKey(scope, jsii.String(id), &awskms.KeyProps{
		Alias:             jsii.String(alias),
		Description:       jsii.String(description),
		EnableKeyRotation: jsii.Bool(true),
		RotationPeriod:    awscdk.Duration_Days(jsii.Number(90)),
		PendingWindow:     awscdk.Duration_Days(jsii.Number(30)),
		RemovalPolicy:     removal,
		Policy:            policyDocument(policy),
	})
}

func (a *AuditTrail) createTrail(at place, retention awscdk.Duration, copied awslogs.RetentionDays) {
	if retention == nil {
		retention = awscdk.Duration_Days(jsii.Number(365))
	}
	checkDays(auditTrailType, "Retention", retention, 1, 36500)
	a.bucket = awss3.NewBucket(a, jsii.String("Logs"), &awss3.BucketProps{
		BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(),
		EnforceSSL:        jsii.Bool(true),
		MinimumTLSVersion: jsii.Number(1.2),
		ObjectOwnership:   awss3.ObjectOwnership_BUCKET_OWNER_ENFORCED,
		Versioned:         jsii.Bool(true),
		RemovalPolicy:     awscdk.RemovalPolicy_RETAIN,
		// CloudTrail asks for its key with every object that it writes. A
		// default key here would apply to whatever arrives without that, whose
		// encryption context the key's policy does not allow.
		Encryption: awss3.BucketEncryption_S3_MANAGED,
		LifecycleRules: &[]*awss3.LifecycleRule{{
			Id:                                  jsii.String("Retention"),
			Enabled:                             jsii.Bool(true),
			Expiration:                          retention,
			NoncurrentVersionExpiration:         retention,
			AbortIncompleteMultipartUploadAfter: awscdk.Duration_Days(jsii.Number(7)),
		}},
	})
	policy := a.bucket.Policy()
	policy.Document().AddStatements(policyStatements(keypolicy.LogBucket(*a.bucket.BucketArn(), at.account, a.trailARN))...)
	// The policy goes on guarding the bucket when the stack is gone.
	policy.ApplyRemovalPolicy(awscdk.RemovalPolicy_RETAIN)

	props := &awscloudtrail.TrailProps{
		TrailName: jsii.String(a.trailName),
		// The trail gets the bucket as an imported one, or it would add
		// statements of its own to the policy, without aws:SourceArn.
		Bucket:                     awss3.Bucket_FromBucketName(a, jsii.String("LogsByName"), a.bucket.BucketName()),
		EncryptionKey:              a.key,
		EnableFileValidation:       jsii.Bool(true),
		IsMultiRegionTrail:         jsii.Bool(true),
		IncludeGlobalServiceEvents: jsii.Bool(true),
		ManagementEvents:           awscloudtrail.ReadWriteType_ALL,
	}
	if copied != "" {
		props.SendToCloudWatchLogs = jsii.Bool(true)
		props.CloudWatchLogGroup = awslogs.NewLogGroup(a, jsii.String("TrailCopy"), &awslogs.LogGroupProps{
			LogGroupName:  jsii.String(names.TrailLogGroup(a.secretsKey.clusterName)),
			Retention:     copied,
			EncryptionKey: a.key,
			RemovalPolicy: awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE,
		})
	}
	a.trail = awscloudtrail.NewTrail(a, jsii.String("Trail"), props)
	a.trail.Node().AddDependency(policy)
}

func (a *AuditTrail) createTopic(cluster, name, arn string, emails *[]*string) {
	topic := awssns.NewTopic(a, jsii.String("Alarms"), &awssns.TopicProps{
		TopicName:   jsii.String(name),
		DisplayName: jsii.String(names.TopicDisplay(cluster)),
		MasterKey:   a.key,
	})
	policy := awssns.NewTopicPolicy(a, jsii.String("AlarmsPolicy"), &awssns.TopicPolicyProps{
		Topics: &[]awssns.ITopic{topic},
	})
	policy.Document().AddStatements(policyStatements(keypolicy.AlarmTopic(arn))...)
	if emails != nil {
		for _, address := range *emails {
			topic.AddSubscription(awssnssubscriptions.NewEmailSubscription(address, nil))
		}
	}
	a.topic = topic
}

func (a *AuditTrail) createAlarms(cluster string, key *SecretsKey) {
	in := tamper.Input{
		ClusterName: cluster,
		KeyARN:      key.arn,
		CreatorARNs: key.creatorARNs,
		TrailName:   a.trailName,
		TrailARN:    a.trailARN,
	}
	if key.alias != nil {
		in.AliasARN = key.at.arn("kms", *key.alias)
	}
	if a.key != nil {
		in.AuditKeyARN = *a.key.KeyArn()
	}
	paths, topic := stringMap(tamper.Paths()), a.topic.TopicArn()
	for _, rule := range tamper.Rules(in) {
		awsevents.NewCfnRule(a, jsii.String("Alarm"+rule.ID), &awsevents.CfnRuleProps{
			Description:  jsii.String(rule.Description),
			State:        jsii.String("ENABLED"),
			EventPattern: rule.Pattern,
			Targets: []*awsevents.CfnRule_TargetProperty{{
				Id:  jsii.String("Topic"),
				Arn: topic,
				InputTransformer: &awsevents.CfnRule_InputTransformerProperty{
					InputPathsMap: paths,
					InputTemplate: jsii.String(rule.Template),
				},
			}},
		})
	}
}

// GrantRead lets a principal read and decrypt the new trail's logs. For an
// existing trail it does nothing: its owner grants that.
func (a *AuditTrail) GrantRead(role awsiam.IRole) {
	if a.bucket == nil {
		return
	}
	a.bucket.GrantRead(role, nil)
	read := keypolicy.LogReaders([]string{*role.RoleArn()})
	read.Sid = "" // there may be many, and a Sid is unique
	a.key.AddToResourcePolicy(policyStatement(read), jsii.Bool(false))
}

// TrailArn returns the ARN of the trail.
func (a *AuditTrail) TrailArn() *string { return jsii.String(a.trailARN) }

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

// Key returns the key that encrypts the logs and the alarms, or nil if neither
// is made here.
func (a *AuditTrail) Key() awskms.IKey {
	if a.key == nil {
		return nil
	}
	return a.key
}

// Topic returns the topic that receives the alarms.
func (a *AuditTrail) Topic() awssns.ITopic { return a.topic }
