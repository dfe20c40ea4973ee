package proxy

import (
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/park"
	"imapproxy/proxy/session"
)

// lose ends all of the backend's connections without a word.
func (p *scripted) lose() { p.backends[0].ResetConns() }

// stays is a session of alice's that has said all of these, and stays attached.
func (p *scripted) stays(commands ...string) *imaptest.Client {
	p.t.Helper()
	c := p.login("alice")
	for _, command := range commands {
		c.MustOK("%s", command)
	}
	return c
}

// recovered waits until a session has its backend connection again.
func (p *scripted) recovered() {
	p.t.Helper()
	eventually(p.t, "an attached session", func() bool {
		a := p.srv.Status().Attachments
		return a[session.Attached.String()]+a[session.CatchingUp.String()] == 1
	})
}

func TestASessionOutlivesItsBackendConnection(t *testing.T) {
	t.Run("nothing selected", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 3)
		c := p.stays()
		p.lose()
		c.MustOK("NOOP")
	})
	t.Run("quiet", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 3)
		c := p.stays("SELECT INBOX")
		p.lose()
		if a := c.MustOK("UID FETCH 1:* (UID)"); len(a.Untagged) != 3 {
			t.Error(a)
		}
	})
	t.Run("what has happened is told", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 3)
		c := p.stays("SELECT INBOX")
		p.expunge(2)
		p.deliver()
		p.flag(3)
		p.lose()
		c.Write("n NOOP")
		c.Expect("* 2 EXPUNGE")
		c.Expect("* 3 EXISTS")
		c.Expect("* 1 FETCH (FLAGS ())") // it may have heard of other flags
		c.Expect(`* 2 FETCH (FLAGS (\Flagged))`)
		c.Expect("n OK {*}")
	})
	t.Run("only what has happened is told to a client that knows the flags", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 3)
		c := p.stays("SELECT INBOX", "UID FETCH 1:* (FLAGS)")
		p.expunge(2)
		p.deliver()
		p.flag(3)
		p.lose()
		c.Write("n NOOP")
		c.Expect("* 2 EXPUNGE")
		c.Expect("* 3 EXISTS")
		c.Expect(`* 2 FETCH (FLAGS (\Flagged))`)
		c.Expect("n OK {*}")
	})
	t.Run("a keyword that is new is told with the next command", func(t *testing.T) {
		for command, first := range map[string]string{"n NOOP": `* FLAGS (\Deleted \Flagged \Seen kw)`, "n SELECT INBOX": "* OK [CLOSED] {*}"} {
			p := newScripted(t, scriptedCaps, 3)
			c := p.stays("SELECT INBOX")
			p.mu.Lock()
			p.keyword = "kw"
			p.mu.Unlock()
			p.lose()
			p.recovered()
			c.Write(command)
			c.Expect(first)
			c.Close()
		}
	})
	t.Run("a number of before means the message of before", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 4)
		c := p.stays("SELECT INBOX", "UID FETCH 1:* (FLAGS)")
		p.expunge(2)
		p.lose()
		p.on("STORE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			if cmd.Args != `2 +FLAGS (\Deleted)` {
				t.Errorf("%q", cmd.Args)
			}
			return c.Send(cmd.Tag() + " OK done")
		})
		c.Write(`s STORE 3 +FLAGS (\Deleted)`)
		c.Expect("s OK {*}")
		c.Write("n NOOP")
		c.Expect("* 2 EXPUNGE")
		c.Expect("n OK {*}")
	})
	t.Run("in IDLE", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 3, func(o *Options) { o.Park.Linger = 1 << 60 })
		c := p.stays("SELECT INBOX")
		c.Write("i IDLE")
		c.Expect("+{*}")
		p.expunge(1)
		p.lose()
		c.Expect("* 1 EXPUNGE")
		done(c)
		c.MustOK("NOOP")
	})
	t.Run("in IDLE without a mailbox", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 3, func(o *Options) { o.Park.Linger = 1 << 60 })
		c := p.stays()
		c.Write("i IDLE")
		c.Expect("+{*}")
		p.lose()
		p.recovered()
		done(c)
		c.MustOK("NOOP")
	})
	t.Run("without QRESYNC", func(t *testing.T) {
		p := newScripted(t, "IMAP4rev1 IDLE UNSELECT ESEARCH", 3)
		c := p.stays("SELECT INBOX")
		p.lose()
		c.Write("n NOOP")
		for n := 1; n <= 3; n++ { // which of them the client knows isn't known
			c.Expect("* {*} FETCH (FLAGS ())")
		}
		c.Expect("n OK {*}")
	})
	t.Run("without QRESYNC, one has gone, and all UIDs were told", func(t *testing.T) {
		p := newScripted(t, "IMAP4rev1 IDLE UNSELECT ESEARCH", 3)
		c := p.stays("SELECT INBOX", "UID FETCH 1:* (FLAGS)")
		p.expunge(2)
		p.lose()
		c.Write("n NOOP")
		c.Expect("* 2 EXPUNGE")
		c.Expect("* 1 FETCH (FLAGS ())")
		c.Expect("* 2 FETCH (FLAGS ())")
		c.Expect("n OK {*}")
	})
	t.Run("the backend says BYE", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 3)
		c := p.stays("SELECT INBOX")
		p.on("CHECK", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			p.on("CHECK", p.answer)
			_ = c.Send("* BYE Server shutting down.")
			return io.EOF
		})
		c.MustOK("CHECK")
	})
	t.Run("the backend says BYE and keeps the connection", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 3)
		c := p.stays("SELECT INBOX")
		p.byeAndNoEnd("CHECK")
		c.MustOK("CHECK")
	})
	t.Run("the same to a client that is owed EXPUNGE", func(t *testing.T) {
		p, c := owedOne(t, scriptedCaps)
		p.byeAndNoEnd("UID FETCH")
		c.MustOK("UID FETCH 3 (UID)")
	})
}

// byeAndNoEnd has the backend answer the next command of a name with BYE, and then do nothing.
func (p *scripted) byeAndNoEnd(name string) {
	p.on(name, func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		p.on(name, p.answer)
		_ = c.Send("* BYE Server shutting down.")
		return c.StallForever()
	})
}

func TestWhatBecomesOfACommandWhoseConnectionIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		say    []string // by the client, at once
		before []string // what the backend says to the first of them before it is lost
		want   []string
		again  string // a command that the backend sees twice
	}{
		"NOOP":          {say: []string{"a NOOP"}, want: []string{"a OK {*}"}, again: "NOOP"},
		"UID FETCH":     {say: []string{"a UID FETCH 2 (FLAGS)"}, before: []string{"* 2 FETCH (UID 2 FLAGS ())"}, want: []string{"* 2 FETCH (UID 2 FLAGS ())", "* {*} FETCH {*}", "* {*} FETCH {*}", "* {*} FETCH {*}", "a OK {*}"}, again: "UID FETCH"},
		"UID SEARCH":    {say: []string{"a UID SEARCH RETURN (ALL COUNT) ALL"}, want: []string{"* ESEARCH {*}", "a OK {*}"}, again: "UID SEARCH"},
		"half a search": {say: []string{"a UID SEARCH ALL"}, before: []string{"* SEARCH 1 2"}, want: []string{"* SEARCH 1 2", "a NO [UNAVAILABLE] {*}"}},
		"content that was told": {say: []string{"a UID FETCH 1:2 (BODY[])"}, before: []string{"* 1 FETCH (UID 1 BODY[] \"x\")"},
			want: []string{"* 1 FETCH (UID 1 BODY[] \"x\")", "* 1 FETCH {*}", "* 2 FETCH {*}", "* 3 FETCH {*}", "a OK {*}"}, again: "UID FETCH 2 (BODY[])"},
		"COPY":                         {say: []string{"a UID COPY 1 Other"}, want: []string{"a NO [UNAVAILABLE] {*}"}},
		"APPEND":                       {say: []string{"a APPEND INBOX {3+}", "abc"}, want: []string{"a NO [UNAVAILABLE] {*}"}},
		"a deletion behind a COPY":     {say: []string{"a UID COPY 1 Other", `b UID STORE 1 +FLAGS (\Deleted)`, "d UID EXPUNGE 1"}, want: []string{"a NO {*}", "b NO {*}", "d NO {*}"}},
		"two of them":                  {say: []string{"a UID FETCH 1 (FLAGS)", "b NOOP"}, want: []string{"* 1 FETCH {*}", "* 2 FETCH {*}", "* 3 FETCH {*}", "a OK {*}", "b OK {*}"}, again: "UID FETCH"},
		"IDLE behind a command":        {say: []string{"a UID FETCH 1 (FLAGS)", "b IDLE"}, want: []string{"* 1 FETCH {*}", "* 2 FETCH {*}", "* 3 FETCH {*}", "a OK {*}", "+{*}"}, again: "UID FETCH"},
		"SELECT":                       {say: []string{"a SELECT Other"}, want: []string{"* OK [CLOSED] {*}", "* FLAGS {*}", "* 3 EXISTS", "* OK {*}", "* OK {*}", "* OK {*}", "a OK {*}"}, again: "SELECT"},
		"a mark behind a SELECT":       {say: []string{"a UID SEARCH RETURN (ALL COUNT) ALL", "b SELECT Other"}, want: []string{"a NO {*}", "* OK [CLOSED] {*}", "* FLAGS {*}", "* 3 EXISTS", "* OK {*}", "* OK {*}", "* OK {*}", "b OK {*}"}},
		"a mark that counts changes":   {say: []string{`a UID STORE 1 (UNCHANGEDSINCE 5) +FLAGS (\Seen)`}, want: []string{"a NO {*}"}},
		"a search that is to be saved": {say: []string{"a UID SEARCH RETURN (SAVE) ALL"}, want: []string{"a NO {*}"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 3)
			k := p.stays("SELECT INBOX")
			words := strings.Fields(c.say[0])
			first := words[1]
			if first == "UID" {
				first += " " + words[2]
			}
			var lost atomic.Bool
			p.on(first, func(b *imaptest.BackendConn, cmd imaptest.Command) error {
				if lost.Swap(true) {
					return p.answer(b, cmd)
				}
				for _, line := range c.say[1:] {
					if line != "abc" {
						if _, err := b.ReadCommand(); err != nil {
							return err
						}
					}
				}
				if len(c.before) > 0 {
					_ = b.Send(c.before...)
				}
				return io.EOF
			})
			k.Write(c.say...)
			for _, want := range c.want {
				k.Expect(want)
			}
			if c.again != "" {
				verb, set, rest := strings.Cut(c.again, " 2") // a set: the command's rest
				said := p.said(verb)
				if n := len(said); n < 2 || rest && !strings.HasSuffix(said[n-1], " 2"+set) {
					t.Errorf("want %s twice: %q", c.again, said)
				}
			}
			if strings.HasSuffix(c.say[len(c.say)-1], " IDLE") {
				k.Write("DONE")
				k.Expect("b OK {*}")
			}
			k.MustOK("CHECK")
		})
	}
}

// A client whose command waits for a backend hears of the proxy now and then.
func TestWhoWaitsForABackendHearsOfTheProxy(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	c := p.stays("SELECT INBOX")
	p.set(func() { p.refuses = "NO [UNAVAILABLE] not yet" })
	p.on("NOOP", func(b *imaptest.BackendConn, _ imaptest.Command) error {
		p.on("NOOP", p.answer)
		return io.EOF
	})
	c.Write("n NOOP")
	eventually(t, "an attempt", func() bool { return len(p.said("AUTHENTICATE")) > 1 })
	p.clock.forward(6 * time.Second)
	c.Expect("* OK Still here{*}")
	p.set(func() { p.refuses = "" })
	c.Expect("n OK {*}")
}

// A client whose session lost its connection while no command was under way, and which sends one while the backend isn't there.
func TestWhoAsksDuringARecoveryHearsOfTheProxy(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	c := p.stays("SELECT INBOX")
	p.set(func() { p.refuses = "NO [UNAVAILABLE] not yet" })
	p.on("NOOP", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
		p.on("NOOP", p.answer)
		_ = p.answer(b, cmd)
		return io.EOF
	})
	c.MustOK("NOOP")
	eventually(t, "an attempt", func() bool { return len(p.said("AUTHENTICATE")) > 1 })
	c.Write("n NOOP")
	p.clock.forward(6 * time.Second)
	c.Expect("* OK Still here{*}")
	p.set(func() { p.refuses = "" })
	c.Expect("n OK {*}")
}

// A session that comes back at once needs no watch of its mailbox: that would be another login at a backend that has just
// started, and the client would wait for it.
func TestARecoveryMakesNoWatch(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3, func(o *Options) {
		hub := park.NewHub(park.HubOptions{Watch: "idle", Telemetry: o.Telemetry})
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { hub.Run(ctx) })
		t.Cleanup(func() { stop(); running.Wait() })
		o.Park.Hub = hub
	})
	c := p.stays("SELECT INBOX")
	before := p.backends[0].Accepted()
	p.lose()
	c.MustOK("NOOP")
	if said := p.said("IDLE"); len(said) != 0 {
		t.Errorf("a watch was made: %q", said)
	}
	if n := p.backends[0].Accepted() - before; n != 1 {
		t.Errorf("%d connections were made, want the session's", n)
	}
}
