//go:build !race

package snapshot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/config"
)

// TestGolden holds every template against its golden, so that a change of
// CDK or of a construct is seen by its author. What matters in the
// goldens is said in the properties.
func TestGolden(t *testing.T) {
	for name, template := range templates {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name+".golden.json")
			got := template.golden()
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("%v; run `make goldens`", err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("the template changed; if it should, run `make goldens` (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSynthesisRepeats wants every file of the assembly to be the same, byte by
// byte, when the same configuration is synthesized again.
func TestSynthesisRepeats(t *testing.T) {
	first, second := assembly, t.TempDir()
	if _, _, err := synthesize(second, config.Default(), false); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(first, "*.json"))
	if err != nil || len(files) < 4 {
		t.Fatalf("found %d files: %v", len(files), err)
	}
	for _, file := range files {
		a, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(second, filepath.Base(file)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs: %s", filepath.Base(file), cmp.Diff(string(a), string(b)))
		}
	}
}

// TestStacksAreProtected: the assembly asks for termination protection.
func TestStacksAreProtected(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(assembly, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest any
	if err := json.Unmarshal(data, &manifest); err != nil {
		t.Fatal(err)
	}
	if got := at(manifest, "artifacts.ekskms-ekskms.properties.terminationProtection"); got != true {
		t.Errorf("termination protection is %v", got)
	}
}

// TestIDsArePinned: another logical ID is another resource, and so another
// cluster or another key. These never change.
func TestIDsArePinned(t *testing.T) {
	pinned := map[string]string{
		"EncryptedClusterA9297881": "AWS::EKS::Cluster",
		"SecretsKeyE4821A66":       "AWS::KMS::Key",
		"SecretsKeyAliasF590BEF1":  "AWS::KMS::Alias",
		"AuditTrailKeyA4D56A7A":    "AWS::KMS::Key",
		"AuditTrail49D399D8":       "AWS::CloudTrail::Trail",
		"AuditTrailLogsD47DB5AF":   "AWS::S3::Bucket",
		// A changed ID of these replaces what the key policy or EKS names.
		"AuditTrailAlarms62214698":                     "AWS::SNS::Topic",
		"EncryptedClusterClusterRoleB274515C":          "AWS::IAM::Role",
		"EncryptedClusterKmsPluginRoleC6DF9AF0":        "AWS::IAM::Role",
		"EncryptedClusterKmsPluginPodIdentity6ACD28A4": "AWS::EKS::PodIdentityAssociation",
		"EncryptedClusterLogs1DFCF358":                 "AWS::Logs::LogGroup",
		"EncryptedClusterLogsKeyAC9FB688":              "AWS::KMS::Key",
	}
	for _, name := range []string{"default", "01_minimal", "03_node_group"} {
		for id, kind := range pinned {
			if got := templates[name].resources()[id]["Type"]; got != kind {
				t.Errorf("%s: %s is %v, must be %s", name, id, got, kind)
			}
		}
	}
	tenants := map[string]string{
		"EncryptedClusterKmsPluginTenantRoleacmeAD75E215":        "AWS::IAM::Role",
		"EncryptedClusterKmsPluginTenantPodIdentityacme7F981CDB": "AWS::EKS::PodIdentityAssociation",
		// Another ID would make a second access entry of one principal.
		"SecretsRbacAccess77a6d33080B825D1": "AWS::EKS::AccessEntry",
	}
	maps.Copy(tenants, pinned)
	for id, kind := range tenants {
		if got := templates["04_tenants_and_secrets"].resources()[id]["Type"]; got != kind {
			t.Errorf("04_tenants_and_secrets: %s is %v, must be %s", id, got, kind)
		}
	}
	paths := map[string]string{
		"EncryptedClusterA9297881": "ekskms-ekskms/EncryptedCluster/Cluster/Resource",
		"SecretsKeyE4821A66":       "ekskms-ekskms/SecretsKey/Resource/Resource",
	}
	for id, path := range paths {
		if got := at(templates["default"].resources()[id], "Metadata.aws:cdk:path"); got != path {
			t.Errorf("the path of %s is %v, must be %s", id, got, path)
		}
	}
	if got := templates["02_existing_vpc_and_key"].resources()["EncryptedClusterA9297881"]["Type"]; got != "AWS::EKS::Cluster" {
		t.Errorf("02_existing_vpc_and_key: the cluster has another ID")
	}
}

// TestLargestKeyPolicy: with all that ekskms.yaml takes at its most, KMS takes the
// key policy. Source of its limit: AWS KMS API Reference, PutKeyPolicy.
func TestLargestKeyPolicy(t *testing.T) {
	const country = "us-gov-west-1"
	arns := func(field string) string {
		b := "  " + field + ":\n"
		for i := range 10 {
			b += fmt.Sprintf("  - arn:aws-us-gov:iam::111122223333:role/%s/%0*d\n", strings.Repeat("p", 37), 64, i)
		}
		return b
	}
	yaml := "clusters:\n- name: " + strings.Repeat("c", 100) + "\n  account: \"111122223333\"\n  region: " + country + "\n" +
		"  key: {multiRegion: true, strictGrants: true}\n" + arns("administrators") + arns("creators") +
		"  plugin:\n    mode: sidecar\n    image: registry.example/kms-plugin:v1\n    tenants:\n"
	for i := range 20 {
		yaml += fmt.Sprintf("    - {name: \"%[1]s\", namespace: \"%[1]s\", serviceAccount: \"%[1]s\"}\n", fmt.Sprintf("%040d", i))
	}
	statements := mustSynthesize(t, yaml).keyStatements()
	if len(statements) != 28 {
		t.Errorf("%d statements", len(statements))
	}
	policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": deployed(statements)})
	if err != nil || len(policy) > 32*1024 {
		t.Errorf("%d bytes, %v", len(policy), err)
	}
	t.Logf("%d bytes", len(policy))
}

// deployed puts in what CloudFormation does: for a role the longest ARN that it
// makes up.
func deployed(value any) any {
	switch v := value.(type) {
	case []map[string]any:
		all := make([]any, len(v))
		for i := range v {
			all[i] = deployed(v[i])
		}
		return all
	case []any:
		all := make([]any, len(v))
		for i := range v {
			all[i] = deployed(v[i])
		}
		return all
	case map[string]any:
		if v["Fn::GetAtt"] != nil {
			return "arn:aws-us-gov:iam::111122223333:role/" + strings.Repeat("r", 64)
		}
		if v["Fn::Join"] != nil || v["Ref"] != nil {
			return text(v)
		}
		all := map[string]any{}
		for key, e := range v {
			all[key] = deployed(e)
		}
		return all
	}
	return value
}
