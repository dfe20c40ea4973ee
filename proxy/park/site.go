package park

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"imapproxy/internal/fair"
)

// userShare is the divisor for the share of a backend's slots and workers that one user may have at a time.
const userShare = 2

// siteLocked returns the backend's site for one more mailbox.
func (h *Hub) siteLocked(id, name string) *site {
	b := h.sites[id]
	if b == nil {
		b = &site{
			hub: h, id: id, name: cmp.Or(name, id), lines: map[*user]*line{},
			slots: fair.NewQueue[string](fair.Options{Slots: h.o.MaxResyncs, PerKey: h.perUser()}),
		}
		h.sites[id] = b
	}
	b.mailboxes++
	return b
}

// lostLocked records that a mailbox isn't at the backend any more.
func (b *site) lostLocked() {
	b.mailboxes--
	if b.mailboxes == 0 {
		delete(b.hub.sites, b.id)
	}
}

// perUser returns how much of MaxResyncs one user may have.
func (h *Hub) perUser() int { return max(h.o.MaxResyncs/userShare, 1) }

// slot waits until it is the user's turn to use a connection. release may be called more than once. Users whose clients wait for an answer, and
// others, take turns: after a failure of the backend all watches need a login, and a resume would wait for those of all users.
func (b *site) slot(ctx context.Context, u *user) (release func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(b.hub.ctx, func() { cancel(ErrHubClosed) })()
	b.hub.mu.Lock()
	hurried := u.hurried > 0
	b.hub.mu.Unlock()
	if err := b.slots.AcquireAs(ctx, u.name, hurried); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { b.slots.Release(u.name) }), nil
}

// hurry says that a session's client waits for an answer of the mailbox's watch, until over is called.
func (m *mailbox) hurry() (over func()) {
	h := m.hub
	h.mu.Lock()
	m.user.hurried++
	at := m.site
	h.mu.Unlock()
	at.slots.Promote(m.user.name) // the watch may wait already
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		m.user.hurried--
	}
}

// enqueueLocked adds the mailbox to the queue for the workers.
func (b *site) enqueueLocked(m *mailbox) {
	if !m.queued {
		m.queued = true
		l := b.lines[m.user]
		if l == nil {
			l = &line{user: m.user}
			l.turn = b.turns.PushBack(l)
			b.lines[m.user] = l
		}
		l.queue = append(l.queue, m)
		b.waiting++
	}
	b.staffLocked()
}

// staffLocked starts another worker if there may be work for it.
func (b *site) staffLocked() {
	if b.waiting > 0 && b.workers < b.hub.o.MaxResyncs && b.hub.goLocked(b.work) {
		b.workers++
	}
}

// work makes rounds until no waiting mailbox may have one now: the worker that serves a user returns for the
// user's others.
func (b *site) work() {
	h := b.hub
	h.mu.Lock()
	for !h.closed {
		m := b.nextLocked()
		if m == nil {
			break
		}
		h.mu.Unlock()
		h.work.round(m, b)
		h.mu.Lock()
		b.servedLocked(m)
	}
	b.workers--
	h.mu.Unlock()
}

// nextLocked removes and returns a mailbox of the first user in turn who has one that may have its round now,
// and moves the user behind all others; nil: there is none.
func (b *site) nextLocked() *mailbox {
	for e := b.turns.Front(); e != nil; e = e.Next() {
		l := e.Value.(*line)
		if m := b.firstLocked(l); m != nil {
			m.queued = false
			b.waiting--
			b.serving = append(b.serving, m)
			if len(l.queue) > 0 {
				b.turns.MoveToBack(e)
			} else {
				b.turns.Remove(e)
				delete(b.lines, l.user)
			}
			return m
		}
	}
	return nil
}

// firstLocked takes the first mailbox of a user's that may have its round now; nil: there is
// none. The cases that wait:
//   - the user has their share of the workers,
//   - a round of the mailbox is under way,
//   - a worker makes one for another mailbox of the user's, and no client waits for this one.
func (b *site) firstLocked(l *line) *mailbox {
	served := 0
	for _, m := range b.serving {
		if m.user == l.user {
			served++
		}
	}
	if served >= b.hub.perUser() {
		return nil
	}
	i := slices.IndexFunc(l.queue, func(m *mailbox) bool {
		return !m.running && (served == 0 || len(m.waiters) > 0 && !slices.Contains(b.serving, m))
	})
	if i < 0 {
		return nil
	}
	m := l.queue[i]
	copy(l.queue[1:i+1], l.queue[:i]) // the part before i is short, the part after it may be long
	l.queue[0] = nil
	l.queue = l.queue[1:]
	return m
}

// servedLocked records that the worker no longer uses a connection for the mailbox, although the round may
// not be completed. It may be called again.
func (b *site) servedLocked(m *mailbox) {
	b.serving = slices.DeleteFunc(b.serving, func(s *mailbox) bool { return s == m })
}

// dequeueLocked takes a mailbox out of its line, where it is in one.
func (b *site) dequeueLocked(m *mailbox) {
	if !m.queued {
		return
	}
	m.queued = false
	b.waiting--
	l := b.lines[m.user]
	l.queue = slices.DeleteFunc(l.queue, func(o *mailbox) bool { return o == m })
	if len(l.queue) == 0 {
		b.turns.Remove(l.turn)
		delete(b.lines, m.user)
	}
}
