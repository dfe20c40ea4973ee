package track

import (
	"bytes"

	"imapproxy/proxy/wire"
)

// If a command announces a literal and the server accepts none, the server reads as commands what the proxy
// reads as content: for example "NOOP {38+}" followed by SELECT or NOTIFY, whose effects the proxy doesn't
// see. A later session on that connection would inherit them. So the proxy refuses such a command where it
// can know (RefusedLiteral). Where the readings may differ, the connection is disputed: only this session
// uses it.

// RefusedLiteral returns the answer to a command with a literal to which the grammar gives no arguments; nil
// if the command isn't refused. head is the command's first line.
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
	escaped bool // after a backslash in it
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

// Disputed says whether a server may not read the literal that is announced at the end of text. The cases:
//   - the command takes no string, so some servers read no literal (Cyrus in ID, ENABLE and FETCH), or the
//     command is unknown;
//   - a quoted string isn't closed: the server answers BAD at the end of the line;
//   - the announcement isn't an argument but the end of an atom.
func Disputed(r *wire.Rule, q Quoting, text []byte) bool {
	return !r.Literals || q.open || !wire.BeginsArgument(text)
}

// Dispute prevents that the session is parked and that its connection is reused by another session.
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
