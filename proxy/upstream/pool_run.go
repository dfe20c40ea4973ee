package upstream

import (
	"container/list"
	"context"
	"crypto/rand"
	"time"
)

// NewPool returns an empty pool.
func NewPool(opt PoolOptions) *Pool {
	p := &Pool{opt: opt.withDefaults(), users: map[string][]*warm{}, order: list.New()}
	_, _ = rand.Read(p.seal[:]) // never fails (crypto/rand)
	if opt.Room != nil {
		opt.Room.Evicts(p.evictOldest, p.CloseOldest)
	}
	return p
}

// Reload applies new settings, also to connections in the pool.
func (p *Pool) Reload(opt PoolOptions) {
	p.mu.Lock()
	opt.Room = p.opt.Room
	p.opt = opt.withDefaults()
	p.mu.Unlock()
	p.Sweep()
}

// ForgetUser closes the user's connections, and returns how many there were: they count for the backend's
// limit per user.
func (p *Pool) ForgetUser(user string) int {
	return p.forget(closedForgotten, func(w *warm) bool { return w.key.user == user })
}

// FlushUser is ForgetUser; in addition, the credentials of the user's other connections don't count when
// these are given later: the backend will be asked about the next password.
func (p *Pool) FlushUser(user string) int {
	p.mu.Lock()
	now := p.opt.Now()
	if p.flushed == nil {
		p.flushed = map[string]time.Time{}
	}
	for other, at := range p.flushed {
		if now.Sub(at) >= p.opt.AuthCacheFor { // older credentials don't count anyway
			delete(p.flushed, other)
		}
	}
	p.flushed[user] = now
	p.mu.Unlock()
	return p.ForgetUser(user)
}

// LetGo closes the waiting connections of a user ("": of all users), and those that were logged in before now
// when they are given: the user moves to another backend. It doesn't wait.
func (p *Pool) LetGo(user string) {
	p.mu.Lock()
	now := p.opt.Now()
	if user == "" {
		p.left, p.allLeft = nil, now
	} else {
		for other, at := range p.left {
			if now.Sub(at) >= lentFor {
				delete(p.left, other)
			}
		}
		if p.left == nil {
			p.left = map[string]time.Time{}
		}
		p.left[user] = now
	}
	var out []*warm
	for _, w := range p.allLocked() {
		if user == "" || w.key.user == user {
			p.removeLocked(w)
			out = append(out, w)
		}
	}
	p.mu.Unlock()
	tel := p.options().Telemetry
	for _, w := range out {
		tel.PoolClosed(closedForgotten)
		_ = w.conn.Abort() // no command is in progress, and close_notify might block
	}
}

// lentFor bounds how long a lent connection is in use, except by sessions, which are told to leave.
const lentFor = time.Minute

// OfUser returns how many connections of a user wait.
func (p *Pool) OfUser(user string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.users[user])
}

// ForgetCredential closes the user's connections, of any use and dialect, that were opened with this key's
// credential: a backend doesn't accept it any more.
func (p *Pool) ForgetCredential(k PoolKey) {
	p.forget(closedForgotten, func(w *warm) bool { return w.key.user == k.user && w.key.digest == k.digest })
}

// ForgetBackend closes the connections to a backend that drains or was removed.
func (p *Pool) ForgetBackend(id string) {
	p.forget(closedForgotten, func(w *warm) bool { return w.key.target.ID == id })
}

// evictOldest closes up to n connections to a backend, those that have waited longest, and returns how many
// there were: the backend has no capacity for others.
func (p *Pool) evictOldest(backend string, n int) int {
	return p.forget(closedRoom, func(w *warm) bool {
		if w.key.target.ID != backend || n <= 0 {
			return false
		}
		n--
		return true
	})
}

// CloseOldest closes up to n connections to any backends, those that have waited longest, and returns how
// many there were: the proxy has no descriptors for others.
func (p *Pool) CloseOldest(n int) int {
	return p.forget(closedRoom, func(*warm) bool { n--; return n >= 0 })
}

func (p *Pool) forget(why string, which func(*warm) bool) int {
	p.mu.Lock()
	var out []*Conn
	for _, w := range p.allLocked() {
		if which(w) {
			out = append(out, p.removeLocked(w))
		}
	}
	p.mu.Unlock()
	tel := p.options().Telemetry
	for _, c := range out {
		tel.PoolClosed(why)
		_ = c.Close()
	}
	return len(out)
}

// allLocked returns a list of them, so that they can be removed during the iteration.
func (p *Pool) allLocked() []*warm {
	out := make([]*warm, 0, p.order.Len())
	for e := p.order.Front(); e != nil; e = e.Next() {
		out = append(out, e.Value.(*warm))
	}
	return out
}

// Run sweeps every SweepEvery until ctx ends; then it closes the pool.
func (p *Pool) Run(ctx context.Context) {
	defer p.Close()
	for {
		timer := time.NewTimer(p.options().SweepEvery)
		select {
		case <-timer.C:
			p.Sweep()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// Close closes the waiting connections, and those that are given later.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.forget(closedOff, func(*warm) bool { return true })
}

// Sweep closes connections that have waited too long, that their backend has ended or sent data on, and that
// exceed the bounds.
func (p *Pool) Sweep() {
	p.mu.Lock()
	all := p.allLocked()
	p.mu.Unlock()
	for _, w := range all {
		p.look(w)
	}
}

// look closes one connection if it can't be reused. It isn't lent meanwhile: a session that needs one at that
// moment logs in.
func (p *Pool) look(w *warm) {
	p.mu.Lock()
	if w.place == nil || w.looked {
		p.mu.Unlock()
		return
	}
	why, tel := "", p.opt.Telemetry
	switch {
	case p.opt.Now().Sub(w.since) >= p.opt.warmFor(w.key.use):
		why = closedExpired
	case len(p.users[w.key.user]) > p.opt.PerUser:
		why = closedPerUser
	case p.order.Len() > p.opt.Total:
		why = closedTotal
	}
	w.looked = true
	p.mu.Unlock()

	if why == "" && w.conn.Pending() != nil {
		why = closedEnded
	}

	p.mu.Lock()
	w.looked = false
	mine := why != "" && w.place != nil
	if mine {
		p.removeLocked(w)
	}
	p.mu.Unlock()
	if mine {
		tel.PoolClosed(why)
		_ = w.conn.Close()
	}
}
