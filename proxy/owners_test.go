package proxy

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"imapproxy/internal/imaptest"
)

// A client that speaks up just as it is asked to pause, and whose reader waits for the backend's
// word in the middle of that, gets it: the backend's reader rests last.
func TestWhoIsAskedToParkWhileItPipelinesIsHeard(t *testing.T) {
	const burst = maxInFlight + 20
	p := newScripted(t, scriptedCaps, 3)
	p.srv.sweeping.Lock() // nobody else asks
	defer p.srv.sweeping.Unlock()
	begun, gate := make(chan struct{}), make(chan struct{})
	open, begin := sync.OnceFunc(func() { close(gate) }), sync.OnceFunc(func() { close(begun) })
	defer open()
	p.on("NOOP", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		begin()
		<-gate
		return c.Send(cmd.Tag() + " OK done")
	})
	c := p.login("alice")
	c.MustOK("SELECT INBOX")
	c.Write("i IDLE")
	c.Expect("+{*}")
	s := p.only()
	s.park.refused.Store(1)
	s.park.mu.Lock()
	var asking sync.WaitGroup
	asking.Go(func() { s.askToPark(s.srv.now()) })
	eventually(t, "the question, but for its last step", func() bool { return s.park.refused.Load() == 0 })
	must(t, c.Conn.SendRaw("DONE\r\n"+strings.Repeat("n NOOP\r\n", burst)))
	<-begun
	eventually(t, "the client's reader to wait for room", func() bool { return s.flight.waiting() == maxInFlight })
	c.Expect("i OK done")
	s.park.mu.Unlock()
	asking.Wait()
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
	s.transition(Ended) // its second
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
	p.srv.sweeping.Lock() // nobody else asks
	defer p.srv.sweeping.Unlock()
	c := p.login("alice")
	c.MustOK("SELECT INBOX")
	c.Write("i IDLE")
	c.Expect("+{*}")
	s := p.only()
	s.park.refused.Store(1)
	s.park.mu.Lock()
	var asking sync.WaitGroup
	asking.Go(func() { s.askToPark(s.srv.now()) })
	eventually(t, "the question, but for its last step", func() bool { return s.park.refused.Load() == 0 })
	must(t, c.Conn.SendRaw(fmt.Sprintf("DONE\r\na APPEND INBOX {%d+}\r\n%s", size, strings.Repeat("x", size/2))))
	eventually(t, "half of it", func() bool { return s.bytesIn.Load() > spliceFrom/2 })
	c.Expect("i OK done")
	s.park.mu.Unlock()
	asking.Wait()
	must(t, c.Conn.SendRaw(strings.Repeat("x", size/2)+"\r\n"))
	c.Expect("a OK done")
	if got := s.reason(); got != "" {
		t.Error(got)
	}
}
