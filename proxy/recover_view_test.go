package proxy

import (
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// tells has the backend answer the next NOOP with these lines.
func (p *scripted) tells(lines ...string) {
	p.on("NOOP", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
		p.on("NOOP", nil)
		return b.Send(append(lines, cmd.Tag()+" OK done")...)
	})
}

// marks is what the backend was asked to mark by number, and marks.
func (p *scripted) marks() func() string {
	p.on("STORE", func(b *imaptest.BackendConn, cmd imaptest.Command) error { return b.Send(cmd.Tag() + " OK done") })
	return func() string { return strings.Join(p.said("STORE"), "|") }
}

// A backend may say its UIDNEXT again whenever it likes (RFC 9051 §7.1). The messages that the client has counted since its SELECT aren't those of
// the SELECT: else, where as many have gone unheard as have come, each number would mean another message.
func TestALaterUIDNextMakesNoNumberMeanAnotherMessage(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	marked := p.marks()
	k := p.stays("SELECT INBOX")
	p.deliver()
	p.deliver()
	p.tells("* 5 EXISTS", "* OK [UIDNEXT 6] the next one")
	k.MustOK("NOOP")
	p.expunge(1)
	p.expunge(2)
	p.deliver()
	p.deliver()
	p.lose()
	k.Write(`s STORE 1 +FLAGS (\Deleted)`)
	for r := k.Read(); ; r = k.Read() {
		if r.Tag() == "s" {
			if r.Status() != "NO" || r.Code() != "EXPUNGEISSUED" {
				t.Error(r)
			}
			break
		}
	}
	if all := marked(); all != "" {
		t.Errorf("the backend was told %q", all)
	}
}

// A backend that says another UIDVALIDITY while the mailbox is selected has given its messages other UIDs: the client isn't parked, and its session doesn't
// outlive the connection.
func TestALaterUIDValidityIsAnotherMailbox(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	k := p.stays("SELECT INBOX")
	p.tells("* OK [UIDVALIDITY 8] others")
	k.MustOK("NOOP")
	p.lose()
	k.Expect("* BYE {*}")
	k.ExpectEOF()
	p.ended(session.ReasonBackendLost)
}

// The backend shows no mod-sequences of a mailbox in which none were ever used. A session outlives its connection as often as it is lost.
func TestAMailboxWithoutModSequencesIsLostTwice(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	var hidden atomic.Bool
	hidden.Store(true)
	p.hidesModSeq(&hidden)
	marked := p.marks()
	k := p.stays("SELECT INBOX")
	for range 3 {
		p.lose()
		k.MustOK("CHECK")
	}
	k.MustOK(`STORE 2 +FLAGS (\Seen)`)
	if all := marked(); !strings.HasSuffix(all, ` STORE 2 +FLAGS (\Seen)`) {
		t.Errorf("the backend was told %q", all)
	}
}

// A line that comes in several pieces is followed as if it came at once: the session outlives its connection, and is parked.
func TestALineOfMailboxDataThatComesInPieces(t *testing.T) {
	const many = 201
	var odd []string
	for uid := 1; uid < many; uid += 2 {
		odd = append(odd, strconv.Itoa(uid))
	}
	for name, c := range map[string]struct {
		line, want string
		gone       func(p *scripted)
	}{
		"VANISHED": {"* VANISHED " + strings.Join(odd, ","), "* VANISHED 2", func(p *scripted) {
			for uid := 1; uid < many; uid += 2 {
				p.expunge(uint32(uid))
			}
		}},
		"FLAGS": {"* FLAGS (" + strings.Repeat("$a-long-keyword-", 40) + ")", "* VANISHED 2", func(*scripted) {}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, many)
			k := p.stays("ENABLE QRESYNC", "SELECT INBOX")
			first, rest := c.line[:300], c.line[300:]
			told := make(chan struct{})
			p.on("NOOP", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
				p.on("NOOP", nil)
				c.gone(p)
				if err := b.SendRaw(first); err != nil {
					return err
				}
				<-told
				return b.SendRaw(rest + "\r\n" + cmd.Tag() + " OK done\r\n")
			})
			k.Write("n NOOP")
			text := make([]byte, len(first))
			if _, err := io.ReadFull(k.Conn.Conn, text); err != nil || string(text) != first {
				t.Fatalf("the client was told %q, %v", text, err)
			}
			close(told)
			if r := k.Read(); r.Text != rest {
				t.Fatal(r)
			}
			k.Expect("n OK done")
			p.idles(k)
			done(k)
			k.MustOK("FETCH 1 (UID)")
			p.expunge(2)
			p.lose()
			k.Write("n NOOP")
			for r := k.Read(); r.Text != c.want; r = k.Read() {
				if r.Tag() == "n" {
					t.Fatal(r)
				}
			}
			k.Expect("n OK {*}")
		})
	}
}
