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

// fleet are clusters that may share their record.
type fleet struct {
	file         *config.File
	environments []*config.Environment
	// shared are the stacks with the record, and watching those with the alarms.
	shared, watching []awscdk.Stack
	// networks are the stacks with the VPCs of several clusters, as environments are.
	networks []awscdk.Stack
	// keys are the stacks with keys of clusters of other accounts, by their Regions.
	keys map[string]awscdk.Stack
}

// environment is the one of a cluster that shares its record, or nil.
func (f *fleet) environment(account, region string) *config.Environment {
	i := f.index(account, region)
	if i < 0 {
		return nil
	}
	return f.environments[i]
}

func (f *fleet) index(account, region string) int {
	return slices.IndexFunc(f.environments, func(e *config.Environment) bool { return e.Account == account && e.Region == region })
}

func sharedStack(scope constructs.Construct, name, description string, props *awscdk.StackProps) awscdk.Stack {
	props.Description, props.TerminationProtection = jsii.String(description), jsii.Bool(true)
	return awscdk.NewStack(scope, jsii.String(name), props)
}

// record makes the stacks with the record and its alarms, which need no cluster: a
// cluster is on record from its first day.
func (f *fleet) record(scope constructs.Construct) {
	for _, e := range f.file.Environments() {
		if e.Chosen || e.Records {
			f.environments = append(f.environments, e)
		}
	}
	for _, e := range f.file.KeyEnvironments() {
		if e.Chosen || e.Records && slices.ContainsFunc(f.file.KeyEnvironments(), func(o *config.Environment) bool { return o.Chosen && o.HomeRegion == e.Region }) {
			f.environments = append(f.environments, e)
		}
	}
	for _, e := range f.environments {
		s := sharedStack(scope, place.SharedStack(e.Account, e.Region), blueprint.SharedDescription, f.props(e))
		f.shared = append(f.shared, s)
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
	f.networks = make([]awscdk.Stack, len(f.environments))
	for i, e := range f.environments {
		if !e.Network {
			continue
		}
		s := sharedStack(scope, place.NetworkStack(e.Account, e.Region), blueprint.NetworkDescription, f.props(e))
		f.networks[i] = s
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
	f.keys = map[string]awscdk.Stack{}
	for i, e := range f.environments {
		if !e.Keys || !e.Chosen {
			continue
		}
		s := sharedStack(scope, place.KeysStack(e.Account, e.Region), blueprint.KeysDescription, f.props(e))
		s.AddStackDependency(f.shared[i], jsii.String("on record from the first day"))
		f.keys[e.Region] = s
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
func (f *fleet) alarms(scope constructs.Construct, clusters []*EncryptedClusterStack) {
	f.watching = make([]awscdk.Stack, len(f.environments))
	for i, e := range f.environments {
		// A trail of the account covers this Region too.
		if home := f.index(e.Account, e.HomeRegion); home >= 0 && home != i {
			f.shared[i].AddStackDependency(f.shared[home], jsii.String("the trail is there"))
		}
		if !e.Chosen {
			continue
		}
		watched := []*ekskms.WatchedCluster{}
		for _, c := range e.Clusters {
			b := c.Blueprint()
			if c.Waits() && !e.Keys {
				continue
			}
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
		if len(watched) == 0 {
			continue // until the keys are known
		}
		s := sharedStack(scope, place.AlarmsStack(e.Account, e.Region), blueprint.AlarmsDescription, f.props(e))
		f.watching[i] = s
		ekskms.NewSharedAlarms(s, jsii.String("Alarms"), &ekskms.SharedAlarmsProps{Clusters: &watched})
		s.AddStackDependency(f.shared[i], jsii.String("the topic is there"))
		if keys := f.keys[e.Region]; keys != nil && e.Keys {
			s.AddStackDependency(keys, jsii.String("the keys are there"))
		}
		for j, c := range f.file.Clusters {
			if clusters[j] != nil && f.index(c.Account, c.Region) == i {
				clusters[j].AddStackDependency(f.shared[i], jsii.String("on record from the first day"))
				if c.VPC.Shared {
					clusters[j].AddStackDependency(f.networks[i], jsii.String("the VPC is there"))
				}
				s.AddStackDependency(clusters[j], jsii.String("the keys are there"))
			}
		}
	}
}

// order has each wave wait for the one before it: for its clusters, and the alarms on
// them where all of theirs are there by then.
func (f *fleet) order(clusters []*EncryptedClusterStack) {
	waves := f.file.WavesOfClusters()
	last := make([]int, len(f.watching)) // wave of each environment
	for i, c := range f.file.Clusters {
		if e := f.index(c.Account, c.Region); e >= 0 {
			last[e] = max(last[e], waves[i])
		}
	}
	for i, s := range clusters {
		if s == nil {
			continue
		}
		if keys := f.keys[f.file.Clusters[i].Region]; keys != nil && f.file.Clusters[i].Key.Central != "" {
			s.AddStackDependency(keys, jsii.String("the key is there"))
		}
		before := -1 // of which there may be a part
		for _, w := range waves {
			if w < waves[i] {
				before = max(before, w)
			}
		}
		if before < 0 {
			continue
		}
		reason := jsii.String("wave " + f.file.Waves[before].Name)
		for j, other := range clusters {
			if waves[j] == before && other != nil {
				s.AddStackDependency(other, reason)
			}
		}
		for e, watching := range f.watching {
			if watching != nil && last[e] == before {
				s.AddStackDependency(watching, reason)
			}
		}
	}
}
