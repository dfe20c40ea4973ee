package session

import (
	"time"

	"imapproxy/internal/clock"
	"imapproxy/telemetry"
)

// tellWithin bounds the write of one piece to a client without a backend.
const tellWithin = 10 * time.Second

// say writes to a client without a backend. If the client doesn't read, the session ends. Only the session's
// own goroutine calls it, holding no lock.
func (s *Session) say(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	now := s.env.Now()
	s.park.mu.Lock()
	s.park.lastTold = clock.Of(now)
	s.park.mu.Unlock()
	if err := s.out.relayUntil(b, true, now.Add(tellWithin)); err != nil {
		s.Terminate(ReasonClientLost)
		return err
	}
	s.bytesOut.Add(int64(len(b)))
	s.env.Telemetry.AddBytes(telemetry.Out, int64(len(b)))
	return nil
}
