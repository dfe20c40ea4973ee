package session

import (
	"context"
	"errors"

	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// A session that has lost its connection looks for its client's view on the connection with which it then goes on, so that each lost
// connection costs the backend one login. That connection has what the client has enabled, no more. Where it
// doesn't show enough (resync.Own), the hub's connection, which has QRESYNC enabled, is asked as well.

// errNotFollowed says that the messages that the client counts can't be found.
var errNotFollowed = errors.New("the view can't be found")

// leavesMailbox says whether the client's next command makes what it missed of its mailbox meaningless: then it doesn't
// matter which messages it counts.
func (s *Session) leavesMailbox() bool {
	line := wire.FirstLine(s.client.PutBack())
	return s.park.cutFetch == nil && !s.park.cutIdle && len(line) > 0 &&
		track.LeavingBy(line, &s.inFlight.Client, s.caps.Load().list) != track.Stays
}

// viewOnOwn makes one attempt to find the view of a client on a connection of the session's own, which it keeps for
// the session (parkState.found). at is what the client was told at its SELECT. errAnotherLook: the connection is kept, but doesn't show the view.
func (s *Session) viewOnOwn(ctx context.Context, within *patience, at *view.View, steps *telemetry.Steps) (v *view.View, err error) {
	r, urgent := s.env.Queues.resumesAt(s.picked().Backend.ID), s.clientWaits() || s.park.cutFetch != nil
	if err := within.turn(ctx, r, func(ctx context.Context) error { return r.enter(ctx, s.user, urgent) }); err != nil {
		return nil, err
	}
	defer r.leave(s.user)
	steps.Done(telemetry.StepTurn, s.env.Now(), nil)
	ctx, tried := within.try(ctx, r, hubWithin)
	defer func() {
		if errors.Is(err, errAnotherLook) { // the backend has answered
			tried(nil)
			return
		}
		tried(err)
	}()
	c, enable, enabled, err := s.reconnect(ctx, &telemetry.Resume{Steps: steps})
	if err != nil {
		s.picked().Rest()
		return nil, err
	}
	s.park.found = &found{conn: c, enabled: enabled}
	var heard heardMeanwhile
	imap := s.park.found.client(heard.pass)
	v, err = s.looksOn(ctx, imap, enable, at, &heard, steps)
	f := s.park.found
	f.enabled, f.selected, f.readOnly, f.another = imap.Enabled(), imap.Selected(), imap.ReadOnly(), v != nil && err != nil
	if broken := imap.Release(); broken != nil || err != nil && !errors.Is(err, errAnotherLook) {
		s.dropFound()
		return nil, errors.Join(err, broken)
	}
	return v, err
}

// looksOn finds the view and the difference on the connection of s.park.found.
func (s *Session) looksOn(ctx context.Context, imap *resync.Client, enable []string, at *view.View, heard *heardMeanwhile, steps *telemetry.Steps) (*view.View, error) {
	err := imap.Enable(ctx, enable...)
	steps.Done(telemetry.StepEnable, s.env.Now(), err)
	if err != nil {
		return nil, err
	}
	var v *view.View
	err = s.missedOn(ctx, imap, s.park.found, heard, func(seen view.Seen) (_ *view.View, err error) {
		if v, err = s.inFlight.Find(seen); err == nil {
			v, err = s.comparable(v, true)
		}
		return v, err
	}, at)
	steps.Done(telemetry.StepSnapshot, s.env.Now(), err)
	return v, err
}

// comparable returns the view with what is known of its flags, which depends on the backend. own: what has changed is asked for on
// the session's own connection, where mod-sequences do without QRESYNC.
func (s *Session) comparable(v *view.View, own bool) (*view.View, error) {
	modSeqs := s.inFlight.Client.Dialect != view.Plain
	compared := s.compares() && !modSeqs
	switch {
	case s.compares() && modSeqs && !own:
		return nil, errNotFollowed
	case !compared && v.ModSeq == 0:
		v.ModSeq = 1 // so that the client is told of every flag that was ever set
	case compared:
		v.Told, v.Known = view.NothingTold(), nil
	}
	return v, nil
}
