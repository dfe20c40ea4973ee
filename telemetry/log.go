package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
)

// startLog makes the logger, the writer of its lines, and, if that writer can block, the queue in front of
// it. A log file has the queue, too: a disk can hang.
func (t *Telemetry) startLog(stopCtx context.Context, o Options, url string, res *resource.Resource) error {
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
	options := &slog.HandlerOptions{Level: o.LogLevel, ReplaceAttr: lineAttr}
	var lines slog.Handler = slog.NewTextHandler(w, options)
	if o.LogFormat == "json" {
		lines = slog.NewJSONHandler(w, options)
	}
	if url != "" {
		records, err := t.startRecords(stopCtx, o, url, res)
		if err != nil {
			return err
		}
		lines = slog.NewMultiHandler(lines, records)
	}
	if !t.names.full() {
		lines = &discreet{Handler: lines, personal: &t.names}
	}
	t.Log = slog.New(&keeper{Handler: lines, to: &t.kept})
	return nil
}

// SessionLogger returns a logger whose lines carry the session's id and, if its login's trace is kept, the trace's.
func (t *Telemetry) SessionLogger(session string, login trace.SpanContext) *slog.Logger {
	if !login.IsSampled() {
		return t.Log.With("session", session)
	}
	return t.Log.With("session", session, "trace_id", traceRef(login))
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
