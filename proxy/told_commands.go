package proxy

import (
	"strings"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// command follows a command that begins, and says what its arguments leave behind. whole says that
// all of it stands in h, with its literals inline; else others find that out. selected says that a mailbox is
// selected, and selecting that another is about to be.
func (t *told) command(seq uint64, h wire.CommandHead, whole, selected, selecting bool) (e effects) {
	r := h.Verb.Rule()
	if r.Selects {
		t.closed = t.closed && selecting // of a SELECT that isn't answered yet
		t.selects(seq, h, selected && !selecting)
	}
	if !whole {
		return 0
	}
	switch {
	case r.Selects:
		t.box.named(h.Args, t.utf8)
	case r.Renames:
		e = t.renames(h.Args)
	}
	w := wordsOf(r)
	w.all(h.Args)
	return e | w.found
}

// selects begins a selection: what was selected isn't any more (RFC 9051 §6.3.2), unless the
// command is answered BAD. last says that it is known what was selected.
func (t *told) selects(seq uint64, h wire.CommandHead, last bool) {
	t.forget()
	if last {
		if t.before == nil {
			t.before = &selection{}
		}
		*t.before, t.hasBefore = t.box, true
	}
	t.box = selection{began: seq, readOnly: h.Verb == wire.Examine}
}

// named takes the mailbox's name from the arguments of SELECT.
func (b *selection) named(args []byte, utf8 bool) {
	name, _, err := wire.AString(args)
	if err == nil {
		b.name, err = view.DecodeMailbox(name, utf8)
	}
	if err != nil {
		b.doubt = keptName
	}
}

// renames looks for a RENAME or DELETE of the client's own mailbox, or of one above it: it stays
// selected on this connection, and can't be selected again by its name. Behind a SELECT that may be
// answered BAD it may be of the mailbox before.
func (t *told) renames(args []byte) (e effects) {
	name, _, err := wire.AString(args)
	if err == nil {
		name, err = view.DecodeMailbox(name, t.utf8)
	}
	own := func(b *selection) bool {
		return b.name != "" && (err != nil || name != "INBOX" && strings.HasPrefix(b.name, name)) // INBOX stays where it is
	}
	if own(&t.box) {
		e = renamesOwn
	}
	if t.hasBefore && own(t.before) {
		e |= renamesBefore
	}
	return e
}

// of is the selection on which a command works. nil: it isn't known any more.
func (t *told) of(seq uint64) *selection {
	switch {
	case seq > t.box.began:
		return &t.box
	case t.hasBefore && seq > t.before.began:
		return t.before
	}
	return nil
}

// leaves takes note of what a command leaves behind. ok says that it was answered OK.
func (t *told) leaves(c *command, ok bool) {
	r := c.verb.Rule()
	switch {
	case t.doubt != keptNot:
	case r.State == wire.NotifyState:
		t.doubt = keptNotify
	case r.State == wire.UnknownState:
		t.doubt = keptUnknown
	}
	if c.effects&usesModSeq != 0 {
		t.dialect = max(t.dialect, view.CondStore)
	}
	box := t.of(c.seq)
	if box == nil {
		return
	}
	if ok && c.effects&renamesBefore != 0 && t.hasBefore {
		t.before.doubt = keptName
	}
	switch {
	case c.effects&savesSearch != 0:
		box.doubt = keptSaved
	case !ok:
	case c.effects&renamesOwn != 0, c.effects&renamesBefore != 0 && box.back:
		box.doubt = keptName
	case c.effects&renamesLong != 0:
		box.doubt = keptLong
	}
	box.byNumber = box.byNumber || r.ByNumber()
}

// answered follows a tagged answer. A command that is answered BAD leaves nothing behind, unless
// there were literals in it: proxy and backend may have taken other bytes for it.
// selected says what is selected behind it, and selecting that a mailbox is about to be: what was
// told so far wasn't of that one.
func (t *told) answered(c *command, h wire.ResponseHead, selected, selecting bool) {
	if h.Status != wire.BAD || c.effects&conversed != 0 {
		t.leaves(c, h.Status == wire.OK)
	}
	r := c.verb.Rule()
	left := r.Leaves && !r.Selects && h.Status == wire.OK || r.Selects && !selected
	if left || r.Selects && h.Status == wire.OK {
		t.forget()
	}
	t.closed = t.closed && !r.Selects
	if selecting {
		b := &t.box
		t.box = selection{began: b.began, name: b.name, readOnly: b.readOnly, byNumber: b.byNumber, doubt: b.doubt, heard: b.heard && t.hasBefore}
		return
	}
	switch {
	case left:
		t.box = selection{}
	case r.Selects && h.Status != wire.OK:
		t.back()
	case r.Selects:
		if code, _ := wire.Code(h.Rest); named(code, "READ-ONLY") {
			t.box.readOnly = true
		}
	}
}

// back goes back to the mailbox of before a SELECT that was answered BAD. What was said
// meanwhile may be of either, and STOREs that came with the SELECT weren't followed.
func (t *told) back() {
	heard := t.box.heard
	t.box = selection{}
	if !t.hasBefore {
		return
	}
	t.box = *t.before
	t.box.back = true
	t.forget()
	if heard {
		t.box.doubt = keptMailbox
	}
	if !t.compared {
		t.box.known = &known{blind: true}
	}
}

// forget forgets what was selected before.
func (t *told) forget() {
	if t.hasBefore {
		*t.before, t.hasBefore = selection{}, false
	}
}
