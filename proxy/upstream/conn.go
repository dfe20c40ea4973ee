package upstream

import (
	"net/netip"
	"sync"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// Conn is a connection to a backend, logged in as one user, with nothing in
// flight. It has exactly one owner, which reads, writes and closes it; ownership
// is handed on at a response boundary only, and the old owner doesn't use
// its pointer from then on.
//
// It is closed by Close or Abort of the Conn itself, not of the embedded
// one: they keep the count of open connections.
type Conn struct {
	*conn.Conn

	Caps      wire.Caps // the backend's after login, as it sent them
	Target    Target
	LoginText string    // text of the login's OK, without its code
	LoggedIn  time.Time // when the backend said that OK
	// LoggedInFor is the client that the backend was told of; the login may have depended on
	// it.
	LoggedInFor netip.Addr

	// Untagged are responses that came with the login and are the client's to
	// see (alerts above all): whole lines with their literals, without the last
	// CRLF. Bytes behind the login's last answer are not here: they are read
	// from the Conn.
	Untagged [][]byte

	closed sync.Once
	gone   func() // takes it off the gauge
	room   *Room  // counts it, however it is handed on; nil where it isn't a Dialer's
	claim  Claim  // its right to be, however it is handed on; nil where this proxy decides alone
}

// count puts the connection on the gauge until it is closed.
func (c *Conn) count(tel *telemetry.Telemetry, kind string) {
	name := c.Target.shown()
	tel.BackendConns(name, kind, 1)
	c.gone = func() { tel.BackendConns(name, kind, -1) }
}

// Close ends the connection, with close_notify under TLS. It may be called more
// than once and while a reader waits.
func (c *Conn) Close() error {
	if c.Conn == nil {
		return nil // handed over: it is another's to close
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

// HandOver returns a new handle of the connection, counted as kind from
// now on, and disables this one: its Close and Abort do nothing, and all else is a
// nil dereference, since code that reads or writes a connection that it doesn't own
// any more would mix two sessions up. Its caller owns the connection, whose
// reader has returned, at a response boundary with nothing in flight.
func (c *Conn) HandOver(tel *telemetry.Telemetry, kind string) *Conn {
	fresh := &Conn{Conn: c.Conn, Caps: c.Caps, Target: c.Target, LoginText: c.LoginText, LoggedIn: c.LoggedIn, LoggedInFor: c.LoggedInFor, Untagged: c.Untagged, room: c.room, claim: c.claim}
	c.uncount(false)
	c.Conn = nil
	fresh.count(tel, kind)
	return fresh
}

// uncount takes the handle off the gauge and, where the connection itself ends, out of
// the room.
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
