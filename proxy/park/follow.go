package park

import (
	"context"
	"slices"

	"imapproxy/proxy/upstream"
)

// A mailbox follows its user to another backend: Account.Login connects to where the user is, and the hub counts the mailbox there from the
// next connection on. Views and states are the same at both, so nothing else changes.

// slot waits until it is the user's turn to use a connection.
func (m *mailbox) slot(ctx context.Context) (release func(), err error) {
	m.hub.mu.Lock()
	b := m.site
	m.hub.mu.Unlock()
	return b.slot(ctx, m.user)
}

// reached notes where a connection for the mailbox has gone.
func (m *mailbox) reached(c *upstream.Conn) {
	h, t := m.hub, c.Target
	h.mu.Lock()
	defer h.mu.Unlock()
	h.arrivedLocked(c)
	if m.phase == dead || t.ID == "" || t.ID == m.site.id {
		if t.ID == m.site.id {
			m.site.address = t.Address
		}
		return
	}
	if w := m.user.notify[m.site.id]; w != nil && slices.Contains(w.mailboxes, m) {
		m.brokenLocked() // until the user's watch there has it
		w.removeLocked(m)
		m.moveLocked(h.siteLocked(t.ID, t.Name))
		h.notifyLocked(m)
	} else {
		m.moveLocked(h.siteLocked(t.ID, t.Name))
	}
	m.site.address = t.Address
	m.scheduleLocked()
}

// moveLocked has the mailbox at another site, which counts it already.
func (m *mailbox) moveLocked(to *site) {
	m.site.dequeueLocked(m)
	m.site.lostLocked()
	m.site = to
}

// reached notes where the watch's connection has gone. ErrLost: the user has a watch there, which has the mailboxes from now on.
func (w *notifyWatch) reached(c *upstream.Conn) error {
	h, t := w.hub, c.Target
	h.mu.Lock()
	defer h.mu.Unlock()
	h.arrivedLocked(c)
	if w.cancel == nil || t.ID == "" || t.ID == w.site.id {
		return nil
	}
	for _, m := range w.mailboxes {
		m.moveLocked(h.siteLocked(t.ID, t.Name))
	}
	delete(w.user.notify, w.site.id)
	other := w.user.notify[t.ID]
	if other == nil || other.cancel == nil {
		w.site = h.sites[t.ID]
		w.user.notify[t.ID] = w
		return nil
	}
	other.mailboxes = append(other.mailboxes, w.mailboxes...)
	other.changed = true
	other.waker.Wake()
	w.mailboxes = nil
	w.cancel()
	w.cancel = nil
	h.timers.clearLocked(&w.renew)
	return ErrLost
}
