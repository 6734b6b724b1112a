package kmsplugin

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/ekskms/ekskms/internal/hint"
)

type benchOptions struct {
	callers, calls int
	operations     []string
	direct         bool
	same           bool
	output         string
}

func benchCommand() *cobra.Command {
	var in inputs
	var opts options
	var b benchOptions
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a running plugin, or AWS KMS directly",
		Long: `Measure a running plugin, or AWS KMS directly.

Without --direct it calls the plugin that listens on --listen. With --direct it
takes serve's flags and makes the calls to AWS KMS that the plugin would make,
from this process, without a socket between. Either way real KMS requests are
made, which are billed and on record: one per encrypt and decrypt.`,
		Example: `  kms-plugin bench --listen unix:///run/kms-plugin/socket.sock --callers 16 --calls 1000`,
		Args:    noArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := b.judge(); err != nil {
				return err
			}
			if !b.direct {
				if len(in.keys) > 0 || in.config != "" {
					return hint.Usage("--key and --config go with --direct", "without it, the plugin behind --listen is measured as it is")
				}
				return nil
			}
			opts, err = in.parse(cmd)
			return err
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			service, done, err := b.service(cmd.Context(), in.settings.Listen, opts)
			if err != nil {
				return err
			}
			defer done()
			results, err := b.run(cmd.Context(), service)
			if err != nil {
				return err
			}
			if err := writeBench(cmd.OutOrStdout(), b.output, results); err != nil {
				return err
			}
			for _, r := range results {
				if r.Errors > 0 {
					return fmt.Errorf("%d of %d %s calls failed: %s", r.Errors, r.Calls, r.Operation, r.FirstError)
				}
			}
			return nil
		},
	}
	f := cmd.Flags()
	in.register(f)
	for _, only := range []string{"socket-mode", "socket-group", "health-listen", "pprof", "log-level", "status-version"} {
		_ = f.MarkHidden(only) // serve's own; a file made for serve may hold them
	}
	f.IntVar(&b.callers, "callers", 1, "how many call at the same time, 1 to 1000")
	f.IntVar(&b.calls, "calls", 1000, "how many calls of each operation, 1 to 10 million")
	f.StringSliceVar(&b.operations, "operation", []string{"status", "encrypt", "decrypt"}, "what to measure: status, encrypt, decrypt")
	f.BoolVar(&b.direct, "direct", false, "call AWS KMS from here instead of the plugin's socket")
	f.BoolVar(&b.same, "same", false, "decrypt one ciphertext again and again, as an API server that starts does; the default is a ring of different ones")
	f.StringVar(&b.output, "output", "text", "text or json")
	return cmd
}

func (b *benchOptions) judge() error {
	switch {
	case b.callers < 1 || b.callers > 1000:
		return hint.Usage(fmt.Sprintf("--callers is %d, must be 1 to 1000", b.callers), "")
	case b.calls < 1 || b.calls > 10_000_000:
		return hint.Usage(fmt.Sprintf("--calls is %d, must be 1 to 10000000", b.calls), "")
	case b.output != "text" && b.output != "json":
		return hint.Usage(fmt.Sprintf("--output %q must be text or json", b.output), "")
	case len(b.operations) == 0:
		return hint.Usage("--operation is empty", "name status, encrypt or decrypt")
	}
	for _, op := range b.operations {
		if !slices.Contains([]string{"status", "encrypt", "decrypt"}, op) {
			return hint.Usage(fmt.Sprintf("--operation %q must be status, encrypt or decrypt", op), "")
		}
	}
	return nil
}

// service is the three calls, over a socket or without one.
type service struct {
	status  func(context.Context) error
	encrypt func(context.Context, *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error)
	decrypt func(context.Context, *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error)
}

func (b *benchOptions) service(ctx context.Context, listen string, o options) (s service, done func(), err error) {
	if !b.direct {
		client, hangUp, err := dialSocket(listen)
		if err != nil {
			return s, nil, err
		}
		return service{
			status: func(ctx context.Context) error {
				r, err := client.Status(ctx, &kmsapi.StatusRequest{})
				if err == nil && r.GetHealthz() != healthy {
					err = fmt.Errorf("the plugin is not healthy: %s", r.GetHealthz())
				}
				return err
			},
			encrypt: func(ctx context.Context, r *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
				return client.Encrypt(ctx, r)
			},
			decrypt: func(ctx context.Context, r *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
				return client.Decrypt(ctx, r)
			},
		}, hangUp, nil
	}
	p, err := o.plugin(ctx, nil, newMetrics())
	if err != nil {
		return s, nil, err
	}
	probing, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { p.run(probing) })
	return service{
		status: func(ctx context.Context) error {
			r, err := p.Status(ctx, &kmsapi.StatusRequest{})
			if err == nil && r.GetHealthz() != healthy {
				err = errors.New(r.GetHealthz())
			}
			return err
		},
		encrypt: p.Encrypt,
		decrypt: p.Decrypt,
	}, func() { stop(); running.Wait() }, nil
}

// BenchResult is what was measured of one operation. Durations are in
// microseconds.
type BenchResult struct {
	Operation  string  `json:"operation"`
	Callers    int     `json:"callers"`
	Calls      int     `json:"calls"`
	Errors     int     `json:"errors"`
	FirstError string  `json:"firstError,omitempty"`
	PerSecond  float64 `json:"perSecond"`
	P50        float64 `json:"p50us"`
	P90        float64 `json:"p90us"`
	P99        float64 `json:"p99us"`
	Max        float64 `json:"maxus"`
}

// ringSize is how many different ciphertexts are decrypted in turn, so that
// calls at the same time do not share a KMS call.
const ringSize = 256

func (b *benchOptions) run(ctx context.Context, s service) (results []BenchResult, err error) {
	if err := s.status(ctx); err != nil {
		return nil, hint.New("status: "+err.Error(), "see kms-plugin doctor")
	}
	seed := make([]byte, 32)
	_, _ = rand.Read(seed) // never fails: crypto/rand ends the program instead
	const uid = "kms-plugin-bench"
	encrypt := func(ctx context.Context, _ int) error {
		_, err := s.encrypt(ctx, &kmsapi.EncryptRequest{Plaintext: seed, Uid: uid})
		return err
	}
	var ring []*kmsapi.EncryptResponse
	for _, op := range b.operations {
		var do func(context.Context, int) error
		switch op {
		case "status":
			do = func(ctx context.Context, _ int) error { return s.status(ctx) }
		case "encrypt":
			do = encrypt
		case "decrypt":
			size := min(ringSize, b.calls)
			if b.same {
				size = 1
			}
			for len(ring) < size {
				e, err := s.encrypt(ctx, &kmsapi.EncryptRequest{Plaintext: seed, Uid: uid})
				if err != nil {
					return nil, fmt.Errorf("encrypt: %w", err)
				}
				ring = append(ring, e)
			}
			do = func(ctx context.Context, i int) error {
				e := ring[i%len(ring)]
				d, err := s.decrypt(ctx, &kmsapi.DecryptRequest{Ciphertext: e.GetCiphertext(), KeyId: e.GetKeyId(), Annotations: e.GetAnnotations(), Uid: uid})
				if err == nil && !bytes.Equal(d.GetPlaintext(), seed) {
					err = errors.New("a wrong plaintext")
				}
				return err
			}
		}
		results = append(results, b.measure(ctx, op, do))
		if err := ctx.Err(); err != nil {
			return results, err
		}
	}
	return results, nil
}

func (b *benchOptions) measure(ctx context.Context, op string, do func(context.Context, int) error) BenchResult {
	r := BenchResult{Operation: op, Callers: b.callers, Calls: b.calls}
	took := make([]time.Duration, b.calls)
	var next, failed atomic.Int64
	var first sync.Once
	var all sync.WaitGroup
	start := time.Now()
	for range b.callers {
		all.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= b.calls {
					return
				}
				begun := time.Now()
				err := do(ctx, i)
				took[i] = time.Since(begun)
				if err != nil {
					failed.Add(1)
					first.Do(func() { r.FirstError = err.Error() })
				}
			}
		})
	}
	all.Wait()
	r.PerSecond = float64(b.calls) / time.Since(start).Seconds()
	r.Errors = int(failed.Load())
	slices.Sort(took)
	at := func(q float64) float64 {
		return float64(took[min(len(took)-1, int(q*float64(len(took))))]) / float64(time.Microsecond)
	}
	r.P50, r.P90, r.P99, r.Max = at(0.50), at(0.90), at(0.99), at(1)
	return r
}

func writeBench(w io.Writer, output string, results []BenchResult) error {
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(map[string]any{"results": results})
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "operation\tcallers\tcalls\terrors\tper second\tp50 µs\tp90 µs\tp99 µs\tmax µs\t")
	for _, r := range results {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t\n",
			r.Operation, r.Callers, r.Calls, r.Errors, r.PerSecond, r.P50, r.P90, r.P99, r.Max)
	}
	return table.Flush()
}
