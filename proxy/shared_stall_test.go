package proxy

import (
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
	"imapproxy/routing"
)

// down has discovery call one of the backends down (0 is bob's, 1 alice's), or none (-1).
func (s *sharing) down(which int) {
	s.t.Helper()
	must(s.t, s.router.Reload(routing.Options{Storage: routing.Separate, PanicThreshold: 1}))
	all := []routing.Backend{{ID: "b1", Address: s.backends[0].Addr, Weight: 100}, {ID: "b2", Address: s.backends[1].Addr, Weight: 100}}
	if which >= 0 {
		all[which].State, all[which].Reason = routing.Down, "critical"
	}
	s.router.Apply(routing.Snapshot{Source: "test", Backends: all})
}

// A backend hangs while it owes an answer about another user's mailbox, or one about the user's own beside it. Its connection is given up once discovery
// says that it is down, not after minutes: the session goes on where nothing was selected on it, and ends otherwise.
func TestABackendHangsBesideASharedMailbox(t *testing.T) {
	hangs := func(c *imaptest.BackendConn, _ imaptest.Command) error {
		c.Backend.Fire("hangs")
		return c.StallForever()
	}
	inside := func(c *imaptest.BackendConn, _ imaptest.Command) error {
		if err := c.SendRaw("* 1 FETCH (BODY[] {9}\r\nabc"); err != nil {
			return err
		}
		c.Backend.Fire("hangs")
		return c.StallForever()
	}
	idles := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if err := c.Send("+ idling"); err != nil {
			return err
		}
		if _, err := c.Expect("DONE"); err != nil {
			return err
		}
		return hangs(c, cmd)
	}
	for _, x := range []struct {
		name, command string
		bob, alice    map[string]imaptest.CommandFunc
		at            int // the backend that hangs
		want          string
		ends          session.Reason
	}{
		{"of the mailbox", "a CHECK", nil, map[string]imaptest.CommandFunc{"CHECK": hangs}, 1, "* BYE [UNAVAILABLE] {*}", session.ReasonSharedLost},
		{"within a message", "a FETCH 1 BODY[]", nil, map[string]imaptest.CommandFunc{"FETCH": inside}, 1, "", session.ReasonBackendLostInner},
		{"after DONE", "a IDLE\r\nDONE", nil, map[string]imaptest.CommandFunc{"IDLE": idles}, 1, "* BYE [UNAVAILABLE] {*}", session.ReasonSharedLost},
		{"of another mailbox", "a STATUS shared/alice/other (MESSAGES)", nil, map[string]imaptest.CommandFunc{"STATUS": hangs}, 1, "a NO [UNAVAILABLE] {*}", ""},
		{"the own one", "a CREATE mine", map[string]imaptest.CommandFunc{"CREATE": hangs}, nil, 0, "a NO [UNAVAILABLE] {*}", ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			s := (&sharing{cuts: true, bob: x.bob, alice: x.alice}).start(t, parking)
			c := s.login("bob")
			c.MustOK("SELECT shared/alice/team")
			c.Write(x.command)
			must(t, s.backends[x.at].Wait("hangs"))
			s.down(x.at)
			given := func() int {
				s.clock.forward(2 * time.Second)
				s.srv.Sweep()
				return int(s.metric("imapproxy_backend_stalls_total", `evidence="down"`, `outcome="shared"`))
			}
			if s.clock.forward(27 * time.Second); given() != 0 {
				t.Error("given up before stall_after")
			}
			eventually(t, "a connection that is given up", func() bool { return given() == 1 })
			s.down(-1)
			switch {
			case x.want == "":
				if said, err := readAll(t, c); !strings.HasSuffix(said, "abc") {
					t.Errorf("%q, %v", said, err)
				}
			case strings.HasPrefix(x.command, "a IDLE"):
				c.Expect("+ idling")
				fallthrough
			default:
				behindStill(t, c, x.want)
			}
			if x.ends != "" {
				s.ended(x.ends)
				return
			}
			c.MustOK("CHECK")
			c.MustOK("NOOP")
		})
	}
}

// A pause counts the sessions of other users that have a mailbox at the backend selected: they keep their connections there.
func TestAPausedBackendHasGuests(t *testing.T) {
	s := newSharing(t, nil, nil)
	c := s.login("bob")
	c.MustOK("SELECT shared/alice/team")
	if own, other := s.srv.GuestsAt("b1"), s.srv.GuestsAt("b2"); own != 0 || other != 1 {
		t.Errorf("%d and %d guests", own, other)
	}
	c.MustOK("SELECT INBOX")
	if n := s.srv.GuestsAt("b2"); n != 0 {
		t.Errorf("%d guests are left", n)
	}
}
