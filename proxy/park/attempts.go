package park

import (
	"context"
	"time"

	"imapproxy/proxy/upstream"
)

// A watch whose backend can't be reached tries again after a pause, which grows from one failure to the next
// (mailbox.failed). The pause is cut short
//   - while a session waits for the watch's hints: its client may wait for an answer,
//   - when a connection of any mailbox has reached the backend: then it is there again.
//
// A backend that has answered was reached: if it refuses one user's watch, other users' logins don't have it asked
// again any sooner.

const (
	leastPause  = 100 * time.Millisecond // no pause is cut shorter
	waitedPause = 2 * time.Second        // the longest pause while a session waits
	pauseShare  = 20 * time.Millisecond  // of that, for each watch that pauses at the backend: their attempts together stay below a bound
)

// pause waits for d after err, or until it is cut short, or until ctx ends. mailboxes are all those of the watch.
func (h *Hub) pause(ctx context.Context, d time.Duration, err error, mailboxes ...*mailbox) {
	if upstream.Answered(err) || len(mailboxes) == 0 {
		h.sleep(ctx, d)
		return
	}
	h.mu.Lock()
	now := h.moment()
	p := &pausing{sleep: newSleep(), at: mailboxes[0].site, least: now.Add(min(d, leastPause))}
	if p.at.pauses == nil {
		p.at.pauses = map[*pausing]struct{}{}
	}
	p.at.pauses[p] = struct{}{}
	h.timers.setLocked(&p.timer, now.Add(d))
	for _, m := range mailboxes {
		m.pausing = p
		m.hurryLocked()
	}
	h.mu.Unlock()
	select {
	case <-p.over:
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timers.clearLocked(&p.timer)
	delete(p.at.pauses, p)
	for _, m := range mailboxes {
		if m.pausing == p {
			m.pausing = nil
		}
	}
}

// hurryLocked cuts the watch's pause short if a session waits for its hints.
func (m *mailbox) hurryLocked() {
	p := m.pausing
	if p == nil || m.waiting == 0 {
		return
	}
	d := min(max(leastPause, time.Duration(len(p.at.pauses))*pauseShare), waitedPause)
	p.byLocked(m.hub, m.hub.moment().Add(jittered(d)))
}

// byLocked has the pause end at a time, if it would end later.
func (p *pausing) byLocked(h *Hub, at moment) {
	if at.Before(p.least) {
		at = p.least
	}
	if p.place != 0 && at.Before(p.timer.at) {
		h.timers.setLocked(&p.timer, at)
	}
}

// arrivedLocked cuts short the pauses of all watches at the backend that a new connection has reached. A pooled
// connection says nothing about the backend.
func (h *Hub) arrivedLocked(c *upstream.Conn) {
	b := h.sites[c.Target.ID]
	if b == nil || len(b.pauses) == 0 || time.Since(c.LoggedIn) > leastPause {
		return
	}
	now := h.moment()
	for p := range b.pauses {
		p.byLocked(h, now)
	}
}
