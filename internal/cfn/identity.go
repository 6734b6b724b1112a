package cfn

import (
	"regexp"
	"strings"

	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/value"
)

// identity says how resources of a type are named.
type identity struct {
	// name is the property that holds the name. Without it, or without its value,
	// the logical ID stands for the name.
	name string
	// arn is the ARN after the partition: {r} Region, {a} account, {n} name, {path}.
	arn string
	// refARN tells that Ref gives the ARN.
	refARN bool
}

// identities are those of the types whose ARN, or Ref, a policy or a rule can hold.
// Source: AWS CloudFormation Template Reference, "Return values" of each type.
var identities = map[string]identity{
	"AWS::IAM::Role":                       {name: "RoleName", arn: "iam::{a}:role{path}{n}"},
	"AWS::IAM::User":                       {name: "UserName", arn: "iam::{a}:user{path}{n}"},
	"AWS::IAM::Group":                      {name: "GroupName", arn: "iam::{a}:group{path}{n}"},
	"AWS::IAM::ManagedPolicy":              {name: "ManagedPolicyName", arn: "iam::{a}:policy{path}{n}", refARN: true},
	"AWS::IAM::InstanceProfile":            {name: "InstanceProfileName", arn: "iam::{a}:instance-profile{path}{n}"},
	"AWS::IAM::OIDCProvider":               {arn: "iam::{a}:oidc-provider/{n}", refARN: true},
	"AWS::KMS::Key":                        {arn: "kms:{r}:{a}:key/{n}"},
	"AWS::KMS::ReplicaKey":                 {arn: "kms:{r}:{a}:key/{n}"},
	"AWS::KMS::Alias":                      {name: "AliasName"},
	"AWS::EKS::Cluster":                    {name: "Name", arn: "eks:{r}:{a}:cluster/{n}"},
	"Custom::AWSCDK-EKS-Cluster":           {arn: "eks:{r}:{a}:cluster/{n}"},
	"AWS::CloudTrail::Trail":               {name: "TrailName", arn: "cloudtrail:{r}:{a}:trail/{n}"},
	"AWS::SNS::Topic":                      {name: "TopicName", arn: "sns:{r}:{a}:{n}", refARN: true},
	"AWS::SQS::Queue":                      {name: "QueueName", arn: "sqs:{r}:{a}:{n}"},
	"AWS::S3::Bucket":                      {name: "BucketName", arn: "s3:::{n}"},
	"AWS::Logs::LogGroup":                  {name: "LogGroupName", arn: "logs:{r}:{a}:log-group:{n}:*"},
	"AWS::Lambda::Function":                {name: "FunctionName", arn: "lambda:{r}:{a}:function:{n}"},
	"AWS::Events::Rule":                    {name: "Name", arn: "events:{r}:{a}:rule/{n}"},
	"AWS::SecretsManager::Secret":          {name: "Name", arn: "secretsmanager:{r}:{a}:secret:{n}", refARN: true},
	"AWS::CloudWatch::Alarm":               {name: "AlarmName", arn: "cloudwatch:{r}:{a}:alarm:{n}"},
	"AWS::StepFunctions::StateMachine":     {name: "StateMachineName", arn: "states:{r}:{a}:stateMachine:{n}", refARN: true},
	"AWS::EC2::LaunchTemplate":             {name: "LaunchTemplateName"},
	"AWS::CloudFormation::Stack":           {name: "StackName", arn: "cloudformation:{r}:{a}:stack/{n}", refARN: true},
	"AWS::EKS::Nodegroup":                  {name: "NodegroupName", arn: "eks:{r}:{a}:nodegroup/{n}"},
	"AWS::EKS::PodIdentityAssociation":     {arn: "eks:{r}:{a}:podidentityassociation/{n}"},
	"AWS::DynamoDB::Table":                 {name: "TableName", arn: "dynamodb:{r}:{a}:table/{n}"},
	"AWS::KinesisFirehose::DeliveryStream": {name: "DeliveryStreamName", arn: "firehose:{r}:{a}:deliverystream/{n}"},
}

func (r *resolver) properties(id string) map[string]any {
	p, _ := r.raw.resources[id]["Properties"].(map[string]any)
	return p
}

func (r *resolver) identity(id string) identity {
	kind, _ := r.raw.resources[id]["Type"].(string)
	return identities[kind]
}

var keyID = regexp.MustCompile(`^(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)

// known is the ARN that a key of KMS has by its metadata, or empty: see
// [place.KeyIDMetadata].
func (r *resolver) known(id string) string {
	resource := r.raw.resources[id]
	metadata, _ := resource["Metadata"].(map[string]any)
	if name, _ := metadata[place.KeyIDMetadata].(string); resource["Type"] == "AWS::KMS::Key" && keyID.MatchString(name) {
		return r.arnOf(id, name)
	}
	return ""
}

// given is the name that a template gives a resource, or empty.
func (r *resolver) given(id string) string {
	if property := r.identity(id).name; property != "" {
		return str(r.guarded("name of "+id, func() any { return r.value(r.properties(id)[property]) }))
	}
	if kind := r.raw.resources[id]["Type"]; kind == "Custom::AWSCDK-EKS-Cluster" {
		config, _ := r.properties(id)["Config"].(map[string]any)
		return str(r.value(config["name"]))
	}
	return ""
}

// name is the name of a resource. The logical ID stands for one that CloudFormation makes
// up, or that is not known in full; it is made unique among the stacks of the assembly.
func (r *resolver) name(id string) string {
	if text := r.given(id); text != "" && r.template.unknownIn(text) == "" {
		return text
	}
	if r.shared[id] {
		return strings.ReplaceAll(r.template.Name, "/", "-") + "-" + id
	}
	return id
}

// arn returns the ARN of a resource, or "" if its type is not known.
func (r *resolver) arn(id string) string { return r.arnOf(id, r.name(id)) }

func (r *resolver) arnOf(id, name string) string {
	pattern := r.identity(id).arn
	if pattern == "" {
		return ""
	}
	path, ok := r.value(r.properties(id)["Path"]).(string)
	if !ok || !strings.HasPrefix(path, "/") {
		path = "/"
	}
	t := r.template
	return "arn:" + t.Partition + ":" + strings.NewReplacer(
		"{r}", t.Region, "{a}", t.Account, "{n}", name, "{path}", path).Replace(pattern)
}

// ref resolves a Ref.
func (r *resolver) ref(name string) any {
	t := r.template
	switch name {
	case "AWS::AccountId":
		return t.Account
	case "AWS::Region":
		return t.Region
	case "AWS::Partition":
		return t.Partition
	case "AWS::URLSuffix":
		return place.DNSSuffix(t.Partition)
	case "AWS::StackName":
		return t.Name
	case "AWS::StackId":
		return "arn:" + t.Partition + ":cloudformation:" + t.Region + ":" + t.Account + ":stack/" + t.Name
	case "AWS::NoValue":
		return value.Nothing{}
	}
	if _, ok := r.raw.parameters[name]; ok {
		return r.parameter(name)
	}
	if _, ok := r.raw.resources[name]; !ok {
		return r.unknown(name)
	}
	if r.identity(name).refARN {
		return r.arn(name)
	}
	return r.name(name)
}

// attribute resolves a Fn::GetAtt.
func (r *resolver) attribute(id, attribute string) any {
	if _, ok := r.raw.resources[id]; !ok {
		return r.unknown(id + "." + attribute)
	}
	if output, ok := strings.CutPrefix(attribute, "Outputs."); ok {
		nested := r.nested[id]
		if nested == nil {
			return r.unknown(id + "." + attribute)
		}
		return r.from(nested.guarded("output "+output, func() any { return nested.value(nested.raw.outputs[output]["Value"]) }))
	}
	switch attribute {
	case "Arn", "TopicArn", "AlarmArn", "PolicyArn":
		if arn := r.arn(id); arn != "" {
			return arn
		}
	case "KeyId", "RoleName", "TopicName", "QueueName":
		return r.name(id)
	}
	return r.unknown(id + "." + attribute) // something that the service makes up
}
