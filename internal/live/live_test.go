package live_test

import (
	"context"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/live/livetest"
)

const (
	here  = "111122223333"
	there = "444455556666"
	roles = ":role/aws-reserved/sso.amazonaws.com/"
)

func start(t *testing.T, role string, change func(*livetest.AWS)) *live.AWS {
	t.Helper()
	fake := &livetest.AWS{
		Account: here,
		AddOns: map[string]map[string]map[string][]string{
			"eu-central-1": {
				// Not in order, and more than a page.
				"coredns": {"1.35": {"v1.9.3-eksbuild.11", "v1.13.2-eksbuild.1", "v1.13.2-eksbuild.10", "v1.13.2-eksbuild.9", "v1.12.4-eksbuild.1"}},
				"other":   {"1.35": {"3.0-b", "2.0-a"}},
			},
			"us-east-1": {"coredns": {"1.35": {"v1.14.0-eksbuild.1"}}},
		},
		Roles: []string{
			"arn:aws:iam::" + here + ":role/Admin",
			"arn:aws:iam::" + here + roles + "eu-central-1/AWSReservedSSO_Admin_0123456789abcdef",
			"arn:aws:iam::" + here + roles + "eu-central-1/AWSReservedSSO_Admin_Billing_0123456789abcdef",
			"arn:aws:iam::" + here + roles + "eu-central-1/something-else",
			"arn:aws:iam::" + there + roles + "AWSReservedSSO_Admin_fedcba9876543210",
		},
		Assumable: []string{"arn:aws:iam::" + there + ":role/team/Reader"},
	}
	if change != nil {
		change(fake)
	}
	server := fake.Start()
	t.Cleanup(server.Close)
	for _, v := range livetest.Environment(server.URL) {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	t.Setenv("AWS_REGION", "eu-central-1")
	aws, err := live.New(context.Background(), role)
	if err != nil {
		t.Fatal(err)
	}
	return aws
}

// wants holds what was answered to one of two texts.
func wants(t *testing.T, got string, err error, want, fault string) {
	t.Helper()
	switch {
	case fault == "" && err != nil, fault != "" && (err == nil || !strings.Contains(err.Error(), fault)):
		t.Errorf("the error is %v, want %q", err, fault)
	case got != want:
		t.Errorf("got %q, want %q", got, want)
	case err != nil && strings.ContainsAny(err.Error(), "\n{"):
		t.Errorf("the error is for developers: %v", err)
	}
}

func TestNewestAddOn(t *testing.T) {
	for _, tt := range []struct{ region, name, kubernetes, want, fault string }{
		{"eu-central-1", "coredns", "1.35", "v1.13.2-eksbuild.10", ""},
		{"", "coredns", "1.35", "v1.13.2-eksbuild.10", ""},
		{"us-east-1", "coredns", "1.35", "v1.14.0-eksbuild.1", ""},
		{"eu-central-1", "other", "1.35", "3.0-b", ""}, // the first, since nothing else is known
		{"eu-central-1", "coredns", "1.36", "", "no version of add-on coredns for Kubernetes 1.36 in eu-central-1"},
		{"eu-central-1", "cordns", "1.35", "", "InvalidParameterException: Addon specified is not supported"},
	} {
		got, err := start(t, "", nil).NewestAddOn(t.Context(), tt.region, tt.name, tt.kubernetes)
		wants(t, got, err, tt.want, tt.fault)
	}
	refused := start(t, "", func(a *livetest.AWS) { a.Refused = []string{"eks:DescribeAddonVersions"} })
	_, err := refused.NewestAddOn(t.Context(), "eu-central-1", "coredns", "1.35")
	wants(t, "", err, "", "eks:DescribeAddonVersions was refused: AccessDeniedException")
}

func TestPermissionSets(t *testing.T) {
	const admin = "arn:aws:iam::" + here + roles + "eu-central-1/AWSReservedSSO_Admin_0123456789abcdef"
	const other = "arn:aws:iam::" + there + roles + "AWSReservedSSO_Admin_fedcba9876543210"
	for _, tt := range []struct{ name, role, account, refused, want, fault string }{
		{"own account", "", here, "", admin, ""},
		{"no account", "", "", "", admin, ""},
		{"another account", "", there, "", "", "the credentials are of account 111122223333, and not of 444455556666"},
		{"another account by a role", "team/Reader", there, "", other, ""},
		{"a role for others, in the own account", "team/Reader", here, "", admin, ""},
		{"a role that can't be assumed", "Reader", there, "", "", "AccessDenied: not authorized to perform sts:AssumeRole on resource arn:aws:iam::444455556666:role/Reader"},
		{"refused", "", here, "iam:ListRoles", "", "iam:ListRoles was refused: AccessDenied"},
		{"nobody", "", here, "sts:GetCallerIdentity", "", "sts:GetCallerIdentity was refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			aws := start(t, tt.role, func(a *livetest.AWS) { a.Refused = []string{tt.refused} })
			sets, err := aws.PermissionSets(t.Context(), tt.account, "eu-central-1")
			got := strings.Join(sets["Admin"], " ")
			wants(t, got, err, tt.want, tt.fault)
			if tt.want == admin && len(sets["Admin_Billing"]) != 1 {
				t.Errorf("found %q", sets)
			}
		})
	}
}

// TestNothingKnown: without a Region, and without an AWS, there is a clear error.
func TestNothingKnown(t *testing.T) {
	start(t, "", nil)
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
	unreachable, err := live.New(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = unreachable.NewestAddOn(t.Context(), "eu-central-1", "coredns", "1.35")
	wants(t, "", err, "", "eks:DescribeAddonVersions failed: connection refused")
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	nowhere, err := live.New(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = nowhere.NewestAddOn(t.Context(), "", "coredns", "1.35")
	wants(t, "", err, "", "no Region is known: set AWS_REGION")
}

// TestNoCredentials: where there are none, that is said, and not how they were looked for.
func TestNoCredentials(t *testing.T) {
	start(t, "", nil)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	aws, err := live.New(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = aws.Here(t.Context(), "eu-central-1")
	wants(t, "", err, "", "no AWS credentials were found: log in, or name a profile with AWS_PROFILE")
}
