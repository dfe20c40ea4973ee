package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// together is a client whose session is parked, with four messages, of which the second is gone
// since, and a fifth has come; and the commands by which the backend was asked to mark or count
// messages. heard says that the proxy knows of the change, which a client in IDLE would
// have been told.
func together(t *testing.T, caps string, idle, heard bool) (*scripted, *imaptest.Client, *[]string) {
	t.Helper()
	p := newScripted(t, caps, 4)
	var marked []string
	for _, name := range []string{"STORE", "UID STORE", "COPY", "STATUS"} {
		p.on(name, func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			p.mu.Lock()
			marked = append(marked, cmd.Name+" "+cmd.Args)
			p.mu.Unlock()
			return c.Send(cmd.Tag() + " OK done")
		})
	}
	c := p.idle("SELECT INBOX")
	if !idle {
		done(c)
	}
	p.expunge(2)
	p.deliver()
	if heard {
		resyncs := p.hub.Stats().Resyncs
		p.hint()
		eventually(t, "a look", func() bool { return p.hub.Stats().Resyncs > resyncs })
	}
	return p, c, &marked
}

// What a client writes together with DONE or NOOP it wrote before it could read their answer: its
// numbers are those of before.
func TestACommandThatComesWithAnotherMeansTheNumbersOfBefore(t *testing.T) {
	for name, c := range map[string]struct {
		idle, heard bool
		say         string
		hear        []string
		marked      []string
	}{
		"DONE and STORE": {true, false, "DONE\r\nx STORE 4 +FLAGS (a)\r\n",
			[]string{"i OK {*}", "* 5 EXISTS", "x OK done"}, []string{"STORE 3 +FLAGS (a)"}},
		"DONE and STORE of the last": {true, false, "DONE\r\nx STORE * +FLAGS (a)\r\n",
			[]string{"i OK {*}", "* 5 EXISTS", "x OK done"}, []string{"STORE 3 +FLAGS (a)"}},
		"DONE and UID STORE of the last": {true, false, "DONE\r\nx UID STORE * +FLAGS (a)\r\n",
			[]string{"i OK {*}", "* 2 EXPUNGE", "* 4 EXISTS", "x OK done"}, []string{"UID STORE 4 +FLAGS (a)"}},
		"DONE and two of the last": {true, false, "DONE\r\nx STORE * +FLAGS (a)\r\ny STORE * +FLAGS (b)\r\n",
			[]string{"i OK {*}", "* 5 EXISTS", "x OK done", "y OK done"}, []string{"STORE 3 +FLAGS (a)", "STORE 3 +FLAGS (b)"}},
		"NOOP and STORE": {false, false, "n NOOP\r\nx STORE 4 +FLAGS (a)\r\n",
			[]string{"n OK {*}", "* 5 EXISTS", "x OK done"}, []string{"STORE 3 +FLAGS (a)"}},
		"NOOP and STORE, heard of": {false, true, "n NOOP\r\nx STORE 4 +FLAGS (a)\r\n",
			[]string{"n OK {*}", "* 5 EXISTS", "x OK done"}, []string{"STORE 3 +FLAGS (a)"}},
		"CHECK, NOOP, STORE": {false, true, "n CHECK\r\nm NOOP\r\nx STORE 4 +FLAGS (a)\r\n",
			[]string{"n OK {*}", "m OK {*}", "* 5 EXISTS", "x OK done"}, []string{"STORE 3 +FLAGS (a)"}},
		"by UID first": {true, false, "DONE\r\nx UID STORE 4 +FLAGS (a)\r\ny STORE 4 +FLAGS (b)\r\n",
			[]string{"i OK {*}", "* 5 EXISTS", "x OK done", "y OK done"}, []string{"UID STORE 4 +FLAGS (a)", "STORE 3 +FLAGS (b)"}},
		"COPY first": {true, false, "DONE\r\nx COPY 3:4 Other\r\ny STORE 4 +FLAGS (b)\r\n",
			[]string{"i OK {*}", "* 5 EXISTS", "x OK done", "y OK done"}, []string{"COPY 2:3 Other", "STORE 3 +FLAGS (b)"}},
		"without numbers first": {true, false, "DONE\r\nx STATUS Other (MESSAGES)\r\ny STORE 4 +FLAGS (b)\r\n",
			[]string{"i OK {*}", "* 5 EXISTS", "x OK done", "y OK done"}, []string{"STATUS Other (MESSAGES)", "STORE 3 +FLAGS (b)"}},
		"NOOP in between": {true, false, "DONE\r\nx STORE 3 +FLAGS (a)\r\nn NOOP\r\ny STORE 4 +FLAGS (b)\r\n",
			[]string{"i OK {*}", "* 5 EXISTS", "x OK done", "n OK done", "y OK done"}, []string{"STORE 2 +FLAGS (a)", "STORE 3 +FLAGS (b)"}},
		"NOOP at the end": {true, false, "DONE\r\nx STORE 4 +FLAGS (a)\r\nn NOOP\r\n",
			[]string{"i OK {*}", "* 5 EXISTS", "x OK done", "* 2 EXPUNGE", "n OK done"}, []string{"STORE 3 +FLAGS (a)"}},
		"NOOPs alone": {false, true, "n NOOP\r\nm NOOP\r\n",
			[]string{"* 2 EXPUNGE", "* 4 EXISTS", "n OK {*}", "m OK {*}"}, nil}, // no number is on its way
		"one that is gone": {true, false, "DONE\r\nx STORE 2 +FLAGS (a)\r\n",
			[]string{"i OK {*}", "* 5 EXISTS", "x NO [EXPUNGEISSUED] {*}"}, nil},
		"a line of only a tag first": {true, false, "DONE\r\nx\r\ny STORE 4 +FLAGS (b)\r\n",
			[]string{"i OK {*}", "x BAD {*}", "* 5 EXISTS", "y OK done"}, []string{"STORE 3 +FLAGS (b)"}},
		"no command first": {false, false, "n NOOP\r\n+ x\r\ny STORE 4 +FLAGS (b)\r\n",
			[]string{"n OK {*}", "* BAD {*}", "* 5 EXISTS", "y OK done"}, []string{"STORE 3 +FLAGS (b)"}},
		"what the proxy refuses first": {true, false, "DONE\r\nx LOGIN alice {3+}\r\nabc\r\ny STORE 4 +FLAGS (b)\r\n",
			[]string{"i OK {*}", "x BAD Already logged in", "* 5 EXISTS", "y OK done"}, []string{"STORE 3 +FLAGS (b)"}},
		"a literal where none is taken first": {true, false, "DONE\r\nx NOOP {12+}\r\nz STORE 1 x\r\n\r\ny STORE 4 +FLAGS (b)\r\n",
			[]string{"i OK {*}", "x BAD {*}", "* 5 EXISTS", "y OK done"}, []string{"STORE 3 +FLAGS (b)"}},
		"another mailbox": {true, false, "DONE\r\nx SELECT INBOX\r\n",
			[]string{"i OK {*}", "* OK [CLOSED] {*}", "* FLAGS {*}", "* 4 EXISTS"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, client, marked := together(t, scriptedCaps, c.idle, c.heard)
			must(t, client.SendRaw(c.say))
			for _, want := range c.hear {
				client.Expect(want)
			}
			p.mu.Lock()
			got := strings.Join(*marked, "|")
			p.mu.Unlock()
			if got != strings.Join(c.marked, "|") {
				t.Errorf("the backend heard %q, not %q", got, c.marked)
			}
		})
	}
}

// What is owed is told as soon as nothing more has come.
func TestWhatWasOwedIsToldWithTheNextCommand(t *testing.T) {
	_, c, _ := together(t, scriptedCaps, true, false)
	must(t, c.SendRaw("DONE\r\nx STORE 4 +FLAGS (a)\r\ny STORE 3 +FLAGS (a)\r\n"))
	for _, want := range []string{"i OK {*}", "* 5 EXISTS", "x OK done", "y OK done"} {
		c.Expect(want)
	}
	c.Write("n NOOP")
	c.Expect("* 2 EXPUNGE")
	c.Expect("n OK done")
	a := c.MustOK("NOOP")
	if len(a.Untagged) > 0 {
		t.Error(a.Untagged)
	}
}

// EXPUNGE that the backend tells meanwhile is owed, too.
func TestExpungesOfTheBackendWaitForCommandsThatHaveCome(t *testing.T) {
	p, c, _ := together(t, scriptedCaps, true, false)
	p.on("STATUS", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		p.expunge(3)
		return c.Send("* 2 EXPUNGE", cmd.Tag()+" OK done") // its numbers: UIDs 1, 3, 4, 5
	})
	must(t, c.SendRaw("DONE\r\nx STATUS Other (MESSAGES)\r\ny STORE 4 +FLAGS (b)\r\n"))
	for _, want := range []string{"i OK {*}", "* 5 EXISTS", "x OK done", "y OK done"} {
		c.Expect(want)
	}
	if said := p.said("STORE"); len(said) != 1 || !strings.HasSuffix(said[0], "STORE 2 +FLAGS (b)") {
		t.Errorf("%q", said)
	}
	c.Write("n NOOP")
	c.Expect("* 3 EXPUNGE")
	c.Expect("* 2 EXPUNGE")
	c.Expect("n OK done")
}

// A command that comes while DONE waits for a backend was written before DONE was answered.
func TestACommandThatComesWhileDoneWaitsForABackend(t *testing.T) {
	p, c, marked := together(t, scriptedCaps, true, false)
	p.on("EXAMINE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send(cmd.Tag() + " NO [UNAVAILABLE] not now") // it can't be looked at before the session comes back
	})
	waits, sent := make(chan struct{}), make(chan struct{})
	p.on("SELECT", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		p.on("EXAMINE", p.answer)
		p.on("SELECT", p.answer)
		close(waits)
		<-sent
		return p.answer(c, cmd)
	})
	p.hint()
	eventually(t, "a look", func() bool { return len(p.said("EXAMINE")) > 1 })
	c.Write("DONE")
	select {
	case <-waits:
	case <-time.After(imaptest.DefaultTimeout):
		close(sent)
		t.Fatal("DONE needed no backend")
	}
	c.Write("x STORE 4 +FLAGS (a)")
	close(sent)
	for _, want := range []string{"i OK {*}", "* 5 EXISTS", "x OK done"} {
		c.Expect(want)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if got := strings.Join(*marked, "|"); got != "STORE 3 +FLAGS (a)" {
		t.Errorf("%q", got)
	}
}

// "*" of a client that counts no messages names none: not one that has come since, which it hasn't
// heard of.
func TestTheLastOfNoMessagesIsNone(t *testing.T) {
	for name, c := range map[string]struct{ say, marked string }{
		"by UID":              {`x UID STORE 1:* +FLAGS (\Deleted)`, `UID STORE 4294967294 +FLAGS (\Deleted)`},
		"by UID, silent":      {`x UID STORE 1:* +FLAGS.SILENT (\Deleted)`, `UID STORE 4294967294 +FLAGS.SILENT (\Deleted)`},
		"by number":           {`x STORE * +FLAGS (\Deleted)`, `STORE 4294967294 +FLAGS (\Deleted)`},
		"among others":        {`x UID STORE 7,*:3,8 +FLAGS (a)`, `UID STORE 7,4294967294,8 +FLAGS (a)`},
		"behind DONE":         {"DONE\r\nx UID STORE 1:* +FLAGS (a)", `UID STORE 4294967294 +FLAGS (a)`},
		"behind another":      {"DONE\r\nx UID STORE 1:* +FLAGS (a)\r\ny UID STORE * +FLAGS (b)", `UID STORE 4294967294 +FLAGS (a)|UID STORE 4294967294 +FLAGS (b)`},
		"COPY of all, by UID": {`x COPY 1:* Other`, `COPY 4294967294 Other`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 0)
			p.on("UID SEARCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
				p.mu.Lock()
				n := len(p.uids)
				p.mu.Unlock()
				if n > 0 {
					return p.answer(c, cmd)
				}
				return c.Send(`* ESEARCH (TAG "`+cmd.Tag()+`") UID COUNT 0`, cmd.Tag()+" OK done")
			})
			var marked []string
			for _, name := range []string{"STORE", "UID STORE", "COPY"} {
				p.on(name, func(c *imaptest.BackendConn, cmd imaptest.Command) error {
					p.mu.Lock()
					marked = append(marked, cmd.Name+" "+cmd.Args)
					p.mu.Unlock()
					return c.Send(cmd.Tag() + " OK done")
				})
			}
			client := p.idle("SELECT INBOX")
			if !strings.HasPrefix(c.say, "DONE") {
				done(client)
			}
			p.deliver()
			must(t, client.SendRaw(c.say+"\r\n"))
			last := "x "
			if strings.Contains(c.say, "\ny ") {
				last = "y "
			}
			for !strings.HasPrefix(client.Read().Text, last) {
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if got := strings.Join(marked, "|"); got != c.marked {
				t.Errorf("the backend was told %q, not %q", got, c.marked)
			}
		})
	}
}

// What the backend tells of new messages while commands that came together are carried one by one
// counts for the session's next view.
func TestASessionWhoseCommandsCameTogetherIsParkedAgain(t *testing.T) {
	p := newScripted(t, scriptedCaps, 4)
	c := p.idle("SELECT INBOX")
	p.deliver()
	p.on("STORE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		p.on("STORE", nil)
		p.deliver()
		return c.Send("* 6 EXISTS", cmd.Tag()+" OK done")
	})
	must(t, c.SendRaw("DONE\r\nx STORE * +FLAGS (a)\r\ny STORE * +FLAGS (b)\r\n"))
	for _, want := range []string{"i OK {*}", "* 5 EXISTS", "* 6 EXISTS", "x OK done", "y OK done"} {
		c.Expect(want)
	}
	p.idles(c)
	p.deliver()
	p.hint()
	c.Expect("* 7 EXISTS")
}

// CAPABILITY changes no numbers, and its answer is the one that the client has from the relay.
func TestCapabilityTogetherWithACommandByNumber(t *testing.T) {
	_, c, marked := together(t, scriptedCaps+" COMPRESS=DEFLATE", true, false)
	must(t, c.SendRaw("DONE\r\nx CAPABILITY\r\ny STORE 4 +FLAGS (b)\r\n"))
	c.Expect("i OK {*}")
	c.Expect("* 5 EXISTS")
	if r := c.Expect("* CAPABILITY {*}"); !strings.Contains(r.Text, "IDLE") || strings.Contains(r.Text, "COMPRESS") {
		t.Error(r)
	}
	c.Expect("x OK {*}")
	c.Expect("y OK done")
	if len(*marked) != 1 || (*marked)[0] != "STORE 3 +FLAGS (b)" {
		t.Errorf("%q", *marked)
	}
}

// What isn't DONE in IDLE is for the backend to refuse, also where more has come with it.
func TestWhatIsNotDoneInIdleIsTheBackendsToAnswer(t *testing.T) {
	p, c, _ := together(t, scriptedCaps, true, false)
	p.on("IDLE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		must(t, c.Send("+ idling"))
		line, err := c.ReadCommand()
		if err != nil {
			return err
		}
		if !strings.EqualFold(line.Text, "DONE") {
			return c.Send(cmd.Tag() + " BAD Expected DONE")
		}
		return c.Send(cmd.Tag() + " OK done")
	})
	must(t, c.SendRaw("x NOOP\r\ny NOOP\r\n"))
	for _, want := range []string{"* 2 EXPUNGE", "* 4 EXISTS", "i BAD Expected DONE", "y OK done"} {
		c.Expect(want)
	}
}

// What has come from a client in IDLE is read before it is told of what was heard: DONE and a command by number
// that lay there were written before.
func TestWhatHasComeIsReadBeforeAClientInIdleIsTold(t *testing.T) {
	p := newScripted(t, scriptedCaps, 4)
	const held = fewestHeld + 1
	for p.next <= held+4 {
		p.deliver()
	}
	c := p.idle("SELECT INBOX")
	var release []func()
	for range heldPerUser { // so many others of the user's are told much, and don't read
		done, err := p.srv.env.Queues.Telling(t.Context(), "alice")
		must(t, err)
		release = append(release, done)
	}
	var marked []string
	p.on("STORE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		p.mu.Lock()
		marked = append(marked, cmd.Args)
		p.mu.Unlock()
		return c.Send(cmd.Tag() + " OK done")
	})
	for uid := range uint32(held) {
		p.flag(uid + 3)
	}
	p.expunge(2)
	resyncs := p.hub.Stats().Resyncs
	p.hint()
	eventually(t, "a look", func() bool { return p.hub.Stats().Resyncs > resyncs })
	must(t, c.SendRaw("DONE\r\nx STORE 4 +FLAGS (a)\r\n"))
	for _, done := range release {
		done()
	}
	if r := c.Read(); r.Tag() != "i" {
		t.Errorf("told %s before DONE was read", r)
	}
	for r := c.Read(); r.Tag() != "x"; r = c.Read() {
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if got := strings.Join(marked, "|"); got != "3 +FLAGS (a)" {
		t.Errorf("the backend marked %q", got)
	}
}

// What "*" meant in the command that a session came back for says nothing of later ones.
func TestAStarIsOfOneCommandAlone(t *testing.T) {
	p := newScripted(t, scriptedCaps, 4, func(o *Options) { o.Park.QuietAfter = time.Nanosecond })
	p.on("FETCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		p.mu.Lock()
		var out []string
		for i, uid := range p.uids {
			out = append(out, fmt.Sprintf("* %d FETCH (UID %d)", i+1, uid))
		}
		p.mu.Unlock()
		return c.Send(append(out, cmd.Tag()+" OK done")...)
	})
	c := p.idle("SELECT INBOX")
	done(c)
	p.deliver()
	c.Write("s UID STORE * +FLAGS (a)")
	c.Expect("* 5 EXISTS")
	c.Expect("s OK done")
	if said := p.said("UID STORE"); len(said) != 1 || !strings.HasSuffix(said[0], "UID STORE 4 +FLAGS (a)") {
		t.Fatalf("%q", said)
	}
	c.MustOK("UNSELECT")
	p.parked()
	c.MustOK(`CREATE "all*"`)
	if said := p.said("CREATE"); len(said) != 1 || !strings.HasSuffix(said[0], `CREATE "all*"`) {
		t.Errorf("the backend was asked for %q", said)
	}
}
