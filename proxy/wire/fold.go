package wire

import "bytes"

// Is says whether b is a word of the protocol, in any case. upper is the word in upper case.
func Is(b []byte, upper string) bool { return foldEq(b, upper) }

// FirstLine is the first line of a unit, with its end; the whole of b where no line ends in it.
func FirstLine(b []byte) []byte {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i+1]
	}
	return b
}

// foldEq compares b with an upper-case ASCII word.
func foldEq(b []byte, upper string) bool {
	if len(b) != len(upper) {
		return false
	}
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}
