// Command plugin measures kms-plugin as it is shipped: the binary of the
// Dockerfile's flags, serving its unix socket, with a fake AWS KMS behind it
// that answers at once or after 5 ms. Beside it stands the floor, a gRPC server
// that does nothing: what a KMS v2 plugin on this machine can't be faster than.
//
//	go run ./test/bench/plugin              # make bench-plugin
//	go run ./test/bench/plugin -quick       # seconds: does it all run?
//	go run ./test/bench/plugin -profile .   # CPU profiles of the plugin, nothing else
//	go run ./test/bench/plugin -peer BINARY # beside another KMS v2 plugin, in the same rounds
//
// -peer-args are the arguments of that binary, with {key}, {region}, {endpoint},
// {socket} and {health} (host:port) in them; the default is that of
// kubernetes-sigs/aws-encryption-provider. (make bench-plugin PEER=BINARY)
//
// It prints Markdown, and its progress to stderr. Counts and sizes that miss
// their target make it fail; times depend on the machine and are only printed.
//
// The servers are processes of their own, so that CPU and memory can be told
// apart: the program starts itself again, in the roles of roles.go. It is for
// Linux, since both are read as Linux shows them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ekskms/ekskms/internal/scratch"
)

// plan is how much is measured.
type plan struct {
	quick      bool
	rounds     int
	calls      int           // of each round, without latency
	floorCalls int           // the floor is quicker: as many calls would be over too soon
	slowCalls  int           // one caller and 5 ms
	warmUp     int           // calls that nobody measures
	burst      int           // calls of burstCallers
	memory     time.Duration // how long memory is looked at
	starts     int
	profile    time.Duration // how long each profile is
}

func newPlan(quick bool, calls int) plan {
	if quick {
		return plan{quick: true, rounds: 1, calls: min(calls, 160), floorCalls: min(calls, 320), slowCalls: min(calls, 16),
			warmUp: 32, burst: min(calls, 2000), memory: 300 * time.Millisecond, starts: 3, profile: time.Second}
	}
	const rounds = 5
	each := max(calls/rounds, 16)
	return plan{rounds: rounds, calls: each, floorCalls: 3 * each, slowCalls: max(each/4, 16),
		warmUp: 1000, burst: 2 * calls, memory: 5 * time.Second, starts: 21, profile: 10 * time.Second}
}

func main() {
	if code, ok := playRole(); ok {
		os.Exit(code)
	}
	quick := flag.Bool("quick", false, "few calls: a test that everything runs and that counts and sizes hold")
	calls := flag.Int("calls", 10_000, "`calls` of each operation and number of callers, without latency; the others follow from it")
	profile := flag.String("profile", "", "only write CPU profiles of the plugin to `DIR`")
	binary := flag.String("peer", "", "the binary of another KMS v2 plugin to measure beside this one")
	peerArgs := flag.String("peer-args", encryptionProvider, "its arguments, with {key}, {region}, {endpoint}, {socket} and {health} in them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, newPlan(*quick, max(*calls, 1)), *profile, peer{*binary, strings.Fields(*peerArgs)})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchplugin:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, plan plan, profileDir string, other peer) (err error) {
	if profileDir, err = absolute(profileDir); err != nil {
		return err
	}
	// The name of a temporary folder of the user's may be too long for a socket.
	dir, err := scratch.Dir("/tmp")
	if err != nil {
		return err
	}
	// Canceled ahead of the removal: whatever the reason for the end, no process
	// outlives it.
	ctx, cancel := context.WithCancel(ctx)
	b := &bench{ctx: ctx, dir: dir, plan: plan, peer: other, loadAverage: loadAverage()}
	defer func() {
		cancel()
		b.processes.Wait()
		err = errors.Join(err, os.RemoveAll(dir))
	}()

	progress("building cmd/kms-plugin")
	if err := b.build(); err != nil {
		return err
	}
	if b.quickKMS, err = b.startFake(0); err != nil {
		return err
	}
	if b.slowKMS, err = b.startFake(slowLatency); err != nil {
		return err
	}
	if profileDir != "" {
		return b.writeProfiles(profileDir)
	}

	var r report
	for _, section := range []struct {
		name    string
		measure func(*report) error
	}{
		{"binary", b.binarySize},
		{"operations", b.operations},
		{"connections", b.connections},
		{"start", b.startTime},
		{"seed cache", b.seedCache},
	} {
		progress("measuring: %s", section.name)
		if err := section.measure(&r); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return fmt.Errorf("%s: %w", section.name, err)
		}
	}
	if err := r.write(out, b.header()); err != nil {
		return err
	}
	return r.verdict()
}

func absolute(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "benchplugin: "+format+"\n", args...)
}
