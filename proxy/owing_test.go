package proxy

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// owedOne is a session that is owed the EXPUNGE of its second message of four, which
// happened unheard of: it has just fetched by number.
func owedOne(t *testing.T, caps string, before ...string) (*scripted, *imaptest.Client) {
	t.Helper()
	p := newScripted(t, caps, 4)
	c := p.idle(append(before, "SELECT INBOX")...)
	done(c)
	p.expunge(2)
	p.on("FETCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send("* 2 FETCH (UID 3)", cmd.Tag()+" OK done")
	})
	c.Write("f FETCH 3 (UID)")
	c.Expect("* 3 FETCH (UID 3)")
	c.Expect("f OK done")
	return p, c
}

func TestALargeMessageBehindWhatIsOwed(t *testing.T) {
	p, c := owedOne(t, scriptedCaps)
	p.on("APPEND", func(c *imaptest.BackendConn, cmd imaptest.Command) error { return c.Send(cmd.Tag() + " OK done") })
	c.Timeout = imaptest.DefaultTimeout
	c.Write("a APPEND INBOX {300000+}")
	must(t, c.Conn.SendRaw(strings.Repeat("x", 300000)+"\r\n"))
	c.Expect("* 2 EXPUNGE")
	c.Expect("a OK done")
}

func TestAReplacementOfAMessageThatIsGone(t *testing.T) {
	_, c := owedOne(t, scriptedCaps)
	c.Write("r REPLACE 2 INBOX {300000+}")
	must(t, c.Conn.SendRaw(strings.Repeat("x", 300000)+"\r\n"))
	c.Expect("* 2 EXPUNGE")
	c.Expect("r NO [EXPUNGEISSUED]{*}")
	c.MustOK("NOOP")
}

func TestModifiedNamesTheClientsNumbers(t *testing.T) {
	p, c := owedOne(t, scriptedCaps, "ENABLE CONDSTORE")
	p.on("STORE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if !strings.Contains(cmd.Text, "STORE 2:3 ") {
			t.Errorf("%s", cmd.Text)
		}
		return c.Send(cmd.Tag() + " OK [MODIFIED 2] one was newer")
	})
	c.Write(`s STORE 3:4 (UNCHANGEDSINCE 5) +FLAGS (\Seen)`)
	c.Expect("s OK [MODIFIED 3] one was newer")
}

func TestALiteralIsAgreedToOnce(t *testing.T) {
	p, c := owedOne(t, strings.Replace(scriptedCaps, "LITERAL+ ", "", 1))
	p.on("SEARCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send("* SEARCH 2", cmd.Tag()+" OK done")
	})
	c.Write("s SEARCH SUBJECT {3}")
	c.Expect("+{*}")
	must(t, c.Conn.SendRaw("abc 1:3\r\n"))
	c.Expect("* SEARCH 3")
	c.Expect("s OK done")
	// One by UID may be told behind; the client is asked for its literal once.
	p.on("UID SEARCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send("* SEARCH 3", cmd.Tag()+" OK done")
	})
	c.Write("u UID SEARCH SUBJECT {3}")
	c.Expect("+{*}")
	must(t, c.Conn.SendRaw("abc\r\n"))
	c.Expect("* SEARCH 3")
	c.Expect("u OK done")
	c.Write("n NOOP")
	c.Expect("* 2 EXPUNGE")
	c.Expect("n OK {*}")
}

// A flag that is owed isn't forgotten for a subject that says "flags".
func TestOwedFlagsAreToldWhateverASubjectSays(t *testing.T) {
	p := newScripted(t, scriptedCaps, 4)
	c := p.idle("ENABLE QRESYNC", "SELECT INBOX")
	done(c)
	p.expunge(2)
	p.flag(3)
	p.on("FETCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send(`* 2 FETCH (UID 3 ENVELOPE (NIL "red flags" NIL))`, cmd.Tag()+" OK done")
	})
	c.Write("f FETCH 3 (UID ENVELOPE)")
	c.Expect(`* 3 FETCH (UID 3 ENVELOPE (NIL "red flags" NIL))`)
	c.Expect("f OK done")
	c.Write("n NOOP")
	c.Expect("* VANISHED 2")
	c.Expect(`* 2 FETCH (UID 3 FLAGS (\Flagged) MODSEQ (12))`)
	c.Expect("n OK {*}")
}

// A search in many mailboxes (RFC 7377), written together with another command by a client that is
// owed EXPUNGE: its answer isn't one of the selected mailbox, and nothing in it is translated.
func TestASearchInManyMailboxesWhileExpungeIsOwed(t *testing.T) {
	p, c := owedOne(t, scriptedCaps+" MULTISEARCH")
	const answer = `* ESEARCH (TAG "s" MAILBOX "Work" UIDVALIDITY 1) UID ALL 3`
	p.on("ESEARCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send(answer, cmd.Tag()+" OK done")
	})
	must(t, c.SendRaw("s ESEARCH IN (mailboxes Work) SUBJECT x\r\nn NOOP\r\n"))
	c.Expect("* 2 EXPUNGE")
	c.Expect(answer)
	c.Expect("s OK done")
	c.Expect("n OK {*}")
}

// imaplib2 takes a response before the "+" of IDLE for a refusal, and then waits for an answer that doesn't come.
func TestWhatIsOwedIsToldBehindTheIdlePrompt(t *testing.T) {
	p, c := owedOne(t, scriptedCaps)
	c.Write("j IDLE")
	c.Expect("+ idling")
	c.Expect("* 2 EXPUNGE")
	c.Write("DONE")
	c.Expect("j OK {*}")
	c.MustOK("NOOP")
	if said := p.said("IDLE"); !slices.Equal(said, []string{"i IDLE", "j IDLE"}) {
		t.Errorf("the backend was asked for %q", said)
	}
}

func TestWhatAParkedClientMissedIsToldBehindTheIdlePrompt(t *testing.T) {
	p := newScripted(t, scriptedCaps, 4)
	c := p.idle("SELECT INBOX")
	done(c)
	p.expunge(2)
	p.hint()
	c.Write("j IDLE")
	c.Expect("+ idling")
	c.Expect("* 2 EXPUNGE")
	p.deliver()
	p.hint()
	c.Expect("* 4 EXISTS")
	c.Write("DONE")
	c.Expect("j OK {*}")
}

// A SELECT that is answered BAD leaves no mailbox selected of which the client counts messages that are
// gone: it would mark others by their numbers.
func TestASelectThatIsAnsweredBadWhileExpungeIsOwed(t *testing.T) {
	p, c := owedOne(t, scriptedCaps)
	p.on("EXAMINE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send(cmd.Tag() + " BAD no such name")
	})
	c.Write("x EXAMINE &")
	c.Expect("* OK [CLOSED] {*}")
	c.Expect("x BAD no such name")
	said := p.backends[0].Commands()
	if n := len(said); said[n-2].Name != "UNSELECT" || said[n-1].Name != "EXAMINE" {
		t.Errorf("the backend was asked for %q", said)
	}
}

// Bytes that a backend may read as commands leave a trace wherever in a command they stand.
func TestALiteralInAnUnclosedStringWhileExpungeIsOwed(t *testing.T) {
	p, c := owedOne(t, scriptedCaps)
	p.on("UID COPY", func(c *imaptest.BackendConn, cmd imaptest.Command) error { return c.Send(cmd.Tag() + " BAD syntax") })
	must(t, c.SendRaw("x UID COPY 1 {5+}\r\nOther \"y {5+}\r\n12345\r\nf FETCH 3 (UID)\r\n"))
	c.Expect("x BAD syntax")
	c.Expect("* 3 FETCH (UID 3)")
	c.Expect("f OK done")
	c.MustOK("NOOP") // after which nothing is owed any more
	eventually(t, "the session to be looked at", func() bool {
		p.srv.Sweep()
		page, _ := p.srv.Sessions(session.Filter{})
		return page[0].NotParked == "disputed_literal"
	})
}

// "*" in a command that is written when an answer has been read is the last message that the client had
// heard of by then, however soon it comes: here before all of the answer's line is written.
func TestACommandBehindAnAnswerMeansTheLastOfThen(t *testing.T) {
	p := newScripted(t, scriptedCaps, 4)
	c := p.idle("SELECT INBOX")
	done(c)
	p.expunge(2)
	p.deliver()
	p.on("FETCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send("* 2 FETCH (UID 3)", cmd.Tag()+" OK "+strings.Repeat("x", longestOwedAnswer-100))
	})
	raw := c.Conn.Conn
	must(t, raw.(*net.TCPConn).SetReadBuffer(64<<10))
	must(t, raw.SetReadDeadline(time.Now().Add(imaptest.DefaultTimeout)))
	until := func(text string) {
		t.Helper()
		var heard []byte
		for b := make([]byte, 64<<10); !bytes.Contains(heard, []byte(text)); {
			n, err := raw.Read(b)
			must(t, err)
			heard = append(heard[max(0, len(heard)-len(text)):], b[:n]...)
		}
	}
	c.Write("f FETCH 3 (UID)")
	until("f OK x")
	c.Write("s STORE * +FLAGS (a)")
	until("s OK done")
	if said := p.said("STORE"); len(said) != 1 || !strings.HasSuffix(said[0], "STORE 4 +FLAGS (a)") {
		t.Errorf("the backend was asked for %q", said)
	}
}
