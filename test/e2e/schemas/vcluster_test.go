package schemas

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"github.com/ekskms/ekskms/internal/manifest"
)

// render does what `helm template` does with vCluster's chart: it holds the values
// to the chart's schema and returns the objects, decoded strictly.
func render(t *testing.T, values map[string]any) (objects []runtime.Object, err error) {
	t.Helper()
	chart, err := loader.LoadDir(filepath.Join(vCluster.dir(t), "chart"))
	if err != nil {
		t.Fatal(err)
	}
	if len(chart.Schema) == 0 {
		t.Fatal("the chart has no schema")
	}
	options := chartutil.ReleaseOptions{Name: "team-a", Namespace: "hosted", IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, values, options, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for name, text := range files {
		if strings.TrimSpace(text) == "" || path.Ext(name) != ".yaml" {
			continue
		}
		for _, doc := range strings.Split("\n"+text, "\n---\n") {
			if strings.TrimSpace(doc) == "" {
				continue
			}
			o, _, err := strict.Decode([]byte(doc), nil, nil)
			if err != nil {
				return nil, err
			}
			objects = append(objects, o)
		}
	}
	return objects, nil
}

func find[T runtime.Object](t *testing.T, objects []runtime.Object, now func(T) bool) T {
	t.Helper()
	for _, o := range objects {
		if o, ok := o.(T); ok && now(o) {
			return o
		}
	}
	t.Fatalf("no such %T", *new(T))
	return *new(T)
}

// TestVCluster: vCluster's own chart puts the plugin where it is meant to be.
func TestVCluster(t *testing.T) {
	objects, err := render(t, generated(t, manifest.VCluster)[0])
	if err != nil {
		t.Fatal(err)
	}
	set := find(t, objects, func(s *appsv1.StatefulSet) bool { return s.Name == "team-a" })
	pod := set.Spec.Template.Spec
	if pod.ServiceAccountName != "api-server" {
		t.Errorf("the pod's service account is %q", pod.ServiceAccountName)
	}
	find(t, objects, func(s *corev1.ServiceAccount) bool { return s.Name == "api-server" })

	i := slices.IndexFunc(pod.InitContainers, func(c corev1.Container) bool { return c.Name == "kms-plugin" })
	if i < 0 || pod.InitContainers[i].RestartPolicy == nil || *pod.InitContainers[i].RestartPolicy != corev1.ContainerRestartPolicyAlways {
		t.Fatalf("no native sidecar among %d init containers", len(pod.InitContainers))
	}
	volumes := map[string]corev1.Volume{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = v
	}
	for _, c := range append(pod.InitContainers, pod.Containers...) {
		for _, m := range c.VolumeMounts {
			if _, ok := volumes[m.Name]; !ok && m.Name != "data" {
				t.Errorf("%s mounts %s, which does not exist", c.Name, m.Name)
			}
		}
		for _, p := range c.Ports {
			if c.Name != "kms-plugin" && p.ContainerPort == pod.InitContainers[i].Ports[0].ContainerPort {
				t.Errorf("%s listens on the plugin's port %d", c.Name, p.ContainerPort)
			}
		}
	}
	// The API server runs in the container of the syncer, as the user of which the
	// group may use the socket.
	syncer := pod.Containers[0]
	mounted := map[string]string{}
	for _, m := range syncer.VolumeMounts {
		mounted[m.MountPath] = m.Name
	}
	plugin := pod.InitContainers[i].SecurityContext
	if user := syncer.SecurityContext; user == nil || user.RunAsGroup == nil || *user.RunAsGroup != *plugin.RunAsGroup {
		t.Errorf("the API server runs as %+v, the plugin's group is %d", user, *plugin.RunAsGroup)
	}
	if mounted["/run/kms-plugin"] != pod.InitContainers[i].VolumeMounts[0].Name {
		t.Error("the API server does not have the plugin's socket")
	}
	config := find(t, objects, func(c *corev1.ConfigMap) bool { return c.Data["encryption.yaml"] != "" })
	if v := volumes[mounted["/etc/ekskms"]]; v.ConfigMap == nil || v.ConfigMap.Name != config.Name || config.Namespace != "hosted" {
		t.Errorf("the API server mounts %+v, the ConfigMap is %s of %s", v.ConfigMap, config.Name, config.Namespace)
	}
	// vCluster hands its configuration, flags of the API server included, to itself.
	find(t, objects, func(s *corev1.Secret) bool {
		return strings.Contains(string(s.Data["config.yaml"])+s.StringData["config.yaml"], "--encryption-provider-config=/etc/ekskms/encryption.yaml")
	})
}

func TestMisspeltValues(t *testing.T) {
	for _, field := range []string{
		"controlPlane", "advanced", "serviceAccount", "distro", "k8s", "apiServer", "extraArgs",
		"statefulSet", "initContainers", "persistence", "addVolumes", "addVolumeMounts", "experimental", "deploy", "host", "manifests",
		"restartPolicy", "startupProbe", "mountPath", // which only Kubernetes' own types know
	} {
		values := generated(t, manifest.VCluster)[0]
		if respell(values, field, field+"x") == 0 {
			t.Errorf("nothing to misspell: there is no %s", field)
		}
		if _, err := render(t, values); err == nil || !strings.Contains(err.Error(), field+"x") {
			t.Errorf("%sx passes: %v", field, err)
		}
	}
}
