package ekskms

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/place"
)

// ISecretsKey is a [SecretsKey], made in this app or elsewhere. No other type
// implements it.
type ISecretsKey interface {
	constructs.IConstruct
	// Key is the CMK. The grant methods of awskms on it give more than they say: prefer
	// those of this type.
	Key() awskms.IKey
	// KeyArn is the ARN of the CMK.
	KeyArn() *string
	// AliasName is the alias with its prefix "alias/", or nil if none is known.
	AliasName() *string
	// ClusterName is the name of the cluster whose secrets the key encrypts.
	ClusterName() *string
	// CreatorArns are the ARNs of the roles that may create the cluster.
	CreatorArns() *[]*string
	// ClusterRolePath is the IAM path that the cluster's role must have: "/", unless
	// the policy of the key can't be changed from here and names the role by it.
	ClusterRolePath() *string
	// RequiredKeyPolicyStatements is what the owner of a key whose policy can't be
	// changed from here must add to it, as a JSON list: complete once the app is
	// synthesized. Nil for a key that this app makes.
	RequiredKeyPolicyStatements() *string
	// GrantClusterCreation lets a role create the cluster, as the Creators may.
	GrantClusterCreation(role awsiam.IGrantable) awsiam.Grant
	// GrantClusterRole lets the cluster's IAM role describe the key and list its grants.
	GrantClusterRole(role awsiam.IGrantable) awsiam.Grant
	// GrantPluginUse lets the role of a KMS plugin use the key.
	GrantPluginUse(role awsiam.IGrantable, identity *PluginIdentity) awsiam.Grant

	secretsKey() *SecretsKey
}

// SecretsKeyProps configures a [SecretsKey].
type SecretsKeyProps struct {
	// ClusterName is the name of the cluster whose secrets the key encrypts.
	// Required.
	ClusterName *string
	// ExistingKey is a symmetric CMK in the Region of the cluster. No key is
	// made then, and the props of a new key may not be set. The policy of an
	// existing key can't be changed from here: RequiredKeyPolicyStatements has
	// the statements that its owner must add, and a warning says so.
	// Default: a new key.
	ExistingKey awskms.IKey
	// RolesByPath tells that the policy of the ExistingKey names the roles of this cluster by
	// their IAM paths, as that of a key with a ClusterAccount does: the roles get those paths,
	// and nothing is asked of its owner.
	// Default: false.
	RolesByPath *bool
	// ClusterAccount is the account of the cluster, for a new key in a central account: its
	// policy names the roles of the cluster, which are made later, by their IAM paths. The
	// cluster must be in the Region of this stack, and takes the key as its ExistingKey with
	// RolesByPath. Any principal that may make roles with these paths there, and give them
	// policies and tags, can use the key as the plugin does.
	// Default: the account of the stack.
	ClusterAccount *string
	// Plugin says which plugins on the cluster may use the key. Only with ClusterAccount.
	// Default: that of [KmsPluginOptions] without tenants.
	Plugin *KmsPluginOptions
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
	// owner is asked to add. Roles or users, also by their ARNs as
	// awsiam.ArnPrincipal: at most 10, whose ARNs have 1,400 characters
	// together.
	// Default: the account root alone.
	Administrators *[]awsiam.IGrantable
	// Creators are the roles that may create the cluster: they get
	// kms:DescribeKey and kms:CreateGrant. Any other principal that deploys the template
	// fails at the cluster with an access denied on kms:CreateGrant. At most 10,
	// whose ARNs have 1,400 characters in all.
	// Required where a synthesizer is passed to the stack or the app.
	// Default: CloudFormation's execution role of the CDK bootstrap stack, in
	// the environment of this stack, with the qualifier that the context names.
	Creators *[]awsiam.IGrantable
	// StrictGrants allows the creators' kms:CreateGrant only through EKS, from
	// this account, for Encrypt and Decrypt, and with an encryption context
	// constraint. Derived from documentation and not tried against AWS.
	// Default: false.
	StrictGrants *bool
	// BreakGlass are roles for an emergency. With any, only they, the Administrators and
	// the account's root user may disable a new key or schedule its deletion, and only they
	// and the Creators may change its policy or copy it to another Region: an IAM policy can
	// give that to nobody else. At most 3, whose ARNs have 420 characters in all.
	// Default: any principal that the account's IAM policies allow.
	BreakGlass *[]awsiam.IGrantable
}

// SecretsKey is the CMK that encrypts the secrets of one cluster: symmetric,
// rotating, retained when the stack is deleted or the key replaced, and locked
// to named principals by its key policy.
//
// The policy has no kms:*, no wildcard principal, and nothing for the account root that
// lets an IAM policy alone hand out cryptographic use: see the package comment.
type SecretsKey struct {
	constructs.Construct
	site   site
	c      blueprint.Cluster
	key    awskms.IKey
	policy awsiam.PolicyDocument // nil where it can't be changed from here
	used   []string              // Sids
	// tenants is the statement of the policy that lets all tenants describe the key.
	tenants awsiam.PolicyStatement
	// requested are the statements that the owner of the key must add.
	requested []any
	required  *string
}

const secretsKeyType = "SecretsKey"

// NewSecretsKey makes the key, or takes an existing one.
//
// It panics with a [*PropError] when ClusterName is missing or not a name that
// EKS takes, when a period is outside AWS's limits, when the alias has no
// "alias/" prefix or the reserved prefix "alias/aws/", when props of a new key
// are set beside ExistingKey, when that is an alias or in another Region, when an
// Administrator or a Creator is not one IAM principal, and when there are too many
// of them, or no Creators and no default, and when ClusterAccount is no account, or beside an
// ExistingKey, or in a stack for any account and Region.
func NewSecretsKey(scope constructs.Construct, id *string, props *SecretsKeyProps) *SecretsKey {
	if props == nil {
		props = &SecretsKeyProps{}
	}
	k := newKey(scope, id, props.ClusterName)
	k.c.Key.MultiRegion = *orDefault(props.MultiRegion, false)
	k.c.Key.StrictGrants = *orDefault(props.StrictGrants, false)
	k.c.Administrators = policyARNs("Administrators", props.Administrators, blueprint.MaxRoles, blueprint.MaxRoleText)
	k.c.Creators = policyARNs("Creators", props.Creators, blueprint.MaxRoles, blueprint.MaxRoleText)
	k.c.Key.BreakGlass = policyARNs("BreakGlass", props.BreakGlass, blueprint.MaxBreakGlass, blueprint.MaxBreakGlassText)
	k.elsewhere(props)
	if len(k.c.Creators) == 0 {
		k.c.Creators = []string{k.executionRole("Creators")}
	}
	if props.ExistingKey != nil {
		k.refuseOwned(props)
		k.c.Key.ByPath = *orDefault(props.RolesByPath, false)
		k.take(props.ExistingKey)
		if !k.c.Key.ByPath {
			k.allow(k.c.ManagerStatements()...)
		}
	} else {
		k.create(props)
	}
	return k
}

// elsewhere takes the place of a cluster of another account.
func (k *SecretsKey) elsewhere(props *SecretsKeyProps) {
	account := props.ClusterAccount
	if account == nil {
		if props.Plugin != nil {
			reject(secretsKeyType, "Plugin", "is set without ClusterAccount: a cluster of this account says it itself, remove it")
		}
		return
	}
	switch {
	case props.ExistingKey != nil:
		reject(secretsKeyType, "ClusterAccount", "is set beside ExistingKey, but belongs to a new key: remove one of them")
	case !place.IsAccount(*account):
		reject(secretsKeyType, "ClusterAccount", "is %q, must be an account ID of 12 digits", *account)
	case !k.site.Region.Known() || !k.site.Account.Known():
		reject(secretsKeyType, "ClusterAccount", "is set in a stack for any account and Region: name both in its Env")
	}
	k.c.Key.Account = k.site.Account.Text()
	k.c.At.Account = place.Literal(*account)
	if options := orDefault(props.Plugin, KmsPluginOptions{}); !options.none {
		k.c.Plugin = &blueprint.Plugin{Tenants: checkTenants("Plugin.Tenants", nil, options.Tenants, cmp.Or(options.Mode, PluginModeDeployment))}
	}
	k.c.KnowPaths()
}

func newKey(scope constructs.Construct, id, cluster *string) *SecretsKey {
	checkClusterName(secretsKeyType, cluster)
	k := &SecretsKey{}
	constructs.NewConstruct_Override(k, scope, id)
	k.site = siteOf(k)
	k.c = blueprint.Cluster{Name: *cluster, At: k.site.Place}
	return k
}

// SecretsKeyAttributes describe a [SecretsKey] that was made elsewhere, in another app
// or account.
type SecretsKeyAttributes struct {
	// KeyArn is the ARN of the CMK. Required.
	KeyArn *string
	// ClusterName is the name of the cluster whose secrets the key encrypts. Required.
	ClusterName *string
	// AliasName is the alias of the key, with the prefix "alias/", for the alarm on it.
	// Default: none is watched.
	AliasName *string
	// CreatorArns are the roles that may create the cluster, for the alarm on grants of
	// others.
	// Default: as that of [SecretsKeyProps].
	CreatorArns *[]*string
}

// SecretsKey_FromSecretsKeyAttributes refers to a [SecretsKey] that was made elsewhere.
// Its policy can't be changed from here: what is granted is written into the principals'
// own policies, and RequiredKeyPolicyStatements has what its owner must add.
//
// It panics with a [*PropError] when KeyArn or ClusterName is missing or no such thing,
// and when the key is in another Region.
func SecretsKey_FromSecretsKeyAttributes(scope constructs.Construct, id *string, attrs *SecretsKeyAttributes) ISecretsKey {
	if attrs == nil {
		attrs = &SecretsKeyAttributes{}
	}
	require(secretsKeyType, "KeyArn", attrs.KeyArn != nil)
	k := newKey(scope, id, attrs.ClusterName)
	for _, arn := range *orDefault(attrs.CreatorArns, nil) {
		k.c.Creators = append(k.c.Creators, *arn)
	}
	if len(k.c.Creators) == 0 {
		k.c.Creators = []string{k.executionRole("CreatorArns")}
	}
	k.take(awskms.Key_FromKeyArn(k, jsii.String("Key"), attrs.KeyArn))
	k.c.Key.Alias = *orDefault(attrs.AliasName, "")
	return k
}

func (k *SecretsKey) refuseOwned(props *SecretsKeyProps) {
	for _, p := range []struct {
		name string
		set  bool
	}{
		{"Alias", props.Alias != nil},
		{"RotationPeriod", props.RotationPeriod != nil},
		{"PendingWindow", props.PendingWindow != nil},
		{"MultiRegion", props.MultiRegion != nil},
		{"BreakGlass", len(k.c.Key.BreakGlass) > 0},
	} {
		if p.set {
			reject(secretsKeyType, p.name, "is set beside ExistingKey, but belongs to the owner of that key: remove it")
		}
	}
}

// take uses a key whose policy can't be changed from here. What is known of its ARN must
// say that it is a key in the cluster's Region.
func (k *SecretsKey) take(key awskms.IKey) {
	const prop = "ExistingKey"
	k.key, k.c.Key.ARN = key, *key.KeyArn()
	if !k.c.Key.ByPath {
		// The list is read at synthesis, with what is granted until then.
		k.required = awscdk.Lazy_UncachedString(&requestedStatements{k}, nil)
	}
	if !token(k.c.Key.ARN).Known() {
		return
	}
	arn, ok := place.ParseARN(k.c.Key.ARN)
	if !ok || !strings.HasPrefix(arn.Resource, "key/") || arn.Region == "" || arn.AccountID == "" {
		reject(secretsKeyType, prop, "has the ARN %q, must have that of a key: arn:<partition>:kms:<region>:<account>:key/<id>", k.c.Key.ARN)
	}
	if region := k.site.Region; region.Known() && arn.Region != region.Text() {
		reject(secretsKeyType, prop, "is in %s, must be in the Region of the cluster, %s", arn.Region, region.Text())
	}
	if account := k.site.Account; !k.c.Key.ByPath && account.Known() && arn.AccountID != account.Text() {
		warn(k, "key-owner-account",
			"The existing key belongs to account "+arn.AccountID+". What is done to it there (disabling, deletion, its policy, its "+
				"rotation, its aliases) is an event of that account: the alarms of this stack, in account "+account.Text()+
				", do not see it. Its owner needs alarms there.")
	}
}

// requestedStatements tells the CDK what the owner of a key must add, when it asks.
type requestedStatements struct{ key *SecretsKey }

// Produce returns the statements as a JSON list.
func (r *requestedStatements) Produce(awscdk.IResolveContext) *string {
	return r.key.site.stack.ToJsonString(r.key.requested, nil)
}

func (k *SecretsKey) create(props *SecretsKeyProps) {
	alias := *orDefault(props.Alias, place.SecretsAlias(k.c.Name))
	if token(alias).Known() {
		switch {
		case !strings.HasPrefix(alias, "alias/") || alias == "alias/":
			reject(secretsKeyType, "Alias", "is %q, must begin with \"alias/\"", alias)
		case strings.HasPrefix(alias, "alias/aws/"):
			reject(secretsKeyType, "Alias", "is %q, but the prefix \"alias/aws/\" is reserved for AWS", alias)
		case slices.Contains([]string{place.AuditAlias(k.c.Name), place.AlarmsAlias(k.c.Name), place.LogsAlias(k.c.Name), place.VolumesAlias(k.c.Name)}, alias):
			reject(secretsKeyType, "Alias", "is %q, which is that of another key of this cluster", alias)
		}
	}
	k.c.Key.Alias = alias
	spec := k.c.SecretsKey()
	// The account and the managers; roles that are made later follow.
	own := append(k.c.AccountStatements(), k.c.ManagerStatements()...)
	if k.c.Key.ByPath {
		own = k.c.KeyStatements()
	}
	k.policy = policyDocument(nil)
	k.allow(own...)
	key := awskms.NewKey(k, jsii.String("Resource"), &awskms.KeyProps{
		Description:       jsii.String(spec.Description),
		EnableKeyRotation: jsii.Bool(true),
		RotationPeriod:    days(secretsKeyType, "RotationPeriod", props.RotationPeriod, blueprint.RotationDays),
		PendingWindow:     days(secretsKeyType, "PendingWindow", props.PendingWindow, blueprint.PendingDays),
		MultiRegion:       jsii.Bool(spec.MultiRegion),
		RemovalPolicy:     awscdk.RemovalPolicy_RETAIN,
		Policy:            k.policy,
	})
	k.key, k.c.Refs.Key = key, token(*key.KeyArn())
	awskms.NewAlias(k, jsii.String("Alias"), &awskms.AliasProps{AliasName: jsii.String(spec.Alias), TargetKey: key})
}

// policyARNs returns the ARNs of principals that the key policy lists, of which there is
// room for so many.
func policyARNs(prop string, grantees *[]awsiam.IGrantable, most, text int) []string {
	arns := principalARNs(secretsKeyType, prop, grantees)
	if n := len(arns); n > most {
		reject(secretsKeyType, prop, "has %d roles, must have at most %d", n, most)
	}
	if n := keypolicy.RoleText(arns); n > text {
		reject(secretsKeyType, prop, "has ARNs of %d characters in all, must have at most %d", n, text)
	}
	return arns
}

// executionRole is the role with which CloudFormation works when the CDK CLI deploys.
func (k *SecretsKey) executionRole(prop string) string {
	qualifier := k.site.stack.Synthesizer().BootstrapQualifier()
	if qualifier == nil {
		// jsii gives the synthesizer as it was before it was bound to the stack.
		reject(secretsKeyType, prop,
			"is missing, and the execution role of a synthesizer that is passed to a stack or an app can't be read from here: name the roles that create the cluster")
	}
	return k.c.At.ExecutionRole(*qualifier)
}

// allow adds statements to the policy, or to what the owner of the key is asked for. It
// returns what was added to the policy.
func (k *SecretsKey) allow(statements ...iampolicy.Statement) []awsiam.PolicyStatement {
	for i := range statements {
		base, sid := statements[i].Sid, &statements[i].Sid
		for n := 2; slices.Contains(k.used, *sid); n++ {
			*sid = base + strconv.Itoa(n)
		}
		k.used = append(k.used, *sid)
	}
	if k.c.Key.ByPath && k.policy == nil {
		return nil // it has them already
	}
	if k.policy != nil {
		added := policyStatements(statements)
		k.policy.AddStatements(added...)
		return added
	}
	if len(k.requested) == 0 && len(statements) > 0 {
		warn(k, "existing-key-policy",
			"The policy of the existing key "+resolved(k.site.stack, k.c.Key.ARN)+" can't be changed from here. Its owner must add the "+
				"statements of RequiredKeyPolicyStatements, which a stack of ekskms has as the output "+blueprint.Outputs.ExistingKey.ID+
				": those that name no role of this stack before the deployment, or the cluster can't "+
				"be created; those of the plugin's role after it, since KMS refuses a principal that does not exist.")
	}
	for _, s := range statements {
		k.requested = append(k.requested, s.Map())
	}
	return nil
}

// allowTenants takes the statements of all tenants, of which the first so many are in the
// policy already: one that lets all of them describe the key, which is widened, and one
// for each.
func (k *SecretsKey) allowTenants(statements []iampolicy.Statement, there int) {
	if there == 0 {
		if added := k.allow(statements...); added != nil {
			k.tenants = added[0]
		}
		return
	}
	k.allow(statements[1+there:]...)
	describe := statements[0]
	if k.policy == nil {
		for i, s := range k.requested {
			if s.(map[string]any)["Sid"] == describe.Sid {
				k.requested[i] = describe.Map()
			}
		}
		return
	}
	for _, arn := range describe.Principal.AWS[there:] {
		k.tenants.AddArnPrincipal(jsii.String(arn))
	}
	for operator, values := range describe.Map()["Condition"].(map[string]any) {
		k.tenants.AddCondition(jsii.String(operator), values)
	}
}

// GrantClusterCreation lets a role create the cluster, beside the Creators: one that
// is made after the key, such as that of the handler of CDK's older awseks module.
func (k *SecretsKey) GrantClusterCreation(role awsiam.IGrantable) awsiam.Grant {
	const typ = secretsKeyType + ".GrantClusterCreation"
	if len(k.c.Creators) == blueprint.MaxRoles {
		reject(typ, "role", "is one too many, there may be at most %d Creators", blueprint.MaxRoles)
	}
	c := k.c
	c.Creators = []string{principalARN(typ, "role", role)}
	k.c.Creators = append(slices.Clip(k.c.Creators), c.Creators...)
	statements := c.CreatorStatements()
	k.allow(statements...)
	return grant(role, iampolicy.OnResource(statements, k.c.KeyARN()))
}

// GrantClusterRole lets the cluster's IAM role describe the key and list its
// grants, with which EKS reports the health of the cluster. It gives no
// cryptographic use: EKS has a grant of its own.
//
// The owner of an existing key must add the statement before the role is made,
// so there it names the roles under the path [SecretsKey.ClusterRolePath], and
// the role needs an identity policy as well, which it gets.
func (k *SecretsKey) GrantClusterRole(role awsiam.IGrantable) awsiam.Grant {
	c := k.c
	if k.policy != nil {
		c.Refs.ClusterRole = token(principalARN(secretsKeyType+".GrantClusterRole", "role", role))
	}
	k.allow(c.ClusterRoleStatements()...)
	return grant(role, c.ClusterRole().Policy)
}

// roleScope returns where to make a role that the key's policy names, for a
// construct that uses the key: beside the key, if the construct is in another
// stack. There it would depend on the key, whose policy would depend on it.
func (k *SecretsKey) roleScope(user constructs.Construct, at site) constructs.Construct {
	if at.stack == k.site.stack {
		return user
	}
	return k
}

// ClusterRolePath is the IAM path that the cluster's role must have. It is "/"
// unless the key is an existing one.
func (k *SecretsKey) ClusterRolePath() *string { return jsii.String(k.c.ClusterRole().Path) }

// RequiredKeyPolicyStatements is what the owner of an existing key must add to its
// policy, as a JSON list: complete once the app is synthesized. Nil for a new key.
func (k *SecretsKey) RequiredKeyPolicyStatements() *string { return k.required }

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
// service account; any principal that may change the role's trust policy or tags can forge
// them.
//
// It changes both the key policy and the role's identity policy. The latter is
// what a key in another account needs. The plugins of tenants get less: see
// [KmsPluginProps].
func (k *SecretsKey) GrantPluginUse(role awsiam.IGrantable, identity *PluginIdentity) awsiam.Grant {
	const typ = secretsKeyType + ".GrantPluginUse"
	require(typ, "Namespace", identity != nil && identity.Namespace != nil)
	require(typ, "ServiceAccount", identity.ServiceAccount != nil)
	session := keypolicy.PodSession{
		ClusterARN:     *orDefault(identity.ClusterArn, k.c.ARN()),
		Namespace:      *identity.Namespace,
		ServiceAccount: *identity.ServiceAccount,
	}
	statements := keypolicy.PluginUse(principalARN(typ, "role", role), keypolicy.ClusterContext(session.ClusterARN), &session)
	given := grant(role, iampolicy.OnResource(statements, k.c.KeyARN()))
	k.allow(statements...)
	return given
}

// Key returns the CMK. The grant methods of awskms on it give more than they
// say: prefer those of this type.
func (k *SecretsKey) Key() awskms.IKey { return k.key }

// KeyArn returns the ARN of the CMK.
func (k *SecretsKey) KeyArn() *string { return jsii.String(k.c.KeyARN()) }

// AliasName returns the alias with its prefix "alias/", or nil for an existing
// key.
func (k *SecretsKey) AliasName() *string {
	if k.c.Key.Alias == "" {
		return nil
	}
	return jsii.String(k.c.Key.Alias)
}

// ClusterName returns the name of the cluster whose secrets the key encrypts.
func (k *SecretsKey) ClusterName() *string { return jsii.String(k.c.Name) }

// CreatorArns returns the ARNs of the roles that may create the cluster.
func (k *SecretsKey) CreatorArns() *[]*string { return jsii.Strings(k.c.Creators...) }

func (k *SecretsKey) secretsKey() *SecretsKey { return k }
