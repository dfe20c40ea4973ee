package conn

import (
	"cmp"
	"sync"

	"imapproxy/proxy/deflate"
)

// Sizes of the buffers. A chunk has up to ChunkSize new bytes, after up to MaxHold bytes that were kept back
// from the chunk before.
const (
	ChunkSize = 64 << 10
	MaxHold   = 512
	cipherLen = 64 << 10
)

// inputLen is how many compressed bytes are read at once: a TLS record at most.
const inputLen = 16 << 10

// buffers are a Pump's from the moment when its socket is readable until it waits again: an idle connection
// has none.
type buffers struct {
	plain  [MaxHold + ChunkSize]byte
	cipher [cipherLen]byte
	lent   lent // of a connection under TLS
}

// Pool has the buffers of Pumps; a process has one.
type Pool struct {
	p    sync.Pool
	z, o sync.Pool // of compressed connections: inflateBuffers and deflate.Output

	// What NewPool has found out.
	layout  tlsLayout
	unfit   error // why buffers inside tls.Conns are left alone
	strange error // why ciphers inside tls.Conns are left alone, unless that is meant
	ciphers bool  // they may be put away
}

// NewPool returns an empty pool. It tries out this build's crypto/tls, which takes some milliseconds.
func NewPool() *Pool {
	p := &Pool{p: sync.Pool{New: func() any { return new(buffers) }}}
	p.layout = knownNames().layout()
	p.unfit, p.strange = checkTLS(knownNames())
	p.ciphers = p.unfit == nil && p.strange == nil && mayPutAway()
	return p
}

// Unfit says why the buffers or the ciphers inside tls.Conns are left alone: this build's crypto/tls isn't the one that the package knows. Idle
// connections under TLS then keep them, and if it is the buffers, each needs a goroutine that waits. nil: it is.
func (p *Pool) Unfit() error { return cmp.Or(p.unfit, p.strange) }

// inflateBuffers are lent to a reader while it inflates.
type inflateBuffers struct {
	scratch deflate.Scratch
	in      [inputLen]byte
}

func (p *Pool) inflateBuffers() *inflateBuffers {
	if b, ok := p.z.Get().(*inflateBuffers); ok {
		return b
	}
	return new(inflateBuffers)
}

func (p *Pool) output() *deflate.Output {
	if o, ok := p.o.Get().(*deflate.Output); ok {
		return o
	}
	return new(deflate.Output)
}
