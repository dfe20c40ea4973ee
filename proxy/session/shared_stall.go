package session

import (
	"slices"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// noticeVisitStall is noticeStall for a session that uses mailboxes of other users. Its owner waits for one connection at a time, to its own backend or to
// another one, and the evidence against that backend is the same. The owner then finds the connection lost.
func (s *Session) noticeVisitStall(now time.Time) {
	after := OrDefault(s.settings().StallAfter, DefaultStallAfter)
	if after <= 0 {
		return
	}
	for _, g := range s.visitedBy() {
		since, waits := g.conn.Progress.Writing()
		silent := waits && now.Sub(since) >= after
		alive := now.Sub(g.conn.Progress.Heard()) < after || now.Sub(g.conn.LoggedIn) < after
		found := s.env.Stalls.note(g.pick.Backend.ID, s.user, silent, alive)
		switch {
		case !silent:
		case g.pick.Current().State == routing.Down:
			s.stallVisit(g, since, telemetry.StallDown)
		case !found.failed.IsZero() && found.failed.Sub(since) >= after:
			s.stallVisit(g, since, telemetry.StallProbe)
		case found.all:
			s.stallVisit(g, since, telemetry.StallAll)
		}
	}
}

// visitedBy returns the connections of a session that uses mailboxes of other users, its own first.
func (s *Session) visitedBy() (all []guest) {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	if b := s.backend.Load(); b != nil {
		all = append(all, guest{b, s.pick.Load()})
	}
	return append(all, s.control.guests...)
}

// stallVisit gives up a connection on which the backend hasn't answered since a time, if its owner still waits for that.
func (s *Session) stallVisit(g guest, since time.Time, cause string) {
	own := false
	gave := func() bool {
		s.control.mu.Lock()
		defer s.control.mu.Unlock()
		own = s.backend.Load() == g.conn
		if !own && !slices.ContainsFunc(s.control.guests, func(h guest) bool { return h.conn == g.conn }) {
			return false
		}
		if at, waits := g.conn.Progress.Writing(); !waits || !at.Equal(since) || g.conn.Progress.Stalled() || g.conn.HasUnread() {
			return false
		}
		g.conn.Progress.Stall()
		g.conn.DiscardUnsent() // the backend may go on later
		g.conn.Interrupt(conn.Both)
		return true
	}()
	if !gave {
		return
	}
	s.env.Telemetry.Stall(g.pick.Backend.Shown(), cause, telemetry.StallShared)
	if others, ok := s.env.Stalls.lines.may(s.env.Now()); ok {
		s.log().Warn("the backend doesn't answer, and its connection is given up", "evidence", cause, "own", own, "others", others)
	}
}

// GuestAt says whether the session has a connection to another user's mail at a backend (its ID).
func (s *Session) GuestAt(backend string) bool {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	return slices.ContainsFunc(s.control.guests, func(g guest) bool { return g.pick.Backend.ID == backend })
}
