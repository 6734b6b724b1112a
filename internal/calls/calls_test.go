package calls

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/place"
)

var update = flag.Bool("update", false, "rewrite docs/reference/calls.md")

// book is every call, for a cluster of an example.
func book() []Call {
	at := place.In("111122223333", "eu-central-1")
	key := at.ARN("kms", "key/KEY")
	all := OfCluster(Cluster{Name: "CLUSTER", KeyARN: key, RoleARN: at.IAM("role/CLUSTER-ROLE"), EKSService: "eks.eu-central-1.amazonaws.com"})
	bucket, ofKey := OfTrail(Trail{ARN: at.ARN("cloudtrail", "trail/TRAIL"), Account: "111122223333", Partition: "aws", Bucket: "BUCKET", KeyARN: key})
	all = slices.Concat(all, bucket, ofKey)
	all = append(all, OfVolumes(Volumes{KeyARN: key, RoleARN: at.IAM("role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"), By: "Auto Scaling", EC2Service: at.Service("ec2")})...)
	for _, a := range []Alarm{
		{Source: at.ARN("events", "rule/RULE"), Target: at.ARN("sns", "TOPIC")},
		{Source: at.ARN("events", "rule/RULE"), Target: at.ARN("sqs", "QUEUE")},
		{Source: at.ARN("events", "rule/RULE"), Target: at.ARN("lambda", "function:FUNCTION")},
		{Source: at.ARN("cloudwatch", "alarm:ALARM"), Target: at.ARN("sns", "TOPIC")},
	} {
		a.Account, a.Key = "111122223333", key
		target, ofTargetKey := OfAlarm(a)
		all = slices.Concat(all, target, ofTargetKey)
	}
	return append(all, OfAssociation(Association{
		ClusterARN: at.ARN("eks", "cluster/CLUSTER"), ClusterName: "CLUSTER", Account: "111122223333",
		Namespace: "NAMESPACE", ServiceAccount: "SERVICE-ACCOUNT", RoleARN: at.IAM("role/ROLE"),
	})...)
}

// TestDocs holds docs/reference/calls.md to the book.
func TestDocs(t *testing.T) {
	const path, begin, end = "../../docs/reference/calls.md", "<!-- calls: written by internal/calls -->\n", "<!-- end -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(text), begin)
	_, tail, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no %q and %q", path, begin, end)
	}
	b := &strings.Builder{}
	b.WriteString("\n| Call | Who | Action | Carries | Does not carry | Source |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, c := range book() {
		var has, lacks []string
		for _, key := range slices.Sorted(maps.Keys(c.Context)) {
			if values := c.Context[key]; len(values) > 0 {
				has = append(has, "`"+key+"` "+strings.Join(values, ", "))
			} else {
				lacks = append(lacks, "`"+key+"`")
			}
		}
		fmt.Fprintf(b, "| %s | `%s` | `%s` | %s | %s | %s |\n", c.What, c.Caller.ARN, c.Action, strings.Join(has, "; "), strings.Join(lacks, ", "), c.Source)
	}
	want := head + begin + b.String() + "\n" + end + tail
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("run `make goldens` (-want +got):\n%s", diff)
	}
}

// TestBook: each call has a source, and is one that the evaluator understands: a policy
// that allows all allows it, one that denies all refuses it, and so does one that says
// nothing, but for what rests on a grant.
func TestBook(t *testing.T) {
	all := iampolicy.Statement{Effect: iampolicy.Allow, Principal: iampolicy.Principal{AWS: iampolicy.Values{"*"}}, Action: iampolicy.Values{"*"}, Resource: iampolicy.Values{"*"}}
	none, other := all, all
	none.Effect = iampolicy.Deny
	other.Action = iampolicy.Values{"ec2:RunInstances"}
	policy := func(statements ...iampolicy.Statement) iampolicy.NamedDocument {
		return iampolicy.NamedDocument{Name: "policy", Document: iampolicy.NewDocument(statements...)}
	}
	for _, c := range book() {
		if c.What == "" || c.Source == "" {
			t.Errorf("%+v lacks something", c)
		}
		for name, row := range map[string]struct {
			policy  iampolicy.NamedDocument
			refused bool
		}{
			"all allowed": {policy(all), false}, "all denied": {policy(all, none), true}, "nothing said": {policy(other), len(c.Grants) == 0},
		} {
			answer, err := c.Ask(iampolicy.Policies{Resource: row.policy})
			if err != nil || answer.Refused != row.refused || answer.Refused == (answer.Why == "") {
				t.Errorf("%s, %s: %+v, %v", c.What, name, answer, err)
			}
		}
	}
}
