package kmsplugin

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	kmsapi "k8s.io/kms/apis/v2"
)

const (
	// Annotations may have 32 KiB by the contract; key_id and ciphertext 1 KiB
	// each. Longer messages are refused before they are read.
	maxMessage = 48 << 10
	// maxConnections is of each listener: see crowd.
	maxConnections = 128
	// streamWorkers is above what an API server has in flight as a rule. A
	// goroutine that is kept has the stack that a call needs.
	streamWorkers = 16
	// healthPause is the least time between two answers on one connection of the
	// health listener. Who probes opens a new one each time, or asks by the second.
	healthPause = 50 * time.Millisecond
	// maxStreams is above maxInFlight, since identical decrypts wait for one
	// KMS call: an API server that starts asks for the same seed many times.
	maxStreams = 1024
	// defaultDrain is above the time limit of a call, so that every call that
	// was accepted can finish, and below a pod's grace period.
	defaultDrain = 5 * time.Second
)

// Listeners are where Serve answers. It closes both.
type Listeners struct {
	Plugin net.Listener
	Health net.Listener  // optional: /livez, /readyz and /metrics over HTTP
	Pprof  bool          // also /debug/pprof/ there
	Drain  time.Duration // how long calls may go on after ctx ends. Default: 5 s
}

// Serve answers until ctx ends, then drains: no new calls, and those in flight
// may finish within the drain time. It returns nil after a drain, an error if a
// listener failed.
func Serve(ctx context.Context, p *Plugin, l Listeners) error {
	if l.Drain == 0 {
		l.Drain = defaultDrain
	}
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(8<<10),
		grpc.ConnectionTimeout(5*time.Second),
		grpc.NumStreamWorkers(streamWorkers),
	)
	kmsapi.RegisterKeyManagementServiceServer(server, p)

	var draining atomic.Bool
	health := &http.Server{
		Handler:           healthHandler(p, &draining, l.Pprof),
		ReadHeaderTimeout: 2 * time.Second,
		ReadTimeout:       2 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          log.New(complaints{p}, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, memberKey{}, c)
		},
	}
	if l.Pprof {
		health.WriteTimeout = time.Minute // a CPU profile takes half of that
	}

	probing, stopProbing := context.WithCancel(context.WithoutCancel(ctx))
	failed := make(chan error, 2)
	var running sync.WaitGroup
	running.Go(func() { p.run(probing) })
	running.Go(func() {
		if err := server.Serve(newCrowd(l.Plugin, maxConnections)); err != nil {
			failed <- fmt.Errorf("serve %s: %w", l.Plugin.Addr(), err)
		}
	})
	if l.Health != nil {
		running.Go(func() {
			if err := health.Serve(newCrowd(l.Health, maxConnections)); !errors.Is(err, http.ErrServerClosed) && !draining.Load() {
				failed <- fmt.Errorf("serve health on %s: %w", l.Health.Addr(), err)
			}
		})
		p.log.Info("serving health", "address", l.Health.Addr().String())
	}
	p.log.Info("serving", "socket", l.Plugin.Addr().String(), "key", p.sealing().id,
		"version", Version().Version, "revision", Version().Revision)

	var err error
	select {
	case <-ctx.Done():
		p.log.Info("draining", "at_most", l.Drain.String())
	case err = <-failed:
		p.log.Error("stopping", "error", err.Error())
	}
	draining.Store(true)
	if l.Health != nil {
		_ = l.Health.Close() // its port is free for the next instance
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		server.GracefulStop()
	}()
	select {
	case <-drained:
	case <-time.After(l.Drain):
		p.log.Warn("drain time is over, cutting the calls that are left")
		server.Stop()
		<-drained
	}
	stopProbing()
	_ = health.Close()
	running.Wait()
	p.log.Info("stopped")
	return err
}

// healthHandler: livez says that the process answers, whatever KMS does, since a
// restart fixes no key; readyz says what Status says.
func healthHandler(p *Plugin, draining *atomic.Bool, profile bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, healthy)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ok, message := p.Ready()
		if draining.Load() {
			ok, message = false, "draining"
		}
		if !ok {
			http.Error(w, message, http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, message)
	})
	mux.Handle("GET /metrics", &exposition{from: p.metrics.registry, fail: func(err error) {
		p.log.Error("the metrics can't be read", "error", err.Error())
	}})
	if profile {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m, ok := r.Context().Value(memberKey{}).(*member); ok {
			sleep(r.Context(), m.pause(healthPause), nil)
		}
		mux.ServeHTTP(w, r)
	})
}

type memberKey struct{}

// complaints takes net/http's own into the structured log.
type complaints struct{ p *Plugin }

func (w complaints) Write(b []byte) (int, error) {
	w.p.log.Warn("health listener", "message", string(b))
	return len(b), nil
}
