// Command kms-plugin is a Kubernetes KMS v2 plugin backed by AWS KMS.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/ekskms/ekskms/internal/kmsplugin"
)

// patience is how long after a signal to end the process ends by force, whatever
// hangs. A drain takes five seconds at most.
const patience = 5800 * time.Millisecond

func main() {
	// The heap profiler's table takes 2 MB. serve --pprof sets it up again.
	runtime.MemProfileRate = 0
	if len(os.Args) > 1 && os.Args[1] == "serve" && os.Getenv("GOMAXPROCS") == "" {
		// The daemon waits for KMS most of the time. On one processor each call
		// takes a fifth less CPU time than on two, and all take less memory.
		runtime.GOMAXPROCS(1)
	}
	ends := []os.Signal{syscall.SIGTERM, syscall.SIGINT}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, _ := signal.NotifyContext(context.Background(), ends...)
	context.AfterFunc(ctx, func() { time.AfterFunc(patience, func() { os.Exit(1) }) })
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return kmsplugin.Run(ctx, args, stdin, stdout, stderr)
}
