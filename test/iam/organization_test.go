package iam

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/iampolicy"
)

// organization are service control policies, whose names begin with SCP, and resource
// control policies.
var organization = map[string]iampolicy.Document{
	"SCP no decryption": control(iampolicy.Statement{Effect: iampolicy.Deny, Action: iampolicy.Values{"kms:Decrypt", "kms:ReEncrypt*"}}),
	"SCP administration by the administrators": control(iampolicy.Statement{
		Effect: iampolicy.Deny, Action: iampolicy.Values{"kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "kms:Disable*"},
		Condition: iampolicy.Condition{"ArnNotLike": {"aws:PrincipalArn": {"arn:aws:iam::*:role/*Admin"}}},
	}),
	"SCP a list": control(
		iampolicy.Statement{Effect: iampolicy.Allow, Action: iampolicy.Values{"kms:Describe*", "kms:List*", "kms:Get*", "s3:*"}},
		iampolicy.Statement{Effect: iampolicy.Allow, Action: iampolicy.Values{"kms:Encrypt", "kms:Decrypt"}, Condition: iampolicy.Condition{"StringEquals": {"aws:PrincipalTag/kubernetes-namespace": {"ekskms-system"}}}}),
	"SCP all but": control(iampolicy.Statement{Effect: iampolicy.Allow, NotAction: iampolicy.Values{"kms:CreateGrant", "kms:PutKeyPolicy"}}),
	"RCP the account alone": ofResources(iampolicy.Statement{
		Action:    iampolicy.Values{"kms:*"},
		Condition: iampolicy.Condition{"StringNotEqualsIfExists": {"aws:PrincipalAccount": {account}}, "BoolIfExists": {"aws:PrincipalIsAWSService": {"false"}}},
	}),
	"RCP no services": ofResources(iampolicy.Statement{Action: iampolicy.Values{"kms:Decrypt", "kms:GenerateDataKey*"}, Condition: iampolicy.Condition{"Bool": {"aws:PrincipalIsAWSService": {"true"}}}}),
	"RCP no grants":   ofResources(iampolicy.Statement{Action: iampolicy.Values{"kms:CreateGrant"}}),
}

func control(statements ...iampolicy.Statement) iampolicy.Document {
	for i := range statements {
		statements[i].Resource = iampolicy.Values{"*"}
	}
	return iampolicy.NewDocument(statements...)
}

func ofResources(s iampolicy.Statement) iampolicy.Document {
	s.Effect, s.Principal = iampolicy.Deny, iampolicy.Principal{AWS: iampolicy.Values{"*"}}
	return control(s)
}

// TestOrganization gives each row to the evaluator and to the simulator under policies of
// an organization: the two must agree.
func TestOrganization(t *testing.T) {
	requested := []string{"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:CreateGrant", "kms:DescribeKey", "kms:GetKeyPolicy", "kms:PutKeyPolicy", "kms:DisableKey"}
	sets := [][]string{
		{"SCP a list", "SCP all but"}, {"SCP no decryption", "RCP no services"}, {"SCP a list", "RCP the account alone", "RCP no grants"},
	}
	for _, name := range slices.Sorted(maps.Keys(organization)) {
		sets = append(sets, []string{name})
	}
	var questions []question
	for _, set := range sets {
		for _, r := range rows {
			for _, q := range r.questions(r.policy) {
				if !slices.Contains(requested, q.Action) {
					continue
				}
				q.Context["aws:PrincipalIsAWSService"] = "false"
				if !strings.HasPrefix(r.who.arn, "arn:") {
					q.Context["aws:PrincipalIsAWSService"] = "true"
				}
				for _, name := range set {
					switch {
					case r.who.roleARN == autoScaling.roleARN: // no organization limits a service-linked role
					case !strings.HasPrefix(name, "SCP "):
						q.RCPs = append(q.RCPs, name)
					case strings.Contains(r.who.arn, ":"+account+":"):
						q.SCPs = append(q.SCPs, name)
					}
				}
				questions = append(questions, q)
			}
		}
	}
	answers := simulate(t, documents(), questions)
	changed := map[string]int{}
	for _, set := range sets {
		var of []iampolicy.NamedDocument
		for _, name := range set {
			of = append(of, iampolicy.NamedDocument{Name: name, Document: organization[name]})
		}
		for _, r := range rows {
			for _, q := range r.questions(r.policy) {
				action := q.Action
				if !slices.Contains(requested, action) {
					continue
				}
				theirs := answers[0]
				answers = answers[1:]
				if theirs.Error != "" {
					t.Fatalf("%v %s: %s", set, r.name, theirs.Error)
				}
				ours, err := evaluate(documents()[r.policy], r, action, of...)
				if err != nil {
					t.Fatal(err)
				}
				if ours.Allowed != (theirs.Result == "Allowed") {
					t.Errorf("%v, %s, %s: the simulator says %s; %s", set, r.name, action, theirs.Result, ours.Reason)
				}
				if !ours.Allowed && slices.Contains(r.may, action) {
					changed[strings.Join(set, ", ")]++
				}
			}
		}
	}
	for _, set := range sets {
		if changed[strings.Join(set, ", ")] == 0 {
			t.Errorf("%v takes nothing away, so proves nothing", set)
		}
	}
}
