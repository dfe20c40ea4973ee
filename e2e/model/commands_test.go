package model

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"imapproxy/internal/imaptest"
)

var keywords = []string{"kw0", "kw1", "kw2", "kw3", `\Flagged`, `\Seen`, `\Answered`}

// command is a command of a client, and the effect of its answer on the model.
type command struct {
	verb, line string
	// silent are UIDs whose flags the client works out for itself, as it sets (on) or removes flag;
	// of all from "from" on, if that isn't 0, it doesn't know whether they are meant.
	silent []uint32
	from   uint32
	on     bool
	flag   string // of every STORE
	// unsure: others act at the same time, or the server tells old flags, so that what
	// the client works out needn't be true; contested: others may set the same flag just now.
	unsure, contested bool
	// there says whether a message was there when the command was sent: a STORE changes nothing of one that is
	// gone, and Dovecot tells the flags that it had at the end. nil: all were.
	there func(uid uint32) bool
	// moved: the UIDs that COPYUID may name.
	moved func(uid uint32) bool
	// found: the UIDs that a search may find; keyword is what they must have, "" for nothing.
	found   func(uid uint32) bool
	keyword string
	ahead   bool // it may find, by number, messages of which the client is told later

	marked   bool                // the client has worked out what it does
	untagged []imaptest.Response // the answer
	uids     []uint32            // of what a search has found; 0 where the client doesn't know it
}

// run sends a command and reads its answer.
func (c *client) run(cmd *command) (imaptest.Response, error) {
	if err := c.marks(cmd); err != nil {
		return imaptest.Response{}, err
	}
	tag, err := c.begin(cmd.verb, "%s", cmd.line)
	if err != nil {
		c.unanswered(cmd)
		return imaptest.Response{}, err
	}
	return c.answered(cmd, tag)
}

// marks has the client know the keyword that its STORE names, and work out what a STORE .SILENT
// does, as it writes it.
func (c *client) marks(cmd *command) error {
	c.model.Names(cmd.flag)
	if cmd.silent == nil {
		return nil
	}
	if err := c.drain(); err != nil {
		return err
	}
	c.mark(cmd)
	return nil
}

// mark is marks where what has come may be of after the command.
func (c *client) mark(cmd *command) {
	for _, uid := range cmd.silent {
		if cmd.from == 0 || uid < cmd.from {
			c.model.Mark(uid, cmd.flag, cmd.on)
		}
	}
	cmd.marked = true
}

// markedIt checks that no older flags were told behind a STORE .SILENT, and forgets what
// the client can't know.
func (c *client) markedIt(cmd *command, done bool) error {
	if done && cmd.marked && !cmd.contested && !c.staleFlags {
		for _, uid := range cmd.silent {
			if (cmd.from == 0 || uid < cmd.from) && (cmd.there == nil || cmd.there(uid)) {
				if err := c.model.Marked(uid, cmd.flag, cmd.on); err != nil {
					return fmt.Errorf("%s: %s: %w", c.name, cmd.line, err)
				}
			}
		}
	}
	c.forget(cmd, done && cmd.marked && !cmd.unsure && !c.staleFlags)
	return nil
}

// unanswered is for a command whose answer the connection's end has taken: it may have been done or not.
func (c *client) unanswered(cmd *command) {
	if cmd.silent != nil && c.model != nil {
		c.forget(cmd, false)
	}
}

// forget has the client forget what it can't know behind a STORE .SILENT. sure: what it works out itself is true.
func (c *client) forget(cmd *command, sure bool) {
	for i := 1; i <= c.model.Count(); i++ {
		switch uid := c.model.UID(i); {
		case uid == 0, cmd.from != 0 && uid >= cmd.from:
			c.model.Forget(i)
		case !sure && slices.Contains(cmd.silent, uid): // what it was told meanwhile may be of before, too
			c.model.Forget(i)
		}
	}
}

func (c *client) answered(cmd *command, tag string) (r imaptest.Response, err error) {
	if cmd.untagged, r, err = c.finish(tag); err != nil {
		c.unanswered(cmd)
		return r, err
	}
	if cmd.silent != nil {
		if err := c.markedIt(cmd, r.Status() == "OK"); err != nil {
			return r, err
		}
	}
	if cmd.moved != nil {
		if err := cmd.copied(r); err != nil {
			return r, err
		}
	}
	return r, cmd.searched(c)
}

// copied checks which messages COPY or MOVE took, as COPYUID says it.
func (cmd *command) copied(r imaptest.Response) error {
	for _, u := range append(slices.Clone(cmd.untagged), r) {
		f := strings.Fields(u.Code())
		if len(f) != 4 || f[0] != "COPYUID" {
			continue
		}
		from, err := imaptest.ModelSet(f[2])
		if err != nil {
			return err
		}
		for _, uid := range from {
			if !cmd.moved(uid) {
				return fmt.Errorf("%s took UID %d: %s", cmd.line, uid, u)
			}
		}
	}
	return nil
}

// named are messages as a client names them: a set, the UIDs that it means as far as it
// knows. from is not 0 where "*" may mean more: all messages from there on.
type named struct {
	set  string
	uids []uint32
	from uint32
}

func (n named) may(uid uint32) bool {
	return slices.Contains(n.uids, uid) || n.from != 0 && uid >= n.from
}

// numbers are some of the client's messages by number. known says that it knows
// their UIDs.
func (c *client) numbers(o op) (n named, known bool) {
	count := c.model.Count()
	if count == 0 {
		return n, false
	}
	first := 1 + o.a%count
	last := first
	switch o.b % 4 {
	case 0:
		last = min(count, first+o.c%4)
	case 1:
		last = count
	}
	n.set = strconv.Itoa(first)
	if last > first {
		n.set += ":" + strconv.Itoa(last)
	}
	if o.b%4 == 1 {
		n.set = fmt.Sprintf("%d:*", first)
		if o.c%3 == 0 {
			n.set, first = "*", count
		}
	}
	known = true
	for i := first; i <= last; i++ {
		uid := c.model.UID(i)
		known = known && uid != 0
		n.uids = append(n.uids, uid)
	}
	return n, known
}

// byUID are some of the client's messages by UID; "" where it knows none.
func (c *client) byUID(o op) (n named) {
	var all []uint32
	unknown := false
	for _, m := range c.model.Belief() {
		if m.UID != 0 {
			all = append(all, m.UID)
		} else {
			unknown = true
		}
	}
	if len(all) == 0 {
		return n
	}
	if o.b%5 == 4 && !unknown {
		at := o.a % len(all)
		return named{set: fmt.Sprintf("%d:*", all[at]), uids: all[at:]}
	}
	var b []string
	for i := range 1 + o.b%3 {
		uid := all[(o.a+i*o.c)%len(all)]
		n.uids = append(n.uids, uid)
		b = append(b, strconv.Itoa(int(uid)))
	}
	n.set = strings.Join(b, ",")
	return n
}

// starred returns what "*" may mean in a command that changes or copies messages: of a
// client that is parked its own last message, since the proxy says so, and on
// Dovecot too. To other servers it is the last there is, which a client that names 10:* may not
// know, be it newer or older than its own.
func (w *world) starred(c *client, n named, byUID bool) named {
	frozen := w.l.server.Kind == "dovecot" || c != w.out && !w.racing && w.l.attachment(c).Attachment == "parked"
	if frozen || !strings.Contains(n.set, "*") {
		return n
	}
	n.from = slices.Max(n.uids)
	if n.set == "*" {
		n.uids = []uint32{} // it needn't be the last one that the client knows
	} else {
		n.from++
	}
	switch uids := w.w.truth.UIDs(); {
	case !byUID:
	case w.racing:
		n.from = 1
	case len(uids) > 0:
		n.from = min(n.from, uids[len(uids)-1])
	}
	return n
}

// build makes a command, and returns its possible effects on the mailbox. nil: there is nothing
// to be done.
func (w *world) build(c *client, o op) (*command, allow) {
	plain := func(verb, format string, args ...any) *command {
		return &command{verb: verb, line: fmt.Sprintf(format, args...)}
	}
	switch o.kind {
	case "append":
		return w.appending(c), allow{appended: 1}
	case "noop":
		return plain("NOOP", "NOOP"), allow{}
	case "check":
		return plain("CHECK", "CHECK"), allow{}
	case "done":
		return nil, allow{}
	case "expunge":
		return plain("EXPUNGE", "EXPUNGE"), allow{expunged: isDeleted}
	case "learn":
		if c.model.Count() > 0 {
			return plain("UID FETCH", "UID FETCH 1:* (UID FLAGS)"), allow{}
		}
		return nil, allow{}
	case "search", "uidsearch", "sort", "thread":
		return w.searching(c, o), allow{}
	}
	if o.kind == "move" && !w.l.has.move {
		o.kind = "copy"
	}
	numbers, known := c.numbers(o)
	uids := c.byUID(o)
	if numbers.set == "" {
		return nil, allow{}
	}
	switch o.kind {
	case "store", "delete", "copy", "move":
		if !known {
			return plain("FETCH", "FETCH %s (UID FLAGS)", numbers.set), allow{}
		}
	case "uidstore", "uidexpunge", "uidfetch":
		if uids.set == "" {
			return nil, allow{}
		}
	}
	switch o.kind {
	case "store", "delete", "uidstore":
		n, verb := numbers, "STORE"
		if o.kind == "uidstore" {
			n, verb = uids, "UID STORE"
		}
		return w.storing(c, o, verb, w.starred(c, n, verb != "STORE"))
	case "uidexpunge":
		n := w.starred(c, uids, true)
		return plain("UID EXPUNGE", "UID EXPUNGE %s", n.set), allow{expunged: func(m imaptest.ModelMessage) bool { return isDeleted(m) && n.may(m.UID) }}
	case "copy":
		n := w.starred(c, numbers, false)
		if o.a%2 == 0 {
			most := len(n.uids)
			if n.from != 0 {
				most = len(w.w.truth.Messages) + 1 // which another appends just now
			}
			return plain("COPY", "COPY %s %s", n.set, c.box), allow{maybe: most}
		}
		cmd := plain("COPY", "COPY %s %s", n.set, w.target(c, o))
		cmd.moved = n.may
		return cmd, allow{}
	case "move":
		n, verb := numbers, "MOVE"
		if o.a%3 == 0 && uids.set != "" {
			n, verb = uids, "UID MOVE"
		}
		n = w.starred(c, n, verb != "MOVE")
		cmd := plain(verb, "%s %s %s", verb, n.set, w.target(c, o))
		cmd.moved = n.may
		return cmd, allow{expunged: func(m imaptest.ModelMessage) bool { return n.may(m.UID) }}
	case "fetch":
		if o.c%4 == 0 {
			return plain("FETCH", "FETCH %s (FLAGS)", numbers.set), allow{}
		}
		return plain("FETCH", "FETCH %s (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])", numbers.set), allow{}
	case "uidfetch":
		return plain("UID FETCH", "UID FETCH %s (FLAGS)", uids.set), allow{}
	}
	panic("no such operation: " + o.kind)
}

// target is a mailbox to which messages are copied or moved.
func (w *world) target(c *client, o op) string {
	if w.home != nil && c != w.out && o.c%3 != 0 {
		return w.home.box
	}
	return c.box + "-other"
}

func isDeleted(m imaptest.ModelMessage) bool { return slices.Contains(m.Flags, `\Deleted`) }

func (w *world) appending(c *client) *command {
	w.appends++
	body := fmt.Sprintf("From: a@b\r\nSubject: n%d\r\n\r\nbody\r\n", w.appends)
	plus := ""
	if w.l.has.literalPlus {
		plus = "+"
	}
	return &command{verb: "APPEND", line: fmt.Sprintf("APPEND %s {%d%s}\r\n%s", c.box, len(body), plus, body)}
}

// silently says whether a STORE is a silent one. Cyrus answers a STORE .SILENT of an attached session
// with nothing but the mod-sequences of what others have changed before it, and tells their flags and
// keywords never. There a client asks first (see command), and no other client acts at the same time.
func (w *world) silently(c *client, o op) bool {
	switch {
	case o.c%5 != 0:
		return false
	case w.l.server.Kind != "cyrus":
		return true
	}
	return !w.racing && (w.askedFirst || c != w.out && w.l.attachment(c).Attachment == "parked")
}

func (w *world) storing(c *client, o op, verb string, n named) (*command, allow) {
	kw, sign, on := keywords[o.c%len(keywords)], "+", o.c%3 != 0
	if !on {
		sign = "-"
	}
	if o.kind == "delete" {
		kw, sign, on = `\Deleted`, "+", true
	}
	cmd := &command{verb: verb, flag: kw}
	silent := ""
	if w.silently(c, o) {
		silent, cmd.silent, cmd.from = ".SILENT", n.uids, n.from
		cmd.on, cmd.unsure = on, w.racing
		truth := w.w.truth
		cmd.there = func(uid uint32) bool { return truth.Find(uid) != nil }
	}
	cmd.line = fmt.Sprintf("%s %s %sFLAGS%s (%s)", verb, n.set, sign, silent, kw)
	return cmd, allow{stored: n, flag: kw, on: on, all: true}
}
