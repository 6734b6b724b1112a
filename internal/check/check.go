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
	"slices"
	"strings"
	"time"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/eksversion"
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

// Types are the types of resources whose conditions are judged in each case, in the order
// of their weight.
var Types = []string{
	typeCluster, typeClusterCDK, typeKey, typeReplica, "AWS::KMS::Alias", "AWS::CloudTrail::Trail", "AWS::IAM::Role", "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy",
	"AWS::IAM::RolePolicy", "AWS::EKS::PodIdentityAssociation", "AWS::EKS::Nodegroup", "AWS::S3::Bucket", "AWS::S3::BucketPolicy",
	"AWS::Events::Rule", "AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "AWS::Logs::MetricFilter", "AWS::CloudWatch::Alarm", "AWS::Logs::LogGroup",
}

// Run checks all templates of an assembly together. An error is a suppression
// that is not valid; faults of the templates are findings.
func Run(assembly *cfn.Assembly, opts Options) (*finding.Report, error) {
	for _, s := range opts.Suppressions {
		if err := Validate(s); err != nil {
			return nil, err
		}
	}
	if opts.Now.IsZero() {
		opts.Now = eksversion.Now()
	}
	cases, err := cfn.CasesOf(Types, assembly)
	if err != nil {
		return nil, err
	}
	var reports []*finding.Report
	for _, one := range cases {
		c := &checker{
			assembly: one.Assemblies[0], documents: map[*cfn.Resource]iampolicy.NamedDocument{}, now: opts.Now, organization: opts.Organization,
			report: finding.Report{Tool: "ekskms check", Rules: Rules()},
		}
		c.run()
		reports = append(reports, &c.report)
	}
	report := finding.Merge(reports, func(holds func(i int) bool) string { return cfn.When(cases, holds) })
	suppressions := slices.Clone(opts.Suppressions)
	for _, t := range assembly.Templates {
		for _, id := range sortedKeys(t.Resources) {
			found, err := InMetadata(t.Resources[id])
			if err != nil {
				return nil, err
			}
			suppressions = append(suppressions, found...)
		}
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

// InMetadata returns the suppressions that stand in the metadata of a resource.
func InMetadata(r *cfn.Resource) ([]finding.Suppression, error) {
	value, there := r.Metadata[MetadataKey]
	if !there {
		return nil, nil
	}
	found, err := readMetadata(value)
	if err != nil {
		return nil, fmt.Errorf("%s: Metadata %q: %w", r.Path, MetadataKey, err)
	}
	at := r.Place()
	for i := range found {
		found[i].On = &at
	}
	return found, nil
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
	assembly *cfn.Assembly
	now      time.Time
	// organization are the policies of the organization.
	organization []iampolicy.NamedDocument
	report       finding.Report
	clusters     []*cluster
	keys         []*usedKey
	trails       []*cfn.Resource
	alarms       []alarm
	rules        []*cfn.Resource // of EventBridge, that count for alarms
	// documents are the policies that were read for calls.
	documents map[*cfn.Resource]iampolicy.NamedDocument
	// policies are the IAM policies of the templates, and attached those of each
	// role.
	policies []*identityPolicy
	attached map[*cfn.Resource][]*identityPolicy
	// noCreator are the roles that create no cluster, with what they are for.
	noCreator map[*cfn.Resource]string
}

func (c *checker) run() {
	c.trails = c.assembly.OfType("AWS::CloudTrail::Trail")
	c.findClusters()
	c.findKeys()
	c.findAlarms()
	c.findIdentities()
	for _, cl := range c.clusters {
		c.checkCluster(cl)
		if arn := text(cl.keyARN); cl.key == nil && arn != "" && !ofAWS(arn) {
			c.checkRecorded(cl.Resource)
			c.checkKeyAlarms(cl.Resource, arn)
		}
	}
	for _, k := range c.keys {
		c.checkKey(k)
		if len(k.clusters) > 0 {
			c.checkKeyPolicy(k)
			c.checkRecorded(k.Resource)
			c.checkKeyAlarms(k.Resource, k.ARN)
		}
	}
	for _, t := range c.trails {
		c.checkTrail(t)
		c.checkTrailAlarms(t)
		c.checkDelivery(t)
	}
	c.checkAlarmDelivery()
	for _, r := range c.assembly.OfType("AWS::EKS::PodIdentityAssociation") {
		c.checkAssociation(r)
	}
	c.checkIdentities()
	for _, r := range c.assembly.OfType(typeManifest) {
		c.checkManifest(r)
	}
	c.noteUnseen()
}

// noteUnseen says what a reader could take for judged.
func (c *checker) noteUnseen() {
	if len(c.clusters) == 0 {
		c.noteAt("", "there is no EKS cluster in the templates (%s or %s): nothing was said on one, nor on a key of one", typeCluster, typeClusterCDK)
	}
	for _, r := range c.assembly.OfType("AWSQS::EKS::Cluster") {
		c.noteAt(r.Path, "clusters of the type %s are not read: it was not judged", r.Type)
	}
	for _, t := range c.assembly.Templates {
		for _, caveat := range t.Caveats() {
			c.noteAt("", "%s", caveat)
		}
		if t.Assumed {
			c.noteAt("", "the account and the Region of %s are not known: it was read as for account %s in %s; name them with --account and --region", t.Name, t.Account, t.Region)
		}
	}
	if unused := len(c.assembly.OfType(typeKey)) - len(c.report.Checked.Keys); unused > 0 {
		c.noteAt("", "%d KMS key(s) encrypt neither the secrets of a cluster nor its logs or a trail: they were not judged", unused)
	}
}

func (c *checker) noteAt(resource, format string, args ...any) {
	c.report.NoteAt(resource, format, args...)
}

// find reports a finding once.
func (c *checker) find(id string, r *cfn.Resource, format string, args ...any) {
	rule, known := ruleByID[id]
	if !known {
		panic("check: no rule " + id)
	}
	c.report.Add(rule, r.Place(), format, args...)
}
