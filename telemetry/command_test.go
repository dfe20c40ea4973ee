package telemetry

import (
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"

	"imapproxy/proxy/wire"
)

// resumed is a resume of three seconds with one step, and the command that waited for it.
func resumed(tel *Telemetry, start time.Time) Command {
	steps := tel.Steps(start)
	steps.Done(StepLogin, start.Add(2*time.Second), nil)
	r := tel.Resumed(Resume{Session: "s1", User: "alice", Backend: "b1", Wake: "UID FETCH", Source: SourceLogin,
		Attempts: 1, Outcome: "ok", Start: start, End: start.Add(3 * time.Second), Steps: steps})
	c := fetch(start)
	c.Sent, c.End = start.Add(3*time.Second+time.Millisecond), start.Add(3*time.Second+10*time.Millisecond)
	c.ResumeWait, c.Resume = 3*time.Second, r
	return c
}

func TestAResumeIsAPartOfItsCommandsTrace(t *testing.T) {
	tel, spans, now := tracing(t, 0) // what takes a second is slow
	tel.Command(resumed(tel, now.Now()))
	got := spans.GetSpans()
	if names(got) != "login resume relay imap UID FETCH" {
		t.Fatalf("spans %s", names(got))
	}
	got = slices.Delete(got, 2, 3)
	if got[1].Parent.SpanID() != got[2].SpanContext.SpanID() || got[0].Parent.SpanID() != got[1].SpanContext.SpanID() {
		t.Error("the resume isn't the command's child, or its step isn't the resume's")
	}
	for key, want := range map[string]string{"imapproxy.resume_wait": "3", "imapproxy.forward": "0.001",
		"imapproxy.backend_wait": "0.005", "imapproxy.client_wait": "0.004"} {
		if attr(got[2], key) != want {
			t.Errorf("%s is %q, want %q", key, attr(got[2], key), want)
		}
	}
}

func TestAResumeWithoutACommandIsATraceOfItsOwn(t *testing.T) {
	tel, spans, now := tracing(t, 0)
	tel.ResumeAlone(resumed(tel, now.Now()).Resume)
	if got := spans.GetSpans(); len(got) != 2 || got[1].Name != "resume" || got[1].Parent.IsValid() {
		t.Fatalf("spans %v, want a resume with its step", got)
	}
}

// A client that stays in IDLE for half an hour has waited for nothing, and one that goes away then is no failure.
func TestIdleHasNoWaits(t *testing.T) {
	tel, spans, now := tracing(t, 1)
	c := fetch(now.Now())
	c.Verb, c.Status = wire.Idle, StatusClosed
	tel.Command(c)
	s := spans.GetSpans()[0]
	for _, key := range []string{"imapproxy.backend_wait", "imapproxy.forward", "imapproxy.client_wait"} {
		if got := attr(s, key); got != "" {
			t.Errorf("IDLE has %s %q", key, got)
		}
	}
	if s.Status.Code == codes.Error || attr(s, "imap.status") != "closed" {
		t.Errorf("status %v, %q", s.Status, attr(s, "imap.status"))
	}
}

// Each port scanner fails a handshake: most traces would be of these.
func TestOnlySlowAndSampledHandshakesLeaveTraces(t *testing.T) {
	tel, spans, now := tracing(t, 0)
	tel.TLSHandshake("s1", "failed", now.Now(), now.Now().Add(time.Millisecond))
	tel.TLSHandshake("s2", "ok", now.Now(), now.Now().Add(time.Second))
	got := spans.GetSpans()
	if len(got) != 1 || got[0].Name != "tls" || attr(got[0], "session.id") != "s2" || got[0].Status.Code == codes.Error {
		t.Fatalf("spans %v, want the slow handshake alone", got)
	}
	tel.TLSHandshake("s3", "timeout", now.Now(), now.Now().Add(time.Minute))
	if got = spans.GetSpans(); len(got) != 2 || got[1].Status.Description != "timeout" {
		t.Errorf("spans %v", got)
	}
}
