package proxy

import (
	"bytes"
	"strconv"

	"imapproxy/proxy/park"
	"imapproxy/proxy/wire"
)

// lastOf is the client's last message, in the numbers of a command that changes
// or copies messages: its "*" mustn't mean one that the client hasn't heard of. To
// FETCH and SEARCH it may, and has to: `UID FETCH n:*` is how new mail is found.
func lastOf(uids park.UIDs, v wire.Verb) uint32 {
	switch r := v.Rule(); {
	case !r.Marks:
		return 0
	case r.UID:
		return uids.Last()
	}
	return uids.Count()
}

// withStar says a number for "*" in the set that is a command's first argument.
func withStar(cmd []byte, last uint32) []byte {
	h := wire.ParseCommandHead(firstLine(cmd))
	set, _, _ := bytes.Cut(h.Args, []byte(" "))
	if !bytes.Contains(set, []byte("*")) {
		return cmd
	}
	i := bytes.Index(cmd, h.Args)
	out := append([]byte(nil), cmd[:i]...)
	out = append(out, starIs(set, last)...)
	return append(out, cmd[i+len(set):]...)
}

// starIs says a number for "*" in a set.
func starIs(set []byte, last uint32) []byte {
	return bytes.ReplaceAll(set, []byte("*"), strconv.AppendUint(nil, uint64(last), 10))
}
