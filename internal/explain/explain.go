// Package explain says who may do what with a KMS key: a matrix of principals by
// actions, with the condition under which each is allowed and the statement that
// decides.
//
// The answers are those of package iampolicy. They hold for what is given: the key
// policy, the IAM policies of principals of which they are known, the grants, and the
// policies of the organization. What is not in them, such as a permissions boundary, can
// only take away.
package explain

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/place"
)

// Answer is what a principal may do with an action.
type Answer string

// The answers.
const (
	Yes         Answer = "yes"
	No          Answer = "no"
	Conditional Answer = "conditional"
	// Denied is a Deny without conditions, which nothing can overrule.
	Denied Answer = "denied"
)

// Principal is a column of the matrix.
type Principal struct {
	// ARN, or the name of a service.
	ARN string `json:"arn"`
	// What it stands for, for people.
	What string `json:"what"`
	// IAM says what was taken for its IAM policies.
	IAM string `json:"iam"`

	identity         []iampolicy.NamedDocument
	caller, provider string
	// stands for others: it is of interest that it may do nothing.
	stands bool
	// unnamed tells that only its own policies speak of it.
	unnamed bool
	// alike are how many others may do the same, in a brief matrix.
	alike int
}

// Cell is what the matrix says of one principal and one action.
type Cell struct {
	Principal string `json:"principal"`
	Answer    Answer `json:"answer"`
	// By are the statements or grants that allow it, or that deny it.
	By []string `json:"by,omitempty"`
	// When are the ways to be allowed: all conditions of one of them must be met.
	When [][]Condition `json:"when,omitempty"`
	// Unless are the ways to be denied after all.
	Unless [][]Condition `json:"unless,omitempty"`
}

// Condition is one condition of a policy, as it stands there.
type Condition struct {
	Operator string   `json:"operator"`
	Key      string   `json:"key,omitempty"`
	Values   []string `json:"values"`
}

// Row is an action of the matrix.
type Row struct {
	Action string          `json:"action"`
	Class  iampolicy.Class `json:"class"`
	Cells  []Cell          `json:"cells"`
}

// Matrix is who may do what with a key.
type Matrix struct {
	// Key is its ARN, and Path where it stands in the templates, if it does.
	Key        string      `json:"key"`
	Path       string      `json:"path,omitempty"`
	Principals []Principal `json:"principals"`
	Rows       []Row       `json:"rows"`
	Notes      []string    `json:"notes,omitempty"`

	// In says in which case of what the templates leave open, in words. Empty if it is all.
	In string `json:"in,omitempty"`

	// cluster and account are those of the one cluster whose secrets are under the key.
	cluster, account string
	// left are how many principals a brief matrix leaves out.
	left int
}

// Input is what decides on a key.
type Input struct {
	iampolicy.Access
	// Path of the key in the templates. Default: none.
	Path  string
	Notes []string

	ofCluster bool
	// cluster and account are those of that, if it is one.
	cluster, account string
	// cases are those of the templates of which it is one.
	cases []estate.Case
	in    int
	// paths are those of the roles of the templates, by ARN.
	paths map[string]string
}

const otherAccount = "999999999999"

var ofKey = regexp.MustCompile(`^arn:(aws[a-z-]*):kms:[^:]*:(\d{12}):key/.+$`)

// Administrator is the IAM policy of somebody whom IAM allows everything on all
// keys.
func Administrator() []iampolicy.NamedDocument {
	return []iampolicy.NamedDocument{{Name: "IAM", Document: iampolicy.NewDocument(iampolicy.Statement{
		Sid: "kms:*", Effect: iampolicy.Allow, Action: iampolicy.Values{"kms:*"}, Resource: iampolicy.Values{"*"},
	})}}
}

// Matrices makes those of the keys, brief ones if that is asked for: see [Matrix.Brief].
// Where cases of the same key are alike, one stands for them.
func Matrices(inputs []Input, brief bool) ([]*Matrix, error) {
	type alike struct {
		*Matrix
		text  []byte
		cases []estate.Case
		in    []int
	}
	made := make([]*alike, len(inputs))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, in := range inputs {
		group.Go(func() error {
			m, err := Explain(in)
			a := &alike{Matrix: m, cases: in.cases, in: []int{in.in}}
			if err == nil && len(in.cases) > 1 {
				a.text, err = json.Marshal(m)
			}
			if err == nil && brief {
				a.Matrix = m.Brief()
			}
			made[i] = a
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var all []*alike
	for _, a := range made {
		i := slices.IndexFunc(all, func(o *alike) bool { return a.text != nil && bytes.Equal(a.text, o.text) })
		if i < 0 {
			all = append(all, a)
			continue
		}
		all[i].in = append(all[i].in, a.in...)
	}
	var matrices []*Matrix
	for _, a := range all {
		a.In = estate.When(a.cases, func(i int) bool { return slices.Contains(a.in, i) })
		matrices = append(matrices, a.Matrix)
	}
	return matrices, nil
}

// Explain makes the matrix of a key: of every principal that its policy, its
// grants or the given IAM policies name, of the account root, and of two that
// nobody names but whom IAM allows kms:*, in the key's account and in another.
func Explain(in Input) (*Matrix, error) {
	principals, err := in.principals()
	if err != nil {
		return nil, err
	}
	m := &Matrix{Key: in.Key, Path: in.Path, Principals: principals, Notes: in.Notes, cluster: in.cluster, account: in.account}
	open, silent := in.open(), make([]bool, len(principals))
	for i, p := range principals {
		silent[i] = p.caller == "" || p.unnamed && !open && !iampolicy.Concerns(p.identity, in.Key)
	}
	for _, action := range iampolicy.KMSActions {
		row := Row{Action: action.Name, Class: action.Class}
		for i, p := range principals {
			// Nobody any more, or nothing speaks of it.
			if silent[i] || p.unnamed && !open && !iampolicy.Concerns(p.identity, in.Key, action.Name) {
				row.Cells = append(row.Cells, Cell{Principal: p.ARN, Answer: No})
				continue
			}
			outcome, err := iampolicy.Explain(
				iampolicy.Request{Caller: iampolicy.Caller{ARN: p.caller, Provider: p.provider}, Action: action.Name, Resource: in.Key},
				iampolicy.Policies{Resource: in.Policy, Identity: p.identity, Grants: in.Grants, Organization: in.Organization})
			if err != nil {
				return nil, err
			}
			row.Cells = append(row.Cells, cell(p, outcome))
		}
		m.Rows = append(m.Rows, row)
	}
	return m, nil
}

// Brief leaves out principals that may do nothing, and of those whom only their own policies let do the same all but one. The account root and
// those who stand for others stay.
func (m *Matrix) Brief() *Matrix {
	brief := &Matrix{Key: m.Key, Path: m.Path, In: m.In, cluster: m.cluster, account: m.account, Notes: m.Notes, Rows: make([]Row, len(m.Rows))}
	for i, row := range m.Rows {
		brief.Rows[i] = Row{Action: row.Action, Class: row.Class}
	}
	first := map[string]int{}
	for i, p := range m.Principals {
		if !p.stands && !slices.ContainsFunc(m.Rows, func(r Row) bool { return r.Cells[i].Answer != No }) {
			brief.left++
			continue
		}
		if p.unnamed {
			column := ""
			for _, row := range m.Rows {
				if c := row.Cells[i]; c.Answer != No {
					column += fmt.Sprint(row.Action, c.Answer, c.By, c.When, c.Unless)
				}
			}
			if k, ok := first[column]; ok {
				brief.Principals[k].alike++
				continue
			}
			first[column] = len(brief.Principals)
		}
		brief.Principals = append(brief.Principals, p)
		for k, row := range m.Rows {
			brief.Rows[k].Cells = append(brief.Rows[k].Cells, row.Cells[i])
		}
	}
	return brief
}

func cell(p Principal, o iampolicy.Outcome) Cell {
	c := Cell{Principal: p.ARN, Answer: No}
	add := func(paths []iampolicy.Path) (ways [][]Condition) {
		for _, path := range paths {
			for _, s := range path.By {
				if by := name(s); !slices.Contains(c.By, by) {
					c.By = append(c.By, by)
				}
			}
			way := []Condition{}
			for _, q := range path.Conditions {
				way = append(way, Condition{q.Operator, q.Key, q.Values})
			}
			ways = append(ways, way)
		}
		return ways
	}
	if always(o.Deny) {
		c.Answer = Denied
		add(slices.DeleteFunc(slices.Clone(o.Deny), func(p iampolicy.Path) bool { return len(p.Conditions) > 0 }))
		return c
	}
	if len(o.Allow) == 0 {
		return c
	}
	when := add(o.Allow)
	if always(o.Allow) {
		when = nil
	}
	unless := add(o.Deny)
	c.Answer, c.When, c.Unless = Conditional, when, unless
	if when == nil && unless == nil {
		c.Answer = Yes
	}
	return c
}

func always(paths []iampolicy.Path) bool {
	return slices.ContainsFunc(paths, func(p iampolicy.Path) bool { return len(p.Conditions) == 0 })
}

// name is how a matrix names a statement: by its Sid, if it has one.
func name(s iampolicy.Source) string {
	switch {
	case s.Statement == 0:
		return strings.TrimSpace(s.Policy + " " + s.Sid)
	case s.Policy == "IAM":
		return "IAM"
	}
	return cmp.Or(s.Sid, fmt.Sprintf("statement %d", s.Statement)) + map[bool]string{false: " of " + s.Policy}[s.Policy == keyPolicy]
}

const keyPolicy = "key policy"

// open tells whether the key's policy speaks of everybody, or of all but some, or the
// organization's policies of anybody.
func (in *Input) open() bool {
	return len(in.Organization) > 0 || slices.ContainsFunc(in.Policy.Statement, func(s iampolicy.Statement) bool {
		return slices.Contains(s.Principal.AWS, "*") || s.Principal.AWS == nil && s.Principal.Service == nil && s.Principal.Federated == nil
	})
}

// principals lists the columns: those that are named, in the order of the key
// policy and then by name, before those that stand for everybody else.
func (in *Input) principals() ([]Principal, error) {
	key := ofKey.FindStringSubmatch(in.Key)
	if key == nil {
		return nil, fmt.Errorf("%q is not the ARN of a KMS key", in.Key)
	}
	in.Policy.Name = keyPolicy
	iam := func(account string) string { return "arn:" + key[1] + ":iam::" + account }
	root := iam(key[2]) + ":root"
	all := []Principal{{ARN: root, What: "the account root", IAM: "needs none", caller: root, stands: true}}
	seen := map[string]bool{root: true, key[2]: true}
	add := func(arn string) {
		if seen[arn] || arn == "*" || arn == "" {
			return
		}
		seen[arn] = true
		p := Principal{ARN: arn, caller: arn}
		known, ok := in.Identity[arn]
		parts, isARN := place.ParseARN(arn)
		account := parts.AccountID
		switch {
		case ok:
			p.What, p.IAM, p.identity = cmp.Or(in.paths[arn], last(arn)), "its policies that are known", known
			if len(known) == 0 {
				p.IAM = "it has no policy that is known"
			}
		case !isARN && !strings.Contains(arn, "."):
			// An account's number, or the unique ID of something deleted.
			if len(arn) != 12 {
				p.What, p.IAM, p.caller, p.stands = "a principal that was deleted", "none", "", true
				all = append(all, p)
				in.Notes = append(in.Notes, fmt.Sprintf("%s is no ARN: IAM writes the unique ID of a principal that was deleted so, and nobody is that any more", arn))
				return
			}
			p.What, p.IAM, p.caller, p.identity = "all of account "+arn, "kms:* assumed", iam(arn)+":role/anybody", Administrator()
		case !isARN:
			p.What, p.IAM = "an AWS service", "has none"
		case account != key[2] && strings.HasSuffix(arn, ":root"):
			p.What, p.IAM, p.caller, p.identity = "all of account "+account, "kms:* assumed", iam(account)+":role/anybody", Administrator()
		case account != key[2]:
			p.What, p.IAM, p.identity = last(arn)+" of account "+account, "kms:* assumed", Administrator()
		case !strings.HasSuffix(arn, ":root") && !in.isPrincipal(arn):
			// Named by a condition alone: what it may do, it may by its IAM policies.
			p.What, p.IAM, p.identity = last(arn), "kms:* on all keys assumed", Administrator()
		default:
			p.What, p.IAM = last(arn), "not known: none assumed"
		}
		all = append(all, p)
	}
	for _, arn := range in.named() {
		add(arn)
	}
	for _, s := range in.Policy.Statement {
		for _, provider := range s.Principal.Federated {
			if !seen[provider] {
				seen[provider] = true
				all = append(all, Principal{
					ARN: provider, What: "a session of any role, through an identity provider", IAM: "none assumed",
					caller: "arn:" + key[1] + ":sts::" + key[2] + ":assumed-role/anybody/session", provider: provider,
				})
			}
		}
	}
	for _, g := range in.Grants {
		add(g.Grantee)
		add(g.Retiring)
	}
	before := len(all)
	for _, arn := range slices.Sorted(maps.Keys(in.Identity)) {
		add(arn)
	}
	for i := before; i < len(all); i++ {
		all[i].unnamed = true
	}
	all = append(all, in.like(seen)...)
	anybody := iam(key[2]) + ":role/anybody"
	stranger := iam(otherAccount) + ":role/anybody"
	return append(all,
		Principal{ARN: anybody, What: "anybody else in the account", IAM: "kms:* on all keys assumed", identity: Administrator(), caller: anybody, stands: true},
		Principal{ARN: stranger, What: "anybody in another account", IAM: "kms:* on all keys assumed", identity: Administrator(), caller: stranger, stands: true}), nil
}

// isPrincipal tells whether the key policy or a grant names somebody as its principal.
func (in *Input) isPrincipal(arn string) bool {
	return slices.ContainsFunc(in.Policy.Statement, func(s iampolicy.Statement) bool {
		return slices.Contains(s.Principal.AWS, arn) || slices.Contains(s.NotPrincipal.AWS, arn)
	}) || slices.ContainsFunc(in.Grants, func(g iampolicy.Grant) bool { return g.Grantee == arn || g.Retiring == arn })
}

// named are those whom the key policy names, in its order.
func (in *Input) named() (all []string) {
	for _, s := range in.Policy.Statement {
		all = slices.Concat(all, s.Principal.AWS, s.Principal.Service, s.NotPrincipal.AWS, s.NotPrincipal.Service)
		for _, operator := range slices.Sorted(maps.Keys(s.Condition)) {
			for name, values := range s.Condition[operator] {
				if strings.EqualFold(name, "aws:PrincipalArn") {
					all = append(all, slices.DeleteFunc(slices.Clone(values), func(v string) bool { return strings.ContainsAny(v, "*?$") })...)
				}
			}
		}
	}
	return all
}

// like are the accounts that a condition names, and examples of those whom one names by a
// pattern, one for each way in which one may do something, beside those that were seen.
func (in *Input) like(seen map[string]bool) (all []Principal) {
	var actions []string
	for _, a := range iampolicy.KMSActions {
		actions = append(actions, a.Name)
	}
	var uses []iampolicy.Use
	access := in.Access
	access.Identity = nil // which is of those who have a name
	survey, err := access.Survey()
	if err == nil {
		uses, err = survey.Uses(actions, nil, func(h iampolicy.Holder) bool { return !h.Named })
	}
	if err != nil {
		in.Notes = append(in.Notes, "whom the policies name by patterns was not decided: "+err.Error())
		return nil
	}
	in.Notes = append(in.Notes, survey.Notes()...)
	key := ofKey.FindStringSubmatch(in.Key)
	for _, use := range uses {
		root := "arn:" + key[1] + ":iam::" + use.Account + ":root"
		switch {
		case use.Named, seen[use.ARN]:
			continue
		case len(use.Like) > 0:
		case use.Account == "" && !seen[use.ARN]:
			seen[use.ARN] = true
			all = append(all, Principal{ARN: use.ARN, What: "any AWS service", IAM: "has none", caller: use.ARN})
			continue
		case use.AnyAccount, use.Account == "", use.Account == key[2], seen[use.Account], seen[root]:
			continue // it has a column
		default:
			seen[root] = true
			all = append(all, Principal{ARN: root, What: "all of account " + use.Account, IAM: "kms:* assumed", identity: Administrator(), caller: use.ARN})
			continue
		}
		seen[use.ARN] = true
		what := "an example of " + strings.Join(use.Like, " and ")
		if use.AnyAccount {
			what += ", in any account"
		}
		all = append(all, Principal{ARN: use.ARN, What: what, IAM: "kms:* on all keys assumed", identity: Administrator(), caller: use.ARN})
	}
	return all
}

func last(arn string) string {
	name := arn[strings.LastIndex(arn, ":")+1:]
	return name[strings.Index(name, "/")+1:]
}
