package telemetry

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/proxy/wire"
)

// A session's last commands are there with their parts, the latest first, until those of other sessions have taken their places.
func TestASessionsLastCommands(t *testing.T) {
	tel, spans, _ := tracing(t, 0)
	begin := time.Unix(1000, 0)
	command := func(session string, verb wire.Verb, took time.Duration) {
		tel.Command(Command{Session: session, Verb: verb, Status: "OK", Start: begin, Sent: begin, End: begin.Add(took),
			ResumeWait: took / 10, Forward: took / 5, BackendWait: took / 2})
	}
	if got := tel.SessionCommands("s1"); len(got) != 0 {
		t.Errorf("before any command: %+v", got)
	}
	command("s1", wire.Select, 2*time.Second) // slow: its trace is kept
	command("s2", wire.Noop, time.Millisecond)
	command("s1", wire.Fetch, 10*time.Millisecond)
	command("s1", wire.Idle, 2*time.Hour)
	got := tel.SessionCommands("s1")
	if len(got) != 3 || got[0].Verb != "IDLE" || got[1].Verb != "FETCH" || got[2].Verb != "SELECT" {
		t.Fatalf("%+v", got)
	}
	if f := got[1]; f.Status != "OK" || !f.Time.Equal(begin.Add(10*time.Millisecond)) || f.Took != 10*time.Millisecond || f.ResumeWait != time.Millisecond ||
		f.Forward != 2*time.Millisecond || f.BackendWait != 5*time.Millisecond || f.ClientWait != 2*time.Millisecond || f.TraceID != "" {
		t.Errorf("FETCH: %+v", f)
	}
	if all := spans.GetSpans(); names(all) != "relay imap SELECT" || all[1].SpanContext.TraceID().String() != got[2].TraceID || tel.SlowCommands()[0].TraceID != got[2].TraceID {
		t.Errorf("SELECT's trace is %q: %+v", got[2].TraceID, all)
	}
	if idle := got[0].Took; idle < time.Hour || idle > 2*time.Hour {
		t.Errorf("IDLE took %v", idle)
	}
	for range LastCommands {
		command("s1", wire.Noop, time.Millisecond)
	}
	if got = tel.SessionCommands("s1"); len(got) != LastCommands || got[LastCommands-1].Verb != "NOOP" {
		t.Errorf("%d commands: %+v", len(got), got)
	}
	for range KeptCommands - 1 {
		command("s2", wire.Noop, time.Millisecond)
	}
	if got = tel.SessionCommands("s1"); len(got) != 1 {
		t.Errorf("%d of the commands are left, want the last one", len(got))
	}
	command("s2", wire.Noop, time.Millisecond)
	if got = tel.SessionCommands("s1"); len(got) != 0 {
		t.Errorf("%+v is left", got)
	}
	if n := testing.AllocsPerRun(100, func() { command("s1", wire.Fetch, time.Millisecond) }); n > 0 {
		t.Errorf("%v allocations a command", n)
	}
}

// Commands are read while others replace them, and none is mixed with another.
func TestLastCommandsAreReadWhileOthersAreWritten(t *testing.T) {
	tel, err := Start(t.Context(), Options{LogWriter: &strings.Builder{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(t.Context()) })
	begin := time.Unix(1000, 0)
	var writing sync.WaitGroup
	for w := range 3 {
		writing.Go(func() {
			for i := range 3 * KeptCommands / 2 {
				took := time.Duration(w+1) * time.Millisecond
				tel.Command(Command{Session: fmt.Sprint("s", w), Verb: wire.Noop, Status: "OK", Start: begin, Sent: begin, End: begin.Add(took), BackendWait: took / 2, ResumeWait: time.Duration(i%2) * took / 4})
			}
		})
	}
	done := make(chan struct{})
	go func() { writing.Wait(); close(done) }()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		for _, c := range tel.SessionCommands("s1") {
			if c.Took != 2*time.Millisecond || c.BackendWait != time.Millisecond || !c.Time.Equal(begin.Add(c.Took)) {
				t.Fatalf("%+v", c)
			}
		}
	}
}

// Changes of attachments are kept by session, the latest first, and bounded.
func TestASessionsAttachments(t *testing.T) {
	tel, _, now := tracing(t, 0)
	tel.AttachmentChanged("s1", "none", "attached")
	tel.AttachmentChanged("s2", "none", "attached")
	now.advance(time.Minute)
	tel.AttachmentChanged("s1", "attached", "parking")
	got := tel.SessionAttachments("s1")
	if len(got) != 2 || got[0].From != "attached" || got[0].To != "parking" || got[0].Time.Sub(got[1].Time) != time.Minute || got[1].To != "attached" {
		t.Errorf("%+v", got)
	}
	for range KeptAttachments - 1 {
		tel.AttachmentChanged("s2", "parked", "resuming")
	}
	if got = tel.SessionAttachments("s1"); len(got) != 1 || got[0].To != "parking" {
		t.Errorf("%+v", got)
	}
	if got = tel.SessionAttachments("s2"); len(got) != LastAttachments {
		t.Errorf("%d changes", len(got))
	}
	if n := testing.AllocsPerRun(100, func() { tel.AttachmentChanged("s1", "parked", "resuming") }); n > 0 {
		t.Errorf("%v allocations a change", n)
	}
}
