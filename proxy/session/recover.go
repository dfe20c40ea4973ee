package session

import (
	"cmp"
	"context"
	"errors"
	"time"

	"imapproxy/internal/clock"
	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// A session whose backend connection is lost gets another one (docs/failures.md). Which messages its client
// counts is found from what the client was told (view.Tally) and from what the backend shows now; then the
// session is resumed. The commands that were in progress are either put in front of the client's next bytes
// and sent again, or answered NO if the backend may have executed them.

// maxLosses is how many times in a row a connection may be lost with the same commands in progress. After that
// the session ends, since one of the commands may be the cause.
const maxLosses = 2

// canGoOn says whether both streams can be followed up to the byte where the connection was lost.
func (s *Session) canGoOn() bool {
	return s.up.refused == nil && s.down.err == nil && s.down.broken == nil && !s.down.rewrite && s.survives()
}

// lost decides which phase follows after the backend connection was lost. Both readers have stopped; lost
// closes the connection.
func (s *Session) lost() phase {
	b := s.backend.Load()
	stalled := b.Progress.Stalled()
	s.down.ended = s.down.ended && !b.Vanished() // it may have executed what it was sent, or do so yet
	_ = b.Abort()
	if stalled {
		s.set.Park.Pool.ForgetUser(s.user) // these connections may hang as well
	}
	if !s.canGoOn() {
		s.Terminate(s.lostBackend())
		return phaseEnd
	}
	unable := ReasonBackendLost
	if stalled {
		unable = ReasonBackendStalled
	}
	s.control.mu.Lock()
	s.backend.Store(nil)
	s.control.mu.Unlock()
	if !s.readOut() {
		return phaseEnd
	}
	told, contents := s.down.told(), &s.down.contents
	if s.inFlight.Refuses(told, contents, s.down.ended) && !s.takeArrived() {
		return phaseEnd
	}
	done := uint32(s.commands.Load()) //nolint:gosec // it is only compared
	cut := s.inFlight.Cut(told, contents, s.down.ended)
	r := &s.park.losses
	if r.since != done || len(cut.Again)+len(cut.Refused) == 0 && cut.Rest == nil {
		r.since, r.n, r.stalled = done, 0, false
	}
	r.stalled = r.stalled || stalled
	if r.n++; r.n > maxLosses || r.stalled && r.n > maxStalls {
		s.log().Warn("the backend connection is lost again and again under the same commands")
		s.Terminate(unable)
		return phaseEnd
	}
	if s.park.cutFetch = s.cutFetchOf(cut.Rest); s.park.cutFetch == nil && !s.out.atBoundary() {
		s.Terminate(ReasonBackendLostInner)
		return phaseEnd
	}
	s.client.Unhold()
	s.forgetWait()
	s.relaying = nil
	s.picked().Rest()
	s.client.Unread(cut.Again)
	if s.park.cutFetch.inside() {
		s.park.cutFetch.answers = cut // an answer would become a part of the response
	} else if s.answerCut(cut) != nil {
		s.Terminate(ReasonClientLost)
		return phaseEnd
	}
	s.park.cutIdle = cut.Idle != ""
	return phaseRecover
}

// recover finds which messages the client of a lost connection counts. A client in IDLE is then parked, if it can be; other
// sessions are resumed.
func (s *Session) recover() (next phase) {
	defer func() {
		if next != phaseResume {
			s.dropFound()
		}
	}()
	s.park.noSecond = false
	began := s.env.Now()
	within := newPatience(cmp.Or(s.settings().Park.ResumeWithin, DefaultResumeWithin), s.later)
	if s.park.cutFetch.inside() {
		within.strictly(min(halfWithin, within.within))
	}
	t := telemetry.Recovery{Session: s.id, Login: s.trace(), User: s.user, Backend: s.picked().Backend.Shown(), Start: began, Steps: s.env.Telemetry.Steps(began)}
	var v *view.View
	var err error
	heard := began
	commandWaits := func() bool { return s.clientWaits() && s.out.atBoundary() }
	for pause, moves := recoverPause, 0; ; pause = min(2*pause, longestPause(s.env.Registry.Count(Resuming))) {
		if !s.park.cutFetch.inside() { // inside a response the wait isn't longer than halfWithin
			if waited := s.pausedOut(&heard, commandWaits); waited > 0 {
				within.paused(waited)
				began, pause = began.Add(waited), recoverPause
			}
		}
		t.Attempts++
		t.Address = s.target().Address
		mark := t.Steps.Mark()
		turns := s.env.Queues.resumesAt(s.picked().Backend.ID)
		reached := *turns.reached.Load()
		ctx, cancel := s.within(within.longest()) // LetGo ends one attempt, not the recovery
		stop := s.reassures(&heard, commandWaits())
		v, err = s.foundView(ctx, within, t.Steps)
		stop()
		cancel()
		if before := s.park.cutFetch.passed(); err == nil {
			if err = s.continueFetch(v, within.end); s.park.cutFetch.passed() > before {
				within.strictly(min(halfWithin, within.within))
			}
		}
		if err != nil && s.Reason() == "" && s.elsewhere(err) {
			ctx, cancel = s.within(time.Until(within.end))
			move := s.repickAfter(ctx, err)
			cancel()
			if errors.Is(move, errReassigned) {
				s.Terminate(ReasonMoved)
			}
			if moves++; move == nil && s.Reason() == "" && moves < maxBackends && !within.over() {
				s.unsubscribe()
				t.Steps.Fold(mark, telemetry.StepAttempt, s.env.Now(), err)
				continue
			}
		}
		if err != nil && s.Reason() == "" && moves < maxBackends && !within.over() && s.movesOn(err) {
			moves++
			s.unsubscribe()
			t.Steps.Fold(mark, telemetry.StepAttempt, s.env.Now(), err)
			continue
		}
		if err == nil || s.Reason() != "" || within.over() || hopelessView(err) {
			break
		}
		t.Steps.Fold(mark, telemetry.StepAttempt, s.env.Now(), err)
		if s.failOver(began) {
			s.unsubscribe()
			continue
		}
		if commandWaits() {
			s.stillHere(&heard)
		}
		ctx, cancel = s.within(time.Until(within.end))
		turns.pause(ctx, pause, since(err, reached))
		cancel()
		t.Steps.Done(telemetry.StepPause, s.env.Now(), nil)
	}
	t.Backend = s.picked().Backend.Shown()
	switch {
	case s.Reason() != "":
	case err != nil && s.park.cutFetch.inside():
		s.log().Warn("a response can't be continued after the backend connection was lost", "error", err)
		s.Terminate(ReasonBackendLostInner)
	case hopelessView(err):
		s.log().Warn("the messages that the client counts can't be found after the backend connection was lost", "error", err)
		end := endOfLoss(err)
		if end == ReasonViewLost {
			s.park.viewLost = whyViewLost(err)
			t.ViewLost = s.park.viewLost
		}
		s.Terminate(end)
	case err != nil:
		s.log().Warn("the backend can't be reached again", "error", err)
		s.Terminate(endOf(err))
	}
	t.End, t.Err, t.Outcome = s.env.Now(), err, "ok"
	if r := s.Reason(); r != "" {
		t.Outcome = string(r)
		s.env.Telemetry.Recovery(t)
		return phaseEnd
	}
	s.env.Telemetry.Recovery(t)
	idle := s.park.cutIdle
	s.park.mu.Lock()
	s.park.times++
	s.park.view, s.park.state, s.park.lastTold, s.park.idle = v, nil, clock.Of(t.End), idle
	s.park.mu.Unlock()
	if !s.leavesMailbox() { // otherwise the view hasn't what the client counts, which a further loss needs
		s.inFlight.Trim()
	}
	if idle && v != nil && !s.byModSeqs() {
		s.park.mode = track.ModeIdle
		s.park.sub.Doubt() // the first round tells what changed meanwhile
		return phaseParked
	}
	s.comesBack(s.client.PutBack(), telemetry.WakeLost)
	return phaseResume
}

// comesBack sets that a session is resumed for this cause and, if said isn't empty, for the first command of it.
func (s *Session) comesBack(said []byte, cause string) {
	line := wire.FirstLine(said)
	s.park.hasCommand, s.park.verb, s.park.leaving, s.park.cause = len(line) > 0, wire.Other, track.Stays, cause
	if len(line) == 0 {
		return
	}
	s.park.verb = wire.ParseCommandHead(line).Verb
	if s.park.sub != nil {
		s.park.leaving = track.LeavingBy(line, &s.inFlight.Client, s.caps.Load().list)
	}
	if s.park.leaving == track.Leaves && !s.park.verb.Rule().Selects {
		s.park.leaving = track.LeavesSelected // the command goes to the backend, which answers it as long as the mailbox is selected
	}
}

// foundView makes one attempt to find the view of the client. It returns nil if no mailbox is selected.
func (s *Session) foundView(ctx context.Context, within *patience, steps *telemetry.Steps) (*view.View, error) {
	before, cancel := within.left(ctx)
	defer cancel()
	if err := s.recheckAtResume(before); err != nil {
		return nil, err
	}
	at := s.inFlight.Selection()
	if at == nil {
		s.unsubscribe()
		return nil, nil
	}
	s.dropFound()
	if err := s.subscribeLater(at.Mailbox); err != nil { // a watch would be another login
		return nil, err
	}
	if s.leavesMailbox() {
		return at, nil
	}
	alone := s.byModSeqs()
	if (!s.park.cutIdle || alone) && !s.inFlight.Client.UIDOnly && !s.park.noSecond {
		if v, err := s.viewOnOwn(ctx, within, at, steps); alone || !errors.Is(err, errAnotherLook) {
			return v, err
		}
	}
	v, err := s.viewByWatch(ctx, within, at, steps)
	if down, ok := errors.AsType[*upstream.Unavailable](err); ok && down.AtLimit() && s.park.found != nil {
		s.dropFound() // the hub's connection takes its place at the next attempt
		s.park.noSecond = true
	}
	return v, err
}

// viewByWatch makes one attempt to find the view on a connection of the hub's.
func (s *Session) viewByWatch(ctx context.Context, within *patience, at *view.View, steps *telemetry.Steps) (*view.View, error) {
	r, l := s.env.Queues.resumesAt(s.picked().Backend.ID), look{s.user, s.clientWaits() || s.park.cutFetch != nil}
	if err := within.turn(ctx, r, func(ctx context.Context) error { return r.enterLook(ctx, l) }); err != nil {
		return nil, err
	}
	defer r.leaveLook(l)
	steps.Done(telemetry.StepTurn, s.env.Now(), nil)
	ctx, tried := within.try(ctx, r, hubWithin)
	seen, err := s.park.sub.See(ctx, at, steps)
	if tried(err); err != nil {
		return nil, err
	}
	v, err := s.inFlight.Find(seen)
	if err != nil {
		return nil, err
	}
	return s.comparable(v, false)
}

// hopelessView says whether each further attempt to find the view would fail with the same error.
func hopelessView(err error) bool {
	for _, e := range []error{errNotFollowed, errOther, view.ErrNotExact, view.ErrNotFollowed, view.ErrNoUIDNext} {
		if errors.Is(err, e) {
			return true
		}
	}
	return err != nil && final(err)
}

// endOfLoss returns the reason with which a session ends if its view can't be found.
func endOfLoss(err error) Reason {
	var other *view.NotSame
	var gone *imapclient.Refusal
	var refused *upstream.Refused
	var out *lockedOut
	var less *lacks
	if errors.Is(err, errReadOnly) || errors.As(err, &less) || errors.As(err, &other) || errors.As(err, &gone) || errors.As(err, &refused) || errors.As(err, &out) {
		return endOf(err)
	}
	return ReasonViewLost
}
