package session

import (
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/track"
	"imapproxy/telemetry"
)

// orphanFor is how long a backend may still answer after the client has shut its sending side and the proxy
// has shut its own towards the backend.
const orphanFor = time.Minute

// relay relays IMAP between client and backend until one of them ends the connection or the session may be
// parked. Both directions have stopped when it returns.
func (s *Session) relay() phase {
	s.client.Trim(s.env.Buffers)
	s.out.wake()
	b := s.backend.Load()
	b.Trim(s.env.Buffers)
	b.Progress.Hears(s.env.Now()) // it was resumed, or logged in
	s.greet()
	if s.client.PutBack() == nil {
		s.up.since = time.Time{}  // no command waits
		s.tryToLeave(s.env.Now()) // LetGo was called before the relay began
	}
	done := s.beside(func() {
		if !s.fromBackend() && !s.reusing.Load() {
			_ = b.Abort() // unless the connection goes to the pool
		}
	})
	if s.fromClient() {
		b.Interrupt(conn.Reads) // not earlier: the client's reader may wait for the backend's answers
	}
	<-done
	return s.paused()
}

// greet tells the client that it is logged in, unless it was told already.
func (s *Session) greet() {
	line := s.greeting
	s.greeting = nil
	if line == nil {
		return
	}
	if err := s.out.relay(line, true); err != nil {
		s.Terminate(ReasonClientLost)
	}
}

// fromClient reads from the client until it ends the connection or the session ends. It returns true if the
// relay only pauses.
func (s *Session) fromClient() (pauses bool) {
	for {
		err := s.client.Pump(s.env.Buffers, &s.up)
		if s.up.held {
			s.up.held = false
			if err = s.goOn(); err == nil {
				continue
			}
		}
		if s.up.visits {
			s.up.visits = false
			if err == nil && s.up.err == nil && s.up.refused == nil {
				s.inFlight.Drain() // their answers come on this connection
				return s.Signal(sigVisit) && !s.losing()
			}
		}
		if s.up.turns {
			s.up.turns = false
			if err == nil && s.up.refused == nil && s.up.err == nil {
				continue
			}
		}
		if err == nil && s.up.splices() {
			err = s.up.splice()
			if err == nil {
				continue
			}
			if !s.isPause(err) { // otherwise the splice continues after the pause
				s.up.err = err
				if s.client.Broken() {
					s.Terminate(ReasonClientLost)
				}
			}
		}
		if s.Reason() != "" {
			return false
		}
		switch {
		case s.losing():
			return false
		case s.isPause(err):
			return true
		case errors.Is(err, io.EOF):
			s.clientEnded()
			return false
		case err != nil && s.up.err == nil:
			s.Terminate(s.clientLost(err))
			return false
		case s.up.refused != nil:
			s.clientBroke()
			return false
		}
		// A write to the backend failed. The other direction reads what the backend still sends, and finds
		// that it has gone.
		s.backend.Load().LimitReads(s.env.Now().Add(lingerFor))
		return false
	}
}

// clientEnded passes on the client's incomplete line and its end of sending. The client's answers are still
// due (RFC 9293 §3.6: a half-closed connection).
func (s *Session) clientEnded() {
	if s.up.scan.AtStart() && len(s.client.Kept()) == 0 && s.reusable(true) {
		s.reusing.Store(true)
		s.Terminate(ReasonClientClosed)
		return
	}
	s.halfClosed.Store(true)
	s.up.pass(s.client.Kept())
	if err := s.backend.Load().CloseWrite(); err != nil {
		s.Terminate(ReasonClientClosed)
	}
}

// fromBackend reads from the backend until it ends the connection or the session ends. It returns true if the
// relay only pauses.
func (s *Session) fromBackend() (pauses bool) {
	for {
		err := s.backend.Load().Pump(s.env.Buffers, &s.down)
		if s.down.held {
			s.down.held = false
			if err = s.goOn(); err == nil {
				continue
			}
		}
		if err == nil && s.down.err == nil && s.down.splices() {
			if err = s.down.splice(); err == nil {
				continue
			}
			if s.client.Broken() {
				s.down.err = err
			}
		}
		if s.isPause(err) {
			return true
		}
		s.backendEnded(err)
		return false
	}
}

// backendEnded ends the session, or has it recover, after the backend's side has ended. err is the error of
// the read, nil if the receiver stopped.
func (s *Session) backendEnded(err error) {
	logout, bye := s.inFlight.Farewell()
	s.down.ended = endSeen(err)
	switch {
	case s.Reason() != "":
		if !s.out.atBoundary() { // the end would wait for a boundary, and none will come
			s.abort()
		}
	case s.down.err == nil && s.down.broken == nil && !logout && s.survives():
		s.log().Info("the backend connection is lost", "error", err, "bye", telemetry.Said(strings.TrimSpace(string(s.down.farewell))))
		s.lose()
		return
	case s.down.err != nil && s.halfClosed.Load():
		s.Terminate(ReasonClientClosed)
	case s.down.err != nil:
		s.Terminate(ReasonClientLost)
	case s.down.broken != nil:
		s.log().Warn("the backend can't be followed", "error", s.down.broken)
		s.Terminate(ReasonBackendProtocol)
	case !s.out.atBoundary(): // no boundary will come
		s.log().Warn("backend lost inside a response", "error", err)
		s.Terminate(ReasonBackendLostInner)
	case logout:
		s.Terminate(ReasonLogout)
	case bye:
		s.Terminate(s.lostBackend())
	case s.halfClosed.Load():
		s.Terminate(ReasonClientClosed)
	default:
		s.log().Warn("backend lost", "error", err)
		s.Terminate(ReasonBackendLost)
	}
}

// paused decides, after both readers have stopped, which phase follows the relay.
func (s *Session) paused() phase {
	visiting := s.visiting()
	asked, goesOn := s.rested()
	if !goesOn {
		return phaseEnd
	}
	if s.losing() { // asked after rested, which clears what interrupted the readers
		return s.lost()
	}
	if s.up.err != nil { // a write to the backend has failed: the backend may have sent more
		s.backend.Load().LimitReads(s.env.Now().Add(lingerFor))
		s.fromBackend()
		if s.losing() {
			return s.lost()
		}
		s.Terminate(ReasonBackendLost) // unless it has a reason already
		return phaseEnd
	}
	switch {
	case visiting && s.clean():
		return phaseShared
	case visiting:
		s.park.blocker.Store(uint32(track.BlockerCommand))
		s.park.mode = track.ModeNone
		return phaseRelay
	}
	if asked&(SigPause|SigDormant) == SigDormant {
		if !s.mayBeDormant() {
			s.wakeful.Store(s.lastSeen.Load())
			return phaseRelay
		}
		return phaseDormant
	}
	return s.parksNow()
}

// parksNow decides whether a session without readers is parked. Otherwise the relay goes on.
func (s *Session) parksNow() phase {
	can := s.inFlight.CanPark
	if s.leaving.Load() {
		can = s.inFlight.CanLeave
	}
	how, why := can()
	if !s.clean() {
		how, why = track.ModeNone, track.BlockerCommand
	}
	if how != track.ModeUnselected && s.overdue() { // nothing may be sent on the connection
		how, why = track.ModeNone, track.BlockerUnavailable
	}
	s.park.blocker.Store(uint32(why))
	if s.park.mode = how; how == track.ModeNone {
		return phaseRelay
	}
	return phaseDetach
}

// clean says whether both streams are between two units, with no bytes kept back.
func (s *Session) clean() bool {
	return s.up.scan.AtStart() && s.up.err == nil && s.up.refused == nil && !s.up.awaiting && len(s.client.Kept()) == 0 &&
		s.down.scan.AtStart() && s.down.err == nil && s.down.broken == nil && !s.down.rewrite && len(s.backend.Load().Kept()) == 0 &&
		s.out.atBoundary() && !s.halfClosed.Load()
}

// mayBeDormant says whether a session whose readers have stopped needs them only once something arrives on one of its sockets: no
// command is in progress but an IDLE that goes on, both streams are between two units, and no byte was taken from a socket that wasn't
// read. The session doesn't have to leave its backend.
func (s *Session) mayBeDormant() bool {
	return s.inFlight.Calm() && s.clean() && !s.client.Holding(s.env.Buffers) && !s.backend.Load().Holding(s.env.Buffers) && !s.leaving.Load()
}

// isPause says whether a Pump returned because the relay is asked to stop.
func (s *Session) isPause(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && s.pausing()
}
