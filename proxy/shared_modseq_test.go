package proxy

import (
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// enables counts how often ENABLE was sent to bob's backend (0) or alice's (1).
func (s *sharing) enables(at int) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.told[at] {
		if name == "ENABLE" {
			n++
		}
	}
	return n
}

// A client's first command that uses mod-sequences enables CONDSTORE for its session (RFC 7162 §3.1), whichever connection the command goes to: it is enabled on the
// session's own connection, on the next one, and where another user's mailbox is selected later.
func TestModSequencesThatAreUsedBesideASharedMailbox(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		cmd         string
		at          bool // with the shared mailbox selected
		once, again int  // how often ENABLE is sent on the own connection, and on the next one
	}{
		{`STATUS INBOX (HIGHESTMODSEQ)`, true, 0, 1},
		{`STATUS INBOX (MESSAGES)`, true, 0, 0},
		{`STATUS shared/alice/team (HIGHESTMODSEQ)`, true, 1, 1},
		{`STATUS shared/alice/team (HIGHESTMODSEQ)`, false, 1, 1},
		{`LIST "" "*" RETURN (STATUS (HIGHESTMODSEQ))`, true, 0, 1},
		{`LIST "" "*" RETURN (STATUS (HIGHESTMODSEQ))`, false, 0, 1},
		{`LIST "" "*" RETURN (STATUS (MESSAGES))`, true, 0, 0},
		{`LIST "" "shared/*" RETURN (STATUS (HIGHESTMODSEQ))`, true, 1, 1},
		{`FETCH 1 (MODSEQ)`, true, 1, 1},
		{"UID SEARCH CHARSET UTF-8 TEXT {1+}\r\nx MODSEQ 3", true, 1, 1},
		{"UID SEARCH TEXT {6+}\r\nMODSEQ", true, 0, 0},
		{"UID SEARCH SUBJECT MODSEQ", true, 0, 0},
		{`FETCH 1 (FLAGS)`, true, 0, 0},
	} {
		t.Run(k.cmd, func(t *testing.T) {
			t.Parallel()
			enable := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
				return c.Send("* ENABLED CONDSTORE", cmd.Tag()+" OK done")
			}
			s := newSharingWith(t, map[string]imaptest.CommandFunc{"ENABLE": enable}, map[string]imaptest.CommandFunc{"ENABLE": enable, "IDLE": pushes("mail")}, idling)
			s.backends[1].Fire("mail")
			c := s.login("bob")
			if k.at {
				c.MustOK("SELECT shared/alice/team")
			}
			c.MustOK("%s", k.cmd)
			c.MustOK("SELECT INBOX")
			if n := s.enables(0); n != k.once {
				t.Errorf("ENABLE was sent %d times on the own connection", n)
			}
			before := s.enables(1)
			c.MustOK("SELECT shared/alice/team")
			if n := s.enables(1) - before; n != k.again {
				t.Errorf("ENABLE was sent %d times on the connection of another mailbox", n)
			}
			done := c.Idle()
			s.backends[0].WaitOpen(0)
			if a := done(); !a.OK() {
				t.Errorf("%s", a)
			}
			c.MustOK("SELECT INBOX")
			if n := s.enables(0); n != k.once+k.again {
				t.Errorf("ENABLE was sent %d times after another own connection", n)
			}
			c.MustOK("LOGOUT")
			c.ExpectEOF()
			s.ended(session.ReasonLogout)
		})
	}
}
