package ekskms

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/names"
)

// SecretsKeyProps configures a [SecretsKey].
type SecretsKeyProps struct {
	// ClusterName is the name of the cluster whose secrets the key encrypts.
	// Required.
	ClusterName *string
	// ExistingKey is a symmetric CMK in the Region of the cluster. No key is
	// made then, and the props of a new key may not be set. The policy of an
	// existing key can't be changed from here: the stack outputs the statements
	// that its owner must add, and warns.
	// Default: a new key.
	ExistingKey awskms.IKey
	// Alias of the new key, with the prefix "alias/".
	// Default: alias/eks/<ClusterName>.
	Alias *string
	// RotationPeriod is how long a key material is used, 90 to 2560 days.
	// Rotation itself can't be switched off.
	// Default: 90 days.
	RotationPeriod awscdk.Duration
	// PendingWindow is how long KMS waits before it deletes a key that is
	// scheduled for deletion, 7 to 30 days.
	// Default: 30 days.
	PendingWindow awscdk.Duration
	// MultiRegion makes the new key a multi-Region primary key. A key can't
	// become one later.
	// Default: false.
	MultiRegion *bool
	// Administrators may administer the key, beside the account root. Neither
	// may use it. For an existing key they are among the statements that its
	// owner is asked to add. At most 10, whose ARNs have 1,400 characters
	// together.
	// Default: the account root alone.
	Administrators *[]awsiam.IRole
	// Creators are the roles that may create the cluster: they get
	// kms:DescribeKey and kms:CreateGrant. Whoever else deploys the template
	// fails at the cluster with an access denied on kms:CreateGrant. At most 10,
	// whose ARNs have 1,400 characters together.
	// Required where a synthesizer is passed to the stack or the app.
	// Default: CloudFormation's execution role of the CDK bootstrap stack, in
	// the environment of this stack, with the qualifier that the context names.
	Creators *[]awsiam.IRole
	// StrictGrants allows the creators' kms:CreateGrant only through EKS, from
	// this account, for Encrypt and Decrypt, and with an encryption context
	// constraint. Derived from documentation and not tried against AWS.
	// Default: false.
	StrictGrants *bool
}

// SecretsKey is the CMK that encrypts the secrets of one cluster: symmetric,
// rotating, retained when the stack is deleted or the key replaced, and locked
// to named principals by its key policy.
//
// The policy has no kms:*, no wildcard principal, and nothing that lets an IAM
// policy alone hand out cryptographic use: see the package comment.
type SecretsKey struct {
	constructs.Construct
	at          place
	key         awskms.IKey
	arn         string
	policy      awsiam.PolicyDocument // nil for an existing key
	alias       *string
	clusterName string
	creatorARNs []string
	used        map[string]bool // Sids
	// requested are the statements that the owner of an existing key must add.
	requested []any
	output    awscdk.CfnOutput
}

const secretsKeyType = "SecretsKey"

// ExistingKeyOutput is the logical ID of the stack output that holds the
// statements which the owner of an existing key must add. A further existing key
// in the same stack has "For" and the name of its cluster behind it.
const ExistingKeyOutput = "ExistingKeyPolicyStatements"

// NewSecretsKey makes the key, or takes an existing one.
//
// It panics with a [*PropError] when ClusterName is missing or not a name that
// EKS takes, when a period is outside AWS's limits, when the alias has no
// "alias/" prefix or the reserved prefix "alias/aws/", when props of a new key
// are set beside ExistingKey, when that is an alias or in another Region, and
// when there are too many Creators, or none and no default.
func NewSecretsKey(scope constructs.Construct, id *string, props *SecretsKeyProps) *SecretsKey {
	if props == nil {
		props = &SecretsKeyProps{}
	}
	checkClusterName(secretsKeyType, props.ClusterName)

	k := &SecretsKey{clusterName: *props.ClusterName, used: map[string]bool{}}
	constructs.NewConstruct_Override(k, scope, id)
	k.at = placeOf(k)
	if props.ExistingKey != nil {
		k.takeExisting(props)
	} else {
		k.create(props)
	}
	k.grantCreators(props)
	return k
}

func (k *SecretsKey) takeExisting(props *SecretsKeyProps) {
	for _, p := range []struct {
		name string
		set  bool
	}{
		{"Alias", props.Alias != nil},
		{"RotationPeriod", props.RotationPeriod != nil},
		{"PendingWindow", props.PendingWindow != nil},
		{"MultiRegion", props.MultiRegion != nil},
	} {
		if p.set {
			reject(secretsKeyType, p.name, "is set beside ExistingKey, but belongs to the owner of that key: remove it")
		}
	}
	k.key, k.arn = props.ExistingKey, *props.ExistingKey.KeyArn()
	warn(k, "existing-key-policy",
		"The policy of the existing key "+resolved(k.at.stack, k.arn)+" can't be changed from here. Its owner must add the statements in the "+
			"output "+ExistingKeyOutput+": those that name no role of this stack before the deployment, or the cluster can't "+
			"be created; those of the plugin's role after it, since KMS refuses a principal that does not exist.")
	k.checkPlace()
	if arns := policyRoles("Administrators", props.Administrators); len(arns) > 0 {
		k.allow(keypolicy.Administrators(arns, false))
	}
}

// checkPlace refuses an existing key that EKS can't use, and warns of one whose
// tampering is not seen from here.
func (k *SecretsKey) checkPlace() {
	if *awscdk.Token_IsUnresolved(jsii.String(k.arn)) {
		return
	}
	part := k.at.stack.SplitArn(jsii.String(k.arn), awscdk.ArnFormat_SLASH_RESOURCE_NAME)
	if *part.Resource != "key" || *part.Region == "" || *part.Account == "" {
		reject(secretsKeyType, "ExistingKey", "has the ARN %q, must have that of a key: arn:<partition>:kms:<region>:<account>:key/<id>", k.arn)
	}
	known := func(value string) bool { return !*awscdk.Token_IsUnresolved(jsii.String(value)) }
	if known(k.at.region) && *part.Region != k.at.region {
		reject(secretsKeyType, "ExistingKey", "is in %s, must be in the Region of the cluster, %s", *part.Region, k.at.region)
	}
	if known(k.at.account) && *part.Account != k.at.account {
		warn(k, "key-owner-account",
			"The existing key belongs to account "+*part.Account+". What is done to it there (disabling, deletion, its policy, its "+
				"rotation, its aliases) is an event of that account: the alarms of this stack, in account "+k.at.account+
				", do not see it. Its owner needs alarms of his own.")
	}
}

func (k *SecretsKey) create(props *SecretsKeyProps) {
	alias := *orDefault(props.Alias, names.SecretsAlias(k.clusterName))
	if !*awscdk.Token_IsUnresolved(jsii.String(alias)) {
		switch {
		case !strings.HasPrefix(alias, "alias/") || alias == "alias/":
			reject(secretsKeyType, "Alias", "is %q, must begin with \"alias/\"", alias)
		case strings.HasPrefix(alias, "alias/aws/"):
			reject(secretsKeyType, "Alias", "is %q, but the prefix \"alias/aws/\" is reserved for AWS", alias)
		case alias == names.AuditAlias(k.clusterName) || alias == names.LogsAlias(k.clusterName):
			reject(secretsKeyType, "Alias", "is %q, which is that of another key of this cluster", alias)
		}
	}
	rotation, pending := props.RotationPeriod, props.PendingWindow
	if rotation == nil {
		rotation = awscdk.Duration_Days(jsii.Number(90))
	}
	if pending == nil {
		pending = awscdk.Duration_Days(jsii.Number(30))
	}
	checkDays(secretsKeyType, "RotationPeriod", rotation, 90, 2560)
	checkDays(secretsKeyType, "PendingWindow", pending, 7, 30)
	multiRegion := *orDefault(props.MultiRegion, false)

	statements := []iampolicy.Statement{keypolicy.Account(k.at.partition, k.at.account, multiRegion)}
	if arns := policyRoles("Administrators", props.Administrators); len(arns) > 0 {
		statements = append(statements, keypolicy.Administrators(arns, multiRegion))
	}
	k.policy = policyDocument(statements)
	k.key = awskms.NewKey(k, jsii.String("Resource"), &awskms.KeyProps{
		Description:       jsii.String("Encrypts the Kubernetes secrets of EKS cluster " + k.clusterName),
		EnableKeyRotation: jsii.Bool(true),
		RotationPeriod:    rotation,
		PendingWindow:     pending,
		MultiRegion:       jsii.Bool(multiRegion),
		RemovalPolicy:     awscdk.RemovalPolicy_RETAIN,
		Policy:            k.policy,
	})
	k.arn = *k.key.KeyArn()
	k.alias = jsii.String(alias)
	awskms.NewAlias(k, jsii.String("Alias"), &awskms.AliasProps{AliasName: k.alias, TargetKey: k.key})
}

func (k *SecretsKey) grantCreators(props *SecretsKeyProps) {
	k.creatorARNs = policyRoles("Creators", props.Creators)
	if len(k.creatorARNs) == 0 {
		k.creatorARNs = []string{executionRoleARN(k.at)}
	}
	var strict *keypolicy.StrictGrants
	if *orDefault(props.StrictGrants, false) {
		strict = &keypolicy.StrictGrants{Account: k.at.account, EKSService: k.at.service("eks")}
	}
	k.allow(keypolicy.ClusterCreators(k.creatorARNs, strict)...)
}

// policyRoles returns the ARNs of roles that the key policy lists, of which there
// is room for so many.
func policyRoles(prop string, roles *[]awsiam.IRole) []string {
	arns := roleARNs(secretsKeyType, prop, roles)
	if n := len(arns); n > keypolicy.MaxRoles {
		reject(secretsKeyType, prop, "has %d roles, must have at most %d", n, keypolicy.MaxRoles)
	}
	if n := len(strings.Join(arns, "")); n > keypolicy.MaxRoleText {
		reject(secretsKeyType, prop, "has ARNs of %d characters in all, must have at most %d", n, keypolicy.MaxRoleText)
	}
	return arns
}

// executionRoleARN names the role with which CloudFormation works when the CDK
// CLI deploys into a bootstrapped environment. Source: AWS CDK Developer Guide,
// "Customize AWS CDK bootstrapping".
func executionRoleARN(at place) string {
	qualifier := at.stack.Synthesizer().BootstrapQualifier()
	if qualifier == nil {
		// jsii gives the synthesizer as it was before it was bound to the stack.
		reject(secretsKeyType, "Creators",
			"is missing, and the execution role of a synthesizer that is passed to a stack or an app can't be read from here: name the roles that create the cluster")
	}
	return "arn:" + at.partition + ":iam::" + at.account + ":role/cdk-" + *qualifier + "-cfn-exec-role-" + at.account + "-" + at.region
}

// allow adds statements to the policy, or to what the owner of an existing key
// is asked for.
func (k *SecretsKey) allow(statements ...iampolicy.Statement) {
	for i := range statements {
		base, sid := statements[i].Sid, &statements[i].Sid
		for n := 2; k.used[*sid]; n++ {
			*sid = base + strconv.Itoa(n)
		}
		k.used[*sid] = true
	}
	if k.policy != nil {
		k.policy.AddStatements(policyStatements(statements)...)
		return
	}
	for _, s := range statements {
		k.requested = append(k.requested, s.Map())
	}
	value := k.at.stack.ToJsonString(k.requested, nil)
	if k.output != nil {
		k.output.SetValue(value)
		return
	}
	id := ExistingKeyOutput
	if k.at.stack.Node().TryFindChild(jsii.String(id)) != nil {
		id += "For" + outputName(k.clusterName)
	}
	k.output = awscdk.NewCfnOutput(k.at.stack, jsii.String(id), &awscdk.CfnOutputProps{
		Value:       value,
		Description: jsii.String("What the owner of the existing key must add to its policy, as a JSON list of statements."),
	})
}

var notAlphanumeric = regexp.MustCompile(`[^0-9A-Za-z]`)

// outputName makes the name of a cluster part of a logical ID, in which there
// are letters and digits only.
func outputName(cluster string) string {
	name := notAlphanumeric.ReplaceAllString(cluster, "")
	if name == cluster {
		return name
	}
	return name + names.ShortHash(cluster)
}

// GrantClusterRole lets the cluster's IAM role describe the key and list its
// grants, with which EKS reports the health of the cluster. It gives no
// cryptographic use: EKS has a grant of its own.
//
// The owner of an existing key must add the statement before the role is made,
// so there it names the roles under the path [SecretsKey.ClusterRolePath], and
// the role needs an identity policy as well, which it gets.
func (k *SecretsKey) GrantClusterRole(role awsiam.IRole) {
	if k.policy != nil {
		k.allow(keypolicy.ClusterRole(*role.RoleArn()))
		return
	}
	pattern := "arn:" + k.at.partition + ":iam::" + k.at.account + ":role" + *k.ClusterRolePath() + "*"
	k.allow(keypolicy.FutureClusterRole(k.at.partition, k.at.account, pattern))
	role.AddToPrincipalPolicy(policyStatement(keypolicy.ClusterRole("").OnResource(k.arn)))
}

// roleScope returns where to make a role that the key's policy names, for a
// construct that uses the key: beside the key, if the construct is in another
// stack. There it would depend on the key, whose policy would depend on it.
func (k *SecretsKey) roleScope(user constructs.Construct, at place) constructs.Construct {
	if at.stack == k.at.stack {
		return user
	}
	return k
}

// ClusterRolePath is the IAM path that the cluster's role must have. It is "/"
// unless the key is an existing one.
func (k *SecretsKey) ClusterRolePath() *string {
	if k.policy != nil {
		return jsii.String("/")
	}
	return jsii.String(names.ClusterRolePath(k.clusterName))
}

// PluginIdentity says which pods may use the key through a role.
type PluginIdentity struct {
	// ClusterArn is the ARN of the EKS cluster on which the plugin runs. It is
	// also the value of the encryption context.
	// Default: the cluster of the key, in the environment of its stack.
	ClusterArn *string
	// Namespace of the plugin's service account. Required.
	Namespace *string
	// ServiceAccount of the plugin. Required.
	ServiceAccount *string
}

// GrantPluginUse lets the role of a KMS plugin describe the key, list its grants,
// and encrypt and decrypt with the encryption context of the cluster and no
// other. The session must carry the tags that EKS Pod Identity gives to the
// service account; whoever may change the role's trust policy or tags can forge
// them.
//
// It changes both the key policy and the role's identity policy. The latter is
// what a key in another account needs. The plugins of tenants get less: see
// [KmsPluginProps].
func (k *SecretsKey) GrantPluginUse(role awsiam.IRole, identity *PluginIdentity) {
	const typ = secretsKeyType + ".GrantPluginUse"
	require(typ, "Namespace", identity != nil && identity.Namespace != nil)
	require(typ, "ServiceAccount", identity.ServiceAccount != nil)
	session := keypolicy.PodSession{
		ClusterARN:     k.clusterARN(),
		Namespace:      *identity.Namespace,
		ServiceAccount: *identity.ServiceAccount,
	}
	if identity.ClusterArn != nil {
		session.ClusterARN = *identity.ClusterArn
	}
	statements := keypolicy.PluginUse(*role.RoleArn(), keypolicy.ClusterContext(session.ClusterARN), &session)
	k.grant(role, statements)
	k.allow(statements...)
}

// grant writes statements of the key policy into a role's identity policy.
func (k *SecretsKey) grant(role awsiam.IRole, statements []iampolicy.Statement) {
	for _, s := range statements {
		role.AddToPrincipalPolicy(policyStatement(s.OnResource(k.arn)))
	}
}

// clusterARN is built from the cluster's name, not read from the cluster: the
// key must be complete before the cluster is made.
func (k *SecretsKey) clusterARN() string {
	return k.at.arn("eks", "cluster/"+k.clusterName)
}

// Key returns the CMK. The grant methods of awskms on it give more than they
// say: prefer those of this type.
func (k *SecretsKey) Key() awskms.IKey { return k.key }

// KeyArn returns the ARN of the CMK.
func (k *SecretsKey) KeyArn() *string { return jsii.String(k.arn) }

// AliasName returns the alias with its prefix "alias/", or nil for an existing
// key.
func (k *SecretsKey) AliasName() *string { return k.alias }

// ClusterName returns the name of the cluster whose secrets the key encrypts.
func (k *SecretsKey) ClusterName() *string { return jsii.String(k.clusterName) }

// CreatorArns returns the ARNs of the roles that may create the cluster.
func (k *SecretsKey) CreatorArns() *[]*string { return jsii.Strings(k.creatorARNs...) }
