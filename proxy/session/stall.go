package session

import (
	"time"

	"imapproxy/internal/clock"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// A backend may stop answering without ending its connections: its host or the network between has failed, or
// its processes hang. The sweep looks for sessions whose backend owes them an answer, or doesn't take what is
// written to it, and gives such a connection up once there is other evidence that the backend is at fault: a
// command alone may take minutes. The session then recovers as from any loss (recover.go). The old connection's
// end wasn't seen, so nothing that changes something is sent again.

// DefaultStallAfter is the default of Settings.StallAfter.
const DefaultStallAfter = 30 * time.Second

// maxStalls is maxLosses for connections that were given up: a command that makes a backend hang isn't sent a
// third time.
const maxStalls = 1

// noticeStall gives up the session's backend connection if the backend doesn't answer on it. The evidence, of
// which one is enough:
//   - the backend's host hasn't acknowledged anything for upstream.LostAfter, although the kernel repeats what
//     it has sent; or probes of an idle connection, if an answer is owed or discovery says that the backend is down;
//   - nothing has come for StallAfter, and discovery says that the backend is down;
//   - nothing has come for StallAfter, and a probe of the backend that began after that has failed;
//   - nothing has come for StallAfter on any connection to the backend, on which several users wait.
//
// The sweep calls it.
func (s *Session) noticeStall(now time.Time) {
	if at := Attachment(s.attachment.Load()); at != Attached && at != CatchingUp && at != Parking {
		return
	}
	after := OrDefault(s.settings().StallAfter, DefaultStallAfter)
	owed, owes := s.owed()
	waiting := s.inFlight.Waiting() > 0 || s.asking.Load() != nil
	var b *upstream.Conn
	var heard, since time.Time
	lost, waits := false, false
	s.onBackend(func(c *upstream.Conn) {
		if c.Progress.Stalled() {
			return
		}
		b, heard = c, c.Progress.Heard()
		if now.Sub(heard) >= upstream.LostAfter {
			expects := owes || s.picked().Current().State == routing.Down
			lost = (waiting || expects) && c.Unacknowledged(upstream.LostAfter, expects)
		}
		if !lost && after > 0 {
			since, waits = s.unanswered(c, now, owed, owes)
		}
	})
	switch {
	case b == nil:
		return
	case lost:
		s.stall(b, telemetry.StallNetwork)
		return
	case after <= 0:
		return
	}
	silent := waits && now.Sub(since) >= after
	alive := now.Sub(heard) < after || now.Sub(b.LoggedIn) < after
	found := s.env.Stalls.note(s.Backend(), s.user, silent, alive)
	switch {
	case !silent:
	case s.picked().Current().State == routing.Down:
		s.stall(b, telemetry.StallDown)
	case !found.failed.IsZero() && found.failed.Sub(since) >= after:
		s.stall(b, telemetry.StallProbe)
	case found.all:
		s.stall(b, telemetry.StallAll)
	}
}

// asks records that the session's owner waits for its backend to answer the proxy's own commands. The owner calls done once it doesn't,
// and while it has the connection.
func (s *Session) asks() (done func()) {
	s.asking.Store(&asking{since: s.env.Now(), began: time.Now()})
	return func() { s.asking.Store(nil) }
}

// owed says whether the backend owes an answer, to the client or to the proxy itself, and since when (track.InFlight.Owed).
func (s *Session) owed() (since time.Time, owes bool) {
	if a := s.asking.Load(); a != nil {
		return a.since, true
	}
	return s.inFlight.Owed()
}

// unanswered says whether the session waits for its backend, and since when the backend has given no sign of
// life. It doesn't wait while the client is what is slow: while bytes of the backend's wait to be read. owed and
// owes are the result of owed.
func (s *Session) unanswered(b *upstream.Conn, now, owed time.Time, owes bool) (since time.Time, waits bool) {
	p := &b.Progress
	since, waits = owed, owes
	if since.IsZero() {
		since = clock.At(s.lastHeard.Load())
	}
	if at, ok := p.Writing(); ok && b.Backlogged() && (!waits || at.Before(since)) {
		since, waits = at, true
	}
	if !waits || b.HasUnread() {
		return since, false
	}
	heard := p.Heard()
	switch a := s.asking.Load(); {
	case a != nil:
		heard = a.heard(b, now)
	case p.Spliced():
		heard = now.Add(-b.SinceReceived())
	}
	if heard.After(since) {
		since = heard
	}
	return since, true
}

// stall gives up a connection on which the backend doesn't answer. If the session can't go on with another one,
// it ends; its client is told, unless a response to it is incomplete.
func (s *Session) stall(b *upstream.Conn, cause string) {
	still := false
	s.onBackend(func(c *upstream.Conn) {
		if still = c == b; still {
			c.Progress.Stall()
			c.DiscardUnsent() // the backend may go on later
		}
	})
	if !still {
		return // the session has given it back meanwhile
	}
	survives := s.survives() && s.cut()
	outcome := telemetry.StallEnds
	if survives {
		outcome = telemetry.StallGoesOn
	}
	s.env.Telemetry.Stall(s.picked().Backend.Shown(), cause, outcome)
	if others, ok := s.env.Stalls.lines.may(s.env.Now()); ok {
		s.log().Warn("the backend doesn't answer, and its connection is given up", "evidence", cause, "goes_on", survives, "others", others)
	}
	if survives {
		return
	}
	s.Terminate(ReasonBackendStalled)
	if !s.out.atBoundary() {
		s.abort() // a boundary may never come
	}
}
