package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// only is the session there is.
func (l *lab) only() *session.Session {
	l.t.Helper()
	var all []*session.Session
	l.srv.reg.Each(func(s *session.Session) { all = append(all, s) })
	if len(all) != 1 {
		l.t.Fatalf("%d sessions", len(all))
	}
	return all[0]
}

// halfClosedAmid is bigLiteral for a client that shuts its sending side in the middle, at which the event "half-closed" is fired.
func halfClosedAmid(n int) imaptest.CommandFunc {
	return func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		body := strings.Repeat("0123456789abcde\n", n/16)
		if err := c.SendRaw(fmt.Sprintf("* 1 FETCH (BODY[] {%d}\r\n%s", len(body), body[:len(body)/2])); err != nil {
			return err
		}
		if err := c.DrainUntilEOF(); err != nil {
			return err
		}
		c.Backend.Fire("half-closed")
		if err := c.Stall("rest"); err != nil {
			return err
		}
		return c.Send(body[len(body)/2:]+")", cmd.Tag()+" OK fetched")
	}
}

func TestAHalfClosedClientKeepsItsSlowDownload(t *testing.T) {
	for _, listener := range []string{plain, implicit} { // by splice, and by ourselves
		t.Run(listener, func(t *testing.T) {
			t.Parallel()
			l := politeWith(t, commands{"FETCH": halfClosedAmid(1 << 20)}, labOptions{})
			c := l.dial(listener)
			c.Login("alice", password)
			c.Write("a1 FETCH 1 BODY[]")
			readBytes(t, c, 1<<19)
			must(t, c.CloseWrite())
			s := l.only()
			must(t, l.backends[0].Wait("half-closed"))
			for range 3 {
				l.clock.forward(2 * time.Minute)
				s.LookAfter(l.srv.now(), session.DefaultIdleTimeout)
			}
			if r := s.Reason(); r != "" {
				t.Errorf("it was ended for %s", r)
			}
			l.backends[0].Fire("rest")
			rest, err := readAll(t, c)
			if err != nil || !strings.HasSuffix(rest, ")\r\na1 OK fetched\r\n") {
				t.Fatalf("%v …%q", err, rest[max(0, len(rest)-100):])
			}
			must(t, c.Conn.Close())
			l.ended(session.ReasonClientClosed)
		})
	}
}
