package upstream

import (
	"container/list"
	"context"
	"crypto/rand"
	"time"
)

// NewPool makes an empty pool.
func NewPool(opt PoolOptions) *Pool {
	p := &Pool{opt: opt.withDefaults(), users: map[string][]*warm{}, order: list.New()}
	_, _ = rand.Read(p.seal[:]) // never fails (crypto/rand)
	if opt.Room != nil {
		opt.Room.Evicts(p.evictOldest, p.CloseOldest)
	}
	return p
}

// Reload applies new settings, to those that wait too.
func (p *Pool) Reload(opt PoolOptions) {
	p.mu.Lock()
	opt.Room = p.opt.Room
	p.opt = opt.withDefaults()
	p.mu.Unlock()
	p.Sweep()
}

// ForgetUser closes the user's connections, and says how many there were: a backend has
// as many of the user's as it allows.
func (p *Pool) ForgetUser(user string) int {
	return p.forget(closedForgotten, func(w *warm) bool { return w.key.user == user })
}

// FlushUser is ForgetUser, and what the user's other connections were opened with counts for nothing
// either, once they come here: the backend is asked about the next password in any case.
func (p *Pool) FlushUser(user string) int {
	p.mu.Lock()
	now := p.opt.Now()
	if p.flushed == nil {
		p.flushed = map[string]time.Time{}
	}
	for other, at := range p.flushed {
		if now.Sub(at) >= p.opt.AuthCacheFor { // what is older isn't believed anyhow
			delete(p.flushed, other)
		}
	}
	p.flushed[user] = now
	p.mu.Unlock()
	return p.ForgetUser(user)
}

// LetGo closes the connections of a user ("": of all users) that wait, and those that were logged in before now once they are given: the
// user is to be at another backend. It doesn't wait.
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
		_ = w.conn.Abort() // nothing is in flight, and close_notify might have to wait
	}
}

// lentFor is how long a connection of the pool's is in other hands at most, but for sessions: those know that they are to leave.
const lentFor = time.Minute

// OfUser is how many connections of a user's wait.
func (p *Pool) OfUser(user string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.users[user])
}

// ForgetCredential closes the user's connections, of any use and dialect,
// that were opened with the credential of this key: a backend doesn't accept it any more.
func (p *Pool) ForgetCredential(k PoolKey) {
	p.forget(closedForgotten, func(w *warm) bool { return w.key.user == k.user && w.key.digest == k.digest })
}

// ForgetBackend closes the connections to a backend: it drains, or is gone.
func (p *Pool) ForgetBackend(id string) {
	p.forget(closedForgotten, func(w *warm) bool { return w.key.target.ID == id })
}

// evictOldest closes up to n connections to a backend, those that have waited longest,
// and returns how many there were: the backend has no room for others.
func (p *Pool) evictOldest(backend string, n int) int {
	return p.forget(closedRoom, func(w *warm) bool {
		if w.key.target.ID != backend || n <= 0 {
			return false
		}
		n--
		return true
	})
}

// CloseOldest closes up to n connections, to whichever backend, those that have waited
// longest, and returns how many there were: the proxy has no descriptors for others.
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

// allLocked lists them, so that they can be removed meanwhile.
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

// Close closes the connections that wait, and those that are given from now on.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.forget(closedOff, func(*warm) bool { return true })
}

// Sweep closes what has waited for too long, what its backend has ended or said
// something on, and what is more than the bounds allow.
func (p *Pool) Sweep() {
	p.mu.Lock()
	all := p.allLocked()
	p.mu.Unlock()
	for _, w := range all {
		p.look(w)
	}
}

// look closes one connection if it is of no use. It isn't lent
// meanwhile: a session that needs one just then logs in.
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
