package park

import (
	"context"
	"maps"
	"slices"
	"strings"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

func (w *notifyWatch) timerLocked() {
	w.changed = true
	w.waker.Wake()
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
		m.sweepAt = 0 // from now on the period is that of polling
		m.worksLocked()
	}
	w.mailboxes = nil
}

func (w *notifyWatch) open(ctx context.Context, steps *telemetry.Steps) (*upstream.Conn, *resync.Client, error) {
	w.hub.mu.Lock()
	site := w.site
	w.hub.mu.Unlock()
	release, err := site.slot(ctx, w.user)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	steps.Done(telemetry.StepTurn, w.hub.now(), nil)
	w.hub.mu.Lock()
	w.leaves = false
	var a Account
	ok := false
	var by resync.Strategy
	for _, m := range w.mailboxes {
		if a, ok = m.accountLocked(); ok {
			by = m.strategy
			break
		}
	}
	w.hub.mu.Unlock()
	if !ok {
		return nil, nil, ErrLost
	}
	ctx, cancel := context.WithTimeoutCause(ctx, exchangeTimeout, ErrTooSlow)
	defer cancel()
	conn, err := a.Login(ctx, steps)
	steps.Done(telemetry.StepLogin, w.hub.now(), err)
	if err != nil {
		return nil, nil, err
	}
	if err := w.reached(conn); err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	c := newClient(conn)
	// With mod-sequences STATUS also shows changes of flags.
	err = prepare(ctx, c, by)
	steps.Done(telemetry.StepEnable, w.hub.now(), err)
	if err != nil {
		giveBack(ctx, conn, c, a)
		return nil, nil, err
	}
	return conn, c, nil
}

// set sets NOTIFY for the present mailboxes, whose hints flow then. again: it was set on this connection
// before.
func (w *notifyWatch) set(ctx context.Context, c *resync.Client, known map[string]mailboxStatus, again bool) error {
	h := w.hub
	h.mu.Lock()
	w.changed, w.hinted = false, false
	mailboxes := slices.Clone(w.mailboxes)
	h.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, exchangeTimeout, ErrTooSlow)
	defer cancel()
	which, err := notifyFilter(c, mailboxes)
	if err != nil {
		return err
	}
	if again {
		if _, err := c.Do(ctx, "NOTIFY NONE", func(u imapclient.Untagged) bool { return w.onUntagged(u, c, known, true) }); err != nil {
			return err
		}
	}
	command := "NOTIFY SET STATUS (" + which + " (MessageNew MessageExpunge FlagChange MailboxName))"
	gone := maps.Clone(known)
	if _, err := c.Do(ctx, command, func(u imapclient.Untagged) bool {
		if name, _, ok := status(c, u); ok {
			delete(gone, name)
		}
		return w.onUntagged(u, c, known, false)
	}); err != nil {
		return err
	}
	for name := range gone { // deleted or renamed while NOTIFY wasn't set: there was no response about it
		delete(known, name)
		w.hint(name, false)
	}
	h.mu.Lock()
	for _, m := range mailboxes {
		if m.kind == WatchNotify {
			m.worksLocked()
		}
	}
	w.setAt = h.moment()
	h.timers.setLocked(&w.renew, w.setAt.Add(jittered(h.o.NotifyRenewEvery)))
	hinted := w.hinted
	h.mu.Unlock()
	if hinted {
		w.renewSoon()
	}
	return nil
}

// status reads a STATUS response. The name is canonical.
func status(c *resync.Client, u imapclient.Untagged) (name string, s mailboxStatus, ok bool) {
	if !u.Is("STATUS") {
		return "", s, false
	}
	return parseStatus(u.Rest, c.Enabled().Has("UTF8=ACCEPT"))
}

// renewSoon schedules the next setting of NOTIFY: after a burst of events, or after a while if the burst
// continues.
func (w *notifyWatch) renewSoon() {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.moment().Add(notifySettle)
	if soonest := w.setAt.Add(notifyGap); at.Before(soonest) {
		at = soonest
	}
	if w.renew.place != 0 && at.Before(w.renew.at) {
		h.timers.setLocked(&w.renew, at)
	}
}

// notifyFilter returns the mailboxes for NOTIFY (RFC 5465 §6): as few as possible, since the backend checks
// each one at each setting. Dovecot doesn't decode the names, so if one is encoded, the filter is all of the
// user's mailboxes.
func notifyFilter(c *resync.Client, mailboxes []*mailbox) (string, error) {
	var names []string
	for _, m := range mailboxes {
		if view.EncodeMailbox(m.name, false) != m.name {
			return "personal", nil
		}
		name, err := c.MailboxArgument(m.name)
		if err != nil {
			return "", err
		}
		names = append(names, name)
	}
	return "mailboxes (" + strings.Join(names, " ") + ")", nil
}

// onUntagged turns notifications into hints: each event is a hint; the first status after a new setting is
// one if it differs from the known status.
func (w *notifyWatch) onUntagged(u imapclient.Untagged, c *resync.Client, known map[string]mailboxStatus, event bool) bool {
	code, _ := wire.Code(u.Rest)
	switch {
	case u.Is("STATUS"):
		name, now, ok := status(c, u)
		if !ok {
			w.hint("", false)
			return true
		}
		old, before := known[name]
		changed := old.update(now)
		if before || w.watches(name) {
			known[name] = old
		}
		if event || before && changed {
			w.hint(name, false)
		}
	case u.Is("LIST"):
		w.hint("", false) // a mailbox came, went, or has another name
	case u.Status == wire.OK && strings.EqualFold(string(code), "NOTIFICATIONOVERFLOW"):
		// RFC 5465 §5.8: it tells nothing more.
		w.hint("", true)
	}
	return true
}

// hint passes a hint to one of the watch's mailboxes; "" means all of them.
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
