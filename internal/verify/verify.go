// Package verify says how a running account differs from what is written of it, and what is
// wrong with what runs.
//
// What was read of the account becomes templates, as plans of Terraform do: one for each stack
// of what is wanted, with its logical IDs, and one for what is in none. The checks, the call
// book and the comparison of changes then judge what runs as they judge any template.
package verify

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/guard"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/value"
)

// Reader reads accounts.
type Reader interface {
	Read(context.Context, live.Query) (*live.Account, error)
	Stacks(ctx context.Context, account, region string, names []string) ([]live.Stack, error)
}

// Options are those of [Run].
type Options struct {
	// Wanted is what should run: the templates of a configuration or of a plan. Nil where
	// nothing but the rules is asked of Clusters.
	Wanted *cfn.Assembly
	// Stacks tells that the templates are of CloudFormation, which knows what it made of them.
	Stacks bool
	// Clusters are names, and Account and Region where they are. Default of the account: that
	// of the credentials. Of what is wanted, what is in another account than Account is not
	// read, if one is given.
	Clusters        []string
	Account, Region string
	// Making tells that the cluster is to be brought under its key: what only matters then is
	// found, too.
	Making bool
	// Organization are the policies of the organization.
	Organization []iampolicy.NamedDocument
	// Suppressions and Accepted accept findings. Of the latter it is told if they cover none.
	Suppressions, Accepted []finding.Suppression
}

// ErrNoCluster is that there is no cluster of a name.
type ErrNoCluster struct{ Name, Account, Region string }

func (e ErrNoCluster) Error() string {
	return fmt.Sprintf("there is no cluster %s in account %s in %s", e.Name, e.Account, e.Region)
}

// spot is an account and Region.
type spot struct{ account, region string }

func (s spot) String() string { return "account " + s.account + " in " + s.region }

// verification is what is verified.
type verification struct {
	opts   Options
	wanted *estate.Estate
	// templates are those that are wanted, by name, and stacks what is deployed of them.
	templates map[string]*cfn.Template
	stacks    map[string]live.Stack
	accounts  []*live.Account
	// closed are the accounts and Regions that could not be read.
	closed map[spot]bool
	// of are the resources that are wanted, by those that run; runs is the other way.
	of map[*live.Resource]*cfn.Resource
	// An inline policy of several roles runs several times.
	runs map[*cfn.Resource][]*live.Resource
	// within are the inline policies that stand in the principals that are wanted, by them.
	within map[*cfn.Resource][]*live.Resource
	// names are the IDs and ARNs of what runs and is wanted.
	names  map[identity]*cfn.Resource
	report finding.Report
	// now is what runs.
	nowAssembly *cfn.Assembly
	now         *estate.Estate
	// places are where findings on what runs stand.
	places map[*live.Resource]finding.Place
}

// Run reads what runs and reports on it. What could not be read is a note. The error is why
// nothing could be read, or a suppression that is not valid.
func Run(ctx context.Context, reader Reader, opts Options) (*finding.Report, error) {
	_, report, err := Now(ctx, reader, opts)
	return report, err
}

// Now is [Run], with what runs as templates.
func Now(ctx context.Context, reader Reader, opts Options) (*cfn.Assembly, *finding.Report, error) {
	v := &verification{
		opts: opts, templates: map[string]*cfn.Template{}, stacks: map[string]live.Stack{}, closed: map[spot]bool{},
		of: map[*live.Resource]*cfn.Resource{}, runs: map[*cfn.Resource][]*live.Resource{}, names: map[identity]*cfn.Resource{}, within: map[*cfn.Resource][]*live.Resource{}, places: map[*live.Resource]finding.Place{},
	}
	v.report.Tool, v.report.Rules = "ekskms verify", Rules()
	for _, s := range slices.Concat(opts.Suppressions, opts.Accepted) {
		if err := Validate(s); err != nil {
			return nil, nil, err
		}
	}
	if err := v.read(ctx, reader); err != nil {
		return nil, nil, err
	}
	v.match()
	assembly, err := v.assembly(false)
	if err != nil {
		return nil, nil, err
	}
	v.nowAssembly, v.now = assembly, estate.FromTemplates(assembly)
	if err := v.check(); err != nil {
		return nil, nil, err
	}
	if opts.Wanted != nil {
		if err := v.compare(); err != nil {
			return nil, nil, err
		}
	}
	v.states()
	v.unread()
	v.report.Suppress(opts.Suppressions)
	for _, s := range v.report.Suppress(opts.Accepted) {
		v.note(s.Resource, "nothing was found of %s, which is accepted", s.ID)
	}
	v.report.Sort()
	return v.nowAssembly, &v.report, nil
}

// read reads the accounts and the stacks.
func (v *verification) read(ctx context.Context, reader Reader) error {
	if v.opts.Wanted == nil {
		a, err := reader.Read(ctx, live.Query{Account: v.opts.Account, Region: v.opts.Region, Clusters: v.opts.Clusters})
		if err != nil {
			return err
		}
		v.accounts = append(v.accounts, a)
		for _, name := range v.opts.Clusters {
			if !slices.ContainsFunc(a.Resources, func(r *live.Resource) bool { return r.Type == "AWS::EKS::Cluster" && r.ID == name }) {
				return ErrNoCluster{name, a.ID, a.Region}
			}
		}
		return nil
	}
	v.wanted = estate.FromTemplates(v.opts.Wanted)
	spots := map[spot][]*cfn.Template{}
	for _, t := range v.opts.Wanted.Templates {
		v.templates[t.Name] = t
		at := spot{t.Account, t.Region}
		spots[at] = append(spots[at], t)
	}
	var failed error
	for _, at := range slices.SortedFunc(maps.Keys(spots), func(a, b spot) int { return cmp.Compare(a.String(), b.String()) }) {
		if v.opts.Account != "" && v.opts.Account != at.account {
			v.closed[at] = true
			v.note("", "not judged: %s: the credentials are of account %s; --fleet verifies all accounts", at, v.opts.Account)
			continue
		}
		if err := v.readSpot(ctx, reader, at, spots[at]); err != nil {
			if ctx.Err() != nil {
				return err
			}
			failed = err
			v.closed[at] = true
			v.note("", "not judged: %s: %v", at, err)
		}
	}
	if len(v.accounts) == 0 && failed != nil {
		return failed
	}
	return nil
}

func (v *verification) readSpot(ctx context.Context, reader Reader, at spot, templates []*cfn.Template) error {
	q := live.Query{Account: at.account, Region: at.region}
	physical := knownARN
	if v.opts.Stacks {
		var names []string
		for _, t := range templates {
			names = append(names, t.Name)
		}
		slices.Sort(names) // nested ones after their parent
		found, err := reader.Stacks(ctx, at.account, at.region, names)
		if err != nil {
			return err
		}
		for _, s := range found {
			v.stacks[s.Name] = s
		}
		physical = func(r *cfn.Resource) string { return v.stacks[r.Template.Name].Resources[r.ID] }
	}
	for _, t := range templates {
		for _, id := range slices.Sorted(maps.Keys(t.Resources)) {
			r := t.Resources[id]
			name := cmp.Or(physical(r), givenName(r))
			switch r.Type {
			case "AWS::EKS::Cluster", "Custom::AWSCDK-EKS-Cluster":
				if name = cmp.Or(givenName(r), name[strings.LastIndex(name, "/")+1:]); name == "" {
					v.note(r.Path, "not judged: the cluster: its name is in no template, and the stack that would say it was not read")
					continue
				}
				q.Clusters = append(q.Clusters, name)
			case "AWS::KMS::Key", "AWS::KMS::ReplicaKey":
				q.Keys = append(q.Keys, name)
			case "AWS::KMS::Alias":
				if alias, ok := r.Properties["AliasName"].(string); ok && !value.IsOpen(alias) && physical(r) == "" {
					q.Keys = append(q.Keys, alias)
				}
			case "AWS::SNS::Topic":
				if strings.HasPrefix(name, "arn:") {
					q.Topics = append(q.Topics, name)
				} else if r.Properties["TopicName"] != nil {
					q.Topics = append(q.Topics, r.ARN)
				}
			case "AWS::S3::Bucket":
				q.Buckets = append(q.Buckets, strings.TrimPrefix(name, "arn:"+t.Partition+":s3:::"))
			case "AWS::Logs::LogGroup":
				_, group, isARN := strings.Cut(name, ":log-group:")
				if isARN {
					name = strings.TrimSuffix(group, ":*")
				}
				q.LogGroups = append(q.LogGroups, name)
			case "AWS::SQS::Queue":
				q.Queues = append(q.Queues, name)
			}
		}
	}
	a, err := reader.Read(ctx, q)
	if err != nil {
		return err
	}
	v.accounts = append(v.accounts, a)
	return nil
}

// check judges what runs by the rules.
func (v *verification) check() error {
	report, err := check.Run(v.now, check.Options{Organization: v.opts.Organization, RolesElsewhere: true})
	if err != nil {
		return err
	}
	v.report.Checked = report.Checked
	v.report.Checked.Manifests = 0 // which were not read
	report.Reword(wordsOfAccount.Replace)
	for _, f := range v.together(report.Findings) {
		if !v.opts.Making && slices.Contains(ofMaking, f.Rule) || v.asWritten(f) {
			continue
		}
		if action := v.needed(f); action != "" {
			v.note(f.Resource, "not judged: whether %s: needs %s", f.Message, action)
			continue
		}
		v.report.Findings = append(v.report.Findings, f)
	}
	for _, n := range report.Notes {
		// Neither is of what runs: what is accepted in what was not read, and what would become of
		// something without its stack.
		if !strings.HasPrefix(n.Message, "the suppression of") && !strings.HasPrefix(n.Message, "DeletionPolicy is") {
			v.report.Notes = append(v.report.Notes, n)
		}
	}
	return nil
}

// together joins what a rule finds on several policies of an account that nobody has written
// down: there can be thousands.
func (v *verification) together(all []finding.Finding) (kept []finding.Finding) {
	first := map[string]int{} // in kept, by stack and rule
	others := map[int][]string{}
	for _, f := range all {
		id := f.Stack + "\n" + f.Rule
		if v.templates[f.Stack] == nil && strings.HasPrefix(f.Type, "AWS::IAM::") {
			if i, again := first[id]; again {
				others[i] = append(others[i], f.Resource)
				continue
			}
			first[id] = len(kept)
		}
		kept = append(kept, f)
	}
	for i, names := range others {
		kept[i].Message += fmt.Sprintf("; so do %d more in the account: %s", len(names), strings.Join(names[:min(len(names), 5)], ", "))
		if len(names) > 5 {
			kept[i].Message += ", ..."
		}
	}
	return kept
}

// asWritten tells that a finding is on something that was not read, and stands as it is
// wanted in its place: 'ekskms check' finds it.
func (v *verification) asWritten(f finding.Finding) bool {
	t := v.templates[f.Stack]
	return t != nil && t.Resources[f.LogicalID] != nil && v.runs[t.Resources[f.LogicalID]] == nil
}

// ofMaking are the checks of what only matters while something is made.
var ofMaking = []string{"cluster-creator-missing", "key-creation-refused", "secret-in-template"}

// needs are the actions without which what a check finds missing may be there.
var needs = map[string][]string{
	"trail-missing":              {"cloudtrail:DescribeTrails"},
	"trail-excludes-kms":         {"cloudtrail:DescribeTrails"},
	"tamper-alarm-missing":       {"events:ListRules", "events:ListTargetsByRule", "logs:DescribeMetricFilters", "cloudwatch:DescribeAlarms"},
	"trail-tamper-alarm-missing": {"events:ListRules", "events:ListTargetsByRule", "logs:DescribeMetricFilters", "cloudwatch:DescribeAlarms"},
}

// needed is the first action that was refused, or failed, and without which a rule can't say
// that something is missing.
func (v *verification) needed(f finding.Finding) string {
	account := ""
	for _, s := range v.now.Stacks {
		if s.Name == f.Stack {
			account = s.Account
		}
	}
	filters := len(v.now.Of(estate.KindMetricFilter)) > 0 || v.lacks(account, "logs:DescribeMetricFilters")
	for _, action := range needs[f.Rule] {
		// Without a filter no alarm of CloudWatch tells of a call.
		if v.lacks(account, action) && (filters || action != "cloudwatch:DescribeAlarms") {
			return action
		}
	}
	return ""
}

// lacks tells whether an action did not give an answer in an account.
func (v *verification) lacks(account, action string) bool {
	return slices.ContainsFunc(v.accounts, func(a *live.Account) bool {
		return a.ID == account && slices.ContainsFunc(a.Unread, func(u live.Unread) bool { return u.Action == action })
	})
}

// compare says how what runs differs from what is wanted.
func (v *verification) compare() error {
	// What could not be read is taken to be as it is wanted: the notes say that it was not.
	assembly, err := v.assembly(true)
	if err != nil {
		return err
	}
	report, err := guard.Compare(v.wanted, estate.FromTemplates(assembly), guard.Options{
		Organization: v.opts.Organization,
		Gone:         func(*estate.Thing) string { return "it is not in the account" },
	})
	if err != nil {
		return err
	}
	told := map[string]bool{}
	for _, f := range report.Findings {
		words, ok := words[f.Rule]
		if !ok {
			continue // a rule of check, which has found it
		}
		if v.stackMissing(f.Stack) {
			continue // which says all
		}
		f.Why, f.Fix = words.Why, words.Fix
		f.Message = ofDrift(f.Message)
		v.report.Findings = append(v.report.Findings, f)
		for _, name := range covers[f.Rule] {
			told[f.Stack+"\n"+f.LogicalID+"\n"+name] = true
		}
	}
	for _, n := range report.Notes {
		n.Message = wordsOfAccount.Replace(n.Message)
		if !slices.Contains(v.report.Notes, n) {
			v.report.Notes = append(v.report.Notes, n)
		}
	}
	v.differences(told)
	v.missing()
	return nil
}

// stackMissing tells that a stack is not deployed.
func (v *verification) stackMissing(name string) bool {
	s, read := v.stacks[name]
	return read && !s.There && len(s.Unread) == 0
}

func (v *verification) find(id string, at finding.Place, format string, args ...any) {
	v.report.Add(ruleByID[id], at, format, args...)
}

func (v *verification) note(resource, format string, args ...any) {
	v.report.NoteAt(resource, format, args...)
}

// unread says what was not read.
func (v *verification) unread() {
	objects := 0
	var unnamed []string
	for _, t := range v.templates {
		for _, r := range t.Resources {
			if r.Type == "Custom::AWSCDK-EKS-KubernetesResource" {
				objects++
			}
			if _, read := kindOf(r.Type); read && v.runs[r] == nil && !v.opts.Stacks && !v.closed[spot{t.Account, t.Region}] && v.nameless(r) {
				unnamed = append(unnamed, r.Path)
			}
		}
	}
	if objects > 0 {
		v.note("", "not judged: the Kubernetes objects in the clusters: they are not read from AWS")
	}
	slices.Sort(unnamed)
	for _, path := range unnamed {
		v.note(path, "not judged: which thing of the account it is can't be told, for it has no name of its own")
	}
	for _, a := range v.accounts {
		for _, u := range a.Unread {
			v.note("", "not judged: %s", u)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.stacks)) {
		for _, u := range v.stacks[name].Unread {
			v.note("", "not judged: %s", u)
		}
	}
}
