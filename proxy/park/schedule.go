package park

// worksLocked records that hints flow.
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
		m.sweepAt = h.moment().Add(jittered(m.every()))
	}
	m.scheduleLocked()
}

// brokenLocked records that hints don't flow any more, so changes may be missed from now on.
func (m *mailbox) brokenLocked() {
	if m.phase != working {
		return
	}
	m.phase = renewing
	m.ready = make(chan struct{})
	m.heard++
	m.dirtyLocked(whyRenewed)
	m.reIdleAt = 0
}

func (m *mailbox) hintLocked(source HintSource) {
	m.hub.counts.Hints[source]++
	m.heard++
	m.dirtyLocked(string(source))
	m.scheduleLocked()
}

// scheduleLocked begins a round if there is a reason, or sets the timer to the time when it may begin. Both
// decisions use one reading of the clock, and no other function sets the timer; otherwise a round whose time
// passes between two readings would get neither.
func (m *mailbox) scheduleLocked() {
	now := m.hub.moment()
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

// putOffLocked says whether the next round must wait until notBefore.
func (m *mailbox) putOffLocked(now moment) bool {
	return len(m.jobs) == 0 && now.Before(m.notBefore)
}

// armLocked sets the timer to the next event. Only scheduleLocked calls it.
func (m *mailbox) armLocked(now moment) {
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
