package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/terminal"
	"github.com/ekskms/ekskms/internal/value"
)

// writeFleet says of several clusters where they are, how much was found there, and in
// what one differs from the others.
func writeFleet(w io.Writer, style terminal.Style, there *estate.Estate, report *finding.Report) error {
	if len(there.Clusters) < 2 {
		return nil
	}
	type place struct{ account, region string }
	clusters, found := map[place][]string{}, map[place]int{}
	at := map[string]place{} // by stack
	for _, s := range there.Stacks {
		at[s.Name] = place{s.Account, s.Region}
		if s.Assumed {
			at[s.Name] = place{"any", "any"}
		}
	}
	for _, c := range there.Clusters {
		clusters[at[c.In.Name]] = append(clusters[at[c.In.Name]], nameOfCluster(c))
	}
	for _, f := range report.Findings {
		if f.Suppressed == "" {
			found[at[f.Stack]]++
		}
	}
	rows := [][]string{headings(style, "Account", "Region", "Findings", "Clusters")}
	for _, p := range slices.SortedFunc(maps.Keys(clusters), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.region, b.region))
	}) {
		rows = append(rows, []string{p.account, p.region, strconv.Itoa(found[p]), strings.Join(clusters[p], ", ")})
	}
	text := style.Table("", rows) + "\n"
	if lines := differences(there.Clusters); len(lines) > 0 {
		for _, line := range lines {
			text += style.Wrap("", "  ", line) + "\n"
		}
		text += "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

func nameOfCluster(c *estate.Cluster) string {
	return cmp.Or(value.Text(c.Settings["Name"]), c.Resource)
}

// traits are in what clusters are compared.
var traits = []struct {
	name string
	of   func(*estate.Cluster) any
}{
	{"Kubernetes version", func(c *estate.Cluster) any { return c.Settings["Version"] }},
	{"support type", func(c *estate.Cluster) any { return value.At(c.Settings, "UpgradePolicy", "SupportType") }},
	{"public endpoint", func(c *estate.Cluster) any { return value.At(c.Settings, "ResourcesVpcConfig", "EndpointPublicAccess") }},
	{"key", func(c *estate.Cluster) any {
		return map[bool]string{true: "in these templates", false: "elsewhere"}[c.Key != nil]
	}},
	{"rotation, in days", func(c *estate.Cluster) any { return ofKey(c, "RotationPeriodInDays") }},
	{"multi-Region key", func(c *estate.Cluster) any { return ofKey(c, "MultiRegion") }},
}

func ofKey(c *estate.Cluster, setting string) any {
	if c.Key == nil {
		return nil
	}
	return c.Key.Settings[setting]
}

// differences say in what some clusters are not as more than half of them.
func differences(clusters []*estate.Cluster) (lines []string) {
	for _, trait := range traits {
		by := map[string][]string{}
		for _, c := range clusters {
			text := value.Words(trait.of(c))
			by[text] = append(by[text], nameOfCluster(c))
		}
		usual := ""
		for text, names := range by {
			if 2*len(names) > len(clusters) {
				usual = text
			}
		}
		if usual == "" || len(by) == 1 {
			continue
		}
		for _, text := range slices.Sorted(maps.Keys(by)) {
			if text != usual {
				lines = append(lines, fmt.Sprintf("%s: %s for %s; %s for the other %d", trait.name, text, strings.Join(by[text], ", "), usual, len(by[usual])))
			}
		}
	}
	return lines
}
