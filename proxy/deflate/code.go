package deflate

import "math/bits"

// quick is the length of codes that are found in one step.
const quick = 9

// longest is the length of the longest code (RFC 1951 §3.2.7).
const longest = 15

// Scratch is what an Inflater needs while it works. It can be lent to another one between two calls.
type Scratch struct {
	// lengths are those of the literals' codes, then of the distances' codes; the last ones are of the codes in which these
	// are written.
	lengths            [maxLengths + 19]byte
	literals, distance code
}

// maxLengths is how many code lengths a dynamic block has at most (RFC 1951 §3.2.7).
const maxLengths = 286 + 30

// code is a prefix code (RFC 1951 §3.2.2).
type code struct {
	quick   [1 << quick]uint16 // by the next bits: symbol<<4 | length; 0: the code is longer, or there is none
	count   [longest + 1]uint16
	symbols [288]uint16 // by length, then by value
}

// make builds the code from the length of each symbol's code. It returns false if there is no such code. Incomplete codes are
// refused, as by zlib, except one of a single code of one bit, and one without any.
func (c *code) make(lengths []byte) bool {
	clear(c.count[:])
	for _, l := range lengths {
		c.count[l]++
	}
	c.count[0] = 0
	left, used, max := 1, 0, 0
	var first, next [longest + 2]uint16
	for l := 1; l <= longest; l++ {
		left = left<<1 - int(c.count[l])
		if left < 0 {
			return false
		}
		if c.count[l] > 0 {
			max = l
		}
		used += int(c.count[l])
		first[l+1] = first[l] + c.count[l]
		next[l+1] = (next[l] + c.count[l]) << 1
	}
	if left > 0 && used > 0 && max != 1 {
		return false
	}
	clear(c.quick[:])
	for symbol, l := range lengths {
		if l == 0 {
			continue
		}
		c.symbols[first[l]] = uint16(symbol)
		first[l]++
		value := next[l]
		next[l]++
		if l > quick {
			continue
		}
		for at := int(bits.Reverse16(value) >> (16 - l)); at < 1<<quick; at += 1 << l {
			c.quick[at] = uint16(symbol)<<4 | uint16(l)
		}
	}
	return true
}

// decode returns the symbol that the lowest bits of b mean, and the length of its code. b has n bits; if the length is more than n, more
// bits are needed. The length is 0 if there is no such code.
func (c *code) decode(b uint64, n uint) (symbol int, length uint) {
	if q := c.quick[b&(1<<quick-1)]; q != 0 {
		return int(q >> 4), uint(q & 15)
	}
	value, first, index := 0, 0, 0
	for l := uint(1); l <= longest; l++ {
		if l > n {
			return 0, l
		}
		value |= int(b & 1)
		b >>= 1
		count := int(c.count[l])
		if value-count < first {
			return int(c.symbols[index+value-first]), l
		}
		index += count
		first = (first + count) << 1
		value <<= 1
	}
	return 0, 0
}

// fixed makes the codes of a block with fixed codes (RFC 1951 §3.2.6).
func (s *Scratch) fixed() {
	var l [288]byte
	for i := range l {
		switch {
		case i < 144, i >= 280:
			l[i] = 8
		case i < 256:
			l[i] = 9
		default:
			l[i] = 7
		}
	}
	s.literals.make(l[:])
	for i := range 30 {
		l[i] = 5
	}
	l[30], l[31] = 5, 5
	s.distance.make(l[:32])
}
