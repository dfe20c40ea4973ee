package session

import (
	"errors"
	"sync"
	"time"

	"imapproxy/proxy/conn"
)

// maxPending bounds the proxy's own lines that wait for a response boundary.
const maxPending = 4096

// lingerFor is how long the proxy reads and discards the client's bytes after its last line. If it closed the
// socket with bytes unread, TCP would reset the connection, and the client could lose that line.
const lingerFor = 2 * time.Second

// clientOut writes to the client of a relay: the backend's responses and, between two of them, the proxy's own
// lines. Such a line never stands inside a response: within a literal it would become part of a message.
type clientOut struct {
	conn *conn.Conn
	// hangUp is called when clientOut writes nothing more: it makes the session's owner return, which then
	// sends the last line (finish).
	hangUp func()

	// writeMu is held during each write to the client. It is the only lock here under which I/O is done. Lock
	// order: writeMu, then mu.
	writeMu sync.Mutex

	mu       sync.Mutex
	pending  []byte // the proxy's own lines that wait for the next boundary
	turn     uint16 // how much of pending is written before compression begins; 0: it doesn't begin there
	deflates bool   // the client's COMPRESS was accepted
	boundary bool   // the bytes written so far end at the end of a response
	goesOn   bool   // they end inside a response that can be continued on another connection
	follows  bool   // bytes of responses are followed that will be written: commands whose answers are among them count as answered
	last     bool   // pending ends with the session's last line
	closed   bool   // a boundary was reached after last was set: only pending may still be written
	failed   error  // the error of the first failed write
}

var errTooMuchPending = errors.New("the client reads nothing, and too many of the proxy's own answers wait for it")

// relay writes b, bytes of responses; boundary says whether they end at the end of a response. After the last
// line it returns errSessionOver.
func (o *clientOut) relay(b []byte, boundary bool) error {
	return o.relayUntil(b, boundary, time.Time{})
}

// relayUntil is relay with a deadline for this write only, zero for none.
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
		o.boundary, o.goesOn = boundary, o.goesOn && !boundary
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

// follow keeps the last line back while bytes of responses are followed, until followed: a session may be ended because no command
// is in progress, and the answer that has ended the last one mustn't come behind the BYE, or never.
func (o *clientOut) follow() {
	o.mu.Lock()
	o.follows = true
	o.mu.Unlock()
}

// followed says that what was followed is written.
func (o *clientOut) followed() {
	o.mu.Lock()
	o.follows = false
	o.mu.Unlock()
	_ = o.flush() // fail has recorded an error
}

// setContinues says whether the response that the client is told can be continued if the connection is lost.
func (o *clientOut) setContinues(can bool) {
	o.mu.Lock()
	o.goesOn = can
	o.mu.Unlock()
}

// continues says whether the response that the client was told in part can be continued.
func (o *clientOut) continues() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.goesOn && o.failed == nil
}

// exclusive runs f, which writes to the client's connection itself, inside a response.
func (o *clientOut) exclusive(f func() error) error {
	o.writeMu.Lock()
	defer o.writeMu.Unlock()
	return f()
}

// say sends one of the proxy's own lines at the next boundary, or now if this is one.
func (o *clientOut) say(line []byte) error { return o.sayAndTurn(line, false) }

// sayAndTurn is say; if compress is set, all that is written after the line is compressed.
func (o *clientOut) sayAndTurn(line []byte, compress bool) error {
	o.mu.Lock()
	if len(o.pending)+len(line) > maxPending {
		o.mu.Unlock()
		return errTooMuchPending
	}
	if !o.last {
		o.pending = append(o.pending, line...)
		if compress {
			o.turn, o.deflates = uint16(len(o.pending)), true
		}
	}
	o.mu.Unlock()
	return o.flush()
}

// compresses says whether the client's COMPRESS was accepted. Any goroutine may call it.
func (o *clientOut) compresses() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.deflates
}

// rest and wake are conn.Conn's for a client that is compressed: while it rests, no history of what it was sent is kept. rest calls and, too,
// while nothing is written.
func (o *clientOut) rest(and func()) {
	o.writeMu.Lock()
	o.conn.Rest()
	and()
	o.writeMu.Unlock()
	_ = o.flush() // of what came meanwhile; fail has recorded an error
}

func (o *clientOut) wake() {
	o.writeMu.Lock()
	o.conn.Wake()
	o.writeMu.Unlock()
	_ = o.flush()
}

// takeLocked takes the pending lines.
func (o *clientOut) takeLocked() (lines []byte, turn int) {
	lines, turn = o.pending, int(o.turn)
	o.pending, o.turn = nil, 0
	return lines, turn
}

// writeOwn writes lines that were pending. What is behind turn is compressed, unless turn is 0. The caller holds writeMu.
func (o *clientOut) writeOwn(lines []byte, turn int, write func([]byte) (int, error)) error {
	if turn > 0 {
		if _, err := write(lines[:turn]); err != nil {
			return err
		}
		o.conn.Deflate()
		lines = lines[turn:]
	}
	if len(lines) == 0 {
		return nil
	}
	_, err := write(lines)
	return err
}

// remind sends one of the proxy's own lines if it doesn't have to wait: this is a boundary, nothing else is being written, and the client's
// host has taken all that was. Any goroutine may call it.
func (o *clientOut) remind(line []byte) bool {
	if !o.writeMu.TryLock() {
		return false
	}
	o.mu.Lock()
	may := o.boundary && !o.closed && !o.last && o.failed == nil && len(o.pending) == 0
	o.mu.Unlock()
	var err error
	if may = may && o.conn.Drained(); may {
		_, err = o.conn.Write(line)
	}
	o.writeMu.Unlock()
	if err != nil {
		_ = o.fail(err)
		return false
	}
	_ = o.flush() // of what came meanwhile; fail has recorded an error
	return may
}

// setLast makes line the last one, to be sent at the next boundary. Any goroutine may call it; it doesn't
// write line itself, since a client that doesn't read would block the caller.
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

// finish writes the pending lines after the end, and ends the sending side. The session's owner calls it after
// all other writers have returned.
func (o *clientOut) finish() {
	o.writeMu.Lock()
	defer o.writeMu.Unlock()
	o.mu.Lock()
	closed, failed := o.closed, o.failed
	b, turn := o.takeLocked()
	o.mu.Unlock()
	if !closed && failed == nil {
		return // inside a response
	}
	if failed == nil && len(b) > 0 {
		until := time.Now().Add(lingerFor) // the client may not read
		_ = o.writeOwn(b, turn, func(p []byte) (int, error) { return o.conn.WriteUntil(p, until) })
	}
	_ = o.conn.CloseWrite()
}

func (o *clientOut) usable() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed == nil
}

// atBoundary says whether one of the proxy's own lines may be written now.
func (o *clientOut) atBoundary() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.boundary && o.failed == nil
}

// flush writes the pending lines, if they may stand here and don't end the session. If another goroutine holds
// writeMu, that goroutine flushes after its write.
func (o *clientOut) flush() error {
	for o.due() {
		if !o.writeMu.TryLock() {
			return nil
		}
		o.mu.Lock()
		var b []byte
		turn, last := 0, false
		if o.boundary && !o.closed && o.failed == nil {
			if last = o.last && !o.follows; last {
				o.closed = true
			} else if !o.last {
				b, turn = o.takeLocked()
			}
		}
		o.mu.Unlock()
		err := o.writeOwn(b, turn, o.conn.Write)
		if last {
			o.hangUp() // before finish can follow
		}
		o.writeMu.Unlock()
		if err != nil {
			return o.fail(err)
		}
	}
	return nil
}

// fail records the first error of a write. If the last line waits for a boundary, none will come, so fail
// calls hangUp.
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

// due says whether flush has something to do. The last line is due even if it is empty.
func (o *clientOut) due() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last {
		return o.boundary && !o.closed && o.failed == nil && !o.follows
	}
	return o.boundary && !o.closed && o.failed == nil && len(o.pending) > 0
}
