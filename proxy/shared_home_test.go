package proxy

import (
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// idling turns parking on, and has a session give up its own connection as soon as its client idles in another user's mailbox.
func idling(o *Options) {
	parking(o)
	o.Park.Linger, o.Shared.Owners = 0, nil // without owners no connection proves rights at bob's backend
}

// pushes answers IDLE, and tells of a message once event has happened.
func pushes(event string) imaptest.CommandFunc {
	return func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if err := c.Send("+ idling"); err != nil {
			return err
		}
		if err := c.Stall(event); err != nil {
			return err
		}
		if err := c.Send("* 3 EXISTS"); err != nil {
			return err
		}
		if _, err := c.Expect("DONE"); err != nil {
			return err
		}
		return c.Send(cmd.Tag() + " OK done")
	}
}

// While a client idles in another user's mailbox its session has no connection to its own backend, and holds nothing there. The client is told of changes, works on
// in that mailbox, and gets another connection with the first command that needs one.
func TestTheOwnConnectionIsGivenUpBesideASharedMailbox(t *testing.T) {
	s := newSharingWith(t, nil, map[string]imaptest.CommandFunc{"IDLE": pushes("mail")}, idling)
	c := s.login("bob")
	c.MustOK("SELECT INBOX")
	c.MustOK("SELECT shared/alice/team")
	done := c.Idle()
	s.backends[0].WaitOpen(0)
	s.srv.LetGo("bob", false)
	s.srv.LetGo("bob", true)
	if left, held := s.srv.Leaving(""), s.srv.DetachAt("b1"); left.Sessions != 0 || len(held) != 0 {
		t.Errorf("%+v, %v: a session without a connection can't hold its user", left, held)
	}
	s.backends[1].Fire("mail")
	c.Expect("* 3 EXISTS")
	before := s.backends[0].Accepted()
	if a := done(); !a.OK() {
		t.Errorf("%s", a)
	}
	c.MustOK("UID FETCH 1 FLAGS")
	c.MustOK("NOOP")
	if n := s.backends[0].Accepted(); n != before {
		t.Errorf("%d connections to the own backend were made for commands about the shared mailbox", n-before)
	}
	c.MustOK("STATUS INBOX (MESSAGES)")
	c.MustOK("UID FETCH 1 FLAGS")
	if n := s.backends[0].Accepted(); n != before+1 {
		t.Errorf("%d connections to the own backend were made for one STATUS", n-before)
	}
	c.MustOK("SELECT INBOX")
	c.MustOK("NOOP")
	c.MustOK("LOGOUT")
	c.ExpectEOF()
	s.ended(session.ReasonLogout)
}

// The client leaves the shared mailbox by CLOSE, or ends, while its session has no connection to its own backend.
func TestASharedMailboxIsLeftWithoutTheOwnConnection(t *testing.T) {
	s := newSharingWith(t, nil, map[string]imaptest.CommandFunc{"IDLE": pushes("mail")}, idling)
	s.backends[1].Fire("mail")
	for _, end := range []string{"CLOSE", "LOGOUT", ""} {
		c := s.login("bob")
		c.MustOK("SELECT shared/alice/team")
		done := c.Idle()
		s.backends[0].WaitOpen(0)
		if end == "" {
			must(t, c.Close())
			continue
		}
		done()
		if c.MustOK("%s", end); end == "CLOSE" {
			c.MustOK("SELECT INBOX")
			c.MustOK("NOOP")
			must(t, c.Close())
		}
	}
}

// A client's NOTIFY is state of its own connection, which is therefore kept.
func TestTheOwnConnectionIsKeptForANotify(t *testing.T) {
	s := newSharingWith(t, nil, map[string]imaptest.CommandFunc{"IDLE": pushes("mail")}, idling)
	c := s.login("bob")
	c.MustOK("NOTIFY SET (personal (MessageNew MessageExpunge))")
	c.MustOK("SELECT shared/alice/team")
	done := c.Idle()
	s.backends[1].Fire("mail")
	c.Expect("* 3 EXISTS")
	done()
	before := s.backends[0].Accepted()
	c.MustOK("STATUS INBOX (MESSAGES)")
	if n := s.backends[0].Accepted(); n != before {
		t.Error("the connection was given up")
	}
}

// The own backend ends or refuses connections while the session has none: the shared mailbox can be used all the same, and a command that needs the own backend
// waits for it.
func TestTheOwnBackendIsAwayBesideASharedMailbox(t *testing.T) {
	s := newSharingWith(t, nil, map[string]imaptest.CommandFunc{"IDLE": pushes("mail")}, func(o *Options) {
		idling(o)
		o.Park.ResumeWithin = time.Millisecond
	})
	s.backends[1].Fire("mail")
	c := s.login("bob")
	c.MustOK("SELECT shared/alice/team")
	done := c.Idle()
	s.backends[0].WaitOpen(0)
	s.backends[0].StopListening()
	done()
	c.MustOK("FETCH 1 FLAGS")
	c.Write("a STATUS INBOX (MESSAGES)")
	c.ExpectEOF()
	s.ended(session.ReasonBackendLost)
}

// A reload that makes park.linger longer while a client idles in a shared mailbox applies to it: the session goes on, and keeps its own connection for longer.
func TestLingerIsLengthenedBesideASharedMailbox(t *testing.T) {
	s := newSharingWith(t, nil, map[string]imaptest.CommandFunc{"IDLE": pushes("mail")}, func(o *Options) {
		idling(o)
		o.Park.Linger = 200 * time.Millisecond
	})
	c := s.login("bob")
	c.MustOK("SELECT shared/alice/team")
	done := c.Idle()
	longer := s.opts
	longer.Park.Linger = 400 * time.Millisecond
	must(t, s.srv.Reload(longer))
	s.backends[0].WaitOpen(0)
	s.backends[1].Fire("mail")
	if a := done(); !a.OK() {
		t.Error(a)
	}
	c.MustOK("LOGOUT")
	c.ExpectEOF()
	s.ended(session.ReasonLogout)
}
