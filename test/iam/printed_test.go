package iam

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
)

// TestPrintedIAMPolicies gives what `ekskms generate iam-policy` prints for an
// example to the simulator, as the one policy of a role, under a key policy that
// leaves everything to IAM.
func TestPrintedIAMPolicies(t *testing.T) {
	const dir = "../../internal/cli/testdata/generated/02_existing_vpc_and_key"
	for _, who := range []string{"admin", "creator", "plugin"} {
		data, err := os.ReadFile(filepath.Join(dir, "iam-policy-"+who+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if identities["printed "+who], err = iampolicy.Parse(data); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { delete(identities, "printed "+who) })
	}
	const payments = "arn:aws:eks:eu-central-1:111122223333:cluster/payments"
	pod := sessionTags(payments, "ekskms-system", "kms-plugin")
	own := encryptionContext(keypolicy.ContextKey, payments)
	rows := []row{
		{name: "an administrator", who: sessionOf("a", "printed admin"), may: keypolicy.Administration(false)},
		{name: "a creator", who: sessionOf("a", "printed creator"), context: grantFromEKS, may: []string{"kms:CreateGrant", "kms:DescribeKey"}},
		{name: "a creator, for tenants", who: sessionOf("a", "printed creator"), context: with(acmeContext, request{"kms:GrantConstraintType": "EncryptionContextEquals"}), may: []string{"kms:DescribeKey"}},
		{name: "the plugin", who: sessionOf("a", "printed plugin"), context: with(pod, own), may: []string{"kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey", "kms:ListGrants"}},
		{name: "the plugin, another context", who: sessionOf("a", "printed plugin"), context: with(pod, wrong), may: []string{"kms:DescribeKey", "kms:ListGrants"}},
		{name: "the plugin, one key more", who: sessionOf("a", "printed plugin"), context: with(pod, own, encryptionContext(keypolicy.ContextKey, payments, "b", "c")), may: []string{"kms:DescribeKey", "kms:ListGrants"}},
		{name: "the plugin, other pods", who: sessionOf("a", "printed plugin"), context: with(sessionTags(payments, "default", "default"), own)},
	}
	var questions []question
	for _, r := range rows {
		questions = append(questions, r.questions("left to IAM")...)
	}
	answers := simulate(t, documents(), questions)
	for i, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got := allowed(t, questions[i*len(judgedActions):(i+1)*len(judgedActions)], answers[i*len(judgedActions):(i+1)*len(judgedActions)])
			var want []string
			for _, action := range judgedActions {
				if slices.Contains(r.may, action) {
					want = append(want, action)
				}
			}
			if diff := compare(got, want); diff != "" {
				t.Error(diff)
			}
		})
	}
}
