// Package estate is what there is: clusters, keys with their policies, principals with
// theirs, trails, the ways of alarms. It says nothing of what is right or wrong.
//
// Each value is known, unknown, or one of a few: see package value. What is one of a few
// by something that is not known makes cases, in each of which it is known.
//
// An estate is read from CloudFormation templates, and nothing in its form is of
// CloudFormation: the settings of a thing have the names of AWS's APIs.
package estate

import (
	"fmt"
	"slices"
	"sync"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/iampolicy"
)

// Kind says what a thing is.
type Kind string

// The kinds that are read. A thing of another has none.
const (
	KindCluster        Kind = "cluster"
	KindKey            Kind = "key"
	KindAlias          Kind = "alias"
	KindTrail          Kind = "trail"
	KindRole           Kind = "role"
	KindUser           Kind = "user"
	KindGroup          Kind = "group"
	KindMembership     Kind = "membership of a group"
	KindInlinePolicy   Kind = "inline policy"
	KindManagedPolicy  Kind = "managed policy"
	KindAssociation    Kind = "Pod Identity association"
	KindAccessEntry    Kind = "access entry"
	KindIdentities     Kind = "identity provider"
	KindNodeGroup      Kind = "node group"
	KindAddOn          Kind = "add-on"
	KindLaunchTemplate Kind = "launch template"
	KindBucket         Kind = "bucket"
	KindBucketPolicy   Kind = "bucket policy"
	KindRule           Kind = "rule"
	KindTopic          Kind = "topic"
	KindTopicPolicy    Kind = "topic policy"
	KindSubscription   Kind = "subscription"
	KindQueue          Kind = "queue"
	KindQueuePolicy    Kind = "queue policy"
	KindFunction       Kind = "function"
	KindPermission     Kind = "permission of a function"
	KindFunctionURL    Kind = "URL of a function"
	KindMetricFilter   Kind = "metric filter"
	KindMetricAlarm    Kind = "metric alarm"
	KindLogGroup       Kind = "log group"
	KindLogPolicy      Kind = "policy of log groups"
	KindKubernetes     Kind = "Kubernetes objects"
	KindClusterNotRead Kind = "cluster that is not read"
)

// The account and the Region of a stack that names none.
const (
	ExampleAccount = cfn.ExampleAccount
	ExampleRegion  = cfn.ExampleRegion
)

// Estate is what there is.
type Estate struct {
	Stacks []*Stack
	// Clusters, and all KMS keys.
	Clusters []*Cluster
	Keys     []*Key
	// Planned tells that it is what a plan makes, of which some things are known once it is
	// applied.
	Planned bool
	// Notes say what could not be read.
	Notes []finding.Note

	things     map[Kind][]*Thing
	names      map[string][]*Thing
	keys       map[*Thing]*Key
	carriers   map[*Thing][]*Thing // of policies, by the bucket or topic that they are for
	unplaced   map[Kind]bool       // of what there are carriers for something that is not known
	reading    sync.Mutex          // of what is read when it is asked for:
	policies   map[*Thing]*Policy
	principals map[*Thing]*Principal
	identity   []*Policy
	identities map[string][]iampolicy.NamedDocument
	source     *cfn.Assembly
}

// Stack is what is deployed together, to one account and Region.
type Stack struct {
	Name string
	// Partition, Account and Region. Assumed tells that one of account and Region is an
	// example's, for nothing says it.
	Partition, Account, Region string
	Assumed                    bool
	// Things by their logical IDs, and what the stack tells of itself.
	Things  map[string]*Thing
	Outputs map[string]any
	// Caveats say why what is deployed may not be what was read.
	Caveats []string
}

// Root is the ARN of the account.
func (s *Stack) Root() string { return "arn:" + s.Partition + ":iam::" + s.Account + ":root" }

// Thing is one thing of an estate.
type Thing struct {
	finding.Place
	Kind Kind
	// ARN, unique in the estate. Empty if there is none.
	ARN string
	// Settings in the words of AWS's APIs. What is not set is not there.
	Settings map[string]any
	// Deletion and Replacement say what becomes of it when it is taken from the stack, and
	// when it is replaced: Retain, RetainExceptOnCreate, Snapshot, Delete, or nothing, which
	// is Delete. What is not known stands as a [value.Unknown] does in a text.
	Deletion, Replacement string
	// Replaced says that it is deleted and made again, and why. Empty where that is not said,
	// as templates don't.
	Replaced string
	// Metadata is what else was written on it.
	Metadata map[string]any
	In       *Stack
}

// names are the settings in which things have their names.
var names = map[Kind]string{
	KindCluster: "Name", KindTrail: "TrailName", KindBucket: "BucketName", KindTopic: "TopicName", KindQueue: "QueueName",
	KindFunction: "FunctionName", KindRule: "Name", KindMetricAlarm: "AlarmName",
}

// Name is the name that somebody gave the thing, if it is of a kind whose names matter.
func (t *Thing) Name() any { return t.Settings[names[t.Kind]] }

// Cluster is an EKS cluster. Its settings are those of AWS::EKS::Cluster, however it is
// made.
type Cluster struct {
	*Thing
	// KeyARN is the key of its secrets: a text, unknown, or nil if none is named.
	KeyARN any
	// Key is that key, if it is in the estate.
	Key *Key
}

// Key is a KMS key.
type Key struct {
	*Thing
	// Replica tells that it is a copy of a key in another Region.
	Replica bool
	// Clusters are those whose secrets are under it.
	Clusters []*Cluster
	// Evidence tells that it keeps the logs of a cluster or a trail.
	Evidence bool
}

// Of returns the things of a kind, in the order of stacks and logical IDs.
func (e *Estate) Of(k Kind) []*Thing { return e.things[k] }

// Lookup returns the thing that a value names: by its ARN, or as references to it do; a key
// also by an alias. Nil if there is none.
func (e *Estate) Lookup(v any) *Thing {
	name, _ := v.(string)
	if all := e.names[name]; len(all) > 0 {
		return all[0]
	}
	return nil
}

// LookupOf is Lookup for a value that something has and that means a thing of some kinds:
// those of different kinds, and in different places, may have the same name. It is the one
// that is nearest. From is nil where nothing has the value.
func (e *Estate) LookupOf(from *Thing, v any, kinds ...Kind) (found *Thing) {
	name, _ := v.(string)
	best := -1
	for _, t := range e.names[name] {
		if !slices.Contains(kinds, t.Kind) {
			continue
		}
		near := 0
		if from != nil {
			near = cfn.Near(t.In.Account, t.In.Region, from.In.Account, from.In.Region, t.In == from.In)
		}
		if near > best {
			found, best = t, near
		}
	}
	return found
}

// Key returns the key that a value names. Nil if there is none.
func (e *Estate) Key(v any) *Key {
	return e.keys[e.LookupOf(nil, v, KindKey)]
}

// Case is what estates are where something that they do not know is decided.
type Case struct {
	Estates []*Estate
	of      cfn.Case
}

// Cases are all that some estates can be together.
func Cases(all ...*Estate) ([]Case, error) {
	var sources []*cfn.Assembly
	for _, e := range all {
		sources = append(sources, e.source)
	}
	found, err := cfn.CasesOf(types(), sources...)
	if err != nil || len(found) == 1 {
		return []Case{{Estates: all}}, err
	}
	var cases []Case
	for _, one := range found {
		c := Case{of: one}
		for _, a := range one.Assemblies {
			e := FromTemplates(a)
			if one.Left != "" {
				e.Notes = append(e.Notes, finding.Note{Message: fmt.Sprintf("more is open than is judged in each case: %s was not decided, and what depends on it was taken to be there", one.Left)})
			}
			c.Estates = append(c.Estates, e)
		}
		cases = append(cases, c)
	}
	return cases, nil
}

// When says in words in which of some cases something holds, and nothing if it is all.
func When(cases []Case, holds func(i int) bool) string {
	var of []cfn.Case
	for _, c := range cases {
		of = append(of, c.of)
	}
	return cfn.When(of, holds)
}
