package live

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
)

// cluster reads a cluster and what belongs to it, and returns its keys.
func (r *reading) cluster(name string) (keys []string) {
	if !r.first("AWS::EKS::Cluster", name) {
		return nil
	}
	client := eks.NewFromConfig(r.cfg)
	on := "cluster " + name
	one := &Resource{Type: "AWS::EKS::Cluster", ID: name}
	what, why := r.ask("eks:DescribeCluster", on, func() error {
		out, err := client.DescribeCluster(r.ctx, &eks.DescribeClusterInput{Name: &name})
		if err != nil || out.Cluster == nil {
			return err
		}
		c := out.Cluster
		one.ARN, one.Properties = aws.ToString(c.Arn), clusterProperties(c)
		one.State.Status, one.State.Tags = string(c.Status), c.Tags
		if c.Health != nil {
			for _, issue := range c.Health.Issues {
				one.State.Troubles = append(one.State.Troubles, trouble(string(issue.Code), issue.Message))
			}
		}
		for _, e := range c.EncryptionConfig {
			if e.Provider != nil {
				keys = append(keys, aws.ToString(e.Provider.KeyArn))
			}
		}
		return nil
	})
	switch what {
	case missing:
		return nil
	case unread:
		one.Properties = map[string]any{"Name": name, "EncryptionConfig": *why, "ResourcesVpcConfig": *why, "Logging": *why, "Version": *why, "RoleArn": *why, "AccessConfig": *why, "ComputeConfig": *why}
	}
	r.add(one)
	r.entries(client, name, on)
	r.associations(client, name, on)
	r.nodeGroups(client, name, on)
	r.addOns(client, name, on)
	r.identities(client, name, on)
	return keys
}

func clusterProperties(c *types.Cluster) map[string]any {
	p := map[string]any{
		"Name": c.Name, "Version": c.Version, "RoleArn": c.RoleArn, "DeletionProtection": c.DeletionProtection,
		"EncryptionConfig": nil, "Logging": nil, "AccessConfig": nil, "ComputeConfig": nil, "UpgradePolicy": nil,
	}
	var encryption []any
	for _, e := range c.EncryptionConfig {
		config := map[string]any{"Resources": texts(e.Resources)} //nolint:staticcheck // which answers still have
		if e.Provider != nil {
			config["Provider"] = object(map[string]any{"KeyArn": e.Provider.KeyArn})
		}
		encryption = append(encryption, object(config))
	}
	if encryption != nil {
		p["EncryptionConfig"] = encryption
	}
	if vpc := c.ResourcesVpcConfig; vpc != nil {
		p["ResourcesVpcConfig"] = object(map[string]any{
			"SubnetIds": texts(vpc.SubnetIds), "SecurityGroupIds": texts(vpc.SecurityGroupIds), "PublicAccessCidrs": texts(vpc.PublicAccessCidrs),
			"EndpointPublicAccess": vpc.EndpointPublicAccess, "EndpointPrivateAccess": vpc.EndpointPrivateAccess,
		})
	}
	var enabled []any
	if c.Logging != nil {
		for _, setup := range c.Logging.ClusterLogging {
			if aws.ToBool(setup.Enabled) {
				for _, kind := range setup.Types {
					enabled = append(enabled, map[string]any{"Type": string(kind)})
				}
			}
		}
	}
	if enabled != nil {
		p["Logging"] = map[string]any{"ClusterLogging": map[string]any{"EnabledTypes": enabled}}
	}
	if c.AccessConfig != nil {
		p["AccessConfig"] = object(map[string]any{"AuthenticationMode": string(c.AccessConfig.AuthenticationMode), "BootstrapClusterCreatorAdminPermissions": c.AccessConfig.BootstrapClusterCreatorAdminPermissions})
	}
	if c.ComputeConfig != nil {
		p["ComputeConfig"] = object(map[string]any{"Enabled": c.ComputeConfig.Enabled, "NodePools": texts(c.ComputeConfig.NodePools), "NodeRoleArn": c.ComputeConfig.NodeRoleArn})
	}
	if c.UpgradePolicy != nil {
		p["UpgradePolicy"] = object(map[string]any{"SupportType": string(c.UpgradePolicy.SupportType)})
	}
	return settings(p)
}

func (r *reading) entries(client *eks.Client, cluster, on string) {
	var principals []string
	pages := eks.NewListAccessEntriesPaginator(client, &eks.ListAccessEntriesInput{ClusterName: &cluster})
	r.pages("eks:ListAccessEntries", on, pages.HasMorePages, func() error {
		page, err := pages.NextPage(r.ctx)
		if err == nil {
			principals = append(principals, page.AccessEntries...)
		}
		return err
	})
	for _, principal := range principals {
		one := &Resource{Type: "AWS::EKS::AccessEntry", ID: principal + "|" + cluster, Properties: map[string]any{"ClusterName": cluster, "PrincipalArn": principal}}
		of := "the access entry of " + principal
		if r.set(one, "eks:DescribeAccessEntry", of, []string{"KubernetesGroups", "Type", "Username"}, func() error {
			out, err := client.DescribeAccessEntry(r.ctx, &eks.DescribeAccessEntryInput{ClusterName: &cluster, PrincipalArn: &principal})
			if err != nil || out.AccessEntry == nil {
				return err
			}
			e := out.AccessEntry
			one.ARN = aws.ToString(e.AccessEntryArn)
			one.Properties["KubernetesGroups"], one.Properties["Type"], one.Properties["Username"] = texts(e.KubernetesGroups), plain(e.Type), plain(e.Username)
			return nil
		}) == missing {
			continue
		}
		r.set(one, "eks:ListAssociatedAccessPolicies", of, []string{"AccessPolicies"}, func() error {
			var all []any
			pages := eks.NewListAssociatedAccessPoliciesPaginator(client, &eks.ListAssociatedAccessPoliciesInput{ClusterName: &cluster, PrincipalArn: &principal})
			for pages.HasMorePages() {
				page, err := pages.NextPage(r.ctx)
				if err != nil {
					return err
				}
				for _, p := range page.AssociatedAccessPolicies {
					policy := map[string]any{"PolicyArn": p.PolicyArn}
					if p.AccessScope != nil {
						policy["AccessScope"] = object(map[string]any{"Type": string(p.AccessScope.Type), "Namespaces": texts(p.AccessScope.Namespaces)})
					}
					all = append(all, object(policy))
				}
			}
			if all != nil {
				one.Properties["AccessPolicies"] = all
			}
			return nil
		})
		r.add(one)
	}
}

func (r *reading) associations(client *eks.Client, cluster, on string) {
	var all []types.PodIdentityAssociationSummary
	pages := eks.NewListPodIdentityAssociationsPaginator(client, &eks.ListPodIdentityAssociationsInput{ClusterName: &cluster})
	r.pages("eks:ListPodIdentityAssociations", on, pages.HasMorePages, func() error {
		page, err := pages.NextPage(r.ctx)
		if err == nil {
			all = append(all, page.Associations...)
		}
		return err
	})
	for _, a := range all {
		one := &Resource{Type: "AWS::EKS::PodIdentityAssociation", ID: aws.ToString(a.AssociationArn), ARN: aws.ToString(a.AssociationArn), Properties: settings(map[string]any{
			"ClusterName": cluster, "Namespace": a.Namespace, "ServiceAccount": a.ServiceAccount,
		})}
		if r.set(one, "eks:DescribePodIdentityAssociation", "the association "+aws.ToString(a.AssociationId), []string{"RoleArn", "TargetRoleArn"}, func() error {
			out, err := client.DescribePodIdentityAssociation(r.ctx, &eks.DescribePodIdentityAssociationInput{ClusterName: &cluster, AssociationId: a.AssociationId})
			if err != nil || out.Association == nil {
				return err
			}
			one.Properties["RoleArn"], one.Properties["TargetRoleArn"] = plain(out.Association.RoleArn), plain(out.Association.TargetRoleArn)
			return nil
		}) != missing {
			r.add(one)
		}
	}
}

func (r *reading) nodeGroups(client *eks.Client, cluster, on string) {
	var names []string
	pages := eks.NewListNodegroupsPaginator(client, &eks.ListNodegroupsInput{ClusterName: &cluster})
	r.pages("eks:ListNodegroups", on, pages.HasMorePages, func() error {
		page, err := pages.NextPage(r.ctx)
		if err == nil {
			names = append(names, page.Nodegroups...)
		}
		return err
	})
	for _, name := range names {
		one := &Resource{Type: "AWS::EKS::Nodegroup", ID: cluster + "/" + name, Properties: map[string]any{"ClusterName": cluster, "NodegroupName": name}}
		if r.set(one, "eks:DescribeNodegroup", "node group "+name, []string{"Version", "NodeRole"}, func() error {
			out, err := client.DescribeNodegroup(r.ctx, &eks.DescribeNodegroupInput{ClusterName: &cluster, NodegroupName: &name})
			if err != nil || out.Nodegroup == nil {
				return err
			}
			n := out.Nodegroup
			one.ARN = aws.ToString(n.NodegroupArn)
			one.Properties["Version"], one.Properties["NodeRole"] = plain(n.Version), plain(n.NodeRole)
			if n.Health != nil {
				for _, issue := range n.Health.Issues {
					one.State.Troubles = append(one.State.Troubles, trouble(string(issue.Code), issue.Message))
				}
			}
			return nil
		}) != missing {
			r.add(one)
		}
	}
}

func (r *reading) addOns(client *eks.Client, cluster, on string) {
	var names []string
	pages := eks.NewListAddonsPaginator(client, &eks.ListAddonsInput{ClusterName: &cluster})
	r.pages("eks:ListAddons", on, pages.HasMorePages, func() error {
		page, err := pages.NextPage(r.ctx)
		if err == nil {
			names = append(names, page.Addons...)
		}
		return err
	})
	for _, name := range names {
		one := &Resource{Type: "AWS::EKS::Addon", ID: cluster + "|" + name, Properties: map[string]any{"ClusterName": cluster, "AddonName": name}}
		if r.set(one, "eks:DescribeAddon", "add-on "+name, []string{"AddonVersion"}, func() error {
			out, err := client.DescribeAddon(r.ctx, &eks.DescribeAddonInput{ClusterName: &cluster, AddonName: &name})
			if err != nil || out.Addon == nil {
				return err
			}
			one.Properties["AddonVersion"] = plain(out.Addon.AddonVersion)
			if out.Addon.Health != nil {
				for _, issue := range out.Addon.Health.Issues {
					one.State.Troubles = append(one.State.Troubles, trouble(string(issue.Code), issue.Message))
				}
			}
			return nil
		}) != missing {
			r.add(one)
		}
	}
}

func (r *reading) identities(client *eks.Client, cluster, on string) {
	var all []types.IdentityProviderConfig
	pages := eks.NewListIdentityProviderConfigsPaginator(client, &eks.ListIdentityProviderConfigsInput{ClusterName: &cluster})
	r.pages("eks:ListIdentityProviderConfigs", on, pages.HasMorePages, func() error {
		page, err := pages.NextPage(r.ctx)
		if err == nil {
			all = append(all, page.IdentityProviderConfigs...)
		}
		return err
	})
	for _, p := range all {
		one := &Resource{Type: "AWS::EKS::IdentityProviderConfig", ID: cluster + "/oidc/" + aws.ToString(p.Name), Properties: map[string]any{"ClusterName": cluster, "Type": "oidc"}}
		if r.set(one, "eks:DescribeIdentityProviderConfig", "identity provider "+aws.ToString(p.Name), []string{"Oidc"}, func() error {
			out, err := client.DescribeIdentityProviderConfig(r.ctx, &eks.DescribeIdentityProviderConfigInput{ClusterName: &cluster, IdentityProviderConfig: &p})
			if err != nil || out.IdentityProviderConfig == nil || out.IdentityProviderConfig.Oidc == nil {
				return err
			}
			oidc := out.IdentityProviderConfig.Oidc
			one.Properties["Oidc"] = object(map[string]any{"IssuerUrl": oidc.IssuerUrl, "ClientId": oidc.ClientId, "GroupsClaim": oidc.GroupsClaim, "UsernameClaim": oidc.UsernameClaim})
			return nil
		}) != missing {
			r.add(one)
		}
	}
}

// trouble is what EKS says is wrong.
func trouble(code string, message *string) string {
	return code + ": " + strings.TrimSuffix(aws.ToString(message), ".")
}
