package files

import (
	"errors"
	"slices"
	"sync"
)

// Work is what a command writes in two steps: aside, and then, at once, in its
// place.
type Work struct {
	discard func()

	// mutex keeps an interrupt from coming into the middle of a publication.
	mutex     sync.Mutex
	over      bool
	published bool
}

// going holds the works that are going on, for an interrupt.
var going struct {
	sync.Mutex
	works []*Work
	held  int
}

// Begin begins a work. discard removes what it has written so far; it is called
// once, unless the work is published.
func Begin(discard func()) *Work {
	w := &Work{discard: discard}
	going.Lock()
	defer going.Unlock()
	going.works = append(going.works, w)
	return w
}

// Publish puts the work in its place. A work that was abandoned is not published.
func (w *Work) Publish(put func() error) error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.over {
		return errors.New("interrupted")
	}
	if err := put(); err != nil {
		return err
	}
	w.published = true
	return nil
}

// End ends the work, and discards what was not published.
func (w *Work) End() {
	going.Lock()
	going.works = slices.DeleteFunc(going.works, func(o *Work) bool { return o == w })
	going.Unlock()
	w.abandon()
}

// abandon discards the work, unless it is published.
func (w *Work) abandon() {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if !w.over && !w.published {
		w.discard()
	}
	w.over = true
}

// Hold keeps the works from being abandoned until release is called: a command that ends by
// itself when its context does, and has something to save, holds.
func Hold() (release func()) {
	going.Lock()
	defer going.Unlock()
	going.held++
	return func() {
		going.Lock()
		defer going.Unlock()
		going.held--
	}
}

// Abandon discards the works that are going on. If one is in its place already, or they are held,
// nothing is done and the answer is false: the command is about to end. stop is
// called before anything is discarded; it ends what would write on.
func Abandon(stop func()) bool {
	going.Lock()
	defer going.Unlock()
	if going.held > 0 {
		return false
	}
	for _, w := range going.works {
		w.mutex.Lock()
		published := w.published
		w.mutex.Unlock()
		if published {
			return false
		}
	}
	stop()
	for _, w := range slices.Backward(going.works) {
		w.abandon()
	}
	return true
}
