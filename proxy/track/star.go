package track

import (
	"bytes"
	"strconv"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// noMessage stands for "*" where there is no message that it could mean: no mailbox has as many
// messages, nor a UID as high. One more is what Dovecot has for "*" itself.
const noMessage = 1<<32 - 2

// StarValue is the client's last message, in the numbers of a command that changes
// or copies messages: its "*" mustn't mean one that the client hasn't heard of. To
// FETCH and SEARCH it may, and has to: `UID FETCH n:*` is how new mail is found. 0: it
// stays as it is; noMessage: the client counts none.
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

// ExpandStar says a number for "*" in the set that is a command's first argument.
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

// expandSet says a number for "*" in a set. A range up to noMessage would have all messages that have
// come since in it, so it becomes that alone.
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
