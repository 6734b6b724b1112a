package ekskms

import (
	"errors"
	"regexp"
	"slices"
	"strconv"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseksv2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/internal/names"
)

// SecretsGuard says what happens to a Role or ClusterRole that gives access to
// secrets without naming them.
type SecretsGuard string

const (
	// SecretsGuardOff lets it be made.
	SecretsGuardOff SecretsGuard = "off"
	// SecretsGuardWarn lets it be made, warns whoever makes it, and leaves a mark
	// in the audit log.
	SecretsGuardWarn SecretsGuard = "warn"
	// SecretsGuardDeny refuses it, and leaves a mark in the audit log.
	SecretsGuardDeny SecretsGuard = "deny"
)

// SecretReader is somebody who may get some secrets of one namespace by their
// names.
type SecretReader struct {
	// Name is part of the names of the Role and the RoleBinding: a DNS label,
	// unique among the readers. Required.
	Name *string
	// Namespace of the secrets. It must be there: without it the deployment fails
	// with kubectl's `namespaces "<name>" not found`. Required.
	Namespace *string
	// SecretNames are the secrets: 1 to 20, without wildcards. Required.
	SecretNames *[]*string
	// Groups are Kubernetes groups that may read the secrets: at most 20, none
	// with the prefix "system:", "eks:", "aws:", "amazon:" or "iam:".
	// Default: none, and then ServiceAccounts must be given.
	Groups *[]*string
	// PrincipalArns are IAM roles and users that are put in the Groups, by an
	// access entry of type STANDARD each: at most 20. A principal can have one
	// access entry on a cluster: one that has another must get its groups there.
	// Default: none.
	PrincipalArns *[]*string
	// ServiceAccounts are Kubernetes service accounts that may read the secrets:
	// at most 20.
	// Default: none, and then Groups must be given.
	ServiceAccounts *[]*SecretReaderServiceAccount
	// AllowList and AllowWatch let the secrets be listed and watched too, each by
	// its name: kubectl get secrets --field-selector metadata.name=<name>. RBAC
	// refuses a list without that selector, and lets nobody list more than the
	// SecretNames. Nearly all clients list before they watch, and so need both.
	// Default: false.
	AllowList  *bool
	AllowWatch *bool
}

// SecretReaderServiceAccount is a Kubernetes service account.
type SecretReaderServiceAccount struct {
	// Name of the service account. Required.
	Name *string
	// Namespace of the service account.
	// Default: that of the reader.
	Namespace *string
}

// SecretsRbacProps configures a [SecretsRbac].
type SecretsRbacProps struct {
	// Cluster whose secrets are read. It must have a kubectl provider. Required.
	Cluster awseksv2.ICluster
	// Readers may read secrets: at most 50.
	// Default: none, and then Guard must be given.
	Readers *[]*SecretReader
	// Guard is what happens to a Role or ClusterRole, or a new rule in one, that
	// gives access to secrets without naming them. It is a
	// ValidatingAdmissionPolicy for the whole cluster: give it to one SecretsRbac
	// of a cluster.
	// Default: SecretsGuardOff.
	Guard SecretsGuard
	// GuardExemptions are what the guard passes by: ClusterRoles by name, Roles
	// as namespace/name. At most 100. Only with a Guard.
	// Default: none beside those of Kubernetes itself.
	GuardExemptions *[]*string
}

// SecretsRbac lets named readers get named secrets of named namespaces through the
// Kubernetes API, and nothing else: there is no wildcard in what it makes, and no
// list or watch of a whole namespace, which would reveal the contents of every
// secret in it.
//
// Encryption at rest does not stop whoever may read secrets through the API: this
// is what does.
type SecretsRbac struct {
	constructs.Construct
	guard awseksv2.KubernetesManifest
}

const secretsRbacType = "SecretsRbac"

// NewSecretsRbac makes the roles, their bindings and access entries, and the
// guard.
//
// It panics with a [*PropError] when Cluster is missing, when there is nothing to
// make, when a reader is incomplete, has a name that Kubernetes or EKS does not
// take, a wildcard or something twice, and when there is too much of anything.
func NewSecretsRbac(scope constructs.Construct, id *string, props *SecretsRbacProps) *SecretsRbac {
	if props == nil {
		props = &SecretsRbacProps{}
	}
	require(secretsRbacType, "Cluster", props.Cluster != nil)
	in := manifest.SecretsRBACInput{
		Guard:           manifest.Guard(props.Guard),
		GuardExemptions: texts("GuardExemptions", props.GuardExemptions),
	}
	for i, reader := range *orDefault(props.Readers, nil) {
		in.Readers = append(in.Readers, reader.input("Readers["+strconv.Itoa(i)+"]"))
	}
	objects, err := manifest.SecretsRBAC(in)
	if fault := (*manifest.FieldError)(nil); errors.As(err, &fault) {
		reject(secretsRbacType, fault.Field, "%s", fault.Reason)
	}

	s := &SecretsRbac{}
	constructs.NewConstruct_Override(s, scope, id)
	s.admit(props)
	s.apply(props.Cluster, objects)
	return s
}

// input is what package manifest makes of a reader. It checks what has to be
// there; manifest checks what is there.
func (r *SecretReader) input(at string) manifest.SecretReader {
	require(secretsRbacType, at, r != nil)
	require(secretsRbacType, at+".Name", r.Name != nil)
	require(secretsRbacType, at+".Namespace", r.Namespace != nil)
	in := manifest.SecretReader{
		Name:        *r.Name,
		Namespace:   *r.Namespace,
		SecretNames: texts(at+".SecretNames", r.SecretNames),
		Groups:      texts(at+".Groups", r.Groups),
		AllowList:   *orDefault(r.AllowList, false),
		AllowWatch:  *orDefault(r.AllowWatch, false),
	}
	for i, a := range *orDefault(r.ServiceAccounts, nil) {
		account := at + ".ServiceAccounts[" + strconv.Itoa(i) + "]"
		require(secretsRbacType, account, a != nil)
		require(secretsRbacType, account+".Name", a.Name != nil)
		in.ServiceAccounts = append(in.ServiceAccounts, manifest.ServiceAccount{Name: *a.Name, Namespace: *orDefault(a.Namespace, "")})
	}
	principals := at + ".PrincipalArns"
	arns := texts(principals, r.PrincipalArns)
	switch {
	case len(arns) > 20:
		reject(secretsRbacType, principals, "has %d items, must have at most 20", len(arns))
	case len(arns) > 0 && len(in.Groups) == 0:
		reject(secretsRbacType, principals, "is set, but Groups is empty: name a group to put them in")
	}
	for i, arn := range arns {
		if !*awscdk.Token_IsUnresolved(jsii.String(arn)) && !principalARN.MatchString(arn) {
			reject(secretsRbacType, principals+"["+strconv.Itoa(i)+"]", "is %q, must be the ARN of an IAM role or user", arn)
		}
	}
	return in
}

// principalARN is what an access entry takes. A wildcard would be one of no
// principal.
var principalARN = regexp.MustCompile(`^arn:[a-z-]+:iam::[0-9]{12}:(role|user)/[0-9A-Za-z_+=,.@/-]+$`)

// texts reads a list of strings that must all be there.
func texts(prop string, list *[]*string) []string {
	var all []string
	for i, text := range *orDefault(list, nil) {
		require(secretsRbacType, prop+"["+strconv.Itoa(i)+"]", text != nil)
		all = append(all, *text)
	}
	return all
}

// admit makes one access entry for each principal, with the groups of all readers
// that name it.
func (s *SecretsRbac) admit(props *SecretsRbacProps) {
	stack := awscdk.Stack_Of(s)
	var order []string
	arns, groups := map[string]string{}, map[string][]string{}
	for _, reader := range *orDefault(props.Readers, nil) {
		for _, arn := range texts("", reader.PrincipalArns) {
			// Not the ARN itself, which for a role of this app is a token whose
			// number may change with every synthesis.
			id := "Access-" + names.ShortHash(resolved(stack, arn))
			if arns[id] == "" {
				order, arns[id] = append(order, id), arn
			}
			for _, group := range texts("", reader.Groups) {
				if !slices.Contains(groups[id], group) {
					groups[id] = append(groups[id], group)
				}
			}
		}
	}
	for _, id := range order {
		awseksv2.NewCfnAccessEntry(s, jsii.String(id), &awseksv2.CfnAccessEntryProps{
			ClusterName:      props.Cluster.ClusterName(),
			PrincipalArn:     jsii.String(arns[id]),
			KubernetesGroups: jsii.Strings(groups[id]...),
			Type:             jsii.String("STANDARD"),
		})
	}
}

// apply makes a resource of each reader, and one of the guard. What kubectl prunes
// when an object is missing from a resource that is still there are not roles, so
// a reader that is taken out must take its resource along. Source: the default
// list of `kubectl apply --prune`.
func (s *SecretsRbac) apply(cluster awseksv2.ICluster, objects []runtime.Object) {
	var guard []runtime.Object
	var order []string
	readers := map[string][]runtime.Object{}
	for _, object := range objects {
		switch object.(type) {
		case *admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding:
			guard = append(guard, object)
		default:
			// With the namespace, so that a reader who moves leaves none behind.
			m := object.(metav1.Object)
			id := m.GetNamespace() + ":" + m.GetName()
			if readers[id] == nil {
				order = append(order, id)
			}
			readers[id] = append(readers[id], object)
		}
	}
	for _, id := range order {
		newManifest(s, id, cluster, readers[id])
	}
	if len(guard) > 0 {
		s.guard = newManifest(s, "Guard", cluster, guard)
	}
}

// Guard returns the Kubernetes objects of the guard, so that what it should judge
// can wait for them, or nil without a guard.
func (s *SecretsRbac) Guard() awseksv2.KubernetesManifest { return s.guard }
