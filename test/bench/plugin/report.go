package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// The targets.
const (
	maxBinary      = 16.5e6
	maxConnections = 80
	maxTail        = 3.0 // p99 / p50
	maxStart       = 20 * time.Millisecond
	maxResident    = 24e6
	maxCachedRatio = 1.3
)

// report is the Markdown that comes out.
type report struct {
	targets  []target
	sections bytes.Buffer
	peers    peerFigures
}

type target struct {
	what, want, got string
	met             bool
	decides         bool // a count or a size, which does not depend on the machine
}

// peerFigures are what stands beside the peer's, if there is one.
type peerFigures struct {
	name                 string
	ours                 burst
	connections          int
	resident, peerMemory int64
	start, peerStart     time.Duration
	rows                 []peerRow
}

// peerRow is one operation: this plugin's figure divided by the peer's.
type peerRow struct {
	what                      string
	throughput, p50, p99, cpu float64
	ourCPU, peerCPU           time.Duration
	ourRate, peerRate         float64
}

func (r *report) p(format string, args ...any) { fmt.Fprintf(&r.sections, format, args...) }

func (r *report) target(decides, met bool, what, want, got string) {
	r.targets = append(r.targets, target{what, want, got, met, decides})
}

func (r *report) verdict() error {
	var missed []string
	for _, t := range r.targets {
		if t.decides && !t.met {
			missed = append(missed, fmt.Sprintf("%s: %s, want %s", t.what, t.got, t.want))
		}
	}
	if len(missed) > 0 {
		return errors.New("missed: " + strings.Join(missed, "; "))
	}
	return nil
}

func (r *report) binarySize(size int64) {
	r.target(true, size < maxBinary, "size of the binary", "< "+megabytes(maxBinary), megabytes(size))
}

func (r *report) operations(plan plan, servers []*server, all []*scenario) {
	r.p(`## Encrypt and Decrypt

The floor is an empty KMS v2 server (grpc-go, unix socket, answers of the same
size). Callers share one connection, as those in an API server do, and call
again as soon as they have an answer. Encrypt and Decrypt are one KMS request
each, Decrypt of %d ciphertexts in turn. Load generator, server and fake KMS share the CPUs,
so calls per second from %d callers without latency are the throughput of all
three. One caller leaves CPUs idle in between, and how fast they wake decides
about the floor: on a machine that others keep awake, its p50 may be half.

Rounds: %d, in each of which the servers took turns. Calls in a round: %d of the
plugin, %d of the floor, %d at 5 ms from one caller. Each figure is the median of
the rounds, each ratio (÷) the median of the rounds' ratios. CPU is that of the
server's process, kms-plugin or floor, per call: its CPU clock before and after
a round, which the kernel keeps in nanoseconds at every switch of threads.

| | callers | server | calls/s | p50 | p99 | CPU per call | fake KMS's CPU | floor's calls/s ÷ its | p50 ÷ floor's |
|---|--:|---|--:|--:|--:|--:|--:|--:|--:|
`, ringSize, manyCallers, plan.rounds, plan.calls, plan.floorCalls, plan.slowCalls)
	for _, sc := range all {
		for i, s := range servers {
			sum := summary(sc.rounds[i])
			toFloor := ratio(sc.rounds[0], sc.rounds[i], perSecond)
			kmsCPU := "–"
			if s.kms != nil {
				kmsCPU = microseconds(sum.kmsCPU)
			}
			r.p("| %s | %d | %s | %.0f | %s | %s | %s | %s | %.2f | %.2f |\n", sc.name, sc.callers, s.name, sum.perSecond,
				milliseconds(sum.p50), milliseconds(sum.p99), microseconds(sum.cpu), kmsCPU, toFloor, ratio(sc.rounds[i], sc.rounds[0], p50))
		}
	}
	r.p("\n")
}

func (r *report) memory(decides bool, opening, sealing memory) {
	r.p(`## Memory

/proc/<pid>/status of the plugin at 0 ms, after all rounds and under %d callers:
the look, one in 20 ms, at which most was resident. 1 MB is 10⁶ bytes.

| | VmRSS | heap and stacks | of the binary | VmHWM, from its start on |
|---|--:|--:|--:|--:|
`, manyCallers)
	for _, m := range []struct {
		name string
		memory
	}{{"Decrypt", opening}, {"Encrypt", sealing}} {
		r.p("| %s | %s | %s | %s | %s |\n", m.name, megabytes(m.resident), megabytes(m.anonymous), megabytes(m.file), megabytes(m.peak))
	}
	r.p("\n")
	r.peers.resident = max(opening.resident, sealing.resident)
	r.target(decides, r.peers.resident < maxResident, fmt.Sprintf("memory, VmRSS under %d callers", manyCallers),
		"< "+megabytes(maxResident), megabytes(r.peers.resident))
}

func (r *report) connections(b burst) {
	r.peers.ours = b
	tail := float64(b.p99) / float64(b.p50)
	r.p(`## Connections

%d callers at once, %d Decrypt calls, KMS at 5 ms, a plugin that has just started.

| opened to KMS, by the plugin's /metrics | by the fake KMS | p50 | p99 | p99 ÷ p50 |
|--:|--:|--:|--:|--:|
| %d | %d | %s | %s | %.2f |

`, burstCallers, b.calls, b.counted, b.seen, milliseconds(b.p50), milliseconds(b.p99), tail)
	r.target(true, max(b.counted, b.seen) <= maxConnections, fmt.Sprintf("connections to KMS, %d callers", burstCallers),
		fmt.Sprintf("<= %d", maxConnections), fmt.Sprint(max(b.counted, b.seen)))
	r.target(false, tail < maxTail, fmt.Sprintf("p99 ÷ p50, %d callers at 5 ms", burstCallers), fmt.Sprintf("< %.0f", maxTail), fmt.Sprintf("%.2f", tail))
}

func (r *report) starts(s starts) {
	n := len(s.plugin)
	plugin, kms, version := median(s.plugin), median(s.roundTrips), median(s.version)
	r.peers.start = plugin
	if len(s.peer) > 0 {
		r.peers.peerStart = median(s.peer)
	}
	r.p(`## Start

%d starts in turn, KMS at 0 ms.

| | median | min | max |
|---|--:|--:|--:|
| kms-plugin serve, process start to the first Status that says ok | %s | %s | %s |
| DescribeKey, GenerateDataKey and Decrypt, one after another on an open connection, from the benchmark's own process | %s | %s | %s |
| kms-plugin version, process start to exit | %s | %s | %s |

`, n, milliseconds(plugin), milliseconds(s.plugin[0]), milliseconds(s.plugin[n-1]),
		milliseconds(kms), milliseconds(s.roundTrips[0]), milliseconds(s.roundTrips[n-1]),
		milliseconds(version), milliseconds(s.version[0]), milliseconds(s.version[n-1]))
	own := plugin - kms
	r.target(false, own <= maxStart, "start to the first ok, less KMS's round trips", "<= "+milliseconds(maxStart), milliseconds(own))
}

func (r *report) seedCache(servers []*server, all []*scenario) {
	r.p(`## Seed cache

Decrypt of one ciphertext again and again, as an API server that starts does it,
with --seed-cache 1000. The floor and the plugin took turns.

| callers | server | calls/s | p50 | p99 | CPU per call | floor's calls/s ÷ its | p50 ÷ floor's |
|--:|---|--:|--:|--:|--:|--:|--:|
`)
	for _, sc := range all {
		for i, s := range servers {
			sum := summary(sc.rounds[i])
			calls, half := ratio(sc.rounds[0], sc.rounds[i], perSecond), ratio(sc.rounds[i], sc.rounds[0], p50)
			r.p("| %d | %s | %.0f | %s | %s | %s | %.2f | %.2f |\n", sc.callers, s.name, sum.perSecond,
				milliseconds(sum.p50), milliseconds(sum.p99), microseconds(sum.cpu), calls, half)
			if i > 0 {
				worse := max(calls, half)
				r.target(false, worse <= maxCachedRatio, fmt.Sprintf("seed cache, calls/s and p50 against the floor, callers: %d", sc.callers),
					fmt.Sprintf("<= %.1f", maxCachedRatio), fmt.Sprintf("%.3f", worse))
			}
		}
	}
	r.p("\n")
}

// Aims beside the peer: Encrypt and Decrypt.
var (
	minThroughput = map[string]float64{"Encrypt": 1.1, "Decrypt": 1.2}
	maxCPU        = map[string]float64{"Encrypt": 0.8, "Decrypt": 0.7}
)

// peer compares the rounds of servers 1 and 2, which are this plugin's, with 3 and 4,
// which are the peer's, with KMS at 0 and at 5 ms.
func (r *report) peer(name string, all []*scenario, memory int64) {
	r.peers.name, r.peers.peerMemory = name, memory
	for _, sc := range all {
		for i, latency := range []string{"0 ms", "5 ms"} {
			ours, theirs := sc.rounds[1+i], sc.rounds[3+i]
			row := peerRow{what: fmt.Sprintf("%s, %d callers, KMS at %s", sc.name, sc.callers, latency),
				throughput: ratio(ours, theirs, perSecond), p50: ratio(ours, theirs, p50), p99: ratio(ours, theirs, p99), cpu: ratio(ours, theirs, cpu),
				ourCPU: summary(ours).cpu, peerCPU: summary(theirs).cpu, ourRate: summary(ours).perSecond, peerRate: summary(theirs).perSecond}
			r.peers.rows = append(r.peers.rows, row)
			// Where KMS is slow, its latency is nearly all that counts.
			if i == 0 {
				r.target(false, row.throughput >= minThroughput[sc.name], row.what+": throughput ÷ peer's", fmt.Sprintf(">= %.1f", minThroughput[sc.name]), fmt.Sprintf("%.2f", row.throughput))
			}
			r.target(false, row.cpu <= maxCPU[sc.name], row.what+": CPU a call ÷ peer's", fmt.Sprintf("<= %.1f", maxCPU[sc.name]), fmt.Sprintf("%.2f", row.cpu))
			r.target(false, row.p99 <= 1, row.what+": p99 ÷ peer's", "<= 1", fmt.Sprintf("%.2f", row.p99))
		}
	}
}

// besidePeer is the last section: it looks back at the others.
func (r *report) besidePeer(w io.Writer) {
	p := &r.peers
	if p.name == "" {
		return
	}
	fmt.Fprintf(w, `## Beside %[1]s

Each figure of kms-plugin divided by that of %[1]s in the same round, the median
of the rounds. Of calls a second more is better, of all else less.

| | calls/s | p50 | p99 | CPU per call | calls/s, ours and its | CPU per call, ours and its |
|---|--:|--:|--:|--:|--:|--:|
`, p.name)
	for _, row := range p.rows {
		fmt.Fprintf(w, "| %s | %.2f | %.2f | %.2f | %.2f | %.0f, %.0f | %s, %s |\n", row.what, row.throughput, row.p50, row.p99, row.cpu,
			row.ourRate, row.peerRate, microseconds(row.ourCPU), microseconds(row.peerCPU))
	}
	fmt.Fprintf(w, `
| | ours ÷ its | kms-plugin | %s |
|---|--:|--:|--:|
| VmRSS under %d callers | %.2f | %s | %s |
| start, median | %.2f | %s | %s |
| connections to KMS, %d callers, %d calls | %.2f | %d | %d |
`, p.name, manyCallers, float64(p.resident)/float64(p.peerMemory), megabytes(p.resident), megabytes(p.peerMemory),
		float64(p.start)/float64(p.peerStart), milliseconds(p.start), milliseconds(p.peerStart),
		burstCallers, p.ours.calls, float64(p.ours.seen)/float64(max(p.connections, 1)), p.ours.seen, p.connections)
}

func (r *report) write(w io.Writer, header string) error {
	var out bytes.Buffer
	out.WriteString(header)
	out.WriteString("\n## Targets\n\n| | target | measured | |\n|---|--:|--:|---|\n")
	for _, t := range r.targets {
		verdict := "met"
		if !t.met {
			verdict = "**missed**"
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", t.what, t.want, t.got, verdict)
	}
	out.WriteString("\n")
	_, _ = r.sections.WriteTo(&out)
	r.besidePeer(&out)
	_, err := out.WriteTo(w)
	return err
}

// header says where and of what the figures are.
func (b *bench) header() string {
	command := "`go run ./test/bench/plugin`"
	if b.plan.quick {
		command = "`go run ./test/bench/plugin -quick` (too few calls for figures to quote)"
	}
	return fmt.Sprintf("%s, %s, revision %s  \n%s, %d CPUs, %s, %s, `go build %s`  \nload average in the minute before the run: %s\n",
		command, time.Now().UTC().Format(time.DateOnly), revision(b.ctx), cpuModel(), runtime.NumCPU(), system(), runtime.Version(),
		strings.Join(quoted(buildFlags), " "), b.loadAverage)
}

func quoted(args []string) []string {
	args = slices.Clone(args)
	for i := range args {
		if strings.Contains(args[i], " ") {
			args[i] = `"` + args[i] + `"`
		}
	}
	return args
}

func revision(ctx context.Context) string {
	hash, err := exec.CommandContext(ctx, "git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	text := strings.TrimSpace(string(hash))
	if changes, err := exec.CommandContext(ctx, "git", "status", "--porcelain").Output(); err != nil || len(changes) > 0 {
		text += " with changes"
	}
	return text
}

func cpuModel() string { return fieldOf("/proc/cpuinfo", "model name", ":") }

func system() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.Trim(fieldOf("/etc/os-release", "PRETTY_NAME", "="), `"`) + ", Linux " + strings.TrimSpace(string(kernel)) + " " + runtime.GOARCH
}

// loadAverage is that of the last minute.
func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

func fieldOf(file, name, separator string) string {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, separator); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

func microseconds(d time.Duration) string {
	return fmt.Sprintf("%.0f µs", float64(d)/float64(time.Microsecond))
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
