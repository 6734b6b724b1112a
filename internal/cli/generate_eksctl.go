package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/iampolicy"
)

func newGenerateEksctl() *cobra.Command {
	var at placeFlags
	var key, clusterRole, pluginRole string
	cmd := &cobra.Command{
		Use:   "eksctl",
		Short: "Print the cluster as a ClusterConfig of eksctl, under the key",
		Long: "Print what 'eksctl create cluster -f FILE' takes: the cluster of ekskms.yaml with its secrets\n" +
			"encrypted under the key, its logs, access entries and the plugin's Pod Identity association.\n" +
			"\n" +
			"eksctl makes no key, no trail and no alarms. The key must be there, with a policy that\n" +
			"'ekskms generate key-policy' prints.",
		Example: "  ekskms generate eksctl --file ekskms.yaml --key arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, k, err := at.withKey(cmd, key)
			if err != nil {
				return err
			}
			if c.Network.Shared {
				return hint.Usage("vpc.shared has no place in a file of eksctl", "give the id and the subnetIds of the VPC")
			}
			if c.Network.Isolated {
				return hint.Usage(`vpc.isolated has no place in a file of eksctl`, "make the VPC with its endpoints first, and give its id and subnetIds")
			}
			switch v := c.Volumes; {
			case v == nil:
			case c.AutoMode():
				return hint.Usage("volumes has no place in a file of eksctl with Auto Mode, which takes no node class", "leave volumes out, and make the node class by hand")
			case v.KeyARN == "":
				return hint.Usage("eksctl makes no key for volumes", "make the key first, and give volumes.keyArn")
			}
			keyARN := k.String()
			for flag, value := range map[string]string{"cluster-role-arn": clusterRole, "plugin-role-arn": pluginRole} {
				if err := roleFlag(flag, value); err != nil {
					return err
				}
			}
			body, err := yaml.Marshal(eksctlConfig(c, keyARN, clusterRole, pluginRole))
			if err != nil {
				return err
			}
			return emit(cmd, []artifact{{"cluster.yaml", eksctlComments(c, keyARN, clusterRole, pluginRole), body}}, "", false)
		},
	}
	flags := cmd.Flags()
	at.register(cmd)
	flags.StringVar(&key, "key", "", "`ARN` of the key, where the configuration has none")
	flags.StringVar(&clusterRole, "cluster-role-arn", "", "`ARN` of a role for the cluster (default: eksctl makes one)")
	flags.StringVar(&pluginRole, "plugin-role-arn", "", "`ARN` of a role for the plugin (default: eksctl makes one)")
	return cmd
}

// pluginRoleName is what eksctl calls the role that it makes. IAM takes 64
// characters.
func pluginRoleName(cluster string) string {
	return "ekskms-" + cluster[:min(len(cluster), 50)] + "-plugin"
}

func eksctlComments(c blueprint.Cluster, keyARN, clusterRole, pluginRole string) []string {
	lines := []string{
		"eksctl for cluster " + c.Name + ".",
		"Key:     " + keyARN,
		"First:   the key's policy must let the principal that runs eksctl create the cluster: name the role in creators.",
	}
	if clusterRole == "" {
		lines = append(lines,
			"         eksctl makes the cluster's role. So that EKS can tell the health of the key, name it in the",
			"         policy later, with ekskms generate key-policy --cluster-role-arn.")
	}
	if c.Plugin != nil && pluginRole == "" {
		lines = append(lines,
			"         The plugin's role is "+pluginRoleName(c.Name)+": once it is there, name it in the policy",
			"         with ekskms generate key-policy --plugin-role-arn.")
	}
	if len(c.PublicCIDRs) == 0 {
		lines = append(lines, "         The Kubernetes API is private: run eksctl where the VPC can be reached.")
	}
	if c.SupportType != "" {
		lines = append(lines, "Then:    supportPolicy has no place here: aws eks update-cluster-config --name "+c.Name+" --upgrade-policy supportType="+c.SupportType)
	}
	if roles := c.Capacity.NodeRoles; len(roles) > 0 {
		entryType, _ := c.NodeEntry()
		lines = append(lines, "Then:    an access entry of type "+entryType+" for each of nodeRoles, which eksctl's file has no place for: aws eks create-access-entry")
	}
	lines = append(lines, versionsOfGroups(c)...)
	if len(c.Overrides) > 0 {
		lines = append(lines, "Not here: overrides, which are properties of CloudFormation.")
	}
	lines = append(lines, "Next:    eksctl create cluster -f FILE")
	if c.Plugin != nil {
		lines = append(lines, "         ekskms generate manifests --key "+keyARN+" --image IMAGE | kubectl apply --server-side -f -")
	}
	return append(lines,
		"         eksctl makes no audit trail, no alarms and no key for the log group, and leaves the cluster",
		"         unprotected against deletion.")
}

// versionsOfGroups are the images and versions of node groups that eksctl chooses by
// itself.
func versionsOfGroups(c blueprint.Cluster) (lines []string) {
	for _, g := range c.Capacity.NodeGroups {
		if g.KubernetesVersion != "" && g.KubernetesVersion != c.KubernetesVersion {
			lines = append(lines, "Not here: kubernetesVersion of node group "+g.Name+": eksctl makes it with that of the cluster.")
		}
		if g.AMIType != "" {
			lines = append(lines, "Not here: amiType of node group "+cmp.Or(g.Name, "nodes")+": eksctl chooses the image by amiFamily and instance types.")
		}
	}
	return lines
}

// eksctlConfig is a ClusterConfig. Source of the fields: the schema of eksctl
// 0.215, against which the tests hold it.
func eksctlConfig(c blueprint.Cluster, keyARN, clusterRole, pluginRole string) map[string]any {
	metadata := map[string]any{"name": c.Name, "region": c.At.Region.Text(), "version": c.KubernetesVersion}
	if len(c.Tags) > 0 {
		metadata["tags"] = c.Tags
	}
	cluster := map[string]any{
		"apiVersion":        "eksctl.io/v1alpha5",
		"kind":              "ClusterConfig",
		"metadata":          metadata,
		"secretsEncryption": map[string]any{"keyARN": keyARN},
		"vpc":               eksctlVPC(c),
		"accessConfig": map[string]any{
			"authenticationMode":                      blueprint.AuthenticationMode,
			"bootstrapClusterCreatorAdminPermissions": false,
			"accessEntries":                           eksctlAccess(c),
		},
		"cloudWatch": map[string]any{"clusterLogging": map[string]any{
			"enableTypes":        blueprint.LogTypes,
			"logRetentionInDays": c.Audit.ControlPlaneLogRetentionDays,
		}},
	}
	iam := map[string]any{}
	if clusterRole != "" {
		iam["serviceRoleARN"] = clusterRole
	}
	if c.Plugin != nil {
		session := c.Session()
		association := map[string]any{"namespace": session.Namespace, "serviceAccountName": session.ServiceAccount}
		if pluginRole != "" {
			association["roleARN"] = pluginRole
		} else {
			association["roleName"] = pluginRoleName(c.Name)
			association["permissionPolicy"] = object(iampolicy.NewDocument(c.PluginRole().Policy...))
		}
		iam["podIdentityAssociations"] = []any{association}
	}
	if len(iam) > 0 {
		cluster["iam"] = iam
	}
	if len(c.Network.AvailabilityZones) > 0 {
		cluster["availabilityZones"] = c.Network.AvailabilityZones
	}
	if c.AutoMode() {
		cluster["autoModeConfig"] = map[string]any{"enabled": true, "nodePools": append([]string{}, c.Capacity.Pools()...)}
	}
	var groups []any
	for _, g := range c.Capacity.NodeGroups {
		groups = append(groups, eksctlNodeGroup(g, c.Volumes))
	}
	if groups != nil {
		cluster["managedNodeGroups"] = groups
	}
	var profiles []any
	for _, p := range c.Capacity.FargateProfiles {
		var selectors []any
		for _, s := range p.Selectors {
			selector := map[string]any{"namespace": s.Namespace}
			if len(s.Labels) > 0 {
				selector["labels"] = s.Labels
			}
			selectors = append(selectors, selector)
		}
		profiles = append(profiles, map[string]any{"name": p.Name, "selectors": selectors})
	}
	if profiles != nil {
		cluster["fargateProfiles"] = profiles
	}
	var addons []any
	for _, a := range c.AddOns() {
		addons = append(addons, eksctlAddOn(a))
	}
	if !c.AutoMode() {
		for _, name := range []string{"coredns", "kube-proxy"} { // which eksctl would add too, and say so
			if !slices.ContainsFunc(c.MoreAddOns, func(a blueprint.AddOn) bool { return a.Name == name }) {
				addons = append(addons, map[string]any{"name": name})
			}
		}
	}
	if addons != nil {
		cluster["addons"] = addons
	}
	return cluster
}

func eksctlNodeGroup(g blueprint.NodeGroup, volumes *blueprint.Volumes) map[string]any {
	group := map[string]any{
		"name": cmp.Or(g.Name, "nodes"), "amiFamily": "AmazonLinux2023", "instanceTypes": g.InstanceTypes, "privateNetworking": true,
		"minSize": g.MinSize, "maxSize": g.MaxSize, "desiredCapacity": g.DesiredSize,
	}
	if strings.HasPrefix(g.AMIType, "BOTTLEROCKET") {
		group["amiFamily"] = "Bottlerocket"
	}
	if g.CapacityType == "SPOT" {
		group["spot"] = true
	}
	if g.DiskSizeGiB > 0 {
		group["volumeSize"] = g.DiskSizeGiB
	}
	if volumes != nil {
		group["volumeEncrypted"], group["volumeKmsKeyID"] = true, volumes.KeyARN
	}
	if len(g.Labels) > 0 {
		group["labels"] = g.Labels
	}
	var taints []any
	for _, t := range g.Taints {
		effect := ""
		for name, of := range blueprint.Effects {
			if of == t.Effect {
				effect = name
			}
		}
		taints = append(taints, map[string]any{"key": t.Key, "value": t.Value, "effect": effect})
	}
	if taints != nil {
		group["taints"] = taints
	}
	return group
}

func eksctlAddOn(a blueprint.AddOn) map[string]any {
	addon := map[string]any{"name": a.Name}
	if a.Version != "" {
		addon["version"] = a.Version
	}
	if a.Settings != nil {
		settings, err := json.Marshal(a.Settings)
		if err != nil {
			panic(err) // which was read from text
		}
		addon["configurationValues"] = string(settings)
	}
	if a.Overwrite {
		addon["resolveConflicts"] = "overwrite"
	}
	if a.RoleARN != "" {
		addon["podIdentityAssociations"] = []any{map[string]any{"serviceAccountName": a.ServiceAccount, "roleARN": a.RoleARN}}
	}
	return addon
}

func eksctlVPC(c blueprint.Cluster) map[string]any {
	public := len(c.PublicCIDRs) > 0
	vpc := map[string]any{"clusterEndpoints": map[string]any{"privateAccess": true, "publicAccess": public}}
	if public {
		vpc["publicAccessCIDRs"] = c.PublicCIDRs
	}
	if c.Network.ID == "" {
		vpc["cidr"] = c.Network.CIDR
		vpc["nat"] = map[string]any{"gateway": "Single"}
		if c.Network.NATGateways > 1 {
			vpc["nat"] = map[string]any{"gateway": "HighlyAvailable"} // one for each zone
		}
		return vpc
	}
	subnets := map[string]any{}
	for i, id := range c.Network.SubnetIDs {
		subnets[fmt.Sprintf("private-%d", i+1)] = map[string]any{"id": id}
	}
	if groups := c.Network.SecurityGroupIDs; len(groups) > 0 {
		vpc["controlPlaneSecurityGroupIDs"] = groups
	}
	vpc["id"], vpc["subnets"] = c.Network.ID, map[string]any{"private": subnets}
	return vpc
}

func eksctlAccess(c blueprint.Cluster) []any {
	entries := []any{}
	for _, e := range c.AllAccessEntries() {
		entry := map[string]any{"principalARN": e.PrincipalARN, "type": "STANDARD"}
		if len(e.Groups) > 0 {
			entry["kubernetesGroups"] = e.Groups
		}
		if e.Policy != "" {
			scope := map[string]any{"type": "cluster"}
			if len(e.Namespaces) > 0 {
				scope = map[string]any{"type": "namespace", "namespaces": e.Namespaces}
			}
			entry["accessPolicies"] = []any{map[string]any{"policyARN": c.At.AccessPolicy(e.Policy), "accessScope": scope}}
		}
		entries = append(entries, entry)
	}
	return entries
}

// object makes a map of a value, for a writer that knows maps.
func object(v any) map[string]any {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // a policy is text
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		panic(err)
	}
	return m
}
