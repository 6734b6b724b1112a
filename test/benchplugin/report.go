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
	maxBinary      = 19e6
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
	ours     figures
}

type target struct {
	what, want, got string
	met             bool
	decides         bool // a count or a size, which does not depend on the machine
}

// figures are those that stand beside the reference.
type figures struct {
	binary, resident, peak         int64
	start                          time.Duration
	burst                          burst
	floor, encrypt, decrypt        map[int]sample // by callers
	encryptToFloor, decryptToFloor map[int]float64
}

// reference is kubernetes-sigs/aws-encryption-provider, measured once in the way
// of this program.
var reference = struct {
	encrypt, floor, cpu map[int]float64 // by callers; per second, per second, µs
	p50                 string
}{
	encrypt: map[int]float64{1: 1340, manyCallers: 3744},
	floor:   map[int]float64{1: 6650, manyCallers: 29970},
	cpu:     map[int]float64{1: 490, manyCallers: 250},
	p50:     "0.68 ms",
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
	r.ours.binary = size
	r.target(true, size < maxBinary, "size of the binary", "< "+megabytes(maxBinary), megabytes(size))
}

func (r *report) operations(plan plan, servers []*server, all []*scenario) {
	r.ours.floor, r.ours.encrypt, r.ours.decrypt = map[int]sample{}, map[int]sample{}, map[int]sample{}
	r.ours.encryptToFloor, r.ours.decryptToFloor = map[int]float64{}, map[int]float64{}
	r.p(`## Encrypt and Decrypt

The floor is an empty KMS v2 server (grpc-go, unix socket, answers of the same
size). Callers share one connection, as those in an API server do, and call
again as soon as they have an answer. Encrypt is two KMS requests, since the
plugin decrypts what it has encrypted before it hands it out; Decrypt is one,
of %d ciphertexts in turn. Load generator, server and fake KMS share the CPUs,
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
			switch {
			case i == 0 && sc.name == "Encrypt":
				r.ours.floor[sc.callers] = sum
			case i == 1 && sc.name == "Encrypt":
				r.ours.encrypt[sc.callers], r.ours.encryptToFloor[sc.callers] = sum, toFloor
			case i == 1 && sc.name == "Decrypt":
				r.ours.decrypt[sc.callers], r.ours.decryptToFloor[sc.callers] = sum, toFloor
			}
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
	r.ours.resident, r.ours.peak = max(opening.resident, sealing.resident), max(opening.peak, sealing.peak)
	r.target(decides, r.ours.resident < maxResident, fmt.Sprintf("memory, VmRSS under %d callers", manyCallers),
		"< "+megabytes(maxResident), megabytes(r.ours.resident))
}

func (r *report) connections(b burst) {
	r.ours.burst = b
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
	r.ours.start = plugin
	r.p(`## Start

%d starts in turn, KMS at 0 ms.

| | median | min | max |
|---|--:|--:|--:|
| kms-plugin serve, process start to the first Status that says ok | %s | %s | %s |
| DescribeKey, Encrypt and Decrypt, one after another on an open connection, from the benchmark's own process | %s | %s | %s |
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

// besideReference is the last section: it looks back at the others.
func (r *report) besideReference(w io.Writer) {
	o := &r.ours
	fmt.Fprintf(w, `## Beside aws-encryption-provider

The figures of kubernetes-sigs/aws-encryption-provider are of an earlier
measurement of this project's, of which its floor was a part. They are no part
of this run, so only its ratios to its floor compare with ours. Its Encrypt is
one KMS request, as our Decrypt is; our Encrypt is two.

| | aws-encryption-provider, Encrypt | kms-plugin, Encrypt | kms-plugin, Decrypt |
|---|--:|--:|--:|
`)
	for _, n := range []int{1, manyCallers} {
		fmt.Fprintf(w, "| floor's calls/s ÷ its, callers: %d | %.1f | %.1f | %.1f |\n", n,
			reference.floor[n]/reference.encrypt[n], o.encryptToFloor[n], o.decryptToFloor[n])
	}
	for _, n := range []int{1, manyCallers} {
		fmt.Fprintf(w, "| calls/s, callers: %d | %.0f | %.0f | %.0f |\n", n, reference.encrypt[n], o.encrypt[n].perSecond, o.decrypt[n].perSecond)
		fmt.Fprintf(w, "| calls/s of the floor, callers: %d | %.0f | %.0f | |\n", n, reference.floor[n], o.floor[n].perSecond)
	}
	fmt.Fprintf(w, "| p50, callers: 1 | %s | %s | %s |\n", reference.p50, milliseconds(o.encrypt[1].p50), milliseconds(o.decrypt[1].p50))
	for _, n := range []int{1, manyCallers} {
		fmt.Fprintf(w, "| CPU per call, callers: %d | %.0f µs | %s | %s |\n", n, reference.cpu[n], microseconds(o.encrypt[n].cpu), microseconds(o.decrypt[n].cpu))
	}
	fmt.Fprintf(w, `
| | aws-encryption-provider | kms-plugin |
|---|--:|--:|
| VmRSS | 24–25 MB | %s |
| start | 17 ms | %s |
| binary | 18.9 MB | %s |
| connections to KMS, %d callers | 1,086 in 2,000 calls | %d in %d calls |
`, megabytes(o.resident), milliseconds(o.start), megabytes(o.binary), burstCallers, max(o.burst.counted, o.burst.seen), o.burst.calls)
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
	r.besideReference(&out)
	_, err := out.WriteTo(w)
	return err
}

// header says where and of what the figures are.
func (b *bench) header() string {
	command := "`go run ./test/benchplugin`"
	if b.plan.quick {
		command = "`go run ./test/benchplugin -quick` (too few calls for figures to quote)"
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
