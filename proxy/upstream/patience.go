package upstream

import (
	"sync"
	"time"
)

// How long a backend may be silent before a login doubts that it has room. With a
// user's own password servers delay the refusal of a wrong one (Dovecot 2 s).
const (
	DefaultSlowAfter = 500 * time.Millisecond
	slowUser         = 6 // times as long, once a user's own credentials were sent
)

// patience watches a login whose backend may be full and not say so: Cyrus at
// maxchild accepts no connection, Dovecot at process_limit doesn't answer the login.
// Each time that it is silent for too long, connections that wait make way, which is
// seen by the connection that is being waited for: the login isn't begun anew.
type patience struct {
	room    *Room
	backend string
	after   time.Duration

	mu    sync.Mutex // guards what follows
	timer *time.Timer
	sent  bool // a user's own credentials were sent
	ended bool
	ok    bool // it has ended well
	held  int  // the connections there were when the first made way; 0: none did
}

// watch begins it; end must be called.
func (r *Room) watch(backend string, after time.Duration) *patience {
	p := &patience{room: r, backend: backend, after: after}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(after, p.silent)
	return p
}

func (p *patience) silent() {
	p.mu.Lock()
	ended := p.ended
	p.mu.Unlock()
	if ended {
		return
	}
	held := p.room.makeWay(p.backend, 8)
	if held == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == 0 {
		p.held = held
	}
	if p.ok { // it was answered while they were being closed
		p.room.learn(p.backend, p.held, true)
	}
	if !p.ended {
		p.timer.Reset(p.wait())
	}
}

func (p *patience) wait() time.Duration {
	if p.sent {
		return slowUser * p.after
	}
	return p.after
}

// heard is for each response of the backend's, and each step of the login. ownPassword
// says that a user's own credentials are what the next answer is about.
func (p *patience) heard(ownPassword bool) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = p.sent || ownPassword
	if !p.ended {
		p.timer.Reset(p.wait())
	}
}

// end ends it. ok is whether the backend answered as it was hoped for: then it was the
// want of room that it was silent for, and not a wrong password.
func (p *patience) end(ok bool) {
	p.mu.Lock()
	p.ended, p.ok = true, ok
	p.timer.Stop()
	held := p.held
	p.mu.Unlock()
	if ok {
		p.room.learn(p.backend, held, true)
	}
}
