package session

import (
	"bytes"
	"errors"
	"io"
	"os"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
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

// watch joins the hub when the session is parked.
func (s *Session) watch() {
	if s.park.sub == nil {
		return
	}
	if s.park.mode == track.ModeSelected {
		s.park.sub.Doubt() // a snapshot by FETCH doesn't show EXPUNGE, and the client wasn't told of new messages
	}
	s.park.sub.Join(s.member())
}

// parked serves the client without a backend. Only its goroutine writes to the client. dry says that nothing
// has arrived that the poller wouldn't report.
func (s *Session) parked(dry bool) phase {
	f := parkedReader{s: s}
	late := false // changes are told after the client's bytes have been read
	for interrupted := false; ; {
		wake, done, more := s.signals(interrupted)
		late = late || more
		switch {
		case s.Reason() != "":
			s.unpark()
			return phaseEnd
		case wake != "":
			return s.wakes(wake)
		case dry && done && !late && s.env.Poller.Add(s.client, wakeHandler{s}) == nil:
			return phaseAway
		}
		dry = false
		f.next = actionNone
		err := s.client.Drain(s.env.Buffers, &f)
		if err == conn.ErrDry && late {
			late, interrupted = false, false
			if _, ok := s.tellIdle(true); !ok {
				return s.wakes(telemetry.WakeLostWatch)
			}
			continue
		}
		if err == conn.ErrDry {
			s.client.Trim()
			if s.env.Poller.Add(s.client, wakeHandler{s}) == nil {
				return phaseAway
			}
			err = s.client.Pump(s.env.Buffers, &f)
		}
		switch interrupted = errors.Is(err, os.ErrDeadlineExceeded); {
		case s.Reason() != "", interrupted:
			continue
		case errors.Is(err, io.EOF):
			s.Terminate(ReasonClientClosed)
		case err != nil:
			s.Terminate(ReasonClientLost)
		case f.next == actionLogout:
			s.Terminate(ReasonLogout)
		case f.next == actionLook:
			ctx, cancel := s.within(hubWithin)
			_ = s.park.sub.Look(ctx) // if it fails, the backend itself is asked
			cancel()
			f.looked = true
		case f.next == actionPoll:
			ctx, cancel := s.within(hubWithin)
			f.looked, f.polled = true, 0
			if s.park.sub.Poll(ctx) == nil { // if it fails, the backend itself is asked
				f.polled = f.ahead
			}
			cancel()
		case f.next == actionResume:
			s.park.hasCommand = true
			s.park.cause = s.park.verb.String()
			if _, idle := s.inFlight.State(); idle {
				s.park.cause = telemetry.WakeDone
			}
			s.unpark()
			return phaseResume
		}
	}
}

// wakes has a session resumed although its client has sent no command.
func (s *Session) wakes(cause string) phase {
	s.client.Unhold() // the beginning of a line
	s.park.hasCommand, s.park.leaving, s.park.cause = false, track.Stays, cause
	s.unpark()
	return phaseResume
}

// Chunk implements conn.Receiver.
func (f *parkedReader) Chunk(b []byte) (kept int, next conn.Next) {
	s := f.s
	now := s.env.Now()
	s.seen(now)
	s.lastHeard.Store(now.UnixNano())
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
		s.park.leaving = track.LeavingBy(line, &s.inFlight.Client, s.caps.list)
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
		if s.park.sub == nil || !idles(s.caps.list) || !f.settled() || !s.tellAll([]byte("+ idling\r\n"), true) {
			return false
		}
		s.inFlight.Begin(h, true, s.env.Now())
		s.inFlight.Prompt()
		return true
	case wire.Logout:
		f.next = actionLogout
		_ = s.out.say([]byte("* BYE Logging out\r\n" + tag + " OK Logout completed\r\n"))
		return true
	}
	return false
}

// idles says whether a backend has IDLE, which a resume may need.
func idles(c wire.Caps) bool { return c.Has("IDLE") || c.Has("IMAP4rev2") }

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
