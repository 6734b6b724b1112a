package kmsplugin

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxUnwritten is what of the log may wait for its reader, in bytes: about a
	// thousand lines.
	maxUnwritten = 256 << 10
	// lastWords is how long the end of the process waits for the log's reader.
	lastWords = 300 * time.Millisecond
)

// logWriter writes the log without ever keeping anybody waiting: what its reader
// does not take in time is dropped and counted, and a line says so when the
// reader is back.
type logWriter struct {
	to      io.Writer
	dropped prometheus.Counter

	mu      sync.Mutex
	pending []byte // whole lines
	lost    int    // lines dropped since the last one that said so
	closed  bool
	wake    chan struct{} // has one place

	spare []byte        // what pending was, to be used again: for run alone
	done  chan struct{} // closed when the last line is written
}

func newLogWriter(to io.Writer, dropped prometheus.Counter) *logWriter {
	w := &logWriter{to: to, dropped: dropped, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w
}

// Write takes one line, or drops it. It never fails and never waits.
func (w *logWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	if w.closed || len(w.pending)+len(line) > maxUnwritten {
		w.lost++
		w.mu.Unlock()
		w.dropped.Inc()
		return len(line), nil
	}
	w.pending = append(w.pending, line...)
	w.mu.Unlock()
	w.rouse()
	return len(line), nil
}

func (w *logWriter) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run writes what is pending, all of it at once.
func (w *logWriter) run() {
	defer close(w.done)
	for range w.wake {
		for more := true; more; {
			w.mu.Lock()
			lines, lost, closed := w.pending, w.lost, w.closed
			w.pending, w.lost = w.spare[:0], 0
			w.mu.Unlock()
			w.write(lines, lost)
			w.spare = lines
			if more = len(lines) > 0 || lost > 0; !more && closed {
				return
			}
		}
	}
}

// write hands lines to the reader, and says how many were lost behind them.
func (w *logWriter) write(lines []byte, lost int) {
	text := lines
	if lost > 0 {
		text = fmt.Appendf(text, `{"time":%q,"level":"WARN","msg":"the log's reader did not keep up: lines were dropped","dropped":%d}`+"\n",
			time.Now().Format(time.RFC3339Nano), lost)
	}
	if len(text) == 0 {
		return
	}
	if _, err := w.to.Write(text); err != nil {
		// There is nobody to tell.
		w.dropped.Add(float64(bytes.Count(lines, []byte("\n"))))
	}
}

// close writes what is left, as far as the reader takes it at once.
func (w *logWriter) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.rouse()
	select {
	case <-w.done:
	case <-time.After(lastWords):
	}
}
