//go:build !race

package ekskms_test

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/constructs/ekskms"
)

func tenant(name, namespace, serviceAccount string) *ekskms.PluginTenant {
	return &ekskms.PluginTenant{Name: jsii.String(name), Namespace: jsii.String(namespace), ServiceAccount: jsii.String(serviceAccount)}
}

func clusterProps(tenants ...*ekskms.PluginTenant) *ekskms.EncryptedClusterProps {
	return &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), Plugin: &ekskms.KmsPluginOptions{Image: jsii.String("registry.example/kms-plugin:v1"), Tenants: &tenants}}
}

func TestBadTenants(t *testing.T) {
	many := make([]*ekskms.PluginTenant, 21)
	long := make([]*ekskms.PluginTenant, 20)
	for i := range many {
		many[i] = tenant("t"+strconv.Itoa(i), "n", "s"+strconv.Itoa(i))
	}
	for i := range long {
		name := strings.Repeat("a", 39) + strconv.Itoa(10+i)
		long[i] = tenant(name, name, name)
	}
	with := func(mode ekskms.PluginMode, tenants ...*ekskms.PluginTenant) *ekskms.EncryptedClusterProps {
		props := clusterProps(tenants...)
		props.Plugin.Mode = mode
		return props
	}
	sidecars := with(ekskms.PluginModeSidecar)
	sidecars.Plugin.Tenants = nil
	for want, props := range map[string]*ekskms.EncryptedClusterProps{
		`KmsPlugin: Mode is "sidecars", must be "deployment", "sidecar" or "daemonset"`:                                                                 with("sidecars"),
		`KmsPlugin: Tenants is missing, but Mode is "sidecar": name a tenant, or leave Mode out`:                                                        sidecars,
		`KmsPlugin: Tenants is set, but Mode is "daemonset": set it to "sidecar", or leave it out`:                                                      with(ekskms.PluginModeDaemonSet, tenant("a", "n", "s")),
		`KmsPlugin: Tenants has 0 tenants, must have 1 to 20`:                                                                                           clusterProps(),
		`KmsPlugin: Tenants has 21 tenants, must have 1 to 20`:                                                                                          clusterProps(many...),
		`KmsPlugin: Tenants has names, namespaces and service accounts of 2460 characters in all, must have at most 2400`:                               clusterProps(long...),
		`KmsPlugin: Tenants[0] is missing, it has no default`:                                                                                           clusterProps(nil),
		`KmsPlugin: Tenants[0].Name is missing, it has no default`:                                                                                      clusterProps(&ekskms.PluginTenant{}),
		`KmsPlugin: Tenants[1].Name is "a", which is the name of Tenants[0]: give it another`:                                                           clusterProps(tenant("a", "n", "s"), tenant("a", "n", "t")),
		`KmsPlugin: Tenants[1].ServiceAccount is "s" in namespace "n", which is that of Tenants[0]: give it one of its own`:                             clusterProps(tenant("a", "n", "s"), tenant("b", "n", "s")),
		`KmsPlugin: Tenants[0].ServiceAccount is "kms-plugin" in namespace "ekskms-system", which is that of the plugin itself: give it one of its own`: clusterProps(tenant("a", "ekskms-system", "kms-plugin")),
	} {
		t.Run(want, func(t *testing.T) {
			refused(t, "ekskms."+want, func(s awscdk.Stack) { ekskms.NewEncryptedCluster(s, jsii.String("X"), props) })
		})
	}
}

// TestTenantsWithAKeyElsewhere: with the key in a stack of its own, the roles of
// the tenants are made there too, and the stacks need each other in one direction
// only. The mode follows from the tenants.
func TestTenantsWithAKeyElsewhere(t *testing.T) {
	app, security, platform := twoStacks(t, nil, nil)
	props := clusterProps(tenant("acme", "vcluster-acme", "vc"), tenant("globex", "vcluster-globex", "vc"))
	props.SecretsKey = newKey(security)
	props.AuditTrail = ekskms.NewAuditTrail(security, jsii.String("Audit"), &ekskms.AuditTrailProps{SecretsKey: props.SecretsKey})
	ekskms.NewEncryptedCluster(platform, jsii.String("Cluster"), props)
	app.Synth(nil) // fails on a cycle
	policy := statements(t, assertions.Template_FromStack(security, nil), "Key")
	for sid, role := range map[string]string{"TenantUse": "KeyTenantRoleacme", "TenantUse2": "KeyTenantRoleglobex"} {
		principal, _ := json.Marshal(policy[sid]["Principal"])
		if !strings.Contains(string(principal), role) {
			t.Errorf("statement %s is for %s, want %s", sid, principal, role)
		}
	}
	template := assertions.Template_FromStack(platform, nil)
	template.ResourceCountIs(jsii.String("AWS::EKS::PodIdentityAssociation"), jsii.Number(3))
}

// TestOrderOfTenants: another order is no other identity.
func TestOrderOfTenants(t *testing.T) {
	ids := func(tenants ...*ekskms.PluginTenant) map[string]string {
		stack := newStack(t)
		ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), clusterProps(tenants...))
		all := map[string]string{}
		for id, r := range *assertions.Template_FromStack(stack, nil).FindResources(jsii.String("AWS::EKS::PodIdentityAssociation"), nil) {
			data, err := json.Marshal((*r)["Properties"])
			if err != nil {
				t.Fatal(err)
			}
			all[id] = string(data)
		}
		return all
	}
	a, b := tenant("a", "one", "vc"), tenant("b", "two", "vc")
	before, after := ids(a, b), ids(b, tenant("c", "three", "vc"), a)
	for id, properties := range before {
		if after[id] != properties {
			t.Errorf("%s was %s and is %s", id, properties, after[id])
		}
	}
}

// TestModeLeft: what only mode daemonset has goes with the mode, its admission
// policies above all, and what stays keeps its resource.
func TestModeLeft(t *testing.T) {
	// ids returns the resource of each object, by the object's kind and name.
	ids := func(mode ekskms.PluginMode) (map[string]string, assertions.Template) {
		stack := newStack(t)
		cluster := ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
			ClusterName: jsii.String("demo"), Plugin: &ekskms.KmsPluginOptions{Image: jsii.String("registry.example/kms-plugin:v1"), Mode: mode}})
		if node := cluster.KmsPlugin().NodeManifest(); (node != nil) != (mode == ekskms.PluginModeDaemonSet) {
			t.Errorf("mode %q has a manifest for nodes: %v", mode, node != nil)
		}
		template := assertions.Template_FromStack(stack, nil)
		all := map[string]string{}
		for id, r := range *template.FindResources(jsii.String("Custom::AWSCDK-EKS-KubernetesResource"), nil) {
			data, err := json.Marshal((*r)["Properties"])
			if err != nil {
				t.Fatal(err)
			}
			// The manifest is JSON within JSON.
			for _, object := range regexp.MustCompile(`kind\\":\\"(\w+)\\",\\"metadata\\":\{.*?\\"name\\":\\"([a-z-]+)`).FindAllStringSubmatch(string(data), -1) {
				key := object[1] + " " + object[2]
				if all[key] != "" {
					t.Errorf("%s is in %s and in %s", key, all[key], id)
				}
				all[key] = id
			}
		}
		return all, template
	}
	before, template := ids(ekskms.PluginModeDaemonSet)
	after, _ := ids(ekskms.PluginModeDeployment)
	var gone []string
	for object, id := range before {
		switch after[object] {
		case "":
			gone = append(gone, object)
			if slices.Contains(slices.Collect(maps.Values(after)), id) {
				t.Errorf("%s stays on the cluster: its resource %s is still there", object, id)
			}
		case id:
		default:
			t.Errorf("%s moves from %s to %s", object, id, after[object])
		}
	}
	slices.Sort(gone)
	want := []string{
		"DaemonSet kms-plugin-node", "NetworkPolicy kms-plugin-node",
		"ValidatingAdmissionPolicy ekskms-kms-socket-pods", "ValidatingAdmissionPolicy ekskms-kms-socket-volumes",
		"ValidatingAdmissionPolicyBinding ekskms-kms-socket-pods", "ValidatingAdmissionPolicyBinding ekskms-kms-socket-volumes",
	}
	if !slices.Equal(gone, want) {
		t.Errorf("gone with the mode: %q\nwant %q", gone, want)
	}
	// The namespace first, whose level must let the sockets in.
	node := (*template.FindResources(jsii.String("Custom::AWSCDK-EKS-KubernetesResource"), nil))[before["DaemonSet kms-plugin-node"]]
	if first := after["Namespace ekskms-system"]; first == "" || !slices.Contains((*node)["DependsOn"].([]any), any(first)) {
		t.Errorf("the node's part depends on %v, want %q too", (*node)["DependsOn"], first)
	}
}
