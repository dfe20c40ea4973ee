package deflate

import (
	"math/bits"

	"github.com/klauspost/compress/flate"
)

// MaxHistory is how much of what was sent a Deflater can refer back to.
const MaxHistory = 8 << 10

const (
	// storeBelow is the size up to which text isn't compressed: with the block's end it would hardly be smaller.
	storeBelow = 48
	// historyBelow is the size of a text from which on it is compressed without the history: it has enough of its own, and the library copies
	// both into new memory.
	historyBelow = 8 << 10
	// sampled is the size from which on a text is looked at before it is compressed.
	sampled = 1 << 10
	// storedBlock is the size of a stored block (RFC 1951 §3.2.4), of which storedHead octets come before the text.
	storedBlock, storedHead = 1<<16 - 1, 5
)

// Deflater writes one stream. Its zero value keeps no history.
type Deflater struct {
	history []byte
	keeps   int  // the size of the history
	rests   bool // nothing is kept
}

// NewDeflater returns a Deflater that refers back to the last octets that were sent, at most MaxHistory and
// as many as keeps says.
func NewDeflater(keeps int) Deflater { return Deflater{keeps: min(max(keeps, 0), MaxHistory)} }

// History returns how many octets the Deflater holds between two calls.
func (d *Deflater) History() int { return len(d.history) }

// Rest drops the history, and keeps none until Wake: what is sent meanwhile is compressed by itself.
func (d *Deflater) Rest() { d.history, d.rests = nil, true }

// Wake ends Rest.
func (d *Deflater) Wake() { d.rests = false }

// Output is where a Deflater writes. It can be lent to another one when its text was sent.
type Output struct {
	b     []byte
	coder *flate.Writer // nil: it wasn't needed yet
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.b = append(o.b, p...)
	return len(p), nil
}

// Deflate returns p as it is to be sent: the peer can read all of it at once. The slice is o's. No block is the stream's last one.
func (d *Deflater) Deflate(o *Output, p []byte) []byte {
	o.b = o.b[:0]
	kind := lookAt(p)
	switch {
	case len(p) < storeBelow:
		o.fixed(p)
	case kind == random:
		o.stored(p)
	case kind == even:
		if !o.coded(p) {
			o.b = o.b[:0]
			o.stored(p)
		}
	default:
		var before []byte
		if len(p) < historyBelow {
			before = d.history
		}
		err := flate.StatelessDeflate(o, p, false, before)
		if blocks := (len(p)+storedBlock-1)/storedBlock + 1; err != nil || len(o.b) >= len(p)+blocks*storedHead {
			o.b = o.b[:0]
			o.stored(p)
		}
	}
	d.remember(p)
	return o.b
}

// flushed is an empty stored block, which ends at an octet's boundary. Go's own inflater doesn't show what it has read before such a block.
const flushed = "\x00\x00\x00\xff\xff"

// stored writes text in stored blocks.
func (o *Output) stored(p []byte) {
	for len(p) > 0 {
		n := min(len(p), storedBlock)
		o.b = append(o.b, 0, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
		o.b = append(o.b, p[:n]...)
		p = p[n:]
	}
	o.b = append(o.b, flushed...)
}

// fixed writes text in a block of fixed codes (RFC 1951 §3.2.6), each octet by itself.
func (o *Output) fixed(p []byte) {
	if len(p) == 0 {
		return
	}
	acc, n := uint64(1)<<1, uint(3) // not the last block, of fixed codes
	put := func(value uint16, size uint) {
		acc |= uint64(bits.Reverse16(value)>>(16-size)) << n
		for n += size; n >= 8; n -= 8 {
			o.b = append(o.b, byte(acc))
			acc >>= 8
		}
	}
	for _, b := range p {
		if b < 144 {
			put(0x30+uint16(b), 8)
		} else {
			put(0x190+uint16(b)-144, 9)
		}
	}
	put(0, 7)                    // the block's end
	o.b = append(o.b, byte(acc)) // with the next header: 3 bits, which may not fit
	if n+3 > 8 {
		o.b = append(o.b, 0)
	}
	o.b = append(o.b, flushed[1:]...)
}

// remember keeps the end of what was sent.
func (d *Deflater) remember(p []byte) {
	if d.keeps == 0 || d.rests || len(p) == 0 {
		return
	}
	if d.history == nil {
		d.history = make([]byte, 0, d.keeps)
	}
	if len(p) >= d.keeps {
		d.history = append(d.history[:0], p[len(p)-d.keeps:]...)
		return
	}
	if over := len(d.history) + len(p) - d.keeps; over > 0 {
		d.history = d.history[:copy(d.history, d.history[over:])]
	}
	d.history = append(d.history, p...)
}

// kind is what a text looks like.
type kind uint8

const (
	text   kind = iota
	even        // its octets take some values only, nearly evenly: base64, which repeats nothing and shrinks by a quarter
	random      // compressed or encrypted already
)

// lookAt says what a text looks like, from the values of 1,024 of its octets.
func lookAt(p []byte) kind {
	if len(p) < sampled {
		return text
	}
	var count [256]uint16
	const pieces, size = 4, 256
	for i := range pieces {
		at := (len(p) - size) / (pieces - 1) * i
		for _, b := range p[at : at+size] {
			count[b]++
		}
	}
	sum := 0 // of squares: 1,024 + 1,024²/256 = 5,120 is expected of random octets, 17,400 of base64, and 60,000 of prose
	for _, n := range count {
		sum += int(n) * int(n)
	}
	switch {
	case sum < 6144:
		return random
	case sum < 22_000:
		return even
	}
	return text
}

// coded writes text in blocks with codes of their own, each octet by itself. It returns false if that is no gain.
func (o *Output) coded(p []byte) bool {
	if o.coder == nil {
		coder, err := flate.NewWriter(o, flate.HuffmanOnly)
		if err != nil {
			return false
		}
		o.coder = coder
	}
	o.coder.Reset(o)
	_, err := o.coder.Write(p)
	if err == nil {
		err = o.coder.Flush()
	}
	return err == nil && len(o.b) < len(p)
}
