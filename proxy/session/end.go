package session

import (
	"time"

	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

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
		s.lastVerb.Store(uint32(c.Verb)) //nolint:gosec // there are few verbs
		s.tell(&c, s.cutStatus(c.Verb), 0, now)
	}
	s.forgetWait()
	s.out.rest(s.countCompressed)
	log := s.log()
	if s.park.viewLost != "" {
		log = log.With("view_lost", s.park.viewLost)
	}
	log.Info("session ended", "reason", s.Reason(), "client", s.addr.String(), "listener", s.lis.Name, "attachment", s.endedIn().String(), "last_command", wire.Verb(s.lastVerb.Load()).String(), "duration", now.Sub(s.started).Round(time.Millisecond),
		"commands", s.commands.Load(), "bytes_in", s.bytesIn.Load(), "bytes_out", s.bytesOut.Load())
	s.env.Registry.leaveUser(s.user)
}

// cutStatus returns the status of a command that the session's end has left without an answer.
func (s *Session) cutStatus(v wire.Verb) string {
	if r := s.Reason(); v == wire.Idle && (r == ReasonClientClosed || r == ReasonClientLost) {
		return telemetry.StatusClosed
	}
	return ""
}
