package track

import (
	"bytes"

	"imapproxy/proxy/wire"
)

// Where a literal is announced and the server takes none, the same bytes are content to the
// proxy and commands to the server: "NOOP {38+}" and, behind it, SELECT or NOTIFY, whose
// effects nobody here sees. A later session on that connection would inherit them. So
// such a command is refused where that can be known (refusedLiteral), and where the two
// may disagree the connection is disputed: it serves this session alone, to its end.

// RefusedLiteral is the answer to a command that the grammar gives no arguments and that comes
// with a literal; nil where there is nothing to refuse. head is the command's first line.
func RefusedLiteral(h wire.CommandHead, head []byte, whole bool) []byte {
	if whole || !h.Verb.Rule().Bare {
		return nil
	}
	if _, _, announced := wire.LiteralSpec(head); !announced {
		return nil
	}
	return append(append([]byte(nil), h.Tag...), " BAD "+h.Verb.String()+" takes no arguments\r\n"...)
}

// Quoting follows the quoted strings of a command's text (RFC 9051 §9), piece by piece.
type Quoting struct {
	open    bool // within a string
	escaped bool // behind a backslash in it
}

func (q *Quoting) Text(b []byte) {
	for len(b) > 0 {
		if !q.open {
			i := bytes.IndexByte(b, '"')
			if i < 0 {
				return
			}
			q.open, b = true, b[i+1:]
			continue
		}
		switch c := b[0]; {
		case q.escaped:
			q.escaped = false
		case c == '\\':
			q.escaped = true
		case c == '"':
			q.open = false
		}
		b = b[1:]
	}
}

// Disputed says whether a server may take the literal that is announced at the end of text for
// something else. The cases:
//   - the command takes no string, so that some servers read no literal (Cyrus's ID, ENABLE
//     and FETCH), or isn't known;
//   - a quoted string isn't closed: the command is answered BAD at the line's end;
//   - the announcement isn't an argument of its own, but the end of an atom.
func Disputed(r *wire.Rule, q Quoting, text []byte) bool {
	return !r.Literals || q.open || !wire.BeginsArgument(text)
}

// Dispute keeps the session's connection from being parked and from the pool.
func (f *InFlight) Dispute() {
	if !f.Parks {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.disputeLocked()
}

func (f *InFlight) disputeLocked() {
	if f.Parks && f.Client.doubt == BlockerNone {
		f.Client.doubt = BlockerDisputed
	}
}
