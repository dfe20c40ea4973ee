package park

import (
	"context"
	"slices"
	"sync"
)

// HintSource says where a hint came from. Only metrics and logs may
// depend on it.
type HintSource string

// The sources of hints.
const (
	HintPush    HintSource = "push"    // an event that a backend posted
	HintWatch   HintSource = "watch"   // EXAMINE + IDLE
	HintNotify  HintSource = "notify"  // a NOTIFY connection
	HintPoll    HintSource = "poll"    // a poll saw a difference
	HintCommand HintSource = "command" // a relayed command that may change the mailbox
	HintSweep   HintSource = "sweep"   // no hint has come for long
)

// Hint says that something may have changed for this user in this mailbox.
// It may be lost, repeated or late, and it carries no data. Only latency
// depends on it.
type Hint struct {
	User    string // canonical, never empty
	Mailbox string // canonical; "" = all of the user's mailboxes
	Source  HintSource
}

// Bounds of a HintQueue whose options are zero.
const (
	DefaultMaxHints            = 1 << 16
	DefaultMaxMailboxesPerUser = 32
)

// HintQueueOptions bound a HintQueue. The zero value is usable.
type HintQueueOptions struct {
	// MaxHints is how many hints wait at most before further ones lose their
	// mailbox: each then says 'all of this user's mailboxes', which is one entry
	// for a user however many mailboxes change. At twice as many waiting users,
	// hints for yet other users are lost; the sweep is what covers those.
	// Zero: DefaultMaxHints.
	MaxHints int
	// MaxMailboxesPerUser is how many mailboxes of one user are told apart.
	// Zero: DefaultMaxMailboxesPerUser.
	MaxMailboxesPerUser int
}

// HintQueueStats are a HintQueue's counters since it was made.
type HintQueueStats struct {
	Waiting int    // now
	Added   uint64 // handed to Add
	Merged  uint64 // said what was already waiting
	Widened uint64 // lost their mailbox because the queue, or the user's part of it, was full
	Lost    uint64 // dropped: no room even for the user
}

// HintQueue hands hints from their sources to the hub.
// Adding never blocks, and a hint that waits already isn't added again: a burst on
// one mailbox is one hint. Users are served in the order in which they first
// came, one hint at a time.
type HintQueue struct {
	max, maxMailboxes int

	// wake holds a token while there may be something to take.
	wake chan struct{}

	mu sync.Mutex // guards what follows; a leaf, nothing else is locked under it
	// users and order hold the same entries, one for each user with something
	// waiting; order[head:] is first come, first served.
	users map[string]*userHints
	order []*userHints
	head  int
	stats HintQueueStats
}

// userHints is what waits for one user.
type userHints struct {
	user string
	// all: every mailbox, then mailboxes is empty.
	all       bool
	source    HintSource // of all
	mailboxes []mailboxHint
}

type mailboxHint struct {
	mailbox string
	source  HintSource
}

// NewHintQueue makes an empty queue.
func NewHintQueue(o HintQueueOptions) *HintQueue {
	if o.MaxHints <= 0 {
		o.MaxHints = DefaultMaxHints
	}
	if o.MaxMailboxesPerUser <= 0 {
		o.MaxMailboxesPerUser = DefaultMaxMailboxesPerUser
	}
	return &HintQueue{
		max: o.MaxHints, maxMailboxes: o.MaxMailboxesPerUser,
		wake: make(chan struct{}, 1), users: map[string]*userHints{},
	}
}

// Add queues a hint, merges it with what waits, or, when there is no room for
// it, widens it to all of the user's mailboxes. It never blocks.
func (q *HintQueue) Add(h Hint) {
	q.mu.Lock()
	q.addLocked(h)
	q.mu.Unlock()
	q.signal()
}

func (q *HintQueue) addLocked(h Hint) {
	q.stats.Added++
	u := q.users[h.User]
	if u == nil {
		if len(q.users) >= 2*q.max {
			q.stats.Lost++
			return
		}
		u = &userHints{user: h.User}
		q.users[h.User] = u
		q.order = append(q.order, u)
	}
	switch {
	case u.all, slices.ContainsFunc(u.mailboxes, func(m mailboxHint) bool { return m.mailbox == h.Mailbox }):
		q.stats.Merged++
	case h.Mailbox == "":
		q.widenLocked(u, h.Source)
	case len(u.mailboxes) >= q.maxMailboxes, q.stats.Waiting >= q.max:
		q.stats.Widened++
		q.widenLocked(u, h.Source)
	default:
		u.mailboxes = append(u.mailboxes, mailboxHint{h.Mailbox, h.Source})
		q.stats.Waiting++
	}
}

// widenLocked turns all that waits for a user into one hint for everything.
func (q *HintQueue) widenLocked(u *userHints, s HintSource) {
	q.stats.Waiting += 1 - len(u.mailboxes)
	u.all, u.source, u.mailboxes = true, s, nil
}

func (q *HintQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default: // there is a token already
	}
}

// Next takes the next hint, waiting for one until ctx is done; its error is
// ctx's. Any number of goroutines may wait here.
func (q *HintQueue) Next(ctx context.Context) (Hint, error) {
	for {
		if h, ok := q.pop(); ok {
			return h, nil
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			return Hint{}, ctx.Err()
		}
	}
}

// TryNext takes the next hint if one waits. It never blocks.
func (q *HintQueue) TryNext() (Hint, bool) { return q.pop() }

func (q *HintQueue) pop() (Hint, bool) {
	q.mu.Lock()
	h, ok := q.popLocked()
	more := len(q.users) > 0
	q.mu.Unlock()
	if more {
		// The token that led here stood for all of them.
		q.signal()
	}
	return h, ok
}

func (q *HintQueue) popLocked() (Hint, bool) {
	if len(q.users) == 0 {
		return Hint{}, false
	}
	u := q.order[q.head]
	q.stats.Waiting--
	h := Hint{User: u.user, Source: u.source}
	if !u.all {
		h.Mailbox, h.Source = u.mailboxes[0].mailbox, u.mailboxes[0].source
		u.mailboxes = u.mailboxes[1:]
		if len(u.mailboxes) > 0 {
			return h, true
		}
	}
	delete(q.users, u.user)
	q.order[q.head] = nil
	q.head++
	switch {
	case len(q.users) == 0:
		// A burst's memory is given back with its last hint.
		q.users, q.order, q.head = map[string]*userHints{}, nil, 0
	case q.head > len(q.order)/2:
		q.order, q.head = slices.Clone(q.order[q.head:]), 0
	}
	return h, true
}

// Stats returns the queue's counters as they are now.
func (q *HintQueue) Stats() HintQueueStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stats
}
