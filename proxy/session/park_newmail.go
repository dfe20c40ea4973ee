package session

import (
	"bytes"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// newMailBuffer collects what one of the proxy's own commands outside IDLE brings of messages and of flags. The
// client is told with its next command, as it would be if the proxy had sent nothing: a STORE * may be on the
// way and means the last message that the client knows, or a SELECT, after which a FETCH would be taken for one
// of the new mailbox. Resyncs find the flags again, by the view's mod-sequence: that of the session's own
// SELECT, or 1 if its answer had none and there are flags here. A client that has enabled UIDONLY isn't told of
// VANISHED either, as no command is in progress (RFC 7162 §3.2.10.2): it still counts those messages.
type newMailBuffer struct {
	s     *Session
	lines [][]byte
	flags bool // lines has flags of messages, or of the mailbox
}

// pass implements the Forward of resync.Options.
func (q *newMailBuffer) pass(response []byte) {
	h := wire.ParseResponseHead(response)
	t := &q.s.inFlight.Client
	switch {
	case wire.Is(h.Name, "EXISTS"), wire.Is(h.Name, "RECENT"), wire.Is(h.Name, "FETCH"), wire.Is(h.Name, "FLAGS"),
		t.UIDOnly && (wire.Is(h.Name, "VANISHED") || wire.Is(h.Name, "UIDFETCH")):
		q.lines = append(q.lines, bytes.Clone(response))
		q.flags = q.flags || wire.Is(h.Name, "FETCH") || wire.Is(h.Name, "UIDFETCH") || wire.Is(h.Name, "FLAGS")
		return
	case wire.Is(h.Name, "EXPUNGE"), wire.Is(h.Name, "VANISHED"):
		q.tell() // no backend should send it here; if one does, the order is kept
	}
	q.s.passOn(response)
}

// tell passes all lines on, for a session that stays attached: its backend assumes that the client was told.
func (q *newMailBuffer) tell() {
	for _, line := range q.lines {
		q.s.passOn(line)
	}
	q.lines = nil
}

// known returns the messages that the client knows. uids are the messages of the mailbox.
func (q *newMailBuffer) known(uids view.UIDs) view.UIDs {
	for _, line := range q.lines {
		if h := wire.ParseResponseHead(line); wire.Is(h.Name, "VANISHED") {
			gone, _ := view.ParseUIDs(h.Rest) // no error: the response was parsed before
			uids = uids.Union(gone)
		}
	}
	if next, more := uids.At(q.s.inFlight.Client.Mailbox.Exists + 1); more {
		return uids.Below(next)
	}
	return uids
}
