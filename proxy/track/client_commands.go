package track

import (
	"strings"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// command follows a command that begins, and says what its arguments leave behind. whole says that
// all of it stands in h, with its literals inline; else others find that out. selected says that a mailbox is
// selected, and selecting that another is about to be.
func (t *Client) command(seq uint64, h wire.CommandHead, whole, selected, selecting bool) (e effects) {
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
		t.Mailbox.named(h.Args, t.utf8)
	case r.Renames:
		e = t.renames(h.Args)
	}
	w := wordsOf(r)
	w.all(h.Args)
	return e | w.found
}

// selects begins a selection: what was selected isn't any more (RFC 9051 §6.3.2), unless the
// command is answered BAD. last says that it is known what was selected.
func (t *Client) selects(seq uint64, h wire.CommandHead, last bool) {
	t.forget()
	if last {
		if t.before == nil {
			t.before = &Mailbox{}
		}
		*t.before, t.hasBefore = t.Mailbox, true
	}
	t.Mailbox = Mailbox{began: seq, ReadOnly: h.Verb == wire.Examine}
}

// named takes the mailbox's name from the arguments of SELECT.
func (b *Mailbox) named(args []byte, utf8 bool) {
	name, _, err := wire.AString(args)
	if err == nil {
		b.Name, err = view.DecodeMailbox(name, utf8)
	}
	if err != nil {
		b.doubt = BlockerName
	}
}

// renames looks for a RENAME or DELETE of the client's own mailbox, or of one above it: it stays
// selected on this connection, and can't be selected again by its name. Behind a SELECT that may be
// answered BAD it may be of the mailbox before.
func (t *Client) renames(args []byte) (e effects) {
	if t.Mailbox.Name == "" && !t.hasBefore {
		return 0 // nothing to lose, and nothing is allocated
	}
	name, _, err := wire.AString(args)
	if err == nil {
		name, err = view.DecodeMailbox(name, t.utf8)
	}
	own := func(b *Mailbox) bool {
		return b.Name != "" && (err != nil || name != "INBOX" && strings.HasPrefix(b.Name, name)) // INBOX stays where it is
	}
	if own(&t.Mailbox) {
		e = renamesOwn
	}
	if t.hasBefore && own(t.before) {
		e |= renamesBefore
	}
	return e
}

// of is the selection on which a command works. nil: it isn't known any more.
func (t *Client) of(seq uint64) *Mailbox {
	switch {
	case seq > t.Mailbox.began:
		return &t.Mailbox
	case t.hasBefore && seq > t.before.began:
		return t.before
	}
	return nil
}

// leaves takes note of what a command leaves behind. ok says that it was answered OK.
func (t *Client) leaves(c *Command, ok bool) {
	r := c.Verb.Rule()
	switch {
	case t.doubt != BlockerNone:
	case r.State == wire.NotifyState:
		t.doubt = BlockerNotify
	case r.State == wire.UnknownState:
		t.doubt = BlockerUnknown
	}
	if c.effects&usesModSeq != 0 {
		t.Dialect = max(t.Dialect, view.CondStore)
	}
	box := t.of(c.seq)
	if box == nil {
		return
	}
	if ok && c.effects&renamesBefore != 0 && t.hasBefore {
		t.before.doubt = BlockerName
	}
	switch {
	case c.effects&savesSearch != 0:
		box.doubt = BlockerSaved
	case !ok:
	case c.effects&renamesOwn != 0, c.effects&renamesBefore != 0 && box.back:
		box.doubt = BlockerName
	case c.effects&renamesLong != 0:
		box.doubt = BlockerLong
	}
	box.byNumber = box.byNumber || r.ByNumber()
}

// answered follows a tagged answer. A command that is answered BAD leaves nothing behind, unless
// there were literals in it: proxy and backend may have taken other bytes for it.
// selected says what is selected behind it, and selecting that a mailbox is about to be: what was
// told so far wasn't of that one.
func (t *Client) answered(c *Command, h wire.ResponseHead, selected, selecting bool) {
	if h.Status != wire.BAD || c.effects&Conversed != 0 {
		t.leaves(c, h.Status == wire.OK)
	}
	r := c.Verb.Rule()
	left := r.Leaves && !r.Selects && h.Status == wire.OK || r.Selects && !selected
	if left || r.Selects && h.Status == wire.OK {
		t.forget()
	}
	t.closed = t.closed && !r.Selects
	if selecting {
		b := &t.Mailbox
		t.Mailbox = Mailbox{began: b.began, Name: b.Name, ReadOnly: b.ReadOnly, byNumber: b.byNumber, doubt: b.doubt, heard: b.heard && t.hasBefore}
		return
	}
	switch {
	case left:
		t.Mailbox = Mailbox{}
	case r.Selects && h.Status != wire.OK:
		t.back()
	case r.Selects:
		if code, _ := wire.Code(h.Rest); wire.Is(code, "READ-ONLY") {
			t.Mailbox.ReadOnly = true
		}
	}
}

// back goes back to the mailbox of before a SELECT that was answered BAD. What was said
// meanwhile may be of either, and STOREs that came with the SELECT weren't followed.
func (t *Client) back() {
	heard := t.Mailbox.heard
	t.Mailbox = Mailbox{}
	if !t.hasBefore {
		return
	}
	t.Mailbox = *t.before
	t.Mailbox.back = true
	t.forget()
	if heard {
		t.Mailbox.doubt = BlockerMailbox
	}
	if !t.compared {
		t.Mailbox.known = &known{blind: true}
	}
}

// forget forgets what was selected before.
func (t *Client) forget() {
	if t.hasBefore {
		*t.before, t.hasBefore = Mailbox{}, false
	}
}
