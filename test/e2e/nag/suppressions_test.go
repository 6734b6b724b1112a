package nag

// suppression explains a finding that is left as it is.
type suppression struct {
	rule string
	// paths are those of the constructs, below the stack.
	paths  []string
	reason string
}

const (
	clusterRole  = "EncryptedCluster/ClusterRole/Resource"
	autoNodes    = "EncryptedCluster/Cluster/ClusternodePoolRole/Resource"
	groupNodes   = "EncryptedCluster/Cluster/NodegroupNodes/NodeGroupRole/Resource"
	ownNodes     = "EncryptedCluster/NodeRole/Resource"
	handler      = "EncryptedCluster/Cluster/KubectlProvider/Handler"
	framework    = "EncryptedCluster/Cluster/KubectlProvider/Provider/framework-onEvent"
	awsManaged   = "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/"
	eksNeeds     = "The EKS User Guide asks for this policy, and AWS keeps it up to date with what EKS does. It gives no cryptographic use of a KMS key."
	nodesNeed    = "The role of the nodes has it, which join the cluster and pull images with it. It gives no use of a KMS key."
	cdkHandler   = "A policy that CDK gives its own handler of Kubernetes objects, on which this library has no say. It gives no use of a KMS key."
	inlinePolicy = "The policy belongs to this one role and names the resources that it is for. A managed policy could be attached elsewhere."
	ofDeployment = "CDK's own handler, which runs while CloudFormation deploys and waits for its answer: "
)

var suppressions = []suppression{
	{awsManaged + "AmazonEKSClusterPolicy]", []string{clusterRole}, eksNeeds},
	{awsManaged + "AmazonEKSBlockStoragePolicy]", []string{clusterRole}, eksNeeds},
	{awsManaged + "AmazonEKSComputePolicy]", []string{clusterRole}, eksNeeds},
	{awsManaged + "AmazonEKSLoadBalancingPolicy]", []string{clusterRole}, eksNeeds},
	{awsManaged + "AmazonEKSNetworkingPolicy]", []string{clusterRole}, eksNeeds},
	{awsManaged + "AmazonEKSWorkerNodePolicy]", []string{autoNodes, groupNodes, ownNodes}, nodesNeed},
	{awsManaged + "AmazonEKS_CNI_Policy]", []string{groupNodes, ownNodes}, nodesNeed},
	{awsManaged + "AmazonEC2ContainerRegistryReadOnly]", []string{autoNodes, groupNodes, ownNodes}, nodesNeed},
	{awsManaged + "AmazonEKSFargatePodExecutionRolePolicy]", []string{"EncryptedCluster/FargateRole/Resource"}, eksNeeds},
	{awsManaged + "AmazonEC2ContainerRegistryReadOnly]", []string{handler + "/ServiceRole/Resource"}, cdkHandler},
	{`AwsSolutions-IAM4[Policy::{"Fn::If":["EncryptedClusterKubectlProviderHandlerHasEcrPublic7546F772",{"Fn::Join":["",["arn:",{"Ref":"AWS::Partition"},":iam::aws:policy/AmazonElasticContainerRegistryPublicReadOnly"]]},{"Ref":"AWS::NoValue"}]}]`,
		[]string{handler + "/ServiceRole/Resource"}, cdkHandler},
	{awsManaged + "service-role/AWSLambdaBasicExecutionRole]", []string{handler + "/ServiceRole/Resource", framework + "/ServiceRole/Resource"}, cdkHandler},
	{awsManaged + "service-role/AWSLambdaVPCAccessExecutionRole]", []string{handler + "/ServiceRole/Resource", framework + "/ServiceRole/Resource"}, cdkHandler},
	{"AwsSolutions-IAM5[Resource::<EncryptedClusterKubectlProviderHandlerC59E390F.Arn>:*]", []string{framework + "/ServiceRole/DefaultPolicy/Resource"},
		"CDK's framework may call every version of one function, its own handler. The wildcard stands for the version."},
	{"AwsSolutions-L1", []string{handler + "/Resource"},
		"CDK chooses the runtime of its handler, and a newer one comes with a newer CDK."},
	{"AwsSolutions-S1", []string{"AuditTrail/Logs/Resource"},
		"Access logs need a second bucket, with a retention of its own. Anyone who wants them adds them to the bucket that `AuditTrail.Bucket` returns, or records its data events."},
	{"AwsSolutions-VPC7", []string{"Vpc/Resource"},
		"Flow logs say nothing about the use of the key. Anyone who wants them adds them to the VPC, or brings a VPC that has them."},
	{"NIST.800.53.R5-CloudTrailCloudWatchLogsEnabled", []string{"AuditTrail/Trail/Resource"},
		"The trail's record is the bucket, which only `audit.readers` can decrypt, and the alarms come from EventBridge. `audit.cloudWatchLogsRetentionDays` asks for a copy in CloudWatch Logs, as example 03_node_group does."},
	{"NIST.800.53.R5-CloudWatchLogGroupEncrypted", []string{"AuditTrail/AlarmLog/Resource"},
		"The copy of the alarms must be written while a customer key can't be used. CloudWatch Logs encrypts it under a key of its own. The groups of the control plane's and the handler's logs have a key."},
	{"NIST.800.53.R5-SNSEncryptedKMS", []string{"AuditTrail/Undelivered/Resource"},
		"This topic tells of alarms that did not arrive, for want of a key for example. It says nothing but that, and where to look."},
	{"AwsSolutions-SQS3", []string{"AuditTrail/UndeliveredQueue/Resource"},
		"It is the dead-letter queue."},
	{"NIST.800.53.R5-IAMNoInlinePolicy", []string{handler + "/ServiceRole/DefaultPolicy/Resource", framework + "/ServiceRole/DefaultPolicy/Resource",
		"AuditTrail/Trail/LogsRole/DefaultPolicy/Resource", "EncryptedCluster/ClusterRole/DefaultPolicy/Resource", "EncryptedCluster/KmsPlugin/Role/DefaultPolicy/Resource",
		"EncryptedCluster/KmsPlugin/TenantRole-acme/DefaultPolicy/Resource", "EncryptedCluster/KmsPlugin/TenantRole-globex/DefaultPolicy/Resource"}, inlinePolicy},
	{"NIST.800.53.R5-LambdaConcurrency", []string{handler + "/Resource", framework + "/Resource"},
		ofDeployment + "reserved concurrency would be taken from the account's other functions all the time."},
	{"NIST.800.53.R5-LambdaDLQ", []string{handler + "/Resource", framework + "/Resource"},
		ofDeployment + "a failure fails the deployment. Nobody would read a queue of it."},
	{"NIST.800.53.R5-S3BucketLoggingEnabled", []string{"AuditTrail/Logs/Resource"},
		"As AwsSolutions-S1."},
	{"NIST.800.53.R5-S3BucketReplicationEnabled", []string{"AuditTrail/Logs/Resource"},
		"A copy needs a bucket in another Region or account, which is the owner's choice. The bucket keeps versions and outlives its stack."},
	{"NIST.800.53.R5-S3DefaultEncryptionKMS", []string{"AuditTrail/Logs/Resource"},
		"CloudTrail encrypts every log file under the audit key. A default key of the bucket would apply to what arrives without one, whose encryption context the key's policy does not allow."},
	{"NIST.800.53.R5-VPCFlowLogsEnabled", []string{"Vpc/Resource"},
		"As AwsSolutions-VPC7."},
	{"NIST.800.53.R5-VPCNoUnrestrictedRouteToIGW", []string{"Vpc/PublicSubnet1/DefaultRoute", "Vpc/PublicSubnet2/DefaultRoute"},
		"The NAT gateways need it, through which nodes reach AWS's APIs and their images. Nodes are in private subnets."},
	{"NIST.800.53.R5-VPCSubnetAutoAssignPublicIpDisabled", []string{"Vpc/PublicSubnet1/Subnet", "Vpc/PublicSubnet2/Subnet"},
		"CDK's default for public subnets. Only NAT gateways are in them, which have addresses of their own."},
}
