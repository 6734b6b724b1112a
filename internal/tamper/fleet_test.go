package tamper

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fleet is what n clusters share, and the clusters.
func fleet(n int) (shared Input, clusters []Input) {
	shared = Input{
		ClusterName: "shared", TrailName: "ekskms-shared", TrailARN: "arn:aws:cloudtrail:eu-central-1:111122223333:trail/ekskms-shared",
		BucketName: "shared-logs", LogGroups: []string{"/aws/events/ekskms/shared/alarms"}, AuditKeyARNs: []string{auditKeyARN},
		TopicARNs: []string{topicARN}, MetricAlarm: "ekskms-shared-undelivered", RulePrefix: "ekskms-shared-",
	}
	for i := range n {
		name := fmt.Sprintf("c%d", i)
		clusters = append(clusters, Input{
			ClusterName: name, KeyARN: keyOf(i), AliasARN: "arn:aws:kms:eu-central-1:111122223333:alias/eks/" + name,
			LogsKeyARN: strings.Replace(keyOf(i), "key/", "key/logs-", 1), LogGroups: []string{"/aws/eks/" + name + "/cluster"},
			HandlerNames: []string{"ekskms-" + name + "-kubectl", "ekskms-" + name + "-kubectl-framework"},
		})
	}
	return shared, clusters
}

func keyOf(i int) string {
	return fmt.Sprintf("arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-%012d", i)
}

// TestFleetRules: what is done to each of many clusters raises the alarm that it raises
// with one, once, and no rule is too long.
func TestFleetRules(t *testing.T) {
	counts := map[int]int{}
	for _, n := range []int{1, 2, 12, 60} {
		shared, clusters := fleet(n)
		shared.Shared = true
		rules := append(Rules(shared), FleetRules(shared, clusters)...)
		counts[n] = len(rules)
		names := map[string]bool{}
		for _, r := range rules {
			data, err := json.Marshal(r.Pattern)
			if err != nil || len(data) > MaxPattern {
				t.Errorf("%d clusters: %s has %d characters: %v", n, r.ID, len(data), err)
			}
			if names[r.Name] || !strings.HasPrefix(r.Name, "ekskms-shared-") || len(r.Name) > 64 {
				t.Errorf("%d clusters: the name %q", n, r.Name)
			}
			names[r.Name] = true
			if len(r.Template) > 8192 || len(r.Description) > 512 {
				t.Errorf("%d clusters: %s: a template of %d and a description of %d characters", n, r.ID, len(r.Template), len(r.Description))
			}
			for _, part := range strings.Split(r.Template, "<")[1:] {
				if name, _, _ := strings.Cut(part, ">"); r.Paths[name] == "" {
					t.Errorf("%s: nothing stands for <%s>", r.ID, name)
				}
			}
		}
		for i, c := range clusters {
			alone := Rules(withShared(shared, c))
			for _, sample := range []string{"DisableKey", "ScheduleKeyDeletion", "PutKeyPolicy", "RevokeGrant"} {
				e := event(t, sample)
				about(c.KeyARN)(t, e["detail"].(map[string]any))
				checkSame(t, alone, rules, e, c.ClusterName, sample)
			}
			for _, e := range []map[string]any{
				call(t, "eks", "CreateAccessEntry", map[string]any{"name": c.ClusterName}),
				call(t, "lambda", "DeleteFunction20150331", map[string]any{"functionName": c.HandlerNames[1]}),
				call(t, "logs", "DeleteLogGroup", map[string]any{"logGroupName": c.LogGroups[0]}),
				call(t, "logs", "AssociateKmsKey", map[string]any{"resourceIdentifier": "arn:aws:logs:eu-central-1:111122223333:log-group:" + c.LogGroups[0]}),
			} {
				checkSame(t, alone, rules, e, c.ClusterName, fmt.Sprint(e["detail"].(map[string]any)["eventName"]))
			}
			if i > 20 {
				break
			}
		}
		for _, e := range []map[string]any{
			call(t, "s3", "DeleteBucket", map[string]any{"bucketName": "shared-logs"}),
			call(t, "sns", "DeleteTopic", map[string]any{"topicArn": topicARN}),
			call(t, "events", "DeleteRule", map[string]any{"name": "ekskms-shared-KeyDisabled2"}),
		} {
			if got := raised(t, rules, e); len(got) != 1 {
				t.Errorf("%d clusters: %v raises %v", n, e["detail"], got)
			}
		}
		stranger := event(t, "DisableKey")
		about(keyOf(999))(t, stranger["detail"].(map[string]any))
		if got := raised(t, rules, stranger); got != nil {
			t.Errorf("another key raises %v", got)
		}
	}
	shared, clusters := fleet(1)
	alone := Rules(withShared(shared, clusters[0]))
	page, err := os.ReadFile("../../docs/tutorial/first-fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("one trail and %d EventBridge rules; alone they would have 12 and %d.", counts[12], 12*len(alone)); !strings.Contains(string(page), want) {
		t.Errorf("the tutorial does not say %q", want)
	}
	if diff := cmp.Diff(map[int]int{1: 18, 2: 18, 12: 19, 60: 46}, counts); diff != "" {
		t.Errorf("rules by clusters (-want +got):\n%s", diff)
	}
}

// TestRoom: a rule is for as many clusters however the tokens of the CDK are numbered, and
// for no more than with the longest ARNs.
func TestRoom(t *testing.T) {
	rules := func(key, partition string) []Rule {
		shared, clusters := fleet(40)
		for i := range clusters {
			clusters[i].KeyARN = strings.ReplaceAll(key, "#", strconv.Itoa(i))
			clusters[i].AliasARN = strings.Replace(clusters[i].AliasARN, ":aws:", ":"+partition+":", 1)
		}
		return FleetRules(shared, clusters)
	}
	names := func(rules []Rule) (all []string) {
		for _, r := range rules {
			all = append(all, r.ID+strings.SplitN(r.Template, "Watched by this rule", 2)[1][:60])
		}
		return all
	}
	short, long := rules("${Token[TOKEN.#]}", "${Token[AWS.Partition.3]}"), rules("${Token[TOKEN.99999#]}", "${Token[AWS.Partition.99999]}")
	if diff := cmp.Diff(names(short), names(long)); diff != "" {
		t.Errorf("(-short +long):\n%s", diff)
	}
	for _, r := range short {
		data, err := json.Marshal(r.Pattern)
		if err != nil {
			t.Fatal(err)
		}
		deployed := strings.ReplaceAll(string(data), "${Token[AWS.Partition.3]}", "aws-us-gov")
		deployed = regexp.MustCompile(`\$\{Token\[TOKEN\.[0-9]+\]\}`).ReplaceAllString(deployed, "arn:aws-us-gov:kms:ap-southeast-5:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab")
		if len(deployed) > MaxPattern {
			t.Errorf("%s has %d characters", r.ID, len(deployed))
		}
	}
}

// withShared is a cluster that has alone what it shares.
func withShared(shared, c Input) Input {
	shared.ClusterName, shared.KeyARN, shared.AliasARN, shared.LogsKeyARN, shared.HandlerNames = c.ClusterName, c.KeyARN, c.AliasARN, c.LogsKeyARN, c.HandlerNames
	shared.LogGroups = append(shared.LogGroups, c.LogGroups...)
	return shared
}

func checkSame(t *testing.T, alone, rules []Rule, e map[string]any, cluster, what string) {
	t.Helper()
	want, got := raised(t, alone, e), raised(t, rules, e)
	for i := range got {
		got[i] = strings.TrimRight(got[i], "0123456789")
	}
	if len(want) == 0 || cmp.Diff(want, got) != "" {
		t.Errorf("%s of %s raises %v, alone %v", what, cluster, got, want)
	}
}
