package stacks

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/constructs/ekskms"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/names"
)

// FromFile adds a stack for each cluster that a file such as ekskms.yaml describes,
// under the name ekskms-<name of the cluster>, and returns them. They are the
// stacks of `ekskms synth`.
//
// The error names every fault of the file, with its line. With a file that can be
// read, it panics as [NewEncryptedClusterStack] does.
func FromFile(scope constructs.Construct, path string) ([]*EncryptedClusterStack, error) {
	file, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	return FromConfig(scope, file), nil
}

// FromConfig is [FromFile] for a file that was read already, which only this module
// can do.
func FromConfig(scope constructs.Construct, file *config.File) []*EncryptedClusterStack {
	var all []*EncryptedClusterStack
	for _, cluster := range file.Clusters {
		all = append(all, NewEncryptedClusterStack(scope, jsii.String(names.Stack(cluster.Name)), configured(cluster)))
	}
	return all
}

func configured(c config.Cluster) *EncryptedClusterStackProps {
	props := &EncryptedClusterStackProps{
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

// logRetention returns a period of CloudWatch Logs, of which package config has
// checked that it is one.
func logRetention(days int) awslogs.RetentionDays {
	return awslogs.RetentionDays(names.LogRetention(days))
}
