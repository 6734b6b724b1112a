package livetest

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/value"
)

// Deploy makes what templates say, as CloudFormation does: keys get IDs, what has no name gets
// one, and EKS gets its grant on the key of a cluster.
func (a *AWS) Deploy(assembly *cfn.Assembly) {
	var names []string
	exact := map[string]string{} // what Ref gives
	var made []*Thing
	for _, t := range assembly.Templates {
		stack := &Stack{Name: t.Name, Account: t.Account, Region: t.Region, Status: "CREATE_COMPLETE", Physical: map[string]string{}, Types: map[string]string{}}
		a.Stacks = append(a.Stacks, stack)
		for _, id := range slices.Sorted(maps.Keys(t.Resources)) {
			r := t.Resources[id]
			thing := &Thing{Type: r.Type, Account: t.Account, Region: t.Region, Properties: r.Properties, State: map[string]any{}}
			sum := fmt.Sprintf("%x", sha256.Sum256([]byte(t.Name+id)))
			generated := strings.ReplaceAll(t.Name, "/", "-") + "-" + id + "-" + strings.ToUpper(sum[:12])
			named := func(property string) string {
				if name, ok := r.Properties[property].(string); ok {
					return name
				}
				if r.Type == "AWS::S3::Bucket" {
					generated = strings.ToLower(generated)
				}
				symbolic := strings.TrimSuffix(r.ARN, ":*")
				symbolic = symbolic[strings.LastIndexAny(symbolic, ":/")+1:]
				names = append(names, r.ARN, strings.ReplaceAll(r.ARN, symbolic, generated))
				exact[symbolic] = generated
				return generated
			}
			switch r.Type {
			case "AWS::KMS::Key", "AWS::KMS::ReplicaKey":
				thing.ID = fmt.Sprintf("%s-%s-%s-%s-%s", sum[:8], sum[8:12], sum[12:16], sum[16:20], sum[20:32])
				thing.ARN = r.ARN[:strings.LastIndex(r.ARN, "/")+1] + thing.ID
				names = append(names, r.ARN, thing.ARN)
				exact[r.ARN[strings.LastIndex(r.ARN, "/")+1:]] = thing.ID
			case "AWS::KMS::Alias":
				thing.ID = r.Properties["AliasName"].(string)
				thing.ARN = "arn:" + t.Partition + ":kms:" + t.Region + ":" + t.Account + ":" + thing.ID
			case "AWS::EKS::Cluster":
				thing.ID, thing.ARN = named("Name"), r.ARN
				thing.State["tags"] = map[string]any{"aws:cloudformation:stack-name": t.Name, "aws:cloudformation:logical-id": id}
			case "Custom::AWSCDK-EKS-Cluster": // whose handler makes a cluster
				config, _ := r.Properties["Config"].(map[string]any)
				thing.Type, thing.ID, thing.ARN, thing.Properties = "AWS::EKS::Cluster", text(config["name"]), r.ARN, raised(config).(map[string]any)
			case "AWS::CloudFormation::Stack":
				thing.ID = t.Name + "/" + id // the name that its own stack has here
			case "AWS::CloudTrail::Trail":
				thing.ID, thing.ARN = named("TrailName"), r.ARN
			case "AWS::SNS::Topic":
				named("TopicName")
				thing.ID, thing.ARN = r.ARN, r.ARN
			case "AWS::SQS::Queue":
				name := named("QueueName")
				thing.ID, thing.ARN = "https://sqs."+t.Region+".amazonaws.com/"+t.Account+"/"+name, r.ARN
			case "AWS::S3::Bucket":
				thing.ID, thing.ARN = named("BucketName"), r.ARN
			case "AWS::Logs::LogGroup":
				thing.ID, thing.ARN = named("LogGroupName"), r.ARN
			case "AWS::Events::Rule":
				thing.ID, thing.ARN = named("Name"), r.ARN
			case "AWS::CloudWatch::Alarm":
				thing.ID, thing.ARN = named("AlarmName"), r.ARN
			case "AWS::IAM::Role":
				thing.ID, thing.ARN = named("RoleName"), r.ARN
			case "AWS::IAM::User":
				thing.ID, thing.ARN = named("UserName"), r.ARN
			case "AWS::IAM::Group":
				thing.ID, thing.ARN = named("GroupName"), r.ARN
			case "AWS::IAM::ManagedPolicy":
				named("ManagedPolicyName")
				thing.ID, thing.ARN = r.ARN, r.ARN
			case "AWS::EKS::PodIdentityAssociation":
				thing.ARN = "arn:" + t.Partition + ":eks:" + t.Region + ":" + t.Account + ":podidentityassociation/a-" + sum[:16]
				thing.ID = thing.ARN
			case "AWS::SNS::Subscription":
				thing.ARN = value.Text(r.Properties["TopicArn"]) + ":" + sum[:32]
				thing.ID = thing.ARN
			case "AWS::EKS::Nodegroup":
				thing.ID = fmt.Sprintf("%v/%s", r.Properties["ClusterName"], named("NodegroupName"))
			case "AWS::EKS::Addon":
				thing.ID = fmt.Sprintf("%v|%v", r.Properties["ClusterName"], r.Properties["AddonName"])
			default:
				thing.ID = generated
			}
			stack.Types[id] = r.Type
			thing.Logical = id
			thing.State["stack"] = stack
			made = append(made, thing)
		}
	}
	// What nothing named has got its name now, wherever it stands: the longest first.
	pairs := [][2]string{}
	for i := 0; i < len(names); i += 2 {
		pairs = append(pairs, [2]string{names[i], names[i+1]})
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return len(b[0]) - len(a[0]) })
	names = names[:0]
	for _, pair := range pairs {
		names = append(names, pair[0], pair[1])
	}
	replace := strings.NewReplacer(names...)
	for _, t := range made {
		t.ID, t.ARN = replace.Replace(t.ID), replace.Replace(t.ARN)
		t.Properties = rewritten(t.Properties, func(s string) string {
			if name, ok := exact[s]; ok {
				return name
			}
			return replace.Replace(s)
		}).(map[string]any)
		for i, name := range items(t.Properties["Queues"]) { // Ref gives the URL of a queue
			t.Properties["Queues"].([]any)[i] = "https://sqs." + t.Region + ".amazonaws.com/" + t.Account + "/" + text(name)
		}
		stack := t.State["stack"].(*Stack)
		stack.Physical[t.Logical] = t.ID
		delete(t.State, "stack")
	}
	a.Things = append(a.Things, made...)
	for _, t := range made {
		if t.Type != "AWS::EKS::Cluster" {
			continue
		}
		for _, config := range items(t.Properties["EncryptionConfig"]) {
			a.Grant(text(at(config, "Provider", "KeyArn")), t.ID, "eks."+t.Region+".amazonaws.com", "Decrypt", "Encrypt")
		}
	}
}

// raised is a setting of an API in CloudFormation's spelling.
func raised(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, below := range v {
			out[strings.ToUpper(name[:1])+name[1:]] = raised(below)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, below := range v {
			out[i] = raised(below)
		}
		return out
	}
	return v
}

// Grant makes a grant on a key.
func (a *AWS) Grant(key, name, grantee string, operations ...string) {
	for _, t := range a.Things {
		if t.ARN == key {
			list, _ := t.State["Grants"].([]any)
			id := fmt.Sprintf("%x", sha256.Sum256([]byte(key+name+grantee)))
			t.State["Grants"] = append(list, map[string]any{
				"KeyId": key, "GrantId": id, "Name": "eks-grant-" + name, "GranteePrincipal": grantee, "RetiringPrincipal": grantee, "Operations": operations,
				"Constraints": map[string]any{"EncryptionContextEquals": map[string]any{"aws:eks:context": "not-to-be-shown"}},
			})
		}
	}
}

// rewritten is a value in JSON with texts replaced. What is not known is left out.
func rewritten(v any, replace func(string) string) any {
	switch v := v.(type) {
	case string:
		return replace(v)
	case []any:
		list := []any{}
		for _, e := range v {
			if e = rewritten(e, replace); e != nil {
				list = append(list, e)
			}
		}
		return list
	case map[string]any:
		m := map[string]any{}
		for name, e := range v {
			if e = rewritten(e, replace); e != nil {
				m[name] = e
			}
		}
		return m
	case value.Unknown:
		return nil
	}
	return v
}
