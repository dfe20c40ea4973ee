package park

import (
	"cmp"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/park/view"
	"imapproxy/telemetry"
)

// HubOptions are a Hub's. The zero value is usable.
type HubOptions struct {
	// Watch chooses where hints come from: "push", "notify", "idle", "poll", or
	// "auto" (also ""), which takes what costs the backend least (see ChooseWatch). What a
	// mailbox or its backend can't have is replaced by the next dependable one.
	Watch string
	// Push says that the backends post events, which come through Queue.
	Push bool
	// Queue has hints that others have; Run takes them. nil: only Hint.
	Queue *HintQueue

	// SweepEvery is how long after a look a mailbox is looked at without any hint, PollEvery
	// how long where there is no watch. NotifyRenewEvery is how often NOTIFY is
	// set anew: a Dovecot may have fallen silent. Zero: the defaults.
	SweepEvery, PollEvery, NotifyRenewEvery time.Duration

	// MaxDiffMessages bounds the comparison strategy. Zero: DefaultMaxDiffMessages.
	MaxDiffMessages uint32

	// MaxResyncs bounds how many resyncs and logins run on one backend at a time.
	// Zero: DefaultMaxResyncs.
	MaxResyncs int

	Telemetry *telemetry.Telemetry // may be nil
	Now       func() time.Time     // nil: time.Now

	// Plant is for tests of tests: what a resync has found goes through it before
	// those who are parked there are told. From nil they hear nothing.
	Plant func(mailbox string, s *view.State) *view.State
}

// Defaults and fixed times of a Hub.
const (
	DefaultSweepEvery       = 15 * time.Minute
	DefaultPollEvery        = time.Minute
	DefaultNotifyRenewEvery = 45 * time.Second
	DefaultMaxResyncs       = 8

	// notifySettle is how long after an event NOTIFY is set anew, notifyGap how far apart that
	// is at least: a millisecond of the backend's.
	notifySettle = 500 * time.Millisecond
	notifyGap    = time.Second

	// idleFor: servers may log an IDLE out after 30 minutes (RFC 9051 §6.3.13).
	idleFor = 25 * time.Minute
	// dialogueTimeout bounds one resync, and setting up a watch.
	dialogueTimeout = 30 * time.Second
	// lostAfter is how long failures may go on until members are told.
	lostAfter = 30 * time.Second
	// burstGap is between two resyncs of a mailbox when hints come in a burst. The
	// first of a burst is never put off.
	burstGap = 50 * time.Millisecond
	// firstBackoff to lastBackoff are between failures in a row; the first is
	// followed by another try at once.
	firstBackoff = 250 * time.Millisecond
	lastBackoff  = 8 * time.Second
)

// Hub knows who is parked on which mailbox and what has been heard of it, and
// resyncs what was hinted at: once for all who are parked there.
//
// Waiting for hints costs a goroutine for each watch, none for a mailbox that
// push events or polling serve. All of them are the hub's, and Run waits for them.
type Hub struct {
	o    HubOptions
	pump *conn.Pool

	ctx  context.Context // ends with Run
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex // guards all below, and what says so; doorbells are locked under it
	closed bool
	// users has everybody with a subscription.
	users map[string]*user
	// backends has those that a user of users is at.
	backends map[string]*backend
	alarms   alarms
	counts   HubStats           // kept up to date, but for the watches
	kinds    [WatchPoll + 1]int // mailboxes by where hints come from
}

// user is what the hub has for one user. It goes with his last mailbox.
type user struct {
	name string
	// mailboxes are those with a subscription, few.
	mailboxes []*mailbox
	// notify has his NOTIFY watches, by backend.
	notify map[string]*notifyWatch
	// namespaces has what is known of his namespaces, at each backend.
	namespaces []*namespaces
}

// HubStats is what a Hub does, for people and metrics. Counters run from its
// beginning.
type HubStats struct {
	Mailboxes, Members          int // now
	Push, Notify, Idle, Polled  int // mailboxes by where hints come from, now
	Connections                 int // held by watches, now
	Waiting                     int // mailboxes that wait for a resync, now
	Resyncs, Failed             uint64
	Hints                       map[HintSource]uint64 // that concerned a mailbox of the hub's
	Renewed, Lost, Gone, Denied uint64                // watches set up again; mailboxes given up; gone; subscriptions refused
}

// NewHub makes a hub. Whoever makes one has to call Run.
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
		o: o, pump: conn.NewPool(), users: map[string]*user{}, backends: map[string]*backend{},
		alarms: alarms{changed: make(chan struct{}, 1)},
	}
	h.counts.Hints = map[HintSource]uint64{}
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

// Run does the hub's work until ctx ends, and returns when all its goroutines
// have. Members aren't told: whoever ends the hub ends the sessions.
func (h *Hub) Run(ctx context.Context) {
	h.mu.Lock()
	h.goLocked(h.watchClock)
	if h.o.Queue != nil {
		h.goLocked(h.takeHints)
	}
	h.mu.Unlock()
	<-ctx.Done()
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.stop()
	h.wg.Wait()
}

// goLocked starts a goroutine of the hub's, unless it has ended.
func (h *Hub) goLocked(f func()) bool {
	if h.closed {
		return false
	}
	h.wg.Add(1)
	go func() {
		defer h.wg.Done()
		f()
	}()
	return true
}

func (h *Hub) takeHints() {
	for {
		hint, err := h.o.Queue.Next(h.ctx)
		if err != nil {
			return
		}
		h.Hint(hint)
	}
}

// Hint marks the mailboxes that it concerns, so that nobody parked there is
// settled when it returns, and has them looked at. It never blocks.
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

// Wanted says whether hints for this user concern anybody.
func (h *Hub) Wanted(user string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.users[user] != nil
}

// Subscribe has the mailbox (a canonical name) watched for this account, and
// returns when hints flow. All subscriptions of a user's to a mailbox share one
// watch. ctx is for the waiting alone.
//
// Its errors are Login's; a Resyncer's (*Refusal, ErrNoModSeq, ErrTooMany …), which
// say that the mailbox can't be parked; ErrLost; ErrHubClosed; and ctx's.
func (h *Hub) Subscribe(ctx context.Context, a Account, mailbox string) (*Subscription, error) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil, ErrHubClosed
	}
	m := h.mailboxLocked(a, mailbox)
	s := &Subscription{m: m, account: a}
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

// mailboxLocked finds the mailbox, or makes it.
func (h *Hub) mailboxLocked(a Account, name string) *mailbox {
	u := h.users[a.User]
	if u == nil {
		u = &user{name: a.User}
		h.users[a.User] = u
	}
	for _, m := range u.mailboxes {
		if m.name == name && m.backend.id == a.Backend {
			return m
		}
	}
	b := h.backends[a.Backend]
	if b == nil {
		b = newBackend(h, a)
		h.backends[a.Backend] = b
	}
	b.mailboxes++
	m := &mailbox{hub: h, user: u, backend: b, name: name, resync: ChooseResync(a.Caps, h.o.MaxDiffMessages), ready: make(chan struct{})}
	m.alarm.owner = m
	u.mailboxes = append(u.mailboxes, m)
	h.counts.Mailboxes++
	h.kinds[m.kind]++
	return m
}

func (h *Hub) comparison() Resyncer { return ByComparison{MaxMessages: h.o.MaxDiffMessages} }

func (h *Hub) now() time.Time { return h.o.Now() }

// jittered spreads what happens every d.
func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.75 + rand.Float64()/2))
}

// Stats is a snapshot of what the hub does.
func (h *Hub) Stats() HubStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.counts
	st.Hints = make(map[HintSource]uint64, len(h.counts.Hints))
	for source, n := range h.counts.Hints {
		st.Hints[source] = n
	}
	st.Push, st.Notify, st.Idle, st.Polled = h.kinds[WatchPush], h.kinds[WatchNotify], h.kinds[WatchIdle], h.kinds[WatchPoll]
	for _, b := range h.backends {
		st.Waiting += b.waiting
	}
	return st
}
