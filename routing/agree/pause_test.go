package agree

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"imapproxy/routing"
)

// pause pauses a backend, and waits until the fleet has the pause.
func (a *alone) pause(backend string, d time.Duration) {
	a.t.Helper()
	p, err := a.m.Pause(PauseRequest{Backend: backend, By: "jane", For: d}, a.now)
	if err != nil {
		a.t.Fatal(err)
	}
	a.pass(time.Second)
	if a.m.Paused(backend) != p || p.By != "jane" {
		a.t.Fatalf("the fleet has %+v, not %+v", a.m.Paused(backend), p)
	}
}

// staysAtB1 checks that claims of a user go to b1, and that no user was asked to leave.
func (a *alone) staysAtB1(user string) {
	a.t.Helper()
	if got := a.m.Claim(user, "", a.now); got.Verdict != Go || got.Backend != "b1" {
		a.t.Errorf("a claim: %+v", got)
	} else {
		a.m.Release(user, a.now)
	}
	if left := a.take(LetGo); left != nil {
		a.t.Errorf("%v had to leave", left)
	}
}

// userAt returns a user that the fleet sends to the backend.
func (a *alone) userAt(backend string) string {
	a.t.Helper()
	for i := range 100 {
		user := fmt.Sprintf("someone%d", i)
		got := a.m.Claim(user, "", a.now)
		a.m.Release(user, a.now)
		if got.Backend == backend {
			return user
		}
	}
	a.t.Fatalf("no user goes to %s", backend)
	return ""
}

// While a backend is paused, and half a minute longer, neither discovery nor the proxies take it away: its
// users stay its users. After that its loss is an ordinary one.
func TestAPausedBackendKeepsItsUsers(t *testing.T) {
	for name, gone := range map[string]func(a *alone, index uint64){
		"down":     func(a *alone, index uint64) { a.fleet(index, routing.Down, routing.Up, routing.Up) },
		"draining": func(a *alone, index uint64) { a.fleet(index, routing.Draining, routing.Up, routing.Up) },
		"not listed": func(a *alone, index uint64) {
			d := Discovery{Index: index}
			for _, id := range []string{"b2", "b3"} {
				d.Backends = append(d.Backends, routing.Backend{ID: id, Address: "127.0.0.1:143", Weight: 1})
			}
			a.m.Discover(d, a.now)
			a.settle()
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAlone(t, Options{Policy: Policy{FailoverAfter: 10 * time.Second}})
			a.fleet(1, routing.Up, routing.Up, routing.Up)
			a.pass(40 * time.Second)
			user := a.userAt("b1")
			a.pause("b1", time.Minute)
			gone(a, 2)
			a.m.Unreachable([]string{"b1"}, a.now)
			a.pass(55 * time.Second)
			a.staysAtB1(user)
			a.m.Unreachable(nil, a.now)
			a.pass(30 * time.Second) // a check is late
			a.staysAtB1(user)
			a.pass(10 * time.Second)
			if a.state("b1") == routing.Up || a.m.Paused("b1") != (Pause{}) {
				t.Errorf("long after the pause: %v, %+v", a.state("b1"), a.m.Paused("b1"))
			}
		})
	}
}

// A backend that doesn't come back after its pause is lost when most proxies can't reach it.
func TestAPausedBackendThatDoesntComeBackIsLost(t *testing.T) {
	a := newAlone(t, Options{Policy: Policy{FailoverAfter: 10 * time.Second}})
	a.fleet(1, routing.Up, routing.Up, routing.Up)
	a.pass(40 * time.Second)
	a.m.Unreachable([]string{"b1"}, a.now) // its first seconds don't count
	a.pass(5 * time.Second)
	a.pause("b1", time.Minute)
	a.pass(50 * time.Second)
	p, err := a.m.Resume("b1", a.now)
	if err != nil {
		t.Fatal(err)
	}
	a.pass(5 * time.Second)
	if a.m.Paused("b1") != p || a.state("b1") != routing.Up {
		t.Fatalf("5 s after the end: %+v, %v", a.m.Paused("b1"), a.state("b1"))
	}
	a.pass(10 * time.Second)
	if b := a.m.fleet.backend("b1"); b.State != routing.Down || b.Reason != "most proxies can't reach it" {
		t.Errorf("15 s after the end: %+v", b)
	}
}

// A pause outlives the proxy that was asked, changes nothing about a backend that is down, and doesn't keep a
// backend from being drained.
func TestAPauseHolds(t *testing.T) {
	a := newAlone(t, Options{})
	a.fleet(1, routing.Up, routing.Up, routing.Down)
	a.pass(40 * time.Second)
	a.pause("b1", 5*time.Minute)
	a.pause("b3", 5*time.Minute)
	a.fleet(2, routing.Up, routing.Up, routing.Draining)
	if a.state("b3") != routing.Draining {
		t.Errorf("a backend that was down and is paused: %v", a.state("b3"))
	}

	b := newAlone(t, Options{ID: "p2"})
	b.consul, b.now = a.consul, a.now
	for _, p := range a.m.latest.Proxies {
		delete(b.consul.pairs, proxyKey(p.ID))
	}
	b.consul.changed()
	b.fleet(3, routing.Down, routing.Up, routing.Down)
	b.pass(40 * time.Second)
	if b.m.Paused("b1") != a.m.Paused("b1") || b.state("b1") != routing.Up {
		t.Fatalf("after a restart: %+v, %v", b.m.Paused("b1"), b.state("b1"))
	}
	b.drain(DrainRequest{Backend: "b1"})
	if b.state("b1") != routing.Draining {
		t.Errorf("drained: %v", b.state("b1"))
	}
	if err := b.m.Undrain("b1", b.now); err != nil {
		t.Fatal(err)
	}
	b.pass(40 * time.Second)
	if b.state("b1") != routing.Up {
		t.Errorf("not drained any more, still paused: %v", b.state("b1"))
	}
	b.pause("b1", 2*time.Minute) // replaces it
	if s := b.m.Status(b.now).Pauses; len(s) != 2 || s[0].Until != b.now.Add(2*time.Minute-time.Second).UnixMilli() {
		t.Errorf("%+v", s)
	}
}

func TestPausesThatCantBe(t *testing.T) {
	a := newAlone(t, Options{})
	if _, err := a.m.Pause(PauseRequest{Backend: "b1", For: time.Minute}, a.now); !errors.Is(err, ErrNotInside) {
		t.Errorf("before it has joined: %v", err)
	}
	if _, err := a.m.Resume("b1", a.now); !errors.Is(err, ErrNotInside) {
		t.Errorf("before it has joined: %v", err)
	}
	a.fleet(1, routing.Up, routing.Up)
	for _, c := range []struct {
		name string
		r    PauseRequest
		want error
	}{
		{"an unknown backend", PauseRequest{Backend: "b9", For: time.Minute}, ErrUnknownBackend},
		{"no time", PauseRequest{Backend: "b1"}, nil},
		{"a negative time", PauseRequest{Backend: "b1", For: -1}, nil},
		{"an hour", PauseRequest{Backend: "b1", For: time.Hour}, nil},
	} {
		if _, err := a.m.Pause(c.r, a.now); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := a.m.Resume("b9", a.now); !errors.Is(err, ErrUnknownBackend) {
		t.Errorf("resume of an unknown backend: %v", err)
	}
	if _, err := a.m.Resume("b1", a.now); !errors.Is(err, ErrNotPaused) {
		t.Errorf("resume of one that isn't paused: %v", err)
	}
	a.pause("b1", time.Minute)
	for range 2 {
		if _, err := a.m.Resume("b1", a.now); err != nil {
			t.Fatal(err)
		}
		if _, err := a.m.Resume("b1", a.now); !errors.Is(err, ErrNotPaused) {
			t.Errorf("a second resume: %v", err)
		}
		a.pause("b1", time.Minute) // again, while the end of the first is remembered
	}
	separate := newAlone(t, Options{Storage: routing.Separate})
	separate.fleet(1, routing.Up, routing.Up)
	separate.pause("b1", time.Minute)
}

// Operators pause backends for a while, or end that, at any time.
func (w *world) pauses(seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0x9a5e)) // of its own: it doesn't change what else happens in this world
	between := func(a, b time.Duration) time.Duration { return a + time.Duration(rng.Int64N(int64(b-a)+1)) }
	var next func()
	next = func() {
		if w.quiet {
			return
		}
		w.after(between(100*time.Millisecond, 8*time.Second), next)
		n, id, d, resume := w.nodes[rng.IntN(len(w.nodes))], fmt.Sprintf("b%d", 1+rng.IntN(3)), between(100*time.Millisecond, 5*time.Second), rng.IntN(3) == 0
		n.later(0, func() {
			var err error
			if resume {
				_, err = n.m.Resume(id, n.clock())
			} else {
				_, err = n.m.Pause(PauseRequest{Backend: id, By: "an operator", For: d}, n.clock())
			}
			w.trace("%s: pause of %s for %v (end: %v): %v", n.id(), id, d, resume, err)
		})
	}
	w.after(between(0, 5*time.Second), next)
}

// pausedKept checks that a backend that is paused, or was until a moment ago, isn't taken away but by a drain or
// the proxies' reports.
func (w *world) pausedKept(prev, next *Fleet) {
	for _, p := range next.Pauses {
		was, is := prev.backend(p.Backend), next.backend(p.Backend)
		if was == nil || was.State != routing.Up || is != nil && (is.State == routing.Up || is.Drained || is.Reason == "most proxies can't reach it") {
			continue
		}
		w.fail("%s was up, and is %+v while it is paused", p.Backend, is)
	}
}
