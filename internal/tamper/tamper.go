// Package tamper says, as data, which API calls on a cluster, its key and its record
// raise an alarm, and what the alarm tells the person who reads it.
//
// EventBridge has native events for few of these calls, so the patterns match
// "AWS API Call via CloudTrail", which needs a trail that records management
// events in the Region. Sources: AWS KMS Developer Guide, "Logging AWS KMS API calls
// with AWS CloudTrail", for the fields of the events on keys; for the names of the
// others, which a search in the trail needs in full, the pages on CloudTrail in the
// guides of Lambda (whose names carry a date), Amazon S3 (PutBucketLifecycle for
// PutBucketLifecycleConfiguration), CloudWatch Logs, SNS and EventBridge. EKS writes
// the name of the cluster as requestParameters.name: seen in the published events of
// Stratus Red Team; its older guide has clusterName, so both are matched.
//
// Strings may hold CloudFormation tokens: nothing here looks inside them.
package tamper

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Input says what is watched. What is empty is not there, and not watched.
type Input struct {
	ClusterName string
	KeyARN      string
	// KeyAlone tells that the cluster is in another account, whose events are not here.
	KeyAlone bool
	// AliasARN is the alias of the key.
	AliasARN string
	// TrailName and TrailARN name the trail; CloudTrail's API takes both.
	TrailName, TrailARN string
	// BucketName is the bucket of the trail's logs.
	BucketName string
	// LogGroups are the names of the log groups that hold the record.
	LogGroups []string
	// AuditKeyARNs are the keys of the trail and of the alarms.
	AuditKeyARNs []string
	// LogsKeyARN is the key of the control plane's logs.
	LogsKeyARN string
	// TopicARNs are the topics of the alarms.
	TopicARNs []string
	// MetricAlarm is the name of the CloudWatch alarm on alarms that did not arrive.
	MetricAlarm string
	// RulePrefix is how the names of the alarms' rules begin; their IDs follow.
	RulePrefix string
	// Shared tells that this is what several clusters share, and no cluster: the clusters
	// are in [FleetRules].
	Shared bool
	// HandlerNames are the names of the Lambda functions that apply Kubernetes objects.
	HandlerNames []string
	// RoleNames are the names of IAM roles, without their paths, and RolePrefixes how those
	// of others begin: see [RoleRules].
	RoleNames, RolePrefixes []string
}

// Rule is one alarm.
type Rule struct {
	// ID is stable; renderers derive resource names from it.
	ID string
	// Name is that of the EventBridge rule.
	Name string
	// Description is for the list of rules in the console.
	Description string
	// Pattern is the EventBridge event pattern.
	Pattern map[string]any
	// Paths are the placeholders of the Template and the fields of the event that stand for
	// them. Nil for those of [Paths].
	Paths map[string]string
	// Template is the text of the message, with <placeholders>, in the syntax
	// of an EventBridge input template: each line in double quotes.
	Template string
}

// Paths maps the placeholders of the templates to the fields of the event. A
// field that an event lacks leaves an empty place.
func Paths() map[string]string {
	return map[string]string{
		"action":  "$.detail.eventName",
		"who":     "$.detail.userIdentity.arn",
		"service": "$.detail.userIdentity.invokedBy",
		// Callers of another account have no arn in the event.
		"principal": "$.detail.userIdentity.principalId",
		"caller":    "$.detail.userIdentity.accountId",
		"from":      "$.detail.sourceIPAddress",
		"when":      "$.detail.eventTime",
		"account":   "$.account",
		"region":    "$.region",
		"event":     "$.detail.eventID",
		"error":     "$.detail.errorCode",
	}
}

// RolePath is the field of an event for the further placeholder <role> of [RoleRules].
const RolePath = "$.detail.requestParameters.roleName"

type spec struct {
	id, what, danger, todo string
	sources                []string
	events                 []string
	filter                 map[string]any
}

// What is done to the rules of the alarms, and to a key that others need.
var (
	ruleEvents   = []string{"DeleteRule", "DisableRule", "PutRule", "PutTargets", "RemoveTargets"}
	auditEvents  = []string{"DisableKey", "ScheduleKeyDeletion", "PutKeyPolicy", "CreateGrant"}
	accessEvents = []string{
		"CreateAccessEntry", "UpdateAccessEntry", "DeleteAccessEntry", "AssociateAccessPolicy", "DisassociateAccessPolicy",
		"AssociateIdentityProviderConfig", "DisassociateIdentityProviderConfig",
		"CreatePodIdentityAssociation", "UpdatePodIdentityAssociation", "DeletePodIdentityAssociation",
		"CreateCapability", "UpdateCapability", "DeleteCapability", // their roles get access entries by themselves
		"UpdateClusterConfig", "CreateAddon", "UpdateAddon", "DeleteAddon", "DeleteCluster",
	}
	recordEvents = []string{
		"PutBucketPolicy", "DeleteBucketPolicy", "PutBucketLifecycle", "DeleteBucketLifecycle", "PutBucketVersioning",
		"PutBucketEncryption", "DeleteBucketEncryption", "PutBucketPublicAccessBlock", "DeleteBucketPublicAccessBlock",
		"PutBucketAcl", "PutBucketOwnershipControls", "DeleteBucketOwnershipControls", "PutBucketReplication", "DeleteBucket",
		"DeleteLogGroup", "DeleteLogStream", "PutRetentionPolicy", "DeleteRetentionPolicy", "AssociateKmsKey", "DisassociateKmsKey",
		"PutSubscriptionFilter",
	}
	roleEvents = []string{
		"UpdateAssumeRolePolicy", "TagRole", "UntagRole", "AttachRolePolicy", "DetachRolePolicy", "PutRolePolicy", "DeleteRolePolicy",
		"PutRolePermissionsBoundary", "DeleteRolePermissionsBoundary", "CreateRole", "DeleteRole",
	}
	handlerEvents = []string{
		"UpdateFunctionCode20150331v2", "UpdateFunctionConfiguration20150331v2", "AddPermission20150331v2", "RemovePermission20150331v2",
		"CreateFunctionUrlConfig", "UpdateFunctionUrlConfig", "CreateEventSourceMapping20150331", "PutFunctionEventInvokeConfig", "DeleteFunction20150331",
	}
)

// Rules returns the alarms for what is watched, always in the same order. An input
// without a key gives those of the rest.
func Rules(in Input) []Rule {
	var rules []Rule
	for _, s := range specs(in) {
		rules = append(rules, s.rule(in, in.ClusterName))
	}
	return rules
}

func specs(in Input) []spec { return append(keySpecs(in), otherSpecs(in)...) }

// MaxPattern is the size of a pattern, in characters. Source: Amazon EventBridge User Guide,
// "Amazon EventBridge quotas".
const MaxPattern = 2048

// RoleRules are the alarms on roles that may use the key, the cluster or the record. IAM is
// global, and its events are in one Region of a partition: only rules there hear them, so
// these are for a stack of their own. There are as many as the names take, since a pattern
// has [MaxPattern] characters.
func RoleRules(in Input) (rules []Rule) {
	const room = 1300 // of the names, with quotes and comma each
	var chunk []any
	size := 0
	flush := func() {
		if len(chunk) == 0 {
			return
		}
		id := "RolesChanged"
		if n := len(rules) + 1; n > 1 {
			id += strconv.Itoa(n)
		}
		rule := spec{
			id: id, sources: []string{"iam"}, events: roleEvents, filter: asks(map[string]any{"roleName": chunk}),
			what:   "A role that may use the key, the cluster or its record was changed, deleted or made again.",
			danger: "Others may now act as that role, or it may do more than before. A role that is deleted and made again loses its rights in a key policy.",
			todo:   "If this was not a deployment of yours, compare its trust policy, its policies and its tags with the template.",
		}.rule(in, in.ClusterName)
		rule.Template += "\n" + lines("Role: <role>")
		rules = append(rules, rule)
		chunk, size = nil, 0
	}
	add := func(v any, n int) {
		if size+n > room {
			flush()
		}
		chunk, size = append(chunk, v), size+n
	}
	for _, name := range in.RoleNames {
		add(name, len(name)+3)
	}
	for _, prefix := range in.RolePrefixes {
		add(map[string]any{"prefix": prefix}, len(prefix)+16)
	}
	flush()
	return rules
}

// keySpecs are on the key of the secrets, and the trail that records its use.
func keySpecs(in Input) []spec {
	if in.KeyARN == "" {
		return trailSpecs(in)
	}
	key := resource(in.KeyARN)
	aliased := key
	if in.AliasARN != "" {
		// UpdateAlias that points the alias elsewhere names the alias and the
		// new key, not the key that loses it.
		aliased = resource(in.KeyARN, in.AliasARN)
	}
	return append([]spec{
		{
			id: "KeyDisabled", sources: kms, events: []string{"DisableKey"}, filter: key,
			what:   "The key that encrypts the secrets was disabled.",
			danger: "The cluster stops working hours later, or when an API server restarts. After 30 days it may be beyond recovery.",
			todo:   "Enable the key again with 'aws kms enable-key', then find out who did this and why.",
		},
		{
			id: "KeyDeletionScheduled", sources: kms, events: []string{"ScheduleKeyDeletion"}, filter: key,
			what:   "The key that encrypts the secrets was scheduled for deletion.",
			danger: "When the key is deleted, the cluster and every backup of it are lost. Nobody can undo that, AWS included.",
			todo:   "Run 'aws kms cancel-key-deletion' and then 'aws kms enable-key' before the waiting period ends.",
		},
		{
			id: "KeyPolicyChanged", sources: kms, events: []string{"PutKeyPolicy"}, filter: key,
			what:   "The policy of the key that encrypts the secrets was changed.",
			danger: "Somebody may now be able to decrypt the secrets, or the cluster may have lost its key.",
			todo:   "If this was not a deployment of yours, compare the policy with the template and deploy the template again.",
		},
		{
			id: "RotationChanged", sources: kms, events: []string{"DisableKeyRotation", "EnableKeyRotation"}, filter: key,
			what:   "Rotation of the key that encrypts the secrets was switched off, or on with another period.",
			danger: "The cluster keeps working, but the key material may be renewed late or never.",
			todo:   "If this was not a deployment of yours, run 'aws kms enable-key-rotation' with the period of the template.",
		},
		{
			id: "KeyReplicated", sources: kms, events: []string{"ReplicateKey", "UpdatePrimaryRegion"}, filter: key,
			what:   "The key that encrypts the secrets was copied to another Region, or its primary Region was changed.",
			danger: "A replica has the same key material under a policy of its own: any principal that may use it can decrypt the secrets.",
			todo:   "Read the policy of the replica with 'aws kms get-key-policy' in its Region. Schedule a replica that you do not know for deletion.",
		},
		{
			id: "UnexpectedGrant", sources: kms, events: []string{"CreateGrant"},
			// A creator makes no grant by hand: EKS does it in its name, and says so.
			// That it does so as eks.amazonaws.com is inferred.
			filter: both(key, map[string]any{"userIdentity": map[string]any{"invokedBy": []any{
				map[string]any{"anything-but": []string{"eks.amazonaws.com"}}, map[string]any{"exists": false},
			}}}),
			what:   "A grant on the key that encrypts the secrets was made, and not through EKS.",
			danger: "Any principal that holds the grant may be able to decrypt the secrets.",
			todo:   "List the grants with 'aws kms list-grants'; revoke the one you do not know with 'aws kms revoke-grant'.",
		},
		{
			id: "GrantRemoved", sources: kms, events: []string{"RevokeGrant", "RetireGrant"}, filter: key,
			what:   "A grant on the key that encrypts the secrets was taken away.",
			danger: "If it was the grant eks-grant-<cluster> of EKS, the cluster loses access to its secrets.",
			todo:   "Look for the grant with 'aws kms list-grants'. If EKS has none left, open a case with AWS Support at once.",
		},
		{
			id: "AliasChanged", sources: kms, events: []string{"CreateAlias", "UpdateAlias", "DeleteAlias"}, filter: aliased,
			what:   "An alias of the key that encrypts the secrets was created, moved or deleted.",
			danger: "EKS does not use the alias, but people and tools that do may now act on another key.",
			todo:   "Check with 'aws kms list-aliases' that the alias of the template points to the key of the template.",
		},
	}, trailSpecs(in)...)
}

// trailSpecs are on the trail that records the use of keys.
func trailSpecs(in Input) []spec {
	if in.TrailName == "" {
		return nil
	}
	return []spec{
		{
			id: "TrailTampered", sources: []string{"cloudtrail"}, events: []string{"StopLogging", "DeleteTrail", "UpdateTrail"},
			filter: map[string]any{"requestParameters": map[string]any{"name": []string{in.TrailName, in.TrailARN}}},
			what:   "The trail that records every use of the key was stopped, deleted or changed.",
			danger: "From now on uses of the key may go unrecorded, and the other alarms may stay silent.",
			todo:   "Deploy the template again and run 'aws cloudtrail start-logging'. Note the gap for the audit.",
		},
		{
			id: "TrailBlinded", sources: []string{"cloudtrail"}, events: []string{"PutEventSelectors"},
			filter: map[string]any{"requestParameters": map[string]any{"trailName": []string{in.TrailName, in.TrailARN}}},
			what:   "The choice of events of the trail that records every use of the key was changed.",
			danger: "Calls to KMS may now be left out of the trail, and the other alarms may stay silent.",
			todo:   "Compare 'aws cloudtrail get-event-selectors' with the template and deploy the template again.",
		},
	}
}

var kms = []string{"kms"}

// otherSpecs are on the cluster and on what surrounds the key.
func otherSpecs(in Input) (specs []spec) {
	add := func(there bool, s spec) {
		if there {
			specs = append(specs, s)
		}
	}
	add(in.KeyARN != "" && !in.KeyAlone, spec{
		id: "ClusterOpened", sources: []string{"eks"}, events: accessEvents,
		filter: asks(field("name", in.ClusterName), field("clusterName", in.ClusterName)),
		what:   "Who or what may use the Kubernetes API of the cluster, or a role of its pods, was changed.",
		danger: "A principal that may use the API reads the secrets decrypted, and the key has no part in it.",
		todo:   "If this was not a deployment of yours, compare 'aws eks list-access-entries', 'aws eks list-pod-identity-associations' and 'aws eks describe-cluster' with the template, and remove what you do not know.",
	})
	add(len(in.AuditKeyARNs) > 0, spec{
		id: "AuditKeyTampered", sources: kms, events: auditEvents, filter: resource(in.AuditKeyARNs...),
		what:   "A key that encrypts the audit trail or the alarms was disabled, scheduled for deletion, given another policy or a grant.",
		danger: "CloudTrail may no longer be able to deliver logs, the topic may no longer be able to deliver alarms, or somebody more can read them.",
		todo:   "Enable the key, cancel its deletion, revoke the grant, or deploy the template again.",
	})
	add(in.LogsKeyARN != "", spec{
		id: "LogsKeyTampered", sources: kms, events: auditEvents, filter: resource(in.LogsKeyARN),
		what:   "The key that encrypts the control plane's logs was disabled, scheduled for deletion, given another policy or a grant.",
		danger: "EKS may no longer be able to write the audit log, which is the only record of who read which secret.",
		todo:   "Enable the key, cancel its deletion, revoke the grant, or deploy the template again.",
	})
	var kept []map[string]any
	if in.BucketName != "" {
		kept = append(kept, field("bucketName", in.BucketName))
	}
	if len(in.LogGroups) > 0 {
		var arns []any // which AssociateKmsKey takes too
		for _, group := range in.LogGroups {
			arns = append(arns, map[string]any{"suffix": ":log-group:" + group})
		}
		kept = append(kept, field("logGroupName", in.LogGroups...), map[string]any{"resourceIdentifier": arns})
	}
	add(len(kept) > 0, spec{
		id: "RecordWeakened", sources: []string{"s3", "logs"}, events: recordEvents, filter: asks(kept...),
		what:   "The bucket of the audit trail, or a log group of the cluster, was changed or deleted.",
		danger: "The record may be deleted sooner, be open to others, or be lost already.",
		todo:   "If this was not a deployment of yours, compare the bucket and the log group with the template and deploy it again. Note the gap for the audit.",
	})
	alarms := []map[string]any{{"name": startsWith(in.RulePrefix)}, {"rule": startsWith(in.RulePrefix)}}
	for _, topic := range in.TopicARNs {
		alarms = append(alarms, field("topicArn", topic), map[string]any{"subscriptionArn": startsWith(topic + ":")})
	}
	if in.MetricAlarm != "" {
		alarms = append(alarms, field("alarmName", in.MetricAlarm), field("alarmNames", in.MetricAlarm))
	}
	add(in.RulePrefix != "" && (in.KeyARN != "" || in.Shared), spec{
		id: "AlarmsTampered", sources: []string{"events", "sns", "monitoring"},
		events: append(ruleEvents[:len(ruleEvents):len(ruleEvents)],
			"SetTopicAttributes", "DeleteTopic", "AddPermission", "RemovePermission", "Subscribe", "Unsubscribe", "SetSubscriptionAttributes",
			"DeleteAlarms", "DisableAlarmActions", "PutMetricAlarm"),
		filter: asks(alarms...),
		what:   "A rule, a target, a topic or a subscription of the alarms was changed or removed.",
		danger: "Alarms may no longer be raised, or no longer reach you.",
		todo:   "If this was not a deployment of yours, deploy the template again, and look in CloudTrail for what happened since.",
	})
	add(in.RulePrefix != "" && (in.KeyARN != "" || in.Shared), spec{
		id: "WatcherTampered", sources: []string{"events"}, events: ruleEvents,
		filter: asks(field("name", in.RulePrefix+"AlarmsTampered"), field("rule", in.RulePrefix+"AlarmsTampered")),
		what:   "The rule that watches over the alarms was changed or removed.",
		danger: "Alarms may be removed one after the other without a word.",
		todo:   "If this was not a deployment of yours, deploy the template again, and look in CloudTrail for what happened since.",
	})
	var handlers []any // the API takes a name, an ARN, or its last parts
	for _, name := range in.HandlerNames {
		handlers = append(handlers, name, map[string]any{"suffix": ":function:" + name})
	}
	add(len(handlers) > 0, spec{
		id: "HandlerChanged", sources: []string{"lambda"}, events: handlerEvents,
		filter: asks(map[string]any{"functionName": handlers}),
		what:   "A function that applies the cluster's Kubernetes objects was changed, or others were let use it.",
		danger: "It is an administrator of the cluster: any principal that runs it reads every secret.",
		todo:   "If this was not a deployment of yours, deploy the template again, and look in CloudTrail for what the function's role did since.",
	})
	return specs
}

// asks matches a call by what it asks for, in any of several ways.
func asks(either ...map[string]any) map[string]any {
	if len(either) == 1 {
		return map[string]any{"requestParameters": either[0]}
	}
	return map[string]any{"requestParameters": map[string]any{"$or": either}}
}

func field(name string, values ...string) map[string]any {
	var all []any
	for _, v := range values {
		all = append(all, v)
	}
	return map[string]any{name: all}
}

func startsWith(prefix string) []any { return []any{map[string]any{"prefix": prefix}} }

// rule is the alarm for one cluster or, where it is shared, for several.
func (s spec) rule(in Input, clusters ...string) Rule {
	var of, grant string
	var paths map[string]string
	var which []string
	if !in.Shared {
		of = "EKS cluster " + clusters[0]
		grant = clusters[0]
	} else {
		of, grant = "One of several EKS clusters", "NAME"
		paths = Paths()
		var about []string
		for _, parameter := range whatIsAsked[s.sources[0]] {
			paths[strings.ToLower(parameter)] = "$.detail.requestParameters." + parameter
			about = append(about, "<"+strings.ToLower(parameter)+">")
		}
		which = []string{"Which: " + strings.Join(about, " ")}
		if clusters[0] != in.ClusterName {
			which = append(which, "Watched by this rule: "+strings.Join(clusters, ", "))
		}
	}
	var sources, services []string
	for _, source := range s.sources {
		sources, services = append(sources, "aws."+source), append(services, source+".amazonaws.com")
	}
	detail := map[string]any{"eventSource": services, "eventName": s.events}
	return Rule{
		ID:          s.id,
		Name:        in.RulePrefix + s.id,
		Description: of + ": " + s.what,
		Pattern: map[string]any{
			"source":      sources,
			"detail-type": []string{"AWS API Call via CloudTrail"},
			"detail":      both(detail, s.filter),
		},
		Paths: paths,
		Template: lines(slices.Concat([]string{of + " is in danger: <action>", s.what}, which, []string{
			"Who: <who> <service> (principal <principal> of account <caller>) from <from>",
			"When: <when> in account <account>, Region <region> (CloudTrail event <event>)",
			"Error, if the call was refused: <error>",
			"What it means: " + strings.ReplaceAll(s.danger, "eks-grant-<cluster>", "eks-grant-"+grant),
			"What to do: " + s.todo,
		})...),
	}
}

func lines(text ...string) string {
	for i, line := range text {
		text[i] = `"` + line + `"`
	}
	return strings.Join(text, "\n")
}

func resource(arns ...string) map[string]any {
	return map[string]any{"resources": map[string]any{"ARN": arns}}
}

func both(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}
