package stacks

import (
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudtrail"
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
	for _, e := range f.environments {
		s := sharedStack(scope, place.SharedStack(e.Account, e.Region), blueprint.SharedDescription, stackProps(e.Clusters[0], f.file.Shared.Tags))
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
		s := sharedStack(scope, place.AlarmsStack(e.Account, e.Region), blueprint.AlarmsDescription, stackProps(e.Clusters[0], f.file.Shared.Tags))
		f.watching[i] = s
		watched := []*ekskms.WatchedCluster{}
		for _, c := range e.Clusters {
			b := c.Blueprint()
			w := &ekskms.WatchedCluster{
				ClusterName: jsii.String(c.Name), KeyAlias: jsii.String(b.Alias()), KubectlHandler: jsii.Bool(b.KubectlHandler),
				KeyArn: text(c.Key.ARN), LogsKeyArn: awscdk.Fn_ImportValue(jsii.String(place.LogsKeyExport(c.Name))),
			}
			if w.KeyArn == nil {
				w.KeyArn = awscdk.Fn_ImportValue(jsii.String(place.KeyExport(c.Name)))
			}
			watched = append(watched, w)
		}
		ekskms.NewSharedAlarms(s, jsii.String("Alarms"), &ekskms.SharedAlarmsProps{Clusters: &watched})
		s.AddStackDependency(f.shared[i], jsii.String("the topic is there"))
		for j, c := range f.file.Clusters {
			if f.index(c.Account, c.Region) == i {
				clusters[j].AddStackDependency(f.shared[i], jsii.String("on record from the first day"))
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
			if waves[j] == before {
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
