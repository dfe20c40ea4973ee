package conn

import (
	"bytes"
	"errors"
)

// Arrived says whether bytes have come that weren't read yet, besides those that Unread
// has put in front: the peer wrote them before it could read what is written now. Under
// TLS, bytes that aren't application data count, too. Its caller is the connection's reader,
// within Chunk or between two reads.
func (c *Conn) Arrived() bool {
	if c.tls != nil {
		if input := field[bytes.Reader](c.tls, "input"); input != nil && input.Len() > 0 {
			return true
		}
		if c.ciphertext != nil && c.ciphertext.Len() > 0 || len(c.sock.first) > 0 || len(c.sock.ahead) > 0 {
			return true
		}
	}
	var err error
	if cerr := c.raw.Control(func(fd uintptr) { err = peek(int(fd)) }); cerr != nil {
		return false
	}
	return errors.Is(err, ErrUnread)
}

// PutBack returns the bytes that Unread has put in front of what is still to be read, lent
// until the next read.
func (c *Conn) PutBack() []byte { return c.unread }
