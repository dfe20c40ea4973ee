package imaptest

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// Compress sends COMPRESS DEFLATE (RFC 4978). From the answer on both sides compress what they send.
func (c *Conn) Compress() error {
	_, r, err := c.Command("compress", "COMPRESS DEFLATE")
	if err != nil {
		return err
	}
	if r.Status() != "OK" {
		return fmt.Errorf("COMPRESS: %s", r.Text)
	}
	return c.BeginCompression()
}

// BeginCompression is for a client that has read the tagged OK of its COMPRESS last.
func (c *Conn) BeginCompression() error {
	ahead, err := c.r.br.Peek(c.r.br.Buffered())
	if err != nil {
		return err
	}
	w, err := flate.NewWriter(c.Conn, flate.DefaultCompression)
	if err != nil {
		return err
	}
	inflated, in := net.Pipe()
	d := &compressed{Conn: c.Conn, w: w, inflated: inflated}
	from := flate.NewReader(io.MultiReader(bytes.NewReader(bytes.Clone(ahead)), c.Conn))
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	go func() { // ends with the connection, or with Close
		_, err := io.Copy(in, from)
		var broken flate.CorruptInputError
		if errors.As(err, &broken) {
			d.broken.Store(&broken)
		}
		_ = in.Close()
	}()
	c.upgrade(d)
	return nil
}

// compressed is a compressed connection. A reader of compress/flate that has run into a deadline can't be used again, so one without deadlines
// reads the connection, and hands what it has inflated through a pipe, which has them.
type compressed struct {
	net.Conn
	w        *flate.Writer
	inflated net.Conn
	broken   atomic.Pointer[flate.CorruptInputError]
}

func (c *compressed) Read(p []byte) (int, error) {
	n, err := c.inflated.Read(p)
	if broken := c.broken.Load(); broken != nil && errors.Is(err, io.EOF) {
		err = *broken
	}
	return n, err
}

func (c *compressed) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	return n, errors.Join(err, c.w.Flush())
}

func (c *compressed) SetReadDeadline(t time.Time) error {
	if err := c.inflated.SetReadDeadline(t); !errors.Is(err, io.ErrClosedPipe) { // what the peer has closed can be read to its end
		return err
	}
	return nil
}

func (c *compressed) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.Conn.SetWriteDeadline(t))
}

func (c *compressed) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errors.New("imaptest: this connection has no half-close")
}

// NetConn is the connection below.
func (c *compressed) NetConn() net.Conn { return c.Conn }

func (c *compressed) Close() error {
	_ = c.inflated.Close()
	return c.Conn.Close()
}
