// Package terraform writes a configured cluster as a Terraform root module, or its
// key alone as a module to use beside others.
//
// It uses resources of the provider hashicorp/aws and nothing else. Policies,
// alarms and Kubernetes objects come from the same packages as those of the CDK
// constructs; test/parity holds the results to each other.
package terraform

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/model"
	"github.com/ekskms/ekskms/internal/names"
)

// The versions that the module asks for. terraform_data came with Terraform 1.4,
// and compute_config of aws_eks_cluster with provider 5.79.
const (
	requiredVersion = ">= 1.5.0"
	providerVersion = ">= 5.100.0, < 7.0.0"
)

// File is a file of the module.
type File struct {
	Name    string
	Content []byte
}

// Generate returns the root module of a cluster.
func Generate(cluster config.Cluster) ([]File, error) {
	m := newModule(cluster)
	m.roles.Cluster = ref("aws_iam_role.cluster.arn")
	if m.c.Key.ARN != "" {
		m.roles.Cluster = "" // by its path: the role does not exist yet when the owner is asked
	}
	kubernetes, err := m.kubernetes()
	if err != nil {
		return nil, err
	}
	files := []*file{m.versions(true), m.place(), m.network(), m.key(), m.cluster(), m.audit(), m.plugin(true), kubernetes, m.outputs(!kubernetes.empty)}
	return m.finish(files), nil
}

// GenerateKey returns a module with the key and the identity of the plugin, to be
// used beside terraform-aws-eks. It makes no cluster, so the key policy names the
// cluster's role by its path.
func GenerateKey(cluster config.Cluster) ([]File, error) {
	if cluster.Key.ARN != "" {
		return nil, fmt.Errorf("key.arn of the configuration is %s, an existing key: there is no key to make a module of", cluster.Key.ARN)
	}
	m := newModule(cluster)
	return m.finish([]*file{m.versions(false), m.place(), m.key(), m.plugin(false), m.keyOutputs()}), nil
}

// module is a module that is being written.
type module struct {
	c         model.Cluster
	roles     model.KeyRoles
	keyARN    string
	variables *file
	// asksCreators says that the configuration names no creators: they are a variable.
	asksCreators bool
}

func newModule(cluster config.Cluster) *module {
	m := &module{variables: newFile("variables.tf"), asksCreators: len(cluster.Creators) == 0}
	if m.asksCreators {
		cluster.Creators = []string{listRef("var.creator_arns")}
	}
	m.c = model.Cluster{Cluster: cluster, Place: model.Place{
		Partition: ref("local.partition"),
		Account:   ref("local.account_id"),
		Region:    ref("local.region"),
		DNSSuffix: ref("data.aws_partition.current.dns_suffix"),
	}}
	m.keyARN = cluster.Key.ARN
	if m.keyARN == "" {
		m.keyARN = ref("aws_kms_key.secrets.arn")
	}
	m.roles.Plugin = ref("aws_iam_role.plugin.arn")
	m.roles.Tenant = func(name string) string { return ref(fmt.Sprintf("aws_iam_role.tenant[%q].arn", name)) }
	if m.asksCreators {
		m.variables.add("", "variable", []string{"creator_arns"}, func(b body) {
			b.set("description", "ARNs of the IAM roles that may create the cluster under the key: those whose credentials run terraform apply. At most 10.")
			b.set("type", raw("list(string)"))
			b.block("validation", nil, func(b body) {
				b.set("condition", raw(fmt.Sprintf("length(var.creator_arns) >= 1 && length(var.creator_arns) <= %d", keypolicy.MaxRoles)))
				b.set("error_message", fmt.Sprintf("Name 1 to %d roles.", keypolicy.MaxRoles))
			})
			b.block("validation", nil, func(b body) {
				b.set("condition", raw(`alltrue([for arn in var.creator_arns : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/[0-9A-Za-z_+=,.@/-]+$", arn))])`))
				b.set("error_message", "Each must be the ARN of an IAM role. A session, such as arn:aws:sts::111122223333:assumed-role/Deployer/me, belongs to arn:aws:iam::111122223333:role/Deployer.")
			})
		})
	}
	return m
}

func (m *module) finish(files []*file) []File {
	var out []File
	for _, f := range slices.Insert(files, 1, m.variables) {
		if f.empty {
			continue
		}
		out = append(out, File{Name: f.name, Content: f.content()})
	}
	return out
}

func (m *module) versions(root bool) *file {
	f := newFile("versions.tf")
	f.add("", "terraform", nil, func(b body) {
		b.set("required_version", requiredVersion)
		b.block("required_providers", nil, func(b body) {
			b.set("aws", map[string]any{"source": "hashicorp/aws", "version": providerVersion})
		})
	})
	if root && (m.c.Region != "" || len(m.c.Tags) > 0) {
		f.add("", "provider", []string{"aws"}, func(b body) {
			if m.c.Region != "" {
				b.set("region", m.c.Region)
				b.set("allowed_account_ids", []string{m.c.Account})
			}
			if len(m.c.Tags) > 0 {
				b.block("default_tags", nil, func(b body) { b.set("tags", plain(m.c.Tags)) })
			}
		})
	}
	return f
}

// place says where the module is applied.
func (m *module) place() *file {
	f := newFile("main.tf")
	f.data("aws_partition", "current", func(body) {})
	account, region := any(m.c.Account), any(m.c.Region)
	if m.c.Region == "" {
		m.variables.add("", "variable", []string{"account_id"}, func(b body) {
			b.set("description", "AWS account of the cluster. Default: that of the credentials.")
			b.set("type", raw("string"))
			b.set("default", raw("null"))
		})
		f.data("aws_caller_identity", "current", func(b body) { b.set("count", raw("var.account_id == null ? 1 : 0")) })
		f.data("aws_region", "current", func(body) {})
		account = raw("var.account_id != null ? var.account_id : data.aws_caller_identity.current[0].account_id")
		region = raw("data.aws_region.current.id")
	}
	f.add("", "locals", nil, func(b body) {
		b.set("partition", raw("data.aws_partition.current.partition"))
		b.set("account_id", account)
		b.set("region", region)
	})
	return f
}

// policy is a policy document.
func policy(statements []iampolicy.Statement) call {
	return jsonencode(plain(iampolicy.NewDocument(statements...)))
}

// trust is a role's trust in an AWS service, without conditions.
func trust(service string) call {
	return policy([]iampolicy.Statement{{
		Effect:    iampolicy.Allow,
		Principal: iampolicy.Principal{Service: iampolicy.Values{service}},
		Action:    iampolicy.Values{"sts:AssumeRole"},
	}})
}

// prefix is the beginning of a name whose rest the provider makes up, so that
// clusters of one name in two Regions do not meet. IAM and EventBridge leave 38
// characters for it.
func prefix(cluster, what string) string {
	return cut(cluster, 36-min(len(what), 20)) + "-" + cut(what, 20) + "-"
}

func cut(s string, n int) string { return strings.TrimRight(s[:min(len(s), n)], "-_") }

func (m *module) role(f *file, comment, name, what, description, path string, trust any) {
	f.resource(comment, "aws_iam_role", name, func(b body) {
		b.set("name_prefix", prefix(m.c.Name, what))
		if path != "/" {
			b.set("path", path)
		}
		b.set("description", description)
		b.set("assume_role_policy", trust)
	})
}

// attach gives a role policies that AWS manages.
func (m *module) attach(f *file, role string, policies ...string) {
	f.resource("", "aws_iam_role_policy_attachment", role, func(b body) {
		b.set("for_each", call{"toset", []any{policies}})
		b.set("role", raw("aws_iam_role."+role+".name"))
		b.set("policy_arn", m.c.Place.ManagedPolicyARN(ref("each.value")))
	})
}

// kmsKey writes a key and its alias.
func (m *module) kmsKey(f *file, comment, name, alias, description string, key config.Key, policy any) {
	f.resource(comment, "aws_kms_key", name, func(b body) {
		b.set("description", description)
		b.set("enable_key_rotation", true)
		b.set("rotation_period_in_days", key.RotationPeriodDays)
		b.set("deletion_window_in_days", key.PendingWindowDays)
		b.set("multi_region", key.MultiRegion)
		b.set("policy", policy)
		b.retain()
	})
	f.resource("", "aws_kms_alias", name, func(b body) {
		b.set("name", alias)
		b.set("target_key_id", raw("aws_kms_key."+name+".key_id"))
	})
}

// supportKey is how the keys around the secrets key are set up.
var supportKey = config.Key{RotationPeriodDays: 90, PendingWindowDays: 30}

func (m *module) key() *file {
	f := newFile("key.tf")
	if m.c.Key.ARN != "" {
		return f
	}
	m.kmsKey(f, "The CMK of the secrets. No action and no principal of its policy is a wildcard, and\n"+
		"the account itself can administer it but not use it.",
		"secrets", m.c.Alias(), "Encrypts the Kubernetes secrets of EKS cluster "+m.c.Name, m.c.Key, policy(m.c.KeyStatements(m.roles)))
	return f
}

func (m *module) cluster() *file {
	f := newFile("cluster.tf")
	auto := m.c.Capacity.Mode == config.CapacityAuto
	path := "/"
	if m.c.Key.ARN != "" {
		path = names.ClusterRolePath(m.c.Name)
	}
	m.role(f, "Only EKS, and only for this cluster, can assume it.", "cluster", "cluster", "Role of EKS cluster "+m.c.Name, path,
		policy([]iampolicy.Statement{keypolicy.ClusterTrust(m.c.Place.Account, m.c.ARN(), auto)}))
	policies := []string{"AmazonEKSClusterPolicy"}
	if auto {
		policies = append(policies, "AmazonEKSComputePolicy", "AmazonEKSBlockStoragePolicy", "AmazonEKSLoadBalancingPolicy", "AmazonEKSNetworkingPolicy")
	}
	m.attach(f, "cluster", policies...)
	waits := []string{"aws_cloudwatch_log_group.control_plane", "aws_iam_role_policy_attachment.cluster"}
	if m.c.Key.ARN != "" {
		f.resource("The policy of the existing key lets the role in only if this does too.", "aws_iam_role_policy", "cluster", func(b body) {
			b.set("name", "key")
			b.set("role", raw("aws_iam_role.cluster.id"))
			b.set("policy", policy([]iampolicy.Statement{keypolicy.ClusterRole("").OnResource(m.c.Key.ARN)}))
		})
		waits = append(waits, "aws_iam_role_policy.cluster")
	}
	if m.c.VPC.ID == "" {
		waits = append(waits, "aws_route.private") // nodes must reach AWS from the first
	}

	m.kmsKey(f, "The key of the control plane's logs.", "logs", names.LogsAlias(m.c.Name),
		"Encrypts the control-plane logs of EKS cluster "+m.c.Name, supportKey, policy(m.c.LogsKey().Statements()))
	m.logGroup(f, "EKS writes here. If it were not there, EKS would make one without a key and without an end.",
		"control_plane", names.ControlPlaneLogGroup(m.c.Name), m.c.Audit.ControlPlaneLogRetentionDays, "aws_kms_key.logs.arn")

	f.resource("", "aws_eks_cluster", "this", func(b body) {
		b.set("name", m.c.Name)
		b.set("version", m.c.KubernetesVersion)
		b.set("role_arn", raw("aws_iam_role.cluster.arn"))
		b.set("enabled_cluster_log_types", []string{"api", "audit", "authenticator", "controllerManager", "scheduler"})
		if auto {
			b.set("bootstrap_self_managed_addons", false) // Auto Mode has its own
		}
		b.block("access_config", nil, func(b body) {
			b.set("authentication_mode", "API")
			b.set("bootstrap_cluster_creator_admin_permissions", false)
		})
		b.block("encryption_config", nil, func(b body) {
			b.set("resources", []string{"secrets"})
			b.block("provider", nil, func(b body) { b.set("key_arn", m.keyARN) })
		})
		b.block("vpc_config", nil, func(b body) {
			b.set("subnet_ids", m.subnets())
			b.set("endpoint_private_access", true)
			b.set("endpoint_public_access", m.c.Endpoint.Access == config.EndpointPublicAndPrivate)
			if m.c.Endpoint.Access == config.EndpointPublicAndPrivate {
				b.set("public_access_cidrs", m.c.Endpoint.PublicCIDRs)
			}
		})
		b.block("compute_config", nil, func(b body) {
			b.set("enabled", auto)
			if auto {
				b.set("node_pools", []string{"general-purpose", "system"})
				b.set("node_role_arn", raw("aws_iam_role.nodes.arn"))
			}
		})
		b.block("kubernetes_network_config", nil, func(b body) {
			b.set("ip_family", "ipv4")
			b.block("elastic_load_balancing", nil, func(b body) { b.set("enabled", auto) })
		})
		b.block("storage_config", nil, func(b body) {
			b.block("block_storage", nil, func(b body) { b.set("enabled", auto) })
		})
		b.retain()
		b.set("depends_on", rawList(waits))
	})
	m.access(f)
	m.nodes(f, auto)
	return f
}

func (m *module) subnets() any {
	if m.c.VPC.ID != "" {
		return m.c.VPC.SubnetIDs
	}
	return raw("[for key in sort(keys(aws_subnet.private)) : aws_subnet.private[key].id]")
}

func (m *module) logGroup(f *file, comment, name, group string, days int, key string) {
	f.resource(comment, "aws_cloudwatch_log_group", name, func(b body) {
		b.set("name", group)
		b.set("retention_in_days", days)
		b.set("kms_key_id", raw(key))
		b.retain()
	})
}

// access writes the access entries, by the ARNs of their principals, so that the
// order in the configuration does not matter.
func (m *module) access(f *file) {
	entries := map[string]any{}
	for _, e := range m.c.AccessEntries() {
		entry := map[string]any{"groups": e.Groups, "policy": e.Policy, "scope": e.Scope.Type, "namespaces": e.Scope.Namespaces}
		if e.Groups == nil {
			entry["groups"] = []string{}
		}
		if e.Policy == "" {
			entry["policy"], entry["scope"] = raw("null"), raw("null")
		}
		if e.Scope.Type != config.ScopeNamespace {
			entry["namespaces"] = raw("null")
		}
		entries[e.PrincipalARN] = entry
	}
	if len(entries) == 0 {
		return
	}
	f.add("Who may use the Kubernetes API. Nobody else may, whoever applies this included.", "locals", nil, func(b body) {
		b.set("access_entries", entries)
	})
	f.resource("", "aws_eks_access_entry", "this", func(b body) {
		b.set("for_each", raw("local.access_entries"))
		b.set("cluster_name", raw("aws_eks_cluster.this.name"))
		b.set("principal_arn", raw("each.key"))
		b.set("kubernetes_groups", raw("each.value.groups"))
		b.set("type", "STANDARD")
	})
	f.resource("", "aws_eks_access_policy_association", "this", func(b body) {
		b.set("for_each", raw("{ for arn, entry in local.access_entries : arn => entry if entry.policy != null }"))
		b.set("cluster_name", raw("aws_eks_cluster.this.name"))
		b.set("principal_arn", raw("aws_eks_access_entry.this[each.key].principal_arn"))
		b.set("policy_arn", m.c.Place.AccessPolicyARN(ref("each.value.policy")))
		b.block("access_scope", nil, func(b body) {
			b.set("type", raw("each.value.scope"))
			b.set("namespaces", raw("each.value.namespaces"))
		})
	})
}

func (m *module) nodes(f *file, auto bool) {
	m.role(f, "", "nodes", "nodes", "Role of the nodes of EKS cluster "+m.c.Name, "/", trust("ec2.amazonaws.com"))
	if auto {
		m.attach(f, "nodes", "AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryReadOnly")
		return
	}
	m.attach(f, "nodes", "AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryReadOnly")
	addon := func(name, addon string, fill func(body)) {
		f.resource("", "aws_eks_addon", name, func(b body) {
			b.set("cluster_name", raw("aws_eks_cluster.this.name"))
			b.set("addon_name", addon)
			fill(b)
		})
	}
	addon("pod_identity_agent", "eks-pod-identity-agent", func(body) {})
	addon("vpc_cni", "vpc-cni", func(b body) {
		b.set("configuration_values", jsonencode(map[string]any{"enableNetworkPolicy": "true"}))
		b.set("resolve_conflicts_on_create", "OVERWRITE")
		b.set("resolve_conflicts_on_update", "OVERWRITE")
	})
	group := m.c.Capacity.NodeGroup
	ami := "AL2023_x86_64_STANDARD"
	if group.Architecture() == config.ArchitectureARM64 {
		ami = "AL2023_ARM_64_STANDARD"
	}
	f.resource("", "aws_eks_node_group", "this", func(b body) {
		b.set("cluster_name", raw("aws_eks_cluster.this.name"))
		b.set("node_group_name_prefix", prefix(m.c.Name, "nodes"))
		b.set("node_role_arn", raw("aws_iam_role.nodes.arn"))
		b.set("subnet_ids", m.subnets())
		b.set("ami_type", ami)
		b.set("instance_types", group.InstanceTypes)
		b.set("force_update_version", true)
		b.block("scaling_config", nil, func(b body) {
			b.set("min_size", group.MinSize)
			b.set("max_size", group.MaxSize)
			b.set("desired_size", group.DesiredSize)
		})
		b.set("depends_on", raw("[aws_eks_addon.vpc_cni, aws_iam_role_policy_attachment.nodes]"))
	})
}

// plugin writes the roles of the plugins, and in a root module the associations
// that give them to pods.
func (m *module) plugin(root bool) *file {
	f := newFile("plugin.tf")
	if !m.c.Plugin.Enabled {
		return f
	}
	session := m.c.Session()
	use := func(statements []iampolicy.Statement) any { return policy(iampolicy.OnResource(statements, m.keyARN)) }
	associate := func(name string, each bool, session keypolicy.PodSession) {
		if !root {
			return
		}
		f.resource("", "aws_eks_pod_identity_association", name, func(b body) {
			role := raw("aws_iam_role." + name + ".arn")
			if each {
				b.set("for_each", raw("local.tenants"))
				role = raw("aws_iam_role." + name + "[each.key].arn")
			}
			b.set("cluster_name", raw("aws_eks_cluster.this.name"))
			b.set("namespace", session.Namespace)
			b.set("service_account", session.ServiceAccount)
			b.set("role_arn", role)
		})
	}
	m.role(f, "Only EKS Pod Identity, and only for the plugin's pods on this cluster, can assume it.", "plugin", "plugin",
		"Lets the KMS plugin on EKS cluster "+m.c.Name+" use the key of its secrets", "/",
		policy([]iampolicy.Statement{keypolicy.PluginTrust(session)}))
	f.resource("", "aws_iam_role_policy", "plugin", func(b body) {
		b.set("name", "key")
		b.set("role", raw("aws_iam_role.plugin.id"))
		b.set("policy", use(keypolicy.PluginUse("", keypolicy.ClusterContext(session.ClusterARN), &session)))
	})
	associate("plugin", false, session)
	if len(m.c.Plugin.Tenants) == 0 {
		return f
	}
	tenants := map[string]any{}
	for _, t := range m.c.Plugin.Tenants {
		tenants[t.Name] = map[string]any{"namespace": t.Namespace, "service_account": t.ServiceAccount}
	}
	f.add("The hosted control planes, each with an identity and an encryption context of its own.", "locals", nil, func(b body) {
		b.set("tenants", tenants)
	})
	each := keypolicy.PodSession{ClusterARN: m.c.ARN(), Namespace: ref("each.value.namespace"), ServiceAccount: ref("each.value.service_account")}
	f.resource("", "aws_iam_role", "tenant", func(b body) {
		b.set("for_each", raw("local.tenants"))
		b.set("name_prefix", prefix(m.c.Name, "tenant"))
		b.set("description", "Lets the KMS plugin of tenant "+ref("each.key")+" on EKS cluster "+m.c.Name+" use the key of the cluster")
		b.set("assume_role_policy", policy([]iampolicy.Statement{keypolicy.PluginTrust(each)}))
	})
	f.resource("", "aws_iam_role_policy", "tenant", func(b body) {
		b.set("for_each", raw("local.tenants"))
		b.set("name", "key")
		b.set("role", raw("aws_iam_role.tenant[each.key].id"))
		b.set("policy", use(keypolicy.TenantUse([]keypolicy.Tenant{{Name: ref("each.key"), Session: each}})))
	})
	associate("tenant", true, each)
	return f
}
