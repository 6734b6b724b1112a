package kmsplugin

import (
	"context"
	"sync"
)

// flights lets callers that want the same at the same time share one piece of
// work. The work belongs to none of them: it goes on while anybody waits for it,
// and ends when the last one has left.
type flights struct {
	mu      sync.Mutex
	current map[flightID]*flight
	crew    crew
}

// flightID names what is wanted. Two that are equal want the same.
type flightID struct{ arn, keyID, ciphertext string }

type flight struct {
	cancel  context.CancelFunc
	waiting int
	landed  chan struct{} // closed when out and fail are there
	out     opened
	fail    *failure
}

// join waits for the flight of id, which it starts with work unless it is under
// way. The work's context ends with parent, or when the last caller has left.
func (fs *flights) join(caller, parent context.Context, id flightID, work func(asked context.Context) (opened, *failure)) (out opened, fail *failure, led bool) {
	fs.mu.Lock()
	f := fs.current[id]
	if led = f == nil; led {
		var ctx context.Context
		f = &flight{landed: make(chan struct{})}
		ctx, f.cancel = context.WithCancel(parent)
		if fs.current == nil {
			fs.current = map[flightID]*flight{}
		}
		fs.current[id] = f
		fs.crew.run(func() {
			defer f.cancel()
			f.out, f.fail = work(ctx)
			fs.forget(id, f)
			close(f.landed)
		})
	}
	f.waiting++
	fs.mu.Unlock()

	select {
	case <-f.landed:
		return f.out, f.fail, led
	case <-caller.Done():
	}
	fs.mu.Lock()
	f.waiting--
	if f.waiting == 0 {
		// Nobody joins what is being given up.
		if fs.current[id] == f {
			delete(fs.current, id)
		}
		f.cancel()
	}
	fs.mu.Unlock()
	return opened{}, classOf(caller, "", caller.Err()), led
}

// forget takes a flight that has landed off the list.
func (fs *flights) forget(id flightID, f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.current[id] == f {
		delete(fs.current, id)
	}
}

// crew keeps goroutines for the next pieces of work: their stacks have grown
// already, which of a new one takes a good part of a call's CPU time.
type crew struct {
	mu        sync.Mutex
	idle      []chan func()
	dismissed bool
}

// run does the work in a goroutine that is idle, or in a new one.
func (c *crew) run(work func()) {
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		hand := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		hand <- work
		return
	}
	c.mu.Unlock()
	go c.serve(work)
}

func (c *crew) serve(work func()) {
	hand := make(chan func(), 1)
	for work != nil {
		work()
		c.mu.Lock()
		if len(c.idle) >= maxInFlight || c.dismissed {
			c.mu.Unlock()
			return
		}
		c.idle = append(c.idle, hand)
		c.mu.Unlock()
		work = <-hand
	}
}

// dismiss ends the goroutines that are idle, and the others after their work.
func (c *crew) dismiss() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dismissed = true
	for _, hand := range c.idle {
		hand <- nil
	}
	c.idle = nil
}
