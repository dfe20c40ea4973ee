package wire

import "strings"

// Caps is a capability list in its server's order (RFC 9051 §7.2.2).
type Caps []string

// ParseCaps reads the capabilities of a CAPABILITY response or code, that is,
// what stands behind the word CAPABILITY.
func ParseCaps(b []byte) Caps { return strings.Fields(string(b)) }

// Has says whether name is listed, in any case.
func (c Caps) Has(name string) bool {
	for _, s := range c {
		if strings.EqualFold(s, name) {
			return true
		}
	}
	return false
}

// Without returns the list less what drop names.
func (c Caps) Without(drop func(name string) bool) Caps {
	out := make(Caps, 0, len(c))
	for _, s := range c {
		if !drop(s) {
			out = append(out, s)
		}
	}
	return out
}

// Append adds the list to dst, its names separated by spaces.
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
