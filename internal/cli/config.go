package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/terminal"
)

func newConfig() *cobra.Command {
	from := configuration{mayLack: true}
	var resolved bool
	var output string
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the clusters of a configuration, or every value in it with where it comes from",
		Long: "Read ekskms.yaml, or several files of which later ones merge over earlier ones, and list the\n" +
			"clusters in it. With --resolved, print all of it as one file: the defaults merged into each\n" +
			"cluster, what is built in filled in, and beside each value the file and line that it is from.\n" +
			"\n" +
			"A fault in the files is an error here as for every other command; nothing is synthesized.",
		Example: "  ekskms config\n" +
			"  ekskms config --resolved --file ekskms.yaml --file prod.yaml --only env=prod",
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := from.load(cmd)
			if err != nil {
				return err
			}
			stdout := cmd.OutOrStdout()
			if !resolved {
				rows := clusterRows(file)
				if output == "json" {
					return printJSON(stdout, rows)
				}
				_, err = io.WriteString(stdout, clusterTable(styleOf(cmd, stdout), rows))
				return err
			}
			text, err := config.Commented(file, from.placesOf(file))
			if err == nil && output == "json" {
				text, err = yaml.YAMLToJSON(text)
				text = append(text, '\n')
			}
			if err != nil {
				return err
			}
			_, err = stdout.Write(text)
			return err
		},
	}
	from.add(cmd)
	cmd.Flags().BoolVar(&resolved, "resolved", false, "print every value, with where it comes from")
	choice(cmd.Flags(), &output, "output", "`format`", "text", "json")
	return cmd
}

// placesOf are the places of the values of a file that has some of the clusters.
func (c *configuration) placesOf(file *config.File) map[string]config.Place {
	if len(file.Clusters) == len(c.whole.Clusters) {
		return c.places
	}
	places := map[string]config.Place{}
	for to, cluster := range file.Clusters {
		from := slices.IndexFunc(c.whole.Clusters, func(o config.Cluster) bool { return o.Name == cluster.Name })
		old, changed := fmt.Sprintf("clusters[%d]", from), fmt.Sprintf("clusters[%d]", to)
		for path, p := range c.places {
			if rest, ok := strings.CutPrefix(path, old); ok {
				places[changed+rest] = p
			}
		}
	}
	for path, p := range c.places {
		if !strings.HasPrefix(path, "clusters") {
			places[path] = p
		}
	}
	return places
}

// clusterRow is a cluster in a list.
type clusterRow struct {
	Name              string            `json:"name"`
	Account           string            `json:"account,omitempty"`
	Region            string            `json:"region,omitempty"`
	KubernetesVersion string            `json:"kubernetesVersion"`
	Labels            map[string]string `json:"labels,omitempty"`
	Wave              string            `json:"wave,omitempty"`
}

func clusterRows(file *config.File) []clusterRow {
	var rows []clusterRow
	waves := file.WavesOfClusters()
	for i, c := range file.Clusters {
		row := clusterRow{Name: c.Name, Account: c.Account, Region: c.Region, KubernetesVersion: c.KubernetesVersion, Labels: c.Labels}
		if waves[i] >= 0 {
			row.Wave = file.Waves[waves[i]].Name
		}
		rows = append(rows, row)
	}
	return rows
}

func clusterTable(style terminal.Style, clusters []clusterRow) string {
	table := [][]string{headings(style, "Cluster", "Account", "Region", "Kubernetes", "Wave", "Labels")}
	for _, c := range clusters {
		var labels []string
		for _, key := range slices.Sorted(maps.Keys(c.Labels)) {
			labels = append(labels, key+"="+c.Labels[key])
		}
		table = append(table, []string{c.Name, cmp.Or(c.Account, "any"), cmp.Or(c.Region, "any"), c.KubernetesVersion, cmp.Or(c.Wave, "-"), strings.Join(labels, ", ")})
	}
	return style.Table("", table)
}
