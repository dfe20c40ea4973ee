package session

import (
	"cmp"
	"context"
	"errors"
	"time"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// goneHome is the answer to a command whose connection to the user's own backend was lost.
const goneHome = "[UNAVAILABLE] The connection to the mail server was lost; the command may have been done"

// withoutHome says whether err is the loss of the session's own connection, and the session can go on with another one: the client has
// no part of a response, and sends no rest of a command.
func (o *visit) withoutHome(err error) bool {
	s := o.s
	lost, ok := errors.AsType[*lostLeg](err)
	return ok && lost.leg == o.home && !o.homeCut && !o.partly && !o.literal && s.out.atBoundary() && s.survives()
}

// reopenHome takes another connection for the session's own, which is lost and had nothing selected.
func (o *visit) reopenHome() error {
	s := o.s
	_ = o.home.conn.Abort()
	s.control.mu.Lock()
	s.backend.Store(nil) // the session is away until it has another one
	s.control.mu.Unlock()
	s.picked().Rest() // without a connection the session must not hold its user at the backend
	s.log().Info("the session's own connection is lost while a shared mailbox is used")
	return o.connectHome()
}

// restHome gives the session's own connection up while the client idles in another user's mailbox, if nothing of the client's is on it. long:
// the client has idled for park.linger.
func (o *visit) restHome(long bool) {
	s := o.s
	if how, _ := s.inFlight.CanLeave(); !long || o.away || how != track.ModeUnselected || !s.survives() || !s.mayPark() || s.overdue() {
		return
	}
	b := o.home.conn
	b.Caps = s.caps.Load().list
	b.Unread(o.home.r.Buffered())
	b.LimitReads(time.Time{})
	o.away = true
	s.give(b, upstream.Condition{Selected: o.homeSelects})
	s.picked().Rest()
}

// needsHome says whether a command may need the session's own connection while another user's mailbox is selected.
func needsHome(v wire.Verb) bool {
	switch v {
	case wire.Idle, wire.Noop, wire.Check, wire.Expunge, wire.Search, wire.Fetch, wire.Store, wire.Sort, wire.Thread, wire.UIDExpunge, wire.UIDFetch,
		wire.UIDSearch, wire.UIDSort, wire.UIDStore, wire.UIDThread, wire.Logout:
		return false
	}
	return true
}

// connectHome takes a connection for the session's own. It waits, follows the user and tries again as a resume does: while the backend is paused
// no attempt is made, and the time of the pause doesn't count.
func (o *visit) connectHome() error {
	s := o.s
	pause, began := recoverPause, s.env.Now()
	within := newPatience(cmp.Or(s.settings().Park.ResumeWithin, DefaultResumeWithin), s.later)
	heard := began
	for moves := 0; ; pause = min(2*pause, maxRecoverPause) {
		if waited := s.pausedOut(&heard, s.out.atBoundary); waited > 0 {
			within.paused(waited)
			began, pause = began.Add(waited), recoverPause
		}
		turns := s.env.Queues.resumesAt(s.picked().Backend.ID)
		reached := *turns.reached.Load()
		ctx, cancel := s.within(within.longest())
		stop := s.reassures(&heard, true)
		c, err := o.anotherHome(ctx, within, turns)
		stop()
		cancel()
		if err == nil {
			err = s.takeHome(c)
		}
		if err != nil {
			s.picked().Rest()
		}
		over := within.over()
		switch {
		case err == nil:
			if s.Reason() != "" { // the end came before the connection was stored, and so didn't interrupt it
				return errSessionOver
			}
			o.home, o.homeUsed, o.homeSelects, o.away = newLeg(c), s.env.Now(), false, false
			if left := s.settlesFor(c.Caps); left != nil {
				return o.write(left, true)
			}
			return nil
		case s.Reason() != "":
			return errSessionOver
		case s.elsewhere(err) && !over:
			ctx, cancel = s.within(time.Until(within.end))
			move := s.repickAfter(ctx, err)
			cancel()
			if errors.Is(move, errReassigned) {
				s.Terminate(ReasonMoved)
			}
			if s.Reason() != "" {
				return errSessionOver
			}
			if moves++; move == nil && moves < maxBackends {
				continue
			}
		case moves < maxBackends && !over && s.movesOn(err):
			moves++
			continue
		case final(err) || over:
			s.log().Warn("the session's own connection can't be made again", "error", err)
			s.Terminate(endOf(err))
			return errSessionOver
		}
		if s.failOver(began) {
			continue
		}
		if others, ok := turns.again.may(s.env.Now()); ok {
			s.log().Info("the session's own connection isn't made yet", "error", err, "in", pause, "others", others)
		}
		ctx, cancel = s.within(time.Until(within.end))
		turns.pause(ctx, pause, since(err, reached))
		cancel()
	}
}

// errLetGo says that a connection was to be given up while it was made.
var errLetGo = errors.New("the backend connection was to be given up")

// takeHome makes c the session's own connection, unless LetGo was called since c was begun.
func (s *Session) takeHome(c *upstream.Conn) error {
	s.backend.Store(c) // before leaving is read: LetGo sets it, and then looks for a connection
	if !s.leaving.Load() {
		return nil
	}
	s.control.mu.Lock()
	s.backend.Store(nil)
	s.control.mu.Unlock()
	_ = c.Abort()
	return errLetGo
}

// anotherHome makes one attempt to get a connection on which is enabled what the client has enabled.
func (o *visit) anotherHome(ctx context.Context, within *patience, turns *resumes) (_ *upstream.Conn, err error) {
	s := o.s
	if err := within.turn(ctx, turns, func(ctx context.Context) error { return turns.enter(ctx, s.user, true) }); err != nil {
		return nil, err
	}
	defer turns.leave(s.user)
	ctx, tried := within.try(ctx, turns, cmp.Or(s.settings().Park.ResumeTry, DefaultResumeTry))
	defer func() { tried(err) }()
	c, enable, enabled, err := s.reconnect(ctx, &telemetry.Resume{})
	if err != nil {
		return nil, err
	}
	if len(enabled) == 0 && len(enable) > 0 {
		imap := imapclient.New(c.Conn, imapclient.Options{})
		if err = imap.Enable(ctx, enable...); err == nil {
			err = imap.Release()
		}
		if err != nil {
			_ = c.Abort()
			return nil, err
		}
	}
	return c, nil
}
