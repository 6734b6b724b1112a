//go:build !race

package ekskms_test

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/constructs/ekskms"
)

func newCluster(stack awscdk.Stack) *ekskms.EncryptedCluster {
	return ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), Plugin: ekskms.KmsPluginOptions_NONE(), KubectlHandler: jsii.Bool(true)})
}

func reader(change func(*ekskms.SecretReader)) *ekskms.SecretReader {
	r := &ekskms.SecretReader{
		Name: jsii.String("api"), Namespace: jsii.String("shop"), SecretNames: jsii.Strings("db"), Groups: jsii.Strings("team"),
	}
	if change != nil {
		change(r)
	}
	return r
}

func TestBadReaders(t *testing.T) {
	many := make([]string, 21)
	for i := range many {
		many[i] = "arn:aws:iam::111122223333:role/r" + strconv.Itoa(i)
	}
	for want, props := range map[string]*ekskms.SecretsRbacProps{
		`Guard is "audit", must be "off", "warn" or "deny"`: {Guard: "audit"},
		`GuardExemptions is set, but Guard is "off": set that to "warn" or "deny", or leave this out`: {
			Readers: &[]*ekskms.SecretReader{reader(nil)}, GuardExemptions: jsii.Strings("monitoring")},
		`GuardExemptions[0] is missing, it has no default`: {Guard: ekskms.SecretsGuardWarn, GuardExemptions: &[]*string{nil}},
		`Readers[0] is missing, it has no default`:         {Readers: &[]*ekskms.SecretReader{nil}},
	} {
		t.Run(want, func(t *testing.T) {
			refused(t, "ekskms.SecretsRbac: "+want, func(s awscdk.Stack) {
				props.Cluster = newCluster(s).Cluster()
				ekskms.NewSecretsRbac(s, jsii.String("X"), props)
			})
		})
	}
	for want, change := range map[string]func(*ekskms.SecretReader){
		`Name is missing, it has no default`:                    func(r *ekskms.SecretReader) { r.Name = nil },
		`Namespace is missing, it has no default`:               func(r *ekskms.SecretReader) { r.Namespace = nil },
		`SecretNames is empty: name the secrets`:                func(r *ekskms.SecretReader) { r.SecretNames = nil },
		`SecretNames[0] is missing, it has no default`:          func(r *ekskms.SecretReader) { r.SecretNames = &[]*string{nil} },
		`ServiceAccounts[0].Name is missing, it has no default`: func(r *ekskms.SecretReader) { r.ServiceAccounts = &[]*ekskms.SecretReaderServiceAccount{{}} },
		`PrincipalArns has 21 items, must have at most 20`:      func(r *ekskms.SecretReader) { r.PrincipalArns = jsii.Strings(many...) },
		`SecretNames[0] is "*": RBAC knows no wildcards in names: name each secret`: func(r *ekskms.SecretReader) {
			r.SecretNames = jsii.Strings("*")
		},
		`PrincipalArns[0] is "arn:aws:iam::111122223333:role/*", must be the ARN of an IAM role or user`: func(r *ekskms.SecretReader) {
			r.PrincipalArns = jsii.Strings("arn:aws:iam::111122223333:role/*")
		},
		`PrincipalArns is set, but Groups is empty: name a group to put them in`: func(r *ekskms.SecretReader) {
			r.Groups, r.PrincipalArns = nil, jsii.Strings(many[0])
			r.ServiceAccounts = &[]*ekskms.SecretReaderServiceAccount{{Name: jsii.String("api")}}
		},
	} {
		t.Run(want, func(t *testing.T) {
			refused(t, "ekskms.SecretsRbac: Readers[0]."+want, func(s awscdk.Stack) {
				ekskms.NewSecretsRbac(s, jsii.String("X"), &ekskms.SecretsRbacProps{
					Cluster: newCluster(s).Cluster(), Readers: &[]*ekskms.SecretReader{reader(change)}})
			})
		})
	}
	refused(t, "ekskms.SecretsRbac: Cluster is missing, it has no default", func(s awscdk.Stack) { ekskms.NewSecretsRbac(s, jsii.String("X"), nil) })
	refused(t, `ekskms.EncryptedCluster: AccessEntries[0].Groups[0] is "system:masters": the prefix system: is reserved, give a group of your own`, func(s awscdk.Stack) {
		ekskms.NewEncryptedCluster(s, jsii.String("X"), &ekskms.EncryptedClusterProps{ClusterName: jsii.String("demo"), AccessEntries: &[]*ekskms.AccessEntry{{
			Principal: jsii.String(many[0]), AccessPolicies: policies("AmazonEKSViewPolicy"), Groups: jsii.Strings("system:masters")}}})
	})
}

// TestReadersTakenOut: a reader that goes or moves takes its own resource along,
// and leaves those of the others, the access entry of a principal among them.
func TestReadersTakenOut(t *testing.T) {
	const arn = "arn:aws:iam::111122223333:role/Team"
	build := func(readers ...*ekskms.SecretReader) assertions.Template {
		stack := newStack(t)
		// A role of this app, whose ARN is a token, and one that is there.
		made := newRole(stack, "Made").RoleArn()
		for _, r := range readers {
			r.PrincipalArns = &[]*string{jsii.String(arn), made}
		}
		ekskms.NewSecretsRbac(stack, jsii.String("Rbac"), &ekskms.SecretsRbacProps{
			Cluster: newCluster(stack).Cluster(), Readers: &readers, Guard: ekskms.SecretsGuardDeny})
		return assertions.Template_FromStack(stack, nil)
	}
	ids := func(template assertions.Template, kind string) []string {
		all := slices.Sorted(maps.Keys(*template.FindResources(jsii.String(kind), nil)))
		return slices.DeleteFunc(all, func(id string) bool { return !strings.HasPrefix(id, "Rbac") })
	}
	other := func() *ekskms.SecretReader {
		return reader(func(r *ekskms.SecretReader) { r.Name, r.Groups = jsii.String("web"), jsii.Strings("web", "team") })
	}
	both, one := build(reader(nil), other()), build(other())
	moved := build(reader(func(r *ekskms.SecretReader) { r.Namespace = jsii.String("other") }), other())

	const custom, entry = "Custom::AWSCDK-EKS-KubernetesResource", "AWS::EKS::AccessEntry"
	before, after, elsewhere := ids(both, custom), ids(one, custom), ids(moved, custom)
	if len(before) != 3 || len(after) != 2 || len(elsewhere) != 3 {
		t.Fatalf("%v\n%v\n%v", before, after, elsewhere)
	}
	for _, id := range after {
		if !slices.Contains(before, id) || !slices.Contains(elsewhere, id) {
			t.Errorf("%s is new", id)
		}
	}
	if slices.Equal(before, elsewhere) {
		t.Error("a reader that moves leaves its role behind")
	}
	if got := ids(both, entry); len(got) != 2 || !slices.Equal(got, ids(one, entry)) {
		t.Errorf("access entries %v, then %v", got, ids(one, entry))
	}
	both.HasResourceProperties(jsii.String(entry), map[string]any{
		"PrincipalArn": arn, "KubernetesGroups": []any{"team", "web"}, "Type": "STANDARD", "AccessPolicies": assertions.Match_Absent()})
}

// TestGroupsOfAccessEntries: they are beside the policy, and an entry without any
// has none.
func TestGroupsOfAccessEntries(t *testing.T) {
	const with, without = "arn:aws:iam::111122223333:role/Team", "arn:aws:iam::111122223333:role/Auditor"
	stack := newStack(t)
	entry := func(arn string, groups *[]*string) *ekskms.AccessEntry {
		return &ekskms.AccessEntry{Principal: jsii.String(arn), AccessPolicies: policies("AmazonEKSViewPolicy"), Groups: groups}
	}
	ekskms.NewEncryptedCluster(stack, jsii.String("Cluster"), &ekskms.EncryptedClusterProps{
		ClusterName: jsii.String("demo"), Plugin: ekskms.KmsPluginOptions_NONE(),
		AccessEntries: &[]*ekskms.AccessEntry{entry(with, jsii.Strings("web", "team")), entry(without, nil)},
	})
	template := assertions.Template_FromStack(stack, nil)
	for arn, groups := range map[string]any{with: []any{"web", "team"}, without: assertions.Match_Absent()} {
		template.HasResourceProperties(jsii.String("AWS::EKS::AccessEntry"), map[string]any{
			"PrincipalArn": arn, "KubernetesGroups": groups, "AccessPolicies": assertions.Match_AnyValue()})
	}
}

// TestGuardAlone needs no readers.
func TestGuardAlone(t *testing.T) {
	stack := newStack(t)
	rbac := ekskms.NewSecretsRbac(stack, jsii.String("Rbac"), &ekskms.SecretsRbacProps{Cluster: newCluster(stack).Cluster(), Guard: ekskms.SecretsGuardWarn})
	if rbac.Guard() == nil {
		t.Error("there is no guard")
	}
	assertions.Template_FromStack(stack, nil).HasResourceProperties(jsii.String("Custom::AWSCDK-EKS-KubernetesResource"), map[string]any{
		"Manifest": assertions.Match_StringLikeRegexp(jsii.String(`"validationActions":\["Warn","Audit"\]`))})
}
