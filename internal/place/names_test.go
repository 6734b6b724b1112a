package place_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/place"
)

// CloudTrail refuses names with hyphens and underscores next to each other, or
// at the end, and takes 128 characters.
func TestTrail(t *testing.T) {
	if got := place.Trail("payments", "eu-central-1"); got != "ekskms-payments-eu-central-1" {
		t.Errorf("the trail is %s", got)
	}
	valid := regexp.MustCompile(`^[A-Za-z0-9]([._-]?[A-Za-z0-9])*$`)
	seen := map[string]string{}
	for _, cluster := range []string{"a", "a-b", "a_b", "a--b", "a__b", "a_-b", "a-", "a_", "a--", strings.Repeat("a-", 50), strings.Repeat("a--", 33) + "b", strings.Repeat("a", 100)} {
		got := place.Trail(cluster, "us-gov-west-1")
		if !valid.MatchString(got) || len(got) > 128 {
			t.Errorf("the trail of %s is %s", cluster, got)
		}
		if other, twice := seen[got]; twice {
			t.Errorf("%s and %s have one trail, %s", cluster, other, got)
		}
		seen[got] = cluster
	}
}

// SNS takes 100 characters of a display name.
func TestTopicDisplay(t *testing.T) {
	if got := place.TopicDisplay(strings.Repeat("a", 100)); len(got) > 100 {
		t.Errorf("%d characters", len(got))
	}
}

func TestLogRetention(t *testing.T) {
	if place.LogRetention(365) != "ONE_YEAR" || place.LogRetention(364) != "" {
		t.Errorf("365 days are %q, 364 are %q", place.LogRetention(365), place.LogRetention(364))
	}
}

// CloudFormation takes no underscores, and no two clusters have one stack.
func TestStackName(t *testing.T) {
	if got := place.Stack("team-prod"); got != "ekskms-team-prod" {
		t.Errorf("the stack is named %s", got)
	}
	a, b := place.Stack("team_a-prod"), place.Stack("team-a_prod")
	if strings.Contains(a, "_") || strings.Contains(b, "_") {
		t.Errorf("the stacks are named %s and %s, which CloudFormation refuses", a, b)
	}
	if a == b || a == place.Stack("team-a-prod") {
		t.Errorf("two clusters have one stack, %s", a)
	}
}
