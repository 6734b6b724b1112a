// Command bench measures `ekskms synth` of the built-in default against a CDK
// app in JavaScript, app.js, that makes the same template. It checks that the
// templates are equal, runs the two in turn, and prints the times, their ratio,
// and where the time goes.
//
//	go run ./test/bench/synth                          # with node, or JSII_NODE
//	go run ./test/bench/synth -node node -node PATH    # make bench: with each of them
//	go run ./test/bench/synth -compare-only            # the check alone
//	go run ./test/bench/synth -fleet                   # make bench-fleet: up to 1,000 clusters
//
// It needs the node_modules of the repository. Times are printed and never
// judged by the exit code: they depend on the machine.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/ekskms/ekskms/internal/scratch"
)

// targetRatio is how many times the time of the JavaScript app ekskms may take. Node 20
// keeps nothing of what it compiles.
func targetRatio(nodeVersion string) float64 {
	if strings.HasPrefix(nodeVersion, "v20.") {
		return 1.65
	}
	return 1.4
}

// targetVersion is how long `ekskms version` may take.
const targetVersion = 100 * time.Millisecond

func main() {
	n := flag.Int("n", 7, "`runs` of each program, for each setting")
	fleets := flag.Bool("fleet", false, "measure fleets of 1 to 1,000 clusters instead")
	compareOnly := flag.Bool("compare-only", false, "only check that both programs make the same template")
	var nodes []string
	flag.Func("node", "run with this Node, a `path`; can be given several times (default JSII_NODE or node)", func(path string) error {
		nodes = append(nodes, path)
		return nil
	})
	flag.Parse()
	if len(nodes) == 0 {
		nodes = []string{cmp.Or(os.Getenv("JSII_NODE"), "node")}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	for _, node := range nodes {
		if err = run(ctx, os.Stdout, node, max(*n, 1), *compareOnly, *fleets); err != nil {
			break
		}
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, node string, n int, compareOnly, fleets bool) (err error) {
	dir, err := scratch.Dir("")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b, err := newBench(ctx, dir, node)
	if err != nil {
		return err
	}
	if fleets {
		return b.fleets(out)
	}
	if err := errors.Join(b.compare(), b.compareFleet(3)); err != nil {
		return err
	}
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format, args...) }
	p("same template: yes, but for the hashes of assets\n")
	if compareOnly {
		return nil
	}
	p("\n%s, Node %s, %d CPUs, %d runs of each in turn\n", runtime.Version(), b.nodeVersion(), runtime.NumCPU(), n)

	for _, validate := range []bool{false, true} {
		p("\n%s\n", setting(validate))
		if err := b.race(out, n, validate); err != nil {
			return err
		}
	}
	version, err := b.repeat(n, func() *exec.Cmd { return b.command(false, b.ekskms, "version") })
	if err != nil {
		return err
	}
	p("\nekskms version: %s (target: under %s)\n", milliseconds(version.median()), milliseconds(targetVersion))
	for _, validate := range []bool{false, true} {
		p("\nwhere the time goes %s, in one traced run of each\n", setting(validate))
		if err := b.trace(out, validate); err != nil {
			return err
		}
	}
	return nil
}

func setting(validate bool) string {
	if validate {
		return "with CDK's validation (--validate)"
	}
	return "without validation"
}

// bench holds what the runs need.
type bench struct {
	ctx    context.Context
	dir    string // temporary
	ekskms string // the binary
	node   string
	app    string // app.js
	input  string // what app.js reads
	// content is what is in it.
	content input
	runs    int
}

// newBench builds ekskms and prepares the input of app.js, for which ekskms runs
// once.
func newBench(ctx context.Context, dir, node string) (*bench, error) {
	node, err := exec.LookPath(node)
	if err != nil {
		return nil, err
	}
	if node, err = filepath.Abs(node); err != nil {
		return nil, err
	}
	gomod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOMOD: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(gomod)))
	if _, err := os.Stat(filepath.Join(root, "node_modules", "aws-cdk-lib")); err != nil {
		return nil, fmt.Errorf("the JavaScript app needs aws-cdk-lib, run 'npm ci' first: %w", err)
	}
	b := &bench{
		ctx:    ctx,
		dir:    dir,
		ekskms: filepath.Join(dir, "ekskms"),
		node:   node,
		app:    filepath.Join(root, "test", "bench", "synth", "app.js"),
		input:  filepath.Join(dir, "input.json"),
	}
	// The folder without an ekskms.yaml in which the programs run.
	if err := os.Mkdir(b.workdir(), 0o755); err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", b.ekskms, "./cmd/ekskms")
	build.Dir, build.Stderr = root, os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("go build ./cmd/ekskms: %w", err)
	}
	assembly := filepath.Join(dir, "ekskms.out")
	if _, err := b.measure(b.synth(assembly, false)); err != nil {
		return nil, err
	}
	if b.content, err = newInput(root, filepath.Join(dir, "image"), assembly); err != nil {
		return nil, err
	}
	return b, b.content.write(b.input)
}

func (b *bench) workdir() string { return filepath.Join(b.dir, "work") }

// command prepares a program with the environment that all runs share.
func (b *bench) command(validate bool, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(b.ctx, name, args...)
	cmd.Dir = b.workdir()
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		// Extra certificates make each start of Node some 40 ms slower, though
		// no program here makes a connection.
		return strings.HasPrefix(name, "CDK_") || name == "NODE_OPTIONS" || name == "NODE_EXTRA_CA_CERTS"
	})
	cmd.Env = append(cmd.Env, fmt.Sprintf("CDK_VALIDATION=%t", validate), "JSII_NODE="+b.node)
	return cmd
}

func (b *bench) synth(outdir string, validate bool) *exec.Cmd {
	args := []string{"synth", "-o", outdir}
	if validate {
		args = append(args, "--validate")
	}
	return b.command(validate, b.ekskms, args...)
}

func (b *bench) javascript(outdir string, validate bool) *exec.Cmd {
	return b.command(validate, b.node, b.app, b.input, outdir)
}

func (b *bench) nodeVersion() string {
	out, err := exec.CommandContext(b.ctx, b.node, "--version").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// fresh runs a program with an output folder of its own, which use may look
// into before it is removed. Only the program is timed.
func (b *bench) fresh(cmd func(outdir string) *exec.Cmd, use func(outdir string) error) (sample, error) {
	b.runs++
	outdir := filepath.Join(b.dir, fmt.Sprintf("run%d.out", b.runs))
	s, err := b.measure(cmd(outdir))
	if err == nil && use != nil {
		err = use(outdir)
	}
	return s, errors.Join(err, os.RemoveAll(outdir)) //nolint:gosec // in the temporary folder of this run
}

// sample is what one run took. CPU is that of all its processes.
type sample struct {
	wall, cpu time.Duration
	memory    int64 // of all processes at once, at its highest, where Linux tells
}

func (b *bench) measure(cmd *exec.Cmd) (sample, error) {
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	begin := time.Now()
	err := cmd.Start()
	var memory int64
	if err == nil {
		done := make(chan struct{})
		highest := watchMemory(cmd.Process.Pid, done)
		err = cmd.Wait()
		close(done)
		memory = <-highest
	}
	s := sample{wall: time.Since(begin), memory: memory}
	if err != nil {
		return s, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, output.String())
	}
	s.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return s, nil
}

type samples []sample

func (s samples) sorted(of func(sample) time.Duration) []time.Duration {
	all := make([]time.Duration, len(s))
	for i := range s {
		all[i] = of(s[i])
	}
	slices.Sort(all)
	return all
}

func wall(s sample) time.Duration { return s.wall }
func cpu(s sample) time.Duration  { return s.cpu }

func (s samples) median() time.Duration { return s.sorted(wall)[len(s)/2] }

func (b *bench) repeat(n int, cmd func() *exec.Cmd) (samples, error) {
	if _, err := b.measure(cmd()); err != nil { // warm-up
		return nil, err
	}
	all := make(samples, n)
	for i := range all {
		var err error
		if all[i], err = b.measure(cmd()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// race runs both programs in turn, n times after a warm-up, and prints what they
// took.
func (b *bench) race(out io.Writer, n int, validate bool) error {
	programs := []struct {
		name string
		cmd  func(outdir string) *exec.Cmd
		took samples
	}{
		{name: "ekskms synth", cmd: func(dir string) *exec.Cmd { return b.synth(dir, validate) }},
		{name: "JavaScript", cmd: func(dir string) *exec.Cmd { return b.javascript(dir, validate) }},
	}
	for i := -1; i < n; i++ {
		for j := range programs {
			s, err := b.fresh(programs[j].cmd, nil)
			if err != nil {
				return err
			}
			if i >= 0 {
				programs[j].took = append(programs[j].took, s)
			}
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "\tmedian\tmin\tmax\tCPU, median\t")
	for _, p := range programs {
		times := p.took.sorted(wall)
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t\n", p.name, milliseconds(p.took.median()),
			milliseconds(times[0]), milliseconds(times[n-1]), milliseconds(p.took.sorted(cpu)[n/2]))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	ratio := float64(programs[0].took.median()) / float64(programs[1].took.median())
	verdict, target := "met", targetRatio(b.nodeVersion())
	if ratio > target {
		verdict = "missed"
	}
	_, err := fmt.Fprintf(out, "ratio of the medians %.2f: target %.2f %s\n", ratio, target, verdict)
	return err
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}
