package kmsfake

import (
	"cmp"
	"net"
	"net/http"
	"slices"
	"strings"
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

// Recorded is a request with what became of it, as CloudTrail records it.
type Recorded struct {
	Call
	// KeyARN is that of the key, as far as the request says it. Material is the ID of the key
	// material that was used, if the answer says it, and Code that of an error.
	KeyARN, Material, Code string
}

// Record has each request told, in the goroutine that answers it. Nil ends that.
func (s *Server) Record(tell func(Recorded)) { s.recorder.Store(&tell) }

func (s *Server) record(op string, req *request, answer any, fault *Error, requestID string) {
	tell := s.recorder.Load()
	if tell == nil || *tell == nil {
		return
	}
	r := Recorded{Call: Call{Op: op, KeyID: cmp.Or(req.KeyID, req.TargetKeyID), Context: req.EncryptionContext, RequestID: requestID}}
	if k, unknown := s.key(r.KeyID, true); unknown == nil {
		r.KeyARN = k.ARN
	}
	if crypto, ok := answer.(cryptoAnswer); ok {
		r.Material = crypto.KeyMaterialID
	}
	if fault != nil {
		r.Code = strings.TrimSuffix(fault.Code, "Exception") // as CloudTrail has AccessDenied
		if r.Code != "AccessDenied" {
			r.Code = fault.Code
		}
	}
	(*tell)(r)
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
