package proxy

import (
	"fmt"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/conn"
	"imapproxy/proxy/wire"
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

func TestWhatChangesAMailbox(t *testing.T) {
	for line, want := range map[string]bool{
		"a FETCH 1 BODY[]": true, "a FETCH 1 (UID BODY[1.2]<0.10>)": true, "a UID FETCH 1:* (FLAGS RFC822)": true,
		"a FETCH 1 RFC822": true, "a FETCH 1 rfc822.text": true, "a FETCH 1 (RFC822 UID)": true, "a FETCH 1 BINARY[1]": true,
		"a FETCH 1 (BODY.PEEK[])": false, "a FETCH 1 (RFC822.SIZE RFC822.HEADER BODY)": false, "a FETCH 1 BODYSTRUCTURE": false,
		"a FETCH 1 BINARY.PEEK[1]": false, "a FETCH 1 ALL": false, "a STORE 1 +FLAGS (x)": true, "a NOOP": false, "a SEARCH BODY x": false,
	} {
		h := wire.ParseCommandHead([]byte(line + "\r\n"))
		if got := changes(h, true, false); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
	fetch := wire.ParseCommandHead([]byte("a FETCH 1 BODY[]\r\n"))
	if changes(fetch, true, true) {
		t.Error("a FETCH in a mailbox that was examined")
	}
	if peek := wire.ParseCommandHead([]byte("a FETCH 1,3,5")); !changes(peek, false, false) {
		t.Error("a FETCH that wasn't seen whole")
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
