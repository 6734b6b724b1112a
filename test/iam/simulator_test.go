// Package iam has the policies of the keys judged by a simulator of IAM that
// shares no code with this project: @cloud-copilot/iam-simulate from npm.
//
// What the simulator can't say, and how the tests deal with it:
//
//   - It knows no grants. EKS encrypts and decrypts through one, and KMS lets the
//     principals that a grant names retire it: the rows here judge the policies
//     alone.
//   - It does not know that an account's root user may do everything where a key
//     policy names the account: the root user gets an identity policy that says
//     so.
//   - Its checked run drops kms:EncryptionContext:<key> from a request, and its
//     unchecked run knows no session policies and no endpoint policies:
//     simulate.mjs takes the unchecked run, after the checked one found no fault,
//     for exactly the requests with such a key.
//   - It applies the service control policies that it is given to whatever caller, and
//     resource control policies to service-linked roles and to kms:RetireGrant too: the
//     tests give it those of the caller's account, and leave these callers and this action
//     out.
//   - It fills in no context keys by itself: the tests write aws:PrincipalArn,
//     aws:PrincipalAccount and kms:CallerAccount into each request.
//
// Where it can be compared with the IAM User Guide and the AWS KMS Developer
// Guide, it agrees with them.
package iam

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/iampolicy"
)

const (
	account = "111122223333"
	keyARN  = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

// principal is somebody who asks.
type principal struct {
	// arn is the principal of the request: a session, a root user, a service.
	arn string
	// roleARN is the role of a session.
	roleARN string
	// identity names the identity policy. Empty for none.
	identity string
}

// row says everything that one principal may do in one situation. Every other
// action that is asked about is denied to it.
type row struct {
	name    string
	policy  string
	who     principal
	context request
	may     []string
	why     string
}

// request is the context of a request, as KMS presents it to IAM.
type request map[string]any

// with merges contexts, the later ones over the earlier.
func with(contexts ...request) request {
	all := request{}
	for _, c := range contexts {
		maps.Copy(all, c)
	}
	return all
}

// encryptionContext is what a call with these pairs presents: the pairs, and
// the list of their keys.
func encryptionContext(pairs ...string) request {
	c, keys := request{}, []string{}
	for i := 0; i < len(pairs); i += 2 {
		c["kms:EncryptionContext:"+pairs[i]] = pairs[i+1]
		keys = append(keys, pairs[i])
	}
	c["kms:EncryptionContextKeys"] = keys
	return c
}

// question is one request as simulate.mjs reads it.
type question struct {
	Policy    string  `json:"policy"`
	Principal string  `json:"principal"`
	Identity  string  `json:"identity,omitempty"`
	Action    string  `json:"action"`
	Context   request `json:"context"`
	// Resource is what is asked for, if it is not the key.
	Resource string `json:"resource,omitempty"`
	// SCPs and RCPs name the policies of the organization: those of the caller's account, and
	// of the key's.
	SCPs []string `json:"scps,omitempty"`
	RCPs []string `json:"rcps,omitempty"`
}

func (r row) questions(policy string) []question {
	own := request{}
	if fields := strings.Split(r.who.arn, ":"); len(fields) > 4 {
		own = request{"aws:PrincipalArn": r.who.arn, "aws:PrincipalAccount": fields[4], "kms:CallerAccount": fields[4]}
		if r.who.roleARN != "" {
			own["aws:PrincipalArn"] = r.who.roleARN
		}
	}
	questions := make([]question, 0, len(judgedActions))
	for _, action := range judgedActions {
		questions = append(questions, question{Policy: policy, Principal: r.who.arn, Identity: r.who.identity, Action: action, Context: with(own, r.context)})
	}
	return questions
}

type answer struct {
	Result string   `json:"result"`
	Used   []string `json:"used"`
	Error  string   `json:"error"`
}

// simulate asks everything in one run of Node.
func simulate(t *testing.T, policies map[string]iampolicy.Document, questions []question) []answer {
	t.Helper()
	// Both files are read for go test, which then knows that a cached result
	// depends on them, and the first one to say what is missing.
	if _, err := os.ReadFile("../../node_modules/@cloud-copilot/iam-simulate/package.json"); err != nil {
		t.Fatalf("the IAM simulator is not installed: run 'npm ci' in the root of the repository (%v)", err)
	}
	if _, err := os.ReadFile("simulate.mjs"); err != nil {
		t.Fatal(err)
	}
	input, err := json.Marshal(map[string]any{
		"account": account, "key": keyARN, "policies": policies, "identities": identities, "organization": organization, "requests": questions,
	})
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	node := exec.CommandContext(t.Context(), "node", "simulate.mjs")
	node.Stdin, node.Stdout, node.Stderr = bytes.NewReader(input), &stdout, &stderr
	if err := node.Run(); err != nil {
		t.Fatalf("node simulate.mjs: %v\n%s", err, stderr.Bytes())
	}
	var answers []answer
	if err := json.Unmarshal(stdout.Bytes(), &answers); err != nil {
		t.Fatalf("%v in %.200s", err, stdout.Bytes())
	}
	if len(answers) != len(questions) {
		t.Fatalf("%d answers to %d questions", len(answers), len(questions))
	}
	return answers
}

// allowed reads the answers to the questions of one row.
func allowed(t *testing.T, questions []question, answers []answer) []string {
	t.Helper()
	var may []string
	used := map[string]bool{}
	for i, a := range answers {
		for _, key := range a.Used {
			used[key] = true
		}
		switch {
		case a.Error != "":
			t.Errorf("%s: the simulator refuses the request: %s", questions[i].Action, a.Error)
		case a.Result == "Allowed":
			may = append(may, questions[i].Action)
		case a.Result != "ImplicitlyDenied": // no policy here denies by itself
			t.Errorf("%s: %s", questions[i].Action, a.Result)
		}
	}
	for key := range questions[0].Context {
		if !used[key] {
			t.Errorf("no action carries the context key %s: is it misspelt?", key)
		}
	}
	return may
}

// TestPolicies asks for each row about each action, and for each mutation about
// each action of the row that it must change.
func TestPolicies(t *testing.T) {
	policies := documents()
	rowNames := map[string]row{}
	var questions []question
	for _, r := range rows {
		if _, twice := rowNames[r.name]; twice {
			t.Fatalf("two rows are named %q", r.name)
		}
		rowNames[r.name] = r
		questions = append(questions, r.questions(r.policy)...)
	}
	for _, m := range mutations {
		r, there := rowNames[m.row]
		if !there {
			t.Fatalf("mutation %q: no row is named %q", m.name, m.row)
		}
		mutant := documents()[r.policy]
		m.mutate(&mutant)
		policies[m.name] = mutant
		questions = append(questions, r.questions(m.name)...)
	}
	answers := simulate(t, policies, questions)
	next := func(t *testing.T) []string {
		may := allowed(t, questions[:len(judgedActions)], answers[:len(judgedActions)])
		questions, answers = questions[len(judgedActions):], answers[len(judgedActions):]
		return may
	}
	for _, r := range rows {
		t.Run(r.policy+"/"+r.name, func(t *testing.T) {
			if diff := compare(next(t), r.may); diff != "" {
				t.Errorf("%s\nexpected because %s", diff, r.why)
			}
		})
	}
	for _, m := range mutations {
		t.Run("mutation/"+m.name, func(t *testing.T) {
			if len(m.gained)+len(m.lost) == 0 {
				t.Fatal("changes nothing, so proves nothing")
			}
			before := rowNames[m.row].may
			after := slices.DeleteFunc(slices.Concat(before, m.gained), func(a string) bool { return slices.Contains(m.lost, a) })
			if diff := compare(next(t), after); diff != "" {
				t.Errorf("row %q: %s", m.row, diff)
			}
		})
	}
}

func compare(got, want []string) string {
	var diff []string
	for _, a := range got {
		if !slices.Contains(want, a) {
			diff = append(diff, fmt.Sprintf("%s is allowed and must be denied", a))
		}
	}
	for _, a := range want {
		if !slices.Contains(got, a) {
			diff = append(diff, fmt.Sprintf("%s is denied and must be allowed", a))
		}
	}
	sort.Strings(diff)
	return strings.Join(diff, "\n")
}
