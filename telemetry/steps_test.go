package telemetry

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// names are the names of spans.
func names(spans tracetest.SpanStubs) string {
	var all []string
	for _, s := range spans {
		all = append(all, s.Name)
	}
	return strings.Join(all, " ")
}

func TestAParkIsATraceOfItsOwnWithItsSteps(t *testing.T) {
	tel, spans, now := tracing(t, 1)
	login := tel.BeginLogin("s1", netip.AddrPort{}, now.Now()).End("alice", "b1", "ok", nil)
	spans.Reset()
	start := now.Now()
	steps := tel.Steps(start)
	steps.Done(StepSubscribe, now.advance(time.Millisecond), nil)
	steps.Done(StepDone, now.advance(2*time.Millisecond), nil)
	refusal := errors.New("UID SEARCH: NO")
	steps.Done(StepSnapshot, now.advance(3*time.Millisecond), refusal)
	tel.Park(Park{Session: "s1", Login: login, User: "alice", Backend: "b1", Mailbox: "Work", Way: "idle", Strategy: "qresync", Watch: "push",
		Tries: 3, Outcome: "unsettled", Err: refusal, Start: start, End: now.Now(), Steps: steps})

	got := spans.GetSpans()
	if names(got) != "subscribe done snapshot park" {
		t.Fatalf("spans %s", names(got))
	}
	root := got[3]
	if root.Parent.IsValid() || root.SpanContext.TraceID() == login.TraceID() || len(root.Links) != 1 || root.Links[0].SpanContext.SpanID() != login.SpanID() {
		t.Errorf("root under %v with links %v, want a trace of its own with a link to %v", root.Parent, root.Links, login)
	}
	if got[1].Parent.SpanID() != root.SpanContext.SpanID() || got[1].EndTime.Sub(got[1].StartTime) != 2*time.Millisecond || got[1].StartTime.Sub(start) != time.Millisecond {
		t.Errorf("done stands under %v from %v to %v", got[1].Parent, got[1].StartTime, got[1].EndTime)
	}
	if root.Status.Code != codes.Error || got[2].Status.Description != refusal.Error() || got[0].Status.Code != codes.Unset {
		t.Errorf("status %+v, of the snapshot %+v", root.Status, got[2].Status)
	}
	for key, want := range map[string]string{"session.id": "s1", "user.name": "alice", "imapproxy.backend": "b1", "imapproxy.mailbox": "Work",
		"imapproxy.outcome": "unsettled", "imapproxy.park.way": "idle", "imapproxy.park.strategy": "qresync", "imapproxy.park.watch": "push", "imapproxy.park.tries": "3"} {
		if attr(root, key) != want {
			t.Errorf("%s is %q, want %q", key, attr(root, key), want)
		}
	}
}

func TestAttemptsThatCameToNothingAreOneStepEach(t *testing.T) {
	tel, spans, now := tracing(t, 0)
	start := now.Now()
	steps := tel.Steps(start)
	for range 2 * maxSteps { // they are bounded, too
		mark := steps.Mark()
		steps.Done(StepTurn, now.advance(time.Millisecond), nil)
		steps.Done(StepLogin, now.advance(time.Millisecond), nil)
		steps.Fold(mark, StepAttempt, now.advance(time.Millisecond), errors.New("connection refused"))
	}
	tel.Resume(Resume{Session: "s1", Wake: "XFROBNICATE", Source: SourceLogin, Attempts: 48, Owed: 2, Outcome: "ok", Start: start, End: now.Now(), Steps: steps})
	got := spans.GetSpans() // not sampled, but not in one attempt
	if len(got) != maxSteps+1 || got[0].Name != StepAttempt || got[0].EndTime.Sub(got[0].StartTime) != 3*time.Millisecond || got[1].StartTime != got[0].EndTime {
		t.Fatalf("spans %s", names(got))
	}
	root := got[maxSteps]
	for key, want := range map[string]string{"imapproxy.resume.wake": "OTHER", "imapproxy.resume.source": "login",
		"imapproxy.resume.attempts": "48", "imapproxy.resume.owed": "2", "imapproxy.mailbox": ""} {
		if attr(root, key) != want {
			t.Errorf("%s is %q, want %q", key, attr(root, key), want)
		}
	}
	if steps := tel.Steps(start); steps.n != 0 || steps.list[0].err != nil {
		t.Errorf("steps that are used again hold %d old ones", steps.n)
	}
}

func TestFailedAndSlowWorkIsAlwaysKept(t *testing.T) {
	for _, c := range []struct {
		name  string
		ratio float64
		took  time.Duration
		err   error
		kept  bool
	}{
		{"quick and well, nothing sampled", 0, time.Millisecond, nil, false},
		{"quick and well, all sampled", 1, time.Millisecond, nil, true},
		{"failed", 0, time.Millisecond, errors.New("lost"), true},
		{"slow", 0, time.Second, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			tel, spans, now := tracing(t, c.ratio)
			start := now.Now()
			end := start.Add(c.took)
			tel.Park(Park{Err: c.err, Start: start, End: end, Steps: tel.Steps(start)})
			tel.Resume(Resume{Err: c.err, Attempts: 1, Start: start, End: end, Steps: tel.Steps(start)})
			tel.Resync(Resync{Err: c.err, Start: start, End: end, Steps: tel.Steps(start)})
			want := ""
			if c.kept {
				want = "park resume resync"
			}
			if got := names(spans.GetSpans()); got != want {
				t.Errorf("kept %q, want %q", got, want)
			}
		})
	}
}

func TestWorkThatIsntKeptCostsNoAllocation(t *testing.T) {
	tel, spans, now := tracing(t, 0)
	start := now.Now()
	for name, tel := range map[string]*Telemetry{"unsampled": tel, "traces are off": Discard()} {
		if n := testing.AllocsPerRun(1000, func() {
			steps := tel.Steps(start)
			steps.Done(StepTurn, start, nil)
			steps.Done(StepPool, start, nil)
			tel.Resume(Resume{Session: "s1", Wake: "NOOP", Source: SourcePool, Attempts: 1, Outcome: "ok", Start: start, End: start, Steps: steps})
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if n := len(spans.GetSpans()); n != 0 {
		t.Errorf("%d spans", n)
	}
}
