package iampolicy

import (
	"slices"
	"strings"
)

// Class is what an action is about.
type Class string

// The classes of AWS KMS actions.
const (
	// Cryptographic actions use the key, or take part in its use.
	Cryptographic Class = "cryptographic"
	// Grants actions hand the use of the key on, or take it back.
	Grants Class = "grants"
	// Administration changes the key, its policy, its aliases or its tags.
	Administration Class = "administration"
	// Read shows what the key is, and who may use it.
	Read Class = "read"
)

// KMSAction is an action that a key policy can allow.
type KMSAction struct {
	// Name with the prefix, such as kms:Decrypt.
	Name  string
	Class Class
	// CrossAccount tells that AWS KMS takes the action from other accounts. If it
	// does not, a statement that allows it to another account has no effect.
	CrossAccount bool
	// Keys are the condition keys that requests of some actions have and of others
	// have not. One that ends in a colon stands for all that begin with it. Keys
	// that every action carries, such as kms:ViaService, are not listed.
	Keys []string
}

const encryptionContext = "kms:EncryptionContext:"

var (
	keysOfContext   = []string{encryptionContext, "kms:EncryptionContextKeys"}
	keysOfSymmetric = append([]string{"kms:EncryptionAlgorithm", "kms:RequestAlias"}, keysOfContext...)
	keysOfEnclave   = []string{"kms:RecipientAttestation:"}
)

// KMSActions are all actions of AWS KMS on a key, in the order of their names.
// Those that IAM policies alone decide, such as kms:CreateKey and kms:ListKeys,
// are not among them. The use of an alias needs a permission on the alias too,
// which is not looked at here.
//
// Sources: Service Authorization Reference, "Actions, resources, and condition
// keys for AWS Key Management Service"; AWS KMS Developer Guide, "AWS KMS
// permissions" (cross-account use) and "AWS KMS condition keys".
var KMSActions = []KMSAction{
	{Name: "kms:CancelKeyDeletion", Class: Administration},
	{Name: "kms:CreateAlias", Class: Administration},
	{Name: "kms:CreateGrant", Class: Grants, CrossAccount: true, Keys: slices.Concat(keysOfContext, []string{
		"kms:GrantConstraintSourceArn", "kms:GrantConstraintType", "kms:GrantIsForAWSResource", "kms:GrantOperations",
		"kms:GranteePrincipal", "kms:GranteeServicePrincipal", "kms:RetiringPrincipal", "kms:RetiringServicePrincipal",
	})},
	{Name: "kms:Decrypt", Class: Cryptographic, CrossAccount: true, Keys: slices.Concat(keysOfSymmetric, keysOfEnclave)},
	{Name: "kms:DeleteAlias", Class: Administration},
	{Name: "kms:DeleteImportedKeyMaterial", Class: Administration},
	{Name: "kms:DeriveSharedSecret", Class: Cryptographic, CrossAccount: true, Keys: append([]string{"kms:KeyAgreementAlgorithm", "kms:RequestAlias"}, keysOfEnclave...)},
	{Name: "kms:DescribeKey", Class: Read, CrossAccount: true, Keys: []string{"kms:RequestAlias"}},
	{Name: "kms:DisableKey", Class: Administration, Keys: []string{"kms:TrailingDaysWithoutKeyUsage"}},
	{Name: "kms:DisableKeyRotation", Class: Administration},
	{Name: "kms:EnableKey", Class: Administration},
	{Name: "kms:EnableKeyRotation", Class: Administration, Keys: []string{"kms:RotationPeriodInDays"}},
	{Name: "kms:Encrypt", Class: Cryptographic, CrossAccount: true, Keys: keysOfSymmetric},
	{Name: "kms:GenerateDataKey", Class: Cryptographic, CrossAccount: true, Keys: slices.Concat(keysOfSymmetric, keysOfEnclave)},
	{Name: "kms:GenerateDataKeyPair", Class: Cryptographic, CrossAccount: true, Keys: slices.Concat(keysOfSymmetric, keysOfEnclave, []string{"kms:DataKeyPairSpec"})},
	{Name: "kms:GenerateDataKeyPairWithoutPlaintext", Class: Cryptographic, CrossAccount: true, Keys: append([]string{"kms:DataKeyPairSpec"}, keysOfSymmetric...)},
	{Name: "kms:GenerateDataKeyWithoutPlaintext", Class: Cryptographic, CrossAccount: true, Keys: keysOfSymmetric},
	{Name: "kms:GenerateMac", Class: Cryptographic, CrossAccount: true, Keys: []string{"kms:MacAlgorithm", "kms:RequestAlias"}},
	{Name: "kms:GetKeyLastUsage", Class: Read},
	{Name: "kms:GetKeyPolicy", Class: Read},
	{Name: "kms:GetKeyRotationStatus", Class: Read, CrossAccount: true},
	{Name: "kms:GetParametersForImport", Class: Read, Keys: []string{"kms:WrappingAlgorithm", "kms:WrappingKeySpec"}},
	{Name: "kms:GetPublicKey", Class: Read, CrossAccount: true, Keys: []string{"kms:RequestAlias"}},
	{Name: "kms:ImportKeyMaterial", Class: Administration, Keys: []string{"kms:ExpirationModel", "kms:ValidTo"}},
	{Name: "kms:ListGrants", Class: Read, CrossAccount: true, Keys: []string{"kms:GrantIsForAWSResource"}},
	{Name: "kms:ListKeyPolicies", Class: Read},
	{Name: "kms:ListKeyRotations", Class: Read},
	{Name: "kms:ListResourceTags", Class: Read},
	{Name: "kms:PutKeyPolicy", Class: Administration, Keys: []string{"kms:BypassPolicyLockoutSafetyCheck"}},
	{Name: "kms:ReEncryptFrom", Class: Cryptographic, CrossAccount: true, Keys: append([]string{"kms:ReEncryptOnSameKey"}, keysOfSymmetric...)},
	{Name: "kms:ReEncryptTo", Class: Cryptographic, CrossAccount: true, Keys: append([]string{"kms:ReEncryptOnSameKey"}, keysOfSymmetric...)},
	{Name: "kms:ReplicateKey", Class: Administration, Keys: []string{"kms:ReplicaRegion"}},
	{Name: "kms:RetireGrant", Class: Grants, CrossAccount: true, Keys: append([]string{"kms:GrantConstraintType"}, keysOfContext...)},
	{Name: "kms:RevokeGrant", Class: Grants, CrossAccount: true, Keys: []string{"kms:GrantIsForAWSResource"}},
	{Name: "kms:RotateKeyOnDemand", Class: Administration},
	{Name: "kms:ScheduleKeyDeletion", Class: Administration, Keys: []string{"kms:ScheduleKeyDeletionPendingWindowInDays", "kms:TrailingDaysWithoutKeyUsage"}},
	{Name: "kms:Sign", Class: Cryptographic, CrossAccount: true, Keys: []string{"kms:MessageType", "kms:RequestAlias", "kms:SigningAlgorithm"}},
	{Name: "kms:SynchronizeMultiRegionKey", Class: Administration},
	{Name: "kms:TagResource", Class: Administration},
	{Name: "kms:UntagResource", Class: Administration},
	{Name: "kms:UpdateAlias", Class: Administration},
	{Name: "kms:UpdateKeyDescription", Class: Administration},
	{Name: "kms:UpdatePrimaryRegion", Class: Administration, Keys: []string{"kms:PrimaryRegion"}},
	{Name: "kms:Verify", Class: Cryptographic, CrossAccount: true, Keys: []string{"kms:MessageType", "kms:RequestAlias", "kms:SigningAlgorithm"}},
	{Name: "kms:VerifyMac", Class: Cryptographic, CrossAccount: true, Keys: []string{"kms:MacAlgorithm", "kms:RequestAlias"}},
}

// MatchAction tells whether the pattern of an Action element, such as kms:*, names
// the action. Neither case matters.
func MatchAction(pattern, action string) bool {
	if pattern == action || pattern == "*" {
		return true
	}
	if !strings.ContainsAny(pattern, "*?") {
		return strings.EqualFold(pattern, action)
	}
	return plain(strings.ToLower(pattern)).matches(strings.ToLower(action))
}

// ExpandActions returns the actions on a key that a statement is about, in the
// order of KMSActions.
func (s Statement) ExpandActions() []KMSAction {
	var named []KMSAction
	for _, a := range KMSActions {
		if s.CoversAction(a.Name) {
			named = append(named, a)
		}
	}
	return named
}

// CoversAction tells whether the Action or NotAction element is about an action.
func (s Statement) CoversAction(action string) bool {
	names := func(pattern string) bool { return MatchAction(pattern, action) }
	if s.NotAction != nil {
		return !slices.ContainsFunc(s.NotAction, names)
	}
	return slices.ContainsFunc(s.Action, names)
}

// kmsAction finds an action on a key by its name, in any case.
func kmsAction(name string) (KMSAction, bool) {
	i := slices.IndexFunc(KMSActions, func(a KMSAction) bool { return strings.EqualFold(a.Name, name) })
	if i < 0 {
		return KMSAction{}, false
	}
	return KMSActions[i], true
}

// sometimes are the condition keys that requests of some actions carry and of
// others do not, in small letters.
var sometimes = func() map[string]bool {
	all := map[string]bool{}
	for _, a := range KMSActions {
		for _, key := range a.Keys {
			all[strings.ToLower(key)] = true
		}
	}
	return all
}()

// kindOf is the entry of KMSAction.Keys that a condition key in small letters
// belongs to.
func kindOf(key string) string {
	for _, prefix := range []string{encryptionContext, keysOfEnclave[0]} {
		if strings.HasPrefix(key, strings.ToLower(prefix)) {
			return strings.ToLower(prefix)
		}
	}
	return key
}

// Carries tells whether a request of the action can have the condition key. It is
// true for every key that it does not know to belong to other actions only.
func (a KMSAction) Carries(key string) bool {
	key = kindOf(strings.ToLower(key))
	return !sometimes[key] || slices.ContainsFunc(a.Keys, func(k string) bool { return strings.EqualFold(k, key) })
}
