package verify

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/value"
)

// kind says how things of a type are found.
type kind struct {
	// name is the property that names it. Empty if it has no name of its own.
	name string
	// by are the properties that tell apart those without one, with the types of what they
	// name.
	by [][2]string
	// actions tell which things of the type the account has: of the whole account, or else of what
	// they are asked about, a cluster, a topic or the thing itself.
	actions []string
	whole   bool
}

const (
	clusterType = "AWS::EKS::Cluster"
	topicType   = "AWS::SNS::Topic"
	keyType     = "AWS::KMS::Key"
	inlineType  = "AWS::IAM::Policy"
)

var iamDetails = []string{"iam:GetAccountAuthorizationDetails"}

// kinds are the types that are read.
var kinds = map[string]kind{
	clusterType:                        {name: "Name"},
	"AWS::EKS::AccessEntry":            {by: [][2]string{{"ClusterName", clusterType}, {"PrincipalArn", ""}}, actions: []string{"eks:ListAccessEntries"}},
	"AWS::EKS::PodIdentityAssociation": {by: [][2]string{{"ClusterName", clusterType}, {"Namespace", ""}, {"ServiceAccount", ""}}, actions: []string{"eks:ListPodIdentityAssociations"}},
	"AWS::EKS::Nodegroup":              {name: "NodegroupName", by: [][2]string{{"ClusterName", clusterType}, {"NodegroupName", ""}}, actions: []string{"eks:ListNodegroups"}},
	"AWS::EKS::Addon":                  {by: [][2]string{{"ClusterName", clusterType}, {"AddonName", ""}}, actions: []string{"eks:ListAddons"}},
	"AWS::EKS::IdentityProviderConfig": {by: [][2]string{{"ClusterName", clusterType}}, actions: []string{"eks:ListIdentityProviderConfigs"}},
	keyType:                            {actions: []string{"kms:DescribeKey"}},
	"AWS::KMS::Alias":                  {name: "AliasName", by: [][2]string{{"AliasName", ""}}, actions: []string{"kms:ListAliases"}},
	"AWS::CloudTrail::Trail":           {name: "TrailName", actions: []string{"cloudtrail:DescribeTrails"}, whole: true},
	"AWS::S3::Bucket":                  {name: "BucketName"},
	"AWS::S3::BucketPolicy":            {by: [][2]string{{"Bucket", "AWS::S3::Bucket"}}},
	"AWS::Events::Rule":                {name: "Name", actions: []string{"events:ListRules"}, whole: true},
	topicType:                          {name: "TopicName"},
	"AWS::SNS::TopicPolicy":            {by: [][2]string{{"Topics", topicType}}},
	"AWS::SNS::Subscription":           {by: [][2]string{{"TopicArn", topicType}, {"Protocol", ""}, {"Endpoint", "AWS::SQS::Queue"}}, actions: []string{"sns:ListSubscriptionsByTopic"}},
	"AWS::SQS::Queue":                  {name: "QueueName", actions: []string{"sqs:GetQueueUrl", "sqs:GetQueueAttributes"}},
	"AWS::SQS::QueuePolicy":            {by: [][2]string{{"Queues", "AWS::SQS::Queue"}}, actions: []string{"sqs:GetQueueUrl", "sqs:GetQueueAttributes"}},
	"AWS::Logs::LogGroup":              {name: "LogGroupName", actions: []string{"logs:DescribeLogGroups"}},
	"AWS::Logs::MetricFilter":          {by: [][2]string{{"LogGroupName", "AWS::Logs::LogGroup"}, {"FilterPattern", ""}}, actions: []string{"logs:DescribeMetricFilters"}},
	"AWS::CloudWatch::Alarm":           {name: "AlarmName", actions: []string{"cloudwatch:DescribeAlarms"}, whole: true},
	"AWS::IAM::Role":                   {name: "RoleName", actions: iamDetails, whole: true},
	"AWS::IAM::User":                   {name: "UserName", actions: iamDetails, whole: true},
	"AWS::IAM::Group":                  {name: "GroupName", actions: iamDetails, whole: true},
	"AWS::IAM::ManagedPolicy":          {name: "ManagedPolicyName", actions: iamDetails, whole: true},
	inlineType:                         {actions: iamDetails, whole: true},
}

// typesOf are the types that are found as another is.
var typesOf = map[string]string{
	"Custom::AWSCDK-EKS-Cluster": clusterType, "AWS::KMS::ReplicaKey": keyType,
	"AWS::IAM::RolePolicy": inlineType, "AWS::IAM::UserPolicy": inlineType, "AWS::IAM::GroupPolicy": inlineType,
}

// family is the type as which things of a type are found.
func family(name string) string { return cmp.Or(typesOf[name], name) }

// kindOf says how things of a type are found. False if they are not read.
func kindOf(name string) (kind, bool) {
	k, ok := kinds[family(name)]
	return k, ok
}

// knownARN is the ARN that another reader of a resource knows, or nothing.
func knownARN(r *cfn.Resource) string {
	arn, _ := r.Metadata[cfn.ARNMetadata].(string)
	return arn
}

// known is a value if it is a known text.
func known(v any) string {
	if text, ok := v.(string); ok && !value.IsOpen(text) {
		return text
	}
	return ""
}

// givenName is the name that a template gives a resource, or nothing.
func givenName(r *cfn.Resource) string {
	if r.Type == "Custom::AWSCDK-EKS-Cluster" {
		return known(value.At(r.Properties, "Config", "name"))
	}
	k, _ := kindOf(r.Type)
	return known(r.Properties[k.name])
}

// identity is what a thing is found by: by ID, ARN or name in an account and Region.
type identity struct{ family, account, region, id string }

func identityOf(name, account, region, id string) identity {
	f := family(name)
	if strings.HasPrefix(f, "AWS::IAM::") || strings.HasPrefix(f, "AWS::S3::") || f == "AWS::CloudTrail::Trail" {
		region = "" // they are in none, or seen from all
	}
	return identity{f, account, region, id}
}

// match finds what is wanted for what runs: by what CloudFormation or Terraform says that it
// made, by names that are given, and at last what belongs to it.
func (v *verification) match() {
	byID := map[identity]*live.Resource{}
	seen := map[identity]bool{}
	for _, a := range v.accounts {
		a.Resources = slices.DeleteFunc(a.Resources, func(r *live.Resource) bool {
			// Several Regions of an account show the same principals and trails.
			id := identityOf(r.Type, r.Account, r.Region, r.Type+" "+r.ID+" "+r.ARN)
			again := seen[id] && r.ID != ""
			seen[id] = true
			return again
		})
		for _, r := range a.Resources {
			for _, id := range []string{r.ID, r.ARN} {
				if id != "" {
					byID[identityOf(r.Type, r.Account, r.Region, id)] = r
				}
			}
		}
	}
	if v.wanted == nil {
		return
	}
	pair := func(want *cfn.Resource, run *live.Resource) {
		if run == nil || v.of[run] != nil {
			return
		}
		v.of[run] = want
		v.runs[want] = append(v.runs[want], run)
		for _, id := range []string{run.ID, run.ARN} {
			if id != "" {
				v.names[identityOf(run.Type, run.Account, run.Region, id)] = want
			}
		}
	}
	each := func(do func(want *cfn.Resource, k kind)) {
		for _, t := range v.opts.Wanted.Templates {
			for _, id := range slices.Sorted(maps.Keys(t.Resources)) {
				want := t.Resources[id]
				if k, ok := kindOf(want.Type); ok && v.runs[want] == nil {
					do(want, k)
				}
			}
		}
	}
	// What the stacks say is known also of what could not be read.
	for _, t := range v.opts.Wanted.Templates {
		for id, r := range t.Resources {
			if physical := v.stacks[t.Name].Resources[id]; physical != "" {
				v.names[identityOf(r.Type, t.Account, t.Region, physical)] = r
				v.names[identityOf(r.Type, t.Account, t.Region, physicalARN(r, physical))] = r
			}
		}
	}
	find := func(want *cfn.Resource, id string) {
		if id != "" && v.runs[want] == nil {
			pair(want, byID[identityOf(want.Type, want.Template.Account, want.Template.Region, id)])
		}
	}
	each(func(want *cfn.Resource, _ kind) {
		find(want, v.stacks[want.Template.Name].Resources[want.ID])
		find(want, knownARN(want))
		if name := givenName(want); name != "" {
			find(want, want.ARN)
			find(want, name)
		}
	})
	// Where its stack could not be read, what it made is known by the names that it gives.
	//
	// Source: AWS CloudFormation User Guide, "Name type": stack, logical ID and a random text.
	each(func(want *cfn.Resource, k kind) {
		if len(v.stacks[want.Template.Name].Unread) == 0 || k.name == "" || givenName(want) != "" {
			return
		}
		prefix := strings.ToLower(want.Template.Name + "-" + want.ID + "-")
		for id, run := range byID {
			if id.family == family(want.Type) && id.account == want.Template.Account && (id.region == "" || id.region == want.Template.Region) && strings.HasPrefix(strings.ToLower(run.ID), prefix) {
				pair(want, run)
				return
			}
		}
	})
	// A key that nothing else names is that of its alias.
	for _, alias := range v.opts.Wanted.OfType("AWS::KMS::Alias") {
		want := v.wantedOf(alias.Template, keyType, alias.Properties["TargetKeyId"])
		runs := v.runs[alias]
		if want == nil || v.runs[want] != nil || runs == nil || len(v.stacks[want.Template.Name].Resources) > 0 {
			continue
		}
		find(want, known(runs[0].Properties["TargetKeyId"]))
	}
	each(func(want *cfn.Resource, k kind) {
		if k.by == nil && family(want.Type) != inlineType {
			return
		}
		for _, a := range v.accounts {
			for _, run := range a.Resources {
				if family(run.Type) != family(want.Type) || run.Account != want.Template.Account || v.of[run] != nil {
					continue
				}
				if family(want.Type) == inlineType {
					if v.sameInline(want, run) && (v.runs[want] == nil || fmt.Sprint(v.runs[want][0].Properties["PolicyDocument"]) == fmt.Sprint(run.Properties["PolicyDocument"])) {
						pair(want, run)
					}
					continue
				}
				if v.runs[want] == nil && identityOf(run.Type, "", run.Region, "") == identityOf(want.Type, "", want.Template.Region, "") && v.sameParts(k, want, run) {
					pair(want, run)
				}
			}
		}
	})
	v.matchWithin()
}

// matchWithin finds the inline policies that are written in their principals.
func (v *verification) matchWithin() {
	for _, a := range v.accounts {
		for _, run := range a.Resources {
			holder := v.holderOf(run)
			if v.of[run] != nil || holder == nil {
				continue
			}
			for _, policy := range value.List(holder.Properties["Policies"]) {
				if known(value.At(policy, "PolicyName")) == run.Properties["PolicyName"] {
					v.of[run] = holder
					v.within[holder] = append(v.within[holder], run)
				}
			}
		}
	}
}

// holderOf is the principal that is wanted and has an inline policy. Nil if there is none.
func (v *verification) holderOf(run *live.Resource) *cfn.Resource {
	if family(run.Type) != inlineType {
		return nil
	}
	for _, of := range holders {
		if name, ok := run.Properties[of.one].(string); ok {
			return v.names[identityOf(of.kind, run.Account, run.Region, name)]
		}
	}
	return nil
}

// unreadOf tells whether what would say that something runs was not read.
func (v *verification) unreadOf(want *cfn.Resource, k kind) bool {
	for _, a := range v.accounts {
		if a.ID != want.Template.Account {
			continue
		}
		for _, u := range a.Unread {
			if slices.Contains(k.actions, u.Action) && (k.whole || v.isAbout(u.On, want, k)) {
				return true
			}
		}
	}
	return false
}

// isAbout tells whether what was not read names a thing, or what it is a part of.
func (v *verification) isAbout(on string, want *cfn.Resource, k kind) bool {
	names := []string{v.stacks[want.Template.Name].Resources[want.ID], knownARN(want), givenName(want)}
	for _, run := range v.runs[want] {
		names = append(names, run.ID, run.ARN)
	}
	if slices.ContainsFunc(names, func(name string) bool {
		return name != "" && strings.HasSuffix(on, name[strings.LastIndexAny(name, "/|")+1:])
	}) {
		return true
	}
	of := []string{}
	for _, by := range append(slices.Clone(k.by), [2]string{"TargetKeyId", keyType}) {
		value := firstOf(want.Properties[by[0]])
		if text := known(value); text != "" {
			of = append(of, text)
		}
		if r := v.wantedOf(want.Template, by[1], value); r != nil && r != want && by[1] != "" {
			parent, _ := kindOf(r.Type)
			if v.isAbout(on, r, kind{name: parent.name}) {
				return true
			}
		}
	}
	return slices.ContainsFunc(of, func(name string) bool { return strings.HasSuffix(on, name) })
}

// physicalARN is the ARN of a resource of which the physical ID is known.
func physicalARN(r *cfn.Resource, physical string) string {
	if strings.HasPrefix(physical, "arn:") || r.ARN == "" || strings.Contains(physical, "://") {
		return cmp.Or(r.ARN, physical)
	}
	arn, all := strings.CutSuffix(r.ARN, ":*")
	arn = arn[:strings.LastIndexAny(arn, ":/")+1] + physical
	if all {
		arn += ":*"
	}
	return arn
}

// sameParts tells whether what is wanted and what runs agree in what tells their like apart.
func (v *verification) sameParts(k kind, want *cfn.Resource, run *live.Resource) bool {
	return !slices.ContainsFunc(k.by, func(by [2]string) bool {
		a, b := v.wantedToken(want.Template, by[1], want.Properties[by[0]]), v.runningToken(by[1], run, run.Properties[by[0]])
		return a == "" || a != b
	})
}

// sameInline tells whether an inline policy that runs is one that is wanted.
func (v *verification) sameInline(want *cfn.Resource, run *live.Resource) bool {
	if known(want.Properties["PolicyName"]) == "" || want.Properties["PolicyName"] != run.Properties["PolicyName"] {
		return false
	}
	for _, of := range holders {
		holder := v.runningToken(of.kind, run, run.Properties[of.one])
		if run.Properties[of.one] == nil {
			continue
		}
		for _, name := range []string{of.one, of.all} {
			for _, v2 := range value.List(want.Properties[name]) {
				if v.wantedToken(want.Template, of.kind, v2) == holder {
					return true
				}
			}
		}
	}
	return false
}

// holders are those who have inline policies, and the properties that name them.
var holders = []struct{ kind, one, all string }{
	{"AWS::IAM::Role", "RoleName", "Roles"}, {"AWS::IAM::User", "UserName", "Users"}, {"AWS::IAM::Group", "GroupName", "Groups"},
}

// wantedToken is what a value of a template means: a resource, or a text.
func (v *verification) wantedToken(from *cfn.Template, kind string, of any) string {
	if list := value.List(of); len(list) > 0 {
		of = list[0]
	}
	if r := v.wantedOf(from, kind, of); r != nil {
		return r.Template.Name + "\n" + r.ID
	}
	return known(of)
}

// wantedOf is the resource of a type that a value of a template names.
func (v *verification) wantedOf(from *cfn.Template, kind string, of any) *cfn.Resource {
	var types []string
	for name := range typesOf {
		if family(name) == kind {
			types = append(types, name)
		}
	}
	if kind == "" {
		return v.opts.Wanted.Lookup(of)
	}
	return v.opts.Wanted.LookupType(from, of, append(types, kind)...)
}

// runningToken is what a value of something that runs means.
func (v *verification) runningToken(kind string, run *live.Resource, of any) string {
	if list := value.List(of); len(list) > 0 {
		of = list[0]
	}
	text, _ := of.(string)
	for _, name := range append([]string{kind}, slices.Sorted(maps.Keys(kinds))...) {
		if name == "" || name != kind && !strings.HasPrefix(text, "arn:") {
			continue
		}
		if r := v.names[identityOf(name, run.Account, run.Region, text)]; r != nil {
			return r.Template.Name + "\n" + r.ID
		}
	}
	return text
}
