package guard_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/estate/estatetest"
	"github.com/ekskms/ekskms/internal/guard"
)

const (
	shopDeveloper  = "EncryptedClusterAccess19E3DB881"
	shopOperator   = "SecretsRbacAccess77a6d33080B825D1"
	pluginPods     = "EncryptedClusterKmsPluginPodIdentity6ACD28A4"
	handler        = "EncryptedClusterKubectlProviderHandlerC59E390F"
	handlerRole    = "EncryptedClusterKubectlProviderHandlerServiceRole9B149D9D"
	guardManifest  = "SecretsRbacGuard85867E6F"
	readerManifest = "SecretsRbacshopsecretreaderdatabaseCE9836D5"
	alarmTopic     = "AuditTrailAlarmsPolicy9CBECA05"
	alarmQueue     = "AuditTrailUndeliveredQueuePolicy9414BABE"
	alarmLog       = "AuditTrailAlarmLogPolicyResourcePolicyAB287401"
)

func inManifest(id, from, to string) estatetest.Change {
	return func(t estatetest.Template) {
		properties := t.Resource(id)["Properties"].(map[string]any)
		text := properties["Manifest"].(string)
		if !strings.Contains(text, from) {
			panic(id + " has no " + from)
		}
		properties["Manifest"] = strings.Replace(text, from, to, 1)
	}
}

func manifest(objects string) estatetest.Change {
	return estatetest.Add("Added", "Custom::AWSCDK-EKS-KubernetesResource", map[string]any{"ClusterName": map[string]any{"Ref": cluster}, "Manifest": objects})
}

func entry(principal, policy string, groups ...any) estatetest.Change {
	return estatetest.Add("Added", "AWS::EKS::AccessEntry", map[string]any{
		"ClusterName": map[string]any{"Ref": cluster}, "PrincipalArn": principal, "KubernetesGroups": groups,
		"AccessPolicies": []any{map[string]any{"PolicyArn": "arn:aws:eks::aws:cluster-access-policy/" + policy, "AccessScope": map[string]any{"Type": "cluster"}}},
	})
}

// withoutStatement takes the statement with a Sid out of a policy, or adds one.
func withoutStatement(id, sid string) estatetest.Change {
	return func(t estatetest.Template) {
		policy := t.Resource(id)["Properties"].(map[string]any)["PolicyDocument"].(map[string]any)
		var kept []any
		for _, s := range policy["Statement"].([]any) {
			if s.(map[string]any)["Sid"] != sid {
				kept = append(kept, s)
			}
		}
		policy["Statement"] = kept
	}
}

func denying(id, action string) estatetest.Change {
	return func(t estatetest.Template) {
		policy := t.Resource(id)["Properties"].(map[string]any)["PolicyDocument"].(map[string]any)
		policy["Statement"] = append(policy["Statement"].([]any), map[string]any{"Effect": "Deny", "Principal": "*", "Action": action, "Resource": "*"})
	}
}

// TestOpenings: what opens the Kubernetes API, mutes an alarm or stops the record without a
// word about the key, each with what it must not be taken for.
func TestOpenings(t *testing.T) {
	n := 0
	widened, muted, stopped := one("access-widened"), one("alarm-removed"), one("trail-weakened")
	view := map[string]any{"PolicyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy", "AccessScope": map[string]any{"Type": "namespace", "Namespaces": []any{"shop"}}}
	for name, c := range map[string]struct {
		apply estatetest.Change
		want  []string
		says  string
	}{
		"an access entry":                         {entry("arn:aws:iam::111122223333:role/Mallory", "AmazonEKSClusterAdminPolicy"), widened, "Mallory gets an access entry on the cluster: AmazonEKSClusterAdminPolicy"},
		"another principal in an entry":           {estatetest.Property(shopDeveloper, "PrincipalArn", "arn:aws:iam::111122223333:role/Mallory"), widened, "Mallory gets an access entry"},
		"one more namespace":                      {estatetest.Property(shopDeveloper, "AccessPolicies.0.AccessScope.Namespaces", []any{"shop", "bank"}), widened, "ShopDeveloper gets more of the cluster"},
		"the whole cluster":                       {estatetest.Property(shopDeveloper, "AccessPolicies.0.AccessScope", map[string]any{"Type": "cluster"}), widened, "ShopDeveloper gets more"},
		"another policy":                          {estatetest.Property(shopDeveloper, "AccessPolicies", []any{view, map[string]any{"PolicyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSAdminPolicy", "AccessScope": view["AccessScope"]}}), widened, "AmazonEKSAdminPolicy"},
		"one more group":                          {estatetest.Property(shopOperator, "KubernetesGroups", []any{"shop-operators", "admins"}), widened, "admins"},
		"a group that is not known":               {estatetest.Property(shopOperator, "KubernetesGroups", map[string]any{"Ref": "Groups"}), widened, "KubernetesGroups"},
		"less of an entry":                        {estatetest.Property(shopDeveloper, "KubernetesGroups", []any{}), nil, ""},
		"an entry that goes":                      {estatetest.Drop(shopOperator), nil, ""},
		"an identity provider":                    {estatetest.Add("Added", "AWS::EKS::IdentityProviderConfig", map[string]any{"ClusterName": map[string]any{"Ref": cluster}, "Type": "oidc", "Oidc": map[string]any{"IssuerUrl": "https://mallory.example"}}), widened, "https://mallory.example"},
		"the plugin's role for other pods":        {estatetest.Property(pluginPods, "ServiceAccount", "mallory"), []string{"access-widened", "trust-never-matches"}, "ekskms-system/mallory"},
		"a role from elsewhere for pods":          {estatetest.Add("Added", "AWS::EKS::PodIdentityAssociation", map[string]any{"ClusterName": map[string]any{"Ref": cluster}, "Namespace": "a", "ServiceAccount": "b", "RoleArn": "arn:aws:iam::111122223333:role/Elsewhere"}), widened, "role/Elsewhere"},
		"a permission on the handler":             {estatetest.Add("Added", "AWS::Lambda::Permission", map[string]any{"FunctionName": map[string]any{"Ref": handler}, "Principal": "444455556666", "Action": "lambda:InvokeFunction"}), widened, "444455556666 may invoke"},
		"a URL of the handler":                    {estatetest.Add("Added", "AWS::Lambda::Url", map[string]any{"TargetFunctionArn": map[string]any{"Fn::GetAtt": []any{handler, "Arn"}}, "AuthType": "NONE"}), widened, "AuthType NONE"},
		"a permission on another function":        {estatetest.All(estatetest.Add("F", "AWS::Lambda::Function", map[string]any{"Role": "arn:aws:iam::111122223333:role/Other"}), estatetest.Add("Added", "AWS::Lambda::Permission", map[string]any{"FunctionName": map[string]any{"Ref": "F"}, "Principal": "sns.amazonaws.com"})), nil, ""},
		"the handler's role for others":           {estatetest.Property(handlerRole, "AssumeRolePolicyDocument.Statement.0.Principal", map[string]any{"AWS": "arn:aws:iam::111122223333:role/Mallory"}), widened, "Mallory"},
		"the handler's role through any account":  {estatetest.Property(handlerRole, "AssumeRolePolicyDocument.Statement.0.Condition", nil), widened, "has an access entry, and its trust policy changes"},
		"another function as the handler":         {estatetest.Add("F", "AWS::Lambda::Function", map[string]any{"Role": map[string]any{"Fn::GetAtt": []any{handlerRole, "Arn"}}}), widened, "has an access entry on the cluster"},
		"tags of a pod on the plugin's role":      {estatetest.Property(pluginRole, "Tags", []any{map[string]any{"Key": "kubernetes-namespace", "Value": "ekskms-system"}}), widened, "kubernetes-namespace"},
		"a tag of no matter":                      {estatetest.Property(pluginRole, "Tags", []any{map[string]any{"Key": "team", "Value": "a"}}), nil, ""},
		"one more secret":                         {inManifest(readerManifest, `"resourceNames":["database"]`, `"resourceNames":["database","admin"]`), widened, "the secret shop/admin"},
		"one more reader":                         {inManifest(readerManifest, `"name":"shop-operators"`, `"name":"everybody"`), widened, "Group everybody may read the secret shop/database"},
		"a reader of everything":                  {inManifest(readerManifest, `"resourceNames":["database"],`, ``), []string{"access-widened", "check-regressed"}, "may read every secret of namespace shop"},
		"a reader less":                           {estatetest.Drop(readerManifest), nil, ""},
		"delete instead of get":                   {inManifest(readerManifest, `"verbs":["get"]`, `"verbs":["delete"]`), nil, ""}, // it shows the same secret
		"a binding to edit":                       {manifest(`[{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"a"},"roleRef":{"kind":"ClusterRole","name":"edit"},"subjects":[{"kind":"User","name":"mallory"}]}]`), []string{"access-widened", "check-regressed"}, "User mallory may read every secret of the cluster"},
		"a binding to view":                       {manifest(`[{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"a"},"roleRef":{"kind":"ClusterRole","name":"view"},"subjects":[{"kind":"User","name":"mallory"}]}]`), nil, ""},
		"a manifest that can't be read":           {estatetest.Property(readerManifest, "Manifest", map[string]any{"Ref": "Objects"}), widened, "can't be read"},
		"the guard removed":                       {estatetest.Drop(guardManifest), widened, "ValidatingAdmissionPolicy secrets-rbac.ekskms.github.io goes"},
		"the guard's binding removed":             {inManifest(guardManifest, `"kind":"ValidatingAdmissionPolicyBinding"`, `"kind":"ConfigMap"`), widened, "ValidatingAdmissionPolicyBinding secrets-rbac.ekskms.github.io goes"},
		"the guard only logs":                     {inManifest(guardManifest, `["Warn","Audit"]`, `["Audit"]`), widened, "no longer does Warn"},
		"the guard denies":                        {inManifest(guardManifest, `["Warn","Audit"]`, `["Deny","Audit"]`), nil, ""},
		"the guard gives way":                     {inManifest(guardManifest, `"failurePolicy":"Fail"`, `"failurePolicy":"Ignore"`), widened, "lets everything pass"},
		"the guard exempts one more":              {inManifest(guardManifest, `'cluster-admin', 'edit'`, `'cluster-admin', 'edit', 'mine'`), widened, "lets mine pass"},
		"the guard exempts one less":              {inManifest(guardManifest, `'admin', `, ``), nil, ""},
		"the guard judges roles alone":            {inManifest(guardManifest, `["roles","clusterroles"]`, `["roles"]`), widened, "changes its matchConstraints"},
		"the guard forgets a verb":                {inManifest(guardManifest, `'watch', `, ``), widened, "changes its variables"},
		"the guard has one condition more":        {inManifest(guardManifest, `"matchConditions":[`, `"matchConditions":[{"name":"never","expression":"false"},`), widened, "never"},
		"a topic that EventBridge may not use":    {withoutStatement(alarmTopic, "AlarmRules"), []string{"alarm-removed", "alarm-undeliverable"}, "allowed sns:Publish"},
		"a topic that denies":                     {denying(alarmTopic, "sns:Publish"), []string{"alarm-removed", "alarm-undeliverable"}, "a new statement denies sns:Publish"},
		"a queue that takes nothing":              {withoutStatement(alarmQueue, "AlarmRules"), muted, "allowed sqs:SendMessage"},
		"a log group that takes nothing":          {estatetest.Property(alarmLog, "PolicyDocument", `{"Version":"2012-10-17","Statement":[]}`), muted, "allowed logs:CreateLogStream"},
		"no policy of the log group":              {estatetest.Drop(alarmLog), muted, "the policy goes"},
		"a bucket that denies":                    {denying(bucketPolicy, "s3:PutObject"), []string{"trail-undeliverable", "trail-weakened"}, "a new statement denies s3:PutObject"},
		"a bucket that CloudTrail may not use":    {withoutStatement(bucketPolicy, "TrailWritesLogs"), []string{"trail-undeliverable", "trail-weakened"}, "allowed s3:PutObject"},
		"the trail no longer records the handler": {estatetest.Property(trail, "EventSelectors.1", nil), stopped, "EventSelectors"},
		"the alarm on the handler goes":           {estatetest.Drop("EncryptedClusterAlarmHandlerChangedB1B5928C"), muted, "the rule goes"},
		"the topic's key for anybody": {func(t estatetest.Template) {
			for id := range t["Resources"].(map[string]any) {
				if strings.HasPrefix(id, "AuditTrailAlarmsKey") && t.Resource(id)["Type"] == "AWS::KMS::Key" {
					estatetest.Property(id, "KeyPolicy.Statement.1.Principal", "*")(t)
				}
			}
		}, one("policy-widened"), "kms:Decrypt"},
	} {
		if n++; estatetest.Race && n%5 > 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			before, after := estatetest.Golden(t, "04_tenants_and_secrets"), estatetest.Golden(t, "04_tenants_and_secrets")
			c.apply(after)
			compare := func(way func(*testing.T, estatetest.Template) *estate.Estate) {
				t.Helper()
				report, err := guard.Compare(way(t, before), way(t, after), guard.Options{})
				if err != nil {
					t.Fatal(err)
				}
				text := ""
				for _, f := range report.Findings {
					text += f.Rule + " " + f.Resource + ": " + f.Message + "\n"
				}
				if diff := cmp.Diff(c.want, found(report)); diff != "" {
					t.Errorf("- want, + found\n%s%s", diff, text)
				}
				if !strings.Contains(text, c.says) {
					t.Errorf("nothing says %q:\n%s", c.says, text)
				}
			}
			compare(func(t *testing.T, template estatetest.Template) *estate.Estate { return estatetest.Estate(t, template) })
			if !estatetest.Race {
				compare(func(t *testing.T, template estatetest.Template) *estate.Estate {
					return estatetest.BesideAnother(t, template)
				})
				compare(estatetest.WithAnother)
			}
		})
	}
}
