package kmsplugin

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// crowd is a listener that holds so many connections at most. It never keeps a
// newcomer waiting for those that are there: beyond the limit, a connection is
// closed, first of those on which next to nothing was ever said, and among them
// the one that has been silent for longest. Opening many and doing nothing with
// them only loses them; who asks now is served.
type crowd struct {
	net.Listener
	most int

	mu   sync.Mutex
	open map[*member]struct{}
}

func newCrowd(l net.Listener, most int) *crowd {
	return &crowd{Listener: l, most: most, open: map[*member]struct{}{}}
}

// Accept takes the next connection, and makes room for it.
func (c *crowd) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	m := &member{Conn: conn, crowd: c}
	m.heard(0)
	c.mu.Lock()
	var silent *member
	if len(c.open) >= c.most {
		for other := range c.open {
			if silent == nil || other.before(silent) {
				silent = other
			}
		}
	}
	c.open[m] = struct{}{}
	c.mu.Unlock()
	if silent != nil {
		_ = silent.Close()
	}
	return m, nil
}

// member is a connection, and when it was last heard of.
type member struct {
	net.Conn
	crowd *crowd
	last  atomic.Int64 // in nanoseconds since started
	said  atomic.Int64 // bytes
	next  time.Time    // when it may be answered again; for one goroutine
}

// pause is how long to wait with the next answer, so that gap is between two.
func (m *member) pause(gap time.Duration) time.Duration {
	now := time.Now()
	wait := max(0, m.next.Sub(now))
	m.next = now.Add(wait + gap)
	return wait
}

var started = time.Now()

// fewBytes is more than the start of a connection takes, and less than a call.
const fewBytes = 128

// before tells which of two connections is closed first.
func (m *member) before(other *member) bool {
	if few := m.said.Load() < fewBytes; few != (other.said.Load() < fewBytes) {
		return few
	}
	return m.last.Load() < other.last.Load()
}

func (m *member) heard(n int) {
	m.said.Add(int64(n))
	m.last.Store(int64(time.Since(started)))
}

func (m *member) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	if n > 0 {
		m.heard(n)
	}
	return n, err
}

func (m *member) Close() error {
	m.crowd.mu.Lock()
	delete(m.crowd.open, m)
	m.crowd.mu.Unlock()
	return m.Conn.Close()
}
