package telemetry

import (
	"time"

	"go.opentelemetry.io/otel/trace"

	"imapproxy/proxy/wire"
)

// Events returns the last lines of the log about the service as a whole, the latest first: backends, reloads, certificates, what operators did.
func (t *Telemetry) Events() []Line {
	t.kept.mu.Lock()
	defer t.kept.mu.Unlock()
	return t.kept.events.latest()
}

// Ended returns the log's lines of the last sessions that have ended, the latest first.
func (t *Telemetry) Ended() []Line {
	t.kept.mu.Lock()
	defer t.kept.mu.Unlock()
	return t.kept.ended.latest()
}

// FailedLogins returns the last failed logins, the latest first.
func (t *Telemetry) FailedLogins() []FailedLogin {
	t.kept.mu.Lock()
	defer t.kept.mu.Unlock()
	return t.kept.failed.latest()
}

// SlowCommands returns the last slow commands, the latest first.
func (t *Telemetry) SlowCommands() []SlowCommand {
	t.kept.mu.Lock()
	defer t.kept.mu.Unlock()
	return t.kept.slow.latest()
}

// Tally returns what was counted since the start.
func (t *Telemetry) Tally() *Tally {
	s := &Tally{Logins: t.tally.logins.Load(), FailedLogins: t.tally.failed.Load(), BackendLogins: t.tally.backend.Load()}
	for part := range t.tally.times {
		for i := range t.tally.times[part] {
			s.times[part][i] = t.tally.times[part][i].Load()
		}
	}
	return s
}

// count adds a command to the tally, and to the slow ones if it is slow. IDLE isn't: it lasts as long as the client wants. id is its trace's, zero if none was
// kept.
func (t *Telemetry) count(c *Command, id trace.TraceID) {
	if c.Verb == wire.Idle {
		return
	}
	took := c.End.Sub(c.Start)
	forward, wait := c.Forward, c.BackendWait
	if c.Sent.IsZero() {
		forward = 0
	}
	client := max(took-c.ResumeWait-forward-wait, 0)
	for part, d := range [partCount]time.Duration{PartAll: took, PartClient: client, PartProxy: forward, PartBackend: wait, PartResume: c.ResumeWait} {
		t.tally.times[part][tallyCell(d)].Add(1)
	}
	if !t.isSlow(took) {
		return
	}
	t.kept.mu.Lock()
	defer t.kept.mu.Unlock()
	t.kept.slow.add(SlowCommand{Session: c.Session, User: c.User, Backend: c.Backend, SessionCommand: SessionCommand{Time: c.End, Verb: c.Verb.String(), Status: c.Status, Took: took,
		ResumeWait: c.ResumeWait, Forward: forward, BackendWait: wait, ClientWait: client, TraceID: traceText(traceWords(id))}}, KeptSlow)
}

// SessionCommands returns the last commands of a session, the latest first: those of the last LastCommands that are among the last KeptCommands of all sessions.
func (t *Telemetry) SessionCommands(session string) []SessionCommand {
	if t.tape == nil {
		return nil
	}
	return t.tape.read(session, LastCommands)
}

// LatestCommands calls f for the commands of all sessions that have ended since a time, the latest first, as far as they are among the last KeptCommands; key is their session's
// SessionKey. It returns since when all of them are known.
func (t *Telemetry) LatestCommands(since time.Time, f func(key uint64, c SessionCommand)) (from time.Time) {
	if t.tape == nil {
		return since
	}
	n := 0
	all := func(uint64) bool { return true }
	t.tape.each(all, func(key uint64, c SessionCommand) bool {
		n++
		if from = c.Time; from.Before(since) {
			return false
		}
		f(key, c)
		return true
	})
	if n < KeptCommands-1 || from.Before(since) {
		return since
	}
	return from
}

// SessionKey returns by what LatestCommands names a session. Two sessions may have the same one, which is as likely as two equal numbers of 64 bits.
func (t *Telemetry) SessionKey(session string) uint64 {
	if t.tape == nil {
		return 0
	}
	return t.tape.key(session)
}

// writeTape writes a command to the last ones. id is its trace's, zero if none was kept.
func (t *Telemetry) writeTape(c *Command, id trace.TraceID) {
	if t.tape == nil {
		return
	}
	forward := c.Forward
	if c.Sent.IsZero() {
		forward = 0
	}
	t.tape.write(c.Session, c.Verb, c.Status, c.End, c.End.Sub(c.Start), c.ResumeWait, forward, c.BackendWait, id)
}

// AttachmentChanged notes a change of a session's attachment, for SessionAttachments.
func (t *Telemetry) AttachmentChanged(session, from, to string) {
	t.kept.mu.Lock()
	defer t.kept.mu.Unlock()
	t.kept.attachments.add(AttachmentChange{t.now(), session, from, to}, KeptAttachments)
}

// SessionAttachments returns the last changes of a session's attachment, the latest first.
func (t *Telemetry) SessionAttachments(session string) []AttachmentChange {
	t.kept.mu.Lock()
	defer t.kept.mu.Unlock()
	r, n := &t.kept.attachments, len(t.kept.attachments.all)
	var all []AttachmentChange
	for i := range n {
		if c := r.all[(r.next+n-1-i)%n]; c.Session == session && len(all) < LastAttachments {
			all = append(all, c)
		}
	}
	return all
}

// recently calls f for the slots of the last five minutes of a backend.
func (t *Telemetry) recently(backend string, f func(*recentSlot)) {
	all := t.recent.all.Load()
	if all == nil || (*all)[backend] == nil {
		return
	}
	minute := t.now().Unix() / 60
	for i := range (*all)[backend].slots {
		s := &(*all)[backend].slots[i]
		if age := minute - s.minute.Load(); age >= 0 && age < recentSlots {
			f(s)
		}
	}
}

// Recent returns what has happened at a backend lately.
func (t *Telemetry) Recent(backend string) (r BackendRecent) {
	t.recently(backend, func(s *recentSlot) {
		r.Answers += int(s.answers.Load())
		r.Slow += int(s.slow.Load())
		r.Refused += int(s.refused.Load())
		r.GivenUp += int(s.givenUp.Load())
		r.FailedDials += int(s.failedDial.Load())
		r.FailedLogins += int(s.failedLogins.Load())
	})
	return r
}

// RecentTimes returns how long a backend took in the last five minutes: for TCP connects, logins and answers.
func (t *Telemetry) RecentTimes(backend string) (dial, login, answer Quantiles) {
	var times [timedCount][tallyCells]int64
	t.recently(backend, func(s *recentSlot) {
		for of := range s.times {
			for cell := range s.times[of] {
				times[of][cell] += int64(s.times[of][cell].Load())
			}
		}
	})
	of := func(timed Timed) (q Quantiles) {
		var n int64
		for _, some := range times[timed] {
			n += some
		}
		if n == 0 {
			return q
		}
		at := func(cell int) int64 { return times[timed][cell] }
		return Quantiles{int(n), tallyBound(tallyQuantile(n, 0.5, at)), tallyBound(tallyQuantile(n, 0.99, at))}
	}
	return of(TimedDial), of(TimedLogin), of(TimedAnswer)
}
