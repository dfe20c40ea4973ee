package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
)

// startLog makes the logger, the writer of its lines, and, if that writer can block, the queue in front of
// it. A log file has the queue, too: a disk can hang.
func (t *Telemetry) startLog(o Options) error {
	if o.LogFormat != "" && o.LogFormat != "text" && o.LogFormat != "json" {
		return fmt.Errorf("telemetry: log format %q: write text or json", o.LogFormat)
	}
	file, err := OpenLogFile(o.LogFile)
	if err != nil {
		return fmt.Errorf("telemetry: the log's file: %w", err)
	}
	t.sink = &sink{w: o.LogWriter, lost: &t.own.logLinesFailed}
	if t.sink.w == nil {
		t.sink.w = os.Stderr
	}
	t.SwitchLog(file)
	var w io.Writer = t.sink
	if file != nil || canBlock(t.sink.w) {
		t.logLines = newLineQueue(t.sink, &t.own.logLinesDropped)
		w = t.logLines
	}
	options := &slog.HandlerOptions{Level: o.LogLevel, ReplaceAttr: redactAttr}
	if o.LogFormat == "json" {
		t.Log = slog.New(slog.NewJSONHandler(w, options))
	} else {
		t.Log = slog.New(slog.NewTextHandler(w, options))
	}
	return nil
}

// SessionLogger returns a logger whose lines carry the session's id and, if it isn't "", the trace's.
func (t *Telemetry) SessionLogger(session, traceID string) *slog.Logger {
	if traceID == "" {
		return t.Log.With("session", session)
	}
	return t.Log.With("session", session, "trace_id", traceID)
}

// Handle implements otel.ErrorHandler: errors that OpenTelemetry's libraries can't
// report otherwise go to the log instead of standard error. The handler
// is global to the process, so only main may install it: otel.SetErrorHandler(t).
func (t *Telemetry) Handle(err error) {
	if err == nil || errors.Is(err, context.Canceled) { // Shutdown ended a collection
		return
	}
	t.Log.Warn("telemetry reports a problem", "error", shorten(err.Error(), maxErrorText))
}

// canBlock says whether a write can wait for a reader: a write to a pipe, socket or terminal can, one to a
// file on disk or memory can't.
func canBlock(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err != nil || !info.Mode().IsRegular()
}

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
