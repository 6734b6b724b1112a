package guard_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/estate/estatetest"
	"github.com/ekskms/ekskms/internal/explain"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/guard"
	"github.com/ekskms/ekskms/internal/iampolicy"
)

const home, abroad, nowhere = "111122223333", "444455556666", "777788889999"

// strangers are callers whom the good policy does not name.
func strangers() (all []iampolicy.Caller) {
	for _, account := range []string{home, abroad, nowhere} {
		for _, who := range []string{"role/deploy-a", "role/team/deploy-b", "role/x", "role/aws-reserved/sso.amazonaws.com/eu-central-1/AWSReservedSSO_Ops_0123456789abcdef", "user/deploy-a", "user/y"} {
			all = append(all, iampolicy.Caller{ARN: "arn:aws:iam::" + account + ":" + who})
		}
	}
	return append(all, iampolicy.Caller{ARN: "lambda.amazonaws.com"}, iampolicy.Caller{ARN: "ec2.amazonaws.com"})
}

// contexts are what calls can carry. The first is nothing.
var contexts = []iampolicy.Context{
	{},
	{"kms:EncryptionContext:app": {"web"}},
	{"kms:ViaService": {"ebs.eu-central-1.amazonaws.com"}},
	{"aws:PrincipalOrgID": {"o-abcdefghij"}},
	{"aws:SourceVpce": {"vpce-0123456789abcdef0"}},
	{"aws:PrincipalOrgID": {"o-zzzzzzzzzz"}, "aws:SourceVpce": {"vpce-00000000000000000"}},
	{"aws:PrincipalTag/team": {"red"}},
	{"aws:SourceArn": {"arn:aws:lambda:eu-central-1:" + home + ":function:f"}, "aws:SourceAccount": {home}},
}

type dice struct{ *rand.Rand }

func (d dice) one(of ...string) string { return of[d.IntN(len(of))] }

// statement opens the key to somebody, or not.
func (d dice) statement() map[string]any {
	var principal any = "*"
	switch d.IntN(7) {
	case 0, 1:
		principal = map[string]any{"AWS": "arn:aws:iam::" + d.one(home, abroad) + ":" + d.one("root", "role/x", "user/y", "role/deploy-a")}
	case 2:
		principal = map[string]any{"Service": d.one("lambda.amazonaws.com", "ec2.amazonaws.com")}
	case 3:
		principal = map[string]any{"AWS": []any{d.one(home, abroad), "arn:aws:iam::" + abroad + ":role/x"}}
	}
	s := map[string]any{"Effect": "Allow", "Principal": principal, "Action": d.one("kms:Decrypt", "kms:De*", "kms:*", "kms:CreateGrant", "kms:PutKeyPolicy"), "Resource": "*"}
	condition := map[string]any{}
	for range d.IntN(3) {
		operator, key, value := "", "", ""
		switch d.IntN(9) {
		case 0, 1, 2:
			operator, key = d.one("ArnLike", "StringLike", "ArnNotLike"), "aws:PrincipalArn"
			value = "arn:aws:iam::" + d.one(home, "*", abroad, "4*") + ":" + d.one("role/deploy-*", "*/deploy-*", "role/aws-reserved/sso.amazonaws.com/*/AWSReservedSSO_Ops_*", "*", "user/*")
		case 3:
			operator, key, value = d.one("StringEquals", "StringLike", "StringNotEquals"), d.one("aws:PrincipalAccount", "kms:CallerAccount"), d.one(home, abroad, nowhere)
		case 4:
			operator, key, value = d.one("StringEquals", "StringLike"), "aws:PrincipalOrgID", d.one("o-abcdefghij", "*")
		case 5:
			operator, key, value = d.one("StringEquals", "StringLike", "StringNotEquals"), "kms:EncryptionContext:app", d.one("web", "*", "w*")
		case 6:
			operator, key, value = d.one("StringEquals", "StringNotEquals", "StringEqualsIfExists"), d.one("aws:SourceVpce", "kms:ViaService"), d.one("vpce-0123456789abcdef0", "ebs.eu-central-1.amazonaws.com")
		case 7:
			operator, key, value = d.one("StringEquals", "Null"), "aws:PrincipalTag/team", d.one("red", "true", "false")
		case 8:
			operator, key, value = d.one("ArnLike", "StringEqualsIfExists"), d.one("aws:SourceArn", "aws:SourceAccount"), d.one("arn:aws:lambda:*:"+home+":*", home)
		}
		if operator == "Null" && value == "red" || strings.HasPrefix(operator, "Arn") && !strings.HasPrefix(value, "arn:") {
			continue
		}
		condition[operator] = map[string]any{key: value}
	}
	if len(condition) > 0 {
		s["Condition"] = condition
	}
	return s
}

// TestStrangers: of what the evaluator allows to a stranger, nothing is missing from guard
// and from explain's matrix, nor from check what is bound to no context. Statements at
// random are added to a good policy, and the evaluator is asked about each caller, action
// and context.
func TestStrangers(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 30
	}
	if estatetest.Race {
		rounds = 6
	}
	good := estatetest.Estate(t, estatetest.Golden(t, "default"))
	before := matrixOf(t, good)
	opened, unbound := 0, 0
	for seed := range rounds {
		d := dice{rand.New(rand.NewPCG(uint64(seed), 3))}
		template := estatetest.Golden(t, "default")
		var added []any
		for range 1 + d.IntN(2) {
			added = append(added, d.statement())
		}
		if d.IntN(3) == 0 {
			deny := d.statement()
			deny["Effect"], deny["Principal"], deny["Action"] = "Deny", "*", "kms:*"
			added = append(added, deny)
		}
		setStatements(func(s []any) []any { return append(s, added...) })(template)
		changed := estatetest.Estate(t, template)
		old, now := accessOf(good), accessOf(changed)
		text, err := json.Marshal(added)
		if err != nil {
			t.Fatal(err)
		}
		report, err := guard.Compare(good, changed, guard.Options{})
		if err != nil {
			t.Fatal(err)
		}
		faults, err := check.Run(changed, check.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var matrix *explain.Matrix
		for _, action := range []string{"kms:Decrypt", "kms:CreateGrant", "kms:PutKeyPolicy"} {
			var examples []iampolicy.Request
			for _, caller := range strangers() {
				for _, context := range contexts {
					if !strings.HasPrefix(caller.ARN, "arn:") == (context["aws:SourceArn"] == nil && len(context) > 0 && context["kms:EncryptionContext:app"] == nil) && len(context) > 0 {
						continue // no such call
					}
					r := iampolicy.Request{Caller: caller, Action: action, Resource: now.Key, Context: context}
					if allows(t, now, r) && !allows(t, old, r) {
						examples = append(examples, r)
					}
				}
			}
			if len(examples) == 0 {
				continue
			}
			opened++
			first := fmt.Sprintf("seed %d: %s may do %s with %v by %s", seed, examples[0].Caller.ARN, action, examples[0].Context, text)
			if !slices.Contains(found(report), "policy-widened") && !undecided(report.Notes) {
				t.Errorf("guard does not find it: %s", first)
			}
			if matrix == nil {
				matrix = matrixOf(t, changed)
			}
			if i := slices.IndexFunc(examples, func(r iampolicy.Request) bool { return !shows(matrix, before, r) }); i >= 0 {
				t.Errorf("seed %d: explain does not show that %s may do %s with %v by %s", seed, examples[i].Caller.ARN, action, examples[i].Context, text)
			}
			i := slices.IndexFunc(examples, func(r iampolicy.Request) bool { return len(r.Context) == 0 })
			if i < 0 || action == "kms:PutKeyPolicy" && !strings.Contains(examples[i].Caller.ARN, abroad) {
				continue // administration of the account's own, and by services, which have no such call
			}
			unbound++
			if !slices.ContainsFunc(faults.Findings, func(f finding.Finding) bool {
				return slices.Contains([]string{"key-policy-any-principal", "key-policy-cross-account", "key-policy-all-actions", "crypto-delegated-to-iam", "grants-unrestricted", "use-without-context"}, f.Rule)
			}) && (action == "kms:Decrypt" || !strings.Contains(examples[i].Caller.ARN, home)) {
				t.Errorf("check does not find that %s may do %s with nothing by %s", examples[i].Caller.ARN, action, text)
			}
		}
	}
	if opened < rounds/2 || unbound < rounds/4 {
		t.Errorf("%d of %d are open, %d without a context", opened, rounds, unbound)
	}
}

// accessOf is all that decides on the key of the secrets.
func accessOf(e *estate.Estate) iampolicy.Access { return e.Access(e.Stacks[0].Things[secretsKey]) }

// allows asks the evaluator. IAM allows strangers everything.
func allows(t *testing.T, a iampolicy.Access, r iampolicy.Request) bool {
	t.Helper()
	d, err := iampolicy.Evaluate(r, iampolicy.Policies{Resource: a.Policy, Identity: explain.Administrator()})
	if err != nil {
		t.Fatal(err)
	}
	return d.Allowed
}

func undecided(notes []finding.Note) bool {
	return slices.ContainsFunc(notes, func(n finding.Note) bool { return strings.HasPrefix(n.Message, "not decided") })
}

func matrixOf(t *testing.T, a *estate.Estate) *explain.Matrix {
	t.Helper()
	inputs, err := explain.FromEstate(a, "")
	if err != nil {
		t.Fatal(err)
	}
	m, err := explain.Explain(inputs[0])
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// shows tells whether a column of a matrix allows a request by the conditions that stand
// there, which it did not before.
func shows(m, before *explain.Matrix, r iampolicy.Request) bool {
	met := func(c explain.Condition) bool {
		ok, err := iampolicy.Requirement{Operator: c.Operator, Key: c.Key, Values: c.Values}.Met(r)
		return err == nil && ok
	}
	all := func(way []explain.Condition) bool {
		return !slices.ContainsFunc(way, func(c explain.Condition) bool { return !met(c) })
	}
	for k, row := range m.Rows {
		if row.Action != r.Action {
			continue
		}
		old := map[string]explain.Cell{}
		for _, cell := range before.Rows[k].Cells {
			old[cell.Principal] = cell
		}
		for _, cell := range row.Cells {
			if reflect.DeepEqual(old[cell.Principal], cell) || cell.Answer != explain.Yes && cell.Answer != explain.Conditional {
				continue
			}
			if (len(cell.When) == 0 || slices.ContainsFunc(cell.When, all)) && !slices.ContainsFunc(cell.Unless, all) {
				return true
			}
		}
	}
	return false
}

// TestAlarmOffBefore: an alarm whose actions were off told nobody, and loses nothing.
func TestAlarmOffBefore(t *testing.T) {
	read := func(enabled bool) *estate.Estate {
		a, err := cfn.Parse("t", fmt.Appendf(nil, `{"Resources":{"A":{"Type":"AWS::CloudWatch::Alarm","Properties":{"AlarmName":"a","ActionsEnabled":%t,"AlarmActions":["arn:aws:sns:eu-central-1:111122223333:t"]}}}}`, enabled), cfn.Environment{})
		if err != nil {
			t.Fatal(err)
		}
		return estate.FromTemplates(a)
	}
	for before, want := range map[bool]int{true: 1, false: 0} {
		report, err := guard.Compare(read(before), read(false), guard.Options{})
		if err != nil || len(report.Findings) != want {
			t.Errorf("with actions %t before: %v, %v", before, report.Findings, err)
		}
	}
}
