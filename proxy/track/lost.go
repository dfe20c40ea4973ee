package track

import (
	"bytes"
	"slices"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// A session whose backend connection is lost goes on with another one, if it is known which messages the client
// counts (view.Tally) and what has to be done with each command in progress (Cut).

// Keep adds a piece to the newest command's text.
func (f *InFlight) Keep(piece []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.open); n > 0 && f.open[n-1].seq == f.seq {
		f.open[n-1].keep(f.Texts, piece)
	}
}

// Forget drops the newest command's text, so that the command can't be sent again.
func (f *InFlight) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.open); n > 0 && f.open[n-1].seq == f.seq {
		f.open[n-1].forget(f.Texts)
	}
}

// CanSurvive returns what keeps a session from going on with another backend connection when its own is lost.
// The cases:
//   - the session ends;
//   - the backend waits for an answer of the client that isn't a literal: it isn't known which bytes are the answer;
//   - a command may have left state on the connection that a new connection doesn't have;
//   - the selected mailbox can't be recognised, or not by its name.
func (f *InFlight) CanSurvive() Blocker {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := &f.Client
	switch {
	case !f.Parks:
		return BlockerOff
	case f.logout || f.ended || f.byeTold:
		return BlockerEnding
	case f.prompted || f.idle == idleSpoilt:
		return BlockerCommand
	case slices.ContainsFunc(f.open, func(c Command) bool { return c.Verb.Rule().State != wire.NoState }):
		return BlockerUnknown
	case t.doubt != BlockerNone:
		return t.doubt
	case f.selecting() || !f.selected:
		return BlockerNone
	case t.Mailbox.doubt != BlockerNone:
		return t.Mailbox.doubt
	case t.Mailbox.noModSeq && t.Dialect != view.Plain:
		return BlockerNoModSeq
	case t.Mailbox.Name == "" || t.Mailbox.Validity == 0:
		return BlockerMailbox
	}
	return BlockerNone
}

// Cut is what has to be done with the commands that were in progress when the connection was lost.
type Cut struct {
	Again   []byte   // commands that are sent again, in their order
	Refused []string // tags that are answered NO: the command may have been done
	Done    []string // tags that are answered OK: that of an IDLE whose DONE has come
	Idle    string   // the tag of an IDLE that goes on; "": none
	Prompt  bool     // the client of that IDLE hasn't been told "+"
	Closed  bool     // a SELECT is sent again, and the client is told CLOSED before it
	Rest    *Rest    // of a FETCH of which the client was told a part, the part that is still missing; nil: there is none
}

// Refuses says whether Cut would refuse a command.
func (f *InFlight) Refuses(told Told, contents *Contents, seen bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fates(told, contents, seen).refused
}

// fates has the outcome of each command in progress.
type fates struct {
	of       []wire.Loss
	selectAt int   // the index of the last SELECT, -1: there is none
	refused  bool  // a command is refused
	rest     *Rest // of the FETCH restAt
	restAt   int
}

// fates finds the outcome of each command in progress.
//
// The cases of a command:
//   - IDLE: it goes on, or is over if DONE has come. Behind commands that are sent again it is sent again as
//     well; if the client was told its continuation request, those commands are refused instead;
//   - it waits for the continuation request of its literal: it is sent again, since no server can have executed
//     it;
//   - it may have been executed, or it is a part of a search that is to be kept: NO;
//   - a client would put two of its answers together, and one like it was told since it began: NO, since it isn't
//     known whether that was all;
//   - FETCH of message content, of which the client was told a part: the rest, if it is known which messages were
//     told, otherwise NO, since a client may deliver a message twice that it is told twice;
//   - its text wasn't kept: NO;
//   - it changes something, and the connection's end wasn't seen: NO;
//   - it changes something and another command is refused: NO, since the client sent it before it could learn of the refusal;
//   - otherwise it is sent again.
//
// A command by message number or on the selected mailbox that a SELECT follows, answered or not, is refused, since the mailbox
// isn't selected again.
func (f *InFlight) fates(told Told, contents *Contents, seen bool) fates {
	a := fates{of: make([]wire.Loss, len(f.open)), selectAt: -1, restAt: -1}
	for i := range f.open {
		if f.open[i].Verb.Rule().Selects {
			a.selectAt = i
		}
	}
	for i := range f.open {
		o := &f.open[i]
		r := o.Verb.Rule()
		fate := r.Loss
		if o.halted {
			fate = wire.LossRepeated
		}
		switch {
		case o.Verb == wire.Idle:
			continue
		case o.textLost || len(o.text) == 0, o.effects&savesSearch != 0, r.Marks && o.effects&usesModSeq != 0:
			fate = wire.LossRefused
		case (i < a.selectAt || o.seq < f.Client.Mailbox.began) && (r.OnSelected || r.Selects):
			fate = wire.LossRefused
		case isFetch(o.Verb) && told.fetches() != o.told.fetches() && fetchesContent(o.text):
			if numbers, known := contents.from(o.told); known && o.alone && !bytes.ContainsAny(o.text, "{$") {
				a.rest, a.restAt = &Rest{Tag: string(o.tag), Text: bytes.Clone(o.text), Told: numbers, UIDs: contents.uids}, i
			} else {
				fate = wire.LossRefused
			}
		case fate == wire.LossOnce && told.answers() != o.told.answers():
			fate = wire.LossRefused
		}
		if !seen && !o.halted && o.alters() {
			fate = wire.LossRefused
		}
		a.of[i] = fate
		a.refused = a.refused || fate == wire.LossRefused
	}
	for i := range a.of {
		o := &f.open[i]
		if o.Verb != wire.Idle && f.idle == idleOn {
			a.of[i], a.rest, a.restAt = wire.LossRefused, nil, -1
			a.refused = true
		}
		if a.refused && o.alters() {
			a.of[i] = wire.LossRefused
		}
	}
	return a
}

// alters says whether a command may change something that matters. FETCH sets no more than \Seen.
func (c *Command) alters() bool {
	return (c.Verb.Rule().Alters() || c.Changes) && !isFetch(c.Verb)
}

// Cut removes the commands that are sent again, and returns what has to be done with all of them (fates); an IDLE stays.
// told counts what the client was told in all; contents has the messages whose content it was told. seen says
// that the backend has ended the connection; otherwise it may still execute what it has received.
func (f *InFlight) Cut(told Told, contents *Contents, seen bool) Cut {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.fates(told, contents, seen)
	c := Cut{Rest: a.rest}
	left := f.open[:0]
	lastIdle := -1 // DONE has come for those before it
	for i := range f.open {
		if f.open[i].Verb == wire.Idle {
			lastIdle = i
		}
	}
	for i := range f.open {
		o := f.open[i]
		switch {
		case o.Verb == wire.Idle && (f.idle == idleDone || i < lastIdle):
			c.Done = append(c.Done, string(o.tag))
		case o.Verb == wire.Idle && f.idle == idleAsked && (len(c.Again) > 0 || a.rest != nil):
			f.idle = notIdling
			if o.textLost || len(o.text) == 0 {
				c.Refused = append(c.Refused, string(o.tag))
				break
			}
			c.Again = append(c.Again, o.text...)
			continue
		case o.Verb == wire.Idle:
			c.Idle, c.Prompt = string(o.tag), f.idle == idleAsked
		case i == a.restAt: // recovery sends it again
			continue
		case a.of[i] == wire.LossRefused:
			c.Refused = append(c.Refused, string(o.tag))
		default:
			c.Again = append(c.Again, o.text...)
			continue
		}
		left = append(left, o)
	}
	clear(f.open[len(left):])
	f.open = left
	if k := f.Client.Mailbox.known; k != nil && (len(k.stores) > 0 || k.blind) {
		f.Client.Mailbox.known = &known{} // what they have set isn't known
	}
	if a.selectAt >= 0 {
		c.Closed = f.selected && !f.Client.closed
		f.Client.forget()
		f.selected, f.Client.Mailbox, f.Client.closed = false, Mailbox{}, false
	}
	f.expected, f.bye, f.lost, f.literal = f.expected[:0], false, false, literalNone
	if c.Idle != "" {
		f.idle = idleOn
	}
	return c
}

// fetchesContent says whether a FETCH asks for parts of messages, as far as its text shows.
func fetchesContent(text []byte) bool {
	return containsFold(text, "BODY") || containsFold(text, "BINARY") || containsFold(text, "RFC822") || bytes.Contains(text, []byte("{"))
}

// Attach says that the session has a connection again, after one that was lost while the session was being parked.
func (f *InFlight) Attach() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = false
}

// Lose wakes goroutines that wait for the backend's answer, since none will come. It holds until Cut or Attach.
func (f *InFlight) Lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = true
	f.wakeLocked()
}

// found returns the view of a client that counts these messages.
func (f *InFlight) found(uids view.UIDs) *view.View {
	b := &f.Client.Mailbox
	return &view.View{
		Mailbox: b.Name, ReadOnly: b.ReadOnly, UIDValidity: b.Validity, UIDNext: max(b.Next, (&view.View{UIDs: uids}).Next()),
		UIDs: uids, Flags: b.Flags, PermanentFlags: b.Permanent, ModSeq: b.ModSeq, Known: f.Client.KnownFlags(uids),
	}
}

// Selection returns the mailbox as the client was told of it at its SELECT, without UIDs; nil: none is selected.
func (f *InFlight) Selection() *view.View {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.selected {
		return nil
	}
	b := &f.Client.Mailbox
	return &view.View{Mailbox: b.Name, ReadOnly: b.ReadOnly, UIDValidity: b.Validity, UIDNext: b.Next, ModSeq: b.ModSeq}
}

// Find returns the client's view, found by what another connection shows. The errors are those of view.Tally.Found, view.ErrNotFollowed
// also if it wasn't recorded what the client counts since Trim. The UIDs of messages
// that have gone may be others than theirs if the client is told by number that they have.
func (f *InFlight) Find(s view.Seen) (*view.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := &f.Client.Mailbox
	byNumber := f.Client.Dialect != view.QResync && !f.Client.UIDOnly
	uids, err := b.tallied().FoundBetween(&view.View{UIDValidity: b.Validity, UIDNext: b.Next, ModSeq: b.ModSeq}, s, b.known.told(), byNumber)
	if err != nil {
		return nil, err
	}
	return f.found(uids), nil
}
