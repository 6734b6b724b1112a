// Package cli is the command line of ekskms, one file for each command.
//
// Results go to stdout and everything else to stderr: "ekskms: <what>" and,
// where a fix is known, "hint: <what to do>". The exit code is 0 when the work
// was done, 1 when it failed or found something, 2 when the command line is
// wrong.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/synth"
	_ "github.com/ekskms/ekskms/internal/tempdir" // before jsii makes its own
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// errFindings ends a command whose findings were printed already.
var errFindings = errors.New("findings")

// Main runs the command line of this process and ends it.
func Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	stderr := os.Stderr
	done := make(chan int, 1)
	go func() { done <- Run(ctx, os.Args[1:], os.Stdin, os.Stdout, stderr) }()
	var code int
	select {
	case code = <-done:
		if ctx.Err() != nil && code != exitDone {
			sayInterrupted(stderr)
		}
	case <-ctx.Done():
		// What is going on, in Node or in reading standard input, can't be asked
		// to end: it ends with the process, unless it is as good as done.
		if synth.Abandon() {
			sayInterrupted(stderr)
			os.Exit(exitFailed)
		}
		code = <-done
	}
	synth.Close()
	stop()
	os.Exit(code)
}

func sayInterrupted(stderr *os.File) {
	clearLine(stderr)
	printError(stderr, "interrupted, nothing was written", "")
}

// Run runs a command line and returns the exit code.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	// An error that comes before a command has begun is one of the command line.
	begun := false
	root.PersistentPreRun = func(*cobra.Command, []string) { begun = true }
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)

	cmd, err := root.ExecuteContextC(ctx)
	var hinted *hint.Error
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errFindings):
		return exitFailed
	case errors.As(err, &hinted) && hinted.Usage:
		report(stderr, err)
		return exitUsage
	case !begun:
		path := cmd.CommandPath()
		if cmd.Name() == "help" {
			path = cmd.Root().Name()
		}
		printError(stderr, err.Error(), "run '"+path+" --help'")
		return exitUsage
	}
	if ctx.Err() != nil {
		// What failed is a consequence: a signal from the terminal reaches Node
		// as well. Main says what happened.
		return exitFailed
	}
	report(stderr, err)
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "ekskms",
		Short: "EKS clusters whose secrets are encrypted under a locked-down, rotating KMS key",
		Long: "ekskms turns a short ekskms.yaml into CloudFormation, Terraform or a Go program for an EKS\n" +
			"cluster whose secrets are encrypted under a rotating, locked-down customer-managed key, watched\n" +
			"by CloudTrail, with a Kubernetes KMS plugin deployed on it. It checks, explains and compares\n" +
			"such templates, whoever wrote them.",
		Example:       "  ekskms synth",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newInit(), newSynth(), newCheck(), newExplain(), newGuard(), newGenerate(), newEject(), newEstimate(), newInspect(), newSchema(), newCompletion(), newVersion())
	completeFlags(root)
	root.InitDefaultHelpCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "help" {
			cmd.Args = helpArgs
			cmd.Example = "  ekskms help synth"
		}
	}
	return root
}

// helpArgs refuses help for a command that there is not, for which cobra would
// print help and be content.
func helpArgs(cmd *cobra.Command, args []string) error {
	if found, rest, err := cmd.Root().Find(args); err != nil || found == nil || len(rest) > 0 {
		return fmt.Errorf("unknown command %q", strings.Join(args, " "))
	}
	return nil
}

func report(stderr io.Writer, err error) {
	var faults config.Faults
	var hinted *hint.Error
	switch {
	case errors.As(err, &faults):
		for _, fault := range faults {
			printError(stderr, fault.String(), "")
		}
	case errors.As(err, &hinted):
		printError(stderr, hinted.What, hinted.Hint)
	default:
		printError(stderr, err.Error(), "")
	}
}

func printError(stderr io.Writer, what, hint string) {
	_, _ = fmt.Fprintln(stderr, "ekskms:", strings.TrimSpace(what))
	if hint != "" {
		_, _ = fmt.Fprintln(stderr, "hint:", hint)
	}
}
