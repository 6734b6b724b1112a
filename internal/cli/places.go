package cli

import (
	"fmt"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/place"
)

// fieldOf are the fields of a cluster in the configuration that decide on what a rule
// finds, the nearest first. What no field decides on has the cluster itself.
var fieldOf = map[string][]string{
	"endpoint-public":            {"endpoint.publicCidrs", "endpoint.access"},
	"endpoint-opened":            {"endpoint.publicCidrs", "endpoint.access"},
	"kubernetes-version-ended":   {"kubernetesVersion"},
	"version-skipped":            {"kubernetesVersion"},
	"nodes-version-refused":      {"capacity.nodeGroups", "kubernetesVersion"},
	"add-on-version-refused":     {"addOns", "kubernetesVersion"},
	"cluster-replaced":           {"name"},
	"encryption-config-changed":  {"key"},
	"secrets-key-unsuitable":     {"key.arn"},
	"key-replaced":               {"key.multiRegion"},
	"key-rotation-slow":          {"key.rotationPeriodDays"},
	"rotation-weakened":          {"key.rotationPeriodDays"},
	"key-deletion-window-short":  {"key.pendingWindowDays"},
	"alias-moved":                {"key.alias", "name"},
	"key-no-durable-admin":       {"administrators"},
	"cluster-creator-missing":    {"creators"},
	"key-creation-refused":       {"creators"},
	"grants-unrestricted":        {"creators"},
	"trail-missing":              {"audit.trailArn"},
	"trail-weakened":             {"audit"},
	"trail-logs-deletable":       {"audit.retentionDays"},
	"retention-weakened":         {"audit.retentionDays"},
	"tamper-alarm-missing":       {"audit"},
	"trail-tamper-alarm-missing": {"audit"},
	"alarm-undeliverable":        {"audit.topicArn"},
	"alarm-removed":              {"audit.topicArn", "audit.emails"},
	"check-suppressed":           {"checks.suppress"},
}

// places are those of a configuration, which findings name in place of the template that is
// made of it and that nobody sees.
type places struct {
	file string
	at   map[string]config.Place
	// clusters are the paths of clusters by their stacks.
	clusters map[string]string
}

func placesOf(from configuration) *places {
	p := &places{file: config.FileName, at: from.places, clusters: map[string]string{}}
	if len(from.files) > 0 {
		p.file = from.files[0]
	}
	for i, c := range from.whole.Clusters {
		p.clusters[place.Stack(c.Name)] = fmt.Sprintf("clusters[%d]", i)
	}
	for _, e := range from.whole.Environments() {
		p.clusters[place.SharedStack(e.Account, e.Region)], p.clusters[place.AlarmsStack(e.Account, e.Region)] = "shared", "shared"
		p.clusters[place.NetworkStack(e.Account, e.Region)] = "shared.vpc"
	}
	for _, e := range from.whole.KeyEnvironments() {
		for _, stack := range []string{place.SharedStack(e.Account, e.Region), place.KeysStack(e.Account, e.Region), place.AlarmsStack(e.Account, e.Region)} {
			p.clusters[stack] = "shared.keyAccount"
		}
	}
	return p
}

// name gives findings their places. Those in stacks of which the configuration has no
// cluster, for it has gone, have the file alone.
func (p *places) name(report *finding.Report) {
	for i := range report.Findings {
		f := &report.Findings[i]
		f.File, f.Line = p.file, 0
		cluster := p.clusters[f.Stack]
		if cluster == "" {
			continue
		}
		stands := func(field string) bool { return p.at[field] != config.Place{} }
		f.Field = cluster
		for _, field := range fieldOf[f.Rule] {
			if f.Field == cluster || stands(cluster+"."+field) && !stands(f.Field) {
				f.Field = cluster + "." + field
			}
		}
		for at := f.Field; at != ""; at = config.Parent(at) {
			if found := p.at[at]; stands(at) {
				f.File, f.Line = found.File, found.Line
				if at == f.Field {
					f.Field = found.Path // which may be that of the defaults
				}
				break
			}
		}
	}
}
