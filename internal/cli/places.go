package cli

import (
	"cmp"
	"fmt"
	"os"

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
	file  string
	lines map[string]int
	// clusters are the paths of clusters by their stacks.
	clusters map[string]string
}

func placesOf(file string, clusters *config.File) *places {
	p := &places{file: cmp.Or(file, config.FileName), clusters: map[string]string{}}
	if data, err := os.ReadFile(p.file); err == nil { // standard input is read only once
		p.lines = config.Lines(data)
	}
	for i, c := range clusters.Clusters {
		p.clusters[place.Stack(c.Name)] = fmt.Sprintf("clusters[%d]", i)
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
		f.Field = cluster
		for _, field := range fieldOf[f.Rule] {
			if f.Field == cluster || p.lines[cluster+"."+field] > 0 && p.lines[f.Field] == 0 {
				f.Field = cluster + "." + field
			}
		}
		for at := f.Field; at != "" && f.Line == 0; at = config.Parent(at) {
			f.Line = p.lines[at]
		}
	}
}
