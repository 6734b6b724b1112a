package check_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/check/internal/docgen"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/estate/estatetest"
	"github.com/ekskms/ekskms/internal/finding"
)

// openCluster has exactly two findings beside those on its missing encryption:
// a public endpoint and no audit log.
const openCluster = `
Resources:
  Open:
    Type: AWS::EKS::Cluster
    Metadata: {aws:cdk:path: Stack/Open/Resource}
    Properties:
      RoleArn: arn:aws:iam::111122223333:role/Cluster
      ResourcesVpcConfig: {SubnetIds: [subnet-1, subnet-2]}
`

func parse(t *testing.T, template string) *cfn.Assembly {
	t.Helper()
	assembly, err := cfn.Parse("template.yaml", []byte(template), environment)
	if err != nil {
		t.Fatal(err)
	}
	return assembly
}

func runWith(t *testing.T, template string, suppressions ...finding.Suppression) *finding.Report {
	t.Helper()
	report, err := check.Run(estate.FromTemplates(parse(t, template)), check.Options{Suppressions: suppressions})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestFindingSaysAll(t *testing.T) {
	report := runWith(t, openCluster)
	i := slices.IndexFunc(report.Findings, func(f finding.Finding) bool { return f.Rule == "endpoint-public" })
	if i < 0 {
		t.Fatalf("found %v", report.Findings)
	}
	f := report.Findings[i]
	if f.Resource != "Stack/Open" || f.LogicalID != "Open" || f.Type != "AWS::EKS::Cluster" || f.File != "template.yaml" || f.Line != 3 {
		t.Errorf("the place is %+v", f)
	}
	if f.Severity != finding.Medium || f.Why == "" || f.Fix == "" || len(f.Controls) == 0 || !strings.Contains(f.Message, "0.0.0.0/0") {
		t.Errorf("the finding is %+v", f)
	}
	if len(report.Findings) != 3 || report.Findings[0].Rule != "secrets-not-encrypted" {
		t.Errorf("the worst is not first: %v", report.Findings)
	}
	if report.Count(finding.Low) != 3 || report.Count(finding.High) != 1 || report.Count(finding.Critical) != 0 {
		t.Error("counted wrong")
	}
	if got := report.Checked.Clusters; !slices.Equal(got, []string{"Stack/Open"}) {
		t.Errorf("checked %v", got)
	}
}

// Nothing found is not nothing looked at.
func TestNothingToLookAt(t *testing.T) {
	report := runWith(t, "Resources: {Topic: {Type: AWS::SNS::Topic}}")
	if len(report.Findings) != 0 || len(report.Notes) != 1 || !strings.Contains(report.Notes[0].Message, "no EKS cluster in the templates") {
		t.Errorf("found %v, noted %v", report.Findings, report.Notes)
	}
	if !strings.HasSuffix(report.Summary(), "Looked at 0 clusters, 0 keys, 0 trails, 0 Kubernetes objects.") {
		t.Error(report.Summary())
	}
}

func TestSuppressions(t *testing.T) {
	inTemplate := strings.Replace(openCluster, "Metadata: {", "Metadata: {ekskms:checks: {suppress: [{id: endpoint-public, reason: behind SSO}]}, ", 1)
	for _, tc := range []struct {
		name, template string
		suppressions   []finding.Suppression
		// suppressed are the rules whose findings are suppressed; note is on a
		// suppression that covers nothing.
		suppressed []string
		note       string
	}{
		{"none", openCluster, nil, nil, ""},
		{"of a rule", openCluster, []finding.Suppression{{ID: "audit-log-off", Reason: "r"}}, []string{"audit-log-off"}, ""},
		{"of a path", openCluster, []finding.Suppression{{ID: "audit-log-off", Resource: "Stack/Open", Reason: "r"}}, []string{"audit-log-off"}, ""},
		{"of a path as CDK writes it", openCluster, []finding.Suppression{{ID: "audit-log-off", Resource: "Stack/Open/Resource", Reason: "r"}}, []string{"audit-log-off"}, ""},
		{"of the start of a path", openCluster, []finding.Suppression{{ID: "audit-log-off", Resource: "Stack", Reason: "r"}}, []string{"audit-log-off"}, ""},
		{"of a logical ID", openCluster, []finding.Suppression{{ID: "audit-log-off", Resource: "Open", Reason: "r"}}, []string{"audit-log-off"}, ""},
		{"in the metadata", inTemplate, nil, []string{"endpoint-public"}, ""},
		{"of half a name", openCluster, []finding.Suppression{{ID: "audit-log-off", Resource: "Stack/Op", Reason: "r"}}, nil, "the suppression of audit-log-off covers no finding: remove it"},
		{"of what is not found", openCluster, []finding.Suppression{{ID: "key-rotation-off", Reason: "r"}}, nil, "the suppression of key-rotation-off covers no finding: remove it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			report := runWith(t, tc.template, tc.suppressions...)
			var suppressed []string
			for _, f := range report.Findings {
				if f.Suppressed != "" {
					suppressed = append(suppressed, f.Rule)
				}
			}
			if !slices.Equal(suppressed, tc.suppressed) || len(report.Findings) != 3 {
				t.Errorf("suppressed %v of %d", suppressed, len(report.Findings))
			}
			if report.Count(finding.Low) != 3-len(suppressed) {
				t.Error("a suppressed finding counts")
			}
			note := ""
			for _, n := range report.Notes {
				if strings.HasPrefix(n.Message, "the suppression of") {
					note = n.Message
				}
			}
			if note != tc.note {
				t.Errorf("noted %q, want %q", note, tc.note)
			}
		})
	}
}

func TestSuppressionsAreStrict(t *testing.T) {
	metadata := func(value string) string {
		return strings.Replace(openCluster, "Metadata: {", "Metadata: {ekskms:checks: "+value+", ", 1)
	}
	for _, tc := range []struct {
		name, template string
		suppression    *finding.Suppression
		want           string
	}{
		{"no such check", openCluster, &finding.Suppression{ID: "audit-log", Reason: "r"}, `suppression of "audit-log": there is no such check`},
		{"no reason", openCluster, &finding.Suppression{ID: "audit-log-off"}, `suppression of "audit-log-off" has no reason`},
		{"a blank reason", openCluster, &finding.Suppression{ID: "audit-log-off", Reason: " "}, "has no reason"},
		{"metadata without a reason", metadata("{suppress: [{id: endpoint-public}]}"), nil, `Stack/Open: Metadata "ekskms:checks": must be {"suppress": [{"id": "...", "reason": "..."}]}`},
		{"metadata with a misspelt field", metadata("{suppress: [{id: endpoint-public, reason: r, resuorce: x}]}"), nil, "must be"},
		{"metadata that is a list", metadata("[]"), nil, "must be"},
		{"metadata of no check", metadata("{suppress: [{id: endpoint, reason: r}]}"), nil, "there is no such check"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var opts check.Options
			if tc.suppression != nil {
				opts.Suppressions = []finding.Suppression{*tc.suppression}
			}
			if _, err := check.Run(estate.FromTemplates(parse(t, tc.template)), opts); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// The IDs are a public contract, and every rule says what to do.
func TestRules(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range check.Rules() {
		if seen[r.ID] {
			t.Errorf("%s is there twice", r.ID)
		}
		seen[r.ID] = true
		if strings.ToLower(r.ID) != r.ID || strings.ContainsAny(r.ID, " _") {
			t.Errorf("%s is not kebab-case", r.ID)
		}
		if r.Severity.String() == "" || r.Title == "" || !strings.HasSuffix(r.Why, ".") && !strings.HasSuffix(r.Why, ").") || !strings.HasSuffix(r.Fix, ".") || strings.HasSuffix(r.Title, ".") {
			t.Errorf("%s lacks something: %+v", r.ID, r)
		}
		if len(r.Controls) == 0 {
			t.Errorf("%s stands for no control", r.ID)
		}
		for _, c := range r.Controls {
			if c.Framework == "" || c.ID == "" || c.Title == "" || !strings.HasPrefix(c.Source, "https://") {
				t.Errorf("%s: control %+v", r.ID, c)
			}
		}
	}
	if len(seen) != 43 {
		t.Errorf("%d rules", len(seen))
	}
}

func TestSeverity(t *testing.T) {
	for s := finding.Low; s <= finding.Critical; s++ {
		text, err := s.MarshalText()
		var back finding.Severity
		if err != nil || back.UnmarshalText(text) != nil || back != s {
			t.Errorf("%v comes back as %v", s, back)
		}
	}
	var s finding.Severity
	if err := s.UnmarshalText([]byte("Hihg")); err == nil || !strings.Contains(err.Error(), `severity is "Hihg", must be`) {
		t.Error(err)
	}
}

// What a template leaves open is a note: neither a finding nor silence.
func TestUnknownValues(t *testing.T) {
	const template = `
Parameters:
  Key: {Type: String}
  Cidrs: {Type: CommaDelimitedList}
  Types: {Type: String}
Resources:
  Cluster:
    Type: AWS::EKS::Cluster
    Properties:
      RoleArn: arn:aws:iam::111122223333:role/Cluster
      EncryptionConfig: [{Provider: {KeyArn: !Ref Key}, Resources: [secrets]}]
      ResourcesVpcConfig: {SubnetIds: [subnet-1], PublicAccessCidrs: !Ref Cidrs}
      Logging: {ClusterLogging: {EnabledTypes: !Ref Types}}
`
	report := runWith(t, template)
	if len(report.Findings) != 0 {
		t.Errorf("found %v", report.Findings)
	}
	for _, want := range []string{"neither the encryption of the secrets", "whether the endpoint is public was not judged", "whether the audit log is on was not judged"} {
		if !slices.ContainsFunc(report.Notes, func(n finding.Note) bool { return n.Resource == "Cluster" && strings.Contains(n.Message, want) }) {
			t.Errorf("no note %q in %v", want, report.Notes)
		}
	}
}

// A trail elsewhere is believed only where the template names it.
func TestTrailElsewhere(t *testing.T) {
	const key = `
      EncryptionConfig: [{Provider: {KeyArn: "arn:aws:kms:eu-central-1:111122223333:key/0d8b1f6e-5d0c-4f13-9b2a-2f4f2ab7c9de"}, Resources: [secrets]}]
`
	const output = `
Outputs: {Trail: {Value: "arn:aws:cloudtrail:eu-central-1:111122223333:trail/management"}}
`
	const bucket = `
  Policy:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: logs
      PolicyDocument: {Statement: [{Effect: Allow, Principal: {Service: cloudtrail.amazonaws.com}, Action: "s3:PutObject", Resource: "*"}]}
`
	const rules = `
  Alarm:
    Type: AWS::Events::Rule
    Properties:
      EventPattern: {source: [aws.kms], detail-type: [AWS API Call via CloudTrail]}
      Targets: [{Id: Topic, Arn: "arn:aws:sns:eu-central-1:111122223333:alarms"}]
`
	for _, tc := range []struct {
		name, template string
		missing        bool
	}{
		{"nothing", openCluster + key, true},
		{"an output names a trail", openCluster + key + output, false},
		{"alarms alone", openCluster + key + rules, true},
		{"a bucket for a trail that is not there", openCluster + key + bucket + output, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			report := runWith(t, tc.template)
			missing := slices.ContainsFunc(report.Findings, func(f finding.Finding) bool { return f.Rule == "trail-missing" })
			noted := slices.ContainsFunc(report.Notes, func(n finding.Note) bool {
				return strings.Contains(n.Message, "relies on the trail arn:aws:cloudtrail")
			})
			if missing != tc.missing || noted == tc.missing {
				t.Errorf("missing %v, noted %v", missing, noted)
			}
		})
	}
}

// A trail of another Region does not record this one.
func TestTrailOfAnotherRegion(t *testing.T) {
	cluster := parse(t, openCluster+`
      EncryptionConfig: [{Provider: {KeyArn: "arn:aws:kms:eu-central-1:111122223333:key/0d8b1f6e-5d0c-4f13-9b2a-2f4f2ab7c9de"}, Resources: [secrets]}]
`)
	for multiRegion, missing := range map[string]bool{"false": true, "true": false} {
		trail, err := cfn.Parse("trail.yaml", []byte(`
Resources:
  Trail:
    Type: AWS::CloudTrail::Trail
    Properties: {S3BucketName: logs, IsLogging: true, IsMultiRegionTrail: `+multiRegion+`}
`), cfn.Environment{Account: environment.Account, Region: "us-east-1"})
		if err != nil {
			t.Fatal(err)
		}
		report, err := check.Run(estate.FromTemplates(&cfn.Assembly{Templates: append(slices.Clone(cluster.Templates), trail.Templates...)}), check.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(report.Findings, func(f finding.Finding) bool { return f.Rule == "trail-missing" }); got != missing {
			t.Errorf("IsMultiRegionTrail %s: missing %v", multiRegion, got)
		}
	}
}

// A trail for data events stands beside one for management events.
func TestSecondTrail(t *testing.T) {
	const data = `
Resources:
  Data:
    Type: AWS::CloudTrail::Trail
    Properties: {S3BucketName: logs, IsLogging: true, KMSKeyId: alias/logs, EnableLogFileValidation: true, EventSelectors: [{IncludeManagementEvents: false}]}
`
	const management = `
  Management:
    Type: AWS::CloudTrail::Trail
    Properties: {S3BucketName: logs, IsLogging: LOGGING, KMSKeyId: alias/logs, EnableLogFileValidation: true}
`
	for template, want := range map[string]bool{
		data: true,
		data + strings.Replace(management, "LOGGING", "true", 1):  false,
		data + strings.Replace(management, "LOGGING", "false", 1): true,
	} {
		report := runWith(t, template)
		if got := slices.ContainsFunc(report.Findings, func(f finding.Finding) bool { return f.Rule == "trail-excludes-kms" }); got != want {
			t.Errorf("found %v, want %v in %s", report.Findings, want, template)
		}
	}
}

// ofNoAccount checks a template without saying which account it is for.
func ofNoAccount(t *testing.T, data []byte) (ids []string, notes string) {
	t.Helper()
	assembly, err := cfn.Parse("template.yaml", data, cfn.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	report, err := check.Run(estate.FromTemplates(assembly), check.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		ids = append(ids, f.Rule)
	}
	for _, n := range report.Notes {
		notes += n.String() + "\n"
	}
	return ids, notes
}

// Which account a template is for may be unknown; then nothing is said on what
// depends on it.
func TestUnknownAccount(t *testing.T) {
	data, err := os.ReadFile("testdata/foreign/12-console-policy-shared.yaml")
	if err != nil {
		t.Fatal(err)
	}
	ids, notes := ofNoAccount(t, data)
	for _, id := range ids {
		if strings.HasPrefix(id, "key-policy") || strings.HasPrefix(id, "cluster-") || id == "key-no-durable-admin" {
			t.Errorf("found %s", id)
		}
	}
	const want = "names account 111122223333, 444455556666, and which account the template is for is not known"
	if !strings.Contains(notes, want) {
		t.Errorf("no note %q in %s", want, notes)
	}
}

// The only account and Region that a template names are where it belongs.
func TestEnvironment(t *testing.T) {
	const template = `
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties: {ManagedPolicyArns: [ARNS]}
`
	for _, tc := range []struct{ name, arns, account, region string }{
		{"none", "arn:aws:iam::aws:policy/AdministratorAccess", "", ""},
		{"one", `"arn:aws:eks:eu-central-1:111122223333:cluster/a", "arn:aws:iam::111122223333:root"`, "111122223333", "eu-central-1"},
		{"a number", `"111122223333"`, "111122223333", ""},
		{"two", `"arn:aws:eks:eu-central-1:111122223333:cluster/a", "arn:aws:eks:us-east-1:444455556666:cluster/a"`, "", ""},
		{"one, and anyone who deploys", `"arn:aws:eks:eu-central-1:444455556666:cluster/a", !Sub "arn:aws:eks:${AWS::Region}:${AWS::AccountId}:cluster/a"`, "", ""},
		{"one, and a reference", `"arn:aws:eks:eu-central-1:444455556666:cluster/a", !Ref AWS::AccountId, !Ref AWS::Region`, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			env := cfn.Evident(parse(t, strings.Replace(template, "ARNS", tc.arns, 1)))
			if env.Account != tc.account || env.Region != tc.region {
				t.Errorf("got %+v", env)
			}
		})
	}
}

// docs/reference/checks.md is what go generate ./internal/check writes.
func TestDocsAreFresh(t *testing.T) {
	foreign, err := os.ReadFile("testdata/foreign/expected.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want, err := docgen.Generate(foreign)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/reference/checks.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("docs/reference/checks.md is not fresh: run go generate ./internal/check")
	}
	for _, r := range check.Rules() {
		if !strings.Contains(string(got), "\n### "+r.ID+"\n") {
			t.Errorf("%s has no section", r.ID)
		}
	}
}

// TestOneOfTwoAccounts: of a template for any account that names roles of one, what is
// wrong either way is found, and what depends on the account is a note.
func TestOneOfTwoAccounts(t *testing.T) {
	judge := func(change estatetest.Change) (ids []string, notes string) {
		template := estatetest.Golden(t, "default")
		change(template)
		data, err := json.Marshal(template)
		if err != nil {
			t.Fatal(err)
		}
		return ofNoAccount(t, data)
	}
	deployer := estatetest.All(
		statement("ClusterCreatorsDescribe", "Principal", map[string]any{"AWS": "arn:aws:iam::111122223333:role/Deployer"}),
		statement("ClusterCreatorsGrant", "Principal", map[string]any{"AWS": "arn:aws:iam::111122223333:role/Deployer"}))
	ids, notes := judge(deployer)
	if len(ids) > 0 || !strings.Contains(notes, "names account 111122223333, and which account the template is for is not known: whether there is cluster-creator-missing") {
		t.Errorf("found %q, noted\n%s", ids, notes)
	}
	ids, _ = judge(estatetest.All(deployer, statement("AccountAdministration", "Action", "kms:*")))
	if !slices.Contains(ids, "crypto-delegated-to-iam") {
		t.Errorf("found %q", ids)
	}
}

// TestUnknownVersion: until when AWS supports a version that is not known here is left
// open, and said.
func TestUnknownVersion(t *testing.T) {
	for version, noted := range map[any]bool{"1.37": true, "1.99": true, "latest": true, "1.36": false, nil: false} {
		template := estatetest.Golden(t, "default")
		property(cluster, "Version", version)(template)
		data, err := json.Marshal(template)
		if err != nil {
			t.Fatal(err)
		}
		_, report := run(t, "default.json", data)
		if got := slices.ContainsFunc(report.Notes, func(n finding.Note) bool { return strings.Contains(n.Message, "until when AWS supports it") }); got != noted {
			t.Errorf("%v: noted is %v", version, got)
		}
	}
}

// Templates that have alarms and none on roles say so, until one of them has.
func TestRolesAreWatched(t *testing.T) {
	for watched, want := range map[bool]bool{true: false, false: true} {
		template := estatetest.Golden(t, "01_minimal")
		if watched {
			template["Resources"].(map[string]any)["RolesChanged"] = map[string]any{"Type": "AWS::Events::Rule", "Properties": map[string]any{
				"EventPattern": map[string]any{"source": []any{"aws.iam"}, "detail": map[string]any{"eventName": []any{"UpdateAssumeRolePolicy", "TagRole"}}},
				"Targets":      []any{map[string]any{"Id": "a", "Arn": "arn:aws:sns:us-east-1:111122223333:a"}},
			}}
		}
		data, err := json.Marshal(template)
		if err != nil {
			t.Fatal(err)
		}
		if _, notes := ofNoAccount(t, data); strings.Contains(notes, "the roles that may use the key") != want {
			t.Errorf("watched: %t, noted\n%s", watched, notes)
		}
	}
}

// TestDefaultKeyOfDisks: where no key is named for the disks of nodes, what the account's
// default key can do to them is said, since no template shows it.
func TestDefaultKeyOfDisks(t *testing.T) {
	group := func(settings map[string]any) estatetest.Change {
		settings["ClusterName"] = map[string]any{"Ref": cluster}
		return estatetest.Add("Nodes", "AWS::EKS::Nodegroup", settings)
	}
	template := func(volume map[string]any) estatetest.Change {
		return estatetest.All(
			estatetest.Add("Template", "AWS::EC2::LaunchTemplate", map[string]any{"LaunchTemplateData": map[string]any{
				"BlockDeviceMappings": []any{map[string]any{"DeviceName": "/dev/xvda", "Ebs": volume}}}}),
			group(map[string]any{"LaunchTemplate": map[string]any{"Id": map[string]any{"Ref": "Template"}}}))
	}
	noPools := estatetest.Property(cluster, "ComputeConfig.NodePools", nil)
	const byDefault, unknown = "under the account's default key for EBS", "under which key the disks of its nodes are was not judged"
	for name, tt := range map[string]struct {
		golden string
		change estatetest.Change
		want   string
	}{
		"built-in pools":                  {"default", estatetest.All(), byDefault},
		"no nodes":                        {"default", noPools, ""},
		"a group":                         {"default", estatetest.All(noPools, group(map[string]any{})), byDefault},
		"a group with a key":              {"default", estatetest.All(noPools, template(map[string]any{"KmsKeyId": "arn:aws:kms:eu-central-1:111122223333:key/disks"})), ""},
		"a group with disks, and no key":  {"default", estatetest.All(noPools, template(map[string]any{"Encrypted": true})), byDefault},
		"a launch template elsewhere":     {"default", estatetest.All(noPools, group(map[string]any{"LaunchTemplate": map[string]any{"Id": "lt-1"}})), unknown},
		"volumes under a key of our own":  {"08_node_groups", estatetest.All(), ""},
		"another, with a class and a key": {"09_isolated", estatetest.All(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			made := estatetest.Golden(t, tt.golden)
			tt.change(made)
			report, err := check.Run(estatetest.Estate(t, made), check.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var said []string
			for _, n := range report.Notes {
				for _, sentence := range []string{byDefault, unknown} {
					if strings.Contains(n.Message, sentence) {
						said = append(said, sentence)
					}
				}
			}
			if got := strings.Join(said, "; "); got != tt.want {
				t.Errorf("said %q, want %q", got, tt.want)
			}
		})
	}
}
