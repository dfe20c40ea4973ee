package wire

import "strings"

// Caps is a capability list in the order in which the server sent it (RFC 9051 §7.2.2).
type Caps []string

// ParseCaps reads the arguments of a CAPABILITY response or response code: the bytes after the word
// CAPABILITY.
func ParseCaps(b []byte) Caps { return strings.Fields(string(b)) }

// Has says whether the list has name; case is ignored.
func (c Caps) Has(name string) bool {
	for _, s := range c {
		if strings.EqualFold(s, name) {
			return true
		}
	}
	return false
}

// Without returns the list without the capabilities for which drop returns true.
func (c Caps) Without(drop func(name string) bool) Caps {
	out := make(Caps, 0, len(c))
	for _, s := range c {
		if !drop(s) {
			out = append(out, s)
		}
	}
	return out
}

// Append appends the names to dst, separated by spaces.
func (c Caps) Append(dst []byte) []byte {
	for i, s := range c {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, s...)
	}
	return dst
}

func (c Caps) String() string { return strings.Join(c, " ") }
