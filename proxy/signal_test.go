package proxy

import (
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/conn"
)

// A session that is to end behind the response that is on its way ends when its backend is lost
// there: nothing is to be waited for any more.
func TestABackendThatIsLostWithinTheLastResponseEndsTheSession(t *testing.T) {
	for _, listener := range []string{plain, implicit} {
		t.Run(listener, func(t *testing.T) {
			l := politeWith(t, commands{"FETCH": func(c *imaptest.BackendConn, _ imaptest.Command) error {
				if err := c.SendRaw("* 1 FETCH (BODY[] {100}\r\nhalf"); err != nil {
					return err
				}
				if err := c.Backend.Wait("lost"); err != nil {
					return err
				}
				return c.Close()
			}}, labOptions{})
			l.unswept()
			c := l.dial(listener)
			c.Login("alice", password)
			c.Write("a1 FETCH 1 BODY[]")
			readBytes(t, c, len("* 1 FETCH (BODY[] {100}\r\nhalf"))
			s := l.only()
			s.terminate(ReasonKicked)
			l.backends[0].Fire("lost")
			if rest, _ := readAll(t, c); rest != "" {
				t.Errorf("the client was told %q", rest)
			}
			_ = c.Close()
			l.ended(ReasonKicked)
		})
	}
}

// The last line waits for a boundary, and the client is lost before one comes.
func TestAClientThatIsLostBeforeItsLastLineIsGivenUp(t *testing.T) {
	l := newLab(t, labOptions{})
	c := l.login("alice")
	c.MustOK("NOOP")
	client := l.only().client
	hungUp := 0
	out := clientOut{conn: client, hangUp: func() { hungUp++ }}
	out.end([]byte("* BYE\r\n"))
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
	client.Rearm(conn.Writes)
}

// Who has severed a session isn't made to wait for its backend.
func TestASeveredSessionTidiesNothingUp(t *testing.T) {
	l := newWarmLab(t, trusting, nil)
	l.unswept()
	c := l.login("alice")
	c.MustOK("SELECT INBOX")
	s := l.only()
	s.out.turn.Lock() // its owner can't say its last word yet
	c.Write("b LOGOUT")
	eventually(t, "the word", func() bool { return s.reason() == ReasonLogout })
	s.hangUp() // as who has the turn does, when it gives it back
	eventually(t, "the end's phase", func() bool {
		s.control.mu.Lock()
		defer s.control.mu.Unlock()
		return s.control.phase == phaseEnd
	})
	s.sever()
	s.out.turn.Unlock()
	l.ended(ReasonLogout)
	for _, cmd := range l.backends[0].Commands() {
		if strings.HasPrefix(cmd.Name, "UNSELECT") || strings.HasPrefix(cmd.Name, "CLOSE") {
			t.Errorf("its backend was told %q", cmd.Text)
		}
	}
}

// A session that logs in while the proxy drains has had a backend, and counts so.
func TestASessionThatEndsBeforeItsRelayWasAttached(t *testing.T) {
	l := newLab(t, labOptions{})
	l.srv.draining.Store(true)
	c := l.login("alice")
	c.Expect("* BYE {*}")
	_ = c.Close()
	l.ended(ReasonShutdown)
	if n := l.metric("imapproxy_sessions_closed_total", `attachment="attached"`); n != 1 {
		t.Errorf("%v: %s", n, grep(l.metrics(), "sessions_closed_total{"))
	}
}
