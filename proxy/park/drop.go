package park

import "slices"

// dropLocked removes the mailbox from the hub and ends its goroutine. err is the reason; nil: it has no
// subscription any more.
func (m *mailbox) dropLocked(err error) {
	if m.phase == dead {
		return
	}
	if m.phase != working {
		close(m.ready)
	}
	m.phase, m.err = dead, err
	if err == nil {
		m.err = ErrLost
	}
	h := m.hub
	h.counts.Mailboxes--
	h.kinds[m.kind]--
	h.timers.clearLocked(&m.timer)
	if m.cancel != nil {
		m.cancel()
		m.waker.Wake()
	}
	for _, w := range m.waiters {
		w.done <- ErrLost
	}
	m.waiters = nil
	m.freeJobsLocked()
	u := m.user
	u.mailboxes = slices.DeleteFunc(u.mailboxes, func(o *mailbox) bool { return o == m })
	if w := u.notify[m.site.id]; w != nil {
		w.removeLocked(m)
	}
	if len(u.mailboxes) == 0 {
		delete(h.users, u.name)
	}
	m.site.lostLocked()
}

// freeJobsLocked gives the requests for the watch's own connection back to those that made them.
func (m *mailbox) freeJobsLocked() {
	for _, j := range m.jobs {
		j.done <- jobResult{err: ErrLost}
	}
	m.jobs = nil
}
