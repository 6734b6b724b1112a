// Package guard compares a new set of templates with the deployed one, and finds
// what would hurt a running cluster, its key, or the record of the key's use.
//
// What a property change does is taken from the AWS CloudFormation Template
// Reference ("Update requires"); whether a policy is wider is decided by package
// iampolicy. Nothing was tried on AWS.
package guard

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/value"
)

// comparison holds what the rules share.
type comparison struct {
	before, after *estate.Estate
	opts          Options
	// stacks are the templates after, by those before.
	stacks map[*estate.Stack]*estate.Stack
	// compared are the keys after whose policies were compared with those before.
	compared map[*estate.Thing]bool
	report   finding.Report
}

// Options are those of [Compare].
type Options struct {
	// Accepted are findings that are meant.
	Accepted []finding.Suppression
	// Organization are the policies of the organization, before and after: see
	// [iampolicy.Policies].
	Organization []iampolicy.NamedDocument
	// Gone says how a resource is gone. Default: from the templates.
	Gone func(*estate.Thing) string
}

// Compare reports what the change from one assembly to another would do. Both
// must be read for the same account and Region. Stacks are compared by their
// names, resources by their logical IDs; two single templates are taken for the
// same stack. The error is something accepted that is not valid.
func Compare(before, after *estate.Estate, opts Options) (*finding.Report, error) {
	for _, s := range opts.Accepted {
		if err := Validate(s); err != nil {
			return nil, err
		}
	}
	cases, err := estate.Cases(after, before)
	if err != nil {
		return nil, err
	}
	var reports []*finding.Report
	for _, one := range cases {
		after, before := one.Estates[0], one.Estates[1]
		report, err := compare(before, after, opts)
		if err != nil {
			return nil, err
		}
		if names := renames(before, after); len(names) > 0 {
			if err := withoutConsequences(report, before, after, names, opts); err != nil {
				return nil, err
			}
		}
		reports = append(reports, report)
	}
	report := finding.Merge(reports, func(holds func(i int) bool) string { return estate.When(cases, holds) })
	for _, unused := range report.Suppress(opts.Accepted) {
		report.NoteAt(unused.Resource, "nothing was found of %s, which is accepted", unused.ID)
	}
	report.Sort()
	return report, nil
}

func newComparison(before, after *estate.Estate) *comparison {
	c := &comparison{before: before, after: after, stacks: map[*estate.Stack]*estate.Stack{}, compared: map[*estate.Thing]bool{}}
	c.report.Tool, c.report.Rules = "ekskms guard", Rules()
	c.match()
	return c
}

func compare(before, after *estate.Estate, opts Options) (*finding.Report, error) {
	c := newComparison(before, after)
	c.opts = opts
	for _, side := range []*estate.Estate{before, after} {
		for _, t := range side.Stacks {
			for _, caveat := range t.Caveats {
				c.note("", "%s", caveat)
			}
		}
	}
	for _, n := range after.Notes {
		c.note(n.Resource, "%s", n.Message)
	}
	clusters := c.clusters()
	c.keys(clusters)
	c.record()
	c.reach()
	if err := c.checks(); err != nil {
		return nil, err
	}
	c.movedAlarms("the rule hears less")
	c.movedAlarms("EventSelectors ")
	c.movedRecord()
	c.movedAlarms("the rule goes")
	c.goneClusters()
	c.withStack()
	return &c.report, nil
}

func (c *comparison) match() {
	if len(c.before.Stacks) == 1 && len(c.after.Stacks) == 1 {
		c.stacks[c.before.Stacks[0]] = c.after.Stacks[0]
		return
	}
	for _, b := range c.before.Stacks {
		moved := false
		for _, a := range c.after.Stacks {
			if a.Name != b.Name {
				continue
			}
			if moved = elsewhere(b, a); !moved {
				c.stacks[b] = a
			}
		}
		if c.stacks[b] == nil && !moved {
			c.note("", "stack %s is not among the new templates: CloudFormation keeps it until somebody deletes it", b.Name)
		}
	}
}

// now finds the resource after that a resource before becomes. Nil if it goes.
func (c *comparison) now(r *estate.Thing) *estate.Thing {
	t := c.stacks[r.In]
	if t == nil {
		return nil
	}
	if same := t.Things[r.LogicalID]; same != nil && same.Type == r.Type {
		return same
	}
	return nil
}

// earlier finds the resource before that becomes a resource after. Nil if that is new.
func (c *comparison) earlier(r *estate.Thing) *estate.Thing {
	for before, after := range c.stacks {
		if old := before.Things[r.LogicalID]; after == r.In && old != nil && old.Type == r.Type {
			return old
		}
	}
	return nil
}

// gone says how a resource goes.
func (c *comparison) gone(r *estate.Thing) string {
	t := c.stacks[r.In]
	switch {
	case c.opts.Gone != nil:
		return c.opts.Gone(r)
	case t == nil:
		return notAmong(r.In)
	case t.Things[r.LogicalID] != nil:
		return fmt.Sprintf("its logical ID %s is now a %s", r.LogicalID, t.Things[r.LogicalID].Type)
	case strings.HasPrefix(r.Deletion, "Retain"):
		return fmt.Sprintf("its logical ID %s is gone; DeletionPolicy %s leaves it running, outside the stack, and a resource that takes its place is a new one", r.LogicalID, r.Deletion)
	}
	return fmt.Sprintf("its logical ID %s is gone, and DeletionPolicy %s does not keep it", r.LogicalID, cmp.Or(r.Deletion, "Delete (the default)"))
}

func (c *comparison) find(id string, r *estate.Thing, format string, args ...any) {
	c.report.Add(c.rule(id), r.Place, format, args...)
}

func (c *comparison) rule(id string) finding.Rule {
	rule := rules[slices.IndexFunc(rules, func(rule finding.Rule) bool { return rule.ID == id })]
	rule.Controls = nil
	return rule
}

// lost reports a setting that is not known any more: it counts as changed.
func (c *comparison) lost(rule string, r *estate.Thing, name string, old, new any) bool {
	if !value.IsOpen(new) || reflect.DeepEqual(old, new) {
		return false
	}
	c.find(rule, r, "%s changes from %s to %s, which is not in the template", name, value.Show(old), value.Show(new))
	return true
}

func (c *comparison) note(resource, format string, args ...any) {
	c.report.NoteAt(resource, format, args...)
}

// covered are the checks whose new findings the comparison tells better itself.
var covered = map[string]string{ //nolint:gosec // names of rules
	"trail-missing": "trail-weakened", "trail-not-logging": "trail-weakened", "trail-excludes-kms": "trail-weakened",
	"trail-no-validation": "trail-weakened", "trail-not-encrypted": "trail-weakened", "trail-logs-deletable": "retention-weakened",
	"tamper-alarm-missing": "alarm-removed", "trail-tamper-alarm-missing": "alarm-removed", "audit-log-off": "control-plane-log-weakened",
	"endpoint-public": "endpoint-opened", "key-rotation-off": "rotation-weakened", "key-rotation-slow": "rotation-weakened",
	"key-deletable": "retention-weakened", "key-deletion-window-short": "retention-weakened",
	"secrets-not-encrypted": "encryption-config-changed", "encrypted-resources-wrong": "encryption-config-changed", "secrets-key-unsuitable": "key-replaced",
	"key-policy-any-principal": "policy-widened", "key-policy-cross-account": "policy-widened", "key-policy-all-actions": "policy-widened",
	"crypto-delegated-to-iam": "policy-widened", "grants-unrestricted": "policy-widened", "use-without-context": "policy-widened",
	"key-no-durable-admin": "principal-dropped", "cluster-creator-missing": "principal-dropped", "cluster-role-missing": "principal-dropped",
	"policy-not-understood": "policy-not-understood",
	"cluster-locked-out":    "cluster-locked-out", "key-creation-refused": "key-creation-refused", "key-lockout-check-bypassed": "key-lockout-check-bypassed",
	"alarm-undeliverable": "alarm-undeliverable", "trail-undeliverable": "trail-undeliverable", "trust-never-matches": "trust-never-matches",
}

// checks compares what package check finds on both sides. What it newly finds, and
// the comparison did not find as something else, is a finding here as well.
func (c *comparison) checks() error {
	before, err := check.Run(c.before, check.Options{Organization: c.opts.Organization})
	if err != nil {
		return fmt.Errorf("the deployed template: %w", err)
	}
	now, err := check.Run(c.after, check.Options{Organization: c.opts.Organization})
	if err != nil {
		return fmt.Errorf("the new template: %w", err)
	}
	c.report.Checked = now.Checked
	old := map[string]bool{}
	for _, f := range before.Findings {
		old[f.Rule+" "+f.LogicalID+" "+f.Message] = true
	}
	told := map[string]bool{}
	for _, f := range c.report.Findings {
		told[f.Stack+" "+f.Rule] = true
	}
	for _, f := range now.Findings {
		resource := c.resource(f)
		if old[f.Rule+" "+f.LogicalID+" "+f.Message] || f.Suppressed != "" || resource == nil {
			continue
		}
		id := cmp.Or(covered[f.Rule], "check-regressed")
		if told[f.Stack+" "+id] && (c.earlier(resource) != nil || ofOthers[f.Rule] != nil) {
			continue
		}
		if id != f.Rule && !c.had(f.Rule, resource) {
			id = "check-regressed" // what was not there was not weakened
		}
		if id == "policy-widened" || id == "principal-dropped" {
			if c.compared[resource] {
				continue // the evaluator has said what there is to say
			}
			id = "check-regressed"
		}
		if id == f.Rule {
			c.find(id, resource, "%s", f.Message)
		} else {
			c.find(id, resource, "%s: %s", f.Rule, f.Message)
		}
	}
	c.suppressions()
	return nil
}

// ofOthers are the rules that find on a resource what others are to do for it, of which
// there must have been one that could be weakened.
var ofOthers = map[string][]estate.Kind{
	"trail-missing":        {estate.KindTrail},
	"tamper-alarm-missing": {estate.KindRule, estate.KindMetricFilter}, "trail-tamper-alarm-missing": {estate.KindRule, estate.KindMetricFilter},
}

// had tells whether that of which a rule has found something was there before.
func (c *comparison) had(rule string, r *estate.Thing) bool {
	of := ofOthers[rule]
	return c.earlier(r) != nil && (of == nil || slices.ContainsFunc(of, func(kind estate.Kind) bool { return len(c.before.Of(kind)) > 0 }))
}

func (c *comparison) resource(f finding.Finding) *estate.Thing {
	for _, t := range c.after.Stacks {
		if t.Name == f.Stack {
			return t.Things[f.LogicalID]
		}
	}
	return nil
}

func (c *comparison) suppressions() {
	old := map[string]bool{}
	// check.Run has refused what can't be read.
	_ = check.InMetadata(c.before, func(t *estate.Thing, s finding.Suppression) { old[t.LogicalID+" "+s.ID] = true })
	_ = check.InMetadata(c.after, func(t *estate.Thing, s finding.Suppression) {
		if !old[t.LogicalID+" "+s.ID] {
			c.find("check-suppressed", t, "%s is accepted: %s", s.ID, s.Reason)
		}
	})
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
