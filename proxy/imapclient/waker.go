package imapclient

import (
	"sync"

	"imapproxy/proxy/conn"
)

// Waker ends the Wait of a Client. The zero value is ready for use.
type Waker struct {
	mu    sync.Mutex // guards conn and woken; a leaf
	conn  *conn.Conn // the connection on which a goroutine waits; nil: none waits
	woken bool
}

// Wake makes the current Wait return, or, if there is none, the next one. Any goroutine may call it; it
// doesn't block.
func (w *Waker) Wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.woken = true
	if w.conn != nil {
		w.conn.Interrupt(conn.Reads)
	}
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
