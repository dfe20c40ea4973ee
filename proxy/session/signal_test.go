package session

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/conn"
	"imapproxy/proxy/upstream"
)

// The last line waits for a boundary, and the client is lost before one comes.
func TestAClientThatIsLostBeforeItsLastLineIsGivenUp(t *testing.T) {
	client, _ := oneConn(t)
	hungUp := 0
	out := clientOut{conn: client, hangUp: func() { hungUp++ }}
	out.setLast([]byte("* BYE\r\n"))
	if hungUp != 0 {
		t.Fatal("it was given up though a response may be on its way")
	}
	client.Interrupt(conn.Writes)
	if err := out.relay([]byte("* 1 EXISTS\r\n"), true); err == nil {
		t.Fatal("written")
	}
	if hungUp != 1 {
		t.Errorf("it was given up %d times", hungUp)
	}
}

// A goroutine that ends a session doesn't write to its client: the sweep, the hub and a shutdown have other
// sessions to handle.
func TestTheLastLineIsLeftToTheSessionsOwner(t *testing.T) {
	ours, theirs := oneConn(t)
	hungUp := 0
	o := clientOut{conn: ours, boundary: true, hangUp: func() { hungUp++ }}
	o.setLast([]byte("* BYE first\r\n"))
	o.setLast([]byte("* BYE second\r\n"))
	if !bytes.Equal(o.pending, []byte("* BYE first\r\n")) || hungUp != 1 {
		t.Errorf("%q is still to be written, hung up %d times", o.pending, hungUp)
	}
	if err := o.relay([]byte("* 1 EXISTS\r\n"), true); err != errSessionOver {
		t.Error(err)
	}
	o.finish()
	c := imaptest.NewConn(theirs)
	if r, err := c.Next(); err != nil || r.Text != "* BYE first" {
		t.Errorf("%q %v", r.Text, err)
	}
	if r, err := c.Next(); err == nil {
		t.Errorf("behind it: %q", r.Text)
	}
}

// A session that was aborted doesn't wait for its backend.
func TestASeveredSessionTidiesNothingUp(t *testing.T) {
	b := imaptest.NewBackend(t, polite(nil))
	r := newRig(t, b)
	c := r.login("alice")
	c.MustOK("SELECT INBOX")
	s := r.only()
	s.out.writeMu.Lock() // the owner can't send its last line yet
	c.Write("b LOGOUT")
	eventually(t, "the word", func() bool { return s.Reason() == ReasonLogout })
	s.hangUp() // as the goroutine that holds writeMu does before it unlocks
	eventually(t, "the end's phase", func() bool {
		s.control.mu.Lock()
		defer s.control.mu.Unlock()
		return s.control.phase == phaseEnd
	})
	s.abort()
	s.out.writeMu.Unlock()
	r.ended(s, ReasonLogout)
	for _, cmd := range b.Commands() {
		if strings.HasPrefix(cmd.Name, "UNSELECT") || strings.HasPrefix(cmd.Name, "CLOSE") {
			t.Errorf("its backend was told %q", cmd.Text)
		}
	}
}

// A goroutine that ends a session just as its connection goes to the pool touches neither the closed handle
// nor a connection that belongs to another session by then.
func TestASessionEndsWhileItsConnectionIsHandedOver(t *testing.T) {
	r := newRig(t, imaptest.NewBackend(t, polite(nil)))
	c := r.login("alice")
	c.MustOK("NOOP") // its relay has begun, and has loaded its connection
	s := r.only()
	b, err := s.set.Dialer.Login(t.Context(), s.target(), s.auth(), upstream.Client{})
	must(t, err)
	own := s.backend.Load()
	for range 300 {
		s.backend.Store(b)
		var ends sync.WaitGroup
		ends.Go(func() {
			s.control.mu.Lock()
			defer s.control.mu.Unlock()
			s.interruptBackendLocked()
		})
		s.give(b, upstream.Condition{})
		ends.Wait()
		if b = r.pool.Take(s.poolKey(upstream.UseSession), upstream.Verified, s.addr.Addr()); b == nil {
			t.Fatal("the connection isn't lent again")
		}
		must(t, b.Pending())
	}
	if _, err := b.Write([]byte("x NOOP\r\n")); err != nil {
		t.Errorf("the next session's connection: %v", err)
	}
	_ = b.Close()
	s.backend.Store(own)
	c.MustOK("NOOP")
}

// The sweep measures the time of an ended session from endedAt: if that were still 0, the session would be
// aborted before its client is told. The test looks when Terminate reads the clock.
func TestASessionThatIsOverHasItsTimeAtOnce(t *testing.T) {
	r := newRig(t, imaptest.NewBackend(t, polite(nil)))
	c := r.login("alice")
	c.MustOK("NOOP")
	s := r.only()
	var early atomic.Bool
	look := func() {
		if s.Reason() != "" && s.endedAt.Load() == 0 {
			early.Store(true)
		}
	}
	r.look.Store(&look)
	s.Terminate(ReasonIdle)
	c.Expect("* BYE [LIMIT] Autologout{*}")
	c.ExpectEOF()
	r.ended(s, ReasonIdle)
	r.look.Store(nil)
	if early.Load() {
		t.Error("it was over before it had a time")
	}
	first := s.endedAt.Load()
	r.ahead.Store(int64(time.Hour))
	s.Terminate(ReasonShutdown)
	if s.endedAt.Load() != first || s.Reason() != ReasonIdle {
		t.Error("a second end counts")
	}
}

// lastHeard is set before a session becomes visible. Otherwise a sweep between a login and its relay would ask
// the client's side to pause, the interruption would be cleared, and the session would hang with its next
// command. The test looks at the session each time that the clock is read, as the sweep may.
func TestASessionThatCanBeSeenHasBeenHeardOf(t *testing.T) {
	r := newRig(t, imaptest.NewBackend(t, polite(nil)))
	var once sync.Mutex
	seen, early := 0, 0
	look := func() {
		r.env.Registry.Each(func(s *Session) {
			once.Lock()
			defer once.Unlock()
			if s.loggedIn.Load() {
				if seen++; s.lastHeard.Load() == 0 {
					early++
				}
			}
		})
	}
	r.look.Store(&look)
	c := r.login("alice")
	s := r.only()
	must(t, c.Conn.Close())
	r.ended(s, ReasonClientClosed)
	r.look.Store(nil)
	once.Lock()
	defer once.Unlock()
	if early > 0 || seen == 0 {
		t.Errorf("it was seen %d times, %d of them before it had been heard of", seen, early)
	}
}

// A literal isn't spliced to a client after the last line.
func TestNoLiteralIsSplicedBehindTheLastLine(t *testing.T) {
	b := imaptest.NewBackend(t, polite(map[string]imaptest.CommandFunc{"FETCH": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if err := c.SendRaw("* 1 FETCH (BODY[] {200000}\r\n" + strings.Repeat("M", 200_000) + ")\r\n"); err != nil {
			return err
		}
		return c.DrainUntilEOF()
	}}))
	r := newRig(t, b)
	c := r.login("alice")
	s := r.only()
	// The state of a session's end between the last line and hangUp; the backend's answer comes at that
	// moment.
	s.out.mu.Lock()
	s.out.closed = true
	s.out.mu.Unlock()
	c.Write("a1 FETCH 1 BODY[]")
	b.WaitOpen(0)
	s.Terminate(ReasonShutdown)
	s.hangUp()
	must(t, c.SetReadDeadline(time.Now().Add(imaptest.DefaultTimeout)))
	var got bytes.Buffer
	if _, err := got.ReadFrom(c.Conn.Conn); got.Len() > 0 || err != nil {
		t.Errorf("behind the last line there are %d bytes %.40q %v", got.Len(), got.String(), err)
	}
	must(t, c.Conn.Close())
}

// A session that is ended because its last command is answered tells the answer first: BYE waits for what is being followed.
func TestTheLastLineWaitsForTheAnswerThatIsFollowed(t *testing.T) {
	ours, theirs := oneConn(t)
	hungUp := 0
	o := clientOut{conn: ours, boundary: true, hangUp: func() { hungUp++ }}
	o.follow() // the answer is parsed, and no command is in progress any more
	o.setLast([]byte("* BYE\r\n"))
	if hungUp != 0 {
		t.Error("the last line stands before the answer")
	}
	must(t, o.relay([]byte("a OK\r\n"), true))
	o.followed()
	if hungUp != 1 {
		t.Errorf("hung up %d times", hungUp)
	}
	o.finish()
	got, err := io.ReadAll(theirs)
	if must(t, err); string(got) != "a OK\r\n* BYE\r\n" {
		t.Errorf("%q", got)
	}
}

// LOGOUT, or an end, that comes after the previous answer was parsed and before it is written isn't answered
// before that answer.
func TestWhoGoesHasAllAnswers(t *testing.T) {
	r := newRig(t, imaptest.NewBackend(t, polite(nil)))
	r.login("alice").MustOK("NOOP")
	s := r.only()
	s.down.followMu.Lock() // as during a chunk
	asked := make(chan bool)
	go func() { asked <- s.reusable(false) }()
	select {
	case <-asked:
		t.Error("it retires before the answer is out")
	default:
		s.down.followMu.Unlock()
		if !<-asked {
			t.Error("it doesn't retire behind it")
		}
	}
}
