package session

import (
	"context"
	"math"
	"net/netip"
	"sync"

	"imapproxy/internal/fair"
)

// Queues are the bounds of what sessions do at a time: at each backend resumes, and logins with passwords
// that aren't proved; and how many sessions of one user hold a large difference. A backend has its
// own queues from the first that asks on, and they are forgotten when the backend is gone.
type Queues struct {
	// Differences has the users whose sessions hold a large difference.
	Differences *fair.Queue[string]

	mu       sync.Mutex // guards what follows: no queue is made of settings that have been replaced
	park     ParkOptions
	limits   Limits
	resumes  map[string]*resumes
	unproved map[unprovedPlaces]*fair.Queue[netip.Prefix]
}

// NewQueues makes them.
func NewQueues(o *Settings) *Queues {
	return &Queues{
		Differences: fair.NewQueue[string](fair.Options{Slots: math.MaxInt, PerKey: differencesPerUser}),
		park:        o.Park, limits: o.Limits,
		resumes: map[string]*resumes{}, unproved: map[unprovedPlaces]*fair.Queue[netip.Prefix]{},
	}
}

// Telling waits until the user's session may hold a large difference: while a client takes its
// time to read one, only its own user's others wait. done gives the place back; it may be
// called more than once.
func (q *Queues) Telling(ctx context.Context, user string) (done func(), err error) {
	if err := q.Differences.Acquire(ctx, user); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { q.Differences.Release(user) }), nil
}

// resumesAt are a backend's.
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

// unprovedAt is the queue for the logins at one backend of networks that are known, or that aren't.
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

// Set takes over the settings.
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

// Forget drops those of backends that are gone, unless they are in use.
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

// Len is how many queues there are.
func (q *Queues) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.resumes) + len(q.unproved)
}
