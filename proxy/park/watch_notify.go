package park

import (
	"context"
	"errors"
	"slices"
	"time"

	"imapproxy/proxy/imapclient"
)

// notifyWatch is a NOTIFY connection (RFC 5465), one for all of a user's mailboxes
// at a backend that are watched so. It never selects a mailbox: while it did, it would
// lose events for good. NOTIFY is set anew every NotifyRenewEvery, and soon after each event, since a
// Dovecot whose log has rotated, which it does at a change that it still tells of, falls silent
// until then; what the new setting says of each mailbox is compared with what was known. NOTIFY
// NONE goes before it: a Dovecot whose setting is replaced by another looks every 30 seconds only.
//
// It is in its user's table as long as it has a mailbox.
type notifyWatch struct {
	hub   *Hub
	user  *user
	waker imapclient.Waker

	// Guarded by the hub's mutex:
	site      *site // where it is; another one when its user has moved (follow.go)
	mailboxes []*mailbox
	refused   bool // the backend doesn't do it: there is no goroutine
	changed   bool // mailboxes has others than were set
	leaves    bool // its connection is to end (LetGo)
	hinted    bool // a mailbox was hinted at since this was last cleared
	renew     timer
	setAt     time.Time // when NOTIFY was last set
	cancel    context.CancelFunc
}

// noNotify says whether the backend has refused NOTIFY to this user.
func (h *Hub) noNotify(m *mailbox) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := m.user.notify[m.site.id]
	return w != nil && w.refused
}

// notifyLocked has the mailbox watched by the user's NOTIFY connection.
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
		h.goLocked(func() { w.run(ctx) })
		return
	}
	w.waker.Wake()
}

// removeLocked is for a mailbox that is dead.
func (w *notifyWatch) removeLocked(m *mailbox) {
	w.mailboxes = slices.DeleteFunc(w.mailboxes, func(o *mailbox) bool { return o == m })
	// NOTIFY is left as it is for the others: it tells too much, at worst.
	if len(w.mailboxes) == 0 && w.cancel != nil {
		w.cancel()
		w.cancel = nil
		w.hub.timers.clearLocked(&w.renew)
		delete(w.user.notify, w.site.id)
	}
}

func (w *notifyWatch) timerLocked() {
	w.changed = true
	w.waker.Wake()
}

// run is the watch's goroutine.
func (w *notifyWatch) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, w.waker.Wake)
	defer stop()
	for {
		err := w.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		h := w.hub
		h.mu.Lock()
		for _, m := range w.mailboxes {
			m.brokenLocked()
		}
		w.changed = true
		mailboxes := slices.Clone(w.mailboxes)
		h.mu.Unlock()
		if refusal, ok := errors.AsType[*imapclient.Refusal](err); ok && refusal.Verb == "NOTIFY" {
			w.giveUp()
			return
		}
		wait := lastBackoff
		for _, m := range mailboxes {
			if d, again := m.failed(err); again {
				wait = min(wait, d)
			}
		}
		if ctx.Err() != nil {
			return
		}
		h.sleep(ctx, wait)
	}
}

// giveUp has all mailboxes of the watch watched by IDLE, or polled.
func (w *notifyWatch) giveUp() {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.cancel == nil {
		return // its last mailbox went just now
	}
	w.refused = true
	w.cancel() // run returns
	w.cancel = nil
	h.timers.clearLocked(&w.renew)
	for _, m := range w.mailboxes {
		a, ok := m.accountLocked()
		if !ok {
			continue
		}
		if a.Caps.Has("IDLE") && h.o.Watch != "poll" {
			m.watchedLocked(WatchIdle)
			ctx, cancel := context.WithCancel(h.ctx)
			m.cancel = cancel
			h.goLocked(func() { m.watchIdle(ctx) })
			continue
		}
		m.watchedLocked(WatchPoll)
		m.sweepAt = time.Time{} // as often as it is polled from now on
		m.worksLocked()
	}
	w.mailboxes = nil
}

// hint is for one of the watch's mailboxes, or with "" for all.
func (w *notifyWatch) hint(name string, again bool) {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.changed = w.changed || again
	for _, m := range w.mailboxes {
		if name == "" || m.name == name {
			w.hinted = true
			m.hintLocked(HintNotify)
		}
	}
}

func (w *notifyWatch) watches(name string) bool {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	return slices.ContainsFunc(w.mailboxes, func(m *mailbox) bool { return m.name == name })
}
