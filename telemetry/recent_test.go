package telemetry

import (
	"fmt"
	"testing"
	"time"

	"imapproxy/proxy/wire"
)

// What happened at a backend is remembered for five minutes, without metrics and traces too.
func TestRecent(t *testing.T) {
	tel, now := Discard(), time.Unix(1_800_000_000, 0)
	tel.now = func() time.Time { return now }
	command := func(verb wire.Verb, wait time.Duration) {
		tel.Command(Command{Backend: "b1", Verb: verb, Status: "OK", Start: now.Add(-wait), Sent: now.Add(-wait), End: now, BackendWait: wait})
	}
	command(wire.Fetch, time.Second)
	command(wire.Fetch, SlowAnswer)
	command(wire.Idle, time.Hour)                                                // waits for what isn't there yet
	tel.Command(Command{Backend: "b1", Verb: wire.Noop, Status: "OK", End: now}) // answered by the proxy
	tel.BackendLogin("b1", "ok", time.Second)
	tel.BackendLogin("b1", "timeout", 10*time.Second)
	tel.BackendLogin("b1", "refused", 10*time.Second) // wrong passwords are answered late on purpose
	tel.LoginRefusedFor("b1")
	tel.Stall("b1", StallProbe, StallGoesOn)
	if got, want := tel.Recent("b1"), (BackendRecent{Answers: 4, Slow: 2, Refused: 1, GivenUp: 1, FailedLogins: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := tel.Recent("b2"); got != (BackendRecent{}) {
		t.Errorf("of another one: %+v", got)
	}
	now = now.Add(3 * time.Minute)
	command(wire.Fetch, SlowAnswer)
	if got := tel.Recent("b1"); got.Answers != 5 || got.Slow != 3 {
		t.Errorf("three minutes later: %+v", got)
	}
	now = now.Add(3 * time.Minute)
	if got := tel.Recent("b1"); got.Answers != 1 || got.GivenUp != 0 {
		t.Errorf("six minutes later: %+v", got)
	}
	now = now.Add(6 * time.Minute) // the slot of the last ones is used again
	command(wire.Fetch, time.Second)
	if got := tel.Recent("b1"); got != (BackendRecent{Answers: 1}) {
		t.Errorf("when its place is used again: %+v", got)
	}
	for i := range 3 * maxRecent {
		tel.LoginRefusedFor(fmt.Sprint("x", i))
	}
	if n := len(*tel.recent.all.Load()); n > maxRecent {
		t.Errorf("%d backends are remembered", n)
	}
}

// How long a backend takes is remembered for five minutes: what failed and what isn't its fault doesn't count as a time.
func TestRecentTimes(t *testing.T) {
	tel, now := Discard(), time.Unix(1_800_000_000, 0)
	tel.now = func() time.Time { return now }
	for i := range 100 {
		took := time.Duration(i+1) * time.Millisecond
		tel.BackendDial("b1", "ok", took)
		tel.BackendLogin("b1", "ok", 10*took)
		tel.Command(Command{Backend: "b1", Verb: wire.Fetch, Status: "OK", Start: now, Sent: now, End: now, FirstAnswer: took, BackendWait: time.Minute})
	}
	tel.BackendDial("b1", "refused", time.Hour)
	tel.BackendDial("b1", "cancelled", time.Hour)
	tel.BackendLogin("b1", "cancelled", time.Hour)
	tel.BackendLogin("b1", "shortage", time.Hour)
	tel.Command(Command{Backend: "b1", Verb: wire.Noop, Status: "OK", End: now, FirstAnswer: time.Hour}) // answered by the proxy
	tel.Command(Command{Backend: "b1", Verb: wire.Fetch, Status: "OK", Start: now, Sent: now, End: now}) // its first answer isn't known
	near := func(what string, got Quantiles, p50, p99 time.Duration) {
		t.Helper()
		if got.Count != 100 || got.P50 < p50 || got.P50 > p50*4/3 || got.P99 < p99 || got.P99 > p99*4/3 {
			t.Errorf("%s: %+v, want about %v and %v", what, got, p50, p99)
		}
	}
	dial, login, answer := tel.RecentTimes("b1")
	near("dial", dial, 50*time.Millisecond, 99*time.Millisecond)
	near("login", login, 500*time.Millisecond, 990*time.Millisecond)
	near("answer", answer, 50*time.Millisecond, 99*time.Millisecond)
	if got := tel.Recent("b1"); got.FailedDials != 1 || got.FailedLogins != 0 {
		t.Errorf("%+v", got)
	}
	now = now.Add(6 * time.Minute)
	tel.BackendDial("b1", "ok", time.Second)
	if dial, login, _ := tel.RecentTimes("b1"); dial.Count != 1 || login != (Quantiles{}) {
		t.Errorf("six minutes later: %+v %+v", dial, login)
	}
}

func TestRecentAllocatesNothing(t *testing.T) {
	tel, now := Discard(), time.Now()
	c := Command{Backend: "b1", Verb: wire.Fetch, Status: "OK", Start: now, Sent: now, End: now, FirstAnswer: time.Millisecond}
	tel.Command(c)
	if n := testing.AllocsPerRun(100, func() { tel.Command(c) }); n != 0 {
		t.Errorf("%v allocations for a command", n)
	}
}
