package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/ekskms/ekskms/internal/synth"
)

const testKey = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"

func TestMain(m *testing.M) {
	// Support of Kubernetes versions is judged as of 2026-11-27.
	_ = os.Setenv("SOURCE_DATE_EPOCH", "1795737600")
	code := m.Run()
	synth.Close()
	os.Exit(code)
}

// run runs a command line with a configuration on its standard input.
func run(t *testing.T, configuration string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Run(context.Background(), args, strings.NewReader(configuration), &out, &errs)
	return code, out.String(), errs.String()
}

func documents(t *testing.T, stream string) (list []map[string]any) {
	t.Helper()
	for _, part := range strings.Split(stream, "---\n") {
		var v map[string]any
		if err := yaml.Unmarshal([]byte(part), &v); err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	return list
}

// TestGenerateIsWhatTheStackDeploys: the objects of ekskms generate manifests are
// those of the synthesized template, for the same configuration.
func TestGenerateIsWhatTheStackDeploys(t *testing.T) {
	const image = "registry.example.com/kms-plugin:v1"
	const place = "account: \"111122223333\", region: eu-central-1"
	const tenants = "tenants: [{name: team-a, namespace: a, serviceAccount: b}], mode: sidecar"
	for name, c := range map[string]struct{ configuration, mode string }{
		"a new key":      {"{name: demo, " + place + ", plugin: {image: " + image + "}}", ""},
		"an old key":     {"{name: demo, " + place + ", key: {arn: '" + testKey + "'}, plugin: {image: " + image + "}}", ""},
		"daemonset":      {"{name: demo_2, " + place + ", plugin: {image: " + image + ", mode: daemonset, architecture: arm64}}", ""},
		"no environment": {"{name: demo, plugin: {image: " + image + "}}", ""},
		"tenants":        {"{name: demo, " + place + ", plugin: {image: " + image + ", " + tenants + "}}", "deployment"},
	} {
		t.Run(name, func(t *testing.T) {
			configuration := "clusters: [" + c.configuration + "]\n"
			dir := filepath.Join(t.TempDir(), "out")
			if code, _, errs := run(t, configuration, "synth", "--file", "-", "--out", dir); code != 0 {
				t.Fatal(errs)
			}
			args := []string{"generate", "manifests", "--file", "-"}
			if c.mode != "" {
				args = append(args, "--mode", c.mode)
			}
			if !strings.Contains(configuration, testKey) {
				args = append(args, "--key", testKey)
			}
			code, out, errs := run(t, configuration, args...)
			if code != 0 {
				t.Fatal(errs)
			}
			if d := cmp.Diff(deployed(t, dir), documents(t, out)); d != "" {
				t.Errorf("template (-), generate (+):\n%s", d)
			}
		})
	}
}

// What the stack leaves to a pipeline is printed whole: with the guard, and with the switch
// for network policies.
func TestGenerateWhatIsNotApplied(t *testing.T) {
	const configuration = "clusters: [{name: demo, account: '111122223333', region: eu-central-1, plugin: {image: 'a/b:c', apply: %s}, secrets: {guard: deny}}]"
	for apply, want := range map[string]bool{"handler": false, "none": true} {
		code, out, errs := run(t, fmt.Sprintf(configuration, apply), "generate", "manifests", "--file", "-", "--key", testKey)
		if code != 0 {
			t.Fatal(errs)
		}
		kinds := map[string]bool{}
		for _, o := range documents(t, out) {
			kinds[o["kind"].(string)] = true
		}
		if !kinds["Deployment"] || kinds["ValidatingAdmissionPolicy"] != want || kinds["ConfigMap"] != want {
			t.Errorf("apply %s: %v", apply, kinds)
		}
		dir := filepath.Join(t.TempDir(), "out")
		code, _, errs = run(t, fmt.Sprintf(configuration, apply), "synth", "--file", "-", "--out", dir)
		if code != 0 || strings.Contains(errs, "the template does not have the Kubernetes objects of the readers of secrets and the guard") != want {
			t.Errorf("apply %s: exit code %d: %s", apply, code, errs)
		}
	}
}

// deployed finds the plugin's objects in a template, with the values that they will
// have in account 111122223333 and eu-central-1, where the key will be testKey.
func deployed(t *testing.T, dir string) (objects []map[string]any) {
	t.Helper()
	templates, err := filepath.Glob(filepath.Join(dir, "*.template.json"))
	if err != nil || len(templates) != 1 {
		t.Fatalf("templates %v: %v", templates, err)
	}
	data, err := os.ReadFile(templates[0])
	if err != nil {
		t.Fatal(err)
	}
	var template struct {
		Resources map[string]struct {
			Type       string
			Properties map[string]any
		}
	}
	if err := json.Unmarshal(data, &template); err != nil {
		t.Fatal(err)
	}
	for _, r := range template.Resources {
		if r.Type != "Custom::AWSCDK-EKS-KubernetesResource" {
			continue
		}
		var list []map[string]any
		if err := json.Unmarshal([]byte(resolve(t, r.Properties["Manifest"])), &list); err != nil {
			t.Fatal(err)
		}
		has := func(kind string) bool {
			return slices.ContainsFunc(list, func(o map[string]any) bool { return o["kind"] == kind })
		}
		switch { // the part that is for nodes is a resource of its own
		case has("Deployment"):
			objects = append(list, objects...)
		case has("DaemonSet"):
			objects = append(objects, list...)
		}
	}
	for _, o := range objects {
		// CDK's own: what it removes when an object is no longer there.
		labels := o["metadata"].(map[string]any)["labels"].(map[string]any)
		for label := range labels {
			if strings.HasPrefix(label, "aws.cdk.eks/") {
				delete(labels, label)
			}
		}
	}
	return objects
}

// resolve does what CloudFormation does with the functions in a value.
func resolve(t *testing.T, v any) string {
	t.Helper()
	if s, ok := v.(string); ok {
		return s
	}
	m, _ := v.(map[string]any)
	if list, ok := m["Fn::Join"].([]any); ok {
		var parts []string
		for _, part := range list[1].([]any) {
			parts = append(parts, resolve(t, part))
		}
		return strings.Join(parts, list[0].(string))
	}
	if list, ok := m["Fn::GetAtt"].([]any); ok && list[1] == "Arn" && strings.HasPrefix(fmt.Sprint(list[0]), "SecretsKey") {
		return testKey
	}
	pseudo := map[any]string{"AWS::Partition": "aws", "AWS::Region": "eu-central-1", "AWS::AccountId": "111122223333"}
	if s, ok := pseudo[m["Ref"]]; ok {
		return s
	}
	t.Fatalf("what is %v?", v)
	return ""
}

// No command writes a placeholder: what is missing is an error that names the flag.
func TestGenerateUsage(t *testing.T) {
	const old = "clusters: [{name: demo, account: '111122223333', region: eu-central-1, key: {arn: '" + testKey + "'}, plugin: {image: 'a/b:c', mode: sidecar, tenants: [{name: a, namespace: a, serviceAccount: a}]}}]"
	const fresh = "clusters: [{name: demo, plugin: {image: 'a/b:c'}}]"
	const built = "clusters: [{name: demo}]"
	const anywhere = "clusters: [{name: demo, key: {arn: '" + testKey + "'}, plugin: {image: 'a/b:c'}}]"
	for _, c := range []struct{ configuration, args, want string }{
		{fresh, "", "--key is required"},
		{fresh, "--key alias/a", `--key is "alias/a", which is not the ARN of a KMS key`},
		{fresh, "--key=", "--key is empty"},
		{built, "--key " + testKey, "--image is required"},
		{anywhere, "", "--account is required"},
		{anywhere, "--account 1", `--account is "1", must be 12 digits`},
		{fresh, "--key " + testKey + " --account 444455556666", "is in account 111122223333, and the cluster in 444455556666"},
		{old, "--mode deployment --key " + strings.Replace(testKey, "1234", "4321", 1), "and key.arn of the configuration is " + testKey},
		{strings.Replace(fresh, "name: demo", "name: demo, account: '111122223333', region: eu-west-1", 1), "--key " + testKey, "is in eu-central-1, and the cluster in eu-west-1"},
		{strings.Replace(fresh, "name: demo", "name: demo, account: '444455556666', region: eu-central-1", 1), "--key " + testKey, "is in account 111122223333, and the cluster in 444455556666"},
		{old, "--mode pod", `--mode is "pod", must be deployment`},
		{old, "", "--for is required"},
		{old, "--for docker --tenant a", `--for is "docker", must be vcluster`},
		{old, "--for vcluster", "--tenant is required"},
		{old, "--for vcluster --tenant b", `--tenant is "b", and plugin.tenants of the configuration has ["a"]`},
		{old, "--for generic --tenant a", "--workload is required"},
		{old, "--for generic --tenant a --workload pod/a", `workload is "pod/a", must be deployment/NAME or statefulset/NAME`},
		{old, "--for kamaji --tenant a --workload deployment/a", "--workload and --container are for --for generic"},
		{old, "--for karmada --tenant a", `ServiceAccount is "a", must be "default"`},
		{old, "--for hypershift --tenant a", "HyperShift takes no other plugin"},
		{old, "--for k0smotron --tenant a", "no field for another container"},
		{old, "--for vcluster --tenant a --resources Secrets", `resource "Secrets" must be in lower case`},
		{old, "--mode deployment --tenant a", `--tenant is for mode ["sidecar"], and this is mode "deployment"`},
		{old, "--mode static-pod", "--role-arn is required"},
		{old, "--mode static-pod --role-arn arn:aws:iam::111122223333:role/a", "--out is required"},
		{old, "--mode deployment --health-port 65536", "--health-port is 65536, must be 1 to 65535"},
		{old, "--for generic --tenant a --workload deployment/a --api-server-group 2147483648", "--api-server-group is 2147483648"},
		{old, "--for vcluster --tenant a --control-plane c", "--control-plane is for --for kamaji and karmada"},
		{old, "--mode static-pod --cluster-name c --role-arn arn:aws:iam::111122223333:role/* --out b", "is not the ARN of an IAM role"},
		{old, "--mode static-pod --role-arn a --out b", `--role-arn is "a", which is not the ARN of an IAM role`},
	} {
		code, out, errs := run(t, c.configuration, append([]string{"generate", "manifests", "--file", "-"}, strings.Fields(c.args)...)...)
		if code != 2 || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q, want %q", c.args, code, out, errs, c.want)
		}
	}
	for _, c := range []struct{ args, want string }{
		{"encryption-config --old ekskms=unix:///a", `provider "ekskms" is given twice`},
		{"encryption-config --old b", `--old is "b", must have the form name=unix:///path`},
		{"encryption-config --endpoint /a", `endpoint "/a" must have the form unix:///path`},
		{"migration --kubernetes-version 1.34", "version 1.34 of Kubernetes has no migrations of this form"},
		{"migration --kubernetes-version v2", `"v2" is no version of Kubernetes`},
		{"migration --resources *.*", `"*.*" names no single resource`},
		{"migration --resources secrets/status", `"secrets/status" names no single resource`},
		{"encryption-config --resources secrets;ls", `"secrets;ls" must be in lower case`},
		{"encryption-config --endpoint=", "--endpoint is empty"},
		{"encryption-config --old b=unix:///run/kms-plugin/socket.sock", "which is on the socket of the provider itself"},
		{"organization-policy", "--account is required"},
		{"organization-policy --account 111122223333 --region eu-west-1 --except admin", `--except is "admin", which is not the ARN`},
		{"organization-policy --account 111122223333 --region eu-west-1 --except arn:aws:iam::111122223333:root", `which is not the ARN of a role or a user`},
		{"organization-policy --account 111122223333 --region eu-west-1 --statement All", `--statement is "All", must be one of ["Keys" "Changes" "Invocations"]`},
		{"organization-policy --account 111122223333 --region eu-west-1 --bucket s3://logs", `--bucket is "s3://logs", which is not the name`},
		{"organization-policy --account 111122223333 --region eu-west-1 --role arn:aws:iam::111122223333:role/a", `--role is "arn:aws:iam::111122223333:role/a", which is not the name`},
		{"role-watch --region eu-west-1", "--account is required"},
		{"role-watch --account 111122223333 --region eu-west-1 --role ops/Admin", `--role is "ops/Admin", must be the name alone`},
		{"role-watch --account 111122223333 --region eu-west-1 --role a*b", `--role is "a*b", which is not the name`},
		{"role-watch --account 111122223333 --region eusc-de-east-1", "which Region of the partition aws-eusc has the events of IAM"},
		{"nonsense", `unknown command "nonsense"`},
	} {
		if code, out, errs := run(t, "", append([]string{"generate"}, strings.Fields(c.args)...)...); code != 2 || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q, want %q", c.args, code, out, errs, c.want)
		}
	}
}

// A policy that AWS Organizations would refuse is not printed.
func TestOrganizationPolicyLimit(t *testing.T) {
	words := []string{"generate", "organization-policy", "--account", "111122223333", "--region", "eu-central-1"}
	for i := range 20 {
		words = append(words, "--except", fmt.Sprintf("arn:aws:iam::111122223333:role/administrators/break-glass-%d", i))
	}
	if code, out, errs := run(t, "", words...); code != 1 || out != "" || !strings.Contains(errs, "AWS Organizations takes 5120") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, out, errs)
	}
	// With the longest name of a cluster each statement fits.
	configuration := "clusters: [{name: " + strings.Repeat("a", 100) + ", account: '111122223333', region: ap-southeast-2}]"
	for _, statement := range []string{"Keys", "Changes", "Invocations"} {
		code, out, errs := run(t, configuration, "generate", "organization-policy", "--file", "-", "--except", "arn:aws:iam::111122223333:role/break-glass", "--bucket", "logs-*", "--statement", statement)
		if code != 0 || !strings.HasPrefix(out, `{"Version":"2012-10-17","Statement":[{"Sid":"`+statement+`"`) {
			t.Errorf("exit code %d, stdout %q, stderr %q", code, out, errs)
		}
	}
}

// TestRoleWatch: what is printed can deliver its alarm, and check would say so if not.
func TestRoleWatch(t *testing.T) {
	code, out, errs := run(t, "", "generate", "role-watch", "--account", "111122223333", "--region", "eu-central-1", "--role", "payments-plugin-*", "--role", "Nodes")
	if code != 0 || !strings.Contains(out, `"prefix": "payments-plugin-"`) || !strings.Contains(out, `"Nodes"`) {
		t.Fatalf("exit code %d, stdout %s, stderr %s", code, out, errs)
	}
	for _, c := range []struct {
		broken, want string
		code         int
	}{{out, "No findings", 0}, {strings.Replace(out, `"sns:Publish"`, `"sns:Subscribe"`, 1), "alarm-undeliverable", 1}} {
		path := filepath.Join(t.TempDir(), "role-watch.template.json")
		if err := os.WriteFile(path, []byte(c.broken), 0o644); err != nil {
			t.Fatal(err)
		}
		if code, out, errs := run(t, "", "check", path); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("exit code %d, stdout %s, stderr %s, want %s", code, out, errs, c.want)
		}
	}
}
