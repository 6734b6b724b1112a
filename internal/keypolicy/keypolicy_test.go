package keypolicy

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/iampolicy"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	account    = "111122223333"
	root       = "arn:aws:iam::111122223333:root"
	admin      = "arn:aws:iam::111122223333:role/KeyAdmin"
	creator    = "arn:aws:iam::111122223333:role/cdk-hnb659fds-cfn-exec-role-111122223333-eu-central-1"
	creator2   = "arn:aws:iam::111122223333:role/Platform"
	cluster    = "arn:aws:iam::111122223333:role/demo-cluster"
	plugin     = "arn:aws:iam::111122223333:role/demo-plugin"
	reader     = "arn:aws:iam::111122223333:role/Auditor"
	clusterARN = "arn:aws:eks:eu-central-1:111122223333:cluster/demo"
	trailARN   = "arn:aws:cloudtrail:eu-central-1:111122223333:trail/ekskms-demo"
	topicARN   = "arn:aws:sns:eu-central-1:111122223333:ekskms-demo-alarms"
	bucketARN  = "arn:aws:s3:::demo-logs"
	groupARN   = "arn:aws:logs:eu-central-1:111122223333:log-group:/aws/eks/demo/cluster"
	alarmARN   = "arn:aws:cloudwatch:eu-central-1:111122223333:alarm:demo-lost"
	rulesARN   = "arn:aws:events:eu-central-1:111122223333:rule/demo-*"
)

var (
	session = PodSession{ClusterARN: clusterARN, Namespace: "kube-system", ServiceAccount: "kms-plugin"}
	// adminSet is what package place makes of a permission set.
	adminSet = "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Admin_????????????????"

	context = ClusterContext(clusterARN)
	tenants = []Tenant{
		{"acme", "arn:aws:iam::111122223333:role/demo-acme", PodSession{clusterARN, "tenant-acme", "vc-acme"}},
		{"globex", "arn:aws:iam::111122223333:role/demo-globex", PodSession{clusterARN, "tenant-globex", "vc-globex"}},
	}
	strict = StrictGrants{Account: account, EKSService: "eks.eu-central-1.amazonaws.com"}
	audit  = AuditKey{
		RootARN: root, TrailARN: trailARN, ReaderARNs: []string{reader},
	}
)

// secretsKey is the policy that the constructs put together.
func secretsKey() []iampolicy.Statement {
	statements := append([]iampolicy.Statement{Account(root, false)}, Administrators([]string{admin}, false)...)
	statements = append(statements, ClusterCreators([]string{creator, creator2}, nil, false)...)
	statements = append(statements, ClusterRole(cluster))
	statements = append(statements, PluginUse(plugin, context, &session)...)
	return append(statements, TenantUse(tenants)...)
}

// kmsActions reads the reference list: which actions there are, and whether
// they use key material.
func kmsActions(t *testing.T) map[string]bool {
	t.Helper()
	data, err := os.ReadFile("testdata/kms_actions.txt")
	if err != nil {
		t.Fatal(err)
	}
	actions := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			name, kind, _ := strings.Cut(line, " ")
			actions[name] = kind == "use"
		}
	}
	if len(actions) < 50 || !actions["kms:Decrypt"] || actions["kms:DescribeKey"] {
		t.Fatalf("the reference list is damaged: %v", actions)
	}
	return actions
}

// faults holds a policy of the secrets key to the rules of the package comment.
func faults(statements []iampolicy.Statement, actions map[string]bool) (found []string) {
	fault := func(s iampolicy.Statement, format string, args ...any) {
		found = append(found, s.Sid+": "+fmt.Sprintf(format, args...))
	}
	sids := map[string]bool{}
	users := map[string]string{} // of a tenant's name, or "" for the cluster's own
	for _, s := range statements {
		if s.Sid == "" || sids[s.Sid] {
			fault(s, "Sid is missing or not unique")
		}
		sids[s.Sid] = true
		if s.Effect != iampolicy.Allow {
			fault(s, "effect %s", s.Effect)
		}
		if !slices.Equal(s.Resource, []string{"*"}) {
			fault(s, "resource %v is not the key", s.Resource)
		}
		if len(s.Principal.AWS) == 0 || len(s.Principal.Service) > 0 || len(s.Principal.Federated) > 0 {
			fault(s, "principal is no role and no account: %+v", s.Principal)
		}
		for _, p := range s.Principal.AWS {
			if strings.ContainsAny(p, "*?") {
				fault(s, "wildcard principal %s", p)
			}
		}
		for _, a := range s.Action {
			if strings.ContainsAny(a, "*?") {
				fault(s, "wildcard action %s", a)
				continue
			}
			use, known := actions[a]
			if !known {
				fault(s, "no such action %s", a)
			}
			hands := use || a == "kms:CreateGrant" // hands out cryptographic use, or is one
			if hands && !onlySets(s) && slices.ContainsFunc(s.Principal.AWS, isAccount) {
				fault(s, "the account, and so any IAM policy, may %s", a)
			}
			if !use {
				continue
			}
			equals, all := s.Condition["StringEquals"], s.Condition["ForAllValues:StringEquals"]
			if !slices.Equal(equals["kms:EncryptionContext:"+ContextKey], []string{clusterARN}) {
				fault(s, "%s without the encryption context of the cluster", a)
			}
			keys, name := []string{ContextKey}, ""
			if tenant := equals["kms:EncryptionContext:"+TenantKey]; len(tenant) > 0 {
				keys, name = []string{ContextKey, TenantKey}, strings.Join(tenant, " or ")
			}
			if !slices.Equal(all["kms:EncryptionContextKeys"], keys) {
				fault(s, "%s with further keys in the encryption context", a)
			}
			who := fmt.Sprint(s.Principal.AWS)
			if other, known := users[name]; len(s.Principal.AWS) != 1 || strings.Contains(name, " ") || known && other != who {
				fault(s, "%s under one encryption context by several", a)
			}
			users[name] = who
		}
	}
	return found
}

// onlySets tells whether a statement is for the roles of permission sets alone.
func onlySets(s iampolicy.Statement) bool {
	arns := s.Condition["ArnLike"]["aws:PrincipalArn"]
	return len(arns) > 0 && !slices.ContainsFunc(arns, func(arn string) bool {
		return !regexp.MustCompile(`^arn:aws:iam::[0-9]{12}:role/aws-reserved/sso\.amazonaws\.com/(\*/)?AWSReservedSSO_[A-Za-z]+_\?{16}$`).MatchString(arn)
	})
}

// isAccount knows both ways in which a policy names an account.
func isAccount(principal string) bool {
	return strings.HasSuffix(principal, ":root") || !strings.Contains(principal, ":")
}

func TestSecretsKeyRules(t *testing.T) {
	actions := kmsActions(t)
	for name, statements := range map[string][]iampolicy.Statement{
		"default":      secretsKey(),
		"multi-Region": append([]iampolicy.Statement{Account(root, true)}, Administrators([]string{admin}, true)...),
		"sets":         append(Administrators([]string{admin, adminSet}, false), ClusterCreators([]string{adminSet}, nil, false)...),
		"strict":       ClusterCreators([]string{creator}, &strict, false),
		"future role":  {FutureClusterRole(root, "arn:aws:iam::111122223333:role/ekskms/demo/*")},
		"no session":   PluginUse(plugin, context, nil),
	} {
		for _, f := range faults(statements, actions) {
			t.Errorf("%s: %s", name, f)
		}
	}
}

// Each rule sees the fault that it is there for.
func TestSecretsKeyRulesCanFail(t *testing.T) {
	actions := kmsActions(t)
	for _, tc := range []struct {
		name, sid string
		breakIt   func(*iampolicy.Statement)
		want      string
	}{
		{"kms:* to the account", SidAccount, func(s *iampolicy.Statement) { s.Action = iampolicy.Values{"kms:*"} }, "wildcard action kms:*"},
		{"a family of actions", SidAdministrators, func(s *iampolicy.Statement) { s.Action[0] = "kms:Describe*" }, "wildcard action"},
		{"everybody", SidPluginUse, func(s *iampolicy.Statement) { s.Principal.AWS[0] = "*" }, "wildcard principal"},
		{"any role", SidGrant, func(s *iampolicy.Statement) { s.Principal.AWS[0] = "arn:aws:iam::111122223333:role/*" }, "wildcard principal"},
		{"decrypt to the account", SidAccount, func(s *iampolicy.Statement) { s.Action[0] = "kms:Decrypt" }, "any IAM policy, may kms:Decrypt"},
		{"grants to the account", SidAccount, func(s *iampolicy.Statement) { s.Action[0] = "kms:CreateGrant" }, "any IAM policy, may kms:CreateGrant"},
		{"plugin use by account ID", SidPluginUse, func(s *iampolicy.Statement) { s.Principal.AWS[0] = account }, "any IAM policy, may kms:Decrypt"},
		{"decrypt to administrators", SidAdministrators, func(s *iampolicy.Statement) { s.Action[0] = "kms:Decrypt" }, "without the encryption context"},
		{"no context", SidPluginUse, func(s *iampolicy.Statement) { delete(s.Condition, "StringEquals") }, "kms:GenerateDataKey without the encryption context"},
		{"another cluster", SidPluginUse, func(s *iampolicy.Statement) {
			s.Condition["StringEquals"]["kms:EncryptionContext:"+ContextKey] = iampolicy.Values{clusterARN, clusterARN + "2"}
		}, "without the encryption context of the cluster"},
		{"further keys", SidPluginUse, func(s *iampolicy.Statement) { delete(s.Condition, "ForAllValues:StringEquals") }, "further keys"},
		{"a tenant without its pair", SidTenantUse, func(s *iampolicy.Statement) {
			delete(s.Condition["StringEquals"], "kms:EncryptionContext:"+TenantKey)
		}, "further keys"},
		{"a tenant as the cluster", SidTenantUse, func(s *iampolicy.Statement) {
			delete(s.Condition["StringEquals"], "kms:EncryptionContext:"+TenantKey)
			s.Condition["ForAllValues:StringEquals"]["kms:EncryptionContextKeys"] = iampolicy.Values{ContextKey}
		}, "by several"},
		{"a tenant of any cluster", SidTenantUse, func(s *iampolicy.Statement) {
			delete(s.Condition["StringEquals"], "kms:EncryptionContext:"+ContextKey)
		}, "without the encryption context of the cluster"},
		{"a tenant under another's name", SidTenantUse, func(s *iampolicy.Statement) {
			s.Condition["StringEquals"]["kms:EncryptionContext:"+TenantKey] = iampolicy.Values{"globex"}
		}, "by several"},
		{"two tenants in one statement", SidTenantUse, func(s *iampolicy.Statement) {
			s.Principal.AWS = append(s.Principal.AWS, tenants[1].RoleARN)
		}, "by several"},
		{"two names for one tenant", SidTenantUse, func(s *iampolicy.Statement) {
			s.Condition["StringEquals"]["kms:EncryptionContext:"+TenantKey] = iampolicy.Values{"acme", "globex"}
		}, "by several"},
		{"a service", SidDescribe, func(s *iampolicy.Statement) { s.Principal = iampolicy.Principal{Service: iampolicy.Values{"x"}} }, "no role"},
		{"misspelt action", SidClusterRole, func(s *iampolicy.Statement) { s.Action[1] = "kms:ListGrant" }, "no such action"},
		{"a Sid twice", SidClusterRole, func(s *iampolicy.Statement) { s.Sid = SidDescribe }, "not unique"},
		{"deny", SidClusterRole, func(s *iampolicy.Statement) { s.Effect = iampolicy.Deny }, "effect Deny"},
		{"another resource", SidClusterRole, func(s *iampolicy.Statement) { s.Resource = iampolicy.Values{"arn"} }, "not the key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			statements := secretsKey()
			i := slices.IndexFunc(statements, func(s iampolicy.Statement) bool { return s.Sid == tc.sid })
			tc.breakIt(&statements[i])
			found := strings.Join(faults(statements, actions), "\n")
			if !strings.Contains(found, tc.want) {
				t.Errorf("found %q, want %q", found, tc.want)
			}
		})
	}
}

func TestAdministration(t *testing.T) {
	actions := kmsActions(t)
	single, multi := Administration(false), Administration(true)
	for _, list := range [][]string{single, multi} {
		if !slices.IsSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) {
			t.Errorf("not sorted, or an action twice: %v", list)
		}
		for _, a := range list {
			if use, known := actions[a]; use || !known {
				t.Errorf("%s uses key material or does not exist", a)
			}
		}
		for _, a := range []string{
			"kms:CreateGrant",       // hands cryptographic use to anybody
			"kms:ImportKeyMaterial", // for keys of another origin
			"kms:GetPublicKey",      // for asymmetric keys
			"kms:CreateKey",         // not about this key
			"kms:RetireGrant",       // the grant says who may
			"kms:ListRetirableGrants",
		} {
			if slices.Contains(list, a) {
				t.Errorf("%s is no administration of this key", a)
			}
		}
	}
	// What keeps a key from being lost for good.
	for _, a := range []string{"kms:PutKeyPolicy", "kms:EnableKey", "kms:CancelKeyDeletion", "kms:DescribeKey", "kms:GetKeyPolicy"} {
		if !slices.Contains(single, a) {
			t.Errorf("%s is missing", a)
		}
	}
	var added []string
	for _, a := range multi {
		if !slices.Contains(single, a) {
			added = append(added, a)
		}
	}
	if want := []string{"kms:ReplicateKey", "kms:UpdatePrimaryRegion"}; !slices.Equal(added, want) {
		t.Errorf("multi-Region adds %v, want %v", added, want)
	}
	// A caller may do with its list what it likes.
	single[0], multi[0] = "x", "x"
	if Administration(false)[0] == "x" || Administration(true)[0] == "x" {
		t.Error("the list is shared with its caller")
	}
}

// documents are all policies of the package, each with a golden file.
func documents() map[string][]iampolicy.Statement {
	one := func(s iampolicy.Statement) []iampolicy.Statement { return []iampolicy.Statement{s} }
	return map[string][]iampolicy.Statement{
		"secrets_key":             secretsKey(),
		"account_multi_region":    one(Account(root, true)),
		"account_china":           one(Account("arn:aws-cn:iam::"+account+":root", false)),
		"administrators":          Administrators([]string{admin, admin + "2", adminSet}, true),
		"creators_strict":         ClusterCreators([]string{creator}, &strict, false),
		"future_cluster_role":     one(FutureClusterRole(root, "arn:aws:iam::111122223333:role/ekskms/demo/*")),
		"plugin_without_session":  PluginUse(plugin, context, nil),
		"tenant":                  TenantUse(tenants[:1]),
		"plugin_trust":            one(PluginTrust(session)),
		"cluster_trust":           one(ClusterTrust(account, clusterARN, false)),
		"cluster_trust_auto_mode": one(ClusterTrust(account, clusterARN, true)),
		"audit_key":               audit.Statements(),
		"audit_key_of_nothing":    AuditKey{RootARN: root}.Statements(),
		"audit_key_of_a_trail":    AuditKey{RootARN: root, TrailARN: trailARN}.Statements(),
		"topic_key":               TopicKey{RootARN: root, TopicARN: topicARN}.Statements(),
		"fallback_topic":          FallbackTopic(topicARN, alarmARN, account),
		"alarm_queue":             AlarmQueue("arn:aws:sqs:eu-central-1:111122223333:demo-lost", rulesARN),
		"alarm_log_group":         AlarmLogGroup(groupARN, rulesARN),
		"function_trust":          one(FunctionTrust(account)),
		"log_readers":             LogReaders([]string{reader, reader + "2"}),
		"alarm_topic":             AlarmTopic(topicARN),
		"log_bucket":              LogBucket(bucketARN, account, trailARN),
		"log_group_key": LogGroupKey{
			RootARN: root, LogsService: "logs.eu-central-1.amazonaws.com", LogGroupARNs: []string{groupARN},
		}.Statements(),
	}
}

// The golden files are the policies as IAM gets them. The tests around this one
// say what matters in them.
func TestGolden(t *testing.T) {
	all := documents()
	for name, statements := range all {
		t.Run(name, func(t *testing.T) {
			compact, err := json.Marshal(iampolicy.NewDocument(statements...))
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := iampolicy.Parse(compact)
			if err != nil || !reflect.DeepEqual(parsed, iampolicy.NewDocument(statements...)) {
				t.Errorf("does not survive the way out and back: %v", err)
			}
			var got bytes.Buffer
			if err := json.Indent(&got, compact, "", "  "); err != nil {
				t.Fatal(err)
			}
			got.WriteByte('\n')
			path := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("%v; run the test with -update", err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("differs from %s; got\n%s", path, got.Bytes())
			}
		})
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) != len(all) {
		t.Errorf("%d golden files for %d policies, %v", len(files), len(all), err)
	}
}

// Wildcards are allowed outside the secrets key, where AWS asks for them, but
// must be families that exist.
func TestEveryActionExists(t *testing.T) {
	actions := kmsActions(t)
	elsewhere := []string{"sts:AssumeRole", "sts:TagSession", "sns:Publish", "s3:GetBucketAcl", "s3:PutObject", "sqs:SendMessage", "sqs:*", "logs:CreateLogStream", "logs:PutLogEvents"}
	for name, statements := range documents() {
		for _, s := range statements {
			for _, a := range s.Action {
				_, known := actions[a]
				family, isFamily := strings.CutSuffix(a, "*")
				for real := range actions {
					known = known || isFamily && family != "kms:" && strings.HasPrefix(real, family)
				}
				if !known && !slices.Contains(elsewhere, a) {
					t.Errorf("%s, %s: no such action %s", name, s.Sid, a)
				}
			}
		}
	}
}

// The account is the caller's, whatever its partition.
func TestPartition(t *testing.T) {
	for _, partition := range []string{"aws", "aws-cn", "aws-us-gov"} {
		want := "arn:" + partition + ":iam::" + account + ":root"
		for name, s := range map[string]iampolicy.Statement{
			"Account":           Account(want, false),
			"FutureClusterRole": FutureClusterRole(want, "p"),
			"AuditKey":          AuditKey{RootARN: want}.Statements()[0],
			"LogGroupKey":       LogGroupKey{RootARN: want}.Statements()[0],
		} {
			if !slices.Equal(s.Principal.AWS, []string{want}) {
				t.Errorf("%s in %s: principal %v", name, partition, s.Principal.AWS)
			}
		}
	}
}

func TestStrictGrants(t *testing.T) {
	loose, hard := ClusterCreators([]string{creator}, nil, false), ClusterCreators([]string{creator}, &strict, false)
	if !reflect.DeepEqual(loose[0], hard[0]) {
		t.Error("DescribeKey must not depend on strict grants: EKS calls it directly")
	}
	noPlugins := map[string]iampolicy.Values{"kms:EncryptionContextKeys": {ContextKey, TenantKey}}
	want := iampolicy.Condition{
		"StringEquals":                           {"kms:GrantConstraintType": {"EncryptionContextEquals", "EncryptionContextSubset"}},
		"ForAllValues:StringNotEqualsIgnoreCase": noPlugins,
	}
	if !reflect.DeepEqual(loose[1].Condition, want) {
		t.Errorf("conditions without strict grants: %v, want %v", loose[1].Condition, want)
	}
	want = iampolicy.Condition{
		"ForAllValues:StringNotEqualsIgnoreCase": noPlugins,
		"StringEquals": {
			"kms:CallerAccount":       {account},
			"kms:GrantConstraintType": {"EncryptionContextEquals"},
			"kms:ViaService":          {"eks.eu-central-1.amazonaws.com"},
		},
		"ForAllValues:StringEquals": {"kms:GrantOperations": {"Decrypt", "Encrypt"}},
	}
	if !reflect.DeepEqual(hard[1].Condition, want) {
		t.Errorf("conditions %v, want %v", hard[1].Condition, want)
	}
	for _, s := range slices.Concat(loose, hard) {
		// EKS does not support the condition in CreateCluster.
		for _, keys := range s.Condition {
			if _, there := keys["kms:GrantIsForAWSResource"]; there {
				t.Errorf("%s: kms:GrantIsForAWSResource keeps the cluster from being created", s.Sid)
			}
		}
	}
}

// A statement for a role that does not exist yet gives no more than the one for
// the role itself, and only to roles under the path.
func TestFutureClusterRole(t *testing.T) {
	now := ClusterRole(cluster)
	future := FutureClusterRole(root, "arn:aws:iam::111122223333:role/ekskms/demo/*")
	if !slices.Equal(now.Action, future.Action) || now.Sid != future.Sid {
		t.Errorf("now %s %v, future %s %v", now.Sid, now.Action, future.Sid, future.Action)
	}
	want := iampolicy.Condition{"ArnLike": {"aws:PrincipalArn": {"arn:aws:iam::111122223333:role/ekskms/demo/*"}}}
	if !reflect.DeepEqual(future.Condition, want) {
		t.Errorf("conditions %v, want %v", future.Condition, want)
	}
}

func TestPluginSession(t *testing.T) {
	with, without := PluginUse(plugin, context, &session), PluginUse(plugin, context, nil)
	tags := map[string]string{
		"aws:PrincipalTag/eks-cluster-arn":            clusterARN,
		"aws:PrincipalTag/kubernetes-namespace":       "kube-system",
		"aws:PrincipalTag/kubernetes-service-account": "kms-plugin",
	}
	for i, s := range with {
		for tag, value := range tags {
			if !slices.Equal(s.Condition["StringEquals"][tag], []string{value}) {
				t.Errorf("%s: %s is %v, want %s", s.Sid, tag, s.Condition["StringEquals"][tag], value)
			}
			if _, there := without[i].Condition["StringEquals"][tag]; there {
				t.Errorf("%s has %s without a session", s.Sid, tag)
			}
		}
	}
	// Of a tenant too, whichever statement it is.
	for _, s := range TenantUse(tenants[:1]) {
		if want := tenants[0].Session.tags("aws:PrincipalTag/"); !containsAll(s.Condition["StringEquals"], want) {
			t.Errorf("%s: %v, want %v", s.Sid, s.Condition["StringEquals"], want)
		}
	}
	trust := PluginTrust(session)
	for tag, value := range tags {
		request := strings.Replace(tag, "aws:PrincipalTag/", "aws:RequestTag/", 1)
		if !slices.Equal(trust.Condition["StringEquals"][request], []string{value}) {
			t.Errorf("the trust policy lets a session with another %s open", request)
		}
	}
}

// A trust policy names a service and the one thing that it may act for.
func TestTrust(t *testing.T) {
	for _, tc := range []struct {
		statement iampolicy.Statement
		service   string
		actions   []string
		operator  string
		key       string
		value     string
	}{
		{ClusterTrust(account, clusterARN, false), "eks.amazonaws.com", []string{"sts:AssumeRole"}, "ArnEquals", "aws:SourceArn", clusterARN},
		{ClusterTrust(account, clusterARN, true), "eks.amazonaws.com", []string{"sts:AssumeRole", "sts:TagSession"}, "ArnEquals", "aws:SourceArn", clusterARN},
		{PluginTrust(session), "pods.eks.amazonaws.com", []string{"sts:AssumeRole", "sts:TagSession"}, "StringEquals", "aws:RequestTag/eks-cluster-arn", clusterARN},
	} {
		s := tc.statement
		if !reflect.DeepEqual(s.Principal, iampolicy.Principal{Service: iampolicy.Values{tc.service}}) {
			t.Errorf("%s: principal %+v", s.Sid, s.Principal)
		}
		if !slices.Equal(s.Action, tc.actions) || s.Resource != nil {
			t.Errorf("%s: actions %v, resource %v", s.Sid, s.Action, s.Resource)
		}
		if !slices.Equal(s.Condition[tc.operator][tc.key], []string{tc.value}) {
			t.Errorf("%s: %s %s is %v", s.Sid, tc.operator, tc.key, s.Condition[tc.operator][tc.key])
		}
		// Pod Identity names the account within the ARN of the cluster.
		if tc.key == "aws:SourceArn" && !slices.Equal(s.Condition["StringEquals"]["aws:SourceAccount"], []string{account}) {
			t.Errorf("%s: another account's cluster may be the source", s.Sid)
		}
	}
}

// The audit key's policy names what there is, and its account can't read logs.
func TestAuditKey(t *testing.T) {
	for _, tc := range []struct {
		key  AuditKey
		sids []string
	}{
		{AuditKey{}, []string{SidAccount}},
		{AuditKey{TrailARN: trailARN}, []string{SidAccount, "TrailDescribe", "TrailEncryptsLogs"}},
		{AuditKey{ReaderARNs: []string{reader}}, []string{SidAccount, "LogReaders"}},
		{audit, []string{SidAccount, "TrailDescribe", "TrailEncryptsLogs", "LogReaders"}},
	} {
		var sids []string
		for _, s := range tc.key.Statements() {
			sids = append(sids, s.Sid)
			if s.Sid != SidAccount && len(s.Condition) == 0 {
				t.Errorf("%s has no condition", s.Sid)
			}
		}
		if !slices.Equal(sids, tc.sids) {
			t.Errorf("statements %v, want %v", sids, tc.sids)
		}
	}
}

// The key of the alarms is for one topic.
func TestTopicKey(t *testing.T) {
	statements := TopicKey{RootARN: root, TopicARN: topicARN}.Statements()
	want := iampolicy.Condition{"StringEquals": {"kms:EncryptionContext:aws:sns:topicArn": {topicARN}}}
	if len(statements) != 2 || statements[0].Sid != SidAccount || !reflect.DeepEqual(statements[1].Condition, want) {
		t.Errorf("got %+v", statements)
	}
}

func TestLogGroupKey(t *testing.T) {
	statements := LogGroupKey{
		RootARN: root, LogsService: "logs.eu-central-1.amazonaws.com", LogGroupARNs: []string{groupARN},
	}.Statements()
	if len(statements) != 2 {
		t.Fatalf("%d statements", len(statements))
	}
	want := iampolicy.Condition{"ArnEquals": {"kms:EncryptionContext:aws:logs:arn": {groupARN}}}
	if !reflect.DeepEqual(statements[1].Condition, want) {
		t.Errorf("CloudWatch Logs may use the key for other log groups: %v", statements[1].Condition)
	}
}

// The account gets administration and no use, on each of the three keys.
func TestAccountNeverUsesAKey(t *testing.T) {
	for name, s := range map[string]iampolicy.Statement{
		"secrets":   Account(root, false),
		"audit":     audit.Statements()[0],
		"log group": LogGroupKey{RootARN: root}.Statements()[0],
	} {
		if !slices.Equal(s.Principal.AWS, []string{root}) || !slices.Equal(s.Action, Administration(false)) {
			t.Errorf("%s: %v may %v", name, s.Principal.AWS, s.Action)
		}
	}
}

func containsAll(all, some map[string]iampolicy.Values) bool {
	for key, values := range some {
		if !slices.Equal(all[key], values) {
			return false
		}
	}
	return true
}

// The plugin's statement that describes has ListGrants, with which it watches
// EKS's own grant. A tenant's has not: grants are the affair of the cluster.
func TestWhoSeesGrants(t *testing.T) {
	for _, s := range secretsKey() {
		sees := slices.Contains(s.Action, "kms:ListGrants")
		want := slices.Contains([]string{SidAccount, SidAdministrators, SidClusterRole, SidPluginDescribe}, s.Sid)
		if sees != want {
			t.Errorf("%s sees grants: %t, want %t", s.Sid, sees, want)
		}
	}
}

// A key policy has at most 32 KB, which the constructs' limits hold. Source: AWS
// KMS API Reference, PutKeyPolicy. Here everything is as long as it can be: the
// partition, the Region, the names of roles that CloudFormation makes up.
func TestPolicySize(t *testing.T) {
	const (
		longAccount = "arn:aws-us-gov:iam::111122223333:role/"
		region      = "ap-southeast-9" // no Region of aws-us-gov has a longer name
	)
	role := func(i int) string { return longAccount + fmt.Sprintf("%064d", i) }
	longCluster := "arn:aws-us-gov:eks:" + region + ":111122223333:cluster/" + strings.Repeat("c", 100)
	strictest := &StrictGrants{Account: account, EKSService: "eks." + region + ".amazonaws.com.cn"}
	session := PodSession{ClusterARN: longCluster, Namespace: "ekskms-system", ServiceAccount: "kms-plugin"}

	emergency := slices.Repeat([]string{strings.Repeat("r", MaxBreakGlassText/MaxBreakGlass)}, MaxBreakGlass)
	// Roles, as many characters as are allowed together: named, of permission sets, both.
	set := strings.Replace(adminSet, "arn:aws:", "arn:aws-us-gov:", 1)
	fill := func(first ...string) []string {
		left := MaxRoleText - RoleText(append(slices.Clone(first), "r"))
		if n := MaxRoles - len(first); n > 0 && left > 0 {
			return append(slices.Repeat([]string{strings.Repeat("r", (left+1)/n)}, n), first...)
		}
		return first
	}
	lists := map[string][]string{"named": fill(), "both": fill(set), "two sets": fill(set, set)}
	for n := 1; RoleText(slices.Repeat([]string{set}, n)) <= MaxRoleText; n++ {
		lists["sets"] = slices.Repeat([]string{set}, n)
	}
	if len(lists["sets"]) < 4 {
		t.Errorf("there is room for %d permission sets", len(lists["sets"]))
	}
	for name, roles := range lists {
		if n := RoleText(roles); n > MaxRoleText {
			t.Errorf("%s: %d characters", name, n)
		}
		statements := append(AccountWithBreakGlass("arn:aws-us-gov:iam::"+account+":root", true, emergency), Administrators(roles, true)...)
		statements = append(statements, ClusterCreators(roles, strictest, true)...)
		statements = append(statements, ClusterRole(role(0)))
		statements = append(statements, PluginUse(role(1), ClusterContext(longCluster), &session)...)
		var many []Tenant
		for i := range MaxTenants {
			part := MaxTenantText / MaxTenants / 3
			text := fmt.Sprintf("%0*d", part, i)
			many = append(many, Tenant{text, role(i), PodSession{longCluster, text, text}})
		}
		statements = append(statements, TenantUse(many)...)
		data, err := json.Marshal(iampolicy.NewDocument(statements...))
		if err != nil || len(data) > 32*1024 {
			t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
		t.Logf("%s: %d bytes", name, len(data))
	}
}
