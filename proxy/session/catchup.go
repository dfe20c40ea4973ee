package session

import (
	"errors"
	"io"
	"slices"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// Bounds while a client is still to be told of EXPUNGE and each of its commands is read and translated whole.
// A session that exceeds them ends.
const (
	maxCatchUpLine     = 1 << 20 // sets of UIDs may be long
	maxCatchUpLiteral  = 64 << 10
	maxCatchUpAnswer   = 4 << 20 // one line of a response: SEARCH has all its numbers in one line
	maxDeferredChanges = 1 << 15 // changes of flags that the client is told only after EXPUNGE
)

// catchUp relays while the client counts messages that its backend no longer has: one command at a time, with
// message numbers translated in both directions, until a command allows that the client is told. Then the
// normal relay follows.
func (s *Session) catchUp() phase {
	o := catchUp{
		s: s, n: s.park.deferred.n, deferred: s.park.deferred, before: &s.park.deferred.view.UIDs, modSeq: s.park.deferred.view.ModSeq,
		client:  wire.NewReader(s.client, maxCatchUpLine, maxCatchUpLiteral),
		backend: wire.NewReader(s.backend.Load(), maxCatchUpAnswer, maxCatchUpLiteral),
	}
	s.park.deferred = nil
	for {
		relay, err := o.command()
		if s.Reason() != "" {
			return phaseEnd
		}
		if err != nil && (o.backendFailed || s.losing()) && o.survives() {
			s.down.ended = o.backendFailed && endSeen(err)
			return s.lost()
		}
		if err != nil {
			s.Terminate(o.endOf(err))
			return phaseEnd
		}
		if relay {
			s.inFlight.Client.ForgetFlags() // flags that passed here weren't recorded
			return phaseRelay
		}
	}
}

// survives says whether the session goes on if its backend connection is lost now. If so, it records what
// recovery needs: which messages the client counts, and the client's bytes that haven't been handled.
func (o *catchUp) survives() bool {
	s := o.s
	t := &s.inFlight.Client
	if t.UIDOnly || o.partly || !s.survives() {
		return false
	}
	known, count := o.n.Client()
	if o.deferred != nil { // nothing was told yet
		known, count = o.deferred.view.UIDs, o.deferred.view.UIDs.Count()
	}
	t.Mailbox.Counts(known, count)
	t.ForgetFlags()
	s.client.Unread(o.client.Buffered())
	return true
}

// noticeBackend signals the loss of the backend connection to a session in catch-up whose client is silent:
// the owner waits for the client and reads nothing from the backend. The sweep calls it.
func (s *Session) noticeBackend() {
	if Attachment(s.attachment.Load()) != CatchingUp || s.inFlight.Waiting() > 0 {
		return
	}
	if b := s.backend.Load(); b != nil && b.Ended() {
		s.Signal(sigLost)
	}
}

// catchUp is the state of one catch-up phase.
type catchUp struct {
	s        *Session
	n        view.SequenceMap
	deferred *deferred // nil: the client was told everything except EXPUNGE and some flags
	// before is what the client counted when it wrote the command: its last message is what "*" means in a
	// command that changes or copies messages. nil: what the client counts now, as it does after the commands
	// that had arrived with the first one.
	before          *view.UIDs
	ahead           bool // more had arrived when the last command was answered
	client, backend *wire.Reader
	modSeq          uint64            // the mod-sequence that bounds what the client was told
	bound           uint64            // the one that does when the client was told everything
	flags           []view.FlagChange // flags still to be told: they show mod-sequences beyond modSeq
	backendFailed   bool
	partly          bool // a command of the client's was read in part, or isn't with the backend yet
}

func (o *catchUp) endOf(err error) Reason {
	switch {
	case o.backendFailed && !o.s.out.atBoundary():
		return ReasonBackendLostInner
	case o.backendFailed, o.s.losing():
		return o.s.lostBackend()
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return ReasonClientClosed
	case errors.Is(err, wire.ErrLineTooLong) || errors.Is(err, wire.ErrLiteralTooLong) || errors.Is(err, wire.ErrNUL):
		return ReasonClientProtocol
	}
	return ReasonClientLost
}

// command handles one command of the client. relay says that nothing is deferred any more: the normal relay
// goes on, beginning with this command if it isn't done.
func (o *catchUp) command() (relay bool, err error) {
	s := o.s
	if o.deferred == nil && !o.ahead {
		o.before = nil
		if o.n.Deferred().Empty() && len(o.flags) == 0 {
			if !s.inFlight.Client.UIDOnly {
				_, s.inFlight.Client.Mailbox.Exists = o.n.Client()
			}
			return true, o.handOver(nil) // only the meaning of "*" was outstanding
		}
	}
	line, err := o.client.ReadLine(maxCatchUpLine)
	if err != nil {
		return false, err
	}
	if !s.trusted() {
		return false, errSessionOver
	}
	now := s.env.Now()
	s.seen(now)
	s.lastHeard.Store(now.UnixNano())
	cmd := slices.Clone(line)
	o.partly = true
	h := wire.ParseCommandHead(cmd)
	r := h.Verb.Rule()
	switch {
	case wire.IsEmpty(cmd): // an empty line is no command
		o.partly, o.ahead = false, o.more()
		return false, nil
	case track.LeavingBy(cmd, &s.inFlight.Client, s.caps.list) != track.Stays:
		return true, o.leave(cmd, r)
	case len(h.Tag) > track.MaxTag:
		return true, o.tellDeferred(cmd)
	}
	_, _, literal := wire.LiteralSpec(cmd)
	if answer := ownAnswer(h, cmd, !literal); answer != nil {
		s.intercepted(h.Verb)
		if err := o.discard(cmd); err != nil {
			return false, err
		}
		o.partly = false
		return false, o.answer(answer)
	}
	if r.Set == wire.NoSet && !(carries(r) && o.behind(cmd)) {
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
	s.inFlight.BeginWith(wire.ParseCommandHead(cmd), text, true, s.down.told(), now) // including its literals
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

// refusal returns the answer to a command of which nothing goes to the backend.
func refusal(disposition view.Disposition, tag []byte) []byte {
	if disposition == view.Invalid {
		return view.AppendInvalid(nil, tag)
	}
	return view.AppendExpungeIssued(nil, tag)
}

// tellAllButExpunge tells the changes that remove no message, before a command during which EXPUNGE may not be
// sent. A client that has enabled UIDONLY is told everything, since none of its commands forbids anything.
func (o *catchUp) tellAllButExpunge() error {
	if o.deferred == nil {
		return nil
	}
	t := &o.s.inFlight.Client
	d, rest := o.deferred.missed, view.Difference{}
	if !t.UIDOnly {
		d, rest = d.Split(t.Dialect)
	}
	line, err := o.allButLast(d, o.deferred.view)
	if err != nil {
		return err
	}
	t.Mailbox.Update(o.deferred.view.After(d))
	o.modSeq = max(o.modSeq, d.ModSeq)
	o.flags, o.bound, o.deferred = rest.Changed, rest.ModSeq, nil
	return o.write(line, true)
}

// tellDeferred tells everything that is deferred, and leaves the command to the relay. If the client was told
// nothing before, EXPUNGE comes before EXISTS, as servers send it: mutt 2.2 fetches new mail by the numbers of
// EXISTS, whatever EXPUNGE follows.
func (o *catchUp) tellDeferred(cmd []byte) error {
	s := o.s
	t := &s.inFlight.Client
	if t.UIDOnly && o.deferred == nil {
		return o.handOver(cmd)
	}
	cmd = o.spare(cmd, cmd)
	var line []byte
	var err error
	if u := o.deferred; u != nil {
		line, err = o.allButLast(u.missed, u.view)
		t.Mailbox.Update(u.view.After(u.missed))
	} else {
		before, _ := o.n.Client()
		gone := o.n.Told()
		known, count := o.n.Client()
		t.Mailbox.Counts(known, count)
		t.Mailbox.ModSeq = max(t.Mailbox.ModSeq, o.bound)
		o.flags = slices.DeleteFunc(o.flags, func(c view.FlagChange) bool { return !known.Contains(c.UID) })
		line, err = o.allButLast(view.Difference{Vanished: gone, Changed: o.flags}, &view.View{UIDs: before})
	}
	if err != nil {
		return err
	}
	if err := o.write(line, true); err != nil {
		return err
	}
	return o.handOver(cmd)
}

// handOver leaves the rest to the relay, beginning with cmd, which isn't done.
func (o *catchUp) handOver(cmd []byte) error {
	s := o.s
	o.partly = false
	s.client.Unread(append(cmd, o.client.Buffered()...))
	s.backend.Load().Unread(o.backend.Buffered())
	return nil
}

// allButLast writes a difference except its last piece, and returns that piece.
func (o *catchUp) allButLast(d view.Difference, v *view.View) (last []byte, err error) {
	t := &o.s.inFlight.Client
	for piece := range d.Pieces(t.Dialect, t.UIDOnly, v, tellPiece) {
		if len(piece) < tellPiece {
			return piece, nil
		}
		if err := o.write(piece, true); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// send writes a command to the backend; it asks for each synchronising literal. answered says that the backend
// has answered the command before its end.
func (o *catchUp) send(cmd []byte, h wire.CommandHead, disposition view.Disposition) (answered bool, err error) {
	b := o.s.backend.Load()
	defer b.Progress.Wrote()
	for len(cmd) > 0 {
		b.Progress.Writes(o.s.env.Now())
		o.backendFailed = true
		line := wire.FirstLine(cmd)
		cmd = cmd[len(line):]
		size, sync, ok := wire.LiteralSpec(line)
		if _, err := b.Write(line); err != nil {
			return false, err
		}
		if !ok {
			continue
		}
		for agreed := !sync; !agreed; {
			kind, err := o.response(h, disposition, true)
			if err != nil || kind == wire.Tagged {
				return true, err
			}
			agreed = kind == wire.Continue
		}
		o.backendFailed = true
		if _, err := b.Write(cmd[:size]); err != nil {
			return false, err
		}
		cmd = cmd[size:]
	}
	o.backendFailed = false
	return false, nil
}

// answers relays a command's responses up to the tagged one.
func (o *catchUp) answers(h wire.CommandHead, disposition view.Disposition) error {
	for {
		kind, err := o.response(h, disposition, false)
		if kind == wire.Tagged || err != nil {
			return err
		}
	}
}

// response relays one response and returns its kind. Of FETCH only the first line is translated and the rest
// streams; any other response is translated whole. asked says that a literal was announced, so that a
// continuation request is for the proxy.
func (o *catchUp) response(cmd wire.CommandHead, disposition view.Disposition, asked bool) (kind wire.Kind, err error) {
	s := o.s
	o.backendFailed = true
	line, err := o.backend.ReadLine(maxCatchUpAnswer)
	if err != nil {
		return kind, err
	}
	head := wire.ParseResponseHead(line)
	kind = head.Kind
	whole := append([]byte(nil), line...)
	fetch := kind == wire.Untagged && (wire.Is(head.Name, "FETCH") || wire.Is(head.Name, "UIDFETCH"))
	size, _, more := wire.LiteralSpec(line)
	text := head.Status != wire.NoStatus || kind == wire.Continue
	caps := kind != wire.Continue && hasCaps(head)
	for more && !text && !fetch {
		if size > maxCatchUpLiteral {
			return kind, wire.ErrLiteralTooLong
		}
		if err := o.backend.Copy(func(b []byte) error { whole = append(whole, b...); return nil }, size); err != nil {
			return kind, err
		}
		if line, err = o.backend.ReadLine(maxCatchUpAnswer); err != nil {
			return kind, err
		}
		whole = append(whole, line...)
		size, _, more = wire.LiteralSpec(line)
	}
	now := s.env.Now()
	s.seen(now)
	s.backend.Load().Progress.Hears(now)
	s.down.tells.Add(uint64(track.TellsOf(head)))
	if kind == wire.Continue && asked {
		o.backendFailed = false
		return kind, nil
	}
	out := whole
	if s.inFlight.Client.UIDOnly {
		if kind == wire.Untagged {
			s.inFlight.Untagged(wire.ParseResponseHead(whole), true)
		}
	} else if out, err = o.n.Response(nil, whole, cmd.Verb.Rule().UID); err != nil {
		return kind, err
	}
	if head.Status == wire.BYE {
		keeps := s.keepsBye(head)
		s.inFlight.SawBye(keeps)
		if keeps {
			s.down.farewell = whole
			return kind, nil
		}
	}
	if head.Status != wire.NoStatus {
		if kind == wire.Tagged {
			if disposition == view.RelayPart {
				out = view.AppendPartly(nil, out)
			}
			s.answered(wire.ParseResponseHead(whole), s.env.Now())
		}
		out = view.ClampModSeq(nil, out, o.modSeq)
	}
	if caps {
		out = withoutHidden(out)
	}
	o.backendFailed = false
	switch {
	case kind == wire.Tagged:
		return kind, o.answer(out)
	case !fetch:
		return kind, o.write(out, true)
	}
	return kind, o.fetch(whole, out, size, more)
}

// fetch relays a FETCH response: line is its first line as the backend sent it, out the same line for the
// client. Its literals stream. more says that a literal of size follows.
func (o *catchUp) fetch(line, out []byte, size int64, more bool) error {
	number := wire.ParseResponseHead(out).Number
	var items track.FetchResponse
	items.Text(line)
	p := &o.s.backend.Load().Progress
	p.Splices(true) // as long as this takes, the kernel knows when something has come
	defer p.Splices(false)
	if err := o.write(out, !more); err != nil {
		return err
	}
	for more {
		o.backendFailed = true
		if err := o.backend.Copy(func(b []byte) error { return o.write(b, false) }, size); err != nil {
			return err
		}
		line, err := o.backend.ReadLine(maxCatchUpAnswer)
		if err != nil {
			return err
		}
		o.backendFailed = false
		items.Text(line)
		size, _, more = wire.LiteralSpec(line)
		if err := o.write(line, !more); err != nil {
			return err
		}
	}
	if items.HasFlags {
		o.newer(number)
	}
	return nil
}

// answer writes a tagged answer. Bytes that have arrived before it were written before the client could read
// it.
func (o *catchUp) answer(b []byte) error {
	o.ahead = o.more()
	return o.write(b, true)
}

func (o *catchUp) write(b []byte, boundary bool) error {
	o.s.down.gave(int64(len(b)))
	return o.s.out.relay(b, boundary)
}
