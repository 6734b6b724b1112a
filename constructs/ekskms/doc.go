// Package ekskms holds AWS CDK constructs for Amazon EKS clusters whose
// Kubernetes secrets are encrypted under a customer-managed KMS key (CMK) that
// rotates, that only named principals may use, and whose use is on record.
//
// This comment is the guide for those who import the package. README.md of the
// module is the first page, docs/reference has the commands and the configuration file,
// docs/explanation/security-model.md each policy statement with its reason. Nothing here
// was tried on AWS: docs/explanation/not-tried.md says what the code rests on.
//
// The examples below are compiled and run by the tests.
//
// # The bundle
//
// [EncryptedCluster] makes all of it, with defaults for everything but the name: a VPC,
// the key with its policy, the cluster with a private endpoint and all control-plane
// logs in an encrypted log group, a CloudTrail trail with alarms, and the KMS plugin.
// Nobody may use the Kubernetes API without an access entry, not even the principal that
// created the cluster; only the handler with which CDK applies Kubernetes objects is an
// administrator.
//
// Four constructs make up the bundle, and each can be used alone:
//
//   - [SecretsKey] is the CMK, its alias and its key policy;
//   - [AuditTrail] is the trail, its bucket, and the alarms on tampering;
//   - [KmsPlugin] is the plugin's IAM role and its Kubernetes objects;
//   - [EncryptedCluster] is the EKS cluster, and the three above unless they are
//     passed in or left out.
//
// Make a part first and pass it on to choose its props. Accessors return what was made,
// as CDK's own types, so that you can go on with plain CDK. What can be listed in props
// can be added later: [EncryptedCluster.AddAccessEntry], [KmsPlugin.AddTenant],
// [SecretsRbac.AddReader], [AuditTrail.OnTampering]. Nothing makes outputs in your
// stack; package stacks has a finished one that does.
//
// Constructors copy their props and never write to them. A prop that is missing
// or has a value that they refuse makes them panic with a [*PropError]; the
// comment of each constructor says which.
//
// # The key policy
//
// A security property has no off switch here. Rotation is always on, the key is
// always retained, and the policy always names its principals:
//
//   - the account root, and through it the account's IAM policies, may
//     administer the key: 22 actions, spelled out, none of them cryptographic
//     and kms:CreateGrant not among them;
//   - Administrators may do the same, whatever their IAM policies say;
//   - Creators may call kms:DescribeKey and kms:CreateGrant, which EKS needs
//     when it creates the cluster in their name, for a grant that is bound to an
//     encryption context and to none of a plugin's;
//   - the cluster role may call kms:DescribeKey and kms:ListGrants;
//   - the plugin role may describe the key, and encrypt and decrypt under the
//     encryption context of the cluster, in a session with the tags of its
//     service account.
//
// There is no kms:*, no wildcard principal, and nothing for the account root with which an
// IAM policy alone could hand out cryptographic use. Any principal that IAM allows to put
// a key policy can write itself into it, though, unless BreakGlass takes that away from IAM. EKS itself uses the key through a
// grant that it makes when the cluster is created.
//
// Creators default to CloudFormation's execution role of the CDK bootstrap
// stack. Other deployers must be named, or the cluster fails with
// access denied on kms:CreateGrant. Naming any replaces the default;
// [SecretsKey.GrantClusterCreation] adds one that is made later.
//
// Give further use with the grant methods of this package, such as
// [SecretsKey.GrantPluginUse]. The grant methods of awskms give more than they
// say: GrantEncryptDecrypt adds ReEncrypt and GenerateDataKey.
//
// # Bringing your own cluster, key, trail or VPC
//
// Around a plain cluster of awseksv2, or of CDK's older module awseks, [SecretsKey] and
// [AuditTrail] are used by themselves, and on the first [KmsPlugin] and [SecretsRbac] too:
// pass the Key of the SecretsKey as its SecretsEncryptionKey, and let its role in with
// [SecretsKey.GrantClusterRole]. examples/05_own_cluster does both.
//
// An existing key must be a symmetric CMK in the Region of the cluster. Its
// policy can't be changed from here. [SecretsKey.RequiredKeyPolicyStatements] has the
// statements, as JSON, that the key's owner must add, and a warning says so: make it an
// output of your stack. Those that name no role of the stack must be there
// before the deployment. The one of the plugin's role can be added only after
// it, since KMS refuses a principal that does not exist.
// [SecretsKey_FromSecretsKeyAttributes] and [AuditTrail_FromAuditTrailAttributes] refer
// to what another app made with this package.
//
// # What the plugin serves
//
// The plugin can't serve the API server of EKS: AWS runs that API server,
// together with a KMS plugin of its own, which uses the CMK through EKS's grant.
// The cluster's secrets are encrypted with [KmsPluginOptions_NONE] all the same.
//
// [PluginModeDeployment], the default, serves no API server at all. Two replicas
// prove once a minute, from inside the cluster, that the key can be used by the
// plugin's role under the encryption context of the cluster. When it can't, the
// pods become unready and the Deployment is not available any more, which
// whatever watches your workloads will see.
//
// [PluginModeSidecar] is the same, and gives the pods of each tenant's API server
// an identity of their own: a tenant is a hosted control plane on the cluster,
// with the plugin as a sidecar in its API server's pod. Its role may use the key
// under an encryption context that no other has. The sidecars come with the
// tenants' charts.
//
// [PluginModeDaemonSet] puts the plugin's socket into /var/run/kms-plugin on
// every node, for API servers that run as pods on these nodes, such as those of
// hosted control planes, and mount that folder. The socket is for root only.
//
// On a cluster that was made elsewhere, the plugin needs a kubectl provider, EKS
// Pod Identity, and network policies that are enforced. The key must be made for
// a cluster of that name.
//
// Without Image, the plugin is built from this module's sources when the app is
// deployed, for which that machine needs Docker.
//
// # Who may read secrets
//
// Encryption at rest does not stop any principal that may read secrets through the
// Kubernetes API. [SecretsRbac] lets named readers get named secrets, and can
// guard against roles that let others read all.
//
// docs/howto/secrets-rbac.md says what a reader may do, what the guard objects to, and
// what neither stops.
//
// # Ending an app
//
// End a program that uses CDK with jsii.Close, as the examples do with defer; a test
// binary does it in TestMain. With releases of jsii-runtime-go before 1.142 good runs
// said now and then "Runtime process exited abnormally: waitid: no child processes".
// This module needs 1.142, with which 200 runs of an app of its own said nothing.
//
// # Snapshot tests
//
// Synthesize in a test, assert what matters, and compare the rest with a golden
// file:
//
//	func TestMain(m *testing.M) {
//		code := m.Run()
//		jsii.Close()
//		os.Exit(code)
//	}
//
//	func TestKeyRotates(t *testing.T) {
//		stack := awscdk.NewStack(awscdk.NewApp(nil), jsii.String("Test"), nil)
//		ekskms.NewSecretsKey(stack, jsii.String("SecretsKey"), &ekskms.SecretsKeyProps{
//			ClusterName: jsii.String("payments"),
//		})
//		template := assertions.Template_FromStack(stack, nil)
//		template.AllResourcesProperties(jsii.String("AWS::KMS::Key"), map[string]any{
//			"EnableKeyRotation":    true,
//			"RotationPeriodInDays": 90,
//		})
//	}
//
// Three rules come from the jsii runtime. There is one kernel for the whole test
// binary: close it once, in TestMain. Don't call t.Parallel, because requests to
// the kernel are not locked. And put CDK_VALIDATION=false into the environment
// before the test starts, to save the seconds that CDK's validator takes:
// importing awscdk captures it.
//
// Asset hashes change with every release of this module and of CDK. Replace them
// before you compare: README.md has a complete test.
//
// # Contracts
//
// These don't change within a major version, and you must not change them on a
// live cluster.
//
// Construct IDs. CloudFormation's logical IDs are made of the path of a
// construct. If the path changes, CloudFormation makes a new key and a new
// cluster. That holds for the IDs that you choose, and for those inside:
// SecretsKey/Resource, SecretsKey/Alias, AuditTrail/Key, AuditTrail/Logs,
// AuditTrail/Trail, AuditTrail/TrailCopy, AuditTrail/Alarms, EncryptedCluster/ClusterRole,
// EncryptedCluster/LogsKey, EncryptedCluster/Logs, EncryptedCluster/Cluster,
// KmsPlugin/Role, KmsPlugin/TenantRole-NAME. The parts that [EncryptedCluster] makes itself lie below it,
// such as EncryptedCluster/SecretsKey. A part that you made outside and passed in
// lies elsewhere, so decide once.
//
// Names. They are made of ClusterName, because policies must hold the ARNs
// before the resources exist: the aliases alias/eks/NAME, alias/eks/NAME/audit,
// alias/eks/NAME/alarms and alias/eks/NAME/logs, the trail ekskms-NAME-REGION (cleaned and
// with a hash where CloudTrail would refuse that), the topics ekskms-NAME-alarms and
// ekskms-NAME-undelivered, the log groups /aws/eks/NAME/cluster,
// /aws/events/ekskms/NAME/alarms and /ekskms/NAME/kubectl; and with ekskms-NAME- before them
// (a long name is shortened and gets a hash) the rules of the alarms, their queue, the
// CloudWatch alarm on it, and the functions of the handler. On the cluster: the namespace
// ekskms-system and the service account kms-plugin.
//
// Encryption context. The plugin sends one pair: the key ekskms:cluster-arn with
// the ARN of the cluster. That of a tenant sends ekskms:tenant with the tenant's
// name beside it. What was encrypted under one context can't be decrypted under
// another.
//
// Statement IDs of the key policy. Tools may look for AccountAdministration, BreakGlass,
// Administrators, ClusterCreatorsDescribe, ClusterCreatorsGrant, ClusterRole,
// PluginDescribe, PluginUse, TenantDescribe and TenantUse. A number follows where one occurs twice.
//
// Sealed properties. CloudFormation replaces a cluster whose EncryptionConfig
// changes. Never exchange the key of a live cluster, nor switch between a new and
// an existing key.
package ekskms
