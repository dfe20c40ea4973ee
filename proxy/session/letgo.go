package session

import (
	"time"

	"imapproxy/internal/clock"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/track"
)

// LetGo asks the session to give up its backend connection, because its user is to be at another backend. The
// session is parked at the next safe point, without having been idle first; if it can't be parked now, that is
// tried again at each command boundary. A parked session has no connection, and picks its backend anew when it
// needs one; so does one that is away (restHome). Where storage isn't shared neither can follow its user: noticeMove ends it. With abort, the connection is closed now without another byte on it: the session recovers on
// another connection, or ends with ReasonMoved if it can't; a session with nothing selected and no command in
// progress is parked. LetGo doesn't wait, and may be called again.
func (s *Session) LetGo(abort bool) {
	at := Attachment(s.attachment.Load())
	if at == None || at == Parked || at == Ended {
		return
	}
	again := s.leaving.Swap(true) // a resume that is in progress then gives up what it got before this call
	switch {
	case s.Away(): // and so does takeHome
	case !abort:
		s.park.notTill.Store(0)
		s.tryToLeave(s.env.Now())
	case at == Resuming:
		s.abandon()
	case again || !s.leavesUnheard():
		if !s.severs() && !s.Away() { // away: its owner has given the connection up meanwhile
			s.endMoved()
		}
	}
}

// Stay takes LetGo back if the session still has its connection, its user is to be where it is, and no pause is the reason: the session
// would be parked for nothing.
func (s *Session) Stay() {
	at := Attachment(s.attachment.Load())
	if !s.leaving.Load() || at != Attached && at != CatchingUp || s.destined() || s.reassigned() {
		return
	}
	if _, _, paused := s.settings().Router.Paused(s.picked().Backend.ID); !paused {
		s.leaving.Store(false)
	}
}

// leavesUnheard asks for a park that needs no further byte on the backend connection. It returns false if that
// can't be done: it needs that nothing is selected and no command is in progress.
func (s *Session) leavesUnheard() bool {
	how, _ := s.inFlight.CanLeave()
	if how != track.ModeUnselected || s.Visiting() || !s.mayPark() {
		return false
	}
	s.Signal(SigPause)
	return true
}

// leavesUnwatched says whether the session can be parked before its mailbox is watched: changes are found by
// mod-sequences, and a mod-sequence bounds the view, so a resync can find later what has changed since. A
// session that leaves its backend is parked in this way, since no new connection, and so no watch, may be
// opened there.
func (s *Session) leavesUnwatched() bool {
	return s.leaving.Load() && resync.Choose(s.caps.Load().list, 0) == resync.Strategy(resync.ByQResync{})
}

// tryToLeave has a session parked that is to leave its backend, if that can be done now; otherwise the blocker
// says why not. It is called at each command boundary, and by the sweep.
func (s *Session) tryToLeave(now time.Time) {
	if !s.leaving.Load() || Attachment(s.attachment.Load()) != Attached || !s.mayPark() || s.halfClosed.Load() {
		return
	}
	if s.Visiting() {
		s.park.blocker.Store(uint32(track.BlockerShared))
		return
	}
	how, why := s.inFlight.CanLeave()
	if how != track.ModeNone && (clock.Of(now) < s.park.notTill.Load() || s.overdue()) {
		return // an attempt has failed; the blocker says why
	}
	if how != track.ModeNone && s.wouldLose() {
		how, why = track.ModeNone, track.BlockerCapabilities
	}
	s.park.blocker.Store(uint32(why))
	if how != track.ModeNone {
		s.Signal(SigPause)
	}
}

// wouldLose says whether the backend that the user is to go to is known to lack a capability that the client
// was told of. The session, and its user with it, then stays where it is.
func (s *Session) wouldLose() bool {
	to := s.settings().Router.Destination(s.user)
	return to != "" && to != s.picked().Backend.ID && len(s.Lacks(to)) > 0
}

// Lacks returns the capabilities that the client was told and that a backend (its ID) is known to lack.
func (s *Session) Lacks(backend string) []string {
	there, told := s.env.Capabilities.at(backend), s.caps.Load()
	if there == nil || told == nil || there == told {
		return nil
	}
	return missing(there.list, told.list)
}

// Leaves says whether the session is to give up its backend connection and still has it. why is what keeps it
// from being parked, "" if it is being parked or resumed.
func (s *Session) Leaves() (why string, leaves bool) {
	switch at := Attachment(s.attachment.Load()); {
	case !s.leaving.Load() || s.Away():
		return "", false
	case at == Attached:
		return track.Blocker(s.park.blocker.Load()).String(), true
	case at == CatchingUp:
		return at.String(), true
	default:
		return "", at == Parking || at == Resuming
	}
}
