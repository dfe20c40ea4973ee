package session

import (
	"io"
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
