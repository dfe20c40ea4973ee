package conn

import (
	"bytes"
)

// Arrived says whether bytes have arrived that the reader hasn't read, apart from those that Unread put back.
// The peer wrote such bytes before it could read what the caller writes next. Under TLS, bytes that aren't
// application data count, too, unless the stream is compressed. Only the connection's reader may call it, within Chunk or between two reads.
func (c *Conn) Arrived() bool {
	if c.inflate != nil {
		return c.arrivedInflated()
	}
	if c.tls != nil {
		if input := field[bytes.Reader](c.tls, knownNames().input); input != nil && input.Len() > 0 {
			return true
		}
		if s := c.socket(); s.ciphertext != nil && s.ciphertext.Len() > 0 || s.isAhead() {
			return true
		}
	}
	return c.HasUnread()
}

// arrivedInflated inflates what has come until there is an octet: the end of a block, which many peers send by itself, is none.
func (c *Conn) arrivedInflated() bool {
	f := c.inflate
	if f.hasMore() {
		return true
	}
	pool := f.deflate.pool
	b := pool.inflateBuffers()
	defer pool.z.Put(b)
	defer f.settle()
	for {
		n, _ := c.readAvailable(b.in[:]) // a whole record, so that tls holds nothing of it; the next read returns the error (noted)
		if n == 0 {
			return false
		}
		if f.took(b.in[:n]); f.looks(&b.scratch) {
			return true
		}
	}
}

// readAvailable reads without waiting. errEmpty: nothing has come. It may be called within Chunk.
func (c *Conn) readAvailable(p []byte) (n int, err error) {
	s := c.socket()
	if s != nil && s.pump != nil {
		n, err = c.tls.Read(p)
		return n, c.noted(err)
	}
	cerr := c.raw.Control(func(fd uintptr) {
		switch {
		case s == nil && !hasInput(int(fd)):
			err = errEmpty
			return
		case s == nil:
			n, err = readNow(int(fd), p)
			return
		}
		s.pump = &lent{fd: int(fd), buf: make([]byte, inputLen)}
		n, err = c.tls.Read(p)
		s.stash()
	})
	if cerr != nil {
		return 0, cerr
	}
	return n, c.noted(err)
}

// PutBack returns the bytes that Unread put back and no reader has read since. The slice is valid until the
// next read.
func (c *Conn) PutBack() []byte { return c.unread }
