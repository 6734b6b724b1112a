package cli

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/estimate"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/terminal"
)

func newEstimate() *cobra.Command {
	var from configuration
	var output string
	load := estimate.DefaultLoad()
	cmd := &cobra.Command{
		Use:   "estimate",
		Short: "Say what encryption, record and alarms cost a month, and whether quotas suffice",
		Long: "Estimate, from ekskms.yaml and a few numbers, what the keys, the KMS requests, the trail, the\n" +
			"logs and the alarms cost a month, what decryption adds to the start of an API server, and\n" +
			"whether AWS's default quotas suffice. Each number comes with its arithmetic and its source.\n" +
			"\n" +
			"Of clusters that share their record it is by account, in which each is taken as the numbers say.\n" +
			"\n" +
			"The exit code is 1 if a quota does not suffice.",
		Example: "  ekskms estimate\n" +
			"  ekskms estimate --file ekskms.yaml --clusters 3 --trails 1 --events 5000000",
		RunE: func(cmd *cobra.Command, _ []string) error {
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
			file, err := from.load(cmd)
			if err != nil {
				return err
			}
			if file.Shared != nil && cmd.Flags().Changed("clusters") {
				return hint.Usage("--clusters is for a cluster alone, and the configuration has the clusters of this account and Region itself", "leave --clusters out")
			}
			var accounts []account
			if file.Shared == nil {
				accounts = []account{{Report: estimate.Make(file.Clusters[0].Blueprint(), load, estimate.ReadPrices())}}
			} else {
				accounts = estimates(file, load)
			}
			if err := writeEstimates(cmd.OutOrStdout(), styleOf(cmd, cmd.OutOrStdout()), accounts, output); err != nil {
				return err
			}
			for _, a := range accounts {
				for _, q := range a.Quotas {
					if !q.Suffices {
						return errFindings
					}
				}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	from.add(cmd)
	choice(flags, &output, "output", "`form` of the estimate", "text", "json")
	flags.IntVar(&load.Clusters, "clusters", load.Clusters, "`number` of clusters like this one, in one account and Region, for a file with one")
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

// account is the estimate of an account, whose number is empty for a cluster alone.
type account struct {
	Account string `json:"account"`
	estimate.Report
}

// estimates are those of all accounts with clusters that are meant.
func estimates(file *config.File, load estimate.Load) (all []account) {
	sites := map[string][]estimate.Site{}
	var order []string
	for _, e := range file.Environments() {
		site := estimate.Site{Shared: e.Shared(file.Shared)}
		for _, c := range e.Clusters {
			if slices.ContainsFunc(file.Clusters, func(o config.Cluster) bool { return o.Name == c.Name }) {
				site.Clusters = append(site.Clusters, c.KeyBlueprint())
			}
		}
		if !e.Chosen && !e.Records {
			continue
		}
		if sites[e.Account] == nil {
			order = append(order, e.Account)
		}
		sites[e.Account] = append(sites[e.Account], site)
	}
	for _, name := range order {
		all = append(all, account{name, estimate.MakeAccount(sites[name], load, estimate.ReadPrices())})
	}
	return all
}

// writeEstimates writes the sums of several accounts first, and then each of them.
func writeEstimates(w io.Writer, style terminal.Style, accounts []account, output string) error {
	if len(accounts) == 1 {
		return writeEstimate(w, style, accounts[0].Report, output)
	}
	sum := 0.0
	rows := [][]string{headings(style, "USD a month", "Account", "Clusters", "Regions")}
	for _, a := range accounts {
		sum += a.USD
		rows = append(rows, []string{fmt.Sprintf("%11.2f", a.USD), a.Account, strconv.Itoa(a.Load.Clusters), a.Region})
	}
	if output == "json" {
		return printJSON(w, struct {
			USD      float64   `json:"usdPerMonth"`
			Accounts []account `json:"accounts"`
		}{sum, accounts})
	}
	rows = append(rows, []string{style.Paint(terminal.Bold, fmt.Sprintf("%11.2f", sum)), "in all"})
	if _, err := io.WriteString(w, style.Table("", rows)); err != nil {
		return err
	}
	for _, a := range accounts {
		if _, err := fmt.Fprintf(w, "\n%s\n\n", style.Paint(terminal.Bold, "Account "+a.Account)); err != nil {
			return err
		}
		if err := writeEstimate(w, style, a.Report, output); err != nil {
			return err
		}
	}
	return nil
}

func writeEstimate(w io.Writer, style terminal.Style, r estimate.Report, output string) error {
	if output == "json" {
		return printJSON(w, r)
	}
	var b strings.Builder
	table := func(title string, rows [][]string) {
		b.WriteString(style.Paint(terminal.Bold, title) + "\n" + style.Table("  ", rows) + "\n")
	}
	var rows [][]string
	for _, l := range r.Lines {
		rows = append(rows, []string{fmt.Sprintf("%8.2f", l.USD), l.Item, l.Arithmetic})
	}
	table("USD a month", append(rows, []string{style.Paint(terminal.Bold, fmt.Sprintf("%8.2f", r.USD)), "in all"}))
	rows = nil
	for _, q := range r.Requests {
		rows = append(rows, []string{fmt.Sprintf("%8.0f", q.Number), q.Of, q.Arithmetic})
	}
	table("KMS requests a month", rows)
	table("What decryption adds to the start of an API server",
		[][]string{{fmt.Sprintf("%8s", r.Start.Latency), fmt.Sprintf("%d seeds", r.Start.Seeds), r.Start.Arithmetic}})
	rows = nil
	for _, q := range r.Quotas {
		verdict := style.Paint(terminal.Green, "suffices")
		if !q.Suffices {
			verdict = style.Paint(terminal.Alarm, "TOO SMALL")
		}
		rows = append(rows, []string{verdict, q.Name, fmt.Sprintf("%.0f of %.0f: %s", q.Need, q.Limit, q.Arithmetic)})
	}
	table("Quotas", rows)
	for _, n := range r.Notes {
		b.WriteString(style.Wrap("", "", n) + "\n")
	}
	b.WriteString("\nSources:\n")
	var sources []string
	for _, l := range r.Lines {
		sources = append(sources, l.Source)
	}
	for _, q := range r.Quotas {
		sources = append(sources, q.Source)
	}
	for i, source := range sources {
		if slices.Index(sources, source) == i {
			b.WriteString("  " + source + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
