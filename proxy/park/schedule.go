package park

import "time"

// worksLocked says that hints flow.
func (m *mailbox) worksLocked() {
	if m.phase == dead || m.phase == working {
		return
	}
	h := m.hub
	if m.phase == renewing {
		h.counts.Renewed++
	}
	m.phase = working
	close(m.ready)
	m.ready = nil
	m.recoveredLocked()
	if m.sweepAt.IsZero() {
		m.sweepAt = h.now().Add(jittered(m.every()))
	}
	m.scheduleLocked()
}

// brokenLocked says that hints don't flow any more: what was missed since is unknown.
func (m *mailbox) brokenLocked() {
	if m.phase != working {
		return
	}
	m.phase = renewing
	m.ready = make(chan struct{})
	m.heard++
	m.dirtyLocked(whyRenewed)
	m.reIdleAt = time.Time{}
}

func (m *mailbox) hintLocked(source HintSource) {
	m.hub.counts.Hints[source]++
	m.heard++
	m.dirtyLocked(string(source))
	m.scheduleLocked()
}

// scheduleLocked has a round begin where there is reason to, or sets the timer to when one may. Both
// are decided by one reading of the clock, and nothing else sets the timer: a round
// that is put off to a time that passes just then would else have neither.
func (m *mailbox) scheduleLocked() {
	now := m.hub.now()
	switch {
	case m.phase != working || m.running || !m.dueLocked():
	case m.putOffLocked(now):
	case m.kind == WatchIdle:
		m.waker.Wake()
	default:
		m.site.enqueueLocked(m)
	}
	m.armLocked(now)
}

// putOffLocked says whether the next round isn't to begin yet.
func (m *mailbox) putOffLocked(now time.Time) bool {
	return len(m.jobs) == 0 && now.Before(m.notBefore)
}

// armLocked sets the timer to what comes next. It is for scheduleLocked alone.
func (m *mailbox) armLocked(now time.Time) {
	if m.phase == dead || m.sweepAt.IsZero() {
		return
	}
	at := m.sweepAt
	if m.dueLocked() && !m.running && m.notBefore.Before(at) && m.putOffLocked(now) {
		at = m.notBefore
	}
	if !m.reIdleAt.IsZero() && m.reIdleAt.Before(at) {
		at = m.reIdleAt
	}
	m.hub.timers.setLocked(&m.timer, at)
}
