package session

import (
	"errors"
	"io"
	"syscall"

	"imapproxy/proxy/track"
)

// errLost says that the backend connection was lost while the session was being parked.
var errLost = errors.New("the backend connection is lost")

// survives says whether a session goes on if its backend connection is lost now. The relay's readers are still
// stopping; paused makes the rest of the decision.
func (s *Session) survives() bool {
	return s.mayGoOn() && s.cred.there() && !s.halfClosed.Load() && s.Reason() == "" && (s.out.atBoundary() || s.out.continues()) && s.inFlight.CanSurvive() == track.BlockerNone
}

// lose asks the relay's readers to stop after the backend connection was lost. The reader that finds the loss
// calls it.
func (s *Session) lose() {
	s.inFlight.Lose()
	s.Signal(sigLost)
}

// cut makes the session's owner treat its backend connection as lost: the relay stops, and an attempt to park is
// given up. It returns false if the owner's phase doesn't take the signal.
func (s *Session) cut() bool {
	c := &s.control
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.signalLocked(sigLost) {
		return s.Reason() == "" && c.pending&sigLost != 0
	}
	s.inFlight.Lose()
	s.abandon()
	s.interruptBackendLocked()
	return true
}

// endSeen says whether the error of a read means that the backend has ended the connection.
func endSeen(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// evict takes away a backend connection that has to be closed now: it counts as lost (recover.go). If the
// session can't go on with another connection, it ends. Its client is told, unless a response to it is
// incomplete.
func (s *Session) evict() {
	if !s.severs() {
		s.endMoved()
	}
}

// severs takes the backend connection away. It returns false if the session can't go on with another connection.
func (s *Session) severs() bool { return s.survives() && s.cut() }

// endMoved ends a session that can't give up its backend connection and go on.
func (s *Session) endMoved() {
	s.Terminate(ReasonMoved)
	if !s.out.atBoundary() {
		s.abort() // a boundary may never come
	}
}
