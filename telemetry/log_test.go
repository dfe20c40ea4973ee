package telemetry

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startLogging starts a Telemetry that only logs, to w.
func startLogging(t *testing.T, w io.Writer, format string) *Telemetry {
	t.Helper()
	tel, err := Start(t.Context(), Options{LogWriter: w, LogFormat: format})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	return tel
}

// keptTrace is the first span of a trace that is kept.
var keptTrace = trace.NewSpanContext(trace.SpanContextConfig{
	TraceID:    trace.TraceID{0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36},
	SpanID:     trace.SpanID{0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7},
	TraceFlags: trace.FlagsSampled,
})

func TestASessionsLogCarriesItsIDs(t *testing.T) {
	var out bytes.Buffer
	tel := startLogging(t, &out, "json")
	tel.SessionLogger("s42", keptTrace).Warn("login failed", "user", "alice")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v in %s", err, out.Bytes())
	}
	for key, want := range map[string]any{"level": "WARN", "msg": "login failed", "user": "alice",
		"session": "s42", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"} {
		if line[key] != want {
			t.Errorf("%s is %v, want %v", key, line[key], want)
		}
	}
	out.Reset()
	tel.SessionLogger("s43", keptTrace.WithTraceFlags(0)).Info("x") // that trace isn't kept
	if strings.Contains(out.String(), "trace_id") || !strings.Contains(out.String(), "s43") {
		t.Errorf("without a trace: %s", out.String())
	}
}

func TestTheLogLevelCanChangeWhileRunning(t *testing.T) {
	var out bytes.Buffer
	var level slog.LevelVar
	tel, err := Start(t.Context(), Options{LogWriter: &out, LogLevel: &level})
	if err != nil {
		t.Fatal(err)
	}
	tel.Log.Debug("first")
	level.Set(slog.LevelDebug)
	tel.Log.Debug("second")
	if got := out.String(); strings.Contains(got, "first") || !strings.Contains(got, "second") {
		t.Errorf("log: %s", got)
	}
}

func TestWhatLibrariesReportGoesToTheLog(t *testing.T) {
	var out bytes.Buffer
	tel := startLogging(t, &out, "text")
	var handler otel.ErrorHandler = tel
	handler.Handle(nil)
	handler.Handle(context.Canceled)
	handler.Handle(errors.New("duplicate series"))
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "duplicate series") {
		t.Errorf("log: %s", got)
	}
}

func TestAnUnknownLogFormatIsRefused(t *testing.T) {
	if _, err := Start(t.Context(), Options{LogFormat: "xml"}); err == nil || !strings.Contains(err.Error(), "text or json") {
		t.Errorf("error %v, want one that says what to write", err)
	}
}

// A pipe without a reader holds 64 KB. Logging ten times the queue into it must return, and count
// what was dropped; what was kept comes out whole and in order once there is a reader.
func TestALogThatNobodyReadsStopsNobody(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	tel := startLogging(t, w, "json")
	const lines = 10 * logQueue
	for i := range lines {
		tel.Log.Info("line", "n", i, "padding", strings.Repeat("x", 100))
	}
	dropped := tel.own.logLinesDropped.Load()
	if dropped == 0 {
		t.Fatal("nothing was dropped, so the pipe was never full")
	}

	type result struct{ lines, last int }
	read := make(chan result)
	go func() {
		got := result{last: -1}
		scan := bufio.NewScanner(r)
		for scan.Scan() {
			var line struct{ N int }
			if err := json.Unmarshal(scan.Bytes(), &line); err != nil || line.N <= got.last {
				t.Errorf("line %q after %d: %v", scan.Text(), got.last, err)
			}
			got.lines++
			got.last = line.N
		}
		read <- got
	}()
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	tel.Log.Info("after", "n", lines)
	w.Close()
	if got := <-read; int64(got.lines) != lines-dropped+1 || got.last != lines {
		t.Errorf("%d lines of %d came out, the last %d; %d were dropped", got.lines, lines+1, got.last, dropped)
	}
}

func TestShutdownDoesNotWaitForALogThatNobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var dropped atomic.Int64
	q := newLineQueue(w, &dropped)
	for range 2000 {
		_, _ = q.Write(bytes.Repeat([]byte("x"), 100))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := q.shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown returned %v, want that the time was up", err)
	}
	if _, err := q.Write([]byte("late")); err != nil || dropped.Load() == 0 {
		t.Errorf("a late line: %v, dropped %d", err, dropped.Load())
	}
	r.Close() // breaks the pipe, so that the writer ends
	<-q.done
	w.Close()
}
