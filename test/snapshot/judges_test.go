//go:build !race

package snapshot

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/internal/synth"
)

// TestValidator has CDK's own validator judge every template.
func TestValidator(t *testing.T) {
	files, err := configurations()
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range files {
		t.Run(name, func(t *testing.T) {
			_, report, err := synthesize(t.TempDir(), file, true)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range report.Findings {
				if f.IsError() {
					t.Errorf("%s: %s (%v)", f.Rule, f.Message, f.Where)
				}
			}
		})
	}
}

// TestValidatorFinds is the control: the same validator in the same set-up
// refuses a key whose rotation period KMS would refuse.
func TestValidatorFinds(t *testing.T) {
	dir := t.TempDir()
	if err := synth.StartKernel(true); err != nil {
		t.Fatal(err)
	}
	appContext := synth.Context()
	appContext["@aws-cdk/core:failSynthOnValidationErrors"] = false
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(dir), Context: &appContext})
	stack := awscdk.NewStack(app, jsii.String("Broken"), nil)
	key := awskms.NewKey(stack, jsii.String("Key"), nil)
	key.Node().DefaultChild().(awskms.CfnKey).AddPropertyOverride(jsii.String("RotationPeriodInDays"), 30)
	app.Synth(nil)
	report, err := synth.ReadReport(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(report.Findings, synth.Finding.IsError) {
		t.Errorf("the validator finds nothing wrong with a rotation period of 30 days: %v", report.Findings)
	}
}

// decodeStrictly has client-go read an object, which refuses a field that the
// Kubernetes API does not have.
func decodeStrictly(object any) (runtime.Object, error) {
	data, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	decoded, _, err := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).
		UniversalDeserializer().Decode(data, nil, nil)
	return decoded, err
}

// withoutTypes are kinds of EKS Auto Mode, of which there are no types in Go: the golden
// files have them, and a property looks at the key.
var withoutTypes = []string{"eks.amazonaws.com/v1 NodeClass", "karpenter.sh/v1 NodePool"}

func TestManifestsDecodeStrictly(t *testing.T) {
	for name, template := range templates {
		objects := template.kubernetesObjects()
		if len(objects) < 4 {
			t.Errorf("%s: found %d Kubernetes objects", name, len(objects))
		}
		for _, object := range objects {
			if slices.Contains(withoutTypes, text(at(object, "apiVersion"))+" "+text(at(object, "kind"))) {
				continue
			}
			if _, err := decodeStrictly(object); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	misspelt := templates["default"].clone()
	inManifest(`"readOnlyRootFilesystem"`, `"readonlyRootFilesystem"`)(misspelt)
	refused := false
	for _, object := range misspelt.kubernetesObjects() {
		_, err := decodeStrictly(object)
		refused = refused || err != nil
	}
	if !refused {
		t.Error("a misspelt field passes")
	}
}

var subReference = regexp.MustCompile(`\$\{([A-Za-z0-9]+)(\.[A-Za-z.]+)?\}`)

// references collects the logical IDs that a value refers to.
func references(value any, into map[string]bool) {
	switch v := value.(type) {
	case []any:
		for _, e := range v {
			references(e, into)
		}
	case resource:
		references(map[string]any(v), into)
	case map[string]any:
		if ref, ok := v["Ref"].(string); ok {
			into[ref] = true
		}
		if getAtt, ok := v["Fn::GetAtt"].([]any); ok {
			into[getAtt[0].(string)] = true
		}
		if sub, ok := v["Fn::Sub"].(string); ok {
			for _, m := range subReference.FindAllStringSubmatch(sub, -1) {
				into[m[1]] = true
			}
		}
		for key, e := range v {
			if key == "DependsOn" {
				for _, id := range list(e) {
					into[id.(string)] = true
				}
				continue
			}
			references(e, into)
		}
	}
}

// cycle returns a circle of resources that wait for each other, or nil.
func (t template) cycle() []string {
	needs := map[string][]string{}
	for id, r := range t.resources() {
		found := map[string]bool{}
		references(r, found)
		for _, other := range slices.Sorted(maps.Keys(found)) {
			if _, ok := t.resources()[other]; ok {
				needs[id] = append(needs[id], other)
			}
		}
	}
	const visiting, done = 1, 2
	state := map[string]int{}
	var path []string
	var visit func(string) []string
	visit = func(id string) []string {
		switch state[id] {
		case done:
			return nil
		case visiting:
			return append(path[slices.Index(path, id):], id)
		}
		state[id] = visiting
		path = append(path, id)
		for _, next := range needs[id] {
			if circle := visit(next); circle != nil {
				return circle
			}
		}
		path = path[:len(path)-1]
		state[id] = done
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(needs)) {
		if circle := visit(id); circle != nil {
			return circle
		}
	}
	return nil
}

// TestNoCircle: CloudFormation refuses a template whose resources wait for each
// other, and CDK does not look for that.
func TestNoCircle(t *testing.T) {
	for name, template := range templates {
		if circle := template.cycle(); circle != nil {
			t.Errorf("%s: %s", name, strings.Join(circle, " -> "))
		}
	}
	broken := templates["default"].clone()
	set(broken.secretsKey(), "Properties.Description", map[string]any{"Fn::GetAtt": []any{"EncryptedClusterA9297881", "Arn"}})
	if broken.cycle() == nil {
		t.Error("a key that waits for its cluster passes")
	}
}

// TestKeyPolicyComesFirst: the key, and with it its whole policy, is there
// before the cluster; so is all that the policy names.
func TestKeyPolicyComesFirst(t *testing.T) {
	template := templates["default"]
	before := map[string]bool{}
	var visit func(id string)
	visit = func(id string) {
		found := map[string]bool{}
		references(template.resources()[id], found)
		for other := range found {
			if _, ok := template.resources()[other]; ok && !before[other] {
				before[other] = true
				visit(other)
			}
		}
	}
	visit("EncryptedClusterA9297881")
	for _, id := range []string{"SecretsKeyE4821A66", template.pluginRole()} {
		if !before[id] {
			t.Errorf("the cluster does not wait for %s", id)
		}
	}
	if before[template.ofType("AWS::EKS::PodIdentityAssociation")[0]] {
		t.Error("the cluster waits for what needs the cluster")
	}
}

// TestPartitions synthesizes for every partition, and for none in particular.
func TestPartitions(t *testing.T) {
	arn := regexp.MustCompile(`arn:aws[a-z-]*:`)
	for _, test := range []struct{ name, region, allowed string }{
		{"any", "", ""},
		{"aws-us-gov", "us-gov-west-1", "arn:aws-us-gov:"},
		{"aws-cn", "cn-north-1", "arn:aws-cn:"},
		{"aws", "eu-central-1", "arn:aws:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			yaml := "clusters:\n  - name: demo\n"
			if test.region != "" {
				yaml += fmt.Sprintf("    account: \"111122223333\"\n    region: %s\n", test.region)
			}
			template := mustSynthesize(t, yaml)
			for _, literal := range arn.FindAllString(string(template.golden()), -1) {
				if literal != test.allowed {
					t.Fatalf("the template holds a literal %s", literal)
				}
			}
			for property, check := range properties {
				if err := check(template); err != nil {
					t.Errorf("%s: %v", property, err)
				}
			}
			if text := string(template.golden()); strings.Contains(text, "dummy1a") {
				t.Error("the template holds an Availability Zone that CDK made up")
			}
		})
	}
}
