package guard

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/value"
)

// unchangeable are the properties of a key that KMS never changes, with what they
// are if they are not set.
//
// Source: AWS CloudFormation Template Reference, AWS::KMS::Key, "Important".
var unchangeable = map[string]any{
	"KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT", "Origin": "AWS_KMS", "MultiRegion": false,
}

// defaultRotation is the period of a key that rotates and names none. Source: AWS
// CloudFormation Template Reference, AWS::KMS::Key, RotationPeriodInDays.
const defaultRotation = 365

// defaultWindow is that of PendingWindowInDays.
const defaultWindow = 30

func (c *comparison) keys(ofClusters map[string]bool) {
	for _, old := range c.before.Keys {
		now := c.now(old.Thing)
		use := ""
		if ofClusters[old.ARN] {
			use = "the secrets of a running cluster are under it; "
		}
		if now == nil {
			c.find("key-deleted", old.Thing, "%s%s", use, c.gone(old.Thing))
			continue
		}
		if now.Replaced != "" {
			c.find("key-deleted", now, "%s%s", use, now.Replaced)
		}
		c.keyProperties(old.Thing, now)
		c.policies(old.Thing, now)
	}
	c.aliases()
	c.trust()
}

// access is all that decides on the use of a key on one side.
func (c *comparison) access(of *estate.Estate, key *estate.Thing) iampolicy.Access {
	a := of.Access(key)
	a.Organization = c.opts.Organization
	return a
}

// aliases finds those that lead to another key, or have another name.
func (c *comparison) aliases() {
	for _, before := range c.before.Of(estate.KindAlias) {
		now := c.now(before)
		if now == nil {
			continue
		}
		for _, name := range []string{"TargetKeyId", "AliasName"} {
			if old, new := before.Settings[name], now.Settings[name]; !reflect.DeepEqual(old, new) {
				c.find("alias-moved", now, "%s changes from %s to %s", name, value.Show(old), value.Show(new))
			}
		}
	}
}

// trust finds who can become a role of the templates again, if a key policy or an IAM
// policy lets the role do something with a key. It is decided by the text.
func (c *comparison) trust() {
	for _, old := range c.before.Of(estate.KindRole) {
		now := c.now(old)
		if now == nil {
			continue
		}
		text := moreStatements(old.Settings["AssumeRolePolicyDocument"], now.Settings["AssumeRolePolicyDocument"])
		if text != "" && c.usesKey(now.ARN) {
			c.find("policy-widened", now, "the role may use a key, and its trust policy changes: %s", text)
		}
	}
}

// usesKey tells whether a principal may do something with a key of the new templates.
func (c *comparison) usesKey(arn string) bool {
	return slices.ContainsFunc(c.after.Keys, func(key *estate.Key) bool {
		k := c.access(c.after, key.Thing)
		return slices.ContainsFunc(iampolicy.KMSActions, func(action iampolicy.KMSAction) bool {
			o, err := iampolicy.Explain(iampolicy.Request{Caller: iampolicy.Caller{ARN: arn}, Action: action.Name, Resource: k.Key},
				iampolicy.Policies{Resource: k.Policy, Identity: k.Identity[arn], Organization: k.Organization})
			return err != nil || len(o.Allow) > 0
		})
	})
}

func (c *comparison) keyProperties(before, now *estate.Thing) {
	get := func(r *estate.Thing, name string) any {
		if v := r.Settings[name]; v != nil {
			return v
		}
		return unchangeable[name]
	}
	for _, name := range []string{"KeySpec", "KeyUsage", "Origin", "MultiRegion"} {
		if old, new := get(before, name), get(now, name); !reflect.DeepEqual(old, new) && value.Show(old) != value.Show(new) {
			c.find("key-replaced", now, "%s changes from %s to %s", name, value.Show(old), value.Show(new))
		}
	}
	rotates := func(r *estate.Thing) bool { return value.IsTrue(r.Settings["EnableKeyRotation"], false) }
	days := func(r *estate.Thing, name string, byDefault float64) float64 {
		if n, ok := value.Number(r.Settings[name]); ok {
			return n
		}
		return byDefault
	}
	lost := func(rule, name string) bool {
		return c.lost(rule, now, name, before.Settings[name], now.Settings[name])
	}
	switch old, new := days(before, "RotationPeriodInDays", defaultRotation), days(now, "RotationPeriodInDays", defaultRotation); {
	case !rotates(before):
	case lost("rotation-weakened", "EnableKeyRotation"), lost("rotation-weakened", "RotationPeriodInDays"):
	case !rotates(now):
		c.find("rotation-weakened", now, "EnableKeyRotation changes from true to %s", value.Show(now.Settings["EnableKeyRotation"]))
	case new > old:
		c.find("rotation-weakened", now, "the key rotates every %g days, it was every %g", new, old)
	}
	if old, new := days(before, "PendingWindowInDays", defaultWindow), days(now, "PendingWindowInDays", defaultWindow); !lost("retention-weakened", "PendingWindowInDays") && new < old {
		c.find("retention-weakened", now, "a deletion of the key can be stopped for %g days, it was %g", new, old)
	}
	if value.IsTrue(before.Settings["Enabled"], true) && !value.IsTrue(now.Settings["Enabled"], true) {
		c.find("key-replaced", now, "Enabled changes to %s: the key can't be used from then on, and within 30 days EKS needs it back", value.Show(now.Settings["Enabled"]))
	}
}

func (c *comparison) policies(old, new *estate.Thing) {
	now, same := c.after.PolicyOf(new), reflect.DeepEqual(old.Settings["KeyPolicy"], new.Settings["KeyPolicy"])
	for _, side := range []struct {
		*estate.Policy
		of string
	}{{c.before.PolicyOf(old), "the deployed template"}, {now, "the new template"}} {
		switch err := side.Err(); {
		case err == nil:
			continue
		case same:
			c.note(new.Resource, "the key policy does not change, and was not compared: %v", err)
		default:
			c.find("policy-not-understood", new, "in %s: %v", side.of, err)
		}
		return
	}
	if now.Partial && !same {
		c.find("policy-not-understood", new, "in the new template KeyPolicy has a statement of which %s is not in the template: what it allows was not compared", now.Unknown())
	}
	for _, n := range c.after.NotesOn(new) {
		c.note(n.Resource, "%s", n.Message)
	}
	before, after := c.access(c.before, old), c.access(c.after, new)
	wider, notes, err := iampolicy.Widenings(before, after)
	if err != nil {
		c.find("policy-not-understood", new, "%v", err)
		return
	}
	lost, more, err := iampolicy.Losses(before, after)
	if err != nil {
		c.find("policy-not-understood", new, "%v", err)
		return
	}
	wider = slices.DeleteFunc(wider, func(w iampolicy.Change) bool { return looksOn(before, w) })
	c.compared[new] = true
	for _, n := range slices.Concat(notes, more) {
		c.note(new.Resource, "%s", n)
	}
	for _, message := range summarized(wider) {
		c.find("policy-widened", new, "%s", message)
	}
	for _, l := range lost {
		if !l.Named || c.unused(l.ARN) {
			continue
		}
		c.find("principal-dropped", new, "%s may no longer do %s%s", l.ARN, actions(l.Actions), given(l.Example))
	}
}

// looksOn tells whether a change is only that a role is new whose IAM policies let it look
// at what is the account's to look at: the key's policy has not become wider.
func looksOn(old iampolicy.Access, w iampolicy.Change) bool {
	_, there := old.Identity[w.ARN]
	return !there && w.Named && len(w.By) > 1 && !slices.ContainsFunc(iampolicy.KMSActions, func(a iampolicy.KMSAction) bool {
		return a.Class != iampolicy.Read && slices.Contains(w.Actions, a.Name)
	})
}

// unused tells whether a principal goes with the change, so that it loses nothing
// that anybody would miss: a role of the templates that is not in them any more.
func (c *comparison) unused(arn string) bool {
	r := c.before.Lookup(arn)
	return r != nil && strings.HasPrefix(r.Type, "AWS::IAM::") && c.now(r) == nil
}

// summarized says who may do more, in one message for each statement of the key
// policy. What everybody may do is not said again of those who have a name.
func summarized(changes []iampolicy.Change) (messages []string) {
	var statements []string
	by := map[string][]iampolicy.Change{}
	for _, c := range changes {
		statement := c.By[0].String()
		if by[statement] == nil {
			statements = append(statements, statement)
		}
		by[statement] = append(by[statement], c)
	}
	for _, statement := range statements {
		public := slices.ContainsFunc(by[statement], everybody)
		var who []string
		for _, c := range by[statement] {
			if !public || !c.Named {
				who = append(who, fmt.Sprintf("%s may do %s%s", described(c), actions(c.Actions), given(c.Example)))
			}
		}
		if more := len(who) - most; more > 0 {
			who = append(who[:most], fmt.Sprintf("and %d more", more))
		}
		messages = append(messages, fmt.Sprintf("by %s, %s", statement, strings.Join(who, "; ")))
	}
	return messages
}

// most is how many of a list a message has.
const most = 5

// everybody tells that a change is for principals of any account, whatever their names.
func everybody(c iampolicy.Change) bool { return c.AnyAccount && len(c.Like) == 0 }

func described(c iampolicy.Change) string {
	like := ""
	if len(c.Like) > 0 {
		like = fmt.Sprintf(" like %s, such as %s,", strings.Join(c.Like, " and "), c.ARN)
	}
	switch {
	case c.Provider != "":
		return c.Provider
	case c.Named:
		return c.ARN
	case c.Account == "" && like != "":
		return "every AWS service" + like
	case c.Account == "":
		return "every AWS service"
	case everybody(c):
		return "everybody, of any account,"
	case c.AnyAccount:
		return "principals of any account" + like
	case like != "":
		return fmt.Sprintf("principals of account %s%s", c.Account, like)
	}
	return fmt.Sprintf("every principal of account %s that IAM allows it", c.Account)
}

// actions lists what is done, the use of the key first.
func actions(names []string) string {
	var sorted []string
	for _, class := range []iampolicy.Class{iampolicy.Cryptographic, iampolicy.Grants, iampolicy.Administration, iampolicy.Read} {
		for _, a := range iampolicy.KMSActions {
			if a.Class == class && slices.Contains(names, a.Name) {
				sorted = append(sorted, a.Name)
			}
		}
	}
	if more := len(sorted) - most; more > 1 {
		return fmt.Sprintf("%s and %d more", strings.Join(sorted[:most], ", "), more)
	}
	return strings.Join(sorted, ", ")
}

// given names the condition keys of an example. Values are left out: those of an
// encryption context are nobody's business in a log.
func given(r iampolicy.Request) string {
	var keys []string
	for key := range r.Context {
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return ""
	}
	slices.Sort(keys)
	return fmt.Sprintf(" (for some value of %s)", strings.Join(keys, ", "))
}
