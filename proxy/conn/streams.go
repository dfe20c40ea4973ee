package conn

import (
	"errors"
	"io"

	"imapproxy/proxy/deflate"
)

// inflating is the compressed direction from the peer. The connection's reader owns it.
type inflating struct {
	z       deflate.Inflater
	src     []byte // read and not inflated; while no buffer is lent, in memory of its own
	more    bool   // there may be more output, though src is empty
	ahead   [1]byte
	isAhead bool // ahead is the next octet of the output
	in, out int64
	deflate *deflating // for Conn.Deflate; never changed
}

// deflating is the compressed direction to the peer. The connection's writer owns it.
type deflating struct {
	z       deflate.Deflater
	pool    *Pool
	in, out int64
}

// write compresses p and has send send it.
func (d *deflating) write(p []byte, send func([]byte) (int, error)) (int, error) {
	o := d.pool.output()
	defer d.pool.o.Put(o)
	for done := 0; done < len(p); {
		piece := p[done:min(len(p), done+ChunkSize)] // bounds the buffer
		b := d.z.Deflate(o, piece)
		if _, err := send(b); err != nil {
			return done, err
		}
		done += len(piece)
		d.in, d.out = d.in+int64(len(piece)), d.out+int64(len(b))
	}
	return len(p), nil
}

// ErrInflate is the error of reads after the peer has sent what can't be inflated.
var ErrInflate = errors.New("conn: the peer's compressed stream can't be read")

// next inflates what was read into p. It returns 0 if the peer has to send more.
func (f *inflating) next(s *deflate.Scratch, p []byte) (int, error) {
	if f.isAhead && len(p) > 0 {
		p[0], f.isAhead = f.ahead[0], false
		n, err := f.next(s, p[1:])
		return n + 1, err
	}
	if len(f.src) == 0 && !f.more {
		return 0, nil
	}
	n, m, err := f.z.Inflate(s, p, f.src)
	f.src, f.more = f.src[m:], n == len(p)
	f.out += int64(n)
	if len(f.src) == 0 {
		f.src = nil
	}
	if err != nil {
		f.more = true // the next read returns it again
		err = errors.Join(ErrInflate, err)
	}
	return n, err
}

// took takes bytes that were read.
func (f *inflating) took(b []byte) {
	f.src, f.in = b, f.in+int64(len(b))
}

// settle moves the bytes that weren't inflated to memory of their own, since their buffer goes back to the pool.
func (f *inflating) settle() {
	if len(f.src) > 0 {
		f.src = append([]byte(nil), f.src...)
	}
}

// hasMore says whether there is output without another byte from the peer. The end of a block isn't output, so it inflates one octet to see.
func (f *inflating) hasMore() bool {
	if f.isAhead || len(f.src) == 0 && !f.more {
		return f.isAhead
	}
	pool := f.deflate.pool
	b := pool.inflateBuffers()
	defer pool.z.Put(b)
	return f.looks(&b.scratch)
}

// looks is hasMore with working memory that is lent already.
func (f *inflating) looks(s *deflate.Scratch) bool {
	if !f.isAhead {
		n, _ := f.next(s, f.ahead[:]) // the next read returns the error
		f.isAhead = n > 0
	}
	return f.isAhead
}

// read inflates what has come into p. It waits for something; receive reads from the peer.
func (f *inflating) read(p []byte, receive func([]byte) (int, error)) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	pool := f.deflate.pool
	b := pool.inflateBuffers()
	defer pool.z.Put(b)
	for {
		if n, err := f.next(&b.scratch, p); n > 0 || err != nil {
			f.settle()
			return n, err
		}
		n, err := receive(b.in[:2<<10])
		if f.took(b.in[:n]); n == 0 && err != nil {
			return 0, err
		}
		if n == 0 {
			return 0, io.ErrNoProgress
		}
	}
}
