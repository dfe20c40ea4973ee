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
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// Hub has the sessions that are parked on each mailbox, and the hints about it. It resyncs a mailbox after a
// hint, once for all sessions that are parked there.
//
// A watch has a goroutine while it uses its connection; while the backend is silent, the poller waits. A mailbox with push
// events or polling has none. Run waits for all goroutines of the hub.
type Hub struct {
	o    HubOptions
	pump *conn.Pool

	began time.Time // h.moment counts from here

	ctx  context.Context // ends with Run
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex // guards the fields below, and fields of other types that say so; wakers are locked under it
	closed bool
	// users has the users with subscriptions, by name.
	users map[string]*user
	// sites has the backends of these users, by id.
	sites  map[string]*site
	poller *conn.Poller // waits for the watches' connections; nil: there is none, and each of them has a goroutine
	timers timers
	work   work
	counts HubStats           // current values, except those of watches
	kinds  [WatchPoll + 1]int // number of mailboxes by the source of their hints
}

// work has the functions that run in goroutines which a change of the data starts. NewHub sets them, so that the files that
// change the data don't need the files that use connections.
type work struct {
	round  func(*mailbox, *site)               // makes a round on a connection of its own
	notify func(*notifyWatch, context.Context) // keeps the connection of a NOTIFY watch
}

// user has the hub's data of one user. It is removed with the user's last mailbox.
type user struct {
	name string
	// mailboxes has the user's few mailboxes with a subscription.
	mailboxes []*mailbox
	// notify has the user's NOTIFY watches, by backend.
	notify map[string]*notifyWatch
	// namespaces has the known namespaces of the user at each backend.
	namespaces []*namespaces
	// hurried is the number of sessions whose clients wait for an answer of one of the user's watches.
	hurried int
}

// phase is the state of a mailbox's watch.
type phase uint8

const (
	fresh    phase = iota // just made
	starting              // hints don't flow yet; Subscribe waits
	working               // hints flow
	renewing              // the watch is being set up again; until it works, a hint is outstanding
	dead                  // abandoned, or without a subscription; not in the hub's tables
)

// mailbox is one mailbox of one user at one backend, with its subscriptions. It is in its user's list from
// the first Subscribe to the last Close, or until it is abandoned; a later Subscribe makes a new one.
//
// The hub's mutex guards the fields below the line.
type mailbox struct {
	hub      *Hub
	user     *user
	name     string
	strategy resync.Strategy
	waker    imapclient.Waker // of an IDLE watch

	// ----

	site   *site              // its backend; it changes when the user has moved (follow.go)
	ready  chan struct{}      // closed when the phase becomes working or dead; nil while it is working
	err    error              // why it is dead
	gone   error              // the error for Member.Gone, if there is one
	cancel context.CancelFunc // ends the mailbox's goroutine; nil: there is none
	subs   []*Subscription
	modSeq uint64 // of the last EXAMINE that completed; 0: none

	// The small fields share a word, since each parked mailbox has all of this.
	kind  Watch
	phase phase
	// dirty: a hint is outstanding for the members that have joined. heard counts hints.
	dirty bool
	// running: a round is in progress; begun is its number. done is the number of the last completed round.
	running bool
	queued  bool // in the site's queue
	leaves  bool // the connection of its IDLE watch is to end (LetGo)
	patient bool // a session was parked before hints flowed (SubscribeLater)
	refused bool // the last EXAMINE was refused without a reason
	unused  bool // it had no member at the last sweep and has had none since

	waiting     uint32 // sessions that wait until hints flow, or for a round
	heard       uint64
	why         string // the reason of the first hint since the last round
	begun, done uint64
	waiters     []*waiter
	jobs        []*job // requests for the watch's own connection

	// notBefore is the earliest time of the next round: it delays rounds during bursts and after failures.
	notBefore moment
	failing   moment // since when all attempts have failed; zero: the last one succeeded
	backoff   time.Duration
	sweepAt   moment
	pausing   *pausing // between two attempts of its watch; nil: there is none
	reIdleAt  moment   // zero: no IDLE is in progress
	timer     timer
}

// waiter is a Look that waits for the end of a round.
type waiter struct {
	round uint64
	done  chan error // has room for one
}

// job is a request for a state on an IDLE watch's connection, from a session that is being resumed or parked.
// It makes a round for all members, since its EXAMINE consumes changes that IDLE would have told.
type job struct {
	view *view.View // nil: none
	why  string
	done chan jobResult // has room for one
}

type jobResult struct {
	state *view.State
	err   error
}

// site has the hub's work at one backend: it bounds the number of connections in use there and shares them
// between users.
type site struct {
	hub   *Hub
	id    string
	name  string              // for people
	slots *fair.Queue[string] // by user: each connection in use holds one

	// Guarded by the hub's mutex:
	address    string                // host:port, of the last connection to it
	pauses     map[*pausing]struct{} // of watches that failed to reach the backend
	mailboxes  int                   // number of the hub's mailboxes at this backend
	workers    int
	namespaces *namespaces // the namespaces that were learnt last, which users with equal ones share
	// lines has the users with mailboxes that wait for a round on a pooled connection; turns has these users
	// in the order in which they are served.
	lines   map[*user]*line
	turns   list.List  // of *line
	waiting int        // number of mailboxes in all lines
	serving []*mailbox // mailboxes of the workers that have a connection or are getting one
}

// line has the waiting mailboxes of one user. They are served in order, one at a time, so that the next finds
// the connection warm; several at once would each need a login. Only a mailbox for which a client waits is
// served at the same time as another.
type line struct {
	user  *user
	queue []*mailbox
	turn  *list.Element // in turns
}

// Subscription is one session's subscription to one mailbox. Of its methods, only Look, Poll, Resync, Table
// and Again wait.
type Subscription struct {
	m      *mailbox
	access access

	// Guarded by the hub's mutex:
	member Member // nil: hasn't joined, or has left
	joins  uint64 // how often the member has joined: a state of a round before isn't applied to it
	// heard and done are the mailbox's values at Subscribe or Again. If a hint or a resync comes before Join,
	// the view may lack its changes.
	heard, done uint64
	// round is the last round of which the member was a part.
	round uint64
	// missed: a round omitted the member, because it had no view at that moment.
	missed bool
	closed bool
}

// access is the part of an Account that isn't the mailbox's: there is one for each parked session.
type access struct {
	caps   wire.Caps
	login  func(context.Context, *telemetry.Steps) (*upstream.Conn, error)
	give   func(*upstream.Conn, []string)
	shared func(string) bool
}

func (a Account) access() access {
	return access{caps: a.Caps, login: a.Login, give: a.Give, shared: a.Shared}
}

// account returns the account as a connection needs it. The backend, which changes when the user moves, isn't in it.
func (s *Subscription) account() Account {
	return Account{User: s.m.user.name, Caps: s.access.caps, Login: s.access.login, Give: s.access.give, Shared: s.access.shared}
}

// notifyWatch is a NOTIFY connection (RFC 5465) for all mailboxes of a user at a backend that are watched in
// this way. It never selects a mailbox, since it would then lose events. NOTIFY is set again every
// NotifyRenewEvery, and soon after each event, since a Dovecot whose log has rotated, which happens at a
// change that it still reports, sends no events until NOTIFY is set again; the status of each mailbox from
// the new setting is compared with the known one. NOTIFY NONE precedes it: a Dovecot whose setting is
// replaced directly checks only every 30 seconds.
//
// It is in its user's table while it has a mailbox.
type notifyWatch struct {
	hub   *Hub
	user  *user
	waker imapclient.Waker

	// Guarded by the hub's mutex:
	site      *site // its backend; it changes when the user has moved (follow.go)
	mailboxes []*mailbox
	refused   bool // the backend has refused NOTIFY: there is no goroutine
	changed   bool // mailboxes has changed since NOTIFY was set
	leaves    bool // its connection has to end (LetGo)
	hinted    bool // there was a hint since this was cleared
	renew     timer
	setAt     moment // when NOTIFY was last set
	cancel    context.CancelFunc
}

// pausing is the pause of a watch between two attempts to reach the backend. The hub's mutex guards its fields.
type pausing struct {
	*sleep
	at    *site
	least moment // when it may end
}

// goLocked starts a goroutine of the hub, unless the hub has ended.
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
	h.timers.setLocked(&s.timer, h.moment().Add(d))
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

func (h *Hub) moment() moment { return max(1, moment(h.now().Sub(h.began))) }
