package park

import (
	"errors"
	"slices"
)

// errLetGo ends a watch's connection: its user is to be at another backend.
var errLetGo = errors.New("the user belongs at another backend")

// LetGo has the watches of a user ("": of all users) end their connections, since the user belongs at another backend. They are set up again
// at once, where Account.Login connects them to by then; what happens meanwhile is found by a resync. Rounds that are under way go on.
// It doesn't wait, and may be called again.
func (h *Hub) LetGo(user string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if user != "" {
		if u := h.users[user]; u != nil {
			u.letGoLocked()
		}
		return
	}
	for _, u := range h.users {
		u.letGoLocked()
	}
}

func (u *user) letGoLocked() {
	for _, m := range u.mailboxes {
		m.leaves = true
		if m.kind == WatchIdle {
			m.waker.Wake()
		}
	}
	for _, w := range u.notify {
		w.leaves = true
		w.waker.Wake()
	}
}

// left says whether the connection that the watch waits on has to be ended.
func (m *mailbox) left() bool {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	return m.leaves
}

// arrives records that the watch makes its next connection: an earlier LetGo doesn't concern it.
func (m *mailbox) arrives() {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	m.leaves = false
}

// Follow is LetGo for a user who is at a backend by now: of the watches that are elsewhere.
func (h *Hub) Follow(user, backend string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if u := h.users[user]; u != nil && slices.ContainsFunc(u.mailboxes, func(m *mailbox) bool { return m.site.id != backend }) {
		u.letGoLocked()
	}
}

// LetGoAt has the watches at a backend end their connections, since the backend is paused; those of spared users stay. They are set up again
// when Account.Login connects them, and what happens meanwhile is found by a resync. It doesn't wait, and may be called again.
func (h *Hub) LetGoAt(backend string, spared map[string]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, u := range h.users {
		if !spared[name] && slices.ContainsFunc(u.mailboxes, func(m *mailbox) bool { return m.site.id == backend }) {
			u.letGoLocked()
		}
	}
}
