package session

import (
	"time"

	"imapproxy/telemetry"
)

// What a command's metrics and trace say about the backend connection for which it waited: its duration begins
// when the command was read by the parked session, and the resume is a part of its trace.

// within returns which part of [from, to] the wait took. It is 0 for nil.
func (a *awaited) within(from, to time.Time) time.Duration {
	if a == nil {
		return 0
	}
	if a.from.After(from) {
		from = a.from
	}
	if a.to.Before(to) {
		to = a.to
	}
	return max(0, to.Sub(from))
}

// waited records, for the session's next commands, that they have waited for the connection that t got. since is
// when the first of them was read.
func (s *Session) waited(t telemetry.Resume, since time.Time) {
	a := &awaited{from: since, to: t.End, resume: s.env.Telemetry.Resumed(t)}
	if s.park.cause == telemetry.WakeLost { // before, they had another connection
		a.from = t.Start
	}
	s.up.since, s.down.awaited = since, a
}

// began returns when commands that are handled now were read. Only the first call after a wait returns another
// time than now.
func (f *commandFlow) began(now time.Time) time.Time {
	if f.since.IsZero() {
		return now
	}
	now, f.since = f.since, time.Time{}
	return now
}

// takeResume returns the resume for the trace of a command that began at start, once.
func (f *responseFlow) takeResume(start time.Time) (r *telemetry.Resume) {
	if a := f.awaited; a != nil && a.resume != nil && start.Before(a.to) {
		r, a.resume = a.resume, nil
	}
	return r
}

// forgetWait makes a trace of its own of a resume that no command has taken.
func (s *Session) forgetWait() {
	if s.relaying == nil || s.down.awaited == nil {
		return
	}
	if r := s.down.awaited.resume; r != nil {
		s.env.Telemetry.ResumeAlone(r)
	}
	s.down.awaited = nil
}
