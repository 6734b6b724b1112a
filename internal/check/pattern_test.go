package check

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/estate"
)

func disableKey() map[string]any {
	const arn = "arn:aws:kms:eu-central-1:111122223333:key/0d8b1f6e"
	t := &estate.Stack{Partition: "aws", Account: "111122223333", Region: "eu-central-1"}
	return sampleEvents(t, "kms", "DisableKey", "keyId", []string{arn}, arn)[0]
}

// Source of the operators: Amazon EventBridge User Guide, "Comparison operators
// for use in event patterns".
func TestPatterns(t *testing.T) {
	for _, tc := range []struct {
		name, pattern string
		want          bool
	}{
		{"empty", `{}`, true},
		{"source", `{"source": ["aws.kms"]}`, true},
		{"one of several", `{"source": ["aws.s3", "aws.kms"]}`, true},
		{"another source", `{"source": ["aws.s3"]}`, false},
		{"a field that is not there", `{"detail": {"errorCode": ["AccessDenied"]}}`, false},
		{"a field that must not be there", `{"detail": {"errorCode": [{"exists": false}]}}`, true},
		{"a field that must be there", `{"detail": {"errorCode": [{"exists": true}]}}`, false},
		{"one of a list of objects", `{"detail": {"resources": {"ARN": ["arn:aws:kms:eu-central-1:111122223333:key/0d8b1f6e"]}}}`, true},
		{"none of a list of objects", `{"detail": {"resources": {"ARN": ["arn:aws:kms:eu-central-1:111122223333:key/other"]}}}`, false},
		{"below what is not there", `{"detail": {"nothing": {"deep": [{"exists": false}]}}}`, true},
		{"a boolean", `{"detail": {"readOnly": [false]}}`, true},
		{"a boolean as text", `{"detail": {"readOnly": [true]}}`, false},
		{"prefix", `{"detail": {"eventName": [{"prefix": "Disable"}]}}`, true},
		{"another prefix", `{"detail": {"eventName": [{"prefix": "disable"}]}}`, false},
		{"prefix in any case", `{"detail": {"eventName": [{"prefix": {"equals-ignore-case": "disable"}}]}}`, true},
		{"suffix", `{"detail": {"eventName": [{"suffix": "Key"}]}}`, true},
		{"equals in any case", `{"detail": {"eventName": [{"equals-ignore-case": "disablekey"}]}}`, true},
		{"wildcard", `{"detail": {"eventName": [{"wildcard": "*able*Key"}]}}`, true},
		{"another wildcard", `{"detail": {"eventName": [{"wildcard": "*able*Rotation"}]}}`, false},
		{"anything but", `{"detail": {"eventName": [{"anything-but": ["Encrypt", "Decrypt"]}]}}`, true},
		{"anything but this", `{"detail": {"eventName": [{"anything-but": "DisableKey"}]}}`, false},
		{"anything but a prefix", `{"detail": {"eventName": [{"anything-but": {"prefix": "Dis"}}]}}`, false},
		{"anything but what is not there", `{"detail": {"userIdentity": {"invokedBy": [{"anything-but": "eks.amazonaws.com"}]}}}`, false},
		{"cidr", `{"detail": {"sourceIPAddress": [{"cidr": "192.0.2.0/24"}]}}`, true},
		{"another cidr", `{"detail": {"sourceIPAddress": [{"cidr": "198.51.100.0/24"}]}}`, false},
		{"or", `{"$or": [{"source": ["aws.s3"]}, {"detail": {"eventName": ["DisableKey"]}}]}`, true},
		{"neither", `{"$or": [{"source": ["aws.s3"]}, {"detail": {"eventName": ["EnableKey"]}}]}`, false},
		{"null", `{"detail": {"eventName": [null]}}`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var pattern any
			if err := json.Unmarshal([]byte(tc.pattern), &pattern); err != nil {
				t.Fatal(err)
			}
			matches, err := compilePattern(pattern)
			if err != nil {
				t.Fatal(err)
			}
			if got := matches(disableKey()); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// What is not understood is an error: it must not count as an alarm.
func TestPatternErrors(t *testing.T) {
	for pattern, want := range map[string]string{
		`{"source": [{"sounds-like": "kms"}]}`:             `unknown operator "sounds-like"`,
		`{"source": "aws.kms"}`:                            "the value of source must be a list",
		`["aws.kms"]`:                                      "a pattern is an object",
		`{"detail": {"sourceIPAddress": [{"cidr": "x"}]}}`: "netip.ParsePrefix",
		`{"source": [{"prefix": "a", "suffix": "b"}]}`:     "one operator",
	} {
		var parsed any
		if err := json.Unmarshal([]byte(pattern), &parsed); err != nil {
			t.Fatal(err)
		}
		if _, err := compilePattern(parsed); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", pattern, err)
		}
	}
}

// Sources: CIS AWS Foundations Benchmark, "Monitoring"; Amazon CloudWatch Logs
// User Guide, "Filter pattern syntax for metric filters".
func TestMetricFilters(t *testing.T) {
	for _, tc := range []struct {
		name, pattern string
		want          bool
	}{
		{"CIS, keys", `{ ($.eventSource = kms.amazonaws.com) && (($.eventName = DisableKey) || ($.eventName = ScheduleKeyDeletion)) }`, true},
		{"without spaces", `{($.eventSource=kms.amazonaws.com)&&(($.eventName=ScheduleKeyDeletion)||($.eventName=DisableKey))}`, true},
		{"in quotes", `{ $.eventName = "DisableKey" }`, true},
		{"wildcard", `{ $.eventName = "Disable*" }`, true},
		{"another event", `{ $.eventName = "EnableKey" }`, false},
		{"another source", `{ ($.eventSource = s3.amazonaws.com) && ($.eventName = DisableKey) }`, false},
		{"not equal", `{ $.eventName != "DisableKey" }`, false},
		{"without errors", `{ ($.eventName = DisableKey) && ($.errorCode NOT EXISTS) }`, true},
		{"with errors", `{ ($.eventName = DisableKey) && ($.errorCode EXISTS) }`, false},
		{"of root", `{ $.userIdentity.type = "Root" && $.eventName = DisableKey }`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			match, err := parseFilter(tc.pattern)
			if err != nil {
				t.Fatal(err)
			}
			if got := match(disableKey()["detail"]); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
	for _, pattern := range []string{``, `DisableKey`, `{ }`, `{ $.eventName }`, `{ $.eventName = DisableKey`, `{ ($.eventName = DisableKey }`, `{ $.count > 3 }`, `{ eventName = DisableKey }`, `{ $.a = b $.c = d }`} {
		if _, err := parseFilter(pattern); err == nil {
			t.Errorf("%q is read", pattern)
		}
	}
}

// Source: AWS CloudTrail User Guide, "Logging management events".
func TestSelectors(t *testing.T) {
	for _, tc := range []struct {
		name, properties, want string
	}{
		{"none", `{}`, ""},
		{"an empty list", `{"EventSelectors": []}`, ""},
		{"all", `{"EventSelectors": [{"IncludeManagementEvents": true, "ReadWriteType": "All"}]}`, ""},
		{"defaults", `{"EventSelectors": [{}]}`, ""},
		{"reads and writes in two", `{"EventSelectors": [{"ReadWriteType": "ReadOnly"}, {"ReadWriteType": "WriteOnly"}]}`, ""},
		{"reads only", `{"EventSelectors": [{"ReadWriteType": "ReadOnly"}]}`, "ReadWriteType is ReadOnly"},
		{"data events beside all", `{"EventSelectors": [{"IncludeManagementEvents": false}, {}]}`, ""},
		{"data events only", `{"EventSelectors": [{"IncludeManagementEvents": false}]}`, "IncludeManagementEvents is false"},
		{"without KMS", `{"EventSelectors": [{"ExcludeManagementEventSources": ["kms.amazonaws.com"]}]}`, "ExcludeManagementEventSources is [kms.amazonaws.com]"},
		{"without RDS Data", `{"EventSelectors": [{"ExcludeManagementEventSources": ["rdsdata.amazonaws.com"]}]}`, ""},
		{"advanced, management", `{"AdvancedEventSelectors": [{"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}]}]}`, ""},
		{"advanced, reads and writes in two", `{"AdvancedEventSelectors": [
			{"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}, {"Field": "readOnly", "Equals": ["true"]}]},
			{"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}, {"Field": "readOnly", "Equals": ["false"]}]}]}`, ""},
		{"advanced, KMS alone", `{"AdvancedEventSelectors": [{"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}, {"Field": "eventSource", "Equals": ["kms.amazonaws.com"]}]}]}`, ""},
		{"advanced, another source", `{"AdvancedEventSelectors": [{"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}, {"Field": "eventSource", "Equals": ["sts.amazonaws.com"]}]}]}`, "AdvancedEventSelectors leave out eventSource kms.amazonaws.com"},
		{"advanced, not KMS by prefix", `{"AdvancedEventSelectors": [{"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}, {"Field": "eventSource", "NotStartsWith": ["kms"]}]}]}`, "AdvancedEventSelectors leave out eventSource kms.amazonaws.com"},
		{"advanced, data", `{"AdvancedEventSelectors": [{"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Data"]}]}]}`, "AdvancedEventSelectors have no eventCategory Management"},
		{"advanced, writes", `{"AdvancedEventSelectors": [{"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}, {"Field": "readOnly", "Equals": ["false"]}]}]}`, "AdvancedEventSelectors have a condition on readOnly"},
		{"advanced, of one caller", `{"AdvancedEventSelectors": [{"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}, {"Field": "userIdentity.arn", "Equals": ["x"]}]}]}`, "AdvancedEventSelectors have a condition on userIdentity.arn"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var properties map[string]any
			if err := json.Unmarshal([]byte(tc.properties), &properties); err != nil {
				t.Fatal(err)
			}
			if got := leavesOutKMS(properties); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestWild(t *testing.T) {
	for _, tc := range []struct {
		pattern, s string
		want       bool
	}{
		{"kms:*", "kms:Decrypt", true}, {"KMS:decrypt", "kms:Decrypt", true}, {"k?s:*", "kms:Decrypt", true}, {"*", "", true},
		{"kms:De*t", "kms:Decrypt", true}, {"kms:De*t", "kms:DescribeKey", false}, {"kms:De", "kms:Decrypt", false}, {"", "x", false},
		{"*a*b", "xaxxb", true}, {"*a*b", "xaxx", false}, {"kms:Decrypt*", "kms:Decrypt", true}, {"??", "a", false},
	} {
		if got := wild(tc.pattern, tc.s); got != tc.want {
			t.Errorf("%q on %q: %v", tc.pattern, tc.s, got)
		}
	}
}
