package verify

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/value"
)

// Records tells whether a trail puts all calls to KMS in a Region on record, and they arrive.
func Records(trail *live.Resource, region string) bool {
	for _, v := range trail.Properties {
		if _, unread := v.(live.Unread); unread {
			return false
		}
	}
	return len(trail.State.Troubles) == 0 && check.Records(trail.Properties) && (trail.Region == region || trail.Properties["IsMultiRegionTrail"] == true)
}

// states finds what no template says: what AWS itself tells of a thing.
func (v *verification) states() {
	ofSecrets := map[string][]string{} // clusters, by the ARNs of their keys
	for _, a := range v.accounts {
		for _, r := range a.Resources {
			if r.Type != clusterType {
				continue
			}
			v.clusterState(r)
			for _, config := range value.List(r.Properties["EncryptionConfig"]) {
				if arn, _ := value.At(config, "Provider", "KeyArn").(string); arn != "" {
					ofSecrets[arn] = append(ofSecrets[arn], r.ID)
				}
			}
		}
	}
	for _, a := range v.accounts {
		heard := map[string]bool{}
		for _, r := range a.Resources {
			if at := v.places[r]; len(r.State.Troubles) > 0 && r.Type != clusterType {
				rule := "cluster-unhealthy"
				if r.Type == "AWS::CloudTrail::Trail" {
					rule = "trail-undelivered"
				}
				for _, trouble := range r.State.Troubles {
					v.find(rule, at, "%s", trouble)
				}
			}
			switch {
			case family(r.Type) == keyType && ofSecrets[r.ARN] != nil:
				v.keyState(a, r, ofSecrets[r.ARN])
			case r.Type == "AWS::SNS::Subscription" && r.State.Pending:
				v.find("subscription-pending", v.places[r], "%v %v is not confirmed", r.Properties["Protocol"], r.Properties["Endpoint"])
			case r.Type == "AWS::SNS::Subscription":
				heard[fmt.Sprint(r.Properties["TopicArn"])] = true
			}
		}
		v.unheard(a, heard)
	}
	for _, name := range slices.Sorted(maps.Keys(v.stacks)) {
		v.stackState(v.stacks[name])
	}
}

func (v *verification) clusterState(r *live.Resource) {
	for _, trouble := range r.State.Troubles {
		v.find("cluster-unhealthy", v.places[r], "%s", trouble)
	}
	switch status := r.State.Status; status {
	case "", "ACTIVE":
	case "ADOPTING": // see package adopt
	case "CREATING", "UPDATING", "DELETING", "PENDING":
		v.note(v.places[r].Resource, "EKS says that the cluster is %s: what it lacks may still come", status)
	default:
		v.find("cluster-unhealthy", v.places[r], "EKS says that the cluster is %s", status)
	}
}

// usable are the operations of a grant with which somebody gets at what is under the key, or
// passes that on.
var usable = []string{"Decrypt", "ReEncryptFrom", "CreateGrant"}

// keyState finds what is wrong with the key of clusters at the moment.
//
// Grants of EKS have the grantee eks.REGION.amazonaws.com, as seen on clusters in public
// reports, or that name without the Region: inferred, as no document says it.
func (v *verification) keyState(a *live.Account, r *live.Resource, clusters []string) {
	at := v.places[r]
	switch r.State.Status {
	case "", "Enabled", "Disabled", "Updating", "Creating": // a disabled one is found by check
	case "PendingDeletion", "PendingReplicaDeletion":
		when := ""
		if !r.State.Deletion.IsZero() {
			when = ", on " + r.State.Deletion.UTC().Format("2006-01-02")
		}
		v.find("key-pending-deletion", at, "KMS deletes the key of cluster %s%s", strings.Join(clusters, ", "), when)
	default:
		v.find("key-not-usable", at, "KMS says that the key is %s", r.State.Status)
	}
	v.dryRun(a, r, clusters)
	if v.unreadOn(a, "kms:ListGrants", r.ARN) {
		return
	}
	ofEKS := false
	for _, g := range r.State.Grants {
		switch {
		case strings.HasPrefix(g.Grantee, "eks.") && strings.Contains(g.Grantee, ".amazonaws.com"):
			ofEKS = ofEKS || slices.Contains(g.Operations, "Decrypt")
		case slices.ContainsFunc(usable, func(o string) bool { return slices.Contains(g.Operations, o) }):
			context := "in any encryption context"
			if g.Constrained {
				context = "in an encryption context with " + strings.Join(g.Keys, ", ")
			}
			v.find("grant-unexpected", at, "the grant %s lets %s do %s %s", g.ID, g.Grantee, strings.Join(g.Operations, ", "), context)
		}
	}
	creating := slices.ContainsFunc(a.Resources, func(c *live.Resource) bool {
		return c.Type == clusterType && slices.Contains(clusters, c.ID) && c.State.Status != "ACTIVE" && c.State.Status != ""
	})
	if !ofEKS && !creating {
		v.find("grant-missing", at, "the key has %d grant(s), and none lets EKS decrypt for cluster %s", len(r.State.Grants), strings.Join(clusters, ", "))
	}
}

// dryRun says whether the caller may decrypt.
func (v *verification) dryRun(a *live.Account, r *live.Resource, clusters []string) {
	at := v.places[r].Resource
	switch r.State.Dry {
	case "":
	case "yes":
		v.note(at, "a dry run of Decrypt says that %s may decrypt under the key of cluster %s", a.Caller, strings.Join(clusters, ", "))
	case "no":
		v.note(at, "a dry run of Decrypt says that %s may not decrypt under the key of cluster %s without an encryption context", a.Caller, strings.Join(clusters, ", "))
	default:
		v.note(at, "not judged: whether %s may decrypt: %s", a.Caller, r.State.Dry)
	}
}

// unreadOn tells whether an action gave no answer on something.
func (v *verification) unreadOn(a *live.Account, action, on string) bool {
	return slices.ContainsFunc(a.Unread, func(u live.Unread) bool { return u.Action == action && strings.HasSuffix(u.On, on) })
}

// unheard finds topics of alarms of which nobody hears.
func (v *verification) unheard(a *live.Account, heard map[string]bool) {
	topics := map[string]bool{}
	for _, rule := range v.now.Of(estate.KindRule) {
		for _, target := range value.List(rule.Settings["Targets"]) {
			if t := v.now.Lookup(value.At(target, "Arn")); t != nil {
				topics[t.Stack+"\n"+t.LogicalID] = true
			}
		}
	}
	for _, r := range a.Resources {
		at := v.places[r]
		if r.Type != topicType || heard[r.ARN] || !topics[at.Stack+"\n"+at.LogicalID] {
			continue
		}
		if v.unreadOn(a, "sns:ListSubscriptionsByTopic", r.ARN) {
			continue
		}
		v.find("alarm-unheard", at, "the topic %s has no confirmed subscription", arnName(r.ARN))
	}
}

func arnName(text string) string {
	arn, _ := place.ParseARN(text)
	return arn.Resource
}

func (v *verification) stackState(s live.Stack) {
	t := v.templates[s.Name]
	if t == nil || !s.There {
		return
	}
	if strings.Contains(s.Status, "FAILED") || strings.HasSuffix(s.Status, "_IN_PROGRESS") {
		v.note("", "the stack %s is %s: what is wanted of it may not run yet", s.Name, s.Status)
	}
	for _, id := range slices.Sorted(maps.Keys(s.Drifted)) {
		r := t.Resources[id]
		if r == nil {
			continue
		}
		v.find("stack-drifted", r.Place(), "CloudFormation said on %s: %s", s.Checked.UTC().Format("2006-01-02"), strings.Join(s.Drifted[id], ", "))
	}
}
