package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// answers has the scripted backend tell flags to FETCH, and say OK to a silent STORE, whose
// changes are there afterwards.
func (p *scripted) flagsTold(flags string) {
	p.on("UID FETCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		p.mu.Lock()
		var out []string
		for i, uid := range p.uids {
			out = append(out, fmt.Sprintf("* %d FETCH (UID %d FLAGS (%s))", i+1, uid, flags))
		}
		p.mu.Unlock()
		if !strings.Contains(cmd.Args, "FLAGS") {
			out = nil
			for i, uid := range p.uids {
				out = append(out, fmt.Sprintf("* %d FETCH (UID %d)", i+1, uid))
			}
		}
		return c.Send(append(out, cmd.Tag()+" OK done")...)
	})
	p.on("UID STORE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		for _, uid := range p.uids {
			p.flag(uid)
		}
		return c.Send(cmd.Tag() + " OK done")
	})
}

// Flags that the client has set itself, or was told, aren't told again when it comes back.
func TestFlagsThatTheClientKnowsAreNotToldAgain(t *testing.T) {
	p := newScripted(t, scriptedCaps, 1000)
	c := p.login("alice")
	c.MustOK("SELECT INBOX")
	p.flagsTold("")
	c.MustOK("UID FETCH 1:* (FLAGS)")
	c.MustOK(`UID STORE 1:1000 +FLAGS.SILENT (\Flagged)`) // what the backend says of each from now on
	p.idles(c)
	p.on("UID FETCH", nil)
	p.on("UID STORE", nil)
	c.Write("DONE", "n NOOP", "c CREATE x")
	for _, pattern := range []string{"i OK {*}", "n OK {*}", "c OK {*}"} {
		if r := c.Expect(pattern); r.Word(2) == "FETCH" {
			t.Fatalf("told %s", r)
		}
	}
}

// The same where it has set by number what it was told by UID, or was told by number since, behind
// an EXPUNGE, and when it comes back for the second time.
func TestFlagsThatWereSetByNumberAreNotToldAgain(t *testing.T) {
	p := newScripted(t, scriptedCaps, 1000)
	c := p.login("alice")
	c.MustOK("SELECT INBOX")
	p.flagsTold("")
	c.MustOK("UID FETCH 1:* (FLAGS)")
	p.on("CREATE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		p.expunge(1000)
		p.expunge(5)
		return c.Send("* 1000 EXPUNGE", "* 5 EXPUNGE", cmd.Tag()+" OK done")
	})
	c.MustOK("CREATE x")
	flagged := func(first, last uint32) {
		p.on("STORE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			for uid := first; uid <= last; uid++ {
				p.flag(uid)
			}
			return c.Send(`* 4 FETCH (FLAGS (\Flagged))`, cmd.Tag()+" OK done")
		})
	}
	flagged(4, 999)
	c.MustOK(`STORE 5:998 +FLAGS.SILENT (\Flagged)`)
	for range 2 {
		p.idles(c)
		p.on("UID FETCH", nil)
		p.on("CREATE", nil)
		c.Write("DONE", "n NOOP", "c CREATE x")
		for _, pattern := range []string{"i OK {*}", "n OK {*}", "c OK {*}"} {
			if r := c.Expect(pattern); r.Word(2) == "FETCH" {
				t.Fatalf("told %s", r)
			}
		}
		flagged(3, 4)
		c.MustOK("NOOP")
	}
}

// What the client can't know, or another has set since, is told.
func TestFlagsThatTheClientMayNotKnowAreTold(t *testing.T) {
	for name, say := range map[string]func(p *scripted, c *imaptest.Client){
		"flags that it was never told": func(p *scripted, c *imaptest.Client) {
			p.flagsTold("")
			c.MustOK(`UID STORE 1:2 +FLAGS.SILENT (\Flagged)`)
		},
		"other flags than it has set": func(p *scripted, c *imaptest.Client) {
			p.flagsTold("")
			c.MustOK("UID FETCH 1:* (FLAGS)")
			c.MustOK(`UID STORE 1:2 +FLAGS.SILENT (\Seen)`)
		},
		"a STORE that failed": func(p *scripted, c *imaptest.Client) {
			p.flagsTold("")
			c.MustOK("UID FETCH 1:* (FLAGS)")
			p.on("UID STORE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
				for uid := range uint32(2) {
					p.flag(uid + 1)
				}
				return c.Send(cmd.Tag() + " NO not all of it")
			})
			c.Cmd(`UID STORE 1:2 +FLAGS.SILENT (\Flagged)`)
		},
		"told something else since, by number": func(p *scripted, c *imaptest.Client) {
			p.flagsTold(`\Flagged`)
			c.MustOK("UID FETCH 1:* (FLAGS)")
			p.on("CREATE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
				for uid := range uint32(2) {
					p.flag(uid + 1)
				}
				return c.Send("* 1 FETCH (FLAGS ())", "* 2 FETCH (FLAGS ())", cmd.Tag()+" OK done")
			})
			c.MustOK("CREATE x")
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 2)
			c := p.login("alice")
			c.MustOK("SELECT INBOX")
			say(p, c)
			p.idles(c)
			for _, command := range []string{"UID FETCH", "UID STORE", "CREATE"} {
				p.on(command, nil)
			}
			c.Write("DONE")
			c.Expect("i OK {*}")
			c.Write("n NOOP")
			c.Expect(`* 1 FETCH (FLAGS (\Flagged))`)
			c.Expect(`* 2 FETCH (FLAGS (\Flagged))`)
			c.Expect("n OK {*}")
		})
	}
}

// A backend such as Dovecot tells a client without CONDSTORE no mod-sequence, so that what the hub found when the client was
// parked bounds what the client knows. Flags that came with the proxy's own commands then, in no command of the
// client's, are told with its next one all the same, whatever happens to the messages meanwhile.
func TestFlagsThatCameWhileItWasParkedAreTold(t *testing.T) {
	for name, more := range map[string]func(p *scripted){
		"nothing else":      func(*scripted) {},
		"another change":    func(p *scripted) { p.flag(4) },
		"a message is gone": func(p *scripted) { p.expunge(1) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 4, func(o *Options) { o.Park.QuietAfter = time.Nanosecond })
			p.on("SELECT", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
				p.mu.Lock()
				out := slices.DeleteFunc(p.answerLocked(cmd), func(line string) bool {
					return strings.Contains(line, "HIGHESTMODSEQ") && !strings.Contains(cmd.Args, "QRESYNC")
				})
				p.mu.Unlock()
				return c.Send(append(out, cmd.Tag()+" OK done")...)
			})
			c := p.login("alice")
			c.MustOK("SELECT INBOX")
			p.flag(2)
			p.on("FETCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error { // of the proxy's own
				return c.Send("* 1 FETCH (UID 1)", "* 2 FETCH (UID 2)", "* 3 FETCH (UID 3)", "* 4 FETCH (UID 4)", `* 2 FETCH (FLAGS (\Flagged))`, cmd.Tag()+" OK done")
			})
			p.parked()
			more(p)
			c.Write("n NOOP")
			told := false
			for {
				r := c.Expect("{*}")
				if told = told || r.Text == `* 2 FETCH (FLAGS (\Flagged))` || r.Text == `* 2 FETCH (UID 2 FLAGS (\Flagged))` || r.Text == `* 1 FETCH (FLAGS (\Flagged))`; r.Word(0) == "N" {
					break
				}
			}
			if !told {
				t.Error("the client wasn't told of the flags")
			}
		})
	}
}
