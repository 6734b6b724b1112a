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
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/eksversion"
	"github.com/ekskms/ekskms/internal/iampolicy"
)

//go:generate go run ./gen

// Severity says how much a finding matters.
type Severity int

// The severities, in rising order.
const (
	Low Severity = iota + 1
	Medium
	High
	Critical
)

var severityNames = map[Severity]string{Low: "low", Medium: "medium", High: "high", Critical: "critical"}

// String returns low, medium, high or critical.
func (s Severity) String() string { return severityNames[s] }

// MarshalText writes the severity as [Severity.String] does.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *Severity) UnmarshalText(text []byte) error {
	for severity, name := range severityNames {
		if name == string(text) {
			*s = severity
			return nil
		}
	}
	return fmt.Errorf("severity is %q, must be low, medium, high or critical", text)
}

// Control is a requirement of a published framework.
type Control struct {
	// Framework and its version, such as "NIST SP 800-53 Rev. 5".
	Framework string `json:"framework"`
	ID        string `json:"id"`
	Title     string `json:"title"`
	// Source is the address of the page that publishes the control.
	Source string `json:"source"`
	// Inferred tells that the framework does not name this fault: that the
	// control covers it is our reading.
	Inferred bool `json:"inferred,omitempty"`
}

// Rule is one thing that can be wrong. Its ID is a public contract: suppressions
// name it.
type Rule struct {
	ID, Title string
	Severity  Severity
	// Why says what can happen, and Fix what to change.
	Why, Fix string
	Controls []Control
}

// Finding is a fault in a template.
type Finding struct {
	// Rule is the rule's ID.
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	// Resource is the construct path of CDK without a last "/Resource", or else
	// the logical ID.
	Resource  string `json:"resource"`
	LogicalID string `json:"logicalId"`
	Type      string `json:"type"`
	// Stack is the name of the stack, or of the template's file.
	Stack string `json:"stack"`
	// File is the template, or the configuration of which it is made. Line is that of the
	// resource, or of the field, from 1; 0 if it is not known.
	File string `json:"file"`
	Line int    `json:"line,omitempty"`
	// Field of the configuration. Empty for a template.
	Field string `json:"field,omitempty"`
	// Message names the value that is wrong.
	Message  string    `json:"message"`
	Why      string    `json:"why"`
	Fix      string    `json:"fix"`
	Controls []Control `json:"controls"`
	// Suppressed is the reason of the suppression that covers the finding. Empty
	// if none does.
	Suppressed string `json:"suppressed,omitempty"`
}

// Note says what could not be judged, or what a reader must know to judge the
// report.
type Note struct {
	// Resource is the path of the resource. Empty if the note is of the whole.
	Resource string `json:"resource,omitempty"`
	Message  string `json:"message"`
}

// Checked lists what was looked at, by path.
type Checked struct {
	// Clusters are all EKS clusters. Keys are those keys of the template that
	// encrypt a cluster's secrets, its logs or a trail.
	Clusters []string `json:"clusters"`
	Keys     []string `json:"keys"`
	Trails   []string `json:"trails"`
	// Manifests counts the Kubernetes objects in the templates.
	Manifests int `json:"manifests"`
}

// Report is what [Run] found.
type Report struct {
	// Tool is the name of the program for the reader, and Rules are all that it
	// could have found.
	Tool  string `json:"-"`
	Rules []Rule `json:"-"`
	// Findings, the worst first, then by resource, rule and message.
	Findings []Finding `json:"findings"`
	Notes    []Note    `json:"notes"`
	Checked  Checked   `json:"checked"`
}

// Count returns the number of findings that are not suppressed, of a severity or
// worse.
func (r *Report) Count(atLeast Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Suppressed == "" && f.Severity >= atLeast {
			n++
		}
	}
	return n
}

// Suppression accepts findings, for a reason.
type Suppression struct {
	// ID of the rule.
	ID string
	// Resource is a path, or the start of one up to a slash, a logical ID, or a stack.
	// Default: every resource.
	Resource string
	// Reason is for the reader of the report. Required.
	Reason string
}

// Options of [Run].
type Options struct {
	// Suppressions apply beside those in the metadata of resources.
	Suppressions []Suppression
	// Organization are the policies of the organization: see [iampolicy.Policies].
	Organization []iampolicy.NamedDocument
	// Now is when support of Kubernetes versions is judged. Default: eksversion.Now.
	Now time.Time
}

// MetadataKey is the key in a resource's Metadata under which suppressions for
// that resource stand: {"suppress": [{"id": "...", "reason": "..."}]}.
const MetadataKey = "ekskms:checks"

// Validate returns an error that names what is wrong with the suppression: an ID
// that no rule has, or no reason.
func (s Suppression) Validate() error {
	if _, known := ruleByID[s.ID]; !known {
		return fmt.Errorf("suppression of %q: there is no such check, must be one of %s", s.ID, strings.Join(ruleIDs(), ", "))
	}
	if strings.TrimSpace(s.Reason) == "" {
		return fmt.Errorf("suppression of %q has no reason: say why the finding is accepted", s.ID)
	}
	return nil
}

// Covers tells whether the suppression is for the finding.
func (s Suppression) Covers(f Finding) bool {
	// Paths of CDK often end so; those of findings do not.
	at := strings.TrimSuffix(strings.TrimSuffix(s.Resource, "/"), "/Resource")
	return s.ID == f.Rule && (at == "" || at == f.Resource || at == f.LogicalID || at == f.Stack || strings.HasPrefix(f.Resource, at+"/"))
}

// Run checks all templates of an assembly together. An error is a suppression
// that is not valid; faults of the templates are findings.
func Run(assembly *cfn.Assembly, opts Options) (*Report, error) {
	for _, s := range opts.Suppressions {
		if err := s.Validate(); err != nil {
			return nil, err
		}
	}
	if opts.Now.IsZero() {
		opts.Now = eksversion.Now()
	}
	c := &checker{assembly: assembly, documents: map[*cfn.Resource]iampolicy.NamedDocument{}, now: opts.Now, organization: opts.Organization, report: Report{Tool: "ekskms check", Rules: Rules()}}
	suppressions, err := collect(assembly, opts.Suppressions)
	if err != nil {
		return nil, err
	}
	c.run()
	c.suppress(suppressions)
	slices.SortStableFunc(c.report.Findings, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(b.Severity, a.Severity), cmp.Compare(a.Stack, b.Stack), cmp.Compare(a.Resource, b.Resource),
			cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message))
	})
	return &c.report, nil
}

// scoped is a suppression with where it stands.
type scoped struct {
	Suppression
	// on is the resource that carries it, nil for one of the configuration.
	on   *cfn.Resource
	used bool
}

func collect(assembly *cfn.Assembly, configured []Suppression) ([]*scoped, error) {
	var all []*scoped
	for _, s := range configured {
		all = append(all, &scoped{Suppression: s})
	}
	for _, t := range assembly.Templates {
		for _, id := range sortedKeys(t.Resources) {
			r := t.Resources[id]
			found, err := InMetadata(r)
			if err != nil {
				return nil, err
			}
			for _, s := range found {
				all = append(all, &scoped{Suppression: s, on: r})
			}
		}
	}
	return all, nil
}

// InMetadata returns the suppressions that stand in the metadata of a resource.
func InMetadata(r *cfn.Resource) ([]Suppression, error) {
	value, there := r.Metadata[MetadataKey]
	if !there {
		return nil, nil
	}
	found, err := readMetadata(value)
	if err != nil {
		return nil, fmt.Errorf("%s: Metadata %q: %w", r.Path, MetadataKey, err)
	}
	return found, nil
}

// readMetadata is strict: a misspelt field would leave a finding unsuppressed,
// or a suppression without its reason.
func readMetadata(value any) ([]Suppression, error) {
	form := errors.New(`must be {"suppress": [{"id": "...", "reason": "..."}]}`)
	object, ok := value.(map[string]any)
	list, ok2 := object["suppress"].([]any)
	if !ok || !ok2 || len(object) != 1 {
		return nil, form
	}
	var found []Suppression
	for _, e := range list {
		entry, ok := e.(map[string]any)
		id, ok2 := entry["id"].(string)
		reason, ok3 := entry["reason"].(string)
		if !ok || !ok2 || !ok3 || len(entry) != 2 {
			return nil, form
		}
		s := Suppression{ID: id, Reason: reason}
		if err := s.Validate(); err != nil {
			return nil, err
		}
		found = append(found, s)
	}
	return found, nil
}

func (c *checker) suppress(all []*scoped) {
	for i := range c.report.Findings {
		f := &c.report.Findings[i]
		for _, s := range all {
			if !s.Covers(*f) || s.on != nil && (s.on.ID != f.LogicalID || s.on.Template.Name != f.Stack) {
				continue
			}
			s.used = true
			if f.Suppressed == "" {
				f.Suppressed = s.Reason
			}
		}
	}
	for _, s := range all {
		if s.used {
			continue
		}
		where := s.Resource
		if s.on != nil {
			where = s.on.Path
		}
		c.noteAt(where, "the suppression of %s covers no finding: remove it", s.ID)
	}
}

// checker holds what the rules share.
type checker struct {
	assembly *cfn.Assembly
	now      time.Time
	// organization are the policies of the organization.
	organization []iampolicy.NamedDocument
	report       Report
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
		if arn := text(cl.keyARN); cl.key == nil && arn != "" {
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
	note := Note{resource, fmt.Sprintf(format, args...)}
	if !slices.Contains(c.report.Notes, note) {
		c.report.Notes = append(c.report.Notes, note)
	}
}

// find reports a finding once.
func (c *checker) find(id string, r *cfn.Resource, format string, args ...any) {
	rule, known := ruleByID[id]
	if !known {
		panic("check: no rule " + id)
	}
	f := Finding{
		Rule: id, Severity: rule.Severity,
		Resource: r.Path, LogicalID: r.ID, Type: r.Type, Stack: r.Template.Name, File: r.Template.File, Line: r.Line,
		Message: fmt.Sprintf(format, args...), Why: rule.Why, Fix: rule.Fix, Controls: rule.Controls,
	}
	for _, other := range c.report.Findings {
		if other.Rule == f.Rule && other.Resource == f.Resource && other.Stack == f.Stack && other.Message == f.Message {
			return
		}
	}
	c.report.Findings = append(c.report.Findings, f)
}
