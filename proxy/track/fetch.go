package track

import (
	"bytes"

	"imapproxy/proxy/wire"
)

// FetchResponse is what a FETCH response says of a message's flags. The response's text is passed to it piece
// by piece.
type FetchResponse struct {
	Active   bool   // the current response is a FETCH or UIDFETCH
	number   uint32 // 0: the response names the message by UID
	uid      uint32 // 0: the response doesn't contain it
	modSeq   uint64
	HasFlags bool
	flags    []byte // the bytes between the parentheses; the memory is reused
	doubt    bool   // not all of the text was seen

	cut            bool // the last piece ended within a line
	depth          int  // of parentheses; the items' names are at depth 1
	quoted, escape bool
}

// Begins says whether the response with this head is a FETCH or a UIDFETCH (RFC 9586 §3.3). If so, it starts
// to follow it.
func (f *FetchResponse) Begins(h wire.ResponseHead) bool {
	if h.Number == 0 {
		return false
	}
	switch {
	case wire.Is(h.Name, "FETCH"):
		*f = FetchResponse{Active: true, number: h.Number, flags: f.flags[:0]}
	case wire.Is(h.Name, "UIDFETCH"):
		*f = FetchResponse{Active: true, uid: h.Number, flags: f.flags[:0]}
	default:
		return false
	}
	return true
}

// ByUID says whether the response names the message by UID: it is a UIDFETCH.
func (f *FetchResponse) ByUID() bool { return f.number == 0 }

// Text follows a piece of the response that isn't literal content.
func (f *FetchResponse) Text(b []byte) {
	if f.cut || len(b) == 0 || b[len(b)-1] != '\n' {
		f.cut, f.doubt = len(b) == 0 || b[len(b)-1] != '\n', true
		return
	}
	if f.doubt {
		return
	}
	if f.depth == 0 && !containsFold(b, "FLAGS (") && !containsFold(b, "MODSEQ (") {
		if _, _, more := wire.LiteralSpec(b); !more {
			return // no flags and no mod-sequence, however long the line is; a UID isn't worth the time
		}
	}
	f.items(b)
}

// UIDOf returns the UID that the first line of a FETCH or UIDFETCH response names, 0 if it doesn't name it.
func UIDOf(line []byte) uint32 {
	var f FetchResponse
	if f.Begins(wire.ParseResponseHead(line)) {
		f.items(line)
	}
	return f.uid
}

// items follows a line.
func (f *FetchResponse) items(b []byte) {
	for i, c := range b {
		switch {
		case f.escape:
			f.escape = false
		case f.quoted:
			f.escape, f.quoted = c == '\\', c != '"'
		case c == '"':
			f.quoted = true
		case c == '(':
			f.depth++
		case c == ')':
			f.depth--
		case f.depth == 1 && i > 0 && (b[i-1] == '(' || b[i-1] == ' '):
			f.item(b[i:])
		}
	}
}

// Whole follows a response that is complete; it reads only the first line.
func (f *FetchResponse) Whole(response []byte) {
	line := wire.FirstLine(response)
	f.Text(line)
	_, _, more := wire.LiteralSpec(line)
	f.doubt = f.doubt || more
}

// Tells says whether the response contains flags, a mod-sequence, or content and a UID, or might.
func (f *FetchResponse) Tells() bool { return f.uid != 0 || f.tellsFlags() }

func (f *FetchResponse) tellsFlags() bool { return f.HasFlags || f.doubt || f.modSeq != 0 }

// item reads one item.
func (f *FetchResponse) item(b []byte) {
	switch {
	case startsFold(b, "FLAGS ("):
		list := b[len("FLAGS ("):]
		end := bytes.IndexByte(list, ')')
		f.HasFlags = true
		if end < 0 {
			f.doubt = true
			return
		}
		f.flags = append(f.flags[:0], list[:end]...)
	case startsFold(b, "UID "):
		f.uid = number32(digits(b[len("UID "):]))
	case startsFold(b, "MODSEQ ("):
		f.modSeq = number64(digits(b[len("MODSEQ ("):]))
	}
}
