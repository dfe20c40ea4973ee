package park

import (
	"context"
	"slices"
	"time"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
)

// phase is where the watch of a mailbox stands.
type phase uint8

const (
	fresh    phase = iota // just made
	starting              // hints don't flow yet; Subscribe waits
	working               // hints flow
	renewing              // the watch is being set up again; until it works, a hint is outstanding
	dead                  // given up, or without a subscription; not in the hub's tables
)

// mailbox is one mailbox of one user at one backend, with its subscriptions. It
// is in its user's list from the first Subscribe to the last Close, or until it
// is given up; a new Subscribe makes a new one.
//
// All that is below the line is guarded by the hub's mutex.
type mailbox struct {
	hub      *Hub
	user     *user
	name     string
	strategy resync.Strategy
	waker    imapclient.Waker // of an IDLE watch

	// ----

	site   *site // where it is; another one when its user has moved (follow.go)
	kind   Watch
	phase  phase
	ready  chan struct{}      // closed when the phase becomes working or dead; nil while it is working
	err    error              // why it is dead
	gone   error              // set where that is for Gone
	cancel context.CancelFunc // of what runs for it; nil: nothing does
	subs   []*Subscription
	modSeq uint64 // of the last EXAMINE that completed; 0: none

	// dirty: a hint is outstanding for the members that have joined. heard counts hints.
	dirty bool
	heard uint64
	why   string // dirty since then
	// running: a round is under way, the one that begun counts. done is that of the last one
	// that is over.
	running     bool
	begun, done uint64
	waiters     []*waiter
	jobs        []*job // for the watch's own connection
	queued      bool   // in the site's queue

	// notBefore puts the next round off: after a burst's last, or a failure.
	notBefore time.Time
	failing   time.Time // since when there were only failures; zero: there are none
	backoff   time.Duration
	leaves    bool // the connection of its IDLE watch is to end (LetGo)
	patient   bool // a session was parked before hints flowed (SubscribeLater)
	refused   bool // the last EXAMINE was refused without a reason
	unused    bool // it had no member at the last sweep, and has had none since
	sweepAt   time.Time
	reIdleAt  time.Time // zero: no IDLE is under way
	timer     timer
}

// waiter is a Look that waits for a round to be over.
type waiter struct {
	round uint64
	done  chan error // has room for one
}

// account is one of an open subscription's. None is left when the mailbox is dead.
func (m *mailbox) account() (Account, bool) {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	return m.accountLocked()
}

func (m *mailbox) accountLocked() (Account, bool) {
	if len(m.subs) == 0 {
		return Account{}, false
	}
	// The newest: the user may have changed the password since the oldest.
	return m.subs[len(m.subs)-1].account, true
}

// wait waits until hints flow.
func (m *mailbox) wait(ctx context.Context) error {
	for {
		m.hub.mu.Lock()
		phase, err, ready := m.phase, m.err, m.ready
		m.hub.mu.Unlock()
		switch phase {
		case working:
			return nil
		case dead:
			return err
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.hub.ctx.Done():
			return ErrHubClosed
		}
	}
}

// worksLocked says that hints flow.
func (m *mailbox) worksLocked() {
	if m.phase == dead || m.phase == working {
		return
	}
	h := m.hub
	if m.phase == renewing {
		h.counts.Renewed++
	}
	m.phase = working
	close(m.ready)
	m.ready = nil
	m.recoveredLocked()
	if m.sweepAt.IsZero() {
		m.sweepAt = h.now().Add(jittered(m.every()))
	}
	m.scheduleLocked()
}

// brokenLocked says that hints don't flow any more: what was missed since is unknown.
func (m *mailbox) brokenLocked() {
	if m.phase != working {
		return
	}
	m.phase = renewing
	m.ready = make(chan struct{})
	m.heard++
	m.dirtyLocked(whyRenewed)
	m.reIdleAt = time.Time{}
}

// watchedLocked says where hints come from.
func (m *mailbox) watchedLocked(by Watch) {
	if m.phase == dead {
		return
	}
	m.hub.kinds[m.kind]--
	m.kind = by
	m.hub.kinds[by]++
}

// every is how often the mailbox is looked at without a hint.
func (m *mailbox) every() time.Duration {
	if m.kind == WatchPoll {
		return m.hub.o.PollEvery
	}
	return m.hub.o.SweepEvery
}

func (m *mailbox) hintLocked(source HintSource) {
	m.hub.counts.Hints[source]++
	m.heard++
	m.dirtyLocked(string(source))
	m.scheduleLocked()
}

// Why a mailbox is looked at, besides the sources of hints; in metrics and traces
// alone.
const (
	whyRenewed = "renewed" // the watch has stood still
	whyJoin    = "join"    // something was heard while a session was being parked, or may have been missed before
	whyLook    = "look"    // a parked client asks
	whyPark    = "park"    // what a view starts from
	whyResume  = "resume"
)

// dirtyLocked says that a hint is outstanding. The reason of the first one counts.
func (m *mailbox) dirtyLocked(why string) {
	if !m.dirty || m.why == "" {
		m.why = why
	}
	m.dirty = true
}

func (m *mailbox) joinedLocked() bool {
	return slices.ContainsFunc(m.subs, func(s *Subscription) bool { return s.member != nil })
}

// dueLocked says whether there is something to resync for, now or later.
func (m *mailbox) dueLocked() bool {
	return len(m.jobs) > 0 || m.dirty && m.joinedLocked()
}

// scheduleLocked has a round begin where there is reason to, or sets the timer to when one may. Both
// are decided by one reading of the clock, and nothing else sets the timer: a round
// that is put off to a time that passes just then would else have neither.
func (m *mailbox) scheduleLocked() {
	now := m.hub.now()
	switch {
	case m.phase != working || m.running || !m.dueLocked():
	case m.putOffLocked(now):
	case m.kind == WatchIdle:
		m.waker.Wake()
	default:
		m.site.enqueueLocked(m)
	}
	m.armLocked(now)
}

// putOffLocked says whether the next round isn't to begin yet.
func (m *mailbox) putOffLocked(now time.Time) bool {
	return len(m.jobs) == 0 && now.Before(m.notBefore)
}

// armLocked sets the timer to what comes next. It is for scheduleLocked alone.
func (m *mailbox) armLocked(now time.Time) {
	if m.phase == dead || m.sweepAt.IsZero() {
		return
	}
	at := m.sweepAt
	if m.dueLocked() && !m.running && m.notBefore.Before(at) && m.putOffLocked(now) {
		at = m.notBefore
	}
	if !m.reIdleAt.IsZero() && m.reIdleAt.Before(at) {
		at = m.reIdleAt
	}
	m.hub.timers.setLocked(&m.timer, at)
}

func (m *mailbox) timerLocked() {
	now := m.hub.now()
	if !now.Before(m.sweepAt) {
		m.sweepLocked()
		if m.phase == dead {
			return
		}
	}
	if !m.reIdleAt.IsZero() && !now.Before(m.reIdleAt) {
		m.reIdleAt = time.Time{}
		m.waker.Wake()
	}
	m.scheduleLocked()
}

// sweepLocked looks at the mailbox though nothing was heard of it, and at the others of its
// user that are soon due, on the same connection: it has to be logged in for that.
func (m *mailbox) sweepLocked() {
	soon := m.hub.now().Add(m.every() / 2)
	for _, o := range slices.Clone(m.user.mailboxes) {
		if o == m || m.kind != WatchIdle && o.kind == m.kind && o.site == m.site && o.phase == working && o.sweepAt.Before(soon) {
			o.sweptLocked()
		}
	}
}

func (m *mailbox) sweptLocked() {
	// A watch is there for parked sessions. Those that have been attached for long subscribe anew.
	if m.unused && !m.joinedLocked() {
		m.dropLocked(nil)
		return
	}
	m.unused = !m.joinedLocked()
	m.sweepAt = m.hub.now().Add(jittered(m.every()))
	source := HintSweep
	if m.kind == WatchPoll {
		source = HintPoll
	}
	m.hintLocked(source)
}

// dropLocked takes the mailbox out of the hub and ends what runs for it. nil:
// it has no use any more.
func (m *mailbox) dropLocked(err error) {
	if m.phase == dead {
		return
	}
	if m.phase != working {
		close(m.ready)
	}
	m.phase, m.err = dead, err
	if err == nil {
		m.err = ErrLost
	}
	h := m.hub
	h.counts.Mailboxes--
	h.kinds[m.kind]--
	h.timers.clearLocked(&m.timer)
	if m.cancel != nil {
		m.cancel()
	}
	for _, w := range m.waiters {
		w.done <- ErrLost
	}
	for _, j := range m.jobs {
		j.done <- jobResult{err: ErrLost}
	}
	m.waiters, m.jobs = nil, nil
	u := m.user
	u.mailboxes = slices.DeleteFunc(u.mailboxes, func(o *mailbox) bool { return o == m })
	if w := u.notify[m.site.id]; w != nil {
		w.removeLocked(m)
	}
	if len(u.mailboxes) == 0 {
		delete(h.users, u.name)
	}
	m.site.lostLocked()
}
