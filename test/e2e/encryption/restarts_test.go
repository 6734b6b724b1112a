package encryption_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ekskms/ekskms/test/e2e/cluster"
)

// writer creates secrets, one after the other, whatever happens around it, and
// remembers which of them the API server has acknowledged.
type writer struct {
	sync.Mutex
	acknowledged []string
	refused      int
	done         chan struct{}
	stop         context.CancelFunc
}

func (w *world) startWriter(prefix string) *writer {
	ctx, stop := context.WithCancel(w.t.Context())
	r := &writer{done: make(chan struct{}), stop: stop}
	go func() {
		defer close(r.done)
		for i := 0; ctx.Err() == nil; i++ {
			name := fmt.Sprintf("%s-%d", prefix, i)
			attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
			err := w.tryCreate(attempt, name)
			cancel()
			r.Lock()
			if err == nil {
				r.acknowledged = append(r.acknowledged, name)
			} else {
				r.refused++
			}
			r.Unlock()
			if err != nil {
				time.Sleep(10 * time.Millisecond)
			}
		}
	}()
	return r
}

func (r *writer) count() int {
	r.Lock()
	defer r.Unlock()
	return len(r.acknowledged)
}

// more waits until further writes were acknowledged.
func (r *writer) more(t *testing.T) {
	t.Helper()
	before := r.count()
	cluster.Eventually(t, "the writer gets on", func() error {
		if r.count() < before+20 {
			return fmt.Errorf("%d writes", r.count()-before)
		}
		return nil
	})
}

// TestRestarts stops and starts the API server, the plugin and AWS KMS in every
// order, politely and by kill -9, while secrets are written; and etcd with them.
// Nothing that was acknowledged is lost, and no secret ever lies in the clear.
func TestRestarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Encrypt(cluster.Encryption{Plugin: w.plugin, UnencryptedReads: true})
	w.StartAPIServer()

	type part struct {
		name        string
		stop, start func()
	}
	parts := func(kill bool) []part {
		end := func(p *cluster.Process) func() {
			if kill {
				return p.Kill
			}
			return p.Stop
		}
		return []part{
			{"API server", end(&w.APIServer.Process), w.LaunchAPIServer},
			{"plugin", end(&w.plugin.Process), w.plugin.Start},
			{"KMS", w.kms.Stop, w.kms.Start},
		}
	}
	var acknowledged []string
	round := 0
	run := func(name string, stop, start []part) {
		t.Helper()
		round++
		writes := w.startWriter(fmt.Sprintf("round%d", round))
		writes.more(t)
		for _, p := range stop {
			p.stop()
		}
		for _, p := range start {
			p.start()
		}
		w.APIServerReady()
		writes.more(t)
		writes.stop()
		<-writes.done
		acknowledged = append(acknowledged, writes.acknowledged...)
		t.Logf("%s: %d writes acknowledged, %d refused", name, len(writes.acknowledged), writes.refused)
	}
	for i, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		kill := i%2 == 0
		all := parts(kill)
		var stop, start []part
		var names []string
		for _, n := range order {
			stop = append(stop, all[n])
			// The other way round: who ended first starts last.
			start = append([]part{all[n]}, start...)
			names = append(names, all[n].name)
		}
		how := "stopped"
		if kill {
			how = "killed"
		}
		run(strings.Join(names, ", ")+" "+how+", started in reverse", stop, start)
		run(strings.Join(names, ", ")+" "+how+", started in this order", stop, reverse(start))
	}
	etcd := part{"etcd", w.Etcd.Kill, w.StartEtcd}
	all := parts(true)
	run("all killed, etcd too", append(all, etcd), append([]part{etcd}, all...))

	if round != 13 || len(acknowledged) < round*40 {
		t.Errorf("%d writes in %d rounds: this has proven little", len(acknowledged), round)
	}
	w.reads(acknowledged...)
	w.keyIDs()
	for key := range w.Stored(secrets) {
		for _, value := range w.History(key) {
			if err := leaks(value, string(password(strings.TrimPrefix(key, secrets)))); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
	}
}

func reverse[T any](s []T) []T {
	r := make([]T, len(s))
	for i, e := range s {
		r[len(s)-1-i] = e
	}
	return r
}
