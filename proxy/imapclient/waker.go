package imapclient

import (
	"errors"
	"sync"

	"imapproxy/proxy/conn"
)

// Waker ends a Client's wait for data (Wait, Rest). The zero value is ready for use.
type Waker struct {
	mu     sync.Mutex   // guards the other fields; conn.Poller's mutex is taken under it
	conn   *conn.Conn   // the connection that is waited for; nil: none is
	poller *conn.Poller // what waits for it; nil: a goroutine does
	woken  bool
}

// Wake ends the current wait, or, if there is none, the next one. Any goroutine may call it; it doesn't block.
func (w *Waker) Wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch before := w.woken; {
	case before, w.conn == nil:
	case w.poller != nil:
		w.poller.Wake(w.conn)
	default:
		w.conn.Interrupt(conn.Reads)
	}
	w.woken = true
}

// begin records the connection on which a goroutine is about to wait. It returns false if Wake was called
// before.
func (w *Waker) begin(c *conn.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.woken {
		w.woken = false
		return false
	}
	w.conn = c
	return true
}

// end says whether Wake was called since begin.
func (w *Waker) end() (woken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	woken = w.woken
	w.conn.Rearm(conn.Reads) // only Wake interrupts it
	w.conn, w.woken = nil, false
	return woken
}

// rests gives the connection to the poller. It returns false if Wake was called before, or if the poller can't wait.
func (w *Waker) rests(c *conn.Conn, p *conn.Poller, handler conn.Handler) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.woken {
		return false // Wait takes the wake
	}
	w.conn, w.poller = c, p
	if p.Add(c, handler) != nil {
		w.conn, w.poller = nil, nil
		return false
	}
	return true
}

// rested says whether Wake was called since rests.
func (w *Waker) rested() (woken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	woken = w.woken
	w.conn, w.poller, w.woken = nil, nil, false
	return woken
}

// Rest is Wait without a goroutine: the poller waits, and the handler's Wake is called in a goroutine of its own where Wait would
// return. The Client, which keeps no buffer meanwhile, belongs to the handler then; it calls Rested first. If Rest returns false, the poller can't wait, or
// needn't: the caller has to call Wait.
func (c *Client) Rest(w *Waker, pump *conn.Pool, p *conn.Poller, handler conn.Handler) bool {
	c.conn.Unread(c.r.Buffered())
	if c.conn.Holding(pump) {
		return false
	}
	c.conn.TrimAll(pump)
	c.out = nil
	return w.rests(c.conn, p, handler)
}

// Rested returns what Wait would have returned. It doesn't wait: neither data nor woken may be true, since what has come may have no data in it.
func (c *Client) Rested(w *Waker, pump *conn.Pool) (data, woken bool, err error) {
	woken = w.rested()
	var first firstChunk
	err = c.conn.Drain(pump, &first)
	c.conn.Unread(first.bytes)
	if err != nil && !errors.Is(err, conn.ErrDry) {
		c.broken = &Broken{Err: err}
		return false, false, c.broken
	}
	return len(first.bytes) > 0, woken, nil
}

// Wait returns when data has arrived on the connection, which it leaves unread, or when Wake was called, or
// both. While it waits it holds no buffer and no timer. Its error is a *Broken.
func (c *Client) Wait(w *Waker, pump *conn.Pool) (data, woken bool, err error) {
	c.conn.Unread(c.r.Buffered())
	if !w.begin(c.conn) {
		return false, true, nil
	}
	var first firstChunk
	err = c.conn.Pump(pump, &first)
	woken = w.end()
	c.conn.Unread(first.bytes)
	if err != nil && !woken {
		c.broken = &Broken{Err: err}
		return false, false, c.broken
	}
	return len(first.bytes) > 0, woken, nil
}

// firstChunk keeps the first chunk of a Pump and stops the Pump.
type firstChunk struct{ bytes []byte }

// Chunk implements conn.Receiver.
func (f *firstChunk) Chunk(b []byte) (int, conn.Next) {
	f.bytes = append(f.bytes, b...)
	return 0, conn.Stop
}
