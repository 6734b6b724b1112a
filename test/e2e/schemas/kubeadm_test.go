package schemas

import (
	"strings"
	"testing"

	"k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/v1beta4"
	"sigs.k8s.io/yaml"

	"github.com/ekskms/ekskms/internal/manifest"
)

// TestKubeadm decodes the ClusterConfiguration strictly into kubeadm's own type.
func TestKubeadm(t *testing.T) {
	text, err := manifest.YAML([]any{manifest.Kubeadm()})
	if err != nil {
		t.Fatal(err)
	}
	var c v1beta4.ClusterConfiguration
	if err := yaml.UnmarshalStrict(text, &c); err != nil {
		t.Fatal(err)
	}
	if c.APIVersion != v1beta4.SchemeGroupVersion.String() || c.Kind != "ClusterConfiguration" {
		t.Errorf("it is a %s of %s", c.Kind, c.APIVersion)
	}
	if len(c.APIServer.ExtraArgs) != 2 || len(c.APIServer.ExtraVolumes) != 2 {
		t.Errorf("%d flags and %d volumes arrive", len(c.APIServer.ExtraArgs), len(c.APIServer.ExtraVolumes))
	}
	for _, field := range []string{"apiServer", "extraArgs", "extraVolumes", "hostPath", "mountPath", "pathType", "readOnly", "value"} {
		wrong := strings.Replace(string(text), field+":", field+"x:", 1)
		if err := yaml.UnmarshalStrict([]byte(wrong), &v1beta4.ClusterConfiguration{}); err == nil || !strings.Contains(err.Error(), field+"x") {
			t.Errorf("%sx passes: %v", field, err)
		}
	}
}
