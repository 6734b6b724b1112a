package blueprint

import (
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/internal/place"
)

// KeySpec is a new key: symmetric, rotating, and kept when its stack is deleted.
type KeySpec struct {
	Alias, Description        string
	RotationDays, PendingDays int
	MultiRegion               bool
	// DeleteUnused lets the key go with a first deployment that fails: it encrypts
	// nothing that is kept.
	DeleteUnused bool
	Statements   []iampolicy.Statement
}

// SecretsKey is the new key of the secrets, with all of its policy that the references
// allow.
func (c Cluster) SecretsKey() KeySpec {
	return KeySpec{
		Alias:        c.Alias(),
		Description:  "Encrypts the Kubernetes secrets of EKS cluster " + c.Name,
		RotationDays: c.Key.RotationPeriodDays,
		PendingDays:  c.Key.PendingWindowDays,
		MultiRegion:  c.Key.MultiRegion,
		Statements:   c.KeyStatements(),
	}
}

// supportKey is a key of what surrounds the secrets.
func supportKey(alias, description string, statements []iampolicy.Statement) KeySpec {
	return KeySpec{
		Alias: alias, Description: description,
		RotationDays: RotationDays.Default, PendingDays: PendingDays.Default, Statements: statements,
	}
}

// AuditKey is the key of the trail's logs. The second result is false if there is nothing
// to encrypt: the trail exists already.
func (c Cluster) AuditKey() (KeySpec, bool) {
	if !c.NewTrail() {
		return KeySpec{}, false
	}
	key := keypolicy.AuditKey{RootARN: c.At.IAM("root"), TrailARN: c.Trail().ARN, ReaderARNs: c.roles(c.Audit.Readers)}
	if c.Audit.CloudWatchLogsRetentionDays != 0 {
		key.LogsService, key.LogGroupARN = c.At.Service("logs"), c.logGroupARN(place.TrailLogGroup(c.Name))
	}
	return supportKey(place.AuditAlias(c.Name), "Encrypts the audit trail of "+c.subject(), key.Statements()), true
}

// TopicKey is the key of the alarms' topic. The second result is false if that exists
// already.
func (c Cluster) TopicKey() (KeySpec, bool) {
	if !c.NewTopic() {
		return KeySpec{}, false
	}
	key := keypolicy.TopicKey{RootARN: c.At.IAM("root"), TopicARN: c.Topic().ARN}
	return supportKey(place.AlarmsAlias(c.Name), "Encrypts the alarms of "+c.subject(), key.Statements()), true
}

// LogsKey is the key of the control plane's logs, and of those of the kubectl handler.
func (c Cluster) LogsKey() KeySpec {
	groups := []string{c.logGroupARN(c.ControlPlaneLogs().Name)}
	if c.KubectlHandler {
		groups = append(groups, c.logGroupARN(c.Kubectl().Logs.Name))
	}
	key := supportKey(place.LogsAlias(c.Name), "Encrypts the control-plane logs of EKS cluster "+c.Name, keypolicy.LogGroupKey{
		RootARN: c.At.IAM("root"), LogsService: c.At.Service("logs"), LogGroupARNs: groups,
	}.Statements())
	key.DeleteUnused = true
	return key
}

func (c Cluster) logGroupARN(name string) string { return c.At.ARN("logs", "log-group:"+name) }

// ARN is that of the cluster, made of its name: policies and the encryption context
// hold it before the cluster is there.
func (c Cluster) ARN() string { return c.At.ARN("eks", "cluster/"+c.Name) }

// Alias is that of the key, or "" for an existing one whose alias is not known.
func (c Cluster) Alias() string {
	if c.Key.Alias == "" && c.Key.ARN == "" {
		return place.SecretsAlias(c.Name)
	}
	return c.Key.Alias
}

// KeyARN is that of the key of the secrets, as far as it is known.
func (c Cluster) KeyARN() string {
	if c.Key.ARN != "" {
		return c.Key.ARN
	}
	return text(c.Refs.Key)
}

// KeyStatements is the policy of the secrets' key: that of its account, which for an
// existing key may be another than the cluster's, and [Cluster.AddedStatements].
func (c Cluster) KeyStatements() []iampolicy.Statement {
	return append(c.AccountStatements(), c.AddedStatements()...)
}

// AccountStatements are those of the key's account.
func (c Cluster) AccountStatements() []iampolicy.Statement {
	owner := c.At
	if key, ok := place.ParseARN(c.Key.ARN); ok {
		owner.Account = place.Literal(key.AccountID)
	} else if c.Key.Account != "" {
		owner.Account = place.Literal(c.Key.Account)
	}
	if len(c.Key.BreakGlass) > 0 {
		return keypolicy.AccountWithBreakGlass(owner.IAM("root"), c.Key.MultiRegion, c.roles(c.Key.BreakGlass))
	}
	return []iampolicy.Statement{keypolicy.Account(owner.IAM("root"), c.Key.MultiRegion)}
}

// KnowPaths has the policy of the key name the roles of the plugin and of tenants by their
// IAM paths.
func (c *Cluster) KnowPaths() {
	c.Key.ByPath = true
	if c.Plugin == nil {
		return
	}
	at, name := c.At, c.Name
	c.Refs.PluginRole = place.Literal(at.RolesBelow(place.PluginRolePath(name)))
	if len(c.Plugin.Tenants) > 0 {
		c.Refs.TenantRole = func(tenant string) place.Value {
			return place.Literal(at.RolesBelow(place.TenantRolePath(name, tenant)))
		}
	}
}

// AddedStatements are what the policy of a key needs for the cluster beside the
// administration by its account: the owner of an existing key adds these.
func (c Cluster) AddedStatements() []iampolicy.Statement {
	all := append(c.ManagerStatements(), c.ClusterRoleStatements()...)
	if c.Refs.PluginRole != nil {
		all = append(all, c.PluginStatements()...)
	}
	if c.Refs.TenantRole != nil {
		all = append(all, c.TenantStatements()...)
	}
	return all
}

// ManagerStatements let the administrators and the creators do their work.
func (c Cluster) ManagerStatements() []iampolicy.Statement {
	var all []iampolicy.Statement
	if len(c.Administrators) > 0 {
		all = append(all, keypolicy.Administrators(c.roles(c.Administrators), c.Key.MultiRegion)...)
	}
	if len(c.Creators) > 0 {
		all = append(all, c.CreatorStatements()...)
	}
	return all
}

// roles are ARNs, and the patterns of those of permission sets.
func (c Cluster) roles(names []string) (arns []string) {
	for _, name := range names {
		arns = append(arns, c.At.Role(name))
	}
	return arns
}

// RoleText is the number of characters that roles take in a key policy, in any place.
func RoleText(names []string) int {
	return keypolicy.RoleText(Cluster{At: place.In("111122223333", "us-gov-west-1")}.roles(names))
}

// CreatorStatements let the creators create the cluster.
func (c Cluster) CreatorStatements() []iampolicy.Statement {
	var strict *keypolicy.StrictGrants
	if c.Key.StrictGrants {
		strict = &keypolicy.StrictGrants{Account: c.At.Account.Text(), EKSService: c.At.Service("eks")}
	}
	return keypolicy.ClusterCreators(c.roles(c.Creators), strict, len(c.Key.BreakGlass) > 0)
}

// ClusterRoleStatements let the cluster's role see the key. A policy that must be there
// before the role names it by its path.
func (c Cluster) ClusterRoleStatements() []iampolicy.Statement {
	if c.Refs.ClusterRole != nil {
		return []iampolicy.Statement{keypolicy.ClusterRole(c.Refs.ClusterRole.Text())}
	}
	return []iampolicy.Statement{keypolicy.FutureClusterRole(c.At.IAM("root"), c.At.IAM("role"+place.ClusterRolePath(c.Name)+"*"))}
}

// Session is the identity of the plugin's own pods.
func (c Cluster) Session() keypolicy.PodSession {
	return keypolicy.PodSession{ClusterARN: c.ARN(), Namespace: manifest.DefaultNamespace, ServiceAccount: manifest.DefaultServiceAccount}
}

// PluginStatements let the plugin's role use the key under the encryption context of
// the cluster.
func (c Cluster) PluginStatements() []iampolicy.Statement {
	session := c.Session()
	return keypolicy.PluginUse(text(c.Refs.PluginRole), keypolicy.ClusterContext(session.ClusterARN), &session)
}

// TenantStatements let the role of each tenant's plugin use the key under an encryption
// context of its own.
func (c Cluster) TenantStatements() []iampolicy.Statement {
	if c.Plugin == nil || len(c.Plugin.Tenants) == 0 {
		return nil
	}
	return keypolicy.TenantUse(c.tenants(c.Plugin.Tenants))
}

func (c Cluster) tenants(list []Tenant) []keypolicy.Tenant {
	tenants := make([]keypolicy.Tenant, len(list))
	for i, t := range list {
		tenants[i] = keypolicy.Tenant{Name: t.Name, Session: c.TenantSession(t)}
		if c.Refs.TenantRole != nil {
			tenants[i].RoleARN = text(c.Refs.TenantRole(t.Name))
		}
	}
	return tenants
}

// TenantSession is the identity of the pods of a tenant's API server.
func (c Cluster) TenantSession(t Tenant) keypolicy.PodSession {
	return keypolicy.PodSession{ClusterARN: c.ARN(), Namespace: t.Namespace, ServiceAccount: t.ServiceAccount}
}
