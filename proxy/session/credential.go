package session

import (
	"sync"
	"time"

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
	asked    time.Time  // when a source, or the backend, last took it for right

	// Guarded by the registry's mutex: the user's sessions.
	entered    bool
	prev, next *Session
}

// reveal is the password, for a login or a source: a copy that is garbage when that is done. ok is
// false when the session has ended.
func (c *credential) reveal() (password telemetry.Secret, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return telemetry.Secret(c.password), c.password != nil
}

// there says whether it hasn't been wiped.
func (c *credential) there() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.password != nil
}

// is says whether the password is this one.
func (c *credential) is(password telemetry.Secret) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.password != nil && string(c.password) == string(password)
}

// wipe overwrites the password: the session has ended. Best effort (docs/security.md).
func (c *credential) wipe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.password)
	c.password = nil
}

// took notes that a source or the backend took it for right.
func (c *credential) took(stamp any, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stamp = stamp
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
