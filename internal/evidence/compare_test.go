package evidence_test

import (
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/estate/estatetest"
	"github.com/ekskms/ekskms/internal/evidence"
)

func against(t *testing.T, e *estate.Estate) *evidence.Written {
	t.Helper()
	w, err := evidence.Against(e, "")
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestJudge: each use is held to what is written of the key.
func TestJudge(t *testing.T) {
	e := estatetest.Estate(t, estatetest.Golden(t, "default"))
	w := against(t, e)
	account := e.Clusters[0].In.Account
	role := func(name string) string { return "arn:aws:iam::" + account + ":role/" + name }
	stack := e.Clusters[0].In.Name
	id := func(prefix string) string {
		for _, r := range e.Of(estate.KindRole) {
			if strings.HasPrefix(r.LogicalID, prefix) {
				return r.LogicalID
			}
		}
		t.Fatal(prefix)
		return ""
	}
	plugin, cluster := role(stack+"-"+id("EncryptedClusterKmsPlugin")+"-ABCDEFGHIJKL"), role(stack+"-"+id("EncryptedClusterClusterRole")+"-ABCDEFGHIJKL")
	for _, tt := range []struct {
		name, principal, via, action, context string
		want                                  evidence.Verdict
	}{
		{"EKS", "eks.amazonaws.com", "", "Decrypt", evidence.ContextEKS, evidence.Expected},
		{"KMS itself", "AWS Internal", "", "RotateKey", evidence.ContextNone, evidence.Expected},
		{"the plugin", plugin, "", "Decrypt", evidence.ContextPlugin, evidence.Expected},
		{"the plugin deletes", plugin, "", "ScheduleKeyDeletion", evidence.ContextNone, evidence.NotAllowed},
		{"the cluster's role", cluster, "", "DescribeKey", evidence.ContextNone, evidence.Expected},
		{"the cluster's role decrypts", cluster, "", "Decrypt", evidence.ContextNone, evidence.NotAllowed},
		{"a stranger decrypts", role("Stranger"), "", "Decrypt", evidence.ContextNone, evidence.NotAllowed},
		{"a stranger with EKS's context", role("Stranger"), "", "Decrypt", evidence.ContextEKS, evidence.NotAllowed},
		{"an administrator by IAM", role("Admin"), "", "PutKeyPolicy", evidence.ContextNone, evidence.Unexpected},
		{"the creator", role("cdk-hnb659fds-cfn-exec-role-" + account + "-" + e.Clusters[0].In.Region), "eks.amazonaws.com", "CreateGrant", evidence.ContextNone, evidence.Expected},
		{"another account", "account 444455556666, principal AROAX", "", "Decrypt", evidence.ContextNone, evidence.NotAllowed},
		{"another account with EKS's context", "account 444455556666, principal AROAX", "", "Decrypt", evidence.ContextEKS, evidence.Unexpected},
		{"another service", "lambda.amazonaws.com", "", "Decrypt", evidence.ContextNone, evidence.NotAllowed},
		{"a role of a name that is like", role(stack + "-" + id("EncryptedClusterKmsPlugin")[:12] + "-ABCDEFGHIJKL"), "", "Decrypt", evidence.ContextPlugin, evidence.NotAllowed},
		{"the same name in another account", strings.Replace(plugin, account, "444455556666", 1), "", "Decrypt", evidence.ContextPlugin, evidence.NotAllowed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, why := w.Judge(tt.principal, tt.via, tt.action, tt.context); got != tt.want {
				t.Errorf("%s: %s, want %s", got, why, tt.want)
			}
		})
	}
	// What is written decides: without the statement, the plugin is a stranger.
	changed := estatetest.Golden(t, "default")
	policy := changed.Resource("SecretsKeyE4821A66")["Properties"].(map[string]any)["KeyPolicy"].(map[string]any)
	var left []any
	for _, s := range policy["Statement"].([]any) {
		if sid, _ := s.(map[string]any)["Sid"].(string); sid != "PluginUse" {
			left = append(left, s)
		}
	}
	policy["Statement"] = left
	if got, _ := against(t, estatetest.Estate(t, changed)).Judge(plugin, "", "Decrypt", evidence.ContextPlugin); got != evidence.NotAllowed {
		t.Errorf("without its statement, the plugin is %s", got)
	}
	open := estatetest.Golden(t, "default")
	policy = open.Resource("SecretsKeyE4821A66")["Properties"].(map[string]any)["KeyPolicy"].(map[string]any)
	policy["Statement"] = append(policy["Statement"].([]any), map[string]any{"Effect": "Allow", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"})
	if got, _ := against(t, estatetest.Estate(t, open)).Judge(role("Stranger"), "", "Decrypt", evidence.ContextNone); got != evidence.Unexpected {
		t.Errorf("where anybody may, a stranger is %s", got)
	}
}

// TestTenantsByName: tenants have the names that the key policy has, and others have none.
func TestTenantsByName(t *testing.T) {
	e := estatetest.Estate(t, estatetest.Golden(t, "04_tenants_and_secrets"))
	w := against(t, e)
	arn := e.Clusters[0].ARN
	for _, tt := range []struct{ cluster, tenant, want string }{{arn, "acme", "tenant acme"}, {arn, "stranger", ""}, {"arn:aws:eks:eu-central-1:444455556666:cluster/x", "acme", ""}} {
		if got := w.Tenant(tt.cluster, tt.tenant); got != tt.want {
			t.Errorf("%s of %s is %q, want %q", tt.tenant, tt.cluster, got, tt.want)
		}
	}
}
