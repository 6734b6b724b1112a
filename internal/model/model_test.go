package model_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/model"
)

func TestIn(t *testing.T) {
	for region, want := range map[string][4]string{
		"eu-central-1":  {"arn:aws:eks:eu-central-1:111122223333:cluster/a", "logs.eu-central-1.amazonaws.com", "arn:aws:iam::aws:policy/A", "arn:aws:eks::aws:cluster-access-policy/B"},
		"cn-north-1":    {"arn:aws-cn:eks:cn-north-1:111122223333:cluster/a", "logs.cn-north-1.amazonaws.com.cn", "arn:aws-cn:iam::aws:policy/A", "arn:aws-cn:eks::aws:cluster-access-policy/B"},
		"us-gov-west-1": {"arn:aws-us-gov:eks:us-gov-west-1:111122223333:cluster/a", "logs.us-gov-west-1.amazonaws.com", "arn:aws-us-gov:iam::aws:policy/A", "arn:aws-us-gov:eks::aws:cluster-access-policy/B"},
	} {
		p := model.In("111122223333", region)
		got := [4]string{p.ARN("eks", "cluster/a"), p.Service("logs"), p.ManagedPolicyARN("A"), p.AccessPolicyARN("B")}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", region, diff)
		}
	}
}

// A principal has one entry, with the groups of all that it reads for, and the
// configuration is left as it is.
func TestAccessEntries(t *testing.T) {
	cluster := config.Cluster{
		AccessEntries: []config.AccessEntry{{PrincipalARN: "admin", Policy: "A"}},
		Secrets: config.Secrets{Readers: []config.SecretReader{
			{PrincipalARNs: []string{"a", "b"}, Groups: []string{"x", "y"}},
			{PrincipalARNs: []string{"b"}, Groups: []string{"y", "z"}},
		}},
	}
	c := model.Cluster{Cluster: cluster}
	want := []config.AccessEntry{
		{PrincipalARN: "admin", Policy: "A"},
		{PrincipalARN: "a", Groups: []string{"x", "y"}},
		{PrincipalARN: "b", Groups: []string{"x", "y", "z"}},
	}
	for range 2 {
		if diff := cmp.Diff(want, c.AccessEntries()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if len(cluster.AccessEntries) != 1 {
		t.Error("the configuration was changed")
	}
}

// What a policy has no role for, it leaves out.
func TestKeyStatements(t *testing.T) {
	c := model.Cluster{Cluster: config.Default().Clusters[0], Place: model.In("111122223333", "eu-central-1")}
	sids := func(roles model.KeyRoles) (all []string) {
		for _, s := range c.KeyStatements(roles) {
			all = append(all, s.Sid)
		}
		return all
	}
	if diff := cmp.Diff([]string{"AccountAdministration", "ClusterRole"}, sids(model.KeyRoles{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	c.Creators = []string{"c"}
	full := model.KeyRoles{Cluster: "r", Plugin: "p"}
	want := []string{"AccountAdministration", "ClusterCreatorsDescribe", "ClusterCreatorsGrant", "ClusterRole", "PluginDescribe", "PluginUse"}
	if diff := cmp.Diff(want, sids(full)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	c.Plugin.Enabled = false
	if diff := cmp.Diff(want[:4], sids(full)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
