package session

import (
	"bytes"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// newMailBuffer is what a hidden command outside IDLE brings of messages that the client hasn't heard
// of. It is told of them with its next command, as it would be if nobody had asked: a STORE * may
// be on the way, and means the last message that it knows. A client that has enabled UIDONLY isn't told
// of VANISHED either, as no command is in progress (RFC 7162 §3.2.10.2): it still counts those messages.
type newMailBuffer struct {
	s     *Session
	lines [][]byte
}

// pass is resync.Options's Forward.
func (q *newMailBuffer) pass(response []byte) {
	h := wire.ParseResponseHead(response)
	t := &q.s.inFlight.Client
	switch {
	case wire.Is(h.Name, "EXISTS"), wire.Is(h.Name, "RECENT"), wire.Is(h.Name, "FETCH") && h.Number > t.Mailbox.Exists,
		t.UIDOnly && (wire.Is(h.Name, "VANISHED") || wire.Is(h.Name, "UIDFETCH")):
		q.lines = append(q.lines, bytes.Clone(response))
		return
	case wire.Is(h.Name, "EXPUNGE"), wire.Is(h.Name, "VANISHED"):
		q.tell() // it must not come here; but where it does, then in its order
	}
	q.s.passOn(response)
}

// tell is for a session that stays attached: its backend takes all of it for told.
func (q *newMailBuffer) tell() {
	for _, line := range q.lines {
		q.s.passOn(line)
	}
	q.lines = nil
}

// known are the messages that the client has heard of. uids are those that there are.
func (q *newMailBuffer) known(uids view.UIDs) view.UIDs {
	for _, line := range q.lines {
		if h := wire.ParseResponseHead(line); wire.Is(h.Name, "VANISHED") {
			gone, _ := view.ParseUIDs(h.Rest) // Talk has read it
			uids = uids.Union(gone)
		}
	}
	if next, more := uids.At(q.s.inFlight.Client.Mailbox.Exists + 1); more {
		return uids.Below(next)
	}
	return uids
}

// tellFlags tells the flags of messages that the client knows, told by UID: only at the end of the hidden
// command is it sure which those are.
func (q *newMailBuffer) tellFlags(known view.UIDs) {
	for _, line := range q.lines {
		if h := wire.ParseResponseHead(line); wire.Is(h.Name, "UIDFETCH") && known.Contains(h.Number) {
			q.s.passOn(line)
		}
	}
}
