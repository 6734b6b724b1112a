//go:build !race

package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// properties are the security properties of a bundle. Each returns what is
// wrong with a template, or nil.
var properties = map[string]func(template) error{
	"the cluster's secrets are encrypted under a CMK": func(t template) error {
		cluster := t.only("AWS::EKS::Cluster")
		if got := text(at(cluster, "Properties.EncryptionConfig.0.Resources")); got != `["secrets"]` {
			return fmt.Errorf("encrypted resources are %s", got)
		}
		key := at(cluster, "Properties.EncryptionConfig.0.Provider.KeyArn")
		if t.secretsKey() == nil && !strings.Contains(text(key), ":kms:") {
			return fmt.Errorf("the key is %s", text(key))
		}
		return nil
	},
	"keys rotate": func(t template) error {
		return t.eachKey(func(key resource) error {
			period, _ := at(key, "Properties.RotationPeriodInDays").(float64)
			if at(key, "Properties.EnableKeyRotation") != true || period < 90 || period > 2560 {
				return fmt.Errorf("rotation is %v, every %v days", at(key, "Properties.EnableKeyRotation"), period)
			}
			return nil
		})
	},
	"keys outlive the stack": func(t template) error {
		return t.eachKey(func(key resource) error {
			window, _ := at(key, "Properties.PendingWindowInDays").(float64)
			kept := key["DeletionPolicy"] == "Retain" || key["DeletionPolicy"] == "RetainExceptOnCreate"
			if !kept || key["UpdateReplacePolicy"] != "Retain" || window < 7 {
				return fmt.Errorf("on deletion %v, on replacement %v, after %v days", key["DeletionPolicy"], key["UpdateReplacePolicy"], window)
			}
			return nil
		})
	},
	"the secrets key outlives even a failed first deployment": func(t template) error {
		// The cluster may outlive it too, since it is protected against deletion.
		if key := t.secretsKey(); key != nil && key["DeletionPolicy"] != "Retain" {
			return fmt.Errorf("on deletion %v", key["DeletionPolicy"])
		}
		return nil
	},
	"no key policy has a wildcard principal or kms:*": func(t template) error {
		return t.eachKey(func(key resource) error {
			for _, s := range list(at(key, "Properties.KeyPolicy.Statement")) {
				statement := s.(map[string]any)
				if slices.Contains(principalsOf(statement), "*") || slices.Contains(actionsOf(statement), "kms:*") {
					return fmt.Errorf("statement %v", statement["Sid"])
				}
			}
			return nil
		})
	},
	"the secrets key's policy spells out its actions": func(t template) error {
		for _, s := range t.keyStatements() {
			if strings.Contains(strings.Join(actionsOf(s), " "), "*") {
				return fmt.Errorf("statement %v has %v", s["Sid"], actionsOf(s))
			}
		}
		return nil
	},
	"IAM policies alone give no use of the secrets key": func(t template) error {
		for _, s := range t.keyStatements() {
			for _, p := range principalsOf(s) {
				if !strings.HasSuffix(p, ":root") || ofSets(s) {
					continue
				}
				if used := cryptographic(actionsOf(s)); len(used) > 0 {
					return fmt.Errorf("statement %v lets the account delegate %v", s["Sid"], used)
				}
			}
		}
		return nil
	},
	"the account can't be locked out of its key": func(t template) error {
		if t.secretsKey() == nil {
			return nil // the owner's affair
		}
		for _, s := range t.keyStatements() {
			actions := actionsOf(s)
			if len(principalsOf(s)) == 1 && strings.HasSuffix(principalsOf(s)[0], ":root") && s["Condition"] == nil &&
				slices.Contains(actions, "kms:PutKeyPolicy") && slices.Contains(actions, "kms:CancelKeyDeletion") && slices.Contains(actions, "kms:EnableKey") {
				return nil
			}
		}
		return errors.New("no unconditional administration for the account root")
	},
	"the secrets key is used only under the cluster's encryption context": func(t template) error {
		return contextRequired(t.keyStatements())
	},
	"grants are made by the creators alone": func(t template) error {
		found := false
		for _, s := range t.keyStatements() {
			if !slices.Contains(actionsOf(s), "kms:CreateGrant") {
				continue
			}
			found = true
			sets := s["Sid"] == "ClusterCreatorsGrantBySet" && ofSets(s)
			if s["Sid"] != "ClusterCreatorsGrant" && !sets || len(actionsOf(s)) != 1 {
				return fmt.Errorf("statement %v gives %v", s["Sid"], actionsOf(s))
			}
			for _, p := range principalsOf(s) {
				if !strings.Contains(p, ":role/") && !sets {
					return fmt.Errorf("%s may make grants", p)
				}
			}
		}
		if !found {
			return errors.New("nobody may, so the cluster can't be created")
		}
		return nil
	},
	"permission sets are told apart by all of their names": func(t template) error {
		return t.eachKey(func(key resource) error {
			for _, s := range list(at(key, "Properties.KeyPolicy.Statement")) {
				for _, operator := range []string{"ArnLike", "ArnEquals"} {
					for _, arn := range list(at(s, "Condition."+operator+".aws:PrincipalArn")) {
						name, set := strings.CutPrefix(text(arn), "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/")
						if !set && !strings.Contains(text(arn), "sso") {
							continue
						}
						name = strings.TrimPrefix(name, "*/")
						suffix := strings.TrimLeft(strings.TrimPrefix(name, "AWSReservedSSO_"), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
						if !set || !strings.HasPrefix(name, "AWSReservedSSO_") || suffix != "_"+strings.Repeat("?", 16) {
							return fmt.Errorf("%s stands for more than one set of this account", text(arn))
						}
					}
				}
			}
			return nil
		})
	},
	"a VPC without a way to the internet has endpoints": func(t template) error {
		if len(t.ofType("AWS::EC2::VPC")) == 0 || len(t.ofType("AWS::EC2::NatGateway")) > 0 {
			return nil
		}
		if len(t.ofType("AWS::EC2::InternetGateway")) > 0 {
			return errors.New("there is a way after all")
		}
		have := ""
		for _, id := range t.ofType("AWS::EC2::VPCEndpoint") {
			e := t.resources()[id]
			have += text(at(e, "Properties.ServiceName")) + " "
			if text(at(e, "Properties.VpcEndpointType")) == "Interface" && (at(e, "Properties.PrivateDnsEnabled") != true || len(list(at(e, "Properties.SubnetIds"))) < 2) {
				return fmt.Errorf("%s is not found by its name, or not in each zone", id)
			}
		}
		for _, service := range []string{"ec2", "ecr.api", "ecr.dkr", "eks", "eks-auth", "kms", "lambda", "logs", "s3", "sts"} {
			if !strings.Contains(have, "."+service+" ") {
				return fmt.Errorf("none for %s", service)
			}
		}
		return nil
	},
	"disks of nodes are under the key of the volumes": func(t template) error {
		key, objects := "", text(t.kubernetesObjects())
		for _, id := range t.ofType("AWS::KMS::Key") {
			if strings.Contains(id, "VolumesKey") {
				key = id
			}
		}
		if key == "" {
			return nil
		}
		for _, s := range list(at(t.resources()[key], "Properties.KeyPolicy.Statement")) {
			for _, action := range actionsOf(s.(map[string]any)) {
				use := len(cryptographic([]string{action})) > 0 || strings.HasPrefix(action, "kms:ReEncrypt")
				if use && !strings.Contains(text(at(s, "Condition.StringEquals.kms:ViaService")), "ec2.") {
					return fmt.Errorf("%s is not for volumes alone", action)
				}
				if action == "kms:CreateGrant" && at(s, "Condition.Bool.kms:GrantIsForAWSResource") != "true" {
					return errors.New("grants are not for volumes alone")
				}
			}
		}
		for _, id := range t.ofType("AWS::EC2::LaunchTemplate") {
			for _, d := range list(at(t.resources()[id], "Properties.LaunchTemplateData.BlockDeviceMappings")) {
				if at(d, "Ebs.Encrypted") != true || text(at(d, "Ebs.KmsKeyId")) != "${"+key+".Arn}" {
					return fmt.Errorf("%s has a disk that is not", id)
				}
			}
		}
		for _, id := range t.ofType("AWS::EKS::Nodegroup") {
			if at(t.resources()[id], "Properties.LaunchTemplate.Id") == nil {
				return fmt.Errorf("%s has no launch template", id)
			}
		}
		if at(t.only("AWS::EKS::Cluster"), "Properties.ComputeConfig.Enabled") == true {
			if pools := list(at(t.only("AWS::EKS::Cluster"), "Properties.ComputeConfig.NodePools")); len(pools) > 0 {
				return fmt.Errorf("nodes of the pools %v are not", pools)
			}
			if !strings.Contains(objects, `"ephemeralStorage":{"kmsKeyID":"${`+key+`.Arn}"}`) {
				return errors.New("the node class does not name the key")
			}
		}
		if !strings.Contains(objects, `"kmsKeyId":"${`+key+`.Arn}"`) {
			return errors.New("no storage class names the key")
		}
		return nil
	},
	"one node group always has nodes that take any pod": func(t template) error {
		groups := t.ofType("AWS::EKS::Nodegroup")
		for _, id := range groups {
			g := t.resources()[id]
			if least, _ := at(g, "Properties.ScalingConfig.MinSize").(float64); least > 0 && at(g, "Properties.Taints") == nil {
				return nil
			}
		}
		if len(groups) == 0 {
			return nil
		}
		return errors.New("the plugin may never start")
	},
	"nodes are those of the cluster's version": func(t template) error {
		for _, id := range t.ofType("AWS::EKS::Nodegroup") {
			if v := at(t.resources()[id], "Properties.Version"); v != nil && v != at(t.only("AWS::EKS::Cluster"), "Properties.Version") {
				return fmt.Errorf("%s has %v", id, v)
			}
		}
		return nil
	},
	"the cluster role sees the key": func(t template) error {
		role := text(at(t.only("AWS::EKS::Cluster"), "Properties.RoleArn"))
		for _, s := range t.keyStatements() {
			if s["Sid"] != "ClusterRole" {
				continue
			}
			named := slices.Contains(principalsOf(s), role)
			matched := strings.Contains(text(at(s, "Condition.ArnLike.aws:PrincipalArn")), ":role/ekskms/")
			if (named || matched) && slices.Equal(actionsOf(s), []string{"kms:DescribeKey", "kms:ListGrants"}) {
				return nil
			}
		}
		return errors.New("not in the key policy: EKS would say that the role does not exist")
	},
	"the plugin's role can do nothing else": func(t template) error {
		id := t.pluginRole()
		if id == "" {
			return errors.New("no plugin role")
		}
		role := t.resources()[id]
		if at(role, "Properties.ManagedPolicyArns") != nil || at(role, "Properties.Policies") != nil {
			return errors.New("it has policies of its own")
		}
		statements := t.identityStatements(id)
		key := text(at(t.only("AWS::EKS::Cluster"), "Properties.EncryptionConfig.0.Provider.KeyArn"))
		for _, s := range statements {
			for _, action := range actionsOf(s) {
				if !slices.Contains([]string{"kms:DescribeKey", "kms:ListGrants", "kms:GenerateDataKey", "kms:Decrypt"}, action) {
					return fmt.Errorf("it may %s", action)
				}
			}
			if text(s["Resource"]) != key {
				return fmt.Errorf("it may use %s", text(s["Resource"]))
			}
		}
		return contextRequired(statements)
	},
	"the plugin sees EKS's grant": func(t template) error {
		id := t.pluginRole()
		sees := func(where string, statements []map[string]any) error {
			for _, s := range statements {
				if s["Sid"] == "PluginDescribe" && slices.Contains(actionsOf(s), "kms:ListGrants") &&
					strings.Contains(text(at(s, "Condition.StringEquals.aws:PrincipalTag/eks-cluster-arn")), ":cluster/") {
					return nil
				}
			}
			return fmt.Errorf("not by its %s policy", where)
		}
		return errors.Join(sees("key", t.keyStatements()), sees("identity", t.identityStatements(id)))
	},
	"only the pods of an association get its role, and each has its own": func(t template) error {
		roles := map[string]bool{}
		for _, association := range t.associations() {
			id, _ := at(association, "Properties.RoleArn.Fn::GetAtt.0").(string)
			if roles[id] {
				return fmt.Errorf("two associations give %s", id)
			}
			roles[id] = true
			trust := list(at(t.resources()[id], "Properties.AssumeRolePolicyDocument.Statement"))
			if len(trust) != 1 || text(at(trust[0], "Principal.Service")) != "pods.eks.amazonaws.com" {
				return fmt.Errorf("the trust policy of %s is %s", id, text(trust))
			}
			for tag, want := range map[string]string{
				"kubernetes-namespace":       text(at(association, "Properties.Namespace")),
				"kubernetes-service-account": text(at(association, "Properties.ServiceAccount")),
			} {
				if got := text(at(trust[0], "Condition.StringEquals.aws:RequestTag/"+tag)); got != want || got == "" {
					return fmt.Errorf("%s is %q, of the association %q", tag, got, want)
				}
			}
			if !strings.Contains(text(at(trust[0], "Condition.StringEquals.aws:RequestTag/eks-cluster-arn")), ":cluster/") {
				return errors.New("other clusters are trusted")
			}
		}
		if !roles[t.pluginRole()] {
			return errors.New("the plugin has no association")
		}
		return nil
	},
	"the plugin's pods wait for their association": func(t template) error {
		// EKS gives a pod its credentials when the pod is made, not later.
		for _, id := range t.ofType("Custom::AWSCDK-EKS-KubernetesResource") {
			r := t.resources()[id]
			if !strings.Contains(text(at(r, "Properties.Manifest")), `"kind":"Deployment"`) {
				continue
			}
			for _, association := range t.ofType("AWS::EKS::PodIdentityAssociation") {
				role := at(t.resources()[association], "Properties.RoleArn.Fn::GetAtt.0")
				if role == t.pluginRole() && slices.Contains(list(r["DependsOn"]), any(association)) {
					return nil
				}
			}
			return fmt.Errorf("%s depends on %v", id, r["DependsOn"])
		}
		return errors.New("there are no pods")
	},
	"tenants are kept apart": func(t template) error {
		owners := map[string]string{} // of a tenant's name
		for _, association := range t.associations() {
			id, _ := at(association, "Properties.RoleArn.Fn::GetAtt.0").(string)
			if id == t.pluginRole() {
				continue
			}
			mine := t.identityStatements(id)
			for _, s := range t.keyStatements() {
				if slices.Contains(principalsOf(s), "${"+id+".Arn}") {
					mine = append(mine, s)
				}
			}
			used := 0
			for _, s := range mine {
				if slices.Equal(actionsOf(s), []string{"kms:DescribeKey"}) {
					continue
				}
				if !slices.Equal(actionsOf(s), []string{"kms:Decrypt", "kms:GenerateDataKey"}) {
					return fmt.Errorf("%s may %v", id, actionsOf(s))
				}
				used++
				equals := at(s, "Condition.StringEquals")
				name, _ := at(equals, "kms:EncryptionContext:ekskms:tenant").(string)
				if owner := owners[name]; name == "" || owner != "" && owner != id {
					return fmt.Errorf("%s and %q use the context of tenant %q", id, owner, name)
				}
				owners[name] = id
				if got := list(at(s, "Condition.ForAllValues:StringEquals.kms:EncryptionContextKeys")); text(got) != `["ekskms:cluster-arn","ekskms:tenant"]` {
					return fmt.Errorf("%s uses the context keys %s", id, text(got))
				}
				if text(at(equals, "aws:PrincipalTag/kubernetes-namespace")) != text(at(association, "Properties.Namespace")) ||
					text(at(equals, "aws:PrincipalTag/kubernetes-service-account")) != text(at(association, "Properties.ServiceAccount")) {
					return fmt.Errorf("%s may be used by other pods: %s", id, text(equals))
				}
			}
			if used != 2 {
				return fmt.Errorf("%s has %d statements that use the key, must have one in each policy", id, used)
			}
		}
		return nil
	},
	"roles of secret readers name secrets": func(t template) error {
		for _, object := range t.kubernetesObjects() {
			name := text(at(object, "metadata.name"))
			for _, rule := range list(at(object, "rules")) {
				resources, verbs, names := list(at(rule, "resources")), list(at(rule, "verbs")), list(at(rule, "resourceNames"))
				if slices.Contains(resources, any("*")) || slices.Contains(verbs, any("*")) || slices.Contains(list(at(rule, "apiGroups")), any("*")) {
					return fmt.Errorf("%s has a wildcard: %s", name, text(rule))
				}
				if !slices.Contains(resources, any("secrets")) {
					continue
				}
				for _, verb := range verbs {
					if !slices.Contains([]any{"get", "list", "watch"}, verb) {
						return fmt.Errorf("%s lets %v secrets", name, verb)
					}
				}
				if len(names) == 0 || slices.Contains(names, any("")) || at(object, "kind") != "Role" {
					return fmt.Errorf("%s reads every secret: %s", name, text(rule))
				}
			}
			for _, subject := range list(at(object, "subjects")) {
				if strings.HasPrefix(text(at(subject, "name")), "system:") {
					return fmt.Errorf("%s is bound to %s", name, text(subject))
				}
			}
		}
		return nil
	},
	"readers get groups and no access policy": func(t template) error {
		for _, id := range t.ofType("AWS::EKS::AccessEntry") {
			entry := t.resources()[id]
			if strings.HasPrefix(id, "SecretsRbac") && (at(entry, "Properties.AccessPolicies") != nil || at(entry, "Properties.Type") != "STANDARD") {
				return fmt.Errorf("%s is %s", id, text(at(entry, "Properties")))
			}
			for _, group := range list(at(entry, "Properties.KubernetesGroups")) {
				if strings.HasPrefix(text(group), "system:") {
					return fmt.Errorf("%s is in %s", id, text(group))
				}
			}
		}
		return nil
	},
	"the guard judges every new rule": func(t template) error {
		for _, object := range t.kubernetesObjects() {
			if text(at(object, "metadata.name")) != "secrets-rbac.ekskms.github.io" {
				continue
			}
			spec := at(object, "spec")
			if at(object, "kind") == "ValidatingAdmissionPolicyBinding" {
				actions := list(at(spec, "validationActions"))
				if !slices.Contains(actions, any("Audit")) || len(actions) != 2 {
					return fmt.Errorf("its actions are %s", text(actions))
				}
				continue
			}
			rule := at(spec, "matchConstraints.resourceRules.0")
			if text(at(rule, "operations")) != `["CREATE","UPDATE"]` || text(at(rule, "resources")) != `["roles","clusterroles"]` || at(spec, "failurePolicy") != "Fail" {
				return fmt.Errorf("it judges %s", text(spec))
			}
		}
		return nil
	},
	"only this cluster gets the cluster role": func(t template) error {
		role := text(at(t.only("AWS::EKS::Cluster"), "Properties.RoleArn"))
		id := strings.TrimSuffix(strings.TrimPrefix(role, "${"), ".Arn}")
		for _, s := range list(at(t.resources()[id], "Properties.AssumeRolePolicyDocument.Statement")) {
			if at(s, "Condition.StringEquals.aws:SourceAccount") == nil ||
				!strings.HasSuffix(text(at(s, "Condition.ArnEquals.aws:SourceArn")), ":cluster/"+text(at(t.only("AWS::EKS::Cluster"), "Properties.Name"))) {
				return fmt.Errorf("a statement trusts more: %s", text(s))
			}
		}
		return nil
	},
	"the API endpoint is not open to the world": func(t template) error {
		vpc := at(t.only("AWS::EKS::Cluster"), "Properties.ResourcesVpcConfig")
		if at(vpc, "EndpointPrivateAccess") != true {
			return errors.New("no private access")
		}
		if at(vpc, "EndpointPublicAccess") == false {
			return nil
		}
		cidrs := list(at(vpc, "PublicAccessCidrs"))
		if len(cidrs) == 0 || slices.Contains(cidrs, any("0.0.0.0/0")) {
			return fmt.Errorf("open to %v", cidrs)
		}
		return nil
	},
	"the control plane logs to an encrypted group that is there first": func(t template) error {
		cluster := t.only("AWS::EKS::Cluster")
		types := text(at(cluster, "Properties.Logging.ClusterLogging.EnabledTypes"))
		for _, kind := range []string{"api", "audit", "authenticator", "controllerManager", "scheduler"} {
			if !strings.Contains(types, `"`+kind+`"`) {
				return fmt.Errorf("%s is not logged", kind)
			}
		}
		want := "/aws/eks/" + text(at(cluster, "Properties.Name")) + "/cluster"
		for _, id := range t.ofType("AWS::Logs::LogGroup") {
			group := t.resources()[id]
			if text(at(group, "Properties.LogGroupName")) != want {
				continue
			}
			switch {
			case at(group, "Properties.KmsKeyId") == nil:
				return errors.New("the log group has no key")
			case at(group, "Properties.RetentionInDays") == nil:
				return errors.New("the log group has no retention")
			case group["DeletionPolicy"] != "RetainExceptOnCreate" || group["UpdateReplacePolicy"] != "Retain":
				return errors.New("the log group goes with the stack, or stands in the way of a second try")
			case !slices.Contains(list(cluster["DependsOn"]), any(id)):
				return errors.New("the cluster does not wait for the log group")
			}
			return nil
		}
		return fmt.Errorf("no log group %s", want)
	},
	"access is by access entries only": func(t template) error {
		access := at(t.only("AWS::EKS::Cluster"), "Properties.AccessConfig")
		if at(access, "AuthenticationMode") != "API" || at(access, "BootstrapClusterCreatorAdminPermissions") != false {
			return fmt.Errorf("access is %s", text(access))
		}
		return nil
	},
	"the cluster is protected against deletion": func(t template) error {
		if at(t.only("AWS::EKS::Cluster"), "Properties.DeletionProtection") != true {
			return errors.New("it is not")
		}
		return nil
	},
	"the trail records everything": func(t template) error {
		trail := t.only("AWS::CloudTrail::Trail")
		if trail == nil {
			return t.existing("trail")
		}
		for _, name := range []string{"IsLogging", "IsMultiRegionTrail", "IncludeGlobalServiceEvents", "EnableLogFileValidation"} {
			if at(trail, "Properties."+name) != true {
				return fmt.Errorf("%s is %v", name, at(trail, "Properties."+name))
			}
		}
		selectors := list(at(trail, "Properties.EventSelectors"))
		if len(selectors) == 0 || at(selectors[0], "IncludeManagementEvents") != true || at(selectors[0], "ReadWriteType") != "All" ||
			at(selectors[0], "ExcludeManagementEventSources") != nil || at(trail, "Properties.AdvancedEventSelectors") != nil {
			return fmt.Errorf("the selectors are %s", text(selectors))
		}
		return nil
	},
	"the trail's logs are under a key of their own": func(t template) error {
		trail := t.only("AWS::CloudTrail::Trail")
		if trail == nil {
			return t.existing("trail")
		}
		key := text(at(trail, "Properties.KMSKeyId"))
		if key == "" || key == "null" || key == text(at(t.only("AWS::EKS::Cluster"), "Properties.EncryptionConfig.0.Provider.KeyArn")) {
			return fmt.Errorf("the key is %s", key)
		}
		id := strings.TrimSuffix(strings.TrimPrefix(key, "${"), ".Arn}")
		for _, s := range list(at(t.resources()[id], "Properties.KeyPolicy.Statement")) {
			statement := s.(map[string]any)
			conditions := text(statement["Condition"])
			for _, p := range principalsOf(statement) {
				if p == "cloudtrail.amazonaws.com" && !strings.Contains(conditions, "aws:SourceArn") || p == "events.amazonaws.com" {
					return fmt.Errorf("%s may use the key for others", p)
				}
				if strings.HasSuffix(p, ":root") && !ofSets(statement) && len(cryptographic(actionsOf(statement))) > 0 {
					return errors.New("the account may hand out the use of the key")
				}
			}
		}
		return nil
	},
	"the trail's bucket is closed, versioned and kept": func(t template) error {
		bucket := t.only("AWS::S3::Bucket")
		if bucket == nil {
			return t.existing("trail")
		}
		for _, name := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
			if at(bucket, "Properties.PublicAccessBlockConfiguration."+name) != true {
				return fmt.Errorf("%s is off", name)
			}
		}
		switch {
		case at(bucket, "Properties.VersioningConfiguration.Status") != "Enabled":
			return errors.New("it is not versioned")
		case at(bucket, "Properties.OwnershipControls.Rules.0.ObjectOwnership") != "BucketOwnerEnforced":
			return errors.New("ACLs are on")
		case at(bucket, "Properties.LifecycleConfiguration.Rules.0.ExpirationInDays") == nil:
			return errors.New("it has no retention")
		case bucket["DeletionPolicy"] != "Retain" || bucket["UpdateReplacePolicy"] != "Retain":
			return errors.New("it goes with the stack")
		}
		policy := text(at(t.only("AWS::S3::BucketPolicy"), "Properties.PolicyDocument"))
		if !strings.Contains(policy, `"aws:SecureTransport":"false"`) || !strings.Contains(policy, `"Deny"`) {
			return errors.New("it takes requests without TLS")
		}
		if strings.Count(policy, `"Allow"`) != strings.Count(policy, `"aws:SourceArn"`) {
			return errors.New("CloudTrail may write for other trails")
		}
		return nil
	},
	"every tampering raises an alarm": func(t template) error {
		key := text(at(t.only("AWS::EKS::Cluster"), "Properties.EncryptionConfig.0.Provider.KeyArn"))
		for event, source := range map[string]string{
			"DisableKey": "kms", "ScheduleKeyDeletion": "kms", "PutKeyPolicy": "kms", "DisableKeyRotation": "kms",
			"EnableKeyRotation": "kms", "ReplicateKey": "kms", "UpdatePrimaryRegion": "kms",
			"CreateGrant": "kms", "RevokeGrant": "kms", "RetireGrant": "kms",
			"CreateAlias": "kms", "UpdateAlias": "kms", "DeleteAlias": "kms",
			"StopLogging": "cloudtrail", "DeleteTrail": "cloudtrail", "UpdateTrail": "cloudtrail", "PutEventSelectors": "cloudtrail",
		} {
			if !t.alarms(event, source, key) {
				return fmt.Errorf("%s raises none", event)
			}
		}
		rules := t.ofType("AWS::Events::Rule")
		for _, id := range rules {
			rule := t.resources()[id]
			if at(rule, "Properties.State") != "ENABLED" {
				return fmt.Errorf("%s is %v", id, at(rule, "Properties.State"))
			}
			if n := len(list(at(rule, "Properties.Targets"))); n != 2 {
				return fmt.Errorf("%s has %d targets", id, n)
			}
		}
		for _, id := range []string{"ClusterOpened", "RecordWeakened", "AlarmsTampered", "WatcherTampered", "LogsKeyTampered"} {
			if !slices.ContainsFunc(rules, func(rule string) bool { return strings.Contains(rule, "Alarm"+id) }) {
				return fmt.Errorf("there is no %s", id)
			}
		}
		return nil
	},
	"the alarms' topic is encrypted under a key of its own": func(t template) error {
		var topics []resource
		for _, id := range t.ofType("AWS::SNS::Topic") {
			if topic := t.resources()[id]; strings.HasSuffix(text(at(topic, "Properties.TopicName")), "-alarms") {
				topics = append(topics, topic)
			}
		}
		if len(topics) == 0 {
			return t.existing("topic")
		}
		key := text(at(topics[0], "Properties.KmsMasterKeyId"))
		for _, other := range []any{at(t.only("AWS::CloudTrail::Trail"), "Properties.KMSKeyId"), at(t.only("AWS::EKS::Cluster"), "Properties.EncryptionConfig.0.Provider.KeyArn")} {
			if key == "null" || key == text(other) {
				return fmt.Errorf("its key is %s", key)
			}
		}
		id := strings.TrimSuffix(strings.TrimPrefix(key, "${"), ".Arn}")
		for _, s := range list(at(t.resources()[id], "Properties.KeyPolicy.Statement")) {
			statement := s.(map[string]any)
			for _, p := range principalsOf(statement) {
				if p == "events.amazonaws.com" && !strings.Contains(text(statement["Condition"]), "kms:EncryptionContext:aws:sns:topicArn") {
					return errors.New("EventBridge may use its key for other topics")
				}
				if strings.HasSuffix(p, ":root") && !ofSets(statement) && len(cryptographic(actionsOf(statement))) > 0 {
					return errors.New("the account may hand out the use of its key")
				}
			}
		}
		return nil
	},
	"what an alarm has beside its topic needs no customer key": func(t template) error {
		for _, id := range t.ofType("AWS::Events::Rule") {
			for i, target := range list(at(t.resources()[id], "Properties.Targets")) {
				if at(target, "DeadLetterConfig.Arn") == nil {
					return fmt.Errorf("what target %d of %s does not get is lost", i, id)
				}
			}
		}
		queue, alarm := t.only("AWS::SQS::Queue"), t.only("AWS::CloudWatch::Alarm")
		if at(queue, "Properties.KmsMasterKeyId") != nil || at(queue, "Properties.SqsManagedSseEnabled") != true {
			return errors.New("the queue is under a customer key, or not encrypted")
		}
		for _, id := range t.ofType("AWS::Logs::LogGroup") {
			if group := t.resources()[id]; strings.HasPrefix(text(at(group, "Properties.LogGroupName")), "/aws/events/") && at(group, "Properties.KmsKeyId") != nil {
				return errors.New("the log group is under a customer key")
			}
		}
		told := text(at(alarm, "Properties.AlarmActions.0"))
		if told == "null" || at(alarm, "Properties.ActionsEnabled") != true {
			return errors.New("nobody is told of what is lost")
		}
		if topic := t.resources()[strings.Trim(told, "${}")]; at(topic, "Properties.KmsMasterKeyId") != nil {
			return errors.New("who is told of what is lost is told under a customer key")
		}
		for _, id := range append(t.ofType("AWS::SNS::TopicPolicy"), t.ofType("AWS::SQS::QueuePolicy")...) {
			policy := text(at(t.resources()[id], "Properties.PolicyDocument"))
			if !strings.Contains(policy, `"aws:SecureTransport":"false"`) || strings.Contains(id, "Undelivered") && !strings.Contains(policy, `"aws:SourceArn"`) {
				return fmt.Errorf("%s lets others send, or without TLS", id)
			}
		}
		return nil
	},
	"the kubectl handler is closed and recorded": func(t template) error {
		n := 0
		for _, id := range t.ofType("AWS::Lambda::Function") {
			if !strings.Contains(id, "KubectlProvider") {
				continue
			}
			n++
			function := t.resources()[id]
			group := t.resources()[strings.Trim(text(at(function, "Properties.LoggingConfig.LogGroup")), "${}")]
			if days, _ := at(group, "Properties.RetentionInDays").(float64); days != 7 || at(group, "Properties.KmsKeyId") == nil {
				return fmt.Errorf("%s logs without a key, or for long", id)
			}
			role, _ := at(function, "Properties.Role.Fn::GetAtt.0").(string)
			if at(t.resources()[role], "Properties.AssumeRolePolicyDocument.Statement.0.Condition.StringEquals.aws:SourceAccount") == nil {
				return fmt.Errorf("the role of %s can be had through another account", id)
			}
			name := text(at(function, "Properties.FunctionName"))
			trail := t.only("AWS::CloudTrail::Trail")
			if trail != nil && !strings.Contains(text(at(trail, "Properties.EventSelectors.1.DataResources")), ":function:"+name+`"`) {
				return fmt.Errorf("the calls of %s are on no record", id)
			}
			changed := t.ofType("AWS::Events::Rule")
			if !slices.ContainsFunc(changed, func(rule string) bool {
				return strings.Contains(rule, "HandlerChanged") && strings.Contains(text(at(t.resources()[rule], "Properties.EventPattern")), `"`+name+`"`)
			}) {
				return fmt.Errorf("a change of %s raises no alarm", id)
			}
		}
		if n != 2 {
			return fmt.Errorf("%d functions", n)
		}
		if more := append(t.ofType("AWS::Lambda::Permission"), t.ofType("AWS::Lambda::Url")...); len(more) > 0 {
			return fmt.Errorf("%s lets somebody invoke a function", more[0])
		}
		return nil
	},
	"the plugin's pods are confined": func(t template) error {
		for _, object := range t.kubernetesObjects() {
			pod := at(object, "spec.template.spec")
			if pod == nil {
				continue
			}
			for _, c := range list(at(pod, "containers")) {
				if at(c, "securityContext.readOnlyRootFilesystem") != true || at(c, "securityContext.allowPrivilegeEscalation") != false ||
					text(at(c, "securityContext.capabilities.drop")) != `["ALL"]` {
					return fmt.Errorf("container %v has %s", at(c, "name"), text(at(c, "securityContext")))
				}
			}
			for _, sharing := range []string{"hostNetwork", "hostPID", "hostIPC"} {
				if v := at(pod, sharing); v != nil && v != false {
					return fmt.Errorf("%s is %v", sharing, v)
				}
			}
			return nil
		}
		return errors.New("there is no workload")
	},
}

var cryptographicActions = []string{
	"kms:CreateGrant", "kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyPair",
	"kms:GenerateDataKeyPairWithoutPlaintext", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo",
}

// cryptographic returns those actions, wildcards included, with which a
// principal could use a key or let others use it.
func cryptographic(actions []string) []string {
	var used []string
	for _, action := range actions {
		prefix, wildcard := strings.CutSuffix(action, "*")
		for _, crypto := range cryptographicActions {
			if action == crypto || wildcard && strings.HasPrefix(crypto, prefix) {
				used = append(used, action)
				break
			}
		}
	}
	return used
}

// contextRequired wants every cryptographic use, grants aside, to depend on one
// encryption context and no other: that of the cluster, or that of a tenant.
func contextRequired(statements []map[string]any) error {
	found := false
	for _, s := range statements {
		used := cryptographic(actionsOf(s))
		if len(used) == 0 || slices.Equal(used, []string{"kms:CreateGrant"}) {
			continue
		}
		found = true
		keys := `["ekskms:cluster-arn"]`
		if at(s, "Condition.StringEquals.kms:EncryptionContext:ekskms:tenant") != nil {
			keys = `["ekskms:cluster-arn","ekskms:tenant"]`
		}
		if !strings.Contains(text(at(s, "Condition.StringEquals.kms:EncryptionContext:ekskms:cluster-arn")), ":cluster/") ||
			text(list(at(s, "Condition.ForAllValues:StringEquals.kms:EncryptionContextKeys"))) != keys {
			return fmt.Errorf("statement %v allows %v under any context", s["Sid"], used)
		}
	}
	if !found {
		return errors.New("nobody may use the key")
	}
	return nil
}

func (t template) eachKey(check func(resource) error) error {
	for _, id := range t.ofType("AWS::KMS::Key") {
		if err := check(t.resources()[id]); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
	}
	return nil
}

// existing lets a template do without a trail or topic only if its alarms name
// one that exists.
func (t template) existing(what string) error {
	for _, id := range t.ofType("AWS::Events::Rule") {
		rule := t.resources()[id]
		if what == "topic" && strings.HasPrefix(text(at(rule, "Properties.Targets.0.Arn")), "arn:") {
			return nil
		}
		if what == "trail" && strings.Contains(text(at(rule, "Properties.EventPattern.detail.requestParameters.name")), ":trail/") {
			return nil
		}
	}
	return fmt.Errorf("there is no %s", what)
}

func (t template) associations() []resource {
	var all []resource
	for _, id := range t.ofType("AWS::EKS::PodIdentityAssociation") {
		all = append(all, t.resources()[id])
	}
	return all
}

// pluginRole returns the logical ID of the role of the cluster's own plugin.
func (t template) pluginRole() string {
	for _, association := range t.associations() {
		if at(association, "Properties.Namespace") == "ekskms-system" && at(association, "Properties.ServiceAccount") == "kms-plugin" {
			id, _ := at(association, "Properties.RoleArn.Fn::GetAtt.0").(string)
			return id
		}
	}
	return ""
}

// identityStatements returns those of the policies that are attached to a role.
func (t template) identityStatements(role string) []map[string]any {
	var statements []map[string]any
	for _, id := range t.ofType("AWS::IAM::Policy") {
		p := t.resources()[id]
		if text(at(p, "Properties.Roles.0")) != "${"+role+"}" {
			continue
		}
		for _, s := range list(at(p, "Properties.PolicyDocument.Statement")) {
			statements = append(statements, s.(map[string]any))
		}
	}
	return statements
}

// alarms tells whether an enabled rule sends an event to a topic, filtered to
// the key or the trail.
func (t template) alarms(event, source, key string) bool {
	for _, id := range t.ofType("AWS::Events::Rule") {
		rule := t.resources()[id]
		pattern := at(rule, "Properties.EventPattern")
		filter := text(at(pattern, "detail.resources.ARN"))
		if source == "kms" && !strings.Contains(filter, key) && !strings.Contains(filter, strings.Trim(keyReference(key), "${}")) {
			continue
		}
		if source == "cloudtrail" && !strings.Contains(text(at(pattern, "detail.requestParameters")), "trail/") {
			continue
		}
		if at(rule, "Properties.State") == "ENABLED" && at(rule, "Properties.Targets.0.Arn") != nil &&
			slices.Contains(list(at(pattern, "detail.eventName")), any(event)) &&
			slices.Contains(list(at(pattern, "source")), any("aws."+source)) {
			return true
		}
	}
	return false
}

// keyReference turns ${Key.Arn} into what a list with it holds as JSON.
func keyReference(key string) string {
	id := strings.TrimSuffix(strings.TrimPrefix(key, "${"), ".Arn}")
	return `{"Fn::GetAtt":["` + id + `","Arn"]`
}

// kubernetesObjects returns all objects that the template applies to the
// cluster. References are flattened to ${...}.
func (t template) kubernetesObjects() []any {
	var all []any
	for _, id := range t.ofType("Custom::AWSCDK-EKS-KubernetesResource") {
		var objects []any
		if err := json.Unmarshal([]byte(text(at(t.resources()[id], "Properties.Manifest"))), &objects); err != nil {
			panic(fmt.Sprintf("%s: %v", id, err))
		}
		all = append(all, objects...)
	}
	return all
}

// ofSets tells whether a statement is for roles of permission sets alone.
func ofSets(statement map[string]any) bool {
	arns := list(at(statement, "Condition.ArnLike.aws:PrincipalArn"))
	return len(arns) > 0 && !slices.ContainsFunc(arns, func(arn any) bool {
		return !strings.HasPrefix(text(arn), "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/")
	})
}

func TestProperties(t *testing.T) {
	for name, template := range templates {
		for property, check := range properties {
			t.Run(name+"/"+property, func(t *testing.T) {
				if err := check(template); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
