// Package keypolicy says, as data, who may do what with the keys of a cluster.
//
// It is the one place where these statements are written; the renderers for
// CloudFormation, Terraform and JSON read them here. Three rules hold for the
// secrets key and are tested:
//
//   - no action is a wildcard and no principal is a wildcard;
//   - the account root, and so any IAM policy of the account, gets
//     administration only: it can't encrypt, decrypt, make data keys or make
//     grants, the last but for the roles of a permission set that is named as
//     a creator;
//   - each principal that may use the key is named, and a plugin only with the encryption
//     context of its cluster or of its tenant.
//
// Strings may hold CloudFormation tokens: nothing here looks inside them.
package keypolicy

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/place"
)

// The Sids of the secrets key's statements. They are part of the contract with
// tools that read the policy.
const (
	SidAccount        = "AccountAdministration"
	SidBreakGlass     = "BreakGlass"
	SidAdministrators = "Administrators"
	SidDescribe       = "ClusterCreatorsDescribe"
	SidGrant          = "ClusterCreatorsGrant"
	SidClusterRole    = "ClusterRole"
	SidPluginDescribe = "PluginDescribe"
	SidPluginUse      = "PluginUse"
	// SidTenantDescribe is one statement for all tenants, SidTenantUse one for
	// each: the second has a 2 behind it, and so on.
	SidTenantDescribe = "TenantDescribe"
	SidTenantUse      = "TenantUse"
)

// administration is what it takes to run a key without being able to use it.
// Source: AWS KMS Developer Guide, "Allows key administrators to administer the
// KMS key", which uses wildcards such as kms:Describe*; here they are spelled
// out, less the actions for asymmetric keys, imported material and custom key
// stores, and less kms:CreateGrant, with which an administrator could hand
// cryptographic use to anybody.
var administration = []string{
	"kms:CancelKeyDeletion",
	"kms:CreateAlias",
	"kms:DeleteAlias",
	"kms:DescribeKey",
	"kms:DisableKey",
	"kms:DisableKeyRotation",
	"kms:EnableKey",
	"kms:EnableKeyRotation",
	"kms:GetKeyPolicy",
	"kms:GetKeyRotationStatus",
	"kms:ListGrants",
	"kms:ListKeyPolicies",
	"kms:ListKeyRotations",
	"kms:ListResourceTags",
	"kms:PutKeyPolicy",
	"kms:RevokeGrant",
	"kms:RotateKeyOnDemand",
	"kms:ScheduleKeyDeletion",
	"kms:TagResource",
	"kms:UntagResource",
	"kms:UpdateAlias",
	"kms:UpdateKeyDescription",
}

// multiRegionAdministration is what a multi-Region key needs on top. Source:
// AWS KMS Developer Guide, "Control access to multi-Region keys".
var multiRegionAdministration = []string{
	"kms:ReplicateKey",
	"kms:UpdatePrimaryRegion",
}

// Administration lists the actions of an administrator, sorted.
func Administration(multiRegion bool) []string {
	actions := slices.Clone(administration)
	if multiRegion {
		actions = append(actions, multiRegionAdministration...)
		slices.Sort(actions)
	}
	return actions
}

// onKey is the resource of every statement in a key policy: the key itself.
func onKey() iampolicy.Values { return iampolicy.Values{"*"} }

// Account lets the account root, and through it the IAM policies of the
// account, administer the key. The root of an account can't be deleted, so the
// key can't be locked away from everybody; but it can't use the key either.
// Any principal that may put a key policy may of course write itself into it: that is why
// PutKeyPolicy raises an alarm.
func Account(rootARN string, multiRegion bool) iampolicy.Statement {
	return iampolicy.Statement{
		Sid:       SidAccount,
		Effect:    iampolicy.Allow,
		Principal: iampolicy.Principal{AWS: iampolicy.Values{rootARN}},
		Action:    Administration(multiRegion),
		Resource:  onKey(),
	}
}

// guarded is what takes a key away, or its policy off. Any principal that may copy it to another
// Region chooses the policy there.
var guarded = []string{"kms:DisableKey", "kms:PutKeyPolicy", "kms:ReplicateKey", "kms:ScheduleKeyDeletion", "kms:UpdatePrimaryRegion"}

// AccountWithBreakGlass is [Account], except that what takes the key or its policy away is
// left to the account's root user and to the roles that are named for an emergency, by
// their ARNs: an IAM policy can give it to nobody else. They need it in their own IAM
// policies too, and a role that is deleted and made again has it again.
//
// The root user is in the list because the key would be lost with the roles. Source, for
// what aws:PrincipalArn is: IAM User Guide, "AWS global condition context keys".
func AccountWithBreakGlass(rootARN string, multiRegion bool, roleARNs []string) []iampolicy.Statement {
	account := Account(rootARN, multiRegion)
	emergency := account
	emergency.Sid, emergency.Action = SidBreakGlass, nil
	account.Action = slices.DeleteFunc(account.Action, func(action string) bool {
		if slices.Contains(guarded, action) {
			emergency.Action = append(emergency.Action, action)
			return true
		}
		return false
	})
	arns := iampolicy.Values{rootARN}
	for _, arn := range roleARNs {
		if patterns := place.RolePatterns(arn); patterns != nil {
			arns = append(arns, patterns...) // ArnEquals reads them as ArnLike does
			continue
		}
		arns = append(arns, arn)
	}
	emergency.Condition = iampolicy.Condition{"ArnEquals": {"aws:PrincipalArn": arns}}
	return []iampolicy.Statement{account, emergency}
}

// Administrators lets the named roles administer the key, whatever their IAM
// policies say.
func Administrators(roleARNs []string, multiRegion bool) []iampolicy.Statement {
	return bySet(iampolicy.Statement{
		Sid:       SidAdministrators,
		Effect:    iampolicy.Allow,
		Principal: iampolicy.Principal{AWS: roleARNs},
		Action:    Administration(multiRegion),
		Resource:  onKey(),
	})
}

// bySet splits a statement for roles into one for those that are named, and one for those
// of permission sets, whose names nobody knows beforehand, or of a path, which are not there
// yet: it is for the account, whose IAM policies must allow the actions too, as long as the
// caller is such a role.
func bySet(statements ...iampolicy.Statement) (all []iampolicy.Statement) {
	for _, s := range statements {
		named, sets := s, s
		named.Principal.AWS, sets.Principal.AWS = nil, nil
		var patterns iampolicy.Values
		for _, arn := range s.Principal.AWS {
			more := place.RolePatterns(arn)
			if more == nil {
				named.Principal.AWS = append(named.Principal.AWS, arn)
				continue
			}
			root, _, _ := strings.Cut(arn, ":role/")
			if root += ":root"; !slices.Contains(sets.Principal.AWS, root) {
				sets.Principal.AWS = append(sets.Principal.AWS, root)
			}
			patterns = append(patterns, more...)
		}
		if len(named.Principal.AWS) > 0 || patterns == nil {
			all = append(all, named)
		}
		if patterns != nil {
			if place.IsSet(s.Principal.AWS[0]) || len(named.Principal.AWS) > 0 {
				sets.Sid += "BySet"
			}
			sets.Condition = maps.Clone(s.Condition)
			if sets.Condition == nil {
				sets.Condition = iampolicy.Condition{}
			}
			sets.Condition["ArnLike"] = map[string]iampolicy.Values{"aws:PrincipalArn": patterns}
			all = append(all, sets)
		}
	}
	return all
}

// StrictGrants holds the values that the conditions of strict grants compare
// with.
type StrictGrants struct {
	Account string
	// EKSService is the endpoint name of EKS, such as
	// eks.eu-central-1.amazonaws.com.
	EKSService string
}

// ClusterCreators lets the named principals create the cluster: EKS calls
// DescribeKey and CreateGrant in their name. Source: Amazon EKS User Guide,
// "Encrypt Kubernetes secrets with KMS", which also says that the condition
// kms:GrantIsForAWSResource is not supported here.
//
// A grant must be bound to an encryption context, and to none of the keys that plugins
// send: neither the account's administrators nor a creator can make one that opens what a
// tenant or the plugin has encrypted. In a grant's constraint the case of a key does not
// matter, hence IgnoreCase. That EKS's own grant is bound so, to aws:eks:context, was seen
// on running clusters (aws kms list-grants in public reports) and is not documented; if it
// were not, EKS would refuse to create a cluster with access denied on kms:CreateGrant.
// Sources: AWS KMS Developer Guide, "AWS KMS permissions" (the condition keys of
// CreateGrant), and AWS KMS API Reference, GrantConstraints.
//
// With strict set, CreateGrant is allowed only through EKS, from this account, for the two
// operations that EKS asks for, and with a context that must be equal. That EKS meets
// kms:ViaService in CreateCluster is inferred from the list of services that support it,
// not tried: hence opt-in.
//
// Beside [AccountWithBreakGlass] a creator gets kms:PutKeyPolicy by name, which it would
// otherwise have from IAM: it makes the key, and updates its policy.
func ClusterCreators(roleARNs []string, strict *StrictGrants, breakGlass bool) []iampolicy.Statement {
	principal := iampolicy.Principal{AWS: roleARNs}
	own := iampolicy.Values{"kms:DescribeKey"}
	if breakGlass {
		own = append(own, "kms:PutKeyPolicy")
	}
	grant := iampolicy.Statement{
		Sid:       SidGrant,
		Effect:    iampolicy.Allow,
		Principal: principal,
		Action:    iampolicy.Values{"kms:CreateGrant"},
		Resource:  onKey(),
		Condition: iampolicy.Condition{
			"StringEquals": {"kms:GrantConstraintType": {"EncryptionContextEquals", "EncryptionContextSubset"}},
			// Holds for a request without the key too, which the type excludes.
			"ForAllValues:StringNotEqualsIgnoreCase": {"kms:EncryptionContextKeys": {ContextKey, TenantKey}},
		},
	}
	if strict != nil {
		grant.Condition["StringEquals"] = map[string]iampolicy.Values{
			"kms:CallerAccount":       {strict.Account},
			"kms:GrantConstraintType": {"EncryptionContextEquals"},
			"kms:ViaService":          {strict.EKSService},
		}
		// KMS requires GrantOperations in every CreateGrant.
		grant.Condition["ForAllValues:StringEquals"] = map[string]iampolicy.Values{"kms:GrantOperations": {"Decrypt", "Encrypt"}}
	}
	return bySet(iampolicy.Statement{
		Sid:       SidDescribe,
		Effect:    iampolicy.Allow,
		Principal: principal,
		Action:    own,
		Resource:  onKey(),
	}, grant)
}

// ClusterRole lets the cluster's IAM role see the key and its grants: EKS
// checks both every hour to report the health of the cluster.
//
// There is no Encrypt and no Decrypt here. EKS uses its own grant for those:
// Amazon EKS User Guide, "Encrypt Kubernetes secrets with KMS", asks only for
// kms:DescribeKey and kms:CreateGrant of the creator; the managed policy
// AmazonEKSClusterPolicy has kms:DescribeKey alone. That the role calls
// ListGrants was reported in terraform-aws-eks, issues 1913 and 2371.
func ClusterRole(roleARN string) iampolicy.Statement {
	return iampolicy.Statement{
		Sid:       SidClusterRole,
		Effect:    iampolicy.Allow,
		Principal: iampolicy.Principal{AWS: iampolicy.Values{roleARN}},
		Action:    iampolicy.Values{"kms:DescribeKey", "kms:ListGrants"},
		Resource:  onKey(),
	}
}

// FutureClusterRole is [ClusterRole] for a role that is not there yet, when
// the policy of an existing key must be complete before the cluster's stack
// makes the role: KMS refuses a principal that does not exist. Any role of the
// account whose ARN matches the pattern may then, if its IAM policies say so
// too, see the key and its grants. It gives no cryptographic use.
func FutureClusterRole(rootARN, rolePattern string) iampolicy.Statement {
	s := ClusterRole(rootARN)
	s.Condition = iampolicy.Condition{"ArnLike": {"aws:PrincipalArn": {rolePattern}}}
	return s
}

// ContextKey is the key of the encryption context that ties a ciphertext to a
// cluster; its value is the ARN of the cluster.
const ContextKey = "ekskms:cluster-arn"

// TenantKey is the key of the encryption context that ties a ciphertext to a
// hosted control plane on the cluster, beside [ContextKey]; its value is the name
// of the tenant. The cluster's own plugin sends no such pair.
const TenantKey = "ekskms:tenant"

// EncryptionContext holds the pairs that a plugin sends with every call. They are
// no secret: CloudTrail records them in the clear.
type EncryptionContext map[string]string

// ClusterContext is the encryption context of the cluster's own plugin.
func ClusterContext(clusterARN string) EncryptionContext {
	return EncryptionContext{ContextKey: clusterARN}
}

// TenantContext is the encryption context of a tenant's plugin.
func TenantContext(clusterARN, tenant string) EncryptionContext {
	return EncryptionContext{ContextKey: clusterARN, TenantKey: tenant}
}

// require adds to the condition that a request carries all pairs, and no key
// beside them.
func (c EncryptionContext) require(condition iampolicy.Condition) {
	if condition["StringEquals"] == nil {
		condition["StringEquals"] = map[string]iampolicy.Values{}
	}
	for key, value := range c {
		condition["StringEquals"]["kms:EncryptionContext:"+key] = iampolicy.Values{value}
	}
	condition["ForAllValues:StringEquals"] = map[string]iampolicy.Values{
		"kms:EncryptionContextKeys": slices.Sorted(maps.Keys(c)),
	}
}

// PodSession is what EKS Pod Identity says of the pod that assumes a role, in
// session tags. Source: Amazon EKS User Guide, "Grant Pods access to AWS
// resources based on tags".
type PodSession struct {
	ClusterARN, Namespace, ServiceAccount string
}

func (s PodSession) tags(prefix string) map[string]iampolicy.Values {
	return map[string]iampolicy.Values{
		prefix + "eks-cluster-arn":            {s.ClusterARN},
		prefix + "kubernetes-namespace":       {s.Namespace},
		prefix + "kubernetes-service-account": {s.ServiceAccount},
	}
}

// pluginActions are what a plugin works with: it has KMS make a data key for each
// seed, and unwrap it. Both calls take the conditions on the encryption context
// (AWS KMS Developer Guide, "AWS KMS condition keys"; Service Authorization
// Reference, "Actions, resources, and condition keys for AWS Key Management
// Service", GenerateDataKey).
func pluginActions() iampolicy.Values { return iampolicy.Values{"kms:Decrypt", "kms:GenerateDataKey"} }

// PluginUse lets the plugin's role describe the key, and generate and unwrap data
// keys with exactly the given encryption context: all pairs must be there and no
// other key beside them.
//
// With session set, the plugin runs on EKS: it may also list the key's grants, to
// see whether EKS's own is still there, and the role's session must carry the
// tags that EKS Pod Identity gives to that service account of that cluster. That
// guards against a trust added to the role by accident; any principal that may change the
// role's trust policy or its tags can forge them.
//
// Where the role is not there yet, its ARN may be a pattern of a path, see
// [place.RolePatterns]. Any principal that may make roles with that path, and give them
// policies and tags, can forge those too.
func PluginUse(roleARN string, context EncryptionContext, session *PodSession) []iampolicy.Statement {
	describe := iampolicy.Statement{
		Sid:       SidPluginDescribe,
		Effect:    iampolicy.Allow,
		Principal: iampolicy.Principal{AWS: iampolicy.Values{roleARN}},
		Action:    iampolicy.Values{"kms:DescribeKey"},
		Resource:  onKey(),
	}
	use := describe
	use.Sid = SidPluginUse
	use.Action = pluginActions()
	use.Condition = iampolicy.Condition{}
	if session != nil {
		describe.Action = append(describe.Action, "kms:ListGrants")
		describe.Condition = iampolicy.Condition{"StringEquals": session.tags("aws:PrincipalTag/")}
		use.Condition["StringEquals"] = session.tags("aws:PrincipalTag/")
	}
	context.require(use.Condition)
	return bySet(describe, use)
}

// Tenant is a hosted control plane on the cluster: a name, and the pods of its
// API server with the plugin beside them.
type Tenant struct {
	Name, RoleARN string
	Session       PodSession
}

// MaxRoles is how many roles may be named as administrators, and how many as
// creators; MaxRoleText is the number of characters that the ARNs of either have
// together. They keep the key policy within its limit: see [MaxTenants].
const (
	MaxRoles    = 10
	MaxRoleText = 1400
)

// RoleText is the number of characters that roles take of [MaxRoleText], or of
// [MaxBreakGlassText]. A permission set has two patterns and, beside roles that are named,
// statements of its own.
func RoleText(arns []string) (n int) {
	sets := 0
	for _, arn := range arns {
		n += len(arn)
		if place.RolePatterns(arn) != nil {
			n += len(arn) + len("*/")
			sets++
		}
	}
	if sets > 0 {
		n += len("arn:aws-us-gov:iam::111122223333:root") + setCondition
		if sets < len(arns) {
			n += secondStatement
		}
	}
	return n
}

// What JSON takes for the condition on permission sets, and for the longest statement
// beside that of the named roles, with some to spare: a test adds it up.
const (
	setCondition    = 80
	secondStatement = 800
)

// MaxBreakGlass is how many roles may be named for an emergency, and MaxBreakGlassText the
// number of characters that their ARNs have together.
const (
	MaxBreakGlass     = 3
	MaxBreakGlassText = 420
)

// MaxTenants and MaxTenantText keep a key policy within the 32 KB that KMS takes,
// with everything else at its own maximum. MaxTenantText is the number of
// characters of all tenants' names, namespaces and service accounts together.
// Source: AWS KMS API Reference, PutKeyPolicy.
const (
	MaxTenants    = 20
	MaxTenantText = 2400
)

// TenantUse lets the role of each tenant's plugin describe the key, and generate
// and unwrap data keys under [TenantContext]: neither another tenant's plugin nor that of
// the cluster can decrypt what it has encrypted, nor it theirs. The sessions must
// carry the tags of their pods, as for [PluginUse].
//
// One statement lets all of them describe the key, since a key policy has no room
// for one each: it takes any pair of the tenants' namespaces and service accounts
// for any of their roles.
func TenantUse(tenants []Tenant) []iampolicy.Statement {
	describe := iampolicy.Statement{
		Sid:      SidTenantDescribe,
		Effect:   iampolicy.Allow,
		Action:   iampolicy.Values{"kms:DescribeKey"},
		Resource: onKey(),
	}
	tags := map[string]iampolicy.Values{}
	statements := []iampolicy.Statement{{}}
	for _, t := range tenants {
		describe.Principal.AWS = append(describe.Principal.AWS, t.RoleARN)
		for tag, value := range t.Session.tags("aws:PrincipalTag/") {
			if !slices.Contains(tags[tag], value[0]) {
				tags[tag] = append(tags[tag], value[0])
			}
		}
		use := iampolicy.Statement{
			Sid:       SidTenantUse,
			Effect:    iampolicy.Allow,
			Principal: iampolicy.Principal{AWS: iampolicy.Values{t.RoleARN}},
			Action:    pluginActions(),
			Resource:  onKey(),
			Condition: iampolicy.Condition{"StringEquals": t.Session.tags("aws:PrincipalTag/")},
		}
		TenantContext(t.Session.ClusterARN, t.Name).require(use.Condition)
		if n := len(statements); n > 1 {
			use.Sid += strconv.Itoa(n)
		}
		statements = append(statements, use)
	}
	describe.Condition = iampolicy.Condition{"StringEquals": tags}
	statements[0] = describe
	return bySet(statements...)
}

// PluginTrust lets EKS Pod Identity assume the plugin's role for one service
// account of one cluster, whose ARN names the account too. Source: Amazon EKS
// User Guide, "Create IAM role with trust policy required by EKS Pod Identity".
func PluginTrust(session PodSession) iampolicy.Statement {
	return iampolicy.Statement{
		Sid:       "PodIdentity",
		Effect:    iampolicy.Allow,
		Principal: iampolicy.Principal{Service: iampolicy.Values{"pods.eks.amazonaws.com"}},
		Action:    iampolicy.Values{"sts:AssumeRole", "sts:TagSession"},
		Condition: iampolicy.Condition{"StringEquals": session.tags("aws:RequestTag/")},
	}
}

// ClusterTrust lets EKS assume the cluster role for one cluster only. Source:
// Amazon EKS User Guide, "Cross-service confused deputy prevention in Amazon
// EKS". Auto Mode also tags its sessions ("Amazon EKS Auto Mode cluster IAM
// role").
func ClusterTrust(account, clusterARN string, autoMode bool) iampolicy.Statement {
	actions := iampolicy.Values{"sts:AssumeRole"}
	if autoMode {
		actions = append(actions, "sts:TagSession")
	}
	return iampolicy.Statement{
		Sid:       "ThisCluster",
		Effect:    iampolicy.Allow,
		Principal: iampolicy.Principal{Service: iampolicy.Values{"eks.amazonaws.com"}},
		Action:    actions,
		Condition: iampolicy.Condition{
			"ArnEquals":    {"aws:SourceArn": {clusterARN}},
			"StringEquals": {"aws:SourceAccount": {account}},
		},
	}
}
