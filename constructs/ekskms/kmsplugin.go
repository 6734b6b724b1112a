package ekskms

import (
	"os"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecrassets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseksv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
	"k8s.io/apimachinery/pkg/runtime"

	buildcontext "github.com/ekskms/ekskms"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/manifest"
)

// PluginMode is the way in which the plugin runs on the cluster.
type PluginMode string

const (
	// PluginModeDeployment runs two replicas that make a round trip through the
	// key every minute: the Deployment is available as long as the key can be
	// used from this cluster, by this role, under this encryption context.
	PluginModeDeployment PluginMode = "deployment"
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

// KmsPluginProps configures a [KmsPlugin].
type KmsPluginProps struct {
	// Cluster on which the plugin runs. It must have a kubectl provider.
	// Required.
	Cluster awseksv2.ICluster
	// SecretsKey is the key that the plugin uses. Required.
	SecretsKey *SecretsKey
	// Image is a container image reference with the plugin as its entry point.
	// Default: built from this module's sources as a CDK asset, for which
	// `cdk deploy` needs Docker.
	Image *string
	// Architecture of the image that is built, and of the nodes that may run
	// it. With Image set, the pods run on nodes of any architecture unless this
	// is set too.
	// Default: PluginArchitectureAmd64, if the image is built.
	Architecture PluginArchitecture
	// Mode is the way in which the plugin runs.
	// Default: PluginModeDeployment.
	Mode PluginMode
}

// KmsPlugin deploys the Kubernetes KMS v2 plugin on a cluster, with an IAM role
// of its own through EKS Pod Identity that may use the [SecretsKey] under the
// encryption context of the cluster, and nothing else.
//
// It can't serve the API server of EKS itself: AWS runs that, with a plugin of
// its own. What it serves is said in the package comment.
type KmsPlugin struct {
	constructs.Construct
	role        awsiam.Role
	association awseksv2.CfnPodIdentityAssociation
	manifest    awseksv2.KubernetesManifest
}

const kmsPluginType = "KmsPlugin"

// NewKmsPlugin makes the role and deploys the plugin.
//
// It panics with a [*PropError] when Cluster or SecretsKey is missing, when the
// key is in another account or Region or of another cluster, and when
// Mode or Architecture has a value that there is not.
func NewKmsPlugin(scope constructs.Construct, id *string, props *KmsPluginProps) *KmsPlugin {
	if props == nil {
		props = &KmsPluginProps{}
	}
	require(kmsPluginType, "Cluster", props.Cluster != nil)
	require(kmsPluginType, "SecretsKey", props.SecretsKey != nil)
	if name := props.Cluster.ClusterName(); !*awscdk.Token_IsUnresolved(name) && *name != props.SecretsKey.clusterName {
		reject(kmsPluginType, "SecretsKey", "is the key of cluster %q, must be that of %q", props.SecretsKey.clusterName, *name)
	}
	if !placeOf(scope).sameEnvironment(props.SecretsKey.at) {
		reject(kmsPluginType, "SecretsKey", "is in a stack of another account or Region, must be where the cluster is")
	}
	mode := props.Mode
	switch mode {
	case "":
		mode = PluginModeDeployment
	case PluginModeDeployment, PluginModeDaemonSet:
	default:
		reject(kmsPluginType, "Mode", "is %q, must be %q or %q", mode, PluginModeDeployment, PluginModeDaemonSet)
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

	p := &KmsPlugin{}
	constructs.NewConstruct_Override(p, scope, id)
	image := props.Image
	if image == nil {
		image = buildImage(p, architecture)
	}
	// Not from props.Cluster: the key's policy would depend on the cluster, and
	// the cluster depends on the key.
	clusterARN := props.SecretsKey.clusterARN()
	p.createIdentity(props, clusterARN)
	p.deploy(props, manifest.PluginInput{
		ClusterName:       props.SecretsKey.clusterName,
		KeyARN:            props.SecretsKey.arn,
		Image:             *image,
		EncryptionContext: map[string]string{keypolicy.ContextKey: clusterARN},
		Mode:              manifest.Mode(mode),
		Architecture:      string(architecture),
	})
	return p
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

func (p *KmsPlugin) createIdentity(props *KmsPluginProps, clusterARN string) {
	session := keypolicy.PodSession{
		ClusterARN:     clusterARN,
		Namespace:      manifest.DefaultNamespace,
		ServiceAccount: manifest.DefaultServiceAccount,
	}
	scope := props.SecretsKey.roleScope(p, placeOf(p))
	id := "Role"
	if scope != constructs.Construct(p) {
		id = "PluginRole"
	}
	p.role = newRole(scope, id, &awsiam.RoleProps{
		Description: jsii.String("Lets the KMS plugin on EKS cluster " + props.SecretsKey.clusterName + " use the key of its secrets"),
	}, keypolicy.PluginTrust(session))
	props.SecretsKey.GrantPluginUse(p.role, &PluginIdentity{
		Namespace:      jsii.String(session.Namespace),
		ServiceAccount: jsii.String(session.ServiceAccount),
	})
	p.association = awseksv2.NewCfnPodIdentityAssociation(p, jsii.String("PodIdentity"), &awseksv2.CfnPodIdentityAssociationProps{
		ClusterName:    props.Cluster.ClusterName(),
		Namespace:      jsii.String(session.Namespace),
		ServiceAccount: jsii.String(session.ServiceAccount),
		RoleArn:        p.role.RoleArn(),
	})
}

// newRole makes a role whose trust policy is exactly the statement: what CDK or
// another construct adds to it later has no effect.
func newRole(scope constructs.Construct, id string, props *awsiam.RoleProps, trust iampolicy.Statement) awsiam.Role {
	props.AssumedBy = awsiam.NewServicePrincipal(jsii.String(trust.Principal.Service[0]), nil)
	role := awsiam.NewRole(scope, jsii.String(id), props)
	role.Node().DefaultChild().(awsiam.CfnRole).AddPropertyOverride(
		jsii.String("AssumeRolePolicyDocument"), documentMap([]iampolicy.Statement{trust}))
	return role
}

func (p *KmsPlugin) deploy(props *KmsPluginProps, in manifest.PluginInput) {
	objects, err := manifest.Plugin(in)
	if err != nil {
		panic(err)
	}
	p.manifest = newManifest(p, "Manifest", props.Cluster, objects)
	// EKS gives a pod its credentials when the pod is made, not later.
	p.manifest.Node().AddDependency(p.association)
}

// newManifest applies typed objects to a cluster.
func newManifest(scope constructs.Construct, id string, cluster awseksv2.ICluster, objects []runtime.Object) awseksv2.KubernetesManifest {
	maps, err := manifest.Maps(objects)
	if err != nil {
		panic(err)
	}
	list := make([]*map[string]any, len(maps))
	for i := range maps {
		list[i] = &maps[i]
	}
	return awseksv2.NewKubernetesManifest(scope, jsii.String(id), &awseksv2.KubernetesManifestProps{
		Cluster:  cluster,
		Manifest: &list,
	})
}

// Role returns the IAM role of the plugin.
func (p *KmsPlugin) Role() awsiam.IRole { return p.role }

// Manifest returns the Kubernetes objects of the plugin, so that something else
// can wait for them.
func (p *KmsPlugin) Manifest() awseksv2.KubernetesManifest { return p.manifest }
