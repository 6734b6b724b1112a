package keypolicy

import "github.com/ekskms/ekskms/internal/iampolicy"

// AuditKey describes the key that encrypts the audit trail's logs. Empty fields leave
// their statements out.
type AuditKey struct {
	// RootARN is the root of the account.
	RootARN string
	// TrailARN is the trail whose logs the key encrypts.
	TrailARN string
	// LogGroupARN is the log group that has a copy of the trail, and LogsService the
	// service principal of CloudWatch Logs there. Without one there is no copy.
	LogGroupARN, LogsService string
	// ReaderARNs are the roles that may decrypt the logs.
	ReaderARNs []string
}

// Statements returns the whole policy of the audit key.
func (k AuditKey) Statements() []iampolicy.Statement {
	statements := []iampolicy.Statement{Account(k.RootARN, false)}
	trail := iampolicy.Principal{Service: iampolicy.Values{"cloudtrail.amazonaws.com"}}
	if k.TrailARN != "" {
		// Source: AWS CloudTrail User Guide, "Configure AWS KMS key policies
		// for CloudTrail".
		statements = append(statements,
			iampolicy.Statement{
				Sid:       "TrailDescribe",
				Effect:    iampolicy.Allow,
				Principal: trail,
				Action:    iampolicy.Values{"kms:DescribeKey"},
				Resource:  onKey(),
				Condition: iampolicy.Condition{"StringEquals": {"aws:SourceArn": {k.TrailARN}}},
			},
			iampolicy.Statement{
				Sid:       "TrailEncryptsLogs",
				Effect:    iampolicy.Allow,
				Principal: trail,
				Action:    iampolicy.Values{"kms:GenerateDataKey*"},
				Resource:  onKey(),
				Condition: iampolicy.Condition{"StringEquals": {
					"aws:SourceArn": {k.TrailARN},
					"kms:EncryptionContext:aws:cloudtrail:arn": {k.TrailARN},
				}},
			})
	}
	if k.LogGroupARN != "" {
		statements = append(statements, logGroup("TrailLogGroup", k.LogsService, k.LogGroupARN))
	}
	if len(k.ReaderARNs) > 0 {
		statements = append(statements, LogReaders(k.ReaderARNs)...)
	}
	return statements
}

// TopicKey describes the key that encrypts the alarm topic. It is a key of its own: an
// alarm on the key of the trail has to arrive while that key can't be used.
type TopicKey struct {
	RootARN  string
	TopicARN string
}

// Statements returns the whole policy of the topic's key. Source: Amazon SNS Developer
// Guide, "Enable compatibility between event sources from AWS services and encrypted
// topics". It says that aws:SourceArn and aws:SourceAccount are not supported for
// EventBridge, so the topic is pinned through the encryption context that SNS sends;
// that EventBridge's calls carry it is inferred. SNS itself needs no statement: it uses
// the publisher's permission.
func (k TopicKey) Statements() []iampolicy.Statement {
	return []iampolicy.Statement{
		Account(k.RootARN, false),
		{
			Sid:       "AlarmsThroughTopic",
			Effect:    iampolicy.Allow,
			Principal: iampolicy.Principal{Service: iampolicy.Values{"events.amazonaws.com"}},
			Action:    iampolicy.Values{"kms:Decrypt", "kms:GenerateDataKey*"},
			Resource:  onKey(),
			Condition: iampolicy.Condition{"StringEquals": {
				"kms:EncryptionContext:aws:sns:topicArn": {k.TopicARN},
			}},
		},
	}
}

// LogReaders lets roles decrypt what CloudTrail encrypted, and nothing else.
// Source: AWS CloudTrail User Guide, "Granting decrypt permissions".
func LogReaders(roleARNs []string) []iampolicy.Statement {
	return bySet(iampolicy.Statement{
		Sid:       "LogReaders",
		Effect:    iampolicy.Allow,
		Principal: iampolicy.Principal{AWS: roleARNs},
		Action:    iampolicy.Values{"kms:Decrypt"},
		Resource:  onKey(),
		Condition: iampolicy.Condition{"Null": {
			"kms:EncryptionContext:aws:cloudtrail:arn": {"false"},
		}},
	})
}

// LogGroupKey describes the key that encrypts log groups of CloudWatch Logs.
type LogGroupKey struct {
	RootARN string
	// LogsService is the service principal of CloudWatch Logs in the Region,
	// such as logs.eu-central-1.amazonaws.com.
	LogsService  string
	LogGroupARNs []string
}

// Statements returns the whole policy of the log groups' key.
func (k LogGroupKey) Statements() []iampolicy.Statement {
	return []iampolicy.Statement{
		Account(k.RootARN, false),
		logGroup("LogGroup", k.LogsService, k.LogGroupARNs...),
	}
}

// logGroup lets CloudWatch Logs use a key for these log groups. Source: Amazon
// CloudWatch Logs User Guide, "Encrypt log data in CloudWatch Logs using AWS
// KMS".
func logGroup(sid, service string, arns ...string) iampolicy.Statement {
	return iampolicy.Statement{
		Sid:       sid,
		Effect:    iampolicy.Allow,
		Principal: iampolicy.Principal{Service: iampolicy.Values{service}},
		Action: iampolicy.Values{
			"kms:Decrypt", "kms:DescribeKey", "kms:Encrypt",
			"kms:GenerateDataKey*", "kms:ReEncrypt*",
		},
		Resource:  onKey(),
		Condition: iampolicy.Condition{"ArnEquals": {"kms:EncryptionContext:aws:logs:arn": arns}},
	}
}

// AlarmTopic returns the policy of the alarm topic: EventBridge may publish,
// over TLS, and nobody else is named; owners act through their IAM policies.
// Source: Amazon EventBridge User Guide, "Amazon SNS permissions", whose
// statement has no condition.
func AlarmTopic(topicARN string) []iampolicy.Statement {
	return []iampolicy.Statement{
		{
			Sid:       "AlarmRules",
			Effect:    iampolicy.Allow,
			Principal: iampolicy.Principal{Service: iampolicy.Values{"events.amazonaws.com"}},
			Action:    iampolicy.Values{"sns:Publish"},
			Resource:  iampolicy.Values{topicARN},
		},
		tlsOnly("sns:Publish", topicARN),
	}
}

func tlsOnly(action, arn string) iampolicy.Statement {
	return iampolicy.Statement{
		Sid:       "TLSOnly",
		Effect:    iampolicy.Deny,
		Principal: iampolicy.Principal{AWS: iampolicy.Values{"*"}},
		Action:    iampolicy.Values{action},
		Resource:  iampolicy.Values{arn},
		Condition: iampolicy.Condition{"Bool": {"aws:SecureTransport": {"false"}}},
	}
}

// FallbackTopic returns the policy of the topic that tells of alarms that did not arrive:
// one CloudWatch alarm may publish, over TLS. Source: Amazon CloudWatch User Guide,
// "Notifying users on alarm changes".
func FallbackTopic(topicARN, alarmARN, account string) []iampolicy.Statement {
	return []iampolicy.Statement{
		{
			Sid:       "UndeliveredAlarm",
			Effect:    iampolicy.Allow,
			Principal: iampolicy.Principal{Service: iampolicy.Values{"cloudwatch.amazonaws.com"}},
			Action:    iampolicy.Values{"sns:Publish"},
			Resource:  iampolicy.Values{topicARN},
			Condition: iampolicy.Condition{
				"ArnEquals":    {"aws:SourceArn": {alarmARN}},
				"StringEquals": {"aws:SourceAccount": {account}},
			},
		},
		tlsOnly("sns:Publish", topicARN),
	}
}

// AlarmQueue returns the policy of the queue of alarms that did not arrive: the rules
// whose ARNs match may send to it, over TLS. Source: Amazon EventBridge User Guide, "Using
// dead-letter queues to process undelivered events".
func AlarmQueue(queueARN, ruleARNs string) []iampolicy.Statement {
	return []iampolicy.Statement{
		{
			Sid:       "AlarmRules",
			Effect:    iampolicy.Allow,
			Principal: iampolicy.Principal{Service: iampolicy.Values{"events.amazonaws.com"}},
			Action:    iampolicy.Values{"sqs:SendMessage"},
			Resource:  iampolicy.Values{queueARN},
			Condition: iampolicy.Condition{"ArnLike": {"aws:SourceArn": {ruleARNs}}},
		},
		tlsOnly("sqs:*", queueARN),
	}
}

// AlarmLogGroup returns the resource policy by which EventBridge writes to the log group
// of the alarms. Source: Amazon EventBridge User Guide, "Amazon CloudWatch Logs
// permissions".
func AlarmLogGroup(groupARN, ruleARNs string) []iampolicy.Statement {
	writer := iampolicy.Principal{Service: iampolicy.Values{"events.amazonaws.com", "delivery.logs.amazonaws.com"}}
	return []iampolicy.Statement{
		{
			Sid: "AlarmStreams", Effect: iampolicy.Allow, Principal: writer,
			Action:   iampolicy.Values{"logs:CreateLogStream"},
			Resource: iampolicy.Values{groupARN + ":*"},
		},
		{
			Sid: "AlarmRules", Effect: iampolicy.Allow, Principal: writer,
			Action:    iampolicy.Values{"logs:PutLogEvents"},
			Resource:  iampolicy.Values{groupARN + ":*:*"},
			Condition: iampolicy.Condition{"ArnLike": {"aws:SourceArn": {ruleARNs}}},
		},
	}
}

// FunctionTrust lets Lambda assume a role for functions of one account. Source: the trust
// policies that AWS publishes for functions (aws/agent-toolkit-for-aws). That Lambda sends
// aws:SourceArn too is reported, but not documented, so nothing rests on it.
func FunctionTrust(account string) iampolicy.Statement {
	return iampolicy.Statement{
		Sid:       "FunctionsHere",
		Effect:    iampolicy.Allow,
		Principal: iampolicy.Principal{Service: iampolicy.Values{"lambda.amazonaws.com"}},
		Action:    iampolicy.Values{"sts:AssumeRole"},
		Condition: iampolicy.Condition{"StringEquals": {"aws:SourceAccount": {account}}},
	}
}

// BucketTLS refuses whatever reaches a bucket without TLS, or with an older version.
// The CDK writes the same for a bucket with EnforceSSL and MinimumTLSVersion.
func BucketTLS(bucketARN, version string) []iampolicy.Statement {
	refuse := func(condition iampolicy.Condition) iampolicy.Statement {
		return iampolicy.Statement{
			Effect:    iampolicy.Deny,
			Principal: iampolicy.Principal{AWS: iampolicy.Values{"*"}},
			Action:    iampolicy.Values{"s3:*"},
			Resource:  iampolicy.Values{bucketARN, bucketARN + "/*"},
			Condition: condition,
		}
	}
	return []iampolicy.Statement{
		refuse(iampolicy.Condition{"Bool": {"aws:SecureTransport": {"false"}}}),
		refuse(iampolicy.Condition{"NumericLessThan": {"s3:TlsVersion": {version}}}),
	}
}

// LogBucket returns what CloudTrail needs on the trail's bucket, for this trail
// only. Source: AWS CloudTrail User Guide, "Amazon S3 bucket policy for
// CloudTrail".
func LogBucket(bucketARN, account, trailARN string) []iampolicy.Statement {
	trail := iampolicy.Principal{Service: iampolicy.Values{"cloudtrail.amazonaws.com"}}
	return []iampolicy.Statement{
		{
			Sid:       "TrailReadsBucketACL",
			Effect:    iampolicy.Allow,
			Principal: trail,
			Action:    iampolicy.Values{"s3:GetBucketAcl"},
			Resource:  iampolicy.Values{bucketARN},
			Condition: iampolicy.Condition{"StringEquals": {"aws:SourceArn": {trailARN}}},
		},
		{
			Sid:       "TrailWritesLogs",
			Effect:    iampolicy.Allow,
			Principal: trail,
			Action:    iampolicy.Values{"s3:PutObject"},
			Resource:  iampolicy.Values{bucketARN + "/AWSLogs/" + account + "/*"},
			Condition: iampolicy.Condition{"StringEquals": {
				"aws:SourceArn": {trailARN},
				"s3:x-amz-acl":  {"bucket-owner-full-control"},
			}},
		},
	}
}
