package cluster

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/restmapper"
)

// Account is the AWS account that templates are resolved for.
const Account = "111122223333"

// Synthesize runs ekskms synth and returns the Kubernetes objects of its
// template, in the order in which they stand there. Where the template has the
// ARN of its key, they have keyARN.
func Synthesize(t testing.TB, config, keyARN string) []*unstructured.Unstructured {
	t.Helper()
	out := t.TempDir()
	cmd := exec.Command(Binary(t, "ekskms"), "synth", "--file", config, "--out", out)
	if log, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ekskms synth: %v\n%s", err, log)
	}
	templates, err := filepath.Glob(filepath.Join(out, "*.template.json"))
	if err != nil || len(templates) == 0 {
		t.Fatalf("no template in %s: %v", out, err)
	}
	var objects []*unstructured.Unstructured
	for _, file := range templates {
		data, err := os.ReadFile(file)
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
		for _, id := range slices.Sorted(maps.Keys(template.Resources)) {
			r := template.Resources[id]
			if r.Type != "Custom::AWSCDK-EKS-KubernetesResource" {
				continue
			}
			text := resolve(t, r.Properties["Manifest"], keyARN)
			var list []map[string]any
			if err := json.Unmarshal([]byte(text), &list); err != nil {
				t.Fatalf("%s: %v in %s", id, err, text)
			}
			for _, o := range list {
				objects = append(objects, &unstructured.Unstructured{Object: o})
			}
		}
	}
	return objects
}

// resolve does what CloudFormation does with a value of the template.
func resolve(t testing.TB, value any, keyARN string) string {
	t.Helper()
	switch v := value.(type) {
	case string:
		return v
	case map[string]any:
		if ref, ok := v["Ref"].(string); ok {
			if known, ok := map[string]string{
				"AWS::AccountId": Account, "AWS::Region": Region, "AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com",
			}[ref]; ok {
				return known
			}
			return "ref-" + strings.ToLower(ref)
		}
		if _, ok := v["Fn::GetAtt"]; ok {
			return keyARN
		}
		if sub, ok := v["Fn::Sub"].(string); ok {
			return strings.NewReplacer("${AWS::AccountId}", Account, "${AWS::Region}", Region, "${AWS::URLSuffix}", "amazonaws.com", "${AWS::Partition}", "aws").Replace(sub)
		}
		if join, ok := v["Fn::Join"].([]any); ok {
			var parts []string
			for _, part := range join[1].([]any) {
				parts = append(parts, resolve(t, part, keyARN))
			}
			return strings.Join(parts, join[0].(string))
		}
	}
	t.Fatalf("the test can't resolve %v", value)
	return ""
}

// Apply is kubectl apply --server-side --validate=strict.
func (c *Cluster) Apply(ctx context.Context, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if c.mapper == nil {
		c.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.Kubernetes().Discovery()))
	}
	mapping, err := c.mapper.RESTMapping(o.GroupVersionKind().GroupKind(), o.GroupVersionKind().Version)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	return c.Dynamic().Resource(mapping.Resource).Namespace(o.GetNamespace()).Patch(ctx, o.GetName(), types.ApplyPatchType, data,
		metav1.PatchOptions{FieldManager: "test", FieldValidation: metav1.FieldValidationStrict})
}
