package kmsplugin

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	kmsapi "k8s.io/kms/apis/v2"
)

// Exit codes of Run.
const (
	exitFailed = 1
	exitUsage  = 2
)

const (
	defaultListen = "unix:///run/kms-plugin/socket.sock"
	defaultHealth = "127.0.0.1:8080"
)

// commandError is an error with its exit code and, where one is known, a fix.
type commandError struct {
	exit int
	what string
	hint string
}

func (e *commandError) Error() string { return e.what }

func usage(what, hint string) error { return &commandError{exitUsage, what, hint} }

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
	var c *commandError
	if errors.As(err, &c) {
		exit = c.exit
		if c.hint != "" {
			fmt.Fprintf(stderr, "hint: %s\n", c.hint)
		}
	}
	return exit
}

// NewCommand builds the command tree. Whoever writes a command line for the
// plugin can check it here: serve judges all its values in PreRunE.
func NewCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "kms-plugin",
		Short:         "A Kubernetes KMS v2 plugin backed by AWS KMS",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(fmt.Sprintf("unknown command %q", args[0]), "see kms-plugin help")
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error {
			return usage("no command", "see kms-plugin help")
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(err.Error(), "see "+cmd.CommandPath()+" --help")
	})
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(serveCommand(), probeCommand(), versionCommand())
	return root
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(fmt.Sprintf("unexpected argument %q", args[0]), "")
	}
	return nil
}

type serveFlags struct {
	key, region, listen, health, mode string
	context                           []string
	poll                              time.Duration
}

// serveOptions are serve's flags once they are judged.
type serveOptions struct {
	keyARN, region string
	context        map[string]string
	socket         string
	mode           fs.FileMode
	health         string
	poll           time.Duration
}

func serveCommand() *cobra.Command {
	var flags serveFlags
	var opts serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the KMS v2 API on a unix socket",
		Example: `  kms-plugin serve --key arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab \
    --encryption-context cluster=demo`,
		Args: noArgs,
		PreRunE: func(*cobra.Command, []string) (err error) {
			opts, err = flags.parse()
			return err
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), opts, cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.key, "key", "", "ARN of the KMS key (required)")
	f.StringArrayVar(&flags.context, "encryption-context", nil, "encryption context as key=value, repeatable (at least one required)")
	f.StringVar(&flags.listen, "listen", defaultListen, "address of the socket")
	f.StringVar(&flags.region, "region", "", "Region of the key, where the ARN names none; if both do, they must agree")
	f.DurationVar(&flags.poll, "poll-interval", defaultPollInterval, "how often to look at the key, 1s to 1h")
	f.StringVar(&flags.mode, "socket-mode", "0600", "permissions of the socket, octal, none for others")
	f.StringVar(&flags.health, "health-listen", defaultHealth, `TCP address for /livez and /readyz, "" for none`)
	return cmd
}

func (f serveFlags) parse() (o serveOptions, err error) {
	if f.key == "" {
		return o, usage("--key is required", "give the ARN of the KMS key, arn:aws:kms:<region>:<account>:key/<id>")
	}
	key, err := arn.Parse(f.key)
	if err != nil || key.Service != "kms" || !strings.HasPrefix(key.Resource, "key/") {
		hint := "kms-plugin needs the ARN of the key itself: an alias can be moved to another key without anybody noticing"
		return o, usage(fmt.Sprintf("--key %q is not the ARN of a KMS key", f.key), hint)
	}
	o.keyARN, o.region = f.key, key.Region
	switch {
	case o.region == "" && f.region == "":
		return o, usage("the key's ARN names no Region", "add --region")
	case o.region == "":
		o.region = f.region
	case f.region != "" && f.region != o.region:
		return o, usage(fmt.Sprintf("--region is %s and the key is in %s", f.region, o.region), "leave --region out, it is read from the key's ARN")
	}

	// Values of the context stay out of messages, which end up in logs.
	o.context = map[string]string{}
	for _, pair := range f.context {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" || v == "" {
			return o, usage("an --encryption-context is not of the form key=value", "")
		}
		if _, twice := o.context[k]; twice {
			return o, usage(fmt.Sprintf("--encryption-context %s is given twice", k), "")
		}
		o.context[k] = v
	}
	if len(o.context) == 0 {
		return o, usage("--encryption-context is required", "give the key=value that the key policy asks of this cluster")
	}

	if o.socket, err = socketPath(f.listen); err != nil {
		return o, usage("--listen: "+err.Error(), "")
	}
	mode, err := strconv.ParseUint(f.mode, 8, 32)
	if err != nil || mode&^0o770 != 0 || mode&0o600 != 0o600 {
		return o, usage(fmt.Sprintf("--socket-mode %q must be octal, with 0600 for the owner and nothing for others", f.mode),
			"whoever can open the socket can decrypt: use 0600, or 0660 and a group")
	}
	o.mode = fs.FileMode(mode)
	if f.health != "" {
		if _, _, err := net.SplitHostPort(f.health); err != nil {
			return o, usage("--health-listen: "+err.Error(), "")
		}
	}
	o.health = f.health
	if f.poll < time.Second || f.poll > time.Hour {
		return o, usage(fmt.Sprintf("--poll-interval is %s, must be 1s to 1h", f.poll), "")
	}
	o.poll = f.poll
	return o, nil
}

func serve(ctx context.Context, o serveOptions, stderr io.Writer) error {
	client, err := NewKMS(ctx, o.region)
	if err != nil {
		return err
	}
	p, err := New(Config{
		KeyARN:            o.keyARN,
		EncryptionContext: o.context,
		KMS:               client,
		Logger:            slog.New(slog.NewJSONHandler(stderr, nil)),
		PollInterval:      o.poll,
	})
	if err != nil {
		return err
	}
	var l Listeners
	if o.health != "" {
		if l.Health, err = net.Listen("tcp", o.health); err != nil {
			return fmt.Errorf("--health-listen: %w", err)
		}
	}
	if l.Plugin, err = Listen(o.socket, o.mode); err != nil {
		if l.Health != nil {
			_ = l.Health.Close()
		}
		return err
	}
	return Serve(ctx, p, l)
}

func probeCommand() *cobra.Command {
	var listen string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "probe",
		Short:   "Ask a running plugin for its status and prove it with one round trip",
		Example: `  kms-plugin probe --listen unix:///run/kms-plugin/socket.sock`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := socketPath(listen)
			if err != nil {
				return usage("--listen: "+err.Error(), "")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			id, err := probeSocket(ctx, path)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: encrypted and decrypted under key_id %s\n", id)
			return err
		},
	}
	cmd.Flags().StringVar(&listen, "listen", defaultListen, "address of the plugin's socket")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "how long the whole probe may take")
	return cmd
}

func probeSocket(ctx context.Context, path string) (keyID string, err error) {
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	client := kmsapi.NewKeyManagementServiceClient(conn)
	const uid = "kms-plugin-probe"

	s, err := client.Status(ctx, &kmsapi.StatusRequest{})
	if err != nil {
		return "", &commandError{exitFailed, "status: " + err.Error(), "see that kms-plugin serve runs and that this user may open its socket"}
	}
	if s.GetHealthz() != healthy {
		return "", fmt.Errorf("the plugin is not healthy: %s", s.GetHealthz())
	}
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the program instead
	e, err := client.Encrypt(ctx, &kmsapi.EncryptRequest{Plaintext: nonce, Uid: uid})
	if err != nil {
		return "", fmt.Errorf("encrypt: %w", err)
	}
	d, err := client.Decrypt(ctx, &kmsapi.DecryptRequest{Ciphertext: e.GetCiphertext(), KeyId: e.GetKeyId(), Annotations: e.GetAnnotations(), Uid: uid})
	if err != nil {
		return "", fmt.Errorf("decrypt: %w", err)
	}
	if subtle.ConstantTimeCompare(d.GetPlaintext(), nonce) != 1 {
		return "", errors.New("what was encrypted does not decrypt to itself")
	}
	return e.GetKeyId(), nil
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
