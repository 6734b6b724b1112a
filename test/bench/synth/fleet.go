package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/tamper"
)

// fleet is what app.js needs to build clusters that share their record.
type fleet struct {
	Names  []string      `json:"names"`
	Shared []tamper.Rule `json:"shared"`
	Alarms []tamper.Rule `json:"alarms"`
}

// somewhere is where a stack is, for app.js to replace.
var somewhere = place.Place{
	Partition: place.Literal("${Token[partition]}"), Account: place.Literal("${Token[account]}"), Region: place.Literal("${Token[region]}"),
	DNSSuffix: place.Literal("amazonaws.com"),
}

func newFleet(n int) fleet {
	shared := blueprint.Cluster{Name: place.Shared, Shared: true, At: somewhere, Refs: blueprint.Refs{
		Bucket: place.Literal("@BUCKET@"), AuditKey: place.Literal("@AUDIT_KEY_ARN@"), TopicKey: place.Literal("@ALARMS_KEY_ARN@"),
	}}
	var f fleet
	var clusters []blueprint.Cluster
	for i := range n {
		name := fmt.Sprintf("c%04d", i)
		f.Names = append(f.Names, name)
		clusters = append(clusters, blueprint.Cluster{Name: name, At: somewhere, KubectlHandler: true, Refs: blueprint.Refs{
			Key: place.Literal("${Token[KeyArn " + name + "]}"), LogsKey: place.Literal("${Token[LogsKeyArn " + name + "]}"),
		}})
	}
	f.Shared, f.Alarms = shared.Alarms(), shared.FleetAlarms(clusters)
	return f
}

// config is the ekskms.yaml of the fleet: up to a hundred clusters in one place, more in
// an account for every 25, or one place would have more rules than EventBridge allows.
func (f fleet) config() string {
	text := "shared: {}\nclusters:\n"
	for i, name := range f.Names {
		text += "- name: " + name + "\n"
		if len(f.Names) > 100 {
			text += fmt.Sprintf("  account: \"%012d\"\n  region: eu-central-1\n", 111122220000+i/25)
		}
	}
	return text
}

// fleets measures both programs with more and more clusters, and says what each cluster
// takes. A thousand are for ekskms alone: the JavaScript app keeps all of them in one heap.
func (b *bench) fleets(out io.Writer) error {
	if err := b.compareFleet(3); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "same templates of 3 clusters: yes, but for the hashes of assets\nNode %s, one run of each, without validation\n\n", b.nodeVersion())
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "clusters\tekskms, wall\tCPU\tCPU a cluster\tmemory\tJavaScript, wall\tCPU\tratio of wall\t")
	var one sample
	for _, n := range []int{1, 10, 100, 1000} {
		ekskms, javascript, err := b.fleetCommands(n)
		if err != nil {
			return err
		}
		ours, err := b.fresh(ekskms, nil)
		if err != nil {
			return err
		}
		var theirs sample
		if n <= 100 {
			if theirs, err = b.fresh(javascript, nil); err != nil {
				return err
			}
		}
		each := "-"
		if n == 1 {
			one = ours
		} else {
			each = fmt.Sprintf("%d ms", (ours.cpu-one.cpu).Milliseconds()/int64(n-1))
		}
		_, _ = fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%d MB\t", n, milliseconds(ours.wall), milliseconds(ours.cpu), each, ours.memory>>20)
		if theirs.wall == 0 {
			_, _ = fmt.Fprintln(table, "-\t-\t-\t")
			continue
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%.2f\t\n", milliseconds(theirs.wall), milliseconds(theirs.cpu), float64(ours.wall)/float64(theirs.wall))
	}
	return table.Flush()
}

// fleetCommands are both programs for so many clusters.
func (b *bench) fleetCommands(n int) (ours, theirs func(dir string) *exec.Cmd, err error) {
	f := newFleet(n)
	in := b.content
	in.Fleet = f
	config, content := filepath.Join(b.dir, "fleet.yaml"), filepath.Join(b.dir, "fleet.json")
	if err := errors.Join(os.WriteFile(config, []byte(f.config()), 0o600), in.write(content)); err != nil {
		return nil, nil, err
	}
	ours = func(dir string) *exec.Cmd { return b.command(false, b.ekskms, "synth", "--quiet", "-o", dir, config) }
	theirs = func(dir string) *exec.Cmd { return b.command(false, b.node, b.app, content, dir, "fleet") }
	return ours, theirs, nil
}

// compareFleet is compare for a fleet.
func (b *bench) compareFleet(n int) error {
	ours, theirs, err := b.fleetCommands(n)
	if err != nil {
		return err
	}
	read := func(into map[string]any) func(string) error {
		return func(assembly string) error {
			paths, err := filepath.Glob(filepath.Join(assembly, "*.template.json"))
			if err != nil || len(paths) != n+2 {
				return errors.Join(err, fmt.Errorf("%d templates of %d clusters", len(paths), n))
			}
			for _, path := range paths {
				name := strings.TrimSuffix(filepath.Base(path), ".template.json")
				if into[name], err = templateOf(assembly, name); err != nil {
					return err
				}
			}
			return nil
		}
	}
	fromGo, fromJS := map[string]any{}, map[string]any{}
	if _, err := b.fresh(ours, read(fromGo)); err != nil {
		return err
	}
	if _, err := b.fresh(theirs, read(fromJS)); err != nil {
		return err
	}
	if diff := cmp.Diff(fromGo, fromJS); diff != "" {
		return fmt.Errorf("test/bench/synth/app.js makes other templates of a fleet than ekskms synth, bring it up to date (-ekskms +app.js):\n%s", diff)
	}
	return nil
}

// watchMemory looks at the memory of a process and all below it, until done, and says what it
// was at its highest: the proportional set size of Linux, which counts pages that processes
// share once. Elsewhere it is 0.
func watchMemory(pid int, done <-chan struct{}) <-chan int64 {
	highest := make(chan int64, 1)
	go func() {
		most := int64(0)
		for {
			select {
			case <-done:
				highest <- most
				return
			case <-time.After(100 * time.Millisecond):
				most = max(most, memoryOf(pid))
			}
		}
	}()
	return highest
}

func memoryOf(pid int) (sum int64) {
	process := fmt.Sprintf("/proc/%d", pid)
	rollup, _ := os.ReadFile(process + "/smaps_rollup")
	for line := range strings.Lines(string(rollup)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "Pss:" {
			kb, _ := strconv.ParseInt(fields[1], 10, 64)
			sum += kb << 10
		}
	}
	tasks, _ := filepath.Glob(process + "/task/*/children") // threads start processes
	for _, task := range tasks {
		children, _ := os.ReadFile(task)
		for _, child := range strings.Fields(string(children)) {
			if id, err := strconv.Atoi(child); err == nil {
				sum += memoryOf(id)
			}
		}
	}
	return sum
}
