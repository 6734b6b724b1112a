package guard

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/finding"
)

// rules are all that a change can do. Their IDs are a public contract: --accept
// names them.
var rules = []finding.Rule{
	{
		ID: "cluster-replaced", Title: "The cluster is replaced", Severity: finding.Critical,
		Why: "CloudFormation makes another cluster and then deletes this one, with its etcd and all that runs on it. If the cluster has a name, the update fails before, because the name is taken.",
		Fix: "Leave the property as it is, or make a second cluster and move to it.",
	},
	{
		ID: "cluster-deleted", Title: "The cluster is no longer in the template", Severity: finding.Critical,
		Why: "Unless its DeletionPolicy retains it or deletion protection stops it, CloudFormation deletes the cluster, with its etcd and all that runs on it. A changed logical ID is the same: another cluster is made first.",
		Fix: "Keep the resource under its logical ID. To move it, use CloudFormation's stack refactoring or import.",
	},
	{
		ID: "cluster-moved", Title: "The stack of the cluster is for another account or Region", Severity: finding.Critical,
		Why: "A stack can't move. Deployed in the other place, it makes another cluster under another key; the running cluster stays where it is, with its key and its data, and nothing here describes it any more.",
		Fix: "Give the new cluster a name of its own beside this one, move what runs on it, and then take this one out.",
	},
	{
		ID: "record-moved", Title: "The trail and the alarms go to another stack", Severity: finding.Medium,
		Why: "Deployed in the wrong order, there is a time without a record, or without alarms. Subscriptions by e-mail must be confirmed again, and the old logs stay behind outside any stack.",
		Fix: "Deploy in the order of docs/howto/one-to-several.md: the stack with the new record first, this one then.",
	},
	{
		ID: "key-replaced", Title: "The key can't be updated", Severity: finding.Critical,
		Why: "KeySpec, KeyUsage, Origin and MultiRegion of a key can't be changed: KMS refuses, and the stack's update fails and rolls back.",
		Fix: "Leave the property as it is. A cluster can't change its key either.",
	},
	{
		ID: "key-deleted", Title: "The key is no longer in the template", Severity: finding.Critical,
		Why: "Unless its DeletionPolicy retains it, CloudFormation schedules the key for deletion. While it is pending, the API server can't decrypt what it has not cached; afterwards whatever is under the key is lost forever.",
		Fix: "Keep the resource under its logical ID. If the deletion was scheduled already: 'aws kms cancel-key-deletion', then 'aws kms enable-key'.",
	},
	{
		ID: "alias-moved", Title: "An alias leads to another key, or has another name", Severity: finding.High,
		Why: "Any principal that encrypts through the alias uses another key from then on, with another policy and without the alarms, or finds none. What is encrypted names its key and stays readable.",
		Fix: "Leave TargetKeyId and AliasName as they are.",
	},
	{
		ID: "encryption-config-changed", Title: "EncryptionConfig changes", Severity: finding.Critical,
		Why: "EKS can't change the key of a cluster or switch encryption off. CloudFormation therefore replaces a cluster whose EncryptionConfig changes: the running one is deleted.",
		Fix: "Leave EncryptionConfig as it is. To encrypt a running cluster that has none, run 'aws eks associate-encryption-config', and import the result.",
	},
	{
		ID: "version-skipped", Title: "The Kubernetes version skips a minor version", Severity: finding.Medium,
		Why: "EKS takes a control plane forward or back by one minor version at a time and refuses more: the stack's update fails and rolls back.",
		Fix: "Deploy each minor version in between, with its nodes and add-ons.",
	},
	{
		ID: "nodes-version-refused", Title: "Nodes are newer than the control plane, or too old for it", Severity: finding.Medium,
		Why: "Kubernetes supports no kubelet that is newer than its API server, or more than three minor versions older: EKS refuses the node group or the upgrade, or the nodes drop out.",
		Fix: "Take the control plane forward before the nodes, the nodes along within three minor versions (a group without a kubernetesVersion of its own follows by itself), and the nodes back before the control plane.",
	},
	{
		ID: "add-on-version-refused", Title: "An add-on does not go with the control plane, or skips a version", Severity: finding.Medium,
		Why: "EKS takes the VPC CNI forward or back by one minor version at a time. Kubernetes supports no kube-proxy that is newer than its API server, or more than three minor versions older. EKS refuses the update, and the stack rolls back.",
		Fix: "Deploy each minor version of the VPC CNI in between; take kube-proxy forward after the control plane, and back before it.",
	},
	{
		ID: "principal-dropped", Title: "A principal loses what it may do with the key", Severity: finding.High,
		Why: "Any principal that still uses the key is refused from the moment of the update. For EKS and a plugin that means secrets that can't be read, for an administrator a key that can't be recovered.",
		Fix: "Keep the statement as long as the principal is in use, and what was encrypted under its encryption context is needed.",
	},
	{
		ID: "policy-widened", Title: "The key may be used in more ways", Severity: finding.High,
		Why: "Requests are allowed after the change that were denied before. Nothing in the cluster shows it.",
		Fix: "Narrow the statement to the principals, the actions and the encryption context that are needed.",
	},
	{
		ID: "rotation-weakened", Title: "The key rotates less, or no more", Severity: finding.High,
		Why: "The running cluster goes on under the old key material. What has rotated stays readable.",
		Fix: "Leave EnableKeyRotation true and RotationPeriodInDays as it was.",
	},
	{
		ID: "retention-weakened", Title: "Something is kept for less time, or not at all", Severity: finding.High,
		Why: "Logs older than the new period are deleted at once and can't be brought back. Without Retain, deleting the stack deletes the resource; without deletion protection, one call deletes the cluster.",
		Fix: "Leave the period, the policy or the protection as it was.",
	},
	{
		ID: "trail-weakened", Title: "The trail records less", Severity: finding.High,
		Why: "Uses and changes of the key go unrecorded, or their record can be changed unseen. What was not recorded can't be had afterwards, and alarms that rest on the trail fall silent.",
		Fix: "Leave the trail as it was.",
	},
	{
		ID: "control-plane-log-weakened", Title: "The control plane logs less", Severity: finding.Medium,
		Why: "The audit log is the only record of who read which secret through the API.",
		Fix: "Leave the types in EnabledTypes.",
	},
	{
		ID: "alarm-removed", Title: "An alarm goes, or hears less", Severity: finding.Medium,
		Why: "Nobody is told any more when the key or the trail is tampered with.",
		Fix: "Leave the rule, its pattern, its target and the subscriptions.",
	},
	{
		ID: "endpoint-opened", Title: "More of the internet reaches the API server", Severity: finding.Medium,
		Why: "EKS changes the endpoint of the running cluster within minutes. From then on, stolen credentials can be used from there.",
		Fix: "Leave EndpointPublicAccess false, or the list of networks as it was.",
	},
	{
		ID: "access-widened", Title: "More principals get at the secrets, past the key", Severity: finding.High,
		Why: "An access entry, an identity provider, a role's trust, a binding or a weaker admission policy opens the Kubernetes API, which decrypts for any principal that may read. The key has no part in it.",
		Fix: "If the principal must have it, accept this with the reason. If not, leave the entry, the role, the binding or the policy as it was.",
	},
	{
		ID: "check-suppressed", Title: "A finding of 'ekskms check' is accepted from now on", Severity: finding.Medium,
		Why: "The next faults of that kind at the resource are accepted too.",
		Fix: "Look at the reason. If it is good, accept this with the same one.",
	},
	{
		ID: "check-regressed", Title: "'ekskms check' finds something new", Severity: finding.Medium,
		Why: "The change brings in a fault that the deployed template does not have.",
		Fix: "See what 'ekskms check' says on it.",
	},
	{
		ID: "policy-not-understood", Title: "A policy can't be compared", Severity: finding.High,
		Why: "The policy has something in it that this program does not know, so nothing is said on what the change allows.",
		Fix: "Compare the policy by hand, or write it without that.",
	},
}

// Rules returns all that [Compare] can find.
func Rules() []finding.Rule { return slices.Clone(rules) }

// What breaks a running cluster, its record or its alarms is found under the id of the
// check that finds it.
func init() {
	for _, r := range check.Rules() {
		if covered[r.ID] == r.ID && r.ID != "policy-not-understood" {
			r.Controls = nil
			rules = append(rules, r)
		}
	}
}

// Validate returns an error that names what is wrong with something accepted: an
// ID that no rule has, or no reason.
func Validate(s finding.Suppression) error {
	var ids []string
	for _, r := range rules {
		ids = append(ids, r.ID)
	}
	if !slices.Contains(ids, s.ID) {
		return fmt.Errorf("%q is not found by guard, must be one of %s", s.ID, strings.Join(ids, ", "))
	}
	if strings.TrimSpace(s.Reason) == "" {
		return fmt.Errorf("%s is accepted without a reason", s.ID)
	}
	return nil
}
