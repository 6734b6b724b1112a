package ekskms

import (
	"errors"
	"strconv"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseksv2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/internal/place"
)

// SecretsGuard says what happens to a Role or ClusterRole that gives access to
// secrets without naming them.
type SecretsGuard string

const (
	// SecretsGuardOff lets it be made.
	SecretsGuardOff SecretsGuard = "off"
	// SecretsGuardWarn lets it be made, warns anyone who makes it, and leaves a mark
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
	// Cluster whose secrets are read. It must have a kubectl provider, unless ApplyObjects
	// is false. Required.
	Cluster awseksv2.ICluster
	// Readers may read secrets: at most 50. AddReader adds others.
	// Default: none.
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
	// ApplyObjects has the cluster's kubectl handler apply the Kubernetes objects. Without,
	// there are the access entries alone: apply what 'ekskms generate manifests' prints in a
	// pipeline of your own.
	// Default: true.
	ApplyObjects *bool
}

// SecretsRbac lets named readers get named secrets of named namespaces through the
// Kubernetes API, and nothing else: there is no wildcard in what it makes, and no
// list or watch of a whole namespace, which would reveal the contents of every
// secret in it.
//
// Encryption at rest does not stop a principal that may read secrets through the API:
// this is what does.
type SecretsRbac struct {
	constructs.Construct
	cluster awseksv2.ICluster
	secrets blueprint.Secrets
	entries map[string]awseksv2.CfnAccessEntry // by the IDs of the constructs
	guard   awseksv2.KubernetesManifest
	applied bool
}

const secretsRbacType = "SecretsRbac"

// NewSecretsRbac makes the roles, their bindings and access entries, and the
// guard.
//
// It panics with a [*PropError] when Cluster is missing, when a reader is incomplete,
// has a name that Kubernetes or EKS does not take, a wildcard or something twice, and
// when there is too much of anything.
func NewSecretsRbac(scope constructs.Construct, id *string, props *SecretsRbacProps) *SecretsRbac {
	if props == nil {
		props = &SecretsRbacProps{}
	}
	require(secretsRbacType, "Cluster", props.Cluster != nil)
	s := &SecretsRbac{cluster: props.Cluster, entries: map[string]awseksv2.CfnAccessEntry{}, applied: *orDefault(props.ApplyObjects, true)}
	s.secrets = blueprint.Secrets{Guard: manifest.Guard(props.Guard), GuardExemptions: texts("GuardExemptions", props.GuardExemptions)}
	for i, reader := range *orDefault(props.Readers, nil) {
		s.secrets.Readers = append(s.secrets.Readers, reader.input("Readers["+strconv.Itoa(i)+"]"))
	}
	objects := s.objects(s.secrets)
	constructs.NewConstruct_Override(s, scope, id)
	if !s.applied && s.secrets.Makes() {
		warnNotApplied(s, "the readers of secrets and the guard")
	}
	s.admit()
	s.apply(objects)
	return s
}

// objects are those of readers and a guard, in the order in which to apply them.
func (s *SecretsRbac) objects(secrets blueprint.Secrets) []runtime.Object {
	in := secrets.Input()
	if len(in.Readers) == 0 && (in.Guard == "" || in.Guard == manifest.GuardOff) && in.GuardExemptions == nil {
		return nil // until AddReader
	}
	objects, err := manifest.SecretsRBAC(in)
	if fault := (*manifest.FieldError)(nil); errors.As(err, &fault) {
		reject(secretsRbacType, fault.Field, "%s", fault.Reason)
	}
	return objects
}

// AddReader adds a reader to the Readers.
//
// It panics with a [*PropError] as [NewSecretsRbac] does.
func (s *SecretsRbac) AddReader(reader *SecretReader) {
	i := len(s.secrets.Readers)
	s.secrets.Readers = append(s.secrets.Readers, reader.input("Readers["+strconv.Itoa(i)+"]"))
	// All of them are judged, and what is new is made.
	made := map[string]bool{}
	for _, object := range s.objects(blueprint.Secrets{Guard: s.secrets.Guard, GuardExemptions: s.secrets.GuardExemptions, Readers: s.secrets.Readers[:i]}) {
		made[keyOf(object)] = true
	}
	s.admit()
	var added []runtime.Object
	for _, object := range s.objects(s.secrets) {
		if !made[keyOf(object)] {
			added = append(added, object)
		}
	}
	s.apply(added)
}

// keyOf tells objects apart.
func keyOf(object runtime.Object) string {
	m := object.(metav1.Object)
	return object.GetObjectKind().GroupVersionKind().Kind + " " + m.GetNamespace() + " " + m.GetName()
}

// input is what package manifest makes of a reader. It checks what has to be
// there; manifest checks what is there.
func (r *SecretReader) input(at string) blueprint.Reader {
	require(secretsRbacType, at, r != nil)
	require(secretsRbacType, at+".Name", r.Name != nil)
	require(secretsRbacType, at+".Namespace", r.Namespace != nil)
	in := blueprint.Reader{SecretReader: manifest.SecretReader{
		Name:        *r.Name,
		Namespace:   *r.Namespace,
		SecretNames: texts(at+".SecretNames", r.SecretNames),
		Groups:      texts(at+".Groups", r.Groups),
		AllowList:   *orDefault(r.AllowList, false),
		AllowWatch:  *orDefault(r.AllowWatch, false),
	}}
	for i, a := range *orDefault(r.ServiceAccounts, nil) {
		account := at + ".ServiceAccounts[" + strconv.Itoa(i) + "]"
		require(secretsRbacType, account, a != nil)
		require(secretsRbacType, account+".Name", a.Name != nil)
		in.ServiceAccounts = append(in.ServiceAccounts, manifest.ServiceAccount{Name: *a.Name, Namespace: *orDefault(a.Namespace, "")})
	}
	principals := at + ".PrincipalArns"
	in.PrincipalARNs = texts(principals, r.PrincipalArns)
	switch {
	case len(in.PrincipalARNs) > blueprint.MaxPerReader:
		reject(secretsRbacType, principals, "has %d items, must have at most %d", len(in.PrincipalARNs), blueprint.MaxPerReader)
	case len(in.PrincipalARNs) > 0 && len(in.Groups) == 0:
		reject(secretsRbacType, principals, "is set, but Groups is empty: name a group to put them in")
	}
	for i, arn := range in.PrincipalARNs {
		if token(arn).Known() && !place.IsPrincipal(arn) {
			reject(secretsRbacType, principals+"["+strconv.Itoa(i)+"]", "is %q, must be the ARN of an IAM role or user", arn)
		}
	}
	return in
}

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
func (s *SecretsRbac) admit() {
	stack := awscdk.Stack_Of(s)
	for _, e := range (blueprint.Cluster{Secrets: s.secrets}).AllAccessEntries() {
		// Not the ARN itself, which for a role of this app is a token whose
		// number may change with every synthesis.
		id := "Access-" + place.ShortHash(resolved(stack, e.PrincipalARN))
		groups := jsii.Strings(e.Groups...)
		if entry := s.entries[id]; entry != nil {
			entry.SetKubernetesGroups(groups)
			continue
		}
		s.entries[id] = awseksv2.NewCfnAccessEntry(s, jsii.String(id), &awseksv2.CfnAccessEntryProps{
			ClusterName:      s.cluster.ClusterName(),
			PrincipalArn:     jsii.String(e.PrincipalARN),
			KubernetesGroups: groups,
			Type:             jsii.String("STANDARD"),
		})
	}
}

// apply makes a resource of each reader, and one of the guard. What kubectl prunes
// when an object is missing from a resource that is still there are not roles, so
// a reader that is taken out must take its resource along. Source: the default
// list of `kubectl apply --prune`.
func (s *SecretsRbac) apply(objects []runtime.Object) {
	if !s.applied {
		return
	}
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
	var first awseksv2.KubernetesManifest
	for _, id := range order {
		made := newManifest(s, secretsRbacType, id, s.cluster, readers[id])
		if first == nil {
			first = made
		}
	}
	if len(guard) > 0 {
		s.guard = newManifest(s, secretsRbacType, "Guard", s.cluster, guard)
		first = s.guard
	}
	if first != nil && s.Node().DefaultChild() == nil {
		s.Node().SetDefaultChild(first)
	}
}

// Guard returns the Kubernetes objects of the guard, so that what it should judge
// can wait for them, or nil without a guard or ApplyObjects.
func (s *SecretsRbac) Guard() awseksv2.KubernetesManifest { return s.guard }
