package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/conn"
)

// What was acknowledged before a NOOP was read is seen by it, though no hint has come.
func TestNOOPSeesWhatNoHintToldOf(t *testing.T) {
	for _, command := range []string{"NOOP", "CHECK"} {
		p := newScripted(t, scriptedCaps, 3)
		c := p.idle("SELECT INBOX")
		done(c)
		for n := 4; n < 7; n++ {
			p.deliver()
			c.Write("n " + command)
			c.Expect(fmt.Sprintf("* %d EXISTS", n))
			c.Expect("n OK {*}")
		}
		p.expunge(2)
		c.Write("n " + command)
		c.Expect("* 2 EXPUNGE")
		c.Expect("n OK {*}")
		if n := len(p.said("SELECT")); n != 1 {
			t.Errorf("%s: %d SELECTs: it was resumed", command, n)
		}
		c.Close()
		p.stop()
	}
}

// NOOPs that were read together are answered by one look; the next one needs its own.
func TestNOOPsThatWereReadTogetherShareALook(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	c := p.idle("SELECT INBOX")
	done(c)
	before := len(p.said("EXAMINE"))
	p.deliver()
	c.Write("a NOOP", "b NOOP", "c NOOP")
	c.Expect("* 4 EXISTS")
	for _, tag := range []string{"a", "b", "c"} {
		c.Expect(tag + " OK {*}")
	}
	if n := len(p.said("EXAMINE")) - before; n != 1 {
		t.Errorf("%d looks for NOOPs in one packet", n)
	}
	p.deliver()
	c.Write("d NOOP")
	c.Expect("* 5 EXISTS")
	c.Expect("d OK {*}")
	if n := len(p.said("EXAMINE")) - before; n != 2 {
		t.Errorf("%d looks in all", n)
	}
}

// Where no look can be had, the session gets its connection back, which tells.
func TestANOOPThatCantLookResumes(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	c := p.idle("SELECT INBOX")
	done(c)
	p.deliver()
	p.on("EXAMINE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		p.on("EXAMINE", nil)
		return c.Send(cmd.Tag() + " NO [UNAVAILABLE] not now")
	})
	c.Write("n NOOP")
	c.Expect("* 4 EXISTS")
	c.Expect("n OK done")
	if n := len(p.said("SELECT")); n != 2 {
		t.Errorf("%d SELECTs", n)
	}
}

// A FETCH that sets \Seen is a change that the user's parked sessions hear of.
func TestAFetchThatSetsSeenIsAHint(t *testing.T) {
	for _, name := range []string{"FETCH", "UID FETCH"} {
		p := newScripted(t, scriptedCaps, 3)
		parked := p.idle("SELECT INBOX")
		other := p.login("alice")
		other.MustOK("SELECT INBOX")
		before := len(p.said("EXAMINE"))
		p.on(name, func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			if cmd.Args == "1 (BODY[])" {
				p.flag(1)
			}
			return c.Send(cmd.Tag() + " OK done")
		})
		other.MustOK("%s 1 (BODY.PEEK[])", name)
		other.MustOK("%s 1 (FLAGS RFC822.SIZE)", name)
		other.MustOK("%s 1 (BODY[])", name)
		p.on(name, nil)
		parked.Expect(`* 1 FETCH (FLAGS (\Flagged))`)
		if n := len(p.said("EXAMINE")) - before; n != 1 {
			t.Errorf("%d looks", n)
		}
		parked.Close()
		other.Close()
		p.stop()
	}
}

// A flood of commands that are answered without a backend is looked at once, not once for each of them.
func TestAFloodOfNoopsIsAnsweredAtOnce(t *testing.T) {
	p := newScripted(t, scriptedCaps, 4)
	c := p.idle("SELECT INBOX")
	done(c)
	const n = 4 * conn.ChunkSize / len("a NOOP\r\n")
	sent := make(chan error, 1)
	go func() { sent <- c.SendRaw(strings.Repeat("a NOOP\r\n", n)) }() // ends with the answers, which it waits for
	for range n {
		if r := c.Read(); r.Tag() != "a" {
			t.Fatal(r)
		}
	}
	must(t, <-sent)
}

// A backend's HIGHESTMODSEQ is lower than the mod-sequence of a message, and stays so. A parked client is told of the flags all the same, looks come to
// an end, and the session can be resumed.
func TestAHighestModSeqThatIsTooLow(t *testing.T) {
	t.Run("in IDLE", func(t *testing.T) {
		t.Parallel()
		p := newScripted(t, scriptedCaps, 3)
		c := p.idle("SELECT INBOX")
		p.set(func() { p.changed[2] = p.modSeq + 5 })
		p.hint()
		c.Expect(`* 2 FETCH (FLAGS (\Flagged))`)
		done(c) // it is answered once no look is outstanding
		if n := len(p.said("EXAMINE")); n != 2 {
			t.Errorf("%d EXAMINEs", n)
		}
	})
	t.Run("at a resume", func(t *testing.T) {
		t.Parallel()
		p := newScripted(t, scriptedCaps, 3, func(o *Options) { o.Park.ResumeWithin = 3 * time.Second })
		c := p.idle("SELECT INBOX")
		done(c)
		p.deliver()
		p.set(func() { p.changed[2] = p.modSeq + 5 })
		c.Write("x CREATE box")
		c.Expect("* 4 EXISTS")
		c.Expect(`* 2 FETCH (FLAGS (\Flagged))`)
		c.Expect("x OK {*}")
	})
}
