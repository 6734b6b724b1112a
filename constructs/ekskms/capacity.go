package ekskms

import (
	"maps"
	"slices"
	"strconv"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseksv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/place"
)

func (props *EncryptedClusterProps) checkCapacity() {
	const typ = encryptedClusterType
	if props.Nodegroup != nil && props.Nodegroups != nil {
		reject(typ, "Nodegroups", "is set beside Nodegroup: give one of them")
	}
	if p := props.NodePools; p != "" && (props.Nodegroup != nil || props.Nodegroups != nil) {
		reject(typ, "NodePools", "is for EKS Auto Mode: remove it, or the node groups")
	} else if !slices.Contains([]NodePools{"", NodePoolsBoth, NodePoolsGeneralPurpose, NodePoolsSystem, NodePoolsNone}, p) {
		reject(typ, "NodePools", "is %q, must be one of both, general-purpose, system, none", p)
	}
	named := func(prop string, n int, name func(i int) (string, *string)) {
		var names []string
		for i := range n {
			field, given := name(i)
			at := prop + "[" + strconv.Itoa(i) + "]"
			require(typ, at+"."+field, given != nil && *given != "")
			if slices.Contains(names, *given) {
				reject(typ, at+"."+field, "is %q, as that of another: give each its own", *given)
			}
			names = append(names, *given)
		}
	}
	groups, profiles, addOns := *orDefault(props.Nodegroups, nil), *orDefault(props.FargateProfiles, nil), *orDefault(props.AddOns, nil)
	named("Nodegroups", len(groups), func(i int) (string, *string) { return "Id", orDefault(groups[i], Nodegroup{}).Id })
	named("FargateProfiles", len(profiles), func(i int) (string, *string) { return "Id", orDefault(profiles[i], FargateProfile{}).Id })
	named("AddOns", len(addOns), func(i int) (string, *string) { return "Name", orDefault(addOns[i], AddOn{}).Name })
	for i, p := range profiles {
		at := "FargateProfiles[" + strconv.Itoa(i) + "].Selectors"
		require(typ, at, p.Selectors != nil)
		if n := len(*p.Selectors); n < 1 || n > blueprint.MaxFargateSelectors {
			reject(typ, at, "has %d elements, must have 1 to %d", n, blueprint.MaxFargateSelectors)
		}
		for j, s := range *p.Selectors {
			require(typ, at+"["+strconv.Itoa(j)+"].Namespace", s != nil && s.Namespace != nil)
		}
	}
	for i, a := range addOns {
		if (a.ServiceAccount == nil) != (a.Role == nil) {
			reject(typ, "AddOns["+strconv.Itoa(i)+"]", "has one of ServiceAccount and Role: give both or neither")
		}
	}
	for i, arn := range *orDefault(props.NodeRoles, nil) {
		require(typ, "NodeRoles["+strconv.Itoa(i)+"]", arn != nil)
	}
	props.checkVolumes()
}

// nodegroups are all, with what their options leave open. One without an Id is the only one.
func (props *EncryptedClusterProps) nodegroups() (all []Nodegroup) {
	if props.Nodegroup != nil {
		return []Nodegroup{{Options: nodegroup("Nodegroup", props.Nodegroup, props.subnets())}}
	}
	for i, g := range *orDefault(props.Nodegroups, nil) {
		group := *g
		group.Options = nodegroup("Nodegroups["+strconv.Itoa(i)+"].Options", orDefault(g.Options, awseksv2.NodegroupOptions{}), props.subnets())
		all = append(all, group)
	}
	return all
}

// capacity is what the blueprint has to know of it.
func (props *EncryptedClusterProps) capacity(groups []Nodegroup) blueprint.Capacity {
	c := blueprint.Capacity{NodePools: string(props.NodePools)}
	switch {
	case len(groups) > 0:
		c.Mode = blueprint.NodeGroups
	case props.Nodegroups != nil:
		c.Mode = blueprint.NoNodes
	}
	for _, g := range groups {
		group := blueprint.NodeGroup{InstanceTypes: instanceNames(g.Options), AMIType: string(g.Options.AmiType)}
		if g.Options.DiskSize != nil {
			group.DiskSizeGiB = int(*g.Options.DiskSize)
		}
		c.NodeGroups = append(c.NodeGroups, group)
	}
	for _, arn := range *orDefault(props.NodeRoles, nil) {
		c.NodeRoles = append(c.NodeRoles, *arn)
	}
	return c
}

func (props *EncryptedClusterProps) addOns() (all []blueprint.AddOn) {
	for _, a := range *orDefault(props.AddOns, nil) {
		all = append(all, blueprint.AddOn{
			Name: *a.Name, Version: *orDefault(a.Version, ""), Settings: *orDefault(a.ConfigurationValues, nil),
			ServiceAccount: *orDefault(a.ServiceAccount, ""), RoleARN: *orDefault(a.Role, ""),
		})
	}
	return all
}

// nodegroup fills in what the options of a node group leave open, in a copy.
func nodegroup(prop string, given *awseksv2.NodegroupOptions, subnets *awsec2.SubnetSelection) *awseksv2.NodegroupOptions {
	group := *given
	if group.InstanceTypes == nil || len(*group.InstanceTypes) == 0 {
		group.InstanceTypes = &[]awsec2.InstanceType{awsec2.NewInstanceType(jsii.String(blueprint.DefaultInstanceType))}
	}
	for i, t := range *group.InstanceTypes {
		require(encryptedClusterType, prop+".InstanceTypes["+strconv.Itoa(i)+"]", t != nil)
	}
	if group.AmiType == "" && group.LaunchTemplateSpec == nil {
		// Not left to a feature flag of the app: without it CDK takes Amazon Linux 2.
		group.AmiType = awseksv2.NodegroupAmiType_AL2023_X86_64_STANDARD
		if blueprint.ArchitectureOf(instanceNames(&group)[0]) == blueprint.ARM64 {
			group.AmiType = awseksv2.NodegroupAmiType_AL2023_ARM_64_STANDARD
		}
	}
	if group.MinSize == nil {
		group.MinSize = jsii.Number(blueprint.MinNodes.Default)
	}
	if group.MaxSize == nil {
		group.MaxSize = jsii.Number(max(float64(blueprint.MaxNodes.Default), *group.MinSize))
	}
	if group.DesiredSize == nil {
		group.DesiredSize = group.MinSize
	}
	if group.Subnets == nil {
		group.Subnets = subnets
	}
	return &group
}

func instanceNames(group *awseksv2.NodegroupOptions) []string {
	names := make([]string, len(*group.InstanceTypes))
	for i, t := range *group.InstanceTypes {
		names[i] = *t.ToString()
	}
	return names
}

// addNodes adds the nodes, those of Fargate, the access of those that come later, and the
// add-ons.
func (c *EncryptedCluster) addNodes(groups []Nodegroup, props *EncryptedClusterProps) {
	var nodegroups []awseksv2.Nodegroup
	var runs []constructs.IDependable // what pods run on
	for _, g := range groups {
		nodegroups = append(nodegroups, c.addNodegroup(g))
		runs = append(runs, nodegroups[len(nodegroups)-1])
	}
	runs = append(runs, c.addFargate(props)...)
	for i, arn := range c.c.Capacity.NodeRoles {
		id := strconv.Itoa(i)
		if !*awscdk.Token_IsUnresolved(jsii.String(arn)) {
			id = place.ShortHash(arn) // so that no other entry is replaced when one goes
		}
		c.addNodeEntry("NodeAccess-"+id, arn)
	}
	for _, spec := range c.c.AddOns() {
		addon := c.addAddOn(spec)
		switch {
		case spec.Overwrite && !spec.OnNodes():
			for _, n := range nodegroups {
				n.Node().AddDependency(addon)
			}
		case spec.OnNodes() && len(runs) > 0:
			addon.Node().AddDependency(runs...)
		}
	}
}

func (c *EncryptedCluster) addNodegroup(g Nodegroup) awseksv2.Nodegroup {
	id := "Nodes"
	if g.Id != nil {
		id += "-" + *g.Id
		if g.Options.NodeRole == nil {
			g.Options.NodeRole = c.nodesRole()
		}
	}
	group := c.cluster.AddNodegroupCapacity(jsii.String(id), g.Options)
	version := c.c.KubernetesVersion
	if g.KubernetesVersion != nil {
		version = *g.KubernetesVersion.Version()
	}
	if g.Id != nil || g.KubernetesVersion != nil {
		group.Node().DefaultChild().(awseksv2.CfnNodegroup).SetVersion(jsii.String(version))
	}
	return group
}

// nodesRole is the one role of several node groups, or of nodes of a class of their own.
func (c *EncryptedCluster) nodesRole() awsiam.Role {
	if c.nodeRole == nil {
		c.nodeRole = newRole(c, "NodeRole", c.c.NodeRole())
		attach(c.nodeRole, c.c.NodeRole().Managed...)
	}
	return c.nodeRole
}

// addFargate adds the profiles one after the other, since EKS makes one at a time.
func (c *EncryptedCluster) addFargate(props *EncryptedClusterProps) (all []constructs.IDependable) {
	profiles := *orDefault(props.FargateProfiles, nil)
	if len(profiles) == 0 {
		return nil
	}
	spec := c.c.FargateRole()
	role := newRole(c, "FargateRole", spec)
	attach(role, spec.Managed...)
	for _, p := range profiles {
		selectors := []any{}
		for _, s := range *p.Selectors {
			selector := &awseksv2.CfnFargateProfile_SelectorProperty{Namespace: s.Namespace}
			if s.Labels != nil {
				labels := []any{}
				for _, key := range slices.Sorted(maps.Keys(*s.Labels)) {
					labels = append(labels, &awseksv2.CfnFargateProfile_LabelProperty{Key: jsii.String(key), Value: (*s.Labels)[key]})
				}
				selector.Labels = &labels
			}
			selectors = append(selectors, selector)
		}
		profile := awseksv2.NewCfnFargateProfile(c, jsii.String("Fargate-"+*p.Id), &awseksv2.CfnFargateProfileProps{
			ClusterName:         c.cluster.ClusterName(),
			PodExecutionRoleArn: role.RoleArn(),
			Selectors:           &selectors,
			Subnets:             c.vpc.SelectSubnets(props.subnets()).SubnetIds,
		})
		if len(all) > 0 {
			profile.Node().AddDependency(all[len(all)-1])
		}
		all = append(all, profile)
	}
	return all
}

// addNodeEntry lets nodes of a role join the cluster.
func (c *EncryptedCluster) addNodeEntry(id, roleARN string) {
	entryType, policy := c.c.NodeEntry()
	props := &awseksv2.CfnAccessEntryProps{ClusterName: c.cluster.ClusterName(), PrincipalArn: jsii.String(roleARN), Type: jsii.String(entryType)}
	if policy != "" {
		props.AccessPolicies = &[]any{&awseksv2.CfnAccessEntry_AccessPolicyProperty{
			PolicyArn:   jsii.String(c.c.At.AccessPolicy(policy)),
			AccessScope: &awseksv2.CfnAccessEntry_AccessScopeProperty{Type: jsii.String("cluster")},
		}}
	}
	awseksv2.NewCfnAccessEntry(c, jsii.String(id), props)
}

func (c *EncryptedCluster) addAddOn(spec blueprint.AddOn) awseksv2.Addon {
	props := &awseksv2.AddonProps{Cluster: c.cluster, AddonName: jsii.String(spec.Name)}
	if spec.Version != "" {
		props.AddonVersion = jsii.String(spec.Version)
	}
	if spec.Settings != nil {
		props.ConfigurationValues = &spec.Settings
	}
	addon := awseksv2.NewAddon(c, jsii.String(spec.ID), props)
	resource := addon.Node().DefaultChild().(awseksv2.CfnAddon)
	if spec.Overwrite {
		resource.SetResolveConflicts(jsii.String("OVERWRITE"))
	}
	if spec.RoleARN != "" {
		resource.SetPodIdentityAssociations(&[]any{&awseksv2.CfnAddon_PodIdentityAssociationProperty{
			RoleArn: jsii.String(spec.RoleARN), ServiceAccount: jsii.String(spec.ServiceAccount),
		}})
	}
	return addon
}
