package session

import (
	"bytes"
	"slices"

	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

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

// carries says whether catch-up can relay a command without message numbers: one that removes no messages,
// isn't a conversation, and changes no state of the relay.
func carries(r *wire.Rule) bool { return !r.Converses && !r.Removes && r.State == wire.NoState }

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

// leave hands a command that leaves the mailbox to the relay: the deferred changes are about that mailbox.
// Before a SELECT the mailbox is deselected first: if the backend answered BAD, it would still be selected,
// and the client would count messages that are gone.
func (o *catchUp) leave(cmd []byte, r *wire.Rule) error {
	s := o.s
	if err := o.handOver(cmd); err != nil || !r.Selects {
		return err
	}
	t := &s.inFlight.Client
	_, count := o.n.Client() // the backend has no more messages
	count = max(count, t.Mailbox.Exists)
	b := s.backend.Load()
	b.Caps = s.caps.list
	ctx, cancel := s.within(leaveWithin)
	defer cancel()
	imap := resync.NewClient(b.Conn, b.Caps, resync.Options{Selected: true, ReadOnly: t.Mailbox.ReadOnly, Messages: count, Enabled: t.Enabled, Forward: s.passOn})
	err := imap.Deselect(ctx)
	if broken := imap.Release(); broken != nil {
		o.backendFailed = true
		return broken
	}
	if err != nil {
		return nil // SELECT deselects it, if it is answered OK or NO
	}
	s.inFlight.Deselect()
	return o.write([]byte(closed), true)
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
