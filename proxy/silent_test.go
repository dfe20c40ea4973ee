package proxy

import (
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// Flags that others have set while the client was parked aren't told behind its own STORE
// .SILENT as they were before it; with it the client hears of both.
func TestFlagsOfBeforeASilentStoreAreNotToldBehindIt(t *testing.T) {
	for name, c := range map[string]struct {
		verb, args string // the client's
		arrives    string // its arguments at the backend
		expunged   uint32
		before     []string // told before the answer
		after      []string
	}{
		"by UID":                      {"UID STORE", `2 +FLAGS.SILENT (\Seen)`, `2 +FLAGS (\Seen)`, 0, nil, nil},
		"without parentheses":         {"UID STORE", `2 +flags.silent \Seen`, `2 +flags \Seen`, 0, nil, nil},
		"by number":                   {"STORE", `1:2 +FLAGS.SILENT (\Seen)`, `1:2 +FLAGS (\Seen)`, 0, nil, nil},
		"the last one":                {"UID STORE", `*:2 -FLAGS.SILENT (\Flagged)`, `*:2 -FLAGS (\Flagged)`, 0, nil, nil},
		"replaced":                    {"STORE", `2 FLAGS.SILENT (\Seen)`, `2 FLAGS (\Seen)`, 0, nil, nil},
		"another message":             {"UID STORE", `3 +FLAGS.SILENT (\Seen)`, `3 +FLAGS.SILENT (\Seen)`, 0, []string{`* 2 FETCH (FLAGS (\Flagged))`}, nil},
		"no change to it":             {"UID STORE", `2 +FLAGS.SILENT (\Flagged)`, `2 +FLAGS.SILENT (\Flagged)`, 0, []string{`* 2 FETCH (FLAGS (\Flagged))`}, nil},
		"by UID, others expunged":     {"UID STORE", `2 +FLAGS.SILENT (\Seen)`, `2 +FLAGS (\Seen)`, 4, []string{"* 4 EXPUNGE"}, nil},
		"by number, others expunged":  {"STORE", `2 +FLAGS.SILENT (\Seen)`, `2 +FLAGS (\Seen)`, 4, nil, []string{"* 4 EXPUNGE"}},
		"UNCHANGEDSINCE, and it was":  {"UID STORE", `2 (UNCHANGEDSINCE 9) +FLAGS.SILENT (\Seen)`, `2 (UNCHANGEDSINCE 9) +FLAGS.SILENT (\Seen)`, 0, []string{`* 2 FETCH (UID 2 FLAGS (\Flagged) MODSEQ (11))`}, nil},
		"UNCHANGEDSINCE, and it will": {"UID STORE", `2 (UNCHANGEDSINCE 11) +FLAGS.SILENT (\Seen)`, `2 (UNCHANGEDSINCE 11) +FLAGS (\Seen)`, 0, []string{`* 2 FETCH (UID 2 FLAGS (\Flagged) MODSEQ (11))`}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 4)
			client := p.idle("SELECT INBOX")
			done(client)
			if c.args[0] == '2' && len(c.args) > 20 && c.args[2] == '(' {
				client.MustOK("ENABLE QRESYNC")
				p.idles(client)
				done(client)
			}
			p.flag(2)
			if c.expunged != 0 {
				p.expunge(c.expunged)
			}
			p.on(c.verb, func(c2 *imaptest.BackendConn, cmd imaptest.Command) error {
				if cmd.Args != c.arrives {
					t.Errorf("the backend was told %s %s", c.verb, cmd.Args)
				}
				return c2.Send(`* 2 FETCH (UID 2 FLAGS (\Flagged \Seen))`, cmd.Tag()+" OK done")
			})
			client.Write("s " + c.verb + " " + c.args)
			for _, line := range c.before {
				client.Expect(line)
			}
			client.Expect(`* 2 FETCH (UID 2 FLAGS (\Flagged \Seen))`)
			client.Expect("s OK done")
			client.Write("n NOOP")
			for _, line := range c.after {
				client.Expect(line)
			}
			client.Expect("n OK {*}")
		})
	}
}

// Should the STORE fail, what was left out is told by a later resume.
func TestFlagsThatWereLeftOutAreToldWhenTheStoreFails(t *testing.T) {
	p := newScripted(t, scriptedCaps, 4)
	c := p.idle("SELECT INBOX")
	done(c)
	p.flag(2)
	p.on("UID STORE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send(cmd.Tag() + " NO not allowed")
	})
	c.Write(`s UID STORE 2 +FLAGS.SILENT (\Seen)`)
	c.Expect("s NO not allowed")
	p.idles(c)
	c.Write("DONE")
	c.Expect("i OK {*}")
	c.Write("n NOOP")
	c.Expect(`* 2 FETCH (FLAGS (\Flagged))`)
	c.Expect("n OK {*}")
}

// A command with a long set comes in several segments: it is seen whole before anything is told.
func TestALongCommandIsReadWholeBeforeAnythingIsTold(t *testing.T) {
	set := strings.Repeat("2,", 500)
	for name, c := range map[string]struct {
		happens         func(p *scripted)
		say, rest, hear string
		asked           string
	}{
		"a silent STORE of a message whose flags have changed": {func(p *scripted) { p.flag(2) }, "UID STORE " + set, `2 +FLAGS.SILENT (\Seen)`,
			`* 2 FETCH (FLAGS (\Flagged \Seen))`, "UID STORE " + set + `2 +FLAGS (\Seen)`},
		"a STORE up to the last message, and one has come": {(*scripted).deliver, "UID STORE " + set, "3:* +FLAGS (a)",
			"* 5 EXISTS", "UID STORE " + set + "3:4 +FLAGS (a)"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 4)
			client := p.idle("SELECT INBOX")
			done(client)
			c.happens(p)
			p.on("UID STORE", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
				if strings.Contains(cmd.Args, "Seen") && !strings.Contains(cmd.Args, "SILENT") {
					must(t, b.Send(`* 2 FETCH (FLAGS (\Flagged \Seen))`))
				}
				return b.Send(cmd.Tag() + " OK done")
			})
			must(t, client.SendRaw("s "+c.say))
			p.attached()
			must(t, client.SendRaw(c.rest+"\r\n"))
			if r := client.Read(); r.Text != c.hear {
				t.Errorf("told %s", r)
			}
			for r := client.Read(); r.Tag() != "s"; r = client.Read() {
				t.Errorf("told %s", r)
			}
			if said := p.said("UID STORE"); len(said) != 1 || !strings.HasSuffix(said[0], c.asked) {
				t.Errorf("the backend was asked for %q", said)
			}
			p.idles(client)
		})
	}
}

// Nor behind one that has come while DONE waits for a backend.
func TestASilentStoreThatComesWhileDoneWaitsForABackend(t *testing.T) {
	p := newScripted(t, scriptedCaps, 4)
	c := p.idle("SELECT INBOX")
	p.on("EXAMINE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send(cmd.Tag() + " NO [UNAVAILABLE] not now") // it can't be looked at before the session comes back
	})
	waits, sent := make(chan struct{}), make(chan struct{})
	p.on("SELECT", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		p.on("EXAMINE", nil)
		p.on("SELECT", nil)
		close(waits)
		<-sent
		return p.answer(c, cmd)
	})
	p.on("UID STORE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send("* 2 FETCH (FLAGS (\\Flagged \\Seen))", cmd.Tag()+" OK done")
	})
	p.flag(2)
	p.hint()
	eventually(t, "a look", func() bool { return len(p.said("EXAMINE")) > 1 })
	c.Write("DONE")
	select {
	case <-waits:
	case <-time.After(imaptest.DefaultTimeout):
		close(sent)
		t.Fatal("DONE needed no backend")
	}
	c.Write(`x UID STORE 2 +FLAGS.SILENT (\Seen)`)
	close(sent)
	for _, want := range []string{"i OK {*}", `* 2 FETCH (FLAGS (\Flagged \Seen))`, "x OK done"} {
		c.Expect(want)
	}
	if said := p.said("UID STORE"); len(said) != 1 || strings.Contains(said[0], "SILENT") {
		t.Errorf("the backend was asked for %q", said)
	}
}

// Nor behind one that comes while the session gets another backend connection although its client has sent nothing, or
// only a part of a command: the client may write it before it reads anything.
func TestASilentStoreThatComesWhileTheSessionIsResumed(t *testing.T) {
	for name, sent := range map[string]string{"nothing": "", "the tag": "s ", "half the verb": "s UID STO"} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 4)
			c := p.stays("SELECT INBOX", "UID FETCH 1:* (FLAGS)")
			p.flag(2)
			p.on("UID STORE", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
				if strings.Contains(cmd.Args, "SILENT") {
					return b.Send(cmd.Tag() + " OK done")
				}
				return b.Send(`* 2 FETCH (FLAGS (\Flagged \Seen))`, cmd.Tag()+" OK done")
			})
			must(t, c.SendRaw(sent))
			p.lose()
			eventually(t, "a new connection", func() bool { return len(p.said("SELECT")) == 2 })
			must(t, c.SendRaw(`s UID STORE 2 +FLAGS.SILENT (\Seen)`[len(sent):]+"\r\n"))
			c.Expect(`* 2 FETCH (FLAGS (\Flagged \Seen))`)
			c.Expect("s OK done")
			c.MustOK("CHECK")
		})
	}
}
