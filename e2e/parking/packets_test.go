package parking

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
)

// packetClient counts messages and believes what it is told.
type packetClient struct {
	*imaptest.Client
	t    *testing.T
	view []uint32                   // 0: not known
	has  map[uint32]map[string]bool // the flags of those whose are known
	said []string                   // what went by, for who reads of a fault
}

func (c *packetClient) fault(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(c.said[max(0, len(c.said)-60):], "\n"))
}

func (c *packetClient) write(b string) {
	c.said = append(c.said, fmt.Sprintf("C: %q", b))
	must(c.t, c.SendRaw(b))
}

func (c *packetClient) hear(r imaptest.Response) {
	c.t.Helper()
	c.said = append(c.said, "S: "+r.Text)
	n, _ := strconv.Atoi(r.Word(1))
	switch {
	case r.Tag() != "*":
	case r.Word(2) == "EXISTS":
		if n < len(c.view) {
			c.fault("%d EXISTS, and it counts %d", n, len(c.view))
		}
		c.view = append(c.view, make([]uint32, n-len(c.view))...)
	case r.Word(2) == "EXPUNGE":
		if n < 1 || n > len(c.view) {
			c.fault("%s, and it counts %d", r, len(c.view))
		}
		delete(c.has, c.view[n-1])
		c.view = slices.Delete(c.view, n-1, n)
	case r.Word(1) == "VANISHED" && r.Word(2) != "(EARLIER)":
		gone, err := imaptest.ModelSet(r.Word(2))
		must(c.t, err)
		c.view = slices.DeleteFunc(c.view, func(u uint32) bool { return u != 0 && slices.Contains(gone, u) })
	case r.Word(2) == "FETCH":
		if n < 1 || n > len(c.view) {
			c.fault("%s, and it counts %d", r, len(c.view))
		}
		if _, after, ok := strings.Cut(r.Text, "UID "); ok {
			end := strings.IndexAny(after, " )")
			uid, _ := strconv.Atoi(after[:end])
			if was := c.view[n-1]; was != 0 && was != uint32(uid) {
				c.fault("%s, and it knows that as UID %d", r, was)
			}
			c.view[n-1] = uint32(uid)
		}
		if flags, ok := flagsOf(r.Text); ok && c.view[n-1] != 0 {
			c.has[c.view[n-1]] = flags
		}
	}
}

func flagsOf(text string) (map[string]bool, bool) {
	_, after, ok := strings.Cut(text, "FLAGS (")
	if !ok {
		return nil, false
	}
	list, _, _ := strings.Cut(after, ")")
	set := map[string]bool{}
	for f := range strings.FieldsSeq(list) {
		if f != `\Recent` {
			set[f] = true
		}
	}
	return set, true
}

// packet is a command, what it marks, and with what.
type packet struct {
	tag, line string
	flag      string
	silent    bool
	marks     []uint32
}

// randomPackets is one such client. Each of a packet's commands has a flag of its own.
func randomPackets(t *testing.T, s *site, dialect string, seed uint64, rounds int) {
	r := rand.New(rand.NewPCG(seed, 99))
	l := newLab(t, s, labOptions{watch: "poll"}) // what happens isn't told before the client speaks
	user := l.newUser()
	d := l.writer(user, "INBOX", 5)
	c := &packetClient{Client: l.login(user), t: t, has: map[uint32]map[string]bool{}}
	if dialect != "" {
		c.MustOK("ENABLE %s", dialect)
	}
	exchange := func(command string) {
		c.said = append(c.said, "C: "+command)
		for _, u := range c.MustOK("%s", command).Untagged {
			c.hear(u)
		}
	}
	exchange("SELECT INBOX")
	exchange("UID FETCH 1:* (FLAGS)")
	words := []string{`\Answered`, `\Flagged`, `\Draft`, `\Seen`}
	for round := range rounds {
		c.said = append(c.said, fmt.Sprintf("round %d of seed %d", round, seed))
		c.write("i IDLE\r\n")
		for u := c.Read(); u.Tag() != "+"; u = c.Read() {
			c.hear(u)
		}
		l.parked(c.Client)
		idle := true
		if r.IntN(2) == 0 {
			c.write("DONE\r\n")
			for u := c.Read(); u.Tag() != "i"; u = c.Read() {
				c.hear(u)
			}
			idle = false
		}
		for range r.IntN(4) {
			uids := d.Truth.UIDs()
			switch n := len(uids); {
			case n > 0 && r.IntN(2) == 0:
				gone := uids[r.IntN(n)]
				c.said = append(c.said, fmt.Sprintf("D: expunges %d", gone))
				d.Expunge(gone)
			case n < 12:
				c.said = append(c.said, "D: appends")
				d.Append(1 + r.IntN(2))
			}
		}
		if uids := d.Truth.UIDs(); len(uids) > 0 && r.IntN(2) == 0 {
			uid := uids[r.IntN(len(uids))]
			c.said = append(c.said, fmt.Sprintf("D: $Other to %d", uid))
			d.MustOK("UID STORE %d +FLAGS.SILENT ($Other)", uid)
		}
		if idle { // what it has been told by now is told
			if r.IntN(3) == 0 {
				idle = false
				c.write("DONE\r\n")
				for u := c.Read(); u.Tag() != "i"; u = c.Read() {
					c.hear(u)
				}
			}
		}
		count := len(c.view)
		unknown := slices.Contains(c.view, 0)
		var packets []packet
		left := slices.Clone(words)
		for i := range 1 + r.IntN(4) {
			p := packet{tag: fmt.Sprintf("p%d", i)}
			silent := r.IntN(2) == 0
			mark := func(what string, uids ...uint32) {
				if len(left) == 0 {
					return
				}
				p.flag, left = left[0], left[1:]
				p.silent, p.marks = silent, slices.Clone(uids)
				item := "+FLAGS"
				if silent {
					item = "+FLAGS.SILENT"
				}
				if r.IntN(4) == 0 { // a long line, which comes in pieces
					at := strings.LastIndexByte(what, ' ') + 1
					first, _, _ := strings.Cut(what[at:], ":")
					what = what[:at] + strings.Repeat(first+",", 400) + what[at:]
				}
				p.line = fmt.Sprintf("%s %s (%s)", what, item, p.flag)
			}
			if count > 0 && !unknown {
				a := r.IntN(count)
				b := a + r.IntN(count-a)
				switch r.IntN(12) {
				case 0, 1:
					mark(fmt.Sprintf("STORE %d", a+1), c.view[a])
				case 2:
					mark(fmt.Sprintf("STORE %d:%d", a+1, b+1), c.view[a:b+1]...)
				case 3:
					mark("STORE *", c.view[count-1])
				case 4:
					mark(fmt.Sprintf("STORE %d:*", a+1), c.view[a:]...)
				case 5:
					mark(fmt.Sprintf("UID STORE %d", c.view[a]), c.view[a])
				case 6:
					mark(fmt.Sprintf("UID STORE %d:*", c.view[a]), c.view[a:]...)
				case 7:
					p.line = fmt.Sprintf("FETCH %d (UID)", a+1)
				case 8:
					p.line = fmt.Sprintf("UID FETCH %d:* (FLAGS)", c.view[a])
				case 9:
					p.line = fmt.Sprintf("SEARCH %d:%d", a+1, b+1)
				}
			}
			if p.line == "" {
				p.line = []string{"NOOP", "CHECK", "STATUS INBOX (MESSAGES)", "UID SEARCH ALL", "NOOP", "UID SEARCH CHARSET UTF-8 SUBJECT {3+}\r\nabc", "CAPABILITY"}[r.IntN(7)]
			}
			packets = append(packets, p)
		}
		out := ""
		if idle {
			out = "DONE\r\n"
		}
		for _, p := range packets {
			out += p.tag + " " + p.line + "\r\n"
		}
		if r.IntN(4) == 0 {
			cut := r.IntN(len(out))
			if cut > 0 {
				c.write(out[:cut])
			}
			c.write(out[cut:])
		} else {
			c.write(out)
		}
		answer := map[string]imaptest.Response{}
		for u := c.Read(); ; u = c.Read() {
			c.hear(u)
			if u.Tag() == "*" {
				continue
			}
			answer[u.Tag()] = u
			for _, p := range packets {
				if p.tag != u.Tag() || p.flag == "" || !p.silent {
					continue
				}
				for _, uid := range p.marks {
					if has := c.has[uid]; has != nil && u.Status() == "OK" {
						has[p.flag] = true
					} else {
						delete(c.has, uid)
					}
				}
			}
			if _, idling := answer["i"]; len(answer) == len(packets) && !idling || len(answer) > len(packets) {
				break // Dovecot doesn't answer in order
			}
		}
		for _, p := range packets {
			if a, ok := answer[p.tag]; !ok || a.Status() == "BAD" {
				c.fault("%s: %v", p.line, a)
			}
		}
		d.MustOK("NOOP")
		truth := map[uint32]map[string]bool{}
		for _, u := range d.MustOK("UID FETCH 1:* (FLAGS)").Untagged {
			if flags, ok := flagsOf(u.Text); ok {
				_, after, _ := strings.Cut(u.Text, "UID ")
				uid, _ := strconv.Atoi(after[:strings.IndexAny(after, " )")])
				truth[uint32(uid)] = flags
			}
		}
		for _, p := range packets {
			for uid, flags := range truth {
				if p.flag != "" && flags[p.flag] != slices.Contains(p.marks, uid) {
					c.fault("%s: UID %d has it: %v", p.line, uid, flags[p.flag])
				}
			}
		}
		exchange("NOOP")
		exchange("NOOP")
		exchange("UID FETCH 1:* (UID)")
		if len(c.view) != len(truth) {
			c.fault("it counts %d messages of %d", len(c.view), len(truth))
		}
		for _, uid := range c.view {
			if has := c.has[uid]; has != nil && !maps.Equal(has, truth[uid]) {
				c.fault("it believes that UID %d has %v, and it has %v", uid, has, truth[uid])
			}
		}
		if len(truth) > 0 {
			d.MustOK("UID STORE 1:* FLAGS.SILENT ()")
		}
		exchange("NOOP")
		exchange("NOOP")
		exchange("UID FETCH 1:* (FLAGS)")
	}
}

// Whatever a client that was parked says in one packet, by number or UID, marks the messages that it
// meant, and all that it is told is true: PACKETS=n tries n seeds, and longer.
func randomPacketsTellNothingUntrue(t *testing.T, s *site) {
	n, seeds := 10, 1
	if v := os.Getenv("PACKETS"); v != "" {
		seeds, _ = strconv.Atoi(v)
		n = 40
	}
	for seed := range seeds {
		for _, dialect := range []string{"", "CONDSTORE", "QRESYNC"} {
			t.Run(fmt.Sprint(dialect, seed), func(t *testing.T) {
				t.Parallel()
				randomPackets(t, s, dialect, uint64(seed), n)
			})
		}
	}
}
