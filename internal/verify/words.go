package verify

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/guard"
)

// own are the rules on what no template says.
var own = []finding.Rule{
	{
		ID: "key-pending-deletion", Title: "The key is about to be deleted", Severity: finding.Critical,
		Why: "The API server can't decrypt what it has not cached, and once the key is deleted whatever is under it is lost forever.",
		Fix: "Run 'aws kms cancel-key-deletion' and then 'aws kms enable-key', and find out who scheduled it: CloudTrail has the call.",
	},
	{
		ID: "key-not-usable", Title: "KMS can't use the key", Severity: finding.Critical,
		Why: "Without the key the API server decrypts only what it has cached. EKS may take hours to notice.",
		Fix: "See the key's state in KMS: import its material again, or bring its custom key store back.",
	},
	{
		ID: "cluster-unhealthy", Title: "EKS says that something is wrong with the cluster", Severity: finding.High,
		Why: "EKS has tried what the cluster needs and failed. Of a key or a grant that means secrets that can't be read before long.",
		Fix: "Do what the message says; a disabled key must be enabled within 30 days.",
	},
	{
		ID: "grant-missing", Title: "EKS has no grant on the key", Severity: finding.High,
		Why: "EKS decrypts under a grant that it is given when encryption is switched on. Without it, the API server can't read secrets after its next start.",
		Fix: "Ask AWS Support: no call of EKS makes another. CloudTrail's RevokeGrant and RetireGrant say who took it away.",
	},
	{
		ID: "grant-unexpected", Title: "A grant lets somebody else use the key", Severity: finding.Medium,
		Why: "A grant allows what the key policy does not, and shows up in no template.",
		Fix: "Find out in CloudTrail who made it (CreateGrant). If nobody needs it: 'aws kms revoke-grant'.",
	},
	{
		ID: "trail-undelivered", Title: "CloudTrail can't deliver what the trail records", Severity: finding.High,
		Why: "Uses of the key go unrecorded, or their record can't be validated.",
		Fix: "Correct the policy of the bucket or of the trail's key that the message names.",
	},
	{
		ID: "alarm-unheard", Title: "Nobody hears the alarms of a topic", Severity: finding.Medium,
		Why: "Alarms are sent to a topic without a confirmed subscription: they reach nobody.",
		Fix: "Subscribe somebody, and have the subscription confirmed.",
	},
	{
		ID: "subscription-pending", Title: "A subscription is not confirmed", Severity: finding.Medium,
		Why: "SNS sends nothing to it until its owner has opened the link in the message that SNS has sent, within two days.",
		Fix: "Have it confirmed, or subscribe again where the message is too old.",
	},
	{
		ID: "stack-missing", Title: "A stack is not deployed", Severity: finding.High,
		Why: "What the stack has is wanted and does not run, or runs in another stack, which is not known here.",
		Fix: "Deploy it, or name the account and Region in which it is.",
	},
	{
		ID: "stack-drifted", Title: "CloudFormation found that a stack has drifted", Severity: finding.Low,
		Why: "Somebody has changed what the stack made, past the stack. The next deployment may undo it, or fail.",
		Fix: "Bring the change into the template, or take it back; then detect drift again.",
	},
	{
		ID: "missing", Title: "Something is wanted and does not run", Severity: finding.Low,
		Why: "It was deleted past its stack, or was never deployed.",
		Fix: "Deploy what is wanted, or take it out.",
	},
	{
		ID: "differs", Title: "A setting is another than is wanted", Severity: finding.Low,
		Why: "Somebody has changed it past what is written, and the next deployment changes it back.",
		Fix: "Deploy what is wanted, or write down what runs.",
	},
}

// words are those for what guard finds between what is wanted and what runs.
var words = map[string]finding.Rule{
	"cluster-replaced": {Title: "The cluster has something that can't be changed, and is another than is wanted",
		Why: "To bring the running cluster to what is written, CloudFormation or Terraform would replace it, with its etcd and all that runs on it.",
		Fix: "Write what runs. Never deploy this difference."},
	"cluster-deleted": {Title: "The cluster is not there",
		Why: "It was deleted, or never made, or is somewhere else: nothing was said on it.",
		Fix: "Name the account and Region in which it is, or take it out."},
	"key-replaced": {Title: "The key is another than is wanted",
		Why: "KeySpec, KeyUsage, Origin and MultiRegion of a key can't be changed: it is another key, or it was never as is written.",
		Fix: "Write what runs."},
	"key-deleted": {Title: "The key is not there",
		Why: "Whatever is under a deleted key is lost forever. It may also be another key that is meant.",
		Fix: "Look for it with 'aws kms describe-key'. If its deletion is pending: 'aws kms cancel-key-deletion'."},
	"alias-moved": {Title: "An alias leads to another key than is wanted, or is not there",
		Why: "Any principal that encrypts through the alias uses another key, with another policy and without the alarms.",
		Fix: "Run 'aws kms update-alias' with the right key, and find out in CloudTrail who changed it."},
	"encryption-config-changed": {Title: "The cluster is under another key than is wanted, or under none",
		Why: "EKS can't change the key of a cluster: what is written was never true of it, or it is another cluster. Terraform may show such a change as done (the provider plans an update and calls nothing).",
		Fix: "Write the key that the cluster has. A cluster without one can be brought under a key once, which can't be taken back."},
	"principal-dropped": {Title: "A principal may do less with the key than is wanted",
		Why: "Any principal that needs the key is refused. For EKS and a plugin that means secrets that can't be read, for an administrator a key that can't be recovered.",
		Fix: "Put the key policy back as it is wanted, and find out in CloudTrail who changed it (PutKeyPolicy)."},
	"policy-widened": {Title: "The key may be used in more ways than is wanted",
		Why: "Requests are allowed that what is written denies.",
		Fix: "Put the policy back as it is wanted, and look in CloudTrail for who changed it (PutKeyPolicy) and who used it since."},
	"rotation-weakened": {Title: "The key rotates less than is wanted, or not at all",
		Why: "The cluster goes on under old key material.",
		Fix: "Run 'aws kms enable-key-rotation' with the period that is wanted."},
	"retention-weakened": {Title: "Something is kept for less time than is wanted, or is not protected",
		Why: "Logs older than the period are gone, or one call deletes what should stay.",
		Fix: "Put the period or the protection back."},
	"trail-weakened": {Title: "The trail records less than is wanted",
		Why: "Uses and changes of the key go unrecorded since, or their record can be changed unseen; alarms that rest on the trail are silent.",
		Fix: "Put the trail back as it is wanted, and find out who changed it: the change itself is on record, what came after may not be."},
	"control-plane-log-weakened": {Title: "The control plane logs less than is wanted",
		Why: "The audit log is the only record of who read which secret through the API.",
		Fix: "Switch the types on again with 'aws eks update-cluster-config'."},
	"alarm-removed": {Title: "An alarm is not there, or hears less than is wanted",
		Why: "Nobody is told when the key or the trail is tampered with.",
		Fix: "Put the rule, its pattern, its target and the subscriptions back."},
	"endpoint-opened": {Title: "More of the internet reaches the API server than is wanted",
		Why: "Stolen credentials can be used from there.",
		Fix: "Put the networks back with 'aws eks update-cluster-config'."},
	"access-widened": {Title: "More principals get at the secrets, past the key, than is wanted",
		Why: "An access entry, an identity provider, a role's trust or an association opens the Kubernetes API, which decrypts for any principal that may read. The key has no part in it.",
		Fix: "If the principal must have it, write it down. If not, take it away, and look in the audit log for what it read."},
	"policy-not-understood": {Title: "A policy can't be compared",
		Why: "The policy has something in it that this program does not know, so nothing is said on what it allows beyond what is wanted.",
		Fix: "Compare the policy by hand."},
}

// covers are the properties of which a finding of guard says what differs.
var covers = map[string][]string{
	"cluster-replaced": {"Name", "RoleArn", "ResourcesVpcConfig", "AccessConfig"}, "encryption-config-changed": {"EncryptionConfig"}, "key-replaced": {"KeySpec", "KeyUsage", "Origin", "MultiRegion", "Enabled"},
	"alias-moved": {"AliasName", "TargetKeyId"}, "principal-dropped": {"KeyPolicy", "PolicyDocument"}, "policy-widened": {"KeyPolicy", "PolicyDocument", "AssumeRolePolicyDocument"},
	"policy-not-understood": {"KeyPolicy"}, "rotation-weakened": {"EnableKeyRotation", "RotationPeriodInDays"},
	"retention-weakened":         {"RetentionInDays", "DeletionProtection", "LifecycleConfiguration", "VersioningConfiguration", "ObjectLockEnabled", "ObjectLockConfiguration"},
	"trail-weakened":             {"IsLogging", "EventSelectors", "AdvancedEventSelectors", "EnableLogFileValidation", "KMSKeyId", "KmsKeyId", "IsMultiRegionTrail", "S3BucketName", "KmsMasterKeyId", "PolicyDocument", "PublicAccessBlockConfiguration", "IncludeGlobalServiceEvents"},
	"control-plane-log-weakened": {"Logging"}, "endpoint-opened": {"ResourcesVpcConfig"}, "access-widened": {"KubernetesGroups", "AccessPolicies", "PrincipalArn", "Oidc", "AssumeRolePolicyDocument", "RoleArn", "Tags"},
	"alarm-removed": {"State", "EventPattern", "Targets", "FilterPolicy", "PolicyDocument", "AlarmActions", "ActionsEnabled"},
}

// rules are all that verify finds: its own, guard's in other words, and those of check.
var rules = func() []finding.Rule {
	all := slices.Clone(own)
	for _, r := range guard.Rules() {
		if w, ok := words[r.ID]; ok {
			r.Title, r.Why, r.Fix = w.Title, w.Why, w.Fix
			all = append(all, r)
		}
	}
	for _, r := range check.Rules() {
		same := slices.ContainsFunc(all, func(o finding.Rule) bool { return o.ID == r.ID })
		if !same && !slices.Contains(ofMaking, r.ID) && r.ID != "known-after-apply" {
			all = append(all, r)
		}
	}
	return all
}()

var ruleByID = func() map[string]finding.Rule {
	byID := map[string]finding.Rule{}
	for _, r := range rules {
		byID[r.ID] = r
	}
	return byID
}()

// Rules returns all that [Run] can find.
func Rules() []finding.Rule { return slices.Clone(rules) }

// Own returns the rules that no other command has, and those of guard in the words of verify.
func Own() (all []finding.Rule) {
	for _, r := range rules {
		if _, ofGuard := words[r.ID]; ofGuard || slices.ContainsFunc(own, func(o finding.Rule) bool { return o.ID == r.ID }) {
			all = append(all, r)
		}
	}
	return all
}

// Validate returns an error that names what is wrong with a suppression.
func Validate(s finding.Suppression) error {
	if _, ok := ruleByID[s.ID]; !ok && check.Validate(s) != nil {
		return fmt.Errorf("%q is not found by verify: docs/reference/verify.md lists what is", s.ID)
	}
	if strings.TrimSpace(s.Reason) == "" {
		return fmt.Errorf("%s is accepted without a reason", s.ID)
	}
	return nil
}

// wordsOfAccount are those for what was read, which is called a template elsewhere.
var wordsOfAccount = strings.NewReplacer(
	"which is in no template", "which was not read", "which is not in the templates", "which was not read", "which is not in the template", "which was not read", "is not in the templates", "was not read", "in the templates", "in what was read", "in the template", "in what was read",
	"in these templates", "in what was read", "no trail of the templates", "no trail", "the templates have no AWS::CloudTrail::Trail", "there is no trail", "the template relies", "the account relies",
)

var (
	changesFrom = regexp.MustCompile(`^(.* )?(\S+) changes from (.*) to (.*?)((?:: | and |, ).*)?$`)
	changesTo   = regexp.MustCompile(`\bchanges to\b`)
)

// wordsOfDrift are those for a difference, which is called a change elsewhere.
var wordsOfDrift = strings.NewReplacer(
	", it was every ", ", and should every ", ", it was ", ", and should be ", "may no longer do", "may not do", "can no longer", "can't", ", it went to ", ", and should go to ", " is taken away", " is not there",
	" the rule goes: it is", " the rule is", "goes: it is not", "is not", "that there was", "that is wanted", ", and was kept without end before", ", and should be kept without end", ", they did not", ", and should not",
)

// ofDrift says of a difference what is said of a change elsewhere.
func ofDrift(message string) string {
	message = wordsOfAccount.Replace(message)
	if m := changesFrom.FindStringSubmatch(message); m != nil {
		return m[1] + m[2] + " is " + m[4] + ", and " + m[3] + " is wanted"
	}
	return changesTo.ReplaceAllString(wordsOfDrift.Replace(message), "is")
}
