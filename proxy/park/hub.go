package park

import (
	"cmp"
	"context"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/park/resync"
	"imapproxy/telemetry"
)

// NewHub returns a hub. Its caller has to call Run.
func NewHub(o HubOptions) *Hub {
	o.SweepEvery = cmp.Or(o.SweepEvery, DefaultSweepEvery)
	o.PollEvery = cmp.Or(o.PollEvery, DefaultPollEvery)
	o.NotifyRenewEvery = cmp.Or(o.NotifyRenewEvery, DefaultNotifyRenewEvery)
	o.MaxResyncs = cmp.Or(o.MaxResyncs, DefaultMaxResyncs)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Telemetry == nil {
		o.Telemetry = telemetry.Discard()
	}
	h := &Hub{
		o: o, pump: conn.NewPool(), users: map[string]*user{}, sites: map[string]*site{},
		timers: timers{changed: make(chan struct{}, 1)},
		work:   work{round: (*mailbox).resyncOnce, notify: (*notifyWatch).run},
	}
	h.began = o.Now()
	h.counts.Hints = map[HintSource]uint64{}
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

// Run does the hub's work until ctx ends, and returns when all its goroutines have ended. Members aren't
// told: the caller that ends the hub also ends the sessions.
func (h *Hub) Run(ctx context.Context) {
	poller, err := conn.NewPoller()
	if err != nil {
		h.o.Telemetry.Log.Warn("watches need a goroutine each", "error", err)
	}
	h.mu.Lock()
	h.goLocked(h.runTimers)
	if err == nil && h.goLocked(func() { h.poll(poller) }) {
		h.poller = poller
	}
	if h.o.Queue != nil {
		h.goLocked(h.passHints)
	}
	h.mu.Unlock()
	<-ctx.Done()
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.stop()
	h.wakeAll()
	h.wg.Wait()
}

// poll waits for the watches' connections until the hub ends. If the poller fails, it wakes all of them, and they need goroutines again.
func (h *Hub) poll(p *conn.Poller) {
	if err := p.Run(h.ctx); err != nil {
		h.o.Telemetry.Log.Warn("watches need a goroutine each", "error", err)
	}
}

// wakeAll wakes all watches once the hub's context has ended. None is started after that.
func (h *Hub) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, u := range h.users {
		for _, m := range u.mailboxes {
			m.waker.Wake()
		}
		for _, w := range u.notify {
			w.waker.Wake()
		}
	}
}

func (h *Hub) passHints() {
	for {
		hint, err := h.o.Queue.Next(h.ctx)
		if err != nil {
			return
		}
		h.Hint(hint)
	}
}

// Hint marks the mailboxes that a hint concerns and schedules their resync. When it returns, no subscription
// to them is settled. It never blocks.
func (h *Hub) Hint(hint Hint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := h.users[hint.User]
	if u == nil {
		return
	}
	for _, m := range u.mailboxes {
		if hint.Mailbox == "" || hint.Mailbox == m.name {
			m.hintLocked(hint.Source)
		}
	}
}

// Wanted says whether the user has a subscription, so that a hint may concern it.
func (h *Hub) Wanted(user string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.users[user] != nil
}

// Subscribe watches the mailbox (a canonical name) for this account, and returns when hints flow. All
// subscriptions of a user to a mailbox share one watch. ctx only bounds the wait.
//
// Its errors are Login's; a resync.Strategy's (*imapclient.Refusal, resync.ErrNoModSeq, resync.ErrTooMany …), which
// say that a session on the mailbox can't be parked; ErrLost; ErrHubClosed; and ctx's.
func (h *Hub) Subscribe(ctx context.Context, a Account, mailbox string) (*Subscription, error) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil, ErrHubClosed
	}
	m := h.mailboxLocked(a, mailbox)
	s := &Subscription{m: m, access: a.access()}
	m.subs = append(m.subs, s)
	if m.phase == fresh {
		m.startLocked()
	}
	h.mu.Unlock()

	err := m.wait(ctx)
	if err == nil {
		err = m.learnBound(ctx, a)
	}
	h.mu.Lock()
	if err == nil {
		err = s.beginLocked()
	}
	if err != nil {
		h.counts.Denied++
	}
	h.mu.Unlock()
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// mailboxLocked returns the mailbox; it makes it if necessary.
func (h *Hub) mailboxLocked(a Account, name string) *mailbox {
	u := h.users[a.User]
	if u == nil {
		u = &user{name: a.User}
		h.users[a.User] = u
	}
	for _, m := range u.mailboxes {
		if m.name == name && m.site.id == a.Backend {
			return m
		}
	}
	m := &mailbox{hub: h, user: u, site: h.siteLocked(a.Backend, a.BackendName), name: name, strategy: resync.Choose(a.Caps, h.o.MaxDiffMessages), ready: make(chan struct{})}
	m.timer.owner = m
	u.mailboxes = append(u.mailboxes, m)
	h.counts.Mailboxes++
	h.kinds[m.kind]++
	return m
}

// runTimers waits for the timers and fires them until the hub ends.
func (h *Hub) runTimers() {
	clock := time.NewTimer(0)
	defer clock.Stop()
	for {
		select {
		case <-clock.C:
		case <-h.timers.changed:
		case <-h.ctx.Done():
			return
		}
		if next, ok := h.fireTimers(); ok {
			clock.Reset(next)
		}
	}
}

func (h *Hub) fireTimers() (next time.Duration, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.timers.fireLocked(h.moment())
}

// Stats returns the hub's current figures.
func (h *Hub) Stats() HubStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.counts
	st.Hints = make(map[HintSource]uint64, len(h.counts.Hints))
	for source, n := range h.counts.Hints {
		st.Hints[source] = n
	}
	st.Push, st.Notify, st.Idle, st.Polled = h.kinds[WatchPush], h.kinds[WatchNotify], h.kinds[WatchIdle], h.kinds[WatchPoll]
	for _, b := range h.sites {
		st.Waiting += b.waiting
	}
	return st
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
	s := &Subscription{m: m, access: a.access()}
	m.subs = append(m.subs, s)
	return s, s.laterLocked()
}
