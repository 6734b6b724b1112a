package kmsplugin

import (
	"context"
	"sync"
)

// flights lets callers that want the same at the same time share one piece of
// work. The first of them does it. It goes on as long as any of them waits for
// it, and ends when the last one has left.
type flights struct {
	mu      sync.Mutex
	current map[flightID]*flight
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

// join waits for the flight of id, or does the work itself if there is none. The
// work's context ends with parent, or when the last caller has left.
func (fs *flights) join(caller, parent context.Context, id flightID, work func(requested context.Context) (opened, *failure)) (out opened, fail *failure, led bool) {
	fs.mu.Lock()
	f := fs.current[id]
	if f == nil {
		return fs.lead(caller, parent, id, work)
	}
	f.waiting++
	fs.mu.Unlock()
	select {
	case <-f.landed:
		return f.out, f.fail, false
	case <-caller.Done():
		fs.leave(id, f)
		return opened{}, classOf(caller, "", caller.Err()), false
	}
}

// lead is join without a flight, under the lock. A caller that leaves is told so
// only when the work is over: over gRPC, it has long gone by then.
func (fs *flights) lead(caller, parent context.Context, id flightID, work func(context.Context) (opened, *failure)) (opened, *failure, bool) {
	requested, cancel := context.WithCancel(parent)
	defer cancel()
	f := &flight{cancel: cancel, waiting: 1, landed: make(chan struct{})}
	if fs.current == nil {
		fs.current = map[flightID]*flight{}
	}
	fs.current[id] = f
	fs.mu.Unlock()
	stays := context.AfterFunc(caller, func() { fs.leave(id, f) })
	f.out, f.fail = work(requested)
	fs.forget(id, f)
	close(f.landed)
	if !stays() {
		return opened{}, classOf(caller, "", caller.Err()), true
	}
	return f.out, f.fail, true
}

func (fs *flights) leave(id flightID, f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.waiting--; f.waiting > 0 {
		return
	}
	if fs.current[id] == f { // nobody joins what is being given up
		delete(fs.current, id)
	}
	f.cancel()
}

// forget takes a flight that has landed off the list.
func (fs *flights) forget(id flightID, f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.current[id] == f {
		delete(fs.current, id)
	}
}
