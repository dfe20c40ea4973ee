package proxy

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/routing"
)

func TestAUserWhoIsMovedDuringEveryTryIsToldToComeBack(t *testing.T) {
	var l *lab
	var moves, tries atomic.Int32
	moves.Store(triedBackends)
	d := polite()
	d.Check = func(*imaptest.BackendConn, imaptest.Login) string {
		tries.Add(1)
		if moves.Add(-1) < 0 {
			return ""
		}
		// Another device of the user finds the backend dead while this login goes on.
		pin, err := l.router.Pick("alice", "")
		if err != nil {
			return "NO " + err.Error()
		}
		pin.Release()
		moved, err := l.router.Pick("alice", "", pin.Backend.ID)
		if err != nil {
			return "NO " + err.Error()
		}
		moved.Release()
		return ""
	}
	l = newLab(t, labOptions{handlers: []imaptest.Handler{d.Serve, d.Serve, d.Serve}})
	c := l.dial(plain)
	unavailable(t, l, c.TryLogin("alice", password))
	if n := tries.Load(); n != triedBackends {
		t.Fatalf("%d tries", n)
	}
	for _, b := range l.backends {
		b.WaitOpen(0)
	}
	c.Login("alice", password)
	c.MustOK("NOOP")
}

// A proxy listens before its discovery has answered.
func TestALoginBeforeTheFirstAnswerOfDiscoveryIsNotRefused(t *testing.T) {
	const logins = 20
	backend := imaptest.NewBackend(t, polite().Serve)
	var picking sync.WaitGroup
	picking.Add(logins)
	l := newLab(t, labOptions{handlers: []imaptest.Handler{}, rows: []routing.Backend{}, change: func(o *Options) {
		o.Placement = func(context.Context, string) (string, bool, error) { picking.Done(); return "", false, nil }
	}})
	var clients []*imaptest.Client
	for range logins {
		c := l.dial(plain)
		c.Write("a LOGIN alice " + password)
		clients = append(clients, c)
	}
	picking.Wait()
	if l.router.Ready() {
		t.Fatal("an empty set counts as an answer")
	}
	l.router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{{ID: "b1", Address: backend.Addr, Weight: 1}}})
	for _, c := range clients {
		if a := c.Read(); !strings.HasPrefix(a.Text, "a OK") {
			t.Fatal(a)
		}
	}
}
