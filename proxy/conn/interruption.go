package conn

import (
	"net"
	"sync"
	"time"
)

// Sides is a set of directions of a connection.
type Sides uint8

// The directions of a connection.
const (
	Reads Sides = 1 << iota
	Writes
	Both = Reads | Writes
)

// interruption makes I/O return although the connection is intact.
type interruption struct {
	mu    sync.Mutex // guards sides and ended, and the order in which deadlines are set; a leaf
	sides Sides      // interrupted by Interrupt
	ended Sides      // interrupted by Until
}

// longAgo returns a deadline that makes all I/O return at once.
func longAgo() time.Time { return time.Unix(1, 0) }

// limit sets a deadline on the sides of tcp that aren't interrupted.
func (i *interruption) limit(tcp *net.TCPConn, sides Sides, t time.Time) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return setDeadline(tcp, sides&^(i.sides|i.ended), t)
}

// setDeadline sets a deadline on sides of tcp. The caller holds the interruption's mutex.
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
