package proxy

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// losesOnce handles a command: the first time, the backend reads more commands of the client's, says something and
// ends the connection; later, it answers with again.
func (p *scripted) losesOnce(verb string, more int, before string, again imaptest.CommandFunc) {
	var lost atomic.Bool
	p.on(verb, func(b *imaptest.BackendConn, cmd imaptest.Command) error {
		if lost.Swap(true) {
			return again(b, cmd)
		}
		for range more {
			if _, err := b.ReadCommand(); err != nil {
				return err
			}
		}
		_ = b.SendRaw(before)
		return io.EOF
	})
}

// While the client waits for the rest of a response, the answers to its other commands wait as well: they would
// become a part of the message.
func TestAnswersWaitForTheRestOfAResponse(t *testing.T) {
	text := strings.Repeat("0123456789", 30)
	whole := "* 2 FETCH (UID 2 BODY[] {300}\r\n" + text + ")\r\n"
	for name, c := range map[string]struct {
		more int
		say  []string
		want []string
	}{
		"a refused command":    {1, []string{"a UID FETCH 2 (BODY.PEEK[])", "b UID COPY 1 Other"}, []string{"b NO {*}", "a OK {*}"}},
		"an IDLE that is over": {1, []string{"a UID FETCH 2 (BODY.PEEK[])", "b IDLE", "DONE"}, []string{"b OK {*}", "a OK {*}"}},
		"a SELECT":             {1, []string{"a UID FETCH 2 (BODY.PEEK[])", "b SELECT Other"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 3)
			k := p.stays("SELECT INBOX")
			p.losesOnce("UID FETCH", c.more, whole[:150], func(b *imaptest.BackendConn, cmd imaptest.Command) error {
				return b.SendRaw(whole + cmd.Tag() + " OK done\r\n")
			})
			k.Write(c.say...)
			if c.want == nil {
				rest, _ := io.ReadAll(k.Conn.Conn)
				if string(rest) != whole[:150] {
					t.Errorf("the client was told %q", rest)
				}
				return
			}
			r := k.Read()
			if len(r.Literals) != 1 || string(r.Literals[0].Data) != text {
				t.Fatalf("the client was told %s", r)
			}
			for _, want := range c.want {
				k.Expect(want)
			}
			k.MustOK("CHECK")
		})
	}
}

// script answers a command differently each time; the last answer stays. It is the answer's text, in which TAG stands for
// the tag; without a tag the connection ends behind it.
func (p *scripted) script(verb string, answers ...string) {
	var n atomic.Int32
	p.on(verb, func(b *imaptest.BackendConn, cmd imaptest.Command) error {
		text := answers[min(int(n.Add(1)), len(answers))-1]
		if err := b.SendRaw(strings.ReplaceAll(text, "TAG", cmd.Tag())); err != nil || !strings.Contains(text, "TAG") {
			return io.EOF
		}
		return nil
	})
}

// everything is what the client is told until the proxy ends the connection.
func everything(k *imaptest.Client) string {
	b, _ := io.ReadAll(k.Conn.Conn)
	return string(b)
}

// The rest of a response has been told, and the connection that it came from is lost before the command's end.
func TestTheConnectionOfTheRestIsLost(t *testing.T) {
	text := strings.Repeat("0123456789", 30)
	response := func(flags string) string {
		return "* 2 FETCH (UID 2 BODY[] {300}\r\n" + text + " FLAGS (" + flags + "))\r\n"
	}
	p := newScripted(t, scriptedCaps, 3)
	k := p.stays("SELECT INBOX")
	p.script("UID FETCH", response("")[:100], response(""), response(`\Seen`)+"TAG OK done\r\n")
	k.Write("a UID FETCH 2 (BODY.PEEK[] FLAGS)")
	k.Expect("* 2 FETCH {*}")
	k.Expect("a OK {*}")
	k.MustOK("CHECK")
}

// More of a response was told on the second connection than is remembered.
func TestAResponseThatIsLostInItsLongLine(t *testing.T) {
	text := strings.Repeat("0123456789", 30)
	long := "* 2 FETCH (UID 2 BODY[] {300}\r\n" + text + " BODY[HEADER] \"" + strings.Repeat("x", 40<<10)
	p := newScripted(t, scriptedCaps, 3)
	k := p.stays("SELECT INBOX")
	whole := long + "\" FLAGS (\\Seen) BODY[1] {3}\r\nabc BODY[2] {300}\r\n" + text + ")\r\n"
	p.script("UID FETCH", long[:100], whole[:len(whole)-100], whole+"TAG OK done\r\n")
	k.Write("a UID FETCH 2 (BODY.PEEK[])")
	if told := everything(k); told != whole[:len(whole)-100] {
		t.Errorf("the client was told %d octets, of %d: ...%q", len(told), len(whole), told[max(0, len(told)-400):])
	}
	p.ended(session.ReasonBackendLostInner)
}

// A line that was told in part may be of flags that another client has set.
func TestALineThatWasToldInPart(t *testing.T) {
	text := strings.Repeat("0123456789", 30)
	words := strings.TrimSpace(strings.Repeat("$keyword ", 40))
	flags2, flags3 := "* 2 FETCH (UID 2 FLAGS ("+words, "* 3 FETCH (UID 3 FLAGS ("+words
	content2, content3 := " BODY[] {300}\r\n"+text+")\r\n", " BODY[] {300}\r\n"+text+")\r\n"
	for name, c := range map[string]struct {
		gone    uint32 // a message that another client has removed
		before  string
		answers []string
		want    string // behind before
		closed  bool
	}{
		"the response": {before: flags2, answers: []string{flags2 + ")" + content2 + "TAG OK done\r\n", "* 3 FETCH (UID 3 BODY[] {1}\r\nx)\r\nTAG OK done\r\n"},
			want: ")" + content2 + "* 3 FETCH (UID 3 BODY[] {1}\r\nx)\r\na OK done\r\n"},
		"flags behind the content": {before: "* 2 FETCH (UID 2" + content2 + flags2, answers: []string{flags2 + ")" + content2 + "TAG OK done\r\n"}, closed: true},
		"flags once more":          {before: flags3, answers: []string{flags3 + "))\r\n* 3 FETCH (UID 3" + content3 + "TAG OK done\r\n"}, closed: true},
		"flags of another message": {gone: 1, before: strings.ReplaceAll(flags2, "UID 2 ", ""), answers: []string{strings.ReplaceAll(flags2, "UID 2 ", "") + ") UID 3 BODY[] \"x\")\r\n* 1 FETCH (UID 2" + content2 + "TAG OK done\r\n"}, closed: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 3)
			k := p.stays("SELECT INBOX")
			if c.gone != 0 {
				p.on("UID FETCH", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
					p.expunge(c.gone)
					p.script("UID FETCH", c.answers...)
					_ = b.SendRaw(c.before)
					return io.EOF
				})
			} else {
				p.script("UID FETCH", append([]string{c.before}, c.answers...)...)
			}
			k.Write("a UID FETCH 2:3 (BODY.PEEK[] FLAGS)")
			if c.closed {
				if told := everything(k); told != c.before {
					t.Errorf("the client was told %q", told)
				}
				p.ended(session.ReasonBackendLostInner)
				return
			}
			told := make([]byte, len(c.before+c.want))
			if n, err := io.ReadFull(k.Conn.Conn, told); err != nil || string(told) != c.before+c.want {
				t.Errorf("the client was told %q (%v)", told[:n], err)
			}
		})
	}
}

// Messages that are named by UID are left out by UID, also if the first response is the one that was told in part.
func TestTheFirstResponseByUIDIsLost(t *testing.T) {
	p := newScripted(t, scriptedCaps+" UIDONLY", 4)
	p.expunge(1)
	k := p.stays("ENABLE UIDONLY", "SELECT INBOX")
	text := strings.Repeat("0123456789", 30)
	first := "* 2 UIDFETCH (BODY[] {300}\r\n" + text + ")\r\n"
	p.script("UID FETCH", first[:100], first+"TAG OK done\r\n", "* 3 UIDFETCH (BODY[] \"three\")\r\n* 4 UIDFETCH (BODY[] \"four\")\r\nTAG OK done\r\n")
	k.Write("a UID FETCH 2:4 (BODY.PEEK[])")
	k.Expect("* 2 UIDFETCH {*}")
	k.Expect("* 3 UIDFETCH {*}")
	k.Expect("* 4 UIDFETCH {*}")
	k.Expect("a OK {*}")
	if said := p.said("UID FETCH"); len(said) != 3 || !strings.HasSuffix(said[2], " 3:4 (BODY.PEEK[])") {
		t.Errorf("the backend was told %q", said)
	}
}

// A client that ends an IDLE and begins the next one without waiting for the answer.
func TestTheLossBetweenTwoIdles(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3, func(o *Options) { o.Park.Linger = 1 << 60 })
	k := p.stays("SELECT INBOX")
	p.on("IDLE", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
		p.on("IDLE", nil)
		_ = b.Send("+ idling")
		for range 2 { // DONE, and the second IDLE
			if _, err := b.ReadCommand(); err != nil {
				return err
			}
		}
		return io.EOF
	})
	k.Write("i IDLE")
	k.Expect("+{*}")
	k.Write("DONE", "j IDLE")
	k.Expect("i OK {*}")
	k.Expect("+{*}")
	k.Write("DONE")
	k.Expect("j OK {*}")
	k.MustOK("CHECK")
}

// A large literal passes inside the kernel, so that the command's text isn't known: it can't be sent again.
func TestACommandWhoseLargeLiteralWasSpliced(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	k := p.stays("SELECT INBOX")
	p.losesOnce("UID SEARCH", 0, "", p.answer)
	p.writeRaw(k, "a UID SEARCH RETURN (ALL COUNT) BODY {300000+}\r\n")
	_, err := io.WriteString(k.Conn, strings.Repeat("x", 300000)+" SEEN\r\n")
	must(t, err)
	k.Expect("a NO [UNAVAILABLE] {*}")
	k.MustOK("CHECK")
}

// An IDLE without a mailbox goes on after a loss: the next DONE ends it.
func TestAnIdleWithoutAMailboxIsLost(t *testing.T) {
	p := newScripted(t, scriptedCaps, 4)
	k := p.idle("SELECT INBOX")
	p.expunge(2)
	p.on("FETCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error { return c.Send(cmd.Tag() + " OK done") })
	k.Write("DONE", "f FETCH 3 (UID)")
	k.Expect("i OK {*}")
	k.Expect("f OK {*}")
	k.MustOK("UNSELECT")
	k.Write("j IDLE")
	k.Expect("+{*}")
	idled := len(p.said("IDLE"))
	p.lose()
	eventually(t, "IDLE on the new connection", func() bool { return len(p.said("IDLE")) > idled })
	k.Write("DONE")
	k.Expect("j OK {*}")
	if a := k.MustOK("CHECK"); len(a.Untagged) > 0 {
		t.Errorf("the client is told %q after its IDLE", a.Untagged)
	}
}

// A refused SELECT, and an IDLE that goes on.
func TestARefusedSelectAndAnIdle(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	k := p.stays("SELECT INBOX")
	p.onLiteral(k, func(b *imaptest.BackendConn) error { return b.Send("+ go ahead") })
	p.losesOnce("SELECT", 1, "", p.answer)
	k.Write("a SELECT {5}")
	k.Expect("+{*}")
	k.Write("Other", "b IDLE")
	k.Expect("a NO {*}")
	k.Expect("* OK [CLOSED] {*}")
	k.Expect("+{*}")
	k.Write("DONE")
	k.Expect("b OK {*}")
	k.MustOK("CHECK")
}

// The next mailbox is another one: what was asked of the mailbox before isn't asked of it.
func TestCommandsBeforeASelect(t *testing.T) {
	for name, c := range map[string]struct {
		before string
		say    []string
		want   []string
	}{
		"a search":              {"", []string{"a UID SEARCH ALL", "b SELECT Other"}, []string{"a NO {*}"}},
		"a search that is told": {"* SEARCH 1\r\n", []string{"a UID SEARCH ALL", "b SELECT Other"}, []string{"* SEARCH 1", "a NO {*}"}},
		"ESEARCH":               {"", []string{"a ESEARCH ALL", "b SELECT Other"}, []string{"a NO {*}"}},
		"the end of an update":  {"", []string{`a CANCELUPDATE "u1"`, "b SELECT Other"}, []string{"a NO {*}"}}, // RFC 5267 §4.4.2
	} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 3)
			k := p.stays("SELECT INBOX")
			verb := strings.TrimPrefix(c.say[0], "a ")
			verb = verb[:strings.LastIndexByte(verb, ' ')]
			p.losesOnce(verb, 1, c.before, p.answer)
			k.Write(c.say...)
			for _, want := range append(c.want, "* OK [CLOSED] {*}", "* FLAGS {*}", "* 3 EXISTS", "* OK {*}", "* OK {*}", "* OK {*}", "b OK {*}") {
				k.Expect(want)
			}
		})
	}
}
