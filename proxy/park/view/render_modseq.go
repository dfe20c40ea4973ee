package view

import (
	"bytes"
	"strconv"

	"imapproxy/proxy/wire"
)

// ClampModSeq adds to dst a status response of the session connection's, with the HIGHESTMODSEQ
// that its code may have (RFC 7162 §3.1.2.1) lowered to bound; without the code where
// bound is 0. Clients keep that number and ask for what came after it: while
// anything is owed to them, it mustn't be more than their view's ModSeq.
func ClampModSeq(dst, line []byte, bound uint64) []byte {
	h := wire.ParseResponseHead(line)
	code, args := wire.Code(h.Rest)
	if h.Status == wire.NoStatus || !bytes.EqualFold(code, []byte("HIGHESTMODSEQ")) {
		return append(dst, line...)
	}
	if told, err := strconv.ParseUint(string(args), 10, 64); err == nil && told <= bound {
		return append(dst, line...)
	}
	open := len(trimEOL(line)) - len(h.Rest) // a tag may have a bracket in it
	closing := open + bytes.IndexByte(line[open:], ']')
	if closing < open {
		return append(dst, line...)
	}
	dst = append(dst, line[:open]...)
	if bound > 0 {
		dst = append(dst, "[HIGHESTMODSEQ "...)
		dst = strconv.AppendUint(dst, bound, 10)
		return append(dst, line[closing:]...)
	}
	text := bytes.TrimLeft(line[closing+1:], " ")
	if len(trimEOL(text)) == 0 {
		dst = append(dst, "Done"...)
	}
	return append(dst, text...)
}
