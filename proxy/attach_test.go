package proxy

import (
	"sync/atomic"
	"testing"

	"imapproxy/internal/imaptest"
)

func TestAUserWhoIsMovedDuringEveryTryIsToldToComeBack(t *testing.T) {
	var l *lab
	var moves, tries atomic.Int32
	moves.Store(maxBackends)
	d := polite()
	d.Check = func(*imaptest.BackendConn, imaptest.Login) string {
		tries.Add(1)
		if moves.Add(-1) < 0 {
			return ""
		}
		// Another device of hers finds the backend dead while this login goes on.
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
	if n := tries.Load(); n != maxBackends {
		t.Fatalf("%d tries", n)
	}
	for _, b := range l.backends {
		b.WaitOpen(0)
	}
	c.Login("alice", password)
	c.MustOK("NOOP")
}
