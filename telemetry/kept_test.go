package telemetry

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"imapproxy/proxy/wire"
)

// What the admin page shows of the past is kept whatever the log's level is, each kind within its bound, and without secrets.
func TestWhatIsKeptOfTheLog(t *testing.T) {
	var out strings.Builder
	tel, err := Start(t.Context(), Options{LogWriter: &out, LogLevel: slog.LevelError})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(t.Context()) })
	for i := range KeptEnded + 5 {
		tel.SessionLogger(fmt.Sprintf("s%d", i), trace.SpanContext{}).With("user", "alice").Info("session ended", "reason", "logout", "duration", time.Minute)
	}
	tel.SessionLogger("s1", trace.SpanContext{}).Warn("backend lost", "error", "reset") // a session's, no event
	tel.Log.Info("backend added", "backend", "imap1", "password", "hunter2", "error", strings.Repeat("x", 10000))
	tel.Log.Debug("backend looked at")
	tel.Log.Warn("admin: wrong token", "client", "192.0.2.1:1")
	for i := range KeptFailures + 5 {
		tel.Log.Warn("login failed", "client", "192.0.2.1", "reason", "bad_password", "user", fmt.Sprint(i, strings.Repeat("u", 200)))
	}
	events := tel.Events()
	if len(events) != 1 || events[0].Message != "backend added" || events[0].Level != "info" || events[0].Get("password") != "[redacted]" || len(events[0].Get("error")) > maxKeptText+3 {
		t.Errorf("events: %.300v", events)
	}
	ended := tel.Ended()
	if len(ended) != KeptEnded || ended[0].Get("session") != fmt.Sprintf("s%d", KeptEnded+4) || ended[0].Get("user") != "alice" || ended[0].Get("duration") != "1m0s" {
		t.Errorf("%d ended sessions, the last %v", len(ended), ended[0])
	}
	failed := tel.FailedLogins()
	if len(failed) != KeptFailures || !strings.HasPrefix(failed[0].User, fmt.Sprint(KeptFailures+4)) || len(failed[0].User) > maxKeptName+3 || failed[0].Client.String() != "192.0.2.1" {
		t.Errorf("%d failures, the last %v", len(failed), failed[0])
	}
	if out.Len() > 0 {
		t.Errorf("below the level of the log: %.200s", out.String())
	}
}

// A command's times add up, and a slow one is kept with its parts.
func TestCommandsAreCountedByTheirParts(t *testing.T) {
	tel, err := Start(t.Context(), Options{LogWriter: &strings.Builder{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(t.Context()) })
	begin := time.Unix(1000, 0)
	command := func(verb wire.Verb, took, resume, wait time.Duration) {
		tel.Command(Command{Session: "s1", User: "alice", Verb: verb, Status: "OK", Start: begin, Sent: begin, End: begin.Add(took), ResumeWait: resume, BackendWait: wait})
	}
	before := tel.Tally()
	for range 98 {
		command(wire.Fetch, 10*time.Millisecond, 0, 8*time.Millisecond)
	}
	command(wire.Fetch, 7*time.Second, 6*time.Second, time.Second)
	command(wire.Fetch, 3*time.Second, 0, 0)
	command(wire.Idle, time.Hour, 0, 0)
	now := tel.Tally()
	if n := now.Commands(before); n != 100 {
		t.Errorf("%d commands", n)
	}
	for _, c := range []struct {
		of          Part
		q           float64
		least, most time.Duration
	}{
		{PartAll, 0.5, 10 * time.Millisecond, 13 * time.Millisecond}, {PartBackend, 0.5, 8 * time.Millisecond, 10 * time.Millisecond}, {PartResume, 0.5, 0, 0},
		{PartAll, 0.99, 7 * time.Second, 9 * time.Second}, {PartResume, 0.99, 6 * time.Second, 8 * time.Second}, {PartClient, 0.99, 3 * time.Second, 4 * time.Second},
	} {
		if got := now.Quantile(before, c.of, c.q); got < c.least || got > c.most {
			t.Errorf("part %d at %v: %v", c.of, c.q, got)
		}
	}
	slow := tel.SlowCommands()
	if len(slow) != 2 || slow[0].ClientWait != 3*time.Second || slow[1].ResumeWait != 6*time.Second || slow[1].BackendWait != time.Second || slow[1].ClientWait != 0 {
		t.Errorf("%+v", slow)
	}
	if n := testing.AllocsPerRun(100, func() { command(wire.Fetch, time.Millisecond, 0, 0) }); n > 0 {
		t.Errorf("%v allocations a command", n)
	}
}

// Each time lies in the cell whose bound is above it.
func TestTallyCells(t *testing.T) {
	for d := time.Duration(0); d < 30*time.Second; d = d*11/10 + 7*time.Microsecond {
		cell := tallyCell(d)
		if d >= tallyBound(cell) || cell > 0 && d < tallyBound(cell-1) {
			t.Fatalf("%v is in cell %d, below %v", d, cell, tallyBound(cell))
		}
	}
}
