package estate

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/value"
)

// kinds are the types of resources that are read, in the order of their weight.
var kinds = []struct {
	name string
	kind Kind
}{
	{"AWS::EKS::Cluster", KindCluster},
	{"Custom::AWSCDK-EKS-Cluster", KindCluster},
	{"AWS::KMS::Key", KindKey},
	{"AWS::KMS::ReplicaKey", KindKey},
	{"AWS::KMS::Alias", KindAlias},
	{"AWS::CloudTrail::Trail", KindTrail},
	{"AWS::IAM::Role", KindRole},
	{"AWS::IAM::Policy", KindInlinePolicy},
	{"AWS::IAM::RolePolicy", KindInlinePolicy},
	{"AWS::IAM::UserPolicy", KindInlinePolicy},
	{"AWS::IAM::GroupPolicy", KindInlinePolicy},
	{"AWS::IAM::ManagedPolicy", KindManagedPolicy},
	{"AWS::IAM::User", KindUser},
	{"AWS::IAM::Group", KindGroup},
	{"AWS::IAM::UserToGroupAddition", KindMembership},
	{"AWS::EKS::PodIdentityAssociation", KindAssociation},
	{"AWS::EKS::AccessEntry", KindAccessEntry},
	{"AWS::EKS::IdentityProviderConfig", KindIdentities},
	{"AWS::EKS::Nodegroup", KindNodeGroup},
	{"AWS::EKS::Addon", KindAddOn},
	{"AWS::EC2::LaunchTemplate", KindLaunchTemplate},
	{"AWS::S3::Bucket", KindBucket},
	{"AWS::S3::BucketPolicy", KindBucketPolicy},
	{"AWS::Events::Rule", KindRule},
	{"AWS::SNS::Topic", KindTopic},
	{"AWS::SNS::TopicPolicy", KindTopicPolicy},
	{"AWS::SNS::Subscription", KindSubscription},
	{"AWS::SQS::Queue", KindQueue},
	{"AWS::SQS::QueuePolicy", KindQueuePolicy},
	{"AWS::Lambda::Function", KindFunction},
	{"AWS::Lambda::Permission", KindPermission},
	{"AWS::Lambda::Url", KindFunctionURL},
	{"AWS::Logs::MetricFilter", KindMetricFilter},
	{"AWS::CloudWatch::Alarm", KindMetricAlarm},
	{"AWS::Logs::LogGroup", KindLogGroup},
	{"AWS::Logs::ResourcePolicy", KindLogPolicy},
	{"Custom::AWSCDK-EKS-KubernetesResource", KindKubernetes},
	{"AWSQS::EKS::Cluster", KindClusterNotRead},
}

func types() (all []string) {
	for _, k := range kinds {
		all = append(all, k.name)
	}
	return all
}

// FromTemplates reads templates that belong together.
func FromTemplates(a *cfn.Assembly) *Estate {
	e := &Estate{things: map[Kind][]*Thing{}, names: map[string][]*Thing{}, keys: map[*Thing]*Key{}, carriers: map[*Thing][]*Thing{}, unplaced: map[Kind]bool{}, policies: map[*Thing]*Policy{}, source: a, Planned: a.Planned}
	now := map[*cfn.Resource]*Thing{}
	for _, t := range a.Templates {
		stack := &Stack{
			Name: t.Name, Partition: t.Partition, Account: t.Account, Region: t.Region, Assumed: t.Assumed,
			Things: make(map[string]*Thing, len(t.Resources)), Outputs: t.Outputs, Caveats: t.Caveats(),
		}
		e.Stacks = append(e.Stacks, stack)
		for id, r := range t.Resources {
			thing := &Thing{
				Place: r.Place(), ARN: r.ARN, Settings: r.Properties, Deletion: r.DeletionPolicy, Replacement: r.UpdateReplacePolicy,
				Metadata: r.Metadata, In: stack,
			}
			thing.Replaced, _ = r.Metadata[cfn.ReplacedMetadata].(string)
			stack.Things[id], now[r] = thing, thing
		}
	}
	a.Names(func(name string, all []*cfn.Resource) {
		for _, r := range all {
			e.names[name] = append(e.names[name], now[r])
		}
	})
	for _, k := range kinds {
		for _, r := range a.OfType(k.name) {
			thing := now[r]
			thing.Kind = k.kind
			e.things[k.kind] = append(e.things[k.kind], thing)
		}
	}
	for _, of := range []struct {
		carrier, target Kind
		name            string
	}{{KindBucketPolicy, KindBucket, "Bucket"}, {KindTopicPolicy, KindTopic, "Topics"}, {KindQueuePolicy, KindQueue, "Queues"}, {KindPermission, KindFunction, "FunctionName"}} {
		for _, carrier := range e.Of(of.carrier) {
			for _, v := range value.List(carrier.Settings[of.name]) {
				if t := e.LookupOf(carrier, v, of.target); t != nil {
					e.carriers[t] = append(e.carriers[t], carrier)
				} else if value.IsOpen(v) {
					e.unplaced[of.target] = true
				}
			}
		}
	}
	e.readKeys()
	e.readClusters()
	e.readEvidence()
	return e
}

// Rewritten returns the estate with each text replaced: see [cfn.Assembly.Rewrite].
func (e *Estate) Rewritten(replace func(string) string) *Estate {
	return FromTemplates(e.source.Rewrite(replace))
}

func (e *Estate) readKeys() {
	for _, t := range e.Of(KindKey) {
		e.keys[t] = &Key{Thing: t, Replica: t.Type == "AWS::KMS::ReplicaKey"}
		e.Keys = append(e.Keys, e.keys[t])
	}
}

func (e *Estate) readClusters() {
	for _, t := range e.Of(KindCluster) {
		if t.Type != "AWS::EKS::Cluster" { // its Config is the request of EKS' API CreateCluster
			spec, _ := capitalised(value.At(t.Settings, "Config")).(map[string]any)
			if spec == nil {
				e.Notes = append(e.Notes, finding.Note{Resource: t.Resource, Message: "the cluster's Config can't be read: the cluster was not judged"})
				continue
			}
			t.Settings = spec
		}
		c := &Cluster{Thing: t}
		for _, config := range value.List(value.At(c.Settings, "EncryptionConfig")) {
			c.KeyARN = value.At(config, "Provider", "KeyArn")
		}
		if c.Key = e.Key(c.KeyARN); c.Key != nil {
			c.Key.Clusters = append(c.Key.Clusters, c)
		}
		e.Clusters = append(e.Clusters, c)
	}
}

// capitalised writes the keys of a request to EKS as CloudFormation does.
func capitalised(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			runes := []rune(key)
			if len(runes) > 0 {
				runes[0] = unicode.ToUpper(runes[0])
			}
			out[string(runes)] = capitalised(value)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = capitalised(e)
		}
		return out
	}
	return v
}

// readEvidence finds the keys of trails, and of the logs of trails and clusters.
func (e *Estate) readEvidence() {
	keeps := func(v any) {
		if k := e.Key(v); k != nil && !k.Replica {
			k.Evidence = true
		}
	}
	for _, t := range e.Of(KindTrail) {
		keeps(t.Settings["KMSKeyId"])
	}
	for _, group := range e.Of(KindLogGroup) {
		name := value.Text(group.Settings["LogGroupName"])
		if name == "" {
			name = group.LogicalID
		}
		if e.IsTrailGroup(name) || strings.HasPrefix(name, "/aws/eks/") && strings.HasSuffix(name, "/cluster") {
			keeps(group.Settings["KmsKeyId"])
		}
	}
}

// IsTrailGroup tells whether a trail writes to the log group of a name.
func (e *Estate) IsTrailGroup(name string) bool {
	return slices.ContainsFunc(e.Of(KindTrail), func(t *Thing) bool {
		_, group, _ := strings.Cut(value.Text(t.Settings["CloudWatchLogsLogGroupArn"]), ":log-group:")
		return group != "" && strings.TrimSuffix(group, ":*") == name
	})
}

// Objects returns the Kubernetes objects of a thing of that kind, which are a JSON list in one
// text.
func (t *Thing) Objects() ([]map[string]any, error) {
	text, ok := t.Settings["Manifest"].(string)
	if !ok {
		return nil, fmt.Errorf("%s: Manifest is %v, must be a JSON list of Kubernetes objects", t.Resource, t.Settings["Manifest"])
	}
	var objects []map[string]any
	if err := json.Unmarshal([]byte(text), &objects); err != nil {
		return nil, fmt.Errorf("%s: Manifest must be a JSON list of Kubernetes objects, and %s", t.Resource, hint.Plain(err))
	}
	return objects, nil
}

// Metadata reads what stands in the metadata of things under a key. An error names the thing.
func (e *Estate) Metadata(key string, read func(t *Thing, v any) error) error {
	for _, s := range e.Stacks {
		for _, id := range slices.Sorted(maps.Keys(s.Things)) {
			t := s.Things[id]
			if v, there := t.Metadata[key]; there {
				if err := read(t, v); err != nil {
					return fmt.Errorf("%s: Metadata %q: %w", t.Resource, key, err)
				}
			}
		}
	}
	return nil
}
