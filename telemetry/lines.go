package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
)

// logQueue is how many lines may wait for a slow writer.
const logQueue = 4096

// lineQueue stands between the log handler and a writer that can block: lines wait in a bounded queue and are
// dropped, and counted, when it is full. A session must not stop because standard error is a pipe that isn't
// read.
type lineQueue struct {
	w       io.Writer
	dropped *atomic.Int64

	mu     sync.RWMutex // guards closed against a send; never held in I/O
	closed bool
	lines  chan []byte
	done   chan struct{} // closed by run after the last line was written
}

// newLineQueue starts the goroutine that writes; shutdown ends it.
func newLineQueue(w io.Writer, dropped *atomic.Int64) *lineQueue {
	q := &lineQueue{w: w, dropped: dropped, lines: make(chan []byte, logQueue), done: make(chan struct{})}
	go q.run()
	return q
}

// run writes lines until the queue is closed and empty.
func (q *lineQueue) run() {
	defer close(q.done)
	for line := range q.lines {
		_, _ = q.w.Write(line) // the sink counts failures; they can't be logged
	}
}

// Write queues one line; slog calls it once for each and reuses the slice. After shutdown it writes directly,
// so that the last lines aren't lost.
func (q *lineQueue) Write(line []byte) (int, error) {
	if !q.enqueue(line) {
		return q.writeClosed(line)
	}
	return len(line), nil
}

// enqueue queues a copy of the line or drops it. It returns false if the queue is closed.
func (q *lineQueue) enqueue(line []byte) bool {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return false
	}
	select {
	case q.lines <- bytes.Clone(line):
	default:
		q.dropped.Add(1)
	}
	return true
}

// writeClosed writes a line after shutdown, if run has ended. If run hasn't ended, the writer is stuck, and
// the line is dropped.
func (q *lineQueue) writeClosed(line []byte) (int, error) {
	select {
	case <-q.done:
		return q.w.Write(line)
	default:
		q.dropped.Add(1)
		return len(line), nil
	}
}

// shutdown writes the queued lines, until ctx ends. If the writer is stuck, the goroutine remains: a write to
// a file can't be interrupted.
func (q *lineQueue) shutdown(ctx context.Context) error {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.lines)
	}
	q.mu.Unlock()
	select {
	case <-q.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sink writes the log's lines to the current file, or to w if there is none, and counts the lines that can't
// be written, so that operators notice a full disk. Write is called by one goroutine at a time.
type sink struct {
	w    io.Writer
	file atomic.Pointer[os.File] // nil: w
	lost *atomic.Int64           // lines whose write failed
	torn bool                    // only a part of the last line was written; the next one begins with a line end
}

// Write writes one line. A line that fails isn't tried again, the next one is.
func (s *sink) Write(line []byte) (int, error) {
	if s.torn {
		if _, err := s.write([]byte("\n")); err != nil {
			s.lost.Add(1)
			return 0, err
		}
		s.torn = false
	}
	n, err := s.write(line)
	if err == nil && n < len(line) {
		err = io.ErrShortWrite
	}
	if err != nil {
		s.lost.Add(1)
		s.torn = n > 0
	}
	return n, err
}

// write writes to the current destination. If SwitchLog has just closed the file, it writes to the next one.
func (s *sink) write(text []byte) (int, error) {
	for {
		f := s.file.Load()
		if f == nil {
			return s.w.Write(text)
		}
		n, err := f.Write(text)
		if errors.Is(err, fs.ErrClosed) && s.file.Load() != f {
			continue
		}
		return n, err
	}
}
