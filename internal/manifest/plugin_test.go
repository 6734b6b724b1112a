package manifest

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
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

// template finds the pod of a workload.
func template(t *testing.T, objs []runtime.Object) *corev1.PodTemplateSpec {
	t.Helper()
	for _, o := range objs {
		switch o := o.(type) {
		case *appsv1.Deployment:
			return &o.Spec.Template
		case *appsv1.DaemonSet:
			return &o.Spec.Template
		}
	}
	t.Fatal("no workload")
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
			got, err := YAML(objects(t, in))
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", string(mode)+".golden.yaml")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(got)); d != "" {
				t.Errorf("run with -update if this is meant (-want +got):\n%s", d)
			}
		})
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
	if got, want := kinds(objects(t, input(""))), []string{"Namespace", "ServiceAccount", "NetworkPolicy", "Deployment", "PodDisruptionBudget"}; !slices.Equal(got, want) {
		t.Errorf("deployment: %v, want %v", got, want)
	}
	if got, want := kinds(objects(t, input(DaemonSet))), []string{"Namespace", "ServiceAccount", "NetworkPolicy", "DaemonSet"}; !slices.Equal(got, want) {
		t.Errorf("daemonset: %v, want %v", got, want)
	}
}

func TestNamesHoldTogether(t *testing.T) {
	for _, mode := range []Mode{Deployment, DaemonSet} {
		in := input(mode)
		in.Namespace, in.ServiceAccount = "elsewhere", "somebody"
		objs := objects(t, in)
		if find[*corev1.Namespace](t, objs).Name != "elsewhere" {
			t.Error("the namespace has another name")
		}
		for _, o := range objs[1:] {
			if m := o.(metav1.Object); m.GetNamespace() != "elsewhere" {
				t.Errorf("%T is in namespace %q", o, m.GetNamespace())
			}
		}
		pod := template(t, objs)
		if sa := find[*corev1.ServiceAccount](t, objs); sa.Name != "somebody" || pod.Spec.ServiceAccountName != sa.Name {
			t.Errorf("service account %q, pod's %q", sa.Name, pod.Spec.ServiceAccountName)
		}
		selectors := []map[string]string{find[*networkingv1.NetworkPolicy](t, objs).Spec.PodSelector.MatchLabels}
		if mode == Deployment {
			selectors = append(selectors,
				find[*appsv1.Deployment](t, objs).Spec.Selector.MatchLabels,
				find[*policyv1.PodDisruptionBudget](t, objs).Spec.Selector.MatchLabels)
		} else {
			selectors = append(selectors, find[*appsv1.DaemonSet](t, objs).Spec.Selector.MatchLabels)
		}
		for _, s := range selectors {
			if len(s) == 0 || !klabels.SelectorFromSet(s).Matches(klabels.Set(pod.Labels)) {
				t.Errorf("selector %v does not find the pod", s)
			}
		}
	}
}

func TestArchitecture(t *testing.T) {
	in := input(Deployment)
	if _, ok := template(t, objects(t, in)).Spec.NodeSelector["kubernetes.io/arch"]; ok {
		t.Error("an architecture nobody asked for")
	}
	in.Architecture = "arm64"
	if got := template(t, objects(t, in)).Spec.NodeSelector["kubernetes.io/arch"]; got != "arm64" {
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
	in.ClusterName = "${Token[TOKEN.8]}"
	c := template(t, objects(t, in)).Spec.Containers[0]
	for _, want := range []string{"${Token[TOKEN.123]}", "ekskms-cluster=${Token[TOKEN.7]}", "${Token[AWS.Region.6]}"} {
		if !slices.Contains(c.Args, want) {
			t.Errorf("args %q lack %q", c.Args, want)
		}
	}
	if c.Image != in.Image {
		t.Errorf("image %q", c.Image)
	}
	in.EncryptionContext = map[string]string{"k": "$(HOME)"}
	if c := template(t, objects(t, in)).Spec.Containers[0]; !slices.Contains(c.Args, "k=$$(HOME)") {
		t.Errorf("Kubernetes would expand %q", c.Args)
	}
}

// The real command judges every command line that the objects contain.
func TestArgsAreTheCommands(t *testing.T) {
	for _, mode := range []Mode{Deployment, DaemonSet} {
		in := input(mode)
		in.Region = "eu-central-1"
		c := template(t, objects(t, in)).Spec.Containers[0]
		if c.Command != nil {
			t.Errorf("the image's entry point is overridden: %q", c.Command)
		}
		if msg := badCommandLine(c.Args); msg != "" {
			t.Errorf("%q: %s", c.Args, msg)
		}
		for probe, path := range map[*corev1.Probe]string{c.StartupProbe: "/livez", c.LivenessProbe: "/livez", c.ReadinessProbe: "/readyz"} {
			if probe.HTTPGet == nil || probe.HTTPGet.Path != path || probe.HTTPGet.Port.StrVal != c.Ports[0].Name {
				t.Errorf("a probe asks %v, want %s of the health port", probe.ProbeHandler, path)
			}
		}
		if badCommandLine(append(slices.Clone(c.Args), "--sokcet-mode", "0600")) == "" {
			t.Error("a misspelt flag passes")
		}
		if badCommandLine(slices.Replace(slices.Clone(c.Args), 2, 3, "key/demo")) == "" {
			t.Error("half an ARN for a key passes")
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
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for _, mode := range []Mode{Deployment, DaemonSet} {
		objs := objects(t, input(mode))
		stream, err := YAML(objs)
		if err != nil {
			t.Fatal(err)
		}
		docs := bytes.Split(stream, []byte("---\n"))
		if len(docs) != len(objs) {
			t.Fatalf("%d documents of %d objects", len(docs), len(objs))
		}
		for i, doc := range docs {
			got, _, err := strict.Decode(doc, nil, nil)
			if err != nil {
				t.Fatalf("%T: %v", objs[i], err)
			}
			want, _ := json.Marshal(objs[i])
			back, _ := json.Marshal(got)
			if d := cmp.Diff(string(want), string(back)); d != "" {
				t.Errorf("%T changes on its way:\n%s", objs[i], d)
			}
		}
		wrong := bytes.Replace(stream, []byte("readOnlyRootFilesystem"), []byte("readOnlyRootFileSystem"), 1)
		failed := false
		for _, doc := range bytes.Split(wrong, []byte("---\n")) {
			_, _, err := strict.Decode(doc, nil, nil)
			failed = failed || err != nil && strings.Contains(err.Error(), "readOnlyRootFileSystem")
		}
		if !failed {
			t.Error("a misspelt field passes")
		}
	}
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
		"nothing":        {func(in *PluginInput) { *in = PluginInput{} }, "ClusterName is required\nEncryptionContext is required: the key policy allows nothing without it\nImage is required\nKeyARN is required"},
		"no context":     {func(in *PluginInput) { in.EncryptionContext = nil }, "EncryptionContext is required"},
		"bad context":    {func(in *PluginInput) { in.EncryptionContext = map[string]string{"a=b": "c"} }, `key "a=b"`},
		"mode":           {func(in *PluginInput) { in.Mode = "sidecar" }, `Mode is "sidecar", must be "deployment" or "daemonset"`},
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
		return is(p.Spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem, true)
	},
	"no privilege escalation": func(_ Mode, p *corev1.PodTemplateSpec) bool {
		return is(p.Spec.Containers[0].SecurityContext.AllowPrivilegeEscalation, false)
	},
	"not privileged": func(_ Mode, p *corev1.PodTemplateSpec) bool {
		return is(p.Spec.Containers[0].SecurityContext.Privileged, false)
	},
	"no capabilities": func(_ Mode, p *corev1.PodTemplateSpec) bool {
		c := p.Spec.Containers[0].SecurityContext.Capabilities
		return c != nil && slices.Equal(c.Drop, []corev1.Capability{"ALL"}) && len(c.Add) == 0
	},
	"seccomp": func(_ Mode, p *corev1.PodTemplateSpec) bool {
		s := p.Spec.Containers[0].SecurityContext.SeccompProfile
		return s != nil && s.Type == corev1.SeccompProfileTypeRuntimeDefault
	},
	"no root user": func(m Mode, p *corev1.PodTemplateSpec) bool {
		s := p.Spec.SecurityContext
		return m == DaemonSet || is(s.RunAsNonRoot, true) && is(s.RunAsUser, 65532) && is(s.RunAsGroup, 65532)
	},
	"no host namespaces": func(_ Mode, p *corev1.PodTemplateSpec) bool {
		return !p.Spec.HostNetwork && !p.Spec.HostPID && !p.Spec.HostIPC
	},
	"no API token":     func(_ Mode, p *corev1.PodTemplateSpec) bool { return is(p.Spec.AutomountServiceAccountToken, false) },
	"no service links": func(_ Mode, p *corev1.PodTemplateSpec) bool { return is(p.Spec.EnableServiceLinks, false) },
	"memory limit": func(_ Mode, p *corev1.PodTemplateSpec) bool {
		return !p.Spec.Containers[0].Resources.Limits.Memory().IsZero()
	},
	"one volume": func(m Mode, p *corev1.PodTemplateSpec) bool {
		if len(p.Spec.Volumes) != 1 {
			return false
		}
		v := p.Spec.Volumes[0]
		if m == DaemonSet {
			return v.HostPath != nil && v.HostPath.Path == "/var/run/kms-plugin"
		}
		return v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory
	},
	"restricted level": func(m Mode, p *corev1.PodTemplateSpec) bool {
		return m == DaemonSet || len(violations(p)) == 0
	},
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
	for _, mode := range []Mode{Deployment, DaemonSet} {
		if bad := failing(mode, template(t, objects(t, input(mode)))); len(bad) > 0 {
			t.Errorf("%s: %q", mode, bad)
		}
	}
	// What hostPath costs the DaemonSet at the restricted level, and no more.
	got := violations(template(t, objects(t, input(DaemonSet))))
	slices.Sort(got)
	want := []string{"restricted volume types", "runAsNonRoot != true", "runAsUser=0"}
	if !slices.Equal(got, want) {
		t.Errorf("the DaemonSet violates %q, want %q", got, want)
	}
	level := func(m Mode) string {
		return find[*corev1.Namespace](t, objects(t, input(m))).Labels["pod-security.kubernetes.io/enforce"]
	}
	if level(Deployment) != "restricted" || level(DaemonSet) != "privileged" {
		t.Errorf("namespaces enforce %s and %s", level(Deployment), level(DaemonSet))
	}
}

// Break one thing, and the check of that name fails: a check that can't fail is
// none.
func TestMutations(t *testing.T) {
	container := func(p *corev1.PodTemplateSpec) *corev1.SecurityContext { return p.Spec.Containers[0].SecurityContext }
	for _, m := range []struct {
		check  string
		mutate func(*corev1.PodTemplateSpec)
	}{
		{"read-only root", func(p *corev1.PodTemplateSpec) { container(p).ReadOnlyRootFilesystem = nil }},
		{"no privilege escalation", func(p *corev1.PodTemplateSpec) { container(p).AllowPrivilegeEscalation = nil }},
		{"not privileged", func(p *corev1.PodTemplateSpec) { container(p).Privileged = ptr(true) }},
		{"no capabilities", func(p *corev1.PodTemplateSpec) { container(p).Capabilities = nil }},
		{"no capabilities", func(p *corev1.PodTemplateSpec) { container(p).Capabilities.Add = []corev1.Capability{"SYS_ADMIN"} }},
		{"seccomp", func(p *corev1.PodTemplateSpec) { container(p).SeccompProfile = nil }},
		{"no root user", func(p *corev1.PodTemplateSpec) { p.Spec.SecurityContext.RunAsUser = ptr(int64(0)) }},
		{"no host namespaces", func(p *corev1.PodTemplateSpec) { p.Spec.HostNetwork = true }},
		{"no API token", func(p *corev1.PodTemplateSpec) { p.Spec.AutomountServiceAccountToken = nil }},
		{"no service links", func(p *corev1.PodTemplateSpec) { p.Spec.EnableServiceLinks = nil }},
		{"memory limit", func(p *corev1.PodTemplateSpec) { p.Spec.Containers[0].Resources.Limits = nil }},
		{"one volume", func(p *corev1.PodTemplateSpec) {
			p.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}
		}},
		{"restricted level", func(p *corev1.PodTemplateSpec) { p.Spec.SecurityContext.RunAsNonRoot = nil }},
	} {
		p := template(t, objects(t, input(Deployment)))
		m.mutate(p)
		if bad := failing(Deployment, p); !slices.Contains(bad, m.check) {
			t.Errorf("%q does not notice; failing: %q", m.check, bad)
		}
	}
}
