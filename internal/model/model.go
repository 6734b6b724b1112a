// Package model makes of a configuration what the renderers beside CloudFormation
// need: policies, alarms and Kubernetes objects. The constructs put the same
// pieces together in the order in which CDK calls come; test/parity holds the two
// to each other.
//
// All strings of a [Place], and all ARNs, may be tokens of the renderer: nothing
// here looks inside them.
package model

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/internal/names"
	"github.com/ekskms/ekskms/internal/tamper"
)

// Place is where a cluster is.
type Place struct {
	Partition, Account, Region string
	// DNSSuffix is that of the partition, such as amazonaws.com.
	DNSSuffix string
}

// ARN returns the ARN of a resource in the place.
func (p Place) ARN(service, resource string) string {
	return "arn:" + p.Partition + ":" + service + ":" + p.Region + ":" + p.Account + ":" + resource
}

// Service returns the endpoint name of a service, which is also the name of some
// service principals and of kms:ViaService.
func (p Place) Service(name string) string { return name + "." + p.Region + "." + p.DNSSuffix }

// AccessPolicyARN returns the ARN of an EKS access policy.
func (p Place) AccessPolicyARN(name string) string {
	return "arn:" + p.Partition + ":eks::aws:cluster-access-policy/" + name
}

// ManagedPolicyARN returns the ARN of an IAM policy that AWS manages.
func (p Place) ManagedPolicyARN(name string) string {
	return "arn:" + p.Partition + ":iam::aws:policy/" + name
}

// Cluster is a configured cluster in its place. A renderer that has a default for
// the creators of a configuration that names none sets it here.
type Cluster struct {
	config.Cluster
	Place Place
}

// ARN returns the ARN of the cluster.
func (c Cluster) ARN() string { return c.Place.ARN("eks", "cluster/"+c.Name) }

// Alias returns the alias of a new key, or "" for an existing one.
func (c Cluster) Alias() string {
	switch {
	case c.Key.ARN != "":
		return ""
	case c.Key.Alias != "":
		return c.Key.Alias
	}
	return names.SecretsAlias(c.Name)
}

// Session returns the identity of the plugin's own pods.
func (c Cluster) Session() keypolicy.PodSession {
	return keypolicy.PodSession{ClusterARN: c.ARN(), Namespace: manifest.DefaultNamespace, ServiceAccount: manifest.DefaultServiceAccount}
}

// Tenants returns the plugins of the tenants, with their roles by name.
func (c Cluster) Tenants(roleARN func(tenant string) string) []keypolicy.Tenant {
	tenants := make([]keypolicy.Tenant, len(c.Plugin.Tenants))
	for i, t := range c.Plugin.Tenants {
		tenants[i] = keypolicy.Tenant{Name: t.Name, RoleARN: roleARN(t.Name), Session: keypolicy.PodSession{
			ClusterARN: c.ARN(), Namespace: t.Namespace, ServiceAccount: t.ServiceAccount,
		}}
	}
	return tenants
}

// KeyRoles are the roles that the policy of the secrets key names beside those of
// the configuration. What is empty is left out of the policy.
type KeyRoles struct {
	// Cluster is the role of the cluster. Without it, those under
	// names.ClusterRolePath are named by their pattern.
	Cluster string
	Plugin  string
	// Tenant returns the role of a tenant's plugin.
	Tenant func(tenant string) string
}

// KeyStatements returns the whole policy of the key, which the account that owns it
// administers: that of an existing key may be another than the cluster's.
func (c Cluster) KeyStatements(roles KeyRoles) []iampolicy.Statement {
	owner := c.Place.Account
	if parts := strings.Split(c.Key.ARN, ":"); len(parts) > 4 {
		owner = parts[4]
	}
	statements := []iampolicy.Statement{keypolicy.Account(c.Place.Partition, owner, c.Key.MultiRegion)}
	return append(statements, c.AddedStatements(roles)...)
}

// AddedStatements returns what the policy of a key needs for the cluster beside
// the administration by its account: the owner of an existing key adds these.
func (c Cluster) AddedStatements(roles KeyRoles) []iampolicy.Statement {
	var statements []iampolicy.Statement
	if len(c.Administrators) > 0 {
		statements = append(statements, keypolicy.Administrators(c.Administrators, c.Key.MultiRegion))
	}
	if len(c.Creators) > 0 {
		statements = append(statements, c.CreatorStatements()...)
	}
	if roles.Cluster != "" {
		statements = append(statements, keypolicy.ClusterRole(roles.Cluster))
	} else {
		statements = append(statements, keypolicy.FutureClusterRole(c.Place.Partition, c.Place.Account, c.ClusterRolePattern()))
	}
	if !c.Plugin.Enabled {
		return statements
	}
	if roles.Plugin != "" {
		session := c.Session()
		statements = append(statements, keypolicy.PluginUse(roles.Plugin, keypolicy.ClusterContext(session.ClusterARN), &session)...)
	}
	if len(c.Plugin.Tenants) > 0 && roles.Tenant != nil {
		statements = append(statements, keypolicy.TenantUse(c.Tenants(roles.Tenant))...)
	}
	return statements
}

// CreatorStatements returns what lets the creators create the cluster.
func (c Cluster) CreatorStatements() []iampolicy.Statement {
	var strict *keypolicy.StrictGrants
	if c.Key.StrictGrants {
		strict = &keypolicy.StrictGrants{Account: c.Place.Account, EKSService: c.Place.Service("eks")}
	}
	return keypolicy.ClusterCreators(c.Creators, strict)
}

// ClusterRolePattern matches the ARNs of the roles under names.ClusterRolePath.
func (c Cluster) ClusterRolePattern() string {
	return "arn:" + c.Place.Partition + ":iam::" + c.Place.Account + ":role" + names.ClusterRolePath(c.Name) + "*"
}

// Trail returns the name and the ARN of the trail.
func (c Cluster) Trail() (name, arn string) {
	if c.Audit.TrailARN != "" {
		return c.Audit.TrailARN[strings.LastIndex(c.Audit.TrailARN, "/")+1:], c.Audit.TrailARN
	}
	name = names.Trail(c.Name, c.Place.Region)
	return name, c.Place.ARN("cloudtrail", "trail/"+name)
}

// TopicARN returns the ARN of the topic of the alarms.
func (c Cluster) TopicARN() string {
	if c.Audit.TopicARN != "" {
		return c.Audit.TopicARN
	}
	return c.Place.ARN("sns", names.Topic(c.Name))
}

// AuditKey returns what the audit key is for. The second result is false if there
// is nothing to encrypt: the trail and the topic exist already.
func (c Cluster) AuditKey() (keypolicy.AuditKey, bool) {
	key := keypolicy.AuditKey{Partition: c.Place.Partition, Account: c.Place.Account, ReaderARNs: c.Audit.Readers}
	if c.Audit.TrailARN == "" {
		_, key.TrailARN = c.Trail()
		if c.Audit.CloudWatchLogsRetentionDays != 0 {
			key.LogsService = c.Place.Service("logs")
			key.LogGroupARN = c.Place.ARN("logs", "log-group:"+names.TrailLogGroup(c.Name))
		}
	}
	if c.Audit.TopicARN == "" {
		key.TopicARN = c.TopicARN()
	}
	return key, key.TrailARN != "" || key.TopicARN != ""
}

// LogsKey returns what the key of the control plane's logs is for.
func (c Cluster) LogsKey() keypolicy.LogGroupKey {
	return keypolicy.LogGroupKey{
		Partition:   c.Place.Partition,
		Account:     c.Place.Account,
		LogsService: c.Place.Service("logs"),
		LogGroupARN: c.Place.ARN("logs", "log-group:"+names.ControlPlaneLogGroup(c.Name)),
	}
}

// Alarms returns the alarms on the key and the trail. auditKeyARN is empty if none
// is made.
func (c Cluster) Alarms(keyARN, auditKeyARN string) []tamper.Rule {
	in := tamper.Input{
		ClusterName: c.Name,
		KeyARN:      keyARN,
		CreatorARNs: c.Creators,
		AuditKeyARN: auditKeyARN,
	}
	in.TrailName, in.TrailARN = c.Trail()
	if alias := c.Alias(); alias != "" {
		in.AliasARN = c.Place.ARN("kms", alias)
	}
	return tamper.Rules(in)
}

// AccessEntries returns those of the configuration, and after them those of the
// principals that read secrets, which have groups and no policy. A principal is in
// one of the two only: package config sees to that.
func (c Cluster) AccessEntries() []config.AccessEntry {
	entries := slices.Clone(c.Cluster.AccessEntries)
	for _, r := range c.Secrets.Readers {
		for _, arn := range r.PrincipalARNs {
			i := slices.IndexFunc(entries, func(e config.AccessEntry) bool { return e.PrincipalARN == arn })
			if i < 0 {
				i = len(entries)
				entries = append(entries, config.AccessEntry{PrincipalARN: arn})
			}
			for _, group := range r.Groups {
				if !slices.Contains(entries[i].Groups, group) {
					entries[i].Groups = append(entries[i].Groups, group)
				}
			}
		}
	}
	return entries
}

// Objects returns the Kubernetes objects of the cluster in the order in which to
// apply them: the plugin's, and who may read secrets.
func (c Cluster) Objects(keyARN, image string) ([]runtime.Object, error) {
	var objects []runtime.Object
	if c.Plugin.Enabled {
		if c.Capacity.Mode == config.CapacityAuto {
			// As the constructs do it: constructs/ekskms, EncryptedCluster.
			objects = append(objects, manifest.EnableNetworkPolicies())
		}
		in := manifest.PluginInput{
			ClusterName:       c.Name,
			ClusterARN:        c.ARN(),
			KeyARN:            keyARN,
			Image:             image,
			EncryptionContext: keypolicy.ClusterContext(c.ARN()),
			Mode:              manifest.Mode(c.Plugin.Mode),
			Architecture:      c.Plugin.Architecture,
		}
		plugin, err := manifest.Plugin(in)
		if err != nil {
			return nil, err
		}
		objects = append(objects, plugin...)
	}
	if len(c.Secrets.Readers) == 0 && c.Secrets.Guard == config.GuardOff {
		return objects, nil
	}
	rbac, err := manifest.SecretsRBAC(c.secretsRBAC())
	if err != nil {
		return nil, err
	}
	return append(objects, rbac...), nil
}

func (c Cluster) secretsRBAC() manifest.SecretsRBACInput {
	in := manifest.SecretsRBACInput{Guard: manifest.Guard(c.Secrets.Guard), GuardExemptions: c.Secrets.GuardExemptions}
	for _, r := range c.Secrets.Readers {
		reader := manifest.SecretReader{
			Name: r.Name, Namespace: r.Namespace, SecretNames: r.SecretNames, Groups: r.Groups,
			AllowList: r.AllowList, AllowWatch: r.AllowWatch,
		}
		for _, a := range r.ServiceAccounts {
			reader.ServiceAccounts = append(reader.ServiceAccounts, manifest.ServiceAccount{Name: a.Name, Namespace: a.Namespace})
		}
		in.Readers = append(in.Readers, reader)
	}
	return in
}

// In returns the place of an account and a Region.
func In(account, region string) Place {
	partition := cfn.Partition(region)
	return Place{Partition: partition, Account: account, Region: region, DNSSuffix: cfn.DNSSuffix(partition)}
}

// BootstrapRole is the role with which CloudFormation works when the CDK CLI
// deploys into an environment that was bootstrapped with the default qualifier.
// Source: AWS CDK Developer Guide, "Customize AWS CDK bootstrapping".
func (p Place) BootstrapRole() string {
	return "arn:" + p.Partition + ":iam::" + p.Account + ":role/cdk-hnb659fds-cfn-exec-role-" + p.Account + "-" + p.Region
}
