//go:build !race

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
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudtrail"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseksv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseventstargets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/constructs/ekskms"
)

func toJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func templateOf(t *testing.T, build func(awscdk.Stack)) string {
	t.Helper()
	stack := newStack(t)
	build(stack)
	return toJSON(t, assertions.Template_FromStack(stack, nil).ToJSON())
}

// TestAddedIsListed: what is added later is in the template as if it had been listed.
func TestAddedIsListed(t *testing.T) {
	image := jsii.String("registry.example/kms-plugin:v1")
	acme, globex := tenant("acme", "one", "vc"), tenant("globex", "two", "vc")
	admin := func() *ekskms.AccessEntry {
		return &ekskms.AccessEntry{Principal: jsii.String("arn:aws:iam::111122223333:role/Admin"), AccessPolicies: policies("AmazonEKSClusterAdminPolicy")}
	}
	viewer := func() *ekskms.AccessEntry {
		return &ekskms.AccessEntry{Principal: jsii.String("arn:aws:iam::111122223333:role/Viewer"), Groups: jsii.Strings("viewers")}
	}
	props := func(tenants ...*ekskms.PluginTenant) *ekskms.EncryptedClusterProps {
		p := &ekskms.EncryptedClusterProps{ClusterName: jsii.String("demo"), Plugin: &ekskms.KmsPluginOptions{Image: image, Mode: ekskms.PluginModeDeployment}}
		if len(tenants) > 0 {
			p.Plugin = &ekskms.KmsPluginOptions{Image: image, Tenants: &tenants}
		}
		return p
	}
	make := func(s awscdk.Stack, p *ekskms.EncryptedClusterProps) *ekskms.EncryptedCluster {
		return ekskms.NewEncryptedCluster(s, jsii.String("Cluster"), p)
	}
	team := func(name, group string) *ekskms.SecretReader {
		return reader(func(r *ekskms.SecretReader) {
			r.Name, r.Groups, r.PrincipalArns = jsii.String(name), jsii.Strings(group), jsii.Strings("arn:aws:iam::111122223333:role/Team")
		})
	}
	rbac := func(s awscdk.Stack, readers ...*ekskms.SecretReader) *ekskms.SecretsRbac {
		return ekskms.NewSecretsRbac(s, jsii.String("Rbac"), &ekskms.SecretsRbacProps{
			Cluster: newCluster(s).Cluster(), Readers: &readers, Guard: ekskms.SecretsGuardWarn})
	}
	for name, pair := range map[string][2]func(awscdk.Stack){
		"tenants": {
			func(s awscdk.Stack) { make(s, props(acme, globex)) },
			func(s awscdk.Stack) {
				if role := make(s, props(acme)).KmsPlugin().AddTenant(globex); role == nil {
					t.Error("a tenant has no role")
				}
			},
		},
		"tenants, none at first": {
			func(s awscdk.Stack) { make(s, props(acme, globex)) },
			func(s awscdk.Stack) {
				plugin := make(s, props()).KmsPlugin()
				plugin.AddTenant(acme)
				plugin.AddTenant(globex)
			},
		},
		"access entries": {
			func(s awscdk.Stack) {
				p := props()
				p.AccessEntries = &[]*ekskms.AccessEntry{admin(), viewer()}
				make(s, p)
			},
			func(s awscdk.Stack) {
				p := props()
				p.AccessEntries = &[]*ekskms.AccessEntry{admin()}
				make(s, p).AddAccessEntry(viewer())
			},
		},
		"readers": {
			func(s awscdk.Stack) { rbac(s, team("a", "one"), team("b", "two")) },
			func(s awscdk.Stack) { rbac(s, team("a", "one")).AddReader(team("b", "two")) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			// The order of the resources is that of the calls: only they are compared.
			var want, got struct{ Resources map[string]any }
			for to, build := range map[any]func(awscdk.Stack){&want: pair[0], &got: pair[1]} {
				if err := json.Unmarshal([]byte(templateOf(t, build)), to); err != nil {
					t.Fatal(err)
				}
			}
			for id := range maps.Keys(want.Resources) {
				a, b := toJSON(t, want.Resources[id]), toJSON(t, got.Resources[id])
				if a != b {
					t.Errorf("%s is\n%s\nlisted, and\n%s\nadded", id, a, b)
				}
			}
			if len(got.Resources) != len(want.Resources) {
				t.Errorf("%d resources listed, %d added", len(want.Resources), len(got.Resources))
			}
		})
	}
	refused(t, `ekskms.KmsPlugin: AddTenant[0].Name is "acme", which is the name of another tenant: give it another`, func(s awscdk.Stack) {
		make(s, props(acme)).KmsPlugin().AddTenant(tenant("acme", "three", "vc"))
	})
	refused(t, `ekskms.EncryptedCluster: AddAccessEntry.Principal is missing, it has no default`, func(s awscdk.Stack) {
		newCluster(s).AddAccessEntry(&ekskms.AccessEntry{})
	})
	refused(t, `ekskms.SecretsRbac: Readers[1].Name is "a", which is the name of Readers[0]: give it another`, func(s awscdk.Stack) {
		rbac(s, team("a", "one")).AddReader(team("a", "two"))
	})
}

// TestOnTampering: every alarm goes to the further target too, with what it needs to be
// let in, and the topic stays.
func TestOnTampering(t *testing.T) {
	stack := newStack(t)
	key := newKey(stack)
	audit := ekskms.NewAuditTrail(stack, jsii.String("Audit"), &ekskms.AuditTrailProps{SecretsKey: key})
	queue := awssqs.NewQueue(stack, jsii.String("Queue"), nil)
	audit.OnTampering(jsii.String("Queue"), awseventstargets.NewSqsQueue(queue, &awseventstargets.SqsQueueProps{
		DeadLetterQueue: awssqs.NewQueue(stack, jsii.String("Dead"), nil),
		Message:         awsevents.RuleTargetInput_FromText(jsii.String("tampering")),
	}))
	responder := awslambda.NewFunction(stack, jsii.String("Responder"), &awslambda.FunctionProps{
		Runtime: awslambda.Runtime_PYTHON_3_13(), Handler: jsii.String("a.b"), Code: awslambda.Code_FromInline(jsii.String("pass"))})
	audit.OnTampering(jsii.String("Responder"), awseventstargets.NewLambdaFunction(responder, nil))
	// What comes later has them too.
	ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), SecretsKey: key, AuditTrail: audit, Plugin: ekskms.KmsPluginOptions_NONE()})
	template := assertions.Template_FromStack(stack, nil)
	rules := *template.FindResources(jsii.String("AWS::Events::Rule"), nil)
	if len(rules) != 16 {
		t.Fatalf("%d rules", len(rules))
	}
	for id, rule := range rules {
		text := toJSON(t, (*rule)["Properties"].(map[string]any)["Targets"])
		for _, want := range []string{`"Id":"Topic"`, `"Id":"Log"`, `"InputTransformer"`, `"Id":"Queue"`, `"DeadLetterConfig":{"Arn":`, `"Input":"\"tampering\""`, `"Id":"Responder"`} {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %s in %s", id, want, text)
			}
		}
	}
	template.ResourceCountIs(jsii.String("AWS::Lambda::Permission"), jsii.Number(16))
	template.ResourcePropertiesCountIs(jsii.String("AWS::SQS::QueuePolicy"), map[string]any{}, jsii.Number(3))

	for want, add := range map[string]func(*ekskms.AuditTrail, awsevents.IRuleTarget){
		"id is missing, it has no default":                                       func(a *ekskms.AuditTrail, to awsevents.IRuleTarget) { a.OnTampering(nil, to) },
		"target is missing, it has no default":                                   func(a *ekskms.AuditTrail, _ awsevents.IRuleTarget) { a.OnTampering(jsii.String("X"), nil) },
		`id is "Topic", which is that of another target: give it one of its own`: func(a *ekskms.AuditTrail, to awsevents.IRuleTarget) { a.OnTampering(jsii.String("Topic"), to) },
		"target is one too many: EventBridge takes 5 for each rule, the topic and the log group among them": func(a *ekskms.AuditTrail, to awsevents.IRuleTarget) {
			for i := range 5 {
				a.OnTampering(jsii.String(fmt.Sprint("T", i)), to)
			}
		},
	} {
		refused(t, "ekskms.AuditTrail.OnTampering: "+want, func(s awscdk.Stack) {
			audit := ekskms.NewAuditTrail(s, jsii.String("Audit"), &ekskms.AuditTrailProps{SecretsKey: newKey(s)})
			add(audit, awseventstargets.NewSqsQueue(awssqs.NewQueue(s, jsii.String("Q"), nil), nil))
		})
	}
}

// TestShared: the record of several clusters needs none of them, and the alarms on them
// reach its topic, its log group and its queue.
func TestShared(t *testing.T) {
	stack := newStack(t)
	audit := ekskms.NewSharedAuditTrail(stack, jsii.String("Audit"), &ekskms.SharedAuditTrailProps{
		Functions: jsii.Strings("arn:aws:lambda:us-east-1:111122223333:function:ekskms-demo-kubectl")})
	alarms := ekskms.NewSharedAlarms(stack, jsii.String("Alarms"), &ekskms.SharedAlarmsProps{Clusters: &[]*ekskms.WatchedCluster{
		{ClusterName: jsii.String("a"), KeyArn: jsii.String("arn:aws:kms:eu-central-1:111122223333:key/a"), LogsKeyArn: jsii.String("arn:aws:kms:eu-central-1:111122223333:key/al")},
		{ClusterName: jsii.String("b"), KeyArn: jsii.String("arn:aws:kms:eu-central-1:111122223333:key/b"), LogsKeyArn: jsii.String("arn:aws:kms:eu-central-1:111122223333:key/bl"), KeyAlias: jsii.String(""), KubectlHandler: jsii.Bool(false)},
	}})
	alarms.OnTampering(jsii.String("Queue"), awseventstargets.NewSqsQueue(awssqs.NewQueue(stack, jsii.String("Queue"), nil), nil))
	template := assertions.Template_FromStack(stack, nil)
	rules := toJSON(t, template.FindResources(jsii.String("AWS::Events::Rule"), map[string]any{"Properties": map[string]any{"Name": "ekskms-shared-AliasChanged1"}}))
	for _, want := range []string{
		`"ARN":["arn:aws:kms:eu-central-1:111122223333:key/a",`, `:alias/eks/a"]]},"arn:aws:kms:eu-central-1:111122223333:key/b"]`,
		`"Id":"Queue"`, `:ekskms-shared-undelivered"`, `log-group:/aws/events/ekskms/shared/alarms`, `"keyid":"$.detail.requestParameters.keyId"`,
	} {
		if !strings.Contains(rules, want) {
			t.Errorf("no %s in %s", want, rules)
		}
	}
	if arn := *audit.TrailArn(); !strings.HasSuffix(arn, ":cloudtrail:eu-central-1:111122223333:trail/ekskms-shared-eu-central-1") {
		t.Errorf("the trail is %s", arn)
	}
	if text := toJSON(t, template.ToJSON()); !strings.Contains(text, `"Values":["arn:aws:lambda:us-east-1:111122223333:function:ekskms-demo-kubectl"]`) {
		t.Error("the trail does not record the function")
	}
	// More functions than a trail can name are all functions.
	many := make([]string, 251)
	for i := range many {
		many[i] = fmt.Sprintf("arn:aws:lambda:us-east-1:111122223333:function:f%d", i)
	}
	large := newStack(t)
	ekskms.NewSharedAuditTrail(large, jsii.String("Audit"), &ekskms.SharedAuditTrailProps{Functions: jsii.Strings(many...)})
	if text := toJSON(t, assertions.Template_FromStack(large, nil).ToJSON()); !strings.Contains(text, `{"Ref":"AWS::Partition"},":lambda"`) || strings.Contains(text, "function:f0") {
		t.Error("the trail does not record all functions")
	}
	imported := ekskms.AuditTrail_FromSharedAuditTrailAttributes(stack, jsii.String("Imported"), &ekskms.SharedAuditTrailAttributes{HomeRegion: jsii.String("us-east-1")})
	if arn := *imported.TrailArn(); !strings.HasSuffix(arn, ":cloudtrail:us-east-1:111122223333:trail/ekskms-shared-us-east-1") {
		t.Errorf("the imported trail is %s", arn)
	}
	if arn := *imported.Topic().TopicArn(); !strings.HasSuffix(arn, ":sns:eu-central-1:111122223333:ekskms-shared-alarms") {
		t.Errorf("the imported topic is %s", arn)
	}

	name, arn := jsii.String("demo"), jsii.String("arn:aws:kms:eu-central-1:111122223333:key/a")
	for want, build := range map[string]func(awscdk.Stack){
		"ekskms.SharedAlarms: Clusters is missing, it has no default": func(s awscdk.Stack) { ekskms.NewSharedAlarms(s, jsii.String("X"), nil) },
		"ekskms.SharedAlarms: Clusters[0].LogsKeyArn is missing, it has no default": func(s awscdk.Stack) {
			ekskms.NewSharedAlarms(s, jsii.String("X"), &ekskms.SharedAlarmsProps{Clusters: &[]*ekskms.WatchedCluster{{ClusterName: name, KeyArn: arn}}})
		},
		`ekskms.SharedAuditTrail: Name is "a b", must be 1 to 100 letters, digits, hyphens and underscores, and begin with a letter or digit`: func(s awscdk.Stack) {
			ekskms.NewSharedAuditTrail(s, jsii.String("X"), &ekskms.SharedAuditTrailProps{Name: jsii.String("a b")})
		},
		"ekskms.SharedAuditTrail: Emails is set beside ExistingTopic, but belongs to its owner: remove it": func(s awscdk.Stack) {
			ekskms.NewSharedAuditTrail(s, jsii.String("X"), &ekskms.SharedAuditTrailProps{
				Emails: jsii.Strings("a@example.com"), ExistingTopic: awssns.Topic_FromTopicArn(s, jsii.String("T"), jsii.String("arn:aws:sns:eu-central-1:111122223333:t"))})
		},
		"ekskms.EncryptedCluster: AuditTrail watches another key, must watch the SecretsKey of this cluster: pass that too": func(s awscdk.Stack) {
			ekskms.NewEncryptedCluster(s, jsii.String("X"), &ekskms.EncryptedClusterProps{ClusterName: name, AuditTrail: ekskms.NewSharedAuditTrail(s, jsii.String("Y"), nil)})
		},
	} {
		refused(t, want, build)
	}
}

// TestImported: what was made elsewhere can be used, is not made again, and says what
// its owner must add.
func TestImported(t *testing.T) {
	const arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	stack := newStack(t)
	key := ekskms.SecretsKey_FromSecretsKeyAttributes(stack, jsii.String("Key"), &ekskms.SecretsKeyAttributes{
		KeyArn: jsii.String(arn), ClusterName: jsii.String("demo"), AliasName: jsii.String("alias/eks/demo"),
		CreatorArns: jsii.Strings("arn:aws:iam::111122223333:role/Creator")})
	trail := ekskms.AuditTrail_FromAuditTrailAttributes(stack, jsii.String("Audit"), &ekskms.AuditTrailAttributes{
		TrailArn: jsii.String("arn:aws:cloudtrail:eu-central-1:111122223333:trail/all"), TopicArn: jsii.String("arn:aws:sns:eu-central-1:111122223333:alarms")})
	cluster := ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), SecretsKey: key, AuditTrail: trail, Plugin: &ekskms.KmsPluginOptions{Image: jsii.String("registry.example/kms-plugin:v1")}})
	if *cluster.SecretsKey().KeyArn() != arn || *key.AliasName() != "alias/eks/demo" || *(*key.CreatorArns())[0] != "arn:aws:iam::111122223333:role/Creator" {
		t.Error("the attributes are lost")
	}
	awscdk.NewCfnOutput(stack, jsii.String("Required"), &awscdk.CfnOutputProps{Value: key.RequiredKeyPolicyStatements()})
	template := assertions.Template_FromStack(stack, nil)
	template.ResourceCountIs(jsii.String("AWS::KMS::Key"), jsii.Number(1)) // of the logs
	template.ResourceCountIs(jsii.String("AWS::CloudTrail::Trail"), jsii.Number(0))
	template.ResourceCountIs(jsii.String("AWS::Events::Rule"), jsii.Number(2)) // on the key of the logs, on the handler
	template.HasResourceProperties(jsii.String("AWS::EKS::Cluster"), map[string]any{
		"EncryptionConfig": []any{map[string]any{"Provider": map[string]any{"KeyArn": arn}, "Resources": []any{"secrets"}}}})
	output := toJSON(t, (*template.FindOutputs(jsii.String("Required"), nil))["Required"])
	for sid, want := range map[string]bool{"ClusterRole": true, "PluginUse": true, "ClusterCreatorsGrant": false} {
		if strings.Contains(output, sid) != want {
			t.Errorf("statement %s is asked for: %v, want %v, in %s", sid, !want, want, output)
		}
	}

	// Its alarms watch the alias that it was given.
	watched := newStack(t)
	ekskms.NewAuditTrail(watched, jsii.String("Audit"), &ekskms.AuditTrailProps{SecretsKey: ekskms.SecretsKey_FromSecretsKeyAttributes(
		watched, jsii.String("Key"), &ekskms.SecretsKeyAttributes{KeyArn: jsii.String(arn), ClusterName: jsii.String("demo"),
			AliasName: jsii.String("alias/eks/demo"), CreatorArns: jsii.Strings("arn:aws:iam::111122223333:role/Creator")})})
	rules := toJSON(t, assertions.Template_FromStack(watched, nil).FindResources(jsii.String("AWS::Events::Rule"), nil))
	if !strings.Contains(rules, ":alias/eks/demo") {
		t.Error("no alarm knows the alias")
	}

	for want, build := range map[string]func(awscdk.Stack){
		"ekskms.SecretsKey: KeyArn is missing, it has no default": func(s awscdk.Stack) {
			ekskms.SecretsKey_FromSecretsKeyAttributes(s, jsii.String("X"), nil)
		},
		"ekskms.SecretsKey: ExistingKey is in us-east-1, must be in the Region of the cluster, eu-central-1": func(s awscdk.Stack) {
			ekskms.SecretsKey_FromSecretsKeyAttributes(s, jsii.String("X"), &ekskms.SecretsKeyAttributes{ClusterName: jsii.String("demo"),
				KeyArn: jsii.String("arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab")})
		},
		"ekskms.AuditTrail: TopicArn is missing, it has no default": func(s awscdk.Stack) {
			ekskms.AuditTrail_FromAuditTrailAttributes(s, jsii.String("X"), &ekskms.AuditTrailAttributes{TrailArn: jsii.String("arn:aws:cloudtrail:eu-central-1:111122223333:trail/all")})
		},
	} {
		refused(t, want, build)
	}
}

// TestGrantsSayWhatTheyDid: a grant that gave nothing warns, and one that gave something
// returns its statement.
func TestGrantsSayWhatTheyDid(t *testing.T) {
	stack := newStack(t)
	key := newKey(stack)
	role := newRole(stack, "Role")
	given := key.GrantPluginUse(role, &ekskms.PluginIdentity{Namespace: jsii.String("n"), ServiceAccount: jsii.String("s")})
	given.AssertSuccess()
	if got := *given.PrincipalStatement().Sid(); got != "PluginDescribe" {
		t.Errorf("the first statement is %s", got)
	}
	made := ekskms.NewAuditTrail(stack, jsii.String("Made"), &ekskms.AuditTrailProps{SecretsKey: key})
	made.GrantRead(role).AssertSuccess()
	for id, trail := range map[string]ekskms.IAuditTrail{
		"Existing": ekskms.NewAuditTrail(stack, jsii.String("Existing"), &ekskms.AuditTrailProps{SecretsKey: key,
			ExistingTrail: awscloudtrail.CfnTrail_FromTrailArn(stack, jsii.String("T"), jsii.String("arn:aws:cloudtrail:eu-central-1:111122223333:trail/all")),
			ExistingTopic: made.Topic()}),
		"Imported": ekskms.AuditTrail_FromAuditTrailAttributes(stack, jsii.String("Imported"), &ekskms.AuditTrailAttributes{
			TrailArn: jsii.String("arn:aws:cloudtrail:eu-central-1:111122223333:trail/all"), TopicArn: made.Topic().TopicArn()}),
	} {
		if *trail.GrantRead(role).Success() {
			t.Errorf("%s: a grant on an existing trail claims to have given something", id)
		}
		warnings := assertions.Annotations_FromStack(stack).FindWarning(jsii.String("/Test/"+id), assertions.Match_StringLikeRegexp(jsii.String("GrantRead gave nothing")))
		if len(*warnings) != 1 {
			t.Errorf("%s: %d warnings", id, len(*warnings))
		}
	}
}

// TestPrincipals: what is named in a key policy is one principal.
func TestPrincipals(t *testing.T) {
	name := jsii.String("demo")
	creators := func(p awsiam.IGrantable) func(awscdk.Stack) {
		return func(s awscdk.Stack) {
			ekskms.NewSecretsKey(s, jsii.String("X"), &ekskms.SecretsKeyProps{ClusterName: name, Creators: &[]awsiam.IGrantable{p}})
		}
	}
	for want, build := range map[string]func(awscdk.Stack){
		"is missing, it has no default":                                                   creators(nil),
		"is *, which stands for many: name a role or user":                                creators(awsiam.NewAnyPrincipal()),
		"is arn:aws:iam::111122223333:role/*, which stands for many: name a role or user": creators(awsiam.NewArnPrincipal(jsii.String("arn:aws:iam::111122223333:role/*"))),
		`is a principal of the kind "Service", must be an IAM role or user`:               creators(awsiam.NewServicePrincipal(jsii.String("ec2.amazonaws.com"), nil)),
		"stands for 2 principals, must be one IAM role or user":                           creators(awsiam.NewCompositePrincipal(awsiam.NewArnPrincipal(jsii.String("a")), awsiam.NewArnPrincipal(jsii.String("b")))),
		"is a under conditions, which would be lost here: pass the role or user itself":   creators(awsiam.NewPrincipalWithConditions(awsiam.NewArnPrincipal(jsii.String("a")), &map[string]any{"Bool": map[string]any{"x": "y"}})),
		"is arn:aws:iam::111122223333:root, which stands for many: name a role or user":   creators(awsiam.NewArnPrincipal(jsii.String("arn:aws:iam::111122223333:root"))),
	} {
		t.Run(want, func(t *testing.T) { refused(t, "ekskms.SecretsKey: Creators[0] "+want, build) })
	}
	stack := newStack(t)
	key := ekskms.NewSecretsKey(stack, jsii.String("Key"), &ekskms.SecretsKeyProps{ClusterName: name, Creators: &[]awsiam.IGrantable{
		newRole(stack, "Made"), awsiam.NewArnPrincipal(jsii.String("arn:aws:iam::111122223333:role/Named")),
		awsiam.Role_FromRoleArn(stack, jsii.String("There"), jsii.String("arn:aws:iam::111122223333:role/There"), nil),
		awslambda.NewFunction(stack, jsii.String("F"), &awslambda.FunctionProps{
			Runtime: awslambda.Runtime_PYTHON_3_13(), Handler: jsii.String("a.b"), Code: awslambda.Code_FromInline(jsii.String("pass"))}),
	}})
	if arns := *key.CreatorArns(); len(arns) != 4 || *arns[1] != "arn:aws:iam::111122223333:role/Named" || *arns[2] != "arn:aws:iam::111122223333:role/There" {
		t.Errorf("the creators are %d", len(arns))
	}
}

// TestDefaultChildren: each construct stands for one resource, to which CDK's own tools
// go from it.
func TestDefaultChildren(t *testing.T) {
	stack := newStack(t)
	cluster := ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), Plugin: &ekskms.KmsPluginOptions{Image: jsii.String("registry.example/kms-plugin:v1")}})
	rbac := ekskms.NewSecretsRbac(stack, jsii.String("Rbac"), &ekskms.SecretsRbacProps{Cluster: cluster.Cluster(), Readers: &[]*ekskms.SecretReader{reader(nil)}})
	for want, construct := range map[string]constructs.IConstruct{
		"AWS::EKS::Cluster": cluster, "AWS::KMS::Key": cluster.SecretsKey(), "AWS::CloudTrail::Trail": cluster.AuditTrail(),
	} {
		if got := primary(construct); got != want {
			t.Errorf("%s stands for %s, want %s", *construct.Node().Path(), got, want)
		}
	}
	for _, construct := range []constructs.IConstruct{cluster.KmsPlugin(), rbac} {
		if construct.Node().DefaultChild() == nil {
			t.Errorf("%s has no default child", *construct.Node().Path())
		}
	}
	if cluster.Connections() == nil || len(*cluster.Connections().SecurityGroups()) == 0 {
		t.Error("the cluster has no connections")
	}
	// The escape hatch.
	cluster.SecretsKey().Node().DefaultChild().Node().DefaultChild().(awskms.CfnKey).AddPropertyOverride(jsii.String("Description"), jsii.String("mine"))
	assertions.Template_FromStack(stack, nil).HasResourceProperties(jsii.String("AWS::KMS::Key"), map[string]any{"Description": "mine"})
}

func primary(c constructs.IConstruct) string {
	for c != nil {
		if resource, ok := c.(awscdk.CfnResource); ok {
			return *resource.CfnResourceType()
		}
		c = c.Node().DefaultChild()
	}
	return ""
}

// TestNodegroupOptions: what is given is kept, what is not is filled in, and the
// caller's options are left alone.
func TestNodegroupOptions(t *testing.T) {
	stack := newStack(t)
	props := &awseksv2.NodegroupOptions{MinSize: jsii.Number(5), Labels: &map[string]*string{"pool": jsii.String("a")}}
	before := *props
	ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), Nodegroup: props, Plugin: ekskms.KmsPluginOptions_NONE()})
	if *props != before {
		t.Error("the caller's options were changed")
	}
	assertions.Template_FromStack(stack, nil).HasResourceProperties(jsii.String("AWS::EKS::Nodegroup"), map[string]any{
		"AmiType": "AL2023_x86_64_STANDARD", "InstanceTypes": []any{"m7i.large"}, "Labels": map[string]any{"pool": "a"},
		"ScalingConfig": map[string]any{"MinSize": 5, "MaxSize": 5, "DesiredSize": 5}})
}

// TestNodegroups: several groups have one role and follow the cluster's version; none is a
// choice too.
func TestNodegroups(t *testing.T) {
	stack := newStack(t)
	ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), KubernetesVersion: awseksv2.KubernetesVersion_Of(jsii.String("1.34")),
		Nodegroups: &[]*ekskms.Nodegroup{
			{Id: jsii.String("a")},
			{Id: jsii.String("b"), KubernetesVersion: awseksv2.KubernetesVersion_Of(jsii.String("1.33")), Options: &awseksv2.NodegroupOptions{MinSize: jsii.Number(0)}},
		},
		FargateProfiles: &[]*ekskms.FargateProfile{
			{Id: jsii.String("one"), Selectors: &[]*awseksv2.Selector{{Namespace: jsii.String("jobs")}}},
			{Id: jsii.String("two"), Selectors: &[]*awseksv2.Selector{{Namespace: jsii.String("more"), Labels: &map[string]*string{"a": jsii.String("b")}}}},
		},
		NodeRoles: jsii.Strings("arn:aws:iam::111122223333:role/Karpenter"),
		AddOns: &[]*ekskms.AddOn{
			{Name: jsii.String("coredns"), Version: jsii.String("v1.12.4-eksbuild.1")},
			{Name: jsii.String("vpc-cni"), ConfigurationValues: &map[string]any{"enableNetworkPolicy": "false", "env": map[string]any{"A": "b"}}},
			{Name: jsii.String("aws-ebs-csi-driver"), ServiceAccount: jsii.String("ebs"), Role: jsii.String("arn:aws:iam::111122223333:role/Ebs")},
		},
		Plugin: ekskms.KmsPluginOptions_NONE()})
	template := assertions.Template_FromStack(stack, nil)
	has := func(typ string, properties map[string]any) {
		template.HasResourceProperties(jsii.String(typ), properties)
	}
	role := template.FindResources(jsii.String("AWS::IAM::Role"), map[string]any{"Properties": map[string]any{"Description": "Role of the nodes of EKS cluster demo"}})
	if len(*role) != 1 {
		t.Fatalf("%d roles of nodes", len(*role))
	}
	for id := range *role {
		arn := map[string]any{"Fn::GetAtt": []any{id, "Arn"}}
		has("AWS::EKS::Nodegroup", map[string]any{"Version": "1.34", "NodeRole": arn})
		has("AWS::EKS::Nodegroup", map[string]any{"Version": "1.33", "NodeRole": arn, "ScalingConfig": map[string]any{"MinSize": 0, "MaxSize": 4, "DesiredSize": 0}})
	}
	has("AWS::EKS::FargateProfile", map[string]any{"Selectors": []any{map[string]any{"Namespace": "more", "Labels": []any{map[string]any{"Key": "a", "Value": "b"}}}}})
	has("AWS::EKS::AccessEntry", map[string]any{"PrincipalArn": "arn:aws:iam::111122223333:role/Karpenter", "Type": "EC2_LINUX"})
	has("AWS::EKS::Addon", map[string]any{"AddonName": "coredns", "AddonVersion": "v1.12.4-eksbuild.1", "ResolveConflicts": "OVERWRITE"})
	// What the plugin's network policies need is not to be talked out of.
	has("AWS::EKS::Addon", map[string]any{"AddonName": "vpc-cni", "ConfigurationValues": `{"enableNetworkPolicy":"true","env":{"A":"b"}}`})
	has("AWS::EKS::Addon", map[string]any{"AddonName": "aws-ebs-csi-driver", "PodIdentityAssociations": []any{map[string]any{"RoleArn": "arn:aws:iam::111122223333:role/Ebs", "ServiceAccount": "ebs"}}})
	template.HasResource(jsii.String("AWS::EKS::Addon"), map[string]any{"Properties": map[string]any{"AddonName": "coredns"}, "DependsOn": assertions.Match_AnyValue()})

	stack = newStack(t)
	ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), Nodegroups: &[]*ekskms.Nodegroup{}, Plugin: ekskms.KmsPluginOptions_NONE()})
	template = assertions.Template_FromStack(stack, nil)
	template.ResourceCountIs(jsii.String("AWS::EKS::Nodegroup"), jsii.Number(0))
	has("AWS::EKS::Cluster", map[string]any{"ComputeConfig": map[string]any{"Enabled": false}})
	has("AWS::EKS::Addon", map[string]any{"AddonName": "eks-pod-identity-agent"})
}

// TestNodePools: Auto Mode with some of its pools or none, and roles of node classes.
func TestNodePools(t *testing.T) {
	for pools, want := range map[ekskms.NodePools][]any{
		ekskms.NodePoolsBoth: {"system", "general-purpose"}, ekskms.NodePoolsSystem: {"system"}, ekskms.NodePoolsNone: {},
	} {
		stack := newStack(t)
		ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
			ClusterName: jsii.String("demo"), NodePools: pools, NodeRoles: jsii.Strings("arn:aws:iam::111122223333:role/Nodes"), Plugin: ekskms.KmsPluginOptions_NONE()})
		template := assertions.Template_FromStack(stack, nil)
		template.HasResourceProperties(jsii.String("AWS::EKS::Cluster"), map[string]any{"ComputeConfig": map[string]any{"Enabled": true, "NodePools": want}})
		template.HasResourceProperties(jsii.String("AWS::EKS::AccessEntry"), map[string]any{"Type": "EC2", "AccessPolicies": []any{map[string]any{"AccessScope": map[string]any{"Type": "cluster"}}}})
	}
}

// TestSecurityGroups: those that are given take the place of the CDK's, all of them.
func TestSecurityGroups(t *testing.T) {
	stack := newStack(t)
	group := func(id string) awsec2.ISecurityGroup {
		return awsec2.SecurityGroup_FromSecurityGroupId(stack, jsii.String(id), jsii.String(id), nil)
	}
	ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), SecurityGroups: &[]awsec2.ISecurityGroup{group("sg-1"), group("sg-2")}, Plugin: ekskms.KmsPluginOptions_NONE()})
	template := assertions.Template_FromStack(stack, nil)
	template.HasResourceProperties(jsii.String("AWS::EKS::Cluster"), map[string]any{"ResourcesVpcConfig": map[string]any{"SecurityGroupIds": []any{"sg-1", "sg-2"}}})
	template.ResourceCountIs(jsii.String("AWS::EC2::SecurityGroup"), jsii.Number(0))
}

// TestVolumes: the disks of a node group alone, an existing key, and the nodes of Auto Mode.
func TestVolumes(t *testing.T) {
	stack := newStack(t)
	given := &awseksv2.NodegroupOptions{DiskSize: jsii.Number(50)}
	cluster := ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), Nodegroup: given, Volumes: &ekskms.VolumesOptions{}, Plugin: ekskms.KmsPluginOptions_NONE()})
	if given.LaunchTemplateSpec != nil || *given.DiskSize != 50 {
		t.Error("the caller's options were changed")
	}
	if cluster.VolumesKey() == nil || cluster.RequiredVolumesKeyPolicyStatements() != nil {
		t.Error("a new key has a policy of its own")
	}
	template := assertions.Template_FromStack(stack, nil)
	template.HasResourceProperties(jsii.String("AWS::EC2::LaunchTemplate"), map[string]any{"LaunchTemplateData": map[string]any{
		"BlockDeviceMappings": []any{map[string]any{"DeviceName": "/dev/xvda", "Ebs": map[string]any{"Encrypted": true, "VolumeSize": 50}}},
		"MetadataOptions":     map[string]any{"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
	}})
	template.HasResourceProperties(jsii.String("AWS::EKS::Nodegroup"), map[string]any{"DiskSize": assertions.Match_Absent(), "LaunchTemplate": assertions.Match_AnyValue()})

	stack = newStack(t)
	const arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	cluster = ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), Nodegroups: &[]*ekskms.Nodegroup{{Id: jsii.String("a")}}, Plugin: ekskms.KmsPluginOptions_NONE(),
		Volumes: &ekskms.VolumesOptions{Key: awskms.Key_FromKeyArn(stack, jsii.String("Key"), jsii.String(arn))}})
	if required := cluster.RequiredVolumesKeyPolicyStatements(); required == nil {
		t.Error("nothing is asked of the owner of an existing key")
	}
	assertions.Template_FromStack(stack, nil).ResourceCountIs(jsii.String("AWS::KMS::Key"), jsii.Number(4)) // secrets, trail, alarms, logs

	stack = newStack(t)
	ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), NodePools: ekskms.NodePoolsNone, Volumes: &ekskms.VolumesOptions{}, Plugin: ekskms.KmsPluginOptions_NONE()})
	template = assertions.Template_FromStack(stack, nil)
	template.HasResourceProperties(jsii.String("AWS::EKS::AccessEntry"), map[string]any{"Type": "EC2"})
	template.HasResourceProperties(jsii.String("AWS::KMS::Key"), map[string]any{
		"Description": "Encrypts the volumes of EKS cluster demo",
		"KeyPolicy":   map[string]any{"Statement": assertions.Match_ArrayWith(&[]any{assertions.Match_ObjectLike(&map[string]any{"Sid": "VolumesGrant", "Condition": assertions.Match_ObjectLike(&map[string]any{"Bool": map[string]any{"kms:GrantIsForAWSResource": "true"}})})})},
	})
}

// TestClusterAccount: a key for a cluster of another account, and the cluster that takes it.
func TestClusterAccount(t *testing.T) {
	stackIn := func(id, account string) awscdk.Stack {
		return awscdk.NewStack(awscdk.NewApp(nil), jsii.String(id), &awscdk.StackProps{Env: &awscdk.Environment{Account: jsii.String(account), Region: jsii.String("eu-central-1")}})
	}
	keys := stackIn("Keys", "777788889999")
	key := ekskms.NewSecretsKey(keys, jsii.String("Key"), &ekskms.SecretsKeyProps{ClusterName: jsii.String("demo"), ClusterAccount: jsii.String("111122223333")})
	if required := key.RequiredKeyPolicyStatements(); required != nil {
		t.Error("a new key asks its owner for statements")
	}
	template, err := json.Marshal(assertions.Template_FromStack(keys, nil).ToJSON())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`:iam::777788889999:root"`, `role/cdk-hnb659fds-cfn-exec-role-111122223333-eu-central-1"`, `:iam::111122223333:role/ekskms/demo/plugin/*"`,
		`:eks:eu-central-1:111122223333:cluster/demo"`,
	} {
		if !strings.Contains(string(template), want) {
			t.Errorf("%s is not in the template", want)
		}
	}
	clusters := stackIn("Clusters", "111122223333")
	own := ekskms.NewSecretsKey(clusters, jsii.String("Key"), &ekskms.SecretsKeyProps{
		ClusterName: jsii.String("demo"), RolesByPath: jsii.Bool(true),
		ExistingKey: awskms.Key_FromKeyArn(clusters, jsii.String("Existing"), jsii.String("arn:aws:kms:eu-central-1:777788889999:key/1234abcd-12ab-34cd-56ef-1234567890ab")),
	})
	ekskms.NewEncryptedCluster(clusters, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{ClusterName: jsii.String("demo"), SecretsKey: own})
	if own.RequiredKeyPolicyStatements() != nil {
		t.Error("its owner is asked for what the policy has")
	}
	for _, path := range []string{"/ekskms/demo/", "/ekskms/demo/plugin/"} {
		assertions.Template_FromStack(clusters, nil).HasResourceProperties(jsii.String("AWS::IAM::Role"), map[string]any{"Path": path})
	}
}

// TestPermissionSet: in a stack for any account the pattern is of that account.
func TestPermissionSet(t *testing.T) {
	stack := newStack(t)
	ekskms.NewSecretsKey(stack, jsii.String("Key"), &ekskms.SecretsKeyProps{
		ClusterName: jsii.String("demo"), Administrators: &[]awsiam.IGrantable{ekskms.PermissionSet(stack, jsii.String("Admin"))}})
	template, err := json.Marshal(assertions.Template_FromStack(stack, nil).ToJSON())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Admin_????????????????"`,
		`:role/aws-reserved/sso.amazonaws.com/*/AWSReservedSSO_Admin_????????????????"`, `"AdministratorsBySet"`,
	} {
		if !strings.Contains(string(template), want) {
			t.Errorf("%s is not in the template", want)
		}
	}
	if strings.Contains(string(template), `"Administrators"`) {
		t.Error("a role is named")
	}
}

// TestCreationGranted: a role that is made after the key may create the cluster, and there
// is an end to it.
func TestCreationGranted(t *testing.T) {
	stack := newStack(t)
	key := newKey(stack)
	ekskms.NewAuditTrail(stack, jsii.String("Audit"), &ekskms.AuditTrailProps{SecretsKey: key})
	key.GrantClusterCreation(newRole(stack, "Late")).AssertSuccess()
	template := assertions.Template_FromStack(stack, nil)
	policy := statements(t, template, "Key")
	if !strings.Contains(toJSON(t, policy["ClusterCreatorsGrant2"]["Principal"]), "Late") {
		t.Errorf("the policy is %v", slices.Sorted(maps.Keys(policy)))
	}
	refused(t, "ekskms.SecretsKey.GrantClusterCreation: role is one too many, there may be at most 10 Creators", func(s awscdk.Stack) {
		key := newKey(s)
		for i := range 10 {
			key.GrantClusterCreation(newRole(s, fmt.Sprint("R", i)))
		}
	})
}
