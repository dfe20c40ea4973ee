package track

import (
	"bytes"

	"imapproxy/proxy/wire"
)

// effects is what a command leaves on its connection, as far as its arguments tell. Effects count once the
// command is answered, unless the answer is BAD.
type effects uint8

const (
	usesModSeq    effects = 1 << iota // enables CONDSTORE (RFC 7162 §3.1)
	savesSearch                       // its result outlives the command (RFC 5182, RFC 5267)
	renamesOwn                        // the selected mailbox loses its name
	renamesBefore                     // the mailbox before it loses its name; it is selected again if SELECT is answered BAD
	renamesLong                       // a mailbox loses a name that is too long to be read
	Conversed                         // a literal or another answer of the client was part of it
)

// words looks for words with effects in a command's arguments, however the command is split into pieces. It
// compares whole arguments: atoms, and strings that aren't search text. The zero value looks for nothing.
type words struct {
	rule  *wire.Rule
	found effects

	begun   bool // an argument has begun
	quoted  bool // within quotes
	escaped bool // after a backslash in quotes
	section bool // within the brackets of a FETCH item, which contain header fields
	text    int  // how many of the next arguments are text
	n       int  // the length of the argument so far
	arg     [14]byte
}

// wordsOf returns the words of a command with this rule.
func wordsOf(r *wire.Rule) words {
	if !r.ModSeq && !r.Saves && !r.Selects {
		return words{}
	}
	w := words{rule: r}
	if r.Selects || r == wire.StatusVerb.Rule() {
		w.text = 1 // the mailbox
	}
	return w
}

// line follows a piece of a line.
func (w *words) line(b []byte) {
	if w.rule == nil {
		return
	}
	for _, c := range b {
		switch {
		case w.escaped:
			w.escaped = false
			w.add(c)
		case w.quoted && c == '\\':
			w.escaped = true
		case w.quoted && c == '"':
			w.quoted = false
		case w.quoted:
			w.add(c)
		case c == '"':
			w.begun, w.quoted = true, true
		case c == ' ' || c == '(':
			w.end()
		case c == ')':
			w.end()
			w.text = 0 // the end of a list of sort criteria, which aren't search keys
		case c == '[' && w.rule.Set == wire.FirstArgument:
			w.end()
			w.section = true
		case c == ']' && w.section:
			w.end()
			w.section = false
		case c != '\r' && c != '\n':
			w.begun = true
			w.add(c)
		}
	}
}

// announced says that the argument is a literal of size octets.
func (w *words) announced(size int64) {
	w.begun, w.n = true, 0
	if size > int64(len(w.arg)) {
		w.n = len(w.arg) + 1
	}
}

// literal follows a piece of a literal's content.
func (w *words) literal(b []byte) {
	if w.rule == nil || w.n > len(w.arg) {
		return
	}
	for _, c := range b {
		w.add(c)
	}
}

// last says that the command is complete.
func (w *words) last() {
	if w.rule != nil {
		w.end()
	}
}

// all follows all arguments at once, with their literals.
func (w *words) all(b []byte) {
	for w.rule != nil {
		eol := bytes.IndexByte(b, '\n') + 1
		size, _, more := wire.LiteralSpec(b[:eol])
		if !more {
			w.line(b)
			w.last()
			return
		}
		w.line(b[:eol])
		b = b[eol:]
		w.announced(size)
		size = min(size, int64(len(b)))
		w.literal(b[:size])
		b = b[size:]
	}
}

func (w *words) add(c byte) {
	if w.n < len(w.arg) {
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		w.arg[w.n] = c
	}
	if w.n <= len(w.arg) {
		w.n++
	}
}

// end evaluates a complete argument. RFC 9051 §6.4.4 lists the search keys that are followed by text.
func (w *words) end() {
	begun, n := w.begun, w.n
	w.begun, w.n = false, 0
	switch {
	case !begun || w.section:
		return
	case w.text > 0:
		w.text--
		return
	case n > len(w.arg):
		return
	}
	r := w.rule
	searches := r.Set == wire.Program || r.Saves
	switch string(w.arg[:n]) {
	case "MODSEQ", "HIGHESTMODSEQ", "CHANGEDSINCE":
		if r.ModSeq && !r.Marks {
			w.found |= usesModSeq
		}
	case "UNCHANGEDSINCE":
		if r.ModSeq {
			w.found |= usesModSeq
		}
	case "CONDSTORE":
		if r.Selects {
			w.found |= usesModSeq
		}
	case "SAVE", "UPDATE":
		if r.Saves {
			w.found |= savesSearch
		}
	case "BCC", "BODY", "CC", "FROM", "KEYWORD", "SUBJECT", "TEXT", "TO", "UNKEYWORD":
		if searches {
			w.text = 1
		}
	case "HEADER":
		if searches {
			w.text = 2
		}
	}
}
