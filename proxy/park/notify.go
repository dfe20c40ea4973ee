package park

import (
	"context"
	"slices"
)

// noNotify says whether the backend has refused NOTIFY to this user.
func (h *Hub) noNotify(m *mailbox) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := m.user.notify[m.site.id]
	return w != nil && w.refused
}

// notifyLocked adds the mailbox to the user's NOTIFY watch.
func (h *Hub) notifyLocked(m *mailbox) {
	u, b := m.user, m.site
	w := u.notify[b.id]
	if w == nil {
		w = &notifyWatch{hub: h, user: u, site: b}
		w.renew.owner = w
		if u.notify == nil {
			u.notify = map[string]*notifyWatch{}
		}
		u.notify[b.id] = w
	}
	w.mailboxes = append(w.mailboxes, m)
	w.changed = true
	if w.cancel == nil {
		ctx, cancel := context.WithCancel(h.ctx)
		w.cancel = cancel
		h.goLocked(func() { h.work.notify(w, ctx) })
		return
	}
	w.waker.Wake()
}

// removeLocked removes a mailbox that is dead or has moved.
func (w *notifyWatch) removeLocked(m *mailbox) {
	w.mailboxes = slices.DeleteFunc(w.mailboxes, func(o *mailbox) bool { return o == m })
	// NOTIFY stays set as it is: at worst the backend sends superfluous events.
	if len(w.mailboxes) == 0 && w.cancel != nil {
		w.cancel()
		w.cancel = nil
		w.waker.Wake()
		w.hub.timers.clearLocked(&w.renew)
		delete(w.user.notify, w.site.id)
	}
}
