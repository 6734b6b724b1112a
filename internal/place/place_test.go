package place_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/place"
)

func TestIn(t *testing.T) {
	for region, want := range map[string][6]string{
		"eu-central-1":  {"arn:aws:eks:eu-central-1:111122223333:cluster/a", "logs.eu-central-1.amazonaws.com", "arn:aws:iam::aws:policy/A", "arn:aws:eks::aws:cluster-access-policy/B", "arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:role/cdk-q-cfn-exec-role-111122223333-eu-central-1"},
		"cn-north-1":    {"arn:aws-cn:eks:cn-north-1:111122223333:cluster/a", "logs.cn-north-1.amazonaws.com.cn", "arn:aws-cn:iam::aws:policy/A", "arn:aws-cn:eks::aws:cluster-access-policy/B", "arn:aws-cn:iam::111122223333:root", "arn:aws-cn:iam::111122223333:role/cdk-q-cfn-exec-role-111122223333-cn-north-1"},
		"us-gov-west-1": {"arn:aws-us-gov:eks:us-gov-west-1:111122223333:cluster/a", "logs.us-gov-west-1.amazonaws.com", "arn:aws-us-gov:iam::aws:policy/A", "arn:aws-us-gov:eks::aws:cluster-access-policy/B", "arn:aws-us-gov:iam::111122223333:root", "arn:aws-us-gov:iam::111122223333:role/cdk-q-cfn-exec-role-111122223333-us-gov-west-1"},
	} {
		p := place.In("111122223333", region)
		got := [6]string{p.ARN("eks", "cluster/a"), p.Service("logs"), p.ManagedPolicy("A"), p.AccessPolicy("B"), p.IAM("root"), p.ExecutionRole("q")}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", region, diff)
		}
	}
}

func TestParseARN(t *testing.T) {
	for text, account := range map[string]string{
		"arn:aws:iam::111122223333:role/a":      "111122223333",
		"arn:aws:s3:::bucket":                   "",
		"arn:aws:logs:r:1:log-group:/aws/eks:*": "1",
	} {
		if got, ok := place.ParseARN(text); !ok || got.AccountID != account {
			t.Errorf("%s: %+v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "*", "111122223333", "arn:aws:iam", "${Token[TOKEN.1]}"} {
		if got, ok := place.ParseARN(text); ok {
			t.Errorf("%q is an ARN: %+v", text, got)
		}
	}
}

func TestForms(t *testing.T) {
	for name, c := range map[string]struct {
		is       func(string) bool
		yes, not []string
	}{
		"cluster": {place.IsClusterName, []string{"a", "A_b-9"}, []string{"", "-a", "a b", "a/b"}},
		"account": {place.IsAccount, []string{"111122223333"}, []string{"1111", "11112222333a", "1111222233334"}},
		"region":  {place.IsRegion, []string{"eu-central-1", "us-gov-west-1", "eusc-de-east-1"}, []string{"", "eu", "eu-central-1a", "EU-CENTRAL-1"}},
		"role":    {place.IsRole, []string{"arn:aws:iam::111122223333:role/a/b"}, []string{"arn:aws:iam::111122223333:user/a", "arn:aws:iam::111122223333:role/*", "arn:aws:iam::1:role/a"}},
	} {
		for _, text := range c.yes {
			if !c.is(text) {
				t.Errorf("%s: %q is refused", name, text)
			}
		}
		for _, text := range c.not {
			if c.is(text) {
				t.Errorf("%s: %q is taken", name, text)
			}
		}
	}
}

func TestPartitionOfRegion(t *testing.T) {
	for region, want := range map[string]string{
		"eu-central-1": "aws", "cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov", "us-iso-east-1": "aws-iso",
		"us-isob-east-1": "aws-iso-b", "eusc-de-east-1": "aws-eusc",
	} {
		if got := place.Partition(region); got != want {
			t.Errorf("%s: got %s, want %s", region, got, want)
		}
	}
}
