package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	kmsapi "k8s.io/kms/apis/v2"
)

// ringSize is how many different ciphertexts are decrypted in turn. The plugin
// makes one KMS call of identical calls at the same time, which would flatter
// it; no two callers have a ciphertext of the ring in common.
const ringSize = 256

const uid = "b5f4bd2e-4f0a-4c1e-9a57-0b9f7f1f7c11" // a UUID, as the API server's are

// server is a KMS v2 service with the API server's end of its socket.
type server struct {
	*process
	name   string
	kms    *fakeKMS // nil behind the floor
	client kmsapi.KeyManagementServiceClient
	hangUp func() error
	ready  time.Time // when the first Status said ok
	ring   []*kmsapi.DecryptRequest
}

// connect waits for a process to listen and to be healthy.
func (b *bench) connect(name string, p *process, socket string, kms *fakeKMS) (*server, error) {
	if err := b.awaitSocket(p, socket); err != nil {
		return nil, err
	}
	// One connection for all callers, as an API server has.
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	s := &server{process: p, name: name, kms: kms, client: kmsapi.NewKeyManagementServiceClient(conn), hangUp: conn.Close}
	for begun := time.Now(); ; time.Sleep(200 * time.Microsecond) {
		status, err := s.client.Status(b.ctx, &kmsapi.StatusRequest{})
		switch waited := time.Since(begun); {
		case err == nil && status.GetHealthz() == "ok":
			s.ready = time.Now()
			return s, nil
		case waited < startTimeout && b.ctx.Err() == nil:
		case err != nil:
			return nil, p.failed("Status: " + err.Error())
		default:
			return nil, p.failed("Status says " + status.GetHealthz())
		}
	}
}

func (s *server) stop() {
	_ = s.hangUp()
	s.process.stop()
}

// fillRing makes the ciphertexts for decrypt.
func (s *server) fillRing(ctx context.Context) error {
	s.ring = make([]*kmsapi.DecryptRequest, ringSize)
	var next atomic.Int64
	_, _, err := load(ctx, 16, ringSize, func(ctx context.Context, _, _ int) error {
		e, err := s.client.Encrypt(ctx, &kmsapi.EncryptRequest{Plaintext: seed, Uid: uid})
		if err == nil {
			s.ring[next.Add(1)-1] = &kmsapi.DecryptRequest{Ciphertext: e.GetCiphertext(), KeyId: e.GetKeyId(), Uid: uid}
		}
		return err
	})
	return err
}

// operation makes one call. turn counts the calls of one caller.
type operation func(ctx context.Context, caller, turn int) error

func (s *server) encrypt(ctx context.Context, _, _ int) error {
	e, err := s.client.Encrypt(ctx, &kmsapi.EncryptRequest{Plaintext: seed, Uid: uid})
	if err == nil && len(e.GetCiphertext()) == 0 {
		err = errors.New("an empty ciphertext")
	}
	return err
}

// decrypt gives every caller a part of the ring: its share where all callers
// have the same number of different ciphertexts.
func (s *server) decrypt(callers int) operation {
	share := ringSize / callers
	return func(ctx context.Context, caller, turn int) error {
		return s.open(ctx, s.ring[caller*share+turn%share])
	}
}

// decryptSame decrypts one ciphertext again and again.
func (s *server) decryptSame(ctx context.Context, _, _ int) error { return s.open(ctx, s.ring[0]) }

func (s *server) open(ctx context.Context, req *kmsapi.DecryptRequest) error {
	d, err := s.client.Decrypt(ctx, req)
	if err == nil && !bytes.Equal(d.GetPlaintext(), seed) {
		err = errors.New("a wrong plaintext")
	}
	return err
}

// load makes so many calls from so many callers at the same time. Every caller
// makes its next call as soon as it has the answer to the last. The first error
// ends it.
func load(ctx context.Context, callers, calls int, do operation) (took []time.Duration, all time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	took = make([]time.Duration, calls)
	var next atomic.Int64
	var running sync.WaitGroup
	begun := time.Now()
	for caller := range callers {
		running.Go(func() {
			for turn := 0; ctx.Err() == nil; turn++ {
				i := int(next.Add(1)) - 1
				if i >= calls {
					return
				}
				start := time.Now()
				if err := do(ctx, caller, turn); err != nil {
					cancel(err)
					return
				}
				took[i] = time.Since(start)
			}
		})
	}
	running.Wait()
	all = time.Since(begun)
	return took, all, context.Cause(ctx)
}

// sample is what one round has shown. CPU time is that of a call.
type sample struct {
	perSecond float64
	p50, p99  time.Duration
	cpu       time.Duration // of the server's process
	kmsCPU    time.Duration // of the fake KMS's
}

// measure is load with an eye on the processes.
func (s *server) measure(ctx context.Context, callers, calls int, do operation) (r sample, err error) {
	cpu := func() (own, kms time.Duration, err error) {
		if own, err = cpuTime(s.pid()); err == nil && s.kms != nil {
			kms, err = cpuTime(s.kms.pid())
		}
		return own, kms, err
	}
	own, kms, err := cpu()
	if err != nil {
		return r, fmt.Errorf("CPU time: %w", err)
	}
	took, all, err := load(ctx, callers, calls, do)
	if err != nil {
		return r, fmt.Errorf("%s: %w", s.name, err)
	}
	ownAfter, kmsAfter, err := cpu()
	if err != nil {
		return r, fmt.Errorf("CPU time: %w", err)
	}
	slices.Sort(took)
	return sample{
		perSecond: float64(calls) / all.Seconds(),
		p50:       quantile(took, 0.50),
		p99:       quantile(took, 0.99),
		cpu:       (ownAfter - own) / time.Duration(calls),
		kmsCPU:    (kmsAfter - kms) / time.Duration(calls),
	}, nil
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// median changes the order of what it is given.
func median[T cmp.Ordered](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}

func medianOf[S any, T cmp.Ordered](all []S, of func(S) T) T {
	values := make([]T, len(all))
	for i := range all {
		values[i] = of(all[i])
	}
	return median(values)
}

// summary is the medians of several rounds, each by itself.
func summary(rounds []sample) sample {
	return sample{
		perSecond: medianOf(rounds, func(s sample) float64 { return s.perSecond }),
		p50:       medianOf(rounds, func(s sample) time.Duration { return s.p50 }),
		p99:       medianOf(rounds, func(s sample) time.Duration { return s.p99 }),
		cpu:       medianOf(rounds, func(s sample) time.Duration { return s.cpu }),
		kmsCPU:    medianOf(rounds, func(s sample) time.Duration { return s.kmsCPU }),
	}
}

// ratio is the median of how two servers compare in one and the same round:
// what disturbs a round disturbs both.
func ratio(a, b []sample, of func(sample) float64) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = of(a[i]) / of(b[i])
	}
	return median(ratios)
}

func perSecond(s sample) float64 { return s.perSecond }
func p50(s sample) float64       { return float64(s.p50) }
func p99(s sample) float64       { return float64(s.p99) }
func cpu(s sample) float64       { return float64(s.cpu) }
