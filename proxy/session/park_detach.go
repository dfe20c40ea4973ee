package session

import (
	"context"
	"errors"

	"imapproxy/internal/clock"
	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// detach takes the session's backend connection away. At the end the session is parked, or attached as before.
// While detach runs, the client's bytes wait.
func (s *Session) detach() phase {
	how := s.park.mode
	ctx, cancel := s.within(leaveWithin)
	defer cancel()
	if s.losing() { // from now on cut also ends ctx
		return s.lost()
	}
	began := s.env.Now()
	t := telemetry.Park{Session: s.id, Login: s.trace(), User: s.user, Backend: s.picked().Backend.Shown(), Way: how.String(), Start: began, Steps: s.env.Telemetry.Steps(began)}
	if b := s.backend.Load(); b != nil {
		t.Address = b.Target.Address
	}
	if how != track.ModeUnselected {
		t.Mailbox = s.inFlight.Client.Mailbox.Name
	}
	stop := s.reassures(&began, false) // once the client has said something
	view, err := s.release(ctx, how, &t)
	stop()
	t.Strategy, t.Watch, t.End = "none", "none", s.env.Now()
	if s.park.sub != nil {
		t.Strategy, t.Watch = s.park.sub.Strategy(), s.park.sub.Watch()
	}
	switch {
	case s.Reason() != "":
		t.Outcome, t.Err = "ended", err
		s.env.Telemetry.Park(t)
		return phaseEnd
	case errors.Is(err, errLost), err != nil && s.losing():
		t.Outcome = "lost"
		s.env.Telemetry.Park(t)
		return s.lost()
	case err != nil:
		why, failure := blockerOf(err)
		if t.Outcome = why.String(); failure {
			t.Err = err
		}
		s.log().Debug("not parked", "reason", t.Outcome, "error", err)
		s.env.Telemetry.Park(t)
		s.park.blocker.Store(uint32(why))
		s.park.failures = min(s.park.failures, 100) + 1
		s.park.notTill.Store(clock.Of(t.End.Add(parkPause(s.park.failures))))
		return phaseRelay
	default:
		t.Outcome = "parked"
		s.env.Telemetry.Park(t)
		s.park.failures = 0
		s.park.mu.Lock()
		s.park.times++
		s.park.view, s.park.state, s.park.lastTold, s.park.idle = view, nil, clock.Of(t.End), how == track.ModeIdle
		s.park.mu.Unlock()
		s.forgetWait()
		s.relaying = nil
		s.inFlight.Trim()
		s.picked().Rest() // if the user has moved meanwhile, the next sweep handles it
		return phaseParked
	}
}

// release finds the view and gives the session's connection to the pool. After an error the session is as it
// was, unless it has a reason to end.
func (s *Session) release(ctx context.Context, how track.ParkMode, trace *telemetry.Park) (*view.View, error) {
	t := &s.inFlight.Client
	b := s.backend.Load()
	var table *view.FlagTable
	if t.Dialect == view.CondStore && !(s.caps.Load().list.Has("ENABLE") && s.caps.Load().list.Has("CONDSTORE")) {
		return nil, errNoModSeqs // the client uses mod-sequences without ENABLE, and a resume couldn't enable CONDSTORE
	}
	unwatched := false
	if how != track.ModeUnselected && s.leavesUnwatched() {
		err := s.subscribeLater(t.Mailbox.Name)
		trace.Steps.Done(telemetry.StepSubscribe, s.env.Now(), err)
		if err != nil {
			return nil, err
		}
		if unwatched = t.Mailbox.ModSeq != 0 || s.park.sub.ModSeq() != 0; !unwatched {
			s.unsubscribe() // no mod-sequence bounds the view yet: Subscribe finds one
		}
	}
	switch {
	case how == track.ModeUnselected:
		s.unsubscribe()
	case unwatched:
	default:
		within, cancel := context.WithTimeout(ctx, hubWithin)
		defer cancel()
		err := s.subscribe(within, t.Mailbox.Name)
		trace.Steps.Done(telemetry.StepSubscribe, s.env.Now(), err)
		if err != nil {
			return nil, err
		}
		if s.park.sub.Strategy() == (resync.ByComparison{}).Name() {
			if t.Dialect != view.Plain {
				return nil, errNoModSeqs
			}
			table, err = s.park.sub.Table(within)
			trace.Steps.Done(telemetry.StepFlags, s.env.Now(), err)
			if err != nil {
				return nil, err
			}
		}
	}
	var bound uint64
	if s.park.sub != nil {
		bound = s.park.sub.ModSeq() // taken before the snapshot: a resync for other sessions may advance it at any time
	}
	opt := resync.Options{Selected: s.inFlight.Selected(), ReadOnly: t.Mailbox.ReadOnly, Messages: t.Mailbox.Exists, Enabled: t.Enabled, Forward: s.passOn}
	// If flags are told now, the client's flags may differ from those in the table: a flag that is set and
	// removed meanwhile would never be told.
	moved := false
	if table != nil {
		opt.Forward = func(response []byte) {
			moved = moved || new(track.FetchResponse).Begins(wire.ParseResponseHead(response))
			s.passOn(response)
		}
	}
	quiet := newMailBuffer{s: s}
	switch how {
	case track.ModeIdle:
		opt.TagInUse = s.inFlight.IdleTag()
	case track.ModeSelected:
		opt.Forward = func(response []byte) {
			quiet.pass(response)
			moved = moved || t.Mailbox.ModSeq == 0 && quiet.flags && t.Mailbox.Exists > fewChanges // too many to tell all
		}
	}
	b.Caps = s.caps.Load().list // the relay doesn't keep a copy
	imap := resync.NewClient(b.Conn, b.Caps, opt)
	// From here on the backend is no longer in IDLE, so the session can't simply go back to the relay.
	answered := s.asks()
	defer answered()
	view, err := s.snapshot(ctx, imap, how, &moved, trace.Steps)
	trace.Tries = imap.Tries()
	rerr := imap.Release()
	var broken *imapclient.Broken
	switch {
	case (errors.As(err, &broken) || rerr != nil) && s.survives():
		return nil, errLost
	case errors.As(err, &broken) || rerr != nil:
		if s.Reason() == "" {
			s.log().Warn("backend lost while the session was being parked", "error", errors.Join(err, rerr))
		}
		s.Terminate(s.lostBackend())
		return nil, errors.Join(err, rerr)
	case err != nil:
		quiet.tell()
		back := s.idleAgain(b, how, leaveWithin)
		trace.Steps.Done(telemetry.StepBack, s.env.Now(), back)
		if back != nil && s.survives() {
			return nil, errLost
		}
		if back != nil {
			s.log().Warn("the backend doesn't accept IDLE again", "error", back)
			s.Terminate(ReasonBackendLost)
		}
		return nil, err
	}
	answered()
	s.give(b, upstream.Condition{Selected: imap.Selected()})
	trace.Steps.Done(telemetry.StepRelease, s.env.Now(), nil)
	if view != nil {
		if view.ModSeq == 0 {
			view.ModSeq = bound
			if quiet.flags { // the bound may cover them, so the client is told all flags that it isn't known to know
				view.ModSeq = 1
			}
		}
		if len(quiet.lines) > 0 {
			view.UIDs = quiet.known(view.UIDs)
			view.UIDNext = max(t.Mailbox.Next, view.UIDs.Last()+1)
		}
		view.Told, view.Known = table, t.KnownFlags(view.UIDs)
	}
	return view, nil
}

// snapshot ends IDLE, finds which messages the client counts, and deselects the mailbox. moved is set, by the
// time that all responses were passed on, if flags may have changed.
func (s *Session) snapshot(ctx context.Context, imap *resync.Client, how track.ParkMode, moved *bool, steps *telemetry.Steps) (*view.View, error) {
	if how == track.ModeUnselected {
		return nil, nil
	}
	t := &s.inFlight.Client
	var uids view.UIDs
	var err error
	if how == track.ModeIdle {
		_, err = imap.EndIdle(ctx, s.inFlight.IdleTag(), nil)
		steps.Done(telemetry.StepDone, s.env.Now(), err)
		if err != nil {
			return nil, err
		}
	}
	if how == track.ModeIdle || t.UIDOnly { // with UIDONLY the client has no message numbers that EXPUNGE could shift
		uids, err = imap.Snapshot(ctx)
	} else {
		uids, err = imap.SnapshotByFetch(ctx)
	}
	steps.Done(telemetry.StepSnapshot, s.env.Now(), err)
	if err == nil && *moved {
		err = resync.ErrUnsettled
	}
	if err != nil {
		return nil, err
	}
	var refusal *imapclient.Refusal
	if err = imap.Deselect(ctx); errors.Is(err, resync.ErrCannotDeselect) || errors.As(err, &refusal) {
		err = nil // the session then closes the connection: the client hasn't been told what came with the refusal
	}
	steps.Done(telemetry.StepDeselect, s.env.Now(), err)
	if err != nil {
		return nil, err
	}
	return &view.View{
		Mailbox: t.Mailbox.Name, ReadOnly: t.Mailbox.ReadOnly, UIDValidity: t.Mailbox.Validity, UIDNext: max(t.Mailbox.Next, uids.Last()+1),
		UIDs: uids, Flags: t.Mailbox.Flags, PermanentFlags: t.Mailbox.Permanent, ModSeq: t.Mailbox.ModSeq,
	}, nil
}
