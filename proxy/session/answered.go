package session

import (
	"time"

	"imapproxy/proxy/park"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// answered is called for each tagged response before it is written to the client.
func (s *Session) answered(h wire.ResponseHead, now time.Time) {
	c, ok := s.inFlight.Answered(h)
	if !ok {
		return
	}
	s.commands.Add(1)
	s.hint(c.Changes)
	s.tryToLeave(now) // the session may leave its backend after this response
	var out int64
	if s.relaying != nil { // relaying is nil if DONE was answered without a backend
		out, s.down.pushed = s.down.pushed, 0
	}
	s.tell(&c, h.Status, out, now)
}

// tell reports a finished command to telemetry.
func (s *Session) tell(c *track.Command, status wire.Status, out int64, now time.Time) {
	t := telemetry.Command{
		Session: s.id, Login: s.trace(), User: s.user, Backend: s.picked().Backend.Shown(),
		Verb: c.Verb, Status: status.String(),
		Start: c.Start, Sent: c.Sent, End: now, BytesIn: c.In, BytesOut: out,
	}
	if !c.Sent.IsZero() {
		t.BackendWait = max(0, now.Sub(c.Sent)-(s.blocked()-c.Blocked))
	}
	s.env.Telemetry.Command(t)
}

// intercepted logs a command that the proxy answered itself.
func (s *Session) intercepted(v wire.Verb) {
	s.log().Debug("a command that the proxy takes over", "command", v.String())
}

// hint tells the hub of a command that may have changed a mailbox, before the command's answer is sent: parked
// sessions of the same user learn of the user's changes on another connection. changes says that the command
// is one.
func (s *Session) hint(changes bool) {
	hub := s.set.Park.Hub
	if hub == nil || !changes || !hub.Wanted(s.user) {
		return
	}
	hub.Hint(park.Hint{User: s.user, Source: park.HintCommand})
}
