package check

import (
	"maps"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/reveal"
)

// Rules returns all rules, in the order of the documentation.
func Rules() []finding.Rule { return slices.Clone(rules) }

var rules = []finding.Rule{
	// The cluster.
	{
		ID: "secrets-not-encrypted", Severity: finding.High,
		Title:    "The cluster's secrets are not under a customer-managed key",
		Why:      "EKS then encrypts them under a key that AWS owns, if at all: you can't say who may use it, see its use, rotate it, or cut off access.",
		Fix:      "Add EncryptionConfig with a key of your own and Resources [secrets] before the cluster is made. CloudFormation replaces a cluster whose EncryptionConfig changes: on one that exists run 'aws eks associate-encryption-config', and leave the template as it is.",
		Controls: append([]finding.Control{cis531, eks3, ctEKS2}, inferred(sc28, sc281)...),
	},
	{
		ID: "encrypted-resources-wrong", Severity: finding.High,
		Title:    "EncryptionConfig does not name exactly the secrets",
		Why:      "EKS takes the list [secrets] only. Another one fails, or leaves AWS Config's rule eks-secrets-encrypted non-compliant.",
		Fix:      "Set EncryptionConfig's Resources to [secrets].",
		Controls: append([]finding.Control{eks3, ctEKS2}, inferred(cis531, sc28)...),
	},
	{
		ID: "secrets-key-unsuitable", Severity: finding.High,
		Title:    "The key can't encrypt the cluster's secrets",
		Why:      "EKS needs an enabled, symmetric key for encryption in the cluster's Region. Without it the cluster is not created, or stops working; imported key material can expire or be deleted at once, and the cluster's data with it.",
		Fix:      "Use a key with KeySpec SYMMETRIC_DEFAULT, KeyUsage ENCRYPT_DECRYPT, Origin AWS_KMS and Enabled true, in the cluster's Region.",
		Controls: inferred(cis531, sc12, sc28),
	},
	{
		ID: "endpoint-public", Severity: finding.Medium,
		Title:    "The API server answers the whole internet",
		Why:      "Everybody can try stolen credentials on it, or a flaw of the API server; anyone who gets in reads the secrets decrypted.",
		Fix:      "Set ResourcesVpcConfig's EndpointPublicAccess to false and EndpointPrivateAccess to true, or list your networks in PublicAccessCidrs.",
		Controls: []finding.Control{cis541, cis542, eks1, ctEKS1, sc7, pci144},
	},
	{
		ID: "audit-log-off", Severity: finding.Medium,
		Title:    "The control plane's audit log is off",
		Why:      "CloudTrail shows that EKS used the key, only the audit log shows who read which secret. It can't be had afterwards.",
		Fix:      "Add the type audit to Logging's ClusterLogging.EnabledTypes.",
		Controls: append([]finding.Control{cis211, eks8}, inferred(au2, au12, pci1021)...),
	},
	{
		ID: "kubernetes-version-ended", Severity: finding.Medium,
		Title:    "AWS has ended its support of the cluster's Kubernetes version",
		Why:      "AWS upgrades such a cluster by itself, at a time of its choice. Until then nobody fixes the API server, which holds the secrets decrypted.",
		Fix:      "Set Version to a supported one, a minor version at a time, and let nodes and add-ons follow.",
		Controls: append([]finding.Control{eks2}, inferred(si2)...),
	},
	// The key.
	{
		ID: "key-rotation-off", Severity: finding.High,
		Title:    "The key is not rotated",
		Why:      "All data stays under one key material for as long as the key lives. Rotation changes neither ARN nor clients.",
		Fix:      "Set EnableKeyRotation to true and RotationPeriodInDays to 365 or less.",
		Controls: []finding.Control{kms4, cis36, ctKMS1, sc12, sc122, sc283, pci364, pci374},
	},
	{
		ID: "key-rotation-slow", Severity: finding.Medium,
		Title:    "The key is rotated less than once a year",
		Why:      "A year is the cryptoperiod that auditors accept without questions, and what KMS does by default.",
		Fix:      "Set RotationPeriodInDays to 365 or less; 90 is the least.",
		Controls: inferred(kms4, sc12, pci374),
	},
	{
		ID: "key-deletable", Severity: finding.High,
		Title:    "The key is deleted with its stack",
		Why:      "When the stack is deleted, or the key is replaced, KMS schedules the key for deletion. The cluster, its backups, or the logs under the key are lost with it, for AWS too.",
		Fix:      "Set DeletionPolicy to Retain or RetainExceptOnCreate, and UpdateReplacePolicy to Retain.",
		Controls: inferred(kms3, sc12, sc121),
	},
	{
		ID: "key-deletion-window-short", Severity: finding.Medium,
		Title:    "A deletion of the key can be stopped for less than 30 days",
		Why:      "When the waiting period ends, the cluster is lost. 30 days cost nothing and are longer than a holiday.",
		Fix:      "Set PendingWindowInDays to 30, or leave it out.",
		Controls: inferred(kms3, sc121),
	},
	// The key policy.
	{
		ID: "key-no-durable-admin", Severity: finding.Critical,
		Title:    "Nobody who outlives the stack can administer the key",
		Why:      "Once the last principal that may change the key policy is gone, the key is locked: it can't be changed, rotated, enabled or deleted, and only AWS Support can help.",
		Fix:      "Allow kms:PutKeyPolicy to the account root, or to a role outside this stack, without conditions that can lapse.",
		Controls: inferred(sc12, sc121),
	},
	{
		ID: "key-policy-any-principal", Severity: finding.Critical,
		Title:    "The key policy lets in everybody",
		Why:      "The principal * is everybody in every AWS account. Nothing in the statement limits it to accounts, an organization, principals or a source.",
		Fix:      "Name the principals, or add a condition on aws:PrincipalArn, aws:PrincipalOrgID or aws:SourceArn.",
		Controls: append([]finding.Control{kms5}, inferred(ac3, ac6)...),
	},
	{
		ID: "key-policy-cross-account", Severity: finding.High,
		Title:    "Another account may use the key",
		Why:      "The administrators of that account decide who decrypts the secrets, and your IAM policies have no say.",
		Fix:      "Remove the other account, or add the condition on the encryption context that it needs and suppress this finding with the reason.",
		Controls: inferred(ac3, ac6),
	},
	{
		ID: "key-policy-all-actions", Severity: finding.High,
		Title:    "A principal may do everything with the key",
		Why:      "Who administers a key must not be able to use it: an administrator with kms:* decrypts the secrets, and gives grants to do so.",
		Fix:      "List the administrative actions, as in the AWS KMS Developer Guide, \"Allows key administrators to administer the KMS key\".",
		Controls: inferred(ac5, ac6),
	},
	{
		ID: "crypto-delegated-to-iam", Severity: finding.High,
		Title:    "IAM policies alone decide who uses the key",
		Why:      "The key policy gives cryptographic actions or CreateGrant to the whole account. So every role with kms:Decrypt on * reads the secrets, and every administrator of IAM can make one; where the principal is *, every role and user does, without an IAM policy.",
		Fix:      "Give the account root the administrative actions only, and name who may make grants and who may use the key.",
		Controls: inferred(ac3, ac6, kms1),
	},
	{
		ID: "cluster-creator-missing", Severity: finding.High,
		Title:    "Nobody can create the cluster with this key",
		Why:      "EKS calls DescribeKey and CreateGrant in the name of the principal that creates the cluster. Nobody has both, so CreateCluster fails with access denied.",
		Fix:      "Allow kms:DescribeKey and kms:CreateGrant to the role that creates the cluster: under CDK, CloudFormation's execution role.",
		Controls: inferred(sc121),
	},
	{
		ID: "cluster-role-missing", Severity: finding.Medium,
		Title:    "The cluster's role can't see the key",
		Why:      "EKS checks the key with the cluster's role. Without kms:DescribeKey the creation fails with the misleading \"Role could not be assumed because it does not exist\" (aws/containers-roadmap issue 1533).",
		Fix:      "Allow kms:DescribeKey and kms:ListGrants to the cluster's role in the key policy.",
		Controls: inferred(sc121),
	},
	{
		ID: "condition-never-matches", Severity: finding.High,
		Title:    "A condition can never be met",
		Why:      "EKS encrypts under the context aws:eks:context alone, with a value that it makes up. A condition on another key, or on another Region's endpoint, leaves the statement without effect, and hides that from the reader.",
		Fix:      "Remove the condition. To limit CreateGrant use kms:GrantConstraintType, kms:GrantOperations or kms:ViaService.",
		Controls: inferred(ac3),
	},
	{
		ID: "grant-for-aws-resource", Severity: finding.High,
		Title:    "The creators may make grants only with kms:GrantIsForAWSResource",
		Why:      "CreateCluster does not support that condition (Amazon EKS User Guide, \"Encrypt Kubernetes secrets with KMS\"): creating the cluster fails.",
		Fix:      "Drop the condition for the cluster's creators. Control Tower's CT.KMS.PR.3 asks for it: exempt this key there.",
		Controls: inferred(ctKMS3),
	},
	{
		ID: "grants-unrestricted", Severity: finding.High,
		Title:    "A principal that creates no cluster may make any grant",
		Why:      "Who may make grants may give Decrypt to anybody, past the key policy and unseen in it.",
		Fix:      "Remove kms:CreateGrant, or limit it with kms:GrantConstraintType, kms:GrantOperations, kms:GranteePrincipal or kms:ViaService.",
		Controls: inferred(ctKMS3, ac6),
	},
	{
		ID: "use-without-context", Severity: finding.High,
		Title:    "A principal may use the key under any encryption context",
		Why:      "It decrypts whatever is under the key, the data of other clusters and tenants too. EKS itself uses its grant: the cluster's role needs no cryptographic action.",
		Fix:      "Remove the cryptographic actions, or add a condition on kms:EncryptionContext: with the pairs that the principal sends.",
		Controls: inferred(ac3, ac6),
	},
	{
		ID: "iam-decrypt-any-key", Severity: finding.Medium,
		Title:    "An IAM policy allows decryption with all keys",
		Why:      "It reaches every key whose policy trusts the account, this cluster's too as soon as its policy does.",
		Fix:      "Name the keys in Resource, or add a condition on kms:ViaService or kms:ResourceAliases.",
		Controls: []finding.Control{kms1, kms2, ac6},
	},
	{
		ID: "cluster-locked-out", Severity: finding.Critical,
		Title:    "The key policy refuses a call that the running cluster needs",
		Why:      "EKS reads and writes the cluster's data under its grant, from AWS's own network. A Deny beats the grant: API servers that start can't decrypt, and the cluster is lost with them.",
		Fix:      "Except AWS from the Deny: with aws:PrincipalIsAWSService and aws:ViaAWSService, both BoolIfExists false, beside the condition on the network or on MFA.",
		Controls: inferred(ac3, sc12),
	},
	{
		ID: "key-creation-refused", Severity: finding.High,
		Title:    "KMS refuses to make the key with this policy",
		Why:      "KMS makes no key, and takes no policy, by which its caller could not put the next one. The deployment fails at the key.",
		Fix:      "Let the account root or who deploys do kms:PutKeyPolicy.",
		Controls: inferred(ac3),
	},
	{
		ID: "key-lockout-check-bypassed", Severity: finding.Medium,
		Title:    "The check against locking oneself out of the key is switched off",
		Why:      "KMS then takes a policy that nobody may change again. Only AWS Support can help with such a key.",
		Fix:      "Leave BypassPolicyLockoutSafetyCheck out.",
		Controls: inferred(ac3, sc12),
	},
	{
		ID: "policy-not-understood", Severity: finding.High,
		Title:    "A policy could not be read",
		Why:      "It has an element that this check does not know. Nothing is assumed about what it allows.",
		Fix:      "Correct the policy. If it is right, report it to the ekskms project and suppress this finding with the reason.",
		Controls: inferred(ac3),
	},
	{
		ID: "trust-never-matches", Severity: finding.Medium,
		Title:    "The role of a Pod Identity association can't be assumed",
		Why:      "Its trust policy asks for what EKS Pod Identity does not send. The pods get no credentials.",
		Fix:      "Let pods.eks.amazonaws.com do sts:AssumeRole and sts:TagSession, with conditions on aws:RequestTag/eks-cluster-arn, kubernetes-namespace and kubernetes-service-account.",
		Controls: inferred(ac3),
	},
	// The trail.
	{
		ID: "trail-undeliverable", Severity: finding.High,
		Title:    "CloudTrail can't deliver its log files",
		Why:      "The policy of the bucket or of the key refuses CloudTrail: the use of the key is on no record, or the deployment fails at the trail.",
		Fix:      "Let cloudtrail.amazonaws.com do s3:GetBucketAcl on the bucket, s3:PutObject on the trail's folder in it, with its prefix, and kms:GenerateDataKey* with the key, for aws:SourceArn of the trail.",
		Controls: inferred(au2, au9),
	},
	{
		ID: "volumes-key-refused", Severity: finding.High,
		Title:    "Nodes can't start under the key of their disks",
		Why:      "The policy of the key refuses who has EC2 start the nodes: each instance ends right after its start, with Client.InternalError, and the node group or the node pool never gets a node.",
		Fix:      "Let the service-linked role AWSServiceRoleForAutoScaling, for node groups, or the role of the cluster, for Auto Mode, do kms:Decrypt, kms:GenerateDataKeyWithoutPlaintext, kms:ReEncryptFrom and kms:ReEncryptTo through EC2 (kms:ViaService), kms:DescribeKey, and kms:CreateGrant where kms:GrantIsForAWSResource is true.",
		Controls: inferred(sc12),
	},
	{
		ID: "alarm-undeliverable", Severity: finding.High,
		Title:    "An alarm can't reach its target",
		Why:      "The policy of the topic, the queue or the function, or of its key, refuses EventBridge or CloudWatch: the alarm is raised, and nobody is told.",
		Fix:      "Let events.amazonaws.com, or cloudwatch.amazonaws.com for a metric alarm, do sns:Publish on the topic, sqs:SendMessage on the queue or lambda:InvokeFunction on the function, and kms:GenerateDataKey* and kms:Decrypt with its key: for EventBridge without aws:SourceArn and aws:SourceAccount in the key's policy, which it does not send there. alias/aws/sns and alias/aws/sqs can't be used.",
		Controls: inferred(si45),
	},
	{
		ID: "trail-missing", Severity: finding.Medium,
		Title:    "No trail records the use of the key",
		Why:      "Without a trail nobody can tell who decrypted what after 90 days, and EventBridge rules on calls to KMS get no events at all.",
		Fix:      "Add a trail for management events. If the account has one, suppress this finding with its name as the reason.",
		Controls: []finding.Control{trail1, trail3, au2, au12, pci101},
	},
	{
		ID: "trail-not-logging", Severity: finding.High,
		Title:    "The trail does not log",
		Why:      "It is there and records nothing.",
		Fix:      "Set IsLogging to true.",
		Controls: []finding.Control{trail1, trail3, au12, pci101},
	},
	{
		ID: "trail-excludes-kms", Severity: finding.High,
		Title:    "The trail leaves out calls to KMS",
		Why:      "Uses of the key go unrecorded, or changes of it, and the alarms on them stay silent.",
		Fix:      "Record all management events: IncludeManagementEvents true, ReadWriteType All, and no kms.amazonaws.com in ExcludeManagementEventSources.",
		Controls: []finding.Control{trail1, au2, au12},
	},
	{
		ID: "trail-no-validation", Severity: finding.Medium,
		Title:    "Changed log files would not be noticed",
		Why:      "Without digest files nobody can prove that the log is what CloudTrail wrote.",
		Fix:      "Set EnableLogFileValidation to true.",
		Controls: []finding.Control{trail4, ctTrail2, au9, si77, pci1052, pci1055},
	},
	{
		ID: "trail-not-encrypted", Severity: finding.Medium,
		Title:    "The trail's logs are not under a customer-managed key",
		Why:      "Any principal that may read the bucket reads the log: no second permission, on a key, stands before it.",
		Fix:      "Set KMSKeyId to a key of your own.",
		Controls: []finding.Control{trail2, ctTrail1, au9, sc28, pci34},
	},
	{
		ID: "trail-logs-deletable", Severity: finding.Medium,
		Title:    "The trail's logs are deleted with the stack",
		Why:      "Deleting the stack deletes the evidence, or fails halfway because the bucket is not empty.",
		Fix:      "Set DeletionPolicy and UpdateReplacePolicy of the bucket to Retain.",
		Controls: inferred(au9, au11),
	},
	// The alarms.
	{
		ID: "tamper-alarm-missing", Severity: finding.Medium,
		Title:    "Nobody is told when the key is tampered with",
		Why:      "A disabled or deleted key takes the cluster down days later; a changed policy opens the secrets. Each can be undone if somebody knows in time.",
		Fix:      "Add an EventBridge rule with a target on 'AWS API Call via CloudTrail' for these events of the key, or a metric filter with an alarm.",
		Controls: append([]finding.Control{watch7}, inferred(si45)...),
	},
	{
		ID: "trail-tamper-alarm-missing", Severity: finding.Medium,
		Title:    "Nobody is told when the trail is tampered with",
		Why:      "Any principal that stops the trail first is not seen afterwards, and silences the alarms on the key with it.",
		Fix:      "Add an EventBridge rule with a target on 'AWS API Call via CloudTrail' for these events of the trail, or a metric filter with an alarm.",
		Controls: append([]finding.Control{watch5}, inferred(si45, au9)...),
	},
	// What is deployed into the cluster.
	{
		ID: "secrets-readable-by-wildcard", Severity: finding.High,
		Title:    "A Kubernetes role reads secrets that it does not name",
		Why:      "The API server decrypts for any principal with a verb that shows contents: " + strings.Join(reveal.Names(), ", ") + ". A wildcard, or a ClusterRole without resourceNames, makes encryption at rest worth nothing towards its holders.",
		Fix:      "Name the resources, and the secrets under resourceNames, in a Role of the namespace.",
		Controls: append([]finding.Control{cis412, cis413}, inferred(cis411, ac6)...),
	},
	{
		ID: "secrets-role-bound", Severity: finding.Medium,
		Title:    "A binding gives a role that reads every secret",
		Why:      "The built-in cluster-admin, admin and edit read all secrets where they are bound, and so does a role that does not name them. The API server decrypts for its subjects.",
		Fix:      "Bind a role that names the secrets under resourceNames, or none. If the subjects must read all of them, suppress this finding with the reason.",
		Controls: append([]finding.Control{cis411, cis412}, inferred(ac6)...),
	},
	{
		ID: "secrets-reachable", Severity: finding.Medium,
		Title:    "A Kubernetes role has a right that leads to secrets",
		Why:      "Its holders get at secrets without a verb on them: as somebody else, in a pod that has them, or by giving themselves the right.",
		Fix:      "Remove the right, or limit it with resourceNames. If the role must have it, suppress this finding with the reason.",
		Controls: append([]finding.Control{cis412}, inferred(ac6)...),
	},
	{
		ID: "secret-in-template", Severity: finding.High,
		Title:    "A secret stands in the template in the clear",
		Why:      "Any principal that may read the stack's template, its change sets or the repository reads it. Base64 is no encryption.",
		Fix:      "Keep the value in AWS Secrets Manager and let an operator bring it into the cluster; rotate the one that stood here.",
		Controls: append([]finding.Control{cis442}, inferred(ia57, sc28)...),
	},
	// What is not known.
	{
		ID: "known-after-apply", Severity: finding.Medium,
		Title:    "A Terraform plan does not know it yet",
		Why:      "What is known after the apply only can allow anything to anybody, and nothing was said on it: that there is no finding about it means nothing. Only plans have this.",
		Fix:      "Write a test with 'ekskms generate tftest --plan', which makes it known, and check what that prints; or check the state after the apply.",
		Controls: inferred(ac3),
	},
}

var ruleByID = func() map[string]finding.Rule {
	byID := map[string]finding.Rule{}
	for _, r := range rules {
		byID[r.ID] = r
	}
	return byID
}()

func ruleIDs() []string { return slices.Sorted(maps.Keys(ruleByID)) }
