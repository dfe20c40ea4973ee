package session

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/conn"
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

// A backend whose host has vanished may have executed a command, or do so yet, also where a write was the first to be told that it has gone: what is
// read then looks like the backend's end.
func TestAVanishedBackendHasNotEndedTheConnection(t *testing.T) {
	var stores atomic.Int32
	backend := imaptest.NewBackend(t, polite(map[string]imaptest.CommandFunc{
		"SELECT": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			return c.Send(`* FLAGS (\Seen)`, "* 3 EXISTS", "* OK [UIDVALIDITY 7] v", "* OK [UIDNEXT 9] n", "* OK [HIGHESTMODSEQ 5] m", cmd.Tag()+" OK [READ-WRITE] done")
		},
		"STORE": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			if stores.Add(1) > 1 {
				return c.Send(cmd.Tag() + " OK done")
			}
			c.Backend.Fire("storing")
			if err := c.Stall("speak"); err != nil {
				return err
			}
			return errors.Join(c.Send("* 4 EXISTS"), c.StallForever())
		},
	}))
	r := newRig(t, backend, staysAttached)
	c := r.login("alice")
	c.MustOK("SELECT INBOX")
	c.Write(`s STORE 1 +FLAGS (\Seen)`)
	must(t, backend.Wait("storing"))
	b := r.only().backend.Load()
	must(t, b.KeepAlive(conn.Probing{Idle: 20 * time.Millisecond, Interval: 20 * time.Millisecond, Within: 50 * time.Millisecond}))

	reads, goesOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	look := func() { once.Do(func() { close(reads); <-goesOn }) }
	r.look.Store(&look)
	backend.Fire("speak")
	<-reads // the reader of the backend is busy while the kernel gives the connection up
	var err error
	for err == nil {
		_, err = b.WriteUntil(make([]byte, 4<<10), time.Now().Add(20*time.Second))
	}
	close(goesOn)
	if !errors.Is(err, syscall.ETIMEDOUT) {
		t.Fatal(err)
	}
	c.Expect("* 4 EXISTS")
	c.Expect("s NO {*}")
}
