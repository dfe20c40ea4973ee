package proxy

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
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

// hidesModSeq has SELECT show no HIGHESTMODSEQ while hidden is set, as Dovecot's does until a session uses mod-sequences there.
func (p *scripted) hidesModSeq(hidden *atomic.Bool) {
	p.on("SELECT", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		p.mu.Lock()
		out := p.answerLocked(cmd)
		p.mu.Unlock()
		if hidden.Load() {
			out = slices.DeleteFunc(out, func(line string) bool { return strings.Contains(line, "HIGHESTMODSEQ") })
		}
		return c.Send(append(out, cmd.Tag()+" OK done")...)
	})
}

// fetched has the proxy's own FETCH 1:* (UID) answered, and then these lines told.
func (p *scripted) fetched(lines ...string) {
	p.on("FETCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		p.mu.Lock()
		var out []string
		for i, uid := range p.uids {
			out = append(out, fmt.Sprintf("* %d FETCH (UID %d)", i+1, uid))
		}
		p.mu.Unlock()
		return c.Send(append(append(out, lines...), cmd.Tag()+" OK done")...)
	})
}

// If SELECT shows no mod-sequence, what the hub finds when the client is parked covers flags of which the client may not
// have been told. They are told with its next command, also if the backend has only announced a keyword, and
// whatever happens to the messages meanwhile.
func TestFlagsThatCameWhileItWasParkedAreTold(t *testing.T) {
	for name, more := range map[string]func(p *scripted){
		"nothing else":      func(*scripted) {},
		"another change":    func(p *scripted) { p.flag(4) },
		"a message is gone": func(p *scripted) { p.expunge(1) },
	} {
		for shown, lines := range map[string][]string{
			"shown":     {`* 2 FETCH (FLAGS (\Flagged))`},
			"announced": {`* FLAGS (\Seen \Flagged \Deleted kw0)`, `* OK [PERMANENTFLAGS (\Seen \Flagged \Deleted kw0)] p`},
		} {
			for _, command := range []string{"NOOP", "CREATE x"} { // answered without a backend, and by one
				t.Run(fmt.Sprintf("%s, %s, %s", name, shown, command), func(t *testing.T) {
					p := newScripted(t, scriptedCaps, 4, func(o *Options) { o.Park.QuietAfter = time.Nanosecond })
					var hidden atomic.Bool
					hidden.Store(true)
					p.hidesModSeq(&hidden)
					c := p.login("alice")
					c.MustOK("SELECT INBOX")
					p.flag(2)
					p.fetched(lines...)
					p.parked()
					hidden.Store(false)
					more(p)
					c.Write("n " + command)
					told := false
					for {
						r := c.Expect("{*}")
						if told = told || r.Text == `* 2 FETCH (FLAGS (\Flagged))` || r.Text == `* 1 FETCH (FLAGS (\Flagged))`; r.Word(0) == "N" {
							break
						}
					}
					if !told {
						t.Error("the client wasn't told of the flags")
					}
				})
			}
		}
	}
}

// What the client is told then isn't told again, and later resyncs don't ask for it.
func TestAViewWithoutAModSequenceGetsOne(t *testing.T) {
	p := newScripted(t, scriptedCaps, 2, func(o *Options) { o.Park.QuietAfter = time.Nanosecond })
	p.flag(2) // the mod-sequence is 11
	var hidden atomic.Bool
	hidden.Store(true)
	p.hidesModSeq(&hidden)
	p.flagsTold(`\Flagged`)
	p.fetched(`* FLAGS (\Seen \Flagged \Deleted)`)
	c := p.login("alice")
	c.Write("s SELECT INBOX", "f UID FETCH 1:* (FLAGS)")
	for r := c.Read(); r.Tag() != "f"; r = c.Read() {
	}
	p.parked()
	hidden.Store(false)
	asked := func(since string) {
		t.Helper()
		eventually(t, "a resync since "+since, func() bool {
			return slices.ContainsFunc(p.said("EXAMINE"), func(said string) bool { return strings.Contains(said, "(QRESYNC (7 "+since+" ") })
		})
	}
	asked("1")
	p.deliver()
	p.hint()
	asked("11")
	c.Write("n NOOP")
	c.Expect("* 3 EXISTS")
	c.Expect("n OK {*}")
}

// A client of a large mailbox isn't told all flags: it is told what has come, and its session stays attached for now.
func TestAQuietClientOfALargeMailboxIsToldAtOnce(t *testing.T) {
	p := newScripted(t, scriptedCaps, 1025, func(o *Options) { o.Park.QuietAfter = time.Nanosecond })
	var hidden atomic.Bool
	hidden.Store(true)
	p.hidesModSeq(&hidden)
	p.fetched(`* 2 FETCH (FLAGS (\Flagged))`)
	c := p.login("alice")
	c.MustOK("SELECT INBOX")
	eventually(t, "the reason why it isn't parked", func() bool {
		p.srv.Sweep()
		page, _ := p.srv.Sessions(session.Filter{})
		return len(page) == 1 && page[0].Attachment == session.Attached.String() && page[0].NotParked == "unsettled"
	})
	c.Expect(`* 2 FETCH (FLAGS (\Flagged))`)
	p.fetched()
	p.clock.forward(time.Minute)
	p.parked()
	c.Write("n NOOP")
	c.Expect("n OK {*}")
}
