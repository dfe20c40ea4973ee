package app

import (
	"sync"

	"imapproxy/proxy/upstream"
)

// ends are the waits for the ends of backend connections: there is one for each connection that was closed and
// whose end hasn't been seen. The claim of such a connection holds until then.
type ends struct {
	mu  sync.Mutex                           // guards what follows
	all map[string]map[upstream.Claim]func() // by user: what ends each wait
}

// await adds a wait, which cut ends.
func (e *ends) await(user string, c upstream.Claim, cut func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.all == nil {
		e.all = make(map[string]map[upstream.Claim]func())
	}
	if e.all[user] == nil {
		e.all[user] = make(map[upstream.Claim]func())
	}
	e.all[user][c] = cut
}

// seen removes a claim's wait, if there is one.
func (e *ends) seen(user string, c upstream.Claim) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if of := e.all[user]; of != nil {
		if delete(of, c); len(of) == 0 {
			delete(e.all, user)
		}
	}
}

// cut ends the waits for a user's connections, or for all users' if user is "".
func (e *ends) cut(user string) {
	var cuts []func()
	e.mu.Lock()
	for u, of := range e.all {
		if user == "" || u == user {
			for _, cut := range of {
				cuts = append(cuts, cut)
			}
		}
	}
	e.mu.Unlock()
	for _, cut := range cuts {
		cut()
	}
}

// users returns how many users' connections are waited for.
func (e *ends) users() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.all)
}
