package proxy

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/park"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
)

// once closes the connection at the first of these commands, and answers the others.
func once(name string) imaptest.CommandFunc {
	var lost atomic.Bool
	return func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if !lost.Swap(true) {
			return c.Do(imaptest.FaultClose)
		}
		if name != "" {
			return c.Send("* "+name, cmd.Tag()+" OK done")
		}
		return c.Send(cmd.Tag() + " OK done")
	}
}

// parking turns parking on: only then sessions outlive their connections.
func parking(o *Options) {
	o.Park = session.ParkOptions{Hub: park.NewHub(park.HubOptions{}), Pool: upstream.NewPool(upstream.PoolOptions{}), Linger: time.Hour}
}

// A message of another user's mailbox is expunged while it is copied to one of the user's own. Their own backend waits for the rest of
// an APPEND then: that connection is given up, and the session goes on with another.
func TestACopyToTheOwnBackendOfAMessageThatIsGone(t *testing.T) {
	s := (&sharing{cuts: true, alice: map[string]imaptest.CommandFunc{"UID": fetches(3, 2), "UID FETCH": fetches(3, 2), "FETCH": fetches(3, 2)}}).start(t, parking)
	c := s.login("bob")
	c.MustOK("SELECT shared/alice/team")
	a := c.Cmd("COPY 1:3 mine")
	if a.Tagged.Status() != "NO" || a.Tagged.Code() != "EXPUNGEISSUED" {
		t.Errorf("%s", a)
	}
	if told := a.String(); !strings.Contains(told, `* 1 FETCH (UID 11 FLAGS (\Seen \Recent))`) || strings.Contains(told, "INTERNALDATE") {
		t.Errorf("the client is told of flags by\n%s", told)
	}
	c.MustOK("NOOP")
	c.MustOK("STATUS mine (MESSAGES)")
	c.MustOK("SELECT mine")
}

// A backend doesn't agree to the literal of a copy. The message was begun to be read from the other: that connection can be used
// further.
func TestACopyWhoseLiteralIsRefused(t *testing.T) {
	refuses := map[string]imaptest.CommandFunc{"APPEND": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send(cmd.Tag() + " NO [OVERQUOTA] full")
	}}
	texts := map[string]imaptest.CommandFunc{"UID": fetches(2, 9), "UID FETCH": fetches(2, 9), "FETCH": fetches(2, 9)}
	for _, own := range []bool{false, true} {
		s := &sharing{caps: strings.ReplaceAll(sharedCaps, "LITERAL+ ", ""), bob: texts, alice: refuses}
		selected, target := "INBOX", "shared/alice/team"
		if own {
			s.bob, s.alice, selected, target = refuses, texts, target, "mine"
		}
		c := s.start(t, parking).login("bob")
		c.MustOK("SELECT %s", selected)
		for range 2 {
			if a := c.Cmd("COPY 1:2 %s", target); a.Tagged.Status() != "NO" || a.Tagged.Code() != "OVERQUOTA" {
				t.Errorf("to the own backend: %v: %s", own, a)
			}
		}
		c.MustOK("NOOP")
	}
}

// A user's own backend is lost while they have a mailbox of another user selected, or ask for one: their session goes on with
// another connection. What only reads is sent again, what may have been done is answered NO.
func TestTheOwnBackendIsLostBesideASharedMailbox(t *testing.T) {
	s := newSharingWith(t, map[string]imaptest.CommandFunc{"STATUS": once("STATUS INBOX (MESSAGES 7)"), "CREATE": once(""), "LIST": once(`LIST () "/" INBOX`), "UNSELECT": once("")}, nil,
		parking)
	c := s.login("bob")
	if a := c.Cmd(`LIST "" "*"`); a.Tagged.Status() != "NO" || a.Tagged.Code() != "UNAVAILABLE" { // with none selected: the relay finds another connection
		t.Errorf("%s", a)
	}
	c.MustOK("SELECT INBOX")
	c.MustOK("SELECT shared/alice/team") // deselects INBOX on a connection that is lost then
	c.MustOK("FETCH 1 FLAGS")
	if a := c.MustOK("STATUS INBOX (MESSAGES)"); len(a.Untagged) != 1 {
		t.Errorf("%s", a)
	}
	if a := c.Cmd("CREATE new"); a.Tagged.Status() != "NO" || a.Tagged.Code() != "UNAVAILABLE" {
		t.Errorf("%s", a)
	}
	c.MustOK("CREATE new")
	s.backends[0].CloseConns()
	c.MustOK("STATUS INBOX (MESSAGES)")
	c.MustOK("FETCH 1 FLAGS")
	c.MustOK("SELECT INBOX")
	c.MustOK("NOOP")
	c.MustOK("LOGOUT")
	s.ended(session.ReasonLogout)
}

// The backend of a selected shared mailbox is lost. The session ends with a reason of its own.
func TestTheBackendOfASharedMailboxIsLost(t *testing.T) {
	s := newSharing(t, nil, nil)
	for _, idle := range []bool{false, true} {
		c := s.login("bob")
		c.MustOK("SELECT shared/alice/team")
		if idle {
			c.Idle()
		}
		s.backends[1].CloseConns()
		if !idle {
			c.Write("a NOOP")
		}
		c.Expect("* BYE [UNAVAILABLE] The mail server has closed the connection, please connect again")
		c.ExpectEOF()
		s.ended(session.ReasonSharedLost)
	}
}
