package kmsplugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/hint"
)

// Exit codes of Run.
const (
	exitFailed = 1
	exitUsage  = 2
)

// Run is the kms-plugin command. It returns the exit code: 0 done, 1 failed,
// 2 wrong usage.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := NewCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "kms-plugin: %v\n", err)
	exit := exitFailed
	var h *hint.Error
	if errors.As(err, &h) {
		if h.Usage {
			exit = exitUsage
		}
		if h.Hint != "" {
			fmt.Fprintf(stderr, "hint: %s\n", h.Hint)
		}
	}
	return exit
}

// NewCommand builds the command tree. Anyone who writes a command line for the
// plugin can check it here: serve judges all its values in PreRunE.
func NewCommand() *cobra.Command {
	var version bool
	root := &cobra.Command{
		Use:                        "kms-plugin",
		Short:                      "A Kubernetes KMS v2 plugin backed by AWS KMS",
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				what, advice := "unknown command", "see kms-plugin help"
				if !strings.Contains(args[0], "=") { // that would be an encryption context
					what += fmt.Sprintf(" %q", args[0])
					if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
						advice = "did you mean kms-plugin " + like[0] + "?"
					}
				}
				return hint.Usage(what, advice)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if version {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), Version())
				return err
			}
			return hint.Usage("no command", "see kms-plugin help")
		},
	}
	// Not cobra's own: its template brings text/template, and with that 4 MB.
	root.Flags().BoolVar(&version, "version", false, "print version and revision")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		what, _, _ := strings.Cut(err.Error(), "=") // a value may be secret
		return hint.Usage(what, "see "+cmd.CommandPath()+" --help")
	})
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(serveCommand(), doctorCommand(), probeCommand(), benchCommand(), versionCommand())
	return root
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		// Not repeated: it may be an encryption-context value that a space cut off.
		return hint.Usage("unexpected argument", "all settings are flags, such as --encryption-context key=value")
	}
	return nil
}

func serveCommand() *cobra.Command {
	var in inputs
	var opts options
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the KMS v2 API on a unix socket",
		Example: `  kms-plugin serve --key arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab \
    --encryption-context cluster=demo`,
		Args: noArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) (err error) {
			opts, err = in.parse(cmd)
			return err
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), opts, cmd.ErrOrStderr())
		},
	}
	in.register(cmd.Flags())
	return cmd
}

// memProfileRate is the Go runtime's own default. The daemon's main sets it to
// 0, since the profiler's table alone takes 2 MB.
const memProfileRate = 512 << 10

func serve(ctx context.Context, o options, stderr io.Writer) error {
	if o.pprof {
		runtime.MemProfileRate = memProfileRate
	}
	// A reader of the log that goes away must not end the process.
	signal.Ignore(syscall.SIGPIPE)
	m := newMetrics()
	logs := newLogWriter(stderr, m.unlogged)
	defer logs.close()
	p, err := o.plugin(ctx, slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: o.level})), m)
	if err != nil {
		return err
	}
	if o.reportOn != "" {
		api, err := inCluster(o.reportOn)
		if err != nil {
			return err
		}
		p.reportTo(api)
	}
	l := Listeners{Pprof: o.pprof}
	if o.health != "" {
		if l.Health, err = net.Listen("tcp", o.health); err != nil {
			advice := "give an address of this machine and a port, such as 127.0.0.1:8080"
			if errors.Is(err, syscall.EADDRINUSE) {
				advice = "another process has the port: give a free one, or --health-listen '' for none"
			}
			return hint.New("--health-listen: "+err.Error(), advice)
		}
	}
	if l.Plugin, err = Listen(o.socket, o.owner); err != nil {
		if l.Health != nil {
			_ = l.Health.Close()
		}
		return err
	}
	return Serve(ctx, p, l)
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print version and revision",
		Example: `  kms-plugin version`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), Version())
			return err
		},
	}
}
