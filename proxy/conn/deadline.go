package conn

import (
	"context"
	"time"
)

// Interrupt makes reads or writes return os.ErrDeadlineExceeded: those that wait, and all that
// follow until Rearm, whatever deadline is set meanwhile. A Pump returns at the next point where
// it would wait. Any goroutine may call it; it doesn't wait.
func (c *Conn) Interrupt(sides Sides) {
	i := &c.interruption
	i.mu.Lock()
	defer i.mu.Unlock()
	i.sides |= sides
	_ = setDeadline(c.tcp, sides, longAgo())
}

// Rearm takes back interruptions and deadlines, but for Until's. It is for the connection's owner.
func (c *Conn) Rearm(sides Sides) {
	i := &c.interruption
	i.mu.Lock()
	defer i.mu.Unlock()
	i.sides &^= sides
	_ = setDeadline(c.tcp, sides&^i.ended, time.Time{})
}

// limit sets a deadline where there is no interruption.
func (c *Conn) limit(sides Sides, t time.Time) error { return c.interruption.limit(c.tcp, sides, t) }

// SetDeadline, SetReadDeadline and SetWriteDeadline are net.Conn's, for the connection's owner. An
// interruption stands.
func (c *Conn) SetDeadline(t time.Time) error { return c.limit(Both, t) }

// SetReadDeadline is described at SetDeadline.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.limit(Reads, t) }

// SetWriteDeadline is described at SetDeadline.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.limit(Writes, t) }

// Until interrupts the connection when ctx ends. Its owner calls stop when it has done what was
// bound to ctx; stop says whether ctx ended before, and rearms the connection then. What others
// have interrupted meanwhile stays so.
func (c *Conn) Until(ctx context.Context) (stop func() (ended bool)) {
	done := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(done)
		i := &c.interruption
		i.mu.Lock()
		defer i.mu.Unlock()
		i.ended = Both
		_ = setDeadline(c.tcp, Both, longAgo())
	})
	return func() bool {
		if cancel() {
			return false
		}
		<-done
		i := &c.interruption
		i.mu.Lock()
		defer i.mu.Unlock()
		i.ended = 0
		_ = setDeadline(c.tcp, Both&^i.sides, time.Time{})
		return true
	}
}

// LimitReads has reads return os.ErrDeadlineExceeded after t. It is for the connection's owner.
func (c *Conn) LimitReads(t time.Time) { _ = c.limit(Reads, t) }

// WriteUntil is Write with a deadline that holds for this write alone, and stays where it fails.
func (c *Conn) WriteUntil(p []byte, t time.Time) (int, error) {
	_ = c.limit(Writes, t)
	n, err := c.Write(p)
	if err == nil {
		_ = c.limit(Writes, time.Time{})
	}
	return n, err
}

// Discard reads and ignores what the peer still sends until it ends its side, t, or an
// interruption: closing with bytes unread resets the connection, which can take back what was
// written last (RFC 9293 §3.6.1). It is for the connection's owner.
func (c *Conn) Discard(t time.Time) {
	_ = c.limit(Reads, t)
	var sink [512]byte
	for {
		if _, err := c.Read(sink[:]); err != nil {
			return
		}
	}
}
