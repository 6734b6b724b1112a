package blueprint

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/place"
)

// MaxOrganizationPolicy is the size of a service control policy, in characters. Source:
// AWS Organizations User Guide, "Quotas and service limits for AWS Organizations".
const MaxOrganizationPolicy = 5120

// What a service control policy leaves to those whose work it is. They are written short,
// since there is little room, with * at the end alone: that is where it was always taken.
var (
	keyChanges = iampolicy.Values{
		"kms:CreateGrant", "kms:DisableKey*", "kms:EnableKeyRotation", "kms:PutKeyPolicy", "kms:ReplicateKey",
		"kms:RevokeGrant", "kms:ScheduleKeyDeletion", "kms:UpdatePrimaryRegion",
	}
	otherChanges = iampolicy.Values{
		"cloudtrail:DeleteTrail", "cloudtrail:Put*", "cloudtrail:StopLogging", "cloudtrail:UpdateTrail",
		"cloudwatch:Delete*", "cloudwatch:Disable*", "cloudwatch:PutMetricAlarm",
		"eks:Associate*", "eks:CreateA*", "eks:CreateCapability", "eks:CreatePod*", "eks:Delete*", "eks:Disassociate*",
		"eks:UpdateA*", "eks:UpdateCapability", "eks:UpdateClusterConfig", "eks:UpdatePod*",
		"events:Delete*", "events:Disable*", "events:Put*", "events:Remove*",
		"iam:Attach*", "iam:Delete*", "iam:Detach*", "iam:PassRole", "iam:Put*", "iam:TagRole", "iam:UntagRole", "iam:Update*",
		"kms:DeleteAlias", "kms:UpdateAlias",
		"lambda:AddPermission", "lambda:Create*", "lambda:Delete*", "lambda:Put*", "lambda:RemovePermission", "lambda:Update*",
		"logs:AssociateKmsKey", "logs:Delete*", "logs:DisassociateKmsKey", "logs:PutRetentionPolicy", "logs:PutSubscriptionFilter",
		"sns:AddPermission", "sns:Delete*", "sns:RemovePermission", "sns:Set*", "sns:Subscribe", "sns:Unsubscribe",
		"sqs:AddPermission", "sqs:DeleteQueue", "sqs:PurgeQueue", "sqs:RemovePermission", "sqs:SetQueueAttributes",
	}
	bucketChanges = iampolicy.Values{"s3:Delete*", "s3:Put*"}
)

// OrganizationPolicy is a service control policy that leaves changes of the key, of the
// record, of the alarms, of the handler and of who may use the cluster to the excepted, which
// are patterns of ARNs. Roles are patterns of names, with their paths, of roles that are
// protected beside those of the stack. The bucket is that of the trail, or "" if it is not
// known.
//
// It holds in member accounts for everybody else, the root user included, and neither in the
// management account nor for service-linked roles. Keys that are made by a deployment are
// named by their aliases, which nobody else may change either. Sources: AWS Organizations
// User Guide, "Service control policies (SCPs)"; AWS KMS Developer Guide, "Use aliases to
// control access to KMS keys"; AWS Lambda Developer Guide, "Working with Lambda permissions
// using source function ARN", for lambda:SourceFunctionArn.
func (c Cluster) OrganizationPolicy(except, roles []string, bucket string) iampolicy.Document {
	deny := func(sid string, actions, resources iampolicy.Values, more iampolicy.Condition) iampolicy.Statement {
		condition := iampolicy.Condition{"ArnNotLike": {"aws:PrincipalArn": except}}
		maps.Copy(condition, more)
		return iampolicy.Statement{Sid: sid, Effect: iampolicy.Deny, Action: actions, Resource: resources, Condition: condition}
	}

	specs := []KeySpec{c.LogsKey()}
	if key, made := c.AuditKey(); made {
		specs = append(specs, key)
	}
	if key, made := c.TopicKey(); made {
		specs = append(specs, key)
	}
	var aliases iampolicy.Values
	for _, spec := range specs {
		aliases = append(aliases, spec.Alias)
	}
	if c.Key.ARN == "" {
		aliases = append(aliases, c.Alias())
	}
	slices.Sort(aliases)
	keys := deny("Keys", keyChanges, iampolicy.Values{c.At.ARN("kms", "key/*")}, iampolicy.Condition{"ForAnyValue:StringEquals": {"kms:ResourceAliases": aliases}})

	// One statement for all that needs no other condition: each repeats the exceptions.
	actions, resources := otherChanges, iampolicy.Values{c.Trail().ARN, c.Topic().ARN, c.ruleARNs()}
	if c.Key.ARN != "" {
		actions, resources = append(slices.Clone(keyChanges), otherChanges...), append(resources, c.Key.ARN)
	}
	resources = append(resources, c.At.ARN("kms", place.SecretsAlias(c.Name)+"/*"))
	if alias := c.Alias(); alias != "" {
		resources = append(resources, c.At.ARN("kms", alias))
	}
	// With and without :* behind the name.
	resources = append(resources, c.logGroupARN(c.ControlPlaneLogs().Name+"*"), c.logGroupARN(path.Dir(place.KubectlLogGroup(c.Name))+"/*"), c.logGroupARN(c.AlarmLog().Name+"*"),
		c.At.ARN("sqs", c.AlarmQueue().Name), c.At.ARN("cloudwatch", "alarm:"+c.Undelivered().Name))
	if c.NewTopic() {
		resources = append(resources, c.FallbackTopic().ARN)
	}
	var functions iampolicy.Values
	if c.KubectlHandler {
		functions = iampolicy.Values{c.KubectlARNs()[0] + "*"} // the one that calls it too, and versions of both
		resources = append(resources, functions...)
	}
	if bucket != "" {
		arn := "arn:" + c.At.Partition.Text() + ":s3:::" + bucket
		actions, resources = append(slices.Clip(actions), bucketChanges...), append(resources, arn, arn+"/*")
	}
	resources = append(resources, c.ARN())
	for _, kind := range []string{"access-entry", "addon", "capability", "identityproviderconfig", "podidentityassociation"} {
		resources = append(resources, c.At.ARN("eks", kind+"/"+c.Name+"/*"))
	}
	resources = append(resources, c.At.IAM("role/"+place.RolePrefix(c.Name)+"*"), c.At.IAM("role"+place.ClusterRolePath(c.Name)+"*"))
	for _, role := range roles {
		resources = append(resources, c.At.IAM("role/"+role))
	}
	for _, role := range except {
		if strings.Contains(role, ":role/") {
			resources = append(resources, role)
		}
	}
	statements := []iampolicy.Statement{keys, deny("Changes", actions, resources, nil)}
	if c.KubectlHandler {
		framework := c.KubectlARNs()[1]
		statements = append(statements, deny("Invocations", iampolicy.Values{"lambda:Invoke*"}, functions,
			iampolicy.Condition{"ArnNotEquals": {"lambda:SourceFunctionArn": {framework}}}))
	}
	return iampolicy.NewDocument(statements...)
}
