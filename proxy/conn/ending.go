package conn

import (
	"io"
	"net"
	"sync"
)

// Ending keeps a connection's socket open after Close or Abort, until the peer has closed its side: only then
// has the peer certainly stopped working for this connection.
type Ending struct {
	conn net.Conn // on a descriptor of its own
	once sync.Once
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
	return &Ending{conn: nc}, nil
}

// Wait ends the sending side, and returns when the peer has closed its side, the connection has failed, or
// Cut was called. It discards the peer's data.
func (e *Ending) Wait() {
	if tcp, ok := e.conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, e.conn)
	e.Cut()
}

// Cut closes the socket. It may be called while another goroutine is in Wait.
func (e *Ending) Cut() { e.once.Do(func() { _ = e.conn.Close() }) }
