package conn

import (
	"net"
	"sync"
	"time"
)

// Sides are the directions of a connection.
type Sides uint8

// A connection is read and written.
const (
	Reads Sides = 1 << iota
	Writes
	Both = Reads | Writes
)

// interruption is what makes I/O return although the connection is in order.
type interruption struct {
	mu    sync.Mutex // guards what follows, and the order of deadlines; a leaf
	sides Sides      // Interrupt's
	ended Sides      // Until's
}

// longAgo is a deadline that makes all I/O return.
func longAgo() time.Time { return time.Unix(1, 0) }

// limit sets a deadline on tcp where there is no interruption.
func (i *interruption) limit(tcp *net.TCPConn, sides Sides, t time.Time) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return setDeadline(tcp, sides&^(i.sides|i.ended), t)
}

// setDeadline is called under an interruption's mutex.
func setDeadline(tcp *net.TCPConn, sides Sides, t time.Time) error {
	switch sides {
	case Reads:
		return tcp.SetReadDeadline(t)
	case Writes:
		return tcp.SetWriteDeadline(t)
	case Both:
		return tcp.SetDeadline(t)
	}
	return nil
}
