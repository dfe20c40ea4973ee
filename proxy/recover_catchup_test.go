package proxy

import (
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// The connection of a client that is owed EXPUNGE is lost, or taken away, while the client sends a command: the rest of that is read first.
func TestALossWithinACommandThatIsTranslated(t *testing.T) {
	for name, c := range map[string]struct {
		first, rest string
		asked       bool // the client waits for a continuation request
		want        []string
		gone        func(p *scripted)
	}{
		"a literal that isn't asked for":         {first: "u SEARCH SUBJECT {5+}\r\nab", rest: "cde 3\r\n", want: []string{"* SEARCH 3", "u OK done"}},
		"a literal that is":                      {first: "u SEARCH SUBJECT {5}\r\n", asked: true, rest: "abcde 3\r\n", want: []string{"u NO [UNAVAILABLE]{*}"}},
		"a literal of a command that isn't sent": {first: "u NOOP {5+}\r\nab", rest: "cde\r\n", want: []string{"u BAD {*}"}},
		"the user is moved": {first: "u SEARCH SUBJECT {5+}\r\nab", rest: "cde 3\r\n", want: []string{"* SEARCH 3", "u OK done"},
			gone: func(p *scripted) { p.srv.LetGo("alice", true) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, k := owedOne(t, scriptedCaps)
			p.on("SEARCH", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
				if !strings.HasSuffix(cmd.Text, " 2") {
					t.Errorf("the backend was told %q", cmd.Text)
				}
				return b.Send("* SEARCH 2", cmd.Tag()+" OK done")
			})
			s := p.only()
			heard := s.LastHeard()
			p.clock.forward(time.Second)
			must(t, k.SendRaw(c.first))
			if c.asked {
				k.Expect("+{*}")
			}
			eventually(t, "the first line", func() bool { return s.LastHeard() != heard })
			p.lose()
			if c.gone != nil {
				c.gone(p)
			}
			for range 3 { // each of them looks at the connection
				p.srv.Sweep()
			}
			must(t, k.SendRaw(c.rest))
			for _, want := range c.want {
				pastFlags(t, k, want)
			}
			k.Write("n NOOP")
			pastFlags(t, k, "* 2 EXPUNGE")
			for r := k.Read(); r.Tag() != "n"; r = k.Read() {
				if r.Word(2) == "EXPUNGE" {
					t.Error(r)
				}
			}
		})
	}
}

// pastFlags expects a response behind flags that the client is told once more.
func pastFlags(t *testing.T, k *imaptest.Client, want string) {
	t.Helper()
	r := k.Read()
	for r.Word(2) == "FETCH" {
		r = k.Read()
	}
	if ok, err := imaptest.Match(want, r); !ok || err != nil {
		t.Fatalf("the server's answer:\n got  %s\n want %s (%v)", r, want, err)
	}
}

// A client of UIDONLY that hasn't been told yet what it missed, since it says nothing, outlives its connection as others do.
func TestAClientOfUIDOnlyIsLostBeforeItIsTold(t *testing.T) {
	p, _ := newUIDOnly(t, 4)
	k := p.idle("ENABLE UIDONLY", "SELECT INBOX")
	done(k)
	p.expunge(2)
	p.deliver()
	p.only().Signal(session.SigLostWatch)
	eventually(t, "catch-up", func() bool { return p.srv.Status().Attachments[session.CatchingUp.String()] == 1 })
	before := p.backends[0].Accepted()
	p.lose()
	eventually(t, "another connection", func() bool { p.srv.Sweep(); return p.backends[0].Accepted() > before })
	p.attached()
	k.Write("n NOOP")
	k.Expect("* VANISHED 2")
	k.Expect("* 4 EXISTS")
	for r := k.Read(); r.Tag() != "n"; r = k.Read() {
		if r.Word(1) == "VANISHED" || r.Word(2) == "EXISTS" {
			t.Error(r)
		}
	}
}
