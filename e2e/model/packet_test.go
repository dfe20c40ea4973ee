package model

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"imapproxy/internal/imaptest"
)

// A command that its client writes together with DONE, NOOP or CHECK was written before any of them
// was answered. Its numbers mean the messages that the client counted then, whatever has
// gone since; and until it is answered none is taken away, or the client would take its answer for that
// of other messages.

// numbered is a command on messages by number, and what it may do.
type numbered struct {
	*command
	n     *named // the messages that it means
	allow func() allow
}

// packet has a session that is parked write such commands, right behind what another device has
// expunged. In IDLE it may be told of that before DONE is read, and counts otherwise from then on; unless
// the hub's tidings are withheld.
func (w *world) packet(c *client, o op) error {
	if w.l.proxy == nil {
		return nil
	}
	if err := c.done(); err != nil {
		return err
	}
	idle := c.dialect != imaptest.ModelPlain || w.l.plain || w.l.server.Kind == "mox" || o.a%2 == 0 // mox: see leave
	if !idle {                                                                                      // who has used numbers is parked in IDLE alone
		if err := w.departs(c, departure{verb: "SELECT", to: "same", opens: true}, ""); err != nil {
			return err
		}
	}
	if err := c.catchUp(); err != nil {
		return err
	}
	if c.model.Count() == 0 {
		return nil
	}
	if idle {
		if err := c.idle(); err != nil {
			return err
		}
	}
	if err := w.park(c, op{b: 1}); err != nil {
		return err
	}
	if w.l.attachment(c).Attachment != "parked" {
		return nil
	}
	strict := !idle || o.b%3 != 0
	if strict && idle {
		box := w.l.boxAs(w.user, w.box)
		w.l.withheld.Store(box, true)
		defer w.l.withheld.Delete(box)
	}
	if err := w.meanwhile(op{a: o.a/2*3 + 2, b: o.b, c: o.c}); err != nil { // something is expunged
		return err
	}
	count := c.model.Count()
	if !strict { // then a number may mean another message, but there has to be one
		left := 0
		for _, m := range c.model.Belief() {
			if w.w.truth.Find(m.UID) != nil {
				left++
			}
		}
		if count = left; count == 0 {
			return nil
		}
	}
	var all []*numbered
	for i := range 1 + o.c%2 {
		all = append(all, w.byNumber(c, op{a: o.a/7 + i*o.b, b: o.b + i, c: o.c/3 + i}, count, i == o.c%2))
	}
	return w.says(c, all, []string{"NOOP", "CHECK"}[o.b%2], strict)
}

// byNumber makes a command on messages up to number count. last says that no other follows it: a
// Dovecot begins, and may answer, what is behind a COPY before it has answered that.
func (w *world) byNumber(c *client, o op, count int, last bool) *numbered {
	set, _ := c.numbers(o)
	if count < c.model.Count() {
		first := 1 + o.a%count
		set.set = fmt.Sprintf("%d:%d", first, min(count, first+o.c%4))
	}
	m := &numbered{n: &set, allow: func() allow { return allow{} }}
	plain := func(verb, args string) {
		m.command = &command{verb: verb, line: fmt.Sprintf("%s %s %s", verb, set.set, args)}
	}
	kinds := []string{"store", "fetch", "delete", "store", "copy", "move"}
	if !last {
		kinds = kinds[:4]
	}
	switch kind := kinds[o.b/2%len(kinds)]; {
	case kind == "move" && w.l.has.move:
		plain("MOVE", c.box+"-other")
		m.moved = func(uid uint32) bool { return set.may(uid) }
		m.allow = func() allow { return allow{expunged: func(msg imaptest.ModelMessage) bool { return set.may(msg.UID) }} }
	case kind == "move", kind == "copy":
		plain("COPY", c.box+"-other")
		m.moved = func(uid uint32) bool { return set.may(uid) }
	case kind == "fetch":
		plain("FETCH", "(UID FLAGS)")
	default:
		cmd, a := w.storing(c, op{kind: kind, c: o.c}, "STORE", set)
		m.command = cmd
		m.allow = func() allow {
			a.stored = set
			return a
		}
	}
	return m
}

// says writes commands behind DONE, or else behind first, and checks what they are told and do.
func (w *world) says(c *client, all []*numbered, first string, strict bool) error {
	if err := c.drain(); err != nil {
		return err
	}
	var lines []string
	for _, m := range all {
		c.model.Names(m.flag)
		lines = append(lines, m.line)
	}
	if strict {
		first0 := all[0].verb
		if first0 == "MOVE" || first0 == "COPY" {
			first0 = "STORE"
		}
		c.model.Begin(first0) // none may be taken away from now on
	}
	tags, err := c.together(first, lines...)
	if err != nil {
		return err
	}
	if _, _, err := c.finish(tags[0]); err != nil {
		return fmt.Errorf("together with %q: %w", lines, err)
	}
	for _, m := range all {
		if err := c.meant(m.n); err != nil {
			return err
		}
	}
	var allowed []allow
	for i, m := range all {
		verb := m.verb
		if i < len(all)-1 {
			verb = "STORE" // another follows whose numbers are of before
		}
		if m.silent != nil { // what was told so far is of before it
			m.silent, m.command.from = m.n.uids, m.n.from
			c.mark(m.command)
		}
		c.model.Begin(verb)
		r, err := c.answered(m.command, tags[i+1])
		if err != nil {
			for _, m := range all[i:] {
				w.undecided(m.allow())
			}
			return fmt.Errorf("%s, which meant UIDs %v: %w", m.line, m.n.uids, err)
		}
		a := m.allow()
		w.refused(&a, r)
		allowed = append(allowed, a)
	}
	if err := w.after(allowed...); err != nil {
		return fmt.Errorf("%q: %w", lines, err)
	}
	return nil
}

// meant finds which messages a set of numbers means as the client counts now. Of some it may not
// have heard the UID yet.
func (c *client) meant(n *named) error {
	count := c.model.Count()
	numbers, err := imaptest.ModelSet(strings.ReplaceAll(n.set, "*", strconv.Itoa(count)))
	if err != nil {
		return err
	}
	n.uids, n.from = []uint32{}, 0
	unknown := false
	for _, i := range numbers {
		if uid := c.model.UID(int(i)); uid != 0 {
			n.uids = append(n.uids, uid)
		} else {
			unknown = unknown || int(i) <= count
		}
	}
	for i := 1; unknown && i <= count; i++ {
		n.from = max(n.from, c.model.UID(i)+1)
	}
	return nil
}

// packets is a fault of the proxy's, in what it makes of commands that come together.
type packets uint8

const (
	taken   packets = iota // there is none
	apart                  // they are taken one after the other
	shifted                // numbers are those of after
)

var reNumber = regexp.MustCompile(`^([A-Z]+ )(\d+)`)

// together writes commands at once: behind the end of the IDLE that the client is in, or else behind
// first. It returns their tags, that of the IDLE or of first before the others.
func (c *client) together(first string, lines ...string) (tags []string, err error) {
	var b strings.Builder
	add := func(line string) {
		c.tags++
		tags = append(tags, fmt.Sprintf("t%d", c.tags))
		fmt.Fprintf(&b, "t%d %s\r\n", c.tags, line)
	}
	if c.idleTag != "" {
		b.WriteString("DONE\r\n")
		tags = append(tags, c.idleTag)
		c.idleTag = ""
	} else {
		add(first)
	}
	alone := b.Len()
	for _, line := range lines {
		if m := reNumber.FindStringSubmatch(line); c.packets == shifted && m != nil && m[2] != "1" {
			line = m[1] + strconv.Itoa(atoi(m[2])-1) + line[len(m[0]):]
		}
		add(line)
	}
	text := b.String()
	c.t.add("%s> %q", c.name, text)
	if c.packets == apart {
		if err := c.conn.SendRaw(text[:alone]); err != nil {
			return tags, c.gone()
		}
		text = text[alone:]
		for tag := range c.tagged {
			if tag == tags[0] {
				break
			}
		}
	}
	if err := c.conn.SendRaw(text); err != nil {
		return tags, c.gone()
	}
	quickAck(c.conn)
	return tags, nil
}
