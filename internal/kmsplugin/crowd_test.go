package kmsplugin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	kmsapi "k8s.io/kms/apis/v2"
)

// idle opens n connections that say what is given, and nothing more.
func idle(t *testing.T, network, address string, n int, says string) (all []net.Conn) {
	t.Helper()
	for range n {
		c, err := net.Dial(network, address)
		mustf(t, err, "dial")
		t.Cleanup(func() { _ = c.Close() })
		_, _ = io.WriteString(c, says)
		all = append(all, c)
	}
	return all
}

// alive asks for /livez as the kubelet does: over a connection of its own.
func (r *running) alive() error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Get(r.health + "/livez")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// A caller that reaches the health port holds up no probe: neither with connections
// that are idle, nor with those that are slow, nor by scrapes without end.
func TestLivezUnderAbuse(t *testing.T) {
	address := func(r *running) string { return strings.TrimPrefix(r.health, "http://") }
	for name, abuse := range map[string]func(t *testing.T, r *running){
		"idle connections": func(t *testing.T, r *running) { idle(t, "tcp", address(r), 300, "") },
		"idle after a request": func(t *testing.T, r *running) {
			idle(t, "tcp", address(r), 300, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
		},
		"half a request": func(t *testing.T, r *running) {
			idle(t, "tcp", address(r), 300, "GET /livez HTTP/1.1\r\nHost: x\r\nX: ")
		},
		"slow requests": func(t *testing.T, r *running) {
			all := idle(t, "tcp", address(r), 300, "GET /metrics HTTP/1.1\r\n")
			go func() {
				for t.Context().Err() == nil {
					for _, c := range all {
						_, _ = io.WriteString(c, "X: y\r\n")
					}
					time.Sleep(10 * time.Millisecond)
				}
			}()
		},
		"answers that nobody reads": func(t *testing.T, r *running) {
			idle(t, "tcp", address(r), 300, strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 50))
		},
		"scrapes without end": func(t *testing.T, r *running) {
			for range 64 {
				go func() {
					for t.Context().Err() == nil {
						resp, err := http.Get(r.health + "/metrics")
						if err == nil {
							_, _ = io.Copy(io.Discard, resp.Body)
							_ = resp.Body.Close()
						}
					}
				}()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			r.wantOK(r.currentKeyID())
			abuse(t, r)
			for range 20 {
				mustf(t, r.alive(), "livez")
			}
			_, err := r.client.Encrypt(t.Context(), encryptRequest())
			mustf(t, err, "encrypt")
		})
	}
}

// Scrapes that come together share one look at the metrics, and those that come
// again wait for the next.
func TestScrapesAreLimited(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		f.probe()
		looks := 0
		e := &exposition{from: prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
			looks++
			return f.p.metrics.registry.Gather()
		})}
		began := time.Now()
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				for time.Since(began) < 10*time.Second {
					s, err := e.join(t.Context())
					if err != nil || s.err != nil || len(s.text) == 0 {
						t.Errorf("scrape: %v", err)
						return
					}
				}
			})
		}
		all.Wait()
		if most := int(time.Since(began)/scrapeGap) + 1; looks > most || looks < most/2 {
			t.Errorf("%d looks in %s", looks, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := e.join(ctx); err == nil {
			t.Error("a scraper that has gone is waited for")
		}
		time.Sleep(time.Second)
	})
}

// Callers with idle connections do not lock others out of the socket.
func TestIdleConnectionsOfTheSocket(t *testing.T) {
	r := start(t)
	e, err := r.client.Encrypt(t.Context(), encryptRequest())
	mustf(t, err, "encrypt")
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	idle(t, "unix", r.socket, 2*maxConnections, preface)
	idle(t, "unix", r.socket, 2*maxConnections, "")
	for range 10 {
		_, err := dial(t, r.socket).Decrypt(t.Context(), decryptRequest(e))
		mustf(t, err, "a new connection")
	}
	// The one that was silent for longest is closed, and its client comes back.
	eventually(t, "the first connection works again", func() bool {
		_, err := r.client.Decrypt(t.Context(), decryptRequest(e))
		return err == nil
	})
}

// The one that works is not the one that goes.
func TestTheSilentGoFirst(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	mustf(t, err, "listen")
	c := newCrowd(l, 3)
	t.Cleanup(func() { _ = c.Close() })
	served := make(chan net.Conn)
	go func() {
		for {
			conn, err := c.Accept()
			if err != nil {
				return
			}
			served <- conn
		}
	}()
	open := func() (client, server net.Conn) {
		client, err := net.Dial("tcp", l.Addr().String())
		mustf(t, err, "dial")
		t.Cleanup(func() { _ = client.Close() })
		return client, <-served
	}
	busy, busyServer := open()
	silent, _ := open()
	_, _ = open()
	_, err = io.WriteString(busy, strings.Repeat("x", fewBytes))
	mustf(t, err, "write")
	_, err = io.ReadFull(busyServer, make([]byte, fewBytes))
	mustf(t, err, "read")
	_, _ = open() // later than it was heard
	_ = silent.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the silent one: %v", err)
	}
	_, err = busyServer.Write([]byte("x"))
	mustf(t, err, "the busy one is closed")
	if len(c.open) != 3 {
		t.Errorf("%d connections", len(c.open))
	}
}

// A client that opens and resets streams without end costs little memory, and
// no other its answer.
func TestStreamResets(t *testing.T) {
	r := start(t)
	e, err := r.client.Encrypt(t.Context(), encryptRequest())
	mustf(t, err, "encrypt")
	r.fake.Latency(20 * time.Millisecond)
	conn, err := net.Dial("unix", r.socket)
	mustf(t, err, "dial")
	t.Cleanup(func() { _ = conn.Close() })
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	_, err = io.WriteString(conn, http2.ClientPreface)
	mustf(t, err, "preface")
	framer := http2.NewFramer(conn, nil)
	mustf(t, framer.WriteSettings(), "settings")
	var head strings.Builder
	encoder := hpack.NewEncoder(&head)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", kmsapi.KeyManagementService_Decrypt_FullMethodName},
		{":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		mustf(t, encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}), "header")
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range uint32(40_000) {
		err = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: []byte(head.String()), EndHeaders: true, EndStream: false})
		if err == nil {
			err = framer.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		}
		if err != nil {
			break // the server has had enough of it
		}
		if i%1000 == 0 {
			_, err := r.client.Decrypt(t.Context(), decryptRequest(e))
			mustf(t, err, "another client")
		}
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys+after.StackSys) - int64(before.HeapSys+before.StackSys); grown > 64<<20 {
		t.Errorf("memory grew by %d MB", grown>>20)
	}
	t.Logf("heap and stacks: %d KB ahead, %d KB after it", (before.HeapSys+before.StackSys)>>10, (after.HeapSys+after.StackSys)>>10)
}

// A second instance starts while the first one drains: the socket is free, and
// the health port too.
func TestStartBesideOneThatDrains(t *testing.T) {
	r := start(t, rarely)
	e, err := r.client.Encrypt(t.Context(), encryptRequest())
	mustf(t, err, "encrypt")
	arrived, release := r.holdDecrypt()
	answer := r.decrypting(e)
	<-arrived
	r.stop()
	var second net.Listener
	eventually(t, "the socket is free", func() bool {
		second, err = Listen(r.socket, Owner{Mode: 0o600})
		return err == nil
	})
	var health net.Listener
	eventually(t, "the health port is free", func() bool {
		health, err = net.Listen("tcp", strings.TrimPrefix(r.health, "http://"))
		return err == nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	cfg := r.p.cfg
	cfg.metrics = nil
	next, err := New(cfg)
	mustf(t, err, "plugin")
	go func() { done <- Serve(ctx, next, Listeners{Plugin: second, Health: health}) }()
	_, err = dial(t, r.socket).Decrypt(t.Context(), decryptRequest(e))
	mustf(t, err, "the second instance")
	release()
	mustf(t, <-answer, "the call in flight at the first one")
	mustf(t, <-r.done, "the first one's end")
	r.done <- nil
	if _, err := os.Lstat(r.socket); err != nil {
		t.Errorf("the first one took the second one's socket with it: %v", err)
	}
	_, err = dial(t, r.socket).Decrypt(t.Context(), decryptRequest(e))
	mustf(t, err, "the second instance, after the first one's end")
	cancel()
	mustf(t, <-done, "the second one's end")
}
