package proxy

import (
	"sync"

	"imapproxy/proxy/wire"
)

// nameRoom bounds what is kept of a command for the mailbox that it names.
const nameRoom = 4 << 10

// names lends room for it, from a command's first piece to its last.
type names struct{ pool sync.Pool }

func (n *names) get() *[]byte {
	if b, ok := n.pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, nameRoom)
	return &b
}

func (n *names) put(b *[]byte) {
	*b = (*b)[:0]
	n.pool.Put(b)
}

// arguments follows those of a command that comes in pieces: it is longer than a head, or has
// literals. A command that comes whole needs none of it. Memory is held only where a mailbox's name is
// to be known.
type arguments struct {
	on    bool
	words words
	name  *[]byte // the command, so far, of which the mailbox's name is to be known
	long  bool    // there is more of it than there is room
}

// begin begins with a command's head.
func (a *arguments) begin(n *names, h wire.CommandHead, head []byte) {
	r := h.Verb.Rule()
	*a = arguments{on: true, words: wordsOf(r)}
	a.words.line(h.Args)
	if r.Selects || r.Renames {
		a.name = n.get()
		*a.name = append(*a.name, head...)
	}
}

// piece looks at each piece, and says what of the command's effects is new.
func (a *arguments) piece(n *names, b []byte, p wire.Piece, first bool) (e effects) {
	was := a.words.found
	switch {
	case first: // begin has looked
		was = 0
	case p.InLiteral:
		a.words.literal(b)
	default:
		a.words.line(b)
	}
	switch {
	case a.name == nil:
	case len(*a.name)+len(b) > nameRoom || p.Size > nameRoom: // the kernel may have a large one
		a.long = true
		a.drop(n)
	case !first:
		*a.name = append(*a.name, b...)
	}
	switch {
	case p.Announced:
		a.words.announced(p.Size)
		e = conversed
	case p.Last:
		a.words.last()
	}
	return e | a.words.found&^was
}

// drop gives back what was lent.
func (a *arguments) drop(n *names) {
	if a.name != nil {
		n.put(a.name)
		a.name = nil
	}
}
