package session

import (
	"sync"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/telemetry"
)

// credential is what the session's client was let in by. It is kept as long as the session: to
// log in to the backend again, and to ask the sources again whether the user may still be in.
type credential struct {
	asUser    bool   // the backend verified it: it logs in with it, whatever the settings say
	mechanism string // that it came by

	mu       sync.Mutex // guards what follows
	password []byte     // as the client sent it; nil once the session has ended and it was wiped
	stamp    any        // auth.Accepted.Stamp; nil where there is none
	given    *given     // nil for most sessions
	asked    time.Time  // when a source, or the backend, last took it for right

	// Guarded by the registry's mutex: the user's sessions.
	entered    bool
	prev, next *Session
}

// given is what a source gave beside its word, for sessions where it did.
type given struct {
	login    string // the name that the client logged in with, where the session's user has another
	password []byte // the user's at the backend; nil: backend_login decides
}

// newGiven is what a source gave with v to a client that logged in as login; nil: nothing.
func newGiven(login string, v auth.Accepted) *given {
	g := given{password: []byte(v.Password)}
	if v.User != "" && v.User != login {
		g.login = login
	}
	if g.login == "" && len(g.password) == 0 {
		return nil
	}
	return &g
}

// own is the backend's password, "" where a source gave none.
func (g *given) own() telemetry.Secret {
	if g == nil {
		return ""
	}
	return telemetry.Secret(g.password)
}

// reveal is the password, for a source: a copy that is garbage when that is done. ok is
// false when the session has ended.
func (c *credential) reveal() (password telemetry.Secret, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return telemetry.Secret(c.password), c.password != nil
}

// forBackend is the password for a login at the backend, as reveal's. given says that a source gave it.
func (c *credential) forBackend() (password telemetry.Secret, given bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if own := c.given.own(); c.password != nil && own != "" {
		return own, true
	}
	return telemetry.Secret(c.password), false
}

// login is the name that the client logged in with; user is the session's.
func (c *credential) login(user string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.given != nil && c.given.login != "" {
		return c.given.login
	}
	return user
}

// there says whether it hasn't been wiped.
func (c *credential) there() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.password != nil
}

// is says whether the password that the backend is told is this one.
func (c *credential) is(password telemetry.Secret) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if own := c.given.own(); own != "" {
		return c.password != nil && own == password
	}
	return c.password != nil && string(c.password) == string(password)
}

// wipe overwrites the password: the session has ended. Best effort (docs/security.md).
func (c *credential) wipe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.password)
	if c.given != nil {
		clear(c.given.password)
	}
	c.password = nil
}

// took notes that a source took it for right for the client's name login, and what it gives now.
func (c *credential) took(login string, v auth.Accepted, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stamp = v.Stamp
	if c.password == nil {
		return // wiped meanwhile: nothing is put back
	}
	if c.given != nil {
		clear(c.given.password)
	}
	c.given = newGiven(login, v)
	if at.After(c.asked) {
		c.asked = at
	}
}

// good notes that the backend took it for right.
func (c *credential) good(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.After(c.asked) {
		c.asked = at
	}
}

// doubt has the next resume ask the backend, unless it was asked a moment ago. It says whether
// it will.
func (c *credential) doubt(now time.Time, spare time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.asked) < spare {
		return false
	}
	c.asked = time.Time{}
	return true
}

// last is what is known of it.
func (c *credential) last() (stamp any, asked time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stamp, c.asked
}
