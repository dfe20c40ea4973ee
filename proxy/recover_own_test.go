package proxy

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
	"imapproxy/telemetry"
)

// A session whose connection is lost goes on with the connection on which it has looked for its client's view, on which nothing is
// enabled but what the client has enabled: when thousands come back at once, logins are what they wait for.
func TestALostConnectionCostsOneLogin(t *testing.T) {
	happens := func(p *scripted) {
		p.expunge(2)
		p.deliver()
		p.flag(3)
	}
	for name, c := range map[string]struct {
		caps    string
		before  []string
		happens func(p *scripted)
		say     string
		want    []string
		enables int
	}{
		"nothing selected": {say: "n NOOP", want: []string{"n OK {*}"}},
		"a quiet mailbox":  {before: []string{"SELECT INBOX"}, say: "n NOOP", want: []string{"n OK {*}"}},
		"a busy one": {before: []string{"SELECT INBOX", "UID FETCH 1:* (FLAGS)"}, happens: happens, say: "n NOOP",
			want: []string{"* 2 EXPUNGE", "* 3 EXISTS", `* 2 FETCH (FLAGS (\Flagged))`, "n OK {*}"}},
		"mod-sequences": {before: []string{"SELECT INBOX (CONDSTORE)", "UID FETCH 1:* (FLAGS)"}, happens: happens, say: "n NOOP", enables: 1, // CONDSTORE
			want: []string{"* 2 EXPUNGE", "* 3 EXISTS", `* 2 FETCH (UID 3 FLAGS (\Flagged) MODSEQ (13))`, "n OK {*}"}},
		"QRESYNC": {before: []string{"ENABLE QRESYNC", "SELECT INBOX"}, happens: happens, say: "n NOOP", enables: 2,
			want: []string{"* VANISHED 2", "* 3 EXISTS", `* {*} FETCH (UID 3 FLAGS (\Flagged) MODSEQ (13))`, "n OK {*}"}},
		"no QRESYNC": {caps: "IMAP4rev1 IDLE UNSELECT ESEARCH", before: []string{"SELECT INBOX"}, say: "n NOOP",
			want: []string{"* 1 FETCH (FLAGS ())", "* 2 FETCH (FLAGS ())", "* 3 FETCH (FLAGS ())", "n OK {*}"}},
		"mod-sequences, no QRESYNC": {caps: "IMAP4rev1 IDLE UNSELECT ENABLE CONDSTORE ESEARCH", before: []string{"SELECT INBOX (CONDSTORE)", "UID FETCH 1:* (FLAGS)"},
			happens: happens, say: "n NOOP", enables: 1,
			want: []string{"* 2 EXPUNGE", "* 3 EXISTS", `* 2 FETCH (UID 3 FLAGS (\Flagged) MODSEQ (13))`, "n OK {*}"}},
		"numbers of before": {before: []string{"SELECT INBOX", "UID FETCH 1:* (FLAGS)"}, happens: happens, say: "n FETCH 3 (UID)",
			want: []string{"* 4 EXISTS", `* 3 FETCH (FLAGS (\Flagged))`, "n OK {*}"}},
		"the mailbox is left": {before: []string{"SELECT INBOX"}, happens: happens, say: "n SELECT Other",
			want: []string{"* OK [CLOSED] {*}", "* FLAGS {*}", "* 3 EXISTS", "* OK {*}", "* OK {*}", "* OK {*}", "n OK {*}"}},
		"it is closed": {before: []string{"SELECT INBOX"}, happens: happens, say: "n CLOSE", want: []string{"n OK {*}"}},
	} {
		t.Run(name, func(t *testing.T) {
			caps := scriptedCaps
			if c.caps != "" {
				caps = c.caps
			}
			p := newScripted(t, caps, 3)
			k := p.stays(c.before...)
			p.on(strings.Fields(c.say)[1], func(*imaptest.BackendConn, imaptest.Command) error {
				p.on(strings.Fields(c.say)[1], p.answer)
				return io.EOF
			})
			before := p.backends[0].Accepted()
			if c.happens != nil {
				c.happens(p)
			}
			k.Write(c.say)
			for _, line := range c.want {
				k.Expect(line)
			}
			if n := p.backends[0].Accepted() - before; n != 1 {
				t.Errorf("%d logins", n)
			}
			if e, x := p.said("ENABLE"), p.said("EXAMINE"); len(e) != c.enables || len(x) != 0 {
				t.Errorf("the backend was sent %q %q", e, x)
			}
			k.MustOK("CHECK")
		})
	}
	t.Run("in a response", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 3)
		k := p.stays("SELECT INBOX", "UID FETCH 1:* (FLAGS)")
		content := contents(map[uint32]string{1: strings.Repeat("x", 100)}, func() string { return "" })
		p.cutAt("UID FETCH", 90, func(cmd imaptest.Command) string {
			if !strings.Contains(cmd.Args, "(FLAGS)") {
				return content(cmd)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			return strings.Join(append(p.answerLocked(cmd), cmd.Tag()+" OK done"), "\r\n") + "\r\n"
		})
		before := p.backends[0].Accepted()
		p.expunge(2)
		k.Write("a UID FETCH 1 (BODY[])")
		k.Expect("* 1 FETCH {*}")
		k.Expect("a OK {*}")
		k.Write("n NOOP")
		k.Expect("* 2 EXPUNGE")
		k.Expect("n OK {*}")
		if n := p.backends[0].Accepted() - before; n != 1 {
			t.Errorf("%d logins", n)
		}
	})
	t.Run("of several sessions", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 3)
		var all []*imaptest.Client
		for range 3 {
			all = append(all, p.stays("SELECT INBOX"))
		}
		before := p.backends[0].Accepted()
		p.lose()
		for _, k := range all {
			k.MustOK("NOOP")
		}
		if n := p.backends[0].Accepted() - before; n != len(all) {
			t.Errorf("%d logins", n)
		}
	})
}

// What the session's own connection doesn't show is asked for on another, with QRESYNC; the session goes on with its own.
func TestALookThatNeedsAnotherConnection(t *testing.T) {
	for name, c := range map[string]struct {
		messages uint32
		before   func(p *scripted, k *imaptest.Client)
		happens  func(p *scripted)
		want     []string
	}{
		"a message has gone unheard": {messages: 3, happens: func(p *scripted) { p.expunge(2); p.flag(3) },
			want: []string{"* 2 EXPUNGE", "* 1 FETCH (FLAGS ())", `* 2 FETCH (FLAGS (\Flagged))`, "n OK {*}"}},
		"flags of many messages": {messages: 300, happens: func(p *scripted) { p.flag(7) },
			want: []string{`* 7 FETCH (FLAGS (\Flagged))`, "n OK {*}"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, c.messages)
			k := p.stays("SELECT INBOX")
			before := p.backends[0].Accepted()
			c.happens(p)
			p.lose()
			k.Write("n NOOP")
			for _, line := range c.want {
				k.Expect(line)
			}
			if n := p.backends[0].Accepted() - before; n != 2 {
				t.Errorf("%d logins", n)
			}
			k.MustOK("CHECK")
		})
	}
}

// A client that uses mod-sequences at a backend without QRESYNC can't be parked. In IDLE, too, it goes on with another connection.
func TestAnIdleWithModSequencesOutlivesABackendWithoutQResync(t *testing.T) {
	p := newScripted(t, "IMAP4rev1 IDLE UNSELECT ENABLE CONDSTORE ESEARCH", 3)
	k := p.stays("SELECT INBOX (CONDSTORE)", "UID FETCH 1:* (FLAGS)")
	k.Write("i IDLE")
	k.Expect("+{*}")
	p.expunge(2)
	p.flag(3)
	idles := len(p.said("IDLE"))
	p.lose()
	k.Expect("* 2 EXPUNGE")
	k.Expect(`* 2 FETCH (UID 3 FLAGS (\Flagged) MODSEQ (12))`)
	eventually(t, "IDLE on the new connection", func() bool { return len(p.said("IDLE")) > idles })
	done(k)
	k.MustOK("CHECK")
}

// The backend says of more messages that they have gone than the client has counted. Its view is found by the UIDs that it was told with
// flags or content, or where it doesn't matter which messages it counted: it is told by number that they have gone.
func TestWhatTheClientWasToldSaysWhichMessagesHaveGone(t *testing.T) {
	for name, c := range map[string]struct {
		first []string
		told  string // the answer to FETCH
		gone  []uint32
		want  string // "": the session ends
	}{
		"nothing was told":                {gone: []uint32{4}},
		"the UID before it":               {told: "* 2 FETCH (UID 3 FLAGS ())", gone: []uint32{4}, want: "* 3 EXPUNGE"},
		"the UID before it, with content": {told: "* 2 FETCH (UID 3 BODY[] {1}\r\nx)", gone: []uint32{4}, want: "* 3 EXPUNGE"},
		"its own UID":                     {told: "* 3 FETCH (FLAGS () UID 4)", gone: []uint32{4}, want: "* 3 EXPUNGE"},
		"the UID behind it":               {told: "* 4 FETCH (UID 5 FLAGS ())", gone: []uint32{4}},
		"it was the first":                {gone: []uint32{2}, want: "* 1 EXPUNGE"},
		"it was the first, told by UID":   {first: []string{"ENABLE QRESYNC"}, gone: []uint32{2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newScripted(t, scriptedCaps, 5)
			p.expunge(1) // the backend says so of all that ever have gone
			k := p.stays(append(c.first, "SELECT INBOX")...)
			if c.told != "" {
				p.on("FETCH", func(b *imaptest.BackendConn, cmd imaptest.Command) error { return b.Send(c.told, cmd.Tag()+" OK done") })
				k.MustOK("FETCH 1:4 (UID)")
			}
			for _, uid := range c.gone {
				p.expunge(uid)
			}
			p.lose()
			if c.want == "" {
				k.Expect("* BYE [UNAVAILABLE] {*}")
				k.ExpectEOF()
				p.ended(session.ReasonViewLost)
				return
			}
			k.Write("n NOOP")
			k.Expect(c.want)
			for {
				if r := k.Read(); r.Tag() == "n" {
					break
				} else if r.Word(2) == "EXPUNGE" || r.Word(2) == "EXISTS" {
					t.Error(r)
				}
			}
		})
	}
}

// Why a view isn't found is counted.
func TestALostViewsReasonIsCounted(t *testing.T) {
	for name, c := range map[string]struct {
		caps    string
		happens func(p *scripted)
	}{
		"no_history": {"IMAP4rev1 IDLE UNSELECT ESEARCH", func(p *scripted) { p.expunge(2) }},
		"history":    {scriptedCaps, func(p *scripted) { p.expunge(4) }},
		"added":      {scriptedCaps, func(p *scripted) { p.deliver(); p.deliver(); p.expunge(6) }},
	} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, c.caps, 5)
			p.expunge(1) // the backend says so of all that ever have gone
			k := p.stays("SELECT INBOX")
			if name == "added" {
				p.on("NOOP", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
					return b.Send("* 5 EXISTS", cmd.Tag()+" OK done")
				})
				k.MustOK("NOOP")
			}
			c.happens(p)
			p.lose()
			k.Expect("* BYE [UNAVAILABLE] {*}")
			k.ExpectEOF()
			p.ended(session.ReasonViewLost)
			if n := p.metric("imapproxy_views_lost_total", `why="`+name+`"`); n != 1 {
				t.Errorf("counted %v times", n)
			}
		})
	}
}

// A client in IDLE is resumed, and the backend ends the new connection before it has accepted IDLE.
func TestAConnectionThatEndsBeforeIdleIsAccepted(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	c := p.idle("SELECT INBOX")
	p.on("EXAMINE", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
		return b.Send(cmd.Tag() + " NO [UNAVAILABLE] not now")
	})
	p.on("IDLE", func(*imaptest.BackendConn, imaptest.Command) error {
		p.on("IDLE", p.answer)
		p.on("EXAMINE", p.answer)
		return io.EOF
	})
	before := len(p.said("IDLE"))
	p.hint()
	eventually(t, "the look after the hint", func() bool { return len(p.said("EXAMINE")) > 0 })
	done(c)
	if n := len(p.said("IDLE")) - before; n != 1 {
		t.Errorf("the backend was asked %d times for IDLE", n)
	}
	c.MustOK("NOOP")
}

// A backend that refuses the mailbox of a lost connection names it in its answer. Neither lines nor spans have it where names may not be written.
func TestARecoveryNamesNoMailbox(t *testing.T) {
	for _, mode := range []string{telemetry.PersonalNone, telemetry.PersonalHashed, telemetry.PersonalFull} {
		t.Run(mode, func(t *testing.T) {
			lines, spans := newLogLines(), tracetest.NewInMemoryExporter()
			tel, err := telemetry.Start(t.Context(), telemetry.Options{LogWriter: lines, SampleRatio: 1, SpanExporter: spans, Personal: mode, PersonalKey: "key"})
			must(t, err)
			p := newScripted(t, scriptedCaps, 3, func(o *Options) { o.Telemetry = tel })
			k := p.stays("SELECT Private")
			refused := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
				return c.Send(cmd.Tag() + " NO [NONEXISTENT] no mailbox Private")
			}
			p.on("SELECT", refused)
			p.on("EXAMINE", refused)
			p.lose()
			k.Expect("* BYE {*}")
			said := lines.wait(t, "the messages that the client counts can't be found.*") + "\n"
			eventually(t, "the trace of the recovery", func() bool {
				return slices.ContainsFunc(spans.GetSpans(), func(s tracetest.SpanStub) bool { return s.Name == "recover" })
			})
			for _, s := range spans.GetSpans() {
				said += fmt.Sprintln(s.Name, s.Status.Description)
			}
			if n := strings.Count(said, ": NO [NONEXISTENT]"); n < 2 {
				t.Errorf("the refusal is written %d times in\n%s", n, said)
			}
			if strings.Contains(said, "Private") != (mode == telemetry.PersonalFull) {
				t.Errorf("the mailbox's name is contained: %v\n%s", mode != telemetry.PersonalFull, said)
			}
		})
	}
}
