package check_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/check"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/estate/estatetest"
)

// parameter declares a parameter that has no value.
func parameter(name string) change {
	return declare("Parameters", name, map[string]any{"Type": "String"})
}

func declare(section, name string, value any) change {
	return func(t template) {
		if t[section] == nil {
			t[section] = map[string]any{}
		}
		t[section].(map[string]any)[name] = value
	}
}

func ref(name string) map[string]any { return map[string]any{"Ref": name} }

// condition declares a condition on what is not known.
func condition(name string) change {
	return all(parameter("Stage"), declare("Conditions", name, map[string]any{"Fn::Equals": []any{ref("Stage"), "production"}}))
}

func choice(name string, then, otherwise any) map[string]any {
	return map[string]any{"Fn::If": []any{name, then, otherwise}}
}

func addRaw(s any) change {
	return func(t template) { setStatements(t, append(statements(t), s)) }
}

// identityPolicies adds a policy of some statements to the nodes' role.
func identityPolicies(statements ...any) change {
	return addResource("AddedPolicy", "AWS::IAM::Policy", map[string]any{
		"PolicyName": "added", "Roles": []any{map[string]any{"Ref": nodeRole}},
		"PolicyDocument": map[string]any{"Version": "2012-10-17", "Statement": statements},
	})
}

var noValue = ref("AWS::NoValue")

// checked is what is found in a changed golden, and in which words. It is the same beside
// another stack, and with another cluster in the same one.
func checked(t *testing.T, apply change) (ids []string, said string) {
	t.Helper()
	changed := estatetest.Golden(t, "default")
	apply(changed)
	estates := map[string]*estate.Estate{"": estatetest.Estate(t, changed)}
	if !estatetest.Race {
		estates["another stack"], estates["another cluster"] = estatetest.BesideAnother(t, changed), estatetest.WithAnother(t, changed)
	}
	for with, e := range estates {
		report, err := check.Run(e, check.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, f := range report.Findings {
			found = append(found, f.Rule)
		}
		slices.Sort(found)
		found = slices.Compact(found)
		if with == "" {
			ids, said = found, details(report)
		} else {
			defer func() {
				if diff := cmp.Diff(ids, found); diff != "" {
					t.Errorf("with %s: - alone, + found\n%s%s", with, diff, details(report))
				}
			}()
		}
	}
	return ids, said
}

// TestUnknownStatements shows that a part of a policy that is not known silences nothing
// beside it, and that a note names it.
func TestUnknownStatements(t *testing.T) {
	open := allow("*", "kms:Decrypt", nil)
	for name, tc := range map[string]struct {
		apply change
		want  []string // beside key-policy-any-principal
	}{
		"an action":                  {apply: allow(outsider, ref("Thing"), nil)},
		"a part of an action":        {apply: allow(outsider, map[string]any{"Fn::Sub": "kms:${Thing}"}, nil)},
		"an effect":                  {apply: addStatement(`Allow`, "Principal", outsider, "kms:Decrypt", nil)},
		"a principal":                {apply: allow(map[string]any{"AWS": ref("Thing")}, "kms:DescribeKey", nil)},
		"who is meant":               {apply: allow(ref("Thing"), "kms:DescribeKey", nil)},
		"a service":                  {apply: allow(map[string]any{"Service": ref("Thing")}, "kms:DescribeKey", nil)},
		"a resource":                 {apply: addRaw(map[string]any{"Effect": "Allow", "Principal": outsider, "Action": "kms:Decrypt", "Resource": ref("Thing")})},
		"a condition":                {apply: addRaw(map[string]any{"Effect": "Allow", "Principal": outsider, "Action": "kms:DescribeKey", "Resource": "*", "Condition": ref("Thing")})},
		"keys of a condition":        {apply: allow(outsider, "kms:DescribeKey", map[string]any{"StringEquals": ref("Thing")})},
		"a value of a condition":     {apply: allow(outsider, "kms:DescribeKey", when("StringEquals", "aws:SourceVpce", ref("Thing")))},
		"an organization":            {apply: allow("*", "kms:Decrypt", when("StringEquals", "aws:PrincipalOrgID", ref("Thing"))), want: []string{"key-policy-cross-account"}},
		"an address":                 {apply: allow(outsider, "kms:DescribeKey", when("IpAddress", "aws:SourceIp", ref("Thing")))},
		"a number":                   {apply: allow(outsider, "kms:DescribeKey", when("NumericLessThan", "aws:MultiFactorAuthAge", ref("Thing")))},
		"a date":                     {apply: allow(outsider, "kms:DescribeKey", when("DateLessThan", "aws:CurrentTime", ref("Thing")))},
		"a truth":                    {apply: allow(outsider, "kms:DescribeKey", when("Bool", "aws:SecureTransport", ref("Thing")))},
		"a presence":                 {apply: allow(outsider, "kms:DescribeKey", when("Null", "aws:PrincipalOrgID", ref("Thing")))},
		"an ARN":                     {apply: allow(outsider, "kms:DescribeKey", when("ArnLike", "aws:SourceArn", ref("Thing")))},
		"a statement":                {apply: addRaw(map[string]any{"Fn::Transform": map[string]any{"Name": "Thing"}})},
		"a dynamic reference":        {apply: allow(map[string]any{"AWS": "{{resolve:ssm:/roles/thing}}"}, "kms:DescribeKey", nil)},
		"a dynamic reference within": {apply: allow(map[string]any{"AWS": "arn:aws:iam::111122223333:role/{{resolve:ssm:/roles/thing}}"}, "kms:DescribeKey", nil)},
		"a Deny's condition":         {apply: deny("*", "kms:*", map[string]any{"StringEquals": ref("Thing")})},
		"a Deny's address":           {apply: deny("*", "kms:Decrypt", when("IpAddress", "aws:SourceIp", ref("Thing")))},
		"a version":                  {apply: property(secretsKey, "KeyPolicy.Version", ref("Thing"))},
		"a Sid":                      {apply: addRaw(map[string]any{"Sid": ref("Thing"), "Effect": "Allow", "Principal": outsider, "Action": "kms:DescribeKey", "Resource": "*"})},
		// What is not understood takes nothing from the rest either.
		"a misspelt element":  {apply: all(addRaw(map[string]any{"Effect": "Allow", "Principal": outsider, "Action": "kms:Decrypt", "Resource": "*", "Conditions": map[string]any{}})), want: []string{"policy-not-understood"}},
		"an unknown operator": {apply: allow(outsider, "kms:Decrypt", when("StringAlmostEquals", "aws:PrincipalOrgID", "o-abcdefghij")), want: []string{"policy-not-understood"}},
		"a broken Deny":       {apply: deny("*", "kms:Decrypt", when("StringAlmostEquals", "aws:PrincipalOrgID", "o-abcdefghij")), want: []string{"policy-not-understood"}},
		"the administrator":   {apply: statement("AccountAdministration", "Effect", ref("Thing"))}, // who is not known to be missing
		"a broken IAM policy": {apply: identityPolicies(
			map[string]any{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*", "Condition": when("StringAlmostEquals", "aws:PrincipalOrgID", "o-abcdefghij")},
			map[string]any{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}), want: []string{"iam-decrypt-any-key", "policy-not-understood"}},
	} {
		t.Run(name, func(t *testing.T) {
			apply := tc.apply
			if name == "an effect" {
				apply = all(apply, statement("Added", "Effect", ref("Thing")), statement("Added", "Sid", "Effect"))
			}
			ids, said := checked(t, all(parameter("Thing"), open, statement("Added", "Sid", "Open"), apply))
			want := append([]string{"key-policy-any-principal"}, tc.want...)
			slices.Sort(want)
			if diff := cmp.Diff(want, ids); diff != "" {
				t.Errorf("- want, + found\n%s%s", diff, said)
			}
			if !slices.Contains(tc.want, "policy-not-understood") && name != "a Sid" && !strings.Contains(said, "Thing") && !strings.Contains(said, "resolve:ssm") && !strings.Contains(said, "Fn::Transform") {
				t.Errorf("no note names what is not known:\n%s", said)
			}
		})
	}
}

// TestConditions shows that what depends on a condition is judged in each case.
func TestConditions(t *testing.T) {
	const suffix = "(where Stage is "
	for name, tc := range map[string]struct {
		apply   change
		want    string // a rule, or nothing
		said    string
		without string
	}{
		"rotation":            {apply: property(secretsKey, "EnableKeyRotation", choice("Production", true, false)), want: "key-rotation-off", said: suffix + "not production)"},
		"rotation either way": {apply: property(secretsKey, "EnableKeyRotation", choice("Production", false, noValue)), want: "key-rotation-off", said: "EnableKeyRotation is not set " + suffix + "not production)"},
		"rotation always":     {apply: property(secretsKey, "EnableKeyRotation", choice("Production", true, "true"))},
		"period":              {apply: property(secretsKey, "RotationPeriodInDays", choice("Production", 90, 700)), want: "key-rotation-slow", said: suffix + "not production)"},
		"window":              {apply: property(secretsKey, "PendingWindowInDays", choice("Production", 30, 7)), want: "key-deletion-window-short", said: suffix + "not production)"},
		"spec":                {apply: property(secretsKey, "KeySpec", choice("Production", noValue, "RSA_2048")), want: "secrets-key-unsuitable", said: suffix + "not production)"},
		"retention":           {apply: attribute(secretsKey, "DeletionPolicy", choice("Production", "Retain", "Delete")), want: "key-deletable", said: suffix + "not production)"},
		"retention unknown":   {apply: attribute(secretsKey, "DeletionPolicy", ref("Stage")), said: "DeletionPolicy is ${Stage}"},
		"endpoint":            {apply: property(cluster, "ResourcesVpcConfig.EndpointPublicAccess", choice("Production", false, true)), want: "endpoint-public", said: suffix + "not production)"},
		"endpoint and networks": {apply: all(property(cluster, "ResourcesVpcConfig.EndpointPublicAccess", choice("Production", false, true)),
			property(cluster, "ResourcesVpcConfig.PublicAccessCidrs", choice("Production", noValue, []any{"203.0.113.0/24"})))},
		"encryption":       {apply: property(cluster, "EncryptionConfig", choice("Production", []any{map[string]any{"Provider": map[string]any{"KeyArn": map[string]any{"Fn::GetAtt": []any{secretsKey, "Arn"}}}}}, noValue)), want: "secrets-not-encrypted", said: suffix + "not production)"},
		"the key itself":   {apply: property(cluster, "EncryptionConfig.0.Provider.KeyArn", choice("Production", map[string]any{"Fn::GetAtt": []any{secretsKey, "Arn"}}, "alias/aws/eks")), want: "secrets-key-unsuitable", said: suffix + "not production)"},
		"audit log":        {apply: property(cluster, "Logging", choice("Production", map[string]any{"ClusterLogging": map[string]any{"EnabledTypes": []any{map[string]any{"Type": "audit"}}}}, noValue)), want: "audit-log-off", said: suffix + "not production)"},
		"one type":         {apply: property(cluster, "Logging", map[string]any{"ClusterLogging": map[string]any{"EnabledTypes": []any{choice("Production", map[string]any{"Type": "audit"}, noValue)}}}), want: "audit-log-off", said: suffix + "not production)"},
		"version":          {apply: property(cluster, "Version", choice("Production", "1.34", "1.21")), want: "kubernetes-version-ended", said: suffix + "not production)"},
		"trail logs":       {apply: property(trail, "IsLogging", choice("Production", true, false)), want: "trail-not-logging", said: suffix + "not production)"},
		"trail validates":  {apply: property(trail, "EnableLogFileValidation", choice("Production", true, noValue)), want: "trail-no-validation", said: suffix + "not production)"},
		"trail's key":      {apply: property(trail, "KMSKeyId", choice("Production", map[string]any{"Fn::GetAtt": []any{trailKey, "Arn"}}, noValue)), want: "trail-not-encrypted", said: suffix + "not production)"},
		"topic's key":      {apply: property(topic, "KmsMasterKeyId", choice("Production", map[string]any{"Fn::GetAtt": []any{trailKey, "Arn"}}, "alias/aws/sns")), want: "alarm-undeliverable", said: suffix + "not production)"},
		"an alarm's state": {apply: property(keyDeleted, "State", choice("Production", "ENABLED", "DISABLED")), want: "tamper-alarm-missing", said: suffix + "not production)"},
		"an IAM policy":    {apply: identityPolicy(map[string]any{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": choice("Production", map[string]any{"Fn::GetAtt": []any{secretsKey, "Arn"}}, "*")}), want: "iam-decrypt-any-key", said: suffix + "not production)"},
	} {
		t.Run(name, func(t *testing.T) {
			ids, said := checked(t, all(condition("Production"), tc.apply))
			var want []string
			if tc.want != "" {
				want = []string{tc.want}
			}
			if diff := cmp.Diff(want, ids); diff != "" {
				t.Errorf("- want, + found\n%s%s", diff, said)
			}
			if !strings.Contains(said, tc.said) || tc.said == "" && strings.Contains(said, suffix) {
				t.Errorf("want %q in\n%s", tc.said, said)
			}
		})
	}
}

// TestWhoIsMeant shows that a finding on everybody says the most of whom a statement is for.
func TestWhoIsMeant(t *testing.T) {
	for condition, want := range map[string]string{
		"":                                 "kms:Decrypt to everybody\n",
		"arn:aws:iam::*:role/deploy-*":     "kms:Decrypt to everybody who has a principal like arn:aws:iam::*:role/deploy-*",
		"arn:aws:iam::111122223333:role/*": "",
	} {
		change := allow("*", "kms:Decrypt", nil)
		if condition != "" {
			change = allow("*", "kms:Decrypt", when("ArnLike", "aws:PrincipalArn", condition))
		}
		if _, said := checked(t, change); want != "" && !strings.Contains(said, want) || want == "" && strings.Contains(said, "to everybody") {
			t.Errorf("%q: want %q in\n%s", condition, want, said)
		}
	}
	if _, said := checked(t, allow("*", "kms:PutKeyPolicy", nil)); !strings.Contains(said, "kms:PutKeyPolicy to everybody in the account") {
		t.Error(said)
	}
}

// TestUnknownDelivery shows that what is not known of a policy may allow a call, but that what
// is known can deny it.
func TestUnknownDelivery(t *testing.T) {
	denies := map[string]any{"Effect": "Deny", "Principal": map[string]any{"Service": "events.amazonaws.com"}, "Action": "sns:Publish", "Resource": "*"}
	for name, tc := range map[string]struct {
		apply change
		want  []string
	}{
		"a topic's policy":           {property(topicPolicy, "PolicyDocument", ref("Thing")), nil},
		"a statement":                {property(topicPolicy, "PolicyDocument.Statement", []any{ref("Thing")}), nil},
		"a statement beside a Deny":  {property(topicPolicy, "PolicyDocument.Statement", []any{ref("Thing"), denies}), one("alarm-undeliverable")},
		"a topic's key":              {property(topic, "KmsMasterKeyId", ref("Thing")), nil},
		"a bucket's policy":          {property(bucketPolicy, "PolicyDocument", ref("Thing")), nil},
		"a trail's key":              {property(trail, "KMSKeyId", ref("Thing")), nil},
		"a trust policy":             {property(pluginRole, "AssumeRolePolicyDocument", ref("Thing")), nil},
		"the role of an association": {property("EncryptedClusterKmsPluginPodIdentity6ACD28A4", "RoleArn", ref("Thing")), nil},
	} {
		t.Run(name, func(t *testing.T) {
			ids, said := checked(t, all(parameter("Thing"), tc.apply))
			if diff := cmp.Diff(tc.want, ids); diff != "" {
				t.Errorf("- want, + found\n%s%s", diff, said)
			}
			if !strings.Contains(said, "Thing") {
				t.Errorf("no note names what is not known:\n%s", said)
			}
		})
	}
}

// TestEachUnknown shows that nothing is found of a good template because one value in it is not
// known, or one part of a text: neither a policy that is not understood, nor something that is
// missing. What a condition that is not known could limit is found, and says so.
func TestEachUnknown(t *testing.T) {
	if estatetest.Race {
		return // it is many templates, one after the other
	}
	for _, id := range []string{secretsKey, trailKey, cluster, pluginRole, pluginIAM, trail, bucketPolicy, topic, topicPolicy, keyDisabled, trailTampered} {
		each(estatetest.Golden(t, "default").Resource(id)["Properties"], "Properties", func(path string) {
			if strings.Contains(path, "InputTransformer") {
				return
			}
			for _, v := range []any{ref("Thing"), map[string]any{"Fn::Sub": "a-${Thing}"}} {
				changed := estatetest.Golden(t, "default")
				parameter("Thing")(changed)
				set(changed.Resource(id), path, v)
				report, err := check.Run(estatetest.Estate(t, changed), check.Options{})
				if err != nil {
					t.Fatalf("%s %s is %v: %v", id, path, v, err)
				}
				for _, f := range report.Findings {
					if f.Rule != "use-without-context" || !strings.Contains(f.Message, "unless its condition ${Thing} says otherwise") {
						t.Errorf("%s %s is %v: %s: %s", id, path, v, f.Rule, f.Message)
					}
				}
			}
		})
	}
}

// each visits the paths of a value, but for those within a function and those with a dot.
func each(v any, at string, visit func(path string)) {
	switch v := v.(type) {
	case map[string]any:
		for name, below := range v {
			switch {
			case name == "Ref" || strings.HasPrefix(name, "Fn::"):
				return
			case !strings.Contains(name, "."):
				visit(at + "." + name)
				each(below, at+"."+name, visit)
			}
		}
	case []any:
		for i, below := range v {
			path := at + "." + strconv.Itoa(i)
			visit(path)
			each(below, path, visit)
		}
	}
}

// TestUnknownNetwork shows that a network that is not known is noted, and hides no other.
func TestUnknownNetwork(t *testing.T) {
	for _, tc := range []struct {
		networks []any
		want     []string
		note     bool
	}{
		{[]any{"203.0.113.0/24", ref("Thing")}, nil, true},
		{[]any{ref("Thing"), "0.0.0.0/0"}, one("endpoint-public"), false},
		{[]any{"203.0.113.0/24"}, nil, false},
	} {
		ids, said := checked(t, all(parameter("Thing"), property(cluster, "ResourcesVpcConfig.EndpointPublicAccess", true), property(cluster, "ResourcesVpcConfig.PublicAccessCidrs", tc.networks)))
		if diff := cmp.Diff(tc.want, ids); diff != "" || strings.Contains(said, "PublicAccessCidrs has ${Thing}") != tc.note {
			t.Errorf("%v: - want, + found\n%s%s", tc.networks, diff, said)
		}
	}
}
