package config

import (
	"strings"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/manifest"
	"github.com/ekskms/ekskms/internal/place"
)

// Shared is the record of the clusters in a place as its renderers take it.
func (e Environment) Shared(shared *Shared) blueprint.Cluster {
	audit := shared.Audit
	b := blueprint.Cluster{Name: place.Shared, Shared: true, Tags: shared.Tags, Audit: blueprint.Audit{
		TrailARN: audit.TrailARN, RetentionDays: audit.RetentionDays, CloudWatchLogsRetentionDays: audit.CloudWatchLogsRetentionDays,
		Emails: audit.Emails, Readers: audit.Readers,
	}}
	if e.Region != "" {
		b.At = place.In(e.Account, e.Region)
	}
	if audit.TrailARN == "" && e.Region != e.HomeRegion {
		b.Audit.TrailARN = blueprint.Cluster{Name: place.Shared, At: place.In(e.Account, e.HomeRegion)}.Trail().ARN
	}
	return b
}

// blueprint is the key with all that is chosen for it.
func (k Key) blueprint() blueprint.Key {
	return blueprint.Key{
		ARN: k.ARN, Alias: k.Alias, RotationPeriodDays: k.RotationPeriodDays, PendingWindowDays: k.PendingWindowDays, MultiRegion: k.MultiRegion,
		StrictGrants: k.StrictGrants, BreakGlass: k.BreakGlass, Account: k.Central,
	}
}

// KeyBlueprint is the cluster for who makes its key, also in a central account.
func (c Cluster) KeyBlueprint() blueprint.Cluster {
	b := c.Blueprint()
	b.Key = c.Key.blueprint()
	return b
}

// Blueprint is the cluster as its renderers take it. It is in its place only if the
// configuration says where that is.
func (c Cluster) Blueprint() blueprint.Cluster {
	b := blueprint.Cluster{
		Name:              c.Name,
		KubernetesVersion: c.KubernetesVersion,
		SupportType:       strings.ToUpper(c.SupportPolicy),
		Network:           blueprint.Network(c.VPC),
		PublicCIDRs:       c.Endpoint.PublicCIDRs,
		Capacity:          c.capacity(),
		MoreAddOns:        c.addOns(),
		Overrides:         c.Overrides,
		Key:               c.Key.blueprint(),
		Administrators:    c.Administrators,
		Creators:          c.Creators,
		Audit:             blueprint.Audit(c.Audit),
		Secrets:           blueprint.Secrets{Guard: manifest.Guard(c.Secrets.Guard), GuardExemptions: c.Secrets.GuardExemptions},
		Tags:              c.Tags,
		CDK:               blueprint.CDK(c.CDK),
	}
	if c.Region != "" {
		b.At = place.In(c.Account, c.Region)
	}
	for _, e := range c.AccessEntries {
		b.AccessEntries = append(b.AccessEntries, blueprint.AccessEntry{
			PrincipalARN: e.PrincipalARN, Policy: e.Policy, Namespaces: e.Scope.Namespaces, Groups: e.Groups,
		})
	}
	if c.Plugin.Enabled {
		b.Plugin = &blueprint.Plugin{Image: c.Plugin.Image, Mode: manifest.Mode(c.Plugin.Mode), Architecture: c.Plugin.Architecture, HostPaths: c.Plugin.HostPaths}
		for _, t := range c.Plugin.Tenants {
			b.Plugin.Tenants = append(b.Plugin.Tenants, blueprint.Tenant(t))
		}
	}
	for _, r := range c.Secrets.Readers {
		reader := blueprint.Reader{PrincipalARNs: r.PrincipalARNs, SecretReader: manifest.SecretReader{
			Name: r.Name, Namespace: r.Namespace, SecretNames: r.SecretNames, Groups: r.Groups, AllowList: r.AllowList, AllowWatch: r.AllowWatch,
		}}
		for _, a := range r.ServiceAccounts {
			reader.ServiceAccounts = append(reader.ServiceAccounts, manifest.ServiceAccount{Name: a.Name, Namespace: a.Namespace})
		}
		b.Secrets.Readers = append(b.Secrets.Readers, reader)
	}
	if c.Volumes != nil {
		b.Volumes = &blueprint.Volumes{KeyARN: c.Volumes.KeyARN, Architecture: c.Plugin.Architecture}
	}
	if c.Key.Central != "" {
		if c.Key.CentralARN != "" {
			b.Key = blueprint.Key{ARN: c.Key.CentralARN, StrictGrants: c.Key.StrictGrants}
		}
		b.Key.Account = c.Key.Central
		b.KnowPaths()
	}
	b.Applied = c.Plugin.Apply != ApplyNone
	b.KubectlHandler = b.Applied && (b.Plugin != nil || b.Secrets.Makes() || b.Volumes != nil)
	return b
}
