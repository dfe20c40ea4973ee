package upstream

import (
	"sync"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// Conn is a connection to a backend, logged in as one user, with nothing in
// flight. It has exactly one owner, who reads, writes and closes it; ownership
// is handed on at a response boundary only, and the old owner's copy of the
// pointer is dead from then on.
//
// Whoever ends it calls Close or Abort on the Conn itself, not on the embedded
// one: they keep the count of open connections.
type Conn struct {
	*conn.Conn

	Caps      wire.Caps // the backend's after login, as it sent them
	Target    Target
	LoginText string // text of the login's OK, without its code

	// Untagged are responses that came with the login and are the client's to
	// see (alerts above all): whole lines with their literals, without the last
	// CRLF. Bytes behind the login's last answer are not here: they are read
	// from the Conn.
	Untagged [][]byte

	closed sync.Once
	gone   func() // takes it off the gauge
}

// count puts the connection on the gauge until it is closed.
func (c *Conn) count(tel *telemetry.Telemetry, kind string) {
	tel.BackendConns(c.Target.ID, kind, 1)
	c.gone = func() { tel.BackendConns(c.Target.ID, kind, -1) }
}

// Close ends the connection, with close_notify under TLS. It may be called more
// than once and while a reader waits.
func (c *Conn) Close() error {
	c.uncount()
	return c.Conn.Close()
}

// Abort ends the connection without a word.
func (c *Conn) Abort() error {
	c.uncount()
	return c.Conn.Abort()
}

func (c *Conn) uncount() {
	c.closed.Do(func() {
		if c.gone != nil {
			c.gone()
		}
	})
}
