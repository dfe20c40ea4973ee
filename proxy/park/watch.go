package park

import (
	"context"
	"errors"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
)

// startLocked starts the mailbox's watch.
func (m *mailbox) startLocked() {
	ctx, cancel := context.WithCancel(m.hub.ctx)
	m.phase, m.cancel = starting, cancel
	if !m.hub.goLocked(func() { m.start(ctx) }) {
		cancel()
	}
}

// started starts the mailbox's watch if nothing has.
func (m *mailbox) started() {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	if m.phase == fresh {
		m.startLocked()
	}
}

func (m *mailbox) start(ctx context.Context) {
	h := m.hub
	kind, err := m.choose(ctx)
	for err != nil {
		wait, again := m.failed(err)
		if !again {
			return
		}
		if h.pause(ctx, wait, err, m); ctx.Err() != nil {
			return
		}
		kind, err = m.choose(ctx)
	}
	h.mu.Lock()
	m.watchedLocked(kind)
	if m.phase != dead && kind != WatchIdle { // its goroutine ends here
		m.cancel()
		m.cancel = nil
	}
	switch {
	case m.phase == dead || kind == WatchIdle:
	case kind == WatchNotify:
		h.notifyLocked(m) // worksLocked follows once NOTIFY is set
	default:
		m.worksLocked()
	}
	h.mu.Unlock()
	if kind == WatchIdle {
		m.watchIdle(ctx)
	}
}

// choose chooses the watch. It finds out whether the mailbox is the user's own only if that makes a
// difference, since it may need a connection.
func (m *mailbox) choose(ctx context.Context) (Watch, error) {
	a, ok := m.account()
	if !ok {
		return 0, ErrLost
	}
	by := WatchBy{Mode: m.hub.o.Watch, Push: m.hub.o.Push, Caps: a.Caps, Inbox: m.name == inbox, NotifyRefused: m.hub.noNotify(m)}
	shared, _ := ChooseWatch(by)
	by.Personal = true
	own, _ := ChooseWatch(by)
	if own == shared {
		return own, nil
	}
	personal, err := m.personal(ctx, a)
	if err != nil || personal {
		return own, err
	}
	return shared, nil
}

// personal says whether push events and NOTIFY cover the mailbox: events name the owner of a mailbox, or the
// acting user, not the users with whom it is shared.
func (m *mailbox) personal(ctx context.Context, a Account) (bool, error) {
	switch {
	case m.name == inbox:
		return true, nil
	case a.Shared != nil:
		return !a.Shared(m.name), nil
	}
	h := m.hub
	h.mu.Lock()
	id := m.site.id
	n := m.user.namespacesLocked(id)
	h.mu.Unlock()
	if n == nil {
		n = &namespaces{backend: id}
		if a.Caps.Has("NAMESPACE") || a.Caps.Has("IMAP4rev2") {
			if err := m.withClient(ctx, a, nil, n.ask); err != nil {
				return false, err
			}
		}
		h.mu.Lock()
		if last := m.site.namespaces; last != nil && last.equal(n) {
			n = last
		}
		m.site.namespaces = n
		if m.user.namespacesLocked(id) == nil {
			m.user.namespaces = append(m.user.namespaces, n)
		}
		h.mu.Unlock()
	}
	return n.personal(m.name), nil
}

func (u *user) namespacesLocked(backend string) *namespaces {
	for _, n := range u.namespaces {
		if n.backend == backend {
			return n
		}
	}
	return nil
}

// ask sends NAMESPACE. A refusal isn't an error: the namespaces are then unknown.
func (n *namespaces) ask(ctx context.Context, c *resync.Client) error {
	_, err := c.Do(ctx, "NAMESPACE", func(u imapclient.Untagged) bool {
		if !u.Is("NAMESPACE") {
			return false
		}
		utf8Names := c.Enabled().Has("UTF8=ACCEPT")
		n.list, n.known = parseNamespaces(u.Rest, utf8Names)
		return true
	})
	if _, broken := errors.AsType[*imapclient.Broken](err); broken {
		return err
	}
	return nil
}
