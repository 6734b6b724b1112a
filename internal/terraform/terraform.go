// Package terraform writes a configured cluster as a Terraform root module, or its
// key alone as a module to use beside others.
//
// It uses resources of the provider hashicorp/aws and nothing else. What they say comes
// from the blueprint, as it does for the CDK constructs; test/parity holds the results
// to each other.
package terraform

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/place"
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
func Generate(cluster blueprint.Cluster) ([]File, error) {
	m := newModule(cluster)
	if m.c.Key.ARN == "" { // else by its path: the role does not exist yet when the owner is asked
		m.c.Refs.ClusterRole = reference("aws_iam_role.cluster.arn")
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
func GenerateKey(cluster blueprint.Cluster) ([]File, error) {
	if cluster.Key.ARN != "" {
		return nil, fmt.Errorf("key.arn of the configuration is %s, an existing key: there is no key to make a module of", cluster.Key.ARN)
	}
	m := newModule(cluster)
	return m.finish([]*file{m.versions(false), m.place(), m.key(), m.plugin(false), m.keyOutputs()}), nil
}

// module is a module that is being written.
type module struct {
	c         blueprint.Cluster
	variables *file
	// asksCreators says that the configuration names no creators: they are a variable.
	asksCreators bool
	// account and region are where the configuration has the cluster, or empty.
	account, region string
}

func newModule(c blueprint.Cluster) *module {
	m := &module{variables: newFile("variables.tf"), asksCreators: len(c.Creators) == 0}
	if m.asksCreators {
		c.Creators = []string{listRef("var.creator_arns")}
	}
	if c.At.Region != nil {
		m.account, m.region = c.At.Account.Text(), c.At.Region.Text()
	}
	c.At = place.Place{
		Partition: reference("local.partition"),
		Account:   reference("local.account_id"),
		Region:    reference("local.region"),
		DNSSuffix: reference("data.aws_partition.current.dns_suffix"),
	}
	c.Refs.Key = reference("aws_kms_key.secrets.arn")
	if c.Plugin != nil {
		c.Refs.PluginRole = reference("aws_iam_role.plugin.arn")
		c.Refs.TenantRole = func(name string) place.Value {
			return reference(fmt.Sprintf("aws_iam_role.tenant[%q].arn", name))
		}
	}
	m.c = c
	if m.asksCreators {
		m.variables.add("", "variable", []string{"creator_arns"}, func(b body) {
			b.set("description", "ARNs of the IAM roles that may create the cluster under the key: those whose credentials run terraform apply. At most 10.")
			b.set("type", raw("list(string)"))
			b.block("validation", nil, func(b body) {
				b.set("condition", raw(fmt.Sprintf("length(var.creator_arns) >= 1 && length(var.creator_arns) <= %d", blueprint.MaxRoles)))
				b.set("error_message", fmt.Sprintf("Name 1 to %d roles.", blueprint.MaxRoles))
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
	if root && (m.region != "" || len(m.c.Tags) > 0) {
		f.add("", "provider", []string{"aws"}, func(b body) {
			if m.region != "" {
				b.set("region", m.region)
				b.set("allowed_account_ids", []string{m.account})
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
	account, region := any(m.account), any(m.region)
	if m.region == "" {
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

// prefix is the beginning of a name whose rest the provider makes up, so that
// clusters of one name in two Regions do not meet. IAM and EventBridge leave 38
// characters for it.
func prefix(cluster, what string) string {
	return cut(cluster, 36-min(len(what), 20)) + "-" + cut(what, 20) + "-"
}

func cut(s string, n int) string { return strings.TrimRight(s[:min(len(s), n)], "-_") }

// own is the policy of a role's own: its name says what it is about.
type own struct{ name, comment string }

// role writes a role, its policies of AWS and its own.
func (m *module) role(f *file, comment, name string, r blueprint.Role, o own) {
	m.eachRole(f, comment, name, r, o, "")
}

// eachRole is [module.role] for each element of a map, if one is named.
func (m *module) eachRole(f *file, comment, name string, r blueprint.Role, o own, each string) {
	index := ""
	forEach := func(b body) {
		if each != "" {
			b.set("for_each", raw(each))
		}
	}
	if each != "" {
		index = "[each.key]"
	}
	f.resource(comment, "aws_iam_role", name, func(b body) {
		forEach(b)
		b.set("name_prefix", prefix(m.c.Name, name))
		if r.Path != "" && r.Path != "/" {
			b.set("path", r.Path)
		}
		b.set("description", r.Description)
		b.set("assume_role_policy", policy([]iampolicy.Statement{r.Trust}))
	})
	if len(r.Managed) > 0 {
		f.resource("", "aws_iam_role_policy_attachment", name, func(b body) {
			b.set("for_each", call{"toset", []any{r.Managed}})
			b.set("role", raw("aws_iam_role."+name+".name"))
			b.set("policy_arn", m.c.At.ManagedPolicy(ref("each.value")))
		})
	}
	if len(r.Policy) > 0 {
		f.resource(o.comment, "aws_iam_role_policy", name, func(b body) {
			forEach(b)
			b.set("name", o.name)
			b.set("role", raw("aws_iam_role."+name+index+".id"))
			b.set("policy", policy(r.Policy))
		})
	}
}

// kmsKey writes a key and its alias.
func (m *module) kmsKey(f *file, comment, name string, key blueprint.KeySpec) {
	f.resource(comment, "aws_kms_key", name, func(b body) {
		b.set("description", key.Description)
		b.set("enable_key_rotation", true)
		b.set("rotation_period_in_days", key.RotationDays)
		b.set("deletion_window_in_days", key.PendingDays)
		b.set("multi_region", key.MultiRegion)
		b.set("policy", policy(key.Statements))
		b.retain()
	})
	f.resource("", "aws_kms_alias", name, func(b body) {
		b.set("name", key.Alias)
		b.set("target_key_id", raw("aws_kms_key."+name+".key_id"))
	})
}

func (m *module) key() *file {
	f := newFile("key.tf")
	if m.c.Key.ARN != "" {
		return f
	}
	m.kmsKey(f, "The CMK of the secrets. No action and no principal of its policy is a wildcard, and\n"+
		"the account itself can administer it but not use it.", "secrets", m.c.SecretsKey())
	return f
}

func (m *module) cluster() *file {
	f := newFile("cluster.tf")
	auto := m.c.AutoMode()
	m.role(f, "Only EKS, and only for this cluster, can assume it.", "cluster", m.c.ClusterRole(),
		own{"key", "The policy of the existing key lets the role in only if this does too."})
	waits := []string{"aws_cloudwatch_log_group.control_plane", "aws_iam_role_policy_attachment.cluster"}
	if m.c.Key.ARN != "" {
		waits = append(waits, "aws_iam_role_policy.cluster")
	}
	if m.c.Network.ID == "" {
		waits = append(waits, "aws_route.private") // nodes must reach AWS from the first
	}

	m.kmsKey(f, "The key of the control plane's logs.", "logs", m.c.LogsKey())
	m.logGroup(f, "EKS writes here. If it were not there, EKS would make one without a key and without an end.",
		"control_plane", m.c.ControlPlaneLogs(), "aws_kms_key.logs.arn")

	f.resource("", "aws_eks_cluster", "this", func(b body) {
		b.set("name", m.c.Name)
		b.set("version", m.c.KubernetesVersion)
		b.set("role_arn", raw("aws_iam_role.cluster.arn"))
		b.set("enabled_cluster_log_types", blueprint.LogTypes)
		if auto {
			b.set("bootstrap_self_managed_addons", false) // Auto Mode has its own
		}
		b.block("access_config", nil, func(b body) {
			b.set("authentication_mode", blueprint.AuthenticationMode)
			b.set("bootstrap_cluster_creator_admin_permissions", false)
		})
		b.block("encryption_config", nil, func(b body) {
			b.set("resources", []string{"secrets"})
			b.block("provider", nil, func(b body) { b.set("key_arn", m.c.KeyARN()) })
		})
		b.block("vpc_config", nil, func(b body) {
			b.set("subnet_ids", m.subnets())
			b.set("endpoint_private_access", true)
			b.set("endpoint_public_access", len(m.c.PublicCIDRs) > 0)
			if len(m.c.PublicCIDRs) > 0 {
				b.set("public_access_cidrs", m.c.PublicCIDRs)
			}
		})
		b.block("compute_config", nil, func(b body) {
			b.set("enabled", auto)
			if auto {
				b.set("node_pools", blueprint.NodePools)
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
	if m.c.Network.ID != "" {
		return m.c.Network.SubnetIDs
	}
	return raw("[for key in sort(keys(aws_subnet.private)) : aws_subnet.private[key].id]")
}

func (m *module) logGroup(f *file, comment, name string, group blueprint.LogGroup, key string) {
	f.resource(comment, "aws_cloudwatch_log_group", name, func(b body) {
		b.set("name", group.Name)
		b.set("retention_in_days", group.Days)
		b.set("kms_key_id", raw(key))
		b.retain()
	})
}

// access writes the access entries, by the ARNs of their principals, so that the
// order in the configuration does not matter.
func (m *module) access(f *file) {
	entries := map[string]any{}
	for _, e := range m.c.AllAccessEntries() {
		entry := map[string]any{"groups": append([]string{}, e.Groups...), "policy": raw("null"), "scope": raw("null"), "namespaces": raw("null")}
		if e.Policy != "" {
			entry["policy"], entry["scope"] = e.Policy, "cluster"
		}
		if len(e.Namespaces) > 0 {
			entry["scope"], entry["namespaces"] = "namespace", e.Namespaces
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
		b.set("policy_arn", m.c.At.AccessPolicy(ref("each.value.policy")))
		b.block("access_scope", nil, func(b body) {
			b.set("type", raw("each.value.scope"))
			b.set("namespaces", raw("each.value.namespaces"))
		})
	})
}

func (m *module) nodes(f *file, auto bool) {
	m.role(f, "", "nodes", m.c.NodeRole(), own{})
	if auto {
		return
	}
	for _, a := range m.c.AddOns() {
		f.resource("", "aws_eks_addon", snake(a.ID), func(b body) {
			b.set("cluster_name", raw("aws_eks_cluster.this.name"))
			b.set("addon_name", a.Name)
			if a.Settings != nil {
				b.set("configuration_values", jsonencode(a.Settings))
			}
			if a.Overwrite {
				b.set("resolve_conflicts_on_create", "OVERWRITE")
				b.set("resolve_conflicts_on_update", "OVERWRITE")
			}
		})
	}
	group := m.c.NodeGroup
	f.resource("", "aws_eks_node_group", "this", func(b body) {
		b.set("cluster_name", raw("aws_eks_cluster.this.name"))
		b.set("node_group_name_prefix", prefix(m.c.Name, "nodes"))
		b.set("node_role_arn", raw("aws_iam_role.nodes.arn"))
		b.set("subnet_ids", m.subnets())
		b.set("ami_type", blueprint.AMIType(group.Architecture()))
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

// snake is an ID of the template as Terraform writes names.
func snake(id string) string {
	b := &strings.Builder{}
	for i, r := range id {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// plugin writes the roles of the plugins, and in a root module the associations
// that give them to pods.
func (m *module) plugin(root bool) *file {
	f := newFile("plugin.tf")
	if m.c.Plugin == nil {
		return f
	}
	associate := func(name string, each bool, namespace, serviceAccount string) {
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
			b.set("namespace", namespace)
			b.set("service_account", serviceAccount)
			b.set("role_arn", role)
		})
	}
	session := m.c.Session()
	m.role(f, "Only EKS Pod Identity, and only for the plugin's pods on this cluster, can assume it.", "plugin", m.c.PluginRole(), own{name: "key"})
	associate("plugin", false, session.Namespace, session.ServiceAccount)
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
	each := blueprint.Tenant{Name: ref("each.key"), Namespace: ref("each.value.namespace"), ServiceAccount: ref("each.value.service_account")}
	m.eachRole(f, "", "tenant", m.c.TenantRole(each), own{name: "key"}, "local.tenants")
	associate("tenant", true, each.Namespace, each.ServiceAccount)
	return f
}
