package conn

import (
	"errors"
	"sync"
)

// Sizes of the lent buffers. A chunk is at most ChunkSize; MaxHold bytes of the
// one before may stand in front of it.
const (
	ChunkSize = 64 << 10
	MaxHold   = 512
	cipherLen = 64 << 10
)

// Next is what a Pump does after a chunk.
type Next uint8

const (
	// More goes on.
	More Next = iota
	// Ack goes on, and has what came acknowledged at once: the peer is in the
	// middle of a message and may keep its rest back until then.
	Ack
	// Stop returns from Pump, with the socket and its state in order.
	Stop
)

// Receiver gets the chunks of a Pump.
type Receiver interface {
	// Chunk is given bytes that are lent for the call only. It says how many
	// of the last ones it keeps back (at most MaxHold): the next chunk begins
	// with them.
	Chunk(b []byte) (kept int, next Next)
}

// buffers are lent to a Pump from when its socket is readable until it would
// wait: an idle connection holds none.
type buffers struct {
	plain  [MaxHold + ChunkSize]byte
	cipher [cipherLen]byte
}

// Pool lends buffers to Pumps; one serves a whole process.
type Pool struct{ p sync.Pool }

// NewPool makes an empty pool.
func NewPool() *Pool {
	return &Pool{p: sync.Pool{New: func() any { return new(buffers) }}}
}

// Pump gives all that arrives to r until r says Stop (nil), the peer has ended
// its side (io.EOF), the read deadline passes (os.ErrDeadlineExceeded) or the
// connection fails. Kept bytes stay with the connection for the next Pump; Kept
// returns them.
//
// It reads until the socket is empty before each wait: bytes that tls.Conn has
// decrypted already would otherwise be waited for in vain.
func (c *Conn) Pump(pool *Pool, r Receiver) error {
	p := pump{c: c, pool: pool, r: r}
	return p.run()
}

// ErrDry is Drain's: all that had come was given, and no more is there now.
var ErrDry = errors.New("conn: nothing more has come")

// Drain is a Pump that doesn't wait: where Pump would, it returns ErrDry, and the
// connection can be given to a Waiting.
func (c *Conn) Drain(pool *Pool, r Receiver) error {
	p := pump{c: c, pool: pool, r: r, dry: ErrDry}
	return p.run()
}

// Kept returns the bytes that the receiver kept back and that no chunk has
// followed, at the end of the connection.
func (c *Conn) Kept() []byte { return c.hold }

// Unhold puts the bytes that were kept back in front of what is still to be read,
// for a caller that reads on by Read.
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
	dry  error // what an empty socket is the end with; nil: it is waited for
}

func (p *pump) run() error {
	if next, err := p.first(); err != nil || next == Stop {
		return err
	}
	err := p.c.raw.Read(p.ready)
	if p.err != nil {
		return p.err
	}
	return err
}

// wait says whether what ready was called for is over, when the socket is empty.
func (p *pump) wait() (over bool) {
	p.err = p.dry
	return p.dry != nil
}

// first hands over what was read before the relay began.
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

// ready is called when the socket may have data. False waits for more.
func (p *pump) ready(fd uintptr) bool {
	buf := p.pool.p.Get().(*buffers)
	defer p.pool.p.Put(buf)
	c := p.c
	if s := c.sock; s != nil {
		s.fd, s.pump, s.buf = int(fd), true, buf.cipher[:]
		defer func() { s.pump, s.buf = false, nil }()
	}
	for again := c.drained; ; again = true {
		var n int
		var err error
		if again && c.dry(int(fd)) {
			return p.wait()
		}
		if c.tls != nil {
			n, err = c.tls.Read(buf.plain[MaxHold:])
			c.drained = true // the room is larger than a record
		} else {
			n, err = readNow(int(fd), buf.plain[MaxHold:])
		}
		if n > 0 {
			from := MaxHold - copy(buf.plain[MaxHold-len(c.hold):], c.hold)
			b := buf.plain[from : MaxHold+n]
			kept, next := p.r.Chunk(b)
			c.keep(b, kept)
			if next == Stop {
				p.stash()
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

// dry says whether nothing more can be had now. It asks the socket itself where
// tls.Conn is known to hold nothing: tls.Conn's own asking allocates, and a session
// that waits would keep what it allocates.
func (c *Conn) dry(fd int) bool {
	s := c.sock
	if s == nil || c.ciphertext == nil || c.ciphertext.Len() > 0 || len(s.first) > 0 || len(s.ahead) > 0 {
		return false
	}
	n, err := readNow(fd, s.buf)
	s.ahead = s.buf[:n]
	return err == errEmpty
}

// stash saves the ciphertext that was read ahead when a Pump is stopped with
// some left, before its buffer is given back.
func (p *pump) stash() {
	if s := p.c.sock; s != nil && len(s.ahead) > 0 {
		s.first = append(s.first, s.ahead...)
		s.ahead = nil
	}
}

func (c *Conn) keep(b []byte, n int) {
	if n > MaxHold {
		panic("conn: a receiver kept back more than MaxHold bytes, which is its own bound")
	}
	c.hold = append(c.hold[:0], b[len(b)-n:]...)
}
