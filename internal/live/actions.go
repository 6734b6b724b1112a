package live

// Action is one that reading an account needs.
type Action struct {
	// Name as IAM has it.
	Name string
	// Resources are the patterns of ARNs that IAM can limit it to, with PARTITION, REGION,
	// ACCOUNT, CLUSTER and ROLE to fill in. Empty if it knows none, or none that is known
	// before.
	Resources []string
}

// actions are all that [AWS.Read] and [AWS.Stacks] call. None of them changes anything.
//
// Source: Service Authorization Reference, "Actions, resources, and condition keys" of each
// service.
var actions = []Action{
	{"cloudformation:DescribeStacks", nil},
	{"cloudformation:DescribeStackResourceDrifts", nil},
	{"cloudformation:ListStackResources", nil},
	{"cloudtrail:DescribeTrails", nil},
	{"cloudtrail:GetEventSelectors", nil},
	{"cloudtrail:GetTrailStatus", nil},
	{"cloudwatch:DescribeAlarms", nil},
	{"eks:DescribeAccessEntry", nil},
	{"eks:DescribeAddon", nil},
	{"eks:DescribeCluster", nil},
	{"eks:DescribeIdentityProviderConfig", nil},
	{"eks:DescribeNodegroup", nil},
	{"eks:DescribePodIdentityAssociation", nil},
	{"eks:ListAccessEntries", nil},
	{"eks:ListAddons", nil},
	{"eks:ListAssociatedAccessPolicies", nil},
	{"eks:ListIdentityProviderConfigs", nil},
	{"eks:ListNodegroups", nil},
	{"eks:ListPodIdentityAssociations", nil},
	{"events:ListRules", nil},
	{"events:ListTargetsByRule", nil},
	{"iam:GetAccountAuthorizationDetails", nil},
	{"kms:Decrypt", nil},
	{"kms:DescribeKey", nil},
	{"kms:GetKeyPolicy", nil},
	{"kms:GetKeyRotationStatus", nil},
	{"kms:ListAliases", nil},
	{"kms:ListGrants", nil},
	{"logs:DescribeLogGroups", nil},
	{"logs:DescribeMetricFilters", nil},
	{"s3:GetBucketObjectLockConfiguration", nil},
	{"s3:GetBucketPolicy", nil},
	{"s3:GetBucketPublicAccessBlock", nil},
	{"s3:GetBucketVersioning", nil},
	{"s3:GetEncryptionConfiguration", nil},
	{"s3:GetLifecycleConfiguration", nil},
	{"sns:GetSubscriptionAttributes", nil},
	{"sns:GetTopicAttributes", nil},
	{"sns:ListSubscriptionsByTopic", nil},
	{"sqs:GetQueueAttributes", nil},
	{"sqs:GetQueueUrl", nil},
	{"sts:AssumeRole", nil},
	{"sts:GetCallerIdentity", nil},
}

// Actions are all that reading an account needs.
func Actions() []Action { return actions }
