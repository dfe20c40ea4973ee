package proxy

import (
	"io"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// writeRaw writes the client's bytes as they are, and waits until the backend was sent the first of them.
func (p *scripted) writeRaw(c *imaptest.Client, text string) {
	p.t.Helper()
	sent := func() int64 {
		all, _ := p.srv.Sessions(session.Filter{})
		return all[0].BytesIn
	}
	before := sent()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, "the bytes", func() bool { return sent() >= before+int64(min(len(text), 1000)) })
}

// onLiteral sets what the backend does when the session's connection of now announces a synchronising literal.
func (p *scripted) onLiteral(c *imaptest.Client, f func(b *imaptest.BackendConn) error) {
	p.t.Helper()
	p.on("CHECK", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
		b.OnLiteral(func(int64) error { return f(b) })
		return p.answer(b, cmd)
	})
	c.MustOK("CHECK")
	p.on("CHECK", nil)
}

func TestALossInsideACommand(t *testing.T) {
	t.Run("in a literal", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 3)
		c := p.stays("SELECT INBOX")
		p.writeRaw(c, "a APPEND INBOX {40+}\r\nx NOOP\r\n")
		p.lose()
		c.Write("y DELETE INBOX", "z LOGOUT", "     .....") // 32 bytes, and the end of the command
		c.Expect("a NO [UNAVAILABLE] {*}")
		c.MustOK("CHECK")
		for _, text := range []string{"DELETE", "LOGOUT", "APPEND"} {
			if said := p.said(text); len(said) > 0 {
				t.Errorf("the backend has read a message's text as commands: %q", said)
			}
		}
	})
	t.Run("in a long literal", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 3)
		c := p.stays("SELECT INBOX")
		line := strings.Repeat("x", 62) + "\r\n"
		p.writeRaw(c, "a APPEND INBOX {640000+}\r\n"+strings.Repeat(line, 3000))
		p.lose()
		if _, err := io.WriteString(c.Conn, strings.Repeat(line, 7000)+"\r\n"); err != nil {
			t.Fatal(err)
		}
		c.Expect("a NO [UNAVAILABLE] {*}")
		c.MustOK("CHECK")
	})
	t.Run("before the continuation request", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 3)
		c := p.stays("SELECT INBOX")
		p.onLiteral(c, func(b *imaptest.BackendConn) error { return io.EOF })
		c.Write("a APPEND INBOX {3}")
		c.Expect("+ go ahead")
		c.Write("abc")
		c.Expect("a OK {*}")
		c.MustOK("CHECK")
	})
	t.Run("after the continuation request", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 3)
		c := p.stays("SELECT INBOX")
		p.onLiteral(c, func(b *imaptest.BackendConn) error {
			_ = b.Send("+ go ahead")
			return io.EOF
		})
		c.Write("a APPEND INBOX {40}")
		c.Expect("+ go ahead")
		c.Write("y DELETE INBOX", "z LOGOUT", "     .....", ".......")
		c.Expect("a NO [UNAVAILABLE] {*}")
		c.MustOK("CHECK")
		if said := append(p.said("DELETE"), p.said("LOGOUT")...); len(said) > 0 {
			t.Errorf("the backend has read a message's text as commands: %q", said)
		}
	})
	t.Run("before the second continuation request", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 3)
		c := p.stays("SELECT INBOX")
		n := 0
		p.onLiteral(c, func(b *imaptest.BackendConn) error {
			if n++; n == 2 {
				return io.EOF
			}
			return b.Send("+ go ahead")
		})
		c.Write("a RENAME {1}")
		c.Expect("+ go ahead")
		c.Write("A {1}")
		c.Expect("a NO [UNAVAILABLE] {*}")
		c.MustOK("CHECK")
	})
	t.Run("of a search", func(t *testing.T) { // it changes nothing
		p := newScripted(t, scriptedCaps, 3)
		c := p.stays("SELECT INBOX")
		p.writeRaw(c, "a UID SEARCH RETURN (ALL COUNT) SUBJECT {5+}\r\nab")
		p.lose()
		c.Write("cde")
		c.Expect("* ESEARCH {*}")
		c.Expect("a OK {*}")
	})
}

// A client that sends commands one after another without waiting relies on each of them.
func TestCommandsBehindARefusedOne(t *testing.T) {
	for name, c := range map[string]struct{ say, want []string }{
		"changes":              {say: []string{`b UID STORE 1 +FLAGS (\Deleted)`, "d UID EXPUNGE 1"}, want: []string{"a NO {*}", "b NO {*}", "d NO {*}"}},
		"a command in between": {say: []string{"b NOOP", "d UID EXPUNGE 1"}, want: []string{"a NO {*}", "d NO {*}", "b OK {*}"}},
		"another message":      {say: []string{"b APPEND INBOX {3+}", "abc", "d APPEND INBOX {3+}", "def"}, want: []string{"a NO {*}", "b NO {*}", "d NO {*}"}},
		"one that waits":       {say: []string{"b COPY 1 {3}"}, want: []string{"a NO {*}", "b NO {*}"}},
		"IDLE":                 {say: []string{"b IDLE"}, want: []string{"a NO {*}", "+{*}"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 3)
			k := p.stays("SELECT INBOX")
			p.writeRaw(k, "a APPEND INBOX {5+}\r\nab")
			p.lose()
			k.Write(append([]string{"cde"}, c.say...)...)
			for _, want := range c.want {
				k.Expect(want)
			}
			if name == "IDLE" {
				k.Write("DONE")
				k.Expect("b OK {*}")
			}
			k.MustOK("CHECK")
			for _, verb := range []string{"UID STORE", "UID EXPUNGE", "APPEND", "COPY"} {
				if said := p.said(verb); len(said) > 0 {
					t.Errorf("the backend was told %q", said)
				}
			}
		})
	}
}
