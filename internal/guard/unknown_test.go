package guard_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/estate/estatetest"
	"github.com/ekskms/ekskms/internal/guard"
)

// staged declares conditions on what is not known: one of two stages.
func staged(t estatetest.Template) {
	t["Parameters"] = map[string]any{"Stage": map[string]any{"Type": "String"}, "Thing": map[string]any{"Type": "String"}}
	now := func(stage string) map[string]any {
		return map[string]any{"Fn::Equals": []any{map[string]any{"Ref": "Stage"}, stage}}
	}
	t["Conditions"] = map[string]any{
		"Production": now("production"), "Test": now("test"), "NotProduction": map[string]any{"Fn::Not": []any{map[string]any{"Condition": "Production"}}},
	}
}

func choice(condition string, then, otherwise any) map[string]any {
	return map[string]any{"Fn::If": []any{condition, then, otherwise}}
}

// TestConditions shows that a change is judged in each case of what is not known, and that
// a value that is not known is the same before and after.
func TestConditions(t *testing.T) {
	noValue := map[string]any{"Ref": "AWS::NoValue"}
	rotation := func(v any) estatetest.Change { return estatetest.Property(secretsKey, "EnableKeyRotation", v) }
	opened := map[string]any{"Sid": "Open", "Effect": "Allow", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"}
	for name, tc := range map[string]struct {
		before, after estatetest.Change
		want          []string
		says          string
	}{
		"the same":              {before: rotation(choice("Production", true, false)), after: rotation(choice("Production", true, false))},
		"the same, turned":      {before: rotation(choice("Production", true, false)), after: rotation(choice("NotProduction", false, true))},
		"less in one case":      {before: rotation(true), after: rotation(choice("Production", true, false)), want: one("rotation-weakened"), says: "(where Stage is not production)"},
		"less in another case":  {before: rotation(choice("Production", false, true)), after: rotation(choice("Production", true, false)), want: one("rotation-weakened"), says: "(where Stage is not production)"},
		"more in one case":      {before: rotation(choice("Production", true, false)), after: rotation(true)},
		"never both":            {before: rotation(choice("Production", true, choice("Test", true, false))), after: rotation(choice("Test", choice("Production", false, true), choice("Production", true, false)))},
		"the key in one case":   {after: estatetest.Attribute(secretsKey, "Condition", "Production"), want: []string{"key-deleted"}, says: "(where Stage is not production)"},
		"the trail in one case": {after: estatetest.Attribute(trail, "Condition", "Production"), want: one("trail-weakened"), says: "(where Stage is not production)"},
		"a statement in one case": {after: setStatements(func(s []any) []any { return append(s, choice("Production", noValue, opened)) }),
			want: one("policy-widened"), says: "(where Stage is not production)"},
		"a condition more, which changes nothing": {before: setStatements(func(s []any) []any { return append(s, choice("Production", opened, noValue)) }),
			after: setStatements(func(s []any) []any { return append(s, choice("NotProduction", noValue, opened)) })},
		"retained in one case": {after: estatetest.Attribute(secretsKey, "DeletionPolicy", choice("Production", "Retain", "Delete")), want: one("retention-weakened"), says: "(where Stage is not production)"},
		"an unknown value":     {before: rotation(map[string]any{"Ref": "Thing"}), after: rotation(map[string]any{"Ref": "Thing"})},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := estatetest.Golden(t, "default"), estatetest.Golden(t, "default")
			staged(before)
			staged(after)
			if tc.before != nil {
				tc.before(before)
			}
			tc.after(after)
			report := compare(t, before, after)
			if diff := cmp.Diff(tc.want, found(report)); diff != "" {
				t.Errorf("- want, + found\n%s%+v", diff, report.Findings)
			}
			for _, f := range report.Findings {
				if !strings.Contains(f.Message, tc.says) {
					t.Errorf("want %q in %q", tc.says, f.Message)
				}
			}
			if again := compare(t, after, after); len(again.Findings) > 0 {
				t.Errorf("against itself: %+v", again.Findings)
			}
			if estatetest.Race {
				return
			}
			for with, make := range map[string]func(*testing.T, estatetest.Template) *estate.Estate{"another stack": besideAnother, "another cluster": estatetest.WithAnother} {
				both, err := guard.Compare(make(t, before), make(t, after), guard.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tc.want, found(both)); diff != "" {
					t.Errorf("with %s: - want, + found\n%s", with, diff)
				}
			}
		})
	}
}

func besideAnother(t *testing.T, template estatetest.Template) *estate.Estate {
	return estatetest.BesideAnother(t, template)
}

// TestUnknownNow shows that what was known and is no longer counts as changed, and that no
// message makes up what it is.
func TestUnknownNow(t *testing.T) {
	thing := map[string]any{"Ref": "Thing"}
	for name, tc := range map[string]struct {
		change estatetest.Change
		want   []string
	}{
		"rotation":          {estatetest.Property(secretsKey, "EnableKeyRotation", thing), one("rotation-weakened")},
		"period":            {estatetest.Property(secretsKey, "RotationPeriodInDays", thing), one("rotation-weakened")},
		"window":            {estatetest.Property(secretsKey, "PendingWindowInDays", thing), one("retention-weakened")},
		"spec":              {estatetest.Property(secretsKey, "KeySpec", thing), one("key-replaced")},
		"endpoint":          {estatetest.Property(cluster, "ResourcesVpcConfig.EndpointPublicAccess", thing), one("endpoint-opened")},
		"logging":           {estatetest.Property(cluster, "Logging", thing), one("control-plane-log-weakened")},
		"one log":           {estatetest.Property(cluster, "Logging.ClusterLogging.EnabledTypes", []any{map[string]any{"Type": thing}}), one("control-plane-log-weakened")},
		"encryption":        {estatetest.Property(cluster, "EncryptionConfig", thing), one("encryption-config-changed")},
		"version":           {estatetest.Property(cluster, "Version", thing), nil},
		"trail":             {estatetest.Property(trail, "IsLogging", thing), one("trail-weakened")},
		"selectors":         {estatetest.Property(trail, "EventSelectors", thing), one("trail-weakened")},
		"log group":         {estatetest.Property(controlLogs, "RetentionInDays", thing), one("retention-weakened")},
		"bucket":            {estatetest.Property(bucket, "LifecycleConfiguration", thing), one("retention-weakened")},
		"alarm":             {estatetest.Property(keyDisabled, "State", thing), one("alarm-removed")},
		"pattern":           {estatetest.Property(keyDisabled, "EventPattern", thing), one("alarm-removed")},
		"retention":         {estatetest.Attribute(secretsKey, "DeletionPolicy", thing), one("retention-weakened")},
		"a trust policy":    {estatetest.Property(pluginRole, "AssumeRolePolicyDocument", thing), one("policy-widened")},
		"a trust statement": {estatetest.Property(pluginRole, "AssumeRolePolicyDocument.Statement", []any{thing}), one("policy-widened")},
		"a bucket's policy": {estatetest.Property(bucketPolicy, "PolicyDocument", thing), one("policy-widened")},
		"an effect":         {estatetest.Property(bucketPolicy, "PolicyDocument.Statement.2.Effect", thing), one("policy-widened")},
		"the bucket of it":  {estatetest.Property(bucketPolicy, "Bucket", thing), one("trail-weakened")},
		"the policy":        {estatetest.Property(secretsKey, "KeyPolicy", thing), one("policy-not-understood")},
		"a statement":       {setStatements(func(s []any) []any { return append(s, thing) }), one("policy-not-understood")},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := estatetest.Golden(t, "default"), estatetest.Golden(t, "default")
			staged(before)
			staged(after)
			tc.change(after)
			report := compare(t, before, after)
			if diff := cmp.Diff(tc.want, found(report)); diff != "" {
				t.Errorf("- want, + found\n%s%+v", diff, report.Findings)
			}
			said := false
			for _, f := range report.Findings {
				said = said || strings.Contains(f.Message, "${Thing}")
			}
			for _, n := range report.Notes {
				said = said || strings.Contains(n.Message, "${Thing}")
			}
			if !said {
				t.Errorf("nothing says what is not known: %+v", report)
			}
			if again := compare(t, after, after); len(again.Findings) > 0 {
				t.Errorf("against itself: %+v", again.Findings)
			}
		})
	}
}
