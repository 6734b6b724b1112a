package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/config"
	names "github.com/ekskms/ekskms/internal/place"
)

const fleet = `defaults:
  account: "111122223333"
  region: eu-central-1
  labels: {team: platform}
  key: {rotationPeriodDays: 180, pendingWindowDays: 20}
  vpc: {natGateways: 2}
  capacity:
    mode: nodeGroup
    nodeGroup: {instanceTypes: [m7i.large], maxSize: 9}
  creators:
    - arn:aws:iam::111122223333:role/Deployer
    - arn:aws:iam::111122223333:role/Pipeline
  tags: {owner: platform, stage: none}
clusters:
  - name: dev
    labels: {env: dev}
    key: {rotationPeriodDays: 365}
    tags: {stage: dev}
  - name: staging
    labels: {env: staging}
    capacity: {mode: auto}
    creators: [arn:aws:iam::111122223333:role/Deployer]
  - name: prod
    labels: {env: prod, team: payments}
    account: "444455556666"
    region: us-east-1
    vpc: {id: vpc-12345678, subnetIds: [subnet-11111111, subnet-22222222]}
    key: {arn: "arn:aws:kms:us-east-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab"}
    capacity: {nodeGroup: {minSize: 3}}
waves:
  - {name: try, clusters: [staging]}
  - {name: early, labels: {env: dev}}
  - {name: all, labels: {team: payments}}
`

func parseFleet(t *testing.T, texts ...string) *config.File {
	t.Helper()
	var sources []config.Source
	for i, text := range texts {
		sources = append(sources, config.Source{Name: string(rune('a'+i)) + ".yaml", Data: []byte(text)})
	}
	file, err := config.Parse(sources...)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// TestDefaults: the defaults are merged field by field, a list is taken whole, and what
// can't stand beside the cluster's own gives way.
func TestDefaults(t *testing.T) {
	file := parseFleet(t, fleet)
	checkComplete(t, file)
	checkRoundTrip(t, file)
	if err := schemaError(t, compileSchema(t), fleet); err != nil {
		t.Errorf("the schema refuses it: %v", err)
	}
	dev, staging, prod := file.Clusters[0], file.Clusters[1], file.Clusters[2]
	for _, c := range []struct{ what, got, want any }{
		{"a field of the cluster", dev.Key.RotationPeriodDays, 365},
		{"one beside it", dev.Key.PendingWindowDays, 20},
		{"a map", dev.Tags, map[string]string{"owner": "platform", "stage": "dev"}},
		{"labels", prod.Labels, map[string]string{"team": "payments", "env": "prod"}},
		{"a list", staging.Creators, []string{"arn:aws:iam::111122223333:role/Deployer"}},
		{"a list of the defaults", dev.Creators, []string{"arn:aws:iam::111122223333:role/Deployer", "arn:aws:iam::111122223333:role/Pipeline"}},
		{"a part of another mode", staging.Capacity, config.Capacity{Mode: config.CapacityAuto, NodePools: "both"}},
		{"a part below a part", *prod.Capacity.NodeGroup, config.NodeGroup{InstanceTypes: []string{"m7i.large"}, MinSize: 3, MaxSize: 9, DesiredSize: 3}},
		{"what an existing key has not", prod.Key.RotationPeriodDays, 0},
		{"what an existing VPC has not", prod.VPC.NATGateways, 0},
		{"the VPC of the others", staging.VPC.NATGateways, 2},
		{"waves", file.WavesOfClusters(), []int{1, 0, 2}},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}

	// Alone, each cluster is the same.
	whole := "clusters:\n- name: dev\n  account: \"111122223333\"\n  region: eu-central-1\n  labels: {env: dev, team: platform}\n  key: {rotationPeriodDays: 365, pendingWindowDays: 20}\n" +
		"  vpc: {natGateways: 2}\n  capacity: {mode: nodeGroup, nodeGroup: {instanceTypes: [m7i.large], maxSize: 9}}\n" +
		"  creators: [\"arn:aws:iam::111122223333:role/Deployer\", \"arn:aws:iam::111122223333:role/Pipeline\"]\n  tags: {owner: platform, stage: dev}\n"
	alone := parseFleet(t, whole).Clusters[0]
	alone.Audit.RetentionDays = 0 // of the trail that it shares here
	if diff := cmp.Diff(alone, dev); diff != "" {
		t.Errorf("written out (-want +got):\n%s", diff)
	}
}

// TestFleetExamples: the examples of fleets are right, and the schema thinks so too.
func TestFleetExamples(t *testing.T) {
	s := compileSchema(t)
	paths, err := filepath.Glob("../../examples/*/fleet.yaml")
	if err != nil || len(paths) != 3 {
		t.Fatalf("found %d examples: %v", len(paths), err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		file, err := config.Parse(config.Source{Name: path, Data: text})
		if err != nil {
			t.Fatal(err)
		}
		checkComplete(t, file)
		checkRoundTrip(t, file)
		if err := schemaError(t, s, string(text)); err != nil {
			t.Errorf("the schema refuses %s: %v", path, err)
		}
	}
}

// TestFilesMerge: later files merge over earlier ones, clusters by their names.
func TestFilesMerge(t *testing.T) {
	file := parseFleet(t, fleet, `defaults:
  key: {rotationPeriodDays: 90}
  tags: {overlay: "yes"}
clusters:
  - name: prod
    key: {alias: alias/own}
    kubernetesVersion: "1.36"
  - name: extra
waves:
  - {name: all, labels: {team: platform}, clusters: [prod]}
`)
	checkComplete(t, file)
	var names []string
	for _, c := range file.Clusters {
		names = append(names, c.Name)
		if c.Tags["overlay"] != "yes" || c.Tags["owner"] != "platform" {
			t.Errorf("%s: tags %v", c.Name, c.Tags)
		}
	}
	if diff := cmp.Diff([]string{"dev", "staging", "prod", "extra"}, names); diff != "" {
		t.Error(diff)
	}
	prod := file.Clusters[2]
	if prod.Key.ARN != "" || prod.Key.Alias != "alias/own" || prod.KubernetesVersion != "1.36" || prod.VPC.ID != "vpc-12345678" || prod.Key.RotationPeriodDays != 90 {
		t.Errorf("got %+v", prod)
	}
	if file.Clusters[0].Key.RotationPeriodDays != 365 {
		t.Error("a cluster's own gives way to later defaults")
	}
	if len(file.Waves) != 1 {
		t.Errorf("waves are a list: %v", file.Waves)
	}
}

var fleetFaults = []struct {
	name  string
	texts []string
	want  []string
}{
	{"all faults of all clusters", []string{"clusters:\n- name: a\n  key: {rotationPeriodDays: 1}\n- name: b\n  vcp: {}\n- nam: c\n- name: b\n"}, []string{
		`a.yaml:3: clusters[0].key.rotationPeriodDays: 1: must be 90 to 2560 days (cluster a)`,
		`a.yaml:5: clusters[1].vcp: a mapping: unknown field, did you mean vpc? (cluster b)`,
		`a.yaml:6: clusters[2].nam: c: unknown field, did you mean name?`,
		`a.yaml:6: clusters[2].name: is required`,
		`a.yaml:7: clusters[3].name: b: is the name of another cluster, on line 4: in one file each has its own, as its stack has (cluster b)`,
	}},
	{"a shared VPC of nobody", []string{"clusters: [{name: a}, {name: b}]\nshared:\n  vpc: {}\n"}, []string{
		`a.yaml:3: shared.vpc: a mapping: is the VPC of no cluster: write vpc: {shared: true} in those that it is for, or in the defaults`,
	}},
	{"a shared VPC with too many gateways", []string{"defaults: {vpc: {shared: true}}\nclusters: [{name: a}, {name: b}]\nshared:\n  vpc: {natGateways: 3}\n"}, []string{
		`a.yaml:4: shared.vpc.natGateways: 3: must be at most one for each of the 2 Availability Zones`,
	}},
	{"an isolated shared VPC in China", []string{"defaults: {vpc: {shared: true}, account: \"111122223333\", region: cn-north-1}\nclusters:\n- name: a\nshared:\n  vpc: {isolated: true}\n"}, []string{
		`a.yaml:1: defaults.vpc.shared: true: is in an isolated VPC, which is not supported in China: make the VPC with its endpoints yourself, and give id and subnetIds`,
	}},
	{"a fault of the defaults is one", []string{"defaults:\n  key: {rotationPeriodDays: 1}\n  plugn: {}\nclusters:\n- name: a\n- name: b\n- name: c\n  key: {rotationPeriodDays: 90}\n"}, []string{
		`a.yaml:2: defaults.key.rotationPeriodDays: 1: must be 90 to 2560 days`,
		`a.yaml:3: defaults.plugn: a mapping: unknown field, did you mean plugin?`,
	}},
	{"what no cluster takes over", []string{"defaults:\n  kubernetesVersion: 1.35\n  name: x\nclusters:\n- name: a\n  kubernetesVersion: \"1.35\"\n"}, []string{
		`a.yaml:2: defaults.kubernetesVersion: 1.35: must be text: quote it, "1.35"`,
		`a.yaml:3: defaults.name: x: is each cluster's own: remove it from the defaults`,
	}},
	{"a default that is wrong for some", []string{"defaults:\n  audit: {topicArn: \"arn:aws:sns:eu-central-1:111122223333:alarms\"}\n  account: \"111122223333\"\nclusters:\n- {name: a, region: eu-central-1}\n- {name: b, region: us-east-1}\n- {name: c, region: us-east-1}\n"}, []string{
		`a.yaml:2: defaults.audit.topicArn: arn:aws:sns:eu-central-1:111122223333:alarms: is in eu-central-1, must be in us-east-1 like the cluster (2 clusters, b first)`,
		`a.yaml:2: defaults.audit.topicArn: arn:aws:sns:eu-central-1:111122223333:alarms: is for a cluster alone: clusters that share their record have a new topic in each account and Region, remove it (cluster a)`,
	}},
	{"what defaults and cluster lack together", []string{"defaults:\n  endpoint: {access: publicAndPrivate}\nclusters:\n- name: a\n- name: b\n  endpoint: {publicCidrs: [203.0.113.0/24]}\n"}, []string{
		`a.yaml:2: defaults.endpoint.publicCidrs: is required with access: publicAndPrivate (cluster a)`,
	}},
	{"no mapping", []string{"defaults: x\nclusters:\n- name: a\n"}, []string{`a.yaml:1: defaults: x: must be a mapping`}},
	{"an anchor", []string{"defaults: &a {tags: {a: b}}\nclusters: &b\n- name: a\n"}, []string{
		`a.yaml:1: defaults: &a: anchors are not supported: write the value out where it is needed`,
		`a.yaml:2: clusters: &b: anchors are not supported: write the value out where it is needed`,
	}},
	{"files", []string{"clusters:\n- name: a\n  key: {rotationPeriodDays: 1}\n  accessEntries: [{principalArn: \"arn:aws:iam::111122223333:role/r\", policy: AmazonEKSViewPolicy}]\n", "clusters:\n- name: b\n- name: a\n  secrets: {readers: [{name: r, namespace: n, secretNames: [s], groups: [g], principalArns: [\"arn:aws:iam::111122223333:role/r\"]}]}\n"}, []string{
		`a.yaml:3: clusters[0].key.rotationPeriodDays: 1: must be 90 to 2560 days (cluster a)`,
		`b.yaml:4: clusters[1].secrets.readers[0].principalArns[0]: arn:aws:iam::111122223333:role/r: has an access entry already, on line 4 of a.yaml: a principal can have one, so write the groups there and remove this (cluster a)`,
	}},
	{"one of the files is none", []string{"clusters:\n- name: a\n  key: 1\n", "x: [\n"}, []string{`b.yaml:1: is not valid YAML: did not find expected node content`}},
	{"waves", []string{"clusters:\n- {name: alpha, labels: {env: dev}}\n- {name: beta}\nwaves:\n- {name: one, clusters: [alpha, bet]}\n- {name: one, clusters: [alpha]}\n- {name: Two, labels: {env: dev}}\n"}, []string{
		`a.yaml:7: waves[2].name: Two: must be 1 to 63 lowercase letters, digits and hyphens, beginning and ending with a letter or a digit`,
	}},
	{"clusters of waves", []string{"clusters:\n- {name: alpha, labels: {env: dev}}\n- {name: beta}\nwaves:\n- {name: one, clusters: [alpha, bet]}\n- {name: one, clusters: [alpha]}\n- {name: two, labels: {env: dev}}\n"}, []string{
		`a.yaml:3: clusters[1]: is in no wave: with waves, each cluster is in one (cluster beta)`,
		`a.yaml:5: waves[0].clusters[1]: bet: is no cluster of this file, did you mean beta?`,
		`a.yaml:6: waves[1].name: one: is the name of another wave, on line 5: give each its own`,
		`a.yaml:6: waves[1].clusters[0]: alpha: is in an earlier wave already: a cluster is in one`,
		`a.yaml:7: waves[2]: has no cluster: name some that are in no earlier wave, or labels that they have`,
	}},
	{"what is shared", []string{"defaults:\n  account: \"111122223333\"\n  region: eu-central-1\n  audit: {emails: [a@example.com], controlPlaneLogRetentionDays: 30}\nclusters:\n- {name: a, key: {alias: alias/x}}\n- {name: b, key: {alias: alias/x}, audit: {topicArn: \"arn:aws:sns:eu-central-1:111122223333:alarms\", emails: []}}\n- {name: shared, account: \"444455556666\", region: cn-north-1}\nshared:\n  audit: {trailArn: \"arn:aws:cloudtrail:eu-central-1:111122223333:trail/org\", retentionDays: 5}\n  homeRegions: {\"111122223333\": us-east-1}\n"}, []string{
		`a.yaml:4: defaults.audit.emails: a list: is for a cluster alone, and this one shares its record: write it under shared.audit (2 clusters, a first)`,
		`a.yaml:7: clusters[1].key.alias: alias/x: is the alias of the key of cluster a, in the same account and Region: give each its own (cluster b)`,
		`a.yaml:7: clusters[1].audit.topicArn: arn:aws:sns:eu-central-1:111122223333:alarms: is for a cluster alone: clusters that share their record have a new topic in each account and Region, remove it (cluster b)`,
		`a.yaml:7: clusters[1].audit.emails: a list: can't stand beside topicArn (line 7): remove one of them (cluster b)`,
		`a.yaml:8: clusters[2].name: shared: is like the name of a shared stack, must be another (cluster shared)`,
		`a.yaml:10: shared.audit.trailArn: arn:aws:cloudtrail:eu-central-1:111122223333:trail/org: is in the partition aws, and cluster shared in aws-cn: a trail is for one partition`,
		`a.yaml:10: shared.audit.retentionDays: 5: can't stand beside trailArn (line 10): remove one of them`,
		`a.yaml:11: shared.homeRegions.111122223333: us-east-1: is a Region in which account 111122223333 has no cluster here: the trail is made in a shared stack of its clusters`,
	}},
	{"keys in an account with clusters", []string{"clusters:\n- {name: a, account: \"111122223333\", region: eu-central-1}\n- {name: b}\nshared:\n  keyAccount: {account: \"111122223333\", outputs: ../keys.json}\n"}, []string{
		`a.yaml:5: shared.keyAccount.account: 111122223333: is the account of cluster a: give the keys an account of their own`,
		`a.yaml:5: shared.keyAccount.outputs: ../keys.json: must be the name of a file in the folder of this one, such as keys.json`,
	}},
	{"keys of clusters anywhere, and of one alias", []string{"clusters:\n- {name: a, account: \"111122223333\", region: eu-central-1, key: {alias: alias/x}}\n- {name: b, account: \"444455556666\", region: eu-central-1, key: {alias: alias/x}}\n- {name: c}\nshared:\n  keyAccount: {account: \"777788889999\"}\n"}, []string{
		`a.yaml:3: clusters[1].key.alias: alias/x: is the alias of the key of cluster a, in the same Region of account 777788889999: give each its own (cluster b)`,
		`a.yaml:4: clusters[2].region: is required, and account too, since the key is in account 777788889999: its policy names both (cluster c)`,
	}},
	{"keys of two partitions", []string{"clusters:\n- {name: a, account: \"111122223333\", region: eu-central-1}\n- {name: b, account: \"444455556666\", region: cn-north-1}\nshared:\n  keyAccount: {account: \"777788889999\"}\n"}, []string{
		`a.yaml:5: shared.keyAccount.account: 777788889999: is in one partition, and clusters are in aws and aws-cn: use a file for each partition`,
	}},
	{"how the CDK deploys", []string{"defaults: {cdk: {qualifier: Acme-1, permissionsBoundary: \"arn:aws:iam::111122223333:policy/x\"}}\nclusters:\n- {name: a, cdk: {executionRole: \"x-${Region}\"}}\n"}, []string{
		`a.yaml:1: defaults.cdk.qualifier: Acme-1: must be 1 to 10 lowercase letters and digits`,
		`a.yaml:1: defaults.cdk.permissionsBoundary: arn:aws:iam::111122223333:policy/x: must be the name of an IAM policy, of 1 to 128 letters, digits and +=,.@_-, without the ARN`,
		`a.yaml:3: clusters[0].cdk.executionRole: x-${Region}: must be the name of an IAM role without the ARN, such as deployer-${AWS::Region}`,
	}},
	{"clusters of one place that are deployed differently", []string{"clusters:\n- {name: a, cdk: {qualifier: one}}\n- {name: b}\n- {name: c, cdk: {qualifier: two}}\n"}, []string{
		`a.yaml:3: clusters[1].cdk: is another than that of cluster a, which shares its stacks in that account and Region: give both the same (cluster b)`,
		`a.yaml:4: clusters[2].cdk: a mapping: is another than that of cluster a, which shares its stacks in that account and Region: give both the same (cluster c)`,
	}},
	{"labels", []string{"clusters:\n- name: a\n  labels: {\"-x\": y, env: \"\"}\n"}, []string{
		`a.yaml:3: clusters[0].labels.-x: -x: must be 1 to 63 letters, digits, hyphens, underscores and dots, beginning and ending with a letter or a digit`,
		`a.yaml:3: clusters[0].labels.env: "": must be 1 to 63 letters, digits, hyphens, underscores and dots, beginning and ending with a letter or a digit`,
	}},
}

func TestFleetFaults(t *testing.T) {
	for _, c := range fleetFaults {
		t.Run(c.name, func(t *testing.T) {
			var sources []config.Source
			for i, text := range c.texts {
				sources = append(sources, config.Source{Name: string(rune('a'+i)) + ".yaml", Data: []byte(text)})
			}
			_, err := config.Parse(sources...)
			var faults config.Faults
			if !errors.As(err, &faults) {
				t.Fatalf("got %v", err)
			}
			if diff := cmp.Diff(strings.Join(c.want, "\n"), faults.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestOnly(t *testing.T) {
	file := parseFleet(t, fleet)
	for _, c := range []struct {
		only []string
		want string
	}{
		{nil, "dev staging prod"},
		{[]string{"prod"}, "prod"},
		{[]string{"prod", "dev", "prod"}, "dev prod"},
		{[]string{"team=platform"}, "dev staging"},
		{[]string{"team=payments", "env=dev"}, "dev prod"},
		{[]string{"pod"}, `--only is "pod", which is neither the name nor a label of a cluster, did you mean prod?`},
		{[]string{"env=tev"}, `--only is "env=tev", which is neither the name nor a label of a cluster, did you mean env=dev?`},
		{[]string{"env="}, `--only is "env=", which is neither the name nor a label of a cluster: there are dev, env=dev, env=prod, env=staging, prod, staging, team=payments, team=platform`},
	} {
		some, err := file.Only(c.only...)
		var names []string
		if err == nil {
			for _, c := range some.Clusters {
				names = append(names, c.Name)
			}
		}
		got := strings.Join(names, " ")
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q: got %q, want %q", c.only, got, c.want)
		}
	}
}

// TestPlaces: each value is found where it stands.
func TestPlaces(t *testing.T) {
	_, places, err := config.Resolve(config.Source{Name: "a.yaml", Data: []byte(fleet)}, config.Source{Name: "b.yaml", Data: []byte("clusters:\n- name: prod\n  endpoint:\n    access: private\n")})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"clusters[0].key.rotationPeriodDays": "a.yaml:17 clusters[0].key.rotationPeriodDays",
		"clusters[0].key.pendingWindowDays":  "a.yaml:5 defaults.key.pendingWindowDays",
		"clusters[1].creators":               "a.yaml:22 clusters[1].creators",
		"clusters[0].creators[1]":            "a.yaml:12 defaults.creators[1]",
		"clusters[2].endpoint":               "b.yaml:3 clusters[0].endpoint",
		"clusters[2].account":                "a.yaml:25 clusters[2].account",
	} {
		p := places[path]
		if got := fmt.Sprintf("%s:%d %s", p.File, p.Line, p.Path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	if _, ok := places["clusters[0].audit.retentionDays"]; ok {
		t.Error("a built-in default stands somewhere")
	}
}

// TestResolved: the configuration that is meant, with where each value comes from, reads
// back as the same.
func TestResolved(t *testing.T) {
	sources := []config.Source{{Name: "a.yaml", Data: []byte(fleet)}}
	file, places, err := config.Resolve(sources...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := config.Commented(file, places)
	if err != nil {
		t.Fatal(err)
	}
	again, err := config.Parse(config.Source{Name: "again.yaml", Data: out})
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if diff := cmp.Diff(file, again); diff != "" {
		t.Errorf("(-file +again):\n%s", diff)
	}
	for _, want := range []string{
		"rotationPeriodDays: 365 # a.yaml:17",
		"pendingWindowDays: 20 # a.yaml:5, defaults",
		"controlPlaneLogRetentionDays: 365 # built in",
		"- arn:aws:iam::111122223333:role/Pipeline # a.yaml:12, defaults",
		"stage: dev # a.yaml:18",
		"owner: platform # a.yaml:13, defaults",
	} {
		if !slices.ContainsFunc(strings.Split(string(out), "\n"), func(line string) bool { return strings.TrimSpace(line) == want }) {
			t.Errorf("no line %q in:\n%s", want, out)
		}
	}
}

// TestUseOutputs: what the CDK CLI wrote of the keys is taken only if it can be true.
func TestUseOutputs(t *testing.T) {
	const text = "clusters:\n- {name: a, account: \"111122223333\", region: eu-central-1}\n- {name: b, account: \"111122223333\", region: us-east-1}\n" +
		"- {name: c, account: \"111122223333\", region: eu-central-1, key: {arn: \"arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab\"}}\n" +
		"shared:\n  keyAccount: {account: \"777788889999\"}\n"
	const arn = "arn:aws:kms:eu-central-1:777788889999:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	output := "KeyArn" + names.ShortHash("a")
	for name, c := range map[string]struct{ json, want string }{
		"a key":              {`{"ekskms-keys-777788889999-eu-central-1": {"` + output + `": "` + arn + `", "x": "y"}}`, ""},
		"no JSON":            {`keys`, "--outputs-file writes"},
		"of another account": {`{"ekskms-keys-777788889999-eu-central-1": {"` + output + `": "` + strings.Replace(arn, "777788889999", "111122223333", 1) + `"}}`, "which is no key in account 777788889999 and Region eu-central-1"},
		"an alias":           {`{"ekskms-keys-777788889999-eu-central-1": {"` + output + `": "arn:aws:kms:eu-central-1:777788889999:alias/a"}}`, "is no key in account"},
	} {
		file := parseFleet(t, text)
		if got := strings.Join(file.Waiting(), " "); got != "a b" {
			t.Errorf("at first %q wait", got)
		}
		err := file.UseOutputs("keys.json", []byte(c.json))
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		case c.want != "":
			continue
		}
		if got := strings.Join(file.Waiting(), " "); got != "b" {
			t.Errorf("then %q wait", got)
		}
		if b := file.Clusters[0].Blueprint(); b.Key.ARN != arn || !b.Key.ByPath {
			t.Errorf("the key is %+v", b.Key)
		}
		if b := file.Clusters[0].KeyBlueprint(); b.Key.ARN != "" || b.Key.RotationPeriodDays != 90 {
			t.Errorf("the key is made as %+v", b.Key)
		}
		if environments := file.KeyEnvironments(); len(environments) != 2 || environments[1].HomeRegion != "eu-central-1" {
			t.Errorf("keys are in %+v", environments)
		}
	}
}
