package verify_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/live/livetest"
	"github.com/ekskms/ekskms/internal/verify"
)

const other = "444455556666"

// part is the default template, as a stack of an account and Region.
func part(t *testing.T, stack, account, region string) cfn.Part {
	t.Helper()
	data, err := os.ReadFile(golden + "default.golden.json")
	if err != nil {
		t.Fatal(err)
	}
	return cfn.Part{Name: stack, Account: account, Region: region, Data: data}
}

func together(t *testing.T, parts ...cfn.Part) *cfn.Assembly {
	t.Helper()
	a, err := cfn.ParseAll("cdk.out", parts, cfn.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestFleet: clusters in several accounts, Regions and partitions are verified in one run,
// under a role in the accounts that are not that of the credentials.
func TestFleet(t *testing.T) {
	a := together(t,
		part(t, "ekskms-ekskms", account, "eu-central-1"),
		part(t, "ekskms-minimal", account, "us-east-1"),
		part(t, "ekskms-mixed", other, "cn-north-1"),
	)
	const role = "arn:aws-cn:iam::" + other + ":role/Verifier"
	for _, tt := range []struct {
		name, role, account string
		assumable           bool
		wants               []string
	}{
		{"all", "Verifier", "", true, []string{"rotation-weakened ekskms-mixed ", "rotation-weakened ekskms-minimal "}},
		{"without a role", "", "", true, []string{"rotation-weakened ekskms-minimal ", "note : not judged: account " + other + " in cn-north-1: the credentials are of account " + account}},
		{"a role that can't be assumed", "Verifier", "", false, []string{"rotation-weakened ekskms-minimal ", "not authorized to perform sts:AssumeRole on resource " + role}},
		{"the own account alone", "Verifier", account, true, []string{"rotation-weakened ekskms-minimal ", "--fleet verifies all accounts"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fake, _ := deployed(t, a, func(f *livetest.AWS) {
				f.PageSize = 1000
				subscribe(f)
				if tt.assumable {
					f.Assumable = []string{role}
				}
				for _, k := range f.Things {
					if k.Type == "AWS::KMS::Key" && strings.HasPrefix(k.Logical, "SecretsKey") && k.Region != "eu-central-1" {
						k.Properties["EnableKeyRotation"] = false
					}
				}
			})
			aws, err := live.New(t.Context(), tt.role)
			if err != nil {
				t.Fatal(err)
			}
			report := verified(t, aws, verify.Options{Wanted: a, Stacks: true, Account: tt.account})
			// Two Regions of an account have the same principals, and a role is assumed once.
			if fake.Called["iam:GetAccountAuthorizationDetails"] > 2 || fake.Called["sts:AssumeRole"] > 1 && tt.assumable {
				t.Errorf("called %v", fake.Called)
			}
			text := print(report)
			for _, f := range report.Findings {
				text += f.Rule + " " + f.Stack + " \n"
			}
			for _, want := range tt.wants {
				if !strings.Contains(text, want) {
					t.Errorf("there is no %q in:\n%s", want, text)
				}
			}
			for _, f := range report.Findings {
				if f.Rule != "rotation-weakened" && f.Rule != "key-rotation-off" {
					t.Errorf("found %s %s: %s", f.Rule, f.Resource, f.Message)
				}
				if f.Stack == "ekskms-mixed" && tt.wants[0] != "rotation-weakened ekskms-mixed " {
					t.Errorf("what was not read is found: %s %s", f.Rule, f.Resource)
				}
			}
			if strings.Contains(text, "arn:aws:iam::"+other) {
				t.Errorf("an ARN is in another partition:\n%s", text)
			}
		})
	}
	_, aws := deployed(t, a, func(f *livetest.AWS) { f.Account = "999988887777" })
	if _, err := verify.Run(t.Context(), aws, verify.Options{Wanted: a, Stacks: true}); err == nil || !strings.Contains(err.Error(), "the credentials are of account 999988887777") {
		t.Errorf("where nothing can be read the error is %v", err)
	}
}

// TestKeyOfAnotherAccount: what KMS tells of it is judged, and what it does not is said.
func TestKeyOfAnotherAccount(t *testing.T) {
	a := wanted(t, golden+"02_existing_vpc_and_key.golden.json")
	const key = "arn:aws:kms:eu-central-1:" + other + ":key/1234abcd-12ab-34cd-56ef-1234567890ab"
	_, aws := deployed(t, a, func(f *livetest.AWS) {
		f.Things = append(f.Things, &livetest.Thing{Type: "AWS::KMS::Key", ID: key[strings.LastIndex(key, "/")+1:], ARN: key, Account: other, Region: region, State: map[string]any{}, Properties: map[string]any{"EnableKeyRotation": false}})
		c := f.Find("AWS::EKS::Cluster", "payments")
		c.Properties["EncryptionConfig"] = []any{map[string]any{"Resources": []any{"secrets"}, "Provider": map[string]any{"KeyArn": key}}}
		f.Grant(key, "payments", "eks.eu-central-1.amazonaws.com", "Decrypt")
	})
	text := print(verified(t, aws, verify.Options{Region: region, Clusters: []string{"payments"}}))
	for _, want := range []string{
		"high key-rotation-off key 1234abcd-12ab-34cd-56ef-1234567890ab: EnableKeyRotation is false",
		"not judged: kms:GetKeyPolicy on key " + key + " failed: the key is of account " + other,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in:\n%s", want, text)
		}
	}
	for _, not := range []string{"grant-missing", "key-no-durable-admin", "cluster-role-missing"} {
		if strings.Contains(text, not) {
			t.Errorf("%s is found, and can't be known:\n%s", not, text)
		}
	}
}

// TestTrouble: what is in the way of reading.
func TestTrouble(t *testing.T) {
	a := wanted(t, golden+"default.golden.json")
	alone := verify.Options{Region: region, Clusters: []string{"ekskms"}}
	for _, tt := range []struct {
		name   string
		change func(*livetest.AWS)
		fault  string   // the error
		wants  []string // what is in the report
		not    string   // what is not
	}{
		{"throttled, and then not", func(f *livetest.AWS) {
			f.Throttled = map[string]int{"kms:DescribeKey": 2, "iam:GetAccountAuthorizationDetails": 1, "events:ListTargetsByRule": 2, "sns:GetTopicAttributes": 1}
		}, "", nil, "not judged: kms"},
		{"throttled for good", func(f *livetest.AWS) { f.Throttled = map[string]int{"kms:GetKeyRotationStatus": 1000} }, "",
			[]string{"not judged: kms:GetKeyRotationStatus on key", "ThrottlingException: Rate exceeded"}, "rotation-off"},
		{"the credentials expire", func(f *livetest.AWS) {
			f.Failing = map[string]string{"cloudtrail:DescribeTrails": "ExpiredTokenException"}
		}, "ExpiredTokenException", nil, ""},
		{"the credentials expired before", func(f *livetest.AWS) { f.Failing = map[string]string{"sts:GetCallerIdentity": "ExpiredToken"} }, "ExpiredToken", nil, ""},
		{"a service has trouble", func(f *livetest.AWS) { f.Failing = map[string]string{"events:ListRules": "InternalException"} }, "",
			[]string{"not judged: events:ListRules on the default event bus failed: InternalException", "not judged: whether no alarm tells of"}, "medium tamper"},
		{"the cluster is being created", func(f *livetest.AWS) {
			c := f.Find("AWS::EKS::Cluster", "ekskms")
			c.State["status"] = "CREATING"
			secretsKey(f).State["Grants"] = nil
		}, "", []string{"EKS says that the cluster is CREATING: what it lacks may still come"}, "grant-missing"},
		{"the cluster has failed", state("AWS::EKS::Cluster", "ekskms", "status", "FAILED"), "", []string{"high cluster-unhealthy cluster ekskms: EKS says that the cluster is FAILED"}, ""},
		{"an identity provider", func(f *livetest.AWS) {
			f.Things = append(f.Things, &livetest.Thing{Type: "AWS::EKS::IdentityProviderConfig", ID: "ekskms/oidc/corp", Account: account, Region: region, Properties: map[string]any{
				"ClusterName": "ekskms", "Type": "oidc", "Oidc": map[string]any{"IssuerUrl": "https://idp.example.com", "ClientId": "kubernetes"},
			}})
		}, "", nil, "not judged: eks"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			deployed(t, a, func(f *livetest.AWS) {
				subscribe(f)
				tt.change(f)
			})
			t.Setenv("AWS_MAX_ATTEMPTS", "3")
			aws, err := live.New(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			report, err := verify.Run(t.Context(), aws, alone)
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) || strings.ContainsAny(err.Error(), "\n{") {
					t.Errorf("the error is %v, want %s", err, tt.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			text := print(report)
			for _, want := range tt.wants {
				if !strings.Contains(text, want) {
					t.Errorf("there is no %q in:\n%s", want, text)
				}
			}
			if tt.not != "" && strings.Contains(text, tt.not) {
				t.Errorf("there is %q in:\n%s", tt.not, text)
			}
		})
	}
	_, aws := deployed(t, a, nil)
	var none verify.ErrNoCluster
	if _, err := verify.Run(t.Context(), aws, verify.Options{Region: region, Clusters: []string{"nobody"}}); !errors.As(err, &none) || none.Account != account {
		t.Errorf("of a cluster that is not there the error is %v", err)
	}
	if _, err := verify.Run(t.Context(), aws, verify.Options{Region: region, Clusters: []string{"ekskms"}, Accepted: []finding.Suppression{{ID: "no-such", Reason: "x"}}}); err == nil {
		t.Error("a rule that nobody knows is accepted")
	}
}

// TestStackMissing: one finding for all that a stack would have.
func TestStackMissing(t *testing.T) {
	a := wanted(t, golden+"default.golden.json")
	_, aws := deployed(t, a, func(f *livetest.AWS) { f.Stacks, f.Things = nil, nil })
	report := verified(t, aws, verify.Options{Wanted: a, Stacks: true})
	rules := map[string]int{}
	for _, f := range report.Findings {
		rules[f.Rule]++
	}
	if rules["stack-missing"] != 1 || rules["missing"] > 0 || rules["cluster-deleted"] > 0 {
		t.Errorf("of a stack that is not deployed there is\n%s", print(report))
	}
}

// TestStrangers: what thousands of roles that nobody has written down have in common is one
// finding, which counts them.
func TestStrangers(t *testing.T) {
	a := wanted(t, golden+"default.golden.json")
	_, aws := deployed(t, a, func(f *livetest.AWS) {
		subscribe(f)
		for i := range 40 {
			name := fmt.Sprintf("stranger-%d", i)
			f.Things = append(f.Things, &livetest.Thing{
				Type: "AWS::IAM::Role", ID: name, ARN: "arn:aws:iam::" + account + ":role/" + name, Account: account, Region: region, State: map[string]any{},
				Properties: map[string]any{"Policies": []any{map[string]any{"PolicyName": "all", "PolicyDocument": map[string]any{
					"Version": "2012-10-17", "Statement": []any{map[string]any{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}},
				}}}},
			})
		}
	})
	for _, opts := range []verify.Options{{Wanted: a, Stacks: true}, {Region: region, Clusters: []string{"ekskms"}}} {
		report := verified(t, aws, opts)
		if len(report.Findings) != 1 || report.Findings[0].Rule != "iam-decrypt-any-key" || !strings.Contains(report.Findings[0].Message, "so do 39 more in the account: policy all of stranger-") {
			t.Errorf("found\n%s", print(report))
		}
	}
}

// TestRefusedElsewhere: what may not be read of one thing takes nothing from what is known of
// others, nor from those of another account.
func TestRefusedElsewhere(t *testing.T) {
	a := together(t, part(t, "ekskms-ekskms", account, "eu-central-1"), part(t, "ekskms-other", other, "eu-central-1"))
	_, _ = deployed(t, a, func(f *livetest.AWS) {
		subscribe(f)
		f.Assumable = []string{"arn:aws:iam::" + other + ":role/Verifier"}
		gone := func(kind, logical, account string) *livetest.Thing {
			for _, thing := range f.Things {
				if thing.Type == kind && strings.HasPrefix(thing.Logical, logical) && thing.Account == account {
					return thing
				}
			}
			t.Fatalf("there is no %s %s", kind, logical)
			return nil
		}
		logs := gone("AWS::KMS::Key", "EncryptedClusterLogsKey", account)
		f.RefusedOn = map[string]string{"kms:DescribeKey": logs.ID, "logs:DescribeLogGroups": "/aws/eks/"}
		f.Remove(gone("AWS::KMS::Key", "SecretsKeyE", account))
		f.Remove(gone("AWS::Logs::LogGroup", "EncryptedClusterKubectlLogs", account))
	})
	aws, err := live.New(t.Context(), "Verifier")
	if err != nil {
		t.Fatal(err)
	}
	report := verified(t, aws, verify.Options{Wanted: a, Stacks: true})
	for _, want := range []string{"SecretsKey", "KubectlLogs"} {
		if !slices.ContainsFunc(report.Findings, func(f finding.Finding) bool {
			return f.Stack == "ekskms-ekskms" && strings.Contains(f.Resource, want) && strings.Contains(f.Message, "not in the account")
		}) {
			t.Errorf("%s is gone, and that is not found:\n%s", want, print(report))
		}
	}
	for _, f := range report.Findings {
		if f.Stack == "ekskms-other" {
			t.Errorf("in the other account is found %s %s: %s", f.Rule, f.Resource, f.Message)
		}
	}
}

// TestWithin: inline policies that are written in their roles are compared there.
func TestWithin(t *testing.T) {
	const template = `{"Resources":{
		"Cluster":{"Type":"AWS::EKS::Cluster","Properties":{"Name":"c","RoleArn":{"Fn::GetAtt":["Role","Arn"]}}},
		"Role":{"Type":"AWS::IAM::Role","Properties":{"AssumeRolePolicyDocument":{"Version":"2012-10-17","Statement":[]},"Policies":[
			{"PolicyName":"a","PolicyDocument":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}}
		]}}}}`
	a, err := cfn.ParseAll("t", []cfn.Part{{Name: "stack", Account: account, Region: region, Data: []byte(template)}}, cfn.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	of := func(change func(*livetest.AWS)) (found string) {
		_, aws := deployed(t, a, change)
		for _, f := range verified(t, aws, verify.Options{Wanted: a, Stacks: true}).Findings {
			if f.LogicalID == "Role" {
				found += f.Rule + ": " + f.Message
			}
		}
		return found
	}
	if found := of(nil); found != "" {
		t.Errorf("right after the deployment: %s", found)
	}
	if found := of(func(f *livetest.AWS) {
		f.Find("AWS::IAM::Role", "stack-Role").Properties["Policies"] = []any{map[string]any{"PolicyName": "a", "PolicyDocument": map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}}}}
	}); !strings.HasPrefix(found, "differs: Policies") {
		t.Errorf("with another policy: %q", found)
	}
	if found := of(func(f *livetest.AWS) { delete(f.Find("AWS::IAM::Role", "stack-Role").Properties, "Policies") }); !strings.HasPrefix(found, "differs: Policies is not set") {
		t.Errorf("without the policy: %q", found)
	}
}

// TestOlderModule: a cluster that the handler of CDK's older module made is compared as any other.
func TestOlderModule(t *testing.T) {
	const template = `{"Resources": {
  "Key": {"Type": "AWS::KMS::Key", "Properties": {"EnableKeyRotation": true, "KeyPolicy": {"Version": "2012-10-17", "Statement": []}}},
  "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "eks.amazonaws.com"}, "Action": "sts:AssumeRole"}]}}},
  "Cluster": {"Type": "Custom::AWSCDK-EKS-Cluster", "Properties": {"ServiceToken": "arn:aws:lambda:eu-central-1:111122223333:function:handler", "Config": {
    "name": "older", "version": "1.35", "roleArn": {"Fn::GetAtt": ["Role", "Arn"]},
    "encryptionConfig": [{"resources": ["secrets"], "provider": {"keyArn": {"Fn::GetAtt": ["Key", "Arn"]}}}],
    "resourcesVpcConfig": {"subnetIds": ["subnet-1"], "endpointPublicAccess": false, "endpointPrivateAccess": true},
    "logging": {"clusterLogging": [{"enabled": true, "types": ["api", "audit"]}]}}}}}}`
	a := together(t, cfn.Part{Name: "older", Account: account, Region: region, Data: []byte(template)})
	rules := func(t *testing.T, change func(*livetest.Thing)) []string {
		_, aws := deployed(t, a, func(f *livetest.AWS) {
			c := f.Find("AWS::EKS::Cluster", "older")
			// EKS says which types are on.
			c.Properties["Logging"] = map[string]any{"ClusterLogging": map[string]any{"EnabledTypes": []any{map[string]any{"Type": "api"}, map[string]any{"Type": "audit"}}}}
			change(c)
		})
		var all []string
		for _, f := range verified(t, aws, verify.Options{Wanted: a, Stacks: true}).Findings {
			all = append(all, f.Rule)
		}
		return all
	}
	// The template itself has faults, and what runs as it says has these and no other.
	e := estate.FromTemplates(a)
	judged, err := check.Run(e, check.Options{})
	if err != nil {
		t.Fatal(err)
	}
	asWanted := rules(t, func(*livetest.Thing) {})
	for _, rule := range asWanted {
		if !slices.ContainsFunc(judged.Findings, func(f finding.Finding) bool { return f.Rule == rule }) {
			t.Errorf("found %s, which the template has not", rule)
		}
	}
	for want, change := range map[string]func(*livetest.Thing){
		"encryption-config-changed": func(c *livetest.Thing) {
			c.Properties["EncryptionConfig"].([]any)[0].(map[string]any)["Provider"] = map[string]any{"KeyArn": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}
		},
		"secrets-not-encrypted":      func(c *livetest.Thing) { delete(c.Properties, "EncryptionConfig") },
		"control-plane-log-weakened": func(c *livetest.Thing) { delete(c.Properties, "Logging") },
		"endpoint-public": func(c *livetest.Thing) {
			c.Properties["ResourcesVpcConfig"].(map[string]any)["EndpointPublicAccess"] = true
		},
		"cluster-deleted": func(c *livetest.Thing) { c.ID, c.Properties["Name"] = "other", "other" },
	} {
		t.Run(want, func(t *testing.T) {
			if got := rules(t, change); slices.Contains(asWanted, want) || !slices.Contains(got, want) {
				t.Errorf("found %q, and as it is wanted %q", got, asWanted)
			}
		})
	}
}

// TestNested: what a nested stack made is known by it.
func TestNested(t *testing.T) {
	dir := t.TempDir()
	nested := `{"Resources": {"Key": {"Type": "AWS::KMS::Key", "Properties": {"EnableKeyRotation": true, "KeyPolicy": {"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/Admin"}, "Action": ["kms:DescribeKey", "kms:PutKeyPolicy", "kms:GetKeyPolicy"], "Resource": "*"}]}}}},
  "Outputs": {"KeyArn": {"Value": {"Fn::GetAtt": ["Key", "Arn"]}}}}`
	top := `{"Resources": {
  "Keys": {"Type": "AWS::CloudFormation::Stack", "Metadata": {"aws:asset:path": "nested.json"}, "Properties": {"TemplateURL": "x"}},
  "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "eks.amazonaws.com"}, "Action": "sts:AssumeRole"}]}}},
  "Cluster": {"Type": "AWS::EKS::Cluster", "Properties": {"Name": "nested", "Version": "1.35", "RoleArn": {"Fn::GetAtt": ["Role", "Arn"]}, "ResourcesVpcConfig": {"SubnetIds": ["subnet-1"], "EndpointPublicAccess": false, "EndpointPrivateAccess": true},
    "EncryptionConfig": [{"Resources": ["secrets"], "Provider": {"KeyArn": {"Fn::GetAtt": ["Keys", "Outputs.KeyArn"]}}}]}}}}`
	for name, data := range map[string]string{"nested.json": nested, "top.json": top} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a := wanted(t, filepath.Join(dir, "top.json"))
	if len(a.Templates) != 2 {
		t.Fatalf("%d templates", len(a.Templates))
	}
	found := func(change func(*livetest.AWS)) string {
		_, aws := deployed(t, a, change)
		return print(verified(t, aws, verify.Options{Wanted: a, Stacks: true}))
	}
	if text := found(nil); strings.Contains(text, "stack-missing") || strings.Contains(text, "weakened") || strings.Contains(text, "differs") {
		t.Errorf("as it is wanted:\n%s", text)
	}
	if text := found(func(f *livetest.AWS) { f.Find("AWS::KMS::Key", "Key").Properties["EnableKeyRotation"] = false }); !strings.Contains(text, "rotation-weakened") {
		t.Errorf("rotation off is not found in:\n%s", text)
	}
	if text := found(func(f *livetest.AWS) {
		f.Stacks = slices.DeleteFunc(f.Stacks, func(s *livetest.Stack) bool { return strings.Contains(s.Name, "/") })
	}); !strings.Contains(text, "stack-missing") {
		t.Errorf("a nested stack that is gone is not found in:\n%s", text)
	}
}
