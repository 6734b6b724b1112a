package schemas

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	_ "github.com/aws/aws-sdk-go/aws/awserr" // whose module has the models

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/live/livetest"
	"github.com/ekskms/ekskms/internal/verify"
)

// model is an API as the last SDK for Go v1 has it.
type model struct {
	Operations map[string]struct{ Output struct{ Shape string } }
	Shapes     map[string]shape
}

type shape struct {
	Type    string
	Members map[string]member
	Member  member // of a list
	Value   member // of a map
	Enum    []string
	Payload string
}

type member struct{ Shape, LocationName string }

func modelOf(t *testing.T, service, version string) model {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "models", "apis", service, version, "api-2.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m model
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// newer are members that are younger than the model.
var newer = map[string]bool{"Cluster.deletionProtection": true, "Cluster.computeConfig": true}

// faults are those of an answer.
func (m model) faults(name string, v any, at string) (all []string) {
	s, of := m.Shapes[name], reflect.ValueOf(v)
	wrong := func(want string) []string { return []string{fmt.Sprintf("%s is %T, must be %s", at, v, want)} }
	switch s.Type {
	case "structure":
		if of.Kind() != reflect.Map {
			return wrong("an object")
		}
		known := map[string]string{}
		for member, to := range s.Members {
			if to.LocationName != "" {
				member = to.LocationName
			}
			known[member] = to.Shape
		}
		for _, key := range of.MapKeys() {
			value := of.MapIndex(key).Interface()
			switch below, ok := known[key.String()]; {
			case !ok && !newer[name+"."+key.String()]:
				all = append(all, at+"."+key.String()+" is no member of "+name)
			case ok && value != nil:
				all = append(all, m.faults(below, value, at+"."+key.String())...)
			}
		}
	case "list":
		if of.Kind() != reflect.Slice {
			return wrong("a list")
		}
		for i := range of.Len() {
			all = append(all, m.faults(s.Member.Shape, of.Index(i).Interface(), fmt.Sprintf("%s[%d]", at, i))...)
		}
	case "map":
		if of.Kind() != reflect.Map {
			return wrong("a map")
		}
		for _, key := range of.MapKeys() {
			all = append(all, m.faults(s.Value.Shape, of.MapIndex(key).Interface(), at+"."+key.String())...)
		}
	case "string":
		switch {
		case of.Kind() != reflect.String:
			return wrong("a text")
		case s.Enum != nil && !strings.Contains("\n"+strings.Join(s.Enum, "\n")+"\n", "\n"+of.String()+"\n"):
			return wrong("one of " + strings.Join(s.Enum, ", ") + ", and not " + of.String())
		}
	case "boolean":
		if of.Kind() != reflect.Bool {
			return wrong("true or false")
		}
	case "timestamp", "integer", "long", "double", "float":
		if !of.CanFloat() && !of.CanInt() {
			return wrong("a number")
		}
	default:
		return []string{at + ": the model has no shape " + name}
	}
	return all
}

// bodies are the shapes of what S3 answers, by what is asked for: below the one element of the
// body stands what the output has, or its payload.
var bodies = map[string][2]string{
	"versioning": {"VersioningConfiguration", "GetBucketVersioningOutput"}, "object-lock": {"ObjectLockConfiguration", "ObjectLockConfiguration"},
	"publicAccessBlock": {"PublicAccessBlockConfiguration", "PublicAccessBlockConfiguration"}, "encryption": {"ServerSideEncryptionConfiguration", "ServerSideEncryptionConfiguration"},
	"lifecycle": {"LifecycleConfiguration", "GetBucketLifecycleConfigurationOutput"},
}

// TestModels holds what the fake of AWS answers for EKS, CloudTrail and S3 to AWS's models: for
// these the SDK in use carries no schemas, by which its own tests judge it.
func TestModels(t *testing.T) {
	models := map[string]model{"eks": modelOf(t, "eks", "2017-11-01"), "cloudtrail": modelOf(t, "cloudtrail", "2013-11-01"), "s3": modelOf(t, "s3", "2006-03-01")}
	a, err := cfn.Load("../../snapshot/testdata/08_node_groups.golden.json", cfn.Environment{Account: "111122223333", Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	fake := &livetest.AWS{Account: "111122223333"}
	fake.Deploy(a)
	judged := map[string]bool{}
	fake.Judge = func(service, operation string, answer any) {
		m, ok := models[service]
		if !ok {
			return
		}
		judged[service+":"+operation] = true
		name := m.Operations[operation].Output.Shape
		if service == "s3" {
			if operation == "policy" {
				return // it is the policy itself
			}
			body := bodies[operation]
			of, found := answer.(map[string]any)[body[0]]
			if !found || len(answer.(map[string]any)) != 1 {
				t.Errorf("s3:%s: the body has no %s alone", operation, body[0])
				return
			}
			name, answer = body[1], of
		}
		if name == "" {
			t.Errorf("%s has no operation %s", service, operation)
		}
		for _, fault := range m.faults(name, answer, operation) {
			t.Error(fault)
		}
	}
	server := fake.Start()
	defer server.Close()
	for _, v := range livetest.Environment(server.URL) {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	aws, err := live.New(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify.Run(t.Context(), aws, verify.Options{Wanted: a, Stacks: true}); err != nil {
		t.Fatal(err)
	}
	c := fake.Find("AWS::EKS::Cluster", "")
	delete(c.Properties, "EncryptionConfig")
	update, err := aws.Associate(t.Context(), "", "eu-central-1", c.ID, "arn:aws:kms:eu-central-1:111122223333:key/1")
	if err == nil {
		_, err = aws.Update(t.Context(), "", "eu-central-1", c.ID, update.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"eks:DescribeCluster", "eks:ListAccessEntries", "eks:DescribeAccessEntry", "eks:ListAssociatedAccessPolicies", "eks:ListPodIdentityAssociations", "eks:DescribePodIdentityAssociation",
		"eks:ListNodegroups", "eks:DescribeNodegroup", "eks:ListAddons", "eks:DescribeAddon", "eks:ListIdentityProviderConfigs", "eks:AssociateEncryptionConfig", "eks:DescribeUpdate",
		"cloudtrail:DescribeTrails", "cloudtrail:GetTrailStatus", "cloudtrail:GetEventSelectors", "s3:versioning", "s3:publicAccessBlock", "s3:encryption", "s3:lifecycle",
	} {
		if !judged[want] {
			t.Errorf("%s was not judged", want)
		}
	}
	// The judge sees faults.
	for want, answer := range map[string]any{
		"cluster.Name is no member":             map[string]any{"cluster": map[string]any{"Name": "x"}},
		"cluster.status is string, must be one": map[string]any{"cluster": map[string]any{"status": "Active"}},
		"cluster.tags is []interface {}":        map[string]any{"cluster": map[string]any{"tags": []any{}}},
		"cluster.createdAt is string":           map[string]any{"cluster": map[string]any{"createdAt": "now"}},
	} {
		if found := strings.Join(models["eks"].faults("DescribeClusterResponse", answer, "DescribeCluster"), "\n"); !strings.Contains(found, want) {
			t.Errorf("of %v it says %q", answer, found)
		}
	}
}
