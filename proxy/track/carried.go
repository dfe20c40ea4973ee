package track

import (
	"slices"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// Carried follows a command that isn't among those under way, since it is sent to a backend by itself.
type Carried struct{ words words }

// Carry begins with a command's head.
func Carry(h wire.CommandHead) Carried { return Carried{wordsOf(h.Verb.Rule())} }

// CarryWhole follows a command of which h has everything, with its literals.
func CarryWhole(h wire.CommandHead) Carried {
	c := Carry(h)
	c.words.all(h.Args)
	return c
}

// Line follows a line of the command; of the first one, what is behind the verb.
func (c *Carried) Line(b []byte) {
	c.words.line(b)
	if size, _, more := wire.LiteralSpec(b); more {
		c.words.announced(size)
		return
	}
	c.words.last()
}

// Literal follows a piece of a literal.
func (c *Carried) Literal(b []byte) { c.words.literal(b) }

// Carried records what a command has left on its connection. It returns true if the client uses mod-sequences only since this command, which no ENABLE has told
// (RFC 7162 §3.1).
func (f *InFlight) Carried(c *Carried) (marks bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.words.found&usesModSeq == 0 || f.Client.Dialect >= view.CondStore {
		return false
	}
	f.Client.Dialect = view.CondStore
	return true
}

// Extends returns what has to be enabled on another connection of the client: what it has enabled, and CONDSTORE where another command than ENABLE has enabled that.
func (t *Client) Extends() []string {
	if t.Dialect != view.CondStore || slices.Contains(t.Enabled, "CONDSTORE") {
		return t.Enabled
	}
	return append(t.Enabled[:len(t.Enabled):len(t.Enabled)], "CONDSTORE")
}
