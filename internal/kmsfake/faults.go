package kmsfake

import (
	"context"
	"slices"
	"time"
)

// countdown is how many requests of an operation a fault still meets.
type countdown map[string]int

func (c countdown) take(op string) (name string, ok bool) {
	if len(c) == 0 {
		return "", false
	}
	for _, name := range [...]string{op, "*"} {
		switch n := c[name]; {
		case n > 0:
			c[name] = n - 1
			return name, true
		case n < 0:
			return name, true
		}
	}
	return "", false
}

// faults are guarded by the server's lock.
type faults struct {
	before   func(op string)
	fail     map[string]*Error
	failNext countdown
	nextFail map[string]*Error
	cut      countdown
	cutAfter countdown
	hang     countdown
	stale    countdown
	hidden   []string
	unpinned bool
	latency  time.Duration

	perSecond int
	second    int64 // the one that used is about
	used      int
}

func newFaults() faults {
	return faults{
		fail: map[string]*Error{}, failNext: countdown{}, nextFail: map[string]*Error{},
		cut: countdown{}, cutAfter: countdown{}, hang: countdown{}, stale: countdown{},
	}
}

// Before has f called ahead of every request, outside of the server's lock: f
// may rotate keys, wait, or change states. What f waits for, the request waits
// for, even if its client gives up.
func (s *Server) Before(f func(op string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.before = f
}

// Fail makes an operation ("*" for every one) answer with an error until it is
// called again with nil.
func (s *Server) Fail(op string, e *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.fail[op] = e
}

// FailNext makes the next n requests of an operation answer with an error.
func (s *Server) FailNext(op string, n int, e *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.failNext[op], s.faults.nextFail[op] = n, e
}

// Throttle answers with ThrottlingException what is beyond so many requests of
// all operations in a second of the server's clock. 0 switches it off.
func (s *Server) Throttle(perSecond int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.perSecond, s.faults.used = perSecond, 0
}

// Latency makes every request wait before anything is done for it. A request
// whose client goes away in the meantime has no effect.
func (s *Server) Latency(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.latency = d
}

// Cut closes the connections of the next n requests of an operation without an
// answer, and does nothing for them.
func (s *Server) Cut(op string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.cut[op] = n
}

// CutAfter does what the next n requests of an operation ask for, and closes
// their connections instead of saying so.
func (s *Server) CutAfter(op string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.cutAfter[op] = n
}

// Hang never answers the next n requests of an operation, and does nothing for
// them. Each one waits until its client goes away.
func (s *Server) Hang(op string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.hang[op] = n
}

// Stale lets the next n requests of DescribeKey, Encrypt or GenerateDataKey
// meet a host that has not heard of the key's last rotation: they name, or
// encrypt under, the material before it. Requests with a key that was never
// rotated do not count.
func (s *Server) Stale(op string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.stale[op] = n
}

// FindsKeys has Decrypt find the key in the ciphertext where the request names
// none, as KMS does. By default the fake refuses such a request.
func (s *Server) FindsKeys() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.unpinned = true
}

// HideMaterialIDs leaves material IDs out of the answers to these operations,
// and of no others, as endpoints that are older than on-demand rotation do.
func (s *Server) HideMaterialIDs(ops ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.hidden = slices.Clone(ops)
}

// Clock moves the server's clock away from the real one. From the first call
// on, a request that was signed more than 5 minutes before or after that clock
// is refused. The clock is also in the Date of every answer, from which the SDK
// corrects its own.
func (s *Server) Clock(offset time.Duration) {
	s.offset.Store(int64(offset))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.access.dates = true
}

func (f *faults) throttled(now time.Time) *Error {
	if f.perSecond == 0 {
		return nil
	}
	if second := now.Unix(); second != f.second {
		f.second, f.used = second, 0
	}
	f.used++
	if f.used <= f.perSecond {
		return nil
	}
	return failure("ThrottlingException", "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.")
}

// fate is what the faults have in store for one request.
type fate struct {
	hang, cut, cutAfter bool
	fail                *Error
}

func (s *Server) fate(op string) (f fate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, f.hang = s.faults.hang.take(op); f.hang {
		return f
	}
	if _, f.cut = s.faults.cut.take(op); f.cut {
		return f
	}
	_, f.cutAfter = s.faults.cutAfter.take(op)
	if name, ok := s.faults.failNext.take(op); ok {
		f.fail = s.faults.nextFail[name]
	}
	for _, name := range [...]string{op, "*"} {
		if f.fail == nil {
			f.fail = s.faults.fail[name]
		}
	}
	return f
}

// visible is the material that an operation takes for a key's current one.
func (s *Server) visible(op string, known []*material) *material {
	last := len(known) - 1
	if last > 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, stale := s.faults.stale.take(op); stale {
			last--
		}
	}
	return known[last]
}

func (s *Server) hides(op string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.faults.hidden, op)
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
