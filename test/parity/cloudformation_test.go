package parity

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/cfn/cfntest"
)

// tester is a [testing.T], or what stands for it where a fault is hoped for.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// facts are what a renderer says of a cluster, by names that both renderers share.
// The values are as encoding/json reads them.
type facts map[string]any

// template is a golden of the constructs.
type template struct {
	t        tester
	assembly *cfn.Assembly
	named    map[string]*cfn.Resource // by every name that stands in the template
}

func readTemplate(t tester, golden cfntest.Template) template {
	data, err := json.Marshal(golden)
	if err != nil {
		t.Fatal(err)
	}
	assembly, err := cfn.Parse("template.json", data, cfn.Environment{Account: "111122223333", Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	return template{t, assembly, names(assembly)}
}

// at returns the resource with a construct path below the stack, or nil.
func (c template) at(below string) *cfn.Resource {
	for _, r := range c.assembly.Templates[0].Resources {
		if _, rest, ok := strings.Cut(r.Path, "/"); ok && (rest == below || rest == below+"/Resource") {
			return r
		}
	}
	return nil
}

// arnOf returns what a reference to a resource stands for.
func (c template) arnOf(r *cfn.Resource) string {
	for arn, found := range c.named {
		if found == r && strings.HasPrefix(arn, "arn:") && !strings.Contains(arn, ":alias/") {
			return arn
		}
	}
	c.t.Fatalf("no ARN of %s", r.Path)
	return ""
}

// names returns all ARNs in the templates that are of a resource in them.
func names(a *cfn.Assembly) map[string]*cfn.Resource {
	all := map[string]*cfn.Resource{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			if r := a.Lookup(v); r != nil {
				all[v] = r
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	for _, t := range a.Templates {
		for _, r := range t.Resources {
			walk(r.Properties)
		}
		walk(t.Outputs)
	}
	return all
}

func (c template) facts() facts {
	f := facts{}
	c.keys(f)
	c.cluster(f)
	c.audit(f)
	c.identities(f)
	f["Kubernetes objects"] = c.objects()
	f["inputs that must be given"] = []any{}
	if v, ok := c.assembly.Templates[0].Outputs["ExistingKeyPolicyStatements"].(string); ok {
		var statements []any
		if err := json.Unmarshal([]byte(v), &statements); err != nil {
			c.t.Fatal(err)
		}
		f["secrets key: what its owner must add"] = statements
	}
	return f
}

func retained(r *cfn.Resource) bool {
	return strings.HasPrefix(r.DeletionPolicy, "Retain") && r.UpdateReplacePolicy == "Retain"
}

func (c template) keys(f facts) {
	for name, where := range map[string]string{"secrets key": "SecretsKey/Resource", "audit key": "AuditTrail/Key", "logs key": "EncryptedCluster/LogsKey"} {
		r := c.at(where)
		if r == nil {
			continue
		}
		p := r.Properties
		multiRegion, _ := p["MultiRegion"].(bool)
		f[name+": description"] = p["Description"]
		f[name+": policy"] = statements(p["KeyPolicy"])
		f[name+": rotation"] = map[string]any{"enabled": p["EnableKeyRotation"], "days": p["RotationPeriodInDays"]}
		f[name+": pending window"] = p["PendingWindowInDays"]
		f[name+": multi-Region"] = multiRegion
		f[name+": kept"] = retained(r)
		for _, alias := range c.assembly.OfType("AWS::KMS::Alias") {
			if c.assembly.Lookup(alias.Properties["TargetKeyId"]) == r {
				f[name+": alias"] = alias.Properties["AliasName"]
			}
		}
	}
}

// statements are those of a policy. One of another version, or of none, is none.
func statements(document any) any {
	d := document.(map[string]any)
	if d["Version"] != "2012-10-17" {
		panic(fmt.Sprintf("a policy of version %v", d["Version"]))
	}
	return d["Statement"]
}

func (c template) cluster(f facts) {
	r := c.at("EncryptedCluster/Cluster")
	if r == nil {
		r = c.assembly.OfType("AWS::EKS::Cluster")[0]
	}
	p := r.Properties
	vpc := p["ResourcesVpcConfig"].(map[string]any)
	var logs []any
	for _, l := range p["Logging"].(map[string]any)["ClusterLogging"].(map[string]any)["EnabledTypes"].([]any) {
		logs = append(logs, l.(map[string]any)["Type"])
	}
	encryption := p["EncryptionConfig"].([]any)[0].(map[string]any)
	compute := p["ComputeConfig"].(map[string]any)
	f["cluster: name and version"] = []any{p["Name"], p["Version"]}
	f["cluster: encryption"] = map[string]any{"key": encryption["Provider"].(map[string]any)["KeyArn"], "resources": encryption["Resources"]}
	f["cluster: endpoint"] = map[string]any{"private": vpc["EndpointPrivateAccess"], "public": vpc["EndpointPublicAccess"], "cidrs": vpc["PublicAccessCidrs"]}
	f["cluster: logs"] = logs
	f["cluster: authentication"] = map[string]any{
		"mode": p["AccessConfig"].(map[string]any)["AuthenticationMode"], "creator is admin": p["AccessConfig"].(map[string]any)["BootstrapClusterCreatorAdminPermissions"],
	}
	f["cluster: Auto Mode"] = map[string]any{
		"compute": compute["Enabled"], "pools": sorted(compute["NodePools"]),
		"load balancing": p["KubernetesNetworkConfig"].(map[string]any)["ElasticLoadBalancing"].(map[string]any)["Enabled"],
		"storage":        p["StorageConfig"].(map[string]any)["BlockStorage"].(map[string]any)["Enabled"],
	}
	f["cluster: addresses"] = p["KubernetesNetworkConfig"].(map[string]any)["IpFamily"]
	f["cluster: deletion protection"] = p["DeletionProtection"]
	f["cluster: kept"] = retained(r)
	f["cluster: security groups of its own"] = len(c.assembly.OfType("AWS::EC2::SecurityGroup"))
	c.logGroup(f, "control plane", "EncryptedCluster/Logs")
	if group := c.assembly.OfType("AWS::EKS::Nodegroup"); len(group) > 0 {
		p := group[0].Properties
		scaling := p["ScalingConfig"].(map[string]any)
		f["node group"] = map[string]any{
			"types": p["InstanceTypes"], "image": p["AmiType"], "force": p["ForceUpdateEnabled"],
			"min": scaling["MinSize"], "max": scaling["MaxSize"], "desired": scaling["DesiredSize"],
		}
	}
	addons := map[string]any{}
	for _, a := range c.assembly.OfType("AWS::EKS::Addon") {
		var configuration any
		if text, ok := a.Properties["ConfigurationValues"].(string); ok {
			if err := json.Unmarshal([]byte(text), &configuration); err != nil {
				c.t.Fatal(err)
			}
		}
		addons[a.Properties["AddonName"].(string)] = map[string]any{"there": true, "configuration": configuration, "conflicts": a.Properties["ResolveConflicts"]}
	}
	f["add-ons"] = addons
	entries := map[string]any{}
	for _, e := range c.assembly.OfType("AWS::EKS::AccessEntry") {
		p := e.Properties
		entry := map[string]any{"type": p["Type"], "groups": p["KubernetesGroups"], "policies": []any{}}
		if p["Type"] == nil {
			entry["type"] = "STANDARD" // as by default
		}
		policies, _ := p["AccessPolicies"].([]any)
		for _, policy := range policies {
			policy := policy.(map[string]any)
			scope := policy["AccessScope"].(map[string]any)
			entry["policies"] = append(entry["policies"].([]any), map[string]any{"arn": policy["PolicyArn"], "scope": scope["Type"], "namespaces": scope["Namespaces"]})
		}
		entries[p["PrincipalArn"].(string)] = entry
	}
	f["access entries"] = entries
}

func sorted(v any) any {
	list, _ := v.([]any)
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return list
}

func (c template) logGroup(f facts, name, where string) {
	r := c.at(where)
	if r == nil {
		return
	}
	f["log group of the "+name] = map[string]any{
		"name": r.Properties["LogGroupName"], "days": r.Properties["RetentionInDays"], "key": r.Properties["KmsKeyId"], "kept": retained(r),
	}
}

func (c template) audit(f facts) {
	f["alarms"] = c.alarms()
	if topic := c.at("AuditTrail/Alarms"); topic != nil {
		f["topic"] = map[string]any{"name": topic.Properties["TopicName"], "display": topic.Properties["DisplayName"], "key": topic.Properties["KmsMasterKeyId"]}
		f["topic: policy"] = statements(c.assembly.OfType("AWS::SNS::TopicPolicy")[0].Properties["PolicyDocument"])
	}
	var subscriptions []any
	for _, s := range c.assembly.OfType("AWS::SNS::Subscription") {
		subscriptions = append(subscriptions, s.Properties["Protocol"], s.Properties["Endpoint"])
	}
	f["topic: subscriptions"] = subscriptions
	trail := c.at("AuditTrail/Trail")
	if trail == nil {
		return
	}
	p := trail.Properties
	f["trail"] = map[string]any{
		"name": p["TrailName"], "key": p["KMSKeyId"], "bucket": p["S3BucketName"], "on": p["IsLogging"], "validated": p["EnableLogFileValidation"],
		"all Regions": p["IsMultiRegionTrail"], "global services": p["IncludeGlobalServiceEvents"], "log group": p["CloudWatchLogsLogGroupArn"],
		"management events": p["EventSelectors"].([]any)[0].(map[string]any)["IncludeManagementEvents"], "read and write": p["EventSelectors"].([]any)[0].(map[string]any)["ReadWriteType"],
	}
	c.logGroup(f, "trail", "AuditTrail/TrailCopy")
	bucket := c.at("AuditTrail/Logs")
	b := bucket.Properties
	rule := b["LifecycleConfiguration"].(map[string]any)["Rules"].([]any)[0].(map[string]any)
	f["bucket: settings"] = map[string]any{
		"encryption": b["BucketEncryption"].(map[string]any)["ServerSideEncryptionConfiguration"].([]any)[0].(map[string]any)["ServerSideEncryptionByDefault"].(map[string]any)["SSEAlgorithm"],
		"versioning": b["VersioningConfiguration"].(map[string]any)["Status"],
		"ownership":  b["OwnershipControls"].(map[string]any)["Rules"].([]any)[0].(map[string]any)["ObjectOwnership"],
		"public":     b["PublicAccessBlockConfiguration"],
		"kept":       retained(bucket),
	}
	f["bucket: retention"] = map[string]any{
		"id": rule["Id"], "status": rule["Status"], "days": rule["ExpirationInDays"], "old versions": rule["NoncurrentVersionExpiration"].(map[string]any)["NoncurrentDays"],
		"uploads": rule["AbortIncompleteMultipartUpload"].(map[string]any)["DaysAfterInitiation"],
	}
	policy := c.at("AuditTrail/Logs/Policy")
	f["bucket: policy"] = statements(policy.Properties["PolicyDocument"])
	f["bucket: policy kept"] = retained(policy)
}

func (c template) alarms() any {
	all := map[string]any{}
	for _, r := range c.assembly.OfType("AWS::Events::Rule") {
		id, ok := strings.CutPrefix(path.Base(r.Path), "Alarm")
		if !ok {
			continue
		}
		target := r.Properties["Targets"].([]any)[0].(map[string]any)
		all[id] = map[string]any{
			"description": r.Properties["Description"], "pattern": r.Properties["EventPattern"], "state": r.Properties["State"], "topic": target["Arn"],
			"paths": target["InputTransformer"].(map[string]any)["InputPathsMap"], "template": target["InputTransformer"].(map[string]any)["InputTemplate"],
		}
	}
	return all
}

// roles are the roles that both renderers make, by the construct path below the
// stack and the address in Terraform.
var roles = map[string]string{
	"EncryptedCluster/ClusterRole":                          "cluster",
	"EncryptedCluster/KmsPlugin/Role":                       "plugin",
	"AuditTrail/Trail/LogsRole":                             "trail",
	"EncryptedCluster/Cluster/ClusternodePoolRole":          "nodes",
	"EncryptedCluster/Cluster/NodegroupNodes/NodeGroupRole": "nodes",
	"EncryptedCluster/KmsPlugin/TenantRole-acme":            `tenant["acme"]`,
	"EncryptedCluster/KmsPlugin/TenantRole-globex":          `tenant["globex"]`,
}

func (c template) identities(f facts) {
	for where, name := range roles {
		r := c.at(where)
		if r == nil {
			continue
		}
		role := map[string]any{"description": description(name, r.Properties["Description"]), "trust": statements(r.Properties["AssumeRolePolicyDocument"]), "managed": sorted(r.Properties["ManagedPolicyArns"]), "path": r.Properties["Path"]}
		if role["path"] == nil {
			role["path"] = "/"
		}
		var own []any
		for _, p := range c.assembly.OfType("AWS::IAM::Policy") {
			for _, attached := range p.Properties["Roles"].([]any) {
				if c.assembly.Lookup(attached) == r {
					own = append(own, statements(p.Properties["PolicyDocument"]).([]any)...)
				}
			}
		}
		role["statements"] = own
		f["role: "+name] = role
	}
	associations := map[string]any{}
	for _, a := range c.assembly.OfType("AWS::EKS::PodIdentityAssociation") {
		p := a.Properties
		associations[fmt.Sprint(p["Namespace"], "/", p["ServiceAccount"])] = p["RoleArn"]
	}
	f["Pod Identity associations"] = associations
}

// description is that of a role which is not the CDK's own.
func description(role string, text any) any {
	if role == "nodes" || role == "trail" {
		return nil
	}
	return text
}

// objects returns the Kubernetes objects by kind, namespace and name.
func (c template) objects() any {
	var list []map[string]any
	for _, r := range c.assembly.OfType("Custom::AWSCDK-EKS-KubernetesResource") {
		objects, err := r.Manifest()
		if err != nil {
			c.t.Fatal(err)
		}
		list = append(list, objects...)
	}
	return byName(list)
}

func byName(objects []map[string]any) map[string]any {
	all := map[string]any{}
	for _, o := range objects {
		m := o["metadata"].(map[string]any)
		if labels, ok := m["labels"].(map[string]any); ok {
			// With this label of CDK's, its handler finds what to remove.
			maps.DeleteFunc(labels, func(key string, _ any) bool { return strings.HasPrefix(key, "aws.cdk.eks/prune-") })
			if len(labels) == 0 {
				delete(m, "labels")
			}
		}
		all[fmt.Sprint(o["kind"], " ", m["namespace"], "/", m["name"])] = o
	}
	return all
}
