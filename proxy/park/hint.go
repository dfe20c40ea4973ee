package park

import (
	"context"
	"slices"
	"sync"
)

// HintSource says where a hint came from. Only metrics and logs may depend on it.
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

// Hint says that one of a user's mailboxes may have changed. It carries no data, and it may be lost, repeated
// or late: only the latency depends on it.
type Hint struct {
	User    string // canonical name, never empty
	Mailbox string // canonical name; "": all of the user's mailboxes
	Source  HintSource
}

// Bounds of a HintQueue whose options are zero.
const (
	DefaultMaxHints            = 1 << 16
	DefaultMaxMailboxesPerUser = 32
)

// HintQueueOptions bound a HintQueue. The zero value is usable.
type HintQueueOptions struct {
	// MaxHints bounds the hints that wait. Once so many wait, a further one is queued as a hint about all of
	// its user's mailboxes, of which there is one entry per user. Once twice as many users wait, hints about
	// other users are lost, and the sweep finds their changes. 0: DefaultMaxHints.
	MaxHints int
	// MaxMailboxesPerUser bounds the mailboxes of one user that have an entry each. 0:
	// DefaultMaxMailboxesPerUser.
	MaxMailboxesPerUser int
}

// HintQueueStats are counters of a HintQueue since it was made.
type HintQueueStats struct {
	Waiting int    // hints that wait now
	Added   uint64 // calls of Add
	Merged  uint64 // hints equal to one that waited
	Widened uint64 // hints queued for all of the user's mailboxes, since the queue or the user's part of it was full
	Lost    uint64 // hints dropped, since too many users waited
}

// HintQueue is the queue of hints between their sources and the hub. Add never blocks. A hint equal to one that
// waits isn't queued again, so a burst of changes in one mailbox is one hint. Users are served in the order of
// their first waiting hint.
type HintQueue struct {
	max, maxMailboxes int

	// wake holds a token while there may be something to take.
	wake chan struct{}

	mu sync.Mutex // guards the fields below; no other lock is taken under it
	// users and order have the same entries, one for each user with a waiting hint; order[head:] is in the
	// order of service.
	users map[string]*userHints
	order []*userHints
	head  int
	stats HintQueueStats
}

// userHints are the waiting hints of one user.
type userHints struct {
	user      string
	all       bool       // one hint about all mailboxes waits, and mailboxes is empty
	source    HintSource // the source of that hint
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

// Add queues a hint. If an equal one waits, it does nothing; if the queue is full, it queues a hint about all of
// the user's mailboxes. It never blocks.
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

// widenLocked replaces the waiting hints of a user by one about all mailboxes.
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

// Next takes the next hint and waits for one until ctx ends; then it returns ctx's error. Several goroutines may
// wait at the same time.
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
		// There is one token for all hints, and this call has taken it.
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
		// The memory that a burst took is freed with its last hint.
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
