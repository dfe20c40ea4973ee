package proxy

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/internal/movetest"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
)

// lasting is a pause that no test waits for.
func lasting(backend string) routing.Pause {
	return routing.Pause{Backend: backend, Until: time.Now().Add(time.Hour)}
}

// away has a client idle in another user's mailbox until its session has given its own connection up, and ends the IDLE.
func (s *sharing) away(own int) *imaptest.Client {
	s.t.Helper()
	s.backends[1].Fire("mail")
	c := s.login("bob")
	c.MustOK("SELECT shared/alice/team")
	done := c.Idle()
	s.backends[own].WaitOpen(0)
	if a := done(); !a.OK() {
		s.t.Fatal(a)
	}
	return c
}

// While a session's own backend is paused the session makes no connection to it: neither one that gave its connection up, nor one that has lost it. A command that
// needs the connection waits for the end of the pause, however long that is, and its client is told so.
func TestAPausedOwnBackendBesideASharedMailbox(t *testing.T) {
	t.Parallel()
	s := (&sharing{cuts: true, alice: map[string]imaptest.CommandFunc{"IDLE": pushes("mail")}}).start(t, func(o *Options) {
		idling(o)
		o.Park.ResumeWithin = 4 * time.Second // less than the pause lasts here
	})
	rests := s.away(0)
	loses := s.login("bob")
	loses.MustOK("SELECT shared/alice/team")
	s.router.Pause(lasting("b1"))
	s.backends[0].CloseConns()
	before := s.backends[0].Accepted()
	for _, c := range []*imaptest.Client{rests, loses} {
		c.MustOK("UID FETCH 1 FLAGS")
		c.Write("a STATUS INBOX (MESSAGES)")
	}
	for _, c := range []*imaptest.Client{rests, loses} {
		c.Expect("* OK Still here, waiting for the mail server")
	}
	if n := s.backends[0].Accepted(); n != before {
		t.Errorf("%d connections to the paused backend were made", n-before)
	}
	if held := s.srv.DetachAt("b1"); len(held) != 0 {
		t.Errorf("%v: there is no connection to the paused backend", held)
	}
	s.router.Resume("b1")
	for _, c := range []*imaptest.Client{rests, loses} {
		if _, tagged, err := c.Until("a"); err != nil || tagged.Status() != "OK" {
			t.Errorf("%s, %v", tagged, err)
		}
		c.MustOK("LOGOUT")
	}
}

// While an owner's backend is paused no connection is made to it for others. A command about a mailbox there waits; LIST doesn't show it.
func TestAPausedBackendOfASharedMailbox(t *testing.T) {
	t.Parallel()
	s := newSharing(t, nil, nil)
	c := s.login("bob")
	c.MustOK("SELECT shared/alice/team")
	c.MustOK("SELECT INBOX")
	s.backends[1].WaitOpen(0)
	s.router.Pause(lasting("b2"))
	before := s.backends[1].Accepted()
	if a := c.MustOK(`LIST "" "shared/*"`); len(a.Untagged) != 0 {
		t.Errorf("%s", a)
	}
	c.Write("a STATUS shared/alice/team (MESSAGES)")
	c.Expect("* OK Still here, waiting for the mail server")
	if n := s.backends[1].Accepted(); n != before {
		t.Errorf("%d connections to the paused backend were made", n-before)
	}
	s.router.Resume("b2")
	if _, tagged, err := c.Until("a"); err != nil || tagged.Status() != "OK" {
		t.Errorf("%s, %v", tagged, err)
	}
}

// The proxies don't agree for a time where a user is whose session has given its own connection up. As a resume does, a command that needs the connection
// waits; under separate storage no session follows its user to another backend: it ends.
func TestAUserMovesBesideASharedMailbox(t *testing.T) {
	agreement := movetest.New("b1", nil)
	agreement.Move("alice", "b2")
	s := (&sharing{cuts: true, alice: map[string]imaptest.CommandFunc{"IDLE": pushes("mail")}}).start(t, func(o *Options) {
		idling(o)
		var err error
		backends := o.Router.Backends()
		o.Router, err = routing.New(routing.Options{Storage: routing.Separate, Agreement: agreement.Routing(), Telemetry: o.Telemetry})
		must(t, err)
		var rows []routing.Backend
		for _, b := range backends {
			rows = append(rows, b.Backend)
		}
		o.Router.Apply(routing.Snapshot{Source: "test", Backends: rows})
		o.Dialer, err = upstream.New(upstream.Options{Hostname: "proxy.test", ConnectTimeout: 5 * time.Second, LoginTimeout: 10 * time.Second, Telemetry: o.Telemetry,
			Claims: agreement.Claims()})
		must(t, err)
	})
	c := s.away(0)
	agreement.Disagree("bob", true)
	c.Write("a STATUS INBOX (MESSAGES)")
	s.logs.wait(t, "the session's own connection isn't made yet")
	agreement.Disagree("bob", false)
	if _, tagged, err := c.Until("a"); err != nil || tagged.Status() != "OK" {
		t.Fatalf("%s, %v", tagged, err)
	}
	must(t, c.Close())
	c = s.away(0)
	agreement.Move("bob", "b2")
	s.srv.Sweep()
	c.ExpectEOF()
	s.ended(session.ReasonMoved)
}

// Storage is made shared by a reload while clients idle in another user's mailbox: a session without its own connection then follows its user as a parked one
// does, and goes to another backend if its own is down.
func TestASessionBesideASharedMailboxFollowsItsUser(t *testing.T) {
	var at atomic.Pointer[string]
	own := "b1"
	at.Store(&own)
	s := (&sharing{cuts: true, third: true, alice: map[string]imaptest.CommandFunc{"IDLE": pushes("mail")}}).start(t, func(o *Options) {
		idling(o)
		o.Placement = func(_ context.Context, user string) (string, bool, error) {
			if user == "alice" {
				return "b2", true, nil
			}
			return *at.Load(), true, nil
		}
	})
	c := s.away(0)
	must(t, s.router.Reload(routing.Options{Storage: routing.Shared, Telemetry: s.tel}))
	moved := "b3"
	at.Store(&moved)
	other := s.login("bob")
	s.srv.Sweep()
	c.MustOK("UID FETCH 1 FLAGS")
	c.MustOK("STATUS INBOX (MESSAGES)")
	if n := s.backends[2].Accepted(); n != 2 {
		t.Errorf("%d connections at the backend to which the user has moved", n)
	}
	must(t, other.Close())
	done := c.Idle()
	s.backends[2].WaitOpen(0)
	done()
	var rows []routing.Backend
	for _, b := range s.router.Backends() {
		if b.ID == "b3" {
			b.State = routing.Down
		}
		rows = append(rows, b.Backend)
	}
	s.router.Apply(routing.Snapshot{Source: "test", Backends: rows})
	s.backends[2].StopListening()
	before := s.backends[0].Accepted()
	c.MustOK("STATUS INBOX (MESSAGES)")
	if n := s.backends[0].Accepted(); n != before+1 {
		t.Errorf("%d connections at the backend that is up", n-before)
	}
}
