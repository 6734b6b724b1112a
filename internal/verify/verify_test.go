package verify_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/estate/estatetest"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/live/livetest"
	"github.com/ekskms/ekskms/internal/verify"
)

const account, region = "111122223333", "eu-central-1"

// wanted is a template that is deployed to the fake.
func wanted(t *testing.T, name string) *cfn.Assembly {
	t.Helper()
	a, err := cfn.Load(name, cfn.Environment{Account: account, Region: region})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// deployed is a fake in which an assembly is deployed and something was done since, and what
// asks it.
func deployed(t *testing.T, a *cfn.Assembly, change func(*livetest.AWS)) (*livetest.AWS, *live.AWS) {
	t.Helper()
	fake := &livetest.AWS{Account: account}
	fake.Deploy(a)
	if change != nil {
		change(fake)
	}
	server := fake.Start()
	t.Cleanup(server.Close)
	for _, v := range livetest.Environment(server.URL) {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	t.Setenv("AWS_REGION", region)
	aws, err := live.New(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return fake, aws
}

func print(report *finding.Report) string {
	var b strings.Builder
	for _, f := range report.Findings {
		fmt.Fprintf(&b, "%s %s %s: %s\n", f.Severity, f.Rule, f.Resource, f.Message)
	}
	for _, n := range report.Notes {
		fmt.Fprintf(&b, "note %s: %s\n", n.Resource, n.Message)
	}
	return b.String()
}

const golden = "../../test/snapshot/testdata/"

// subscribe confirms somebody for each topic that nobody hears.
func subscribe(a *livetest.AWS) {
	for _, t := range a.Things {
		if t.Type == "AWS::SNS::Topic" {
			a.Things = append(a.Things, &livetest.Thing{
				Type: "AWS::SNS::Subscription", ID: t.ARN + ":1", ARN: t.ARN + ":1", Account: t.Account, Region: t.Region, State: map[string]any{},
				Properties: map[string]any{"TopicArn": t.ARN, "Protocol": "email", "Endpoint": "somebody@example.com"},
			})
		}
	}
}

func verified(t *testing.T, reader verify.Reader, opts verify.Options) *finding.Report {
	t.Helper()
	report, err := verify.Run(t.Context(), reader, opts)
	if err != nil {
		t.Fatal(err)
	}
	if text := print(report); strings.Contains(text, "not-to-be-shown") || strings.Contains(text, "template") {
		t.Errorf("the report has a value of an encryption context in it, or speaks of templates:\n%s", text)
	}
	return report
}

// TestAsWanted: what runs as it is wanted has no finding, whatever is wanted of a cluster.
func TestAsWanted(t *testing.T) {
	files, err := filepath.Glob(golden + "*.golden.json")
	if err != nil || len(files) < 7 {
		t.Fatal(files, err)
	}
	called := map[string]int{}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			a := wanted(t, f)
			fake, aws := deployed(t, a, subscribe)
			report := verified(t, aws, verify.Options{Wanted: a, Stacks: true})
			for _, found := range report.Findings {
				// Its trail is another's, and in no template.
				if !strings.Contains(f, "02_") || found.Rule != "trail-missing" {
					t.Errorf("found %s %s: %s", found.Rule, found.Resource, found.Message)
				}
			}
			if len(report.Checked.Clusters) != 1 {
				t.Errorf("checked %v", report.Checked)
			}
			maps.Copy(called, fake.Called)
		})
	}
	for _, action := range live.Actions() {
		// Those that are left are called where there is something to call them for.
		if called[action] == 0 && !slices.Contains([]string{"sts:AssumeRole", "cloudformation:DescribeStackResourceDrifts", "eks:DescribeIdentityProviderConfig"}, action) {
			t.Errorf("%s is said to be needed, and was not called", action)
		}
	}
	for action := range called {
		if !slices.Contains(live.Actions(), action) {
			t.Errorf("%s was called, and is not said to be needed", action)
		}
	}
}

// drift is something that was done to what runs, and what is found of it.
type drift struct {
	name string
	do   func(*livetest.AWS)
	// wants are the rules that find it where it is known what is wanted, and alone those that
	// find it by the rules alone. A rule may have a part of its message after a colon.
	wants, alone []string
}

func set(kind, which, property string, v any) func(*livetest.AWS) {
	return func(a *livetest.AWS) { a.Find(kind, which).Properties[property] = v }
}

func remove(kind, which string) func(*livetest.AWS) {
	return func(a *livetest.AWS) { a.Remove(a.Find(kind, which)) }
}

func state(kind, which, name string, v any) func(*livetest.AWS) {
	return func(a *livetest.AWS) { a.Find(kind, which).State[name] = v }
}

// secretsKey is the key of the default cluster.
func secretsKey(a *livetest.AWS) *livetest.Thing {
	arn := a.Find("AWS::KMS::Alias", "alias/eks/ekskms\"").Properties["TargetKeyId"].(string)
	return a.Find("AWS::KMS::Key", arn[strings.LastIndex(arn, "/")+1:])
}

// statement adds one to a policy.
func statement(policy any, s map[string]any) any {
	p := maps.Clone(policy.(map[string]any))
	list, _ := p["Statement"].([]any)
	p["Statement"] = append(slices.Clone(list), s)
	return p
}

var drifts = []drift{
	{"the cluster is under another key", func(a *livetest.AWS) {
		other := &livetest.Thing{Type: "AWS::KMS::Key", ID: "99999999-0000-4000-8000-000000000000", Account: account, Region: region, State: map[string]any{}, Properties: map[string]any{
			"EnableKeyRotation": true, "KeyPolicy": secretsKey(a).Properties["KeyPolicy"],
		}}
		other.ARN = "arn:aws:kms:" + region + ":" + account + ":key/" + other.ID
		a.Things = append(a.Things, other)
		a.Find("AWS::EKS::Cluster", "ekskms").Properties["EncryptionConfig"] = []any{map[string]any{"Resources": []any{"secrets"}, "Provider": map[string]any{"KeyArn": other.ARN}}}
		a.Grant(other.ARN, "ekskms", "eks."+region+".amazonaws.com", "Decrypt", "Encrypt")
	}, []string{"encryption-config-changed: key/99999999", "tamper-alarm-missing"}, []string{"tamper-alarm-missing"}},
	{"encryption is off", set("AWS::EKS::Cluster", "ekskms", "EncryptionConfig", nil), []string{"encryption-config-changed", "secrets-not-encrypted"}, []string{"secrets-not-encrypted"}},
	{"rotation is off", func(a *livetest.AWS) { secretsKey(a).Properties["EnableKeyRotation"] = false }, []string{"rotation-weakened", "key-rotation-off"}, []string{"key-rotation-off"}},
	{"rotation is slower", func(a *livetest.AWS) { secretsKey(a).Properties["RotationPeriodInDays"] = 2000.0 }, []string{"rotation-weakened: 2000 days", "key-rotation-slow"}, []string{"key-rotation-slow"}},
	{"an alarm waits for more", set("AWS::CloudWatch::Alarm", "undelivered", "Threshold", 50.0), []string{"differs: Threshold is 50, and "}, nil},
	{"the key policy lets anybody decrypt", func(a *livetest.AWS) {
		k := secretsKey(a)
		k.Properties["KeyPolicy"] = statement(k.Properties["KeyPolicy"], map[string]any{"Effect": "Allow", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"})
	}, []string{"policy-widened", "key-policy-any-principal"}, []string{"key-policy-any-principal"}},
	{"the key policy lacks the cluster's role", func(a *livetest.AWS) {
		k := secretsKey(a)
		role := a.Find("AWS::EKS::Cluster", "ekskms").Properties["RoleArn"].(string)
		p := maps.Clone(k.Properties["KeyPolicy"].(map[string]any))
		p["Statement"] = slices.DeleteFunc(slices.Clone(p["Statement"].([]any)), func(s any) bool {
			data, _ := json.Marshal(s)
			return strings.Contains(string(data), role)
		})
		k.Properties["KeyPolicy"] = p
	}, []string{"principal-dropped: kms:ListGrants"}, nil},
	{"EKS's grant is revoked", func(a *livetest.AWS) { secretsKey(a).State["Grants"] = nil }, []string{"grant-missing"}, []string{"grant-missing"}},
	{"somebody has a grant", func(a *livetest.AWS) {
		a.Grant(secretsKey(a).ARN, "x", "arn:aws:iam::999988887777:role/Stranger", "Decrypt")
	},
		[]string{"grant-unexpected: 999988887777:role/Stranger"}, []string{"grant-unexpected"}},
	{"the key is to be deleted", func(a *livetest.AWS) {
		secretsKey(a).State["KeyState"], secretsKey(a).State["DeletionDate"] = "PendingDeletion", 1.8e9
	}, []string{"key-pending-deletion: 2027-01-15"}, []string{"key-pending-deletion"}},
	{"the key is disabled", func(a *livetest.AWS) { secretsKey(a).Properties["Enabled"] = false }, []string{"key-replaced: Enabled", "secrets-key-unsuitable"}, []string{"secrets-key-unsuitable"}},
	{"an alias leads elsewhere", func(a *livetest.AWS) {
		a.Find("AWS::KMS::Alias", "alias/eks/ekskms\"").Properties["TargetKeyId"] = a.Find("AWS::KMS::Alias", "alias/eks/ekskms/logs").Properties["TargetKeyId"]
	}, []string{"alias-moved"}, nil},
	{"an alias is gone", remove("AWS::KMS::Alias", "alias/eks/ekskms\""), []string{"missing"}, nil},
	{"a selector leaves out KMS", set("AWS::CloudTrail::Trail", "", "EventSelectors", []any{map[string]any{"ReadWriteType": "All", "IncludeManagementEvents": true, "ExcludeManagementEventSources": []any{"kms.amazonaws.com"}}}),
		[]string{"trail-weakened", "trail-excludes-kms"}, []string{"trail-excludes-kms"}},
	{"the trail is stopped", set("AWS::CloudTrail::Trail", "", "IsLogging", false), []string{"trail-weakened", "trail-not-logging"}, []string{"trail-not-logging"}},
	{"the trail is gone", remove("AWS::CloudTrail::Trail", ""), []string{"trail-weakened", "trail-missing"}, []string{"trail-missing"}},
	{"files are not validated", set("AWS::CloudTrail::Trail", "", "EnableLogFileValidation", false), []string{"trail-weakened", "trail-no-validation"}, []string{"trail-no-validation"}},
	{"log files are not delivered", state("AWS::CloudTrail::Trail", "", "LatestDeliveryError", "AccessDenied"), []string{"trail-undelivered"}, []string{"trail-undelivered"}},
	{"the bucket's policy refuses CloudTrail", func(a *livetest.AWS) {
		p := a.Find("AWS::S3::BucketPolicy", "cloudtrail.amazonaws.com")
		p.Properties["PolicyDocument"] = statement(p.Properties["PolicyDocument"], map[string]any{"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "*"})
	}, []string{"trail-weakened", "trail-undeliverable"}, []string{"trail-undeliverable"}},
	{"the bucket forgets sooner", func(a *livetest.AWS) {
		b := a.Find("AWS::S3::Bucket", "")
		b.Properties["LifecycleConfiguration"] = map[string]any{"Rules": []any{map[string]any{"Id": "x", "Status": "Enabled", "ExpirationInDays": 3.0}}}
	}, []string{"retention-weakened"}, nil},
	{"a target is removed", set("AWS::Events::Rule", "KeyDeletionScheduled", "Targets", nil), []string{"alarm-removed", "tamper-alarm-missing"}, []string{"tamper-alarm-missing"}},
	{"a rule is off", set("AWS::Events::Rule", "KeyDisabled", "State", "DISABLED"), []string{"alarm-removed", "tamper-alarm-missing"}, []string{"tamper-alarm-missing"}},
	{"a rule is gone", remove("AWS::Events::Rule", "KeyPolicyChanged"), []string{"alarm-removed", "tamper-alarm-missing"}, []string{"tamper-alarm-missing"}},
	{"a rule hears of another key", func(a *livetest.AWS) {
		r := a.Find("AWS::Events::Rule", "KeyDeletionScheduled")
		data, _ := json.Marshal(r.Properties["EventPattern"])
		r.Properties["EventPattern"] = strings.ReplaceAll(string(data), secretsKey(a).ID, "99999999-0000-4000-8000-000000000000")
	}, []string{"alarm-removed", "tamper-alarm-missing"}, []string{"tamper-alarm-missing"}},
	{"nobody is subscribed", remove("AWS::SNS::Subscription", "ekskms-ekskms-alarms"), []string{"alarm-unheard"}, []string{"alarm-unheard"}},
	{"a subscription is not confirmed", state("AWS::SNS::Subscription", "ekskms-ekskms-alarms", "Pending", true), []string{"subscription-pending", "alarm-unheard"}, []string{"subscription-pending", "alarm-unheard"}},
	{"the topic refuses EventBridge", func(a *livetest.AWS) {
		p := a.Find("AWS::SNS::TopicPolicy", "ekskms-ekskms-alarms")
		p.Properties["PolicyDocument"] = statement(p.Properties["PolicyDocument"], map[string]any{"Effect": "Deny", "Principal": "*", "Action": "sns:Publish", "Resource": "*"})
	}, []string{"alarm-removed", "alarm-undeliverable"}, []string{"alarm-undeliverable"}},
	{"the audit log is off", set("AWS::EKS::Cluster", "ekskms", "Logging", map[string]any{"ClusterLogging": map[string]any{"EnabledTypes": []any{map[string]any{"Type": "api"}}}}),
		[]string{"control-plane-log-weakened", "audit-log-off"}, []string{"audit-log-off"}},
	{"the endpoint is public", func(a *livetest.AWS) {
		a.Find("AWS::EKS::Cluster", "ekskms").Properties["ResourcesVpcConfig"].(map[string]any)["EndpointPublicAccess"] = true
	}, []string{"endpoint-opened", "endpoint-public"}, []string{"endpoint-public"}},
	{"an access entry was made", func(a *livetest.AWS) {
		a.Things = append(a.Things, &livetest.Thing{Type: "AWS::EKS::AccessEntry", ID: "x", Account: account, Region: region, Properties: map[string]any{
			"ClusterName": "ekskms", "PrincipalArn": "arn:aws:iam::" + account + ":role/Somebody",
			"AccessPolicies": []any{map[string]any{"PolicyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy", "AccessScope": map[string]any{"Type": "cluster"}}},
		}})
	}, []string{"access-widened: role/Somebody"}, nil},
	{"an access entry is gone", remove("AWS::EKS::AccessEntry", "ekskms"), []string{"missing"}, nil},
	{"the cluster's role has a policy more", func(a *livetest.AWS) {
		role := a.Find("AWS::EKS::Cluster", "ekskms").Properties["RoleArn"].(string)
		a.Things = append(a.Things, &livetest.Thing{Type: "AWS::IAM::RolePolicy", ID: "x", Account: account, Region: region, Properties: map[string]any{
			"RoleName": role[strings.LastIndex(role, "/")+1:], "PolicyName": "more", "PolicyDocument": map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}},
		}})
	}, []string{"differs: it has the inline policy more"}, nil},
	{"the cluster's role is an administrator", func(a *livetest.AWS) {
		role := a.Find("AWS::EKS::Cluster", "ekskms").Properties["RoleArn"].(string)
		p := a.Find("AWS::IAM::Role", role[strings.LastIndex(role, "/")+1:]).Properties
		p["ManagedPolicyArns"] = append(slices.Clone(p["ManagedPolicyArns"].([]any)), "arn:aws:iam::aws:policy/AdministratorAccess")
	}, []string{"differs: ManagedPolicyArns", "policy-widened: EncryptedClusterClusterRole"}, nil},
	{"a log group forgets sooner", func(a *livetest.AWS) {
		a.Find("AWS::Logs::LogGroup", "/aws/eks/ekskms/cluster").Properties["RetentionInDays"] = 1.0
	}, []string{"retention-weakened: 1 days"}, nil},
	{"EKS says that the key is disabled", state("AWS::EKS::Cluster", "ekskms", "health", map[string]any{"issues": []any{map[string]any{"code": "KmsKeyDisabled", "message": "The key is disabled.", "resourceIds": []any{"x"}}}}),
		[]string{"cluster-unhealthy: KmsKeyDisabled"}, []string{"cluster-unhealthy"}},
	{"CloudFormation has seen drift", func(a *livetest.AWS) {
		a.Stacks[0].Drift = "DRIFTED"
		for id, kind := range a.Stacks[0].Types {
			if kind == "AWS::CloudTrail::Trail" {
				a.Stacks[0].Drifted = map[string][]string{id: {"/S3KeyPrefix"}}
			}
		}
	}, []string{"stack-drifted: 2026-11-01: S3KeyPrefix"}, nil},
}

// TestDrifts: each drift is found where it is known what is wanted and, if it breaks a rule,
// by the rules alone; and it brings nothing else with it.
func TestDrifts(t *testing.T) {
	a := wanted(t, golden+"default.golden.json")
	rulesOf := func(opts verify.Options, change func(*livetest.AWS)) (rules []string, report *finding.Report) {
		_, aws := deployed(t, a, func(a *livetest.AWS) {
			subscribe(a)
			if change != nil {
				change(a)
			}
		})
		report = verified(t, aws, opts)
		for _, f := range report.Findings {
			rules = append(rules, f.Rule)
		}
		return rules, report
	}
	wantedOpts := verify.Options{Wanted: a, Stacks: true}
	aloneOpts := verify.Options{Region: region, Clusters: []string{"ekskms"}}
	if rules, report := rulesOf(aloneOpts, nil); rules != nil {
		t.Fatalf("without a drift, %s", print(report))
	}
	for i, d := range drifts {
		if estatetest.Race && i%10 > 0 {
			continue
		}
		t.Run(d.name, func(t *testing.T) {
			for _, of := range []struct {
				opts  verify.Options
				wants []string
			}{{wantedOpts, d.wants}, {aloneOpts, d.alone}} {
				rules, report := rulesOf(of.opts, d.do)
				for _, want := range of.wants {
					rule, text, _ := strings.Cut(want, ": ")
					if !slices.ContainsFunc(report.Findings, func(f finding.Finding) bool { return f.Rule == rule && strings.Contains(f.Message, text) }) {
						t.Errorf("%s is not found:\n%s", want, print(report))
					}
					rules = slices.DeleteFunc(rules, func(r string) bool { return r == rule })
				}
				if len(rules) > 0 {
					t.Errorf("found besides: %v\n%s", rules, print(report))
				}
			}
		})
	}
}

// TestRefused: what may not be read is one line that says what it needs, and takes nothing
// from the rest: neither is something found that was not seen, nor is what was seen lost.
func TestRefused(t *testing.T) {
	a := wanted(t, golden+"08_node_groups.golden.json")
	const aDrift = "control-plane-log-weakened"
	for i, action := range live.Actions() {
		if estatetest.Race && i%10 > 0 || strings.HasPrefix(action, "sts:") { // TestFleet, TestTrouble
			continue
		}
		t.Run(action, func(t *testing.T) {
			for _, of := range []verify.Options{{Wanted: a, Stacks: true}, {Region: region, Clusters: []string{"mixed"}}} {
				_, aws := deployed(t, a, func(a *livetest.AWS) {
					subscribe(a)
					a.Refused = []string{action}
					switch action { // what calls it
					case "cloudformation:DescribeStackResourceDrifts":
						a.Stacks[0].Drift = "DRIFTED"
					case "eks:DescribeIdentityProviderConfig":
						a.Things = append(a.Things, &livetest.Thing{Type: "AWS::EKS::IdentityProviderConfig", ID: "mixed/oidc/corp", Account: account, Region: region, Properties: map[string]any{"ClusterName": "mixed", "Oidc": map[string]any{"IssuerUrl": "https://idp.example.com"}}})
					}
					a.Find("AWS::EKS::Cluster", "mixed").Properties["Logging"] = map[string]any{"ClusterLogging": map[string]any{"EnabledTypes": []any{map[string]any{"Type": "audit"}}}}
				})
				if of.Wanted == nil && strings.HasPrefix(action, "cloudformation:") {
					continue
				}
				report := verified(t, aws, of)
				text := print(report)
				if !strings.Contains(text, "needs "+action) && action != "kms:Decrypt" {
					t.Errorf("it is not said that %s is needed:\n%s", action, text)
				}
				if action == "cloudwatch:DescribeAlarms" && strings.Contains(text, "whether no alarm") {
					t.Errorf("no filter has an alarm, and yet:\n%s", text)
				}
				seen := of.Wanted == nil || action == "eks:DescribeCluster"
				for _, f := range report.Findings {
					switch {
					case f.Rule == aDrift:
						seen = true
					case action == "eks:DescribeIdentityProviderConfig" && f.Rule == "access-widened" && strings.HasSuffix(f.Message, "may use the cluster's API: ${needs eks:DescribeIdentityProviderConfig on identity provider corp}"):
						// It is there, and whom it lets in is not known.
					default:
						t.Errorf("found %s %s: %s", f.Rule, f.Resource, f.Message)
					}
				}
				if !seen {
					t.Errorf("what was seen is lost:\n%s", text)
				}
			}
		})
	}
}
