package schemas

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"sigs.k8s.io/yaml"

	"github.com/ekskms/ekskms/internal/manifest"
)

// customResource is what a project makes its control planes of, and the least that
// one needs beside what is generated.
type customResource struct {
	release release
	file    string
	least   string
}

var customResources = map[manifest.Host]customResource{
	manifest.Kamaji: {kamaji, "charts/kamaji/crds/tenantcontrolplane.yaml", `
spec:
  kubernetes: {version: v1.30.2, kubelet: {}}
  controlPlane: {service: {serviceType: ClusterIP}}
`},
	manifest.Karmada: {karmada, "operator/config/crds/operator.karmada.io_karmadas.yaml", `
spec: {components: {etcd: {local: {volumeData: {emptyDir: {}}}}}}
`},
}

// faults does with an object what the API server does with one of this custom
// resource under strict validation.
func (r customResource) faults(t *testing.T, object map[string]any) (faults []string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(r.release.dir(t), r.file))
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(data, &crd); err != nil {
		t.Fatal(err)
	}
	if kind := crd.Spec.Names.Kind; kind != object["kind"] {
		t.Fatalf("%s is of kind %s, the object of kind %v", r.file, kind, object["kind"])
	}
	i := slices.IndexFunc(crd.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool {
		return v.Served && crd.Spec.Group+"/"+v.Name == object["apiVersion"]
	})
	if i < 0 {
		return []string{fmt.Sprintf("there is no %v", object["apiVersion"])}
	}
	var props apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(crd.Spec.Versions[i].Schema.OpenAPIV3Schema, &props, nil); err != nil {
		t.Fatal(err)
	}
	structural, err := schema.NewStructural(&props)
	if err != nil {
		t.Fatal(err)
	}
	unknown := pruning.PruneWithOptions(object, structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	for _, field := range unknown {
		faults = append(faults, "unknown field "+field)
	}
	defaulting.Default(object, structural)
	validator, _, err := validation.NewSchemaValidator(&props)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range validation.ValidateCustomResource(nil, object, validator) {
		faults = append(faults, e.Error())
	}
	return faults
}

// whole is the generated part in an object that has the least beside it.
func (r customResource) whole(t *testing.T, host manifest.Host) map[string]any {
	t.Helper()
	var object map[string]any
	if err := yaml.Unmarshal([]byte(r.least), &object); err != nil {
		t.Fatal(err)
	}
	parts := generated(t, host)
	merge(object, parts[len(parts)-1])
	return object
}

func merge(into, from map[string]any) {
	for k, v := range from {
		a, isMap := into[k].(map[string]any)
		b, both := v.(map[string]any)
		if isMap && both {
			merge(a, b)
		} else {
			into[k] = v
		}
	}
}

func TestCustomResources(t *testing.T) {
	for host, r := range customResources {
		if faults := r.faults(t, r.whole(t, host)); len(faults) > 0 {
			t.Errorf("%s: %q", host, faults)
		}
	}
}

// Each field misspelt once is found: the schemas do not let everything pass.
func TestMisspeltCustomResources(t *testing.T) {
	for host, fields := range map[manifest.Host][]string{
		manifest.Kamaji: {
			"controlPlane", "deployment", "serviceAccountName", "additionalInitContainers", "additionalVolumes", "additionalVolumeMounts",
			"extraArgs", "apiServer", "restartPolicy", "startupProbe", "readOnlyRootFilesystem", "mountPath", "sizeLimit", "configMap",
		},
		manifest.Karmada: {
			"components", "karmadaAPIServer", "extraArgs", "extraVolumes", "extraVolumeMounts", "sidecarContainers",
			"startupProbe", "readOnlyRootFilesystem", "mountPath", "sizeLimit", "configMap",
		},
	} {
		r := customResources[host]
		for _, field := range fields {
			object := r.whole(t, host)
			if respell(object, field, field+"x") == 0 {
				t.Errorf("%s: nothing to misspell, there is no %s", host, field)
			}
			if faults := strings.Join(r.faults(t, object), "\n"); !strings.Contains(faults, field+"x") {
				t.Errorf("%s: %sx passes, faults: %s", host, field, faults)
			}
		}
		object := r.whole(t, host)
		object["spec"] = "text"
		if len(r.faults(t, object)) == 0 {
			t.Errorf("%s: a spec that is a text passes", host)
		}
	}
}
