package ekskms_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseksv2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/constructs/ekskms"
)

// resourcesOf are the resources of a type, by their logical IDs.
func resourcesOf(t assertions.Template, typ string) map[string]map[string]any {
	all := map[string]map[string]any{}
	for id, r := range *t.FindResources(jsii.String(typ), nil) {
		all[id] = *r
	}
	return all
}

func properties(r map[string]any) map[string]any {
	p, _ := r["Properties"].(map[string]any)
	return p
}

// TestNoHandler: where no object is applied there is no function that could, no role of
// it, no access entry and no log; what does not need it is there.
func TestNoHandler(t *testing.T) {
	unapplied := &ekskms.KmsPluginOptions{Image: jsii.String("example.com/kms-plugin:1"), ApplyObjects: jsii.Bool(false)}
	for name, c := range map[string]struct {
		props   ekskms.EncryptedClusterProps
		handler bool
	}{
		"the plugin":                           {ekskms.EncryptedClusterProps{Plugin: &ekskms.KmsPluginOptions{Image: unapplied.Image}}, true},
		"no plugin":                            {ekskms.EncryptedClusterProps{Plugin: ekskms.KmsPluginOptions_NONE()}, false},
		"no plugin, with a handler":            {ekskms.EncryptedClusterProps{Plugin: ekskms.KmsPluginOptions_NONE(), KubectlHandler: jsii.Bool(true)}, true},
		"a plugin that others apply":           {ekskms.EncryptedClusterProps{Plugin: unapplied}, false},
		"a node group without anything":        {ekskms.EncryptedClusterProps{Plugin: unapplied, Nodegroup: &awseksv2.NodegroupOptions{}}, false},
		"an image that others build and apply": {ekskms.EncryptedClusterProps{Plugin: &ekskms.KmsPluginOptions{ApplyObjects: jsii.Bool(false)}}, false},
	} {
		stack := newStack(t)
		c.props.ClusterName = jsii.String("demo")
		cluster := ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &c.props)
		readers := []*ekskms.SecretReader{reader(func(r *ekskms.SecretReader) { r.PrincipalArns = jsii.Strings("arn:aws:iam::111122223333:role/Team") })}
		ekskms.NewSecretsRbac(stack, jsii.String("Rbac"), &ekskms.SecretsRbacProps{Cluster: cluster.Cluster(), Readers: &readers, ApplyObjects: jsii.Bool(false)})
		template := assertions.Template_FromStack(stack, nil)
		text, err := json.Marshal(template.ToJSON())
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{"demo-kubectl", "KubectlProvider", "AmazonEKSClusterAdminPolicy", "HandlerChanged", "AWS::Lambda::Function\",\"Values\"", "/ekskms/demo/kubectl"} {
			if strings.Contains(string(text), part) != c.handler {
				t.Errorf("%s: %q is there: %v", name, part, !c.handler)
			}
		}
		if n := len(resourcesOf(template, "Custom::AWSCDK-EKS-KubernetesResource")); n > 0 != (c.handler && c.props.KubectlHandler == nil) {
			t.Errorf("%s: %d manifests", name, n)
		}
		if plugin := cluster.KmsPlugin(); plugin != nil {
			template.ResourceCountIs(jsii.String("AWS::EKS::PodIdentityAssociation"), jsii.Number(1))
			if (plugin.Manifest() != nil) != c.handler {
				t.Errorf("%s: the plugin has a manifest: %v", name, !c.handler)
			}
		}
		entries := resourcesOf(template, "AWS::EKS::AccessEntry")
		if ids := slices.Sorted(maps.Keys(entries)); !slices.ContainsFunc(ids, func(id string) bool { return strings.HasPrefix(id, "RbacAccess") }) {
			t.Errorf("%s: the reader has no access entry: %v", name, ids)
		}
	}
	refused(t, "ekskms.SecretsRbac: Cluster has no kubectl handler, which applies Kubernetes objects: set KubectlHandler of its EncryptedCluster, or pass a cluster with a kubectl provider", func(s awscdk.Stack) {
		cluster := ekskms.NewEncryptedCluster(s, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{ClusterName: jsii.String("demo"), Plugin: ekskms.KmsPluginOptions_NONE()})
		ekskms.NewSecretsRbac(s, jsii.String("Rbac"), &ekskms.SecretsRbacProps{Cluster: cluster.Cluster(), Guard: ekskms.SecretsGuardDeny})
	})
	refused(t, "ekskms.KmsPlugin: Cluster has no kubectl handler, which applies Kubernetes objects: set KubectlHandler of its EncryptedCluster, or pass a cluster with a kubectl provider", func(s awscdk.Stack) {
		ekskms.NewEncryptedCluster(s, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
			ClusterName: jsii.String("demo"), KubectlHandler: jsii.Bool(false), Plugin: &ekskms.KmsPluginOptions{Image: unapplied.Image},
		})
	})
}

// TestHandlerIsPinned: the functions write to a log group under the key of the logs, for a
// week; nobody but Lambda, for this account, assumes their roles; the trail records their
// invocations; and no resource policy lets anybody invoke them. The same with the feature
// flag that has the CDK make log groups, and without.
func TestHandlerIsPinned(t *testing.T) {
	for _, flag := range []bool{false, true} {
		app := awscdk.NewApp(&awscdk.AppProps{
			Outdir: jsii.String(t.TempDir()), AnalyticsReporting: jsii.Bool(false),
			Context: &map[string]any{"@aws-cdk/aws-lambda:useCdkManagedLogGroup": flag},
		})
		stack := awscdk.NewStack(app, jsii.String("Stack"), nil)
		ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
			ClusterName: jsii.String("demo"), Plugin: &ekskms.KmsPluginOptions{Image: jsii.String("example.com/kms-plugin:1")},
		})
		template := assertions.Template_FromStack(stack, nil)
		groups, roles := resourcesOf(template, "AWS::Logs::LogGroup"), resourcesOf(template, "AWS::IAM::Role")
		seen := 0
		for id, f := range resourcesOf(template, "AWS::Lambda::Function") {
			if !strings.Contains(id, "KubectlProvider") {
				continue
			}
			seen++
			p := properties(f)
			name := fmt.Sprint(p["FunctionName"])
			if name != "ekskms-demo-kubectl" && name != "ekskms-demo-kubectl-framework" {
				t.Errorf("%s is called %s", id, name)
			}
			group, _ := p["LoggingConfig"].(map[string]any)["LogGroup"].(map[string]any)["Ref"].(string)
			g := properties(groups[group])
			if g["RetentionInDays"] != 7.0 || !strings.Contains(toJSON(t, g["KmsKeyId"]), "ClusterLogsKey") {
				t.Errorf("%s logs to %v", id, g)
			}
			role := p["Role"].(map[string]any)["Fn::GetAtt"].([]any)[0].(string)
			trust := toJSON(t, properties(roles[role])["AssumeRolePolicyDocument"])
			want := `{"Statement":[{"Action":"sts:AssumeRole","Condition":{"StringEquals":{"aws:SourceAccount":{"Ref":"AWS::AccountId"}}},"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Sid":"FunctionsHere"}],"Version":"2012-10-17"}`
			if trust != want {
				t.Errorf("%s: trust is %s", id, trust)
			}
		}
		if seen != 2 {
			t.Errorf("with the flag %v: %d functions", flag, seen)
		}
		for id := range groups {
			if strings.Contains(id, "KubectlProvider") {
				t.Errorf("with the flag %v: the CDK's own log group %s", flag, id)
			}
		}
		template.ResourceCountIs(jsii.String("AWS::Lambda::Permission"), jsii.Number(0))
		template.ResourceCountIs(jsii.String("AWS::Lambda::Url"), jsii.Number(0))
		policy := statements(t, template, "ClusterLogsKey")
		if allowed := toJSON(t, policy["LogGroup"]["Condition"]); !strings.Contains(allowed, "log-group:/ekskms/demo/kubectl") || !strings.Contains(allowed, "log-group:/aws/eks/demo/cluster") {
			t.Errorf("the key of the logs is for %s", allowed)
		}
		for _, trail := range resourcesOf(template, "AWS::CloudTrail::Trail") {
			selectors := toJSON(t, properties(trail)["EventSelectors"])
			if !strings.Contains(selectors, `:function:ekskms-demo-kubectl"`) || !strings.Contains(selectors, `:function:ekskms-demo-kubectl-framework"`) {
				t.Errorf("the trail records %s", selectors)
			}
		}
	}
}

// TestAlarmsArrive: whatever customer key can't be used, an alarm on it has a way that
// needs none, and what does not arrive by another way is told by a topic that needs none.
// The control is the design before: one topic, under the key that is watched.
func TestAlarmsArrive(t *testing.T) {
	stack := newStack(t)
	ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), Plugin: ekskms.KmsPluginOptions_NONE(),
	})
	template := assertions.Template_FromStack(stack, nil)
	keys := resourcesOf(template, "AWS::KMS::Key")
	// needs tells which key a resource can't do without.
	needs := func(id string) (of []string) {
		for _, typ := range []string{"AWS::SNS::Topic", "AWS::SQS::Queue", "AWS::Logs::LogGroup"} {
			if r, there := resourcesOf(template, typ)[id]; there {
				for key := range keys {
					if strings.Contains(toJSON(t, properties(r)), `"`+key+`"`) {
						of = append(of, key)
					}
				}
				return of
			}
		}
		t.Fatalf("no target %s", id)
		return nil
	}
	targets := func(rule map[string]any) (ids []string) {
		for _, target := range properties(rule)["Targets"].([]any) {
			text := toJSON(t, target.(map[string]any)["Arn"])
			for _, typ := range []string{"AWS::SNS::Topic", "AWS::Logs::LogGroup"} {
				for id := range resourcesOf(template, typ) {
					if strings.Contains(text, `"`+id+`"`) {
						ids = append(ids, id)
					}
				}
			}
		}
		return ids
	}
	rules := resourcesOf(template, "AWS::Events::Rule")
	watched := map[string]bool{}
	for id, rule := range rules {
		pattern := toJSON(t, properties(rule)["EventPattern"])
		ways := targets(rule)
		if len(ways) != 2 {
			t.Errorf("%s has the ways %v", id, ways)
		}
		if !slices.ContainsFunc(ways, func(way string) bool { return len(needs(way)) == 0 }) {
			t.Errorf("%s has no way without a key", id)
		}
		for key := range keys {
			if !strings.Contains(pattern, `"`+key+`"`) {
				continue
			}
			watched[key] = true
			// The topic itself still delivers the alarms on all keys but its own.
			if own := strings.Contains(key, "AlarmsKey"); slices.ContainsFunc(ways, func(way string) bool { return slices.Contains(needs(way), key) }) != own {
				t.Errorf("%s, on %s, goes to %v", id, key, ways)
			}
		}
		for _, target := range properties(rule)["Targets"].([]any) {
			dead := toJSON(t, target.(map[string]any)["DeadLetterConfig"])
			if !strings.Contains(dead, "UndeliveredQueue") {
				t.Errorf("%s: what does not arrive goes to %s", id, dead)
			}
		}
	}
	if len(watched) != 4 || len(keys) != 4 {
		t.Errorf("of the keys %v only %v are watched", slices.Sorted(maps.Keys(keys)), slices.Sorted(maps.Keys(watched)))
	}
	for id := range resourcesOf(template, "AWS::SQS::Queue") {
		if of := needs(id); of != nil {
			t.Errorf("the queue %s needs %v", id, of)
		}
	}
	told := 0
	for id, alarm := range resourcesOf(template, "AWS::CloudWatch::Alarm") {
		p := properties(alarm)
		text := toJSON(t, p["AlarmActions"])
		for topic := range resourcesOf(template, "AWS::SNS::Topic") {
			if strings.Contains(text, `"`+topic+`"`) {
				told++
				if of := needs(topic); of != nil {
					t.Errorf("%s tells by a topic that needs %v", id, of)
				}
			}
		}
		if p["MetricName"] != "ApproximateNumberOfMessagesVisible" || p["ActionsEnabled"] != true || !strings.Contains(toJSON(t, p["Dimensions"]), "UndeliveredQueue") {
			t.Errorf("%s is on %v", id, p)
		}
	}
	if told != 1 {
		t.Errorf("%d CloudWatch alarms tell somebody", told)
	}
}
