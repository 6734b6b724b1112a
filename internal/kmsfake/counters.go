package kmsfake

import (
	"net"
	"net/http"
	"slices"
	"sync/atomic"
)

// keptCalls is how many calls are remembered in full.
const keptCalls = 4096

// Call is one request as it arrived.
type Call struct {
	Op        string // such as Encrypt
	KeyID     string
	Context   map[string]string
	RequestID string
}

// callLog is guarded by the server's lock.
type callLog struct {
	recent []Call
	counts map[string]int
	total  int
}

func (l *callLog) add(c Call) {
	l.total++
	l.counts[c.Op]++
	if len(l.recent) == 2*keptCalls { // now and then, and not with every call
		n := copy(l.recent, l.recent[keptCalls:])
		clear(l.recent[n:])
		l.recent = l.recent[:n]
	}
	l.recent = append(l.recent, c)
}

// Calls returns the last few thousand requests. Count counts all of them.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls.recent[max(0, len(s.calls.recent)-keptCalls):])
}

// Count is how many requests of an operation, or in all for "*", have arrived,
// whatever became of them.
func (s *Server) Count(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if op == "*" {
		return s.calls.total
	}
	return s.calls.counts[op]
}

type counters struct {
	connections, inFlight, peak atomic.Int64
}

func (c *counters) enter() {
	n := c.inFlight.Add(1)
	for {
		peak := c.peak.Load()
		if n <= peak || c.peak.CompareAndSwap(peak, n) {
			return
		}
	}
}

func (c *counters) leave() { c.inFlight.Add(-1) }

// InFlight is how many requests are being worked on, and how many were at most.
func (s *Server) InFlight() (now, peak int) {
	return int(s.counters.inFlight.Load()), int(s.counters.peak.Load())
}

// ConnState counts connections if it is an http.Server's ConnState.
func (s *Server) ConnState(_ net.Conn, state http.ConnState) {
	if state == http.StateNew {
		s.counters.connections.Add(1)
	}
}

// Connections is how many connections ConnState has seen opened.
func (s *Server) Connections() int { return int(s.counters.connections.Load()) }
