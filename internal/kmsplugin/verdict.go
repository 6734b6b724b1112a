package kmsplugin

import (
	"strings"
	"time"
)

// verdict says what is known of a watched cluster's key, in words that may be
// shown to any principal that may read the plugin's Deployment.
type verdict struct {
	usable  usable
	reason  string // CamelCase and stable: people and programs select by it
	what    string // what it means for the cluster
	wayBack string // what to do; "" where nothing is to be done
}

// usable is the status of a Kubernetes condition.
type usable string

const (
	usableTrue    usable = "True"
	usableFalse   usable = "False" // KMS refuses it, or EKS's grant is missing
	usableUnknown usable = "Unknown"
)

// rank orders by how bad it is.
func (u usable) rank() int {
	switch u {
	case usableTrue:
		return 0
	case usableFalse:
		return 2
	}
	return 1
}

// danger is for the cluster. What nobody can tell is none: the plugin may be the
// only one that does not reach KMS, and alerts of its own say so.
func (v verdict) danger() bool { return v.usable == usableFalse }

func (v verdict) message() string {
	if v.wayBack == "" {
		return v.what + "."
	}
	return v.what + ". The way back: " + v.wayBack + "."
}

const (
	reasonUsable       = "KeyUsable"
	reasonGrantMissing = "EKSGrantMissing"
	reasonGrantAbsent  = "EKSGrantNotFound"
	reasonGrantChanged = "EKSGrantChanged"
	reasonStarting     = "Starting"
	reasonRotating     = "Rotating"
)

// unknownAfter is how many polls may pass without a good probe before the
// verdict is Unknown: a blink of the network is no news.
const unknownAfter = 3

// sentences are the words of a verdict. In them, {cluster} is the cluster's
// name, {region} its Region and the key's, {key} the key's ARN, {until} when the key will be
// deleted, and {advice} what the failure says.
type sentences struct{ reason, what, wayBack string }

// What AWS says about a cluster without its key is in the EKS user guide, under
// "Default envelope encryption for all Kubernetes API data" and "Cluster health
// FAQs and error codes". That an API server runs on with the data keys that it
// has in memory is said there of a disabled key. For the other states it is
// inferred.
const runsOn = "its API server runs on with the data keys in its memory, and can't start again"

// refusalSentences are for KMS's word on the key.
var refusalSentences = map[string]sentences{
	classDisabled: {"KeyDisabled",
		"EKS can't use the KMS key of cluster {cluster}, which is disabled: " + runsOn,
		"aws kms enable-key --key-id {key} --region {region}, within 30 days of when it was disabled (after that, AWS does not promise that the cluster recovers)"},
	classPendingDeletion: {"KeyPendingDeletion",
		"the KMS key of cluster {cluster} will be deleted {until}: until then " + runsOn + ", and after that AWS documents no way to recover it",
		"before that, aws kms cancel-key-deletion --key-id {key} --region {region}, then aws kms enable-key --key-id {key} --region {region}"},
	classInvalidState: {"KeyStateInvalid",
		"EKS can't use the KMS key of cluster {cluster} in the state that it is in: " + runsOn,
		"see the key's state with aws kms describe-key --key-id {key} --region {region}; one that is pending import needs the same key material imported again"},
	classNotFound: {"KeyNotFound",
		"AWS KMS does not know the key of cluster {cluster}: if it was deleted, its API server can't start again and what the key encrypted is lost",
		"AWS documents none for a deleted key (KMS_KEY_NOT_FOUND: delete and recreate the cluster), so back up all objects while the API server still answers; if it was not deleted, check account, Region and ID of {key}"},
	classPermissionDenied: {"AccessDenied",
		"the plugin may no longer use the KMS key of cluster {cluster}: the change may have shut EKS out too, and the plugin can't see it",
		"deploy the stack again, or let the policy of {key} allow the plugin's role kms:DescribeKey, and kms:GenerateDataKey and kms:Decrypt under its encryption context (kms-plugin doctor prints the statement that is missing)"},
	classWrongKeyType: {"KeyTypeInvalid",
		"the KMS key that the plugin watches for cluster {cluster} is not one that EKS can encrypt with",
		"see which key the cluster has with aws eks describe-cluster --name {cluster} --region {region} --query cluster.encryptionConfig, and give the plugin that one"},
	classWrongKey: {"WrongKey",
		"what answers the plugin as AWS KMS describes another key than the one of cluster {cluster}: nothing that it says about the key can be trusted",
		"see who answers: the plugin's endpoint settings, DNS, proxies and the VPC endpoint for kms (kms-plugin doctor shows the endpoint)"},
	classCorrupt: {"Corrupt",
		"what answers the plugin as AWS KMS does not decrypt what it encrypted under the key of cluster {cluster}: nothing that it says about the key can be trusted",
		"see who answers: the plugin's endpoint settings, DNS, proxies and the VPC endpoint for kms (kms-plugin doctor shows the endpoint)"},
}

// outageReasons are for failures that are no word on the key, and for what the
// plugin has not seen yet.
var outageReasons = map[string]string{
	classUnreachable: "Unreachable", classTimeout: "Timeout", classKMSFault: "KMSFault", classKeyStore: "KeyStoreUnavailable",
	classThrottled: "Throttled", classNoCredentials: "NoCredentials", classExpiredCredentials: "ExpiredCredentials",
	classBadCredentials: "BadCredentials", classClockSkew: "ClockSkew", classRefused: "Refused",
	classStarting: reasonStarting, classRotating: reasonRotating,
}

const seeCluster = "aws eks describe-cluster --name {cluster} --region {region} --query 'cluster.[encryptionConfig,health]'"

var (
	outageSentences = sentences{"", // the reason is the failure's
		"for too long the plugin had no good look at the KMS key of cluster {cluster} and it can't vouch for the key any more: whether EKS can use it is not known", "{advice}"}
	unknownSentences = sentences{"", "whether the KMS key of cluster {cluster} can be used is not known at the moment", "{advice}"}
	grantSentences   = sentences{reasonGrantMissing,
		"EKS has lost its grant on the KMS key of cluster {cluster}: " + runsOn + " without it",
		"AWS documents none (KMS_GRANT_REVOKED: delete and recreate the cluster), so back up all objects while the API server still answers; " +
			"then see aws eks describe-cluster --name {cluster} --region {region} --query cluster.health, ask AWS Support, and look for RevokeGrant and RetireGrant in CloudTrail"}
	// What was never seen is not held against a key: it may be another cluster's.
	grantAbsentSentences = sentences{reasonGrantAbsent,
		"no grant of EKS is found on the KMS key of cluster {cluster}: either it is not the cluster's key, or EKS has lost it",
		seeCluster + " shows the cluster's key and its health: give the plugin that key, or, if it is this one, back up all objects while the API server still answers and ask AWS Support"}
	grantChangedSentences = sentences{reasonGrantChanged,
		"the grant that EKS had on the KMS key of cluster {cluster} is gone, and another one of EKS is there: whether that one is for this cluster is not known",
		seeCluster + " shows the cluster's key and its health; look for CreateGrant, RevokeGrant and RetireGrant in CloudTrail"}
	neverAllowedSentences = sentences{"", // the reason and the way back are the refusal's
		"the plugin may not use the KMS key of cluster {cluster}, and could not since it was started: whether EKS can use it is not known", ""}
	usableSentences = sentences{reasonUsable, "the KMS key of cluster {cluster} can be used", ""}
)

// reasonOf is the reason that goes with a failure, of whatever kind.
func reasonOf(class string) string {
	if s, ok := refusalSentences[class]; ok {
		return s.reason
	}
	return outageReasons[class]
}

// wordsOfGrant is what the state of the grant means by itself. named says that the
// grant was seen under its usual name: without that, this may be another
// cluster's key.
func wordsOfGrant(g grantState, named bool) (usable, sentences) {
	switch {
	case g == grantMissing && named:
		return usableFalse, grantSentences
	case g == grantMissing:
		return usableUnknown, grantAbsentSentences
	case g == grantUnrecognized && named:
		return usableUnknown, grantChangedSentences
	}
	return usableTrue, usableSentences
}

// lost tells whether a state of the grant is no good one.
func lost(g grantState, named bool) bool {
	u, _ := wordsOfGrant(g, named)
	return u != usableTrue
}

// neverAllowed are the refusals that a deployment begins with where its key or its
// rights are set up wrongly. Of a key that was never good they are no danger:
// nobody has changed anything.
func (s *snapshot) neverAllowed() bool {
	class := s.reason().class
	return s.lastGood.IsZero() && (class == classPermissionDenied || class == classWrongKey || class == classWrongKeyType)
}

// judge sums up what the probe and the looks at EKS's grant have shown.
//
//   - KMS refused the key in two probes, or EKS's grant was there and is missing:
//     False, and the cluster is in danger.
//   - The plugin never was allowed to use the key, did not see it to be good for
//     unknownAfter polls, or finds no grant or another one: Unknown, in other
//     words once the plugin does not vouch for the key any more.
//   - Else True. That kms:ListGrants is refused counts for nothing: the owner of
//     a key need not allow it.
func (c cluster) judge(k *cmk, grant grantState, named bool, now time.Time) verdict {
	s := k.state.Load()
	after := s.condition(now, k.vouchFor)
	ofGrant, words := wordsOfGrant(grant, named)
	v := verdict{usable: ofGrant}
	switch {
	case after == conditionFailed && s.sure && !s.neverAllowed():
		v.usable, words = usableFalse, refusalSentences[s.reason().class]
	case ofGrant == usableFalse:
	case after == conditionFailed && s.sure:
		v.usable, words = usableUnknown, neverAllowedSentences
		words.wayBack = refusalSentences[s.reason().class].wayBack
	case after == conditionFailed && !s.lastGood.IsZero():
		v.usable, words = usableUnknown, outageSentences
	case !after.vouched(), now.Sub(s.lastGood) > unknownAfter*k.poll:
		v.usable, words = usableUnknown, unknownSentences
	}
	keyARN, until, advice := k.id, "", ""
	if s.arn != "" {
		keyARN = s.arn
	}
	if v.usable != usableTrue {
		f := s.reason()
		until, advice = f.when(), f.text
		v.reason = reasonOf(f.class)
	}
	if words.reason != "" {
		v.reason = words.reason
	}
	more := []string{"{key}", keyARN, "{until}", until, "{advice}", advice}
	v.what, v.wayBack = c.fill(words.what, more...), c.fill(words.wayBack, more...)
	return v
}

// fill puts what it names into the place of {cluster}, {region} and more.
func (c cluster) fill(text string, more ...string) string {
	return strings.NewReplacer(append([]string{"{cluster}", c.name, "{region}", c.region}, more...)...).Replace(text)
}
