package session

import (
	"sync"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/telemetry"
)

// credential is what the session's client has logged in with. The session keeps it as long as it lasts, for
// further logins to the backend and for asking the sources again whether the user may stay logged in.
type credential struct {
	asUser    bool      // the backend has verified it: the session logs in with it, whatever the settings are
	mechanism string    // the mechanism by which it came
	until     time.Time // when a token that the backend has verified expires, by its own words; zero: it doesn't say so

	mu       sync.Mutex // guards the fields below
	password []byte     // as the client sent it; nil after wipe, at the session's end
	stamp    any        // auth.Accepted.Stamp; nil if there is none
	given    *given     // nil for most sessions
	asked    time.Time  // when a source or the backend last accepted it
}

// given is what a source gave in addition to its verdict, for sessions for which it did.
type given struct {
	login    string // the name that the client logged in with, if the session's user has another one
	password []byte // the user's password at the backend; nil: backend_login decides
}

// newGiven returns what a source gave with v to a client that logged in as login, nil if nothing.
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

// own returns the password for the backend, "" if a source gave none.
func (g *given) own() telemetry.Secret {
	if g == nil {
		return ""
	}
	return telemetry.Secret(g.password)
}

// token says whether the session logs in to the backend with the client's token.
func (c *credential) token() bool { return c != nil && c.asUser && auth.OfToken(c.mechanism) }

// A session with a token of its client's is parked only if the token is good for tokenToPark more, and gets its connection back when it is
// good for tokenToResume: after its end there would be no other.
const (
	tokenToPark   = 15 * time.Minute
	tokenToResume = 5 * time.Minute
)

// lasts says whether the credential is good for so much longer. That of a password is.
func (c *credential) lasts(now time.Time, longer time.Duration) bool {
	return !c.token() || c.until.Sub(now) >= longer
}

// reveal returns a copy of the password, for a source. ok is false if the session has ended.
func (c *credential) reveal() (password telemetry.Secret, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return telemetry.Secret(c.password), c.password != nil
}

// forBackend returns a copy of the password for a login at the backend. given says that a source gave it.
func (c *credential) forBackend() (password telemetry.Secret, given bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if own := c.given.own(); c.password != nil && own != "" {
		return own, true
	}
	return telemetry.Secret(c.password), false
}

// login returns the name that the client logged in with; user is the session's user.
func (c *credential) login(user string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.given != nil && c.given.login != "" {
		return c.given.login
	}
	return user
}

// there says whether the credential hasn't been wiped. The password itself may be empty: a session may have none for its backend.
func (c *credential) there() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.password != nil
}

// is says whether password is the one that the session sends to the backend.
func (c *credential) is(password telemetry.Secret) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if own := c.given.own(); own != "" {
		return c.password != nil && own == password
	}
	return c.password != nil && string(c.password) == string(password)
}

// wipe overwrites the password at the end of the session, as far as Go allows (docs/security.md).
func (c *credential) wipe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.password)
	if c.given != nil {
		clear(c.given.password)
	}
	c.password = nil
}

// took records that a source accepted the credential for the name login, and what the source gave with v.
func (c *credential) took(login string, v auth.Accepted, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stamp = v.Stamp
	if c.password == nil {
		return // wiped meanwhile: no password is stored again
	}
	if c.given != nil {
		clear(c.given.password)
	}
	c.given = newGiven(login, v)
	if at.After(c.asked) {
		c.asked = at
	}
}

// good records that the backend accepted the credential.
func (c *credential) good(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.After(c.asked) {
		c.asked = at
	}
}

// doubt makes the next resume ask the backend, unless the backend has accepted the credential within spare. It
// says whether the resume will ask.
func (c *credential) doubt(now time.Time, spare time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.asked) < spare {
		return false
	}
	c.asked = time.Time{}
	return true
}

// last returns the source's stamp and when the credential was last accepted.
func (c *credential) last() (stamp any, asked time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stamp, c.asked
}
