package tfplan_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/guard"
	"github.com/ekskms/ekskms/internal/terraform/terraformtest"
	"github.com/ekskms/ekskms/internal/tfplan"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var here = cfn.Environment{Account: "111122223333", Region: "eu-central-1"}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func parse(t testing.TB, data []byte) *tfplan.Plan {
	t.Helper()
	if !tfplan.Is(data) {
		t.Fatalf("is no plan: %.100s", data)
	}
	p, err := tfplan.Parse("plan.json", data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func after(t testing.TB, p *tfplan.Plan) *estate.Estate {
	t.Helper()
	a, err := p.After("plan.json", here)
	if err != nil {
		t.Fatal(err)
	}
	return estate.FromTemplates(a)
}

// findings are the rules and resources of what check says of a plan.
func findings(t testing.TB, p *tfplan.Plan) (all []string) {
	t.Helper()
	report, err := check.Run(after(t, p), check.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		all = append(all, fmt.Sprintf("%s: %s at %s: %s", f.Severity, f.Rule, f.Resource, f.Message))
	}
	for _, n := range report.Notes {
		all = append(all, "note: "+n.String())
	}
	return all
}

func modules(t testing.TB) (dirs []string) {
	t.Helper()
	paths, err := filepath.Glob("testdata/*/main.tf")
	if err != nil || len(paths) < 8 {
		t.Fatalf("%d modules: %v", len(paths), err)
	}
	for _, path := range paths {
		dirs = append(dirs, filepath.Dir(path))
	}
	return dirs
}

// TestStyles writes down what is found in plans of modules in the styles of the field, and in
// those of the tests that 'ekskms generate tftest' writes for them: there nothing is left that
// is known after the apply only.
func TestStyles(t *testing.T) {
	for _, dir := range modules(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			plan := parse(t, read(t, filepath.Join(dir, "plan.json")))
			test := parse(t, read(t, filepath.Join(dir, "tests.json")))
			test.With(plan)
			known := findings(t, test)
			for _, f := range known {
				if strings.Contains(f, "known-after-apply") {
					t.Errorf("of the test is not known: %s", f)
				}
			}
			text := "# The plan\n" + strings.Join(findings(t, plan), "\n") + "\n\n# Its test\n" + strings.Join(known, "\n") + "\n"
			path := filepath.Join(dir, "findings.txt")
			if *update {
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(read(t, path)), text); diff != "" {
				t.Errorf("changed; if it should, run the test with -update (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOpenTofu: plans of OpenTofu 1.10 of the same modules have the same findings.
func TestOpenTofu(t *testing.T) {
	paths, err := filepath.Glob("testdata/*/tofu.json")
	if err != nil || len(paths) < 3 {
		t.Fatalf("%d plans of OpenTofu: %v", len(paths), err)
	}
	for _, path := range paths {
		tofu := parse(t, read(t, path))
		if data := read(t, path); !bytes.Contains(data, []byte("registry.opentofu.org")) {
			t.Errorf("%s is no plan of OpenTofu", path)
		}
		terraform := parse(t, read(t, filepath.Join(filepath.Dir(path), "plan.json")))
		if diff := cmp.Diff(findings(t, terraform), findings(t, tofu)); diff != "" {
			t.Errorf("%s (-Terraform +OpenTofu):\n%s", path, diff)
		}
	}
}

// TestGrants: what a grant allows is judged as what the policy of its key allows.
func TestGrants(t *testing.T) {
	grant := func(after, unknown map[string]any) func(map[string]map[string]any) {
		return func(all map[string]map[string]any) {
			base := map[string]any{"key_id": all[key]["after"].(map[string]any)["arn"], "name": "batch", "grantee_principal": "arn:aws:iam::111122223333:role/Batch", "operations": []any{"Decrypt"}}
			maps.Copy(base, after)
			all["aws_kms_grant.batch"] = map[string]any{"actions": []any{"create"}, "before": nil, "after": base, "after_unknown": unknown, "after_sensitive": map[string]any{}}
		}
	}
	context := map[string]any{"constraints": []any{map[string]any{"encryption_context_equals": map[string]any{"app": "batch"}}}}
	for name, tt := range map[string]struct {
		change func(map[string]map[string]any)
		want   []string
	}{
		"decrypts anything":       {grant(nil, map[string]any{}), []string{"use-without-context"}},
		"for its own context":     {grant(context, map[string]any{}), nil},
		"operations not known":    {grant(map[string]any{"operations": nil}, map[string]any{"operations": true}), []string{"key-policy-all-actions"}},
		"describes the key":       {grant(map[string]any{"operations": []any{"DescribeKey"}}, map[string]any{}), nil},
		"another account's":       {grant(map[string]any{"grantee_principal": "arn:aws:iam::444455556666:role/Batch"}, map[string]any{}), []string{"key-policy-cross-account"}},
		"can make further grants": {grant(map[string]any{"operations": []any{"CreateGrant"}}, map[string]any{}), []string{"grants-unrestricted"}},
	} {
		t.Run(name, func(t *testing.T) {
			report, err := check.Run(after(t, ours(t, tt.change)), check.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range report.Findings {
				got = append(got, f.Rule)
			}
			for _, want := range tt.want {
				if !slices.Contains(got, want) {
					t.Errorf("%s is not found: %q", want, got)
				}
			}
			if tt.want == nil && len(got) > 0 {
				t.Errorf("found %q", got)
			}
		})
	}
}

// TestFailed: of a test that failed, it is told why.
func TestFailed(t *testing.T) {
	const lines = `{"@level":"info","@module":"terraform.ui","type":"version"}
{"@level":"error","@message":"Error: Invalid index","@module":"terraform.ui","diagnostic":{"severity":"error","summary":"Invalid index","detail":"secret","range":{"filename":"main.tf","start":{"line":415}}}}
`
	if !tfplan.Is([]byte(lines)) {
		t.Fatal("is not taken for a test")
	}
	_, err := tfplan.Parse("tests.json", []byte(lines))
	if want := "tests.json: 'terraform test' ended with an error, and printed no plan: Invalid index, at main.tf:415"; err == nil || err.Error() != want {
		t.Errorf("the error is %v", err)
	}
	first, _, _ := strings.Cut(lines, "\n")
	if _, err := tfplan.Parse("tests.json", []byte(first)); err == nil || !strings.Contains(err.Error(), "-verbose") {
		t.Errorf("without -verbose: %v", err)
	}
}

// ours is the plan of the test of the module of the built-in default, with changes of what
// resources are after it.
func ours(t testing.TB, change func(changes map[string]map[string]any)) *tfplan.Plan {
	t.Helper()
	var event map[string]any
	if err := json.Unmarshal(read(t, "testdata/ours.json"), &event); err != nil {
		t.Fatal(err)
	}
	plan := event["test_plan"].(map[string]any)
	all := map[string]map[string]any{}
	for _, c := range plan["resource_changes"].([]any) {
		c := c.(map[string]any)
		all[c["address"].(string)] = c["change"].(map[string]any)
	}
	change(all)
	var left []any
	for _, c := range plan["resource_changes"].([]any) {
		address := c.(map[string]any)["address"].(string)
		if all[address] != nil {
			left = append(left, c)
		}
		delete(all, address)
	}
	for address, change := range all { // which the change has added
		kind, name, _ := strings.Cut(address, ".")
		left = append(left, map[string]any{"address": address, "mode": "managed", "type": kind, "name": name, "change": change})
	}
	plan["resource_changes"] = left
	data, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, append(data, '\n'))
}

// set puts a value where a path of keys leads.
func set(in map[string]any, path string, v any) {
	at := any(in)
	keys := strings.Split(path, ".")
	for i, key := range keys {
		if list, ok := at.([]any); ok {
			at = list[0]
		}
		m := at.(map[string]any)
		if i == len(keys)-1 {
			m[key] = v
			return
		}
		at = m[key]
	}
}

func with(address, path string, v any) func(map[string]map[string]any) {
	return func(all map[string]map[string]any) { set(all[address]["after"].(map[string]any), path, v) }
}

func without(address string) func(map[string]map[string]any) {
	return func(all map[string]map[string]any) { delete(all, address) }
}

// policy changes a policy, which is a text.
func policy(address, attribute, old, new string) func(map[string]map[string]any) {
	return func(all map[string]map[string]any) {
		m := all[address]["after"].(map[string]any)
		text := m[attribute].(string)
		if changed := strings.Replace(text, old, new, 1); changed != text {
			m[attribute] = changed
			return
		}
		panic(address + " has no " + old)
	}
}

const key, cluster = "aws_kms_key.secrets", "aws_eks_cluster.this"

// TestOurs: a plan and a template that say the same have the same findings: none, and for each
// fault those of the template's mutation.
func TestOurs(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(map[string]map[string]any)
		want   []string
	}{
		"nothing":            {func(map[string]map[string]any) {}, nil},
		"no encryption":      {with(cluster, "encryption_config", []any{}), []string{"secrets-not-encrypted"}},
		"public endpoint":    {with(cluster, "vpc_config.endpoint_public_access", true), []string{"endpoint-public"}},
		"no audit log":       {with(cluster, "enabled_cluster_log_types", []any{"api"}), []string{"audit-log-off"}},
		"no rotation":        {with(key, "enable_key_rotation", false), []string{"key-rotation-off"}},
		"key disabled":       {with(key, "is_enabled", false), []string{"secrets-key-unsuitable"}},
		"anybody decrypts":   {policy(key, "policy", `"Statement":[`, `"Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:Decrypt","Resource":"*"},`), []string{"key-policy-any-principal"}},
		"trail stopped":      {with("aws_cloudtrail.this", "enable_logging", false), []string{"trail-not-logging"}},
		"trail without KMS":  {with("aws_cloudtrail.this", "event_selector", []any{map[string]any{"include_management_events": true, "read_write_type": "All", "exclude_management_event_sources": []any{"kms.amazonaws.com"}}}), []string{"trail-excludes-kms"}},
		"no validation":      {with("aws_cloudtrail.this", "enable_log_file_validation", false), []string{"trail-no-validation"}},
		"bucket refuses":     {policy("aws_s3_bucket_policy.trail", "policy", "s3:PutObject", "s3:GetObject"), []string{"trail-undeliverable"}},
		"topic refuses":      {policy("aws_sns_topic_policy.alarms", "policy", "sns:Publish", "sns:Subscribe"), []string{"alarm-undeliverable"}},
		"no rule on the key": {without(`aws_cloudwatch_event_rule.alarm["KeyDisabled"]`), []string{"tamper-alarm-missing"}},
		"no targets": {func(all map[string]map[string]any) {
			without(`aws_cloudwatch_event_target.alarm["KeyDisabled"]`)(all)
			without(`aws_cloudwatch_event_target.log["KeyDisabled"]`)(all)
		}, []string{"tamper-alarm-missing"}},
		"trust of the plugin": {policy("aws_iam_role.plugin", "assume_role_policy", "pods.eks.amazonaws.com", "ec2.amazonaws.com"), []string{"trust-never-matches"}},
		"unknown policy": {func(all map[string]map[string]any) {
			delete(all[key]["after"].(map[string]any), "policy")
			all[key]["after_unknown"].(map[string]any)["policy"] = true
		}, []string{"known-after-apply"}},
		"unknown key": {func(all map[string]map[string]any) {
			set(all[cluster]["after"].(map[string]any), "encryption_config", []any{map[string]any{"resources": []any{"secrets"}, "provider": []any{map[string]any{}}}})
			set(all[cluster]["after_unknown"].(map[string]any), "encryption_config", []any{map[string]any{"provider": []any{map[string]any{"key_arn": true}}}})
		}, []string{"known-after-apply"}},
	} {
		t.Run(name, func(t *testing.T) {
			report, err := check.Run(after(t, ours(t, tt.change)), check.Options{})
			if err != nil {
				t.Fatal(err)
			}
			wantRules(t, report, tt.want)
		})
	}
}

// wantRules wants findings of these rules, and gives all that the findings say.
func wantRules(t *testing.T, report *finding.Report, want []string) string {
	t.Helper()
	var ids, messages []string
	for _, f := range report.Findings {
		ids = append(ids, f.Rule)
		messages = append(messages, f.Rule+" "+f.Message)
	}
	slices.Sort(ids)
	all := strings.Join(messages, "\n")
	if diff := cmp.Diff(want, slices.Compact(ids)); diff != "" {
		t.Errorf("(-want +got):\n%s%s", diff, all)
	}
	return all
}

// TestGuard: a plan alone says what it changes, and what Terraform replaces.
func TestGuard(t *testing.T) {
	// dayTwo makes all resources ones that are there, and then changes what will be.
	dayTwo := func(change func(map[string]map[string]any)) func(map[string]map[string]any) {
		return func(all map[string]map[string]any) {
			for _, c := range all {
				var before any
				data, err := json.Marshal(c["after"])
				if err == nil {
					err = json.Unmarshal(data, &before)
				}
				if err != nil {
					t.Fatal(err)
				}
				c["before"], c["actions"] = before, []any{"no-op"}
			}
			change(all)
		}
	}
	actions := func(address string, actions []any, paths ...any) func(map[string]map[string]any) {
		return func(all map[string]map[string]any) {
			all[address]["actions"], all[address]["replace_paths"] = actions, paths
			if slices.Equal(actions, []any{"delete"}) || slices.Equal(actions, []any{"forget"}) {
				all[address]["after"] = nil
			}
		}
	}
	const other = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	for name, tt := range map[string]struct {
		change func(map[string]map[string]any)
		want   []string
		says   string
	}{
		"nothing":           {func(map[string]map[string]any) {}, nil, ""},
		"cluster replaced":  {actions(cluster, []any{"delete", "create"}, []any{"vpc_config", 0.0, "subnet_ids"}), []string{"cluster-replaced"}, "because vpc_config.0.subnet_ids can't be changed"},
		"key replaced":      {actions(key, []any{"create", "delete"}), []string{"key-deleted"}, "the plan deletes it and makes another"},
		"key destroyed":     {actions(key, []any{"delete"}), []string{"alarm-removed", "alias-moved", "encryption-config-changed", "key-deleted"}, "does not keep it"},
		"cluster forgotten": {actions(cluster, []any{"forget"}), []string{"cluster-deleted"}, "leaves it running"},
		"another key":       {with(cluster, "encryption_config.provider.key_arn", other), []string{"alarm-removed", "encryption-config-changed"}, "key/1234abcd"},
		"rotation off":      {with(key, "enable_key_rotation", false), []string{"rotation-weakened"}, ""},
		"policy wider":      {policy(key, "policy", `"Statement":[`, `"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/App"},"Action":"kms:Decrypt","Resource":"*"},`), []string{"policy-widened"}, "role/App may do kms:Decrypt"},
		"policy not known": {func(all map[string]map[string]any) {
			delete(all[key]["after"].(map[string]any), "policy")
			all[key]["after_unknown"].(map[string]any)["policy"] = true
		}, []string{"check-regressed", "policy-not-understood"}, ""},
		"skips a version": {with(cluster, "version", "1.37"), []string{"version-skipped"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := ours(t, dayTwo(tt.change))
			a, err := p.Before("plan.json", here)
			if err != nil {
				t.Fatal(err)
			}
			report, err := guard.Compare(estate.FromTemplates(a), after(t, p), guard.Options{})
			if err != nil {
				t.Fatal(err)
			}
			all := wantRules(t, report, tt.want)
			if !strings.Contains(all, tt.says) {
				t.Errorf("says %q, want %q", all, tt.says)
			}
		})
	}
}

// TestRegions: each resource is in the Region of its provider, and finds those that are of all
// Regions.
func TestRegions(t *testing.T) {
	e := after(t, parse(t, read(t, "testdata/two_regions/plan.json")))
	regions := map[string]string{}
	for _, c := range e.Clusters {
		regions[c.LogicalID] = c.In.Region
		if c.Key == nil || c.Key.In != c.In {
			t.Errorf("the key of %s is not in its Region", c.LogicalID)
		}
		if role := e.Lookup(c.Settings["RoleArn"]); role == nil || role.LogicalID != "aws_iam_role.cluster" {
			t.Errorf("the role of %s is %v", c.LogicalID, c.Settings["RoleArn"])
		}
	}
	if diff := cmp.Diff(map[string]string{"aws_eks_cluster.eu": "eu-central-1", "aws_eks_cluster.us": "us-east-1"}, regions); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSilentChange: that the provider does nothing of what it reports is said.
func TestSilentChange(t *testing.T) {
	const other = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	for change, want := range map[string]bool{other: true, "": false} {
		p := ours(t, func(all map[string]map[string]any) {
			data, err := json.Marshal(all[cluster]["after"])
			var before map[string]any
			if err = errors.Join(err, json.Unmarshal(data, &before)); err != nil {
				t.Fatal(err)
			}
			all[cluster]["before"], all[cluster]["actions"] = before, []any{"update"}
			if change != "" {
				set(all[cluster]["after"].(map[string]any), "encryption_config.provider.key_arn", change)
			}
		})
		if said := strings.Contains(strings.Join(findings(t, p), "\n"), "reports that and does nothing"); said != want {
			t.Errorf("another key: %t, said: %t", want, said)
		}
	}
}

// TestSensitive: a value that is sensitive is in no message, whatever is found on it.
func TestSensitive(t *testing.T) {
	const secret = "hunter2"
	p := ours(t, func(all map[string]map[string]any) {
		all[key]["after"].(map[string]any)["policy"] = `{"Statement":[{"Sid":"` + secret + `","Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`
		all[key]["after_sensitive"] = map[string]any{"policy": true}
	})
	said := strings.Join(findings(t, p), "\n")
	if strings.Contains(said, secret) || !strings.Contains(said, "aws_kms_key.secrets.policy (sensitive)") {
		t.Error(said)
	}
}

// TestNoPlans: what is none, is half of one, or is of a format that is not known is said to be.
func TestNoPlans(t *testing.T) {
	for _, text := range []string{"", "{}", "[]", "clusters: []", `{"Resources": {}}`, `{"format_version": "1.2"}`, "{\"@level\": \"info\"}\n{\"@level\": \"info\"}\n"} {
		if tfplan.Is([]byte(text)) {
			t.Errorf("%q is a plan", text)
		}
	}
	if _, err := tfplan.Parse("p.json", []byte(`{"format_version": "2.0", "resource_changes": []}`)); err == nil || !strings.Contains(err.Error(), `has the format version "2.0"`) {
		t.Errorf("the error is %v", err)
	}
	for text, want := range map[string]string{
		`{"format_version": "1.2", "resource_changes": [], "errored": true}`:   "planning ended with an error",
		`{"format_version": "1.2", "resource_changes": [], "complete": false}`: "the plan is not complete",
		`{"format_version": "1.2", "resource_changes": [], "complete": true}`:  "",
		`{"format_version": "1.2", "resource_changes": []}`:                    "", // of OpenTofu
	} {
		if half := parse(t, []byte(text)).Half(); !strings.HasPrefix(half, want) || want == "" && half != "" {
			t.Errorf("%s is half because %q", text, half)
		}
	}
	if !tfplan.IsBinary([]byte("PK\x03\x04...tfplan...")) || tfplan.IsBinary([]byte("{}")) {
		t.Error("what Terraform writes by itself is not told apart")
	}
}

// TestState reads a state: what a plan makes, once it is applied.
func TestState(t *testing.T) {
	var event struct {
		Plan struct {
			Changes []struct {
				Address, Mode, Type, Name string
				Change                    struct{ After map[string]any }
			} `json:"resource_changes"`
		} `json:"test_plan"`
	}
	if err := json.Unmarshal(read(t, "testdata/ours.json"), &event); err != nil {
		t.Fatal(err)
	}
	var resources []any
	for _, c := range event.Plan.Changes {
		resources = append(resources, map[string]any{"address": c.Address, "mode": c.Mode, "type": c.Type, "name": c.Name, "values": c.Change.After})
	}
	data, err := json.Marshal(map[string]any{"format_version": "1.0", "values": map[string]any{"root_module": map[string]any{"resources": resources}}})
	if err != nil {
		t.Fatal(err)
	}
	p := parse(t, data)
	report, err := check.Run(after(t, p), check.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !p.IsState() || len(report.Findings) > 0 || len(report.Checked.Clusters) != 1 || len(report.Checked.Trails) != 1 {
		t.Errorf("found %v in %+v", report.Findings, report.Checked)
	}
}

// TestTestFile: the file for 'terraform test' gives each resource its own, and no value of a
// sensitive variable.
func TestTestFile(t *testing.T) {
	data := read(t, "testdata/for_each/plan.json")
	data = bytes.Replace(data, []byte(`"resource_changes"`), []byte(`"variables": {"token": {"value": "hunter2"}, "zones": {"value": ["a", "${b}"]}}, "resource_changes"`), 1)
	data = bytes.Replace(data, []byte(`"root_module": {`), []byte(`"root_module": {"variables": {"token": {"sensitive": true}},`), 1)
	text, left := parse(t, data).Test("111122223333", "eu-central-1")
	if diff := cmp.Diff([]string{"token"}, left); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	for _, want := range []string{`zones = ["a", "$${b}"]`, `target          = aws_kms_key.secrets["blue"]`, `target          = aws_kms_key.secrets["green"]`, "override_during = plan"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("has no %s:\n%s", want, text)
		}
	}
	if bytes.Contains(text, []byte("hunter2")) {
		t.Error("has the value of a sensitive variable")
	}
	ids := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if _, arn, ok := strings.Cut(line, " arn = "); ok {
			if ids[arn] {
				t.Errorf("two resources have %s", arn)
			}
			ids[arn] = true
		}
	}
}

// TestRealPlans has Terraform plan some of the modules, where it is installed, and finds in the
// plans what it finds in those that are kept. Each takes Terraform ten seconds.
func TestRealPlans(t *testing.T) {
	binary, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("no terraform here: the plans that are kept stand")
	}
	plugins := terraformtest.Mirror()
	if plugins == "" {
		t.Skip("no mirror with the AWS provider here: the plans that are kept stand")
	}
	for _, name := range []string{"documents", "for_each", "imported_key", "nested_modules", "two_regions"} {
		from := filepath.Join("testdata", name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
			terraform := func(args ...string) []byte {
				cmd := exec.Command(binary, args...)
				cmd.Dir = dir
				for _, v := range os.Environ() {
					if !strings.HasPrefix(v, "TF_") && !strings.HasPrefix(v, "AWS_") {
						cmd.Env = append(cmd.Env, v)
					}
				}
				cmd.Env = append(cmd.Env, "CHECKPOINT_DISABLE=1", "AWS_EC2_METADATA_DISABLED=true")
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("terraform %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
				}
				return out
			}
			terraform("init", "-input=false", "-backend=false", "-plugin-dir="+plugins)
			terraform("plan", "-input=false", "-out=plan")
			plan := parse(t, terraform("show", "-json", "plan"))
			file, _ := plan.Test(here.Account, here.Region)
			if err := os.MkdirAll(filepath.Join(dir, "tests"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "tests", "ekskms.tftest.hcl"), file, 0o644); err != nil {
				t.Fatal(err)
			}
			test := parse(t, terraform("test", "-filter=tests/ekskms.tftest.hcl", "-json", "-verbose"))
			test.With(plan)
			want := string(read(t, filepath.Join(from, "findings.txt")))
			got := "# The plan\n" + strings.Join(findings(t, plan), "\n") + "\n\n# Its test\n" + strings.Join(findings(t, test), "\n") + "\n"
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("of a plan that is made now (-want +got):\n%s", diff)
			}
		})
	}
}
