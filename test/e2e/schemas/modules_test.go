// Package schemas holds what is generated for other projects to what these
// projects publish: their schemas, charts and Go types.
package schemas

import (
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/ekskms/ekskms/internal/manifest"
)

// The releases that are judged by. Their files are taken from the modules' own
// archives: to import these modules would bring in everything that they need.
var (
	vCluster = release{"github.com/loft-sh/vcluster", "v0.30.0", "h1:fdnasGlrBtCMBoFKR3tszkeOHA4dB5sqMr5l//eQnMQ="}
	kamaji   = release{"github.com/clastix/kamaji", "v1.0.0", "h1:QY99C2qA3LpvVCKRxZcE96/uKf5Fd7hNpjJ676jrIBY="}
	karmada  = release{"github.com/karmada-io/karmada", "v1.16.0", "h1:RD58HD7xp0+FKDWkJRygBsN/ht3k7gbBZa0xBzWSio4="}
)

// release is a version of a Go module, with its hash as go.sum has it.
type release struct{ path, version, sum string }

// dir fetches the module, if it is not in the module cache, and returns its folder.
func (r release) dir(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", r.path+"@"+r.version)
	cmd.Dir = t.TempDir() // outside of any module, whose go.mod it would look at
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	out, err := cmd.Output()
	var module struct{ Dir, Sum, Error string }
	if jsonErr := json.Unmarshal(out, &module); err != nil || jsonErr != nil || module.Error != "" {
		t.Fatalf("%s@%s: %v %v %s", r.path, r.version, err, jsonErr, module.Error)
	}
	if module.Sum != r.sum {
		t.Fatalf("%s@%s has the hash %s, want %s", r.path, r.version, module.Sum, r.sum)
	}
	return module.Dir
}

func input(host manifest.Host) manifest.SidecarInput {
	in := manifest.SidecarInput{
		Tenant: "team-a", Namespace: "hosted", ServiceAccount: "api-server",
		KeyARN:            "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		Image:             "registry.example.com/kms-plugin:v1",
		EncryptionContext: map[string]string{"ekskms:tenant": "team-a"},
	}
	switch host {
	case manifest.Karmada:
		in.ServiceAccount = "default"
	case manifest.Generic:
		in.Workload, in.Container = "deployment/team-a", "kube-apiserver"
	}
	return in
}

// generated is what there is for a host, as the user has it: in YAML and back.
func generated(t *testing.T, host manifest.Host) []map[string]any {
	t.Helper()
	values, err := manifest.Sidecars(input(host), host)
	if err != nil {
		t.Fatal(err)
	}
	return plain(t, values)
}

func plain(t *testing.T, values []any) (list []map[string]any) {
	t.Helper()
	for _, v := range values {
		text, err := manifest.YAML([]any{v})
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := yaml.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		list = append(list, m)
	}
	return list
}

// respell renames a field at every depth and says how often.
func respell(v any, from, to string) (n int) {
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			n += respell(e, from, to)
		}
		if e, ok := v[from]; ok {
			delete(v, from)
			v[to] = e
			n++
		}
	case []any:
		for _, e := range v {
			n += respell(e, from, to)
		}
	}
	return n
}
