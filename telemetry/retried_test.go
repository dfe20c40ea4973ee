package telemetry

import (
	"errors"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// While a backend is down all that is parked there tries again and again. Some of its traces are kept, of each backend, and after a while more.
func TestABackendThatIsDownLeavesRoomForOtherTraces(t *testing.T) {
	down := errors.New("connection refused")
	for name, record := range map[string]func(tel *Telemetry, backend string, err error, start, end time.Time){
		spanWatch: func(tel *Telemetry, backend string, err error, start, end time.Time) {
			tel.Watched(Watch{User: "alice", Backend: backend, Watch: "idle", Connects: true, Err: err, Start: start, End: end})
		},
		spanResync: func(tel *Telemetry, backend string, err error, start, end time.Time) {
			tel.Resync(Resync{User: "alice", Backend: backend, Mailbox: "Work", Err: err, Start: start, End: end})
		},
	} {
		t.Run(name, func(t *testing.T) {
			tel, spans, now := tracing(t, 0)
			want := func(what string, n int) {
				t.Helper()
				if got := len(spans.GetSpans()); got != n {
					t.Errorf("%s: %d traces, want %d", what, got, n)
				}
				spans.Reset()
			}
			for range 1000 {
				record(tel, "b1", down, now.Now(), now.advance(time.Millisecond))
			}
			want("failures", keptRetried)
			record(tel, "b1", nil, now.Now().Add(-time.Minute), now.Now())
			want("slow ones beside failures", 0)
			for range 1000 {
				record(tel, "b2", nil, now.Now().Add(-time.Minute), now.Now())
			}
			want("slow ones at another backend", keptRetried)
			now.advance(retriedWithin)
			record(tel, "b1", down, now.Now(), now.Now())
			record(tel, "b1", nil, now.Now(), now.Now())
			want("a failure later", 1)
			tel.SetSampling(1, 0)
			for range 100 {
				record(tel, "b1", down, now.Now(), now.Now())
			}
			want("all are sampled", 100)
		})
	}
}

// Work that a client waits for is kept whenever it failed, however much fails.
func TestFailedWorkOfSessionsIsAlwaysKept(t *testing.T) {
	tel, spans, now := tracing(t, 0)
	down := errors.New("connection refused")
	for range 100 {
		tel.Watched(Watch{Backend: "b1", Err: down, Start: now.Now(), End: now.Now()})
		tel.Resume(Resume{Session: "s1", Backend: "b1", Outcome: "unavailable", Err: down, Start: now.Now(), End: now.Now()})
	}
	if n := count(spans.GetSpans(), spanResume); n != 100 {
		t.Errorf("%d traces of resumes", n)
	}
}

// count returns how many spans have a name.
func count(spans tracetest.SpanStubs, name string) (n int) {
	for _, s := range spans {
		if s.Name == name {
			n++
		}
	}
	return n
}
