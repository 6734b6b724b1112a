// Package terraform writes a configured cluster as a Terraform root module, or its
// key alone as a module to use beside others.
//
// It uses resources of the provider hashicorp/aws and nothing else. The files stand in
// the folder module as they will be; what they say comes from the blueprint, as it does
// for the CDK constructs, and test/parity holds the results to each other.
package terraform

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"unicode"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/tamper"
)

//go:embed module
var folder embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"hcl":    hcl,
	"policy": policy,
	"ref":    ref,
	"named":  func(name string) string { return hcl(map[string]string{"Name": name}) },
	"prefix": prefix, "cut": cut, "snake": snake, "join": strings.Join,
	"key":                  func(name string, spec blueprint.KeySpec) any { return key{name, spec} },
	"logGroup":             func(resource string, g blueprint.LogGroup, key string) any { return logGroup{resource, g, key} },
	"output":               func(o blueprint.Output, value string) any { return output{o, value} },
	"outputs":              func() any { return blueprint.Outputs },
	"maxRoles":             func() int { return blueprint.MaxRoles },
	"logTypes":             func() []string { return blueprint.LogTypes },
	"authenticationMode":   func() string { return blueprint.AuthenticationMode },
	"seconds":              func(days int) int { return days * 24 * 60 * 60 },
	"deliverySeconds":      func() int { return 60 * blueprint.DeliveryMinutes },
	"deliveryAttempts":     func() int { return blueprint.DeliveryAttempts },
	"paths":                tamper.Paths,
	"addOn":                addOn,
	"identifier":           identifier,
	"metadataHops":         func() int { return blueprint.MetadataHops },
	"endpointsDescription": func() string { return blueprint.EndpointsDescription },
	"orNodes":              func(name string) string { return cmp.Or(name, "nodes") },
}).ParseFS(folder, "module/*"))

// What the parts of the templates are written from.
type (
	key struct {
		Name string
		blueprint.KeySpec
	}
	logGroup struct {
		Resource string
		blueprint.LogGroup
		Key string // an expression
	}
	output struct {
		blueprint.Output
		Value string // an expression
	}
	role struct {
		Cluster, Name string
		blueprint.Role
		PolicyARN           string // of each.value
		PolicyName, Comment string
		Each, Index         string // for each element of a map, if one is named
	}
)

// File is a file of the module.
type File struct {
	Name    string
	Content []byte
}

// Generate returns the root module of a cluster.
//
// The error tells of overrides, which are properties of CloudFormation.
func Generate(cluster blueprint.Cluster) ([]File, error) {
	if len(cluster.Overrides) > 0 {
		return nil, fmt.Errorf("overrides of the configuration are properties of AWS::EKS::Cluster, of which Terraform knows none: remove them, and write a file cluster_override.tf beside the module")
	}
	m := newModule(cluster)
	m.Root = true
	if m.Key.ARN == "" { // else by its path: the role does not exist yet when the owner is asked
		m.Refs.ClusterRole = reference("aws_iam_role.cluster.arn")
	}
	m.record()
	m.Refs.LogsKey = reference("aws_kms_key.logs.arn")
	m.Refs.Role = reference("aws_iam_role.cluster.arn")
	if _, needed := m.VolumesKey(); needed {
		m.Refs.VolumesKey = reference("aws_kms_key.volumes.arn")
	}
	if m.NewNodes() {
		m.Refs.NodeRoleName, m.Refs.SubnetIDs = reference("aws_iam_role.nodes.name"), m.subnetIDs()
	}
	image := ""
	if m.Plugin != nil {
		if image = m.Plugin.Image; image == "" {
			image = ref("var.plugin_image")
		}
	}
	objects, err := m.Objects(image)
	if err != nil {
		return nil, err
	}
	if m.Manifests, err = manifest.Maps(objects.All()); err != nil {
		return nil, err
	}
	return m.files("versions", "variables", "main", "network", "key", "cluster", "audit", "plugin", "kubernetes", "outputs")
}

// GenerateKey returns a module with the key and the identity of the plugin, to be
// used beside terraform-aws-eks. It makes no cluster, so the key policy names the
// cluster's role by its path.
func GenerateKey(cluster blueprint.Cluster) ([]File, error) {
	if cluster.Key.ARN != "" {
		return nil, fmt.Errorf("key.arn of the configuration is %s, an existing key: there is no key to make a module of", cluster.Key.ARN)
	}
	return newModule(cluster).files("versions", "variables", "main", "key", "plugin", "key_outputs")
}

// GenerateAdopted returns a module with a key, a trail and alarms for a cluster that runs already
// and stays out of it: the key policy names the cluster's role, which Refs.ClusterRole must have.
func GenerateAdopted(cluster blueprint.Cluster) ([]File, error) {
	m := newModule(cluster)
	m.record()
	return m.files("versions", "variables", "main", "key", "audit", "adopted_outputs")
}

// record refers to what the trail and the alarms are made of.
func (m *module) record() {
	if _, needed := m.AuditKey(); needed {
		m.Refs.AuditKey = reference("aws_kms_key.audit.arn")
		m.Refs.Bucket = reference("aws_s3_bucket.trail.id")
	}
	if _, needed := m.TopicKey(); needed {
		m.Refs.TopicKey = reference("aws_kms_key.alarms.arn")
	}
}

// module is what the templates ask.
type module struct {
	blueprint.Cluster
	// Root tells that it makes the cluster, and not the key alone.
	Root bool
	// AsksCreators says that the configuration names no creators: they are a variable.
	AsksCreators bool
	// Account and Region are where the configuration has the cluster, or empty.
	Account, Region string
	// Manifests are the objects that belong on the cluster.
	Manifests []map[string]any
}

func newModule(c blueprint.Cluster) *module {
	m := &module{AsksCreators: len(c.Creators) == 0}
	if m.AsksCreators {
		c.Creators = []string{listRef("var.creator_arns")}
	}
	if c.At.Region != nil {
		m.Account, m.Region = c.At.Account.Text(), c.At.Region.Text()
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
	c.KubectlHandler = false // the provider applies objects
	m.Cluster = c
	return m
}

// files writes the templates of these names that have something to say.
func (m *module) files(names ...string) ([]File, error) {
	var all []File
	for _, name := range names {
		var b strings.Builder
		if err := templates.ExecuteTemplate(&b, name+".tf.tmpl", m); err != nil {
			return nil, err
		}
		if content := format(b.String()); len(content) > 0 {
			all = append(all, File{Name: strings.TrimPrefix(strings.TrimPrefix(name, "key_"), "adopted_") + ".tf", Content: content})
		}
	}
	return all, nil
}

// policy is a policy document.
func policy(statements any) string {
	list, ok := statements.([]iampolicy.Statement)
	if !ok {
		list = []iampolicy.Statement{statements.(iampolicy.Statement)}
	}
	return "jsonencode(" + hcl(iampolicy.NewDocument(list...)) + ")"
}

// prefix is the beginning of a name whose rest the provider makes up, so that
// clusters of one name in two Regions do not meet. IAM and EventBridge leave 38
// characters for it.
func prefix(cluster, what string) string {
	return cut(cluster, 36-min(len(what), 20)) + "-" + cut(what, 20) + "-"
}

func cut(s string, n int) string { return strings.TrimRight(s[:min(len(s), n)], "-_") }

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

// addOn is the name of an add-on's resource.
func addOn(id string) string {
	if name, ok := strings.CutPrefix(id, "AddOn-"); ok {
		return identifier(name)
	}
	return snake(id)
}

// identifier makes a name of the configuration one of Terraform's, which begins with no
// digit.
func identifier(name string) string {
	switch {
	case name == "":
		return "this"
	case name[0] >= '0' && name[0] <= '9':
		return "_" + name
	}
	return name
}

// Role is a role with its policies of AWS and one of its own.
func (m *module) Role(name string, r blueprint.Role, policyName, comment string) any {
	if r.Path == "/" {
		r.Path = ""
	}
	return role{Cluster: m.Name, Name: name, Role: r, PolicyARN: m.At.ManagedPolicy(ref("each.value")), PolicyName: policyName, Comment: comment}
}

// EachTenant is the role of each tenant.
func (m *module) EachTenant() any {
	r := m.TenantRole(blueprint.Tenant{Name: ref("each.key"), Namespace: ref("each.value.namespace"), ServiceAccount: ref("each.value.service_account")})
	return role{Cluster: m.Name, Name: "tenant", Role: r, PolicyName: "key", Each: "local.tenants", Index: "[each.key]"}
}

// Tenants are the tenants of the plugin, by name.
func (m *module) Tenants() map[string]any {
	all := map[string]any{}
	for _, t := range m.Plugin.Tenants {
		all[t.Name] = map[string]any{"namespace": t.Namespace, "service_account": t.ServiceAccount}
	}
	return all
}

// Subnets is an expression.
func (m *module) Subnets() string {
	if m.Network.ID != "" {
		return hcl(m.Network.SubnetIDs)
	}
	return "[for key in sort(keys(aws_subnet.private)) : aws_subnet.private[key].id]"
}

// subnetIDs are those of the nodes, one by one.
func (m *module) subnetIDs() []string {
	if m.Network.ID != "" {
		return m.Network.SubnetIDs
	}
	var all []string
	for i := range m.Network.Zones() {
		all = append(all, ref(fmt.Sprintf("aws_subnet.private[%q].id", strconv.Itoa(i+1))))
	}
	return all
}

// VolumesKeySpec is nil if there is no such key.
func (m *module) VolumesKeySpec() *blueprint.KeySpec {
	spec, needed := m.VolumesKey()
	if !needed {
		return nil
	}
	return &spec
}

// AsksZones tells that the Availability Zones are a variable.
func (m *module) AsksZones() bool { return m.Network.ID == "" && len(m.Network.AvailabilityZones) == 0 }

// SubnetBits are those that the size of a subnet takes from the VPC's.
func (m *module) SubnetBits() (bits int) {
	kinds := 2
	if m.Network.Isolated {
		kinds = 1
	}
	for 1<<bits < kinds*m.Network.Zones() {
		bits++
	}
	return bits
}

// endpoint is a VPC endpoint with the name of its service.
type endpoint struct {
	blueprint.Endpoint
	Name string
}

// Endpoints are those of a VPC without a way to the internet.
func (m *module) Endpoints() (all []endpoint) {
	for _, e := range blueprint.Endpoints(false) {
		all = append(all, endpoint{e, blueprint.EndpointService(m.At.Region.Text(), e.Service)})
	}
	return all
}

// Ways are how nodes reach AWS.
func (m *module) Ways() (all []string) {
	switch {
	case m.Network.ID != "":
	case m.Network.Isolated:
		for _, e := range blueprint.Endpoints(false) {
			all = append(all, "aws_vpc_endpoint."+snake(e.ID))
		}
	default:
		all = append(all, "aws_route.private")
	}
	return all
}

// each numbers the zones from one, and gives of each what of returns for it.
func each(n int, of func(i int) any) map[string]any {
	all := map[string]any{}
	for i := range n {
		all[strconv.Itoa(i+1)] = of(i)
	}
	return all
}

func itself(i int) any { return i }

func (m *module) Zones() any { return each(m.Network.Zones(), itself) }
func (m *module) NATGateways() any {
	return each(min(m.Network.NATGateways, m.Network.Zones()), itself)
}
func (m *module) NATGatewayOf() any {
	n := m.Network.Zones()
	return each(n, func(i int) any { return strconv.Itoa(i%min(m.Network.NATGateways, n) + 1) })
}

// AccessEntries are by the ARNs of their principals, so that the order in the
// configuration does not matter.
func (m *module) AccessEntries() map[string]any {
	all := map[string]any{}
	for _, e := range m.AllAccessEntries() {
		entry := map[string]any{"groups": append([]string{}, e.Groups...), "policy": nil, "scope": nil, "namespaces": nil}
		if e.Policy != "" {
			entry["policy"], entry["scope"] = e.Policy, "cluster"
		}
		if len(e.Namespaces) > 0 {
			entry["scope"], entry["namespaces"] = "namespace", e.Namespaces
		}
		all[e.PrincipalARN] = entry
	}
	return all
}

// AuditKeySpec is nil if there is no such key.
func (m *module) AuditKeySpec() *blueprint.KeySpec {
	spec, needed := m.AuditKey()
	if !needed {
		return nil
	}
	return &spec
}

// TopicKeySpec is nil if there is no such key.
func (m *module) TopicKeySpec() *blueprint.KeySpec {
	spec, needed := m.TopicKey()
	if !needed {
		return nil
	}
	return &spec
}

func (m *module) AlarmLogPolicyName() string {
	name, _ := m.AlarmLogPolicy()
	return name
}

func (m *module) AlarmLogStatements() []iampolicy.Statement {
	_, statements := m.AlarmLogPolicy()
	return statements
}

// Copy is the log group with a copy of the trail, or nil.
func (m *module) Copy() *blueprint.LogGroup {
	group, copied := m.TrailCopy()
	if !copied {
		return nil
	}
	return &group
}

func (m *module) CopyRole() blueprint.Role {
	return m.TrailRole(ref("aws_cloudwatch_log_group.trail.arn"))
}

func (m *module) BucketPrefix() string {
	return "ekskms-" + cut(strings.ToLower(strings.ReplaceAll(m.Name, "_", "-")), 20) + "-trail-"
}

func (m *module) BucketStatements() []iampolicy.Statement {
	arn := ref("aws_s3_bucket.trail.arn")
	return append(keypolicy.BucketTLS(arn, strconv.FormatFloat(m.TrailBucket().TLS, 'f', -1, 64)), m.TrailStatements(arn)...)
}

// TrailARN is an expression, of the new trail or the configured one.
func (m *module) TrailARN() string {
	if !m.NewTrail() {
		return hcl(m.Trail().ARN)
	}
	return "aws_cloudtrail.this.arn"
}

// TopicARN is an expression, of the new topic or the configured one.
func (m *module) TopicARN() string {
	if !m.NewTopic() {
		return hcl(m.Topic().ARN)
	}
	return "aws_sns_topic.alarms.arn"
}

func (m *module) AlarmsByID() map[string]any {
	all := map[string]any{}
	for _, r := range append(m.Alarms(), m.ClusterAlarms()...) {
		all[r.ID] = map[string]any{"name": r.Name, "description": r.Description, "pattern": r.Pattern, "template": r.Template}
	}
	return all
}

// AsksImage tells that the plugin's image is a variable.
func (m *module) AsksImage() bool { return m.Plugin != nil && m.Plugin.Image == "" }

func (m *module) nodeGroups() (all []string) {
	for _, g := range m.Capacity.NodeGroups {
		all = append(all, "aws_eks_node_group."+identifier(g.Name))
	}
	return all
}

// RunsOn is what pods run on.
func (m *module) RunsOn() []string {
	all := m.nodeGroups()
	for _, p := range m.Capacity.FargateProfiles {
		all = append(all, "aws_eks_fargate_profile."+identifier(p.Name))
	}
	return all
}

// BeforeNodes is what nodes need from the first.
func (m *module) BeforeNodes() (all []string) {
	for _, a := range m.AddOns() {
		if a.Overwrite && !a.OnNodes() {
			all = append(all, "aws_eks_addon."+addOn(a.ID))
		}
	}
	return append(all, "aws_iam_role_policy_attachment.nodes")
}

func (m *module) NodeEntryType() string {
	entryType, _ := m.NodeEntry()
	return entryType
}

func (m *module) NodePolicy() string {
	_, policy := m.NodeEntry()
	return policy
}

// ObjectsWait are the resources without which the objects can't be applied, or would
// not work.
func (m *module) ObjectsWait() (all []string) {
	if m.Plugin != nil {
		all = append(all, "aws_eks_pod_identity_association.plugin")
	}
	if len(m.AllAccessEntries()) > 0 {
		all = append(all, "aws_eks_access_policy_association.this")
	}
	if m.NewNodes() {
		all = append(all, "aws_eks_access_policy_association.encrypted")
	}
	return append(all, m.nodeGroups()...)
}

func (m *module) UpdateKubeconfig() string {
	return blueprint.UpdateKubeconfig(ref("aws_eks_cluster.this.name"), ref("local.region"))
}

func (m *module) TestAlarm() string {
	return blueprint.TestAlarm(m.Alias(), m.KeyARN(), ref("local.region"))
}

func (m *module) RolePath() string { return place.ClusterRolePath(m.Name) }

// block is a variable of a module, with its name.
var block = regexp.MustCompile(`(?ms)^variable "([a-z_]+)" \{\n(.*?)^\}`)

// Example is a terraform.tfvars in which all variables of a module stand, those with
// a default as comments.
func Example(module []File) []byte {
	var b bytes.Buffer
	b.WriteString("# Copy this file to terraform.tfvars, and give a value to what has none.\n")
	attribute := func(body, name string) string {
		for line := range strings.Lines(body) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && strings.TrimSpace(key) == name {
				return strings.TrimSpace(value)
			}
		}
		return ""
	}
	for _, f := range module {
		if f.Name != "variables.tf" {
			continue
		}
		for _, m := range block.FindAllSubmatch(f.Content, -1) {
			name, body := m[1], string(m[2])
			fmt.Fprintf(&b, "\n# %s\n", strings.Trim(attribute(body, "description"), `"`))
			if value := attribute(body, "default"); value != "" {
				fmt.Fprintf(&b, "# %s = %s\n", name, value)
			} else {
				empty := `""`
				if strings.HasPrefix(attribute(body, "type"), "list") {
					empty = "[]"
				}
				fmt.Fprintf(&b, "%s = %s\n", name, empty)
			}
		}
	}
	return b.Bytes()
}
