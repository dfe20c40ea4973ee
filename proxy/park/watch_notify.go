package park

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// notifyWatch is a NOTIFY connection (RFC 5465), one for all of a user's mailboxes
// at a backend that are watched so. It selects nothing, ever: while it did, it would
// lose events for good. Set anew every NotifyRenewEvery, and soon after each event, since a
// Dovecot whose log has rotated, which it does at a change that it still tells of, falls silent
// until then; what the new setting says of each mailbox is compared with what was known. NOTIFY
// NONE goes before it: a Dovecot whose setting is replaced by another looks every 30 seconds only.
//
// It is in its user's table as long as it has a mailbox.
type notifyWatch struct {
	hub     *Hub
	user    *user
	backend *backend
	bell    doorbell

	// Guarded by the hub's mutex:
	mailboxes []*mailbox
	refused   bool // the backend doesn't do it: there is no goroutine
	changed   bool // mailboxes has others than were set
	told      bool // something was hinted at since it was last cleared
	renew     alarm
	setAt     time.Time // when NOTIFY was last set
	cancel    context.CancelFunc
}

// noNotify says whether the backend has refused NOTIFY to this user.
func (h *Hub) noNotify(m *mailbox) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := m.user.notify[m.backend.id]
	return w != nil && w.refused
}

// notifyLocked has the mailbox watched by the user's NOTIFY connection.
func (h *Hub) notifyLocked(m *mailbox) {
	u, b := m.user, m.backend
	w := u.notify[b.id]
	if w == nil {
		w = &notifyWatch{hub: h, user: u, backend: b}
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
	w.bell.ring()
}

// removeLocked is for a mailbox that is dead.
func (w *notifyWatch) removeLocked(m *mailbox) {
	w.mailboxes = slices.DeleteFunc(w.mailboxes, func(o *mailbox) bool { return o == m })
	// NOTIFY is left as it is for the others: it tells too much, at worst.
	if len(w.mailboxes) == 0 && w.cancel != nil {
		w.cancel()
		w.cancel = nil
		w.hub.clearAlarmLocked(&w.renew)
		delete(w.user.notify, w.backend.id)
	}
}

func (w *notifyWatch) alarmLocked() {
	w.changed = true
	w.bell.ring()
}

// run is the watch's goroutine.
func (w *notifyWatch) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, w.bell.ring)
	defer stop()
	for {
		err := w.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		h := w.hub
		h.mu.Lock()
		for _, m := range w.mailboxes {
			m.fallenLocked()
		}
		w.changed = true
		mailboxes := slices.Clone(w.mailboxes)
		h.mu.Unlock()
		if refusal, ok := errors.AsType[*Refusal](err); ok && refusal.Verb == "NOTIFY" {
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
		h.pause(ctx, wait)
	}
}

// giveUp has all its mailboxes watched by IDLE, or polled.
func (w *notifyWatch) giveUp() {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.cancel == nil {
		return // its last mailbox went just now
	}
	w.refused = true
	w.cancel() // who ran here returns
	w.cancel = nil
	h.clearAlarmLocked(&w.renew)
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
		m.standLocked()
	}
	w.mailboxes = nil
}

// watch is one connection's life.
func (w *notifyWatch) watch(ctx context.Context) error {
	t, err := w.open(ctx)
	if err != nil {
		return err
	}
	w.hub.connections(1)
	defer func() {
		c, _ := t.Release()
		_ = c.Close() // NOTIFY is set on it: nobody else may have it
		w.hub.connections(-1)
	}()
	known := map[string]mailboxStatus{}
	for again := false; ; again = true {
		if err := w.set(ctx, t, known, again); err != nil {
			return err
		}
		if err := w.listen(ctx, t, known); err != nil {
			return err
		}
	}
}

func (w *notifyWatch) open(ctx context.Context) (*Talk, error) {
	release, err := w.backend.slot(ctx, w.user)
	if err != nil {
		return nil, err
	}
	defer release()
	w.hub.mu.Lock()
	var a Account
	ok := false
	var r Resyncer
	for _, m := range w.mailboxes {
		if a, ok = m.accountLocked(); ok {
			r = m.resync
			break
		}
	}
	w.hub.mu.Unlock()
	if !ok {
		return nil, ErrLost
	}
	ctx, cancel := context.WithTimeoutCause(ctx, dialogueTimeout, ErrTooSlow)
	defer cancel()
	c, err := a.Login(ctx)
	if err != nil {
		return nil, err
	}
	t := NewTalk(c, TalkOptions{})
	// With mod-sequences STATUS shows flags that changed, too.
	if err := prepare(ctx, t, r); err != nil {
		giveBack(ctx, t, a)
		return nil, err
	}
	return t, nil
}

// set sets NOTIFY for the mailboxes that there are now, which then stand; again on this connection.
func (w *notifyWatch) set(ctx context.Context, t *Talk, known map[string]mailboxStatus, again bool) error {
	h := w.hub
	h.mu.Lock()
	w.changed, w.told = false, false
	mailboxes := slices.Clone(w.mailboxes)
	h.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, dialogueTimeout, ErrTooSlow)
	defer cancel()
	which, err := t.notifyFilter(mailboxes)
	if err != nil {
		return err
	}
	if again {
		if _, err := t.do(ctx, "NOTIFY NONE", func(u untagged) bool { return w.take(u, t, known, true) }); err != nil {
			return err
		}
	}
	command := "NOTIFY SET STATUS (" + which + " (MessageNew MessageExpunge FlagChange MailboxName))"
	gone := maps.Clone(known)
	if _, err := t.do(ctx, command, func(u untagged) bool {
		if name, _, ok := t.status(u); ok {
			delete(gone, name)
		}
		return w.take(u, t, known, false)
	}); err != nil {
		return err
	}
	for name := range gone { // deleted or renamed while nobody listened: nothing is said of it
		delete(known, name)
		w.hint(name, false)
	}
	h.mu.Lock()
	for _, m := range mailboxes {
		if m.kind == WatchNotify {
			m.standLocked()
		}
	}
	w.setAt = h.now()
	h.setAlarmLocked(&w.renew, w.setAt.Add(jittered(h.o.NotifyRenewEvery)))
	told := w.told
	h.mu.Unlock()
	if told {
		w.renewSoon()
	}
	return nil
}

// status reads a STATUS response. The name is canonical.
func (t *Talk) status(u untagged) (name string, s mailboxStatus, ok bool) {
	if !u.is("STATUS") {
		return "", s, false
	}
	return parseStatus(u.Rest, wire.Caps(t.enabled).Has("UTF8=ACCEPT"))
}

// renewSoon has NOTIFY set anew when a burst of events is over, or has gone on for a while.
func (w *notifyWatch) renewSoon() {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.now().Add(notifySettle)
	if soonest := w.setAt.Add(notifyGap); at.Before(soonest) {
		at = soonest
	}
	if w.renew.place != 0 && at.Before(w.renew.at) {
		h.setAlarmLocked(&w.renew, at)
	}
}

// notifyFilter names the mailboxes that are to be notified of (RFC 5465 §6), as few
// as can be, since the backend looks at each at each setting. Dovecot doesn't decode
// the names: where one is encoded, all of the user's are asked for.
func (t *Talk) notifyFilter(mailboxes []*mailbox) (string, error) {
	var names []string
	for _, m := range mailboxes {
		if view.EncodeMailbox(m.name, false) != m.name {
			return "personal", nil
		}
		name, err := t.mailbox(m.name)
		if err != nil {
			return "", err
		}
		names = append(names, name)
	}
	return "mailboxes (" + strings.Join(names, " ") + ")", nil
}

// listen reads what is notified until NOTIFY has to be set anew.
func (w *notifyWatch) listen(ctx context.Context, t *Talk, known map[string]mailboxStatus) error {
	for {
		data, rung, err := w.bell.wait(t, w.hub.pump)
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if data {
			within, cancel := context.WithTimeoutCause(ctx, dialogueTimeout, ErrTooSlow)
			err := t.listen(within, func(u untagged) bool { return w.take(u, t, known, true) })
			cancel()
			if err != nil {
				return err
			}
			w.renewSoon()
		}
		if rung || data {
			w.hub.mu.Lock()
			changed := w.changed
			w.hub.mu.Unlock()
			if changed {
				return nil
			}
		}
	}
}

// take makes hints of what is notified: an event always is one, the first status of a
// new setting if it differs from what was known.
func (w *notifyWatch) take(u untagged, t *Talk, known map[string]mailboxStatus, event bool) bool {
	code, _ := wire.Code(u.Rest)
	switch {
	case u.is("STATUS"):
		name, status, ok := t.status(u)
		if !ok {
			w.hint("", false)
			return true
		}
		old, before := known[name]
		changed := old.update(status)
		if before || w.watches(name) {
			known[name] = old
		}
		if event || before && changed {
			w.hint(name, false)
		}
	case u.is("LIST"):
		w.hint("", false) // a mailbox came, went, or has another name
	case u.Status == wire.OK && strings.EqualFold(string(code), "NOTIFICATIONOVERFLOW"):
		// RFC 5465 §5.8: it tells nothing more.
		w.hint("", true)
	}
	return true
}

// hint is for one of the watch's mailboxes, or with "" for all.
func (w *notifyWatch) hint(name string, again bool) {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.changed = w.changed || again
	for _, m := range w.mailboxes {
		if name == "" || m.name == name {
			w.told = true
			m.hintLocked(HintNotify)
		}
	}
}

func (w *notifyWatch) watches(name string) bool {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	return slices.ContainsFunc(w.mailboxes, func(m *mailbox) bool { return m.name == name })
}

// mailboxStatus is what STATUS has said of a mailbox; 0: nothing.
type mailboxStatus struct {
	messages, unseen, next, validity, modSeq uint64
	has                                      uint8 // a bit for each that was said
}

// update takes over what is said, and says whether any of it is another than was
// known.
func (s *mailboxStatus) update(n mailboxStatus) (changed bool) {
	now := []*uint64{&s.messages, &s.unseen, &s.next, &s.validity, &s.modSeq}
	for i, v := range []uint64{n.messages, n.unseen, n.next, n.validity, n.modSeq} {
		if bit := uint8(1) << i; n.has&bit != 0 {
			changed = changed || s.has&bit != 0 && *now[i] != v
			*now[i] = v
			s.has |= bit
		}
	}
	return changed
}

// parseStatus reads what follows STATUS. RFC 9051 §7.3.4.
func parseStatus(b []byte, utf8Names bool) (name string, s mailboxStatus, ok bool) {
	raw, rest, err := wire.AString(b)
	if err != nil {
		return "", s, false
	}
	if name, err = view.DecodeMailbox(raw, utf8Names); err != nil {
		return "", s, false
	}
	rest = bytes.TrimSpace(rest)
	if len(rest) < 2 || rest[0] != '(' || rest[len(rest)-1] != ')' {
		return "", s, false
	}
	items := bytes.Fields(rest[1 : len(rest)-1])
	for i := 0; i+1 < len(items); i += 2 {
		n, err := strconv.ParseUint(string(items[i+1]), 10, 64)
		if err != nil {
			continue // MAILBOXID and the like
		}
		switch strings.ToUpper(string(items[i])) {
		case "MESSAGES":
			s.messages, s.has = n, s.has|1
		case "UNSEEN":
			s.unseen, s.has = n, s.has|2
		case "UIDNEXT":
			s.next, s.has = n, s.has|4
		case "UIDVALIDITY":
			s.validity, s.has = n, s.has|8
		case "HIGHESTMODSEQ":
			s.modSeq, s.has = n, s.has|16
		}
	}
	return name, s, true
}
