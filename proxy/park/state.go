package park

import (
	"container/list"
	"context"
	"sync"
	"time"

	"imapproxy/internal/fair"
	"imapproxy/proxy/conn"
	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
)

// Hub knows which sessions are parked on which mailbox and which hints have come for it, and
// resyncs a mailbox that was hinted at: once for all sessions that are parked there.
//
// Waiting for hints costs a goroutine for each watch, none for a mailbox that
// push events or polling serve. All of them are the hub's, and Run waits for them.
type Hub struct {
	o    HubOptions
	pump *conn.Pool

	ctx  context.Context // ends with Run
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex // guards all below, and what says so; wakers are locked under it
	closed bool
	// users has the users with a subscription.
	users map[string]*user
	// sites has the backends that a user of users is at.
	sites  map[string]*site
	timers timers
	work   work
	counts HubStats           // kept up to date, but for the watches
	kinds  [WatchPoll + 1]int // mailboxes by where hints come from
}

// work has the functions that run in goroutines which a change of the data starts. NewHub sets them, so that the files that
// change the data don't need the files that use connections.
type work struct {
	round  func(*mailbox, *site)               // makes a round on a connection of its own
	notify func(*notifyWatch, context.Context) // keeps the connection of a NOTIFY watch
}

// user is what the hub has for one user. It goes with the user's last mailbox.
type user struct {
	name string
	// mailboxes are those with a subscription, few.
	mailboxes []*mailbox
	// notify has the NOTIFY watches, by backend.
	notify map[string]*notifyWatch
	// namespaces has what is known of the user's namespaces, at each backend.
	namespaces []*namespaces
}

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

// job is a request for a state on an IDLE watch's connection, by a session that resumes or is
// being parked. It makes a round for all members: its EXAMINE takes away what IDLE would still
// have told.
type job struct {
	view *view.View // nil: none
	why  string
	done chan jobResult // has room for one
}

type jobResult struct {
	state *view.State
	err   error
}

// site is what the hub does at one backend: it bounds how many connections it uses there at a
// time, and shares them between users.
type site struct {
	hub   *Hub
	id    string
	name  string              // for people
	slots *fair.Queue[string] // by user: one is held for each connection in use

	// Guarded by the hub's mutex:
	mailboxes  int // how many of the hub's are at this backend
	workers    int
	namespaces *namespaces // those of the user who was asked for last
	// lines has the users with mailboxes that wait for a round on a connection that isn't a
	// watch's, and turns has them in the order in which they are served.
	lines   map[*user]*line
	turns   list.List  // of *line
	waiting int        // mailboxes in all lines
	serving []*mailbox // those that the workers have a connection for, or soon will
}

// line has the mailboxes of one user that wait, first come, first served, one at a time:
// the next finds the connection warm, where several at once would log in each for itself. That
// is only worth it for a mailbox that a client waits for.
type line struct {
	user  *user
	queue []*mailbox
	turn  *list.Element // in turns
}

// Subscription is one session's interest in one mailbox. Of its methods, only
// Look, Poll, Resync, Table and Again wait.
type Subscription struct {
	m       *mailbox
	account Account

	// Guarded by the hub's mutex:
	closed bool
	member Member // nil: hasn't joined, or has left
	joins  uint64 // how often the member has joined: a state for an earlier time isn't for it
	// heard and done are the mailbox's as of Subscribe or Again. If it is hinted at or
	// resynced before Join, the view may lack what that was about.
	heard, done uint64
	// round is the last one that the member took part in.
	round uint64
	// missed: a resync left the member out, because it showed no view just then.
	missed bool
}

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

// sleep waits for d, or until ctx ends.
func (h *Hub) sleep(ctx context.Context, d time.Duration) {
	s := newSleep()
	h.mu.Lock()
	h.timers.setLocked(&s.timer, h.now().Add(d))
	h.mu.Unlock()
	select {
	case <-s.over:
	case <-ctx.Done():
		h.mu.Lock()
		h.timers.clearLocked(&s.timer)
		h.mu.Unlock()
	}
}

func (h *Hub) now() time.Time { return h.o.Now() }
