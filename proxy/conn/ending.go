package conn

import (
	"io"
	"net"
	"sync"
	"time"
)

// unseenFor is how long a connection whose peer's host has vanished counts as open, from its last sign of life:
// its peer may still work for it, and nothing tells when it stops.
const unseenFor = 3 * time.Minute

// Ending keeps a connection's socket open after Close or Abort, until the peer has closed its side: only then
// has the peer certainly stopped working for this connection.
type Ending struct {
	conn   net.Conn // on a descriptor of its own
	unseen bool     // the connection has failed since its peer's host was silent
	once   sync.Once
	cut    chan struct{} // closed by Cut
}

// Ending returns a second handle of the connection's socket. The connection's owner calls it before Close or
// Abort.
func (c *Conn) Ending() (*Ending, error) {
	f, err := c.tcp.File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	nc, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	_ = c.raw.Control(func(fd uintptr) { _ = userTimeout(int(fd), unseenFor) }) // the connection fails at last, whatever the peer's host does
	return &Ending{conn: nc, unseen: c.Vanished(), cut: make(chan struct{})}, nil
}

// Wait ends the sending side, and returns when the peer has closed its side, the connection has failed (for
// some time, if its peer's host has vanished), or Cut was called. It discards the peer's data.
func (e *Ending) Wait() {
	if tcp, ok := e.conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, e.conn)
	if e.unseen {
		over := time.NewTimer(unseenFor)
		defer over.Stop()
		select {
		case <-over.C:
		case <-e.cut:
		}
	}
	e.Cut()
}

// Cut closes the socket. It may be called while another goroutine is in Wait.
func (e *Ending) Cut() {
	e.once.Do(func() {
		close(e.cut)
		_ = e.conn.Close()
	})
}
