package proxy

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// unswept has nobody but the test ask sessions to park.
func (l *lab) unswept() {
	l.srv.sweeping.Lock()
	l.t.Cleanup(l.srv.sweeping.Unlock) // before the server's end
}

// A session is asked to park, and ends before it has heard of that: its connection is in the
// pool by then, and nobody's to stop.
func TestASessionEndsWhileItIsAskedToPark(t *testing.T) {
	l := newWarmLab(t, trusting, func(o *Options) { o.Park.QuietAfter = time.Nanosecond })
	l.unswept()
	c := l.login("alice")
	c.MustOK("NOOP")
	s := l.only()
	c.MustOK("LOGOUT")
	l.kept(1)
	if s.signal(sigPause) {
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
	const burst = maxInFlight + 20
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
	eventually(t, "the client's reader to wait for room", func() bool { return s.flight.waiting() == maxInFlight })
	s.signal(sigPause)
	open()
	for range burst {
		c.Expect("n OK done")
	}
}

// A session ends by itself just as somebody ends it: it is counted as gone once.
func TestASessionThatEndsTwiceAtOnceIsCountedOnce(t *testing.T) {
	l := newParkLab(t, ParkOptions{}, nil)
	user, d := l.user(1)
	w := l.watch(user, d.Truth)
	w.BeginIdle()
	s := l.parked(w)
	s.end(ReasonShutdown) // over, up to its first step
	_ = w.Conn.Close()
	l.gone(w)
	eventually(t, "the end", func() bool { return l.srv.reg.total.Load() == 0 })
	s.show(Ended) // its second
	for a := range l.srv.reg.counts {
		if n := l.srv.reg.counts[a].Load(); n != 0 {
			t.Errorf("%d sessions %s, and there is none", n, Attachment(a))
		}
	}
}

// What the hub has to say to a session as it was parked, one that has come back doesn't heed.
func TestAMailboxThatWasGoneEndsNobodyWhoHasComeBack(t *testing.T) {
	l := newParkLab(t, ParkOptions{}, nil)
	user, d := l.user(1)
	w := l.watch(user, d.Truth)
	w.BeginIdle()
	s := l.parked(w)
	m := s.member()
	w.EndIdle()
	w.Say("UID FETCH 1:* (FLAGS)")
	m.Gone(errors.New("NO"))
	if r := s.reason(); r != "" {
		t.Errorf("it has ended: %s", r)
	}
}

// A client that begins a long literal just as it is asked to pause goes on with it.
func TestWhoIsAskedToParkWhileALiteralBeginsGoesOnWithIt(t *testing.T) {
	const size = 4 * spliceFrom
	p := newScripted(t, scriptedCaps, 3)
	p.unswept()
	c := p.login("alice")
	c.MustOK("SELECT INBOX")
	c.Write("i IDLE")
	c.Expect("+{*}")
	s := p.only()
	must(t, c.Conn.SendRaw(fmt.Sprintf("DONE\r\na APPEND INBOX {%d+}\r\n%s", size, strings.Repeat("x", size/2))))
	eventually(t, "half of it", func() bool { return s.bytesIn.Load() > spliceFrom/2 })
	c.Expect("i OK done")
	s.signal(sigPause)
	must(t, c.Conn.SendRaw(strings.Repeat("x", size/2)+"\r\n"))
	c.Expect("a OK done")
	if got := s.reason(); got != "" {
		t.Error(got)
	}
}
