//go:build !race

package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"
)

func TestMain(m *testing.M) {
	// Before the first call of jsii, so that Node gets it.
	_ = os.Setenv("CDK_VALIDATION", "false")
	jsii.Close()
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}

// sids are the statements of the policy of the only key with the alias, and whom each is
// for.
func sids(t *testing.T, template assertions.Template, description string) map[string]string {
	t.Helper()
	found := template.FindResources(jsii.String("AWS::KMS::Key"), map[string]any{"Properties": map[string]any{"Description": description}})
	if len(*found) != 1 {
		t.Fatalf("%d keys %q", len(*found), description)
	}
	all := map[string]string{}
	for _, key := range *found {
		policy := (*key)["Properties"].(map[string]any)["KeyPolicy"].(map[string]any)
		for _, s := range policy["Statement"].([]any) {
			principal, err := json.Marshal(s.(map[string]any)["Principal"])
			if err != nil {
				t.Fatal(err)
			}
			all[s.(map[string]any)["Sid"].(string)] = string(principal)
		}
	}
	return all
}

func TestPlain(t *testing.T) {
	template := assertions.Template_FromStack(newPlain(awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir())})), nil)
	template.HasResourceProperties(jsii.String("AWS::EKS::Cluster"), map[string]any{
		"EncryptionConfig": []any{map[string]any{
			"Provider":  map[string]any{"KeyArn": map[string]any{"Fn::GetAtt": []any{assertions.Match_StringLikeRegexp(jsii.String("^Key")), "Arn"}}},
			"Resources": []any{"secrets"},
		}},
	})
	policy := sids(t, template, "Encrypts the Kubernetes secrets of EKS cluster plain")
	for sid, principal := range map[string]string{
		"AccountAdministration": ":root", "ClusterCreatorsGrant": "cfn-exec-role", "ClusterRole": "ClusterRole", "PluginUse": "PluginRole",
	} {
		if !strings.Contains(policy[sid], principal) {
			t.Errorf("statement %s is for %q, want %s", sid, policy[sid], principal)
		}
	}
	template.ResourceCountIs(jsii.String("AWS::Events::Rule"), jsii.Number(15))
	template.ResourceCountIs(jsii.String("AWS::EKS::PodIdentityAssociation"), jsii.Number(1))
	template.ResourceCountIs(jsii.String("Custom::AWSCDK-EKS-KubernetesResource"), jsii.Number(2))
}

// The handler's role creates the cluster: the key lets it.
func TestOlder(t *testing.T) {
	template := assertions.Template_FromStack(newOlder(awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir())})), nil)
	policy := sids(t, template, "Encrypts the Kubernetes secrets of EKS cluster older")
	if !strings.Contains(policy["ClusterCreatorsGrant2"], "ClusterCreationRole") || !strings.Contains(policy["ClusterRole"], "ClusterRole") {
		t.Errorf("the policy is %v", policy)
	}
	template.ResourceCountIs(jsii.String("Custom::AWSCDK-EKS-Cluster"), jsii.Number(1))
}
