// Package check finds what is wrong with the secrets encryption of an EKS
// cluster, in any CloudFormation template: the cluster, its key and the key's
// policy, the trail that records the key's use, the alarms on tampering, and the
// Kubernetes objects that the template holds.
//
// A finding is reported only where the template itself shows the fault. What
// the template leaves open, such as a key that is imported from elsewhere, is a
// note. So an empty report means something only together with [Report.Checked]
// and [Report.Notes].
package check

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ekskms/ekskms/internal/eksversion"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/iampolicy"
)

//go:generate go run ./gen

// Options of [Run].
type Options struct {
	// Suppressions apply beside those in the metadata of resources.
	Suppressions []finding.Suppression
	// Organization are the policies of the organization: see [iampolicy.Policies].
	Organization []iampolicy.NamedDocument
	// RolesElsewhere takes alarms on roles to be in another app, and does not note that these
	// templates have none.
	RolesElsewhere bool
	// Now is when support of Kubernetes versions is judged. Default: eksversion.Now.
	Now time.Time
}

// MetadataKey is the key in a resource's Metadata under which suppressions for
// that resource stand: {"suppress": [{"id": "...", "reason": "..."}]}.
const MetadataKey = "ekskms:checks"

// Validate returns an error that names what is wrong with a suppression: an ID
// that no rule has, or no reason.
func Validate(s finding.Suppression) error {
	if _, known := ruleByID[s.ID]; !known {
		return fmt.Errorf("suppression of %q: there is no such check, must be one of %s", s.ID, strings.Join(ruleIDs(), ", "))
	}
	if strings.TrimSpace(s.Reason) == "" {
		return fmt.Errorf("suppression of %q has no reason: say why the finding is accepted", s.ID)
	}
	return nil
}

// Run checks all that there is together. An error is a suppression that is not valid;
// faults are findings.
func Run(all *estate.Estate, opts Options) (*finding.Report, error) {
	for _, s := range opts.Suppressions {
		if err := Validate(s); err != nil {
			return nil, err
		}
	}
	if opts.Now.IsZero() {
		opts.Now = eksversion.Now()
	}
	cases, err := estate.Cases(all)
	if err != nil {
		return nil, err
	}
	var reports []*finding.Report
	for _, one := range cases {
		c := &checker{
			estate: one.Estates[0], now: opts.Now, organization: opts.Organization, rolesElsewhere: opts.RolesElsewhere,
			report: finding.Report{Tool: "ekskms check", Rules: Rules(), Notes: slices.Clone(one.Estates[0].Notes)},
		}
		c.run()
		reports = append(reports, &c.report)
	}
	report := finding.Merge(reports, func(holds func(i int) bool) string { return estate.When(cases, holds) })
	suppressions := slices.Clone(opts.Suppressions)
	if err := InMetadata(all, func(_ *estate.Thing, s finding.Suppression) { suppressions = append(suppressions, s) }); err != nil {
		return nil, err
	}
	for _, s := range report.Suppress(suppressions) {
		where := s.Resource
		if s.On != nil {
			where = s.On.Resource
		}
		report.NoteAt(where, "the suppression of %s covers no finding: remove it", s.ID)
	}
	report.Sort()
	return report, nil
}

// InMetadata visits the suppressions that stand in the metadata of things.
func InMetadata(e *estate.Estate, visit func(t *estate.Thing, s finding.Suppression)) error {
	return e.Metadata(MetadataKey, func(t *estate.Thing, v any) error {
		found, err := readMetadata(v)
		for _, s := range found {
			s.On = &t.Place
			visit(t, s)
		}
		return err
	})
}

// readMetadata is strict: a misspelt field would leave a finding unsuppressed,
// or a suppression without its reason.
func readMetadata(value any) ([]finding.Suppression, error) {
	form := errors.New(`must be {"suppress": [{"id": "...", "reason": "..."}]}`)
	object, ok := value.(map[string]any)
	list, ok2 := object["suppress"].([]any)
	if !ok || !ok2 || len(object) != 1 {
		return nil, form
	}
	var found []finding.Suppression
	for _, e := range list {
		entry, ok := e.(map[string]any)
		id, ok2 := entry["id"].(string)
		reason, ok3 := entry["reason"].(string)
		if !ok || !ok2 || !ok3 || len(entry) != 2 {
			return nil, form
		}
		s := finding.Suppression{ID: id, Reason: reason}
		if err := Validate(s); err != nil {
			return nil, err
		}
		found = append(found, s)
	}
	return found, nil
}

// checker holds what the rules share.
type checker struct {
	estate *estate.Estate
	now    time.Time
	// organization are the policies of the organization.
	organization []iampolicy.NamedDocument
	// rolesElsewhere is described at [Options].
	rolesElsewhere bool
	report         finding.Report
	alarms         []alarm
	rules          []*estate.Thing // of EventBridge, that count for alarms
	metricAlarms   []*estate.Thing // of CloudWatch, likewise
	volumes        []volume
	readers        map[roleOf]bool // of secrets
}

func (c *checker) run() {
	c.findAlarms()
	c.findReaders()
	c.findVolumes()
	var jobs []func(*checker)
	each := func(judge func(*checker)) { jobs = append(jobs, judge) }
	for _, cl := range c.estate.Clusters {
		each(func(c *checker) {
			c.report.Checked.Clusters = []string{cl.Resource}
			c.checkCluster(cl)
			if arn := text(cl.KeyARN); cl.Key == nil && arn != "" && !unknown(arn) && !ofAWS(arn) {
				c.checkRecorded(cl.Thing)
				c.checkKeyAlarms(cl.Thing, arn)
			}
		})
	}
	for _, k := range c.estate.Keys {
		if len(k.Clusters) == 0 && !k.Evidence {
			continue
		}
		each(func(c *checker) {
			c.report.Checked.Keys = []string{k.Resource}
			c.checkKey(k)
			if len(k.Clusters) > 0 {
				c.checkKeyPolicy(k)
				c.checkRecorded(k.Thing)
				c.checkKeyAlarms(k.Thing, k.ARN)
			}
		})
	}
	for _, t := range c.estate.Of(estate.KindTrail) {
		each(func(c *checker) {
			c.checkTrail(t)
			c.checkTrailAlarms(t)
			c.checkDelivery(t)
		})
	}
	each((*checker).checkAlarmDelivery)
	each((*checker).checkVolumes)
	for _, r := range c.estate.Of(estate.KindAssociation) {
		each(func(c *checker) { c.checkAssociation(r) })
	}
	for _, p := range c.estate.IdentityPolicies() {
		each(func(c *checker) { c.checkIdentity(p) })
	}
	for _, r := range c.estate.Of(estate.KindKubernetes) {
		each(func(c *checker) { c.checkManifest(r) })
	}
	c.together(jobs)
	c.noteUnseen()
}

// together runs jobs at once, and puts together what they report in their order. A panic in
// one is a panic here.
func (c *checker) together(jobs []func(*checker)) {
	reports := make([]*finding.Report, len(jobs))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, judge := range jobs {
		group.Go(func() (err error) {
			defer func() {
				if r := recover(); r != nil { // it is the caller's to recover
					err = fmt.Errorf("%v\n%s", r, debug.Stack())
				}
			}()
			own := *c
			own.report = finding.Report{}
			judge(&own)
			reports[i] = &own.report
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		panic(err)
	}
	c.report.Append(reports)
}

// noteUnseen says what a reader could take for judged.
func (c *checker) noteUnseen() {
	if len(c.estate.Clusters) == 0 {
		c.noteAt("", "there is no EKS cluster in the templates (AWS::EKS::Cluster or Custom::AWSCDK-EKS-Cluster): nothing was said on one, nor on a key of one")
	}
	onRoles := func(a alarm) bool { return slices.Contains(a.names, "UpdateAssumeRolePolicy") }
	if !c.rolesElsewhere && len(c.estate.Clusters) > 0 && len(c.alarms) > 0 && !slices.ContainsFunc(c.alarms, onRoles) {
		c.noteAt("", "no alarm in these templates tells of changes of the roles that may use the key or the cluster: IAM's events are in one Region of a partition, for which 'ekskms generate role-watch' prints a stack")
	}
	for _, r := range c.estate.Of(estate.KindClusterNotRead) {
		c.noteAt(r.Resource, "clusters of the type %s are not read: it was not judged", r.Type)
	}
	for _, t := range c.estate.Stacks {
		for _, caveat := range t.Caveats {
			c.noteAt("", "%s", caveat)
		}
		if t.Assumed {
			c.noteAt("", "the account and the Region of %s are not known: it was read as for account %s in %s; name them with --account and --region", t.Name, t.Account, t.Region)
		}
	}
	alarmed := map[*estate.Key]bool{} // whose policies the delivery of alarms, or the start of nodes, has judged
	for _, t := range c.estate.Of(estate.KindTopic) {
		alarmed[c.estate.Key(t.Settings["KmsMasterKeyId"])] = true
	}
	for _, v := range c.volumes {
		alarmed[c.estate.Key(v.key)] = true
	}
	unused := 0
	for _, k := range c.estate.Keys {
		if len(k.Clusters) == 0 && !k.Evidence && !k.Replica && !alarmed[k] {
			unused++
		}
	}
	if unused > 0 {
		c.noteAt("", "%d KMS key(s) encrypt neither the secrets of a cluster nor its logs, its disks, a trail or a topic: they were not judged", unused)
	}
}

func (c *checker) noteAt(resource, format string, args ...any) {
	c.report.NoteAt(resource, format, args...)
}

// open says that something is not known, of which a finding could be. In a plan that is a
// finding itself: there is a way to know it, and what is not known can allow anything.
func (c *checker) open(on *estate.Thing, format string, args ...any) {
	if c.estate.Planned {
		c.find("known-after-apply", on, format, args...)
		return
	}
	c.noteAt(on.Resource, format, args...)
}

// find reports a finding once.
func (c *checker) find(id string, r *estate.Thing, format string, args ...any) {
	rule, known := ruleByID[id]
	if !known {
		panic("check: no rule " + id)
	}
	c.report.Add(rule, r.Place, format, args...)
}
