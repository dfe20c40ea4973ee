package proxy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/session"
)

// contents answers a UID FETCH of messages with these texts, by UID. flags are those of all messages.
func contents(texts map[uint32]string, flags func() string) func(cmd imaptest.Command) string {
	return func(cmd imaptest.Command) string {
		word, _, _ := strings.Cut(cmd.Args, " ")
		set, err := view.ParseUIDs([]byte(strings.ReplaceAll(word, "*", "999")))
		if err != nil {
			return cmd.Tag() + " BAD set\r\n"
		}
		var out strings.Builder
		for uid := uint32(1); uid <= uint32(len(texts)); uid++ {
			if text := texts[uid]; set.Contains(uid) {
				fmt.Fprintf(&out, "* %d FETCH (UID %d FLAGS (%s) BODY[HEADER] {3}\r\n%03d BODY[TEXT] {%d}\r\n%s RFC822.SIZE %d)\r\n", uid, uid, flags(), uid, len(text), text, len(text))
			}
		}
		return out.String() + cmd.Tag() + " OK done\r\n"
	}
}

// cutAt sends the first answer up to one of its bytes and closes the connection; later answers are whole.
func (p *scripted) cutAt(verb string, at int, answer func(imaptest.Command) string) {
	var lost atomic.Bool
	p.on(verb, func(b *imaptest.BackendConn, cmd imaptest.Command) error {
		text := answer(cmd)
		if !lost.Swap(true) {
			_, _ = b.Write([]byte(text[:min(at, len(text))]))
			return io.EOF
		}
		_, err := b.Write([]byte(text))
		return err
	})
}

func TestAFetchGoesOnWhereItStopped(t *testing.T) {
	small := map[uint32]string{1: strings.Repeat("one\r\n", 20), 2: "", 3: strings.Repeat("x LOGOUT\r\n", 40)}
	large := map[uint32]string{1: "short", 2: strings.Repeat("0123456789abcde\n", 40_000), 3: strings.Repeat("three ", 30_000)}
	for name, c := range map[string]struct {
		texts map[uint32]string
		step  int
	}{"small messages": {small, 23}, "large messages": {large, 61_007}} {
		t.Run(name, func(t *testing.T) {
			for at := 0; ; at += c.step {
				flags := `\Seen`
				answer := contents(c.texts, func() string { return flags })
				whole := len(answer(imaptest.Command{Response: imaptest.Response{Text: "f0 UID FETCH"}, Args: "1:* x"}))
				if at >= whole {
					return
				}
				t.Run(fmt.Sprint(at), func(t *testing.T) {
					p := newScripted(t, scriptedCaps, 3)
					k := p.stays("SELECT INBOX")
					p.cutAt("UID FETCH", at, answer)
					a := k.MustOK("UID FETCH 1:* (UID FLAGS BODY.PEEK[HEADER] BODY.PEEK[TEXT] RFC822.SIZE)")
					n := uint32(0)
					for _, r := range a.Untagged {
						if r.Word(2) != "FETCH" {
							continue
						}
						n++
						want := c.texts[n]
						if len(r.Literals) != 2 || string(r.Literals[0].Data) != fmt.Sprintf("%03d", n) || r.Literals[1].SHA256 != fmt.Sprintf("%x", sha256.Sum256([]byte(want))) ||
							!strings.HasSuffix(r.Text, fmt.Sprintf(" RFC822.SIZE %d)", len(want))) {
							t.Errorf("response %d is %.200s", n, r)
						}
					}
					if n != 3 {
						t.Errorf("the client was told of %d messages: %v", n, a.Untagged)
					}
					k.MustOK("CHECK")
					if all, _ := p.srv.Sessions(session.Filter{}); all[0].InFlight != 0 {
						t.Errorf("%d commands are called in progress", all[0].InFlight)
					}
				})
			}
		})
	}
}

// What can't be continued ends without another byte: it would become a message's text.
func TestAFetchThatCantGoOn(t *testing.T) {
	text := strings.Repeat("0123456789", 30)
	for name, c := range map[string]struct {
		say    string
		before string
		after  func(tag, verb string) string // the next connection's answer
	}{
		"another text": {before: "* 2 FETCH (UID 2 BODY[] {300}\r\n" + text[:100], after: func(string, string) string {
			return "* 2 FETCH (UID 2 BODY[] {300}\r\n" + strings.Repeat("x", 300) + ")\r\n"
		}},
		"another size":    {before: "* 2 FETCH (UID 2 BODY[] {300}\r\n" + text[:100], after: func(string, string) string { return "* 2 FETCH (UID 2 BODY[] {301}\r\n" + text + "x)\r\n" }},
		"another section": {before: "* 2 FETCH (UID 2 BODY[1] {300}\r\n" + text[:100], after: func(string, string) string { return "* 2 FETCH (UID 2 BODY[2] {300}\r\n" + text + ")\r\n" }},
		"no message":      {before: "* 2 FETCH (UID 2 BODY[] {300}\r\n" + text[:100], after: func(string, string) string { return "" }},
		"two commands":    {say: "g UID FETCH 3 (BODY.PEEK[])", before: "* 2 FETCH (UID 2 BODY[] {300}\r\n" + text[:100], after: func(string, string) string { return "* 2 FETCH (UID 2 BODY[] {300}\r\n" + text + ")\r\n" }},
	} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 3)
			k := p.stays("SELECT INBOX")
			var lost atomic.Bool
			p.on("UID FETCH", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
				if !lost.Swap(true) {
					if c.say != "" {
						if _, err := b.ReadCommand(); err != nil {
							return err
						}
					}
					_ = b.SendRaw(c.before)
					return io.EOF
				}
				return b.SendRaw(c.after(cmd.Tag(), cmd.Name) + cmd.Tag() + " OK done\r\n")
			})
			k.Write("f UID FETCH 2:3 (BODY.PEEK[])")
			if c.say != "" {
				k.Write(c.say)
			}
			rest, err := io.ReadAll(k.Conn.Conn)
			if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatal(err)
			}
			if string(rest) != c.before {
				t.Errorf("the client was told %q", rest)
			}
			p.ended(session.ReasonBackendLostInner)
		})
	}
}

// Two losses inside one response.
func TestAFetchGoesOnTwice(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	k := p.stays("SELECT INBOX")
	text := bytes.Repeat([]byte("0123456789"), 100)
	var n atomic.Int32
	p.on("UID FETCH", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
		head := "* 2 FETCH (UID 2 BODY[] {1000}\r\n"
		if i := int(n.Add(1)); i < 3 {
			_ = b.SendRaw(head + string(text[:300*i]))
			return io.EOF
		}
		return b.SendRaw(head + string(text) + ")\r\n" + cmd.Tag() + " OK done\r\n")
	})
	a := k.MustOK("UID FETCH 2 (BODY.PEEK[])")
	if len(a.Untagged) != 1 || !bytes.Equal(a.Untagged[0].Literals[0].Data, text) {
		t.Error(a)
	}
}

// While EXPUNGE is deferred it isn't recorded which messages a FETCH has told.
func TestAFetchThatIsLostInCatchUpIsntTold(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	k := p.stays("SELECT INBOX")
	p.idles(k)
	p.expunge(1)
	p.on("FETCH", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
		_ = b.Send("* 1 FETCH (BODY[] \"two\")")
		p.on("FETCH", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
			return b.Send("* 1 FETCH (BODY[] \"two\")", "* 2 FETCH (BODY[] \"three\")", cmd.Tag()+" OK done")
		})
		return io.EOF
	})
	k.Write("DONE", "f FETCH 2:3 (BODY.PEEK[])")
	told := map[string]int{}
	r := k.Read()
	for ; r.Tag() != "f"; r = k.Read() {
		if r.Word(2) == "FETCH" {
			told[r.Text]++
		}
	}
	if r.Status() != "NO" || told[`* 2 FETCH (BODY[] "two")`] != 1 || len(told) != 1 {
		t.Errorf("the client was told %v, then %s", told, r)
	}
}

// Of a response with a line of more than 16 KiB, what the client was told behind that line isn't known. Its next literal may
// be the same as the one before: that isn't taken for the place at which the response stopped.
func TestAFetchWithALongLineIsContinuedOnce(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	k := p.stays("SELECT INBOX")
	text := strings.Repeat("0123456789", 30)
	first := "* 2 FETCH (UID 2 BODY[1] {300}\r\n" + text
	second := " BODYSTRUCTURE (\"" + strings.Repeat("x", 17<<10) + "\") BODY[2] {300}\r\n" + text
	cuts := []int{len(first) - 200, len(first) + len(second) - 200}
	var n atomic.Int32
	p.on("UID FETCH", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
		answer := first + second + ")\r\n" + cmd.Tag() + " OK done\r\n"
		if i := int(n.Add(1)); i <= len(cuts) {
			_ = b.SendRaw(answer[:cuts[i-1]])
			return io.EOF
		}
		return b.SendRaw(answer)
	})
	k.Write("f UID FETCH 2 (BODY.PEEK[1] BODYSTRUCTURE BODY.PEEK[2])")
	told, err := io.ReadAll(k.Conn.Conn)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err) // the session goes on
	}
	if want := (first + second)[:cuts[1]]; string(told) != want {
		t.Errorf("the client was told %d octets, %d of them the response: ...%.100q", len(told), len(want), told[min(len(told), len(want)):])
	}
	p.ended(session.ReasonBackendLostInner)
}

// A client that has a part of a response isn't told anything else, so it waits no longer than a loss may take inside a response, also where the next connection is
// there, and its backend doesn't answer.
func TestAFetchGoesOnInTimeOrEnds(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789", 30)
	for name, before := range map[string]string{
		"nothing comes":           "",
		"what the client has":     "* 2 FETCH (UID 2 BODY[] {300}\r\n" + text[:100],
		"a line, and no response": "* OK wait\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newScripted(t, scriptedCaps, 3, func(o *Options) { o.Park.ResumeWithin = time.Second })
			k := p.stays("SELECT INBOX")
			var lost atomic.Bool
			p.on("UID FETCH", func(b *imaptest.BackendConn, _ imaptest.Command) error {
				if !lost.Swap(true) {
					_ = b.SendRaw("* 2 FETCH (UID 2 BODY[] {300}\r\n" + text[:100])
					return io.EOF
				}
				_ = b.SendRaw(before)
				return b.ExpectEOF()
			})
			k.Write("f UID FETCH 2 (BODY.PEEK[])")
			must(t, k.Conn.SetReadDeadline(time.Now().Add(imaptest.DefaultTimeout)))
			if rest, err := io.ReadAll(k.Conn.Conn); err != nil {
				t.Fatalf("%q: %v", rest, err)
			}
			p.ended(session.ReasonBackendLostInner)
		})
	}
}
