package check

import (
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/calls"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/place"
)

// refused reports calls that all of some policies refuse, once for each reason. Of policies
// that could allow a call by what is not known, only what one of them denies is refused: also
// where one of the things by, to or about which the calls are has a name that is not known.
func (c *checker) refused(things []*estate.Thing, rule string, on *estate.Thing, policies []*estate.Policy, all []calls.Call, identity ...iampolicy.NamedDocument) {
	told := map[string]bool{}
	named := slices.IndexFunc(things, func(t *estate.Thing) bool { return t != nil && unknown(t.Name()) })
	if named >= 0 {
		c.noteAt(on.Resource, "the name of %s is %s, which is not in the template: what a policy allows to a name was not judged", things[named].Resource, show(things[named].Name()))
	}
	for _, call := range all {
		var first calls.Answer
		refused := true
		for i, policy := range policies {
			answer, err := call.Ask(iampolicy.Policies{Resource: policy.NamedDocument, Identity: identity, Organization: c.organization})
			if err != nil {
				c.noteAt(on.Resource, "whether it is refused that %s was not judged: %v", call.What, err)
			}
			refused = refused && err == nil && answer.Refused && (answer.Why != noReason || named < 0 && !policy.MayAllow(call.Action, true))
			if i == 0 || answer.Why != noReason {
				first = answer
			}
		}
		if refused && !told[first.Why] {
			told[first.Why] = true
			c.find(rule, on, "refused: %s; %s", call.What, first.Why)
		}
	}
}

// noReason is why a call is refused that no statement is about.
const noReason = "nothing allows it"

// known are those of some policies of which something is known, and notes say what is not.
func (c *checker) known(policies ...*estate.Policy) (all []*estate.Policy) {
	for _, p := range policies {
		switch {
		case p.Broken != nil:
			c.noteAt(p.On.Resource, "%s was not judged in full: %v", p.Name, p.Broken)
		case p.Resolved == nil:
			c.open(p.On, "%s is %s, which is not in the template: it was not judged", p.Name, p.Unknown())
		case len(p.Missing) > 0:
			c.noteAt(p.On.Resource, "%s has %s, which is not in the template: what it may allow by that was not judged", p.Name, p.Unknown())
		}
		if p.Resolved == nil {
			return nil // it may allow everything
		}
		all = append(all, p)
	}
	return all
}

func placeOf(t *estate.Stack) place.Place { return place.In(t.Account, t.Region) }

// checkLockedOut asks the calls that a running cluster needs. That the cluster's role has
// no Allow is another rule's: here a Deny counts.
func (kp *keyPolicy) checkLockedOut() {
	for _, cl := range kp.key.Clusters {
		at := calls.Cluster{Name: text(at(cl.Settings, "Name")), KeyARN: kp.key.ARN, EKSService: kp.c.eksEndpoint(cl.In)}
		if role := text(cl.Settings["RoleArn"]); place.IsRole(role) {
			at.RoleARN = role
		}
		all := slices.DeleteFunc(calls.OfCluster(at), func(call calls.Call) bool {
			answer, err := call.Ask(iampolicy.Policies{Resource: kp.policy.NamedDocument, Identity: estate.Everything()})
			return err == nil && answer.Why == noReason
		})
		kp.c.refused(nil, "cluster-locked-out", kp.key.Thing, []*estate.Policy{kp.policy}, all, estate.Everything()...)
	}
}

// bypassed tells that KMS is not to look whether the caller could put the next policy.
func (kp *keyPolicy) bypassed() bool {
	return isTrue(kp.key.Settings["BypassPolicyLockoutSafetyCheck"], false)
}

// checkCreation asks whether those who create the key could write its next policy: KMS
// refuses a policy by which its caller could not. They are taken to be who creates the
// cluster, and IAM is taken to allow them everything.
//
// Source: AWS KMS API Reference, CreateKey, BypassPolicyLockoutSafetyCheck.
func (kp *keyPolicy) checkCreation(creators []*subject) {
	if kp.bypassed() || kp.policy.MayAllow(actionPut, true) || len(creators) == 0 || !slices.ContainsFunc(kp.key.Clusters, func(cl *estate.Cluster) bool { return cl.In == kp.key.In }) {
		return // who creates the key is not known
	}
	var names []string
	for _, s := range creators {
		able := *s
		able.identity = estate.Everything()
		if kp.possible(kp.explain(&able, actionPut, nil)) {
			return
		}
		names = append(names, s.arn)
	}
	kp.c.find("key-creation-refused", kp.key.Thing, "nobody who creates the cluster may do kms:PutKeyPolicy: %s", strings.Join(names, ", "))
}

// checkDelivery asks the calls of a trail.
func (c *checker) checkDelivery(t *estate.Thing) {
	p := t.Settings
	bucket := c.estate.LookupOf(t, p["S3BucketName"], estate.KindBucket)
	if isTrue(p["IsOrganizationTrail"], false) {
		c.noteAt(t.Resource, "it is the trail of an organization: whether its log files can be delivered was not judged")
		return
	}
	trail := calls.Trail{ARN: t.ARN, Account: t.In.Account, Partition: t.In.Partition, Prefix: text(p["S3KeyPrefix"])}
	if unknown(p["S3KeyPrefix"]) {
		c.noteAt(t.Resource, "S3KeyPrefix is %s, which is not in the template: whether the log files can be delivered was not judged", show(p["S3KeyPrefix"]))
		return
	}
	key := c.estate.LookupOf(t, p["KMSKeyId"], estate.KindKey)
	if key != nil && key.Kind == estate.KindKey {
		trail.KeyARN = key.ARN
	}
	_, ofKey := calls.OfTrail(trail)
	if bucket != nil && bucket.Kind == estate.KindBucket {
		trail.Bucket = text(p["S3BucketName"])
		ofBucket, _ := calls.OfTrail(trail)
		policies := c.estate.PoliciesFor(bucket)
		switch {
		case len(policies) > 0:
		case c.estate.Unplaced(bucket):
			c.noteAt(t.Resource, "which bucket a policy is for is not in the template: whether CloudTrail may write to that of the trail was not judged")
		default:
			c.find("trail-undeliverable", t, "the bucket has no policy that lets CloudTrail write to it")
		}
		if known := c.known(policies...); len(known) > 0 {
			c.refused([]*estate.Thing{t, bucket}, "trail-undeliverable", t, known, ofBucket)
		}
	}
	if len(ofKey) > 0 {
		if known := c.known(c.estate.PolicyOf(key)); len(known) > 0 {
			c.refused([]*estate.Thing{t}, "trail-undeliverable", t, known, ofKey)
		}
	} else if v := p["KMSKeyId"]; v != nil && v != "" {
		c.noteAt(t.Resource, "the key %s is not in the templates: whether CloudTrail may use it was not judged", show(v))
	}
}

// checkAlarmDelivery asks the calls by which alarms reach what they tell.
func (c *checker) checkAlarmDelivery() {
	var targets []*estate.Thing
	sources := map[*estate.Thing][]*estate.Thing{}
	add := func(source *estate.Thing, v any) {
		target := c.estate.Lookup(v)
		if target == nil || !slices.Contains([]estate.Kind{estate.KindTopic, estate.KindQueue, estate.KindFunction}, target.Kind) {
			return
		}
		if sources[target] == nil {
			targets = append(targets, target)
		}
		sources[target] = append(sources[target], source)
	}
	for _, r := range c.rules {
		for _, target := range list(r.Settings["Targets"]) {
			if role := at(target, "RoleArn"); role != nil {
				c.noteAt(r.Resource, "the target %s is reached as the role %s: whether that may was not judged", show(at(target, "Arn")), show(role))
				continue
			}
			add(r, at(target, "Arn"))
		}
	}
	for _, r := range c.metricAlarms {
		for _, action := range list(r.Settings["AlarmActions"]) {
			if topic := c.estate.LookupOf(nil, action, estate.KindTopic); topic != nil {
				add(r, action)
			}
		}
	}
	for _, target := range targets {
		c.checkTarget(target, sources[target])
	}
}

// keysOfTargets are the settings that name the key of a topic and of a queue, and the alias
// of the key that AWS manages for them. A function has none that matters here.
var keysOfTargets = map[estate.Kind][2]string{
	estate.KindTopic: {"KmsMasterKeyId", "alias/aws/sns"}, estate.KindQueue: {"KmsMasterKeyId", "alias/aws/sqs"},
}

func (c *checker) checkTarget(target *estate.Thing, sources []*estate.Thing) {
	of := keysOfTargets[target.Kind]
	master := target.Settings[of[0]]
	alarm := calls.Alarm{Target: target.ARN}
	key := c.estate.LookupOf(nil, master, estate.KindKey)
	if key != nil && key.Kind == estate.KindKey {
		alarm.Key = key.ARN
	}
	var ofTarget, ofKey []calls.Call
	byEventBridge := false
	for _, s := range sources {
		alarm.Source, alarm.Account = s.ARN, s.In.Account
		one, more := calls.OfAlarm(alarm)
		ofTarget, ofKey = append(ofTarget, one...), append(ofKey, more...)
		byEventBridge = byEventBridge || s.Kind == estate.KindRule
	}
	policies := c.estate.PoliciesFor(target)
	switch known := c.known(policies...); {
	case len(known) > 0:
		c.refused(append(sources, target), "alarm-undeliverable", target, known, ofTarget)
	case len(policies) == 0 && c.estate.Unplaced(target):
		c.noteAt(target.Resource, "what a policy for a %s is for is not in the template: whether alarms reach this one was not judged", target.Kind)
	case len(policies) == 0 && byEventBridge: // CloudWatch may publish to a topic of its account
		c.find("alarm-undeliverable", target, "the %s has no policy that lets EventBridge reach it", target.Kind)
	}
	switch alias := text(master); {
	case of[1] != "" && (alias == of[1] || strings.HasSuffix(alias, ":"+of[1])):
		c.find("alarm-undeliverable", target, "the %s is encrypted under %s, whose policy does not let AWS's services use it", target.Kind, of[1])
	case len(ofKey) > 0:
		if known := c.known(c.estate.PolicyOf(key)); len(known) > 0 {
			c.refused(append(sources, target), "alarm-undeliverable", target, known, ofKey)
		}
	case of[0] != "" && master != nil && master != "":
		c.noteAt(target.Resource, "the key %s is not in the templates: whether alarms can be encrypted with it was not judged", show(master))
	}
}

// checkAssociation asks whether Pod Identity can assume the role of an association.
func (c *checker) checkAssociation(r *estate.Thing) {
	role := c.estate.Lookup(r.Settings["RoleArn"])
	if role == nil || role.Kind != estate.KindRole {
		c.noteAt(r.Resource, "the role %s is not in the templates: whether it can be assumed was not judged", show(r.Settings["RoleArn"]))
		return
	}
	policy := c.known(c.estate.PolicyOf(role))
	if len(policy) == 0 {
		return
	}
	p := r.Settings
	for _, property := range []string{"ClusterName", "Namespace", "ServiceAccount"} {
		if v := p[property]; unknown(v) || strings.Contains(text(v), "${") {
			c.noteAt(r.Resource, "%s is %s, which is not in the template: whether the role can be assumed was not judged", property, show(v))
			return
		}
	}
	name := text(p["ClusterName"])
	if unknown(p["DisableSessionTags"]) {
		c.noteAt(r.Resource, "DisableSessionTags is %s, which is not in the template: the session was taken to have tags", show(p["DisableSessionTags"]))
	}
	c.refused([]*estate.Thing{c.estate.LookupOf(r, p["ClusterName"], estate.KindCluster)}, "trust-never-matches", role, policy, calls.OfAssociation(calls.Association{
		ClusterARN: placeOf(r.In).ARN("eks", "cluster/"+name), ClusterName: name, Account: r.In.Account,
		Namespace: text(p["Namespace"]), ServiceAccount: text(p["ServiceAccount"]), RoleARN: role.ARN, Untagged: isTrue(p["DisableSessionTags"], false),
	}))
}
