package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/manifest"
)

func newGenerateMigration() *cobra.Command {
	var resources []string
	var kubernetes string
	cmd := &cobra.Command{
		Use:   "migration",
		Short: "Print the migration that rewrites all data under the newest key",
		Long: "Print a StorageVersionMigration for each resource, and as comments the kubectl command that\n" +
			"does the same where that API is missing. Either is needed after a first configuration, after\n" +
			"a rotation of the key, and after a move to another: objects are stored again only when they\n" +
			"are written.\n" +
			"\n" +
			"It is for API servers that you run. EKS does not let you see what is stored how; that what\n" +
			"is read there and written back is stored again is the same.",
		Example: "  ekskms generate migration\n" +
			"  ekskms generate migration --kubernetes-version 1.36\n" +
			"  ekskms generate migration --resources secrets,configmaps",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			objs, err := manifest.Migrations(resources, kubernetes)
			if err != nil {
				return wrongInput(err, cmd)
			}
			body, err := manifest.YAML(objs)
			if err != nil {
				return err
			}
			return emit(cmd, []artifact{{name: "migration.yaml", comments: migrationComments(resources, kubernetes), body: body}}, "", false)
		},
	}
	cmd.Flags().StringSliceVar(&resources, "resources", []string{"secrets"}, "`names` of what is rewritten, such as secrets,configmaps,pandas.example.com")
	cmd.Flags().StringVar(&kubernetes, "kubernetes-version", "", "`version` of the API server, such as 1.36; 1.37 and later need none")
	return cmd
}

func migrationComments(resources []string, kubernetes string) []string {
	list := strings.Join(resources, ",")
	on := []string{
		"         The API is storagemigration.k8s.io/v1, of Kubernetes 1.37 and later, and on by default.",
		"         Before: --kubernetes-version 1.35 or 1.36.",
	}
	if api, err := manifest.MigrationAPI(kubernetes); err == nil && strings.HasSuffix(api, "beta1") {
		on = []string{
			"         The API is storagemigration.k8s.io/v1beta1, and off by default: kube-apiserver needs",
			"         --runtime-config=storagemigration.k8s.io/v1beta1=true, and it and kube-controller-manager",
			"         --feature-gates=StorageVersionMigrator=true.",
		}
	}
	return slices.Concat([]string{
		"migration of " + list + ".",
		"First:   every API server must show the new key_id or configuration. After a rotation, kms-plugin",
		"         tells it within two polls, and the API server asks once a minute.",
		"Next:    kubectl create -f FILE",
		"         (create, not apply: each object is worked off once, under a name of the server's choice).",
	}, on, []string{
		"Or:      kubectl get " + list + " --all-namespaces -o json | kubectl replace -f -",
		"         Kubernetes' own documentation does it so. An object that somebody changes meanwhile is",
		"         reported as a conflict, and was stored again by that change.",
		"Done:    kubectl wait --for=condition=Succeeded storageversionmigration --all --timeout=10m",
		"         What counts is etcd: ekskms evidence etcd " + resourceFlags(resources) + " --expect-key-id KEY_ID snapshot.db",
		"         of a snapshot that was taken afterwards (etcdctl snapshot save snapshot.db), with the key_id",
		"         that kms-plugin probe prints.",
	})
}

func resourceFlags(resources []string) string {
	flags := make([]string, len(resources))
	for i, r := range resources {
		flags[i] = "--resource " + r
	}
	return strings.Join(flags, " ")
}
