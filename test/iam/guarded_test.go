package iam

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/iampolicy"
)

// guarded are calls that take the protection of the cluster payments away, each with its
// resource: those of examples/02 are an existing key, trail and topic.
func guarded(t *testing.T, example string) [][2]string {
	t.Helper()
	const (
		region = "eu-central-1:111122223333:"
		role   = "arn:aws:iam::111122223333:role/"
	)
	cluster, trail, topic := "minimal", "trail/ekskms-minimal-eu-central-1", "ekskms-minimal-alarms"
	if strings.HasPrefix(example, "02") {
		cluster, trail, topic = "payments", "trail/management", "security-alarms"
	}
	calls := [][2]string{
		{"cloudtrail:StopLogging", "arn:aws:cloudtrail:" + region + trail},
		{"cloudtrail:DeleteTrail", "arn:aws:cloudtrail:" + region + trail},
		{"cloudtrail:UpdateTrail", "arn:aws:cloudtrail:" + region + trail},
		{"cloudtrail:PutEventSelectors", "arn:aws:cloudtrail:" + region + trail},
		{"sns:SetTopicAttributes", "arn:aws:sns:" + region + topic},
		{"sns:DeleteTopic", "arn:aws:sns:" + region + topic},
		{"sns:Unsubscribe", "arn:aws:sns:" + region + topic},
		{"events:DisableRule", "arn:aws:events:" + region + "rule/ekskms-" + cluster + "-KeyDisabled"},
		{"events:RemoveTargets", "arn:aws:events:" + region + "rule/ekskms-" + cluster + "-AlarmsTampered"},
		{"events:PutRule", "arn:aws:events:" + region + "rule/ekskms-" + cluster + "-KeyDisabled"},
		{"logs:DeleteLogGroup", "arn:aws:logs:" + region + "log-group:/aws/eks/" + cluster + "/cluster"},
		{"logs:DisassociateKmsKey", "arn:aws:logs:" + region + "log-group:/aws/eks/" + cluster + "/cluster"},
		{"logs:DeleteLogStream", "arn:aws:logs:" + region + "log-group:/aws/eks/" + cluster + "/cluster:log-stream:kube-apiserver-audit-1"},
		{"eks:CreateAccessEntry", "arn:aws:eks:" + region + "cluster/" + cluster},
		{"eks:AssociateAccessPolicy", "arn:aws:eks:" + region + "access-entry/" + cluster + "/role/111122223333/Eve/1"},
		{"eks:AssociateIdentityProviderConfig", "arn:aws:eks:" + region + "cluster/" + cluster},
		{"eks:CreatePodIdentityAssociation", "arn:aws:eks:" + region + "cluster/" + cluster},
		{"eks:UpdatePodIdentityAssociation", "arn:aws:eks:" + region + "podidentityassociation/" + cluster + "/a-1"},
		{"eks:UpdateClusterConfig", "arn:aws:eks:" + region + "cluster/" + cluster},
		{"eks:DeleteCluster", "arn:aws:eks:" + region + "cluster/" + cluster},
		{"eks:CreateAddon", "arn:aws:eks:" + region + "cluster/" + cluster},
		{"eks:UpdateAddon", "arn:aws:eks:" + region + "addon/" + cluster + "/coredns/1"},
		{"lambda:UpdateFunctionCode", "arn:aws:lambda:" + region + "function:ekskms-" + cluster + "-kubectl"},
		{"lambda:UpdateFunctionConfiguration", "arn:aws:lambda:" + region + "function:ekskms-" + cluster + "-kubectl"},
		{"lambda:AddPermission", "arn:aws:lambda:" + region + "function:ekskms-" + cluster + "-kubectl"},
		{"lambda:CreateFunctionUrlConfig", "arn:aws:lambda:" + region + "function:ekskms-" + cluster + "-kubectl"},
		{"lambda:InvokeFunction", "arn:aws:lambda:" + region + "function:ekskms-" + cluster + "-kubectl"},
		{"lambda:InvokeFunction", "arn:aws:lambda:" + region + "function:ekskms-" + cluster + "-kubectl:1"},
		{"lambda:InvokeFunction", "arn:aws:lambda:" + region + "function:ekskms-" + cluster + "-kubectl-framework"},
		{"lambda:RemovePermission", "arn:aws:lambda:" + region + "function:ekskms-" + cluster + "-kubectl-framework"},
		{"lambda:PutFunctionEventInvokeConfig", "arn:aws:lambda:" + region + "function:ekskms-" + cluster + "-kubectl"},
		{"lambda:DeleteFunction", "arn:aws:lambda:" + region + "function:ekskms-" + cluster + "-kubectl"},
		{"eks:UpdateAccessEntry", "arn:aws:eks:" + region + "access-entry/" + cluster + "/role/111122223333/Eve/1"},
		{"eks:DisassociateAccessPolicy", "arn:aws:eks:" + region + "access-entry/" + cluster + "/role/111122223333/Eve/1"},
		{"eks:CreateCapability", "arn:aws:eks:" + region + "cluster/" + cluster},
		{"eks:UpdateCapability", "arn:aws:eks:" + region + "capability/" + cluster + "/argocd/ARGOCD/1"},
		{"eks:DisassociateIdentityProviderConfig", "arn:aws:eks:" + region + "identityproviderconfig/" + cluster + "/oidc/eve/1"},
		{"iam:DeleteRole", role + "ekskms-" + cluster + "-EncryptedClusterKmsPluginRole-1"},
		{"iam:AttachRolePolicy", role + "ekskms-" + cluster + "-EncryptedClusterKmsPluginRole-1"},
		{"iam:DetachRolePolicy", role + "ekskms/" + cluster + "/Cluster-1"},
		{"iam:UntagRole", role + "ekskms-" + cluster + "-EncryptedClusterKmsPluginRole-1"},
		{"iam:UpdateAssumeRolePolicy", role + "cdk-hnb659fds-cfn-exec-role-111122223333-eu-central-1"},
		{"iam:PassRole", role + "cdk-hnb659fds-cfn-exec-role-111122223333-eu-central-1"},
		{"iam:UpdateAssumeRolePolicy", role + "cdk-hnb659fds-deploy-role-111122223333-eu-central-1"},
		{"sns:AddPermission", "arn:aws:sns:" + region + topic},
		{"sns:RemovePermission", "arn:aws:sns:" + region + topic},
		{"sns:Subscribe", "arn:aws:sns:" + region + topic},
		{"events:DeleteRule", "arn:aws:events:" + region + "rule/ekskms-" + cluster + "-KeyDisabled"},
		{"logs:AssociateKmsKey", "arn:aws:logs:" + region + "log-group:/aws/eks/" + cluster + "/cluster"},
		{"logs:PutRetentionPolicy", "arn:aws:logs:" + region + "log-group:/aws/eks/" + cluster + "/cluster"},
		{"logs:PutSubscriptionFilter", "arn:aws:logs:" + region + "log-group:/aws/eks/" + cluster + "/cluster"},
		{"iam:UpdateAssumeRolePolicy", role + "ekskms-" + cluster + "-EncryptedClusterKmsPluginRole-1"},
		{"iam:TagRole", role + "ekskms-" + cluster + "-EncryptedClusterKmsPluginRole-1"},
		{"iam:PassRole", role + "ekskms-" + cluster + "-EncryptedClusterKubectlProvid-1"},
		{"iam:PutRolePolicy", role + "break-glass"},
		{"iam:UpdateAssumeRolePolicy", role + "break-glass"},
		{"s3:PutBucketPolicy", "arn:aws:s3:::logs-1"},
		{"s3:PutLifecycleConfiguration", "arn:aws:s3:::logs-1"},
		{"s3:DeleteObjectVersion", "arn:aws:s3:::logs-1/AWSLogs/1"},
	}
	for _, action := range []string{
		"PutKeyPolicy", "ScheduleKeyDeletion", "DisableKey", "DisableKeyRotation", "EnableKeyRotation", "CreateGrant", "RevokeGrant", "ReplicateKey", "UpdatePrimaryRegion",
	} {
		calls = append(calls, [2]string{"kms:" + action, keyARN})
	}
	more := "ekskms-" + cluster + "-undelivered"
	calls = append(calls, [][2]string{
		{"sqs:DeleteQueue", "arn:aws:sqs:" + region + more}, {"sqs:PurgeQueue", "arn:aws:sqs:" + region + more},
		{"sqs:SetQueueAttributes", "arn:aws:sqs:" + region + more}, {"sqs:AddPermission", "arn:aws:sqs:" + region + more}, {"sqs:RemovePermission", "arn:aws:sqs:" + region + more},
		{"cloudwatch:PutMetricAlarm", "arn:aws:cloudwatch:" + region + "alarm:" + more}, {"cloudwatch:DisableAlarmActions", "arn:aws:cloudwatch:" + region + "alarm:" + more},
		{"cloudwatch:DeleteAlarms", "arn:aws:cloudwatch:" + region + "alarm:" + more},
		{"logs:DeleteLogGroup", "arn:aws:logs:" + region + "log-group:/aws/events/ekskms/" + cluster + "/alarms"},
		{"logs:PutRetentionPolicy", "arn:aws:logs:" + region + "log-group:/ekskms/" + cluster + "/kubectl"},
		{"kms:UpdateAlias", "arn:aws:kms:" + region + "alias/eks/" + cluster + "/logs"},
	}...)
	if cluster == "minimal" {
		calls = append(calls, [][2]string{
			{"kms:DeleteAlias", "arn:aws:kms:" + region + "alias/eks/minimal"}, {"sns:SetTopicAttributes", "arn:aws:sns:" + region + more},
		}...)
	}
	return calls
}

func matches(pattern, text string) bool {
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$").MatchString(text)
}

// TestOrganizationPolicy has an administrator of IAM, whom nothing else stops, make the calls
// under what `ekskms generate organization-policy` prints for the examples, and without it.
func TestOrganizationPolicy(t *testing.T) {
	identities["administrator"] = iampolicy.NewDocument(iampolicy.Statement{Effect: iampolicy.Allow, Action: iampolicy.Values{"*"}, Resource: iampolicy.Values{"*"}})
	t.Cleanup(func() { delete(identities, "administrator") })
	const framework = "arn:aws:lambda:eu-central-1:111122223333:function:ekskms-minimal-kubectl-framework"
	aliases := func(names ...string) request { return request{"kms:ResourceAliases": names} }
	type call struct {
		who              principal
		action, resource string
		context          request
		refused          bool
	}
	as := func(role string) principal { return sessionOf(role, "administrator") }
	root := principal{arn: "arn:aws:iam::111122223333:root", identity: "administrator"}
	for _, example := range []string{"01_minimal", "02_existing_vpc_and_key"} {
		data, err := os.ReadFile("../../internal/cli/testdata/generated/" + example + "/organization-policy.json")
		if err != nil {
			t.Fatal(err)
		}
		policy, err := iampolicy.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		name := "SCP printed for " + example
		organization[name] = policy
		t.Cleanup(func() { delete(organization, name) })

		named := aliases("alias/other", "alias/eks/minimal")
		creator := "cdk-hnb659fds-cfn-exec-role-111122223333-eu-central-1"
		var calls []call
		for _, c := range guarded(t, example) {
			var context request
			if strings.HasSuffix(c[1], keyARN) {
				context = named
			}
			calls = append(calls,
				call{as("Eve"), c[0], c[1], context, true}, call{root, c[0], c[1], context, true},
				call{as(creator), c[0], c[1], context, false}, call{as("break-glass"), c[0], c[1], context, false})
		}
		if strings.HasPrefix(example, "01") {
			// What must go on, and what is not the cluster's.
			for _, c := range [][2]string{
				{"kms:DescribeKey", keyARN}, {"kms:RotateKeyOnDemand", keyARN}, {"kms:CancelKeyDeletion", keyARN}, {"kms:EnableKey", keyARN},
				{"eks:DescribeCluster", "arn:aws:eks:eu-central-1:111122223333:cluster/minimal"}, {"eks:UpdateClusterVersion", "arn:aws:eks:eu-central-1:111122223333:cluster/minimal"},
				{"eks:CreateAccessEntry", "arn:aws:eks:eu-central-1:111122223333:cluster/other"}, {"eks:UpdateAccessEntry", "arn:aws:eks:eu-central-1:111122223333:access-entry/other/role/111122223333/ekskms/1"},
				{"cloudtrail:StartLogging", "arn:aws:cloudtrail:eu-central-1:111122223333:trail/ekskms-minimal-eu-central-1"}, {"cloudtrail:StopLogging", "arn:aws:cloudtrail:eu-central-1:111122223333:trail/other"},
				{"logs:FilterLogEvents", "arn:aws:logs:eu-central-1:111122223333:log-group:/aws/eks/minimal/cluster"}, {"s3:GetObject", "arn:aws:s3:::logs-1/AWSLogs/1"},
				{"lambda:GetFunction", framework}, {"lambda:InvokeFunction", "arn:aws:lambda:eu-central-1:111122223333:function:other"},
				{"iam:PassRole", "arn:aws:iam::111122223333:role/other"}, {"events:DisableRule", "arn:aws:events:eu-central-1:111122223333:rule/other"},
			} {
				var context request
				if c[1] == keyARN {
					context = named
				}
				calls = append(calls, call{as("Eve"), c[0], c[1], context, false})
			}
			handler := strings.TrimSuffix(framework, "-framework")
			calls = append(calls,
				call{as("Eve"), "kms:PutKeyPolicy", keyARN, aliases("alias/eks/other"), false},
				call{as("ekskms-minimal-framework"), "lambda:InvokeFunction", handler, request{"lambda:SourceFunctionArn": framework}, false},
				call{as("Eve"), "lambda:InvokeFunction", handler, request{"lambda:SourceFunctionArn": framework + "2"}, true})
		}
		if strings.HasPrefix(example, "01") {
			for _, statement := range policy.Statement {
				for _, pattern := range slices.Concat(statement.Action, statement.Resource) {
					if !slices.ContainsFunc(calls, func(c call) bool { return c.refused && (matches(pattern, c.action) || matches(pattern, c.resource)) }) {
						t.Errorf("no call tries %s in %s", pattern, statement.Sid)
					}
				}
			}
		}
		questions := make([]question, 0, 2*len(calls))
		for _, scps := range [][]string{{name}, nil} {
			for _, c := range calls {
				own := request{"aws:PrincipalArn": c.who.arn, "aws:PrincipalAccount": account}
				if c.who.roleARN != "" {
					own["aws:PrincipalArn"] = c.who.roleARN
				}
				q := question{Principal: c.who.arn, Identity: c.who.identity, Action: c.action, Resource: c.resource, Context: with(own, c.context), SCPs: scps}
				if strings.HasPrefix(c.action, "kms:") && strings.Contains(c.resource, ":key/") {
					q.Policy = "left to IAM"
				}
				questions = append(questions, q)
			}
		}
		answers := simulate(t, documents(), questions)
		for i, c := range calls {
			with, without := answers[i], answers[len(calls)+i]
			if with.Error != "" || without.Error != "" {
				t.Errorf("%s: %s on %s: %s %s", example, c.action, c.resource, with.Error, without.Error)
			} else if without.Result != "Allowed" {
				t.Errorf("%s: %s on %s is %s without the policy, and proves nothing", example, c.action, c.resource, without.Result)
			} else if refused := with.Result != "Allowed"; refused != c.refused {
				t.Errorf("%s: %s, %s on %s: %s", example, c.who.arn, c.action, c.resource, with.Result)
			}
		}
	}
}
