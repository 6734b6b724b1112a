package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/iampolicy"
	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/internal/place"
)

// hyperShift is a host that takes no other plugin than its own.
const hyperShift = "hypershift"

// k0smotron is a host that takes no container beside its API server.
const k0smotron = "k0smotron"

// hosts are the values of --for: what a sidecar is written for, and what is told why
// none is.
func hosts() []string {
	var all []string
	for _, h := range manifest.Hosts() {
		all = append(all, string(h))
	}
	return append(all, hyperShift, k0smotron)
}

// manifestFlags are the flags of ekskms generate manifests.
type manifestFlags struct {
	configuration
	mode, host, tenant, key, account, image, roleARN    string
	controlPlane, workload, container, out, clusterName string
	force                                               bool
	group                                               int64
	healthPort                                          int32
	encryption                                          encryptionFlags
}

func newGenerateManifests() *cobra.Command {
	var f manifestFlags
	cmd := &cobra.Command{
		Use:   "manifests",
		Short: "Print the plugin's Kubernetes objects, in each mode",
		Long: "Print the Kubernetes objects that put the plugin to work.\n" +
			"\n" +
			"  deployment  watches the key of an EKS cluster, and serves no API server. It is what the\n" +
			"              stack deploys; the objects are the same.\n" +
			"  sidecar     a plugin in the pods of a hosted API server: --for says of what, --tenant whose.\n" +
			"  daemonset   the deployment, and a socket on every node, with policies that forbid others to\n" +
			"              mount it.\n" +
			"  static-pod  for an API server of kubeadm on EC2: files for a node, which need --out.\n" +
			"\n" +
			"Values come from ekskms.yaml, as for 'ekskms synth', and from flags. docs/howto/hosted-control-planes.md\n" +
			"goes through all of it.",
		Example: "  ekskms generate manifests --key arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab --image registry.example.com/kms-plugin:v1\n" +
			"  ekskms generate manifests --file ekskms.yaml --mode sidecar --for vcluster --tenant team-a\n" +
			"  ekskms generate manifests --file ekskms.yaml --mode static-pod --cluster-name onprem --role-arn arn:aws:iam::111122223333:role/control-plane --out node",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			cluster, err := f.loadOne(cmd)
			if err != nil {
				return err
			}
			cluster.Plugin.Enabled = true // here, by another way than the stack
			artifacts, err := f.generate(cmd, cluster.Blueprint())
			if err != nil {
				return err
			}
			return emit(cmd, artifacts, f.out, f.force)
		},
	}
	flags := cmd.Flags()
	f.add(cmd)
	choiceOrNone(flags, &f.mode, "mode", "`mode` of the plugin. Default: plugin.mode of the configuration. One of", "deployment", "sidecar", "daemonset", "static-pod")
	choiceOrNone(flags, &f.host, "for", "`what` runs the API server, for mode sidecar", hosts()...)
	flags.StringVar(&f.tenant, "tenant", "", "`name` of a tenant in plugin.tenants of the configuration, for mode sidecar")
	flags.StringVar(&f.key, "key", "", "`ARN` of the key, which a new one has only once it is deployed: the stack's output KeyArn")
	flags.StringVar(&f.account, "account", "", "AWS `account` of the cluster, where neither the configuration nor a new key's ARN says it")
	flags.StringVar(&f.image, "image", "", "container `image` of the plugin (default plugin.image of the configuration)")
	flags.StringVar(&f.roleARN, "role-arn", "", "`ARN` of the instances' IAM role, for mode static-pod")
	flags.StringVar(&f.clusterName, "cluster-name", "", "`name` of the control plane, for mode static-pod: no other cluster under the key may have it")
	flags.StringVar(&f.controlPlane, "control-plane", "", "`name` of the TenantControlPlane or the Karmada (default the tenant's)")
	flags.StringVar(&f.workload, "workload", "", "`deployment/NAME or statefulset/NAME` that runs the API server, with --for generic")
	flags.StringVar(&f.container, "container", "kube-apiserver", "`name` of the container in it that does, with --for generic")
	flags.Int64Var(&f.group, "api-server-group", 0, "`ID` of the group as which the API server runs, which may use the socket")
	flags.Int32Var(&f.healthPort, "health-port", manifest.DefaultSidecarHealthPort, "free `port` for the health of a sidecar or static pod")
	f.encryption.register(flags)
	flags.StringVarP(&f.out, "out", "o", "", "`folder` to write files to, instead of standard output")
	flags.BoolVar(&f.force, "force", false, "replace files in the folder that have another content")
	return cmd
}

// modesOf says for which modes a flag is, where it is not for all.
var modesOf = map[string][]manifest.Mode{
	"for": {manifest.Sidecar}, "tenant": {manifest.Sidecar}, "control-plane": {manifest.Sidecar},
	"workload": {manifest.Sidecar}, "container": {manifest.Sidecar}, "api-server-group": {manifest.Sidecar},
	"role-arn": {manifest.StaticPod}, "cluster-name": {manifest.StaticPod}, "health-port": {manifest.Sidecar, manifest.StaticPod},
	"resources": {manifest.Sidecar, manifest.StaticPod}, "provider": {manifest.Sidecar, manifest.StaticPod},
	"allow-unencrypted-reads": {manifest.Sidecar, manifest.StaticPod},
}

// check finds what can be found without the configuration.
func (f *manifestFlags) check(cmd *cobra.Command) error {
	if err := notEmpty(cmd); err != nil {
		return err
	}
	switch {
	case f.healthPort < 1 || f.healthPort > 65535:
		return wrongInput(fmt.Errorf("--health-port is %d, must be 1 to 65535", f.healthPort), cmd)
	case f.group < 0 || f.group > math.MaxInt32:
		return wrongInput(fmt.Errorf("--api-server-group is %d, must be 0 to %d", f.group, math.MaxInt32), cmd)
	case strings.ContainsAny(f.image, " \t\n"):
		return wrongInput(fmt.Errorf("--image is %q, must be the name of a container image", f.image), cmd)
	case f.controlPlane != "" && f.host != string(manifest.Kamaji) && f.host != string(manifest.Karmada):
		return wrongInput(fmt.Errorf("--control-plane is for --for kamaji and karmada, which have an object of that name"), cmd)
	}
	switch f.host {
	case hyperShift:
		return hint.Usage(
			"HyperShift takes no other plugin: its operator runs aws-encryption-provider of its release in the API server's pod, without an encryption context, and has no field for a container or a socket of yours",
			"encrypt a HostedCluster with its own spec.secretEncryption.kms.aws, under a key that lets its role in: docs/howto/hosted-control-planes.md",
		)
	case k0smotron:
		return hint.Usage(
			"k0smotron's Cluster has no field for another container: what it takes is a folder of the node and flags of the API server, which are for you to write",
			"generate the DaemonSet with --mode daemonset, and mount its socket as docs/howto/hosted-control-planes.md says",
		)
	}
	return nil
}

// facts are the values that all modes need, and where each comes from.
type facts struct {
	cluster                blueprint.Cluster
	keyARN, image          string
	keySource, imageSource string
}

// generate makes the files of a mode.
func (f *manifestFlags) generate(cmd *cobra.Command, cluster blueprint.Cluster) ([]artifact, error) {
	mode := manifest.Mode(f.mode)
	if mode == "" {
		mode = cluster.Plugin.Mode
	}
	for _, name := range slices.Sorted(maps.Keys(modesOf)) {
		if cmd.Flags().Changed(name) && !slices.Contains(modesOf[name], mode) {
			return nil, wrongInput(fmt.Errorf("--%s is for mode %q, and this is mode %q", name, modesOf[name], mode), cmd)
		}
	}
	facts, err := f.resolve(cluster)
	if err != nil {
		return nil, err
	}
	switch mode {
	case manifest.Sidecar:
		return f.sidecar(cmd, facts)
	case manifest.StaticPod:
		return f.staticPod(cmd, facts)
	default:
		return f.workloads(cmd, facts, mode)
	}
}

func (f *manifestFlags) resolve(cluster blueprint.Cluster) (facts, error) {
	x := facts{keySource: "--key"}
	if cluster.Key.ARN != "" {
		x.keySource = "key.arn of the configuration"
	}
	placed, key, err := (&placeFlags{account: f.account}).atKey(cluster, f.key)
	if err != nil {
		return x, err
	}
	x.cluster, x.keyARN = placed, key.String()
	switch x.image, x.imageSource = f.image, "--image"; {
	case x.image != "":
	case cluster.Plugin.Image != "":
		x.image, x.imageSource = cluster.Plugin.Image, "plugin.image of the configuration"
	default:
		return x, missing("image", "the configuration has the image built by cdk deploy, which alone knows its name",
			"kubectl -n ekskms-system get deployment kms-plugin -o jsonpath='{.spec.template.spec.containers[0].image}'")
	}
	return x, nil
}

// comments begin every file.
func (x facts) comments(mode manifest.Mode, context map[string]string) []string {
	lines := []string{
		fmt.Sprintf("manifests, mode %s, for cluster %s.", mode, x.cluster.Name),
		"Key:     " + x.keyARN + " (" + x.keySource + ")",
		"Image:   " + x.image + " (" + x.imageSource + ")",
	}
	for _, k := range slices.Sorted(maps.Keys(context)) {
		lines = append(lines, "Context: "+k+"="+context[k])
	}
	return append(lines, "         (the encryption context: the key policy allows this one alone)")
}

func (f *manifestFlags) workloads(cmd *cobra.Command, x facts, mode manifest.Mode) ([]artifact, error) {
	x.cluster.Plugin.Mode = mode
	all, err := x.cluster.Objects(x.image)
	if err != nil {
		return nil, wrongInput(err, cmd)
	}
	objs := slices.Concat(all.Plugin, all.Nodes)
	said := []string{"These are the objects that the stack deploys by itself: apply them only where it has", "plugin.enabled: false."}
	if !x.cluster.Applied {
		said = []string{"The stack has plugin.apply: none, so nobody but you applies these and what secrets asks for."}
		objs = append(all.Network, objs...)
	}
	head := append(append(x.comments(mode, keypolicy.ClusterContext(x.cluster.ARN())), said...),
		"Pods get their credentials by a Pod Identity association of namespace "+manifest.DefaultNamespace+",",
		"service account "+manifest.DefaultServiceAccount+", which must be there before them.")
	apply := "kubectl apply --server-side -f FILE"
	if f.out != "" {
		apply = "kubectl apply --server-side -f " + f.out
	}
	groups := []struct {
		name     string
		comments []string
		has      func(kind, name string) bool
	}{
		{"1-kms-plugin.yaml", append(head,
			"Next:    "+apply,
			"         kubectl -n ekskms-system rollout status deployment/kms-plugin"), nil},
		{"2-socket-policy.yaml", []string{
			"manifests: nobody but the plugin mounts the node's folder of the socket, " + manifest.HostSocketDir + ".",
			"Allowed in namespaces with the label " + manifest.SocketLabel + "=" + manifest.SocketAllowed + ":",
			"  kubectl label namespace NAMESPACE " + manifest.SocketLabel + "=" + manifest.SocketAllowed,
		}, func(kind, _ string) bool { return strings.HasPrefix(kind, "ValidatingAdmissionPolicy") }},
		{"3-kms-plugin-node.yaml", []string{
			"manifests: the plugin with its socket on every node.",
			"Next:    kubectl -n ekskms-system rollout status daemonset/kms-plugin-node",
		}, func(_, name string) bool { return name == "kms-plugin-node" }},
	}
	parts := make([][]runtime.Object, len(groups))
	for _, o := range objs {
		i := 0
		for j, g := range groups {
			if g.has != nil && g.has(o.GetObjectKind().GroupVersionKind().Kind, o.(metav1.Object).GetName()) {
				i = j
			}
		}
		parts[i] = append(parts[i], o)
	}
	var artifacts []artifact
	for i, g := range groups {
		if len(parts[i]) == 0 {
			continue
		}
		body, err := manifest.YAML(parts[i])
		if err != nil {
			return nil, err
		}
		artifacts = append(artifacts, artifact{g.name, g.comments, body})
	}
	if !x.cluster.Applied && len(all.Secrets) > 0 {
		body, err := manifest.YAML(all.Secrets)
		if err != nil {
			return nil, err
		}
		artifacts = append(artifacts, artifact{"4-secrets.yaml", []string{"manifests: who may read which secrets, and the guard (docs/howto/secrets-rbac.md)."}, body})
	}
	return artifacts, nil
}

func (f *manifestFlags) sidecar(cmd *cobra.Command, x facts) ([]artifact, error) {
	if f.host == "" {
		return nil, missing("for", "a sidecar is for one kind of API server", "it is one of "+listed(hosts()))
	}
	tenants, names := x.cluster.Plugin.Tenants, tenantNames(x.cluster)
	if f.tenant == "" {
		return nil, missing("tenant", "a sidecar has the identity of one tenant", fmt.Sprintf("plugin.tenants of the configuration has %q", names))
	}
	i := slices.Index(names, f.tenant)
	if i < 0 {
		return nil, hint.Usage(fmt.Sprintf("--tenant is %q, and plugin.tenants of the configuration has %q", f.tenant, names),
			"add it there and deploy: that makes the tenant's IAM role and puts it into the key policy")
	}
	tenant, host := tenants[i], manifest.Host(f.host)
	in := manifest.SidecarInput{
		Tenant: tenant.Name, Namespace: tenant.Namespace, ServiceAccount: tenant.ServiceAccount,
		KeyARN: x.keyARN, Image: x.image, EncryptionContext: keypolicy.TenantContext(x.cluster.ARN(), tenant.Name),
		APIServerGroup: f.group, HealthPort: f.healthPort, Encryption: f.encryption.input(), ControlPlane: f.controlPlane,
	}
	if host == manifest.Generic {
		if f.workload == "" {
			return nil, missing("workload", "the API server's Deployment or StatefulSet", "such as deployment/kube-apiserver")
		}
		in.Workload, in.Container = f.workload, f.container
	} else if f.workload != "" || cmd.Flags().Changed("container") {
		return nil, wrongInput(fmt.Errorf("--workload and --container are for --for %s", manifest.Generic), cmd)
	}
	objs, err := manifest.Sidecars(in, host)
	if err != nil {
		return nil, wrongInput(err, cmd)
	}
	body, err := manifest.YAML(objs)
	if err != nil {
		return nil, err
	}
	comments := append(x.comments(manifest.Sidecar, in.EncryptionContext),
		fmt.Sprintf("Tenant:  %s, in namespace %s as service account %s (plugin.tenants of the configuration)", tenant.Name, tenant.Namespace, tenant.ServiceAccount))
	comments = append(comments, hostComments(in, host)...)
	comments = append(comments, migrationAdvice(in.Encryption)...)
	return []artifact{{f.host + ".yaml", comments, body}}, nil
}

// hostComments say how a host takes its file.
func hostComments(in manifest.SidecarInput, host manifest.Host) []string {
	apply := "Apply:   kubectl apply --server-side --field-manager=ekskms -f FILE"
	switch host {
	case manifest.VCluster:
		return []string{
			"Checked: against the values schema and the chart of vCluster 0.30.0, not on a cluster.",
			fmt.Sprintf("Apply:   helm upgrade --install %s vcluster --namespace %s --values FILE, with the repository of", in.Tenant, in.Namespace),
			"         vCluster and your own values. Lists are not merged: if your values have initContainers,",
			"         addVolumes, addVolumeMounts, extraArgs or manifests, put these beside them.",
		}
	case manifest.Kamaji:
		return []string{
			"Checked: against the TenantControlPlane of Kamaji 1.0.0, not on a cluster.",
			apply,
			"         Lists are replaced, not merged: if the TenantControlPlane has some of these, put them",
			"         together here first. kubectl reports such a conflict with their writer.",
		}
	case manifest.Karmada:
		return []string{
			"Checked: against the Karmada of the operator 1.16.0, not on a cluster.",
			apply,
			"         Lists are replaced, not merged: if the Karmada has some of these, put them together here",
			"         first. The operator has no field for native sidecars, so plugin and API server start at",
			"         once, and the API server is ready when it has found the plugin.",
		}
	default:
		lines := []string{apply, "         Then add the flags to the container " + in.Container + ": a list of flags can't be merged."}
		for _, flag := range manifest.APIServerFlags() {
			lines = append(lines, "           "+flag.String())
		}
		return lines
	}
}

func (f *manifestFlags) staticPod(cmd *cobra.Command, x facts) ([]artifact, error) {
	switch {
	case f.roleARN == "":
		return nil, missing("role-arn", "the key policy names the role of the control plane's instances", "")
	case f.out == "":
		return nil, missing("out", "these are files for different places", "")
	}
	partition := x.cluster.At.Partition.Text()
	if role, _ := place.ParseARN(f.roleARN); !place.IsRole(f.roleARN) || role.Partition != partition {
		return nil, hint.Usage(fmt.Sprintf("--role-arn is %q, which is not the ARN of an IAM role in the key's partition", f.roleARN), "arn:"+partition+":iam::<account>:role/<name>")
	}
	// Anyone who has the encryption context of another cluster can decrypt its data.
	switch {
	case f.clusterName == "":
		return nil, missing("cluster-name", "it stands in the encryption context, which tells this control plane's data from others'", "a name that no EKS cluster in the account has")
	case f.clusterName == x.cluster.Name:
		return nil, hint.Usage(fmt.Sprintf("--cluster-name is %q, the name of the EKS cluster of the configuration: each could decrypt the other's data", f.clusterName), "give the control plane a name of its own")
	case !place.IsClusterName(f.clusterName):
		return nil, hint.Usage(fmt.Sprintf("--cluster-name is %q, must be 1 to 100 letters, digits, hyphens and underscores", f.clusterName), "")
	}
	context := keypolicy.ClusterContext(x.cluster.At.ARN("eks", "cluster/"+f.clusterName))
	pod, err := manifest.StaticPods(manifest.StaticPodInput{
		ClusterName: f.clusterName, KeyARN: x.keyARN, Image: x.image, EncryptionContext: context, HealthPort: f.healthPort,
	})
	if err != nil {
		return nil, wrongInput(err, cmd)
	}
	encryption, err := manifest.Encryption(f.encryption.input())
	if err != nil {
		return nil, wrongInput(err, cmd)
	}
	statements := keypolicy.PluginUse(f.roleARN, context, nil)
	for i := range statements {
		// Not those of the stack's own statements, beside which they may stand.
		statements[i].Sid = "StaticPod" + strings.TrimPrefix(statements[i].Sid, "Plugin")
	}
	identity := iampolicy.OnResource(statements, x.keyARN)
	in := f.encryption.input()
	in.Endpoint = manifest.SocketAddress
	artifacts := []artifact{
		{name: "kms-plugin.yaml", comments: append(x.comments(manifest.StaticPod, context),
			"Role:    "+f.roleARN+" (--role-arn)",
			"First:   attach instance-role-policy.json to the role, and add the statements of",
			"         key-policy-statements.json to the policy of the key. Not of a key that the stack made: its",
			"         next deployment would take them away again. The name in the encryption context is that of",
			"         an EKS cluster only in form: it tells this control plane's data from others'.",
			"Next:    on every node of the control plane, before the API server needs it:",
			"         install -D -m 0600 encryption.yaml "+manifest.HostEncryptionDir+"/"+manifest.EncryptionFile,
			"         install -m 0600 kms-plugin.yaml /etc/kubernetes/manifests/",
			"         kubeadm.yaml says what the API server needs.")},
		{name: manifest.EncryptionFile, comments: encryptionComments(in)},
		{name: "kubeadm.yaml", comments: []string{
			"manifests: what kubeadm has to give kube-apiserver, for kubeadm.k8s.io/v1beta4.",
			"Next:    put apiServer into your ClusterConfiguration. On a cluster that runs already:",
			"         kubectl -n kube-system edit configmap kubeadm-config, and on each control plane's node",
			"         kubeadm init phase control-plane apiserver --config=FILE, one node after another.",
		}},
	}
	for i, v := range []any{pod, encryption, manifest.Kubeadm()} {
		if artifacts[i].body, err = manifest.YAML([]any{v}); err != nil {
			return nil, err
		}
	}
	for _, policy := range []struct {
		name       string
		statements []iampolicy.Statement
	}{{"instance-role-policy.json", identity}, {"key-policy-statements.json", statements}} {
		body, err := json.MarshalIndent(iampolicy.NewDocument(policy.statements...), "", "  ")
		if err != nil {
			return nil, err
		}
		artifacts = append(artifacts, artifact{name: policy.name, body: append(body, '\n')})
	}
	return artifacts, nil
}
