package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const manyCallers = 16

// scenario is one operation from so many callers, on several servers in turn.
type scenario struct {
	name    string
	callers int
	do      func(s *server, callers int) operation
	rounds  [][]sample // by server
}

func doEncrypt(s *server, _ int) operation       { return s.encrypt }
func doDecrypt(s *server, callers int) operation { return s.decrypt(callers) }
func doDecryptSame(s *server, _ int) operation   { return s.decryptSame }

func scenarios() []*scenario {
	return []*scenario{
		{name: "Encrypt", callers: 1, do: doEncrypt},
		{name: "Encrypt", callers: manyCallers, do: doEncrypt},
		{name: "Decrypt", callers: 1, do: doDecrypt},
		{name: "Decrypt", callers: manyCallers, do: doDecrypt},
	}
}

// race runs scenarios on servers in turn, in rounds: whatever else this machine
// does at the time, it does it to all of them.
func (b *bench) race(servers []*server, all []*scenario, calls func(*server, *scenario) int) error {
	for _, s := range servers {
		if err := s.fillRing(b.ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		for _, sc := range all {
			if _, _, err := load(b.ctx, sc.callers, b.plan.warmUp, sc.do(s, sc.callers)); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	for _, sc := range all {
		sc.rounds = make([][]sample, len(servers))
	}
	for round := range b.plan.rounds {
		progress("round %d of %d", round+1, b.plan.rounds)
		for _, sc := range all {
			for i, s := range servers {
				sample, err := s.measure(b.ctx, sc.callers, calls(s, sc), sc.do(s, sc.callers))
				if err != nil {
					return err
				}
				sc.rounds[i] = append(sc.rounds[i], sample)
			}
		}
	}
	return nil
}

// operations measures Encrypt and Decrypt, and memory under them.
func (b *bench) operations(r *report) error {
	empty, err := b.startFloor()
	if err != nil {
		return err
	}
	defer empty.stop()
	quick, err := b.startPlugin("kms-plugin, KMS at 0 ms", b.quickKMS)
	if err != nil {
		return err
	}
	defer quick.stop()
	slow, err := b.startPlugin("kms-plugin, KMS at 5 ms", b.slowKMS)
	if err != nil {
		return err
	}
	defer slow.stop()

	servers, all := []*server{empty, quick, slow}, scenarios()
	if b.peer.binary != "" {
		quickPeer, err := b.startPeer(b.peer.name()+", KMS at 0 ms", b.quickKMS)
		if err != nil {
			return err
		}
		defer quickPeer.stop()
		slowPeer, err := b.startPeer(b.peer.name()+", KMS at 5 ms", b.slowKMS)
		if err != nil {
			return err
		}
		defer slowPeer.stop()
		servers = append(servers, quickPeer, slowPeer)
	}
	err = b.race(servers, all, func(s *server, sc *scenario) int {
		switch {
		case s == empty:
			return b.plan.floorCalls
		case s.kms == b.slowKMS && sc.callers == 1:
			return b.plan.slowCalls
		}
		return b.plan.calls
	})
	if err != nil {
		return err
	}
	progress("measuring: memory")
	opening, err := b.watchMemory(quick, quick.decrypt(manyCallers))
	if err != nil {
		return err
	}
	sealing, err := b.watchMemory(quick, quick.encrypt)
	if err != nil {
		return err
	}
	r.operations(b.plan, servers, all)
	r.memory(!b.plan.quick, opening, sealing)
	if b.peer.binary == "" {
		return nil
	}
	other := servers[3]
	if opening, err = b.watchMemory(other, other.decrypt(manyCallers)); err != nil {
		return err
	}
	if sealing, err = b.watchMemory(other, other.encrypt); err != nil {
		return err
	}
	r.peer(b.peer.name(), all, max(opening.resident, sealing.resident))
	return nil
}

// seedCache measures what the API server's repeated Decrypt of one seed costs
// where the plugin remembers it.
func (b *bench) seedCache(r *report) error {
	empty, err := b.startFloor()
	if err != nil {
		return err
	}
	defer empty.stop()
	caching, err := b.startPlugin("kms-plugin --seed-cache 1000", b.quickKMS, "--seed-cache", "1000")
	if err != nil {
		return err
	}
	defer caching.stop()
	servers := []*server{empty, caching}
	all := []*scenario{
		{name: "Decrypt of one ciphertext", callers: 1, do: doDecryptSame},
		{name: "Decrypt of one ciphertext", callers: manyCallers, do: doDecryptSame},
	}
	if err := b.race(servers, all, func(*server, *scenario) int { return b.plan.floorCalls }); err != nil {
		return err
	}
	r.seedCache(servers, all)
	return nil
}

// writeProfiles says where the plugin's CPU time goes.
func (b *bench) writeProfiles(dir string) error {
	s, err := b.startPlugin("kms-plugin", b.quickKMS, "--pprof")
	if err != nil {
		return err
	}
	defer s.stop()
	url, err := s.healthURL()
	if err != nil {
		return err
	}
	if err := s.fillRing(b.ctx); err != nil {
		return err
	}
	for name, do := range map[string]operation{"decrypt": s.decrypt(manyCallers), "encrypt": s.encrypt} {
		progress("profiling %s from %d callers", name, manyCallers)
		var profile []byte
		err := b.underLoad(manyCallers, do, func(ctx context.Context) (err error) {
			profile, err = get(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", url, int(b.plan.profile/time.Second)))
			return err
		})
		if err != nil {
			return err
		}
		file := filepath.Join(dir, name+".pprof")
		if err := os.WriteFile(file, profile, 0o644); err != nil {
			return err
		}
		progress("go tool pprof -top %s", file)
	}
	return nil
}

// underLoad looks at something while callers keep a server busy.
func (b *bench) underLoad(callers int, do operation, look func(context.Context) error) error {
	ctx, enough := context.WithCancelCause(b.ctx)
	defer enough(nil)
	idle := make(chan struct{})
	go func() {
		defer close(idle)
		for ctx.Err() == nil {
			if _, _, err := load(ctx, callers, ringSize*callers, do); err != nil {
				enough(err) // of no effect where look has had enough
			}
		}
	}()
	err := look(ctx)
	if cause := context.Cause(ctx); cause != nil {
		err = cause // of which look's own error is but a consequence
	}
	enough(nil)
	<-idle
	return err
}
