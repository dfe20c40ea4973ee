package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"imapproxy/proxy/wire"
)

// clock is a time that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

// tracing starts a Telemetry that keeps this share of the traces, and calls slow
// what takes a second.
func tracing(t *testing.T, ratio float64) (*Telemetry, *tracetest.InMemoryExporter, *clock) {
	t.Helper()
	spans, now := tracetest.NewInMemoryExporter(), newClock()
	tel, err := Start(t.Context(), Options{LogWriter: t.Output(), SpanExporter: spans,
		SampleRatio: ratio, SlowCommand: time.Second, Now: now.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	return tel, spans, now
}

// attr returns an attribute of a span as text, "" where it has none.
func attr(s tracetest.SpanStub, key string) string {
	for _, kv := range s.Attributes {
		if string(kv.Key) == key {
			return kv.Value.String()
		}
	}
	return ""
}

func TestALoginIsOneTraceWithItsPhases(t *testing.T) {
	tel, spans, now := tracing(t, 1)
	start := now.Now()
	login := tel.BeginLogin("s1", netip.AddrPort{}, start)
	if id := login.Kept(); id.IsValid() {
		t.Errorf("trace %v before it is known whether the trace is kept", id)
	}

	end := login.Phase(PhaseExchange)
	now.advance(20 * time.Millisecond)
	end(nil, attribute.String("tls.protocol.version", "1.3"))
	end = login.Phase(PhaseAuth)
	now.advance(5 * time.Millisecond)
	end(nil)
	login.Add(PhaseDial, now.Now(), now.advance(time.Millisecond), errors.New("connection refused"))
	login.Add(PhaseDial, now.Now(), now.advance(time.Millisecond), nil)
	login.Phase("never ended")
	if n := len(spans.GetSpans()); n != 0 {
		t.Errorf("%d spans before the end", n)
	}
	sc := login.End("alice@example.org", "b1", "ok", nil)
	id := login.Kept().TraceID().String()
	if len(id) != 32 || strings.Trim(id, "0") == "" {
		t.Fatalf("trace id %q, want 32 hexadecimal digits", id)
	}

	got := spans.GetSpans()
	var names []string
	for _, s := range got {
		names = append(names, s.Name)
		if s.SpanContext.TraceID().String() != id {
			t.Errorf("span %s is in trace %s, the logs said %s", s.Name, s.SpanContext.TraceID(), id)
		}
		if s.Name != "login" && s.Parent.SpanID() != sc.SpanID() {
			t.Errorf("span %s isn't the login's child", s.Name)
		}
	}
	if want := []string{"exchange", "auth", "dial", "dial", "login"}; strings.Join(names, " ") != strings.Join(want, " ") {
		t.Fatalf("spans %v, want %v", names, want)
	}
	root := got[4]
	if root.Parent.IsValid() || root.SpanContext.SpanID() != sc.SpanID() || !sc.IsSampled() {
		t.Errorf("root %v with parent %v, End returned %v", root.SpanContext, root.Parent, sc)
	}
	if !root.StartTime.Equal(start) || root.EndTime.Sub(start) != 27*time.Millisecond {
		t.Errorf("root from %v to %v", root.StartTime, root.EndTime)
	}
	if d := got[0].EndTime.Sub(got[0].StartTime); d != 20*time.Millisecond || attr(got[0], "tls.protocol.version") != "1.3" {
		t.Errorf("exchange took %v, attributes %v", d, got[0].Attributes)
	}
	if got[2].Status.Code != codes.Error || got[2].Status.Description != "connection refused" || got[3].Status.Code != codes.Unset {
		t.Errorf("status of the dials: %+v, %+v", got[2].Status, got[3].Status)
	}
	for key, want := range map[string]string{"session.id": "s1", "user.name": "alice@example.org",
		"imapproxy.backend": "b1", "imapproxy.outcome": "ok"} {
		if attr(root, key) != want {
			t.Errorf("%s is %q, want %q", key, attr(root, key), want)
		}
	}
	if again := login.End("alice", "b1", "ok", nil); again.TraceID() != sc.TraceID() || len(spans.GetSpans()) != 5 {
		t.Errorf("a second End returned %v and made %d spans", again, len(spans.GetSpans())-5)
	}
}

func TestFailedAndSlowLoginsAreAlwaysKept(t *testing.T) {
	for _, c := range []struct {
		name  string
		ratio float64
		took  time.Duration
		err   error
		kept  bool
	}{
		{"quick and well, nothing sampled", 0, 10 * time.Millisecond, nil, false},
		{"quick and well, all sampled", 1, 10 * time.Millisecond, nil, true},
		{"failed", 0, 10 * time.Millisecond, errors.New("wrong password"), true},
		{"just not slow", 0, time.Second - 1, nil, false},
		{"slow", 0, time.Second, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			tel, spans, now := tracing(t, c.ratio)
			login := tel.BeginLogin("s1", netip.AddrPort{}, now.Now())
			now.advance(c.took)
			sc := login.End("alice", "b1", "x", c.err)
			if kept := len(spans.GetSpans()) == 1; kept != c.kept || sc.IsSampled() != c.kept {
				t.Errorf("kept %v, flag %v, want %v", kept, sc.IsSampled(), c.kept)
			}
			// Nothing may link to a trace that isn't there, and no log line may name it.
			if kept := login.Kept(); sc.IsValid() != c.kept || kept.IsSampled() != c.kept || c.kept && !sc.Equal(kept) {
				t.Errorf("End returned %v, Kept %v, kept %v", sc, kept, c.kept)
			}
		})
	}
}

func TestFailedAndSlowCommandsAreAlwaysKept(t *testing.T) {
	for _, c := range []struct {
		verb   wire.Verb
		status string
		ratio  float64
		took   time.Duration
		kept   bool
	}{
		{wire.Noop, "OK", 0, time.Millisecond, false},
		{wire.Noop, "OK", 1, time.Millisecond, true},
		{wire.Noop, "NO", 0, time.Millisecond, true},
		{wire.Noop, "BAD", 0, time.Millisecond, true},
		{wire.Noop, "", 0, time.Millisecond, true},
		{wire.Noop, "OK", 0, time.Second - 1, false},
		{wire.Noop, "OK", 0, time.Second, true},
		{wire.Idle, "OK", 0, 29 * time.Minute, false}, // it's meant to last
		{wire.Idle, "", 0, 29 * time.Minute, true},
		{wire.Idle, StatusClosed, 0, 29 * time.Minute, false}, // phones do that
	} {
		t.Run(fmt.Sprintf("%s %q %v %v", c.verb, c.status, c.ratio, c.took), func(t *testing.T) {
			tel, spans, now := tracing(t, c.ratio)
			tel.Command(Command{Verb: c.verb, Status: c.status, Start: now.Now(), End: now.Now().Add(c.took)})
			if kept := len(spans.GetSpans()) == 1; kept != c.kept {
				t.Errorf("kept %v, want %v", kept, c.kept)
			}
		})
	}
}

func TestACommandIsATraceOfItsOwnLinkedToTheLogin(t *testing.T) {
	tel, spans, now := tracing(t, 1)
	login := tel.BeginLogin("s1", netip.AddrPort{}, now.Now()).End("alice", "b1", "ok", nil)
	spans.Reset()
	c := fetch(now.Now())
	c.Login = login
	tel.Command(c)
	c.Status, c.Verb, c.Sent = "NO", wire.Other, time.Time{}
	tel.Command(c)

	got := spans.GetSpans()
	if names(got) != "relay imap UID FETCH imap OTHER" {
		t.Fatalf("spans %s", names(got))
	}
	got = got[1:]
	s := got[0]
	if s.Name != "imap UID FETCH" || s.Parent.IsValid() || s.SpanContext.TraceID() == login.TraceID() {
		t.Errorf("%s in trace %v under %v, want a root of its own", s.Name, s.SpanContext.TraceID(), s.Parent)
	}
	if len(s.Links) != 1 || s.Links[0].SpanContext.TraceID() != login.TraceID() || s.Links[0].SpanContext.SpanID() != login.SpanID() {
		t.Errorf("links %v, want the login %v", s.Links, login)
	}
	if !s.StartTime.Equal(c.Start) || !s.EndTime.Equal(c.End) || s.Status.Code != codes.Unset {
		t.Errorf("from %v to %v, %v", s.StartTime, s.EndTime, s.Status)
	}
	if len(s.Events) != 1 || s.Events[0].Name != "sent" || s.Events[0].Time.Sub(s.StartTime) != time.Millisecond {
		t.Errorf("events %v", s.Events)
	}
	for key, want := range map[string]string{"session.id": "s1", "user.name": "alice", "imapproxy.backend": "b1",
		"imap.command": "UID FETCH", "imap.status": "OK", "imapproxy.bytes_in": "30", "imapproxy.bytes_out": "4000",
		"imapproxy.forward": "0.001", "imapproxy.backend_wait": "0.005", "imapproxy.client_wait": "0.004"} {
		if attr(s, key) != want {
			t.Errorf("%s is %q, want %q", key, attr(s, key), want)
		}
	}
	if got := attr(s, "imapproxy.resume_wait"); got != "" {
		t.Errorf("a command that waited for no connection has resume_wait %q", got)
	}
	if s := got[1]; s.Name != "imap OTHER" || s.Status.Code != codes.Error || len(s.Events) != 0 {
		t.Errorf("the other: %s, %v, events %v", s.Name, s.Status, s.Events)
	}
}

func TestTheSampledShareIsTheRatio(t *testing.T) {
	tel, spans, now := tracing(t, 0)
	tel.SetSampling(0.25, -1) // as a reload does
	const n = 8000
	for range n {
		tel.BeginLogin("s1", netip.AddrPort{}, now.Now()).End("alice", "b1", "ok", nil)
		tel.Command(fetch(now.Now()))
	}
	kept := map[string]int{}
	for _, s := range spans.GetSpans() {
		kept[s.Name]++
	}
	for _, name := range []string{"login", "imap UID FETCH"} {
		// Ten standard deviations.
		if k := kept[name]; k < 1600 || k > 2400 {
			t.Errorf("%d of %d %s kept, want about a quarter", k, n, name)
		}
	}
	spans.Reset()
	tel.Command(Command{Verb: wire.Noop, Status: "OK", Start: now.Now(), End: now.Now().Add(time.Hour)})
	tel.SetSampling(0, -1)
	tel.Command(Command{Verb: wire.Noop, Status: "OK", Start: now.Now(), End: now.Now().Add(time.Hour)})
	if n := len(spans.GetSpans()); n > 1 {
		t.Errorf("slow < 0 kept a slow command")
	}
}

// Protocol buffers refuse text that isn't UTF-8, and with it the whole batch:
// a client's user name must not remove other sessions' spans.
func TestSpansHoldOnlyValidText(t *testing.T) {
	tel, spans, now := tracing(t, 1)
	bad := "al\xffice" + strings.Repeat("é", 1000) + "\xc3"
	login := tel.BeginLogin(bad, netip.AddrPort{}, now.Now())
	login.Phase(PhaseAuth)(errors.New(bad), attribute.String("what", bad), attribute.StringSlice("list", []string{bad}))
	sc := login.End(bad, bad, bad, errors.New(bad))
	tel.Command(Command{Session: bad, User: bad, Backend: bad, Verb: wire.Noop, Status: bad, Login: sc, Start: now.Now(), End: now.Now()})
	got := spans.GetSpans()
	if len(got) != 3 {
		t.Fatalf("%d spans, want 3", len(got))
	}
	for _, s := range got {
		texts := []string{s.Name, s.Status.Description}
		for _, kv := range s.Attributes {
			texts = append(texts, kv.Value.String())
		}
		for _, text := range texts {
			if !utf8.ValidString(text) || len(text) > 1100 {
				t.Errorf("span %s holds %d bytes of %.20q", s.Name, len(text), text)
			}
		}
	}
}

func TestALoginRemembersOnlySoManyPhases(t *testing.T) {
	tel, spans, now := tracing(t, 1)
	login := tel.BeginLogin("s1", netip.AddrPort{}, now.Now())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range maxPhases {
				login.Phase(PhaseDial)(nil)
			}
		})
	}
	wg.Wait()
	login.End("alice", "b1", "ok", nil)
	login.Add(PhaseDial, now.Now(), now.Now(), nil) // too late: it has no effect
	if n := len(spans.GetSpans()); n != maxPhases+1 {
		t.Errorf("%d spans, want %d", n, maxPhases+1)
	}
}

func TestWithoutTracesNothingIsTraced(t *testing.T) {
	tel := Discard()
	login := tel.BeginLogin("s1", netip.AddrPort{}, time.Now())
	login.Phase(PhaseExchange)(nil)
	login.Add(PhaseDial, time.Now(), time.Now(), nil)
	if sc := login.End("alice", "b1", "ok", nil); login.Kept().IsValid() || sc.IsValid() {
		t.Errorf("traces %v, %v, want none", login.Kept(), sc)
	}
}
