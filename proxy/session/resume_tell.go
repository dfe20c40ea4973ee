package session

import (
	"bytes"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// tellMissed tells the client what it missed. In the following cases catch-up tells it later, since catch-up
// reads each command whole:
//   - The command has message numbers that the client counted before: EXPUNGE may not be sent then (RFC 9051
//     §7.5.1). After ENABLE UIDONLY a backend answers BAD to such commands (RFC 9586 §3.1).
//   - No command is in progress: STORE 4 may be on its way, or STORE *, which mustn't mean a message that
//     has arrived since, or a silent STORE of messages whose flags have changed, or SELECT, after which the
//     client takes a FLAGS response for the next mailbox's. More than fewChanges flags
//     alone are told at once: each session that waits for a command would hold them.
//   - Another command has arrived after this one: the client wrote it before it could read what it is told
//     now, so the command's numbers and its "*" refer to the view. After DONE this also holds for the flags
//     that a silent STORE changes.
//   - The line of a command that changes or copies messages is incomplete: it may contain "*", or be a
//     silent STORE of messages whose flags have changed (see spareUnread).
func (s *Session) tellMissed(d view.Difference, uids view.UIDs) error {
	t := &s.inFlight.Client
	behind := (s.park.hasCommand || s.doneArrived()) && s.behind()
	moved := d.HasExpunge() || !d.New.Empty()
	s.park.mu.Lock()
	v, idle := s.park.view, s.park.idle
	s.park.state, s.park.deferred, s.park.star = nil, nil, 0
	if s.park.hasCommand && !idle && moved {
		s.park.star = track.StarValue(v.UIDs, s.park.verb)
	}
	owes := false
	switch {
	case idle || d.Empty():
	case s.park.hasCommand:
		owes = d.HasExpunge() && !t.UIDOnly && s.park.verb.Rule().Set != wire.NoSet || s.marksUnread()
	default:
		owes = moved || len(d.Changed) <= fewChanges
	}
	if owes || behind && (moved || idle && len(d.Changed) > 0) {
		defer s.park.mu.Unlock()
		if len(d.Changed) > maxDeferredChanges {
			return resync.ErrTooMany
		}
		now := d
		if !t.UIDOnly { // with UIDONLY, everything is told at once
			now, _ = d.Split(t.Dialect)
		}
		n, err := view.NewSequenceMap(v.After(now).UIDs, uids)
		if err == nil {
			s.park.deferred = &deferred{missed: d, view: v, n: n, ends: idle}
		}
		return err
	}
	if s.park.hasCommand && !idle {
		d = s.spareUnread(d, v)
	}
	after := v.After(d)
	s.park.view = after
	s.park.mu.Unlock()
	err := s.tellDifference(d, v, nil)
	t.Mailbox.Update(after)
	return err
}

// marksUnread says whether the command that the session is resumed for changes or copies messages, or may turn
// out to do so, and its line is still incomplete.
func (s *Session) marksUnread() bool {
	return (s.park.verb.Rule().Marks || s.park.verb == wire.Other) && bytes.IndexByte(s.client.PutBack(), '\n') < 0
}

// doneArrived says whether a client in IDLE has sent DONE since its session was woken. What has come is read and put back.
func (s *Session) doneArrived() bool {
	if _, idle := s.inFlight.State(); !idle || !s.client.Arrived() {
		return false
	}
	r := arrivedReader{said: s.client.TakeUnread()}
	_ = s.client.Drain(s.env.Buffers, &r) // the next read returns the error
	s.client.Unread(r.said)
	line := wire.FirstLine(r.said)
	return bytes.HasSuffix(line, []byte("\n")) && wire.IsDone(line)
}

// arrivedReader takes one chunk, which it adds to said.
type arrivedReader struct{ said []byte }

// Chunk implements conn.Receiver.
func (r *arrivedReader) Chunk(b []byte) (kept int, next conn.Next) {
	r.said = append(r.said, b...)
	return 0, conn.Stop
}

// behind says whether the client has sent more than the command that the session is resumed for. In IDLE that
// command is DONE; the backend refuses any other line.
func (s *Session) behind() bool {
	b := s.client.PutBack()
	if _, idle := s.inFlight.State(); idle && !wire.IsDone(wire.FirstLine(b)) {
		return false
	}
	n, whole := wire.UnitLen(b)
	return whole && (n < len(b) || s.client.Arrived())
}

// endIdle answers the DONE with which the client's unread bytes begin.
func (s *Session) endIdle() {
	b := s.client.TakeUnread()
	s.client.Unread(b[len(wire.FirstLine(b)):])
	tag := s.inFlight.IdleTag()
	if s.say([]byte(tag+" OK Idle completed\r\n")) == nil {
		s.answered(wire.ResponseHead{Kind: wire.Tagged, Tag: []byte(tag), Status: wire.OK}, s.env.Now())
	}
}
