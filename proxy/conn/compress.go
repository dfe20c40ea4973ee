package conn

import "imapproxy/proxy/deflate"

// Inflate has everything that the peer sends from now on inflated (RFC 4978), and makes ready for Deflate: history is how many of the octets sent last the
// compressed text may refer to. Only the connection's reader may call it. Bytes that were read before and put back are in the clear, and remain so.
func (c *Conn) Inflate(pool *Pool, history int) {
	c.inflate = &inflating{deflate: &deflating{z: deflate.NewDeflater(history), pool: pool}}
}

// Deflate has everything that is written from now on compressed, each Write so that the peer can read all of it at once. Only the connection's
// writer may call it, after the reader has called Inflate.
func (c *Conn) Deflate() { c.deflate = c.inflate.deflate }

// Inflates says whether what the peer sends is compressed. Only the connection's reader may call it.
func (c *Conn) Inflates() bool { return c.inflate != nil }

// Rest drops the history of what was sent, until Wake. Only the connection's writer may call it.
func (c *Conn) Rest() {
	if c.deflate != nil {
		c.deflate.z.Rest()
	}
}

// Wake ends Rest.
func (c *Conn) Wake() {
	if c.deflate != nil {
		c.deflate.z.Wake()
	}
}

// Compressed is what compression has done for a connection, in bytes: as they are read and written, and as they were sent.
type Compressed struct{ In, InPlain, Out, OutPlain int64 }

// Compressed returns the sums since the last call. They are 0 for a connection without compression. The caller is both reader and writer.
func (c *Conn) Compressed() (sum Compressed) {
	if f := c.inflate; f != nil {
		sum.In, sum.InPlain = f.in, f.out
		f.in, f.out = 0, 0
	}
	if d := c.deflate; d != nil {
		sum.Out, sum.OutPlain = d.out, d.in
		d.in, d.out = 0, 0
	}
	return sum
}

// Held returns how many octets of history the connection holds for its compression.
func (c *Conn) Held() int {
	n := 0
	if c.inflate != nil {
		n += c.inflate.z.History() + len(c.inflate.src)
	}
	return n + c.HeldOfSent()
}

// HeldOfSent is the part of Held that was sent. Only the connection's writer may call it.
func (c *Conn) HeldOfSent() int {
	if c.deflate == nil {
		return 0
	}
	return c.deflate.z.History()
}
