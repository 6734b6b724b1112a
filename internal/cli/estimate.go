package cli

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/estimate"
	"github.com/ekskms/ekskms/internal/hint"
)

func newEstimate() *cobra.Command {
	var file, output string
	load := estimate.DefaultLoad()
	cmd := &cobra.Command{
		Use:   "estimate",
		Short: "Say what encryption, record and alarms cost a month, and whether quotas suffice",
		Long: "Estimate, from ekskms.yaml and a few numbers, what the keys, the KMS requests, the trail, the\n" +
			"logs and the alarms cost a month, what decryption adds to the start of an API server, and\n" +
			"whether AWS's default quotas suffice. Each number comes with its arithmetic and its source.\n" +
			"\n" +
			"The exit code is 1 if a quota does not suffice.",
		Example: "  ekskms estimate\n" +
			"  ekskms estimate --file ekskms.yaml --clusters 3 --trails 1 --events 5000000",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := notEmpty(cmd); err != nil {
				return err
			}
			if !slices.Contains([]string{"text", "json"}, output) {
				return hint.Usage(fmt.Sprintf("--output is %q, must be text or json", output), "")
			}
			for _, n := range []struct {
				flag        string
				value, from float64
			}{
				{"clusters", float64(load.Clusters), 1}, {"api-servers", float64(load.APIServers), 1}, {"secrets", float64(load.Secrets), 0},
				{"writes", load.Writes, 0}, {"restarts", float64(load.Restarts), 0}, {"age", float64(load.Age), 0}, {"nodes", float64(load.Nodes), 0},
				{"trails", float64(load.Trails), 0}, {"events", load.Events, 0}, {"log-gb", load.LogGB, 0}, {"alarms", float64(load.Alarms), 0},
			} {
				if !(n.value >= n.from && n.value <= 1e12) {
					return hint.Usage(fmt.Sprintf("--%s is %v, must be %v to 1000000000000", n.flag, n.value, n.from), "")
				}
			}
			if load.Latency < time.Microsecond || load.Latency > time.Minute {
				return hint.Usage(fmt.Sprintf("--latency is %s, must be 1µs to 1m", load.Latency), "")
			}
			configuration, err := loadConfig(cmd, file)
			if err != nil {
				return err
			}
			report := estimate.Make(configuration.Clusters[0].Blueprint(), load, estimate.ReadPrices())
			if err := writeEstimate(cmd.OutOrStdout(), report, output); err != nil {
				return err
			}
			for _, q := range report.Quotas {
				if !q.Suffices {
					return errFindings
				}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&file, "file", "f", "", "configuration `file`, or - for standard input (default ekskms.yaml here, if there is one)")
	flags.StringVar(&output, "output", "text", "`form` of the estimate: text or json")
	flags.IntVar(&load.Clusters, "clusters", load.Clusters, "`number` of clusters like this one, in one account and Region")
	flags.IntVar(&load.APIServers, "api-servers", load.APIServers, "`number` of API servers of each control plane")
	flags.IntVar(&load.Secrets, "secrets", load.Secrets, "`number` of secrets, or what else is encrypted, in each control plane")
	flags.Float64Var(&load.Writes, "writes", load.Writes, "`number` of writes of such objects a second")
	flags.IntVar(&load.Restarts, "restarts", load.Restarts, "`number` of restarts of each API server a month")
	flags.IntVar(&load.Age, "age", load.Age, "`months` since the cluster was made, in which keys rotated and seeds gathered")
	flags.IntVar(&load.Nodes, "nodes", load.Nodes, "`number` of nodes, each with a plugin in mode daemonset")
	flags.IntVar(&load.Trails, "trails", load.Trails, "`number` of trails that record the account's management events already")
	flags.Float64Var(&load.Events, "events", load.Events, "`number` of other management events of the account a month")
	flags.Float64Var(&load.LogGB, "log-gb", load.LogGB, "`GB` that each control plane logs a month")
	flags.IntVar(&load.Alarms, "alarms", load.Alarms, "`number` of alarms of each cluster a month")
	flags.DurationVar(&load.Latency, "latency", load.Latency, "`duration` of a KMS request")
	return cmd
}

func writeEstimate(w io.Writer, r estimate.Report, output string) error {
	if output == "json" {
		return printJSON(w, r)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\n", args...) }
	line("USD a month")
	for _, l := range r.Lines {
		line("%10.2f\t%s\t%s", l.USD, l.Item, l.Arithmetic)
	}
	line("%10.2f\tin all", r.USD)
	line("")
	line("KMS requests a month")
	for _, q := range r.Requests {
		line("%10.0f\t%s\t%s", q.Number, q.Of, q.Arithmetic)
	}
	line("")
	line("A start of an API server takes longer by")
	line("%10s\t%d seeds\t%s", r.Start.Latency, r.Start.Seeds, r.Start.Arithmetic)
	line("")
	line("Quotas")
	for _, q := range r.Quotas {
		verdict := "suffices"
		if !q.Suffices {
			verdict = "TOO SMALL"
		}
		line("%10s\t%s\t%.0f of %.0f: %s", verdict, q.Name, q.Need, q.Limit, q.Arithmetic)
	}
	line("")
	for _, n := range r.Notes {
		line("%s", n)
	}
	line("")
	line("Sources:")
	var sources []string
	for _, l := range r.Lines {
		sources = append(sources, l.Source)
	}
	for _, q := range r.Quotas {
		sources = append(sources, q.Source)
	}
	for i, source := range sources {
		if slices.Index(sources, source) == i {
			line("  %s", source)
		}
	}
	return t.Flush()
}
