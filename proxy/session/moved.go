package session

import (
	"context"
	"errors"
	"time"

	"imapproxy/proxy/upstream"
	"imapproxy/routing"
)

// A session without a backend connection follows its user to another backend, since it has no state at the old
// one. The strategies of a resync decide by UIDVALIDITY and mod-sequences whether the mailbox there is the
// same.

// errReassigned says that the user is at another backend than the session.
var errReassigned = errors.New("the user was sent to another backend")

// reassigned says whether the user was sent to another backend.
func (s *Session) reassigned() bool {
	select {
	case <-s.picked().Void():
		return true
	default:
		return false
	}
}

// repick has the session follow its user to backend or, if that is "", to the backend of the user's other
// sessions. The session has no backend connection. Several goroutines may call repick at the same time; a call
// that comes late does nothing.
func (s *Session) repick(backend string) error {
	old := s.picked()
	if !s.settings().Router.Shares() {
		return errReassigned // the user's mail isn't at the other backend
	}
	fresh, err := old.Follow(backend)
	switch {
	case err != nil && s.picked() != old:
		return nil
	case err != nil:
		return err
	}
	s.pick.Store(fresh) // a pick is followed only once, so no other goroutine has stored one meanwhile
	if s.Reason() != "" {
		fresh.Release() // account may have released the old pick already
	}
	s.log().Debug("the session follows its user", "from", old.Backend.Shown())
	return nil
}

// noticeMove handles a session whose user was sent to another backend:
//
//	attached, catching up    ends with ReasonMoved: two backends mustn't serve one user
//	parking, resuming        its phase handles the move, or the next sweep does
//	parked, away             follows, and so do its user's watches; ends with ReasonMoved if it can't
//
// A session is away while its client uses another user's mailbox and it has no connection to its own user's backend (restHome). Its owner may be
// taking one (connectHome): then either the pick holds it, and doesn't follow, or the connection isn't used.
// With separate storage no session can follow: one that has no connection to its user's backend also ends when the proxies are to have the
// user elsewhere, so that its client logs in there. It would hear nothing more at this backend.
func (s *Session) noticeMove() {
	at := Attachment(s.attachment.Load())
	if s.guestMoved() {
		s.Terminate(ReasonMoved)
		return
	}
	if !s.reassigned() {
		if (at == Parked || s.Away()) && !s.settings().Router.Shares() && s.destined() {
			s.Terminate(ReasonMoved)
		}
		return
	}
	switch {
	case at == Parked || s.Away():
		if err := s.repick(""); errors.Is(err, errReassigned) {
			s.Terminate(ReasonMoved)
		} else if err == nil && s.set.Park.Hub != nil {
			s.set.Park.Hub.Follow(s.user, s.picked().Backend.ID)
		}
	case at == Attached || at == CatchingUp:
		s.Terminate(ReasonMoved)
	}
}

// destined says whether the proxies are to have the user at another backend than the session's.
func (s *Session) destined() bool {
	to := s.settings().Router.Destination(s.user)
	return to != "" && to != s.picked().Backend.ID
}

// elsewhere says whether an attempt to get a connection failed because the user is at another backend or is
// being moved.
func (s *Session) elsewhere(err error) bool {
	_, ok := errors.AsType[*upstream.Elsewhere](err)
	return ok || errors.Is(err, errReassigned) || s.reassigned()
}

// repickNow has the session follow its user after an attempt for which elsewhere returned true. If the user is
// being moved, it returns err.
func (s *Session) repickNow(err error) error {
	e, ok := errors.AsType[*upstream.Elsewhere](err)
	switch {
	case !ok:
		return s.repick("")
	case e.Backend != "":
		return s.repick(e.Backend)
	}
	return err
}

// repickAfter is repickNow, but if the user is being moved it waits until the proxies agree on the user's
// backend.
func (s *Session) repickAfter(ctx context.Context, err error) error {
	e, ok := errors.AsType[*upstream.Elsewhere](err)
	if !ok || e.Backend != "" || !s.settings().Router.Shares() {
		return s.repickNow(err)
	}
	ctx, cancel := context.WithTimeout(ctx, agreesWithin)
	defer cancel()
	backend, err := s.settings().Router.Agreed(ctx, s.user)
	if err != nil || backend == s.picked().Backend.ID && !s.reassigned() {
		return err
	}
	return s.repick(backend)
}

// agreesWithin bounds one wait for the proxies. If another session keeps the user where they are, a later attempt
// gets a connection there.
const agreesWithin = 3 * time.Second

// elsewhereAfter is how long a backend that isn't marked down may be out of reach before its sessions go on at
// another backend: a restart takes less time.
const elsewhereAfter = 15 * time.Second

// failOver sends a session without a connection to the backend that a login of its user would get, if the
// session's backend is down or has been out of reach since then. It says whether the session has moved.
func (s *Session) failOver(since time.Time) bool {
	old := s.picked()
	if old.Current().State != routing.Down && s.env.Now().Sub(since) < elsewhereAfter {
		return false
	}
	to, err := old.FailsOver(s.unable()...)
	if err != nil {
		to, err = old.FailsOver() // to one that lacks something, if there is no other
	}
	return err == nil && s.repick(to) == nil
}

// movesOn sends a session without a connection, whose backend was found to lack something, to a backend where a login of its user may go and that isn't known to lack it.
// It says whether the session has moved.
func (s *Session) movesOn(err error) bool {
	if less := (*lacks)(nil); !errors.As(err, &less) || !s.settings().Router.Shares() {
		return false
	}
	to, err := s.picked().FailsOver(s.unable()...)
	return err == nil && s.repick(to) == nil
}

// maxBackends is how many backends one login tries.
const maxBackends = 3
