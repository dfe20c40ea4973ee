package view

import (
	"bytes"
	"strconv"

	"imapproxy/proxy/wire"
)

// ClampModSeq appends a status response of the session connection. If its code is HIGHESTMODSEQ (RFC 7162
// §3.1.2.1), the value is lowered to bound; if bound is 0 the code is removed. Clients store that value and
// later ask for changes after it, so it must not be higher than their view's ModSeq while changes are
// deferred.
func ClampModSeq(dst, line []byte, bound uint64) []byte {
	h := wire.ParseResponseHead(line)
	code, args := wire.Code(h.Rest)
	if h.Status == wire.NoStatus || !bytes.EqualFold(code, []byte("HIGHESTMODSEQ")) {
		return append(dst, line...)
	}
	if told, err := strconv.ParseUint(string(args), 10, 64); err == nil && told <= bound {
		return append(dst, line...)
	}
	open := len(trimEOL(line)) - len(h.Rest) // a tag may contain a bracket
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
