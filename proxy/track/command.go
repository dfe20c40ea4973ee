package track

import (
	"sync"
	"time"

	"imapproxy/proxy/wire"
)

// MaxTag is the length of the longest tag that is relayed. wire.MaxHead must hold a tag and a verb.
const MaxTag = 128

// Command is a command that was relayed and isn't answered yet.
type Command struct {
	seq     uint64 // counts the session's commands
	tag     []byte // its memory is reused by later commands
	Verb    wire.Verb
	Start   time.Time     // when its first byte was read
	Sent    time.Time     // when its last byte was sent to the backend; zero until then
	Blocked time.Duration // how long writes to the client had blocked in total when the command was sent
	In      int64         // its length in bytes
	Changes bool          // it may change a mailbox; set only if parking is on
	effects effects       // the effects that are known so far; set only if parking is on
	// text is the whole command, where it may have to be sent again (Cut); its room is used again.
	text     []byte
	textLost bool
	told     Told // what the client had been told when it began
	halted   bool // it was lost before the continuation request for its literal: it wasn't executed
	alone    bool // a FETCH: no other FETCH was in progress at the same time
}

// Bounds of the text of commands that is kept until they are answered.
const (
	maxKeptText = 16 << 10 // of one command; a longer one can't be sent again
	maxKeptRoom = 1 << 10  // what stays for later commands
)

// Told counts the responses that a client was told: those to FETCH, and those of which a client puts two together.
type Told uint64

// What a response adds to a Told.
const (
	toldAnswer Told = 1
	toldFetch  Told = 1 << 32
)

func (t Told) answers() uint32 { return uint32(t) }

func (t Told) fetches() uint32 { return uint32(t >> 32) }

// TellsOf is what a response adds to a Told.
func TellsOf(h wire.ResponseHead) Told {
	switch {
	case h.Kind != wire.Untagged || h.Status != wire.NoStatus:
	case h.Number > 0 && (wire.Is(h.Name, "FETCH") || wire.Is(h.Name, "UIDFETCH")):
		return toldFetch
	case h.Number > 0, wire.Is(h.Name, "FLAGS"), wire.Is(h.Name, "VANISHED"), wire.Is(h.Name, "ENABLED"), wire.Is(h.Name, "CAPABILITY"):
	default:
		return toldAnswer
	}
	return 0
}

func (c *Command) keep(texts *Texts, piece []byte) {
	switch {
	case c.textLost:
	case len(c.text)+len(piece) > maxKeptText:
		c.forget(texts)
	case len(c.text)+len(piece) > maxKeptRoom && cap(c.text) < maxKeptText:
		c.text = append(append(texts.get(), c.text...), piece...)
	default:
		c.text = append(c.text, piece...)
	}
}

func (c *Command) forget(texts *Texts) {
	c.lend(texts)
	c.text, c.textLost = nil, true
}

// lend gives the memory of a long text to other sessions.
func (c *Command) lend(texts *Texts) {
	if cap(c.text) == maxKeptText {
		texts.put(c.text)
		c.text = nil
	}
}

// room is what later commands use of this one's memory.
func (c *Command) room(texts *Texts) Command {
	c.lend(texts)
	return Command{tag: c.tag[:0], text: c.text[:0]}
}

// Texts lends the memory for commands that are longer than most, to sessions that keep one until it is answered. The zero
// value is ready.
type Texts struct{ pool sync.Pool }

func (t *Texts) get() []byte {
	if b, ok := t.pool.Get().(*[maxKeptText]byte); ok {
		return b[:0]
	}
	return new([maxKeptText]byte)[:0]
}

func (t *Texts) put(b []byte) { t.pool.Put((*[maxKeptText]byte)(b[:maxKeptText])) }
