package manifest

import (
	"errors"
	"fmt"

	migrationv1 "k8s.io/api/storagemigration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/ekskms/ekskms/internal/eksversion"
)

// Migrations returns what has the API server rewrite all objects of the resources,
// each under the newest key: a StorageVersionMigration for each. It is worked off
// once, so the name is left to the server: create new ones for each rotation.
// Default: secrets, for the newest Kubernetes: see [MigrationAPI].
func Migrations(resources []string, kubernetes string) ([]runtime.Object, error) {
	if len(resources) == 0 {
		resources = []string{"secrets"}
	}
	var objs []runtime.Object
	var errs []error
	api, err := MigrationAPI(kubernetes)
	if err != nil {
		errs = append(errs, err)
	}
	for _, r := range resources {
		group, resource := groupResource(r)
		if len(validation.IsDNS1123Subdomain(r)) > 0 { // which neither * nor a subresource is
			errs = append(errs, fmt.Errorf("%q names no single resource, must be one such as secrets or pandas.example.com", r))
			continue
		}
		objs = append(objs, &migrationv1.StorageVersionMigration{ // v1beta1 has the same fields
			TypeMeta: typeMeta(api, "StorageVersionMigration"),
			ObjectMeta: metav1.ObjectMeta{
				GenerateName: "rewrite-" + resource + "-",
				Labels:       map[string]string{"app.kubernetes.io/managed-by": "ekskms"},
			},
			Spec: migrationv1.StorageVersionMigrationSpec{Resource: metav1.GroupResource{Group: group, Resource: resource}},
		})
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("manifest.Migrations: %w", errors.Join(errs...))
	}
	return objs, nil
}

// The API of migrations: v1 since Kubernetes 1.37, where it is on by default. In
// 1.35 and 1.36 it is v1beta1 and off by default: kube-apiserver and
// kube-controller-manager need the feature gate StorageVersionMigrator, and
// kube-apiserver --runtime-config=storagemigration.k8s.io/v1beta1=true. Before, it
// was v1alpha1, with another spec (k8s.io/api/storagemigration; kube_features.go).
const (
	migrationGroup = "storagemigration.k8s.io"
	migrationBeta  = 35
	migrationGA    = 37
)

// MigrationAPI is the apiVersion of migrations in a version of Kubernetes, such as
// 1.36. Default: that of 1.37 and later.
func MigrationAPI(kubernetes string) (string, error) {
	if kubernetes == "" {
		return migrationGroup + "/v1", nil
	}
	n, ok := eksversion.Minor(kubernetes)
	switch {
	case !ok:
		return "", fmt.Errorf("%q is no version of Kubernetes, must be one such as 1.37", kubernetes)
	case n < migrationBeta:
		return "", fmt.Errorf("version %s of Kubernetes has no migrations of this form, 1.%d and later have: rewrite with kubectl get and kubectl replace", kubernetes, migrationBeta)
	case n < migrationGA:
		return migrationGroup + "/v1beta1", nil
	}
	return migrationGroup + "/v1", nil
}
