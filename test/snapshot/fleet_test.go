//go:build !race

package snapshot

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/estate"
	ekskmsguard "github.com/ekskms/ekskms/internal/guard"
	"github.com/ekskms/ekskms/internal/synth"
	"github.com/ekskms/ekskms/internal/tamper"
)

const (
	twelve        = "../../examples/06_fleet/fleet.yaml"
	twoPartitions = "../../examples/07_two_partitions/fleet.yaml"
	keyAccount    = "../../examples/10_key_account/fleet.yaml"
)

// fleetOf synthesizes files, and returns the templates and what depends on what, by the
// names of the stacks.
func fleetOf(t *testing.T, dir string, file *config.File, validate bool) (templates map[string]template, needs map[string][]string) {
	t.Helper()
	report, err := synth.Run(context.Background(), file, synth.Options{Outdir: dir, Validate: validate})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		if f.IsError() {
			t.Errorf("%s: %s (%v)", f.Rule, f.Message, f.Where)
		}
	}
	templates = map[string]template{}
	for _, s := range report.Stacks {
		data, err := os.ReadFile(s.Template)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Dir(s.Template) != dir {
			t.Errorf("%s is not at the top of the assembly", s.Template)
		}
		var one template
		if err := json.Unmarshal(data, &one); err != nil {
			t.Fatal(err)
		}
		templates[s.Name] = one
	}
	var manifest struct {
		Artifacts map[string]struct {
			Type         string
			Dependencies []string
			Properties   struct{ TerminationProtection bool }
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &manifest); err != nil {
		t.Fatal(err)
	}
	needs = map[string][]string{}
	for name, a := range manifest.Artifacts {
		if a.Type != "aws:cloudformation:stack" {
			continue
		}
		if !a.Properties.TerminationProtection {
			t.Errorf("%s is not protected against termination", name)
		}
		for _, d := range a.Dependencies {
			if !strings.HasSuffix(d, ".assets") {
				needs[name] = append(needs[name], d)
			}
		}
		slices.Sort(needs[name])
	}
	return templates, needs
}

// rollout holds the steps of a rollout to the dependencies of the stacks: each step finds
// the clusters that its stacks wait for deployed by an earlier one, and none is left.
func rollout(t *testing.T, file *config.File, needs map[string][]string, all map[string]template) {
	t.Helper()
	done := map[string]bool{}
	var deploy func(stack string, step []string)
	deploy = func(stack string, step []string) {
		if all[stack] == nil {
			t.Errorf("the rollout deploys %s, which is no stack", stack)
		}
		for _, needed := range needs[stack] {
			if done[needed] {
				continue
			}
			// The CDK CLI takes it along. That must not be a cluster of another wave.
			if !strings.HasPrefix(needed, "ekskms-shared-") && !strings.HasPrefix(needed, "ekskms-network-") && !slices.Contains(step, needed) {
				t.Errorf("%s needs %s, which no earlier step deploys", stack, needed)
			}
			deploy(needed, step)
		}
		done[stack] = true
	}
	for _, step := range file.Rollout() {
		for _, stack := range step.Stacks {
			deploy(stack, step.Stacks)
		}
	}
	for stack := range all {
		if !done[stack] {
			t.Errorf("the rollout leaves out %s", stack)
		}
	}
}

func load(t *testing.T, paths ...string) *config.File {
	t.Helper()
	file, err := config.Load(paths...)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// goldens holds templates to golden files.
func goldens(t *testing.T, all map[string]template, files map[string]string) {
	t.Helper()
	for name, golden := range files {
		path := filepath.Join("fleet", golden+".golden.json") // not among those that Control Tower judges as whole clusters
		got := all[name].golden()
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
			t.Errorf("%s changed; if it should, run `make goldens` (-want +got):\n%s", name, diff)
		}
	}
}

// TestFleet: the example of twelve clusters, by its shapes: a cluster, the record at home
// and in another Region, the alarms.
func TestFleet(t *testing.T) {
	dir := t.TempDir()
	all, needs := fleetOf(t, dir, load(t, twelve), false)
	rollout(t, load(t, twelve), needs, all)
	const shared, alarms = "ekskms-shared-", "ekskms-alarms-"
	if len(all) != 12+2*9 {
		t.Errorf("%d stacks, want one for each of 12 clusters, and two for each of 9 places", len(all))
	}
	goldens(t, all, map[string]string{
		"ekskms-payments-eu":                 "cluster",
		shared + "333344445555-eu-central-1": "shared",
		shared + "333344445555-us-east-1":    "shared-elsewhere",
		alarms + "333344445555-eu-central-1": "alarms",
	})
	trails := map[string]int{}
	for name, template := range all {
		for id, resource := range template.resources() {
			switch resource["Type"] {
			case "AWS::CloudTrail::Trail":
				trails[strings.Join(strings.Split(name, "-")[2:3], "")]++
			case "AWS::Events::Rule":
				pattern, err := json.Marshal(at(resource, "Properties.EventPattern"))
				if err != nil || len(pattern) > 2*tamper.MaxPattern {
					t.Errorf("%s: %s: a pattern of %d characters: %v", name, id, len(pattern), err)
				}
				if !strings.HasPrefix(name, shared) && !strings.HasPrefix(name, alarms) {
					t.Errorf("%s has a rule, %s", name, id)
				}
			}
		}
	}
	if diff := cmp.Diff(map[string]int{"111122223333": 1, "222233334444": 1, "333344445555": 1, "444455556666": 1}, trails); diff != "" {
		t.Errorf("trails (-want +got):\n%s", diff)
	}

	// The order: on record first, alarms after the keys, wave after wave.
	for name, want := range map[string][]string{
		"ekskms-dev-a":                       {shared + "111122223333-eu-central-1"},
		alarms + "111122223333-eu-central-1": {"ekskms-dev-a", "ekskms-dev-b", shared + "111122223333-eu-central-1"},
		shared + "111122223333-us-east-1":    {shared + "111122223333-eu-central-1"},
		"ekskms-staging-ap":                  {alarms + "111122223333-eu-central-1", alarms + "111122223333-us-east-1", "ekskms-dev-a", "ekskms-dev-b", "ekskms-dev-us", shared + "222233334444-ap-southeast-2"},
		"ekskms-orders-eu":                   {alarms + "444455556666-eu-central-1", "ekskms-orders-us", shared + "333344445555-eu-central-1", "ekskms-tools"},
	} {
		slices.Sort(want)
		if diff := cmp.Diff(want, needs[name]); diff != "" {
			t.Errorf("%s needs (-want +got):\n%s", name, diff)
		}
	}

	// Nothing is wrong with it, and there was something to look at.
	assembly, err := cfn.Load(dir, cfn.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	report, err := check.Run(estate.FromTemplates(assembly), check.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		t.Errorf("%s at %s of %s: %s", f.Rule, f.Resource, f.Stack, f.Message)
	}
	if len(report.Checked.Clusters) != 12 || len(report.Checked.Trails) != 4 {
		t.Errorf("looked at %d clusters and %d trails", len(report.Checked.Clusters), len(report.Checked.Trails))
	}

	// Without a part of what is shared, each cluster that needs it is found.
	for part, want := range map[[2]string][]string{
		{alarms + "333344445555-eu-central-1", "AlarmsAlarmKeyDeletionScheduled1"}: {"tamper-alarm-missing ekskms-orders-eu", "tamper-alarm-missing ekskms-payments-eu"},
		{alarms + "333344445555-us-east-1", "AlarmsAlarmGrantRemoved1"}:            {"tamper-alarm-missing ekskms-orders-us", "tamper-alarm-missing ekskms-payments-us"},
		{shared + "222233334444-eu-central-1", "AuditTrailLogsPolicy"}:             {"trail-undeliverable " + shared + "222233334444-eu-central-1"},
		{shared + "222233334444-eu-central-1", "AuditTrail49D399D8"}:               {"trail-missing ekskms-staging-ap", "trail-missing ekskms-staging-eu", "trail-missing ekskms-staging-us"},
		{shared + "444455556666-eu-central-1", "AuditTrailAlarmTrailTampered"}:     {"trail-tamper-alarm-missing " + shared + "444455556666-eu-central-1"},
		{shared + "111122223333-us-east-1", "AuditTrailAlarmsPolicy"}:              {"alarm-undeliverable " + shared + "111122223333-us-east-1"},
	} {
		stack, id := part[0], part[1]
		broken := t.TempDir()
		if err := os.CopyFS(broken, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		rewrite(t, broken, stack, drop(t, id))
		if diff := cmp.Diff(want, findings(t, broken)); diff != "" {
			t.Errorf("%s without %s (-want +got):\n%s", stack, id, diff)
		}
	}
}

// rewrite changes the resources of a stack in an assembly.
func rewrite(t *testing.T, dir, stack string, change func(resources map[string]any)) {
	t.Helper()
	path := filepath.Join(dir, stack+".template.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var changed template
	if err := json.Unmarshal(data, &changed); err != nil {
		t.Fatal(err)
	}
	change(changed["Resources"].(map[string]any))
	if data, err = json.Marshal(changed); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// drop removes the one resource whose logical ID begins so.
func drop(t *testing.T, id string) func(map[string]any) {
	return func(resources map[string]any) {
		t.Helper()
		n := len(resources)
		maps.DeleteFunc(resources, func(name string, _ any) bool { return strings.HasPrefix(name, id) })
		if len(resources) != n-1 {
			t.Fatalf("%d of %s", n-len(resources), id)
		}
	}
}

// findings are those of check in an assembly.
func findings(t *testing.T, dir string) (found []string) {
	t.Helper()
	assembly, err := cfn.Load(dir, cfn.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	report, err := check.Run(estate.FromTemplates(assembly), check.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		found = append(found, f.Rule+" "+f.Stack)
	}
	slices.Sort(found)
	return found
}

// TestKeyAccount: keys in a central account come first, and the clusters take them by the
// ARNs that the CDK CLI wrote; all of it is judged together.
func TestKeyAccount(t *testing.T) {
	data, err := os.ReadFile(keyAccount)
	if err != nil {
		t.Fatal(err)
	}
	early, err := config.Parse(config.Source{Name: "f.yaml", Data: data})
	if err != nil {
		t.Fatal(err)
	}
	before, _ := fleetOf(t, t.TempDir(), early, false)
	const account, keys = "777788889999-eu-central-1", "ekskms-keys-777788889999-eu-central-1"
	want := []string{"ekskms-alarms-" + account, keys, "ekskms-shared-111122223333-eu-central-1", "ekskms-shared-444455556666-eu-central-1", "ekskms-shared-" + account}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(before))); diff != "" {
		t.Errorf("before the keys are known (-want +got):\n%s", diff)
	}
	dir := t.TempDir()
	all, needs := fleetOf(t, dir, load(t, keyAccount), true)
	rollout(t, load(t, keyAccount), needs, all)
	goldens(t, all, map[string]string{keys: "keys", "ekskms-alarms-" + account: "alarms-of-keys"})
	for cluster, want := range map[string][]string{
		"ekskms-dev":               {"ekskms-keys-777788889999-eu-central-1", "ekskms-shared-111122223333-eu-central-1"},
		"ekskms-prod":              {"ekskms-alarms-111122223333-eu-central-1", "ekskms-alarms-" + account, "ekskms-dev", keys, "ekskms-shared-444455556666-eu-central-1"},
		keys:                       {"ekskms-shared-" + account},
		"ekskms-alarms-" + account: {keys, "ekskms-shared-" + account},
	} {
		if diff := cmp.Diff(want, needs[cluster]); diff != "" {
			t.Errorf("%s waits for (-want +got):\n%s", cluster, diff)
		}
	}
	prod := all["ekskms-prod"]
	if got := text(at(prod.only("AWS::EKS::Cluster"), "Properties.EncryptionConfig.0.Provider.KeyArn")); got != "arn:aws:kms:eu-central-1:777788889999:key/0987dcba-09fe-87dc-65ba-ab0987654321" {
		t.Errorf("the key is %s", got)
	}
	if len(prod.ofType("AWS::KMS::Key")) != 1 {
		t.Errorf("the stack of a cluster has the keys %v, want that of its logs", prod.ofType("AWS::KMS::Key"))
	}
	paths := map[string]string{}
	for _, id := range prod.ofType("AWS::IAM::Role") {
		paths[text(at(prod.resources()[id], "Properties.Path"))] = id
	}
	for _, path := range []string{"/ekskms/prod/", "/ekskms/prod/plugin/", "/ekskms/prod/tenants/acme/"} {
		if paths[path] == "" {
			t.Errorf("no role has the path %s, which the policy of the key names: %v", path, paths)
		}
	}
	if outputs := text(prod["Outputs"]); strings.Contains(outputs, "ExistingKeyPolicyStatements") {
		t.Error("the owner of the key is asked for what its policy has")
	}
	if found := findings(t, dir); len(found) > 0 {
		t.Errorf("found in a good fleet: %v", found)
	}

	// What is broken in the account of the keys is found, by who reads all of it.
	statement := func(sid string) map[string]any {
		for _, s := range list(at(all[keys].resources()["KeyprodA60F16F9"], "Properties.KeyPolicy.Statement")) {
			if at(s, "Sid") == sid {
				return s.(map[string]any)
			}
		}
		t.Fatalf("no statement %s", sid)
		return nil
	}
	for name, m := range map[string]struct {
		apply func() (undo func())
		want  string
	}{
		"any role of the cluster's account": {func() func() { return change(statement("PluginUse"), "Condition", nil) }, "use-without-context"},
		"a third account": {func() func() {
			return change(statement("ClusterCreatorsGrant"), "Principal", map[string]any{"AWS": "arn:aws:iam::999900001111:role/Deployer"})
		}, "key-policy-cross-account"},
		"no creator": {func() func() {
			return change(statement("ClusterCreatorsGrant"), "Action", "kms:DescribeKey")
		}, "cluster-creator-missing"},
		"rotation off": {func() func() {
			return change(at(all[keys].resources()["KeyprodA60F16F9"], "Properties").(map[string]any), "EnableKeyRotation", false)
		}, "key-rotation-off"},
		"the trail of the keys' account stopped": {func() func() {
			return change(at(all["ekskms-shared-"+account].only("AWS::CloudTrail::Trail"), "Properties").(map[string]any), "IsLogging", false)
		}, "trail-not-logging"},
	} {
		undo := m.apply()
		broken := copyOf(t, dir, all)
		undo()
		if found := findings(t, broken); !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, m.want+" ") }) {
			t.Errorf("%s: found %v, want %s", name, found, m.want)
		}
	}
}

// change sets a property, and returns what takes that back.
func change(in map[string]any, key string, to any) (undo func()) {
	was, there := in[key]
	if in[key] = to; to == nil {
		delete(in, key)
	}
	return func() {
		if in[key] = was; !there {
			delete(in, key)
		}
	}
}

// copyOf is an assembly with other templates.
func copyOf(t *testing.T, dir string, templates map[string]template) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for name, one := range templates {
		data, err := json.Marshal(one)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name+".template.json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// TestFleetGrows: a thirteenth cluster changes no template of the twelve, and of the
// shared ones only those that must name it.
func TestFleetGrows(t *testing.T) {
	before, _ := fleetOf(t, t.TempDir(), load(t, twelve), false)
	more := filepath.Join(t.TempDir(), "more.yaml")
	text := "clusters:\n- {name: thirteen, labels: {env: staging}, account: \"222233334444\", region: us-east-1}\n"
	if err := os.WriteFile(more, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	after, _ := fleetOf(t, t.TempDir(), load(t, twelve, more), false)
	if len(after) != len(before)+1 {
		t.Errorf("%d stacks, after %d", len(after), len(before))
	}
	var changed []string
	for name := range before {
		if string(before[name].golden()) != string(after[name].golden()) {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	// The trail of the account records the cluster's kubectl handler.
	want := []string{"ekskms-alarms-222233334444-us-east-1", "ekskms-shared-222233334444-eu-central-1"}
	if diff := cmp.Diff(want, changed); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
}

// TestGuardOfFleets: a change of a fleet is told once, and one that loses something is not
// taken for it.
func TestGuardOfFleets(t *testing.T) {
	const place = "defaults: {account: \"111122223333\", region: eu-central-1}\n"
	fleet := func(names ...string) string {
		return place + "clusters:\n- {name: " + strings.Join(names, "}\n- {name: ") + "}\n"
	}
	many := make([]string, 12)
	for i := range many {
		many[i] = fmt.Sprintf("a-cluster-of-a-long-name-%02d", i)
	}
	made := map[string]string{}
	assemblyOf := func(text string) string {
		if made[text] == "" {
			file, err := config.Parse(config.Source{Name: "f.yaml", Data: []byte(text)})
			if err != nil {
				t.Fatal(err)
			}
			made[text] = t.TempDir()
			fleetOf(t, made[text], file, false)
		}
		return made[text]
	}
	// Both with the same names for what is in several stacks, as the command reads them.
	read := func(dir string, shared map[string]bool) *cfn.Assembly {
		assembly, err := cfn.Load(dir, cfn.Environment{Shared: shared})
		if err != nil {
			t.Fatal(err)
		}
		return assembly
	}
	for _, c := range []struct {
		name, before, after string
		// without is a part of the new assembly that is left out: a stack and a resource.
		// Without the resource, the key of the stack is for everybody.
		without [2]string
		want    []string
	}{
		{"from one to several", place + "clusters: [{name: a}]\n", fleet("a", "b"), [2]string{}, []string{"record-moved ekskms-a"}},
		{"and an alarm gets lost", place + "clusters: [{name: a}]\n", fleet("a", "b"), [2]string{"ekskms-alarms-111122223333-eu-central-1", "AlarmsAlarmKeyReplicated1"},
			[]string{"alarm-removed ekskms-a", "key-deleted ekskms-a", "retention-weakened ekskms-a", "trail-weakened ekskms-a"}},
		{"and the trail can't deliver", place + "clusters: [{name: a}]\n", fleet("a", "b"), [2]string{"ekskms-shared-111122223333-eu-central-1", "AuditTrailLogsPolicy"},
			[]string{"alarm-removed ekskms-a", "key-deleted ekskms-a", "retention-weakened ekskms-a", "trail-undeliverable ekskms-shared-111122223333-eu-central-1", "trail-weakened ekskms-a"}},
		{"one more", fleet(many[1:]...), fleet(many...), [2]string{}, nil},
		{"one less", fleet(many...), fleet(many[1:]...), [2]string{}, []string{"cluster-deleted ekskms-" + many[0], "key-deleted ekskms-" + many[0]}},
		{"another name", fleet("a", "b"), fleet("a", "c"), [2]string{}, []string{"cluster-deleted ekskms-b"}},
		{"another Region", fleet("a", "b"), place + "clusters: [{name: a}, {name: b, region: us-east-1}]\n", [2]string{}, []string{"cluster-moved ekskms-b"}},
		{"another Region, and a key for everybody", fleet("a", "b"), place + "clusters: [{name: a}, {name: b, region: us-east-1}]\n", [2]string{"ekskms-b", ""},
			[]string{"check-regressed ekskms-b", "cluster-moved ekskms-b"}},
		{"one less, and an alarm on the others", fleet("a", "b", "c"), fleet("a", "b"), [2]string{"ekskms-alarms-111122223333-eu-central-1", "AlarmsAlarmUnexpectedGrant1"},
			[]string{"alarm-removed ekskms-alarms-111122223333-eu-central-1", "cluster-deleted ekskms-c", "key-deleted ekskms-c"}},
	} {
		before, after := assemblyOf(c.before), assemblyOf(c.after)
		if stack := c.without[0]; stack != "" {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(after)); err != nil {
				t.Fatal(err)
			}
			change := drop(t, c.without[1])
			if c.without[1] == "" {
				change = func(resources map[string]any) {
					policy := at(resources["SecretsKeyE4821A66"], "Properties.KeyPolicy").(map[string]any)
					policy["Statement"] = append(policy["Statement"].([]any), map[string]any{"Effect": "Allow", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"})
				}
			}
			rewrite(t, dir, stack, change)
			after = dir
		}
		shared := maps.Clone(read(before, nil).Shared)
		maps.Copy(shared, read(after, nil).Shared)
		report, err := ekskmsguard.Compare(estate.FromTemplates(read(before, shared)), estate.FromTemplates(read(after, shared)), ekskmsguard.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, f := range report.Findings {
			found = append(found, f.Rule+" "+f.Stack)
		}
		slices.Sort(found)
		if diff := cmp.Diff(c.want, slices.Compact(found)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// TestFleetInPart: what --only leaves is what it is in the whole.
func TestFleetInPart(t *testing.T) {
	whole, _ := fleetOf(t, t.TempDir(), load(t, twelve), false)
	some, err := load(t, twelve).Only("orders-us", "env=tools")
	if err != nil {
		t.Fatal(err)
	}
	part, needs := fleetOf(t, t.TempDir(), some, false)
	// Two clusters with what they share, and the trail that is in another Region.
	if len(part) != 7 || part["ekskms-shared-333344445555-eu-central-1"] == nil {
		t.Errorf("%d stacks", len(part))
	}
	for name, template := range part {
		if diff := cmp.Diff(string(whole[name].golden()), string(template.golden())); diff != "" {
			t.Errorf("%s (-whole +part):\n%s", name, diff)
		}
		for _, other := range needs[name] {
			if part[other] == nil {
				t.Errorf("%s needs %s, which is not there", name, other)
			}
		}
	}
}

// TestTwoPartitions: each has its own, and nothing of one is in the other.
func TestTwoPartitions(t *testing.T) {
	all, needs := fleetOf(t, t.TempDir(), load(t, twoPartitions), true)
	rollout(t, load(t, twoPartitions), needs, all)
	for name, template := range all {
		own, other := `"arn:aws:`, `"arn:aws-us-gov:`
		if strings.Contains(name, "gov") {
			own, other = other, own
		}
		text := string(template.golden())
		if strings.Contains(text, other) {
			t.Errorf("%s names %s", name, other)
		}
		if strings.HasPrefix(name, "ekskms-shared") && !strings.Contains(text, own+"iam::") {
			t.Errorf("%s has no reader of its partition", name)
		}
	}
	if len(all) != 6 {
		t.Errorf("%d stacks", len(all))
	}
}

// TestCDKSettings: where the account was bootstrapped otherwise, the stack is deployed so,
// each role is bounded, and the one who creates the cluster is the one who deploys.
func TestCDKSettings(t *testing.T) {
	for name, place := range map[string]string{"anywhere": "", "somewhere": "account: \"111122223333\", region: eu-central-1, "} {
		text := "clusters:\n- {name: c, " + place + "cdk: {qualifier: acme, permissionsBoundary: dev/boundary, executionRole: \"ops/x-${AWS::Region}-${Qualifier}\", deployRole: deployer}}\n"
		file, err := config.Parse(config.Source{Name: "f.yaml", Data: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		all, _ := fleetOf(t, dir, file, true)
		stack := all["ekskms-c"]
		roles := 0
		for id, resource := range stack.resources() {
			if resource["Type"] == "AWS::IAM::Role" {
				roles++
				if got, err := json.Marshal(at(resource, "Properties.PermissionsBoundary")); err != nil || !strings.Contains(string(got), "policy/dev/boundary") {
					t.Errorf("%s: %s has the boundary %s: %v", name, id, got, err)
				}
			}
		}
		if roles < 4 {
			t.Errorf("%s: %d roles", name, roles)
		}
		creator := `:role/ops/x-eu-central-1-acme`
		if name == "anywhere" {
			creator = `:role/ops/x-",{"Ref":"AWS::Region"},"-acme"`
		}
		statements, err := json.Marshal(stack.keyStatements())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(statements), creator) || strings.Contains(string(statements), "cfn-exec-role") {
			t.Errorf("%s: the key policy has no %s: %s", name, creator, statements)
		}
		manifest, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{":role/deployer", ":role/ops/x-", "/cdk-bootstrap/acme/version", "cdk-acme-lookup-role-"} {
			if !strings.Contains(string(manifest), want) {
				t.Errorf("%s: the manifest has no %s", name, want)
			}
		}
	}
}

// TestOneClusterShares: with `shared`, one cluster has the stacks that several have; its
// key and the cluster keep their IDs.
func TestOneClusterShares(t *testing.T) {
	alone := mustSynthesize(t, "clusters: [{name: a}]\n")
	file, err := config.Parse(config.Source{Name: "f.yaml", Data: []byte("clusters: [{name: a}]\nshared: {}\n")})
	if err != nil {
		t.Fatal(err)
	}
	all, _ := fleetOf(t, t.TempDir(), file, true)
	if len(all) != 3 || all["ekskms-shared"] == nil || all["ekskms-alarms"] == nil {
		t.Fatalf("%d stacks", len(all))
	}
	for id, resource := range all["ekskms-a"].resources() {
		before := alone.resources()[id]
		if before == nil {
			t.Errorf("%s is new", id)
		} else if diff := cmp.Diff(before["Properties"], resource["Properties"]); diff != "" && resource["Type"] != "AWS::CDK::Metadata" {
			t.Errorf("%s (-alone +shared):\n%s", id, diff)
		}
	}
	for id, resource := range alone.resources() {
		if all["ekskms-a"].resources()[id] == nil && !strings.HasPrefix(id, "AuditTrail") && !strings.HasPrefix(fmt.Sprint(resource["Type"]), "AWS::Events::") {
			t.Errorf("%s has gone", id)
		}
	}
}

// TestSharedVPC: a VPC that clusters ask for is in a stack of its own, on which those that
// are in it depend, and no other.
func TestSharedVPC(t *testing.T) {
	const text = `
defaults: {account: "111122223333", plugin: {enabled: false}, vpc: {shared: true}}
shared: {vpc: {cidr: 10.8.0.0/16, ISOLATED}}
clusters: [{name: a, region: eu-central-1}, {name: b, region: us-east-1}, {name: own, region: us-east-1, vpc: {cidr: 10.9.0.0/16}}MORE]
`
	with := func(isolated, more string) (map[string]template, map[string][]string) {
		data := strings.NewReplacer("ISOLATED", isolated, "MORE", more).Replace(text)
		file, err := config.Parse(config.Source{Name: "f.yaml", Data: []byte(data)})
		if err != nil {
			t.Fatal(err)
		}
		all, needs := fleetOf(t, t.TempDir(), file, true)
		rollout(t, file, needs, all)
		return all, needs
	}
	const here, there = "111122223333-eu-central-1", "111122223333-us-east-1"
	all, needs := with("natGateways: 2", "")
	for stack, want := range map[string][]string{
		"ekskms-a":                {"ekskms-network-" + here, "ekskms-shared-" + here},
		"ekskms-b":                {"ekskms-network-" + there, "ekskms-shared-" + there},
		"ekskms-own":              {"ekskms-shared-" + there},
		"ekskms-network-" + there: nil,
	} {
		if diff := cmp.Diff(want, needs[stack]); diff != "" {
			t.Errorf("%s waits for (-want +got):\n%s", stack, diff)
		}
	}
	network, a := all["ekskms-network-"+here], all["ekskms-a"]
	if len(network.ofType("AWS::EC2::NatGateway")) != 2 || at(network.only("AWS::EC2::VPC"), "Properties.CidrBlock") != "10.8.0.0/16" {
		t.Error("the VPC is not the one of the file")
	}
	if len(a.ofType("AWS::EC2::VPC")) != 0 || len(all["ekskms-own"].ofType("AWS::EC2::VPC")) != 1 {
		t.Error("the clusters have the wrong VPCs")
	}
	roles := map[string]int{}
	for _, id := range network.ofType("AWS::EC2::Subnet") {
		tags, _ := at(network.resources()[id], "Properties.Tags").([]any)
		for _, tag := range tags {
			if key := at(tag, "Key").(string); strings.HasPrefix(key, "kubernetes.io/role/") {
				roles[key]++
			}
		}
	}
	if diff := cmp.Diff(map[string]int{"kubernetes.io/role/elb": 2, "kubernetes.io/role/internal-elb": 2}, roles); diff != "" {
		t.Errorf("tags of subnets (-want +got):\n%s", diff)
	}
	exports := map[any]bool{}
	outputs, _ := network["Outputs"].(map[string]any)
	for _, o := range outputs {
		exports[at(o, "Export.Name")] = true
	}
	subnets, _ := at(a.only("AWS::EKS::Cluster"), "Properties.ResourcesVpcConfig.SubnetIds").([]any)
	if len(subnets) != 2 {
		t.Errorf("%d subnets", len(subnets))
	}
	for _, subnet := range subnets {
		if name := at(subnet, "Fn::ImportValue"); !exports[name] {
			t.Errorf("the subnet %v is no export of the VPC", subnet)
		}
	}
	// One more cluster changes no template of the others, nor the VPC's.
	more, _ := with("natGateways: 2", ", {name: c, region: eu-central-1}")
	for _, stack := range []string{"ekskms-a", "ekskms-network-" + here} {
		if diff := cmp.Diff(all[stack], more[stack]); diff != "" {
			t.Errorf("one more cluster changes %s:\n%s", stack, diff)
		}
	}
	isolated, _ := with("isolated: true", "")
	if n := isolated["ekskms-network-"+here]; len(n.ofType("AWS::EC2::NatGateway")) != 0 || len(n.ofType("AWS::EC2::VPCEndpoint")) == 0 {
		t.Error("the isolated VPC has a way out, or no endpoints")
	}
}
