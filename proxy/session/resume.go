package session

import (
	"cmp"
	"context"
	"errors"
	"time"

	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// resumePause is the pause before the second attempt of a resume; later pauses are longer.
const resumePause = 250 * time.Millisecond

// resume gets a backend connection for a parked session and tells the client what it missed before its command
// goes on. Attempts don't overlap, so an attempt that has timed out can't have an effect later.
func (s *Session) resume() phase {
	defer s.dropFound()
	pause, began := resumePause, s.env.Now()
	within := newPatience(cmp.Or(s.settings().Park.ResumeWithin, DefaultResumeWithin), s.later)
	asked := s.LastHeard() // when the command was read that needs the connection
	t := telemetry.Resume{Session: s.id, Login: s.trace(), User: s.user, Backend: s.picked().Backend.Shown(), Wake: s.park.cause, Source: telemetry.SourceNone,
		Start: began, Steps: s.env.Telemetry.Steps(began)}
	if s.park.sub != nil {
		t.Mailbox = s.park.sub.Mailbox()
	}
	if s.reassigned() { // the user has moved since the last sweep
		if err := s.repick(""); errors.Is(err, errReassigned) {
			s.Terminate(ReasonMoved)
			s.resumed(t, asked, err)
			return phaseEnd
		}
	}
	heard := began
	for moves := 0; ; {
		if waited := s.pausedOut(&heard, func() bool { return (s.park.hasCommand || s.clientWaits()) && s.out.atBoundary() }); waited > 0 {
			within.paused(waited)
			began, pause = began.Add(waited), resumePause
		}
		t.Attempts++
		t.Backend, t.Address = s.picked().Backend.Shown(), s.target().Address
		turns := s.env.Queues.resumesAt(s.picked().Backend.ID)
		reached := *turns.reached.Load()
		mark := t.Steps.Mark()
		ctx, cancel := s.within(within.longest()) // LetGo ends one attempt, not the resume
		stop := s.reassures(&heard, s.park.hasCommand)
		c, err := s.attempt(ctx, within, &t)
		stop()
		cancel()
		if err != nil {
			s.picked().Rest() // a session without a connection must not hold its user at the backend
		}
		over := within.over()
		switch {
		case s.Reason() != "":
			if c != nil {
				_ = c.Abort()
			}
			s.resumed(t, asked, err)
			return phaseEnd
		case err == nil:
			return s.reattach(c, t, asked)
		case over: // also where the session's user is elsewhere, and it can't follow
			return s.unresumed(t, asked, err)
		case s.elsewhere(err):
			ctx, cancel = s.within(time.Until(within.end))
			move := s.repickAfter(ctx, err)
			cancel()
			if errors.Is(move, errReassigned) {
				s.Terminate(ReasonMoved)
				s.resumed(t, asked, errors.Join(err, move))
				return phaseEnd
			}
			if s.Reason() != "" {
				s.resumed(t, asked, err)
				return phaseEnd
			}
			if moves++; move == nil && moves < maxBackends {
				t.Steps.Fold(mark, telemetry.StepAttempt, s.env.Now(), err)
				continue
			}
		case moves < maxBackends && s.movesOn(err):
			moves++
			t.Steps.Fold(mark, telemetry.StepAttempt, s.env.Now(), err)
			continue
		case final(err):
			return s.unresumed(t, asked, err)
		}
		if s.failOver(began) {
			t.Steps.Fold(mark, telemetry.StepAttempt, s.env.Now(), err)
			continue
		}
		if others, ok := turns.again.may(s.env.Now()); ok {
			s.log().Info("resume is tried again", "error", err, "in", pause, "others", others)
		}
		if (s.park.hasCommand || s.clientWaits()) && s.out.atBoundary() {
			s.stillHere(&heard)
		}
		t.Steps.Fold(mark, telemetry.StepAttempt, s.env.Now(), err)
		ctx, cancel = s.within(time.Until(within.end))
		turns.pause(ctx, pause, since(err, reached))
		cancel()
		pause = min(2*pause, s.longestResumePause())
		t.Steps.Done(telemetry.StepPause, s.env.Now(), nil)
	}
}

// unresumed ends a session for which no further attempt is made.
func (s *Session) unresumed(t telemetry.Resume, asked time.Time, err error) phase {
	s.log().Warn("a parked session can't be resumed", "error", err)
	s.Terminate(endOf(err))
	s.resumed(t, asked, err)
	return phaseEnd
}

// resumed reports the outcome of a resume to telemetry. asked is when the command was read that needs the connection.
func (s *Session) resumed(t telemetry.Resume, asked time.Time, err error) {
	t.Outcome, t.Err, t.End = "ok", err, s.env.Now()
	if r := s.Reason(); r != "" {
		t.Outcome = string(r)
	}
	if err != nil {
		s.env.Registry.failures.note(s.user, Failure{Time: t.End, What: "resume", Reason: t.Outcome, Client: s.addr.String(), Backend: t.Backend, Error: err.Error()})
	}
	if err == nil && s.relaying != nil && s.park.hasCommand && s.Reason() == "" {
		s.waited(t, asked)
		return
	}
	s.env.Telemetry.Resume(t)
}

// attempt makes one attempt: first, in the user's turn, the exchange with the backend; then it tells the
// client what it missed. The client may read slowly, so the turn at the backend is given back before.
func (s *Session) attempt(ctx context.Context, within *patience, t *telemetry.Resume) (*upstream.Conn, error) {
	before, cancel := within.left(ctx)
	defer cancel()
	if before.Err() != nil {
		return nil, context.Cause(before)
	}
	if err := s.recheckAtResume(before); err != nil {
		return nil, err
	}
	done, err := s.env.Queues.Telling(before, s.user) // the difference may turn out to be large
	if err != nil {
		return nil, errors.Join(errUnread, err)
	}
	defer done()
	r, err := s.turn(ctx, within, t)
	if err != nil || s.park.view == nil {
		return r.conn, err
	}
	if len(r.missed.Changed) <= fewChanges {
		done()
	}
	if s.park.leaving != track.Stays {
		err = s.tellLeft()
	} else {
		err = s.tellMissed(r.missed, r.uids)
	}
	t.Steps.Done(telemetry.StepTell, s.env.Now(), err)
	if t.Owed = 0; s.park.deferred != nil {
		t.Owed = int(s.park.deferred.n.Deferred().Count())
	}
	if err != nil {
		_ = r.conn.Abort()
		return nil, err
	}
	return r.conn, nil
}

// turn waits for the user's turn at the backend and then calls again. Turns and rate are bounded because new
// mail may wake many sessions at once, each of which may log in.
func (s *Session) turn(ctx context.Context, within *patience, t *telemetry.Resume) (resumed, error) {
	if f := s.park.found; f != nil && f.ready && s.park.leaving != track.Leaves { // nothing is left to do at the backend
		if f = s.takeFound(); f != nil {
			return s.againOn(ctx, f, t)
		}
	}
	r := s.env.Queues.resumesAt(s.picked().Backend.ID)
	if err := within.turn(ctx, r, func(ctx context.Context) error { return r.enter(ctx, s.user, s.park.hasCommand || s.clientWaits()) }); err != nil {
		return resumed{}, err
	}
	defer r.leave(s.user)
	t.Steps.Done(telemetry.StepTurn, s.env.Now(), nil)
	ctx, tried := within.try(ctx, r, cmp.Or(s.settings().Park.ResumeTry, DefaultResumeTry))
	again, err := s.again(ctx, t)
	tried(err)
	return again, err
}

// longestResumePause is the longest pause between two attempts of the session: it is shorter where a client waits.
func (s *Session) longestResumePause() time.Duration {
	if s.park.hasCommand || s.clientWaits() {
		return longestPause(s.env.Registry.Count(Resuming))
	}
	return 5 * time.Second
}

// reattach makes c the session's connection and returns the next phase. asked is as in resumed. If the client is in IDLE, the backend
// is put into IDLE as well, and the client's DONE will go to it.
func (s *Session) reattach(c *upstream.Conn, t telemetry.Resume, asked time.Time) phase {
	s.relays()
	s.inFlight.Attach()
	s.backend.Store(c)
	if s.Reason() != "" { // Terminate or Abort came before the backend was stored, and so didn't interrupt it
		s.resumed(t, asked, nil)
		return phaseEnd
	}
	if left := s.settlesFor(c.Caps); left != nil {
		_ = s.out.say(left) // the relay notices if it can't be written
	}
	s.park.mu.Lock()
	idle := s.park.idle
	s.down.leaves = s.park.view != nil && s.park.leaving == track.LeavesSelected
	s.park.view, s.park.idle = nil, false
	s.park.mu.Unlock()
	star := s.park.star
	s.park.star = 0 // it applies to this command only
	switch {
	case idle && s.park.deferred != nil && s.park.deferred.ends:
		s.endIdle()
	case idle:
		s.backToIdle(c)
		t.Steps.Done(telemetry.StepIdle, s.env.Now(), nil)
	}
	s.resumed(t, asked, nil)
	switch {
	case s.Reason() != "":
		return phaseEnd
	case s.park.deferred != nil:
		return phaseCatchUp
	case star != 0:
		s.client.Unread(track.ExpandStar(s.client.TakeUnread(), star))
	}
	return phaseRelay
}
