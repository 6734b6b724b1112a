package guard

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/value"
)

// elsewhere tells whether two stacks of one name are for different places, as far as both
// say where they are.
func elsewhere(before, after *estate.Stack) bool {
	return !before.Assumed && !after.Assumed && (before.Account != after.Account || before.Region != after.Region)
}

// movedTo is the stack after of the name of one before that is for another place, or nil.
func (c *comparison) movedTo(before *estate.Stack) *estate.Stack {
	if c.stacks[before] != nil {
		return nil
	}
	for _, a := range c.after.Stacks {
		if a.Name == before.Name {
			return a
		}
	}
	return nil
}

// notAmong says that a stack is not compared with any.
func notAmong(s *estate.Stack) string {
	return "its stack " + s.Name + " is not among the new templates"
}

// goneClusters makes one finding of a cluster whose stack is for another place, or has
// another name. What goes with a cluster in other stacks, such as the alarms on it, is not
// listed again.
func (c *comparison) goneClusters() {
	for _, cluster := range c.before.Clusters {
		old := cluster.Thing
		if c.stacks[old.In] != nil {
			continue
		}
		to := c.movedTo(old.In)
		if to != nil {
			place := old.Place
			if now := to.Things[old.LogicalID]; now != nil {
				place = now.Place
			}
			c.report.Add(c.rule("cluster-moved"), place, "its stack is for account %s in %s, and was for account %s in %s", to.Account, to.Region, old.In.Account, old.In.Region)
		}
		renamed := c.renamedTo(old.In)
		words := names(slices.Collect(maps.Values(old.In.Things)))
		var with []string
		c.drop(func(f finding.Finding) bool {
			here := f.Stack == old.In.Name
			switch {
			case here && (f.Rule == "cluster-moved" || f.Rule == "cluster-deleted"):
				return to != nil && f.Rule == "cluster-deleted"
			case here && to == nil && renamed == "", here && !strings.Contains(f.Message, notAmong(old.In)):
				return false // such as what is found in the template that comes
			case !here && !c.goesWith(f, words):
				return false
			case !slices.Contains(with, f.Resource):
				with = append(with, f.Resource)
			}
			return true
		})
		for i, f := range c.report.Findings {
			if f.Rule != "cluster-deleted" && f.Rule != "cluster-moved" || f.Stack != old.In.Name {
				continue
			}
			if renamed != "" {
				c.report.Findings[i].Message += "; " + renamed + " is new in the same account and Region: under another name it is another cluster, under another key"
			}
			if len(with) > 0 {
				c.report.Findings[i].Message += "; what goes with it is not listed again: " + strings.Join(with, ", ")
			}
			break
		}
	}
}

// renamedTo is the name of the one stack with a cluster of another name that is new where
// this one goes, if this is the only one that goes there.
func (c *comparison) renamedTo(gone *estate.Stack) string {
	in := func(s *estate.Stack) bool { return s.Account == gone.Account && s.Region == gone.Region }
	var going, coming, names []string
	for _, o := range c.before.Clusters {
		if in(o.In) && c.stacks[o.In] == nil {
			going = append(going, o.In.Name)
			names = append(names, value.Text(o.Settings["Name"]))
		}
	}
	for _, o := range c.after.Clusters {
		if in(o.In) && !slices.ContainsFunc(c.before.Stacks, func(b *estate.Stack) bool { return b.Name == o.In.Name }) {
			coming = append(coming, o.In.Name)
			names = append(names, value.Text(o.Settings["Name"]))
		}
	}
	if len(going) != 1 || len(coming) != 1 || names[0] == names[1] {
		return ""
	}
	return coming[0]
}

// goesWith tells whether a finding on a rule or a trail is on nothing but names of what has
// gone.
func (c *comparison) goesWith(f finding.Finding, gone []string) bool {
	for _, before := range c.before.Stacks {
		old := before.Things[f.LogicalID]
		if before.Name != f.Stack || old == nil {
			continue
		}
		now := c.now(old)
		switch {
		case f.Rule == "alarm-removed" && (strings.HasPrefix(f.Message, "the rule hears less") || strings.HasPrefix(f.Message, "the rule goes")):
			return c.heard(old, gone)
		case f.Rule == "trail-weakened" && now != nil:
			return strings.HasPrefix(f.Message, "EventSelectors ") && holds("", without(old.Settings["EventSelectors"], gone), now.Settings["EventSelectors"])
		}
	}
	return false
}

// movedAlarms drops what is found on a rule of which others hear all, since there is only
// so much room in one and clusters go to the next, and on a trail that records more.
func (c *comparison) movedAlarms(what string) {
	c.drop(func(f finding.Finding) bool { return strings.HasPrefix(f.Message, what) && c.goesWith(f, nil) })
}

// heard tells whether rules after hear what a rule before has heard, and tell whom it has
// told, but for what has gone.
func (c *comparison) heard(old *estate.Thing, gone []string) bool {
	hears := map[string]bool{}
	told := slices.DeleteFunc(targets(old), func(arn string) bool { return isOf(arn, gone) })
	for _, rule := range c.after.Of(estate.KindRule) {
		tells := targets(rule)
		if rule.In.Account != old.In.Account || rule.In.Region != old.In.Region || len(tells) == 0 || rule.Settings["State"] == "DISABLED" ||
			slices.ContainsFunc(told, func(arn string) bool { return !slices.Contains(tells, arn) }) {
			continue
		}
		for _, a := range alternatives(rule) {
			hears[a.text] = true
		}
	}
	all := alternatives(old)
	for _, a := range all {
		if !hears[a.text] && !slices.ContainsFunc(a.words, func(w string) bool { return isOf(w, gone) }) {
			return false
		}
	}
	return len(all) > 0
}

// targets are the ARNs of those that a rule tells.
func targets(rule *estate.Thing) (arns []string) {
	list, _ := rule.Settings["Targets"].([]any)
	for _, t := range list {
		arns = append(arns, value.Text(value.At(t, "Arn")))
	}
	return arns
}

// alternative is an event that a rule hears: its name, and one of the values that the
// pattern has for it.
type alternative struct {
	text  string
	words []string
}

// alternatives are the events that a rule hears, one for each name and each value. None
// is told of a pattern that is not known.
func alternatives(rule *estate.Thing) (all []alternative) {
	detail, ok := value.At(rule.Settings, "EventPattern", "detail").(map[string]any)
	events, _ := detail["eventName"].([]any)
	if !ok || value.IsOpen(rule.Settings["EventPattern"]) {
		return nil
	}
	rest := maps.Clone(detail)
	delete(rest, "eventName")
	pattern := maps.Clone(rule.Settings["EventPattern"].(map[string]any))
	for _, one := range spread(rest) {
		pattern["detail"] = one // and what else limits it, with the bus on which it listens
		data, err := json.Marshal([]any{rule.Settings["EventBusName"], pattern})
		if err != nil {
			return nil
		}
		for _, name := range events {
			all = append(all, alternative{value.Text(name) + " " + string(data), texts(one)})
		}
	}
	return all
}

// spread takes a pattern apart: into one for each alternative and each value of what the
// event is about. What limits it beside that is in each.
func spread(detail map[string]any) []map[string]any {
	with := func(path []string, v any) map[string]any {
		all := maps.Clone(detail)
		inner := v
		for i := len(path) - 1; i > 0; i-- {
			inner = map[string]any{path[i]: inner}
		}
		all[path[0]] = inner
		return all
	}
	resources, _ := detail["resources"].(map[string]any)
	if arns, ok := resources["ARN"].([]any); ok && len(resources) == 1 {
		var all []map[string]any
		for _, arn := range arns {
			all = append(all, with([]string{"resources", "ARN"}, []any{arn}))
		}
		return all
	}
	asked, ok := detail["requestParameters"].(map[string]any)
	if !ok {
		return []map[string]any{detail}
	}
	either := []any{asked}
	if or, ok := asked["$or"].([]any); ok && len(asked) == 1 {
		either = or
	}
	var all []map[string]any
	for _, one := range either {
		fields, _ := one.(map[string]any)
		if len(fields) != 1 {
			all = append(all, with([]string{"requestParameters"}, one))
			continue
		}
		for name, values := range fields {
			list, ok := values.([]any)
			if !ok {
				all = append(all, with([]string{"requestParameters"}, one))
			}
			for _, v := range list {
				all = append(all, with([]string{"requestParameters", name}, []any{v}))
			}
		}
	}
	return all
}

// texts are all texts in a value.
func texts(v any) (all []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, e := range v {
			all = append(all, texts(e)...)
		}
	case map[string]any:
		for _, e := range v {
			all = append(all, texts(e)...)
		}
	}
	return all
}

// without is a value without the elements of lists that are of what has gone.
func without(v any, gone []string) any {
	switch v := v.(type) {
	case []any:
		left := []any{}
		for _, e := range v {
			if text, ok := e.(string); ok && isOf(text, gone) {
				continue
			}
			left = append(left, without(e, gone))
		}
		return left
	case map[string]any:
		all := map[string]any{}
		for name, e := range v {
			all[name] = without(e, gone)
		}
		return all
	}
	return v
}

// holds tells whether a value is another, which may have more in its lists of Values: the
// resources whose data events a trail records.
func holds(field string, old, now any) bool {
	switch old := old.(type) {
	case []any:
		now, ok := now.([]any)
		if !ok || field != "Values" && len(old) != len(now) {
			return false
		}
		for i, e := range old {
			if field == "Values" && !slices.ContainsFunc(now, func(n any) bool { return reflect.DeepEqual(n, e) }) || field != "Values" && !holds("", e, now[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		now, ok := now.(map[string]any)
		if !ok || len(old) != len(now) {
			return false
		}
		for name, e := range old {
			if _, there := now[name]; !there || !holds(name, e, now[name]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(old, now)
}

// names are those of things, and their ARNs.
func names(things []*estate.Thing) (all []string) {
	for _, t := range things {
		all = append(all, t.ARN, t.ARN[strings.LastIndexAny(t.ARN, ":/")+1:])
		for _, field := range []string{"Name", "FunctionName", "LogGroupName", "AliasName", "BucketName", "TopicName", "TrailName", "AlarmName"} {
			all = append(all, value.Text(t.Settings[field]))
		}
	}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// isOf tells whether a text is a name of what has gone, or how one begins or ends.
func isOf(text string, gone []string) bool {
	if strings.HasPrefix(text, "arn:") {
		text = strings.TrimSuffix(text, ":") // of what belongs to it
	}
	return slices.ContainsFunc(gone, func(name string) bool {
		return text == name || strings.HasSuffix(text, ":"+name) || len(text) > 3 && strings.HasPrefix(name, text) && strings.HasSuffix(text, "-")
	})
}

// ofRecord are the findings on what a record is made of.
var ofRecord = []string{"trail-weakened", "retention-weakened", "alarm-removed", "key-deleted"}

// movedRecord makes one finding of a record that leaves the stack of a cluster, where other
// stacks have one that is as good: check finds nothing there, and what raised an alarm
// raises one.
func (c *comparison) movedRecord() {
	for before, after := range c.stacks {
		var gone, kept []string
		var keys []*estate.Thing
		stays := func(f finding.Finding) *estate.Thing {
			if f.Stack != before.Name || !slices.Contains(ofRecord, f.Rule) {
				return nil
			}
			if t := before.Things[f.LogicalID]; t != nil && c.now(t) == nil {
				return t
			}
			return nil
		}
		for _, f := range c.report.Findings {
			t := stays(f)
			if t == nil || slices.Contains(gone, f.Resource) {
				continue
			}
			gone = append(gone, f.Resource)
			if t.Kind == estate.KindKey {
				keys = append(keys, t)
			}
			if strings.HasPrefix(t.Deletion, "Retain") {
				kept = append(kept, f.Resource)
			}
		}
		if len(gone) == 0 || slices.ContainsFunc(keys, c.ofCluster) || !c.recordedElsewhere(before) {
			continue
		}
		cluster := slices.IndexFunc(c.after.Clusters, func(o *estate.Cluster) bool { return o.In == after })
		if cluster < 0 {
			continue
		}
		c.drop(func(f finding.Finding) bool { return stays(f) != nil })
		slices.Sort(gone)
		slices.Sort(kept)
		text := fmt.Sprintf("%d resources of the trail and the alarms leave the stack, and stacks %s have them for the cluster", len(gone), strings.Join(c.newStacks(), ", "))
		if len(kept) > 0 {
			text += "; retained outside any stack: " + strings.Join(kept, ", ")
		}
		c.find("record-moved", c.after.Clusters[cluster].Thing, "%s", text)
	}
}

// ofCluster tells whether a key before encrypts the secrets of a cluster.
func (c *comparison) ofCluster(key *estate.Thing) bool {
	return slices.ContainsFunc(c.before.Clusters, func(o *estate.Cluster) bool { return o.Key != nil && o.Key.Thing == key })
}

// newStacks are the names of those that have a part of a record and are not among the
// stacks before.
func (c *comparison) newStacks() (names []string) {
	for _, a := range c.after.Stacks {
		watches := func(t *estate.Thing) bool { return t.In == a }
		if !slices.ContainsFunc(c.before.Stacks, func(b *estate.Stack) bool { return b.Name == a.Name }) &&
			(slices.ContainsFunc(c.after.Of(estate.KindTrail), watches) || slices.ContainsFunc(c.after.Of(estate.KindRule), watches)) {
			names = append(names, a.Name)
		}
	}
	return names
}

// recordedElsewhere tells whether the record of a stack goes on in new ones: nothing is
// found on the new record, and each event that raised an alarm is in a rule of the same
// place that has a target.
func (c *comparison) recordedElsewhere(before *estate.Stack) bool {
	if len(c.newStacks()) == 0 {
		return false
	}
	for _, f := range c.report.Findings {
		if f.Rule == "check-regressed" || (slices.Contains(ofRecord, f.Rule) || strings.HasSuffix(f.Rule, "-undeliverable")) && f.Stack != before.Name {
			return false
		}
		if t := before.Things[f.LogicalID]; f.Stack == before.Name && slices.Contains(ofRecord, f.Rule) && (t == nil || c.now(t) != nil) {
			return false // something of the record stays, and is less than it was
		}
	}
	var gone []*estate.Thing
	for _, t := range before.Things {
		if c.now(t) == nil {
			gone = append(gone, t)
		}
	}
	words := names(gone)
	for _, t := range gone {
		if t.Kind == estate.KindRule && !c.heard(t, words) {
			return false
		}
	}
	return true
}

// drop removes findings.
func (c *comparison) drop(which func(finding.Finding) bool) {
	c.report.Findings = slices.DeleteFunc(c.report.Findings, which)
}
