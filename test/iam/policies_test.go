package iam

import (
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/place"
)

const (
	clusterARN      = "arn:aws:eks:eu-central-1:111122223333:cluster/demo"
	otherClusterARN = "arn:aws:eks:eu-central-1:111122223333:cluster/other"
	trailARN        = "arn:aws:cloudtrail:eu-central-1:111122223333:trail/ekskms-demo"
	otherTrailARN   = "arn:aws:cloudtrail:eu-central-1:111122223333:trail/other"
	topicARN        = "arn:aws:sns:eu-central-1:111122223333:ekskms-demo-alarms"
	trailGroupARN   = "arn:aws:logs:eu-central-1:111122223333:log-group:/ekskms/demo/trail"
	groupARN        = "arn:aws:logs:eu-central-1:111122223333:log-group:/aws/eks/demo/cluster"
	roles           = "arn:aws:iam::111122223333:role/"
	outsideRole     = "arn:aws:iam::444455556666:role/Outsider"
)

var (
	// Written out, not read from the package that is judged.
	administration = []string{
		"kms:CancelKeyDeletion", "kms:CreateAlias", "kms:DeleteAlias", "kms:DescribeKey", "kms:DisableKey",
		"kms:DisableKeyRotation", "kms:EnableKey", "kms:EnableKeyRotation", "kms:GetKeyPolicy",
		"kms:GetKeyRotationStatus", "kms:ListGrants", "kms:ListKeyPolicies", "kms:ListKeyRotations",
		"kms:ListResourceTags", "kms:PutKeyPolicy", "kms:RevokeGrant", "kms:RotateKeyOnDemand",
		"kms:ScheduleKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:UpdateAlias",
		"kms:UpdateKeyDescription",
	}
	multiRegion = slices.Concat(administration, []string{"kms:ReplicateKey", "kms:UpdatePrimaryRegion"})
	dataKeys    = []string{
		"kms:GenerateDataKey", "kms:GenerateDataKeyPair", "kms:GenerateDataKeyPairWithoutPlaintext",
		"kms:GenerateDataKeyWithoutPlaintext",
	}

	// judgedActions are the actions of each row: all administration, and whatever uses a
	// key or hands its use to somebody.
	judgedActions = slices.Concat(multiRegion, dataKeys, []string{
		"kms:CreateGrant", "kms:RetireGrant", "kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo",
		"kms:DeriveSharedSecret", "kms:GenerateMac", "kms:Sign", "kms:Verify", "kms:VerifyMac",
		"kms:ImportKeyMaterial", "kms:DeleteImportedKeyMaterial", "kms:GetPublicKey",
	})
)

// identities are the identity policies that principals hold.
var identities = map[string]iampolicy.Document{
	"everything": identity("*", "*"),
	"all of KMS": identity("kms:*", "*"),
	"cluster":    iampolicy.NewDocument(keypolicy.ClusterRole("").OnResource(keyARN)),
	// What KmsPlugin and SecretsKey write into the roles.
	"plugin":           onKey(keypolicy.PluginUse(plugin.roleARN, keypolicy.ClusterContext(clusterARN), &session)),
	"acme":             onKey(keypolicy.TenantUse(tenants[:1])),
	"globex":           onKey(keypolicy.TenantUse(tenants[1:])),
	"acme, any tenant": anyTenant(onKey(keypolicy.TenantUse(tenants[:1]))),
}

func onKey(statements []iampolicy.Statement) iampolicy.Document {
	return iampolicy.NewDocument(iampolicy.OnResource(statements, keyARN)...)
}

func anyTenant(d iampolicy.Document) iampolicy.Document {
	without(keypolicy.SidTenantUse, "StringEquals", tenantCondition)(&d)
	return d
}

func identity(action, resource string) iampolicy.Document {
	return iampolicy.NewDocument(iampolicy.Statement{
		Effect: iampolicy.Allow, Action: iampolicy.Values{action}, Resource: iampolicy.Values{resource},
	})
}

func sessionOf(role, identity string) principal {
	return principal{
		arn: "arn:aws:sts::" + account + ":assumed-role/" + role + "/session", roleARN: roles + role, identity: identity,
	}
}

// Who asks.
var (
	rootUser    = principal{arn: "arn:aws:iam::111122223333:root", identity: "everything"}
	iamAdmin    = sessionOf("IAMAdmin", "all of KMS")
	emergency   = sessionOf("BreakGlass", "all of KMS")
	emergencyNo = sessionOf("BreakGlass", "")
	keyAdmin    = sessionOf("KeyAdmin", "")
	creatorMore = sessionOf("cdk-hnb659fds-cfn-exec-role-111122223333-eu-central-1", "all of KMS")
	creator     = sessionOf("cdk-hnb659fds-cfn-exec-role-111122223333-eu-central-1", "")
	cluster     = sessionOf("demo-cluster", "")
	plugin      = sessionOf("demo-plugin", "")
	pluginMore  = sessionOf("demo-plugin", "all of KMS")
	acme        = sessionOf("demo-acme", "")
	acmeMore    = sessionOf("demo-acme", "all of KMS")
	globex      = sessionOf("demo-globex", "")
	reader      = sessionOf("Auditor", "")
	nobody      = sessionOf("Nobody", "")
	nobodyUser  = principal{arn: "arn:aws:iam::111122223333:user/bob"}
	federated   = principal{arn: "arn:aws:sts::111122223333:federated-user/carol"}
	outsider    = principal{arn: "arn:aws:sts::444455556666:assumed-role/Outsider/session", roleARN: outsideRole, identity: "all of KMS"}
	eks         = principal{arn: "eks.amazonaws.com"}
	cloudTrail  = principal{arn: "cloudtrail.amazonaws.com"}
	eventBridge = principal{arn: "events.amazonaws.com"}
	sns         = principal{arn: "sns.amazonaws.com"}
	logs        = principal{arn: "logs.eu-central-1.amazonaws.com"}

	// Roles for the policy of an existing key.
	future          = principal{arn: "arn:aws:sts::111122223333:assumed-role/demo-role/session", roleARN: roles + "ekskms/demo/demo-role", identity: "cluster"}
	futureNoPolicy  = principal{arn: future.arn, roleARN: future.roleARN}
	futureMore      = principal{arn: future.arn, roleARN: future.roleARN, identity: "all of KMS"}
	futureElsewhere = principal{arn: future.arn, roleARN: roles + "ekskms/other/demo-role", identity: "cluster"}
	futureOutside   = principal{arn: "arn:aws:sts::444455556666:assumed-role/demo-role/session", roleARN: "arn:aws:iam::444455556666:role/ekskms/demo/demo-role", identity: "cluster"}
)

// Roles of permission sets, with kms:* in their own policies unless it is said.
var (
	setAdmin          = ofSet(account, "", "Admin", "all of KMS")
	setAdminRegion    = ofSet(account, "eu-central-1/", "Admin", "all of KMS")
	setAdminNoPolicy  = ofSet(account, "", "Admin", "")
	setAdminBilling   = ofSet(account, "", "Admin_Billing", "all of KMS")
	setAdminElsewhere = ofSet("444455556666", "", "Admin", "all of KMS")
	setAdminLookAlike = principal{arn: "arn:aws:sts::" + account + ":assumed-role/AWSReservedSSO_Admin_0123456789abcdef/s", roleARN: roles + "AWSReservedSSO_Admin_0123456789abcdef", identity: "all of KMS"}
	setDeploy         = ofSet(account, "us-west-2/", "Deploy", "all of KMS")
	setAudit          = ofSet(account, "us-west-2/", "Audit", "all of KMS")
)

// central is the policy of a key in this account for a cluster in another, as the stacks of
// keys have it.
func central() []iampolicy.Statement {
	c := blueprint.Cluster{
		Name: "remote", At: place.In(clusters, "eu-central-1"), Key: blueprint.Key{Account: account},
		Administrators: []string{keyAdmin.roleARN}, Creators: []string{remoteRoles + "Deployer"},
		Plugin: &blueprint.Plugin{Tenants: []blueprint.Tenant{{Name: "acme", Namespace: "vcluster-acme", ServiceAccount: "vc"}}},
	}
	c.KnowPaths()
	return c.KeyStatements()
}

// The account of that cluster, and who is there.
const (
	clusters    = "444455556666"
	remoteRoles = "arn:aws:iam::" + clusters + ":role/"
	remoteARN   = "arn:aws:eks:eu-central-1:" + clusters + ":cluster/remote"
)

var (
	remotePlugin         = ofClusters("ekskms/remote/plugin/p", "all of KMS")
	remotePluginNoPolicy = ofClusters("ekskms/remote/plugin/p", "")
	remoteTenant         = ofClusters("ekskms/remote/tenants/acme/t", "all of KMS")
	remoteCluster        = ofClusters("ekskms/remote/c", "all of KMS")
	remoteOther          = ofClusters("ekskms/other/plugin/p", "all of KMS")
	remoteAdmin          = ofClusters("Admin", "everything")
	remoteCreator        = ofClusters("Deployer", "all of KMS")
	remoteCreatorAlone   = ofClusters("Deployer", "")
	thirdAccount         = principal{arn: "arn:aws:sts::777788889999:assumed-role/p/s", roleARN: "arn:aws:iam::777788889999:role/ekskms/remote/plugin/p", identity: "all of KMS"}
	remoteTags           = sessionTags(remoteARN, "ekskms-system", "kms-plugin")
	remoteContext        = encryptionContext(keypolicy.ContextKey, remoteARN)
	remoteAcmeTags       = sessionTags(remoteARN, "vcluster-acme", "vc")
	remoteAcme           = encryptionContext(keypolicy.ContextKey, remoteARN, keypolicy.TenantKey, "acme")
)

func ofClusters(role, identity string) principal {
	name := role[strings.LastIndex(role, "/")+1:]
	return principal{arn: "arn:aws:sts::" + clusters + ":assumed-role/" + name + "/session", roleARN: remoteRoles + role, identity: identity}
}

// Who works with volumes, and how.
var (
	autoScaling = principal{arn: "arn:aws:sts::" + account + ":assumed-role/AWSServiceRoleForAutoScaling/s", roleARN: "arn:aws:iam::" + account + ":" + keypolicy.AutoScalingRole}
	viaEC2      = request{"kms:ViaService": "ec2.eu-central-1.amazonaws.com", "kms:GrantIsForAWSResource": "true"}
	volumeUse   = []string{"kms:DescribeKey", "kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:CreateGrant"}
)

func ofSet(account, path, set, identity string) principal {
	name := "AWSReservedSSO_" + set + "_0123456789abcdef"
	return principal{
		arn:      "arn:aws:sts::" + account + ":assumed-role/" + name + "/someone",
		roleARN:  "arn:aws:iam::" + account + ":role/aws-reserved/sso.amazonaws.com/" + path + name,
		identity: identity,
	}
}

// setOf is a permission set in the lists of roles.
func setOf(name string) string {
	return place.In(account, "eu-central-1").Role("permission-set/" + name)
}

// In what situation.
var (
	session = keypolicy.PodSession{ClusterARN: clusterARN, Namespace: "kube-system", ServiceAccount: "kms-plugin"}
	tags    = sessionTags(clusterARN, "kube-system", "kms-plugin")
	tenants = []keypolicy.Tenant{
		{Name: "acme", RoleARN: acme.roleARN, Session: keypolicy.PodSession{ClusterARN: clusterARN, Namespace: "vcluster-acme", ServiceAccount: "vc"}},
		{Name: "globex", RoleARN: globex.roleARN, Session: keypolicy.PodSession{ClusterARN: clusterARN, Namespace: "vcluster-globex", ServiceAccount: "vc"}},
	}
	acmeTags       = sessionTags(clusterARN, "vcluster-acme", "vc")
	globexTags     = sessionTags(clusterARN, "vcluster-globex", "vc")
	acmeContext    = encryptionContext(keypolicy.ContextKey, clusterARN, keypolicy.TenantKey, "acme")
	globexContext  = encryptionContext(keypolicy.ContextKey, clusterARN, keypolicy.TenantKey, "globex")
	right          = encryptionContext(keypolicy.ContextKey, clusterARN)
	wrong          = encryptionContext(keypolicy.ContextKey, otherClusterARN)
	oneMore        = encryptionContext(keypolicy.ContextKey, clusterARN, "purpose", "test")
	otherKey       = encryptionContext("cluster", clusterARN)
	grantFromEKS   = with(viaEKS, request{"kms:GrantOperations": []string{"Encrypt", "Decrypt"}, "kms:GrantConstraintType": "EncryptionContextEquals"}, encryptionContext("aws:eks:context", "0a1b2c3d"))
	viaEKS         = request{"kms:ViaService": "eks.eu-central-1.amazonaws.com"}
	fromTrail      = request{"aws:SourceArn": trailARN}
	fromOtherTrail = request{"aws:SourceArn": otherTrailARN}
	trailContext   = encryptionContext("aws:cloudtrail:arn", trailARN, "aws:s3:arn", "arn:aws:s3:::demo-logs/AWSLogs/1")
)

func sessionTags(cluster, namespace, serviceAccount string) request {
	return request{
		"aws:PrincipalTag/eks-cluster-arn":            cluster,
		"aws:PrincipalTag/kubernetes-namespace":       namespace,
		"aws:PrincipalTag/kubernetes-service-account": serviceAccount,
	}
}

// documents builds the policies again, so that a mutation can spoil them.
func documents() map[string]iampolicy.Document {
	strict := &keypolicy.StrictGrants{Account: account, EKSService: "eks.eu-central-1.amazonaws.com"}
	context := keypolicy.ClusterContext(clusterARN)
	return map[string]iampolicy.Document{
		"secrets": iampolicy.NewDocument(slices.Concat(
			[]iampolicy.Statement{keypolicy.Account("arn:aws:iam::"+account+":root", false)},
			keypolicy.Administrators([]string{keyAdmin.roleARN}, false),
			keypolicy.ClusterCreators([]string{creator.roleARN}, nil, false),
			[]iampolicy.Statement{keypolicy.ClusterRole(cluster.roleARN)},
			keypolicy.PluginUse(plugin.roleARN, context, &session),
			keypolicy.TenantUse(tenants),
		)...),
		"left to IAM": iampolicy.NewDocument(leftToIAM()),
		"break glass": iampolicy.NewDocument(slices.Concat(
			keypolicy.AccountWithBreakGlass("arn:aws:iam::"+account+":root", true, []string{emergency.roleARN}),
			keypolicy.ClusterCreators([]string{creator.roleARN}, nil, true),
		)...),
		"sets": iampolicy.NewDocument(slices.Concat(
			keypolicy.Administrators([]string{setOf("Admin"), keyAdmin.roleARN}, false),
			keypolicy.ClusterCreators([]string{setOf("Deploy")}, nil, false),
			keypolicy.LogReaders([]string{setOf("Audit")}),
		)...),
		"central": iampolicy.NewDocument(central()...),
		"volumes": iampolicy.NewDocument(keypolicy.VolumesKey{
			RootARN: "arn:aws:iam::" + account + ":root", EC2Service: "ec2.eu-central-1.amazonaws.com", RoleARNs: []string{autoScaling.roleARN, cluster.roleARN},
		}.Statements()...),
		"no session":   iampolicy.NewDocument(keypolicy.PluginUse(plugin.roleARN, context, nil)...),
		"multi-Region": iampolicy.NewDocument(keypolicy.Account("arn:aws:iam::"+account+":root", true)),
		"strict":       iampolicy.NewDocument(keypolicy.ClusterCreators([]string{creator.roleARN, outsideRole}, strict, false)...),
		"future":       iampolicy.NewDocument(keypolicy.FutureClusterRole("arn:aws:iam::"+account+":root", roles+"ekskms/demo/*")),
		"audit": iampolicy.NewDocument(keypolicy.AuditKey{
			RootARN: "arn:aws:iam::" + account + ":root", TrailARN: trailARN, ReaderARNs: []string{reader.roleARN},
			LogsService: logs.arn, LogGroupARN: trailGroupARN,
		}.Statements()...),
		"alarms": iampolicy.NewDocument(keypolicy.TopicKey{RootARN: "arn:aws:iam::" + account + ":root", TopicARN: topicARN}.Statements()...),
		"log group": iampolicy.NewDocument(keypolicy.LogGroupKey{
			RootARN: "arn:aws:iam::" + account + ":root", LogsService: logs.arn, LogGroupARNs: []string{groupARN, groupARN + "-kubectl"},
		}.Statements()...),
	}
}

// leftToIAM is the key policy that AWS KMS gives to a key by default, and that a key
// of somebody else's may have.
func leftToIAM() iampolicy.Statement {
	s := keypolicy.Account("arn:aws:iam::"+account+":root", false)
	s.Action = iampolicy.Values{"kms:*"}
	return s
}

var (
	none      []string
	describe  = []string{"kms:DescribeKey"}
	use       = []string{"kms:DescribeKey", "kms:GenerateDataKey", "kms:Decrypt"}
	useAndSee = []string{"kms:DescribeKey", "kms:ListGrants", "kms:GenerateDataKey", "kms:Decrypt"}
	create    = []string{"kms:DescribeKey", "kms:CreateGrant"}
	see       = []string{"kms:DescribeKey", "kms:ListGrants"}

	harmless = slices.DeleteFunc(slices.Clone(administration), func(a string) bool {
		return slices.Contains([]string{"kms:DisableKey", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion"}, a)
	})
	cryptography = []string{"kms:Encrypt", "kms:Decrypt"}
	pluginWork   = []string{"kms:GenerateDataKey", "kms:Decrypt"}
	logGroupUse  = slices.Concat(cryptography, dataKeys, []string{"kms:ReEncryptFrom", "kms:ReEncryptTo"})
)

var rows = []row{
	// Permission sets.
	{"set of administrators", "sets", setAdmin, right, administration, "in us-east-1 Identity Center's roles have no Region in their path"},
	{"set of administrators, elsewhere", "sets", setAdminRegion, right, administration, "in other Regions they have"},
	{"set of administrators without a policy", "sets", setAdminNoPolicy, right, none, "the set must allow it too"},
	{"set that begins alike", "sets", setAdminBilling, right, none, "another set is another set"},
	{"set of another account", "sets", setAdminElsewhere, right, none, "its role is not of this account"},
	{"role that is named like a set's", "sets", setAdminLookAlike, right, none, "nobody but Identity Center can make a role below aws-reserved"},
	{"key admin beside a set", "sets", keyAdmin, right, administration, "named, so it needs no IAM policy"},
	{"set of creators", "sets", setDeploy, grantFromEKS, create, "as a role that is named"},
	{"set of creators, for a tenant", "sets", setDeploy, with(acmeContext, request{"kms:GrantConstraintType": "EncryptionContextEquals", "kms:GrantOperations": []string{"Decrypt"}}), describe, "the tenant's data is not the creator's to open"},
	{"set of auditors", "sets", setAudit, trailContext, []string{"kms:Decrypt"}, "it reads the trail"},
	{"set of auditors, secrets", "sets", setAudit, right, none, "and nothing else"},

	// A key in a central account, for a cluster of another.
	{"plugin of another account", "central", remotePlugin, with(remoteTags, remoteContext), useAndSee, "the policy names its path, and its own account allows it"},
	{"plugin of another account without a policy", "central", remotePluginNoPolicy, with(remoteTags, remoteContext), none, "KMS asks both accounts"},
	{"plugin of another account without tags", "central", remotePlugin, remoteContext, see, "Pod Identity did not open the session"},
	{"plugin of another account, a tenant's context", "central", remotePlugin, with(remoteTags, remoteAcme), see, "the cluster's plugin reads no tenant's data"},
	{"tenant of another account", "central", remoteTenant, with(remoteAcmeTags, remoteAcme), useAndSee, "its own path and context"},
	{"tenant of another account as the plugin", "central", remoteTenant, with(remoteTags, remoteContext), see, "its path is not the plugin's"},
	{"cluster's role of another account", "central", remoteCluster, remoteContext, see, "it tells the health of the key"},
	{"plugin of another cluster there", "central", remoteOther, with(remoteTags, remoteContext), none, "its path is another cluster's"},
	{"administrator of the cluster's account", "central", remoteAdmin, with(remoteTags, remoteContext), none, "who is not on the path has no use of the key, whatever IAM says"},
	{"creator of another account", "central", remoteCreator, grantFromEKS, create, "it creates the cluster there"},
	{"creator of another account without a policy", "central", remoteCreatorAlone, grantFromEKS, none, "KMS asks both accounts"},
	{"key admin of a central key", "central", keyAdmin, remoteContext, administration, "the security team runs the key, and can't use it"},
	{"IAM admin of the key's account", "central", iamAdmin, with(remoteTags, remoteContext), administration, "nor can an administrator of its account"},
	{"third account with the same paths", "central", thirdAccount, with(remoteTags, remoteContext), none, "a path is one of the cluster's account"},

	// The key of the volumes.
	{"Auto Scaling, through EC2", "volumes", autoScaling, viaEC2, volumeUse, "it starts instances whose disks are under the key"},
	{"Auto Scaling, through EC2, a grant for somebody", "volumes", autoScaling, with(viaEC2, request{"kms:GrantIsForAWSResource": "false"}), volumeUse[:5], "grants are for volumes alone"},
	{"Auto Scaling, by itself", "volumes", autoScaling, request{"kms:GrantIsForAWSResource": "true"}, describe, "it has no use for data keys"},
	{"Auto Mode, through EC2", "volumes", cluster, viaEC2, volumeUse, "the cluster's role starts the nodes"},
	{"Auto Mode, through S3", "volumes", cluster, request{"kms:ViaService": "s3.eu-central-1.amazonaws.com", "kms:GrantIsForAWSResource": "true"}, describe, "the key is for volumes"},
	{"IAM admin, volumes", "volumes", iamAdmin, viaEC2, administration, "an administrator of the account can't read volumes"},
	{"another account, volumes", "volumes", outsider, viaEC2, none, "the key policy does not name it"},

	// The secrets key.
	{"root user", "secrets", rootUser, right, administration, "the account can't be locked out, and can't use the key either"},
	{"IAM admin", "secrets", iamAdmin, right, administration, "kms:* in IAM is worth what the key policy leaves to IAM: administration"},
	{"IAM admin with the plugin's tags", "secrets", iamAdmin, with(right, tags), administration, "tags do not make another role the plugin"},
	{"key admin", "secrets", keyAdmin, right, administration, "named, so it needs no IAM policy, and gets no use"},
	{"creator", "secrets", creator, grantFromEKS, create, "EKS describes the key and makes its grant in the creator's name"},
	{"creator, by hand", "secrets", creator, with(request{"kms:GrantConstraintType": "EncryptionContextEquals", "kms:GrantOperations": []string{"Decrypt"}}, encryptionContext("aws:eks:context", "0a1b2c3d")), create, "it opens what EKS encrypted, which lies in AWS's etcd, and nothing else; an alarm tells of it"},
	{"creator, a subset of EKS's context", "secrets", creator, with(grantFromEKS, request{"kms:GrantConstraintType": "EncryptionContextSubset"}), create, "a request with EKS's key in its context is none of a tenant's"},
	{"creator, for anything", "secrets", creator, request{"kms:GrantOperations": []string{"Decrypt"}}, describe, "a grant without a context opens the data of every tenant"},
	{"creator, for a source", "secrets", creator, request{"kms:GrantOperations": []string{"Decrypt"}, "kms:GrantConstraintType": "SourceArn"}, describe, "that is no context"},
	{"creator, for a tenant", "secrets", creator, with(acmeContext, request{"kms:GrantConstraintType": "EncryptionContextEquals", "kms:GrantOperations": []string{"Decrypt"}}), describe, "the tenant's data is not the creator's to open"},
	{"creator, for a part of a tenant's context", "secrets", creator, with(encryptionContext(keypolicy.TenantKey, "acme"), request{"kms:GrantConstraintType": "EncryptionContextSubset", "kms:GrantOperations": []string{"Decrypt"}}), describe, "a subset of the tenant's context opens it"},
	{"creator, for all tenants", "secrets", creator, with(right, request{"kms:GrantConstraintType": "EncryptionContextSubset", "kms:GrantOperations": []string{"Decrypt"}}), describe, "all have the cluster's key in their context"},
	{"creator, for the plugin", "secrets", creator, with(right, request{"kms:GrantConstraintType": "EncryptionContextEquals", "kms:GrantOperations": []string{"Decrypt"}}), describe, "what the cluster's plugin encrypted is not the creator's to open"},
	{"creator, for a tenant in capitals", "secrets", creator, with(encryptionContext("EKSKMS:Tenant", "acme"), request{"kms:GrantConstraintType": "EncryptionContextSubset", "kms:GrantOperations": []string{"Decrypt"}}), describe, "in a constraint the case of a key does not matter to KMS"},
	{"creator, for EKS and a tenant", "secrets", creator, with(encryptionContext("aws:eks:context", "0a1b2c3d", keypolicy.TenantKey, "acme"), request{"kms:GrantConstraintType": "EncryptionContextSubset"}), describe, "not one of the keys may be a tenant's"},
	{"cluster role", "secrets", cluster, right, see, "EKS encrypts and decrypts through its grant, not as the role"},
	{"EKS itself", "secrets", eks, right, none, "it has a grant, which is not in the policy"},
	{"plugin", "secrets", plugin, with(tags, right), useAndSee, "this is what the plugin is for"},
	{"plugin, another cluster's context", "secrets", plugin, with(tags, wrong), see, "the ciphertext belongs to another cluster"},
	{"plugin, one more key in the context", "secrets", plugin, with(tags, oneMore), see, "the context must be the pair and nothing else"},
	{"plugin, another key in the context", "secrets", plugin, with(tags, otherKey), see, "the pair must be there"},
	{"plugin, no context", "secrets", plugin, tags, see, "the pair must be there"},
	{"plugin, another cluster's session", "secrets", plugin, with(right, sessionTags(otherClusterARN, "kube-system", "kms-plugin")), none, "the pod runs on another cluster"},
	{"plugin, another namespace", "secrets", plugin, with(right, sessionTags(clusterARN, "default", "kms-plugin")), none, "the pod is not the plugin's"},
	{"plugin, another service account", "secrets", plugin, with(right, sessionTags(clusterARN, "kube-system", "default")), none, "the pod is not the plugin's"},
	{"plugin, no session tags", "secrets", plugin, right, none, "Pod Identity did not open the session"},
	{"plugin, no session tags, kms:* in IAM", "secrets", pluginMore, right, administration, "IAM can add administration and no use"},
	{"plugin, wrong context, kms:* in IAM", "secrets", pluginMore, with(tags, wrong), administration, "IAM can add administration and no use"},
	{"another account", "secrets", outsider, with(tags, right), none, "the key policy does not name it"},
	{"role without a policy", "secrets", nobody, with(tags, right), none, "nothing allows it"},
	{"user without a policy", "secrets", nobodyUser, with(tags, right), none, "nothing allows it"},
	{"federated user without a policy", "secrets", federated, right, none, "nothing allows it"},

	{"plugin, a tenant's context", "secrets", plugin, with(tags, acmeContext), see, "the cluster's plugin reads no tenant's data"},
	{"plugin, the tenant's pair alone", "secrets", plugin, with(tags, encryptionContext(keypolicy.TenantKey, "acme")), see, "nobody may encrypt without the cluster's pair"},

	// What takes the key away is left to those for an emergency.
	{"IAM admin, break glass", "break glass", iamAdmin, right, harmless, "it can neither write itself into the policy nor delete, disable or copy the key"},
	{"break-glass role", "break glass", emergency, right, multiRegion, "this is what it is for"},
	{"break-glass role without IAM", "break glass", emergencyNo, right, none, "it needs an IAM policy too"},
	{"root user, break glass", "break glass", rootUser, right, multiRegion, "the account can't be locked out"},
	{"creator, break glass", "break glass", creator, grantFromEKS, append(slices.Clone(create), "kms:PutKeyPolicy"), "it writes the policy of the template"},
	{"creator, break glass, kms:* in IAM", "break glass", creatorMore, grantFromEKS, append(slices.Clone(harmless), "kms:CreateGrant", "kms:PutKeyPolicy"), "it writes the policy, and does not delete, disable or copy the key"},
	{"another account, break glass", "break glass", outsider, right, none, "the key policy does not name it"},

	// The plugins of tenants.
	{"tenant", "secrets", acme, with(acmeTags, acmeContext), use, "this is what the sidecar is for"},
	{"other tenant", "secrets", globex, with(globexTags, globexContext), use, "each has its own"},
	{"tenant, another's context", "secrets", acme, with(acmeTags, globexContext), describe, "the ciphertext belongs to another tenant"},
	{"other tenant, the first one's context", "secrets", globex, with(globexTags, acmeContext), describe, "the ciphertext belongs to another tenant"},
	{"tenant, the cluster's context", "secrets", acme, with(acmeTags, right), describe, "the ciphertext belongs to the cluster"},
	{"tenant, its name alone", "secrets", acme, with(acmeTags, encryptionContext(keypolicy.TenantKey, "acme")), describe, "both pairs must be there"},
	{"tenant, another cluster's context", "secrets", acme, with(acmeTags, encryptionContext(keypolicy.ContextKey, otherClusterARN, keypolicy.TenantKey, "acme")), describe, "the ciphertext belongs to a tenant of that name elsewhere"},
	{"tenant, one more key in the context", "secrets", acme, with(acmeTags, encryptionContext(keypolicy.ContextKey, clusterARN, keypolicy.TenantKey, "acme", "purpose", "test")), describe, "the context must be the two pairs and nothing else"},
	{"tenant, no context", "secrets", acme, acmeTags, describe, "both pairs must be there"},
	{"tenant, no session tags", "secrets", acme, acmeContext, none, "Pod Identity did not open the session"},
	{"tenant, another namespace", "secrets", acme, with(acmeContext, sessionTags(clusterARN, "default", "vc")), none, "the pod is not the tenant's"},
	{"tenant, another tenant's pod", "secrets", acme, with(acmeContext, globexTags), describe, "the pod is not this tenant's; one statement describes for all of them"},
	{"tenant, another cluster's session", "secrets", acme, with(acmeContext, sessionTags(otherClusterARN, "vcluster-acme", "vc")), none, "the pod runs on another cluster"},
	{"tenant, kms:* in IAM, another's context", "secrets", acmeMore, with(acmeTags, globexContext), administration, "IAM can add administration and no use"},
	{"IAM admin with a tenant's tags", "secrets", iamAdmin, with(acmeTags, acmeContext), administration, "tags do not make another role the tenant's"},

	// The policies of the roles, for a key whose policy leaves everything to them.
	{"plugin's own policy", "left to IAM", sessionOf("demo-plugin", "plugin"), with(tags, right), useAndSee, "it is as good as the key policy"},
	{"plugin's own policy, a tenant's context", "left to IAM", sessionOf("demo-plugin", "plugin"), with(tags, acmeContext), see, "the cluster's plugin reads no tenant's data"},
	{"tenant's own policy", "left to IAM", sessionOf("demo-acme", "acme"), with(acmeTags, acmeContext), use, "it is as good as the key policy"},
	{"other tenant's own policy", "left to IAM", sessionOf("demo-globex", "globex"), with(globexTags, globexContext), use, "each has its own"},
	{"tenant's own policy, another's context", "left to IAM", sessionOf("demo-acme", "acme"), with(acmeTags, globexContext), describe, "the ciphertext belongs to another tenant"},
	{"tenant's own policy, the cluster's context", "left to IAM", sessionOf("demo-acme", "acme"), with(acmeTags, right), describe, "the ciphertext belongs to the cluster"},
	{"tenant's own policy, no context", "left to IAM", sessionOf("demo-acme", "acme"), acmeTags, describe, "both pairs must be there"},
	{"tenant's own policy, one more key in the context", "left to IAM", sessionOf("demo-acme", "acme"), with(acmeTags, encryptionContext(keypolicy.ContextKey, clusterARN, keypolicy.TenantKey, "acme", "purpose", "test")), describe, "the context must be the two pairs and nothing else"},
	{"tenant's own policy, another tenant's pod", "left to IAM", sessionOf("demo-acme", "acme"), with(acmeContext, globexTags), none, "the pod is not this tenant's"},
	{"tenant's own policy, spoiled", "left to IAM", sessionOf("demo-acme", "acme, any tenant"), with(acmeTags, globexContext), use, "shows that the rows above judge the role's policy: without the tenant's pair it reads another's data"},

	// The plugin without Pod Identity.
	{"plugin anywhere", "no session", plugin, right, use, "the statements ask for no tags, and outside of EKS there is no grant of EKS to look for"},
	{"plugin anywhere, wrong context", "no session", plugin, wrong, describe, "the context is asked for all the same"},
	{"plugin anywhere, one more key", "no session", plugin, oneMore, describe, "the context is asked for all the same"},

	{"IAM admin of a multi-Region key", "multi-Region", iamAdmin, right, multiRegion, "replication is administration"},

	// Strict grants.
	{"creator through EKS", "strict", creator, grantFromEKS, create, "this is what CreateCluster does"},
	{"creator through EKS, to decrypt only", "strict", creator, with(grantFromEKS, request{"kms:GrantOperations": []string{"Decrypt"}}), create, "less than allowed"},
	{"creator, direct", "strict", creator, request{"kms:GrantOperations": []string{"Decrypt"}, "kms:GrantConstraintType": "EncryptionContextEquals"}, describe, "only EKS may make the grant"},
	{"creator through EC2", "strict", creator, with(grantFromEKS, request{"kms:ViaService": "ec2.eu-central-1.amazonaws.com"}), describe, "only EKS may make the grant"},
	{"creator through EKS of another Region", "strict", creator, with(grantFromEKS, request{"kms:ViaService": "eks.us-east-1.amazonaws.com"}), describe, "only EKS of the Region may make the grant"},
	{"creator, data keys too", "strict", creator, with(grantFromEKS, request{"kms:GrantOperations": []string{"Decrypt", "Encrypt", "GenerateDataKey"}}), describe, "EKS needs no data keys"},
	{"creator, grants of grants", "strict", creator, with(grantFromEKS, request{"kms:GrantOperations": []string{"CreateGrant"}}), describe, "the grantee may not hand its use on"},
	{"creator, wider constraint", "strict", creator, with(grantFromEKS, request{"kms:GrantConstraintType": "EncryptionContextSubset"}), describe, "the context must be equal"},
	{"creator, no constraint", "strict", creator, with(viaEKS, request{"kms:GrantOperations": []string{"Decrypt"}}), describe, "the context must be equal"},
	{"creator through EKS, for a tenant", "strict", creator, with(viaEKS, acmeContext, request{"kms:GrantOperations": []string{"Decrypt"}, "kms:GrantConstraintType": "EncryptionContextEquals"}), describe, "the tenant's data is not the creator's to open"},
	{"creator, no operations", "strict", creator, with(viaEKS, request{"kms:GrantConstraintType": "EncryptionContextEquals"}), create, "ForAllValues holds for no values at all; KMS itself refuses such a request"},
	{"creator in another account", "strict", outsider, grantFromEKS, describe, "the caller must be of this account, even if a role of another one was named"},

	// A role that is made after the key's policy.
	{"role under the path", "future", future, right, see, "the key policy and its own policy say so"},
	{"role under the path, no policy", "future", futureNoPolicy, right, none, "the key policy only lets IAM policies speak"},
	{"role under the path, kms:* in IAM", "future", futureMore, right, see, "the key policy leaves no more to IAM"},
	{"role under another path", "future", futureElsewhere, right, none, "the statement is about this cluster's roles"},
	{"role under the path in another account", "future", futureOutside, right, none, "the statement is about this account"},
	{"IAM admin and a future role", "future", iamAdmin, right, none, "it is not under the path"},

	// The audit key.
	{"CloudTrail", "audit", cloudTrail, with(fromTrail, trailContext), slices.Concat(describe, dataKeys), "it encrypts the logs"},
	{"CloudTrail, no context", "audit", cloudTrail, fromTrail, describe, "log files carry the trail in their context"},
	{"CloudTrail, another trail", "audit", cloudTrail, with(fromOtherTrail, trailContext), none, "only this trail may be the reason"},
	{"CloudTrail, another trail's context", "audit", cloudTrail, with(fromTrail, encryptionContext("aws:cloudtrail:arn", otherTrailARN)), describe, "only this trail's logs"},
	{"CloudTrail, no source", "audit", cloudTrail, trailContext, none, "the source must be known"},
	{"EventBridge", "alarms", eventBridge, encryptionContext("aws:sns:topicArn", topicARN), slices.Concat([]string{"kms:Decrypt"}, dataKeys), "it publishes to the encrypted topic"},
	{"EventBridge, another topic", "alarms", eventBridge, encryptionContext("aws:sns:topicArn", topicARN+"2"), none, "only this topic"},
	{"EventBridge, no context", "alarms", eventBridge, nil, none, "only this topic"},
	{"SNS", "alarms", sns, encryptionContext("aws:sns:topicArn", topicARN), none, "it works with the publisher's permission"},
	{"EventBridge and the trail's key", "audit", eventBridge, encryptionContext("aws:sns:topicArn", topicARN), none, "the topic has a key of its own"},
	{"CloudTrail and the alarms' key", "alarms", cloudTrail, with(fromTrail, trailContext), none, "the logs have a key of their own"},
	{"IAM admin and the alarms", "alarms", iamAdmin, encryptionContext("aws:sns:topicArn", topicARN), administration, "the account administers the key and can't read the alarms"},
	{"CloudWatch Logs and the copy", "audit", logs, encryptionContext("aws:logs:arn", trailGroupARN), logGroupUse, "it encrypts the copy of the trail"},
	{"CloudWatch Logs and another group", "audit", logs, encryptionContext("aws:logs:arn", groupARN), none, "only the copy of the trail"},
	{"CloudWatch Logs and the log files", "audit", logs, trailContext, none, "only the copy of the trail"},
	{"reader", "audit", reader, trailContext, []string{"kms:Decrypt"}, "it reads the logs"},
	{"reader, no context", "audit", reader, nil, none, "only what CloudTrail encrypted"},
	{"reader of alarms", "audit", reader, encryptionContext("aws:sns:topicArn", topicARN), none, "only what CloudTrail encrypted"},
	{"root user and the logs", "audit", rootUser, trailContext, administration, "the account administers the key and can't read the logs"},
	{"IAM admin and the logs", "audit", iamAdmin, trailContext, administration, "the account administers the key and can't read the logs"},
	{"role without a policy and the logs", "audit", nobody, trailContext, none, "nothing allows it"},
	{"another account and the logs", "audit", outsider, trailContext, none, "the key policy does not name it"},

	// The key of the control plane's log group.
	{"CloudWatch Logs", "log group", logs, encryptionContext("aws:logs:arn", groupARN), logGroupUse, "it encrypts the log group; DescribeKey carries no encryption context, so the statement, which is AWS's own, never allows it"},
	{"CloudWatch Logs and the handler's group", "log group", logs, encryptionContext("aws:logs:arn", groupARN+"-kubectl"), logGroupUse, "the key is for that one too"},
	{"CloudWatch Logs, another group", "log group", logs, encryptionContext("aws:logs:arn", groupARN+"2"), none, "only this log group"},
	{"CloudWatch Logs, no context", "log group", logs, nil, none, "only this log group"},
	{"IAM admin and the log group", "log group", iamAdmin, encryptionContext("aws:logs:arn", groupARN), administration, "the account administers the key and can't read the group through it"},
}

// mutation spoils a policy; the row named must then gain or lose these actions
// and no others.
type mutation struct {
	name         string
	mutate       func(*iampolicy.Document)
	row          string
	gained, lost []string
}

// on changes the statement with the Sid.
func on(sid string, change func(*iampolicy.Statement)) func(*iampolicy.Document) {
	return func(d *iampolicy.Document) {
		i := slices.IndexFunc(d.Statement, func(s iampolicy.Statement) bool { return s.Sid == sid })
		change(&d.Statement[i])
	}
}

// without takes one condition key out of the statement with the Sid.
func without(sid, operator string, keys ...string) func(*iampolicy.Document) {
	return on(sid, func(s *iampolicy.Statement) {
		for _, key := range keys {
			if _, there := s.Condition[operator][key]; !there {
				panic("no such condition: " + key)
			}
			delete(s.Condition[operator], key)
		}
		if len(s.Condition[operator]) == 0 {
			delete(s.Condition, operator)
		}
	})
}

// alsoAllows adds an action to the statement with the Sid.
func alsoAllows(sid, action string) func(*iampolicy.Document) {
	return on(sid, func(s *iampolicy.Statement) { s.Action = append(s.Action, action) })
}

func everybody(s *iampolicy.Statement) { s.Principal = iampolicy.Principal{AWS: iampolicy.Values{"*"}} }

// beyond are all actions but the ones listed.
func beyond(listed []string) []string {
	return slices.DeleteFunc(slices.Clone(judgedActions), func(a string) bool { return slices.Contains(listed, a) })
}

// named gives the first tenant's statement other names.
func named(names ...string) func(*iampolicy.Document) {
	return on(keypolicy.SidTenantUse, func(s *iampolicy.Statement) { s.Condition["StringEquals"][tenantCondition] = names })
}

const (
	contextCondition = "kms:EncryptionContext:" + keypolicy.ContextKey
	tenantCondition  = "kms:EncryptionContext:" + keypolicy.TenantKey
)

var mutations = []mutation{
	{"kms:* to the account", on(keypolicy.SidAccount, func(s *iampolicy.Statement) { s.Action = iampolicy.Values{"kms:*"} }), "IAM admin", beyond(administration), nil},
	{"a set by *", on(keypolicy.SidAdministrators+"BySet", func(s *iampolicy.Statement) {
		s.Condition["ArnLike"]["aws:PrincipalArn"] = iampolicy.Values{roles + "aws-reserved/sso.amazonaws.com/AWSReservedSSO_Admin_*"}
	}), "set that begins alike", administration, nil},
	{"a set without its path", on(keypolicy.SidAdministrators+"BySet", func(s *iampolicy.Statement) {
		s.Condition["ArnLike"]["aws:PrincipalArn"] = iampolicy.Values{roles + "*AWSReservedSSO_Admin_????????????????"}
	}), "role that is named like a set's", administration, nil},
	{"a set without the Region", on(keypolicy.SidAdministrators+"BySet", func(s *iampolicy.Statement) {
		s.Condition["ArnLike"]["aws:PrincipalArn"] = s.Condition["ArnLike"]["aws:PrincipalArn"][:1]
	}), "set of administrators, elsewhere", nil, administration},
	{"volumes not through EC2", without("VolumesUse", "StringEquals", "kms:ViaService"), "Auto Scaling, by itself", volumeUse[1:5], nil},
	{"volumes' grants for anybody", without("VolumesGrant", "Bool", "kms:GrantIsForAWSResource"), "Auto Scaling, through EC2, a grant for somebody", volumeUse[5:], nil},
	{"a central key without paths", without(keypolicy.SidPluginUse, "ArnLike", "aws:PrincipalArn"), "administrator of the cluster's account", pluginWork, nil},
	{"Decrypt to the account", alsoAllows(keypolicy.SidAccount, "kms:Decrypt"), "IAM admin", []string{"kms:Decrypt"}, nil},
	{"CreateGrant to the account", alsoAllows(keypolicy.SidAccount, "kms:CreateGrant"), "IAM admin", []string{"kms:CreateGrant"}, nil},
	{"the account left out", func(d *iampolicy.Document) { d.Statement = d.Statement[1:] }, "root user", nil, administration},
	{"no condition on what is for an emergency", without(keypolicy.SidBreakGlass, "ArnEquals", "aws:PrincipalArn"), "IAM admin, break glass", slices.DeleteFunc(slices.Clone(multiRegion), func(a string) bool { return slices.Contains(harmless, a) }), nil},
	{"the root user not among those for an emergency", on(keypolicy.SidBreakGlass, func(s *iampolicy.Statement) {
		s.Condition["ArnEquals"]["aws:PrincipalArn"] = s.Condition["ArnEquals"]["aws:PrincipalArn"][1:]
	}), "root user, break glass", nil, slices.DeleteFunc(slices.Clone(multiRegion), func(a string) bool { return slices.Contains(harmless, a) })},
	{"Decrypt to administrators", alsoAllows(keypolicy.SidAdministrators, "kms:Decrypt"), "key admin", []string{"kms:Decrypt"}, nil},
	{"CreateGrant to another role", func(d *iampolicy.Document) {
		d.Statement = append(d.Statement, iampolicy.Statement{
			Sid: "Another", Effect: iampolicy.Allow, Principal: iampolicy.Principal{AWS: iampolicy.Values{nobody.roleARN}},
			Action: iampolicy.Values{"kms:CreateGrant"}, Resource: iampolicy.Values{"*"},
		})
	}, "role without a policy", []string{"kms:CreateGrant"}, nil},
	{"Encrypt and Decrypt to the cluster role", on(keypolicy.SidClusterRole, func(s *iampolicy.Statement) { s.Action = append(s.Action, cryptography...) }), "cluster role", cryptography, nil},
	{"plugin use for everybody", on(keypolicy.SidPluginUse, everybody), "role without a policy", pluginWork, nil},
	{"plugin use for every account", on(keypolicy.SidPluginUse, everybody), "another account", pluginWork, nil},
	{"description for everybody", on(keypolicy.SidDescribe, everybody), "user without a policy", describe, nil},
	{"plugin use for the account", on(keypolicy.SidPluginUse, func(s *iampolicy.Statement) {
		s.Principal = iampolicy.Principal{AWS: iampolicy.Values{rootUser.arn}}
	}), "IAM admin with the plugin's tags", pluginWork, nil},
	{"no context condition", without(keypolicy.SidPluginUse, "StringEquals", contextCondition), "plugin, another cluster's context", pluginWork, nil},
	{"no context condition, no context", without(keypolicy.SidPluginUse, "StringEquals", contextCondition), "plugin, no context", pluginWork, nil},
	{"context keys not limited", without(keypolicy.SidPluginUse, "ForAllValues:StringEquals", "kms:EncryptionContextKeys"), "plugin, one more key in the context", pluginWork, nil},
	{"context may begin alike", on(keypolicy.SidPluginUse, func(s *iampolicy.Statement) {
		delete(s.Condition["StringEquals"], contextCondition)
		s.Condition["StringLike"] = map[string]iampolicy.Values{contextCondition: {"arn:aws:eks:*"}}
	}), "plugin, another cluster's context", pluginWork, nil},
	{"any cluster", without(keypolicy.SidPluginUse, "StringEquals", "aws:PrincipalTag/eks-cluster-arn"), "plugin, another cluster's session", pluginWork, nil},
	{"any namespace", without(keypolicy.SidPluginUse, "StringEquals", "aws:PrincipalTag/kubernetes-namespace"), "plugin, another namespace", pluginWork, nil},
	{"any service account", without(keypolicy.SidPluginDescribe, "StringEquals", "aws:PrincipalTag/kubernetes-service-account"), "plugin, another service account", see, nil},

	{"tenant without its pair", without(keypolicy.SidTenantUse, "StringEquals", tenantCondition), "tenant, another's context", pluginWork, nil},
	{"tenant without the cluster's pair", without(keypolicy.SidTenantUse, "StringEquals", contextCondition), "tenant, another cluster's context", pluginWork, nil},
	{"tenant's pair optional", without(keypolicy.SidTenantUse, "StringEquals", tenantCondition), "tenant, the cluster's context", pluginWork, nil},
	{"context keys of a tenant not limited", without(keypolicy.SidTenantUse, "ForAllValues:StringEquals", "kms:EncryptionContextKeys"), "tenant, one more key in the context", pluginWork, nil},
	{"tenant under another's name", named("globex"), "tenant, another's context", pluginWork, nil},
	{"tenant under another's name, its own", named("globex"), "tenant", nil, pluginWork},
	{"tenant under both names", named("acme", "globex"), "tenant, another's context", pluginWork, nil},
	{"one role more in a tenant's statement", on(keypolicy.SidTenantUse, func(s *iampolicy.Statement) {
		s.Principal.AWS = append(s.Principal.AWS, globex.roleARN)
		delete(s.Condition["StringEquals"], "aws:PrincipalTag/kubernetes-namespace")
	}), "other tenant, the first one's context", pluginWork, nil},
	{"tenant from any pod", without(keypolicy.SidTenantUse, "StringEquals", "aws:PrincipalTag/kubernetes-namespace"), "tenant, another tenant's pod", pluginWork, nil},
	{"any tenant pod describes", without(keypolicy.SidTenantDescribe, "StringEquals", "aws:PrincipalTag/kubernetes-namespace"), "tenant, another namespace", describe, nil},
	{"tenants see grants", alsoAllows(keypolicy.SidTenantDescribe, "kms:ListGrants"), "tenant", []string{"kms:ListGrants"}, nil},
	{"the plugin with any keys in its context", without(keypolicy.SidPluginUse, "ForAllValues:StringEquals", "kms:EncryptionContextKeys"), "plugin, a tenant's context", pluginWork, nil},
	{"the plugin does not see grants", on(keypolicy.SidPluginDescribe, func(s *iampolicy.Statement) { s.Action = s.Action[:1] }), "plugin", nil, []string{"kms:ListGrants"}},

	{"grants for anything", without(keypolicy.SidGrant, "StringEquals", "kms:GrantConstraintType"), "creator, for anything", []string{"kms:CreateGrant"}, nil},
	{"grants for tenants", without(keypolicy.SidGrant, "ForAllValues:StringNotEqualsIgnoreCase", "kms:EncryptionContextKeys"), "creator, for a tenant", []string{"kms:CreateGrant"}, nil},
	{"grants for tenants in capitals", on(keypolicy.SidGrant, func(s *iampolicy.Statement) {
		s.Condition["ForAllValues:StringNotEquals"] = s.Condition["ForAllValues:StringNotEqualsIgnoreCase"]
		delete(s.Condition, "ForAllValues:StringNotEqualsIgnoreCase")
	}), "creator, for a tenant in capitals", []string{"kms:CreateGrant"}, nil},
	{"strict grants to any service", without(keypolicy.SidGrant, "StringEquals", "kms:ViaService"), "creator, direct", []string{"kms:CreateGrant"}, nil},
	{"strict grants for any operation", without(keypolicy.SidGrant, "ForAllValues:StringEquals", "kms:GrantOperations"), "creator, grants of grants", []string{"kms:CreateGrant"}, nil},
	{"strict grants without constraint", without(keypolicy.SidGrant, "StringEquals", "kms:GrantConstraintType"), "creator, no constraint", []string{"kms:CreateGrant"}, nil},
	{"strict grants for any account", without(keypolicy.SidGrant, "StringEquals", "kms:CallerAccount"), "creator in another account", []string{"kms:CreateGrant"}, nil},

	{"future role anywhere", without(keypolicy.SidClusterRole, "ArnLike", "aws:PrincipalArn"), "role under another path", see, nil},
	{"future role that decrypts", alsoAllows(keypolicy.SidClusterRole, "kms:Decrypt"), "role under the path, kms:* in IAM", []string{"kms:Decrypt"}, nil},

	{"logs of any trail", without("TrailEncryptsLogs", "StringEquals", "aws:SourceArn"), "CloudTrail, another trail", dataKeys, nil},
	{"logs of any context", without("TrailEncryptsLogs", "StringEquals", "kms:EncryptionContext:aws:cloudtrail:arn"), "CloudTrail, another trail's context", dataKeys, nil},
	{"description for any trail", without("TrailDescribe", "StringEquals", "aws:SourceArn"), "CloudTrail, another trail", describe, nil},
	{"alarms of any topic", without("AlarmsThroughTopic", "StringEquals", "kms:EncryptionContext:aws:sns:topicArn"), "EventBridge, another topic", slices.Concat([]string{"kms:Decrypt"}, dataKeys), nil},
	{"readers of everything", without("LogReaders", "Null", "kms:EncryptionContext:aws:cloudtrail:arn"), "reader of alarms", []string{"kms:Decrypt"}, nil},
	{"logs to the account", alsoAllows(keypolicy.SidAccount, "kms:Decrypt"), "IAM admin and the logs", []string{"kms:Decrypt"}, nil},
	{"any log group", without("LogGroup", "ArnEquals", "kms:EncryptionContext:aws:logs:arn"), "CloudWatch Logs, another group", slices.Concat(describe, logGroupUse), nil},
}
