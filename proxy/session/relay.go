package session

import (
	"errors"
	"io"
	"strings"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// lingerFor is how long the proxy reads and discards the client's bytes after its last line. If it closed the
// socket with bytes unread, TCP would reset the connection, and the client could lose that line.
const lingerFor = 2 * time.Second

// orphanFor is how long a backend may still answer after the client has shut its sending side and the proxy
// has shut its own towards the backend.
const orphanFor = time.Minute

// relay relays IMAP between client and backend until one of them ends the connection or the session may be
// parked. Both directions have stopped when it returns.
func (s *Session) relay() phase {
	s.client.Trim()
	b := s.backend.Load()
	b.Trim()
	b.Progress.Hears(s.env.Now()) // it was resumed, or logged in
	s.greet()
	if s.client.PutBack() == nil {
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
			s.Terminate(ReasonClientLost)
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

// clientBroke ends a session whose client's stream can't be followed any further.
func (s *Session) clientBroke() {
	switch err := s.up.refused; {
	case errors.Is(err, errSessionOver): // the session has a reason already
	case errors.Is(err, errLoggedOut):
		s.Terminate(ReasonLogout)
	case errors.Is(err, errTooMuchPending):
		s.Terminate(ReasonClientUnread)
	case errors.Is(err, errLongTag):
		s.log().Info("the client can't be followed", "error", err)
		s.Terminate(ReasonClientProtocol)
	default: // an answer of the proxy's couldn't be written
		s.Terminate(ReasonClientLost)
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
		s.log().Info("the backend connection is lost", "error", err, "bye", strings.TrimSpace(string(s.down.farewell)))
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

// give returns the session's connection to the pool. No command is in progress on it.
func (s *Session) give(c *upstream.Conn, how upstream.Condition) {
	s.control.mu.Lock()
	s.backend.Store(nil)
	s.control.mu.Unlock()
	c.Rearm(conn.Both) // undoes the interruption of an end that came just now
	if s.leaving.Swap(false) {
		_ = c.Abort() // it isn't to be used again, and sending close_notify may block
		return
	}
	s.set.Park.Pool.Give(s.poolKey(upstream.UseSession), c, how)
}

// lastWords sends the session's last line, and gives up its backend connection and its watch. phaseEnd calls
// it.
func (s *Session) lastWords() {
	if r := s.Reason(); !r.cuts() && !s.aborted.Load() {
		s.out.setLast([]byte(r.Bye())) // Terminate may not have set it yet
	}
	b := s.backend.Load()
	if b != nil && !s.reusing.Load() {
		_ = b.Abort() // before the write to the client, which may be slow: other goroutines may wait for this connection's end
	}
	if r := s.Reason(); !r.cuts() && !s.aborted.Load() {
		s.out.finish()
	}
	if b != nil && s.reusing.Load() && !s.releaseForReuse(b) {
		_ = b.Abort()
	}
	s.unsubscribe()
	s.cred.wipe()
	if !s.aborted.Load() {
		s.client.Discard(s.env.Now().Add(lingerFor))
	}
}

// account removes a logged-in session from the counts of such sessions and logs its end.
func (s *Session) account() {
	s.picked().Release()
	now := s.env.Now()
	for _, c := range s.inFlight.Rest() {
		s.tell(&c, wire.NoStatus, 0, now)
	}
	s.log().Info("session ended", "reason", s.Reason(), "duration", now.Sub(s.started).Round(time.Millisecond),
		"commands", s.commands.Load(), "bytes_in", s.bytesIn.Load(), "bytes_out", s.bytesOut.Load())
	s.env.Registry.leaveUser(s.user)
}
