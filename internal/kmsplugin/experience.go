package kmsplugin

import (
	"sync"
	"time"
)

// troubled is how many calls in a row must fail before the key is called
// degraded for it. A probe may be good all the while: it meets other hosts of KMS.
const troubled = 3

// troubleFor is how long failures count at least after the last of them.
const troubleFor = 2 * time.Minute

// experience is what calls meet, each operation by itself: a Decrypt that works
// says nothing for an Encrypt that does not.
type experience struct {
	mu    sync.Mutex
	calls [operations]struct {
		inARow int
		last   time.Time
		fail   *failure
	}
}

// operation is a kind of call.
type operation int

const (
	encrypting operation = iota
	decrypting
	operations
)

// note takes the outcome of a call. It tells whether trouble begins or ends with it.
func (x *experience) note(op operation, f *failure) (begins, ends bool) {
	if f != nil && !f.ofKMS() {
		return false, false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	c := &x.calls[op]
	if f == nil {
		ends = c.inARow >= troubled
		c.inARow, c.fail = 0, nil
		return false, ends
	}
	c.inARow++
	c.last, c.fail = time.Now(), f
	return c.inARow == troubled, false
}

// failing is the failure that calls meet, if they do and the last one is not
// older than within, or troubleFor.
func (x *experience) failing(now time.Time, within time.Duration) *failure {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.calls {
		if c.inARow >= troubled && now.Sub(c.last) <= max(within, troubleFor) {
			return c.fail
		}
	}
	return nil
}
