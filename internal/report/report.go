// Package report makes a page of what a template, a plan, a configuration or an account says of
// the encryption of its clusters: one HTML file that asks for nothing from anywhere, or Markdown.
package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/evidence"
	"github.com/ekskms/ekskms/internal/explain"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/guard"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/value"
)

// Input is what the page is about.
type Input struct {
	// Source says what was read, such as the name of a file.
	Source string
	Now    *estate.Estate
	// Before is what it is compared with, and Against says what that is. Nil: with nothing.
	Before  *estate.Estate
	Against string
	// Findings are what was found. Nil: what check finds.
	Findings     *finding.Report
	Suppressions []finding.Suppression
	Organization []iampolicy.NamedDocument
	// Cost are the lines of an estimate, and its sum in USD a month. Empty: not known.
	Cost     []Cost
	Total    float64
	CostNote string
	// Evidence is what CloudTrail recorded of the key. Nil: not given.
	Evidence *evidence.Report
	Version  string
	// Words puts the texts of findings into those of what was read. Nil: of templates.
	Words func(string) string
}

// Cost is a line of an estimate.
type Cost struct {
	Item string
	USD  float64
}

// Verdict is an answer.
type Verdict string

// The verdicts.
const (
	Yes     Verdict = "yes"
	No      Verdict = "no"
	Partly  Verdict = "partly"
	Unknown Verdict = "not known"
)

// Answer is one to a question that a person has, with where the proof is on the page.
type Answer struct {
	Question string
	Verdict  Verdict
	Text     string
	Proof    string
}

// Cluster is one of the page.
type Cluster struct {
	ID, Name, Account, Region string
	Answers                   []Answer
	// Facts are columns of the table of clusters. Outlier tells which differ from most.
	Facts []Fact
	// Counts are the findings on it by severity.
	Counts map[string]int
}

// Fact is one of a cluster.
type Fact struct {
	Name, Value string
	Outlier     bool
}

// Key is a key with who may use it.
type Key struct {
	ID     string
	Title  string
	Layout *explain.Layout
	People []Person
	Notes  []string
}

// Person is a principal of a key.
type Person struct {
	Letter, ARN, What, IAM, Decided, More string
	// Reach is what it may do at most: cryptographic, grants, administration, read, or nothing.
	// Conditional tells that it is so under a condition only.
	Reach       string
	Conditional bool
	Decrypts    string
}

// AlarmPlace are the alarms of an account and Region.
type AlarmPlace struct {
	// ID of the table, if it is the only one.
	ID     string
	Title  string
	Alarms []Alarm
	// Broken are those that reach nobody.
	Broken int
}

// Alarm is the way of an alarm from an event to an inbox.
type Alarm struct {
	What string
	Hops []Hop
}

// Hop is a step of an alarm, and whether it works.
type Hop struct {
	What, Verdict string
	Good          bool
}

// Page is all that the page says.
type Page struct {
	Input
	Clusters []Cluster
	Columns  []string
	Keys     []Key
	Findings *finding.Report
	Alarms   []AlarmPlace
	Changes  *finding.Report
	Notes    []finding.Note
}

// Make makes the page.
func Make(in Input) (*Page, error) {
	p := &Page{Input: in, Findings: in.Findings}
	if p.Findings == nil {
		found, err := check.Run(in.Now, check.Options{Suppressions: in.Suppressions, Organization: in.Organization})
		if err != nil {
			return nil, err
		}
		p.Findings = found
	}
	if in.Words != nil {
		p.Findings.Reword(in.Words)
	}
	p.Notes = p.Findings.Notes
	if in.Before != nil {
		changes, err := guard.Compare(in.Before, in.Now, guard.Options{Organization: in.Organization})
		if err != nil {
			return nil, err
		}
		if in.Words != nil {
			changes.Reword(in.Words)
		}
		p.Changes = changes
	}
	if err := p.keys(); err != nil {
		return nil, err
	}
	for i, c := range in.Now.Clusters {
		p.Clusters = append(p.Clusters, p.cluster(i, c))
	}
	p.outliers()
	p.alarms()
	if len(p.Alarms) == 1 {
		p.Alarms[0].ID = "alarm-table"
	}
	return p, nil
}

func (p *Page) keys() error {
	inputs, err := explain.FromEstate(p.Now, "")
	if err != nil {
		// What can't be read is said: the rest of the page stands.
		p.Notes = append(p.Notes, finding.Note{Message: "who may use the key was not judged: " + err.Error()})
		return nil
	}
	for i := range inputs {
		inputs[i].Organization = p.Organization
	}
	matrices, err := explain.Matrices(inputs, true)
	if err != nil {
		return err
	}
	for i, m := range matrices {
		k := Key{ID: fmt.Sprintf("key-%d", i+1), Title: m.Title(), Layout: m.Layout(), Notes: m.Notes}
		for j, who := range m.Principals {
			person := Person{Letter: explain.Letter(j), ARN: who.ARN, What: who.What, IAM: who.IAM, Decided: k.Layout.Decided(j), More: who.Others(), Reach: "nothing", Conditional: true}
			for _, row := range m.Rows {
				cell := row.Cells[j]
				if cell.Answer != explain.Yes && cell.Answer != explain.Conditional {
					continue
				}
				if row.Action == "kms:Decrypt" {
					person.Decrypts = string(cell.Answer)
				}
				class := string(row.Class)
				if class == "grants" && row.Action != "kms:CreateGrant" {
					class = "administration" // to take a grant away gives nobody anything
				}
				rank := slices.Index(reaches, class)
				switch had := slices.Index(reaches, person.Reach); {
				case rank < had:
					person.Reach, person.Conditional = reaches[rank], cell.Answer == explain.Conditional
				case rank == had && cell.Answer == explain.Yes:
					person.Conditional = false
				}
			}
			if person.Reach == "nothing" {
				person.Conditional = false
			}
			k.People = append(k.People, person)
		}
		p.Keys = append(p.Keys, k)
	}
	return nil
}

// reaches are ordered by how much they matter.
var reaches = []string{"cryptographic", "grants", "administration", "read", "nothing"}

// keysOf are the key of a cluster on the page, in each case of what is not decided.
func (p *Page) keysOf(c *estate.Cluster) (all []Key) {
	arn := value.Text(c.KeyARN)
	if c.Key != nil {
		arn = c.Key.ARN
	}
	for _, k := range p.Keys {
		if k.Layout.Key == arn {
			all = append(all, k)
		}
	}
	return all
}

func (p *Page) cluster(i int, c *estate.Cluster) Cluster {
	one := Cluster{ID: fmt.Sprintf("cluster-%d", i+1), Name: cmp.Or(value.Text(c.Settings["Name"]), c.Resource), Account: c.In.Account, Region: c.In.Region, Counts: map[string]int{}}
	if c.In.Assumed {
		one.Account, one.Region = "any", "any"
	}
	keys := p.keysOf(c)
	proof := func(id string) string { return "#" + id }
	keyProof := proof("findings")
	if keys != nil {
		keyProof = proof(keys[0].ID)
	}
	add := func(question string, v Verdict, where, format string, args ...any) {
		one.Answers = append(one.Answers, Answer{question, v, fmt.Sprintf(format, args...), where})
	}
	fact := func(name, v string) { one.Facts = append(one.Facts, Fact{Name: name, Value: v}) }

	arn := value.Text(c.KeyARN)
	switch {
	case c.KeyARN == nil:
		add("Are secrets encrypted under a key of yours?", No, proof("findings"), "No key is named: EKS uses one that AWS owns.")
	case arn == "":
		add("Are secrets encrypted under a key of yours?", Unknown, proof("not-judged"), "Which key it is, is not known from what was read.")
	case p.has(c, "secrets-not-encrypted"):
		add("Are secrets encrypted under a key of yours?", No, proof("findings"), "The encryption configuration does not name secrets.")
	default:
		add("Are secrets encrypted under a key of yours?", Yes, keyProof, "Under %s.", arn)
	}
	fact("Encrypted", string(one.Answers[0].Verdict))

	p.whoDecrypts(c, keys, keyProof, add, fact)

	switch {
	case c.Key == nil && arn != "":
		add("Does the key rotate?", Unknown, proof("not-judged"), "It exists elsewhere: its owner has to show that.")
		fact("Rotates", "not known")
	case c.Key == nil:
		add("Does the key rotate?", Unknown, proof("not-judged"), "There is no key to ask.")
		fact("Rotates", "not known")
	case value.IsTrue(c.Key.Settings["EnableKeyRotation"], false):
		days := "365" // AWS KMS API Reference, EnableKeyRotation: the default
		if n, ok := value.Number(c.Key.Settings["RotationPeriodInDays"]); ok {
			days = fmt.Sprintf("%g", n)
		} else if c.Key.Settings["RotationPeriodInDays"] != nil {
			days = "an unknown number of"
		}
		add("Does the key rotate?", Yes, keyProof, "Every %s days, by KMS. That the data follows is another question: evidence shows it.", days)
		fact("Rotates", "every "+days+" days")
	case value.IsUnknown(c.Key.Settings["EnableKeyRotation"]):
		add("Does the key rotate?", Unknown, proof("not-judged"), "That is not known from what was read.")
		fact("Rotates", "not known")
	default:
		add("Does the key rotate?", No, proof("findings"), "EnableKeyRotation is not true.")
		fact("Rotates", "no")
	}

	faults := p.rules(func(f finding.Finding) bool {
		return (strings.HasPrefix(f.Rule, "trail-") || strings.Contains(f.Rule, "alarm")) && p.isWith(c, f)
	})
	switch here := func(k estate.Kind) int { return p.with(c, k) }; {
	case len(faults) > 0:
		add("Would anybody notice?", No, proof("findings"), "%s: see the findings.", strings.Join(faults, ", "))
	case here(estate.KindTrail) == 0 && here(estate.KindRule) == 0:
		add("Would anybody notice?", Unknown, proof("not-judged"), "Neither a trail nor alarms are in what was read.")
	case here(estate.KindRule) == 0:
		add("Would anybody notice?", Unknown, proof("alarms"), "No alarms are in what was read.")
	case here(estate.KindTrail) == 0:
		add("Would anybody notice?", Partly, proof("not-judged"), "There are alarms. The trail that they need is not in what was read.")
	case here(estate.KindSubscription) == 0:
		add("Would anybody notice?", Partly, proof("alarms"), "The use is on record and there are alarms, but nobody is subscribed to them here.")
	default:
		add("Would anybody notice?", Yes, proof("alarms"), "Every use is on record, and changes of the key raise alarms to those who are subscribed.")
	}
	fact("Noticed", string(one.Answers[len(one.Answers)-1].Verdict))
	fact("Kubernetes", cmp.Or(value.Text(c.Settings["Version"]), "not said"))
	for _, f := range p.Findings.Findings {
		if f.Suppressed == "" && (f.Stack == c.Stack || f.Resource == c.Resource) {
			one.Counts[f.Severity.String()]++
		}
	}
	fact("Findings", counts(one.Counts))
	return one
}

func (p *Page) whoDecrypts(c *estate.Cluster, keys []Key, where string, add func(string, Verdict, string, string, ...any), fact func(string, string)) {
	const question = "Can only the right ones decrypt?"
	if keys == nil {
		add(question, Unknown, "#not-judged", "The key's policy is not in what was read.")
		fact("Who decrypts", "not known")
		return
	}
	faults := p.rules(func(f finding.Finding) bool {
		return c.Key != nil && f.Resource == c.Key.Resource && f.Stack == c.Key.Stack && slices.ContainsFunc([]string{"key-policy-", "crypto-", "use-without-", "grants-", "policy-", "known-after"}, func(of string) bool { return strings.HasPrefix(f.Rule, of) })
	})
	var may, outsiders []string
	for _, key := range keys {
		for _, who := range key.People {
			switch {
			case who.Decrypts == "" || slices.Contains(outsiders, who.What) || slices.Contains(may, who.What):
			case strings.HasPrefix(who.What, "anybody"):
				outsiders = append(outsiders, who.What)
			default:
				may = append(may, who.What)
			}
		}
	}
	switch {
	case len(outsiders) > 0:
		add(question, No, where, "Also %s, if IAM allows it.", strings.Join(outsiders, ", and "))
	case len(faults) > 0:
		add(question, Partly, "#findings", "%s: see the findings.", strings.Join(faults, ", "))
	case len(may) == 0:
		add(question, Yes, where, "EKS under its grant, and nobody else.")
	default:
		add(question, Yes, where, "EKS under its grant, and %s.", strings.Join(may, ", "))
	}
	fact("Who decrypts", fmt.Sprintf("%d named, %d others", len(may), len(outsiders)))
}

func counts(m map[string]int) string {
	var all []string
	for _, severity := range []string{"critical", "high", "medium", "low"} {
		if m[severity] > 0 {
			all = append(all, fmt.Sprintf("%d %s", m[severity], severity))
		}
	}
	if all == nil {
		return "none"
	}
	return strings.Join(all, ", ")
}

func (p *Page) has(c *estate.Cluster, rule string) bool {
	return slices.ContainsFunc(p.Findings.Findings, func(f finding.Finding) bool { return f.Rule == rule && f.Resource == c.Resource && f.Stack == c.Stack })
}

// rules are those that were found and are not accepted.
func (p *Page) rules(of func(finding.Finding) bool) []string {
	found := map[string]bool{}
	for _, f := range p.Findings.Findings {
		if f.Suppressed == "" && of(f) {
			found[f.Rule] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// isWith tells whether a finding is on something in the account and Region of a cluster, or on
// what nobody knows where it is.
func (p *Page) isWith(c *estate.Cluster, f finding.Finding) bool {
	i := slices.IndexFunc(p.Now.Stacks, func(s *estate.Stack) bool { return s.Name == f.Stack })
	return i < 0 || p.Now.Stacks[i].Account == c.In.Account && p.Now.Stacks[i].Region == c.In.Region
}

// with counts the things of a kind for a cluster: a trail of all Regions is for each.
func (p *Page) with(c *estate.Cluster, kind estate.Kind) (n int) {
	for _, t := range p.Now.Of(kind) {
		if t.In.Account == c.In.Account && (t.In.Region == c.In.Region || kind == estate.KindTrail && value.IsTrue(t.Settings["IsMultiRegionTrail"], false)) {
			n++
		}
	}
	return n
}

// outliers marks what differs from most clusters.
func (p *Page) outliers() {
	if len(p.Clusters) == 0 {
		return
	}
	for i, f := range p.Clusters[0].Facts {
		p.Columns = append(p.Columns, f.Name)
		times := map[string]int{}
		for _, c := range p.Clusters {
			times[c.Facts[i].Value]++
		}
		for j := range p.Clusters {
			f := &p.Clusters[j].Facts[i]
			f.Outlier = len(p.Clusters) > 2 && times[f.Value]*2 < len(p.Clusters)
		}
	}
}

// alarms follows each rule to those who are told.
func (p *Page) alarms() {
	e := p.Now
	wrong := func(t *estate.Thing) (string, bool) {
		for _, f := range p.Findings.Findings {
			if f.Suppressed == "" && t != nil && f.Resource == t.Resource && f.Stack == t.Stack {
				return f.Rule, true
			}
		}
		return "", false
	}
	for _, rule := range e.Of(estate.KindRule) {
		_, what, found := strings.Cut(value.Text(rule.Settings["Description"]), ": ")
		if !found {
			what = cmp.Or(value.Text(rule.Settings["Description"]), rule.Resource)
		}
		a := Alarm{What: what}
		hop := func(t *estate.Thing, name, good string) {
			h := Hop{name, good, true}
			if rule, bad := wrong(t); bad {
				h.Verdict, h.Good = rule, false
			}
			a.Hops = append(a.Hops, h)
		}
		if state := value.Text(rule.Settings["State"]); state != "" && state != "ENABLED" {
			a.Hops = append(a.Hops, Hop{"rule", "is " + state, false})
		} else {
			hop(rule, "rule", "enabled")
		}
		told := 0
		for _, target := range value.List(rule.Settings["Targets"]) {
			topic := e.LookupOf(rule, value.Text(value.At(target, "Arn")), estate.KindTopic)
			if topic == nil {
				continue
			}
			told++
			hop(topic, "topic "+cmp.Or(value.Text(topic.Settings["TopicName"]), topic.Resource), "may be published to")
			heard := 0
			for _, s := range e.Of(estate.KindSubscription) {
				if e.LookupOf(s, s.Settings["TopicArn"], estate.KindTopic) == topic {
					heard++
					hop(s, value.Text(s.Settings["Endpoint"]), "subscribed; must be confirmed")
				}
			}
			if heard == 0 {
				a.Hops = append(a.Hops, Hop{"inbox", "nobody is subscribed here", false})
			}
		}
		if told == 0 && len(value.List(rule.Settings["Targets"])) == 0 {
			a.Hops = append(a.Hops, Hop{"target", "it has none", false})
		}
		title := "account " + rule.In.Account + ", " + rule.In.Region
		i := slices.IndexFunc(p.Alarms, func(o AlarmPlace) bool { return o.Title == title })
		if i < 0 {
			i = len(p.Alarms)
			p.Alarms = append(p.Alarms, AlarmPlace{Title: title})
		}
		p.Alarms[i].Alarms = append(p.Alarms[i].Alarms, a)
		if slices.ContainsFunc(a.Hops, func(h Hop) bool { return !h.Good }) {
			p.Alarms[i].Broken++
		}
	}
}
