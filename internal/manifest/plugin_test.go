package manifest

import (
	"bytes"
	"encoding/json"
	"flag"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	klabels "k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	"github.com/ekskms/ekskms/internal/kmsplugin"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func input(mode Mode) PluginInput {
	return PluginInput{
		ClusterName:       "demo",
		ClusterARN:        "arn:aws:eks:eu-central-1:111122223333:cluster/demo",
		KeyARN:            "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		Image:             "example.com/kms-plugin:v1",
		EncryptionContext: map[string]string{"ekskms-cluster": "demo"},
		Mode:              mode,
	}
}

func objects(t *testing.T, in PluginInput) []runtime.Object {
	t.Helper()
	objs, err := Plugin(in)
	if err != nil {
		t.Fatal(err)
	}
	return objs
}

// template finds the pod that a mode is about.
func template(t *testing.T, mode Mode, objs []runtime.Object) *corev1.PodTemplateSpec {
	t.Helper()
	if mode == DaemonSet {
		return &find[*appsv1.DaemonSet](t, objs).Spec.Template
	}
	return &find[*appsv1.Deployment](t, objs).Spec.Template
}

// pod is the pod of every mode, the sidecar's with the API server in it.
func pod(t *testing.T, mode Mode) *corev1.PodTemplateSpec {
	t.Helper()
	switch mode {
	case Sidecar:
		return hostedPod(t)
	case StaticPod:
		p := staticPod(t)
		return &corev1.PodTemplateSpec{ObjectMeta: p.ObjectMeta, Spec: p.Spec}
	default:
		return template(t, mode, objects(t, input(mode)))
	}
}

var allModes = []Mode{Deployment, Sidecar, DaemonSet, StaticPod}

// plugin finds the plugin's container, and nil where there is none.
func plugin(p *corev1.PodTemplateSpec) *corev1.Container {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if list[i].Name == "kms-plugin" {
				return &list[i]
			}
		}
	}
	return nil
}

func find[T runtime.Object](t *testing.T, objs []runtime.Object) (found T) {
	t.Helper()
	i := slices.IndexFunc(objs, func(o runtime.Object) bool { _, ok := o.(T); return ok })
	if i < 0 {
		t.Fatalf("no %T", found)
	}
	return objs[i].(T)
}

func TestGolden(t *testing.T) {
	for _, mode := range []Mode{Deployment, DaemonSet} {
		t.Run(string(mode), func(t *testing.T) {
			in := input(mode)
			if mode == DaemonSet {
				in.Architecture, in.Region = "arm64", "eu-central-1"
			}
			golden(t, string(mode), objects(t, in))
		})
	}
}

func golden[T any](t *testing.T, name string, values []T) {
	t.Helper()
	got, err := YAML(values)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", name+".golden.yaml")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("run with -update if this is meant (-want +got):\n%s", d)
	}
}

// What matters in the goldens.

func TestObjects(t *testing.T) {
	kinds := func(objs []runtime.Object) (kinds []string) {
		for _, o := range objs {
			kinds = append(kinds, o.GetObjectKind().GroupVersionKind().Kind)
		}
		return kinds
	}
	watch := []string{"Namespace", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "Deployment", "PodDisruptionBudget"}
	policy := []string{"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
	for mode, want := range map[Mode][]string{
		"":         watch,
		Deployment: watch,
		Sidecar:    watch,
		DaemonSet:  slices.Concat(watch, policy, policy, []string{"NetworkPolicy", "DaemonSet"}),
	} {
		if got := kinds(objects(t, input(mode))); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", mode, got, want)
		}
	}
}

func TestNamesHoldTogether(t *testing.T) {
	in := input(DaemonSet)
	in.Namespace, in.ServiceAccount = "elsewhere", "somebody"
	objs := objects(t, in)
	if find[*corev1.Namespace](t, objs).Name != "elsewhere" {
		t.Error("the namespace has another name")
	}
	for _, o := range objs[1:] {
		want := "elsewhere"
		if strings.HasPrefix(o.GetObjectKind().GroupVersionKind().Kind, "ValidatingAdmissionPolicy") {
			want = ""
		}
		if m := o.(metav1.Object); m.GetNamespace() != want {
			t.Errorf("%T is in namespace %q, want %q", o, m.GetNamespace(), want)
		}
	}
	subject := find[*rbacv1.RoleBinding](t, objs).Subjects[0]
	if subject.Name != "somebody" || subject.Namespace != "elsewhere" {
		t.Errorf("the role is bound to %s of %s", subject.Name, subject.Namespace)
	}
	sa := find[*corev1.ServiceAccount](t, objs)
	for _, mode := range []Mode{Deployment, DaemonSet} {
		if pod := template(t, mode, objs); sa.Name != "somebody" || pod.Spec.ServiceAccountName != sa.Name {
			t.Errorf("service account %q, pod's %q", sa.Name, pod.Spec.ServiceAccountName)
		}
	}
}

// Each workload has its own pods: a selector that found the other's would count
// them, protect them or delete them.
func TestSelectorsDoNotOverlap(t *testing.T) {
	objs := objects(t, input(DaemonSet))
	selectors := map[string]map[Mode]map[string]string{
		"workload": {
			Deployment: find[*appsv1.Deployment](t, objs).Spec.Selector.MatchLabels,
			DaemonSet:  find[*appsv1.DaemonSet](t, objs).Spec.Selector.MatchLabels,
		},
		"budget":         {Deployment: find[*policyv1.PodDisruptionBudget](t, objs).Spec.Selector.MatchLabels},
		"network policy": {},
	}
	var rules []networkingv1.NetworkPolicySpec
	for _, o := range objs {
		if p, ok := o.(*networkingv1.NetworkPolicy); ok {
			mode := map[string]Mode{"kms-plugin": Deployment, "kms-plugin-node": DaemonSet}[p.Name]
			selectors["network policy"][mode] = p.Spec.PodSelector.MatchLabels
			p.Spec.PodSelector = metav1.LabelSelector{}
			rules = append(rules, p.Spec)
		}
	}
	for what, of := range selectors {
		for mode, s := range of {
			for _, other := range []Mode{Deployment, DaemonSet} {
				found := len(s) > 0 && klabels.SelectorFromSet(s).Matches(klabels.Set(template(t, other, objs).Labels))
				if found != (mode == other) {
					t.Errorf("the %s of the %s: selector %v finds the pods of the %s: %v", what, mode, s, other, found)
				}
			}
		}
	}
	if len(rules) != 2 || !cmp.Equal(rules[0], rules[1]) {
		t.Errorf("the network policies differ: %s", cmp.Diff(rules[0], rules[1]))
	}
}

func TestArchitecture(t *testing.T) {
	in := input(Deployment)
	if _, ok := template(t, Deployment, objects(t, in)).Spec.NodeSelector["kubernetes.io/arch"]; ok {
		t.Error("an architecture nobody asked for")
	}
	in.Architecture = "arm64"
	if got := template(t, Deployment, objects(t, in)).Spec.NodeSelector["kubernetes.io/arch"]; got != "arm64" {
		t.Errorf("architecture %q", got)
	}
}

func TestNetworkPolicy(t *testing.T) {
	spec := find[*networkingv1.NetworkPolicy](t, objects(t, input(Deployment))).Spec
	if len(spec.Ingress) != 0 || !slices.Contains(spec.PolicyTypes, networkingv1.PolicyTypeIngress) {
		t.Error("somebody may come in")
	}
	var ways []string
	for _, rule := range spec.Egress {
		to := []string{"any"}
		if len(rule.To) > 0 {
			to = nil
			for _, peer := range rule.To {
				to = append(to, peer.IPBlock.CIDR)
			}
		}
		for _, p := range rule.Ports {
			for _, t := range to {
				ways = append(ways, string(*p.Protocol)+" "+p.Port.String()+" "+t)
			}
		}
	}
	want := []string{"UDP 53 any", "TCP 53 any", "TCP 443 any", "TCP 80 169.254.170.23/32", "TCP 80 fd00:ec2::23/128"}
	if !slices.Equal(ways, want) {
		t.Errorf("ways out: %q, want %q", ways, want)
	}
}

// Values that another tool resolves later come out as they went in.
func TestTokensPassUntouched(t *testing.T) {
	in := input(Deployment)
	in.KeyARN, in.Image, in.Region = "${Token[TOKEN.123]}", "${Token[TOKEN.4]}:${Token[TOKEN.5]}", "${Token[AWS.Region.6]}"
	in.EncryptionContext = map[string]string{"ekskms-cluster": "${Token[TOKEN.7]}"}
	in.ClusterName, in.ClusterARN = "${Token[TOKEN.8]}", "${Token[TOKEN.9]}"
	c := template(t, Deployment, objects(t, in)).Spec.Containers[0]
	for _, want := range []string{"${Token[TOKEN.123]}", "ekskms-cluster=${Token[TOKEN.7]}", "${Token[AWS.Region.6]}", "${Token[TOKEN.9]}"} {
		if !slices.Contains(c.Args, want) {
			t.Errorf("args %q lack %q", c.Args, want)
		}
	}
	if c.Image != in.Image {
		t.Errorf("image %q", c.Image)
	}
	in.EncryptionContext = map[string]string{"k": "$(HOME)"}
	if c := template(t, Deployment, objects(t, in)).Spec.Containers[0]; !slices.Contains(c.Args, "k=$$(HOME)") {
		t.Errorf("Kubernetes would expand %q", c.Args)
	}
}

// The real command judges every command line.
func TestArgsAreTheCommands(t *testing.T) {
	for _, mode := range allModes {
		c := plugin(pod(t, mode))
		if c.Command != nil {
			t.Errorf("%s: the image's entry point is overridden: %q", mode, c.Command)
		}
		if msg := badCommandLine(c.Args); msg != "" {
			t.Errorf("%s: %q: %s", mode, c.Args, msg)
		}
		if badCommandLine(append(slices.Clone(c.Args), "--sokcet-mode", "0600")) == "" {
			t.Errorf("%s: a misspelt flag passes", mode)
		}
		if badCommandLine(slices.Replace(slices.Clone(c.Args), 2, 3, "key/demo")) == "" {
			t.Errorf("%s: half an ARN for a key passes", mode)
		}
	}
	in := input(Deployment)
	in.Region = "eu-central-1"
	if msg := badCommandLine(plugin(template(t, Deployment, objects(t, in))).Args); msg != "" {
		t.Error(msg)
	}
}

// Every probe asks the port that the plugin listens on. A plugin beside an API
// server says nothing of readiness: the API server does.
func TestProbes(t *testing.T) {
	for _, mode := range allModes {
		c := plugin(pod(t, mode))
		probes := map[*corev1.Probe]string{c.StartupProbe: "/livez", c.LivenessProbe: "/livez"}
		if mode != Sidecar {
			probes[c.ReadinessProbe] = "/readyz"
		} else if c.ReadinessProbe != nil {
			t.Error("the sidecar has a readiness probe")
		}
		host := ""
		for probe, path := range probes {
			if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || probe.HTTPGet.Port.StrVal != c.Ports[0].Name {
				t.Errorf("%s: a probe asks %v, want %s of the health port", mode, probe, path)
				continue
			}
			host = probe.HTTPGet.Host
		}
		listen := net.JoinHostPort(host, strconv.Itoa(int(c.Ports[0].ContainerPort)))
		if i := slices.Index(c.Args, "--health-listen"); c.Args[i+1] != listen {
			t.Errorf("%s: the plugin listens on %s, the probes ask %s", mode, c.Args[i+1], listen)
		}
		if taken := c.Ports[0].ContainerPort == 8080; taken != (mode == Deployment || mode == DaemonSet) {
			t.Errorf("%s: health port %d", mode, c.Ports[0].ContainerPort)
		}
		if loopback := host == "127.0.0.1"; loopback != pod(t, mode).Spec.HostNetwork {
			t.Errorf("%s: on %q with host network %v", mode, host, pod(t, mode).Spec.HostNetwork)
		}
	}
}

// badCommandLine takes a command line as far as it goes without doing anything.
func badCommandLine(args []string) string {
	cmd, rest, err := kmsplugin.NewCommand().Find(args)
	if err != nil {
		return err.Error()
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err.Error()
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err.Error()
	}
	if cmd.PreRunE != nil {
		if err := cmd.PreRunE(cmd, nil); err != nil {
			return err.Error()
		}
	}
	return ""
}

func TestStrictDecoding(t *testing.T) {
	for name, objs := range map[string][]runtime.Object{
		"daemonset":  objects(t, input(DaemonSet)), // has those of the Deployment
		"static pod": {staticPod(t)},
		"migrations": migrations(t),
	} {
		stream, err := YAML(objs)
		if err != nil {
			t.Fatal(err)
		}
		docs := bytes.Split(stream, []byte("---\n"))
		if len(docs) != len(objs) {
			t.Fatalf("%s: %d documents of %d objects", name, len(docs), len(objs))
		}
		for i, doc := range docs {
			got, err := decodeStrict(doc)
			if err != nil {
				t.Fatalf("%s: %T: %v", name, objs[i], err)
			}
			want, _ := json.Marshal(objs[i])
			back, _ := json.Marshal(got)
			if d := cmp.Diff(string(want), string(back)); d != "" {
				t.Errorf("%s: %T changes on its way:\n%s", name, objs[i], d)
			}
			wrong := bytes.Replace(doc, []byte("\n  labels:"), []byte("\n  lables:"), 1)
			if _, err := decodeStrict(wrong); err == nil || !strings.Contains(err.Error(), "lables") {
				t.Errorf("%s: %T: a misspelt field passes: %v", name, objs[i], err)
			}
		}
	}
}

func decodeStrict(doc []byte) (runtime.Object, error) {
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	o, _, err := strict.Decode(doc, nil, nil)
	return o, err
}

func TestMapsHoldNothingOfTheServers(t *testing.T) {
	for _, mode := range []Mode{Deployment, DaemonSet} {
		ms, err := Maps(objects(t, input(mode)))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ms {
			if m["apiVersion"] == "" || m["kind"] == "" || m["status"] != nil {
				t.Errorf("bad object: %v", m)
			}
			b, _ := yaml.Marshal(m)
			if bytes.Contains(b, []byte("null")) || bytes.Contains(b, []byte("creationTimestamp")) {
				t.Errorf("nulls in:\n%s", b)
			}
		}
	}
}

func TestInputErrors(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*PluginInput)
		want   string
	}{
		"nothing":        {func(in *PluginInput) { *in = PluginInput{} }, "ClusterARN is required\nClusterName is required\nEncryptionContext is required: the key policy allows nothing without it\nImage is required\nKeyARN is required"},
		"no context":     {func(in *PluginInput) { in.EncryptionContext = nil }, "EncryptionContext is required"},
		"bad context":    {func(in *PluginInput) { in.EncryptionContext = map[string]string{"a=b": "c"} }, `key "a=b"`},
		"mode":           {func(in *PluginInput) { in.Mode = "static-pod" }, `Mode is "static-pod", must be "deployment", "sidecar" or "daemonset"`},
		"one replica":    {func(in *PluginInput) { in.Replicas = 1 }, "replicas is 1, must be 2 or more"},
		"namespace":      {func(in *PluginInput) { in.Namespace = "Upper" }, `Namespace is "Upper"`},
		"serviceaccount": {func(in *PluginInput) { in.ServiceAccount = "a.b/c" }, `ServiceAccount is "a.b/c"`},
	} {
		t.Run(name, func(t *testing.T) {
			in := input(Deployment)
			c.change(&in)
			if _, err := Plugin(in); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// securityChecks say what a pod must hold to, each by its name.
var securityChecks = map[string]func(Mode, *corev1.PodTemplateSpec) bool{
	"read-only root": func(_ Mode, p *corev1.PodTemplateSpec) bool {
		return is(plugin(p).SecurityContext.ReadOnlyRootFilesystem, true)
	},
	"no privilege escalation": func(_ Mode, p *corev1.PodTemplateSpec) bool {
		return is(plugin(p).SecurityContext.AllowPrivilegeEscalation, false)
	},
	"not privileged": func(_ Mode, p *corev1.PodTemplateSpec) bool {
		return is(plugin(p).SecurityContext.Privileged, false)
	},
	"no capabilities": func(_ Mode, p *corev1.PodTemplateSpec) bool {
		c := plugin(p).SecurityContext.Capabilities
		return c != nil && slices.Equal(c.Drop, []corev1.Capability{"ALL"}) && len(c.Add) == 0
	},
	"seccomp": func(_ Mode, p *corev1.PodTemplateSpec) bool {
		s := plugin(p).SecurityContext.SeccompProfile
		return s != nil && s.Type == corev1.SeccompProfileTypeRuntimeDefault
	},
	"no root user": func(m Mode, p *corev1.PodTemplateSpec) bool {
		s := plugin(p).SecurityContext
		return onHost(m) || is(s.RunAsNonRoot, true) && is(s.RunAsUser, 65532)
	},
	"group": func(m Mode, p *corev1.PodTemplateSpec) bool {
		group := int64(0) // the API server's, or root's own
		if m == Deployment {
			group = 65532
		}
		return is(plugin(p).SecurityContext.RunAsGroup, group)
	},
	"socket for owner, or the API server's group": func(m Mode, p *corev1.PodTemplateSpec) bool {
		i := slices.Index(plugin(p).Args, "--socket-mode")
		if m == Sidecar {
			return i >= 0 && plugin(p).Args[i+1] == "0660"
		}
		return i < 0 // 0600 is the default
	},
	"no host namespaces": func(m Mode, p *corev1.PodTemplateSpec) bool {
		return p.Spec.HostNetwork == (m == StaticPod) && !p.Spec.HostPID && !p.Spec.HostIPC
	},
	// The Deployment's lives for ten minutes. In a pod of somebody else's, nothing is
	// to be had where a token would be.
	"no API token, or a short-lived one": func(m Mode, p *corev1.PodTemplateSpec) bool {
		i := slices.IndexFunc(plugin(p).VolumeMounts, func(v corev1.VolumeMount) bool {
			return v.MountPath == "/var/run/secrets/kubernetes.io/serviceaccount"
		})
		if m != Sidecar && !is(p.Spec.AutomountServiceAccountToken, false) {
			return false
		}
		if onHost(m) {
			return i < 0
		}
		if i < 0 || !plugin(p).VolumeMounts[i].ReadOnly {
			return false
		}
		v := volume(p, plugin(p).VolumeMounts[i].Name)
		if m == Sidecar {
			return v.EmptyDir != nil
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil && (!is(s.ServiceAccountToken.ExpirationSeconds, 600) || s.ServiceAccountToken.Audience != "") {
				return false
			}
		}
		return true
	},
	"no service links": func(m Mode, p *corev1.PodTemplateSpec) bool {
		return m == Sidecar || is(p.Spec.EnableServiceLinks, false)
	},
	"memory limit": func(_ Mode, p *corev1.PodTemplateSpec) bool {
		return !plugin(p).Resources.Limits.Memory().IsZero()
	},
	"socket volume": func(m Mode, p *corev1.PodTemplateSpec) bool {
		v := volume(p, plugin(p).VolumeMounts[0].Name)
		if onHost(m) {
			return v.HostPath != nil && v.HostPath.Path == "/var/run/kms-plugin" && is(v.HostPath.Type, corev1.HostPathDirectoryOrCreate)
		}
		return v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory && v.EmptyDir.SizeLimit != nil
	},
	"no further volumes": func(m Mode, p *corev1.PodTemplateSpec) bool {
		want := map[Mode]int{Deployment: 2, Sidecar: 2, DaemonSet: 1, StaticPod: 1}
		return len(plugin(p).VolumeMounts) == want[m]
	},
	"restricted level": func(m Mode, p *corev1.PodTemplateSpec) bool {
		return onHost(m) || len(violations(p)) == 0
	},
}

// onHost: modes in which the socket lies on the node, for which no level of Pod
// Security below privileged has room.
func onHost(m Mode) bool { return m == DaemonSet || m == StaticPod }

func volume(p *corev1.PodTemplateSpec, name string) corev1.Volume {
	i := slices.IndexFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
	return p.Spec.Volumes[i]
}

func is[T comparable](p *T, want T) bool { return p != nil && *p == want }

// violations asks the code of Kubernetes' own Pod Security admission.
func violations(p *corev1.PodTemplateSpec) (reasons []string) {
	e, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return []string{err.Error()}
	}
	level := psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}
	for _, r := range e.EvaluatePod(level, &p.ObjectMeta, &p.Spec) {
		if !r.Allowed {
			reasons = append(reasons, r.ForbiddenReason)
		}
	}
	slices.Sort(reasons)
	return reasons
}

func failing(mode Mode, p *corev1.PodTemplateSpec) (names []string) {
	for name, ok := range securityChecks {
		if !ok(mode, p) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func TestSecurity(t *testing.T) {
	for _, mode := range allModes {
		if bad := failing(mode, pod(t, mode)); len(bad) > 0 {
			t.Errorf("%s: %q", mode, bad)
		}
	}
	// What the socket on the node costs at the restricted level, and no more.
	for mode, want := range map[Mode][]string{
		DaemonSet: {"restricted volume types", "runAsNonRoot != true", "runAsUser=0"},
		StaticPod: {"host namespaces", "probe or lifecycle host", "restricted volume types", "runAsNonRoot != true", "runAsUser=0"},
	} {
		if got := violations(pod(t, mode)); !slices.Equal(got, want) {
			t.Errorf("the %s violates %q, want %q", mode, got, want)
		}
	}
	level := func(m Mode) string {
		return find[*corev1.Namespace](t, objects(t, input(m))).Labels["pod-security.kubernetes.io/enforce"]
	}
	if level(Deployment) != "restricted" || level(Sidecar) != "restricted" || level(DaemonSet) != "privileged" {
		t.Errorf("namespaces enforce %s, %s and %s", level(Deployment), level(Sidecar), level(DaemonSet))
	}
}

// Break one thing, and the check of that name fails: a check that can't fail is
// none.
func TestMutations(t *testing.T) {
	context := func(p *corev1.PodTemplateSpec) *corev1.SecurityContext { return plugin(p).SecurityContext }
	inPod := []Mode{Deployment, Sidecar}
	own := []Mode{Deployment, DaemonSet, StaticPod}
	for _, m := range []struct {
		check  string
		modes  []Mode
		mutate func(*corev1.PodTemplateSpec)
	}{
		{"read-only root", allModes, func(p *corev1.PodTemplateSpec) { context(p).ReadOnlyRootFilesystem = nil }},
		{"no privilege escalation", allModes, func(p *corev1.PodTemplateSpec) { context(p).AllowPrivilegeEscalation = nil }},
		{"not privileged", allModes, func(p *corev1.PodTemplateSpec) { context(p).Privileged = ptr(true) }},
		{"no capabilities", allModes, func(p *corev1.PodTemplateSpec) { context(p).Capabilities = nil }},
		{"no capabilities", allModes, func(p *corev1.PodTemplateSpec) { context(p).Capabilities.Add = []corev1.Capability{"SYS_ADMIN"} }},
		{"seccomp", allModes, func(p *corev1.PodTemplateSpec) { context(p).SeccompProfile = nil }},
		{"no root user", inPod, func(p *corev1.PodTemplateSpec) { context(p).RunAsUser = ptr(int64(0)) }},
		{"group", allModes, func(p *corev1.PodTemplateSpec) { context(p).RunAsGroup = nil }},
		{"socket for owner, or the API server's group", allModes, func(p *corev1.PodTemplateSpec) {
			plugin(p).Args = append([]string{"serve", "--socket-mode", "0666"}, plugin(p).Args[1:]...)
		}},
		{"no host namespaces", inPod, func(p *corev1.PodTemplateSpec) { p.Spec.HostNetwork = true }},
		{"no host namespaces", allModes, func(p *corev1.PodTemplateSpec) { p.Spec.HostPID = true }},
		{"no API token, or a short-lived one", own, func(p *corev1.PodTemplateSpec) { p.Spec.AutomountServiceAccountToken = nil }},
		{"no API token, or a short-lived one", []Mode{Sidecar}, func(p *corev1.PodTemplateSpec) {
			plugin(p).VolumeMounts = plugin(p).VolumeMounts[:1]
		}},
		{"no API token, or a short-lived one", []Mode{Deployment}, func(p *corev1.PodTemplateSpec) {
			p.Spec.Volumes[1].Projected.Sources[0].ServiceAccountToken.ExpirationSeconds = nil
		}},
		{"no service links", own, func(p *corev1.PodTemplateSpec) { p.Spec.EnableServiceLinks = nil }},
		{"memory limit", allModes, func(p *corev1.PodTemplateSpec) { plugin(p).Resources.Limits = nil }},
		{"socket volume", allModes, func(p *corev1.PodTemplateSpec) {
			for i, v := range p.Spec.Volumes {
				if v.Name == plugin(p).VolumeMounts[0].Name {
					p.Spec.Volumes[i].VolumeSource = corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}
				}
			}
		}},
		{"no further volumes", allModes, func(p *corev1.PodTemplateSpec) {
			plugin(p).VolumeMounts = append(plugin(p).VolumeMounts, corev1.VolumeMount{Name: "data", MountPath: "/data"})
		}},
		{"restricted level", inPod, func(p *corev1.PodTemplateSpec) { context(p).RunAsNonRoot = nil }},
	} {
		for _, mode := range m.modes {
			p := pod(t, mode)
			m.mutate(p)
			if bad := failing(mode, p); !slices.Contains(bad, m.check) {
				t.Errorf("%s: %q does not notice; failing: %q", mode, m.check, bad)
			}
		}
	}
}

// What the Deployment may do on the Kubernetes API, as a list: each line more would
// be one too many.
func TestReporter(t *testing.T) {
	var may []string
	for _, r := range find[*rbacv1.Role](t, objects(t, input(Deployment))).Rules {
		for _, resource := range r.Resources {
			may = append(may, strings.Join(r.Verbs, ",")+" "+r.APIGroups[0]+"/"+resource+" "+strings.Join(r.ResourceNames, ","))
		}
	}
	want := []string{"create /events ", "get apps/deployments kms-plugin", "patch apps/deployments/status kms-plugin"}
	if !slices.Equal(may, want) {
		t.Errorf("it may %q, want %q", may, want)
	}
}

// An emptyDir is a folder of the node in which its pod can plant a link.
func TestHostPathsWithEmptyDirs(t *testing.T) {
	for path, want := range map[string]bool{
		"/var/lib/": true, "/var/lib/kubelet/": true, "/var/lib/kubelet/pods": true, "/var/lib/kubelet/pods/": true, "/var/lib/kubelet/pods/a/volumes/x": true,
		"/var/lib/kubelet": false, "/var/lib": false, "/var/lib/kubelet/plugins/": false, "/var/lib/kubelet/pods2/": false, "/opt/": false,
	} {
		if got := strings.Contains(HostPathProblem(path), "emptyDirs"); got != want {
			t.Errorf("%s: %q", path, HostPathProblem(path))
		}
	}
}

// What may be allowed leads nowhere near the socket, as far as its path tells.
func TestHostPathProblem(t *testing.T) {
	data, err := os.ReadFile("testdata/socket_paths.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var paths []struct {
		Path, Why string
		Reaches   bool
	}
	if err := yaml.UnmarshalStrict(data, &paths); err != nil || len(paths) < 40 {
		t.Fatal(len(paths), err)
	}
	for _, p := range paths {
		if problem := HostPathProblem(p.Path); p.Reaches && problem == "" || !p.Reaches && problem != "" {
			t.Errorf("%s (%s): %q", p.Path, p.Why, problem)
		}
	}
	for _, path := range []string{"", "/", "opt", "/opt/", "/opt//a", "/o'pt", "/opt/./a", "/opt/..", "/opt/ a"} {
		if problem := HostPathProblem(path); (problem == "") != (path == "/opt/") {
			t.Errorf("%q: %q", path, problem)
		}
	}
	in := input(DaemonSet)
	in.HostPaths = []string{"/var/log", "/run"}
	if _, err := Plugin(in); err == nil || !strings.Contains(err.Error(), `HostPaths[1] is "/run": leads to the socket`) {
		t.Error(err)
	}
	in.Mode, in.HostPaths = Deployment, in.HostPaths[:1]
	if _, err := Plugin(in); err == nil || !strings.Contains(err.Error(), "HostPaths is set in mode deployment") {
		t.Error(err)
	}
}
