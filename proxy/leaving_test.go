package proxy

import (
	"fmt"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
)

// changed is a session that is parked and hasn't heard that its second message of four is gone
// and a fifth has come. hinted says that the proxy has.
func changed(t *testing.T, hinted bool, selects string) (*scripted, *imaptest.Client) {
	t.Helper()
	p := newScripted(t, scriptedCaps+" UNSELECT", 4)
	p.on("SELECT", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		switch {
		case strings.Contains(cmd.Text, "Gone"):
			return c.Send(cmd.Tag() + " NO [NONEXISTENT] no such mailbox")
		case strings.Contains(cmd.Text, "Other"), strings.Contains(cmd.Text, "{5+}"):
			return c.Send("* 70 EXISTS", "* OK [UIDVALIDITY 9] v", cmd.Tag()+" OK [READ-WRITE] done")
		}
		return p.answer(c, cmd)
	})
	p.on("CLOSE", func(c *imaptest.BackendConn, cmd imaptest.Command) error { return c.Send(cmd.Tag() + " OK closed") })
	c := p.idle(selects)
	done(c)
	p.expunge(2)
	p.deliver()
	if hinted {
		looks, resyncs := len(p.said("EXAMINE")), p.hub.Stats().Resyncs
		p.hint()
		eventually(t, "a look", func() bool { return p.hub.Stats().Resyncs > resyncs && len(p.said("EXAMINE")) > looks })
	}
	return p, c
}

// A parked client that selects another mailbox, the same one or none hears nothing of
// the old one, and nothing is found out of that either.
func TestWhatLeavesAMailboxTellsNothingOfIt(t *testing.T) {
	for _, hinted := range []bool{false, true} {
		for line, want := range map[string][]string{
			"x SELECT Other":           {"* OK [CLOSED] {*}", "* 70 EXISTS", "* OK [UIDVALIDITY 9] v", "x OK [READ-WRITE] done"},
			"x SELECT {5+}\r\nOther":   {"* OK [CLOSED] {*}", "* 70 EXISTS", "* OK [UIDVALIDITY 9] v", "x OK [READ-WRITE] done"},
			"x SELECT Gone":            {"* OK [CLOSED] {*}", "x NO [NONEXISTENT] no such mailbox"},
			"x SELECT INBOX":           {"* OK [CLOSED] {*}", "* FLAGS {*}", "* 4 EXISTS", "* OK [UIDVALIDITY 7] v", "* OK [UIDNEXT 6] n", "* OK [HIGHESTMODSEQ 12] m", "x OK done"},
			"x EXAMINE INBOX":          {"* OK [CLOSED] {*}", "* FLAGS {*}", "* 4 EXISTS", "* OK [UIDVALIDITY 7] v", "* OK [UIDNEXT 6] n", "* OK [HIGHESTMODSEQ 12] m", "x OK done"},
			"x UNSELECT":               {"x OK {*}"},
			"x CLOSE":                  {"x OK {*}"},
			"x UNSELECT\r\ny NOOP":     {"x OK {*}", "y OK {*}"},
			"x UNSELECT\r\ny UNSELECT": {"x OK {*}", "y OK {*}"}, // the backend decides that
		} {
			t.Run(fmt.Sprintf("%q, hinted: %v", line, hinted), func(t *testing.T) {
				t.Parallel()
				p, c := changed(t, hinted, "SELECT INBOX")
				before := len(p.backends[0].Commands())
				c.Write(strings.Split(line, "\r\n")...)
				for _, want := range want {
					c.Expect(want)
				}
				selects := 0
				for _, cmd := range p.backends[0].Commands()[before:] {
					switch cmd.Name {
					case "EXAMINE", "SELECT":
						if selects++; selects > 1 {
							t.Errorf("%s is one too many", cmd.Text)
						}
					case "UID SEARCH", "UID FETCH":
						t.Errorf("%s of a mailbox that is being left", cmd.Text)
					case "UNSELECT":
						if !strings.Contains(line, "y UNSELECT") {
							t.Errorf("UNSELECT needs no backend")
						}
					}
				}
				if a := c.MustOK("NOOP"); len(a.Untagged) > 0 {
					t.Errorf("told later: %v", a.Untagged)
				}
			})
		}
	}
}

// CLOSE expunges what is marked \Deleted, at a backend that has the mailbox selected; of one
// that was selected read-only it needs none.
func TestCloseExpungesWhatIsMarked(t *testing.T) {
	for selects, backend := range map[string]string{"SELECT INBOX": `SELECT "INBOX"|CLOSE`, "EXAMINE INBOX": ""} {
		p, c := changed(t, false, selects)
		before := len(p.backends[0].Commands())
		c.Write("x CLOSE")
		c.Expect("x OK {*}")
		var said []string
		for _, cmd := range p.backends[0].Commands()[before:] {
			if cmd.Name == "SELECT" || cmd.Name == "EXAMINE" || cmd.Name == "CLOSE" {
				said = append(said, cmd.Name+strings.TrimSuffix(" "+cmd.Args, " "))
			}
		}
		if got := strings.Join(said, "|"); got != backend {
			t.Errorf("%s: the backend heard %q, not %q", selects, got, backend)
		}
		c.Write("y NOOP") // with nothing selected it hears nothing of what was
		c.Expect("y OK {*}")
	}
}

// A mailbox that was made anew isn't the one whose messages were marked.
func TestCloseExpungesNothingInAnotherMailbox(t *testing.T) {
	p, c := changed(t, false, "SELECT INBOX")
	p.on("SELECT", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send("* 4 EXISTS", "* OK [UIDVALIDITY 8] v", cmd.Tag()+" OK done")
	})
	c.Write("x CLOSE")
	c.Expect("* BYE {*}")
	if len(p.said("CLOSE")) > 0 {
		t.Error("CLOSE was said in another mailbox")
	}
}

// SELECT by a client that is owed EXPUNGE: it isn't told any more.
func TestWhatIsOwedIsVoidWithItsMailbox(t *testing.T) {
	for line, want := range map[string][]string{
		"x SELECT Other":   {"* OK [CLOSED] {*}", "* 70 EXISTS", "x OK done"},
		"x CLOSE":          {"x OK done"},
		"x SELECT Other (": {"* 2 EXPUNGE", "x BAD what"}, // not understood: the mailbox stays
	} {
		p, c := owedOne(t, scriptedCaps)
		p.on("SELECT", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			if strings.HasSuffix(cmd.Args, "(") {
				return c.Send(cmd.Tag() + " BAD what")
			}
			return c.Send("* 70 EXISTS", cmd.Tag()+" OK done")
		})
		c.Write(line)
		for _, want := range want {
			c.Expect(want)
		}
	}
}

// A backend that refuses CLOSE, which RFC 9051 doesn't allow, still has the mailbox selected, and numbers its messages otherwise than a client
// that wasn't told what it missed: the client's next number means the message that the client means.
func TestARefusedCloseBringsNoWrongNumber(t *testing.T) {
	for name, before := range map[string]string{"parked": "", "owed": "FETCH 1 (UID)"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, c := changed(t, false, "SELECT INBOX")
			for _, verb := range []string{"FETCH", "STORE"} {
				p.on(verb, func(c *imaptest.BackendConn, cmd imaptest.Command) error { return c.Send(cmd.Tag() + " OK done") })
			}
			p.on("CLOSE", func(c *imaptest.BackendConn, cmd imaptest.Command) error { return c.Send(cmd.Tag() + " NO not now") })
			if before != "" {
				c.MustOK("%s", before)
			}
			c.Write("x CLOSE")
			c.Expect("x NO {*}")
			c.MustOK(`STORE 3 +FLAGS (\Deleted)`)
			if said := p.said("STORE"); len(said) != 1 || !strings.HasSuffix(said[0], `STORE 2 +FLAGS (\Deleted)`) {
				t.Errorf("the backend was told %q", said)
			}
			if told := hears(c); !strings.HasPrefix(told, "* 2 EXPUNGE") {
				t.Errorf("the client was told %q", told)
			}
		})
	}
}

// A SELECT that is answered BAD changes nothing. A backend without UNSELECT then still has the mailbox selected of which the client is owed EXPUNGE.
func TestASelectThatIsBadBringsNoWrongNumber(t *testing.T) {
	p, c := owedOne(t, strings.Replace(scriptedCaps, "UNSELECT ", "", 1))
	p.on("SELECT", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if strings.Contains(cmd.Args, "Bad") {
			return c.Send(cmd.Tag() + " BAD what")
		}
		return p.answer(c, cmd)
	})
	marked := p.marks()
	c.Write("x SELECT Bad")
	c.Expect("x BAD what")
	c.MustOK(`STORE 3 +FLAGS (\Deleted)`)
	if all := marked(); !strings.HasSuffix(all, ` STORE 2 +FLAGS (\Deleted)`) {
		t.Errorf("the backend was told %q", all)
	}
	if told := hears(c); told != "* 2 EXPUNGE" {
		t.Errorf("the client was told %q", told)
	}
}

// One that is answered NO has left the mailbox: the connection is kept.
func TestASelectThatIsRefusedLeavesTheMailbox(t *testing.T) {
	p, c := owedOne(t, strings.Replace(scriptedCaps, "UNSELECT ", "", 1))
	p.on("SELECT", func(c *imaptest.BackendConn, cmd imaptest.Command) error { return c.Send(cmd.Tag() + " NO not there") })
	before := p.backends[0].Accepted()
	c.Write("x SELECT Gone")
	c.Expect("x NO not there")
	c.MustOK("CHECK")
	if n := p.backends[0].Accepted() - before; n != 0 {
		t.Errorf("%d connections were made", n)
	}
}
