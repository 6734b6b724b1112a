package live

import "slices"

// actions are all that [AWS.Read] and [AWS.Stacks] call, as IAM names them. None changes
// anything.
//
// Source: Service Authorization Reference, "Actions, resources, and condition keys" of each
// service.
var actions = []string{
	"cloudformation:DescribeStacks",
	"cloudformation:DescribeStackResourceDrifts",
	"cloudformation:ListStackResources",
	"cloudtrail:DescribeTrails",
	"cloudtrail:GetEventSelectors",
	"cloudtrail:GetTrailStatus",
	"cloudwatch:DescribeAlarms",
	"eks:DescribeAccessEntry",
	"eks:DescribeAddon",
	"eks:DescribeCluster",
	"eks:DescribeIdentityProviderConfig",
	"eks:DescribeNodegroup",
	"eks:DescribePodIdentityAssociation",
	"eks:ListAccessEntries",
	"eks:ListAddons",
	"eks:ListAssociatedAccessPolicies",
	"eks:ListIdentityProviderConfigs",
	"eks:ListNodegroups",
	"eks:ListPodIdentityAssociations",
	"events:ListRules",
	"events:ListTargetsByRule",
	"iam:GetAccountAuthorizationDetails",
	"kms:Decrypt",
	"kms:DescribeKey",
	"kms:GetKeyPolicy",
	"kms:GetKeyRotationStatus",
	"kms:ListAliases",
	"kms:ListGrants",
	"logs:DescribeLogGroups",
	"logs:DescribeMetricFilters",
	"s3:GetBucketObjectLockConfiguration",
	"s3:GetBucketPolicy",
	"s3:GetBucketPublicAccessBlock",
	"s3:GetBucketVersioning",
	"s3:GetEncryptionConfiguration",
	"s3:GetLifecycleConfiguration",
	"sns:GetSubscriptionAttributes",
	"sns:GetTopicAttributes",
	"sns:ListSubscriptionsByTopic",
	"sqs:GetQueueAttributes",
	"sqs:GetQueueUrl",
	"sts:AssumeRole",
	"sts:GetCallerIdentity",
}

// Actions are all that reading an account calls.
func Actions() []string { return slices.Clone(actions) }

// Permissions are the actions that must be allowed for it. Who one is needs none, and Decrypt
// is asked as a dry run only, of which a refusal is the answer.
func Permissions() []string {
	return slices.DeleteFunc(Actions(), func(name string) bool {
		return name == "kms:Decrypt" || name == "sts:GetCallerIdentity" || name == "sts:AssumeRole"
	})
}
