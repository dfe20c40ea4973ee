package session

import (
	"errors"

	"imapproxy/proxy/park"
	"imapproxy/proxy/park/view"
)

// member is the session as the hub sees it, from one park to the next resume.
type member struct {
	s    *Session
	time uint32 // the value of parkState.times
}

func (s *Session) member() park.Member { return member{s, s.park.times} }

// parkedLocked says whether the session is still parked and hasn't been resumed since.
func (m member) parkedLocked() bool {
	return Attachment(m.s.attachment.Load()) == Parked && m.s.park.times == m.time
}

// View implements park.Member.
func (m member) View() *view.View {
	m.s.park.mu.Lock()
	defer m.s.park.mu.Unlock()
	if !m.parkedLocked() {
		return nil
	}
	return m.s.park.view
}

// Apply implements park.Member. A client in IDLE is told by its session's own goroutine. A change that can't
// be told from this state makes the session resume, which gets a state of its own.
func (m member) Apply(state *view.State) {
	if !m.apply(state) {
		m.Lost()
	}
}

func (m member) apply(state *view.State) (ok bool) {
	s := m.s
	s.park.mu.Lock()
	defer s.park.mu.Unlock()
	if !m.parkedLocked() || s.park.view == nil {
		return true
	}
	if s.park.idle {
		s.park.state = state
		s.Signal(SigTell)
		return true
	}
	d, err := view.Compare(s.park.view, state)
	var other *view.NotSame
	switch {
	case errors.As(err, &other):
		s.notSameLocked(other)
	case err != nil:
		s.park.state = nil
		return false
	case d.Empty(): // the view advances: its next resync begins with this state
		s.park.view, s.park.state = s.park.view.After(d), nil
	default:
		s.park.state = state
	}
	return true
}

// notSameLocked ends the session: its mailbox isn't the one that the client knows.
func (s *Session) notSameLocked(other *view.NotSame) {
	s.log().Warn("the mailbox isn't the same any more", "mailbox", s.park.view.Mailbox, "why", other.Reason)
	s.Terminate(ReasonNotSame)
}

// Gone implements park.Member.
func (m member) Gone(err error) {
	m.s.park.mu.Lock() // otherwise it could end a session that is being resumed
	defer m.s.park.mu.Unlock()
	if !m.parkedLocked() {
		return // the resume's SELECT finds out
	}
	m.s.log().Info("the mailbox is gone, or the user may not read it any more", "error", err)
	m.s.Terminate(ReasonMailboxGone)
}

// Lost implements park.Member. The mailbox isn't watched any more, so the session is resumed.
func (m member) Lost() { m.s.Signal(SigLostWatch) }
