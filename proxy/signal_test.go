package proxy

import (
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
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
			s.Terminate(session.ReasonKicked)
			l.backends[0].Fire("lost")
			if rest, _ := readAll(t, c); rest != "" {
				t.Errorf("the client was told %q", rest)
			}
			_ = c.Close()
			l.ended(session.ReasonKicked)
		})
	}
}

// A session that logs in while the proxy drains has had a backend, and counts so.
func TestASessionThatEndsBeforeItsRelayWasAttached(t *testing.T) {
	l := newLab(t, labOptions{})
	l.srv.draining.Store(true)
	c := l.login("alice")
	c.Expect("* BYE {*}")
	_ = c.Close()
	l.ended(session.ReasonShutdown)
	if n := l.metric("imapproxy_sessions_closed_total", `attachment="attached"`); n != 1 {
		t.Errorf("%v: %s", n, grep(l.metrics(), "sessions_closed_total{"))
	}
}
