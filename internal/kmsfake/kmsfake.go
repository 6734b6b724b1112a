// Package kmsfake is an AWS KMS for tests. It speaks KMS's own JSON protocol,
// over HTTP or in process, so that the real AWS SDK is what is tested against
// it. Its ciphertext is authenticated: KMS key, key material and encryption
// context are bound to it, and one flipped bit makes it unreadable.
//
// One Server is KMS in one region. Its knobs, all of which may be turned at any
// time and from any goroutine, make it refuse, delay, cut off or mislead. The
// operation that a knob takes is a name such as Decrypt, or "*" for every one.
//
// It verifies no signatures and must never leave a test.
package kmsfake

import (
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Key states, as DescribeKey names them.
const (
	Creating               = "Creating"
	Enabled                = "Enabled"
	Disabled               = "Disabled"
	PendingDeletion        = "PendingDeletion"
	PendingReplicaDeletion = "PendingReplicaDeletion"
)

// Always is a count for the knobs that take one: every request, until the knob
// is turned again. A count of 0 turns a knob off.
const Always = -1

const account = "111122223333"

// Error is an answer in place of the right one: an HTTP status and a KMS error
// code such as ThrottlingException.
type Error struct {
	Status  int // 0 is 400
	Code    string
	Message string
}

// Server is the fake. The zero value is not usable: call New.
type Server struct {
	region   string
	offset   atomic.Int64 // of its clock, in nanoseconds
	counters counters
	recorder atomic.Pointer[func(Recorded)]

	// mu guards what follows. It is held for moments only, never while a
	// request waits or encrypts. A family's lock may be taken under it, not the
	// other way round, and never two servers' at once.
	mu      sync.Mutex
	keys    map[string]*Key // by key ID
	aliases map[string]*Key // by name, which begins with alias/
	regions map[string]*Server
	calls   callLog
	faults  faults
	access  access
}

// New makes an empty KMS of a region.
func New(region string) *Server {
	return &Server{
		region:  region,
		keys:    map[string]*Key{},
		aliases: map[string]*Key{},
		calls:   callLog{counts: map[string]int{}},
		faults:  newFaults(),
		access:  access{denied: map[denial]bool{}},
	}
}

// Connect makes servers the regions of one account, which ReplicateKey needs to
// find the one that it is asked for. (*Key).Replicate does without.
func Connect(servers ...*Server) {
	for _, s := range servers {
		regions := map[string]*Server{}
		for _, other := range servers {
			regions[other.region] = other
		}
		s.mu.Lock()
		s.regions = regions
		s.mu.Unlock()
	}
}

func (s *Server) arn(resource string) string {
	return "arn:aws:kms:" + s.region + ":" + account + ":" + resource
}

func (s *Server) now() time.Time { return time.Now().Add(time.Duration(s.offset.Load())) }

func failure(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}
