package park

import (
	"context"
	"errors"
	"slices"
	"time"

	"imapproxy/proxy/imapclient"
)

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
		h.pause(ctx, wait, err, mailboxes...)
	}
}

// giveUp switches all mailboxes of the watch to IDLE or polling.
func (w *notifyWatch) giveUp() {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.cancel == nil {
		return // its last mailbox was just removed
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
		m.sweepAt = time.Time{} // from now on the period is that of polling
		m.worksLocked()
	}
	w.mailboxes = nil
}
