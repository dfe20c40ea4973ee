package conn

import (
	"context"
	"time"
)

// Interrupt makes reads or writes return os.ErrDeadlineExceeded: those that wait, and all that follow until
// Rearm, whatever deadline the owner sets. A Pump returns at the next point where it would wait. Any
// goroutine may call Interrupt; it doesn't block.
func (c *Conn) Interrupt(sides Sides) {
	i := &c.interruption
	i.mu.Lock()
	defer i.mu.Unlock()
	i.sides |= sides
	_ = setDeadline(c.tcp, sides, longAgo())
}

// Rearm ends interruptions and removes deadlines, but not the interruption of Until. Only the connection's
// owner may call it.
func (c *Conn) Rearm(sides Sides) {
	i := &c.interruption
	i.mu.Lock()
	defer i.mu.Unlock()
	i.sides &^= sides
	_ = setDeadline(c.tcp, sides&^i.ended, time.Time{})
}

// limit sets a deadline on the sides that aren't interrupted.
func (c *Conn) limit(sides Sides, t time.Time) error { return c.interruption.limit(c.tcp, sides, t) }

// SetDeadline, SetReadDeadline and SetWriteDeadline are the methods of net.Conn. Only the connection's owner
// may call them. They don't end an interruption.
func (c *Conn) SetDeadline(t time.Time) error { return c.limit(Both, t) }

// SetReadDeadline is described at SetDeadline.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.limit(Reads, t) }

// SetWriteDeadline is described at SetDeadline.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.limit(Writes, t) }

// Until interrupts the connection when ctx ends. The owner calls stop when the work that is bound to ctx is
// done. stop says whether ctx ended before; if so, it ends this interruption. Interruptions by Interrupt
// remain.
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

// LimitReads makes reads return os.ErrDeadlineExceeded after t. Only the connection's owner may call it.
func (c *Conn) LimitReads(t time.Time) { _ = c.limit(Reads, t) }

// WriteUntil is Write with a deadline for this write. The deadline is removed after the write unless the
// write fails.
func (c *Conn) WriteUntil(p []byte, t time.Time) (int, error) {
	_ = c.limit(Writes, t)
	n, err := c.Write(p)
	if err == nil {
		_ = c.limit(Writes, time.Time{})
	}
	return n, err
}

// Discard reads and ignores the peer's data until the peer ends its side, until t, or until an interruption.
// To close a socket with unread data resets the connection, and a reset can discard data that was written
// last (RFC 9293 §3.6.1). Only the connection's owner may call it.
func (c *Conn) Discard(t time.Time) {
	_ = c.limit(Reads, t)
	var sink [512]byte
	for {
		if _, err := c.readRaw(sink[:]); err != nil {
			return
		}
	}
}
