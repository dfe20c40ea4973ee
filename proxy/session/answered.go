package session

import (
	"time"

	"imapproxy/proxy/park"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// answered is called for each tagged response before it is written to the client. It returns the answered command's verb; Other also if there
// is no such command.
func (s *Session) answered(h wire.ResponseHead, now time.Time) wire.Verb {
	c, ok := s.inFlight.Answered(h)
	if !ok {
		return wire.Other
	}
	s.commands.Add(1)
	s.lastVerb.Store(uint32(c.Verb)) //nolint:gosec // there are few verbs
	s.hint(c.Changes)
	s.tryToLeave(now) // the session may leave its backend after this response
	s.tell(&c, h.Status.String(), s.takePushed(), now)
	return c.Verb
}

// takePushed returns how many bytes the client was sent since the last answer.
func (s *Session) takePushed() (n int64) {
	if s.relaying != nil { // relaying is nil if DONE was answered without a backend
		n, s.down.pushed = s.down.pushed, 0
	}
	return n
}

// tell reports a finished command to telemetry.
func (s *Session) tell(c *track.Command, status string, out int64, now time.Time) {
	t := telemetry.Command{
		Session: s.id, Login: s.trace(), User: s.user, Client: s.addr, Backend: s.picked().Backend.Shown(),
		Verb: c.Verb, Status: status,
		Start: c.Start, Sent: c.Sent, End: now, BytesIn: c.In, BytesOut: out,
	}
	var wait *awaited
	if s.relaying != nil {
		wait = s.down.awaited
		t.Resume = s.down.takeResume(c.Start)
		t.FirstAnswer = s.firstAnswer(c.Sent, wait)
	}
	t.ResumeWait = wait.within(c.Start, now)
	if !c.Sent.IsZero() && c.Verb != wire.Idle {
		t.Forward = c.Sent.Sub(c.Start) - wait.within(c.Start, c.Sent)
		t.BackendWait = max(0, now.Sub(c.Sent)-(s.blocked()-c.Blocked)-wait.within(c.Sent, now))
	}
	if b := s.backend.Load(); b != nil {
		t.Address = b.Target.Address
	}
	s.env.Telemetry.Command(t)
}

// firstAnswer returns how long the backend took to begin the answer to the oldest command, which was sent at a time; 0: it isn't known, since
// something else came from the backend between that answer and the one before, or it came along with that.
func (s *Session) firstAnswer(sent time.Time, wait *awaited) time.Duration {
	first := s.down.first
	s.down.first = time.Time{}
	if first.IsZero() {
		return 0
	}
	return max(0, first.Sub(sent)-wait.within(sent, first))
}

// intercepted logs a command that the proxy answered itself.
func (s *Session) intercepted(v wire.Verb) {
	s.lastVerb.Store(uint32(v)) //nolint:gosec // there are few verbs
	s.log().Debug("a command that the proxy takes over", "command", v.String())
}

// hint tells the hub of a command that may have changed a mailbox, before the command's answer is sent: parked
// sessions of the same user learn of the user's changes on another connection. changes says that the command
// is one.
func (s *Session) hint(changes bool) { s.hintOf(s.user, changes) }

// hintOf is hint for a command that may have changed a mailbox of user's.
func (s *Session) hintOf(user string, changes bool) {
	hub := s.set.Park.Hub
	if hub == nil || !changes || !hub.Wanted(user) {
		return
	}
	hub.Hint(park.Hint{User: user, Source: park.HintCommand})
}
