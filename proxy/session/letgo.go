package session

import (
	"time"

	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/track"
)

// LetGo has the session give up its backend connection: its user is to be at another backend. It is parked at the next safe point, without
// having been idle first; where it can't be parked now, it is tried again at each command boundary. A parked session has no
// connection, and picks its backend anew when it needs one. abort: its connection is closed now, without another byte on it, and the session ends
// with ReasonMoved, unless nothing is selected. LetGo doesn't wait, and may be called again.
func (s *Session) LetGo(abort bool) {
	at := Attachment(s.attachment.Load())
	if at == None || at == Parked || at == Ended {
		return
	}
	again := s.leaving.Swap(true) // a resume that is under way gives up what it has got before this
	switch {
	case !abort:
		s.park.notTill.Store(0)
		s.tryToLeave(s.env.Now())
	case at == Resuming:
		s.abandon()
	case again || !s.leavesUnheard():
		s.evict()
	}
}

// leavesUnheard has a session parked without another byte on its backend connection, where that can be done: nothing is selected, and nothing in
// progress.
func (s *Session) leavesUnheard() bool {
	how, _ := s.inFlight.CanPark()
	if how != track.ModeUnselected || !s.mayPark() {
		return false
	}
	s.Signal(SigPause)
	return true
}

// evict takes away a backend connection that has to be closed now: it counts as lost (recover.go). Where the session can't go on
// with another one it ends. Its client is told, unless it is in the middle of a response.
func (s *Session) evict() {
	if s.survives() && s.cut() {
		return
	}
	s.Terminate(ReasonMoved)
	if !s.out.atBoundary() {
		s.abort() // no boundary may come
	}
}

// leavesUnwatched says whether the session can be parked before anything watches its mailbox, since a resync can find later what has
// happened since its view: changes are found by mod-sequences, and there is one that bounds the view. A session that leaves its backend
// is parked so: nothing new may be begun there, and its watch couldn't be either.
func (s *Session) leavesUnwatched() bool {
	return s.leaving.Load() && resync.Choose(s.caps.list, 0) == resync.Strategy(resync.ByQResync{})
}

// tryToLeave has a session that is to leave its backend parked, where that can be done now. Its blocker says why it can't. It is called
// at each command boundary, and by the sweep.
func (s *Session) tryToLeave(now time.Time) {
	if !s.leaving.Load() || Attachment(s.attachment.Load()) != Attached || !s.mayPark() || s.halfClosed.Load() {
		return
	}
	how, why := s.inFlight.CanPark()
	if how != track.ModeNone && (now.UnixNano() < s.park.notTill.Load() || s.overdue()) {
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

// wouldLose says whether the backend that the user is to go to lacks, as far as was seen, what the client was told: then the session
// stays where it is, and its user with it.
func (s *Session) wouldLose() bool {
	to := s.settings().Router.Destination(s.user)
	if to == "" || to == s.picked().Backend.ID {
		return false
	}
	there := s.env.Capabilities.at(to)
	return there != nil && there != s.caps && missing(there.list, s.caps.list) != ""
}

// Leaves says whether the session is to give up its backend connection and still has it, and what holds it: the reason that it isn't parked for,
// "" it is on its way.
func (s *Session) Leaves() (why string, leaves bool) {
	switch at := Attachment(s.attachment.Load()); {
	case !s.leaving.Load():
		return "", false
	case at == Attached:
		return track.Blocker(s.park.blocker.Load()).String(), true
	case at == CatchingUp:
		return at.String(), true
	default:
		return "", at == Parking || at == Resuming
	}
}
