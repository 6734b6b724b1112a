package adopt_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/adopt"
	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/live/livetest"
)

// world is a fake in which the default cluster runs without a key of its own, beside the key
// that its template makes.
func world(t *testing.T, change func(*livetest.AWS)) (*livetest.AWS, *live.AWS, adopt.Target) {
	t.Helper()
	a, err := cfn.Load("../../test/snapshot/testdata/default.golden.json", cfn.Environment{Account: "111122223333", Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	fake := &livetest.AWS{Account: "111122223333"}
	fake.Deploy(a)
	key := fake.Find("AWS::KMS::Key", "SecretsKeyE")
	key.State["Grants"] = nil
	delete(fake.Find("AWS::EKS::Cluster", "ekskms").Properties, "EncryptionConfig")
	if change != nil {
		change(fake)
	}
	server := fake.Start()
	t.Cleanup(server.Close)
	for _, v := range livetest.Environment(server.URL) {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	aws, err := live.New(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return fake, aws, adopt.Target{Region: "eu-central-1", Cluster: "ekskms", Key: key.ARN}
}

// TestLook: the key is judged as if the cluster were under it.
func TestLook(t *testing.T) {
	fake, aws, target := world(t, nil)
	looked, err := adopt.Look(t.Context(), aws, target)
	if err != nil {
		t.Fatal(err)
	}
	if looked.Key != "" || looked.Version == "" || looked.Status != "ACTIVE" && looked.Status != "ADOPTING" {
		t.Errorf("looked %+v", looked)
	}
	for _, f := range looked.Report.Findings {
		if f.Rule != "alarm-unheard" {
			t.Errorf("found %s %s: %s", f.Rule, f.Resource, f.Message)
		}
	}
	// Without the key, the cluster is what it is.
	bare := target
	bare.Key = ""
	if looked, err = adopt.Look(t.Context(), aws, bare); err != nil || !strings.Contains(rules(looked), "secrets-not-encrypted") {
		t.Errorf("without a key: %v, %s", err, rules(looked))
	}
	fake.Find("AWS::KMS::Key", "SecretsKeyE").Properties["EnableKeyRotation"] = false
	fake.Find("AWS::KMS::Key", "SecretsKeyE").Properties["KeyPolicy"] = map[string]any{"Version": "2012-10-17", "Statement": []any{
		map[string]any{"Effect": "Allow", "Principal": map[string]any{"AWS": "arn:aws:iam::111122223333:role/Admin"}, "Action": "kms:*", "Resource": "*"},
	}}
	if looked, err = adopt.Look(t.Context(), aws, target); err != nil {
		t.Fatal(err)
	}
	for _, rule := range []string{"key-rotation-off", "cluster-role-missing"} {
		if !strings.Contains(rules(looked), rule) {
			t.Errorf("%s is not found: %s", rule, rules(looked))
		}
	}
}

func rules(l *adopt.Looked) string {
	var all []string
	for _, f := range l.Report.Findings {
		all = append(all, f.Rule)
	}
	return strings.Join(all, " ")
}

// TestApply: what EKS answers is told, an interrupt loses nothing, and nothing is asked twice.
func TestApply(t *testing.T) {
	at := func(looks int, ends string) func(*livetest.AWS) {
		return func(a *livetest.AWS) {
			a.Updates = []*livetest.Update{{ID: "earlier", Cluster: "ekskms", Key: a.Find("AWS::KMS::Key", "SecretsKeyE").ARN, Looks: looks, Ends: ends}}
		}
	}
	for _, tt := range []struct {
		name      string
		change    func(*livetest.AWS)
		asked     int    // for the association
		fault     string // the error
		encrypted bool
	}{
		{"done", nil, 1, "", true},
		{"under way since an earlier run", at(4, ""), 0, "", true},
		{"fails", at(3, "Failed"), 0, "as Failed: AccessDenied: EKS may not use the key", false},
		{"cancelled", at(3, "Cancelled"), 0, "as Cancelled", false},
		{"done before", func(a *livetest.AWS) {
			a.Find("AWS::EKS::Cluster", "ekskms").Properties["EncryptionConfig"] = []any{map[string]any{"Provider": map[string]any{"KeyArn": "x"}}}
		}, 1, "InvalidParameterException: Encryption is already enabled", true},
		{"refused", func(a *livetest.AWS) { a.Refused = []string{"eks:AssociateEncryptionConfig"} }, 1, "eks:AssociateEncryptionConfig was refused: AccessDeniedException", false},
		{"not to be looked at", func(a *livetest.AWS) { a.Refused = []string{"eks:ListUpdates"} }, 0, "eks:ListUpdates was refused", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fake, aws, target := world(t, tt.change)
			var seen []string
			err := adopt.Apply(t.Context(), aws, target, func(u live.Update) { seen = append(seen, u.Status) }, func(context.Context) error { return nil })
			if tt.fault == "" && err != nil || tt.fault != "" && (err == nil || !strings.Contains(err.Error(), tt.fault)) {
				t.Errorf("the error is %v, want %q", err, tt.fault)
			}
			if fake.Called["eks:AssociateEncryptionConfig"] != tt.asked {
				t.Errorf("it was asked for %d times, want %d", fake.Called["eks:AssociateEncryptionConfig"], tt.asked)
			}
			if got := fake.Find("AWS::EKS::Cluster", "ekskms").Properties["EncryptionConfig"] != nil; got != tt.encrypted {
				t.Errorf("encrypted: %t", got)
			}
			if err == nil && seen[len(seen)-1] != "Successful" {
				t.Errorf("the progress was %v", seen)
			}
		})
	}
	fake, aws, target := world(t, nil)
	interrupt := errors.New("interrupted")
	err := adopt.Apply(t.Context(), aws, target, func(live.Update) {}, func(context.Context) error { return interrupt })
	if !errors.Is(err, interrupt) || !strings.Contains(err.Error(), "goes on: run this again") {
		t.Errorf("interrupted, the error is %v", err)
	}
	if err := adopt.Apply(t.Context(), aws, target, func(live.Update) {}, func(context.Context) error { return nil }); err != nil || fake.Called["eks:AssociateEncryptionConfig"] != 1 {
		t.Errorf("taken up again: %v, after %d calls", err, fake.Called["eks:AssociateEncryptionConfig"])
	}
}

// TestCaller: a session of a role is its role, with the path that the session does not say.
func TestCaller(t *testing.T) {
	for session, want := range map[string]string{
		"arn:aws:iam::111122223333:user/me":                "arn:aws:iam::111122223333:user/me",
		"arn:aws:sts::111122223333:assumed-role/Admin/me":  "arn:aws:iam::111122223333:role/team/Admin",
		"arn:aws:sts::111122223333:assumed-role/Nobody/me": "",
	} {
		_, aws, target := world(t, func(a *livetest.AWS) {
			a.Caller = session
			a.Things = append(a.Things, &livetest.Thing{Type: "AWS::IAM::Role", ID: "Admin", ARN: "arn:aws:iam::111122223333:role/team/Admin", Account: "111122223333", Properties: map[string]any{"Path": "/team/"}})
		})
		looked, err := adopt.Look(t.Context(), aws, target)
		if err != nil || looked.Caller != want || !strings.HasPrefix(looked.Role, "arn:aws:iam::111122223333:role/") {
			t.Errorf("%s is %q, the cluster's role %q: %v", session, looked.Caller, looked.Role, err)
		}
	}
}
