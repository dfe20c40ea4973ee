package track

import (
	"bytes"

	"imapproxy/proxy/wire"
)

// changes says whether a command may change a mailbox, whatever its answer is. A FETCH that sets \Seen may,
// unless the mailbox is read-only. whole: h has the whole command.
func changes(h wire.CommandHead, whole, readOnly bool) bool {
	switch h.Verb {
	case wire.Fetch, wire.UIDFetch:
		return !readOnly && (!whole || setsSeen(h.Args))
	}
	return h.Verb.Rule().Changes
}

// setsSeen says whether the arguments of a FETCH name an item that sets \Seen (RFC 9051 §6.4.5, RFC 3501
// §6.4.5): BODY[, BINARY[, RFC822 and RFC822.TEXT. Items with .PEEK don't set it, nor do BODY, RFC822.HEADER
// and RFC822.SIZE.
func setsSeen(args []byte) bool {
	if containsFold(args, "BODY[") || containsFold(args, "BINARY[") || containsFold(args, "RFC822.TEXT") {
		return true
	}
	const word = "RFC822"
	for i := 0; i+len(word) <= len(args); i++ {
		if (i == 0 || args[i-1] == ' ' || args[i-1] == '(') && bytes.EqualFold(args[i:i+len(word)], []byte(word)) &&
			(i+len(word) == len(args) || args[i+len(word)] != '.') {
			return true
		}
	}
	return false
}
