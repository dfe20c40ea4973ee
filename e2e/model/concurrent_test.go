package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// pipeline sends several commands at once: none whose numbers could be meant otherwise
// when it is written than when it is read.
func (w *world) pipeline(c *client, o op) error {
	uids := c.byUID(o)
	if uids.set == "" {
		return nil
	}
	if err := c.drain(); err != nil {
		return err
	}
	var b strings.Builder
	var tags []string
	if c.idleTag != "" {
		tags = append(tags, c.idleTag)
		b.WriteString("DONE\r\n")
		c.idleTag = ""
	}
	list := []string{"NOOP", "UID FETCH " + uids.set + " (FLAGS)", "UID SEARCH ALL", "NOOP", "UID FETCH 1:* (UID FLAGS)"}
	verb := "UID FETCH"
	if len(tags) == 0 && o.c%2 == 0 && c.model.Count() > 0 {
		list, verb = []string{"FETCH 1:* (UID FLAGS)", "SEARCH ALL", fmt.Sprintf("FETCH %d (UID)", 1+o.a%c.model.Count())}, "FETCH"
	}
	for i := range 1 + o.a%3 {
		c.tags++
		tag := fmt.Sprintf("t%d", c.tags)
		tags = append(tags, tag)
		fmt.Fprintf(&b, "%s %s\r\n", tag, list[(o.b+i)%len(list)])
	}
	c.model.Begin(verb)
	c.t.add("%s> %q", c.name, b.String())
	if err := c.conn.SendRaw(b.String()); err != nil {
		return c.gone()
	}
	for left := slices.Clone(tags); len(left) > 0; {
		r, err := c.next(c.patience)
		if err != nil {
			return err
		}
		if i := slices.Index(left, r.Tag()); i >= 0 {
			left = slices.Delete(left, i, i+1)
			if r.Status() == "BAD" {
				return errors.New(r.String())
			}
		}
	}
	c.model.Begin("")
	return nil
}

// race begins and ends what several do at once. Dovecot says a HIGHESTMODSEQ then that covers the
// other's change, and tells that change with the next command only (TestWhatDovecotSaysTooEarly):
// no client may resynchronise from there.
func (w *world) race() (end func()) {
	w.racing = true
	all := append(slices.Clone(w.clients), w.out)
	var bounds []uint64
	for _, c := range all {
		bounds = append(bounds, c.model.Cached)
	}
	return func() {
		w.racing = false
		for i, c := range all {
			if w.l.server.Kind == "dovecot" {
				c.model.Cached = bounds[i]
			}
		}
	}
}

// both has two act at the same time, one of them perhaps the device that doesn't go by the
// proxy. The first is attached, or parked, or just being parked; its command takes it
// back. It looks at what both of them may have done together.
func (w *world) both(c *client, o op) (err error) {
	if w.l.calm {
		return nil
	}
	other := w.clients[(o.client+1)%len(w.clients)]
	first := []string{"store", "uidstore", "delete", "expunge", "uidexpunge", "fetch", "search", "learn", "copy", "move", "noop", "uidsearch"}
	second := []string{"append", "uidstore", "delete", "uidexpunge", "expunge", "append", "move"}
	one := op{kind: first[o.a%len(first)], a: o.b, b: o.c, c: o.a / 16}
	two := op{kind: second[o.b%len(second)], a: o.c, b: o.a, c: o.b / 16}
	how := o.c % 4
	if other == c || how%2 == 0 {
		other = w.out
		if err := other.catchUp(); err != nil {
			return err
		}
	} else if err := other.done(); err != nil {
		return err
	}
	if how < 3 {
		if err := w.park(c, op{a: 1, b: how + 1, c: o.b}); err != nil { // how 2: perhaps not yet
			return err
		}
	}
	defer w.race()()
	cmd2, allow2 := w.build(other, two)
	if cmd2 == nil {
		return nil
	}
	if how == 1 { // its IDLE may be over before the other begins
		if err := c.done(); err != nil {
			return err
		}
	}
	other.model.Names(cmd2.flag)
	tag2, err := other.begin(cmd2.verb, "%s", cmd2.line)
	if err != nil {
		return err
	}
	answered := false
	defer func() {
		if err != nil {
			w.undecided(allow2)
		}
		if !answered { // what it does must be done before the next operation looks
			_, _, ferr := other.finish(tag2)
			err = errors.Join(err, ferr)
		}
	}()
	if err := c.done(); err != nil {
		return err
	}
	allowed := []allow{allow2}
	if cmd1, allow1 := w.build(c, one); cmd1 != nil {
		cmd1.contested = allow1.flag == allow2.flag || allow2.expunged != nil
		r, err := c.run(cmd1)
		if err != nil {
			w.undecided(allow1)
			return err
		}
		w.refused(&allow1, r)
		allowed = append(allowed, allow1)
	}
	answered = true
	r, err := other.answered(cmd2, tag2)
	if err != nil {
		return err
	}
	w.refused(&allowed[0], r)
	return w.after(allowed...)
}
