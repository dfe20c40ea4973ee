package session

import (
	"bytes"
	"slices"
	"time"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// Bounds while a client is still to be told of EXPUNGE and each of its commands is read and translated whole.
// A session that exceeds them ends.
const (
	maxCatchUpLine     = 1 << 20 // sets of UIDs may be long
	maxCatchUpLiteral  = 64 << 10
	maxCatchUpAnswer   = 4 << 20 // one line of a response: SEARCH has all its numbers in one line
	maxDeferredChanges = 1 << 15 // changes of flags that the client is told only after EXPUNGE
)

// catchUp is the state of one catch-up phase.
type catchUp struct {
	s        *Session
	n        view.SequenceMap
	deferred *deferred // nil: the client was told everything except EXPUNGE and some flags
	// before is what the client counted when it wrote the command: its last message is what "*" means in a
	// command that changes or copies messages. nil: what the client counts now, as it does after the commands
	// that had arrived with the first one.
	before          *view.UIDs
	ahead           bool // more had arrived when the last command was answered
	refuses         bool // the last command was a COPY that was refused, or came behind one and was refused for that
	client, backend *wire.Reader
	modSeq          uint64            // the mod-sequence that bounds what the client was told
	bound           uint64            // the one that does when the client was told everything
	flags           []view.FlagChange // flags still to be told: they show mod-sequences beyond modSeq
	backendFailed   bool
	partly          bool      // a command of the client's was read in part, or isn't with the backend yet
	rearmed         bool      // the client was read on within a command although the backend connection is lost
	began           time.Time // when the command was read; zero: none was
}

// handOver leaves the rest to the relay, beginning with cmd, which isn't done.
func (o *catchUp) handOver(cmd []byte) error {
	s := o.s
	o.partly = false
	s.client.Unread(append(cmd, o.client.Buffered()...))
	s.backend.Load().Unread(o.backend.Buffered())
	return nil
}

// counts records which messages the client counts. It is called before the relay or a recovery follows, unless the client was told
// everything.
func (o *catchUp) counts() {
	b := &o.s.inFlight.Client.Mailbox
	switch known, count := o.n.Client(); {
	case o.deferred != nil: // nothing was told yet
		b.Counts(o.deferred.view.UIDs, o.deferred.view.UIDs.Count())
	case !o.s.inFlight.Client.UIDOnly: // what a client is told by UID is followed
		b.Counts(known, count)
	}
}

// answer writes a tagged answer. Bytes that have arrived before it were written before the client could read
// it.
func (o *catchUp) answer(b []byte) error {
	o.ahead = o.more()
	return o.write(b, true)
}

func (o *catchUp) write(b []byte, boundary bool) error {
	o.s.down.gave(int64(len(b)))
	return o.s.out.relay(b, boundary)
}

// more says whether the client has sent more than was parsed.
func (o *catchUp) more() bool {
	return o.client.HasBuffered() || len(o.s.client.PutBack()) > 0 || o.s.client.Arrived()
}

// behind says whether a command, whose first line is line, has arrived whole and more has arrived after it.
func (o *catchUp) behind(line []byte) bool {
	come := slices.Concat(line, o.client.Ahead(), o.s.client.PutBack())
	n, whole := wire.UnitLen(come)
	return whole && n-len(line) <= maxCatchUpLiteral && (n < len(come) || o.s.client.Arrived())
}

// rest reads what follows a command's first line: its literals, and the lines after them. agreed says that the
// client was sent "+" for one.
func (o *catchUp) rest(cmd []byte, r *wire.Rule) (whole []byte, agreed bool, err error) {
	var q track.Quoting
	for line := cmd; ; {
		size, sync, ok := wire.LiteralSpec(line)
		if q.Text(line); ok && track.Disputed(r, q, line) {
			o.s.inFlight.Dispute()
		}
		switch {
		case !ok:
			return cmd, agreed, nil
		case size > maxCatchUpLiteral || len(cmd)+int(size) > maxCatchUpLine:
			return cmd, agreed, wire.ErrLiteralTooLong
		case sync:
			agreed = true
			if err := o.s.out.relay([]byte("+ OK\r\n"), true); err != nil {
				return cmd, agreed, err
			}
		}
		at := len(cmd)
		if err = o.client.Copy(func(b []byte) error { cmd = append(cmd, b...); return nil }, size); err != nil {
			return cmd, agreed, err
		}
		if bytes.IndexByte(cmd[at:], 0) >= 0 {
			return cmd, agreed, wire.ErrNUL
		}
		if line, err = o.client.ReadLine(maxCatchUpLine - len(cmd)); err != nil {
			return cmd, agreed, err
		}
		cmd = append(cmd, line...)
	}
}

// discard reads what follows the first line of a refused command. A synchronising literal doesn't follow.
func (o *catchUp) discard(line []byte) error {
	for {
		size, sync, ok := wire.LiteralSpec(line)
		if !ok || sync {
			return nil
		}
		err := o.client.Copy(func([]byte) error { return nil }, size)
		if err == nil {
			line, err = o.client.ReadLine(maxCatchUpLine)
		}
		if err != nil {
			return err
		}
	}
}

// carries says whether catch-up can relay a command without message numbers: one that removes no messages,
// isn't a conversation, and changes no state of the relay.
func carries(r *wire.Rule) bool { return !r.Converses && !r.Removes && r.State == wire.NoState }

// refusal returns the answer to a command of which nothing goes to the backend.
func refusal(disposition view.Disposition, tag []byte) []byte {
	if disposition == view.Invalid {
		return view.AppendInvalid(nil, tag)
	}
	return view.AppendExpungeIssued(nil, tag)
}
