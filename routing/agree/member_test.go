package agree

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"imapproxy/routing"
)

// alone is a Member and a Consul that answers at once.
type alone struct {
	t      testing.TB
	m      *Member
	consul *fakeConsul
	now    time.Time
	told   []Effect
	answer func(Op) Result // in place of consul's, if it isn't nil
}

func newAlone(t testing.TB, o Options) *alone {
	t.Helper()
	a := &alone{t: t, now: epoch0}
	a.consul = newFakeConsul(&world{rng: rand.New(rand.NewPCG(1, 1)), changedAt: make(map[string]time.Duration), undrained: make(map[string]bool), trace: func(string, ...any) {}})
	if o.ID == "" {
		o.ID = "p1"
	}
	if o.Storage == 0 {
		o.Storage = routing.Shared
	}
	o.Users = "as they are"
	m, err := New(o, a.now)
	if err != nil {
		t.Fatal(err)
	}
	a.m = m
	return a
}

// fleet is a new answer of discovery.
func (a *alone) fleet(index uint64, states ...routing.State) {
	d := Discovery{Index: index}
	for i, s := range states {
		d.Backends = append(d.Backends, routing.Backend{ID: fmt.Sprintf("b%d", i+1), Address: "127.0.0.1:143", Weight: 1, State: s})
	}
	a.m.Discover(d, a.now)
	a.settle()
}

// settle answers requests, and the watch, until there are none.
func (a *alone) settle() {
	a.t.Helper()
	for range 50 {
		ops, effects := a.m.Take()
		a.told = append(a.told, effects...)
		for _, op := range ops {
			answer := a.answer
			if answer == nil {
				answer = a.consul.do
			}
			r := answer(op)
			r.Sent = a.now
			a.m.Done(op.ID, r, a.now)
		}
		if a.m.latest != nil && a.m.latest.Index < a.consul.index {
			a.m.Read(a.consul.read(false, 0), a.now)
			continue
		}
		if len(ops) == 0 {
			return
		}
	}
	a.t.Fatal("the requests don't end")
}

func (a *alone) later(d time.Duration) {
	a.t.Helper()
	a.now = a.now.Add(d)
	a.m.Tick(a.now)
	a.settle()
}

func TestAClaimAllocatesNothing(t *testing.T) {
	a := newAlone(t, Options{})
	a.fleet(1, routing.Up, routing.Up)
	claim := func() {
		if got := a.m.Claim("ann@example.org", "", a.now); got.Verdict != Go {
			t.Fatalf("%+v", got)
		}
		a.m.Release("ann@example.org", a.now)
	}
	claim()
	if n := testing.AllocsPerRun(100, claim); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if ops, _ := a.m.Take(); len(ops) != 0 {
		t.Errorf("a claim asks for %+v", ops)
	}
}

// A backend with a third of 100,000 users is drained: one write of less than 2 KB publishes the stays of all
// of them.
func TestASwitchOfManyUsersIsOneSmallWrite(t *testing.T) {
	a := newAlone(t, Options{})
	a.fleet(1, routing.Up, routing.Up, routing.Up)
	const users = 100_000
	for i := range users {
		if got := a.m.Claim(fmt.Sprintf("user%d", i), "", a.now); got.Verdict != Go {
			t.Fatalf("%+v", got)
		}
	}
	a.later(time.Minute / 4)
	a.fleet(2, routing.Draining, routing.Up, routing.Up)
	if a.m.own.Acked != 2 {
		t.Fatalf("epoch %d is acked", a.m.own.Acked)
	}
	want := 0
	for b := range routing.Buckets {
		if a.m.tables[0].choice[b] == a.m.places.of("b1") {
			want++
		}
	}
	if got := stays(a.m.own); got != want || got < 1000 {
		t.Errorf("%d stays, b1 had %d buckets", got, want)
	}
	if n := len(a.consul.pairs["proxies/p1"].Value); n > 2000 {
		t.Errorf("%d bytes", n)
	}
	if a.m.fleet.Move.Cycle < 200_000 { // 33,000 users at 100 a second
		t.Errorf("they are moved within %d ms", a.m.fleet.Move.Cycle)
	}
}

// A proxy alone that can't renew its session stops trusting what it knows in time, and with Hold closes all
// connections.
func TestIsolation(t *testing.T) {
	for _, mode := range []Mode{Serve, Hold} {
		a := newAlone(t, Options{Isolated: mode})
		a.fleet(1, routing.Up, routing.Up)
		if got := a.m.Claim("ann", "", a.now); got.Verdict != Go {
			t.Fatalf("%+v", got)
		}
		a.told = nil
		at := a.m.Deadline().Add(time.Millisecond) // no answer to any renewal until then
		if left := at.Sub(a.now); left > 45*time.Second-2*time.Second {
			t.Errorf("it trusts itself for %v", left)
		}
		a.m.Tick(at)
		_, effects := a.m.Take()
		closes := false
		for _, e := range effects {
			closes = closes || e.Kind == CloseAll
		}
		if a.m.Trusted(at) || closes != (mode == Hold) {
			t.Errorf("mode %d: trusted %v, closes %v", mode, a.m.Trusted(at), closes)
		}
		for user, want := range map[string]Verdict{"ann": Go, "bob": Go} {
			if mode == Hold {
				want = Wait
			}
			if got := a.m.Claim(user, "", at); got.Verdict != want {
				t.Errorf("mode %d, %s: %+v", mode, user, got)
			}
		}
	}
}

// With separate storage the placement decides, and an operator's move overrides it.
func TestSeparateStorage(t *testing.T) {
	a := newAlone(t, Options{Storage: routing.Separate})
	a.fleet(1, routing.Up, routing.Up, routing.Down)
	for _, c := range []struct {
		home, want string
		verdict    Verdict
	}{{"b1", "b1", Go}, {"b2", "b2", Go}, {"b3", "", Refuse}, {"b9", "", Refuse}, {"", "", Refuse}} {
		got := a.m.Claim("ann", c.home, a.now)
		if got.Verdict != c.verdict || got.Backend != c.want {
			t.Errorf("placed at %q: %+v", c.home, got)
		}
		if got.Verdict == Go {
			a.m.Release("ann", a.now)
		}
	}
	if err := a.m.MoveUser("ann", "b2", a.now); err != nil {
		t.Fatal(err)
	}
	a.settle()
	if got := a.m.Claim("ann", "b1", a.now); got.Backend != "b2" {
		t.Errorf("moved to b2: %+v", got)
	}
}

// A placement that differs from the function is made an override, which all proxies see, and then followed.
func TestAPlacementBecomesAnOverride(t *testing.T) {
	a := newAlone(t, Options{})
	a.fleet(1, routing.Up, routing.Up)
	home := "b1"
	if a.m.Claim("ann", "", a.now).Backend == home {
		home = "b2"
	}
	a.m.Release("ann", a.now)
	if got := a.m.Claim("ann", home, a.now); got.Verdict != Wait {
		t.Fatalf("before the others know: %+v", got)
	}
	a.settle()
	if got := a.m.Claim("ann", home, a.now); got.Backend != home || a.m.Override("ann") != home {
		t.Errorf("%+v", got)
	}
}
