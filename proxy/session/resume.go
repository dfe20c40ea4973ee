package session

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// resumePause is the pause before the second attempt of a resume; later pauses are longer.
const resumePause = 250 * time.Millisecond

// resume gets a backend connection for a parked session and tells the client what it missed before its command
// goes on. Attempts don't overlap, so an attempt that has timed out can't have an effect later.
func (s *Session) resume() phase {
	pause, began := resumePause, s.env.Now()
	end := time.Now().Add(cmp.Or(s.settings().Park.ResumeWithin, DefaultResumeWithin))
	t := telemetry.Resume{Session: s.id, Login: s.trace(), User: s.user, Backend: s.picked().Backend.Shown(), Wake: s.park.cause, Source: telemetry.SourceNone,
		Start: began, Steps: s.env.Telemetry.Steps(began)}
	if s.park.sub != nil {
		t.Mailbox = s.park.box
	}
	if s.reassigned() { // the user has moved since the last sweep
		if err := s.repick(""); errors.Is(err, errReassigned) {
			s.Terminate(ReasonMoved)
			s.resumed(t, err)
			return phaseEnd
		}
	}
	heard := began
	for moves := 0; ; {
		t.Attempts++
		t.Backend = s.picked().Backend.Shown()
		mark := t.Steps.Mark()
		ctx, cancel := s.within(time.Until(end)) // LetGo ends one attempt, not the resume
		c, err := s.attempt(ctx, &t)
		cancel()
		if err != nil {
			s.picked().Rest() // a session without a connection must not hold its user at the backend
		}
		switch {
		case s.Reason() != "":
			if c != nil {
				_ = c.Abort()
			}
			s.resumed(t, err)
			return phaseEnd
		case err == nil:
			return s.reattach(c, t)
		case s.elsewhere(err):
			ctx, cancel = s.within(time.Until(end))
			move := s.repickAfter(ctx, err)
			cancel()
			if errors.Is(move, errReassigned) {
				s.Terminate(ReasonMoved)
				s.resumed(t, errors.Join(err, move))
				return phaseEnd
			}
			if s.Reason() != "" {
				s.resumed(t, err)
				return phaseEnd
			}
			if moves++; move == nil && moves < maxBackends && time.Now().Before(end) {
				t.Steps.Fold(mark, telemetry.StepAttempt, s.env.Now(), err)
				continue
			}
		case final(err) || !time.Now().Before(end):
			s.log().Warn("a parked session can't be resumed", "error", err)
			s.Terminate(endOf(err))
			s.resumed(t, err)
			return phaseEnd
		}
		if s.failOver(began) {
			t.Steps.Fold(mark, telemetry.StepAttempt, s.env.Now(), err)
			continue
		}
		if others, ok := s.env.Queues.resumesAt(s.picked().Backend.ID).again.may(s.env.Now()); ok {
			s.log().Info("resume is tried again", "error", err, "in", pause, "others", others)
		}
		if s.park.hasCommand && s.out.atBoundary() {
			s.stillHere(&heard)
		}
		t.Steps.Fold(mark, telemetry.StepAttempt, s.env.Now(), err)
		ctx, cancel = s.within(time.Until(end))
		select {
		case <-time.After(pause):
			pause = min(2*pause, 5*time.Second)
		case <-ctx.Done():
		}
		cancel()
		t.Steps.Done(telemetry.StepPause, s.env.Now(), nil)
	}
}

// resumed reports the outcome of a resume to telemetry.
func (s *Session) resumed(t telemetry.Resume, err error) {
	t.Outcome, t.Err, t.End = "ok", err, s.env.Now()
	if r := s.Reason(); r != "" {
		t.Outcome = string(r)
	}
	if err != nil {
		s.env.Registry.failures.note(s.user, Failure{Time: t.End, What: "resume", Reason: t.Outcome, Client: s.addr.String(), Backend: t.Backend, Error: err.Error()})
	}
	s.env.Telemetry.Resume(t)
}

// attempt makes one attempt: first, in the user's turn, the exchange with the backend; then it tells the
// client what it missed. The client may read slowly, so the turn at the backend is given back before.
func (s *Session) attempt(ctx context.Context, t *telemetry.Resume) (*upstream.Conn, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := s.recheckAtResume(ctx); err != nil {
		return nil, err
	}
	done, err := s.env.Queues.Telling(ctx, s.user) // the difference may turn out to be large
	if err != nil {
		return nil, errors.Join(errUnread, err)
	}
	defer done()
	r, err := s.turn(ctx, t)
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
func (s *Session) turn(ctx context.Context, t *telemetry.Resume) (resumed, error) {
	r := s.env.Queues.resumesAt(s.picked().Backend.ID)
	if err := r.turns.Acquire(ctx, s.user); err != nil {
		return resumed{}, err
	}
	defer r.turns.Release(s.user)
	if err := r.rate.Wait(ctx); err != nil {
		return resumed{}, err
	}
	t.Steps.Done(telemetry.StepTurn, s.env.Now(), nil)
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.settings().Park.ResumeTry, DefaultResumeTry))
	defer cancel()
	return s.again(ctx, t)
}

// resumed is what an attempt got from the backend: a connection in the same state as the session's former one
// and, if a mailbox is selected, what the client has missed and the UIDs of the mailbox's messages.
type resumed struct {
	conn   *upstream.Conn
	missed view.Difference
	uids   view.UIDs
}

// final says whether another attempt is useless.
func final(err error) bool {
	var refused *upstream.Refused
	var gone *imapclient.Refusal
	var other *view.NotSame
	var out *lockedOut
	var less *lacks
	return errors.As(err, &refused) || errors.As(err, &less) || errors.As(err, &out) || errors.As(err, &gone) && !gone.Passing() || errors.As(err, &other) || hopeless(err)
}

// hopeless says whether each further attempt would fail with the same error, because the mailbox or the
// backend has changed.
func hopeless(err error) bool {
	for _, e := range []error{errReadOnly, resync.ErrTooMany, resync.ErrNoModSeq, resync.ErrNotEnabled, resync.ErrName, view.ErrGap, view.ErrNoFlags} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// errReadOnly says that the mailbox has become read-only.
var errReadOnly = errors.New("the mailbox has become read-only")

// errUnread says that the session didn't get one of its user's places for large differences in time.
var errUnread = errors.New("the user's other sessions are told much, and their clients don't read it")

// endOf returns the reason with which a failed resume ends the session.
func endOf(err error) Reason {
	var refused *upstream.Refused
	var out *lockedOut
	var gone *imapclient.Refusal
	var other *view.NotSame
	var less *lacks
	switch {
	case errors.Is(err, errUnread):
		return ReasonClientUnread
	case errors.As(err, &refused), errors.As(err, &out):
		return ReasonCredentials
	case errors.As(err, &gone) && !gone.Passing() || hopeless(err):
		return ReasonMailboxGone
	case errors.As(err, &other):
		return ReasonNotSame
	case errors.As(err, &less):
		return ReasonMoved
	}
	return ReasonBackendLost
}

// again gets a connection, enables the client's extensions, selects the mailbox and finds the difference. It
// sends nothing to the client.
func (s *Session) again(ctx context.Context, trace *telemetry.Resume) (resumed, error) {
	s.leaving.Store(false) // LetGo meant an earlier connection
	if s.overdue() {       // a pooled connection may not be used either
		return resumed{}, errOverdue
	}
	t := &s.inFlight.Client
	enable := t.Enabled
	if t.Dialect == view.CondStore && !slices.Contains(enable, "CONDSTORE") {
		enable = append(enable[:len(enable):len(enable)], "CONDSTORE") // the client enabled it with another command than ENABLE
	}
	var enabled []string
	c := s.pooledConn()
	if c != nil {
		enabled, trace.Source = enable, telemetry.SourcePool // the pool's key includes them
		trace.Steps.Done(telemetry.StepPool, s.env.Now(), nil)
	} else {
		var err error
		c, err = s.loginAgain(ctx)
		trace.Steps.Done(telemetry.StepLogin, s.env.Now(), err)
		if err != nil {
			return resumed{}, err
		}
		trace.Source = telemetry.SourceLogin
	}
	if p := s.picked(); c.Target.ID != p.Backend.ID || !p.Hold() { // the user's other sessions are at another backend, so this one mustn't be here
		_ = c.Abort()
		return resumed{}, errReassigned
	}
	if err := s.able(c); err != nil {
		_ = c.Abort()
		return resumed{}, err
	}
	var heard heardMeanwhile
	imap := resync.NewClient(c.Conn, c.Caps, resync.Options{Enabled: enabled, Forward: heard.pass})
	diff, uids, err := s.reselect(ctx, imap, enable, &heard, trace.Steps)
	rerr := imap.Release()
	if err = errors.Join(err, rerr); err != nil {
		_ = c.Abort()
		return resumed{}, err
	}
	return resumed{conn: c, missed: diff, uids: uids}, nil
}

// tellMissed tells the client what it missed. In the following cases catch-up tells it later, since catch-up
// reads each command whole:
//   - The command has message numbers that the client counted before: EXPUNGE may not be sent then (RFC 9051
//     §7.5.1). After ENABLE UIDONLY a backend answers BAD to such commands (RFC 9586 §3.1).
//   - No command is in progress: STORE 4 may be on its way, or STORE *, which mustn't mean a message that
//     has arrived since.
//   - Another command has arrived after this one: the client wrote it before it could read what it is told
//     now, so the command's numbers and its "*" refer to the view. After DONE this also holds for the flags
//     that a silent STORE changes.
//   - The line of a command that changes or copies messages is incomplete: it may contain "*", or be a
//     silent STORE of messages whose flags have changed (see spareUnread).
func (s *Session) tellMissed(d view.Difference, uids view.UIDs) error {
	t := &s.inFlight.Client
	behind := s.park.hasCommand && s.behind()
	moved := d.HasExpunge() || !d.New.Empty()
	s.park.mu.Lock()
	v, idle := s.park.view, s.park.idle
	s.park.state, s.park.deferred, s.park.star, s.park.ends = nil, nil, 0, false
	if s.park.hasCommand && !idle && moved {
		s.park.star = track.StarValue(v.UIDs, s.park.verb)
	}
	owes := false
	switch {
	case idle || d.Empty():
	case s.park.hasCommand:
		owes = d.HasExpunge() && !t.UIDOnly && s.park.verb.Rule().Set != wire.NoSet || s.marksUnread()
	default:
		owes = moved
	}
	if owes || behind && (moved || idle && len(d.Changed) > 0) {
		defer s.park.mu.Unlock()
		if len(d.Changed) > maxDeferredChanges {
			return resync.ErrTooMany
		}
		now := d
		if !t.UIDOnly { // with UIDONLY, everything is told at once
			now, _ = d.Split(t.Dialect)
		}
		n, err := view.NewSequenceMap(v.After(now).UIDs, uids)
		if err == nil {
			s.park.deferred, s.park.ends = &deferred{missed: d, view: v, n: n}, idle
		}
		return err
	}
	if s.park.hasCommand && !idle {
		d = s.spareUnread(d, v)
	}
	after := v.After(d)
	s.park.view = after
	s.park.mu.Unlock()
	err := s.tellDifference(d, v, nil)
	t.Mailbox.Update(after)
	return err
}

// marksUnread says whether the command that the session is resumed for changes or copies messages and its line
// is still incomplete.
func (s *Session) marksUnread() bool {
	return s.park.verb.Rule().Marks && bytes.IndexByte(s.client.PutBack(), '\n') < 0
}

// behind says whether the client has sent more than the command that the session is resumed for. In IDLE that
// command is DONE; the backend refuses any other line.
func (s *Session) behind() bool {
	b := s.client.PutBack()
	if _, idle := s.inFlight.State(); idle && !wire.IsDone(wire.FirstLine(b)) {
		return false
	}
	n, whole := wire.UnitLen(b)
	return whole && (n < len(b) || s.client.Arrived())
}

// heardMeanwhile records what a resumed connection sends after SELECT and before the client has the
// connection: the backend won't send it again.
type heardMeanwhile struct {
	data  bool
	flags view.Flags // of the last FLAGS response
}

// pass implements the Forward of resync.Options.
func (m *heardMeanwhile) pass(line []byte) {
	h := wire.ParseResponseHead(line)
	m.data = m.data || h.Status == wire.NoStatus
	if wire.Is(h.Name, "FLAGS") {
		if f, err := view.ParseFlags(h.Rest); err == nil {
			m.flags = f
		}
	}
}

// reselect enables the client's extensions and selects its mailbox on a new connection, and finds what the
// client has missed. uids are the messages of the mailbox on this connection.
func (s *Session) reselect(ctx context.Context, imap *resync.Client, enable []string, heard *heardMeanwhile, steps *telemetry.Steps) (d view.Difference, uids view.UIDs, err error) {
	t := &s.inFlight.Client
	err = imap.Enable(ctx, enable...)
	steps.Done(telemetry.StepEnable, s.env.Now(), err)
	if err != nil {
		return d, uids, err
	}
	s.park.mu.Lock() // waits for an Apply that has begun; no other follows
	v := s.park.view
	s.park.mu.Unlock()
	if v == nil || s.park.leaving == track.Leaves {
		return d, uids, nil
	}
	for try := 0; ; try++ {
		sel, err := imap.Select(ctx, t.Mailbox.ReadOnly, v.Mailbox, "", nil)
		steps.Done(telemetry.StepSelect, s.env.Now(), err)
		if err != nil {
			return d, uids, err
		}
		switch {
		case s.park.leaving == track.Stays:
		case sel.UIDValidity != v.UIDValidity:
			return d, uids, &view.NotSame{Reason: view.OtherUIDValidity}
		default:
			return d, uids, nil // the client leaves the mailbox, so it isn't told what it missed
		}
		if sel.ReadOnly && !v.ReadOnly {
			return d, uids, errReadOnly
		}
		heard.data = false
		uids, err = imap.Snapshot(ctx)
		steps.Done(telemetry.StepSnapshot, s.env.Now(), err)
		if err != nil {
			return d, uids, err
		}
		if !heard.data && v.ModSeq != 0 && sel.ModSeq == v.ModSeq && sel.UIDValidity == v.UIDValidity && uids.Equal(v.UIDs) && v.Told == nil {
			return view.Difference{}.Lists(v, sel.Flags).Lists(v, heard.flags), uids, nil // nothing has changed
		}
		state, err := s.park.sub.Resync(ctx, v)
		if err == nil {
			d, err = view.Compare(v, state)
		}
		steps.Done(telemetry.StepDifference, s.env.Now(), err)
		if err != nil {
			return d, uids, err
		}
		if !d.Again && v.After(d).UIDs.Equal(uids) {
			return d.Lists(v, sel.Flags).Lists(v, heard.flags), uids, nil
		}
		if try == 2 {
			return d, uids, resync.ErrUnsettled
		}
	}
}

// reattach makes c the session's connection and returns the next phase. If the client is in IDLE, the backend
// is put into IDLE as well, and the client's DONE will go to it.
func (s *Session) reattach(c *upstream.Conn, t telemetry.Resume) phase {
	s.relays()
	s.backend.Store(c)
	if s.Reason() != "" { // Terminate or Abort came before the backend was stored, and so didn't interrupt it
		s.resumed(t, nil)
		return phaseEnd
	}
	s.park.mu.Lock()
	idle := s.park.idle
	s.park.view, s.park.idle = nil, false
	s.park.mu.Unlock()
	star := s.park.star
	s.park.star = 0 // it applies to this command only
	switch {
	case idle && s.park.ends:
		s.endIdle()
	case idle:
		s.backToIdle(c, track.ModeIdle)
		t.Steps.Done(telemetry.StepIdle, s.env.Now(), nil)
	}
	s.resumed(t, nil)
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

// endIdle answers the DONE with which the client's unread bytes begin.
func (s *Session) endIdle() {
	b := s.client.TakeUnread()
	s.client.Unread(b[len(wire.FirstLine(b)):])
	tag := s.inFlight.IdleTag()
	if s.say([]byte(tag+" OK Idle completed\r\n")) == nil {
		s.answered(wire.ResponseHead{Kind: wire.Tagged, Tag: []byte(tag), Status: wire.OK}, s.env.Now())
	}
}
