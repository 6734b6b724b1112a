// Command ekskms synthesizes EKS clusters with encrypted secrets: see
// `ekskms help`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/ekskms/ekskms/internal/cli"
	"github.com/ekskms/ekskms/internal/synth"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	synth.Close()
	os.Exit(code)
}
