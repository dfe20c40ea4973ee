package track

import (
	"sync"

	"imapproxy/proxy/wire"
)

// nameRoom bounds what is kept of a command for the mailbox that it names.
const nameRoom = 4 << 10

// NameBuffers lends room for it, from a command's first piece to its last.
type NameBuffers struct{ pool sync.Pool }

func (n *NameBuffers) get() *[]byte {
	if b, ok := n.pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, nameRoom)
	return &b
}

func (n *NameBuffers) put(b *[]byte) {
	*b = (*b)[:0]
	n.pool.Put(b)
}

// Arguments follows those of a command that comes in pieces: it is longer than a head, or has
// literals. A command that comes whole needs none of it. Memory is held only where a mailbox's name is
// to be known.
type Arguments struct {
	on    bool
	words words
	name  *[]byte // the command, so far, of which the mailbox's name is to be known
	long  bool    // there is more of it than there is room
}

// Begin begins with a command's head.
func (a *Arguments) Begin(n *NameBuffers, h wire.CommandHead, head []byte) {
	r := h.Verb.Rule()
	*a = Arguments{on: true, words: wordsOf(r)}
	a.words.line(h.Args)
	if r.Selects || r.Renames {
		a.name = n.get()
		*a.name = append(*a.name, head...)
	}
}

// piece looks at each piece, and says what of the command's effects is new.
func (a *Arguments) piece(n *NameBuffers, b []byte, p wire.Piece, first bool) (e effects) {
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
		e = Conversed
	case p.Last:
		a.words.last()
	}
	return e | a.words.found&^was
}

// drop gives back what was lent.
func (a *Arguments) drop(n *NameBuffers) {
	if a.name != nil {
		n.put(a.name)
		a.name = nil
	}
}

// Reset ends it, whatever it has followed.
func (a *Arguments) Reset(n *NameBuffers) {
	a.drop(n)
	a.on = false
}

// Active says whether a command is followed.
func (a *Arguments) Active() bool { return a.on }

// Piece follows the arguments of the newest command with one more piece. It is called before the piece is
// passed on, so before the command can be answered. first says that it is the command's head.
func (f *InFlight) Piece(a *Arguments, n *NameBuffers, b []byte, p wire.Piece, first bool) {
	if e := a.piece(n, b, p, first); e != 0 {
		f.Leaves(e)
	}
	switch {
	case !p.Last:
	case a.name != nil:
		f.named(wire.ParseCommandHead(*a.name), false)
		a.drop(n)
	case a.long:
		f.named(wire.CommandHead{}, true)
	}
}
