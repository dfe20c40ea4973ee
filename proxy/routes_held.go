package proxy

import (
	"sync"
	"time"

	"imapproxy/routing"
)

// maxRoutes bounds the users that routes hold at a time.
const maxRoutes = 10_000

// routes are the users that answers of Route hold.
type routes struct {
	mu     sync.Mutex            // guards what follows; nothing else is locked under it
	held   map[string]*heldRoute // by user
	places int                   // of held ones and of lookups in progress
	closed bool
}

// heldRoute is a pick, and what releases it.
type heldRoute struct {
	pick  *routing.Pick
	until time.Time
	timer *time.Timer
}

// enter takes a place for a lookup, if there is one.
func (r *routes) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.places >= maxRoutes {
		return false
	}
	r.places++
	return true
}

// leave gives the place of a lookup back.
func (r *routes) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.places--
}

// at returns the pick that holds the user until then or longer; nil: there is none.
func (r *routes) at(user string, until time.Time) *routing.Pick {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.held[user]
	if h == nil || h.until.Before(until) {
		return nil
	}
	select {
	case <-h.pick.Void():
		return nil
	default:
		return h.pick
	}
}

// hold takes over a pick and the place of its lookup, and releases both after long. The pick that held the user before is released.
func (r *routes) hold(user string, p *routing.Pick, until time.Time, long time.Duration) {
	h := &heldRoute{pick: p, until: until}
	r.mu.Lock()
	before, closed := r.held[user], r.closed
	if !closed {
		if r.held == nil {
			r.held = make(map[string]*heldRoute)
		}
		r.held[user] = h
		h.timer = time.AfterFunc(long, func() { r.end(user, h) })
	}
	if before != nil || closed {
		r.places--
	}
	r.mu.Unlock()
	if before != nil {
		before.timer.Stop()
		before.pick.Release()
	}
	if closed {
		p.Release()
	}
}

// end releases what holds a user, unless another pick does by now.
func (r *routes) end(user string, h *heldRoute) {
	r.mu.Lock()
	held := r.held[user] == h
	if held {
		delete(r.held, user)
		r.places--
	}
	r.mu.Unlock()
	if held {
		h.pick.Release()
	}
}

// close releases all, and holds none any more.
func (r *routes) close() {
	r.mu.Lock()
	all := r.held
	r.places -= len(all)
	r.held, r.closed = nil, true
	r.mu.Unlock()
	for _, h := range all {
		h.timer.Stop()
		h.pick.Release()
	}
}
