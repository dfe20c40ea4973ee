package upstream

import (
	"net/netip"
	"sync"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// Conn is a connection to a backend, logged in as one user, with no command in progress. It has exactly one
// owner, which reads, writes and closes it. Ownership changes only at a response boundary, and the old owner
// doesn't use its pointer afterwards.
//
// Close and Abort of the Conn must be used, not those of the embedded connection: they keep the count of open
// connections.
type Conn struct {
	*conn.Conn

	Caps      wire.Caps // the backend's after login, as it sent them
	Target    Target
	LoginText string    // text of the login's OK, without its code
	LoggedIn  time.Time // when the backend sent that OK
	// LoggedInFor is the client address that was sent to the backend; the login may have depended on it.
	LoggedInFor netip.Addr

	// Untagged are responses that came with the login and are for the client (alerts above all): whole lines
	// with their literals, without the last CRLF. Bytes after the login's last answer aren't included: they
	// are read from the Conn.
	Untagged [][]byte

	// Progress is of the session that has the connection.
	Progress Progress

	closed sync.Once
	gone   func() // removes it from the gauge
	room   *Room  // counts it, also after HandOver; nil if it isn't a Dialer's
	claim  Claim  // its claim, also after HandOver; nil if this proxy decides alone
}

// count adds the connection to the gauge until it is closed.
func (c *Conn) count(tel *telemetry.Telemetry, kind string) {
	name := c.Target.shown()
	tel.BackendConns(name, kind, 1)
	c.gone = func() { tel.BackendConns(name, kind, -1) }
}

// Close ends the connection, with close_notify under TLS. It may be called more
// than once and while a reader waits.
func (c *Conn) Close() error {
	if c.Conn == nil {
		return nil // handed over: the new owner closes it
	}
	c.uncount(true)
	return c.Conn.Close()
}

// Abort ends the connection without close_notify.
func (c *Conn) Abort() error {
	if c.Conn == nil {
		return nil
	}
	c.uncount(true)
	return c.Conn.Abort()
}

// HandOver returns a new handle of the connection, counted as kind from now on, and disables this one: its
// Close and Abort do nothing, and all other uses are nil dereferences, since code that uses a connection that
// it no longer owns would mix up two sessions. The caller owns the connection, whose reader has returned, at
// a response boundary with no command in progress.
func (c *Conn) HandOver(tel *telemetry.Telemetry, kind string) *Conn {
	fresh := &Conn{Conn: c.Conn, Caps: c.Caps, Target: c.Target, LoginText: c.LoginText, LoggedIn: c.LoggedIn, LoggedInFor: c.LoggedInFor, Untagged: c.Untagged, room: c.room, claim: c.claim}
	c.uncount(false)
	c.Conn = nil
	fresh.count(tel, kind)
	return fresh
}

// uncount removes the handle from the gauge and, if the connection itself ends, from the room.
func (c *Conn) uncount(ends bool) {
	c.closed.Do(func() {
		if c.gone != nil {
			c.gone()
		}
		if ends && c.room != nil {
			c.room.leave(c.Target.ID)
		}
		if ends && c.claim != nil {
			awaitEnd(c.Conn, c.claim)
		}
	})
}
