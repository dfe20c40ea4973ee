package agree

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"imapproxy/routing"
)

// state is a backend's state in the fleet that the Member goes by.
func (a *alone) state(id string) routing.State {
	a.t.Helper()
	b := a.m.fleet.backend(id)
	if b == nil {
		a.t.Fatalf("%s isn't in the fleet", id)
	}
	return b.State
}

// drain drains a backend, and waits until the fleet has the drain.
func (a *alone) drain(r DrainRequest) {
	a.t.Helper()
	since, err := a.m.Drain(r, a.now)
	if err != nil {
		a.t.Fatal(err)
	}
	a.pass(time.Second)
	if a.m.Drained(r.Backend) != since || since == 0 {
		a.t.Fatalf("%s is drained since %d, not %d", r.Backend, a.m.Drained(r.Backend), since)
	}
}

// pass advances the time, with a tick each second.
func (a *alone) pass(d time.Duration) {
	a.t.Helper()
	a.settle()
	for ; d > 0; d -= time.Second {
		a.later(time.Second)
	}
}

// logins makes connections of so many users, and returns how many are at a backend.
func (a *alone) logins(n int, backend string) (there int) {
	a.t.Helper()
	for i := range n {
		got := a.m.Claim(fmt.Sprintf("user%d", i), "", a.now)
		if got.Verdict != Go {
			a.t.Fatalf("%+v", got)
		}
		if got.Backend == backend {
			there++
		}
	}
	return there
}

// take returns the users of the effects of a kind since the last call.
func (a *alone) take(kind EffectKind) (users []string) {
	for _, e := range a.told {
		if e.Kind == kind {
			users = append(users, e.User)
		}
	}
	a.told = slices.DeleteFunc(a.told, func(e Effect) bool { return e.Kind == kind })
	slices.Sort(users)
	return slices.Compact(users)
}

// A drain holds whatever discovery says, outlives the proxy that was asked, and ends when an operator ends
// it.
func TestADrainHolds(t *testing.T) {
	a := newAlone(t, Options{})
	a.fleet(1, routing.Up, routing.Up, routing.Up)
	a.pass(15 * time.Second)
	a.drain(DrainRequest{Backend: "b1", By: "jane"})
	if got := a.m.fleet.backend("b1"); a.state("b1") != routing.Draining || got.Reason != drainedReason || a.m.fleet.newest().up("b1") {
		t.Fatalf("%+v", got)
	}
	for i, say := range []routing.State{routing.Up, routing.Draining, routing.Down, routing.Up} {
		a.pass(15 * time.Second)
		a.fleet(uint64(i+2), say, routing.Up, routing.Up)
		want := say
		if say == routing.Up {
			want = routing.Draining
		}
		if a.state("b1") != want {
			t.Errorf("discovery says %v: %v", say, a.state("b1"))
		}
	}

	b := newAlone(t, Options{ID: "p2"}) // after a restart of all proxies
	b.consul, b.now = a.consul, a.now
	for _, p := range a.m.latest.Proxies {
		delete(b.consul.pairs, proxyKey(p.ID))
	}
	b.consul.changed()
	b.fleet(6, routing.Up, routing.Up, routing.Up)
	b.pass(15 * time.Second)
	if b.m.Drained("b1") == 0 || b.state("b1") != routing.Draining || b.m.fleet.drain("b1").By != "jane" {
		t.Fatalf("after a restart: %+v", b.m.fleet.Drains)
	}
	if err := b.m.Undrain("b1", b.now); err != nil {
		t.Fatal(err)
	}
	b.settle()
	b.pass(15 * time.Second)
	if b.state("b1") != routing.Up || b.m.Drained("b1") != 0 || b.m.fleet.backend("b1").Drained {
		t.Errorf("after undrain: %+v", b.m.fleet.backend("b1"))
	}
}

// A proxy that has no answer of discovery can end a drain, too: it knows the backend's state without the
// drain.
func TestAnUndrainNeedsNoDiscovery(t *testing.T) {
	a := newAlone(t, Options{})
	a.fleet(1, routing.Up, routing.Up)
	a.pass(15 * time.Second)
	a.drain(DrainRequest{Backend: "b1"})
	a.pass(15 * time.Second)
	a.m.writer.discovery = nil
	if err := a.m.Undrain("b1", a.now); err != nil {
		t.Fatal(err)
	}
	a.settle()
	if a.state("b1") != routing.Up {
		t.Errorf("%+v", a.m.fleet.backend("b1"))
	}
}

func TestDrainsThatCantBe(t *testing.T) {
	a := newAlone(t, Options{})
	if _, err := a.m.Drain(DrainRequest{Backend: "b1"}, a.now); !errors.Is(err, ErrNotInside) {
		t.Errorf("before it has joined: %v", err)
	}
	a.fleet(1, routing.Up, routing.Up, routing.Draining)
	for _, c := range []struct {
		name string
		r    DrainRequest
		want error // nil: any
	}{
		{"an unknown backend", DrainRequest{Backend: "b9"}, ErrUnknownBackend},
		{"no backend", DrainRequest{}, ErrUnknownBackend},
		{"a negative time", DrainRequest{Backend: "b1", Within: -1}, nil},
		{"a year", DrainRequest{Backend: "b1", Within: 365 * 24 * time.Hour}, nil},
		{"a negative rate", DrainRequest{Backend: "b1", Rate: -1}, nil},
		{"no rate", DrainRequest{Backend: "b1", Rate: math.NaN()}, nil},
	} {
		if _, err := a.m.Drain(c.r, a.now); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := a.m.Undrain("b9", a.now); !errors.Is(err, ErrUnknownBackend) {
		t.Error(err)
	}
	if err := a.m.Undrain("b3", a.now); !errors.Is(err, ErrNotDrained) {
		t.Errorf("in maintenance: %v", err)
	}
	a.pass(15 * time.Second)
	a.drain(DrainRequest{Backend: "b1", By: "a\nb\xff"})
	if got := a.m.fleet.drain("b1").By; got != "a?b\uFFFD" {
		t.Errorf("%q", got)
	}
	if _, err := a.m.Drain(DrainRequest{Backend: "b2"}, a.now); !errors.Is(err, ErrNoOther) {
		t.Errorf("the last one that is up: %v", err)
	}

	separate := newAlone(t, Options{Storage: routing.Separate})
	separate.fleet(1, routing.Up, routing.Up)
	if _, err := separate.m.Drain(DrainRequest{Backend: "b1"}, separate.now); !errors.Is(err, ErrSeparate) {
		t.Error(err)
	}
}

// A drain's schedule is made once, at its rate: a later fleet neither hurries what is left of it nor begins
// it anew.
func TestADrainsScheduleStays(t *testing.T) {
	a := newAlone(t, Options{Policy: Policy{RebalanceRate: -1, MoveRate: 2}})
	a.fleet(1, routing.Up, routing.Up, routing.Up)
	there := a.logins(6000, "b1")
	a.pass(15 * time.Second)
	a.drain(DrainRequest{Backend: "b1"})
	d := *a.m.fleet.drain("b1")
	if want := int64(there) * 500; d.Cycle != want || d.Begin != d.Since {
		t.Fatalf("%d users at 2 a second: %+v", there, d)
	}
	a.pass(time.Minute)
	a.fleet(2, routing.Up, routing.Up, routing.Draining) // in maintenance
	if move := a.m.fleet.Move; *a.m.fleet.drain("b1") != d || move.Cycle < 500_000 {
		t.Errorf("after another backend went: %+v, %+v", a.m.fleet.drain("b1"), move)
	}
	a.pass(time.Minute)
	was := a.m.fleet.Move
	a.fleet(3, routing.Up, routing.Up, routing.Up) // no user is moved back; b1's users go on
	if move := a.m.fleet.Move; *a.m.fleet.drain("b1") != d || !move.Settle {
		t.Errorf("after it came back: %+v, %+v, before %+v", a.m.fleet.drain("b1"), move, was)
	}
	if asked := len(a.take(LetGo)); asked < 300 || asked > 400 { // b3's in the second minute, too
		t.Errorf("%d were asked to leave in two minutes and in one, at 2 a second", asked)
	}

	a.drain(DrainRequest{Backend: "b1", Rate: 1000}) // another request replaces it
	if d := a.m.fleet.drain("b1"); d.Cycle != int64(there) || d.Begin < d.Since {
		t.Errorf("%+v", d)
	}
	a.drain(DrainRequest{Backend: "b1", Within: 10 * time.Minute})
	if d := a.m.fleet.drain("b1"); d.Cycle > 5*60_000 || d.Cycle < 5*60_000-1000 || d.Deadline != d.Since+600_000 {
		t.Errorf("within ten minutes: %+v", d)
	}
}

// Users at backends that are up are moved at rebalance_rate, those at one that drains at move_rate, also if
// both begin in one fleet.
func TestBothRates(t *testing.T) {
	a := newAlone(t, Options{Policy: Policy{RebalanceRate: 0.4, MoveRate: 40}})
	a.fleet(1, routing.Up, routing.Up, routing.Down)
	there := a.logins(8000, "b1")
	a.pass(15 * time.Second)
	a.fleet(2, routing.Draining, routing.Up, routing.Up)
	move := a.m.fleet.Move
	if want := int64(there) * 25; move.Cycle < want*9/10 || move.Cycle > want*11/10 {
		t.Errorf("%d users leave b1 within %d ms, at 40 a second", there, move.Cycle)
	}
	if move.Slow < 2_700_000 || move.Slow > 4_000_000 || move.Settle { // a third of b2's 10,000
		t.Errorf("b2's users go to b3 within %d ms, at 1 a second", move.Slow)
	}
	a.pass(time.Minute)
	if n := len(a.take(LetGo)); n < there/4 || n > there/2+there/4 {
		t.Errorf("%d of %d were asked in a minute", n, there)
	}
}

// Sessions that are left when a drain's time is over are ended, spread over time, and asked each second
// until they are gone. New claims of their buckets wait for that.
func TestADrainsTimeIsOver(t *testing.T) {
	a := newAlone(t, Options{Policy: Policy{MoveRate: 1000}})
	a.fleet(1, routing.Up, routing.Up)
	there := a.logins(2000, "b1")
	a.pass(15 * time.Second)
	a.drain(DrainRequest{Backend: "b1", Within: 5 * time.Minute})
	a.pass(5*time.Minute - 2*time.Second)
	if n := len(a.take(End)); n != 0 {
		t.Fatalf("%d are ended before the time is over", n)
	}
	ended := make(map[string]bool)
	release := func() (n int) {
		a.take(LetGo)
		for _, user := range a.take(End) {
			if !ended[user] {
				ended[user] = true
				n++
				a.m.Release(user, a.now)
			}
		}
		return n
	}
	most, waited := 0, false
	for range 60 {
		a.later(time.Second)
		most = max(most, release())
		for user := range a.m.holds {
			if a.m.holds[user].at == a.m.places.of("b1") && ended[user] {
				t.Fatalf("%s was ended and is there", user)
			}
		}
		for i := range 20 {
			user := fmt.Sprintf("user%d", i)
			if a.m.Claim(user, "", a.now).Verdict == Wait {
				waited = true
			} else {
				a.m.Release(user, a.now)
			}
		}
	}
	if len(ended) != there || a.m.usersOn("b1") != 0 {
		t.Errorf("%d of %d were ended, %d are left", len(ended), there, a.m.usersOn("b1"))
	}
	if !waited {
		t.Error("no claim has waited")
	}
	if most > there/5 {
		t.Errorf("%d of %d were ended within a second", most, there)
	}
	s := a.m.Status(a.now).Drains
	if len(s) != 1 || s[0].Ended != there || s[0].Users != 0 || s[0].Start != there {
		t.Errorf("%+v", s)
	}
}

// A drain whose write had no answer, and that other proxies have ended since, isn't made again. The same
// holds for a user's move.
func TestAWishIsWrittenOnce(t *testing.T) {
	a := newAlone(t, Options{})
	a.fleet(1, routing.Up, routing.Up)
	a.pass(15 * time.Second)
	a.m.writer.moves["ann"] = &request{"b2", asked{until: a.now.Add(requestFor)}} // both in one fleet
	if _, err := a.m.Drain(DrainRequest{Backend: "b1"}, a.now); err != nil {
		t.Fatal(err)
	}
	for range 5 { // it is written, and this proxy gets no answer
		ops, _ := a.m.Take()
		for _, op := range ops {
			a.consul.do(op)
			a.m.Done(op.ID, Result{Err: errLost}, a.now)
		}
		a.now = a.now.Add(time.Second)
		a.m.Tick(a.now)
	}
	shard := shardKey(shardOf("ann"))
	f, err := DecodeFleet(a.consul.pairs[fleetKey].Value)
	if err != nil || len(f.Drains) != 1 || a.consul.pairs[shard].Value == nil {
		t.Fatalf("%+v, %v", f, err)
	}
	f.Epoch, f.Drains = f.Epoch+1, nil // another proxy's: undrain, and move --auto
	f.Backends[0].State, f.Backends[0].Reason, f.Backends[0].Drained = routing.Up, "", false
	f.Kept = append(f.Kept, Kept{Epoch: f.Epoch, Made: "p9/1", Up: upOf(f.Backends), Changes: []Change{{User: "ann", From: "b2"}}})
	if !a.consul.txn([]TxnOp{
		{Verb: CAS, Key: fleetKey, Value: encoded(t, f), Index: a.consul.pairs[fleetKey].ModifyIndex},
		{Verb: CAS, Key: shard, Value: encoded(t, &Overrides{Format: Format, Users: map[string]string{}}), Index: a.consul.pairs[shard].ModifyIndex},
	}) {
		t.Fatal("the other proxy's write is refused")
	}
	a.pass(15 * time.Second)
	if a.m.Drained("b1") != 0 || a.m.Override("ann") != "" || a.state("b1") != routing.Up || a.m.fleet.Epoch < f.Epoch {
		t.Errorf("epoch %d: drained %d, override %q", a.m.fleet.Epoch, a.m.Drained("b1"), a.m.Override("ann"))
	}
}

// A preview says where a backend's users would go, and a drain sends them there.
func TestAPreviewIsRight(t *testing.T) {
	a := newAlone(t, Options{})
	a.fleet(1, routing.Up, routing.Up, routing.Up)
	there := a.logins(1000, "b1")
	a.pass(15 * time.Second)
	to, err := a.m.Preview("b1", a.now)
	if err != nil || to["b2"]+to["b3"] != there || to["b2"] == 0 || to["b3"] == 0 {
		t.Fatalf("of %d users: %v, %v", there, to, err)
	}
	if _, err := a.m.Preview("b7", a.now); !errors.Is(err, ErrUnknownBackend) {
		t.Error(err)
	}
	if a.settle(); a.m.Drained("b1") != 0 {
		t.Error("a preview drains")
	}
	a.drain(DrainRequest{Backend: "b1"})
	got := make(map[string]int)
	for _, h := range a.m.holds {
		if h.at == a.m.places.of("b1") {
			got[a.m.places.ids[a.m.tables[len(a.m.tables)-1].choice[h.bucket]]]++
		}
	}
	if got["b2"] != to["b2"] || got["b3"] != to["b3"] {
		t.Errorf("%v was said, it is %v", to, got)
	}
}

// Rounds after the first are at most two minutes long.
func TestTurns(t *testing.T) {
	m := Move{Begin: 1_000_000, Cycle: 600_000, Pause: 30_000}
	for _, c := range []struct {
		at     int64 // after Begin
		bucket int
		round  int64
		since  time.Duration
	}{
		{-1, 0, 0, 0}, {0, 0, 1, 0}, {299_999, 50, 0, 0}, {300_000, 50, 1, 0}, {310_000, 50, 1, 10 * time.Second},
		{629_999, 0, 1, 629_999 * time.Millisecond}, {630_000, 0, 2, 0}, {689_999, 50, 1, 389_999 * time.Millisecond}, {690_000, 50, 2, 0},
		{780_000, 0, 3, 0}, {840_000, 50, 3, 0},
	} {
		round, since := m.turn(c.bucket, 100, time.UnixMilli(m.Begin+c.at))
		if round != c.round || since != c.since {
			t.Errorf("bucket %d at %d: round %d since %v, not %d since %v", c.bucket, c.at, round, since, c.round, c.since)
		}
	}
}

// A dry run of a drain's end shows which users would come back: the backend's earlier users, by where they are.
func TestWhoWouldComeBack(t *testing.T) {
	a := newAlone(t, Options{})
	a.fleet(1, routing.Up, routing.Up)
	if _, err := a.m.PreviewEnd("b1", a.now); !errors.Is(err, ErrNotDrained) {
		t.Errorf("it isn't drained: %v", err)
	}
	if _, err := a.m.PreviewEnd("b9", a.now); !errors.Is(err, ErrUnknownBackend) {
		t.Errorf("there is no such backend: %v", err)
	}
	a.later(11 * time.Second) // flap_damp
	had := 0
	for i := range 100 {
		user := fmt.Sprint("user", i)
		got := a.m.Claim(user, "", a.now)
		if got.Backend == "b1" {
			had++
		}
		a.m.Release(user, a.now)
	}
	if _, err := a.m.Drain(DrainRequest{Backend: "b1"}, a.now); err != nil {
		t.Fatal(err)
	}
	a.later(time.Second)
	for i := range 100 {
		if got := a.m.Claim(fmt.Sprint("user", i), "", a.now); got.Verdict != Go || got.Backend != "b2" {
			t.Fatalf("%+v", got)
		}
	}
	if from, err := a.m.PreviewEnd("b1", a.now); err != nil || len(from) != 1 || from["b2"] != had || had == 0 {
		t.Errorf("%v, %v; %d users had been there", from, err, had)
	}
}

// What an operator wants is no flap: a drain and its end hold at once, however short a time ago the backend's
// state changed. What discovery says in that time waits for flap_damp.
func TestAnOperatorsWishIsNoFlap(t *testing.T) {
	a := newAlone(t, Options{Policy: Policy{FlapDamp: 30 * time.Second}})
	a.fleet(1, routing.Up, routing.Up)
	a.pass(31 * time.Second)
	for range 3 {
		a.drain(DrainRequest{Backend: "b1"})
		if is := a.m.fleet.backend("b1"); is.State != routing.Draining || !is.Drained || is.Reason != drainedReason {
			t.Fatalf("after a drain: %+v", is)
		}
		if d := a.m.fleet.drain("b1"); d.Begin == 0 {
			t.Fatalf("the drain hasn't begun: %+v", d)
		}
		if err := a.m.Undrain("b1", a.now); err != nil {
			t.Fatal(err)
		}
		a.pass(time.Second)
		if is := a.m.fleet.backend("b1"); is.State != routing.Up || is.Drained || is.Reason != "" {
			t.Fatalf("after its end: %+v", is)
		}
	}
	a.fleet(2, routing.Down, routing.Up)
	if a.state("b1") != routing.Up {
		t.Error("discovery's answer doesn't wait for flap_damp")
	}
	a.drain(DrainRequest{Backend: "b1"})
	if a.state("b1") != routing.Draining {
		t.Errorf("discovery's answer waits, and so does the drain: %v", a.state("b1"))
	}
	a.pass(31 * time.Second)
	if a.state("b1") != routing.Down {
		t.Errorf("after flap_damp it is %v", a.state("b1"))
	}
}
