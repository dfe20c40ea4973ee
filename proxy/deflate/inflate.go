package deflate

import (
	"encoding/binary"
	"errors"
)

// Window is how far a stream may refer back (RFC 1951 §2).
const Window = 32 << 10

// Errors of Inflate. The stream can't be read any further.
var (
	ErrCorrupt = errors.New("deflate: the stream is broken")
	ErrEnded   = errors.New("deflate: data behind the last block")
)

// Inflater reads one stream, which comes in pieces of any size. Its zero value is at the beginning of a stream.
type Inflater struct {
	history []byte // the last Window octets of the output, or all
	lengths []byte // of the codes of an unfinished dynamic block; nil: there is none
	bits    uint64 // read and not used yet, the first one lowest
	nbits   uint   // at most 64
	state   state
	last    bool // the block is the stream's last one
	dynamic bool // the block has codes of its own
	err     error

	left     int // octets that are still due of a stored block or of a copy
	distance int // of the copy

	literals, distances, codes int // how many code lengths a dynamic block has
	at                         int // how many of them were read
}

// state says what comes next in the stream.
type state uint8

const (
	atHeader state = iota
	atStoredSize
	inStored
	atCounts // of a dynamic block
	inCodeLengths
	inLengths
	inBlock
	inCopy
	atEnd
)

// History returns how many octets the Inflater holds between two calls.
func (z *Inflater) History() int { return len(z.history) + len(z.lengths) }

// Trim gives back memory that isn't in use.
func (z *Inflater) Trim() {
	if cap(z.history) > len(z.history)+len(z.history)/8 {
		z.history = append(make([]byte, 0, len(z.history)), z.history...)
	}
}

// Inflate reads from src and writes to dst. It returns how many octets of each it has used: all of src, or all of dst, unless there is an
// error. If dst is full, there may be more output although src is used up.
func (z *Inflater) Inflate(s *Scratch, dst, src []byte) (written, read int, err error) {
	if z.err != nil {
		return 0, 0, z.err
	}
	if z.resume(s); z.err == nil {
		written, read = z.inflate(s, dst, src)
		z.remember(dst[:written])
		z.suspend(s)
	}
	return written, read, z.err
}

// resume makes the codes of an unfinished block again.
func (z *Inflater) resume(s *Scratch) {
	if z.state != inCodeLengths && z.state != inLengths && z.state != inBlock && z.state != inCopy {
		return
	}
	ok := true
	switch {
	case !z.dynamic:
		s.fixed()
	case z.state == inCodeLengths:
		copy(s.lengths[:], z.lengths)
	case z.state == inLengths:
		copy(s.lengths[:], z.lengths)
		ok = s.distance.make(s.lengths[maxLengths:])
	default:
		copy(s.lengths[:], z.lengths)
		ok = z.codesOf(s)
	}
	if !ok {
		z.err = ErrCorrupt
	}
}

// suspend keeps the code lengths of an unfinished block.
func (z *Inflater) suspend(s *Scratch) {
	if z.dynamic && z.err == nil && (z.state == inCodeLengths || z.state == inLengths || z.state == inBlock || z.state == inCopy) {
		z.lengths = append(z.lengths[:0], s.lengths[:]...)
		return
	}
	z.lengths = nil
}

// remember keeps the end of the output.
func (z *Inflater) remember(b []byte) {
	switch {
	case len(b) == 0:
		return
	case len(b) >= Window:
		z.history, b = z.history[:0], b[len(b)-Window:]
	case len(z.history)+len(b) > Window:
		n := copy(z.history, z.history[len(z.history)+len(b)-Window:])
		z.history = z.history[:n]
	}
	if need := len(z.history) + len(b); need > cap(z.history) {
		z.history = append(make([]byte, 0, min(max(2*need, 512), Window)), z.history...)
	}
	z.history = append(z.history, b...)
}

// fill moves octets into bits, as many as fit. It returns how many it has taken.
func (z *Inflater) fill(src []byte) int {
	if len(src) >= 8 {
		n := (63 - z.nbits) >> 3
		z.bits |= binary.LittleEndian.Uint64(src) << z.nbits
		z.nbits += n << 3
		z.bits &= 1<<z.nbits - 1 // n is at most 7
		return int(n)
	}
	n := 0
	for ; z.nbits <= 55 && n < len(src); n++ {
		z.bits |= uint64(src[n]) << z.nbits
		z.nbits += 8
	}
	return n
}

// take returns the next n bits, which the caller knows to be there.
func (z *Inflater) take(n uint) int {
	v := int(z.bits & (1<<n - 1))
	z.skip(n)
	return v
}

func (z *Inflater) skip(n uint) {
	z.bits >>= n
	z.nbits -= n
}

// inflate is Inflate with codes in s. An error is in z.err.
func (z *Inflater) inflate(s *Scratch, dst, src []byte) (n, m int) {
	for z.err == nil {
		m += z.fill(src[m:])
		short := false // more bits are needed: fill has taken all there are
		switch z.state {
		case atHeader:
			if short = z.nbits < 3; !short {
				z.header(s)
			}
		case atStoredSize:
			if short = z.nbits < 32; !short {
				size, check := z.take(16), z.take(16)
				if size != check^0xffff {
					z.err = ErrCorrupt
				}
				z.left, z.state = size, inStored
			}
		case inStored:
			n, m = z.stored(dst, n, src, m)
			switch {
			case z.left == 0:
				z.block()
			case n == len(dst):
				return n, m
			default:
				short = true
			}
		case atCounts:
			if short = z.nbits < 14; !short {
				z.literals, z.distances, z.codes, z.at = z.take(5)+257, z.take(5)+1, z.take(4)+4, 0
				if z.literals > 286 || z.distances > 30 {
					z.err = ErrCorrupt
				}
				clear(s.lengths[:])
				z.state = inCodeLengths
			}
		case inCodeLengths:
			if short = z.nbits < 3; !short {
				z.codeLength(s)
			}
		case inLengths:
			short = !z.length(s)
		case inCopy:
			if n = z.copies(dst, n); z.left > 0 {
				return n, m
			}
			z.state = inBlock
		case inBlock:
			if n, m, short = z.symbols(s, dst, n, src, m); !short && z.err == nil && n == len(dst) && z.state != atHeader && z.state != atEnd {
				return n, m
			}
		case atEnd:
			if m < len(src) || z.nbits >= 8 {
				z.err = ErrEnded
			}
			short = true
		}
		if short {
			return n, m
		}
	}
	return n, m
}

// header begins a block (RFC 1951 §3.2.3).
func (z *Inflater) header(s *Scratch) {
	z.last = z.take(1) == 1
	z.dynamic = false
	switch z.take(2) {
	case 0:
		z.skip(z.nbits & 7)
		z.state = atStoredSize
	case 1:
		s.fixed()
		z.state = inBlock
	case 2:
		z.dynamic = true
		z.state = atCounts
	default:
		z.err = ErrCorrupt
	}
}

// block ends a block.
func (z *Inflater) block() {
	if z.state = atHeader; z.last {
		z.skip(z.nbits & 7)
		z.state = atEnd
	}
}

// stored copies what has come of a stored block (RFC 1951 §3.2.4). bits has whole octets.
func (z *Inflater) stored(dst []byte, n int, src []byte, m int) (int, int) {
	for ; z.left > 0 && z.nbits >= 8 && n < len(dst); n++ {
		dst[n] = byte(z.take(8))
		z.left--
	}
	if z.nbits == 0 {
		k := copy(dst[n:], src[m:min(len(src), m+z.left)])
		n, m, z.left = n+k, m+k, z.left-k
	}
	return n, m
}

// order is that in which the lengths of the codes of code lengths are written (RFC 1951 §3.2.7).
var order = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// codeLength reads the length of one code of code lengths.
func (z *Inflater) codeLength(s *Scratch) {
	s.lengths[maxLengths+int(order[z.at])] = byte(z.take(3))
	if z.at++; z.at < z.codes {
		return
	}
	if !s.distance.make(s.lengths[maxLengths:]) {
		z.err = ErrCorrupt
	}
	z.at, z.state = 0, inLengths
}

// length reads one code length, or a repetition of it. It returns false if bits are missing.
func (z *Inflater) length(s *Scratch) bool {
	symbol, used := s.distance.decode(z.bits, z.nbits)
	if used > z.nbits {
		return false
	}
	if used == 0 {
		z.err = ErrCorrupt
		return true
	}
	count, extra, value := 1, uint(0), byte(symbol)
	switch symbol {
	case 16:
		count, extra = 3, 2
		if z.at == 0 {
			z.err = ErrCorrupt
			return true
		}
		value = s.lengths[z.at-1]
	case 17:
		count, extra, value = 3, 3, 0
	case 18:
		count, extra, value = 11, 7, 0
	}
	if used+extra > z.nbits {
		return false
	}
	z.skip(used)
	count += z.take(extra)
	all := z.literals + z.distances
	if z.at+count > all {
		z.err = ErrCorrupt
		return true
	}
	for range count {
		s.lengths[z.at] = value
		z.at++
	}
	if z.at == all {
		if z.state = inBlock; !z.codesOf(s) {
			z.err = ErrCorrupt
		}
	}
	return true
}

// codesOf makes the codes of a dynamic block whose lengths are in s.
func (z *Inflater) codesOf(s *Scratch) bool {
	return s.lengths[256] != 0 && s.literals.make(s.lengths[:z.literals]) && s.distance.make(s.lengths[z.literals:z.literals+z.distances])
}

// The lengths and distances that symbols mean (RFC 1951 §3.2.5): base, and how many bits are added to it.
var (
	lengthBase  = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}

	distanceBase = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289,
		16385, 24577}
	distanceExtra = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// symbols decodes a block until it ends, dst is full, or bits are missing (short). A symbol and what belongs to it
// has at most 48 bits, and is used as a whole or not at all.
func (z *Inflater) symbols(s *Scratch, dst []byte, n int, src []byte, m int) (_, _ int, short bool) {
	for n < len(dst) {
		m += z.fill(src[m:])
		symbol, used := s.literals.decode(z.bits, z.nbits)
		switch {
		case used > z.nbits:
			return n, m, true
		case used == 0 || symbol > 285:
			z.err = ErrCorrupt
			return n, m, false
		case symbol < 256:
			z.skip(used)
			dst[n] = byte(symbol)
			n++
			continue
		case symbol == 256:
			z.skip(used)
			z.block()
			return n, m, false
		}
		extra := uint(lengthExtra[symbol-257])
		length := int(lengthBase[symbol-257]) + int(z.bits>>used&(1<<extra-1))
		if used += extra; used > z.nbits {
			return n, m, true
		}
		symbol, more := s.distance.decode(z.bits>>used, z.nbits-used)
		switch {
		case more > z.nbits-used:
			return n, m, true
		case more == 0 || symbol > 29:
			z.err = ErrCorrupt
			return n, m, false
		}
		used += more
		extra = uint(distanceExtra[symbol])
		distance := int(distanceBase[symbol]) + int(z.bits>>used&(1<<extra-1))
		if used += extra; used > z.nbits {
			return n, m, true
		}
		if distance > n+len(z.history) {
			z.err = ErrCorrupt
			return n, m, false
		}
		z.skip(used)
		z.left, z.distance = length, distance
		if n = z.copies(dst, n); z.left > 0 {
			z.state = inCopy
			return n, m, false
		}
	}
	return n, m, false
}

// copies repeats earlier output, as far as dst has room.
func (z *Inflater) copies(dst []byte, n int) int {
	end := min(n+z.left, len(dst))
	z.left -= end - n
	for n < end {
		if back := z.distance - n; back > 0 {
			n += copy(dst[n:end], z.history[len(z.history)-back:])
			continue
		}
		n += copy(dst[n:end], dst[n-z.distance:n])
	}
	return n
}
