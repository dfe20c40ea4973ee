package session

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"time"

	"imapproxy/proxy/shared"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// A command about a mailbox of another user (docs/shared.md) stops the relay when all commands before it are answered. This
// phase serves it, and the commands behind it as long as such a mailbox is selected, one at a time:
//
//	what the command is about                      where it goes
//	the selected mailbox                           the connection that has it selected
//	another mailbox in the namespace               a connection to its owner's mail
//	a mailbox of the user's own, or none           the session's own connection
//
// On a connection to an owner's mail only those commands are sent whose effect the backend judges by the rights of the session's
// user: an owner's subscriptions, private annotations, quota and URLs are theirs.

// concernsShared says whether the client's next command is one for phaseShared.
func (s *Session) concernsShared(b []byte) bool {
	n := s.set.Shared.Space
	if !n.On() {
		return false
	}
	line := wire.FirstLine(b)
	if line[len(line)-1] != '\n' && len(line) < wire.MaxHead {
		return false // the scanner waits for the rest
	}
	if s.up.excused {
		s.up.excused = false
		return false
	}
	return n.Concerns(line) && s.inFlight.TakesCommand()
}

// shared serves commands until one concerns the session's own mailboxes alone and none of another user's is selected.
func (s *Session) shared() phase {
	set := s.settings().Shared
	if set.Space != s.set.Shared.Space { // a reload has switched it off
		set = SharedOptions{Space: s.set.Shared.Space}
	}
	o := &visit{s: s, set: &set, n: set.Space, client: wire.NewReader(s.client, maxSharedLine, shared.MaxName), home: newLeg(s.backend.Load()), refuses: s.up.refuses, ahead: s.up.refuses}
	defer func() {
		o.close(o.at)
		o.close(o.ask)
	}()
	for {
		over, err := o.command()
		if err != nil && o.at == nil && o.withoutHome(err) { // the relay goes on: it answers the command as one that was lost, and finds the messages that the client counts
			_ = o.home.conn.Abort()
			o.home = newLeg(o.home.conn) // nothing of it is for the relay
			s.inFlight.Begin(o.head, true, o.began)
			over, err = true, nil
		}
		if err == nil && o.homeLacks {
			err = o.enableHome()
		}
		if s.Reason() != "" {
			return phaseEnd
		}
		if err != nil {
			s.Terminate(o.endOf(err))
			return phaseEnd
		}
		o.refuses = o.refuses && o.ahead
		if !o.more() {
			o.close(o.ask) // the next command finds the rights of its own time
		}
		if over || o.at == nil && !o.more() {
			s.client.Unread(o.client.Buffered())
			s.up.refuses = o.refuses
			b := s.backend.Load()
			b.Unread(o.home.r.Buffered())
			b.LimitReads(time.Time{})
			return phaseRelay
		}
	}
}

// endOf is the reason with which the session ends after an error.
func (o *visit) endOf(err error) Reason {
	s := o.s
	lost, ok := errors.AsType[*lostLeg](err)
	switch {
	case ok && !s.out.atBoundary():
		return ReasonBackendLostInner
	case ok:
		s.log().Warn("the connection to a backend is lost while a shared mailbox is used", "owner", lost.leg.owner, "error", err)
		if lost.leg == o.home {
			return ReasonBackendLost
		}
		return ReasonSharedLost
	case errors.Is(err, errClientSide):
		return ReasonClientLost
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return ReasonClientClosed
	case errors.Is(err, wire.ErrLineTooLong) || errors.Is(err, wire.ErrLiteralTooLong) || errors.Is(err, wire.ErrNUL) || errors.Is(err, wire.ErrSyntax):
		return ReasonClientProtocol
	}
	return s.clientLost(err)
}

// command handles one command. over: the relay goes on.
func (o *visit) command() (over bool, err error) {
	s := o.s
	o.partly = false
	line, now, err := s.nextLine(o.client, maxSharedLine)
	if err != nil {
		return false, err
	}
	o.began = now
	cmd := slices.Clone(line)
	o.head = wire.ParseCommandHead(cmd)
	_, _, o.literal = wire.LiteralSpec(cmd)
	for again := true; ; again = false {
		o.home.heard = false
		over, err = o.serve(cmd, o.literal)
		if o.at == nil || !o.withoutHome(err) {
			return over, err
		}
		heard := o.home.heard
		if err := o.reopenHome(); err != nil {
			return false, err
		}
		if heard || !again || o.head.Verb.Rule().Loss == wire.LossRefused {
			return false, o.lost(o.head, goneHome)
		}
	}
}

// serve handles a command whose first line was read. literal: the line ends with a literal.
func (o *visit) serve(cmd []byte, literal bool) (over bool, err error) {
	s, h := o.s, o.head
	if o.refuses && h.Verb.Rule().Alters() && wire.ValidTag(h.Tag) {
		return false, o.refuse(cmd, behindRefused)
	}
	if o.at == nil && !o.n.Concerns(cmd) {
		return o.relays(cmd, false), nil
	}
	switch answer := ownAnswer(h, cmd, !literal); {
	case wire.IsEmpty(cmd):
		return false, nil
	case len(h.Tag) > track.MaxTag:
		return false, wire.ErrLineTooLong
	case h.Verb == wire.Compress && wire.ValidTag(h.Tag):
		return false, o.answer(h, wire.NO, "COMPRESS is not available while a shared mailbox is selected")
	case answer != nil:
		s.intercepted(h.Verb)
		if err := o.discard(cmd); err != nil {
			return false, err
		}
		return false, o.write(answer, true)
	}
	if err := o.checkRights(); err != nil {
		return false, err
	}
	switch {
	case o.away && needsHome(h.Verb):
		if err := o.connectHome(); err != nil {
			return false, err
		}
	case o.at != nil && !o.away:
		if err := o.touchHome(); err != nil {
			return false, err
		}
	}
	if err := o.checkRights(); err != nil { // the wait for the own connection may have been long
		return false, err
	}
	switch h.Verb {
	case wire.List, wire.Lsub, wire.XList, wire.RList, wire.RLsub:
		return false, o.list(cmd)
	case wire.Namespace:
		return false, o.namespace(h, cmd)
	case wire.Notify, wire.ESearch, wire.ResetKey, wire.GenURLAuth:
		if o.n.Concerns(cmd) || h.Verb == wire.Notify || h.Verb == wire.ESearch {
			return false, o.refuse(cmd, "[CANNOT] Not available for shared mailboxes")
		}
	case wire.Logout:
		_ = o.write([]byte("* BYE Logging out\r\n"), true)
		err := o.answer(h, wire.OK, "Logout completed")
		s.Terminate(ReasonLogout)
		return false, err
	}
	cmd, names, err := o.names(cmd)
	switch {
	case errors.Is(err, wire.ErrSyntax):
		if err := o.discard(cmd); err != nil {
			return false, err
		}
		return false, o.answer(h, wire.BAD, "The name of a mailbox can't be read")
	case err != nil:
		return false, err
	}
	if slices.ContainsFunc(names, func(n shared.Name) bool { return !shared.CanSend(n.Value) }) {
		return false, o.refuse(cmd, "[CANNOT] The name of a mailbox can't have control characters")
	}
	if literal { // the client was asked for the names already
		for _, name := range slices.Backward(names) {
			cmd = shared.Replace(cmd, name, name.Value)
		}
		if _, names, err = o.names(cmd); err != nil {
			return false, err
		}
	}
	h = wire.ParseCommandHead(cmd)
	if slices.ContainsFunc(names, func(n shared.Name) bool { _, _, in := o.n.Split(n.Value); return in }) {
		return false, o.about(cmd, h, names)
	}
	switch {
	case o.at == nil:
		return o.relays(cmd, true), nil
	case h.Verb.Rule().Selects:
		if err := o.leave(); err != nil {
			return false, err
		}
		return o.relays(cmd, true), nil
	case crosses(h.Verb) && len(names) == 1: // from a shared mailbox to one of the user's own
		return false, o.across(cmd, h, o.at, o.home, names[0].Value)
	case h.Verb == wire.Replace || h.Verb == wire.UIDReplace:
		return false, o.refuse(cmd, "[CANNOT] REPLACE is not available between servers")
	case len(names) > 0:
		_, err := o.carry(o.home, cmd, h)
		return false, err
	}
	return o.unnamed(cmd, h)
}

// behindRefused is the answer to what changes something and was sent behind a command that was refused.
const behindRefused = "[UNAVAILABLE] A command before this one may not have been done"

// relays hands a command to the relay. excused: it isn't to come back.
func (o *visit) relays(cmd []byte, excused bool) bool {
	s := o.s
	s.client.Unread(append(slices.Clone(cmd), o.client.Buffered()...))
	s.up.excused = excused
	return true
}

// unnamed handles a command that names no mailbox, while a shared one is selected.
func (o *visit) unnamed(cmd []byte, h wire.CommandHead) (over bool, err error) {
	switch h.Verb {
	case wire.Idle:
		return false, o.idle(cmd, h)
	case wire.Close, wire.Unselect:
		status, err := o.carry(o.at, cmd, h)
		if err != nil || status != wire.OK {
			return false, err
		}
		o.close(o.at)
		return false, nil
	case wire.Noop, wire.Check, wire.Expunge, wire.Search, wire.Fetch, wire.Store, wire.Sort, wire.Thread, wire.UIDExpunge, wire.UIDFetch, wire.UIDSearch,
		wire.UIDSort, wire.UIDStore, wire.UIDThread, wire.CancelUpdate, wire.BatchesOfUIDs:
		_, err := o.carry(o.at, cmd, h)
		return false, err
	case wire.Capability, wire.ID, wire.GetQuota, wire.SetQuota, wire.URLFetch, wire.GetJMAPAccess, wire.ResetKey, wire.GenURLAuth:
		_, err := o.carry(o.home, cmd, h)
		return false, err
	case wire.Enable:
		return false, o.refuseAs(cmd, wire.BAD, "ENABLE is not possible while a shared mailbox is selected")
	}
	return false, o.refuseAs(cmd, wire.BAD, "This command is not available while a shared mailbox is selected")
}

// about handles a command that names a mailbox in the namespace.
func (o *visit) about(cmd []byte, h wire.CommandHead, names []shared.Name) error {
	owner, box, in := o.n.Split(names[len(names)-1].Value)
	if len(names) == 2 { // RENAME
		if first, from, was := o.n.Split(names[0].Value); !in || !was || first != owner || from == "" {
			return o.refuse(cmd, "[CANNOT] A mailbox can't be moved to another user")
		}
	}
	switch h.Verb {
	case wire.GetQuotaRoot, wire.GetMetadata, wire.SetMetadata, wire.GetAnnotation, wire.SetAnnotation, wire.Replace, wire.UIDReplace:
		return o.refuse(cmd, "[CANNOT] Not available for shared mailboxes")
	case wire.Unsubscribe:
		return o.refuse(cmd, "[CANNOT] Shared mailboxes are always subscribed")
	case wire.Create:
		if len(bytes.TrimSpace(cmd[names[0].To:])) > 0 {
			return o.refuse(cmd, "[USEATTR] The special use of another user's mailbox can't be set")
		}
	case wire.Append:
		if bytes.Contains(bytes.ToUpper(cmd[names[0].To:]), []byte(" CATENATE (")) { // its URLs would be those of the owner's mailboxes
			return o.refuse(cmd, "[CANNOT] CATENATE is not available for shared mailboxes")
		}
	}
	if box == "" {
		return o.refuse(cmd, "[NONEXISTENT] There is no mailbox of this name")
	}
	r := h.Verb.Rule()
	if r.Selects {
		return o.selects(cmd, h, names[0], owner, box)
	}
	if crosses(h.Verb) && o.at != nil && o.at.owner == owner {
		_, err := o.carry(o.at, shared.Replace(cmd, names[0], box), h)
		return err
	}
	l, err := o.asking(owner, o.connectLater)
	if err != nil {
		if err := o.discard(cmd); err != nil {
			return err
		}
		return o.unreachable(h, owner, err)
	}
	switch {
	case crosses(h.Verb) && o.at == nil:
		return o.across(cmd, h, o.home, l, box)
	case crosses(h.Verb):
		return o.across(cmd, h, o.at, l, box)
	case h.Verb == wire.Subscribe, h.Verb == wire.StatusVerb:
		may, err := o.mayRead(l, h, box)
		if err != nil || !may {
			return o.lostAsk(h, l, err)
		}
		if h.Verb == wire.Subscribe {
			return o.answer(h, wire.OK, "Shared mailboxes are always subscribed")
		}
	}
	for _, name := range slices.Backward(names) {
		_, box, _ := o.n.Split(name.Value)
		cmd = shared.Replace(cmd, name, box)
	}
	_, err = o.carry(l, cmd, h)
	err = o.lostAsk(h, l, err)
	if r.Renames || h.Verb == wire.Create || h.Verb == wire.SetACL || h.Verb == wire.DeleteACL {
		o.s.env.SharedLists.forget(owner, o.s.user)
	}
	return err
}

// lostAsk answers a command whose connection is lost, if that is none that has state: the session goes on then.
func (o *visit) lostAsk(h wire.CommandHead, l *leg, err error) error {
	lost, ok := errors.AsType[*lostLeg](err)
	if !ok || lost.leg != l || l != o.ask || o.partly || !o.s.out.atBoundary() || o.s.Reason() != "" {
		return err
	}
	o.close(l)
	return o.unreachable(h, l.owner, err)
}

// selects opens a mailbox on a new connection to its owner's mail. What was selected before isn't any more, whatever the answer.
func (o *visit) selects(cmd []byte, h wire.CommandHead, name shared.Name, owner, box string) error {
	if _, _, literal := wire.LiteralSpec(cmd); literal {
		return o.refuseAs(cmd, wire.BAD, "Unexpected literal")
	}
	if err := o.leave(); err != nil {
		return err
	}
	l, err := o.connectLater(owner)
	if err != nil {
		return o.unreachable(h, owner, err)
	}
	status, err := o.carry(l, shared.Replace(cmd, name, box), h)
	if err != nil || status != wire.OK {
		o.close(l)
		if _, lost := errors.AsType[*lostLeg](err); lost && o.s.Reason() == "" && !o.partly {
			return o.unreachable(h, owner, err)
		}
		return err
	}
	o.at, l.box, l.ronly = l, box, h.Verb == wire.Examine
	o.rights = o.s.env.Now()
	o.proved = o.rights
	return nil
}

// leave deselects what is selected, and tells the client.
func (o *visit) leave() error {
	s := o.s
	switch {
	case o.at != nil:
		o.close(o.at)
	case s.inFlight.Selected():
		if err := o.deselectHome(); err != nil {
			return err
		}
	default:
		return nil
	}
	return o.write([]byte(closed), true)
}
