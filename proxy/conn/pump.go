package conn

import (
	"errors"
)

// Next tells a Pump what to do after a chunk.
type Next uint8

const (
	// More continues.
	More Next = iota
	// Ack continues, and makes the kernel acknowledge the data at once: the peer is in the middle of a
	// message and may not send the rest before that.
	Ack
	// Stop makes Pump return; the connection can be read on.
	Stop
)

// Receiver receives the chunks of a Pump.
type Receiver interface {
	// Chunk processes b, which is valid only during the call. It returns how many bytes at the end of b it
	// keeps back (at most MaxHold); the next chunk begins with them.
	Chunk(b []byte) (kept int, next Next)
}

// Pump passes all data to r until r returns Stop (nil), the peer ends its side (io.EOF), the read deadline
// passes (os.ErrDeadlineExceeded) or the connection fails. Bytes that r kept back remain with the connection
// for the next Pump; Kept returns them.
//
// Pump empties the socket before it waits. Otherwise it would wait although tls.Conn has decrypted data.
func (c *Conn) Pump(pool *Pool, r Receiver) error {
	p := pump{c: c, pool: pool, r: r}
	return p.run()
}

// ErrDry means that Drain has passed all data that had arrived.
var ErrDry = errors.New("conn: nothing more has come")

// Drain is a Pump that doesn't wait: where Pump would wait, it returns ErrDry, and the connection can be
// added to a Waiting.
func (c *Conn) Drain(pool *Pool, r Receiver) error {
	p := pump{c: c, pool: pool, r: r, dry: ErrDry}
	return p.run()
}

// Kept returns the bytes that the receiver kept back from the last chunk.
func (c *Conn) Kept() []byte { return c.hold }

// Unhold puts the kept bytes back, for a caller that continues with Read.
func (c *Conn) Unhold() {
	kept := c.hold
	c.hold = nil
	c.Unread(kept)
}

// pump is one call of Pump or Drain.
type pump struct {
	c    *Conn
	pool *Pool
	r    Receiver
	err  error
	dry  error // the error when the socket is empty; nil: wait
}

func (p *pump) run() error {
	if next, err := p.first(); err != nil || next == Stop {
		return err
	}
	err := p.c.raw.Read(p.ready)
	if p.err == nil {
		return err
	}
	if p.err == p.dry {
		return p.err
	}
	return p.c.noted(p.err)
}

// wait is called when the socket is empty. over says whether the pump ends instead of waiting.
func (p *pump) wait() (over bool) {
	p.err = p.dry
	return p.dry != nil
}

// first passes the bytes that were read before the Pump.
func (p *pump) first() (Next, error) {
	c := p.c
	for len(c.unread) > 0 {
		b := append(c.hold, c.unread[:min(len(c.unread), ChunkSize)]...)
		c.unread = c.unread[len(b)-len(c.hold):]
		c.hold = nil
		kept, next := p.r.Chunk(b)
		c.keep(b, kept)
		if next == Stop {
			return Stop, nil
		}
	}
	c.unread = nil
	return More, nil
}

// ready is called when the socket may have data. It returns false to wait for more.
func (p *pump) ready(fd uintptr) bool {
	buf := p.pool.p.Get().(*buffers)
	defer p.pool.p.Put(buf)
	c := p.c
	if s := c.socket(); s != nil {
		buf.lent = lent{fd: int(fd), buf: buf.cipher[:]}
		s.pump = &buf.lent
		defer s.stash()
	}
	into := buf.plain[MaxHold:]
	var inflating *inflateBuffers
	if c.inflate != nil {
		inflating = p.pool.inflateBuffers()
		into = inflating.in[:]
		defer func() {
			c.inflate.settle()
			p.pool.z.Put(inflating)
		}()
	}
	for again := c.drained; ; again = true {
		var n int
		var err error
		if c.inflate != nil {
			n, err = c.inflate.next(&inflating.scratch, buf.plain[MaxHold:])
		}
		if n == 0 && err == nil {
			if again && c.dry(p.pool, int(fd)) {
				return p.wait()
			}
			if c.tls != nil {
				n, err = c.tls.Read(into)
				c.drained = true // the buffer is as large as a record
			} else {
				n, err = readNow(int(fd), into)
			}
			if c.inflate != nil && n > 0 {
				c.inflate.took(into[:n])
				if n, err = c.inflate.next(&inflating.scratch, buf.plain[MaxHold:]); n == 0 && err == nil {
					continue
				}
			}
		}
		if n > 0 {
			from := MaxHold - copy(buf.plain[MaxHold-len(c.hold):], c.hold)
			b := buf.plain[from : MaxHold+n]
			kept, next := p.r.Chunk(b)
			c.keep(b, kept)
			if next == Stop {
				return true
			}
			if next == Ack {
				quickAck(int(fd))
			}
		}
		if err != nil {
			if err == errEmpty {
				return p.wait()
			}
			p.err = err
			return true
		}
	}
}

// dry says whether no data is available now. If tls.Conn holds nothing, dry reads the socket itself: a read
// by tls.Conn of an empty socket allocates, and an idle session would keep the allocation.
func (c *Conn) dry(pool *Pool, fd int) bool {
	s := c.socket()
	if s == nil || pool.unfit != nil || s.ciphertext == nil || s.ciphertext.Len() > 0 || s.isAhead() {
		return false
	}
	n, err := readNow(fd, s.pump.buf)
	if err == errEmpty {
		return true
	}
	s.pump.ahead, s.pump.failed = s.pump.buf[:n], err
	return false
}

func (c *Conn) keep(b []byte, n int) {
	if n > MaxHold {
		panic("conn: a receiver kept back more than MaxHold bytes, which is its own bound")
	}
	c.hold = append(c.hold[:0], b[len(b)-n:]...)
}
