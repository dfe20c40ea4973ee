package proxy

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// unswept makes only the test ask sessions to park.
func (l *lab) unswept() {
	l.srv.sweeping.Lock()
	l.t.Cleanup(l.srv.sweeping.Unlock) // before the server's end
}

// A session is asked to park, and ends before it has heard of that: its connection is in the
// pool by then, and must not be stopped.
func TestASessionEndsWhileItIsAskedToPark(t *testing.T) {
	l := newWarmLab(t, trusting, func(o *Options) { o.Park.QuietAfter = time.Nanosecond })
	l.unswept()
	c := l.login("alice")
	c.MustOK("NOOP")
	s := l.only()
	c.MustOK("LOGOUT")
	l.kept(1)
	if s.Signal(session.SigPause) {
		t.Error("a session that is over takes a signal")
	}
	l.login("alice").MustOK("NOOP")
	if n := l.logins.Load(); n != 1 {
		t.Errorf("%d logins at the backend: the connection isn't fit for the next", n)
	}
}

// A client that speaks up just as it is asked to pause, and whose reader waits for the backend's
// word in the middle of that, gets it: the backend's reader rests last.
func TestWhoIsAskedToParkWhileItPipelinesIsHeard(t *testing.T) {
	const burst = mostInFlight + 20
	p := newScripted(t, scriptedCaps, 3)
	begun, gate := make(chan struct{}), make(chan struct{})
	open, begin := sync.OnceFunc(func() { close(gate) }), sync.OnceFunc(func() { close(begun) })
	defer open()
	p.on("NOOP", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		begin()
		<-gate
		return c.Send(cmd.Tag() + " OK done")
	})
	p.unswept()
	c := p.login("alice")
	c.MustOK("SELECT INBOX")
	c.Write("i IDLE")
	c.Expect("+{*}")
	s := p.only()
	must(t, c.Conn.SendRaw("DONE\r\n"+strings.Repeat("n NOOP\r\n", burst)))
	<-begun
	c.Expect("i OK done")
	eventually(t, "the client's reader to wait for room", func() bool { return s.Info().InFlight == mostInFlight })
	s.Signal(session.SigPause)
	open()
	for range burst {
		c.Expect("n OK done")
	}
}

// A client that begins a long literal just as it is asked to pause goes on with it.
func TestWhoIsAskedToParkWhileALiteralBeginsGoesOnWithIt(t *testing.T) {
	const size = 4 * splicedFrom
	p := newScripted(t, scriptedCaps, 3)
	p.unswept()
	c := p.login("alice")
	c.MustOK("SELECT INBOX")
	c.Write("i IDLE")
	c.Expect("+{*}")
	s := p.only()
	must(t, c.Conn.SendRaw(fmt.Sprintf("DONE\r\na APPEND INBOX {%d+}\r\n%s", size, strings.Repeat("x", size/2))))
	eventually(t, "half of it", func() bool { return s.Info().BytesIn > splicedFrom/2 })
	c.Expect("i OK done")
	s.Signal(session.SigPause)
	must(t, c.Conn.SendRaw(strings.Repeat("x", size/2)+"\r\n"))
	c.Expect("a OK done")
	if got := s.Reason(); got != "" {
		t.Error(got)
	}
}
