package model

import (
	"fmt"
	"regexp"
	"strconv"

	"imapproxy/internal/imaptest"
)

// A client that leaves its mailbox is told nothing more of it: whatever has happened there while it
// was parked is void. A number of before that comes between the command and its answer it would
// take for one of the new mailbox.

// departure is a way to leave a mailbox.
type departure struct {
	verb   string
	to     string // "other", "same", "nowhere", "own" for one at the server of the clients' user, "" for none
	opens  bool   // a mailbox is selected afterwards
	resync bool   // by a client that has cached it (RFC 7162 §3.2.5)
}

func (w *world) departures(c *client) []departure {
	all := []departure{
		{verb: "SELECT", to: "other", opens: true},
		{verb: "EXAMINE", to: "other", opens: true},
		{verb: "SELECT", to: "same", opens: true},
		{verb: "EXAMINE", to: "same", opens: true},
		{verb: "SELECT", to: "nowhere"},
		{verb: "CLOSE"},
	}
	if w.l.has.unselect {
		all = append(all, departure{verb: "UNSELECT"})
	}
	if w.home != nil {
		own := departure{verb: "SELECT", to: "own", opens: true}
		all = append(all, own, own, own)
	}
	if c.dialect == imaptest.ModelQResync && !w.l.staleFlags && c.model.Cached != 0 {
		all = append(all, departure{verb: "SELECT", to: "same", opens: true, resync: true})
	}
	return all
}

// leave has a session that is parked leave the mailbox, in which others have been at work, and come
// back to it later. Its command comes alone, or together with DONE, NOOP or CHECK. mox 0.0.15 tells a
// connection of what was delivered to a mailbox before the connection selected it, and closes it: its
// sessions leave, and come back, by a new connection.
func (w *world) leave(c *client, o op) error {
	if err := w.park(c, op{a: o.b, b: 1}); err != nil {
		return err
	}
	together := o.c%3 == 0
	if !together {
		if err := c.done(); err != nil {
			return err
		}
	}
	if err := w.meanwhile(o); err != nil {
		return err
	}
	mox := w.l.server.Kind == "mox"
	if mox && w.l.attachment(c).Attachment != "parked" {
		return nil
	}
	all := w.departures(c)
	d := all[o.a/7%len(all)]
	first := ""
	if together {
		first = []string{"NOOP", "CHECK"}[o.b%2]
	}
	if err := w.departs(c, d, first); err != nil {
		return err
	}
	if c.leaving != nil {
		// The mailbox goes on, and the session may be parked with none selected.
		if err := w.park(c, op{b: 1}); err != nil {
			return err
		}
	} else if d.to == "other" || d.to == "own" {
		if err := w.park(c, op{a: o.c, b: 1}); err != nil {
			return err
		}
	}
	if d.to != "same" && o.b%2 == 0 {
		if err := w.meanwhile(op{a: o.b, b: o.c, c: o.a}); err != nil {
			return err
		}
	}
	if err := c.done(); err != nil {
		return err
	}
	if err := w.hasLeft(c, d); err != nil {
		return err
	}
	if d.to == "same" && d.verb == "SELECT" {
		return nil
	}
	if d.to == "own" && c.model.Count() > 0 {
		if err := w.back(c, o); err != nil {
			return err
		}
	}
	if mox && w.l.attachment(c).Attachment != "parked" {
		c.close()
		dialect := c.dialect
		n, err := dial(c.dialing)
		if err != nil {
			return err
		}
		w.clients[o.client], c = n, n
		if err := c.selectBox(dialect); err != nil {
			return err
		}
	} else if err := w.departs(c, departure{verb: "SELECT", to: "same", opens: true}, ""); err != nil {
		return err
	}
	return c.model.Converged(w.w.truth)
}

// back copies or moves a message of the clients' own mailbox, which is selected, to the one at the other server.
func (w *world) back(c *client, o op) error {
	verb := []string{"COPY", "MOVE"}[o.a%2]
	_, r, err := c.do(verb, "%s %d %s", verb, 1+o.b%c.model.Count(), w.l.boxAs(w.user, w.box))
	if err != nil {
		return err
	}
	if r.Status() != "OK" { // another client of the case may have moved the message meanwhile
		return w.after()
	}
	return w.after(allow{appended: 1})
}

// meanwhile has the other device change the mailbox, and mostly take messages away.
func (w *world) meanwhile(o op) error {
	if err := w.outside(op{kind: "outside", a: o.a, b: o.b, c: o.c}); err != nil {
		return err
	}
	if o.a%3 == 0 {
		return nil
	}
	const deletes, expunges = 2, 4
	if err := w.outside(op{kind: "outside", a: deletes + o.b/4*7, b: 2, c: o.c}); err != nil {
		return err
	}
	if o.a%3 == 1 {
		return nil // CLOSE will take it away
	}
	return w.outside(op{kind: "outside", a: expunges})
}

// departs says one command that leaves the mailbox, behind first if that isn't "", and
// checks what is told meanwhile, what it does, and what the client has afterwards.
func (w *world) departs(c *client, d departure, first string) error {
	if err := c.drain(); err != nil {
		return err
	}
	parked := w.l.attachment(c).Attachment == "parked"
	had := c.model != nil
	line, box := d.verb, c.box
	switch d.to {
	case "other":
		box += "-other"
	case "nowhere":
		box += "-nowhere"
	case "own":
		box = w.home.box
	}
	if d.to != "" {
		line += " " + box
	}
	belief, cached := []imaptest.ModelMessage(nil), uint64(0)
	switch {
	case d.resync:
		belief, cached = c.model.Belief(), c.model.Cached
		line = c.since(cached)
	case d.opens && c.dialect == imaptest.ModelCondStore:
		line += " (CONDSTORE)"
	}
	leaves := func() {
		c.model, c.leaving = nil, &imaptest.ModelLeaving{Selects: d.to != "", Since: d.resync, Again: w.l.breaks}
	}
	tag := ""
	var err error
	if first == "" {
		leaves()
		tag, err = c.begin(d.verb, "%s", line)
	} else {
		if c.idleTag == "" {
			c.model.Begin(first)
		}
		var tags []string
		if tags, err = c.together(first, line); err == nil {
			_, _, err = c.finish(tags[0])
			leaves()
			tag = tags[1]
		}
	}
	if err != nil {
		return err
	}
	untagged, r, err := c.finish(tag)
	if err != nil {
		if d.verb == "CLOSE" {
			w.undecided(allow{expunged: isDeleted})
		}
		return err
	}
	if ok := r.Status() == "OK"; ok != (d.to != "nowhere") {
		return fmt.Errorf("%s: %s: %s", c.name, line, r)
	}
	allowed := allow{}
	if d.verb == "CLOSE" {
		allowed.expunged = isDeleted
	}
	if err := w.after(allowed); err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	// A parked session hears it from the proxy; not every server says it.
	if (parked || !had) && c.leaving.Closed != (had && c.leaving.Selects) {
		return fmt.Errorf("%s: %s: CLOSED: %v", c.name, line, c.leaving.Closed)
	}
	if d.verb == "CLOSE" && parked { // RFC 9051 §6.4.1; a Dovecot goes by what its session has heard of
		for _, m := range w.w.truth.Messages {
			if isDeleted(m) {
				return fmt.Errorf("CLOSE has left UID %d %v", m.UID, m.Flags)
			}
		}
	}
	if !d.opens {
		c.leaving.Selects = false // what comes from now on is of no mailbox
		return nil
	}
	count, err := w.count(box, d.to)
	if err != nil {
		return err
	}
	if c.leaving.Exists != count {
		return fmt.Errorf("%s: %s is said to have %d messages, and has %d", c.name, box, c.leaving.Exists, count)
	}
	c.leaving = nil
	if d.resync {
		if err := c.resynced(belief, cached, untagged); err != nil {
			return err
		}
		return c.model.Converged(w.w.truth)
	}
	c.model = imaptest.NewModelClient(c.dialect, imaptest.NewModelMailbox(1))
	c.model.Cached = 0
	for _, u := range untagged {
		if err := c.hear(u); err != nil {
			return err
		}
	}
	return c.learn()
}

var reMessages = regexp.MustCompile(`MESSAGES (\d+)`)

// count says how many messages there are in the clients' mailbox, or the other one.
func (w *world) count(box, which string) (int, error) {
	switch which {
	case "same":
		return len(w.w.truth.Messages), nil
	case "own":
		_, err := w.home.look()
		return len(w.home.truth.Messages), err
	}
	list, err := w.w.ok("STATUS %s-other (MESSAGES)", w.box)
	if err != nil {
		return 0, err
	}
	for _, r := range list {
		if m := reMessages.FindStringSubmatch(r.Text); m != nil {
			return strconv.Atoi(m[1])
		}
	}
	return 0, fmt.Errorf("no STATUS of %s: %v", box, list)
}

// hasLeft checks, by a NOOP and a command on messages, that nothing of the mailbox that was left comes
// afterwards, though it may have changed.
func (w *world) hasLeft(c *client, d departure) error {
	if d.to == "same" {
		return nil
	}
	if _, _, err := c.do("NOOP", "NOOP"); err != nil {
		return err
	}
	if c.model != nil {
		count, err := w.count("the other mailbox", d.to)
		if err == nil && c.model.Count() != count {
			err = fmt.Errorf("%s counts %d messages in the other mailbox, which has %d", c.name, c.model.Count(), count)
		}
		if err != nil {
			return err
		}
		return c.learn() // whose UIDs are those that it has heard of
	}
	tag, err := c.begin("UID SEARCH", "UID SEARCH ALL")
	if err != nil {
		return err
	}
	list, r, err := c.finish(tag)
	if r.Status() == "OK" {
		return fmt.Errorf("%s has a mailbox selected behind %s %s: %v", c.name, d.verb, d.to, list)
	}
	if r.Tag() != tag {
		return err
	}
	return nil // BAD, as it should be
}
