package check

import (
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/calls"
	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/place"
)

// refused reports calls that a policy refuses, once for each reason. What is not
// understood in the policy is reported where that policy is judged.
func (c *checker) refused(rule string, on *cfn.Resource, policy iampolicy.NamedDocument, all []calls.Call, identity ...iampolicy.NamedDocument) {
	told := map[string]bool{}
	for _, call := range all {
		answer, err := call.Ask(iampolicy.Policies{Resource: policy, Identity: identity, Organization: c.organization})
		if err != nil {
			c.noteAt(on.Path, "whether it is refused that %s was not judged: %v", call.What, err)
			continue
		}
		if answer.Refused && !told[answer.Why] {
			told[answer.Why] = true
			c.find(rule, on, "refused: %s; %s", call.What, answer.Why)
		}
	}
}

// policyAt is the policy that a resource has, as far as it can be read.
func (c *checker) policyAt(on *cfn.Resource, name string, policy any) (iampolicy.NamedDocument, bool) {
	if d, known := c.documents[on]; known {
		return d, true
	}
	doc, resolved, missing, err := document(policy, on.Template)
	switch {
	case err != nil:
		c.noteAt(on.Path, "%s was not judged: %v", name, err)
		return iampolicy.NamedDocument{}, false
	case resolved == nil:
		c.noteAt(on.Path, "%s is ${%s}, which is not in the template: it was not judged", name, missing[0])
		return iampolicy.NamedDocument{}, false
	}
	for i := range doc.Statement {
		if doc.Statement[i].Resource == nil && doc.Statement[i].NotResource == nil {
			doc.Statement[i].Resource = iampolicy.Values{"*"} // of a trust policy: the role itself
		}
	}
	checked, err := iampolicy.NamedDocument{Name: name, Document: doc}.Checked(true)
	if err != nil {
		c.noteAt(on.Path, "%s was not judged: %v", name, err)
		return iampolicy.NamedDocument{}, false
	}
	c.documents[on] = checked
	return checked, true
}

func placeOf(t *cfn.Template) place.Place { return place.In(t.Account, t.Region) }

// checkLockedOut asks the calls that a running cluster needs. That the cluster's role has
// no Allow is another rule's: here a Deny counts.
func (kp *keyPolicy) checkLockedOut() {
	for _, cl := range kp.key.clusters {
		at := calls.Cluster{Name: text(at(cl.spec, "Name")), KeyARN: kp.arn, EKSService: kp.c.eksEndpoint(cl.Template)}
		if role := text(cl.spec["RoleArn"]); place.IsRole(role) {
			at.RoleARN = role
		}
		all := slices.DeleteFunc(calls.OfCluster(at), func(call calls.Call) bool {
			answer, err := call.Ask(iampolicy.Policies{Resource: kp.policy, Identity: everything()})
			return err == nil && answer.Why == "nothing allows it"
		})
		kp.c.refused("cluster-locked-out", kp.key.Resource, kp.policy, all, everything()...)
	}
}

// checkCreation asks whether those who create the key could write its next policy: KMS
// refuses a policy by which its caller could not. They are taken to be who creates the
// cluster, and IAM is taken to allow them everything.
//
// Source: AWS KMS API Reference, CreateKey, BypassPolicyLockoutSafetyCheck.
func (kp *keyPolicy) checkCreation(creators []*subject) {
	if isTrue(kp.key.Properties["BypassPolicyLockoutSafetyCheck"], false) {
		kp.c.find("key-lockout-check-bypassed", kp.key.Resource, "BypassPolicyLockoutSafetyCheck is true")
		return
	}
	if len(creators) == 0 || !slices.ContainsFunc(kp.key.clusters, func(cl *cluster) bool { return cl.Template == kp.key.Template }) {
		return // who creates the key is not known
	}
	var names []string
	for _, s := range creators {
		able := *s
		able.identity = everything()
		if kp.possible(kp.explain(&able, actionPut, nil)) {
			return
		}
		names = append(names, s.arn)
	}
	kp.c.find("key-creation-refused", kp.key.Resource, "nobody who creates the cluster may do kms:PutKeyPolicy: %s", strings.Join(names, ", "))
}

// checkDelivery asks the calls of a trail.
func (c *checker) checkDelivery(t *cfn.Resource) {
	p := t.Properties
	bucket := c.assembly.Lookup(p["S3BucketName"])
	if isTrue(p["IsOrganizationTrail"], false) {
		c.noteAt(t.Path, "it is the trail of an organization: whether its log files can be delivered was not judged")
		return
	}
	trail := calls.Trail{ARN: t.ARN, Account: t.Template.Account, Partition: t.Template.Partition, Prefix: text(p["S3KeyPrefix"])}
	if unknown(p["S3KeyPrefix"]) {
		c.noteAt(t.Path, "S3KeyPrefix is %s, which is not in the template: whether the log files can be delivered was not judged", show(p["S3KeyPrefix"]))
		return
	}
	key := c.assembly.Lookup(p["KMSKeyId"])
	if key != nil && key.Type == typeKey {
		trail.KeyARN = key.ARN
	}
	_, ofKey := calls.OfTrail(trail)
	if bucket != nil && bucket.Type == "AWS::S3::Bucket" {
		trail.Bucket = text(p["S3BucketName"])
		ofBucket, _ := calls.OfTrail(trail)
		policy, there, readable := iampolicy.NamedDocument{Name: "bucket policy"}, false, true
		for _, r := range c.assembly.OfType("AWS::S3::BucketPolicy") {
			if c.assembly.Lookup(r.Properties["Bucket"]) == bucket {
				there = true
				policy, readable = c.policyAt(r, "bucket policy", r.Properties["PolicyDocument"])
			}
		}
		switch {
		case !there:
			c.find("trail-undeliverable", t, "the bucket has no policy that lets CloudTrail write to it")
		case readable:
			c.refused("trail-undeliverable", t, policy, ofBucket)
		}
	}
	if len(ofKey) > 0 {
		if policy, ok := c.policyAt(key, nameOfKeyPolicy, policyOf(key)); ok {
			c.refused("trail-undeliverable", t, policy, ofKey)
		}
	}
}

// checkAlarmDelivery asks the calls by which alarms reach the topics of the templates.
func (c *checker) checkAlarmDelivery() {
	rules := map[*cfn.Resource][]*cfn.Resource{}
	for _, r := range c.rules {
		for _, target := range list(r.Properties["Targets"]) {
			if topic := c.assembly.Lookup(at(target, "Arn")); topic != nil && topic.Type == "AWS::SNS::Topic" {
				rules[topic] = append(rules[topic], r)
			}
		}
	}
	policies := map[*cfn.Resource][]*cfn.Resource{}
	for _, r := range c.assembly.OfType("AWS::SNS::TopicPolicy") {
		for _, topic := range list(r.Properties["Topics"]) {
			policies[c.assembly.Lookup(topic)] = append(policies[c.assembly.Lookup(topic)], r)
		}
	}
	for _, topic := range c.assembly.OfType("AWS::SNS::Topic") {
		if len(rules[topic]) == 0 {
			continue
		}
		alarm := calls.Alarm{TopicARN: topic.ARN, Account: topic.Template.Account}
		master := topic.Properties["KmsMasterKeyId"]
		key := c.assembly.Lookup(master)
		if key != nil && key.Type == typeKey {
			alarm.KeyARN = key.ARN
		}
		var ofTopic, ofKey []calls.Call
		for _, r := range rules[topic] {
			alarm.RuleARN, alarm.Account = r.ARN, r.Template.Account
			var publish []calls.Call
			publish, ofKey = calls.OfAlarm(alarm) // those on the key are the same for all rules
			ofTopic = append(ofTopic, publish...)
		}
		for _, r := range policies[topic] {
			if policy, ok := c.policyAt(r, "topic policy", r.Properties["PolicyDocument"]); ok {
				c.refused("alarm-undeliverable", topic, policy, ofTopic)
			}
		}
		if len(policies[topic]) == 0 {
			c.find("alarm-undeliverable", topic, "the topic has no policy that lets EventBridge publish to it")
		}
		if alias := text(master); alias == "alias/aws/sns" || strings.HasSuffix(alias, ":alias/aws/sns") {
			c.find("alarm-undeliverable", topic, "the topic is encrypted under alias/aws/sns, whose policy does not let EventBridge use it")
		}
		if len(ofKey) > 0 {
			if policy, ok := c.policyAt(key, nameOfKeyPolicy, policyOf(key)); ok {
				c.refused("alarm-undeliverable", topic, policy, ofKey)
			}
		}
	}
}

// checkAssociation asks whether Pod Identity can assume the role of an association.
func (c *checker) checkAssociation(r *cfn.Resource) {
	role := c.assembly.Lookup(r.Properties["RoleArn"])
	if role == nil || role.Type != "AWS::IAM::Role" {
		return
	}
	policy, ok := c.policyAt(role, "trust policy", role.Properties["AssumeRolePolicyDocument"])
	if !ok {
		return
	}
	p := r.Properties
	for _, property := range []string{"ClusterName", "Namespace", "ServiceAccount"} {
		if v := p[property]; unknown(v) || strings.Contains(text(v), "${") {
			c.noteAt(r.Path, "%s is %s, which is not in the template: whether the role can be assumed was not judged", property, show(v))
			return
		}
	}
	name := text(p["ClusterName"])
	if unknown(p["DisableSessionTags"]) {
		c.noteAt(r.Path, "DisableSessionTags is %s, which is not in the template: the session was taken to have tags", show(p["DisableSessionTags"]))
	}
	c.refused("trust-never-matches", role, policy, calls.OfAssociation(calls.Association{
		ClusterARN: placeOf(r.Template).ARN("eks", "cluster/"+name), ClusterName: name, Account: r.Template.Account,
		Namespace: text(p["Namespace"]), ServiceAccount: text(p["ServiceAccount"]), RoleARN: role.ARN, Untagged: isTrue(p["DisableSessionTags"], false),
	}))
}
