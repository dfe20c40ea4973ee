package upstream

import (
	"sync"
	"time"
)

// How long a backend may be silent before a login assumes that it is full. Servers delay the refusal of a
// wrong password of a user (Dovecot 2 s).
const (
	DefaultSlowAfter = 500 * time.Millisecond
	slowUser         = 6 // times as long, once a user's own credentials were sent
)

// patience watches a login at a backend that may be full without saying so: Cyrus at maxchild accepts no
// connection, Dovecot at process_limit doesn't answer the login. Each time that the backend is silent for too
// long, warm connections are closed. The connection that waits profits from that: the login isn't started
// again.
type patience struct {
	room    *Room
	backend string
	after   time.Duration

	mu    sync.Mutex // guards what follows
	timer *time.Timer
	sent  bool // a user's own credentials were sent
	ended bool
	ok    bool // the login has succeeded
	held  int  // the number of connections when the first warm ones were closed; 0: none were
}

// watch starts a patience; the caller must call end.
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
	if p.ok { // the backend answered meanwhile
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

// heard is called for each response of the backend and each step of the login. ownPassword: the next answer
// is about a user's own credentials.
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

// end ends it. ok: the login succeeded, so the backend was silent because it was full, and not because of a
// wrong password.
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
