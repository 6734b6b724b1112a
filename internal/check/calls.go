package check

import (
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/calls"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/place"
)

// refused reports calls that a policy refuses, once for each reason. What is not
// understood in the policy is reported where that policy is judged.
func (c *checker) refused(rule string, on *estate.Thing, policy *estate.Policy, all []calls.Call, identity ...iampolicy.NamedDocument) {
	told := map[string]bool{}
	for _, call := range all {
		answer, err := call.Ask(iampolicy.Policies{Resource: policy.NamedDocument, Identity: identity, Organization: c.organization})
		if err != nil {
			c.noteAt(on.Resource, "whether it is refused that %s was not judged: %v", call.What, err)
			continue
		}
		if answer.Refused && !told[answer.Why] {
			told[answer.Why] = true
			c.find(rule, on, "refused: %s; %s", call.What, answer.Why)
		}
	}
}

// judged tells whether a policy can be asked what it refuses, and notes what is not known.
func (c *checker) judged(p *estate.Policy) bool {
	missing := "${" + strings.Join(p.Missing, "}, ${") + "}"
	switch {
	case p.Broken != nil:
		c.noteAt(p.On.Resource, "%s was not judged: %v", p.Name, p.Broken)
	case p.Resolved == nil:
		c.noteAt(p.On.Resource, "%s is %s, which is not in the template: it was not judged", p.Name, missing)
	case p.Partial:
		c.noteAt(p.On.Resource, "%s has a statement of which %s is not in the template: whether a call is refused was not judged", p.Name, missing)
	default:
		return true
	}
	return false
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
			return err == nil && answer.Why == "nothing allows it"
		})
		kp.c.refused("cluster-locked-out", kp.key.Thing, kp.policy, all, estate.Everything()...)
	}
}

// checkCreation asks whether those who create the key could write its next policy: KMS
// refuses a policy by which its caller could not. They are taken to be who creates the
// cluster, and IAM is taken to allow them everything.
//
// Source: AWS KMS API Reference, CreateKey, BypassPolicyLockoutSafetyCheck.
func (kp *keyPolicy) checkCreation(creators []*subject) {
	if isTrue(kp.key.Settings["BypassPolicyLockoutSafetyCheck"], false) {
		kp.c.find("key-lockout-check-bypassed", kp.key.Thing, "BypassPolicyLockoutSafetyCheck is true")
		return
	}
	if len(creators) == 0 || !slices.ContainsFunc(kp.key.Clusters, func(cl *estate.Cluster) bool { return cl.In == kp.key.In }) {
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
	bucket := c.estate.Lookup(p["S3BucketName"])
	if isTrue(p["IsOrganizationTrail"], false) {
		c.noteAt(t.Resource, "it is the trail of an organization: whether its log files can be delivered was not judged")
		return
	}
	trail := calls.Trail{ARN: t.ARN, Account: t.In.Account, Partition: t.In.Partition, Prefix: text(p["S3KeyPrefix"])}
	if unknown(p["S3KeyPrefix"]) {
		c.noteAt(t.Resource, "S3KeyPrefix is %s, which is not in the template: whether the log files can be delivered was not judged", show(p["S3KeyPrefix"]))
		return
	}
	key := c.estate.Lookup(p["KMSKeyId"])
	if key != nil && key.Kind == estate.KindKey {
		trail.KeyARN = key.ARN
	}
	_, ofKey := calls.OfTrail(trail)
	if bucket != nil && bucket.Kind == estate.KindBucket {
		trail.Bucket = text(p["S3BucketName"])
		ofBucket, _ := calls.OfTrail(trail)
		policies := c.estate.PoliciesFor(bucket)
		if len(policies) == 0 {
			c.find("trail-undeliverable", t, "the bucket has no policy that lets CloudTrail write to it")
		}
		for _, policy := range policies {
			if c.judged(policy) {
				c.refused("trail-undeliverable", t, policy, ofBucket)
			}
		}
	}
	if len(ofKey) > 0 {
		if policy := c.estate.PolicyOf(key); c.judged(policy) {
			c.refused("trail-undeliverable", t, policy, ofKey)
		}
	}
}

// checkAlarmDelivery asks the calls by which alarms reach the topics of the templates.
func (c *checker) checkAlarmDelivery() {
	rules := map[*estate.Thing][]*estate.Thing{}
	for _, r := range c.rules {
		for _, target := range list(r.Settings["Targets"]) {
			if topic := c.estate.Lookup(at(target, "Arn")); topic != nil && topic.Kind == estate.KindTopic {
				rules[topic] = append(rules[topic], r)
			}
		}
	}
	for _, topic := range c.estate.Of(estate.KindTopic) {
		if len(rules[topic]) == 0 {
			continue
		}
		alarm := calls.Alarm{TopicARN: topic.ARN, Account: topic.In.Account}
		master := topic.Settings["KmsMasterKeyId"]
		key := c.estate.Lookup(master)
		if key != nil && key.Kind == estate.KindKey {
			alarm.KeyARN = key.ARN
		}
		var ofTopic, ofKey []calls.Call
		for _, r := range rules[topic] {
			alarm.RuleARN, alarm.Account = r.ARN, r.In.Account
			var publish []calls.Call
			publish, ofKey = calls.OfAlarm(alarm) // those on the key are the same for all rules
			ofTopic = append(ofTopic, publish...)
		}
		policies := c.estate.PoliciesFor(topic)
		if len(policies) == 0 {
			c.find("alarm-undeliverable", topic, "the topic has no policy that lets EventBridge publish to it")
		}
		for _, policy := range policies {
			if c.judged(policy) {
				c.refused("alarm-undeliverable", topic, policy, ofTopic)
			}
		}
		if alias := text(master); alias == "alias/aws/sns" || strings.HasSuffix(alias, ":alias/aws/sns") {
			c.find("alarm-undeliverable", topic, "the topic is encrypted under alias/aws/sns, whose policy does not let EventBridge use it")
		}
		if len(ofKey) > 0 {
			if policy := c.estate.PolicyOf(key); c.judged(policy) {
				c.refused("alarm-undeliverable", topic, policy, ofKey)
			}
		}
	}
}

// checkAssociation asks whether Pod Identity can assume the role of an association.
func (c *checker) checkAssociation(r *estate.Thing) {
	role := c.estate.Lookup(r.Settings["RoleArn"])
	if role == nil || role.Kind != estate.KindRole {
		return
	}
	policy := c.estate.PolicyOf(role)
	if !c.judged(policy) {
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
	c.refused("trust-never-matches", role, policy, calls.OfAssociation(calls.Association{
		ClusterARN: placeOf(r.In).ARN("eks", "cluster/"+name), ClusterName: name, Account: r.In.Account,
		Namespace: text(p["Namespace"]), ServiceAccount: text(p["ServiceAccount"]), RoleARN: role.ARN, Untagged: isTrue(p["DisableSessionTags"], false),
	}))
}
