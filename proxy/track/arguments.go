package track

import (
	"sync"

	"imapproxy/proxy/wire"
)

// nameRoom bounds the memory in which a command is kept because of the mailbox name in it.
const nameRoom = 4 << 10

// NameBuffers lends memory to commands that name a mailbox, each from its first piece to its last.
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

// Arguments follows the arguments of a command that arrives in pieces, because it is longer than a head or
// has literals. A command that arrives whole needs no Arguments. Memory is held only if the command's mailbox
// name has to be known.
type Arguments struct {
	on    bool
	words words
	name  *[]byte // the command so far, if its mailbox name has to be known
	long  bool    // the command is longer than nameRoom
}

// Begin starts with a command's head.
func (a *Arguments) Begin(n *NameBuffers, h wire.CommandHead, head []byte) {
	r := h.Verb.Rule()
	*a = Arguments{on: true, words: wordsOf(r)}
	a.words.line(h.Args)
	if r.Selects || r.Renames {
		a.name = n.get()
		*a.name = append(*a.name, head...)
	}
}

// piece follows one piece, and returns the effects of the command that weren't known before.
func (a *Arguments) piece(n *NameBuffers, b []byte, p wire.Piece, first bool) (e effects) {
	was := a.words.found
	switch {
	case first: // Begin has followed it
		was = 0
	case p.InLiteral:
		a.words.literal(b)
	default:
		a.words.line(b)
	}
	switch {
	case a.name == nil:
	case len(*a.name)+len(b) > nameRoom || p.Size > nameRoom: // a large literal may go from socket to socket inside the kernel
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

// drop returns the lent memory.
func (a *Arguments) drop(n *NameBuffers) {
	if a.name != nil {
		n.put(a.name)
		a.name = nil
	}
}

// Reset stops following a command.
func (a *Arguments) Reset(n *NameBuffers) {
	a.drop(n)
	a.on = false
}

// Active says whether a command is being followed.
func (a *Arguments) Active() bool { return a.on }

// Piece follows one more piece of the newest command's arguments. It is called before the piece is passed on,
// and so before the backend can answer the command. first: the piece is the command's head.
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
