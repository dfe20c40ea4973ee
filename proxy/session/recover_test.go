package session

import (
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"imapproxy/internal/imaptest"
)

// A session that has lost its connection looks for its view in turn: many may have lost theirs at the same moment.
func TestALookForAViewWaitsForItsTurn(t *testing.T) {
	backend := imaptest.NewBackend(t, polite(map[string]imaptest.CommandFunc{
		"SELECT": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			return c.Send(`* FLAGS (\Seen)`, "* 0 EXISTS", "* OK [UIDVALIDITY 7] v", "* OK [UIDNEXT 1] n", "* OK [HIGHESTMODSEQ 1] m", cmd.Tag()+" OK [READ-WRITE] done")
		},
		"CHECK": func(*imaptest.BackendConn, imaptest.Command) error { return io.EOF },
	}))
	r := newRig(t, backend, func(set *Settings) { set.Park.ResumeConcurrency = 1 })
	turns := r.env.Queues.resumesAt("b1").turns
	if !turns.TryAcquire("another") {
		t.Fatal("no turn")
	}
	c := r.login("alice")
	c.MustOK("SELECT INBOX")
	c.Write("c CHECK")
	eventually(t, "a session that waits for its turn", func() bool { _, waiting := turns.Stats(); return waiting == 1 })
	if n := backend.Accepted(); n != 1 {
		t.Errorf("%d connections before its turn", n)
	}
	turns.Release("another")
	backend.WaitAccepted(2)
}

// Of a user's sessions in IDLE that have lost their connections one looks for its view at a time, so that the next one has the
// connection of the one before: a backend that has just started isn't asked for a login by each of them.
func TestTheSessionsOfAUserLookOneAfterTheOther(t *testing.T) {
	const sessions = 3
	mailbox := []string{`* FLAGS (\Seen)`, "* 0 EXISTS", "* OK [UIDVALIDITY 7] v", "* OK [UIDNEXT 1] n", "* OK [HIGHESTMODSEQ 1] m"}
	var lost, looking atomic.Int32
	backend := imaptest.NewBackend(t, polite(map[string]imaptest.CommandFunc{
		"SELECT": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			return c.Send(append(mailbox[:len(mailbox):len(mailbox)], cmd.Tag()+" OK [READ-WRITE] done")...)
		},
		"EXAMINE": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			looking.Add(1)
			c.Backend.Fire("a look")
			if err := c.Stall("go on"); err != nil {
				return err
			}
			return c.Send(append(mailbox[:len(mailbox):len(mailbox)], cmd.Tag()+" OK [READ-ONLY] done")...)
		},
		"UID SEARCH": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			return c.Send("* SEARCH", cmd.Tag()+" OK done")
		},
		"IDLE": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			err := c.Send("+ idling")
			if err == nil && lost.Add(1) > sessions { // a watch
				_, err = c.ReadCommand()
				return errors.Join(err, c.Send(cmd.Tag()+" OK done"))
			}
			return errors.Join(err, io.EOF)
		},
		"*": func(c *imaptest.BackendConn, cmd imaptest.Command) error { return c.Send(cmd.Tag() + " OK done") },
	}))
	r := newRig(t, backend)
	var all []*imaptest.Client
	for range sessions {
		c := r.login("alice")
		c.MustOK("SELECT INBOX")
		all = append(all, c)
	}
	for _, c := range all {
		c.Write("c IDLE")
		c.Expect("+{*}")
	}
	must(t, backend.Wait("a look"))
	looks := r.env.Queues.resumesAt("b1").looks
	eventually(t, "the other sessions that wait for the first", func() bool { _, waiting := looks.Stats(); return waiting == sessions-1 })
	if n := looking.Load(); n != 1 {
		t.Errorf("%d looks at the same time", n)
	}
	backend.Fire("go on")
	for _, c := range all {
		c.Write("DONE")
		c.Expect("c OK {*}")
	}
}
