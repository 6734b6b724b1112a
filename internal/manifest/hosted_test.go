package manifest

import (
	"encoding/json"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

func sidecarInput(host Host) SidecarInput {
	in := SidecarInput{
		Tenant:         "team-a",
		Namespace:      "team-a",
		ServiceAccount: "api-server",
		KeyARN:         "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		Image:          "example.com/kms-plugin:v1",
		EncryptionContext: map[string]string{
			"ekskms:cluster-arn": "arn:aws:eks:eu-central-1:111122223333:cluster/demo",
			"ekskms:tenant":      "team-a",
		},
	}
	switch host {
	case Karmada:
		in.ServiceAccount = "default"
	case Generic:
		in.Workload, in.Container = "deployment/team-a-apiserver", "kube-apiserver"
	}
	return in
}

func sidecars(t *testing.T, host Host) []any {
	t.Helper()
	objs, err := Sidecars(sidecarInput(host), host)
	if err != nil {
		t.Fatal(err)
	}
	return objs
}

// hostedPod is an API server's pod at the restricted level, with the sidecar in it
// as server-side apply would merge it: lists by name.
func hostedPod(t *testing.T) *corev1.PodTemplateSpec {
	t.Helper()
	text, err := YAML(sidecars(t, Generic)[1:])
	if err != nil {
		t.Fatal(err)
	}
	part, err := decodeStrict(text)
	if err != nil {
		t.Fatal(err)
	}
	p := part.(*appsv1.Deployment).Spec.Template
	server := &p.Spec.Containers[0]
	server.Image = "registry.k8s.io/kube-apiserver:v1.36.1"
	server.VolumeMounts = append(server.VolumeMounts, corev1.VolumeMount{Name: "pki", MountPath: "/etc/kubernetes/pki"})
	server.SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr(false),
		RunAsNonRoot:             ptr(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	p.Spec.Volumes = append(p.Spec.Volumes,
		corev1.Volume{Name: "pki", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "pki"}}})
	return &p
}

func staticPod(t *testing.T) *corev1.Pod {
	t.Helper()
	p, err := StaticPods(StaticPodInput{
		ClusterName:       "demo",
		KeyARN:            "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		Image:             "example.com/kms-plugin:v1",
		EncryptionContext: map[string]string{"ekskms:cluster-arn": "arn:aws:eks:eu-central-1:111122223333:cluster/demo"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func migrations(t *testing.T) []runtime.Object {
	t.Helper()
	objs, err := Migrations([]string{"secrets", "pandas.example.com"}, "")
	if err != nil {
		t.Fatal(err)
	}
	return objs
}

func TestHostedGoldens(t *testing.T) {
	for _, host := range Hosts() {
		t.Run(string(host), func(t *testing.T) { golden(t, "sidecar-"+string(host), sidecars(t, host)) })
	}
	t.Run("static pod", func(t *testing.T) { golden(t, "static-pod", []any{staticPod(t), Kubeadm()}) })
	t.Run("migration", func(t *testing.T) { golden(t, "migration", migrations(t)) })
}

// The same container, volumes and mounts reach every host, whatever its fields are
// called.
func TestEveryHostGetsTheSame(t *testing.T) {
	for _, host := range Hosts() {
		in := sidecarInput(host)
		text, err := YAML(sidecars(t, host))
		if err != nil {
			t.Fatal(err)
		}
		in.HealthPort = DefaultSidecarHealthPort
		parts := map[string]any{"container": in.container(host != Karmada), "volumes": in.volumes(), "mounts": in.mounts()}
		for name, part := range parts {
			if !holds(t, text, part) {
				t.Errorf("%s lacks the %s", host, name)
			}
		}
		native := strings.Contains(string(text), "restartPolicy: Always")
		if native != (host != Karmada) {
			t.Errorf("%s: a native sidecar: %v", host, native)
		}
	}
}

// holds says whether a part stands somewhere in a stream of documents.
func holds(t *testing.T, stream []byte, part any) bool {
	t.Helper()
	want, err := json.Marshal(part)
	if err != nil {
		t.Fatal(err)
	}
	var found func(v any) bool
	found = func(v any) bool {
		if got, err := json.Marshal(v); err == nil && string(got) == normal(t, want) {
			return true
		}
		switch v := v.(type) {
		case map[string]any:
			for _, e := range v {
				if found(e) {
					return true
				}
			}
		case []any:
			for _, e := range v {
				if found(e) {
					return true
				}
			}
		}
		return false
	}
	for _, doc := range strings.Split(string(stream), "---\n") {
		var v any
		if err := yaml.Unmarshal([]byte(doc), &v); err != nil {
			t.Fatal(err)
		}
		if found(v) {
			return true
		}
	}
	return false
}

// normal is JSON with its keys in order.
func normal(t *testing.T, data []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The API server and the plugin see one socket, and the file that the flag names is
// where the ConfigMap is mounted.
func TestSocketAndFileMeet(t *testing.T) {
	mounts := map[string]map[string]string{} // container, path, volume
	p := hostedPod(t)
	for _, c := range append(p.Spec.Containers, p.Spec.InitContainers...) {
		mounts[c.Name] = map[string]string{}
		for _, m := range c.VolumeMounts {
			mounts[c.Name][m.MountPath] = m.Name
			if c.Name == "kube-apiserver" && m.Name != "pki" && !m.ReadOnly {
				t.Errorf("the API server may write to %s", m.Name)
			}
		}
	}
	if s := mounts["kms-plugin"]["/run/kms-plugin"]; s == "" || s != mounts["kube-apiserver"]["/run/kms-plugin"] {
		t.Errorf("the socket's folder is %q for the plugin, %q for the API server", s, mounts["kube-apiserver"]["/run/kms-plugin"])
	}
	v := volume(p, mounts["kube-apiserver"]["/etc/ekskms"])
	config := sidecars(t, Generic)[0].(*corev1.ConfigMap)
	if v.ConfigMap.Name != config.Name || config.Data["encryption.yaml"] == "" {
		t.Errorf("the API server mounts the ConfigMap %q, with %d keys is %q", v.ConfigMap.Name, len(config.Data), config.Name)
	}
	if f := APIServerFlags()[0].String(); f != "--encryption-provider-config=/etc/ekskms/encryption.yaml" {
		t.Errorf("the flag is %s", f)
	}
	mounted := Kubeadm()["apiServer"].(fields)["extraVolumes"].([]fields)
	for i, want := range [][2]string{{"/run/kms-plugin", "/var/run/kms-plugin"}, {"/etc/ekskms", "/etc/kubernetes/ekskms"}} {
		if m := mounted[i]; len(mounted) != 2 || m["mountPath"] != want[0] || m["hostPath"] != want[1] || m["readOnly"] != true {
			t.Errorf("kubeadm mounts %v", mounted)
		}
	}
	if hp := staticPod(t).Spec.Volumes[0].HostPath; hp.Path != mounted[0]["hostPath"] {
		t.Errorf("the static pod's socket is in %s", hp.Path)
	}
}

func TestSidecarGroup(t *testing.T) {
	in := sidecarInput(Kamaji)
	in.APIServerGroup = 2000
	c := in.container(true)
	if !is(c.SecurityContext.RunAsGroup, 2000) || !is(c.SecurityContext.RunAsUser, 65532) {
		t.Errorf("runs as %d:%d", *c.SecurityContext.RunAsUser, *c.SecurityContext.RunAsGroup)
	}
}

func TestSidecarErrors(t *testing.T) {
	for name, c := range map[string]struct {
		host   Host
		change func(*SidecarInput)
		want   string
	}{
		"nothing":            {Kamaji, func(in *SidecarInput) { *in = SidecarInput{} }, "EncryptionContext is required"},
		"no key":             {VCluster, func(in *SidecarInput) { in.KeyARN = "" }, "KeyARN is required"},
		"tenant":             {VCluster, func(in *SidecarInput) { in.Tenant = "Team" }, `Tenant is "Team"`},
		"service account":    {Kamaji, func(in *SidecarInput) { in.ServiceAccount = "a/b" }, `ServiceAccount is "a/b"`},
		"karmada's account":  {Karmada, func(in *SidecarInput) { in.ServiceAccount = "api" }, `ServiceAccount is "api", must be "default"`},
		"no workload":        {Generic, func(in *SidecarInput) { in.Workload = "" }, `workload is "", must be deployment/NAME or statefulset/NAME`},
		"a pod":              {Generic, func(in *SidecarInput) { in.Workload = "pod/a" }, `workload is "pod/a"`},
		"no container":       {Generic, func(in *SidecarInput) { in.Container = "" }, `container is ""`},
		"surplus workload":   {Kamaji, func(in *SidecarInput) { in.Workload = "deployment/a" }, `are for "generic"`},
		"port":               {Kamaji, func(in *SidecarInput) { in.HealthPort = 70000 }, "HealthPort is 70000, must be 1 to 65535"},
		"group":              {Kamaji, func(in *SidecarInput) { in.APIServerGroup = -1 }, "APIServerGroup is -1, must be 0 or more"},
		"endpoint":           {Kamaji, func(in *SidecarInput) { in.Encryption.Endpoint = "unix:///a" }, "must be empty"},
		"resources":          {Kamaji, func(in *SidecarInput) { in.Encryption.Resources = []string{"Secrets"} }, `resource "Secrets"`},
		"HyperShift":         {"hypershift", func(*SidecarInput) {}, `host is "hypershift", must be one of`},
		"control plane name": {Kamaji, func(in *SidecarInput) { in.ControlPlane = "A" }, `ControlPlane is "A"`},
	} {
		in := sidecarInput(c.host)
		c.change(&in)
		if _, err := Sidecars(in, c.host); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
	if _, err := StaticPods(StaticPodInput{HealthPort: -1}); err == nil || !strings.Contains(err.Error(), "ClusterName is required\nEncryptionContext is required") {
		t.Errorf("a static pod of nothing: %v", err)
	}
}
