// Package synth runs the CDK app in this process and reads back what it wrote.
//
// It is the one place that recovers the panics with which jsii and the
// constructs report errors.
package synth

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/constructs/ekskms"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/stacks"
)

//go:embed context.json
var contextJSON []byte

// Context returns the CDK context of every synthesis: the feature flags of a
// new app. cdk.json holds the same, so that the CDK CLI gives the same
// templates.
func Context() map[string]any {
	var flags map[string]any
	if err := json.Unmarshal(contextJSON, &flags); err != nil {
		panic(fmt.Sprintf("synth: context.json: %v", err))
	}
	return flags
}

// StackName returns the name of a cluster's stack. It is part of the contract:
// under another name a deployment would make a second cluster.
//
// CloudFormation takes letters, digits and hyphens. A name with underscores gets
// a hash behind it, or the clusters a_b and a-b would have one stack.
func StackName(cluster string) string {
	if !strings.Contains(cluster, "_") {
		return "ekskms-" + cluster
	}
	sum := sha256.Sum256([]byte(cluster))
	return "ekskms-" + strings.ReplaceAll(cluster, "_", "-") + "-" + hex.EncodeToString(sum[:4])
}

// AddStacks adds a stack for each cluster of the file.
func AddStacks(app awscdk.App, file *config.File) {
	for _, cluster := range file.Clusters {
		stacks.NewEncryptedClusterStack(app, jsii.String(StackName(cluster.Name)), stackProps(cluster))
	}
}

func stackProps(c config.Cluster) *stacks.EncryptedClusterStackProps {
	props := &stacks.EncryptedClusterStackProps{
		ClusterName:              jsii.String(c.Name),
		KubernetesVersion:        jsii.String(c.KubernetesVersion),
		AdministratorArns:        list(c.Administrators),
		CreatorArns:              list(c.Creators),
		StrictGrants:             jsii.Bool(c.Key.StrictGrants),
		ControlPlaneLogRetention: logRetention(c.Audit.ControlPlaneLogRetentionDays),
		TrailArn:                 text(c.Audit.TrailARN),
		LogReaderArns:            list(c.Audit.Readers),
		TopicArn:                 text(c.Audit.TopicARN),
		AlarmEmails:              list(c.Audit.Emails),
		WithoutPlugin:            jsii.Bool(!c.Plugin.Enabled),
		PluginImage:              text(c.Plugin.Image),
		PluginArchitecture:       ekskms.PluginArchitecture(c.Plugin.Architecture),
		PluginMode:               ekskms.PluginMode(c.Plugin.Mode),
		SecretsGuard:             ekskms.SecretsGuard(c.Secrets.Guard),
		SecretsGuardExemptions:   list(c.Secrets.GuardExemptions),
	}
	if c.Region != "" {
		props.Env = &awscdk.Environment{Account: jsii.String(c.Account), Region: jsii.String(c.Region)}
	}
	if len(c.Tags) > 0 {
		props.Tags = &map[string]*string{}
		for key, value := range c.Tags {
			(*props.Tags)[key] = jsii.String(value)
		}
	}
	if c.VPC.ID != "" {
		props.VpcId, props.SubnetIds = text(c.VPC.ID), list(c.VPC.SubnetIDs)
	} else {
		props.NewVpc = &ekskms.ClusterVpcProps{
			Cidr:              text(c.VPC.CIDR),
			AvailabilityZones: list(c.VPC.AvailabilityZones),
			NatGateways:       jsii.Number(c.VPC.NATGateways),
		}
	}
	if c.Endpoint.Access == config.EndpointPublicAndPrivate {
		props.PublicAccessCidrs = list(c.Endpoint.PublicCIDRs)
	}
	if g := c.Capacity.NodeGroup; g != nil {
		props.NodeGroup = &ekskms.NodeGroup{
			InstanceTypes: list(g.InstanceTypes),
			MinSize:       jsii.Number(g.MinSize),
			MaxSize:       jsii.Number(g.MaxSize),
			DesiredSize:   jsii.Number(g.DesiredSize),
		}
	}
	if c.Key.ARN != "" {
		props.KeyArn = text(c.Key.ARN)
	} else {
		props.KeyAlias = text(c.Key.Alias)
		props.KeyRotationDays = jsii.Number(c.Key.RotationPeriodDays)
		props.KeyPendingWindowDays = jsii.Number(c.Key.PendingWindowDays)
		props.KeyMultiRegion = jsii.Bool(c.Key.MultiRegion)
	}
	if c.Audit.TrailARN == "" {
		props.LogRetentionDays = jsii.Number(c.Audit.RetentionDays)
		props.TrailCopy = logRetention(c.Audit.CloudWatchLogsRetentionDays)
	}
	if len(c.Plugin.Tenants) > 0 {
		tenants := make([]*ekskms.PluginTenant, len(c.Plugin.Tenants))
		for i, t := range c.Plugin.Tenants {
			tenants[i] = &ekskms.PluginTenant{
				Name:           jsii.String(t.Name),
				Namespace:      jsii.String(t.Namespace),
				ServiceAccount: jsii.String(t.ServiceAccount),
			}
		}
		props.PluginTenants = &tenants
	}
	if len(c.AccessEntries) > 0 {
		entries := make([]*ekskms.AccessEntry, len(c.AccessEntries))
		for i, e := range c.AccessEntries {
			entries[i] = &ekskms.AccessEntry{
				PrincipalArn: jsii.String(e.PrincipalARN),
				Policy:       jsii.String(e.Policy),
				Namespaces:   list(e.Scope.Namespaces),
				Groups:       list(e.Groups),
			}
		}
		props.AccessEntries = &entries
	}
	if len(c.Secrets.Readers) > 0 {
		readers := make([]*ekskms.SecretReader, len(c.Secrets.Readers))
		for i, r := range c.Secrets.Readers {
			readers[i] = secretReader(r)
		}
		props.SecretReaders = &readers
	}
	return props
}

func secretReader(r config.SecretReader) *ekskms.SecretReader {
	reader := &ekskms.SecretReader{
		Name:          jsii.String(r.Name),
		Namespace:     jsii.String(r.Namespace),
		SecretNames:   list(r.SecretNames),
		Groups:        list(r.Groups),
		PrincipalArns: list(r.PrincipalARNs),
		AllowList:     jsii.Bool(r.AllowList),
		AllowWatch:    jsii.Bool(r.AllowWatch),
	}
	if len(r.ServiceAccounts) > 0 {
		accounts := make([]*ekskms.SecretReaderServiceAccount, len(r.ServiceAccounts))
		for i, a := range r.ServiceAccounts {
			accounts[i] = &ekskms.SecretReaderServiceAccount{Name: jsii.String(a.Name), Namespace: jsii.String(a.Namespace)}
		}
		reader.ServiceAccounts = &accounts
	}
	return reader
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return jsii.String(s)
}

func list(values []string) *[]*string {
	if len(values) == 0 {
		return nil
	}
	return jsii.Strings(values...)
}

// logRetention names the periods that CloudWatch Logs has. config checks that a
// number is one of them; a test holds the two lists together.
func logRetention(days int) awslogs.RetentionDays {
	return map[int]awslogs.RetentionDays{
		1:    awslogs.RetentionDays_ONE_DAY,
		3:    awslogs.RetentionDays_THREE_DAYS,
		5:    awslogs.RetentionDays_FIVE_DAYS,
		7:    awslogs.RetentionDays_ONE_WEEK,
		14:   awslogs.RetentionDays_TWO_WEEKS,
		30:   awslogs.RetentionDays_ONE_MONTH,
		60:   awslogs.RetentionDays_TWO_MONTHS,
		90:   awslogs.RetentionDays_THREE_MONTHS,
		120:  awslogs.RetentionDays_FOUR_MONTHS,
		150:  awslogs.RetentionDays_FIVE_MONTHS,
		180:  awslogs.RetentionDays_SIX_MONTHS,
		365:  awslogs.RetentionDays_ONE_YEAR,
		400:  awslogs.RetentionDays_THIRTEEN_MONTHS,
		545:  awslogs.RetentionDays_EIGHTEEN_MONTHS,
		731:  awslogs.RetentionDays_TWO_YEARS,
		1096: awslogs.RetentionDays_THREE_YEARS,
		1827: awslogs.RetentionDays_FIVE_YEARS,
		2192: awslogs.RetentionDays_SIX_YEARS,
		2557: awslogs.RetentionDays_SEVEN_YEARS,
		2922: awslogs.RetentionDays_EIGHT_YEARS,
		3288: awslogs.RetentionDays_NINE_YEARS,
		3653: awslogs.RetentionDays_TEN_YEARS,
	}[days]
}
