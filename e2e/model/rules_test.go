package model

import (
	"fmt"
	"strings"

	"imapproxy/internal/imaptest"
)

// What a client relies on beyond what it may be told at all, done where the proxy has to take care:
// by a session that is parked, right behind what others have done.

// polled checks, behind the answer to NOOP, that it has told all there is (RFC 9051 §6.1.2): every
// change was acknowledged to its author before the NOOP was sent.
func (w *world) polled(c *client) error {
	if w.l.staleFlags {
		for i := 1; i <= c.model.Count(); i++ {
			c.model.Forget(i)
		}
	}
	err := c.model.Converged(w.w.truth)
	if err != nil && w.unheard(c) {
		if err := c.selectBox(c.dialect); err != nil {
			return err
		}
		err = c.model.Converged(w.w.truth)
	}
	if err != nil {
		return fmt.Errorf("%s behind NOOP: %w", c.name, err)
	}
	return nil
}

// unheard says whether Cyrus itself may owe a client the number of messages. Cyrus 3.6.1 never tells it of a message that is appended
// during a SEARCH of the client's, once another message that the client wasn't told of either has been expunged; it
// answers by the right numbers all the same. (Seen without a proxy, 3 times of 1,500 where all of that was done on purpose.)
func (w *world) unheard(c *client) bool {
	if w.l.server.Kind != "cyrus" || w.l.attachment(c).Attachment == "parked" || c.model.Count() >= len(w.w.truth.Messages) || c.model.Check(w.w.truth) != nil {
		return false
	}
	w.stats.unheard++
	w.t.add("    Cyrus doesn't tell %s of %d messages", c.name, len(w.w.truth.Messages)-c.model.Count())
	return true
}

// poll has another device change the mailbox, and a session that is parked ask at once.
func (w *world) poll(c *client, o op) error {
	if err := w.park(c, op{a: o.b % 2 * 4, b: 1}); err != nil {
		return err
	}
	if err := w.out.catchUp(); err != nil {
		return err
	}
	change, _ := outsideOp(o)
	cmd, a := w.build(w.out, change)
	if cmd == nil {
		return nil
	}
	r, err := w.out.run(cmd)
	if err != nil {
		return err
	}
	w.refused(&a, r)
	if err := c.done(); err != nil {
		return err
	}
	if _, _, err := c.do("NOOP", "NOOP"); err != nil {
		return err
	}
	if err := w.after(a); err != nil {
		return fmt.Errorf("%s: %w", r, err)
	}
	return w.polled(c)
}

// silent has another device change flags, or append, while a session is parked whose first command
// sets flags silently.
func (w *world) silent(c *client, o op) error {
	if err := w.park(c, op{a: 1, b: 1}); err != nil {
		return err
	}
	if o.a%3 != 0 {
		if err := w.outside(op{kind: "outside", a: o.a % 3 % 2, b: o.b, c: o.c}); err != nil { // append, uidstore
			return err
		}
	}
	if err := c.done(); err != nil {
		return err
	}
	return w.command(c, op{kind: []string{"uidstore", "store", "delete"}[o.b%3], a: o.a, b: o.b / 3, c: o.c * 5})
}

// marks has a client that knows all there is set flags by UID, go to sleep and come back: then it isn't
// told again what it knows. Only what the proxy follows is done: flags that were told by number alone
// and set by UID, and those set up to "*", are forgotten, and told once more. Where the
// backend has no QRESYNC all flags are compared, and a client of CONDSTORE or QRESYNC may be told
// mod-sequences that it doesn't know.
func (w *world) marks(c *client, o op) error {
	if c.dialect != imaptest.ModelPlain || w.l.plain || w.l.staleFlags || w.l.proxy == nil {
		return nil
	}
	if err := c.done(); err != nil {
		return err
	}
	if err := c.catchUp(); err != nil {
		return err
	}
	for i := range 1 + o.a%3 {
		if err := w.command(c, op{kind: "uidstore", a: o.a + i, b: o.b % 4, c: o.c*5 + i}); err != nil {
			return err
		}
	}
	if err := c.idle(); err != nil {
		return err
	}
	if err := w.park(c, op{a: 1, b: 1}); err != nil {
		return err
	}
	if w.l.attachment(c).Attachment != "parked" {
		return nil
	}
	if err := c.done(); err != nil {
		return err
	}
	for _, line := range []string{"UID SEARCH ALL", "NOOP"} {
		list, _, err := c.do(strings.TrimSuffix(line, " ALL"), "%s", line)
		if err != nil {
			return err
		}
		for _, r := range list {
			if _, _, flags := uidAndFlags(r); r.Word(2) == "FETCH" && flags {
				return fmt.Errorf("%s knows that already: %s", c.name, r)
			}
		}
	}
	return nil
}
