package track

import (
	"bytes"
	"strconv"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// noMessage replaces "*" if the client has no messages: no mailbox has that many messages or so high a UID.
// Dovecot uses the next number for "*" itself.
const noMessage = 1<<32 - 2

// StarValue returns the number by which "*" is replaced in a command that changes or copies messages: the
// last message that the client knows, since "*" must not name a message that it doesn't know. In FETCH and
// SEARCH "*" stays, since clients find new mail by `UID FETCH n:*`. 0: "*" isn't replaced; noMessage: the
// client has no messages.
func StarValue(uids view.UIDs, v wire.Verb) uint32 {
	switch r := v.Rule(); {
	case !r.Marks:
		return 0
	case uids.Empty():
		return noMessage
	case r.UID:
		return uids.Last()
	}
	return uids.Count()
}

// ExpandStar replaces "*" by last in the set that is a command's first argument.
func ExpandStar(cmd []byte, last uint32) []byte {
	h := wire.ParseCommandHead(wire.FirstLine(cmd))
	set, _, _ := bytes.Cut(h.Args, []byte(" "))
	if !bytes.Contains(set, []byte("*")) {
		return cmd
	}
	i := bytes.Index(cmd, h.Args)
	out := append([]byte(nil), cmd[:i]...)
	out = append(out, expandSet(set, last)...)
	return append(out, cmd[i+len(set):]...)
}

// expandSet replaces "*" by last in a set. A range up to noMessage would include new messages, so the whole
// range is replaced by noMessage.
func expandSet(set []byte, last uint32) []byte {
	number := strconv.AppendUint(nil, uint64(last), 10)
	if last != noMessage {
		return bytes.ReplaceAll(set, []byte("*"), number)
	}
	elements := bytes.Split(set, []byte(","))
	for i, e := range elements {
		if bytes.IndexByte(e, '*') >= 0 {
			elements[i] = number
		}
	}
	return bytes.Join(elements, []byte(","))
}
