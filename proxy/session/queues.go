package session

import (
	"cmp"
	"context"
	"math"
	"net/netip"
	"sync"

	"imapproxy/internal/fair"
)

// Queues bound what sessions do at the same time: resumes and logins with unproved passwords at each backend,
// and how many sessions of one user hold a large difference. A backend's queues are made on first use and
// forgotten when the backend is gone.
type Queues struct {
	// Differences has the users whose sessions hold a large difference.
	Differences *fair.Queue[string]

	mu       sync.Mutex // guards the fields below: no queue is made with settings that have been replaced
	park     ParkOptions
	limits   Limits
	resumes  map[string]*resumes
	unproved map[unprovedPlaces]*fair.Queue[netip.Prefix]
}

// differencesPerUser is how many sessions of one user may hold a large difference at a time.
const differencesPerUser = 8

// NewQueues makes Queues without waiting sessions.
func NewQueues(o *Settings) *Queues {
	return &Queues{
		Differences: fair.NewQueue[string](fair.Options{Slots: math.MaxInt, PerKey: differencesPerUser}),
		park:        o.Park, limits: o.Limits,
		resumes: map[string]*resumes{}, unproved: map[unprovedPlaces]*fair.Queue[netip.Prefix]{},
	}
}

// Telling waits until the user's session may hold a large difference. While a client reads one slowly, only
// other sessions of the same user wait. done gives the place back; it may be called more than once.
func (q *Queues) Telling(ctx context.Context, user string) (done func(), err error) {
	if err := q.Differences.Acquire(ctx, user); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { q.Differences.Release(user) }), nil
}

// resumesAt returns the bounds of a backend's resumes.
func (q *Queues) resumesAt(backend string) *resumes {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.resumes[backend]
	if r == nil {
		r = newResumes(q.park)
		q.resumes[backend] = r
	}
	return r
}

// unprovedAt returns the queue of logins at one backend from known networks, or from unknown ones.
func (q *Queues) unprovedAt(at unprovedPlaces) *fair.Queue[netip.Prefix] {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.unproved[at]
	if u == nil {
		u = fair.NewQueue[netip.Prefix](q.limits.unproved())
		q.unproved[at] = u
	}
	return u
}

// Set applies new settings.
func (q *Queues) Set(o *Settings) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.park, q.limits = o.Park, o.Limits
	for _, r := range q.resumes {
		r.set(o.Park)
	}
	for _, u := range q.unproved {
		u.SetOptions(o.Limits.unproved())
	}
}

// Forget drops the queues of backends that are gone, unless they are in use.
func (q *Queues) Forget(gone func(backend string) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for id, r := range q.resumes {
		if gone(id) && idle(r.turns.Stats()) {
			delete(q.resumes, id)
		}
	}
	for at, u := range q.unproved {
		if gone(at.backend) && idle(u.Stats()) {
			delete(q.unproved, at)
		}
	}
}

func idle(held, waiting int) bool { return held+waiting == 0 }

// Len returns how many queues there are.
func (q *Queues) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.resumes) + len(q.unproved)
}

// defaultUnproved is how many logins with unproved passwords a backend is asked for at a time.
const defaultUnproved = 32

// unprovedPerNetwork is the divisor: one network may have this fraction of the places.
const unprovedPerNetwork = 4

// unprovedPlaces names the places at one backend for networks that are known, or for those that aren't.
type unprovedPlaces struct {
	backend string
	known   bool
}

// unproved returns the size of a queue of unproved logins.
func (l Limits) unproved() fair.Options {
	n := cmp.Or(l.UnprovedLogins, defaultUnproved)
	return fair.Options{Slots: n, PerKey: max(n/unprovedPerNetwork, 1)}
}
