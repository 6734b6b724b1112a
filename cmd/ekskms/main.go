// Command ekskms synthesizes EKS clusters with encrypted secrets: see
// `ekskms help`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/aws/jsii-runtime-go"

	"github.com/ekskms/ekskms/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	// The jsii runtime makes a folder in the temp directory when a program
	// starts, whether it is used or not.
	jsii.Close()
	os.Exit(code)
}
