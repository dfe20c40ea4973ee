package proxy

import (
	"errors"
	"io"
	"time"

	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// lingerFor is how long a client is read, and ignored, after the proxy's last
// word: closing at once, with bytes of its unread, would reset the connection
// and could take that word back.
const lingerFor = 2 * time.Second

// orphanFor is how long a backend may still answer after the client has shut
// its sending side and the proxy's has been shut towards the backend.
const orphanFor = time.Minute

// relay carries IMAP between client and backend until one of them ends it. It
// owns both connections, runs in a goroutine of its own that nobody has used
// before (a grown stack would stay with an idle session), and returns when both
// directions have come to rest and both connections are closed.
func (s *Session) relay() {
	s.client.Trim()
	b := s.backend.Load()
	b.Trim()
	done := make(chan struct{})
	go func() { // ends when the backend's side does, whose connection it closes unless another session is to have it
		defer close(done)
		if !s.fromBackend() && !s.retiring.Load() {
			_ = b.Abort()
		}
	}()
	if s.fromClient() {
		_ = b.SetReadDeadline(longAgo()) // not before: the client's reader may wait for what comes from there
	}
	<-done
	if s.reason() != "" {
		s.finish()
		return
	}
	s.paused()
}

// fromClient reads the client until its end, or until the session is over. It says whether it
// only pauses.
func (s *Session) fromClient() (pauses bool) {
	for {
		err := s.client.Pump(s.srv.pool, &s.up)
		if err == nil && s.up.splices() {
			err = s.up.splice()
			if err == nil {
				continue
			}
			if !s.isPause(err) { // else it goes on behind the pause
				s.up.err = err
				if s.client.Broken() {
					s.over(ReasonClientLost)
				}
			}
		}
		if s.reason() != "" {
			return false
		}
		switch {
		case s.isPause(err):
			return true
		case errors.Is(err, io.EOF):
			s.clientEnded()
			return false
		case err != nil && s.up.err == nil:
			s.over(ReasonClientLost)
			return false
		case s.up.refused != nil:
			s.clientBroke()
			return false
		}
		// A write to the backend failed. What it still had to say, and that it is
		// gone, comes out on the other side.
		_ = s.backend.Load().SetReadDeadline(s.srv.now().Add(lingerFor))
		return false
	}
}

// clientEnded passes on what the client left half-said, and its end. Its answers
// are still due (RFC 9293 §3.6: a half-closed connection).
func (s *Session) clientEnded() {
	if s.up.scan.AtStart() && len(s.client.Kept()) == 0 && s.retires(true) {
		s.retiring.Store(true)
		s.over(ReasonClientClosed)
		return
	}
	s.halfClosed.Store(true)
	s.up.pass(s.client.Kept())
	if err := s.backend.Load().CloseWrite(); err != nil {
		s.over(ReasonClientClosed)
	}
}

// clientBroke ends a session whose client can't be followed.
func (s *Session) clientBroke() {
	switch err := s.up.refused; {
	case errors.Is(err, errSessionOver): // somebody has ended it
	case errors.Is(err, errLoggedOut):
		s.over(ReasonLogout)
	case errors.Is(err, errTooMuchPending):
		s.over(ReasonClientUnread)
	case errors.Is(err, errLongTag):
		s.log().Info("the client can't be followed", "error", err)
		s.over(ReasonClientProtocol)
	default: // an answer of ours couldn't be written
		s.over(ReasonClientLost)
	}
}

// fromBackend reads the backend until its end, then sees to the client. It says
// whether it only pauses.
func (s *Session) fromBackend() (pauses bool) {
	for {
		err := s.backend.Load().Pump(s.srv.pool, &s.down)
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

// backendEnded says why the session ends, when it is the backend's side that
// has come to its end (err; nil when the receiver stopped).
func (s *Session) backendEnded(err error) {
	logout, bye := s.flight.farewell()
	switch {
	case s.reason() != "":
	case s.down.err != nil && s.halfClosed.Load():
		s.over(ReasonClientClosed)
	case s.down.err != nil:
		s.over(ReasonClientLost)
	case s.down.broken != nil:
		s.log().Warn("the backend can't be followed", "error", s.down.broken)
		s.over(ReasonBackendProtocol)
	case !s.out.atBoundary(): // whatever else: no boundary will come
		s.log().Warn("backend lost inside a response", "error", err)
		s.over(ReasonBackendLostInner)
	case logout:
		s.over(ReasonLogout)
	case bye:
		s.over(ReasonBackendBye)
	case s.halfClosed.Load():
		s.over(ReasonClientClosed)
	default:
		s.log().Warn("backend lost", "error", err)
		s.over(ReasonBackendLost)
	}
}

// over ends the session for a reason: as soon as a response's end is reached both
// readers are made to return, and the session's owner tells the client, where IMAP has
// words for it. Any goroutine may call it, which doesn't wait for the client; only the first call counts.
func (s *Session) over(r Reason) {
	now := s.srv.now().UnixNano()
	s.endedAt.CompareAndSwap(0, now)
	if !s.end(r) {
		return
	}
	s.transition(Ended)
	s.flight.stop()
	s.abandon()
	if r.cuts() {
		s.cut()
		return
	}
	s.out.end([]byte(r.bye()))
}

// longAgo is a deadline that makes all I/O of a connection return.
func longAgo() time.Time { return time.Unix(1, 0) }

// hangUp lets both readers return, and finish says the last line. It may be called from
// within either side's Pump, or by another session's goroutine: it neither writes nor closes.
func (s *Session) hangUp() {
	s.rouse()
	s.stopBackend()
}

// stopBackend lets whoever waits for the session's backend return.
func (s *Session) stopBackend() {
	s.handing.Lock()
	defer s.handing.Unlock()
	if b := s.backend.Load(); b != nil {
		_ = b.SetDeadline(longAgo())
	}
}

// give hands the session's connection to the pool. Nothing is in flight on it.
func (s *Session) give(c *upstream.Conn, how upstream.Condition) {
	s.handing.Lock()
	s.backend.Store(nil)
	s.handing.Unlock()
	_ = c.SetDeadline(time.Time{}) // of an end that came just now
	s.set.Park.Pool.Give(s.poolKey(upstream.UseSession), c, how)
}

// cut has both connections closed without another byte: whoever reads, writes
// or waits for room returns now, and finish closes. Anybody may call it.
func (s *Session) cut() {
	s.severed.Store(true)
	s.flight.stop()
	s.abandon()
	_ = s.client.SetWriteDeadline(longAgo())
	s.rouse()
	s.stopBackend()
}

// linger reads and ignores what the client still sends, until it ends or
// lingerFor has passed.
func (s *Session) linger() {
	var sink [512]byte
	_ = s.client.SetReadDeadline(s.srv.now().Add(lingerFor))
	for !s.severed.Load() {
		if _, err := s.client.Read(sink[:]); err != nil {
			return
		}
	}
}

// finish closes everything and takes the session out of all that counts it.
func (s *Session) finish() {
	if r := s.reason(); !r.cuts() && !s.severed.Load() {
		s.out.end([]byte(r.bye())) // over may not have come to it yet
		s.out.farewell()
	}
	if b := s.backend.Load(); b != nil && !s.retire(b) {
		_ = b.Abort()
	}
	s.unsubscribe()
	s.cred.wipe()
	if s.severed.Load() {
		_ = s.client.Abort()
	} else {
		s.linger()
		_ = s.client.Close()
	}
	s.pick.Release()
	now := s.srv.now()
	for _, c := range s.flight.rest() {
		s.tell(&c, wire.NoStatus, 0, now)
	}
	s.log().Info("session ended", "reason", s.reason(), "duration", now.Sub(s.started).Round(time.Millisecond),
		"commands", s.commands.Load(), "bytes_in", s.bytesIn.Load(), "bytes_out", s.bytesOut.Load())
	s.srv.reg.leaveUser(s.user)
	s.srv.gone(s)
}
