package track

import (
	"strings"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// command follows a command that begins, and returns the effects of its arguments. whole: h has the whole
// command with its literals; otherwise InFlight.Piece finds the effects. selected: a mailbox is selected.
// selecting: another SELECT is in progress.
func (t *Client) command(seq uint64, h wire.CommandHead, whole, selected, selecting bool) (e effects) {
	r := h.Verb.Rule()
	if r.Selects {
		t.closed = t.closed && selecting // a CLOSED belongs to the SELECT in progress
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

// selects begins a selection: the mailbox that was selected is no longer selected (RFC 9051 §6.3.2), unless
// the command is answered BAD. last: it is known which mailbox was selected.
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

// named sets the mailbox's name from the arguments of SELECT.
func (b *Mailbox) named(args []byte, utf8 bool) {
	name, _, err := wire.AString(args)
	if err == nil {
		b.Name, err = view.DecodeMailbox(name, utf8)
	}
	if err != nil {
		b.doubt = BlockerName
	}
}

// renames looks for a RENAME or DELETE of the selected mailbox or of a mailbox above it: the mailbox stays
// selected on this connection, but can't be selected again by its name. While a SELECT that may still be
// answered BAD is in progress, the command may affect the mailbox before it, too.
func (t *Client) renames(args []byte) (e effects) {
	if t.Mailbox.Name == "" && !t.hasBefore {
		return 0 // no selected mailbox is affected; nothing is allocated
	}
	name, _, err := wire.AString(args)
	if err == nil {
		name, err = view.DecodeMailbox(name, t.utf8)
	}
	own := func(b *Mailbox) bool {
		return b.Name != "" && (err != nil || name != "INBOX" && strings.HasPrefix(b.Name, name)) // a RENAME of INBOX leaves INBOX in place
	}
	if own(&t.Mailbox) {
		e = renamesOwn
	}
	if t.hasBefore && own(t.before) {
		e |= renamesBefore
	}
	return e
}

// of returns the mailbox that was selected when a command began; nil: it is no longer known.
func (t *Client) of(seq uint64) *Mailbox {
	switch {
	case seq > t.Mailbox.began:
		return &t.Mailbox
	case t.hasBefore && seq > t.before.began:
		return t.before
	}
	return nil
}

// leaves records the effects of a command that was answered. ok: the answer is OK.
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

// answered follows a tagged response. A command that is answered BAD has no effects, unless it had literals:
// the proxy and the backend may have read different bytes as the command. selected: a mailbox is selected
// after the command. selecting: another SELECT is in progress, so the responses so far weren't about its
// mailbox.
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
		t.Mailbox.opened = true
		t.Mailbox.tallied().Begin(t.Mailbox.Exists)
	}
}

// back restores the mailbox before a SELECT that was answered BAD. Untagged responses since that SELECT may
// be about either mailbox, and STOREs sent after it weren't followed.
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
