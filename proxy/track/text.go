package track

import "bytes"

// containsFold says whether b contains the upper-case word, in any case.
func containsFold(b []byte, upper string) bool {
	for i := 0; i+len(upper) <= len(b); i++ {
		if b[i]&^0x20 == upper[0] && bytes.EqualFold(b[i:i+len(upper)], []byte(upper)) {
			return true
		}
	}
	return false
}

func number64(b []byte) uint64 {
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' || n > 1<<63/10 {
			return 0
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}

func number32(b []byte) uint32 {
	if n := number64(b); n < 1<<32 {
		return uint32(n)
	}
	return 0
}

// startsFold says whether b begins with the upper-case word, in any case.
func startsFold(b []byte, upper string) bool {
	return len(b) >= len(upper) && b[0]&^0x20 == upper[0] && bytes.EqualFold(b[:len(upper)], []byte(upper))
}

// digits returns the digits at the front of b.
func digits(b []byte) []byte {
	n := 0
	for n < len(b) && b[n] >= '0' && b[n] <= '9' {
		n++
	}
	return b[:n]
}
