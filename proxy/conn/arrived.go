package conn

import (
	"bytes"
	"errors"
)

// Arrived says whether bytes have arrived that the reader hasn't read, apart from those that Unread put back.
// The peer wrote such bytes before it could read what the caller writes next. Under TLS, bytes that aren't
// application data count, too, as do the ends of blocks of a compressed stream that are still in the socket. Only the connection's reader may call it, within Chunk or between two reads.
func (c *Conn) Arrived() bool {
	if c.inflate != nil && c.inflate.hasMore() {
		return true
	}
	if c.tls != nil {
		if input := field[bytes.Reader](c.tls, "input"); input != nil && input.Len() > 0 {
			return true
		}
		if s := c.socket(); s.ciphertext != nil && s.ciphertext.Len() > 0 || len(s.first) > 0 || len(s.ahead) > 0 {
			return true
		}
	}
	var err error
	if cerr := c.raw.Control(func(fd uintptr) { err = peek(int(fd)) }); cerr != nil {
		return false
	}
	return errors.Is(err, ErrUnread)
}

// PutBack returns the bytes that Unread put back and no reader has read since. The slice is valid until the
// next read.
func (c *Conn) PutBack() []byte { return c.unread }
