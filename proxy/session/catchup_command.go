package session

import (
	"slices"
	"time"

	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// command handles one command of the client. relay says that nothing is deferred any more: the normal relay
// goes on, beginning with this command if it isn't done.
func (o *catchUp) command() (relay bool, err error) {
	s := o.s
	o.began = time.Time{}
	if o.deferred == nil && !o.ahead {
		o.before = nil
		if o.n.Deferred().Empty() && len(o.flags) == 0 {
			o.counts()
			return true, o.handOver(nil) // only the meaning of "*" was outstanding
		}
	}
	line, now, err := s.nextLine(o.client, maxCatchUpLine)
	if err != nil {
		return false, err
	}
	o.began = s.up.began(now)
	cmd := slices.Clone(line)
	o.partly = true
	o.refuses = o.refuses && o.ahead
	h := wire.ParseCommandHead(cmd)
	r := h.Verb.Rule()
	switch {
	case wire.IsEmpty(cmd): // an empty line is no command
		o.partly, o.ahead = false, o.more()
		return false, nil
	case track.LeavingBy(cmd, &s.inFlight.Client, s.caps.Load().list) != track.Stays:
		return true, o.leave(cmd, r)
	case len(h.Tag) > track.MaxTag:
		return true, o.tellDeferred(cmd)
	}
	_, _, literal := wire.LiteralSpec(cmd)
	if h.Verb == wire.Idle && wire.ValidTag(h.Tag) && len(h.Args) == 0 && idles(s.caps.Load().list) {
		return true, o.idle(h)
	}
	if answer := ownAnswer(h, cmd, !literal); answer != nil {
		s.intercepted(h.Verb)
		if h.Verb == wire.Compress && wire.ValidTag(h.Tag) {
			var begins bool
			if answer, begins = s.compression(h, !literal, o.more()); begins {
				return true, o.tellDeferred(cmd) // the relay answers it
			}
		}
		if err := o.discard(cmd); err != nil {
			return false, err
		}
		o.partly = false
		return false, o.answer(answer)
	}
	concerns := s.set.Shared.Space.Concerns(cmd)
	if crosses(h.Verb) && concerns || o.refuses && r.Alters() { // the message numbers are of this phase, and the mailbox isn't here
		if err := o.discard(cmd); err != nil {
			return false, err
		}
		o.partly, o.refuses = false, true
		return false, o.answer([]byte(string(h.Tag) + " NO [UNAVAILABLE] The mailbox has changed, please try again\r\n"))
	}
	if r.Set == wire.NoSet && (concerns || !(carries(r) && o.behind(cmd))) { // where it goes is for the relay to decide
		return true, o.tellDeferred(cmd) // its literals are for the relay to see
	}
	agreed := false
	replaces := h.Verb == wire.Replace || h.Verb == wire.UIDReplace
	if !replaces { // the literal of REPLACE is a message
		if cmd, agreed, err = o.rest(cmd, r); err != nil {
			return false, err
		}
	}
	held := r.HoldsExpunge || !r.Removes && !replaces && o.more()
	if o.before != nil {
		known, _ := o.n.Client()
		if last := track.StarValue(o.before.Intersect(known), h.Verb); last != 0 {
			cmd = track.ExpandStar(cmd, last)
		}
	}
	said := cmd
	cmd, disposition := o.n.Command(nil, said)
	if !disposition.Goes() && replaces {
		if err := o.discard(said); err != nil {
			return false, err
		}
	}
	switch {
	case held:
	case !disposition.Goes():
		if err := o.tellDeferred(nil); err != nil {
			return false, err
		}
		return true, o.write(refusal(disposition, h.Tag), true)
	case !agreed: // the relay would send the client another "+" for the literal
		return true, o.tellDeferred(cmd)
	}
	cmd = o.spare(said, cmd)
	if err := o.tellAllButExpunge(); err != nil {
		return false, err
	}
	if !disposition.Goes() {
		o.partly = false
		return false, o.answer(refusal(disposition, h.Tag))
	}
	if disposition == view.RelayNoUpdate {
		if err := o.write(view.AppendNoUpdate(nil, h.Tag), true); err != nil {
			return false, err
		}
	}
	if h.Verb == wire.Store && len(o.flags) > 0 {
		cmd = track.StripSilent(cmd) // the deferred flags would be told after the silent STORE
	}
	text := said
	if agreed {
		text = nil // the client would be sent "+" once more
	}
	s.inFlight.BeginWith(wire.ParseCommandHead(cmd), text, true, s.down.told(), o.began) // including its literals
	o.partly = false
	if literal {
		s.inFlight.Leaves(track.Conversed)
	}
	s.took(int64(len(cmd)))
	o.n.Hold(held)
	answered, err := o.send(cmd, h, disposition)
	if answered || err != nil {
		return false, err
	}
	s.inFlight.Sent(int64(len(cmd)), s.env.Now(), s.blocked())
	return false, o.answers(h, disposition)
}

// idle begins IDLE, tells everything that is deferred behind the "+", as in beginIdle, and leaves the session to the relay with its
// backend in IDLE.
func (o *catchUp) idle(h wire.CommandHead) error {
	s := o.s
	s.inFlight.Begin(h, true, o.began)
	s.inFlight.Prompt()
	if err := o.write([]byte(idling), true); err != nil {
		return err
	}
	if err := o.tellDeferred(nil); err != nil {
		return err
	}
	s.backToIdle(s.backend.Load())
	return nil
}

// leave hands a command that leaves the mailbox to the relay: the deferred changes are about that mailbox.
// Before a SELECT the mailbox is deselected first, if the backend can do that: if it answered BAD, the mailbox would still be selected,
// and the client would count messages that are gone.
func (o *catchUp) leave(cmd []byte, r *wire.Rule) error {
	s := o.s
	o.counts()
	s.down.leaves = true
	if err := o.handOver(cmd); err != nil || !r.Selects {
		return err
	}
	t := &s.inFlight.Client
	_, count := o.n.Client() // the backend has no more messages
	count = max(count, t.Mailbox.Exists)
	b := s.backend.Load()
	b.Caps = s.caps.Load().list
	ctx, cancel := s.within(leaveWithin)
	defer cancel()
	imap := resync.NewClient(b.Conn, b.Caps, resync.Options{Selected: true, ReadOnly: t.Mailbox.ReadOnly, Messages: count, Enabled: t.Enabled, Forward: s.passOn})
	answered := s.asks()
	err := imap.Deselect(ctx)
	answered()
	if broken := imap.Release(); broken != nil {
		o.backendFailed = true
		return broken
	}
	if err != nil {
		return nil // SELECT deselects it, if it is answered OK or NO
	}
	s.down.leaves = false
	s.inFlight.Deselect()
	return o.write([]byte(closed), true)
}
