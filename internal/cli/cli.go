// Package cli is the command line of ekskms, one file for each command.
//
// Results go to stdout and everything else to stderr: "ekskms: <what>" and,
// where a fix is known, "hint: <what to do>". The exit code is 0 when the work
// was done, 1 when it failed or found something, 2 when the command line or an
// input is wrong, and 128 and the number of a signal that ended it.
package cli

import (
	"context"
	"errors"
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
	"github.com/ekskms/ekskms/internal/terminal"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitSignal = 128 // and the signal's number, as shells have it
)

// errFindings ends a command whose findings were printed already.
var errFindings = errors.New("findings")

// Main runs the command line of this process and ends it.
func Main() {
	synth.BeAPart()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(context.Background())
	stderr := os.Stderr
	done := make(chan int, 1)
	go func() { done <- Run(ctx, os.Args[1:], os.Stdin, os.Stdout, stderr) }()
	var code int
	select {
	case code = <-done:
	case received := <-signals:
		cancel()
		interrupted := exitFailed
		if number, ok := received.(syscall.Signal); ok {
			interrupted = exitSignal + int(number)
		}
		// What is going on, in Node or in reading standard input, can't be asked
		// to end: it ends with the process, unless it is as good as done.
		if synth.Abandon() {
			sayInterrupted(stderr)
			os.Exit(interrupted)
		}
		select {
		case code = <-done:
		case <-signals: // once more
			os.Exit(interrupted)
		}
		if code != exitDone {
			sayInterrupted(stderr)
			code = interrupted
		}
	}
	synth.Close()
	cancel()
	os.Exit(code)
}

// sayInterrupted says what is true of every command: files are written at once, or
// not at all.
func sayInterrupted(stderr *os.File) {
	clearLine(stderr)
	sayTo(stderr, terminal.Style{}, terminal.Alarm, "interrupted, no file is half written", "")
}

// Run runs a command line and returns the exit code.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
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
		told(cmd, err)
		return exitUsage
	case ctx.Err() != nil:
		// What failed is a consequence: a signal from the terminal reaches Node
		// as well. Main says what happened.
		return exitFailed
	}
	told(cmd, err)
	return exitFailed
}

func init() { cobra.EnableCommandSorting = false }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "ekskms",
		Short: "EKS clusters whose secrets are encrypted under a locked-down, rotating KMS key",
		Long: "ekskms turns a short ekskms.yaml into CloudFormation, Terraform or a Go program for an EKS\n" +
			"cluster whose secrets are encrypted under a rotating, locked-down customer-managed key, watched\n" +
			"by CloudTrail, with a Kubernetes KMS plugin deployed on it. It checks, explains and compares\n" +
			"such templates, no matter who wrote them.",
		Example:           "  ekskms synth",
		Version:           strings.TrimPrefix(versionLine(), "ekskms "),
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args:              noArgs,
		RunE:              runHelp,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return notEmpty(cmd) },
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	choice(root.PersistentFlags(), new(string), "color", "`when` to use colour; for auto, the terminal, NO_COLOR and CLICOLOR_FORCE decide", terminal.Modes...)
	root.PersistentFlags().BoolP("quiet", "q", false, "leave out progress, advice and reports of success: only results, findings and errors are printed")
	for _, group := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"make", "Make a cluster:", []*cobra.Command{newInit(), newConfig(), newLock(), newSynth(), newGenerate(), newEject()}},
		{"prove", "Prove what holds:", []*cobra.Command{newCheck(), newExplain(), newGuard(), newVerify(), newEvidence(), newReport()}},
		{"operate", "Operate it:", []*cobra.Command{newAdopt(), newEstimate()}},
	} {
		root.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, cmd := range group.commands {
			cmd.GroupID = group.id
			root.AddCommand(cmd)
		}
	}
	root.AddCommand(newSchema(), newVersion())
	completeFlags(root)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = helpArgs
			cmd.Example = "  ekskms help synth"
		case "completion":
			cmd.Example = "  ekskms completion bash"
			cmd.Args, cmd.RunE = noArgs, runHelp
			for _, shell := range cmd.Commands() {
				shell.Example, shell.Args = "  ekskms completion "+shell.Name(), noArgs
			}
		}
	}
	root.SetHelpFunc(help)
	root.SetFlagErrorFunc(flagError)
	return root
}

// told prints an error.
func told(cmd *cobra.Command, err error) {
	var faults config.Faults
	var hinted *hint.Error
	switch {
	case errors.As(err, &faults):
		for _, fault := range faults {
			fail(cmd, fault.String(), "")
		}
	case errors.As(err, &hinted):
		fail(cmd, hinted.What, hinted.Hint)
	default:
		fail(cmd, hint.Plain(err), "")
	}
}
