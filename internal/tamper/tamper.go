// Package tamper says, as data, which API calls on a cluster's key and trail
// raise an alarm, and what the alarm tells the person who reads it.
//
// EventBridge has native events for few of these calls, so the patterns match
// "AWS API Call via CloudTrail", which needs a trail that records management
// events in the Region. Source: AWS KMS Developer Guide, "Logging AWS KMS API
// calls with AWS CloudTrail" for the fields of the events.
//
// Strings may hold CloudFormation tokens: nothing here looks inside them.
package tamper

import (
	"maps"
	"strings"
)

// Input says what is watched.
type Input struct {
	ClusterName string
	KeyARN      string
	// AliasARN is the alias of the key. Empty if it has none here.
	AliasARN string
	// CreatorARNs are the roles whose grants are expected.
	CreatorARNs []string
	// TrailName and TrailARN name the trail; CloudTrail's API takes both.
	TrailName, TrailARN string
	// AuditKeyARN is the key of the trail's logs. Empty if none is made here.
	AuditKeyARN string
}

// Rule is one alarm.
type Rule struct {
	// ID is stable; renderers derive resource names from it.
	ID string
	// Description is for the list of rules in the console.
	Description string
	// Pattern is the EventBridge event pattern.
	Pattern map[string]any
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

type spec struct {
	id, what, danger, todo string
	source                 string
	events                 []string
	filter                 map[string]any
}

// Rules returns the alarms for what is watched, always in the same order.
func Rules(in Input) []Rule {
	key := resource(in.KeyARN)
	aliased := key
	if in.AliasARN != "" {
		// UpdateAlias that points the alias elsewhere names the alias and the
		// new key, not the key that loses it.
		aliased = resource(in.KeyARN, in.AliasARN)
	}
	specs := []spec{
		{
			id: "KeyDisabled", source: "kms", events: []string{"DisableKey"}, filter: key,
			what:   "The key that encrypts the secrets was disabled.",
			danger: "The cluster stops working hours later, or when an API server restarts. After 30 days it may be beyond recovery.",
			todo:   "Enable the key again with 'aws kms enable-key', then find out who did this and why.",
		},
		{
			id: "KeyDeletionScheduled", source: "kms", events: []string{"ScheduleKeyDeletion"}, filter: key,
			what:   "The key that encrypts the secrets was scheduled for deletion.",
			danger: "When the key is deleted, the cluster and every backup of it are lost. Nobody can undo that, AWS included.",
			todo:   "Run 'aws kms cancel-key-deletion' and then 'aws kms enable-key' before the waiting period ends.",
		},
		{
			id: "KeyPolicyChanged", source: "kms", events: []string{"PutKeyPolicy"}, filter: key,
			what:   "The policy of the key that encrypts the secrets was changed.",
			danger: "Somebody may now be able to decrypt the secrets, or the cluster may have lost its key.",
			todo:   "If this was not a deployment of yours, compare the policy with the template and deploy the template again.",
		},
		{
			id: "RotationChanged", source: "kms", events: []string{"DisableKeyRotation", "EnableKeyRotation"}, filter: key,
			what:   "Rotation of the key that encrypts the secrets was switched off, or on with another period.",
			danger: "The cluster keeps working, but the key material may be renewed late or never.",
			todo:   "If this was not a deployment of yours, run 'aws kms enable-key-rotation' with the period of the template.",
		},
		{
			id: "KeyReplicated", source: "kms", events: []string{"ReplicateKey", "UpdatePrimaryRegion"}, filter: key,
			what:   "The key that encrypts the secrets was copied to another Region, or its primary Region was changed.",
			danger: "A replica has the same key material under a policy of its own: whoever may use it can decrypt the secrets.",
			todo:   "Read the policy of the replica with 'aws kms get-key-policy' in its Region. Schedule a replica that you do not know for deletion.",
		},
		{
			id: "UnexpectedGrant", source: "kms", events: []string{"CreateGrant"},
			filter: both(key, map[string]any{"userIdentity": strangers(in.CreatorARNs)}),
			what:   "Somebody other than a cluster creator or EKS made a grant on the key that encrypts the secrets.",
			danger: "Whoever holds the grant may be able to decrypt the secrets.",
			todo:   "List the grants with 'aws kms list-grants'; revoke the one you do not know with 'aws kms revoke-grant'.",
		},
		{
			id: "GrantRemoved", source: "kms", events: []string{"RevokeGrant", "RetireGrant"}, filter: key,
			what:   "A grant on the key that encrypts the secrets was taken away.",
			danger: "If it was the grant eks-grant-<cluster> of EKS, the cluster loses access to its secrets.",
			todo:   "Look for the grant with 'aws kms list-grants'. If EKS has none left, open a case with AWS Support at once.",
		},
		{
			id: "AliasChanged", source: "kms", events: []string{"CreateAlias", "UpdateAlias", "DeleteAlias"}, filter: aliased,
			what:   "An alias of the key that encrypts the secrets was created, moved or deleted.",
			danger: "EKS does not use the alias, but people and tools that do may now act on another key.",
			todo:   "Check with 'aws kms list-aliases' that the alias of the template points to the key of the template.",
		},
		{
			id: "TrailTampered", source: "cloudtrail", events: []string{"StopLogging", "DeleteTrail", "UpdateTrail"},
			filter: map[string]any{"requestParameters": map[string]any{"name": []string{in.TrailName, in.TrailARN}}},
			what:   "The trail that records every use of the key was stopped, deleted or changed.",
			danger: "From now on uses of the key may go unrecorded, and the other alarms may stay silent.",
			todo:   "Deploy the template again and run 'aws cloudtrail start-logging'. Note the gap for the audit.",
		},
		{
			id: "TrailBlinded", source: "cloudtrail", events: []string{"PutEventSelectors"},
			filter: map[string]any{"requestParameters": map[string]any{"trailName": []string{in.TrailName, in.TrailARN}}},
			what:   "The choice of events of the trail that records every use of the key was changed.",
			danger: "Calls to KMS may now be left out of the trail, and the other alarms may stay silent.",
			todo:   "Compare 'aws cloudtrail get-event-selectors' with the template and deploy the template again.",
		},
	}
	if in.AuditKeyARN != "" {
		specs = append(specs, spec{
			id: "AuditKeyTampered", source: "kms",
			events: []string{"DisableKey", "ScheduleKeyDeletion", "PutKeyPolicy"}, filter: resource(in.AuditKeyARN),
			what:   "The key that encrypts the audit trail was disabled, scheduled for deletion, or given another policy.",
			danger: "CloudTrail may no longer be able to deliver logs, and this topic may no longer be able to deliver alarms.",
			todo:   "Enable the key, cancel its deletion, or deploy the template again.",
		})
	}
	rules := make([]Rule, len(specs))
	for i, s := range specs {
		rules[i] = s.rule(in.ClusterName)
	}
	return rules
}

// strangers matches the identity of anybody but the creators and EKS. Only the
// session of a role names the role that it belongs to.
func strangers(creatorARNs []string) map[string]any {
	anythingBut := func(values ...string) []any {
		return []any{map[string]any{"anything-but": values}, map[string]any{"exists": false}}
	}
	identity := map[string]any{"invokedBy": anythingBut("eks.amazonaws.com")}
	// EventBridge refuses an empty list.
	if len(creatorARNs) > 0 {
		identity["sessionContext"] = map[string]any{"sessionIssuer": map[string]any{"arn": anythingBut(creatorARNs...)}}
	}
	return identity
}

func (s spec) rule(cluster string) Rule {
	detail := map[string]any{
		"eventSource": []string{s.source + ".amazonaws.com"},
		"eventName":   s.events,
	}
	return Rule{
		ID:          s.id,
		Description: "EKS cluster " + cluster + ": " + s.what,
		Pattern: map[string]any{
			"source":      []string{"aws." + s.source},
			"detail-type": []string{"AWS API Call via CloudTrail"},
			"detail":      both(detail, s.filter),
		},
		Template: lines(
			"EKS cluster "+cluster+" is in danger: <action>",
			s.what,
			"Who: <who> <service> (principal <principal> of account <caller>) from <from>",
			"When: <when> in account <account>, Region <region> (CloudTrail event <event>)",
			"Error, if the call was refused: <error>",
			"What it means: "+strings.ReplaceAll(s.danger, "<cluster>", cluster),
			"What to do: "+s.todo,
		),
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
