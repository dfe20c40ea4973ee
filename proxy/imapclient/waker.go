package imapclient

import (
	"sync"

	"imapproxy/proxy/conn"
)

// Waker wakes the goroutine that waits in a Client's Wait. The zero value is ready.
type Waker struct {
	mu    sync.Mutex // guards what follows; a leaf
	conn  *conn.Conn // where a goroutine waits; nil: it doesn't
	woken bool
}

// Wake has Wait return: the one underway, or else the next. Any goroutine may call it; it
// doesn't wait.
func (w *Waker) Wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.woken = true
	if w.conn != nil {
		w.conn.Interrupt(conn.Reads)
	}
}

// begin notes where the goroutine waits. false: it was woken already, and doesn't.
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

// end says whether the goroutine was woken since begin.
func (w *Waker) end() (woken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	woken = w.woken
	w.conn.Rearm(conn.Reads) // only Wake interrupts it
	w.conn, w.woken = nil, false
	return woken
}

// Wait returns when bytes have come on the connection, which are left unread, when w's Wake was
// called, or both. While it waits it holds neither a buffer nor a timer. Its error is a *Broken.
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

// firstChunk keeps what a Pump reads first, and stops it.
type firstChunk struct{ bytes []byte }

// Chunk is conn.Receiver's.
func (f *firstChunk) Chunk(b []byte) (int, conn.Next) {
	f.bytes = append(f.bytes, b...)
	return 0, conn.Stop
}
