package kmsplugin

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// scrapeGap is the least time between two looks at all metrics, each of which
// takes a millisecond or more of the one processor that calls need too. Scrapes
// that come in between share the next one.
const scrapeGap = 200 * time.Millisecond

// exposition answers scrapes.
type exposition struct {
	from prometheus.Gatherer
	fail func(error)

	mu   sync.Mutex
	next *reading // that scrapers wait for, if any do
	last time.Time
}

type reading struct {
	made chan struct{} // closed when text and err are there
	text []byte
	err  error
}

var textFormat = expfmt.NewFormat(expfmt.TypeTextPlain)

func (e *exposition) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, err := e.join(r.Context())
	if err != nil {
		return // the scraper has gone
	}
	if s.err != nil {
		http.Error(w, "the metrics can't be read: see the log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", string(textFormat))
	_, _ = w.Write(s.text)
}

// join waits for the next look.
func (e *exposition) join(ctx context.Context) (*reading, error) {
	e.mu.Lock()
	if e.next == nil {
		e.next = &reading{made: make(chan struct{})}
		time.AfterFunc(time.Until(e.last.Add(scrapeGap)), e.look)
	}
	s := e.next
	e.mu.Unlock()
	select {
	case <-s.made:
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (e *exposition) look() {
	e.mu.Lock()
	s := e.next
	e.next, e.last = nil, time.Now()
	e.mu.Unlock()
	s.text, s.err = e.text()
	if s.err != nil {
		e.fail(s.err)
	}
	close(s.made)
}

func (e *exposition) text() ([]byte, error) {
	families, err := e.from.Gather()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	encoder := expfmt.NewEncoder(&b, textFormat)
	for _, f := range families {
		if err := encoder.Encode(f); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}
