package ekskms

import (
	"os"
	"strconv"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsecrassets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseksv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"

	_ "github.com/ekskms/ekskms" // embeds the sources of the image
	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/buildcontext"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/internal/place"
)

// PluginMode is the way in which the plugin runs on the cluster.
type PluginMode string

const (
	// PluginModeDeployment runs two replicas that make a round trip through the
	// key every minute: the Deployment is available as long as the key can be
	// used from this cluster, by this role, under this encryption context.
	PluginModeDeployment PluginMode = "deployment"
	// PluginModeSidecar is PluginModeDeployment with an identity for the plugin
	// of every tenant: see [PluginTenant]. The plugins themselves are sidecars in
	// the pods of the tenants' API servers, which are deployed by the tenants'
	// own charts.
	PluginModeSidecar PluginMode = "sidecar"
	// PluginModeDaemonSet runs one replica on every node, with its socket in a
	// folder of the node, for API servers that run on the nodes of this cluster
	// and mount that folder.
	PluginModeDaemonSet PluginMode = "daemonset"
)

// PluginArchitecture is the CPU architecture of the plugin's image.
type PluginArchitecture string

// The architectures that the image can be built for.
const (
	PluginArchitectureAmd64 PluginArchitecture = "amd64"
	PluginArchitectureArm64 PluginArchitecture = "arm64"
)

// KmsPluginOptions say how the plugin is deployed.
type KmsPluginOptions struct {
	// Image is a container image reference with the plugin as its entry point.
	// Default: built from this module's sources as a CDK asset, for which
	// `cdk deploy` needs Docker.
	Image *string
	// Architecture of the image that is built, and of the nodes that may run
	// it. With Image set, the pods run on nodes of any architecture unless this
	// is set too.
	// Default: that of the Nodegroup of an [EncryptedCluster], otherwise
	// PluginArchitectureAmd64, if the image is built.
	Architecture PluginArchitecture
	// Mode is the way in which the plugin runs.
	// Default: PluginModeDeployment, or PluginModeSidecar with Tenants.
	Mode PluginMode
	// Tenants are the hosted control planes on the cluster whose API servers have
	// the plugin as a sidecar: at most 20, whose names, namespaces and service
	// accounts have 2,400 characters in all. Only with PluginModeSidecar, which
	// needs at least one. AddTenant adds others.
	// Default: none.
	Tenants *[]*PluginTenant
	// HostPaths are the folders of the nodes that pods may mount beside the socket of
	// PluginModeDaemonSet, in namespaces without the label that allows it: each as it is
	// written or, with a slash at its end, with all below it. At most 50, only in that
	// mode. See docs/howto/hosted-control-planes.md.
	// Default: none.
	HostPaths *[]*string
	// ApplyObjects has the cluster's kubectl handler apply the plugin's Kubernetes objects.
	// Without, there are the roles and Pod Identity associations alone: apply what
	// 'ekskms generate manifests' prints in a pipeline of your own. See KubectlHandler of
	// [EncryptedClusterProps].
	// Default: true.
	ApplyObjects *bool

	none bool
}

// KmsPluginOptions_NONE deploys no plugin. The secrets of EKS's own API server are
// encrypted all the same: AWS runs a plugin of its own there.
func KmsPluginOptions_NONE() *KmsPluginOptions { return &KmsPluginOptions{none: true} }

// KmsPluginProps configures a [KmsPlugin].
type KmsPluginProps struct {
	// Cluster on which the plugin runs. It must have EKS Pod Identity and, unless
	// ApplyObjects is false, a kubectl provider. Required.
	Cluster awseksv2.ICluster
	// SecretsKey is the key that the plugin uses. Required.
	SecretsKey ISecretsKey
	// Image, Architecture, Mode, Tenants, HostPaths and ApplyObjects are those of
	// [KmsPluginOptions].
	// Default: as there.
	Image        *string
	Architecture PluginArchitecture
	Mode         PluginMode
	Tenants      *[]*PluginTenant
	HostPaths    *[]*string
	ApplyObjects *bool
}

// PluginTenant is a hosted control plane, such as a vCluster, on the cluster. Its
// API server's pods get an IAM role of their own through EKS Pod Identity, which
// may use the key under an encryption context of their own:
// {ekskms:cluster-arn: <ARN of the EKS cluster>, ekskms:tenant: <Name>}. So the
// plugin of one tenant can decrypt neither another's data nor the cluster's, and
// that of the cluster no tenant's.
//
// The namespace and the service account need not exist when this is deployed.
type PluginTenant struct {
	// Name of the tenant: a DNS label, unique among the tenants. What was
	// encrypted under a name can't be decrypted under another. Required.
	Name *string
	// Namespace of the API server's pods. Required.
	Namespace *string
	// ServiceAccount of the API server's pods. The pair of Namespace and
	// ServiceAccount belongs to one tenant. Required.
	ServiceAccount *string
}

// KmsPlugin deploys the Kubernetes KMS v2 plugin on a cluster, with an IAM role
// of its own through EKS Pod Identity that may use the [SecretsKey] under the
// encryption context of the cluster, and nothing else.
//
// It can't serve the API server of EKS itself: AWS runs that, with a plugin of
// its own. What it serves is said in the package comment.
type KmsPlugin struct {
	constructs.Construct
	c            blueprint.Cluster
	cluster      awseksv2.ICluster
	key          *SecretsKey
	role         awsiam.Role
	association  awseksv2.CfnPodIdentityAssociation
	manifest     awseksv2.KubernetesManifest
	nodeManifest awseksv2.KubernetesManifest
	tenantRoles  map[string]awsiam.Role // by tenant
}

const kmsPluginType = "KmsPlugin"

// NewKmsPlugin makes the role and deploys the plugin.
//
// It panics with a [*PropError] when Cluster or SecretsKey is missing, when the
// key is in another account or Region or of another cluster, and when
// Mode or Architecture is none of those there are. It does so too when
// there are Tenants without the mode for them or the mode without Tenants, when a
// tenant is incomplete or not unique, and when there are too many.
func NewKmsPlugin(scope constructs.Construct, id *string, props *KmsPluginProps) *KmsPlugin {
	if props == nil {
		props = &KmsPluginProps{}
	}
	require(kmsPluginType, "Cluster", props.Cluster != nil)
	require(kmsPluginType, "SecretsKey", props.SecretsKey != nil)
	key := props.SecretsKey.secretsKey()
	if name := props.Cluster.ClusterName(); token(*name).Known() && *name != key.c.Name {
		reject(kmsPluginType, "SecretsKey", "is the key of cluster %q, must be that of %q", key.c.Name, *name)
	}
	if !siteOf(scope).sameEnvironment(key.site) {
		reject(kmsPluginType, "SecretsKey", "is in a stack of another account or Region, must be where the cluster is")
	}
	mode := props.Mode
	switch mode {
	case "":
		mode = PluginModeDeployment
		if props.Tenants != nil {
			mode = PluginModeSidecar
		}
	case PluginModeDeployment, PluginModeSidecar, PluginModeDaemonSet:
	default:
		reject(kmsPluginType, "Mode", "is %q, must be %q, %q or %q", mode, PluginModeDeployment, PluginModeSidecar, PluginModeDaemonSet)
	}
	architecture := props.Architecture
	switch architecture {
	case PluginArchitectureAmd64, PluginArchitectureArm64:
	case "":
		if props.Image == nil {
			architecture = PluginArchitectureAmd64
		}
	default:
		reject(kmsPluginType, "Architecture", "is %q, must be %q or %q", architecture, PluginArchitectureAmd64, PluginArchitectureArm64)
	}

	// The ARN of the cluster is made of its name and not from props.Cluster: the key's
	// policy would depend on the cluster, and the cluster depends on the key.
	p := &KmsPlugin{c: key.c, cluster: props.Cluster, key: key, tenantRoles: map[string]awsiam.Role{}}
	p.c.Plugin = &blueprint.Plugin{Mode: manifest.Mode(mode), Architecture: string(architecture), HostPaths: hostPaths(props.HostPaths, mode)}
	tenants := checkTenants("Tenants", nil, props.Tenants, mode)
	constructs.NewConstruct_Override(p, scope, id)
	apply, image := *orDefault(props.ApplyObjects, true), props.Image
	if image == nil && apply {
		image = buildImage(p, architecture)
	}
	p.createIdentity()
	p.addTenants(tenants)
	if !apply {
		warnNotApplied(p, "the plugin")
		p.Node().SetDefaultChild(p.role)
		return p
	}
	p.deploy(*image)
	p.Node().SetDefaultChild(p.manifest)
	return p
}

func hostPaths(paths *[]*string, mode PluginMode) (all []string) {
	for i, path := range *orDefault(paths, nil) {
		at := "HostPaths[" + strconv.Itoa(i) + "]"
		require(kmsPluginType, at, path != nil)
		if problem := manifest.HostPathProblem(*path); problem != "" {
			reject(kmsPluginType, at, "is %q: it %s", *path, problem)
		}
		all = append(all, *path)
	}
	switch {
	case len(all) > 0 && mode != PluginModeDaemonSet:
		reject(kmsPluginType, "HostPaths", "is set in mode %q: remove it, only %q has a socket on the nodes", mode, PluginModeDaemonSet)
	case len(all) > manifest.MaxHostPaths:
		reject(kmsPluginType, "HostPaths", "has %d items, must have at most %d", len(all), manifest.MaxHostPaths)
	}
	return all
}

// buildImage makes an asset of the sources. The folder in which they are
// written is only needed until CDK has staged them.
func buildImage(scope constructs.Construct, architecture PluginArchitecture) *string {
	dir, err := os.MkdirTemp("", "ekskms-plugin-")
	if err != nil {
		panic(err)
	}
	if staging := scope.Node().TryGetContext(jsii.String("aws:cdk:disable-asset-staging")); staging == nil {
		defer os.RemoveAll(dir)
	}
	if err := buildcontext.Write(dir); err != nil {
		panic(err)
	}
	platform := awsecrassets.Platform_LINUX_AMD64()
	if architecture == PluginArchitectureArm64 {
		platform = awsecrassets.Platform_LINUX_ARM64()
	}
	return awsecrassets.NewDockerImageAsset(scope, jsii.String("Image"), &awsecrassets.DockerImageAssetProps{
		Directory: jsii.String(dir),
		Platform:  platform,
		BuildArgs: stringMap(map[string]string{"TARGETOS": "linux", "TARGETARCH": string(architecture)}),
	}).ImageUri()
}

func (p *KmsPlugin) createIdentity() {
	session := p.c.Session()
	scope := p.key.roleScope(p, siteOf(p))
	id := "Role"
	if scope != constructs.Construct(p) {
		id = "PluginRole"
	}
	p.role = newRole(scope, id, p.c.PluginRole())
	p.key.GrantPluginUse(p.role, &PluginIdentity{
		Namespace:      jsii.String(session.Namespace),
		ServiceAccount: jsii.String(session.ServiceAccount),
	})
	p.association = p.associate("PodIdentity", session, p.role)
}

// checkTenants returns the tenants that are added to those there are.
func checkTenants(prop string, there []blueprint.Tenant, tenants *[]*PluginTenant, mode PluginMode) []blueprint.Tenant {
	switch {
	case tenants == nil && mode == PluginModeSidecar:
		reject(kmsPluginType, prop, "is missing, but Mode is %q: name a tenant, or leave Mode out", mode)
	case tenants == nil:
		return nil
	case mode != PluginModeSidecar:
		reject(kmsPluginType, prop, "is set, but Mode is %q: set it to %q, or leave it out", mode, PluginModeSidecar)
	}
	if n := len(there) + len(*tenants); n == 0 || n > blueprint.MaxTenants {
		reject(kmsPluginType, prop, "has %d tenants, must have 1 to %d", n, blueprint.MaxTenants)
	}
	type pod struct{ namespace, serviceAccount string }
	names, pods, text := map[string]string{}, map[pod]string{{manifest.DefaultNamespace, manifest.DefaultServiceAccount}: "the plugin itself"}, 0
	for _, t := range there {
		names[t.Name] = "another tenant"
		pods[pod{t.Namespace, t.ServiceAccount}] = "tenant " + t.Name
		text += len(t.Name) + len(t.Namespace) + len(t.ServiceAccount)
	}
	var all []blueprint.Tenant
	for i, t := range *tenants {
		at := prop + "[" + strconv.Itoa(i) + "]"
		require(kmsPluginType, at, t != nil)
		checkName(kmsPluginType, at+".Name", t.Name, validation.IsDNS1123Label)
		checkName(kmsPluginType, at+".Namespace", t.Namespace, validation.IsDNS1123Label)
		checkName(kmsPluginType, at+".ServiceAccount", t.ServiceAccount, validation.IsDNS1123Subdomain)
		if other, twice := names[*t.Name]; twice {
			reject(kmsPluginType, at+".Name", "is %q, which is the name of %s: give it another", *t.Name, other)
		}
		names[*t.Name] = at
		p := pod{*t.Namespace, *t.ServiceAccount}
		if other, twice := pods[p]; twice {
			reject(kmsPluginType, at+".ServiceAccount", "is %q in namespace %q, which is that of %s: give it one of its own", p.serviceAccount, p.namespace, other)
		}
		pods[p] = at
		text += len(*t.Name) + len(p.namespace) + len(p.serviceAccount)
		all = append(all, blueprint.Tenant{Name: *t.Name, Namespace: p.namespace, ServiceAccount: p.serviceAccount})
	}
	if text > blueprint.MaxTenantText {
		reject(kmsPluginType, prop, "has names, namespaces and service accounts of %d characters in all, must have at most %d", text, blueprint.MaxTenantText)
	}
	return all
}

// AddTenant adds a hosted control plane to the Tenants of a plugin in PluginModeSidecar,
// or in PluginModeDeployment, which has the same objects. It returns the role of the
// tenant's plugin.
//
// It panics with a [*PropError] when the tenant is incomplete or not unique, when there
// are too many, and when the mode is another.
func (p *KmsPlugin) AddTenant(tenant *PluginTenant) awsiam.IRole {
	mode := PluginMode(p.c.Plugin.Mode)
	if mode == PluginModeDeployment {
		mode = PluginModeSidecar
	}
	added := checkTenants("AddTenant", p.c.Plugin.Tenants, &[]*PluginTenant{tenant}, mode)
	p.c.Plugin.Mode = manifest.Mode(mode)
	p.addTenants(added)
	return p.tenantRoles[added[0].Name]
}

// addTenants makes the identities of tenants, and lets them use the key.
func (p *KmsPlugin) addTenants(tenants []blueprint.Tenant) {
	if len(tenants) == 0 {
		return
	}
	p.c.Refs.TenantRole = func(name string) place.Value { return token(*p.tenantRoles[name].RoleArn()) }
	scope := p.key.roleScope(p, siteOf(p))
	for _, t := range tenants {
		spec := p.c.TenantRole(t)
		role := newRole(scope, "TenantRole-"+t.Name, spec)
		p.tenantRoles[t.Name] = role
		grant(role, spec.Policy)
		p.associate("TenantPodIdentity-"+t.Name, p.c.TenantSession(t), role)
	}
	first := len(p.c.Plugin.Tenants)
	p.c.Plugin.Tenants = append(p.c.Plugin.Tenants, tenants...)
	p.key.allowTenants(p.c.TenantStatements(), first)
}

// associate gives the pods of a service account the role.
func (p *KmsPlugin) associate(id string, session keypolicy.PodSession, role awsiam.IRole) awseksv2.CfnPodIdentityAssociation {
	return awseksv2.NewCfnPodIdentityAssociation(p, jsii.String(id), &awseksv2.CfnPodIdentityAssociationProps{
		ClusterName:    p.cluster.ClusterName(),
		Namespace:      jsii.String(session.Namespace),
		ServiceAccount: jsii.String(session.ServiceAccount),
		RoleArn:        role.RoleArn(),
	})
}

// newRole makes a role whose trust policy is exactly the statement: what CDK or
// another construct adds to it later has no effect.
func newRole(scope constructs.Construct, id string, spec blueprint.Role) awsiam.Role {
	props := &awsiam.RoleProps{
		AssumedBy:   awsiam.NewServicePrincipal(jsii.String(spec.Trust.Principal.Service[0]), nil),
		Description: jsii.String(spec.Description),
	}
	if spec.Path != "" {
		props.Path = jsii.String(spec.Path)
	}
	role := awsiam.NewRole(scope, jsii.String(id), props)
	role.Node().DefaultChild().(awsiam.CfnRole).AddPropertyOverride(
		jsii.String("AssumeRolePolicyDocument"), documentMap([]iampolicy.Statement{spec.Trust}))
	return role
}

// attach gives a role policies of AWS.
func attach(role awsiam.Role, policies ...string) {
	for _, name := range policies {
		role.AddManagedPolicy(awsiam.ManagedPolicy_FromAwsManagedPolicyName(jsii.String(name)))
	}
}

func (p *KmsPlugin) deploy(image string) {
	everywhere, node, err := manifest.PluginParts(p.c.PluginInput(image))
	if err != nil {
		panic(err)
	}
	p.manifest = newManifest(p, kmsPluginType, "Manifest", p.cluster, everywhere)
	// EKS gives a pod its credentials when the pod is made, not later.
	p.manifest.Node().AddDependency(p.association)
	if len(node) == 0 {
		return
	}
	// A resource of its own, which goes with the mode. What kubectl prunes when an
	// object is missing from a resource that is still there are no admission
	// policies, and these refuse pods. Source: the default list of
	// `kubectl apply --prune`.
	p.nodeManifest = newManifest(p, kmsPluginType, "NodeManifest", p.cluster, node)
	p.nodeManifest.Node().AddDependency(p.manifest)
}

// newManifest applies typed objects to a cluster, for a construct of a type.
func newManifest(scope constructs.Construct, typ, id string, cluster awseksv2.ICluster, objects []runtime.Object) awseksv2.KubernetesManifest {
	if cluster.KubectlProvider() == nil {
		reject(typ, "Cluster", "has no kubectl handler, which applies Kubernetes objects: set KubectlHandler of its EncryptedCluster, or pass a cluster with a kubectl provider")
	}
	return awseksv2.NewKubernetesManifest(scope, jsii.String(id), &awseksv2.KubernetesManifestProps{
		Cluster:  cluster,
		Manifest: manifestOf(objects),
	})
}

func manifestOf(objects []runtime.Object) *[]*map[string]any {
	maps, err := manifest.Maps(objects)
	if err != nil {
		panic(err)
	}
	list := make([]*map[string]any, len(maps))
	for i := range maps {
		list[i] = &maps[i]
	}
	return &list
}

// Role returns the IAM role of the plugin.
func (p *KmsPlugin) Role() awsiam.IRole { return p.role }

// Manifest returns the Kubernetes objects that the plugin has in every mode, so
// that something else can wait for them, or nil without ApplyObjects.
func (p *KmsPlugin) Manifest() awseksv2.KubernetesManifest { return p.manifest }

// NodeManifest returns the Kubernetes objects of PluginModeDaemonSet, the socket on
// every node and the policies around it, so that something else can wait for them,
// or nil in another mode.
func (p *KmsPlugin) NodeManifest() awseksv2.KubernetesManifest { return p.nodeManifest }
