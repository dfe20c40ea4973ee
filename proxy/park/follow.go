package park

import (
	"context"
	"slices"

	"imapproxy/proxy/upstream"
)

// A mailbox follows its user to another backend: Account.Login connects to where the user is, and the hub counts the mailbox there from the
// next connection on. Views and states are the same at both, so nothing else changes.

// Follow is LetGo for a user who is at a backend by now: of the watches that are elsewhere.
func (h *Hub) Follow(user, backend string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if u := h.users[user]; u != nil && slices.ContainsFunc(u.mailboxes, func(m *mailbox) bool { return m.site.id != backend }) {
		u.letGoLocked()
	}
}

// slot waits until it is the user's turn to use a connection.
func (m *mailbox) slot(ctx context.Context) (release func(), err error) {
	m.hub.mu.Lock()
	b := m.site
	m.hub.mu.Unlock()
	return b.slot(ctx, m.user)
}

// reached notes where a connection for the mailbox has gone.
func (m *mailbox) reached(t upstream.Target) {
	h := m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.phase == dead || t.ID == "" || t.ID == m.site.id {
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
	m.scheduleLocked()
}

// moveLocked has the mailbox at another site, which counts it already.
func (m *mailbox) moveLocked(to *site) {
	m.site.dequeueLocked(m)
	m.site.lostLocked()
	m.site = to
}

// reached notes where the watch's connection has gone. ErrLost: the user has a watch there, which has the mailboxes from now on.
func (w *notifyWatch) reached(t upstream.Target) error {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
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

// SubscribeLater is Subscribe for a session whose view has a mod-sequence of its own: it returns at once, and the watch is set up once the
// session has joined. A resync tells then what has happened since the view.
func (h *Hub) SubscribeLater(a Account, mailbox string) (*Subscription, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrHubClosed
	}
	m := h.mailboxLocked(a, mailbox)
	s := &Subscription{m: m, account: a}
	m.subs = append(m.subs, s)
	return s, s.laterLocked()
}

// Later is Again for a session whose view has a mod-sequence of its own: it doesn't wait until hints flow.
func (s *Subscription) Later() error {
	s.Leave()
	s.m.hub.mu.Lock()
	defer s.m.hub.mu.Unlock()
	return s.laterLocked()
}

func (s *Subscription) laterLocked() error {
	err := s.beginLocked()
	s.heard-- // as Doubt
	s.m.patient = true
	return err
}
