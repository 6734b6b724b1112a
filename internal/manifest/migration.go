package manifest

import (
	"errors"
	"fmt"

	migrationv1beta1 "k8s.io/api/storagemigration/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Migrations returns what has the API server rewrite all objects of the resources,
// each under the newest key: a StorageVersionMigration for each. It is worked off
// once, so the name is left to the server: create them anew for each rotation.
// Default: secrets.
//
// The API is a beta one since Kubernetes 1.35 and off by default: kube-apiserver
// and kube-controller-manager need the feature gate StorageVersionMigrator, and
// kube-apiserver --runtime-config=storagemigration.k8s.io/v1beta1=true. In 1.30 to
// 1.34 it was v1alpha1, with another spec (k8s.io/api/storagemigration).
func Migrations(resources []string) ([]runtime.Object, error) {
	if len(resources) == 0 {
		resources = []string{"secrets"}
	}
	var objs []runtime.Object
	var errs []error
	for _, r := range resources {
		group, resource := groupResource(r)
		if len(validation.IsDNS1123Subdomain(r)) > 0 { // which neither * nor a subresource is
			errs = append(errs, fmt.Errorf("%q names no single resource, must be one such as secrets or pandas.example.com", r))
			continue
		}
		objs = append(objs, &migrationv1beta1.StorageVersionMigration{
			TypeMeta: typeMeta("storagemigration.k8s.io/v1beta1", "StorageVersionMigration"),
			ObjectMeta: metav1.ObjectMeta{
				GenerateName: "rewrite-" + resource + "-",
				Labels:       map[string]string{"app.kubernetes.io/managed-by": "ekskms"},
			},
			Spec: migrationv1beta1.StorageVersionMigrationSpec{Resource: metav1.GroupResource{Group: group, Resource: resource}},
		})
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("manifest.Migrations: %w", errors.Join(errs...))
	}
	return objs, nil
}
