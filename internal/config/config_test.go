package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/config/internal/schemagen"
)

var update = flag.Bool("update", false, "rewrite the golden files and the schema")

// document completes the shorthand of the tables.
func document(text string) string {
	if whole, ok := strings.CutPrefix(text, "!"); ok {
		return whole
	}
	return "clusters:\n- name: c\n" + text
}

// numbered repeats a format with the numbers from 0.
func numbered(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("ekskms.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("ekskms.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// schemaError validates as an editor would: whatever YAML makes of the text.
func schemaError(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	v, err = jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

func parseFaults(t *testing.T, text string) config.Faults {
	t.Helper()
	f, err := config.Parse(config.Source{Name: "f.yaml", Data: []byte(text)})
	var faults config.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("got the error %v, want config.Faults", err)
	}
	if f != nil {
		t.Error("a file with faults gave a model")
	}
	return faults
}

func TestFaults(t *testing.T) {
	s := compileSchema(t)
	for _, c := range faultCases {
		t.Run(c.name, func(t *testing.T) {
			text := document(c.yaml)
			want := "f.yaml:" + strings.Join(c.want, "\nf.yaml:")
			if diff := cmp.Diff(want, parseFaults(t, text).Error()); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			switch c.schema {
			case "":
				if schemaError(t, s, text) == nil {
					t.Error("the schema accepts what Parse refuses")
				}
			case "silent":
				if err := schemaError(t, s, text); err != nil {
					t.Errorf("the schema can tell, so this is not a silent case: %v", err)
				}
			case "skip":
			default:
				t.Fatalf("unknown expectation %q", c.schema)
			}
		})
	}
}

const (
	key   = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	place = "  account: \"111122223333\"\n  region: "
)

// accepted holds values at the edges of what is allowed.
var accepted = []struct{ name, yaml string }{
	{"shortest name", "!clusters:\n- name: a\n"},
	{"longest name", "!clusters:\n- name: " + strings.Repeat("a", 100) + "\n"},
	{"JSON", `!{"clusters": [{"name": "c", "key": {"rotationPeriodDays": 90}}]}`},
	{"byte order mark", "!\ufeffclusters:\n- name: c\n"},
	{"Windows line ends", "!clusters:\r\n- name: c\r\n"},
	{"document markers", "!---\nclusters:\n- name: c\n...\n"},
	{"empty mappings and lists", "  vpc: {}\n  endpoint: {}\n  capacity: {}\n  key: {}\n  administrators: []\n  creators: []\n  audit: {emails: [], readers: []}\n  accessEntries: []\n  plugin: {}\n  tags: {}\n"},
	{"China", place + "cn-north-1\n  administrators: [\"arn:aws-cn:iam::111122223333:role/Admin\"]\n"},
	{"GovCloud", place + "us-gov-west-1\n  key: {arn: \"arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab\"}\n"},
	{"oldest version", "  kubernetesVersion: \"1.32\"\n"},
	{"newest version", "  kubernetesVersion: '1.36'\n"},
	{"smallest new VPC", "  vpc: {cidr: 192.168.7.0/24, natGateways: 2}\n"},
	{"largest new VPC", "  vpc: {cidr: 10.0.0.0/16}\n"},
	{"zones of the Region", place + "eu-central-1\n  vpc: {availabilityZones: [eu-central-1a, eu-central-1b, eu-central-1c], natGateways: 3}\n"},
	{"zones without a Region", "  vpc: {availabilityZones: [eu-central-1a, eu-central-1b]}\n"},
	{"existing VPC", "  vpc: {id: vpc-12345678, subnetIds: [subnet-12345678, subnet-0123456789abcdef0]}\n"},
	{"public endpoint", "  endpoint: {access: publicAndPrivate, publicCidrs: [203.0.113.0/24, 198.51.100.7/32]}\n"},
	{"node group by default", "  capacity: {mode: nodeGroup}\n"},
	{"node group of one node", "  capacity: {mode: nodeGroup, nodeGroup: {minSize: 1, maxSize: 1}}\n"},
	{"node group on Graviton", "  capacity: {mode: nodeGroup, nodeGroup: {instanceTypes: [m7g.large, c8gn.large, t4g.small, a1.large]}}\n  plugin: {architecture: arm64}\n"},
	{"node group of another architecture than a plugin that is off", "  capacity: {mode: nodeGroup, nodeGroup: {instanceTypes: [m7g.large]}}\n  plugin: {enabled: false}\n"},
	{"node groups of all kinds", "  capacity:\n    mode: nodeGroup\n    nodeGroups:\n    - {name: a, minSize: 1}\n" +
		"    - {name: 1b, instanceTypes: [m7g.large], amiType: BOTTLEROCKET_ARM_64, minSize: 0, maxSize: 1, capacityType: spot, diskSizeGiB: 20, labels: {example.com/a: b}, taints: [{key: a, value: b, effect: NoExecute}], kubernetesVersion: \"1.32\"}\n" +
		"    fargateProfiles: [{name: f, selectors: [{namespace: \"*\", labels: {a: b}}, {namespace: \"jobs-?\"}]}]\n    nodeRoles: [\"arn:aws:iam::111122223333:role/n\"]\n"},
	{"Auto Mode without pools of its own", "  capacity: {nodePools: none}\n"},
	{"no nodes yet", "  capacity: {mode: none, fargateProfiles: [{name: f, selectors: [{namespace: a}]}]}\n"},
	{"add-ons", "  capacity: {mode: nodeGroup}\n  addOns:\n  - {name: vpc-cni, version: v1.20.4-eksbuild.2, configuration: '{\"env\": {\"A\": \"b\"}}'}\n" +
		"  - {name: aws-ebs-csi-driver, podIdentity: {serviceAccount: a, roleArn: \"arn:aws:iam::111122223333:role/a\"}}\n"},
	{"an add-on for nodes beside Auto Mode", "  capacity: {nodeRoles: [\"arn:aws:iam::111122223333:role/n\"]}\n  addOns: [{name: coredns}]\n"},
	{"overrides", "  overrides: {ZonalShiftConfig.Enabled: \"true\", A.0.B: text}\n"},
	{"volumes", "  capacity: {nodePools: none}\n  volumes: {}\n"},
	{"volumes under an existing key", place + "eu-central-1\n  capacity: {mode: nodeGroup}\n  volumes: {keyArn: \"" + key + "\"}\n"},
	{"isolated", "  vpc: {isolated: true, cidr: 10.0.0.0/16}\n"},
	{"isolated in words that change nothing", "  vpc: {isolated: false}\n"},
	{"security groups", "  vpc: {id: vpc-12345678, subnetIds: [subnet-12345678, subnet-0123456789abcdef0], securityGroupIds: [sg-12345678]}\n"},
	{"permission sets", place + "us-gov-west-1\n  administrators: [permission-set/Admin, \"arn:aws-us-gov:iam::111122223333:role/Admin\"]\n  creators: [permission-set/a.b_c=d]\n  key: {breakGlass: [permission-set/Break]}\n  audit: {readers: [permission-set/Audit]}\n"},
	{"rotation at its least", "  key: {rotationPeriodDays: 90, pendingWindowDays: 7}\n"},
	{"rotation at its most", "  key: {rotationPeriodDays: 2560, pendingWindowDays: 30}\n"},
	{"longest alias", "  key: {alias: alias/" + strings.Repeat("a", 250) + "}\n"},
	{"existing key of another account", place + "eu-central-1\n  key: {arn: \"" + strings.Replace(key, "111122223333", "444455556666", 1) + "\", strictGrants: true}\n"},
	{"role with a path", "  administrators: [\"arn:aws:iam::111122223333:role/a/b/Admin_+=,.@-\"]\n"},
	{"session role of Identity Center", "  creators: [\"arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/eu-central-1/AWSReservedSSO_Admin_0123456789abcdef\"]\n"},
	{"trail with another home Region", place + "eu-central-1\n  audit: {trailArn: \"arn:aws:cloudtrail:us-east-1:111122223333:trail/management\"}\n"},
	{"retention at its edges", "  audit: {retentionDays: 36500, controlPlaneLogRetentionDays: 3653}\n"},
	{"e-mail with a tag", "  audit: {emails: [security+eks@mail.example.com]}\n"},
	{"entries", "  accessEntries:\n  - {principalArn: \"arn:aws:iam::111122223333:user/alice\", policy: AmazonEKSViewPolicy}\n  - {principalArn: \"arn:aws:iam::111122223333:role/a\", policy: AmazonEKSSecretReaderPolicy, scope: {type: namespace, namespaces: [a, kube-system]}}\n"},
	{"image with a tag", "  plugin: {image: \"111122223333.dkr.ecr.eu-central-1.amazonaws.com/team/kms-plugin:v1.0.0\"}\n"},
	{"image with a port and a digest", "  plugin: {image: \"localhost:5000/kms-plugin@sha256:" + strings.Repeat("0a", 32) + "\"}\n"},
	{"tenant of the shortest names", "  plugin: {mode: sidecar, tenants: [{name: a, namespace: b, serviceAccount: c}]}\n"},
	{"tenants that share a namespace", "  plugin: {mode: sidecar, tenants: [{name: a, namespace: n, serviceAccount: a.b}, {name: b, namespace: n, serviceAccount: c}]}\n"},
	{"tenant beside the plugin", "  plugin: {mode: sidecar, tenants: [{name: a, namespace: ekskms-system, serviceAccount: a}, {name: b, namespace: b, serviceAccount: kms-plugin}]}\n"},
	{"twenty tenants of as many characters as allowed", "  plugin:\n    mode: sidecar\n    tenants:\n" + tenants(20, 40)},
	{"ten administrators", "  administrators:\n" + numbered(10, "  - arn:aws:iam::111122223333:role/a%d\n")},
	{"groups of an entry", "  accessEntries:\n  - {principalArn: \"arn:aws:iam::111122223333:role/a\", policy: AmazonEKSViewPolicy, groups: [team-a, \"oidc:team\"]}\n"},
	{"guard alone", "  secrets: {guard: deny, guardExemptions: [monitoring, \"cert-manager:view\", shop/operator]}\n"},
	{"suppressions", "  checks:\n    suppress:\n" +
		"    - {id: endpoint-public, reason: The office has no VPN until June.}\n" +
		"    - {id: endpoint-public, resource: ekskms-c/EncryptedCluster, reason: ten chars.}\n" +
		"    - {id: endpoint-public, resource: My construct, reason: ten chars.}\n"},
	{"no suppressions", "  checks: {}\n"},
	{"guard switched off, unquoted", "  secrets: {guard: off}\n"},
	{"readers", "  secrets:\n    guard: warn\n    readers:\n" +
		"    - {name: a, namespace: shop, secretNames: [db, tls.example.com], groups: [team], principalArns: [\"arn:aws:iam::111122223333:role/a\", \"arn:aws:iam::111122223333:user/u\"], allowList: true, allowWatch: true}\n" +
		"    - {name: b, namespace: shop, secretNames: [db], groups: [team], principalArns: [\"arn:aws:iam::111122223333:role/a\"]}\n" +
		"    - {name: c, namespace: kube-system, secretNames: [db], serviceAccounts: [{name: api}, {name: api, namespace: shop}]}\n"},
	{"a group of an access entry", "  accessEntries:\n  - {principalArn: \"arn:aws:iam::111122223333:role/a\", policy: AmazonEKSViewPolicy, groups: [team]}\n" +
		"  secrets: {readers: [{name: a, namespace: shop, secretNames: [db], groups: [team]}]}\n"},
	{"tags at their edges", "  tags: {" + strings.Repeat("k", 128) + ": \"" + strings.Repeat("ü", 256) + "\", \"a b/c:d\": \"\", n: \"4711\"}\n"},
	{"fifty tags", "  tags:\n" + numbered(50, "    t%d: v\n")},
}

func TestAccepted(t *testing.T) {
	s := compileSchema(t)
	for _, c := range accepted {
		t.Run(c.name, func(t *testing.T) {
			text := document(c.yaml)
			f, err := config.Parse(config.Source{Name: "f.yaml", Data: []byte(text)})
			if err != nil {
				t.Fatal(err)
			}
			if err := schemaError(t, s, strings.TrimPrefix(text, "\ufeff")); err != nil {
				t.Errorf("Parse accepts what the schema refuses: %v", err)
			}
			checkRoundTrip(t, f)
			checkComplete(t, f)
		})
	}
}

// checkRoundTrip writes a model as YAML, defaults and all, and reads it back.
func checkRoundTrip(t *testing.T, f *config.File) {
	t.Helper()
	out, err := yaml.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	again, err := config.Parse(config.Source{Name: "again.yaml", Data: out})
	if err != nil {
		t.Fatalf("the written model does not parse: %v\n%s", err, out)
	}
	if diff := cmp.Diff(f, again); diff != "" {
		t.Errorf("the written model reads differently (-first +second):\n%s", diff)
	}
}

// checkComplete makes sure that a renderer finds everything that it needs.
func checkComplete(t *testing.T, f *config.File) {
	t.Helper()
	if len(f.Clusters) == 0 || f.Defaults != nil {
		t.Fatalf("got %d clusters, and the defaults %v that are to be in them", len(f.Clusters), f.Defaults)
	}
	for _, c := range f.Clusters {
		checkCluster(t, c, f.Shared != nil)
	}
}

func checkCluster(t *testing.T, c config.Cluster, shares bool) {
	t.Helper()
	for what, missing := range map[string]bool{
		"name":                         c.Name == "",
		"kubernetesVersion":            c.KubernetesVersion == "",
		"vpc":                          (c.VPC.ID == "") == (c.VPC.CIDR == "" || (c.VPC.NATGateways == 0) != c.VPC.Isolated),
		"subnetIds":                    (c.VPC.ID == "") != (len(c.VPC.SubnetIDs) == 0),
		"endpoint.access":              c.Endpoint.Access == "",
		"capacity.nodeGroup":           (c.Capacity.Mode == config.CapacityNodeGroup) != (c.Capacity.NodeGroup != nil || c.Capacity.NodeGroups != nil),
		"capacity.nodePools":           (c.Capacity.Mode == config.CapacityAuto) != (c.Capacity.NodePools != ""),
		"key":                          (c.Key.ARN == "") == (c.Key.Alias == "" || c.Key.RotationPeriodDays == 0 || c.Key.PendingWindowDays == 0),
		"audit.retentionDays":          (c.Audit.TrailARN == "" && !shares) == (c.Audit.RetentionDays == 0),
		"controlPlaneLogRetentionDays": c.Audit.ControlPlaneLogRetentionDays == 0,
		"plugin":                       c.Plugin.Mode == "" || c.Plugin.Architecture == "",
		"plugin.tenants":               (c.Plugin.Mode == config.PluginSidecar) != (len(c.Plugin.Tenants) > 0),
		"secrets.guard":                c.Secrets.Guard == "",
	} {
		if missing {
			t.Errorf("%s has no default, or one where it means nothing:\n%+v", what, c)
		}
	}
	groups := c.Capacity.NodeGroups
	if g := c.Capacity.NodeGroup; g != nil {
		groups = []config.NodeGroup{*g}
	}
	for _, g := range groups {
		if len(g.InstanceTypes) == 0 || g.MaxSize == 0 || g.DesiredSize < g.MinSize {
			t.Errorf("the node group is incomplete: %+v", g)
		}
	}
	for _, r := range c.Secrets.Readers {
		for _, a := range r.ServiceAccounts {
			if a.Namespace == "" {
				t.Errorf("a service account of reader %s has no namespace", r.Name)
			}
		}
	}
	for _, e := range c.AccessEntries {
		if e.Scope.Type == "" {
			t.Errorf("an access entry has no scope: %+v", e)
		}
	}
}

func TestTenFaultsAtOnce(t *testing.T) {
	faults := parseFaults(t, `clusters:
- name: no dots.
  account: 111122223333
  region: eu-central-1
  kubernetesVersion: "1.20"
  vpc:
    cidr: 10.0.0.0/8
  key:
    rotationPeriodDays: 30
    pendingWindowDays: 60
  administrators:
  - arn:aws:iam::111122223333:root
  - arn:aws:iam::111122223333:role/*
  audit:
    controlPlaneLogRetentionDays: 100
  plugn:
    enabled: false
`)
	var lines []int
	for _, f := range faults {
		lines = append(lines, f.Line)
	}
	if diff := cmp.Diff([]int{2, 3, 5, 7, 9, 10, 12, 13, 15, 16}, lines); diff != "" {
		t.Errorf("lines of the faults (-want +got):\n%s\n%v", diff, faults)
	}
}

func TestFaultPrintsWhereWhatAndWhy(t *testing.T) {
	faults := parseFaults(t, "clusters:\n- name: c\n  key:\n\n\n    # short\n    rotationPeriodDays: 30\n")
	want := config.Faults{{
		File: "f.yaml", Line: 7, Column: 25, Path: "clusters[0].key.rotationPeriodDays",
		Value: "30", Message: "must be 90 to 2560 days",
	}}
	if diff := cmp.Diff(want, faults); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, want := faults.Error(), "f.yaml:7: clusters[0].key.rotationPeriodDays: 30: must be 90 to 2560 days"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An alias bomb must cost nothing: aliases are refused, never followed.
func TestAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x]\n")
	for i := 1; i < 40; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [*a%d, *a%d]\n", i, i, i-1, i-1)
	}
	b.WriteString("clusters: *a39\n")
	faults := parseFaults(t, b.String())
	if last := faults[len(faults)-1].String(); last != "f.yaml:41: clusters: *a39: aliases are not supported: write the value out" {
		t.Errorf("got %q", last)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.FromSlash(name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is stale, -update rewrites it (-file +now):\n%s", name, diff)
	}
}

func TestDefault(t *testing.T) {
	f := config.Default()
	c := f.Clusters[0]
	if len(f.Clusters) != 1 || c.Name != "ekskms" || c.Key.RotationPeriodDays != 90 || c.Endpoint.Access != config.EndpointPrivate || !c.Plugin.Enabled {
		t.Errorf("the default is not the documented one: %+v", f)
	}
	out, err := yaml.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/default.golden.yaml", out)
	checkRoundTrip(t, f)
	checkComplete(t, f)
	if err := schemaError(t, compileSchema(t), string(config.DefaultYAML())); err != nil {
		t.Errorf("the schema refuses the default: %v", err)
	}

	// Two callers must not share a model.
	f.Clusters[0].Name = "changed"
	config.DefaultYAML()[0] = 'x'
	if config.Default().Clusters[0].Name != "ekskms" || config.DefaultYAML()[0] == 'x' {
		t.Error("a caller changed the embedded default")
	}
}

// What is commented out in the default file is there to be uncommented.
func TestDefaultYAMLUncommented(t *testing.T) {
	var b strings.Builder
	for line := range strings.Lines(string(config.DefaultYAML())) {
		rest, ok := strings.CutPrefix(line, "    # ")
		if first, _, _ := strings.Cut(strings.TrimSpace(rest), " "); ok && (strings.HasSuffix(first, ":") || first == "-") {
			line = "    " + rest
		}
		b.WriteString(line)
	}
	f, err := config.Parse(config.Source{Name: "default.yaml", Data: []byte(b.String())})
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	if c := f.Clusters[0]; c.Region == "" || c.Account == "" || len(c.Administrators) != 1 || len(c.AccessEntries) != 1 {
		t.Errorf("the comments did not become fields: %+v", c)
	}
}

// Where something exists already, the fields of a new one stay empty.
func TestNoDefaultsBesideExisting(t *testing.T) {
	f, err := config.Parse(config.Source{Name: "f.yaml", Data: []byte(document(`  vpc: {id: vpc-12345678, subnetIds: [subnet-11111111, subnet-22222222]}
  key: {arn: "` + key + `"}
  audit: {trailArn: "arn:aws:cloudtrail:eu-central-1:111122223333:trail/management"}
`))})
	if err != nil {
		t.Fatal(err)
	}
	c := f.Clusters[0]
	if c.VPC.CIDR != "" || c.VPC.NATGateways != 0 || !reflect.DeepEqual(c.Key, config.Key{ARN: key}) || c.Audit.RetentionDays != 0 {
		t.Errorf("got %+v", c)
	}
}

func TestDefaultsFromOtherFields(t *testing.T) {
	f, err := config.Parse(config.Source{Name: "f.yaml", Data: []byte("clusters:\n- name: blue\n  capacity: {mode: nodeGroup, nodeGroup: {minSize: 3}}\n")})
	if err != nil {
		t.Fatal(err)
	}
	c := f.Clusters[0]
	if c.Key.Alias != "alias/eks/blue" {
		t.Errorf("the alias is %q", c.Key.Alias)
	}
	want := &config.NodeGroup{InstanceTypes: []string{"m7i.large"}, MinSize: 3, MaxSize: 4, DesiredSize: 3}
	if diff := cmp.Diff(want, c.Capacity.NodeGroup); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestExamples(t *testing.T) {
	s := compileSchema(t)
	has := map[string]func(config.Cluster) bool{
		"01_minimal": func(c config.Cluster) bool {
			return c.Region == "" && c.Capacity.Mode == config.CapacityAuto
		},
		"02_existing_vpc_and_key": func(c config.Cluster) bool {
			return c.VPC.ID != "" && c.Key.ARN != "" && c.Audit.TrailARN != "" && c.Audit.TopicARN != "" &&
				len(c.Administrators) > 0 && c.AccessEntries[1].Scope.Type == config.ScopeNamespace &&
				c.Endpoint.Access == config.EndpointPublicAndPrivate && len(c.Tags) > 0
		},
		"03_node_group": func(c config.Cluster) bool {
			return c.Capacity.NodeGroup != nil && c.Key.MultiRegion && c.Key.RotationPeriodDays == 180 && c.Key.StrictGrants &&
				len(c.Audit.Emails) > 0 && len(c.Audit.Readers) > 0 && c.Plugin.Mode == config.PluginDaemonSet
		},
	}
	for name, shows := range has {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("..", "..", "examples", name, "ekskms.yaml")
			f, err := config.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if !shows(f.Clusters[0]) {
				t.Errorf("it does not show what it is there to show: %+v", f.Clusters[0])
			}
			checkRoundTrip(t, f)
			checkComplete(t, f)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := schemaError(t, s, string(text)); err != nil {
				t.Errorf("the schema refuses it: %v", err)
			}
		})
	}
}

func TestSchemaIsFresh(t *testing.T) {
	got, err := schemagen.Generate()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "ekskms.schema.json", got)
	if !*update && !bytes.Equal(got, config.Schema()) {
		t.Error("the embedded schema is not the generated one")
	}
}

// Every object of the schema is closed, and every field is explained, with its
// default if it may be left out.
func TestSchemaIsClosedAndExplained(t *testing.T) {
	type object struct {
		AdditionalProperties any
		Required             []string
		Properties           map[string]struct {
			Description string
			Default     any
		}
	}
	var root struct {
		object
		Schema string            `json:"$schema"`
		Defs   map[string]object `json:"$defs"`
	}
	if err := json.Unmarshal(config.Schema(), &root); err != nil {
		t.Fatal(err)
	}
	if root.Schema != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("$schema is %q", root.Schema)
	}
	root.Defs["File"] = root.object
	if len(root.Defs) != 37 {
		t.Errorf("got %d objects, want 37", len(root.Defs))
	}
	for name, o := range root.Defs {
		if o.AdditionalProperties != false {
			t.Errorf("%s takes unknown fields", name)
		}
		if len(o.Properties) == 0 {
			t.Errorf("%s has no fields", name)
		}
		for field, p := range o.Properties {
			if !strings.Contains(p.Description, "Required") && !strings.Contains(p.Description, "Default: ") {
				t.Errorf("%s.%s does not say what happens without it: %q", name, field, p.Description)
			}
			if slices.Contains(o.Required, field) != strings.HasSuffix(p.Description, " Required.") {
				t.Errorf("%s.%s: required and the description disagree: %q", name, field, p.Description)
			}
			if p.Default != nil {
				text := fmt.Sprint(p.Default)
				if l, ok := p.Default.([]any); ok {
					text = fmt.Sprint(l...)
				}
				if _, after, _ := strings.Cut(p.Description, "Default: "); strings.Trim(after, `".`) != text {
					t.Errorf("%s.%s: the default is %s, the description says %q", name, field, text, p.Description)
				}
			}
		}
	}
}

// The exported words are the ones that the decoder takes.
func TestWords(t *testing.T) {
	words := []struct{ format, word string }{
		{"  endpoint: {access: %s}\n", config.EndpointPrivate},
		{"  endpoint: {access: %s, publicCidrs: [203.0.113.0/24]}\n", config.EndpointPublicAndPrivate},
		{"  capacity: {mode: %s}\n", config.CapacityAuto},
		{"  capacity: {mode: %s, nodeGroup: {}}\n", config.CapacityNodeGroup},
		{"  plugin: {mode: %s}\n", config.PluginDeployment},
		{"  plugin: {mode: %s}\n", config.PluginDaemonSet},
		{"  plugin: {architecture: %s}\n", config.ArchitectureAMD64},
		{"  plugin: {architecture: %s}\n", config.ArchitectureARM64},
		{"  accessEntries: [{principalArn: \"arn:aws:iam::111122223333:role/a\", policy: AmazonEKSViewPolicy, scope: {type: %s}}]\n", config.ScopeCluster},
		{"  accessEntries: [{principalArn: \"arn:aws:iam::111122223333:role/a\", policy: AmazonEKSViewPolicy, scope: {type: %s, namespaces: [a]}}]\n", config.ScopeNamespace},
	}
	for _, w := range words {
		if _, err := config.Parse(config.Source{Name: "f.yaml", Data: []byte(document(fmt.Sprintf(w.format, w.word)))}); err != nil {
			t.Errorf("%s: %v", w.word, err)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}

	if f, err := config.Load(write("good.yaml", config.DefaultYAML())); err != nil || f.Clusters[0].Name != "ekskms" {
		t.Errorf("a good file: %v, %v", f, err)
	}
	absent := filepath.Join(dir, "absent.yaml")
	if _, err := config.Load(absent); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "there is no "+absent) {
		t.Errorf("an absent file: %v", err)
	}
	if _, err := config.Load(dir); err == nil || !strings.HasPrefix(err.Error(), "reading the configuration: ") {
		t.Errorf("a folder: %v", err)
	}
	// A comment of exactly 1 MiB is as large as a file may be.
	comment := func(n int) []byte { return append(bytes.Repeat([]byte("#"), n-1), '\n') }
	if _, err := config.Load(write("large.yaml", comment(1<<20))); err == nil || !strings.Contains(err.Error(), "the file is empty") {
		t.Errorf("a file of 1 MiB: %v", err)
	}
	if _, err := config.Load(write("larger.yaml", comment(1<<20+1))); err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("a file over 1 MiB: %v", err)
	}
	bad := write("bad.yaml", []byte("clusters:\n- nam: c\n"))
	if _, err := config.Load(bad); err == nil || !strings.HasPrefix(err.Error(), bad+":2: ") {
		t.Errorf("a fault must begin with the path that was given: %v", err)
	}
}

// yamlLines counts lines as YAML does: it also breaks them at lone carriage returns
// and at three characters beyond ASCII.
func yamlLines(data []byte) int {
	s := strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(string(data))
	return 1 + strings.Count(s, "\n")
}

func FuzzParse(f *testing.F) {
	f.Add(config.DefaultYAML())
	for _, c := range faultCases {
		f.Add([]byte(document(c.yaml)))
	}
	for _, c := range accepted {
		f.Add([]byte(document(c.yaml)))
	}
	for _, name := range []string{"01_minimal", "02_existing_vpc_and_key", "03_node_group"} {
		data, err := os.ReadFile(filepath.Join("..", "..", "examples", name, "ekskms.yaml"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := config.Parse(config.Source{Name: "f.yaml", Data: data})
		if err == nil {
			checkRoundTrip(t, file)
			checkComplete(t, file)
			return
		}
		var faults config.Faults
		if !errors.As(err, &faults) || len(faults) == 0 {
			t.Fatalf("got %v, want faults", err)
		}
		last := yamlLines(data)
		for _, fault := range faults {
			if fault.Line < 1 || fault.Line > last {
				t.Errorf("line %d is not in the file, which has %d: %v", fault.Line, last, fault)
			}
			if fault.Message == "" || strings.Contains(fault.String(), "\n") {
				t.Errorf("not one line with a message: %q", fault.String())
			}
		}
	})
}
