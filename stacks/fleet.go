package stacks

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudtrail"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/constructs/ekskms"
	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/place"
)

// fleet are clusters that may share their record, of which mine tells those stacks that are
// made here.
type fleet struct {
	file   *config.File
	mine   func(stack string) bool
	places []*config.Environment
	// made are the stacks by their names.
	made map[string]awscdk.Stack
}

// environment is the one of a cluster that shares its record, or nil.
func (f *fleet) environment(account, region string) *config.Environment {
	i := slices.IndexFunc(f.places, func(e *config.Environment) bool { return e.Account == account && e.Region == region })
	if i < 0 {
		return nil
	}
	return f.places[i]
}

// stack makes a shared stack of a place, or nothing if it is none of those that are made.
func (f *fleet) stack(scope constructs.Construct, name, description string, e *config.Environment) awscdk.Stack {
	if !f.mine(name) {
		return nil
	}
	props := f.props(e)
	props.Description, props.TerminationProtection = jsii.String(description), jsii.Bool(true)
	s := awscdk.NewStack(scope, jsii.String(name), props)
	f.made[name] = s
	return s
}

// record makes the stacks with the record and its alarms, which need no cluster: a
// cluster is on record from its first day.
func (f *fleet) record(scope constructs.Construct) {
	for _, e := range f.places {
		s := f.stack(scope, place.SharedStack(e.Account, e.Region), blueprint.SharedDescription, e)
		if s == nil {
			continue
		}
		audit := e.Shared(f.file.Shared).Audit
		props := &ekskms.SharedAuditTrailProps{Emails: list(audit.Emails)}
		if audit.TrailARN != "" {
			props.ExistingTrail = awscloudtrail.CfnTrail_FromTrailArn(s, jsii.String("ExistingTrail"), text(audit.TrailARN))
		} else {
			props.Retention = awscdk.Duration_Days(jsii.Number(audit.RetentionDays))
			props.CloudWatchLogs = retention(audit.CloudWatchLogsRetentionDays)
			props.Readers = principals(s, ofPartition(audit.Readers, e.Region))
			props.Functions = f.functions(s, e.Account)
		}
		ekskms.NewSharedAuditTrail(s, jsii.String("AuditTrail"), props)
	}
}

// network makes the stacks with the VPCs of several clusters.
func (f *fleet) network(scope constructs.Construct) {
	for _, e := range f.places {
		if !e.Network {
			continue
		}
		s := f.stack(scope, place.NetworkStack(e.Account, e.Region), blueprint.NetworkDescription, e)
		if s == nil {
			continue
		}
		chooseAvailabilityZones(s, nil)
		given := f.file.Shared.VPC
		props := &ekskms.ClusterVpcProps{Cidr: text(given.CIDR)}
		if given.Isolated {
			props.Isolated = jsii.Bool(true)
		} else {
			props.NatGateways = jsii.Number(given.NATGateways)
		}
		vpc := ekskms.NewClusterVpc(s, jsii.String("Vpc"), props)
		output := func(id, description, export string, value *string) {
			awscdk.NewCfnOutput(s, jsii.String(id), &awscdk.CfnOutputProps{Value: value, Description: jsii.String(description), ExportName: jsii.String(export)})
		}
		output("VpcId", "ID of the VPC", place.VPCExport, vpc.VpcId())
		subnets := vpc.PrivateSubnets()
		if given.Isolated {
			subnets = vpc.IsolatedSubnets()
		}
		tag := func(subnets *[]awsec2.ISubnet, balancers string) {
			for _, subnet := range *subnets {
				awscdk.Tags_Of(subnet).Add(jsii.String("kubernetes.io/role/"+balancers), jsii.String("1"), nil)
			}
		}
		tag(subnets, "internal-elb") // as a cluster does with a VPC of its own
		tag(vpc.PublicSubnets(), "elb")
		for n, subnet := range *subnets {
			output(fmt.Sprintf("SubnetId%d", n+1), "ID of a subnet for nodes", place.SubnetExport(n+1), subnet.SubnetId())
		}
	}
}

// sharedVPC is the VPC of several clusters, for one of them.
func (s *EncryptedClusterStack) sharedVPC() (awsec2.IVpc, *awsec2.SubnetSelection) {
	subnets := make([]*string, blueprint.DefaultZones)
	for i := range subnets {
		subnets[i] = awscdk.Fn_ImportValue(jsii.String(place.SubnetExport(i + 1)))
	}
	return s.existingVpc(awscdk.Fn_ImportValue(jsii.String(place.VPCExport)), &subnets)
}

// centralKeys makes the stacks with keys of clusters of other accounts.
func (f *fleet) centralKeys(scope constructs.Construct) {
	for _, e := range f.places {
		if !e.Keys || !e.Chosen {
			continue
		}
		s := f.stack(scope, place.KeysStack(e.Account, e.Region), blueprint.KeysDescription, e)
		if s == nil {
			continue
		}
		for _, c := range e.Clusters {
			b := c.KeyBlueprint()
			if creator := b.CDK.Creator(b.At); creator != "" && len(b.Creators) == 0 {
				b.Creators = []string{creator}
			}
			props := keyProps(s, b)
			props.ClusterName, props.ClusterAccount = text(c.Name), text(c.Account)
			props.BreakGlass = principals(s, c.Key.BreakGlass)
			props.Creators = principalsAt(b.At, b.Creators)
			props.Plugin = pluginOptions(b)
			key := ekskms.NewSecretsKey(s, jsii.String("Key-"+c.Name), props)
			if _, id, known := strings.Cut(c.Key.CentralARN, ":key/"); known {
				key.Key().Node().DefaultChild().(awskms.CfnKey).AddMetadata(jsii.String(place.KeyIDMetadata), id)
			}
			awscdk.NewCfnOutput(s, jsii.String(place.KeyOutput(c.Name)), &awscdk.CfnOutputProps{
				Value: key.KeyArn(), Description: jsii.String("ARN of the key of cluster " + c.Name), ExportName: jsii.String(place.KeyExport(c.Name)),
			})
		}
	}
}

// props are those of a stack of an environment. The central account has no cluster, and is
// bootstrapped as the CDK does it by itself or as cdk.json says.
func (f *fleet) props(e *config.Environment) *awscdk.StackProps {
	of := e.Clusters[0]
	if e.Keys {
		of = config.Cluster{Account: e.Account, Region: e.Region}
	}
	return stackProps(of, f.file.Shared.Tags)
}

// ofPartition are the ARNs of the partition of a Region, or all if that is not known.
func ofPartition(arns []string, region string) []string {
	return slices.DeleteFunc(slices.Clone(arns), func(text string) bool {
		arn, ok := place.ParseARN(text)
		return ok && region != "" && arn.Partition != place.Partition(region)
	})
}

// functions are the kubectl handlers of an account's clusters, of all Regions.
func (f *fleet) functions(s awscdk.Stack, account string) *[]*string {
	var arns []string
	for _, e := range f.file.Environments() {
		for _, c := range e.Clusters {
			b := c.Blueprint()
			if !b.KubectlHandler || e.Account != account {
				continue
			}
			if b.At.Region == nil {
				b.At = placeOf(s)
			}
			arns = append(arns, b.KubectlARNs()...)
		}
	}
	return list(arns)
}

// alarms makes the stacks with the alarms on all clusters of an account and Region. They
// import what the stacks of the clusters export.
func (f *fleet) alarms(scope constructs.Construct) {
	for _, e := range f.places {
		clusters := e.Watched()
		if len(clusters) == 0 {
			continue // until the keys are known
		}
		s := f.stack(scope, place.AlarmsStack(e.Account, e.Region), blueprint.AlarmsDescription, e)
		if s == nil {
			continue
		}
		watched := []*ekskms.WatchedCluster{}
		for _, c := range clusters {
			b := c.Blueprint()
			w := &ekskms.WatchedCluster{ClusterName: jsii.String(c.Name), KeyAlias: jsii.String(b.Alias()), KeyArn: text(b.Key.ARN)}
			if e.Keys {
				w.KeyAlias, w.KeyArn, w.ClusterAccount = jsii.String(c.KeyBlueprint().Alias()), nil, text(c.Account)
			} else {
				w.KubectlHandler, w.LogsKeyArn = jsii.Bool(b.KubectlHandler), awscdk.Fn_ImportValue(jsii.String(place.LogsKeyExport(c.Name)))
			}
			if w.KeyArn == nil {
				w.KeyArn = awscdk.Fn_ImportValue(jsii.String(place.KeyExport(c.Name)))
			}
			watched = append(watched, w)
		}
		ekskms.NewSharedAlarms(s, jsii.String("Alarms"), &ekskms.SharedAlarmsProps{Clusters: &watched})
	}
}
