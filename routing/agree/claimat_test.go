package agree

import (
	"strings"
	"testing"
	"time"

	"imapproxy/routing"
)

// With separate storage, a connection to the backend where a session has its user doesn't move the user away
// from the backend where another session, by a newer placement, has them.
func TestAConnectionDoesntStandForANewPlacement(t *testing.T) {
	a := newAlone(t, Options{Storage: routing.Separate})
	a.fleet(1, routing.Up, routing.Up)
	if got := a.m.ClaimAt("ann", "b1", true, a.now); got.Verdict != Go || got.Backend != "b1" {
		t.Fatalf("nobody has the user: %+v", got)
	}
	a.told = nil
	if got := a.m.ClaimAt("ann", "b2", true, a.now); got.Verdict != Go || got.Backend != "b1" {
		t.Errorf("the user is at b1: %+v", got)
	}
	a.settle()
	if len(a.told) != 0 {
		t.Errorf("it is asked for %+v", a.told)
	}
	if got := a.m.Claim("ann", "b2", a.now); got.Verdict != Wait { // a login, with the new placement
		t.Errorf("%+v", got)
	}
	if a.settle(); len(a.told) != 1 || a.told[0].Kind != LetGo {
		t.Errorf("it is asked for %+v", a.told)
	}
}

// With shared storage a connection asks for no override: only a login knows the placement.
func TestAConnectionAsksForNoOverride(t *testing.T) {
	a := newAlone(t, Options{})
	a.fleet(1, routing.Up, routing.Up)
	at := a.m.Claim("ann", "", a.now).Backend
	other := map[string]string{"b1": "b2", "b2": "b1"}[at]
	if got := a.m.ClaimAt("ann", other, true, a.now); got.Verdict != Go || got.Backend != at {
		t.Errorf("%+v, not %s", got, at)
	}
	if a.settle(); a.m.Override("ann") != "" {
		t.Error("the user has an override")
	}
}

// Settings change while the Member runs. Invalid settings change nothing; a proxy that is isolated lets go
// of its users once the mode becomes Hold.
func TestAMemberIsGivenOtherSettings(t *testing.T) {
	a := newAlone(t, Options{})
	a.fleet(1, routing.Up, routing.Up)
	if err := a.m.Reconfigure(Settings{Policy: Policy{PanicThreshold: 2}}, a.now); err == nil {
		t.Error("a panic threshold of 200 % is taken")
	}
	a.now = a.m.Deadline().Add(time.Millisecond)
	a.m.at(a.now)
	if got := a.m.Claim("ann", "", a.now); got.Verdict != Go {
		t.Fatalf("isolated, it serves: %+v", got)
	}
	a.m.Take()
	if err := a.m.Reconfigure(Settings{AgreeWithin: time.Second, Isolated: Hold}, a.now); err != nil {
		t.Fatal(err)
	}
	_, effects := a.m.Take()
	if len(effects) != 1 || effects[0].Kind != CloseAll {
		t.Errorf("told to hold, it is asked for %+v", effects)
	}
	if got := a.m.Claim("bob", "", a.now); got.Verdict != Wait {
		t.Errorf("%+v", got)
	}
}

// aloneWithDrain makes a proxy alone that has a connection of ann's, at a backend that is drained then.
func aloneWithDrain(t *testing.T) (a *alone, at string) {
	t.Helper()
	a = newAlone(t, Options{})
	a.fleet(1, routing.Up, routing.Up)
	at = a.m.Claim("ann", "", a.now).Backend
	states := map[string][]routing.State{"b1": {routing.Draining, routing.Up}, "b2": {routing.Up, routing.Draining}}[at]
	a.later(11 * time.Second) // flap_damp
	a.fleet(2, states...)
	return a, at
}

// While a user's turn lasts, a connection beside existing ones may be made, so that a session can leave with
// a watch of its mailbox; the user is asked to leave once more. A login waits, and after the last
// connection's end no connection may be made there.
func TestASessionThatLeavesGetsItsWatch(t *testing.T) {
	a, at := aloneWithDrain(t)
	asked := func() (n int) {
		for _, e := range a.told {
			if e.Kind == LetGo && e.User == "ann" {
				n++
			}
		}
		return n
	}
	for range 20 {
		if asked() > 0 {
			break
		}
		a.later(100 * time.Millisecond)
	}
	if asked() != 1 {
		t.Fatalf("asked %d times", asked())
	}
	if got := a.m.Claim("ann", "", a.now); got.Verdict != Wait {
		t.Errorf("a login: %+v", got)
	}
	if got := a.m.ClaimAt("ann", at, true, a.now); got.Verdict != Go || got.Backend != at {
		t.Fatalf("a watch: %+v", got)
	}
	for range 12 {
		a.later(100 * time.Millisecond)
	}
	if asked() != 2 {
		t.Errorf("asked %d times", asked())
	}
	a.m.Release("ann", a.now)
	a.m.Ending("ann", a.now)
	if got := a.m.ClaimAt("ann", at, true, a.now); got.Verdict != Wait {
		t.Errorf("the last connection was closed: %+v", got)
	}
	a.m.Ended("ann", a.now)
	if got := a.m.ClaimAt("ann", at, true, a.now); got.Verdict == Go && got.Backend == at {
		t.Errorf("the user has left: %+v", got)
	}
	if a.later(time.Second); len(a.m.anew) != 0 {
		t.Errorf("%d users are to be asked", len(a.m.anew))
	}
}

// In the first half of a user's turn a session that has left waits for the others; then it gets a connection. A login
// waits for the whole turn, and is made again at its end: the user couldn't leave.
func TestASessionThatHasLeftWaitsForTheOthers(t *testing.T) {
	a, at := aloneWithDrain(t)
	for a.m.Claim("ann", "", a.now).Verdict == Go { // until the turn begins
		a.m.Release("ann", a.now)
		a.later(100 * time.Millisecond)
	}
	began := a.now
	if got := a.m.ClaimAt("ann", at, false, a.now); got.Verdict != Wait {
		t.Errorf("a session that comes back at once: %+v", got)
	}
	for a.m.ClaimAt("ann", at, false, a.now).Verdict != Go {
		a.later(100 * time.Millisecond)
	}
	if took := a.now.Sub(began); took < 4*time.Second || took > 6*time.Second {
		t.Errorf("a session gets a connection after %v of a turn of 10 s", took)
	}
	a.m.Release("ann", a.now)
	if got := a.m.Claim("ann", "", a.now); got.Verdict != Wait {
		t.Errorf("a login: %+v", got)
	}
	var woken time.Duration
	for before := a.m.Version(); woken == 0 && a.now.Sub(began) < 15*time.Second; before = a.m.Version() {
		a.later(100 * time.Millisecond)
		if a.m.Version() != before && a.now.Sub(began) > 9*time.Second {
			woken = a.now.Sub(began)
		}
	}
	if got := a.m.Claim("ann", "", a.now); got.Verdict != Go || got.Backend != at || woken < 10*time.Second || woken > 11*time.Second {
		t.Errorf("a login that has waited: %+v, made again after %v", got, woken)
	}
}

// The connection of a login whose password the backend refuses late was closed in the user's turn, and its end
// comes after the turn: no claim takes the user back to the backend meanwhile, and the user moves. If the end
// doesn't come for long, the user is served where they are.
func TestALateEndDoesntKeepAUserFromMoving(t *testing.T) {
	for _, late := range []bool{false, true} {
		a, at := aloneWithDrain(t)
		is := func(when string, verdict Verdict) {
			t.Helper()
			a.settle()
			if got := a.m.Claim("ann", "", a.now); got.Verdict != verdict {
				t.Fatalf("%s: %+v", when, got)
			}
		}
		for range 20 {
			if len(a.told) > 0 && a.told[len(a.told)-1].Kind == LetGo {
				break
			}
			a.later(100 * time.Millisecond)
		}
		is("in the turn", Wait)
		a.m.Ending("ann", a.now)
		for range 150 {
			a.later(100 * time.Millisecond)
		}
		is("after the turn", Wait)
		if late {
			got := Answer{}
			for range 400 {
				a.later(100 * time.Millisecond)
				if got = a.m.Claim("ann", "", a.now); got.Verdict == Go {
					break
				}
			}
			if got.Backend != at {
				t.Errorf("without an end: %+v", got)
			}
			continue
		}
		a.m.Ended("ann", a.now)
		for range 20 {
			if got := a.m.Claim("ann", "", a.now); got.Verdict == Go {
				if got.Backend == at {
					t.Error("the user has gone back")
				}
				break
			}
			a.later(100 * time.Millisecond)
		}
		a.m.Release("ann", a.now)
		is("after the end", Go)
	}
}

// A setting that is switched off (a negative time in Options) is told, compared and shown as 0s.
func TestSettingsThatAreOff(t *testing.T) {
	o := Options{Storage: routing.Shared, Users: "lower", Policy: Policy{FlapDamp: -1, FailoverAfter: -1, RebalanceRate: -1}}
	if words := o.words(); !strings.Contains(words, "rebalance_rate=0 ") || !strings.Contains(words, "failover_after=0s ") || !strings.HasSuffix(words, "flap_damp=0s") {
		t.Error(words)
	}
	if d := o.Differences(About{Settings: "flap_damp=30s failover_after=0s"}); len(d) != 1 || d[0] != "flap_damp (here 0s, there 30s)" {
		t.Error(d)
	}
}
