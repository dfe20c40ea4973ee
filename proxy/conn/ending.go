package conn

import (
	"io"
	"net"
	"sync"
)

// Ending keeps a connection's socket after its Close or Abort, until the peer's end of it is seen: only then is it certain that the peer does
// nothing more for it.
type Ending struct {
	conn net.Conn // on a descriptor of its own
	once sync.Once
}

// Ending returns a second hold on the connection's socket. It is called before Close or Abort, by the connection's owner.
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

// Wait says that nothing more will be sent, and returns once the peer has closed its side too, the connection has failed, or
// Cut was called. What the peer still sends is thrown away.
func (e *Ending) Wait() {
	if tcp, ok := e.conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, e.conn)
	e.Cut()
}

// Cut closes the socket. It may be called while another goroutine waits.
func (e *Ending) Cut() { e.once.Do(func() { _ = e.conn.Close() }) }
