package proxy

import (
	"net/netip"
	"sync"

	"imapproxy/internal/fair"
)

// queues are the bounds of what each backend is asked for: resumes, and logins with passwords that
// nobody has proved. A backend has its own from the first that asks on, and they are forgotten
// when the backend is gone.
type queues struct {
	mu       sync.Mutex // guards what follows: no queue is made of settings that have been replaced
	park     ParkOptions
	limits   Limits
	resumes  map[string]*resumes
	unproved map[unprovedPlaces]*fair.Queue[netip.Prefix]
}

func newQueues(o Options) *queues {
	return &queues{park: o.Park, limits: o.Limits, resumes: map[string]*resumes{}, unproved: map[unprovedPlaces]*fair.Queue[netip.Prefix]{}}
}

// resumesAt are a backend's.
func (q *queues) resumesAt(backend string) *resumes {
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
func (q *queues) unprovedAt(at unprovedPlaces) *fair.Queue[netip.Prefix] {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.unproved[at]
	if u == nil {
		u = fair.NewQueue[netip.Prefix](q.limits.unproved())
		q.unproved[at] = u
	}
	return u
}

// set takes over the settings.
func (q *queues) set(o Options) {
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

// forget drops those of backends that are gone, unless they are in use.
func (q *queues) forget(gone func(backend string) bool) {
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

// forgetQueues drops those of backends that are gone.
func (s *Server) forgetQueues() {
	there := map[string]bool{}
	for _, b := range s.set.Load().Router.Backends() {
		there[b.ID] = true
	}
	s.queues.forget(func(id string) bool { return !there[id] })
}
