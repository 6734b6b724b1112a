// Package calls is the call book: the calls that AWS makes around an encrypted cluster,
// with who makes them and what context they carry. A policy that refuses one of them
// breaks the cluster, its record or its alarms.
//
// The rows are facts with a source; those that are inferred say so. None was tried on
// AWS.
package calls

import (
	"maps"
	"strings"

	"github.com/ekskms/ekskms/internal/iampolicy"
)

// Call is one call.
type Call struct {
	// What it is for, in words that go on after "refused: ".
	What             string
	Caller           iampolicy.Caller
	Action, Resource string
	// Context has the condition keys that the call carries, and without a value those
	// that it is known not to carry. Others are open.
	Context iampolicy.Context
	// Grants are those on which the call rests.
	Grants []iampolicy.Grant
	// Source says where the call is documented, or that it is inferred.
	Source string
}

// Answer is what policies say of a call.
type Answer struct {
	// Refused tells that the call fails, whatever in it is open.
	Refused bool
	// Why is the statement that denies it, or what is missing.
	Why string
}

// Ask asks the policies: that of what the call is about, the IAM policies of its caller,
// and those of the organization. The grants are those of the call.
func (c Call) Ask(policies iampolicy.Policies) (Answer, error) {
	policies.Grants = c.Grants
	request := iampolicy.Request{Caller: c.Caller, Action: c.Action, Resource: c.Resource, Context: c.Context}
	outcome, err := iampolicy.Explain(request, policies)
	if err != nil {
		return Answer{}, err
	}
	for _, d := range outcome.Deny {
		if len(d.Conditions) == 0 {
			return Answer{true, d.By[0].String() + " denies it"}, nil
		}
	}
	if len(outcome.Allow) == 0 {
		return Answer{true, "nothing allows it"}, nil
	}
	return Answer{}, nil
}

// notFromAWS are condition keys that calls made by AWS do not carry.
//
// Source: IAM User Guide, "AWS global condition context keys": the address and the
// endpoint are those of the network from which a principal calls, and a service calls
// from none of yours; there is no MFA device either.
var notFromAWS = []string{"aws:SourceIp", "aws:VpcSourceIp", "aws:SourceVpc", "aws:SourceVpce", "aws:MultiFactorAuthPresent", "aws:MultiFactorAuthAge"}

func fromAWS(more iampolicy.Context) iampolicy.Context {
	context := maps.Clone(more)
	for _, key := range notFromAWS {
		context[key] = nil
	}
	return context
}

// Forwarded is the context of a call that an AWS service makes for a principal, with that
// one's rights (forward access sessions), beside what more says.
func Forwarded(more iampolicy.Context) iampolicy.Context {
	context := fromAWS(more)
	context["aws:ViaAWSService"] = iampolicy.Values{"true"}
	return context
}

// Cluster is what the calls of a cluster depend on.
type Cluster struct {
	Name       string
	KeyARN     string
	RoleARN    string // empty if it is not known
	EKSService string // of the cluster's Region, such as eks.eu-central-1.amazonaws.com
}

// OfCluster are the calls without which a running cluster ends. Those of the cluster's
// role are named by its ARN.
func OfCluster(c Cluster) (all []Call) {
	const context = "kms:EncryptionContext:aws:eks:context"
	id := "00000000-0000-4000-8000-000000000000"
	grant := iampolicy.Grant{
		Name: "eks-grant-" + c.Name, Grantee: c.EKSService, Retiring: c.EKSService, Operations: []string{"Decrypt", "Encrypt"},
		EncryptionContextEquals: map[string]string{"aws:eks:context": id},
	}
	for _, operation := range grant.Operations {
		all = append(all, Call{
			What:   "EKS does kms:" + operation + " under its grant, to read and write the cluster's data",
			Caller: iampolicy.Caller{ARN: c.EKSService}, Action: "kms:" + operation, Resource: c.KeyARN,
			Context: fromAWS(iampolicy.Context{context: {id}}), Grants: []iampolicy.Grant{grant},
			Source: "grants as seen on clusters; that a Deny of the key policy beats a grant: AWS KMS Developer Guide, Grants in AWS KMS",
		})
	}
	if c.RoleARN != "" {
		all = append(all, Call{
			What:   "EKS does kms:DescribeKey as the cluster's role, to tell the health of the key",
			Caller: iampolicy.Caller{ARN: c.RoleARN}, Action: "kms:DescribeKey", Resource: c.KeyARN,
			Context: fromAWS(iampolicy.Context{"aws:ViaAWSService": {"false"}}),
			Source:  "Amazon EKS User Guide, Encrypt Kubernetes secrets with KMS; that the call comes from AWS's own network is inferred",
		})
	}
	return all
}

// Trail is what the calls of a trail depend on.
type Trail struct {
	ARN, Account string
	Partition    string
	// Bucket is its name. Prefix is that of the log files, KeyARN their key; both may be
	// empty.
	Bucket, Prefix, KeyARN string
}

// OfTrail are the calls without which CloudTrail delivers nothing: those on the bucket
// and those on the key, by which policy decides on them.
func OfTrail(t Trail) (bucket, key []Call) {
	caller := iampolicy.Caller{ARN: "cloudtrail.amazonaws.com"}
	context := func(more iampolicy.Context) iampolicy.Context {
		maps.Copy(more, iampolicy.Context{"aws:SourceArn": {t.ARN}, "aws:SourceAccount": {t.Account}, "aws:SecureTransport": {"true"}})
		return fromAWS(more)
	}
	folder := "AWSLogs/" + t.Account
	if t.Prefix != "" {
		folder = strings.TrimSuffix(t.Prefix, "/") + "/" + folder
	}
	arn := "arn:" + t.Partition + ":s3:::" + t.Bucket
	const source = "AWS CloudTrail User Guide, Amazon S3 bucket policy for CloudTrail"
	bucket = []Call{
		{What: "CloudTrail looks whose the bucket is", Caller: caller, Action: "s3:GetBucketAcl", Resource: arn, Context: context(iampolicy.Context{}), Source: source},
		{
			What: "CloudTrail writes log files to " + folder, Caller: caller, Action: "s3:PutObject", Resource: arn + "/" + folder + "/CloudTrail/region/2026/01/01/file.json.gz",
			Context: context(iampolicy.Context{"s3:x-amz-acl": {"bucket-owner-full-control"}}), Source: source,
		},
	}
	if t.KeyARN != "" {
		key = []Call{{
			What: "CloudTrail asks for the data key of a log file", Caller: caller, Action: "kms:GenerateDataKey", Resource: t.KeyARN,
			Context: context(iampolicy.Context{"kms:EncryptionContext:aws:cloudtrail:arn": {t.ARN}}),
			Source:  "AWS CloudTrail User Guide, Configure AWS KMS key policies for CloudTrail",
		}}
	}
	return bucket, key
}

// Volumes is what the calls for the disks of nodes depend on.
type Volumes struct {
	// KeyARN is their key, and RoleARN the role that has EC2 start the nodes: By says whose.
	KeyARN, RoleARN, By string
	EC2Service          string // of the Region, such as ec2.eu-central-1.amazonaws.com
}

// OfVolumes are the calls without which a node ends right after its start, with
// Client.InternalError.
func OfVolumes(v Volumes) (all []Call) {
	for _, action := range []string{"kms:CreateGrant", "kms:GenerateDataKeyWithoutPlaintext", "kms:Decrypt"} {
		context := iampolicy.Context{"kms:ViaService": {v.EC2Service}}
		if action == "kms:CreateGrant" {
			context["kms:GrantIsForAWSResource"] = iampolicy.Values{"true"}
		}
		all = append(all, Call{
			What:   "EC2 does " + action + " as " + v.By + ", to start a node whose disk is under the key",
			Caller: iampolicy.Caller{ARN: v.RoleARN}, Action: action, Resource: v.KeyARN, Context: Forwarded(context),
			Source: "Amazon EBS User Guide, Requirements for Amazon EBS encryption; that EC2 calls in the role's name is inferred from the policy of the key aws/ebs",
		})
	}
	return all
}

// Alarm is what the calls of an alarm depend on.
type Alarm struct {
	// Source is the rule of EventBridge, or the alarm of CloudWatch, with its account.
	Source, Account string
	// Target is the ARN of the topic, the queue or the function. Key is the key of the first
	// two, or empty.
	Target, Key string
}

// OfAlarm are the calls without which an alarm tells nobody: those on the target and those
// on its key, by which policy decides on them.
func OfAlarm(a Alarm) (target, key []Call) {
	who, caller, source := "EventBridge", iampolicy.Caller{ARN: "events.amazonaws.com"}, "Amazon EventBridge User Guide, Using resource-based policies"
	if strings.Contains(a.Source, ":cloudwatch:") {
		who, caller, source = "CloudWatch", iampolicy.Caller{ARN: "cloudwatch.amazonaws.com"}, "Amazon CloudWatch User Guide, Notifying users on alarm changes"
	}
	from := iampolicy.Context{"aws:SourceArn": {a.Source}, "aws:SourceAccount": {a.Account}, "aws:SecureTransport": {"true"}}
	call := Call{Caller: caller, Resource: a.Target, Context: fromAWS(from), Source: source}
	context := ""
	switch {
	case strings.Contains(a.Target, ":sqs:"):
		call.What, call.Action, context = who+" sends the alarm to the queue", "sqs:SendMessage", "kms:EncryptionContext:aws:sqs:arn"
	case strings.Contains(a.Target, ":lambda:"):
		call.What, call.Action = who+" invokes the function with the alarm", "lambda:InvokeFunction"
	default:
		call.What, call.Action, context = who+" publishes the alarm", "sns:Publish", "kms:EncryptionContext:aws:sns:topicArn"
	}
	if a.Key == "" || context == "" {
		return []Call{call}, nil
	}
	// EventBridge sends no keys of the source here: the documentation says so.
	with := iampolicy.Context{context: {a.Target}, "aws:SourceArn": nil, "aws:SourceAccount": nil}
	of := "Amazon SNS Developer Guide, Enable compatibility between event sources from AWS services and encrypted topics"
	if who == "CloudWatch" {
		with["aws:SourceArn"], with["aws:SourceAccount"] = iampolicy.Values{a.Source}, iampolicy.Values{a.Account}
	}
	if call.Action == "sqs:SendMessage" {
		of = "Amazon SQS Developer Guide, Configuring KMS permissions for AWS services; the context is inferred"
	}
	for _, action := range []string{"kms:GenerateDataKey", "kms:Decrypt"} {
		key = append(key, Call{
			What: who + " does " + action + " with the target's key", Caller: caller, Action: action, Resource: a.Key, Context: fromAWS(maps.Clone(with)), Source: of,
		})
	}
	return []Call{call}, key
}

// Association is an association of EKS Pod Identity.
type Association struct {
	ClusterARN, ClusterName, Account   string
	Namespace, ServiceAccount, RoleARN string
	// Untagged tells that the session has no tags (DisableSessionTags).
	Untagged bool
}

// OfAssociation are the calls by which a pod becomes its role.
func OfAssociation(a Association) []Call {
	what := " the role for the pods of service account " + a.Namespace + "/" + a.ServiceAccount
	context := iampolicy.Context{
		// An association's ARN was seen not to be the source (mountpoint-s3-csi-driver,
		// issue 781); what is, was not. So it is open whether the cluster is.
		"aws:SourceArn": {a.ClusterARN}, "aws:SourceAccount": {a.Account},
	}
	for tag, value := range map[string]string{
		"eks-cluster-arn": a.ClusterARN, "eks-cluster-name": a.ClusterName, "kubernetes-namespace": a.Namespace, "kubernetes-service-account": a.ServiceAccount,
	} {
		context["aws:RequestTag/"+tag] = iampolicy.Values{value}
		if a.Untagged {
			context["aws:RequestTag/"+tag] = nil
		}
	}
	all := []Call{{
		What:   "EKS Pod Identity assumes" + what,
		Caller: iampolicy.Caller{ARN: "pods.eks.amazonaws.com"}, Action: "sts:AssumeRole", Resource: a.RoleARN, Context: fromAWS(context),
		Source: "Amazon EKS User Guide, How EKS Pod Identity works; aws:SourceArn is inferred",
	}}
	if a.Untagged { // with tags, which pod it is is not known
		all[0].Context["aws:RequestTag/kubernetes-pod-name"], all[0].Context["aws:RequestTag/kubernetes-pod-uid"] = nil, nil
	} else {
		tags := all[0]
		tags.What, tags.Action = "EKS Pod Identity tags the session of"+what, "sts:TagSession"
		tags.Source = "Amazon EKS User Guide, EKS Pod Identity role; aws:SourceArn is inferred"
		all = append(all, tags)
	}
	return all
}
