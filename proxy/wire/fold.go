package wire

import "bytes"

// Is says whether b is the word upper, which is in upper case; the case of b is ignored.
func Is(b []byte, upper string) bool { return foldEq(b, upper) }

// FirstLine returns the first line of a unit with its line end, or all of b if b has no line end.
func FirstLine(b []byte) []byte {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i+1]
	}
	return b
}

// foldEq compares b, in any case, with a word in upper-case ASCII.
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
