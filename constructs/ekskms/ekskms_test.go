//go:build !race

package ekskms_test

import (
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudtrail"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseksv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/constructs/ekskms"
	"github.com/ekskms/ekskms/internal/scratch"
)

func TestMain(m *testing.M) {
	// Support of Kubernetes versions is judged as of 2026-11-27.
	_ = os.Setenv("SOURCE_DATE_EPOCH", "1795737600")
	// Before the first call of jsii, so that Node gets it: the fast path of
	// synthesis. See the guide.
	_ = os.Setenv("CDK_VALIDATION", "false")
	jsii.Close()
	var err error
	if assemblies, err = scratch.Dir(""); err != nil {
		panic(err)
	}
	code := m.Run()
	jsii.Close()
	_ = os.RemoveAll(assemblies)
	os.Exit(code)
}

func newStack(t *testing.T) awscdk.Stack {
	t.Helper()
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir())})
	return awscdk.NewStack(app, jsii.String("Test"), &awscdk.StackProps{
		Env: &awscdk.Environment{Account: jsii.String("111122223333"), Region: jsii.String("eu-central-1")},
	})
}

func newKey(stack awscdk.Stack) *ekskms.SecretsKey {
	return ekskms.NewSecretsKey(stack, jsii.String("Key"), &ekskms.SecretsKeyProps{ClusterName: jsii.String("demo")})
}

func policies(name string) *[]awseksv2.IAccessPolicy {
	return &[]awseksv2.IAccessPolicy{awseksv2.AccessPolicy_FromAccessPolicyName(jsii.String(name),
		&awseksv2.AccessPolicyNameOptions{AccessScopeType: awseksv2.AccessScopeType_CLUSTER})}
}

func newRole(stack awscdk.Stack, id string) awsiam.Role {
	return awsiam.NewRole(stack, jsii.String(id), &awsiam.RoleProps{AssumedBy: awsiam.NewAccountRootPrincipal()})
}

func badCluster(props ekskms.EncryptedClusterProps) func(awscdk.Stack) {
	return func(s awscdk.Stack) {
		props.ClusterName = jsii.String("demo")
		ekskms.NewEncryptedCluster(s, jsii.String("X"), &props)
	}
}

// TestBadProps: a constructor names the type, the prop, the value and what is
// allowed.
func TestBadProps(t *testing.T) {
	name := jsii.String("demo")
	days := func(n float64) awscdk.Duration { return awscdk.Duration_Days(jsii.Number(n)) }
	for _, test := range []struct {
		want  string
		build func(awscdk.Stack)
	}{
		{"ekskms.EncryptedCluster: Nodegroups is set beside Nodegroup: give one of them",
			badCluster(ekskms.EncryptedClusterProps{Nodegroup: &awseksv2.NodegroupOptions{}, Nodegroups: &[]*ekskms.Nodegroup{}})},
		{"ekskms.EncryptedCluster: NodePools is for EKS Auto Mode: remove it, or the node groups",
			badCluster(ekskms.EncryptedClusterProps{NodePools: ekskms.NodePoolsNone, Nodegroups: &[]*ekskms.Nodegroup{}})},
		{`ekskms.EncryptedCluster: NodePools is "all", must be one of both, general-purpose, system, none`,
			badCluster(ekskms.EncryptedClusterProps{NodePools: "all"})},
		{"ekskms.EncryptedCluster: Nodegroups[0].Id is missing, it has no default",
			badCluster(ekskms.EncryptedClusterProps{Nodegroups: &[]*ekskms.Nodegroup{nil}})},
		{`ekskms.EncryptedCluster: Nodegroups[1].Id is "a", as that of another: give each its own`,
			badCluster(ekskms.EncryptedClusterProps{Nodegroups: &[]*ekskms.Nodegroup{{Id: jsii.String("a")}, {Id: jsii.String("a")}}})},
		{"ekskms.EncryptedCluster: FargateProfiles[0].Selectors has 0 elements, must have 1 to 5",
			badCluster(ekskms.EncryptedClusterProps{FargateProfiles: &[]*ekskms.FargateProfile{{Id: jsii.String("a"), Selectors: &[]*awseksv2.Selector{}}}})},
		{"ekskms.EncryptedCluster: FargateProfiles[0].Selectors[0].Namespace is missing, it has no default",
			badCluster(ekskms.EncryptedClusterProps{FargateProfiles: &[]*ekskms.FargateProfile{{Id: jsii.String("a"), Selectors: &[]*awseksv2.Selector{{}}}}})},
		{"ekskms.EncryptedCluster: AddOns[0] has one of ServiceAccount and Role: give both or neither",
			badCluster(ekskms.EncryptedClusterProps{AddOns: &[]*ekskms.AddOn{{Name: jsii.String("a"), Role: jsii.String("a")}}})},
		{"ekskms.EncryptedCluster: SecurityGroups has 5 elements, must have at most 4",
			badCluster(ekskms.EncryptedClusterProps{SecurityGroups: &[]awsec2.ISecurityGroup{nil, nil, nil, nil, nil}})},
		{"ekskms.EncryptedCluster: Volumes needs NodePools: NodePoolsNone, since the disks of the built-in pools are under the account's default key",
			badCluster(ekskms.EncryptedClusterProps{Volumes: &ekskms.VolumesOptions{}})},
		{"ekskms.EncryptedCluster: Volumes is for nodes that come with the cluster, and there are none: give your nodes the key yourself",
			badCluster(ekskms.EncryptedClusterProps{Volumes: &ekskms.VolumesOptions{}, Nodegroups: &[]*ekskms.Nodegroup{}})},
		{"ekskms.EncryptedCluster: Volumes is set beside a LaunchTemplateSpec: name the key in the devices of that template, and leave Volumes out",
			badCluster(ekskms.EncryptedClusterProps{Volumes: &ekskms.VolumesOptions{}, Nodegroup: &awseksv2.NodegroupOptions{LaunchTemplateSpec: &awseksv2.LaunchTemplateSpec{Id: jsii.String("lt-1")}}})},
		{`ekskms.SecretsKey: ClusterAccount is "1", must be an account ID of 12 digits`,
			func(s awscdk.Stack) {
				ekskms.NewSecretsKey(s, jsii.String("X"), &ekskms.SecretsKeyProps{ClusterName: name, ClusterAccount: jsii.String("1")})
			}},
		{"ekskms.SecretsKey: ClusterAccount is set in a stack for any account and Region: name both in its Env",
			func(awscdk.Stack) {
				anywhere := awscdk.NewStack(awscdk.NewApp(nil), jsii.String("Anywhere"), nil)
				ekskms.NewSecretsKey(anywhere, jsii.String("X"), &ekskms.SecretsKeyProps{ClusterName: name, ClusterAccount: jsii.String("111122223333")})
			}},
		{"ekskms.SecretsKey: Plugin is set without ClusterAccount: a cluster of this account says it itself, remove it",
			func(s awscdk.Stack) {
				ekskms.NewSecretsKey(s, jsii.String("X"), &ekskms.SecretsKeyProps{ClusterName: name, Plugin: ekskms.KmsPluginOptions_NONE()})
			}},
		{`ekskms.PermissionSet: name is "a b", must be 1 to 32 letters, digits and +=,.@_-`,
			func(s awscdk.Stack) { ekskms.PermissionSet(s, jsii.String("a b")) }},
		{"ekskms.ClusterVpc: NatGateways is set beside Isolated: give one of them",
			func(s awscdk.Stack) {
				ekskms.NewClusterVpc(s, jsii.String("X"), &ekskms.ClusterVpcProps{Isolated: jsii.Bool(true), NatGateways: jsii.Number(1)})
			}},
		{"ekskms.SecretsKey: ClusterName is missing, it has no default",
			func(s awscdk.Stack) { ekskms.NewSecretsKey(s, jsii.String("X"), nil) }},
		{"ekskms.SecretsKey: RotationPeriod is 30 days, must be 90 to 2560",
			func(s awscdk.Stack) {
				ekskms.NewSecretsKey(s, jsii.String("X"), &ekskms.SecretsKeyProps{ClusterName: name, RotationPeriod: days(30)})
			}},
		{"ekskms.SecretsKey: PendingWindow is 31 days, must be 7 to 30",
			func(s awscdk.Stack) {
				ekskms.NewSecretsKey(s, jsii.String("X"), &ekskms.SecretsKeyProps{ClusterName: name, PendingWindow: days(31)})
			}},
		{"ekskms.SecretsKey: RotationPeriod is 90.5 days, must be 90 to 2560",
			func(s awscdk.Stack) {
				ekskms.NewSecretsKey(s, jsii.String("X"), &ekskms.SecretsKeyProps{ClusterName: name, RotationPeriod: awscdk.Duration_Hours(jsii.Number(90*24 + 12))})
			}},
		{`ekskms.SecretsKey: Alias is "demo", must begin with "alias/"`,
			func(s awscdk.Stack) {
				ekskms.NewSecretsKey(s, jsii.String("X"), &ekskms.SecretsKeyProps{ClusterName: name, Alias: name})
			}},
		{`ekskms.SecretsKey: Alias is "alias/aws/eks", but the prefix "alias/aws/" is reserved for AWS`,
			func(s awscdk.Stack) {
				ekskms.NewSecretsKey(s, jsii.String("X"), &ekskms.SecretsKeyProps{ClusterName: name, Alias: jsii.String("alias/aws/eks")})
			}},
		{"ekskms.SecretsKey: MultiRegion is set beside ExistingKey, but belongs to the owner of that key: remove it",
			func(s awscdk.Stack) {
				ekskms.NewSecretsKey(s, jsii.String("X"), &ekskms.SecretsKeyProps{
					ClusterName: name, MultiRegion: jsii.Bool(true), ExistingKey: awskms.NewKey(s, jsii.String("K"), nil)})
			}},
		{"ekskms.SecretsKey: Creators has 11 roles, must have at most 10",
			func(s awscdk.Stack) {
				roles := make([]awsiam.IGrantable, 11)
				for i := range roles {
					roles[i] = newRole(s, "R"+strconv.Itoa(i))
				}
				ekskms.NewSecretsKey(s, jsii.String("X"), &ekskms.SecretsKeyProps{ClusterName: name, Creators: &roles})
			}},
		{"ekskms.SecretsKey: BreakGlass is set beside ExistingKey, but belongs to the owner of that key: remove it",
			func(s awscdk.Stack) {
				roles := []awsiam.IGrantable{awsiam.NewArnPrincipal(jsii.String("arn:aws:iam::111122223333:role/a"))}
				ekskms.NewSecretsKey(s, jsii.String("X"), &ekskms.SecretsKeyProps{
					ClusterName: name, BreakGlass: &roles, ExistingKey: awskms.NewKey(s, jsii.String("K"), nil)})
			}},
		{"ekskms.SecretsKey: Administrators has 11 roles, must have at most 10",
			func(s awscdk.Stack) {
				roles := make([]awsiam.IGrantable, 11)
				for i := range roles {
					roles[i] = newRole(s, "R"+strconv.Itoa(i))
				}
				ekskms.NewSecretsKey(s, jsii.String("X"), &ekskms.SecretsKeyProps{ClusterName: name, Administrators: &roles})
			}},
		{"ekskms.SecretsKey.GrantPluginUse: ServiceAccount is missing, it has no default",
			func(s awscdk.Stack) {
				newKey(s).GrantPluginUse(newRole(s, "R"), &ekskms.PluginIdentity{Namespace: name})
			}},
		{"ekskms.AuditTrail: SecretsKey is missing, it has no default",
			func(s awscdk.Stack) { ekskms.NewAuditTrail(s, jsii.String("X"), nil) }},
		{"ekskms.AuditTrail: Retention is 0 days, must be 1 to 36500",
			func(s awscdk.Stack) {
				ekskms.NewAuditTrail(s, jsii.String("X"), &ekskms.AuditTrailProps{SecretsKey: newKey(s), Retention: days(0)})
			}},
		{"ekskms.AuditTrail: Emails is set beside ExistingTopic, but belongs to its owner: remove it",
			func(s awscdk.Stack) {
				ekskms.NewAuditTrail(s, jsii.String("X"), &ekskms.AuditTrailProps{
					SecretsKey: newKey(s), ExistingTopic: awssns.NewTopic(s, jsii.String("T"), nil), Emails: jsii.Strings("a@example.com")})
			}},
		{"ekskms.EncryptedCluster: ClusterName is missing, it has no default",
			func(s awscdk.Stack) { ekskms.NewEncryptedCluster(s, jsii.String("X"), nil) }},
		{`ekskms.EncryptedCluster: ClusterName is "-x", must be 1 to 100 letters, digits, hyphens and underscores, and begin with a letter or digit`,
			func(s awscdk.Stack) {
				ekskms.NewEncryptedCluster(s, jsii.String("X"), &ekskms.EncryptedClusterProps{ClusterName: jsii.String("-x")})
			}},
		{`ekskms.EncryptedCluster: SecretsKey is the key of cluster "demo", must be that of "other"`,
			func(s awscdk.Stack) {
				ekskms.NewEncryptedCluster(s, jsii.String("X"), &ekskms.EncryptedClusterProps{ClusterName: jsii.String("other"), SecretsKey: newKey(s)})
			}},
		{"ekskms.EncryptedCluster: AuditTrail watches another key, must watch the SecretsKey of this cluster: pass that too",
			func(s awscdk.Stack) {
				ekskms.NewEncryptedCluster(s, jsii.String("X"), &ekskms.EncryptedClusterProps{
					ClusterName: name, AuditTrail: ekskms.NewAuditTrail(s, jsii.String("A"), &ekskms.AuditTrailProps{SecretsKey: newKey(s)})})
			}},
		{`ekskms.SecretsKey: Alias is "alias/eks/demo/logs", which is that of another key of this cluster`,
			func(s awscdk.Stack) {
				ekskms.NewSecretsKey(s, jsii.String("X"), &ekskms.SecretsKeyProps{ClusterName: name, Alias: jsii.String("alias/eks/demo/logs")})
			}},
		{"ekskms.SecretsKey: ClusterName is not known at synthesis, but the names of the key and the trail are made of it: pass a literal",
			func(s awscdk.Stack) {
				ekskms.NewSecretsKey(s, jsii.String("X"), &ekskms.SecretsKeyProps{ClusterName: awscdk.Fn_ImportValue(name)})
			}},
		{"ekskms.SecretsKey: ExistingKey is in us-east-1, must be in the Region of the cluster, eu-central-1",
			func(s awscdk.Stack) {
				ekskms.NewSecretsKey(s, jsii.String("X"), &ekskms.SecretsKeyProps{ClusterName: name, ExistingKey: awskms.Key_FromKeyArn(
					s, jsii.String("K"), jsii.String("arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"))})
			}},
		{`ekskms.SecretsKey: ExistingKey has the ARN "arn:aws:kms:eu-central-1:111122223333:alias/demo", must have that of a key: arn:<partition>:kms:<region>:<account>:key/<id>`,
			func(s awscdk.Stack) {
				ekskms.NewSecretsKey(s, jsii.String("X"), &ekskms.SecretsKeyProps{ClusterName: name, ExistingKey: awskms.Key_FromKeyArn(
					s, jsii.String("K"), jsii.String("arn:aws:kms:eu-central-1:111122223333:alias/demo"))})
			}},
		{"ekskms.SecretsKey: Creators has ARNs of 2000 characters in all, must have at most 1400",
			func(s awscdk.Stack) {
				roles := make([]awsiam.IGrantable, 10)
				for i := range roles {
					id := "R" + strconv.Itoa(i)
					arn := "arn:aws:iam::111122223333:role/" + strings.Repeat("p", 167) + id
					roles[i] = awsiam.Role_FromRoleArn(s, jsii.String(id), jsii.String(arn), nil)
				}
				ekskms.NewSecretsKey(s, jsii.String("X"), &ekskms.SecretsKeyProps{ClusterName: name, Creators: &roles})
			}},
		{`ekskms.EncryptedCluster: PublicAccessCidrs holds "office", must be IPv4 ranges such as 203.0.113.0/24`,
			func(s awscdk.Stack) {
				ekskms.NewEncryptedCluster(s, jsii.String("X"), &ekskms.EncryptedClusterProps{ClusterName: name, PublicAccessCidrs: jsii.Strings("office")})
			}},
		{`ekskms.EncryptedCluster: Plugin.Architecture is "amd64", must be "arm64" as the instance types of Nodegroup are`,
			func(s awscdk.Stack) {
				ekskms.NewEncryptedCluster(s, jsii.String("X"), &ekskms.EncryptedClusterProps{
					ClusterName: name, Nodegroup: &awseksv2.NodegroupOptions{InstanceTypes: &[]awsec2.InstanceType{awsec2.NewInstanceType(jsii.String("m7g.large"))}}, Plugin: &ekskms.KmsPluginOptions{Architecture: ekskms.PluginArchitectureAmd64}})
			}},
		{"ekskms.EncryptedCluster: AccessEntries[0] is missing, it has no default",
			func(s awscdk.Stack) {
				ekskms.NewEncryptedCluster(s, jsii.String("X"), &ekskms.EncryptedClusterProps{ClusterName: name, AccessEntries: &[]*ekskms.AccessEntry{nil}})
			}},
		{"ekskms.EncryptedCluster: PublicAccessCidrs holds 0.0.0.0/1, which opens the API to much of the world: name the ranges that need it, none larger than a /8",
			func(s awscdk.Stack) {
				ekskms.NewEncryptedCluster(s, jsii.String("X"), &ekskms.EncryptedClusterProps{ClusterName: name, PublicAccessCidrs: jsii.Strings("0.0.0.0/1", "128.0.0.0/1")})
			}},
		{"ekskms.EncryptedCluster: AccessEntries[0] has neither AccessPolicies nor Groups: say what the principal may do",
			func(s awscdk.Stack) {
				ekskms.NewEncryptedCluster(s, jsii.String("X"), &ekskms.EncryptedClusterProps{
					ClusterName: name, AccessEntries: &[]*ekskms.AccessEntry{{Principal: name}}})
			}},
		{"ekskms.KmsPlugin: Cluster is missing, it has no default",
			func(s awscdk.Stack) { ekskms.NewKmsPlugin(s, jsii.String("X"), nil) }},
		{`ekskms.EncryptedCluster: Plugin.Architecture is "arm64", must be "amd64" as the instance types of Nodegroup are`,
			func(s awscdk.Stack) {
				ekskms.NewEncryptedCluster(s, jsii.String("X"), &ekskms.EncryptedClusterProps{
					ClusterName: name, Nodegroup: &awseksv2.NodegroupOptions{}, Plugin: &ekskms.KmsPluginOptions{Architecture: ekskms.PluginArchitectureArm64}})
			}},
		{`ekskms.KmsPlugin: SecretsKey is the key of cluster "demo", must be that of "other"`,
			func(s awscdk.Stack) {
				ekskms.NewKmsPlugin(s, jsii.String("X"), &ekskms.KmsPluginProps{SecretsKey: newKey(s), Cluster: awseksv2.Cluster_FromClusterAttributes(
					s, jsii.String("C"), &awseksv2.ClusterAttributes{ClusterName: jsii.String("other")})})
			}},
		{"ekskms.ClusterVpc: AvailabilityZones has 1 elements, EKS needs at least 2",
			func(s awscdk.Stack) {
				ekskms.NewClusterVpc(s, jsii.String("X"), &ekskms.ClusterVpcProps{AvailabilityZones: jsii.Strings("eu-central-1a")})
			}},
	} {
		t.Run(test.want, func(t *testing.T) { refused(t, test.want, test.build) })
	}
}

// refused wants a constructor to panic with a PropError that says so.
func refused(t *testing.T, want string, build func(awscdk.Stack)) {
	t.Helper()
	stack := newStack(t)
	defer func() {
		t.Helper()
		var prop *ekskms.PropError
		if err, ok := recover().(error); !ok || !errors.As(err, &prop) {
			t.Fatalf("got %v, want a PropError", err)
		}
		if prop.Error() != want {
			t.Errorf("got  %s\nwant %s", prop, want)
		}
	}()
	build(stack)
	t.Error("it was accepted")
}

func statements(t *testing.T, template assertions.Template, logicalID string) map[string]map[string]any {
	t.Helper()
	resources := (*template.ToJSON())["Resources"].(map[string]any)
	for id, r := range resources {
		if !strings.HasPrefix(id, logicalID) || r.(map[string]any)["Type"] != "AWS::KMS::Key" {
			continue
		}
		policy := r.(map[string]any)["Properties"].(map[string]any)["KeyPolicy"].(map[string]any)
		all := map[string]map[string]any{}
		for _, s := range policy["Statement"].([]any) {
			statement := s.(map[string]any)
			sid, _ := statement["Sid"].(string)
			if _, twice := all[sid]; twice {
				t.Errorf("the Sid %q is there twice", sid)
			}
			all[sid] = statement
		}
		return all
	}
	t.Fatalf("no key %s", logicalID)
	return nil
}

// TestGrants: what is granted later goes into the same policy, under Sids of its
// own, and the caller's props are left alone.
func TestGrants(t *testing.T) {
	stack := newStack(t)
	props := &ekskms.SecretsKeyProps{ClusterName: jsii.String("demo")}
	key := ekskms.NewSecretsKey(stack, jsii.String("Key"), props)
	if *props != (ekskms.SecretsKeyProps{ClusterName: props.ClusterName}) {
		t.Error("the caller's props were changed")
	}
	for _, tenant := range []string{"One", "Two"} {
		key.GrantPluginUse(newRole(stack, tenant), &ekskms.PluginIdentity{Namespace: jsii.String("tenant"), ServiceAccount: jsii.String(tenant)})
	}
	// The construct can be a scope, as any construct can.
	awscdk.NewCfnOutput(key, jsii.String("Extra"), &awscdk.CfnOutputProps{Value: key.KeyArn()})
	policy := statements(t, assertions.Template_FromStack(stack, nil), "Key")
	for _, sid := range []string{"AccountAdministration", "ClusterCreatorsDescribe", "ClusterCreatorsGrant", "PluginUse", "PluginUse2", "PluginDescribe2"} {
		if policy[sid] == nil {
			t.Errorf("there is no statement %s", sid)
		}
	}
	if len(policy) != 7 {
		t.Errorf("there are %d statements, want 7", len(policy))
	}
}

// TestExistingKey: nothing of the key is changed, and its owner is told what to
// add, in an order that works.
func TestExistingKey(t *testing.T) {
	stack := newStack(t)
	arn := "arn:aws:kms:eu-central-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	key := ekskms.NewSecretsKey(stack, jsii.String("Key"), &ekskms.SecretsKeyProps{
		ClusterName: jsii.String("demo"),
		ExistingKey: awskms.Key_FromKeyArn(stack, jsii.String("Existing"), jsii.String(arn)),
	})
	if key.AliasName() != nil {
		t.Error("an existing key has an alias of ours")
	}
	// What is asked for after this is in it too.
	awscdk.NewCfnOutput(stack, jsii.String("Required"), &awscdk.CfnOutputProps{Value: key.RequiredKeyPolicyStatements()})
	ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), SecretsKey: key, Plugin: &ekskms.KmsPluginOptions{Image: jsii.String("registry.example/kms-plugin:v1")}})
	warnings := assertions.Annotations_FromStack(stack).FindWarning(jsii.String("/Test/Key"), assertions.Match_StringLikeRegexp(jsii.String(arn)))
	if len(*warnings) != 1 {
		t.Errorf("got %d warnings that name the key, want 1", len(*warnings))
	}
	template := assertions.Template_FromStack(stack, nil)
	output := (*template.FindOutputs(jsii.String("Required"), nil))["Required"]
	join := (*output)["Value"].(map[string]any)["Fn::Join"].([]any)[1].([]any)
	var text strings.Builder
	for _, part := range join {
		switch s, ok := part.(string); {
		case ok:
			text.WriteString(s)
		case part.(map[string]any)["Ref"] == "AWS::Partition":
			text.WriteString("aws")
		default:
			text.WriteString("arn:aws:iam::111122223333:role/Made")
		}
	}
	var requested []struct {
		Sid       string
		Principal struct{ AWS string }
		Condition map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(text.String()), &requested); err != nil {
		t.Fatalf("%v in %s", err, text.String())
	}
	var sids []string
	for _, s := range requested {
		sids = append(sids, s.Sid)
		if s.Sid == "ClusterRole" {
			if s.Principal.AWS != "arn:aws:iam::111122223333:root" {
				t.Errorf("the cluster role's statement names %s, which is not there when it must be added", s.Principal.AWS)
			}
			if got := s.Condition["ArnLike"]["aws:PrincipalArn"]; got != "arn:aws:iam::111122223333:role/ekskms/demo/*" {
				t.Errorf("the cluster role's statement is for %v", got)
			}
		}
	}
	if got, want := strings.Join(sids, " "), "ClusterCreatorsDescribe ClusterCreatorsGrant ClusterRole PluginDescribe PluginUse"; got != want {
		t.Errorf("the owner is asked for %s, want %s", got, want)
	}
	template.HasResourceProperties(jsii.String("AWS::IAM::Role"), map[string]any{"Path": "/ekskms/demo/"})
}

// TestTrailNames: CloudTrail refuses hyphens and underscores side by side.
func TestTrailNames(t *testing.T) {
	for cluster, want := range map[string]string{
		"demo":                   `^ekskms-demo-eu-central-1$`,
		"team_a-prod":            `^ekskms-team_a-prod-eu-central-1$`,
		"team--a":                `^ekskms-team-a-[0-9a-f]{8}-eu-central-1$`,
		"team-_a-":               `^ekskms-team-a-[0-9a-f]{8}-eu-central-1$`,
		strings.Repeat("a", 100): `^ekskms-a{100}-eu-central-1$`,
	} {
		stack := newStack(t)
		key := ekskms.NewSecretsKey(stack, jsii.String("Key"), &ekskms.SecretsKeyProps{ClusterName: jsii.String(cluster)})
		ekskms.NewAuditTrail(stack, jsii.String("Audit"), &ekskms.AuditTrailProps{SecretsKey: key})
		assertions.Template_FromStack(stack, nil).HasResourceProperties(jsii.String("AWS::CloudTrail::Trail"),
			map[string]any{"TrailName": assertions.Match_StringLikeRegexp(jsii.String(want))})
	}
}

// TestExistingTrailElsewhere: the rules of this Region do not see what is done
// to a trail whose home is another.
func TestExistingTrailElsewhere(t *testing.T) {
	for arn, want := range map[string]int{
		"arn:aws:cloudtrail:us-east-1:111122223333:trail/all":    1,
		"arn:aws:cloudtrail:eu-central-1:111122223333:trail/all": 0,
	} {
		stack := newStack(t)
		audit := ekskms.NewAuditTrail(stack, jsii.String("Audit"), &ekskms.AuditTrailProps{
			SecretsKey:    newKey(stack),
			ExistingTrail: awscloudtrail.CfnTrail_FromTrailArn(stack, jsii.String("Existing"), jsii.String(arn)),
		})
		warnings := assertions.Annotations_FromStack(stack).FindWarning(jsii.String("/Test/Audit"), assertions.Match_StringLikeRegexp(jsii.String("has its home in us-east-1")))
		if len(*warnings) != want {
			t.Errorf("%s: got %d warnings, want %d", arn, len(*warnings), want)
		}
		if audit.Trail() != nil || audit.Bucket() != nil || *audit.TrailArn() != arn {
			t.Errorf("%s: a trail was made", arn)
		}
		audit.GrantRead(newRole(stack, "Auditor")) // the owner's affair, and no fault
	}
}

// TestOwnKubectlLayer: a layer that is passed in is used, and none is bundled.
func TestOwnKubectlLayer(t *testing.T) {
	stack := newStack(t)
	layer := awslambda.LayerVersion_FromLayerVersionArn(stack, jsii.String("Layer"), jsii.String("arn:aws:lambda:eu-central-1:111122223333:layer:kubectl:1"))
	ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), KubernetesVersion: awseksv2.KubernetesVersion_V1_36(),
		KubectlLayer: layer, Plugin: ekskms.KmsPluginOptions_NONE()})
	template := assertions.Template_FromStack(stack, nil)
	template.ResourceCountIs(jsii.String("AWS::Lambda::LayerVersion"), jsii.Number(1)) // the AWS CLI
	template.ResourceCountIs(jsii.String("AWS::EKS::PodIdentityAssociation"), jsii.Number(0))
	if w := assertions.Annotations_FromStack(stack).FindWarning(jsii.String("*"), assertions.Match_StringLikeRegexp(jsii.String("version skew"))); len(*w) != 0 {
		t.Error("the skew of a layer that is not used is warned of")
	}
}

// TestKubectlSkew: the bundled kubectl supports one minor version more and less.
func TestKubectlSkew(t *testing.T) {
	for version, want := range map[string]int{"1.32": 1, "1.33": 0, "1.35": 0, "1.36": 1} {
		stack := newStack(t)
		ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
			ClusterName: jsii.String("demo"), KubernetesVersion: awseksv2.KubernetesVersion_Of(jsii.String(version)), Plugin: ekskms.KmsPluginOptions_NONE(), KubectlHandler: jsii.Bool(true)})
		if w := assertions.Annotations_FromStack(stack).FindWarning(jsii.String("/Test/Cluster"), assertions.Match_StringLikeRegexp(jsii.String("version skew"))); len(*w) != want {
			t.Errorf("%s: got %d warnings, want %d", version, len(*w), want)
		}
	}
}

// twoStacks makes a stack for the key and one for the cluster.
func twoStacks(t *testing.T, keyEnv, clusterEnv *awscdk.Environment) (app awscdk.App, security, platform awscdk.Stack) {
	t.Helper()
	app = awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir())})
	security = awscdk.NewStack(app, jsii.String("Security"), &awscdk.StackProps{Env: keyEnv})
	platform = awscdk.NewStack(app, jsii.String("Platform"), &awscdk.StackProps{Env: clusterEnv})
	return app, security, platform
}

// TestKeyInAnotherStack: the roles that the key's policy names are made beside
// the key, so that the stack of the cluster needs that of the key and not the
// other way round too.
func TestKeyInAnotherStack(t *testing.T) {
	app, security, platform := twoStacks(t, nil, nil)
	key := newKey(security)
	audit := ekskms.NewAuditTrail(security, jsii.String("Audit"), &ekskms.AuditTrailProps{SecretsKey: key})
	ekskms.NewEncryptedCluster(platform, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), SecretsKey: key, AuditTrail: audit, Plugin: &ekskms.KmsPluginOptions{Image: jsii.String("registry.example/kms-plugin:v1")}})
	app.Synth(nil) // fails on a cycle
	policy := statements(t, assertions.Template_FromStack(security, nil), "Key")
	for sid, role := range map[string]string{"ClusterRole": "KeyClusterRole", "PluginUse": "KeyPluginRole"} {
		principal, _ := json.Marshal(policy[sid]["Principal"])
		if !strings.Contains(string(principal), role) {
			t.Errorf("statement %s is for %s, want %s", sid, principal, role)
		}
	}
	assertions.Template_FromStack(platform, nil).ResourceCountIs(jsii.String("AWS::EKS::Cluster"), jsii.Number(1))
}

// TestKeyElsewhere: a key of another Region can't encrypt the secrets.
func TestKeyElsewhere(t *testing.T) {
	env := func(region string) *awscdk.Environment {
		return &awscdk.Environment{Account: jsii.String("111122223333"), Region: jsii.String(region)}
	}
	_, security, platform := twoStacks(t, env("us-east-1"), env("eu-central-1"))
	defer func() {
		want := "ekskms.EncryptedCluster: SecretsKey is in a stack of another account or Region, must be where the cluster is"
		if err, ok := recover().(error); !ok || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}()
	ekskms.NewEncryptedCluster(platform, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{ClusterName: jsii.String("demo"), SecretsKey: newKey(security)})
}

// TestKeyOfAnotherAccount: alarms on such a key are the owner's affair, and
// the user is told.
func TestKeyOfAnotherAccount(t *testing.T) {
	for account, want := range map[string]int{"444455556666": 1, "111122223333": 0} {
		stack := newStack(t)
		ekskms.NewSecretsKey(stack, jsii.String("Key"), &ekskms.SecretsKeyProps{ClusterName: jsii.String("demo"), ExistingKey: awskms.Key_FromKeyArn(
			stack, jsii.String("Existing"), jsii.String("arn:aws:kms:eu-central-1:"+account+":key/1234abcd-12ab-34cd-56ef-1234567890ab"))})
		warnings := assertions.Annotations_FromStack(stack).FindWarning(jsii.String("/Test/Key"), assertions.Match_StringLikeRegexp(jsii.String("the alarms of this stack.* do not see it")))
		if len(*warnings) != want {
			t.Errorf("%s: got %d warnings, want %d", account, len(*warnings), want)
		}
	}
}

// TestSeveralExistingKeys: each tells its own statements, and none makes an output in
// the scope of the caller.
func TestSeveralExistingKeys(t *testing.T) {
	stack := newStack(t)
	var keys []*ekskms.SecretsKey
	for _, name := range []string{"one", "two"} {
		keys = append(keys, ekskms.NewSecretsKey(stack, jsii.String(name), &ekskms.SecretsKeyProps{ClusterName: jsii.String(name), ExistingKey: awskms.Key_FromKeyArn(
			stack, jsii.String("Existing"+name), jsii.String("arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"))}))
	}
	if outputs := *assertions.Template_FromStack(stack, nil).FindOutputs(jsii.String("*"), nil); len(outputs) != 0 {
		t.Errorf("there are outputs: %v", outputs)
	}
	if keys[0].RequiredKeyPolicyStatements() == nil || *keys[0].RequiredKeyPolicyStatements() == *keys[1].RequiredKeyPolicyStatements() {
		t.Error("the statements are those of another key")
	}
	if newKey(stack).RequiredKeyPolicyStatements() != nil {
		t.Error("a new key wants statements of its owner")
	}
}

// TestExecutionRole: the default creators follow the qualifier of the context;
// of a synthesizer that is passed in, jsii does not tell it, and no guess is
// made.
func TestExecutionRole(t *testing.T) {
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir()), Context: &map[string]any{"@aws-cdk/core:bootstrapQualifier": "abc123"}})
	key := newKey(awscdk.NewStack(app, jsii.String("Stack"), &awscdk.StackProps{
		Env: &awscdk.Environment{Account: jsii.String("111122223333"), Region: jsii.String("eu-central-1")}}))
	if got := *(*key.CreatorArns())[0]; !strings.HasSuffix(got, ":role/cdk-abc123-cfn-exec-role-111122223333-eu-central-1") {
		t.Errorf("the creator is %s", got)
	}
	for name, synthesizer := range map[string]awscdk.IStackSynthesizer{
		"default": awscdk.NewDefaultStackSynthesizer(&awscdk.DefaultStackSynthesizerProps{Qualifier: jsii.String("abc123")}),
		"legacy":  awscdk.NewLegacyStackSynthesizer(),
		"cli":     awscdk.NewCliCredentialsStackSynthesizer(nil),
	} {
		t.Run(name, func(t *testing.T) {
			app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir())})
			stack := awscdk.NewStack(app, jsii.String("Stack"), &awscdk.StackProps{Synthesizer: synthesizer})
			deployer := awsiam.Role_FromRoleArn(stack, jsii.String("Deployer"), jsii.String("arn:aws:iam::111122223333:role/Deployer"), nil)
			ekskms.NewSecretsKey(stack, jsii.String("Named"), &ekskms.SecretsKeyProps{ClusterName: jsii.String("named"), Creators: &[]awsiam.IGrantable{deployer}})
			defer func() {
				var prop *ekskms.PropError
				if err, ok := recover().(error); !ok || !errors.As(err, &prop) || prop.Prop != "Creators" {
					t.Errorf("got %v, want a PropError of Creators", err)
				}
			}()
			newKey(stack)
		})
	}
}

// TestPluginArchitecture follows the nodes.
func TestPluginArchitecture(t *testing.T) {
	stack := newStack(t)
	ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), Nodegroup: &awseksv2.NodegroupOptions{InstanceTypes: &[]awsec2.InstanceType{awsec2.NewInstanceType(jsii.String("m7g.large"))}}})
	assertions.Template_FromStack(stack, nil).HasResourceProperties(jsii.String("AWS::EKS::Nodegroup"), map[string]any{"AmiType": "AL2023_ARM_64_STANDARD"})
	template, err := json.Marshal(assertions.Template_FromStack(stack, nil).ToJSON())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(template), `kubernetes.io/arch\":\"arm64`) {
		t.Error("the plugin does not go to the arm64 nodes")
	}
}
