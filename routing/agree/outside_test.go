package agree

import (
	"strings"
	"testing"
	"time"

	"imapproxy/routing"
)

// another writes another proxy's key, as a proxy whose session lives.
func (a *alone) another(acked uint64, unreachable ...string) {
	a.t.Helper()
	c := a.consul
	key := proxyKey("p2")
	was := c.pairs[key]
	if was.Session == "" {
		was.Session = c.create(time.Hour)
	}
	c.index++
	value := encoded(a.t, &Record{
		Format: Format, ID: "p2", Seq: c.index, Acked: acked, Made: a.m.fleet.kept(acked).Made, TTL: 45_000, Unreachable: unreachable,
		About: About{Version: "1", Started: 1},
	})
	c.pairs[key] = Pair{Key: key, Value: value, ModifyIndex: c.index, Session: was.Session}
	c.changed()
	a.settle()
}

// A backend that one of two proxies can't reach stays up. One that both can't reach for failover_after is down, and is up again
// once they reach it.
func TestABackendThatNoProxyReaches(t *testing.T) {
	a := newAlone(t, Options{Policy: Policy{FailoverAfter: 10 * time.Second, FlapDamp: time.Second}})
	a.fleet(1, routing.Up, routing.Up, routing.Up)
	a.another(1)
	a.m.Unreachable([]string{"b1"}, a.now)
	a.pass(30 * time.Second)
	if s := a.state("b1"); s != routing.Up {
		t.Errorf("one of two can't reach it: it is %v", s)
	}
	a.another(a.m.fleet.Epoch, "b1")
	a.pass(8 * time.Second)
	if s := a.state("b1"); s != routing.Up {
		t.Errorf("both can't reach it, for 8 s: it is %v", s)
	}
	a.pass(4 * time.Second)
	if b := a.m.fleet.backend("b1"); b.State != routing.Down || !strings.Contains(b.Reason, "most proxies") {
		t.Errorf("both can't reach it, for 12 s: it is %v (%s)", b.State, b.Reason)
	}
	a.another(a.m.fleet.Epoch)
	a.m.Unreachable(nil, a.now)
	a.pass(3 * time.Second)
	if s := a.state("b1"); s != routing.Up {
		t.Errorf("both reach it again: it is %v", s)
	}
}

// An answer that takes away more backends than panic_threshold takes away none; one that takes away fewer is applied.
func TestTooManyBackendsAreLostAtOnce(t *testing.T) {
	a := newAlone(t, Options{Policy: Policy{PanicThreshold: 0.5, FlapDamp: time.Second}})
	a.fleet(1, routing.Up, routing.Up, routing.Up)
	a.pass(2 * time.Second)
	a.fleet(2, routing.Down, routing.Down, routing.Up)
	a.pass(2 * time.Second)
	for _, id := range []string{"b1", "b2"} {
		if b := a.m.fleet.backend(id); b.State != routing.Up || !b.Kept {
			t.Errorf("two of three are lost: %s is %v, kept %v", id, b.State, b.Kept)
		}
	}
	a.fleet(3, routing.Down, routing.Up, routing.Up)
	a.pass(2 * time.Second)
	if one, other := a.state("b1"), a.state("b2"); one != routing.Down || other != routing.Up {
		t.Errorf("one of three is lost: they are %v and %v", one, other)
	}
}

// No more than sixteen fleets are made for a proxy that lives and acks none of them; once it acks, the next one is made.
func TestAProxyThatAcksNothing(t *testing.T) {
	a := newAlone(t, Options{Policy: Policy{FlapDamp: time.Second}})
	a.fleet(1, routing.Up, routing.Up, routing.Up)
	a.another(1)
	states := []routing.State{routing.Draining, routing.Up}
	for i := range 20 {
		a.fleet(uint64(2+i), states[i%2], routing.Up, routing.Up)
		a.pass(2 * time.Second)
	}
	if f := a.m.fleet; f.Epoch != maxKept || len(f.Kept) != maxKept {
		t.Errorf("the fleet is %d, %d are kept", f.Epoch, len(f.Kept))
	}
	if got := a.m.Claim(a.userAt("b2"), "", a.now); got.Verdict != Go {
		t.Errorf("a claim of a user whom no fleet moves: %+v", got)
	}
	a.another(maxKept)
	a.fleet(30, states[a.m.fleet.Epoch%2], routing.Down, routing.Up)
	a.pass(2 * time.Second)
	if f := a.m.fleet; f.Epoch <= maxKept || len(f.Kept) > 3 {
		t.Errorf("after it acked, the fleet is %d, %d are kept", f.Epoch, len(f.Kept))
	}
}

// A proxy that normalises users in another way, or has another storage or another number of buckets, doesn't join, and says why.
func TestAProxyThatDiffersDoesntJoin(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"normalise": func(o *Options) { o.Users = "lowercase" },
		"storage":   func(o *Options) { o.Storage = routing.Separate },
		"buckets":   func(o *Options) { o.Buckets = 512 },
	} {
		t.Run(name, func(t *testing.T) {
			a := newAlone(t, Options{})
			a.fleet(1, routing.Up, routing.Up)
			o := Options{ID: "p2", Users: "as they are", Storage: routing.Shared}
			change(&o)
			m, err := New(o, a.now)
			if err != nil {
				t.Fatal(err)
			}
			b := &alone{t: t, m: m, consul: a.consul, now: a.now}
			b.fleet(1, routing.Up, routing.Up)
			b.pass(5 * time.Second)
			told := ""
			for _, e := range b.told {
				if e.Kind == Trouble {
					told += e.Err.Error()
				}
			}
			if state := b.m.Status(b.now).State; state != "joining" || !strings.Contains(told, name) {
				t.Errorf("it is %s, and says %q", state, told)
			}
			if got := b.m.Claim("ann", "", b.now); got.Verdict != Wait {
				t.Errorf("a claim there: %+v", got)
			}
		})
	}
}
