// Command kms-plugin is a Kubernetes KMS v2 plugin backed by AWS KMS.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/ekskms/ekskms/internal/kmsplugin"
)

func main() {
	// The heap profiler's table takes 2 MB. serve --pprof sets it up again.
	runtime.MemProfileRate = 0
	if len(os.Args) > 1 && os.Args[1] == "serve" && os.Getenv("GOMAXPROCS") == "" {
		// The daemon waits for KMS most of the time. On one processor each call
		// takes a fifth less CPU time than on two, and all take less memory.
		runtime.GOMAXPROCS(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return kmsplugin.Run(ctx, args, stdin, stdout, stderr)
}
