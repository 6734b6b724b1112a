//go:build !race

package snapshot

// AWS Control Tower's proactive controls judge the templates: cfn-guard, with the
// rule files that AWS publishes, out of the npm package @cdklabs/cdk-validator-cfnguard.

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const (
	validator = "../../node_modules/@cdklabs/cdk-validator-cfnguard"
	rules     = validator + "/rules/control-tower/cfn-guard"
	docs      = "../../docs/reference/scanners.md"
)

// control is one that the templates are built to comply with.
type control struct {
	id, file string
	// rule is the name in the file.
	rule string
	// in is the template that is broken. Empty stands for the default one.
	in string
	// breaks undoes in it what the control wants.
	breaks func(template)
	// resource is what the control looks at: without it the control is skipped.
	resource string
}

var controls = []control{
	{"CT.EKS.PR.1", "eks/ct-eks-pr-1.guard", "eks_endpoint_no_public_access_check", "",
		func(t template) { t.vpcConfig()["EndpointPublicAccess"] = true }, "AWS::EKS::Cluster"},
	{"CT.EKS.PR.2", "eks/ct-eks-pr-2.guard", "eks_secrets_encrypted_check", "",
		func(t template) { delete(t.properties("AWS::EKS::Cluster"), "EncryptionConfig") }, "AWS::EKS::Cluster"},
	{"CT.KMS.PR.1", "keymanagementservice/ct-kms-pr-1.guard", "kms_key_rotation_enabled_check", "",
		func(t template) { t.properties("AWS::KMS::Key")["EnableKeyRotation"] = false }, "AWS::KMS::Key"},
	{"CT.CLOUDTRAIL.PR.1", "cloudtrail/ct-cloudtrail-pr-1.guard", "cloud_trail_encryption_enabled_check", "",
		func(t template) { delete(t.properties("AWS::CloudTrail::Trail"), "KMSKeyId") }, "AWS::CloudTrail::Trail"},
	{"CT.CLOUDTRAIL.PR.2", "cloudtrail/ct-cloudtrail-pr-2.guard", "cloud_trail_log_file_validation_enabled_check", "",
		func(t template) { t.properties("AWS::CloudTrail::Trail")["EnableLogFileValidation"] = false }, "AWS::CloudTrail::Trail"},
	{"CT.CLOUDTRAIL.PR.3", "cloudtrail/ct-cloudtrail-pr-3.guard", "cloud_trail_cloud_watch_logs_enabled_check", "03_node_group",
		func(t template) { delete(t.properties("AWS::CloudTrail::Trail"), "CloudWatchLogsLogGroupArn") }, "AWS::CloudTrail::Trail"},
}

// skipped are the controls that can't see what an example brings along: an
// existing trail is not in the template.
var skipped = map[string][]string{
	"02_existing_vpc_and_key": {"CT.CLOUDTRAIL.PR.1", "CT.CLOUDTRAIL.PR.2", "CT.CLOUDTRAIL.PR.3"},
}

// exception is a control that a template does not comply with, and why.
type exception struct {
	rule, id string
	// only are the examples that have it. Empty stands for every template that has
	// such a resource.
	only []string
	// resources are the logical IDs, up to the hash.
	resources []string
	reason    string
}

var exceptions = []exception{
	{"kms_create_grant_aws_service_check", "CT.KMS.PR.3", nil,
		[]string{"AuditTrailAlarmsKey", "AuditTrailKey", "EncryptedClusterLogsKey", "EncryptedClusterVolumesKey", "SecretsKey"},
		"It wants a Deny of `kms:CreateGrant` to everybody unless `kms:GrantIsForAWSResource` or `aws:PrincipalIsAWSService` is true. " +
			"CreateCluster does not support `kms:GrantIsForAWSResource` (EKS User Guide, \"Enable secrets encryption\"), and the creator is no service: under that Deny the cluster can't be created (inferred). " +
			"The secrets key names its creators instead and lets nobody else make grants; the other keys let nobody make any."},
	{"eks_endpoint_no_public_access_check", "CT.EKS.PR.1", []string{"02_existing_vpc_and_key"},
		[]string{"EncryptedCluster"},
		"The example asks for an endpoint that its own networks reach. The control does not look at the list of networks."},
	{"cloud_trail_cloud_watch_logs_enabled_check", "CT.CLOUDTRAIL.PR.3", []string{"01_minimal", "04_tenants_and_secrets", "default"},
		[]string{"AuditTrail"},
		"The trail's record is the bucket, which only `audit.readers` can decrypt, and the alarms come from EventBridge. A copy in CloudWatch Logs is readable for any principal that IAM lets read the log group, and is billed by its ingestion: `audit.cloudWatchLogsRetentionDays` asks for it, and then the template complies."},
	{"cloudwatch_log_group_encrypted_check", "CT.CLOUDWATCH.PR.3", nil,
		[]string{"AuditTrailAlarmLog"},
		"The copy of the alarms must be written while a key can't be used: an alarm on keys is of no use otherwise. CloudWatch Logs encrypts it under a key of its own."},
	{"cloudwatch_log_group_retention_period_check", "CT.CLOUDWATCH.PR.2", nil,
		[]string{"EncryptedClusterKubectlLogs"},
		"The kubectl handler logs what it applies and reads: a week is enough to see why a deployment failed."},
	{"ec2_launch_template_monitoring_enabled_check", "CT.EC2.PR.10", nil,
		[]string{"EncryptedClusterNodesTemplatebatch", "EncryptedClusterNodesTemplategeneral"},
		"Detailed monitoring is billed for each node, and none of the alarms here needs it."},
	{"sqs_dlq_check", "CT.SQS.PR.1", nil,
		[]string{"AuditTrailUndeliveredQueue"},
		"It is the dead-letter queue."},
	{"subnet_auto_assign_public_ip_disabled_check", "CT.EC2.PR.11", nil,
		[]string{"VpcPublicSubnet1Subnet", "VpcPublicSubnet2Subnet"},
		"CDK's default for public subnets. Only NAT gateways are in them, which have addresses of their own."},
	{"lambda_inside_vpc_check", "CT.LAMBDA.PR.3", nil,
		[]string{"CustomVpcRestrictDefaultSGCustomResourceProviderHandler", "EncryptedClusterKubectlProviderHandler", "EncryptedClusterKubectlProviderframeworkonEvent"},
		"CDK's own handlers. The two that apply Kubernetes objects are in the VPC, with the cluster's own security group, which the control does not take for one. The third calls the API of EC2 and needs no VPC."},
	{"s3_bucket_default_encryption_kms_check", "CT.S3.PR.10", nil,
		[]string{"AuditTrailLogs"},
		"CloudTrail encrypts every log file under the audit key. A default key of the bucket would apply to what arrives without one, whose encryption context the key's policy does not allow."},
	{"s3_bucket_logging_enabled_check", "CT.S3.PR.2", nil,
		[]string{"AuditTrailLogs"},
		"Access logs need a second bucket, with a retention of its own. Anyone who wants them adds them to the bucket that `AuditTrail.Bucket` returns, or records its data events."},
	{"s3_event_notifications_enabled_check", "CT.S3.PR.4", nil,
		[]string{"AuditTrailLogs"},
		"Nobody waits for log files: the alarms come from EventBridge within minutes."},
	{"s3_bucket_object_lock_enabled_check", "CT.S3.PR.9", nil,
		[]string{"AuditTrailLogs"},
		"Object Lock can't be taken back before its time is over, so it is the owner's decision. The bucket keeps versions, outlives its stack, and log file validation shows what was changed."},
}

// result is what cfn-guard found in one template.
type result struct {
	Name         string
	Status       string
	NotCompliant []struct{ Rule json.RawMessage } `json:"not_compliant"`
	Compliant    []string
}

func (r result) failed() map[string]json.RawMessage {
	all := map[string]json.RawMessage{}
	for _, f := range r.NotCompliant {
		var rule struct{ Name string }
		if json.Unmarshal(f.Rule, &rule) == nil {
			all[rule.Name] = f.Rule
		}
	}
	return all
}

// guard runs cfn-guard. Its binaries come from npm without the run bit where
// scripts are switched off.
func guard(t *testing.T, rules, data string) []result {
	t.Helper()
	system, known := map[string]string{"linux": "ubuntu", "darwin": "macos"}[runtime.GOOS]
	machine, known2 := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	if !known || !known2 {
		t.Fatalf("the package has no cfn-guard for %s on %s", runtime.GOOS, runtime.GOARCH)
	}
	program, err := os.ReadFile(filepath.Join(validator, "bin", system, machine, "cfn-guard"))
	if err != nil {
		t.Fatalf("cfn-guard is not installed: run `npm ci` (%v)", err)
	}
	path := filepath.Join(t.TempDir(), "cfn-guard")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	// Exit status 19 says that a template does not comply.
	out, err := exec.Command(path, "validate", "-r", rules, "-d", data, "--structured", "-o", "json", "-S", "none").Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 19) {
		t.Fatalf("cfn-guard: %v", err)
	}
	var all []result
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatalf("cfn-guard says %.200q: %v", out, err)
	}
	for i := range all {
		all[i].Name = strings.TrimSuffix(filepath.Base(all[i].Name), ".golden.json")
	}
	return all
}

// TestCompliant: every control that the templates are built for applies, and is
// complied with. A control that is skipped has seen nothing.
func TestCompliant(t *testing.T) {
	for _, c := range controls {
		t.Run(c.id, func(t *testing.T) {
			results := guard(t, filepath.Join(rules, c.file), "testdata")
			if len(results) < 5 {
				t.Fatalf("cfn-guard judged %d templates", len(results))
			}
			for _, r := range results {
				want := "PASS"
				if slices.Contains(skipped[r.Name], c.id) {
					want = "SKIP"
				}
				if slices.ContainsFunc(exceptions, func(e exception) bool { return e.id == c.id && slices.Contains(e.only, r.Name) }) {
					want = "FAIL"
				}
				if r.Status != want || slices.Contains(r.Compliant, c.rule) != (want == "PASS") {
					t.Errorf("%s: %s, compliant with %v; want %s", r.Name, r.Status, r.Compliant, want)
				}
			}
		})
	}
}

// TestControlsFind is the control of the controls: each fails where its matter
// is broken, and skips a template that has nothing for it, which TestCompliant
// does not take for compliance.
func TestControlsFind(t *testing.T) {
	for _, c := range controls {
		t.Run(c.id, func(t *testing.T) {
			for _, test := range []struct {
				want   string
				change func(template)
			}{
				{"FAIL", c.breaks},
				{"SKIP", func(t template) { t.without(c.resource) }},
			} {
				broken := templates[cmp.Or(c.in, "default")].clone()
				test.change(broken)
				path := filepath.Join(t.TempDir(), "broken.json")
				data, err := json.Marshal(broken)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				r := guard(t, filepath.Join(rules, c.file), path)[0]
				if r.Status != test.want || slices.Contains(r.Compliant, c.rule) {
					t.Errorf("%s, compliant with %v; want %s", r.Status, r.Compliant, test.want)
				}
			}
		})
	}
}

var inResources = regexp.MustCompile(`/Resources/([A-Za-z0-9]+)/`)

// hash is what CDK adds to a logical ID.
var hash = regexp.MustCompile(`[0-9A-F]{8}$`)

// TestExceptions runs all controls that AWS publishes. Whatever a template does
// not comply with is an exception with a reason, and no exception is idle.
func TestExceptions(t *testing.T) {
	used := map[string][]string{}
	for _, r := range guard(t, rules, "testdata") {
		if len(r.Compliant) < 6 {
			t.Errorf("%s complies with %d controls only", r.Name, len(r.Compliant))
		}
		for rule, detail := range r.failed() {
			i := slices.IndexFunc(exceptions, func(e exception) bool {
				return e.rule == rule && (len(e.only) == 0 || slices.Contains(e.only, r.Name))
			})
			if i < 0 {
				t.Errorf("%s: %s is not explained: %.300s", r.Name, rule, detail)
				continue
			}
			e := exceptions[i]
			if !strings.Contains(string(detail), "["+e.id+"]") {
				t.Errorf("%s: %s is not %s", r.Name, rule, e.id)
			}
			for _, match := range inResources.FindAllStringSubmatch(string(detail), -1) {
				id := hash.ReplaceAllString(match[1], "")
				if !slices.Contains(e.resources, id) {
					t.Errorf("%s: %s does not explain %s", r.Name, e.id, match[1])
				}
				used[e.id] = append(used[e.id], id)
			}
		}
	}
	for _, e := range exceptions {
		for _, id := range e.resources {
			if !slices.Contains(used[e.id], id) {
				t.Errorf("the exception of %s for %s is idle: remove it", e.id, id)
			}
		}
	}
}

// TestDocs holds the table in docs/reference/scanners.md to the tables here.
func TestControlTowerDocs(t *testing.T) {
	var b strings.Builder
	b.WriteString("| Control | Where | Why |\n|---|---|---|\n")
	for _, e := range exceptions {
		where := "`" + strings.Join(e.resources, "`, `") + "`"
		if len(e.only) > 0 {
			where += " of " + strings.Join(e.only, ", ")
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", e.id, where, e.reason)
	}
	for _, name := range slices.Sorted(maps.Keys(skipped)) {
		fmt.Fprintf(&b, "| %s | %s | Not judged: the existing trail is not in the template. |\n", strings.Join(skipped[name], ", "), name)
	}
	data, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- control-tower: written by test/snapshot -->\n", "<!-- /control-tower -->"
	before, rest, found := strings.Cut(string(data), begin)
	old, after, found2 := strings.Cut(rest, end)
	if !found || !found2 {
		t.Fatalf("%s lacks the marks %q and %q", docs, begin, end)
	}
	if *update {
		if err := os.WriteFile(docs, []byte(before+begin+b.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if old != b.String() {
		t.Errorf("%s is not what the table says: run `go test ./test/snapshot -update`", docs)
	}
}

// properties returns those of the last resource of a type: of the secrets key
// among the keys.
func (t template) properties(kind string) map[string]any {
	ids := t.ofType(kind)
	return t.resources()[ids[len(ids)-1]]["Properties"].(map[string]any)
}

func (t template) vpcConfig() map[string]any {
	return t.properties("AWS::EKS::Cluster")["ResourcesVpcConfig"].(map[string]any)
}

func (t template) without(kind string) {
	for _, id := range t.ofType(kind) {
		delete(t["Resources"].(map[string]any), id)
	}
}
