package park

import (
	"slices"
	"time"
)

func (m *mailbox) timerLocked() {
	now := m.hub.now()
	if !now.Before(m.sweepAt) {
		m.sweepLocked()
		if m.phase == dead {
			return
		}
	}
	if !m.reIdleAt.IsZero() && !now.Before(m.reIdleAt) {
		m.reIdleAt = time.Time{}
		m.waker.Wake()
	}
	m.scheduleLocked()
}

// sweepLocked looks at the mailbox though nothing was heard of it, and at the others of its
// user that are soon due, on the same connection: it has to be logged in for that.
func (m *mailbox) sweepLocked() {
	soon := m.hub.now().Add(m.every() / 2)
	for _, o := range slices.Clone(m.user.mailboxes) {
		if o == m || m.kind != WatchIdle && o.kind == m.kind && o.site == m.site && o.phase == working && o.sweepAt.Before(soon) {
			o.sweptLocked()
		}
	}
}

func (m *mailbox) sweptLocked() {
	// A watch is there for parked sessions. Those that have been attached for long subscribe anew.
	if m.unused && !m.joinedLocked() {
		m.dropLocked(nil)
		return
	}
	m.unused = !m.joinedLocked()
	m.sweepAt = m.hub.now().Add(jittered(m.every()))
	source := HintSweep
	if m.kind == WatchPoll {
		source = HintPoll
	}
	m.hintLocked(source)
}
