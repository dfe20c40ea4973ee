package session

import (
	"errors"
	"sync"
	"time"

	"imapproxy/proxy/conn"
)

// maxPending bounds the proxy's own lines that wait for a response boundary.
const maxPending = 4096

// clientOut is the client's side of a relay: the backend's responses, and
// between two of them lines of the proxy's own. Such a line never stands inside
// a response: within a literal it would become mail.
type clientOut struct {
	conn *conn.Conn
	// hangUp is called when nothing more is written here: it has the session's owner
	// return, who says the last line (farewell).
	hangUp func()

	// writeMu is held by who writes to the client, for as long as that takes: the
	// one lock here under which I/O is done. Lock order: writeMu, then mu.
	writeMu sync.Mutex

	mu       sync.Mutex
	pending  []byte // own lines that are due at the next boundary
	boundary bool   // what was written ends with a response's end
	last     bool   // pending ends with the last line there will be
	closed   bool   // a boundary was reached after that: all but pending is written
	failed   error  // the first failed write
}

var errTooMuchPending = errors.New("the client reads nothing, and too many of the proxy's own answers wait for it")

// relay writes b, bytes of responses; boundary says whether they end with a
// response's end. After the last line it fails with errSessionOver.
func (o *clientOut) relay(b []byte, boundary bool) error {
	return o.relayUntil(b, boundary, time.Time{})
}

// relayUntil is relay with a deadline for the write, zero for none. It's nobody else's: whoever
// writes the last line has one of his own.
func (o *clientOut) relayUntil(b []byte, boundary bool, deadline time.Time) error {
	o.writeMu.Lock()
	o.mu.Lock()
	closed := o.closed
	o.mu.Unlock()
	if closed {
		o.writeMu.Unlock()
		return errSessionOver
	}
	var err error
	if len(b) > 0 {
		if deadline.IsZero() {
			_, err = o.conn.Write(b)
		} else {
			_, err = o.conn.WriteUntil(b, deadline)
		}
	}
	if err == nil {
		o.mu.Lock()
		o.boundary = boundary
		o.mu.Unlock()
	} else {
		err = o.fail(err)
	}
	o.writeMu.Unlock()
	if err != nil {
		return err
	}
	return o.flush()
}

// exclusive lets f write to the client's connection by itself, inside a
// response.
func (o *clientOut) exclusive(f func() error) error {
	o.writeMu.Lock()
	defer o.writeMu.Unlock()
	return f()
}

// say sends a line of the proxy's own at the next boundary, now if this is one.
func (o *clientOut) say(line []byte) error {
	o.mu.Lock()
	if len(o.pending)+len(line) > maxPending {
		o.mu.Unlock()
		return errTooMuchPending
	}
	if !o.last {
		o.pending = append(o.pending, line...)
	}
	o.mu.Unlock()
	return o.flush()
}

// setLast says that line is the last one, at the next boundary. It may be called by any
// goroutine and writes nothing itself: a client that doesn't read would keep its
// caller, who may have others to see to.
func (o *clientOut) setLast(line []byte) {
	o.mu.Lock()
	if !o.last {
		o.last = true
		o.pending = append(o.pending, line...)
	}
	o.mu.Unlock()
	if o.flush() != nil || !o.usable() {
		o.hangUp()
	}
}

// finish writes what is pending after end, and says that nothing follows. It is for
// the session's owner, when all others who write have returned.
func (o *clientOut) finish() {
	o.writeMu.Lock()
	defer o.writeMu.Unlock()
	o.mu.Lock()
	b, closed, failed := o.pending, o.closed, o.failed
	o.pending = nil
	o.mu.Unlock()
	if !closed && failed == nil {
		return // inside a response
	}
	if failed == nil && len(b) > 0 {
		_, _ = o.conn.WriteUntil(b, time.Now().Add(lingerFor)) // the client may not read
	}
	_ = o.conn.CloseWrite()
}

func (o *clientOut) usable() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed == nil
}

// atBoundary says whether a line of our own could stand here.
func (o *clientOut) atBoundary() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.boundary && o.failed == nil
}

// flush writes what is pending, if it may stand here and isn't the session's end. When
// another goroutine has the turn, that one flushes after it.
func (o *clientOut) flush() error {
	for o.due() {
		if !o.writeMu.TryLock() {
			return nil
		}
		o.mu.Lock()
		var b []byte
		last := false
		if o.boundary && !o.closed && o.failed == nil {
			if last = o.last; last {
				o.closed = true
			} else {
				b, o.pending = o.pending, nil
			}
		}
		o.mu.Unlock()
		var err error
		if len(b) > 0 {
			_, err = o.conn.Write(b)
		}
		if last {
			o.hangUp() // before farewell can follow
		}
		o.writeMu.Unlock()
		if err != nil {
			return o.fail(err)
		}
	}
	return nil
}

// fail keeps the first error of a write. An end that waits for a boundary won't have one.
func (o *clientOut) fail(err error) error {
	o.mu.Lock()
	first := o.failed == nil
	if first {
		o.failed = err
	}
	ends := first && o.last && !o.closed
	o.mu.Unlock()
	if ends {
		o.hangUp()
	}
	return err
}

// due says whether flush has something to do. The end is due even without a
// line.
func (o *clientOut) due() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.boundary && !o.closed && o.failed == nil && (len(o.pending) > 0 || o.last)
}
