package park

import "slices"

func (m *mailbox) timerLocked() {
	now := m.hub.moment()
	if !now.Before(m.sweepAt) {
		m.sweepLocked()
		if m.phase == dead {
			return
		}
	}
	if !m.reIdleAt.IsZero() && !now.Before(m.reIdleAt) {
		m.reIdleAt = 0
		m.waker.Wake()
	}
	m.scheduleLocked()
}

// sweepLocked resyncs the mailbox without a hint, and those of its user's other mailboxes that are due soon:
// they use the same connection, so one login is enough.
func (m *mailbox) sweepLocked() {
	soon := m.hub.moment().Add(m.every() / 2)
	for _, o := range slices.Clone(m.user.mailboxes) {
		if o == m || m.kind != WatchIdle && o.kind == m.kind && o.site == m.site && o.phase == working && o.sweepAt.Before(soon) {
			o.sweptLocked()
		}
	}
}

func (m *mailbox) sweptLocked() {
	// A watch serves parked sessions. A session that has been attached for a long time subscribes again.
	if m.unused && !m.joinedLocked() {
		m.dropLocked(nil)
		return
	}
	m.unused = !m.joinedLocked()
	m.sweepAt = m.hub.moment().Add(jittered(m.every()))
	source := HintSweep
	if m.kind == WatchPoll {
		source = HintPoll
	}
	m.hintLocked(source)
}
