package session

import (
	"bytes"

	"imapproxy/internal/clock"
	"imapproxy/proxy/conn"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
)

// action is what a parked session needs next.
type action uint8

const (
	actionNone   action = iota
	actionLook          // hints are outstanding, and the client sent a command
	actionPoll          // the client asks what is new, even if there was no hint
	actionResume        // the client sent a command that needs a backend
	actionLogout        // the client sent LOGOUT
)

// parkedReader reads a parked client's commands, some of which it answers without a backend (docs/parking.md).
type parkedReader struct {
	s      *Session
	scan   wire.Scanner
	next   action
	looked bool // a look was made for the next command already
	ahead  int  // bytes read, from the start of the current line on
	polled int  // how many of them had been read when the last poll was sent: it answers those commands
	behind bool // the bytes after the line may have message numbers in them
}

// Chunk implements conn.Receiver.
func (f *parkedReader) Chunk(b []byte) (kept int, next conn.Next) {
	s := f.s
	now := s.env.Now()
	s.seen(now)
	if !f.looked { // else it was read before the look
		s.lastHeard.Store(clock.Of(now))
	}
	counts := lastCounting(b)
	for i := 0; i < len(b); {
		if f.scan.AtStart() && len(b)-i < conn.MaxHold && bytes.IndexByte(b[i:], '\n') < 0 {
			return len(b) - i, conn.Ack // only whole lines are parsed
		}
		p := f.scan.Next(b[i:])
		if p.N == 0 {
			return len(b) - i, conn.Ack
		}
		line := b[i : i+p.N]
		f.ahead = len(b) - i
		f.behind = counts >= i+p.N
		if !f.answer(line, p.Last) {
			if f.next == actionNone {
				f.next = actionResume
			}
			f.scan.Abandon()
			s.client.Unread(b[i:])
			return 0, conn.Stop
		}
		f.looked = false
		f.polled = max(f.polled-p.N, 0)
		i += p.N
		if f.next == actionLogout {
			return 0, conn.Stop
		}
	}
	return 0, conn.More
}

// answer answers a line without a backend, if that can be done. whole says that the line is the whole command.
func (f *parkedReader) answer(line []byte, whole bool) bool {
	s := f.s
	s.park.verb, s.park.leaving = wire.Other, track.Stays
	if _, idle := s.inFlight.State(); idle {
		return wire.IsDone(line) && f.done()
	}
	h := wire.ParseCommandHead(line)
	s.park.verb = h.Verb
	if s.park.sub != nil {
		s.park.leaving = track.LeavingBy(line, &s.inFlight.Client, s.caps.Load().list)
	}
	if !wire.ValidTag(h.Tag) || len(h.Args) > 0 || !whole {
		return false
	}
	tag := string(h.Tag)
	switch h.Verb {
	case wire.Close, wire.Unselect:
		return s.park.leaving == track.Leaves && f.left(h)
	case wire.Noop, wire.Check:
		return (h.Verb == wire.Noop || s.park.sub != nil) &&
			f.tell(tag+" OK "+h.Verb.String()+" completed\r\n", func() bool { return f.fresh(line) })
	case wire.Idle:
		return s.park.sub != nil && idles(s.caps.Load().list) && s.beginIdle(h)
	case wire.Logout:
		f.next = actionLogout
		_ = s.out.say([]byte("* BYE Logging out\r\n" + tag + " OK Logout completed\r\n"))
		return true
	}
	return false
}

// idling answers IDLE (RFC 9051 §6.3.13).
const idling = "+ idling\r\n"

// idles says whether a backend has IDLE, which a resume may need.
func idles(c wire.Caps) bool { return c.Has("IDLE") || c.Has("IMAP4rev2") }

// beginIdle begins IDLE for a parked client. Whatever has changed is told after the "+", as servers do it: imaplib2 (Python), which
// OfflineIMAP uses, takes any response before the "+" for a refusal, and then waits for an answer that doesn't come.
func (s *Session) beginIdle(h wire.CommandHead) bool {
	s.park.mu.Lock()
	s.park.idle = true
	told := s.park.state == nil
	s.park.mu.Unlock()
	s.inFlight.Begin(h, true, s.env.Now())
	s.inFlight.Prompt()
	if s.say([]byte(idling)) == nil && !told {
		s.Signal(SigTell)
	}
	return true
}

// settled says whether the view has every change that the hub knows of. If not, it asks for one look.
func (f *parkedReader) settled() bool {
	if sub := f.s.park.sub; sub == nil || sub.Settled() {
		return true
	}
	if !f.looked {
		f.next = actionLook
	}
	return false
}

// fresh says whether the view has every change that a backend had acknowledged before this line was read, as
// NOOP requires (RFC 9051 §6.1.2). It doesn't wait for a hint: one poll is sent, which may also answer the
// NOOPs of other sessions. If no poll succeeds, the session is resumed.
func (f *parkedReader) fresh(line []byte) bool {
	if f.s.park.sub == nil || f.polled >= len(line) {
		return true
	}
	if !f.looked {
		f.next = actionPoll
	}
	return false
}

// done ends the client's IDLE.
func (f *parkedReader) done() bool {
	s := f.s
	tag := s.inFlight.IdleTag()
	if !f.tell(tag+" OK Idle completed\r\n", f.settled) {
		return false
	}
	s.answered(wire.ResponseHead{Kind: wire.Tagged, Tag: []byte(tag), Status: wire.OK}, s.env.Now())
	return true
}

// tell sends the client the changes and then the answer, after which the client isn't in IDLE. If another
// command has arrived, the client wrote it before it could read either: then only the answer is sent, the
// command's numbers are those of the view as it is, and the changes are told after that command. current says
// whether the view is recent enough for the answer.
func (f *parkedReader) tell(answer string, current func() bool) bool {
	if f.behind || f.s.client.Arrived() {
		return f.s.tellNothing([]byte(answer))
	}
	return current() && f.s.tellAll([]byte(answer), false)
}

// left answers UNSELECT, or a CLOSE that expunges nothing, without a backend. The session is then parked with
// no mailbox selected.
func (f *parkedReader) left(h wire.CommandHead) bool {
	s := f.s
	tag := string(h.Tag)
	s.unpark()
	s.unsubscribe()
	s.park.mu.Lock()
	s.park.times++ // what the hub still sends it is about the mailbox that it left
	s.park.view, s.park.state = nil, nil
	s.park.mu.Unlock()
	if !s.inFlight.Begin(h, true, s.env.Now()) || s.say([]byte(tag+" OK "+h.Verb.String()+" completed\r\n")) != nil {
		return true // the session has ended
	}
	s.answered(wire.ResponseHead{Kind: wire.Tagged, Tag: []byte(tag), Status: wire.OK}, s.env.Now())
	return true
}

// lastCounting returns where the last unit of b begins that may depend on what its client counts: a command
// that names messages or leaves the mailbox, or an incomplete one. -1: there is none.
func lastCounting(b []byte) int {
	last := -1
	for at := 0; at < len(b); {
		n, whole := wire.UnitLen(b[at:])
		if r := wire.ParseCommandHead(wire.FirstLine(b[at:])).Verb.Rule(); !whole || r.Set != wire.NoSet || r.Leaves || r.State == wire.UnknownState {
			last = at
		}
		at += n
	}
	return last
}
